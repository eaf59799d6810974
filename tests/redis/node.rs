//! A node: an event loop, its journal, and feeds that follow the changes as those of the server do.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use overwire::feed::{Cursor, Feed};
use overwire::journal::redis::Redis;
use overwire::journal::{Change, Draft, Key, LogName, Refusal, Retention, Ticket, Wanted};
use overwire::{Event, EventLoop, Limits};

/// The bounds of the logs in the tests.
pub const RETENTION: Retention = Retention { messages: 1000, bytes: 100_000, time: None, rooms: 10 };

/// The answer to a sender.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Appended(Cursor),
    Repeated(Cursor, f64),
    Refused(Refusal),
}

pub struct Node {
    pub event_loop: EventLoop,
    pub redis: Redis,
    retention: Retention,
    pub feeds: HashMap<LogName, Feed<String>>,
    pub answers: BTreeMap<Ticket, Answer>,
    /// The tips of all truncations, in their order.
    pub truncated: Vec<Cursor>,
    pub removed: Vec<LogName>,
    pub positions: Vec<(Rc<str>, LogName, Cursor)>,
    /// The clients whose positions were dropped.
    pub dropped: Vec<Rc<str>>,
    pub answered: Vec<Wanted>,
    pub superseded: Vec<LogName>,
}

impl Node {
    pub fn new(url: &str) -> Self {
        Node::with(url, RETENTION)
    }

    pub fn with(url: &str, retention: Retention) -> Self {
        let event_loop = EventLoop::new(Limits::default()).unwrap();
        let redis = Redis::new(url.parse().unwrap(), retention, event_loop.now()).unwrap();
        let (feeds, answers) = Default::default();
        let (truncated, removed, positions, dropped, answered, superseded) = Default::default();
        let mut node = Node {
            event_loop,
            redis,
            retention,
            feeds,
            answers,
            truncated,
            removed,
            positions,
            dropped,
            answered,
            superseded,
        };
        node.redis.flush(&mut node.event_loop);
        node
    }

    /// Takes the events of about 2 ms.
    pub fn turn(&mut self) {
        let end = self.event_loop.set_timer(Duration::from_millis(2));
        loop {
            self.redis.flush(&mut self.event_loop);
            match self.event_loop.next_event().unwrap() {
                Event::Timer(timer) if timer == end => break,
                event => drop(self.redis.on_event(&mut self.event_loop, &event)),
            }
            self.apply();
        }
        self.apply();
    }

    fn apply(&mut self) {
        while let Some(change) = self.redis.next_change() {
            match change {
                Change::Opened { log, start } => {
                    let feed = Feed::new(start, self.retention.messages, self.retention.bytes);
                    assert!(self.feeds.insert(log, feed).is_none(), "a log is opened once");
                }
                Change::Appended { log, cursor, body, ticket } => {
                    if let Some(feed) = self.feeds.get_mut(&log) {
                        let length = body.len();
                        feed.append(cursor, body, length); // it panics if the order is wrong
                    }
                    if let Some(ticket) = ticket {
                        self.answer(ticket, Answer::Appended(cursor));
                    }
                }
                Change::Truncated { log, tip } => {
                    self.feeds.get_mut(&log).expect("a truncated log is open").truncate(tip);
                    self.truncated.push(tip);
                }
                Change::Removed { log } => {
                    self.feeds.remove(&log);
                    self.removed.push(log);
                }
                Change::Repeated { ticket, cursor, timestamp } => {
                    self.answer(ticket, Answer::Repeated(cursor, timestamp));
                }
                Change::Refused { ticket, refusal } => self.answer(ticket, Answer::Refused(refusal)),
                Change::Position { client, log, cursor } => self.positions.push((client, log, cursor)),
                Change::Answered(wanted) => self.answered.push(wanted),
                Change::Superseded { log } => self.superseded.push(log),
                Change::NumbersWanted => self.redis.announce(self.event_loop.now(), "{}"),
                Change::PositionsDropped { client } => self.dropped.push(client),
                Change::EndClients { .. } | Change::Ended { .. } => {}
                Change::Done { .. } | Change::Secret { .. } | Change::SecretsUnsure => {}
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let before = self.answers.insert(ticket, answer);
        assert_eq!(before, None, "a sender is answered once");
    }

    pub fn open(&mut self, log: &LogName) {
        assert_eq!(self.redis.open(log), None);
    }

    /// Creates a mailbox.
    pub fn create(&mut self, log: &LogName) -> Cursor {
        let start = self.redis.create(log);
        self.feeds.insert(log.clone(), Feed::new(start, RETENTION.messages, RETENTION.bytes));
        start
    }

    /// Looks for a log, which this node does not know.
    pub fn find(&mut self, log: &LogName) {
        assert!(self.redis.find(&Wanted::Log(log.clone())));
    }

    /// Asks for a message. Its time is the length of its text.
    pub fn send(&mut self, log: &LogName, text: &str, key: Option<Key>) -> Ticket {
        let draft = Draft { log, body: text.into(), timestamp: text.len() as f64, key };
        self.redis.append(self.event_loop.now(), draft)
    }

    /// Returns the texts of a log.
    pub fn texts(&self, log: &LogName) -> Vec<&str> {
        let Some(feed) = self.feeds.get(log) else { return Vec::new() };
        feed.after(feed.last(usize::MAX)).map(|(_, text)| text.as_str()).collect()
    }

    pub fn tip(&self, log: &LogName) -> Cursor {
        self.feeds[log].tip()
    }
}

/// Lets the nodes run until it is so.
pub fn wait<const N: usize>(mut nodes: [&mut Node; N], until: impl Fn([&Node; N]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !until(nodes.each_ref().map(|node| &**node)) {
        let state = |node: &Node| format!("{:?} {:?} {:?}", node.redis.trouble(), node.answers, node.feeds);
        assert!(Instant::now() < deadline, "{:?}", nodes.each_ref().map(|node| state(node)));
        nodes.iter_mut().for_each(|node| node.turn());
    }
}

/// Sends a message, and lets the nodes run until it has an answer.
pub fn answer(node: &mut Node, log: &LogName, text: &str, key: Option<Key>) -> Answer {
    let ticket = node.send(log, text, key);
    wait([node], |[node]| node.answers.contains_key(&ticket));
    node.answers[&ticket].clone()
}
