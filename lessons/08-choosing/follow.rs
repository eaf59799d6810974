//! A client of lesson 08's server that never loses its position. It reads on the best transport that works. When that
//! one ends, it continues on the next, after the last message that it has seen.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lessons::Lesson;
use overwire::feed::Cursor;
use overwire::http::ChunkedDecoder;
use overwire::random::Random;
use overwire::websocket::{self, Opcode, Received, Role};
use overwire::{Parse, sse};
use serde_json::Value;

const LESSON: Lesson = Lesson {
    name: "08-follow",
    port: 8008,
    about: "follows lesson 08's server on the best transport that works, and falls back to the next",
    first: "",
    look_for: "",
    costs: &[],
};

/// The longest line or message, in bytes.
const LONGEST: usize = 64 * 1024;

/// The longest answer to a poll, in bytes. It has many messages.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// The longest silence of a server, which has heartbeats and pings. After it, the connection is lost.
const SILENCE: Duration = Duration::from_secs(45);

/// The number of failed attempts after which every transport has failed.
const ALL_FAILED: u32 = 5;

fn main() -> ExitCode {
    LESSON.run(|port| {
        let mut follower =
            Follower { address: ([127, 0, 0, 1], port).into(), cursor: None, seen: 0, random: Random::open()? };
        Err(follower.follow())
    })
}

struct Follower {
    address: SocketAddr,
    /// The last message seen, on any transport.
    cursor: Option<Cursor>,
    /// The number of messages seen.
    seen: u64,
    random: Random,
}

impl Follower {
    // ANCHOR: follow
    /// Follows on the transports, best first. A transport is used until it ends. Then the next one is tried, and after
    /// the last the first again. Returns only when the output fails.
    fn follow(&mut self) -> io::Error {
        let mut failures = 0;
        loop {
            for transport in ["ws", "events", "stream", "long", "short"] {
                let before = self.seen;
                let ended = match transport {
                    "ws" => self.websocket(),
                    "long" | "short" => self.poll(transport),
                    _ => self.stream(transport),
                };
                let why = ended.err().map_or("it ended".to_owned(), |error| error.to_string());
                if let Err(error) = say(&format!("{transport:<7} {why}")) {
                    return error;
                }
                failures = if self.seen == before { failures + 1 } else { 0 };
                if failures >= ALL_FAILED {
                    thread::sleep(self.backoff(failures)); // wait longer each time
                }
            }
        }
    }
    // ANCHOR_END: follow

    /// Exponential backoff with full jitter: the clients of a restarted server must not all return at one moment.
    fn backoff(&mut self, failures: u32) -> Duration {
        let most = 250 * 2_u64.pow((failures - ALL_FAILED).min(7)); // milliseconds
        Duration::from_millis(self.random.number() % most)
    }

    // ANCHOR: take
    /// Takes one JSON value, the same on every transport: a message, or the position of a stream.
    fn take(&mut self, transport: &str, json: &Value) -> io::Result<()> {
        if json["recovered"] == false {
            say(&format!("{transport:<7} messages are missing: the server no longer has them"))?;
        }
        for message in json["messages"].as_array().unwrap_or(&Vec::new()) {
            self.take(transport, message)?;
        }
        if let Some(text) = json["text"].as_str() {
            say(&format!("{transport:<7} > {}", text.escape_debug()))?;
            self.seen += 1;
        }
        // The id becomes part of a request line, so nothing but a cursor may pass.
        let id = json["id"].as_str().or(json["last_message_id"].as_str());
        self.cursor = id.and_then(|id| id.parse().ok()).or(self.cursor);
        Ok(())
    }
    // ANCHOR_END: take

    /// The request target of a transport, with the cursor.
    fn target(&self, transport: &str) -> String {
        match self.cursor {
            Some(cursor) => format!("/{transport}?last_message_id={cursor}"),
            None => format!("/{transport}"),
        }
    }

