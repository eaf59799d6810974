//! The application: rooms, mailboxes and signalling over every transport. It uses the public API of the layers below,
//! as any program does, and it has the same shape: a loop that pulls events.
//!
//! Each feature has a folder with its state, its handlers and its limits. `requests` finds out who
//! sends a request, and which handler of `routes` it gets. This file passes every other event to the feature that holds
//! the exchange.

mod admin;
mod bounds;
mod commit;
mod connections;
mod demo;
mod ending;
mod exchanges;
mod identity;
mod lru;
mod mailboxes;
mod message;
mod metrics;
mod nodes;
mod params;
mod parked;
mod requests;
mod rooms;
mod routes;
mod senders;
mod signalling;
mod stats;
mod stores;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod worst_case;

use std::io::{self, ErrorKind, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use self::connections::{Ghosts, Place};
use self::demo::Demo;
pub use self::ending::Drain;
use self::ending::Phase;
use self::exchanges::{EndReason, Exchanges};
use self::identity::Guard;
use self::mailboxes::Mailboxes;
use self::params::ApiError;
use self::parked::{Halt, ParkedRequests};
use self::rooms::Rooms;
use self::signalling::Peers;
pub use self::stores::Stores;
pub use self::worst_case::WorstCase;
use crate::access::Access;
use crate::event_loop::{Closed, Event, EventLoop, ExchangeId, ListenerId, LogFormat, Remote, Speaks, TimerId};
use crate::files::Files;
use crate::http::{Origins, Response};
use crate::journal::disk::Data;
use crate::journal::redis::RedisUrl;
use crate::journal::{Journal, Retention};
use crate::limits::Limits;
use crate::output;
use crate::proxies::Proxies;
use crate::websocket::Message;

/// The interval of the heartbeats of a stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The interval of the sweeps, which remove expired state.
const SWEEP: Duration = Duration::from_secs(10);

/// The configuration of a server.
///
/// ```
/// use overwire::server::Config;
///
/// let config = Config { port: 0, allow_hosts: vec!["chat.example".into()], ..Config::default() };
/// assert_eq!(config.host, "127.0.0.1");
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// The name or address to listen on.
    pub host: String,
    /// The port. 0 lets the system choose.
    pub port: u16,
    /// A folder to serve the browser client from, in place of the files in the binary.
    pub static_folder: Option<PathBuf>,
    /// The form of a line for each request, written to standard output through
    /// [`standard_output`](output::standard_output). `None` for no lines.
    pub log: Option<LogFormat>,
    /// Whether SIGINT, SIGTERM and SIGHUP shut the server down in an orderly way. Only one server of a process can have
    /// them. Without a terminal, and with `keys`, SIGHUP makes it read the keys again.
    pub signals: bool,
    /// The foreign origins whose pages may use this server.
    pub allow_origins: Vec<String>,
    /// The names of this server in addition to its address and `localhost`.
    pub allow_hosts: Vec<String>,
    /// The addresses and networks of the proxies that are believed what they say of their clients.
    pub trust_proxies: Vec<String>,
    /// Whether each connection begins with a header of the [PROXY protocol](crate::proxy_protocol).
    pub proxy_protocol: bool,
    /// Whether `POST /api/forget` is allowed.
    pub chaos: bool,
    /// The port of a tap to this server. The server only reports it to the page, in `GET /api/stats`.
    pub tap_port: Option<u16>,
    /// The bounds of what rooms retain.
    pub retention: Retention,
    /// The bounds of what else is stored.
    pub stores: Stores,
    /// The log on a disk. `None` for a journal in memory.
    pub data: Option<Data>,
    /// The Redis that has the logs, for several servers with the same rooms and mailboxes.
    pub redis: Option<RedisUrl>,
    /// The file with the access keys. With it, each request to the API needs an identity.
    pub keys: Option<PathBuf>,
    /// The field in which a proxy of `trust_proxies` names the user that it has logged in, such as `Remote-User`. With it,
    /// each request to the API needs an identity. From elsewhere the field means nothing.
    pub identity_header: Option<String>,
    /// The address on which `/metrics` is served, and nothing else, also under the names of `allow_hosts`. `None` for no
    /// such address.
    pub metrics: Option<String>,
    /// The times in which the server ends.
    pub drain: Drain,
    /// The bounds of the event loop.
    pub limits: Limits,
}

