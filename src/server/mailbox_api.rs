//! The endpoints of isolated connections: each has a mailbox, and what is sent to it comes out on
//! whichever transport reads it.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::mailboxes::Text;
use super::message::{Transport, timestamp};
use super::params::{self, ApiError, Fields, ID, KEY, TEXT};
use super::{Call, HEARTBEAT, Hold, Purpose, Reply, Server, Why, uncached};
use crate::bytes::Shared;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::http::{self, Response};
use crate::sse;
use crate::websocket::{self, Message};

/// How long a poll is held.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Server {
    /// POST /poll
    pub(super) fn mailbox_poll(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let fields = Fields::parse(call.request.content())?;
        let (id, text) = (fields.optional("connection_id", &ID)?, fields.optional("text", &TEXT)?);
        let (cursor, key) = (fields.cursor("last_message_id")?, fields.optional("key", &KEY)?);
        let now = self.event_loop.now();
        let mailbox = match id {
            Some(id) => self.mailboxes.get(id, now)?,
            None => self.mailboxes.create(&mut self.random, now)?,
        };
        mailbox.seen = now;
        let mailbox_id = mailbox.id.clone();
        if let Some(text) = text {
            let text = self.put(&mailbox_id, text, key)?;
            return Ok(polled(&text_json(&mailbox_id, "message", text, true), 0));
        }
        if id.is_none() {
            return Ok(polled(&json!({ "connection_id": &*mailbox_id, "type": "timeout" }), 0));
        }
        if let Some(cursor) = cursor {
            mailbox.given = cursor;
        }
        if let Some((cursor, text, recovered)) = mailbox.take() {
            return Ok(polled(&text_json(&mailbox_id, "queued_message", (cursor, text), recovered), 1));
        }
        self.take_over_mailbox(&mailbox_id, call.conn);
        self.hold(call, Transport::LongPoll, Purpose::MailboxPoll { mailbox: mailbox_id }, Some(TIMEOUT));
        Ok(Reply::Later)
    }

    /// POST /sse/message
    pub(super) fn mailbox_text(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let fields = Fields::parse(call.request.content())?;
        let (id, text) = (fields.required("connection_id", &ID)?, fields.required("text", &TEXT)?);
        let key = fields.optional("key", &KEY)?;
        let id = self.mailboxes.get(id, self.event_loop.now())?.id.clone();
        let (cursor, _) = self.put(&id, text, key)?;
        let answer = json!({ "status": "queued", "id": cursor.to_string() });
        Ok(Reply::Now(Response::json(202, &answer).with_field("Cache-Control", "no-store")))
    }

    /// GET /sse: a new mailbox, or the one that `Last-Event-ID` is a position in.
    pub(super) fn mailbox_events(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let now = self.event_loop.now();
        let cursor = params::last_event_id(call.request)?;
        let known = cursor.and_then(|cursor| self.mailboxes.of_cursor(cursor, now)).map(|mailbox| mailbox.id.clone());
        let (mailbox, recovered) = match (known, cursor) {
            (Some(id), Some(cursor)) => {
                let mailbox = self.mailboxes.get(&id, now)?;
                let replay = mailbox.feed.replay(cursor);
                mailbox.given = replay.after;
                (mailbox, replay.recovered)
            }
            _ => (self.mailboxes.create(&mut self.random, now)?, cursor.is_none()),
        };
        let (id, given) = (mailbox.id.clone(), mailbox.given);
        self.event_loop.begin(call.conn, call.cors.apply(sse::stream_head()));
        let mut hello = json!({ "message": "Connected", "connection_id": &*id, "type": "connected" });
        if !recovered {
            hello["recovered"] = false.into();
        }
        let event = sse::event(Some(&given.to_string()), "message", &hello.to_string());
        self.event_loop.send(call.conn, &http::chunk(&event));
        self.read_mailbox(call, Transport::Sse, id, 0);
        Ok(Reply::Later)
    }

    /// WS /ws
    pub(super) fn mailbox_websocket(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let head = match websocket::accept(call.request, &[]) {
            Ok(head) => head,
            Err(error) => return Ok(Reply::Now(error.response())),
        };
        let id = self.mailboxes.create(&mut self.random, self.event_loop.now())?.id.clone();
        self.event_loop.begin(call.conn, call.cors.apply(head));
        self.send_heartbeat(Transport::WebSocket, call.conn, &id, 1);
        self.read_mailbox(call, Transport::WebSocket, id, 1);
        Ok(Reply::Later)
    }

    /// A message from the WebSocket that reads this mailbox.
    pub(super) fn mailbox_said(&mut self, id: &str, message: &Message) -> Result<(), ApiError> {
        let Message::Text(text) = message else {
            return Err(ApiError::bad("expected a text message with a JSON object, not a binary one"));
        };
        let fields = Fields::parse(text.as_bytes())?;
        self.put(id, fields.required("message", &TEXT)?, fields.optional("key", &KEY)?).map(drop)
    }

    /// Puts a text into a mailbox, and gives it to the reader if there is one; unless this key has come
    /// before.
    fn put(&mut self, id: &str, text: &str, key: Option<&str>) -> Result<(Cursor, Text), ApiError> {
        if let Some(before) = self.mailboxes.get(id, self.event_loop.now())?.keys.get(key) {
            return Ok(before);
        }
        let text = Text { text: text.into(), timestamp: timestamp() };
        let (cursor, mailbox) = self.mailboxes.put(id, text.clone(), self.event_loop.now())?;
        mailbox.keys.keep(key, (cursor, text.clone()));
        let (id, reader) = (mailbox.id.clone(), mailbox.reader);
        let Some(conn) = reader else { return Ok((cursor, text)) };
        let is_poll = matches!(self.holds.get(&conn), Some(Hold { purpose: Purpose::MailboxPoll { .. }, .. }));
        if !is_poll {
            self.catch_up(conn, &id);
        } else if let Some((cursor, text, recovered)) = mailbox.take() {
            let answer = text_json(&id, "new_message", (cursor, text), recovered);
            self.answer(conn, uncached(&answer), 1);
        }
        Ok((cursor, text))
    }

    /// Makes a stream the reader of a mailbox, and sends it what is waiting.
    fn read_mailbox(&mut self, call: &Call<'_>, transport: Transport, id: Rc<str>, beats: u64) {
        self.take_over_mailbox(&id, call.conn);
        let purpose = Purpose::MailboxStream { mailbox: id.clone(), beats };
        self.hold(call, transport, purpose, Some(HEARTBEAT));
        self.catch_up(call.conn, &id);
    }

    /// The newest reader wins: the one before it is let go.
    fn take_over_mailbox(&mut self, id: &str, reader: ExchangeId) {
        let Ok(mailbox) = self.mailboxes.get(id, self.event_loop.now()) else { return };
        if let Some(conn) = mailbox.reader.replace(reader) {
            self.end_hold(conn, Why::Superseded);
        }
    }

    /// This connection reads the mailbox no more; a newer reader stays.
    pub(super) fn leave_mailbox(&mut self, id: &str, conn: ExchangeId) {
        let now = self.event_loop.now();
        if let Ok(mailbox) = self.mailboxes.get(id, now)
            && mailbox.reader == Some(conn)
        {
            mailbox.reader = None;
            mailbox.seen = now;
        }
    }

    /// Sends everything that the reader has not been given.
    fn catch_up(&mut self, conn: ExchangeId, id: &str) {
        let Some(transport) = self.holds.get(&conn).map(|hold| hold.transport) else { return };
        let Ok(mailbox) = self.mailboxes.get(id, self.event_loop.now()) else { return };
        let kind = if transport == Transport::WebSocket { "user_message" } else { "message" };
        while let Some((cursor, text, recovered)) = mailbox.take() {
            let json = text_json(&mailbox.id, kind, (cursor, text), recovered).to_string();
            self.event_loop.send(conn, &encode(transport, Some(cursor), &json));
            self.stats.of(transport).messages += 1;
        }
    }

    /// Sends the numbered heartbeat of an isolated stream.
    pub(super) fn send_heartbeat(&mut self, transport: Transport, conn: ExchangeId, id: &str, number: u64) {
        let beat = json!({ "message": format!("Message {number}"), "connection_id": id, "type": "heartbeat" });
        self.event_loop.send(conn, &encode(transport, None, &beat.to_string()));
    }
}

fn encode(transport: Transport, id: Option<Cursor>, json: &str) -> Shared {
    match transport {
        Transport::WebSocket => websocket::text(json),
        _ => http::chunk(&sse::event(id.map(|id| id.to_string()).as_deref(), "message", json)),
    }
}

fn text_json(mailbox: &str, kind: &str, (cursor, text): (Cursor, Text), recovered: bool) -> Value {
    let mut answer = json!({
        "message": &*text.text,
        "type": kind,
        "id": cursor.to_string(),
        "connection_id": mailbox,
        "timestamp": text.timestamp,
    });
    if !recovered {
        answer["recovered"] = false.into();
    }
    answer
}

fn polled(answer: &Value, messages: u64) -> Reply {
    Reply::Counted(uncached(answer), Transport::LongPoll, messages)
}