    fn poll(&mut self, transport: &str) -> io::Result<()> {
        let mut wire = Wire::open(self.address)?;
        loop {
            let head = wire.get(&self.target(transport))?;
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            let length = length.filter(|length| *length <= LONGEST_ANSWER);
            let length = length.ok_or_else(|| io::Error::other("the answer is too long, or has no Content-Length"))?;
            let content = wire.read_exactly(length)?;
            self.take(transport, &serde_json::from_slice(&content)?)?;
            if transport == "short" {
                thread::sleep(Duration::from_secs(2));
            }
        }
    }

    fn stream(&mut self, transport: &str) -> io::Result<()> {
        let mut wire = Wire::open(self.address)?;
        wire.get(&self.target(transport))?;
        say(&format!("{transport:<7} open"))?;
        let (mut chunks, mut content, mut events) = (ChunkedDecoder::default(), Vec::new(), sse::Reader::default());
        loop {
            let used = chunks.decode(&wire.buffer, &mut content, LONGEST).map_err(io::Error::other)?;
            wire.buffer.drain(..used);
            if transport == "events" {
                for event in events.read(&std::mem::take(&mut content)) {
                    self.take(transport, &serde_json::from_str(&event.data)?)?;
                }
            }
            while let Some(end) = content.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = content.drain(..=end).collect();
                if line != b"\n" {
                    self.take(transport, &serde_json::from_slice(&line)?)?;
                }
            }
            if chunks.is_done() {
                return Ok(());
            }
            wire.fill()?;
        }
    }

    fn websocket(&mut self) -> io::Result<()> {
        let mut wire = Wire::open(self.address)?;
        let key = websocket::encode_key(self.random.bytes());
        wire.stream.write_all(&websocket::opening_request("localhost", &self.target("ws"), &key))?;
        let used = loop {
            match websocket::parse_response(&wire.buffer, &key, &[]).map_err(io::Error::other)? {
                Parse::Complete { used, .. } => break used,
                Parse::Partial => wire.fill()?,
            }
        };
        wire.buffer.drain(..used);
        say("ws      open")?;
        let mut receiver = websocket::Receiver::new(Role::Server);
        loop {
            let (used, received) = receiver.receive(&wire.buffer, LONGEST).map_err(io::Error::other)?;
            wire.buffer.drain(..used);
            let (opcode, payload) = match received {
                None => {
                    wire.fill()?;
                    continue;
                }
                Some(Received::Message(message)) => {
                    self.take("ws", &serde_json::from_slice(message.as_bytes())?)?;
                    continue;
                }
                Some(Received::Pong(_)) => continue,
                Some(Received::Ping(payload)) => (Opcode::Pong, payload),
                Some(Received::Close(close)) => {
                    (Opcode::Close, close.code.map_or(Vec::new(), |code| websocket::close(code, "")))
                }
            };
            let mut frame = Vec::new();
            websocket::encode(&mut frame, opcode, &payload, Some(self.random.bytes()));
            wire.stream.write_all(&frame)?;
            if opcode == Opcode::Close {
                return Ok(());
            }
        }
    }
}

/// A connection, with the received bytes that are not used yet.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Wire { stream, buffer: Vec::new() })
    }

    /// Reads more bytes. The end of the connection is an error: only a transport knows a proper end.
    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was lost")),
            count => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Sends a GET and reads the head of its answer, which must be 200.
    fn get(&mut self, target: &str) -> io::Result<String> {
        self.stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let end = loop {
            match self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if self.buffer.len() > LONGEST => return Err(io::Error::other("the head is too long")),
                None => self.fill()?,
            }
        };
        let head = String::from_utf8_lossy(&self.read_exactly(end)?).into_owned();
        match head.get(9..12) {
            Some("200") => Ok(head),
            status => Err(io::Error::other(format!("the server answered {}", status.unwrap_or("nonsense")))),
        }
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