impl Config {
    fn speaks(&self) -> Speaks {
        if self.proxy_protocol { Speaks::Proxied } else { Speaks::Http }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "127.0.0.1".into(),
            port: 8000,
            static_folder: None,
            log: None,
            signals: false,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            trust_proxies: Vec::new(),
            proxy_protocol: false,
            chaos: false,
            tap_port: None,
            retention: Retention::default(),
            stores: Stores::default(),
            redis: None,
            data: None,
            keys: None,
            identity_header: None,
            metrics: None,
            drain: Drain::default(),
            limits: Limits::default(),
        }
    }
}

/// A part of the application that holds exchanges: a request to answer later, a stream, or a WebSocket.
trait Feature {
    /// A message arrived on a WebSocket that the feature holds. An error is sent back, and the WebSocket stays open.
    fn on_message(&mut self, exchanges: &mut Exchanges, id: ExchangeId, message: &Message) -> Result<(), Halt>;

    /// The timer of an exchange that the feature holds is due.
    fn on_timer(&mut self, _: &mut Exchanges, _: ExchangeId) {}

    /// An exchange has ended that the feature held. Its record in [`Exchanges`] is gone.
    fn on_closed(&mut self, exchanges: &mut Exchanges, id: ExchangeId);

    /// Ends an exchange that the feature holds: answers a poll, ends a stream.
    fn end(&mut self, exchanges: &mut Exchanges, id: ExchangeId, reason: EndReason);

    /// Returns what an exchange reads that the feature holds.
    fn place(&self, id: ExchangeId) -> Option<Place<'_>>;

    /// Drops all state. The connections of the held exchanges are reset.
    fn forget(&mut self, exchanges: &mut Exchanges);

    /// Removes expired state.
    fn sweep(&mut self, _: &mut Exchanges) {}

    /// Adds the feature's members to the answer of `GET /api/stats`.
    fn add_statistics(&mut self, _: &Exchanges, _: &mut Map<String, Value>) {}

    /// Adds the number of bytes that each store of the feature takes.
    fn add_memory(&self, memory: &mut Map<String, Value>);
}

/// The name of a [`Feature`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeatureId {
    Rooms,
    Mailboxes,
    Signalling,
}

