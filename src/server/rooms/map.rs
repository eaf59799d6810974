//! The map of all rooms.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::limits;
use super::room::Room;
use crate::books;
use crate::feed::Cursor;
use crate::journal::{LogName, Retention, Wanted};
use crate::quotas::Bound;
use crate::server::exchanges::Exchanges;
use crate::server::params::ApiError;
use crate::server::parked::Halt;

/// The purpose that a room is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFor {
    /// To read its messages, or to wait for the next one.
    Reading,
    /// To publish a message.
    Publishing,
}

/// All rooms by name.
#[derive(Debug)]
pub struct RoomMap {
    retention: Retention,
    /// The most bytes of encoded messages.
    encoded_bytes: usize,
    rooms: HashMap<Rc<str>, Room>,
    /// Their names in alphabetical order, each with its JSON: any request may ask for all of them.
    names: BTreeMap<Rc<str>, Rc<str>>,
    /// The number of messages that were ever published by this server, and earlier ones whose log it continues.
    pub messages: u64,
}

impl RoomMap {
    /// Creates an empty map.
    pub fn new(retention: Retention, encoded_bytes: usize) -> Self {
        RoomMap { retention, encoded_bytes, rooms: HashMap::new(), names: BTreeMap::new(), messages: 0 }
    }

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
    /// 429 when the client has too many rooms, or 503 when there are too many, and all of them have readers. `Wait` when
    /// the journal does not know yet whether there is such a room.
    pub fn open(&mut self, name: &str, purpose: OpenFor, exchanges: &mut Exchanges) -> Result<&mut Room, Halt> {
        if !self.rooms.contains_key(name) {
            let log = LogName::Room(name.into());
            self.make_room_of_client(exchanges)?;
            self.make_room(exchanges)?;
            match exchanges.journal.open(&log, &mut exchanges.random) {
                Some(start) => self.insert(log, start, exchanges.now()),
                None => return Err(Halt::Wait(Wanted::Log(log))),
            }
        }
        let counts = self.rooms.get(name).is_some_and(|room| room.is_new() && room.place.is_none());
        if counts {
            self.make_room_of_client(exchanges)?; // its requests that have waited together each had room before
        }
        let room = self.rooms.get_mut(name).expect("the room was inserted above, and is not the client's yet");
        room.used = exchanges.now();
        if counts {
            room.place = exchanges.quota.as_ref().map(|quota| quota.hold(Bound::Rooms));
        }
        match purpose {
            OpenFor::Reading => room.read = Some(room.used),
            OpenFor::Publishing => room.is_written = true,
        }
        Ok(room)
    }

    /// Adds the room of a log. `start` is the position before its first message.
    pub fn insert(&mut self, log: LogName, start: Cursor, now: Instant) {
        let room = Room::new(log, start, &self.retention, now);
        self.names.insert(room.name.clone(), room.json_name.clone());
        self.rooms.insert(room.name.clone(), room);
    }

    /// Removes a room that has no readers.
    pub fn remove(&mut self, name: &str) {
        self.rooms.remove(name);
        self.names.remove(name);
    }

    /// Removes the rooms without readers that were unused for this time: the journal has another copy of them.
    pub fn remove_unused(&mut self, exchanges: &mut Exchanges, time: Duration) {
        let now = exchanges.now();
        let is_unused =
            |room: &&Room| !room.has_readers() && room.used.max(room.read.unwrap_or(room.used)) + time <= now;
        let unused: Vec<_> = self.rooms.values().filter(is_unused).map(|room| room.log.clone()).collect();
        for log in unused {
            self.remove(log.name());
            exchanges.journal.remove(&log);
        }
    }

    /// Drops the messages that are older than a room retains them. `now` is in seconds since the epoch.
    pub fn expire(&mut self, now: f64) {
        if let Some(time) = self.retention.time {
            self.rooms.values_mut().for_each(|room| room.drop_before(now - time.as_secs_f64()));
        }
    }

    /// Makes room for another room, if there are too many. Removes a room without readers: an empty one, or else one
    /// that was never read, or else the one that was read longest ago. So a flood of readers removes no messages.
    /// Publishing is not reading: a flood of messages to new rooms removes none that is read. A cursor of a removed room
    /// is not recovered later.
    ///
    /// # Errors
    /// 503 when all rooms have readers.
    pub fn make_room(&mut self, exchanges: &mut Exchanges) -> Result<(), ApiError> {
        while self.rooms.len() >= self.retention.rooms {
            let Some(log) = self.evict(|_| true) else { return Err(ApiError::full("rooms")) };
            exchanges.journal.remove(&log);
        }
        Ok(())
    }

