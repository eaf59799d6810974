//! Links: a client's connection and the one to the target that belongs to it.
//!
//! Bytes pass both ways unchanged. Those of the client pass at once, except the head of a request: it waits until it is
//! complete, for a second at most. Those of the target pass the gate of their exchange.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::faults::{Faults, Strike};
use super::splitter::Splitter;
use super::viewer::Viewers;
use crate::event_loop::{Closed, EventLoop, ExchangeId, TimerId};
use crate::websocket::{CloseCode, Role};

/// The most bytes that wait in one direction. While more wait, their sender is not read.
pub const MAX_WAITING: usize = 256 * 1024;

/// The longest wait for a complete head, and for the first bytes of a new connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest silence of a client after the end of the target.
pub const PATIENCE_AFTER_END: Duration = Duration::from_secs(60);

/// The shared environment of all links.
pub struct Env {
    /// The sockets.
    pub io: EventLoop,
    /// The viewers.
    pub viewers: Viewers,
    /// The address of the target.
    pub target: SocketAddr,
    /// Its URL.
    pub target_url: String,
    /// The links, named by their client, of the connections to the target.
    pub by_target: HashMap<ExchangeId, ExchangeId>,
    /// The links of the timers.
    pub by_timer: HashMap<TimerId, ExchangeId>,
}

/// The result of an action on a link.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// The link continues.
    GoOn,
    /// The link has ended.
    Over,
    /// The client's connection belongs to the tap itself. These bytes have been read.
    HandOver(Vec<u8>),
}

/// The end of one side's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// It has arrived, and has not been passed on.
    Arrived,
    /// A reset has arrived in its place.
    Reset,
    Passed,
}

/// A client's connection and the one to the target.
pub struct Link {
    pub(super) client: ExchangeId,
    pub(super) address: SocketAddr,
    pub(super) target: Option<ExchangeId>,
    pub(super) splitter: Splitter,
    /// The exchanges that are not over. The first bytes to the client are those of the first.
    pub(super) exchanges: VecDeque<Exchange>,
    /// A request to the tap itself, and all that follows it.
    pub(super) own: Option<Vec<u8>>,
    pub(super) client_end: End,
    pub(super) target_end: End,
    pub(super) is_client_paused: bool,
    pub(super) is_target_paused: bool,
    /// Both connections are to be reset.
    pub(super) is_broken: bool,
    /// The time at which [`PATIENCE`] ends.
    pub(super) patient_until: Option<Instant>,
    /// The time at which [`PATIENCE_AFTER_END`] ends.
    pub(super) lingers_until: Option<Instant>,
    pub(super) timer: Option<(TimerId, Instant)>,
}

impl Link {
    /// Creates the link of an accepted connection.
    pub fn new(client: ExchangeId, address: SocketAddr, env: &mut Env) -> Self {
        let mut link = Link {
            client,
            address,
            target: None,
            splitter: Splitter::default(),
            exchanges: VecDeque::new(),
            own: None,
            client_end: End::Open,
            target_end: End::Open,
            is_client_paused: false,
            is_target_paused: false,
            is_broken: false,
            patient_until: Some(env.io.now() + PATIENCE),
            lingers_until: None,
            timer: None,
        };
        link.set_timer(env);
        link
    }

    /// Relays bytes of the client.
    pub fn on_client_bytes(&mut self, bytes: &[u8], env: &mut Env) -> Fate {
        let spans = self.splitter.read(Role::Client, bytes);
        self.take_client_spans(spans, env);
        match self.splitter.is_waiting() {
            true => drop(self.patient_until.get_or_insert(env.io.now() + PATIENCE)),
            false => self.patient_until = None,
        }
        if let Some(until) = &mut self.lingers_until {
            *until = env.io.now() + PATIENCE_AFTER_END;
        }
        self.settle(env)
    }

    /// Relays bytes of the target.
    pub fn on_target_bytes(&mut self, bytes: &[u8], env: &mut Env) -> Fate {
        self.take_answer(bytes, env);
        self.settle(env)
    }

    /// Notes that the client sends nothing more.
    pub fn on_client_end(&mut self, env: &mut Env) -> Fate {
        let spans = self.splitter.end(Role::Client);
        self.take_client_spans(spans, env);
        self.client_end = End::Arrived;
        self.settle(env)
    }

