//! The journal in Redis: several nodes share their logs. A stream holds each log, publish/subscribe says that there is
//! news, and one script appends.
//!
//! The stream is the truth. A notice may be lost: then the next one leaves a gap in the sequence, and the stream fills
//! it. A reply may be lost: then the command is sent again with its number, and Redis executes it once. Redis itself may
//! lose messages, when it restarts from an old file or a replica takes over: then the checks of the positions differ,
//! and [`Truncated`](Change::Truncated) says so.
//!
//! ```text
//! overwire:room:NAME, overwire:mailbox:ID   streams: entries SEQUENCE-CHECK
//! overwire:key:DIGEST                       an idempotency key: fingerprint, epoch, id and time of its message
//! overwire:node:NODE                        the number of the newest group that the node has appended
//! overwire:epoch:EPOCH                      the id of the mailbox with this epoch
//! overwire:client:CLIENT                    the positions of a client: a hash by room
//! overwire:reader:ID                        the position of the reader of a mailbox
//! overwire:claim:ID                         the node that has the newest reader of a mailbox, and a number
//! overwire:session:DIGEST                   a session: the digest of its key, and its end
//! overwire:ticket:DIGEST                    a ticket: whose it is, and its path
//! overwire:DB:room:NAME, …                  channels of notices: they have no database of their own
//! overwire:DB:nodes                         the channel of all nodes
//! ```
//!
//! `session` has the two connections, `link` the protocol of one, `log` the replica of a log, `asked` the messages
//! without an answer, `entries` the parsing of replies and notices. The journal is in four parts: `follow` has its
//! logs, `appends` the messages of this node, `positions` the positions of readers, `nodes` the other nodes. And `secrets`
//! has sessions and tickets. This file connects them.

mod appends;
mod asked;
mod entries;
mod follow;
mod link;
mod log;
mod nodes;
mod positions;
mod secrets;
mod session;
mod url;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::appends::Script;
use self::asked::AskedMessages;
use self::link::{Lost, code, explain};
use self::log::Log;
use self::nodes::Nodes;
use self::secrets::Secrets;
use self::session::{News, Session};
pub use self::url::RedisUrl;
use super::{Change, LogName, Refusal, Retention, SecretName, Ticket, Wanted};
use crate::books;
use crate::event_loop::{Event, EventLoop, TimerId};
use crate::output::complain;
use crate::random::Random;
use crate::resp::Value;

const APPEND: &str = include_str!("append.lua");
const OPEN: &str = include_str!("open.lua");

/// The lifetime of a room without use, once it has had a message.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The lifetime of a mailbox that no node follows, of a room that has had no message, because anybody may ask for any
/// name, and of a room that was one too many for the client that has created it.
const SHORT_LIFETIME: Duration = Duration::from_secs(120);

/// The lifetime of the positions of a client, as on a disk: anybody may name any number of clients.
const POSITION_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The time after which a node stops following a room that nobody uses there.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// The most questions that wait for a connection.
const MOST_UNASKED: usize = 10_000;

/// The logs that several nodes share.
pub struct Redis {
    url: RedisUrl,
    session: Session<Name>,
    random: Random,
    /// The random name of this node.
    node: String,
    retention: Retention,
    scripts: [Script; 2],
    logs: HashMap<LogName, Log>,
    channels: HashMap<String, LogName>,
    asked: AskedMessages,
    /// What was looked for while there was no connection.
    unasked: Vec<Wanted>,
    nodes: Nodes,
    secrets: Secrets,
    /// The number of notices that this node has the newest reader of a mailbox.
    claims: u64,
    tickets: u64,
    changes: VecDeque<Change>,
    /// The earliest deadline of a log.
    logs_until: Option<Instant>,
    /// The timer for the earliest deadline of all.
    timer: Option<(Instant, TimerId)>,
    /// The trouble that was printed last.
    complaint: Option<String>,
}

