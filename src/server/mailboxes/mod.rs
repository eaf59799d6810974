//! Mailboxes: each isolated connection has one. A text that is put into a mailbox reaches only its one reader, on
//! any transport.
//!
//! This file holds the handlers. `mailbox` holds the state, `limits` its bounds.

mod limits;
mod mailbox;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::mailbox::{Mailbox, MailboxMap, Taken};
use super::commit::Replica;
use super::connections::{Place, before};
use super::exchanges::{Call, EndReason, Exchanges, Opening, Reply};
use super::lru::Kept;
use super::message::{Transport, encode};
use super::params::{self, ApiError, Fields, ID, KEY, TEXT};
use super::parked::Halt;
use super::senders::{Answer, Published, Sender};
use super::{Feature, FeatureId, HEARTBEAT, Stores, uncached};
use crate::books;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::http::{Request, Response};
use crate::identity::Rights;
use crate::journal::{Draft, Key, LogName, Wanted};
use crate::json;
use crate::quotas::Bound;
use crate::sse;
use crate::websocket::Message;

/// The longest time that a poll is held.
const POLL: Duration = Duration::from_secs(30);

/// The mailboxes and their readers.
pub struct Mailboxes {
    stores: Stores,
    mailboxes: MailboxMap,
    readers: HashMap<ExchangeId, Reader>,
    /// The number of readers that are polls.
    polls: usize,
}

/// A held exchange that receives the texts of a mailbox.
struct Reader {
    mailbox: Rc<str>,
    kind: ReaderKind,
}

enum ReaderKind {
    Poll,
    /// A stream or a WebSocket, and the number of heartbeats sent.
    Stream(Transport, u64),
}

impl Mailboxes {
    /// Creates the mailboxes of a server that has none yet.
    pub fn new(stores: Stores) -> Self {
        Mailboxes { stores, mailboxes: MailboxMap::new(&stores), readers: HashMap::new(), polls: 0 }
    }

    /// POST /poll
    pub fn poll(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let fields = Fields::of_content(call.request)?;
        let (id, text) = (fields.optional("connection_id", &ID)?, fields.optional("text", &TEXT)?);
        let (cursor, key) = (fields.cursor("last_message_id")?, fields.optional("key", &KEY)?);
        if text.is_some() {
            call.check(Rights::SEND)?;
            exchanges.may_publish()?;
        }
        let now = exchanges.now();
        let mut mailbox = match id {
            Some(id) => self.find(exchanges, id)?,
            None => self.mailboxes.create(exchanges)?,
        };
        mailbox.touch(now);
        let mailbox_id = mailbox.id().clone();
        if let Some(text) = text {
            let sender = call.sender(Answer::Text(mailbox_id.clone(), text.into()));
            self.put(exchanges, sender, &mailbox_id, text, key)?;
            return Ok(Reply::Later);
        }
        if id.is_none() {
            return Ok(counted(&json!({ "connection_id": &*mailbox_id, "type": "timeout" }), 0));
        }
        mailbox.replay(cursor.unwrap_or(mailbox.position), exchanges)?;
        if let Some(before) = mailbox.reader {
            // At once, whether this poll is held or not: it must not go on from the position of this one.
            self.end(exchanges, before, EndReason::Superseded);
        }
        let mut mailbox = self.mailboxes.get(&mailbox_id, now)?;
        if let Some(cursor) = cursor {
            mailbox.set_position(cursor, &mut exchanges.journal);
        }
        if let Some(taken) = mailbox.take(&mut exchanges.journal) {
            return Ok(counted(&taken.json(&mailbox_id, "queued_message"), 1));
        }
        exchanges.may_hold(Bound::Polls)?;
        self.set_reader(exchanges, call.id, mailbox_id, ReaderKind::Poll);
        exchanges.hold(call, FeatureId::Mailboxes, Transport::LongPoll, Some(POLL));
        Ok(Reply::Later)
    }

