//! The exercises of lesson 07: `cargo test --test 07-exercises NAME`. Each fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::time::Duration;

use common::{Client, Running};
use overwire::websocket::Opcode;
use serde_json::{Value, json};

/// The longest wait for something that should happen at once.
const SOON: Duration = Duration::from_secs(3);

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_07-webrtc-signalling")).args(["--port", "0"]))
}

fn connect(server: &Running) -> Client {
    let client = Client::connect(server.address);
    client.stream.set_read_timeout(Some(SOON)).unwrap();
    client
}

/// Opens a socket in the room `tea`, and returns it with its first message. A Close counts as a message.
fn enter(server: &Running) -> (Client, Value) {
    let mut client = connect(server);
    client.upgrade("/signal?room=tea");
    let frame = client.frame();
    let first = match frame.opcode {
        Opcode::Text => frame.json(),
        _ => json!({ "type": format!("a Close: {:?}", frame.close()) }),
    };
    (client, first)
}

/// Opens a socket in the room `tea` that gets a welcome, and returns it with its peer id.
fn join(server: &Running) -> (Client, String) {
    let (client, welcome) = enter(server);
    assert_eq!(welcome["type"], "welcome");
    (client, welcome["peer_id"].as_str().unwrap().to_owned())
}

/// Reads all frames up to the answer to a Ping. Before it answers, the server has read everything sent before.
fn frames_until_pong(client: &mut Client) -> Vec<Value> {
    client.send_frame(Opcode::Ping, "");
    let frames = std::iter::from_fn(|| Some(client.frame()).filter(|frame| frame.opcode != Opcode::Pong));
    frames.map(|frame| frame.json()).collect()
}

/// Exercise 1: `GET /peers?room=tea` lists the peers of a room in the order of their arrival:
/// `{"peers": ["<uuid>", "<uuid>"]}`. No cache may store it. `Signalling::peers` has them.
#[test]
fn peers_of_a_room_are_listed() {
    let server = start();
    let mut asking = connect(&server);
    let answer = asking.get("/peers?room=tea");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((answer.json(), answer.field("Cache-Control")), (json!({ "peers": [] }), Some("no-store")));
    let (_ada, ada_id) = join(&server);
    let (_bob, bob_id) = join(&server);
    assert_eq!(asking.get("/peers?room=tea").json(), json!({ "peers": [ada_id, bob_id] }));
    assert_eq!(asking.get("/peers?room=coffee").json(), json!({ "peers": [] }));
    assert_eq!(asking.get("/peers?room=").status, 400);
}

/// Exercise 2: of the messages that one peer sends within ten seconds, the first 100 are relayed. Each further one is
/// answered with an error, and the socket stays open.
#[test]
fn floods_are_answered_with_errors() {
    let server = start();
    let ((mut ada, ada_id), (mut bob, bob_id)) = (join(&server), join(&server));
    assert_eq!(ada.frame().json()["type"], "joined");
    for number in 1..=150 {
        bob.send_text(&json!({ "type": "candidate", "to": ada_id, "number": number }).to_string());
    }
    let errors = frames_until_pong(&mut bob);
    assert!(errors.iter().all(|message| message["type"] == "error"), "{errors:?}");
    assert_eq!(errors.len(), 50, "50 messages are too many");
    let numbers: Vec<Value> = frames_until_pong(&mut ada).iter().map(|message| message["number"].clone()).collect();
    assert_eq!(numbers, (1..=100).map(Value::from).collect::<Vec<_>>());
    ada.send_text(&json!({ "type": "answer", "to": bob_id }).to_string());
    assert_eq!(bob.frame().json()["type"], "answer", "ada has sent few messages, and bob still listens");
}

/// Exercise 3: a third peer is not refused but waits. It gets `{"type": "waiting", "ahead": 0}` with the number of
/// peers that wait for the same room before it, and a welcome when it is its turn.
#[test]
fn third_peer_waits_for_room() {
    let server = start();
    let ((mut ada, ada_id), (bob, bob_id)) = (join(&server), join(&server));
    assert_eq!(ada.frame().json()["type"], "joined");
    let (mut impatient, told) = enter(&server);
    assert_eq!(told, json!({ "type": "waiting", "ahead": 0 }));
    let (mut cy, told) = enter(&server);
    assert_eq!(told, json!({ "type": "waiting", "ahead": 1 }));
    cy.send_text(&json!({ "type": "offer", "to": ada_id }).to_string());
    assert_eq!(cy.frame().json()["type"], "error", "a waiting client is not a peer");
    impatient.send_frame(Opcode::Close, "");
    assert_eq!(impatient.frame().opcode, Opcode::Close, "a client that gives up waiting is gone");
    drop(bob);
    let welcome = cy.frame().json();
    assert_eq!((&welcome["type"], &welcome["peers"]), (&json!("welcome"), &json!([ada_id])));
    assert_eq!(ada.frame().json(), json!({ "type": "left", "peer_id": bob_id }));
    assert_eq!(ada.frame().json(), json!({ "type": "joined", "peer_id": welcome["peer_id"] }));
}
