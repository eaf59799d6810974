//! Servers that share one Redis, seen by clients that change from one to the other.

use std::thread;
use std::time::Instant;

use overwire::feed::Cursor;
use overwire::{resp, sse};
use serde_json::{Value, json};

use super::nodes::delete;
use super::process::{Process, is_installed};
use super::relay::Relay;
use crate::common::{Client, PATIENCE, TestServer};

/// Starts a server that keeps its messages in this Redis.
pub fn server(process: &Process) -> TestServer {
    server_of(process.url())
}

/// Its clock runs, because it tries again and again to connect.
pub fn server_of(url: String) -> TestServer {
    TestServer::with(move |config| config.redis = Some(url.parse().unwrap())).in_real_time()
}

/// A process of Redis, and servers that know each other.
pub fn servers<const N: usize>(arguments: &[&str]) -> (Process, [TestServer; N]) {
    let process = Process::started(arguments);
    let servers = [(); N].map(|()| server(&process));
    servers.iter().for_each(wait_until_ready);
    for server in &servers {
        server.wait_for("the other servers", |stats| stats["nodes"].as_array().unwrap().len() == N);
        while delete(server, "nobody").status == 503 {
            server.advance_and_settle(1); // then it knows that there are no more
        }
    }
    (process, servers)
}

fn two_servers(arguments: &[&str]) -> (Process, TestServer, TestServer) {
    let (process, [one, two]) = servers(arguments);
    (process, one, two)
}

pub fn wait_until_ready(server: &TestServer) {
    let start = Instant::now();
    while server.get("/health/ready").status != 200 {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.get("/health/ready"));
    }
}

fn send(server: &TestServer, text: &str, key: &str) -> (u16, Value) {
    let content = json!({ "sender": "ada", "text": text, "room": "tea", "key": key });
    let answer = server.post("/api/send", &content.to_string());
    (answer.status, answer.json())
}

pub fn messages(server: &TestServer, query: &str) -> (Vec<String>, bool) {
    let answer = server.get(&format!("/api/messages?room=tea{query}"));
    (answer.texts(), answer.json()["recovered"].as_bool().unwrap())
}

