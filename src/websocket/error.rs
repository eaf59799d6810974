//! The errors of an open WebSocket, as a table: a row has the close code, the section and the sentence.

use std::borrow::Cow;
use std::fmt;

use super::CloseCode;

/// A violation of the protocol by the peer. It fails the connection (RFC 6455, section 7.1.7).
///
/// ```
/// use overwire::websocket::{CloseCode, ProtocolError, Receiver, Role};
///
/// let error = Receiver::new(Role::Client).receive(b"\x81\x05Hello", 1024).unwrap_err();
/// assert_eq!((error, error.close_code()), (ProtocolError::NotMasked, CloseCode::PROTOCOL_ERROR));
/// assert_eq!(error.section(), "RFC 6455, section 5.1");
/// assert_eq!(error.to_string(), "a frame from a client must be masked");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// A reserved bit of a frame header is 1.
    ReservedBits,
    /// A frame has an opcode that the protocol does not define.
    UnknownOpcode(u8),
    /// A frame from a client is not masked.
    NotMasked,
    /// A frame from a server is masked.
    Masked,
    /// A control frame is only a fragment.
    FragmentedControl,
    /// The payload of a control frame is longer than 125 bytes.
    ControlTooLong,
    /// A payload length is encoded in more bytes than it needs.
    LengthNotMinimal,
    /// A payload length needs more than 63 bits.
    LengthTooLarge,
    /// A continuation frame arrived while no message was incomplete.
    NothingToContinue,
    /// The first frame of a message arrived while another message was incomplete.
    MessageNotFinished,
    /// The payload of a Close frame is 1 byte.
    CloseTooShort,
    /// A Close frame has a status code that must not be sent.
    InvalidCloseCode(u16),
    /// A text, or the reason of a Close frame, is not UTF-8.
    NotUtf8,
    /// A message is longer than this many bytes.
    MessageTooLong(usize),
}

impl ProtocolError {
    /// The status code of the Close frame that answers it (RFC 6455, section 7.4.1).
    pub fn close_code(self) -> CloseCode {
        self.row().0
    }

    /// The section that the peer violates, or that defines the status code.
    pub fn section(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (CloseCode, &'static str, Cow<'static, str>) {
        use ProtocolError::*;
        const PROTOCOL: CloseCode = CloseCode::PROTOCOL_ERROR;
        const FRAME: &str = "RFC 6455, section 5.2";
        const MASKING: &str = "RFC 6455, section 5.1";
        const FRAGMENTS: &str = "RFC 6455, section 5.4";
        const CONTROL: &str = "RFC 6455, section 5.5";
        let (code, section, sentence) = match self {
            ReservedBits => (PROTOCOL, FRAME, "a reserved bit is set and no extension was agreed on"),
            LengthNotMinimal => (PROTOCOL, FRAME, "the payload length must be encoded in as few bytes as it fits"),
            LengthTooLarge => (PROTOCOL, FRAME, "the top bit of a payload length must be 0"),
            NotMasked => (PROTOCOL, MASKING, "a frame from a client must be masked"),
            Masked => (PROTOCOL, MASKING, "a frame from a server must not be masked"),
            NothingToContinue => (PROTOCOL, FRAGMENTS, "a continuation frame came without a message to continue"),
            MessageNotFinished => (PROTOCOL, FRAGMENTS, "a new message began before the last was finished"),
            FragmentedControl => (PROTOCOL, CONTROL, "a control frame must not be fragmented"),
            ControlTooLong => (PROTOCOL, CONTROL, "the payload of a control frame must be at most 125 bytes"),
            CloseTooShort => {
                (PROTOCOL, "RFC 6455, section 5.5.1", "the payload of a Close frame must be empty or at least 2 bytes")
            }
            NotUtf8 => (CloseCode::INVALID_PAYLOAD, "RFC 6455, section 8.1", "text must be UTF-8"),
            UnknownOpcode(opcode) => return (PROTOCOL, FRAME, format!("opcode {opcode} is reserved").into()),
            InvalidCloseCode(code) => {
                let sentence = format!("status code {code} must not be sent in a Close frame");
                return (PROTOCOL, "RFC 6455, section 7.4", sentence.into());
            }
            MessageTooLong(limit) => {
                let sentence = format!("a message must be at most {limit} bytes");
                return (CloseCode::MESSAGE_TOO_BIG, "RFC 6455, section 7.4.1", sentence.into());
            }
        };
        (code, section, sentence.into())
    }
}

/// A sentence that fits into the reason of a Close frame (123 bytes).
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().2)
    }
}

impl std::error::Error for ProtocolError {}
