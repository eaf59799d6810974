//! Lesson 02, short polling: every answer of its server, and the client whose polls overlap.

#[allow(dead_code)]
#[path = "../../lessons/02-short-polling/main.rs"]
mod main;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::common::{Answer, Client, Running, TestServer};
use crate::lesson::{
    self, FOREIGN, add, cursor_of, expect_aborted_polls_forgotten, expect_content_errors, expect_error,
    expect_not_allowed, expect_page, program, serve,
};

fn start() -> TestServer {
    serve(main::serve)
}

fn poll(server: &TestServer, cursor: &str) -> Answer {
    server.get(&format!("/api/messages?last_message_id={cursor}"))
}

#[test]
fn empty_feed_is_answered_at_once() {
    let server = start();
    let answer = server.get("/api/messages");
    let json = answer.json();
    assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("no-store")));
    assert_eq!(
        (&json["messages"], &json["recovered"], &json["stopPolling"]),
        (&json!([]), &json!(true), &json!(false))
    );
    let tip = json["last_message_id"].as_str().unwrap();
    add(&server, "one");
    assert_eq!(poll(&server, tip).texts(), ["one"]);
    server.stop();
}

#[test]
fn polls_get_the_messages_after_their_cursor() {
    let server = start();
    let first = add(&server, "one");
    let second = add(&server, "two");
    let json = poll(&server, &first).json();
    assert_eq!(json["messages"], json!([{ "id": second, "text": "two" }]));
    assert_eq!((&json["last_message_id"], &json["recovered"]), (&second.as_str().into(), &true.into()));
    assert_eq!(poll(&server, &first).texts(), ["two"], "each time with this cursor");
    assert_eq!(poll(&server, &second).texts(), [""; 0]);
    assert_eq!(poll(&server, "").texts(), ["one", "two"], "without a cursor, from the beginning");
}

#[test]
fn unknown_cursors_get_recovered_false() {
    let server = start();
    let first = add(&server, "first");
    for number in 0..101 {
        add(&server, &number.to_string());
    }
    for cursor in [&first, FOREIGN] {
        let answer = poll(&server, cursor);
        assert_eq!(answer.json()["recovered"], false, "{cursor}");
        assert_eq!((answer.texts().len(), &*answer.texts()[0]), (100, "1"), "{cursor}");
    }
    let beginning = server.get("/api/messages");
    assert_eq!((beginning.texts().len(), &beginning.json()["recovered"]), (100, &true.into()));
}

#[test]
fn errors_name_the_wrong_input() {
    let server = start();
    expect_content_errors(&server);
    for (query, complaint) in [
        ("last_message_id=7", "last_message_id: expected the id of a message, not \"7\""),
        ("delay=-1", "delay: expected a whole number from 0 to 5000, not \"-1\""),
        ("delay=%2B5", "delay: "),
        ("delay=", "delay: "),
        ("delay=5001", "delay: "),
        ("delay=99999999999999999999", "delay: "),
    ] {
        expect_error(&server.get(&format!("/api/messages?{query}")), complaint);
    }
    assert_eq!(server.get("/api/messages").texts(), ["é".repeat(1000)], "nothing else was added");
}

#[test]
fn wrong_methods_get_an_allow_field() {
    let server = start();
    for (answer, allowed) in [(server.post("/api/messages", ""), "GET, HEAD"), (server.get("/add-message"), "POST")] {
        expect_not_allowed(&answer, allowed);
    }
    let mut client = server.connect();
    let head = client.send("HEAD /api/messages HTTP/1.1\r\nHost: localhost\r\n\r\n").head();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Length: "), "{head}");
    assert_eq!(client.get("/api/messages").status, 200, "no content follows that head");
}

#[test]
fn page_and_style_are_served() {
    let server = start();
    expect_page(&server, "02 Short polling");
    let module = server.get("/broken.js");
    assert_eq!(module.field("Content-Type"), Some("text/javascript; charset=utf-8"));
    assert!(module.text().contains("export function runBroken"));
}

