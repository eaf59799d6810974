//! The bounded, ordered log of messages, and the cursor of a reader in it.
//!
//! Every transport sends the messages after a cursor. So a client can lose its connection or change its transport, and
//! continue without loss and without repetition. A reader whose cursor is too old, or belongs to another log, receives
//! all retained messages and `recovered: false`. It always learns that messages may be missing.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use crate::books;
use crate::random::Random;

const EPOCH_BITS: u32 = 60;
const CHECK_BITS: u32 = 22;
const SEQUENCE_BITS: u32 = 40;

const LAST_CHECK: u32 = (1 << CHECK_BITS) - 1;
const LAST_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// A position in a feed: after the message with this id.
///
/// ```
/// use overwire::feed::Cursor;
///
/// let cursor: Cursor = "1f0c2a9e-8b4d-8e17-b5c3-7f000000002a".parse()?;
/// assert_eq!(cursor.sequence(), 0x2a);
/// assert_eq!(cursor.to_string(), "1f0c2a9e-8b4d-8e17-b5c3-7f000000002a");
/// # Ok::<(), overwire::feed::NotACursor>(())
/// ```
///
// ANCHOR: cursor
/// A cursor is written as a UUID of version 8 (RFC 9562, section 5.8). The first half is the epoch, 60 random bits that
/// name the log. The last 10 digits are the sequence, 40 bits that count its messages. Between them are 22 random bits
/// of the message, the check. The UUID format takes the other 6 bits: 4 for the version and 2 for the variant.
///
/// ```text
/// 1f0c2a9e-8b4d-8e17-b5c3-7f000000002a
/// epoch---------^--- ^check-sequence--
///         version 8 variant 10
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: u64,
    check: u32,
    sequence: u64,
}
// ANCHOR_END: cursor

impl Cursor {
    /// A position that no log reaches: a reader with it gets everything retained, and `recovered: false`.
    pub const UNKNOWN: Cursor = Cursor { epoch: 0, check: LAST_CHECK, sequence: LAST_SEQUENCE };

    /// Draws the position before the first message of a new log.
    pub fn start(random: &mut Random) -> Self {
        let epoch = random.number() & ((1 << EPOCH_BITS) - 1);
        Cursor { epoch, check: draw_check(random), sequence: 0 }
    }

    /// Draws the position after the next message of the log.
    ///
    /// The sequence ends at 2^40 - 1, after more than 10^12 messages. The message after that one begins a new log.
    ///
    /// ```
    /// use overwire::feed::Cursor;
    /// use overwire::random::Random;
    ///
    /// let mut random = Random::open()?;
    /// let start = Cursor::start(&mut random);
    /// let first = start.next(&mut random);
    /// assert_eq!((first.epoch(), first.sequence()), (start.epoch(), 1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn next(self, random: &mut Random) -> Self {
        let before = if self.sequence == LAST_SEQUENCE { Cursor::start(random) } else { self };
        Cursor { epoch: before.epoch, check: draw_check(random), sequence: before.sequence + 1 }
    }

    /// Returns the position with this check and this sequence in the same log.
    pub(crate) fn at(self, check: u32, sequence: u64) -> Self {
        Cursor { epoch: self.epoch, check, sequence }
    }

    /// Returns the position with these numbers. `None` if one of them has too many bits: an epoch has 60, a check 22, and
    /// a sequence 40.
    pub fn of_parts(epoch: u64, check: u32, sequence: u64) -> Option<Self> {
        let fits = epoch >> EPOCH_BITS == 0 && check <= LAST_CHECK && sequence <= LAST_SEQUENCE;
        fits.then_some(Cursor { epoch, check, sequence })
    }

    /// Returns the random number of the log, of 60 bits.
    pub fn epoch(self) -> u64 {
        self.epoch
    }

    /// Returns the random number of the message, of 22 bits. A log that has lost its newest messages gives their
    /// sequences to other messages, which have other checks.
    pub fn check(self) -> u32 {
        self.check
    }

    /// Returns the number of messages published up to and including this one.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Draws a check. Nothing that two histories of one log have in common may decide it.
