//! The types that a program and the loop exchange: ids and events.

use std::net::SocketAddr;

use crate::connection::Closed;
use crate::http::Request;
use crate::slab::Key;
use crate::websocket::Message;

/// The id of one request and of its answer, stream or WebSocket. When that is over, the id is stale, even if the
/// connection goes on: an operation on it does nothing, and never reaches another request or another connection. A
/// raw connection is one exchange, from its beginning to its end.
///
/// To hold a request, keep its id:
///
/// ```no_run
/// # use overwire::{Event, EventLoop, ExchangeId, Limits, http::Response};
/// # fn main() -> std::io::Result<()> {
/// let mut server = EventLoop::bind("127.0.0.1:8000", Limits::default())?;
/// let mut held: Vec<ExchangeId> = Vec::new();
/// loop {
///     match server.next_event()? {
///         Event::Request(id, request) if request.path() == "/wait" => held.push(id),
///         Event::Request(id, _) => {
///             server.respond(id, Response::text(200, "told\n"));
///             held.drain(..).for_each(|id| server.respond(id, Response::text(200, "news\n")));
///         }
///         Event::Closed(id, _) => held.retain(|other| *other != id),
///         Event::Shutdown => return server.drain(),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    pub(super) key: Key,
    /// The number of the request on its connection, counted from 1.
    pub(super) number: u32,
}

/// The id of a timer, from [`EventLoop::set_timer`](super::EventLoop::set_timer).
///
/// ```
/// # use std::time::Duration;
/// # use overwire::{Event, EventLoop, Limits};
/// let mut event_loop = EventLoop::new(Limits::default())?;
/// let first = event_loop.set_timer(Duration::from_millis(1));
/// let second = event_loop.set_timer(Duration::from_millis(2));
/// event_loop.cancel_timer(first);
/// assert!(matches!(event_loop.next_event()?, Event::Timer(due) if due == second));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(pub(super) Key);

/// The id of a listener, from [`EventLoop::listen`](super::EventLoop::listen).
///
/// ```
/// # use overwire::{EventLoop, Limits, Speaks};
/// let mut event_loop = EventLoop::new(Limits::default())?;
/// let listener = event_loop.listen("127.0.0.1:0", Speaks::Raw)?;
/// assert!(event_loop.address_of(listener).is_some());
/// event_loop.close_listener(listener);
/// assert!(event_loop.address_of(listener).is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(super) Key);

/// The id of a group, from [`EventLoop::group`](super::EventLoop::group).
///
/// ```no_run
/// # use overwire::{Event, EventLoop, Limits, http, sse};
/// # fn main() -> std::io::Result<()> {
/// let mut server = EventLoop::bind("127.0.0.1:8000", Limits::default())?;
/// let readers = server.group();
/// loop {
///     match server.next_event()? {
///         Event::Request(id, request) if request.path() == "/events" => {
///             server.begin(id, sse::stream_head());
///             server.join(readers, id);
///         }
///         Event::Request(id, request) => {
///             let text = String::from_utf8_lossy(request.content());
///             server.send_to_group(readers, &http::chunk(&sse::event(None, "message", &text)));
///             server.respond(id, http::Response::new(204));
///         }
///         Event::Shutdown => return server.drain(),
///         _ => {} // an exchange that is over has left its group
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupId(pub(super) Key);

/// The protocol of the connections that a listener accepts.
///
/// ```
/// # use overwire::{EventLoop, Limits, Speaks};
/// let mut event_loop = EventLoop::bind("127.0.0.1:0", Limits::default())?; // speaks HTTP
/// event_loop.listen("127.0.0.1:0", Speaks::Raw)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP, and WebSocket after an [upgrade](super::EventLoop::upgrade): the program gets requests and messages.
    Http,
    /// The same after a header of the [PROXY protocol](crate::proxy_protocol). A connection without one is closed.
    Proxied,
    /// Nothing that the loop decodes: the program gets [bytes](Event::Bytes).
    Raw,
}

/// How a raw connection was opened.
///
/// ```
/// # use overwire::{Event, EventLoop, Limits, Opened, Speaks};
/// let mut event_loop = EventLoop::new(Limits::default())?;
/// let listener = event_loop.listen("127.0.0.1:0", Speaks::Raw)?;
/// event_loop.connect(event_loop.address_of(listener).unwrap())?;
/// let (mut accepted, mut connected) = (0, 0);
/// while accepted + connected < 2 {
///     match event_loop.next_event()? {
///         Event::Opened(_, Opened::Accepted { .. }) => accepted += 1,
///         Event::Opened(_, Opened::Connected) => connected += 1,
///         _ => {}
///     }
/// }
/// assert_eq!((accepted, connected), (1, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A listener has accepted it.
    Accepted {
        /// The listener, which [speaks](Speaks) raw.
        listener: ListenerId,
        /// The address of the other end.
        peer: SocketAddr,
    },
    /// The program has opened it by [`connect`](super::EventLoop::connect).
    Connected,
}

/// What a program gets from the loop.
///
/// ```no_run
/// # use overwire::{Event, EventLoop, Limits, http::Response};
/// # fn main() -> std::io::Result<()> {
/// # let mut server = EventLoop::new(Limits::default())?;
/// match server.next_event()? {
///     Event::Request(id, request) => server.respond(id, Response::text(200, request.target().to_owned())),
///     Event::Message(id, message) => server.send_message(id, message), // an echo
///     Event::Closed(id, why) => println!("{id:?}: {why:?}"),
///     Event::Shutdown => server.drain()?,
///     _ => {} // no timer is set, and no connection is raw
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Event {
    // ANCHOR: hold
    /// A whole request. It is the program's until it responds, or begins a stream and ends it. It may take its time: to
    /// hold a request, keep its `ExchangeId`.
    Request(ExchangeId, Request),
    // ANCHOR_END: hold
    /// A whole message of an open WebSocket.
    Message(ExchangeId, Message),
    /// A raw connection is open.
    Opened(ExchangeId, Opened),
    /// Bytes of a raw connection, as they arrived: at least one, and at most 64 KiB.
    Bytes(ExchangeId, Vec<u8>),
    /// The peer of a raw connection has shut down its side: no bytes follow. The program may go on sending, until it
    /// [ends](super::EventLoop::end) its own side; then [`Closed::Finished`] follows.
    EndOfInput(ExchangeId),
    /// All that [`send_bytes`](super::EventLoop::send_bytes) had queued on a raw connection has been written.
    Drained(ExchangeId),
    /// A timer is due. It is no longer set.
    Timer(TimerId),
    /// What the program held, an unanswered request, a stream, a WebSocket or a raw connection, has ended without the
    /// program ending it.
    Closed(ExchangeId, Closed),
    /// Another thread has called [`Remote::notify`](super::Remote::notify), once or more often since the last such event.
    Woken,
    /// SIGHUP, after [`reload_on_hangup`](super::EventLoop::reload_on_hangup): read the configuration again.
    Reload,
    /// SIGINT, SIGTERM, SIGHUP or [`Remote::shut_down`](super::Remote::shut_down). It comes once. Answer what is held, and
    /// call [`drain`](super::EventLoop::drain). Until then the loop goes on, and also listens, unless the program
    /// [stops](super::EventLoop::stop_listening) that. From now on, each HTTP connection is closed after its next answer,
    /// which says so (RFC 9112, section 9.6), unless the program [keeps](super::EventLoop::keep_connections) them.
    Shutdown,
}
