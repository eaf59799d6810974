//! What can be wrong with the bytes of a connection, from either side.

use std::fmt;

use crate::http::{ChunkError, RequestError};
use crate::websocket::ProtocolError;

/// Why the bytes of one direction can be labelled no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A request head is malformed.
    Request(RequestError),
    /// What should be a status line is none.
    StatusLine,
    /// A field line of a response is malformed, or there are too many.
    FieldLine,
    /// The head of a response is longer than this many bytes.
    HeadTooLong(usize),
    /// The Content-Length of a response is no number.
    ContentLength,
    /// A response has Content-Length and Transfer-Encoding.
    LengthAndEncoding,
    /// A transfer coding of a response is not known here, or is not the last one.
    TransferEncoding,
    /// The chunked coding is malformed.
    Chunk(ChunkError),
    /// A frame header is malformed.
    Frame(ProtocolError),
    /// More than this many bytes came behind a request to switch protocols, and no answer.
    TooEarly(usize),
    /// More than this many requests are unanswered.
    TooManyRequests(usize),
    /// The connection ended inside of an HTTP message.
    EndedInMessage,
    /// The connection ended inside of a frame.
    EndedInFrame,
}

impl Fault {
    /// The section that is violated.
    pub fn section(self) -> &'static str {
        match self {
            Fault::Request(error) => error.section(),
            Fault::StatusLine => "RFC 9112, section 4",
            Fault::FieldLine => "RFC 9112, section 5",
            Fault::HeadTooLong(_) => "RFC 9110, section 5.4",
            Fault::ContentLength => "RFC 9110, section 8.6",
            Fault::LengthAndEncoding => "RFC 9112, section 6.3",
            Fault::TransferEncoding => "RFC 9112, section 6.1",
            Fault::Chunk(_) => "RFC 9112, section 7.1",
            Fault::Frame(error) => error.section(),
            Fault::TooEarly(_) => "RFC 6455, section 4.1",
            Fault::TooManyRequests(_) => "RFC 9112, section 9.3.2",
            Fault::EndedInMessage => "RFC 9112, section 8",
            Fault::EndedInFrame => "RFC 6455, section 7.1.5",
        }
    }
}

/// A sentence without its full stop.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Request(error) => return error.fmt(f),
            Fault::StatusLine => {
                "the status line is malformed: expected `HTTP/1.1`, a status code of three digits, CRLF"
            }
            Fault::FieldLine => "a field line is malformed: expected a name, a colon, a value, CRLF",
            Fault::HeadTooLong(limit) => return write!(f, "the head is longer than {limit} bytes"),
            Fault::ContentLength => "Content-Length is malformed: expected one decimal number",
            Fault::LengthAndEncoding => "both Content-Length and Transfer-Encoding are there: expected one of them",
            Fault::TransferEncoding => "the Transfer-Encoding is not known: expected exactly `chunked`",
            Fault::Chunk(error) => return error.fmt(f),
            Fault::Frame(error) => return error.fmt(f),
            Fault::TooEarly(limit) => {
                return write!(f, "more than {limit} bytes came before the answer to the opening handshake");
            }
            Fault::TooManyRequests(limit) => return write!(f, "more than {limit} requests are unanswered"),
            Fault::EndedInMessage => "the connection ended before the message was complete",
            Fault::EndedInFrame => "the connection ended inside of a frame",
        })
    }
}

impl std::error::Error for Fault {}
