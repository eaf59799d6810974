//! The map of all rooms.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use super::room::Room;
use crate::feed::Cursor;
use crate::random::Random;
use crate::server::books;
use crate::server::exchanges::Exchanges;
use crate::server::params::ApiError;

/// The purpose that a room is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFor {
    /// To read its messages, or to wait for the next one.
    Reading,
    /// To publish a message.
    Publishing,
}

/// All rooms by name.
#[derive(Debug, Default)]
pub struct RoomMap {
    rooms: HashMap<Rc<str>, Room>,
    /// Their names in alphabetical order, each with its JSON: any request may ask for all of them.
    names: BTreeMap<Rc<str>, Rc<str>>,
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
    /// 503 when there are too many rooms, and all of them have readers.
    pub fn open(
        &mut self,
        name: &str,
        purpose: OpenFor,
        random: &mut Random,
        now: Instant,
    ) -> Result<&mut Room, ApiError> {
        if !self.rooms.contains_key(name) {
            if self.rooms.len() >= limits::ROOMS {
                self.remove_one()?;
            }
            let name: Rc<str> = name.into();
            let room = Room::new(name.clone(), Cursor::start(random), now);
            self.names.insert(name.clone(), room.json_name.clone());
            self.rooms.insert(name, room);
        }
        let room = self.rooms.get_mut(name).expect("the room was inserted above");
        room.used = now;
        if purpose == OpenFor::Reading {
            room.read = Some(now);
        }
        Ok(room)
    }

    /// Removes a room without readers: an empty one, or else one that was never read, or else the one that was read
    /// longest ago. So a flood of readers removes no messages. Publishing is not reading: a flood of messages to new
    /// rooms removes none that is read. A cursor of a removed room is not recovered later.
    fn remove_one(&mut self) -> Result<(), ApiError> {
        let unused = self.rooms.values().filter(|room| !room.has_readers());
        let rank = |room: &&Room| (room.feed.published() > 0, room.read, room.used);
        let oldest = unused.min_by_key(rank).map(|room| room.name.clone());
        let room = oldest.and_then(|name| self.rooms.remove(&name)).ok_or_else(|| ApiError::full("rooms"))?;
        self.names.remove(&room.name);
        self.removed_messages += room.feed.published();
        Ok(())
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
        while bytes > limits::ENCODED_BYTES {
            let rooms = self.rooms.values_mut().filter(|room| room.blocks.encoded() > 0);
            let Some(oldest) = rooms.min_by_key(|room| room.used) else { return };
            bytes -= oldest.blocks.encoded();
            oldest.blocks.clear();
        }
    }

    /// Removes all rooms and their groups.
    pub fn clear(&mut self, exchanges: &mut Exchanges) {
        for mut room in mem::take(self).rooms.into_values() {
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

    /// Returns the number of messages ever published.
    pub fn total_messages(&self) -> u64 {
        self.removed_messages + self.rooms.values().map(|room| room.feed.published()).sum::<u64>()
    }
}
