//! Sleeping, the clock, and accepting.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};

use super::peer::Peer;
use super::turns::Due;
use super::{BACKLOG, Event, EventLoop, ExchangeId, ListenerId, Opened, Speaks};
use crate::connection::{Closed, Connection};
use crate::http::{Response, format_date};
use crate::output;
use crate::quotas::Place;
use crate::signals;
use crate::slab::Key;

pub(super) const WAKER: Token = Token(usize::MAX - 1);
pub(super) const SIGNALS: Token = Token(usize::MAX - 2);
/// The token of the first listener. Those of connections are their slots, which do not come near.
const LISTENERS: usize = usize::MAX / 2;

/// What is reported of a connection. Urgent bytes are not used, but they show that a read may stop early.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The largest number of connections that one listener accepts at a time.
const ACCEPTS: usize = 256;

/// How long accepting pauses when the system has no file descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The largest number of times that a listener accepts before it is closed: enough for a full backlog.
const LAST_ACCEPTS: usize = BACKLOG as usize / ACCEPTS;

/// The largest number of connections beyond the limit that get an answer. Those beyond that are closed.
const REFUSALS: usize = 16;

/// The largest number of connections to reserved listeners beyond the limit and beyond those that are refused.
const RESERVED: usize = 4;

/// The largest number of slots in which a connection is looked for that can be closed for another.
const LOOKS: usize = 64;

/// The time after which a connection is closed for another even if it has not made a request yet, and before those that
/// have just had an answer.
pub(super) const IDLE_LONG: Duration = Duration::from_secs(1);

/// Whether a listener has connections to accept.
#[derive(Debug, PartialEq, Eq)]
enum Accepting {
    /// Perhaps: accept until `WouldBlock`.
    Ready,
    /// Not before mio says so.
    Waiting,
    /// The system has no room for one: wait for a timer.
    Paused,
}

pub(super) struct Listener {
    pub socket: TcpListener,
    speaks: Speaks,
    accepting: Accepting,
    /// It has places beyond the limit.
    pub is_reserved: bool,
}

impl EventLoop {
    /// Registers a listening socket.
    pub(super) fn add_listener(&mut self, socket: TcpListener, speaks: Speaks) -> io::Result<ListenerId> {
        let listener = Listener { socket, speaks, accepting: Accepting::Waiting, is_reserved: false };
        let key = self.listeners.insert(listener);
        let token = Token(LISTENERS + key.slot());
        if let Some(listener) = self.listeners.get_mut(key)
            && let Err(error) = self.poll.registry().register(&mut listener.socket, token, Interest::READABLE)
        {
            self.listeners.remove(key);
            return Err(error);
        }
        Ok(ListenerId(key))
    }

    /// Registers a socket, once and for all.
    pub(super) fn add_peer(&mut self, peer: Peer) -> io::Result<Key> {
        let key = self.peers.insert(peer);
        let token = Token(key.slot());
        if let Some(peer) = self.peers.get_mut(key) {
            (peer.opened, peer.seen) = (self.second, self.second);
            if let Err(error) = self.poll.registry().register(&mut peer.stream, token, INTEREST) {
                self.peers.remove(key);
                return Err(error);
            }
        }
        self.after(key, None);
        Ok(key)
    }

