//! One room.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::encoded::{Blocks, Form, Messages, few};
use super::present::Present;
use crate::books;
use crate::bytes::{Rope, Shared, Slice};
use crate::event_loop::{ExchangeId, GroupId};
use crate::feed::{Cursor, Feed, Replay};
use crate::http::Content;
use crate::journal::{LogName, Retention, Wanted};
use crate::quotas::{Place, Quota};
use crate::server::exchanges::Exchanges;
use crate::server::message::{Transport, encode, timestamp_of};
use crate::server::parked::Halt;

/// The open streams of a room on one transport.
#[derive(Debug)]
struct Streams {
    group: GroupId,
    /// The number of members of the group.
    members: u64,
}

/// Returns the most bytes that a room takes, without its readers and what is encoded for them.
pub fn bytes_of_room(retention: &Retention) -> usize {
    const LONGEST_NAME: usize = 4 * 64; // in UTF-8
    let place = books::map_of::<Rc<str>, Room>(retention.rooms) / retention.rooms.max(1);
    place + 3 * books::text(LONGEST_NAME) + Messages::bytes_of(retention.messages, retention.bytes)
}

/// A feed, and the exchanges that receive its messages.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Rc<str>,
    /// The name of its log.
    pub log: LogName,
    /// Its name as JSON.
    pub json_name: Rc<str>,
    /// Its messages, as JSON.
    pub feed: Messages,
    /// Its messages, encoded.
    pub blocks: Blocks,
    /// Held polls.
    pub polls: BTreeSet<ExchangeId>,
    /// The clients of its readers.
    pub present: Present,
    /// Open streams and WebSockets, by transport.
    streams: [Option<Streams>; Transport::ALL.len()],
    /// Whether somebody has published a message, which may not be committed yet.
    pub is_written: bool,
    /// The time of its last use.
    pub used: Instant,
    /// The time when somebody read it last.
    pub read: Option<Instant>,
    /// Its place among those of the client that was the first to use it.
    pub place: Option<Place>,
}

impl Room {
    /// Creates an empty room.
    pub fn new(log: LogName, start: Cursor, retention: &Retention, now: Instant) -> Self {
        let name = log.name().clone();
        Room {
            json_name: Value::from(&*name).to_string().into(),
            name,
            log,
            feed: Feed::new(start, retention.messages, retention.bytes),
            blocks: Blocks::default(),
            polls: BTreeSet::new(),
            present: Present::default(),
            streams: Default::default(),
            is_written: false,
            used: now,
            read: None,
            place: None,
        }
    }

    /// Whether nobody has used it yet.
    pub fn is_new(&self) -> bool {
        self.read.is_none() && !self.is_written
    }

    /// Whether it counts for this client.
    pub fn is_of(&self, quota: &Rc<Quota>) -> bool {
        self.place.as_ref().is_some_and(|place| Rc::ptr_eq(place.quota(), quota))
    }

    /// Returns the position where a reader continues: after its cursor, or after the newest message.
    ///
    /// # Errors
    /// `Wait` when the cursor is not known here, and another server may know it.
    pub fn replay(&self, cursor: Option<Cursor>, exchanges: &mut Exchanges) -> Result<Replay, Halt> {
        let Some(cursor) = cursor else { return Ok(Replay { after: self.feed.tip(), recovered: true }) };
        let replay = self.feed.replay(cursor);
        if !replay.recovered {
            exchanges.find(Wanted::Position(self.log.clone(), cursor))?;
        }
        Ok(replay)
    }

    /// Returns the position before all retained messages, for a reader whose position is unknown.
    pub fn replay_everything(&self) -> Replay {
        Replay { after: self.feed.last(usize::MAX), recovered: false }
    }

    /// Appends a message.
    pub fn publish(&mut self, id: Cursor, json: Rc<str>) {
        let bytes = json.len();
        self.feed.append(id, json, bytes);
        self.blocks.published(&self.feed, bytes);
        self.is_written = true;
    }

    /// Drops the messages after `tip`, which are lost.
    pub fn truncate(&mut self, tip: Cursor) {
        self.feed.truncate(tip);
        self.blocks = Blocks::of(&self.feed);
    }

    /// Drops the messages whose time is before this one, in seconds since the epoch.
    pub fn drop_before(&mut self, time: f64) {
        let is_old = |json: &Rc<str>| timestamp_of(json).is_some_and(|timestamp| timestamp < time);
        if self.feed.drop_while(is_old) {
            self.blocks.drop_before(self.feed.last(usize::MAX).sequence());
        }
    }

