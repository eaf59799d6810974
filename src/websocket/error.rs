//! What a peer can do wrong on an open WebSocket, and the status code that each fault is
//! answered with: the one place that maps the one to the other.

use std::fmt;

use super::CloseCode;

/// A violation of the protocol: the endpoint fails the connection (RFC 6455, section 7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProtocolError {
    ReservedBits,
    UnknownOpcode(u8),
    NotMasked,
    Masked,
    FragmentedControl,
    ControlTooLong,
    LengthNotMinimal,
    LengthTooLarge,
    NothingToContinue,
    MessageNotFinished,
    CloseTooShort,
    InvalidCloseCode(u16),
    NotUtf8,
    MessageTooLong(usize),
}

impl ProtocolError {
    /// The status code of the Close frame that answers it (RFC 6455, section 7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            ProtocolError::NotUtf8 => CloseCode::INVALID_PAYLOAD,
            ProtocolError::MessageTooLong(_) => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The section of RFC 6455 that says so.
    pub fn section(self) -> &'static str {
        use ProtocolError::*;
        match self {
            ReservedBits | UnknownOpcode(_) | LengthNotMinimal | LengthTooLarge => "RFC 6455, section 5.2",
            NotMasked | Masked => "RFC 6455, section 5.1",
            FragmentedControl | ControlTooLong => "RFC 6455, section 5.5",
            NothingToContinue | MessageNotFinished => "RFC 6455, section 5.4",
            CloseTooShort => "RFC 6455, section 5.5.1",
            InvalidCloseCode(_) => "RFC 6455, section 7.4",
            NotUtf8 => "RFC 6455, section 8.1",
            MessageTooLong(_) => "RFC 6455, section 7.4.1",
        }
    }
}

/// A sentence that fits into a close reason (123 bytes).
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ProtocolError::*;
        f.write_str(match self {
            ReservedBits => "a reserved bit is set and no extension was agreed on",
            UnknownOpcode(opcode) => return write!(f, "opcode {opcode} is reserved"),
            NotMasked => "a frame from a client must be masked",
            Masked => "a frame from a server must not be masked",
            FragmentedControl => "a control frame must not be fragmented",
            ControlTooLong => "the payload of a control frame must be at most 125 bytes",
            LengthNotMinimal => "the payload length must be encoded in as few bytes as it fits",
            LengthTooLarge => "the top bit of a payload length must be 0",
            NothingToContinue => "a continuation frame came without a message to continue",
            MessageNotFinished => "a new message began before the last was finished",
            CloseTooShort => "the payload of a Close frame must be empty or at least 2 bytes",
            InvalidCloseCode(code) => return write!(f, "status code {code} must not be sent in a Close frame"),
            NotUtf8 => "text must be UTF-8",
            MessageTooLong(limit) => return write!(f, "a message must be at most {limit} bytes"),
        })
    }
}

impl std::error::Error for ProtocolError {}
