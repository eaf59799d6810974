//! Lesson 04, HTTP streaming: its server, and a client that takes a chunk for a message.

#[path = "../../lessons/04-http-streaming/main.rs"]
#[allow(dead_code)]
mod main;

use std::process::Command;

use overwire::Limits;
use serde_json::{Value, json};

use crate::common::{Client, TestServer};
use crate::lesson::{
    FOREIGN, add, expect_content_errors, expect_ended_streams_forgotten, expect_not_allowed, expect_page, program,
    serve,
};

fn start() -> TestServer {
    serve(main::serve)
}

/// Begins a stream and reads its head.
fn begin(server: &TestServer, target: &str) -> Client {
    let mut client = server.connect();
    let head = client.send_get(target).head_alone();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    client
}

fn next_line(client: &mut Client) -> Value {
    serde_json::from_str(&client.chunk_text()).unwrap()
}

#[test]
fn a_message_is_one_line_in_one_chunk() {
    let server = start();
    let mut client = server.connect();
    let head = client.send_get("/stream").head_alone();
    for field in ["application/x-ndjson", "no-store", "Transfer-Encoding: chunked", "X-Accel-Buffering: no"] {
        assert!(head.contains(field), "{head}");
    }
    for text in ["one", "two\r\nlines", "Gr\u{fc}\u{df}e \u{2028} \"\\"] {
        let id = add(&server, text);
        let chunk = client.chunk_text();
        assert_eq!((chunk.find('\n'), chunk.find('\r')), (Some(chunk.len() - 1), None), "{chunk:?}");
        assert_eq!(serde_json::from_str::<Value>(&chunk).unwrap(), json!({ "id": id, "text": text }));
    }
}

#[test]
fn streams_begin_at_the_tip_or_after_their_cursor() {
    let server = start();
    let cursor = add(&server, "one");
    add(&server, "two");
    let mut without = begin(&server, "/stream");
    let mut empty = begin(&server, "/stream?last_message_id=");
    let mut with = begin(&server, &format!("/stream?last_message_id={cursor}"));
    add(&server, "three");
    assert_eq!(next_line(&mut without)["text"], "three");
    assert_eq!(next_line(&mut empty)["text"], "three");
    assert_eq!([next_line(&mut with)["text"].clone(), next_line(&mut with)["text"].clone()], ["two", "three"]);
}

#[test]
fn resuming_clients_miss_nothing() {
    let server = start();
    let mut cursor = add(&server, "0");
    for number in 1..20 {
        let mut client = begin(&server, &format!("/stream?last_message_id={cursor}"));
        add(&server, &number.to_string());
        let message = next_line(&mut client);
        assert_eq!(message["text"], number.to_string());
        cursor = message["id"].as_str().unwrap().to_owned();
    }
}

#[test]
fn unknown_cursors_get_recovered_false_and_all_retained_messages() {
    let server = start();
    let first = add(&server, "0");
    let last = (1..=101).fold(String::new(), |_, number| add(&server, &number.to_string()));
    for cursor in [&first, FOREIGN] {
        let mut client = begin(&server, &format!("/stream?last_message_id={cursor}"));
        let notice = next_line(&mut client);
        assert_eq!(notice["recovered"], false);
        let from = notice["last_message_id"].as_str().unwrap();
        let mut resumed = begin(&server, &format!("/stream?last_message_id={from}"));
        for number in 2..=101 {
            assert_eq!(next_line(&mut client)["text"], number.to_string());
            assert_eq!(next_line(&mut resumed)["text"], number.to_string());
        }
    }
    let mut up_to_date = begin(&server, &format!("/stream?last_message_id={last}"));
    add(&server, "new");
    assert_eq!(next_line(&mut up_to_date)["text"], "new");
}

#[test]
fn rechunked_stream_has_the_same_bytes() {
    let server = start();
    let cursor = add(&server, "the beginning");
    let mut plain = begin(&server, "/stream");
    let mut live = begin(&server, "/stream?rechunk=7");
    for text in ["Gr\u{fc}\u{df}e", "hello"] {
        add(&server, text);
        let line = plain.chunk().unwrap();
        let pieces: Vec<_> = line.chunks(7).map(|_| live.chunk().unwrap()).collect();
        assert!(pieces.iter().rev().skip(1).all(|piece| piece.len() == 7), "{pieces:?}");
        assert_eq!(pieces.concat(), line);
    }
    let mut joined = begin(&server, &format!("/stream?rechunk=1000&last_message_id={cursor}"));
    assert_eq!(joined.chunk_text().lines().count(), 2, "messages that go out together share a chunk");
}

