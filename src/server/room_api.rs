//! The endpoints of rooms, and of the two-channel demo, which is two rooms. Everyone in a room is
//! given everything that is published there, on whichever transport.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::message::{Outgoing, Transport, heartbeat, not_recovered, timestamp};
use super::params::{self, ApiError, Fields, ID, KEY, NAME, TEXT};
use super::rooms::To;
use super::{Alarm, Call, HEARTBEAT, Purpose, Reply, Server, Why, answer_json};
use crate::bytes::Shared;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::http::{self, Response};
use crate::sse;
use crate::websocket::{self, Message};

/// The room of those who name none.
const DEFAULT_ROOM: &str = "general";

/// The two channels of the demo.
const DEMO_POLLS: &str = "longpoll";
const DEMO_TICKER: &str = "ticker";

/// How often the ticker ticks.
const TICK: Duration = Duration::from_secs(3);

/// How long a poll is held unless it says otherwise, in seconds.
const TIMEOUT: u64 = 25;

/// How long a poll is held whose cursor is of no use: its client is to know soon, and must not spin.
const NOT_RECOVERED: Duration = Duration::from_secs(1);

/// Members of a poll's answer, between `messages` and `recovered`.
const NEWS: &str = r#""status":"success","timeout":false"#;

/// The same when there are none.
pub(super) fn rest_of_empty_answer(why: Why) -> &'static str {
    match why {
        Why::Disconnected => r#""status":"disconnected","timeout":false"#,
        Why::TimedOut | Why::Superseded | Why::GoingAway => r#""status":"timeout","timeout":true"#,
    }
}

impl Server {
    /// GET /api/poll
    pub(super) fn room_poll(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let client = params::text(call.request, "client_id", &ID)?;
        let client = client.ok_or_else(|| params::missing("client_id", &ID))?;
        let room = room_of(call)?;
        let cursor = params::cursor(call.request, "last_message_id")?;
        let timeout = params::number(call.request, "timeout", TIMEOUT, 5..=60)?;
        let client = self.clients.see(&client, self.event_loop.now())?;
        self.poll_room(call, &room, Some(client), cursor, timeout)
    }

    /// GET /poll
    pub(super) fn demo_poll(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let cursor = params::cursor(call.request, "last_message_id")?;
        self.poll_room(call, DEMO_POLLS, None, cursor, TIMEOUT)
    }

    /// Answers a poll if there is news for it, and holds it otherwise. A client without a cursor
    /// goes on from what it was given last, so that nothing is lost between two of its polls.
    fn poll_room(
        &mut self,
        call: &Call<'_>,
        room: &str,
        client: Option<Rc<str>>,
        cursor: Option<Cursor>,
        timeout: u64,
    ) -> Result<Reply, ApiError> {
        let now = self.event_loop.now();
        let room = self.rooms.open(room, To::Read, &mut self.random, now)?;
        let mut remembered = client.as_ref().and_then(|id| self.clients.get_mut(id));
        let position = remembered.as_ref().and_then(|client| client.position(&room.name));
        let from = match cursor.or(position) {
            None if remembered.as_ref().is_some_and(|client| client.forgot()) => room.everything_but_not_recovered(),
            cursor => room.replay(cursor),
        };
        let news = room.feed.after(from.after).len() as u64;
        if let Some(client) = &mut remembered {
            if news > 0 {
                client.give(&room.name, room.feed.tip());
            } else if cursor.is_some() || position.is_none() {
                client.give(&room.name, cursor.unwrap_or(from.after));
            }
        }
        if news > 0 {
            let response = poll_answer(room.batch(from, NEWS).into_bytes().into());
            return Ok(Reply::Counted(response, Transport::LongPoll, news));
        }
        room.polls.insert(call.conn);
        if let Some(client) = remembered {
            client.held.insert(call.conn);
        }
        let purpose = Purpose::RoomPoll { room: room.name.clone(), client, from };
        let timeout = Duration::from_secs(timeout);
        let timeout = if from.recovered { timeout } else { timeout.min(NOT_RECOVERED) };
        self.hold(call, Transport::LongPoll, purpose, Some(timeout));
        Ok(Reply::Later)
    }