#[test]
fn slow_database_delays_only_its_own_answer() {
    let server = start();
    add(&server, "one");
    let (mut slower, mut slow) = (server.connect(), server.connect());
    slower.send_get("/api/messages?delay=5000");
    slow.send_get("/api/messages?delay=4000");
    assert_eq!(server.get("/api/messages").texts(), ["one"]);
    add(&server, "two");
    server.advance(4);
    assert_eq!(slow.answer().texts(), ["one"], "the messages at the time of the request");
    assert_eq!(slow.get("/api/messages").texts(), ["one", "two"]);
    server.advance(1);
    assert_eq!(slower.answer().texts(), ["one"]);
}

#[test]
fn slow_answers_to_closed_clients_are_dropped() {
    let server = start();
    let mut slow = server.connect();
    slow.send_get("/api/messages?delay=5000");
    server.get("/api/messages");
    drop(slow);
    server.get("/api/messages");
    server.advance(5);
    add(&server, "one");
    assert_eq!(server.get("/api/messages").texts(), ["one"]);
    server.stop();
}

#[test]
fn shutdown_does_not_wait_for_the_database() {
    let server = start();
    let mut slow = server.connect();
    slow.send_get("/api/messages?delay=5000");
    server.get("/api/messages");
    server.shut_down();
    assert_eq!(slow.answer().status, 200);
    slow.expect_end();
    drop(slow);
    server.stop();
}

/// Runs the program whose polls overlap, against `running`.
fn run_broken(running: &Running) -> Output {
    let port = running.address.port().to_string();
    Command::new(program("02-broken")).args(["--port", &port]).output().unwrap()
}

#[test]
fn overlapping_polls_show_messages_repeatedly() {
    let running = lesson::start("02-short-polling");
    let printed = String::from_utf8(run_broken(&running).stdout).unwrap();
    let summary = printed.lines().last().unwrap();
    assert_eq!(summary, r#"3 messages sent, 9 shown: "one" 3 times, "two" 3 times, "three" 3 times"#, "{printed}");
    let order: Vec<_> = printed.lines().filter_map(|line| line.split_once(": [")).map(|(_, texts)| texts).collect();
    let of = |text: &str| order.iter().position(|shown| *shown == format!("\"{text}\"]"));
    let last_two = order.iter().rposition(|shown| *shown == "\"two\"]");
    assert!(of("three") < last_two, "an answer overtakes another: {printed}");
}

#[test]
fn sequential_polls_show_each_message_once() {
    let server = start();
    let mut client = server.connect();
    let (mut cursor, mut shown) = (String::new(), Vec::new());
    for text in ["one", "two", "three", ""] {
        client.send_get(&format!("/api/messages?last_message_id={cursor}&delay=5000"));
        server.get("/api/messages");
        if !text.is_empty() {
            add(&server, text); // while the poll waits
        }
        server.advance(5);
        let answer = client.answer();
        shown.extend(answer.texts());
        cursor = cursor_of(&answer);
    }
    assert_eq!(shown, ["one", "two", "three"]);
}

#[test]
fn wire_polls_sequentially() {
    let running = lesson::start("02-short-polling");
    let url = format!("http://{}/api/messages?delay=50", running.address);
    let mut wire = Command::new(program("wire"));
    let mut wire = wire.args(["poll", &url, "--interval", "0.01"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut poster = Client::connect(running.address);
    let mut shown = Vec::new();
    let mut answers = 0;
    for line in BufReader::new(wire.stdout.take().unwrap()).lines().map(Result::unwrap) {
        let Some((_, content)) = line.split_once(" content ") else { continue };
        shown.extend(["one", "two", "three"].into_iter().filter(|text| content.contains(&format!("\"{text}\""))));
        answers += 1;
        match answers {
            2 => drop(poster.post("/add-message", r#"{"message": "one"}"#)),
            4 => drop(poster.post("/add-message", r#"{"message": "two"}"#)),
            5 => drop(poster.post("/add-message", r#"{"message": "three"}"#)),
            10 => break,
            _ => {}
        }
    }
    wire.kill().unwrap();
    wire.wait().unwrap();
    assert_eq!(shown, ["one", "two", "three"]);
}

#[test]
fn broken_client_asks_for_its_server() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = Command::new(program("02-broken")).args(["--port", &nobody]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("start the lesson's server first"));
}

/// An aborted poll is forgotten at once, not at its deadline.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn aborted_polls_are_forgotten() {
    expect_aborted_polls_forgotten("02-short-polling", "/api/messages?delay=5000");
}
