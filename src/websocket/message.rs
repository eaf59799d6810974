//! Messages, received as frames arrive and encoded as frames (RFC 6455, sections 5.4 to 5.6 and 8.1).

use std::mem;

use super::frame::{FrameHeader, Opcode, Role, append_masked, parse_header, turn};
use super::{Close, ProtocolError};
use crate::bytes::{Parse, Shared};

/// A whole message, of one frame or of many.
///
/// ```
/// use overwire::websocket::{Message, Opcode};
///
/// let message = Message::Text("Hello".to_owned());
/// assert_eq!((message.opcode(), message.as_bytes()), (Opcode::Text, &b"Hello"[..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text, checked to be UTF-8.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// Returns the payload.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// Returns the payload by value.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// Returns the opcode of its first frame.
    pub fn opcode(&self) -> Opcode {
        match self {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        }
    }
}

/// A message or a control frame, complete.
///
/// ```
/// use overwire::websocket::{Received, Receiver, Role};
///
/// let received = Receiver::new(Role::Server).receive(b"\x89\x02hi", 1024);
/// assert_eq!(received, Ok((4, Some(Received::Ping(b"hi".to_vec())))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// A Ping. The answer is a Pong with the same payload.
    Ping(Vec<u8>),
    /// A Pong, which may be no answer to a Ping.
    Pong(Vec<u8>),
    /// A Close. The peer sends nothing after it.
    Close(Close),
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    /// The masking-key, rotated for the next byte of the payload. 0 if the payload is not masked.
    key: [u8; 4],
    /// The number of payload bytes that have not arrived yet.
    left: u64,
}

/// The largest buffer that is kept for the next message, in bytes.
const LARGEST_SPARE: usize = 4096;

/// The bytes of a text that are unmasked, checked and appended at a time: few enough to stay in the processor's
/// first cache from one step to the next.
const TEXT_BLOCK: usize = 4096;

/// A receiver of one direction of an open WebSocket: it turns the peer's bytes into messages and control frames.
///
/// It allocates by what has arrived, never by the length that a header claims. It checks text as it arrives, so that
/// the first byte that cannot be UTF-8 ends the connection, not the end of the message.
///
/// ```
/// use overwire::websocket::{Message, Received, Receiver, Role};
///
/// let bytes = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // the example of RFC 6455, section 5.7
/// let mut receiver = Receiver::new(Role::Client);
/// assert_eq!(receiver.receive(&bytes[..3], 1024), Ok((0, None))); // not even a whole frame header
/// assert_eq!(receiver.receive(bytes, 1024), Ok((11, Some(Received::Message(Message::Text("Hello".into()))))));
/// ```
#[derive(Debug)]
pub struct Receiver {
    peer: Role,
    /// The opcode of the message that is being received.
    opcode: Option<Opcode>,
    /// The payload of a binary message so far, over all its frames. Of a text, the bytes that are not checked yet.
    payload: Vec<u8>,
    /// The checked part of a text so far, over all its frames.
    text: String,
    /// The payload of a control frame, which may arrive between the frames of a message.
    control: Vec<u8>,
    frame: Option<Frame>,
}

impl Receiver {
    /// Creates a receiver of what `peer` sends.
    pub fn new(peer: Role) -> Self {
        Receiver { peer, opcode: None, payload: Vec::new(), text: String::new(), control: Vec::new(), frame: None }
    }