    /// Makes room for another room of the client whose request is handled, if it has too many: removes one of its own.
    ///
    /// # Errors
    /// 429 when all of its rooms have readers.
    fn make_room_of_client(&mut self, exchanges: &mut Exchanges) -> Result<(), ApiError> {
        let Some(quota) = exchanges.quota.clone() else { return Ok(()) };
        while !quota.has_place(Bound::Rooms) {
            let Some(log) = self.evict(|room| room.is_of(&quota)) else {
                return Err(ApiError::exceeded(quota.refuse(Bound::Rooms)));
            };
            exchanges.journal.shed(&log);
        }
        Ok(())
    }

    /// Removes the first of these rooms that has no readers, in the order of [`make_room`](Self::make_room). Returns its
    /// log.
    fn evict(&mut self, is_candidate: impl Fn(&Room) -> bool) -> Option<LogName> {
        let unused = self.rooms.values().filter(|room| !room.has_readers() && is_candidate(room));
        let oldest = unused.min_by_key(|room| (room.is_written, room.read, room.used))?.log.clone();
        self.remove(oldest.name());
        Some(oldest)
    }

    /// Returns the number of bytes that the rooms take.
    pub fn bytes(&self) -> usize {
        books::map(&self.rooms) + self.rooms.values().map(Room::bytes).sum::<usize>()
    }

    /// Returns the number of bytes of these that are encoded messages.
    pub fn encoded(&self) -> usize {
        self.rooms.values().map(|room| room.blocks.encoded()).sum()
    }

    /// Gives back the memory of readers that have left.
    pub fn shrink(&mut self) {
        self.rooms.values_mut().for_each(|room| room.present.shrink());
    }

    /// Drops what is encoded of the rooms that were unused for longest, until the rest is small enough.
    pub fn bound_encoded(&mut self) {
        let mut bytes = self.encoded();
        while bytes > self.encoded_bytes {
            let rooms = self.rooms.values_mut().filter(|room| room.blocks.encoded() > 0);
            let Some(oldest) = rooms.min_by_key(|room| room.used) else { return };
            bytes -= oldest.blocks.encoded();
            oldest.blocks.clear();
        }
    }

    /// Removes all rooms and their groups. The map is not used any more.
    pub fn clear(&mut self, exchanges: &mut Exchanges) {
        for mut room in mem::take(&mut self.rooms).into_values() {
            room.remove_groups(exchanges);
        }
    }

    /// Appends two members of JSON: the names of all rooms in alphabetical order, and the number of clients in each room
    /// with readers.
    pub fn append_json(&self, json: &mut String) {
        json.reserve(2 * self.names.values().map(|name| name.len() + 8).sum::<usize>());
        json.push_str(r#""rooms":["#);
        let mut comma = "";
        for name in self.names.values() {
            json.extend([mem::replace(&mut comma, ","), name]);
        }
        json.push_str(r#"],"present":{"#);
        let mut comma = "";
        for room in self.rooms.values().filter(|room| room.has_readers()) {
            json.extend([mem::replace(&mut comma, ","), &room.json_name, ":", &room.present.clients().to_string()]);
        }
        json.push('}');
    }

    /// Appends members of JSON: for each room with few clients, who is present. All together have a bound.
    pub fn append_who(&self, json: &mut String) {
        let (mut left, mut comma) = (limits::LISTED_CLIENTS, "");
        for room in self.rooms.values() {
            let who = room.present.who();
            if !(1..=left.min(limits::LISTED_CLIENTS_PER_ROOM)).contains(&who.len()) {
                continue;
            }
            left -= who.len();
            json.extend([mem::replace(&mut comma, ","), &room.json_name, ":["]);
            let mut comma = "";
            for client in who {
                json.extend([mem::replace(&mut comma, ","), &client.to_string()]);
            }
            json.push(']');
        }
    }

    /// Returns the number of messages ever published in these rooms.
    pub fn published(&self) -> u64 {
        self.rooms.values().map(|room| room.feed.published()).sum()
    }
}
