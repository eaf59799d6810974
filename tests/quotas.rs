//! The bounds of each client, exceeded through real sockets by one address, while another one goes on.

use std::io::{self, Write};

use overwire::limits::PerClient;
use overwire::server::Config;
use overwire::websocket::Opcode;
use serde_json::json;

use crate::common::{Answer, Client, TestServer, from::connect_from, masked_frame};

/// The hosts of 127.0.0.0/8 that are the clients.
const GREEDY: u8 = 2;
const OTHER: u8 = 3;

fn server_with(change: impl FnOnce(&mut PerClient) + Send + 'static) -> TestServer {
    TestServer::with(move |config: &mut Config| {
        config.limits.per_client.loopback = true;
        config.allow_origins.push("http://page.example".into());
        change(&mut config.limits.per_client);
    })
}

fn from(host: u8, server: &TestServer) -> Client {
    Client::of(connect_from(host, server.address).unwrap())
}

/// Checks a refusal: its sentence begins with the name of the bound.
#[track_caller]
fn check_refusal(answer: &Answer, sentence: &str) {
    assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")), "{answer:?}");
    assert_eq!(answer.json()["error"], sentence);
}

fn upgrade(client: &mut Client, target: &str) -> Answer {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n")).answer()
}

#[test]
fn connections_beyond_the_bound_get_429_and_are_closed() {
    let server = server_with(|bounds| bounds.connections = 2);
    let mut open = [from(GREEDY, &server), from(GREEDY, &server)];
    assert!(open.iter_mut().all(|client| client.get("/health").status == 200));
    let mut third = from(GREEDY, &server);
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://page.example\r\n\r\n";
    let answer = third.send(request).answer();
    check_refusal(&answer, "connections: a client may have 2 connections: try again later");
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("http://page.example"));
    assert_eq!(answer.field("Connection"), Some("close"));
    third.expect_end();
    drop(third);
    assert_eq!(from(OTHER, &server).get("/health").status, 200);
    assert_eq!(open[0].get("/health").status, 200, "the open connections go on");
    drop(open);
    server.wait_for("their end", |stats| stats["connections"] == 1);
    assert_eq!(from(GREEDY, &server).get("/health").status, 200);
    let answer = server.connect().get("/metrics");
    let metrics = answer.text();
    assert!(metrics.contains("overwire_refusals_per_client_total{bound=\"connections\"} 1\n"), "{metrics}");
}

#[test]
fn connections_far_beyond_the_bound_are_closed_at_once() {
    let server = server_with(|bounds| bounds.connections = 1);
    let mut many: Vec<Client> = (0..40).map(|_| from(GREEDY, &server)).collect();
    let ended = many.split_off(17);
    assert!(
        many.iter_mut().enumerate().all(|(at, client)| client.get("/health").status == if at == 0 { 200 } else { 429 })
    );
    ended.into_iter().for_each(|mut client| assert_eq!(client.read_to_end(), b""));
}

#[test]
fn the_connection_of_a_proxy_counts_for_its_client() {
    let server = TestServer::with(|config| {
        config.limits.per_client.connections = 1;
        config.proxy_protocol = true;
        config.trust_proxies.push("127.0.0.1".into());
    });
    let announced = |address: &str| {
        let mut client = server.connect();
        client.send(format!("PROXY TCP4 {address} 198.51.100.2 4711 443\r\n"));
        client
    };
    let mut first = announced("203.0.113.1");
    assert_eq!(first.get("/health").status, 200);
    let mut second = announced("203.0.113.1");
    check_refusal(&second.get("/health"), "connections: a client may have 1 connections: try again later");
    second.expect_end();
    assert_eq!(announced("203.0.113.2").get("/health").status, 200);
    assert_eq!(first.get("/health").status, 200);
}

