//! The journal of one process: logs in memory, and in a file if they outlive the process.

use std::collections::{HashMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::disk::{Disk, Record};
use super::keys::{Key, Keys, LIFETIME};
use super::{Change, Draft, LogName, Refusal, Ticket};
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
    changes: VecDeque<Pending>,
    /// The number of the last asked message.
    asked: u64,
    disk: Option<Disk>,
    /// The number of the last record on the disk, or on the way to it.
    last_record: u64,
    /// The reason why the disk has last refused messages.
    trouble: Option<String>,
    /// Whether nothing is committed: a disk that does not answer.
    #[cfg(test)]
    pub is_held: bool,
    /// Whether another process is asked for what is not here.
    #[cfg(test)]
    pub is_asked_elsewhere: bool,
}

/// A change that follows when a record is committed.
#[derive(Debug)]
struct Pending {
    change: Change,
    /// The number of the record. 0 without a disk: all is committed.
    record: u64,
    /// What the change has changed already.
    undo: Option<Undo>,
}

/// The state before a message. It is that again if the disk refuses the message.
#[derive(Debug)]
struct Undo {
    tip: Cursor,
    key: Option<Key>,
}

impl Local {
    /// As [`Journal::open`](super::Journal::open).
    pub fn open(&mut self, log: &LogName, random: &mut Random) -> Cursor {
        if let Some(tip) = self.tips.get(log) {
            return *tip;
        }
        let start = Cursor::start(random);
        self.write(&Record::Start { log: log.into(), cursor: start });
        self.tips.insert(log.clone(), start);
        start
    }

    /// Appends a record that the disk takes at any time.
    fn write(&mut self, record: &Record<'_>) {
        if let Some(disk) = &self.disk {
            self.last_record = disk.append(record).unwrap_or(self.last_record);
        }
    }

    /// Answers later, as if another process had to be asked.
    #[cfg(test)]
    pub fn ask_elsewhere<T>(&mut self, wanted: super::Wanted) -> Option<T> {
        self.changes.push_back(Pending { change: Change::Answered(wanted), record: 0, undo: None });
        None
    }

    /// As [`Journal::remove`](super::Journal::remove).
    pub fn remove(&mut self, log: &LogName) {
        if self.tips.remove(log).is_some() {
            self.write(&Record::Remove { log: log.into() });
        }
    }

