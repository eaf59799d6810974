//! Lesson 08: one feed, five transports, and a follower that falls back without loss or repetition.

#[allow(dead_code)]
#[path = "../../lessons/08-choosing/main.rs"]
mod main;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use overwire::websocket::Opcode;
use serde_json::{Value, json};

use crate::common::dice::Dice;
use crate::common::{Answer, Client, PATIENCE, Running};
use crate::lesson::{program, serve};

/// A cursor of another run of the server.
const FOREIGN: &str = "1f0c2a9e-8b4d-8e17-b5c3-7f000000002a";

fn start() -> Running {
    start_at(0)
}

fn start_at(port: u16) -> Running {
    Running::start(Command::new(program("08-choosing")).args(["--port", &port.to_string()]))
}

fn post(server: &Running, target: &str, content: &Value) -> Answer {
    Client::connect(server.address).post(target, &content.to_string())
}

fn publish(server: &Running, text: &str) -> String {
    let answer = post(server, "/publish", &json!({ "message": text }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn plug(server: &Running, transport: &str, plugged_in: bool) {
    assert_eq!(post(server, "/plug", &json!({ "transport": transport, "in": plugged_in })).status, 200);
}

fn cursor(server: &Running) -> String {
    let answer = Client::connect(server.address).get("/short").json();
    answer["last_message_id"].as_str().unwrap().to_owned()
}

#[test]
fn every_transport_resumes_after_a_cursor() {
    let server = start();
    let cursor = cursor(&server);
    let ids = ["one", "two"].map(|text| publish(&server, text));
    let wanted = json!([{ "id": ids[0], "text": "one" }, { "id": ids[1], "text": "two" }]);
    for transport in ["short", "long"] {
        let answer = Client::connect(server.address).get(&format!("/{transport}?last_message_id={cursor}"));
        assert_eq!(answer.field("Cache-Control"), Some("no-store"));
        assert_eq!(answer.json()["messages"], wanted, "{transport}");
        assert_eq!(answer.json()["last_message_id"], json!(ids[1]));
    }
    let mut stream = Client::connect(server.address);
    stream.send_get(&format!("/stream?last_message_id={cursor}")).head_alone();
    assert!(stream.chunk_text().contains(r#""recovered":true"#));
    let lines = [stream.chunk_text(), stream.chunk_text()].map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert_eq!(json!(lines), wanted);

    let mut events = Client::connect(server.address);
    events.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {cursor}\r\n\r\n")).head_alone();
    assert_eq!(events.event().name, "position");
    for id in &ids {
        let event = events.event();
        assert_eq!((&event.id, &*event.name), (id, "message"));
    }

    let mut socket = Client::connect(server.address);
    socket.upgrade(&format!("/ws?last_message_id={cursor}"));
    assert_eq!(socket.frame().json()["recovered"], true);
    assert_eq!(json!([socket.frame().json(), socket.frame().json()]), wanted);
}

#[test]
fn messages_reach_all_transports_at_once() {
    let server = start();
    let mut clients = ["long", "stream", "events", "ws"].map(|_| Client::connect(server.address));
    let [long, stream, events, socket] = &mut clients;
    stream.send_get("/stream").head_alone();
    stream.chunk_text();
    events.send_get("/events").head_alone();
    events.event();
    socket.upgrade("/ws");
    socket.frame();
    long.send_get(&format!("/long?last_message_id={}", cursor(&server)));
    let id = publish(&server, "hello");
    assert_eq!(long.answer().json()["messages"][0]["id"], json!(id));
    assert!(stream.chunk_text().contains(&id));
    assert_eq!(events.event().id, id);
    assert_eq!(socket.frame().json()["id"], json!(id));
    let report = Client::connect(server.address).get("/report").json();
    for transport in ["long", "stream", "events", "ws"] {
        assert_eq!(report[transport]["messages"], 1, "{report}");
        assert!(report[transport]["down"].as_u64().unwrap() > 100, "{report}");
    }
}

#[test]
fn unplugged_transports_end_and_refuse() {
    let server = start();
    let mut stream = Client::connect(server.address);
    stream.send_get("/stream").head_alone();
    stream.chunk_text();
    let mut socket = Client::connect(server.address);
    socket.upgrade("/ws");
    socket.frame();
    for transport in ["stream", "ws", "short", "long", "events"] {
        plug(&server, transport, false);
    }
    assert_eq!(stream.chunk(), None, "an orderly end");
    assert_eq!(socket.frame().close().0, 1001);
    socket.send_frame(Opcode::Close, [3, 0xe9]).expect_end();
    for transport in ["short", "long", "stream", "events", "ws"] {
        let answer = Client::connect(server.address).get(&format!("/{transport}"));
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")), "{transport}");
    }
    plug(&server, "short", true);
    assert_eq!(Client::connect(server.address).get("/short").status, 200);
    // No reader is left.
    publish(&server, "to nobody");
    let report = Client::connect(server.address).get("/report").json();
    assert_eq!((&report["stream"]["messages"], &report["ws"]["messages"]), (&json!(0), &json!(0)));
}

#[test]
fn held_polls_are_answered_when_unplugged() {
    let server = start();
    let mut client = Client::connect(server.address);
    client.send_get("/long");
    plug(&server, "long", false);
    let answer = client.answer();
    assert_eq!((answer.status, &answer.json()["messages"]), (200, &json!([])));
}

#[test]
fn cursors_of_another_run_get_recovered_false() {
    let server = start();
    let target = format!("/long?last_message_id={FOREIGN}");
    let answer = Client::connect(server.address).get(&target).json();
    assert_eq!(
        (&answer["recovered"], &answer["messages"]),
        (&json!(false), &json!([])),
        "a poll is answered at once if messages may be missing"
    );
    publish(&server, "retained");
    let answer = Client::connect(server.address).get(&target).json();
    assert_eq!((&answer["recovered"], &answer["messages"][0]["text"]), (&json!(false), &json!("retained")));
}

#[test]
fn report_counts_every_byte() {
    let server = start();
    let mut client = Client::connect(server.address);
    let mut down = 0;
    for _ in 0..3 {
        let answer = client.get("/short");
        down += answer.head.len() + answer.content.len();
    }
    let up = 3 * "GET /short HTTP/1.1\r\nHost: localhost\r\n\r\n".len();
    let report = client.get("/report").json();
    assert_eq!((&report["short"]["up"], &report["short"]["down"]), (&json!(up), &json!(down)));
    assert_eq!(report["short"]["requests"], 3);
}

#[test]
fn heartbeats_break_silence() {
    let server = serve(main::serve);
    let mut stream = server.connect();
    stream.send_get("/stream").head_alone();
    stream.chunk();
    let mut events = server.connect();
    events.send_get("/events").head_alone();
    events.chunk();
    let mut poll = server.connect();
    poll.send_get("/long");
    server.get("/report"); // the poll is held when this is answered
    for _ in 0..2 {
        server.advance(16);
        assert_eq!(stream.chunk_text(), "\n");
        assert_eq!(events.chunk_text(), ": heartbeat\n\n");
    }
    assert_eq!(poll.answer().json()["messages"], json!([]), "at its deadline");
    server.stop();
}

#[test]
fn errors_say_what_is_wrong() {
    let server = start();
    for (target, content) in
        [("/publish", json!({})), ("/publish", json!({ "message": "" })), ("/plug", json!({ "transport": "fax" }))]
    {
        let answer = post(&server, target, &content);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("expected"));
    }
    assert_eq!(Client::connect(server.address).get("/short?last_message_id=7").status, 400);
    assert_eq!(Client::connect(server.address).get("/ws").status, 400);
    assert_eq!(Client::connect(server.address).get("/nothing").status, 404);
    for target in ["/short", "/long", "/stream", "/events", "/ws", "/report"] {
        let answer = post(&server, target, &json!({}));
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")), "{target}");
    }
    for target in ["/publish", "/plug"] {
        let answer = Client::connect(server.address).get(target);
        assert_eq!((answer.status, answer.field("Allow")), (405, Some("POST")), "{target}");
    }
}

#[test]
fn head_is_answered_without_content() {
    let server = start();
    for target in ["/short", "/stream", "/events", "/report"] {
        let mut client = Client::connect(server.address);
        let head = client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).head_alone();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(client.get("/nothing").status, 404, "no content follows that head");
    }
}

/// The program 08-follow and its output.
struct Follower {
    process: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(server: &Running) -> Self {
        Self::of(server.address)
    }

    fn of(server: SocketAddr) -> Self {
        let mut command = Command::new(program("08-follow"));
        let port = server.port().to_string();
        let mut process = command.args(["--port", &port]).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Follower { process, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the follower prints a line")
    }

    /// Waits for the next message. Returns its transport and its text.
    fn message(&self) -> (String, String) {
        loop {
            let line = self.line();
            if let Some((transport, text)) = line.split_once(" > ") {
                return (transport.trim().to_owned(), text.to_owned());
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn follower_falls_back_through_all_transports() {
    let server = start();
    let follower = Follower::start(&server);
    assert_eq!(follower.line(), "ws      open");
    let transports = ["ws", "events", "stream", "long", "short"];
    for (step, transport) in transports.iter().enumerate() {
        publish(&server, &format!("message {step}"));
        assert_eq!(follower.message(), ((*transport).to_owned(), format!("message {step}")));
        plug(&server, transport, false);
    }
    publish(&server, "while nothing works");
    plug(&server, "stream", true);
    assert_eq!(follower.message(), ("stream".to_owned(), "while nothing works".to_owned()));
}

#[test]
fn follower_loses_and_repeats_nothing_whatever_is_unplugged() {
    let server = start();
    let follower = Follower::start(&server);
    assert_eq!(follower.line(), "ws      open");
    let mut dice = Dice(8);
    let transports = ["ws", "events", "stream", "long"];
    for message in 0..200 {
        publish(&server, &message.to_string());
        let transport = transports[dice.roll(4) as usize];
        plug(&server, transport, dice.roll(2) == 0);
    }
    plug(&server, "long", true);
    let seen: Vec<_> = (0..200).map(|_| follower.message().1).collect();
    assert_eq!(seen, (0..200).map(|message| message.to_string()).collect::<Vec<_>>());
}

#[test]
fn comparison_has_a_row_for_each_transport() {
    let server = start();
    plug(&server, "events", false);
    let port = server.address.port().to_string();
    let output = Command::new(program("08-compare")).args(["--port", &port]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
    // After the name, the delay and its unit: the requests, and the bytes up and down.
    assert_eq!(rows[0][4..], ["1", "93", "299"], "{text}");
    assert_eq!(rows[1][4..], ["1", "92", "299"], "{text}");
    assert_eq!(rows[2][4..], ["0", "0", "82"], "{text}");
    assert!(text.lines().nth(4).unwrap().ends_with("expected the status 200, not 503"), "{text}");
    assert_eq!(rows[4][3..], ["0", "0", "77"], "{text}");
}

#[test]
fn follower_has_a_cursor_before_its_first_message() {
    let server = start();
    let follower = Follower::start(&server);
    assert_eq!(follower.line(), "ws      open");
    for transport in ["long", "short", "stream", "events", "ws"] {
        plug(&server, transport, false);
    }
    publish(&server, "while nothing works");
    plug(&server, "events", true);
    assert_eq!(follower.message(), ("events".to_owned(), "while nothing works".to_owned()));
}

#[test]
fn follower_reports_a_gap() {
    let server = start();
    let port = server.address.port();
    let follower = Follower::start(&server);
    assert_eq!(follower.line(), "ws      open");
    publish(&server, "one");
    assert_eq!(follower.message().1, "one");
    drop(server);
    let server = start_at(port);
    while !follower.line().ends_with("messages are missing: the server no longer has them") {}
    publish(&server, "of another run");
    assert_eq!(follower.message().1, "of another run");
}

#[test]
fn follower_backs_off_when_nothing_works() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let follower = Follower::of(listener.local_addr().unwrap());
    let start = Instant::now();
    let mut attempts = 0;
    while start.elapsed() < Duration::from_secs(2) {
        drop(listener.accept().unwrap());
        attempts += 1;
    }
    drop(follower);
    assert!(attempts < 100, "{attempts} attempts in two seconds");
}

/// Starts a server that answers every request with `answer` and closes. Returns its address and the requests.
fn serve_always(answer: &str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answer) = (listener.local_addr().unwrap(), answer.to_owned());
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut bytes = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&bytes[..count]),
                }
            }
            let _ = stream.write_all(answer.as_bytes());
            if sender.send(String::from_utf8_lossy(&request).into_owned()).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

#[test]
fn follower_sends_nothing_but_cursors() {
    let line = r#"{"id":"x HTTP/1.1\r\nX: y","text":"hello"}"#;
    let answer =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\n\r\n0\r\n\r\n", line.len() + 1);
    let (address, requests) = serve_always(&answer);
    let _follower = Follower::of(address);
    let asked: Vec<_> = (0..8).map(|_| requests.recv_timeout(PATIENCE).unwrap()).collect();
    for request in asked {
        assert!(request.lines().next().is_some_and(|line| line.matches(' ').count() == 2), "{request}");
        assert!(!request.contains("X: y"), "{request}");
    }
}

#[test]
fn follower_rejects_endless_answers() {
    let (address, _requests) = serve_always("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
    let follower = Follower::of(address);
    while follower.line() != "long    the answer is too long, or has no Content-Length" {}
}