#[test]
fn polls_streams_and_websockets_are_bounded() {
    let server = server_with(|bounds| {
        *bounds = PerClient { polls: 1, streams: 1, websockets: 1, signalling: 1, ..*bounds };
    });
    let mut held: Vec<Client> = Vec::new();
    for (first, others, sentence) in [
        ("/api/poll?client_id=a", vec!["/api/poll?client_id=b", "/poll"], "polls: a client may hold 1 polls"),
        ("/api/stream", vec!["/api/stream", "/api/events", "/sse", "/events"], "streams: a client may have 1 streams"),
    ] {
        let mut client = from(GREEDY, &server);
        client.send_get(first);
        server.wait_for_open(if first.contains("poll") { "long_poll" } else { "stream" }, 1);
        held.push(client);
        for target in others {
            let answer = from(GREEDY, &server).get(target);
            check_refusal(&answer, &format!("{sentence}: try again later"));
        }
        from(OTHER, &server).send_get(first);
    }
    for (first, others, sentence) in [
        ("/api/ws", vec!["/api/ws", "/ws"], "websockets: a client may have 1 WebSockets"),
        ("/api/signal", vec!["/api/signal?room=b"], "signalling: a client may have 1 peers in rooms of the signalling"),
    ] {
        let mut client = from(GREEDY, &server);
        client.upgrade(first);
        held.push(client);
        for target in others {
            check_refusal(&upgrade(&mut from(GREEDY, &server), target), &format!("{sentence}: try again later"));
        }
        from(OTHER, &server).upgrade(first);
    }
    drop(held);
    server.wait_for("their end", |stats| stats["connections"] == 1);
    from(GREEDY, &server).upgrade("/api/ws");
}

#[test]
fn a_client_with_too_many_rooms_loses_its_own() {
    let server = server_with(|bounds| bounds.rooms = 2);
    let publish = |host: u8, room: &str| {
        let content = json!({ "sender": "a", "text": "x", "room": room }).to_string();
        from(host, &server).post("/api/send", &content)
    };
    let rooms = || server.get("/api/stats").json()["rooms"].clone();
    assert!(["other", "other 2"].iter().all(|room| publish(OTHER, room).status == 200));
    assert_eq!(publish(GREEDY, "first").status, 200);
    server.advance(1); // it was used before the second
    assert_eq!(publish(GREEDY, "second").status, 200);
    assert_eq!(publish(GREEDY, "other").status, 200, "it exists");
    assert_eq!(publish(GREEDY, "third").status, 200);
    assert_eq!(rooms(), json!(["other", "other 2", "second", "third"]));
    let mut readers = ["second", "third"].map(|room| {
        let mut client = from(OTHER, &server);
        client.send_get(&format!("/api/stream?room={room}")).head();
        client
    });
    check_refusal(&publish(GREEDY, "fourth"), "rooms: a client may have 2 rooms that are read: try again later");
    check_refusal(
        &from(GREEDY, &server).get("/api/messages?room=fourth"),
        "rooms: a client may have 2 rooms that are read: try again later",
    );
    assert_eq!(publish(GREEDY, "second").status, 200);
    assert!(readers[0].chunk_text().contains("\"x\""));
    assert_eq!(publish(OTHER, "fourth").status, 200);
}

