//! The connections as an operator sees them, one by one. Nothing is counted for this but the second in which a
//! connection was opened, and the one in which its peer last sent something.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::{EventLoop, ExchangeId, ListenerId, Traffic};
use crate::bytes::digits;
use crate::connection::ConnectionState;
use crate::slab::Key;
use crate::socket_options;

/// The id of a connection, from its beginning to its end. Its text, such as `12-3`, is never that of a later connection.
///
/// ```
/// use overwire::ConnectionId;
///
/// let id: ConnectionId = "12-3".parse().unwrap();
/// assert_eq!(id.to_string(), "12-3");
/// assert!(["12", "12-", "-3", "+1-2", "1-2-3"].iter().all(|text| text.parse::<ConnectionId>().is_err()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(Key);

/// The error for a text that is not the id of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAConnection;

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.slot(), self.0.generation())
    }
}

impl FromStr for ConnectionId {
    type Err = NotAConnection;

    fn from_str(text: &str) -> Result<Self, NotAConnection> {
        let number = |text: &str| digits(text.as_bytes()).and_then(|number| u32::try_from(number).ok());
        let (slot, generation) = text.split_once('-').ok_or(NotAConnection)?;
        Ok(ConnectionId(Key::new(number(slot).ok_or(NotAConnection)?, number(generation).ok_or(NotAConnection)?)))
    }
}

/// The state of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionReport {
    /// Its id.
    pub id: ConnectionId,
    /// Its newest exchange, which may be over.
    pub exchange: ExchangeId,
    /// The step that it is at.
    pub state: ConnectionState,
    /// The time since it was opened, to the second.
    pub age: Duration,
    /// The time since its peer has sent something, to the second.
    pub silence: Duration,
    /// The bytes that it has moved since it was opened.
    pub traffic: Traffic,
    /// The bytes that are queued and not written yet.
    pub waiting: usize,
    /// The address of its peer. `None` if it is broken.
    pub peer: Option<SocketAddr>,
}

/// A connection whose peer may have vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ghost {
    /// Its id.
    pub id: ConnectionId,
    /// Its newest exchange.
    pub exchange: ExchangeId,
    /// The number of bytes that were written and not acknowledged.
    pub bytes: u64,
    /// The age of the oldest of them, at least.
    pub age: Duration,
}

impl EventLoop {
    /// Returns the connections that have bytes which their peers have not acknowledged for this time, by the clock of the
    /// system. It asks the system about each connection that was silent for as long, at the price of one system call.
    /// There are none on systems other than Linux.
    pub fn ghosts(&self, time: Duration) -> Vec<Ghost> {
        let silent = self.second.saturating_sub(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        let slots = (0..self.peers.slots()).filter_map(|slot| self.peers.at(slot));
        let ghosts = slots.filter(|(_, peer)| peer.seen <= silent).filter_map(|(key, peer)| {
            let found = socket_options::unacknowledged(&peer.stream).ok()??;
            let written = peer.connection.traffic().sent - peer.connection.queued() as u64;
            let bytes = written.saturating_sub(found.acknowledged);
            let exchange = ExchangeId { key, number: peer.exchange };
            (found.age >= time).then_some(Ghost { id: ConnectionId(key), exchange, bytes, age: found.age })
        });
        ghosts.collect()
    }

    /// Returns the ids of all connections that come after this one, in a fixed order: one that is opened meanwhile may
    /// come anywhere.
    pub fn connection_ids(&self, after: Option<ConnectionId>) -> impl Iterator<Item = ConnectionId> {
        let begin = after.map_or(0, |ConnectionId(key)| key.slot().saturating_add(1));
        (begin..self.peers.slots()).filter_map(|slot| self.peers.at(slot)).map(|(key, _)| ConnectionId(key))
    }

    /// Returns the state of a connection. `None` if it is closed.
    ///
    /// ```
    /// # use overwire::{Event, EventLoop, Limits, http::Response};
    /// # fn main() -> std::io::Result<()> {
    /// # let mut server = EventLoop::bind("127.0.0.1:0", Limits::default())?;
    /// # let _client = std::net::TcpStream::connect(server.local_address())?;
    /// # let remote = server.remote();
    /// # while server.connections() == 0 {
    /// #     remote.notify();
    /// #     server.next_event()?;
    /// # }
    /// for id in server.connection_ids(None) {
    ///     let report = server.connection(id).expect("it is open");
    ///     assert_eq!(report.state.name(), "idle");
    ///     assert!(report.peer.is_some_and(|address| address.ip().is_loopback()));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn connection(&self, id: ConnectionId) -> Option<ConnectionReport> {
        let report = self.connection_without_address(id)?;
        Some(ConnectionReport { peer: self.peer_address(id), ..report })
    }

    /// Returns the address of the peer of a connection. `None` if it is closed or broken.
    pub fn peer_address(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.peers.get(id.0)?.stream.peer_addr().ok()
    }

    /// Returns the same without the address of the peer, which takes a system call.
    pub fn connection_without_address(&self, id: ConnectionId) -> Option<ConnectionReport> {
        let peer = self.peers.get(id.0)?;
        let exchange = ExchangeId { key: id.0, number: peer.exchange };
        let since = |second: u32| Duration::from_secs(u64::from(self.second.saturating_sub(second)));
        Some(ConnectionReport {
            id,
            exchange,
            state: peer.connection.state(),
            age: since(peer.opened),
            silence: since(peer.seen),
            traffic: self.traffic(exchange),
            waiting: self.waiting(exchange),
            peer: None,
        })
    }

    /// Whether this listener has accepted the connection of an exchange.
    pub fn came_by(&self, id: ExchangeId, listener: ListenerId) -> bool {
        self.peers.get(id.key).is_some_and(|peer| usize::from(peer.listener) == listener.0.slot())
    }

    /// Returns the id of the connection of an exchange.
    pub fn connection_of(&self, id: ExchangeId) -> ConnectionId {
        ConnectionId(id.key)
    }
}
