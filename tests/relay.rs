//! The tap as a relay: bytes pass both ways unchanged, with their ends, and its memory is bounded. The targets are
//! sockets of the tests.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::dice::Dice;
use crate::common::{Client, PATIENCE, Running, TestServer};
use crate::tapped::{ID, Viewer, bytes_of, pieces_of, tap_of, text_of};
use overwire::tap::Mode;
use serde_json::json;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A tap, and a target whose sockets the test holds.
struct Relay {
    tap: TestServer,
    target: TcpListener,
}

impl Relay {
    fn start(mode: Mode) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        Relay { tap: tap_of(target.local_addr().unwrap(), mode), target }
    }

    fn connect(&self) -> Client {
        self.tap.connect()
    }

    /// The next connection to the target.
    fn accept(&self) -> Client {
        Client::of(self.target.accept().unwrap().0)
    }

    /// The next connection to the target, which the tap opens after a second.
    fn accept_later(&self) -> Client {
        self.target.set_nonblocking(true).unwrap();
        let start = Instant::now();
        loop {
            self.pass_a_second();
            match self.target.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).unwrap();
                    return Client::of(socket);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(start.elapsed() < PATIENCE, "the tap does not connect");
        }
    }

    /// Lets the second pass in which the tap waits for the rest of a head.
    fn pass_a_second(&self) {
        self.tap.get("/-/tap/nothing"); // the tap has taken what came before this request
        self.tap.advance(1);
    }

    /// A client and the target's end of the same link, after one exchange.
    fn link(&self) -> (Client, Client) {
        let mut client = self.connect();
        client.send(GET);
        let mut server = self.accept();
        server.read_exactly(GET.len());
        server.send(OK);
        client.read_exactly(OK.len());
        (client, server)
    }
}

#[test]
fn an_end_of_the_client_passes_and_the_answer_comes_back() {
    let relay = Relay::start(Mode::Marked);
    let mut client = relay.connect();
    client.send(GET).finish();
    let mut server = relay.accept();
    assert_eq!(server.read_to_end(), GET.as_bytes());
    server.send(OK);
    assert_eq!(client.read_exactly(OK.len()), OK.as_bytes());
    drop(server);
    client.expect_end();
}

#[test]
fn an_end_of_the_target_passes_and_the_client_goes_on() {
    let relay = Relay::start(Mode::Marked);
    let mut client = relay.connect();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n";
    client.send(head);
    let mut server = relay.accept();
    server.read_exactly(head.len());
    server.send(OK).finish();
    assert_eq!(client.read_to_end(), OK.as_bytes());
    client.send("0123456789").finish();
    assert_eq!(server.read_to_end(), b"0123456789");
}