    /// Notes that the target sends nothing more.
    pub fn on_target_end(&mut self, env: &mut Env) -> Fate {
        let spans = self.splitter.end(Role::Server);
        self.take_target_spans(spans, env);
        self.end_target(End::Arrived, env);
        self.settle(env)
    }

    /// Notes that the connection to the target is over.
    pub fn on_target_closed(&mut self, why: Closed, env: &mut Env) -> Fate {
        if let Some(target) = self.target.take() {
            env.by_target.remove(&target);
        }
        match why {
            Closed::Finished => {}
            Closed::Refused(kind) => self.fail_to_connect(kind, env),
            Closed::TimedOut => self.fail_to_connect(io::ErrorKind::TimedOut, env),
            _ => self.end_target(End::Reset, env),
        }
        self.settle(env)
    }

    /// Continues after queued bytes were written.
    pub fn on_drained(&mut self, env: &mut Env) -> Fate {
        self.settle(env)
    }

    /// Continues when the timer is due.
    pub fn on_timer(&mut self, env: &mut Env) -> Fate {
        self.timer = None;
        if self.patient_until.is_some_and(|at| at <= env.io.now()) {
            self.patient_until = None;
            if self.splitter.is_waiting() {
                let spans = self.splitter.stop_waiting();
                self.take_client_spans(spans, env);
            } else {
                // A target may be the first to speak.
                self.connect(env);
            }
        }
        if self.lingers_until.is_some_and(|at| at <= env.io.now()) {
            self.is_broken = true;
        }
        self.settle(env)
    }

    /// Ends the link when its client's connection is over.
    pub fn on_client_closed(mut self, why: &Closed, env: &mut Env) {
        if let Some(target) = self.target {
            match why {
                Closed::Finished => env.io.close(target, CloseCode::NORMAL, ""),
                _ => env.io.reset(target),
            }
        }
        self.clean_up(env);
    }

    /// Resets both connections.
    pub fn reset(mut self, env: &mut Env) {
        self.is_broken = true;
        let _ = self.settle(env);
    }

    /// Sets the faults that stay for the exchanges of a label.
    pub fn switch(&mut self, audience: &str, label: &str, faults: Faults, env: &mut Env) -> Fate {
        let now = env.io.now();
        for exchange in self.exchanges.iter_mut().filter(|exchange| exchange.is_of(audience, label)) {
            exchange.gate.set(faults, now);
        }
        self.settle(env)
    }

    /// Whether the target may still send something.
    pub fn has_open_target(&self) -> bool {
        self.target.is_some() && self.target_end == End::Open
    }

    /// Whether both sides send nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.client_end != End::Open && self.target_end != End::Open
    }

    /// Returns the number of exchanges that are not over.
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether there are exchanges of a label.
    pub fn has(&self, audience: &str, label: &str) -> bool {
        self.exchanges.iter().any(|exchange| exchange.is_of(audience, label))
    }

    /// Strikes the exchanges of a label.
    pub fn strike(&mut self, audience: &str, label: &str, strike: Strike, env: &mut Env) -> Fate {
        for at in 0..self.exchanges.len() {
            if self.exchanges[at].is_of(audience, label) {
                self.strike_at(at, strike, env);
            }
        }
        self.settle(env)
    }

    /// Shows an audience nothing more, and lifts the faults of its exchanges.
    pub fn forget_audience(&mut self, audience: &str, env: &mut Env) -> Fate {
        for exchange in &mut self.exchanges {
            if let Some(shown) = exchange.shown.take_if(|shown| *shown.audience == *audience) {
                env.viewers.forget(&shown);
                exchange.gate.open(env.io.now());
            }
        }
        self.settle(env)
    }

    /// Lifts all faults.
    pub fn lift_faults(&mut self, env: &mut Env) -> Fate {
        for exchange in &mut self.exchanges {
            exchange.gate.open(env.io.now());
        }
        self.settle(env)
    }

    pub(super) fn strike_at(&mut self, at: usize, strike: Strike, env: &mut Env) {
        let exchange = &mut self.exchanges[at];
        match strike {
            Strike::Drop => {
                exchange.show_strike(strike, env);
                self.is_broken = true;
            }
            Strike::HalfOpen => {
                exchange.show_strike(strike, env);
                exchange.gate.strike(strike);
            }
            Strike::Cut => exchange.gate.strike(strike), // shown when it happens
        }
    }
}
