//! Rooms: a feed with many readers. And what is remembered of the clients that poll without a
//! cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::keys::Keys;
use super::message::Transport;
use super::params::ApiError;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Feed, Replay};
use crate::random::Random;

/// How many messages a room retains, and how many bytes of them.
const RETAINED_MESSAGES: usize = 1000;
const RETAINED_BYTES: usize = 1024 * 1024;

/// How many messages are known by the keys that they came with.
const REMEMBERED_KEYS: usize = 256;

/// How many rooms there are at most. Beyond it, one in which nobody waits makes way: an empty one,
/// or, for a message, the one that was unused for longest. Its feed is gone, and cursors into it
/// are told so.
const MAX_ROOMS: usize = 256;

/// How many clients are remembered at most, for how long after their last poll, and in how many
/// rooms each.
const MAX_CLIENTS: usize = 100_000;
const CLIENT_MEMORY: Duration = Duration::from_secs(300);
const ROOMS_PER_CLIENT: usize = 16;

/// A client that was not heard of for so long is not counted as active.
const ACTIVE: Duration = Duration::from_secs(60);

/// What a room is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To read what is there, or to wait.
    Read,
    /// To publish.
    Publish,
}

/// A feed and those who wait for its next message.
#[derive(Debug)]
pub struct Room {
    /// Its name.
    pub name: Rc<str>,
    /// Its messages, as JSON.
    pub feed: Feed<Rc<str>>,
    /// Held polls: each is answered once.
    pub polls: BTreeSet<ExchangeId>,
    /// Streams and WebSockets: each is sent everything, encoded for its transport.
    pub streams: BTreeMap<ExchangeId, Transport>,
    /// Ids and times of the newest messages that came with a key.
    pub keys: Keys<(Cursor, f64)>,
    used: Instant,
}

impl Room {
    /// Where a reader begins: at its cursor, or at what is new from now on.
    pub fn replay(&self, cursor: Option<Cursor>) -> Replay {
        cursor.map_or(Replay { after: self.feed.tip(), recovered: true }, |cursor| self.feed.replay(cursor))
    }

    /// Where a reader begins of whom it is not known what it was given.
    pub fn everything_but_not_recovered(&self) -> Replay {
        Replay { after: self.feed.last(usize::MAX), recovered: false }
    }

    /// Everything after the reader's position, as the answer to a poll. The messages are JSON
    /// already.
    pub fn batch(&self, from: Replay, rest: &str) -> String {
        let messages: Vec<&str> = self.feed.after(from.after).map(|(_, json)| &**json).collect();
        let (messages, recovered, tip) = (messages.join(","), from.recovered, self.feed.tip());
        format!(r#"{{"messages":[{messages}],{rest},"recovered":{recovered},"last_message_id":"{tip}"}}"#) + "\n"
    }
}

/// All rooms by name.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: HashMap<Rc<str>, Room>,
    /// Messages in rooms that have made way.
    lost_count: u64,
}

impl Rooms {
    /// The room, if there is one.
    pub fn get(&self, name: &str) -> Option<&Room> {
        self.rooms.get(name)
    }

