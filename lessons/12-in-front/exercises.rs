//! The exercises of lesson 12. Each test fails until you have done it. A thread of the test is the server.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Client, Running, field};

/// A server, and a proxy before it.
fn start(options: &[&str]) -> (TcpListener, Running) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_12-in-front"));
    let command = command.args(["--port", "0", "--to", &to]).args(options).stderr(Stdio::null());
    (server, Running::start(command))
}

fn connect(proxy: &Running) -> Client {
    let client = Client::connect(proxy.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Sends a request through the proxy. Returns the client, the connection of the server, and the head that it got.
fn ask(server: &TcpListener, proxy: &Running, fields: &str) -> (Client, Client, String) {
    let mut client = connect(proxy);
    client.send(format!("GET /events HTTP/1.1\r\nHost: chat.example\r\n{fields}\r\n"));
    let mut served = Client::of(server.accept().unwrap().0);
    let head = served.read_until("\r\n\r\n");
    (client, served, head)
}

/// Exercise 1: an answer with `X-Accel-Buffering: no`, in lower or upper case, is not buffered, whatever `--buffer` says.
/// The field is for the proxy: it is not passed on. All other answers are buffered as before.
#[test]
fn answers_can_refuse_to_be_buffered() {
    let (server, proxy) = start(&["--buffer", "4096"]);
    let (mut client, mut served, _) = ask(&server, &proxy, "");
    served.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-accel-buffering: NO\r\n\r\ndata: one\n\n");
    let head = client.head_alone();
    assert_eq!(client.read_until("\n\n"), "data: one\n\n");
    served.send("data: two\n\n");
    assert_eq!(client.read_until("\n\n"), "data: two\n\n");
    assert_eq!((field(&head, "X-Accel-Buffering"), field(&head, "Content-Type")), (None, Some("text/event-stream")));

    let (mut client, mut served, _) = ask(&server, &proxy, "");
    served.send("HTTP/1.1 200 OK\r\nX-Accel-Buffering: yes\r\n\r\ndata: one\n\n");
    client.head_alone();
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waited = client.stream.read_exact(&mut [0]).map_err(|error| error.kind());
    assert_eq!(waited, Err(ErrorKind::WouldBlock), "it is buffered");
}

/// Exercise 2: a server that has not begun its answer when `--cut` is over gets its client a 504 with a Content-Length. If
/// it ends the connection before its answer, the client gets 502. An answer that has begun just ends.
#[test]
fn silent_servers_get_504() {
    let (server, proxy) = start(&["--cut", "1"]);
    let (mut client, _served, _) = ask(&server, &proxy, "");
    let answer = client.answer();
    assert_eq!((answer.status, field(&answer.head, "Content-Length").is_some()), (504, true), "{answer:?}");
    client.expect_end();

    let (mut client, served, _) = ask(&server, &proxy, "");
    drop(served);
    assert_eq!(client.answer().status, 502);

    let (mut client, mut served, _) = ask(&server, &proxy, "");
    served.send("HTTP/1.1 200 OK\r\n\r\nhalf");
    assert!(client.head_alone().starts_with("HTTP/1.1 200 "));
    assert_eq!(client.read_to_end(), b"half");
}

/// Exercise 3: `--trust ADDRESS` names another proxy before this one. If the connection comes from it, its address is
/// added to the X-Forwarded-For that it has sent, as the last one, after a comma and a space, and what it says in
/// X-Forwarded-Proto and X-Forwarded-Host stays. What it leaves out is set as before. Without the option, and for
/// connections from elsewhere, nothing is believed.
#[test]
fn trusted_proxies_are_believed() {
    let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 198.51.100.7\r\nx-forwarded-proto: https\r\n";
    let forwarded = |head: &str| {
        ["For", "Proto", "Host"].map(|name| {
            let name = format!("X-Forwarded-{name}");
            assert!(head.matches(&name).count() <= 1, "{head}");
            field(head, &name).unwrap_or_default().to_owned()
        })
    };
    let (server, proxy) = start(&["--trust", "127.0.0.1"]);
    let (_client, _served, head) = ask(&server, &proxy, fields);
    assert_eq!(forwarded(&head), ["203.0.113.9, 198.51.100.7, 127.0.0.1", "https", "chat.example"]);
    let (_client, _served, head) = ask(&server, &proxy, "X-Forwarded-Host: other.example\r\n");
    assert_eq!(forwarded(&head), ["127.0.0.1", "http", "other.example"]);
    for options in [&["--trust", "127.0.0.2"][..], &[]] {
        let (server, proxy) = start(options);
        let (_client, _served, head) = ask(&server, &proxy, fields);
        assert_eq!(forwarded(&head), ["127.0.0.1", "http", "chat.example"]);
    }
}
