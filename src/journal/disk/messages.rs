//! The retained messages of one log: where each of them lies.

use std::collections::VecDeque;

use super::index::Place;
use crate::feed::Cursor;

/// The places of the retained messages of one log. It drops the oldest ones by the same rule as a
/// [`Feed`](crate::feed::Feed), but takes messages in any order: records that were carried forward come after newer
/// ones.
#[derive(Debug)]
pub(super) struct Messages {
    /// Some position of the log. Its epoch is that of the log.
    any: Cursor,
    /// The newest dropped message, or the start of the log. `None` before either is known.
    dropped: Option<Cursor>,
    /// The sequence of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// The bytes of the messages, without what their records have in addition.
    bytes: usize,
    /// The bytes of the records.
    record_bytes: u64,
}

/// A message. A length of 0 stands for one whose record has not come yet.
#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    bytes: u32,
    check: u32,
}

const VACANT: Entry = Entry { place: Place { segment: 0, offset: 0, length: 0 }, bytes: 0, check: 0 };

impl Messages {
    /// Creates the messages of the log of a cursor.
    pub fn new(any: Cursor) -> Self {
        Messages { any, dropped: None, first: 0, entries: VecDeque::new(), bytes: 0, record_bytes: 0 }
    }

    /// Returns the random number of the log.
    pub fn epoch(&self) -> u64 {
        self.any.epoch()
    }

    /// Returns the newest dropped message, or the start of the log.
    pub fn dropped(&self) -> Cursor {
        self.dropped.unwrap_or(self.any)
    }

    /// Returns the position after the newest message.
    pub fn tip(&self) -> Cursor {
        match self.entries.back() {
            Some(newest) => self.any.at(newest.check, self.first + self.entries.len() as u64 - 1),
            None => self.dropped(),
        }
    }

