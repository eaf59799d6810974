//! The bounded, ordered log of messages, and the cursor of a reader in it.
//!
//! Every transport sends the messages after a cursor. So a client can lose its connection or change its transport, and
//! continue without loss and without repetition. A reader whose cursor is too old, or belongs to another log, receives
//! all retained messages and `recovered: false`. It always learns that messages may be missing.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

const SEQUENCE_BITS: u32 = 62;
const EPOCH_BITS: u32 = 60;

/// A position in a feed: after the message with this id.
///
/// ```
/// use overwire::feed::Cursor;
///
/// let cursor: Cursor = "1f0c2a9e-8b4d-8e17-8000-00000000002a".parse()?;
/// assert_eq!(cursor.sequence(), 0x2a);
/// assert_eq!(cursor.to_string(), "1f0c2a9e-8b4d-8e17-8000-00000000002a");
/// # Ok::<(), overwire::feed::NotACursor>(())
/// ```
///
// ANCHOR: cursor
/// A cursor is written as a UUID of version 8 (RFC 9562, section 5.8). The first half is the epoch, the second half is
/// the sequence. The UUID format takes 4 bits for the version and 2 bits for the variant, which leaves 60 and 62.
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
    /// A position that no log reaches: a reader with it gets everything retained, and `recovered: false`.
    pub const UNKNOWN: Cursor = Cursor { epoch: 0, sequence: (1 << SEQUENCE_BITS) - 1 };

    /// Returns the random number of the log, of 60 bits.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// Returns the number of messages published up to and including this one.
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

/// The error for a text that is not a cursor: it is not a UUID of version 8.
///
/// ```
/// use overwire::feed::{Cursor, NotACursor};
///
/// let version_4 = "1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21";
/// assert_eq!(version_4.parse::<Cursor>(), Err(NotACursor));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotACursor;

impl fmt::Display for NotACursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a UUID of version 8")
    }
}

impl std::error::Error for NotACursor {}

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

/// The position where a reader continues, and whether it missed messages.
///
/// ```
/// use overwire::feed::Feed;
///
/// let mut feed = Feed::new(7, 2, 1000); // retains two messages
/// let first = feed.publish("one", 3);
/// assert!(feed.replay(first).recovered);
/// for text in ["two", "three", "four"] {
///     feed.publish(text, text.len());
/// }
/// let replay = feed.replay(first); // "two" is missing
/// assert!(!replay.recovered);
/// assert_eq!(feed.after(replay.after).map(|(_, text)| *text).collect::<Vec<_>>(), ["three", "four"]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// The position before the first message that the reader gets.
    pub after: Cursor,
    /// Whether the feed retains every message after the reader's cursor. False if the feed does not know the cursor.
    pub recovered: bool,
}

/// A log of the newest messages, bounded in number and in bytes.
///
/// ```
/// use overwire::feed::Feed;
///
/// let mut feed = Feed::new(7, 100, 64 * 1024);
/// let cursor = feed.publish("one", 3);
/// feed.publish("two", 3);
/// assert_eq!(feed.after(cursor).map(|(_, text)| *text).collect::<Vec<_>>(), ["two"]);
/// ```
#[derive(Debug)]
pub struct Feed<T> {
    epoch: u64,
    /// The sequence of the newest message that was dropped.
    dropped: u64,
    messages: VecDeque<(T, usize)>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl<T> Feed<T> {
    /// Creates an empty feed. `epoch` is a random number that no other log has. Its lowest 60 bits are used. The feed
    /// drops its oldest messages when it has more than `max_messages` or more than `max_bytes`. The newest message is
    /// always retained.
    pub fn new(epoch: u64, max_messages: usize, max_bytes: usize) -> Self {
        let epoch = epoch & ((1 << EPOCH_BITS) - 1);
        Feed { epoch, dropped: 0, messages: VecDeque::new(), bytes: 0, max_messages, max_bytes }
    }

    /// Returns the cursor that the next message will get. So a message can contain its own id.
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

    /// Returns the position after the newest message, for a reader that wants only new messages.
    pub fn tip(&self) -> Cursor {
        Cursor { epoch: self.epoch, sequence: self.published() }
    }

    // ANCHOR: replay
    /// Returns the position where a reader with this cursor continues. A reader whose cursor has another epoch, is too
    /// old or is in the future gets all retained messages and `recovered: false`.
    pub fn replay(&self, cursor: Cursor) -> Replay {
        let known = cursor.epoch == self.epoch && (self.dropped..=self.published()).contains(&cursor.sequence);
        let after = if known { cursor } else { Cursor { epoch: self.epoch, sequence: self.dropped } };
        Replay { after, recovered: known }
    }
    // ANCHOR_END: replay

    /// Returns the retained messages after `cursor`, oldest first, each with its own cursor.
    pub fn after(&self, cursor: Cursor) -> impl ExactSizeIterator<Item = (Cursor, &T)> {
        let start = self.replay(cursor).after.sequence;
        let epoch = self.epoch;
        let messages = self.messages.range((start - self.dropped) as usize..);
        messages.enumerate().map(move |(at, (message, _))| (Cursor { epoch, sequence: start + 1 + at as u64 }, message))
    }

    /// Returns the position before the newest `count` retained messages.
    pub fn last(&self, count: usize) -> Cursor {
        let count = count.min(self.messages.len()) as u64;
        Cursor { epoch: self.epoch, sequence: self.published() - count }
    }

    /// Returns the number of messages ever published.
    pub fn published(&self) -> u64 {
        self.dropped + self.messages.len() as u64
    }

    /// Returns the number of bytes of the retained messages.
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
    fn a_cursor_is_written_as_a_uuid_and_parsed_again() {
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
    fn only_uuids_of_version_8_are_cursors() {
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
    fn missing_messages_are_reported() {
        let feed = feed(5); // 1 and 2 are dropped
        assert_eq!(after(&feed, 2), (vec![3, 4, 5], true));
        assert_eq!(after(&feed, 1), (vec![3, 4, 5], false));
        assert_eq!(after(&feed, 6), (vec![3, 4, 5], false));
        for foreign in [Cursor { epoch: 7, sequence: 4 }, Cursor::UNKNOWN] {
            assert_eq!((feed.after(foreign).len(), feed.replay(foreign).recovered), (3, false));
        }
    }

    #[test]
    fn the_newest_message_is_retained_even_if_it_is_too_large() {
        let mut feed = feed(3);
        feed.publish(4, 95);
        assert_eq!(after(&feed, 3), (vec![4], true));
        feed.publish(5, 1000);
        assert_eq!((after(&feed, 4), feed.bytes()), ((vec![5], true), 1000));
    }
}
