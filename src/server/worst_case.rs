//! The largest amount of memory that a server takes, from all of its bounds together.

use std::fmt;

use super::exchanges::Exchanges;
use super::signalling::Peers;
use super::{Config, parked, rooms};
use crate::event_loop::EventLoop;
use crate::journal::{self, Journal};
use crate::output;
use crate::quotas::Quotas;

/// One bound, and the memory that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What is bounded.
    pub what: &'static str,
    /// The largest number of them.
    pub bound: usize,
    /// The largest number of bytes that one of them takes, or 1 if bytes are bounded.
    pub each: usize,
}

impl Row {
    /// Returns the bytes of all of them.
    pub fn total(&self) -> usize {
        self.bound.saturating_mul(self.each)
    }
}

/// The largest amount of memory that a server takes. All bounds can be reached at the same time, by clients that mean
/// harm. It is the memory that the process asks for. The allocator keeps some more between it.
///
/// ```
/// use overwire::server::Config;
///
/// let worst = Config::default().worst_case();
/// assert!(worst.total() > Config::default().limits.memory);
/// assert!(worst.to_string().contains("mailboxes"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorstCase(Vec<Row>);

impl WorstCase {
    /// Returns the bounds.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// Returns the bytes of all bounds together.
    pub fn total(&self) -> usize {
        self.0.iter().map(Row::total).fold(0, usize::saturating_add)
    }
}

impl fmt::Display for WorstCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / (1024.0 * 1024.0);
        writeln!(f, "{:46} {:>12} {:>12} {:>12}", "what", "bound", "bytes each", "MiB")?;
        for row in &self.0 {
            writeln!(f, "{:46} {:>12} {:>12} {:>12.1}", row.what, row.bound, row.each, mib(row.total()))?;
        }
        write!(f, "{:46} {:>12} {:>12} {:>12.1}", "all together", "", "", mib(self.total()))
    }
}

impl Config {
    /// Computes the largest amount of memory that a server with this configuration takes.
    pub fn worst_case(&self) -> WorstCase {
        let (limits, stores, retention) = (&self.limits, &self.stores, &self.retention);
        let connections = limits.connections;
        let logs = retention.rooms + stores.mailboxes;
        let row = |what, bound, each| Row { what, bound, each };
        let spread = |what, bound: usize, bytes: usize| row(what, bound, bytes.div_ceil(bound.max(1)));
        let mut rows = vec![
            row("bytes from and for peers, and encoded messages", limits.memory, 1),
            spread("connections", connections, EventLoop::bytes_of(connections)),
            spread("polls, streams and WebSockets", connections, Exchanges::bytes_of(connections)),
            row("rooms", retention.rooms, rooms::bytes_of_room(retention)),
            row("bytes of clients and their positions", stores.client_bytes, 1),
            row("bytes of mailboxes", stores.mailbox_bytes, 1),
            spread("logs of rooms and mailboxes", logs, Journal::bytes_of(logs)),
            spread("idempotency keys", stores.keys, journal::bytes_of_keys(stores.keys)),
            spread("peers of the signalling", connections, Peers::bytes_of(connections, stores.signalling_rooms)),
            spread("clients with bounds", connections + logs, Quotas::bytes_of(connections + logs)),
        ];
        if self.log.is_some() {
            rows.push(row("bytes of lines of the log", output::LONGEST_QUEUE, 1));
        }
        if self.static_folder.is_some() {
            rows.push(row("bytes of files", crate::files::MOST_KEPT, 1));
        }
        if self.redis.is_some() {
            rows.push(row("bytes of requests that wait for Redis", parked::BYTES, 1));
        }
        if self.data.is_some() {
            rows.push(row("bytes on the way to the disk", journal::disk::LONGEST_QUEUE, 1));
        }
        WorstCase(rows)
    }
}
