//! A connection and its socket: the readiness of the socket, and what is to be done next.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::num::NonZeroU8;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;

use super::budget::Charge;
use super::groups::Membership;
use super::spares::Spares;
use crate::access_log::Entry;
use crate::connection::{Closed, Connection, Context, EndOfInput, Outcome, Socket};
use crate::limits::Limits;
use crate::proxy_protocol::Announced;
use crate::quotas::Place;
use crate::slab::Key;

/// The largest number of writes that one connection gets at a time.
const WRITES: usize = 16;

/// What is known of the end of a peer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has not come.
    Open,
    /// It lies after bytes that have not been read yet: the system says that the peer has shut down.
    Announced,
    /// It was read.
    Reached,
    /// It was read, and the connection knows.
    Told,
}

/// What is known of the bytes in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readable {
    /// There are none.
    No,
    /// There may be some. A read that does not fill the buffer has emptied the socket.
    Yes,
    /// There may be some, and a read may end early: before the end of the input, or before an urgent byte. Only
    /// `WouldBlock` shows that the socket is empty.
    UntilBlocked,
}

/// Whether a program asks for the traffic of a peer when there is some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    No,
    /// It does, and nothing has been moved since.
    Still,
    /// The peer is in the list of those that may have moved bytes.
    Moved,
}

/// A connection, its socket, and the readiness of the socket. mio is edge-triggered: it reports "ready" once, and this
/// remembers it until a call returns `WouldBlock`.
pub struct Peer {
    pub connection: Connection,
    pub stream: TcpStream,
    /// The number of requests that it has made. A raw connection is one exchange, with number 1.
    pub exchange: u32,
    pub readable: Readable,
    pub writable: bool,
    pub end: End,
    /// The system has not opened it yet.
    pub is_connecting: bool,
    /// It waits for its turn, or it is its turn.
    pub has_turn: bool,
    /// It waits to be flushed.
    pub is_unflushed: bool,
    pub watch: Watch,
    /// The slot of the listener that has accepted it.
    pub listener: u16,
    /// The second of the loop in which it was opened.
    pub opened: u32,
    /// The second in which something has arrived.
    pub seen: u32,
    /// The timer that is set for it, and its time, which may be earlier than the deadline, but not later. A timer that
    /// comes up early is set again. So a deadline that moves costs nothing.
    pub timer: Option<(Key, Instant)>,
    /// What is known only with a log or with proxies.
    pub notes: Option<Box<Notes>>,
    /// Since its deadline has passed while there was something to do: one more than the number of its turns.
    pub turns_after_deadline: Option<NonZeroU8>,
    /// Its place in a group.
    pub membership: Membership,
    /// Its part of the memory that all connections keep.
    pub charge: Charge,
    /// Its place among the connections of its client. `None` if the client is not known, or is exempt.
    pub place: Option<Place>,
    /// There is no place for it: its first request is refused.
    pub is_beyond: bool,
}

/// What most peers have no memory for.
#[derive(Debug, Default)]
pub struct Notes {
    /// The request that is being answered, if there is a log.
    pub entry: Option<Entry>,
    /// The client that a proxy has announced.
    pub announced: Option<Announced>,
}

/// One more than the largest number of turns that a connection gets after its deadline because there is something to
/// read. That is enough to read all that the system has kept of its input.
const TURNS_AFTER_DEADLINE: NonZeroU8 = NonZeroU8::new(129).unwrap();

/// What is to be done for a peer: what its connection demands, as far as its socket allows it.
pub struct Next {
    /// The number of bytes that may be read now.
    pub read: usize,
    /// There is something to read, to decode, or to tell the connection.
    pub turn: bool,
    /// The connection is to be told of the end of its input.
    pub end: bool,
    pub write: bool,
    pub close: bool,
    pub deadline: Option<Instant>,
}

impl Next {
    /// Whether there is something to read, to decode, or that the socket takes.
    pub fn has_work(&self) -> bool {
        self.turn || self.write
    }
}

