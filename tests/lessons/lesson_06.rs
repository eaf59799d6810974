//! Lesson 06: its echo and its chat as raw frames, the answer to each violation, and the bugs of its broken twin.

#[path = "../../lessons/06-websocket/main.rs"]
#[allow(dead_code)]
mod main;

use overwire::Parse;
use overwire::websocket::{self, CloseCode, HandshakeError, Opcode, opening_request};

use crate::common::{Client, Frame, Running, TestServer, field, masked_frame};
use crate::lesson::{self, serve};

const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const OTHER_KEY: &str = "x3JJHMbDL1EzLkh9GBhXDw==";
const HELLO: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

fn start() -> TestServer {
    serve(main::serve)
}

fn broken() -> Running {
    lesson::start("06-broken")
}

fn opening(target: &str, key: &str) -> String {
    String::from_utf8(opening_request("localhost", target, key)).unwrap()
}

/// Sends these frames and reads up to the Close that fails the connection. Returns its status code.
#[track_caller]
fn failed_with(server: &TestServer, target: &str, frames: &[u8]) -> u16 {
    let mut client = server.websocket(target);
    let (code, reason) = client.send(frames).frame().close();
    assert!(reason.contains(' '), "the reason is a sentence: {reason:?}");
    client.expect_end();
    code
}

#[test]
fn binary_serves_page_and_handshake() {
    let running = lesson::start("06-websocket");
    let mut client = Client::connect(running.address);
    let page = client.get("/");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(client.get("/page.css").status, 200);
    assert_eq!(client.get("/nothing").status, 404);
    client.upgrade("/chat");
    assert_eq!(client.send_text("hello").frame().text(), "hello");
}

#[test]
fn page_never_parses_texts_as_html() {
    let page = include_str!("../../lessons/06-websocket/page.html");
    for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "setHTMLUnsafe"] {
        assert!(!page.contains(way), "{way}");
    }
    assert!(page.contains("textContent"));
}

#[test]
fn accept_is_derived_from_the_key() {
    let server = start();
    let accepts = [(SAMPLE_KEY, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), (OTHER_KEY, "HSmrc0sMlYUkAGmm5OPpG2HaGWk=")];
    for target in ["/echo", "/chat"] {
        for (key, accept) in accepts {
            let head = server.connect().send(opening(target, key)).head();
            assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
            assert_eq!(field(&head, "Sec-WebSocket-Accept"), Some(accept));
        }
    }
}

#[test]
fn wrong_handshakes_are_answered_with_what_was_expected() {
    let server = start();
    for target in ["/echo", "/chat"] {
        let plain = server.get(target);
        assert_eq!(plain.status, 400);
        assert!(plain.text().contains("Upgrade: websocket"), "{plain:?}");
        assert_eq!(server.post(target, "x").status, 405);
        let old = server.connect().send(opening(target, SAMPLE_KEY).replace("Version: 13", "Version: 8")).answer();
        assert_eq!((old.status, old.field("Sec-WebSocket-Version")), (426, Some("13")));
    }
}

#[test]
fn foreign_origins_are_refused() {
    let server = start();
    let status = |target, origins: &[&str]| {
        let lines: String = origins.iter().map(|origin| format!("Origin: {origin}\r\n")).collect();
        let request = opening(target, SAMPLE_KEY).replace("localhost", "localhost:8006");
        let head = server.connect().send(request.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"))).head();
        head[9..12].to_owned()
    };
    for target in ["/echo", "/chat"] {
        for own in [&[][..], &["http://localhost:8006"], &["https://LOCALHOST:8006"]] {
            assert_eq!(status(target, own), "101", "{own:?}");
        }
        for foreign in [
            &["https://evil.example"][..],
            &["null"],
            &[""],
            &["localhost:8006"],
            &["http://localhost:80065"],
            &["http://localhost"],
            &["http://evil.example/localhost:8006"],
            &["http://localhost:8006", "https://evil.example"],
        ] {
            assert_eq!(status(target, foreign), "403", "{foreign:?}");
        }
    }
}

#[test]
fn echoes_have_the_shortest_header() {
    let server = start();
    let mut client = server.websocket("/echo");
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for opcode in [Opcode::Text, Opcode::Binary] {
            let payload = vec![b'x'; length];
            client.send_frame(opcode, &payload);
            let header: Vec<u8> = match length {
                0..=125 => vec![length as u8],
                126..=65_535 => [&[126][..], &(length as u16).to_be_bytes()].concat(),
                _ => [&[127][..], &(length as u64).to_be_bytes()].concat(),
            };
            assert_eq!(client.read_exactly(1 + header.len()), [&[0x80 | opcode as u8], &header[..]].concat());
            assert_eq!(client.read_exactly(length), payload);
        }
    }
}

