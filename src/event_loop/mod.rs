//! The event loop: all system calls on sockets are here. It moves bytes between sockets and [`Connection`]s, keeps
//! their deadlines, and hands a program one [`Event`] after the other. The only module that imports mio.
//!
//! One round of the loop: sleep until a socket is ready or a timer is due. Give each connection that is ready one turn,
//! in which at most one buffer is read and decoded, and after them those whose last turn has left something to do.
//! Flush what the program has queued. Judge deadlines. Nothing is written inside [`send`](EventLoop::send), so a burst
//! to one peer is one `writev`, and 16 pipelined messages cost one read and one write. Bytes are written earlier only
//! if they do not fit into an outbox, or would not stay in the processor's cache.
//!
//! A deadline is judged after the input that lies in the socket, however late the loop looks at it. A round that takes
//! the program long ends early, and goes on after the next look at the sockets.
//!
//! This file is the public API, but for `groups` and `raw` connections. `poll` sleeps and accepts, `turns` does the
//! work between two sleeps, `peer` is a connection with its socket.

mod budget;
mod census;
mod event;
mod groups;
mod load;
mod peer;
mod places;
mod poll;
mod raw;
mod remote;
mod spares;
mod turns;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{self, IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Waker};

pub use self::census::{ConnectionId, ConnectionReport, Ghost, NotAConnection};
pub use self::event::{Event, ExchangeId, GroupId, ListenerId, Opened, Speaks, TimerId};
use self::groups::Group;
use self::load::Load;
use self::peer::{Peer, Watch};
use self::poll::Listener;
pub use self::remote::Remote;
use self::spares::Spares;
use self::turns::{Agenda, Due, Stopwatch, Turn};
use crate::access_log::AccessLog;
pub use crate::access_log::LogFormat;
use crate::books;
use crate::bytes::{Rope, Shared};
pub use crate::connection::{Closed, ConnectionState, Traffic};
use crate::connection::{Connection, Context, LARGE_READ, Outcome};
use crate::http::{Origins, Request, Response};
use crate::limits::Limits;
use crate::output::Output;
use crate::proxies::{Client, ForwardedError, Proxies};
use crate::quotas::Quotas;
use crate::signals;
use crate::slab::{Key, Slab};
use crate::socket_options;
use crate::websocket::{Accepted, CloseCode, Message};

/// The number of connections that may wait to be accepted.
const BACKLOG: u16 = 4096;

/// The sockets, timers and connections of a program, in one thread.
///
/// ```no_run
/// use overwire::http::Response;
/// use overwire::{Event, EventLoop, Limits};
///
/// # fn main() -> std::io::Result<()> {
/// let mut server = EventLoop::bind("127.0.0.1:8000", Limits::default())?;
/// server.watch_signals()?;
/// loop {
///     match server.next_event()? {
///         Event::Request(id, request) => server.respond(id, Response::text(200, request.path().into_owned())),
///         Event::Shutdown => return server.drain(),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub struct EventLoop {
    poll: Poll,
    events: Events,
    listeners: Slab<Listener>,
    /// Listeners that may have connections to accept.
    accepting: Vec<Key>,
    /// The address of the first listener.
    address: Option<SocketAddr>,
    signals: Option<UnixStream>,
    remote: Remote,
    has_reported_shutdown: bool,
    has_reported_full: bool,
    /// It drains, and a connection that has had its turn goes away.
    is_going_away: bool,
    context: Context,
    /// All that had arrived by this time is noted. So a deadline until then is not judged too early.
    noted_until: Instant,
    stopwatch: Stopwatch,
    /// When the date in the context changes.
    date_until: Instant,
    /// The time when the loop was created.
    started: Instant,
    /// The number of seconds since then, as of the last change of the date.
    second: u32,
    load: Load,
    peers: Slab<Peer>,
    /// The slot that was looked at last for a connection that can be closed for another.
    hand: usize,
    groups: Slab<Group>,
    agenda: Agenda,
    /// Lent to one connection after the other for its turn. A connection owns a buffer only while it has a part of
    /// something.
    buffer: Box<[u8]>,
    turn: Option<Turn>,
    spares: Spares,
    pending: VecDeque<Event>,
    log: Option<AccessLog>,
    proxies: Proxies,
    quotas: Quotas,
}

