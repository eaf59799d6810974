//! `/api/tap`: a page is shown the raw bytes of the exchanges that it marked, and of no others.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Client, TestServer, masked_frame};
use overwire::websocket::{Opcode, encode_key, opening_request};
use serde_json::{Value, json};

const ID: &str = "0123456789abcdef";

/// A viewer that has been told that its tap is open.
struct Viewer {
    client: Client,
}

impl Viewer {
    fn open(server: &TestServer, id: &str) -> Self {
        let mut client = server.websocket(&format!("/api/tap?tap={id}"));
        assert_eq!(client.message().json(), json!({ "type": "open", "chaos": false }));
        Viewer { client }
    }

    fn next(&mut self) -> Value {
        self.client.message().json()
    }

    /// Events up to the end of an exchange of this label.
    fn until_end(&mut self, label: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let is_end = event["type"] == "end" && event["label"] == label;
            events.push(event);
            if is_end {
                return events;
            }
        }
    }

    /// Events until those of one side come to so many bytes.
    fn until_bytes(&mut self, from: &str, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while bytes_of(&events, from).len() < count {
            events.push(self.next());
        }
        events
    }
}

fn decode(value: &Value) -> Vec<u8> {
    STANDARD.decode(value["bytes"].as_str().unwrap()).unwrap()
}

fn pieces_of<'a>(events: &'a [Value], from: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["from"] == from).flat_map(|event| event["pieces"].as_array().unwrap())
}

/// What one side sent, put together; lines inside of content must come to the same.
fn bytes_of(events: &[Value], from: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces_of(events, from) {
        let bytes = decode(piece);
        if let Some(lines) = piece["lines"].as_array() {
            assert_eq!(lines.iter().flat_map(decode).collect::<Vec<_>>(), bytes, "{piece}");
        }
        all.extend(bytes);
    }
    all
}

fn text_of(events: &[Value], from: &str) -> String {
    String::from_utf8(bytes_of(events, from)).unwrap()
}

