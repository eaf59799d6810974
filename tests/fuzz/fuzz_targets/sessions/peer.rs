//! One connection of a session: what is sent and not yet taken by the socket, and the parser of what comes back.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use overwire::Parse;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::sse;
use overwire::websocket::{self, FrameHeader, Opcode, Role};

/// The longest wait for what must come. Only a failure reaches it.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a request opens, if it does not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    Nothing,
    Lines,
    Events,
    WebSocket,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending<T> {
    pub tag: T,
    pub is_head: bool,
    pub opens: Opens,
    /// The number of bytes that this connection has sent when the request is complete.
    pub ends_at: usize,
}

/// A thing that has arrived.
#[derive(Debug)]
pub enum Heard<T> {
    /// A whole answer.
    Answer { tag: T, status: u16, content: Vec<u8> },
    /// The head of a stream, or the answer to an opening handshake.
    Began { tag: T },
    /// One message of a stream: a line, the data of an event with its id, or a text message.
    Message { text: String, event_id: Option<String> },
}

impl<T: fmt::Debug> fmt::Display for Heard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Answer { tag, status, content } => {
                write!(f, "{status} for {tag:?}: {:?}", String::from_utf8_lossy(content))
            }
            Heard::Began { tag } => write!(f, "began for {tag:?}"),
            Heard::Message { text, event_id } => write!(f, "{text} {event_id:?}"),
        }
    }
}

enum Mode {
    Answers,
    Lines(ContentDecoder, Vec<u8>),
    Events(ContentDecoder, sse::Reader),
    Frames,
    /// Requests were sent that nobody has read, so the answers cannot be attributed.
    Loose,
}

/// One connection. `T` says what an answer is for.
pub struct Peer<T> {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// The bytes of `unsent` that may be sent. The rest is the second half of a request.
    allowed: usize,
    pub sent: usize,
    input: Vec<u8>,
    pub pending: VecDeque<Pending<T>>,
    mode: Mode,
    /// Whether it does not read.
    pub is_deaf: bool,
    /// Whether the server has closed it.
    pub is_ended: bool,
    /// Whether it has shut down writing, or has sent what makes the server close it.
    pub is_dying: bool,
    is_waiting: bool,
}