/// Listening.
impl EventLoop {
    /// Creates a loop that listens on `address` for HTTP. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// `AddrInUse` if the port is taken, and whatever else the system says.
    pub fn bind(address: impl ToSocketAddrs, limits: Limits) -> io::Result<Self> {
        let mut event_loop = EventLoop::new(limits)?;
        event_loop.listen(address, Speaks::Http)?;
        Ok(event_loop)
    }

    /// Creates a loop that does not listen.
    ///
    /// # Errors
    /// The system has no file descriptor left.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let poll = Poll::new()?;
        let remote = Remote::new(Waker::new(poll.registry(), poll::WAKER)?);
        let now = remote.now();
        Ok(EventLoop {
            poll,
            quotas: Quotas::new(limits.per_client),
            events: Events::with_capacity(1024),
            listeners: Slab::default(),
            accepting: Vec::new(),
            address: None,
            signals: None,
            remote,
            has_reported_shutdown: false,
            has_reported_full: false,
            is_going_away: false,
            context: Context { limits, now, date: String::new(), draining: false, origins: Origins::default() },
            noted_until: now,
            stopwatch: Stopwatch::new(now),
            date_until: now,
            started: now,
            second: 0,
            load: Load::new(),
            peers: Slab::default(),
            hand: 0,
            groups: Slab::default(),
            agenda: Agenda::default(),
            buffer: vec![0; LARGE_READ].into(),
            turn: None,
            spares: Spares::default(),
            pending: VecDeque::new(),
            log: None,
            proxies: Proxies::default(),
        })
    }

    /// Listens on one more address. Port 0 lets the system choose one.
    ///
    /// # Errors
    /// `AddrInUse` if the port is taken, and whatever else the system says.
    pub fn listen(&mut self, address: impl ToSocketAddrs, speaks: Speaks) -> io::Result<ListenerId> {
        let mut socket = Err(io::Error::new(ErrorKind::InvalidInput, "no address to listen on"));
        for address in address.to_socket_addrs()? {
            socket = TcpListener::bind(address);
            if socket.is_ok() {
                break;
            }
        }
        self.listen_at(socket?, speaks)
    }

    /// Listens at a socket that was opened elsewhere, as by [socket activation](crate::activation).
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn listen_on(&mut self, socket: net::TcpListener, speaks: Speaks) -> io::Result<ListenerId> {
        socket.set_nonblocking(true)?;
        self.listen_at(TcpListener::from_std(socket), speaks)
    }

    /// Reserves places for the connections of a listener, such as one for an operator: a few are taken beyond
    /// [`Limits::connections`], and none counts for a [client](Limits::per_client).
    ///
    /// ```
    /// # use overwire::{EventLoop, Limits, Speaks};
    /// let mut event_loop = EventLoop::bind("127.0.0.1:0", Limits::default())?;
    /// let metrics = event_loop.listen("127.0.0.1:0", Speaks::Http)?;
    /// event_loop.reserve(metrics);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reserve(&mut self, listener: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(listener.0) {
            listener.is_reserved = true;
        }
    }

    fn listen_at(&mut self, socket: TcpListener, speaks: Speaks) -> io::Result<ListenerId> {
        socket_options::set_user_timeout(&socket, self.context.limits.write_time)?;
        socket_options::set_keep_alive(&socket, self.context.limits.write_time)?;
        socket_options::set_backlog(&socket, BACKLOG)?;
        let address = socket.local_addr()?;
        let id = self.add_listener(socket, speaks)?;
        self.address.get_or_insert(address);
        Ok(id)
    }

    /// Stops listening. The system refuses later connections; connections that are open stay.
    pub fn close_listener(&mut self, id: ListenerId) {
        self.listeners.remove(id.0);
    }

    /// Keeps HTTP connections after a shutdown as before it, until the loop [stops listening](Self::stop_listening): a
    /// load balancer may not know yet that it is to use another server.
    pub fn keep_connections(&mut self) {
        self.context.draining = false;
    }

    /// Closes all listeners, after it has accepted the connections that wait there. Connections that are open stay, but
    /// each HTTP connection is closed after its next answer, which says so (RFC 9112, section 9.6).
    pub fn stop_listening(&mut self) {
        self.context.draining = true;
        self.close_listeners();
    }

    /// Returns the address of a listener, unless it is closed.
    pub fn address_of(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id.0).and_then(|listener| listener.socket.local_addr().ok())
    }

    /// Returns the address of the first listener, even if it is closed; 0.0.0.0:0 if there never was one.
    pub fn local_address(&self) -> SocketAddr {
        self.address.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }
}

