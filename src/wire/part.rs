//! The parts of a connection's bytes: names, sections, meanings and kinds.

use super::Fault;
use crate::http::Framing;
use crate::websocket::{FrameHeader, Opcode};

/// The purpose of bytes on the wire.
///
/// ```
/// use overwire::wire::{Kind, Part};
///
/// assert_eq!(Part::LastChunk.kind(), Kind::Framing);
/// assert_eq!(Kind::KeepAlive.name(), "keep-alive");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Data of the application.
    Payload,
    /// The bytes between payloads: chunk-sizes, line ends, frame headers.
    Framing,
    /// Heads and trailer fields of HTTP.
    #[doc(alias = "field")]
    Header,
    /// Bytes that only keep a connection open: Pings, Pongs, comments, heartbeats, empty answers.
    KeepAlive,
    /// A violation of a protocol.
    Problem,
}

impl Kind {
    /// The name in the tap's events.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Payload => "payload",
            Kind::Framing => "framing",
            Kind::Header => "header",
            Kind::KeepAlive => "keep-alive",
            Kind::Problem => "problem",
        }
    }
}

/// The bytes that follow a head.
///
/// ```
/// use overwire::http::Framing;
/// use overwire::wire::{Follows, Part};
///
/// let end = Part::HeadEnd(Follows::Content(Framing::Chunked));
/// assert_eq!(end.meaning(b"\r\n"), "chunks follow");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The next request: this one has no content.
    NextRequest,
    /// Content. In a response, [`Framing::Empty`] says that there is none.
    Content(Framing),
    /// The final response: this one is an interim response (1xx).
    FinalResponse,
    /// WebSocket frames.
    Frames,
    /// Bytes of a protocol that has no labels here.
    UnknownProtocol,
}

/// A syntactic part of a message, or of the bytes between messages.
///
/// ```
/// use overwire::wire::{Kind, Part};
///
/// let part = Part::ChunkSize(26);
/// assert_eq!((part.name(), part.section()), ("chunk-size", "RFC 9112, section 7.1"));
/// assert_eq!((part.kind(), part.meaning(b"1a\r\n")), (Kind::Framing, "0x1a is 26 bytes".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An empty line before a request line or a status line, which a recipient skips.
    EmptyLine,
    /// Method, target and version.
    RequestLine,
    /// Version, status code (here as a number) and reason phrase.
    StatusLine(u16),
    /// The name and the value of a field.
    #[doc(alias = "header")]
    FieldLine,
    /// The empty line that ends a head.
    HeadEnd(Follows),
    /// Content without a transfer coding, as it arrives.
    Content,
    /// A chunk-size line, and the size.
    ChunkSize(u64),
    /// The data of a chunk, as it arrives.
    ChunkData,
    /// The CRLF after the chunk-data.
    ChunkEnd,
    /// The chunk-size line of size 0.
    LastChunk,
    /// A field line after the last-chunk.
    #[doc(alias = "header")]
    TrailerField,
    /// The empty line that ends the trailer section and the content.
    TrailerEnd,
    /// No bytes: the message is complete.
    MessageEnd,
    /// The bytes of a frame before its payload.
    FrameHeader(FrameHeader),
    /// The payload of a frame as it is on the wire, as it arrives.
    Payload {
        /// The opcode of the frame.
        opcode: Opcode,
        /// The masking-key, if the payload is masked.
        masking_key: Option<[u8; 4]>,
        /// The number of payload bytes before these.
        offset: u64,
    },
    /// No bytes: the protocol is violated. All later bytes of this direction are unlabelled.
    Broken(Fault),
    /// Bytes after a violation, or of a protocol that has no labels here.
    Unlabelled,
}

