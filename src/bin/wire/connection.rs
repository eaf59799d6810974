//! One TCP connection whose bytes are labelled.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use overwire::websocket::Role;
use overwire::wire::{Conversation, Piece};

use crate::End;
use crate::url::Url;
use crate::view::{Seen, View};

/// The longest time that a server may read nothing while bytes are queued for it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

pub const NOT_TAKEN: &str = "the server did not take what was sent";

pub struct Connection {
    stream: TcpStream,
    conversation: Conversation,
}

impl Connection {
    /// Connects. The inner error says why this failed.
    pub fn open(url: &Url, view: &mut View) -> Result<Result<Connection, String>, End> {
        let stream = match connect(url) {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(format!("cannot connect to {}: {}", place(url), reason(&error)))),
        };
        view.reconnect();
        let peer = stream.peer_addr().map_or_else(|_| place(url), |address| address.to_string());
        view.remark(&format!("connected to {peer}"))?;
        Ok(Ok(Connection { stream, conversation: Conversation::default() }))
    }

    /// Returns a handle of the socket for a reading thread, and one for writing. A write waits for at most `patience`.
    pub fn split(&self, patience: Duration) -> io::Result<(TcpStream, TcpStream)> {
        self.stream.set_write_timeout(Some(patience))?;
        Ok((self.stream.try_clone()?, self.stream.try_clone()?))
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
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => return Ok(self.label(&bytes[..count])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reason(&error)),
            }
        }
    }

    /// The reason why no request can be sent on this connection, if one is known without waiting. Bytes before a
    /// request are not its answer: a server that closes an idle connection may send 408 (RFC 9110, section 15.5.9).
    pub fn is_useless(&self) -> Option<String> {
        let mut bytes = [0; 128];
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut bytes));
        match peeked {
            Ok(0) => Some("the server closed the connection while it was idle".to_owned()),
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
