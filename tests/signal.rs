//! `/api/signal` as raw frames: who is told of whom, and what is relayed to whom.

mod common;

use common::{Client, TestServer};
use overwire::websocket::{Opcode, opening_request};
use serde_json::{Value, json};

/// A peer that has been welcomed.
struct Peer {
    client: Client,
    id: String,
    /// Who was there before it.
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

    fn say(&mut self, message: &Value) -> &mut Self {
        self.client.send_text(&message.to_string());
        self
    }

    #[track_caller]
    fn hears(&mut self, message: &Value) {
        assert_eq!(self.client.message().json(), *message);
    }

    /// Checks that the next answer is an error that says this.
    #[track_caller]
    fn is_told(&mut self, complaint: &str) {
        let error = self.client.message().json();
        assert_eq!(error["type"], "error", "{error}");
        assert!(error["error"].as_str().unwrap().contains(complaint), "{complaint}: {error}");
    }
}

#[test]
fn who_comes_and_who_goes_is_announced() {
    let server = TestServer::start();
    let mut ada = Peer::join(&server, "/api/signal?room=tea");
    let mut bob = Peer::join(&server, "/api/signal?room=tea");
    ada.hears(&json!({ "type": "joined", "peer_id": bob.id }));
    let cy = Peer::join(&server, "/api/signal?room=tea");
    assert_eq!((&ada.others[..], &bob.others[..]), (&[][..], &[ada.id.clone()][..]));
    assert_eq!(cy.others, [ada.id.clone(), bob.id.clone()]);
    for peer in [&mut ada, &mut bob] {
        peer.hears(&json!({ "type": "joined", "peer_id": cy.id }));
    }
    // With a hang-up, and with a closing handshake.
    drop(cy.client);
    bob.hears(&json!({ "type": "left", "peer_id": cy.id }));
    ada.hears(&json!({ "type": "left", "peer_id": cy.id }));
    bob.client.send_frame(Opcode::Close, [3, 232]);
    ada.hears(&json!({ "type": "left", "peer_id": bob.id }));
    server.wait_for_open("websocket", 1);
}

#[test]
fn a_message_goes_to_the_peer_that_it_names_and_to_nobody_else() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal?room=general"));
    let mut cy = Peer::join(&server, "/api/signal?room=general");
    for peer in [&bob.id, &cy.id] {
        ada.hears(&json!({ "type": "joined", "peer_id": peer }));
    }
    bob.hears(&json!({ "type": "joined", "peer_id": cy.id }));
    let sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n\u{e9}";
    bob.say(&json!({ "type": "offer", "to": ada.id, "sdp": sdp }));
    ada.hears(&json!({ "type": "offer", "from": bob.id, "sdp": sdp }));
    ada.say(&json!({ "type": "answer", "to": bob.id, "sdp": sdp }));
    bob.hears(&json!({ "type": "answer", "from": ada.id, "sdp": sdp }));
    let candidate =
        json!({ "candidate": "candidate:1 1 udp 1 10.0.0.1 9 typ host", "sdpMLineIndex": 0, "sdpMid": "0" });
    ada.say(&json!({ "type": "candidate", "to": bob.id, "candidate": candidate }));
    bob.hears(&json!({ "type": "candidate", "from": ada.id, "candidate": candidate }));
    // The third has heard nothing of that: this comes first.
    bob.say(&json!({ "type": "offer", "to": cy.id }));
    cy.hears(&json!({ "type": "offer", "from": bob.id }));
    let stats = server.get("/api/stats").json();
    assert_eq!(stats["transports"]["websocket"]["messages"], 3 + 3 + 4, "{stats}");
    assert_eq!(stats["rooms"], json!([]), "rooms of messages are others");
}

#[test]
fn from_is_what_the_server_knows_and_not_what_the_sender_says() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    bob.client.send_text(&format!(
        r#"{{"from":"{ada}","type":"offer","to":"{ada}","from":{{"a":1}},"From":"x"}}"#,
        ada = ada.id
    ));
    ada.hears(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.hears(&json!({ "type": "offer", "from": bob.id, "From": "x" }));
}

