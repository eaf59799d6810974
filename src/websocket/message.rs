//! Messages put together from frames as their bytes arrive, and frames made of messages
//! (RFC 6455, sections 5.4 to 5.6 and 8.1).

use std::mem;

use super::frame::{FrameHeader, Opcode, Role, mask, parse_header};
use super::{Close, ProtocolError};
use crate::bytes::{Parse, Shared};

/// A whole message, whether it came in one frame or in many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text, checked to be UTF-8.
    Text(String),
    /// Bytes, unchecked.
    Binary(Vec<u8>),
}

impl Message {
    /// The payload.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The payload, by value.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The opcode of its first frame.
    pub fn opcode(&self) -> Opcode {
        match self {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        }
    }
}

/// What a receiver hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// A Ping, to be answered with a Pong of the same payload.
    Ping(Vec<u8>),
    /// A Pong, asked for or not.
    Pong(Vec<u8>),
    /// A Close: the peer will send nothing more.
    Close(Close),
}

/// A frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    header: FrameHeader,
    /// How many bytes of its payload are here.
    arrived: u64,
}

/// The largest buffer that is kept for the next message, in bytes.
const LARGEST_SPARE: usize = 4096;

/// Turns the bytes that a peer sends on an open WebSocket into messages and control frames.
///
/// It allocates by what has arrived, never by the length that a header claims. Text is checked as
/// it arrives, so that the first byte that cannot be UTF-8 ends the connection, not the end of the
/// message.
#[derive(Debug)]
pub struct Receiver {
    peer: Role,
    /// The opcode of the message that is being put together.
    opcode: Option<Opcode>,
    /// Its payload so far, over all its frames.
    payload: Vec<u8>,
    /// How much of a text payload is known to be UTF-8.
    checked: usize,
    /// The payload of a control frame, which may arrive between the frames of a message.
    control: Vec<u8>,
    frame: Option<Frame>,
}

impl Receiver {
    /// A receiver of what `peer` sends.
    pub fn new(peer: Role) -> Self {
        Receiver { peer, opcode: None, payload: Vec::new(), checked: 0, control: Vec::new(), frame: None }
    }

    /// Keeps the memory of a small message for the next one, until
    /// [`release_spare`](Self::release_spare): messages that come together need one block between
    /// them.
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

    /// Takes bytes from the front of `input` up to the end of the next message or control frame,
    /// and returns how many it took and what they completed. Bytes that it leaves without
    /// having completed anything are the beginning of a frame header, to be passed again with
    /// more behind them. `max_message` bounds a message in bytes, over all its frames.
    ///
    /// # Errors
    /// A [`ProtocolError`] at the first byte that shows it; the connection is to be failed.
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
                        self.begin_frame(header, max_message)?;
                    }
                }
            }
            let (taken, ended) = self.take_payload(&input[used..])?;
            used += taken;
            let Some(header) = ended else { return Ok((used, None)) };
            if let Some(received) = self.end_frame(header)? {
                return Ok((used, Some(received)));
            }
        }
    }

    /// The short cut for what most messages are: one frame, all of it here. Its payload is copied
    /// once, into the message, and checked once.
    fn is_whole_message(&self, header: &FrameHeader, available: usize, max_message: usize) -> bool {
        let begins_and_ends = header.fin && !header.opcode.is_control() && header.opcode != Opcode::Continuation;
        begins_and_ends && self.opcode.is_none() && header.length <= available.min(max_message) as u64
    }

    /// Fragments must be in order, and the message must stay within its limit: judged from the
    /// header, before the payload is taken.
    fn begin_frame(&mut self, header: FrameHeader, max_message: usize) -> Result<(), ProtocolError> {
        match (header.opcode, self.opcode) {
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::MessageNotFinished),
            (Opcode::Text | Opcode::Binary, None) => self.opcode = Some(header.opcode),
            _ => {}
        }
        let room = max_message.saturating_sub(self.payload.len()) as u64;
        if !header.opcode.is_control() && header.length > room {
            return Err(ProtocolError::MessageTooLong(max_message));
        }
        self.frame = Some(Frame { header, arrived: 0 });
        Ok(())
    }

    /// Takes what is there of the frame's payload. Returns how much that was, and the header if
    /// the payload is complete.
    fn take_payload(&mut self, input: &[u8]) -> Result<(usize, Option<FrameHeader>), ProtocolError> {
        let Some(Frame { header, arrived }) = &mut self.frame else { return Ok((0, None)) };
        let left = header.length - *arrived;
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let target = if header.opcode.is_control() { &mut self.control } else { &mut self.payload };
        let start = target.len();
        // Room for all of a message's last frame, but never for more than twice of what has arrived;
        // and anew only when the room is used up, or a frame that comes byte by byte would be moved
        // for each of them.
        let (all, twice) = (usize::try_from(left).unwrap_or(usize::MAX), start + 2 * taken);
        if target.capacity() - start < taken && (header.fin || all > twice) {
            target.reserve_exact(all.min(twice));
        }
        target.extend_from_slice(&input[..taken]);
        if let Some(key) = header.masking_key {
            mask(&mut target[start..], key, (*arrived % 4) as usize);
        }
        *arrived += taken as u64;
        let ended = (*arrived == header.length).then_some(*header);
        let whole_message = ended.is_some_and(|header| header.fin);
        if self.opcode == Some(Opcode::Text) && !whole_message {
            self.check_text()?;
        }
        if ended.is_some() {
            self.frame = None;
        }
        Ok((taken, ended))
    }

    /// Checks the text that has arrived since the last check. The standard library tells a
    /// character that is not all here (`error_len` is `None`) from bytes that no character begins
    /// with.
    fn check_text(&mut self) -> Result<(), ProtocolError> {
        match str::from_utf8(&self.payload[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::NotUtf8),
        }
        Ok(())
    }

    fn end_frame(&mut self, header: FrameHeader) -> Result<Option<Received>, ProtocolError> {
        match header.opcode {
            Opcode::Close => Ok(Some(Received::Close(Close::parse(&mem::take(&mut self.control))?))),
            Opcode::Ping => Ok(Some(Received::Ping(mem::take(&mut self.control)))),
            Opcode::Pong => Ok(Some(Received::Pong(mem::take(&mut self.control)))),
            _ if !header.fin => Ok(None),
            _ => {
                self.checked = 0;
                let opcode = self.opcode.take().unwrap_or(Opcode::Binary);
                message(opcode, mem::take(&mut self.payload)).map(|message| Some(Received::Message(message)))
            }
        }
    }
}

