//! The bytes that the load sends, and the bytes that a server must answer. The load and the floor, whose answers are
//! canned, both use them.
#![allow(dead_code)] // each program uses a part of it

use overwire::http::{self, Response};
use overwire::websocket::{self, Opcode};
use overwire::{Shared, sse};

/// All handshakes have the same key, so that the floor can have a canned answer.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// All frames of the load have the same masking-key, for the same reason.
const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The last byte of each payload, which has no other such byte. So messages can be counted in a stream even if a server
/// has joined their chunks.
pub const LAST: u8 = b'~';

/// A payload of `size` bytes.
pub fn payload(size: usize) -> String {
    "x".repeat(size - 1) + "~"
}

/// A GET request on a persistent connection.
pub fn get(target: &str) -> Vec<u8> {
    get_with(target, "Accept: */*\r\n")
}

/// A GET request with further field lines.
pub fn get_with(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n{fields}\r\n").into_bytes()
}

/// A POST request that publishes `content`.
pub fn post(path: &str, content: &str) -> Vec<u8> {
    let length = content.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nContent-Length: {length}\r\n\r\n{content}")
        .into_bytes()
}

/// An opening handshake.
pub fn upgrade(path: &str) -> Vec<u8> {
    websocket::opening_request("localhost", path, KEY)
}

/// A masked text message.
pub fn message(payload: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    websocket::encode(&mut frame, Opcode::Text, payload.as_bytes(), Some(MASKING_KEY));
    frame
}

/// The answers of `bench-server`, with the same bytes except for the date.
pub struct Answers {
    pub hello: Vec<u8>,
    pub upgraded: Vec<u8>,
    pub published: Vec<u8>,
    pub poll: Vec<u8>,
    pub events_head: Vec<u8>,
    pub chunks_head: Vec<u8>,
    pub frame: Shared,
    pub event: Shared,
    pub chunk: Shared,
}

impl Answers {
    /// The answers for messages of `size` bytes.
    pub fn of(size: usize) -> Self {
        let payload = payload(size);
        let upgraded = Response::new(101)
            .with_field("Upgrade", "websocket")
            .with_field("Connection", "Upgrade")
            .with_field("Sec-WebSocket-Accept", &websocket::accept_key(KEY.as_bytes()));
        let json = format!(r#"{{"id":1,"message":"{payload}"}}"#).into_bytes();
        let poll = Response::new(200).with_content("application/json", json).with_field("Cache-Control", "no-store");
        let chunks = Response::new(200).with_field("Content-Type", "text/plain; charset=utf-8");
        Answers {
            hello: whole(&Response::text(200, "hello")),
            upgraded: whole(&upgraded),
            published: whole(&Response::new(204)),
            poll: whole(&poll),
            events_head: head(&sse::stream_head(), http::Framing::Chunked),
            chunks_head: head(&chunks, http::Framing::Chunked),
            frame: websocket::text(&payload),
            event: http::chunk(&sse::event(Some("1"), "message", &payload)),
            chunk: http::chunk(payload.as_bytes()),
        }
    }
}

fn whole(response: &Response) -> Vec<u8> {
    let mut bytes = head(response, response.framing());
    response.content().parts().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

fn head(response: &Response, framing: http::Framing) -> Vec<u8> {
    let mut bytes = Vec::new();
    response.encode_head(&mut bytes, &http::format_date(0), framing, None);
    bytes
}
