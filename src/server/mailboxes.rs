//! Mailboxes: a feed with one reader. Each isolated connection has one, and nobody else sees it.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::keys::Keys;
use super::params::ApiError;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Feed};
use crate::random::Random;

/// How many texts a mailbox retains, and how many bytes of them.
const RETAINED_TEXTS: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

/// How many texts are known by the keys that they came with.
const REMEMBERED_KEYS: usize = 8;

/// How many mailboxes there are at most, and how many bytes of texts in all of them.
const MAX_MAILBOXES: usize = 20_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// How long a mailbox outlives the last sign of life.
const LIFETIME: Duration = Duration::from_secs(60);

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
    /// The newest texts that came with a key.
    pub keys: Keys<(Cursor, Text)>,
    /// What its reader has been given, as far as we know: a poll may say so itself.
    pub given: Cursor,
    /// Its reader, if there is one now: the newest one.
    pub reader: Option<ExchangeId>,
    /// The last sign of life of its owner.
    pub seen: Instant,
}

impl Mailbox {
    /// Whether nobody has read it for a minute.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.reader.is_none() && now >= self.seen + LIFETIME
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
    bytes: usize,
    texts: u64,
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
        let mailbox =
            Mailbox { id: id.clone(), feed, keys: Keys::new(REMEMBERED_KEYS), given, reader: None, seen: now };
        Ok(self.by_id.entry(id).or_insert(mailbox))
    }

    /// The mailbox with this id, unless it has expired.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&mut self, id: &str, now: Instant) -> Result<&mut Mailbox, ApiError> {
        let known = self.by_id.get_mut(id).filter(|mailbox| !mailbox.is_expired(now));
        known.ok_or_else(|| ApiError::not_found("connection_id: unknown or expired; connect anew, without one"))
    }

    /// The mailbox that this cursor is a position in, unless it has expired.
    pub fn of_cursor(&mut self, cursor: Cursor, now: Instant) -> Option<&mut Mailbox> {
        let id = self.by_epoch.get(&cursor.epoch())?.clone();
        self.get(&id, now).ok()
    }

    /// Puts a text into a mailbox.
    ///
    /// # Errors
    /// 404 when there is no such mailbox; 503 when all of them together hold too much.
    pub fn put(&mut self, id: &str, text: Text, now: Instant) -> Result<(Cursor, &mut Mailbox), ApiError> {
        let (bytes, held) = (text.text.len(), self.bytes);
        let mailbox = self.get(id, now)?;
        if held + bytes > MAX_BYTES {
            return Err(ApiError::full("texts"));
        }
        mailbox.seen = now;
        let before = mailbox.feed.bytes();
        let cursor = mailbox.feed.publish(text, bytes);
        self.bytes = held - before + mailbox.feed.bytes();
        self.texts += 1;
        Ok((cursor, self.get(id, now)?))
    }

    /// How many texts were ever put into a mailbox.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Drops a mailbox, and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Mailbox> {
        let mailbox = self.by_id.remove(id)?;
        self.by_epoch.remove(&mailbox.feed.tip().epoch());
        self.bytes -= mailbox.feed.bytes();
        Some(mailbox)
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        let expired = self.by_id.values().filter(|mailbox| mailbox.is_expired(now));
        for id in expired.map(|mailbox| mailbox.id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// All of them, expired ones included until the next sweep.
    pub fn iter(&self) -> impl Iterator<Item = &Mailbox> {
        self.by_id.values()
    }
}
