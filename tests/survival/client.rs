//! A client of one connection, which may break at any byte. Every way to read a room or a mailbox is a stream of items,
//! or one answer.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use overwire::Parse;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::sse;
use overwire::websocket::{self, Message, Opcode, Received, Receiver, Role};
use serde_json::Value;

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The longest content of an answer, and the longest message, in bytes: more than a room retains.
const MAX_CONTENT: usize = 8 * 1024 * 1024;

/// The time in which the system connects or refuses on the loopback interface.
const CONNECT: Duration = Duration::from_secs(2);

/// A key for opening handshakes.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The reason why a client did not get what it asked for.
#[derive(Debug)]
pub enum Trouble {
    /// The connection was refused or broke, or nothing came in time. The client tries again.
    Broken(String),
    /// The server, or the proxy before it, cannot answer now: 502, 503 or 504. The client tries again later.
    Away(u16),
    /// An answer that no client may get.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Broken(what) => f.write_str(what),
            Trouble::Away(status) => write!(f, "status {status}"),
            Trouble::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

fn broken(error: io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Broken("nothing comes".into()),
        _ => Trouble::Broken(error.to_string()),
    }
}

fn wrong(error: impl fmt::Display) -> Trouble {
    Trouble::Wrong(error.to_string())
}

pub struct Answer {
    pub status: u16,
    pub content: Value,
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    /// The number of bytes after which it breaks the connection.
    left: usize,
}