/// Events, timers and state.
impl EventLoop {
    /// Waits for the next event. Between two calls, nothing is read. Little is written: see the [module](self).
    ///
    /// # Errors
    /// The system's poll itself fails. Nothing that peers do is an error here.
    pub fn next_event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.step()? {
                return Ok(event);
            }
        }
    }

    /// Sets a timer. [`Event::Timer`] follows, after the events of what had arrived by the time that it is due.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        TimerId(self.agenda.timers.set(self.context.now + after, Due::Program))
    }

    /// Cancels a timer. Does nothing if it has been reported.
    pub fn cancel_timer(&mut self, id: TimerId) {
        self.agenda.timers.cancel(id.0);
    }

    /// Returns the time of the current turn, by the clock of the timers.
    pub fn now(&self) -> Instant {
        self.context.now
    }

    /// Returns the time at this moment, by the clock of the timers: for what takes a time within a turn.
    pub fn exact_time(&self) -> Instant {
        self.remote.now()
    }

    /// Returns the time of the system, ahead or behind by as much as the clock of the timers.
    pub fn system_time(&self) -> SystemTime {
        self.remote.system_time()
    }

    /// Returns the number of open connections, in whatever state.
    pub fn connections(&self) -> usize {
        self.peers.len()
    }

    /// Whether a connection has been accepted in the last second, and has not made its first request yet. It was just
    /// opened to make one, unlike a connection that is idle between two requests, or that a browser keeps in reserve.
    pub fn awaits_first_request(&self) -> bool {
        let (now, limits) = (self.context.now, &self.context.limits);
        let mut unused = self.peers.keys().filter_map(|key| self.peers.get(key)).filter(|peer| peer.exchange == 0);
        unused.any(|peer| {
            let since = peer.connection.idle_since(limits);
            since.is_some_and(|since| now.saturating_duration_since(since) < poll::IDLE_LONG)
        })
    }

    /// Returns the most bytes that the records of this number of connections take. What they keep of input and output is
    /// bounded by [`Limits::memory`].
    pub fn bytes_of(connections: usize) -> usize {
        let timers = 2 * connections;
        let queues = 4 * books::vec_of::<Key>(connections);
        books::vec_of::<Peer>(connections)
            + timers * size_of::<(Instant, Key, Due)>()
            + queues
            + connections * Connection::BOXED
    }

    /// Returns the number of bytes that all connections together keep, which [`Limits::memory`] bounds: queued output,
    /// unfinished input, and all [`Shared`] bytes of this thread.
    pub fn memory(&self) -> usize {
        self.agenda.budget.sum()
    }

    /// Returns the id of the latest request on the connection of `id`: `id` itself, or that of a request after it. `None` if
    /// the connection is closed.
    pub fn latest(&self, id: ExchangeId) -> Option<ExchangeId> {
        self.peers.get(id.key).map(|peer| ExchangeId { key: id.key, number: peer.exchange })
    }

    /// Returns the number of bytes that a connection has moved since it was opened. It is known until the event after
    /// [`Event::Closed`].
    pub fn traffic(&self, id: ExchangeId) -> Traffic {
        let Some(peer) = self.peers.get(id.key) else { return Traffic::default() };
        let Traffic { received, sent } = peer.connection.traffic();
        let pending = self.pending_of(peer).iter().map(|piece| peer.connection.length_of(piece) as u64);
        Traffic { received, sent: sent + pending.sum::<u64>() }
    }

    /// Watches the traffic of an exchange until it is over: [`moved`](Self::moved) returns it when there was some.
    pub fn watch_traffic(&mut self, id: ExchangeId) {
        if let Some(peer) = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.number)
            && peer.watch == Watch::No
        {
            peer.watch = Watch::Still;
        }
    }

    /// Returns the watched exchanges that may have moved bytes since the last call. So a program that counts the
    /// [traffic](Self::traffic) of many exchanges asks only for that of these.
    pub fn moved(&mut self) -> Vec<ExchangeId> {
        let moved = mem::take(&mut self.agenda.moved);
        let exchanges = moved.into_iter().filter_map(|key| {
            let peer = self.peers.get_mut(key)?;
            peer.watch = if peer.connection.is_held() { Watch::Still } else { Watch::No };
            Some(ExchangeId { key, number: peer.exchange })
        });
        exchanges.collect()
    }

    /// Returns the number of bytes that are queued for a peer and not written yet.
    pub fn waiting(&self, id: ExchangeId) -> usize {
        let Some(peer) = self.peers.get(id.key).filter(|peer| peer.exchange == id.number) else { return 0 };
        let pending = self.pending_of(peer).iter().map(|piece| peer.connection.length_of(piece));
        peer.connection.queued() + pending.sum::<usize>()
    }

    /// Returns a handle for other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Makes SIGINT, SIGTERM and SIGHUP appear as [`Event::Shutdown`]. One loop of a process can have them. A SIGHUP
    /// that is ignored, as by nohup(1), stays ignored.
    ///
    /// # Errors
    /// The system refuses a handler, or has no file descriptor left.
    pub fn watch_signals(&mut self) -> io::Result<()> {
        let mut socket = UnixStream::from_std(signals::watch()?);
        self.poll.registry().register(&mut socket, poll::SIGNALS, Interest::READABLE)?;
        self.signals = Some(socket);
        Ok(())
    }

    /// Makes each SIGHUP that [`watch_signals`](Self::watch_signals) watches appear as [`Event::Reload`], not as
    /// [`Event::Shutdown`]. That is the custom of servers without a terminal. With one, a SIGHUP says that it was closed.
    pub fn reload_on_hangup(&self) {
        signals::reload_on_hangup();
    }

    /// Lets pages of these origins read every answer, also to a request that is malformed or too large: answers get the
    /// fields `Access-Control-Allow-Origin`, `Access-Control-Expose-Headers` and `Vary` (WHATWG Fetch, "CORS protocol").
    /// The program decides what such a page may do, and answers its preflight requests.
    ///
    /// One answer cannot name the origin: the 503 to a connection beyond [`Limits::connections`]. It is sent before the
    /// request is read, so its page sees a network error.
    pub fn allow_origins(&mut self, origins: Origins) {
        self.context.origins = origins;
    }

    /// Believes these proxies what they say of their clients: in a header of the [PROXY protocol](crate::proxy_protocol),
    /// where a listener [speaks](Speaks::Proxied) it, and in the fields `Forwarded` and `X-Forwarded-For`, `-Proto` and
    /// `-Host` of their requests. Without this, nobody is believed.
    pub fn trust_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    /// Returns the client of a request that the program holds. Without trusted proxies, it is the peer of the
    /// connection.
    ///
    /// # Errors
    /// The fields of a trusted proxy are malformed, or do not agree: the request is to be answered with 400.
    pub fn client(&self, id: ExchangeId, request: &Request) -> Result<Client, ForwardedError> {
        self.proxies.client(self.client_of_connection(id.key), request)
    }

    /// Returns the address of the client of a request that the program holds, as trusted proxies tell it. `None` without
    /// such proxies: then it is the peer of the [connection](Self::connection).
    pub fn trusted_client(&self, id: ExchangeId, request: &Request) -> Option<IpAddr> {
        if self.proxies.is_empty() {
            return None;
        }
        self.client(id, request).ok()?.address
    }

    /// Whether a trusted proxy has announced the client of the connection, in a header of the
    /// [PROXY protocol](crate::proxy_protocol).
    pub fn is_announced(&self, id: ExchangeId) -> bool {
        let Some(peer) = self.peers.get(id.key) else { return false };
        let is_announced = peer.notes.as_ref().is_some_and(|notes| notes.announced.is_some());
        is_announced && peer.stream.peer_addr().is_ok_and(|address| self.proxies.trusts(address.ip()))
    }

    /// The client that a connection comes from, or that a trusted proxy has announced.
    fn client_of_connection(&self, key: Key) -> Client {
        let address = self.peers.get(key).and_then(|peer| Some((peer, peer.stream.peer_addr().ok()?)));
        address.map_or_else(Client::default, |(peer, address)| {
            let announced = peer.notes.as_ref().and_then(|notes| notes.announced);
            self.proxies.client_of_connection(address.ip(), announced)
        })
    }

    /// The client of a request in the log: its address, and its port if it is the peer of the connection. A request that
    /// was refused is none.
    fn name_of_client(&self, key: Key, request: Option<&Request>) -> String {
        if self.proxies.is_empty() {
            let address = self.peers.get(key).and_then(|peer| peer.stream.peer_addr().ok());
            return address.map_or("-".to_owned(), |address| address.to_string());
        }
        let connection = self.client_of_connection(key);
        let client = request.and_then(|request| self.proxies.client(connection.clone(), request).ok());
        client.unwrap_or(connection).address.map_or("-".to_owned(), |address| address.to_string())
    }

    /// Writes a line for each request to `sink`, in this [format](LogFormat). The line of a stream or a WebSocket is
    /// written when it is over.
    ///
    /// A thread writes, so a sink that takes nothing does not stop the loop: see [`Output`]. When the loop is dropped,
    /// it waits for the last lines, but not for more than a second.
    pub fn log_requests(&mut self, sink: impl Into<Output>, format: LogFormat) {
        self.log = Some(AccessLog::new(sink.into(), format));
    }

    /// Names the identity that has sent a request, for its line in the log.
    pub fn log_identity(&mut self, id: ExchangeId, name: &str) {
        let peer = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.number);
        if let Some(entry) = peer.and_then(|peer| peer.notes.as_mut()?.entry.as_mut()) {
            entry.identity = Some(name.into());
        }
    }

    /// Ends in an orderly way: accepts no more, closes idle connections, waits until answers, last chunks and closing
    /// handshakes have reached their peers, and returns when no connection is left, or after [`Limits::drain_time`].
    /// What the program still holds is ended for it: a request by 503, a stream by its last-chunk, a WebSocket by 1001,
    /// a raw connection when its outbox is written. A request that is not complete is refused with 503.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn drain(&mut self) -> io::Result<()> {
        self.drain_within(self.context.limits.drain_time)
    }

    /// Ends in an orderly way, as [`drain`](Self::drain), but returns after this time.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn drain_within(&mut self, time: Duration) -> io::Result<()> {
        self.stop_listening();
        for key in self.peers.keys().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get(key) else { continue };
            // A request that has arrived gets its answer, 503, when it is read.
            if !(peer.connection.is_idle() && (peer.has_turn || peer.has_input())) {
                let id = ExchangeId { key, number: peer.exchange };
                self.answer(id, 503, 0, |connection, context, _| connection.go_away(context));
            }
        }
        self.is_going_away = true;
        let deadline = self.set_timer(time);
        loop {
            self.close_sockets();
            if self.peers.is_empty() {
                return Ok(());
            }
            match self.step()? {
                Some(Event::Timer(due)) if due == deadline => return Ok(()),
                Some(Event::Request(id, _)) => self.respond(id, Response::error(503, "the server is going away")),
                _ => {}
            }
        }
    }
}

