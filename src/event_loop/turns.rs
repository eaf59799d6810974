//! Turns: what the loop does between two sleeps. Each connection that has something to do gets a turn, in which at most
//! one buffer is read and decoded. When all have had theirs, what is queued is written, and deadlines are judged.
//!
//! Turns and rounds have budgets of time. So a request waits for one turn of each connection that has news, not for all
//! that others have sent at once, and the loop looks at its sockets after each round.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::peer::{End, Peer, Watch};
use super::spares::Spares;
use super::{Event, EventLoop, ExchangeId, Opened, TimerId};
use crate::access_log::Entry;
use crate::connection::{Closed, Connection, Context, LARGE_READ, Outcome, Socket};
use crate::limits::Limits;
use crate::slab::Key;
use crate::socket_options;
use crate::timers::Timers;

/// The largest number of requests or messages that are decoded in one turn: each may be work for the program.
const EVENTS_PER_TURN: usize = 64;

/// The time after which a round ends, even if not all have had their turn, in times of one turn.
const TURNS_PER_ROUND: u32 = 40;

/// The largest part by which turns are shorter when more connections have news than have a whole turn in a round. So
/// the last of them waits less, and requests that are not dear are still answered together.
const SHORTEST_TURN: u32 = 10;

/// The clock is read after this number of events of a turn, and again after that number of further ones, and after some
/// turns. Each reading costs as much as a tenth of a small message.
const FIRST_READING: usize = 4;
const NEXT_READING: usize = 16;
const TURNS_PER_READING: usize = 16;

/// The time between two readings, in times of one turn, from which on events are dear: the next reading follows after
/// one of them.
const DEAR: u32 = 2;

/// The number of queued bytes from which on a connection is written at the end of its own turn, and not when all have
/// had theirs. By then the bytes would have left the processor's cache.
const WARM: usize = 8 * 1024;

/// The number of queued bytes up to which that is so for a stream or a WebSocket, whose peer may have sent as many. More
/// of them, such as a replay, would delay the turns of others.
const WARM_AT_MOST: usize = 2 * LARGE_READ;

/// The number of queued bytes from which on an outbox is long. Short requests can have long answers: the turn of a
/// connection with pipelined requests ends then, and the answers wait for the flush.
const LONG: usize = 64 * 1024;

/// The time that a flush has for long outboxes.
const LONG_FLUSH: Duration = Duration::from_millis(2);

/// Why a timer was set.
#[derive(Debug)]
pub(super) enum Due {
    /// For the deadline of a connection.
    Connection(Key),
    /// By the program.
    Program,
    /// For a listener that could not accept.
    AcceptAgain(Key),
    /// For a connection whose client has sent more than it may for now.
    Turn(Key),
}

/// The connection whose turn it is, and its part of the read buffer that is not decoded yet.
pub(super) struct Turn {
    key: Key,
    start: usize,
    end: usize,
    /// The number of events that it may still have.
    left: usize,
    /// What is left when the clock is to be read.
    reading: usize,
    /// The time that the round had taken when it began.
    began: Duration,
}

/// What is to be done, and for which connections.
#[derive(Default)]
pub(super) struct Agenda {
    /// Connections with news from the poll.
    news: VecDeque<Key>,
    /// Connections whose last turn has left something to do. They come after all news: a request does not wait for
    /// what others have sent at once.
    rest: VecDeque<Key>,
    round: Round,
    pub unflushed: VecDeque<Key>,
    unflushed_long: VecDeque<Key>,
    pub unflushed_groups: Vec<Key>,
    /// Closed connections, kept until their `Closed` has been reported.
    pub closed: Vec<Key>,
    pub timers: Timers<Due>,
    pub budget: Budget,
    /// Watched connections that may have moved bytes.
    pub moved: Vec<Key>,
}

/// The time that a round has taken.
pub(super) struct Stopwatch {
    began: Instant,
    /// By the last reading of the clock.
    taken: Duration,
    /// The time after which a turn of this round ends.
    turn_time: Duration,
    /// The last events were dear: the clock is read after each one.
    are_dear: bool,
    /// The number of turns before the next reading.
    turns: usize,
}

impl Stopwatch {
    pub fn new(now: Instant) -> Self {
        Stopwatch {
            began: now,
            taken: Duration::ZERO,
            turn_time: Duration::ZERO,
            are_dear: false,
            turns: TURNS_PER_READING,
        }
    }

