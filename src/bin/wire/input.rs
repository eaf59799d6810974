//! The threads that wait for bytes of the server, for lines of standard input, and for Ctrl+C.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use overwire::{Event, EventLoop, Limits};

use crate::stream::Stream;

/// A report of a thread that waits for bytes or lines.
pub enum Input {
    Bytes(Vec<u8>),
    /// The end of the connection, or its error.
    End(Option<io::Error>),
    /// A line of standard input, or its end.
    Line(Line),
    /// Ctrl+C, or SIGTERM. The next one ends the process.
    Interrupt,
}

/// A line of standard input.
pub enum Line {
    Text(String),
    /// The line with this number, from 1. A text message has to be UTF-8 (RFC 6455, section 5.6).
    NotUtf8(usize),
    End,
}

/// Reads bytes to the end of the connection.
pub fn read_bytes(mut stream: Stream, sender: &SyncSender<Input>) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let input = match stream.read(&mut bytes) {
            Ok(0) => Input::End(None),
            Ok(count) => Input::Bytes(bytes[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Input::End(Some(error)),
        };
        let is_last = matches!(input, Input::End(_));
        if sender.send(input).is_err() || is_last {
            return;
        }
    }
}

/// Reads a line for each permit. So standard input is not read while a server reads nothing.
pub fn read_lines(permits: &Receiver<()>, sender: &SyncSender<Input>) {
    let mut lines = io::stdin().lock().split(b'\n').enumerate();
    while permits.recv().is_ok() {
        let line = match lines.next() {
            Some((number, Ok(line))) => {
                let line = line.strip_suffix(b"\r").unwrap_or(&line).to_vec();
                String::from_utf8(line).map_or(Line::NotUtf8(number + 1), Line::Text)
            }
            Some((_, Err(_))) | None => Line::End,
        };
        let is_last = matches!(line, Line::End);
        if sender.send(Input::Line(line)).is_err() || is_last {
            return;
        }
    }
}

/// Reports SIGINT and SIGTERM. Returns when they are caught. If the system refuses that, they end the process.
pub fn watch_interrupts(sender: SyncSender<Input>) {
    let (caught, is_caught) = mpsc::channel();
    thread::spawn(move || {
        let mut signals = EventLoop::new(Limits::default())?;
        signals.watch_signals()?;
        let _ = caught.send(());
        while !matches!(signals.next_event()?, Event::Shutdown) {}
        let _ = sender.send(Input::Interrupt); // the program may be about to end
        io::Result::Ok(())
    });
    let _ = is_caught.recv(); // the thread may have ended
}
