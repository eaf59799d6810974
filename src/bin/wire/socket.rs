//! WebSocket: lines of standard input out, whatever the server sends in.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Read};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use overwire::Parse;
use overwire::random::Random;
use overwire::websocket::{self, Close, HandshakeError, Opcode, ProtocolError, Received};

use crate::End;
use crate::connection::{Connection, reason};
use crate::options::{self, Options};
use crate::printer::Way;
use crate::view::{Seen, View};

/// How long the server may take to answer a Close, and then to close the connection.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How much may be waiting to be looked at.
const BACKLOG: usize = 64;

/// What the threads report that wait for bytes and for lines.
enum Input {
    Bytes(Vec<u8>),
    /// Nothing more will come, and why.
    End(String),
    Line(String),
    EndOfLines,
}

pub fn run(options: &Options, view: &mut View) -> Result<(), End> {
    let connection = Connection::open(&options.url, view)?.map_err(End::Failed)?;
    let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
    let reader = connection.reader().map_err(|error| End::Failed(reason(&error)))?;
    let (sender, inputs) = mpsc::sync_channel(BACKLOG);
    let bytes = sender.clone();
    thread::spawn(move || read_bytes(reader, &bytes));
    let mut socket = Socket {
        options,
        connection,
        random,
        lines: VecDeque::new(),
        waits: false,
        unclaimed: 0,
        has_sent_close: false,
        received_close: None,
        is_closed_by_server: false,
        deadline: None,
        pending: VecDeque::new(),
    };
    socket.handshake(&inputs, view)?;
    thread::spawn(move || read_lines(&sender));
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

fn read_lines(sender: &SyncSender<Input>) {
    for line in io::stdin().lock().split(b'\n') {
        let Ok(mut line) = line else { break };
        if line.ends_with(b"\r") {
            line.pop();
        }
        if sender.send(Input::Line(String::from_utf8_lossy(&line).into_owned())).is_err() {
            return;
        }
    }
    let _ = sender.send(Input::EndOfLines);
}

struct Socket<'a> {
    options: &'a Options,
    connection: Connection,
    random: Random,
    /// What was typed and is not sent yet; `None` is the end.
    lines: VecDeque<Option<String>>,
    /// `/wait` holds the lines back.
    waits: bool,
    /// How many messages, Pongs and Closes came since the last line was sent, without a `/wait` for them.
    unclaimed: usize,
    has_sent_close: bool,
    received_close: Option<Close>,
    /// The server began the closing handshake.
    is_closed_by_server: bool,
    /// When the closing handshake must be over.
    deadline: Option<Instant>,
    /// Pieces that came with the handshake's answer.
    pending: VecDeque<overwire::wire::Piece>,
}

