//! Sessions and tickets, which all nodes share. Redis has their texts under the digests of their secrets, and so nothing
//! that anybody could log in with.
//!
//! A node looks for a session when it is used there for the first time, and now and then as long as it is in use. Each
//! time its life in Redis begins again. A session that is dropped is told to all nodes. A notice may be lost: then a node
//! learns of it the next time that it looks, or when it is connected again.

use std::collections::HashMap;
use std::time::Duration;

use super::link::explain;
use super::{MOST_UNASKED, Name, Redis};
use crate::books;
use crate::identity::{Digest, IDLE_TIME, TICKET_TIME};
use crate::journal::{Change, SecretName, Ticket, Wanted};
use crate::resp::Value;

/// The time for which Redis keeps a session that no node looks for. A node that uses one looks for it more often than
/// once in the added minute.
const SESSION_LIFE: Duration = Duration::from_secs(IDLE_TIME.as_secs() + 60);

/// The questions about secrets whose replies are still to come.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The number of the question about each.
    asked: HashMap<SecretName, u64>,
    /// The number of questions so far.
    count: u64,
}

impl Secrets {
    /// The connection is lost: no reply comes.
    pub fn disconnect(&mut self) {
        self.asked.clear();
    }

    /// Returns the number of bytes of the questions.
    pub fn bytes(&self) -> usize {
        books::map(&self.asked)
    }
}

impl Redis {
    /// As [`Journal::keep_secret`](crate::journal::Journal::keep_secret).
    pub fn keep_secret(&mut self, name: SecretName, text: &str) -> Ticket {
        let (key, life) = (key(name), life(name));
        self.tell(&[&["SET", &key, text, "PX", &life]])
    }

    /// As [`Journal::drop_session`](crate::journal::Journal::drop_session). A node that looks for it after the notice does
    /// not find it.
    pub fn drop_session(&mut self, session: Digest) -> Ticket {
        let (key, channel) = (key(SecretName::Session(session)), self.nodes_channel());
        let notice = format!("over {} {session}", self.node);
        self.tell(&[&["DEL", &key], &["PUBLISH", &channel, &notice]])
    }

    /// Asks commands. The reply to the last one says that they are done.
    fn tell(&mut self, commands: &[&[&str]]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(trouble) = self.trouble() {
            let why = format!("{trouble}: the other servers cannot be told");
            self.refuse(ticket, &why);
        } else if let [first @ .., last] = commands {
            first.iter().for_each(|command| self.ask_other(command));
            let last: Vec<_> = last.iter().map(|word| word.as_bytes()).collect();
            self.session.ask(&last, Name::Told(ticket));
        }
        ticket
    }

    /// Takes the reply to a command that the other nodes are to know of.
    pub(super) fn on_told(&mut self, ticket: Ticket, reply: &Value) {
        match reply {
            Value::Error(error) => self.refuse(ticket, &explain(error)),
            _ => self.changes.push_back(Change::Done { ticket }),
        }
    }

    /// Looks for a secret. This node hears first of what is over, and asks then: the other way round, it could learn of a
    /// session that has just ended, and not of its end.
    pub(super) fn find_secret(&mut self, name: SecretName) {
        let wanted = Wanted::Secret(name);
        if !self.nodes.is_joined() {
            if self.unasked.len() < MOST_UNASKED && !self.unasked.contains(&wanted) {
                self.unasked.push(wanted);
            }
        } else if !self.secrets.asked.contains_key(&name) {
            self.secrets.count += 1;
            let number = self.secrets.count;
            self.secrets.asked.insert(name, number);
            let (key, life) = (key(name), life(name));
            let words = match name {
                SecretName::Session(_) => vec!["GETEX", &key, "PX", &life],
                SecretName::Ticket(_) => vec!["GETDEL", &key],
            };
            let words: Vec<_> = words.into_iter().map(str::as_bytes).collect();
            self.session.ask(&words, Name::Secret(name, number));
        }
    }

