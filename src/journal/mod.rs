//! The journal: the logs of all rooms and mailboxes. The server asks it to append a message, and delivers the message
//! when it is committed.
//!
//! A feed is a replica of its log. A message is delivered, and its sender is answered, when it is committed, not
//! before. The server is the same for all journals: nothing in it asks which one it has.
//!
//! ```
//! use std::time::Instant;
//!
//! use overwire::journal::{Change, Draft, Journal, LogName};
//! use overwire::random::Random;
//!
//! let (mut journal, mut random) = (Journal::default(), Random::open()?);
//! let log = LogName::Room("tea".into());
//! let start = journal.open(&log, &mut random).expect("a journal in memory has all its logs");
//! let draft = Draft { log: &log, body: r#"{"text":"hello"}"#.into(), timestamp: 1700000000.5, key: None };
//! let asked = journal.append(&mut random, Instant::now(), draft);
//! match journal.next_change() {
//!     Some(Change::Appended { cursor, ticket, .. }) => {
//!         assert_eq!((cursor.epoch(), cursor.sequence()), (start.epoch(), 1));
//!         assert_eq!(ticket, Some(asked));
//!     }
//!     other => panic!("in memory, a message is committed at once: {other:?}"),
//! }
//! # std::io::Result::Ok(())
//! ```

mod change;
pub mod disk;
mod keys;
mod local;
pub mod redis;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

pub use self::change::{Asker, Change, NodeList, Refusal, SecretName, Ticket, Wanted};
use self::disk::Disk;
pub use self::keys::{KEYS, Key, bytes_of_keys};
use self::local::Local;
use self::redis::{Redis, RedisUrl};
use crate::books;
use crate::event_loop::{Event, EventLoop};
use crate::feed::Cursor;
use crate::identity::Digest;
use crate::random::Random;

/// The name of a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogName {
    /// The log of a room, by the name of the room.
    Room(Rc<str>),
    /// The log of a mailbox, by its `connection_id`.
    Mailbox(Rc<str>),
}

impl LogName {
    /// Returns the name of the room, or the id of the mailbox.
    pub fn name(&self) -> &Rc<str> {
        match self {
            LogName::Room(name) | LogName::Mailbox(name) => name,
        }
    }
}

/// A message to append.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The log.
    pub log: &'a LogName,
    /// The message as JSON without its id: an object with at least one member.
    pub body: String,
    /// The time in `body`, in seconds since the epoch. The answer to a retry repeats it.
    pub timestamp: f64,
    /// The idempotency key.
    pub key: Option<Key>,
}

/// The bounds of what is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The most messages of a room.
    pub messages: usize,
    /// The most bytes of the messages of a room, as JSON.
    pub bytes: usize,
    /// The time for which a room retains a message. `None` for no bound.
    pub time: Option<Duration>,
    /// The most rooms.
    pub rooms: usize,
}

impl Retention {
    /// The most messages of a mailbox, and the most bytes of them, as JSON.
    pub const MAILBOX: (usize, usize) = (100, 64 * 1024);

    /// Returns the most messages of a log, and the most bytes of them.
    pub fn of(&self, log: &LogName) -> (usize, usize) {
        match log {
            LogName::Room(_) => (self.messages, self.bytes),
            LogName::Mailbox(_) => Self::MAILBOX,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention { messages: 1000, bytes: 1024 * 1024, time: None, rooms: 256 }
    }
}

/// The logs of all rooms and mailboxes.
#[derive(Debug)]
pub enum Journal {
    /// The logs of this process alone.
    Local(Box<Local>),
    /// The logs that several processes share.
    Redis(Box<Redis>),
}

impl Default for Journal {
    /// A journal in memory.
    fn default() -> Self {
        Journal::Local(Box::default())
    }
}

impl Journal {
    /// Creates a journal in memory with at most this many idempotency keys.
    pub fn with_keys(most: usize) -> Self {
        let mut local = Local::default();
        local.bound_keys(most);
        Journal::Local(local.into())
    }

    /// Returns the most bytes that a journal in memory takes for this number of logs.
    pub fn bytes_of(logs: usize) -> usize {
        books::map_of::<LogName, Cursor>(logs)
    }

    /// Creates a journal in Redis. It connects when it is [flushed](Self::flush) for the first time.
    ///
    /// # Errors
    /// As [`Random::open`].
    pub fn redis(url: RedisUrl, retention: Retention, now: Instant) -> io::Result<Self> {
        Ok(Journal::Redis(Redis::new(url, retention, now)?.into()))
    }

    /// Returns the position after the newest asked message of a log. If there is no such log, creates it.
    ///
    /// `None` means that another process may have it. [`Change::Opened`] and [`Change::Answered`] follow.
    pub fn open(&mut self, log: &LogName, random: &mut Random) -> Option<Cursor> {
        match self {
            #[cfg(test)]
            Journal::Local(local) if local.is_asked_elsewhere => local.ask_elsewhere(Wanted::Log(log.clone())),
            Journal::Local(local) => Some(local.open(log, random)),
            Journal::Redis(redis) => redis.open(log),
        }
    }

