//! The labels of whole conversations. Each vector is read whole and in pieces of every small size, with the same
//! result. Joined, the pieces must be the bytes.

use super::*;
use crate::http::{ChunkError, Framing, FramingError, RequestError, ResponseError};
use crate::sse;
use crate::websocket::{FrameHeader, Opcode, ProtocolError, Role, encode, encode_key, opening_request, text};

const C: Role = Role::Client;
const S: Role = Role::Server;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

type Steps<'a> = &'a [(Role, &'a [u8])];

/// The joined pieces of both directions.
#[derive(Debug, PartialEq)]
struct Labelled {
    client: Vec<Piece>,
    server: Vec<Piece>,
}

impl Labelled {
    fn of(&mut self, role: Role) -> &mut Vec<Piece> {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    fn add(&mut self, role: Role, pieces: Vec<Piece>) {
        for piece in pieces {
            let content = matches!(piece.part, Part::Content | Part::ChunkData);
            let inside: Vec<u8> = piece.lines.iter().flat_map(|line| line.bytes.clone()).collect();
            assert!(piece.lines.is_empty() || content && inside == piece.bytes, "{piece:?}");
            let all = self.of(role);
            let other = match all.last_mut() {
                Some(last) => last.join(piece).err(),
                None => Some(piece),
            };
            all.extend(other);
        }
    }
}

fn label_in_pieces(steps: Steps<'_>, size: usize) -> Labelled {
    let (mut conversation, mut labelled) = (Conversation::default(), Labelled { client: vec![], server: vec![] });
    for (role, bytes) in steps {
        for piece in bytes.chunks(size) {
            labelled.add(*role, conversation.read(*role, piece));
        }
    }
    for role in [C, S] {
        labelled.add(role, conversation.read(role, b""));
        labelled.add(role, conversation.end(role));
        let joined: Vec<u8> = labelled.of(role).iter().flat_map(|piece| piece.bytes.clone()).collect();
        let sent = steps.iter().filter(|(from, _)| *from == role).flat_map(|(_, bytes)| bytes.to_vec());
        assert_eq!(joined.escape_ascii().to_string(), sent.collect::<Vec<_>>().escape_ascii().to_string());
    }
    labelled
}

fn label(steps: Steps<'_>) -> Labelled {
    let whole = label_in_pieces(steps, usize::MAX);
    for size in 1..=9 {
        assert_eq!(label_in_pieces(steps, size), whole, "in pieces of {size}");
    }
    whole
}

fn names(pieces: &[Piece]) -> Vec<&'static str> {
    pieces.iter().map(|piece| piece.part.name()).collect()
}

/// The names of the pieces of one answer to GET, without those of its head.
fn content_of(answer: &str) -> Vec<&'static str> {
    let labelled = label(&[(C, GET), (S, answer.as_bytes())]);
    let end = labelled.server.iter().position(|piece| matches!(piece.part, Part::HeadEnd(_))).expect("a head");
    names(&labelled.server[end + 1..])
}

/// The violation in an answer.
fn fault_of(answer: &str) -> Option<Fault> {
    label(&[(C, GET), (S, answer.as_bytes())]).server.iter().find_map(|piece| match piece.part {
        Part::Broken(fault) => Some(fault),
        _ => None,
    })
}

fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    encode(&mut bytes, opcode, payload, Some(key));
    bytes[0] = bytes[0] & 0x7f | u8::from(fin) << 7;
    bytes
}