pub fn events(server: &TestServer, target: &str, last_event_id: &str) -> Client {
    let mut client = server.connect();
    let field = if last_event_id.is_empty() { String::new() } else { format!("Last-Event-ID: {last_event_id}\r\n") };
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

pub fn text(event: &sse::Event, name: &str) -> String {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    data[name].as_str().unwrap_or_else(|| panic!("{data}")).to_owned()
}

#[test]
fn a_message_reaches_the_readers_of_all_servers_on_each_transport() {
    if !is_installed() {
        return;
    }
    let (_process, one, two) = two_servers(&[]);
    let (mut poll, mut lines) = (two.connect(), two.connect());
    let mut events = events(&two, "/api/events?room=tea", "");
    let mut websocket = two.websocket("/api/ws?room=tea");
    poll.send_get("/api/poll?room=tea&client_id=bob&timeout=20");
    lines.send_get("/api/stream?room=tea").head();
    two.wait_for("all readers", |stats| {
        ["long_poll", "stream", "sse", "websocket"].iter().all(|transport| stats["transports"][transport]["open"] == 1)
    });
    let id = one.publish("tea", "hello");
    assert_eq!(poll.answer().texts(), ["hello"]);
    let event = events.event();
    assert_eq!((text(&event, "text"), text(&event, "id")), ("hello".into(), id.clone()));
    assert_eq!(serde_json::from_str::<Value>(&lines.line()).unwrap()["id"], id.as_str());
    assert_eq!(websocket.message().json()["id"], id.as_str());
    websocket.send_text(r#"{"sender":"bob","text":"back"}"#);
    assert_eq!(websocket.message().json()["text"], "back");
    assert_eq!(text(&events.event(), "text"), "back");
    assert_eq!(messages(&one, &format!("&last_message_id={id}")), (vec!["back".into()], true));
}

#[test]
fn a_cursor_and_a_key_of_one_server_are_known_on_another() {
    if !is_installed() {
        return;
    }
    let (process, one, two) = two_servers(&[]);
    let first = send(&one, "first", "1");
    assert_eq!(first.0, 200);
    assert_eq!(send(&two, "first", "1"), first, "a retry gets the first answer");
    assert_eq!(send(&two, "other", "1").0, 409);
    let id = first.1["message_id"].as_str().unwrap();
    send(&two, "second", "2");
    assert_eq!(messages(&two, &format!("&last_message_id={id}")), (vec!["second".into()], true));
    let late = server(&process);
    let mut client = events(&late, "/api/events?room=tea", id);
    assert_eq!(text(&client.event(), "text"), "second", "a request waits until the server has the messages");
    assert_eq!(messages(&late, ""), (vec!["first".into(), "second".into()], true));
    let history = server(&process).get("/api/history?room=tea");
    assert_eq!(history.texts(), ["first", "second"]);
    assert_eq!(server(&process).get("/api/history?room=none").texts(), [""; 0]);
}

#[test]
fn a_reader_that_is_ahead_of_its_server_is_not_told_of_a_loss() {
    if !is_installed() {
        return;
    }
    let (process, one, _two) = two_servers(&[]);
    let first: Cursor = one.publish("tea", "first").parse().unwrap();
    // Another server has appended this message, and its notice has not arrived.
    let (second, epoch) = (Cursor::of_parts(first.epoch(), 7, 2).unwrap(), first.epoch().to_string());
    let body = json!({ "sender": "bob", "text": "second", "timestamp": 0, "room": "tea" }).to_string();
    process.command(&["XADD", "overwire:room:tea", "2-7", "e", &epoch, "t", "99", "n", "", "m", &body]);
    assert_eq!(messages(&one, &format!("&last_message_id={second}")), (vec![], true));
    assert_eq!(messages(&one, &format!("&last_message_id={first}")), (vec!["second".into()], true));
    let lost = Cursor::of_parts(first.epoch(), 8, 2).unwrap();
    assert_eq!(messages(&one, &format!("&last_message_id={lost}")), (vec!["first".into(), "second".into()], false));
}

#[test]
fn an_entry_of_another_program_counts_as_lost() {
    if !is_installed() {
        return;
    }
    let (process, one, two) = two_servers(&[]);
    let first: Cursor = one.publish("tea", "first").parse().unwrap();
    let epoch = first.epoch().to_string();
    let mut client = events(&two, "/api/events?room=tea", "");
    for (sequence, body) in (2..).zip(["", "[1]", "\u{e9}", "7"]) {
        let id = format!("{sequence}-7");
        process.command(&["XADD", "overwire:room:tea", &id, "e", &epoch, "t", "99", "n", "", "m", body]);
        process.command(&["PUBLISH", "overwire:0:room:tea", &format!("{epoch} {id} other:1 {body}")]);
    }
    one.publish("tea", "last");
    let mut next = || loop {
        let event = client.event();
        if event.name != "notice" {
            break text(&event, "text");
        }
    };
    assert_eq!(next(), "last");
    assert_eq!(messages(&one, &format!("&last_message_id={first}")), (vec!["last".into()], false));
}

#[test]
fn a_client_whose_position_is_lost_is_told_on_another_server() {
    if !is_installed() {
        return;
    }
    let (process, one, two) = two_servers(&[]);
    one.publish("tea", "old");
    let mut poll = one.connect();
    poll.send_get("/api/poll?room=tea&client_id=bob&timeout=20");
    one.wait_for_open("long_poll", 1);
    one.publish("tea", "first");
    assert_eq!(poll.answer().texts(), ["first"]);
    process.command(&["DEL", "overwire:room:tea"]);
    one.publish("tea", "new");
    let answer = two.get("/api/poll?room=tea&client_id=bob&timeout=5");
    assert_eq!((answer.texts(), answer.json()["recovered"].as_bool()), (vec!["new".into()], Some(false)));
}

#[test]
fn a_client_that_polls_without_a_cursor_may_change_the_server() {
    if !is_installed() {
        return;
    }
    let (_process, one, two) = two_servers(&[]);
    let poll = |server: &TestServer| server.get("/api/poll?room=tea&client_id=bob&timeout=5").texts();
    let mut first = one.connect();
    first.send_get("/api/poll?room=tea&client_id=bob&timeout=20");
    one.wait_for_open("long_poll", 1);
    one.publish("tea", "first");
    assert_eq!(first.answer().texts(), ["first"]);
    for number in 0..10 {
        let (here, there) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let text = number.to_string();
        here.publish("tea", &text);
        assert_eq!(poll(there), [text]);
    }
}

#[test]
fn a_mailbox_is_read_and_written_on_any_server() {
    if !is_installed() {
        return;
    }
    let (_process, one, two) = two_servers(&[]);
    let poll = |server: &TestServer, content: Value| server.post("/poll", &content.to_string()).json();
    let id = poll(&one, json!({}))["connection_id"].as_str().unwrap().to_owned();
    let put = json!({ "connection_id": id, "text": "first" }).to_string();
    assert_eq!(two.post("/sse/message", &put).status, 202);
    let first = poll(&one, json!({ "connection_id": id }));
    assert_eq!(first["message"], "first");
    assert_eq!(two.post("/sse/message", &put.replace("first", "second")).status, 202);
    let second = poll(&two, json!({ "connection_id": id, "last_message_id": first["id"] }));
    assert_eq!(second["message"], "second");
    let mut reader = events(&two, "/sse", second["id"].as_str().unwrap());
    assert_eq!(text(&reader.event(), "connection_id"), id);
    assert_eq!(one.post("/sse/message", &put.replace("first", "third")).status, 202);
    assert_eq!(text(&reader.event(), "message"), "third");
    let delete = format!("DELETE /api/client/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(one.connect().send(&delete).answer().status, 200);
    assert_eq!(reader.chunk(), None, "the stream on the other server ends");
    for server in [&one, &two] {
        assert_eq!(server.post("/sse/message", &put).status, 404);
        assert_eq!(server.connect().send(&delete).answer().status, 404);
    }
}

#[test]
fn while_redis_is_away_readers_go_on_and_publishes_get_503_in_time() {
    if !is_installed() {
        return;
    }
    let (mut process, one, _two) = two_servers(&["--appendonly", "yes", "--appendfsync", "always"]);
    one.publish("tea", "before");
    let mut reader = events(&one, "/api/events?room=tea", "");
    process.kill();
    let mut pending = one.connect();
    pending.send_post("/api/send", r#"{"sender":"ada","text":"away","room":"tea"}"#);
    one.get("/health");
    one.advance(6);
    assert_eq!(pending.answer().status, 503);
    assert_eq!((one.get("/health").status, one.get("/health/ready").status), (200, 503));
    assert!(one.get("/health/ready").json()["error"].as_str().unwrap().contains("Redis"));
    assert_eq!(messages(&one, ""), (vec!["before".into()], true));
    let mut unknown = one.connect();
    unknown.send_get("/api/messages?room=new");
    one.get("/health");
    one.advance(6);
    assert_eq!(unknown.answer().status, 503);
    process.start();
    wait_until_ready(&one);
    one.publish("tea", "after");
    assert_eq!(text(&reader.event(), "text"), "after");
    assert_eq!(messages(&one, ""), (vec!["before".into(), "after".into()], true));
}

#[test]
fn names_that_are_asked_for_while_redis_is_away_are_forgotten() {
    if !is_installed() {
        return;
    }
    let (mut process, one, _two) = two_servers(&[]);
    process.kill();
    wait_until_away(&one);
    let logs = || one.get("/api/stats").json()["memory"]["journal"].as_u64().unwrap();
    let before = logs();
    let late = ask_for_new_names(&one, 0);
    assert!(logs() > before + 32_768, "they are looked for");
    one.advance_and_settle(6);
    for mut client in late {
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("5")));
    }
    drop(ask_for_new_names(&one, 200)); // their clients do not wait
    one.advance_and_settle(20); // two sweeps
    one.advance_and_settle(20);
    assert!(logs() <= before + 16_384, "{} after {before} bytes", logs()); // small maps stay
    process.start();
    wait_until_ready(&one);
    one.publish("tea", "after");
    assert!(matches!(process.command(&["DBSIZE"]), resp::Value::Number(keys) if keys < 10), "they are not created");
}

/// Sends 200 requests, each for a log that nobody knows: rooms and mailboxes.
fn ask_for_new_names(server: &TestServer, first: u32) -> Vec<Client> {
    let ask = |number| {
        let mut client = server.connect();
        match number % 2 {
            0 => client.send_get(&format!("/api/messages?room=r{number}")),
            _ => client.send_post("/poll", &json!({ "connection_id": format!("m{number}") }).to_string()),
        };
        client
    };
    let clients = (first..first + 200).map(ask).collect();
    server.get("/health"); // all of them are read by then
    clients
}

pub fn wait_until_away(server: &TestServer) {
    let start = Instant::now();
    while server.get("/health/ready").status == 200 {
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn readers_are_told_when_redis_has_lost_messages() {
    if !is_installed() {
        return;
    }
    let (mut process, one, two) = two_servers(&[]);
    let kept = one.publish("tea", "kept");
    process.command(&["SAVE"]);
    let lost = one.publish("tea", "lost");
    let mut reader = events(&two, "/api/events?room=tea", &kept);
    assert_eq!(text(&reader.event(), "text"), "lost");
    let mut poll = two.connect();
    poll.send_get(&format!("/api/poll?room=tea&client_id=bob&timeout=20&last_message_id={lost}"));
    two.wait_for_open("long_poll", 1);
    process.kill();
    process.start();
    let notice = reader.any_event();
    assert_eq!((notice.name.as_str(), notice.id.as_str()), ("notice", kept.as_str()), "{notice:?}");
    assert_eq!(poll.answer().json()["recovered"], false);
    wait_until_ready(&one);
    one.publish("tea", "new");
    assert_eq!(text(&reader.event(), "text"), "new");
    assert_eq!(messages(&two, &format!("&last_message_id={lost}")), (vec!["kept".into(), "new".into()], false));
    assert_eq!(messages(&two, &format!("&last_message_id={kept}")), (vec!["new".into()], true));
}

#[test]
fn readers_are_told_when_a_replica_takes_over_that_was_behind() {
    if !is_installed() {
        return;
    }
    let mut primary = Process::started(&["--repl-diskless-sync-delay", "0"]);
    let link = Relay::to(primary.port); // between the primary and its replica
    let replica = Process::started(&["--replicaof", "127.0.0.1", &link.port.to_string()]);
    let relay = Relay::to(primary.port); // between the servers and the primary
    let (one, two) = (server_of(relay.url()), server_of(relay.url()));
    [&one, &two].into_iter().for_each(wait_until_ready);
    let kept = one.publish("tea", "kept");
    let entries = |count| {
        while replica.command(&["XLEN", "overwire:room:tea"]) != resp::Value::Number(count) {
            thread::yield_now(); // a replica tells nobody
        }
    };
    entries(2);
    link.hold_back(true);
    let lost = one.publish("tea", "lost");
    let mut reader = events(&two, "/api/events?room=tea", &kept);
    assert_eq!(text(&reader.event(), "text"), "lost");
    primary.kill();
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    entries(2);
    relay.lead_to(replica.port);
    let notice = reader.any_event();
    assert_eq!((notice.name.as_str(), notice.id.as_str()), ("notice", kept.as_str()), "{notice:?}");
    [&one, &two].into_iter().for_each(wait_until_ready);
    let new: Cursor = two.publish("tea", "new").parse().unwrap();
    assert_eq!(text(&reader.event(), "text"), "new");
    let lost: Cursor = lost.parse().unwrap();
    assert_eq!((new.epoch(), new.sequence()), (lost.epoch(), lost.sequence()), "the same place has another message");
    for server in [&one, &two] {
        assert_eq!(messages(server, &format!("&last_message_id={lost}")), (vec!["kept".into(), "new".into()], false));
        assert_eq!(messages(server, &format!("&last_message_id={kept}")), (vec!["new".into()], true));
    }
}

#[test]
fn a_redis_that_is_frozen_for_a_minute_loses_nothing_that_was_answered() {
    if !is_installed() {
        return;
    }
    let (process, one, two) = two_servers(&[]);
    let mut reader = events(&two, "/api/events?room=tea", "");
    one.publish("tea", "before");
    process.signal("STOP");
    let content = json!({ "sender": "ada", "text": "meanwhile", "room": "tea", "key": "1" }).to_string();
    let mut pending = one.connect();
    pending.send_post("/api/send", &content);
    one.get("/health");
    for _ in 0..30 {
        [&one, &two].into_iter().for_each(|server| server.advance_and_settle(2));
    }
    assert_eq!(pending.answer().status, 503);
    assert_eq!((one.get("/health").status, one.get("/health/ready").status), (200, 503));
    assert_eq!(messages(&one, ""), (vec!["before".into()], true), "readers keep what they have");
    process.signal("CONT");
    [&one, &two].into_iter().for_each(wait_until_ready);
    assert_eq!(send(&one, "meanwhile", "1").0, 200, "a retry with the same key is safe");
    two.publish("tea", "after");
    let received = std::iter::repeat_with(|| reader.event()).filter(|event| event.name == "message");
    let received: Vec<_> = received.take(3).map(|event| text(&event, "text")).collect();
    assert_eq!(received[1..], ["meanwhile", "after"], "the stream of a reader goes on");
    for server in [&one, &two] {
        let all = ["before", "meanwhile", "after"].map(String::from).to_vec();
        while messages(server, "").0.len() < all.len() {
            thread::yield_now();
        }
        assert_eq!(messages(server, ""), (all, true));
    }
}

#[test]
fn the_rooms_of_a_client_are_bounded_also_if_it_opens_them_together() {
    if !is_installed() {
        return;
    }
    let process = Process::started(&[]);
    let url = process.url();
    let server = TestServer::with(move |config| {
        config.redis = Some(url.parse().unwrap());
        config.limits.per_client.loopback = true;
        config.limits.per_client.rooms = 2;
    })
    .in_real_time();
    wait_until_ready(&server);
    process.signal("STOP"); // so that all of them wait for Redis
    let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /api/messages?room=r{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    assert_eq!(server.get("/health").status, 200);
    process.signal("CONT");
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
    assert_eq!(server.get("/api/stats").json()["rooms"].as_array().unwrap().len(), 2);
}
