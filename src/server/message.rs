//! A room's message in the form of each transport, made once however many receive it.

use std::cell::OnceCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bytes::Shared;
use crate::feed::Cursor;
use crate::{http, sse, websocket};

/// How a message reaches a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    ShortPoll,
    LongPoll,
    Stream,
    Sse,
    WebSocket,
}

impl Transport {
    /// All of them, as the page shows them.
    pub const ALL: [Transport; 5] =
        [Transport::ShortPoll, Transport::LongPoll, Transport::Stream, Transport::Sse, Transport::WebSocket];

    /// Its name in statistics.
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

/// A message on its way to the readers of a room: JSON, and the bytes of each transport, encoded
/// when the first reader on that transport needs them.
pub struct Outgoing<'a> {
    id: Cursor,
    json: &'a str,
    line: OnceCell<Shared>,
    event: OnceCell<Shared>,
    frame: OnceCell<Shared>,
}

impl<'a> Outgoing<'a> {
    /// The message with this id and this JSON.
    pub fn new(id: Cursor, json: &'a str) -> Self {
        Outgoing { id, json, line: OnceCell::new(), event: OnceCell::new(), frame: OnceCell::new() }
    }

    /// What goes onto a connection of this transport: the calls nest as the bytes do.
    pub fn encoded(&self, transport: Transport) -> &Shared {
        match transport {
            Transport::Sse => {
                self.event.get_or_init(|| http::chunk(&sse::event(Some(&self.id.to_string()), "message", self.json)))
            }
            Transport::WebSocket => self.frame.get_or_init(|| websocket::text(self.json)),
            _ => self.line.get_or_init(|| http::chunk(format!("{}\n", self.json).as_bytes())),
        }
    }
}

/// What a stream is told when messages are missing before the next one. `from` is where it goes on.
pub fn not_recovered(transport: Transport, from: Cursor) -> Shared {
    let value = json!({ "type": "notice", "recovered": false, "last_message_id": from.to_string() });
    notice(transport, Some(from), "notice", &value)
}

/// A heartbeat on a stream: an empty line, or an event. A WebSocket has pings of its own, and is sent
/// this when it asks for it.
pub fn heartbeat(transport: Transport) -> Shared {
    match transport {
        Transport::WebSocket => websocket::text(&json!({ "type": "heartbeat", "timestamp": timestamp() }).to_string()),
        Transport::Sse => notice(transport, None, "heartbeat", &json!({ "timestamp": timestamp() })),
        _ => http::chunk(b"\n"),
    }
}

fn notice(transport: Transport, id: Option<Cursor>, name: &str, value: &Value) -> Shared {
    let json = value.to_string();
    match transport {
        Transport::Sse => http::chunk(&sse::event(id.map(|id| id.to_string()).as_deref(), name, &json)),
        Transport::WebSocket => websocket::text(&json),
        _ => http::chunk(format!("{json}\n").as_bytes()),
    }
}

/// Seconds since the epoch, to the millisecond.
pub fn timestamp() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as f64 / 1000.0
}