    /// As [`Journal::append`](super::Journal::append).
    pub fn append(&mut self, random: &mut Random, now: Instant, draft: Draft<'_>) -> Ticket {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        let pending = match draft.key.map_or(Ok(None), |key| self.keys.find(&key, now)) {
            Ok(None) => self.accept(random, now, draft, ticket),
            // The first message may be on its way to the disk.
            Ok(Some(first)) => {
                let change = Change::Repeated { ticket, cursor: first.cursor, timestamp: first.timestamp };
                Pending { change, record: self.last_record, undo: None }
            }
            Err(refusal) => Pending { change: Change::Refused { ticket, refusal }, record: 0, undo: None },
        };
        self.changes.push_back(pending);
        ticket
    }

    /// Gives a message its position.
    fn accept(&mut self, random: &mut Random, now: Instant, draft: Draft<'_>, ticket: Ticket) -> Pending {
        let tip = self.open(draft.log, random);
        let cursor = tip.next(random);
        let mut undo = None;
        if let Some(disk) = &self.disk {
            let (log, time) = (draft.log.into(), (draft.timestamp * 1000.0).round() as u64);
            match disk.append(&Record::Message { log, cursor, time, key: draft.key, body: &draft.body }) {
                Ok(record) => self.last_record = record,
                Err(reason) => {
                    return Pending { change: refused(ticket, &reason), record: 0, undo: None };
                }
            }
            undo = Some(Undo { tip, key: draft.key });
        }
        self.tips.insert(draft.log.clone(), cursor);
        if let Some(key) = draft.key {
            self.keys.store(key, cursor, draft.timestamp, now);
        }
        let change = Change::Appended { log: draft.log.clone(), cursor, body: draft.body, ticket: Some(ticket) };
        Pending { change, record: self.last_record, undo }
    }

    /// As [`Journal::next_change`](super::Journal::next_change). In memory, what is asked is committed at once.
    pub fn next_change(&mut self) -> Option<Change> {
        #[cfg(test)]
        if self.is_held {
            return None;
        }
        if let Some(disk) = &self.disk {
            let committed = disk.committed();
            let is_committed = self.changes.front().is_some_and(|pending| pending.record <= committed);
            if !is_committed {
                let reason = disk.failure()?;
                self.refuse_all(committed, &reason);
                self.trouble = Some(unavailable(&reason));
            }
        }
        self.changes.pop_front().map(|pending| pending.change)
    }

    /// Refuses all messages after a record: the disk has none of them.
    fn refuse_all(&mut self, committed: u64, reason: &str) {
        for pending in self.changes.iter_mut().rev().filter(|pending| pending.record > committed) {
            if let Change::Appended { ticket: Some(ticket), .. } | Change::Repeated { ticket, .. } = pending.change {
                let change = std::mem::replace(&mut pending.change, refused(ticket, reason));
                pending.record = 0;
                let (Change::Appended { log, .. }, Some(Undo { tip, key })) = (change, pending.undo.take()) else {
                    continue;
                };
                if let Some(newest) = self.tips.get_mut(&log).filter(|newest| newest.epoch() == tip.epoch()) {
                    *newest = tip;
                }
                if let Some(key) = key {
                    self.keys.forget(&key);
                }
            }
        }
    }

    /// As [`Journal::note_position`](super::Journal::note_position).
    pub fn note_position(&mut self, client: &str, log: &LogName, cursor: Cursor) {
        if self.disk.is_some() {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
            self.write(&Record::Position { client: client.into(), log: log.into(), cursor, time });
        }
    }

    /// As [`Journal::end_clients`](super::Journal::end_clients): no other process has them.
    pub fn end_clients(&mut self) -> Ticket {
        self.answer_at_once(|ticket| Change::Ended { ticket, is_known: false })
    }

    /// Nobody else is to be told.
    pub fn done(&mut self) -> Ticket {
        self.answer_at_once(|ticket| Change::Done { ticket })
    }

    /// Answers without the disk, and so before what waits for it.
    fn answer_at_once(&mut self, answer: impl FnOnce(Ticket) -> Change) -> Ticket {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.changes.push_front(Pending { change: answer(ticket), record: 0, undo: None });
        ticket
    }

    /// As [`Journal::trouble`](super::Journal::trouble).
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref().filter(|_| self.disk.as_ref().is_some_and(Disk::is_refusing))
    }

    /// Whether the messages are in a log on the disk.
    pub fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// As [`Journal::restore`](super::Journal::restore).
    pub fn restore(&mut self, change: &Change) {
        if let Change::Opened { log, start: tip } | Change::Appended { log, cursor: tip, .. } = change {
            self.tips.insert(log.clone(), *tip);
        }
    }

    /// As [`Journal::restore_key`](super::Journal::restore_key).
    pub fn restore_key(&mut self, key: Key, cursor: Cursor, time: u64, (now, system): (Instant, SystemTime)) {
        let age = system.duration_since(UNIX_EPOCH + std::time::Duration::from_millis(time)).unwrap_or_default();
        if age < LIFETIME {
            self.keys.restore(key, cursor, time as f64 / 1000.0, now + (LIFETIME - age));
        }
    }

    /// As [`Journal::continue_on`](super::Journal::continue_on).
    pub fn continue_on(&mut self, disk: Disk, logs: &[LogName]) {
        self.disk = Some(disk);
        for log in logs.iter().filter(|log| !self.tips.contains_key(log)).collect::<Vec<_>>() {
            self.write(&Record::Remove { log: log.into() });
        }
    }

    /// Bounds the number of idempotency keys. There are none yet.
    pub fn bound_keys(&mut self, most: usize) {
        self.keys = Keys::new(most);
    }

    /// As [`Journal::forget`](super::Journal::forget).
    pub fn forget(&mut self) {
        for log in std::mem::take(&mut self.tips).keys() {
            self.write(&Record::Remove { log: log.into() });
        }
        self.keys.clear();
    }

    /// As [`Journal::sweep`](super::Journal::sweep).
    pub fn sweep(&mut self, now: Instant) {
        self.keys.expire(now);
        self.keys.shrink();
        books::shrink_map(&mut self.tips);
        books::shrink_deque(&mut self.changes);
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

fn unavailable(reason: &str) -> String {
    format!("messages cannot be stored at present: {reason}")
}

fn refused(ticket: Ticket, reason: &str) -> Change {
    Change::Refused { ticket, refusal: Refusal::Unavailable(unavailable(reason)) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