/// The server.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use std::thread;
///
/// use overwire::server::{Config, Server};
///
/// let server = Server::bind(Config { port: 0, ..Config::default() })?;
/// let (address, remote) = (server.local_address(), server.remote());
/// let client = thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = TcpStream::connect(address)?;
///     stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     remote.shut_down();
///     Ok(answer)
/// });
/// server.run()?;
/// assert!(client.join().unwrap()?.starts_with("HTTP/1.1 200 OK\r\n"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server {
    exchanges: Exchanges,
    rooms: Rooms,
    mailboxes: Mailboxes,
    demo: Demo,
    peers: Peers,
    access: Access,
    has_proxies: bool,
    /// [`Config::proxy_protocol`]
    is_proxied: bool,
    files: Files,
    guard: Option<Guard>,
    chaos: bool,
    tap_port: Option<u16>,
    started: Instant,
    sweep: TimerId,
    /// The requests that wait for the journal.
    parked: ParkedRequests,
    /// The timer for the senders and the requests that have waited too long.
    commit_timer: Option<TimerId>,
    ghosts: Ghosts,
    /// Listens on the address of `/metrics` alone.
    metrics_listener: Option<ListenerId>,
    drain: Drain,
    phase: Phase,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, `InvalidInput` when one of the origins is not one, `InvalidData` with an
    /// [`OpenError`](crate::journal::disk::OpenError) when the log on the disk cannot be opened, `InvalidData` when the keys
    /// file has a wrong line, and every other error of the system.
    pub fn bind(config: Config) -> io::Result<Self> {
        let mut event_loop = EventLoop::new(config.limits.clone())?;
        event_loop.listen((config.host.as_str(), config.port), config.speaks())?;
        Server::over(event_loop, config)
    }

    /// Takes a listening socket in place of the address of the configuration, as from
    /// [socket activation](crate::activation).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn with_socket(socket: TcpListener, config: Config) -> io::Result<Self> {
        let mut event_loop = EventLoop::new(config.limits.clone())?;
        event_loop.listen_on(socket, config.speaks())?;
        Server::over(event_loop, config)
    }

    fn over(mut event_loop: EventLoop, config: Config) -> io::Result<Self> {
        let origins =
            Origins::new(&config.allow_origins).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let proxies =
            Proxies::new(&config.trust_proxies).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let has_proxies = !proxies.is_empty();
        event_loop.trust_proxies(proxies);
        event_loop.allow_origins(origins.clone());
        if config.signals {
            event_loop.watch_signals()?;
            if config.keys.is_some() && !has_terminal() {
                event_loop.reload_on_hangup();
            }
        }
        if let Some(format) = config.log {
            event_loop.log_requests(output::standard_output(), format);
        }
        let metrics_listener =
            config.metrics.map(|address| listen_for_metrics(&mut event_loop, &address)).transpose()?;
        let journal = match config.redis {
            Some(url) => Journal::redis(url, config.retention, event_loop.now())?,
            None => Journal::with_keys(config.stores.keys),
        };
        let guard = match (config.keys, config.identity_header) {
            (None, None) => None,
            (keys, header) => Some(Guard::open(keys, header, &mut event_loop)?),
        };
        let mut server = Server {
            rooms: Rooms::new(config.retention, config.stores),
            mailboxes: Mailboxes::new(config.stores),
            demo: Demo::default(),
            peers: Peers::new(config.stores.signalling_rooms),
            access: Access::new(event_loop.local_address(), config.allow_hosts, origins),
            has_proxies,
            is_proxied: config.proxy_protocol,
            files: config.static_folder.map_or(Files::Embedded, Files::of_folder),
            guard,
            chaos: config.chaos,
            tap_port: config.tap_port,
            started: event_loop.now(),
            sweep: event_loop.set_timer(SWEEP),
            parked: ParkedRequests::default(),
            commit_timer: None,
            ghosts: None,
            metrics_listener,
            drain: config.drain,
            phase: Phase::Serving,
            exchanges: Exchanges::new(event_loop, journal)?,
        };
        if let Some(data) = &config.data {
            server.restore(data, config.retention).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        Ok(server)
    }

    /// Returns the address that the server listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.exchanges.event_loop.local_address()
    }

    /// Returns the address of [`Config::metrics`], if there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_listener.and_then(|listener| self.exchanges.event_loop.address_of(listener))
    }

    /// Sets [`Config::tap_port`] after the tap is bound: it needs the server's address first.
    pub fn set_tap_port(&mut self, port: Option<u16>) {
        self.tap_port = port;
    }

    /// Returns a handle for other threads.
    pub fn remote(&self) -> Remote {
        self.exchanges.event_loop.remote()
    }

    /// Serves until a signal or [`Remote::shut_down`] shuts the server down in an orderly way.
    ///
    /// # Errors
    /// As [`EventLoop::next_event`].
    pub fn run(mut self) -> io::Result<()> {
        self.commit();
        loop {
            let event = self.exchanges.event_loop.next_event()?;
            if self.handle(event) {
                break;
            }
        }
        for parked in self.parked.take_all() {
            self.exchanges.event_loop.respond(parked.id, ApiError::going_away().response());
        }
        self.exchanges.event_loop.drain_within(self.time_left())
    }

    /// Handles an event, and applies what the journal has committed. Returns whether the server ends: after a shutdown,
    /// as soon as nothing is held and every sender has its answer.
    fn handle(&mut self, event: Event) -> bool {
        if matches!(event, Event::Woken) {
            self.take_over_keys();
        }
        self.exchanges.metrics.note_deliveries(&self.exchanges.event_loop);
        let Exchanges { event_loop, journal, .. } = &mut self.exchanges;
        match event {
            event if journal.on_event(event_loop, &event) => {}
            Event::Request(id, request) => self.on_request(id, request),
            Event::Message(id, message) => self.on_message(id, &message),
            Event::Timer(timer) => self.on_timer(timer),
            Event::Closed(id, why) => self.on_closed(id, &why),
            Event::Reload => self.guard.iter().for_each(Guard::read_again),
            Event::Shutdown => self.on_shutdown(),
            _ => {} // only the journal has raw connections
        }
        self.commit();
        self.refuses() && self.exchanges.senders.deadline().is_none()
    }

    fn on_message(&mut self, id: ExchangeId, message: &Message) {
        let refuses = self.refuses();
        let quota = self.exchanges.event_loop.quota(id).cloned();
        let Some(owner) = self.exchanges.receive(id) else { return };
        let (feature, exchanges) = self.feature(owner);
        exchanges.quota = quota;
        let result = match (refuses, exchanges.may_publish()) {
            (true, _) => Err(ApiError::going_away()),
            (false, Err(error)) if exchanges.may_send_error() => Err(error),
            (false, Err(_)) => {
                feature.end(exchanges, id, EndReason::TooFast);
                Ok(())
            }
            (false, Ok(())) => feature.on_message(exchanges, id, message).map_err(Halt::error),
        };
        exchanges.quota = None;
        if let Err(error) = result {
            exchanges.send_error(id, &error);
        }
    }

    fn on_timer(&mut self, timer: TimerId) {
        if let Some(id) = self.exchanges.take_timer(timer) {
            if let Some((feature, exchanges)) = self.owner(id) {
                feature.on_timer(exchanges, id);
            }
        } else if timer == self.sweep {
            let (features, exchanges) = self.features();
            features.into_iter().for_each(|feature| feature.sweep(exchanges));
            exchanges.sweep();
            if let Some(guard) = &mut self.guard {
                guard.sweep(&mut self.exchanges);
            }
            let exchanges = &mut self.exchanges;
            self.sweep = exchanges.event_loop.set_timer(SWEEP);
        } else if self.commit_timer == Some(timer) {
            self.on_commit_timer();
        } else if !self.is_timer_of_guard(timer) && !self.on_end_timer(timer) {
            self.demo.on_timer(&mut self.exchanges, &mut self.rooms, timer);
        }
    }

    fn on_closed(&mut self, id: ExchangeId, why: &Closed) {
        self.exchanges.metrics.lost(why);
        if let Some((feature, exchanges)) = self.owner(id) {
            exchanges.release(id);
            feature.on_closed(exchanges, id);
        } else {
            self.remove_parked(id);
        }
    }

    /// Returns the feature that holds an exchange.
    fn owner(&mut self, id: ExchangeId) -> Option<(&mut dyn Feature, &mut Exchanges)> {
        self.exchanges.owner(id).map(|owner| self.feature(owner))
    }

    fn feature(&mut self, id: FeatureId) -> (&mut dyn Feature, &mut Exchanges) {
        let feature: &mut dyn Feature = match id {
            FeatureId::Rooms => &mut self.rooms,
            FeatureId::Mailboxes => &mut self.mailboxes,
            FeatureId::Signalling => &mut self.peers,
        };
        (feature, &mut self.exchanges)
    }

    /// Returns all features.
    fn features(&mut self) -> ([&mut dyn Feature; 3], &mut Exchanges) {
        ([&mut self.rooms, &mut self.mailboxes, &mut self.peers], &mut self.exchanges)
    }
}

/// Listens for requests of `/metrics`. An overloaded server is the one whose metrics are needed: they have places when
/// clients have taken all others.
fn listen_for_metrics(event_loop: &mut EventLoop, address: &str) -> io::Result<ListenerId> {
    let listener = event_loop.listen(address, Speaks::Http);
    let listener =
        listener.map_err(|error| io::Error::other(format!("cannot listen on {address} for metrics: {error}")))?;
    event_loop.reserve(listener);
    Ok(listener)
}

/// Whether the process has a terminal, which sends SIGHUP when it is closed.
fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// Returns 200 with JSON that no cache stores.
fn uncached(value: &Value) -> Response {
    Response::json(200, value).with_field("Cache-Control", "no-store")
}
