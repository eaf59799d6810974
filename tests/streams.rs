//! Streams of a room: lines, server-sent events and WebSocket messages, all of them resumed by cursor.

use crate::common::{Client, TestServer};
use overwire::sse;
use overwire::websocket::{self, Opcode};
use serde_json::{Value, json};

const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";

/// Begins a stream and reads its head. `last_event_id` is the field `Last-Event-ID`.
fn begin(server: &TestServer, target: &str, last_event_id: Option<&str>) -> (Client, String) {
    let mut client = server.connect();
    let field = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let head = client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n")).head();
    (client, head)
}

/// The transports of a room: the path of each, and the parameter of its cursor.
const TRANSPORTS: [(&str, &str); 5] = [
    ("/api/stream", "last_message_id"),
    ("/api/events", "last_event_id"),
    ("/api/ws", "last_message_id"),
    ("/api/poll", "client_id=roaming&last_message_id"),
    ("/api/messages", "last_message_id"),
];

/// Connects on a streaming transport.
fn connect(server: &TestServer, path: &str, parameter: &str, cursor: &str) -> Client {
    let target = format!("{path}?{parameter}={cursor}");
    if path == "/api/ws" { server.websocket(&target) } else { begin(server, &target, None).0 }
}

/// Reads the next message or notice on a streaming transport.
fn next_message(client: &mut Client, path: &str) -> Value {
    match path {
        "/api/ws" => client.message().json(),
        "/api/events" => serde_json::from_str(&client.event().data).unwrap(),
        _ => serde_json::from_str(&client.line()).unwrap(),
    }
}

/// A client that changes its transport and keeps its position.
struct RoamingClient<'a> {
    server: &'a TestServer,
    position: String,
    texts: Vec<String>,
    /// The number of published messages. The text of each is its number.
    published: usize,
}

impl RoamingClient<'_> {
    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.server.publish("general", &self.published.to_string());
            self.published += 1;
        }
    }

    fn take(&mut self, message: &Value) {
        self.position = message["id"].as_str().unwrap_or_else(|| panic!("no message: {message}")).to_owned();
        self.texts.push(message["text"].as_str().unwrap().to_owned());
    }

    /// Connects on a transport, reads older messages and some that are published meanwhile, and disconnects before the
    /// rest.
    fn visit(&mut self, (path, parameter): (&str, &str)) {
        self.publish(2);
        if matches!(path, "/api/poll" | "/api/messages") {
            let answer = self.server.get(&format!("{path}?{parameter}={}", self.position)).json();
            assert_eq!(answer["recovered"], true);
            answer["messages"].as_array().unwrap().iter().for_each(|message| self.take(message));
            return;
        }
        let mut client = connect(self.server, path, parameter, &self.position);
        self.publish(3);
        for _ in 0..4 {
            self.take(&next_message(&mut client, path));
        }
    }
}

#[test]
fn a_change_of_transport_loses_and_repeats_no_message() {
    let server = TestServer::start();
    let position = server.publish("general", "the beginning");
    let mut client = RoamingClient { server: &server, position, texts: Vec::new(), published: 0 };
    for first in 0..TRANSPORTS.len() {
        for step in 0..TRANSPORTS.len() {
            client.visit(TRANSPORTS[(first + step) % TRANSPORTS.len()]);
        }
    }
    client.visit(TRANSPORTS[4]);
    let all: Vec<_> = (0..client.published).map(|number| number.to_string()).collect();
    assert_eq!(client.texts, all);
}

