//! Each limit, exceeded through a real socket, and its documented answer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::common::{Answer, Client, TestServer, masked_frame};
use crate::tapped::TestTap;
use overwire::websocket::{self, Opcode};
use overwire::{Event, EventLoop, Limits, Shared, http};

fn head_of(length: usize) -> String {
    let (start, end) = ("GET /health HTTP/1.1\r\nHost: localhost\r\nA: ", "\r\n\r\n");
    format!("{start}{}{end}", "a".repeat(length - start.len() - end.len()))
}

/// The answer to `bytes`. A refusal must have a reason and close the connection.
fn answer_to(server: &TestServer, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = server.connect();
    let answer = client.send(bytes).answer();
    if answer.status >= 400 {
        assert_eq!(answer.field("Connection"), Some("close"), "{answer:?}");
        assert!(answer.json()["error"].is_string());
        client.expect_end();
    }
    answer
}

#[test]
fn heads_targets_and_fields_are_limited() {
    let server = TestServer::start();
    assert_eq!(answer_to(&server, head_of(16 * 1024)).status, 200);
    assert_eq!(answer_to(&server, head_of(16 * 1024 + 1)).status, 431);

    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(length - 1));
    let mut longest = server.connect();
    assert_eq!(longest.send(target(8 * 1024)).answer().status, 404);
    assert_eq!(answer_to(&server, target(8 * 1024 + 1)).status, 414);

    let fields =
        |count: usize| format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert_eq!(answer_to(&server, fields(100)).status, 200);
    assert_eq!(answer_to(&server, fields(101)).status, 431);
}

#[test]
fn json_is_limited_in_depth_and_in_values() {
    let tap = TestTap::start();
    let (deep, wide) = ("[".repeat(1_000_000), format!("[{}1]", "1,".repeat(10_000)));
    let mut sockets =
        ["/api/ws", "/ws", "/api/signal", "/-/tap/view?tap=0123456789abcdef"].map(|target| tap.websocket(target));
    for socket in &mut sockets[1..] {
        socket.message();
    }
    for (text, expected) in [
        (
            &deep[..60_000],
            "is too complex: found level 33 of arrays and objects at line 1 column 33, expected 32 at most",
        ),
        (&wide, "is too complex: found value 1001 at line 1 column 1999, expected 1000 at most"),
    ] {
        for target in ["/api/send", "/poll", "/sse/message", "/send"] {
            let answer = tap.post(target, text);
            assert_eq!(answer.status, 400);
            assert_eq!(answer.json()["error"], format!("the content {expected}"), "{target}");
        }
        for socket in &mut sockets {
            let error = socket.send_text(text).message().json();
            assert!(error["error"].as_str().unwrap().ends_with(&format!("the message {expected}")), "{error}");
        }
    }
    let answer = tap.post("/api/send", &deep);
    assert!(answer.json()["error"].as_str().unwrap().contains("found level 33"), "{answer:?}");
}

