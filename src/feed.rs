//! The bounded, ordered log that every transport replays from: one log, one cursor.
//!
//! Every transport is a way to be given "everything after this cursor". So a client can lose its
//! connection, or change its transport, and go on without loss and without repetition. A cursor
//! that is too old, or that belongs to another log, gets everything retained, and is told so: a
//! hole is never silent.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

const SEQUENCE_BITS: u32 = 62;
const EPOCH_BITS: u32 = 60;

// ANCHOR: cursor
/// A position in a feed: behind the message that has this id.
///
/// Written as a UUID of version 8 (RFC 9562, section 5.8): the first half names the epoch,
/// the second half counts. The 4 bits of the version and the 2 bits of the variant are not ours,
/// which leaves 60 and 62.
///
/// ```text
/// 1f0c2a9e-8b4d-8e17-8000-00000000002a
/// epoch---------^--- ^sequence--------
///         version 8 variant 10
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    epoch: u64,
    sequence: u64,
}
// ANCHOR_END: cursor

impl Cursor {
    /// Which log this is a position in: a random number of 60 bits.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// How many messages had been published, with this one.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (front, back) = (self.epoch >> 12, self.epoch & 0xfff);
        let counted = 0b10 << SEQUENCE_BITS | self.sequence;
        write!(
            f,
            "{:08x}-{:04x}-8{back:03x}-{:04x}-{:012x}",
            front >> 16,
            front & 0xffff,
            counted >> 48,
            counted & 0xffff_ffff_ffff
        )
    }
}

/// The text is not a cursor: not a UUID of version 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(NotACursor);
        }
        let mut number: u128 = 0;
        for (at, byte) in bytes.iter().enumerate() {
            match (at, char::from(*byte).to_digit(16)) {
                (8 | 13 | 18 | 23, _) if *byte == b'-' => {}
                (8 | 13 | 18 | 23, _) | (_, None) => return Err(NotACursor),
                (_, Some(digit)) => number = number << 4 | u128::from(digit),
            }
        }
        let (first, second) = ((number >> 64) as u64, number as u64);
        if first >> 12 & 0xf != 8 || second >> SEQUENCE_BITS != 0b10 {
            return Err(NotACursor);
        }
        Ok(Cursor { epoch: first >> 16 << 12 | first & 0xfff, sequence: second & ((1 << SEQUENCE_BITS) - 1) })
    }
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// The reader has seen everything up to and including this.
    pub after: Cursor,
    /// Whether nothing is missing between the reader's cursor and the first message of the replay.
    pub recovered: bool,
}

