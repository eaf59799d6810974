//! The senders of messages that the journal has not committed yet, and the requests for logs that it does not know yet.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::parked::Parked;
use super::*;

/// A server whose journal commits nothing until it is told to.
fn held() -> Server {
    let mut server = Server::bind(Config { port: 0, ..Config::default() }).unwrap();
    server.exchanges.journal.hold(true);
    server
}

/// Handles what has happened, and flushes. The loop reports a timer after the events of what has arrived, and flushes
/// before it sleeps.
fn settle(server: &mut Server) {
    for _ in 0..2 {
        let timer = server.exchanges.event_loop.set_timer(Duration::from_millis(1));
        loop {
            let event = server.exchanges.event_loop.next_event().unwrap();
            let is_last = matches!(event, Event::Timer(due) if due == timer);
            server.handle(event);
            if is_last {
                break;
            }
        }
    }
}

/// Connects, and sends this.
fn connect(server: &Server, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.local_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

fn request(method: &str, target: &str, content: &str) -> String {
    let length = content.len();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}")
}

/// Sends a request on a new connection, and has the server handle it.
fn exchange(server: &mut Server, method: &str, target: &str, content: &str) -> TcpStream {
    let stream = connect(server, &request(method, target, content));
    settle(server);
    stream
}

fn send(server: &mut Server, content: &str) -> TcpStream {
    exchange(server, "POST", "/api/send", content)
}

/// Opens a WebSocket to a room, and returns it with its handshake read.
fn open_websocket(server: &mut Server) -> TcpStream {
    let handshake = "GET /api/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = connect(server, handshake);
    settle(server);
    read(&mut stream, "\r\n\r\n");
    stream
}

/// Returns what a client receives up to and including `end`.
fn read(stream: &mut TcpStream, end: &str) -> String {
    let mut received = String::new();
    while !received.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.push(char::from(byte[0]));
    }
    received
}

/// Asserts that a client has received nothing, after the server has settled.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
}

/// Lets this time pass.
fn pass(server: &mut Server, seconds: u64) {
    server.remote().advance_clock(Duration::from_secs(seconds));
    settle(server);
}

/// Lets the journal commit all that it was asked for.
fn commit(server: &mut Server) {
    server.exchanges.journal.hold(false);
    settle(server);
}

