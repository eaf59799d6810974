//! One connection whose bytes are labelled.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use overwire::websocket::Role;
use overwire::wire::{Conversation, Piece};

use crate::End;
use crate::options::{Command, Options};
use crate::stream::Stream;
use crate::url::Url;
use crate::via::Program;
use crate::view::{Seen, View};

/// The longest time that a server may read nothing while bytes are queued for it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

pub const NOT_TAKEN: &str = "the server did not take what was sent";

pub struct Connection {
    stream: Stream,
    /// The program of `--via`.
    program: Option<Program>,
    conversation: Conversation,
}

impl Connection {
    /// Connects, or starts the program of `--via`. The inner error says why this failed.
    pub fn open(options: &Options, url: &Url, view: &mut View) -> Result<Result<Connection, String>, End> {
        let (stream, program, remark) = match &options.via {
            None => match connect(url) {
                Ok(stream) => {
                    let peer = stream.peer_addr().map_or_else(|_| place(url), |address| address.to_string());
                    (Stream::Tcp(stream), None, format!("connected to {peer}"))
                }
                Err(error) => return Ok(Err(format!("cannot connect to {}: {}", place(url), reason(&error)))),
            },
            Some(via) => {
                let command = via.command(url);
                match start(&command, options.command) {
                    Ok((stream, program)) => (stream, Some(program), format!("started {command}")),
                    Err(error) => return Ok(Err(format!("cannot start {command}: {}", reason(&error)))),
                }
            }
        };
        view.reconnect();
        view.remark(&remark)?;
        Ok(Ok(Connection { stream, program, conversation: Conversation::default() }))
    }

    /// Returns a handle of the connection for a reading thread, and one for writing. A write waits for at most
    /// `patience`.
    pub fn split(&self, patience: Duration) -> io::Result<(Stream, Stream)> {
        self.stream.set_write_timeout(patience)?;
        Ok((self.stream.try_clone()?, self.stream.try_clone()?))
    }

    /// Notes that nothing more will be sent. A program of `--via` sees the end of its input.
    pub fn finish(&self) {
        self.stream.finish_input();
    }

    /// Whether the connection is the program of `--via`.
    pub fn has_program(&self) -> bool {
        self.program.is_some()
    }

    /// The reason why there will be no more bytes: the end of the connection, or an error.
    pub fn end_reason(&mut self, error: Option<&io::Error>) -> String {
        match (&mut self.program, error) {
            (Some(program), _) => program.reason(),
            (None, Some(error)) => reason(error),
            (None, None) => "the server closed the connection".to_owned(),
        }
    }

    /// Prints `bytes` and then sends them, so that no answer is printed before its request. The inner error says why
    /// they were not sent.
    pub fn send(&mut self, bytes: &[u8], view: &mut View) -> Result<Result<(), String>, End> {
        self.show_sent(bytes, view)?;
        Ok(self.stream.write_all(bytes).map_err(|error| reason(&error)))
    }

    /// Prints `bytes` before they are sent.
    pub fn show_sent(&mut self, bytes: &[u8], view: &mut View) -> Result<Vec<Seen>, End> {
        let pieces = self.conversation.read(Role::Client, bytes);
        Ok(view.show_sent(pieces)?)
    }

    /// Reads available bytes. The error says why there will be no more.
    pub fn read(&mut self) -> Result<Vec<Piece>, String> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(self.end_reason(None)),
                Ok(count) => return Ok(self.label(&bytes[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.end_reason(Some(&error))),
            }
        }
    }

    /// The reason why no request can be sent on this connection, if one is known without waiting. Bytes before a
    /// request are not its answer: a server that closes an idle connection may send 408 (RFC 9110, section 15.5.9).
    pub fn is_useless(&mut self) -> Option<String> {
        let mut bytes = [0; 128];
        let read = self.stream.set_nonblocking(true).and_then(|()| self.stream.read(&mut bytes));
        match read {
            Ok(0) => Some(format!("{} while it was idle", self.end_reason(None))),
            Ok(count) => Some(unasked(&bytes[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stream.set_nonblocking(false).err().map(|error| reason(&error))
            }
            Err(error) => Some(format!("{} while the connection was idle", reason(&error))),
        }
    }

    /// Labels bytes of the server.
    pub fn label(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.conversation.read(Role::Server, bytes)
    }

    /// Labels the end of the connection.
    pub fn end(&mut self) -> Vec<Piece> {
        self.conversation.end(Role::Server)
    }
}

/// Starts the program of `--via`.
fn start(command: &str, purpose: Command) -> io::Result<(Stream, Program)> {
    let program = Program::start(command, purpose == Command::Ws)?;
    let stream = program.stream()?;
    stream.set_write_timeout(WRITE_TIMEOUT)?;
    Ok((stream, program))
}

fn connect(url: &Url) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((url.host.as_str(), url.port))?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

fn unasked(bytes: &[u8]) -> String {
    let line = bytes.split(|&byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    format!("the server sent \"{}\" before it was asked: the connection is given up", String::from_utf8_lossy(line))
}

fn place(url: &Url) -> String {
    if url.host.contains(':') { format!("[{}]:{}", url.host, url.port) } else { format!("{}:{}", url.host, url.port) }
}

/// The message of a system error without its number.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => NOT_TAKEN.to_owned(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    }
}