fn names_of(events: &[Value], from: &str) -> Vec<String> {
    pieces_of(events, from).map(|piece| piece["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_request_and_its_answer_are_shown_byte_for_byte() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let request = format!("GET /health?tap={ID}.h HTTP/1.1\r\nhost:  localhost \r\nConnection: close\r\n\r\n");
    let mut client = server.connect();
    let answer = client.send(&request).read_to_end();
    let events = viewer.until_end("h");
    assert_eq!(text_of(&events, "client"), request);
    assert_eq!(bytes_of(&events, "server"), answer);
    let end = events.last().unwrap();
    assert_eq!((&end["closed"], &end["exchange"]), (&json!(true), &json!(1)));
    let address = client.stream.local_addr().unwrap().to_string();
    assert!(events.iter().all(|event| event["connection"] == *address && event["time"].as_f64() > Some(1e9)));
    let expected = ["request line", "field line", "field line", "end of head", "end of message"];
    assert_eq!(names_of(&events, "client"), expected);
    assert_eq!(events[0]["pieces"][0]["section"], "RFC 9112, section 3");
}

#[test]
fn a_stream_is_shown_as_it_is_written() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.connect();
    client.send_get(&format!("/api/events?tap={ID}.sse&client_id=me"));
    let mut raw = client.head().into_bytes();
    server.publish("general", "first");
    server.publish("general", "second");
    raw.extend(client.read_until("second").into_bytes());
    server.connect().send("DELETE /api/client/me HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    raw.extend(client.read_until("0\r\n\r\n").into_bytes());
    let events = viewer.until_end("sse");
    assert_eq!(bytes_of(&events, "server"), raw);
    assert_eq!(events.last().unwrap()["closed"], false);
    let lines = pieces_of(&events, "server").filter_map(|piece| piece["lines"].as_array()).flatten();
    let names: Vec<_> = lines.map(|line| line["name"].as_str().unwrap()).collect();
    let event = ["id field", "event field", "data field", "end of event"];
    assert_eq!(names[names.len() - 8..], [event, event].concat());
}

#[test]
fn a_websocket_is_shown_in_both_directions_with_its_masks() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let frame = masked_frame(true, Opcode::Text, br#"{"sender":"me","text":"early"}"#);
    let ping = masked_frame(true, Opcode::Ping, b"?");
    let target = format!("/api/ws?tap={ID}.ws");
    let request = opening_request("localhost", &target, &encode_key([7; 16]));
    // The first frame comes with the request, the rest behind its answer; the last is cut in two.
    let mut client = server.connect();
    client.send([&request[..], &frame].concat());
    let mut raw = client.head().into_bytes();
    client.send(&ping[..3]);
    let close = masked_frame(true, Opcode::Close, &[3, 232]);
    client.send([&ping[3..], &close].concat());
    raw.extend(client.read_to_end());
    let events = viewer.until_end("ws");
    assert_eq!(bytes_of(&events, "client"), [&request[..], &frame, &ping, &close].concat());
    assert_eq!(bytes_of(&events, "server"), raw);
    assert_eq!(events.last().unwrap()["closed"], true);
    let payload = pieces_of(&events, "client").find(|piece| piece["name"] == "payload").unwrap();
    let expected = (&json!(1), &json!("37fa213d"), &json!(0));
    assert_eq!((&payload["opcode"], &payload["masking_key"], &payload["offset"]), expected);
}

#[test]
fn only_what_is_marked_with_this_id_is_shown() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut other = Viewer::open(&server, "another-id-of-someone");
    let mut client = server.connect();
    // On one connection, some of them together.
    client.get("/health");
    client.get("/health?tap=0123456789abcdeX.h");
    client.get(&format!("/health?tap={ID}"));
    client.get(&format!("/health?tap={ID}."));
    client.get(&format!("/health?tap={ID}.a%20label"));
    let marked = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let requests = ["/health?first", &format!("/health?tap={ID}.h"), "/health?last"].map(marked);
    client.send(requests.concat());
    let answers = [client.answer(), client.answer(), client.answer()];
    let events = viewer.until_end("h");
    let shown = text_of(&events, "server");
    assert_eq!(shown, answers[1].head.clone() + answers[1].text());
    assert!(text_of(&events, "client").starts_with("GET /health?tap="), "{events:?}");
    assert_eq!(events.last().unwrap()["closed"], false);
    // Nothing came before that, and nothing behind it.
    client.get("/health?tap=another-id-of-someone.x");
    assert_eq!(other.until_end("x")[0]["exchange"], 1);
    client.get(&format!("/health?tap={ID}.next"));
    assert_eq!(viewer.next()["label"], "next");
}

#[test]
fn of_pipelined_requests_each_is_shown_with_its_answer() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let labels = ["a", "b", "c"];
    let requests = labels.map(|label| format!("GET /health?tap={ID}.{label} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let mut client = server.connect();
    client.send(requests.concat());
    for (label, request) in labels.iter().zip(requests) {
        let (events, answer) = (viewer.until_end(label), client.answer());
        assert_eq!(text_of(&events, "client"), request);
        assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    }
}

#[test]
fn content_in_chunks_is_counted_and_not_shown() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let head = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let content = r#"{"sender":"a","text":"b"}"#;
    let mut client = server.connect();
    client.send(format!("{head}{:x}\r\n{content}\r\n0\r\n\r\n", content.len()));
    assert_eq!(client.answer().status, 200);
    let events = viewer.until_end("s");
    assert_eq!(text_of(&events, "client"), head);
    let left_out = events.iter().find(|event| event["type"] == "left_out").expect("it says so");
    assert_eq!(*left_out, json!({ "type": "left_out", "bytes": content.len(), "events": 1 }));
}

#[test]
fn what_was_cut_off_is_shown_as_broken() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.websocket(&format!("/api/ws?tap={ID}.ws"));
    client.send(&masked_frame(true, Opcode::Text, &[b'x'; 200])[..100]);
    viewer.until_bytes("client", 100);
    drop(client);
    let events = viewer.until_end("ws");
    let broken = pieces_of(&events, "client").find(|piece| piece["name"] == "broken").expect("it says so");
    assert_eq!(broken["meaning"], "the connection ended inside of a frame");
    assert_eq!(events.last().unwrap()["closed"], true);
}

