//! One follower: the bytes that it sends, and what it makes of those that it receives. No sockets, no clock.

use std::io;
use std::time::Duration;

use overwire::Parse;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::sse;
use overwire::websocket::{self, Opcode, Role};
use serde_json::Value;

/// The room that is followed.
pub const ROOM: &str = "deploy";

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The longest content of an answer, and the longest part of a stream that arrives at once, in bytes.
const MAX_CONTENT: usize = 1024 * 1024;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Events,
    Stream,
    Poll,
}

impl Transport {
    pub const ALL: [Transport; 4] = [Transport::WebSocket, Transport::Events, Transport::Stream, Transport::Poll];
}

/// What is expected next on the connection.
#[derive(Debug)]
enum Reading {
    Head,
    Content(ContentDecoder),
    Frames,
}

/// The state of a connection after some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// The server has ended it. The follower comes back after this time.
    Over(Duration),
}

/// A reader of a room, which counts up: message 1, message 2, and so on.
#[derive(Debug)]
pub struct Follower {
    transport: Transport,
    reading: Reading,
    /// Received bytes that are not decoded yet.
    input: Vec<u8>,
    /// Decoded content that has no whole line or answer yet.
    content: Vec<u8>,
    events: sse::Reader,
    closes: bool,
    /// The id of the last message.
    cursor: Option<String>,
    /// The number of the last message. 0 if there was none.
    pub last: u64,
    /// The number of messages that were left out.
    pub missing: u64,
    /// The number of messages that came again.
    pub twice: u64,
    /// How often a server did not know the cursor.
    pub not_recovered: u64,
    /// Whether the head of an answer has come on this connection.
    pub is_answered: bool,
}

impl Follower {
    pub fn new(transport: Transport) -> Self {
        Follower {
            transport,
            reading: Reading::Head,
            input: Vec::new(),
            content: Vec::new(),
            events: sse::Reader::default(),
            closes: false,
            cursor: None,
            last: 0,
            missing: 0,
            twice: 0,
            not_recovered: 0,
            is_answered: false,
        }
    }

    pub fn is_poll(&self) -> bool {
        self.transport == Transport::Poll
    }

    /// Begins a connection, and returns the first bytes to send.
    pub fn begin(&mut self) -> Vec<u8> {
        self.reading = Reading::Head;
        self.input.clear();
        self.content.clear();
        self.events.reconnect();
        self.is_answered = false;
        self.request()
    }

    fn request(&self) -> Vec<u8> {
        let path = match self.transport {
            Transport::WebSocket => "ws",
            Transport::Events => "events",
            Transport::Stream => "stream",
            Transport::Poll => "poll",
        };
        let parameter = if self.transport == Transport::Events { "last_event_id" } else { "last_message_id" };
        let mut target = format!("/api/{path}?room={ROOM}");
        if self.transport == Transport::Poll {
            target += "&timeout=60&client_id=follower";
        }
        if let Some(cursor) = &self.cursor {
            target += &format!("&{parameter}={cursor}");
        }
        match self.transport {
            Transport::WebSocket => websocket::opening_request("localhost", &target, KEY),
            _ => format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        }
    }

    /// Takes received bytes, and appends those to send to `output`.
    ///
    /// # Errors
    /// The server has sent bytes that no server may send, or a status other than 101 and 200.
    pub fn take(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> io::Result<State> {
        self.input.extend_from_slice(bytes);
        loop {
            if matches!(self.reading, Reading::Head) && !self.take_head()? {
                return Ok(State::Open);
            }
            let Reading::Content(decoder) = &mut self.reading else { return self.take_frames(output) };
            let used = decoder.decode(&self.input, &mut self.content, MAX_CONTENT).map_err(io::Error::other)?;
            self.input.drain(..used);
            let is_done = decoder.is_done();
            self.take_content(is_done)?;
            match (is_done, self.transport) {
                (false, _) => return Ok(State::Open),
                (true, Transport::Poll) if !self.closes => {
                    self.reading = Reading::Head;
                    output.extend(self.request());
                }
                (true, Transport::Events) => return Ok(State::Over(self.events.retry().unwrap_or_default())),
                (true, _) => return Ok(State::Over(Duration::ZERO)),
            }
        }
    }

    /// Takes the head of an answer, if it is there.
    fn take_head(&mut self) -> io::Result<bool> {
        let parsed = parse_response_head(&self.input, MAX_HEAD).map_err(io::Error::other)?;
        let Parse::Complete { value: head, used } = parsed else { return Ok(false) };
        if !matches!(head.status, 101 | 200) {
            let answer = String::from_utf8_lossy(&self.input);
            return Err(io::Error::other(format!("{:?} got {answer}", self.transport)));
        }
        self.closes = head.elements("connection").any(|element| element.eq_ignore_ascii_case(b"close"));
        self.is_answered = true;
        self.reading = match self.transport {
            Transport::WebSocket => Reading::Frames,
            _ => Reading::Content(ContentDecoder::new(head.framing(false).map_err(io::Error::other)?)),
        };
        self.input.drain(..used);
        Ok(true)
    }

    /// Takes the frames that are complete. A Ping and a Close are answered.
    fn take_frames(&mut self, output: &mut Vec<u8>) -> io::Result<State> {
        while let Parse::Complete { value: header, used } =
            websocket::parse_header(&self.input, Role::Server).map_err(io::Error::other)?
        {
            let end = used + header.length as usize;
            if self.input.len() < end {
                break;
            }
            let payload: Vec<u8> = self.input.drain(..end).skip(used).collect();
            match header.opcode {
                Opcode::Ping => websocket::encode(output, Opcode::Pong, &payload, MASK),
                Opcode::Close => {
                    websocket::encode(output, Opcode::Close, &payload, MASK);
                    return Ok(State::Over(Duration::ZERO));
                }
                _ => self.note(&payload)?,
            }
        }
        Ok(State::Open)
    }

    /// Takes what is complete of the content.
    fn take_content(&mut self, is_done: bool) -> io::Result<()> {
        match self.transport {
            Transport::Events => {
                let content = std::mem::take(&mut self.content);
                for event in self.events.read(&content) {
                    self.note(event.data.as_bytes())?;
                }
            }
            Transport::Stream => {
                let whole = self.content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let lines: Vec<u8> = self.content.drain(..whole).collect();
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    self.note(line)?;
                }
            }
            _ if is_done => {
                let content = std::mem::take(&mut self.content);
                self.note(&content)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes a message, an answer with several, or a notice.
    fn note(&mut self, json: &[u8]) -> io::Result<()> {
        let json: Value = serde_json::from_slice(json).map_err(io::Error::other)?;
        if json["recovered"] == false {
            self.not_recovered += 1;
        }
        let several = json["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        for message in several.iter().chain([&json]) {
            let Some(number) = message["text"].as_str().and_then(|text| text.parse::<u64>().ok()) else { continue };
            match self.last {
                0 => {} // it begins anywhere
                last if number <= last => self.twice += 1,
                last => self.missing += number - last - 1,
            }
            self.last = self.last.max(number);
        }
        let id = ["last_message_id", "id"].iter().find_map(|name| json[*name].as_str());
        self.cursor = id.map(str::to_owned).or(self.cursor.take());
        Ok(())
    }
}
