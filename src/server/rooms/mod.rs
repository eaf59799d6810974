//! Rooms: every reader of a room receives every message that is published there, on any transport.
//!
//! This file holds the handlers. `room` and `clients` hold the state, `limits` its bounds.

mod clients;
mod limits;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::clients::Clients;
use self::room::{OpenFor, Published, Room, RoomMap};
use super::exchanges::{Call, EndReason, Exchanges, Opening, Reply};
use super::message::{Transport, encode, timestamp};
use super::params::{self, ApiError, Fields, ID, KEY, NAME, TEXT};
use super::{Feature, FeatureId, HEARTBEAT, uncached};
use crate::bytes::Shared;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Replay};
use crate::http::{self, Content, Request, Response};
use crate::sse;
use crate::websocket::{self, Message};

/// The default duration of a poll, in seconds.
pub const POLL_SECONDS: u64 = 25;

/// The longest duration of a poll whose cursor is not recovered. Its client must learn this soon, but must not poll in
/// a busy loop.
const NOT_RECOVERED_POLL: Duration = Duration::from_secs(1);

/// The members of a poll's answer between `messages` and `recovered`, when there are messages.
const SUCCESS: &str = r#""status":"success","timeout":false"#;

/// The rooms, their clients and their readers.
#[derive(Default)]
pub struct Rooms {
    rooms: RoomMap,
    clients: Clients,
    readers: HashMap<ExchangeId, Reader>,
}

/// A held exchange that receives the messages of a room.
struct Reader {
    room: Rc<str>,
    client: Option<Rc<str>>,
    kind: ReaderKind,
}

enum ReaderKind {
    /// A poll from this position.
    Poll(Replay),
    /// A stream or a WebSocket.
    Stream(Transport),
}

/// The parameters of a poll.
pub struct Poll<'a> {
    /// The name of the room.
    pub room: &'a str,
    /// The client, if it has named itself.
    pub client: Option<Rc<str>>,
    /// The last message that the client has.
    pub cursor: Option<Cursor>,
    /// The longest time that the poll is held without messages.
    pub timeout: Duration,
}

impl Poll<'_> {
    /// The head of the answer, for HEAD.
    pub fn head() -> Response {
        json_response(Content::Omitted)
    }
}

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

/// A message to publish.
pub struct Draft<'a> {
    /// The name of the room.
    pub room: &'a str,
    /// The name of the sender.
    pub sender: &'a str,
    /// The text.
    pub text: &'a str,
    /// The idempotency key.
    pub key: Option<&'a str>,
}

impl Rooms {
    /// GET /api/poll
    pub fn poll(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (client, room, cursor, timeout) = poll_parameters(call.request)?;
        let client = Some(self.clients.see(&client, exchanges.now())?);
        self.hold_poll(exchanges, call, Poll { room: &room, client, cursor, timeout })
    }

    /// HEAD /api/poll
    pub fn poll_head(request: &Request) -> Result<Response, ApiError> {
        poll_parameters(request).map(|_| Poll::head())
    }

    /// Answers a poll if there are messages for it, and holds it otherwise. A client without a cursor continues after
    /// the last message that it was sent, so no message is lost between two of its polls.
    pub fn hold_poll(&mut self, exchanges: &mut Exchanges, call: &Call<'_>, poll: Poll<'_>) -> Result<Reply, ApiError> {
        let now = exchanges.now();
        let room = self.rooms.open(poll.room, OpenFor::Reading, &mut exchanges.random, now)?;
        let mut client = poll.client.as_ref().and_then(|id| self.clients.get_mut(id));
        let position = client.as_ref().and_then(|client| client.position(&room.name));
        let from = match poll.cursor.or(position) {
            None if client.as_ref().is_some_and(|client| client.has_dropped_positions()) => room.replay_everything(),
            cursor => room.replay(cursor),
        };
        let messages = room.feed.after(from.after).len() as u64;
        if let Some(client) = &mut client {
            if messages > 0 {
                client.set_position(&room.name, room.feed.tip());
            } else if poll.cursor.is_some() || position.is_none() {
                client.set_position(&room.name, poll.cursor.unwrap_or(from.after));
            }
        }
        if messages > 0 {
            return Ok(Reply::Counted(json_response(shared(room.batch(from, SUCCESS))), Transport::LongPoll, messages));
        }
        room.polls.insert(call.id);
        if let Some(client) = client {
            client.held.insert(call.id);
        }
        let reader = Reader { room: room.name.clone(), client: poll.client, kind: ReaderKind::Poll(from) };
        self.readers.insert(call.id, reader);
        let timeout = if from.recovered { poll.timeout } else { poll.timeout.min(NOT_RECOVERED_POLL) };
        exchanges.hold(call, FeatureId::Rooms, Transport::LongPoll, Some(timeout));
        Ok(Reply::Later)
    }

