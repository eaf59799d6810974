//! The messages that this node has asked for, and that have no answer yet.
//!
//! Each has a number, and the numbers count up in the order in which Redis gets the messages. Redis keeps the number of
//! the newest executed one: so a message that is sent again, because its reply was lost, is appended once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::journal::{Key, LogName, Ticket};

/// The most bytes of messages without an answer.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The bytes that a message takes beside its text.
const RECORD: usize = 200;

/// A message without an answer.
#[derive(Debug)]
pub struct Asked {
    /// The number of its sender.
    pub ticket: Ticket,
    /// Its log.
    pub log: LogName,
    /// The check of its cursor.
    pub check: u32,
    /// The message: JSON without its id.
    pub body: String,
    /// The time in it, in seconds since the epoch.
    pub timestamp: f64,
    /// Its idempotency key, and the epoch of the log that it belongs to.
    pub key: Option<(Key, u64)>,
    /// The time until which it may be sent.
    pub until: Instant,
    /// Whether it was sent. Then Redis may append it, even if no reply comes.
    pub was_sent: bool,
    /// Whether Redis has appended it. Then it is not sent again: it arrives as an entry of its log.
    pub is_appended: bool,
}

/// All messages without an answer, by number.
#[derive(Debug, Default)]
pub struct AskedMessages {
    by_number: BTreeMap<u64, Asked>,
    /// The number of the newest message.
    newest: u64,
    /// The smallest number that is still to be sent on this connection.
    unsent: u64,
    /// The number of each message, and the time until which it may be sent: the earliest first.
    ends: VecDeque<(Instant, u64)>,
    bytes: usize,
}

impl AskedMessages {
    /// Adds a message. Returns whether there is room for it.
    pub fn push(&mut self, asked: Asked) -> bool {
        let bytes = asked.body.len() + RECORD;
        if self.bytes + bytes > MOST_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.newest += 1;
        self.ends.push_back((asked.until, self.newest));
        self.by_number.insert(self.newest, asked);
        true
    }

    /// Returns a message.
    pub fn get(&self, number: u64) -> Option<&Asked> {
        self.by_number.get(&number)
    }

    /// Returns a message.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Asked> {
        self.by_number.get_mut(&number)
    }

    /// Removes a message, because it has its answer.
    pub fn take(&mut self, number: u64) -> Option<Asked> {
        let asked = self.by_number.remove(&number)?;
        self.bytes -= asked.body.len() + RECORD;
        while let Some((_, number)) = self.ends.front()
            && !self.by_number.contains_key(number)
        {
            self.ends.pop_front();
        }
        Some(asked)
    }

    /// Gives a message that was not executed a new number, under which it is sent once more.
    pub fn renew(&mut self, number: u64) {
        let Some(asked) = self.by_number.remove(&number) else { return };
        self.newest += 1;
        self.ends.push_front((asked.until, self.newest)); // it is one of the oldest
        self.by_number.insert(self.newest, asked);
    }

    /// The connection is lost: all messages that are not appended are sent again, with their numbers.
    pub fn unsend(&mut self) {
        self.unsent = 0;
    }

    /// Returns the number of the next message to send, and notes that it is sent.
    pub fn next_to_send(&mut self) -> Option<u64> {
        let mut rest = self.by_number.range_mut(self.unsent..);
        let (number, asked) = rest.find(|(_, asked)| !asked.is_appended)?;
        self.unsent = number + 1;
        asked.was_sent = true;
        Some(*number)
    }

    /// Returns the earliest time at which a message is [`overdue`](Self::overdue).
    pub fn deadline(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Removes a message whose time is over, and returns it.
    pub fn overdue(&mut self, now: Instant) -> Option<Asked> {
        let (_, number) = self.ends.front().filter(|(end, _)| *end <= now).copied()?;
        self.take(number)
    }

    /// Returns the number of bytes that the messages take.
    pub fn bytes(&self) -> usize {
        self.bytes + crate::books::deque(&self.ends)
    }
}
