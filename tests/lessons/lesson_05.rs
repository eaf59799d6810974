//! Lesson 05, server-sent events: its server, and one that writes a text after `data: ` as it is.

#[path = "../../lessons/05-server-sent-events/main.rs"]
#[allow(dead_code)]
mod main;

#[path = "../../lessons/05-server-sent-events/broken.rs"]
#[allow(dead_code)]
mod broken;

use std::time::Duration;

use overwire::feed::Cursor;
use overwire::sse;

use crate::common::{Client, TestServer};
use crate::lesson::{
    FOREIGN, add, expect_content_errors, expect_ended_streams_forgotten, expect_not_allowed, expect_page, post, serve,
};

fn start() -> TestServer {
    serve(main::serve)
}

/// Begins a stream with a Last-Event-ID field and reads its head and its position. True if it continues after that id.
fn resume_at(server: &TestServer, target: &str, last_event_id: &str) -> (bool, Client) {
    let mut client = server.connect();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_event_id}\r\n\r\n");
    client.send(request);
    let recovered = read_position(&mut client);
    (recovered, client)
}

fn resume(server: &TestServer, target: &str, last_event_id: &str) -> Client {
    let (recovered, client) = resume_at(server, target, last_event_id);
    assert!(recovered, "it continues after {last_event_id}");
    client
}

fn begin(server: &TestServer, target: &str) -> Client {
    let mut client = server.connect();
    assert!(read_position(client.send_get(target)));
    client
}

fn read_position(client: &mut Client) -> bool {
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let position = client.event();
    assert_eq!(position.name, "position");
    serde_json::from_str::<serde_json::Value>(&position.data).unwrap()["recovered"].as_bool().unwrap()
}

/// Reads events up to the one with this data. Each is a chunk.
fn texts_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != last) {
        texts.push(client.event().data);
    }
    texts
}