#[test]
fn mailboxes_are_bounded() {
    let server = server_with(|bounds| bounds.mailboxes = 2);
    let mut greedy = from(GREEDY, &server);
    let id = greedy.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    assert_eq!(greedy.post("/poll", "").status, 200);
    let sentence = "mailboxes: a client may have 2 mailboxes: try again later";
    check_refusal(&greedy.post("/poll", ""), sentence);
    check_refusal(&from(GREEDY, &server).get("/sse"), sentence);
    check_refusal(&upgrade(&mut from(GREEDY, &server), "/ws"), sentence);
    assert_eq!(from(OTHER, &server).post("/poll", "").status, 200);
    assert_eq!(greedy.post("/poll", &json!({ "connection_id": id, "text": "x" }).to_string()).status, 200);
    assert_eq!(
        server.connect().send(format!("DELETE /api/client/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer().status,
        200
    );
    assert_eq!(greedy.post("/poll", "").status, 200);
}

#[test]
fn messages_in_a_second_are_bounded() {
    let server = server_with(|bounds| bounds.rate = 4);
    let mut greedy = from(GREEDY, &server);
    let id = greedy.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let send = json!({ "sender": "a", "text": "x" }).to_string();
    let put = json!({ "connection_id": id, "text": "x" }).to_string();
    let ways = [
        ("/api/send", &send),
        ("/poll", &put),
        ("/sse/message", &put),
        ("/send", &json!({ "message": "x" }).to_string()),
    ];
    // At once, or another second begins.
    for (target, content) in [ways, ways].concat() {
        greedy.send_post(target, content);
    }
    for (target, _) in ways {
        assert!(greedy.answer().status < 300, "{target}");
    }
    for _ in ways {
        check_refusal(&greedy.answer(), "rate: a client may send 4 messages in a second: try again later");
    }
    assert_eq!(greedy.post("/poll", "").status, 200, "it is not a message");
    assert_eq!(from(OTHER, &server).post("/api/send", &send).status, 200);
    server.advance(1);
    assert_eq!(from(GREEDY, &server).post("/api/send", &send).status, 200);
}

#[test]
fn a_websocket_beyond_the_rate_gets_errors_and_then_1008() {
    let server = server_with(|bounds| bounds.rate = 4);
    let mut socket = from(GREEDY, &server);
    socket.upgrade("/api/ws");
    let text = r#"{"sender":"a","text":"x"}"#;
    socket.send(masked_frame(true, Opcode::Text, text.as_bytes()).repeat(10)); // at once
    for _ in 0..4 {
        assert_eq!(socket.message().json()["text"], "x");
    }
    for _ in 0..4 {
        let error =
            json!({ "type": "error", "error": "rate: a client may send 4 messages in a second: try again later" });
        assert_eq!(socket.message().json(), error);
    }
    assert_eq!(socket.message().close(), (1008, "too many messages in a second, in spite of errors".into()));
    server.advance(5);
    socket.expect_end(); // it has not answered the Close
    server.advance(11);
    let mut again = from(GREEDY, &server);
    again.upgrade("/ws");
    again.message();
    again.send_text(r#"{"message":"x"}"#);
    assert_eq!(again.message().json()["message"], "x");
}

/// The server does not read more than the bound, so the rest waits in the sockets.
#[test]
fn bytes_in_a_second_are_bounded() {
    let server = server_with(|bounds| bounds.bytes = 1 << 20);
    let mut greedy = from(GREEDY, &server);
    greedy.upgrade("/api/ws");
    greedy.stream.set_nonblocking(true).unwrap();
    let frame = masked_frame(true, Opcode::Pong, &[0; 100]).repeat(1000);
    let mut sent = 0;
    // Until both sockets are full, and the server has read what it may.
    let is_full = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let flood = |client: &mut Client, sent: &mut usize| {
        let before = *sent;
        loop {
            match client.stream.write(&frame[*sent % frame.len()..]) {
                Ok(count) => *sent += count,
                Err(error) => break assert!(is_full(error)),
            }
        }
        *sent - before
    };
    let received = || server.get("/api/stats").json()["transports"]["websocket"]["bytes_in"].as_u64().unwrap();
    while flood(&mut greedy, &mut sent) > 0 || received() < 1 << 20 {
        std::thread::yield_now();
    }
    let mut other = from(OTHER, &server);
    assert_eq!(other.post("/api/send", r#"{"sender":"a","text":"x"}"#).status, 200);
    // A second's bytes, and one read.
    let before = received();
    assert!(before < (1 << 20) + 300_000, "{before} of {sent}");
    // The clock moves on, and so does the reading.
    server.advance(1);
    server.wait_for("another second's bytes", |stats| {
        stats["transports"]["websocket"]["bytes_in"].as_u64().unwrap() > before + 500_000
    });
    greedy.stream.set_nonblocking(false).unwrap();
    // A request of the same client waits for its turn, and is answered.
    let mut waiting = from(GREEDY, &server);
    waiting.send_get("/health");
    drop(greedy);
    server.advance(2);
    assert_eq!(waiting.answer().status, 200);
}

#[test]
fn clients_of_a_trusted_proxy_have_bounds_and_those_of_this_machine_have_none() {
    let server = TestServer::with(|config| {
        config.limits.per_client = PerClient { streams: 1, rate: 1, ..PerClient::default() };
        config.trust_proxies.push("127.0.0.1".into());
    });
    // All of them come over the connections of one proxy.
    let mut proxy = server.connect();
    let message = |client: &str| {
        let content = r#"{"sender":"a","text":"x"}"#;
        let field = if client.is_empty() { String::new() } else { format!("X-Forwarded-For: {client}\r\n") };
        let length = content.len();
        format!("POST /api/send HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: {length}\r\n\r\n{content}")
    };
    let clients = ["203.0.113.1", "203.0.113.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::2", "", "", ""];
    proxy.send(clients.map(message).concat()); // at once
    let answers = clients.map(|_| proxy.answer());
    // One network of 64 bits is one client. Of the last three nobody knows who they are.
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 429, 200, 429, 200, 200, 200, 200]);
    check_refusal(&answers[1], "rate: a client may send 1 messages in a second: try again later");
    let stream = |client: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET /api/stream HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n"));
        connection
    };
    let mut open = stream("203.0.113.1");
    open.head();
    assert_eq!(stream("203.0.113.1").answer().status, 429);
    stream("203.0.113.2").head();
}
