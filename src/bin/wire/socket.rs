//! WebSocket: sends lines of standard input and prints what the server sends.
//!
//! Writing never waits for the server: a server may read nothing until its own bytes are read. So one thread waits for
//! bytes and one for lines, and this one writes a little at a time in between.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use overwire::random::Random;
use overwire::websocket::{self, Close, CloseCode, Opcode, ProtocolError, Received};
use overwire::wire::{Fault, Piece};

use crate::End;
use crate::connection::{Connection, NOT_TAKEN, WRITE_TIMEOUT, reason};
use crate::input::{Input, Line, read_bytes, read_lines, watch_interrupts};
use crate::options::{self, Options};
use crate::outgoing::Outgoing;
use crate::printer::Way;
use crate::stream::Stream;
use crate::view::{Seen, View};

/// The default time limit of the closing handshake, to the end of the connection.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// The default time limit of the closing handshake after Ctrl+C.
const INTERRUPTED_TIME: Duration = Duration::from_secs(1);

/// The time limit of one write. Nothing is read in that time.
const ATTEMPT: Duration = Duration::from_millis(10);

/// The maximum number of inputs in the channel, and of lines that are read ahead.
const BACKLOG: usize = 64;
const LINES_AHEAD: usize = 16;

/// The number of queued bytes above which only the latest Ping is answered (RFC 6455, section 5.5.3).
const MAX_PONGS: usize = 64 * 1024;

pub fn run(options: &Options, view: &mut View) -> Result<(), End> {
    let connection = Connection::open(options, &options.url, view)?.map_err(End::Failed)?;
    let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
    let (reader, writer) = connection.split(ATTEMPT).map_err(|error| End::Failed(reason(&error)))?;
    let (sender, inputs) = mpsc::sync_channel(BACKLOG);
    let bytes = sender.clone();
    thread::spawn(move || read_bytes(reader, &bytes));
    watch_interrupts(sender.clone());
    let (permits, wanted) = mpsc::channel();
    let mut socket = Socket {
        options,
        connection,
        writer,
        outgoing: Outgoing::default(),
        lost: None,
        random,
        permits,
        lines: VecDeque::new(),
        waits: false,
        unclaimed: 0,
        pong: None,
        has_sent_close: false,
        has_refused: false,
        began_closing: None,
        received_close: None,
        is_interim: false,
        deadline: None,
        pending: VecDeque::new(),
    };
    socket.handshake(&inputs, view)?;
    thread::spawn(move || read_lines(&wanted, &sender));
    for _ in 0..LINES_AHEAD {
        let _ = socket.permits.send(());
    }
    socket.converse(&inputs, view)
}

/// The state of an open WebSocket, and of its handshakes.
pub struct Socket<'a> {
    pub options: &'a Options,
    pub connection: Connection,
    writer: Stream,
    pub outgoing: Outgoing,
    /// The reason why nothing more can be sent.
    lost: Option<String>,
    pub random: Random,
    /// Allows a line to be read, each.
    permits: Sender<()>,
    /// The lines that are not sent.
    lines: VecDeque<Line>,
    /// Whether `/wait` holds the lines back.
    waits: bool,
    /// The number of messages, Pongs and Closes since the last line was sent that no `/wait` has used.
    unclaimed: usize,
    /// The payload of a Pong that waits for room in the queue.
    pong: Option<Vec<u8>>,
    has_sent_close: bool,
    /// Whether the remark was printed that nothing may follow a Close.
    has_refused: bool,
    /// The status code of our Close, if it began the closing handshake.
    began_closing: Option<Option<u16>>,
    received_close: Option<Close>,
    /// Whether the last head is of an interim response.
    pub is_interim: bool,
    /// The end of the time for the closing handshake.
    deadline: Option<Instant>,
    /// Received pieces that are not printed.
    pub pending: VecDeque<Piece>,
}

