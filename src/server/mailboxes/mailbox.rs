//! One mailbox, and the map of all mailboxes.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::books;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Feed, Replay};
use crate::journal::{Journal, LogName, Retention, Wanted};
use crate::quotas::{Bound, Place};
use crate::server::Stores;
use crate::server::exchanges::Exchanges;
use crate::server::lru::{Kept, Lru};
use crate::server::params::ApiError;
use crate::server::parked::Halt;

/// A text that a reader takes out of its mailbox.
#[derive(Debug)]
pub struct Taken {
    /// The position after the text.
    pub id: Cursor,
    /// The text and the time of its arrival, as JSON.
    pub body: Rc<str>,
    /// Whether no text is missing before this one.
    pub recovered: bool,
}

/// A feed with one reader.
#[derive(Debug)]
pub struct Mailbox {
    /// The name of its log.
    pub log: LogName,
    /// Its texts, as JSON.
    pub feed: Feed<Rc<str>>,
    /// The position of its reader. A poll may set it.
    pub position: Cursor,
    /// Its current reader: the newest one.
    pub reader: Option<ExchangeId>,
    /// Its place among those of the client that has created it.
    place: Option<Place>,
}

impl Mailbox {
    /// Returns the next text for the reader, and moves the reader's position after it.
    pub fn take(&mut self, journal: &mut Journal) -> Option<Taken> {
        let recovered = self.feed.replay(self.position).recovered;
        let (id, body) = self.feed.after(self.position).next()?;
        let taken = Taken { id, body: body.clone(), recovered };
        self.set_position(id, journal);
        Some(taken)
    }

    /// Returns the position where a reader continues after a cursor.
    ///
    /// # Errors
    /// `Wait` when the cursor is not known here, and another server may know it.
    pub fn replay(&self, cursor: Cursor, exchanges: &mut Exchanges) -> Result<Replay, Halt> {
        let replay = self.feed.replay(cursor);
        if !replay.recovered {
            exchanges.find(Wanted::Position(self.log.clone(), cursor))?;
        }
        Ok(replay)
    }

    /// Stores the position of the reader, and has the journal store it too.
    pub fn set_position(&mut self, position: Cursor, journal: &mut Journal) {
        self.position = position;
        journal.note_position("", &self.log, position);
    }
}

/// Returns the error for an id that no mailbox has.
pub fn unknown() -> ApiError {
    ApiError::not_found("connection_id: unknown or expired; connect anew, without one")
}

/// All mailboxes, by id and by the epoch of their feeds. A mailbox is in use as long as it has a reader. Without one, it
/// expires.
#[derive(Debug)]
pub struct MailboxMap {
    /// The most mailboxes, and the most bytes of all of them.
    most: (usize, usize),
    by_id: Lru<Mailbox>,
    by_epoch: HashMap<u64, Rc<str>>,
    /// The bytes of all feeds.
    feeds: usize,
    /// The number of texts that this server has put into mailboxes.
    pub texts: u64,
}

impl MailboxMap {
    /// Creates an empty map.
    pub fn new(stores: &Stores) -> Self {
        let most = (stores.mailboxes, stores.mailbox_bytes);
        MailboxMap { most, by_id: Lru::new(limits::LIFETIME), by_epoch: HashMap::new(), feeds: 0, texts: 0 }
    }

