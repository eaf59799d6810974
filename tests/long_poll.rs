//! Long polling in rooms: hold, wake, time out, and lose nothing in between.

mod common;

use common::TestServer;

#[test]
fn a_held_poll_is_answered_by_a_send() {
    let server = TestServer::start();
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=alice");
    server.wait_for_open("long_poll", 1);
    let id = server.publish("general", "hello");
    let answer = poll.answer();
    let json = answer.json();
    assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("no-store")));
    assert_eq!(
        (&json["status"], &json["timeout"], &json["recovered"]),
        (&"success".into(), &false.into(), &true.into())
    );
    assert_eq!(json["messages"][0]["id"], id.as_str());
    assert_eq!(answer.texts(), ["hello"]);
    server.wait_for_open("long_poll", 0);
    server.stop();
}

#[test]
fn a_poll_is_held_for_as_long_as_it_asked() {
    let server = TestServer::start();
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=alice&timeout=5");
    server.wait_for_open("long_poll", 1);
    server.advance(4);
    server.wait_for_open("long_poll", 1);
    server.advance(1);
    let json = poll.answer().json();
    assert_eq!(
        (&json["status"], &json["timeout"], &json["messages"]),
        (&"timeout".into(), &true.into(), &serde_json::json!([]))
    );
}
