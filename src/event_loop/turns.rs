//! Turns: what the loop does between two sleeps. Each connection that has something to do gets a turn, in which at most
//! one buffer is read and decoded. When all have had theirs, what is queued is written.

use std::collections::VecDeque;
use std::io;
use std::mem;

use super::peer::{End, Peer};
use super::spares::Spares;
use super::{Event, EventLoop, ExchangeId, Opened, TimerId};
use crate::access_log::Entry;
use crate::connection::{Closed, Connection, Context, Outcome, Socket};
use crate::limits::Limits;
use crate::linger;
use crate::slab::Key;
use crate::timers::Timers;

/// The largest number of requests or messages that are decoded in one turn: each may be work for the program.
const EVENTS_PER_TURN: usize = 64;

/// The number of queued bytes from which on a connection is written at the end of its own turn, and not when all have
/// had theirs. By then the bytes would have left the processor's cache.
const WARM: usize = 8 * 1024;

/// Why a timer was set.
#[derive(Debug)]
pub(super) enum Due {
    /// For the deadline of a connection.
    Connection(Key),
    /// By the program.
    Program,
    /// For a listener that could not accept.
    AcceptAgain(Key),
}

/// The connection whose turn it is, and its part of the read buffer that is not decoded yet.
pub(super) struct Turn {
    key: Key,
    start: usize,
    end: usize,
    /// The number of its events.
    events: usize,
}

/// What is to be done, and for which connections.
#[derive(Default)]
pub(super) struct Agenda {
    turns: VecDeque<Key>,
    /// The number of turns that are left before the loop flushes and looks at its sockets.
    left_in_round: usize,
    pub unflushed: Vec<Key>,
    pub unflushed_groups: Vec<Key>,
    /// Closed connections, kept until their `Closed` has been reported.
    pub closed: Vec<Key>,
    pub timers: Timers<Due>,
}

impl Agenda {
    /// Enters what a connection needs next: a write, another turn, a timer, its end.
    #[inline]
    pub fn settle(&mut self, key: Key, peer: &mut Peer, limits: &Limits) {
        // The usual case. It is settled again after the write.
        if peer.writable && peer.connection.queued() > 0 {
            return self.flush_later(key, peer);
        }
        self.settle_in_full(key, peer, limits);
    }

    fn settle_in_full(&mut self, key: Key, peer: &mut Peer, limits: &Limits) {
        let next = peer.next(limits);
        if next.close {
            self.closed.push(key);
            return;
        }
        if next.turn {
            self.give_turn(key, peer);
        }
        if next.write {
            self.flush_later(key, peer);
        }
        if let Some(deadline) = next.deadline
            && peer.timer.is_none_or(|(_, at)| deadline < at)
        {
            if let Some((later, _)) = peer.timer.take() {
                self.timers.cancel(later);
            }
            peer.timer = Some((self.timers.set(deadline, Due::Connection(key)), deadline));
        }
    }

    fn flush_later(&mut self, key: Key, peer: &mut Peer) {
        if !peer.is_unflushed {
            peer.is_unflushed = true;
            self.unflushed.push(key);
        }
    }

    /// Queues a connection for a turn, in which it finds out what it can do.
    pub fn give_turn(&mut self, key: Key, peer: &mut Peer) {
        if !peer.has_turn {
            peer.has_turn = true;
            // Those that have hung up come first: what others send now is not for them.
            match peer.end {
                End::Announced => self.turns.push_front(key),
                _ => self.turns.push_back(key),
            }
        }
    }

    /// Whether nothing can be done before a socket is ready or a timer is due.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.unflushed.is_empty()
    }

    fn next_turn(&mut self) -> Option<Key> {
        self.left_in_round = self.left_in_round.checked_sub(1)?;
        self.turns.pop_front()
    }

    fn begin_round(&mut self) {
        self.left_in_round = self.turns.len();
    }
}

