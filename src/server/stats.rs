//! The counts of `GET /api/stats`, by transport.

use serde_json::{Map, Value, json};

use super::message::Transport;
use crate::connection::Traffic;

/// The counts of one transport.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Held polls, open streams and WebSockets.
    pub open: u64,
    /// Delivered messages.
    pub messages: u64,
    /// Messages that have come on a WebSocket.
    pub received: u64,
    /// Bytes of requests, answers, chunks and frames, including heads.
    pub traffic: Traffic,
}

/// The counts of all transports.
#[derive(Debug, Clone, Default)]
pub struct Stats([Counts; Transport::ALL.len()]);

impl Stats {
    /// Returns the counts of one transport, for changes.
    pub fn of(&mut self, transport: Transport) -> &mut Counts {
        &mut self.0[transport as usize]
    }

    /// Returns the counts of one transport.
    pub fn get(&self, transport: Transport) -> &Counts {
        &self.0[transport as usize]
    }

    /// Adds the bytes that a connection has moved between two readings.
    pub fn add_traffic(&mut self, transport: Transport, since: Traffic, until: Traffic) {
        let total = &mut self.of(transport).traffic;
        total.received += until.received.saturating_sub(since.received);
        total.sent += until.sent.saturating_sub(since.sent);
    }

    /// Returns the counts as JSON, one member for each transport.
    pub fn to_json(&self) -> Value {
        let entry = |transport: &Transport| {
            let counts = self.0[*transport as usize];
            let value = json!({
                "open": counts.open,
                "messages": counts.messages,
                "bytes_in": counts.traffic.received,
                "bytes_out": counts.traffic.sent,
            });
            (transport.name().to_owned(), value)
        };
        Value::Object(Transport::ALL.iter().map(entry).collect::<Map<_, _>>())
    }
}
