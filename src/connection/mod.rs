//! One connection without its socket: a state machine. It decides everything about a connection and does nothing to a
//! socket: bytes are arguments, the time is an argument, and what is to be written waits in the outbox. After each
//! step, [`Demand`] says what it needs next.
//!
//! ```text
//! from                  when                                         to
//! Idle                  the first byte of a request                  Head
//! Head                  the head is complete                         Content, or Held without any
//! Content               the content is complete                      Held
//! Held                  respond                                      Idle, or Draining if not persistent
//! Held                  begin                                        Streaming
//! Held                  upgrade                                      WebSocket
//! Streaming             end                                          Idle, or Draining if not persistent
//! WebSocket             close, end                                   CloseSent
//! WebSocket, CloseSent  the peer's Close, or a violation             Draining
//! Idle, Head, Content   idle too long, too slow, too long, wrong     Draining
//! Streaming, WebSocket  more is queued than the limit allows         Draining
//! WebSocket             a message is too slow                        Draining
//! Draining              all is written: shut down writing            Lingering
//! Lingering             the peer has shut down too                   Closed
//! any                   the connection breaks, or a deadline passes  Closed
//! any                   reset                                        Reset
//! ```
//!
//! A connection that a proxy announces begins with a header:
//!
//! ```text
//! from                  when                                         to
//! Announcing            the header is complete                       Idle
//! Announcing            too slow, or not a header                    Closed
//! ```
//!
//! A raw connection carries bytes that nobody decodes. Its two directions end one by one:
//!
//! ```text
//! from                  when                                         to
//! Connecting            the peer has accepted                        Raw
//! Connecting            refused, or the deadline passes              Closed
//! Raw                   both directions have ended                   Closed
//! Raw                   close                                        Draining
//! Raw                   serve_http                                   Idle
//! Raw                   more is queued than the limit allows         Reset
//! ```
//!
//! The event loop is the only user inside this crate. A driver of its own needs no more than this:
//!
//! ```
//! use std::time::Instant;
//! use overwire::Limits;
//! use overwire::connection::{Connection, Context, Outcome};
//! use overwire::http::{Origins, Response};
//!
//! let (limits, now, origins) = (Limits::default(), Instant::now(), Origins::default());
//! let context = Context { limits, now, date: "today".into(), draining: false, origins };
//! let mut connection = Connection::new(&context);
//!
//! let mut input = &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..];
//! connection.count_received(input.len());
//! let Some(Outcome::Request(request)) = connection.receive(&mut input, &context) else { panic!("a whole request") };
//! assert_eq!(request.target(), "/");
//!
//! connection.respond(&Response::text(200, "hello"), &context);
//! let mut socket = Vec::new();
//! while connection.demand(&context.limits).write {
//!     let count = connection.write_to(&mut socket).unwrap();
//!     connection.wrote(count, &context);
//! }
//! assert!(socket.starts_with(b"HTTP/1.1 200 OK\r\n") && socket.ends_with(b"hello"));
//! ```

mod backlog;
mod demand;
mod http;
mod outcome;
mod raw;
mod websocket;

use std::io::{self, Write};
use std::mem;
use std::time::Instant;

use self::backlog::Backlog;
pub use self::demand::{Demand, EndOfInput, Socket};
use self::http::{AnswerRules, Arriving};
pub use self::outcome::{Closed, ConnectionState, Outcome};
use self::raw::{Input, Output, Raw};
use self::websocket::WebSocket;
use crate::http::{Origins, RequestError, Response};
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::websocket::CloseCode;

/// The number of bytes that one read may take. What cannot be decoded yet is kept, so this bounds what waits while a
/// request is held.
pub const READ: usize = 64 * 1024;

/// The same for an open WebSocket whose peer has read all that it was sent: several large messages.
pub const LARGE_READ: usize = 256 * 1024;

/// The number of bytes from which on a payload is moved into the outbox, and not copied.
const LARGE: usize = 16 * 1024;

/// What a connection needs to know of the world in order to take its next step.
///
/// ```
/// use std::time::Instant;
/// use overwire::Limits;
/// use overwire::connection::Context;
/// use overwire::http::{Origins, format_date};
///
/// let (limits, now, origins) = (Limits::default(), Instant::now(), Origins::default());
/// let context = Context { limits, now, date: format_date(784_111_777), draining: false, origins };
/// assert_eq!(context.date, "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Debug, Clone)]
pub struct Context {
    /// The bounds.
    pub limits: Limits,
    /// The time.
    pub now: Instant,
    /// The value of the Date field.
    pub date: String,
    /// The server is shutting down: no connection persists.
    pub draining: bool,
    /// The foreign origins whose pages may read answers.
    pub origins: Origins,
}