    /// Keeps the memory of a small message for the next one, until [`release_spare`](Self::release_spare): messages
    /// that arrive together need one allocation between them.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.payload.capacity() == 0 && buffer.capacity() <= LARGEST_SPARE {
            buffer.clear();
            self.payload = buffer;
        }
    }

    /// Frees the memory that was kept.
    pub fn release_spare(&mut self) {
        if self.payload.is_empty() {
            self.payload = Vec::new();
        }
    }

    /// Whether a part of a message has arrived: a frame, or some of it. Control frames are not parts of messages.
    pub(crate) fn is_in_message(&self) -> bool {
        self.opcode.is_some()
    }

    /// The memory that it keeps, in bytes: that of a message that is not complete, most of the time.
    pub fn memory(&self) -> usize {
        self.payload.capacity() + self.text.capacity() + self.control.capacity()
    }

    /// Takes bytes from the front of `input` up to the end of the next message or control frame. Returns the number
    /// of bytes taken, and the message or control frame that they complete. Bytes that it leaves without completing
    /// anything are the start of a frame header: pass them again, followed by more. `max_message` limits the length
    /// of a message in bytes, over all its frames.
    ///
    /// # Errors
    /// A [`ProtocolError`] at the first byte that shows it. The connection must then be failed.
    pub fn receive(&mut self, input: &[u8], max_message: usize) -> Result<(usize, Option<Received>), ProtocolError> {
        let mut used = 0;
        loop {
            if self.frame.is_none() {
                match parse_header(&input[used..], self.peer)? {
                    Parse::Partial => return Ok((used, None)),
                    Parse::Complete { value: header, used: length } => {
                        used += length;
                        if self.is_whole_message(&header, input.len() - used, max_message) {
                            let payload = &input[used..used + header.length as usize];
                            let message = whole_message(&header, payload, mem::take(&mut self.payload))?;
                            return Ok((used + payload.len(), Some(Received::Message(message))));
                        }
                        self.begin_frame(&header, max_message)?;
                    }
                }
            }
            let (taken, ended) = self.take_payload(&input[used..])?;
            used += taken;
            let Some(frame) = ended else { return Ok((used, None)) };
            if let Some(received) = self.end_frame(frame)? {
                return Ok((used, Some(received)));
            }
        }
    }

    /// Whether the frame is a whole message and has arrived completely, as most do. Its payload is then copied once and
    /// checked once.
    fn is_whole_message(&self, header: &FrameHeader, available: usize, max_message: usize) -> bool {
        let begins_and_ends = header.fin && matches!(header.opcode, Opcode::Text | Opcode::Binary);
        begins_and_ends && self.opcode.is_none() && header.length <= available.min(max_message) as u64
    }

    /// Checks from the header, before the payload is taken, that fragments are in order and that the message stays
    /// within its limit.
    fn begin_frame(&mut self, header: &FrameHeader, max_message: usize) -> Result<(), ProtocolError> {
        match (header.opcode, self.opcode) {
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::MessageNotFinished),
            (Opcode::Text | Opcode::Binary, None) => self.opcode = Some(header.opcode),
            _ => {}
        }
        let room = max_message.saturating_sub(self.text.len() + self.payload.len()) as u64;
        if !header.opcode.is_control() && header.length > room {
            return Err(ProtocolError::MessageTooLong(max_message));
        }
        let FrameHeader { fin, opcode, masking_key, length } = *header;
        self.frame = Some(Frame { opcode, fin, key: masking_key.unwrap_or_default(), left: length });
        Ok(())
    }

    /// Takes what is there of the frame's payload. Returns its length, and the frame if its payload is complete.
    fn take_payload(&mut self, input: &[u8]) -> Result<(usize, Option<Frame>), ProtocolError> {
        let Some(mut frame) = self.frame.take() else { return Ok((0, None)) };
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let taken = input.len().min(left);
        let payload = &input[..taken];
        let room = |length, capacity| room_to_reserve(length, capacity, taken, left, frame.fin);
        if frame.opcode.is_control() {
            append_masked(&mut self.control, payload, frame.key);
        } else if self.opcode == Some(Opcode::Text) {
            self.text.reserve_exact(room(self.text.len(), self.text.capacity()));
            self.take_text(payload, frame.key)?;
        } else {
            self.payload.reserve_exact(room(self.payload.len(), self.payload.capacity()));
            append_masked(&mut self.payload, payload, frame.key);
        }
        frame.key = turn(frame.key, taken);
        frame.left -= taken as u64;
        if frame.left == 0 {
            return Ok((taken, Some(frame)));
        }
        self.frame = Some(frame);
        Ok((taken, None))
    }

    /// Unmasks and checks text, and appends it. The bytes of a character that is not complete yet stay in `payload`.
    fn take_text(&mut self, bytes: &[u8], key: [u8; 4]) -> Result<(), ProtocolError> {
        // The previous block may have ended inside a character: at most 3 bytes of it are kept.
        self.payload.reserve_exact(bytes.len().min(TEXT_BLOCK) + 3);
        for block in bytes.chunks(TEXT_BLOCK) {
            append_masked(&mut self.payload, block, key); // the key fits: the length of a block is a multiple of 4
            let valid = match str::from_utf8(&self.payload) {
                Ok(text) => text,
                // The standard library tells a character that is not complete from bytes that begin no character.
                Err(error) if error.error_len().is_none() => {
                    self.payload.utf8_chunks().next().map_or("", |chunk| chunk.valid())
                }
                Err(_) => return Err(ProtocolError::NotUtf8),
            };
            self.text.push_str(valid);
            self.payload.drain(..valid.len());
        }
        Ok(())
    }

    fn end_frame(&mut self, frame: Frame) -> Result<Option<Received>, ProtocolError> {
        match frame.opcode {
            Opcode::Close => Ok(Some(Received::Close(Close::parse(&mem::take(&mut self.control))?))),
            Opcode::Ping => Ok(Some(Received::Ping(mem::take(&mut self.control)))),
            Opcode::Pong => Ok(Some(Received::Pong(mem::take(&mut self.control)))),
            _ if !frame.fin => Ok(None),
            _ => match self.opcode.take() {
                Some(Opcode::Text) if !self.payload.is_empty() => Err(ProtocolError::NotUtf8),
                Some(Opcode::Text) => Ok(Some(Received::Message(Message::Text(mem::take(&mut self.text))))),
                _ => Ok(Some(Received::Message(Message::Binary(mem::take(&mut self.payload))))),
            },
        }
    }
}

