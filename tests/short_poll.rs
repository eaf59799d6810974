//! Answers that are never held: short polling, history, health and statistics.

use crate::common::{Answer, Client, Frame, TestServer, masked_frame};
use overwire::websocket::{self, Opcode};
use serde_json::{Value, json};

const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";

/// A server whose room has messages with the texts "1" to `count`, and the id of the last one.
fn server_with(room: &'static str, count: usize) -> (TestServer, String) {
    let server = TestServer::start();
    let last = numbers(1, count).iter().fold(String::new(), |_, text| server.publish(room, text));
    (server, last)
}

fn statistics(server: &TestServer) -> Value {
    server.get("/api/stats").json()
}

#[test]
fn a_short_poll_gets_everything_and_then_new_messages_only() {
    let (server, last) = server_with("general", 3);
    let all = server.get("/api/messages");
    assert_eq!((all.status, all.field("Cache-Control"), all.texts()), (200, Some("no-store"), numbers(1, 3)));
    let ending =
        |recovered: bool, last: &str| json!({ "stopPolling": false, "recovered": recovered, "last_message_id": last });
    let without_messages = |answer: &Answer| {
        let mut json = answer.json();
        json.as_object_mut().unwrap().remove("messages");
        json
    };
    assert_eq!(without_messages(&all), ending(true, &last));

    let poll = |cursor: &str| server.get(&format!("/api/messages?last_message_id={cursor}"));
    assert_eq!((poll(&last).texts(), without_messages(&poll(&last))), (vec![], ending(true, &last)));
    let newest = server.publish("general", "4");
    assert_eq!((poll(&last).texts(), without_messages(&poll(&last))), (numbers(4, 4), ending(true, &newest)));
    assert_eq!((poll(FOREIGN).texts(), without_messages(&poll(FOREIGN))), (numbers(1, 4), ending(false, &newest)));
    assert_eq!(server.get("/api/messages?room=empty").texts(), [""; 0]);
}

#[test]
fn a_message_is_the_same_on_every_endpoint() {
    let server = TestServer::start();
    let content = json!({ "sender": "Zoë \"Z\"", "text": "a\r\nb\u{2028}\0🦀", "room": "a b" }).to_string();
    let sent = server.post("/api/send", &content).json();
    let expected = json!({
        "id": sent["message_id"], "sender": "Zoë \"Z\"", "text": "a\r\nb\u{2028}\0🦀", "timestamp": sent["timestamp"],
        "room": "a b",
    });
    assert!(sent["timestamp"].as_f64().unwrap() > 1.6e9 && sent["status"] == "sent", "{sent}");
    for target in ["/api/messages?room=a%20b", "/api/history?room=a+b"] {
        assert_eq!(server.get(target).json()["messages"], json!([expected]), "{target}");
    }
    let resumed = server.get(&format!("/api/poll?client_id=c&room=a+b&last_message_id={FOREIGN}"));
    assert_eq!(resumed.json()["messages"], json!([expected]));
}

#[test]
fn history_has_the_newest_messages_oldest_first() {
    let (server, _) = server_with("x", 120);
    for (query, first) in [("", 101), ("&limit=1", 120), ("&limit=3", 118), ("&limit=100", 21)] {
        let answer = server.get(&format!("/api/history?room=x{query}"));
        assert_eq!((answer.texts(), &answer.json()["room"]), (numbers(first, 120), &"x".into()), "{query}");
    }
    assert_eq!(server.get("/api/history?room=nowhere").json(), json!({ "room": "nowhere", "messages": [] }));
    assert_eq!(statistics(&server)["rooms"], json!(["x"]), "reading the history creates no room");
}

