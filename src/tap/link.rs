//! Links: a client's connection and the one to the target that belongs to it.
//!
//! Bytes pass both ways unchanged. Those of the client pass at once, except the head of a request: it waits until it is
//! complete, for a second at most. Those of the target pass the gate of their exchange.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::exchange::{Answer, Exchange, is_own, request_of};
use super::faults::{Faults, Strike};
use super::splitter::{Span, Splitter};
use super::viewer::Viewers;
use crate::event_loop::{Closed, EventLoop, ExchangeId, TimerId};
use crate::http::Method;
use crate::websocket::{CloseCode, Role};

/// The most bytes that wait in one direction. While more wait, their sender is not read.
const MAX_WAITING: usize = 256 * 1024;

/// The longest time for which the head of a request waits to be complete, and a new connection for its first bytes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all links share.
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

/// What a link wants of the tap.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// Nothing.
    GoOn,
    /// It has ended.
    Over,
    /// The client's connection belongs to the tap itself. These bytes have been read.
    HandOver(Vec<u8>),
}

/// The end of one side's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// It has arrived, and has not been passed on.
    Arrived,
    /// A reset has arrived in its place.
    Reset,
    Passed,
}

/// A client's connection and the one to the target.
pub struct Link {
    client: ExchangeId,
    address: SocketAddr,
    target: Option<ExchangeId>,
    splitter: Splitter,
    /// The exchanges that are not over. The first bytes to the client are those of the first.
    exchanges: VecDeque<Exchange>,
    /// A request to the tap itself, and all that follows it.
    own: Option<Vec<u8>>,
    client_end: End,
    target_end: End,
    is_client_paused: bool,
    is_target_paused: bool,
    /// Both connections are to be reset.
    is_broken: bool,
    /// The time at which [`PATIENCE`] ends.
    patient_until: Option<Instant>,
    timer: Option<(TimerId, Instant)>,
}

