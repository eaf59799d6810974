//! The log that all nodes share: a stream of Redis, one thread that follows it, and one that appends to it.

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use overwire::ExchangeId;
use overwire::event_loop::Remote;
use overwire::feed::Cursor;
use overwire::random::Random;
use overwire::resp::Value;

use super::redis::Redis;

/// The stream, and the channel that rings when it has grown.
const STREAM: &[u8] = b"lesson:stream";
const BELL: &[u8] = b"lesson:bell";
/// The key that holds the epoch of the log.
const EPOCH: &[u8] = b"lesson:epoch";

/// Gives a message the next number and the check in ARGV[1], appends it, and rings. Redis runs a script whole: no other
/// command comes between.
// ANCHOR: append
const APPEND: &[u8] = b"
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local number = last and tonumber(string.match(last[1], '^%d+')) + 1 or 1
local id = number .. '-' .. ARGV[1]
redis.call('XADD', KEYS[1], id, 'text', ARGV[2])
redis.call('PUBLISH', ARGV[3], id)
return id";
// ANCHOR_END: append

/// News of the threads for the event loop.
pub enum News {
    /// The log has a message.
    Message { id: Cursor, text: String },
    /// The message of a sender has this id.
    Appended { conn: ExchangeId, id: Cursor },
    /// A thread has ended, because Redis has.
    Ended(io::Error),
}

/// A way to tell the event loop.
#[derive(Clone)]
pub struct Teller {
    pub news: Sender<News>,
    pub remote: Remote,
}

impl Teller {
    pub fn tell(&self, news: News) {
        let _ = self.news.send(news); // the event loop has ended if it does not take it
        self.remote.notify();
    }

    /// Tells that a thread has ended with an error.
    pub fn tell_end(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.tell(News::Ended(error));
        }
    }
}

/// Returns the position before the first message. The node that comes first draws the epoch, and all others get it.
pub fn start(redis: &mut Redis, random: &mut Random) -> io::Result<Cursor> {
    let drawn = Cursor::start(random).epoch().to_string();
    redis.ask(&[b"SET", EPOCH, drawn.as_bytes(), b"NX"])?;
    let epoch = text_of(&redis.ask(&[b"GET", EPOCH])?)?;
    epoch.parse().ok().and_then(|epoch| Cursor::of_parts(epoch, 0, 0)).ok_or_else(unexpected)
}

/// Tells every message of the log, in order, forever.
pub fn follow(mut bell: Redis, mut redis: Redis, start: Cursor, teller: &Teller) -> io::Result<()> {
    // ANCHOR: follow
    bell.ask(&[b"SUBSCRIBE", BELL])?; // first
    let mut last = String::from("0");
    loop {
        let entries = redis.ask(&[b"XRANGE", STREAM, format!("({last}").as_bytes(), b"+"])?; // then
        for entry in entries.values().unwrap_or_default() {
            let (name, text) = message_of(entry)?;
            teller.tell(News::Message { id: cursor_of(start, &name)?, text });
            last = name;
        }
        bell.next_value()?; // it has rung, perhaps before we read
    }
    // ANCHOR_END: follow
}

/// Appends the messages of senders, one after the other.
pub fn append(
    mut redis: Redis,
    start: Cursor,
    asked: Receiver<(ExchangeId, String)>,
    teller: &Teller,
) -> io::Result<()> {
    let mut random = Random::open()?;
    for (conn, text) in asked {
        let check = start.next(&mut random).check().to_string();
        let id = redis.ask(&[b"EVAL", APPEND, b"1", STREAM, check.as_bytes(), text.as_bytes(), BELL])?;
        teller.tell(News::Appended { conn, id: cursor_of(start, &text_of(&id)?)? });
    }
    Ok(())
}

/// The name and the text of an entry: `["1-77", ["text", "hello"]]`.
fn message_of(entry: &Value) -> io::Result<(String, String)> {
    match entry.values() {
        Some([name, fields]) => match fields.values() {
            Some([_, text]) => Ok((text_of(name)?, text_of(text)?)),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

/// The cursor of the entry with this name: its number and its check.
fn cursor_of(start: Cursor, name: &str) -> io::Result<Cursor> {
    let (number, check) = name.split_once('-').ok_or_else(unexpected)?;
    let cursor = number.parse().ok().zip(check.parse().ok());
    cursor.and_then(|(number, check)| Cursor::of_parts(start.epoch(), check, number)).ok_or_else(unexpected)
}

fn text_of(value: &Value) -> io::Result<String> {
    Ok(String::from_utf8_lossy(value.as_bytes().ok_or_else(unexpected)?).into_owned())
}

fn unexpected() -> io::Error {
    io::Error::other("Redis has something else where this lesson has its log")
}
