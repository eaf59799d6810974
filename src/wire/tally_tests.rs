//! The sums of a tally. Each vector is counted whole, in pieces of every small size and cut in two at every byte. The
//! sums must be the same.

use serde_json::Value;

use super::{Candidate, Conversation, Counts, Kind, Part, Piece, Tally, mark_keep_alive};
use crate::http::chunk;
use crate::websocket::{Opcode, Role, encode, encode_key, opening_request};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The decision of an application: heartbeats have a type, and empty answers have no messages.
fn says(candidate: &Candidate<'_>) -> bool {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match *candidate {
        Candidate::Event { name, data } => name == "heartbeat" || json(data)["type"] == "heartbeat",
        Candidate::Frame(text) | Candidate::Line(text) => json(text)["type"] == "heartbeat",
        Candidate::Answer(content) => {
            let answer = json(content);
            answer["type"] == "timeout" || answer["messages"].as_array().is_some_and(Vec::is_empty)
        }
    }
}

/// The sums before the exchange ends, and at its end.
fn sums_of(mut conversation: Conversation, from: Role, parts: &[&[u8]]) -> (Counts, Counts) {
    let (mut tally, mut sum) = (Tally::new(from, says), Counts::default());
    for part in parts {
        sum += tally.read(&conversation.read(from, part));
    }
    let before_end = sum;
    sum += tally.end();
    (before_end, sum)
}

/// Checks the sums for `bytes` of `from` in this conversation.
fn check(conversation: impl Fn() -> Conversation, from: Role, bytes: &[u8], before_end: Counts, at_end: Counts) {
    let check = |parts: &[&[u8]]| {
        let (before, end) = sums_of(conversation(), from, parts);
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!((before, end), (before_end, at_end), "{} cut to {lengths:?}", bytes.escape_ascii());
    };
    check(&[bytes]);
    for size in 1..=9 {
        check(&bytes.chunks(size).collect::<Vec<_>>());
    }
    for at in 1..bytes.len() {
        let (front, rest) = bytes.split_at(at);
        check(&[front, rest]);
    }
    assert_eq!(at_end.total(), bytes.len() as u64, "each byte is counted once: {}", bytes.escape_ascii());
}

fn asked() -> Conversation {
    let mut conversation = Conversation::default();
    conversation.read(Role::Client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    conversation
}

/// Both sides speak WebSocket.
fn upgraded() -> Conversation {
    let mut conversation = Conversation::default();
    conversation.read(Role::Client, &opening_request("a", "/", &encode_key([7; 16])));
    conversation.read(Role::Server, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    conversation
}

/// Checks an answer. All of its bytes are decided before the exchange ends.
fn answer(head: &str, content: &[u8], expected: Counts) {
    let bytes = [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), content].concat();
    let expected = Counts { header: expected.header + (bytes.len() - content.len()) as u64, ..expected };
    check(asked, Role::Server, &bytes, expected, expected);
}

const EVENTS: &str = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";
const LINES: &str = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n";

fn chunks(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| chunk(part.as_bytes()).to_vec()).collect()
}

fn frame(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, opcode, payload, key);
    bytes
}

fn frames(from: Role, bytes: &[u8], expected: Counts) {
    check(upgraded, from, bytes, expected, expected);
}

#[test]
fn heads_are_headers_and_content_is_payload() {
    let request = b"\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"text\":\"a\"}";
    let expected = Counts { header: request.len() as u64 - 12, payload: 12, ..Counts::default() };
    check(Conversation::default, Role::Client, request, expected, expected);
    answer("Content-Length: 17\r\n", b"{\"messages\":[{}]}", Counts { payload: 17, ..Counts::default() });
    answer("Content-Length: 800\r\n", &[b'x'; 800], Counts { payload: 800, ..Counts::default() });
}

#[test]
fn the_content_of_an_empty_answer_is_keep_alive() {
    for content in ["{\"messages\":[],\"status\":\"timeout\"}", "{\"connection_id\":\"a\u{e9}\",\"type\":\"timeout\"}"]
    {
        let length = content.len() as u64;
        let field = format!("Content-Length: {length}\r\n");
        answer(&field, content.as_bytes(), Counts { keep_alive: length, ..Counts::default() });
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n{content}");
        let expected = Counts { header: request.len() as u64 - length, payload: length, ..Counts::default() };
        check(Conversation::default, Role::Client, request.as_bytes(), expected, expected);
    }
    for content in ["[]", "null"] {
        let length = content.len() as u64;
        let expected = Counts { payload: length, ..Counts::default() };
        answer(&format!("Content-Length: {length}\r\n"), content.as_bytes(), expected);
    }
}

