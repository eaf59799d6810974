//! `/api/signal` as raw frames: the announcements of peers, and the relayed messages.

use crate::common::{Client, TestServer};
use overwire::websocket::{Opcode, opening_request};
use serde_json::{Value, json};

/// A peer that has joined a room.
struct Peer {
    client: Client,
    id: String,
    /// The peers that were there before it.
    others: Vec<String>,
}

impl Peer {
    fn join(server: &TestServer, target: &str) -> Self {
        let mut client = server.websocket(target);
        let welcome = client.frame().json();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Peer {
            client,
            id: text(&welcome["peer_id"]),
            others: welcome["peers"].as_array().unwrap().iter().map(text).collect(),
        }
    }

    fn send(&mut self, message: &Value) -> &mut Self {
        self.client.send_text(&message.to_string());
        self
    }

    #[track_caller]
    fn expect(&mut self, message: &Value) {
        assert_eq!(self.client.message().json(), *message);
    }

    /// Checks that the next message is an error with this text.
    #[track_caller]
    fn expect_error(&mut self, expected: &str) {
        let error = self.client.message().json();
        assert_eq!(error["type"], "error", "{error}");
        assert!(error["error"].as_str().unwrap().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn joining_and_leaving_peers_are_announced() {
    let server = TestServer::start();
    let mut ada = Peer::join(&server, "/api/signal?room=tea");
    let mut bob = Peer::join(&server, "/api/signal?room=tea");
    ada.expect(&json!({ "type": "joined", "peer_id": bob.id }));
    let cy = Peer::join(&server, "/api/signal?room=tea");
    assert_eq!((&ada.others[..], &bob.others[..]), (&[][..], &[ada.id.clone()][..]));
    assert_eq!(cy.others, [ada.id.clone(), bob.id.clone()]);
    for peer in [&mut ada, &mut bob] {
        peer.expect(&json!({ "type": "joined", "peer_id": cy.id }));
    }
    // By the end of the connection, and by a closing handshake.
    drop(cy.client);
    bob.expect(&json!({ "type": "left", "peer_id": cy.id }));
    ada.expect(&json!({ "type": "left", "peer_id": cy.id }));
    bob.client.send_frame(Opcode::Close, [3, 232]);
    ada.expect(&json!({ "type": "left", "peer_id": bob.id }));
    server.wait_for_open("websocket", 1);
}

#[test]
fn a_message_reaches_only_the_peer_that_it_names() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal?room=general"));
    let mut cy = Peer::join(&server, "/api/signal?room=general");
    for peer in [&bob.id, &cy.id] {
        ada.expect(&json!({ "type": "joined", "peer_id": peer }));
    }
    bob.expect(&json!({ "type": "joined", "peer_id": cy.id }));
    let sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n\u{e9}";
    bob.send(&json!({ "type": "offer", "to": ada.id, "sdp": sdp }));
    ada.expect(&json!({ "type": "offer", "from": bob.id, "sdp": sdp }));
    ada.send(&json!({ "type": "answer", "to": bob.id, "sdp": sdp }));
    bob.expect(&json!({ "type": "answer", "from": ada.id, "sdp": sdp }));
    let candidate =
        json!({ "candidate": "candidate:1 1 udp 1 10.0.0.1 9 typ host", "sdpMLineIndex": 0, "sdpMid": "0" });
    ada.send(&json!({ "type": "candidate", "to": bob.id, "candidate": candidate }));
    bob.expect(&json!({ "type": "candidate", "from": ada.id, "candidate": candidate }));
    // The third peer has received none of these: this message comes first.
    bob.send(&json!({ "type": "offer", "to": cy.id }));
    cy.expect(&json!({ "type": "offer", "from": bob.id }));
    let stats = server.get("/api/stats").json();
    assert_eq!(stats["transports"]["websocket"]["messages"], 3 + 3 + 4, "{stats}");
    assert_eq!(stats["rooms"], json!([]), "rooms of messages are separate");
}

#[test]
fn from_is_set_by_the_server() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    bob.client.send_text(&format!(
        r#"{{"from":"{ada}","type":"offer","to":"{ada}","from":{{"a":1}},"From":"x"}}"#,
        ada = ada.id
    ));
    ada.expect(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.expect(&json!({ "type": "offer", "from": bob.id, "From": "x" }));
}

#[test]
fn a_message_that_cannot_be_relayed_gets_an_error_and_the_socket_stays_open() {
    let server = TestServer::start();
    let mut ada = Peer::join(&server, "/api/signal");
    let elsewhere = Peer::join(&server, "/api/signal?room=elsewhere");
    let to = &ada.id.clone();
    let wrong = [
        (String::new(), "not JSON"),
        ("hello".into(), "not JSON"),
        (r#"{"type":"offer""#.into(), "not JSON"),
        ("[".repeat(10_000), "the message is too complex: found level 33 of arrays and objects at line 1 column 33"),
        ("[]".into(), "expected a JSON object, not an array"),
        ("1".into(), "expected a JSON object, not a number"),
        ("{}".into(), "type: expected \"offer\", \"answer\" or \"candidate\", but it is missing"),
        (r#"{"type":["offer"]}"#.into(), "type: expected \"offer\", \"answer\" or \"candidate\", not an array"),
        (json!({ "type": "welcome", "to": to }).to_string(), "not \"welcome\""),
        (r#"{"type":"answer"}"#.into(), "to: expected the peer_id of another peer in this room, but it is missing"),
        (r#"{"type":"answer","to":7}"#.into(), "to: expected the peer_id of another peer in this room, not a number"),
        (r#"{"type":"answer","to":"nobody"}"#.into(), "not \"nobody\": has it left?"),
        (json!({ "type": "candidate", "to": to }).to_string(), "another peer"),
        (json!({ "type": "candidate", "to": elsewhere.id }).to_string(), "in this room"),
        (json!({ "type": "offer", "to": to, "sdp": "x".repeat(65_536) }).to_string(), "expected at most 65536"),
    ];
    for (text, expected) in wrong {
        ada.client.send_text(&text);
        ada.expect_error(expected);
    }
    ada.client.send_frame(Opcode::Binary, "{}");
    ada.expect_error("expected a text message with a JSON object, not a binary one");
    let mut bob = Peer::join(&server, "/api/signal");
    ada.expect(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.send(&json!({ "type": "candidate", "to": bob.id }));
    bob.expect(&json!({ "type": "candidate", "from": ada.id }));
}

#[test]
fn the_longest_message_is_relayed_and_a_message_over_the_limit_closes_the_socket() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    let empty = json!({ "type": "offer", "to": ada.id, "sdp": "" }).to_string().len();
    let sdp = "x".repeat(65_536 - empty);
    bob.send(&json!({ "type": "offer", "to": ada.id, "sdp": sdp }));
    ada.expect(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.expect(&json!({ "type": "offer", "from": bob.id, "sdp": sdp }));
    bob.client.send_frame(Opcode::Text, vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(bob.client.frame().close().0, 1009);
    ada.expect(&json!({ "type": "left", "peer_id": bob.id }));
}

#[test]
fn rooms_are_separate() {
    let server = TestServer::start();
    let mut tea = Peer::join(&server, "/api/signal?room=tea");
    let mut coffee = Peer::join(&server, "/api/signal?room=coffee");
    assert!(coffee.others.is_empty());
    coffee.send(&json!({ "type": "offer", "to": tea.id })).expect_error("has it left?");
    // The first room has no announcement of the second: its next message is about its own room.
    let other = Peer::join(&server, "/api/signal?room=tea");
    tea.expect(&json!({ "type": "joined", "peer_id": other.id }));
    assert_eq!(other.others, [tea.id]);
}

#[test]
fn a_full_room_refuses_with_a_close_until_a_peer_leaves() {
    let server = TestServer::start();
    let mut peers: Vec<_> = (0..16).map(|_| Peer::join(&server, "/api/signal?room=tea")).collect();
    let mut late = server.websocket("/api/signal?room=tea");
    assert_eq!(late.frame().close(), (1013, "the room is full: expected fewer than 16 peers in it".into()));
    late.send_frame(Opcode::Close, [3, 245]).expect_end();
    let left = peers.remove(0).id;
    server.wait_for_open("websocket", 15);
    let new = Peer::join(&server, "/api/signal?room=tea");
    assert!(new.others.len() == 15 && !new.others.contains(&left));
}

#[test]
fn a_wrong_handshake_is_refused_and_joins_no_room() {
    let server = TestServer::start();
    let mut ada = Peer::join(&server, "/api/signal");
    let good = String::from_utf8(opening_request("localhost", "/api/signal", "dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
    for (good_part, bad_part, status) in [
        ("Upgrade: websocket\r\n", "", 400),
        ("GET", "POST", 405),
        ("GET", "HEAD", 405),
        ("Version: 13", "Version: 12", 426),
        ("/api/signal", "/api/signal?room=", 400),
        ("/api/signal", &format!("/api/signal?room={}", "x".repeat(65)), 400),
        ("Host: localhost", "Host: evil.example", 421),
        ("Host:", "Origin: http://evil.example\r\nHost:", 403),
    ] {
        let head = server.connect().send(good.replace(good_part, bad_part)).head();
        assert_eq!(head[9..12], status.to_string(), "{bad_part}: {head}");
    }
    let own = good.replace("Host:", "Origin: http://localhost\r\nHost:");
    assert!(server.connect().send(own).head().starts_with("HTTP/1.1 101 "));
    let joined = ada.client.frame().json();
    assert_eq!(joined["type"], "joined", "the first announcement: {joined}");
}

#[test]
fn a_shutdown_closes_every_peer_and_announces_none() {
    let server = TestServer::start().in_real_time();
    let (mut ada, bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    ada.expect(&json!({ "type": "joined", "peer_id": bob.id }));
    server.shut_down();
    for mut peer in [ada, bob] {
        let close = peer.client.frame();
        assert_eq!(close.close(), (1001, "the server is going away".into()));
        peer.client.send_frame(close.opcode, &close.payload).expect_end();
    }
    server.stop();
}

#[test]
fn a_peer_without_a_pong_leaves_after_40_seconds() {
    let server = TestServer::start();
    let (mut ada, mut silent) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    ada.expect(&json!({ "type": "joined", "peer_id": silent.id }));
    server.advance(20);
    assert_eq!(silent.client.frame().opcode, Opcode::Ping);
    // A message counts like a Pong. It is answered, so it has been read.
    ada.send(&json!({})).expect_error("type: expected");
    server.advance(20);
    ada.expect(&json!({ "type": "left", "peer_id": silent.id }));
}