/// The name of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    /// The group of messages with this number.
    Append(u64),
    /// A read of a log, with its number.
    Read(LogName, u64),
    /// The position of the reader of a mailbox, after the read with this number.
    Reader(LogName, u64),
    /// The node that has the newest reader of a mailbox.
    Claim(LogName),
    /// The id of the mailbox with this epoch.
    Epoch(u64),
    /// The positions of a client.
    Client(Rc<str>),
    /// A position of a client.
    Noted(Rc<str>),
    /// The number of rooms in which a client has a position.
    Rooms(Rc<str>),
    /// The text of a secret, with the number of the question.
    Secret(SecretName, u64),
    /// Something that the other nodes are to know of.
    Told(Ticket),
    /// A command whose reply does not matter.
    Other,
}

impl Redis {
    /// Creates the journal of a node. It connects when it is [flushed](Self::flush) for the first time.
    ///
    /// # Errors
    /// As [`Random::open`].
    pub fn new(url: RedisUrl, retention: Retention, now: Instant) -> io::Result<Self> {
        let mut random = Random::open()?;
        let node = format!("{:016x}", random.number());
        // A stream is trimmed to whole nodes of 100 entries. An entry has 10 values.
        let most = 2 * retention.bytes + (retention.messages + 200) * 1024 + (1 << 20);
        let name = format!("overwire-{node}");
        Ok(Redis {
            session: Session::new(url.clone(), name, &[APPEND, OPEN], most, now),
            url,
            random,
            node,
            retention,
            scripts: [APPEND, OPEN].map(Script::new),
            logs: HashMap::new(),
            channels: HashMap::new(),
            asked: AskedMessages::default(),
            unasked: Vec::new(),
            nodes: Nodes::default(),
            secrets: Secrets::default(),
            claims: 0,
            tickets: 0,
            changes: VecDeque::new(),
            logs_until: None,
            timer: None,
            complaint: None,
        })
    }

    /// As [`Journal::next_change`](super::Journal::next_change).
    pub fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// Returns the reason why Redis cannot be used: a sentence. `None` if it can.
    pub fn trouble(&self) -> Option<&str> {
        self.session.trouble()
    }

    /// As [`Journal::idle_time`](super::Journal::idle_time). While Redis is away, readers keep what they have.
    pub fn idle_time(&self) -> Option<Duration> {
        self.trouble().is_none().then_some(IDLE_TIME)
    }

    /// As [`Journal::bytes`](super::Journal::bytes).
    pub fn bytes(&self) -> usize {
        let logs = books::map(&self.logs) + books::map(&self.channels);
        logs + self.logs.values().map(Log::bytes).sum::<usize>()
            + self.asked.bytes()
            + books::vec(&self.unasked)
            + self.nodes.bytes()
            + self.secrets.bytes()
            + books::deque(&self.changes)
    }

    /// As [`Journal::on_event`](super::Journal::on_event).
    pub fn on_event(&mut self, event_loop: &mut EventLoop, event: &Event) -> bool {
        let mut news = Vec::new();
        let is_own = match event {
            Event::Timer(timer) if self.timer.is_some_and(|(_, own)| own == *timer) => {
                self.timer = None;
                self.on_deadline(event_loop, &mut news);
                true
            }
            event => self.session.on_event(event_loop, event, &mut news),
        };
        self.take(event_loop, news);
        is_own
    }

    fn on_deadline(&mut self, event_loop: &mut EventLoop, news: &mut Vec<News<Name>>) {
        let now = event_loop.now();
        self.session.on_deadline(event_loop, news);
        self.refuse_overdue(now);
        self.on_nodes_deadline(now);
        if self.logs_until.is_some_and(|until| until <= now) {
            self.read_due(now);
        }
    }

