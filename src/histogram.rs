//! A histogram of durations. Its buckets are fixed: each is twice as wide as the one before it, so finding the right one
//! takes a few instructions and no memory. Who records a duration has read the clock for something else.

use std::time::Duration;

/// The exponent of the bound of the first bucket: 2^14 nanoseconds are about 16 microseconds.
const FIRST: u32 = 14;

/// The number of buckets with a bound. The bound of the last one is 2^34 nanoseconds, about 17 seconds.
const BOUNDED: usize = 21;

/// The counts of durations.
///
/// ```
/// use std::time::Duration;
/// use overwire::histogram::Histogram;
///
/// let mut histogram = Histogram::default();
/// [10, 20, 30, 40].map(|microseconds| histogram.record(Duration::from_micros(microseconds)));
/// let counts: Vec<_> = histogram.buckets().take(3).collect();
/// assert_eq!(counts, [(0.000016384, 1), (0.000032768, 3), (0.000065536, 4)]);
/// assert_eq!((histogram.count(), histogram.sum(), histogram.largest().as_micros()), (4, 0.0001, 40));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// The last one has no bound.
    counts: [u64; BOUNDED + 1],
    /// Nanoseconds.
    sum: u64,
    /// Nanoseconds.
    largest: u64,
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = duration.as_nanos() as u64;
        let doublings = u64::BITS - (nanoseconds.saturating_sub(1) >> FIRST).leading_zeros();
        self.counts[(doublings as usize).min(BOUNDED)] += 1;
        self.sum += nanoseconds;
        self.largest = self.largest.max(nanoseconds);
    }

    /// Returns the bound of each bucket in seconds, and the number of durations up to it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bound = |at: usize| Duration::from_nanos(1 << (FIRST as usize + at)).as_secs_f64();
        self.counts[..BOUNDED].iter().enumerate().scan(0, move |sum, (at, count)| {
            *sum += count;
            Some((bound(at), *sum))
        })
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.sum).as_secs_f64()
    }

    /// Returns the largest duration.
    pub fn largest(&self) -> Duration {
        Duration::from_nanos(self.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (nanoseconds, bucket) in [
            (0, 0),
            (1 << FIRST, 0),
            ((1 << FIRST) + 1, 1),
            (1 << (FIRST + 1), 1),
            ((1 << (FIRST + 20)) + 1, BOUNDED),
            (u64::MAX, BOUNDED),
        ] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanoseconds));
            assert_eq!(histogram.counts.iter().position(|count| *count == 1), Some(bucket), "{nanoseconds}");
        }
    }
}