#[test]
fn line_readers_get_every_message_in_any_chunking() {
    let server = start();
    let cursor = add(&server, "the beginning");
    let texts: Vec<_> = (0..30).map(|number| format!("\u{20ac}\u{1f980} {}", "x".repeat(number))).collect();
    texts.iter().for_each(|text| _ = add(&server, text));
    for size in [1, 2, 7, 56, 1000] {
        let mut client = begin(&server, &format!("/stream?rechunk={size}&last_message_id={cursor}"));
        let (mut rest, mut received) = (Vec::new(), Vec::new());
        while received.len() < texts.len() {
            rest.extend(client.chunk().unwrap());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&line).unwrap();
                received.push(message["text"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(received, texts, "in chunks of {size}");
    }
}

/// Returns the lines that the broken client prints for a stream with these parameters.
fn broken(server: &TestServer, parameters: &str) -> Vec<String> {
    let cursor = add(server, "the beginning");
    ["Gr\u{fc}\u{df}e", "two", "three", "four"].iter().for_each(|text| _ = add(server, text));
    let (port, target) = (server.address.port(), format!("/stream?last_message_id={cursor}{parameters}"));
    let output = Command::new(program("04-broken")).args(["--port", &port.to_string(), &target]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn broken_client_works_without_rechunking() {
    let server = start();
    let lines = broken(&server, "");
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.contains("a message")), "{lines:#?}");
}

#[test]
fn broken_client_gets_nothing_when_chunks_are_split() {
    let server = start();
    let lines = broken(&server, "&rechunk=7");
    assert_eq!(lines[0], r#"chunk 1, 7 bytes: not JSON, {"id":""#);
    // A piece of an id may be a number by itself, but it is never the message.
    assert!(lines.iter().all(|line| !line.contains("a message, \"")), "{lines:#?}");
    let halves = broken(&server, "&rechunk=56");
    assert!(halves[0].ends_with("\"Gr\u{fffd}"), "half a character: {halves:#?}");
}

#[test]
fn broken_client_gets_nothing_when_chunks_are_joined() {
    let server = start();
    let lines = broken(&server, "&rechunk=70");
    assert!(lines.iter().all(|line| !line.contains("a message")), "{lines:#?}");
}

#[test]
fn heartbeat_is_an_empty_line_every_15_seconds() {
    let server = start();
    let mut client = begin(&server, "/stream");
    let mut cut = begin(&server, "/stream?rechunk=7");
    server.advance(14);
    add(&server, "not yet");
    assert_eq!(next_line(&mut client)["text"], "not yet");
    for _ in 0..3 {
        server.advance(15);
        assert_eq!(client.chunk_text(), "\n");
    }
    while cut.chunk_text() != "\n" {}
}

/// An ended stream is forgotten at once, not with its next heartbeat.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn ended_streams_are_forgotten() {
    expect_ended_streams_forgotten("04-http-streaming", "/stream");
}

#[test]
fn http_1_0_clients_get_lines_without_chunks() {
    let server = start();
    let mut client = server.connect();
    let head = client.send("GET /stream?rechunk=9 HTTP/1.0\r\n\r\n").head_alone();
    assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close"), "{head}");
    let id = add(&server, "old");
    assert_eq!(client.read_until("\n"), format!("{}\n", json!({ "id": id, "text": "old" })));
    server.shut_down();
    client.expect_end();
}

#[test]
fn shutdown_ends_streams() {
    let server = start();
    let mut client = begin(&server, "/stream");
    server.shut_down();
    assert_eq!(client.chunk(), None);
    client.expect_end();
}

#[test]
fn head_requests_get_the_head_alone() {
    let server = start();
    let mut client = server.connect();
    let head = client.send("HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").head_alone();
    assert!(head.contains("application/x-ndjson"), "{head}");
    add(&server, "not for it");
    assert_eq!(client.get("/nothing").status, 404, "no content follows that head");
}

#[test]
fn slow_consumers_are_cut_off_detectably() {
    let limits = Limits { outbox: 16 * 1024, ..Limits::default() };
    let server = TestServer::of_loop(limits, main::serve);
    let mut slow = begin(&server, "/stream");
    let mut sender = server.connect();
    let content = json!({ "message": "\u{20ac}".repeat(1000) }).to_string();
    for _ in 0..3000 {
        assert_eq!(sender.post("/add-message", &content).status, 200);
    }
    let received = slow.read_to_end();
    assert!(!received.is_empty() && !received.ends_with(b"\r\n0\r\n\r\n"), "no last-chunk: it was not complete");
}

#[test]
fn errors_say_what_is_wrong() {
    let server = start();
    expect_content_errors(&server);
    for query in ["last_message_id=7", "rechunk=0", "rechunk=1001", "rechunk=%2B7", "rechunk=", "rechunk=x"] {
        let answer = server.get(&format!("/stream?{query}"));
        let name = query.split('=').next().unwrap();
        assert!(answer.status == 400 && answer.text().contains(name), "{answer:?}");
    }
    expect_not_allowed(&server.post("/stream", ""), "GET, HEAD");
    expect_not_allowed(&server.get("/add-message"), "POST");
    expect_page(&server, "04 HTTP streaming");
}
