//! A server behind proxies: the header of the PROXY protocol, and the fields in which a trusted proxy names the client.
//! The client of the test is the proxy.

use std::sync::mpsc;

use overwire::http::Response;
use overwire::proxies::Proxies;
use overwire::server::Config;
use overwire::{Event, EventLoop, Limits, LogFormat, Speaks};

use crate::common::{Client, TestServer};

const LINE: &str = "PROXY TCP4 203.0.113.1 198.51.100.2 4711 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A header of version 2 for 203.0.113.1, with a field that says whether the client speaks TLS.
fn binary(is_secure: bool) -> Vec<u8> {
    let addresses = b"\xcb\0\x71\x01\xc6\x33\x64\x02\x12\x67\x01\xbb";
    let field = [0x20, 0, 5, u8::from(is_secure), 0, 0, 0, 0];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14", &addresses[..], &field].concat()
}

/// A program that answers with the address and the scheme of the client.
fn mirror(speaks: Speaks, trusted: &'static str) -> TestServer {
    TestServer::spawn(move |ready| {
        let mut event_loop = EventLoop::new(Limits::default())?;
        event_loop.listen("127.0.0.1:0", speaks)?;
        event_loop.trust_proxies(Proxies::new([trusted]).unwrap());
        ready(event_loop.local_address(), event_loop.remote());
        loop {
            match event_loop.next_event()? {
                Event::Request(id, request) => {
                    let response = match event_loop.client(id, &request) {
                        Ok(client) => {
                            let address = client.address.unwrap();
                            Response::text(200, format!("{address} {:?} {:?}", client.is_secure, client.host))
                        }
                        Err(error) => Response::error(400, &error.to_string()),
                    };
                    event_loop.respond(id, response);
                }
                Event::Shutdown => return event_loop.drain(),
                _ => {}
            }
        }
    })
}

#[test]
fn a_trusted_proxy_announces_the_client_of_a_connection() {
    let server = mirror(Speaks::Proxied, "127.0.0.0/8");
    for (header, seen) in [
        (LINE.as_bytes(), "203.0.113.1 None None"),
        (&binary(true), "203.0.113.1 Some(true) None"),
        (&binary(false), "203.0.113.1 Some(false) None"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1 None None"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1 None None"),
    ] {
        let whole = [header, GET.as_bytes()].concat();
        let mut client = server.connect();
        assert_eq!(client.send(&whole).answer().text(), seen);
        assert_eq!(client.send(GET).answer().text(), seen, "a second request of the connection");
        assert_eq!(server.connect().send_bytewise(&whole).answer().text(), seen);
    }
}

#[test]
fn an_announcement_of_others_is_not_believed() {
    let server = mirror(Speaks::Proxied, "192.0.2.1");
    let answer = server.connect().send([LINE, GET].concat()).answer();
    assert_eq!(answer.text(), "127.0.0.1 None None");
}