/// The number of bytes that a connection has moved since it was opened.
///
/// ```
/// use overwire::Traffic;
///
/// let (before, after) = (Traffic { received: 10, sent: 500 }, Traffic { received: 10, sent: 750 });
/// assert_eq!(after.sent - before.sent, 250);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that have arrived.
    pub received: u64,
    /// Bytes that were queued for writing.
    pub sent: u64,
}

#[derive(Debug)]
enum State {
    /// Before the header of the PROXY protocol is complete.
    Announcing,
    /// Between two requests.
    Idle,
    /// In the middle of a request head.
    Head,
    /// In the middle of a request's content.
    Content(Box<Arriving>),
    /// The application holds a request. Decoding pauses.
    Held(AnswerRules),
    /// The application sends a stream. Decoding pauses.
    Streaming(AnswerRules),
    /// Open.
    WebSocket(Box<WebSocket>),
    /// We have sent a Close frame and wait for the peer's.
    CloseSent(Box<WebSocket>),
    /// The outbox is still to be written. Then writing is shut down.
    Draining,
    /// Writing is shut down. Input is read and dropped, because a socket closed with unread input
    /// sends a reset, and a reset destroys what the peer has not read yet (RFC 9112, section 9.6).
    Lingering,
    /// An outgoing connection that the peer has not accepted yet. What is queued waits.
    Connecting(Raw),
    /// A raw connection: bytes are passed on, not decoded.
    Raw(Raw),
    /// Over.
    Closed,
    /// Over, and the peer gets a TCP reset.
    Reset,
}

/// The result of decoding bytes off the front of the input.
enum Step {
    /// There may be more to decode.
    Decoded,
    /// The bytes completed this.
    Complete(Outcome),
    /// The rest needs more bytes after it.
    Starved,
}

/// The state of one connection. The [module](self) has an example.
#[derive(Debug)]
pub struct Connection {
    state: State,
    backlog: Backlog,
    outbox: Outbox,
    deadline: Option<Instant>,
    received: u64,
}

/// Its life.
impl Connection {
    /// The bytes of what a WebSocket has in a box.
    pub const BOXED: usize = size_of::<WebSocket>();

    fn in_state(state: State, deadline: Option<Instant>) -> Self {
        Connection { state, backlog: Backlog::default(), outbox: Outbox::default(), deadline, received: 0 }
    }

    /// An accepted connection that speaks HTTP.
    pub fn new(context: &Context) -> Self {
        Connection::in_state(State::Idle, Some(context.now + context.limits.idle_time))
    }

    /// An accepted connection that speaks HTTP after a header of the PROXY protocol.
    pub fn of_proxy(context: &Context) -> Self {
        Connection::in_state(State::Announcing, Some(context.now + context.limits.head_time))
    }

    /// A connection that is refused before it has said anything: it gets `response`, and is closed.
    pub fn refused(response: &Response, context: &Context) -> Self {
        let mut connection = Connection::new(context);
        connection.answer_and_close(response, context);
        connection
    }

    /// What it needs next. The driver acts on this answer alone.
    #[inline(always)] // It is asked several times for each message, and no caller needs all of it.
    pub fn demand(&self, limits: &Limits) -> Demand {
        let (has_backlog, has_output) = (!self.backlog.is_empty(), !self.outbox.is_empty());
        let mut demand = Demand {
            read: READ,
            decode: has_backlog && !self.backlog.starved,
            write: has_output,
            end_of_input: EndOfInput::InOrder,
            socket: Socket::Keep,
            deadline: self.deadline,
        };
        match self.state {
            // The first bytes are read all the same, because a hang-up can be seen only after them.
            _ if self.is_paused(limits) => {
                (demand.read, demand.decode) = (if has_backlog { 0 } else { READ }, false);
                demand.end_of_input = if self.is_answering() { EndOfInput::AtOnce } else { EndOfInput::Later };
            }
            // Messages are decoded as they arrive, and the peer reads what it is sent: little will have to be kept.
            State::WebSocket(_) if !has_output => demand.read = LARGE_READ,
            State::Draining => demand.write = true,
            State::Connecting(_) => (demand.read, demand.end_of_input) = (0, EndOfInput::Later),
            State::Raw(raw) => {
                // After the end of the input, a read may still find out that the connection is broken.
                demand.read = if raw.input == Input::Paused { 0 } else { READ };
                demand.decode = raw.has_news();
                demand.write |= raw.output == Output::Ending;
            }
            State::Closed => (demand.read, demand.socket) = (0, Socket::Close),
            State::Reset => (demand.read, demand.socket) = (0, Socket::Reset),
            _ => {}
        }
        demand
    }