    /// Returns the answer to a poll: everything after the reader's position. `members` is JSON that follows the
    /// messages.
    pub fn batch(&self, from: Replay, members: &str) -> Batch {
        let (recovered, tip) = (from.recovered, self.feed.tip());
        Batch {
            before: r#"{"messages":["#.into(),
            position: from.after,
            after: format!("],{members},\"recovered\":{recovered},\"last_message_id\":\"{tip}\"}}\n"),
        }
    }

    /// Returns the content of an answer. Clones of it share their bytes, and so do answers with the same messages.
    pub fn content(&mut self, batch: &Batch) -> Content {
        let Batch { before, position, after } = batch;
        if let Some(few) = few(&self.feed, *position, Form::Item) {
            return Content::Shared([before.as_bytes(), &few, after.as_bytes()].concat().into());
        }
        let ends = [before, after].map(|end| Slice::from(&Shared::from(end.clone().into_bytes())));
        let [before, after] = ends;
        let messages = self.blocks.after(&self.feed, *position, Form::Item);
        Content::Rope([before].into_iter().chain(messages).chain([after]).collect())
    }

    /// Returns the length of the content, for the answer to HEAD.
    pub fn length(&self, batch: &Batch) -> Content {
        let messages = self.feed.after(batch.position);
        let commas = messages.len().saturating_sub(1);
        let messages = messages.map(|(_, json)| json.len()).sum::<usize>();
        Content::Omitted(Some((batch.before.len() + messages + commas + batch.after.len()) as u64))
    }

    /// Returns all messages after a position, as a stream sends them.
    pub fn rope(&mut self, position: Cursor, transport: Transport) -> Rope {
        let form = Form::of(transport);
        match few(&self.feed, position, form) {
            Some(few) => Rope::from_iter([Slice::from(&Shared::from(few))]),
            None => self.blocks.after(&self.feed, position, form).into_iter().collect(),
        }
    }

    /// Adds a stream, which receives all messages from now on.
    pub fn join(&mut self, exchanges: &mut Exchanges, transport: Transport, id: ExchangeId) {
        let event_loop = &mut exchanges.event_loop;
        let streams = &mut self.streams[transport as usize];
        let streams = streams.get_or_insert_with(|| Streams { group: event_loop.group(), members: 0 });
        streams.members += 1;
        event_loop.join(streams.group, id);
    }

    /// Removes a stream.
    pub fn leave(&mut self, exchanges: &mut Exchanges, transport: Transport, id: ExchangeId) {
        let Some(streams) = &mut self.streams[transport as usize] else { return };
        exchanges.event_loop.leave(id);
        streams.members -= 1;
        if streams.members == 0 {
            self.remove_group(exchanges, transport);
        }
    }

    /// Sends a message to all streams.
    pub fn send(&self, exchanges: &mut Exchanges, cursor: Cursor, json: &str) {
        self.send_to_streams(exchanges, |transport| encode(transport, Some(cursor), "message", json));
        for transport in Transport::ALL {
            exchanges.count(transport, self.streams[transport as usize].as_ref().map_or(0, |streams| streams.members));
        }
    }

    /// Sends the same to all streams. It is encoded once for each transport.
    pub fn send_to_streams(&self, exchanges: &mut Exchanges, encode: impl Fn(Transport) -> Shared) {
        for transport in Transport::ALL {
            if let Some(streams) = &self.streams[transport as usize] {
                exchanges.event_loop.send_to_group(streams.group, &encode(transport));
            }
        }
    }

    /// Returns the number of bytes that it takes beside its place in the map.
    pub fn bytes(&self) -> usize {
        let readers = books::btree_set(&self.polls) + self.present.bytes();
        books::text(self.name.len())
            + books::text(self.json_name.len())
            + self.feed.memory()
            + self.blocks.bytes()
            + readers
    }

    /// Whether a stream is open.
    pub fn has_streams(&self) -> bool {
        self.streams.iter().any(Option::is_some)
    }

    /// Whether a poll is held or a stream is open.
    pub fn has_readers(&self) -> bool {
        !self.polls.is_empty() || self.has_streams()
    }

    /// Removes the groups of its streams from the loop.
    pub fn remove_groups(&mut self, exchanges: &mut Exchanges) {
        Transport::ALL.into_iter().for_each(|transport| self.remove_group(exchanges, transport));
    }

    fn remove_group(&mut self, exchanges: &mut Exchanges, transport: Transport) {
        if let Some(streams) = self.streams[transport as usize].take() {
            exchanges.event_loop.remove_group(streams.group);
        }
    }
}

/// JSON with the list of all messages after a position.
pub struct Batch {
    /// The JSON before the messages.
    pub before: String,
    /// The position.
    pub position: Cursor,
    /// The JSON after the messages.
    pub after: String,
}
