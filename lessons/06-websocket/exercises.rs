//! The exercises of lesson 06. Each test fails until you have done what the README asks for:
//! `cargo test --test 06-exercises NAME`.

#[path = "../../tests/common/mod.rs"]
mod common;

#[path = "main.rs"]
#[allow(dead_code)]
mod lesson;

use std::process::Command;

use common::{Client, Running, TestServer, field, masked_frame};
use overwire::Limits;
use overwire::websocket::{Opcode, opening_request};
use serde_json::{Value, json};

fn lesson() -> TestServer {
    TestServer::of_loop(Limits::default(), lesson::serve)
}

/// Offers these subprotocols in a handshake on `/chat`, and returns the head of the answer.
fn head_for_offer(server: &TestServer, offer: &str) -> String {
    let request = opening_request("localhost", "/chat", "dGhlIHNhbXBsZSBub25jZQ==");
    let request = String::from_utf8(request).unwrap();
    let line = format!("Sec-WebSocket-Protocol: {offer}\r\n\r\n");
    server.connect().send(request.replace("\r\n\r\n", &format!("\r\n{line}"))).head()
}

/// Exercise 1: a client that offers `chat.v2`, alone or among others, gets it in the 101. A client that offers only
/// others gets a 101 without the field (RFC 6455, section 4.2.2).
#[test]
fn known_subprotocol_is_selected() {
    let server = lesson();
    let head = head_for_offer(&server, "superchat, chat.v2");
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("chat.v2"), "{head}");
    let head = head_for_offer(&server, "superchat");
    assert!(head.starts_with("HTTP/1.1 101 "), "an unknown subprotocol is declined by leaving it out: {head}");
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), None);
}

/// Exercise 2: a member may send 20 texts in a second. The 21st is relayed to nobody and closes the socket with 1008.
/// After a second, the member may send again.
#[test]
fn floods_are_closed_with_1008() {
    let server = lesson();
    let (mut other, mut flood) = (server.websocket("/chat"), server.websocket("/chat"));
    for _ in 0..2 {
        for number in 0..20 {
            let text = number.to_string();
            assert_eq!(flood.send_text(&text).frame().text(), text);
            assert_eq!(other.frame().text(), text);
        }
        server.advance(2); // a new second, with room for 20 more
    }
    (0..20).for_each(|_| drop(flood.send_text("again").frame()));
    let frame = flood.send_text("one too many").frame();
    assert_eq!(frame.opcode, Opcode::Close, "the 21st text of a second: {frame:?}");
    assert_eq!(frame.close().0, 1008, "{frame:?}");
    (0..20).for_each(|_| assert_eq!(other.frame().text(), "again"));
    assert_eq!(other.send_text("quiet").frame().text(), "quiet", "the sender alone is closed");
}

/// Reads the next frame, which must be JSON.
fn next(client: &mut Client) -> Value {
    let text = String::from_utf8(client.frame().payload).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected JSON with an id: {text:?}"))
}

fn join_after(server: &TestServer, cursor: &Value) -> Client {
    server.websocket(&format!("/chat?after={}", cursor.as_str().expect("an id")))
}

/// Exercise 3: `/chat?after=ID` continues after that id. The first frame is the position in the log. An id of another
/// log gets all retained texts, with `"recovered": false`.
#[test]
fn reconnecting_members_miss_nothing() {
    let server = lesson();
    let mut sender = server.websocket("/chat");
    let mut reader = server.websocket("/chat");
    sender.send_text("one");
    let hello = next(&mut reader);
    assert_eq!(hello["recovered"], true, "the first frame is the position in the log: {hello}");
    let one = next(&mut reader);
    assert_eq!(one["text"], "one");
    drop(reader);
    sender.send_text("two").send_text("three");
    next(&mut sender); // the position in the log
    for text in ["one", "two", "three"] {
        assert_eq!(next(&mut sender)["text"], text);
    }

    // A client that returns after `one`, and one that lost its connection before the first message.
    for (cursor, missed) in [(&one["id"], &["two", "three"][..]), (&hello["id"], &["one", "two", "three"])] {
        let mut reader = join_after(&server, cursor);
        assert_eq!(next(&mut reader), json!({ "id": cursor, "recovered": true }));
        let texts: Vec<_> = missed.iter().map(|_| next(&mut reader)["text"].clone()).collect();
        assert_eq!(texts, missed);
    }

    // A cursor of another server's log gets all retained texts, and `recovered: false`.
    let mut stranger = join_after(&server, &json!("00000000-0000-8000-8000-000000000000"));
    assert_eq!(next(&mut stranger)["recovered"], false);
    assert_eq!(next(&mut stranger)["text"], "one");
    let request = opening_request("localhost", "/chat?after=yesterday", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(server.connect().send(request).answer().status, 400);
}

/// The rows of the README's table of violations: bytes in hex, and the status code.
fn violations() -> Vec<(Vec<u8>, u16)> {
    let rows = include_str!("README.md").lines().filter_map(|line| {
        let (hex, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let code = rest.split(" | ").nth(1)?.parse().ok()?;
        Some((hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect(), code))
    });
    rows.collect()
}

/// Exercise 4: `/frames` of `broken.rs` echoes texts and binary messages by the rules of RFC 6455: frames that are split
/// or joined anywhere, all three forms of length, fragments with Pings between them, Pong, Close. Each violation in the
/// table of step 7 gets a Close with its code, and then the connection ends.
#[test]
fn frames_follow_the_rfc() {
    let server = Running::start(Command::new(env!("CARGO_BIN_EXE_06-broken")).args(["--port", "0"]));
    let open = || {
        let mut client = Client::connect(server.address);
        client.stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        client.upgrade("/frames");
        client
    };
    let mut client = open();
    let (one, two) = (masked_frame(true, Opcode::Text, b"one"), masked_frame(true, Opcode::Text, b"two"));
    client.send([one.clone(), two].concat());
    for text in ["one", "two"] {
        assert_eq!(client.frame().text(), text, "two frames in one segment");
    }
    assert_eq!(client.send_bytewise(one).frame().text(), "one", "each byte in its own segment");
    for length in [0, 125, 126, 65_535, 65_536, 1024 * 1024] {
        let payload = vec![0xff; length];
        let echo = client.send(masked_frame(true, Opcode::Binary, &payload)).frame();
        assert!(echo.opcode == Opcode::Binary && echo.payload == payload, "a binary message of {length} bytes");
    }
    client.send(masked_frame(false, Opcode::Text, b"\xe2\x82")).send(masked_frame(true, Opcode::Ping, b"?"));
    let pong = client.frame();
    assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, &b"?"[..]), "a Ping between two fragments");
    assert_eq!(client.send(masked_frame(true, Opcode::Continuation, b"\xac")).frame().text(), "\u{20ac}");
    let close = client.send(masked_frame(true, Opcode::Close, b"\x03\xe8bye")).frame();
    assert_eq!((close.opcode, close.close().0), (Opcode::Close, 1000));
    client.expect_end();

    for (frames, code) in violations() {
        let mut client = open();
        assert_eq!(client.send(&frames).frame().close().0, code, "{frames:x?}");
        client.expect_end();
    }
}
