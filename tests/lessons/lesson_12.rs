//! Lesson 12, in front: what a proxy passes on and what it must not, its three faults, and those of the broken twin.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use overwire::websocket::Opcode;
use serde_json::json;

use crate::common::{Client, PATIENCE, Running, field};
use crate::lesson::program;

/// The lesson's server, and a proxy before it.
struct Pair {
    server: Running,
    proxy: Running,
}

impl Pair {
    fn start(proxy: &str, options: &[&str]) -> Self {
        Pair::with_server(&[], proxy, options)
    }

    fn with_server(server: &[&str], proxy: &str, options: &[&str]) -> Self {
        let server = run("12-server", server);
        let proxy = before(server.address.port(), proxy, options);
        Pair { server, proxy }
    }

    fn connect(&self) -> Client {
        Client::connect(self.proxy.address)
    }

    /// The request as the server has got it, for these fields of the client. Names are in lower case.
    fn who(&self, fields: &str) -> String {
        let mut client = self.connect();
        client.send(format!("GET /who HTTP/1.1\r\nHost: chat.example\r\n{fields}\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_lowercase()
    }

    /// A stream whose first event has come.
    fn stream(&self, fields: &str) -> Client {
        let mut client = self.connect();
        client.send(format!("GET /events HTTP/1.1\r\nHost: chat.example\r\n{fields}\r\n"));
        client.head_alone();
        assert_eq!(client.any_event().name, "position");
        client
    }

    fn say(&self, text: &str) -> String {
        let answer = Client::connect(self.server.address).post("/add-message", &json!({ "message": text }).to_string());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }
}

fn run(name: &str, options: &[&str]) -> Running {
    Running::start(Command::new(program(name)).args(["--port", "0"]).args(options).stderr(Stdio::null()))
}

fn before(port: u16, proxy: &str, options: &[&str]) -> Running {
    run(proxy, &[&["--to", &port.to_string()], options].concat())
}

/// A server that the test plays, and a proxy before it.
fn played(options: &[&str]) -> (TcpListener, Running) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = before(server.local_addr().unwrap().port(), "12-in-front", options);
    (server, proxy)
}

/// Checks that nothing comes for a while.
#[track_caller]
fn expect_silence(client: &mut Client) {
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waited = client.stream.read_exact(&mut [0]).map_err(|error| error.kind()); // whatever signals come
    assert_eq!((waited, client.has_more()), (Err(ErrorKind::WouldBlock), false));
}

#[test]
fn fields_for_one_connection_are_not_passed_on() {
    let pair = Pair::start("12-in-front", &[]);
    let said = pair.who(
        "Connection: keep-alive, X-Secret\r\nKeep-Alive: timeout=5\r\nX-Secret: 1\r\nTE: trailers\r\nX-Other: 2\r\n",
    );
    assert!(said.contains("x-other: 2") && said.contains("connection: close"), "{said}");
    for gone in ["keep-alive", "x-secret", "te:", "upgrade"] {
        assert!(!said.contains(gone), "{gone}: {said}");
    }
    // The framing stays, whatever Connection says.
    let mut client = pair.connect();
    let content = json!({ "message": "hello" }).to_string();
    let length = content.len();
    client.send(format!(
        "POST /add-message HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: {length}\r\n\r\n{content}"
    ));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_client_cannot_speak_for_itself() {
    let pair = Pair::start("12-in-front", &[]);
    let forged = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
                  X-Forwarded-Host: evil.example\r\nConnection: X-Forwarded-For\r\n";
    let said = pair.who(forged);
    assert!(said.starts_with("client 127.0.0.1, host chat.example, scheme http\n"), "{said}");
    assert!(!said.contains("203.0.113.9") && !said.contains("evil.example"), "{said}");
}

#[test]
fn each_event_is_passed_on_when_it_comes() {
    let pair = Pair::start("12-in-front", &[]);
    let mut client = pair.stream("");
    for text in ["one", "two"] {
        pair.say(text);
        assert_eq!(client.event().data, text);
    }
}

#[test]
fn a_buffer_holds_a_stream_back_until_it_is_full() {
    let pair = Pair::start("12-in-front", &["--buffer", "4096"]);
    let mut client = pair.connect();
    client.send_get("/events");
    client.head_alone();
    pair.say("held");
    expect_silence(&mut client);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (0..5).for_each(|_| _ = pair.say(&"x".repeat(1000)));
    assert_eq!(client.any_event().name, "position");
    assert_eq!(client.event().data, "held");
}

#[test]
fn an_upgrade_is_passed_on_or_lost() {
    let pair = Pair::start("12-in-front", &[]);
    let mut socket = pair.connect();
    socket.upgrade("/ws");
    socket.send_frame(Opcode::Text, "hello");
    assert_eq!(socket.frame().text(), "hello");
    socket.send_frame(Opcode::Close, [3, 232]);
    assert_eq!(socket.frame().close().0, 1000);
    socket.expect_end();

    // A refused upgrade is an answer that ends.
    let mut client = pair.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!((client.answer().status, client.read_to_end()), (426, vec![]));

    let losing = before(pair.server.address.port(), "12-in-front", &["--upgrade", "lose"]);
    let mut client = Client::connect(losing.address);
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.answer().status, 400);
}

#[test]
fn silence_is_cut_and_a_heartbeat_prevents_it() {
    let pair = Pair::with_server(&["--heartbeat", "3600"], "12-in-front", &["--cut", "1"]);
    let mut client = pair.stream("");
    let id = pair.say("one");
    assert_eq!(client.event().data, "one");
    // No last chunk: the client knows that the answer is not whole.
    assert_eq!(client.read_to_end(), b"");
    pair.say("two");
    let mut client = pair.stream(&format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(client.event().data, "two");

    let beating = Pair::with_server(&["--heartbeat", "1"], "12-in-front", &["--cut", "2"]);
    let mut client = beating.stream("");
    for _ in 0..4 {
        assert_eq!(client.chunk_text(), ": still here\n\n");
    }
}

#[test]
fn answers_that_announce_another_are_passed_on() {
    let (server, proxy) = played(&[]);
    let mut client = Client::connect(proxy.address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let mut served = Client::of(server.accept().unwrap().0);
    assert_eq!(field(&served.head_alone(), "Expect"), Some("100-continue"));
    served.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hi");
    assert_eq!(served.read_exactly(2), b"hi");
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nho");
    let answer = client.answer();
    assert_eq!((answer.text(), answer.field("Connection"), answer.field("Keep-Alive")), ("ho", Some("close"), None));
}

#[test]
fn a_server_that_does_not_listen_gets_502_and_what_is_no_head_is_not_passed_on() {
    let (server, proxy) = played(&[]);
    for wrong in
        ["GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nx"]
    {
        let mut client = Client::connect(proxy.address);
        client.send(wrong).finish();
        client.expect_end();
    }
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().map_err(|error| error.kind()).unwrap_err(), ErrorKind::WouldBlock);
    drop(server);
    assert_eq!(Client::connect(proxy.address).send_get("/").answer().status, 502);
}

// The bugs of the broken proxy.

#[test]
fn broken_passes_on_polls_and_no_streams() {
    let pair = Pair::start("12-broken", &[]);
    assert!(pair.who("").contains("host: 127.0.0.1:"));
    let mut client = pair.connect();
    client.send_get("/events");
    pair.say("lost in a buffer");
    expect_silence(&mut client);
}

#[test]
fn broken_loses_the_upgrade_and_the_host_and_believes_the_client() {
    let pair = Pair::start("12-broken", &[]);
    let mut client = pair.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let content = json!({ "message": "hello" }).to_string();
    for (proxy, status) in [(&pair.proxy, 403), (&before(pair.server.address.port(), "12-in-front", &[]), 200)] {
        let (mut client, length) = (Client::connect(proxy.address), content.len());
        client.send(format!(
            "POST /add-message HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Length: {length}\r\n\r\n{content}",
            proxy.address
        ));
        assert_eq!(client.answer().status, status);
    }
    assert!(pair.who("X-Forwarded-For: 203.0.113.9\r\n").starts_with("client 203.0.113.9, "));
}
