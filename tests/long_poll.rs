//! Long polling in rooms: polls are held, answered and timed out, and no message is lost between two polls.

use crate::common::{Answer, Client, TestServer};
use overwire::websocket::Opcode;
use serde_json::{Value, json};

/// A cursor into a log that no server has.
const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";

/// `count` characters of two bytes each.
fn characters(count: usize) -> String {
    "é".repeat(count)
}

/// Starts one poll for each query, and waits until they are held. No other poll may be held.
fn hold<const N: usize>(server: &TestServer, queries: [&str; N]) -> [Client; N] {
    let polls = queries.map(|query| {
        let mut poll = server.connect();
        poll.send_get(&format!("/api/poll?{query}"));
        poll
    });
    server.wait_for_open("long_poll", N as u64);
    polls
}

fn delete(server: &TestServer, id: &str) -> Answer {
    server.connect().send(format!("DELETE /api/client/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer()
}

/// Checks that an answer is a 400 whose sentence contains all `parts`, which are separated by `|`.
#[track_caller]
fn expect_bad_request(answer: &Answer, parts: &str, about: &str) {
    let json = answer.json();
    let sentence = json["error"].as_str().unwrap_or_else(|| panic!("no error for {about:?}: {json}"));
    assert_eq!((answer.status, &json["type"]), (400, &"error".into()), "{about:?}: {json}");
    assert!(parts.split('|').all(|part| sentence.contains(part)), "{about:?}: {sentence:?} lacks one of {parts:?}");
}

#[test]
fn a_held_poll_is_answered_by_a_send() {
    let server = TestServer::start();
    let [mut poll] = hold(&server, ["client_id=alice"]);
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
fn a_poll_is_held_for_its_timeout() {
    for (query, seconds) in [("client_id=a&timeout=5", 5), ("client_id=a", 25), ("client_id=a&timeout=60", 60)] {
        let server = TestServer::start();
        let [mut poll] = hold(&server, [query]);
        server.advance(seconds - 2);
        server.wait_for_open("long_poll", 1);
        server.advance_and_settle(2);
        let json = poll.answer().json();
        assert_eq!(
            (&json["status"], &json["timeout"], &json["messages"]),
            (&"timeout".into(), &true.into(), &json!([]))
        );
    }
}

#[test]
fn a_message_answers_the_polls_of_its_room_only() {
    let server = TestServer::start();
    let [mut alice, mut bob, mut carol] =
        hold(&server, ["client_id=alice&room=x", "client_id=bob&room=x", "client_id=carol&room=y"]);
    server.publish("x", "for x");
    assert_eq!((alice.answer().texts(), bob.answer().texts()), (vec!["for x".into()], vec!["for x".into()]));
    server.wait_for_open("long_poll", 1);
    server.publish("y", "for y");
    assert_eq!(carol.answer().texts(), ["for y"]);
}

#[test]
fn a_message_answers_all_polls_of_a_client() {
    let server = TestServer::start();
    let mut polls = hold(&server, ["client_id=alice"; 5]);
    let id = server.publish("general", "hello");
    for poll in &mut polls {
        let messages = poll.answer().json()["messages"].take();
        assert_eq!((messages.as_array().unwrap().len(), &messages[0]["id"]), (1, &id.as_str().into()));
    }
}

#[test]
fn the_first_poll_of_a_client_gets_new_messages_only() {
    let server = TestServer::start();
    server.publish("general", "before");
    let [mut poll] = hold(&server, ["client_id=alice"]);
    server.publish("general", "after");
    assert_eq!(poll.answer().texts(), ["after"]);
}

#[test]
fn a_client_without_a_cursor_loses_no_message_between_two_polls() {
    let server = TestServer::start();
    let [mut poll] = hold(&server, ["client_id=alice&timeout=5"]);
    server.publish("general", "1");
    assert_eq!(poll.answer().texts(), ["1"]);
    for text in ["2", "3", "4"] {
        server.publish("general", text);
    }
    assert_eq!(poll.get("/api/poll?client_id=alice").texts(), ["2", "3", "4"], "all new messages come in one answer");
    let [mut poll] = hold(&server, ["client_id=alice&timeout=5"]);
    server.advance(5);
    assert_eq!(poll.answer().texts(), [""; 0]);
    server.publish("general", "5");
    assert_eq!(poll.get("/api/poll?client_id=alice").texts(), ["5"], "a message after a timeout");
}

#[test]
fn a_cursor_overrides_the_stored_position() {
    let server = TestServer::start();
    let [mut poll] = hold(&server, ["client_id=alice"]);
    let first = server.publish("general", "1");
    poll.answer();
    let second = server.publish("general", "2");
    let resume = |from: &str| server.get(&format!("/api/poll?client_id=alice&last_message_id={from}"));
    assert_eq!(resume(&first).texts(), ["2"]);
    assert_eq!(resume(&first).texts(), ["2"], "the cursor may be used again");
    assert_eq!(resume(&first).json()["last_message_id"], second.as_str());
    let [mut poll] = hold(&server, [&format!("client_id=alice&last_message_id={second}")]);
    server.publish("general", "3");
    assert_eq!(poll.answer().texts(), ["3"]);
}

#[test]
fn a_poll_with_an_unknown_cursor_is_held_and_not_recovered() {
    let server = TestServer::start();
    let query = |cursor: &str| format!("client_id=alice&timeout=5&last_message_id={cursor}");
    let [mut poll] = hold(&server, [&query(FOREIGN)]);
    server.advance(5);
    let answer = poll.answer().json();
    assert_eq!((&answer["timeout"], &answer["recovered"]), (&true.into(), &false.into()));

    let tip = answer["last_message_id"].as_str().unwrap();
    let [mut resumed, mut again] = hold(&server, [&query(tip), &query(FOREIGN)]);
    server.publish("general", "1");
    let recovered = [resumed.answer().json(), again.answer().json()].map(|json| json["recovered"].clone());
    assert_eq!(recovered, [true, false]);

    let future = format!("{}ffffffffffff", &tip[..24]);
    for cursor in [FOREIGN, &future] {
        let answer = server.get(&format!("/api/poll?{}", query(cursor)));
        assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["1".into()], &false.into()), "{cursor}");
    }
}

#[test]
fn a_cursor_before_the_retained_messages_is_not_recovered() {
    let server = TestServer::start();
    let first = server.publish("general", "1");
    let mut sender = server.connect();
    let mut send = |text: u32| {
        let content = json!({ "sender": "test", "text": text.to_string() }).to_string();
        assert_eq!(sender.post("/api/send", &content).status, 200);
    };
    let poll = || server.get(&format!("/api/poll?client_id=alice&last_message_id={first}"));
    (2..=1001).for_each(&mut send);
    for (last, recovered, oldest) in [(1001, true, "2"), (1002, false, "3")] {
        if last > 1001 {
            send(last);
        }
        let (answer, texts) = (poll().json(), poll().texts());
        assert_eq!((&answer["recovered"], &*texts[0], texts.len()), (&recovered.into(), oldest, 1000), "{last}");
    }
}

#[test]
fn a_closed_poll_consumes_no_message() {
    let server = TestServer::start();
    let mut sender = server.connect();
    for round in ["1", "2", "3"] {
        let [poll] = hold(&server, ["client_id=alice"]);
        drop(poll); // the end of the connection reaches the server before the message
        sender.post("/api/send", &json!({ "sender": "test", "text": round }).to_string());
        assert_eq!(server.get("/api/poll?client_id=alice").texts(), [round]);
    }
}

#[test]
fn deleting_a_client_answers_its_poll_and_ends_its_streams() {
    let server = TestServer::start();
    let [mut poll, _bob] = hold(&server, ["client_id=alice", "client_id=bob"]);
    let [mut stream, mut events] = ["/api/stream", "/api/events"].map(|path| {
        let mut client = server.connect();
        client.send_get(&format!("{path}?client_id=alice")).head();
        client
    });
    events.chunk_text(); // its opening
    let mut socket = server.websocket("/api/ws?client_id=alice");

    let answer = delete(&server, "alice");
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "disconnected" })));
    assert_eq!(poll.answer().json()["status"], "disconnected");
    assert_eq!((stream.chunk(), events.chunk()), (None, None));
    let close = socket.message();
    assert_eq!(close.close().0, 1000);
    socket.send_frame(Opcode::Close, &close.payload).expect_end();

    for (transport, open) in [("long_poll", 1), ("stream", 0), ("sse", 0), ("websocket", 0)] {
        server.wait_for_open(transport, open);
    }
    for unknown in ["alice", "carol"] {
        assert_eq!(delete(&server, unknown).status, 404, "{unknown}");
    }
}

