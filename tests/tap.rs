//! The tap before the server: a page sees the raw bytes of the exchanges that it has marked, and of no others.

use std::time::Instant;

use crate::common::{PATIENCE, TestServer, masked_frame};
use crate::identity::{KeysFile, bearer};
use crate::tapped::{ID, TestTap, Viewer, bytes_of, config, counted, names_of, pieces_of, text_of};
use overwire::tap::{Mode, Tap, TapConfig};
use overwire::websocket::{Opcode, encode_key, opening_request};
use serde_json::{Value, json};

#[test]
fn a_request_and_its_answer_are_shown_byte_for_byte() {
    let server = TestTap::start();
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
    let server = TestTap::start();
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
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let frame = masked_frame(true, Opcode::Text, br#"{"sender":"me","text":"early"}"#);
    let ping = masked_frame(true, Opcode::Ping, b"?");
    let target = format!("/api/ws?tap={ID}.ws");
    let request = opening_request("localhost", &target, &encode_key([7; 16]));
    // The first frame arrives with the request, the others after the answer. The Ping is cut in two.
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
fn only_requests_marked_with_this_id_are_shown() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut other = Viewer::open(&server, "another-id-of-someone");
    let mut client = server.connect();
    // On one connection, the last three in one segment.
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
    // Nothing else is shown.
    client.get("/health?tap=another-id-of-someone.x");
    assert_eq!(other.until_end("x")[0]["exchange"], 1);
    client.get(&format!("/health?tap={ID}.next"));
    assert_eq!(viewer.next()["label"], "next");
}

#[test]
fn each_pipelined_request_is_shown_with_its_answer() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let labels = ["a", "b", "c"];
    let requests = labels.map(|label| format!("GET /health?tap={ID}.{label} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let mut client = server.connect();
    client.send(requests.concat());
    let all = viewer.until_end("c");
    for (label, request) in labels.iter().zip(requests) {
        let answer = client.answer();
        let events: Vec<_> = all.iter().filter(|event| event["label"] == *label).cloned().collect();
        assert_eq!(events.last().unwrap()["type"], "end");
        assert_eq!(text_of(&events, "client"), request);
        assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    }
}

#[test]
fn content_in_chunks_is_shown() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let head = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let content = r#"{"sender":"a","text":"b"}"#;
    let request = format!("{head}{:x};x=y\r\n{content}\r\n0\r\nTrailer: t\r\n\r\n", content.len());
    let mut client = server.connect();
    client.send_bytewise(&request);
    assert_eq!(client.answer().status, 200);
    let events = viewer.until_end("s");
    assert_eq!(text_of(&events, "client"), request);
    let names = names_of(&events, "client");
    assert_eq!(
        names[names.len() - 5..],
        ["end of chunk", "last-chunk", "trailer field", "end of chunks", "end of message"]
    );
}

#[test]
fn a_frame_that_is_cut_off_is_shown_as_broken() {
    let server = TestTap::start();
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
fn a_viewer_that_does_not_read_is_notified_of_what_was_left_out() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.websocket(&format!("/api/ws?tap={ID}.ws"));
    let text = "x".repeat(30_000);
    let mut raw = 0;
    // More bytes than the sockets and the queue of the viewer hold.
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
    // From here on the viewer sees everything.
    drop(client);
    viewer.until_end("ws");
    let mut client = server.connect();
    client.get(&format!("/health?tap={ID}.h"));
    viewer.until_end("h");
}

#[test]
fn the_newest_viewer_of_an_id_wins() {
    let server = TestTap::start();
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
    // The second viewer does not see the exchanges of the first: it has not seen their beginning.
    server.publish("general", "hello");
    stream.chunk();
    server.get(&format!("/health?tap={ID}.h"));
    let events = second.until_end("h");
    assert!(events.iter().all(|event| event["label"] == "h" && event["exchange"] == 1), "{events:?}");
}

#[test]
fn nothing_is_shown_to_a_viewer_that_is_gone() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut stream = server.connect();
    stream.send_get(&format!("/api/stream?tap={ID}.s")).head();
    viewer.until_bytes("server", 1);
    // The tap lifts the faults of a viewer that is gone.
    viewer.command(json!({ "label": "s", "fault": "delay", "value": 60_000 }));
    drop(viewer);
    server.publish("general", "hello");
    assert!(stream.chunk_text().contains("hello"));
    let mut viewer = Viewer::open(&server, ID);
    server.publish("general", "again");
    assert!(stream.chunk_text().contains("again"));
    server.get(&format!("/health?tap={ID}.h"));
    assert_eq!(viewer.next()["label"], "h");
}