impl Socket<'_> {
    fn handshake(&mut self, inputs: &Receiver<Input>, view: &mut View) -> Result<(), End> {
        let url = &self.options.url;
        let key = self.options.key.clone().unwrap_or_else(|| websocket::encode_key(self.random.bytes()));
        let mut request = websocket::opening_request(&url.authority, &url.target, &key);
        request.truncate(request.len() - 2);
        for (name, value) in &self.options.fields {
            request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        let _ = self.connection.send(&request, view)?;
        let (mut answer, mut outcome) = (Vec::new(), Ok(Parse::Partial));
        loop {
            let (bytes, end) = match inputs.recv() {
                Ok(Input::Bytes(bytes)) => (bytes, None),
                Ok(Input::End(why)) => (Vec::new(), Some(why)),
                _ => return Err(End::Failed("the connection ended".to_owned())),
            };
            if let Ok(Parse::Partial) = outcome {
                answer.extend_from_slice(&bytes);
                outcome = websocket::parse_response(&answer, &key);
            }
            self.pending.extend(self.connection.label(&bytes));
            if end.is_some() {
                self.pending.extend(self.connection.end());
            }
            let is_over = self.show_answer(view)? || end.is_some();
            match outcome {
                Ok(Parse::Complete { .. }) => return Ok(()),
                Err(error) if is_over || !matches!(error, HandshakeError::Refused(_)) => {
                    view.flush()?;
                    return Err(End::Failed(format!("{error} ({})", error.section())));
                }
                _ => {}
            }
            if let Some(why) = end {
                return Err(End::Failed(format!("{why} before it answered the opening handshake")));
            }
        }
    }

    /// Shows the answer to the handshake, up to its end, which is told.
    fn show_answer(&mut self, view: &mut View) -> Result<bool, End> {
        while let Some(piece) = self.pending.pop_front() {
            let seen = view.show(Way::Received, piece)?;
            if seen.iter().any(|seen| matches!(seen, Seen::MessageEnd | Seen::Broken(_))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn converse(&mut self, inputs: &Receiver<Input>, view: &mut View) -> Result<(), End> {
        loop {
            let pieces = self.pending.drain(..).collect();
            self.show(pieces, view)?;
            self.send_lines(view)?;
            let input = match self.deadline {
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match input {
                Ok(Input::Bytes(bytes)) => self.pending.extend(self.connection.label(&bytes)),
                Ok(Input::End(why)) => return self.end(&why, view),
                Ok(Input::Line(line)) => self.lines.push_back(Some(line)),
                Ok(Input::EndOfLines) => self.lines.push_back(None),
                Err(_) => return self.end("the server did not close the connection in time", view),
            }
        }
    }

    /// Shows what the server sent, and answers each frame as it comes.
    fn show(&mut self, pieces: Vec<overwire::wire::Piece>, view: &mut View) -> Result<(), End> {
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
            Received::Ping(payload) if !self.has_sent_close => self.send(Opcode::Pong, &payload, view)?,
            Received::Close(close) => {
                self.received_close = Some(close.clone());
                self.deadline = Some(Instant::now() + CLOSING_TIME);
                self.is_closed_by_server = !self.has_sent_close;
                if self.is_closed_by_server {
                    // The status code is echoed (section 5.5.1).
                    let payload = close.code.map(|code| websocket::close(code, "")).unwrap_or_default();
                    self.send(Opcode::Close, &payload, view)?;
                }
            }
            Received::Message(_) if view.is_done() && !self.has_sent_close => {
                self.send(Opcode::Close, &websocket::close(1000, ""), view)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends the lines that may be sent.
    fn send_lines(&mut self, view: &mut View) -> Result<(), End> {
        loop {
            if self.waits {
                if self.unclaimed == 0 {
                    return Ok(());
                }
                (self.waits, self.unclaimed) = (false, self.unclaimed - 1);
            }
            // Behind a Close nothing may be sent (section 5.5.1).
            let Some(line) = self.lines.pop_front().filter(|_| self.received_close.is_none()) else { return Ok(()) };
            match line {
                Some(line) => self.carry_out(&line, view)?,
                None if self.options.count.is_none() && !self.has_sent_close && !io::stdin().is_terminal() => {
                    self.send(Opcode::Close, &websocket::close(1000, ""), view)?;
                }
                None => {}
            }
        }
    }

    fn carry_out(&mut self, line: &str, view: &mut View) -> Result<(), End> {
        if self.has_sent_close && !line.starts_with("/wait") && !line.starts_with("/hex") {
            return Ok(view.remark("not sent: nothing may follow a Close (RFC 6455, section 5.5.1)")?);
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
            Ok(code) => websocket::close(code, reason),
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
            self.note_close(); // if it could not be labelled, because of what was sent before it
        }
        Ok(())
    }

    fn note_close(&mut self) {
        self.has_sent_close = true;
        self.deadline = Some(Instant::now() + CLOSING_TIME);
    }

    fn send_bytes(&mut self, bytes: &[u8], view: &mut View) -> Result<(), End> {
        self.unclaimed = 0;
        // That the connection is gone shows when it is read: what came before is still to be shown.
        let seen = self.connection.send(bytes, view)?.unwrap_or_default();
        for seen in seen {
            if let Seen::Frame(Received::Close(_)) = seen {
                self.note_close();
            }
        }
        Ok(())
    }

    /// The connection has ended: was it a closing handshake?
    fn end(&mut self, why: &str, view: &mut View) -> Result<(), End> {
        let pieces = self.connection.end();
        self.show(pieces, view)?;
        view.flush()?;
        view.remark(why)?;
        match &self.received_close {
            Some(Close { code: Some(1000 | 1001), .. }) => Ok(()),
            Some(_) if !self.is_closed_by_server => Ok(()),
            Some(Close { code, reason }) => {
                let code = code.map_or("no status code".to_owned(), |code| format!("status code {code}"));
                let reason = if reason.is_empty() { String::new() } else { format!(" and the reason {reason:?}") };
                Err(End::Failed(format!("the server closed with {code}{reason}")))
            }
            None => Err(End::Failed(format!("{why}, without a Close frame (RFC 6455, section 7.1.5)"))),
        }
    }
}
