//! Lesson 01: each of its answers, and the broken server's answers to the same bytes.

use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::Duration;

use crate::common::{Answer, Client, Running};
use crate::{common, lesson};

const MAIN: &str = "01-http";
const BROKEN: &str = "01-broken";

/// Sends one request on a new connection.
fn ask(server: &Running, request: &str) -> Answer {
    Client::connect(server.address).send(request).answer()
}

#[test]
fn content_is_echoed_with_its_type() {
    let server = lesson::start(MAIN);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\n";
    let content = "\0\r\n\u{e9}!";
    let answer = ask(&server, &format!("{head}{content}"));
    assert_eq!((answer.status, answer.text()), (200, content));
    assert_eq!(answer.field("Content-Type"), Some("text/plain"));
    assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
}

#[test]
fn content_without_a_type_is_octet_stream() {
    let answer = Client::connect(lesson::start(MAIN).address).post("/", "hello");
    assert_eq!(answer.field("Content-Type"), Some("application/octet-stream"));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn echo_lists_the_parts_of_a_request_in_order() {
    let server = lesson::start(MAIN);
    let request =
        "PUT /echo?a=%20b HTTP/1.1\r\nhost: x\r\nX-One:   1  \r\nX-Two:\r\nX-One: 3\r\nContent-Length: 2\r\n\r\nhi";
    let answer = ask(&server, request);
    assert_eq!(
        answer.text(),
        "method   PUT\ntarget   /echo?a=%20b\nversion  HTTP/1.1\nfield    host: x\nfield    X-One: 1\nfield    X-Two: \n\
         field    X-One: 3\nfield    Content-Length: 2\ncontent  2 bytes\n"
    );
    assert_eq!(answer.field("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    assert!(ask(&server, "GET /echo HTTP/1.0\r\n\r\n").text().contains("version  HTTP/1.0\n"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = lesson::start(MAIN);
    let both = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /echo HTTP/1.1\r\nHost: x\r\n\r\n";
    for bytewise in [false, true] {
        let mut client = Client::connect(server.address);
        if bytewise {
            client.send_bytewise(both)
        } else {
            client.send(both)
        };
        assert_eq!(client.answer().text(), "hello");
        assert_eq!(
            client.answer().text(),
            "method   GET\ntarget   /echo\nversion  HTTP/1.1\nfield    Host: x\ncontent  0 bytes\n"
        );
    }
}

#[test]
fn chunks_are_joined() {
    let server = lesson::start(MAIN);
    let request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\nT: u\r\n\r\n";
    assert_eq!(ask(&server, request).text(), "hello, world");
}

#[test]
fn expecting_clients_get_100_continue() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("hello").answer().text(), "hello");
}

#[test]
fn head_is_get_without_content() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    let length = client.get("/").content.len();
    let head = client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").head();
    assert!(head.contains(&format!("\r\nContent-Length: {length}\r\n")), "{head}");
    assert_eq!(client.get("/echo").status, 200, "no content follows that head");
}

/// Its Content-Length would have to be that of the answer to a GET (RFC 9110, section 8.6), which lists another
/// method.
#[test]
fn head_is_refused_where_it_cannot_match_get() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    let head = client.send("HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    let allowed = common::field(&head, "Allow").expect("an Allow field").to_owned();
    for method in allowed.split(", ") {
        let answer = client.send(format!("{method} /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).answer();
        assert!(answer.status == 200 && answer.text().contains(&format!("method   {method}\n")), "{answer:?}");
    }
}

#[test]
fn each_error_has_its_status() {
    let server = lesson::start(MAIN);
    let long = "x".repeat(17_000);
    let cases: [(u16, &str); 11] = [
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
        (400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello"),
        (400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (404, "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (405, "DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"),
        (431, &format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")),
        (501, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    ];
    for (status, request) in cases {
        let mut client = Client::connect(server.address);
        let answer = client.send(request).answer();
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.json()["type"], "error");
        assert_eq!(answer.field("Connection"), Some("close"), "{request}");
        client.finish();
        client.expect_end();
    }
    let answer = ask(&server, "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.field("Allow"), Some("GET, HEAD, POST"));
}

#[test]
fn input_after_an_ambiguous_request_is_not_answered() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    let request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = client.send(format!("{request}GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")).answer();
    assert_eq!(answer.status, 400);
    client.finish();
    client.expect_end();
}

#[test]
fn truncated_requests_are_refused() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel").finish();
    assert_eq!(client.answer().status, 400);
}

#[test]
fn page_is_served() {
    let server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    let page = client.get("/");
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<title>01 "));
    assert_eq!(client.get("/page.css").field("Content-Type"), Some("text/css; charset=utf-8"));
    assert_eq!(client.get("/other").json()["error"], "there is nothing at /other");
}

#[test]
fn ctrl_c_ends_the_server() {
    let mut server = lesson::start(MAIN);
    let mut client = Client::connect(server.address);
    assert_eq!(client.get("/echo").status, 200);
    let pid = server.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    client.expect_end();
    assert!(server.process.wait().unwrap().success());
}

#[test]
fn broken_answers_curl() {
    assert_eq!(Client::connect(lesson::start(BROKEN).address).post("/", "hello").text(), "hello");
}

#[test]
fn broken_loses_content_that_arrives_later() {
    let server = lesson::start(BROKEN);
    let mut client = Client::connect(server.address);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().text(), "", "it does not wait for the content");
}

#[test]
fn broken_takes_a_pipelined_request_for_content() {
    let server = lesson::start(BROKEN);
    let mut client = Client::connect(server.address);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.answer().text(), "helloGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_end();
}

#[test]
fn broken_takes_chunk_sizes_for_content() {
    let server = lesson::start(BROKEN);
    let mut client = Client::connect(server.address);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn broken_is_blocked_by_one_silent_client() {
    let server = lesson::start(BROKEN);
    let silent = Client::connect(server.address);
    let mut client = Client::connect(server.address);
    client.send_post("/", "hello");
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = client.stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    client.stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    drop(silent);
    assert_eq!(client.answer().text(), "hello");
}
