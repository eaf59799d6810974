//! The exercises of lesson 04: `cargo test --test 04-exercises NAME`. Each fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::io::Read;
use std::process::Command;
use std::time::Duration;

use common::{Client, Running};
use serde_json::{Value, json};

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_04-http-streaming")).args(["--port", "0"]))
}

fn connect(server: &Running) -> Client {
    let client = Client::connect(server.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

fn add(server: &Running, text: &str) -> String {
    let answer = connect(server).post("/add-message", &json!({ "message": text }).to_string());
    answer.json()["id"].as_str().expect("the message has an id").to_owned()
}

fn begin(server: &Running, target: &str) -> Client {
    let mut client = connect(server);
    let head = client.send_get(target).head_alone();
    assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
    client
}

fn status(server: &Running, target: &str) -> String {
    connect(server).send_get(target).head_alone()[9..12].to_owned()
}

fn next_line(client: &mut Client) -> Value {
    serde_json::from_str(&client.chunk_text()).expect("a line of JSON")
}

/// Exercise 1: `GET /stream?heartbeat=N` sends an empty line every N seconds, 1 to 60. The default is 15.
#[test]
fn heartbeat_interval_is_configurable() {
    let server = start();
    for wrong in ["0", "61", "x", ""] {
        assert_eq!(status(&server, &format!("/stream?heartbeat={wrong}")), "400", "heartbeat={wrong}");
    }
    let mut client = begin(&server, "/stream?heartbeat=1");
    for _ in 0..2 {
        let mut bytes = [0; 6];
        let result = client.stream.read_exact(&mut bytes);
        assert!(result.is_ok() && &bytes == b"1\r\n\n\r\n", "no empty line arrives within 5 seconds");
    }
}

/// Exercise 2: every stream begins with a line `{"last_message_id": "..."}`. A client that loses its connection before
/// the first message has a cursor, too.
#[test]
fn streams_begin_with_their_position() {
    let server = start();
    add(&server, "before");
    let mut client = begin(&server, "/stream");
    add(&server, "missed");
    let first = next_line(&mut client);
    let cursor = first["last_message_id"].as_str().unwrap_or_else(|| panic!("the first line tells no cursor: {first}"));
    drop(client);
    let mut resumed = begin(&server, &format!("/stream?last_message_id={cursor}"));
    assert_eq!(next_line(&mut resumed)["last_message_id"], cursor);
    assert_eq!(next_line(&mut resumed)["text"], "missed");
}

/// Exercise 3: `GET /stream?count=N`, 1 to 1000: the stream ends by itself with its last-chunk after N messages,
/// including retained ones. The connection stays open for the next request.
#[test]
fn streams_end_after_count_messages() {
    let server = start();
    for wrong in ["0", "1001", "x", ""] {
        assert_eq!(status(&server, &format!("/stream?count={wrong}")), "400", "count={wrong}");
    }
    let cursor = add(&server, "before");
    add(&server, "one");
    let mut client = begin(&server, &format!("/stream?count=2&last_message_id={cursor}"));
    ["two", "three"].iter().for_each(|text| _ = add(&server, text));
    let texts: Vec<_> = (0..2).map(|_| next_line(&mut client)["text"].clone()).collect();
    assert_eq!(texts, ["one", "two"]);
    let third = client.chunk().map(|chunk| String::from_utf8_lossy(&chunk).into_owned());
    assert_eq!(third, None, "the last-chunk follows two messages");
    assert_eq!(client.get("/").status, 200, "the connection is used again");
    let mut retained = begin(&server, &format!("/stream?count=2&last_message_id={cursor}"));
    assert_eq!([next_line(&mut retained)["text"].clone(), next_line(&mut retained)["text"].clone()], ["one", "two"]);
    assert_eq!(retained.chunk(), None, "three are retained, two were requested");
}
