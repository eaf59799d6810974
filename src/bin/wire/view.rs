//! Prints labelled pieces as rows, and returns the parts of messages that they complete. Lines, payloads and messages
//! are kept until they are whole, so the rows do not depend on how the bytes were cut.

use std::borrow::Cow;
use std::io;
use std::mem;

use overwire::http;
use overwire::websocket::{FrameHeader, ProtocolError, Received, Receiver, Role};
use overwire::wire::{Fault, Line, LinePart, Part, Piece, Secrets, count_of_bytes};

use crate::options::{Command, Options};
use crate::printer::{Printer, ROW, Way, escape, rows_of_text};

/// The number of payload rows without `--all`.
const PAYLOAD_ROWS: usize = 4;

/// The longest row of content whose format is unknown, in bytes.
const MAX_ROW: usize = 64 * 1024;

/// The longest line of content whose format is unknown, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// A complete part of a message.
#[derive(Debug)]
pub enum Seen {
    /// The status of an answer.
    Status(u16),
    /// A field of a head: its name in lower case, and its value.
    Field(String, Vec<u8>),
    /// A head is complete.
    Head,
    /// Content without its transfer coding.
    Content(Vec<u8>),
    /// A line of content is complete.
    Line(LinePart),
    /// An HTTP message is complete.
    MessageEnd,
    /// A WebSocket message or a control frame is complete.
    Frame(Received),
    /// A message or a control frame violates the protocol.
    Violation(ProtocolError),
    /// All later bytes of this direction are unlabelled.
    Broken(Fault),
}

/// The incomplete parts of one direction.
pub struct Side {
    /// Content without a line end.
    pub content: Vec<u8>,
    /// The name that the row of `content` gets.
    pub name: &'static str,
    /// The incomplete line of a stream whose format is unknown. Several rows may show it.
    pub line: Vec<u8>,
    pub frame: Option<FrameHeader>,
    /// The payload of the frame, first as on the wire, then unmasked. Only the part that the rows show.
    pub payload: (Vec<u8>, Vec<u8>),
    /// The number of payload bytes of the frame that have arrived.
    pub arrived: u64,
    /// The number of frames of the message so far.
    pub frames: usize,
    /// `None` after a violation.
    pub receiver: Option<Receiver>,
    /// What hides secrets from the rows.
    secrets: Secrets,
}

pub struct View {
    pub printer: Printer,
    pub rows: usize,
    /// The number of messages that `--count` still allows. `None` without `--count`.
    pub left: Option<u64>,
    /// The command, which decides what counts as a message.
    pub command: Command,
    /// The status of the last answer.
    pub status: u16,
    /// Whether a Close is the only received frame that is printed.
    pub only_close: bool,
    /// Whether secrets are printed.
    shows_secrets: bool,
    pub sent: Side,
    pub received: Side,
}

impl Side {
    fn new(role: Role) -> Self {
        Side {
            content: Vec::new(),
            name: "content",
            line: Vec::new(),
            frame: None,
            payload: Default::default(),
            arrived: 0,
            frames: 0,
            receiver: Some(Receiver::new(role)),
            secrets: Secrets::default(),
        }
    }
}

impl View {
    pub fn new(options: &Options) -> Self {
        View {
            printer: Printer::new(options.frames),
            rows: if options.all { usize::MAX / ROW } else { PAYLOAD_ROWS },
            left: options.count,
            command: options.command,
            status: 0,
            only_close: false,
            shows_secrets: options.shows_secrets,
            sent: Side::new(Role::Client),
            received: Side::new(Role::Server),
        }
    }

