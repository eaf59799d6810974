//! Appending: messages to the script, and what becomes of them.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::asked::{Asked, Group};
use super::entries::Appended;
use super::link::explain;
use super::log::{Creation, Phase, Place};
use super::session::Session;
use super::{Name, Redis, key, lifetime};
use crate::event_loop::EventLoop;
use crate::feed::Cursor;
use crate::journal::keys;
use crate::journal::{Change, Draft, LogName, Refusal, Ticket};
use crate::resp::Value;

/// The time in which a message is sent, and sent again. It ends before the wait of its sender, which gets the reason.
const ASK_TIME: Duration = Duration::from_millis(4500);

const UNEXPECTED: &str = "Redis has sent an unexpected reply: the message may still come";

/// A script. The login loads it, and Redis knows it by its digest.
#[derive(Debug)]
pub struct Script {
    digest: String,
}

impl Script {
    /// Computes the digest of a script.
    pub fn new(text: &str) -> Self {
        Script { digest: hex(&Sha1::digest(text)) }
    }

    /// Asks Redis to run the script.
    pub fn ask(&self, session: &mut Session<Name>, keys: &[&str], arguments: &[&str], name: Name) {
        let count = keys.len().to_string();
        let words = ["EVALSHA", &self.digest, &count].into_iter().chain(keys.iter().copied());
        let words: Vec<_> = words.chain(arguments.iter().copied()).map(str::as_bytes).collect();
        session.ask(&words, name);
    }
}

impl Redis {
    /// As [`Journal::append`](crate::journal::Journal::append).
    pub fn append(&mut self, now: Instant, draft: Draft<'_>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let epoch = self.logs.get(draft.log).and_then(|log| log.tip()).map_or(0, Cursor::epoch);
        let asked = Asked {
            ticket,
            log: draft.log.clone(),
            check: Cursor::start(&mut self.random).check(),
            body: draft.body,
            timestamp: draft.timestamp,
            key: draft.key.map(|key| (key, epoch)),
            until: now + ASK_TIME,
            was_sent: false,
        };
        if !self.asked.push(asked) {
            self.refuse(ticket, "too many messages wait for Redis");
        }
        ticket
    }

    /// Refuses the messages whose time is over.
    pub(super) fn refuse_overdue(&mut self, now: Instant) {
        while let Some(asked) = self.asked.overdue(now) {
            let trouble = self.session.trouble().unwrap_or("Redis has not answered in time");
            let outcome = match (asked.was_sent, asked.key) {
                (false, _) => "the message is not stored",
                (true, Some(_)) => "the message may still come: send it again with the same key, and it comes once",
                (true, None) => "the message may still come",
            };
            self.refuse(asked.ticket, &format!("{trouble}: {outcome}"));
        }
    }

    /// Sends the groups that were not sent on this connection, as long as they fit into its queue.
    pub(super) fn send_asked(&mut self, event_loop: &EventLoop) {
        if self.session.trouble().is_some() {
            return;
        }
        while self.session.has_room(event_loop)
            && let Some(number) = self.asked.next_to_send()
        {
            self.send(number);
        }
    }

