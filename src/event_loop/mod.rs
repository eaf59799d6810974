//! The event loop: every system call on a socket is here, and nothing else is. It moves bytes
//! between sockets and [`Connection`]s, keeps their deadlines, and hands one [`Event`] after the
//! other to the program that pulls them. The only module that imports mio.
//!
//! One round of the loop: sleep until a socket is ready or a timer is due; give each connection
//! that is ready one turn, in which at most one buffer is read and decoded; flush what the program
//! has queued; sleep again. Nothing is written inside [`send`](EventLoop::send), so a burst to one
//! peer is one `writev`, and 16 pipelined messages cost one read and one write. Only much is written
//! sooner: what would not fit into an outbox, and what would not stay in the processor's cache.

mod peer;
mod spares;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};

use self::peer::{End, Peer};
use self::spares::Spares;
use crate::access_log::{AccessLog, Entry};
use crate::bytes::Shared;
pub use crate::connection::Closed;
use crate::connection::{Connection, Context, Outcome, Traffic};
use crate::http::{Request, Response, format_date};
use crate::limits::Limits;
use crate::linger;
use crate::signals;
use crate::slab::{Key, Slab};
use crate::timers::Timers;
use crate::websocket::{Accepted, CloseCode, Message};

const WAKER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);
/// The token of the first listener. Those of connections are their slots, which come nowhere near.
const LISTENERS: usize = usize::MAX / 2;

/// How much one connection may take of one turn: one read of so many bytes. What cannot be decoded
/// yet is kept, so this bounds what waits behind a held request.
const READ: usize = 64 * 1024;

/// The same for an open WebSocket whose peer has read all that it was sent: several large messages.
const LARGE_READ: usize = 256 * 1024;

/// How many requests or messages it may have decoded in one turn: each may be work for the program.
const EVENTS_PER_TURN: usize = 64;

/// How many connections are accepted in one turn.
const ACCEPTS_PER_TURN: usize = 256;

/// From how many bytes on an outbox is written at the end of its connection's own turn, and not when
/// all have had theirs: by then the bytes would have left the processor's cache.
const WARM: usize = 8 * 1024;

/// How long accepting pauses when the system has no file descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections beyond the limit are told so at a time; those beyond are closed unheard.
const REFUSALS: usize = 16;

/// The id of one request and of its answer, stream or WebSocket. When that is over, the id is stale, even if the
/// connection goes on: an operation on it does nothing, and never reaches another request or another connection. A
/// raw connection is one exchange, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    key: Key,
    /// The number of the request on its connection, counted from 1.
    exchange: u32,
}

/// The id of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(Key);

/// The id of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(Key);

/// The protocol of the connections that a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP, and WebSocket after an [upgrade](EventLoop::upgrade): the program gets requests and messages.
    Http,
    /// Nothing that the loop decodes: the program gets [bytes](Event::Bytes).
    Raw,
}

/// How a raw connection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A listener has accepted it.
    Accepted {
        /// The listener, which [speaks](Speaks) raw.
        listener: ListenerId,
        /// The address of the other end.
        peer: SocketAddr,
    },
    /// It is the program's own, by [`connect`](EventLoop::connect).
    Connected,
}

/// What a program gets from the loop.
#[derive(Debug)]
pub enum Event {
    // ANCHOR: hold
    /// A whole request. It is the program's until it [responds](EventLoop::respond), or
    /// [begins](EventLoop::begin) a stream and [ends](EventLoop::end) it. It may take its time: to
    /// hold a request is to keep its `ExchangeId`.
    Request(ExchangeId, Request),
    // ANCHOR_END: hold
    /// A whole message on an open WebSocket.
    Message(ExchangeId, Message),
    /// A raw connection is open.
    Opened(ExchangeId, Opened),
    /// Bytes of a raw connection, as they arrived: never none, and at most 64 KiB.
    Bytes(ExchangeId, Vec<u8>),
    /// The peer of a raw connection has shut down its side: no bytes follow. The program may go on sending, until it
    /// [ends](EventLoop::end) its own side; then [`Closed::Finished`] follows.
    EndOfInput(ExchangeId),
    /// All that [`send_bytes`](EventLoop::send_bytes) had queued on a raw connection has been written.
    Drained(ExchangeId),
    /// A timer is due. It is no longer set.
    Timer(TimerId),
    /// What the program held, an unanswered request, a stream, a WebSocket or a raw connection, has ended without the
    /// program ending it.
    Closed(ExchangeId, Closed),
    /// SIGINT, SIGTERM or [`Remote::shut_down`]: no connection is accepted any more. Told once;
    /// answer what is held, and call [`drain`](EventLoop::drain).
    Shutdown,
}

