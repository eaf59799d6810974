//! The bytes of one exchange as its viewers see them: labelled, masked and counted, as JSON.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::decode_component;
use crate::json;
use crate::websocket::Role;
use crate::wire::{Candidate, Conversation, Counts, Line, Part, Piece, Secrets, Tally, mark_keep_alive};

/// The end of the path where overwire takes a key, in JSON. A proxy may have added a prefix.
const LOG_IN: &str = "/api/session";

/// The end of the path where overwire issues a ticket, in JSON.
const TICKET: &str = "/api/ticket";

/// An exchange that viewers see.
#[derive(Debug)]
pub struct Shown {
    /// The audience that sees it.
    pub audience: Rc<str>,
    /// The label that its page gave it.
    pub label: Rc<str>,
    /// The number of the exchange, counted from 1 for each audience.
    pub number: u64,
    /// The client's end of the connection.
    address: SocketAddr,
    /// Labels the bytes. `None` after some bytes were left out, because later ones cannot be labelled without them.
    conversation: Option<Conversation>,
    shows_secrets: bool,
    client: Direction,
    server: Direction,
}

#[derive(Debug)]
struct Direction {
    tally: Tally,
    /// The counts since the last event that was shown.
    counted: Counts,
    secrets: Secrets,
}

impl Direction {
    fn new(from: Role) -> Self {
        Direction { tally: Tally::new(from, keeps_alive), counted: Counts::default(), secrets: Secrets::default() }
    }
}

impl Shown {
    /// Creates the view of an exchange before its first byte, with or without its secrets.
    pub fn new(audience: Rc<str>, label: Rc<str>, number: u64, address: SocketAddr, shows_secrets: bool) -> Self {
        Shown {
            audience,
            label,
            number,
            address,
            shows_secrets,
            conversation: Some(Conversation::default()),
            client: Direction::new(Role::Client),
            server: Direction::new(Role::Server),
        }
    }

    /// Labels bytes that `from` sent. `None` after [`give_up`](Self::give_up).
    pub fn read(&mut self, from: Role, bytes: &[u8]) -> Option<Vec<Piece>> {
        let pieces = self.conversation.as_mut()?.read(from, bytes);
        Some(self.count(from, pieces))
    }

    /// Labels no more bytes, and drops those that wait for their label.
    pub fn give_up(&mut self) {
        self.conversation = None;
    }

    /// Labels the bytes of an incomplete part that `from` sent.
    pub fn end(&mut self, from: Role) -> Vec<Piece> {
        let pieces = self.conversation.as_mut().map(|conversation| conversation.end(from));
        let pieces = self.count(from, pieces.unwrap_or_default());
        let direction = self.direction(from);
        direction.counted += direction.tally.end();
        pieces
    }

    /// The number of bytes that wait for their label.
    pub fn kept(&self) -> usize {
        self.conversation.as_ref().map_or(0, Conversation::kept)
    }

    /// Whether bytes of `from` are counted and not shown yet.
    pub fn has_counted(&self, from: Role) -> bool {
        let direction = if from == Role::Client { &self.client } else { &self.server };
        direction.counted != Counts::default()
    }

    /// Encodes an event of this type with the members that all events of an exchange have.
    pub fn event(&self, kind: &str, time: f64) -> Value {
        json!({
            "type": kind,
            "label": &*self.label,
            "connection": self.address.to_string(),
            "exchange": self.number,
            "time": time,
        })
    }

    /// Encodes an event with pieces.
    pub fn bytes_event(&mut self, from: Role, pieces: &[Piece], time: f64) -> Value {
        let direction = self.direction(from);
        let Counts { payload, framing, header, keep_alive } = std::mem::take(&mut direction.counted);
        let mut event = self.event("bytes", time);
        event["from"] = (if from == Role::Client { "client" } else { "server" }).into();
        event["pieces"] = pieces.iter().map(piece_json).collect();
        event["counted"] =
            json!({ "payload": payload, "framing": framing, "header": header, "keep-alive": keep_alive });
        event
    }

    fn direction(&mut self, from: Role) -> &mut Direction {
        match from {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    fn count(&mut self, from: Role, mut pieces: Vec<Piece>) -> Vec<Piece> {
        let direction = self.direction(from);
        let mut counts = direction.tally.read(&pieces);
        let line = pieces.iter().find(|piece| piece.part == Part::RequestLine);
        counts.header -= line.map_or(0, |line| length_of_parameter(&line.bytes)) as u64;
        direction.counted += counts;
        mark_keep_alive(&mut pieces, keeps_alive);
        if !self.shows_secrets {
            self.hide_secrets(from, &mut pieces);
        }
        pieces
    }

    /// Also pieces that no viewer gets are read here: a secret may begin in one and go on in the next.
    fn hide_secrets(&mut self, from: Role, pieces: &mut [Piece]) {
        for piece in pieces {
            if piece.part == Part::RequestLine {
                let path = path_of(&piece.bytes);
                self.client.secrets.expect_in_content(path.ends_with(LOG_IN));
                self.server.secrets.expect_in_content(path.ends_with(TICKET));
            }
            self.direction(from).secrets.hide(piece);
        }
    }
}

/// The path of a target in a request line, decoded as the server does it: `%73ession` is `session`.
fn path_of(line: &[u8]) -> Cow<'_, str> {
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    str::from_utf8(path).ok().and_then(|path| decode_component(path, false)).unwrap_or_default()
}

/// Recognizes what the applications of this repository, and many others, send only to keep a connection open.
fn keeps_alive(candidate: &Candidate<'_>) -> bool {
    match candidate {
        Candidate::Event { name: "heartbeat", .. } => true,
        Candidate::Event { data: text, .. } | Candidate::Frame(text) | Candidate::Line(text) => {
            text.contains("heartbeat") && parse(text)["type"] == "heartbeat"
        }
        Candidate::Answer(text) => {
            let answer = parse(text);
            answer["type"] == "timeout" || answer["messages"].as_array().is_some_and(Vec::is_empty)
        }
    }
}

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_default()
}