    /// Creates a log whose name nobody else can have: it is random. Returns the position before its first message.
    pub fn create(&mut self, log: &LogName, random: &mut Random) -> Cursor {
        match self {
            Journal::Local(local) => local.open(log, random),
            Journal::Redis(redis) => redis.create(log),
        }
    }

    /// Looks for something that another process may have. Returns whether the answer follows: a change for each thing
    /// that is found, and then [`Change::Answered`].
    pub fn find(&mut self, wanted: &Wanted) -> bool {
        match self {
            #[cfg(test)]
            Journal::Local(local) if local.is_asked_elsewhere => local.ask_elsewhere::<()>(wanted.clone()).is_none(),
            Journal::Local(_) => false,
            Journal::Redis(redis) => redis.find(wanted),
        }
    }

    /// Nobody waits any more for what was [looked for](Self::find), or for a log that was [opened](Self::open). It need
    /// not be answered. A log that is not loaded yet is forgotten.
    pub fn give_up(&mut self, wanted: &Wanted) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.give_up(wanted),
        }
    }

    /// Removes a log from this process. Others that share it may go on. Does nothing if there is none.
    pub fn remove(&mut self, log: &LogName) {
        match self {
            Journal::Local(local) => local.remove(log),
            Journal::Redis(redis) => redis.remove(log),
        }
    }

    /// Removes a log from this process, and soon from all, if no other uses it: its creator has too many.
    pub fn shed(&mut self, log: &LogName) {
        match self {
            Journal::Local(local) => local.remove(log),
            Journal::Redis(redis) => redis.shed(log),
        }
    }

    /// Removes a log from all processes. Does nothing if there is none.
    pub fn delete(&mut self, log: &LogName) {
        match self {
            Journal::Local(local) => local.remove(log),
            Journal::Redis(redis) => redis.delete(log),
        }
    }

    /// Asks for a message to be appended. [`Appended`](Change::Appended), [`Repeated`](Change::Repeated) or
    /// [`Refused`](Change::Refused) follows with the returned number.
    pub fn append(&mut self, random: &mut Random, now: Instant, draft: Draft<'_>) -> Ticket {
        match self {
            Journal::Local(local) => local.append(random, now, draft),
            Journal::Redis(redis) => redis.append(now, draft),
        }
    }

    /// Returns the next change. The changes of one log are in the order of the log.
    pub fn next_change(&mut self) -> Option<Change> {
        match self {
            Journal::Local(local) => local.next_change(),
            Journal::Redis(redis) => redis.next_change(),
        }
    }

    /// Notes the position of a reader. `client` is the `client_id`, and empty for the one reader of a mailbox.
    pub fn note_position(&mut self, client: &str, log: &LogName, cursor: Cursor) {
        match self {
            Journal::Local(local) => local.note_position(client, log, cursor),
            Journal::Redis(redis) => redis.note_position(client, log, cursor),
        }
    }

    /// Notes that the positions of a client are dropped, for the other processes.
    pub fn drop_positions(&mut self, client: &str) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.drop_positions(client),
        }
    }

    /// Notes that this process has the newest reader of a mailbox. The others get [`Change::Superseded`].
    pub fn claim(&mut self, log: &LogName) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.claim(log),
        }
    }

    /// Notes that this process has no reader of a mailbox any more.
    pub fn unclaim(&mut self, log: &LogName) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.unclaim(log),
        }
    }

    /// Asks the other processes to end clients. [`Ended`](Change::Ended) follows with the returned number, or
    /// [`Refused`](Change::Refused) if one of them may not have done it.
    pub fn end_clients(&mut self, now: Instant, clients: &[String]) -> Ticket {
        match self {
            Journal::Local(local) => local.end_clients(),
            Journal::Redis(redis) => redis.end_clients(now, clients),
        }
    }

    /// Answers [`Change::EndClients`]. `is_known` says whether this process knew one of the clients.
    pub fn clients_ended(&mut self, asker: &Asker, is_known: bool) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.clients_ended(asker, is_known),
        }
    }

    /// Keeps the text of a secret for the other processes, until it is used up, dropped, or idle for too long.
    /// [`Done`](Change::Done) follows with the returned number, or [`Refused`](Change::Refused).
    pub fn keep_secret(&mut self, name: SecretName, text: &str) -> Ticket {
        match self {
            Journal::Local(local) => local.done(),
            Journal::Redis(redis) => redis.keep_secret(name, text),
        }
    }

    /// Drops a session. The other processes get [`Change::Secret`]. [`Done`](Change::Done) follows with the returned
    /// number, or [`Refused`](Change::Refused) if they may not know.
    pub fn drop_session(&mut self, session: Digest) -> Ticket {
        match self {
            Journal::Local(local) => local.done(),
            Journal::Redis(redis) => redis.drop_session(session),
        }
    }

    /// Returns the processes that share the logs. `None` if the logs are those of this process alone.
    pub fn nodes(&self, now: Instant) -> Option<NodeList<'_>> {
        match self {
            Journal::Local(_) => None,
            Journal::Redis(redis) => Some(redis.nodes(now)),
        }
    }

    /// Sends the other processes the numbers of this one, as JSON. [`Change::NumbersWanted`] says when.
    pub fn announce(&mut self, now: Instant, json: &str) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.announce(now, json),
        }
    }

    /// Notes that a reader has come or gone: the numbers of this process have changed.
    pub fn readers_changed(&mut self) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.readers_changed(),
        }
    }

    /// Tells the other processes that this one ends.
    pub fn leave(&mut self) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.leave(),
        }
    }

    /// Returns the time after which an unused log is to be [removed](Self::remove): it is loaded again when it is used.
    /// `None` if there is no copy elsewhere, or if it cannot be loaded now.
    pub fn idle_time(&self) -> Option<Duration> {
        match self {
            Journal::Local(_) => None,
            Journal::Redis(redis) => redis.idle_time(),
        }
    }

    /// Notes a change of an earlier process, which has left it on a disk.
    pub fn restore(&mut self, change: &Change) {
        match self {
            Journal::Local(local) => local.restore(change),
            Journal::Redis(_) => {} // it needs no disk of its own
        }
    }

    /// Notes a key of an earlier process, the position after its message, and the time of the message in milliseconds
    /// since the epoch. `now` is the current time by both clocks. The keys come in the order of their times.
    pub fn restore_key(&mut self, key: Key, cursor: Cursor, time: u64, now: (Instant, SystemTime)) {
        match self {
            Journal::Local(local) => local.restore_key(key, cursor, time, now),
            Journal::Redis(_) => {}
        }
    }

    /// Continues the log on a disk. `logs` are all logs on it. Those that were not restored, or were removed since, are
    /// removed from it.
    pub fn continue_on(&mut self, disk: Disk, logs: &[LogName]) {
        match self {
            Journal::Local(local) => local.continue_on(disk, logs),
            Journal::Redis(_) => {}
        }
    }

    /// Takes an event of a connection or a timer of the journal. Returns whether it was one.
    pub fn on_event(&mut self, event_loop: &mut EventLoop, event: &Event) -> bool {
        match self {
            Journal::Local(_) => false,
            Journal::Redis(redis) => redis.on_event(event_loop, event),
        }
    }

    /// Sends what was asked. It is to be called before the loop waits for the next event.
    pub fn flush(&mut self, event_loop: &mut EventLoop) {
        match self {
            Journal::Local(_) => {}
            Journal::Redis(redis) => redis.flush(event_loop),
        }
    }

    /// Returns where messages are kept: `memory`, `file` or `redis`.
    pub fn kind(&self) -> &'static str {
        match self {
            Journal::Local(local) if local.has_disk() => "file",
            Journal::Local(_) => "memory",
            Journal::Redis(_) => "redis",
        }
    }

    /// Returns the reason why nothing can be appended at present: a sentence. `None` if there is none.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Journal::Local(local) => local.trouble(),
            Journal::Redis(redis) => redis.trouble(),
        }
    }

    /// Makes a journal in memory commit nothing, or go on.
    #[cfg(test)]
    pub fn hold(&mut self, is_held: bool) {
        match self {
            Journal::Local(local) => local.is_held = is_held,
            Journal::Redis(_) => {}
        }
    }

    /// Makes a journal in memory look for each log as if another process could have it, until it is held no more.
    #[cfg(test)]
    pub fn ask_elsewhere(&mut self, is_asked_elsewhere: bool) {
        match self {
            Journal::Local(local) => local.is_asked_elsewhere = is_asked_elsewhere,
            Journal::Redis(_) => {}
        }
    }

    /// Removes all logs and all keys.
    pub fn forget(&mut self) {
        match self {
            Journal::Local(local) => local.forget(),
            Journal::Redis(redis) => redis.forget(),
        }
    }

    /// Removes the keys whose time is over, and gives back memory.
    pub fn sweep(&mut self, now: Instant) {
        match self {
            Journal::Local(local) => local.sweep(now),
            Journal::Redis(redis) => redis.sweep(now),
        }
    }

    /// Returns the number of bytes that the idempotency keys take.
    pub fn key_bytes(&self) -> usize {
        match self {
            Journal::Local(local) => local.key_bytes(),
            Journal::Redis(_) => 0, // Redis has them
        }
    }

    /// Returns the number of bytes that the rest takes.
    pub fn bytes(&self) -> usize {
        match self {
            Journal::Local(local) => local.bytes(),
            Journal::Redis(redis) => redis.bytes(),
        }
    }
}
