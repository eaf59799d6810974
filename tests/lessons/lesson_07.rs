//! Lesson 07: the messages of its server, as raw frames.

#[path = "../../lessons/07-webrtc-signalling/broken.rs"]
#[allow(dead_code)]
mod broken;

use std::process::Command;

use overwire::websocket::{Opcode, opening_request};
use serde_json::{Value, json};

use crate::common::{Client, Running};
use crate::lesson;

fn start() -> Running {
    lesson::start("07-webrtc-signalling")
}

/// Joins a room. Returns the peer and its welcome.
fn join(server: &Running, room: &str) -> (Client, Value) {
    let mut client = Client::connect(server.address);
    client.upgrade(&format!("/signal?room={room}"));
    let welcome = client.frame().json();
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    (client, welcome)
}

#[test]
fn offers_answers_and_candidates_reach_the_named_peer() {
    let server = start();
    let (mut ada, welcomed) = join(&server, "tea");
    let ada_id = &welcomed["peer_id"];
    let (mut bob, welcomed) = join(&server, "tea");
    let bob_id = &welcomed["peer_id"];
    assert_eq!(welcomed["peers"], json!([ada_id]));
    assert_eq!(ada.frame().json(), json!({ "type": "joined", "peer_id": bob_id }));
    bob.send_text(&json!({ "type": "offer", "to": ada_id, "from": ada_id, "sdp": "v=0\r\n" }).to_string());
    assert_eq!(ada.frame().json(), json!({ "type": "offer", "from": bob_id, "sdp": "v=0\r\n" }));
    for kind in ["answer", "candidate"] {
        ada.send_text(&json!({ "type": kind, "to": bob_id, "rest": [1, null] }).to_string());
        assert_eq!(bob.frame().json(), json!({ "type": kind, "from": ada_id, "rest": [1, null] }));
    }
    drop(bob);
    assert_eq!(ada.frame().json(), json!({ "type": "left", "peer_id": bob_id }));
    ada.send_text(&json!({ "type": "candidate", "to": bob_id }).to_string());
    assert!(ada.frame().json()["error"].as_str().unwrap().contains("has it left?"));
}

#[test]
fn undeliverable_messages_get_an_error() {
    let server = start();
    let (mut ada, _) = join(&server, "tea");
    let (_elsewhere, welcomed) = join(&server, "coffee");
    let elsewhere = json!({ "type": "offer", "to": welcomed["peer_id"] }).to_string();
    for text in ["", "hello", "[]", "{}", r#"{"type":"offer"}"#, r#"{"type":1,"to":1}"#, &elsewhere] {
        let error = ada.send_text(text).frame().json();
        assert!(error["type"] == "error" && error["error"].as_str().unwrap().contains("expected"), "{text}: {error}");
    }
    assert_eq!(ada.send_frame(Opcode::Binary, "{}").frame().json()["type"], "error");
}

#[test]
fn third_peer_is_refused_until_one_leaves() {
    let server = start();
    let ((mut ada, _), (bob, _)) = (join(&server, "tea"), join(&server, "tea"));
    assert_eq!(ada.frame().json()["type"], "joined");
    let mut late = Client::connect(server.address);
    late.upgrade("/signal?room=tea");
    let close = late.frame();
    assert_eq!(close.close(), (1013, "the room is full: expected fewer than 2 peers in it".into()));
    // Its messages reach nobody.
    late.send_text("{}").send_frame(Opcode::Close, &close.payload);
    late.expect_end();
    drop(bob);
    assert_eq!(ada.frame().json()["type"], "left");
    join(&server, "tea");
    assert_eq!(ada.frame().json()["type"], "joined");
}

#[test]
fn wrong_handshakes_are_refused_with_the_reason() {
    let server = start();
    let mut client = Client::connect(server.address);
    let good = String::from_utf8(opening_request("localhost", "/signal", "dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
    for (good_part, bad_part, status, reason) in [
        ("Upgrade: websocket\r\n", "", 400, "expected `Upgrade: websocket`"),
        ("GET", "POST", 405, "GET"),
        ("Version: 13", "Version: 8", 426, "Version: 13"),
        ("/signal", "/signal?room=", 400, "room: expected a name of 1 to 64 characters, not 0"),
        ("/signal", &format!("/signal?room={}", "x".repeat(65)), 400, "not 65"),
        ("Host:", "Origin: http://evil.example\r\nHost:", 403, "Origin"),
        ("Host:", "Origin: null\r\nHost:", 403, "Origin"),
    ] {
        let answer = client.send(good.replace(good_part, bad_part)).answer();
        assert_eq!(answer.status, status, "{bad_part}: {answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains(reason), "{bad_part}: {answer:?}");
    }
    let own = good.replace("Host:", "Origin: http://localhost\r\nHost:");
    assert!(client.send(own).head().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.frame().json()["type"], "welcome");
}

#[test]
fn page_is_served_and_nothing_else() {
    let server = start();
    let mut client = Client::connect(server.address);
    let page = client.get("/");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("new RTCPeerConnection({ iceServers: [] })"));
    assert_eq!(client.get("/nothing").status, 404);
}

#[test]
fn shutdown_closes_every_peer() {
    let mut server = start();
    let (peers, _welcomes): (Vec<_>, Vec<_>) = (0..3).map(|room| join(&server, &room.to_string())).unzip();
    assert!(Command::new("kill").args(["-TERM", &server.process.id().to_string()]).status().unwrap().success());
    for mut peer in peers {
        let close = peer.frame();
        assert_eq!(close.close().0, 1001);
        peer.send_frame(close.opcode, &close.payload).expect_end();
    }
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

// The broken server.

#[test]
fn broken_server_loses_an_offer_into_an_empty_room() {
    let server = lesson::serve(broken::serve);
    let (mut ada, mut bob) = (server.connect(), server.connect());
    ada.upgrade("/signal?room=tea");
    ada.send_text("offer").send_frame(Opcode::Ping, "seen").frame();
    bob.upgrade("/signal?room=tea");
    ada.send_text("later");
    assert_eq!(bob.frame().text(), "later");
}

#[test]
fn broken_server_gives_an_answer_to_the_peer_after_a_reload() {
    let server = lesson::serve(broken::serve);
    let (mut ada, mut bob) = (server.connect(), server.connect());
    ada.upgrade("/signal?room=tea");
    bob.upgrade("/signal?room=tea");
    bob.send_text("offer");
    assert_eq!(ada.frame().text(), "offer");
    drop(bob);
    let mut reloaded = server.connect();
    reloaded.upgrade("/signal?room=tea");
    ada.send_text("answer");
    assert_eq!(reloaded.frame().text(), "answer");
}