impl Client {
    /// Connects. The client waits for at most `patience` for each part of an answer, and breaks the connection after
    /// `left` bytes.
    pub fn connect(address: SocketAddr, patience: Duration, left: usize) -> Result<Self, Trouble> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, CONNECT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        };
        connect().map(|stream| Client { stream, input: Vec::new(), left }).map_err(broken)
    }

    /// Sends a request, and reads its whole answer.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer, Trouble> {
        let (status, mut decoder) = self.begin(request)?;
        let mut content = Vec::new();
        loop {
            let used = decoder.decode(&self.input, &mut content, MAX_CONTENT).map_err(wrong)?;
            self.input.drain(..used);
            if decoder.is_done() {
                break;
            }
            self.fill()?;
        }
        match status {
            502..=504 => Err(Trouble::Away(status)),
            _ => Ok(Answer { status, content: serde_json::from_slice(&content).map_err(wrong)? }),
        }
    }

    /// Opens a stream.
    pub fn open(mut self, request: &[u8], format: Format) -> Result<Stream, Trouble> {
        let (status, content) = self.begin(request)?;
        match status {
            200 => Ok(Stream::Content { client: self, content, decoded: Vec::new(), format, events: Vec::new() }),
            502..=504 => Err(Trouble::Away(status)),
            _ => Err(Trouble::Wrong(format!("a stream got {status}"))),
        }
    }

    /// Opens a WebSocket.
    pub fn upgrade(mut self, target: &str) -> Result<Stream, Trouble> {
        self.send(&websocket::opening_request("localhost", target, KEY))?;
        loop {
            match parse_response_head(&self.input, MAX_HEAD).map_err(wrong)? {
                Parse::Partial => self.fill()?,
                Parse::Complete { value, .. } if value.status != 101 => {
                    let status = value.status;
                    return Err(if status >= 502 {
                        Trouble::Away(status)
                    } else {
                        wrong(format!("a WebSocket got {status}"))
                    });
                }
                Parse::Complete { .. } => break,
            }
        }
        match websocket::parse_response(&self.input, KEY, &[]).map_err(wrong)? {
            Parse::Complete { used, .. } => drop(self.input.drain(..used)),
            Parse::Partial => return Err(wrong("a head that is whole, and is not")),
        }
        Ok(Stream::WebSocket { client: self, receiver: Receiver::new(Role::Server) })
    }

    /// Sends a request, and reads the head of its answer.
    fn begin(&mut self, request: &[u8]) -> Result<(u16, ContentDecoder), Trouble> {
        self.send(request)?;
        loop {
            if let Parse::Complete { value, used } = parse_response_head(&self.input, MAX_HEAD).map_err(wrong)? {
                let begun = (value.status, ContentDecoder::new(value.framing(false).map_err(wrong)?));
                self.input.drain(..used);
                return Ok(begun);
            }
            self.fill()?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(bytes).map_err(broken)
    }

    /// Reads more.
    fn fill(&mut self) -> Result<(), Trouble> {
        let mut buffer = [0; 16 * 1024];
        let most = buffer.len().min(self.left);
        if most == 0 {
            return Err(Trouble::Broken("the client breaks the connection".into()));
        }
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => Err(Trouble::Broken("the server closes the connection".into())),
            Ok(count) => {
                self.left -= count;
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

/// The format of a stream.
pub enum Format {
    Lines,
    Events(sse::Reader),
}

/// An item of a stream: a line, an event or a message.
#[derive(Debug, Default)]
pub struct Item {
    /// The name of an event.
    pub name: String,
    /// The id of an event.
    pub id: String,
    pub data: Value,
}

/// A stream, which has no end.
pub enum Stream {
    Content { client: Client, content: ContentDecoder, decoded: Vec<u8>, format: Format, events: Vec<sse::Event> },
    WebSocket { client: Client, receiver: Receiver },
}

impl Stream {
    /// Returns the next item.
    pub fn next(&mut self) -> Result<Item, Trouble> {
        loop {
            if let Some(item) = self.take()? {
                return Ok(item);
            }
            match self {
                Stream::Content { client, content, .. } if !content.is_done() => client.fill()?,
                Stream::Content { .. } => return Err(Trouble::Broken("the stream ends".into())),
                Stream::WebSocket { client, .. } => client.fill()?,
            }
        }
    }

    /// Takes an item that has arrived whole.
    fn take(&mut self) -> Result<Option<Item>, Trouble> {
        match self {
            Stream::Content { client, content, decoded, format, events } => {
                let used = content.decode(&client.input, decoded, MAX_CONTENT).map_err(wrong)?;
                client.input.drain(..used);
                match format {
                    Format::Lines => take_line(decoded),
                    Format::Events(reader) => {
                        events.extend(reader.read(decoded));
                        decoded.clear();
                        take_event(events)
                    }
                }
            }
            Stream::WebSocket { client, receiver } => take_message(client, receiver),
        }
    }

    /// Sends a text message.
    pub fn send(&mut self, text: &str) -> Result<(), Trouble> {
        match self {
            Stream::WebSocket { client, .. } => client.send(&frame(Opcode::Text, text.as_bytes())),
            Stream::Content { .. } => Err(wrong("a stream that a client cannot send on")),
        }
    }
}

/// Takes a line. An empty one is a heartbeat.
fn take_line(decoded: &mut Vec<u8>) -> Result<Option<Item>, Trouble> {
    while let Some(end) = decoded.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = decoded.drain(..=end).collect();
        if line != b"\n" {
            return Ok(Some(Item { data: serde_json::from_slice(&line).map_err(wrong)?, ..Item::default() }));
        }
    }
    Ok(None)
}

fn take_event(events: &mut Vec<sse::Event>) -> Result<Option<Item>, Trouble> {
    if events.is_empty() {
        return Ok(None);
    }
    let sse::Event { id, name, data } = events.remove(0);
    Ok(Some(Item { name, id, data: serde_json::from_str(&data).map_err(wrong)? }))
}

/// Takes a message of a WebSocket. Answers Pings.
fn take_message(client: &mut Client, receiver: &mut Receiver) -> Result<Option<Item>, Trouble> {
    loop {
        let (used, received) = receiver.receive(&client.input, MAX_CONTENT).map_err(wrong)?;
        client.input.drain(..used);
        match received {
            None => return Ok(None),
            Some(Received::Ping(payload)) => client.send(&frame(Opcode::Pong, &payload))?,
            Some(Received::Pong(_)) => {}
            Some(Received::Close(close)) => {
                return Err(Trouble::Broken(format!("the server sends a Close: {close:?}")));
            }
            Some(Received::Message(Message::Text(text))) => {
                return Ok(Some(Item { data: serde_json::from_str(&text).map_err(wrong)?, ..Item::default() }));
            }
            Some(Received::Message(Message::Binary(_))) => return Err(wrong("a binary message")),
        }
    }
}

/// A masked frame.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::encode(&mut frame, opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]));
    frame
}

/// A request without content. `field` is a field line with its end, or empty.
pub fn get(target: &str, field: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n").into_bytes()
}

/// A request with JSON.
pub fn post(target: &str, content: &Value) -> Vec<u8> {
    let content = content.to_string();
    let length = content.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}").into_bytes()
}