impl<T> Peer<T> {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer {
            stream,
            unsent: Vec::new(),
            allowed: 0,
            sent: 0,
            input: Vec::new(),
            pending: VecDeque::new(),
            mode: Mode::Answers,
            is_deaf: false,
            is_ended: false,
            is_dying: false,
            is_waiting: false,
        }
    }

    /// Whether requests can be sent and their answers attributed.
    pub fn speaks_http(&self) -> bool {
        let opens = self.pending.back().is_some_and(|pending| pending.opens != Opens::Nothing);
        matches!(self.mode, Mode::Answers) && !opens && !self.is_ended && !self.is_dying
    }

    pub fn is_websocket(&self) -> bool {
        matches!(self.mode, Mode::Frames) && !self.is_ended && !self.is_dying
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.mode, Mode::Lines(..) | Mode::Events(..) | Mode::Frames)
    }

    /// Sends a request, of which only the first `first` bytes may go now.
    pub fn request(&mut self, bytes: &[u8], first: Option<usize>, tag: T, is_head: bool, opens: Opens) {
        self.send(bytes, first);
        let ends_at = self.sent + self.unsent.len();
        self.pending.push_back(Pending { tag, is_head, opens, ends_at });
    }

    pub fn send(&mut self, bytes: &[u8], first: Option<usize>) {
        self.allowed = self.unsent.len() + first.unwrap_or(bytes.len()).min(bytes.len());
        self.unsent.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends the second half of a request.
    pub fn release(&mut self) {
        self.allowed = self.unsent.len();
        self.flush();
    }

    /// Sends what no request is: the answers cannot be attributed any more.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        match self.mode {
            Mode::Answers => {
                self.mode = Mode::Loose;
                self.pending.clear();
            }
            _ => self.is_dying = true,
        }
        self.release();
        self.send(bytes, None);
    }

    /// Whether what it sends now is read at once.
    pub fn is_free(&self) -> bool {
        self.unsent.is_empty() && self.pending.is_empty() && !self.is_deaf && !self.is_ended && !self.is_dying
    }

    pub fn is_half_sent(&self) -> bool {
        self.allowed < self.unsent.len()
    }

    fn flush(&mut self) {
        while self.allowed > 0 {
            match self.stream.write(&self.unsent[..self.allowed]) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.allowed -= count;
                    self.sent += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_dying = true; // what the server sent before it closed is still there
                    return;
                }
            }
        }
    }

    pub fn finish(&mut self) {
        self.is_dying = true;
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Makes the end of this connection a reset.
    pub fn reset_on_close(&self) {
        #[repr(C)]
        struct Linger(c_int, c_int);
        unsafe extern "C" {
            fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, length: u32) -> c_int;
        }
        const SOL_SOCKET: c_int = 1;
        const SO_LINGER: c_int = 13;
        let linger = Linger(1, 0);
        // SAFETY: the value outlives the call, and its length is right.
        unsafe { setsockopt(self.stream.as_raw_fd(), SOL_SOCKET, SO_LINGER, (&raw const linger).cast(), 8) };
    }

    /// Writes and reads what is possible without waiting.
    pub fn pump(&mut self, heard: &mut Vec<Heard<T>>) {
        self.flush();
        while !self.is_deaf && !self.is_ended && self.read() {
            self.parse(heard);
        }
    }

    /// Waits for more.
    pub fn wait(&mut self, heard: &mut Vec<Heard<T>>) {
        self.stream.set_nonblocking(false).unwrap();
        self.is_waiting = true;
        self.read();
        self.is_waiting = false;
        self.stream.set_nonblocking(true).unwrap();
        self.parse(heard);
        self.pump(heard);
    }

    /// Whether bytes have come.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_ended = true,
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(!self.is_waiting, "nothing came in {PATIENCE:?}");
                }
                Err(_) => self.is_ended = true,
            }
            return false;
        }
    }

    fn parse(&mut self, heard: &mut Vec<Heard<T>>) {
        while !self.input.is_empty() {
            let before = self.input.len();
            match &mut self.mode {
                Mode::Answers => self.parse_answer(heard),
                Mode::Frames => self.parse_frame(heard),
                Mode::Lines(decoder, line) => {
                    let mut content = Vec::new();
                    let used = decoder.decode(&self.input, &mut content, usize::MAX).expect("chunks");
                    let is_done = decoder.is_done();
                    self.input.drain(..used);
                    for byte in content {
                        if byte != b'\n' {
                            line.push(byte);
                        } else if !line.is_empty() {
                            let text = String::from_utf8(std::mem::take(line)).expect("lines are UTF-8");
                            heard.push(Heard::Message { text, event_id: None });
                        }
                    }
                    self.end_stream(is_done);
                }
                Mode::Events(decoder, reader) => {
                    let mut content = Vec::new();
                    let used = decoder.decode(&self.input, &mut content, usize::MAX).expect("chunks");
                    let is_done = decoder.is_done();
                    self.input.drain(..used);
                    for event in reader.read(&content) {
                        let id = Some(event.id.clone()).filter(|id| !id.is_empty());
                        heard.push(Heard::Message { text: event.data.clone(), event_id: id });
                    }
                    self.end_stream(is_done);
                }
                Mode::Loose => {
                    let is_broken = self.input.windows(13).any(|bytes| bytes == b"HTTP/1.1 500 ");
                    assert!(!is_broken, "{:?}", String::from_utf8_lossy(&self.input));
                    self.input.drain(..self.input.len().saturating_sub(12));
                }
            }
            if self.input.len() == before {
                return;
            }
        }
    }

    /// A stream that has ended is followed by answers again.
    fn end_stream(&mut self, is_done: bool) {
        if is_done {
            self.mode = Mode::Answers;
        }
    }

    fn parse_answer(&mut self, heard: &mut Vec<Heard<T>>) {
        let is_malformed = |error: &dyn fmt::Display, input: &[u8]| -> ! {
            panic!("a malformed answer: {error}: {:?}", String::from_utf8_lossy(input))
        };
        let (head, used) = match parse_response_head(&self.input, 16 * 1024) {
            Ok(Parse::Complete { value, used }) => (value, used),
            Ok(Parse::Partial) => return,
            Err(error) => is_malformed(&error, &self.input),
        };
        let status = head.status;
        assert_ne!(status, 500, "{:?}", String::from_utf8_lossy(&self.input));
        assert!((100..600).contains(&status));
        if status == 100 {
            self.input.drain(..used);
            return;
        }
        let Some(next) = self.pending.front() else {
            // A notice at the end of a connection: the time for a request is up, or the server goes away.
            assert!(matches!(status, 408 | 503), "an answer to nothing: {:?}", String::from_utf8_lossy(&self.input));
            self.mode = Mode::Loose;
            return;
        };
        let framing = match head.framing(next.is_head) {
            Ok(framing) => framing,
            Err(error) => is_malformed(&error, &self.input),
        };
        let mut decoder = ContentDecoder::new(framing);
        let opens = match (next.opens, status) {
            (opens @ (Opens::Lines | Opens::Events), 200) => opens,
            (Opens::WebSocket, 101) => Opens::WebSocket,
            _ => Opens::Nothing,
        };
        if opens != Opens::Nothing {
            self.input.drain(..used);
            let tag = self.pending.pop_front().expect("it is there").tag;
            heard.push(Heard::Began { tag });
            self.mode = match opens {
                Opens::Lines => Mode::Lines(decoder, Vec::new()),
                Opens::Events => Mode::Events(decoder, sse::Reader::default()),
                _ => Mode::Frames,
            };
            return;
        }
        let mut content = Vec::new();
        let count = match decoder.decode(&self.input[used..], &mut content, usize::MAX) {
            Ok(count) => count,
            Err(error) => is_malformed(&error, &self.input),
        };
        if decoder.is_done() {
            self.input.drain(..used + count);
            let tag = self.pending.pop_front().expect("it is there").tag;
            heard.push(Heard::Answer { tag, status, content });
        }
    }

    fn parse_frame(&mut self, heard: &mut Vec<Heard<T>>) {
        let Parse::Complete { value, used } = websocket::parse_header(&self.input, Role::Server).expect("a frame")
        else {
            return;
        };
        let FrameHeader { fin, opcode, length, .. } = value;
        let end = used + length as usize;
        if self.input.len() < end {
            return;
        }
        let payload: Vec<u8> = self.input.drain(..end).skip(used).collect();
        match opcode {
            Opcode::Text => {
                assert!(fin, "the server does not fragment");
                let text = String::from_utf8(payload).expect("a text message is UTF-8");
                heard.push(Heard::Message { text, event_id: None });
            }
            Opcode::Ping if !self.is_dying => self.send(&frame(true, Opcode::Pong, &payload), None),
            Opcode::Close => self.is_dying = true,
            _ => {}
        }
    }
}

/// A masked frame.
pub fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    FrameHeader { fin, opcode, masking_key: Some(key), length: payload.len() as u64 }.encode(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    websocket::mask(&mut bytes[start..], key, 0);
    bytes
}
