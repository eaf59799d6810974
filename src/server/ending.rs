//! The end of the server, in steps: its clients come to another process without a rush, and without loss.
//!
//! After a shutdown the server is not ready, but it goes on for [`Drain::delay`], until a load balancer has noticed.
//! Then it stops listening, and ends what it holds one after the other over [`Drain::time`]. What is not ended yet goes
//! on as before: a poll that is answered by a message comes again on its connection, until its turn to end. At last it refuses new requests, and waits until all senders have their answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Server;
use super::exchanges::EndReason;
use crate::event_loop::{ExchangeId, TimerId};

/// The largest interval between two ends. So a server with few clients ends soon.
const LARGEST_INTERVAL: Duration = Duration::from_millis(5);

/// The longest delay that is made up for at once. After a longer one, such as that of a message to all, the ends of the
/// delay are spread over the rest of the time.
const LARGEST_DELAY: Duration = Duration::from_millis(20);

/// The time in which the last ends reach their clients.
const LAST: Duration = Duration::from_secs(1);

/// The times in which a server ends.
///
/// ```
/// use std::time::Duration;
/// use overwire::server::{Config, Drain};
///
/// let drain = Drain { delay: Duration::from_secs(10), ..Drain::default() };
/// assert_eq!(drain.time, Duration::from_secs(5));
/// let config = Config { drain, ..Config::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// The time between a shutdown and the end of listening. `GET /health/ready` is answered with 503 in it, and
    /// everything else as before.
    pub delay: Duration,
    /// The time from the end of listening to the end of the server. Over most of it, polls, streams and WebSockets are
    /// ended, evenly. In the rest, but in one second of it at most, the last ends reach their clients. At least 200 are
    /// ended in a second, so a server with few clients needs less.
    pub time: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { delay: Duration::ZERO, time: Duration::from_secs(5) }
    }
}

/// The step that the server is at.
pub enum Phase {
    /// No shutdown yet.
    Serving,
    /// It is not ready, but goes on as before, until this timer.
    Delaying(TimerId),
    /// It does not listen any more, and ends what it holds.
    Spreading(Spread),
    /// It refuses new requests, and waits for the senders. At this time, all connections are to be over.
    Finishing(Instant),
}

/// The ends that are spread over a time.
pub struct Spread {
    /// Those that are to end. In the order of a hash table, which is random.
    queue: VecDeque<ExchangeId>,
    /// The time of the next end.
    next: Instant,
    /// The time of the last end.
    until: Instant,
    /// The time at which all connections are to be over.
    over_by: Instant,
    timer: TimerId,
}

impl Spread {
    /// Removes and returns those that are to end by now. `held` returns what is held on a connection now: a poll that was
    /// answered since has a successor. `count` is the number of all that are held.
    fn take_due(
        &mut self,
        now: Instant,
        count: usize,
        held: impl Fn(ExchangeId) -> Option<ExchangeId>,
    ) -> Vec<ExchangeId> {
        let mut due = Vec::new();
        self.next = self.next.max(now.checked_sub(LARGEST_DELAY).unwrap_or(now));
        while self.next <= now || self.until <= now {
            let Some(id) = self.queue.pop_front() else { break };
            if let Some(id) = held(id) {
                let left = self.until.saturating_duration_since(self.next);
                self.next += LARGEST_INTERVAL.min(left / count.saturating_sub(due.len()).max(1) as u32);
                due.push(id);
            }
        }
        due
    }
}