    /// Creates a mailbox. Its id is random and secret: it is the right to read the mailbox. When there are too many, the
    /// one without a reader that was unused for longest is removed.
    ///
    /// # Errors
    /// 429 when the client has too many, 503 when there are too many mailboxes, and all of them have readers.
    pub fn create(&mut self, exchanges: &mut Exchanges) -> Result<Kept<'_, Mailbox>, ApiError> {
        let place = exchanges.take_place(Bound::Mailboxes)?;
        self.make_room(&mut exchanges.journal)?;
        let log = LogName::Mailbox(exchanges.random.uuid().into());
        let start = exchanges.journal.create(&log, &mut exchanges.random);
        let mut mailbox = self.insert(log, start, exchanges.now());
        mailbox.place = place;
        Ok(mailbox)
    }

    /// Makes room for another mailbox, if there are too many.
    ///
    /// # Errors
    /// 503 when all mailboxes have readers.
    pub fn make_room(&mut self, journal: &mut Journal) -> Result<(), ApiError> {
        match self.by_id.len() < self.most.0 || self.evict(None, journal) {
            true => Ok(()),
            false => Err(ApiError::full("connections")),
        }
    }

    /// Adds the mailbox of a log. `start` is the position before its first text.
    pub fn insert(&mut self, log: LogName, start: Cursor, now: Instant) -> Kept<'_, Mailbox> {
        let (texts, bytes) = Retention::MAILBOX;
        let (id, feed) = (log.name().clone(), Feed::new(start, texts, bytes));
        self.by_epoch.insert(start.epoch(), id.clone());
        self.by_id.insert(id, Mailbox { log, feed, position: start, reader: None, place: None }, now)
    }

    /// Removes the mailbox without a reader that was unused for longest, but not this one. Returns whether there was one.
    fn evict(&mut self, except: Option<&str>, journal: &mut Journal) -> bool {
        let oldest = self.by_id.oldest().map(|(id, ..)| id.clone()).filter(|id| Some(&**id) != except);
        let removed = oldest.and_then(|id| self.remove(&id));
        removed.inspect(|mailbox| journal.remove(&mailbox.log)).is_some()
    }

    /// Returns the mailbox with this id, unless it has expired.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&mut self, id: &str, now: Instant) -> Result<Kept<'_, Mailbox>, ApiError> {
        let mailbox = self.by_id.get_mut(id).filter(|mailbox| !mailbox.is_stale(now));
        mailbox.ok_or_else(unknown)
    }

    /// Returns the mailbox that a cursor is a position in, unless it has expired.
    pub fn of_cursor(&mut self, cursor: Cursor, now: Instant) -> Option<Kept<'_, Mailbox>> {
        let id = self.by_epoch.get(&cursor.epoch())?.clone();
        self.get(&id, now).ok()
    }

    /// Returns the mailbox with this id, with room for a text of `bytes` bytes. When all mailboxes together take too
    /// many bytes, those without readers are removed, first the ones that were unused for longest.
    ///
    /// # Errors
    /// 404 when there is no such mailbox, 503 when there are too many bytes, and all other mailboxes have readers.
    pub fn with_room_for(
        &mut self,
        id: &str,
        bytes: usize,
        journal: &mut Journal,
        now: Instant,
    ) -> Result<Kept<'_, Mailbox>, ApiError> {
        self.get(id, now)?.touch(now);
        while self.bytes() + bytes > self.most.1 {
            if !self.evict(Some(id), journal) {
                return Err(ApiError::full("texts"));
            }
        }
        Ok(self.by_id.get_mut(id).expect("the mailbox was found above, and was not removed"))
    }

    /// Puts a committed text into a mailbox, and returns it. `None` if the mailbox is gone.
    pub fn append(&mut self, id: &str, cursor: Cursor, body: String) -> Option<Kept<'_, Mailbox>> {
        let mut mailbox = self.by_id.get_mut(id).filter(|mailbox| mailbox.feed.is_next(cursor))?;
        let (before, bytes) = (mailbox.feed.memory(), body.len());
        mailbox.feed.append(cursor, body.into(), bytes);
        let growth = (before, mailbox.feed.memory());
        self.feeds = self.feeds - growth.0 + growth.1;
        self.by_id.get_mut(id)
    }

    /// Drops the texts after `tip`, which are lost.
    pub fn truncate(&mut self, id: &str, tip: Cursor) {
        let Some(mut mailbox) = self.by_id.get_mut(id) else { return };
        let (before, epoch) = (mailbox.feed.memory(), mailbox.feed.tip().epoch());
        mailbox.feed.truncate(tip);
        let (log, after) = (mailbox.id().clone(), mailbox.feed.memory());
        self.feeds = self.feeds - before + after;
        self.by_epoch.remove(&epoch);
        self.by_epoch.insert(tip.epoch(), log);
    }

    /// Removes a mailbox.
    pub fn remove(&mut self, id: &str) -> Option<Mailbox> {
        let mailbox = self.by_id.remove(id)?;
        self.by_epoch.remove(&mailbox.feed.tip().epoch());
        self.feeds -= mailbox.feed.memory();
        Some(mailbox)
    }

    /// Removes the expired mailboxes.
    pub fn sweep(&mut self, journal: &mut Journal, now: Instant) {
        while self.expired(now) > 0 && self.evict(None, journal) {}
        self.by_id.shrink();
        books::shrink_map(&mut self.by_epoch);
    }

    /// Returns the number of mailboxes without a reader that have not expired.
    pub fn idle(&mut self, now: Instant) -> usize {
        self.by_id.len() - self.by_id.in_use() - self.expired(now)
    }

    /// Returns the number of expired mailboxes that are not removed yet.
    pub fn expired(&mut self, now: Instant) -> usize {
        self.by_id.stale(now)
    }

    /// Returns the number of bytes that the mailboxes take.
    pub fn bytes(&self) -> usize {
        self.by_id.bytes() + books::map(&self.by_epoch) + self.feeds
    }
}