/// A log of the last messages, bounded in their number and in their bytes.
#[derive(Debug)]
pub struct Feed<T> {
    epoch: u64,
    /// The sequence of the last message that is no longer retained.
    dropped: u64,
    messages: VecDeque<(T, usize)>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl<T> Feed<T> {
    /// An empty feed. `epoch` tells this log from every other: 60 random bits of it are used. When
    /// a message is published beyond `max_messages`, or beyond `max_bytes` of them in sum, the
    /// oldest are dropped; the newest message is always retained.
    pub fn new(epoch: u64, max_messages: usize, max_bytes: usize) -> Self {
        let epoch = epoch & ((1 << EPOCH_BITS) - 1);
        Feed { epoch, dropped: 0, messages: VecDeque::new(), bytes: 0, max_messages, max_bytes }
    }

    /// The cursor that the next message will have: a message that carries its own id needs it
    /// first.
    pub fn next_cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, sequence: self.published() + 1 }
    }

    /// Appends a message of `bytes` bytes and returns its cursor.
    pub fn publish(&mut self, message: T, bytes: usize) -> Cursor {
        let cursor = self.next_cursor();
        self.messages.push_back((message, bytes));
        self.bytes += bytes;
        while self.messages.len() > 1 && (self.messages.len() > self.max_messages || self.bytes > self.max_bytes) {
            self.drop_oldest();
        }
        cursor
    }

    fn drop_oldest(&mut self) {
        if let Some((_, bytes)) = self.messages.pop_front() {
            self.bytes -= bytes;
            self.dropped += 1;
        }
    }

    /// The cursor behind the newest message: where a reader begins who wants only what is new.
    pub fn tip(&self) -> Cursor {
        Cursor { epoch: self.epoch, sequence: self.published() }
    }

    // ANCHOR: replay
    /// Where a reader with this cursor goes on. A cursor of another epoch, one older than what is
    /// retained, or one of the future gets everything retained, and `recovered: false`.
    pub fn replay(&self, cursor: Cursor) -> Replay {
        let known = cursor.epoch == self.epoch && (self.dropped..=self.published()).contains(&cursor.sequence);
        let after = if known { cursor } else { Cursor { epoch: self.epoch, sequence: self.dropped } };
        Replay { after, recovered: known }
    }
    // ANCHOR_END: replay

    /// The retained messages after `cursor`, oldest first, each with its own cursor.
    pub fn after(&self, cursor: Cursor) -> impl ExactSizeIterator<Item = (Cursor, &T)> {
        let start = self.replay(cursor).after.sequence;
        let epoch = self.epoch;
        let messages = self.messages.range((start - self.dropped) as usize..);
        messages.enumerate().map(move |(at, (message, _))| (Cursor { epoch, sequence: start + 1 + at as u64 }, message))
    }

    /// The cursor behind which the last `count` retained messages lie.
    pub fn last(&self, count: usize) -> Cursor {
        let count = count.min(self.messages.len()) as u64;
        Cursor { epoch: self.epoch, sequence: self.published() - count }
    }

    /// How many messages were ever published.
    pub fn published(&self) -> u64 {
        self.dropped + self.messages.len() as u64
    }

    /// The bytes of the retained messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(messages: u64) -> Feed<u64> {
        let mut feed = Feed::new(0x0123_4567_89ab_cdef, 3, 100);
        for message in 1..=messages {
            assert_eq!(feed.publish(message, 10).sequence(), message);
        }
        feed
    }

    fn after(feed: &Feed<u64>, sequence: u64) -> (Vec<u64>, bool) {
        let cursor = Cursor { epoch: feed.epoch, sequence };
        (feed.after(cursor).map(|(_, message)| *message).collect(), feed.replay(cursor).recovered)
    }

    #[test]
    fn a_cursor_is_a_uuid_and_comes_back() {
        for epoch in [0, 1, 0x123_4567_89ab_cdef, (1 << 60) - 1] {
            for sequence in [0, 1, 42, (1 << 62) - 1] {
                let cursor = Cursor { epoch, sequence };
                let text = cursor.to_string();
                assert_eq!((text.len(), &text[14..15]), (36, "8"));
                assert!("89ab".contains(&text[19..20]), "{text}");
                assert_eq!(text.parse(), Ok(cursor));
                assert_eq!(text.to_uppercase().parse(), Ok(cursor));
            }
        }
    }

    #[test]
    fn what_is_not_a_cursor() {
        let good = feed(1).tip().to_string();
        assert!(good.parse::<Cursor>().is_ok());
        let version_4 = format!("{}4{}", &good[..14], &good[15..]);
        let variant = format!("{}c{}", &good[..19], &good[20..]);
        let signed = format!("+{}", &good[1..]);
        let multibyte = format!("\u{e9}{}", &good[2..]);
        for text in ["", "1", &version_4, &variant, &signed, &multibyte, &good[1..], &good.replace('-', "0")] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }

    #[test]
    fn a_reader_gets_everything_after_its_cursor() {
        let feed = feed(3);
        assert_eq!(after(&feed, 0), (vec![1, 2, 3], true));
        assert_eq!(after(&feed, 2), (vec![3], true));
        assert_eq!(after(&feed, 3), (vec![], true));
        assert_eq!(feed.after(feed.last(2)).map(|(cursor, _)| cursor.sequence()).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_hole_is_never_silent() {
        let feed = feed(5); // 1 and 2 are dropped
        assert_eq!(after(&feed, 2), (vec![3, 4, 5], true));
        assert_eq!(after(&feed, 1), (vec![3, 4, 5], false));
        assert_eq!(after(&feed, 6), (vec![3, 4, 5], false));
        let foreign = Cursor { epoch: 7, sequence: 4 };
        assert_eq!((feed.after(foreign).len(), feed.replay(foreign).recovered), (3, false));
    }

    #[test]
    fn the_newest_message_is_retained_whatever_its_size() {
        let mut feed = feed(3);
        feed.publish(4, 95);
        assert_eq!(after(&feed, 3), (vec![4], true));
        feed.publish(5, 1000);
        assert_eq!((after(&feed, 4), feed.bytes()), ((vec![5], true), 1000));
    }
}