    /// GET /api/messages
    pub fn messages(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
        let cursor = params::cursor(call.request, "last_message_id")?;
        let room = params::room(call.request)?;
        let now = exchanges.now();
        let room = self.rooms.open(&room, OpenFor::Reading, &mut exchanges.random, now)?;
        let from = room.replay(Some(cursor.unwrap_or(room.feed.last(usize::MAX))));
        let messages = room.feed.after(from.after).len() as u64;
        let content = room.batch(from, r#""stopPolling":false"#);
        Ok(Reply::Counted(json_response(shared(content)), Transport::ShortPoll, messages))
    }

    /// GET /api/history
    pub fn history(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let name = params::room(call.request)?;
        let limit = params::number(call.request, "limit", 20, 1..=100)?;
        let messages: Vec<&str> = match self.rooms.get(&name) {
            Some(room) => room.feed.after(room.feed.last(limit as usize)).map(|(_, json)| &**json).collect(),
            None => Vec::new(),
        };
        let content = format!(r#"{{"room":{},"messages":[{}]}}"#, json!(name), messages.join(",")) + "\n";
        Ok(Reply::Now(json_response(shared(content))))
    }

    /// POST /api/send
    pub fn send(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
        let fields = Fields::of_content(call.request)?;
        let room = fields.name("room")?.unwrap_or(params::DEFAULT_ROOM);
        let draft = draft(room, &fields)?;
        self.publish(exchanges, &draft).map(sent)
    }

    /// Publishes a message, and delivers it to the readers of the room. A known key publishes nothing and returns the
    /// stored result.
    pub fn publish(&mut self, exchanges: &mut Exchanges, draft: &Draft<'_>) -> Result<Published, ApiError> {
        let now = exchanges.now();
        let room = self.rooms.open(draft.room, OpenFor::Publishing, &mut exchanges.random, now)?;
        if let Some(stored) = room.keys.get(draft.key) {
            return Ok(stored);
        }
        let published = Published { id: room.feed.next_cursor(), timestamp: timestamp() };
        let message = json!({
            "id": published.id.to_string(),
            "sender": draft.sender,
            "text": draft.text,
            "timestamp": published.timestamp,
            "room": &*room.name,
        });
        let json: Rc<str> = message.to_string().into();
        room.feed.publish(json.clone(), json.len());
        room.keys.insert(draft.key, published);
        let name = room.name.clone();
        self.deliver(exchanges, &name, published.id, &json);
        Ok(published)
    }

    /// Delivers the newest message of a feed: sends it to the streams of the room, and answers the held polls.
    fn deliver(&mut self, exchanges: &mut Exchanges, name: &Rc<str>, cursor: Cursor, json: &str) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.send(exchanges, cursor, json);
        // A held poll has had everything before this message. So there are two different answers: for the polls that
        // were recovered, and for those that were not. A clone of an answer shares its content.
        let mut answers: [Option<(Response, u64)>; 2] = [None, None];
        for id in mem::take(&mut room.polls) {
            let Some(Reader { client, kind: ReaderKind::Poll(from), .. }) = self.readers.remove(&id) else { continue };
            let (response, messages) = answers[usize::from(from.recovered)]
                .get_or_insert_with(|| {
                    let messages = room.feed.after(from.after).len() as u64;
                    (json_response(shared(room.batch(from, SUCCESS))), messages)
                })
                .clone();
            if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
                client.set_position(name, room.feed.tip());
                client.held.remove(&id);
                client.seen = exchanges.now();
            }
            exchanges.answer(id, response, messages);
        }
    }

    /// GET /api/stream
    pub fn stream(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
        let subscription = Subscription::to_stream(call.request)?;
        self.begin_stream(exchanges, call, Transport::Stream, &subscription, Opening::Stream(lines_head()))
    }

    /// HEAD /api/stream
    pub fn stream_head(request: &Request) -> Result<Response, ApiError> {
        Subscription::to_stream(request).map(|_| lines_head())
    }

    /// GET /api/events
    pub fn events(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
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
    ) -> Result<Reply, ApiError> {
        self.begin_stream(exchanges, call, Transport::Sse, subscription, Opening::Stream(sse::stream_head()))
    }

