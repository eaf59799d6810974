//! One room, and the map of all rooms.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::event_loop::{ExchangeId, GroupId};
use crate::feed::{Cursor, Feed, Replay};
use crate::http::Content;
use crate::random::Random;
use crate::server::exchanges::Exchanges;
use crate::server::idempotency::IdempotencyKeys;
use crate::server::message::{Transport, encode};
use crate::server::params::ApiError;

/// The purpose that a room is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFor {
    /// To read its messages, or to wait for the next one.
    Reading,
    /// To publish a message.
    Publishing,
}

/// The id and the time of a published message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The position after the message.
    pub id: Cursor,
    /// Seconds since the epoch.
    pub timestamp: f64,
}

/// The open streams of a room on one transport.
#[derive(Debug)]
struct Streams {
    group: GroupId,
    /// The number of members of the group.
    members: u64,
}

/// A feed, and the exchanges that receive its messages.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Rc<str>,
    /// Its messages, as JSON.
    pub feed: Feed<Rc<str>>,
    /// Held polls.
    pub polls: BTreeSet<ExchangeId>,
    /// Open streams and WebSockets, by transport.
    streams: [Option<Streams>; Transport::ALL.len()],
    /// The results of the newest messages with a key.
    pub keys: IdempotencyKeys<Published>,
    used: Instant,
}

impl Room {
    /// Returns the position where a reader continues: after its cursor, or after the newest message.
    pub fn replay(&self, cursor: Option<Cursor>) -> Replay {
        cursor.map_or(Replay { after: self.feed.tip(), recovered: true }, |cursor| self.feed.replay(cursor))
    }

    /// Returns the position before all retained messages, for a reader whose position is unknown.
    pub fn replay_everything(&self) -> Replay {
        Replay { after: self.feed.last(usize::MAX), recovered: false }
    }

    /// Returns the answer to a poll: everything after the reader's position. `members` is JSON that follows the
    /// messages.
    pub fn batch(&self, from: Replay, members: &str) -> Batch<'_> {
        let (recovered, tip) = (from.recovered, self.feed.tip());
        Batch {
            before: r#"{"messages":["#.into(),
            messages: self.feed.after(from.after).map(|(_, json)| &**json).collect(),
            after: format!("],{members},\"recovered\":{recovered},\"last_message_id\":\"{tip}\"}}\n"),
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

    /// Sends a message to all streams. It is encoded once for each transport.
    pub fn send(&self, exchanges: &mut Exchanges, cursor: Cursor, json: &str) {
        for transport in Transport::ALL {
            if let Some(streams) = &self.streams[transport as usize] {
                let bytes = encode(transport, Some(cursor), "message", json);
                exchanges.event_loop.send_to_group(streams.group, &bytes);
                exchanges.count(transport, streams.members);
            }
        }
    }

    /// Whether a stream is open.
    pub fn has_streams(&self) -> bool {
        self.streams.iter().any(Option::is_some)
    }

    fn has_readers(&self) -> bool {
        !self.polls.is_empty() || self.has_streams()
    }

    fn remove_group(&mut self, exchanges: &mut Exchanges, transport: Transport) {
        if let Some(streams) = self.streams[transport as usize].take() {
            exchanges.event_loop.remove_group(streams.group);
        }
    }
}

/// JSON with a list of messages, which are JSON already.
pub struct Batch<'a> {
    /// The JSON before the messages.
    pub before: String,
    /// The messages.
    pub messages: Vec<&'a str>,
    /// The JSON after the messages.
    pub after: String,
}

impl Batch<'_> {
    /// Returns the number of messages.
    pub fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Makes the content of an answer. Clones of the answer share it.
    pub fn content(&self) -> Content {
        let content = [&*self.before, &self.messages.join(","), &self.after].concat();
        Content::Shared(content.into_bytes().into())
    }

    /// Returns its length, for the answer to HEAD.
    pub fn length(&self) -> Content {
        let commas = self.messages.len().saturating_sub(1);
        let messages = self.messages.iter().map(|json| json.len()).sum::<usize>();
        Content::Omitted(Some((self.before.len() + messages + commas + self.after.len()) as u64))
    }
}

/// All rooms by name.
#[derive(Debug, Default)]
pub struct RoomMap {
    rooms: HashMap<Rc<str>, Room>,
    /// The messages of rooms that were removed.
    removed_messages: u64,
}

impl RoomMap {
    /// Returns the room with this name.
    pub fn get(&self, name: &str) -> Option<&Room> {
        self.rooms.get(name)
    }

    /// Returns the room with this name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.get_mut(name)
    }

    /// Returns the room with this name, and creates it if there is none.
    ///
    /// # Errors
    /// 503 when there are too many rooms, and none of them can be removed.
    pub fn open(
        &mut self,
        name: &str,
        purpose: OpenFor,
        random: &mut Random,
        now: Instant,
    ) -> Result<&mut Room, ApiError> {
        if !self.rooms.contains_key(name) {
            if self.rooms.len() >= limits::ROOMS {
                self.remove_one(purpose)?;
            }
            let name: Rc<str> = name.into();
            let room = Room {
                name: name.clone(),
                feed: Feed::new(random.number(), limits::RETAINED_MESSAGES, limits::RETAINED_BYTES),
                polls: BTreeSet::new(),
                streams: Default::default(),
                keys: IdempotencyKeys::new(limits::IDEMPOTENCY_KEYS),
                used: now,
            };
            self.rooms.insert(name, room);
        }
        let room = self.rooms.get_mut(name).expect("the room was inserted above");
        room.used = now;
        Ok(room)
    }

    /// Removes a room without readers: an empty one, or else the one that was unused for longest. A reader removes only
    /// empty rooms, because any page can make a browser send a GET. A cursor of a removed room is not recovered later.
    fn remove_one(&mut self, purpose: OpenFor) -> Result<(), ApiError> {
        let is_empty = |room: &&Room| room.feed.published() == 0;
        let unused = self.rooms.values().filter(|room| !room.has_readers());
        let candidates = unused.filter(|room| purpose == OpenFor::Publishing || is_empty(room));
        let oldest = candidates.min_by_key(|room| (!is_empty(room), room.used)).map(|room| room.name.clone());
        let room = oldest.and_then(|name| self.rooms.remove(&name)).ok_or_else(|| ApiError::full("rooms"))?;
        self.removed_messages += room.feed.published();
        Ok(())
    }

    /// Removes all rooms and their groups.
    pub fn clear(&mut self, exchanges: &mut Exchanges) {
        for mut room in mem::take(self).rooms.into_values() {
            Transport::ALL.into_iter().for_each(|transport| room.remove_group(exchanges, transport));
        }
    }

    /// Returns the names of all rooms in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rooms.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Returns the number of messages ever published.
    pub fn total_messages(&self) -> u64 {
        self.removed_messages + self.rooms.values().map(|room| room.feed.published()).sum::<u64>()
    }
}