    /// Waits until a socket is ready or a timer is due, and notes which sockets are.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        let can_wait = self.agenda.is_empty() && self.accepting.is_empty();
        let (mut before, mut timeout) = (self.context.now, Some(Duration::ZERO));
        if can_wait {
            before = self.remote.now();
            self.load.end_round(before);
            timeout = self.agenda.timers.next_deadline().and_then(|at| self.remote.sleep_until(at, before));
        }
        let polled = self.poll.poll(&mut self.events, timeout);
        self.update_clock();
        if !can_wait {
            self.load.end_round(self.context.now);
        }
        match polled {
            Ok(()) => {
                let count = self.note_readiness();
                self.note_time(count, before, timeout);
            }
            // A signal has interrupted it, or the process was stopped: it says nothing about the sockets.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if self.remote.takes_news() {
            self.pending.push_back(Event::Woken);
        }
        if self.remote.shuts_down() && !mem::replace(&mut self.has_reported_shutdown, true) {
            self.context.draining = true;
            self.pending.push_back(Event::Shutdown);
        }
        Ok(())
    }

    /// Notes until when all that has arrived is known, after a poll that has reported `count` sockets.
    fn note_time(&mut self, count: usize, before: Instant, timeout: Option<Duration>) {
        if count == 0 {
            self.noted_until = before + timeout.unwrap_or_default();
        } else if count < self.events.capacity() {
            self.noted_until = before;
        } else if self.agenda.timers.next_deadline().is_some_and(|at| at <= before) {
            // Some of the sockets that are ready may not have fitted in. A deadline cannot be judged before a poll in
            // which all do.
            self.events = Events::with_capacity(2 * count);
        }
    }

    pub(super) fn update_clock(&mut self) {
        self.context.now = self.remote.now();
        // The date changes once in a second. Until then there is no need to ask for it.
        if self.context.now >= self.date_until {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.context.date = format_date(since.as_secs());
            self.second = (self.context.now - self.started).as_secs() as u32;
            self.date_until =
                self.context.now + Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        }
    }

    /// Returns the number of reports.
    fn note_readiness(&mut self) -> usize {
        let mut count = 0;
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            count += 1;
            match event.token() {
                WAKER => {}
                SIGNALS => self.read_signal(),
                Token(token @ LISTENERS..) => self.note_listener(token - LISTENERS),
                Token(slot) => {
                    let Some((key, peer)) = self.peers.at_mut(slot) else { continue };
                    match peer.note(event) {
                        // It has only taken what was queued for it: there is nothing new from it.
                        None if is_writable_alone(event) => {
                            self.agenda.settle(key, peer, &self.context.limits);
                        }
                        None => {
                            peer.seen = self.second;
                            self.agenda.note_news(key, peer);
                        }
                        outcome => self.after(key, outcome),
                    }
                }
            }
        }
        self.events = events;
        count
    }

    fn note_listener(&mut self, slot: usize) {
        if let Some((key, listener)) = self.listeners.at_mut(slot)
            && listener.accepting == Accepting::Waiting
        {
            listener.accepting = Accepting::Ready;
            self.accepting.push(key);
        }
    }

    fn read_signal(&mut self) {
        let Some(socket) = &mut self.signals else { return };
        while let Some(request) = signals::next(&mut *socket) {
            match request {
                signals::Request::End => self.remote.note_shutdown(),
                signals::Request::Reload => self.pending.push_back(Event::Reload),
            }
        }
    }

    /// Accepts connections of all listeners that may have some.
    pub(super) fn accept(&mut self) {
        let mut ready = mem::take(&mut self.accepting);
        ready.retain(|key| self.accept_from(*key));
        self.accepting = ready;
    }

    /// Accepts what waits at all listeners, and closes them. The system resets connections that wait when it closes a
    /// listening socket.
    pub(super) fn close_listeners(&mut self) {
        for key in self.listeners.keys().collect::<Vec<_>>() {
            let _ = (0..LAST_ACCEPTS).all(|_| self.accept_from(key));
        }
        self.listeners = Default::default();
        self.accepting.clear();
    }

    /// Accepts connections of one listener, and returns whether there may be more.
    fn accept_from(&mut self, key: Key) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(key) else { return false };
            match listener.socket.accept() {
                Ok((stream, address)) => self.admit(stream, key, address),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        listener.accepting = Accepting::Waiting;
                        return false;
                    }
                    // This connection is gone already. The next one may be fine.
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM, or something new: accepting goes on all the same. The
                    // connections wait in the kernel until there is room.
                    _ => {
                        listener.accepting = Accepting::Paused;
                        self.agenda.timers.set(self.context.now + ACCEPT_PAUSE, Due::AcceptAgain(key));
                        return false;
                    }
                },
            }
        }
        true
    }

    /// The pause of a listener is over.
    pub(super) fn accept_again(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            listener.accepting = Accepting::Ready;
            self.accepting.push(key);
        }
    }

    /// Takes a connection in. A socket that is dropped here is closed, and so is one that cannot be registered.
    fn admit(&mut self, stream: TcpStream, listener: Key, address: SocketAddr) {
        let Some(&Listener { speaks, is_reserved, .. }) = self.listeners.get(listener) else { return };
        set_options(&stream);
        // The client of a connection that a proxy announces is not known yet.
        let place = match speaks {
            Speaks::Proxied => Ok(None),
            _ if is_reserved => Ok(None),
            Speaks::Http | Speaks::Raw => self.place_for(address.ip()),
        };
        let Ok(place) = place else { return };
        let is_beyond = place.as_ref().is_some_and(Place::is_beyond);
        let peer_of = |connection, stream| Peer { listener: listener.slot() as u16, ..Peer::new(connection, stream) };
        let limit = self.context.limits.connections;
        match (speaks, self.has_place(is_reserved)) {
            (Speaks::Raw, _) if is_beyond => {}
            (Speaks::Raw, true) => {
                if let Ok(key) = self.add_peer(Peer { place, ..Peer::raw(stream) }) {
                    let opened = Opened::Accepted { listener: ListenerId(listener), peer: address };
                    self.pending.push_back(Event::Opened(ExchangeId { key, number: 1 }, opened));
                }
            }
            (Speaks::Raw, false) => {}
            (Speaks::Proxied, true) => drop(self.add_peer(peer_of(Connection::of_proxy(&self.context), stream))),
            (Speaks::Http, true) => {
                let peer = peer_of(Connection::new(&self.context), stream);
                drop(self.add_peer(Peer { place, is_beyond, ..peer }));
            }
            (Speaks::Http | Speaks::Proxied, false) if self.peers.len() >= limit.saturating_add(REFUSALS) => {
                self.load.count_refusal();
            }
            (Speaks::Http | Speaks::Proxied, false) => {
                self.load.count_refusal();
                let sentence = format!("the server has {limit} connections open and takes no more: try again later");
                let response = Response::error(503, &sentence).with_field("Retry-After", "1");
                let connection = Connection::refused(&response, &self.context);
                drop(self.add_peer(Peer { place, ..Peer::new(connection, stream) }));
            }
        }
    }

    /// Closes an idle connection to make room for another. Its client may expect that at any time (RFC 9112, section
    /// 9.3.1). Returns whether one was found in the next slots.
    fn close_idle(&mut self) -> bool {
        let (now, limits) = (self.context.now, &self.context.limits);
        let mut found = None;
        for _ in 0..LOOKS {
            self.hand = (self.hand + 1) % self.peers.slots().max(1);
            let Some((key, peer)) = self.peers.at(self.hand) else { continue };
            let Some(since) = peer.connection.idle_since(limits) else { continue };
            let is_long = now.saturating_duration_since(since) >= IDLE_LONG;
            let is_candidate = is_long || (found.is_none() && peer.exchange > 0);
            if !is_candidate || peer.has_turn || peer.has_input() {
                continue;
            }
            found = Some(key);
            if is_long {
                break;
            }
        }
        let Some(key) = found else { return false };
        if let Some(peer) = self.peers.get_mut(key) {
            peer.connection.lose(Closed::Finished);
        }
        self.after(key, None);
        self.close_sockets();
        true
    }

    /// Whether one more connection may come in. When the limit is reached and none is idle, standard error gets a line
    /// about it; the next one follows when it is reached again after half of the connections have gone.
    fn has_place(&mut self, is_reserved: bool) -> bool {
        let limit = self.context.limits.connections;
        if self.peers.len() < limit {
            self.has_reported_full &= self.peers.len() > limit / 2;
            return true;
        }
        if self.close_idle() || (is_reserved && self.peers.len() < limit.saturating_add(REFUSALS + RESERVED)) {
            return true;
        }
        if !mem::replace(&mut self.has_reported_full, true) {
            output::complain(format_args!(
                "{limit} connections are open, as many as may be (the default is `ulimit -n` less a reserve): new \
                 ones are answered with 503"
            ));
        }
        false
    }
}

/// Whether the socket takes more, and nothing else is reported.
fn is_writable_alone(event: &mio::event::Event) -> bool {
    let has_input = event.is_readable() || event.is_read_closed() || event.is_error() || event.is_priority();
    event.is_writable() && !has_input
}

/// Without this, the second small write in a row waits until the peer has acknowledged the first.
pub(super) fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}
