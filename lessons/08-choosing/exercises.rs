//! The exercises of lesson 08: `cargo test --test 08-exercises NAME`. Each fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Client, Running};
use serde_json::{Value, json};

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_08-choosing")).args(["--port", "0"]))
}

fn post(server: &Running, target: &str, content: &Value) -> Value {
    Client::connect(server.address).post(target, &content.to_string()).json()
}

/// Exercise 1: each row of the report has the number of readers that are `open` now.
#[test]
fn report_counts_open_readers() {
    let server = start();
    let mut streams = [Client::connect(server.address), Client::connect(server.address)];
    for stream in &mut streams {
        stream.send_get("/stream").head_alone();
        stream.chunk();
    }
    let report = Client::connect(server.address).get("/report").json();
    assert_eq!((&report["stream"]["open"], &report["ws"]["open"]), (&json!(2), &json!(0)), "{report}");
}

/// Exercise 2: a publisher that got no answer publishes again with the same `key`. The message is published once: the
/// second answer has the id of the first.
#[test]
fn retried_publishes_are_published_once() {
    let server = start();
    let start = Client::connect(server.address).get("/short").json();
    let publish = |text, key| post(&server, "/publish", &json!({ "message": text, "key": key }))["id"].take();
    let (first, second, other) = (publish("hello", "k1"), publish("hello", "k1"), publish("hello", "k2"));
    assert_eq!(first, second, "one message, one id");
    assert_ne!(first, other, "another key is another message");
    let cursor = start["last_message_id"].as_str().unwrap();
    let news = Client::connect(server.address).get(&format!("/short?last_message_id={cursor}")).json();
    assert_eq!(news["messages"].as_array().map(Vec::len), Some(2), "{news}");
}

/// Exercise 3: a follower that has fallen back tries the best transport again after five messages. It loses and repeats
/// nothing.
#[test]
fn follower_returns_to_the_best_transport() {
    let server = start();
    let port = server.address.port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_08-follow"));
    let mut follower = command.args(["--port", &port]).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let wait_for = |wanted: &str| {
        let mut printed = Vec::new();
        while printed.last().is_none_or(|line: &String| !line.starts_with(wanted)) {
            printed.extend(lines.recv_timeout(Duration::from_secs(5)).ok().or(Some("ended".into())));
            if printed.last().is_some_and(|line| line == "ended") {
                return Err(format!("no {wanted:?} in {printed:?}"));
            }
        }
        Ok(printed)
    };
    let run = || {
        wait_for("ws      open")?;
        post(&server, "/plug", &json!({ "transport": "ws", "in": false }));
        wait_for("events  open")?;
        post(&server, "/plug", &json!({ "transport": "ws", "in": true }));
        for message in 1..=5 {
            post(&server, "/publish", &json!({ "message": format!("message {message}") }));
            wait_for(&format!("events  > message {message}"))?;
        }
        wait_for("ws      open")?;
        post(&server, "/publish", &json!({ "message": "message 6" }));
        wait_for("ws      > message 6")
    };
    let outcome = run();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(outcome.map(|printed| printed.len()), Ok(1), "nothing stands between");
}
