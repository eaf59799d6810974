//! A full store removes what nobody uses, and does not lock others out. Each test takes all places of a store, as one
//! hostile peer can.

use crate::common::{Client, TestServer};
use serde_json::json;

/// Sends requests on one connection, a few at a time, and returns the statuses of their answers.
fn pipeline(client: &mut Client, requests: impl Iterator<Item = String>) -> Vec<u16> {
    let mut requests = requests.peekable();
    let mut statuses = Vec::new();
    while requests.peek().is_some() {
        let some: Vec<String> = requests.by_ref().take(100).collect();
        client.send(some.concat());
        statuses.extend(some.iter().map(|_| client.answer().status));
    }
    statuses
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(target: &str, content: &str) -> String {
    let length = content.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}")
}

fn publish(room: &str) -> String {
    post("/api/send", &json!({ "sender": "flood", "text": "x", "room": room }).to_string())
}

fn has_room(server: &TestServer, room: &str) -> bool {
    server.get("/api/stats").json()["rooms"].as_array().unwrap().contains(&json!(room))
}

#[test]
fn a_flood_of_messages_to_new_rooms_removes_no_room_that_is_read() {
    let server = TestServer::start();
    let id = server.publish("general", "hello");
    server.publish("unread", "hello");
    assert_eq!(server.get("/api/messages").texts(), ["hello"]);
    server.advance(1);
    let mut flood = server.connect();
    let statuses = pipeline(&mut flood, (0..600).map(|number| publish(&format!("new {number}"))));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(has_room(&server, "general") && !has_room(&server, "unread") && has_room(&server, "new 599"));
    let answer = server.get(&format!("/api/messages?last_message_id={id}")).json();
    assert_eq!((&answer["recovered"], &answer["messages"]), (&json!(true), &json!([])));
}

#[test]
fn the_room_that_was_read_longest_ago_makes_room_for_another() {
    let server = TestServer::start();
    let mut flood = server.connect();
    for room in ["first", "second", "polled"] {
        server.publish(room, "hello");
        server.get(&format!("/api/messages?room={room}"));
        server.advance(1);
    }
    // The end of a held poll is a use too.
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=a&room=polled");
    server.wait_for_open("long_poll", 1);
    let mut stream = server.connect();
    stream.send_get("/api/stream?room=streamed").head();
    let use_of = |room: String| [publish(&room), get(&format!("/api/messages?room={room}"))];
    let statuses = pipeline(&mut flood, (4..256).flat_map(|n| use_of(format!("r{n}"))));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    server.advance(1);
    server.publish("polled", "news");
    assert_eq!(poll.answer().texts(), ["news"]);
    server.publish("first", "publishing is not reading");
    assert_eq!(server.get("/api/stats").json()["rooms"].as_array().unwrap().len(), 256);
    pipeline(&mut flood, use_of("another".into()).into_iter());
    assert!(!has_room(&server, "first") && has_room(&server, "second") && has_room(&server, "r4"));
    let statuses = pipeline(&mut flood, (0..253).flat_map(|n| use_of(format!("s{n}"))));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(!has_room(&server, "second") && !has_room(&server, "r255"));
    assert!(has_room(&server, "polled") && has_room(&server, "streamed") && has_room(&server, "another"));
}

#[test]
fn a_room_is_refused_only_if_all_have_readers() {
    let server = TestServer::start();
    let mut streams: Vec<Client> = (0..256).map(|_| server.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.send_get(&format!("/api/stream?room={number}")).head();
    }
    let refused = server.get("/api/messages?room=another");
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")));
    drop(streams.pop());
    server.wait_for_open("stream", 255);
    assert_eq!(server.get("/api/messages?room=another").status, 200);
}