#[test]
fn streams_begin_with_position_and_reconnection_time() {
    let server = start();
    let mut client = server.connect();
    let head = client.send_get("/quiet").head();
    for field in ["text/event-stream", "no-store", "Transfer-Encoding: chunked", "X-Accel-Buffering: no"] {
        assert!(head.contains(field), "{head}");
    }
    let opening = client.chunk().unwrap();
    let mut reader = sse::Reader::default();
    // It has data, because an event without data is not dispatched: a page that closes its EventSource
    // before the first message would have no position.
    let [position] = &reader.read(&opening)[..] else { panic!("one event") };
    assert_eq!((position.name.as_str(), position.data.as_str()), ("position", r#"{"recovered":true}"#));
    assert!(position.id.parse::<Cursor>().is_ok(), "{position:?}");
    assert_eq!(reader.retry().map(|time| time.as_secs()), Some(2));
    drop(client);
    add(&server, "missed");
    assert_eq!(resume(&server, "/quiet", &position.id).event().data, "missed");
}

#[test]
fn line_ends_stay_line_ends() {
    let server = start();
    let mut client = begin(&server, "/quiet");
    for text in ["one\ntwo", "one\r\ntwo", "one\rtwo", "x\n\nevent: admin\ndata: y\nid: 7", ": z\n", " a "] {
        let id = add(&server, text);
        let lines = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(client.event(), sse::Event { id, name: "message".into(), data: lines }, "{text:?}");
    }
}

#[test]
fn ticker_counts_seconds_while_anyone_listens() {
    let server = start();
    let mut client = begin(&server, "/events");
    for number in 1..=3 {
        server.advance(1);
        assert_eq!(client.event().data, format!("Message {number}"));
    }
    drop(client);
    let sequence = |id: String| id.parse::<Cursor>().unwrap().sequence();
    let passes_without_tick = || {
        let before = sequence(add(&server, "before"));
        server.advance(1);
        sequence(add(&server, "after")) == before + 1
    };
    assert!((0..10_000).any(|_| passes_without_tick()), "it ticks without listeners");
    let mut client = begin(&server, "/events");
    server.advance(1);
    assert!(client.event().data.starts_with("Message "), "it begins again");
}

#[test]
fn quiet_stream_has_posts_and_no_ticks() {
    let server = start();
    let (mut quiet, mut events) = (begin(&server, "/quiet"), begin(&server, "/events"));
    let first = add(&server, "one");
    server.advance(1);
    assert_eq!((events.event().data, events.event().data), ("one".to_owned(), "Message 1".to_owned()));
    add(&server, "two");
    assert_eq!((quiet.event().data, quiet.event().data), ("one".to_owned(), "two".to_owned()));
    assert_eq!(resume(&server, "/quiet", &first).event().data, "two");
    assert_eq!(resume(&server, "/events", &first).event().data, "Message 1");
}

#[test]
fn resuming_clients_miss_nothing() {
    let server = start();
    let mut last_event_id = add(&server, "0");
    let mut texts = Vec::new();
    for number in 1..=20 {
        let mut client = resume(&server, "/events", &last_event_id);
        add(&server, &number.to_string());
        server.advance(1);
        let event = client.event();
        last_event_id = event.id;
        texts.push(event.data);
    }
    add(&server, "last");
    texts.extend(texts_until(&mut resume(&server, "/events", &last_event_id), "last"));
    let (ticks, posted): (Vec<_>, Vec<_>) = texts.into_iter().partition(|text| text.starts_with("Message "));
    let wanted: Vec<_> = (1..=20).map(|number: u32| number.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(posted, wanted);
    assert_eq!(ticks, (1..=ticks.len()).map(|number| format!("Message {number}")).collect::<Vec<_>>());
}

#[test]
fn ids_of_something_else_are_not_recovered() {
    let server = start();
    add(&server, "retained");
    for target in ["/events", "/quiet"] {
        for id in ["7", "\u{fc}", "1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21"] {
            let (recovered, mut client) = resume_at(&server, target, id);
            assert_eq!((recovered, client.event().data.as_str()), (false, "retained"), "{target} {id}");
        }
    }
    let mut client = server.connect();
    client.send_get("/quiet?last_event_id=7").head();
    assert_eq!((client.event().data.as_str(), client.event().data.as_str()), (r#"{"recovered":false}"#, "retained"));
}

#[test]
fn query_resumes_without_last_event_id() {
    let server = start();
    let first = add(&server, "one");
    let second = add(&server, "two");
    add(&server, "three");
    assert_eq!(begin(&server, &format!("/quiet?last_event_id={first}")).event().data, "two");
    let mut both = resume(&server, &format!("/quiet?last_event_id={first}"), &second);
    assert_eq!(both.event().data, "three", "the field is the newer of the two");
    let mut neither = begin(&server, "/quiet?last_event_id=");
    add(&server, "four");
    assert_eq!(neither.event().data, "four");
}

#[test]
fn unknown_ids_get_recovered_false_and_all_retained_messages() {
    let server = start();
    add(&server, "one");
    let (recovered, mut client) = resume_at(&server, "/events", FOREIGN);
    assert!(!recovered);
    assert_eq!(client.event().data, "one");
}

#[test]
fn quiet_stream_gets_a_comment_every_15_seconds() {
    let server = start();
    let mut client = begin(&server, "/quiet");
    server.advance(14);
    add(&server, "not yet");
    assert_eq!(client.event().data, "not yet");
    for _ in 0..3 {
        server.advance(15);
        assert_eq!(client.chunk_text(), ": still here\n\n");
    }
}

/// An ended stream is forgotten at once, not with its next comment.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn ended_streams_are_forgotten() {
    expect_ended_streams_forgotten("05-server-sent-events", "/quiet");
}

#[test]
fn new_listeners_do_not_delay_the_tick() {
    let server = start();
    let mut first = begin(&server, "/events");
    let mut others = Vec::new();
    for _ in 0..5 {
        server.remote().advance_clock(Duration::from_millis(300));
        others.push(begin(&server, "/events"));
    }
    add(&server, "after 1.5 s");
    assert_eq!(first.event().data, "Message 1");
}

#[test]
fn http_1_0_clients_get_events_without_chunks() {
    let server = start();
    let mut client = server.connect();
    let head = client.send("GET /quiet HTTP/1.0\r\n\r\n").head();
    assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close"), "{head}");
    assert!(client.read_until("\n\n").starts_with("retry: 2000\nid: "));
    add(&server, "old");
    assert!(client.read_until("\n\n").ends_with("\nevent: message\ndata: old\n\n"));
}

#[test]
fn shutdown_ends_streams() {
    let server = start();
    let mut clients = ["/events", "/quiet"].map(|target| begin(&server, target));
    server.shut_down();
    for client in &mut clients {
        assert_eq!(client.chunk(), None);
        client.expect_end();
    }
}

#[test]
fn head_requests_get_the_head_alone() {
    let server = start();
    let mut client = server.connect();
    let head = client.send("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n").head();
    assert!(head.contains("text/event-stream"), "{head}");
    assert_eq!(client.get("/nothing").status, 404, "no content follows that head");
}

#[test]
fn errors_say_what_is_wrong() {
    let server = start();
    expect_content_errors(&server);
    for target in ["/events", "/quiet"] {
        expect_not_allowed(&server.post(target, ""), "GET, HEAD");
    }
    expect_not_allowed(&server.get("/add-message"), "POST");
    expect_page(&server, "05 Server-sent events");
    assert!(server.get("/broken.js").text().contains("export function runBroken"));
}

// The broken server.

/// Returns the events that a client of the broken server gets when these texts are posted.
fn events_of_broken(texts: &[&str]) -> Vec<sse::Event> {
    let server = serve(broken::serve);
    let mut client = server.connect();
    client.send_get("/events").head();
    let mut reader = sse::Reader::default();
    let mut events = Vec::new();
    for text in texts {
        post(&server, text);
        events.extend(reader.read(&client.chunk().unwrap()));
    }
    events
}

fn event(id: &str, name: &str, data: &str) -> sse::Event {
    sse::Event { id: id.into(), name: name.into(), data: data.into() }
}

#[test]
fn broken_server_loses_the_second_line() {
    assert_eq!(events_of_broken(&["one\ntwo"]), [event("", "message", "one")]);
    assert_eq!(events_of_broken(&["one\rtwo"]), [event("", "message", "one")], "a CR is also a line end");
}

#[test]
fn broken_server_lets_texts_forge_events() {
    let forged = [event("", "message", "hello"), event("7", "admin", "you are fired")];
    assert_eq!(events_of_broken(&["hello\n\nevent: admin\nid: 7\ndata: you are fired"]), forged);
}

#[test]
fn broken_server_cannot_resume() {
    let server = serve(broken::serve);
    let mut client = server.connect();
    client.send_get("/events").head();
    post(&server, "one");
    assert_eq!(client.event(), event("", "message", "one"), "the event has no id");
    drop(client);
    post(&server, "missed");
    let mut client = server.connect();
    client.send_get("/events").head();
    post(&server, "three");
    assert_eq!(client.event().data, "three");
}