fn draw_check(random: &mut Random) -> u32 {
    u32::from_ne_bytes(random.bytes()) & LAST_CHECK
}

/// The hexadecimal digits of a UUID are lower-case (RFC 9562, section 4).
const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Cursor {
    /// Writes the digits byte by byte: a small part of the instructions of five numbers with their formats. Each message
    /// has its cursor in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.epoch >> 12 << 16 | 0x8 << 12 | self.epoch & 0xfff;
        let second = 0b10 << (CHECK_BITS + SEQUENCE_BITS) | u64::from(self.check) << SEQUENCE_BITS | self.sequence;
        let bytes = (u128::from(first) << 64 | u128::from(second)).to_be_bytes();
        let (mut text, mut at) = ([b'-'; 36], 0);
        for (index, byte) in bytes.into_iter().enumerate() {
            at += usize::from(matches!(index, 4 | 6 | 8 | 10)); // a hyphen
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 0xf)];
            at += 2;
        }
        f.write_str(str::from_utf8(&text).expect("digits and hyphens"))
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
        if first >> 12 & 0xf != 8 || second >> (CHECK_BITS + SEQUENCE_BITS) != 0b10 {
            return Err(NotACursor);
        }
        Ok(Cursor {
            epoch: first >> 16 << 12 | first & 0xfff,
            check: (second >> SEQUENCE_BITS) as u32 & LAST_CHECK,
            sequence: second & LAST_SEQUENCE,
        })
    }
}

/// The position where a reader continues, and whether it missed messages.
///
/// ```
/// use overwire::feed::{Cursor, Feed};
/// use overwire::random::Random;
///
/// let mut random = Random::open()?;
/// let mut feed = Feed::new(Cursor::start(&mut random), 2, 1000); // retains two messages
/// let start = feed.tip();
/// for text in ["one", "two"] {
///     feed.append(feed.next_cursor(&mut random), text, text.len());
/// }
/// assert!(feed.replay(start).recovered);
/// feed.append(feed.next_cursor(&mut random), "three", 5);
/// let replay = feed.replay(start); // "one" is missing
/// assert!(!replay.recovered);
/// assert_eq!(feed.after(replay.after).map(|(_, text)| *text).collect::<Vec<_>>(), ["two", "three"]);
/// # std::io::Result::Ok(())
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
/// use overwire::feed::{Cursor, Feed};
/// use overwire::random::Random;
///
/// let mut random = Random::open()?;
/// let mut feed = Feed::new(Cursor::start(&mut random), 100, 64 * 1024);
/// let first = feed.next_cursor(&mut random);
/// feed.append(first, "one", 3);
/// feed.append(feed.next_cursor(&mut random), "two", 3);
/// assert_eq!(feed.after(first).map(|(_, text)| *text).collect::<Vec<_>>(), ["two"]);
/// # std::io::Result::Ok(())
/// ```
///
/// A log can lose its newest messages, and give their sequences to other messages. The check of a cursor tells them
/// apart: a feed knows a cursor only if it is exactly the cursor of its own message. Two checks are equal by chance
/// once in 4 million times.
#[derive(Debug)]
pub struct Feed<T> {
    /// The position of the newest message that was dropped, or else the start of the log.
    dropped: Cursor,
    messages: VecDeque<Entry<T>>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

/// A retained message. Its place says its sequence.
#[derive(Debug)]
struct Entry<T> {
    message: T,
    bytes: usize,
    check: u32,
}

impl<T> Feed<T> {
    /// Creates an empty feed. `start` is the position before its first message. The feed drops its oldest messages when
    /// it has more than `max_messages` or more than `max_bytes`. The newest message is always retained.
    pub fn new(start: Cursor, max_messages: usize, max_bytes: usize) -> Self {
        Feed { dropped: start, messages: VecDeque::new(), bytes: 0, max_messages, max_bytes }
    }

