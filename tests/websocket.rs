//! WebSocket as raw frames (RFC 6455): at `/ws` and `/api/ws` of the full server, and at an echo server.

use crate::common::{Frame, TestServer, field, masked_frame};
use overwire::websocket::{self, CloseCode, Opcode, ProtocolError, opening_request};
use overwire::{Event, Limits};
use serde_json::json;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn opening(target: &str) -> String {
    String::from_utf8(opening_request("localhost", target, KEY)).unwrap()
}

/// Echoes messages of up to 1,000 bytes, and supports the subprotocol `superchat`.
fn echo_server() -> TestServer {
    TestServer::of_loop(Limits { message: 1000, ..Limits::default() }, |mut server| {
        loop {
            match server.next_event()? {
                Event::Request(id, request) => match websocket::accept(&request, &["superchat"]) {
                    Ok(accepted) => server.upgrade(id, accepted),
                    Err(error) => server.respond(id, error.response()),
                },
                Event::Message(id, message) => server.send_message(id, message),
                Event::Shutdown => return server.drain(),
                _ => {}
            }
        }
    })
}

/// The frames that the server answers to `frames`, up to the end of the connection, which the server closes. `frames`
/// are sent whole, byte by byte, and followed by another message. All three must have the same answer.
#[track_caller]
fn frames_until_end(server: &TestServer, frames: &[u8]) -> Vec<Frame> {
    let mut received = ["whole", "byte by byte", "with bytes left over"].map(|way| {
        let mut client = server.websocket("/");
        match way {
            "byte by byte" => client.send_bytewise(frames),
            "whole" => client.send(frames),
            _ => client.send([frames, &masked_frame(true, Opcode::Text, b"left over")].concat()),
        };
        let mut received = vec![client.frame()];
        while received.last().unwrap().opcode != Opcode::Close {
            received.push(client.frame());
        }
        client.expect_end();
        received
    });
    assert!(received[1] == received[0] && received[2] == received[0], "{frames:x?}: {received:?}");
    std::mem::take(&mut received[0])
}

/// Checks that `frames` fail the connection with `error`, and that a message before them is still answered.
#[track_caller]
fn expect_failure(server: &TestServer, frames: &[u8], error: ProtocolError) {
    let before = masked_frame(true, Opcode::Text, b"before");
    let received = frames_until_end(server, &[&before, frames].concat());
    assert_eq!(received.len(), 2, "{frames:x?}: {received:?}");
    assert_eq!(received[0].text(), "before");
    assert_eq!(received[1].close(), (error.close_code().get(), error.to_string()), "{frames:x?}");
}

