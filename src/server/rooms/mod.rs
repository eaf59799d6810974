//! Rooms: every reader of a room receives every message that is published there, on any transport.
//!
//! This file publishes and delivers. `polls` and `streams` have the handlers of readers. `map`, `room`, `encoded`,
//! `present` and `clients` have the state, `limits` its bounds.

mod clients;
mod encoded;
mod limits;
mod map;
mod polls;
mod present;
mod room;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Map, Value};

use self::clients::Clients;
use self::map::{OpenFor, RoomMap};
pub use self::polls::{POLL_SECONDS, Poll};
use self::polls::{SUCCESS, json_response, status_of_empty_answer};
use self::room::Room;
pub use self::room::bytes_of_room;
pub use self::streams::Subscription;
use self::streams::{heartbeat, not_recovered};
use super::commit::Replica;
use super::connections::Place;
use super::exchanges::{Call, EndReason, Exchanges, Reply};
use super::identity::Grant;
use super::message::{Transport, with_id};
use super::params::{self, ApiError, Fields, KEY, NAME, TEXT};
use super::parked::Halt;
use super::senders::{Answer, Published, Sender};
use super::{Feature, HEARTBEAT, Stores};
use crate::books;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Replay};
use crate::http::Response;
use crate::identity::Rights;
use crate::journal::{self, Key, LogName, Retention};
use crate::json;
use crate::websocket::Message;

/// The rooms, their clients and their readers.
pub struct Rooms {
    retention: Retention,
    stores: Stores,
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
    /// A stream or a WebSocket, and the number of messages that the log had before those that it was sent.
    Stream(Transport, u64),
}

/// A message to publish.
pub struct Publication<'a> {
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
    /// Creates the rooms of a server that has none yet.
    pub fn new(retention: Retention, stores: Stores) -> Self {
        let (rooms, clients) = (RoomMap::new(retention, stores.encoded_bytes), Clients::new(&stores));
        Rooms { retention, stores, rooms, clients, readers: HashMap::new() }
    }

    /// POST /api/send
    pub fn send(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        exchanges.may_publish()?;
        let fields = Fields::of_content(call.request)?;
        let room = fields.name("room")?.unwrap_or(params::DEFAULT_ROOM);
        call.enter(room)?;
        self.publish(exchanges, call.sender(Answer::Sent), &publication(room, &fields, call.grant.as_deref())?)?;
        Ok(Reply::Later)
    }

    /// Asks for a message to be appended to the log of its room. When it is committed, the readers get it, and then its
    /// sender is answered. A retry with the same key appends nothing, and is answered as the first message with its key.
    ///
    /// # Errors
    /// 503 when there are too many rooms.
    pub fn publish(
        &mut self,
        exchanges: &mut Exchanges,
        sender: Sender,
        message: &Publication<'_>,
    ) -> Result<(), Halt> {
        let room = self.rooms.open(message.room, OpenFor::Publishing, exchanges)?;
        let epoch = room.feed.tip().epoch();
        let timestamp = exchanges.timestamp();
        let body = json::Object::new()
            .text("room", message.room)
            .text("sender", message.sender)
            .text("text", message.text)
            .number("timestamp", timestamp)
            .end();
        let key = message.key.map(|key| Key::new(epoch, key, message.sender, message.text));
        exchanges.append(sender, journal::Draft { log: &room.log, body, timestamp, key });
        Ok(())
    }

    /// Answers the held polls of a room with its newest message.
    fn answer_polls(&mut self, exchanges: &mut Exchanges, name: &str) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        // A held poll has had everything before this message. So there are two different answers: for the polls that
        // were recovered, and for those that were not. A clone of an answer shares its content.
        let mut answers: [Option<(Response, u64)>; 2] = [None, None];
        let polls = mem::take(&mut room.polls);
        if !polls.is_empty() {
            room.read = Some(exchanges.now());
        }
        for id in polls {
            let Some(Reader { client, kind: ReaderKind::Poll(from), .. }) = self.readers.remove(&id) else { continue };
            let (response, messages) = answers[usize::from(from.recovered)]
                .get_or_insert_with(|| {
                    let messages = room.feed.after(from.after).len() as u64;
                    (json_response(room.content(&room.batch(from, SUCCESS))), messages)
                })
                .clone();
            room.present.remove(client.as_deref());
            if let Some(mut client) = client.and_then(|client| self.clients.get_mut(&client)) {
                client.note_position(&mut exchanges.journal, &room.log, room.feed.tip());
                client.release(id, exchanges.now());
            }
            exchanges.answer(id, response, messages);
        }
        if answers.iter().any(Option::is_some) {
            self.rooms.bound_encoded();
        }
    }

    /// The logs of an earlier process are restored: their messages count.
    pub fn count_restored(&mut self) {
        self.rooms.messages = self.rooms.published();
    }

    /// Notes that positions of clients may be lost, with the end of a log: an unknown client may be one of theirs.
    pub fn note_lost_positions(&mut self, now: Instant) {
        self.clients.note_lost(now);
    }

    /// Notes that the positions of a client are dropped: another server has ended it.
    pub fn note_dropped_positions(&mut self, exchanges: &Exchanges, client: &str) {
        if let Ok(id) = self.clients.see(client, exchanges.now())
            && let Some(mut client) = self.clients.get_mut(&id)
        {
            client.note_dropped_positions();
        }
    }

    /// Whether a room has an open stream.
    pub fn has_streams(&self, room: &str) -> bool {
        self.rooms.get(room).is_some_and(Room::has_streams)
    }

    /// Appends the members of `GET /api/stats` that are long: the names of all rooms, and the clients that are present.
    pub fn append_long_statistics(&self, json: &mut String) {
        self.rooms.append_json(json);
    }

    /// Appends the members of an object of JSON: the clients that are present in each small room.
    pub fn append_who(&self, json: &mut String) {
        self.rooms.append_who(json);
    }

    /// Returns the number of bytes of encoded messages, which connections share.
    pub fn encoded(&self) -> usize {
        self.rooms.encoded()
    }

    /// Returns the number of messages ever published in a room.
    pub fn published(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |room| room.feed.published())
    }

    /// Ends all exchanges of a client, and removes it. Returns whether there was one.
    pub fn disconnect(&mut self, exchanges: &mut Exchanges, client: &str) -> bool {
        let Some(held) = self.clients.remove(client, exchanges.now()) else { return false };
        exchanges.journal.drop_positions(client);
        for id in held {
            self.end(exchanges, id, EndReason::Disconnected);
        }
        true
    }

    /// Removes a reader from its room and from its client.
    fn remove_reader(&mut self, exchanges: &mut Exchanges, id: ExchangeId) -> Option<Reader> {
        let reader = self.readers.remove(&id)?;
        if let Some(room) = self.rooms.get_mut(&reader.room) {
            room.read = Some(exchanges.now());
            room.present.remove(reader.client.as_deref());
            match reader.kind {
                ReaderKind::Poll(_) => drop(room.polls.remove(&id)),
                ReaderKind::Stream(transport, _) => room.leave(exchanges, transport, id),
            }
        }
        if let Some(mut client) = reader.client.as_ref().and_then(|client| self.clients.get_mut(client)) {
            client.release(id, exchanges.now());
        }
        Some(reader)
    }
}