    /// Draws the cursor of the next message, so that the message can contain its own id: see [`Cursor::next`].
    pub fn next_cursor(&self, random: &mut Random) -> Cursor {
        self.tip().next(random)
    }

    /// Appends a message of `bytes` bytes. `cursor` was drawn by [`Feed::next_cursor`] since the last append. If it
    /// begins a new log, all older messages are dropped.
    ///
    /// # Panics
    /// If `cursor` is not the position after the newest message.
    pub fn append(&mut self, cursor: Cursor, message: T, bytes: usize) {
        assert!(self.is_next(cursor), "{cursor} is not the cursor of the next message after {}", self.tip());
        if cursor.epoch != self.dropped.epoch {
            self.truncate(Cursor { sequence: 0, ..cursor });
        }
        self.messages.push_back(Entry { message, bytes, check: cursor.check });
        self.bytes += bytes;
        while self.messages.len() > 1 && (self.messages.len() > self.max_messages || self.bytes > self.max_bytes) {
            self.drop_oldest();
        }
    }

    /// Whether this is the position after the next message. The message may begin a new log.
    pub fn is_next(&self, cursor: Cursor) -> bool {
        let tip = self.tip();
        match tip.sequence {
            LAST_SEQUENCE => cursor.sequence == 1,
            sequence => cursor.epoch == tip.epoch && cursor.sequence == sequence + 1,
        }
    }

    /// Drops the oldest messages, as long as `is_old` says so. Returns whether there were any.
    pub fn drop_while(&mut self, is_old: impl Fn(&T) -> bool) -> bool {
        let before = self.messages.len();
        while self.messages.front().is_some_and(|oldest| is_old(&oldest.message)) {
            self.drop_oldest();
        }
        self.messages.len() < before
    }

    fn drop_oldest(&mut self) {
        if let Some(Entry { bytes, check, .. }) = self.messages.pop_front() {
            self.bytes -= bytes;
            self.dropped = Cursor { check, sequence: self.dropped.sequence + 1, ..self.dropped };
        }
    }

    /// Drops the messages after a position: the tail of the log was lost, and the log continues after `tip`. If the
    /// feed does not know this position, its messages are another log's, and it drops all of them.
    pub fn truncate(&mut self, tip: Cursor) {
        let known = self.replay(tip).recovered;
        let kept = if known { (tip.sequence - self.dropped.sequence) as usize } else { 0 };
        self.bytes -= self.messages.drain(kept..).map(|lost| lost.bytes).sum::<usize>();
        if !known {
            self.dropped = tip;
        }
    }

    /// Returns the position after the newest message, for a reader that wants only new messages.
    pub fn tip(&self) -> Cursor {
        self.last(0)
    }

    // ANCHOR: replay
    /// Returns the position where a reader with this cursor continues. A reader whose cursor has another epoch or
    /// another check, is too old or is in the future gets all retained messages and `recovered: false`.
    pub fn replay(&self, cursor: Cursor) -> Replay {
        // A known cursor is exactly that of the message with its sequence.
        let known = self.position(cursor.sequence) == Some(cursor);
        let after = if known { cursor } else { self.dropped };
        Replay { after, recovered: known }
    }
    // ANCHOR_END: replay

    /// Returns the position with this sequence, if the feed retains all messages after it.
    fn position(&self, sequence: u64) -> Option<Cursor> {
        match sequence.checked_sub(self.dropped.sequence)? {
            0 => Some(self.dropped),
            count => {
                let check = self.messages.get(count as usize - 1)?.check;
                Some(Cursor { check, sequence, ..self.dropped })
            }
        }
    }

    /// Returns the retained messages after `cursor`, oldest first, each with its own cursor.
    pub fn after(&self, cursor: Cursor) -> impl ExactSizeIterator<Item = (Cursor, &T)> {
        let start = self.replay(cursor).after;
        let messages = self.messages.range((start.sequence - self.dropped.sequence) as usize..);
        messages.enumerate().map(move |(at, Entry { message, check, .. })| {
            (Cursor { check: *check, sequence: start.sequence + 1 + at as u64, ..start }, message)
        })
    }