#[test]
fn a_message_is_delivered_and_its_sender_is_answered_when_it_is_committed() {
    let mut server = held();
    let mut reader = exchange(&mut server, "GET", "/api/stream", "");
    read(&mut reader, "\r\n\r\n1\r\n\n\r\n");
    let mut websocket = open_websocket(&mut server);
    let mut sender = send(&mut server, r#"{"sender":"ada","text":"hello"}"#);
    [&mut reader, &mut websocket, &mut sender].into_iter().for_each(assert_silent);
    commit(&mut server);
    assert!(read(&mut sender, "}\n").contains(r#""status":"sent""#));
    assert!(read(&mut reader, "}\n").contains(r#""text":"hello""#));
    assert!(read(&mut websocket, "}").contains(r#""text":"hello""#));
}

#[test]
fn a_sender_gets_503_after_5_seconds_and_its_retry_finds_the_message() {
    let mut server = held();
    let content = r#"{"sender":"ada","text":"hello","key":"1"}"#;
    let mut late = send(&mut server, content);
    pass(&mut server, 4);
    assert_silent(&mut late);
    let mut retry = send(&mut server, content);
    pass(&mut server, 1);
    let answer = read(&mut late, "}\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
    assert!(answer.contains("may still come: send it again with the same key"), "{answer}");
    assert_silent(&mut retry);
    commit(&mut server);
    assert!(read(&mut retry, "}\n").contains(r#""status":"sent""#));
    let mut messages = exchange(&mut server, "GET", "/api/messages", "");
    assert_eq!(read(&mut messages, "}\n").matches(r#""text":"hello""#).count(), 1);
    let mut again = send(&mut server, content);
    assert!(read(&mut again, "}\n").contains(r#""status":"sent""#));
}

#[test]
fn every_sender_of_a_text_waits_for_the_commit() {
    let mut server = held();
    let mut created = exchange(&mut server, "POST", "/poll", "{}");
    let answer = read(&mut created, "}\n");
    let id = answer.split('"').skip_while(|part| *part != "connection_id").nth(2).unwrap().to_owned();
    let content = format!(r#"{{"connection_id":"{id}","text":"hello"}}"#);
    let mut by_poll = exchange(&mut server, "POST", "/poll", &content);
    let mut by_message = exchange(&mut server, "POST", "/sse/message", &content);
    let mut reader = exchange(&mut server, "POST", "/poll", &format!(r#"{{"connection_id":"{id}"}}"#));
    [&mut by_poll, &mut by_message, &mut reader].into_iter().for_each(assert_silent);
    commit(&mut server);
    assert!(read(&mut by_poll, "}\n").contains(r#""type":"message""#));
    assert!(read(&mut by_message, "}\n").contains(r#""status":"queued""#));
    assert!(read(&mut reader, "}\n").contains(r#""message":"hello""#));
}

#[test]
fn a_websocket_is_told_of_what_is_not_committed() {
    let mut server = held();
    let mut websocket = open_websocket(&mut server);
    let text = br#"{"sender":"ada","text":"hello"}"#;
    let header = [0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]; // masked with zeros
    websocket.write_all(&[&header[..], text].concat()).unwrap();
    settle(&mut server);
    pass(&mut server, 5);
    let error = read(&mut websocket, "}");
    assert!(error.contains(r#""type":"error""#) && error.contains("was not stored within 5 s"), "{error}");
}

#[test]
fn a_server_that_shuts_down_answers_its_senders_first() {
    let mut server = held();
    let mut kept = exchange(&mut server, "GET", "/health", "");
    read(&mut kept, "}\n");
    let mut sender = send(&mut server, r#"{"sender":"ada","text":"hello"}"#);
    server.remote().shut_down();
    settle(&mut server);
    let late = request("POST", "/api/send", r#"{"sender":"ada","text":"too late"}"#);
    kept.write_all(late.as_bytes()).unwrap();
    settle(&mut server);
    assert!(read(&mut kept, "}\n").contains("the server is going away"));
    assert_silent(&mut sender);
    server.exchanges.journal.hold(false);
    server.exchanges.event_loop.set_timer(Duration::from_millis(1));
    server.run().unwrap();
    let mut answer = String::new();
    sender.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""status":"sent""#), "{answer}");
}

/// A server whose journal has to ask another process for each log, and has no answer yet.
fn asking() -> Server {
    let mut server = held();
    server.exchanges.journal.ask_elsewhere(true);
    server
}

/// Has the other process answer, that there is nothing.
fn answer(server: &mut Server) {
    server.exchanges.journal.ask_elsewhere(false);
    commit(server);
}

#[test]
fn requests_for_a_log_wait_until_the_journal_knows_it() {
    let mut server = asking();
    let mut sender = send(&mut server, r#"{"sender":"ada","text":"hello"}"#);
    let mut messages = exchange(&mut server, "GET", "/api/messages", "");
    let mut poll = exchange(&mut server, "GET", "/api/poll?client_id=tab", "");
    let mut stream = exchange(&mut server, "GET", "/api/stream?room=other", "");
    [&mut sender, &mut messages, &mut poll, &mut stream].into_iter().for_each(assert_silent);
    drop(exchange(&mut server, "GET", "/api/stream", "")); // its client does not wait
    answer(&mut server);
    assert!(read(&mut sender, "}\n").contains(r#""status":"sent""#));
    assert!(read(&mut messages, "}\n").contains(r#""messages":[]"#));
    assert!(read(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(read(&mut poll, "}\n").contains("hello"));
    assert_eq!(server.exchanges.counts().to_json()["stream"]["open"], 1);
    assert_eq!(server.parked.bytes(), 0);
}

#[test]
fn a_request_waits_5_seconds_for_a_log() {
    let mut server = asking();
    let mut messages = exchange(&mut server, "GET", "/api/messages", "");
    pass(&mut server, 3);
    let mut mailbox = exchange(&mut server, "POST", "/poll", r#"{"connection_id":"unknown"}"#);
    assert_silent(&mut messages);
    pass(&mut server, 2);
    let refused = read(&mut messages, "}\n");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("not loaded yet"), "{refused}");
    assert_silent(&mut mailbox);
    answer(&mut server);
    assert!(read(&mut mailbox, "}\n").starts_with("HTTP/1.1 404 "));
}

#[test]
fn few_requests_wait_while_the_journal_cannot_answer() {
    let mut server = asking();
    drop(exchange(&mut server, "GET", "/api/messages", ""));
    let Some(Parked { id, request, since, until, wanted, .. }) = server.parked.take_all().pop() else { panic!() };
    let mut parked = ParkedRequests::default();
    let mut push = |trouble| {
        let (request, wanted) = (request.clone(), wanted.clone());
        parked.push(Parked { id, request, since, admission: None, until, wanted, answered: Vec::new() }, trouble)
    };
    (0..parked::WITHOUT_JOURNAL).for_each(|_| push(Some("away")).unwrap());
    assert_eq!(push(Some("away")), Err(ApiError { status: 503, sentence: "away".into() }));
    assert_eq!(push(None), Ok(()));
}

#[test]
fn what_is_sent_while_a_log_loads_keeps_its_order() {
    let mut server = asking();
    let mut senders: Vec<_> =
        (0..5).map(|number| send(&mut server, &format!(r#"{{"sender":"ada","text":"{number}"}}"#))).collect();
    answer(&mut server);
    senders.iter_mut().for_each(|sender| assert!(read(sender, "}\n").contains("sent")));
    let mut messages = exchange(&mut server, "GET", "/api/messages", "");
    let texts = read(&mut messages, "}\n");
    let places: Vec<_> = (0..5).map(|number| texts.find(&format!(r#""text":"{number}""#)).unwrap()).collect();
    assert!(places.is_sorted(), "{texts}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_link_to_redis_is_not_named_as_a_ghost() {
    const MANY: usize = 32 << 20; // more than the buffers of two sockets take
    let limits = Limits { outbox: 2 * MANY, memory: 4 * MANY, ..Limits::default() };
    let mut server = Server::bind(Config { port: 0, limits, ..Config::default() }).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let link = server.exchanges.event_loop.connect(listener.local_addr().unwrap()).unwrap();
    let _redis = listener.accept().unwrap(); // which reads nothing
    server.exchanges.event_loop.send_bytes(link, vec![b'x'; MANY]);
    loop {
        let waiting = server.exchanges.event_loop.waiting(link);
        settle(&mut server);
        let event_loop = &server.exchanges.event_loop;
        if event_loop.waiting(link) == waiting && !event_loop.ghosts(Duration::ZERO).is_empty() {
            break;
        }
    }
    assert_eq!(server.ghosts_after(Duration::ZERO), serde_json::json!([]));
}