impl Peer {
    /// The socket of an accepted connection. mio reports when there is something to read. It can be written until it is
    /// full.
    pub fn new(connection: Connection, stream: TcpStream) -> Self {
        Peer {
            connection,
            stream,
            exchange: 0,
            readable: Readable::No,
            writable: true,
            end: End::Open,
            is_connecting: false,
            has_turn: false,
            is_unflushed: false,
            watch: Watch::No,
            listener: u16::MAX,
            opened: 0,
            seen: 0,
            timer: None,
            notes: None,
            turns_after_deadline: None,
            membership: Membership::NONE,
            charge: Charge::default(),
            place: None,
            is_beyond: false,
        }
    }

    /// The socket of an accepted raw connection, which is an exchange from its beginning.
    pub fn raw(stream: TcpStream) -> Self {
        Peer { exchange: 1, ..Peer::new(Connection::raw(), stream) }
    }

    /// The socket of an outgoing connection that is not open yet.
    pub fn connecting(stream: TcpStream, context: &Context) -> Self {
        let connection = Connection::connecting(context);
        Peer { exchange: 1, is_connecting: true, writable: false, ..Peer::new(connection, stream) }
    }

    /// Notes a report of mio. It may be spurious: the read or the write finds that out.
    pub fn note(&mut self, event: &Event) -> Option<Outcome> {
        self.readable = self.readable.max(match event {
            event if event.is_read_closed() || event.is_priority() => Readable::UntilBlocked,
            event if event.is_readable() || event.is_error() => Readable::Yes,
            _ => Readable::No,
        });
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if event.is_read_closed() && self.end == End::Open {
            self.end = End::Announced;
        }
        if self.is_connecting { self.finish_connecting() } else { None }
    }

    /// Finds out whether an outgoing connection is open.
    fn finish_connecting(&mut self) -> Option<Outcome> {
        let error = match self.stream.take_error() {
            Ok(None) => self.stream.peer_addr().err(),
            Ok(Some(error)) | Err(error) => Some(error),
        };
        match error {
            None => {
                self.is_connecting = false;
                self.connection.opened()
            }
            // A spurious report: the peer has not answered yet.
            Some(error) if error.kind() == ErrorKind::NotConnected => {
                (self.readable, self.writable, self.end) = (Readable::No, false, End::Open);
                None
            }
            Some(error) => self.connection.lose(Closed::Refused(error.kind())),
        }
    }

    /// What is to be done. The only place that asks the connection.
    #[inline(always)] // No caller needs all of it.
    pub fn next(&self, limits: &Limits) -> Next {
        let demand = self.connection.demand(limits);
        // Bytes that are here are decoded before more are read.
        let read = if self.readable > Readable::No && !demand.decode { demand.read } else { 0 };
        let end = match (self.end, demand.end_of_input) {
            (End::Announced | End::Reached, EndOfInput::AtOnce) => true,
            (End::Reached, EndOfInput::InOrder) => !demand.decode,
            _ => false,
        };
        Next {
            read,
            turn: read > 0 || demand.decode || end,
            end,
            write: demand.write && self.writable,
            close: demand.socket != Socket::Keep,
            deadline: demand.deadline,
        }
    }