    /// GET /poll/{connection_id}: the state of a mailbox, for its owner. This is not a sign of life of its reader.
    pub fn status(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let path = call.request.path();
        let id = path.strip_prefix("/poll/").filter(|id| ID.contains(&id.len())).ok_or_else(mailbox::unknown)?;
        let mailbox = self.find(exchanges, id)?;
        let reader = mailbox.reader.and_then(|id| exchanges.record(id));
        let silence = match mailbox.reader {
            Some(id) => exchanges.event_loop.connection(exchanges.event_loop.connection_of(id)).map(|one| one.silence),
            None => Some(mailbox.idle_time(exchanges.now())),
        };
        let answer = json!({
            "connection_id": &**mailbox.id(),
            "status": reader.map_or("idle", |_| "connected"),
            "transport": reader.map(|reader| reader.transport.name()),
            "last_seen": before(exchanges.event_loop.system_time(), silence.unwrap_or_default()),
            "message_count": mailbox.feed.published(),
            "queued": mailbox.feed.after(mailbox.position).len(),
        });
        Ok(Reply::Now(uncached(&answer)))
    }

    /// POST /sse/message
    pub fn text(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        exchanges.may_publish()?;
        let fields = Fields::of_content(call.request)?;
        let (id, text) = (fields.required("connection_id", &ID)?, fields.required("text", &TEXT)?);
        let key = fields.optional("key", &KEY)?;
        let id = self.find(exchanges, id)?.id().clone();
        self.put(exchanges, call.sender(Answer::Queued), &id, text, key)?;
        Ok(Reply::Later)
    }

    /// GET /sse: a new mailbox, or the one that `Last-Event-ID` is a position in.
    pub fn events(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        exchanges.may_hold(Bound::Streams)?;
        let now = exchanges.now();
        let cursor = params::last_event_id(call.request);
        let known = cursor.map(|cursor| self.find_cursor(exchanges, cursor)).transpose()?.flatten();
        let (mailbox, recovered) = match (known, cursor) {
            (Some(id), Some(cursor)) => {
                let mut mailbox = self.mailboxes.get(&id, now)?;
                let replay = mailbox.replay(cursor, exchanges)?;
                mailbox.set_position(replay.after, &mut exchanges.journal);
                (mailbox, replay.recovered)
            }
            _ => (self.mailboxes.create(exchanges)?, cursor.is_none()),
        };
        let (id, position) = (mailbox.id().clone(), mailbox.position);
        if cursor.is_some() {
            exchanges.metrics.returned(Transport::Sse, recovered);
        }
        exchanges.begin(call, Opening::Stream(sse::stream_head()));
        let mut connected = json!({ "message": "Connected", "connection_id": &*id, "type": "connected" });
        if !recovered {
            connected["recovered"] = false.into();
        }
        exchanges.send(call.id, &encode(Transport::Sse, Some(position), "message", &connected.to_string()));
        self.begin_stream(exchanges, call, Transport::Sse, id, 0);
        Ok(Reply::Later)
    }

    /// HEAD /sse
    pub fn events_head(_: &Request) -> Result<Response, ApiError> {
        Ok(sse::stream_head())
    }

    /// GET /ws
    pub fn websocket(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let opening = match Opening::websocket(call.request) {
            Ok(opening) => opening,
            Err(refusal) => return Ok(refusal),
        };
        exchanges.may_hold(Bound::WebSockets)?;
        let id = self.mailboxes.create(exchanges)?.id().clone();
        exchanges.begin(call, opening);
        send_heartbeat(exchanges, call.id, Transport::WebSocket, &id, 1);
        self.begin_stream(exchanges, call, Transport::WebSocket, id, 1);
        Ok(Reply::Later)
    }