#[test]
fn content_is_limited() {
    let server = TestServer::of_loop(Limits { content: 1000, ..Limits::default() }, echo);
    let fixed = |length: usize| {
        let content = "a".repeat(length);
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{content}")
    };
    let chunked = |length: usize| {
        let half = "a".repeat(length / 2);
        let size = length / 2;
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{half}\r\n{size:x}\r\n{half}\r\n0\r\n\r\n"
        )
    };
    for within in [fixed(1000), chunked(1000)] {
        assert_eq!(answer_to(&server, within).content.len(), 1000);
    }
    for beyond in [fixed(1001), chunked(1002)] {
        assert_eq!(answer_to(&server, beyond).status, 413);
    }
    // Checked in the head, before any content arrives.
    assert_eq!(answer_to(&server, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n").status, 413);
}

#[test]
fn slow_heads_and_contents_get_408() {
    let server = TestServer::start();
    for (bytes, seconds) in [
        ("GET /health HTTP/1.1\r\nHos", 10),
        ("POST /api/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12", 30),
        ("POST /api/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12", 30),
    ] {
        let mut slow = server.connect();
        slow.send(bytes);
        server.wait_for("two connections", |stats| stats["connections"] == 2);
        server.advance(seconds - 1);
        assert_eq!(server.get("/health").status, 200);
        server.advance(1);
        let answer = slow.answer();
        assert_eq!((answer.status, answer.field("Connection")), (408, Some("close")), "{answer:?}");
        slow.expect_end();
        drop(slow);
        server.wait_for("the end of the slow connection", |stats| stats["connections"] == 1);
    }
}

#[test]
fn idle_connections_are_closed_after_75_seconds() {
    let server = TestServer::start();
    let (mut silent, mut idle) = (server.connect(), server.connect());
    assert_eq!(idle.get("/health").status, 200);
    server.advance(74);
    assert_eq!(idle.get("/health").status, 200);
    server.advance(1);
    silent.expect_end();
    assert_eq!(idle.get("/health").status, 200, "its time began again");
    server.advance(75);
    idle.expect_end();
}

#[test]
fn messages_are_limited() {
    let server = TestServer::of_loop(Limits { message: 1000, ..Limits::default() }, echo);
    let mut client = server.connect();
    client.upgrade("/");
    let pieces = |fin, opcode, count| masked_frame(fin, opcode, &vec![b'a'; count]);
    client.send_frame(Opcode::Text, [b'a'; 1000]);
    assert_eq!(client.message().payload.len(), 1000);
    client.send(pieces(false, Opcode::Text, 999)).send(pieces(true, Opcode::Continuation, 1));
    assert_eq!(client.message().payload.len(), 1000);
    client.send(pieces(false, Opcode::Text, 999));
    // Checked in the header, before any payload arrives.
    client.send(&pieces(true, Opcode::Continuation, 2)[..6]);
    let (code, reason) = client.message().close();
    assert_eq!((code, reason.as_str()), (1009, "a message must be at most 1000 bytes"));
    client.expect_end();
}

#[test]
fn the_number_of_fragments_is_not_limited() {
    let server = TestServer::of_loop(Limits::default(), echo);
    let mut client = server.connect();
    client.upgrade("/");
    client.send(masked_frame(false, Opcode::Binary, b""));
    client.send(masked_frame(false, Opcode::Continuation, b"").repeat(100_000));
    client.send(masked_frame(true, Opcode::Continuation, b"end"));
    assert_eq!(client.message().payload, b"end");
}

/// The bytes that this program sends at most to a peer that does not read.
const FLOOD: usize = 64 * 1024 * 1024;

/// Sends to each client until the connection is closed. What happens meanwhile is seen to afterwards.
fn flood(mut server: EventLoop) -> std::io::Result<()> {
    let (mut sent, mut later) = (0, VecDeque::new());
    loop {
        let event = match later.pop_front() {
            Some(event) => event,
            None => server.next_event()?,
        };
        let (id, piece) = match event {
            Event::Request(id, request) if request.path() == "/ws" => {
                server.upgrade(id, websocket::accept(&request, &[]).expect("an upgrade"));
                (id, websocket::binary(&[0; 60_000]))
            }
            Event::Request(id, request) if request.path() == "/stream" => {
                server.begin(id, http::Response::new(200));
                (id, http::chunk(&[0; 60_000]))
            }
            Event::Request(id, _) => {
                server.respond(id, http::Response::text(200, sent.to_string()));
                continue;
            }
            Event::Shutdown => return server.drain(),
            _ => continue,
        };
        sent = send_until_closed(&mut server, id, &piece, &mut later)?;
    }
}

/// Returns the number of bytes that were accepted before the slow peer was cut.
fn send_until_closed(
    server: &mut EventLoop,
    id: overwire::ExchangeId,
    piece: &Shared,
    later: &mut VecDeque<Event>,
) -> std::io::Result<usize> {
    let mut sent = 0;
    while sent < FLOOD {
        server.send(id, piece);
        sent += piece.len();
        let timer = server.set_timer(Duration::ZERO);
        loop {
            match server.next_event()? {
                Event::Closed(closed, _) if closed == id => return Ok(sent),
                Event::Timer(due) if due == timer => break,
                event => later.push_back(event),
            }
        }
    }
    panic!("{FLOOD} bytes were accepted for a peer that does not read");
}

#[test]
fn peers_that_do_not_read_are_cut_at_their_outbox_limit() {
    let server = TestServer::of_loop(Limits { outbox: 300_000, ..Limits::default() }, flood);
    let mut socket = server.connect();
    socket.upgrade("/ws");
    let mut stream = server.connect();
    stream.send_get("/stream");
    // The answer comes after both floods are over.
    let taken: usize = server.get("/").text().parse().unwrap();
    assert!((300_000..FLOOD).contains(&taken));
    let last = loop {
        let frame = socket.message();
        if frame.opcode == Opcode::Close {
            break frame;
        }
    };
    assert_eq!(last.close().0, 1013);
    stream.head();
    // The stream ends without a last-chunk, so its client sees that it is incomplete.
    assert!(!stream.read_to_end().ends_with(b"\r\n0\r\n\r\n"));
}

/// Clients that hold a stream each. They are not idle.
fn streams(server: &TestServer, count: usize) -> Vec<Client> {
    let open = |_| {
        let mut client = server.connect();
        client.send_get("/api/stream").head();
        client
    };
    (0..count).map(open).collect()
}

#[test]
fn connections_over_the_limit_get_503_with_retry_after() {
    let server = TestServer::with(|config| config.limits.connections = 2);
    let mut open = streams(&server, 2);
    let mut three = server.connect();
    let answer = three.answer();
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    three.expect_end();
    drop((open.remove(0), three));
    // There is room again.
    while server.get("/health").status != 200 {
        std::thread::yield_now();
    }
    server.publish("general", "hello");
    assert!(open[0].chunk_text().contains("hello"), "the open connection still works");
}

#[test]
fn connections_far_over_the_limit_are_closed_without_an_answer() {
    let server = TestServer::with(|config| config.limits.connections = 1);
    let mut first = streams(&server, 1).remove(0);
    let mut others: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    let refused =
        others.iter_mut().map(Client::read_to_end).filter(|bytes| bytes.starts_with(b"HTTP/1.1 503 ")).count();
    assert!((1..40).contains(&refused), "{refused}");
    server.shut_down();
    assert_eq!(first.chunk(), None);
}

#[test]
fn an_idle_connection_makes_room_for_another() {
    let server = TestServer::with(|config| config.limits.connections = 3);
    let _streams = streams(&server, 1);
    let (mut idle, mut recent) = (server.connect(), server.connect());
    assert_eq!((idle.get("/health").status, recent.get("/health").status), (200, 200));
    server.advance(2);
    assert_eq!(recent.get("/health").status, 200);
    let mut new = server.connect();
    assert_eq!(new.get("/health").status, 200);
    idle.expect_end();
    // None has been idle for a second, and one has not made its request yet, but two have.
    let mut newer = server.connect();
    assert_eq!(newer.get("/health").status, 200);
    let ended = [&mut recent, &mut new].map(|client| {
        client.stream.set_nonblocking(true).unwrap();
        matches!(std::io::Read::read(&mut client.stream, &mut [0]), Ok(0))
    });
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "one of the two had to go");
}

