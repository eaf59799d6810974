//! Deadlines, earliest first. The time is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::slab::{Key, Slab};

/// A set of timers with a value each. Setting a timer takes logarithmic time. Cancelling takes constant time: the entry
/// stays in the heap and is skipped when it comes up.
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<(Instant, Key)>>,
    live: Slab<T>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), live: Slab::default() }
    }
}

impl<T> Timers<T> {
    /// Sets a timer that is due at `at`.
    pub fn set(&mut self, at: Instant, value: T) -> Key {
        let key = self.live.insert(value);
        self.heap.push(Reverse((at, key)));
        key
    }

    /// Cancels a timer. Returns its value, unless it was due or cancelled before.
    pub fn cancel(&mut self, key: Key) -> Option<T> {
        let value = self.live.remove(key);
        // There may be more cancelled entries than others, but not many more: a program that sets and cancels long
        // timers all the time must not fill the memory.
        if self.heap.len() > 2 * self.live.len() + 64 {
            self.heap.retain(|Reverse((_, key))| self.live.get(*key).is_some());
        }
        value
    }

    /// Returns when the next timer is due.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if self.live.get(*key).is_some() {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Removes the earliest timer if it is due at `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Key, T)> {
        // The loop asks at every step. Most of the time the first entry gives the answer.
        let Reverse((earliest, _)) = self.heap.peek()?;
        if *earliest > now || self.next_deadline()? > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.live.remove(key).map(|value| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_is_due_first_and_cancelled_ones_never() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        let keys: Vec<_> = [5, 1, 3, 4].map(|seconds| timers.set(at(seconds), seconds)).into();
        assert_eq!(timers.cancel(keys[1]), Some(1));
        assert_eq!(timers.cancel(keys[1]), None);
        assert_eq!(timers.next_deadline(), Some(at(3)));
        assert_eq!(timers.pop_due(at(2)), None);
        assert_eq!(timers.pop_due(at(4)), Some((keys[2], 3)));
        assert_eq!(timers.pop_due(at(4)), Some((keys[3], 4)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.cancel(keys[2]), None);
        assert_eq!((timers.live.len(), timers.pop_due(at(9))), (1, Some((keys[0], 5))));
        assert!(timers.live.is_empty() && timers.next_deadline().is_none());
    }

    #[test]
    fn timers_of_a_reused_slot_are_told_apart() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let first = timers.set(now, "first");
        timers.cancel(first);
        let second = timers.set(now, "second");
        assert_eq!(timers.cancel(first), None);
        assert_eq!(timers.pop_due(now), Some((second, "second")));
    }

    #[test]
    fn cancelled_timers_take_little_memory() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for round in 0..10 {
            let keys: Vec<_> =
                (0..100_000u64).map(|n| timers.set(start + Duration::from_millis(n * 7919 % 100_000), n)).collect();
            for key in keys.iter().skip(usize::from(round == 9)) {
                timers.cancel(*key);
            }
            assert!(timers.heap.len() <= 2 * timers.live.len() + 64);
        }
        assert_eq!(timers.pop_due(start).map(|(_, value)| value), Some(0));
        assert!(timers.live.is_empty());
    }
}
