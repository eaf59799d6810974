//! Violations of the protocols, from either side, as a table: a row has the section and the sentence.

use std::borrow::Cow;
use std::fmt;

use crate::http::{ChunkError, RequestError, ResponseError};
use crate::websocket::ProtocolError;

/// The reason why the bytes of one direction have no further labels.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::{Conversation, Fault, Part};
///
/// let mut conversation = Conversation::default();
/// conversation.read(Role::Server, b"HTTP/1.1 200 O");
/// assert_eq!(conversation.end(Role::Server)[0].part, Part::Broken(Fault::EndedInMessage));
/// assert_eq!(Fault::EndedInMessage.to_string(), "the connection ended before the message was complete");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A request head is malformed.
    Request(RequestError),
    /// A response head is malformed.
    Response(ResponseError),
    /// The chunked coding is malformed.
    Chunk(ChunkError),
    /// A frame header is malformed.
    Frame(ProtocolError),
    /// The client sent more than this many bytes between an opening handshake and its answer.
    TooEarly(usize),
    /// More than this many requests are unanswered.
    TooManyRequests(usize),
    /// The connection ended inside an HTTP message.
    EndedInMessage,
    /// The connection ended inside a frame.
    EndedInFrame,
}

impl Fault {
    /// The section that is violated.
    pub fn section(self) -> &'static str {
        self.row().0
    }

    /// The section and the sentence, without its full stop.
    fn row(self) -> (&'static str, Cow<'static, str>) {
        match self {
            Fault::Request(error) => (error.section(), error.to_string().into()),
            Fault::Response(error) => (error.section(), error.to_string().into()),
            Fault::Chunk(error) => (error.section(), error.to_string().into()),
            Fault::Frame(error) => (error.section(), error.to_string().into()),
            Fault::TooEarly(limit) => {
                let sentence = format!("more than {limit} bytes came before the answer to the opening handshake");
                ("RFC 6455, section 4.1", sentence.into())
            }
            Fault::TooManyRequests(limit) => {
                ("RFC 9112, section 9.3.2", format!("more than {limit} requests are unanswered").into())
            }
            Fault::EndedInMessage => {
                ("RFC 9112, section 8", "the connection ended before the message was complete".into())
            }
            Fault::EndedInFrame => ("RFC 6455, section 7.1.5", "the connection ended inside of a frame".into()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().1)
    }
}

impl std::error::Error for Fault {}
