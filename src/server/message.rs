//! The encoding of a message for each transport.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bytes::Shared;
use crate::feed::Cursor;
use crate::{http, sse, websocket};

/// A way for messages to reach a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A request that is answered at once.
    ShortPoll,
    /// A request that is held until there is a message.
    LongPoll,
    /// A chunked answer with one line of JSON for each message.
    Stream,
    /// Server-sent events.
    Sse,
    /// A WebSocket.
    WebSocket,
}

impl Transport {
    /// All transports, in the order of the page.
    pub const ALL: [Transport; 5] =
        [Transport::ShortPoll, Transport::LongPoll, Transport::Stream, Transport::Sse, Transport::WebSocket];

    /// Returns the name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::ShortPoll => "short_poll",
            Transport::LongPoll => "long_poll",
            Transport::Stream => "stream",
            Transport::Sse => "sse",
            Transport::WebSocket => "websocket",
        }
    }
}

/// Encodes one JSON text for a stream or a WebSocket. Only SSE sends the id and the name, as those of an event.
/// The calls nest as the bytes do: an event inside a chunk.
pub fn encode(transport: Transport, id: Option<Cursor>, name: &str, json: &str) -> Shared {
    match transport {
        Transport::Sse => http::chunk(&sse::event(id.map(|id| id.to_string()).as_deref(), name, json)),
        Transport::WebSocket => websocket::text(json),
        _ => http::chunk(format!("{json}\n").as_bytes()),
    }
}

/// Returns the seconds since the epoch, to the millisecond.
pub fn timestamp(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as f64 / 1000.0
}

/// Whether a text can be a message: JSON on one line, an object that is not empty. All of its syntax is not checked.
pub fn is_message(body: &str) -> bool {
    // All bytes are looked at, without an early end: so it is done 16 bytes at a time or more.
    let has_control = body.bytes().fold(false, |found, byte| found | (byte < b' '));
    body.starts_with("{\"") && body.ends_with('}') && !has_control
}

/// Returns the JSON of a message: its id, and then the members of `body`, which [is one](is_message).
pub fn with_id(id: Cursor, body: &str) -> String {
    let mut json = String::with_capacity(body.len() + ID_MEMBER);
    json.extend([r#"{"id":""#, &id.to_string(), r#"","#, &body[1..]]);
    json
}

/// The number of bytes by which an id makes the JSON of a message longer.
const ID_MEMBER: usize = r#""id":"1f0c2a9e-8b4d-8e17-b5c3-7f000000002a","#.len();

/// Returns the time of a message: the last member of its JSON, in seconds since the epoch.
pub fn timestamp_of(json: &str) -> Option<f64> {
    json.strip_suffix('}')?.rsplit_once(r#""timestamp":"#)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_id_first_and_its_time_last() {
        let id: Cursor = "1f0c2a9e-8b4d-8e17-b5c3-7f000000002a".parse().unwrap();
        let body = r#"{"text":"\"timestamp\":1}","timestamp":1700000000.5}"#;
        let json = with_id(id, body);
        assert_eq!(json.len(), body.len() + ID_MEMBER);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["id"], id.to_string());
        assert_eq!(value.to_string(), json, "the members are in the order of their names");
        assert_eq!((timestamp_of(&json), timestamp_of("{}")), (Some(1700000000.5), None));
    }

    #[test]
    fn only_an_object_on_one_line_is_a_message() {
        assert!(is_message(r#"{"text":"\n"}"#));
        for other in ["", "{}", "[1]", "\"a\"", "{\"a\":1", "\u{e9}", "{\"a\":\n1}", " {\"a\":1}"] {
            assert!(!is_message(other), "{other:?}");
        }
    }
}