#[test]
fn the_end_of_a_json_line_is_framing_and_an_empty_line_is_keep_alive_with_its_chunk() {
    let counts = Counts::default();
    answer(LINES, &chunks(&["{\"id\":1}\n"]), Counts { payload: 8, framing: 1 + 3 + 2, ..counts });
    answer(LINES, &chunks(&["{\"id\":1}\r\n"]), Counts { payload: 8, framing: 2 + 3 + 2, ..counts });
    answer(LINES, &chunks(&["\n"]), Counts { keep_alive: 1 + 3 + 2, ..counts });
    answer(LINES, &chunks(&["\n{}\n"]), Counts { keep_alive: 1, payload: 2, framing: 1 + 3 + 2, ..counts });
    answer(LINES, &chunks(&["{\"a\"", ":1}\n"]), Counts { payload: 7, framing: 1 + 3 + 2 + 3 + 2, ..counts });
    answer(LINES, &chunks(&["{\"type\":\"heartbeat\"}\n"]), Counts { keep_alive: 21 + 4 + 2, ..counts });
    let with_trailer = [&chunks(&["{}\n"])[..], b"0\r\nA: b\r\n\r\n"].concat();
    answer(LINES, &with_trailer, Counts { payload: 2, framing: 1 + 5 + 3 + 2, header: 6, ..counts });
}

#[test]
fn the_value_of_data_is_payload_and_the_rest_of_an_event_is_framing() {
    let counts = Counts::default();
    let event = "id: 7\nevent: message\ndata: {\"a\":1}\n\n";
    answer(EVENTS, &chunks(&[event]), Counts { payload: 7, framing: 6 + 15 + 7 + 1 + 4 + 2, ..counts });
    let cut = ["id: 7\nevent: mess", "age\nda", "ta: {\"a\":1}\r\n\r\n"];
    let framing = 6 + 15 + 8 + 2 + (4 + 2) + (3 + 2) + (3 + 2);
    answer(EVENTS, &chunks(&cut), Counts { payload: 7, framing, ..counts });
    answer(EVENTS, &chunks(&["data:x\ndata\n\n"]), Counts { payload: 1, framing: 6 + 5 + 1 + 3 + 2, ..counts });
    answer(EVENTS, &chunks(&["id: 7\nretry: 1000\n\n"]), Counts { framing: 6 + 12 + 1 + 4 + 2, ..counts });
    answer(EVENTS, &chunks(&["\u{feff}data: x\r\r"]), Counts { payload: 1, framing: 3 + 7 + 1 + 3 + 2, ..counts });
}

#[test]
fn heartbeats_and_comments_of_an_event_stream_are_keep_alive_with_their_chunks() {
    let counts = Counts::default();
    for (events, framing) in [
        ("event: heartbeat\ndata: {\"timestamp\":1}\n\n", 4 + 2),
        ("event: heartbeat\r\ndata: {\"timestamp\":1}\r\n\r\n", 4 + 2),
        ("event: message\ndata: {\"message\":\"Message 1\",\"type\":\"heartbeat\"}\n\n", 4 + 2),
        ("data: {\"message\":\"Message 1\",\ndata: \"type\":\"heartbeat\"}\n\n", 4 + 2),
        (": hello\n", 3 + 2),
        (": hello\n\n", 3 + 2),
        (": hello\r\n\r\n", 3 + 2),
    ] {
        let length = events.len() as u64;
        answer(EVENTS, &chunks(&[events]), Counts { keep_alive: length + framing, ..counts });
        let unchunked = "Content-Type: text/event-stream\r\n";
        answer(unchunked, events.as_bytes(), Counts { keep_alive: length, ..counts });
    }
    answer(EVENTS, &chunks(&[": hello\n", "\n"]), Counts { keep_alive: 8 + 3 + 2 + 1 + 3 + 2, ..counts });
    let mixed = Counts { keep_alive: 2, payload: 1, framing: 7 + 1 + 3 + 2, ..counts };
    answer(EVENTS, &chunks(&[":\ndata: x\n\n"]), mixed);
    answer(EVENTS, &chunks(&["data: x\n:\n\n"]), mixed);
}

#[test]
fn frame_headers_are_framing_and_pings_and_heartbeats_are_keep_alive() {
    let counts = Counts::default();
    let (server, client) = (Role::Server, Role::Client);
    frames(server, &frame(Opcode::Text, b"{\"id\":\"x\"}", None), Counts { framing: 2, payload: 10, ..counts });
    frames(client, &frame(Opcode::Text, b"{\"id\":\"x\"}", Some(KEY)), Counts { framing: 6, payload: 10, ..counts });
    frames(server, &frame(Opcode::Binary, &[b'x'; 200], None), Counts { framing: 4, payload: 200, ..counts });
    frames(server, &frame(Opcode::Text, &[b'x'; 700], None), Counts { framing: 4, payload: 700, ..counts });
    frames(server, &frame(Opcode::Ping, b"beat", None), Counts { keep_alive: 6, ..counts });
    frames(client, &frame(Opcode::Pong, b"beat", Some(KEY)), Counts { keep_alive: 10, ..counts });
    frames(server, &frame(Opcode::Ping, b"", None), Counts { keep_alive: 2, ..counts });
    frames(server, &frame(Opcode::Close, b"\x03\xe8bye", None), Counts { framing: 2 + 5, ..counts });
    frames(server, &frame(Opcode::Text, b"", None), Counts { framing: 2, ..counts });
    let heartbeat = b"{\"type\": \"heartbeat\"}";
    frames(client, &frame(Opcode::Text, heartbeat, Some(KEY)), Counts { keep_alive: 6 + 21, ..counts });
    let (front, rest) = heartbeat.split_at(13);
    let mut fragments = frame(Opcode::Text, front, None);
    fragments[0] &= 0x7f;
    fragments.extend(frame(Opcode::Continuation, rest, None));
    frames(server, &fragments, Counts { framing: 4, payload: 21, ..counts });
}

