//! The lines in content: of an event stream (WHATWG HTML, section 9.2) and of newline-delimited JSON, across the
//! borders of chunks.

use std::mem;

use super::Kind;
use crate::bytes::digits;
use crate::sse;

/// The longest line, and the longest event with all its fields, in bytes. Comments are not kept, so only the length of
/// each is bounded.
const MAX_LENGTH: usize = 1024 * 1024;

/// The part of an event stream, or of lines of JSON, that a line is.
///
/// ```
/// use overwire::wire::{LinePart, Lines};
///
/// let mut lines = Lines::of_type(b"application/x-ndjson").expect("a known format");
/// let parts: Vec<_> = lines.read(b"[1]\n\n").into_iter().map(|line| line.part).collect();
/// assert_eq!(parts, [LinePart::Json(b"[1]".to_vec()), LinePart::Empty]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinePart {
    /// A line of an event stream that begins with a colon, and the text after it.
    Comment(String),
    /// A field of an event stream.
    Field {
        /// The text before the first colon. Unknown names are ignored.
        name: String,
        /// The text after it, without one space.
        value: String,
    },
    /// The empty line that ends an event, and the event that it dispatches: `None` without a `data` field.
    EventEnd(Option<sse::Event>),
    /// A complete line of JSON. Its syntax is not checked.
    Json(Vec<u8>),
    /// An empty line between lines of JSON. Readers ignore it.
    Empty,
    /// The front or the middle of a line, which continues in the next content. The last piece of the line says which
    /// part it is.
    Cut,
    /// The LF of a CRLF. Its CR was at the end of the previous content.
    LineFeed,
    /// A line or an event longer than 1 MiB, and all content after it.
    TooLong,
}

impl LinePart {
    /// The name in the standard.
    pub fn name(&self) -> &'static str {
        match self {
            LinePart::Comment(_) => "comment",
            LinePart::Field { name, .. } => match name.as_str() {
                "data" => "data field",
                "event" => "event field",
                "id" => "id field",
                "retry" => "retry field",
                _ => "unknown field",
            },
            LinePart::EventEnd(_) => "end of event",
            LinePart::Json(_) => "JSON line",
            LinePart::Empty => "empty line",
            LinePart::Cut => "part of line",
            LinePart::LineFeed => "line end",
            LinePart::TooLong => "too long",
        }
    }

    /// The section that defines the part. Empty for a part that nothing defines.
    pub fn section(&self) -> &'static str {
        match self {
            LinePart::Comment(_) | LinePart::LineFeed => "WHATWG HTML, section 9.2.5",
            LinePart::Field { .. } | LinePart::EventEnd(_) => "WHATWG HTML, section 9.2.6",
            LinePart::Json(_) => "NDJSON, section 3.1",
            LinePart::Empty => "NDJSON, section 3.2",
            LinePart::Cut | LinePart::TooLong => "",
        }
    }
}

/// The bytes of a line of content, or of the part of it that arrived.
///
/// ```
/// use overwire::wire::{Kind, Lines};
///
/// let mut lines = Lines::of_type(b"text/event-stream").expect("a known format");
/// let lines = lines.read(b": hello\nretry: 1500\n");
/// assert_eq!((lines[0].part.name(), lines[0].kind()), ("comment", Kind::KeepAlive));
/// assert_eq!((lines[1].part.name(), lines[1].meaning()), ("retry field", "reconnect after 1.500 s".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The part.
    pub part: LinePart,
    /// The bytes as they arrived, line end included.
    pub bytes: Vec<u8>,
    /// Whether the application sent it only to keep the connection open.
    pub(super) is_keep_alive: bool,
}

impl Line {
    pub(super) fn new(part: LinePart, bytes: &[u8]) -> Self {
        Line { part, bytes: bytes.to_vec(), is_keep_alive: false }
    }

    /// The meaning of the line in words. Empty if the bytes speak for themselves.
    pub fn meaning(&self) -> String {
        match &self.part {
            LinePart::EventEnd(Some(event)) => format!("dispatches an event of type {}", event.name),
            LinePart::EventEnd(None) => "dispatches nothing: no data".to_owned(),
            LinePart::Field { name, value } => match name.as_str() {
                "data" | "event" | "id" => String::new(),
                "retry" => reconnection_time(value),
                _ => "ignored".to_owned(),
            },
            _ => String::new(),
        }
    }

    /// The purpose of the line.
    pub fn kind(&self) -> Kind {
        match self.part {
            _ if self.is_keep_alive => Kind::KeepAlive,
            LinePart::Comment(_) | LinePart::Empty => Kind::KeepAlive,
            LinePart::TooLong => Kind::Problem,
            _ => Kind::Payload,
        }
    }

    /// Appends `next`, the following part, if both are of one line.
    ///
    /// # Errors
    /// `next`, if it is of another line.
    pub fn join(&mut self, next: Line) -> Result<(), Line> {
        match (&self.part, next.part) {
            (LinePart::Cut, part) => (self.part, self.is_keep_alive) = (part, next.is_keep_alive),
            (_, LinePart::LineFeed) | (LinePart::TooLong, LinePart::TooLong) => {}
            (_, part) => return Err(Line { part, ..next }),
        }
        self.bytes.extend_from_slice(&next.bytes);
        Ok(())
    }
}

