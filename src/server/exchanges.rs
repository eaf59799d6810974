//! The exchanges that the features hold: a request to answer later, a stream, or a WebSocket.
//!
//! [`Exchanges`] is what a handler works with: the event loop, a record of each held exchange, the counts, and what all
//! features share. It knows which feature an exchange belongs to, but not what the feature does with it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::identity::Grant;
use super::message::{Transport, encode, timestamp};
use super::metrics::Metrics;
use super::params::ApiError;
use super::parked::Halt;
use super::senders::{Answer, COMMIT_TIME, Sender, Senders, Waiting};
use super::stats::Stats;
use super::{FeatureId, bounds, rooms};
use crate::books;
use crate::bytes::{Rope, Shared};
use crate::connection::Traffic;
use crate::event_loop::{EventLoop, ExchangeId, TimerId};
use crate::http::{self, Request, Response};
use crate::identity::{Digest, Rights};
use crate::journal::{Draft, Journal, SecretName, Ticket, Wanted};
use crate::quotas::{Bound, Place, Quota};
use crate::random::Random;
use crate::sse;
use crate::websocket::{self, Accepted, CloseCode, Message};

/// A request, and what its answer depends on.
pub struct Call<'a> {
    /// The exchange that the request begins.
    pub id: ExchangeId,
    /// The request.
    pub request: &'a Request,
    /// The traffic of the connection before this request.
    pub since: Traffic,
    /// The permission of the request. `None` if it may do everything: there are no identities, or it needs none.
    pub grant: Option<Rc<Grant>>,
}

impl Call<'_> {
    /// Returns the sender of a message with this request.
    pub fn sender(&self, answer: Answer) -> Sender {
        Sender::Request(self.id, self.since, answer)
    }

    /// Returns the sender that gets this answer as soon as the other servers are told.
    pub fn prepared(&self, answer: Response) -> Sender {
        Sender::Prepared(self.id, self.since, answer.into())
    }

    /// Checks that the request may use this room.
    ///
    /// # Errors
    /// 403 with the rooms that it may use.
    pub fn enter(&self, room: &str) -> Result<(), ApiError> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.enter(room))
    }

    /// Checks rights that depend on more than the path.
    ///
    /// # Errors
    /// 403 with those that are missing.
    pub fn check(&self, needs: Rights) -> Result<(), ApiError> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.check(needs))
    }

    /// Returns the id under which a client is known: two identities do not share one. The name of an identity has no
    /// slash.
    pub fn client(&self, id: String) -> String {
        match &self.grant {
            Some(grant) => format!("{}/{id}", grant.key().name),
            None => id,
        }
    }
}

/// The result of a handler.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Now(Response),
    /// The answer, counted for a transport with its number of messages.
    Counted(Response, Transport, u64),
    /// The exchange is held, or it has been answered already.
    Later,
}

/// The answer that begins a stream or a WebSocket.
pub enum Opening {
    /// The head of a stream.
    Stream(Response),
    /// The accepted handshake of a WebSocket.
    WebSocket(Accepted),
}

impl Opening {
    /// Accepts the opening handshake of a WebSocket.
    ///
    /// # Errors
    /// The answer to a wrong handshake.
    pub fn websocket(request: &Request) -> Result<Self, Reply> {
        websocket::accept(request, &[]).map(Opening::WebSocket).map_err(|error| Reply::Now(error.response()))
    }
}

/// The time in which a client that was answered polls again.
const NEXT_POLL: Duration = Duration::from_secs(1);

/// The close code for a lost identity: 4000 to 4999 are for applications, and the last digits are those of the status.
const SESSION_OVER: CloseCode = CloseCode::new(4401).expect("it is below 5000");

/// The close code for a lost right or room.
const NOT_ALLOWED: CloseCode = CloseCode::new(4403).expect("it is below 5000");