impl Part {
    /// The name in the standard.
    pub fn name(&self) -> &'static str {
        self.row().0
    }

    /// The section that defines the part, or that was violated. Empty for a part that nothing defines.
    pub fn section(&self) -> &'static str {
        self.row().1
    }

    /// The purpose of the part in its protocol. The heartbeats of an application are payload:
    /// [`mark_keep_alive`](super::mark_keep_alive) finds them.
    pub fn kind(&self) -> Kind {
        self.row().2
    }

    /// Name, section and kind.
    fn row(&self) -> (&'static str, &'static str, Kind) {
        use Kind::*;
        match self {
            Part::EmptyLine => ("empty line", "RFC 9112, section 2.2", Header),
            Part::RequestLine => ("request line", "RFC 9112, section 3", Header),
            Part::StatusLine(_) => ("status line", "RFC 9112, section 4", Header),
            Part::FieldLine => ("field line", "RFC 9112, section 5", Header),
            Part::HeadEnd(_) => ("end of head", "RFC 9112, section 2.1", Header),
            Part::Content => ("content", "RFC 9110, section 6.4", Payload),
            Part::ChunkSize(_) => ("chunk-size", "RFC 9112, section 7.1", Framing),
            Part::ChunkData => ("chunk-data", "RFC 9112, section 7.1", Payload),
            Part::ChunkEnd => ("end of chunk", "RFC 9112, section 7.1", Framing),
            Part::LastChunk => ("last-chunk", "RFC 9112, section 7.1", Framing),
            Part::TrailerField => ("trailer field", "RFC 9112, section 7.1.2", Header),
            Part::TrailerEnd => ("end of chunks", "RFC 9112, section 7.1.2", Framing),
            Part::MessageEnd => ("end of message", "RFC 9112, section 6.3", Framing),
            Part::FrameHeader(header) => {
                let kind = if is_keep_alive(header.opcode) { KeepAlive } else { Framing };
                ("frame header", "RFC 6455, section 5.2", kind)
            }
            Part::Payload { opcode, masking_key, .. } => {
                let section = if masking_key.is_some() { "RFC 6455, section 5.3" } else { "RFC 6455, section 5.2" };
                let kind = match opcode {
                    _ if is_keep_alive(*opcode) => KeepAlive,
                    Opcode::Close => Framing,
                    _ => Payload,
                };
                ("payload", section, kind)
            }
            Part::Broken(fault) => ("broken", fault.section(), Problem),
            Part::Unlabelled => ("unlabelled", "", Framing),
        }
    }

    /// The meaning of the part in words. Empty if the bytes speak for themselves. `bytes` are the bytes of the part,
    /// without masking.
    pub fn meaning(&self, bytes: &[u8]) -> String {
        match self {
            Part::HeadEnd(follows) => follows.meaning(),
            Part::ChunkSize(size) => format!("0x{size:x} is {}", count_of_bytes(*size)),
            Part::LastChunk => "no more chunks".to_owned(),
            Part::FrameHeader(header) => describe(header),
            Part::Payload { opcode: Opcode::Close, offset: 0, .. } => match bytes {
                [high, low, ..] => format!("status code {}", u16::from_be_bytes([*high, *low])),
                _ => String::new(),
            },
            Part::Broken(fault) => fault.to_string(),
            _ => String::new(),
        }
    }
}

impl Follows {
    fn meaning(self) -> String {
        match self {
            Follows::NextRequest => String::new(),
            Follows::Content(Framing::Empty) => "no content".to_owned(),
            Follows::Content(Framing::Length(length)) => {
                format!("{} of content follow", count_of_bytes(length))
            }
            Follows::Content(Framing::Chunked) => "chunks follow".to_owned(),
            Follows::Content(Framing::UntilClose) => "content follows until the connection ends".to_owned(),
            Follows::FinalResponse => "the answer is still to come".to_owned(),
            Follows::Frames => "frames follow".to_owned(),
            Follows::UnknownProtocol => "another protocol follows".to_owned(),
        }
    }
}

fn is_keep_alive(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Ping | Opcode::Pong)
}

/// `1 byte`, `2 bytes`.
///
/// ```
/// assert_eq!(overwire::wire::count_of_bytes(1), "1 byte");
/// ```
pub fn count_of_bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// A frame header in words.
fn describe(header: &FrameHeader) -> String {
    let opcode = match header.opcode {
        Opcode::Continuation => "continuation",
        Opcode::Text => "text",
        Opcode::Binary => "binary",
        Opcode::Close => "Close",
        Opcode::Ping => "Ping",
        Opcode::Pong => "Pong",
    };
    let fin = if header.fin { "FIN " } else { "" };
    let mask = header.masking_key.map(|[a, b, c, d]| format!(", mask {a:02x} {b:02x} {c:02x} {d:02x}"));
    let more = if header.fin { "" } else { ", more follows" };
    format!("{fin}{opcode}, length {}{}{more}", header.length, mask.unwrap_or_default())
}