impl Link {
    /// Starts with a connection that was accepted.
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
            timer: None,
        };
        link.set_timer(env);
        link
    }

    /// Takes bytes of the client.
    pub fn on_client_bytes(&mut self, bytes: &[u8], env: &mut Env) -> Fate {
        let spans = self.splitter.read(Role::Client, bytes);
        self.take_client_spans(spans, env);
        match self.splitter.is_waiting() {
            true => drop(self.patient_until.get_or_insert(env.io.now() + PATIENCE)),
            false => self.patient_until = None,
        }
        self.settle(env)
    }

    /// Takes bytes of the target.
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
        self.target_end = End::Arrived;
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
            _ => self.target_end = End::Reset,
        }
        self.settle(env)
    }

    /// Goes on when something has been written.
    pub fn on_drained(&mut self, env: &mut Env) -> Fate {
        self.settle(env)
    }

    /// Goes on when the timer is due.
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
    fn has_ended(&self) -> bool {
        self.client_end != End::Open && self.target_end != End::Open
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

    fn take_client_spans(&mut self, spans: Vec<Span>, env: &mut Env) {
        for span in spans {
            if let Some(own) = &mut self.own {
                own.extend_from_slice(span.bytes());
                continue;
            }
            match span {
                Span::Head { bytes, passed } => self.begin(bytes, passed, env),
                Span::More(bytes) => {
                    let Some(exchange) = self.exchanges.back_mut() else { continue };
                    exchange.show(Role::Client, &bytes, env);
                    if !exchange.is_refused {
                        self.pass(bytes, env);
                    }
                }
                Span::End => {
                    if let Some(exchange) = self.exchanges.back_mut() {
                        exchange.is_asked = true;
                    }
                }
                Span::Stray(bytes) => self.pass(bytes, env),
            }
        }
    }

    /// Begins an exchange with the head of its request, of which `passed` bytes have been passed on already.
    fn begin(&mut self, head: Vec<u8>, passed: usize, env: &mut Env) {
        let Some(request) = request_of(&head) else { return self.pass(head, env) };
        if passed == 0 && is_own(&request) {
            self.own = Some(head);
            return;
        }
        let now = env.io.now();
        let mut exchange = Exchange::new(request.method() == Method::Head, now);
        let mut pending = None;
        if let Some((shown, trouble)) = env.viewers.begin(&request, self.address, &mut env.io) {
            exchange.shown = Some(shown);
            exchange.show(Role::Client, &head, env);
            exchange.gate.set(trouble.faults, now);
            if trouble.is_gateway_bad && passed == 0 {
                exchange.refuse(Answer::bad_gateway());
            }
            pending = trouble.pending;
        }
        let is_refused = exchange.is_refused;
        self.exchanges.push_back(exchange);
        if let Some(strike) = pending {
            self.strike_at(self.exchanges.len() - 1, strike, env);
        }
        if !is_refused && !self.is_broken {
            self.pass(head[passed..].to_vec(), env);
        }
    }

    /// Passes bytes of the client on.
    fn pass(&mut self, bytes: Vec<u8>, env: &mut Env) {
        self.connect(env);
        if let Some(target) = self.target {
            env.io.send_bytes(target, bytes);
        }
    }

    fn connect(&mut self, env: &mut Env) {
        if self.target.is_some() || self.target_end != End::Open {
            return;
        }
        match env.io.connect(env.target) {
            Ok(target) => {
                self.target = Some(target);
                env.by_target.insert(target, self.client);
            }
            Err(error) => self.fail_to_connect(error.kind(), env),
        }
    }

    /// The target cannot be reached. The tap answers in its place, if there is a request to answer.
    fn fail_to_connect(&mut self, kind: io::ErrorKind, env: &mut Env) {
        self.target_end = End::Arrived;
        match self.exchanges.iter_mut().find(|exchange| !exchange.is_answered && !exchange.is_refused) {
            Some(exchange) => exchange.refuse(Answer::unreachable(&env.target_url, kind)),
            None => self.is_broken = true,
        }
    }

    /// Takes bytes of an answer, and then what of the client's bytes depended on it.
    fn take_answer(&mut self, bytes: &[u8], env: &mut Env) {
        let spans = self.splitter.read(Role::Server, bytes);
        self.take_target_spans(spans, env);
        let spans = self.splitter.read(Role::Client, b"");
        self.take_client_spans(spans, env);
    }

    fn take_target_spans(&mut self, spans: Vec<Span>, env: &mut Env) {
        let now = env.io.now();
        for span in spans {
            let current = self.exchanges.iter_mut().find(|exchange| !exchange.is_answered);
            match span {
                Span::Stray(bytes) => match self.exchanges.back_mut() {
                    Some(last) => last.gate.push(bytes, now),
                    None => env.io.send_bytes(self.client, bytes),
                },
                Span::End => {
                    if let Some(exchange) = current {
                        exchange.is_answered = true;
                        exchange.gate.complete(now);
                    }
                }
                Span::More(bytes) | Span::Head { bytes, .. } => {
                    if let Some(exchange) = current {
                        exchange.gate.push(bytes, now);
                    }
                }
            }
        }
    }

    fn strike_at(&mut self, at: usize, strike: Strike, env: &mut Env) {
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

    // What follows from all that has happened.

    fn settle(&mut self, env: &mut Env) -> Fate {
        self.reply(env);
        let is_cut = self.release(env);
        self.pass_ends(env);
        let fate = self.fate(is_cut, env);
        if fate == Fate::GoOn {
            self.balance(env);
            self.set_timer(env);
        }
        fate
    }

    /// Gives the tap's own answers, each when all before it have arrived.
    fn reply(&mut self, env: &mut Env) {
        let next = |link: &mut Link| link.exchanges.iter_mut().find(|exchange| !exchange.is_answered)?.reply.take();
        while let Some(reply) = next(self) {
            self.take_answer(&reply, env);
        }
    }

    /// Sends the client what the gates release. Returns whether the connection is cut.
    fn release(&mut self, env: &mut Env) -> bool {
        let now = env.io.now();
        for exchange in &mut self.exchanges {
            let bytes = exchange.gate.release(now);
            if !bytes.is_empty() {
                exchange.show(Role::Server, &bytes, env);
                env.io.send_bytes(self.client, bytes);
            }
            if exchange.gate.is_cut() {
                exchange.show_strike(Strike::Cut, env);
                return true;
            }
            if !exchange.gate.is_done() {
                break;
            }
        }
        while let Some(exchange) = self.exchanges.front()
            && exchange.is_over()
            // The connection ends with its last exchange.
            && !(self.exchanges.len() == 1 && self.splitter.is_closing())
        {
            if let Some(shown) = self.exchanges.pop_front().and_then(|exchange| exchange.shown) {
                env.viewers.end(shown, false, &mut env.io);
            }
        }
        false
    }

    /// Passes the end of a side on when all before it has been passed on.
    fn pass_ends(&mut self, env: &mut Env) {
        if self.client_end == End::Arrived
            && let Some(target) = self.target
        {
            env.io.end(target);
            self.client_end = End::Passed;
        }
        let is_own_due = self.own.is_some() && !self.splitter.is_closing();
        if matches!(self.target_end, End::Arrived | End::Reset) && !is_own_due && self.is_released() {
            match self.target_end {
                End::Reset if env.io.waiting(self.client) > 0 => {}
                End::Reset => self.is_broken = true,
                _ => {
                    env.io.end(self.client);
                    self.target_end = End::Passed;
                    self.end_shown(env);
                }
            }
        }
    }

    /// Whether no gate holds anything back.
    fn is_released(&self) -> bool {
        self.exchanges.iter().all(|exchange| exchange.gate.waiting() == 0 && !exchange.gate.is_half_open())
    }

    fn fate(&mut self, is_cut: bool, env: &mut Env) -> Fate {
        let is_alone = self.target.is_none() && self.is_released();
        let is_half_open = self.exchanges.iter().any(|exchange| exchange.gate.is_half_open());
        if is_half_open && (self.waiting_for_client(env) > MAX_WAITING || self.has_ended()) {
            self.is_broken = true; // nothing can come of it any more
        }
        if self.is_broken || is_cut {
            self.target.into_iter().for_each(|target| env.io.reset(target));
            match is_cut {
                true => env.io.close(self.client, CloseCode::NORMAL, ""),
                false => env.io.reset(self.client),
            }
        } else if self.own.is_some() && self.target_end == End::Passed
            || is_alone && (self.client_end == End::Arrived || self.target_end == End::Passed)
        {
            self.target.into_iter().for_each(|target| env.io.close(target, CloseCode::NORMAL, ""));
            env.io.close(self.client, CloseCode::NORMAL, "");
        } else if self.exchanges.is_empty()
            && env.io.waiting(self.client) == 0
            && let Some(own) = self.own.take()
        {
            self.target.into_iter().for_each(|target| env.io.close(target, CloseCode::NORMAL, ""));
            self.clean_up(env);
            return Fate::HandOver(own);
        } else {
            return Fate::GoOn;
        }
        self.clean_up(env);
        Fate::Over
    }

    /// The number of bytes that wait for the client.
    fn waiting_for_client(&self, env: &Env) -> usize {
        let held: usize = self.exchanges.iter().map(|exchange| exchange.gate.waiting()).sum();
        env.io.waiting(self.client) + held
    }

    /// Does not read a side while much of its bytes waits for the other.
    fn balance(&mut self, env: &mut Env) {
        let down = self.waiting_for_client(env);
        if let Some(target) = self.target {
            balance(target, down, &mut self.is_target_paused, &mut env.io);
        }
        let up = self.target.map_or(0, |target| env.io.waiting(target));
        // What follows a request to the tap itself is read by the tap.
        let up = if self.own.is_some() { usize::MAX } else { up };
        balance(self.client, up, &mut self.is_client_paused, &mut env.io);
    }

    fn set_timer(&mut self, env: &mut Env) {
        let gate = self.exchanges.iter().find(|exchange| !exchange.gate.is_done());
        let release = gate.and_then(|exchange| exchange.gate.next_release());
        let next = [self.patient_until, release].into_iter().flatten().min();
        if next == self.timer.map(|(_, at)| at) {
            return;
        }
        self.cancel_timer(env);
        if let Some(at) = next {
            let timer = env.io.set_timer(at.saturating_duration_since(env.io.now()));
            env.by_timer.insert(timer, self.client);
            self.timer = Some((timer, at));
        }
    }

    fn cancel_timer(&mut self, env: &mut Env) {
        if let Some((timer, _)) = self.timer.take() {
            env.io.cancel_timer(timer);
            env.by_timer.remove(&timer);
        }
    }

    fn end_shown(&mut self, env: &mut Env) {
        for shown in self.exchanges.iter_mut().filter_map(|exchange| exchange.shown.take()) {
            env.viewers.end(shown, true, &mut env.io);
        }
    }

    fn clean_up(&mut self, env: &mut Env) {
        self.end_shown(env);
        self.cancel_timer(env);
        if let Some(target) = self.target.take() {
            env.by_target.remove(&target);
        }
    }
}

/// Pauses a connection whose bytes wait, and resumes it when most have gone.
fn balance(side: ExchangeId, waiting: usize, is_paused: &mut bool, io: &mut EventLoop) {
    if !*is_paused && waiting > MAX_WAITING {
        io.pause(side);
        *is_paused = true;
    } else if *is_paused && waiting <= MAX_WAITING / 2 {
        io.resume(side);
        *is_paused = false;
    }
}