    /// GET /api/ws
    pub fn websocket(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, ApiError> {
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
    ) -> Result<Reply, ApiError> {
        let Subscription { room, client, cursor } = subscription;
        let now = exchanges.now();
        let client = client.as_ref().map(|id| self.clients.see(id, now)).transpose()?;
        let room = self.rooms.open(room, OpenFor::Reading, &mut exchanges.random, now)?;
        let from = room.replay(*cursor);
        exchanges.begin(call, opening);
        if transport == Transport::Sse {
            // An event without data is not dispatched, but its id counts: a client whose connection breaks before the
            // first message can resume.
            let retry = Duration::from_millis(1000 + exchanges.random.number() % 2000);
            exchanges.send(call.id, &http::chunk(&sse::opening(&from.after.to_string(), retry)));
        }
        if !from.recovered {
            exchanges.send(call.id, &not_recovered(transport, from.after));
        }
        let mut messages = 0;
        for (id, json) in room.feed.after(from.after) {
            exchanges.send(call.id, &encode(transport, Some(id), "message", json));
            messages += 1;
        }
        exchanges.count(transport, messages);
        room.join(exchanges, transport, call.id);
        if let Some(client) = client.as_ref().and_then(|id| self.clients.get_mut(id)) {
            client.held.insert(call.id);
            // If the client polls later, it receives the messages of this stream again, and misses none.
            if client.position(&room.name).is_none() {
                client.set_position(&room.name, from.after);
            }
        }
        let reader = Reader { room: room.name.clone(), client, kind: ReaderKind::Stream(transport) };
        self.readers.insert(call.id, reader);
        // A WebSocket has pings, and needs no heartbeat.
        let heartbeat = (transport != Transport::WebSocket).then_some(HEARTBEAT);
        exchanges.hold(call, FeatureId::Rooms, transport, heartbeat);
        Ok(Reply::Later)
    }

    /// Whether a room has an open stream.
    pub fn has_streams(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(Room::has_streams)
    }

    /// Returns the number of messages ever published in a room.
    pub fn published(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |room| room.feed.published())
    }

    /// Ends all exchanges of a client, and removes it. Returns whether there was one.
    pub fn disconnect(&mut self, exchanges: &mut Exchanges, client: &str) -> bool {
        let Some(client) = self.clients.remove(client) else { return false };
        for id in client.held {
            self.end(exchanges, id, EndReason::Disconnected);
        }
        true
    }

    /// Removes a reader from its room and from its client.
    fn remove_reader(&mut self, exchanges: &mut Exchanges, id: ExchangeId) -> Option<Reader> {
        let reader = self.readers.remove(&id)?;
        if let Some(room) = self.rooms.get_mut(&reader.room) {
            match reader.kind {
                ReaderKind::Poll(_) => drop(room.polls.remove(&id)),
                ReaderKind::Stream(transport) => room.leave(exchanges, transport, id),
            }
        }
        if let Some(client) = reader.client.as_ref().and_then(|client| self.clients.get_mut(client)) {
            client.held.remove(&id);
            client.seen = exchanges.now();
        }
        Some(reader)
    }

    /// Returns the number of clients in each room with readers. The last part of a `client_id`, after its last full
    /// stop, says who the client is: several connections of one page are one. A reader without `client_id` counts as
    /// one.
    fn present(&self) -> BTreeMap<&str, usize> {
        let mut present: BTreeMap<&str, (HashSet<&str>, usize)> = BTreeMap::new();
        for reader in self.readers.values() {
            let (named, unnamed) = present.entry(&reader.room).or_default();
            match reader.client.as_ref().and_then(|id| id.rsplit('.').next()) {
                Some(who) => drop(named.insert(who)),
                None => *unnamed += 1,
            }
        }
        present.into_iter().map(|(room, (named, unnamed))| (room, named.len() + unnamed)).collect()
    }
}

impl Feature for Rooms {
    /// A WebSocket sends a message to its room, or asks for a heartbeat: a page sees no Ping and no Pong.
    fn on_message(&mut self, exchanges: &mut Exchanges, id: ExchangeId, message: &Message) -> Result<(), ApiError> {
        let Some(room) = self.readers.get(&id).map(|reader| reader.room.clone()) else { return Ok(()) };
        let fields = Fields::of_message(message)?;
        if fields.optional("type", &NAME)? == Some("heartbeat") {
            exchanges.send(id, &heartbeat(Transport::WebSocket));
            return Ok(());
        }
        self.publish(exchanges, &draft(&room, &fields)?).map(drop)
    }