/// `retry` counts milliseconds. A value with anything except digits is ignored (WHATWG HTML, section 9.2.6).
fn reconnection_time(value: &str) -> String {
    match digits(value.as_bytes()) {
        Some(time) => format!("reconnect after {}.{:03} s", time / 1000, time % 1000),
        None => "ignored".to_owned(),
    }
}

#[derive(Debug)]
enum Format {
    EventStream { reader: sse::Reader, begun: bool },
    Json,
}

/// The labels of lines in content: it takes content as it arrives and returns [`Line`]s.
///
/// ```
/// use overwire::wire::Lines;
///
/// let mut lines = Lines::of_type(b"text/event-stream; charset=utf-8").expect("a known format");
/// let names: Vec<_> = lines.read(b"data: a\n\nda").iter().map(|line| line.part.name()).collect();
/// assert_eq!(names, ["data field", "end of event", "part of line"]);
/// assert!(Lines::of_type(b"text/html").is_none());
/// ```
#[derive(Debug)]
pub struct Lines {
    format: Format,
    /// The incomplete line.
    line: Vec<u8>,
    /// Whether the last byte was the CR of a line end. A following LF belongs to it.
    after_cr: bool,
    /// The length of the event so far, without `line`.
    event: usize,
    too_long: bool,
}

impl Lines {
    /// The labels for content of this `Content-Type`: `text/event-stream` or `application/x-ndjson`. `None` for all
    /// others.
    pub fn of_type(content_type: &[u8]) -> Option<Self> {
        let essence = content_type.split(|&byte| byte == b';').next()?.trim_ascii();
        let format = if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Format::EventStream { reader: sse::Reader::default(), begun: false }
        } else if essence.eq_ignore_ascii_case(b"application/x-ndjson") {
            Format::Json
        } else {
            return None;
        };
        Some(Lines { format, line: Vec::new(), after_cr: false, event: 0, too_long: false })
    }

    /// The number of kept bytes of the incomplete line and event.
    pub(super) fn kept(&self) -> usize {
        self.line.len() + self.event
    }

    /// Labels `content`. Joined, the lines are exactly the content.
    pub fn read(&mut self, mut content: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while !content.is_empty() {
            let (part, length) = self.next(content);
            lines.push(Line::new(part, &content[..length]));
            content = &content[length..];
        }
        lines
    }

    fn next(&mut self, content: &[u8]) -> (LinePart, usize) {
        if self.too_long {
            return (LinePart::TooLong, content.len());
        }
        if mem::take(&mut self.after_cr) && content[0] == b'\n' {
            if let Format::EventStream { reader, .. } = &mut self.format {
                reader.read(b"\n");
            }
            return (LinePart::LineFeed, 1);
        }
        let end = self.line_end(content);
        let length = self.line.len() + end.map_or(content.len(), |(text, _)| text);
        let taken = end.map_or(content.len(), |(_, taken)| taken);
        let is_comment = self.line.first().or(content.first()) == Some(&b':');
        let before = if is_comment { 0 } else { self.event };
        if before + length > MAX_LENGTH {
            (self.too_long, self.line) = (true, Vec::new());
            return (LinePart::TooLong, content.len());
        }
        self.line.extend_from_slice(&content[..taken]);
        if end.is_none() {
            return (LinePart::Cut, taken);
        }
        let line = mem::take(&mut self.line);
        (self.end_line(line, length), taken)
    }

    /// The end of the line's text, and of its line end: LF in JSON, and LF, CRLF or CR in an event stream.
    fn line_end(&self, content: &[u8]) -> Option<(usize, usize)> {
        let is_end = |byte: &u8| match self.format {
            Format::EventStream { .. } => matches!(byte, b'\n' | b'\r'),
            Format::Json => *byte == b'\n',
        };
        let end = content.iter().position(is_end)?;
        Some((end, end + if content[end..].starts_with(b"\r\n") { 2 } else { 1 }))
    }

    /// Interprets a complete line, of `length` bytes without its line end.
    fn end_line(&mut self, mut line: Vec<u8>, length: usize) -> LinePart {
        match &mut self.format {
            Format::Json => {
                line.truncate(length);
                match line.trim_ascii() {
                    [] => LinePart::Empty,
                    _ => LinePart::Json(line),
                }
            }
            Format::EventStream { reader, begun } => {
                self.after_cr = line.ends_with(b"\r");
                let event = reader.read(&line).pop();
                let text = String::from_utf8_lossy(&line[..length]);
                let text =
                    if mem::replace(begun, true) { &text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
                if text.is_empty() {
                    self.event = 0;
                    return LinePart::EventEnd(event);
                }
                match sse::split_field(text) {
                    ("", comment) => LinePart::Comment(comment.to_owned()),
                    (name, value) => {
                        self.event += length + 1;
                        LinePart::Field { name: name.to_owned(), value: value.to_owned() }
                    }
                }
            }
        }
    }
}
