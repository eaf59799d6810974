//! The clients that name themselves with `client_id`, and the position of each in its rooms.
//!
//! A poll without a cursor continues at the position of its client. A position that was dropped must not become a silent
//! hole: a client that may have had one gets everything, with `recovered: false`.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::books;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::journal::{Journal, LogName};
use crate::server::Stores;
use crate::server::lru::{Kept, Lru};
use crate::server::params::ApiError;

/// A client.
#[derive(Debug, Default)]
struct Client {
    /// Its held polls, streams and WebSockets.
    held: BTreeSet<ExchangeId>,
    /// Its position in each room. A room has the keyed hash of its name: a client must not keep the names of removed rooms.
    positions: Vec<(u64, Cursor)>,
    /// Whether a position may have been dropped.
    has_dropped_positions: bool,
}

impl Client {
    fn bytes(&self) -> usize {
        books::btree_set(&self.held) + books::vec(&self.positions)
    }
}

/// All clients by id. A client is in use as long as an exchange of it is held.
#[derive(Debug)]
pub struct Clients {
    /// The most clients, and the most bytes of all of them.
    most: (usize, usize),
    clients: Lru<Client>,
    /// The ids of clients that an operator has removed. Their positions are dropped.
    removed: Lru<()>,
    /// Until then, an unknown client may be one that had to make room for another.
    evicted_until: Option<Instant>,
    /// The bytes of what the clients own.
    owned: usize,
    hasher: RandomState,
}

impl Clients {
    /// Creates an empty store.
    pub fn new(stores: &Stores) -> Self {
        Clients {
            most: (stores.clients, stores.client_bytes),
            clients: Lru::new(limits::CLIENT_ACTIVE),
            removed: Lru::new(limits::CLIENT_LIFETIME),
            evicted_until: None,
            owned: 0,
            hasher: RandomState::new(),
        }
    }
}

impl Clients {
    /// Notes a request of this client, and returns the shared form of its id. When there are too many clients, the one
    /// that was unseen for longest is removed, but none that has a held exchange.
    ///
    /// # Errors
    /// 503 when all clients have held exchanges.
    pub fn see(&mut self, id: &str, now: Instant) -> Result<Rc<str>, ApiError> {
        let known = self.clients.get_mut(id).map(|mut client| {
            client.touch(now);
            client.id().clone()
        });
        let id = match known {
            Some(id) => id,
            None => self.add(id, now)?,
        };
        while self.bytes() > self.most.1 && self.evict(Some(&id), now) {}
        Ok(id)
    }

    fn add(&mut self, id: &str, now: Instant) -> Result<Rc<str>, ApiError> {
        let was_removed = self.removed.remove(id).is_some();
        if self.clients.len() + self.removed.len() >= self.most.0 && !self.evict(None, now) {
            return Err(ApiError::full("clients"));
        }
        let may_be_evicted = self.evicted_until.is_some_and(|until| now < until);
        let client = Client { has_dropped_positions: was_removed || may_be_evicted, ..Client::default() };
        let id: Rc<str> = id.into();
        self.clients.insert(id.clone(), client, now);
        Ok(id)
    }

    /// Removes the client that was unseen for longest, but not this one. Returns whether there was one.
    fn evict(&mut self, except: Option<&Rc<str>>, now: Instant) -> bool {
        if let Some(id) = self.removed.oldest().map(|(id, ..)| id.clone()) {
            self.removed.remove(&id);
        } else if let Some(id) = self.clients.oldest().map(|(id, ..)| id.clone()).filter(|id| Some(id) != except) {
            self.drop_client(&id);
        } else {
            return false;
        }
        self.note_lost(now);
        true
    }

    /// Notes that the positions of some clients are lost.
    pub fn note_lost(&mut self, now: Instant) {
        self.evicted_until = Some(now + limits::CLIENT_LIFETIME);
    }

    fn drop_client(&mut self, id: &str) -> Option<Client> {
        let client = self.clients.remove(id)?;
        self.owned -= client.bytes();
        Some(client)
    }