    /// Whether a request or a stream of the application keeps decoding from going on.
    fn is_answering(&self) -> bool {
        matches!(self.state, State::Held(_) | State::Streaming(_))
    }

    // ANCHOR: paused
    /// Whether decoding pauses: until the application has answered, or until the peer has read some of what is queued
    /// for it.
    fn is_paused(&self, limits: &Limits) -> bool {
        match self.state {
            State::Held(_) | State::Streaming(_) => true,
            State::Idle | State::Head | State::Content(_) | State::WebSocket(_) | State::CloseSent(_) => {
                self.outbox.cost() > limits.outbox / 2
            }
            _ => false,
        }
    }
    // ANCHOR_END: paused

    /// Whether the application holds something: an unanswered request, a stream, a WebSocket or a raw connection.
    #[inline]
    pub fn is_held(&self) -> bool {
        use State::*;
        matches!(self.state, Held(_) | Streaming(_) | WebSocket(_) | Connecting(_) | Raw(_))
    }

    /// Returns the step that it is at, as far as it concerns an operator.
    pub fn state(&self) -> ConnectionState {
        match self.state {
            State::Idle => ConnectionState::Idle,
            State::Announcing | State::Head | State::Content(_) => ConnectionState::Receiving,
            State::Held(_) => ConnectionState::Held,
            State::Streaming(_) => ConnectionState::Streaming,
            State::WebSocket(_) => ConnectionState::WebSocket,
            State::Connecting(_) | State::Raw(_) => ConnectionState::Raw,
            State::CloseSent(_) | State::Draining | State::Lingering | State::Closed | State::Reset => {
                ConnectionState::Closing
            }
        }
    }

    /// Whether it is between two requests: it owes no answer, and none has begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Returns since when it is between two requests with nothing queued and nothing kept, if it is.
    pub fn idle_since(&self, limits: &Limits) -> Option<Instant> {
        let is_idle = self.is_idle() && self.outbox.is_empty() && self.backlog.is_empty();
        self.deadline.filter(|_| is_idle).and_then(|deadline| deadline.checked_sub(limits.idle_time))
    }

    /// Whether nothing is decoded any more.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Draining | State::Lingering | State::Closed | State::Reset)
    }

    fn drain(&mut self, context: &Context) {
        self.state = State::Draining;
        self.deadline = Some(context.now + context.limits.closing_time);
    }

    /// The connection is over, because of `why`. Returns [`Outcome::Closed`] if the application holds something.
    pub fn lose(&mut self, why: Closed) -> Option<Outcome> {
        let is_held = self.is_held();
        self.state = State::Closed;
        self.deadline = None;
        self.outbox.clear();
        self.backlog = Backlog::default();
        is_held.then_some(Outcome::Closed(why))
    }

    /// Closes the connection with a TCP reset. What is queued is dropped.
    pub fn reset(&mut self) {
        drop(self.abort(Closed::Reset));
    }

    /// The same, because of `why`. Returns [`Outcome::Closed`] if the application holds something.
    pub fn abort(&mut self, why: Closed) -> Option<Outcome> {
        let outcome = self.lose(why);
        self.state = State::Reset;
        outcome
    }

    /// The server is shutting down. What the application still holds gets an end that its client understands: 503, the
    /// last-chunk, or status code 1001. A request that is not complete is refused with 503. An idle connection is
    /// closed at once.
    pub fn go_away(&mut self, context: &Context) -> Option<Outcome> {
        match self.state {
            State::Announcing => drop(self.lose(Closed::Finished)),
            State::Idle if self.outbox.is_empty() => drop(self.lose(Closed::Finished)),
            State::Idle => self.drain(context),
            State::Head | State::Content(_) => return Some(self.refuse(RequestError::GoingAway, context)),
            State::Held(_) => self.respond(&Response::error(503, "the server is going away"), context),
            State::Streaming(_) => self.end(context),
            State::WebSocket(_) | State::Raw(_) | State::Connecting(_) => {
                self.close(CloseCode::GOING_AWAY, "the server is going away", context);
            }
            _ => {}
        }
        None
    }

    /// The deadline has passed.
    pub fn on_deadline(&mut self, context: &Context) -> Option<Outcome> {
        match self.state {
            State::Idle if self.outbox.is_empty() => {
                self.drain(context);
                None
            }
            State::Head => Some(self.refuse(RequestError::HeadTimeout, context)),
            State::Content(_) => Some(self.refuse(RequestError::ContentTimeout, context)),
            State::WebSocket(_) => self.on_websocket_deadline(context),
            State::Held(_) | State::Streaming(_) => {
                self.deadline = None;
                None
            }
            _ => self.lose(Closed::TimedOut),
        }
    }
}

