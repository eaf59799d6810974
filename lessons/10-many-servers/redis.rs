//! A connection to Redis that waits: for threads, not for an event loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use overwire::resp::{self, Decoder, Value};

/// The largest reply, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;

/// A connection, and the bytes that were read and not decoded yet.
pub struct Redis {
    stream: TcpStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Redis {
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Redis { stream, decoder: Decoder::new(LARGEST), bytes: Vec::new() })
    }

    /// Sends a command, and returns its reply. An error of Redis is an error.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<Value> {
        let mut command = Vec::new();
        resp::command(&mut command, words);
        self.stream.write_all(&command)?;
        match self.next_value()? {
            Value::Error(error) => Err(io::Error::other(error)),
            value => Ok(value),
        }
    }

    /// Waits for the next value: a reply, or a message of a subscription.
    pub fn next_value(&mut self) -> io::Result<Value> {
        loop {
            let mut rest = &self.bytes[..];
            let value = self.decoder.decode(&mut rest).map_err(io::Error::other)?;
            self.bytes = rest.to_vec();
            if let Some(value) = value {
                return Ok(value);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }
}
