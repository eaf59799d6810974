//! Turns labelled pieces into rows, and says what they amount to. How the bytes were cut when they
//! came does not show: what belongs together is kept until it is whole.

use std::io;
use std::mem;

use overwire::websocket::{FrameHeader, Message, Opcode, ProtocolError, Received, Receiver, Role};
use overwire::wire::{Fault, Line, LinePart, Part, Piece, count_of_bytes};

use crate::options::{Options, Transport};
use crate::printer::{Printer, ROW, Way, escape, hex, rows_of_text};

/// How many rows of a payload are shown without `--all`.
const SHORT: usize = 4;

/// How many bytes of a line of content stand in a row, if its format is not known.
const LONG: usize = 64 * 1024;

/// The longest line that is put together, if the format of the content is not known, in bytes.
const MAX_LINE: usize = 1024 * 1024;

/// The longest message that is put together, in bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// What a piece amounts to.
#[derive(Debug)]
pub enum Seen {
    /// The status of an answer whose head is here.
    Status(u16),
    /// A field of a head.
    Field(String, Vec<u8>),
    /// The head is here.
    Head,
    /// Content without its transfer coding.
    Content(Vec<u8>),
    /// A line of content is complete.
    Line(LinePart),
    /// The answer is complete.
    MessageEnd,
    /// A message or a control frame is complete.
    Frame(Received),
    /// A message or a control frame is not as it should be.
    Violation(ProtocolError),
    /// Nothing behind this can be understood.
    Broken(Fault),
}

/// What one side sent, as far as it is not all shown.
struct Side {
    /// Content that has no line end yet.
    content: Vec<u8>,
    /// What content is called that is not of a known format.
    name: &'static str,
    /// The line that is not all here, of a stream of no known format: what is shown of it may be in several rows.
    line: Vec<u8>,
    frame: Option<FrameHeader>,
    /// The payload of the frame, as it is on the wire and unmasked.
    payload: (Vec<u8>, Vec<u8>),
    arrived: u64,
    /// How many frames the message has so far.
    frames: usize,
    /// None once it has been told that the protocol is violated.
    receiver: Option<Receiver>,
}

pub struct View {
    pub printer: Printer,
    rows: usize,
    /// How many messages are still to be shown.
    left: Option<u64>,
    /// What is counted.
    transport: Transport,
    /// The status of the last answer.
    status: u16,
    /// Of what is received only the Close is shown.
    only_close: bool,
    sent: Side,
    received: Side,
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
        }
    }
}

impl View {
    pub fn new(options: &Options) -> Self {
        View {
            printer: Printer::new(),
            rows: if options.all { usize::MAX / ROW } else { SHORT },
            left: options.count,
            transport: options.transport,
            status: 0,
            only_close: false,
            sent: Side::new(Role::Client),
            received: Side::new(Role::Server),
        }
    }

