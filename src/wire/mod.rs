//! Labels for the bytes of a connection: what `wire` prints and the tap shows. No sockets, no clock.
//!
//! A [`Conversation`] takes the bytes of both directions of one connection as they arrive, cut anywhere, and labels
//! them with the codecs of the server itself. There are two layers, because chunks do not respect the content in them:
//!
//! - The bytes on the wire: [`Piece`]s, from the request line to the payload of a frame. Joined, they are exactly the
//!   bytes that arrived.
//! - The lines in the content: [`Line`]s of an event stream or of JSON, across the borders of chunks. Joined, they are
//!   exactly the content.
//!
//! The labels do not depend on how the bytes were cut, except that content, chunk-data and payloads are labelled as
//! they arrive. [`Piece::join`] undoes this.
//!
//! Each piece and each line knows its [name](Part::name), its [section](Part::section), its [meaning](Piece::meaning)
//! and its [kind](Piece::kind). A [`Tally`] counts the bytes of each kind.
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
//! assert_eq!(pieces[2].meaning(), "2 bytes of content follow");
//! assert_eq!(pieces[3].bytes, b"hi");
//! assert_eq!(Part::Content.section(), "RFC 9110, section 6.4");
//! ```

mod conversation;
mod fault;
mod keep_alive;
mod lines;
mod part;
mod secrets;
mod tally;
#[cfg(test)]
mod tally_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::websocket;

pub use conversation::Conversation;
pub use fault::Fault;
pub use keep_alive::{Candidate, mark_keep_alive};
pub use lines::{Line, LinePart, Lines};
pub use part::{Follows, Kind, Part, count_of_bytes};
pub use secrets::Secrets;
pub use tally::{Counts, Tally};

/// Consecutive bytes of one direction that are one part.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::{Conversation, Kind, Part};
///
/// let mut pieces = Conversation::default().read(Role::Client, b"GET / HTTP/1.1\r\n\
///     Host: localhost\r\n\r\n");
/// assert_eq!((&pieces[1].part, pieces[1].kind()), (&Part::FieldLine, Kind::Header));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The part.
    pub part: Part,
    /// The bytes as they arrived, line ends included.
    pub bytes: Vec<u8>,
    /// The lines in the bytes, if they are content of a format that is known here.
    pub lines: Vec<Line>,
    /// Whether the application sent it only to keep the connection open.
    is_keep_alive: bool,
    /// Whether a `*` stands in place of each byte of a secret.
    is_masked: bool,
}

impl Piece {
    fn new(part: Part, bytes: &[u8]) -> Self {
        Piece { part, bytes: bytes.to_vec(), lines: Vec::new(), is_keep_alive: false, is_masked: false }
    }

    /// The meaning of the piece in words. Empty if the bytes speak for themselves. The lines in a piece have
    /// [meanings](Line::meaning) too.
    pub fn meaning(&self) -> String {
        let meaning = self.part.meaning(&self.unmasked());
        if meaning.is_empty() && self.is_masked { "masked".to_owned() } else { meaning }
    }

    /// The purpose of the bytes. Of content with lines, each line has [its own](Line::kind).
    pub fn kind(&self) -> Kind {
        if self.is_keep_alive { Kind::KeepAlive } else { self.part.kind() }
    }

    /// The bytes without masking.
    pub fn unmasked(&self) -> Cow<'_, [u8]> {
        let Part::Payload { masking_key: Some(key), offset, .. } = self.part else {
            return Cow::Borrowed(&self.bytes);
        };
        let mut bytes = self.bytes.clone();
        websocket::mask(&mut bytes, key, (offset % 4) as usize);
        Cow::Owned(bytes)
    }

    /// Appends `next`, the following piece, if it is more of the same content, chunk-data or payload.
    ///
    /// # Errors
    /// `next`, if it is another part.
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
        self.is_masked |= next.is_masked;
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
