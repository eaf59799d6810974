//! Frame headers and masking (RFC 6455, sections 5.2 and 5.3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
//! |I|S|S|S|  (4)  |A|     (7)     |   (16 bits if len == 126,     |
//! |N|V|V|V|       |S|             |    64 bits if len == 127)     |
//! | |1|2|3|       |K|             |                               |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |  Masking-key (32 bits, if MASK is set)        | Payload ...   |
//! +-----------------------------------------------+---------------+
//! ```

use super::ProtocolError;
use crate::bytes::Parse;

/// The longest frame header: 2 bytes, 8 of extended payload length, 4 of masking-key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const MASK: u8 = 0x80;

/// One of the two endpoints of a connection. A client masks its frames, a server does not (section 5.1).
///
/// ```
/// use overwire::websocket::{ProtocolError, Role, parse_header};
///
/// let header = [0x81, 0x05]; // no mask
/// assert!(parse_header(&header, Role::Server).is_ok());
/// assert_eq!(parse_header(&header, Role::Client), Err(ProtocolError::NotMasked));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The endpoint that opened the connection.
    Client,
    /// The endpoint that accepted the connection.
    Server,
}

/// The kind of a frame (section 11.8).
///
/// ```
/// use overwire::websocket::Opcode;
///
/// assert_eq!(Opcode::Ping as u8, 0x9);
/// assert!(Opcode::Ping.is_control() && !Opcode::Text.is_control());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A fragment of a message, but not the first one.
    Continuation = 0x0,
    /// The first or only frame of a text message.
    Text = 0x1,
    /// The first or only frame of a binary message.
    Binary = 0x2,
    /// The start of the closing handshake, or the answer to it.
    Close = 0x8,
    /// A question whether the peer is still there.
    Ping = 0x9,
    /// The answer to a Ping.
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, ProtocolError> {
        match bits {
            0x0 => Ok(Opcode::Continuation),
            0x1 => Ok(Opcode::Text),
            0x2 => Ok(Opcode::Binary),
            0x8 => Ok(Opcode::Close),
            0x9 => Ok(Opcode::Ping),
            0xa => Ok(Opcode::Pong),
            _ => Err(ProtocolError::UnknownOpcode(bits)),
        }
    }

    /// Whether this is a control frame. It is never fragmented, and may stand between the fragments of a message
    /// (section 5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A frame header. Its reserved bits are 0, because no extension is ever agreed on here.
///
/// ```
/// use overwire::websocket::{FrameHeader, Opcode, Role, parse_header};
/// use overwire::Parse;
///
/// let header = FrameHeader { masking_key: Some([1, 2, 3, 4]), ..FrameHeader::new(Opcode::Text, 5) };
/// let mut bytes = Vec::new();
/// header.encode(&mut bytes);
/// assert_eq!(bytes, [0x81, 0x85, 1, 2, 3, 4]);
/// assert_eq!(parse_header(&bytes, Role::Client), Ok(Parse::Complete { value: header, used: 6 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The kind of the frame.
    pub opcode: Opcode,
    /// The masking-key, if the payload is masked.
    pub masking_key: Option<[u8; 4]>,
    /// The payload length in bytes.
    pub length: u64,
}