#[test]
fn wrong_ids_and_foreign_origins_are_refused() {
    let server = TestTap::start();
    for (target, complaint) in [
        ("/-/tap/view", "tap: expected 16 to 64 letters"),
        ("/-/tap/view?tap=tooshort", "tap: expected 16 to 64 letters"),
        ("/-/tap/view?tap=0123456789abcde.f", "tap: expected 16 to 64 letters"),
    ] {
        let answer = server.get(target);
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.json()["error"].as_str().unwrap().starts_with(complaint), "{}", answer.text());
    }
    assert_eq!(server.get(&format!("/-/tap/view?tap={ID}")).status, 400);
    let request =
        String::from_utf8(opening_request("localhost", &format!("/-/tap/view?tap={ID}"), &encode_key([7; 16])));
    let foreign = request.unwrap().replace("Connection:", "Origin: http://evil.example\r\nConnection:");
    assert_eq!(server.connect().send(foreign).answer().status, 403);
}

#[test]
fn more_than_64_viewers_are_refused() {
    let server = TestTap::start();
    let viewers: Vec<_> = (0..64).map(|number| Viewer::open(&server, &format!("viewer-number-{number:04}"))).collect();
    let mut one_more = server.websocket(&format!("/-/tap/view?tap={ID}"));
    assert_eq!(one_more.frame().close(), (1013, "there are too many taps: try again later".into()));
    drop(viewers);
    let start = Instant::now();
    while server.websocket(&format!("/-/tap/view?tap={ID}")).frame().opcode == Opcode::Close {
        assert!(start.elapsed() < PATIENCE, "the viewers are gone, and there is still no room");
    }
}

#[test]
fn a_viewer_sees_at_most_64_exchanges_at_a_time() {
    let server = TestTap::start();
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
fn an_interim_response_is_shown_between_head_and_content() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let fields = "Host: localhost\r\nExpect: 100-continue\r\n";
    let content = r#"{"sender":"a","text":"b"}"#;
    let mut client = server.connect();
    for framing in [format!("Content-Length: {}", content.len()), "Transfer-Encoding: chunked".into()] {
        let head = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\n{fields}{framing}\r\n\r\n");
        let interim = client.send(&head).head();
        let is_chunked = framing.starts_with("Transfer");
        let sent = if is_chunked { format!("19\r\n{content}\r\n0\r\n\r\n") } else { content.into() };
        let answer = client.send(&sent).answer();
        let events = viewer.until_end("s");
        let order: Vec<_> = events.iter().map(|event| event["from"].as_str().or(event["type"].as_str())).collect();
        assert!(order.starts_with(&[Some("client"), Some("server"), Some("client")]), "{order:?}");
        assert_eq!(text_of(&events, "server"), interim + &answer.head + answer.text());
        assert_eq!(text_of(&events, "client"), head + &sent);
    }
    // A client that sends the content at once gets no interim response.
    let request = format!("POST /api/send?tap={ID}.s HTTP/1.1\r\n{fields}Content-Length: 25\r\n\r\n{content}");
    let answer = client.send(&request).answer();
    let events = viewer.until_end("s");
    assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    assert_eq!(text_of(&events, "client"), request);
}

