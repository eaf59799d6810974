//! One mailbox, and the map of all mailboxes.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use super::limits;
use crate::event_loop::ExchangeId;
use crate::feed::{Cursor, Feed};
use crate::random::Random;
use crate::server::books;
use crate::server::lru::{Kept, Lru};
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
    /// Its texts.
    pub feed: Feed<Text>,
    /// The position of its reader. A poll may set it.
    pub position: Cursor,
    /// Its current reader: the newest one.
    pub reader: Option<ExchangeId>,
}

impl Mailbox {
    /// Returns the next text for the reader, and moves the reader's position after it.
    pub fn take(&mut self) -> Option<Taken> {
        let recovered = self.feed.replay(self.position).recovered;
        let (id, text) = self.feed.after(self.position).next()?;
        let text = text.clone();
        self.position = id;
        Some(Taken { id, text, recovered })
    }
}

/// All mailboxes, by id and by the epoch of their feeds. A mailbox is in use as long as it has a reader. Without one, it
/// expires.
#[derive(Debug)]
pub struct MailboxMap {
    by_id: Lru<Mailbox>,
    by_epoch: HashMap<u64, Rc<str>>,
    /// The bytes of all feeds.
    feeds: usize,
    texts: u64,
}

impl Default for MailboxMap {
    fn default() -> Self {
        MailboxMap { by_id: Lru::new(limits::LIFETIME), by_epoch: HashMap::new(), feeds: 0, texts: 0 }
    }
}

impl MailboxMap {
    /// Creates a mailbox. Its id is random and secret: it is the right to read the mailbox. When there are too many, the
    /// one without a reader that was unused for longest is removed.
    ///
    /// # Errors
    /// 503 when there are too many mailboxes, and all of them have readers.
    pub fn create(&mut self, random: &mut Random, now: Instant) -> Result<Kept<'_, Mailbox>, ApiError> {
        if self.by_id.len() >= limits::MAILBOXES && !self.evict(None) {
            return Err(ApiError::full("connections"));
        }
        let id: Rc<str> = random.uuid().into();
        let position = Cursor::start(random);
        let feed = Feed::new(position, limits::RETAINED_TEXTS, limits::RETAINED_BYTES);
        self.by_epoch.insert(position.epoch(), id.clone());
        Ok(self.by_id.insert(id, Mailbox { feed, position, reader: None }, now))
    }

    /// Removes the mailbox without a reader that was unused for longest, but not this one. Returns whether there was one.
    fn evict(&mut self, except: Option<&str>) -> bool {
        let oldest = self.by_id.oldest().map(|(id, ..)| id.clone()).filter(|id| Some(&**id) != except);
        oldest.and_then(|id| self.remove(&id)).is_some()
    }

    /// Returns the mailbox with this id, unless it has expired.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn get(&mut self, id: &str, now: Instant) -> Result<Kept<'_, Mailbox>, ApiError> {
        let mailbox = self.by_id.get_mut(id).filter(|mailbox| !mailbox.is_stale(now));
        mailbox.ok_or_else(|| ApiError::not_found("connection_id: unknown or expired; connect anew, without one"))
    }

    /// Returns the mailbox that a cursor is a position in, unless it has expired.
    pub fn of_cursor(&mut self, cursor: Cursor, now: Instant) -> Option<Kept<'_, Mailbox>> {
        let id = self.by_epoch.get(&cursor.epoch())?.clone();
        self.get(&id, now).ok()
    }

    /// Puts a text into a mailbox. When all mailboxes together take too many bytes, those without readers are removed,
    /// first the ones that were unused for longest.
    ///
    /// # Errors
    /// 404 when there is no such mailbox, 503 when there are too many bytes, and all other mailboxes have readers.
    pub fn put(
        &mut self,
        id: &str,
        text: Text,
        random: &mut Random,
        now: Instant,
    ) -> Result<(Cursor, Kept<'_, Mailbox>), ApiError> {
        self.get(id, now)?.touch(now);
        let bytes = text.text.len();
        while self.bytes() + bytes > limits::BYTES {
            if !self.evict(Some(id)) {
                return Err(ApiError::full("texts"));
            }
        }
        let mut mailbox = self.by_id.get_mut(id).expect("the mailbox was found above, and was not removed");
        let before = books::feed(&mailbox.feed);
        let cursor = mailbox.feed.next_cursor(random);
        mailbox.feed.append(cursor, text, bytes);
        self.feeds = self.feeds - before + books::feed(&mailbox.feed);
        self.texts += 1;
        Ok((cursor, mailbox))
    }

    /// Returns the number of texts ever put into a mailbox.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Removes a mailbox.
    pub fn remove(&mut self, id: &str) -> Option<Mailbox> {
        let mailbox = self.by_id.remove(id)?;
        self.by_epoch.remove(&mailbox.feed.tip().epoch());
        self.feeds -= books::feed(&mailbox.feed);
        Some(mailbox)
    }

    /// Removes the expired mailboxes.
    pub fn sweep(&mut self, now: Instant) {
        while self.expired(now) > 0 && self.evict(None) {}
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
