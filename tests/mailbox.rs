//! Isolated connections: each has a mailbox, which a poll, an event stream or a WebSocket reads.

use crate::common::{Answer, Client, TestServer};
use overwire::sse;
use overwire::websocket::Opcode;
use serde_json::{Value, json};

const UNKNOWN: &str = "1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21";

/// Creates a mailbox, and returns its `connection_id`.
fn open(server: &TestServer) -> String {
    id_of(&server.post("/poll", "{}").json())
}

fn id_of(answer: &Value) -> String {
    answer["connection_id"].as_str().unwrap_or_else(|| panic!("no connection_id: {answer}")).to_owned()
}

fn poll(server: &TestServer, id: &str) -> Answer {
    server.post("/poll", &json!({ "connection_id": id }).to_string())
}

/// Starts a poll, and waits until it is held. It must be the only one.
fn hold(server: &TestServer, id: &str) -> Client {
    let mut client = server.connect();
    client.send_post("/poll", &json!({ "connection_id": id }).to_string());
    server.wait_for_open("long_poll", 1);
    client
}

/// Sends a text to a mailbox through one of the two endpoints.
fn send_text(server: &TestServer, path: &str, id: &str, text: &str) -> Answer {
    server.post(path, &json!({ "connection_id": id, "text": text }).to_string())
}

/// Begins an event stream, and reads its first event.
fn events(server: &TestServer, last_event_id: &str) -> (Client, sse::Event) {
    let mut client = server.connect();
    let field = if last_event_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_event_id}\r\n") };
    let head = client.send(format!("GET /sse HTTP/1.1\r\nHost: localhost\r\n{field}\r\n")).head();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: text/event-stream\r\n"), "{head}");
    let first = client.event();
    (client, first)
}

fn data(event: &sse::Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

/// Returns the message and the type of an answer.
fn text_and_type(answer: &Value) -> (&str, &str) {
    (answer["message"].as_str().unwrap_or_default(), answer["type"].as_str().unwrap_or_default())
}

#[test]
fn a_poll_without_an_id_creates_a_mailbox() {
    let server = TestServer::start();
    let mut ids = ["", "{}", r#"{"connection_id": null, "color": "red"}"#].map(|content| {
        let answer = server.post("/poll", content);
        assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("no-store")));
        assert_eq!(answer.json(), json!({ "connection_id": id_of(&answer.json()), "type": "timeout" }));
        id_of(&answer.json())
    });
    ids.sort();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 36 && &id[14..15] == "4"), "{ids:?}");
}