#[test]
fn the_mailbox_unused_for_longest_makes_room_for_another() {
    const MAILBOXES: usize = 20_000;
    let server = TestServer::start();
    let mut client = server.connect();
    let mut open = || client.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let [used, unused, polled] = [open(), open(), open()];
    let mut reader = server.connect();
    reader.send_post("/poll", &json!({ "connection_id": polled }).to_string());
    server.wait_for_open("long_poll", 1);
    let mut flood = server.connect();
    pipeline(&mut flood, (3..MAILBOXES).map(|_| post("/poll", "")));
    let put = |id: &str| server.post("/sse/message", &json!({ "connection_id": id, "text": "hello" }).to_string());
    assert_eq!(put(&used).status, 202);
    let statuses = pipeline(&mut flood, (0..100).map(|_| post("/poll", "")));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!([&used, &unused, &polled].map(|id| put(id).status), [202, 404, 202]);
    assert_eq!(reader.answer().json()["message"], "hello");
    let mailboxes = server.get("/api/stats").json()["mailboxes"].take();
    assert_eq!(mailboxes, json!({ "connected": 0, "waiting": 0, "idle": MAILBOXES, "expired": 0, "texts": 3 }));
}

#[test]
fn the_signalling_room_that_has_waited_longest_makes_room_for_another() {
    let server = TestServer::start();
    let join = |room: usize| {
        let mut peer = server.websocket(&format!("/api/signal?room={room}"));
        assert_eq!(peer.frame().json()["type"], "welcome");
        peer
    };
    let mut peers: Vec<Client> = (0..1024).map(join).collect();
    let _pair = join(0);
    peers[0].frame();
    let _last = join(1024);
    let reason = "there are too many rooms, and this one has waited longest for a second peer";
    assert_eq!(peers[1].frame().close(), (1013, reason.to_owned()));
    // The others are still there, also the pair, which was there first.
    let _others = [join(0), join(2)];
    assert_eq!([0, 2].map(|room: usize| peers[room].frame().json()["type"].take()), [json!("joined"), json!("joined")]);
}

#[test]
fn the_client_unseen_for_longest_makes_room_for_another_and_is_not_recovered_later() {
    const CLIENTS: usize = 100_000;
    let server = TestServer::start();
    server.publish("general", "1");
    let position = server.get("/api/messages").json()["last_message_id"].as_str().unwrap().to_owned();
    let mut held = server.connect();
    held.send_get("/api/poll?client_id=held&timeout=60");
    server.wait_for_open("long_poll", 1);
    let poll = |id: &str| {
        let mut client = server.connect();
        client.send_get(&format!("/api/poll?client_id={id}"));
        client
    };
    for id in ["unseen", "seen"] {
        let client = poll(id);
        server.wait_for_open("long_poll", 2);
        drop(client);
        server.wait_for_open("long_poll", 1);
    }
    server.publish("general", "2");
    assert_eq!(held.answer().texts(), ["2"]);
    held.send_get("/api/poll?client_id=held&timeout=60");
    server.wait_for_open("long_poll", 1);
    let mut flood = server.connect();
    let flooding = |id| get(&format!("/api/poll?client_id={id}&last_message_id={position}"));
    let statuses = pipeline(&mut flood, (3..CLIENTS).map(flooding));
    assert!(statuses.iter().all(|status| *status == 200));
    let texts = |id: &str| {
        let answer = poll(id).answer();
        (answer.texts(), answer.json()["recovered"].take())
    };
    assert_eq!(texts("seen"), (vec!["2".to_owned()], json!(true)));
    pipeline(&mut flood, (0..100).map(|number| flooding(CLIENTS + number)));
    assert_eq!(texts("unseen"), (vec!["1".to_owned(), "2".to_owned()], json!(false)), "it may have had a position");
    server.publish("general", "3");
    assert_eq!(
        [texts("seen"), texts("unseen")],
        [(vec!["3".to_owned()], json!(true)), (vec!["3".to_owned()], json!(true))]
    );
    assert_eq!(held.answer().texts(), ["3"], "a client with a held poll is kept");
}