#[test]
fn what_cannot_be_relayed_is_told_to_its_sender_and_the_socket_stays_open() {
    let server = TestServer::start();
    let mut ada = Peer::join(&server, "/api/signal");
    let elsewhere = Peer::join(&server, "/api/signal?room=elsewhere");
    let to = &ada.id.clone();
    let wrong = [
        (String::new(), "not JSON"),
        ("hello".into(), "not JSON"),
        (r#"{"type":"offer""#.into(), "not JSON"),
        ("[".repeat(10_000), "not JSON"),
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
    for (text, complaint) in wrong {
        ada.client.send_text(&text);
        ada.is_told(complaint);
    }
    ada.client.send_frame(Opcode::Binary, "{}");
    ada.is_told("expected a text message with a JSON object, not a binary one");
    let mut bob = Peer::join(&server, "/api/signal");
    ada.hears(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.say(&json!({ "type": "candidate", "to": bob.id }));
    bob.hears(&json!({ "type": "candidate", "from": ada.id }));
}

#[test]
fn a_message_of_the_greatest_length_is_relayed_and_one_over_the_sockets_limit_fails_it() {
    let server = TestServer::start();
    let (mut ada, mut bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    let empty = json!({ "type": "offer", "to": ada.id, "sdp": "" }).to_string().len();
    let sdp = "x".repeat(65_536 - empty);
    bob.say(&json!({ "type": "offer", "to": ada.id, "sdp": sdp }));
    ada.hears(&json!({ "type": "joined", "peer_id": bob.id }));
    ada.hears(&json!({ "type": "offer", "from": bob.id, "sdp": sdp }));
    bob.client.send_frame(Opcode::Text, vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(bob.client.frame().close().0, 1009);
    ada.hears(&json!({ "type": "left", "peer_id": bob.id }));
}

#[test]
fn rooms_are_apart() {
    let server = TestServer::start();
    let mut tea = Peer::join(&server, "/api/signal?room=tea");
    let mut coffee = Peer::join(&server, "/api/signal?room=coffee");
    assert!(coffee.others.is_empty());
    coffee.say(&json!({ "type": "offer", "to": tea.id })).is_told("has it left?");
    // Nor has the other been told that somebody came: the next thing it hears is of its own room.
    let other = Peer::join(&server, "/api/signal?room=tea");
    tea.hears(&json!({ "type": "joined", "peer_id": other.id }));
    assert_eq!(other.others, [tea.id]);
}

#[test]
fn a_full_room_is_told_with_a_close_and_has_room_when_one_has_left() {
    let server = TestServer::start();
    let mut peers: Vec<_> = (0..16).map(|_| Peer::join(&server, "/api/signal?room=tea")).collect();
    let mut late = server.websocket("/api/signal?room=tea");
    assert_eq!(late.frame().close(), (1013, "the room is full: expected fewer than 16 peers in it".into()));
    late.send_frame(Opcode::Close, [3, 245]).expect_end();
    let gone = peers.remove(0).id;
    server.wait_for_open("websocket", 15);
    let newcomer = Peer::join(&server, "/api/signal?room=tea");
    assert!(newcomer.others.len() == 15 && !newcomer.others.contains(&gone));
}

#[test]
fn a_handshake_that_is_wrong_is_answered_and_joins_no_room() {
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
    assert_eq!(joined["type"], "joined", "the first that it hears of: {joined}");
}

#[test]
fn at_the_end_of_the_server_everyone_is_told_so_and_not_who_else_leaves() {
    let server = TestServer::start();
    let (mut ada, bob) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    ada.hears(&json!({ "type": "joined", "peer_id": bob.id }));
    server.shut_down();
    for mut peer in [ada, bob] {
        let close = peer.client.frame();
        assert_eq!(close.close(), (1001, "the server is going away".into()));
        peer.client.send_frame(close.opcode, &close.payload).expect_end();
    }
    server.stop();
}

#[test]
fn a_peer_that_answers_no_ping_has_left_after_40_seconds() {
    let server = TestServer::start();
    let (mut ada, mut silent) = (Peer::join(&server, "/api/signal"), Peer::join(&server, "/api/signal"));
    ada.hears(&json!({ "type": "joined", "peer_id": silent.id }));
    server.advance(20);
    assert_eq!(silent.client.frame().opcode, Opcode::Ping);
    // A message is a sign of life too. It is answered, so it has been read.
    ada.say(&json!({})).is_told("type: expected");
    server.advance(20);
    ada.hears(&json!({ "type": "left", "peer_id": silent.id }));
}
