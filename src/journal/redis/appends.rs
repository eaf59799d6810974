//! Appending: messages to the script, and what becomes of them.

use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::asked::Asked;
use super::entries::Appended;
use super::link::{code, explain};
use super::log::{Creation, Place};
use super::session::Session;
use super::{Name, Redis, key, lifetime};
use crate::event_loop::EventLoop;
use crate::feed::Cursor;
use crate::journal::keys;
use crate::journal::{Change, Draft, LogName, Refusal, Ticket};
use crate::resp::Value;

/// The time in which a message is sent, and sent again. It ends before the wait of its sender, which gets the reason.
const ASK_TIME: Duration = Duration::from_millis(4500);

/// A script, and its digest, by which Redis knows it.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    /// Computes the digest of a script.
    pub fn new(text: &'static str) -> Self {
        Script { text, digest: hex(&Sha1::digest(text)) }
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
    /// Gives Redis the scripts once more: somebody has removed them.
    pub(super) fn load_scripts(&mut self) {
        for script in &self.scripts {
            self.session.ask(&[b"SCRIPT", b"LOAD", script.text.as_bytes()], Name::Other);
        }
    }

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
            is_appended: false,
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

    /// Sends the messages that were not sent on this connection, as long as they fit into its queue.
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
        let Some(asked) = self.asked.get(number) else { return };
        let log = &asked.log;
        let (messages, bytes) = self.retention.of(log);
        let numbers = [number, asked.check.into(), messages as u64, bytes as u64];
        let [number_text, check, messages, bytes] = numbers.map(|number| number.to_string());
        let (stream, node) = (key(log), format!("overwire:node:{}", self.node));
        let (channel, lifetime) = (self.channel(log), lifetime(log));
        let (key, fingerprint, epoch) = match &asked.key {
            Some((key, epoch)) => {
                (format!("overwire:key:{}", hex(&key.digest)), hex(&key.fingerprint), epoch.to_string())
            }
            None => Default::default(),
        };
        let keys = [stream.as_str(), &node, &key];
        let keys = if key.is_empty() { &keys[..2] } else { &keys };
        let (time, key_lifetime) = (asked.timestamp.to_string(), keys::LIFETIME.as_millis().to_string());
        let arguments = [
            &number_text,
            &self.node,
            &check,
            &asked.body,
            &channel,
            &messages,
            &bytes,
            &lifetime,
            &fingerprint,
            &time,
            &key_lifetime,
            &epoch,
        ];
        self.scripts[0].ask(&mut self.session, keys, &arguments.map(String::as_str), Name::Append(number));
    }

    /// Takes the reply to an append.
    pub(super) fn on_appended(&mut self, number: u64, reply: &Value, now: Instant) {
        let Some(asked) = self.asked.get(number) else { return };
        let (ticket, log) = (asked.ticket, asked.log.clone());
        match (reply, Appended::of_reply(reply)) {
            (_, Some(Appended::Yes(cursor))) => self.on_committed(number, cursor, now),
            (_, Some(Appended::Repeated(cursor, timestamp))) => {
                self.asked.take(number);
                self.changes.push_back(Change::Repeated { ticket, cursor, timestamp });
            }
            (_, Some(Appended::Conflict)) => {
                self.asked.take(number);
                self.changes.push_back(Change::Refused { ticket, refusal: Refusal::Conflict });
            }
            // A key tells whether it was appended.
            (_, Some(Appended::Known)) if asked.key.is_some() => self.asked.renew(number),
            (_, Some(Appended::Known)) => {
                self.asked.take(number);
                self.refuse(ticket, "the connection to Redis was lost: the message may still come");
            }
            (_, Some(Appended::Missing)) => self.on_missing(number, &log),
            (Value::Error(error), _) if code(error) == "NOSCRIPT" => {
                self.load_scripts();
                self.send(number);
            }
            (Value::Error(error), _) => {
                self.asked.take(number);
                self.refuse(ticket, &format!("{}: the message is not stored", explain(error)));
            }
            _ => {
                self.asked.take(number);
                self.refuse(ticket, "Redis has sent an unexpected reply: the message may still come");
            }
        }
    }

    /// A message is in its log. If the messages before it are known, it follows them. Otherwise its notice brings it, or
    /// a read.
    fn on_committed(&mut self, number: u64, cursor: Cursor, now: Instant) {
        let Some(asked) = self.asked.get_mut(number) else { return };
        asked.is_appended = true;
        let name = asked.log.clone();
        let place = self.logs.get_mut(&name).map(|log| (log.append(cursor, asked.body.len(), now), log.deadline()));
        match place {
            None | Some((Place::Next, _)) => {
                if let Some(asked) = self.asked.take(number) {
                    let ticket = Some(asked.ticket);
                    self.changes.push_back(Change::Appended { log: name, cursor, body: asked.body, ticket });
                }
            }
            Some((Place::Ahead | Place::Known, deadline)) => {
                if let Some(until) = deadline {
                    self.look_at(until);
                }
            }
            Some((Place::Foreign, _)) => self.read(&name),
        }
    }

    /// The log is gone: it has expired, or Redis has lost it. A room begins a new log, in which all keys are new. So only
    /// a message without one is sent again.
    fn on_missing(&mut self, number: u64, name: &LogName) {
        let begins_again = self.logs.get(name).is_some_and(|log| log.creation != Creation::Never);
        if begins_again {
            self.read(name);
        }
        if begins_again && self.asked.get(number).is_some_and(|asked| asked.key.is_none()) {
            return self.asked.renew(number);
        }
        if let Some(asked) = self.asked.take(number) {
            self.refuse(asked.ticket, "Redis has lost the messages before this one: the message is not stored");
        }
        if !begins_again {
            self.on_gone(name);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
