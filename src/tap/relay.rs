//! The relay of bytes from each side to the other, by exchange.

use std::io;

use super::exchange::{Answer, Exchange, is_own, request_of};
use super::link::{End, Env, Link};
use super::splitter::Span;
use crate::http::Method;
use crate::websocket::Role;

impl Link {
    pub(super) fn take_client_spans(&mut self, spans: Vec<Span>, env: &mut Env) {
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
                Span::Stray(bytes) => {
                    self.show_malformed(&bytes, env);
                    self.pass(bytes, env);
                }
            }
        }
    }

    /// Shows bytes that are not a request, to those who see everything.
    fn show_malformed(&mut self, bytes: &[u8], env: &mut Env) {
        if !self.splitter.is_client_broken() {
            return; // a part of a slow head
        }
        if self.exchanges.back().is_none_or(|exchange| !exchange.is_malformed)
            && let Some(shown) = env.viewers.begin_malformed(self.address, &mut env.io)
        {
            self.exchanges.push_back(Exchange::malformed(shown, env.io.now()));
        }
        if let Some(exchange) = self.exchanges.back_mut().filter(|exchange| exchange.is_malformed) {
            exchange.show(Role::Client, bytes, env);
        }
    }

    /// Begins an exchange with the head of its request. The first `passed` bytes of it have been passed on already.
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

    pub(super) fn connect(&mut self, env: &mut Env) {
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
    pub(super) fn fail_to_connect(&mut self, kind: io::ErrorKind, env: &mut Env) {
        self.target_end = End::Arrived;
        match self.exchanges.iter_mut().find(|exchange| exchange.is_open_request()) {
            Some(exchange) => exchange.refuse(Answer::unreachable(&env.target_url, kind)),
            None => self.is_broken = true,
        }
    }

    /// Takes bytes of an answer, and then what of the client's bytes depended on it.
    pub(super) fn take_answer(&mut self, bytes: &[u8], env: &mut Env) {
        let spans = self.splitter.read(Role::Server, bytes);
        self.take_target_spans(spans, env);
        let spans = self.splitter.read(Role::Client, b"");
        self.take_client_spans(spans, env);
    }

    pub(super) fn take_target_spans(&mut self, spans: Vec<Span>, env: &mut Env) {
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

    /// Notes that the target sends nothing more: no gate waits for the rest of an answer.
    pub(super) fn end_target(&mut self, end: End, env: &mut Env) {
        self.target_end = end;
        for exchange in &mut self.exchanges {
            exchange.gate.complete(env.io.now());
        }
    }
}