#[test]
fn frames_are_independent_of_segments() {
    let server = start();
    for target in ["/echo", "/chat"] {
        let mut client = server.websocket(target);
        client.send_bytewise(HELLO);
        assert_eq!(client.frame().text(), "Hello");
        client.send([HELLO, HELLO, HELLO].concat());
        for _ in 0..3 {
            assert_eq!(client.frame().text(), "Hello");
        }
        for cut in 1..HELLO.len() {
            client.send(&HELLO[..cut]).send(&HELLO[cut..]);
            assert_eq!(client.frame().text(), "Hello");
        }
    }
}

#[test]
fn pings_between_fragments_are_answered() {
    let server = start();
    let mut client = server.websocket("/echo");
    let euro = "\u{20ac}".as_bytes();
    client.send(masked_frame(false, Opcode::Text, &euro[..1]));
    let pong = client.send_frame(Opcode::Ping, "still there?").frame();
    assert_eq!((pong.opcode, &pong.payload[..]), (Opcode::Pong, &b"still there?"[..]));
    client.send_frame(Opcode::Pong, "nobody asked").send(masked_frame(false, Opcode::Continuation, &euro[1..2]));
    let frame = client.send(masked_frame(true, Opcode::Continuation, &euro[2..])).frame();
    assert_eq!(frame, Frame { fin: true, opcode: Opcode::Text, payload: euro.to_vec() });
}