/// Parses the header of a frame from `sender`, at the front of `bytes`.
///
/// # Errors
/// A [`ProtocolError`] at the first byte that shows it. A reserved opcode is an error before the second byte arrives.
pub fn parse_header(bytes: &[u8], sender: Role) -> Result<Parse<FrameHeader>, ProtocolError> {
    // ANCHOR: parse_header
    let Some(&first) = bytes.first() else { return Ok(Parse::Partial) };
    if first & RSV != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    let (fin, opcode) = (first & FIN != 0, Opcode::from_bits(first & 0x0f)?);
    if opcode.is_control() && !fin {
        return Err(ProtocolError::FragmentedControl);
    }
    let Some(&second) = bytes.get(1) else { return Ok(Parse::Partial) };
    let masked = second & MASK != 0;
    match (sender, masked) {
        (Role::Client, false) => return Err(ProtocolError::NotMasked),
        (Role::Server, true) => return Err(ProtocolError::Masked),
        _ => {}
    }
    let short = u64::from(second & 0x7f);
    // ANCHOR_END: parse_header
    if opcode.is_control() && short > MAX_CONTROL {
        return Err(ProtocolError::ControlTooLong);
    }
    let Parse::Complete { value: length, used } = parse_length(short, &bytes[2..])? else {
        return Ok(Parse::Partial);
    };
    let rest = &bytes[2 + used..];
    let masking_key = match (masked, rest.first_chunk::<4>()) {
        (false, _) => None,
        (true, Some(key)) => Some(*key),
        (true, None) => return Ok(Parse::Partial),
    };
    let used = 2 + used + if masked { 4 } else { 0 };
    Ok(Parse::Complete { value: FrameHeader { fin, opcode, masking_key, length }, used })
}

/// The payload length: 7 bits, or 16 or 64 more in network byte order. "The minimal number of bytes MUST be used", and
/// the top bit of 64 must be 0.
fn parse_length(short: u64, rest: &[u8]) -> Result<Parse<u64>, ProtocolError> {
    let (value, used, least) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u16::from_be_bytes(*bytes).into(), 2, 126),
            None => return Ok(Parse::Partial),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8, 0x1_0000),
            None => return Ok(Parse::Partial),
        },
        _ => (short, 0, 0),
    };
    match value {
        _ if value >> 63 != 0 => Err(ProtocolError::LengthTooLarge),
        _ if value < least => Err(ProtocolError::LengthNotMinimal),
        _ => Ok(Parse::Complete { value, used }),
    }
}

impl FrameHeader {
    /// Creates the header of an unfragmented, unmasked frame.
    pub fn new(opcode: Opcode, length: usize) -> Self {
        FrameHeader { fin: true, opcode, masking_key: None, length: length as u64 }
    }

    /// Appends the header to `out`, 2 to [`MAX_HEADER`] bytes.
    #[inline(always)] // most callers know most fields, and the code for the others is left out
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = if self.fin { FIN } else { 0 } | self.opcode as u8;
        let mask = if self.masking_key.is_some() { MASK } else { 0 };
        match self.length {
            0..=125 => out.extend_from_slice(&[first, mask | self.length as u8]),
            126..=0xffff => {
                let [high, low] = (self.length as u16).to_be_bytes();
                out.extend_from_slice(&[first, mask | 126, high, low]);
            }
            _ => {
                out.extend_from_slice(&[first, mask | 127]);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        if let Some(key) = self.masking_key {
            out.extend_from_slice(&key);
        }
    }
}

/// Masks or unmasks `payload`, the same operation both ways: byte `i` of a frame's payload is XORed with byte `i % 4`
/// of the key. `payload` begins at byte `offset` of the frame's payload.
///
/// ```
/// let mut payload = *b"Hello";
/// overwire::websocket::mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]); // RFC 6455, section 5.7
/// ```
#[doc(alias = "unmask")]
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    xor(payload, word(turn(key, offset)));
}

/// The key as it applies from byte `offset` of the payload on.
pub(super) fn turn(key: [u8; 4], offset: usize) -> [u8; 4] {
    u32::from_be_bytes(key).rotate_left(8 * (offset % 4) as u32).to_be_bytes()
}

/// The key twice. A key of 4 bytes repeats in 8, so it can be applied to 8 bytes at a time, and the compiler turns
/// words into vectors.
fn word(key: [u8; 4]) -> u64 {
    let key = u64::from(u32::from_ne_bytes(key));
    key << 32 | key
}

fn xor(payload: &mut [u8], word: u64) {
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    // ANCHOR: mask
    for (byte, key) in rest.iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
    }
    // ANCHOR_END: mask
}

/// The bytes that [`append_masked`] takes at a time.
const BLOCK: usize = 128;