/// Answers, streams and WebSockets.
impl EventLoop {
    /// Answers a request completely. Does nothing if no request is held.
    pub fn respond(&mut self, id: ExchangeId, response: Response) {
        self.answer(id, response.status(), response.content().len(), |connection, context, spares| {
            spares.lend(connection);
            connection.respond(&response, context);
            None
        });
    }

    /// Answers a request completely, and keeps its connection even if the loop does not [listen](Self::stop_listening)
    /// any more. It is for a client that asks again at once, such as one that polls: it may be sent away with a later
    /// answer.
    ///
    /// ```no_run
    /// use overwire::http::Response;
    /// use overwire::{EventLoop, ExchangeId};
    ///
    /// /// Answers the polls that wait for this message. Their clients do not all open a connection in one moment.
    /// fn answer_polls(server: &mut EventLoop, polls: Vec<ExchangeId>, message: &str) {
    ///     polls.into_iter().for_each(|id| server.respond_and_keep(id, Response::text(200, message.to_owned())));
    /// }
    /// ```
    pub fn respond_and_keep(&mut self, id: ExchangeId, response: Response) {
        let draining = mem::replace(&mut self.context.draining, false);
        self.respond(id, response);
        self.context.draining = draining;
    }

    /// Answers a request with a head whose content follows by [`send`](Self::send): chunks, which an HTTP/1.0 client
    /// gets without their framing. If nothing may follow, because the request was HEAD, [`Event::Closed`] follows. Does
    /// nothing if no request is held.
    pub fn begin(&mut self, id: ExchangeId, head: Response) {
        self.answer(id, head.status(), 0, |connection, context, spares| {
            spares.lend(connection);
            connection.begin(&head, context)
        });
    }