    /// What comes next is a new connection.
    pub fn reconnect(&mut self) {
        (self.sent, self.received) = (Side::new(Role::Client), Side::new(Role::Server));
    }

    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        self.printer.remark(text)
    }

    /// Counts a message; once `--count` of them are here, nothing more is shown.
    pub fn count(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// A line, or an event, is a message in a stream; the answer to a poll is one as a whole.
    fn count_line(&mut self) {
        if self.status == 200 && self.transport != Transport::Poll {
            self.count();
        }
    }

    /// From now on, only the Close is shown of what is received.
    pub fn show_only_close(&mut self) {
        self.only_close = true;
    }

    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Prints the pieces, and what is wrong with them behind them.
    pub fn show_sent(&mut self, pieces: Vec<Piece>) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for piece in pieces {
            seen.extend(self.show(Way::Sent, piece)?);
        }
        for seen in &seen {
            match seen {
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
                self.flush_content(way, "")?;
                self.dump(way, name, &piece.bytes, &rows_of_text(&piece.bytes))?;
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
        let meaning = match piece.part {
            Part::ChunkSize(size) => count_of_bytes(size), // the hex digits are in the row already
            _ => piece.meaning(),
        };
        self.printer.row(way, name, &escape(&piece.bytes), &meaning)?;
        Ok(seen(piece))
    }

    fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::Sent => &mut self.sent,
            Way::Received => &mut self.received,
        }
    }

    /// Content is shown line by line.
    fn content(&mut self, way: Way, name: &'static str, piece: Piece) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        self.side(way).name = if piece.lines.is_empty() { name } else { LinePart::Cut.name() };
        // Content of a format that is not known is shown line by line as well.
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
        for part in line.chunks(LONG) {
            self.side(way).content.extend_from_slice(part);
            if self.side(way).content.len() > LONG {
                let rest = self.side(way).content.split_off(LONG);
                let front = mem::replace(&mut self.side(way).content, rest);
                self.printer.row(way, name, &escape(&front), "")?;
            }
        }
        let is_whole = line.ends_with(b"\n");
        if is_whole {
            let rest = mem::take(&mut self.side(way).content);
            self.printer.row(way, name, &escape(&rest), "")?;
        }
        if self.transport != Transport::Stream || self.status != 200 {
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

    /// Shows the part of a line behind which the chunk or the content ends.
    fn flush_content(&mut self, way: Way, meaning: &str) -> io::Result<()> {
        let (rest, name) = (mem::take(&mut self.side(way).content), self.side(way).name);
        let meaning = if name == LinePart::Cut.name() { meaning } else { "" };
        if rest.is_empty() { Ok(()) } else { self.printer.row(way, name, &escape(&rest), meaning) }
    }

    fn frame_header(&mut self, way: Way, header: FrameHeader, piece: &Piece) -> io::Result<Vec<Seen>> {
        if self.is_shown(way, header.opcode) {
            self.printer.row(way, piece.part.name(), &hex(&piece.bytes), &piece.meaning())?;
        }
        let side = self.side(way);
        (side.frame, side.arrived) = (Some(header), 0);
        if !header.opcode.is_control() {
            side.frames += 1;
        }
        if header.length == 0 {
            side.frame = None;
        }
        self.receive(way, &piece.bytes)
    }

    fn payload(&mut self, way: Way, piece: &Piece) -> io::Result<Vec<Seen>> {
        // A character that begins in the last row may end behind it.
        let room = self.rows.saturating_mul(ROW).saturating_add(3);
        let unmasked = piece.unmasked();
        let side = self.side(way);
        let taken = piece.bytes.len().min(room - side.payload.0.len());
        side.payload.0.extend_from_slice(&piece.bytes[..taken]);
        side.payload.1.extend_from_slice(&unmasked[..taken]);
        side.arrived += piece.bytes.len() as u64;
        if side.frame.is_some_and(|frame| frame.length == side.arrived) {
            self.show_payload(way)?;
        }
        self.receive(way, &piece.bytes)
    }

    fn is_shown(&self, way: Way, opcode: Opcode) -> bool {
        !self.only_close || way == Way::Sent || opcode == Opcode::Close
    }

    /// Shows the payload of a frame as far as it is here.
    fn show_payload(&mut self, way: Way) -> io::Result<()> {
        let rows = self.rows;
        let side = self.side(way);
        let Some(frame) = side.frame.take() else { return Ok(()) };
        let (payload, unmasked) = mem::take(&mut side.payload);
        let arrived = side.arrived;
        if !self.is_shown(way, frame.opcode) {
            return Ok(());
        }
        let mut text = rows_of_text(&unmasked);
        if let (Opcode::Close, [high, low, reason @ ..]) = (frame.opcode, &unmasked[..]) {
            // The code stands where its two bytes do.
            let code = format!("{} ", u16::from_be_bytes([*high, *low]));
            text = rows_of_text(&[b"  ", reason].concat());
            text[0] = (code + text[0].get(2..).unwrap_or_default()).trim_end().to_owned();
        }
        let shown = payload.len().min(rows.saturating_mul(ROW));
        self.dump(way, "payload", &payload[..shown], &text)?;
        let left_out = arrived - shown as u64;
        if left_out > 0 {
            self.printer.row(way, "payload", &format!("... and {} more", count_of_bytes(left_out)), "")?;
        }
        Ok(())
    }

    fn dump(&mut self, way: Way, name: &'static str, dumped: &[u8], text: &[String]) -> io::Result<()> {
        for (row, text) in dumped.chunks(ROW).zip(text) {
            self.printer.row(way, name, &hex(row), text)?;
        }
        Ok(())
    }

    /// Puts messages together, and checks what the header of a frame does not show.
    fn receive(&mut self, way: Way, bytes: &[u8]) -> io::Result<Vec<Seen>> {
        let side = self.side(way);
        let Some(receiver) = &mut side.receiver else { return Ok(Vec::new()) };
        match receiver.receive(bytes, MAX_MESSAGE) {
            Ok((_, None)) => Ok(Vec::new()),
            Ok((_, Some(received))) => {
                if let Received::Message(message) = &received {
                    let frames = mem::take(&mut side.frames);
                    self.message(way, message, frames)?;
                }
                Ok(vec![Seen::Frame(received)])
            }
            Err(error) => {
                side.receiver = None;
                Ok(vec![Seen::Violation(error)])
            }
        }
    }

    /// A text that does not stand in one row is shown whole.
    fn message(&mut self, way: Way, message: &Message, frames: usize) -> io::Result<()> {
        if way == Way::Received {
            self.count();
        }
        match message {
            Message::Text(text) if self.is_shown(way, Opcode::Text) && (frames > 1 || text.len() > ROW) => {
                self.printer.row(way, "text message", &escape(text.as_bytes()), "")
            }
            _ => Ok(()),
        }
    }

    /// The connection is over: shows what was kept because it was not whole.
    pub fn flush(&mut self) -> io::Result<()> {
        for way in [Way::Sent, Way::Received] {
            self.flush_content(way, "")?;
            self.show_payload(way)?;
        }
        Ok(())
    }
}

/// What a line of a head amounts to.
fn seen(piece: Piece) -> Vec<Seen> {
    match piece.part {
        Part::StatusLine(status) => vec![Seen::Status(status)],
        Part::HeadEnd(_) => vec![Seen::Head],
        Part::FieldLine => {
            let line = piece.bytes.trim_ascii_end();
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            vec![Seen::Field(name, line.get(colon + 1..).unwrap_or_default().trim_ascii().to_vec())]
        }
        _ => Vec::new(),
    }
}
