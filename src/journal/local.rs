//! The journal of one process: logs in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::keys::Keys;
use super::{Change, Draft, LogName, Ticket};
use crate::books;
use crate::feed::Cursor;
use crate::random::Random;

/// The logs of one process. It has their positions and the keys. The messages are in the feeds of the server.
#[derive(Debug, Default)]
pub struct Local {
    /// The position after the newest asked message of each log.
    tips: HashMap<LogName, Cursor>,
    keys: Keys,
    /// The changes that [`next_change`](Local::next_change) has not returned yet.
    changes: VecDeque<Change>,
    /// The number of the last asked message.
    asked: u64,
    /// Whether nothing is committed: a disk that does not answer.
    #[cfg(test)]
    pub is_held: bool,
    /// Whether another process is asked for what is not here.
    #[cfg(test)]
    pub is_asked_elsewhere: bool,
}

impl Local {
    /// As [`Journal::open`](super::Journal::open).
    pub fn open(&mut self, log: &LogName, random: &mut Random) -> Cursor {
        *self.tips.entry(log.clone()).or_insert_with(|| Cursor::start(random))
    }

    /// Answers later, as if another process had to be asked.
    #[cfg(test)]
    pub fn ask_elsewhere<T>(&mut self, wanted: super::Wanted) -> Option<T> {
        self.changes.push_back(Change::Answered(wanted));
        None
    }

    /// As [`Journal::remove`](super::Journal::remove).
    pub fn remove(&mut self, log: &LogName) {
        self.tips.remove(log);
    }

    /// As [`Journal::append`](super::Journal::append).
    pub fn append(&mut self, random: &mut Random, now: Instant, draft: Draft<'_>) -> Ticket {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        let change = match draft.key.map_or(Ok(None), |key| self.keys.find(&key, now)) {
            Ok(None) => self.accept(random, now, draft, ticket),
            Ok(Some(first)) => Change::Repeated { ticket, cursor: first.cursor, timestamp: first.timestamp },
            Err(refusal) => Change::Refused { ticket, refusal },
        };
        self.changes.push_back(change);
        ticket
    }

    /// Gives a message its position.
    fn accept(&mut self, random: &mut Random, now: Instant, draft: Draft<'_>, ticket: Ticket) -> Change {
        let tip = self.tips.entry(draft.log.clone()).or_insert_with(|| Cursor::start(random));
        *tip = tip.next(random);
        let cursor = *tip;
        if let Some(key) = draft.key {
            self.keys.store(key, cursor, draft.timestamp, now);
        }
        Change::Appended { log: draft.log.clone(), cursor, body: draft.body, ticket: Some(ticket) }
    }

    /// As [`Journal::next_change`](super::Journal::next_change). In memory, what is asked is committed at once.
    pub fn next_change(&mut self) -> Option<Change> {
        #[cfg(test)]
        if self.is_held {
            return None;
        }
        self.changes.pop_front()
    }

    /// As [`Journal::forget`](super::Journal::forget).
    pub fn forget(&mut self) {
        self.tips = HashMap::new();
        self.keys = Keys::default();
    }

    /// As [`Journal::sweep`](super::Journal::sweep).
    pub fn sweep(&mut self, now: Instant) {
        self.keys.expire(now);
        self.keys.shrink();
        books::shrink_map(&mut self.tips);
    }

    /// As [`Journal::key_bytes`](super::Journal::key_bytes).
    pub fn key_bytes(&self) -> usize {
        self.keys.bytes()
    }

    /// As [`Journal::bytes`](super::Journal::bytes). The names of logs are shared with the server, and are in its books.
    pub fn bytes(&self) -> usize {
        books::map(&self.tips) + books::deque(&self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Key, Refusal};

    fn room(name: &str) -> LogName {
        LogName::Room(name.into())
    }

    /// Appends a message, and returns the one change that follows.
    fn append(local: &mut Local, random: &mut Random, log: &LogName, text: &str, key: Option<&str>) -> Change {
        let epoch = local.open(log, random).epoch();
        let key = key.map(|key| Key::new(epoch, key, "ada", text));
        let draft = Draft { log, body: format!(r#"{{"text":"{text}"}}"#), timestamp: text.len() as f64, key };
        let ticket = local.append(random, Instant::now(), draft);
        assert_eq!(ticket, Ticket(local.asked));
        let change = local.next_change().unwrap();
        assert_eq!(local.next_change(), None);
        change
    }

    #[test]
    fn the_messages_of_a_log_are_numbered() {
        let (mut local, mut random) = (Local::default(), Random::open().unwrap());
        let (tea, mailbox) = (room("tea"), LogName::Mailbox("tea".into()));
        let starts = [&tea, &mailbox].map(|log| local.open(log, &mut random));
        assert_ne!(starts[0].epoch(), starts[1].epoch());
        for (number, (log, sequence)) in (1..).zip([(&tea, 1), (&mailbox, 1), (&tea, 2)]) {
            let Change::Appended { log: name, cursor, body, ticket } = append(&mut local, &mut random, log, "x", None)
            else {
                panic!("it is committed");
            };
            let start = starts[usize::from(*log == mailbox)];
            assert_eq!((&name, cursor.epoch(), cursor.sequence()), (log, start.epoch(), sequence));
            assert_eq!((body.as_str(), ticket), (r#"{"text":"x"}"#, Some(Ticket(number))));
            assert_eq!(local.open(log, &mut random), cursor);
        }
        local.remove(&tea);
        assert_ne!(local.open(&tea, &mut random).epoch(), starts[0].epoch());
        local.forget();
        assert_ne!(local.open(&mailbox, &mut random).epoch(), starts[1].epoch());
    }

    #[test]
    fn a_known_key_is_answered_as_its_first_message() {
        let (mut local, mut random) = (Local::default(), Random::open().unwrap());
        let (tea, coffee) = (room("tea"), room("coffee"));
        let Change::Appended { cursor, .. } = append(&mut local, &mut random, &tea, "abc", Some("1")) else {
            panic!("it is new");
        };
        let repeated = Change::Repeated { ticket: Ticket(2), cursor, timestamp: 3.0 };
        assert_eq!(append(&mut local, &mut random, &tea, "abc", Some("1")), repeated);
        let refused = Change::Refused { ticket: Ticket(3), refusal: Refusal::Conflict };
        assert_eq!(append(&mut local, &mut random, &tea, "other", Some("1")), refused);
        assert_eq!(local.open(&tea, &mut random), cursor);
        for (log, key) in [(&tea, None), (&tea, Some("2")), (&coffee, Some("1"))] {
            assert!(matches!(append(&mut local, &mut random, log, "abc", key), Change::Appended { .. }));
        }
        local.forget();
        assert!(matches!(append(&mut local, &mut random, &tea, "other", Some("1")), Change::Appended { .. }));
    }
}
