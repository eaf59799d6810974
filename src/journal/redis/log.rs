//! The replica of one log: the positions of its messages, without the messages.
//!
//! A log is followed in three steps. The node subscribes to the notices of the log. When Redis has confirmed that, the
//! node reads the stream: all that is appended later comes as a notice. From then on the notices are enough. One that
//! is missing leaves a gap in the sequence, and the stream fills it.
//!
//! The positions show whether Redis has lost messages. After a new connection the stream is read from the newest known
//! position on. If the stream does not have that position, it was lost, and the newest position that both have is where
//! the log continues.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entries::Entry;
use crate::feed::{Cursor, Feed};
use crate::journal::Wanted;

/// The longest wait for the notice that fills a gap before a message of this node.
const GAP_TIME: Duration = Duration::from_millis(50);

/// The interval at which the life of a log is extended.
const KEEP_INTERVAL: Duration = Duration::from_secs(40);

/// The most bytes of notices that are kept while the stream is read.
const MOST_AHEAD: usize = 1024 * 1024;

/// Whether a log is created if Redis does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// No.
    Never,
    /// Yes, each time under a new epoch.
    Fresh,
    /// Yes, with this position before its first message. Afterwards never again.
    At(Cursor),
}

/// The progress of following a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no connection.
    Apart,
    /// Redis is to confirm the subscription.
    Subscribing,
    /// Redis is to answer with what is in the stream. The replica does not change until then.
    Reading,
    /// Redis could not answer. It is asked again at this time.
    Failed(Instant),
    /// The notices are enough.
    Current,
}

/// Whether this node has the newest reader of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It has none.
    None,
    /// It has. The notice with this number says so, and has not come back yet.
    Asked(u64),
    /// It had when the notice came back, and has heard of no newer one.
    Held,
}

/// The place of a position in a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// After the newest message.
    Next,
    /// The replica has it, or has had it.
    Known,
    /// After a gap.
    Ahead,
    /// In another log of the same name, or in another history of this one.
    Foreign,
}

/// A change of a replica.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The first position of the replica is known.
    Opened(Cursor),
    /// The messages after this position are lost.
    Truncated(Cursor),
    /// A message follows.
    Appended(Entry),
}

/// The replica of one log.
#[derive(Debug)]
pub struct Log {
    /// Whether it is created if Redis does not have it.
    pub creation: Creation,
    /// What is to be answered as soon as the stream is read.
    pub wanted: Vec<Wanted>,
    /// The progress.
    pub phase: Phase,
    /// The number of the newest read. The reply to an older one is out of date.
    pub read: u64,
    /// Whether this node has the newest reader.
    pub claim: Claim,
    most: (usize, usize),
    /// `None` until the stream is read for the first time.
    positions: Option<Feed<()>>,
    /// Messages after a gap, or that arrive during a read.
    ahead: BTreeMap<u64, Entry>,
    ahead_bytes: usize,
    /// A message of this node that is after a gap: its sequence, and the end of the wait.
    gap: Option<(u64, Instant)>,
    /// The time at which its life was extended.
    kept: Option<Instant>,
}

impl Log {
    /// Creates the replica of a log. It retains at most this number of messages and of bytes.
    pub fn new(creation: Creation, most: (usize, usize)) -> Self {
        let positions = match creation {
            Creation::At(start) => Some(Feed::new(start, most.0, most.1)),
            _ => None,
        };
        Log {
            creation,
            wanted: Vec::new(),
            phase: Phase::Apart,
            read: 0,
            claim: Claim::None,
            most,
            positions,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            gap: None,
            kept: None,
        }
    }

    /// Returns the position after the newest message. `None` if the stream is to be read first: then this is answered.
    pub fn want(&mut self, wanted: Wanted) -> Option<Cursor> {
        let tip = self.tip();
        if tip.is_none() && !self.wanted.contains(&wanted) {
            self.wanted.push(wanted);
        }
        tip
    }

    /// Returns the position after the newest message. `None` until the stream is read for the first time.
    pub fn tip(&self) -> Option<Cursor> {
        self.positions.as_ref().map(Feed::tip)
    }

    /// Whether it is known to have had no message.
    pub fn is_unused(&self) -> bool {
        self.tip().is_some_and(|tip| tip.sequence() == 0)
    }

    /// The connection is lost.
    pub fn disconnect(&mut self) {
        self.phase = Phase::Apart;
        self.read += 1;
        self.gap = None;
        self.take_ahead();
    }

    /// Whether its notices come.
    pub fn is_subscribed(&self) -> bool {
        !matches!(self.phase, Phase::Apart | Phase::Subscribing)
    }

    /// Returns the number of a read that begins now.
    pub fn begin_read(&mut self) -> u64 {
        self.phase = Phase::Reading;
        self.gap = None;
        self.read += 1;
        self.read
    }

    /// Returns the place of a position.
    pub fn place(&self, cursor: Cursor) -> Place {
        let Some(positions) = &self.positions else { return Place::Ahead };
        let tip = positions.tip();
        if positions.is_next(cursor) {
            Place::Next
        } else if cursor.epoch() != tip.epoch() {
            Place::Foreign
        } else if cursor.sequence() > tip.sequence() {
            Place::Ahead
        } else if cursor.sequence() < positions.last(usize::MAX).sequence() || positions.replay(cursor).recovered {
            Place::Known
        } else {
            Place::Foreign
        }
    }