    /// Returns the position before the newest `count` retained messages.
    pub fn last(&self, count: usize) -> Cursor {
        let before = self.messages.len().saturating_sub(count) as u64;
        self.position(self.dropped.sequence + before).expect("no position is older than `dropped`")
    }

    /// Returns the number of messages ever published.
    pub fn published(&self) -> u64 {
        self.dropped.sequence + self.messages.len() as u64
    }

    /// Returns about the number of bytes that it takes: the places of its messages and the messages, each of them an
    /// `Rc<str>`.
    pub(crate) fn memory(&self) -> usize {
        let texts = self.bytes + self.messages.len() * (2 * size_of::<usize>() + size_of::<usize>() / 2);
        books::deque(&self.messages) + texts
    }

    /// Returns the most bytes that a feed with these bounds takes.
    pub(crate) fn bytes_of(max_messages: usize, max_bytes: usize) -> usize {
        let messages = max_messages.min(max_bytes);
        books::vec_of::<Entry<T>>(messages) + max_bytes + messages * (2 * size_of::<usize>() + size_of::<usize>() / 2)
    }

    /// Returns the number of bytes of the retained messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const START: Cursor = Cursor { epoch: 0x123_4567_89ab_cdef, check: 7, sequence: 0 };

    /// The cursor of the next message, with a chosen check.
    fn next<T>(feed: &Feed<T>, check: u32) -> Cursor {
        let tip = feed.tip();
        Cursor { epoch: tip.epoch, check, sequence: tip.sequence + 1 }
    }

    fn append<T>(feed: &mut Feed<T>, check: u32, message: T) -> Cursor {
        let cursor = next(feed, check);
        feed.append(cursor, message, 10);
        cursor
    }

    /// A feed that retains three messages, and the cursors of its log, with the start.
    fn feed(messages: u64) -> (Feed<u64>, Vec<Cursor>) {
        let (mut feed, mut log) = (Feed::new(START, 3, 100), vec![START]);
        for message in 1..=messages {
            log.push(append(&mut feed, 100 + message as u32, message));
        }
        (feed, log)
    }

    fn after<T: Clone>(feed: &Feed<T>, cursor: Cursor) -> (Vec<T>, bool) {
        (feed.after(cursor).map(|(_, message)| message.clone()).collect(), feed.replay(cursor).recovered)
    }

    #[test]
    fn a_cursor_is_written_as_a_uuid_and_parsed_again() {
        let mut written = Vec::new();
        for epoch in [0, 1, 0x123_4567_89ab_cdef, (1 << 60) - 1] {
            for check in [0, 1, 0x2a_aaaa, (1 << 22) - 1] {
                for sequence in [0, 1, 42, (1 << 40) - 1] {
                    let cursor = Cursor { epoch, check, sequence };
                    let text = cursor.to_string();
                    assert_eq!((text.len(), &text[14..15]), (36, "8"));
                    assert!("89ab".contains(&text[19..20]), "{text}");
                    assert_eq!(u64::from_str_radix(&text[26..], 16), Ok(sequence));
                    assert_eq!(text.parse(), Ok(cursor));
                    assert_eq!(text.to_uppercase().parse(), Ok(cursor));
                    written.push(text);
                }
            }
        }
        written.sort_unstable();
        written.dedup();
        assert_eq!(written.len(), 4 * 4 * 4);
    }

    #[test]
    fn each_field_has_its_own_digits() {
        let zero = Cursor { epoch: 0, check: 0, sequence: 0 };
        for (cursor, text) in [
            (zero, "00000000-0000-8000-8000-000000000000"),
            (Cursor { epoch: (1 << 60) - 1, ..zero }, "ffffffff-ffff-8fff-8000-000000000000"),
            (Cursor { check: (1 << 22) - 1, ..zero }, "00000000-0000-8000-bfff-ff0000000000"),
            (Cursor { sequence: (1 << 40) - 1, ..zero }, "00000000-0000-8000-8000-00ffffffffff"),
        ] {
            assert_eq!((cursor.to_string().as_str(), text.parse()), (text, Ok(cursor)));
        }
    }

