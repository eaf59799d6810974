//! Replays: what a reader gets after its cursor has the bytes that a reader got who was there, wherever it begins, also
//! in the middle of what the server keeps encoded.

use crate::common::dice::Dice;
use crate::common::{Client, TestServer, field};
use overwire::websocket;
use serde_json::{Value, json};

/// The number of published messages. The room retains 1000.
const MESSAGES: usize = 1100;
const RETAINED: usize = 1000;

/// A server with a room, and what the room's messages are on each transport.
struct Room {
    server: TestServer,
    ids: Vec<String>,
    /// Each message as JSON, as an event, and as a frame.
    forms: [Vec<Vec<u8>>; 3],
}

impl Room {
    /// Publishes messages of many lengths while a reader is there on each transport.
    fn new() -> Self {
        let server = TestServer::start();
        let (mut stream, mut events) = (server.connect(), server.connect());
        stream.send_get("/api/stream?room=tea").head();
        events.send_get("/api/events?room=tea").head();
        events.chunk(); // its opening
        let mut socket = server.websocket("/api/ws?room=tea");
        let (mut sender, mut dice) = (server.connect(), Dice(7));
        let (mut ids, mut forms) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for number in 0..MESSAGES {
            let length = [0, 50, 400, 2000][dice.roll(4) as usize];
            let text = format!("{number} {}", "é".repeat(length / 2));
            let content = json!({ "sender": "test", "text": text, "room": "tea" }).to_string();
            ids.push(sender.post("/api/send", &content).json()["message_id"].as_str().unwrap().to_owned());
            let line = stream.line();
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], text);
            forms[0].push(line.into_bytes());
            forms[1].push(events.chunk().unwrap());
            let message = socket.frame();
            forms[2].push(websocket::text(std::str::from_utf8(&message.payload).unwrap()).to_vec());
        }
        Room { server, ids, forms }
    }

    /// Returns the retained messages after a message, in one form, and whether no message is missing before them.
    fn after(&self, form: usize, message: usize) -> (&[Vec<u8>], bool) {
        let oldest = MESSAGES - RETAINED;
        (&self.forms[form][oldest.max(message + 1)..], message + 1 >= oldest)
    }

    /// Opens a stream after a message, and reads up to the replay: its opening, and the notice if messages are missing.
    fn stream(&self, path: &str, message: usize, version: &str) -> Client {
        let (mut client, id) = (self.server.connect(), &self.ids[message]);
        let head = client
            .send(format!("GET {path}?room=tea&last_message_id={id} HTTP/{version}\r\nHost: localhost\r\n\r\n"))
            .head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let mut skip = |end: &str| match version {
            "1.0" => drop(client.read_until(end)),
            _ => drop(client.chunk()),
        };
        let end = if path == "/api/events" { "\n\n" } else { "\n" };
        if path == "/api/events" {
            skip(end);
        }
        if !self.after(0, message).1 {
            skip(end);
        }
        client
    }
}

/// Positions before and after the oldest retained message, in the middle, and at the end.
fn positions() -> impl Iterator<Item = usize> {
    let oldest = MESSAGES - RETAINED;
    [0, oldest - 2, oldest - 1, oldest, oldest + 1]
        .into_iter()
        .chain((150..MESSAGES - 10).step_by(37))
        .chain(MESSAGES - 10..MESSAGES)
}

#[test]
fn a_replay_has_the_bytes_of_the_messages_one_by_one() {
    let room = Room::new();
    for message in positions() {
        let (lines, recovered) = room.after(0, message);
        let expected = lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect::<Vec<_>>();
        if !lines.is_empty() {
            assert!(room.stream("/api/stream", message, "1.1").chunk().unwrap() == expected, "stream {message}");
            let events = room.after(1, message).0.concat();
            assert!(room.stream("/api/events", message, "1.1").chunk().unwrap() == events, "events {message}");
            assert!(room.stream("/api/events", message, "1.0").read_exactly(events.len()) == events, "1.0 {message}");
        }
        assert!(room.stream("/api/stream", message, "1.0").read_exactly(expected.len()) == expected, "1.0 {message}");

        let target = format!("room=tea&last_message_id={}", room.ids[message]);
        let mut socket = room.server.websocket(&format!("/api/ws?{target}"));
        if !recovered {
            assert_eq!(socket.message().json()["type"], "notice");
        }
        let frames = room.after(2, message).0.concat();
        assert!(socket.read_exactly(frames.len()) == frames, "WebSocket {message}");

        let list = lines.join(&b","[..]);
        let tip = &room.ids[MESSAGES - 1];
        let end = format!("\"recovered\":{recovered},\"last_message_id\":\"{tip}\"}}\n");
        let answer = |members: &str| [b"{\"messages\":[", &list[..], format!("],{members},{end}").as_bytes()].concat();
        let messages = room.server.get(&format!("/api/messages?{target}"));
        assert!(messages.content == answer("\"stopPolling\":false"), "/api/messages {message}");
        if !lines.is_empty() {
            let poll = room.server.get(&format!("/api/poll?client_id=a&{target}"));
            assert!(poll.content == answer("\"status\":\"success\",\"timeout\":false"), "/api/poll {message}");
        }
    }
}

#[test]
fn the_history_ends_with_the_newest_message() {
    let room = Room::new();
    for limit in [1, 7, 64, 99, 100] {
        let list = room.forms[0][MESSAGES - limit..].join(&b","[..]);
        let expected = [b"{\"room\":\"tea\",\"messages\":[", &list[..], b"]}\n"].concat();
        assert!(room.server.get(&format!("/api/history?room=tea&limit={limit}")).content == expected, "{limit}");
    }
    let empty = room.server.get("/api/history?room=empty");
    assert_eq!(empty.text(), "{\"room\":\"empty\",\"messages\":[]}\n");
}

#[test]
fn head_has_the_length_of_get() {
    let room = Room::new();
    let mut client = room.server.connect();
    let mut check = |target: &str| {
        let length = client.get(target).content.len().to_string();
        let head = client.send(format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).head();
        assert_eq!(field(&head, "Content-Length"), Some(&*length), "{target}");
    };
    for message in positions() {
        check(&format!("/api/messages?room=tea&last_message_id={}", room.ids[message]));
    }
    for target in ["/api/messages?room=tea", "/api/messages?room=empty", "/api/history?room=none"] {
        check(target);
    }
    (1..=100).step_by(9).for_each(|limit| check(&format!("/api/history?room=tea&limit={limit}")));
}

/// New messages change what the server keeps encoded, but not what is queued already.
#[test]
fn a_slow_reader_gets_its_replay_unchanged() {
    let room = Room::new();
    let expected = room.after(1, 0).0.concat();
    let mut slow = room.stream("/api/events", 0, "1.1");
    for number in 0..RETAINED {
        room.server.publish("other", &number.to_string());
    }
    let mut sender = room.server.connect();
    for _ in 0..70 {
        sender.post("/api/send", r#"{"sender": "test", "text": "late", "room": "tea"}"#);
    }
    let line = slow.read_until("\r\n");
    assert_eq!(usize::from_str_radix(line.trim_end(), 16), Ok(expected.len()));
    for part in expected.chunks(1000) {
        assert!(slow.read_exactly(part.len()) == part);
    }
    assert_eq!(slow.read_exactly(2), b"\r\n");
    (0..70).for_each(|_| assert!(slow.event().data.contains(r#""text":"late""#)));
}