    fn take(&mut self, event_loop: &mut EventLoop, news: Vec<News<Name>>) {
        let now = event_loop.now();
        for news in news {
            match news {
                News::Ready => self.on_ready(),
                News::Lost => self.on_lost(),
                News::Push(values) => self.on_push(&values, now),
                News::Reply(_, Value::Error(error))
                    if matches!(code(&error), "READONLY" | "LOADING" | "MASTERDOWN" | "NOSCRIPT") =>
                {
                    // This Redis has become a replica: the address may lead to its primary, now or later. Or somebody
                    // has removed the scripts: the login loads them.
                    self.session.lose(event_loop, Lost(explain(&error)), &mut Vec::new());
                    return self.on_lost();
                }
                News::Reply(Name::Append(number), reply) => self.on_appended(number, &reply, now),
                News::Reply(Name::Read(name, read), reply) => self.on_read(&name, read, &reply, now),
                News::Reply(Name::Reader(name, read), reply) => self.on_reader(name, read, &reply),
                News::Reply(Name::Claim(name), reply) => self.on_stored_claim(&name, &reply),
                News::Reply(Name::Epoch(epoch), reply) => self.on_epoch(epoch, &reply),
                News::Reply(Name::Client(client), reply) => self.on_client(client, &reply),
                News::Reply(Name::Noted(client), reply) => self.on_noted(client, &reply),
                News::Reply(Name::Rooms(client), reply) => self.on_rooms(&client, &reply),
                News::Reply(Name::Secret(name, number), reply) => self.on_secret(name, number, &reply),
                News::Reply(Name::Told(ticket), reply) => self.on_told(ticket, &reply),
                News::Reply(Name::Other, _) => {}
            }
        }
    }

    fn on_ready(&mut self) {
        if self.complaint.take().is_some() {
            complain(format_args!("{}: connected", self.url));
        }
        self.asked.unsend();
        self.create_all();
        self.find_unasked();
        self.join_nodes();
        self.subscribe_all();
    }

    fn on_lost(&mut self) {
        self.logs.values_mut().for_each(Log::disconnect);
        self.nodes.disconnect();
        self.secrets.disconnect();
        self.refuse_node_requests();
        let trouble = self.session.trouble();
        if self.complaint.as_deref() != trouble {
            self.complaint = trouble.map(str::to_owned);
            complain(format_args!("{}: {}", self.url, trouble.unwrap_or_default()));
        }
    }

    /// As [`Journal::flush`](super::Journal::flush).
    pub fn flush(&mut self, event_loop: &mut EventLoop) {
        self.send_asked(event_loop);
        self.session.flush(event_loop);
        self.set_timer(event_loop);
    }

    /// Sets the timer, unless an earlier one is set: that one sets the next.
    fn set_timer(&mut self, event_loop: &mut EventLoop) {
        let deadlines = [self.session.deadline(), self.asked.deadline(), self.nodes.deadline(), self.logs_until];
        let Some(until) = deadlines.into_iter().flatten().min() else { return };
        if let Some((set, timer)) = self.timer {
            if set <= until {
                return;
            }
            event_loop.cancel_timer(timer);
        }
        let timer = event_loop.set_timer(until.saturating_duration_since(event_loop.now()));
        self.timer = Some((until, timer));
    }

    /// Asks a command whose reply does not matter.
    fn ask_other(&mut self, words: &[&str]) {
        self.session.ask(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>(), Name::Other);
    }

    fn refuse(&mut self, ticket: Ticket, why: &str) {
        let refusal = Refusal::Unavailable(why.into());
        self.changes.push_back(Change::Refused { ticket, refusal });
    }

    /// Returns the channel of the notices of a log.
    fn channel(&self, name: &LogName) -> String {
        format!("overwire:{}:{}:{}", self.url.database, kind(name), name.name())
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("url", &self.url).field("node", &self.node).finish_non_exhaustive()
    }
}

/// Returns the key of the stream of a log.
fn key(name: &LogName) -> String {
    format!("overwire:{}:{}", kind(name), name.name())
}

fn kind(name: &LogName) -> &'static str {
    match name {
        LogName::Room(_) => "room",
        LogName::Mailbox(_) => "mailbox",
    }
}

/// Returns the lifetime of a log that is not used, in milliseconds.
fn lifetime(name: &LogName) -> String {
    let lifetime = match name {
        LogName::Room(_) => LIFETIME,
        LogName::Mailbox(_) => SHORT_LIFETIME,
    };
    lifetime.as_millis().to_string()
}