    #[test]
    fn only_uuids_of_version_8_are_cursors() {
        let good = START.to_string();
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
    fn cursors_are_drawn() {
        let mut random = Random::open().unwrap();
        let starts: [_; 8] = std::array::from_fn(|_| Cursor::start(&mut random));
        assert!(starts.iter().all(|start| start.sequence == 0 && start.epoch >> 60 == 0));
        assert!(starts[1..].iter().all(|start| start.epoch != starts[0].epoch));
        let feed: Feed<()> = Feed::new(starts[0], 3, 100);
        let drawn: [_; 8] = std::array::from_fn(|_| feed.next_cursor(&mut random));
        assert!(drawn.iter().all(|next| (next.epoch, next.sequence) == (starts[0].epoch, 1)));
        assert!(drawn.iter().all(|next| next.check <= LAST_CHECK));
        assert!(drawn[1..].iter().any(|next| next.check != drawn[0].check));
    }

    #[test]
    fn a_reader_gets_everything_after_its_cursor() {
        let (feed, log) = feed(3);
        assert_eq!(after(&feed, log[0]), (vec![1, 2, 3], true));
        assert_eq!(after(&feed, log[2]), (vec![3], true));
        assert_eq!(after(&feed, log[3]), (vec![], true));
        assert_eq!(feed.after(feed.last(2)).map(|(cursor, _)| cursor).collect::<Vec<_>>(), log[2..]);
        assert_eq!((feed.last(0), feed.last(usize::MAX), feed.tip()), (log[3], log[0], log[3]));
    }

    #[test]
    fn missing_messages_are_reported() {
        let (feed, log) = feed(5); // 1 and 2 are dropped
        assert_eq!(after(&feed, log[2]), (vec![3, 4, 5], true));
        let future = Cursor { sequence: 6, ..log[5] };
        let foreign = Cursor { epoch: 7, ..log[4] };
        for unknown in [log[0], log[1], future, foreign, Cursor::UNKNOWN] {
            assert_eq!(after(&feed, unknown), (vec![3, 4, 5], false), "{unknown:?}");
        }
    }

    #[test]
    fn a_cursor_with_another_check_is_unknown() {
        let (feed, log) = feed(5);
        for cursor in &log[2..] {
            // the newest dropped message is judged too
            assert!(feed.replay(*cursor).recovered);
            let other = Cursor { check: cursor.check ^ 1, ..*cursor };
            assert_eq!(after(&feed, other), (vec![3, 4, 5], false), "{other:?}");
        }
        let empty: Feed<u64> = Feed::new(START, 3, 100);
        assert!(empty.replay(START).recovered);
        assert!(!empty.replay(Cursor { check: START.check + 1, ..START }).recovered);
    }

    #[test]
    fn readers_of_a_lost_tail_are_told() {
        let mut feed = Feed::new(START, 100, 1000);
        let [a, b, c] = ["A", "B", "C"].map(|text| append(&mut feed, text.as_bytes()[0].into(), text));
        feed.truncate(b); // C is lost
        assert_eq!((feed.tip(), feed.bytes(), after(&feed, c)), (b, 20, (vec!["A", "B"], false)));
        let d = append(&mut feed, 'D'.into(), "D");
        assert_eq!((c.epoch, c.sequence), (d.epoch, d.sequence));
        // A reader that has C has not seen D, although D has the epoch and the sequence of C.
        assert_eq!(after(&feed, c), (vec!["A", "B", "D"], false));
        assert_eq!(after(&feed, b), (vec!["D"], true));
        assert_eq!(after(&feed, a), (vec!["B", "D"], true));
        assert_eq!(after(&feed, d), (vec![], true));
    }

    #[test]
    fn a_log_that_lost_all_retained_messages_continues_after_its_tip() {
        let (mut feed, log) = feed(5); // 1 and 2 are dropped
        feed.truncate(log[1]);
        assert_eq!((feed.tip(), feed.bytes(), feed.published()), (log[1], 0, 1));
        let other = append(&mut feed, 999, 2);
        assert_eq!(after(&feed, log[1]), (vec![2], true));
        assert_eq!(after(&feed, log[2]), (vec![2], false));
        let another_log = Cursor { epoch: 8, ..other };
        feed.truncate(another_log);
        assert_eq!((feed.tip(), after(&feed, other)), (another_log, (vec![], false)));
    }

    #[test]
    fn a_log_continues_under_a_new_epoch_when_its_sequence_has_ended() {
        let mut random = Random::open().unwrap();
        let before = Cursor { sequence: LAST_SEQUENCE - 1, ..START };
        let mut feed = Feed::new(before, 3, 100);
        let newest = append(&mut feed, 1, 1);
        assert_eq!(newest.sequence, LAST_SEQUENCE);
        let next = feed.next_cursor(&mut random);
        assert_eq!((next.sequence, next.epoch == START.epoch), (1, false));
        feed.append(next, 2, 10);
        assert_eq!((feed.tip(), feed.bytes()), (next, 10));
        for old in [before, newest] {
            assert_eq!(after(&feed, old), (vec![2], false));
        }
        append(&mut feed, 3, 3);
        assert_eq!(after(&feed, next), (vec![3], true));
    }

    #[test]
    #[should_panic(expected = "the cursor of the next message")]
    fn a_message_follows_the_newest_one() {
        let (mut feed, log) = feed(2);
        feed.append(log[2], 2, 10);
    }

    #[test]
    fn the_newest_message_is_retained_even_if_it_is_too_large() {
        let (mut feed, log) = feed(3);
        let fourth = next(&feed, 4);
        feed.append(fourth, 4, 95);
        assert_eq!(after(&feed, log[3]), (vec![4], true));
        feed.append(next(&feed, 5), 5, 1000);
        assert_eq!((after(&feed, fourth), feed.bytes()), ((vec![5], true), 1000));
    }

    /// A number that looks random, below the end of a range (xorshift64).
    fn roll(state: &mut u64, range: Range<u64>) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        range.start + *state % (range.end - range.start)
    }

