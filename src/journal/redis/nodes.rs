//! The other nodes: the numbers that each announces, and requests to all of them. All nodes follow one channel, and
//! nothing of it is stored. A node whose newest numbers are out of date is gone.
//!
//! ```text
//! hello NODE                        it has connected: the others announce their numbers
//! numbers NODE MILLISECONDS JSON    its numbers, and the time for which they hold
//! bye NODE                          it ends
//! end NODE NUMBER JSON              it wants clients to be ended: an array of their ids
//! ended NODE NUMBER BY true|false   the node BY has done that; whether it knew one of them
//! over NODE DIGEST                  it has dropped the session with this digest
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Redis;
use crate::bytes::digits;
use crate::journal::{Asker, Change, NodeList, Ticket};
use crate::resp::Value;

/// The interval of the announcements of a node whose readers do not change.
const INTERVAL: Duration = Duration::from_secs(5);

/// The shortest time between two announcements.
const PAUSE: Duration = Duration::from_millis(500);

/// The time that each byte of an announcement adds to the pause after it: at most 64 KiB are announced in a second.
const PAUSE_PER_BYTE: Duration = Duration::from_micros(15);

/// The number of intervals for which numbers hold: two announcements may be lost.
const INTERVALS: u32 = 3;

/// The time after the subscription in which the other nodes become known.
const MEETING_TIME: Duration = Duration::from_millis(500);

/// The longest wait for the other nodes.
const END_TIME: Duration = Duration::from_secs(2);

/// The other nodes, and what this node wants of them.
#[derive(Debug, Default)]
pub struct Nodes {
    heard: BTreeMap<String, Heard>,
    requests: BTreeMap<Ticket, Request>,
    /// When this node announces its numbers again. `None` without a subscription.
    next: Option<Instant>,
    /// The earliest time for it.
    soonest: Option<Instant>,
    /// The time from which on the other nodes are known. `None` without a subscription.
    met: Option<Instant>,
    has_left: bool,
}

/// The numbers that a node has announced.
#[derive(Debug)]
struct Heard {
    json: String,
    until: Instant,
}

/// A request to all other nodes.
#[derive(Debug)]
struct Request {
    /// The nodes that have not answered.
    awaited: BTreeSet<String>,
    is_known: bool,
    until: Instant,
}

impl Nodes {
    /// The connection is lost.
    pub fn disconnect(&mut self) {
        (self.next, self.met) = (None, None);
    }

    /// Whether the channel of all nodes is followed.
    pub fn is_joined(&self) -> bool {
        self.met.is_some()
    }

    /// Returns the earliest deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.requests.values().map(|request| request.until).chain(self.next).min()
    }

    /// Has the numbers announced soon.
    fn hurry(&mut self) {
        if let Some(next) = &mut self.next {
            *next = self.soonest.map_or(*next, |soonest| soonest.min(*next));
        }
    }

    /// Removes the numbers that hold no longer.
    pub fn sweep(&mut self, now: Instant) {
        self.heard.retain(|_, heard| heard.until > now);
    }

    /// Returns the number of bytes of what the other nodes have announced.
    pub fn bytes(&self) -> usize {
        self.heard.iter().map(|(node, heard)| node.capacity() + heard.json.capacity()).sum()
    }
}