#[test]
fn a_text_is_answered_at_once_and_queued() {
    let server = TestServer::start();
    let id = open(&server);
    let sent = send_text(&server, "/poll", &id, "hello").json();
    assert!(sent["timestamp"].as_f64().unwrap() > 1.6e9 && sent["id"].is_string(), "{sent}");
    assert_eq!((text_and_type(&sent), id_of(&sent)), (("hello", "message"), id.clone()));
    let queued = poll(&server, &id).json();
    assert_eq!((text_and_type(&queued), &queued["id"], id_of(&queued)), (("hello", "queued_message"), &sent["id"], id));
    let with_a_new_mailbox = server.post("/poll", r#"{"text": "first"}"#).json();
    assert_eq!(text_and_type(&poll(&server, &id_of(&with_a_new_mailbox)).json()), ("first", "queued_message"));
}

#[test]
fn queued_texts_are_answered_one_by_one_oldest_first() {
    let server = TestServer::start();
    let id = open(&server);
    for (path, text) in [("/poll", "1"), ("/sse/message", "2"), ("/poll", "3")] {
        send_text(&server, path, &id, text);
    }
    for text in ["1", "2", "3"] {
        assert_eq!(text_and_type(&poll(&server, &id).json()), (text, "queued_message"));
    }
    let mut held = hold(&server, &id);
    send_text(&server, "/poll", &id, "4");
    assert_eq!(text_and_type(&held.answer().json()), ("4", "new_message"));
    hold(&server, &id); // there is no other text
}

#[test]
fn a_poll_continues_after_its_cursor_and_reports_missing_texts() {
    let server = TestServer::start();
    let id = open(&server);
    let cursor = |answer: &Answer| answer.json()["id"].as_str().unwrap().to_owned();
    let resume =
        |from: &str| server.post("/poll", &json!({ "connection_id": id, "last_message_id": from }).to_string()).json();
    let first = cursor(&send_text(&server, "/poll", &id, "1"));
    let second = cursor(&send_text(&server, "/poll", &id, "2"));
    for _ in 0..2 {
        assert_eq!((text_and_type(&resume(&first)).0, resume(&first).get("recovered")), ("2", None));
    }
    for number in 3..=102 {
        send_text(&server, "/poll", &id, &number.to_string());
    }
    for (from, recovered) in [(&second, None), (&first, Some(&json!(false)))] {
        let oldest = resume(from);
        assert_eq!((text_and_type(&oldest).0, oldest.get("recovered")), ("3", recovered), "100 texts are retained");
    }
    assert_eq!(poll(&server, &id).json().get("recovered"), None, "reported once");
}

#[test]
fn a_text_with_a_cursor_does_not_move_the_reader() {
    let server = TestServer::start();
    let (mut stream, hello) = events(&server, "");
    let id = data(&hello)["connection_id"].as_str().unwrap().to_owned();
    let first = send_text(&server, "/poll", &id, "1").json()["id"].as_str().unwrap().to_owned();
    send_text(&server, "/poll", &id, "2");
    server.post("/poll", &json!({ "connection_id": id, "text": "3", "last_message_id": first }).to_string());
    for text in ["1", "2", "3"] {
        assert_eq!(text_and_type(&data(&stream.event())), (text, "message"));
    }
}

#[test]
fn the_bytes_of_all_mailboxes_are_bounded() {
    let server = TestServer::start();
    let kept = open(&server);
    send_text(&server, "/poll", &kept, "kept");
    let (mut client, content) = (server.connect(), json!({ "text": "\u{1f600}".repeat(65_536) }).to_string());
    let ids: Vec<String> = (0..300)
        .map(|_| {
            server.post("/sse/message", &json!({ "connection_id": kept, "text": "used" }).to_string());
            id_of(&client.post("/poll", &content).json())
        })
        .collect();
    let bytes = server.get("/api/stats").json()["memory"]["mailboxes"].as_u64().unwrap();
    assert!((63 << 20..=64 << 20).contains(&bytes), "256 texts of 256 KiB are 64 MiB: {bytes}");
    // The mailboxes that were unused for longest are gone.
    assert_eq!([poll(&server, &ids[0]), poll(&server, &ids[40])].map(|answer| answer.status), [404, 404]);
    assert_eq!([poll(&server, &ids[60]), poll(&server, &kept)].map(|answer| answer.status), [200, 200]);
    server.advance(70);
    server.wait_for("the mailboxes to expire", |stats| stats["memory"]["mailboxes"].as_u64() < Some(10_000));
}

#[test]
fn a_poll_is_held_for_30_seconds() {
    let server = TestServer::start();
    let id = open(&server);
    let mut held = hold(&server, &id);
    server.advance(28);
    server.wait_for_open("long_poll", 1);
    server.advance_and_settle(2);
    assert_eq!(held.answer().json(), json!({ "type": "timeout", "connection_id": id }));
}

#[test]
fn a_second_poll_ends_the_first_one_at_once() {
    let server = TestServer::start();
    let id = open(&server);
    let mut first = hold(&server, &id);
    let mut second = server.connect();
    second.send_post("/poll", &json!({ "connection_id": id }).to_string());
    assert_eq!(first.answer().json(), json!({ "type": "timeout", "superseded": true, "connection_id": id }));
    send_text(&server, "/poll", &id, "hello");
    assert_eq!(text_and_type(&second.answer().json()), ("hello", "new_message"));
}

#[test]
fn a_poll_that_is_answered_at_once_ends_the_stream_before_it_too() {
    let server = TestServer::start();
    let (mut stream, connected) = events(&server, "");
    let id = id_of(&data(&connected));
    for text in ["one", "two"] {
        send_text(&server, "/sse/message", &id, text);
        assert_eq!(data(&stream.event())["message"], text);
    }
    let content = json!({ "connection_id": id, "last_message_id": connected.id }).to_string();
    assert_eq!(text_and_type(&server.post("/poll", &content).json()), ("one", "queued_message"));
    send_text(&server, "/sse/message", &id, "three");
    assert_eq!(stream.chunk(), None, "it does not go on from the position of the poll");
    assert_eq!(text_and_type(&poll(&server, &id).json()), ("two", "queued_message"));
}

#[test]
fn a_mailbox_expires_a_minute_after_its_last_request() {
    let server = TestServer::start();
    let idle = open(&server);
    server.advance(58);
    send_text(&server, "/poll", &idle, "still here");
    server.advance(58);
    assert_eq!(text_and_type(&poll(&server, &idle).json()), ("still here", "queued_message"));
    server.advance(60);
    for id in [&idle, UNKNOWN] {
        for answer in
            [poll(&server, id), send_text(&server, "/poll", id, "x"), send_text(&server, "/sse/message", id, "x")]
        {
            assert_eq!((answer.status, &answer.json()["type"]), (404, &"error".into()), "{answer:?}");
            assert!(answer.json()["error"].as_str().unwrap().contains("connection_id: unknown or expired"));
        }
    }
}

#[test]
fn a_mailbox_with_a_reader_does_not_expire() {
    let server = TestServer::start();
    let polled = open(&server);
    let (mut stream, hello) = events(&server, "");
    let mut held = hold(&server, &polled);
    let statuses = server.get("/api/stats").json()["mailboxes"].take();
    assert_eq!(statuses, json!({ "connected": 1, "waiting": 1, "idle": 0, "expired": 0, "texts": 0 }));
    for _ in 0..2 {
        server.advance_and_settle(15);
        stream.event();
    }
    held.answer(); // the minute begins at the end of the poll, after 30 s
    for number in 3..=5 {
        server.advance_and_settle(15);
        assert_eq!(text_and_type(&data(&stream.event())).0, format!("Message {number}"));
    }
    assert_eq!(send_text(&server, "/poll", &polled, "x").status, 200);
    assert_eq!(send_text(&server, "/sse/message", &id_of(&data(&hello)), "x").status, 202);
    assert_eq!(text_and_type(&data(&stream.event())), ("x", "message"));
}

#[test]
fn a_closed_poll_consumes_no_text() {
    let server = TestServer::start();
    let id = open(&server);
    for text in ["1", "2", "3"] {
        drop(hold(&server, &id)); // the end of the connection reaches the server before the text
        send_text(&server, "/sse/message", &id, text);
        assert_eq!(text_and_type(&poll(&server, &id).json()), (text, "queued_message"));
    }
}

#[test]
fn mailboxes_are_private() {
    let server = TestServer::start();
    let (alice, bob) = (open(&server), open(&server));
    let mut held = hold(&server, &bob);
    let (mut stream, _) = events(&server, "");
    send_text(&server, "/poll", &alice, "for alice");
    send_text(&server, "/poll", &bob, "for bob");
    assert_eq!(text_and_type(&held.answer().json()).0, "for bob");
    assert_eq!(text_and_type(&poll(&server, &alice).json()).0, "for alice");
    server.advance_and_settle(15);
    assert_eq!(text_and_type(&data(&stream.event())), ("Message 1", "heartbeat"), "the heartbeat comes first");
}

#[test]
fn an_event_stream_has_a_greeting_texts_and_heartbeats() {
    let server = TestServer::start();
    let (mut stream, hello) = events(&server, "");
    let id = id_of(&data(&hello));
    assert_eq!(data(&hello), json!({ "message": "Connected", "connection_id": id, "type": "connected" }));
    let answer = send_text(&server, "/sse/message", &id, "a\r\nb\u{2028}🦀");
    let cursor = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((answer.status, answer.json()), (202, json!({ "status": "queued", "id": cursor })));
    let message = stream.event();
    assert_eq!((text_and_type(&data(&message)), &message.id), (("a\r\nb\u{2028}🦀", "message"), &cursor));
    for text in ["Message 1", "Message 2", "Message 3"] {
        server.advance_and_settle(15);
        let expected = json!({ "message": text, "connection_id": id, "type": "heartbeat" });
        let event = stream.event();
        assert_eq!((data(&event), event.id.as_str()), (expected, ""), "a heartbeat has no id");
    }
}

#[test]
fn an_event_stream_resumes_its_mailbox_by_the_last_event_id() {
    let server = TestServer::start();
    let (stream, hello) = events(&server, "");
    let id = id_of(&data(&hello));
    drop(stream);
    server.wait_for_open("sse", 0);
    for text in ["1", "2"] {
        send_text(&server, "/sse/message", &id, text);
    }
    let (mut resumed, again) = events(&server, &hello.id);
    assert_eq!(data(&again), data(&hello), "the same connection_id, and no text is missing");
    let first = resumed.event();
    assert_eq!((text_and_type(&data(&first)).0, text_and_type(&data(&resumed.event())).0), ("1", "2"));

    let (mut newest, _) = events(&server, &first.id);
    assert_eq!(text_and_type(&data(&newest.event())).0, "2", "it continues after its own position");
    assert_eq!(resumed.chunk(), None, "the newest reader wins");
}

#[test]
fn an_event_stream_that_cannot_resume_is_not_recovered() {
    let server = TestServer::start();
    let (stream, hello) = events(&server, "");
    let id = id_of(&data(&hello));
    drop(stream);
    server.wait_for_open("sse", 0);
    for number in 1..=101 {
        send_text(&server, "/sse/message", &id, &number.to_string());
    }
    let (mut late, again) = events(&server, &hello.id);
    assert_eq!((id_of(&data(&again)), &data(&again)["recovered"]), (id.clone(), &false.into()));
    assert_eq!(text_and_type(&data(&late.event())).0, "2", "the oldest of the 100 retained texts");
    drop(late);
    server.wait_for_open("sse", 0);
    server.advance(60);
    let (_stream, expired) = events(&server, &hello.id);
    assert_eq!((id_of(&data(&expired)) != id, &data(&expired)["recovered"]), (true, &false.into()));
}

#[test]
fn a_websocket_gets_a_heartbeat_at_once_and_its_own_texts() {
    let server = TestServer::start();
    let mut socket = server.websocket("/ws");
    let heartbeat = socket.message().json();
    let id = id_of(&heartbeat);
    assert_eq!(text_and_type(&heartbeat), ("Message 1", "heartbeat"));
    let message = socket.send_text(r#"{"message": "hello", "color": "red"}"#).message().json();
    assert_eq!((text_and_type(&message), id_of(&message)), (("hello", "user_message"), id.clone()));
    assert!(message["timestamp"].as_f64().unwrap() > 1.6e9, "{message}");
    for wrong in ["hello", "[]", "{}", r#"{"message": 5}"#, r#"{"message": ""}"#] {
        let answer = socket.send_text(wrong).message().json();
        assert!(answer["type"] == "error" && answer["error"].is_string(), "{wrong}: {answer}");
    }
    assert_eq!(socket.send_frame(Opcode::Binary, r#"{"message": "x"}"#).message().json()["type"], "error");
    assert_eq!(send_text(&server, "/sse/message", &id, "from outside").status, 202);
    assert_eq!(text_and_type(&socket.message().json()), ("from outside", "user_message"));
    server.advance_and_settle(15);
    assert_eq!(text_and_type(&socket.message().json()), ("Message 2", "heartbeat"));
}

#[test]
fn deleting_a_mailbox_ends_its_reader() {
    let server = TestServer::start();
    let delete = |id: &str| {
        let request = format!("DELETE /api/client/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        server.connect().send(request).answer().status
    };
    let polled = open(&server);
    let mut held = hold(&server, &polled);
    let (mut stream, hello) = events(&server, "");
    let mut socket = server.websocket("/ws");
    let ids = [polled, id_of(&data(&hello)), id_of(&socket.message().json())];
    assert_eq!(ids.each_ref().map(|id| delete(id)), [200; 3]);
    assert_eq!((&held.answer().json()["type"], stream.chunk()), (&"timeout".into(), None));
    assert_eq!(socket.message().close().0, 1000);
    assert_eq!(ids.each_ref().map(|id| delete(id)), [404; 3]);
}

#[test]
fn errors_name_the_parameter() {
    let server = TestServer::start();
    let long = |name: &str, count| json!({ "connection_id": UNKNOWN, name: "x".repeat(count) }).to_string();
    for (path, content, start) in [
        ("/poll", "hello", "the content is not JSON"),
        ("/poll", "[]", "expected a JSON object, not []"),
        ("/poll", r#"{"connection_id": 5}"#, "connection_id: expected a string of 1 to 128 characters, not 5"),
        ("/poll", r#"{"connection_id": ""}"#, r#"connection_id: expected a string of 1 to 128 characters, not """#),
        ("/poll", &long("connection_id", 129), "connection_id: expected a string of 1 to 128 characters, not \"xxx"),
        ("/poll", r#"{"text": ["a"]}"#, r#"text: expected a string of 1 to 65536 characters, not ["a"]"#),
        ("/poll", r#"{"text": ""}"#, "text: expected a string of 1 to 65536 characters"),
        ("/poll", &long("text", 65_537), "text: expected a string of 1 to 65536 characters"),
        ("/sse/message", "", "connection_id: expected a string of 1 to 128 characters, but it is missing"),
        ("/sse/message", r#"{"connection_id": "x"}"#, "text: expected a string of 1 to 65536 characters, but it is"),
    ] {
        let answer = server.post(path, content);
        let sentence = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && sentence.starts_with(start), "{path} {start:?}: {} {sentence}", answer.status);
    }
}

#[test]
fn an_event_stream_with_the_id_of_something_else_begins_a_new_mailbox() {
    let server = TestServer::start();
    for request in ["GET /sse?last_event_id=7 HTTP/1.1\r\n", "GET /sse HTTP/1.1\r\nLast-Event-ID: 7\r\n"] {
        let mut client = server.connect();
        let head = client.send(format!("{request}Host: localhost\r\n\r\n")).head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let first = data(&client.event());
        assert_eq!((&first["type"], &first["recovered"]), (&"connected".into(), &false.into()), "{request}");
    }
}

#[test]
fn cursors_must_be_strings() {
    let server = TestServer::start();
    let answer = server.post("/poll", r#"{"last_message_id": 5}"#);
    let sentence = "last_message_id: expected the id of a message (a UUID of version 8), not 5";
    assert_eq!((answer.status, &answer.json()["error"]), (400, &sentence.into()));
}