impl Socket<'_> {
    fn converse(&mut self, inputs: &Receiver<Input>, view: &mut View) -> Result<(), End> {
        loop {
            let pieces = self.pending.drain(..).collect();
            self.show(pieces, view)?;
            self.send_waiting(view)?;
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return self.end("the server did not close the connection in time", view);
            }
            if self.outgoing.is_stuck(self.options.timeout.unwrap_or(WRITE_TIMEOUT), Instant::now()) {
                return self.end(NOT_TAKEN, view);
            }
            // With bytes in the queue, this does not wait for input.
            let mut input = match self.outgoing.len() {
                0 => self.wait(inputs),
                _ => inputs.try_recv().ok(),
            };
            let mut count = 0;
            while let Some(what) = input.take() {
                match what {
                    Input::Bytes(bytes) => self.pending.extend(self.connection.label(&bytes)),
                    Input::End(error) => {
                        let why = self.connection.end_reason(error.as_ref());
                        let pieces = self.pending.drain(..).collect();
                        self.show(pieces, view)?;
                        return self.end(&why, view);
                    }
                    Input::Line(line) => self.lines.push_back(line),
                    Input::Interrupt => self.interrupt(view)?,
                }
                count += 1;
                if self.outgoing.len() > 0 && count < BACKLOG {
                    input = inputs.try_recv().ok();
                }
            }
        }
    }

    /// Waits for the next input, at most until the deadline.
    fn wait(&self, inputs: &Receiver<Input>) -> Option<Input> {
        match self.deadline {
            None => inputs.recv().ok(),
            Some(deadline) => inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
        }
    }

    /// Prints received pieces and answers each frame in turn.
    fn show(&mut self, pieces: Vec<Piece>, view: &mut View) -> Result<(), End> {
        let mut fault = None;
        for piece in pieces {
            for seen in view.show(Way::Received, piece)? {
                match seen {
                    Seen::Frame(received) => self.react(received, view)?,
                    Seen::Violation(error) => fault = fault.or(Some(error)),
                    Seen::Broken(Fault::Frame(error)) => fault = fault.or(Some(error)),
                    _ => {}
                }
            }
        }
        match fault {
            Some(error) => self.fail(error, view),
            None => Ok(()),
        }
    }

    /// Fails the connection (RFC 6455, section 7.1.7).
    fn fail(&mut self, error: ProtocolError, view: &mut View) -> Result<(), End> {
        view.flush()?;
        if !self.has_sent_close {
            self.send(Opcode::Close, &websocket::close(error.close_code(), &error.to_string()), view)?;
        }
        Err(End::Failed(format!("{error} ({})", error.section())))
    }

    fn react(&mut self, received: Received, view: &mut View) -> Result<(), End> {
        if !matches!(received, Received::Ping(_)) {
            self.unclaimed += 1;
        }
        match received {
            Received::Ping(payload) if self.outgoing.len() > MAX_PONGS => self.pong = Some(payload),
            Received::Ping(payload) if !self.has_sent_close => self.send(Opcode::Pong, &payload, view)?,
            Received::Close(close) => {
                self.received_close.get_or_insert_with(|| close.clone());
                self.deadline.get_or_insert(Instant::now() + self.closing_time());
                if !self.has_sent_close {
                    // The status code is echoed (section 5.5.1).
                    let payload = close.code.map(|code| websocket::close(code, "")).unwrap_or_default();
                    self.send(Opcode::Close, &payload, view)?;
                }
            }
            Received::Message(_) if view.is_done() => {
                if !self.has_sent_close {
                    self.send(Opcode::Close, &websocket::close(CloseCode::NORMAL, ""), view)?;
                }
                view.show_only_close();
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the queue, and then sends lines while the queue is empty.
    fn send_waiting(&mut self, view: &mut View) -> Result<(), End> {
        self.write();
        if self.outgoing.len() == 0 && self.has_sent_close && self.received_close.is_some() {
            // The server closes the TCP connection first (section 7.1.1), but not every program ends with it.
            self.connection.finish();
        }
        while self.outgoing.len() == 0 && self.lost.is_none() {
            if let Some(payload) = self.pong.take().filter(|_| !self.has_sent_close) {
                self.send(Opcode::Pong, &payload, view)?;
                continue;
            }
            if self.waits {
                if self.unclaimed == 0 {
                    return Ok(());
                }
                (self.waits, self.unclaimed) = (false, self.unclaimed - 1);
            }
            // Nothing may follow a Close (section 5.5.1).
            if self.received_close.is_some() || view.is_done() {
                return Ok(());
            }
            let Some(line) = self.lines.pop_front() else { return Ok(()) };
            let _ = self.permits.send(()); // the thread may have ended
            match line {
                Line::Text(line) => self.carry_out(&line, view)?,
                Line::NotUtf8(number) => {
                    let sentence = format!("not sent: line {number} is not UTF-8, and a text message has to be");
                    view.remark(&format!("{sentence} (RFC 6455, section 5.6); /binary sends any bytes"))?;
                }
                Line::End if self.options.count.is_none() && !self.has_sent_close && !io::stdin().is_terminal() => {
                    self.send(Opcode::Close, &websocket::close(CloseCode::NORMAL, ""), view)?;
                }
                Line::End => {}
            }
        }
        Ok(())
    }

    /// Begins the closing handshake as a browser does that leaves the page, and waits for the server only shortly.
    fn interrupt(&mut self, view: &mut View) -> Result<(), End> {
        self.lines.clear();
        self.has_refused = true;
        if !self.has_sent_close {
            self.send(Opcode::Close, &websocket::close(CloseCode::GOING_AWAY, ""), view)?;
        }
        let limit = Instant::now() + self.options.timeout.unwrap_or(INTERRUPTED_TIME);
        self.deadline = Some(self.deadline.map_or(limit, |deadline| deadline.min(limit)));
        Ok(())
    }

    fn carry_out(&mut self, line: &str, view: &mut View) -> Result<(), End> {
        if self.has_sent_close && !line.starts_with("/wait") && !line.starts_with("/hex") {
            return match mem::replace(&mut self.has_refused, true) {
                true => Ok(()), // once is enough
                false => Ok(view.remark("not sent: nothing may follow a Close (RFC 6455, section 5.5.1)")?),
            };
        }
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let text = line.strip_prefix('/').filter(|_| line.starts_with("//")).unwrap_or(line);
            return self.send(Opcode::Text, text.as_bytes(), view);
        };
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        match name {
            "ping" => self.send(Opcode::Ping, rest.as_bytes(), view),
            "pong" => self.send(Opcode::Pong, rest.as_bytes(), view),
            "wait" => {
                self.waits = true;
                Ok(())
            }
            "binary" => match options::hex(rest) {
                Some(bytes) => self.send(Opcode::Binary, &bytes, view),
                None => Ok(view.remark("/binary: expected hex digits, such as 01 ff")?),
            },
            "hex" => match options::hex(rest) {
                Some(bytes) => self.send_bytes(&bytes, view),
                None => Ok(view.remark("/hex: expected hex digits, such as 81 85 37 fa 21 3d 7f 9f 4d 51 58")?),
            },
            "close" => self.close(rest, view),
            _ => Ok(view.remark(&format!("/{name} is unknown: a text that begins with / is written //{name}"))?),
        }
    }

    fn close(&mut self, text: &str, view: &mut View) -> Result<(), End> {
        let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
        let payload = match code.parse::<u16>() {
            _ if code.is_empty() => Vec::new(),
            // Any code, to see what the server does: `websocket::close` takes valid ones alone.
            Ok(code) => [&code.to_be_bytes()[..], &reason.as_bytes()[..reason.floor_char_boundary(123)]].concat(),
            Err(_) => return Ok(view.remark("/close: expected a status code, such as 1000, and a reason")?),
        };
        self.send(Opcode::Close, &payload, view)
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8], view: &mut View) -> Result<(), End> {
        let key = self.options.mask.unwrap_or_else(|| self.random.bytes());
        let mut frame = Vec::new();
        websocket::encode(&mut frame, opcode, payload, Some(key));
        self.send_bytes(&frame, view)?;
        if opcode == Opcode::Close {
            // After unlabelled bytes, the Close is unlabelled too.
            self.note_close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
        }
        Ok(())
    }

    fn note_close(&mut self, code: Option<u16>) {
        if !mem::replace(&mut self.has_sent_close, true) {
            self.began_closing = Some(code).filter(|_| self.received_close.is_none());
            self.deadline = Some(Instant::now() + self.closing_time());
        }
    }

    fn closing_time(&self) -> Duration {
        self.options.timeout.unwrap_or(CLOSING_TIME)
    }

    pub fn send_bytes(&mut self, bytes: &[u8], view: &mut View) -> Result<(), End> {
        if self.lost.is_some() {
            return Ok(());
        }
        self.unclaimed = 0;
        for seen in self.connection.show_sent(bytes, view)? {
            if let Seen::Frame(Received::Close(close)) = seen {
                self.note_close(close.code.map(CloseCode::get));
            }
        }
        let is_first = self.outgoing.len() == 0;
        self.outgoing.push(bytes, Instant::now());
        if is_first {
            self.write();
        }
        Ok(())
    }

    pub fn write(&mut self) {
        if let Err(error) = self.outgoing.write(&mut self.writer, Instant::now()) {
            // Bytes that the server sent before may still arrive.
            self.lost = Some(reason(&error));
            self.outgoing = Outgoing::default();
            self.deadline.get_or_insert(Instant::now() + self.closing_time());
        }
    }

    /// Ends the run with the connection: with success after a closing handshake.
    fn end(&mut self, why: &str, view: &mut View) -> Result<(), End> {
        let pieces = self.connection.end();
        self.show(pieces, view)?;
        view.flush()?;
        view.remark(why)?;
        match &self.received_close {
            Some(Close { code: Some(CloseCode::NORMAL | CloseCode::GOING_AWAY), .. }) => Ok(()),
            // The answer to a Close usually echoes its code (section 5.5.1). One without a code is fine too.
            Some(Close { code, .. })
                if self.began_closing.is_some_and(|sent| code.is_none() || code.map(CloseCode::get) == sent) =>
            {
                Ok(())
            }
            Some(Close { code, reason }) => {
                let code = code.map_or("no status code".to_owned(), |code| format!("status code {code}"));
                let reason = if reason.is_empty() { String::new() } else { format!(" and the reason \"{reason}\"") };
                Err(End::Failed(format!("the server closed with {code}{reason}")))
            }
            None => match &self.lost {
                Some(lost) => Err(End::Failed(format!("{NOT_TAKEN}: {lost}"))),
                None if self.outgoing.len() > 0 => Err(End::Failed(NOT_TAKEN.to_owned())),
                None => Err(End::Failed(format!("{why}, without a Close frame (RFC 6455, section 7.1.5)"))),
            },
        }
    }
}