    fn send(&mut self, number: u64) {
        let Some(Group { log, tickets }) = self.asked.group(number) else { return };
        let (most_messages, most_bytes) = self.retention.of(log);
        let mut keys = vec![key(log), format!("overwire:node:{}", self.node)];
        let mut arguments: Vec<Cow<'_, str>> = vec![
            self.node.as_str().into(),
            number.to_string().into(),
            self.channel(log).into(),
            most_messages.to_string().into(),
            most_bytes.to_string().into(),
            lifetime(log).into(),
            keys::LIFETIME.as_millis().to_string().into(),
        ];
        for asked in tickets.iter().filter_map(|ticket| self.asked.get(*ticket)) {
            let (fingerprint, epoch) = match &asked.key {
                Some((key, epoch)) => {
                    keys.push(format!("overwire:key:{}", hex(&key.digest)));
                    (hex(&key.fingerprint), epoch.to_string())
                }
                None => Default::default(),
            };
            arguments.extend([
                asked.ticket.0.to_string().into(),
                asked.check.to_string().into(),
                Cow::from(&asked.body),
                asked.timestamp.to_string().into(),
                fingerprint.into(),
                epoch.into(),
            ]);
        }
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let arguments: Vec<_> = arguments.iter().map(Cow::as_ref).collect();
        self.scripts[0].ask(&mut self.session, &keys, &arguments, Name::Append(number));
    }

    /// Takes the reply to a group.
    pub(super) fn on_appended(&mut self, number: u64, reply: &Value, now: Instant) {
        let Some(group) = self.asked.answer(number) else { return };
        match reply {
            Value::Error(error) => self.refuse_group(&group, &format!("{}: the message is not stored", explain(error))),
            Value::Array(outcomes) if outcomes.len() == group.tickets.len() => {
                let mut again = Vec::new();
                for (&ticket, outcome) in group.tickets.iter().zip(outcomes) {
                    self.on_outcome(ticket, Appended::of_reply(outcome), now, &mut again);
                }
                again.into_iter().rev().for_each(|ticket| self.asked.renew(ticket));
            }
            _ => self.refuse_group(&group, UNEXPECTED),
        }
    }

    fn refuse_group(&mut self, group: &Group, why: &str) {
        for &ticket in &group.tickets {
            if self.asked.take(ticket).is_some() {
                self.refuse(ticket, why);
            }
        }
    }

    /// Takes the outcome of a message. Adds it to those that are to be sent `again`, if it is one.
    fn on_outcome(&mut self, ticket: Ticket, outcome: Option<Appended>, now: Instant, again: &mut Vec<Ticket>) {
        let Some(asked) = self.asked.get(ticket) else { return }; // its time was over
        let (log, has_key) = (asked.log.clone(), asked.key.is_some());
        match outcome {
            Some(Appended::Yes(cursor)) => return self.on_committed(ticket, cursor, now),
            // A key tells whether it was appended.
            Some(Appended::Known) if has_key => return again.push(ticket),
            Some(Appended::Missing) => return self.on_missing(ticket, &log, again),
            _ => self.asked.take(ticket),
        };
        match outcome {
            Some(Appended::Repeated(cursor, timestamp)) => {
                self.changes.push_back(Change::Repeated { ticket, cursor, timestamp });
            }
            Some(Appended::Conflict) => {
                self.changes.push_back(Change::Refused { ticket, refusal: Refusal::Conflict });
            }
            Some(_) => self.refuse(ticket, "the connection to Redis was lost: the message may still come"),
            None => self.refuse(ticket, UNEXPECTED),
        }
    }

    /// A message is in its log. If the messages before it are known, it follows them. Otherwise its notice brings it, or
    /// a read.
    fn on_committed(&mut self, ticket: Ticket, cursor: Cursor, now: Instant) {
        let Some(asked) = self.asked.get(ticket) else { return };
        let log = self.logs.get_mut(&asked.log);
        let place = log.map(|log| (log.append(cursor, asked.body.len(), now), log.deadline()));
        match place {
            None | Some((Place::Next, _)) => {
                if let Some(Asked { log, body, .. }) = self.asked.take(ticket) {
                    self.changes.push_back(Change::Appended { log, cursor, body, ticket: Some(ticket) });
                }
            }
            Some((Place::Ahead | Place::Known, deadline)) => {
                if let Some(until) = deadline {
                    self.look_at(until);
                }
            }
            Some((Place::Foreign, _)) => {
                let name = asked.log.clone();
                self.read(&name);
            }
        }
    }

    /// The log is gone: it has expired, or Redis has lost it. A room begins a new log, in which all keys are new. So only
    /// a message without one is sent again.
    fn on_missing(&mut self, ticket: Ticket, name: &LogName, again: &mut Vec<Ticket>) {
        let log = self.logs.get(name);
        let begins_again = log.is_some_and(|log| log.creation != Creation::Never);
        if begins_again && log.is_some_and(|log| log.phase != Phase::Reading) {
            self.read(name);
        }
        if begins_again && self.asked.get(ticket).is_some_and(|asked| asked.key.is_none()) {
            return again.push(ticket);
        }
        self.asked.take(ticket);
        self.refuse(ticket, "Redis has lost the messages before this one: the message is not stored");
        if !begins_again {
            self.on_gone(name);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
