//! Streams of a room: lines of JSON, server-sent events and WebSockets.

use std::time::Duration;

use serde_json::json;

use super::map::OpenFor;
use super::{Reader, ReaderKind, Rooms};
use crate::bytes::Shared;
use crate::feed::{Cursor, Replay};
use crate::http::{self, Request, Response};
use crate::quotas::Bound;
use crate::server::exchanges::{Call, Exchanges, Opening, Reply};
use crate::server::message::{Transport, encode};
use crate::server::params::{self, ApiError, ID};
use crate::server::parked::Halt;
use crate::server::{FeatureId, HEARTBEAT};
use crate::{sse, websocket};

/// The parameters of a stream or a WebSocket.
pub struct Subscription {
    room: String,
    client: Option<String>,
    cursor: Option<Cursor>,
}

impl Subscription {
    /// Reads the parameters of a stream of lines, or of a WebSocket.
    ///
    /// # Errors
    /// 400 that names the parameter.
    fn to_stream(request: &Request) -> Result<Self, ApiError> {
        let (room, cursor) = (params::room(request)?, params::cursor(request, "last_message_id")?);
        Ok(Subscription { room, cursor, client: params::text(request, "client_id", &ID)? })
    }

    /// Reads the parameters of an event stream.
    ///
    /// # Errors
    /// 400 that names the parameter.
    fn to_events(request: &Request) -> Result<Self, ApiError> {
        Subscription::to_events_of(&params::room(request)?, request)
    }

    /// Reads the parameters of an event stream of this room.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn to_events_of(room: &str, request: &Request) -> Result<Self, ApiError> {
        let cursor = params::last_event_id(request);
        Ok(Subscription { room: room.into(), cursor, client: params::text(request, "client_id", &ID)? })
    }
}

impl Rooms {
    /// GET /api/stream
    pub fn stream(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let subscription = Subscription::to_stream(call.request)?;
        self.begin_stream(exchanges, call, Transport::Stream, &subscription, Opening::Stream(lines_head()))
    }

    /// HEAD /api/stream
    pub fn stream_head(request: &Request) -> Result<Response, ApiError> {
        Subscription::to_stream(request).map(|_| lines_head())
    }

    /// GET /api/events
    pub fn events(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        self.begin_events(exchanges, call, &Subscription::to_events(call.request)?)
    }

    /// HEAD /api/events
    pub fn events_head(request: &Request) -> Result<Response, ApiError> {
        Subscription::to_events(request).map(|_| sse::stream_head())
    }

    /// Begins an event stream of a room.
    pub fn begin_events(
        &mut self,
        exchanges: &mut Exchanges,
        call: &Call<'_>,
        subscription: &Subscription,
    ) -> Result<Reply, Halt> {
        self.begin_stream(exchanges, call, Transport::Sse, subscription, Opening::Stream(sse::stream_head()))
    }

    /// GET /api/ws
    pub fn websocket(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let subscription = Subscription::to_stream(call.request)?;
        match Opening::websocket(call.request) {
            Ok(opening) => self.begin_stream(exchanges, call, Transport::WebSocket, &subscription, opening),
            Err(refusal) => Ok(refusal),
        }
    }

    /// Begins a stream, sends everything after the cursor, and adds it to the room's readers.
    fn begin_stream(
        &mut self,
        exchanges: &mut Exchanges,
        call: &Call<'_>,
        transport: Transport,
        subscription: &Subscription,
        opening: Opening,
    ) -> Result<Reply, Halt> {
        let Subscription { room, client, cursor } = subscription;
        call.enter(room)?;
        let now = exchanges.now();
        let client = client.clone().map(|id| self.clients.see(&call.client(id), now)).transpose()?;
        let room = self.rooms.open(room, OpenFor::Reading, exchanges)?;
        let from = room.replay(*cursor, exchanges)?;
        exchanges.may_hold(if transport == Transport::WebSocket { Bound::WebSockets } else { Bound::Streams })?;
        if cursor.is_some() {
            exchanges.metrics.returned(transport, from.recovered);
        }
        exchanges.begin(call, opening);
        match transport {
            Transport::Sse => {
                let retry = exchanges.retry_time();
                exchanges.send(call.id, &connected(from, retry));
            }
            // Firefox gives a page the head of an answer only with the first byte of its content.
            Transport::Stream => exchanges.send(call.id, &http::chunk(b"\n")),
            _ => {}
        }
        if !from.recovered {
            exchanges.send(call.id, &not_recovered(transport, from.after));
        }
        exchanges.send_rope(call.id, &room.rope(from.after, transport));
        let replayed = room.feed.after(from.after).len() as u64;
        let before = room.feed.published() - replayed;
        exchanges.count(transport, replayed);
        room.join(exchanges, transport, call.id);
        room.present.add(client.as_deref());
        if let Some(mut client) = client.as_ref().and_then(|id| self.clients.get_mut(id)) {
            client.hold(call.id);
            // If the client polls later, it receives the messages of this stream again, and misses none.
            if client.position(&room.name).is_none() && !client.has_dropped_positions() {
                client.note_position(&mut exchanges.journal, &room.log, from.after);
            }
        }
        let reader = Reader { room: room.name.clone(), client, kind: ReaderKind::Stream(transport, before) };
        self.readers.insert(call.id, reader);
        self.rooms.bound_encoded();
        // A WebSocket has pings, and needs no heartbeat.
        let heartbeat = (transport != Transport::WebSocket).then_some(HEARTBEAT);
        exchanges.hold(call, FeatureId::Rooms, transport, heartbeat);
        Ok(Reply::Later)
    }
}

/// Returns the head of a stream of lines. Each line is JSON.
fn lines_head() -> Response {
    Response::new(200)
        .with_field("Content-Type", "application/x-ndjson")
        .with_field("Cache-Control", "no-store")
        .with_field("X-Accel-Buffering", "no")
}

/// Encodes the event that begins an event stream.
fn connected(from: Replay, retry: Duration) -> Shared {
    let id = from.after.to_string();
    let data = json!({ "type": "connected", "recovered": from.recovered, "last_message_id": id });
    http::chunk(&sse::opening(&id, retry, "connected", &data.to_string()))
}

/// Encodes the notice that messages are missing before the next one. `from` is the position that follows.
pub fn not_recovered(transport: Transport, from: Cursor) -> Shared {
    let notice = json!({ "type": "notice", "recovered": false, "last_message_id": from.to_string() });
    encode(transport, Some(from), "notice", &notice.to_string())
}

/// Encodes a heartbeat: an event or a message with the time, an empty line on a stream of lines.
pub fn heartbeat(transport: Transport, timestamp: f64) -> Shared {
    match transport {
        Transport::WebSocket => websocket::text(&json!({ "type": "heartbeat", "timestamp": timestamp }).to_string()),
        Transport::Sse => encode(transport, None, "heartbeat", &json!({ "timestamp": timestamp }).to_string()),
        _ => http::chunk(b"\n"),
    }
}
