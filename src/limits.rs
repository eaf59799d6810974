//! The largest cost of one peer, and of all of them together.

use std::fs;
use std::time::Duration;

/// Bounds on memory and on time. Each has a stated answer when it is reached.
///
/// ```
/// use std::time::Duration;
/// use overwire::Limits;
///
/// let limits = Limits { content: 64 * 1024, idle_time: Duration::from_secs(10), ..Limits::default() };
/// assert_eq!(limits.head, 16 * 1024);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest request head, in bytes. Longer ones are answered with 431. The number of field lines is bounded by
    /// [`MAX_FIELDS`](crate::http::MAX_FIELDS), 100, with the same answer.
    pub head: usize,
    /// The longest request target, in bytes. Longer ones are answered with 414.
    pub target: usize,
    /// The longest content of a request, in bytes. Longer ones are answered with 413.
    pub content: usize,
    /// The longest WebSocket message, in bytes, over all its fragments. Longer ones are closed with 1009.
    pub message: usize,
    /// The largest number of bytes that may be queued for one peer. If there are more, the peer is a slow consumer: a
    /// WebSocket is closed with 1013, a stream is ended, a raw connection is reset. An empty outbox takes one item of
    /// any size. From half of it on, nothing is read from the peer; a program [pauses](crate::EventLoop::pause) raw
    /// connections itself.
    pub outbox: usize,
    /// The largest amount of memory that all connections together keep, in bytes: what is queued for peers, and what has
    /// arrived from them and is not complete, such as a part of a request or of a message. [Shared](crate::Shared) bytes
    /// count once, in however many queues they are, and also while only the program has them.
    ///
    /// If it is more, the connections that keep the most are reset one by one until an eighth is free. Each is
    /// [`Closed::OverBudget`](crate::Closed::OverBudget), and standard error gets a line. A connection with nothing
    /// queued and nothing incomplete is never reset. What is queued within one event is judged after it.
    pub memory: usize,
    /// The largest number of open connections, outgoing ones included. For one more that comes in, a connection that is
    /// idle between two requests is closed. If none is found, the new one is answered with 503 and closed; on a raw
    /// listener it is closed. A [reserved](crate::EventLoop::reserve) listener takes a few more. Outgoing ones are not
    /// refused.
    pub connections: usize,
    /// The bounds of each client, in addition to these of all together.
    pub per_client: PerClient,
    /// The time after which the turn of a connection ends that has sent several requests or messages at once: the rest
    /// of them waits until others have had their turns. After 40 such times the loop looks at its sockets, even if not
    /// all have had their turns. If more than 40 have sent something, their turns are shorter, down to a tenth.
    pub turn_time: Duration,
    /// The time for a request head, from its first byte to its last. Slower ones are answered with 408.
    pub head_time: Duration,
    /// The time for the content after the head, and for a WebSocket message from its first byte to its last, over all its
    /// fragments. A slower content is answered with 408, a slower message with the close code 1008.
    pub content_time: Duration,
    /// The time that a persistent connection may be idle between two requests, or take no byte of an answer. Then it is
    /// closed. The default, 75 s, is longer than the 60 s after which nginx and AWS's load balancers close their own
    /// idle connections to a server: the side that sends requests should be the first to close, or its next request may
    /// cross the close.
    pub idle_time: Duration,
    /// The time in which a peer must acknowledge or take something of what waits for it. One that has vanished, or does
    /// not read, is [`Closed::TimedOut`](crate::Closed::TimedOut) after it, whatever its connection carries. If nothing
    /// waits for it, the system asks it after half of this time, and it must answer by the end. The system measures it:
    /// it is the "user timeout" of TCP (RFC 9293, section 3.9.1). Only Linux has such an option. Elsewhere
    /// a stream lives until the system gives up sending, which takes minutes, and as long as its peer acknowledges
    /// probes without reading.
    pub write_time: Duration,
    /// The time for an outgoing connection to open. Then it is [`Closed::TimedOut`](crate::Closed::TimedOut).
    pub connect_time: Duration,
    /// The time between two Pings of a WebSocket. One from which nothing has arrived since the last Ping is closed.
    pub ping_interval: Duration,
    /// The time for a peer to finish a closing handshake, or to read the last bytes. Then the connection is closed.
    pub closing_time: Duration,
    /// The time that [`drain`](crate::EventLoop::drain) waits for all connections together.
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
            memory: 256 * 1024 * 1024,
            connections: connections_below_file_limit(),
            per_client: PerClient::default(),
            turn_time: Duration::from_micros(250),
            head_time: Duration::from_secs(10),
            content_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            write_time: Duration::from_secs(45), // a vanished reader is found in a minute: it gets a heartbeat in 15 s
            connect_time: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
            closing_time: Duration::from_secs(5),
            drain_time: Duration::from_secs(5),
        }
    }
}

/// Bounds on what one client takes of what all share: an identity, or else an address. A client that wants more gets 429
/// with `Retry-After`, and a WebSocket an error, then the close code 1008 if it goes on. The defaults are beyond what a page
/// uses that is open in several tabs.
///
/// ```
/// use overwire::limits::PerClient;
///
/// let bounds = PerClient { connections: 10, loopback: true, ..PerClient::default() };
/// assert_eq!(bounds.rate, 100);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PerClient {
    /// The largest number of open connections. One that comes in beyond it gets 429 to its first request, and is closed.
    /// After 16 of them, the others are closed at once.
    pub connections: u32,
    /// The largest number of held polls.
    pub polls: u32,
    /// The largest number of open streams.
    pub streams: u32,
    /// The largest number of open WebSockets, without those of the signalling.
    pub websockets: u32,
    /// The largest number of peers in rooms of the signalling, and so of its rooms.
    pub signalling: u32,
    /// The largest number of rooms that the client has created. For one more, that one of its rooms is removed that has no
    /// reader and was unused for longest. If all have readers, there is no room for it.
    pub rooms: u32,
    /// The largest number of mailboxes that the client has created.
    pub mailboxes: u32,
    /// The number of messages that the client may publish in a second. It may send as many at once.
    pub rate: u32,
    /// The number of bytes that are received from the client in a second. It may send as many at once. Then nothing is
    /// read from its connections for a while, and its bytes wait where they are. Its connections share what it may send
    /// in no fixed order: many uploads make its other requests wait, and one that waits too long gets 408.
    pub bytes: u32,
    /// Whether clients of this machine have these bounds too. By default they are exempt, and so is a proxy on the same
    /// machine that is not trusted: its clients cannot be told apart.
    pub loopback: bool,
}

impl Default for PerClient {
    fn default() -> Self {
        PerClient {
            connections: 256,
            polls: 100,
            streams: 100,
            websockets: 100,
            signalling: 64,
            rooms: 64,
            mailboxes: 1000,
            rate: 100,
            bytes: 4 * 1024 * 1024,
            loopback: false,
        }
    }
}

/// The number of files that a process needs in addition to its connections: standard streams, listeners, epoll, wakers,
/// a static file, the connections that get 503 because there are too many, and those of reserved listeners.
const FILES_IN_RESERVE: usize = 32;

/// The soft limit on open files, less a reserve. It is read from `/proc`, because the system call would need `unsafe`.
/// Without `/proc` it is 256, the least that any Unix starts with.
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