#[test]
fn a_connection_without_a_header_is_closed_without_an_answer() {
    let server = mirror(Speaks::Proxied, "127.0.0.1");
    for bytes in [GET, "\r\n\r\nGET", "PROXY TCP4 203.0.113.1\r\n", "PROXY TCP4 203.0.113.1 198.51.100.2 1 2 3\r\n"] {
        let mut client = server.connect();
        assert_eq!(client.send(bytes).read_to_end(), b"", "{bytes:?}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(server.connect().send(endless).read_to_end(), b"");
}

#[test]
fn a_header_has_a_deadline() {
    let server = mirror(Speaks::Proxied, "127.0.0.1");
    let (mut silent, mut slow) = (server.connect(), server.connect());
    slow.send("PROXY TCP4 203.");
    assert_eq!(server.connect().send([LINE, GET].concat()).answer().status, 200);
    server.advance(Limits::default().head_time.as_secs() + 1);
    assert_eq!(silent.read_to_end(), b"");
    assert_eq!(slow.read_to_end(), b"");
}

#[test]
fn a_connection_without_its_header_does_not_hold_up_the_end() {
    let server = mirror(Speaks::Proxied, "127.0.0.1");
    let mut client = server.connect();
    client.send("PROXY ");
    assert_eq!(server.connect().send([LINE, GET].concat()).answer().status, 200);
    server.stop();
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn a_trusted_proxy_names_the_client_of_a_request() {
    let server = mirror(Speaks::Http, "127.0.0.1");
    let mut client = server.connect();
    for (fields, seen) in [
        ("", "127.0.0.1 None None"),
        ("X-Forwarded-For: 198.51.100.66, 203.0.113.1\r\nX-Forwarded-Proto: https\r\n", "203.0.113.1 Some(true) None"),
        ("Forwarded: for=\"[2001:db8::1]:4711\";host=a;proto=http\r\n", "2001:db8::1 Some(false) Some(\"a\")"),
    ] {
        let answer = client.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).answer();
        assert_eq!((answer.status, answer.text()), (200, seen));
    }
    let other = mirror(Speaks::Http, "192.0.2.1");
    let answer = other.connect().send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n").answer();
    assert_eq!(answer.text(), "127.0.0.1 None None");
}

/// Publishes with these fields, and returns the status.
fn publish(client: &mut Client, fields: &str) -> u16 {
    let content = r#"{"sender":"a","text":"b"}"#;
    let length = content.len();
    let head = format!("POST /api/send HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: {length}\r\n{fields}\r\n");
    client.send(head + content).answer().status
}

fn behind_proxy(config: &mut Config) {
    config.trust_proxies = vec!["127.0.0.1".to_owned()];
    config.allow_hosts = vec!["chat.example".to_owned()];
}

#[test]
fn origin_is_compared_with_the_host_and_the_scheme_of_the_client() {
    let fields = "X-Forwarded-Host: chat.example\r\nX-Forwarded-Proto: https\r\n";
    let server = TestServer::with(behind_proxy);
    let mut client = server.connect();
    for (origin, status) in [
        ("https://chat.example", 200),
        ("https://chat.example:443", 200),
        ("http://chat.example", 403),
        ("https://chat.example:8443", 403),
        ("http://localhost:8000", 403),
    ] {
        assert_eq!(publish(&mut client, &format!("Origin: {origin}\r\n{fields}")), status, "{origin}");
    }
    assert_eq!(publish(&mut client, "X-Forwarded-Host: evil.example\r\n"), 421);
    assert_eq!(publish(&mut client, "Forwarded: for=\"\r\n"), 400);
    assert_eq!(publish(&mut client, "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n"), 400);

    // Without a trusted proxy, they are lies.
    let server = TestServer::with(|config| config.allow_hosts = vec!["chat.example".to_owned()]);
    let mut client = server.connect();
    assert_eq!(publish(&mut client, &format!("Origin: https://chat.example\r\n{fields}")), 403);
    assert_eq!(publish(&mut client, "Forwarded: for=\"\r\n"), 200);
}

#[test]
fn an_announced_scheme_is_compared_with_the_origin() {
    let server = TestServer::with(|config| {
        behind_proxy(config);
        config.proxy_protocol = true;
    });
    for (is_secure, status) in [(true, 200), (false, 403)] {
        let mut client = server.connect();
        client.send(binary(is_secure));
        assert_eq!(publish(&mut client, "Origin: https://localhost:8000\r\n"), status);
    }
}

#[test]
fn only_an_announced_client_of_this_machine_is_an_operator() {
    let connections = "GET /api/connections HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let local = "PROXY TCP4 127.0.0.2 198.51.100.2 4711 443\r\n";
    let of_proxy = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (trusted, header, status) in [
        ("127.0.0.1", local, 200),
        ("127.0.0.1", LINE, 403),
        ("127.0.0.1", "PROXY UNKNOWN\r\n", 403),
        ("127.0.0.1", of_proxy, 403),
        ("192.0.2.1", LINE, 403),
        ("192.0.2.1", local, 403),
    ] {
        let server = TestServer::with(move |config| {
            config.trust_proxies = vec![trusted.to_owned()];
            config.proxy_protocol = true;
        });
        let answer = server.connect().send([header, connections].concat()).answer();
        assert_eq!(answer.status, status, "{header:?} of a peer when {trusted} is trusted");
    }
}

/// A sink that passes its lines on.
struct Lines(mpsc::Sender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned()); // the test may be over
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_log_has_the_address_of_the_client() {
    let (sender, lines) = mpsc::channel();
    let server = TestServer::spawn(move |ready| {
        let mut event_loop = EventLoop::new(Limits::default())?;
        event_loop.listen("127.0.0.1:0", Speaks::Proxied)?;
        event_loop.trust_proxies(Proxies::new(["127.0.0.1", "203.0.113.0/24"]).unwrap());
        event_loop.log_requests(Lines(sender), LogFormat::Text);
        ready(event_loop.local_address(), event_loop.remote());
        loop {
            match event_loop.next_event()? {
                Event::Request(id, _) => event_loop.respond(id, Response::text(200, "hello")),
                Event::Shutdown => return event_loop.drain(),
                _ => {}
            }
        }
    });
    let mut client = server.connect();
    client.send([LINE, GET].concat()).answer();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n").answer();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\r\n\r\n").answer();
    client.send("nonsense\r\n\r\n").answer();
    let mut text = String::new();
    while text.lines().count() < 4 {
        text += &lines.recv_timeout(crate::common::PATIENCE).expect("the log has a line");
    }
    let found: Vec<_> =
        text.lines().map(|line| line.split(" GMT ").nth(1).unwrap().split(" / ").next().unwrap()).collect();
    assert_eq!(found[..3], ["203.0.113.1 GET", "198.51.100.9 GET", "203.0.113.1 GET"]);
    assert!(found[3].starts_with("203.0.113.1 - - 400 "), "{text}");
}
