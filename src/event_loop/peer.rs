//! A connection and its socket: what is known of the socket's readiness, and what is to be done next.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;

use super::spares::Spares;
use crate::access_log::Entry;
use crate::connection::{Closed, Connection, Context, Outcome};
use crate::limits::Limits;
use crate::slab::Key;

/// How many writes one connection gets in one turn.
const WRITES_PER_TURN: usize = 16;

/// What is known of the end of a peer's input.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Not there.
    Open,
    /// Behind bytes that have not been read yet: the system says that the peer has shut down.
    Announced,
    /// Read.
    Reached,
    /// Read, and told to the connection.
    Told,
}

/// A connection, its socket, and what is known about the socket's readiness. mio is
/// edge-triggered: it says "ready" once, and we remember it until a call says `WouldBlock`.
pub struct Peer {
    pub connection: Connection,
    pub stream: TcpStream,
    /// The number of requests that it has made. A raw connection is one exchange, with number 1.
    pub exchange: u32,
    pub readable: bool,
    pub writable: bool,
    pub end: End,
    /// It waits in `turns`.
    pub has_turn: bool,
    /// It waits in `unflushed`.
    pub is_unflushed: bool,
    /// The timer that is set for it, and for when. It may be earlier than the deadline, never
    /// later: when it comes up early it is set anew. So a deadline that moves costs nothing.
    pub timer: Option<(Key, Instant)>,
    pub entry: Option<Box<Entry>>,
}

impl Peer {
    /// A socket that was just accepted: mio will say when there is something to read, and until it is
    /// full it can be written.
    pub fn new(connection: Connection, stream: TcpStream) -> Self {
        Peer {
            connection,
            stream,
            exchange: 0,
            readable: false,
            writable: true,
            end: End::Open,
            has_turn: false,
            is_unflushed: false,
            timer: None,
            entry: None,
        }
    }

    /// The socket of a raw connection, which is an exchange from its beginning.
    pub fn raw(connection: Connection, stream: TcpStream) -> Self {
        let writable = !connection.is_connecting();
        Peer { exchange: 1, writable, ..Peer::new(connection, stream) }
    }

    /// Finds out what has become of an outgoing connection, after mio has reported something about its socket.
    pub fn finish_connecting(&mut self) -> Option<Outcome> {
        let error = match self.stream.take_error() {
            Ok(None) => self.stream.peer_addr().err(),
            Ok(Some(error)) | Err(error) => Some(error),
        };
        match error {
            None => self.connection.opened(),
            // A spurious event: the peer has not answered yet.
            Some(error) if error.kind() == ErrorKind::NotConnected => {
                (self.readable, self.writable, self.end) = (false, false, End::Open);
                None
            }
            Some(error) => self.connection.lose(Closed::Refused(error.kind())),
        }
    }

    /// Notes what mio says. Events may be spurious: it is the read or the write that finds out.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if event.is_read_closed() && self.end == End::Open {
            self.end = End::Announced;
        }
    }

    /// Whether nothing is to be done for it until mio says so: all is read, decoded and written. An end
    /// that is known may have to be told.
    pub fn is_settled(&self) -> bool {
        !self.readable && self.end == End::Open && self.connection.is_settled()
    }

    /// Whether there is input, and nothing else to be done.
    pub fn has_only_input(&self) -> bool {
        self.readable && !self.has_turn && self.end == End::Open && self.connection.is_settled()
    }

    /// Whether there is something to write that nobody knows of yet.
    pub fn wants_flush(&self) -> bool {
        !self.is_unflushed && self.writable && self.connection.wants_output()
    }

    /// Whether there is something to read, to decode, or to tell.
    pub fn wants_turn(&self, limits: &Limits) -> bool {
        (self.readable && self.connection.wants_input(limits))
            || self.connection.can_decode(limits)
            || self.end_is_due(limits)
    }

    /// Whether the connection is to be told that its peer has shut down: when everything before
    /// that has been decoded, or when the program holds its request or stream, for then the peer
    /// has hung up.
    pub fn end_is_due(&self, limits: &Limits) -> bool {
        match self.end {
            End::Open | End::Told => false,
            End::Announced => self.connection.is_answering(),
            End::Reached if self.connection.can_decode(limits) => false,
            End::Reached => self.connection.is_answering() || !self.connection.is_paused(limits),
        }
    }

    /// Writes its outbox until it is empty or the socket takes no more, and shuts writing down when the
    /// connection says so.
    pub fn write(&mut self, context: &Context, spares: &mut Spares) -> Option<Outcome> {
        let mut count = 0;
        for _ in 0..WRITES_PER_TURN {
            if self.connection.outbox().is_empty() {
                break;
            }
            match self.connection.outbox_mut().write_to(&mut self.stream) {
                Ok(written) => count += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // What has arrived before is read all the same.
                    (self.readable, self.writable) = (true, false);
                    return self.connection.cannot_write();
                }
            }
        }
        spares.take_back(self.connection.outbox_mut());
        // A connection that drains may have had nothing to write.
        if self.connection.wrote(count, context) { self.shut_down_writing() } else { None }
    }

    fn shut_down_writing(&mut self) -> Option<Outcome> {
        let shut = self.stream.shutdown(Shutdown::Write);
        // The peer had its end before we had ours: nothing is left to wait for.
        let both_ended = matches!(self.end, End::Reached | End::Told) && !self.connection.is_in_use();
        if shut.is_err() {
            self.readable = true;
            self.connection.cannot_write()
        } else if both_ended {
            self.connection.lose(Closed::Finished)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs, `cargo test sizes -- --nocapture` prints it. Besides this there
    /// is an entry in the timers, and a box for a WebSocket.
    #[test]
    fn sizes() {
        let sizes = [
            ("connection: what connection.rs lists", size_of::<Connection>()),
            ("stream: the socket's file descriptor", size_of::<TcpStream>()),
            ("exchange: which request it is, so that names go stale", size_of::<u32>()),
            ("readable, writable, end, has_turn, is_unflushed: a byte each", size_of::<[bool; 4]>() + size_of::<End>()),
            ("timer: its key, and when it is due", size_of::<Option<(Key, Instant)>>()),
            ("entry: the log's, if there is a log", size_of::<Option<Box<Entry>>>()),
        ];
        for (field, size) in sizes {
            println!("{size:4} B  {field}");
        }
        println!("{:4} B  Peer, with padding", size_of::<Peer>());
        let sum: usize = sizes.iter().map(|(_, size)| size).sum();
        assert!((sum..sum + 8).contains(&size_of::<Peer>()), "a field is missing in the list");
        assert!(size_of::<Peer>() <= 208);
    }
}