/// The rows of the README's table of violations: bytes in hex, and the status code.
fn violations() -> Vec<(Vec<u8>, u16)> {
    let rows = include_str!("../../lessons/06-websocket/README.md").lines().filter_map(|line| {
        let (hex, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let code = rest.split(" | ").nth(1)?.parse().ok()?;
        let bytes = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
        Some((bytes.collect(), code))
    });
    rows.collect()
}

#[test]
fn violations_in_the_readme_have_their_status_codes() {
    let server = start();
    let violations = violations();
    assert_eq!(violations.len(), 12);
    for (frames, code) in violations {
        for target in ["/echo", "/chat"] {
            assert_eq!(failed_with(&server, target, &frames), code, "{frames:x?}");
        }
    }
}

#[test]
fn other_violations_have_their_status_codes() {
    let server = start();
    let masked = masked_frame;
    let cases: [(&[u8], u16); 5] = [
        (&[0x8b, 0x80, 0, 0, 0, 0], 1002),
        (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        (&masked(true, Opcode::Close, &1006_u16.to_be_bytes()), 1002),
        (&masked(true, Opcode::Text, b"\xe2\x82"), 1007),
        (&[masked(false, Opcode::Text, b"\xe2"), masked(false, Opcode::Continuation, b"x")].concat(), 1007),
    ];
    for (frames, code) in cases {
        assert_eq!(failed_with(&server, "/echo", frames), code, "{frames:x?}");
    }
}

#[test]
fn close_is_echoed_and_the_server_closes_first() {
    let server = start();
    for target in ["/echo", "/chat"] {
        let mut client = server.websocket(target);
        client.send_frame(Opcode::Close, websocket::close(CloseCode::NORMAL, "bye"));
        assert_eq!(client.frame().close(), (1000, String::new()));
        client.expect_end();
        let mut client = server.websocket(target);
        assert_eq!(client.send_frame(Opcode::Close, "").frame().payload, b"");
        client.expect_end();
    }
}

#[test]
fn chat_texts_reach_everyone_including_the_sender() {
    let server = start();
    let mut members = [(); 3].map(|()| server.websocket("/chat"));
    let mut elsewhere = server.websocket("/echo");
    for sender in 0..3 {
        let text = format!("<b>from {sender}</b> \u{1f600}");
        members[sender].send_text(&text);
        for member in &mut members {
            assert_eq!(member.frame().text(), text);
        }
    }
    assert_eq!(elsewhere.send_text("alone").frame().text(), "alone");
    assert_eq!(members[0].send_text("").frame().text(), "");
}

#[test]
fn chat_closes_binary_senders_with_1003() {
    let server = start();
    let (mut binary, mut other) = (server.websocket("/chat"), server.websocket("/chat"));
    let (code, reason) = binary.send_frame(Opcode::Binary, b"\x00").frame().close();
    assert_eq!((code, &reason[..]), (1003, "the chat takes text, not binary"));
    // Its later texts reach nobody.
    binary
        .send_text("too late")
        .send_frame(Opcode::Close, websocket::close(CloseCode::UNSUPPORTED_DATA, ""))
        .expect_end();
    assert_eq!(other.send_text("still here").frame().text(), "still here");
}

#[test]
fn departed_members_do_not_disturb_others() {
    let server = start();
    let (mut stays, mut leaves) = (server.websocket("/chat"), server.websocket("/chat"));
    let (cut, closes) = (server.websocket("/chat"), server.websocket("/chat"));
    stays.send_text("one");
    assert_eq!((stays.frame().text(), leaves.frame().text()), ("one", "one"));
    drop(cut); // with an unread message, so with a reset
    leaves.send(&HELLO[..8]).finish(); // in the middle of a frame
    let mut closes = closes;
    closes.frame();
    closes.send_frame(Opcode::Close, websocket::close(CloseCode::GOING_AWAY, "")).frame();
    for text in ["two", "three"] {
        assert_eq!(stays.send_text(text).frame().text(), text);
    }
}

#[test]
fn slow_members_are_closed_with_1013() {
    let server = start();
    let (mut slow, mut quick) = (server.websocket("/chat"), server.websocket("/chat"));
    let long = "x".repeat(1 << 18);
    let frame = masked_frame(true, Opcode::Text, long.as_bytes());
    // More than the kernel's two buffers and the outbox hold.
    for _ in 0..80 {
        quick.send(&frame);
        assert_eq!(quick.frame().payload.len(), long.len());
    }
    let mut texts = 0;
    let close = loop {
        match slow.frame() {
            frame if frame.opcode == Opcode::Close => break frame.close(),
            _ => texts += 1,
        }
    };
    assert_eq!((close.0, texts < 80), (1013, true), "{close:?} after {texts}");
}

#[test]
fn members_without_pong_are_dropped_after_40_seconds() {
    let server = start();
    let (mut silent, mut lively) = (server.websocket("/chat"), server.websocket("/chat"));
    for round in 1..=2 {
        server.advance(20);
        let ping = lively.frame();
        assert_eq!(ping.opcode, Opcode::Ping);
        // The echo of the message shows that the pong has been read.
        lively.send_frame(Opcode::Pong, &ping.payload).send_text("here");
        assert_eq!(lively.frame().text(), "here");
        if round == 1 {
            assert_eq!(silent.frame().opcode, Opcode::Ping);
            assert_eq!(silent.frame().text(), "here");
        }
    }
    silent.expect_end();
}

#[test]
fn shutdown_closes_with_1001() {
    let server = start();
    let sockets = ["/echo", "/chat"].map(|target| server.websocket(target));
    server.shut_down();
    for mut socket in sockets {
        assert_eq!(socket.frame().close().0, 1001);
        socket.send_frame(Opcode::Close, websocket::close(CloseCode::GOING_AWAY, "")).expect_end();
    }
    server.stop();
}

#[test]
fn broken_handshake_is_right_for_one_key_only() {
    let server = broken();
    let head = |key| Client::connect(server.address).send(opening("/handshake", key)).head();
    let right = head(SAMPLE_KEY);
    assert_eq!(
        websocket::parse_response(right.as_bytes(), SAMPLE_KEY, &[]),
        Ok(Parse::Complete { value: (), used: right.len() })
    );
    let wrong = head(OTHER_KEY);
    assert_eq!(websocket::parse_response(wrong.as_bytes(), OTHER_KEY, &[]), Err(HandshakeError::WrongAccept));
}

#[test]
fn broken_echo_takes_a_read_for_a_frame() {
    let server = broken();
    let open = || {
        let mut client = Client::connect(server.address);
        client.upgrade("/frames");
        assert_eq!(client.send(HELLO).frame().text(), "Hello");
        client
    };
    let mut client = open();
    let (one, two) = (masked_frame(true, Opcode::Text, b"one"), masked_frame(true, Opcode::Text, b"two"));
    client.send([one, two].concat());
    assert_eq!(client.frame().text(), "one");
    assert_eq!(client.send(HELLO).frame().text(), "Hello", "`two` is lost");

    // It takes the missing bytes of a split frame for zeros. An unmasked zero is a byte of the masking-key.
    let mut client = open();
    assert_eq!(client.send(&HELLO[..8]).frame().text(), "He!=7");
    client.send(&HELLO[8..]);

    // It knows lengths of 7 bits alone.
    let mut client = open();
    client.send(masked_frame(true, Opcode::Text, &[b'x'; 126]));
    assert_eq!(client.read_exactly(2), [0x81, 126]);
    assert_ne!(client.read_exactly(2), [0, 126]);
}

/// A member that has left is forgotten.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn departed_members_are_forgotten() {
    let running = lesson::start("06-websocket");
    let mut other = Client::connect(running.address);
    let growth = running.growth(|| {
        for _ in 0..500 {
            let mut member = Client::connect(running.address);
            member.upgrade("/chat");
            member.send_text("hello");
            // The server has seen the member when it answers this. The member's connection ends with unread input, so
            // with a reset, which keeps no port waiting.
            assert_eq!(other.get("/nothing").status, 404);
        }
    });
    assert!(growth < 200_000, "10,000 members have left {growth} bytes");
}