    /// The room, if there is one.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.get_mut(name)
    }

    /// The room, made if there was none. Whoever only reads displaces nobody's messages: any page
    /// may have a browser send a GET.
    ///
    /// # Errors
    /// 503 when there are too many, and none may make way.
    pub fn open(&mut self, name: &str, to: To, random: &mut Random, now: Instant) -> Result<&mut Room, ApiError> {
        if !self.rooms.contains_key(name) {
            self.make_way(to)?;
            let feed = Feed::new(random.number(), RETAINED_MESSAGES, RETAINED_BYTES);
            let name: Rc<str> = name.into();
            let room = Room {
                name: name.clone(),
                feed,
                polls: BTreeSet::new(),
                streams: BTreeMap::new(),
                keys: Keys::new(REMEMBERED_KEYS),
                used: now,
            };
            self.rooms.insert(name, room);
        }
        let room = self.rooms.get_mut(name).expect("it is there now");
        room.used = now;
        Ok(room)
    }

    fn make_way(&mut self, to: To) -> Result<(), ApiError> {
        if self.rooms.len() < MAX_ROOMS {
            return Ok(());
        }
        let is_empty = |room: &&Room| room.feed.published() == 0;
        let unused = self.rooms.values().filter(|room| room.polls.is_empty() && room.streams.is_empty());
        let candidates = unused.filter(|room| to == To::Publish || is_empty(room));
        let oldest = candidates.min_by_key(|room| (!is_empty(room), room.used)).map(|room| room.name.clone());
        let room = oldest.and_then(|name| self.rooms.remove(&name)).ok_or_else(|| ApiError::full("rooms"))?;
        self.lost_count += room.feed.published();
        Ok(())
    }

    /// Their names in alphabetical order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rooms.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// How many messages were ever published.
    pub fn total_messages(&self) -> u64 {
        self.lost_count + self.rooms.values().map(|room| room.feed.published()).sum::<u64>()
    }
}

/// A client that named itself with `client_id`.
#[derive(Debug)]
pub struct Client {
    /// Its held polls and open streams.
    pub held: BTreeSet<ExchangeId>,
    /// Its last sign of life.
    pub seen: Instant,
    /// What it was given, by room.
    given: Vec<(Rc<str>, Cursor)>,
    /// It was in more rooms than are remembered.
    forgot: bool,
}

impl Client {
    fn is_active(&self, now: Instant) -> bool {
        !self.held.is_empty() || now < self.seen + ACTIVE
    }

    /// The last position that it was given in a room.
    pub fn position(&self, room: &str) -> Option<Cursor> {
        self.given.iter().find(|(name, _)| **name == *room).map(|(_, cursor)| *cursor)
    }

    /// Whether its position in a room may have been forgotten.
    pub fn forgot(&self) -> bool {
        self.forgot
    }

    /// Notes the position that it was given in a room.
    pub fn give(&mut self, room: &Rc<str>, position: Cursor) {
        self.given.retain(|(name, _)| name != room);
        if self.given.len() == ROOMS_PER_CLIENT {
            self.given.remove(0);
            self.forgot = true;
        }
        self.given.push((room.clone(), position));
    }
}

/// All clients by id.
#[derive(Debug, Default)]
pub struct Clients(HashMap<Rc<str>, Client>);

impl Clients {
    /// Notes a sign of life of this client, and returns the shared form of its id.
    ///
    /// # Errors
    /// 503 when too many are remembered.
    pub fn see(&mut self, id: &str, now: Instant) -> Result<Rc<str>, ApiError> {
        if let Some((id, _)) = self.0.get_key_value(id) {
            let id = id.clone();
            self.0.entry(id.clone()).and_modify(|client| client.seen = now);
            return Ok(id);
        }
        if self.0.len() >= MAX_CLIENTS {
            self.0.retain(|_, client| client.is_active(now));
        }
        if self.0.len() >= MAX_CLIENTS {
            return Err(ApiError::full("clients"));
        }
        let id: Rc<str> = id.into();
        self.0.insert(id.clone(), Client { held: BTreeSet::new(), seen: now, given: Vec::new(), forgot: false });
        Ok(id)
    }

    /// The client with this id.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Client> {
        self.0.get_mut(id)
    }

    /// Forgets a client, and returns what was known.
    pub fn remove(&mut self, id: &str) -> Option<Client> {
        self.0.remove(id)
    }

    /// Forgets those that were not heard of for long.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, client| !client.held.is_empty() || now < client.seen + CLIENT_MEMORY);
    }

    /// How many are here now.
    pub fn active(&self, now: Instant) -> usize {
        self.0.values().filter(|client| client.is_active(now)).count()
    }
}
