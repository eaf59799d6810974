//! Faults: the effects of a bad network on the answer to one request. No sockets, and `now` is an argument.
//!
//! A [`Gate`] stands between the target and the client of one exchange. It holds bytes back in this order: a proxy
//! that buffers, then a long way, then a slow link.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

/// The faults of an exchange that stay until they are switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The time that each byte needs.
    pub delay: Duration,
    /// The number of bytes that a proxy collects before it passes any on. It passes a complete answer on at once.
    pub buffer: usize,
    /// The bytes a second that the client takes. 0 means no limit.
    pub rate: u32,
}

/// A fault that happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// Resets the connection.
    Drop,
    /// Ends the connection in the middle of the next bytes.
    Cut,
    /// Stops passing bytes on, and leaves the connection open.
    HalfOpen,
}

impl Strike {
    /// Every strike.
    pub const ALL: [Strike; 3] = [Strike::Drop, Strike::Cut, Strike::HalfOpen];

    /// Returns its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Strike::Drop => "drop",
            Strike::Cut => "cut",
            Strike::HalfOpen => "half-open",
        }
    }
}

/// The queue of the bytes of one answer, and the faults that hold them back.
#[derive(Debug)]
pub struct Gate {
    faults: Faults,
    strike: Option<Strike>,
    /// The bytes in a proxy that buffers.
    collected: Vec<u8>,
    /// The bytes on the link, each with the time at which it arrived.
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// The number of bytes in `queue`.
    queued: usize,
    /// The answer is complete: no more bytes are pushed.
    complete: bool,
    /// The start of the time in which the bytes of `rate` are counted.
    since: Instant,
    is_cut: bool,
}

impl Gate {
    /// Creates a gate without faults.
    pub fn new(now: Instant) -> Self {
        Gate {
            faults: Faults::default(),
            strike: None,
            collected: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            complete: false,
            since: now,
            is_cut: false,
        }
    }

    /// Queues bytes of the answer.
    pub fn push(&mut self, bytes: Vec<u8>, now: Instant) {
        if self.faults.buffer == 0 {
            return self.enqueue(bytes, now);
        }
        self.collected.extend_from_slice(&bytes);
        self.flush_collected(now);
    }

    /// Notes that the answer is complete.
    pub fn complete(&mut self, now: Instant) {
        self.complete = true;
        self.flush_collected(now);
    }

    /// Replaces the faults. They hold for the queued bytes too.
    pub fn set(&mut self, faults: Faults, now: Instant) {
        (self.faults, self.since) = (faults, now);
        self.flush_collected(now);
    }

    /// Sets a cut or a half-open connection for the queued bytes and all that follow.
    pub fn strike(&mut self, strike: Strike) {
        self.strike = Some(strike);
    }

    /// Lifts all faults.
    pub fn open(&mut self, now: Instant) {
        self.strike = None;
        self.set(Faults::default(), now);
    }

    /// The number of bytes that are held back.
    pub fn waiting(&self) -> usize {
        self.collected.len() + self.queued
    }

    /// Whether all of the answer has been released.
    pub fn is_done(&self) -> bool {
        self.complete && self.waiting() == 0
    }

    /// Whether the gate has stopped releasing bytes.
    pub fn is_half_open(&self) -> bool {
        self.strike == Some(Strike::HalfOpen)
    }

    /// Whether the last release was cut to its first half. The connection ends after it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes the bytes that may be passed on now.
    pub fn release(&mut self, now: Instant) -> Vec<u8> {
        if self.is_half_open() || self.is_cut {
            return Vec::new();
        }
        let is_due = |(arrived, _): &&(Instant, Vec<u8>)| *arrived + self.faults.delay <= now;
        let mut allowed = self.queue.iter().take_while(is_due).map(|(_, bytes)| bytes.len()).sum();
        if self.faults.rate > 0 {
            // Credit that a second did not use up is lost.
            self.since = self.since.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
            let elapsed = now.saturating_duration_since(self.since);
            let credit = (elapsed.as_secs_f64() * f64::from(self.faults.rate)) as usize;
            allowed = if credit < self.lump() { 0 } else { credit.min(allowed) };
            self.since += Duration::from_secs_f64(allowed as f64 / f64::from(self.faults.rate));
        }
        if self.strike == Some(Strike::Cut) && allowed > 0 {
            (allowed, self.is_cut) = (allowed.div_ceil(2), true);
        }
        self.take(allowed)
    }

    /// The time at which [`release`](Self::release) may return more bytes, if none are pushed before.
    pub fn next_release(&self) -> Option<Instant> {
        let (arrived, _) = self.queue.front().filter(|_| !self.is_half_open() && !self.is_cut)?;
        let delayed = *arrived + self.faults.delay;
        if self.faults.rate == 0 {
            return Some(delayed);
        }
        // A millisecond more, so that rounding does not leave it a byte short.
        let lump = self.lump() as f64 / f64::from(self.faults.rate);
        Some(delayed.max(self.since + Duration::from_secs_f64(lump) + Duration::from_millis(1)))
    }

    /// A slow client takes the bytes of a tenth of a second at a time.
    fn lump(&self) -> usize {
        self.queued.min((self.faults.rate as usize).div_ceil(10))
    }

    fn flush_collected(&mut self, now: Instant) {
        if self.complete || self.collected.len() >= self.faults.buffer {
            let collected = mem::take(&mut self.collected);
            self.enqueue(collected, now);
        }
    }

