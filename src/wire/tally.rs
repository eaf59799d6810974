//! The bytes of one direction of one exchange, counted by kind.
//!
//! The kind of a chunk-size depends on the chunk after it: the framing of a heartbeat is keep-alive too. So bytes are
//! counted when their kind is decided. Until then, only their number is kept.

use std::mem;
use std::ops::AddAssign;

use super::keep_alive::{EventFields, Front, may_keep_alive};
use super::{Candidate, Kind, Line, LinePart, Part, Piece};
use crate::websocket::{FrameHeader, Role};

/// Numbers of bytes by kind.
///
/// ```
/// use overwire::wire::Counts;
///
/// let counts = Counts { payload: 12, framing: 4, ..Counts::default() };
/// assert_eq!(counts.total(), 16);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of [`Kind::Payload`].
    pub payload: u64,
    /// Bytes of [`Kind::Framing`].
    pub framing: u64,
    /// Bytes of [`Kind::Header`].
    #[doc(alias = "field")]
    pub header: u64,
    /// Bytes of [`Kind::KeepAlive`].
    pub keep_alive: u64,
}

impl Counts {
    /// The number of bytes of all kinds.
    pub fn total(self) -> u64 {
        self.payload + self.framing + self.header + self.keep_alive
    }

    fn count(&mut self, kind: Kind, bytes: u64) {
        match kind {
            Kind::Payload => self.payload += bytes,
            Kind::Framing | Kind::Problem => self.framing += bytes,
            Kind::Header => self.header += bytes,
            Kind::KeepAlive => self.keep_alive += bytes,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.payload += other.payload;
        self.framing += other.framing;
        self.header += other.header;
        self.keep_alive += other.keep_alive;
    }
}

/// Counts the bytes of one direction of one exchange by kind. Its memory is bounded, and the sums do not depend on how
/// the bytes were cut.
///
/// `says` decides which messages the application sends only to keep a connection open.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::{Candidate, Conversation, Counts, Tally};
///
/// let mut conversation = Conversation::default();
/// let mut tally = Tally::new(Role::Server, |candidate| *candidate == Candidate::Line("[]"));
/// let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
/// tally.read(&conversation.read(Role::Server, head));
/// let counts = tally.read(&conversation.read(Role::Server, b"3\r\n[1]"));
/// assert_eq!(counts.total(), 0);
/// let counts = tally.read(&conversation.read(Role::Server, b"\r\n4\r\n[2]\n\r\n3\r\n[]\n\r\n"));
/// assert_eq!(counts, Counts { payload: 6, framing: 11, keep_alive: 8, ..Counts::default() });
/// ```
#[derive(Debug)]
pub struct Tally {
    says: fn(&Candidate<'_>) -> bool,
    /// The decided bytes that were not returned.
    decided: Counts,
    /// The bytes of chunk framing whose kind is not decided.
    around: u64,
    /// The decided bytes of the content in that framing.
    inside: Counts,
    in_chunk: bool,
    event: Event,
    /// The line that continues in the next piece.
    line: PartOfLine,
    /// The kind of the LF that completes the line end of the last line, if its CR was the last byte.
    line_feed: LineFeed,
    /// Content without lines.
    content: Front,
    /// Whether the content may be an empty answer: it is a response's, and short so far.
    may_be_empty: bool,
    frame: Option<Frame>,
}

/// An event of an event stream that has not ended.
#[derive(Debug, Default)]
struct Event {
    fields: EventFields,
    payload: u64,
    framing: u64,
    /// The bytes of comments among the fields.
    comments: u64,
}

#[derive(Debug, Default)]
struct PartOfLine {
    front: Front,
    ends_with_cr: bool,
}

#[derive(Debug, Clone, Copy)]
enum LineFeed {
    OfEvent,
    OfComment,
    Decided(Kind),
}

/// A text frame that may be a heartbeat.
#[derive(Debug)]
struct Frame {
    header_length: u64,
    length: u64,
    payload: Front,
}

impl Tally {
    /// Counts the bytes that `from` sends.
    pub fn new(from: Role, says: fn(&Candidate<'_>) -> bool) -> Self {
        Tally {
            says,
            decided: Counts::default(),
            around: 0,
            inside: Counts::default(),
            in_chunk: false,
            event: Event::default(),
            line: PartOfLine::default(),
            line_feed: LineFeed::Decided(Kind::Framing),
            content: Front::default(),
            may_be_empty: from == Role::Server,
            frame: None,
        }
    }

    /// Takes the next pieces and returns the numbers of the bytes whose kind is now decided.
    pub fn read(&mut self, pieces: &[Piece]) -> Counts {
        for piece in pieces {
            self.take(piece);
            if !self.in_chunk && self.is_settled() {
                self.settle();
            }
        }
        mem::take(&mut self.decided)
    }

    /// Ends the exchange and returns the numbers of all other bytes. An unfinished message counts as the kind that it
    /// has so far.
    pub fn end(&mut self) -> Counts {
        if self.line.front.length > 0 {
            self.end_part_of_line();
        }
        self.end_event(0);
        self.end_content();
        self.end_frame(false);
        self.settle();
        self.in_chunk = false;
        mem::take(&mut self.decided)
    }

    fn take(&mut self, piece: &Piece) {
        let length = piece.bytes.len() as u64;
        match &piece.part {
            Part::ChunkSize(_) | Part::ChunkEnd | Part::LastChunk | Part::TrailerEnd => {
                self.around += length;
                self.in_chunk = matches!(piece.part, Part::ChunkSize(_));
            }
            Part::Content | Part::ChunkData if piece.lines.is_empty() => self.take_content(&piece.bytes),
            Part::Content | Part::ChunkData => piece.lines.iter().for_each(|line| self.take_line(line)),
            Part::MessageEnd => self.end_content(),
            Part::FrameHeader(header) => self.take_frame_header(header, length),
            Part::Payload { .. } if self.frame.is_some() => self.take_payload(&piece.unmasked()),
            part => self.decided.count(part.kind(), length),
        }
    }

    /// Whether only framing is undecided.
    fn is_settled(&self) -> bool {
        self.event.framing + self.event.payload + self.line.front.length + self.content.length == 0
    }

    /// Decides on the framing. If its content only keeps the connection open, so does the framing.
    fn settle(&mut self) {
        self.inside.keep_alive += mem::take(&mut self.event.comments);
        let inside = mem::take(&mut self.inside);
        let keeps_alive = inside.keep_alive > 0 && inside.total() == inside.keep_alive;
        let kind = if keeps_alive { Kind::KeepAlive } else { Kind::Framing };
        self.decided += inside;
        self.decided.count(kind, mem::take(&mut self.around));
    }

    fn take_content(&mut self, bytes: &[u8]) {
        self.content.add(bytes);
        if !self.may_be_empty || !self.content.is_whole() {
            self.may_be_empty = false;
            self.inside.payload += mem::take(&mut self.content).length;
        }
    }

    fn end_content(&mut self) {
        let content = mem::take(&mut self.content);
        let is_empty = content.length > 0 && content.is(Candidate::Answer, self.says);
        self.inside.count(if is_empty { Kind::KeepAlive } else { Kind::Payload }, content.length);
    }

    fn take_line(&mut self, line: &Line) {
        let bytes = &line.bytes[..];
        if let LinePart::LineFeed = line.part {
            return self.take_line_feed();
        }
        let cr_before = mem::replace(&mut self.line.ends_with_cr, bytes.ends_with(b"\r"));
        self.line.front.add(bytes);
        if let LinePart::Cut = line.part {
            return;
        }
        let PartOfLine { front, .. } = mem::take(&mut self.line);
        let end = match bytes {
            b"\n" if cr_before => 2,
            [.., b'\r', b'\n'] => 2,
            [.., b'\r' | b'\n'] => 1,
            _ => 0,
        };
        let length = front.length;
        self.line_feed = match &line.part {
            LinePart::Field { name, value } => {
                self.take_field(name, value, &front, end);
                LineFeed::OfEvent
            }
            LinePart::Comment(_) => {
                self.event.fields.has_comments = true;
                self.event.comments += length;
                LineFeed::OfComment
            }
            LinePart::EventEnd(_) => LineFeed::Decided(self.end_event(length)),
            LinePart::Json(text) if Front::of(text).is(Candidate::Line, self.says) => {
                self.inside.keep_alive += length;
                LineFeed::Decided(Kind::KeepAlive)
            }
            LinePart::Json(_) => {
                self.inside.payload += length - end;
                self.inside.framing += end;
                LineFeed::Decided(Kind::Framing)
            }
            LinePart::Empty => {
                self.inside.keep_alive += length;
                LineFeed::Decided(Kind::KeepAlive)
            }
            LinePart::TooLong | LinePart::Cut | LinePart::LineFeed => {
                self.end_event(0);
                self.inside.payload += length;
                LineFeed::Decided(Kind::Payload)
            }
        };
    }

    /// The LF belongs to the line whose CR came before it.
    fn take_line_feed(&mut self) {
        match self.line_feed {
            LineFeed::OfEvent => self.event.framing += 1,
            LineFeed::OfComment => self.event.comments += 1,
            LineFeed::Decided(kind) => self.inside.count(kind, 1),
        }
    }

    /// The value of `data` is payload. The rest of it, and all other fields, are framing.
    fn take_field(&mut self, name: &str, value: &str, front: &Front, end: u64) {
        self.event.fields.add(name, value);
        let payload = if name == "data" { front.length - end - before_value(front, end) } else { 0 };
        self.event.payload += payload;
        self.event.framing += front.length - payload;
    }

    /// The line will not be completed. Its front tells what it was going to be.
    fn end_part_of_line(&mut self) {
        let PartOfLine { front, .. } = mem::take(&mut self.line);
        match front.bytes() {
            [b':', ..] => self.event.comments += front.length,
            [b'{' | b'[' | b'"', ..] => self.inside.payload += front.length,
            bytes if bytes.starts_with(b"data:") => {
                let value = String::from_utf8_lossy(&bytes[before_value(&front, 0) as usize..]).into_owned();
                self.take_field("data", &value, &front, 0);
            }
            _ => self.take_field("", "", &front, 0),
        }
    }

    /// Decides on the event, whose last line has `length` bytes. Returns the kind of the line end.
    fn end_event(&mut self, length: u64) -> Kind {
        let Event { fields, payload, framing, comments } = mem::take(&mut self.event);
        self.inside.keep_alive += comments;
        if fields.is_keep_alive(self.says) {
            self.inside.keep_alive += payload + framing + length;
            return Kind::KeepAlive;
        }
        self.inside.payload += payload;
        self.inside.framing += framing + length;
        Kind::Framing
    }

    fn take_frame_header(&mut self, header: &FrameHeader, header_length: u64) {
        self.end_frame(false); // its payload was left out
        if may_keep_alive(header) {
            self.frame = Some(Frame { header_length, length: header.length, payload: Front::default() });
        } else {
            self.decided.count(Part::FrameHeader(*header).kind(), header_length);
        }
    }

    fn take_payload(&mut self, bytes: &[u8]) {
        let Some(frame) = &mut self.frame else { return };
        frame.payload.add(bytes);
        if frame.payload.length >= frame.length {
            let keeps_alive = frame.payload.is(Candidate::Frame, self.says);
            self.end_frame(keeps_alive);
        }
    }

    fn end_frame(&mut self, keeps_alive: bool) {
        let Some(Frame { header_length, payload, .. }) = self.frame.take() else { return };
        let (header, content) =
            if keeps_alive { (Kind::KeepAlive, Kind::KeepAlive) } else { (Kind::Framing, Kind::Payload) };
        self.decided.count(header, header_length);
        self.decided.count(content, payload.length);
    }
}

/// The number of bytes of a `data` line before its value: the name, the colon and one space.
fn before_value(front: &Front, end: u64) -> u64 {
    let bytes = front.bytes();
    match bytes.iter().position(|&byte| byte == b':') {
        Some(colon) => colon as u64 + if bytes.get(colon + 1) == Some(&b' ') { 2 } else { 1 },
        None => front.length - end,
    }
}
