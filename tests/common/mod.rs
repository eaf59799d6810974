//! Shared by the tests: a server in a thread, with a clock that only the test moves, and a client of raw bytes. Each
//! wait is for an event, and has a time limit that only a failure reaches.
#![allow(dead_code)] // each test file uses a part of it

pub mod dice;
pub mod from;

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use overwire::Remote;
use overwire::server::{Config, Server};
use overwire::websocket::{self, FrameHeader, Opcode, Role};
use overwire::{EventLoop, Limits, Parse, sse};
use serde_json::Value;

/// The time that a test waits for an event. Only a failure reaches it, on a machine however slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test that gives a program a short time for something. If it fails, the machine may have been too slow: it is
/// run with four times as much, and then with sixteen times.
pub fn in_enough_time(shortest: Duration, test: impl Fn(Duration)) {
    let mut times = [shortest, 4 * shortest].into_iter();
    if !times.any(|time| panic::catch_unwind(AssertUnwindSafe(|| test(time))).is_ok()) {
        test(16 * shortest);
    }
}

/// Finds a free port for a process that cannot choose one itself. It is below those that Linux gives to clients and to
/// listeners without a port, so no other test gets it before the process listens, nor while it restarts.
pub fn free_port() -> u16 {
    const EACH: u16 = 120;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * EACH;
    let mut ports = (0..10 * EACH).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % EACH);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port is free")
}

/// A server that runs in a separate thread, on a port that the system chose. Its clock stands still unless the test
/// advances it or lets it run, so no deadline passes because a test takes long.
pub struct TestServer {
    pub address: SocketAddr,
    remote: Remote,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl TestServer {
    /// Starts the full server with its defaults.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts the full server with a changed configuration.
    pub fn with(configure: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        Self::spawn(move |ready| {
            let mut config = Config { port: 0, ..Config::default() };
            configure(&mut config);
            let server = Server::bind(config)?;
            ready(server.local_address(), server.remote());
            server.run()
        })
    }

    /// Starts a program of the test over the event loop.
    pub fn of_loop(limits: Limits, run: impl FnOnce(EventLoop) -> io::Result<()> + Send + 'static) -> Self {
        Self::spawn(move |ready| {
            let event_loop = EventLoop::bind("127.0.0.1:0", limits)?;
            ready(event_loop.local_address(), event_loop.remote());
            run(event_loop)
        })
    }

    /// A program of the test's own over several loops or listeners: it calls `ready` when it listens.
    pub fn spawn(run: impl FnOnce(&dyn Fn(SocketAddr, Remote)) -> io::Result<()> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let ready = move |address: SocketAddr, remote: Remote| {
            remote.stop_clock();
            sender.send((address, remote)).unwrap();
        };
        let thread = thread::spawn(move || run(&ready));
        let (address, remote) = receiver.recv().expect("the server starts");
        TestServer { address, remote, thread: Some(thread) }
    }

    /// Lets the clock run, for what takes its time by itself.
    pub fn in_real_time(self) -> Self {
        self.remote.start_clock();
        self
    }

    /// Advances the clock of the server.
    pub fn advance(&self, seconds: u64) {
        self.remote.advance_clock(Duration::from_secs(seconds));
    }

    /// Advances the clock of the full server, and waits until all is done that is due. The first answer shows that the
    /// loop goes on with the new time. What is due by then is done before the second request is read.
    pub fn advance_and_settle(&self, seconds: u64) {
        self.advance(seconds);
        let mut client = self.connect();
        (0..3).for_each(|_| drop(client.get("/health")));
    }

    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a new connection.
    pub fn get(&self, target: &str) -> Answer {
        self.connect().get(target)
    }

    pub fn post(&self, target: &str, content: &str) -> Answer {
        self.connect().post(target, content)
    }

    /// Opens a WebSocket.
    pub fn websocket(&self, target: &str) -> Client {
        let mut client = self.connect();
        client.upgrade(target);
        client
    }

    /// Publishes a message in a room, and returns its id.
    pub fn publish(&self, room: &str, text: &str) -> String {
        let content = serde_json::json!({ "sender": "test", "text": text, "room": room }).to_string();
        let answer = self.post("/api/send", &content);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["message_id"].as_str().unwrap().to_owned()
    }

    /// Waits until the statistics of the server satisfy `is_so`: until a poll is held, for example.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut client = self.connect();
        let start = Instant::now();
        loop {
            let stats = client.get("/api/stats").json();
            if is_so(&stats) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "timed out waiting for {what}: {stats}");
            thread::yield_now();
        }
    }

    /// Waits until `count` connections of a transport are open: `long_poll`, `stream`, `sse` or `websocket`.
    pub fn wait_for_open(&self, transport: &str, count: u64) {
        self.wait_for(&format!("{count} open {transport}"), |stats| {
            stats["transports"][transport]["open"].as_u64() == Some(count)
        });
    }

    /// Shuts the server down, and waits for its end. Its clock runs, so it waits for no client forever.
    pub fn stop(self) {
        self.remote.start_clock();
        self.remote.shut_down();
        self.wait_for_end();
    }

    /// Waits for the end of a server that was shut down. While its clock stands still, no deadline can bring it about.
    pub fn wait_for_end(mut self) {
        let (thread, start) = (self.thread.take().unwrap(), Instant::now());
        while !thread.is_finished() {
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            thread::yield_now();
        }
        thread.join().expect("the server does not panic").expect("the server ends well");
    }

    /// Shuts the server down, without waiting for its end.
    pub fn shut_down(&self) {
        self.remote.shut_down();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.remote.start_clock();
        self.remote.shut_down();
    }
}

