//! The exercises of lesson 03. Each test fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{Answer, Client, Running};
use serde_json::json;

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_03-long-polling")).args(["--port", "0"]))
}

/// Sends a poll. Its answer is awaited for at most 5 seconds.
fn ask(running: &Running, query: &str) -> Client {
    let mut poll = Client::connect(running.address);
    poll.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    poll.send_get(&format!("/messages?{query}"));
    poll
}

/// Adds a message: `{"message": "..."}`, perhaps with more fields.
fn add(running: &Running, content: &serde_json::Value) {
    let answer = Client::connect(running.address).post("/add-message", &content.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn cursor_of(answer: &Answer) -> String {
    answer.json()["last_message_id"].as_str().expect("an answer has a last_message_id").to_owned()
}

/// Exercise 1: `held_ms` in an answer is the time that the poll was held, in milliseconds, or 0.
#[test]
fn answers_report_the_time_held() {
    let running = start();
    let over = ask(&running, "timeout=1").answer().json();
    let held = over["held_ms"].as_u64().expect("held_ms is a whole number");
    assert!((1000..5000).contains(&held), "a second, not {held} ms");

    let mut poll = ask(&running, "");
    thread::sleep(Duration::from_millis(300));
    add(&running, &json!({ "message": "one" }));
    let held = poll.answer().json()["held_ms"].as_u64().expect("held_ms is a whole number");
    assert!((200..5000).contains(&held), "about 300 ms, not {held} ms");
    assert_eq!(ask(&running, "").answer().json()["held_ms"], 0, "there was a message already");
}

/// Exercise 2: a poll can name its client: `?client_id=alice`. A client that polls twice has probably lost its first
/// connection, and the server has not noticed. The newest poll wins. The older one is answered at once, without
/// messages and with `"superseded": true`. Polls without a name are held side by side.
#[test]
fn newer_polls_supersede_older_ones() {
    let running = start();
    let mut others = [ask(&running, "client_id=bob"), ask(&running, ""), ask(&running, "")];
    let mut older = ask(&running, "client_id=alice&timeout=2");
    thread::sleep(Duration::from_millis(100));
    let mut newer = ask(&running, "client_id=alice");
    let answer = older.answer();
    assert_eq!((answer.texts().len(), &answer.json()["superseded"]), (0, &json!(true)));

    add(&running, &json!({ "message": "one" }));
    let answer = newer.answer();
    assert_eq!((answer.texts(), &answer.json()["superseded"]), (vec!["one".to_owned()], &json!(false)));
    for other in &mut others {
        assert_eq!(other.answer().texts(), ["one"]);
    }
}

/// Exercise 3: rooms. A poll has `?room=`, a message has `"room"`: 1 to 64 characters, by default `general`. A message
/// reaches the polls of its room. A cursor belongs to one room. In another it is unknown. There are at most 100 rooms.
/// A request for one more gets 503.
#[test]
fn messages_stay_in_their_room() {
    let running = start();
    let (mut general, mut tea) = (ask(&running, "timeout=1"), ask(&running, "timeout=4&room=tea"));
    thread::sleep(Duration::from_millis(100));
    add(&running, &json!({ "message": "milk?", "room": "tea" }));
    let answer = tea.answer();
    assert_eq!(answer.texts(), ["milk?"]);
    assert_eq!(general.answer().json()["timeout"], true, "nothing was sent to the room general");

    add(&running, &json!({ "message": "hello" }));
    assert_eq!(ask(&running, "room=general").answer().texts(), ["hello"]);
    let elsewhere = ask(&running, &format!("last_message_id={}", cursor_of(&answer))).answer();
    assert_eq!(elsewhere.json()["recovered"], false, "a cursor of another room");

    let mut client = Client::connect(running.address);
    assert_eq!(client.get(&format!("/messages?room={}", "x".repeat(65))).status, 400);
    assert_eq!(client.post("/add-message", r#"{"message": "one", "room": 7}"#).status, 400);
    for number in 2..100 {
        add(&running, &json!({ "message": "one", "room": number.to_string() }));
    }
    assert_eq!(client.post("/add-message", r#"{"message": "one", "room": "one too many"}"#).status, 503);
}
