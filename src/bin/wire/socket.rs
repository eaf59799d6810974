//! WebSocket: lines of standard input out, whatever the server sends in.
//!
//! The program never waits for the server to take something: a server that sends takes nothing until it is read. So
//! threads wait for bytes and for lines, and what is written is written in between, a little at a time.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Read};
use std::mem;
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use overwire::Parse;
use overwire::http;
use overwire::random::Random;
use overwire::websocket::{self, Close, CloseCode, HandshakeError, Opcode, ProtocolError, Received};
use overwire::wire::Piece;

use crate::End;
use crate::connection::{Connection, NOT_TAKEN, WRITE_TIMEOUT, reason};
use crate::options::{self, Options};
use crate::outgoing::Outgoing;
use crate::printer::Way;
use crate::session;
use crate::view::{Seen, View};

/// How long the server may take for the opening handshake.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// How long the server may take to answer a Close, and then to close the connection.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How long one attempt to write may take, while nothing is read.
const ATTEMPT: Duration = Duration::from_millis(10);

/// How long the content of a refusal may take, and how much of it is shown, in bytes.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const MAX_REFUSAL: usize = 16 * 1024;

/// How much may be waiting to be looked at, and how many lines may be read ahead.
const BACKLOG: usize = 64;
const LINES_AHEAD: usize = 16;

/// With so many bytes waiting to be sent, only the latest Ping is answered (RFC 6455, section 5.5.3).
const MAX_PONGS: usize = 64 * 1024;

/// What the threads report that wait for bytes and for lines.
enum Input {
    Bytes(Vec<u8>),
    /// Nothing more will come, and why.
    End(String),
    /// What was typed; `None` is the end.
    Line(Option<String>),
}

pub fn run(options: &Options, view: &mut View) -> Result<(), End> {
    let connection = Connection::open(&options.url, view)?.map_err(End::Failed)?;
    let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
    let (reader, writer) = connection.split(ATTEMPT).map_err(|error| End::Failed(reason(&error)))?;
    let (sender, inputs) = mpsc::sync_channel(BACKLOG);
    let bytes = sender.clone();
    thread::spawn(move || read_bytes(reader, &bytes));
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

fn read_bytes(mut stream: TcpStream, sender: &SyncSender<Input>) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let input = match stream.read(&mut bytes) {
            Ok(0) => Input::End("the server closed the connection".to_owned()),
            Ok(count) => Input::Bytes(bytes[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Input::End(reason(&error)),
        };
        let is_last = matches!(input, Input::End(_));
        if sender.send(input).is_err() || is_last {
            return;
        }
    }
}

/// Reads a line for each permit: whoever types is held back by a server that takes nothing.
fn read_lines(permits: &Receiver<()>, sender: &SyncSender<Input>) {
    let mut lines = io::stdin().lock().split(b'\n');
    while permits.recv().is_ok() {
        let line = lines.next().and_then(Result::ok).map(|mut line| {
            if line.ends_with(b"\r") {
                line.pop();
            }
            String::from_utf8_lossy(&line).into_owned()
        });
        let is_last = line.is_none();
        if sender.send(Input::Line(line)).is_err() || is_last {
            return;
        }
    }
}

struct Socket<'a> {
    options: &'a Options,
    connection: Connection,
    writer: TcpStream,
    outgoing: Outgoing,
    /// Why nothing more can be sent.
    lost: Option<String>,
    random: Random,
    /// One for each line that may be read.
    permits: Sender<()>,
    /// What was typed and is not sent yet; `None` is the end.
    lines: VecDeque<Option<String>>,
    /// `/wait` holds the lines back.
    waits: bool,
    /// How many messages, Pongs and Closes came since the last line was sent, without a `/wait` for them.
    unclaimed: usize,
    /// What the latest Ping is answered with, once there is room for it.
    pong: Option<Vec<u8>>,
    has_sent_close: bool,
    /// It has been said that nothing may follow a Close.
    has_refused: bool,
    /// The status code of the Close that began the closing handshake, if it was sent and not received.
    began_closing: Option<Option<u16>>,
    received_close: Option<Close>,
    /// The head that came last is of an interim response.
    is_interim: bool,
    /// When the closing handshake must be over.
    deadline: Option<Instant>,
    /// Pieces that came with the handshake's answer.
    pending: VecDeque<Piece>,
}