/// Why a timer was set.
#[derive(Debug)]
enum Due {
    Connection(Key),
    Program,
    AcceptAgain(Key),
}

/// Whether a listener has connections for us.
#[derive(Debug, PartialEq, Eq)]
enum Accepting {
    /// There may be some: accept until `WouldBlock`.
    Ready,
    /// There is none until mio says so.
    Waiting,
    /// The system has no room for one: wait for a timer.
    Paused,
}

struct Listener {
    socket: TcpListener,
    speaks: Speaks,
    accepting: Accepting,
}

/// The connection whose turn it is, and its part of the read buffer that is not decoded yet.
struct Turn {
    key: Key,
    start: usize,
    end: usize,
    /// How many events it has had.
    events: usize,
}

struct RemoteState {
    waker: Waker,
    shut_down: AtomicBool,
    /// By how many nanoseconds the loop's clock is ahead of the system's.
    ahead: AtomicU64,
}

/// A handle to a loop that runs in another thread.
#[derive(Clone)]
pub struct Remote(Arc<RemoteState>);

impl Remote {
    /// Has the loop report [`Event::Shutdown`].
    pub fn shut_down(&self) {
        self.0.shut_down.store(true, Ordering::Release);
        self.wake();
    }

    /// Sets the loop's clock forward, and has it look at its timers: with this, a test of a
    /// timeout of a minute takes no minute.
    pub fn advance_clock(&self, by: Duration) {
        self.0.ahead.fetch_add(by.as_nanos() as u64, Ordering::AcqRel);
        self.wake();
    }

    fn ahead(&self) -> Duration {
        Duration::from_nanos(self.0.ahead.load(Ordering::Acquire))
    }

    fn wake(&self) {
        // It fails only when the loop is gone.
        let _ = self.0.waker.wake();
    }
}

/// A server's sockets, timers and connections, in one thread.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    listeners: Slab<Listener>,
    /// The address of the first listener.
    address: Option<SocketAddr>,
    /// Listeners that are [`Accepting::Ready`].
    accepting: Vec<Key>,
    signals: Option<UnixStream>,
    remote: Remote,
    shutdown_told: bool,
    /// What connections need to know.
    world: Context,
    /// When the date in it changes.
    date_until: Instant,
    peers: Slab<Peer>,
    timers: Timers<Due>,
    /// Lent to one connection after the other for its turn. A connection owns a buffer only while
    /// it has a part of something.
    buffer: Box<[u8]>,
    turn: Option<Turn>,
    turns: VecDeque<Key>,
    /// How many of `turns` are left before the loop flushes and looks for news.
    left_in_round: usize,
    unflushed: Vec<Key>,
    spares: Spares,
    /// The limit on connections was reached, and standard error has a line about it. It gets another
    /// one when the limit is reached again after half of the connections have gone.
    is_full_told: bool,
    pending: VecDeque<Event>,
    /// Closed connections, kept until their `Closed` has been told.
    closed: Vec<Key>,
    log: Option<AccessLog>,
}

impl EventLoop {
    /// A loop that listens on `address` for HTTP. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, and whatever else the system says.
    pub fn bind(address: impl ToSocketAddrs, limits: Limits) -> io::Result<Self> {
        let mut event_loop = EventLoop::new(limits)?;
        event_loop.listen(address, Speaks::Http)?;
        Ok(event_loop)
    }

