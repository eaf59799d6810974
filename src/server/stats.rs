//! What `/api/stats` counts, per transport.

use serde_json::{Map, Value, json};

use super::message::Transport;
use crate::connection::Traffic;

/// The counts of one transport.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Held polls, streams and sockets.
    pub open: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Bytes of requests, answers, chunks and frames, heads included.
    pub traffic: Traffic,
}

/// The counts of all transports.
#[derive(Debug, Default)]
pub struct Stats([Counts; Transport::ALL.len()]);

impl Stats {
    /// The counts of one transport.
    pub fn of(&mut self, transport: Transport) -> &mut Counts {
        &mut self.0[transport as usize]
    }

    /// Adds the bytes that a connection moved between two readings.
    pub fn add_traffic(&mut self, transport: Transport, since: Traffic, until: Traffic) {
        let total = &mut self.of(transport).traffic;
        total.received += until.received.saturating_sub(since.received);
        total.sent += until.sent.saturating_sub(since.sent);
    }

    /// As JSON, with the bytes of connections that are still open: `live` gives, for each, its
    /// transport and two readings.
    pub fn to_json(&self, live: impl Iterator<Item = (Transport, Traffic, Traffic)>) -> Value {
        let mut now = Stats(self.0);
        for (transport, since, until) in live {
            now.add_traffic(transport, since, until);
        }
        let entry = |transport: &Transport| {
            let counts = now.0[*transport as usize];
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