    /// Answers an opening handshake with what [`websocket::accept`](crate::websocket::accept) has returned. From here
    /// on, the connection is a WebSocket. Does nothing if no request is held.
    pub fn upgrade(&mut self, id: ExchangeId, accepted: Accepted) {
        self.answer(id, accepted.response().status(), 0, |connection, context, spares| {
            spares.lend(connection);
            connection.upgrade(&accepted, context);
            None
        });
    }

    /// Queues encoded bytes on a stream or a WebSocket. The bytes are shared. They are copied only where they are few
    /// and others are queued already. If they do not fit into the peer's outbox, the stream ends here and
    /// [`Event::Closed`] follows.
    pub fn send(&mut self, id: ExchangeId, bytes: &Shared) {
        self.act(id, bytes.len(), |connection, context, _| connection.send(bytes, context));
    }

    /// Queues a rope on a stream or a WebSocket, by reference: on an HTTP/1.1 stream as one chunk, on an HTTP/1.0 stream
    /// and a WebSocket as it is. So the slices of a stream are content without chunks around it, and those of a
    /// WebSocket are frames. If they do not fit into the peer's outbox, the stream ends here and [`Event::Closed`]
    /// follows.
    ///
    /// ```no_run
    /// use overwire::{EventLoop, ExchangeId, Rope, Shared};
    ///
    /// /// Sends the messages that `block` has from the byte `start` on, and then one more.
    /// fn replay(server: &mut EventLoop, stream: ExchangeId, block: &Shared, start: usize, last: &Shared) {
    ///     server.send_rope(stream, &Rope::from_iter([block.slice(start..block.len()), last.into()]));
    /// }
    /// ```
    pub fn send_rope(&mut self, id: ExchangeId, rope: &Rope) {
        self.act(id, rope.len(), |connection, context, _| connection.send_rope(rope, context));
    }

