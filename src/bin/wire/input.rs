//! The threads that wait for bytes of the server and for lines of standard input.

use std::io::{self, BufRead, ErrorKind, Read};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::connection::reason;

/// A report of a thread that waits for bytes or lines.
pub enum Input {
    Bytes(Vec<u8>),
    /// The end of the connection, and its reason.
    End(String),
    /// A line of standard input. `None` is its end.
    Line(Option<String>),
}

/// Reads bytes to the end of the connection.
pub fn read_bytes(mut stream: TcpStream, sender: &SyncSender<Input>) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let input = match stream.read(&mut bytes) {
            Ok(0) => Input::End("the server closed the connection".to_owned()),
            Ok(count) => Input::Bytes(bytes[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Input::End(reason(&error)),
        };
        let is_last = matches!(input, Input::End(_));
        if sender.send(input).is_err() || is_last {
            return;
        }
    }
}

/// Reads a line for each permit. So standard input is not read while a server reads nothing.
pub fn read_lines(permits: &Receiver<()>, sender: &SyncSender<Input>) {
    let mut lines = io::stdin().lock().split(b'\n');
    while permits.recv().is_ok() {
        let line = lines.next().and_then(Result::ok).map(|mut line| {
            if line.ends_with(b"\r") {
                line.pop();
            }
            String::from_utf8_lossy(&line).into_owned()
        });
        let is_last = line.is_none();
        if sender.send(Input::Line(line)).is_err() || is_last {
            return;
        }
    }
}
