//! The cost of a transport: `--measure` in each lesson prints the same table, so that tables can be compared. The
//! server runs in a thread, its clients are plain sockets, and each byte of theirs is counted. A minute of silence
//! passes at once, because the server's clock is set forward.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use overwire::http::{self, ContentDecoder, Framing};
use overwire::websocket::{self, Opcode};
use overwire::{EventLoop, Limits, Parse, Remote};

use super::command_line::{Costs, Lesson, Receive, Send};

/// The message whose cost is measured.
pub const MESSAGE: &str = "twenty bytes of text";

/// The number of messages that the worst delay is taken from.
const MESSAGES: usize = 100;

/// The number of clients before memory is measured, and of those that it is measured with.
const WARM_UP: usize = 50;
const CLIENTS: usize = 200;

/// The longest wait for an answer. Only a failure reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest head and the longest content of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
const MAX_CONTENT: usize = 1024 * 1024;

/// The key that masks the frames of a WebSocket client. In a measurement, it need not be random.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Measures every transport of a lesson and prints the table, or only its row `number`. Each row is measured by
/// a separate process, because a process uses freed memory again.
pub fn measure(lesson: &Lesson, number: Option<usize>, serve: fn(EventLoop) -> io::Result<()>) -> io::Result<()> {
    if let Some(costs) = number.and_then(|number| lesson.costs.get(number)) {
        return writeln!(io::stdout(), "{}", row(costs, serve)?);
    }
    let mut table = String::from(
        "                    a message of 20 bytes      a minute of silence        worst  memory of\n\
         bytes            requests    up    down    requests    up    down        delay   a client\n",
    );
    for number in 0..lesson.costs.len() {
        let row = Command::new(env::current_exe()?).arg(format!("--measure={number}")).output()?;
        if !row.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&row.stderr).trim_end().to_owned()));
        }
        table += &String::from_utf8_lossy(&row.stdout);
    }
    io::stdout().write_all(table.as_bytes())
}

fn row(costs: &Costs, serve: fn(EventLoop) -> io::Result<()>) -> io::Result<String> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let server = EventLoop::bind("127.0.0.1:0", Limits::default())?;
        let _ = tell.send(Site { address: server.local_address(), remote: server.remote() });
        serve(server)
    });
    let site = told.recv().map_err(|_| io::Error::other("the server did not start"))?;
    let measured = site.measure(costs);
    site.remote.shut_down();
    thread.join().map_err(|_| io::Error::other("the server panicked"))??;
    measured
}

/// The requests and bytes of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub requests: u64,
    pub up: usize,
    pub down: usize,
}

impl Counts {
    pub fn since(self, earlier: Counts) -> Counts {
        Counts { requests: self.requests - earlier.requests, up: self.up - earlier.up, down: self.down - earlier.down }
    }

    fn columns(self) -> String {
        format!("{:>8} {:>5} {:>7}", self.requests, self.up, self.down)
    }
}

/// The server under measurement.
struct Site {
    address: SocketAddr,
    remote: Remote,
}

impl Site {
    fn measure(&self, costs: &Costs) -> io::Result<String> {
        let mut receiver = self.receiver(costs.receive)?;
        let mut sender = self.sender(costs.send)?;
        let before = receiver.counts;
        self.exchange(&mut receiver, &mut sender)?;
        let message = receiver.counts.since(before);
        let mut worst = Duration::ZERO;
        for _ in 0..MESSAGES {
            worst = worst.max(self.exchange(&mut receiver, &mut sender)?);
        }
        // A message that arrives just after a poll waits for the next poll.
        if let Receive::ShortPoll(_, interval) = costs.receive {
            worst += Duration::from_secs(interval);
        }
        let before = receiver.counts;
        self.minute_of_silence(&mut receiver)?;
        let silence = receiver.counts.since(before);
        let memory = self.memory(costs.receive)?;
        let name = match costs.receive {
            Receive::Echo => "request, answer",
            Receive::ShortPoll(..) => "short polling",
            Receive::LongPoll(_) => "long polling",
            Receive::Stream(_) => "HTTP streaming",
            Receive::Sse(_) => "SSE",
            Receive::WebSocket(_) => "WebSocket",
        };
        let worst = format!("{:.2} ms", worst.as_secs_f64() * 1000.0);
        Ok(format!("{name:<16} {}    {} {worst:>12} {memory:>10}", message.columns(), silence.columns()))
    }

