//! The steps that follow each event of a link: releases, ends, backpressure and the timer.

use super::faults::Strike;
use super::link::{End, Env, Fate, Link, MAX_WAITING, PATIENCE_AFTER_END};
use crate::event_loop::{EventLoop, ExchangeId};
use crate::websocket::{CloseCode, Role};

impl Link {
    /// Does all that is due.
    pub(super) fn settle(&mut self, env: &mut Env) -> Fate {
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
                    self.lingers_until = Some(env.io.now() + PATIENCE_AFTER_END);
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
            self.is_broken = true; // no answer can pass
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
        // The tap itself reads the bytes after a request to the tap.
        let up = if self.own.is_some() { usize::MAX } else { up };
        balance(self.client, up, &mut self.is_client_paused, &mut env.io);
    }

    pub(super) fn set_timer(&mut self, env: &mut Env) {
        let gate = self.exchanges.iter().find(|exchange| !exchange.gate.is_done());
        let release = gate.and_then(|exchange| exchange.gate.next_release());
        let next = [self.patient_until, self.lingers_until, release].into_iter().flatten().min();
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

    pub(super) fn clean_up(&mut self, env: &mut Env) {
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
