//! Many client connections on one mio loop. The codecs of the library, in the role of a client, decode the input far
//! enough to count messages.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use overwire::Parse;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::sse;
use overwire::websocket::{self, Opcode, Role};

use crate::bytes::LAST;

/// The longest time without an event. A server under callgrind is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The kind of input on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Responses to requests.
    Answers,
    /// The frames of a WebSocket.
    Frames,
    /// Events in chunks.
    Events,
    /// Chunks. Each message in them ends with [`LAST`].
    Chunks,
}

#[derive(Debug)]
enum Reading {
    Answers,
    /// The head of a stream of this kind.
    Head(Kind),
    /// Frames, and the number of bytes left of the current payload.
    Frames(u64),
    Events(ContentDecoder, sse::Reader),
    Chunks(ContentDecoder),
}

/// One connection.
pub struct Conn {
    /// Its number in the fleet.
    pub number: usize,
    stream: TcpStream,
    reading: Reading,
    /// Received bytes that are not a whole element yet.
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The last response, head and content.
    pub answer: Vec<u8>,
    /// A number for the scenario, such as the messages that it still waits for.
    pub awaited: usize,
}

/// An error of the server: it closed the connection, or sent bytes that no server may send.
fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("the server {what}"))
}

impl Conn {
    /// Sends bytes, or queues those that the socket does not take.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.output.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => self.output.extend_from_slice(&bytes[count..]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.output.extend_from_slice(bytes),
                Err(error) => return Err(error),
            }
        } else {
            self.output.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads all input, and returns the number of messages that it completes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut messages = 0;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(broken("has closed a connection")),
                Ok(count) => {
                    messages += self.take(&buffer[..count])?;
                    if count < buffer.len() {
                        return Ok(messages);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, fresh: &[u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            let (messages, used) = self.count(fresh)?;
            self.input.extend_from_slice(&fresh[used..]);
            return Ok(messages);
        }
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(fresh);
        let (messages, used) = self.count(&input)?;
        input.drain(..used);
        self.input = input;
        Ok(messages)
    }

    /// The number of messages that `input` completes, and the number of its bytes that are decoded.
    fn count(&mut self, input: &[u8]) -> io::Result<(usize, usize)> {
        let (mut messages, mut used) = (0, 0);
        loop {
            let rest = &input[used..];
            match &mut self.reading {
                Reading::Answers => {
                    let Some(length) = answer_length(rest)? else { return Ok((messages, used)) };
                    self.answer.clear();
                    self.answer.extend_from_slice(&rest[..length]);
                    used += length;
                    messages += 1;
                }
                Reading::Head(kind) => {
                    let (head, length) = match parse_response_head(rest, MAX_HEAD) {
                        Ok(Parse::Complete { value, used }) => (value, used),
                        Ok(Parse::Partial) => return Ok((messages, used)),
                        Err(error) => return Err(broken(error)),
                    };
                    if !matches!(head.status, 101 | 200) {
                        return Err(broken(String::from_utf8_lossy(rest)));
                    }
                    let content = ContentDecoder::new(head.framing(false).map_err(broken)?);
                    used += length;
                    messages += 1;
                    self.reading = match kind {
                        Kind::Answers => Reading::Answers,
                        Kind::Frames => Reading::Frames(0),
                        Kind::Events => Reading::Events(content, sse::Reader::default()),
                        Kind::Chunks => Reading::Chunks(content),
                    };
                }
                Reading::Frames(left) if *left > 0 => {
                    let taken = rest.len().min(*left as usize);
                    used += taken;
                    *left -= taken as u64;
                    messages += usize::from(*left == 0);
                    if rest.is_empty() {
                        return Ok((messages, used));
                    }
                }
                Reading::Frames(left) => match websocket::parse_header(rest, Role::Server) {
                    Ok(Parse::Complete { value, used: header }) => {
                        used += header;
                        *left = value.length;
                        if value.opcode == Opcode::Ping {
                            websocket::encode(&mut self.output, Opcode::Pong, b"", Some([0; 4]));
                        }
                    }
                    Ok(Parse::Partial) => return Ok((messages, used)),
                    Err(error) => return Err(broken(error)),
                },
                Reading::Events(decoder, reader) => {
                    let mut content = Vec::new();
                    let taken = decoder.decode(rest, &mut content, usize::MAX).map_err(broken)?;
                    // The first event of a room says that the stream is open.
                    let events = reader.read(&content).into_iter().filter(|event| event.name != "connected");
                    return Ok((messages + events.count(), used + taken));
                }
                Reading::Chunks(decoder) => {
                    let mut content = Vec::new();
                    let taken = decoder.decode(rest, &mut content, usize::MAX).map_err(broken)?;
                    return Ok((messages + content.iter().filter(|byte| **byte == LAST).count(), used + taken));
                }
            }
        }
    }
}

/// The length of the response at the front of `bytes`, if it is complete.
fn answer_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = answer.parse(bytes) else { return Ok(None) };
    if !matches!(answer.code, Some(200..=299)) {
        return Err(broken(String::from_utf8_lossy(bytes)));
    }
    let field = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = field.and_then(|field| str::from_utf8(field.value).ok()?.parse().ok()).unwrap_or(0);
    Ok(if bytes.len() >= head + length { Some(head + length) } else { None })
}