/// The server's reason to end a held exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The time of a poll is up.
    TimedOut,
    /// A newer reader has taken the mailbox over.
    Superseded,
    /// `DELETE /api/client/{id}` named the client.
    Disconnected,
    /// There were too many of its kind, and it had waited for longest.
    MadeRoom,
    /// The log is removed.
    Removed,
    /// `DELETE /api/connections/{id}` named the connection.
    Ended,
    /// The session or the key has ended.
    SessionOver,
    /// The key permits this no longer.
    NotAllowed,
    /// It has sent too fast, in spite of errors.
    TooFast,
    /// The server is shutting down.
    GoingAway,
}

impl EndReason {
    /// Returns the close code and the reason for a WebSocket (RFC 6455, section 7.4.1).
    fn close(self) -> (CloseCode, &'static str) {
        match self {
            EndReason::TimedOut => (CloseCode::NORMAL, ""),
            EndReason::Superseded => (CloseCode::NORMAL, "superseded"),
            EndReason::MadeRoom => (
                CloseCode::TRY_AGAIN_LATER,
                "there are too many rooms, and this one has waited longest for a second peer",
            ),
            EndReason::Disconnected => (CloseCode::NORMAL, "disconnected"),
            EndReason::Removed => (CloseCode::NORMAL, "removed"),
            EndReason::Ended => (CloseCode::POLICY_VIOLATION, "ended by an operator"),
            EndReason::GoingAway => (CloseCode::GOING_AWAY, "the server is going away"),
            EndReason::SessionOver => (SESSION_OVER, "the session or the key is not valid any more"),
            EndReason::TooFast => (CloseCode::POLICY_VIOLATION, "too many messages in a second, in spite of errors"),
            EndReason::NotAllowed => (NOT_ALLOWED, "the key does not permit this any more"),
        }
    }

    /// Returns the last message of a stream, and its name as an event.
    fn notice(self) -> Option<(&'static str, Value)> {
        match self.refusal() {
            Some(ApiError { status, sentence }) => {
                Some(("unauthorized", json!({ "type": "unauthorized", "status": status, "error": sentence })))
            }
            None if self == EndReason::Ended => Some(("ended", json!({ "type": "ended", "reason": self.close().1 }))),
            None => None,
        }
    }

    /// Returns the error if the reason is a lost permission. A client that gets it stays away.
    pub fn refusal(self) -> Option<ApiError> {
        match self {
            EndReason::SessionOver => Some(ApiError::unauthorized(self.close().1)),
            EndReason::NotAllowed => Some(ApiError::forbidden(self.close().1)),
            _ => None,
        }
    }
}

/// The record of one held exchange.
#[derive(Debug)]
pub struct Held {
    owner: FeatureId,
    /// The way in which messages reach its client.
    pub transport: Transport,
    /// The address of its client, if proxies are trusted. Otherwise it is that of the peer.
    pub client: Option<IpAddr>,
    /// The number of messages that have come on it.
    pub received: u64,
    /// The number of messages that were sent to it alone.
    pub sent: u64,
    /// The traffic of the connection that is counted.
    counted: Traffic,
    timer: Option<TimerId>,
    /// The place that it takes of what its client may hold.
    _place: Option<Place>,
}

/// The event loop, the held exchanges, and the counts.
pub struct Exchanges {
    /// The sockets and the clock.
    pub event_loop: EventLoop,
    /// Random ids and epochs.
    pub random: Random,
    /// The logs of rooms and mailboxes.
    pub journal: Journal,
    /// The senders that wait for the journal.
    pub senders: Senders,
    /// The answer of the journal that a request has waited for, while it is handled again.
    pub answered: Vec<Wanted>,
    /// The quota of the client whose request or message is handled. `None` if it is exempt, or if nothing of a client is
    /// handled.
    pub quota: Option<Rc<Quota>>,
    /// The permissions of held exchanges. Empty if there are no identities.
    pub grants: HashMap<ExchangeId, Rc<Grant>>,
    /// What is counted for `/metrics`.
    pub metrics: Metrics,
    stats: Stats,
    held: HashMap<ExchangeId, Held>,
    timers: HashMap<TimerId, ExchangeId>,
    /// Whether the server ends what it holds, one after the other.
    pub is_ending: bool,
    /// The time of the last answer since then whose client polls again on the same connection.
    kept: Option<Instant>,
}