    /// A loop that does not listen yet.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let now = Instant::now();
        let state = RemoteState { waker, shut_down: AtomicBool::new(false), ahead: AtomicU64::new(0) };
        Ok(EventLoop {
            poll,
            events: Events::with_capacity(1024),
            listeners: Slab::default(),
            address: None,
            accepting: Vec::new(),
            signals: None,
            remote: Remote(Arc::new(state)),
            shutdown_told: false,
            world: Context { limits, now, date: String::new(), draining: false },
            date_until: now,
            peers: Slab::default(),
            timers: Timers::default(),
            buffer: vec![0; LARGE_READ].into(),
            turn: None,
            turns: VecDeque::new(),
            left_in_round: 0,
            unflushed: Vec::new(),
            spares: Spares::default(),
            is_full_told: false,
            pending: VecDeque::new(),
            closed: Vec::new(),
            log: None,
        })
    }

    /// Listens on one more address. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, and whatever else the system says.
    pub fn listen(&mut self, address: impl ToSocketAddrs, speaks: Speaks) -> io::Result<ListenerId> {
        let mut result = Err(io::Error::new(ErrorKind::InvalidInput, "no address to listen on"));
        for address in address.to_socket_addrs()? {
            result = TcpListener::bind(address);
            if result.is_ok() {
                break;
            }
        }
        let socket = result?;
        let address = socket.local_addr()?;
        let key = self.listeners.insert(Listener { socket, speaks, accepting: Accepting::Waiting });
        let token = Token(LISTENERS + key.slot());
        if let Some(listener) = self.listeners.get_mut(key)
            && let Err(error) = self.poll.registry().register(&mut listener.socket, token, Interest::READABLE)
        {
            self.listeners.remove(key);
            return Err(error);
        }
        self.address.get_or_insert(address);
        Ok(ListenerId(key))
    }

    /// Stops listening. The system refuses later connections; those that are open stay.
    pub fn close_listener(&mut self, id: ListenerId) {
        self.listeners.remove(id.0);
    }

    /// The address that a listener listens on, unless it is closed.
    pub fn address_of(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id.0).and_then(|listener| listener.socket.local_addr().ok())
    }

    /// The address of the first listener, even if it is closed; 0.0.0.0:0 if there never was one.
    pub fn local_address(&self) -> SocketAddr {
        self.address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Opens a raw connection to `address`. [`Event::Opened`] follows; or [`Event::Closed`] with
    /// [`Closed::Refused`], or with [`Closed::TimedOut`] after [`Limits::connect_time`]. Bytes that are queued before
    /// wait until it is open.
    ///
    /// # Errors
    /// Those that the system has at once: no file descriptor is left, or there is no route to the address.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<ExchangeId> {
        let stream = TcpStream::connect(address)?;
        let _ = stream.set_nodelay(true);
        let key = self.register(Peer::raw(Connection::connecting(&self.world), stream))?;
        self.settle(key);
        Ok(ExchangeId { key, exchange: 1 })
    }

    /// How many connections are open, in whatever state.
    pub fn connections(&self) -> usize {
        self.peers.len()
    }

    /// The time of the current turn of the loop, by the clock that its timers use.
    pub fn now(&self) -> Instant {
        self.world.now
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Has SIGINT and SIGTERM reported as [`Event::Shutdown`]. One loop of a process can have them.
    ///
    /// # Errors
    /// What the system says when it refuses a handler.
    pub fn watch_signals(&mut self) -> io::Result<()> {
        let mut socket = UnixStream::from_std(signals::watch()?);
        self.poll.registry().register(&mut socket, SIGNALS, Interest::READABLE)?;
        self.signals = Some(socket);
        Ok(())
    }

    /// Writes a line for each request to `sink`: time, peer, method, target, status, bytes of the
    /// answer, duration. The line of a stream or a WebSocket is written when it is over.
    pub fn log_requests(&mut self, sink: impl Write + 'static) {
        self.log = Some(AccessLog::new(sink));
    }

    /// Waits for the next event. The only driver: between two calls, nothing is read or written.
    ///
    /// # Errors
    /// Only when the system's poll itself fails. What peers do is never an error here.
    pub fn next_event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.step()? {
                return Ok(event);
            }
        }
    }

    /// The next thing to do, in this order: report an event, go on with the turn that has begun,
    /// see to a timer that is due, begin the next turn of this round, and when all have had
    /// theirs: accept, flush, sleep.
    fn step(&mut self) -> io::Result<Option<Event>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        if !self.closed.is_empty() {
            self.reap();
        }
        if self.turn.is_some() {
            return Ok(self.decode());
        }
        if let Some((key, due)) = self.timers.pop_due(self.world.now) {
            return Ok(self.expire(key, due));
        }
        if self.left_in_round > 0
            && let Some(key) = self.turns.pop_front()
        {
            self.left_in_round -= 1;
            self.begin_turn(key);
            return Ok(self.decode());
        }
        self.accept();
        self.flush();
        if self.pending.is_empty() && self.closed.is_empty() {
            self.sleep()?;
        }
        self.left_in_round = self.turns.len();
        Ok(None)
    }

    /// Answers a request completely. Does nothing when no request is held there.
    pub fn respond(&mut self, to: ExchangeId, response: Response) {
        self.log_status(to, response.status());
        self.act(to, 0, |connection, context, spares| {
            spares.lend(connection);
            connection.respond(&response, context);
            None
        });
    }

    /// Answers a request with a head whose content follows by [`send`](Self::send): chunks, which
    /// an HTTP/1.0 client is sent without their framing. When nothing may follow, because the request was HEAD,
    /// [`Event::Closed`] says so. Does nothing when no request is held there.
    pub fn begin(&mut self, to: ExchangeId, head: Response) {
        self.log_status(to, head.status());
        self.act(to, 0, |connection, context, spares| {
            spares.lend(connection);
            connection.begin(&head, context)
        });
    }

    /// Answers an opening handshake with what [`websocket::accept`](crate::websocket::accept) has returned: from
    /// here on, the connection is a WebSocket. Does nothing when no request is held there.
    pub fn upgrade(&mut self, to: ExchangeId, accepted: Accepted) {
        self.log_status(to, accepted.response().status());
        self.act(to, 0, |connection, context, spares| {
            spares.lend(connection);
            connection.upgrade(&accepted, context);
            None
        });
    }

    /// Queues encoded bytes on a stream or a WebSocket. The bytes are shared; they are copied only
    /// where they are few and others wait already. If they do not fit into the peer's outbox, the
    /// stream ends here and [`Event::Closed`] says so.
    pub fn send(&mut self, to: ExchangeId, bytes: &Shared) {
        self.act(to, bytes.len(), |connection, context, _| connection.send(bytes, context));
    }

    /// Queues one message on one WebSocket, framed right into its outbox; a large one is moved there.
    /// What goes to many is framed once and [sent](Self::send).
    pub fn send_message(&mut self, to: ExchangeId, message: Message) {
        self.act(to, message.as_bytes().len(), |connection, context, spares| {
            spares.lend(connection);
            connection.send_message(message, context)
        });
        // It keeps the message's memory for the next one, of which there is none outside of its turn.
        if !self.has_turn(to.key)
            && let Some(peer) = self.peers.get_mut(to.key)
        {
            peer.connection.end_turn();
        }
    }

    /// Ends a stream with its last-chunk, or a WebSocket with a closing handshake and status code
    /// 1000. The program has let go of it: only an event that was under way may still be reported.
    ///
    /// On a raw connection, ends the program's own side when all that is queued is written. Reading goes on: after
    /// [`Event::EndOfInput`] too, [`Closed::Finished`] follows.
    pub fn end(&mut self, to: ExchangeId) {
        self.act(to, 0, |connection, context, _| {
            connection.end(context);
            None
        });
    }

    /// Ends a WebSocket with a closing handshake that carries `code` and `reason`. A reason longer than 123
    /// bytes is cut. The program has let go of it, as after [`end`](Self::end).
    ///
    /// A raw connection, which has no code, is closed when all that is queued is written. Bytes that still arrive are
    /// dropped, and no event follows.
    pub fn close(&mut self, to: ExchangeId, code: CloseCode, reason: &str) {
        self.act(to, 0, |connection, context, _| {
            connection.close(code, reason, context);
            None
        });
    }

    /// Queues bytes on a raw connection. If they do not fit into its outbox, it is reset, and [`Event::Closed`] says
    /// so: keep an eye on [`waiting`](Self::waiting), and [pause](Self::pause) what they come from.
    pub fn send_bytes(&mut self, to: ExchangeId, bytes: Vec<u8>) {
        self.act(to, bytes.len(), |connection, context, _| connection.send_bytes(bytes, context));
    }

    /// Stops reading a raw connection. What its peer sends stays in the system's buffers, which fill up; the peer then
    /// has to wait. Neither the end of its input nor a reset is noticed before [`resume`](Self::resume).
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

    /// Closes a connection at once with a TCP reset. What is queued is dropped. The program has let go of it: no event
    /// follows.
    pub fn reset(&mut self, id: ExchangeId) {
        let Some(peer) = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.exchange) else { return };
        peer.connection.reset();
        self.log_end(id.key);
        self.settle_after_turn(id.key);
    }

    /// The number of bytes that are queued for a peer and not written yet.
    pub fn waiting(&self, of: ExchangeId) -> usize {
        let peer = self.peers.get(of.key).filter(|peer| peer.exchange == of.exchange);
        peer.map_or(0, |peer| peer.connection.outbox().len())
    }

    /// Hands a raw connection over to HTTP. `bytes` are the first of its input: what the program has read of it and not
    /// used itself. Its requests get ids of their own. Does nothing after [`end`](Self::end).
    pub fn serve_http(&mut self, id: ExchangeId, bytes: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.exchange) else { return };
        if peer.connection.serve_http(bytes, &self.world) {
            peer.exchange += 1;
            if peer.end == End::Told {
                peer.end = End::Reached; // told to the program, and not to HTTP
            }
            self.settle_after_turn(id.key);
        }
    }

    /// Settles a connection, unless it is its turn: then that follows at the end of the turn.
    fn settle_after_turn(&mut self, key: Key) {
        if !self.has_turn(key) {
            self.settle(key);
        }
    }

    /// Does something to what `to` names, unless it is over, that queues about `more` bytes.
    fn act(
        &mut self,
        to: ExchangeId,
        more: usize,
        action: impl FnOnce(&mut Connection, &Context, &mut Spares) -> Option<Outcome>,
    ) {
        let Some(mut peer) = self.peers.get_mut(to.key).filter(|peer| peer.exchange == to.exchange) else { return };
        // A peer is slow when its socket takes no more, not when the program says much at once: what
        // would not fit into the outbox is a reason to write before the turn is over.
        if peer.connection.is_full(more, &self.world.limits) && peer.writable {
            let lost = peer.write(&self.world, &mut self.spares);
            if lost.is_some() {
                return self.after(to.key, lost);
            }
            let Some(again) = self.peers.get_mut(to.key) else { return };
            peer = again;
        }
        let context = &self.world;
        let (was_in_use, deadline) = (peer.connection.is_in_use(), peer.connection.deadline());
        let outcome = action(&mut peer.connection, context, &mut self.spares);
        let is_in_use = peer.connection.is_in_use();
        // What one more message on a stream changes is its outbox, and nothing else.
        if outcome.is_none() && is_in_use && deadline == peer.connection.deadline() && !peer.wants_turn(&context.limits)
        {
            if peer.wants_flush() {
                peer.is_unflushed = true;
                self.unflushed.push(to.key);
            } else {
                // An action that was not due has left unused what it was lent.
                self.spares.take_back(peer.connection.outbox_mut());
            }
            return;
        }
        if was_in_use && !is_in_use && outcome.is_none() {
            self.log_end(to.key);
        }
        // A connection whose turn it is is settled at the end of its turn.
        match outcome {
            None if self.has_turn(to.key) => {}
            None => self.settle(to.key),
            outcome => self.after(to.key, outcome),
        }
    }

    fn has_turn(&self, key: Key) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.key == key)
    }

    /// How many bytes a connection has moved since it was accepted. Still answered while its
    /// [`Event::Closed`] is being handled.
    pub fn traffic(&self, of: ExchangeId) -> Traffic {
        self.peers.get(of.key).map(|peer| peer.connection.traffic()).unwrap_or_default()
    }

    /// Sets a timer.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        TimerId(self.timers.set(self.world.now + after, Due::Program))
    }

    /// Cancels a timer that has not been reported. One that has is not there any more: nothing
    /// happens.
    pub fn cancel_timer(&mut self, id: TimerId) {
        self.timers.cancel(id.0);
    }

    /// Ends in an orderly way: accepts no more, closes what is idle, lets answers, last chunks and
    /// closing handshakes reach their peers, and returns when no connection is left, or after
    /// [`Limits::drain_time`]. What the program still holds is ended for it: a request by 503, a
    /// stream by its last-chunk, a WebSocket by 1001, a raw connection after its queued bytes.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn drain(&mut self) -> io::Result<()> {
        self.stop_accepting();
        self.world.draining = true;
        for key in self.peers.keys().collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.connection.go_away(&self.world);
                if let Some(entry) = peer.entry.as_mut().filter(|entry| entry.status == 0) {
                    entry.status = 503;
                }
                self.log_end(key);
                self.settle(key);
            }
        }
        let deadline = self.set_timer(self.world.limits.drain_time);
        loop {
            self.reap();
            if self.peers.is_empty() {
                return Ok(());
            }
            match self.step()? {
                Some(Event::Timer(due)) if due == deadline => return Ok(()),
                Some(Event::Request(conn, _)) => self.respond(conn, Response::error(503, "the server is going away")),
                _ => {}
            }
        }
    }

    fn stop_accepting(&mut self) {
        self.listeners = Slab::default();
    }

    // Sleeping.

    /// Waits until a socket is ready or a timer is due, and notes who is.
    fn sleep(&mut self) -> io::Result<()> {
        let busy = !self.turns.is_empty() || !self.unflushed.is_empty() || !self.accepting.is_empty();
        let timeout = if busy { Some(Duration::ZERO) } else { self.until_next_deadline() };
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            // A signal came. It is in the socket by now.
            if error.kind() != ErrorKind::Interrupted {
                return Err(error);
            }
            self.events.clear();
        }
        self.update_clock();
        self.note_readiness();
        Ok(())
    }

    fn until_next_deadline(&mut self) -> Option<Duration> {
        let now = self.clock();
        self.timers.next_deadline().map(|at| at.saturating_duration_since(now))
    }

    fn clock(&self) -> Instant {
        Instant::now() + self.remote.ahead()
    }

    fn update_clock(&mut self) {
        self.world.now = self.clock();
        // The date changes once a second; until then there is no need to ask for it.
        if self.world.now >= self.date_until {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.world.date = format_date(since.as_secs());
            self.date_until =
                self.world.now + Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        }
    }

    fn note_readiness(&mut self) {
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER => {}
                SIGNALS => self.read_signal(),
                Token(token @ LISTENERS..) => {
                    if let Some((key, listener)) = self.listeners.at_mut(token - LISTENERS)
                        && listener.accepting == Accepting::Waiting
                    {
                        listener.accepting = Accepting::Ready;
                        self.accepting.push(key);
                    }
                }
                Token(slot) => {
                    if let Some((key, peer)) = self.peers.at_mut(slot) {
                        peer.note(event);
                        if peer.connection.is_connecting() {
                            let outcome = peer.finish_connecting();
                            self.after(key, outcome);
                        // The usual case needs no more: there is input, and nothing else to do.
                        } else if peer.has_only_input() {
                            peer.has_turn = true;
                            self.turns.push_back(key);
                        } else {
                            self.settle(key);
                        }
                    }
                }
            }
        }
        self.events = events;
        if self.remote.0.shut_down.load(Ordering::Acquire) && !self.shutdown_told {
            self.shutdown_told = true;
            self.world.draining = true;
            self.stop_accepting();
            self.pending.push_back(Event::Shutdown);
        }
    }

    fn read_signal(&mut self) {
        let mut byte = [0];
        if let Some(signals) = &mut self.signals
            && signals.read(&mut byte).is_ok_and(|count| count > 0)
        {
            self.remote.0.shut_down.store(true, Ordering::Release);
        }
    }

    fn expire(&mut self, timer: Key, due: Due) -> Option<Event> {
        match due {
            Due::Program => return Some(Event::Timer(TimerId(timer))),
            Due::AcceptAgain(key) => {
                self.listeners.get_mut(key)?.accepting = Accepting::Ready;
                self.accepting.push(key);
            }
            Due::Connection(key) => {
                let peer = self.peers.get_mut(key)?;
                peer.timer = None;
                let is_due = peer.connection.deadline().is_some_and(|at| at <= self.world.now);
                let outcome = if is_due { peer.connection.on_deadline(&self.world) } else { None };
                self.after(key, outcome);
            }
        }
        None
    }

    // Accepting.

    fn accept(&mut self) {
        let mut ready = mem::take(&mut self.accepting);
        ready.retain(|key| self.accept_from(*key));
        self.accepting = ready;
    }

    /// Accepts connections of one listener, and returns whether there may be more.
    fn accept_from(&mut self, key: Key) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get_mut(key) else { return false };
            let speaks = listener.speaks;
            match listener.socket.accept() {
                Ok((stream, address)) => {
                    // Without this, the second small write in a row waits for the peer's acknowledgement of the
                    // first.
                    let _ = stream.set_nodelay(true);
                    match speaks {
                        Speaks::Http => self.admit(stream),
                        Speaks::Raw => {
                            self.admit_raw(stream, Opened::Accepted { listener: ListenerId(key), peer: address })
                        }
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        listener.accepting = Accepting::Waiting;
                        return false;
                    }
                    // This connection is gone already; the next one may be fine.
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM, or something new: an accept loop never dies.
                    // The connections wait in the kernel until there is room.
                    _ => {
                        listener.accepting = Accepting::Paused;
                        self.timers.set(self.world.now + ACCEPT_PAUSE, Due::AcceptAgain(key));
                        return false;
                    }
                },
            }
        }
        true
    }

    fn admit(&mut self, stream: TcpStream) {
        let limit = self.world.limits.connections;
        if self.peers.len() >= limit.saturating_add(REFUSALS) {
            return; // dropped, and thereby closed
        }
        let connection = if self.has_room() {
            Connection::new(&self.world)
        } else {
            let sentence = format!("the server has {limit} connections open and takes no more: try again later");
            let response = Response::error(503, &sentence).with_field("Retry-After", "1");
            Connection::refused(&response, &self.world)
        };
        if let Ok(key) = self.register(Peer::new(connection, stream)) {
            self.settle(key);
        }
    }

    fn admit_raw(&mut self, stream: TcpStream, opened: Opened) {
        if self.has_room()
            && let Ok(key) = self.register(Peer::raw(Connection::raw(), stream))
        {
            self.pending.push_back(Event::Opened(ExchangeId { key, exchange: 1 }, opened));
        }
    }

    /// Whether one more connection may come in. Writes a line to standard error when the limit is reached.
    fn has_room(&mut self) -> bool {
        let limit = self.world.limits.connections;
        if self.peers.len() < limit {
            self.is_full_told &= self.peers.len() > limit / 2;
            return true;
        }
        if !mem::replace(&mut self.is_full_told, true) {
            // Standard error may be closed: no reason not to serve.
            let _ = writeln!(
                io::stderr(),
                "overwire: {limit} connections are open, as many as may be (the default is `ulimit -n` less a \
                 reserve): new ones are answered with 503"
            );
        }
        false
    }

    fn register(&mut self, peer: Peer) -> io::Result<Key> {
        let key = self.peers.insert(peer);
        let token = Token(key.slot());
        if let Some(peer) = self.peers.get_mut(key)
            && let Err(error) =
                self.poll.registry().register(&mut peer.stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            self.peers.remove(key);
            return Err(error);
        }
        Ok(key)
    }

    // Reading.

    /// Reads once. mio asks for reads until `WouldBlock`; but a read of a stream socket that does
    /// not fill the buffer has emptied it too (epoll(7), question 9), and the next byte will be a
    /// new edge. So there is no second read that would only say `WouldBlock`. Not so when the end
    /// is announced: it has had its edge, and must be read.
    fn begin_turn(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.has_turn = false;
        let mut count = 0;
        let limits = &self.world.limits;
        // What is here is decoded before more is read.
        if peer.readable && peer.connection.wants_input(limits) && !peer.connection.can_decode(limits) {
            let most = if peer.connection.may_read_much() { LARGE_READ } else { READ };
            match peer.stream.read(&mut self.buffer[..most]) {
                Ok(0) => {
                    peer.readable = false;
                    if peer.end != End::Told {
                        peer.end = End::Reached;
                    }
                }
                Ok(read) => {
                    count = read;
                    peer.readable = read == most || peer.end == End::Announced;
                    peer.connection.count_received(read);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => peer.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    let outcome = peer.connection.lose(Closed::Reset);
                    return self.after(key, outcome);
                }
            }
        }
        self.turn = Some(Turn { key, start: 0, end: count, events: 0 });
    }

    /// Decodes the next thing that the connection whose turn it is has to tell; its turn is over
    /// when there is none.
    fn decode(&mut self) -> Option<Event> {
        let turn = self.turn.as_mut()?;
        let key = turn.key;
        let Some(peer) = self.peers.get_mut(key) else {
            self.turn = None;
            return None;
        };
        let mut fresh = &self.buffer[turn.start..turn.end];
        let mut outcome = None;
        if turn.events == EVENTS_PER_TURN {
            peer.connection.postpone(&mut fresh);
        } else {
            outcome = peer.connection.receive(&mut fresh, &self.world);
            turn.events += 1;
        }
        turn.start = turn.end - fresh.len();
        match outcome {
            // The usual case, which needs no second look at the peer: only requests are logged.
            Some(Outcome::Message(message)) => {
                Some(Event::Message(ExchangeId { key, exchange: peer.exchange }, message))
            }
            Some(outcome) => self.report(key, outcome),
            None => {
                self.turn = None;
                peer.connection.end_turn();
                let mut outcome = self.end_input(key);
                if outcome.is_none()
                    && let Some(peer) = self.peers.get_mut(key)
                    && peer.writable
                    && peer.connection.outbox().len() >= WARM
                {
                    outcome = peer.write(&self.world, &mut self.spares);
                }
                self.settle(key);
                outcome.and_then(|outcome| self.report(key, outcome))
            }
        }
    }

    /// Tells the connection that its peer has shut down, when the time for that has come.
    fn end_input(&mut self, key: Key) -> Option<Outcome> {
        let peer = self.peers.get_mut(key).filter(|peer| peer.end_is_due(&self.world.limits))?;
        peer.end = End::Told;
        peer.connection.end_of_input(&self.world)
    }

    fn report(&mut self, key: Key, outcome: Outcome) -> Option<Event> {
        let peer = self.peers.get_mut(key)?;
        peer.exchange = peer.exchange.wrapping_add(u32::from(matches!(outcome, Outcome::Request(_))));
        let conn = ExchangeId { key, exchange: peer.exchange };
        match outcome {
            Outcome::Request(request) => {
                if self.log.is_some() {
                    self.log_begin(key, request.method().as_str(), request.target(), 0);
                }
                Some(Event::Request(conn, request))
            }
            Outcome::Message(message) => Some(Event::Message(conn, message)),
            Outcome::Refused(error, sent) => {
                self.log_begin(key, "-", "-", sent);
                if let Some(entry) = self.peers.get_mut(key).and_then(|peer| peer.entry.as_mut()) {
                    entry.status = error.status();
                }
                self.log_end(key);
                None
            }
            Outcome::Opened => Some(Event::Opened(conn, Opened::Connected)),
            Outcome::Bytes(bytes) => Some(Event::Bytes(conn, bytes)),
            Outcome::EndOfInput => Some(Event::EndOfInput(conn)),
            Outcome::Drained => Some(Event::Drained(conn)),
            Outcome::Closed(why) => {
                self.log_end(key);
                Some(Event::Closed(conn, why))
            }
        }
    }

    // Writing.

    /// Writes what has been queued since the last turn.
    fn flush(&mut self) {
        let mut flushing = mem::take(&mut self.unflushed);
        for key in flushing.drain(..) {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.is_unflushed = false;
                let outcome = peer.write(&self.world, &mut self.spares);
                let is_settled = peer.is_settled();
                // A write only moves the deadline of a settled connection away.
                if outcome.is_some() || !is_settled {
                    self.after(key, outcome);
                }
            }
        }
        // Those who are left with more to write; the list keeps its memory.
        flushing.append(&mut self.unflushed);
        self.unflushed = flushing;
    }

    // Keeping the books.

    /// What is to be done after a connection was touched by something other than its own turn.
    fn after(&mut self, key: Key, outcome: Option<Outcome>) {
        if let Some(event) = outcome.and_then(|outcome| self.report(key, outcome)) {
            self.pending.push_back(event);
        }
        self.settle(key);
    }

    /// Queues a connection for what it needs next: another turn, a write, a timer, its end.
    fn settle(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (connection, limits) = (&peer.connection, &self.world.limits);
        if connection.is_closed() {
            self.closed.push(key);
            return;
        }
        if !peer.has_turn && peer.wants_turn(limits) && self.turn.as_ref().is_none_or(|turn| turn.key != key) {
            peer.has_turn = true;
            // Those who have hung up come first: what others send now is not for them any more.
            match peer.end {
                End::Announced => self.turns.push_front(key),
                _ => self.turns.push_back(key),
            }
        }
        if peer.wants_flush() {
            peer.is_unflushed = true;
            self.unflushed.push(key);
        }
        if let Some(deadline) = connection.deadline()
            && peer.timer.is_none_or(|(_, at)| deadline < at)
        {
            if let Some((earlier, _)) = peer.timer.take() {
                self.timers.cancel(earlier);
            }
            peer.timer = Some((self.timers.set(deadline, Due::Connection(key)), deadline));
        }
    }

    /// Closes the sockets of closed connections.
    fn reap(&mut self) {
        for key in mem::take(&mut self.closed) {
            let Some(peer) = self.peers.remove(key) else { continue };
            if let Some((timer, _)) = peer.timer {
                self.timers.cancel(timer);
            }
            if peer.connection.is_reset() {
                // A socket that the system does not know any more needs no reset.
                let _ = linger::reset_on_close(&peer.stream);
            }
        }
    }

    /// A request is here, of whose answer `sent` bytes have been queued already.
    fn log_begin(&mut self, key: Key, method: &str, target: &str, sent: u64) {
        if self.log.is_some()
            && let Some(peer) = self.peers.get_mut(key)
        {
            let before = peer.connection.traffic().sent - sent;
            let address = peer.stream.peer_addr().ok();
            let began = Instant::now() + self.remote.ahead();
            peer.entry = Some(Box::new(Entry::new(address, method, target, began, before)));
        }
    }

    fn log_status(&mut self, to: ExchangeId, status: u16) {
        let peer = self.peers.get_mut(to.key).filter(|peer| peer.exchange == to.exchange);
        if let Some(entry) = peer.and_then(|peer| peer.entry.as_mut())
            && entry.status == 0
        {
            entry.status = status;
        }
    }

    fn log_end(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let (Some(entry), Some(log)) = (peer.entry.take(), &mut self.log) {
            // The turn's time would not do: most requests are answered within the turn.
            log.write(&entry, Instant::now() + self.remote.ahead(), peer.connection.traffic().sent);
        }
    }
}