/// The room to reserve in a buffer before `taken` bytes are appended to it, when `left` bytes of the frame were still
/// to come, these among them. 0 leaves it to the buffer to grow.
///
/// It is room for the rest of a message's last frame, but never for more than twice what has arrived. And only when the
/// buffer is full, or a frame that arrives byte by byte would be moved for each of them.
fn room_to_reserve(length: usize, capacity: usize, taken: usize, left: usize, is_last: bool) -> usize {
    let twice = length + 2 * taken;
    if capacity - length < taken && (is_last || left > twice) { left.min(twice) } else { 0 }
}

fn whole_message(header: &FrameHeader, bytes: &[u8], mut payload: Vec<u8>) -> Result<Message, ProtocolError> {
    // The program may keep the message for long: a short message must not hold the memory of a long one.
    if payload.capacity() > 4 * bytes.len() {
        payload = Vec::new();
    }
    append_masked(&mut payload, bytes, header.masking_key.unwrap_or_default());
    match header.opcode {
        Opcode::Text => String::from_utf8(payload).map(Message::Text).map_err(|_| ProtocolError::NotUtf8),
        _ => Ok(Message::Binary(payload)),
    }
}

/// Appends one unfragmented frame to `out`. A client passes a `masking_key` that nobody can predict (section 5.3), a
/// server passes `None`.
///
/// ```
/// use overwire::websocket::{Opcode, encode};
///
/// let mut out = Vec::new();
/// encode(&mut out, Opcode::Pong, b"hi", Some([1, 2, 3, 4]));
/// assert_eq!(out, [0x8a, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]);
/// ```
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], masking_key: Option<[u8; 4]>) {
    out.reserve(super::MAX_HEADER + payload.len());
    FrameHeader { masking_key, ..FrameHeader::new(opcode, payload.len()) }.encode(out);
    match masking_key {
        Some(key) => append_masked(out, payload, key),
        None => out.extend_from_slice(payload),
    }
}

/// Encodes a text message from a server, in one frame.
///
/// ```
/// assert_eq!(&overwire::websocket::text("Hello")[..], b"\x81\x05Hello");
/// ```
pub fn text(text: &str) -> Shared {
    frame(Opcode::Text, text.as_bytes())
}

/// Encodes a binary message from a server, in one frame.
///
/// ```
/// assert_eq!(&overwire::websocket::binary(&[1, 2])[..], [0x82, 2, 1, 2]);
/// ```
pub fn binary(bytes: &[u8]) -> Shared {
    frame(Opcode::Binary, bytes)
}