impl Exchanges {
    /// Creates the record of a loop that holds nothing yet, and of the journal of its messages.
    ///
    /// # Errors
    /// As [`Random::open`].
    pub fn new(event_loop: EventLoop, journal: Journal) -> io::Result<Self> {
        let random = Random::open()?;
        Ok(Exchanges {
            event_loop,
            random,
            journal,
            senders: Senders::default(),
            answered: Vec::new(),
            quota: None,
            grants: HashMap::new(),
            metrics: Metrics::default(),
            stats: Stats::default(),
            held: HashMap::new(),
            timers: HashMap::new(),
            is_ending: false,
            kept: None,
        })
    }

    /// Returns the time of the current turn of the loop.
    pub fn now(&self) -> Instant {
        self.event_loop.now()
    }

    /// Returns the current time in seconds since the epoch, to the millisecond.
    pub fn timestamp(&self) -> f64 {
        timestamp(self.event_loop.system_time())
    }

    /// Looks for something that another process may have. `Ok` means that all that is known of it is here.
    ///
    /// # Errors
    /// `Wait` when the journal must answer first.
    pub fn find(&mut self, wanted: Wanted) -> Result<(), Halt> {
        match self.answered.contains(&wanted) || !self.journal.find(&wanted) {
            true => Ok(()),
            false => Err(Halt::Wait(wanted)),
        }
    }

    /// Asks the journal to append a message. Its sender waits for the answer.
    pub fn append(&mut self, sender: Sender, draft: Draft<'_>) {
        if matches!(sender, Sender::Request(..)) {
            self.metrics.posted();
        }
        let now = self.now();
        let waiting = Waiting { sender, timestamp: draft.timestamp, until: now + COMMIT_TIME };
        let ticket = self.journal.append(&mut self.random, now, draft);
        self.senders.push(ticket, waiting);
    }

    /// Asks the other servers to end clients. The sender waits until they have done that.
    pub fn end_elsewhere(&mut self, sender: Sender, clients: &[String]) {
        let ticket = self.journal.end_clients(self.now(), clients);
        self.await_others(sender, ticket);
    }

    /// Has the journal keep the text of a secret. The sender waits until the other servers can find it.
    pub fn keep_secret(&mut self, sender: Sender, name: SecretName, text: &str) {
        let ticket = self.journal.keep_secret(name, text);
        self.await_others(sender, ticket);
    }

    /// Ends a session on the other servers. The sender waits until they are told.
    pub fn drop_session(&mut self, sender: Sender, session: Digest) {
        let ticket = self.journal.drop_session(session);
        self.await_others(sender, ticket);
    }

    fn await_others(&mut self, sender: Sender, ticket: Ticket) {
        let until = self.now() + COMMIT_TIME;
        self.senders.push(ticket, Waiting { sender, timestamp: 0.0, until });
    }

    /// Carries out what a handler has returned. `since` is the traffic of the connection before the request.
    pub fn reply(&mut self, id: ExchangeId, since: Traffic, reply: Reply) {
        match reply {
            Reply::Now(response) => self.event_loop.respond(id, response),
            Reply::Counted(response, transport, messages) => {
                match transport {
                    Transport::LongPoll => self.respond_to_poll(id, response),
                    _ => self.event_loop.respond(id, response),
                }
                self.count(transport, messages);
                self.stats.add_traffic(transport, since, self.event_loop.traffic(id));
            }
            Reply::Later => {}
        }
    }

    /// Begins a stream or a WebSocket.
    pub fn begin(&mut self, call: &Call<'_>, opening: Opening) {
        match opening {
            Opening::Stream(head) => self.event_loop.begin(call.id, head),
            Opening::WebSocket(accepted) => {
                self.event_loop.upgrade(call.id, accepted);
                // A connection of a proxy is that of one client from here on.
                if let Some(quota) = &self.quota {
                    self.event_loop.assign(call.id, quota.hold(Bound::Connections));
                }
            }
        }
    }

    /// Queues encoded bytes on a stream or a WebSocket.
    pub fn send(&mut self, id: ExchangeId, bytes: &Shared) {
        self.event_loop.send(id, bytes);
    }