#[test]
fn all_bytes_are_shown_or_counted() {
    let server = TestTap::start().in_real_time(); // omissions are reported five times in a second
    let mut viewer = Viewer::open(&server, ID);
    let text = "x".repeat(60_000);
    (0..4).for_each(|_| drop(server.publish("general", &text)));
    let request = format!("GET /api/messages?tap={ID}.m HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = server.connect().send(&request).answer();
    let events = viewer.until_end("m");
    assert_eq!(text_of(&events, "server"), answer.head.clone() + answer.text());
    // More bytes than the sockets and the queue of the viewer hold.
    (0..12).for_each(|_| drop(server.publish("general", &text)));
    let mut all = 0;
    for _ in 0..20 {
        let answer = server.connect().send(&request).answer();
        all += request.len() + answer.head.len() + answer.content.len();
    }
    let (mut shown, mut left_out) = (0, 0);
    while shown + left_out < all {
        let event = viewer.next();
        left_out += event["bytes"].as_u64().unwrap_or_default() as usize;
        let event = [event];
        shown += bytes_of(&event, "client").len() + bytes_of(&event, "server").len();
    }
    assert_eq!(shown + left_out, all);
    assert!(shown > 500_000 && left_out > 500_000, "{shown} shown, {left_out} left out");
}

#[test]
fn every_omission_is_reported_by_an_event_of_its_own() {
    let server = TestTap::start().in_real_time(); // omissions are reported five times in a second
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
fn a_frame_after_a_request_in_pieces_is_shown() {
    let server = TestTap::start();
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
fn the_answer_to_a_close_of_the_server_is_shown() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let mut client = server.websocket(&format!("/api/ws?client_id=me&tap={ID}.ws"));
    server.connect().send("DELETE /api/client/me HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    assert_eq!(client.frame().close(), (1000, "disconnected".into()));
    let close = masked_frame(true, Opcode::Close, &[3, 232]);
    client.send(&close).expect_end();
    let events = viewer.until_end("ws");
    assert!(bytes_of(&events, "client").ends_with(&close));
}

#[test]
fn bytes_are_counted_by_kind_without_the_parameter_tap() {
    let server = TestTap::start();
    let mut viewer = Viewer::open(&server, ID);
    let answer = server.get(&format!("/api/messages?room=r&tap={ID}.m"));
    let events = viewer.until_end("m");
    let request = "GET /api/messages?room=r HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(counted(&events, "client"), [0, 0, request.len() as u64, 0]);
    let (head, content) = (answer.head.len() as u64, answer.content.len() as u64);
    assert_eq!(counted(&events, "server"), [0, 0, head, content], "an empty answer");
    server.publish("r", "hello");
    let answer = server.get(&format!("/api/messages?room=r&tap={ID}.m"));
    let (head, content) = (answer.head.len() as u64, answer.content.len() as u64);
    assert_eq!(counted(&viewer.until_end("m"), "server"), [content, 0, head, 0]);
}

/// The text that a viewer sees of a request in two pieces, and of its answer.
fn seen_in_pieces(tap: &TestServer, request: &str, at: usize) -> [String; 2] {
    let mut viewer = Viewer::open(tap, ID);
    let mut client = tap.connect();
    client.send(&request[..at]);
    let mut events = Vec::new();
    let head = request.find("\r\n\r\n").unwrap() + 4;
    if (head + 1..request.len()).contains(&at) {
        events = viewer.until_bytes("client", at); // the first piece is shown by then
    }
    client.send(&request[at..]);
    let answer = client.answer();
    events.extend(viewer.until_end("a"));
    assert_eq!(bytes_of(&events, "server").len(), answer.head.len() + answer.content.len(), "all lengths are true");
    [text_of(&events, "client"), text_of(&events, "server")]
}

#[test]
fn secrets_are_masked_also_in_two_pieces() {
    let keys = KeysFile::create();
    let key = keys.create_key("alice", "read", "*", None);
    let path = keys.0.clone();
    let tap = TestTap::with(|config| config.keys = Some(path));
    let log_in = json!({ "key": key }).to_string();
    let post = |target: &str, fields: &str, content: &str| {
        let length = content.len();
        format!(
            "POST {target}?tap={ID}.a HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{content}"
        )
    };
    let request = post("/api/session", "", &log_in);
    let [client, server] = seen_in_pieces(&tap, &request, request.len() - 20);
    assert!(client.ends_with(&log_in.replace(&key, &"*".repeat(key.len()))), "{client}");
    let cookie = server.split("Set-Cookie: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(cookie.bytes().all(|byte| byte == b'*') && cookie.len() > 40, "{server}");
    assert!(server.contains(r#""name":"alice""#), "an answer without a secret is not masked: {server}");

    let request = post("/api/%73ession", "", &log_in);
    let [client, server] = seen_in_pieces(&tap, &request, request.len());
    assert!(!client.contains(&key) && server.contains(r#""name":"alice""#), "{client}{server}");
    for misplaced in [json!({ "key": [key] }), json!(key), json!({ "key": key.repeat(3) })] {
        let request = post("/api/session", "", &misplaced.to_string());
        let [_, server] = seen_in_pieces(&tap, &request, request.len());
        assert!(server.contains("400 Bad Request") && !server.contains(&key[..20]), "{server}");
    }

    for (path, at) in [("/api/ticket", 20), ("/api/ticket", usize::MAX), ("/api/%74icket", 0)] {
        let request = post(path, &bearer(&key), r#"{"endpoint":"/api/history"}"#);
        let at = request.find(&key).unwrap().saturating_add(at).min(request.len());
        let [client, server] = seen_in_pieces(&tap, &request, at);
        let stars = "*".repeat("Bearer ".len() + key.len());
        assert!(client.contains(&format!("Authorization: {stars}\r\n")) && client.ends_with("history\"}"), "{client}");
        assert!(server.contains(&format!(r#""ticket":"{}""#, "*".repeat(40))), "{server}");
    }

    let ticket = "1123581321345589";
    let request =
        format!("GET /api/history?ticket={ticket}&tap={ID}.a HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n\r\n");
    let [client, _] = seen_in_pieces(&tap, &request, request.find("345589").unwrap());
    assert_eq!(client, request.replace(ticket, "****************").replace("a=b", "***"));
}

#[test]
fn secrets_are_shown_on_request() {
    let server = TestServer::start();
    let target = server.address;
    let tap = TestServer::spawn(move |ready| {
        let tap = Tap::bind(TapConfig { shows_secrets: true, ..config(target, Mode::Marked) })?;
        ready(tap.local_address(), tap.remote());
        tap.run()
    });
    let request = format!(
        "GET /health?ticket=12&tap={ID}.a HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\n{}\r\n",
        bearer("secret")
    );
    assert_eq!(seen_in_pieces(&tap, &request, request.len())[0], request);
}
