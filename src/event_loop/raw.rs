//! The public API of raw connections, whose bytes nobody decodes: a relay, or a protocol of the program's own.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::peer::{End, Peer};
#[cfg(doc)]
use super::{Closed, Event, Limits};
use super::{EventLoop, ExchangeId, poll};
use crate::socket_options;

/// Raw connections. On others, these do nothing.
impl EventLoop {
    /// Opens a raw connection to `address`. [`Event::Opened`] follows; or [`Event::Closed`] with [`Closed::Refused`],
    /// or with [`Closed::TimedOut`] after [`Limits::connect_time`]. Bytes may be sent before it is open; they wait.
    ///
    /// # Errors
    /// Those that the system knows at once: no file descriptor is left, or there is no route to the address.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<ExchangeId> {
        let stream = TcpStream::connect(address)?;
        poll::set_options(&stream);
        socket_options::set_user_timeout(&stream, self.context.limits.write_time)?;
        socket_options::set_keep_alive(&stream, self.context.limits.write_time)?;
        let key = self.add_peer(Peer::connecting(stream, &self.context))?;
        Ok(ExchangeId { key, number: 1 })
    }

    /// Queues bytes on a raw connection. If they do not fit into its outbox, it is reset and [`Event::Closed`] follows:
    /// watch [`waiting`](Self::waiting), and [pause](Self::pause) the source of the bytes until [`Event::Drained`].
    pub fn send_bytes(&mut self, id: ExchangeId, bytes: Vec<u8>) {
        self.act(id, bytes.len(), |connection, context, _| connection.send_bytes(bytes, context));
    }

    /// Stops reading a raw connection. What its peer sends stays in the system's buffers. When they are full, the peer
    /// has to wait. Neither the end of the input nor a reset is noticed before [`resume`](Self::resume).
    pub fn pause(&mut self, id: ExchangeId) {
        self.act(id, 0, |connection, _, _| {
            connection.pause();
            None
        });
    }

    /// Goes on reading a raw connection.
    pub fn resume(&mut self, id: ExchangeId) {
        self.act(id, 0, |connection, _, _| {
            connection.resume();
            None
        });
    }

    /// Hands a raw connection over to HTTP. `bytes` are the first of its input: those that the program has received and
    /// not used itself. Its requests get ids of their own, and `id` is stale. Does nothing after [`end`](Self::end).
    pub fn serve_http(&mut self, id: ExchangeId, bytes: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.number) else { return };
        if peer.connection.serve_http(bytes, &self.context) {
            peer.exchange += 1;
            if peer.end == End::Told {
                peer.end = End::Reached; // told to the program, and not to HTTP
            }
            self.after(id.key, None);
        }
    }
}