fn whole_message(header: &FrameHeader, bytes: &[u8], mut payload: Vec<u8>) -> Result<Message, ProtocolError> {
    // The program may keep the message for long: a short one shall not hold the memory of a long one.
    if payload.capacity() > 4 * bytes.len() {
        payload = Vec::new();
    }
    payload.extend_from_slice(bytes);
    if let Some(key) = header.masking_key {
        mask(&mut payload, key, 0);
    }
    message(header.opcode, payload)
}

fn message(opcode: Opcode, payload: Vec<u8>) -> Result<Message, ProtocolError> {
    match opcode {
        Opcode::Text => String::from_utf8(payload).map(Message::Text).map_err(|_| ProtocolError::NotUtf8),
        _ => Ok(Message::Binary(payload)),
    }
}

/// Appends one unfragmented frame to `out`. A client passes a `masking_key` that no one can
/// foresee (section 5.3), a server passes `None`.
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], masking_key: Option<[u8; 4]>) {
    out.reserve(super::MAX_HEADER + payload.len());
    FrameHeader { masking_key, ..FrameHeader::new(opcode, payload.len()) }.encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = masking_key {
        mask(&mut out[start..], key, 0);
    }
}

/// A text message from a server, in one frame.
///
/// ```
/// assert_eq!(&overwire::websocket::text("Hello")[..], b"\x81\x05Hello");
/// ```
pub fn text(text: &str) -> Shared {
    frame(Opcode::Text, text.as_bytes())
}

/// A binary message from a server, in one frame.
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

    /// Receives `bytes` from a client whole, in pieces of every small size, and with the
    /// beginning of another frame left over; all must agree.
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
    fn the_examples_of_the_rfc() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(receive(&masked), Ok(vec![said("Hello")]));
        assert_eq!(&text("Hello")[..], [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(binary(&[7; 256])[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary(&[7; 65536])[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn fragments_with_a_ping_between_them() {
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
    fn fragments_out_of_order() {
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
    fn text_fails_at_the_first_bad_byte() {
        let bad: [&[u8]; 8] =
            [b"\xc0", b"\xff", b"a\x80", b"\xed\xa0", b"\xf4\x90", b"\xf5", b"\xe0\x9f", b"\xce\xbaa\xc1"];
        for payload in bad {
            let mut receiver = Receiver::new(Role::Client);
            // The header promises more, so only a check on arrival can see it.
            let mut bytes = frame(false, Opcode::Text, payload);
            bytes[1] += 1;
            assert_eq!(receiver.receive(&bytes, 1000), Err(ProtocolError::NotUtf8), "{payload:x?}");
        }
        assert_eq!(receive(&frame(true, Opcode::Text, b"\xe2\x82")), Err(ProtocolError::NotUtf8));
    }

    #[test]
    fn the_limit_is_over_all_fragments_and_seen_in_the_header() {
        let first = frame(false, Opcode::Binary, &[0; 600]);
        let second = &frame(true, Opcode::Continuation, &[0; 401])[..8];
        assert_eq!(receive(&[&first[..], second].concat()), Err(ProtocolError::MessageTooLong(1000)));
        let claims_much = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(receive(&claims_much), Err(ProtocolError::MessageTooLong(1000)));
    }

    #[test]
    fn memory_grows_by_what_has_arrived_and_not_with_each_piece() {
        let mut receiver = Receiver::new(Role::Client);
        let mut growths = 0;
        for number in 0..10_000 {
            let opcode = if number == 0 { Opcode::Binary } else { Opcode::Continuation };
            let before = receiver.payload.capacity();
            receiver.receive(&frame(false, opcode, b"x"), 1 << 20).unwrap();
            growths += usize::from(receiver.payload.capacity() != before);
        }
        assert!(growths <= 20 && receiver.payload.capacity() <= 20_000, "{growths}, {}", receiver.payload.capacity());

        let (mut receiver, mut growths) = (Receiver::new(Role::Client), 0);
        let whole = frame(true, Opcode::Binary, &[0; 60_000]);
        receiver.receive(&whole[..8], 1 << 20).unwrap(); // the header
        for byte in whole[8..].chunks(1).take(10_000) {
            let before = receiver.payload.capacity();
            receiver.receive(byte, 1 << 20).unwrap();
            growths += usize::from(receiver.payload.capacity() != before);
        }
        assert!(growths <= 20 && receiver.payload.capacity() <= 20_000, "{growths}, {}", receiver.payload.capacity());

        let mut receiver = Receiver::new(Role::Client);
        let large = frame(true, Opcode::Binary, &[0; 100_000]);
        receiver.receive(&large[..1000], 1 << 20).unwrap();
        assert!(receiver.payload.capacity() <= 2000, "{}", receiver.payload.capacity());
        receiver.receive(&large[1000..90_000], 1 << 20).unwrap();
        assert_eq!(receiver.payload.capacity(), 100_000, "all of it, and no more");
    }

    #[test]
    fn closes() {
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
