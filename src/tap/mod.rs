//! The tap: a relay to any HTTP or WebSocket server. It shows the bytes of both directions, and disturbs them.
//!
//! A tap listens on a separate address. For each connection that it accepts, it opens one to the target, and passes the
//! bytes both ways unchanged. It is a program over the event loop. The target does not notice it.
//!
//! | file | what it is for |
//! |-|-|
//! | `mod.rs` | the loop, and the requests to the tap itself |
//! | `link.rs`, `relay.rs`, `settle.rs` | one client's connection and the one to the target: both ways, ends, backpressure |
//! | `exchange.rs`, `splitter.rs` | one request and its answer, and the bytes that belong to it |
//! | `faults.rs` | the faults, and the gate that holds an answer back |
//! | `viewer.rs`, `audience.rs`, `shown.rs`, `mask.rs` | the viewers, and the bytes that they see |
//! | `command.rs` | the commands of a viewer |
//!
//! ```no_run
//! use overwire::Limits;
//! use overwire::tap::{Mode, Tap, TapConfig};
//!
//! fn main() -> std::io::Result<()> {
//!     let tap = Tap::bind(TapConfig {
//!         host: "127.0.0.1".to_owned(),
//!         port: 8100,
//!         target: ([127, 0, 0, 1], 3000).into(),
//!         target_url: "http://127.0.0.1:3000".to_owned(),
//!         mode: Mode::All,
//!         allow_hosts: Vec::new(),
//!         shows_secrets: false,
//!         limits: Limits::default(),
//!         signals: true,
//!     })?;
//!     println!("open http://{}/-/tap/", tap.local_address());
//!     tap.run()
//! }
//! ```

mod audience;
mod command;
mod exchange;
mod faults;
mod link;
mod relay;
mod settle;
mod shown;
mod splitter;
mod viewer;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use self::command::Command;
use self::exchange::OWN_PATH;
use self::link::{Env, Fate, Link};
use self::viewer::{Viewers, check_id};
use crate::access::{Access, Resource};
use crate::event_loop::{Event, EventLoop, ExchangeId, ListenerId, Opened, Remote, Speaks, TimerId};
use crate::files::Files;
use crate::http::{Method, Origins, Request, Response};
use crate::limits::Limits;
use crate::proxies::Client;
use crate::websocket::{self, CloseCode, Message};

/// The time between two attempts to listen again.
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

/// The path of the WebSocket of a viewer, below that of the tap.
const VIEW: &str = "/view";

/// The requests that viewers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those that a page has marked with `tap=ID.LABEL`: its viewer has this id.
    Marked,
    /// All: those that the page of the tap shows.
    All,
}

/// The configuration of a tap.
#[derive(Debug, Clone)]
pub struct TapConfig {
    /// The name or address to listen on.
    pub host: String,
    /// The port. 0 lets the system choose.
    pub port: u16,
    /// The address of the target.
    pub target: SocketAddr,
    /// The URL of the target, for its viewers.
    pub target_url: String,
    /// The requests that viewers see.
    pub mode: Mode,
    /// The names of the tap in addition to its address and `localhost`.
    pub allow_hosts: Vec<String>,
    /// Whether viewers see secrets: cookies, keys and tickets. Otherwise they see a `*` in place of each byte.
    pub shows_secrets: bool,
    /// The bounds of its connections.
    pub limits: Limits,
    /// Whether SIGINT and SIGTERM end the tap. Only one loop of a process can have them.
    pub signals: bool,
}

/// A running tap.
pub struct Tap {
    env: Env,
    access: Access,
    address: SocketAddr,
    listener: Option<ListenerId>,
    /// The timer after which the tap listens again: the target was down, or the last attempt failed.
    up: Option<TimerId>,
    links: HashMap<ExchangeId, Link>,
    /// [`Limits::drain_time`]
    drain_time: Duration,
}

impl Tap {
    /// Binds the address.
    ///
    /// # Errors
    /// `AddrInUse` when the port is taken, and the other errors of the system.
    pub fn bind(config: TapConfig) -> io::Result<Self> {
        let drain_time = config.limits.drain_time;
        let mut io = EventLoop::new(config.limits)?;
        if config.signals {
            io.watch_signals()?;
        }
        let listener = io.listen((config.host.as_str(), config.port), Speaks::Raw)?;
        let address = io.local_address();
        let viewers = Viewers::new(config.mode, config.target_url.clone(), config.shows_secrets, io.now());
        Ok(Tap {
            env: Env {
                io,
                viewers,
                target: config.target,
                target_url: config.target_url,
                by_target: HashMap::new(),
                by_timer: HashMap::new(),
            },
            access: Access::new(address, config.allow_hosts, Origins::default()),
            address,
            listener: Some(listener),
            up: None,
            links: HashMap::new(),
            drain_time,
        })
    }