#[test]
fn requests_and_answers_are_labelled() {
    let labelled = label(&[(C, GET), (S, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello")]);
    assert_eq!(names(&labelled.client), ["request line", "field line", "end of head", "end of message"]);
    assert_eq!(
        labelled.server,
        [
            Piece::new(Part::StatusLine(200), b"HTTP/1.1 200 OK\r\n"),
            Piece::new(Part::FieldLine, b"Content-Length: 5\r\n"),
            Piece::new(Part::FieldLine, b"A: b\r\n"),
            Piece::new(Part::HeadEnd(Follows::Content(Framing::Length(5))), b"\r\n"),
            Piece::new(Part::Content, b"hello"),
            Piece::new(Part::MessageEnd, b""),
        ]
    );
}

#[test]
fn pipelined_requests_and_their_answers_are_labelled() {
    let requests = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\nHost: a\r\n\r\n\
        PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let answers = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n";
    let labelled = label(&[(C, requests), (S, answers)]);
    assert_eq!(
        names(&labelled.client),
        [
            "empty line",
            "request line",
            "field line",
            "field line",
            "end of head",
            "content",
            "end of message", //
            "request line",
            "field line",
            "end of head",
            "end of message", //
            "request line",
            "field line",
            "field line",
            "end of head",
            "chunk-size",
            "chunk-data",
            "end of chunk",
            "last-chunk",
            "end of chunks",
            "end of message",
        ]
    );
    assert_eq!(
        names(&labelled.server),
        [
            "status line",
            "end of head",
            "end of message", //
            "status line",
            "field line",
            "end of head",
            "content",
            "end of message", //
            "status line",
            "field line",
            "end of head",
            "end of message", //
            "status line",
            "end of head",
            "end of message", //
            "status line",
            "end of head",
            "end of message",
        ]
    );
}

#[test]
fn chunks_and_trailers_are_labelled() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0A\r\n0123456789\r\n\
                  00\r\nA: b\r\n\r\n";
    assert_eq!(
        content_of(answer),
        [
            "chunk-size",
            "chunk-data",
            "end of chunk",
            "chunk-size",
            "chunk-data",
            "end of chunk", //
            "last-chunk",
            "trailer field",
            "end of chunks",
            "end of message",
        ]
    );
    let labelled = label(&[(C, GET), (S, answer.as_bytes())]);
    assert_eq!(labelled.server[3], Piece::new(Part::ChunkSize(5), b"5;a=b\r\n"));
    assert_eq!(labelled.server[7], Piece::new(Part::ChunkData, b"0123456789"));
}

#[test]
fn the_end_of_the_connection_ends_content() {
    assert_eq!(content_of("HTTP/1.0 200 OK\r\n\r\nhello"), ["content", "end of message"]);
    assert_eq!(content_of("HTTP/1.0 200 OK\r\n\r\n"), ["end of message"]);
    assert_eq!(content_of("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), ["end of message"]);
}

#[test]
fn lines_continue_over_the_borders_of_chunks() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
        Transfer-Encoding: chunked\r\n\r\n\
        6\r\n: hey\n\r\n5\r\nid:7\r\r\n1\r\n\n\r\n9\r\ndata: a\r\n\r\n5\r\n\n\ndat\r\n8\r\na: b\r\n\r\n\r\n0\r\n\r\n";
    let labelled = label(&[(C, GET), (S, answer)]);
    let lines: Vec<_> = labelled.server.into_iter().flat_map(|piece| piece.lines).collect();
    let field = |name: &str, value: &str| LinePart::Field { name: name.into(), value: value.into() };
    let event = |data: &str, id: &str| {
        LinePart::EventEnd(Some(sse::Event { id: id.into(), name: "message".into(), data: data.into() }))
    };
    let expected = [
        (LinePart::Comment("hey".into()), ": hey\n"),
        (field("id", "7"), "id:7\r"),
        (LinePart::LineFeed, "\n"),
        (field("data", "a"), "data: a\r\n"),
        (event("a", "7"), "\n"),
        (LinePart::EventEnd(None), "\n"),
        (LinePart::Cut, "dat"),
        (field("data", "b"), "a: b\r\n"),
        (event("b", "7"), "\r\n"),
    ];
    let expected = expected.map(|(part, bytes)| Line::new(part, bytes.as_bytes()));
    assert_eq!(lines, expected);
}

#[test]
fn lines_of_json_are_labelled() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: Application/X-NDJSON\r\n\r\n{\"a\":1}\n\r\n\n[2]\r\n{\"cut";
    let labelled = label(&[(C, GET), (S, answer)]);
    let lines = labelled.server.into_iter().flat_map(|piece| piece.lines);
    let parts: Vec<_> = lines.map(|line| line.part).collect();
    let json = |text: &str| LinePart::Json(text.into());
    assert_eq!(parts, [json("{\"a\":1}"), LinePart::Empty, LinePart::Empty, json("[2]\r"), LinePart::Cut]);
}

#[test]
fn lines_and_events_have_a_limit() {
    for (content_type, line, ending) in
        [("text/event-stream", "data: x\n", ""), ("application/x-ndjson", "{}\n", &*"x".repeat((1 << 20) + 1))]
    {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
        let content = line.repeat((1 << 20) / 8 + 1) + ending + "\n\ny";
        let answer = head + &content;
        let steps: Steps<'_> = &[(C, GET), (S, answer.as_bytes())];
        let whole = label_in_pieces(steps, usize::MAX);
        assert_eq!(label_in_pieces(steps, 4096), whole);
        let lines = &whole.server[3].lines;
        assert_eq!(lines.len(), (1 << 20) / 8 + 1 + usize::from(!ending.is_empty()), "{content_type}");
        assert_eq!(lines.last().map(|line| &line.part), Some(&LinePart::TooLong));
    }
}

#[test]
fn frames_are_labelled() {
    let request = opening_request("a", "/ws", &encode_key([7; 16]));
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    let fragments = [masked(false, Opcode::Text, b"Hel"), masked(true, Opcode::Continuation, b"lo")].concat();
    let early = masked(true, Opcode::Ping, b"");
    let steps: Steps<'_> = &[
        (C, &[&request[..], &early].concat()),
        (S, &[&answer[..], &text("Hello"), b"\x88\x00"].concat()),
        (C, &fragments),
        (S, b"\x89\x01?"),
    ];
    let labelled = label(steps);
    let frames: Vec<_> = labelled.client.iter().skip_while(|piece| piece.part != Part::MessageEnd).skip(1).collect();
    let names: Vec<_> = frames.iter().map(|piece| piece.part.name()).collect();
    assert_eq!(names, ["frame header", "frame header", "payload", "frame header", "payload"]);
    assert_eq!(frames[2].bytes, [0x7f, 0x9f, 0x4d]);
    assert_eq!(&frames[2].unmasked()[..], b"Hel");
    let server = &labelled.server[5..];
    assert_eq!(server[0].part, Part::FrameHeader(FrameHeader::new(Opcode::Text, 5)));
    assert_eq!((&server[0].bytes[..], &server[1].bytes[..]), (&b"\x81\x05"[..], &b"Hello"[..]));
    assert_eq!(server.len(), 5);
}

#[test]
fn parts_of_a_payload_are_unmasked() {
    let mut conversation = Conversation::default();
    conversation.read(C, &opening_request("a", "/ws", &encode_key([7; 16])));
    conversation.read(S, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let frame = masked(true, Opcode::Text, b"Hello, world");
    let unmasked = frame.chunks(5).flat_map(|part| conversation.read(C, part)).filter_map(|piece| match piece.part {
        Part::Payload { .. } => Some(piece.unmasked().into_owned()),
        _ => None,
    });
    assert_eq!(unmasked.collect::<Vec<_>>().concat(), b"Hello, world");
}

#[test]
fn http_continues_after_a_refused_handshake() {
    let request = opening_request("a", "/ws", &encode_key([7; 16]));
    let labelled = label(&[(C, &request), (S, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), (C, GET)]);
    assert_eq!(names(&labelled.client[8..]), ["request line", "field line", "end of head", "end of message"]);
    let early = [&request[..], &[0x81; 20_000]].concat();
    let labelled = label_in_pieces(&[(C, &early)], 7000);
    assert_eq!(labelled.client[8].part, Part::Broken(Fault::TooEarly(16 * 1024)));
}

#[test]
fn unknown_protocols_are_unlabelled() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: tea\r\n\r\n";
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tea\r\n\r\nmilk?";
    let labelled = label(&[(C, request), (S, answer), (C, b"no")]);
    assert_eq!(labelled.client.last(), Some(&Piece::new(Part::Unlabelled, b"no")));
    assert_eq!(labelled.server.last(), Some(&Piece::new(Part::Unlabelled, b"milk?")));
}

#[test]
fn violations_of_servers_are_found() {
    let framing = |error| Fault::Response(ResponseError::Framing(error));
    for (answer, fault) in [
        ("HTTP/2 200 OK\r\n\r\n", Fault::Response(ResponseError::StatusLine)),
        ("SSH-2.0-OpenSSH\r\n", Fault::Response(ResponseError::StatusLine)),
        ("HTTP/1.1 200 OK\r\nA b\r\n\r\n", Fault::Response(ResponseError::FieldLine)),
        ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Fault::Response(ResponseError::FieldLine)),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", framing(FramingError::ContentLength)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", framing(FramingError::ContentLength)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            framing(FramingError::LengthAndEncoding),
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", framing(FramingError::UnknownCoding)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Fault::Chunk(ChunkError::Size)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy", Fault::Chunk(ChunkError::DataNotEnded)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Fault::EndedInMessage),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", Fault::EndedInMessage),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Fault::EndedInMessage),
        ("HTTP/1.1 200 OK\r\nContent-", Fault::EndedInMessage),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\u{1}", Fault::EndedInFrame),
    ] {
        assert_eq!(fault_of(answer), Some(fault), "{answer:?}");
        assert!(fault.section().starts_with("RFC ") && !fault.to_string().is_empty());
    }
    assert_eq!(fault_of("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx"), None);
    assert_eq!(fault_of("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx"), None);
}