    /// Returns the bytes of the records of all retained messages.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Returns the places of the messages, oldest first.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.entries.iter().map(|entry| entry.place).filter(|place| place.length > 0)
    }

    /// Whether the record at this place is that of a retained message.
    pub fn is_at(&self, cursor: Cursor, place: Place) -> bool {
        let at = cursor.sequence().checked_sub(self.first);
        let entry = at.and_then(|at| self.entries.get(at as usize));
        cursor.epoch() == self.epoch() && entry.is_some_and(|entry| entry.place == place)
    }

    /// Adds a message of `bytes` bytes. `max_messages` and `max_bytes` are the limits of the log. A message that comes
    /// again lies at its later place.
    pub fn insert(&mut self, cursor: Cursor, place: Place, bytes: u32, (max_messages, max_bytes): (usize, usize)) {
        let sequence = cursor.sequence();
        if self.dropped.is_some_and(|dropped| sequence <= dropped.sequence()) {
            return;
        }
        if self.entries.is_empty() {
            self.first = sequence;
        }
        let end = self.first + self.entries.len() as u64;
        if end.max(sequence + 1) - self.first.min(sequence) > 2 * max_messages as u64 {
            if sequence < self.first {
                return self.note_dropped(cursor);
            }
            self.drop_until(sequence - 1);
            self.first = sequence;
        }
        while sequence < self.first {
            self.entries.push_front(VACANT);
            self.first -= 1;
        }
        while sequence >= self.first + self.entries.len() as u64 {
            self.entries.push_back(VACANT);
        }
        let at = (sequence - self.first) as usize;
        self.count(at, false);
        self.entries[at] = Entry { place, bytes, check: cursor.check() };
        self.count(at, true);
        while self.entries.len() > 1 && (self.entries.len() > max_messages || self.bytes > max_bytes) {
            self.drop_oldest();
        }
    }

    /// Adds or subtracts the bytes of an entry.
    fn count(&mut self, at: usize, adds: bool) {
        let entry = self.entries[at];
        let (bytes, record) = (entry.bytes as usize, u64::from(entry.place.length));
        match adds {
            true => (self.bytes, self.record_bytes) = (self.bytes + bytes, self.record_bytes + record),
            false => (self.bytes, self.record_bytes) = (self.bytes - bytes, self.record_bytes - record),
        }
    }

    fn drop_oldest(&mut self) {
        self.count(0, false);
        let entry = self.entries.pop_front().unwrap_or(VACANT);
        if entry.place.length > 0 {
            self.note_dropped(self.any.at(entry.check, self.first));
        }
        self.first += 1;
    }

    fn note_dropped(&mut self, cursor: Cursor) {
        if self.dropped.is_none_or(|dropped| dropped.sequence() < cursor.sequence()) {
            self.dropped = Some(cursor);
        }
    }

    fn drop_until(&mut self, sequence: u64) {
        while !self.entries.is_empty() && self.first <= sequence {
            self.drop_oldest();
        }
    }

    /// Notes that the messages up to this position are dropped.
    pub fn start(&mut self, cursor: Cursor) {
        self.drop_until(cursor.sequence());
        self.note_dropped(cursor);
    }

    /// Drops what comes before a message that is missing: a reader must not get a log with a hole. All records have
    /// been added.
    pub fn close_holes(&mut self) {
        if let Some(hole) = self.entries.iter().rposition(|entry| entry.place.length == 0) {
            self.drop_until(self.first + hole as u64);
        }
        let is_known = self.dropped.is_some_and(|dropped| dropped.sequence() + 1 == self.first);
        if !is_known && !self.entries.is_empty() {
            self.drop_oldest(); // it is the position before the others
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(sequence: u64) -> Cursor {
        format!("1f0c2a9e-8b4d-8e17-8000-{sequence:012x}").parse().unwrap()
    }

    fn place(sequence: u64, segment: u32) -> Place {
        Place { segment, offset: sequence as u32, length: 100 }
    }

    /// Adds messages of 10 bytes in this order.
    fn insert(messages: &mut Messages, sequences: &[u64], segment: u32) {
        for sequence in sequences {
            messages.insert(cursor(*sequence), place(*sequence, segment), 10, (4, 1000));
        }
    }

    fn sequences(messages: &Messages) -> Vec<u64> {
        assert_eq!(messages.record_bytes(), 100 * messages.places().count() as u64);
        messages.places().map(|place| place.offset.into()).collect()
    }

    #[test]
    fn messages_come_in_any_order() {
        for order in [&[1, 2, 3, 4][..], &[3, 4, 1, 2], &[4, 3, 2, 1], &[3, 4, 1, 2, 1, 2], &[2, 1, 3, 2, 4]] {
            let mut messages = Messages::new(cursor(0));
            insert(&mut messages, order, 1);
            messages.start(cursor(0));
            messages.close_holes();
            assert_eq!((sequences(&messages), messages.dropped()), (vec![1, 2, 3, 4], cursor(0)), "{order:?}");
            assert_eq!(messages.tip(), cursor(4));
        }
    }

    #[test]
    fn the_oldest_are_dropped() {
        for order in [&[1, 2, 3, 4, 5, 6][..], &[5, 6, 1, 2, 3, 4], &[6, 5, 4, 3, 2, 1], &[3, 4, 5, 6, 1, 2]] {
            let mut messages = Messages::new(cursor(1));
            insert(&mut messages, order, 1);
            messages.close_holes();
            assert_eq!((sequences(&messages), messages.dropped()), (vec![3, 4, 5, 6], cursor(2)), "{order:?}");
        }
        let mut messages = Messages::new(cursor(1));
        messages.start(cursor(0));
        insert(&mut messages, &[1, 2, 3], 1);
        messages.insert(cursor(4), place(4, 1), 990, (4, 1000));
        assert_eq!((sequences(&messages), messages.dropped()), (vec![3, 4], cursor(2)));
    }

    #[test]
    fn a_hole_is_not_hidden() {
        let mut messages = Messages::new(cursor(1));
        insert(&mut messages, &[1, 3, 4], 1);
        messages.close_holes();
        assert_eq!((sequences(&messages), messages.dropped()), (vec![4], cursor(3)));
        insert(&mut messages, &[5, 1000, 1001], 1);
        messages.close_holes();
        assert_eq!((sequences(&messages), messages.dropped()), (vec![1001], cursor(1000)));
    }

    #[test]
    fn a_message_lies_at_its_latest_place() {
        let mut messages = Messages::new(cursor(1));
        insert(&mut messages, &[1, 2], 1);
        insert(&mut messages, &[1], 2);
        assert!(messages.is_at(cursor(1), place(1, 2)) && !messages.is_at(cursor(1), place(1, 1)));
        assert!(messages.is_at(cursor(2), place(2, 1)));
        messages.start(cursor(1));
        assert!(!messages.is_at(cursor(1), place(1, 2)));
        insert(&mut messages, &[1], 3);
        assert_eq!(sequences(&messages), [2]);
    }
}
