//! The two-channel demo: long polls read one channel, event streams the other.

use crate::common::{Client, TestServer};
use overwire::sse;
use serde_json::{Value, json};

/// Opens a stream of the ticker.
fn open_stream(server: &TestServer, last_event_id: &str) -> Client {
    let mut client = server.connect();
    let field = if last_event_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_event_id}\r\n") };
    client.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{field}\r\n")).head();
    assert!(client.chunk_text().contains("retry: "));
    client
}

/// Reads the next event: its id, and the text of its message or else its name.
fn event(client: &mut Client) -> (String, String) {
    let sse::Event { id, name, data } = client.event();
    let message: Value = serde_json::from_str(&data).unwrap();
    (id, message["text"].as_str().map_or(name, str::to_owned))
}

/// Publishes in the channel of the polls, and returns the id of the message.
fn send(server: &TestServer, text: &str) -> String {
    let answer = server.post("/send", &json!({ "message": text }).to_string());
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"sent".into()));
    answer.json()["message_id"].as_str().unwrap().to_owned()
}

fn total_messages(server: &TestServer) -> Value {
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
fn a_poll_continues_after_its_cursor() {
    let server = TestServer::start();
    let ids = ["1", "2", "3"].map(|text| send(&server, text));
    let poll = |cursor: &str| server.get(&format!("/poll?last_message_id={cursor}"));
    assert_eq!((poll(&ids[0]).texts(), poll(&ids[1]).texts()), (vec!["2".into(), "3".into()], vec!["3".into()]));
    let mut held = server.connect();
    held.send_get(&format!("/poll?last_message_id={}", ids[2]));
    server.wait_for_open("long_poll", 1);
    server.advance_and_settle(25);
    assert_eq!(held.answer().json()["timeout"], true);
}

#[test]
fn errors_name_the_field() {
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
    let answer = server.get("/poll?last_message_id=7");
    assert_eq!((answer.status, answer.text().contains("last_message_id: expected the id of a message")), (400, true));
    let answer = server.get(&format!("/events?client_id={}", "x".repeat(129)));
    assert_eq!((answer.status, answer.text().contains("client_id: expected a string")), (400, true));
}

#[test]
fn channels_and_rooms_are_separate() {
    let server = TestServer::start();
    let mut stream = open_stream(&server, "");
    let mut poll = server.connect();
    poll.send_get("/poll");
    server.wait_for_open("long_poll", 1);
    server.publish("general", "for the room");
    server.advance_and_settle(3);
    assert_eq!(event(&mut stream).1, "Message 1");
    send(&server, "for the polls");
    assert_eq!(poll.answer().texts(), ["for the polls"], "no other message came first");
    server.advance_and_settle(3);
    assert_eq!(event(&mut stream).1, "Message 2", "no other message came first");
    assert_eq!(server.get("/api/messages").texts(), ["for the room"]);
}

#[test]
fn ticks_come_every_3_seconds_and_heartbeats_every_15() {
    let server = TestServer::start();
    let mut stream = open_stream(&server, "");
    for tick in 1..=4 {
        server.advance_and_settle(3);
        assert_eq!(event(&mut stream).1, format!("Message {tick}"));
    }
    server.advance_and_settle(3);
    let mut due = [event(&mut stream), event(&mut stream)];
    due.sort_by_key(|(_, text)| text.clone());
    assert_eq!(due.each_ref().map(|(_, text)| text.as_str()), ["Message 5", "heartbeat"]);
    assert_eq!(due[1].0, "", "a heartbeat has no id");
}

#[test]
fn the_ticker_stops_when_no_stream_is_open() {
    let server = TestServer::start();
    server.advance(9);
    assert_eq!(total_messages(&server), 0, "no stream has been open yet");
    let (mut stream, mut other) = (open_stream(&server, ""), open_stream(&server, ""));
    server.advance(3);
    assert_eq!((event(&mut stream).1, event(&mut other).1), ("Message 1".into(), "Message 1".into()));
    drop(other);
    server.wait_for_open("sse", 1);
    server.advance(3);
    let (id, last) = event(&mut stream);
    assert_eq!(
        (last.as_str(), total_messages(&server)),
        ("Message 2", json!(2)),
        "there is one ticker, and it needs one stream"
    );
    drop(stream);
    server.wait_for_open("sse", 0);
    for _ in 0..3 {
        server.advance(3);
        assert_eq!(total_messages(&server), 2);
    }
    let mut resumed = open_stream(&server, &id);
    server.advance(3);
    assert_ne!(event(&mut resumed).0, id);
    assert_eq!(total_messages(&server), 3);
}

#[test]
fn a_stream_with_the_id_of_something_else_is_not_recovered() {
    let server = TestServer::start();
    let mut first = open_stream(&server, "");
    server.advance_and_settle(3);
    first.event();
    let mut by_query = server.connect();
    by_query.send_get("/events?last_event_id=41").head();
    for mut stream in [open_stream(&server, "41"), by_query] {
        assert!(stream.event().data.contains(r#""recovered":false"#));
        assert!(stream.event().data.contains("Message 1"));
    }
}

#[test]
fn a_stream_resumes_by_its_last_event_id() {
    let server = TestServer::start();
    let (mut lost, mut staying) = (open_stream(&server, ""), open_stream(&server, ""));
    server.advance(3);
    let (id, _) = event(&mut lost);
    event(&mut staying);
    drop(lost);
    server.advance(3);
    assert_eq!(event(&mut staying).1, "Message 2");
    let mut resumed = open_stream(&server, &id);
    server.advance(3);
    assert_eq!((event(&mut resumed).1, event(&mut resumed).1), ("Message 2".into(), "Message 3".into()));
}
