//! The feed and its cursors. The first line of the input is parsed as a cursor, which must be written as the same text.
//! The rest is a script of one letter and one number for each step, which publishes and replays. A model that drops
//! nothing has the expected results.

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
        assert_eq!(cursor_at(cursor.epoch(), cursor.sequence()), cursor);
    }
    run(script);
});

/// A cursor made from text: a UUID of version 8 (RFC 9562, section 5.8).
fn cursor_at(epoch: u64, sequence: u64) -> Cursor {
    let digits = format!("{:012x}8{:03x}{:016x}", epoch >> 12, epoch & 0xfff, 1 << 63 | sequence);
    let text = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
    text.parse().expect("a UUID of version 8")
}

fn run(script: &[u8]) {
    // A message is its own sequence number. The model has the lengths of all messages that were published.
    let (mut feed, mut lengths) = (Feed::new(EPOCH, MAX_MESSAGES, MAX_BYTES), Vec::new());
    for step in script.chunks_exact(2) {
        let number = step[1].into();
        match step[0] {
            b'p' => {
                let cursor = feed.publish(lengths.len() as u64 + 1, number as usize);
                lengths.push(number as usize);
                assert_eq!((cursor.epoch(), cursor.sequence()), (EPOCH, lengths.len() as u64));
            }
            b'l' => assert_eq!(feed.after(feed.last(number as usize)).len(), retained(&feed).min(number as usize)),
            b'r' => replay(&feed, cursor_at(EPOCH, number)),
            b'o' => replay(&feed, cursor_at(EPOCH ^ 1, number)), // a cursor of another log
            _ => {}
        }
        check(&feed, &lengths);
        replay(&feed, feed.tip());
        replay(&feed, cursor_at(EPOCH, 0));
    }
}

fn retained(feed: &Feed<u64>) -> usize {
    feed.after(feed.last(usize::MAX)).len()
}

/// Checks that the feed is within its bounds, and that it drops no message for which there is room.
fn check(feed: &Feed<u64>, lengths: &[usize]) {
    let (count, published) = (retained(feed), lengths.len());
    assert_eq!((feed.published(), feed.tip().sequence()), (published as u64, published as u64));
    assert_eq!(feed.bytes(), lengths[published - count..].iter().sum::<usize>());
    assert!(count <= MAX_MESSAGES && (count <= 1 || feed.bytes() <= MAX_BYTES));
    if count < published {
        let dropped = lengths[published - count - 1];
        assert!(
            count == MAX_MESSAGES || feed.bytes() + dropped > MAX_BYTES,
            "a message was dropped although there was room"
        );
    }
}

/// Checks that a reader gets all messages from the first one up to the newest, and `recovered: false` if messages
/// before the first one are missing.
fn replay(feed: &Feed<u64>, cursor: Cursor) {
    let replay = feed.replay(cursor);
    let replayed: Vec<_> = feed.after(cursor).collect();
    let first = replay.after.sequence() + 1;
    assert!(replayed.iter().map(|(at, _)| at.sequence()).eq(first..=feed.published()));
    assert!(replayed.iter().all(|(at, message)| at.epoch() == EPOCH && at.sequence() == **message));
    if replay.recovered {
        assert_eq!(replay.after, cursor);
    } else {
        assert!(replayed.len() == retained(feed) && replay.after != cursor);
    }
}