    /// The address that the tap listens on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        self.env.io.remote()
    }

    /// Relays until a signal or [`Remote::shut_down`] ends it.
    ///
    /// # Errors
    /// As [`EventLoop::next_event`].
    pub fn run(mut self) -> io::Result<()> {
        loop {
            match self.env.io.next_event()? {
                Event::Shutdown => return self.shut_down(),
                event => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened(id, Opened::Accepted { peer, .. }) => {
                self.links.insert(id, Link::new(id, peer, &mut self.env));
            }
            Event::Bytes(id, bytes) if self.links.contains_key(&id) => {
                self.with(id, |link, env| link.on_client_bytes(&bytes, env));
            }
            Event::Bytes(id, bytes) => self.with_link_to(id, |link, env| link.on_target_bytes(&bytes, env)),
            Event::EndOfInput(id) if self.links.contains_key(&id) => self.with(id, Link::on_client_end),
            Event::EndOfInput(id) => self.with_link_to(id, Link::on_target_end),
            Event::Drained(id) if self.links.contains_key(&id) => self.with(id, Link::on_drained),
            Event::Drained(id) => self.with_link_to(id, Link::on_drained),
            Event::Closed(id, why) => match self.links.remove(&id) {
                Some(link) => link.on_client_closed(&why, &mut self.env),
                None if self.env.by_target.contains_key(&id) => {
                    self.with_link_to(id, |link, env| link.on_target_closed(why, env));
                }
                None => self.lose_viewer(id),
            },
            Event::Timer(timer) if self.up == Some(timer) => self.come_up(),
            Event::Timer(timer) => match self.env.by_timer.remove(&timer) {
                Some(id) => self.with(id, Link::on_timer),
                None => self.env.viewers.on_timer(timer, &mut self.env.io),
            },
            Event::Request(id, request) => self.answer(id, &request),
            Event::Message(id, message) => self.obey(id, &message),
            Event::Opened(_, Opened::Connected) | Event::Woken | Event::Reload | Event::Shutdown => {}
        }
    }

    /// Acts on a link, and removes it if it has ended.
    fn with(&mut self, id: ExchangeId, act: impl FnOnce(&mut Link, &mut Env) -> Fate) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match act(link, &mut self.env) {
            Fate::GoOn => {}
            Fate::Over => drop(self.links.remove(&id)),
            Fate::HandOver(bytes) => {
                self.links.remove(&id);
                self.env.io.serve_http(id, bytes);
            }
        }
    }

    /// Acts on the link of a connection to the target.
    fn with_link_to(&mut self, target: ExchangeId, act: impl FnOnce(&mut Link, &mut Env) -> Fate) {
        if let Some(id) = self.env.by_target.get(&target) {
            self.with(*id, act);
        }
    }

    fn with_all(&mut self, act: impl Fn(&mut Link, &mut Env) -> Fate) {
        let mut ids: Vec<_> = self.links.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.with(id, &act));
    }

    // Requests to the tap itself.

    fn answer(&mut self, id: ExchangeId, request: &Request) {
        let path = request.path();
        let rest = path.strip_prefix(OWN_PATH);
        let resource = if rest == Some(VIEW) { Resource::Api } else { Resource::File };
        if let Err(refusal) = self.access.check(request, &Client::default(), resource) {
            return self.env.io.respond(id, refusal.response().with_close());
        }
        let response = match rest {
            Some(VIEW) => match self.open_viewer(id, request) {
                Ok(()) => return,
                Err(response) => response,
            },
            rest => file(rest.unwrap_or_default(), request),
        };
        self.env.io.respond(id, response.with_close());
    }

    fn open_viewer(&mut self, socket: ExchangeId, request: &Request) -> Result<(), Response> {
        let id = request.parameter("tap").unwrap_or_default();
        check_id(&id).map_err(|sentence| Response::error(400, &sentence))?;
        let accepted = websocket::accept(request, &[]).map_err(|error| error.response())?;
        self.env.io.upgrade(socket, accepted);
        if self.env.viewers.is_full(&id) {
            let reason = "there are too many taps: try again later";
            self.env.io.close(socket, CloseCode::TRY_AGAIN_LATER, reason);
            return Ok(());
        }
        if let Some(before) = self.env.viewers.socket_of(&id) {
            self.lose_viewer(before);
            self.env.io.close(before, CloseCode::NORMAL, "superseded");
        }
        let open = self.links.values().map(Link::exchanges).sum();
        self.env.viewers.open(&id, socket, open, &mut self.env.io);
        Ok(())
    }

    /// A viewer is gone. If it was the last of its audience, so are its faults.
    fn lose_viewer(&mut self, socket: ExchangeId) {
        if let Some(audience) = self.env.viewers.close(socket) {
            self.with_all(|link, env| link.forget_audience(&audience, env));
        }
    }

    /// Carries out a command, or tells the viewer what is wrong with it.
    fn obey(&mut self, socket: ExchangeId, message: &Message) {
        let Some(audience) = self.env.viewers.audience_of(socket) else { return };
        let command = match message {
            Message::Text(text) => command::parse(text),
            Message::Binary(_) => Err("expected a text message with a JSON object, not a binary one".to_owned()),
        };
        if let Err(sentence) = command.and_then(|command| self.command(&audience, command)) {
            let error = json!({ "type": "error", "error": sentence });
            self.env.io.send_message(socket, Message::Text(error.to_string()));
        }
    }

    fn command(&mut self, audience: &Rc<str>, command: Command) -> Result<(), String> {
        match command {
            Command::Switch(label, switch) => {
                let faults = self.env.viewers.switch(audience, &label, switch)?;
                self.with_all(|link, env| link.switch(audience, &label, faults, env));
            }
            Command::Strike(label, strike) if self.links.values().any(|link| link.has(audience, &label)) => {
                self.with_all(|link, env| link.strike(audience, &label, strike, env));
            }
            Command::Strike(label, strike) => self.env.viewers.strike_next(audience, &label, strike)?,
            Command::Down(time) => self.go_down(time),
        }
        Ok(())
    }

    /// Acts as if the target had gone for this time: refuses connections, and resets those that are open.
    fn go_down(&mut self, time: Duration) {
        if let Some(listener) = self.listener.take() {
            self.env.io.close_listener(listener);
        }
        self.links.drain().for_each(|(_, link)| link.reset(&mut self.env));
        self.env.viewers.announce("down", &mut self.env.io);
        self.up.take().into_iter().for_each(|timer| self.env.io.cancel_timer(timer));
        self.up = Some(self.env.io.set_timer(time));
    }

    /// Listens again on the same address. Another program may have taken it meanwhile.
    fn come_up(&mut self) {
        self.up = None;
        match self.env.io.listen(self.address, Speaks::Raw) {
            Ok(listener) => {
                self.listener = Some(listener);
                self.env.viewers.announce("up", &mut self.env.io);
            }
            Err(_) => self.up = Some(self.env.io.set_timer(LISTEN_AGAIN)),
        }
    }

    /// Lifts all faults, and relays for [`Limits::drain_time`] what the target still has to say. A target that drains
    /// itself at the same time ends its connections.
    fn shut_down(&mut self) -> io::Result<()> {
        self.env.io.stop_listening();
        self.up.take().into_iter().for_each(|timer| self.env.io.cancel_timer(timer));
        self.with_all(Link::lift_faults);
        let deadline = self.env.io.set_timer(self.drain_time);
        while self.links.values().any(Link::has_open_target) {
            match self.env.io.next_event()? {
                Event::Timer(timer) if timer == deadline => break,
                event => self.on_event(event),
            }
        }
        for socket in self.env.viewers.sockets() {
            self.env.io.close(socket, CloseCode::GOING_AWAY, "the tap is going away");
        }
        self.env.io.drain()
    }
}

/// The page that shows all requests, and its files.
fn file(path: &str, request: &Request) -> Response {
    let method = request.method();
    let file = match path {
        "" => Some(Response::new(308).with_field("Location", "/-/tap/")),
        "/" => Files::Embedded.answer("/wire/viewer.html", request),
        _ => path.strip_prefix("/static").and_then(|path| Files::Embedded.answer(path, request)),
    };
    match file {
        None => Response::error(404, &format!("the tap has nothing at {OWN_PATH}{path}")),
        Some(_) if !matches!(method, Method::Get | Method::Head) => {
            Response::error(405, &format!("{method}: expected GET or HEAD")).with_field("Allow", "GET, HEAD")
        }
        Some(file) => file,
    }
}