/// The length of the query parameter `tap` in a request line, with one `&` or `?`. The parameter is there only because
/// somebody looks, so it does not count.
fn length_of_parameter(line: &[u8]) -> usize {
    let is_parameter = |at: &usize| matches!(line[*at], b'?' | b'&') && line[at + 1..].starts_with(b"tap=");
    let Some(start) = (0..line.len()).find(is_parameter) else { return 0 };
    let is_end = |byte: &u8| matches!(byte, b'&' | b'#' | b' ');
    line[start + 1..].iter().position(is_end).map_or(0, |length| length + 1)
}

fn piece_json(piece: &Piece) -> Value {
    let mut value = json!({
        "name": piece.part.name(),
        "kind": piece.kind().name(),
        "section": piece.part.section(),
        "bytes": STANDARD.encode(&piece.bytes),
    });
    add_meaning(&mut value, piece.meaning());
    match &piece.part {
        Part::FrameHeader(header) => value["opcode"] = (header.opcode as u8).into(),
        Part::Payload { opcode, masking_key, offset } => {
            value["opcode"] = (*opcode as u8).into();
            if let Some(key) = masking_key {
                value["masking_key"] = format!("{:08x}", u32::from_be_bytes(*key)).into();
                value["offset"] = (*offset).into();
            }
        }
        _ => {}
    }
    if !piece.lines.is_empty() {
        value["lines"] = piece.lines.iter().map(line_json).collect();
    }
    value
}

fn line_json(line: &Line) -> Value {
    let mut value = json!({
        "name": line.part.name(),
        "kind": line.kind().name(),
        "section": line.part.section(),
        "bytes": STANDARD.encode(&line.bytes),
    });
    add_meaning(&mut value, line.meaning());
    value
}

fn add_meaning(value: &mut Value, meaning: String) {
    if !meaning.is_empty() {
        value["meaning"] = meaning.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown::new("id".into(), "a".into(), 1, ([127, 0, 0, 1], 5).into(), false)
    }

    fn counted(shown: &mut Shown, from: Role, bytes: &[u8]) -> Value {
        let pieces = shown.read(from, bytes).unwrap();
        shown.bytes_event(from, &pieces, 0.0)["counted"].take()
    }

    #[test]
    fn the_parameter_tap_is_not_counted() {
        let mut shown = shown();
        let plain = b"GET /?a=b&c=d HTTP/1.1\r\nHost: h\r\n\r\n";
        for request in [
            &b"GET /?a=b&c=d&tap=0123456789.a HTTP/1.1\r\nHost: h\r\n\r\n"[..],
            b"GET /?tap=0123456789.a&a=b&c=d HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /?a=b&tap=0123456789.a&c=d HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(counted(&mut shown, Role::Client, request)["header"], plain.len());
        }
        let request = b"GET /?tap=0123456789.a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(counted(&mut shown, Role::Client, request)["header"], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".len());
    }

    #[test]
    fn heartbeats_and_empty_answers_are_keep_alive() {
        for (text, expected) in [
            (r#"{"type":"heartbeat"}"#, true),
            (r#"{"type":"message","text":"heartbeat"}"#, false),
            ("heartbeat", false),
        ] {
            assert_eq!(keeps_alive(&Candidate::Frame(text)), expected, "{text}");
        }
        assert!(keeps_alive(&Candidate::Event { name: "heartbeat", data: "" }));
        assert!(keeps_alive(&Candidate::Answer(r#"{"messages":[]}"#)));
        assert!(keeps_alive(&Candidate::Answer(r#"{"type":"timeout"}"#)));
        assert!(!keeps_alive(&Candidate::Answer(r#"{"messages":[1]}"#)) && !keeps_alive(&Candidate::Answer("[]")));
    }

    #[test]
    fn secrets_are_masked_in_malformed_heads_too() {
        let mut shown = shown();
        shown.read(Role::Client, b"GET / HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n");
        let answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nmalformed\r\n\r\n";
        for byte in answer {
            let pieces = shown.read(Role::Server, &[*byte]).unwrap();
            let event = shown.bytes_event(Role::Server, &pieces, 0.0);
            for piece in event["pieces"].as_array().unwrap() {
                let bytes = STANDARD.decode(piece["bytes"].as_str().unwrap()).unwrap();
                assert!(!String::from_utf8(bytes).unwrap().contains("secret"), "{event}");
            }
        }
    }

    #[test]
    fn a_secret_goes_on_after_bytes_that_no_viewer_got() {
        let mut shown = shown();
        shown.read(Role::Client, b"GET / HTTP/1.1\r\nHost : h\r\nCookie: fro"); // malformed, and left out
        let pieces = shown.read(Role::Client, b"nt\r\nReferer: /?ticket=a").unwrap();
        assert_eq!(pieces[0].bytes, b"**\r\nReferer: /?ticket=*");
        let pieces = shown.read(Role::Client, b"b&c=d\r\n").unwrap();
        assert_eq!(pieces[0].bytes, b"*&c=d\r\n");
    }
}