    /// Queues a rope on a stream or a WebSocket.
    pub fn send_rope(&mut self, id: ExchangeId, rope: &Rope) {
        self.event_loop.send_rope(id, rope);
    }

    /// Queues a text message on a WebSocket.
    pub fn send_text(&mut self, id: ExchangeId, text: String) {
        self.event_loop.send_message(id, Message::Text(text));
    }

    /// Tells a WebSocket of an error.
    pub fn send_error(&mut self, id: ExchangeId, error: &ApiError) {
        self.send_text(id, json!({ "type": "error", "error": error.sentence }).to_string());
    }

    /// Counts a message that was sent to one held exchange.
    pub fn count_one(&mut self, id: ExchangeId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.sent += 1;
        self.stats.of(held.transport).messages += 1;
    }

    /// Counts messages that were sent on a transport.
    pub fn count(&mut self, transport: Transport, messages: u64) {
        self.stats.of(transport).messages += messages;
    }

    /// Holds an exchange for a feature. The feature's `on_timer` is called `after` this time. Without one, the exchange
    /// has no timer.
    pub fn hold(&mut self, call: &Call<'_>, owner: FeatureId, transport: Transport, after: Option<Duration>) {
        let client = self.event_loop.trusted_client(call.id, call.request);
        let _place = self.quota.as_ref().map(|quota| quota.hold(bounds::bound_of(owner, transport)));
        let held = Held { owner, transport, client, received: 0, sent: 0, counted: call.since, timer: None, _place };
        self.held.insert(call.id, held);
        if let Some(grant) = &call.grant {
            self.grants.insert(call.id, grant.clone());
        }
        self.stats.of(transport).open += 1;
        self.journal.readers_changed();
        self.count_traffic(call.id);
        self.event_loop.watch_traffic(call.id);
        if let Some(after) = after {
            self.set_timer(call.id, after);
        }
    }

