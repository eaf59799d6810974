//! What one peer, and all of them together, may cost.

use std::fs;
use std::time::Duration;

/// Bounds on memory and on time. A limit that is reached has a stated answer, never a hang.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest request head in bytes; beyond it 431. The number of field lines is bounded by
    /// [`MAX_FIELDS`](crate::http::MAX_FIELDS), 100; beyond it 431.
    pub head: usize,
    /// The longest request target in bytes; beyond it 414.
    pub target: usize,
    /// The longest content of a request in bytes; beyond it 413.
    pub content: usize,
    /// The longest WebSocket message in bytes, over all its fragments; beyond it 1009.
    pub message: usize,
    /// What may wait to be written to one peer, in bytes; beyond it the peer is a slow consumer: a
    /// WebSocket is closed with 1013, a stream is ended. An empty outbox takes one item of any
    /// size. From half of it on, nothing more is read from the peer. A raw connection is reset, and the reading of it
    /// is the program's to [pause](crate::EventLoop::pause).
    pub outbox: usize,
    /// How many connections may be open, outgoing ones included. One more that comes in is answered with 503 and closed;
    /// on a raw listener it is closed. Opening an outgoing one is not refused.
    pub connections: usize,
    /// How long a request head may take from its first byte to its last; then 408.
    pub head_time: Duration,
    /// How long the content may take after the head; then 408.
    pub content_time: Duration,
    /// How long a persistent connection may be silent between two requests, or stay unable to
    /// write an answer; then it is closed.
    pub idle_time: Duration,
    /// How long an outgoing connection may take to open; then
    /// [`Closed::TimedOut`](crate::Closed::TimedOut).
    pub connect_time: Duration,
    /// How often a WebSocket is pinged. One from which nothing came since the last ping is gone.
    pub ping_interval: Duration,
    /// How long a peer may take to finish a closing handshake, or to read the last bytes before
    /// the connection is closed.
    pub closing_time: Duration,
    /// How long [`drain`](crate::EventLoop::drain) waits for all connections together.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 16 * 1024,
            target: 8 * 1024,
            content: 1024 * 1024,
            message: 1024 * 1024,
            outbox: 1024 * 1024,
            connections: connections_below_file_limit(),
            head_time: Duration::from_secs(10),
            content_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            connect_time: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
            closing_time: Duration::from_secs(5),
            drain_time: Duration::from_secs(5),
        }
    }
}

/// Files that a process needs besides its connections: standard streams, the listener, epoll,
/// wakers, a static file, and the connections that are being told that there are too many.
const FILES_IN_RESERVE: usize = 32;

/// The soft limit on open files, less a reserve. Read from `/proc`, because the system call
/// would need `unsafe`; where there is no `/proc`, 256, the least that any Unix starts with.
fn connections_below_file_limit() -> usize {
    let files = fs::read_to_string("/proc/self/limits").ok().and_then(|limits| soft_file_limit(&limits));
    files.unwrap_or(256).saturating_sub(FILES_IN_RESERVE).max(1)
}

fn soft_file_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(1 << 20),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_limit_is_read() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(soft_file_limit(limits), Some(1024));
        assert_eq!(soft_file_limit(&limits.replace("1024", "unlimited")), Some(1 << 20));
        assert_eq!(soft_file_limit(""), None);
    }
}
