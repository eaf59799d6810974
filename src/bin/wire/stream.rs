//! The bytes of a connection: a TCP socket, or the standard input and output of a program.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One end of a connection.
pub enum Stream {
    Tcp(TcpStream),
    /// The other ends are the standard input and the standard output of a program. They are sockets, because a write to
    /// a pipe has no time limit.
    Program {
        input: UnixStream,
        output: UnixStream,
    },
}

impl Stream {
    /// Returns another handle of the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Program { input, output } => {
                Stream::Program { input: input.try_clone()?, output: output.try_clone()? }
            }
        })
    }

    /// Bounds the time of each write, for all handles.
    pub fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Stream::Program { input, .. } => input.set_write_timeout(Some(limit)),
        }
    }

    /// Makes a read return `WouldBlock` in place of a wait, for all handles. A write may do so too.
    pub fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(is_nonblocking),
            Stream::Program { output, .. } => output.set_nonblocking(is_nonblocking),
        }
    }

    /// Ends the input of a program, for all handles. It can still send. Does nothing to a TCP connection.
    pub fn finish_input(&self) {
        if let Stream::Program { input, .. } = self {
            let _ = input.shutdown(Shutdown::Both); // the program may have ended
        }
    }

    /// Ends both directions of a program, for all handles.
    pub fn close(&self) {
        self.finish_input();
        if let Stream::Program { output, .. } = self {
            let _ = output.shutdown(Shutdown::Both);
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Program { output, .. } => output.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Program { input, .. } => input.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // none of them has a buffer
    }
}