#[test]
fn malformed_handshakes_are_refused_and_keep_the_connection() {
    let server = TestServer::start();
    let mut client = server.connect();
    let cases = [
        ("GET", "POST", 405),
        ("GET", "HEAD", 405),
        ("Upgrade: websocket\r\n", "", 400),
        ("Upgrade: websocket", "Upgrade: websockets", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Sec-WebSocket-Key", "X-Key", 400),
        (KEY, "", 400),
        (KEY, "dGhlIHNhbXBsZSBub25j", 400),     // 15 bytes
        (KEY, "dGhlIHNhbXBsZSBub25jZWQ=", 400), // 17 bytes
        (KEY, "the sample nonce", 400),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("Version: 13", "Version: 8", 426),
        ("Version: 13", "Version: 14", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
    ];
    for target in ["/ws", "/api/ws"] {
        for (good, bad, status) in cases {
            let head = client.send(opening(target).replace(good, bad)).head();
            assert_eq!(head[9..12], status.to_string(), "{target}: {good} -> {bad}: {head}");
            let length = field(&head, "Content-Length").unwrap().parse().unwrap();
            if bad != "HEAD" {
                let content = String::from_utf8(client.read_exactly(length)).unwrap();
                assert!(content.contains(r#""type":"error""#), "{content}");
            }
            match status {
                405 => assert!(field(&head, "Allow").unwrap().contains("GET"), "{head}"),
                // RFC 6455, section 4.4; RFC 9110, sections 15.5.22 and 7.8: Upgrade needs Connection.
                426 => {
                    assert_eq!(field(&head, "Sec-WebSocket-Version"), Some("13"));
                    assert_eq!(field(&head, "Upgrade"), Some("websocket"));
                    assert!(field(&head, "Connection").is_some_and(|it| it.eq_ignore_ascii_case("upgrade")), "{head}");
                }
                _ => {}
            }
        }
        let old = server.connect().send(opening(target).replace("HTTP/1.1", "HTTP/1.0")).answer();
        assert_eq!(old.status, 400);
    }
}

#[test]
fn handshake_fields_are_lists_in_any_case() {
    let server = echo_server();
    let offers = "Sec-WebSocket-Protocol: chat, superchat\r\n\
                  Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let request = opening("/")
        .replace("Upgrade: websocket", "uPGRADE: foo/2, , WebSocket")
        .replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE")
        .replace("\r\n\r\n", &format!("\r\n{offers}"));
    let mut client = server.connect();
    let head = client.send(&request).head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    // RFC 6455, sections 1.3 and 4.2.2.
    assert_eq!(field(&head, "Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("superchat"));
    for absent in ["Sec-WebSocket-Extensions", "Content-Length", "Transfer-Encoding"] {
        assert_eq!(field(&head, absent), None);
    }
    assert_eq!(client.send_text("hello").frame().text(), "hello");
    let head = server.connect().send(request.replace("superchat", "superbchat")).head();
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), None);
}

#[test]
fn the_accept_value_is_of_the_key_as_it_came() {
    let server = TestServer::start();
    // RFC 6455, section 4.1, gives a key with bits that no byte uses, and section 1.3 one without.
    for (key, accept) in [
        ("AQIDBAUGBwgJCgsMDQ4PEC==", "OfS0wDaT5NoxF2gqm7Zj2YtetzM="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ] {
        for target in ["/ws", "/api/ws", "/api/signal"] {
            let head = server.connect().send(opening(target).replace(KEY, key)).head();
            assert_eq!(field(&head, "Sec-WebSocket-Accept"), Some(accept), "{target}: {head}");
        }
    }
}

#[test]
fn frames_sent_with_the_opening_handshake_are_processed() {
    let server = echo_server();
    let frames = [masked_frame(true, Opcode::Text, b"hello"), masked_frame(true, Opcode::Ping, b"?")].concat();
    let bytes = [opening("/").as_bytes(), &frames].concat();
    let (mut whole, mut bytewise) = (server.connect(), server.connect());
    for client in [whole.send(&bytes), bytewise.send_bytewise(&bytes)] {
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        assert_eq!((client.frame().text(), client.frame().payload), ("hello", b"?".to_vec()));
    }
}

#[test]
fn violations_fail_the_connection_with_1002() {
    use ProtocolError::*;
    let (server, masked) = (echo_server(), masked_frame);
    let start = masked(false, Opcode::Text, b"a");
    let mut cases = vec![
        (vec![0x81, 0x00], NotMasked),
        (vec![0x88, 0x00], NotMasked),
        (vec![0xc1, 0x80, 0, 0, 0, 0], ReservedBits),
        (vec![0xa1, 0x80, 0, 0, 0, 0], ReservedBits),
        (vec![0x91, 0x80, 0, 0, 0, 0], ReservedBits),
        (masked(false, Opcode::Ping, b"a"), FragmentedControl),
        (masked(false, Opcode::Close, b""), FragmentedControl),
        (masked(true, Opcode::Ping, &[b'a'; 126]), ControlTooLong),
        (masked(true, Opcode::Close, &[3; 126]), ControlTooLong),
        (vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0], LengthNotMinimal),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], LengthNotMinimal),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], LengthTooLarge),
        (masked(true, Opcode::Continuation, b"a"), NothingToContinue),
        (masked(false, Opcode::Continuation, b"a"), NothingToContinue),
        ([start.clone(), masked(true, Opcode::Text, b"b")].concat(), MessageNotFinished),
        ([start, masked(true, Opcode::Pong, b""), masked(false, Opcode::Binary, b"b")].concat(), MessageNotFinished),
        (masked(true, Opcode::Close, b"\x03"), CloseTooShort),
    ];
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push((vec![0x80 | opcode, 0x80, 0, 0, 0, 0], UnknownOpcode(opcode)));
    }
    // RFC 6455, sections 7.4.1 and 7.4.2.
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push((masked(true, Opcode::Close, &u16::to_be_bytes(code)), InvalidCloseCode(code)));
    }
    for (frames, error) in cases {
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
        expect_failure(&server, &frames, error);
    }
}