impl Server {
    /// Whether new requests and messages are refused.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.phase, Phase::Finishing(_))
    }

    /// The shutdown has begun.
    pub(super) fn on_shutdown(&mut self) {
        match self.drain.delay {
            Duration::ZERO => self.begin_spread(),
            delay => {
                self.exchanges.event_loop.keep_connections();
                self.phase = Phase::Delaying(self.exchanges.event_loop.set_timer(delay));
            }
        }
    }

    /// Goes on with the end, if this is its timer. Returns whether it is.
    pub(super) fn on_end_timer(&mut self, timer: TimerId) -> bool {
        match &self.phase {
            Phase::Delaying(delay) if *delay == timer => self.begin_spread(),
            Phase::Spreading(spread) if spread.timer == timer => self.end_some(),
            _ => return false,
        }
        true
    }

    /// Returns the time that the connections have to end, after all is answered.
    pub(super) fn time_left(&self) -> Duration {
        let over_by = if let Phase::Finishing(over_by) = self.phase { over_by } else { self.exchanges.now() };
        over_by.saturating_duration_since(self.exchanges.now()).max(LAST)
    }

    fn begin_spread(&mut self) {
        self.exchanges.event_loop.stop_listening();
        let (now, timer) = (self.exchanges.now(), self.exchanges.event_loop.set_timer(Duration::ZERO));
        let over_by = now + self.drain.time;
        let until = over_by - LAST.min(self.drain.time / 5);
        let spread = Spread { queue: VecDeque::new(), next: now, until, over_by, timer };
        self.phase = Phase::Spreading(spread);
        self.exchanges.is_ending = true;
    }

    /// Ends the held exchanges that are due. Those that have begun since the shutdown come after the others.
    fn end_some(&mut self) {
        let Phase::Spreading(spread) = &mut self.phase else { return };
        let now = self.exchanges.now();
        if spread.queue.is_empty() {
            (spread.queue, spread.next) = (self.exchanges.held().into(), now);
        }
        let is_late = spread.over_by <= now;
        let exchanges = &self.exchanges;
        let held = |id| exchanges.event_loop.latest(id).filter(|id| exchanges.record(*id).is_some());
        for id in spread.take_due(now, exchanges.count_held(), held) {
            if let Some((feature, exchanges)) = self.owner(id) {
                feature.end(exchanges, id, EndReason::GoingAway);
            }
        }
        let awaits = self.exchanges.event_loop.awaits_first_request() || self.exchanges.awaits_poll();
        let Phase::Spreading(spread) = &mut self.phase else { return };
        if self.exchanges.count_held() == 0 && (is_late || !awaits) {
            self.exchanges.journal.leave();
            self.phase = Phase::Finishing(spread.over_by);
        } else {
            let wait = match spread.queue.is_empty() {
                true => LARGEST_INTERVAL,
                false => spread.next.saturating_duration_since(now),
            };
            spread.timer = self.exchanges.event_loop.set_timer(wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::exchanges::Exchanges;

    /// The times of the ends of `count` exchanges, in milliseconds after the first, with a look every millisecond.
    fn ends(count: usize, time: Duration) -> Vec<u64> {
        let mut exchanges = Exchanges::for_test();
        let id = exchanges.request("GET", "/", "").id;
        let (now, timer) = (exchanges.now(), exchanges.event_loop.set_timer(Duration::ZERO));
        let queue = std::iter::repeat_n(id, count).collect();
        let mut spread = Spread { queue, next: now, until: now + time, over_by: now + time, timer };
        let at = |ms: u64| now + Duration::from_millis(ms);
        let due = (0..=10_000).flat_map(|ms| vec![ms; spread.take_due(at(ms), spread.queue.len(), Some).len()]);
        due.collect()
    }

    #[test]
    fn ends_are_spread_evenly_over_the_time() {
        let ends = ends(10_000, Duration::from_secs(5));
        assert_eq!(ends.len(), 10_000);
        for bucket in 0..50 {
            let share = ends.iter().filter(|ms| **ms / 100 == bucket).count();
            assert!((199..=201).contains(&share), "bucket {bucket} has {share} of 200");
        }
    }

    #[test]
    fn polls_that_come_again_keep_their_turns() {
        let mut exchanges = Exchanges::for_test();
        let id = exchanges.request("GET", "/", "").id;
        let now = exchanges.now();
        let timer = exchanges.event_loop.set_timer(Duration::ZERO);
        let until = now + Duration::from_secs(4);
        let mut spread = Spread { queue: vec![id; 4000].into(), next: now, until, over_by: until, timer };
        let mut left = 4000;
        for ms in 0..4000 {
            // Every 250 ms, half of them are over for 20 ms.
            let is_between = ms % 250 < 20;
            let held = |id| (!is_between || ms % 2 == 0).then_some(id);
            let count = if is_between { left / 2 } else { left };
            let ended = spread.take_due(now + Duration::from_millis(ms), count, held).len();
            left -= ended;
            assert!(ended <= 3, "{ended} have ended in a millisecond");
            if spread.queue.is_empty() {
                spread.queue = vec![id; left].into();
            }
        }
        assert!(left < 10, "{left} are left to the last moment");
    }

    #[test]
    fn few_ends_take_less_than_the_time() {
        assert_eq!(ends(4, Duration::from_secs(5)), [0, 5, 10, 15]);
        assert_eq!(ends(3, Duration::ZERO), [0, 0, 0]);
    }
}