impl Replica for Rooms {
    fn opened(&mut self, exchanges: &mut Exchanges, log: LogName, start: Cursor) {
        match self.rooms.make_room(exchanges) {
            Ok(()) => self.rooms.insert(log, start, exchanges.now()),
            Err(_) => exchanges.journal.remove(&log),
        }
    }

    fn appended(&mut self, exchanges: &mut Exchanges, name: &str, cursor: Cursor, body: String) {
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.feed.is_next(cursor)) else { return };
        let json: Rc<str> = with_id(cursor, &body).into();
        room.publish(cursor, json.clone());
        room.send(exchanges, cursor, &json);
        self.answer_polls(exchanges, name);
    }

    fn count_own(&mut self) {
        self.rooms.messages += 1;
    }

    fn truncated(&mut self, exchanges: &mut Exchanges, name: &str, tip: Cursor) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.truncate(tip);
        room.send_to_streams(exchanges, |transport| not_recovered(transport, tip));
        let lost = Replay { after: tip, recovered: false };
        for id in &room.polls {
            if let Some(Reader { kind: ReaderKind::Poll(from), .. }) = self.readers.get_mut(id) {
                *from = lost;
            }
        }
        self.answer_polls(exchanges, name);
    }

    fn removed(&mut self, exchanges: &mut Exchanges, name: &str) {
        let of_room = self.readers.iter().filter(|(_, reader)| *reader.room == *name);
        for id in of_room.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(exchanges, id, EndReason::Removed);
        }
        self.rooms.remove(name);
    }

    fn restored(&mut self, exchanges: &mut Exchanges, name: &str, client: &str, position: Cursor) {
        if let Ok(id) = self.clients.see(client, exchanges.now())
            && let Some(mut client) = self.clients.get_mut(&id)
        {
            client.set_position(name, position);
        }
    }
}