    /// A round begins, with this number of connections that have news. Turns do not become longer before those that had
    /// news in the last round have had theirs.
    fn begin(&mut self, now: Instant, turn_time: Duration, news: usize, is_late: bool) {
        (self.began, self.taken) = (now, Duration::ZERO);
        let shortened = turn_time / (news as u32 / TURNS_PER_ROUND).clamp(1, SHORTEST_TURN);
        self.turn_time = if is_late { self.turn_time.min(shortened) } else { shortened };
    }

    /// Notes a reading of the clock.
    fn read(&mut self, now: Instant) {
        let before = mem::replace(&mut self.taken, now - self.began);
        self.are_dear = self.taken - before >= self.turn_time.saturating_mul(DEAR);
        self.turns = TURNS_PER_READING;
    }
}

/// What is left of a round. After it, the loop flushes and looks at its sockets.
#[derive(Default)]
struct Round {
    /// The numbers of turns that it has left.
    news: usize,
    rest: usize,
    /// It has not taken too long.
    has_time: bool,
    /// One turn of the rest is owed even if it has, or the news could hold it up forever.
    owes_rest: bool,
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
        self.budget.charge_output(peer);
        if peer.watch == Watch::Still {
            peer.watch = Watch::Moved;
            self.moved.push(key);
        }
        let next = peer.next(limits);
        if next.close {
            self.closed.push(key);
            return;
        }
        if next.turn && !mem::replace(&mut peer.has_turn, true) {
            self.rest.push_back(key);
        }
        if next.write {
            self.flush_later(key, peer);
        }
        if let Some(deadline) = next.deadline
            && !(peer.is_put_off() && next.has_work())
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
            self.unflushed.push_back(key);
        }
    }

    /// Queues a connection for a turn whose pause is over.
    pub fn end_pause(&mut self, key: Key) {
        self.rest.push_back(key);
    }

    /// Queues a connection with news for a turn, in which it finds out what it can do.
    pub fn note_news(&mut self, key: Key, peer: &mut Peer) {
        if !mem::replace(&mut peer.has_turn, true) {
            // Those that have hung up come first: what others send now is not for them.
            match peer.end {
                End::Announced => self.news.push_front(key),
                _ => self.news.push_back(key),
            }
        }
    }

    /// Whether nothing can be done before a socket is ready or a timer is due.
    pub fn is_empty(&self) -> bool {
        self.news.is_empty() && self.rest.is_empty() && self.unflushed.is_empty() && self.unflushed_long.is_empty()
    }

    fn next_turn(&mut self) -> Option<Key> {
        let round = &mut self.round;
        if round.has_time && round.news > 0 {
            round.news -= 1;
            return self.news.pop_front();
        }
        if (round.has_time || round.owes_rest) && round.rest > 0 {
            round.rest -= 1;
            round.owes_rest = false;
            return self.rest.pop_front();
        }
        None
    }

    /// Begins a round, and returns whether some of the news of the last one have not had their turn.
    fn begin_round(&mut self) -> bool {
        let is_late = self.round.news > 0;
        self.round = Round { news: self.news.len(), rest: self.rest.len(), has_time: true, owes_rest: true };
        is_late
    }
}

