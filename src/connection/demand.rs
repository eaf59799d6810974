//! What a connection needs.

use std::time::Instant;

/// What a connection needs from its driver: all of it in one answer.
///
/// ```
/// # use std::time::Instant;
/// # use overwire::Limits;
/// # use overwire::connection::{Connection, Context};
/// # let (limits, now, origins) = (Limits::default(), Instant::now(), Default::default());
/// # let context = Context { limits, now, date: "today".into(), draining: false, origins };
/// let connection = Connection::new(&context);
/// let demand = connection.demand(&context.limits);
/// assert!(demand.read > 0 && !demand.decode && !demand.write);
/// assert_eq!(demand.deadline, Some(context.now + context.limits.idle_time));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// The number of bytes that may be read now, 0 for none: [`READ`](super::READ) or
    /// [`LARGE_READ`](super::LARGE_READ). Bytes that are not read stay in the kernel, whose window then closes:
    /// backpressure, not memory.
    pub read: usize,
    /// Kept bytes can be decoded now, or there is something else to report: call
    /// [`receive`](super::Connection::receive).
    pub decode: bool,
    /// There is something to write, or writing is to be shut down: write, and call [`wrote`](super::Connection::wrote).
    pub write: bool,
    /// When to call [`end_of_input`](super::Connection::end_of_input), once the peer has shut down its side.
    pub end_of_input: EndOfInput,
    /// What is to become of the socket.
    pub socket: Socket,
    /// When to call [`on_deadline`](super::Connection::on_deadline).
    pub deadline: Option<Instant>,
}

/// When a connection is to be told that its peer has shut down its side.
///
/// ```
/// # use std::time::Instant;
/// # use overwire::Limits;
/// # use overwire::connection::{Connection, Context};
/// # let (limits, now, origins) = (Limits::default(), Instant::now(), Default::default());
/// # let context = Context { limits, now, date: "today".into(), draining: false, origins };
/// # use overwire::connection::EndOfInput;
/// let mut connection = Connection::new(&context);
/// assert_eq!(connection.demand(&context.limits).end_of_input, EndOfInput::InOrder);
///
/// connection.receive(&mut &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], &context);
/// assert_eq!(connection.demand(&context.limits).end_of_input, EndOfInput::AtOnce, "it holds a request");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfInput {
    /// At once, even if bytes before it have not been read: the peer is owed something, and has hung up.
    AtOnce,
    /// When all bytes before it have been decoded.
    InOrder,
    /// Not while decoding pauses.
    Later,
}

/// What is to become of the socket of a connection.
///
/// ```
/// # use std::time::Instant;
/// # use overwire::Limits;
/// # use overwire::connection::{Connection, Context};
/// # let (limits, now, origins) = (Limits::default(), Instant::now(), Default::default());
/// # let context = Context { limits, now, date: "today".into(), draining: false, origins };
/// # use overwire::connection::Socket;
/// let mut connection = Connection::new(&context);
/// assert_eq!(connection.demand(&context.limits).socket, Socket::Keep);
/// connection.reset();
/// assert_eq!(connection.demand(&context.limits).socket, Socket::Reset);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// It stays open.
    Keep,
    /// It is closed.
    Close,
    /// It is closed with a TCP reset.
    Reset,
}
