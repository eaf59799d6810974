//! The lines of the program when nobody reads them: on a full pipe, and on a terminal on hold.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Client, PATIENCE};

/// The largest number of bytes that wait between the program and a reader: its two queues, and a pipe.
const WAITING: usize = 2 * 1024 * 1024 + 64 * 1024;

const TARGET_LENGTH: usize = 8000;

/// A running program whose output is not read. It ends with its test.
struct Program(Child);

impl Program {
    fn spawn(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_overwire")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Program(command.spawn().unwrap())
    }

    fn end(mut self, pid: u32) -> Option<i32> {
        let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {pid}")]).status().unwrap();
        assert!(kill.success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "the program does not end");
            thread::yield_now();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a line, and nothing after it.
fn line(stdout: &mut ChildStdout) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

/// Reads the greeting of a program without a tap, and returns its address.
fn address(stdout: &mut ChildStdout) -> SocketAddr {
    let greeting: Vec<_> = (0..5).map(|_| line(stdout)).collect();
    greeting[0].trim().strip_prefix("listening on http://").unwrap().parse().unwrap()
}

/// Makes requests whose lines do not fit into what waits. Returns their number.
fn overflow(client: &mut Client) -> usize {
    let target = format!("/{}", "x".repeat(TARGET_LENGTH - 1));
    let count = 2 * WAITING / TARGET_LENGTH;
    for _ in 0..count {
        assert_eq!(client.get(&target).status, 404);
    }
    count
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_counts_what_it_dropped() {
    let mut program = Program::spawn("exec \"$0\" --port 0 --no-tap --log");
    let mut stdout = program.0.stdout.take().unwrap();
    let mut client = Client::connect(address(&mut stdout));
    let count = overflow(&mut client);
    let mut lines = BufReader::new(&mut stdout).lines().map(Result::unwrap);
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < count {
        let line = lines.next().unwrap();
        match line.split_once(" lines were dropped: ") {
            Some((number, _)) => dropped += number.parse::<usize>().unwrap(),
            None => seen += usize::from(line.contains(" GET /xxx")),
        }
    }
    assert_eq!(seen + dropped, count);
    assert!(dropped > 0 && seen * TARGET_LENGTH > 1024 * 1024, "{seen} lines were written, {dropped} dropped");
    assert_eq!(client.get("/health").status, 200);
    assert!(lines.next().unwrap().contains(" GET /health 200 "), "the log goes on");
}

#[test]
fn a_log_that_nobody_reads_does_not_delay_the_end() {
    let mut program = Program::spawn("exec \"$0\" --port 0 --no-tap --log");
    let mut stdout = program.0.stdout.take().unwrap();
    let mut client = Client::connect(address(&mut stdout));
    overflow(&mut client);
    let (pid, start) = (program.0.id(), Instant::now());
    assert_eq!(program.end(pid), Some(0)); // nobody ever reads
    assert!(start.elapsed() < Duration::from_secs(5), "the time to drain: {:?}", start.elapsed());
}

#[test]
fn the_last_lines_of_the_log_are_written_at_the_end() {
    let mut program = Program::spawn("exec \"$0\" --port 0 --no-tap --log");
    let mut stdout = program.0.stdout.take().unwrap();
    let mut client = Client::connect(address(&mut stdout));
    for _ in 0..100 {
        client.get("/health");
    }
    let pid = program.0.id();
    assert_eq!(program.end(pid), Some(0));
    let mut log = String::new();
    stdout.read_to_string(&mut log).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains(" GET /health 200 ")).count(), 100);
}

/// The address of the only listening socket of a process (proc_net(5)).
#[cfg(target_os = "linux")]
fn listening_address(pid: u32) -> Option<SocketAddr> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    let sockets: Vec<String> = links.filter_map(|link| link.to_str().map(str::to_owned)).collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    table.lines().skip(1).find_map(|row| {
        let row: Vec<_> = row.split_whitespace().collect();
        let is_own = row[3] == "0A" && sockets.contains(&format!("socket:[{}]", row[9]));
        let port = u16::from_str_radix(row[1].split_once(':')?.1, 16).ok()?;
        is_own.then(|| ([127, 0, 0, 1], port).into())
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_serves_although_nobody_reads_its_greeting() {
    // A pipe has room for 64 KiB (pipe(7)). Standard error is the same pipe.
    let program = Program::spawn("head -c 65536 /dev/zero; exec \"$0\" --port 0 --no-tap 2>&1");
    let (pid, start) = (program.0.id(), Instant::now());
    let address = loop {
        match listening_address(pid) {
            Some(address) => break address,
            None => assert!(start.elapsed() < PATIENCE, "the program does not listen"),
        }
        thread::yield_now();
    };
    assert_eq!(Client::connect(address).get("/health").status, 200);
    assert_eq!(program.end(pid), Some(0));
}

/// Ctrl+S holds the output of a terminal until Ctrl+Q (termios(3), `IXON`).
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_on_hold_stops_nothing() {
    let mut program = Program::spawn(
        "exec script --quiet --flush --command \"echo \\$\\$; exec $0 --port 0 --no-tap --log\" /dev/null",
    );
    let mut stdout = program.0.stdout.take().unwrap();
    let pid = line(&mut stdout).trim().parse().unwrap();
    let mut client = Client::connect(address(&mut stdout));
    program.0.stdin.as_mut().unwrap().write_all(b"\x13").unwrap();
    for _ in 0..1000 {
        assert_eq!(client.get("/health").status, 200);
    }
    assert_eq!(program.end(pid), Some(0));
}
