//! The records between the event loop and the writer. The loop appends and never waits. The writer takes all there is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::index::Place;
use super::record::{Log, LogKind, Record};
use super::segment::Records;
use crate::feed::Cursor;

/// The longest queue, in bytes. A disk that is this far behind takes no more messages.
pub const LONGEST_QUEUE: usize = 64 * 1024 * 1024;

/// The time that the writer has for the rest of the queue at the end.
const FINISH_TIME: Duration = Duration::from_secs(5);

/// What the loop and the writer share.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// The number of the last committed record.
    committed: AtomicU64,
    /// Whether the loop has to learn of a failure.
    has_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<u8>,
    /// The number of the last appended record.
    appended: u64,
    health: Health,
    /// What logs there are, while the disk takes no records.
    logs: Logs,
    is_waiting: bool,
    is_closed: bool,
    is_finished: bool,
}

/// Whether the disk takes records.
#[derive(Debug, Default, PartialEq)]
enum Health {
    #[default]
    Good,
    /// It does not, for this reason, and the loop does not know it yet. What the loop appends is discarded.
    Failed(String),
    /// It does not, and the loop knows it.
    Known(String),
}

/// A group of records for one write.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The records.
    pub records: Vec<u8>,
    /// The number of the last one.
    pub last: u64,
    /// No others follow.
    pub is_last: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record, and returns its number.
    ///
    /// # Errors
    /// The reason why the disk takes no messages.
    pub fn append(&self, record: &Record<'_>) -> Result<u64, String> {
        let mut state = self.lock();
        match &state.health {
            Health::Known(reason) if matches!(record, Record::Message { .. }) => return Err(reason.clone()),
            Health::Good if state.records.len() > LONGEST_QUEUE && matches!(record, Record::Message { .. }) => {
                return Err("the disk is too slow".into());
            }
            Health::Good => record.encode(&mut state.records),
            Health::Failed(_) | Health::Known(_) => state.logs.note(record),
        }
        state.appended += 1;
        if state.is_waiting && state.health == Health::Good {
            self.changed.notify_all();
        }
        Ok(state.appended)
    }

    /// Returns the number of the last committed record.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Notes that the records up to this number are committed.
    pub fn commit(&self, last: u64) {
        self.committed.store(last, Ordering::Release);
    }

    /// Takes all records. Waits for the first one for at most this time, or without end.
    pub fn take(&self, timeout: Option<Duration>, mut spare: Vec<u8>) -> Group {
        spare.clear();
        let mut state = self.lock();
        if state.records.is_empty() && !state.is_closed {
            state.is_waiting = true;
            let is_idle = |state: &mut State| state.records.is_empty() && !state.is_closed;
            state = match timeout {
                Some(timeout) => {
                    let waited = self.changed.wait_timeout_while(state, timeout, is_idle);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
            };
            state.is_waiting = false;
        }
        Group { records: std::mem::replace(&mut state.records, spare), last: state.appended, is_last: state.is_closed }
    }

    /// Notes that the disk takes no records. `lost` are records that were taken and are not in the log.
    pub fn fail(&self, reason: String, lost: &[u8]) {
        let mut state = self.lock();
        let queued = std::mem::take(&mut state.records);
        for records in [lost, &queued] {
            Records::new(records, 0, 0).flatten().for_each(|(_, record): (Place, Record<'_>)| state.logs.note(&record));
        }
        state.health = Health::Failed(reason);
        self.has_failed.store(true, Ordering::Release);
    }

    /// Whether messages are refused.
    pub fn is_refusing(&self) -> bool {
        self.lock().health != Health::Good
    }

    /// Waits for this time while the disk takes no records. Returns what logs must be started and removed before it does
    /// again. `None` if no attempt makes sense: the loop does not know the failure yet.
    pub fn pause(&self, time: Duration) -> Option<Vec<u8>> {
        let is_open = |state: &mut State| !state.is_closed;
        let waited = self.changed.wait_timeout_while(self.lock(), time, is_open);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        matches!(state.health, Health::Known(_)).then(|| state.logs.records())
    }

    /// Whether no records follow.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Notes that the disk takes records again. `written` are the records of [`pause`](Queue::pause). Returns whether
    /// nothing was added to them in the meantime.
    pub fn recover(&self, written: &[u8]) -> bool {
        let mut state = self.lock();
        let is_whole = state.logs.records() == written;
        if is_whole {
            state.logs = Logs::default();
            state.health = Health::Good;
            self.commit(state.appended);
        }
        is_whole
    }

    /// Returns the reason why the disk has stopped taking records, once.
    pub fn take_failure(&self) -> Option<String> {
        if !self.has_failed.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut state = self.lock();
        let Health::Failed(reason) = &mut state.health else { return None };
        let reason = std::mem::take(reason);
        state.health = Health::Known(reason.clone());
        Some(reason)
    }

    /// Lets the writer write the rest and end, and waits for it, but not for more than a few seconds.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.changed.notify_all();
        let _ = self.changed.wait_timeout_while(state, FINISH_TIME, |state| !state.is_finished);
    }

    /// Notes that the writer has ended.
    pub fn note_finished(&self) {
        self.lock().is_finished = true;
        self.changed.notify_all();
    }
}

/// What happened to logs while the disk took no records. Messages are refused in that time, but rooms are opened and
/// removed. It has at most one entry for each log that there is, and for each log on the disk that there is no more.
#[derive(Debug, Default)]
struct Logs(HashMap<(LogKind, String), LogChange>);

#[derive(Debug, Default)]
struct LogChange {
    is_removed: bool,
    start: Option<Cursor>,
}

impl Logs {
    fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::Start { log, cursor } => self.0.entry(key(log)).or_default().start = Some(*cursor),
            Record::Remove { log } => match self.0.get_mut(&key(log)) {
                Some(change) if change.is_removed => change.start = None,
                Some(_) => drop(self.0.remove(&key(log))),
                None => drop(self.0.insert(key(log), LogChange { is_removed: true, start: None })),
            },
            _ => {}
        }
    }

    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for ((kind, name), change) in &self.0 {
            let log = Log { kind: *kind, name: name.into() };
            if change.is_removed {
                Record::Remove { log: log.clone() }.encode(&mut out);
            }
            if let Some(cursor) = change.start {
                Record::Start { log, cursor }.encode(&mut out);
            }
        }
        out
    }
}

fn key(log: &Log<'_>) -> (LogKind, String) {
    (log.kind, log.name.clone().into_owned())
}
