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
pub fn timestamp() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as f64 / 1000.0
}