/// Closes a socket with unread input: that is a reset.
fn reset(relay: &Relay, socket: Client, mut other: Client) {
    other.send("unread");
    relay.pass_a_second();
    socket.stream.peek(&mut [0]).unwrap();
    drop(socket);
    let error = other.stream.read(&mut [0; 16]).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_one_side_becomes_a_reset_of_the_other() {
    let relay = Relay::start(Mode::Marked);
    let (client, server) = relay.link();
    reset(&relay, client, server);
    let (client, server) = relay.link();
    reset(&relay, server, client);
}

#[test]
fn bytes_that_are_not_http_pass_unchanged() {
    let relay = Relay::start(Mode::Marked);
    let mut client = relay.connect();
    client.send(b"\x16\x03\x01\0\0\n not HTTP\n");
    let mut server = relay.accept();
    assert_eq!(server.read_exactly(16), b"\x16\x03\x01\0\0\n not HTTP\n");
    server.send("nor is this");
    assert_eq!(client.read_exactly(11), b"nor is this");
    client.send(b"\xff").finish();
    assert_eq!(server.read_to_end(), b"\xff");
    drop(server);
    client.expect_end();
}

#[test]
fn a_target_may_speak_first() {
    let relay = Relay::start(Mode::Marked);
    let mut client = relay.connect();
    relay.accept_later().send("220 ready\r\n").finish();
    assert_eq!(client.read_to_end(), b"220 ready\r\n");
}

#[test]
fn a_slow_head_passes_after_a_second_and_is_shown_when_it_is_complete() {
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    let request = format!("GET /?tap={ID}.a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (front, rest) = request.split_at(10);
    let mut client = relay.connect();
    client.send(front);
    let mut server = relay.accept_later();
    assert_eq!(server.read_exactly(front.len()), front.as_bytes());
    client.send(rest);
    assert_eq!(server.read_exactly(rest.len()), rest.as_bytes());
    server.send(OK);
    client.read_exactly(OK.len());
    let events = viewer.until_end("a");
    assert_eq!((text_of(&events, "client"), text_of(&events, "server")), (request, OK.to_owned()));
}

#[test]
fn a_head_that_is_too_long_passes() {
    let relay = Relay::start(Mode::Marked);
    let mut client = relay.connect();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nLong: {}", "x".repeat(20_000));
    client.send(&head);
    let mut server = relay.accept();
    assert_eq!(server.read_exactly(head.len()), head.as_bytes());
    server.send("HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n").finish();
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 431 "));
}

#[test]
fn a_target_that_is_not_there_is_named_in_a_502() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tap = tap_of(address, Mode::Marked);
    let mut viewer = Viewer::open(&tap, ID);
    let mut client = tap.connect();
    let answer = client.get(&format!("/?tap={ID}.a"));
    let sentence = format!("The tap cannot reach http://{address}: connection refused.\n");
    assert_eq!((answer.status, answer.text(), answer.field("Connection")), (502, &*sentence, Some("close")));
    client.expect_end();
    let events = viewer.until_end("a");
    assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    let mut client = tap.connect();
    let head = client.send("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").read_to_end();
    assert!(head.starts_with(b"HTTP/1.1 502 ") && head.ends_with(b"\r\n\r\n"));
    // Bytes that are not HTTP have no answer.
    let mut client = tap.connect();
    client.send(b"\n\xff\n");
    client.expect_end();
    // The target starts.
    let target = TcpListener::bind(address).unwrap();
    let mut client = tap.connect();
    client.send(GET);
    let mut server = Client::of(target.accept().unwrap().0);
    server.read_exactly(GET.len());
    server.send(OK);
    client.read_exactly(OK.len());
}

/// The next bytes of a sequence that looks random.
fn fill(dice: &mut Dice, bytes: &mut [u8]) {
    bytes.chunks_mut(8).for_each(|bytes| {
        let number = dice.roll(u64::MAX).to_le_bytes();
        bytes.copy_from_slice(&number[..bytes.len()]);
    });
}

/// Sends `count` bytes in pieces of random sizes.
fn send_random(mut socket: TcpStream, seed: u64, mut count: usize) {
    let (mut content, mut sizes) = (Dice(seed), Dice(seed + 1));
    while count > 0 {
        let mut bytes = vec![0; (8 * (1 + sizes.roll(10_000)) as usize).min(count)];
        fill(&mut content, &mut bytes);
        socket.write_all(&bytes).unwrap();
        count -= bytes.len();
    }
}

/// Reads `count` bytes, and compares them with those of [`send_random`].
fn expect_random(socket: &mut Client, seed: u64, count: usize) {
    let mut content = Dice(seed);
    let mut expected = vec![0; 64 * 1024];
    for start in (0..count).step_by(expected.len()) {
        let length = expected.len().min(count - start);
        fill(&mut content, &mut expected[..length]);
        assert!(socket.read_exactly(length) == expected[..length], "bytes {start} to {}", start + length);
    }
}

#[test]
fn many_bytes_pass_both_ways_at_once_unchanged() {
    const COUNT: usize = 32 * 1024 * 1024;
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    let request = format!("POST /?tap={ID}.a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {COUNT}\r\n\r\n");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {COUNT}\r\n\r\n");
    let mut client = relay.connect();
    client.send(&request);
    let mut server = relay.accept();
    server.read_exactly(request.len());
    server.send(&answer);
    client.read_exactly(answer.len());
    let (to_server, to_client) = (client.stream.try_clone().unwrap(), server.stream.try_clone().unwrap());
    let threads = [
        thread::spawn(move || send_random(to_server, 1, COUNT)),
        thread::spawn(move || send_random(to_client, 2, COUNT)),
        thread::spawn(move || expect_random(&mut server, 1, COUNT)),
        thread::spawn(move || expect_random(&mut client, 2, COUNT)),
    ];
    let all = 2 * COUNT + request.len() + answer.len();
    let mut seen = 0;
    while seen < all {
        let event = viewer.next();
        seen += event["bytes"].as_u64().unwrap_or_default() as usize;
        let event = [event];
        seen += bytes_of(&event, "client").len() + bytes_of(&event, "server").len();
    }
    assert_eq!(seen, all, "each byte is shown or counted");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Sends until the other end has read nothing for a while. Returns the number of bytes.
fn send_until_blocked(socket: &mut TcpStream, most: usize) -> usize {
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (piece, mut count) = (vec![b'x'; 64 * 1024], 0);
    while count < most {
        match socket.write(&piece) {
            Ok(written) => count += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the tap has taken {count} bytes, although none were read");
}

/// Reads `count` bytes.
fn skip(socket: &mut Client, mut count: usize) {
    while count > 0 {
        let length = count.min(1024 * 1024);
        socket.read_exactly(length);
        count -= length;
    }
}

#[test]
fn a_peer_that_does_not_read_costs_little_memory() {
    const MOST: usize = 256 * 1024 * 1024;
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", target.local_addr().unwrap());
    let tap = Running::start(Command::new(env!("CARGO_BIN_EXE_wire")).args(["tap", &url, "--port", "0"]));
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MOST}\r\n\r\n");
    let mut client = Client::connect(tap.address);
    client.send(&head);
    let mut server = Client::of(target.accept().unwrap().0);
    server.read_exactly(head.len());
    // The first bytes load the code that relays them.
    client.send(vec![b'x'; 4 * 1024 * 1024]);
    skip(&mut server, 4 * 1024 * 1024);
    let before = tap.memory();
    let sent = send_until_blocked(&mut client.stream, MOST);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {MOST}\r\n\r\n");
    let answered = answer.len() + send_until_blocked(&mut server.send(&answer).stream, MOST);
    let grown = tap.memory().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{sent} bytes up and {answered} bytes down have cost {grown} bytes");
    // No queued byte is lost.
    skip(&mut client, answered);
    skip(&mut server, sent);
    server.send("x");
    client.read_exactly(1);
}

/// A target that answers each request with `OK`, in a thread of each connection.
fn answer_all(target: TcpListener) {
    for socket in target.incoming().map_while(Result::ok) {
        thread::spawn(move || {
            let (mut socket, mut bytes) = (socket, [0; 4096]);
            while let Ok(1..) = socket.read(&mut bytes) {
                let _ = socket.write_all(OK.as_bytes());
            }
        });
    }
}

#[test]
fn links_that_are_over_leave_nothing() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", target.local_addr().unwrap());
    thread::spawn(move || answer_all(target));
    let tap = Running::start(Command::new(env!("CARGO_BIN_EXE_wire")).args(["tap", &url, "--port", "0"]));
    let files = || std::fs::read_dir(format!("/proc/{}/fd", tap.process.id())).unwrap().count();
    let before = files();
    let growth = tap.growth(|| {
        for _ in 0..50 {
            let mut kept = Client::connect(tap.address);
            assert_eq!(kept.send(GET).answer().status, 200);
            drop(Client::connect(tap.address));
            Client::connect(tap.address).send(&GET[..10]);
            Client::connect(tap.address).send("not HTTP\n\n");
            Client::connect(tap.address).get("/-/tap/nothing").json();
            assert_eq!(kept.send(GET).answer().status, 200);
        }
    });
    assert!(growth < 1024 * 1024, "5,000 connections have left {growth} bytes");
    let start = Instant::now();
    while files() > before {
        assert!(start.elapsed() < PATIENCE, "{} connections are still open", files() - before);
        thread::yield_now();
    }
}

#[test]
fn secrets_are_masked_however_they_arrive() {
    let request = format!(
        "GET /?tap={ID}.a HTTP/1.1\r\nHost: localhost\r\nCOOKIE:  a=secret; b\r\nAuthorization: Basic secret\r\n\
         proxy-authorization: secret\r\nX-Cookie: shown\r\n\r\n"
    );
    let answer = "HTTP/1.1 200 OK\r\nset-Cookie: a=secret; HttpOnly\r\nTransfer-Encoding: chunked\r\n\r\n\
                  6\r\nsecret\r\n0\r\nSet-Cookie: secret\r\n\r\n";
    let masked_request = request
        .replace("a=secret; b", "***********")
        .replace("Basic secret", "************")
        .replace("proxy-authorization: secret", "proxy-authorization: ******");
    let masked_answer = answer
        .replace("a=secret; HttpOnly", "******************")
        .replace("Set-Cookie: secret\r\n\r\n", "Set-Cookie: ******\r\n\r\n");
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    for bytewise in [false, true] {
        let mut client = relay.connect();
        let send = |to: &mut Client, bytes: &str| {
            if bytewise {
                to.send_bytewise(bytes)
            } else {
                to.send(bytes)
            };
        };
        send(&mut client, &request);
        let mut server = relay.accept();
        assert_eq!(server.read_exactly(request.len()), request.as_bytes(), "the target sees all");
        send(&mut server, answer);
        assert_eq!(client.read_exactly(answer.len()), answer.as_bytes(), "so does the client");
        let events = viewer.until_end("a");
        assert_eq!(text_of(&events, "client"), masked_request);
        assert_eq!(text_of(&events, "server"), masked_answer);
    }
}

#[test]
fn only_requests_of_the_pages_own_scripts_are_shown() {
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    let (mut client, mut server) = relay.link();
    let mut ask = |label: &str, fields: &str| {
        let request = format!("GET /?tap={ID}.{label} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        client.send(&request);
        server.read_exactly(request.len());
        server.send(OK);
        client.read_exactly(OK.len());
    };
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Mode: navigate\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\n",
        "Sec-Fetch-Site: \r\n",
    ] {
        ask("hidden", fields);
    }
    for fields in ["", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n"] {
        ask("shown", fields);
        let events = viewer.until_end("shown");
        assert!(events.iter().all(|event| event["label"] == "shown"), "{events:?}");
    }
}

#[test]
fn all_requests_are_shown_in_the_other_mode() {
    let relay = Relay::start(Mode::All);
    let mut viewers = [Viewer::open(&relay.tap, ID), Viewer::open(&relay.tap, "another-viewer-id")];
    let mut client = relay.connect();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Mode: navigate\r\nCookie: a\r\n\r\n";
    client.send(request);
    let mut server = relay.accept();
    server.read_exactly(request.len());
    let mut late = Viewer::open(&relay.tap, "a-viewer-that-is-late");
    assert_eq!((&viewers[1].opened["unseen"], &late.opened["unseen"]), (&json!(0), &json!(1)));
    server.send(OK);
    client.read_exactly(OK.len());
    for viewer in &mut viewers {
        let events = viewer.until_end("all");
        assert_eq!(text_of(&events, "client"), request.replace("Cookie: a", "Cookie: *"));
        assert_eq!(text_of(&events, "server"), OK);
    }
    assert_eq!(Viewer::open(&relay.tap, "a-viewer-after-the-end").opened["unseen"], 0);
    // A viewer sees the exchanges that begin after it has come. The faults are those of all viewers.
    viewers[0].command(json!({ "label": "all", "fault": "502", "value": 1 }));
    assert_eq!(client.send(GET).answer().status, 502);
    let [first, ..] = &late.until_end("all")[..] else { panic!("no events") };
    assert_eq!((&first["exchange"], &first["from"]), (&json!(2), &json!("client")));
}

#[test]
fn requests_to_the_tap_are_answered_on_any_connection() {
    let relay = Relay::start(Mode::All);
    let own = "GET /-/tap/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut client, mut server) = relay.link();
    let answer = client.send(own).answer();
    assert_eq!((answer.status, answer.field("Connection")), (404, Some("close")));
    client.expect_end();
    server.expect_end();
    // One that follows a request which the target holds.
    let mut client = relay.connect();
    client.send(GET.to_owned() + own);
    let mut server = relay.accept();
    server.read_exactly(GET.len());
    server.send(OK);
    assert_eq!((client.answer().status, client.answer().status), (200, 404));
    // A path that is not below that of the tap.
    let (mut client, mut server) = relay.link();
    let other = own.replace("/-/tap/", "/-/taps/");
    client.send(&other);
    assert_eq!(server.read_exactly(other.len()), other.as_bytes());
}

#[test]
fn the_tap_checks_host_and_origin_of_its_own_requests() {
    let relay = Relay::start(Mode::All);
    let get = |fields: &str| {
        let request = format!("GET /-/tap/view?tap={ID} HTTP/1.1\r\n{fields}\r\n\r\n");
        relay.connect().send(request).answer().status
    };
    assert_eq!(get("Host: evil.example"), 421);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(get(&format!("Host: localhost\r\nOrigin: http://evil.example\r\n{upgrade}")), 403);
    for fields in ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate"] {
        assert_eq!(get(&format!("Host: localhost\r\n{fields}")), 403, "{fields}");
    }
    let link =
        "GET /-/tap/ HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n\r\n";
    assert_eq!(relay.connect().send(link).answer().status, 200, "a link leads to the page");
    assert_eq!(get("Host: localhost"), 400);
    let post = "POST /-/tap/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let answer = relay.connect().send(post).answer();
    assert_eq!((answer.status, answer.field("Allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a_target_that_is_down_refuses_and_resets_and_comes_back() {
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    let (mut client, mut server) = relay.link();
    viewer.client.send_text(r#"{"fault":"down","value":5}"#);
    let struck = viewer.wait(|event| event["type"] == "struck");
    assert_eq!((&struck["fault"], &struck["label"]), (&json!("down"), &json!(null)));
    client.expect_end();
    server.expect_end();
    let refused = TcpStream::connect(relay.tap.address).expect_err("connections are refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // Viewers stay. Another program takes the address meanwhile.
    let taken = TcpListener::bind(relay.tap.address).unwrap();
    relay.tap.advance(5);
    viewer.command(json!({ "label": "a", "fault": "delay", "value": 0 }));
    drop(taken);
    relay.tap.advance(1);
    let struck = viewer.wait(|event| event["type"] == "struck");
    assert_eq!(struck["fault"], "up");
    relay.link();
}

#[test]
fn early_frames_and_interim_responses_pass_at_once() {
    let relay = Relay::start(Mode::All);
    let mut client = relay.connect();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.send(request.to_owned() + "early");
    let mut server = relay.accept();
    server.read_exactly(request.len());
    assert_eq!(server.read_exactly(5), b"early");
    server.send("HTTP/1.1 103 Early");
    assert_eq!(client.read_exactly(18), b"HTTP/1.1 103 Early");
}

#[test]
fn many_links_at_once_do_not_mix() {
    let relay = Relay::start(Mode::Marked);
    let target: SocketAddr = relay.target.local_addr().unwrap();
    let echo = relay.target.try_clone().unwrap();
    thread::spawn(move || {
        for socket in echo.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut server = Client::of(socket);
                let head = server.head();
                let line = head.lines().next().unwrap().to_owned();
                server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()));
            });
        }
    });
    let mut clients: Vec<_> = (0..100).map(|_| relay.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_get(&format!("/{number}"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), format!("GET /{number} HTTP/1.1"), "{target}");
    }
}

#[test]
fn buffered_bytes_of_a_cut_answer_are_passed_on() {
    let relay = Relay::start(Mode::Marked);
    let mut viewer = Viewer::open(&relay.tap, ID);
    viewer.command(json!({ "label": "a", "fault": "buffer", "value": 1000 }));
    let mut client = relay.connect();
    client.send_get(&format!("/?tap={ID}.a"));
    let mut server = relay.accept();
    server.head();
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart").finish();
    assert!(client.read_to_end().ends_with(b"part"));
    let events = viewer.until_end("a");
    let broken = pieces_of(&events, "server").find(|piece| piece["name"] == "broken").expect("a broken piece");
    assert_eq!(broken["meaning"], "the connection ended before the message was complete");
}

#[test]
fn malformed_requests_are_shown_in_mode_all() {
    let relay = Relay::start(Mode::All);
    let mut viewer = Viewer::open(&relay.tap, ID);
    let (mut client, mut server) = relay.link();
    viewer.until_end("all");
    let wrong = "FETCH / HTTP/1.1\r\nCookie: secret\r\n\r\n";
    client.send(wrong).finish();
    assert_eq!(server.read_to_end(), wrong.as_bytes());
    server.send("HTTP/1.1 501 No\r\n\r\n").finish();
    assert_eq!(client.read_to_end(), b"HTTP/1.1 501 No\r\n\r\n");
    let events = viewer.until_end("all");
    assert_eq!(text_of(&events, "client"), wrong.replace("secret", "******"));
    assert_eq!(text_of(&events, "server"), "HTTP/1.1 501 No\r\n\r\n");
    let broken = pieces_of(&events, "client").find(|piece| piece["name"] == "broken").expect("a broken piece");
    assert!(broken["meaning"].as_str().unwrap().starts_with("the method is unknown"), "{broken}");
}

#[test]
fn a_client_that_ignores_the_end_of_its_target_is_reset_after_a_minute() {
    let relay = Relay::start(Mode::Marked);
    let (mut client, mut server) = relay.link();
    server.finish();
    client.expect_end();
    for _ in 0..2 {
        relay.tap.advance(45);
        client.send("x"); // a sign of life
        relay.pass_a_second();
        server.read_exactly(1);
    }
    relay.tap.advance(60);
    assert_eq!(server.stream.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
}

/// The files that a page or a module refers to by `src`, `href` or `from`, relative to `base`. A folder is a page to go
/// to.
fn references(text: &str, base: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, end) in [("src=\"", '"'), ("href=\"", '"'), ("from '", '\''), ("import '", '\'')] {
        for rest in text.split(start).skip(1) {
            let reference = rest.split(end).next().unwrap();
            if !reference.starts_with(['/', '#']) && !reference.ends_with('/') {
                let mut path: Vec<_> = base.split('/').collect();
                path.pop();
                for part in reference.split('/') {
                    match part {
                        "." => {}
                        ".." => drop(path.pop()),
                        part => path.push(part),
                    }
                }
                found.push(path.join("/"));
            }
        }
    }
    found
}

#[test]
fn the_page_of_the_tap_finds_all_of_its_files_below_its_path() {
    let relay = Relay::start(Mode::All);
    let (mut seen, mut next) = (Vec::new(), vec!["/-/tap/".to_owned()]);
    while let Some(path) = next.pop() {
        let answer = relay.tap.get(&path);
        assert_eq!((answer.status, path.starts_with("/-/tap/")), (200, true), "{path}");
        if !path.ends_with(".svg") {
            next.extend(references(answer.text(), &path));
        }
        seen.push(path);
        next.retain(|path| !seen.contains(path));
    }
    assert!(seen.iter().any(|path| path.ends_with("/wire-view.js")) && seen.len() > 10, "{seen:?}");
    let redirect = relay.tap.get("/-/tap");
    assert_eq!((redirect.status, redirect.field("Location")), (308, Some("/-/tap/")));
    let head = relay.connect().send("HEAD /-/tap/ HTTP/1.1\r\nHost: localhost\r\n\r\n").read_to_end();
    assert!(head.starts_with(b"HTTP/1.1 200 ") && head.ends_with(b"\r\n\r\n"));
}