    /// Sends a message and returns the time until it was received.
    fn exchange(&self, receiver: &mut Receiver, sender: &mut Sender) -> io::Result<Duration> {
        let start = Instant::now();
        if receiver.receive == Receive::Echo {
            receiver.post("/", MESSAGE)?;
            receiver.answer()?;
            return Ok(start.elapsed());
        }
        sender.send(MESSAGE)?;
        if let Receive::ShortPoll(..) = receiver.receive {
            sender.confirm()?; // the next poll finds it
            receiver.get()?;
            receiver.message(MESSAGE)?;
            return Ok(start.elapsed());
        }
        receiver.message(MESSAGE)?;
        let took = start.elapsed();
        receiver.ask_again()?;
        sender.confirm()?;
        Ok(took)
    }

    /// Lets sixty seconds pass, second by second, without a message.
    fn minute_of_silence(&self, receiver: &mut Receiver) -> io::Result<()> {
        for second in 1..=60 {
            self.remote.advance_clock(Duration::from_secs(1));
            match receiver.receive {
                Receive::ShortPoll(_, interval) if second % interval == 0 => {
                    receiver.get()?;
                    receiver.answer()?;
                }
                _ => {
                    self.settle()?;
                    receiver.react()?;
                }
            }
        }
        self.settle()?;
        receiver.react()
    }

    /// Waits until the server has done everything that was due: it answers this request after that.
    fn settle(&self) -> io::Result<()> {
        let mut client = Receiver::connect(self.address, Receive::Echo)?;
        client.write(b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        client.answer().map(drop)
    }

    fn receiver(&self, receive: Receive) -> io::Result<Receiver> {
        let mut receiver = Receiver::connect(self.address, receive)?;
        receiver.begin()?;
        self.settle()?;
        receiver.react()?; // a server may speak first
        Ok(receiver)
    }

    fn sender(&self, send: Send) -> io::Result<Sender> {
        let receive = match send {
            Send::Frame(target) => Receive::WebSocket(target),
            Send::Content(_) | Send::Json(_) => Receive::Echo,
        };
        Ok(Sender { connection: self.receiver(receive)?, send })
    }

    /// Measures the memory that the process holds for each of many waiting clients.
    fn memory(&self, receive: Receive) -> io::Result<String> {
        let mut clients = Vec::with_capacity(WARM_UP + CLIENTS);
        let mut before = None;
        for number in 0..WARM_UP + CLIENTS {
            if number == WARM_UP {
                before = resident();
            }
            clients.push(self.receiver(receive)?.stream);
        }
        Ok(match (before, resident()) {
            (Some(before), Some(after)) => {
                format!("{:.1} KB", after.saturating_sub(before) as f64 / CLIENTS as f64)
            }
            _ => "unknown".into(),
        })
    }
}

/// Returns the memory of this process in units of 1024 bytes, on systems that tell it.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A client that sends messages. Its bytes are not counted.
struct Sender {
    connection: Receiver,
    send: Send,
}

impl Sender {
    fn send(&mut self, message: &str) -> io::Result<()> {
        match self.send {
            Send::Content(target) => self.connection.post(target, message),
            Send::Json(target) => self.connection.post(target, &serde_json::json!({ "message": message }).to_string()),
            Send::Frame(_) => self.connection.frame(Opcode::Text, message.as_bytes()),
        }
    }

    fn confirm(&mut self) -> io::Result<()> {
        match self.send {
            Send::Content(_) | Send::Json(_) => self.connection.answer().map(drop),
            Send::Frame(_) => self.connection.message(MESSAGE), // a sender receives its own messages
        }
    }
}

/// A client that counts its bytes.
pub struct Receiver {
    stream: TcpStream,
    receive: Receive,
    /// Bytes received and not yet parsed.
    buffer: Vec<u8>,
    /// The cursor of the next poll.
    cursor: Option<String>,
    pub counts: Counts,
}

impl Receiver {
    pub fn connect(address: SocketAddr, receive: Receive) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Receiver { stream, receive, buffer: Vec::new(), cursor: None, counts: Counts::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.counts.up += bytes.len();
        self.stream.write_all(bytes)
    }

    /// Waits for bytes and reads them. False at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        self.counts.down += count;
        Ok(count > 0)
    }