#[test]
fn a_deleted_client_gets_everything_and_is_not_recovered() {
    let server = TestServer::start();
    server.publish("general", "1");
    let [mut poll] = hold(&server, ["client_id=alice"]);
    server.publish("general", "2");
    assert_eq!(poll.answer().texts(), ["2"]);
    assert_eq!([delete(&server, "alice").status, delete(&server, "alice").status], [200, 404]);
    server.publish("general", "3");
    let answer = server.get("/api/poll?client_id=alice");
    assert_eq!(
        (answer.texts(), &answer.json()["recovered"]),
        (vec!["1".into(), "2".into(), "3".into()], &false.into())
    );
    // From here on it is a client like others.
    server.publish("general", "4");
    let answer = server.get("/api/poll?client_id=alice");
    assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["4".to_owned()], &true.into()));
    // After five minutes it would be unknown anyway.
    assert_eq!(delete(&server, "alice").status, 200);
    server.advance(310);
    server.get("/health"); // the sweep comes before the answer
    let [mut poll] = hold(&server, ["client_id=alice"]);
    server.publish("general", "5");
    assert_eq!(poll.answer().texts(), ["5"]);
}

#[test]
fn a_client_that_streams_after_it_was_deleted_is_not_recovered() {
    let server = TestServer::start();
    hold(&server, ["client_id=alice"]);
    delete(&server, "alice");
    server.publish("general", "1");
    let mut stream = server.connect();
    stream.send_get("/api/stream?client_id=alice").head();
    let answer = server.get("/api/poll?client_id=alice");
    assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["1".to_owned()], &false.into()));
}