    fn enqueue(&mut self, bytes: Vec<u8>, now: Instant) {
        if !bytes.is_empty() {
            self.queued += bytes.len();
            self.queue.push_back((now, bytes));
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((_, front)) = self.queue.front_mut()
        {
            let left = count - taken.len();
            if front.len() > left {
                taken.extend(front.drain(..left));
            } else if taken.is_empty() {
                taken = mem::take(front);
                self.queue.pop_front();
            } else {
                taken.append(front);
                self.queue.pop_front();
            }
        }
        self.queued -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(faults: Faults) -> (Gate, Instant) {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        gate.set(faults, now);
        (gate, now)
    }

    #[test]
    fn bytes_pass_at_once_without_faults() {
        let (mut gate, now) = gate(Faults::default());
        gate.push(b"one ".to_vec(), now);
        gate.push(b"two".to_vec(), now);
        assert_eq!((gate.waiting(), gate.next_release()), (7, Some(now)));
        assert_eq!(gate.release(now), b"one two");
        assert_eq!((gate.waiting(), gate.next_release(), gate.is_done()), (0, None, false));
        gate.complete(now);
        assert!(gate.is_done());
    }

    #[test]
    fn a_delay_keeps_the_distance_between_bytes() {
        let (mut gate, now) = gate(Faults { delay: 10 * SECOND, ..Faults::default() });
        gate.push(b"one".to_vec(), now);
        gate.push(b"two".to_vec(), now + 5 * SECOND);
        assert_eq!(gate.release(now + 9 * SECOND), b"");
        assert_eq!(gate.next_release(), Some(now + 10 * SECOND));
        assert_eq!(gate.release(now + 10 * SECOND), b"one");
        assert_eq!(gate.release(now + 14 * SECOND), b"");
        assert_eq!(gate.release(now + 15 * SECOND), b"two");
    }

    #[test]
    fn a_shorter_delay_holds_for_queued_bytes() {
        let (mut gate, now) = gate(Faults { delay: 10 * SECOND, ..Faults::default() });
        gate.push(b"one".to_vec(), now);
        gate.set(Faults { delay: SECOND, ..Faults::default() }, now);
        assert_eq!(gate.release(now + SECOND), b"one");
    }

    #[test]
    fn a_proxy_that_buffers_passes_on_full_buffers_and_complete_answers() {
        let (mut gate, now) = gate(Faults { buffer: 8, ..Faults::default() });
        gate.push(b"small".to_vec(), now);
        assert_eq!((gate.release(now), gate.next_release()), (Vec::new(), None));
        gate.push(b"large".to_vec(), now);
        assert_eq!(gate.release(now), b"smalllarge");
        gate.push(b"last".to_vec(), now);
        assert_eq!(gate.release(now), b"");
        gate.complete(now);
        assert_eq!((gate.release(now), gate.is_done()), (b"last".to_vec(), true));
    }

    #[test]
    fn buffered_bytes_reach_a_slow_link_as_one() {
        let (mut gate, now) = gate(Faults { buffer: 8, rate: 10, ..Faults::default() });
        gate.push(b"smalllarge".to_vec(), now);
        let mut all = gate.release(now + SECOND / 2);
        assert_eq!(all, b"small");
        all.extend(gate.release(now + SECOND));
        assert_eq!(all, b"smalllarge");
    }

    #[test]
    fn a_slow_link_does_not_catch_up_after_a_pause() {
        let (mut gate, now) = gate(Faults { rate: 100, ..Faults::default() });
        gate.push(vec![b'x'; 1000], now);
        assert_eq!(gate.release(now), b"");
        assert_eq!(gate.next_release(), Some(now + Duration::from_millis(101)));
        assert_eq!(gate.release(now + SECOND).len(), 100);
        assert_eq!(gate.release(now + 11 * SECOND).len(), 100);
        assert_eq!(gate.release(now + 11 * SECOND).len(), 0);
    }

    #[test]
    fn the_next_release_of_a_slow_link_is_never_too_early() {
        for rate in [1, 3, 7, 99, 1000, 65_537] {
            let (mut gate, mut now) = gate(Faults { rate, ..Faults::default() });
            gate.push(vec![b'x'; 500], now);
            while let Some(next) = gate.next_release() {
                now = now.max(next);
                assert!(!gate.release(now).is_empty(), "rate {rate}");
            }
            assert_eq!(gate.waiting(), 0);
        }
    }

    #[test]
    fn a_cut_passes_on_the_first_half() {
        let (mut gate, now) = gate(Faults::default());
        gate.strike(Strike::Cut);
        assert_eq!((gate.release(now), gate.is_cut()), (Vec::new(), false));
        gate.push(b"hello".to_vec(), now);
        assert_eq!((gate.release(now), gate.is_cut()), (b"hel".to_vec(), true));
        assert_eq!((gate.release(now), gate.next_release()), (Vec::new(), None));
    }

    #[test]
    fn a_half_open_gate_stays_shut_until_all_faults_are_lifted() {
        let (mut gate, now) = gate(Faults::default());
        gate.strike(Strike::HalfOpen);
        gate.push(b"hello".to_vec(), now);
        gate.set(Faults::default(), now);
        assert_eq!((gate.release(now), gate.next_release()), (Vec::new(), None));
        gate.open(now);
        assert_eq!(gate.release(now), b"hello");
    }

    #[test]
    fn pieces_of_any_size_lose_nothing() {
        for size in 1..40 {
            let (mut gate, mut now) = gate(Faults { rate: 70, buffer: 11, delay: SECOND });
            let all: Vec<u8> = (0..200).collect();
            all.chunks(size).for_each(|bytes| gate.push(bytes.to_vec(), now));
            gate.complete(now);
            let mut released = Vec::new();
            while let Some(next) = gate.next_release() {
                now = now.max(next);
                released.extend(gate.release(now));
            }
            assert_eq!((released, gate.is_done()), (all, true), "size {size}");
        }
    }
}
