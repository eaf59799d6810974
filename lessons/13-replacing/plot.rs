//! A plot of moments, as text: the number of them in each 100 ms.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// The width of a column.
const COLUMN: Duration = Duration::from_millis(100);

/// The height in lines.
const LINES: usize = 10;

/// The number of moments in each 100 ms after a start, up to the last moment.
pub struct Plot {
    pub counts: Vec<usize>,
}

impl Plot {
    /// Counts moments. The plot is at least as long as `least`.
    pub fn new(start: Instant, moments: &[Instant], least: Duration) -> Self {
        let column = |time: Duration| (time.as_millis() / COLUMN.as_millis()) as usize;
        let columns: Vec<_> = moments.iter().map(|moment| column(moment.saturating_duration_since(start))).collect();
        let length = columns.iter().map(|at| at + 1).max().unwrap_or(0).max(column(least));
        let mut counts = vec![0; length];
        columns.into_iter().for_each(|at| counts[at] += 1);
        Plot { counts }
    }

    /// Returns the number in the fullest column.
    pub fn most(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// Returns the number that each column would have if all had the same.
    pub fn share(&self) -> f64 {
        self.counts.iter().sum::<usize>() as f64 / self.counts.len().max(1) as f64
    }

    /// Returns the fullest column as a multiple of its share.
    pub fn peak(&self) -> f64 {
        self.most() as f64 / self.share().max(f64::MIN_POSITIVE)
    }

    /// Returns the plot, which has one column for each 100 ms.
    pub fn text(&self) -> String {
        let (mut text, most) = (String::new(), self.most());
        for line in (0..LINES).rev() {
            let is_above = |count: usize| count * LINES > line * most;
            let bars: String = self.counts.iter().map(|count| if is_above(*count) { '#' } else { ' ' }).collect();
            let _ = writeln!(text, "{:>6} |{}", (most * (line + 1)).div_ceil(LINES), bars.trim_end());
        }
        let seconds: String = (1..=self.counts.len().div_ceil(10)).map(|second| format!("{second:->8} s")).collect();
        text + "       +" + &seconds + "\n"
    }
}