/// Appends `payload` to `out`, masked or unmasked with `key`.
///
/// One pass takes half the time of a copy and a [`mask`]. Each block has a fixed length, so that the compiler makes
/// vector instructions of it, and the capacity of `out` is checked once a block and not once a byte.
pub(super) fn append_masked(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    let word = word(key);
    out.reserve(payload.len());
    let (blocks, rest) = payload.as_chunks::<BLOCK>();
    for block in blocks {
        let mut block = *block;
        xor(&mut block, word);
        out.extend_from_slice(&block);
    }
    let start = out.len();
    out.extend_from_slice(rest);
    xor(&mut out[start..], word);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `bytes` whole and with bytes left over. Checks that each shorter prefix is `Partial`, or has the error of
    /// the whole.
    fn header(bytes: &[u8], sender: Role) -> Result<FrameHeader, ProtocolError> {
        let whole = parse_header(bytes, sender);
        for end in 0..bytes.len() {
            match parse_header(&bytes[..end], sender) {
                Ok(partial) => assert_eq!(partial, Parse::Partial, "after {end} bytes"),
                Err(error) => assert_eq!(Err(error), whole, "after {end} bytes"),
            }
        }
        let longer = parse_header(&[bytes, &[0xff; 20]].concat(), sender);
        assert_eq!(longer, whole);
        match whole? {
            Parse::Complete { value, used } => {
                assert_eq!(used, bytes.len());
                Ok(value)
            }
            Parse::Partial => panic!("partial: {bytes:x?}"),
        }
    }

    #[test]
    fn encoded_headers_are_parsed_back() {
        for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, u64::MAX >> 1] {
            for (fin, opcode) in [(true, Opcode::Text), (false, Opcode::Binary), (false, Opcode::Continuation)] {
                for (masking_key, sender) in [(None, Role::Server), (Some([1, 2, 3, 4]), Role::Client)] {
                    let sent = FrameHeader { fin, opcode, masking_key, length };
                    let mut bytes = Vec::new();
                    sent.encode(&mut bytes);
                    assert_eq!(header(&bytes, sender), Ok(sent));
                }
            }
        }
    }

    #[test]
    fn violations_in_headers_are_found() {
        use ProtocolError::*;
        let cases: [(&[u8], ProtocolError); 14] = [
            (&[0xc1, 0x80], ReservedBits),
            (&[0xa1, 0x80], ReservedBits),
            (&[0x91, 0x80], ReservedBits),
            (&[0x83, 0x80], UnknownOpcode(3)),
            (&[0x87, 0x80], UnknownOpcode(7)),
            (&[0x8b, 0x80], UnknownOpcode(11)),
            (&[0x8f, 0x80], UnknownOpcode(15)),
            (&[0x81, 0x00], NotMasked),
            (&[0x09, 0x80], FragmentedControl),
            (&[0x89, 0xfe], ControlTooLong),
            (&[0x88, 0xff], ControlTooLong),
            (&[0x82, 0xfe, 0, 125], LengthNotMinimal),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], LengthNotMinimal),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], LengthTooLarge),
        ];
        for (bytes, error) in cases {
            assert_eq!(header(bytes, Role::Client), Err(error), "{bytes:x?}");
        }
        assert_eq!(header(&[0x81, 0x80], Role::Server), Err(Masked));
    }

    #[test]
    fn masking_by_words_equals_masking_by_bytes() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in (0..40).chain(120..150).chain(250..270) {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            for offset in 0..9 {
                let by_byte: Vec<u8> =
                    payload.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]).collect();
                let mut in_place = payload.clone();
                mask(&mut in_place, key, offset);
                assert_eq!(in_place, by_byte, "length {length}, offset {offset}");
                let mut appended = b"before".to_vec();
                append_masked(&mut appended, &payload, turn(key, offset));
                assert_eq!(appended, [b"before", &by_byte[..]].concat(), "length {length}, offset {offset}");
            }
        }
    }
}
