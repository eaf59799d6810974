//! Lesson 00: every byte is echoed, however slowly it is read and however it is split.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::common::{Client, PATIENCE, Running};
use crate::lesson::program;

const MAIN: &str = "00-readiness";
const BROKEN: &str = "00-broken";

/// The lesson's program and its log.
struct Echo {
    running: Running,
    lines: Receiver<String>,
}

impl Echo {
    fn start(name: &str) -> Self {
        Self::of(Command::new(program(name)).args(["--port", "0"]))
    }

    fn of(command: &mut Command) -> Self {
        let mut running = Running::start(command);
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(running.process.stdout.take().unwrap());
        // The output is read to its end: a program blocks when nobody reads its output.
        thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Echo { running, lines }
    }

    fn connect(&self) -> Client {
        Client::connect(self.running.address)
    }

    /// Waits for a line that begins like this.
    #[track_caller]
    fn wait_for(&self, beginning: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line begins {beginning:?}"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }
}

/// Bytes in which a lost or misplaced byte is noticed.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

#[test]
fn lines_are_echoed() {
    let echo = Echo::start(MAIN);
    let mut client = echo.connect();
    for line in ["hello\n", "again\n"] {
        assert_eq!(client.send(line).read_exactly(6), line.as_bytes());
    }
    client.finish();
    client.expect_end();
    echo.wait_for("#1 closed: all is answered; read 12, wrote 12");
}

#[test]
fn each_step_is_logged() {
    let echo = Echo::start(MAIN);
    let mut client = echo.connect();
    echo.wait_for("#1 accepted");
    client.send("hello\n").read_exactly(6);
    for line in ["#1 read 6", "#1 wrote 6 of 6", "#1 read: would block"] {
        echo.wait_for(line);
    }
    client.finish();
    echo.wait_for("#1 the peer has shut down its side");
}

#[test]
fn slow_readers_get_everything() {
    let echo = Echo::start(MAIN);
    let mut client = echo.connect();
    let sent = bytes(64_000_000);
    let mut stream = client.stream.try_clone().unwrap();
    let writer = thread::spawn({
        let sent = sent.clone();
        move || {
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    echo.wait_for("#1 reading stops: 262144 bytes or more wait to be written");
    assert!(!writer.is_finished(), "the server reads on, although nobody reads its output");
    assert!(client.read_to_end() == sent, "the echo differs");
    writer.join().unwrap();
    echo.wait_for("#1 closed: all is answered; read 64000000, wrote 64000000");
}

#[test]
fn non_reading_clients_neither_delay_others_nor_fill_memory() {
    let echo = Echo::start(MAIN);
    let mut stream = echo.connect().stream;
    let writer = thread::spawn(move || {
        // Far more than the kernel's buffers hold. The write fails when the server ends.
        let _ = stream.write_all(&bytes(64_000_000));
    });
    echo.wait_for("#1 reading stops");
    // Each of these turns is a chance to read on from the first client.
    let mut other = echo.connect();
    for _ in 0..500 {
        assert_eq!(other.send("hello\n").read_exactly(6), b"hello\n");
    }
    assert!(!writer.is_finished(), "the server reads on, although nobody reads its output");
    #[cfg(target_os = "linux")]
    assert!(echo.running.memory() < 16_000_000, "it holds {} bytes", echo.running.memory());
    drop(echo);
    writer.join().unwrap();
}

#[test]
fn many_clients_are_served_at_once() {
    let echo = Echo::start(MAIN);
    let mut clients: Vec<_> = (0..200).map(|_| echo.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.send(format!("{number:05}"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read_exactly(5), format!("{number:05}").as_bytes());
    }
}

#[test]
fn resets_end_only_their_own_connection() {
    let echo = Echo::start(MAIN);
    let mut other = echo.connect();
    other.send("a").read_exactly(1);
    let mut client = echo.connect();
    client.send(bytes(1000));
    echo.wait_for("#2 wrote 1000 of 1000");
    // Closing a socket with unread input resets the connection.
    drop(client);
    let line = echo.wait_for("#2 closed");
    assert!(line.contains("reset"), "{line}");
    assert_eq!(other.send("b").read_exactly(1), b"b");
}

#[test]
fn accepting_waits_for_a_free_file_descriptor() {
    let echo = Echo::of(Command::new("bash").args(["-c", "ulimit -n 16; exec \"$0\" --port 0"]).arg(program(MAIN)));
    let mut clients: Vec<_> = (0..20).map(|_| echo.connect()).collect();
    let mut last = clients.pop().unwrap();
    last.send("hello\n");
    // The accepted clients leave one by one.
    for (number, mut client) in clients.drain(..10).enumerate() {
        client.send("a").read_exactly(1);
        client.finish();
        echo.wait_for(&format!("#{} closed", number + 1));
    }
    assert_eq!(last.read_exactly(6), b"hello\n");
}

#[test]
fn broken_echoes_short_lines() {
    let echo = Echo::start(BROKEN);
    let mut client = echo.connect();
    assert_eq!(client.send("hello\n").read_exactly(6), b"hello\n");
    client.finish();
    client.expect_end();
}

#[test]
fn broken_loses_what_the_kernel_does_not_take() {
    let echo = Echo::start(BROKEN);
    let mut client = echo.connect();
    // More than the kernel's buffers hold: the server has handled most of it before any of it is read.
    client.send(bytes(64_000_000)).finish();
    let count = client.read_to_end().len();
    assert!(count < 64_000_000, "nothing was lost");
}