    /// The time of a poll is up, or a heartbeat of a stream is due.
    fn on_timer(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        match self.readers.get(&id).map(|reader| &reader.kind) {
            Some(ReaderKind::Poll(_)) => self.end(exchanges, id, EndReason::TimedOut),
            Some(ReaderKind::Stream(transport)) => {
                exchanges.send(id, &heartbeat(*transport));
                exchanges.set_timer(id, HEARTBEAT);
            }
            None => {}
        }
    }

    fn on_closed(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        self.remove_reader(exchanges, id);
    }

    fn end(&mut self, exchanges: &mut Exchanges, id: ExchangeId, reason: EndReason) {
        match self.remove_reader(exchanges, id) {
            Some(Reader { room, kind: ReaderKind::Poll(from), .. }) => {
                let content = self.rooms.get(&room).map(|room| room.batch(from, status_of_empty_answer(reason)));
                exchanges.answer(id, json_response(shared(content.unwrap_or_default())), 0);
            }
            Some(Reader { kind: ReaderKind::Stream(_), .. }) => exchanges.end(id, reason),
            None => {}
        }
    }

    fn sweep(&mut self, exchanges: &Exchanges) {
        self.clients.sweep(exchanges.now());
    }

    fn forget(&mut self, exchanges: &mut Exchanges) {
        self.rooms.clear(exchanges);
        *self = Rooms::default();
    }

    fn add_statistics(&self, exchanges: &Exchanges, statistics: &mut Map<String, Value>) {
        statistics.insert("active_clients".into(), self.clients.active(exchanges.now()).into());
        statistics.insert("total_messages".into(), self.rooms.total_messages().into());
        statistics.insert("rooms".into(), self.rooms.names().into());
        statistics.insert("present".into(), json!(self.present()));
    }
}

fn draft<'a>(room: &'a str, fields: &'a Fields) -> Result<Draft<'a>, ApiError> {
    let sender = fields.name("sender")?.ok_or_else(|| params::missing("sender", &NAME))?;
    Ok(Draft { room, sender, text: fields.required("text", &TEXT)?, key: fields.optional("key", &KEY)? })
}

/// Returns the answer to the sender of a message.
pub fn sent(published: Published) -> Reply {
    let Published { id, timestamp } = published;
    Reply::Now(uncached(&json!({ "status": "sent", "message_id": id.to_string(), "timestamp": timestamp })))
}

/// Returns the members of a poll's answer between `messages` and `recovered`, when there are no messages.
fn status_of_empty_answer(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Disconnected => r#""status":"disconnected","timeout":false"#,
        EndReason::TimedOut | EndReason::Superseded | EndReason::GoingAway => r#""status":"timeout","timeout":true"#,
    }
}

/// Reads the parameters of a poll: the client, the room, the cursor, and how long the poll is held.
fn poll_parameters(request: &Request) -> Result<(String, String, Option<Cursor>, Duration), ApiError> {
    let client = params::text(request, "client_id", &ID)?.ok_or_else(|| params::missing("client_id", &ID))?;
    let room = params::room(request)?;
    let cursor = params::cursor(request, "last_message_id")?;
    let seconds = params::number(request, "timeout", POLL_SECONDS, 5..=60)?;
    Ok((client, room, cursor, Duration::from_secs(seconds)))
}

/// Returns the head of a stream of lines. Each line is JSON.
fn lines_head() -> Response {
    Response::new(200)
        .with_field("Content-Type", "application/x-ndjson")
        .with_field("Cache-Control", "no-store")
        .with_field("X-Accel-Buffering", "no")
}

/// Returns 200 with JSON that no cache stores.
fn json_response(json: impl Into<Content>) -> Response {
    Response::new(200).with_content("application/json", json).with_field("Cache-Control", "no-store")
}

/// Makes content of JSON. Clones share it.
fn shared(json: String) -> Content {
    Content::Shared(json.into_bytes().into())
}

/// Encodes the notice that messages are missing before the next one. `from` is the position that follows.
fn not_recovered(transport: Transport, from: Cursor) -> Shared {
    let notice = json!({ "type": "notice", "recovered": false, "last_message_id": from.to_string() });
    encode(transport, Some(from), "notice", &notice.to_string())
}

/// Encodes a heartbeat: an event or a message with the time, an empty line on a stream of lines.
fn heartbeat(transport: Transport) -> Shared {
    match transport {
        Transport::WebSocket => websocket::text(&json!({ "type": "heartbeat", "timestamp": timestamp() }).to_string()),
        Transport::Sse => encode(transport, None, "heartbeat", &json!({ "timestamp": timestamp() }).to_string()),
        _ => http::chunk(b"\n"),
    }
}