    /// Forgets the incomplete parts of the last connection.
    pub fn reconnect(&mut self) {
        (self.sent, self.received) = (Side::new(Role::Client), Side::new(Role::Server));
    }

    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        let text = masked(text, self.shows_secrets);
        self.printer.remark(&text)
    }

    /// Leaves out all rows and remarks, or prints them again.
    pub fn mute(&mut self, is_muted: bool) {
        self.printer.is_muted = is_muted;
    }

    /// Counts a message. After `--count` messages, nothing more is printed.
    pub fn count(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// Counts a line or an event as a message. `wire poll` counts answers instead.
    fn count_line(&mut self) {
        if self.status == 200 && self.command != Command::Poll {
            self.count();
        }
    }

    /// Hides all later received frames except a Close.
    pub fn show_only_close(&mut self) {
        self.only_close = true;
    }

    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Prints the pieces, and then their violations.
    pub fn show_sent(&mut self, pieces: Vec<Piece>) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for piece in pieces {
            seen.extend(self.show(Way::Sent, piece)?);
        }
        for part in &seen {
            match part {
                Seen::Broken(fault) => self.remark(&format!("this violates {}: {fault}", fault.section()))?,
                Seen::Violation(error) => self.remark(&format!("this violates {}: {error}", error.section()))?,
                _ => {}
            }
        }
        Ok(seen)
    }

    pub fn show(&mut self, way: Way, piece: Piece) -> io::Result<Vec<Seen>> {
        let name = piece.part.name();
        match piece.part {
            Part::Content | Part::ChunkData => return self.content(way, name, piece),
            Part::FrameHeader(header) => return self.frame_header(way, header, &piece),
            Part::Payload { .. } => return self.payload(way, &piece),
            Part::Unlabelled if self.only_close && way == Way::Received => return Ok(Vec::new()),
            Part::Unlabelled => {
                let shown = self.masked(way, &piece);
                self.flush_content(way, "")?;
                self.dump(way, name, &shown.bytes, &rows_of_text(&shown.bytes))?;
                return Ok(Vec::new());
            }
            Part::Broken(fault) => return Ok(vec![Seen::Broken(fault)]),
            _ => {}
        }
        self.flush_content(way, if piece.part == Part::ChunkEnd { "goes on in the next chunk" } else { "" })?;
        if let Part::MessageEnd = piece.part {
            return Ok(vec![Seen::MessageEnd]);
        }
        if let Part::StatusLine(status) = piece.part {
            self.status = status;
            self.side(way).line.clear();
        }
        let shown = self.masked(way, &piece);
        let meaning = match piece.part {
            Part::ChunkSize(size) => count_of_bytes(size), // the hex digits are in the row already
            _ => shown.meaning(),
        };
        self.printer.row(way, name, &escape(&shown.bytes), &meaning)?;
        Ok(seen(piece))
    }

    /// Returns a piece as it is printed. The program goes on with the real one.
    fn masked<'a>(&mut self, way: Way, piece: &'a Piece) -> Cow<'a, Piece> {
        let mut shown = Cow::Borrowed(piece);
        if !self.shows_secrets {
            self.side(way).secrets.hide(shown.to_mut());
        }
        shown
    }

    /// The incomplete parts of this direction.
    pub fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::Sent => &mut self.sent,
            Way::Received => &mut self.received,
        }
    }

    /// Prints content line by line.
    fn content(&mut self, way: Way, name: &'static str, piece: Piece) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        self.side(way).name = if piece.lines.is_empty() { name } else { LinePart::Cut.name() };
        let is_known = !piece.lines.is_empty();
        let plain = piece.bytes.split_inclusive(|&byte| byte == b'\n').filter(|_| !is_known);
        for line in plain {
            if self.is_done() {
                break;
            }
            seen.extend(self.plain_line(way, name, line)?);
        }
        for line in piece.lines {
            if self.is_done() {
                break;
            }
            seen.extend(self.line(way, line)?);
        }
        seen.push(Seen::Content(piece.bytes));
        Ok(seen)
    }

    fn plain_line(&mut self, way: Way, name: &'static str, line: &[u8]) -> io::Result<Option<Seen>> {
        for part in line.chunks(MAX_ROW) {
            self.side(way).content.extend_from_slice(part);
            if self.side(way).content.len() > MAX_ROW {
                let rest = self.side(way).content.split_off(MAX_ROW);
                let front = mem::replace(&mut self.side(way).content, rest);
                self.printer.row(way, name, &escape(&front), "")?;
            }
        }
        let is_whole = line.ends_with(b"\n");
        if is_whole {
            let rest = mem::take(&mut self.side(way).content);
            self.printer.row(way, name, &escape(&rest), "")?;
        }
        if self.command != Command::Stream || self.status != 200 {
            return Ok(None);
        }
        let kept = &mut self.side(way).line;
        if kept.len() + line.len() > MAX_LINE {
            return Ok(Some(Seen::Line(LinePart::TooLong)));
        }
        kept.extend_from_slice(line);
        let whole = if is_whole { mem::take(kept) } else { return Ok(None) };
        if whole.trim_ascii().is_empty() {
            return Ok(None);
        }
        self.count_line();
        Ok(Some(Seen::Line(LinePart::Json(whole))))
    }

    fn line(&mut self, way: Way, line: Line) -> io::Result<Option<Seen>> {
        let mut whole = mem::take(&mut self.side(way).content);
        whole.extend_from_slice(&line.bytes);
        if let LinePart::Cut = line.part {
            self.side(way).content = whole;
            return Ok(None);
        }
        let meaning = escape(line.meaning().as_bytes());
        self.printer.row(way, line.part.name(), &escape(&whole), &meaning)?;
        if matches!(line.part, LinePart::EventEnd(Some(_)) | LinePart::Json(_)) {
            self.count_line();
        }
        Ok(Some(Seen::Line(line.part)))
    }

    /// Prints the incomplete line at the end of a chunk or of the content.
    fn flush_content(&mut self, way: Way, meaning: &str) -> io::Result<()> {
        let (rest, name) = (mem::take(&mut self.side(way).content), self.side(way).name);
        let meaning = if name == LinePart::Cut.name() { meaning } else { "" };
        if rest.is_empty() { Ok(()) } else { self.printer.row(way, name, &escape(&rest), meaning) }
    }

    /// Prints the incomplete parts at the end of a connection.
    pub fn flush(&mut self) -> io::Result<()> {
        for way in [Way::Sent, Way::Received] {
            self.flush_content(way, "")?;
            self.show_payload(way)?;
        }
        Ok(())
    }
}

/// Returns a text of the program as it is printed. It may have a URL.
pub fn masked(text: &str, shows_secrets: bool) -> Cow<'_, str> {
    if shows_secrets { text.into() } else { Secrets::hide_in_url(text) }
}

/// Returns the parts that a line of a head completes.
fn seen(piece: Piece) -> Vec<Seen> {
    match piece.part {
        Part::StatusLine(status) => vec![Seen::Status(status)],
        Part::HeadEnd(_) => vec![Seen::Head],
        Part::FieldLine => {
            let line = piece.bytes.trim_ascii_end();
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
            vec![Seen::Field(name, http::unfold(value).into_owned())]
        }
        _ => Vec::new(),
    }
}