/// The binary of the server as a process. It ends with its test, even with one that fails.
pub struct Running {
    pub process: Child,
    pub address: SocketAddr,
}

impl Running {
    /// Runs `command`, which must print the first line of the server.
    pub fn start(command: &mut Command) -> Self {
        let process = command.stdout(Stdio::piped()).spawn().expect("the process starts");
        let mut running = Running { process, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let mut line = String::new();
        BufReader::new(running.process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        running.address = line.trim().rsplit('/').next().unwrap().parse().expect("the first line holds the address");
        running
    }

    /// The resident memory of the process in bytes (proc_pid_status(5), `VmRSS`), on Linux.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status has VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
    }

    /// The growth of the memory when `work` is done 20 more times: what is kept of each.
    pub fn growth(&self, mut work: impl FnMut()) -> u64 {
        work();
        let before = self.memory();
        (0..20).for_each(|_| work());
        self.memory().saturating_sub(before)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The status line, the field lines and the empty line, as received.
    pub head: String,
    pub content: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("the content is text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.content).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The texts of the messages in the answer to a poll.
    pub fn texts(&self) -> Vec<String> {
        let json = self.json();
        let messages = json["messages"].as_array().unwrap_or_else(|| panic!("no messages: {json}"));
        messages.iter().map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// The value of the first field line called `name`.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: Opcode,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn text(&self) -> &str {
        assert_eq!(self.opcode, Opcode::Text, "{self:?}");
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap()
    }

    /// The status code and the reason of a Close frame. The code is 1005 if there is none.
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, Opcode::Close, "{self:?}");
        match &self.payload[..] {
            [] => (1005, String::new()),
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8(reason.to_vec()).unwrap())
            }
            _ => panic!("a Close frame with one byte"),
        }
    }
}

