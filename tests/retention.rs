//! The bounds of what rooms retain, as the command line sets them.

use std::time::Duration;

use overwire::journal::Retention;
use serde_json::Value;

use crate::common::TestServer;

fn start(retention: Retention) -> TestServer {
    TestServer::with(move |config| config.retention = retention)
}

/// Returns the retained texts after a message, and whether none is missing.
fn read(server: &TestServer, room: &str, after: &str) -> (Vec<String>, bool) {
    let answer = server.get(&format!("/api/messages?room={room}&last_message_id={after}")).json();
    let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
    (answer["messages"].as_array().unwrap().iter().map(text).collect(), answer["recovered"] == true)
}

#[test]
fn a_room_retains_its_newest_messages() {
    let server = start(Retention { messages: 2, ..Retention::default() });
    let ids = ["one", "two", "three"].map(|text| server.publish("tea", text));
    assert_eq!(read(&server, "tea", &ids[0]), (vec!["two".into(), "three".into()], true));
    server.publish("tea", "four");
    assert_eq!(read(&server, "tea", &ids[0]), (vec!["three".into(), "four".into()], false));
}

#[test]
fn a_room_retains_so_many_bytes() {
    let server = start(Retention { bytes: 1000, ..Retention::default() });
    let ids: Vec<_> = (0..10).map(|_| server.publish("tea", &"x".repeat(200))).collect();
    assert_eq!((read(&server, "tea", &ids[5]).0.len(), read(&server, "tea", &ids[5]).1), (3, false), "300 bytes each");
    assert_eq!(read(&server, "tea", &ids[6]).0.len(), 3);
    assert!(read(&server, "tea", &ids[6]).1);
}

#[test]
fn a_room_retains_messages_for_a_time() {
    let server = start(Retention { time: Some(Duration::from_secs(60)), ..Retention::default() });
    let ids = ["one", "two"].map(|text| {
        let id = server.publish("tea", text);
        server.advance_and_settle(40);
        id
    });
    assert_eq!(read(&server, "tea", &ids[0]), (vec!["two".into()], true));
    server.advance_and_settle(40);
    assert_eq!(read(&server, "tea", &ids[1]), (vec![], true));
    assert_eq!(read(&server, "tea", &ids[0]), (vec![], false), "the second one is missing");
}

#[test]
fn another_room_replaces_the_one_that_nobody_reads() {
    let server = start(Retention { rooms: 2, ..Retention::default() });
    let mut reader = server.connect();
    let (read_id, unread_id) = (server.publish("read", "one"), server.publish("unread", "two"));
    reader.send_get("/api/stream?room=read");
    reader.head();
    server.publish("new", "three");
    assert!(read(&server, "read", &read_id).1);
    assert!(!read(&server, "unread", &unread_id).1);
    assert_eq!(server.get("/api/stats").json()["rooms"].as_array().unwrap().len(), 2);
}
