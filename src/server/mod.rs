//! The application: rooms and mailboxes over every transport. It uses the public API of the layers
//! below, as any program does, and its shape is the same: a loop that pulls events.

mod files;
mod keys;
mod mailbox_api;
mod mailboxes;
mod message;
mod params;
mod room_api;
mod rooms;
mod routes;
mod signal_api;
mod stats;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::files::Files;
use self::mailboxes::{Mailbox, Mailboxes};
use self::message::{Transport, heartbeat, timestamp};
use self::params::ApiError;
use self::rooms::{Clients, Rooms};
use self::routes::Found;
use self::stats::Stats;
use crate::access::{Access, Cors};
use crate::connection::Traffic;
use crate::event_loop::{Event, EventLoop, ExchangeId, Remote, TimerId};
use crate::feed::Replay;
use crate::http::{Method, Request, Response};
use crate::limits::Limits;
use crate::random::Random;
use crate::signalling::Signalling;
use crate::websocket::{CloseCode, Message};

/// How often a stream that has nothing to say says so.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// What the server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name or address to listen on.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// A folder to serve the browser client from, in place of the files in the binary.
    pub static_folder: Option<PathBuf>,
    /// Whether to write a line for each request to standard output.
    pub log: bool,
    /// Whether SIGINT and SIGTERM end the server in an orderly way. One server of a process can
    /// have them.
    pub signals: bool,
    /// Foreign origins whose pages may use this server.
    pub allow_origins: Vec<String>,
    /// Names of this server besides its address and `localhost`.
    pub allow_hosts: Vec<String>,
    /// Whether `POST /api/forget` is allowed.
    pub chaos: bool,
    /// The port of a tap in front of this server. The server does not use it: `GET /api/stats` reports it to the page.
    pub tap_port: Option<u16>,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "127.0.0.1".into(),
            port: 8000,
            static_folder: None,
            log: false,
            signals: false,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            chaos: false,
            tap_port: None,
            limits: Limits::default(),
        }
    }
}

/// A request, and what its answer has to take into account.
struct Call<'a> {
    conn: ExchangeId,
    request: &'a Request,
    cors: Cors,
    /// The connection's bytes before this request.
    since: Traffic,
}

/// What a handler did.
enum Reply {
    /// This is the answer.
    Now(Response),
    /// This is the answer, and it counts for a transport: so many messages were in it.
    Counted(Response, Transport, u64),
    /// There is a [`Hold`], or it has been answered already.
    Later,
}

/// A connection that the server keeps: to answer it later, or to stream to it.
struct Hold {
    purpose: Purpose,
    transport: Transport,
    cors: Cors,
    since: Traffic,
    /// The end of the hold, or the next heartbeat.
    timer: Option<TimerId>,
}

/// What a connection is kept for.
enum Purpose {
    RoomPoll { room: Rc<str>, client: Option<Rc<str>>, from: Replay },
    RoomStream { room: Rc<str>, client: Option<Rc<str>> },
    MailboxPoll { mailbox: Rc<str> },
    MailboxStream { mailbox: Rc<str>, beats: u64 },
    Signalling,
}

/// Why a hold ends by the server's will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Its time is up.
    TimedOut,
    /// A newer reader took the mailbox over.
    Superseded,
    /// Somebody asked for the client to be disconnected.
    Disconnected,
    /// The server ends.
    GoingAway,
}

impl Why {
    /// Status code and reason for a WebSocket (RFC 6455, section 7.4.1).
    fn close(self) -> (CloseCode, &'static str) {
        match self {
            Why::TimedOut => (CloseCode::NORMAL, ""),
            Why::Superseded => (CloseCode::NORMAL, "superseded"),
            Why::Disconnected => (CloseCode::NORMAL, "disconnected"),
            Why::GoingAway => (CloseCode::GOING_AWAY, "the server is going away"),
        }
    }
}

/// Why a timer was set.
enum Alarm {
    Hold(ExchangeId),
    Ticker,
    Sweep,
}

/// The server.
pub struct Server {
    event_loop: EventLoop,
    access: Access,
    files: Files,
    random: Random,
    rooms: Rooms,
    clients: Clients,
    mailboxes: Mailboxes,
    signalling: Signalling<ExchangeId>,
    holds: HashMap<ExchangeId, Hold>,
    chaos: bool,
    tap_port: Option<u16>,
    alarms: HashMap<TimerId, Alarm>,
    stats: Stats,
    started: Instant,
    /// Whether the ticker's alarm is set.
    ticks: bool,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, and whatever else the system says.
    pub fn bind(config: Config) -> io::Result<Self> {
        let mut event_loop = EventLoop::bind((config.host.as_str(), config.port), config.limits)?;
        if config.signals {
            event_loop.watch_signals()?;
        }
        if config.log {
            event_loop.log_requests(io::stdout());
        }
        let sweep = event_loop.set_timer(SWEEP);
        Ok(Server {
            access: Access::new(event_loop.local_address(), config.allow_hosts, config.allow_origins),
            files: config.static_folder.map_or(Files::Embedded, Files::Folder),
            random: Random::open()?,
            rooms: Rooms::default(),
            clients: Clients::default(),
            mailboxes: Mailboxes::default(),
            signalling: Signalling::new(signal_api::PEERS_PER_ROOM, signal_api::MAX_ROOMS),
            holds: HashMap::new(),
            chaos: config.chaos,
            tap_port: config.tap_port,
            alarms: HashMap::from([(sweep, Alarm::Sweep)]),
            stats: Stats::default(),
            started: event_loop.now(),
            ticks: false,
            event_loop,
        })
    }