#[test]
fn text_fails_with_1007_at_its_first_bad_byte() {
    let server = echo_server();
    let bad: [&[u8]; 8] =
        [b"\xff", b"a\x80", b"\xc0\xaf", b"\xed\xa0", b"\xf4\x90", b"\xe0\x9f", b"\xce\xba\xe1\xbd\xc1", b"\xf8"];
    for payload in bad {
        // The header announces 50 more bytes, which are never sent.
        let mut frame = masked_frame(true, Opcode::Text, payload);
        frame[1] += 50;
        expect_failure(&server, &frame[..6 + payload.len()], ProtocolError::NotUtf8);
        for cut in 0..=payload.len() {
            let (front, back) = payload.split_at(cut);
            let fragments = [masked_frame(false, Opcode::Text, front), masked_frame(false, Opcode::Continuation, back)];
            expect_failure(&server, &fragments.concat(), ProtocolError::NotUtf8);
        }
    }
    // An incomplete character is an error at the end of the message, and not before.
    expect_failure(&server, &masked_frame(true, Opcode::Text, b"\xe2\x82"), ProtocolError::NotUtf8);
    expect_failure(&server, &masked_frame(true, Opcode::Close, b"\x03\xe8bye\xff"), ProtocolError::NotUtf8);
    let text = "\u{fc}\u{20ac}\u{1f600}";
    let mut client = server.websocket("/");
    client.send(masked_frame(false, Opcode::Text, b""));
    for byte in text.bytes() {
        client.send(masked_frame(false, Opcode::Continuation, &[byte]));
    }
    assert_eq!(client.send_frame(Opcode::Continuation, "").frame().text(), text);
}

#[test]
fn long_messages_fail_with_1009_at_their_header() {
    let server = echo_server();
    let header = |opcode, length: usize, fin| masked_frame(fin, opcode, &vec![0; length])[..8].to_vec();
    let error = ProtocolError::MessageTooLong(1000);
    expect_failure(&server, &header(Opcode::Binary, 1001, true), error);
    let fragments = [masked_frame(false, Opcode::Binary, &[0; 600]), header(Opcode::Continuation, 401, false)];
    expect_failure(&server, &fragments.concat(), error);
    let most = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    expect_failure(&server, &most, error);
    let mut client = server.websocket("/");
    assert_eq!(client.send_frame(Opcode::Binary, [7; 1000]).frame().payload, [7; 1000]);
}

#[test]
fn pings_are_answered_and_pongs_are_not() {
    let server = echo_server();
    let mut client = server.websocket("/");
    for payload in [&b""[..], b"?", &[0xff; 125]] {
        let pong = client.send_frame(Opcode::Ping, payload).frame();
        assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, payload));
    }
    // RFC 6455, section 5.4: also between fragments, even inside a character.
    client.send(masked_frame(false, Opcode::Text, b"\xe2\x82"));
    assert_eq!(client.send_frame(Opcode::Ping, "now").frame().payload, b"now");
    client.send_frame(Opcode::Pong, "unsolicited").send_frame(Opcode::Pong, "");
    assert_eq!(client.send_frame(Opcode::Continuation, b"\xac").frame().text(), "\u{20ac}");
}

#[test]
fn a_close_is_echoed_once_and_the_server_closes_the_connection() {
    let server = echo_server();
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let frame = masked_frame(true, Opcode::Close, &websocket::close(CloseCode::new(code).unwrap(), "b\u{e9}"));
        let received = frames_until_end(&server, &frame);
        assert_eq!((received.len(), received[0].close().0), (1, code));
    }
    // RFC 6455, section 5.5.1: a Close without a code is echoed without a code. All bytes after it are ignored, and so
    // is the incomplete message before it.
    let (close, fault) = (masked_frame(true, Opcode::Close, b""), b"GET / HTTP/1.1\r\n\r\n");
    for frames in [&close[..], &[&close[..], &close[..], fault].concat()] {
        let unfinished = [&masked_frame(false, Opcode::Text, b"a"), frames].concat();
        let received = frames_until_end(&server, &unfinished);
        assert_eq!((received.len(), &received[0].payload[..]), (1, &b""[..]));
    }
}

/// Waits until the server has received `count` bytes on WebSockets, request heads included.
fn wait_for_bytes_in(server: &TestServer, count: u64) {
    server.wait_for("bytes in", |stats| stats["transports"]["websocket"]["bytes_in"] == count);
}

#[test]
fn clients_that_answer_no_ping_are_closed_after_40_seconds() {
    let server = TestServer::start();
    let (mut silent, mut lively) = (server.websocket("/api/ws"), server.websocket("/api/ws"));
    server.wait_for_open("websocket", 2);
    let heads = 2 * opening("/api/ws").len() as u64;
    wait_for_bytes_in(&server, heads);
    for round in 1..=3 {
        server.advance(20);
        let ping = lively.frame();
        assert_eq!((ping.opcode, ping.fin), (Opcode::Ping, true));
        lively.send_frame(Opcode::Pong, &ping.payload);
        if round == 1 {
            assert_eq!(silent.frame().opcode, Opcode::Ping);
            wait_for_bytes_in(&server, heads + 6);
        } else {
            silent.expect_end();
            server.wait_for_open("websocket", 1);
            wait_for_bytes_in(&server, heads + 6 * round);
        }
    }
}