#[test]
fn errors_name_the_parameter() {
    let server = TestServer::start();
    let cases = [
        ("/api/history?limit=0", r#"limit: expected a whole number from 1 to 100, not "0""#),
        ("/api/history?limit=101", r#"limit: expected a whole number from 1 to 100, not "101""#),
        ("/api/history?limit=-1", r#"limit: expected a whole number from 1 to 100, not "-1""#),
        ("/api/history?limit=ten", r#"limit: expected a whole number from 1 to 100, not "ten""#),
        ("/api/history?room=", r#"room: expected a string of 1 to 64 characters, not """#),
        ("/api/messages?room=", r#"room: expected a string of 1 to 64 characters, not """#),
        (
            "/api/messages?last_message_id=x",
            r#"last_message_id: expected the id of a message (a UUID of version 8), not "x""#,
        ),
    ];
    for (target, sentence) in cases {
        let answer = server.get(target);
        assert_eq!((answer.status, answer.json()), (400, json!({ "type": "error", "error": sentence })), "{target}");
    }
}

#[test]
fn health_reports_the_uptime() {
    let server = TestServer::start();
    server.advance(100);
    let health = server.get("/health").json();
    assert_eq!(health["status"], "ok");
    assert!((100.0..120.0).contains(&health["uptime"].as_f64().unwrap()), "{health}");
}

#[test]
fn statistics_count_rooms_messages_and_clients() {
    let (server, _) = server_with("zoo", 3);
    server.publish("general", "hello");
    let counts = || {
        let stats = statistics(&server);
        assert!(stats["timestamp"].as_f64().unwrap() > 1.6e9, "{stats}");
        ["active_clients", "total_messages", "rooms"].map(|name| stats[name].clone())
    };
    assert_eq!(counts(), [json!(0), json!(4), json!(["general", "zoo"])]);
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=alice&timeout=60");
    server.connect().send_get("/api/stream?client_id=bob&room=attic").head();
    server.wait_for_open("long_poll", 1);
    server.wait_for_open("stream", 0);
    assert_eq!(counts(), [json!(2), json!(4), json!(["attic", "general", "zoo"])]);
    server.advance(60);
    poll.answer();
    assert_eq!(counts()[0], 1, "the poll of alice has just ended");
    server.advance(60);
    assert_eq!(counts()[0], 0, "no client was seen for a minute");
}

/// The number of bytes that a test has sent and read on one connection.
#[derive(Default)]
struct ByteCount {
    sent: usize,
    read: usize,
}

impl ByteCount {
    fn send(&mut self, client: &mut Client, bytes: &[u8]) {
        self.sent += bytes.len();
        client.send(bytes);
    }

    fn read_answer(&mut self, client: &mut Client) {
        let answer = client.answer();
        self.read += answer.head.len() + answer.content.len();
    }

    fn read_frame(&mut self, client: &mut Client) -> Frame {
        let frame = client.frame();
        self.read += if frame.payload.len() < 126 { 2 } else { 4 } + frame.payload.len();
        frame
    }

    #[track_caller]
    fn check(&self, server: &TestServer, transport: &str, open: u64, messages: u64) {
        let expected = json!({ "open": open, "messages": messages, "bytes_in": self.sent, "bytes_out": self.read });
        assert_eq!(statistics(server)["transports"][transport], expected, "{transport}");
    }
}

#[test]
fn statistics_count_every_byte_of_a_poll() {
    let server = TestServer::start();
    let [mut long, mut short] = [ByteCount::default(), ByteCount::default()];
    let mut poll = server.connect();
    poll.get("/health"); // not counted for the poll
    long.send(&mut poll, b"GET /api/poll?client_id=alice HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_open("long_poll", 1);
    long.check(&server, "long_poll", 1, 0);
    for text in ["1", "2"] {
        server.publish("general", text);
    }
    long.read_answer(&mut poll);
    short.send(&mut poll, b"GET /api/messages HTTP/1.1\r\nHost: localhost\r\n\r\n");
    short.read_answer(&mut poll);
    long.check(&server, "long_poll", 0, 1);
    short.check(&server, "short_poll", 0, 2);
}

#[test]
fn statistics_count_every_byte_of_a_stream() {
    let server = TestServer::start();
    let (mut stream, mut count) = (server.connect(), ByteCount::default());
    count.send(&mut stream, b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    count.read += stream.head_alone().len();
    server.publish("general", "hello");
    server.advance(15);
    count.read += stream.read_until("}\n\r\n").len() + stream.read_until("1\r\n\n\r\n").len();
    count.check(&server, "stream", 1, 1);
    drop(stream);
    server.wait_for_open("stream", 0);
    count.check(&server, "stream", 0, 1);
}

#[test]
fn statistics_count_every_byte_of_a_websocket() {
    let server = TestServer::start();
    let (mut socket, mut count) = (server.connect(), ByteCount::default());
    let key = websocket::encode_key(*b"0123456789abcdef");
    count.send(&mut socket, &websocket::opening_request("localhost", "/api/ws", &key));
    count.read += socket.head().len();
    count.send(&mut socket, &masked_frame(true, Opcode::Text, br#"{"sender": "alice", "text": "hello"}"#));
    count.send(&mut socket, &masked_frame(true, Opcode::Ping, b"ping"));
    assert_eq!(count.read_frame(&mut socket).json()["text"], "hello");
    assert_eq!(count.read_frame(&mut socket).payload, b"ping");
    count.check(&server, "websocket", 1, 1);
    count.send(&mut socket, &masked_frame(true, Opcode::Close, &1000u16.to_be_bytes()));
    assert_eq!(count.read_frame(&mut socket).close().0, 1000);
    socket.expect_end();
    count.check(&server, "websocket", 0, 1);
}

/// The numbers from `first` to `last` as texts.
fn numbers(first: usize, last: usize) -> Vec<String> {
    (first..=last).map(|number| number.to_string()).collect()
}

#[test]
fn statistics_are_json_whatever_the_names_of_rooms() {
    let server = TestServer::start();
    let names = ["\"", "\\", "a", "\u{1}\u{7f}", "\u{2028}\u{1f980}"];
    for name in names {
        server.publish(name, "hello");
    }
    let sorted = std::collections::BTreeSet::from(names);
    assert_eq!(statistics(&server)["rooms"], json!(sorted));
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=me&room=%22");
    server.wait_for_open("long_poll", 1);
    assert_eq!(statistics(&server)["present"], json!({ "\"": 1 }));
}

#[test]
fn head_of_the_statistics_has_no_length() {
    let server = TestServer::start();
    let mut client = server.connect();
    let head = client.send("HEAD /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: application/json\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n") && !head.contains("Content-Length"), "{head}");
    assert_eq!(client.get("/api/stats").status, 200);
}