impl Feature for Rooms {
    /// A WebSocket sends a message to its room, or asks for a heartbeat: a page sees no Ping and no Pong.
    fn on_message(&mut self, exchanges: &mut Exchanges, id: ExchangeId, message: &Message) -> Result<(), Halt> {
        let Some(room) = self.readers.get(&id).map(|reader| reader.room.clone()) else { return Ok(()) };
        let fields = Fields::of_message(message)?;
        if fields.optional("type", &NAME)? == Some("heartbeat") {
            exchanges.send(id, &heartbeat(Transport::WebSocket, exchanges.timestamp()));
            return Ok(());
        }
        let grant = exchanges.grants.get(&id).cloned();
        if let Some(grant) = &grant {
            grant.check(Rights::SEND)?;
        }
        self.publish(exchanges, Sender::WebSocket(id), &publication(&room, &fields, grant.as_deref())?)
    }

    /// The time of a poll is up, or a heartbeat of a stream is due.
    fn on_timer(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        match self.readers.get(&id).map(|reader| &reader.kind) {
            Some(ReaderKind::Poll(_)) => self.end(exchanges, id, EndReason::TimedOut),
            Some(ReaderKind::Stream(transport, _)) => {
                exchanges.send(id, &heartbeat(*transport, exchanges.timestamp()));
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
            Some(Reader { kind: ReaderKind::Poll(_), .. }) if reason.refusal().is_some() => {
                exchanges.refuse(id, reason)
            }
            Some(Reader { room, kind: ReaderKind::Poll(from), .. }) => {
                let status = status_of_empty_answer(reason);
                let content = self.rooms.get_mut(&room).map(|room| room.content(&room.batch(from, status)));
                exchanges.answer(id, json_response(content.unwrap_or("".into())), 0);
            }
            Some(Reader { kind: ReaderKind::Stream(..), .. }) => exchanges.end(id, reason),
            None => {}
        }
    }

    fn place(&self, id: ExchangeId) -> Option<Place<'_>> {
        let Reader { room, client, kind } = self.readers.get(&id)?;
        let sent = match kind {
            ReaderKind::Poll(_) => 0,
            ReaderKind::Stream(_, before) => self.published(room).saturating_sub(*before),
        };
        Some(Place { room: Some(room), client_id: client.as_deref(), sent, ..Place::default() })
    }

    fn sweep(&mut self, exchanges: &mut Exchanges) {
        self.clients.sweep(exchanges.now());
        self.rooms.expire(exchanges.timestamp());
        if let Some(time) = exchanges.journal.idle_time() {
            self.rooms.remove_unused(exchanges, time);
        }
        self.rooms.shrink();
        books::shrink_map(&mut self.readers);
    }

    fn forget(&mut self, exchanges: &mut Exchanges) {
        self.rooms.clear(exchanges);
        *self = Rooms::new(self.retention, self.stores);
    }

    fn add_statistics(&mut self, exchanges: &Exchanges, statistics: &mut Map<String, Value>) {
        statistics.insert("active_clients".into(), self.clients.active(exchanges.now()).into());
        statistics.insert("total_messages".into(), self.rooms.messages.into());
    }

    fn add_memory(&self, memory: &mut Map<String, Value>) {
        memory.insert("rooms".into(), (self.rooms.bytes() + books::map(&self.readers)).into());
        memory.insert("clients".into(), self.clients.bytes().into());
    }
}

fn publication<'a>(room: &'a str, fields: &'a Fields, grant: Option<&'a Grant>) -> Result<Publication<'a>, ApiError> {
    let named = fields.name("sender")?;
    let sender = match grant {
        Some(grant) => grant.sender(named)?,
        None => named.ok_or_else(|| params::missing("sender", &NAME))?,
    };
    Ok(Publication { room, sender, text: fields.required("text", &TEXT)?, key: fields.optional("key", &KEY)? })
}

/// Returns the most bytes that the records of this number of readers take.
pub fn bytes_of_readers(readers: usize) -> usize {
    books::map_of::<ExchangeId, Reader>(readers)
}

/// Returns the answer to the sender of a message.
pub fn sent(published: Published) -> Reply {
    let Published { id, timestamp } = published;
    let answer = json::Object::new().text("message_id", &id.to_string()).text("status", "sent");
    let mut json = answer.number("timestamp", timestamp).end();
    json.push('\n');
    Reply::Now(json_response(json))
}