    /// Takes the text of a secret. If a notice that it is over has come before, the text is out of date.
    pub(super) fn on_secret(&mut self, name: SecretName, number: u64, reply: &Value) {
        let text = match (self.secrets.asked.get(&name), reply) {
            (Some(newest), _) if *newest != number => return, // it is asked again
            (Some(_), Value::Error(_)) => {
                self.secrets.asked.remove(&name);
                return; // who waits gets an error when the time is up
            }
            (Some(_), reply) => reply.as_bytes().and_then(|text| String::from_utf8(text.to_vec()).ok()),
            (None, _) => None,
        };
        self.secrets.asked.remove(&name);
        self.changes.extend([Change::Secret { name, text }, Change::Answered(Wanted::Secret(name))]);
    }

    /// Another node has dropped a session.
    pub(super) fn on_over(&mut self, session: &str) {
        if let Some(session) = Digest::parse(session) {
            let name = SecretName::Session(session);
            self.secrets.asked.remove(&name);
            self.changes.push_back(Change::Secret { name, text: None });
        }
    }
}

fn key(name: SecretName) -> String {
    match name {
        SecretName::Session(digest) => format!("overwire:session:{digest}"),
        SecretName::Ticket(digest) => format!("overwire:ticket:{digest}"),
    }
}

/// Returns the lifetime of a secret in Redis, in milliseconds.
fn life(name: SecretName) -> String {
    let life = match name {
        SecretName::Session(_) => SESSION_LIFE,
        SecretName::Ticket(_) => TICKET_TIME,
    };
    life.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::journal::Retention;

    /// A node that follows the channel of all nodes.
    fn joined() -> Redis {
        let now = Instant::now();
        let mut redis = Redis::new("redis://localhost".parse().unwrap(), Retention::default(), now).unwrap();
        redis.on_nodes_push(&Value::Simple("subscribe".into()), &Value::Null, now);
        assert_eq!(redis.next_change(), Some(Change::SecretsUnsure));
        redis
    }

    fn say(redis: &mut Redis, notice: &str) {
        redis.on_nodes_push(&Value::Simple("message".into()), &Value::Simple(notice.into()), Instant::now());
    }

    #[test]
    fn a_session_that_ends_while_its_text_is_on_the_way_is_not_learnt() {
        let (mut redis, digest, text) = (joined(), Digest::of("session"), Value::Simple("text".into()));
        let (name, wanted) = (SecretName::Session(digest), Wanted::Secret(SecretName::Session(digest)));
        let secret = |text: Option<&str>| Some(Change::Secret { name, text: text.map(str::to_owned) });
        redis.find_secret(name);
        say(&mut redis, &format!("over other {digest}"));
        assert_eq!((redis.next_change(), redis.next_change()), (secret(None), None));
        redis.on_secret(name, 1, &text);
        let answered = Some(Change::Answered(wanted));
        assert_eq!((redis.next_change(), redis.next_change()), (secret(None), answered.clone()));
        redis.find_secret(name);
        say(&mut redis, &format!("over other {digest}"));
        redis.find_secret(name);
        redis.next_change();
        redis.on_secret(name, 2, &text);
        assert_eq!(redis.next_change(), None, "the newer question is answered");
        redis.on_secret(name, 3, &text);
        assert_eq!((redis.next_change(), redis.next_change()), (secret(Some("text")), answered));
    }

    #[test]
    fn notices_about_no_session_are_ignored() {
        let mut redis = joined();
        for notice in ["over", "over other", "over other x", &format!("over {} {}", redis.node, Digest::of("x"))] {
            say(&mut redis, notice);
        }
        assert_eq!(redis.next_change(), None);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let mut redis = joined();
        let ticket = redis.drop_session(Digest::of("session"));
        assert!(matches!(redis.next_change(), Some(Change::Refused { ticket: refused, .. }) if refused == ticket));
    }
}