/// Its input.
impl Connection {
    /// Notes that `count` bytes were read from the socket, before they are decoded.
    pub fn count_received(&mut self, count: usize) {
        self.received += count as u64;
        if let State::WebSocket(socket) | State::CloseSent(socket) = &mut self.state {
            socket.heard = true;
        }
    }

    /// Decodes from the backlog and then from the front of `fresh`, until there is something to report. On `None`, all
    /// of `fresh` has been decoded, dropped, or kept for later.
    #[inline] // Every turn ends with a call that finds nothing.
    pub fn receive(&mut self, fresh: &mut &[u8], context: &Context) -> Option<Outcome> {
        match self.state {
            State::Raw(_) => self.pass_on(fresh),
            _ if fresh.is_empty() && self.backlog.is_empty() => None,
            _ => self.receive_bytes(fresh, context),
        }
    }

    fn receive_bytes(&mut self, fresh: &mut &[u8], context: &Context) -> Option<Outcome> {
        while !fresh.is_empty() || !self.backlog.is_empty() {
            if self.is_over() {
                self.backlog = Backlog::default();
                *fresh = &[];
                return None;
            }
            if self.is_paused(&context.limits) {
                self.backlog.append(fresh);
                return None;
            }
            let step = if self.backlog.is_empty() {
                self.decode(fresh, context)
            } else if self.starves(fresh, context) {
                return None;
            } else {
                let mut backlog = mem::take(&mut self.backlog);
                let mut rest = backlog.rest();
                let step = self.decode(&mut rest, context);
                let left = rest.len();
                backlog.leave(left);
                self.backlog = backlog;
                step
            };
            match step {
                Step::Decoded => {}
                Step::Complete(outcome) => return Some(outcome),
                Step::Starved => {
                    self.backlog.append(fresh);
                    self.backlog.starved = true;
                    return None;
                }
            }
        }
        None
    }

    /// Adds `fresh` to the backlog, and returns whether it is too early to decode the two.
    fn starves(&mut self, fresh: &mut &[u8], context: &Context) -> bool {
        let length = self.backlog.rest().len();
        let may_wait = !fresh.is_empty() && !fresh.contains(&b'\n');
        self.backlog.append(fresh);
        self.backlog.starved = may_wait && self.may_wait_for_line_end(length, context);
        self.backlog.starved
    }

    /// Takes one step, and the bytes that it decodes off the front of `input`.
    fn decode(&mut self, input: &mut &[u8], context: &Context) -> Step {
        match &mut self.state {
            State::WebSocket(_) | State::CloseSent(_) => self.decode_frames(input, context),
            State::Idle => self.begin_head(input, context),
            State::Head => self.decode_head(input, context),
            State::Content(_) => self.decode_content(input, context),
            State::Announcing => self.decode_announcement(input, context),
            _ => Step::Starved,
        }
    }

    /// Keeps bytes that could be decoded now for another turn.
    pub fn postpone(&mut self, fresh: &mut &[u8]) {
        self.backlog.append(fresh);
    }

    /// Frees the memory that it keeps for a next message of the same turn: the turn is over. Returns the memory that its
    /// input still keeps.
    pub fn end_turn(&mut self) -> usize {
        if let State::WebSocket(socket) | State::CloseSent(socket) = &mut self.state {
            socket.receiver.release_spare();
        }
        self.input_memory()
    }