    /// The address that the server listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.event_loop.local_address()
    }

    /// Sets [`Config::tap_port`] after the tap is bound: it needs the server's address first.
    pub fn set_tap_port(&mut self, port: Option<u16>) {
        self.tap_port = port;
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        self.event_loop.remote()
    }

    /// Serves until a signal or [`Remote::shut_down`] ends it in an orderly way.
    ///
    /// # Errors
    /// As [`EventLoop::next_event`].
    pub fn run(mut self) -> io::Result<()> {
        loop {
            match self.event_loop.next_event()? {
                Event::Request(conn, request) => self.on_request(conn, &request),
                Event::Message(conn, message) => self.on_message(conn, &message),
                Event::Timer(timer) => self.on_timer(timer),
                Event::Closed(conn) => drop(self.release(conn)),
                Event::Shutdown => {
                    self.let_go();
                    return self.event_loop.drain();
                }
            }
        }
    }

    fn on_request(&mut self, conn: ExchangeId, request: &Request) {
        let mut since = self.event_loop.traffic(conn);
        since.received = since.received.saturating_sub(request.wire_length() as u64);
        let (cors, reply) = match self.access.check(request) {
            Ok(cors) => {
                let call = Call { conn, request, cors: cors.clone(), since };
                (cors, self.dispatch(&call).unwrap_or_else(|error| Reply::Now(error.response())))
            }
            Err(refusal) => (Cors::default(), Reply::Now(refusal.response())),
        };
        match reply {
            Reply::Now(response) => self.event_loop.respond(conn, cors.apply(response)),
            Reply::Counted(response, transport, messages) => {
                self.event_loop.respond(conn, cors.apply(response));
                self.stats.of(transport).messages += messages;
                self.stats.add_traffic(transport, since, self.event_loop.traffic(conn));
            }
            Reply::Later => {}
        }
    }

    fn dispatch(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let (method, path) = (call.request.method(), call.request.path());
        match routes::find(method, &path) {
            Found::Handler(handler) => handler(self, call),
            Found::HeadOfLive => {
                self.event_loop
                    .begin(call.conn, call.cors.apply(Response::new(200).with_field("Cache-Control", "no-store")));
                Ok(Reply::Later)
            }
            Found::Options(methods) => Ok(Reply::Now(Access::preflight(&methods))),
            Found::NotAllowed(methods) => Ok(Reply::Now(routes::not_allowed(&methods, method))),
            Found::Nothing => self.file(call),
        }
    }

    /// The browser client, or 404.
    fn file(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        const METHODS: &str = "GET, HEAD, OPTIONS";
        let path = call.request.path();
        match (call.request.method(), self.files.get(&path)) {
            (Method::Options, _) if path == "*" => Ok(Reply::Now(Access::preflight(METHODS))),
            (_, None) => {
                Err(ApiError::not_found(format!("there is nothing at {path:?}: see /openapi.json for what there is")))
            }
            (Method::Get | Method::Head, Some(file)) => Ok(Reply::Now(file)),
            (Method::Options, Some(_)) => Ok(Reply::Now(Access::preflight(METHODS))),
            (method, Some(_)) => Ok(Reply::Now(routes::not_allowed(METHODS, method))),
        }
    }

    fn on_message(&mut self, conn: ExchangeId, message: &Message) {
        let said = match self.holds.get(&conn).map(|hold| &hold.purpose) {
            Some(Purpose::RoomStream { room, .. }) => {
                let room = room.clone();
                self.room_said(conn, &room, message)
            }
            Some(Purpose::MailboxStream { mailbox, .. }) => {
                let mailbox = mailbox.clone();
                self.mailbox_said(&mailbox, message)
            }
            Some(Purpose::Signalling) => {
                self.signalled(conn, message);
                Ok(())
            }
            Some(_) | None => Ok(()),
        };
        // A wrong message is no reason to end a good connection.
        if let Err(error) = said {
            let answer = json!({ "type": "error", "error": error.sentence });
            self.event_loop.send_message(conn, Message::Text(answer.to_string()));
        }
    }

    fn on_timer(&mut self, timer: TimerId) {
        match self.alarms.remove(&timer) {
            Some(Alarm::Hold(conn)) => self.on_hold_timer(conn),
            Some(Alarm::Ticker) => self.tick(),
            Some(Alarm::Sweep) => {
                let now = self.event_loop.now();
                self.mailboxes.sweep(now);
                self.clients.sweep(now);
                self.set_alarm(SWEEP, Alarm::Sweep);
            }
            None => {}
        }
    }

    fn set_alarm(&mut self, after: Duration, alarm: Alarm) -> TimerId {
        let timer = self.event_loop.set_timer(after);
        self.alarms.insert(timer, alarm);
        timer
    }

    /// Keeps a connection; its alarm, if it has one, is due `after` so long.
    fn hold(&mut self, call: &Call<'_>, transport: Transport, purpose: Purpose, after: Option<Duration>) {
        let timer = after.map(|after| self.set_alarm(after, Alarm::Hold(call.conn)));
        let hold = Hold { purpose, transport, cors: call.cors.clone(), since: call.since, timer };
        self.holds.insert(call.conn, hold);
        self.stats.of(transport).open += 1;
    }

    /// The time of a hold is up: a poll is answered, a stream gets its heartbeat.
    fn on_hold_timer(&mut self, conn: ExchangeId) {
        let Some(hold) = self.holds.get_mut(&conn) else { return };
        hold.timer = None;
        let transport = hold.transport;
        match &mut hold.purpose {
            Purpose::RoomPoll { .. } | Purpose::MailboxPoll { .. } => return self.end_hold(conn, Why::TimedOut),
            Purpose::Signalling => return, // a WebSocket has pings, and no alarm was set
            Purpose::RoomStream { .. } => self.event_loop.send(conn, &heartbeat(transport)),
            Purpose::MailboxStream { mailbox, beats } => {
                *beats += 1;
                let (mailbox, beats) = (mailbox.clone(), *beats);
                self.send_heartbeat(transport, conn, &mailbox, beats);
            }
        }
        let timer = self.set_alarm(HEARTBEAT, Alarm::Hold(conn));
        if let Some(hold) = self.holds.get_mut(&conn) {
            hold.timer = Some(timer);
        }
    }

    /// Lets go of a connection: nothing waits for it any more, and its bytes are counted.
    fn release(&mut self, conn: ExchangeId) -> Option<Hold> {
        let hold = self.holds.remove(&conn)?;
        if let Some(timer) = hold.timer {
            self.event_loop.cancel_timer(timer);
            self.alarms.remove(&timer);
        }
        match &hold.purpose {
            Purpose::RoomPoll { room, client, .. } | Purpose::RoomStream { room, client } => {
                if let Some(room) = self.rooms.get_mut(room) {
                    room.polls.remove(&conn);
                    room.streams.remove(&conn);
                }
                if let Some(client) = client.as_ref().and_then(|id| self.clients.get_mut(id)) {
                    client.held.remove(&conn);
                    client.seen = self.event_loop.now();
                }
            }
            Purpose::MailboxPoll { mailbox } | Purpose::MailboxStream { mailbox, .. } => {
                self.leave_mailbox(mailbox, conn)
            }
            Purpose::Signalling => self.stop_signalling(conn),
        }
        self.stats.of(hold.transport).open -= 1;
        self.stats.add_traffic(hold.transport, hold.since, self.event_loop.traffic(conn));
        Some(hold)
    }

    /// Lets go of a held poll by answering it.
    fn answer(&mut self, conn: ExchangeId, response: Response, messages: u64) {
        let Some(hold) = self.release(conn) else { return };
        let before = self.event_loop.traffic(conn);
        self.event_loop.respond(conn, hold.cors.apply(response));
        self.stats.of(hold.transport).messages += messages;
        self.stats.add_traffic(hold.transport, before, self.event_loop.traffic(conn));
    }

    /// Lets go of a connection by the server's will: a poll is answered, a stream ends.
    fn end_hold(&mut self, conn: ExchangeId, why: Why) {
        let Some(hold) = self.holds.get(&conn) else { return };
        match (&hold.purpose, hold.transport) {
            (Purpose::RoomPoll { room, from, .. }, _) => {
                let rest = room_api::rest_of_empty_answer(why);
                let content = self.rooms.get(room).map(|room| room.batch(*from, rest)).unwrap_or_default();
                self.answer(conn, room_api::poll_answer(content.into_bytes().into()), 0);
            }
            (Purpose::MailboxPoll { mailbox }, _) => {
                let mut answer = json!({ "type": "timeout", "connection_id": &**mailbox });
                if why == Why::Superseded {
                    answer["superseded"] = true.into();
                }
                self.answer(conn, uncached(&answer), 0);
            }
            (_, Transport::WebSocket) => {
                let (code, reason) = why.close();
                self.release(conn);
                self.event_loop.close(conn, code, reason);
            }
            _ => {
                self.release(conn);
                self.event_loop.end(conn);
            }
        }
    }

    /// The server is going away.
    fn let_go(&mut self) {
        self.signalling.clear();
        for conn in self.holds.keys().copied().collect::<Vec<_>>() {
            self.end_hold(conn, Why::GoingAway);
        }
    }

    // Handlers for the server itself.

    fn health(&mut self, _: &Call<'_>) -> Result<Reply, ApiError> {
        let uptime = (self.event_loop.now() - self.started).as_secs_f64();
        Ok(answer_json(&json!({ "status": "ok", "uptime": uptime })))
    }

    fn statistics(&mut self, _: &Call<'_>) -> Result<Reply, ApiError> {
        let now = self.event_loop.now();
        let live = self.holds.iter().map(|(conn, hold)| (hold.transport, hold.since, self.event_loop.traffic(*conn)));
        let mut mailboxes = json!({ "connected": 0, "waiting": 0, "idle": 0, "expired": 0 });
        for mailbox in self.mailboxes.iter() {
            let count = &mut mailboxes[self.status_of(mailbox)];
            *count = (count.as_u64().unwrap_or_default() + 1).into();
        }
        mailboxes["texts"] = self.mailboxes.texts().into();
        Ok(answer_json(&json!({
            "active_clients": self.clients.active(now),
            "total_messages": self.rooms.total_messages(),
            "rooms": self.rooms.names(),
            "present": self.present(),
            "mailboxes": mailboxes,
            "connections": self.event_loop.connections(),
            "transports": self.stats.to_json(live),
            "chaos": self.chaos,
            "tap_port": self.tap_port,
            "timestamp": timestamp(),
        })))
    }

    /// How many are in each room where somebody is: who holds polls, streams or WebSockets there. What
    /// stands behind the last full stop of a `client_id` says who it is, so that a page with several
    /// connections is one.
    fn present(&self) -> Value {
        let mut rooms: BTreeMap<&str, (HashSet<&str>, usize)> = BTreeMap::new();
        for hold in self.holds.values() {
            let (Purpose::RoomPoll { room, client, .. } | Purpose::RoomStream { room, client }) = &hold.purpose else {
                continue;
            };
            let (named, nameless) = rooms.entry(room).or_default();
            match client.as_ref().and_then(|id| id.rsplit('.').next()) {
                Some(who) => drop(named.insert(who)),
                None => *nameless += 1,
            }
        }
        json!(rooms.iter().map(|(room, (named, nameless))| (*room, named.len() + nameless)).collect::<BTreeMap<_, _>>())
    }

    fn status_of(&self, mailbox: &Mailbox) -> &'static str {
        match mailbox.reader.and_then(|conn| self.holds.get(&conn)).map(|hold| &hold.purpose) {
            Some(Purpose::MailboxPoll { .. }) => "waiting",
            Some(_) => "connected",
            None if mailbox.is_expired(self.event_loop.now()) => "expired",
            None => "idle",
        }
    }

    /// Forgets everything, as a restart does: held connections are reset, then rooms, mailboxes and clients are
    /// dropped.
    fn forget(&mut self, _: &Call<'_>) -> Result<Reply, ApiError> {
        if !self.chaos {
            return Err(ApiError { status: 403, sentence: "faults are off: start the server with --chaos".into() });
        }
        self.signalling.clear();
        for conn in self.holds.keys().copied().collect::<Vec<_>>() {
            self.release(conn);
            self.event_loop.sever(conn);
        }
        self.rooms = Rooms::default();
        self.clients = Clients::default();
        self.mailboxes = Mailboxes::default();
        Ok(answer_json(&json!({ "status": "forgotten" })))
    }

    /// Disconnects a client by its `client_id`, or a mailbox by its `connection_id`.
    fn disconnect_client(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let path = call.request.path();
        let id = path.strip_prefix("/api/client/").unwrap_or_default();
        let client = self.clients.remove(id).map(|client| client.held.into_iter().collect::<Vec<_>>());
        let mailbox = self.mailboxes.remove(id).map(|mailbox| mailbox.reader);
        if client.is_none() && mailbox.is_none() {
            return Err(ApiError::not_found(format!("client {id:?} is unknown")));
        }
        for conn in client.into_iter().flatten().chain(mailbox.flatten()) {
            self.end_hold(conn, Why::Disconnected);
        }
        Ok(answer_json(&json!({ "status": "disconnected" })))
    }
}

/// 200 with JSON that no cache keeps.
fn uncached(value: &Value) -> Response {
    Response::json(200, value).with_field("Cache-Control", "no-store")
}

fn answer_json(value: &Value) -> Reply {
    Reply::Now(uncached(value))
}