impl EventLoop {
    // ANCHOR: step
    /// Does the next thing, in this order: reports an event, goes on with the turn that has begun, frees memory if the
    /// connections keep too much, begins the next turn of this round. When all have had theirs, or the round has taken
    /// too long: accepts, flushes, frees memory again, sees to timers that are due, sleeps.
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
        if self.agenda.budget.is_exceeded(&self.context.limits) {
            self.free_memory();
            return Ok(None);
        }
        if let Some(key) = self.agenda.next_turn() {
            self.begin_turn(key);
            return Ok(self.decode());
        }
        self.accept();
        self.flush();
        if self.agenda.budget.is_exceeded(&self.context.limits) {
            self.free_memory();
        }
        if !self.pending.is_empty() || !self.agenda.closed.is_empty() {
            return Ok(None);
        }
        // Not by the time of now: what has arrived before a deadline counts, however late it is read.
        if let Some((timer, due)) = self.agenda.timers.pop_due(self.noted_until) {
            return Ok(self.expire(timer, due));
        }
        self.sleep()?;
        self.begin_round();
        Ok(None)
    }
    // ANCHOR_END: step

    fn begin_round(&mut self) {
        self.load.begin_round(self.context.now);
        let is_late = self.agenda.begin_round();
        self.stopwatch.begin(self.context.now, self.context.limits.turn_time, self.agenda.news.len(), is_late);
    }

    // ANCHOR: turn
    fn begin_turn(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(pause) = peer.place.as_ref().and_then(|place| place.quota().pause(self.context.now)) {
            return self.pause_turn(key, pause);
        }
        match peer.read(&mut self.buffer, &self.context.limits) {
            Ok(count) => {
                if let Some(place) = &peer.place {
                    place.quota().take_bytes(count, self.context.now);
                }
                let began = self.stopwatch.taken;
                let reading = EVENTS_PER_TURN - if self.stopwatch.are_dear { 1 } else { FIRST_READING };
                self.turn = Some(Turn { key, start: 0, end: count, left: EVENTS_PER_TURN, reading, began });
            }
            Err(error) => {
                let outcome = peer.connection.lose(Closed::by(error.kind()));
                self.after(key, outcome);
            }
        }
    }

    /// Reads the clock, and ends the turn and the round if they have taken too long.
    #[cold]
    fn read_clock(&mut self) {
        self.update_clock();
        self.stopwatch.read(self.context.now);
        let Stopwatch { taken, turn_time, are_dear, .. } = self.stopwatch;
        if let Some(turn) = &mut self.turn {
            // The event that is under way is always finished.
            turn.left = if taken - turn.began < turn_time { turn.left } else { 0 };
            turn.reading = turn.left.saturating_sub(if are_dear { 1 } else { NEXT_READING });
        }
        self.agenda.round.has_time &= taken < self.context.limits.turn_time.saturating_mul(TURNS_PER_ROUND);
    }

    /// Decodes the next thing that the connection whose turn it is has to report. If there is none, its turn is over.
    fn decode(&mut self) -> Option<Event> {
        let turn = self.turn.as_ref()?;
        let key = turn.key;
        if turn.left == turn.reading {
            self.read_clock();
        }
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
        // One event is decoded in any case: a peer that does not read is held up by the limit of its outbox.
        let has_long_answers =
            turn.left < EVENTS_PER_TURN && peer.connection.queued() > LONG && !peer.connection.is_held();
        if turn.left == 0 || has_long_answers {
            peer.connection.postpone(&mut fresh);
        } else {
            turn.left -= 1;
            outcome = peer.connection.receive(&mut fresh, &self.context);
        }
        turn.start = turn.end - fresh.len();
        match outcome {
            // The usual case, which needs no second look at the peer: only requests are logged.
            Some(Outcome::Message(message)) => Some(Event::Message(ExchangeId { key, number: peer.exchange }, message)),
            Some(outcome) => self.report(key, outcome),
            None => self.end_turn(key),
        }
    }

    fn end_turn(&mut self, key: Key) -> Option<Event> {
        self.turn = None;
        self.stopwatch.turns -= 1;
        if self.stopwatch.turns == 0 {
            self.read_clock();
        }
        let peer = self.peers.get_mut(key)?;
        peer.has_turn = false;
        let memory = peer.connection.end_turn();
        self.agenda.budget.charge_input(peer, memory);
        let mut outcome = None;
        if peer.end != End::Open && peer.next(&self.context.limits).end {
            peer.end = End::Told;
            outcome = peer.connection.end_of_input(&self.context);
        }
        if outcome.is_none() && self.is_going_away {
            outcome = peer.connection.go_away(&self.context);
        }
        let most = if peer.connection.is_held() { WARM_AT_MOST } else { LONG };
        if outcome.is_none() && peer.writable && (WARM..=most).contains(&peer.connection.queued()) {
            outcome = peer.write(&self.context, &mut self.spares);
        }
        if peer.is_put_off() {
            peer.count_turn(self.noted_until, &self.context.limits);
        }
        self.agenda.settle(key, peer, &self.context.limits);
        outcome.and_then(|outcome| self.report(key, outcome))
    }

    /// Writes what has been queued since the last round. Long outboxes come last, and only as far as their time goes:
    /// the rest of them is written in the next round.
    pub(super) fn flush(&mut self) {
        self.flush_groups();
        // Those with more to write are entered again meanwhile.
        for _ in 0..self.agenda.unflushed.len() {
            let Some(key) = self.agenda.unflushed.pop_front() else { break };
            match self.peers.get_mut(key) {
                Some(peer) if peer.connection.queued() > LONG => {
                    self.agenda.unflushed_long.push_back(key);
                    // It may wait here for long.
                    self.agenda.budget.charge_output(peer);
                }
                _ => self.flush_one(key),
            }
        }
        if !self.agenda.unflushed_long.is_empty() {
            self.flush_long();
        }
    }

    #[cold]
    fn flush_long(&mut self) {
        let until = self.remote.now() + LONG_FLUSH;
        while let Some(key) = self.agenda.unflushed_long.pop_front() {
            self.flush_one(key);
            if self.remote.now() >= until {
                return;
            }
        }
    }

    fn flush_one(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.is_unflushed = false;
        let outcome = peer.write(&self.context, &mut self.spares);
        self.agenda.settle(key, peer, &self.context.limits);
        if let Some(outcome) = outcome {
            let event = self.report(key, outcome);
            self.pending.extend(event);
        }
    }
    // ANCHOR_END: turn

    fn expire(&mut self, timer: Key, due: Due) -> Option<Event> {
        match due {
            Due::Program => return Some(Event::Timer(TimerId(timer))),
            Due::AcceptAgain(key) => self.accept_again(key),
            Due::Turn(key) => self.agenda.end_pause(key),
            Due::Connection(key) => {
                let peer = self.peers.get_mut(key)?;
                peer.timer = None;
                let next = peer.next(&self.context.limits);
                let is_due = next.deadline.is_some_and(|at| at <= self.noted_until);
                let is_put_off = is_due && next.has_work() && peer.put_off();
                let mut outcome = None;
                if !is_put_off {
                    peer.turns_after_deadline = None;
                    outcome = if is_due { peer.connection.on_deadline(&self.context) } else { None };
                }
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
        } else if peer.notes.is_some() || peer.is_member() {
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
                let is_beyond = peer.is_beyond;
                if self.log.is_some() {
                    let client = self.name_of_client(key, Some(&request));
                    self.begin_entry(key, client, request.method().as_str(), request.target(), 0, 0);
                }
                if is_beyond {
                    self.refuse_request(id);
                    return None;
                }
                return Some(Event::Request(id, request));
            }
            Outcome::Refused(error, sent) => {
                self.load.count_answer(error.status());
                if self.log.is_some() {
                    let client = self.name_of_client(key, None);
                    self.begin_entry(key, client, "-", "-", error.status(), sent);
                }
                None
            }
            Outcome::Announced(announced) => {
                if announced.is_some() {
                    peer.notes.get_or_insert_default().announced = announced;
                }
                self.place_announced(key);
                return None;
            }
            Outcome::Message(message) => Some(Event::Message(id, message)),
            Outcome::Opened => Some(Event::Opened(id, Opened::Connected)),
            Outcome::Bytes(bytes) => Some(Event::Bytes(id, bytes)),
            Outcome::EndOfInput => Some(Event::EndOfInput(id)),
            Outcome::Drained => Some(Event::Drained(id)),
            Outcome::Closed(why) => {
                if let Some(entry) = peer.notes.as_mut().and_then(|notes| notes.entry.as_mut()) {
                    entry.end = Some(why.name());
                }
                Some(Event::Closed(id, why))
            }
        };
        self.conclude(key);
        event
    }

    /// A request has arrived. `sent` bytes of its answer have been queued already.
    fn begin_entry(&mut self, key: Key, client: String, method: &str, target: &str, status: u16, sent: u64) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let before = peer.connection.traffic().sent - sent;
        // The time of the turn would not do: most requests are answered within the turn.
        let mut entry = Entry::new(client, method, target, self.remote.now(), before);
        entry.status = status;
        peer.notes.get_or_insert_default().entry = Some(entry);
    }

    /// If the exchange of a connection is over, writes its line into the access log, and takes it out of its group: the
    /// only place that does.
    fn conclude(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.connection.is_held()) else { return };
        let entry = peer.notes.as_mut().and_then(|notes| notes.entry.take());
        if let (Some(entry), Some(log)) = (entry, &mut self.log) {
            log.write(&entry, self.remote.now(), peer.connection.traffic().sent);
        }
        self.remove_member(key);
    }

    /// Closes the sockets of closed connections.
    pub(super) fn close_sockets(&mut self) {
        while let Some(key) = self.agenda.closed.pop() {
            let Some(peer) = self.peers.remove(key) else { continue };
            self.agenda.budget.discharge(peer.charge);
            if let Some((timer, _)) = peer.timer {
                self.agenda.timers.cancel(timer);
            }
            if peer.connection.demand(&self.context.limits).socket == Socket::Reset {
                // It fails only if the socket is gone, and then there is nothing to reset.
                let _ = socket_options::reset_on_close(&peer.stream);
            }
        }
    }
}