#[test]
fn an_unknown_cursor_gets_a_notice_and_all_retained_messages() {
    let server = TestServer::start();
    server.publish("general", "1");
    for (path, parameter) in &TRANSPORTS[..3] {
        let mut client = connect(&server, path, parameter, FOREIGN);
        let notice = next_message(&mut client, path);
        assert_eq!((&notice["type"], &notice["recovered"]), (&json!("notice"), &json!(false)), "{path}");
        let mut resumed = connect(&server, path, parameter, notice["last_message_id"].as_str().unwrap());
        assert_eq!(next_message(&mut resumed, path)["text"], "1", "{path}: the notice has the position that follows");
        assert_eq!(next_message(&mut client, path)["text"], "1", "{path}");
    }
    let (mut client, _) = begin(&server, "/api/events?room=empty", Some(FOREIGN));
    let notice = client.event();
    assert_eq!(notice.name, "notice");
    server.publish("empty", "2");
    let resumed = begin(&server, "/api/events?room=empty", Some(&notice.id)).0.event();
    assert_eq!((resumed.name.as_str(), resumed.data.contains(r#""text":"2""#)), ("message", true), "{resumed:?}");
}

#[test]
fn all_retained_messages_fit_on_one_connection() {
    let server = TestServer::start();
    let first = server.publish("general", "0");
    let mut sender = server.connect();
    for number in 1..=1000 {
        let text = format!("{number}{}", " ".repeat(900)); // together almost the retained mebibyte
        sender.post("/api/send", &json!({ "sender": "test", "text": text }).to_string());
    }
    for (path, parameter) in &TRANSPORTS[..3] {
        let mut client = connect(&server, path, parameter, &first);
        for number in 1..=1000 {
            let message = next_message(&mut client, path);
            assert_eq!(message["text"].as_str().map(str::trim_end), Some(&*number.to_string()), "{path}");
        }
    }
}

#[test]
fn each_message_of_a_stream_is_one_line_in_one_chunk() {
    let server = TestServer::start();
    let (mut stream, head) = begin(&server, "/api/stream?room=x&color=red", None);
    for field in ["application/x-ndjson", "no-store", "chunked", "X-Accel-Buffering: no"] {
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(field), "{head}");
    }
    for text in ["one", "two\r\nlines", "\u{2028}🦀"] {
        let id = server.publish("x", text);
        server.publish("y", "of another room");
        let chunk = stream.chunk_text();
        assert_eq!((chunk.find('\n'), chunk.find('\r')), (Some(chunk.len() - 1), None), "{chunk:?}");
        let message: Value = serde_json::from_str(&chunk).unwrap();
        assert_eq!((&message["id"], &message["text"]), (&id.into(), &text.into()));
    }
}

#[test]
fn a_stream_of_lines_begins_with_an_empty_line() {
    let server = TestServer::start();
    let message = server.publish("general", "hello");
    for version in ["1.0", "1.1"] {
        for cursor in ["", &format!("?last_message_id={message}"), &format!("?last_message_id={FOREIGN}")] {
            let mut client = server.connect();
            client.send(format!("GET /api/stream{cursor} HTTP/{version}\r\nHost: localhost\r\n\r\n")).head_alone();
            let line = if version == "1.0" { "\n" } else { "1\r\n\n\r\n" };
            assert_eq!(client.read_exactly(line.len()), line.as_bytes(), "{version} {cursor}");
        }
    }
}

#[test]
fn an_idle_stream_sends_an_empty_line_every_15_seconds() {
    let server = TestServer::start();
    let (mut stream, _) = begin(&server, "/api/stream", None);
    server.advance(13);
    server.publish("general", "hello");
    assert!(stream.chunk_text().contains("hello"), "no heartbeat was due before it");
    for seconds in [2, 15, 15] {
        server.advance_and_settle(seconds);
        assert_eq!(stream.chunk_text(), "\n");
    }
}

/// Not all clients remember the id of an event without data. So the first event has data.
#[test]
fn an_event_stream_begins_with_its_position_and_a_reconnection_time() {
    let server = TestServer::start();
    let (mut stream, head) = begin(&server, "/api/events", None);
    for field in ["Content-Type: text/event-stream\r\n", "Cache-Control: no-store\r\n", "X-Accel-Buffering: no\r\n"] {
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(field), "{head}");
    }
    let opening = stream.chunk_text();
    let mut reader = sse::Reader::default();
    let [sse::Event { id, name, data }] = &reader.read(opening.as_bytes())[..] else { panic!("{opening:?}") };
    let expected = json!({ "type": "connected", "recovered": true, "last_message_id": id });
    assert_eq!((name.as_str(), serde_json::from_str(data).unwrap()), ("connected", expected), "{opening:?}");
    assert!((1000..3000).contains(&reader.retry().unwrap().as_millis()), "{opening:?}");

    drop(stream);
    server.publish("general", "while disconnected");
    let (mut resumed, _) = begin(&server, "/api/events", Some(id));
    assert!(resumed.event().data.contains("while disconnected"));
    server.publish("general", "next");
    assert!(!resumed.chunk_text().contains("retry"), "`retry` is sent once");

    let (mut foreign, _) = begin(&server, "/api/events", Some(FOREIGN));
    let opening = foreign.any_event();
    let data: Value = serde_json::from_str(&opening.data).unwrap();
    assert_eq!((&data["recovered"], &data["last_message_id"]), (&json!(false), &json!(opening.id)));
}

#[test]
fn events_have_an_id_and_heartbeats_have_none() {
    let server = TestServer::start();
    let (mut stream, _) = begin(&server, "/api/events", None);
    stream.chunk();
    let id = server.publish("general", "hello");
    let data = server.get("/api/messages").json()["messages"][0].to_string();
    assert_eq!(stream.chunk_text(), format!("id: {id}\nevent: message\ndata: {data}\n\n"));
    for _ in 0..2 {
        server.advance_and_settle(15);
        let heartbeat = stream.event();
        assert_eq!((heartbeat.name.as_str(), heartbeat.id.as_str()), ("heartbeat", ""));
        assert!(serde_json::from_str::<Value>(&heartbeat.data).unwrap()["timestamp"].is_f64(), "{heartbeat:?}");
    }
}

#[test]
fn any_text_passes_an_event_stream_unchanged() {
    let server = TestServer::start();
    let (mut stream, _) = begin(&server, "/api/events", None);
    for text in ["a\nb", "a\r\nb", "a\rb\r", "\n\n", "data: x\n\nid: 7", ": no comment", "\u{feff}\u{2028}\u{85}🦀\0"]
    {
        server.publish("general", text);
        let message: Value = serde_json::from_str(&stream.event().data).unwrap();
        assert_eq!(message["text"], text);
    }
}

#[test]
fn the_last_event_id_field_overrides_the_query() {
    let server = TestServer::start();
    let ids = ["1", "2", "3"].map(|text| server.publish("general", text));
    let in_query = |id: &str| format!("/api/events?last_event_id={id}");
    let cases = [
        (in_query(""), Some(&*ids[0]), "2"),
        (in_query(&ids[1]), None, "3"),
        (in_query(&ids[1]), Some(&*ids[0]), "2"), // the field is newer
        (in_query("wrong"), Some(&*ids[1]), "3"),
        (in_query(&ids[1]), Some(""), "3"), // an empty field is none
        (format!("/api/events?last_message_id={}", ids[1]), None, "3"),
        (format!("/api/events?last_event_id=&last_message_id={}", ids[1]), Some(""), "3"),
    ];
    for (target, field, first) in cases {
        let (mut stream, _) = begin(&server, &target, field);
        let message: Value = serde_json::from_str(&stream.event().data).unwrap();
        assert_eq!(message["text"], first, "{target} {field:?}");
    }
    let (mut stream, _) = begin(&server, &in_query(""), Some(""));
    server.publish("general", "4");
    assert!(stream.event().data.contains(r#""text":"4""#), "an empty position means new messages only");
}

#[test]
fn errors_name_the_parameter() {
    let server = TestServer::start();
    let (long_room, long_client) = (format!("room={}", "x".repeat(65)), format!("client_id={}", "x".repeat(129)));
    let cursors = ["last_message_id=x", "last_message_id=1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21"]; // version 4
    for path in ["/api/stream", "/api/events", "/api/ws"] {
        let of_cursors = cursors.iter().filter(|_| path != "/api/events").map(|query| (*query, "last_message_id"));
        let others = [("room=", "room"), (&*long_room, "room"), (&*long_client, "client_id")];
        for (query, name) in of_cursors.chain(others) {
            let target = format!("{path}?{query}");
            let answer = match path {
                "/api/ws" => {
                    let key = websocket::encode_key([7; 16]);
                    server.connect().send(websocket::opening_request("localhost", &target, &key)).answer()
                }
                _ => server.get(&target),
            };
            let sentence = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(answer.status == 400 && sentence.starts_with(&format!("{name}: expected ")), "{path}: {answer:?}");
        }
    }
}

/// Any answer but 200 ends an `EventSource` for good (WHATWG HTML, section 9.2.3), and the page cannot see it.
#[test]
fn an_event_stream_with_the_id_of_something_else_is_not_recovered() {
    let server = TestServer::start();
    let id = server.publish("general", "1");
    for foreign in ["41", "1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21", "\u{fc} \u{1f600}", "0", &id[1..]] {
        let mut clients = vec![begin(&server, "/api/events", Some(foreign))];
        if foreign.is_ascii() {
            for parameter in ["last_event_id", "last_message_id"] {
                clients.push(begin(&server, &format!("/api/events?{parameter}={foreign}"), None));
            }
            // The field is the newer of the two.
            clients.push(begin(&server, &format!("/api/events?last_event_id={id}"), Some(foreign)));
        }
        for (mut client, head) in clients {
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{foreign}: {head}");
            let notice: Value = serde_json::from_str(&client.event().data).unwrap();
            assert_eq!((&notice["type"], &notice["recovered"]), (&json!("notice"), &json!(false)), "{foreign}");
            assert!(client.event().data.contains(r#""text":"1""#), "{foreign}");
        }
    }
    let mut bytes = server.connect();
    bytes.send(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\xfe\r\n\r\n").head();
    assert_eq!(bytes.event().name, "notice");
}

#[test]
fn a_wrong_message_gets_an_error_and_the_websocket_stays_open() {
    let server = TestServer::start();
    let mut socket = server.websocket("/api/ws");
    for (text, part) in [
        ("hello", "not JSON"),
        ("[]", "a JSON object"),
        (r#"{"text": "x"}"#, "sender: expected"),
        (r#"{"sender": "x", "text": 5}"#, "text: expected"),
    ] {
        let answer = socket.send_text(text).message().json();
        assert!(answer["type"] == "error" && answer["error"].as_str().unwrap().contains(part), "{text}: {answer}");
    }
    let answer = socket.send_frame(Opcode::Binary, "{}").message().json();
    assert!(answer["error"].as_str().unwrap().contains("text message"), "{answer}");
    let message = socket.send_text(r#"{"sender": "x", "text": "hello", "room": "y"}"#).message().json();
    assert_eq!((&message["text"], &message["room"]), (&"hello".into(), &"general".into()));
}

#[test]
fn a_closed_stream_is_no_longer_counted() {
    let server = TestServer::start();
    for (name, (path, parameter)) in ["stream", "sse", "websocket"].into_iter().zip(TRANSPORTS) {
        let [staying, leaving] = [(); 2].map(|()| connect(&server, path, parameter, ""));
        server.wait_for_open(name, 2);
        drop(leaving);
        server.wait_for_open(name, 1);
        drop(staying);
        server.wait_for_open(name, 0);
    }
}
