//! The two-channel demo: polls and an event stream, each with a channel of its own.

mod common;

use common::{Client, TestServer};
use overwire::sse;
use serde_json::{Value, json};

/// Begins listening to the ticker.
fn listen(server: &TestServer, last_event_id: &str) -> Client {
    let mut client = server.connect();
    let field = if last_event_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_event_id}\r\n") };
    client.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{field}\r\n")).head();
    assert!(client.chunk_text().contains("retry: "));
    client
}

/// The next event: its id, and its name or the text of its message.
fn event(client: &mut Client) -> (String, String) {
    let sse::Event { id, name, data } = client.event();
    let message: Value = serde_json::from_str(&data).unwrap();
    (id, message["text"].as_str().map_or(name, str::to_owned))
}

/// Sends to the channel of the polls; the id of the message.
fn send(server: &TestServer, text: &str) -> String {
    let answer = server.post("/send", &json!({ "message": text }).to_string());
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"sent".into()));
    answer.json()["message_id"].as_str().unwrap().to_owned()
}

fn messages_in_all(server: &TestServer) -> Value {
    server.get("/api/stats").json()["total_messages"].take()
}

#[test]
fn a_held_poll_is_answered_by_a_send() {
    let server = TestServer::start();
    let mut poll = server.connect();
    poll.send_get("/poll");
    server.wait_for_open("long_poll", 1);
    let id = send(&server, "hello");
    let answer = poll.answer();
    assert_eq!((answer.texts(), &answer.json()["last_message_id"]), (vec!["hello".into()], &id.into()));
}

#[test]
fn a_poll_goes_on_from_its_cursor() {
    let server = TestServer::start();
    let ids = ["1", "2", "3"].map(|text| send(&server, text));
    let poll = |cursor: &str| server.get(&format!("/poll?last_message_id={cursor}"));
    assert_eq!((poll(&ids[0]).texts(), poll(&ids[1]).texts()), (vec!["2".into(), "3".into()], vec!["3".into()]));
    let mut held = server.connect();
    held.send_get(&format!("/poll?last_message_id={}", ids[2]));
    server.wait_for_open("long_poll", 1);
    server.pass(25, &held);
    assert_eq!(held.answer().json()["timeout"], true);
}

#[test]
fn wrong_fields_are_named() {
    let server = TestServer::start();
    for (content, start) in [
        ("", "message: expected a string of 1 to 65536 characters, but it is missing"),
        (r#"{"message": 5}"#, "message: expected a string of 1 to 65536 characters, not 5"),
        (r#"{"message": ""}"#, r#"message: expected a string of 1 to 65536 characters, not """#),
        ("message", "the content is not JSON"),
    ] {
        let answer = server.post("/send", content);
        let sentence = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && sentence.starts_with(start), "{content}: {} {sentence}", answer.status);
    }
    for target in ["/poll?last_message_id=7", "/events?last_event_id=7"] {
        let answer = server.get(target);
        assert_eq!((answer.status, answer.text().contains("_id: expected the id of a message")), (400, true));
    }
}

#[test]
fn the_two_channels_and_the_rooms_hear_nothing_of_each_other() {
    let server = TestServer::start();
    let mut stream = listen(&server, "");
    let mut poll = server.connect();
    poll.send_get("/poll");
    server.wait_for_open("long_poll", 1);
    server.publish("general", "for the room");
    server.pass(3, &stream);
    assert_eq!(event(&mut stream).1, "Message 1");
    send(&server, "for the polls");
    assert_eq!(poll.answer().texts(), ["for the polls"], "nothing came before it");
    server.pass(3, &stream);
    assert_eq!(event(&mut stream).1, "Message 2", "nothing came before it");
    assert_eq!(server.get("/api/messages").texts(), ["for the room"]);
}

#[test]
fn the_ticker_ticks_every_three_seconds_and_the_stream_beats_every_fifteen() {
    let server = TestServer::start();
    let mut stream = listen(&server, "");
    for tick in 1..=4 {
        server.pass(3, &stream);
        assert_eq!(event(&mut stream).1, format!("Message {tick}"));
    }
    server.pass(3, &stream);
    let mut due = [event(&mut stream), event(&mut stream)];
    due.sort_by_key(|(_, said)| said.clone());
    assert_eq!(due.each_ref().map(|(_, said)| said.as_str()), ["Message 5", "heartbeat"]);
    assert_eq!(due[1].0, "", "a heartbeat is no position");
}

#[test]
fn the_ticker_stops_when_nobody_listens() {
    let server = TestServer::start();
    server.advance(9);
    assert_eq!(messages_in_all(&server), 0, "nobody has listened yet");
    let (mut stream, mut other) = (listen(&server, ""), listen(&server, ""));
    server.advance(3);
    assert_eq!((event(&mut stream).1, event(&mut other).1), ("Message 1".into(), "Message 1".into()));
    drop(other);
    server.wait_for_open("sse", 1);
    server.advance(3);
    let (id, last) = event(&mut stream);
    assert_eq!(
        (last.as_str(), messages_in_all(&server)),
        ("Message 2", json!(2)),
        "one listener is enough, and one ticker"
    );
    drop(stream);
    server.wait_for_open("sse", 0);
    for _ in 0..3 {
        server.advance(3);
        assert_eq!(messages_in_all(&server), 2);
    }
    let mut resumed = listen(&server, &id);
    server.advance(3);
    assert_ne!(event(&mut resumed).0, id);
    assert_eq!(messages_in_all(&server), 3);
}

#[test]
fn a_stream_that_was_lost_resumes_by_its_last_event_id() {
    let server = TestServer::start();
    let (mut lost, mut staying) = (listen(&server, ""), listen(&server, ""));
    server.advance(3);
    let (id, _) = event(&mut lost);
    event(&mut staying);
    drop(lost);
    server.advance(3);
    assert_eq!(event(&mut staying).1, "Message 2");
    let mut resumed = listen(&server, &id);
    server.advance(3);
    assert_eq!((event(&mut resumed).1, event(&mut resumed).1), ("Message 2".into(), "Message 3".into()));
}