    /// GET /api/messages
    pub(super) fn room_messages(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let cursor = params::cursor(call.request, "last_message_id")?;
        let room = room_of(call)?;
        let room = self.rooms.open(&room, To::Read, &mut self.random, self.event_loop.now())?;
        let from = room.replay(Some(cursor.unwrap_or(room.feed.last(usize::MAX))));
        let messages = room.feed.after(from.after).len() as u64;
        let content = room.batch(from, r#""stopPolling":false"#);
        Ok(Reply::Counted(poll_answer(content.into_bytes().into()), Transport::ShortPoll, messages))
    }

    /// GET /api/history
    pub(super) fn room_history(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let name = room_of(call)?;
        let limit = params::number(call.request, "limit", 20, 1..=100)?;
        let messages: Vec<&str> = match self.rooms.get(&name) {
            Some(room) => room.feed.after(room.feed.last(limit as usize)).map(|(_, json)| &**json).collect(),
            None => Vec::new(),
        };
        let content = format!(r#"{{"room":{},"messages":[{}]}}"#, json!(name), messages.join(",")) + "\n";
        Ok(Reply::Now(poll_answer(content.into_bytes().into())))
    }

    /// POST /api/send
    pub(super) fn room_send(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let fields = Fields::parse(call.request.content())?;
        let room = fields.name("room")?.unwrap_or(DEFAULT_ROOM);
        let (sender, text) = (sender_of(&fields)?, fields.required("text", &TEXT)?);
        self.publish(room, sender, text, fields.optional("key", &KEY)?).map(sent)
    }

    /// POST /send
    pub(super) fn demo_send(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let fields = Fields::parse(call.request.content())?;
        self.publish(DEMO_POLLS, "anonymous", fields.required("message", &TEXT)?, None).map(sent)
    }

    /// Publishes a message: appends it to the room's feed, queues it on every stream, and answers
    /// every held poll. Returns the message's id and its timestamp; those of the first one when this
    /// key has come before, for then there is nothing to publish.
    fn publish(&mut self, room: &str, sender: &str, text: &str, key: Option<&str>) -> Result<(Cursor, f64), ApiError> {
        let room = self.rooms.open(room, To::Publish, &mut self.random, self.event_loop.now())?;
        if let Some(before) = room.keys.get(key) {
            return Ok(before);
        }
        let (id, timestamp) = (room.feed.next_cursor(), timestamp());
        let message = json!({
            "id": id.to_string(), "sender": sender, "text": text, "timestamp": timestamp, "room": &*room.name,
        });
        let json: Rc<str> = message.to_string().into();
        room.feed.publish(json.clone(), json.len());
        room.keys.keep(key, (id, timestamp));
        let outgoing = Outgoing::new(id, &json);
        for (conn, transport) in &room.streams {
            self.event_loop.send(*conn, outgoing.encoded(*transport));
            self.stats.of(*transport).messages += 1;
        }
        let room = room.name.clone();
        self.answer_room_polls(&room);
        Ok((id, timestamp))
    }

    /// Answers all polls that wait in a room. All of them stand behind the message before this one,
    /// so there are only two different answers: for those who miss something, and for those who do
    /// not. A clone of an answer shares its content.
    fn answer_room_polls(&mut self, name: &Rc<str>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let mut answers: [Option<(Response, u64)>; 2] = [None, None];
        for conn in std::mem::take(&mut room.polls) {
            let Some(Purpose::RoomPoll { client, from, .. }) = self.holds.get(&conn).map(|hold| &hold.purpose) else {
                continue;
            };
            let Some(room) = self.rooms.get(name) else { return };
            let (response, messages) = answers[usize::from(from.recovered)]
                .get_or_insert_with(|| {
                    let content = room.batch(*from, NEWS).into_bytes().into();
                    (poll_answer(content), room.feed.after(from.after).len() as u64)
                })
                .clone();
            if let Some(client) = client.as_ref().and_then(|id| self.clients.get_mut(id)) {
                client.give(name, room.feed.tip());
            }
            self.answer(conn, response, messages);
        }
    }

    /// GET /api/stream
    pub(super) fn room_stream(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (room, cursor) = (room_of(call)?, params::cursor(call.request, "last_message_id")?);
        let head = Response::new(200)
            .with_field("Content-Type", "application/x-ndjson")
            .with_field("Cache-Control", "no-store")
            .with_field("X-Accel-Buffering", "no");
        self.stream_room(call, Transport::Stream, &room, cursor, head)
    }

    /// GET /api/events
    pub(super) fn room_events(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (room, cursor) = (room_of(call)?, params::last_event_id(call.request)?);
        self.stream_room(call, Transport::Sse, &room, cursor, sse::stream_head())
    }

    /// GET /events
    pub(super) fn demo_events(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let cursor = params::last_event_id(call.request)?;
        self.stream_room(call, Transport::Sse, DEMO_TICKER, cursor, sse::stream_head())
    }

    /// GET /api/ws
    pub(super) fn room_websocket(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (room, cursor) = (room_of(call)?, params::cursor(call.request, "last_message_id")?);
        match websocket::accept(call.request, &[]) {
            Ok(head) => self.stream_room(call, Transport::WebSocket, &room, cursor, head),
            Err(error) => Ok(Reply::Now(error.response())),
        }
    }

    /// Begins a stream, brings it up to date from its cursor, and adds it to the room.
    fn stream_room(
        &mut self,
        call: &Call<'_>,
        transport: Transport,
        room: &str,
        cursor: Option<Cursor>,
        head: Response,
    ) -> Result<Reply, ApiError> {
        let client = params::text(call.request, "client_id", &ID)?;
        let now = self.event_loop.now();
        let client = client.map(|id| self.clients.see(&id, now)).transpose()?;
        let room = self.rooms.open(room, To::Read, &mut self.random, now)?;
        let from = room.replay(cursor);
        self.event_loop.begin(call.conn, call.cors.apply(head));
        if transport == Transport::Sse {
            // An event without data is not dispatched, but its id counts: a client that loses this
            // connection before the first message can resume all the same.
            let retry = Duration::from_millis(1000 + self.random.number() % 2000);
            self.event_loop.send(call.conn, &http::chunk(&sse::opening(&from.after.to_string(), retry)));
        }
        if !from.recovered {
            self.event_loop.send(call.conn, &not_recovered(transport, from.after));
        }
        for (id, json) in room.feed.after(from.after) {
            self.event_loop.send(call.conn, Outgoing::new(id, json).encoded(transport));
            self.stats.of(transport).messages += 1;
        }
        room.streams.insert(call.conn, transport);
        if let Some(client) = client.as_ref().and_then(|id| self.clients.get_mut(id)) {
            client.held.insert(call.conn);
            // Should it poll after this, it gets again what the stream gives it, and misses
            // nothing.
            if client.position(&room.name).is_none() {
                client.give(&room.name, from.after);
            }
        }
        let purpose = Purpose::RoomStream { room: room.name.clone(), client };
        // A WebSocket has pings, and needs no heartbeat.
        let beats = (transport != Transport::WebSocket).then_some(HEARTBEAT);
        let ticks = *room.name == *DEMO_TICKER && !self.ticks;
        self.hold(call, transport, purpose, beats);
        if ticks {
            self.ticks = true;
            self.set_alarm(TICK, Alarm::Ticker);
        }
        Ok(Reply::Later)
    }

    /// A message from a WebSocket in a room.
    pub(super) fn room_said(&mut self, conn: ExchangeId, room: &str, message: &Message) -> Result<(), ApiError> {
        let Message::Text(text) = message else {
            return Err(ApiError::bad("expected a text message with a JSON object, not a binary one"));
        };
        let fields = Fields::parse(text.as_bytes())?;
        // A page sees no Ping and no Pong: it has to ask in its own words whether the server is there.
        if fields.optional("type", &NAME)? == Some("heartbeat") {
            self.event_loop.send(conn, &heartbeat(Transport::WebSocket));
            return Ok(());
        }
        let (sender, text) = (sender_of(&fields)?, fields.required("text", &TEXT)?);
        self.publish(room, sender, text, fields.optional("key", &KEY)?)?;
        Ok(())
    }

    /// The ticker publishes as long as anyone listens.
    pub(super) fn tick(&mut self) {
        let room = self.rooms.get(DEMO_TICKER).filter(|room| !room.streams.is_empty());
        let Some(count) = room.map(|room| room.feed.next_cursor().sequence()) else {
            self.ticks = false;
            return;
        };
        // It fails only when there is no room for a room, and this one is there.
        let _ = self.publish(DEMO_TICKER, "ticker", &format!("Message {count}"), None);
        self.set_alarm(TICK, Alarm::Ticker);
    }
}

fn sent((id, timestamp): (Cursor, f64)) -> Reply {
    answer_json(&json!({ "status": "sent", "message_id": id.to_string(), "timestamp": timestamp }))
}

fn sender_of(fields: &Fields) -> Result<&str, ApiError> {
    fields.name("sender")?.ok_or_else(|| params::missing("sender", &NAME))
}

pub(super) fn room_of(call: &Call<'_>) -> Result<String, ApiError> {
    Ok(params::text(call.request, "room", &NAME)?.unwrap_or_else(|| DEFAULT_ROOM.into()))
}

/// JSON that no cache keeps, shared by all who get the same.
pub(super) fn poll_answer(content: Shared) -> Response {
    Response::new(200).with_content("application/json", &content).with_field("Cache-Control", "no-store")
}