impl Socket<'_> {
    fn handshake(&mut self, inputs: &Receiver<Input>, view: &mut View) -> Result<(), End> {
        let key = self.send_request(view)?;
        let offered: Vec<&[u8]> =
            self.options.values("sec-websocket-protocol").flat_map(|v| http::list(v.as_bytes())).collect();
        let offered: Vec<&str> = offered.into_iter().filter_map(|name| str::from_utf8(name).ok()).collect();
        let limit = self.options.timeout.unwrap_or(OPENING_TIME);
        let mut deadline = Instant::now() + limit;
        let (mut answer, mut outcome, mut shown) = (Vec::new(), Ok(Parse::Partial), 0);
        loop {
            let (bytes, end) = match inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Input::Bytes(bytes)) => (bytes, None),
                Ok(Input::End(why)) => (Vec::new(), Some(format!("{why} before it answered the opening handshake"))),
                _ => {
                    let limit = session::seconds(limit);
                    (Vec::new(), Some(format!("the server did not answer the opening handshake within {limit}")))
                }
            };
            if let Ok(Parse::Partial) = outcome {
                answer.extend_from_slice(&bytes);
                outcome = websocket::parse_response(&answer, &key, &offered);
                if outcome.is_err() {
                    deadline = deadline.min(Instant::now() + REFUSAL_TIME);
                }
            }
            self.pending.extend(self.connection.label(&bytes));
            if end.is_some() {
                self.pending.extend(self.connection.end());
            }
            shown += bytes.len();
            let is_over = self.show_answer(view)? || end.is_some() || shown > MAX_REFUSAL;
            match outcome {
                Ok(Parse::Complete { .. }) => return Ok(()),
                Err(error) if is_over || !matches!(error, HandshakeError::Refused(_)) => {
                    view.flush()?;
                    return Err(End::Failed(format!("{error} ({})", error.section())));
                }
                _ => {}
            }
            if let Some(why) = end {
                view.flush()?;
                return Err(End::Failed(why));
            }
        }
    }

    /// Sends the opening handshake; its key.
    fn send_request(&mut self, view: &mut View) -> Result<String, End> {
        let key = self.options.key.clone().unwrap_or_else(|| websocket::encode_key(self.random.bytes()));
        let fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", &key),
            ("Sec-WebSocket-Version", "13"),
        ];
        let request = session::request(self.options, &self.options.url.target, &fields);
        self.send_bytes(&request, view)?;
        // Until it is all sent there is nothing to read.
        let limit = self.options.timeout.unwrap_or(OPENING_TIME);
        while self.outgoing.len() > 0 && !self.outgoing.is_stuck(limit, Instant::now()) {
            self.write();
        }
        let key = self.options.values("sec-websocket-key").next().map_or(key, str::to_owned);
        Ok(key)
    }

    /// Shows the answer to the handshake, up to its end, which is told.
    fn show_answer(&mut self, view: &mut View) -> Result<bool, End> {
        while let Some(piece) = self.pending.pop_front() {
            for seen in view.show(Way::Received, piece)? {
                match seen {
                    Seen::Status(status) => self.is_interim = status < 200 && status != 101,
                    Seen::MessageEnd if !self.is_interim => return Ok(true),
                    Seen::Broken(_) => return Ok(true),
                    _ => {}
                }
            }
        }
        Ok(false)
    }

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
            // While something waits to be sent, what is here is read, and nothing is waited for.
            let mut input = match self.outgoing.len() {
                0 => self.wait(inputs),
                _ => inputs.try_recv().ok(),
            };
            let mut count = 0;
            while let Some(what) = input.take() {
                match what {
                    Input::Bytes(bytes) => self.pending.extend(self.connection.label(&bytes)),
                    Input::End(why) => {
                        let pieces = self.pending.drain(..).collect();
                        self.show(pieces, view)?;
                        return self.end(&why, view);
                    }
                    Input::Line(line) => self.lines.push_back(line),
                }
                count += 1;
                if self.outgoing.len() > 0 && count < BACKLOG {
                    input = inputs.try_recv().ok();
                }
            }
        }
    }

    /// The next input, unless the deadline comes first.
    fn wait(&self, inputs: &Receiver<Input>) -> Option<Input> {
        match self.deadline {
            None => inputs.recv().ok(),
            Some(deadline) => inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
        }
    }

    /// Shows what the server sent, and answers each frame as it comes.
    fn show(&mut self, pieces: Vec<Piece>, view: &mut View) -> Result<(), End> {
        let mut fault = None;
        for piece in pieces {
            for seen in view.show(Way::Received, piece)? {
                match seen {
                    Seen::Frame(received) => self.react(received, view)?,
                    Seen::Violation(error) => fault = fault.or(Some(error)),
                    Seen::Broken(overwire::wire::Fault::Frame(error)) => fault = fault.or(Some(error)),
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

    /// Sends what waits to be sent, and then the lines that may be sent: none while something waits.
    fn send_waiting(&mut self, view: &mut View) -> Result<(), End> {
        self.write();
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
            // Behind a Close nothing may be sent (section 5.5.1).
            if self.received_close.is_some() || view.is_done() {
                return Ok(());
            }
            let Some(line) = self.lines.pop_front() else { return Ok(()) };
            let _ = self.permits.send(()); // unless that was the last
            match line {
                Some(line) => self.carry_out(&line, view)?,
                None if self.options.count.is_none() && !self.has_sent_close && !io::stdin().is_terminal() => {
                    self.send(Opcode::Close, &websocket::close(CloseCode::NORMAL, ""), view)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, line: &str, view: &mut View) -> Result<(), End> {
        if self.has_sent_close && !line.starts_with("/wait") && !line.starts_with("/hex") {
            return match mem::replace(&mut self.has_refused, true) {
                true => Ok(()), // it is said once
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
            // If it could not be labelled, because of what was sent before it.
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

    fn send_bytes(&mut self, bytes: &[u8], view: &mut View) -> Result<(), End> {
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

    fn write(&mut self) {
        if let Err(error) = self.outgoing.write(&mut self.writer, Instant::now()) {
            // What the server sent before is still to be shown.
            self.lost = Some(reason(&error));
            self.outgoing = Outgoing::default();
            self.deadline.get_or_insert(Instant::now() + self.closing_time());
        }
    }

    /// The connection has ended: was it a closing handshake?
    fn end(&mut self, why: &str, view: &mut View) -> Result<(), End> {
        let pieces = self.connection.end();
        self.show(pieces, view)?;
        view.flush()?;
        view.remark(why)?;
        match &self.received_close {
            Some(Close { code: Some(CloseCode::NORMAL | CloseCode::GOING_AWAY), .. }) => Ok(()),
            // The answer to a Close typically has its code (section 5.5.1); one without a code refuses nothing either.
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
