//! The request log as JSON: one object a line, and nothing else on standard output.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Client;

/// A program with `--log=json`. It ends with its test.
struct Program {
    process: Child,
    address: SocketAddr,
    log: BufReader<ChildStdout>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        command.args(["--port", "0", "--no-tap", "--log=json"]).args(arguments);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut greeting = String::new();
        BufReader::new(process.stderr.as_mut().unwrap()).read_line(&mut greeting).unwrap();
        let address = greeting.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        let log = BufReader::new(process.stdout.take().unwrap());
        Program { process, address, log }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn signal_the_end(&self) {
        let kill = Command::new("sh").args(["-c", &format!("kill -s TERM {}", self.process.id())]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn each_answer_is_an_object() {
    let mut program = Program::start(&[]);
    let mut client = program.connect();
    let peer = client.stream.local_addr().unwrap().to_string();
    let answer = client.get("/health?ticket=secret");
    let line = program.line();
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == "2026-11-29T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    assert!(line["duration"].as_f64().is_some_and(|seconds| (0.0..20.0).contains(&seconds)), "{line}");
    assert_eq!(line["bytes"], answer.head.len() + answer.content.len());
    let rest = ["client", "identity", "method", "target", "status", "end"].map(|name| line[name].clone());
    assert_eq!(json!(rest), json!([peer, null, "GET", "/health?ticket=***", 200, null]));
    client.send("GET /a\u{202e}b\u{2028}\u{9b}\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    assert_eq!(program.line()["target"], "/a%E2%80%AEb%E2%80%A8%C2%9B%C3%A9");
    client.send("nonsense\r\n\r\n").answer();
    let line = program.line();
    assert_eq!((&line["method"], &line["target"], &line["status"]), (&Value::Null, &Value::Null, &json!(400)));
}

#[test]
fn streams_and_websockets_have_the_reason_of_their_end() {
    let mut program = Program::start(&[]);
    let mut stream = program.connect();
    stream.send_get("/api/events").head_alone();
    drop(stream);
    let line = program.line();
    assert_eq!(
        (&line["target"], &line["status"], &line["end"]),
        (&json!("/api/events"), &json!(200), &json!("hung_up"))
    );
    let mut socket = program.connect();
    socket.upgrade("/api/ws?room=tea");
    socket.send(b"\x88\x80\0\0\0\0");
    let line = program.line();
    let found = ["target", "status", "end"].map(|name| line[name].clone());
    assert_eq!(json!(found), json!(["/api/ws?room=tea", 101, "closed_by_peer"]));
    let mut poll = program.connect();
    poll.send_get("/api/poll?client_id=tab&timeout=60");
    drop(poll);
    let line = program.line();
    assert_eq!((&line["status"], &line["end"]), (&Value::Null, &json!("hung_up")), "there was no answer: {line}");
}

#[test]
fn the_identity_is_in_its_line() {
    let file = std::env::temp_dir().join(format!("overwire-json-log-{}.keys", std::process::id()));
    let path = file.to_str().unwrap();
    let name = "al\u{202e}ice \u{e9}";
    let add = Command::new(env!("CARGO_BIN_EXE_overwire"))
        .args(["key", "add", name, "--keys", path, "--rights", "read"])
        .output()
        .unwrap();
    let key = String::from_utf8(add.stdout).unwrap();
    let key = key.split_whitespace().find(|word| word.starts_with("ow_")).unwrap();
    let mut program = Program::start(&["--keys", path]);
    std::fs::remove_file(&file).unwrap();
    let request = format!("GET /api/history HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
    assert_eq!(program.connect().send(request).answer().status, 200);
    let mut line = String::new();
    program.log.read_line(&mut line).unwrap();
    assert!(line.contains(r#""identity":"al\u202eice é""#) && !line.contains(key), "{line}");
}

#[test]
fn dropped_lines_are_an_object_and_do_not_delay_the_end() {
    let mut program = Program::start(&[]);
    let mut client = program.connect();
    let (target, count) = (format!("/{}", "x".repeat(7999)), 600);
    for _ in 0..count {
        assert_eq!(client.get(&target).status, 404);
    }
    program.signal_the_end();
    let start = Instant::now();
    while program.process.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(5), "it waits for a reader");
        thread::yield_now();
    }
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
    let mut log = Vec::new();
    program.log.read_to_end(&mut log).unwrap();
    // The last line may be cut: the pipe was full.
    let whole = log.iter().rposition(|byte| *byte == b'\n').unwrap();
    let lines = std::str::from_utf8(&log[..whole]).unwrap().lines();
    assert!(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()).all(|line| line["status"] == 404));

    let mut program = Program::start(&[]);
    let mut client = program.connect();
    (0..count).for_each(|_| drop(client.get(&target)));
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < count {
        let line = program.line();
        match line["dropped_lines"].as_u64() {
            Some(number) => dropped += number as usize,
            None => seen += 1,
        }
    }
    assert!(dropped > 0 && seen + dropped == count, "{seen} seen, {dropped} dropped");
}