    /// Returns the mailbox with this id. Another server may have it.
    fn find(&mut self, exchanges: &mut Exchanges, id: &str) -> Result<Kept<'_, Mailbox>, Halt> {
        let now = exchanges.now();
        if self.mailboxes.get(id, now).is_err() {
            exchanges.find(Wanted::Log(LogName::Mailbox(id.into())))?;
        }
        Ok(self.mailboxes.get(id, now)?)
    }

    /// Returns the id of the mailbox that a cursor is a position in. Another server may have it.
    fn find_cursor(&mut self, exchanges: &mut Exchanges, cursor: Cursor) -> Result<Option<Rc<str>>, Halt> {
        let now = exchanges.now();
        if self.mailboxes.of_cursor(cursor, now).is_none() {
            exchanges.find(Wanted::Epoch(cursor.epoch()))?;
        }
        Ok(self.mailboxes.of_cursor(cursor, now).map(|mailbox| mailbox.id().clone()))
    }

    /// Asks for a text to be appended to the log of a mailbox. When it is committed, the reader gets it, and then its
    /// sender is answered. A retry with the same key appends nothing, and is answered as the first text with its key.
    ///
    /// # Errors
    /// 404 when there is no such mailbox, 503 when there are too many texts.
    fn put(
        &mut self,
        exchanges: &mut Exchanges,
        sender: Sender,
        id: &str,
        text: &str,
        key: Option<&str>,
    ) -> Result<(), ApiError> {
        let (now, timestamp) = (exchanges.now(), exchanges.timestamp());
        let body = json::Object::new().text("text", text).number("timestamp", timestamp).end();
        let mailbox = self.mailboxes.with_room_for(id, body.len(), &mut exchanges.journal, now)?;
        let key = key.map(|key| Key::new(mailbox.feed.tip().epoch(), key, "", text));
        exchanges.append(sender, Draft { log: &mailbox.log, body, timestamp, key });
        Ok(())
    }

    /// Sends a reader everything after its position: the next text to a poll, all texts to a stream.
    fn deliver(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        let Some(Reader { mailbox, kind }) = self.readers.get(&id) else { return };
        let Ok(mut mailbox) = self.mailboxes.get(mailbox, exchanges.now()) else { return };
        match *kind {
            ReaderKind::Poll => {
                if let Some(taken) = mailbox.take(&mut exchanges.journal) {
                    let answer = taken.json(mailbox.id(), "new_message");
                    self.remove_reader(exchanges, id);
                    exchanges.answer(id, uncached(&answer), 1);
                }
            }
            ReaderKind::Stream(transport, _) => {
                let kind = if transport == Transport::WebSocket { "user_message" } else { "message" };
                while let Some(taken) = mailbox.take(&mut exchanges.journal) {
                    let json = json::write(&taken.json(mailbox.id(), kind));
                    exchanges.send(id, &encode(transport, Some(taken.id), "message", &json));
                    exchanges.count_one(id);
                }
            }
        }
    }

    /// Makes a stream the reader of a mailbox, and sends it the queued texts.
    fn begin_stream(
        &mut self,
        exchanges: &mut Exchanges,
        call: &Call<'_>,
        transport: Transport,
        mailbox: Rc<str>,
        heartbeats: u64,
    ) {
        self.set_reader(exchanges, call.id, mailbox, ReaderKind::Stream(transport, heartbeats));
        exchanges.hold(call, FeatureId::Mailboxes, transport, Some(HEARTBEAT));
        self.deliver(exchanges, call.id);
    }

    /// Makes an exchange the reader of a mailbox. The newest reader wins: the one before it ends, on whichever server.
    fn set_reader(&mut self, exchanges: &mut Exchanges, id: ExchangeId, mailbox: Rc<str>, kind: ReaderKind) {
        if let Ok(mut found) = self.mailboxes.get(&mailbox, exchanges.now()) {
            found.begin_use();
            exchanges.journal.claim(&found.log);
            if let Some(before) = found.reader.replace(id) {
                self.end(exchanges, before, EndReason::Superseded);
            }
        }
        self.polls += usize::from(matches!(kind, ReaderKind::Poll));
        self.readers.insert(id, Reader { mailbox, kind });
    }

    /// Removes a reader. Its mailbox keeps a newer one.
    fn remove_reader(&mut self, exchanges: &mut Exchanges, id: ExchangeId) -> Option<Reader> {
        let reader = self.readers.remove(&id)?;
        self.polls -= usize::from(matches!(reader.kind, ReaderKind::Poll));
        let now = exchanges.now();
        if let Ok(mut mailbox) = self.mailboxes.get(&reader.mailbox, now)
            && mailbox.reader == Some(id)
        {
            mailbox.reader = None;
            mailbox.end_use(now);
            exchanges.journal.unclaim(&mailbox.log);
        }
        Some(reader)
    }

    /// Removes a mailbox from all servers, and ends its reader. Returns whether there was one. `elsewhere` says whether it
    /// is looked for on other servers too.
    pub fn disconnect(&mut self, exchanges: &mut Exchanges, id: &str, elsewhere: bool) -> Result<bool, Halt> {
        if elsewhere && let Err(wait @ Halt::Wait(_)) = self.find(exchanges, id) {
            return Err(wait);
        }
        let Some(mailbox) = self.mailboxes.remove(id) else { return Ok(false) };
        exchanges.journal.delete(&mailbox.log);
        if let Some(reader) = mailbox.reader {
            self.end(exchanges, reader, EndReason::Disconnected);
        }
        Ok(true)
    }

    /// Ends the reader of a mailbox: another server has a newer one.
    pub fn supersede(&mut self, exchanges: &mut Exchanges, id: &str) {
        let mailbox = self.mailboxes.get(id, exchanges.now());
        if let Some(reader) = mailbox.ok().and_then(|mailbox| mailbox.reader) {
            self.end(exchanges, reader, EndReason::Superseded);
        }
    }
}

