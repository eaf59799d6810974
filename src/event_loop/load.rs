//! The work of a loop, counted for an operator. All times are readings of the clock that the loop takes anyway.

use std::time::Instant;

use super::EventLoop;
use crate::histogram::Histogram;

/// One more than the largest status code (RFC 9110, section 15).
const STATUS_CODES: usize = 600;

/// The counts.
pub(super) struct Load {
    rounds: Histogram,
    /// The begin of the round.
    began: Option<Instant>,
    /// The first flush since one was last waited for.
    flushed: Option<Instant>,
    /// The number of answers with each status.
    answers: Vec<u64>,
    refused: u64,
}

impl Load {
    pub fn new() -> Self {
        Load { rounds: Histogram::default(), began: None, flushed: None, answers: vec![0; STATUS_CODES], refused: 0 }
    }

    /// The loop has slept.
    pub fn begin_round(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// The loop has nothing more to do, or has looked at its sockets. All that was queued before is written.
    pub fn end_round(&mut self, now: Instant) {
        self.flushed.get_or_insert(now);
        if let Some(began) = self.began.take() {
            self.rounds.record(now.saturating_duration_since(began));
        }
    }

    pub fn count_answer(&mut self, status: u16) {
        if let Some(count) = self.answers.get_mut(usize::from(status)) {
            *count += 1;
        }
    }

    /// A connection beyond the limit is refused.
    pub fn count_refusal(&mut self) {
        self.refused += 1;
    }
}

impl EventLoop {
    /// Returns the time of each round so far: from the end of a sleep to the next one, without the sleep. Its sum is the
    /// time in which the loop was busy.
    pub fn rounds(&self) -> &Histogram {
        &self.load.rounds
    }

    /// Waits for the next flush, whose time [`flushed_at`](Self::flushed_at) returns.
    pub fn await_flush(&mut self) {
        self.load.flushed = None;
    }

    /// Returns the time of the first flush since [`await_flush`](Self::await_flush): all that was queued before it, and
    /// that sockets took, is written. `None` if none has come.
    pub fn flushed_at(&self) -> Option<Instant> {
        self.load.flushed
    }

    /// Returns the number of answers of each status code so far, also to requests that were malformed.
    pub fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.load.answers.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(status, count)| (status as u16, *count))
    }

    /// Returns the number of connections that were refused because there were too many.
    pub fn refused_connections(&self) -> u64 {
        self.load.refused
    }
}