    /// Reads up to and including `end`.
    pub fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|bytes| bytes == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends the first request of this transport, and reads the head of the answer if it comes at once.
    pub fn begin(&mut self) -> io::Result<()> {
        match self.receive {
            Receive::Echo => Ok(()),
            Receive::ShortPoll(..) => {
                self.get()?;
                self.answer().map(drop)
            }
            Receive::LongPoll(_) => self.get(),
            Receive::Stream(_) | Receive::Sse(_) => {
                self.get()?;
                self.head(200).map(drop)
            }
            Receive::WebSocket(target) => {
                self.counts.requests += 1;
                self.write(&websocket::opening_request("localhost", target, KEY))?;
                self.head(101).map(drop)
            }
        }
    }

    /// Sends a GET, with the cursor if there is one.
    pub fn get(&mut self) -> io::Result<()> {
        let (Receive::ShortPoll(target, _)
        | Receive::LongPoll(target)
        | Receive::Stream(target)
        | Receive::Sse(target)) = self.receive
        else {
            return Ok(());
        };
        let query = self.cursor.as_ref().map(|cursor| format!("?last_message_id={cursor}")).unwrap_or_default();
        self.counts.requests += 1;
        self.write(format!("GET {target}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    pub fn post(&mut self, target: &str, content: &str) -> io::Result<()> {
        self.counts.requests += 1;
        let length = content.len();
        let request = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}");
        self.write(request.as_bytes())
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        websocket::encode(&mut frame, opcode, payload, Some(MASK));
        self.write(&frame)
    }

    /// Reads the head of an answer, which must have this status, and returns the framing of its content.
    fn head(&mut self, status: u16) -> io::Result<Framing> {
        loop {
            let parsed = http::parse_response_head(&self.buffer, MAX_HEAD).map_err(io::Error::other)?;
            if let Parse::Complete { value: head, used } = parsed {
                if head.status != status {
                    return Err(io::Error::other(format!("expected the status {status}, not {}", head.status)));
                }
                let framing = head.framing(false).map_err(io::Error::other)?;
                self.buffer.drain(..used);
                return Ok(framing);
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads one answer. A poll continues after its cursor.
    pub fn answer(&mut self) -> io::Result<Vec<u8>> {
        let (mut decoder, mut content) = (ContentDecoder::new(self.head(200)?), Vec::new());
        loop {
            let used = decoder.decode(&self.buffer, &mut content, MAX_CONTENT).map_err(io::Error::other)?;
            self.buffer.drain(..used);
            if decoder.is_done() {
                break;
            }
            if !self.fill()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let json: Option<serde_json::Value> = serde_json::from_slice(&content).ok();
        if let Some(cursor) = json.as_ref().and_then(|json| json["last_message_id"].as_str()) {
            self.cursor = Some(cursor.to_owned());
        }
        Ok(content)
    }

    /// Waits for a message and for its end in this transport.
    pub fn message(&mut self, message: &str) -> io::Result<()> {
        match self.receive {
            Receive::ShortPoll(..) | Receive::LongPoll(_) | Receive::Echo => loop {
                let content = self.answer()?;
                if content.windows(message.len()).any(|bytes| bytes == message.as_bytes()) {
                    return Ok(());
                }
                self.ask_again()?; // this answer had another message
            },
            Receive::Stream(_) | Receive::Sse(_) => {
                self.read_until(message.as_bytes())?;
                self.read_until(b"\n\r\n").map(drop) // the end of the line, and the end of the chunk
            }
            Receive::WebSocket(_) => self.read_until(message.as_bytes()).map(drop),
        }
    }

    /// Sends the next long poll, if this is one.
    pub fn ask_again(&mut self) -> io::Result<()> {
        if let Receive::LongPoll(_) = self.receive { self.get() } else { Ok(()) }
    }

    /// Reacts to unasked input as a client does: polls again, answers a Ping.
    pub fn react(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let read = loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        read?;
        match self.receive {
            _ if self.buffer.is_empty() => {}
            Receive::LongPoll(_) => {
                self.answer()?;
                self.get()?;
            }
            Receive::WebSocket(_) if self.buffer.starts_with(&[0x89]) => {
                self.buffer.clear();
                self.frame(Opcode::Pong, b"")?;
            }
            _ => self.buffer.clear(),
        }
        Ok(())
    }
}