    /// A reader keeps the messages that it has seen, and its position. It resumes while the log loses tails, drops
    /// messages and gets others.
    #[test]
    fn no_reader_has_a_silent_hole() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200 {
            let mut feed = Feed::new(START, 4, 60);
            // The log as it is now, with the messages that the feed has dropped. No two messages have one check.
            let (mut log, mut messages) = (vec![(START, 0)], 0);
            let mut readers = vec![(START, Vec::new()); 3];
            for _ in 0..60 {
                match roll(&mut state, 0..10) {
                    0..5 => {
                        messages += 1;
                        let cursor = next(&feed, 100 + messages);
                        feed.append(cursor, messages, roll(&mut state, 0..40) as usize);
                        log.push((cursor, messages));
                    }
                    5..7 => {
                        log.truncate(roll(&mut state, 0..log.len() as u64) as usize + 1);
                        feed.truncate(log[log.len() - 1].0);
                    }
                    _ => {
                        let reader = roll(&mut state, 0..3) as usize;
                        let (position, seen) = &mut readers[reader];
                        let (news, recovered) = after(&feed, *position);
                        let place = log.iter().position(|(cursor, _)| cursor == position);
                        assert_eq!(recovered, place.is_some_and(|at| at as u64 >= feed.dropped.sequence));
                        if !recovered {
                            seen.clear(); // it knows that something may be missing before these
                        }
                        seen.extend(news);
                        *position = feed.tip();
                        // What it has seen without a notice is what the log has, without a hole.
                        let log: Vec<u32> = log[1..].iter().map(|(_, message)| *message).collect();
                        assert!(log.ends_with(seen), "{log:?} {seen:?}");
                    }
                }
            }
        }
    }
}