    /// Returns the client with this id.
    pub fn get_mut(&mut self, id: &str) -> Option<ClientMut<'_>> {
        let Clients { clients, owned, hasher, .. } = self;
        clients.get_mut(id).map(|client| ClientMut { client, owned, hasher })
    }

    /// Removes the client with this id, and returns its held exchanges. If it comes back, its positions are dropped ones.
    pub fn remove(&mut self, id: &str, now: Instant) -> Option<BTreeSet<ExchangeId>> {
        let shared = self.clients.get_mut(id)?.id().clone();
        let client = self.drop_client(id)?;
        self.removed.insert(shared, (), now);
        Some(client.held)
    }

    /// Removes the clients whose lifetime is over.
    pub fn sweep(&mut self, now: Instant) {
        let is_over = |used: Instant| used + limits::CLIENT_LIFETIME <= now;
        while let Some(id) = self.clients.oldest().filter(|(.., used)| is_over(*used)).map(|(id, ..)| id.clone()) {
            self.drop_client(&id);
        }
        while let Some(id) = self.removed.oldest().filter(|(.., used)| is_over(*used)).map(|(id, ..)| id.clone()) {
            self.removed.remove(&id);
        }
        self.clients.shrink();
        self.removed.shrink();
    }

    /// Returns the number of clients that have a held exchange, or were seen a short time ago.
    pub fn active(&mut self, now: Instant) -> usize {
        self.clients.len() - self.clients.stale(now)
    }

    /// Returns the number of bytes that the clients take.
    pub fn bytes(&self) -> usize {
        self.clients.bytes() + self.removed.bytes() + self.owned
    }
}

/// A client among all clients.
pub struct ClientMut<'a> {
    client: Kept<'a, Client>,
    owned: &'a mut usize,
    hasher: &'a RandomState,
}

impl ClientMut<'_> {
    /// Returns its position in a room.
    pub fn position(&self, room: &str) -> Option<Cursor> {
        let room = self.hasher.hash_one(room);
        self.client.positions.iter().find(|(known, _)| *known == room).map(|(_, cursor)| *cursor)
    }

    /// Whether a position may be missing because it was dropped.
    pub fn has_dropped_positions(&self) -> bool {
        self.client.has_dropped_positions
    }

    /// Notes that positions were dropped.
    pub fn note_dropped_positions(&mut self) {
        self.change(|client| client.has_dropped_positions = true);
    }

    /// Stores its position in a room: it has everything up to here. The oldest position is dropped when there are too
    /// many.
    pub fn set_position(&mut self, room: &str, position: Cursor) {
        let room = self.hasher.hash_one(room);
        self.change(|client| {
            client.positions.retain(|(known, _)| *known != room);
            if client.positions.len() == limits::ROOMS_PER_CLIENT {
                client.positions.remove(0);
                client.has_dropped_positions = true;
            }
            client.positions.push((room, position));
        });
    }

    /// Stores its position in a room, and has the journal store it too.
    pub fn note_position(&mut self, journal: &mut Journal, log: &LogName, position: Cursor) {
        self.set_position(log.name(), position);
        journal.note_position(self.client.id(), log, position);
    }

    /// Adds a held exchange.
    pub fn hold(&mut self, id: ExchangeId) {
        self.change(|client| client.held.insert(id));
        self.client.begin_use();
    }

    /// Removes a held exchange that has ended.
    pub fn release(&mut self, id: ExchangeId, now: Instant) {
        self.change(|client| client.held.remove(&id));
        if self.client.held.is_empty() {
            self.client.end_use(now);
        }
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Client) -> R) {
        let before = self.client.bytes();
        change(&mut self.client);
        *self.owned = *self.owned - before + self.client.bytes();
    }

    /// Whether it has a held exchange.
    #[cfg(test)]
    pub fn is_held(&self) -> bool {
        self.client.is_in_use()
    }
}
