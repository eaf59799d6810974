//! The exercises of lesson 02. Each test fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;

use common::{Answer, Client, Running};
use serde_json::json;

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_02-short-polling")).args(["--port", "0"]))
}

fn add(client: &mut Client, texts: &[&str]) {
    for text in texts {
        let answer = client.post("/add-message", &json!({ "message": text }).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

fn cursor_of(answer: &Answer) -> String {
    answer.json()["last_message_id"].as_str().expect("an answer has a last_message_id").to_owned()
}

/// Exercise 1: `?last_message_id=now` is for a reader who does not need earlier messages. The answer has no messages,
/// and the cursor that the next message follows.
#[test]
fn cursor_can_be_now() {
    let running = start();
    let mut client = Client::connect(running.address);
    add(&mut client, &["one", "two"]);
    let answer = client.get("/api/messages?last_message_id=now");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.texts(), [""; 0]);
    assert_eq!(answer.json()["recovered"], true);

    add(&mut client, &["three"]);
    let next = client.get(&format!("/api/messages?last_message_id={}", cursor_of(&answer)));
    assert_eq!(next.texts(), ["three"]);
    assert_eq!(client.get("/api/messages?last_message_id=then").status, 400);
}

/// Exercise 2: `?limit=2` (1 to 100) is for a reader who takes at most two messages at a time. `more` says whether
/// others follow, so that the reader polls again at once.
#[test]
fn long_answers_are_paged() {
    let running = start();
    let mut client = Client::connect(running.address);
    add(&mut client, &["one", "two", "three", "four", "five"]);
    let (mut cursor, mut pages) = (String::new(), Vec::new());
    for _ in 0..3 {
        let answer = client.get(&format!("/api/messages?limit=2&last_message_id={cursor}"));
        pages.push((answer.texts().join(" "), answer.json()["more"].clone()));
        cursor = cursor_of(&answer);
    }
    let expected = [("one two", true), ("three four", true), ("five", false)];
    assert_eq!(pages, expected.map(|(texts, more)| (texts.to_owned(), json!(more))));

    assert_eq!(client.get("/api/messages").json()["more"], false, "without a limit, nothing follows");
    for limit in ["0", "101", "two"] {
        assert_eq!(client.get(&format!("/api/messages?limit={limit}")).status, 400, "limit={limit}");
    }
}

/// Exercise 3: an answer has an `ETag` (RFC 9110, section 8.8.3), which differs when the answer does. A client that
/// sends it back in `If-None-Match` (section 13.1.2) gets 304 (section 15.4.5) instead of the same content. With
/// `Cache-Control: no-cache` instead of `no-store`, a browser does this by itself.
#[test]
fn unchanged_answers_get_304() {
    let running = start();
    let mut client = Client::connect(running.address);
    let ask = |client: &mut Client, fields: &str| {
        client.send(format!("GET /api/messages HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).answer()
    };
    let first = ask(&mut client, "");
    let tag = first.field("ETag").expect("an answer has an ETag").to_owned();
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "a strong entity-tag is in quotes: {tag}");
    assert_eq!(first.field("Cache-Control"), Some("no-cache"));

    // A weak tag and a list match as well: section 13.1.2 asks for the weak comparison.
    for condition in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
        let same = ask(&mut client, &format!("If-None-Match: {condition}\r\n"));
        assert_eq!((same.status, same.field("ETag")), (304, Some(&*tag)), "If-None-Match: {condition}");
    }
    add(&mut client, &["one"]);
    let changed = ask(&mut client, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((changed.status, changed.texts()), (200, vec!["one".to_owned()]));
    assert_ne!(changed.field("ETag"), Some(&*tag));
}
