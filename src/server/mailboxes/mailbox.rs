//! One mailbox, and the map of all mailboxes.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Feed};
use crate::random::Random;
use crate::server::params::ApiError;

/// A text in a mailbox.
#[derive(Debug, Clone)]
pub struct Text {
    /// The text.
    pub text: Rc<str>,
    /// The time of its arrival, in seconds since the epoch.
    pub timestamp: f64,
}

/// A text that a reader takes out of its mailbox.
#[derive(Debug)]
pub struct Taken {
    /// The position after the text.
    pub id: Cursor,
    /// The text.
    pub text: Text,
    /// Whether no text is missing before this one.
    pub recovered: bool,
}

/// A feed with one reader.
#[derive(Debug)]
pub struct Mailbox {
    /// The `connection_id`.
    pub id: Rc<str>,
    /// Its texts.
    pub feed: Feed<Text>,
    /// The position of its reader. A poll may set it.
    pub position: Cursor,
    /// Its current reader: the newest one.
    pub reader: Option<ExchangeId>,
    /// The time of its owner's last request.
    pub seen: Instant,
}

impl Mailbox {
    /// Whether its lifetime is over.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.reader.is_none() && now >= self.seen + limits::LIFETIME
    }

    /// Returns the next text for the reader, and moves the reader's position after it.
    pub fn take(&mut self) -> Option<Taken> {
        let recovered = self.feed.replay(self.position).recovered;
        let (id, text) = self.feed.after(self.position).next()?;
        let text = text.clone();
        self.position = id;
        Some(Taken { id, text, recovered })
    }
}

/// All mailboxes, by id and by the epoch of their feeds.
#[derive(Debug, Default)]
pub struct MailboxMap {
    by_id: HashMap<Rc<str>, Mailbox>,
    by_epoch: HashMap<u64, Rc<str>>,
    bytes: usize,
    texts: u64,
}

impl MailboxMap {
    /// Creates a mailbox. Its id is random and secret: it is the right to read the mailbox.
    ///
    /// # Errors
    /// 503 when there are too many mailboxes.
    pub fn create(&mut self, random: &mut Random, now: Instant) -> Result<&mut Mailbox, ApiError> {
        if self.by_id.len() >= limits::MAILBOXES {
            self.sweep(now);
        }
        if self.by_id.len() >= limits::MAILBOXES {
            return Err(ApiError::full("connections"));
        }
        let id: Rc<str> = random.uuid().into();
        let position = Cursor::start(random);
        let feed = Feed::new(position, limits::RETAINED_TEXTS, limits::RETAINED_BYTES);
        self.by_epoch.insert(position.epoch(), id.clone());
        let mailbox = Mailbox { id: id.clone(), feed, position, reader: None, seen: now };
        Ok(self.by_id.entry(id).or_insert(mailbox))
    }

    /// Returns the mailbox with this id, unless it has expired.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&mut self, id: &str, now: Instant) -> Result<&mut Mailbox, ApiError> {
        let mailbox = self.by_id.get_mut(id).filter(|mailbox| !mailbox.is_expired(now));
        mailbox.ok_or_else(|| ApiError::not_found("connection_id: unknown or expired; connect anew, without one"))
    }

    /// Returns the mailbox that a cursor is a position in, unless it has expired.
    pub fn of_cursor(&mut self, cursor: Cursor, now: Instant) -> Option<&mut Mailbox> {
        let id = self.by_epoch.get(&cursor.epoch())?.clone();
        self.get(&id, now).ok()
    }

    /// Puts a text into a mailbox.
    ///
    /// # Errors
    /// 404 when there is no such mailbox, 503 when all mailboxes together hold too many bytes.
    pub fn put(
        &mut self,
        id: &str,
        text: Text,
        random: &mut Random,
        now: Instant,
    ) -> Result<(Cursor, &mut Mailbox), ApiError> {
        let (bytes, held) = (text.text.len(), self.bytes);
        let mailbox = self.get(id, now)?;
        if held + bytes > limits::BYTES {
            return Err(ApiError::full("texts"));
        }
        mailbox.seen = now;
        let before = mailbox.feed.bytes();
        let cursor = mailbox.feed.next_cursor(random);
        mailbox.feed.append(cursor, text, bytes);
        self.bytes = held - before + mailbox.feed.bytes();
        self.texts += 1;
        Ok((cursor, self.get(id, now)?))
    }

    /// Returns the number of texts ever put into a mailbox.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Removes a mailbox.
    pub fn remove(&mut self, id: &str) -> Option<Mailbox> {
        let mailbox = self.by_id.remove(id)?;
        self.by_epoch.remove(&mailbox.feed.tip().epoch());
        self.bytes -= mailbox.feed.bytes();
        Some(mailbox)
    }

    /// Removes the expired mailboxes.
    pub fn sweep(&mut self, now: Instant) {
        let expired = self.by_id.values().filter(|mailbox| mailbox.is_expired(now));
        for id in expired.map(|mailbox| mailbox.id.clone()).collect::<Vec<_>>() {
            self.remove(&id);
        }
    }

    /// Returns all mailboxes, including the expired ones that are not removed yet.
    pub fn iter(&self) -> impl Iterator<Item = &Mailbox> {
        self.by_id.values()
    }
}
