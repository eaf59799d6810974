//! The exercises of lesson 05: `cargo test --test 05-exercises NAME`. Each fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use common::{Client, Running};
use overwire::sse;

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_05-server-sent-events")).args(["--port", "0"]))
}

fn connect(server: &Running) -> Client {
    let client = Client::connect(server.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Begins a stream and reads its first event.
fn begin(server: &Running, target: &str) -> (Client, sse::Reader) {
    let mut client = connect(server);
    let head = client.send_get(target).head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
    let mut reader = sse::Reader::default();
    reader.read(&client.chunk().expect("a stream begins with its id"));
    (client, reader)
}

fn add(server: &Running, text: &str) {
    let answer = connect(server).post("/add-message", &serde_json::json!({ "message": text }).to_string());
    assert_eq!(answer.status, 200);
}

/// Exercise 1: each client gets another reconnection time, at random from 1 to 3 seconds. After a restart of the
/// server, a thousand clients do not return at one moment.
#[test]
fn reconnection_times_are_random() {
    let server = start();
    let retries: Vec<_> = (0..10).map(|_| begin(&server, "/quiet").1.retry().expect("a retry field")).collect();
    let range = Duration::from_secs(1)..=Duration::from_secs(3);
    assert!(retries.iter().all(|retry| range.contains(retry)), "from 1 to 3 seconds: {retries:?}");
    let different: HashSet<_> = retries.iter().collect();
    assert!(different.len() > 1, "all are the same: {retries:?}");
}

/// Exercise 2: `POST /stop` is answered with 200. It sends an event of the type `bye`, with any data but none that is
/// empty, on all streams, and ends them with their last-chunk. From then on `/events` and `/quiet` answer 204, which tells
/// an EventSource not to reconnect. A page that opens a new one by itself needs the event.
#[test]
fn stopped_server_answers_204() {
    let server = start();
    let (mut quiet, mut reader) = begin(&server, "/quiet");
    assert_eq!(connect(&server).post("/stop", "").status, 200);
    let bye = reader.read(&quiet.chunk().expect("a chunk with the event"));
    assert!(bye.len() == 1 && bye[0].name == "bye" && !bye[0].data.is_empty(), "{bye:?}");
    assert_eq!(quiet.chunk(), None, "the stream ends with its last-chunk");
    for target in ["/events", "/quiet"] {
        assert!(connect(&server).send_get(target).head().starts_with("HTTP/1.1 204 "), "{target}");
    }
    assert_eq!(connect(&server).get("/stop").field("Allow"), Some("POST"));
}

/// Exercise 3: the listeners of both streams get an event `joined` when another listener begins, and an event `left`
/// when one stops. Its data is the number of listeners. It has no id and is not retained: it is stale for a client that
/// returns.
#[test]
fn listeners_are_notified_of_joins_and_leaves() {
    let server = start();
    let (mut first, _) = begin(&server, "/quiet");
    let (second, _) = begin(&server, "/quiet");
    add(&server, "hello");
    let joined = sse::Event { id: String::new(), name: "joined".into(), data: "2".into() };
    assert_eq!(first.event(), joined);
    assert_eq!(first.event().data, "hello");
    drop(second);
    let left = sse::Event { id: String::new(), name: "left".into(), data: "1".into() };
    assert_eq!(first.event(), left);
}
