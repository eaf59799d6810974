//! The clients that name themselves with `client_id`, and the position of each in its rooms.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::server::params::ApiError;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its held polls, streams and WebSockets.
    pub held: BTreeSet<ExchangeId>,
    /// The time of its last request, or of the end of its last stream.
    pub seen: Instant,
    /// Its position in each room.
    positions: Vec<(Rc<str>, Cursor)>,
    /// Whether a position was dropped, because there were too many.
    has_dropped_positions: bool,
}

impl Client {
    fn is_active(&self, now: Instant) -> bool {
        !self.held.is_empty() || now < self.seen + limits::CLIENT_ACTIVE
    }

    /// Returns its position in a room.
    pub fn position(&self, room: &str) -> Option<Cursor> {
        self.positions.iter().find(|(name, _)| **name == *room).map(|(_, cursor)| *cursor)
    }

    /// Whether a position may be missing because it was dropped.
    pub fn has_dropped_positions(&self) -> bool {
        self.has_dropped_positions
    }

    /// Stores its position in a room: it has everything up to here.
    pub fn set_position(&mut self, room: &Rc<str>, position: Cursor) {
        self.positions.retain(|(name, _)| name != room);
        if self.positions.len() == limits::ROOMS_PER_CLIENT {
            self.positions.remove(0);
            self.has_dropped_positions = true;
        }
        self.positions.push((room.clone(), position));
    }
}

/// All clients by id.
#[derive(Debug, Default)]
pub struct Clients(HashMap<Rc<str>, Client>);

impl Clients {
    /// Notes a request of this client, and returns the shared form of its id.
    ///
    /// # Errors
    /// 503 when there are too many clients.
    pub fn see(&mut self, id: &str, now: Instant) -> Result<Rc<str>, ApiError> {
        if let Some((id, _)) = self.0.get_key_value(id) {
            let id = id.clone();
            self.0.entry(id.clone()).and_modify(|client| client.seen = now);
            return Ok(id);
        }
        if self.0.len() >= limits::CLIENTS {
            self.0.retain(|_, client| client.is_active(now));
        }
        if self.0.len() >= limits::CLIENTS {
            return Err(ApiError::full("clients"));
        }
        let id: Rc<str> = id.into();
        let client = Client { held: BTreeSet::new(), seen: now, positions: Vec::new(), has_dropped_positions: false };
        self.0.insert(id.clone(), client);
        Ok(id)
    }

    /// Returns the client with this id.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Client> {
        self.0.get_mut(id)
    }

    /// Removes the client with this id.
    pub fn remove(&mut self, id: &str) -> Option<Client> {
        self.0.remove(id)
    }

    /// Removes the clients whose lifetime is over.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, client| !client.held.is_empty() || now < client.seen + limits::CLIENT_LIFETIME);
    }

    /// Returns the number of active clients.
    pub fn active(&self, now: Instant) -> usize {
        self.0.values().filter(|client| client.is_active(now)).count()
    }
}
