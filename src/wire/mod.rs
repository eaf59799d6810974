//! Names the fields of raw bytes: feeds the page's wire view and the `wire` client.
//! No sockets, no clock.
//!
//! A [`Conversation`] is given the bytes of both directions of one connection as they arrive, in
//! pieces of any size, and labels them with the codecs that the server itself uses. There are two
//! layers, because the content of a message is cut into chunks without regard to what is in it:
//!
//! - What was on the wire: [`Piece`]s, from the request line to the payload of a frame. Put
//!   together they are exactly the bytes that came.
//! - What is inside of the content: [`Line`]s of an event stream or of JSON, over the borders of
//!   chunks. Put together they are exactly the content.
//!
//! What the pieces are does not depend on how the bytes were cut when they came, except that
//! content, chunk-data and payloads are labelled as they arrive; [`Piece::join`] undoes this.
//!
//! ```
//! use overwire::websocket::Role;
//! use overwire::wire::{Conversation, Part};
//!
//! let mut conversation = Conversation::default();
//! conversation.read(Role::Client, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
//! let pieces = conversation.read(Role::Server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
//! let names: Vec<_> = pieces.iter().map(|piece| piece.part.name()).collect();
//! assert_eq!(names, ["status line", "field line", "end of head", "content", "end of message"]);
//! assert_eq!(pieces[3].bytes, b"hi");
//! assert_eq!(Part::Content.section(), "RFC 9110, section 6.4");
//! ```

mod conversation;
mod fault;
mod lines;
#[cfg(test)]
mod tests;

use crate::http::Delimiter;
use crate::websocket::{self, Opcode};

pub use conversation::Conversation;
pub use fault::Fault;
pub use lines::{Line, LinePart, Lines};

/// What a piece of the wire is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An empty line in front of a request line or a status line, which is skipped.
    EmptyLine,
    /// Method, target and version.
    RequestLine,
    /// Version, status code (here as a number) and reason phrase.
    StatusLine(u16),
    /// A field's name and value.
    FieldLine,
    /// The empty line that ends a head, and how the end of the content is told.
    HeadEnd(Delimiter),
    /// Content without a transfer coding, as much of it as arrived.
    Content,
    /// A chunk-size line, and the size.
    ChunkSize(u64),
    /// The data of a chunk, as much of it as arrived.
    ChunkData,
    /// The CRLF behind the chunk-data.
    ChunkEnd,
    /// The chunk-size line of size 0.
    LastChunk,
    /// A field line behind the last-chunk.
    TrailerField,
    /// The empty line that ends the trailer section and the content.
    TrailerEnd,
    /// No bytes: the message is complete.
    MessageEnd,
    /// All that is in front of the payload of a frame.
    FrameHeader(websocket::FrameHeader),
    /// The payload of a frame as it is on the wire, as much of it as arrived.
    Payload {
        /// What the frame is.
        opcode: Opcode,
        /// The masking-key, if the payload is masked.
        masking_key: Option<[u8; 4]>,
        /// How many bytes of the payload came before these.
        offset: u64,
    },
    /// No bytes: the protocol was violated. All that follows in this direction is unlabelled.
    Broken(Fault),
    /// What follows a violation, or a switch to a protocol that is not known here.
    Unlabelled,
}

impl Part {
    /// What the standards call it.
    pub fn name(&self) -> &'static str {
        match self {
            Part::EmptyLine => "empty line",
            Part::RequestLine => "request line",
            Part::StatusLine(_) => "status line",
            Part::FieldLine => "field line",
            Part::HeadEnd(_) => "end of head",
            Part::Content => "content",
            Part::ChunkSize(_) => "chunk-size",
            Part::ChunkData => "chunk-data",
            Part::ChunkEnd => "end of chunk",
            Part::LastChunk => "last-chunk",
            Part::TrailerField => "trailer field",
            Part::TrailerEnd => "end of chunks",
            Part::MessageEnd => "end of message",
            Part::FrameHeader(_) => "frame header",
            Part::Payload { .. } => "payload",
            Part::Broken(_) => "broken",
            Part::Unlabelled => "unlabelled",
        }
    }

    /// The section that defines it, or that was violated. Empty for what nothing defines.
    pub fn section(&self) -> &'static str {
        match self {
            Part::EmptyLine => "RFC 9112, section 2.2",
            Part::RequestLine => "RFC 9112, section 3",
            Part::StatusLine(_) => "RFC 9112, section 4",
            Part::FieldLine => "RFC 9112, section 5",
            Part::HeadEnd(_) => "RFC 9112, section 2.1",
            Part::Content => "RFC 9110, section 6.4",
            Part::ChunkSize(_) | Part::ChunkData | Part::ChunkEnd | Part::LastChunk => "RFC 9112, section 7.1",
            Part::TrailerField | Part::TrailerEnd => "RFC 9112, section 7.1.2",
            Part::MessageEnd => "RFC 9112, section 6.3",
            Part::FrameHeader(_) => "RFC 6455, section 5.2",
            Part::Payload { masking_key: Some(_), .. } => "RFC 6455, section 5.3",
            Part::Payload { .. } => "RFC 6455, section 5.2",
            Part::Broken(fault) => fault.section(),
            Part::Unlabelled => "",
        }
    }
}

/// Bytes of one direction that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What they are.
    pub part: Part,
    /// The bytes as they came, line ends included.
    pub bytes: Vec<u8>,
    /// What is inside of them, if they are content of a format that is known here.
    pub lines: Vec<Line>,
}

impl Piece {
    fn new(part: Part, bytes: &[u8]) -> Self {
        Piece { part, bytes: bytes.to_vec(), lines: Vec::new() }
    }

    /// The bytes without masking, if they are a payload; else the bytes.
    pub fn unmasked(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Part::Payload { masking_key: Some(key), offset, .. } = self.part {
            websocket::mask(&mut bytes, key, (offset % 4) as usize);
        }
        bytes
    }

    /// Appends `next`, the piece behind this one, if it is more of the same content, chunk-data or
    /// payload, that only arrived later; else gives it back.
    ///
    /// # Errors
    /// `next`, when it is something else.
    pub fn join(&mut self, next: Piece) -> Result<(), Piece> {
        let is_more = match (&self.part, &next.part) {
            (Part::Payload { offset: first, .. }, Part::Payload { offset, .. }) => {
                *offset == first + self.bytes.len() as u64
            }
            (Part::Content | Part::ChunkData | Part::Unlabelled, part) => self.part == *part,
            _ => false,
        };
        if !is_more {
            return Err(next);
        }
        self.bytes.extend_from_slice(&next.bytes);
        for line in next.lines {
            let other = match self.lines.last_mut() {
                Some(last) => last.join(line).err(),
                None => Some(line),
            };
            self.lines.extend(other);
        }
        Ok(())
    }
}