#[test]
fn a_viewer_that_does_not_read_is_told_how_much_it_missed() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.websocket(&format!("/api/ws?tap={ID}.ws"));
    let text = "x".repeat(30_000);
    let mut raw = 0;
    // Until more has come than the sockets and the viewer's share of the server's memory can hold.
    while raw < 24 * 1024 * 1024 {
        client.send_text(&json!({ "sender": "me", "text": text }).to_string());
        raw += 2 * client.frame().payload.len();
    }
    server.publish("general", "the last");
    client.frame();
    let (mut shown, mut left_out) = (0, 0);
    loop {
        let event = viewer.next();
        if event["type"] == "left_out" {
            left_out += event["bytes"].as_u64().unwrap();
            assert!(event["events"].as_u64() > Some(0));
        }
        shown += bytes_of(std::slice::from_ref(&event), "server").len();
        if event["type"] == "left_out" && shown > 0 {
            break;
        }
    }
    assert!(left_out > 1024 * 1024, "{raw} bytes, of which {shown} shown, {left_out} left out");
    // From here on it sees all again.
    drop(client);
    viewer.until_end("ws");
    let mut client = server.connect();
    client.get(&format!("/health?tap={ID}.h"));
    viewer.until_end("h");
}

#[test]
fn the_newest_viewer_of_an_id_wins() {
    let server = TestServer::start();
    let mut first = Viewer::open(&server, ID);
    let mut stream = server.connect();
    stream.send_get(&format!("/api/stream?tap={ID}.s")).head();
    let mut second = Viewer::open(&server, ID);
    loop {
        let frame = first.client.message();
        if frame.opcode == Opcode::Close {
            assert_eq!(frame.close(), (1000, "superseded".into()));
            break;
        }
    }
    // What the first one looked at is not shown to the second: it has not seen the beginning.
    server.publish("general", "hello");
    stream.chunk();
    server.get(&format!("/health?tap={ID}.h"));
    let events = second.until_end("h");
    assert!(events.iter().all(|event| event["label"] == "h" && event["exchange"] == 1), "{events:?}");
}

#[test]
fn nothing_is_copied_for_a_viewer_that_is_gone() {
    let server = TestServer::start();
    let viewer = Viewer::open(&server, ID);
    let mut stream = server.connect();
    stream.send_get(&format!("/api/stream?tap={ID}.s")).head();
    drop(viewer);
    server.wait_for("the viewer to be gone", |stats| stats["connections"] == 2);
    server.publish("general", "hello");
    assert!(stream.chunk_text().contains("hello"));
    let mut viewer = Viewer::open(&server, ID);
    server.get(&format!("/health?tap={ID}.h"));
    assert_eq!(viewer.next()["label"], "h");
}

#[test]
fn a_tap_is_refused_where_it_should_be() {
    let server = TestServer::start();
    for (target, complaint) in [
        ("/api/tap", "tap: expected a string of 1 to 128 characters, but it is missing"),
        ("/api/tap?tap=tooshort", "tap: expected 16 to 64 letters"),
        ("/api/tap?tap=0123456789abcde.f", "tap: expected 16 to 64 letters"),
    ] {
        let answer = server.get(target);
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.json()["error"].as_str().unwrap().starts_with(complaint), "{}", answer.text());
    }
    assert_eq!(server.get(&format!("/api/tap?tap={ID}")).status, 400);
    let request = String::from_utf8(opening_request("localhost", &format!("/api/tap?tap={ID}"), &encode_key([7; 16])));
    let foreign = request.unwrap().replace("Connection:", "Origin: http://evil.example\r\nConnection:");
    assert_eq!(server.connect().send(foreign).answer().status, 403);
}

#[test]
fn there_are_not_too_many_viewers() {
    let server = TestServer::start();
    let viewers: Vec<_> = (0..64).map(|number| Viewer::open(&server, &format!("viewer-number-{number:04}"))).collect();
    let mut one_more = server.websocket(&format!("/api/tap?tap={ID}"));
    assert_eq!(one_more.frame().close(), (1013, "there are too many taps: try again later".into()));
    drop(viewers);
    server.wait_for("the viewers to be gone", |stats| stats["connections"].as_u64() <= Some(2));
    Viewer::open(&server, ID);
}

#[test]
fn a_viewer_sees_at_most_64_exchanges_at_a_time() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut streams: Vec<_> = (0..65).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.send_get(&format!("/api/stream?tap={ID}.s"));
        assert!(stream.head().starts_with("HTTP/1.1 200"));
    }
    streams.truncate(1);
    let mut events = Vec::new();
    while events.iter().filter(|event: &&Value| event["type"] == "end").count() < 63 {
        events.push(viewer.next());
    }
    server.get(&format!("/health?tap={ID}.h"));
    events.extend(viewer.until_end("h"));
    let left_out = events.iter().find(|event| event["type"] == "left_out").expect("it says so");
    assert_eq!(*left_out, json!({ "type": "left_out", "bytes": 0, "events": 1 }));
}