    /// The memory of what has arrived and is not complete, in bytes: a part of a request or of a message, and bytes that
    /// wait until decoding goes on.
    #[inline]
    pub fn input_memory(&self) -> usize {
        let incomplete = match &self.state {
            State::Content(arriving) => arriving.memory(),
            State::WebSocket(socket) | State::CloseSent(socket) => socket.receiver.memory(),
            _ => 0,
        };
        self.backlog.memory() + incomplete
    }

    /// The peer has shut down its side. One that does so while it waits for an answer or a stream has hung up: there is
    /// no other sign of it.
    pub fn end_of_input(&mut self, context: &Context) -> Option<Outcome> {
        match self.state {
            State::Head | State::Content(_) => Some(self.refuse(RequestError::EndedEarly, context)),
            State::Idle if !self.outbox.is_empty() => {
                self.drain(context);
                None
            }
            State::Draining | State::Connecting(_) => None,
            // Answers to earlier requests may be waiting, and the peer may still read.
            State::Held(_) | State::Streaming(_) if !self.outbox.is_empty() => {
                self.drain(context);
                Some(Outcome::Closed(Closed::HungUp))
            }
            State::Raw(_) => self.end_input(),
            _ => self.lose(Closed::HungUp),
        }
    }
}

/// Its output.
impl Connection {
    /// The number of bytes that are queued.
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// What the queued bytes count for [`Limits::outbox`]: the places of segments in the queue count too.
    pub fn cost(&self) -> usize {
        self.outbox.cost()
    }

    /// The memory that its queue alone keeps, in bytes. Bytes that are queued for others too are not its own.
    pub fn output_memory(&self) -> usize {
        self.outbox.memory()
    }

    /// The number of bytes so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { received: self.received, sent: self.outbox.total() }
    }

    pub(crate) fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Whether `more` bytes fit into the outbox. An empty one takes any number. If they do not fit, it is time to
    /// write.
    #[inline]
    pub fn has_room(&self, more: usize, limits: &Limits) -> bool {
        self.outbox.is_empty() || self.outbox.cost() + more <= limits.outbox
    }

    /// Writes what `socket` takes of the outbox in one call. [`wrote`](Self::wrote) is to be called with the sum of
    /// such calls.
    ///
    /// # Errors
    /// Those of `socket`, `WouldBlock` among them.
    pub fn write_to(&mut self, socket: &mut impl Write) -> io::Result<usize> {
        self.outbox.write_to(socket)
    }

    /// Notes that `count` bytes of the outbox were written. Returns whether writing is to be shut down now: the peer
    /// then sees the end, and may still be read.
    #[must_use]
    pub fn wrote(&mut self, count: usize, context: &Context) -> bool {
        let limits = &context.limits;
        match &mut self.state {
            State::Idle if count > 0 => self.deadline = Some(context.now + limits.idle_time),
            // While nothing is read because of what is queued, reading is the only sign of life of the peer.
            State::WebSocket(socket) if count > 0 && self.outbox.cost() + count > limits.outbox / 4 => {
                socket.heard = true
            }
            State::Raw(_) if self.outbox.is_empty() => return self.drained(),
            State::Draining if self.outbox.is_empty() => {
                self.state = State::Lingering;
                self.deadline = Some(context.now + limits.closing_time);
                return true;
            }
            State::Draining | State::CloseSent(_) if count > 0 => {
                self.deadline = Some(context.now + limits.closing_time)
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its part of what an idle connection costs: `cargo test sizes -- --nocapture`.
    #[test]
    fn sizes() {
        let sizes = [
            ("state: boxed where it needs more than a few bytes", size_of::<State>()),
            ("backlog: a Vec without memory, most of the time", size_of::<Backlog>()),
            ("outbox: a place for one segment, and counts", size_of::<Outbox>()),
            ("deadline", size_of::<Option<Instant>>()),
            ("received: for the statistics", size_of::<u64>()),
        ];
        for (field, size) in sizes {
            println!("{size:4} B  {field}");
        }
        println!("{:4} B  Connection", size_of::<Connection>());
        println!("{:4} B  WebSocket, in a box of its own", size_of::<WebSocket>());
        assert_eq!(sizes.iter().map(|(_, size)| size).sum::<usize>(), size_of::<Connection>());
        assert!(size_of::<Connection>() <= 136 && size_of::<WebSocket>() <= 120);
    }
}