fn frame(opcode: Opcode, payload: &[u8]) -> Shared {
    let mut out = Vec::with_capacity(super::MAX_HEADER + payload.len());
    encode(&mut out, opcode, payload, None);
    Shared::from(out)
}

#[cfg(test)]
mod tests {
    use super::super::{CloseCode, close};
    use super::*;

    type Outcome = Result<Vec<Received>, ProtocolError>;

    /// Receives `bytes` from a client whole, in pieces of each small size, and with the start of another frame left
    /// over. All must agree.
    fn receive(bytes: &[u8]) -> Outcome {
        let whole = in_pieces(bytes, bytes.len().max(1));
        for size in 1..8 {
            assert_eq!(in_pieces(bytes, size), whole, "in pieces of {size}");
        }
        assert_eq!(in_pieces(&[bytes, &[0x81]].concat(), bytes.len() + 1), whole);
        whole
    }

    fn in_pieces(bytes: &[u8], size: usize) -> Outcome {
        let (mut receiver, mut pending, mut all) = (Receiver::new(Role::Client), Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            pending.extend_from_slice(piece);
            loop {
                let (used, received) = receiver.receive(&pending, 1000)?;
                pending.drain(..used);
                let Some(received) = received else { break };
                all.push(received);
            }
        }
        Ok(all)
    }

    fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let mut out = Vec::new();
        encode(&mut out, opcode, payload, Some(key));
        out[0] = out[0] & 0x7f | if fin { 0x80 } else { 0 };
        out
    }

    fn said(text: &str) -> Received {
        Received::Message(Message::Text(text.into()))
    }

    #[test]
    fn examples_of_the_rfc_hold() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(receive(&masked), Ok(vec![said("Hello")]));
        assert_eq!(&text("Hello")[..], [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(binary(&[7; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary(&[7; 65536])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_ping_between_fragments_comes_first() {
        let bytes = [
            frame(false, Opcode::Text, "h\u{e9}".as_bytes()),
            frame(true, Opcode::Ping, b"?"),
            frame(false, Opcode::Continuation, b""),
            frame(true, Opcode::Continuation, b"llo"),
            frame(true, Opcode::Binary, b"\xff"),
        ];
        let expected =
            vec![Received::Ping(b"?".to_vec()), said("h\u{e9}llo"), Received::Message(Message::Binary(vec![0xff]))];
        assert_eq!(receive(&bytes.concat()), Ok(expected));
    }

    #[test]
    fn fragments_must_be_in_order() {
        let stray = frame(true, Opcode::Continuation, b"x");
        assert_eq!(receive(&stray), Err(ProtocolError::NothingToContinue));
        let second = [frame(false, Opcode::Text, b"x"), frame(true, Opcode::Text, b"y")].concat();
        assert_eq!(receive(&second), Err(ProtocolError::MessageNotFinished));
    }

    #[test]
    fn text_may_be_cut_inside_a_character() {
        let text = "\u{fc}\u{20ac}\u{1f600}";
        for cut in 0..=text.len() {
            let (front, back) = text.as_bytes().split_at(cut);
            let bytes = [frame(false, Opcode::Text, front), frame(true, Opcode::Continuation, back)].concat();
            assert_eq!(receive(&bytes), Ok(vec![said(text)]), "cut at {cut}");
        }
    }

    #[test]
    fn long_text_is_checked_across_its_blocks() {
        let text = "a\u{fc}\u{20ac}\u{1f600}".repeat(TEXT_BLOCK / 4); // 10 bytes each: blocks end inside characters
        let whole = frame(true, Opcode::Text, text.as_bytes());
        let (mut wrong, last) = (whole.clone(), whole.len() - 1);
        wrong[last] ^= 0x80;
        for size in [100, TEXT_BLOCK - 1, TEXT_BLOCK, TEXT_BLOCK + 1, whole.len() - 1, whole.len()] {
            let receive = |bytes: &[u8]| {
                let (mut receiver, mut all) = (Receiver::new(Role::Client), Vec::new());
                for piece in bytes.chunks(size) {
                    let (used, received) = receiver.receive(piece, 1 << 20)?;
                    assert_eq!(used, piece.len());
                    all.extend(received);
                }
                Ok(all)
            };
            assert_eq!(receive(&whole), Ok(vec![said(&text)]), "in pieces of {size}");
            assert_eq!(receive(&wrong), Err(ProtocolError::NotUtf8), "in pieces of {size}");
        }
    }

    #[test]
    fn text_fails_at_the_first_bad_byte() {
        let bad: [&[u8]; 8] =
            [b"\xc0", b"\xff", b"a\x80", b"\xed\xa0", b"\xf4\x90", b"\xf5", b"\xe0\x9f", b"\xce\xbaa\xc1"];
        for payload in bad {
            let mut receiver = Receiver::new(Role::Client);
            // The header announces one byte more, so only a check on arrival can find it.
            let mut bytes = frame(false, Opcode::Text, payload);
            bytes[1] += 1;
            assert_eq!(receiver.receive(&bytes, 1000), Err(ProtocolError::NotUtf8), "{payload:x?}");
        }
        assert_eq!(receive(&frame(true, Opcode::Text, b"\xe2\x82")), Err(ProtocolError::NotUtf8));
    }

    #[test]
    fn the_limit_holds_for_all_fragments_and_is_checked_in_the_header() {
        let first = frame(false, Opcode::Binary, &[0; 600]);
        let second = &frame(true, Opcode::Continuation, &[0; 401])[..8];
        assert_eq!(receive(&[&first[..], second].concat()), Err(ProtocolError::MessageTooLong(1000)));
        let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(receive(&huge), Err(ProtocolError::MessageTooLong(1000)));
    }

    #[test]
    fn memory_grows_with_the_bytes_and_not_with_the_pieces() {
        for first in [Opcode::Binary, Opcode::Text] {
            let memory = |receiver: &Receiver| receiver.payload.capacity() + receiver.text.capacity();
            let (mut receiver, mut growths) = (Receiver::new(Role::Client), 0);
            for number in 0..10_000 {
                let opcode = if number == 0 { first } else { Opcode::Continuation };
                let before = memory(&receiver);
                receiver.receive(&frame(false, opcode, b"x"), 1 << 20).unwrap();
                growths += usize::from(memory(&receiver) != before);
            }
            assert!(growths <= 20 && memory(&receiver) <= 20_000, "{growths}, {}", memory(&receiver));

            let (mut receiver, mut growths) = (Receiver::new(Role::Client), 0);
            let whole = frame(true, first, &[0; 60_000]);
            receiver.receive(&whole[..8], 1 << 20).unwrap(); // the header
            for byte in whole[8..].chunks(1).take(10_000) {
                let before = memory(&receiver);
                receiver.receive(byte, 1 << 20).unwrap();
                growths += usize::from(memory(&receiver) != before);
            }
            assert!(growths <= 20 && memory(&receiver) <= 20_000, "{growths}, {}", memory(&receiver));

            let mut receiver = Receiver::new(Role::Client);
            let large = frame(true, first, &[0; 100_000]);
            receiver.receive(&large[..1000], 1 << 20).unwrap();
            receiver.release_spare();
            assert!(memory(&receiver) <= 2000, "{}", memory(&receiver));
            receiver.receive(&large[1000..90_000], 1 << 20).unwrap();
            receiver.release_spare();
            assert_eq!(memory(&receiver), 100_000, "all of it, and no more");
        }
    }

    #[test]
    fn close_frames_are_parsed_and_their_codes_checked() {
        let close_with = |payload: &[u8]| receive(&frame(true, Opcode::Close, payload));
        let expect = |code, reason: &str| Ok(vec![Received::Close(Close { code, reason: reason.into() })]);
        assert_eq!(close_with(b""), expect(None, ""));
        assert_eq!(close_with(b"\x03\xe8bye"), expect(Some(CloseCode::NORMAL), "bye"));
        assert_eq!(close_with(b"\x03"), Err(ProtocolError::CloseTooShort));
        assert_eq!(close_with(b"\x03\xe8\xff"), Err(ProtocolError::NotUtf8));
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
            assert_eq!(close_with(&code.to_be_bytes()), Err(ProtocolError::InvalidCloseCode(code)));
        }
        for code in [1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
            let code = CloseCode::new(code).unwrap();
            assert_eq!(close_with(&close(code, "")), expect(Some(code), ""));
        }
    }
}