#[test]
fn what_a_viewer_says_without_chaos_is_refused() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    viewer.client.send_text(r#"{"fault": "restart"}"#);
    assert_eq!(viewer.next(), json!({ "type": "error", "error": "faults are off: start the server with --chaos" }));
}

#[test]
fn an_interim_response_is_shown_between_head_and_content() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let fields = "Host: localhost\r\nExpect: 100-continue\r\n";
    let content = r#"{"sender":"a","text":"b"}"#;
    let mut client = server.connect();
    for framing in [format!("Content-Length: {}", content.len()), "Transfer-Encoding: chunked".into()] {
        let head = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\n{fields}{framing}\r\n\r\n");
        let interim = client.send(&head).head();
        let is_chunked = framing.starts_with("Transfer");
        let sent = if is_chunked { format!("19\r\n{content}\r\n0\r\n\r\n") } else { content.into() };
        let answer = client.send(sent).answer();
        let events = viewer.until_end("s");
        let order: Vec<_> = events.iter().map(|event| event["from"].as_str().or(event["type"].as_str())).collect();
        let second = if is_chunked { "left_out" } else { "client" };
        assert!(order.starts_with(&[Some("client"), Some("server")]) && order.contains(&Some(second)), "{order:?}");
        assert_eq!(text_of(&events, "server"), interim + &answer.head + answer.text());
        assert_eq!(text_of(&events, "client"), if is_chunked { head } else { head + content });
    }
    // A client that did not wait is not told, and none is shown.
    let request = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\n{fields}Content-Length: 25\r\n\r\n{content}");
    let answer = client.send(&request).answer();
    let events = viewer.until_end("s");
    assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    assert_eq!(text_of(&events, "client"), request);
}

#[test]
fn of_a_large_answer_as_much_is_shown_as_may_wait() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let text = "x".repeat(60_000);
    (0..4).for_each(|_| drop(server.publish("general", &text)));
    let request = format!("GET /api/messages?tap={ID}.m HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = server.connect().send(&request).answer();
    let events = viewer.until_end("m");
    assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    // Of more than that much of the beginning is shown, and the rest is counted.
    (0..12).for_each(|_| drop(server.publish("general", &text)));
    let answer = server.connect().send(&request).answer();
    let mut events = viewer.until_end("m");
    let is_told = |event: &Value| event["type"] == "left_out";
    while !events.iter().any(is_told) {
        events.push(viewer.next());
    }
    let left_out: u64 = events.iter().filter_map(|event| event["bytes"].as_u64()).sum();
    let (shown, all) = (text_of(&events, "server"), answer.head.clone() + answer.text());
    assert!(shown.starts_with(&answer.head) && shown.len() > 300_000, "{} bytes", shown.len());
    assert_eq!(shown.len() as u64 + left_out, all.len() as u64);
}

#[test]
fn each_time_something_is_left_out_it_is_told_by_itself() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut streams: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.send_get(&format!("/api/stream?tap={ID}.s")).head();
    }
    for _ in 0..3 {
        server.get(&format!("/health?tap={ID}.h"));
        let left_out = loop {
            let event = viewer.next();
            if event["type"] == "left_out" {
                break event;
            }
        };
        assert_eq!(left_out, json!({ "type": "left_out", "bytes": 0, "events": 1 }));
    }
}

#[test]
fn a_frame_behind_a_request_that_came_in_pieces_is_shown() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let request = opening_request("localhost", &format!("/api/ws?tap={ID}.ws"), &encode_key([7; 16]));
    let frame = masked_frame(true, Opcode::Text, br#"{"type":"heartbeat"}"#);
    let (first, rest) = request.split_at(20);
    let mut client = server.connect();
    client.send(first);
    server.get("/health");
    client.send([rest, &frame].concat());
    let all = [&request[..], &frame].concat();
    let events = viewer.until_bytes("client", all.len());
    assert_eq!(bytes_of(&events, "client"), all);
}

#[test]
fn the_answer_to_a_close_of_the_servers_is_shown() {
    let server = TestServer::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.websocket(&format!("/api/ws?client_id=me&tap={ID}.ws"));
    server.connect().send("DELETE /api/client/me HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    assert_eq!(client.frame().close(), (1000, "disconnected".into()));
    let close = masked_frame(true, Opcode::Close, &[3, 232]);
    client.send(&close).expect_end();
    let events = viewer.until_end("ws");
    assert!(bytes_of(&events, "client").ends_with(&close));
}
