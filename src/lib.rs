//! overwire: real-time web transports, byte by byte.
//!
//! A server is a loop that pulls events:
//!
//! ```no_run
//! use overwire::http::Response;
//! use overwire::{Event, EventLoop, Limits, websocket};
//!
//! fn main() -> std::io::Result<()> {
//!     let mut server = EventLoop::bind("127.0.0.1:8000", Limits::default())?;
//!     server.watch_signals()?;
//!     loop {
//!         match server.next_event()? {
//!             Event::Request(id, request) if request.path() == "/ws" => match websocket::accept(&request, &[]) {
//!                 Ok(accepted) => server.upgrade(id, accepted),
//!                 Err(error) => server.respond(id, error.response()),
//!             },
//!             Event::Request(id, _) => server.respond(id, Response::text(200, "hello\n")),
//!             Event::Message(id, message) => server.send_message(id, message),
//!             Event::Shutdown => return server.drain(),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! To hold a request, keep its [`ExchangeId`] and answer later. There are no callbacks and there is no `async`: the
//! state of a program is its local variables.
//!
//! # The layers
//!
//! The lowest comes first. A module imports only from the rows above its own, `sse`, `websocket` and `proxies` from
//! `http`, and `proxies` from `proxy_protocol`:
//! `tests/layers.rs` checks it. Modules without a link are private.
//!
//! | module | what it is for | what it may know |
//! |-|-|-|
//! | [`bytes`], [`json`], `slab`, `books`, [`limits`], [`random`], [`output`], [`histogram`] | what everything else is made of | nothing |
//! | [`http`], [`sse`], [`websocket`], [`resp`], [`proxy_protocol`], [`proxies`] | the codecs: bytes to values and back | no sockets, no clock |
//! | [`feed`], [`signalling`], `timers`, `outbox`, `access`, `files`, `signals`, `socket_options`, [`activation`], [`heap`], `access_log`, [`wire`], [`identity`], [`quotas`] | a log and its cursors; WebRTC signalling; deadlines; the outgoing queue; the checks of Host and Origin; the browser client; sockets that outlive the process; memory that goes back to the system; names for raw bytes; access keys, sessions and tickets; the bounds of each client | the codecs |
//! | [`connection`] | one connection: all decisions about it | the time is an argument; no sockets |
//! | [`event_loop`] | sockets: the only user of mio | the connection, not what it carries |
//! | [`journal`] | where messages live, and when they are committed | the public API above |
//! | [`tap`] | a relay that shows and disturbs the bytes between a client and a server | the public API above |
//! | [`server`] | the application: rooms, mailboxes, routes | the public API above |
//!
//! # What is left out, on purpose
//!
//! TLS and HTTP/2 and 3 (put a proxy before the server), compression of content and of WebSocket messages (it hides the
//! bytes, and delays those of a stream), range requests, more than one thread, Windows.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod access_log;
pub mod activation;
mod books;
pub mod bytes;
pub mod connection;
pub mod event_loop;
pub mod feed;
mod files;
pub mod heap;
pub mod histogram;
pub mod http;
pub mod identity;
pub mod journal;
pub mod json;
pub mod limits;
mod outbox;
pub mod output;
pub mod proxies;
pub mod proxy_protocol;
pub mod quotas;
pub mod random;
pub mod resp;
pub mod server;
pub mod signalling;
mod signals;
mod slab;
mod socket_options;
pub mod sse;
pub mod tap;
mod timers;
pub mod websocket;
pub mod wire;

pub use bytes::{Parse, Rope, Shared, Slice};
pub use event_loop::{
    Closed, ConnectionId, ConnectionReport, ConnectionState, Event, EventLoop, ExchangeId, Ghost, GroupId, ListenerId,
    LogFormat, Opened, Remote, Speaks, TimerId, Traffic,
};
pub use limits::Limits;

/// The server in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