    /// Reads once into `buffer`, if the connection wants that, and returns the number of bytes.
    ///
    /// mio asks for reads until `WouldBlock`. But a read of a stream socket that does not fill the buffer has emptied
    /// it too (epoll(7), question 9), and the next byte is a new edge. So there is no second read that would only
    /// return `WouldBlock`. Not so when the end is announced, which has had its edge and must be read, and not when
    /// there is an urgent byte (`MSG_OOB`), before which a read stops.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn read(&mut self, buffer: &mut [u8], limits: &Limits) -> io::Result<usize> {
        let most = self.next(limits).read;
        if most == 0 {
            return Ok(0);
        }
        match self.stream.read(&mut buffer[..most]) {
            Ok(0) => {
                self.readable = Readable::No;
                if self.end != End::Told {
                    self.end = End::Reached;
                }
                Ok(0)
            }
            Ok(count) => {
                if count < most && self.readable == Readable::Yes {
                    self.readable = Readable::No;
                }
                self.connection.count_received(count);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = Readable::No;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Its deadline has passed, and there is something to do, which may show that it was met. Returns whether the
    /// deadline is put off until that is done. A peer that never stops sending does not put it off forever.
    pub fn put_off(&mut self) -> bool {
        *self.turns_after_deadline.get_or_insert(NonZeroU8::MIN) < TURNS_AFTER_DEADLINE
    }

    /// Counts a turn, after which the deadline may have moved beyond `noted_until`.
    pub fn count_turn(&mut self, noted_until: Instant, limits: &Limits) {
        let is_due = self.next(limits).deadline.is_some_and(|at| at <= noted_until);
        self.turns_after_deadline = self.turns_after_deadline.filter(|_| is_due).map(|turns| turns.saturating_add(1));
    }

    /// Whether its deadline is put off until there is nothing to do.
    pub fn is_put_off(&self) -> bool {
        self.turns_after_deadline.is_some_and(|turns| turns < TURNS_AFTER_DEADLINE)
    }

    /// Whether bytes lie in its socket, noted or not.
    pub fn has_input(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    pub fn is_member(&self) -> bool {
        self.membership != Membership::NONE
    }

    /// Writes if `more` bytes do not fit into the outbox, before the turn is over. So a peer is slow when its socket
    /// takes no more, not when the program says much at once.
    #[inline]
    pub fn make_room(&mut self, more: usize, context: &Context, spares: &mut Spares) -> Option<Outcome> {
        if more > 0 && self.writable && !self.connection.has_room(more, &context.limits) {
            return self.write(context, spares);
        }
        None
    }

    /// Writes its outbox until it is empty or the socket takes no more. Shuts writing down if the connection demands
    /// it.
    pub fn write(&mut self, context: &Context, spares: &mut Spares) -> Option<Outcome> {
        let mut count = 0;
        for _ in 0..WRITES {
            if self.connection.queued() == 0 {
                break;
            }
            match self.connection.write_to(&mut self.stream) {
                Ok(written) => count += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.cannot_write(error.kind()),
            }
        }
        spares.take_back(self.connection.outbox_mut());
        // A connection that drains may have had nothing to write.
        if self.connection.wrote(count, context) { self.shut_down_writing() } else { None }
    }

    /// A write has failed. What has arrived before is read all the same.
    fn cannot_write(&mut self, error: ErrorKind) -> Option<Outcome> {
        (self.readable, self.writable) = (self.readable.max(Readable::Yes), false);
        self.connection.cannot_write(Closed::by(error))
    }

    fn shut_down_writing(&mut self) -> Option<Outcome> {
        if let Err(error) = self.stream.shutdown(Shutdown::Write) {
            return self.cannot_write(error.kind());
        }
        // The peer has shut down before: there is nothing to wait for. Raw connections see to that themselves.
        let both_ended = matches!(self.end, End::Reached | End::Told) && !self.connection.is_held();
        if both_ended { self.connection.lose(Closed::Finished) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of an idle connection: `cargo test sizes -- --nocapture` prints it. An entry in the timers is added
    /// to this, and a box for a WebSocket.
    #[test]
    fn sizes() {
        let sizes = [
            ("connection: what connection/mod.rs lists", size_of::<Connection>()),
            ("stream: the file descriptor of the socket", size_of::<TcpStream>()),
            ("exchange: its number, so that ids go stale", size_of::<u32>()),
            (
                "readable, writable, end, is_connecting, has_turn, is_unflushed: a byte each",
                size_of::<[bool; 4]>() + size_of::<Readable>() + size_of::<End>(),
            ),
            ("watch: whether its traffic is asked for", size_of::<Watch>()),
            ("listener: its slot", size_of::<u16>()),
            ("opened, seen: a second each", 2 * size_of::<u32>()),
            ("turns_after_deadline: a count, if it is due", size_of::<Option<NonZeroU8>>()),
            ("timer: its key and its time", size_of::<Option<(Key, Instant)>>()),
            ("notes: for the log and about proxies, if there are any", size_of::<Option<Box<Notes>>>()),
            ("membership: its place in a group, if it is in one", size_of::<Membership>()),
            ("charge: the memory that it is known to keep", size_of::<Charge>()),
            ("place: among the connections of its client", size_of::<Option<Place>>()),
            ("is_beyond: whether there is no place for it", size_of::<bool>()),
        ];
        for (field, size) in sizes {
            println!("{size:4} B  {field}");
        }
        println!("{:4} B  Peer, with padding", size_of::<Peer>());
        let sum: usize = sizes.iter().map(|(_, size)| size).sum();
        assert!((sum..sum + 8).contains(&size_of::<Peer>()), "a field is missing in the list");
        assert!(size_of::<Peer>() <= 240);
    }
}
