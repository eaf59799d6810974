//! The feed and its cursors. The first line of the input is parsed as a cursor, which must be written as the same text.
//! The rest is a script of one letter and one number for each step, which appends, loses the tail of the log, and
//! replays. A model that keeps the whole log has the expected results. A reader is recovered only if every message that
//! it has seen is still in the log.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::feed::{Cursor, Feed};

const EPOCH: u64 = 0x123_4567_89ab_cdef;
const MAX_MESSAGES: usize = 5;
const MAX_BYTES: usize = 300;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (line, script) = bytes.split_at(end);
    if let Some(cursor) = str::from_utf8(line).ok().and_then(|text| text.parse::<Cursor>().ok()) {
        assert_eq!(cursor.to_string().as_bytes(), line.to_ascii_lowercase());
        assert_eq!(cursor_at(cursor.epoch(), cursor.check(), cursor.sequence()), cursor);
    }
    Model::default().run(script);
});

/// A cursor made from text: a UUID of version 8 (RFC 9562, section 5.8).
fn cursor_at(epoch: u64, check: u32, sequence: u64) -> Cursor {
    let second = 0b10 << 62 | u64::from(check) << 40 | sequence;
    let digits = format!("{:012x}8{:03x}{second:016x}", epoch >> 12, epoch & 0xfff);
    let text = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
    text.parse().expect("a UUID of version 8")
}

#[derive(Clone, Copy)]
struct Appended {
    cursor: Cursor,
    /// The check of the message, which no other message has.
    message: u32,
    length: usize,
}

/// The log without the messages that it lost, but with those that the feed has dropped.
#[derive(Default)]
struct Model {
    log: Vec<Appended>,
    dropped: usize,
    /// All cursors that were ever drawn.
    drawn: Vec<Cursor>,
}

impl Model {
    fn run(&mut self, script: &[u8]) {
        let start = cursor_at(EPOCH, 0, 0);
        self.drawn.push(start);
        let mut feed = Feed::new(start, MAX_MESSAGES, MAX_BYTES);
        for step in script.chunks_exact(2) {
            let number = usize::from(step[1]);
            let reader = self.drawn[number % self.drawn.len()];
            let (check, sequence) = (reader.check(), reader.sequence());
            match step[0] {
                b'p' => self.append(&mut feed, number),
                b't' => self.truncate(&mut feed, number % (self.log.len() + 1)),
                b'l' => assert_eq!(feed.after(feed.last(number)).len(), self.retained().len().min(number)),
                b'r' => self.replay(&feed, reader),
                b'o' => self.replay(&feed, cursor_at(EPOCH ^ 1, check, sequence)), // a cursor of another log
                b'c' => self.replay(&feed, cursor_at(EPOCH, check ^ 1 << 21, sequence)), // of a message never appended
                b'f' => self.replay(&feed, cursor_at(EPOCH, check, sequence + 1)),
                _ => {}
            }
            self.check(&feed);
            self.replay(&feed, feed.tip());
            self.replay(&feed, start);
        }
    }

    fn append(&mut self, feed: &mut Feed<u32>, length: usize) {
        let message = self.drawn.len() as u32;
        let cursor = cursor_at(EPOCH, message, self.log.len() as u64 + 1);
        feed.append(cursor, message, length);
        self.drawn.push(cursor);
        self.log.push(Appended { cursor, message, length });
        while self.retained().len() > 1 && (self.retained().len() > MAX_MESSAGES || self.bytes() > MAX_BYTES) {
            self.dropped += 1;
        }
    }

    fn truncate(&mut self, feed: &mut Feed<u32>, count: usize) {
        self.log.truncate(count);
        self.dropped = self.dropped.min(count);
        feed.truncate(self.position(count));
    }

    fn retained(&self) -> &[Appended] {
        &self.log[self.dropped..]
    }

    fn bytes(&self) -> usize {
        self.retained().iter().map(|appended| appended.length).sum()
    }

    /// The position after the first `count` messages of the log.
    fn position(&self, count: usize) -> Cursor {
        count.checked_sub(1).map_or(self.drawn[0], |at| self.log[at].cursor)
    }

    /// Checks that the feed is within its bounds, and that it drops no message for which there is room.
    fn check(&self, feed: &Feed<u32>) {
        assert_eq!((feed.published(), feed.tip()), (self.log.len() as u64, self.position(self.log.len())));
        assert_eq!((feed.bytes(), feed.last(usize::MAX)), (self.bytes(), self.position(self.dropped)));
    }

    /// Checks that a reader gets all messages of the log after its cursor, or else all retained messages and
    /// `recovered: false`.
    fn replay(&self, feed: &Feed<u32>, cursor: Cursor) {
        let replay = feed.replay(cursor);
        let place = (self.dropped..=self.log.len()).find(|&count| self.position(count) == cursor);
        assert_eq!(replay.recovered, place.is_some());
        let first = place.unwrap_or(self.dropped);
        assert_eq!(replay.after, self.position(first));
        let replayed = feed.after(cursor).map(|(cursor, message)| (cursor, *message));
        assert!(replayed.eq(self.log[first..].iter().map(|appended| (appended.cursor, appended.message))));
    }
}
