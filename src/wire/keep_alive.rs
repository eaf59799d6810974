//! Messages that an application sends only to keep a connection open. Protocols do not define them: the caller decides.

use std::mem;

use super::{LinePart, Part, Piece};
use crate::websocket::{FrameHeader, Opcode};

/// The longest message that may be one, in bytes.
pub(super) const LONGEST: usize = 512;

/// A short message that may be a heartbeat or an empty answer. The application decides whether it is one.
///
/// ```
/// use overwire::wire::Candidate;
///
/// fn is_heartbeat(candidate: &Candidate<'_>) -> bool {
///     match candidate {
///         Candidate::Event { name, .. } => *name == "heartbeat",
///         Candidate::Frame(text) | Candidate::Line(text) => *text == "heartbeat",
///         Candidate::Answer(content) => content.is_empty(),
///     }
/// }
/// assert!(is_heartbeat(&Candidate::Event { name: "heartbeat", data: "" }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate<'a> {
    /// An event of an event stream.
    Event {
        /// The event type: `message` if there is no `event` field.
        name: &'a str,
        /// The lines of its data.
        data: &'a str,
    },
    /// A line of JSON.
    Line(&'a str),
    /// A text message in a single frame.
    Frame(&'a str),
    /// The whole content of a response. Never that of a request.
    Answer(&'a str),
}

/// Marks the frames, the events and the lines of JSON that only keep the connection open, by the judgement of the
/// application. Their kind becomes [`Kind::KeepAlive`](super::Kind::KeepAlive). Only those that are whole in `pieces`
/// are marked.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::{Candidate, Conversation, Kind, mark_keep_alive};
///
/// let mut conversation = Conversation::default();
/// conversation.read(Role::Server, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
/// let mut pieces = conversation.read(Role::Server, b"\x81\x04beat");
/// assert_eq!(pieces[1].kind(), Kind::Payload);
/// mark_keep_alive(&mut pieces, |candidate| matches!(candidate, Candidate::Frame("beat")));
/// assert!(pieces.iter().all(|piece| piece.kind() == Kind::KeepAlive));
/// ```
pub fn mark_keep_alive(pieces: &mut [Piece], says: impl Fn(&Candidate<'_>) -> bool) {
    mark_frames(pieces, &says);
    mark_lines(pieces, says);
}

fn mark_frames(pieces: &mut [Piece], says: impl Fn(&Candidate<'_>) -> bool) {
    for at in 1..pieces.len() {
        let [header, payload] = &mut pieces[at - 1..=at] else { continue };
        let Part::FrameHeader(frame) = header.part else { continue };
        let is_whole = matches!(payload.part, Part::Payload { .. }) && payload.bytes.len() as u64 == frame.length;
        if is_whole && may_keep_alive(&frame) && Front::of(&payload.unmasked()).is(Candidate::Frame, &says) {
            (header.is_keep_alive, payload.is_keep_alive) = (true, true);
        }
    }
}

fn mark_lines(pieces: &mut [Piece], says: impl Fn(&Candidate<'_>) -> bool) {
    let mut lines: Vec<_> = pieces.iter_mut().flat_map(|piece| &mut piece.lines).collect();
    let (mut start, mut event) = (0, EventFields::default());
    for at in 0..lines.len() {
        match &lines[at].part {
            LinePart::Json(text) => lines[at].is_keep_alive = Front::of(text).is(Candidate::Line, &says),
            LinePart::Field { name, value } => event.add(name, value),
            LinePart::Comment(_) => event.has_comments = true,
            LinePart::EventEnd(_) => {
                if mem::take(&mut event).is_keep_alive(&says) {
                    lines[start..=at].iter_mut().for_each(|line| line.is_keep_alive = true);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Whether a frame can be a heartbeat: a short text in a single frame.
pub(super) fn may_keep_alive(frame: &FrameHeader) -> bool {
    frame.opcode == Opcode::Text && frame.fin && (1..=LONGEST as u64).contains(&frame.length)
}

/// The front of a text: all of it if it is short, and its length.
#[derive(Debug, Default)]
pub(super) struct Front {
    bytes: Vec<u8>,
    pub length: u64,
}

impl Front {
    pub fn of(bytes: &[u8]) -> Self {
        let mut front = Front::default();
        front.add(bytes);
        front
    }

    pub fn add(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.length
    }

    fn text(&self) -> Option<&str> {
        str::from_utf8(&self.bytes).ok().filter(|_| self.is_whole())
    }

    /// Whether the text is short and the application says that it only keeps the connection open.
    pub fn is<'a>(&'a self, candidate: fn(&'a str) -> Candidate<'a>, says: impl Fn(&Candidate<'_>) -> bool) -> bool {
        self.text().is_some_and(|text| says(&candidate(text)))
    }
}

/// The fields of an event before it ends.
#[derive(Debug, Default)]
pub(super) struct EventFields {
    has_fields: bool,
    pub has_comments: bool,
    name: Front,
    data: Option<Front>,
}

impl EventFields {
    pub fn add(&mut self, name: &str, value: &str) {
        self.has_fields = true;
        match name {
            "event" => self.name = Front::of(value.as_bytes()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.add(b"\n");
                    data.add(value.as_bytes());
                }
                None => self.data = Some(Front::of(value.as_bytes())),
            },
            _ => {}
        }
    }

    /// Whether the event only keeps the connection open. The empty line after nothing but comments belongs to them.
    pub fn is_keep_alive(&self, says: impl Fn(&Candidate<'_>) -> bool) -> bool {
        if !self.has_fields {
            return self.has_comments;
        }
        let name = match self.name.text() {
            Some("") => "message",
            Some(name) => name,
            None => return false,
        };
        let data = self.data.as_ref().map_or(Some(""), Front::text);
        data.is_some_and(|data| says(&Candidate::Event { name, data }))
    }
}
