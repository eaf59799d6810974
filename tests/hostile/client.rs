//! A client of one connection. An error of the server is a value, because an attack counts errors and goes on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use overwire::Parse;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::websocket::{self, FrameHeader, Opcode, Role};

/// The longest wait for an answer. A server that takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// A key for opening handshakes.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A response.
pub struct Answer {
    pub status: u16,
    pub content: Vec<u8>,
}

impl Answer {
    /// Returns the string that follows `"name":"` in the content.
    pub fn string(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.content);
        let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
        Some(rest.split('"').next()?.to_owned())
    }
}

/// A connection with a client's buffer.
pub struct Client {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Client::of(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// A client on a connection that is open.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, input: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send(&get(target))?;
        self.answer()
    }

    pub fn post(&mut self, target: &str, content: &str) -> io::Result<Answer> {
        self.send(&post(target, content))?;
        self.answer()
    }

    /// Reads a whole response.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, used)) = parse_answer(&self.input)? {
                self.input.drain(..used);
                return Ok(answer);
            }
            self.fill()?;
        }
    }

    /// Opens a WebSocket.
    pub fn upgrade(&mut self, target: &str) -> io::Result<()> {
        self.send(&websocket::opening_request("localhost", target, KEY))?;
        loop {
            match websocket::parse_response(&self.input, KEY, &[]) {
                Ok(Parse::Complete { used, .. }) => {
                    self.input.drain(..used);
                    return Ok(());
                }
                Ok(Parse::Partial) => self.fill()?,
                Err(error) => return Err(io::Error::other(format!("no WebSocket: {error}"))),
            }
        }
    }

    /// Reads the next text message of a WebSocket. Answers Pings. A Close is an error.
    pub fn message(&mut self) -> io::Result<String> {
        loop {
            let (opcode, payload) = self.frame()?;
            match opcode {
                Opcode::Ping => self.send(&frame(Opcode::Pong, &payload))?,
                Opcode::Close => return Err(io::Error::other("the server has sent a Close")),
                _ => return Ok(String::from_utf8_lossy(&payload).into_owned()),
            }
        }
    }

    fn frame(&mut self) -> io::Result<(Opcode, Vec<u8>)> {
        loop {
            let header = websocket::parse_header(&self.input, Role::Server).map_err(io::Error::other)?;
            if let Parse::Complete { value: FrameHeader { opcode, length, .. }, used } = header {
                let end = used + length as usize;
                if self.input.len() >= end {
                    let payload = self.input[used..end].to_vec();
                    self.input.drain(..end);
                    return Ok((opcode, payload));
                }
            }
            self.fill()?;
        }
    }

    /// Reads up to and including `text`, whatever carries it. A frame of a server is not masked.
    pub fn wait_for(&mut self, text: &str) -> io::Result<()> {
        loop {
            if let Some(at) = self.input.windows(text.len()).position(|bytes| bytes == text.as_bytes()) {
                self.input.drain(..at + text.len());
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Reads up to and including the string that follows `"name":"`, and returns it.
    pub fn string(&mut self, name: &str) -> io::Result<String> {
        self.wait_for(&format!("\"{name}\":\""))?;
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'"') {
                return Ok(String::from_utf8_lossy(&self.input.drain(..=end).collect::<Vec<u8>>()[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Parses the response at the start of `input`, and returns its length. `None` if it is not whole.
fn parse_answer(input: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let Parse::Complete { value: head, used } = parse_response_head(input, MAX_HEAD).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let mut decoder = ContentDecoder::new(head.framing(false).map_err(io::Error::other)?);
    let mut content = Vec::new();
    let count = decoder.decode(&input[used..], &mut content, usize::MAX).map_err(io::Error::other)?;
    let answer = Answer { status: head.status, content };
    Ok(decoder.is_done().then_some((answer, used + count)))
}

pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

pub fn post(target: &str, content: &str) -> Vec<u8> {
    let length = content.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}").into_bytes()
}

/// The content that publishes a text.
pub fn draft(room: &str, text: &str) -> String {
    format!(r#"{{"sender":"hostile","room":"{room}","text":"{text}"}}"#)
}

/// A masked frame.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::encode(&mut frame, opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]));
    frame
}
