//! An HTTP/2 client by hand: it opens seven event streams on one connection, and prints frames: all that it sends, and all
//! of the first stream. The server speaks HTTP/2 without TLS, and this client knows that before ("prior knowledge", RFC
//! 9113, section 3.3).

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use lessons::Lesson;

const LESSON: Lesson = Lesson {
    name: "12-http2",
    port: 8442,
    about: "reads seven event streams on one HTTP/2 connection, and prints the frames",
    first: "",
    look_for: "",
    costs: &[],
};

const STREAMS: u32 = 7;

/// The bytes that begin a connection (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The names of the types of frames, in the order of their numbers (RFC 9113, section 6).
const NAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

// The flags of these types.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn main() -> ExitCode {
    LESSON.run(|port| {
        let mut client = Http2 { socket: TcpStream::connect(("127.0.0.1", port))? };
        client.begin()?;
        (0..STREAMS).try_for_each(|number| client.open(2 * number + 1))?;
        client.messages()
    })
}

/// A frame: nine bytes, and a payload.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The header: length (3 bytes), type, flags, stream (4 bytes, the first bit is not used).
    fn header(&self) -> [u8; 9] {
        let [_, a, b, c] = (self.payload.len() as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 9];
        from.read_exact(&mut header)?;
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize]; // at most 16,384, unless we allow more
        from.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([d & 0x7f, e, f, g]), payload })
    }
}

struct Http2 {
    socket: TcpStream,
}

impl Http2 {
    fn begin(&mut self) -> io::Result<()> {
        self.socket.write_all(PREFACE)?;
        self.send(Frame { kind: SETTINGS, flags: 0, stream: 0, payload: Vec::new() })
    }

    /// Opens a stream by a request, and waits for the first event.
    fn open(&mut self, stream: u32) -> io::Result<()> {
        let mut payload = vec![0x82, 0x86]; // :method GET, :scheme http: numbers 2 and 6 of a table that all know
        for (name, value) in [(4, "/events"), (1, "localhost")] {
            payload.extend([name, value.len() as u8]); // :path and :authority: the name by its number
            payload.extend(value.as_bytes());
        }
        self.send(Frame { kind: HEADERS, flags: END_HEADERS | END_STREAM, stream, payload })?;
        while self.receive()?.kind != DATA {}
        Ok(())
    }

    /// Waits for one message on each stream. Prints them in the order of the streams, whatever their order was.
    fn messages(&mut self) -> io::Result<()> {
        let mut frames = Vec::new();
        while frames.len() < STREAMS as usize {
            let frame = Frame::read(&mut self.socket)?;
            match frame.kind {
                DATA if !is_heartbeat(&frame) => frames.push(frame),
                _ => self.react(&frame)?,
            }
        }
        frames.sort_by_key(|frame| frame.stream);
        frames.iter().try_for_each(|frame| show('<', frame))
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        show('>', &frame)?;
        self.socket.write_all(&[&frame.header()[..], &frame.payload].concat())
    }

    fn receive(&mut self) -> io::Result<Frame> {
        loop {
            let frame = Frame::read(&mut self.socket)?;
            if is_heartbeat(&frame) {
                continue;
            }
            if frame.stream <= 1 {
                show('<', &frame)?; // those of the other streams look the same
            }
            self.react(&frame)?;
            return Ok(frame);
        }
    }

    /// Answers what has to be answered.
    fn react(&mut self, frame: &Frame) -> io::Result<()> {
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => self.send(Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: Vec::new() }),
            (PING, 0) => self.send(Frame { kind: PING, flags: ACK, stream: 0, payload: frame.payload.clone() }),
            _ => Ok(()),
        }
    }
}

/// Whether it is a comment of an event stream, and no event.
fn is_heartbeat(frame: &Frame) -> bool {
    frame.kind == DATA && !frame.payload.windows(5).any(|bytes| bytes == b"data:")
}

/// Prints a frame: its header, its type, its stream, and what it says.
fn show(direction: char, frame: &Frame) -> io::Result<()> {
    let mut bytes = String::new();
    frame.header().iter().for_each(|byte| _ = write!(bytes, "{byte:02x} "));
    let name = NAMES.get(usize::from(frame.kind)).unwrap_or(&"unknown");
    let meaning = match frame.kind {
        SETTINGS if frame.flags & ACK != 0 => "acknowledged".to_owned(),
        HEADERS if direction == '>' => "GET /events".to_owned(),
        HEADERS if frame.payload.first() == Some(&0x88) => ":status 200".to_owned(),
        DATA => String::from_utf8_lossy(&frame.payload).lines().filter(|line| line.starts_with("data")).collect(),
        _ => String::new(),
    };
    let line = format!("{direction} {bytes} {name:<13} stream {:<2}  {meaning}", frame.stream);
    writeln!(io::stdout(), "{}", line.trim_end())
}