    /// Sets the timer of a held exchange again, after it was due.
    pub fn set_timer(&mut self, id: ExchangeId, after: Duration) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let timer = self.event_loop.set_timer(after);
        held.timer = Some(timer);
        self.timers.insert(timer, id);
    }

    /// Returns the exchange that the timer belongs to. `None` if it belongs to none.
    pub fn take_timer(&mut self, timer: TimerId) -> Option<ExchangeId> {
        let id = self.timers.remove(&timer)?;
        if let Some(held) = self.held.get_mut(&id) {
            held.timer = None;
        }
        Some(id)
    }

    /// Returns the feature that holds an exchange.
    pub fn owner(&self, id: ExchangeId) -> Option<FeatureId> {
        self.record(id).map(|held| held.owner)
    }

    /// Returns the record of a held exchange.
    pub fn record(&self, id: ExchangeId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// Counts a message that has come on a held exchange, and returns the feature that holds it.
    pub fn receive(&mut self, id: ExchangeId) -> Option<FeatureId> {
        let held = self.held.get_mut(&id)?;
        held.received += 1;
        self.stats.of(held.transport).received += 1;
        Some(held.owner)
    }

    /// Returns all held exchanges.
    pub fn held(&self) -> Vec<ExchangeId> {
        self.held.keys().copied().collect()
    }

    /// Returns the number of held exchanges.
    pub fn count_held(&self) -> usize {
        self.held.len()
    }

    /// Returns a random time for the client of an event stream to wait before it reconnects. Without the randomness, all
    /// that lose their connections in one moment would be back in one moment.
    pub fn retry_time(&mut self) -> Duration {
        Duration::from_millis(1000 + self.random.number() % 2000)
    }

    /// Answers a held poll.
    pub fn answer(&mut self, id: ExchangeId, response: Response, messages: u64) {
        let Some(Held { transport, .. }) = self.remove(id) else { return };
        let before = self.event_loop.traffic(id);
        match messages {
            0 => self.event_loop.respond(id, response),
            _ => self.respond_to_poll(id, response),
        }
        self.count(transport, messages);
        self.stats.add_traffic(transport, before, self.event_loop.traffic(id));
    }

    /// Answers a poll with messages. Its client polls again on the same connection, also while the server ends what it
    /// holds: the turn of that poll will come. Otherwise a message would send all polls to another server in one moment.
    fn respond_to_poll(&mut self, id: ExchangeId, response: Response) {
        self.event_loop.respond_and_keep(id, response);
        self.kept = self.is_ending.then(|| self.now());
    }

    /// Whether a poll is to come again on the connection of one that was just answered.
    pub fn awaits_poll(&self) -> bool {
        self.kept.is_some_and(|kept| self.now().saturating_duration_since(kept) < NEXT_POLL)
    }

    /// Answers a held poll whose permission is lost.
    pub fn refuse(&mut self, id: ExchangeId, reason: EndReason) {
        if let Some(error) = reason.refusal() {
            self.answer(id, error.response(), 0);
        }
    }

    /// Ends a held stream or WebSocket. A stream gets a last message if its permission is lost, or if an operator ends it.
    /// When the server goes away, an event stream says at last when to come back.
    pub fn end(&mut self, id: ExchangeId, reason: EndReason) {
        if reason == EndReason::GoingAway && self.held.get(&id).is_some_and(|held| held.transport == Transport::Sse) {
            let retry = self.retry_time();
            self.send(id, &http::chunk(&sse::retry(retry)));
        }
        match self.remove(id).map(|held| held.transport) {
            Some(Transport::WebSocket) => {
                let (code, text) = reason.close();
                self.event_loop.close(id, code, text);
            }
            Some(transport) => {
                if let Some((name, notice)) = reason.notice() {
                    self.send(id, &encode(transport, None, name, &notice.to_string()));
                }
                self.event_loop.end(id);
            }
            None => {}
        }
    }

    /// Drops the record of an exchange that has ended.
    pub fn release(&mut self, id: ExchangeId) {
        self.remove(id);
    }

    /// Resets the connections of all held exchanges.
    pub fn reset_all(&mut self) {
        for id in self.held() {
            self.remove(id);
            self.event_loop.reset(id);
        }
    }

    /// Returns the number of bytes that the connections take, and the records of held exchanges.
    pub fn memory(&self) -> usize {
        let records = books::map(&self.held) + books::map(&self.timers) + books::map(&self.grants);
        self.event_loop.memory() + self.event_loop.quotas().bytes() + records
    }

    /// Returns the most bytes that the records of this number of held exchanges take, and those of the features.
    pub fn bytes_of(held: usize) -> usize {
        let own = books::map_of::<ExchangeId, Held>(held) + books::map_of::<TimerId, ExchangeId>(held);
        own + rooms::bytes_of_readers(held)
    }

    /// Drops what has expired.
    pub fn sweep(&mut self) {
        self.count_moved(); // or the list of them grows, if nobody asks for the counts
        self.journal.sweep(self.now());
        self.senders.shrink();
        let now = self.now();
        self.event_loop.quotas_mut().sweep(now);
        books::shrink_map(&mut self.held);
        books::shrink_map(&mut self.timers);
        books::shrink_map(&mut self.grants);
    }

    fn remove(&mut self, id: ExchangeId) -> Option<Held> {
        self.count_traffic(id);
        let held = self.held.remove(&id)?;
        if !self.grants.is_empty() {
            self.grants.remove(&id);
        }
        if let Some(timer) = held.timer {
            self.event_loop.cancel_timer(timer);
            self.timers.remove(&timer);
        }
        self.stats.of(held.transport).open -= 1;
        self.journal.readers_changed();
        Some(held)
    }

    /// Returns the counts by transport, including the traffic of held exchanges.
    pub fn counts(&mut self) -> &Stats {
        self.count_moved();
        &self.stats
    }

    /// Counts the traffic of those held exchanges that have had some. There may be many that have had none.
    fn count_moved(&mut self) {
        for id in self.event_loop.moved() {
            self.count_traffic(id);
        }
    }

    fn count_traffic(&mut self, id: ExchangeId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let now = self.event_loop.traffic(id);
        self.stats.add_traffic(held.transport, held.counted, now);
        held.counted = now;
    }
}