impl EventLoop {
    // ANCHOR: step
    /// Does the next thing, in this order: reports an event, goes on with the turn that has begun, sees to a timer that
    /// is due, begins the next turn of this round. When all have had theirs: accepts, flushes, sleeps.
    pub(super) fn step(&mut self) -> io::Result<Option<Event>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        if !self.agenda.closed.is_empty() {
            self.close_sockets();
        }
        if self.turn.is_some() {
            return Ok(self.decode());
        }
        if let Some((timer, due)) = self.agenda.timers.pop_due(self.context.now) {
            return Ok(self.expire(timer, due));
        }
        if let Some(key) = self.agenda.next_turn() {
            self.begin_turn(key);
            return Ok(self.decode());
        }
        self.accept();
        self.flush();
        if self.pending.is_empty() && self.agenda.closed.is_empty() {
            self.sleep()?;
        }
        self.agenda.begin_round();
        Ok(None)
    }
    // ANCHOR_END: step

    // ANCHOR: turn
    fn begin_turn(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match peer.read(&mut self.buffer, &self.context.limits) {
            Ok(count) => self.turn = Some(Turn { key, start: 0, end: count, events: 0 }),
            Err(_) => {
                let outcome = peer.connection.lose(Closed::Reset);
                self.after(key, outcome);
            }
        }
    }

    /// Decodes the next thing that the connection whose turn it is has to report. If there is none, its turn is over.
    fn decode(&mut self) -> Option<Event> {
        let key = self.turn.as_ref()?.key;
        let Some(mut peer) = self.peers.get_mut(key) else {
            self.turn = None;
            return None;
        };
        // A Pong or a Close that the connection answers follows what the group was sent before.
        if peer.is_member() {
            self.catch_up(key);
            peer = self.peers.get_mut(key)?;
        }
        let turn = self.turn.as_mut()?;
        let mut fresh = &self.buffer[turn.start..turn.end];
        let mut outcome = None;
        if turn.events == EVENTS_PER_TURN {
            peer.connection.postpone(&mut fresh);
        } else {
            outcome = peer.connection.receive(&mut fresh, &self.context);
        }
        turn.start = turn.end - fresh.len();
        turn.events += 1;
        match outcome {
            // The usual case, which needs no second look at the peer: only requests are logged.
            Some(Outcome::Message(message)) => Some(Event::Message(ExchangeId { key, number: peer.exchange }, message)),
            Some(outcome) => self.report(key, outcome),
            None => self.end_turn(key),
        }
    }

    fn end_turn(&mut self, key: Key) -> Option<Event> {
        self.turn = None;
        let peer = self.peers.get_mut(key)?;
        peer.has_turn = false;
        peer.connection.end_turn();
        let mut outcome = None;
        if peer.end != End::Open && peer.next(&self.context.limits).end {
            peer.end = End::Told;
            outcome = peer.connection.end_of_input(&self.context);
        }
        if outcome.is_none() && peer.writable && peer.connection.queued() >= WARM {
            outcome = peer.write(&self.context, &mut self.spares);
        }
        self.agenda.settle(key, peer, &self.context.limits);
        outcome.and_then(|outcome| self.report(key, outcome))
    }

    /// Writes what has been queued since the last round.
    pub(super) fn flush(&mut self) {
        self.flush_groups();
        let mut flushing = mem::take(&mut self.agenda.unflushed);
        for key in flushing.drain(..) {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            peer.is_unflushed = false;
            let outcome = peer.write(&self.context, &mut self.spares);
            self.agenda.settle(key, peer, &self.context.limits);
            if let Some(outcome) = outcome {
                let event = self.report(key, outcome);
                self.pending.extend(event);
            }
        }
        // Those with more to write have been entered meanwhile. The list keeps its memory.
        flushing.append(&mut self.agenda.unflushed);
        self.agenda.unflushed = flushing;
    }
    // ANCHOR_END: turn

    fn expire(&mut self, timer: Key, due: Due) -> Option<Event> {
        match due {
            Due::Program => return Some(Event::Timer(TimerId(timer))),
            Due::AcceptAgain(key) => self.accept_again(key),
            Due::Connection(key) => {
                let peer = self.peers.get_mut(key)?;
                peer.timer = None;
                let is_due =
                    peer.connection.demand(&self.context.limits).deadline.is_some_and(|at| at <= self.context.now);
                let outcome = if is_due { peer.connection.on_deadline(&self.context) } else { None };
                self.after(key, outcome);
            }
        }
        None
    }

    /// Does something to an exchange, unless it is over, that queues about `more` bytes.
    #[inline]
    pub(super) fn act(
        &mut self,
        id: ExchangeId,
        more: usize,
        action: impl FnOnce(&mut Connection, &Context, &mut Spares) -> Option<Outcome>,
    ) {
        let ExchangeId { key, number } = id;
        let Some(mut peer) = self.peers.get_mut(key).filter(|peer| peer.exchange == number) else { return };
        if peer.is_member() {
            self.catch_up(key);
            match self.peers.get_mut(key) {
                Some(again) => peer = again,
                None => return,
            }
        }
        let mut outcome = peer.make_room(more, &self.context, &mut self.spares);
        if outcome.is_none() {
            outcome = action(&mut peer.connection, &self.context, &mut self.spares);
        }
        if peer.connection.queued() == 0 {
            // An action that was not due has left unused what it was lent.
            self.spares.take_back(peer.connection.outbox_mut());
        }
        // A connection whose turn it is is settled at the end of its turn.
        if self.turn.as_ref().is_none_or(|turn| turn.key != key) {
            self.agenda.settle(key, peer, &self.context.limits);
        }
        if let Some(outcome) = outcome {
            let event = self.report(key, outcome);
            self.pending.extend(event);
        } else if peer.entry.is_some() || peer.is_member() {
            self.conclude(key);
        }
    }

    /// Whether it is the turn of this connection.
    pub(super) fn is_turn_of(&self, key: Key) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.key == key)
    }

    /// Enters what a connection needs after a step of its own, and queues the event that the step has caused.
    pub(super) fn after(&mut self, key: Key, outcome: Option<Outcome>) {
        if let Some(peer) = self.peers.get_mut(key) {
            self.agenda.settle(key, peer, &self.context.limits);
        }
        let event = outcome.and_then(|outcome| self.report(key, outcome));
        self.pending.extend(event);
    }

    /// Turns an outcome into the event for the program, if it is one.
    pub(super) fn report(&mut self, key: Key, outcome: Outcome) -> Option<Event> {
        let peer = self.peers.get_mut(key)?;
        peer.exchange = peer.exchange.wrapping_add(u32::from(matches!(outcome, Outcome::Request(_))));
        let id = ExchangeId { key, number: peer.exchange };
        let event = match outcome {
            Outcome::Request(request) => {
                if self.log.is_some() {
                    self.begin_entry(key, request.method().as_str(), request.target(), 0, 0);
                }
                return Some(Event::Request(id, request));
            }
            Outcome::Refused(error, sent) => {
                self.begin_entry(key, "-", "-", error.status(), sent);
                None
            }
            Outcome::Message(message) => Some(Event::Message(id, message)),
            Outcome::Opened => Some(Event::Opened(id, Opened::Connected)),
            Outcome::Bytes(bytes) => Some(Event::Bytes(id, bytes)),
            Outcome::EndOfInput => Some(Event::EndOfInput(id)),
            Outcome::Drained => Some(Event::Drained(id)),
            Outcome::Closed(why) => Some(Event::Closed(id, why)),
        };
        self.conclude(key);
        event
    }

    /// A request has arrived. `sent` bytes of its answer have been queued already.
    fn begin_entry(&mut self, key: Key, method: &str, target: &str, status: u16, sent: u64) {
        let Some(peer) = self.peers.get_mut(key).filter(|_| self.log.is_some()) else { return };
        let before = peer.connection.traffic().sent - sent;
        let address = peer.stream.peer_addr().ok();
        // The time of the turn would not do: most requests are answered within the turn.
        let mut entry = Entry::new(address, method, target, self.remote.now(), before);
        entry.status = status;
        peer.entry = Some(Box::new(entry));
    }

    /// If the exchange of a connection is over, writes its line into the access log, and takes it out of its group: the
    /// only place that does.
    fn conclude(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.connection.is_held()) else { return };
        if let (Some(entry), Some(log)) = (peer.entry.take(), &mut self.log) {
            log.write(&entry, self.remote.now(), peer.connection.traffic().sent);
        }
        self.remove_member(key);
    }

    /// Closes the sockets of closed connections.
    pub(super) fn close_sockets(&mut self) {
        while let Some(key) = self.agenda.closed.pop() {
            let Some(peer) = self.peers.remove(key) else { continue };
            if let Some((timer, _)) = peer.timer {
                self.agenda.timers.cancel(timer);
            }
            if peer.connection.demand(&self.context.limits).socket == Socket::Reset {
                // It fails only if the socket is gone, and then there is nothing to reset.
                let _ = linger::reset_on_close(&peer.stream);
            }
        }
    }
}