    /// Queues one message on one WebSocket. It is framed in its outbox, or moved there if it is large. Frame a message
    /// for many once, and [send](Self::send) the frame.
    pub fn send_message(&mut self, id: ExchangeId, message: Message) {
        self.act(id, message.as_bytes().len(), |connection, context, spares| {
            spares.lend(connection);
            connection.send_message(message, context)
        });
        // It keeps the memory of the message for the next one, and outside of its turn there is none.
        if !self.is_turn_of(id.key)
            && let Some(peer) = self.peers.get_mut(id.key)
        {
            peer.connection.end_turn();
        }
    }

    /// Ends a stream with its last-chunk, or a WebSocket with a closing handshake and status code 1000. The program has
    /// let go of it: only an event that was under way may still be reported.
    ///
    /// On a raw connection, ends the program's own side when all that is queued is written. Reading goes on: after
    /// [`Event::EndOfInput`], [`Closed::Finished`] follows.
    pub fn end(&mut self, id: ExchangeId) {
        self.act(id, 0, |connection, context, _| {
            connection.end(context);
            None
        });
    }

    /// Ends a WebSocket with a closing handshake that carries `code` and `reason`. A reason longer than 123 bytes is
    /// cut. The program has let go of it, as after [`end`](Self::end).
    ///
    /// A raw connection, which has no code, is closed when all that is queued is written. Bytes that still arrive are
    /// dropped, and no event follows.
    pub fn close(&mut self, id: ExchangeId, code: CloseCode, reason: &str) {
        self.act(id, 0, |connection, context, _| {
            connection.close(code, reason, context);
            None
        });
    }

    /// Closes a connection at once with a TCP reset, whatever it is. What is queued is dropped. The program has let go
    /// of it: no event follows.
    pub fn reset(&mut self, id: ExchangeId) {
        if self.peers.get(id.key).is_some_and(|peer| peer.exchange == id.number) {
            self.remove_member(id.key); // what waits for it in its group is dropped too
        }
        self.act(id, 0, |connection, _, _| {
            connection.reset();
            None
        });
    }

    /// Answers a request, or ends it, with this status.
    fn answer(
        &mut self,
        id: ExchangeId,
        status: u16,
        more: usize,
        action: impl FnOnce(&mut Connection, &Context, &mut Spares) -> Option<Outcome>,
    ) {
        self.load.count_answer(status);
        let peer = self.peers.get_mut(id.key).filter(|peer| self.log.is_some() && peer.exchange == id.number);
        if let Some(entry) = peer.and_then(|peer| peer.notes.as_mut()?.entry.as_mut())
            && entry.status == 0
        {
            entry.status = status;
        }
        self.act(id, more, action);
    }
}
