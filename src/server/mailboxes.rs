//! Mailboxes: a feed with one reader. Each isolated connection has one, and nobody else sees it.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::params::ApiError;
use crate::event_loop::ConnId;
use crate::feed::{Cursor, Feed};
use crate::random::Random;

/// How many texts a mailbox retains, and how many bytes of them.
const RETAINED_TEXTS: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

/// How many mailboxes there are at most.
const MAX_MAILBOXES: usize = 20_000;

/// How long a mailbox outlives the last sign of life.
const LIFETIME: Duration = Duration::from_secs(60);

/// How a mailbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// A stream or a WebSocket reads it.
    Connected,
    /// A poll is held for it.
    Waiting,
    /// Nobody reads it at the moment.
    Idle,
    /// Nobody has read it for a minute: it is about to be dropped.
    Expired,
}

/// Who reads a mailbox: the newest reader wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A held poll.
    Poll(ConnId),
    /// An event stream or a WebSocket.
    Stream(ConnId),
}

impl Reader {
    /// Its connection.
    pub fn conn(self) -> ConnId {
        match self {
            Reader::Poll(conn) | Reader::Stream(conn) => conn,
        }
    }
}

/// A text in a mailbox.
#[derive(Debug, Clone)]
pub struct Text {
    /// The text.
    pub text: Rc<str>,
    /// When it came, in seconds since the epoch.
    pub timestamp: f64,
}

/// A private feed.
#[derive(Debug)]
pub struct Mailbox {
    /// The `connection_id`.
    pub id: Rc<str>,
    /// Its texts.
    pub feed: Feed<Text>,
    /// What its reader has been given, as far as we know: a poll may say so itself.
    pub given: Cursor,
    /// Its reader, if there is one now.
    pub reader: Option<Reader>,
    /// The last sign of life of its owner.
    pub seen: Instant,
}

impl Mailbox {
    /// How it stands.
    pub fn status(&self, now: Instant) -> Status {
        match self.reader {
            Some(Reader::Stream(_)) => Status::Connected,
            Some(Reader::Poll(_)) => Status::Waiting,
            None if now < self.seen + LIFETIME => Status::Idle,
            None => Status::Expired,
        }
    }

    /// Takes the next text that its reader has not been given: its cursor, the text, and whether
    /// nothing is missing in front of it.
    pub fn take(&mut self) -> Option<(Cursor, Text, bool)> {
        let recovered = self.feed.replay(self.given).recovered;
        let (cursor, text) = self.feed.after(self.given).next()?;
        let text = text.clone();
        self.given = cursor;
        Some((cursor, text, recovered))
    }
}

/// All mailboxes, by id and by the epoch of their feeds.
#[derive(Debug, Default)]
pub struct Mailboxes {
    by_id: HashMap<Rc<str>, Mailbox>,
    by_epoch: HashMap<u64, Rc<str>>,
}

impl Mailboxes {
    /// Makes a mailbox with an id that nobody can guess: whoever knows it may read.
    ///
    /// # Errors
    /// 503 when there are too many.
    pub fn create(&mut self, random: &mut Random, now: Instant) -> Result<&mut Mailbox, ApiError> {
        if self.by_id.len() >= MAX_MAILBOXES {
            self.sweep(now);
        }
        if self.by_id.len() >= MAX_MAILBOXES {
            return Err(ApiError::full("connections"));
        }
        let id: Rc<str> = random.uuid().into();
        let feed = Feed::new(random.number(), RETAINED_TEXTS, RETAINED_BYTES);
        let given = feed.tip();
        self.by_epoch.insert(given.epoch(), id.clone());
        let mailbox = Mailbox { id: id.clone(), feed, given, reader: None, seen: now };
        Ok(self.by_id.entry(id).or_insert(mailbox))
    }

    /// The mailbox with this id, unless it has expired.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&mut self, id: &str, now: Instant) -> Result<&mut Mailbox, ApiError> {
        let known = self.by_id.get_mut(id).filter(|mailbox| mailbox.status(now) != Status::Expired);
        known.ok_or_else(|| ApiError::not_found("connection_id: unknown or expired; connect anew, without one"))
    }

    /// The mailbox that this cursor is a position in, unless it has expired.
    pub fn of_cursor(&mut self, cursor: Cursor, now: Instant) -> Option<&mut Mailbox> {
        let id = self.by_epoch.get(&cursor.epoch())?.clone();
        self.get(&id, now).ok()
    }

    /// Drops a mailbox, and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Mailbox> {
        let mailbox = self.by_id.remove(id)?;
        self.by_epoch.remove(&mailbox.feed.tip().epoch());
        Some(mailbox)
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        let expired = self.by_id.values().filter(|mailbox| mailbox.status(now) == Status::Expired);
        for id in expired.map(|mailbox| mailbox.id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// How many have this status.
    pub fn count(&self, status: Status, now: Instant) -> usize {
        self.by_id.values().filter(|mailbox| mailbox.status(now) == status).count()
    }
}