/// A client of raw bytes.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// The events and the lines of the newest chunk that no method has returned yet.
    events: VecDeque<sse::Event>,
    lines: VecDeque<String>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("the server accepts"))
    }

    /// A client on a connection that either side has opened.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new(), events: VecDeque::new(), lines: VecDeque::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
        self
    }

    /// Sends each byte in a separate segment.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        for byte in bytes.as_ref() {
            self.send([*byte]);
        }
        self
    }

    pub fn send_get(&mut self, target: &str) -> &mut Self {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.send_get(target).answer()
    }

    pub fn send_post(&mut self, target: &str, content: &str) -> &mut Self {
        let length = content.len();
        self.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}"))
    }

    pub fn post(&mut self, target: &str, content: &str) -> Answer {
        self.send_post(target, content).answer()
    }

    /// Reads more. Returns false at the end of the input.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let patience = self.stream.read_timeout().unwrap().unwrap_or_default();
                panic!("nothing more came for {patience:?}, after {:?}", String::from_utf8_lossy(&self.buffer));
            }
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Reads up to and including `end`.
    #[track_caller]
    pub fn read_until(&mut self, end: &str) -> String {
        let mut searched: usize = 0;
        loop {
            let window = &self.buffer[searched.saturating_sub(end.len())..];
            if let Some(at) = window.windows(end.len()).position(|bytes| bytes == end.as_bytes()) {
                let length = searched.saturating_sub(end.len()) + at + end.len();
                return String::from_utf8(self.buffer.drain(..length).collect()).expect("text");
            }
            searched = self.buffer.len();
            assert!(self.fill(), "the connection ended before {end:?}: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "the connection ended: {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    /// Whether bytes were read that no method has returned yet.
    pub fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether nothing has come that no method has returned yet, not even the end. Does not wait.
    pub fn is_silent(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]).map_err(|error| error.kind());
        self.stream.set_nonblocking(false).unwrap();
        !self.has_more() && peeked == Err(io::ErrorKind::WouldBlock)
    }

    /// Reads up to the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Checks that the server closes the connection and sends nothing before that.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "received before the end: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Shuts down writing.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the head of a response, and the empty line that begins a stream of lines.
    #[track_caller]
    pub fn head(&mut self) -> String {
        let head = self.head_alone();
        if field(&head, "Content-Type") == Some("application/x-ndjson") {
            let line = if field(&head, "Transfer-Encoding").is_some() { "1\r\n\n\r\n" } else { "\n" };
            assert_eq!(self.read_exactly(line.len()), line.as_bytes());
        }
        head
    }

    /// Reads the head of a response, and nothing of its content.
    #[track_caller]
    pub fn head_alone(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    /// Reads a whole response, framed by Content-Length, by chunks, or by the end of the connection.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head[9..12].parse().unwrap_or_else(|_| panic!("no status: {head}"));
        let content = if matches!(status, 100..=199 | 204 | 304) {
            Vec::new()
        } else if let Some(length) = field(&head, "Content-Length") {
            self.read_exactly(length.parse().unwrap())
        } else if field(&head, "Transfer-Encoding").is_some() {
            let mut content = Vec::new();
            while let Some(chunk) = self.chunk() {
                content.extend(chunk);
            }
            content
        } else {
            self.read_to_end()
        };
        Answer { status, head, content }
    }

    /// Reads the next chunk. Returns `None` for the last-chunk.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.read_until("\r\n");
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no chunk-size: {line:?}"));
        let data = self.read_exactly(size);
        assert_eq!(self.read_exactly(2), b"\r\n");
        (size > 0).then_some(data)
    }

    /// Reads the next chunk as text.
    #[track_caller]
    pub fn chunk_text(&mut self) -> String {
        String::from_utf8(self.chunk().expect("not the last-chunk")).unwrap()
    }

    /// Reads the next event of an event stream, but not the one that begins the stream of a room.
    #[track_caller]
    pub fn event(&mut self) -> sse::Event {
        let event = self.any_event();
        if event.name == "connected" { self.any_event() } else { event }
    }

    /// Reads the next event of an event stream. No event has parts in two chunks.
    #[track_caller]
    pub fn any_event(&mut self) -> sse::Event {
        while self.events.is_empty() {
            let chunk = self.chunk().expect("not the last-chunk");
            self.events.extend(sse::Reader::default().read(&chunk));
        }
        self.events.pop_front().expect("there is one")
    }

    /// Reads the next line of a stream of lines, without its end. No line has parts in two chunks.
    #[track_caller]
    pub fn line(&mut self) -> String {
        while self.lines.is_empty() {
            let chunk = self.chunk_text();
            self.lines.extend(chunk.strip_suffix('\n').expect("a whole line").split('\n').map(str::to_owned));
        }
        self.lines.pop_front().expect("there is one")
    }

    /// Opens a WebSocket, and returns the head of the response.
    #[track_caller]
    pub fn upgrade(&mut self, target: &str) -> String {
        let key = websocket::encode_key(*b"0123456789abcdef");
        self.send(websocket::opening_request("localhost", target, &key));
        let head = self.head();
        assert_eq!(
            websocket::parse_response(head.as_bytes(), &key, &[]),
            Ok(Parse::Complete { value: (), used: head.len() }),
            "{head}"
        );
        head
    }

    /// Sends one masked frame.
    pub fn send_frame(&mut self, opcode: Opcode, payload: impl AsRef<[u8]>) -> &mut Self {
        self.send(masked_frame(true, opcode, payload.as_ref()))
    }

    pub fn send_text(&mut self, text: &str) -> &mut Self {
        self.send_frame(Opcode::Text, text)
    }

    /// Reads the next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        loop {
            match websocket::parse_header(&self.buffer, Role::Server).expect("a frame of a server") {
                Parse::Complete { value: FrameHeader { fin, opcode, length, .. }, used } => {
                    self.read_exactly(used);
                    return Frame { fin, opcode, payload: self.read_exactly(length as usize) };
                }
                Parse::Partial => assert!(self.fill(), "the connection ended before a frame"),
            }
        }
    }

    /// Reads the next frame that is not a Ping. Answers Pings.
    #[track_caller]
    pub fn message(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            if frame.opcode != Opcode::Ping {
                return frame;
            }
            self.send_frame(Opcode::Pong, &frame.payload);
        }
    }
}

/// A frame from a client.
pub fn masked_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    FrameHeader { fin, opcode, masking_key: Some(key), length: payload.len() as u64 }.encode(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    websocket::mask(&mut bytes[start..], key, 0);
    bytes
}