#[test]
fn a_client_with_any_id_can_be_deleted() {
    let server = TestServer::start();
    for id in ["a%2Fb", "%3Fa%26b", "%C3%A9%20%25", &"a".repeat(128)] {
        let [mut poll] = hold(&server, [&format!("client_id={id}")]);
        assert_eq!(delete(&server, id).status, 200, "{id}");
        assert_eq!(poll.answer().json()["status"], "disconnected", "{id}");
    }
}

#[test]
fn errors_name_the_parameter_its_range_and_its_value() {
    let server = TestServer::start();
    let long = |name: &str, count| format!("client_id=a&{name}={}", "%C3%A9".repeat(count));
    let cases = [
        ("", "client_id|1 to 128 characters|missing"),
        ("client_id=", r#"client_id|1 to 128 characters|"""#),
        (&format!("client_id={}", "a".repeat(129)), "client_id|1 to 128 characters|aaaaa"),
        ("client_id=a&timeout=4", r#"timeout|5 to 60|"4""#),
        ("client_id=a&timeout=61", r#"timeout|5 to 60|"61""#),
        ("client_id=a&timeout=abc", r#"timeout|5 to 60|"abc""#),
        ("client_id=a&timeout=+5", r#"timeout|5 to 60|" 5""#),
        ("client_id=a&timeout=%2B5", r#"timeout|5 to 60|"+5""#),
        ("client_id=a&timeout=5.5", r#"timeout|5 to 60|"5.5""#),
        ("client_id=a&timeout=", r#"timeout|5 to 60|"""#),
        ("client_id=a&timeout=18446744073709551621", r#"timeout|5 to 60|"18446744073709551621""#),
        ("client_id=a&last_message_id=7", r#"last_message_id|UUID|version 8|"7""#),
        ("client_id=a&last_message_id=1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21", "last_message_id|version 8|1b4e28ba"),
        ("client_id=a&room=", r#"room|1 to 64 characters|"""#),
        (&long("room", 65), "room|1 to 64 characters|éé"),
    ];
    for (query, parts) in cases {
        expect_bad_request(&server.get(&format!("/api/poll?{query}")), parts, query);
    }
    let longest = format!("client_id={}&room={}", "a".repeat(128), "%C3%A9".repeat(64));
    hold(&server, [&longest, "client_id=a&color=red&Timeout=1&last_message_id="]);
}

#[test]
fn a_wrong_send_is_refused_and_publishes_nothing() {
    let server = TestServer::start();
    let with = |field: &str, value: Value| {
        let mut content = json!({ "sender": "a", "text": "b" });
        content[field] = value;
        content.to_string()
    };
    let cases = [
        (String::new(), "sender|1 to 64 characters|missing"),
        ("{}".into(), "sender|1 to 64 characters|missing"),
        (r#"{"sender": "a"}"#.into(), "text|1 to 65536 characters|missing"),
        (with("sender", Value::Null), "sender|missing"),
        (with("sender", 5.into()), "sender|1 to 64 characters|5"),
        (with("sender", "".into()), r#"sender|1 to 64 characters|"""#),
        (with("sender", characters(65).into()), "sender|1 to 64 characters|éé"),
        (with("text", json!(["b"])), r#"text|1 to 65536 characters|["b"]"#),
        (with("text", "".into()), "text|1 to 65536 characters"),
        (with("text", characters(65_537).into()), "text|1 to 65536 characters|éé"),
        (with("room", true.into()), "room|1 to 64 characters|true"),
        (with("room", characters(65).into()), "room|1 to 64 characters|éé"),
        ("hello".into(), "not JSON"),
        (r#"{"sender": "a""#.into(), "not JSON"),
        (r#"["a", "b"]"#.into(), r#"JSON object|["a","b"]"#),
        ("\"a\"".into(), r#"JSON object|"a""#),
    ];
    for (content, parts) in &cases {
        let about: String = content.chars().take(60).collect();
        expect_bad_request(&server.post("/api/send", content), parts, &about);
    }
    let longest = json!({ "sender": characters(64), "text": characters(65_536), "room": characters(64), "color": 1 });
    assert_eq!(server.post("/api/send", &longest.to_string()).status, 200);
    server.wait_for("one message", |stats| stats["total_messages"] == 1);
}

#[test]
fn a_client_in_too_many_rooms_is_not_recovered() {
    let server = TestServer::start();
    let mut client = server.connect();
    for number in 0..17 {
        server.publish(&format!("r{number}"), "before");
        let [poll] = hold(&server, [&format!("client_id=alice&room=r{number}")]);
        drop(poll);
        server.wait_for_open("long_poll", 0);
    }
    server.publish("r0", "after");
    let answer = client.get("/api/poll?client_id=alice&room=r0");
    assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["before".into(), "after".into()], &json!(false)));
}

#[test]
fn a_client_that_is_not_recovered_learns_it_after_a_hang_up() {
    let server = TestServer::start();
    let foreign = "00000000-0000-8000-8000-000000000007";
    let [poll] = hold(&server, [&format!("client_id=alice&last_message_id={foreign}")]);
    drop(poll);
    server.wait_for_open("long_poll", 0);
    let [mut poll] = hold(&server, ["client_id=alice"]);
    server.publish("general", "1");
    assert_eq!(poll.answer().json()["recovered"], false);
}

#[test]
fn a_client_that_changes_from_a_stream_to_polls_misses_no_message() {
    let server = TestServer::start();
    let mut stream = server.connect();
    stream.send_get("/api/stream?client_id=alice").head();
    drop(stream);
    server.wait_for_open("stream", 0);
    server.publish("general", "between");
    assert_eq!(server.get("/api/poll?client_id=alice").texts(), ["between"]);
}

#[test]
fn a_room_name_with_nul_is_refused() {
    let server = TestServer::start();
    let answer = server.post("/api/send", r#"{"sender": "a", "text": "b", "room": "x\u0000y"}"#);
    assert_eq!(answer.status, 400);
    expect_bad_request(&answer, "room|a string without NUL", "room");
}

#[test]
fn a_poll_with_a_foreign_cursor_is_answered_within_a_second() {
    let server = TestServer::start();
    let foreign = "00000000-0000-8000-8000-000000000007";
    let [mut poll] = hold(&server, [&format!("client_id=alice&timeout=60&last_message_id={foreign}")]);
    server.advance_and_settle(1);
    let answer = poll.answer().json();
    assert_eq!((&answer["timeout"], &answer["recovered"]), (&true.into(), &false.into()));
    // A poll from the position of that answer is held for its timeout.
    let position = answer["last_message_id"].as_str().unwrap();
    let [mut poll] = hold(&server, [&format!("client_id=alice&timeout=60&last_message_id={position}")]);
    server.advance(59);
    server.publish("general", "1");
    assert_eq!((poll.answer().texts(), server.get("/health").status), (vec!["1".into()], 200));
}