#[test]
fn connections_in_use_do_not_make_room() {
    let server = TestServer::with(|config| config.limits.connections = 4);
    let _streams = streams(&server, 1);
    let (mut socket, mut half, mut silent) = (server.websocket("/api/ws"), server.connect(), server.connect());
    half.get("/health");
    half.send("GET /health HTTP/1.1\r\n");
    let refused = server.connect().answer();
    assert_eq!(refused.status, 503, "a connection may be silent for a second before its first request");
    assert_eq!(half.send("Host: localhost\r\n\r\n").answer().status, 200);
    half.send("GET /health HTTP/1.1\r\n");
    server.advance(2);
    assert_eq!(server.get("/health").status, 200, "longer than that it gives way");
    silent.expect_end();
    assert_eq!(half.send("Host: localhost\r\n\r\n").answer().status, 200);
    socket.send_text(r#"{"sender": "a", "text": "b"}"#);
    assert_eq!(socket.message().json()["text"], "b");
}

/// Echoes the contents of requests, and messages.
fn echo(mut server: EventLoop) -> std::io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(id, request) => match websocket::accept(&request, &[]) {
                Ok(accepted) => server.upgrade(id, accepted),
                Err(_) => server.respond(id, http::Response::text(200, request.content().to_vec())),
            },
            Event::Message(id, message) => server.send_message(id, message),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}