impl Replica for Mailboxes {
    fn opened(&mut self, exchanges: &mut Exchanges, log: LogName, start: Cursor) {
        match self.mailboxes.make_room(&mut exchanges.journal) {
            Ok(()) => drop(self.mailboxes.insert(log, start, exchanges.now())),
            Err(_) => exchanges.journal.remove(&log),
        }
    }

    fn appended(&mut self, exchanges: &mut Exchanges, name: &str, cursor: Cursor, body: String) {
        let reader = self.mailboxes.append(name, cursor, body).and_then(|mailbox| mailbox.reader);
        if let Some(reader) = reader {
            self.deliver(exchanges, reader);
        }
    }

    fn count_own(&mut self) {
        self.mailboxes.texts += 1;
    }

    /// The reader is told with its next text: its position is not known any more.
    fn truncated(&mut self, _: &mut Exchanges, name: &str, tip: Cursor) {
        self.mailboxes.truncate(name, tip);
    }

    fn removed(&mut self, exchanges: &mut Exchanges, name: &str) {
        if let Some(reader) = self.mailboxes.remove(name).and_then(|mailbox| mailbox.reader) {
            self.end(exchanges, reader, EndReason::Removed);
        }
    }

    /// A position from elsewhere can be older than the one that the reader has come with. And a reader that waits here
    /// has come after the one whose position this is: the text before the position may have been lost on its way.
    fn restored(&mut self, exchanges: &mut Exchanges, name: &str, _: &str, position: Cursor) {
        if let Ok(mut mailbox) = self.mailboxes.get(name, exchanges.now())
            && mailbox.reader.is_none()
            && position.epoch() == mailbox.position.epoch()
            && position.sequence() > mailbox.position.sequence()
        {
            mailbox.position = position;
        }
    }
}

impl Feature for Mailboxes {
    /// A WebSocket puts a text into its own mailbox.
    fn on_message(&mut self, exchanges: &mut Exchanges, id: ExchangeId, message: &Message) -> Result<(), Halt> {
        let Some(mailbox) = self.readers.get(&id).map(|reader| reader.mailbox.clone()) else { return Ok(()) };
        if let Some(grant) = exchanges.grants.get(&id) {
            grant.check(Rights::SEND)?;
        }
        let fields = Fields::of_message(message)?;
        let (text, key) = (fields.required("message", &TEXT)?, fields.optional("key", &KEY)?);
        Ok(self.put(exchanges, Sender::WebSocket(id), &mailbox, text, key)?)
    }