#[test]
fn a_folded_field_line_is_one_piece() {
    let answer = b"HTTP/1.1 204 No Content\r\nA: b,\r\n\t c\r\n \r\nD: e\r\n\r\n";
    let labelled = label(&[(C, GET), (S, answer)]);
    let lines = [Piece::new(Part::FieldLine, b"A: b,\r\n\t c\r\n \r\n"), Piece::new(Part::FieldLine, b"D: e\r\n")];
    assert_eq!(labelled.server[1..3], lines);
    assert_eq!(names(&labelled.server)[3..], ["end of head", "end of message"]);
}

#[test]
fn an_answer_may_have_many_fields() {
    let answer = format!("HTTP/1.1 204 No Content\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let labelled = label(&[(C, GET), (S, answer.as_bytes())]);
    assert_eq!(labelled.server.len(), 1000 + 3);
    assert_eq!(labelled.server[1001].part, Part::HeadEnd(Follows::Content(Framing::Empty)));
}

#[test]
fn violations_of_clients_are_found() {
    let fault = |bytes: &[u8]| label(&[(C, bytes)]).client.first().map(|piece| piece.part.clone());
    let broken = |error| Some(Part::Broken(Fault::Request(error)));
    assert_eq!(fault(b"GET\r\n"), broken(RequestError::RequestLine));
    assert_eq!(fault(b"GET / HTTP/1.1\r\n\r\n"), broken(RequestError::NoHost));
    assert_eq!(fault(b"GET / HTTP/3.1\r\n"), broken(RequestError::UnsupportedVersion));
}

#[test]
fn masked_frames_of_servers_are_violations() {
    let bytes =
        [&b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"[..], b"\x81\x80aaaa\x81\x00"].concat();
    let labelled = label(&[(C, GET), (S, &bytes)]);
    let expected = [
        Piece::new(Part::Broken(Fault::Frame(ProtocolError::Masked)), b""),
        Piece::new(Part::Unlabelled, b"\x81\x80aaaa\x81\x00"),
    ];
    assert_eq!(labelled.server[4..], expected);
}

#[test]
fn heads_and_requests_have_limits() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(16 * 1024));
    let steps: Steps<'_> = &[(C, long.as_bytes()), (S, &long.as_bytes()[4..])];
    for size in [usize::MAX, 1000, 4096, 16 * 1024, 1] {
        let labelled = label_in_pieces(steps, size);
        assert_eq!(
            labelled.client[0].part,
            Part::Broken(Fault::Request(RequestError::HeadTooLong(16 * 1024))),
            "in pieces of {size}"
        );
        assert_eq!(labelled.server[0].part, Part::Broken(Fault::Response(ResponseError::StatusLine)));
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(20_000));
    assert_eq!(
        label_in_pieces(&[(S, long.as_bytes())], 100).server[0].part,
        Part::Broken(Fault::Response(ResponseError::HeadTooLong(16384)))
    );
    let many = label_in_pieces(&[(C, &GET.repeat(1025))], usize::MAX);
    assert_eq!(many.client[1024 * 4].part, Part::Broken(Fault::TooManyRequests(1024)));
}

#[test]
fn comments_do_not_count_for_the_limit_of_an_event() {
    let mut lines = Lines::of_type(b"text/event-stream").unwrap();
    let comment = format!(": {}\n", "h".repeat(998)).repeat(2000);
    assert!(lines.read(comment.as_bytes()).iter().all(|line| matches!(line.part, LinePart::Comment(_))));
    // The same if a comment is cut after its colon.
    let field = format!("data: {}\n", "d".repeat(1_000_000));
    for part in [field.as_bytes(), b":", comment.as_bytes()] {
        assert!(lines.read(part).iter().all(|line| line.part != LinePart::TooLong));
    }
    assert!(matches!(lines.read(b"\n").last().unwrap().part, LinePart::EventEnd(Some(_))));
    assert!(lines.read(format!(":{}", "c".repeat(1024 * 1024)).as_bytes()).iter().any(|l| l.part == LinePart::TooLong));
}