impl Redis {
    /// As [`Journal::nodes`](crate::journal::Journal::nodes).
    pub fn nodes(&self, now: Instant) -> NodeList<'_> {
        let current = self.nodes.heard.iter().filter(|(_, heard)| heard.until > now);
        NodeList {
            own: &self.node,
            others: current.map(|(node, heard)| (node.as_str(), heard.json.as_str())).collect(),
        }
    }

    /// As [`Journal::readers_changed`](crate::journal::Journal::readers_changed).
    pub fn readers_changed(&mut self) {
        self.nodes.hurry();
    }

    /// As [`Journal::announce`](crate::journal::Journal::announce).
    pub fn announce(&mut self, now: Instant, json: &str) {
        let pause = PAUSE + PAUSE_PER_BYTE * u32::try_from(json.len()).unwrap_or(u32::MAX);
        let interval = INTERVAL.max(pause);
        let lifetime = (INTERVALS * interval).as_millis();
        (self.nodes.next, self.nodes.soonest) = (Some(now + interval), Some(now + pause));
        self.tell_nodes(&format!("numbers {} {lifetime} {json}", self.node));
    }

    /// As [`Journal::leave`](crate::journal::Journal::leave).
    pub fn leave(&mut self) {
        self.nodes.has_left = true;
        self.nodes.next = None;
        self.tell_nodes(&format!("bye {}", self.node));
    }

    /// As [`Journal::end_clients`](crate::journal::Journal::end_clients).
    pub fn end_clients(&mut self, now: Instant, clients: &[String]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if self.nodes.met.is_none_or(|met| now < met) {
            let trouble = self.trouble().unwrap_or("this server has just connected to Redis").to_owned();
            self.refuse(ticket, &format!("{trouble}: the other servers were not asked, and may have the client"));
            return ticket;
        }
        self.nodes.sweep(now);
        let awaited = self.nodes.heard.keys().cloned().collect();
        self.nodes.requests.insert(ticket, Request { awaited, is_known: false, until: now + END_TIME });
        let clients = serde_json::Value::from(clients).to_string();
        self.tell_nodes(&format!("end {} {} {clients}", self.node, ticket.0));
        self.complete(ticket);
        ticket
    }

    /// As [`Journal::clients_ended`](crate::journal::Journal::clients_ended).
    pub fn clients_ended(&mut self, Asker(node, number): &Asker, is_known: bool) {
        self.tell_nodes(&format!("ended {node} {number} {} {is_known}", self.node));
    }

    fn tell_nodes(&mut self, notice: &str) {
        self.ask_other(&["PUBLISH", &self.nodes_channel(), notice]);
    }

    /// Returns the channel of all nodes.
    pub(super) fn nodes_channel(&self) -> String {
        format!("overwire:{}:nodes", self.url.database)
    }

    /// Follows the channel of all nodes, on a new connection.
    pub(super) fn join_nodes(&mut self) {
        self.session.subscribe(&[b"SUBSCRIBE", self.nodes_channel().as_bytes()]);
    }

    /// The channel is followed: the other nodes are asked to say who they are.
    fn on_joined(&mut self, now: Instant) {
        self.nodes.met = Some(now + MEETING_TIME);
        self.changes.push_back(Change::SecretsUnsure);
        self.find_unasked();
        if !self.nodes.has_left {
            self.nodes.next = Some(now);
            self.tell_nodes(&format!("hello {}", self.node));
        }
    }

    /// The channel of all nodes is followed, or there is a notice on it.
    pub(super) fn on_nodes_push(&mut self, kind: &Value, content: &Value, now: Instant) {
        match (kind.as_bytes(), content.as_bytes()) {
            (Some(b"subscribe"), _) => self.on_joined(now),
            (Some(b"message"), Some(notice)) => self.on_node_notice(notice, now),
            _ => {}
        }
    }

    /// Takes a notice on the channel of all nodes. One that is not understood is ignored: a later version may send it.
    fn on_node_notice(&mut self, notice: &[u8], now: Instant) {
        let words = std::str::from_utf8(notice).ok().and_then(|notice| notice.split_once(' '));
        let Some((kind, rest)) = words else { return };
        let (node, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match (kind, node == self.node) {
            ("hello", false) => self.nodes.next = self.nodes.next.map(|_| now),
            ("numbers", false) => self.on_numbers(node, rest, now),
            ("bye", false) => self.on_bye(node),
            ("end", false) => self.on_end(node, rest),
            ("ended", true) => self.on_ended(rest),
            ("over", false) => self.on_over(rest),
            _ => {}
        }
    }

    fn on_numbers(&mut self, node: &str, rest: &str, now: Instant) {
        let Some((lifetime, json)) = rest.split_once(' ') else { return };
        let Some(lifetime) = digits(lifetime.as_bytes()) else { return };
        let heard = Heard { json: json.into(), until: now + Duration::from_millis(lifetime) };
        self.nodes.heard.insert(node.into(), heard);
    }

    fn on_bye(&mut self, node: &str) {
        self.nodes.heard.remove(node);
        let tickets: Vec<_> = self.nodes.requests.keys().copied().collect();
        for ticket in tickets {
            self.on_done(ticket, node, false);
        }
    }

    fn on_end(&mut self, node: &str, rest: &str) {
        let request = rest
            .split_once(' ')
            .and_then(|(number, clients)| Some((digits(number.as_bytes())?, serde_json::from_str(clients).ok()?)));
        if let Some((number, clients)) = request {
            self.changes.push_back(Change::EndClients { asker: Asker(node.into(), number), clients });
        }
    }

    fn on_ended(&mut self, rest: &str) {
        if let [number, by, is_known] = rest.split(' ').collect::<Vec<_>>()[..]
            && let Some(number) = digits(number.as_bytes())
        {
            self.on_done(Ticket(number), by, is_known == "true");
        }
    }

    fn on_done(&mut self, ticket: Ticket, node: &str, is_known: bool) {
        let Some(request) = self.nodes.requests.get_mut(&ticket) else { return };
        request.awaited.remove(node);
        request.is_known |= is_known;
        self.complete(ticket);
    }

    /// Answers a request if no node is awaited any more.
    fn complete(&mut self, ticket: Ticket) {
        if let Some(request) = self.nodes.requests.get(&ticket).filter(|request| request.awaited.is_empty()) {
            self.changes.push_back(Change::Ended { ticket, is_known: request.is_known });
            self.nodes.requests.remove(&ticket);
        }
    }

    /// Refuses the requests whose time is over, and has the numbers announced if it is time for that.
    pub(super) fn on_nodes_deadline(&mut self, now: Instant) {
        let is_over = |request: &Request| request.until <= now;
        let over = self.nodes.requests.extract_if(.., |_, request| is_over(request)).collect::<Vec<_>>();
        for (ticket, request) in over {
            let count = request.awaited.len();
            self.refuse(ticket, &format!("{count} of the other servers did not answer, and may have the client"));
        }
        if self.nodes.next.is_some_and(|next| next <= now) {
            self.nodes.next = Some(now + PAUSE); // until it is announced
            self.changes.push_back(Change::NumbersWanted);
        }
    }

    /// The connection is lost: the other nodes may not have got the requests.
    pub(super) fn refuse_node_requests(&mut self) {
        let trouble = self.trouble().unwrap_or("the connection to Redis is lost").to_owned();
        for ticket in std::mem::take(&mut self.nodes.requests).into_keys() {
            self.refuse(ticket, &format!("{trouble}: the other servers may have the client"));
        }
    }
}