    /// The time of a poll is up, or a heartbeat of a stream is due.
    fn on_timer(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        let Some(Reader { mailbox, kind }) = self.readers.get_mut(&id) else { return };
        match kind {
            ReaderKind::Poll => self.end(exchanges, id, EndReason::TimedOut),
            ReaderKind::Stream(transport, heartbeats) => {
                *heartbeats += 1;
                send_heartbeat(exchanges, id, *transport, mailbox, *heartbeats);
                exchanges.set_timer(id, HEARTBEAT);
            }
        }
    }

    fn on_closed(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        self.remove_reader(exchanges, id);
    }

    fn end(&mut self, exchanges: &mut Exchanges, id: ExchangeId, reason: EndReason) {
        match self.remove_reader(exchanges, id) {
            Some(Reader { kind: ReaderKind::Poll, .. }) if reason.refusal().is_some() => exchanges.refuse(id, reason),
            Some(Reader { mailbox, kind: ReaderKind::Poll }) => {
                let mut answer = json!({ "type": "timeout", "connection_id": &*mailbox });
                if reason == EndReason::Superseded {
                    answer["superseded"] = true.into();
                }
                exchanges.answer(id, uncached(&answer), 0);
            }
            Some(Reader { kind: ReaderKind::Stream(..), .. }) => exchanges.end(id, reason),
            None => {}
        }
    }

    fn place(&self, id: ExchangeId) -> Option<Place<'_>> {
        self.readers.get(&id).map(|reader| Place { mailbox: Some(&reader.mailbox), ..Place::default() })
    }

    fn sweep(&mut self, exchanges: &mut Exchanges) {
        let now = exchanges.now();
        self.mailboxes.sweep(&mut exchanges.journal, now);
        books::shrink_map(&mut self.readers);
    }

    fn forget(&mut self, _: &mut Exchanges) {
        *self = Mailboxes::new(self.stores);
    }

    fn add_statistics(&mut self, exchanges: &Exchanges, statistics: &mut Map<String, Value>) {
        let now = exchanges.now();
        let mailboxes = json!({
            "connected": self.readers.len() - self.polls,
            "waiting": self.polls,
            "idle": self.mailboxes.idle(now),
            "expired": self.mailboxes.expired(now),
            "texts": self.mailboxes.texts,
        });
        statistics.insert("mailboxes".into(), mailboxes);
    }

    fn add_memory(&self, memory: &mut Map<String, Value>) {
        let bytes = self.mailboxes.bytes() + books::map(&self.readers);
        memory.insert("mailboxes".into(), bytes.into());
    }
}

/// Sends the numbered heartbeat of a stream.
fn send_heartbeat(exchanges: &mut Exchanges, id: ExchangeId, transport: Transport, mailbox: &str, number: u64) {
    let json = json!({ "message": format!("Message {number}"), "connection_id": mailbox, "type": "heartbeat" });
    exchanges.send(id, &encode(transport, None, "message", &json.to_string()));
}

impl Taken {
    /// Returns it as a message of a mailbox.
    fn json(&self, mailbox: &str, kind: &str) -> Value {
        let mut body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let mut answer = text_json(mailbox, kind, self.id, body["text"].take(), body["timestamp"].take());
        if !self.recovered {
            answer["recovered"] = false.into();
        }
        answer
    }
}

fn text_json(mailbox: &str, kind: &str, id: Cursor, text: Value, timestamp: Value) -> Value {
    let id = id.to_string();
    json!({ "message": text, "type": kind, "id": id, "connection_id": mailbox, "timestamp": timestamp })
}

/// Returns the answer to the sender of a text by `POST /sse/message`.
pub fn queued(published: Published) -> Reply {
    let answer = json!({ "status": "queued", "id": published.id.to_string() });
    Reply::Now(Response::json(202, &answer).with_field("Cache-Control", "no-store"))
}

/// Returns the answer to the sender of a text by `POST /poll`.
pub fn text_reply(mailbox: &str, text: &str, Published { id, timestamp }: Published) -> Reply {
    counted(&text_json(mailbox, "message", id, text.into(), timestamp.into()), 0)
}

/// Returns the answer to a poll, counted with its number of messages.
fn counted(answer: &Value, messages: u64) -> Reply {
    Reply::Counted(uncached(answer), Transport::LongPoll, messages)
}