    /// Takes a message that follows the newest one, if it does and nothing is being read. Returns its place.
    pub fn append(&mut self, cursor: Cursor, bytes: usize, now: Instant) -> Place {
        let place = self.place(cursor);
        match (place, self.phase, &mut self.positions) {
            (Place::Next, Phase::Current, Some(positions)) => positions.append(cursor, (), bytes),
            (Place::Next, ..) => return Place::Ahead,
            (Place::Ahead, Phase::Current, _) => {
                self.gap.get_or_insert((cursor.sequence(), now + GAP_TIME));
            }
            _ => {}
        }
        place
    }

    /// Whether the replica is current, and has the message at this position.
    pub fn has(&self, cursor: Cursor) -> bool {
        self.phase == Phase::Current && self.place(cursor) == Place::Known
    }

    /// Takes a line of a notice. Returns whether the stream is to be read.
    pub fn notice(&mut self, entry: Entry, steps: &mut Vec<Step>) -> bool {
        match (self.phase, self.place(entry.cursor)) {
            (Phase::Current, Place::Next) => {
                self.step(entry, steps);
                false
            }
            (Phase::Current, Place::Known) => false,
            (Phase::Current, Place::Ahead | Place::Foreign) => {
                self.keep(entry);
                true
            }
            (Phase::Apart, _) => false,
            (Phase::Subscribing | Phase::Reading | Phase::Failed(_), _) => {
                self.keep(entry);
                false
            }
        }
    }

    /// Takes what a read has found. The first entry is a position: the newest of the replica, if the stream has it, or
    /// else the one before all messages of the stream. Returns whether the stream is to be read again.
    pub fn load(&mut self, entries: Vec<Entry>, steps: &mut Vec<Step>) -> bool {
        self.phase = Phase::Current;
        if let Creation::At(_) = self.creation {
            self.creation = Creation::Never;
        }
        let common = self.continue_at(&entries, steps);
        for entry in entries.into_iter().skip(common + 1) {
            match self.place(entry.cursor) {
                Place::Next => self.step(entry, steps),
                _ => self.truncate(entry.cursor, steps), // somebody has deleted the entry before this one
            }
        }
        let mut is_behind = false;
        for entry in self.take_ahead().into_values() {
            match self.place(entry.cursor) {
                Place::Next => self.step(entry, steps),
                Place::Known => {}
                Place::Ahead | Place::Foreign => {
                    is_behind = true;
                    self.keep(entry);
                }
            }
        }
        is_behind
    }

    /// Finds the newest of these positions that the replica has, and continues there. Returns its place in the list.
    fn continue_at(&mut self, entries: &[Entry], steps: &mut Vec<Step>) -> usize {
        let Some(positions) = &mut self.positions else {
            let start = entries[0].cursor;
            self.positions = Some(Feed::new(start, self.most.0, self.most.1));
            steps.push(Step::Opened(start));
            return 0;
        };
        let common = entries.iter().rposition(|entry| positions.replay(entry.cursor).recovered).unwrap_or(0);
        let tip = entries[common].cursor;
        if tip != positions.tip() {
            self.truncate(tip, steps);
        }
        common
    }

    fn truncate(&mut self, tip: Cursor, steps: &mut Vec<Step>) {
        if let Some(positions) = &mut self.positions {
            positions.truncate(tip);
            steps.push(Step::Truncated(tip));
        }
    }

    fn step(&mut self, entry: Entry, steps: &mut Vec<Step>) {
        if let Some(positions) = &mut self.positions {
            positions.append(entry.cursor, (), entry.body.len());
            steps.push(Step::Appended(entry));
        }
    }

    /// Keeps a message until the stream is read. If there are too many, it is found by another read.
    fn keep(&mut self, entry: Entry) {
        self.ahead_bytes += entry.body.len();
        let replaced = self.ahead.insert(entry.cursor.sequence(), entry);
        let dropped = if self.ahead_bytes > MOST_AHEAD { self.ahead.pop_first() } else { None };
        let lengths = [replaced, dropped.map(|(_, entry)| entry)].into_iter().flatten().map(|entry| entry.body.len());
        self.ahead_bytes -= lengths.sum::<usize>();
    }

    fn take_ahead(&mut self) -> BTreeMap<u64, Entry> {
        self.ahead_bytes = 0;
        std::mem::take(&mut self.ahead)
    }

    /// Returns the time at which [`is_due`](Self::is_due) is to be asked.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Failed(until) => Some(until),
            Phase::Current => self.gap.map(|(_, until)| until),
            _ => None,
        }
    }

    /// Whether the stream is to be read because of the time.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return false;
        }
        let gap = self.gap.take();
        let is_filled = |(sequence, _)| self.tip().is_some_and(|tip| tip.sequence() >= sequence);
        self.phase != Phase::Current || !gap.is_some_and(is_filled)
    }

    /// Whether its life is to be extended now.
    pub fn is_to_be_kept(&mut self, now: Instant) -> bool {
        let kept = *self.kept.get_or_insert(now);
        let is_due = self.phase == Phase::Current && kept + KEEP_INTERVAL <= now;
        if is_due {
            self.kept = Some(now);
        }
        is_due
    }

    /// Returns about the number of bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.positions.as_ref().map_or(0, Feed::memory) + self.ahead_bytes
    }
}