#[test]
fn clients_that_do_not_answer_a_close_are_cut_after_5_seconds() {
    let server = TestServer::start();
    let mut client = server.websocket("/api/ws?client_id=a");
    server.wait_for_open("websocket", 1);
    let mut other = server.connect();
    other.send("DELETE /api/client/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(other.answer().status, 200);
    assert_eq!(client.frame().close(), (1000, "disconnected".into()));
    // A message is not an answer.
    client.send_text(r#"{"sender":"a","text":"too late"}"#);
    server.advance(4);
    assert_eq!(other.get("/api/stats").json()["connections"], 2);
    server.advance(1);
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(other.get("/api/history").json()["messages"], json!([]));
}

#[test]
fn isolated_sockets_get_a_numbered_message_at_once_and_every_15_seconds() {
    let server = TestServer::start();
    let mut client = server.websocket("/ws");
    let first = client.frame().json();
    server.wait_for_open("websocket", 1);
    assert_eq!((&first["message"], &first["type"]), (&json!("Message 1"), &json!("heartbeat")));
    for beat in 2..=4 {
        server.advance(15);
        let next = client.message().json();
        assert_eq!((&next["message"], &next["type"]), (&json!(format!("Message {beat}")), &json!("heartbeat")));
        assert_eq!(next["connection_id"], first["connection_id"]);
    }
}

#[test]
fn malformed_messages_get_an_error_and_keep_the_socket_open() {
    let server = TestServer::start();
    let (mut isolated, mut room) = (server.websocket("/ws"), server.websocket("/api/ws"));
    let heartbeat = isolated.frame().json();
    let long = json!({ "message": "x".repeat(65_537), "sender": "a", "text": "x".repeat(65_537) }).to_string();
    let wrong =
        ["hello", "", "[]", "1", "{", "{}", r#"{"message":1,"sender":1}"#, r#"{"message":"","sender":""}"#, &long];
    for client in [&mut isolated, &mut room] {
        for text in wrong {
            let error = client.send_text(text).frame().json();
            assert!(error["type"] == "error" && error["error"].as_str().unwrap().contains(' '), "{text:?}: {error}");
        }
        assert_eq!(client.send_frame(Opcode::Binary, "{}").frame().json()["type"], "error");
    }
    let said = isolated.send_text(r#"{"message":"h\u00e9","extra":[]}"#).frame().json();
    assert_eq!((&said["message"], &said["type"]), (&json!("h\u{e9}"), &json!("user_message")));
    assert!(said["connection_id"] == heartbeat["connection_id"] && said["timestamp"].is_f64());
    let said = room.send_text(r#"{"sender":"a","text":"b"}"#).frame().json();
    assert_eq!((&said["sender"], &said["text"], &said["room"]), (&json!("a"), &json!("b"), &json!("general")));
}

#[test]
fn a_heartbeat_is_sent_on_request() {
    let server = TestServer::start();
    let (mut asking, mut other) = (server.websocket("/api/ws"), server.websocket("/api/ws"));
    asking.send_text(r#"{"type":"heartbeat"}"#);
    let heartbeat = asking.message().json();
    assert_eq!(heartbeat["type"], "heartbeat");
    assert!(heartbeat["timestamp"].as_f64() > Some(1e9), "{heartbeat}");
    // It is not a message of the room: no other client receives it.
    server.publish("general", "hello");
    assert_eq!(other.message().json()["text"], "hello");
    assert_eq!(asking.message().json()["text"], "hello");
}

#[test]
fn clients_in_a_room_are_counted() {
    let server = TestServer::start();
    assert_eq!(server.get("/api/stats").json()["present"], serde_json::json!({}));
    let socket = server.websocket("/api/ws?room=tea");
    let mut poll = server.connect();
    poll.send_get("/api/poll?client_id=me&room=tea");
    server.wait_for_open("long_poll", 1);
    // The same client on other connections: the part of the id after the last full stop identifies it.
    let mut streams = [server.connect(), server.connect()];
    streams[0].send_get("/api/stream?client_id=stream.me&room=tea").head();
    streams[1].send_get("/api/events?client_id=a.b.me&room=tea").head();
    assert_eq!(server.get("/api/stats").json()["present"], serde_json::json!({ "tea": 2 }));
    drop(socket);
    server.wait_for_open("websocket", 0);
    assert_eq!(server.get("/api/stats").json()["present"], serde_json::json!({ "tea": 1 }));
}