#[test]
fn the_kinds_of_a_chunk_are_decided_when_it_is_complete_or_the_exchange_ends() {
    let counts = Counts::default();
    let head = |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (events, lines) = (head("text/event-stream"), head("application/x-ndjson"));
    for (head, content, at_end) in [
        (&lines, "3\r\n{}\n", Counts { payload: 2, framing: 1 + 3, ..counts }),
        (&lines, "9\r\n{\"a", Counts { payload: 3, framing: 3, ..counts }),
        (&events, "f\r\nid: 1\ndata: {\"a", Counts { payload: 3, framing: 3 + 6 + 6, ..counts }),
        (&events, "f\r\n: hel", Counts { keep_alive: 5 + 3, ..counts }),
        (&events, "f\r\nid", Counts { framing: 2 + 3, ..counts }),
        (&head("text/html"), "9\r\n<html>", Counts { payload: 6, framing: 3, ..counts }),
    ] {
        let header = head.len() as u64;
        let bytes = format!("{head}{content}");
        let at_end = Counts { header, ..at_end };
        check(asked, Role::Server, bytes.as_bytes(), Counts { header, ..counts }, at_end);
    }
    let heartbeat = frame(Opcode::Text, b"{\"type\": \"heartbeat\"}", Some(KEY));
    check(upgraded, Role::Client, &heartbeat[..11], counts, Counts { framing: 6, payload: 5, ..counts });
}

#[test]
fn pieces_without_their_front_are_framing() {
    let mut tally = Tally::new(Role::Server, says);
    let framing = |framing| Counts { framing, ..Counts::default() };
    assert_eq!(tally.read(&[Piece::new(Part::ChunkEnd, b"\r\n")]), framing(2));
    assert_eq!(tally.read(&[Piece::new(Part::Unlabelled, b"abc")]), framing(3));
    let header = Conversation::read(&mut upgraded(), Role::Server, b"\x81\x05");
    assert_eq!(tally.read(&header), Counts::default());
    assert_eq!(tally.read(&header), framing(2), "the payload of the first frame is missing");
}

#[test]
fn undecided_bytes_are_kept_as_numbers() {
    let (mut conversation, mut tally) = (asked(), Tally::new(Role::Server, says));
    tally.read(&conversation.read(Role::Server, format!("HTTP/1.1 200 OK\r\n{EVENTS}\r\nf0000\r\n").as_bytes()));
    let line = format!("data: {}\n", "x".repeat(65_529));
    for _ in 0..15 {
        assert_eq!(tally.read(&conversation.read(Role::Server, line.as_bytes())), Counts::default());
    }
    let expected = Counts { payload: 15 * 65_529, framing: 15 * 7 + 7, ..Counts::default() };
    assert_eq!(tally.end(), expected);
}

#[test]
fn heartbeats_are_marked_if_they_are_whole() {
    let kinds = |conversation: fn() -> Conversation, bytes: &[u8]| {
        let mut pieces = conversation().read(Role::Server, bytes);
        mark_keep_alive(&mut pieces, says);
        let kinds = pieces.iter().flat_map(|piece| match &piece.lines[..] {
            [] => vec![piece.kind()],
            lines => lines.iter().map(|line| line.kind()).collect(),
        });
        kinds.filter(|kind| *kind != Kind::Header).collect::<Vec<_>>()
    };
    let (keep_alive, framing, payload) = (Kind::KeepAlive, Kind::Framing, Kind::Payload);
    let stream = |content: &str| {
        let head = format!("HTTP/1.1 200 OK\r\n{EVENTS}\r\n").into_bytes();
        kinds(asked, &[head, chunks(&[content])].concat())
    };
    let beat = stream("data: x\n\n:\n\nevent: heartbeat\r\rid: 1\n\n");
    let expected =
        [framing, payload, payload, keep_alive, keep_alive, keep_alive, keep_alive, payload, payload, framing];
    assert_eq!(beat, expected);
    let frames = [frame(Opcode::Text, b"{\"type\": \"heartbeat\"}", None), frame(Opcode::Text, b"{}", None)].concat();
    assert_eq!(kinds(upgraded, &frames), [keep_alive, keep_alive, framing, payload]);
    assert_eq!(kinds(upgraded, &frames[..11]), [framing, payload]);
    let lines = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{\"type\":\"heartbeat\"}\n1\n\n";
    assert_eq!(kinds(asked, lines.as_bytes()), [keep_alive, payload, keep_alive]);
}