/// All connections.
pub struct Fleet {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    address: SocketAddr,
    /// The number of connections that are opened before the server must answer them.
    at_once: usize,
    pub conns: Vec<Conn>,
}

impl Fleet {
    /// Creates a fleet for `address`, which opens `at_once` connections at a time. The queue of a listener must have
    /// room for them.
    pub fn new(address: SocketAddr, at_once: usize) -> io::Result<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(1024));
        Ok(Fleet { poll, events, buffer: vec![0; 256 * 1024].into(), address, at_once, conns: Vec::new() })
    }

    /// Opens one connection, and returns its number.
    pub fn connect(&mut self) -> io::Result<usize> {
        self.connect_to(self.address)
    }

    /// Opens one connection to another server, and returns its number.
    pub fn connect_to(&mut self, address: SocketAddr) -> io::Result<usize> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        let number = self.conns.len();
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let (input, output, answer) = (Vec::new(), Vec::new(), Vec::new());
        let reading = Reading::Answers;
        self.conns.push(Conn { number, stream, reading, input, output, written: 0, answer, awaited: 0 });
        Ok(number)
    }

    /// Opens `count` streams by sending `request` on each, and waits until all have their head.
    pub fn open(&mut self, count: usize, kind: Kind, request: &[u8]) -> io::Result<()> {
        let end = self.conns.len() + count;
        while self.conns.len() < end {
            let wave = self.at_once.min(end - self.conns.len());
            for _ in 0..wave {
                let number = self.connect()?;
                self.conns[number].reading = match kind {
                    Kind::Answers => Reading::Answers,
                    stream => Reading::Head(stream),
                };
                self.conns[number].send(request)?;
            }
            self.await_messages(wave)?;
        }
        Ok(())
    }

    /// Waits for this number of messages, on any connection.
    pub fn await_messages(&mut self, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            self.turn(None, |_, messages| {
                left = left.saturating_sub(messages);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until sockets are ready and reads them. Calls `each` with each connection that has received messages, and
    /// their number. With a `timeout` there may be no event.
    pub fn turn(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(&mut Conn, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(timeout.unwrap_or(PATIENCE)))?;
        if self.events.is_empty() && timeout.is_none() {
            return Err(broken("sends no more"));
        }
        for event in &self.events {
            let Some(conn) = self.conns.get_mut(event.token().0) else { continue };
            if event.is_writable() {
                conn.flush()?;
            }
            if event.is_readable() {
                let messages = conn.read(&mut self.buffer)?;
                conn.flush()?;
                if messages > 0 {
                    each(conn, messages)?;
                }
            }
        }
        Ok(())
    }

    /// Shuts down one connection after the other, and waits for the end of each. So the server does the same in each
    /// run, whatever arrives together.
    pub fn close_in_turn(&mut self) -> io::Result<()> {
        for mut conn in self.conns.drain(..) {
            self.poll.registry().deregister(&mut conn.stream)?;
            let mut stream = std::net::TcpStream::from(OwnedFd::from(conn.stream));
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.shutdown(Shutdown::Write)?;
            while stream.read(&mut self.buffer)? > 0 {}
        }
        Ok(())
    }

    /// Closes all connections.
    pub fn close(&mut self) {
        self.conns.clear();
    }
}
