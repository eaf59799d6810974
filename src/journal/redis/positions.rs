//! The positions of readers that do not send them: clients with a `client_id`, and the one reader of a mailbox. And
//! which node has that one.

use std::rc::Rc;

use super::log::Claim;
use super::{Name, POSITION_LIFETIME, Redis, lifetime};
use crate::bytes::digits;
use crate::feed::Cursor;
use crate::journal::{Change, LogName, Wanted};
use crate::resp::Value;

/// The first word of a notice with the position of the reader of a mailbox: `position NODE CURSOR`.
const POSITION: &str = "position";

/// The first word of a notice that a node has the newest reader of a mailbox: `reader NODE NUMBER`.
const READER: &str = "reader";

/// The most rooms in which Redis has the position of one client. A client chooses its rooms, and all of its positions are
/// one reply.
const MOST_ROOMS: i64 = 64;

/// The field of a client whose positions were dropped. The other fields are the names of rooms, which are not empty.
const DROPPED: &str = "";

/// Returns the position in a notice of another node. The outer `None` is for a notice that is not about a position, the
/// inner one for the node's own.
pub fn position_in(notice: &[u8], node: &str) -> Option<Option<Cursor>> {
    let words = std::str::from_utf8(notice).ok()?.strip_prefix(POSITION)?.strip_prefix(' ')?;
    let (by, cursor) = words.split_once(' ')?;
    Some(cursor.parse().ok().filter(|_| by != node))
}

/// Returns the node and its number in a notice that a node has the newest reader of a mailbox.
pub fn claim_in(notice: &[u8]) -> Option<(&str, u64)> {
    let words = std::str::from_utf8(notice).ok()?.strip_prefix(READER)?.strip_prefix(' ')?;
    let (node, number) = words.split_once(' ')?;
    Some((node, digits(number.as_bytes())?))
}

impl Redis {
    /// As [`Journal::note_position`](crate::journal::Journal::note_position).
    pub fn note_position(&mut self, client: &str, name: &LogName, cursor: Cursor) {
        let cursor = cursor.to_string();
        match name {
            LogName::Room(room) => {
                let (key, lifetime) = (client_key(client), POSITION_LIFETIME.as_millis().to_string());
                self.session
                    .ask(&[b"HSET", key.as_bytes(), room.as_bytes(), cursor.as_bytes()], Name::Noted(client.into()));
                self.ask_other(&["PEXPIRE", &key, &lifetime]);
            }
            LogName::Mailbox(_) => {
                let notice = format!("{POSITION} {} {cursor}", self.node);
                self.ask_other(&["SET", &reader_key(name), &cursor, "PX", &lifetime(name)]);
                self.ask_other(&["PUBLISH", &self.channel(name), &notice]);
            }
        }
    }

    /// Takes the reply to a position of a client: the number of rooms that are new to Redis.
    pub(super) fn on_noted(&mut self, client: Rc<str>, reply: &Value) {
        if *reply == Value::Number(1) {
            self.session.ask(&[b"HLEN", client_key(&client).as_bytes()], Name::Rooms(client));
        }
    }

    /// Drops the positions of a client in too many rooms.
    pub(super) fn on_rooms(&mut self, client: &str, reply: &Value) {
        if matches!(reply, Value::Number(rooms) if *rooms > MOST_ROOMS) {
            self.drop_positions(client);
        }
    }

    /// As [`Journal::drop_positions`](crate::journal::Journal::drop_positions).
    pub fn drop_positions(&mut self, client: &str) {
        let (key, lifetime) = (client_key(client), POSITION_LIFETIME.as_millis().to_string());
        self.ask_other(&["DEL", &key]);
        self.ask_other(&["HSET", &key, DROPPED, ""]);
        self.ask_other(&["PEXPIRE", &key, &lifetime]);
    }

    /// As [`Journal::claim`](crate::journal::Journal::claim).
    pub fn claim(&mut self, name: &LogName) {
        self.claims += 1;
        let Some(log) = self.logs.get_mut(name) else { return };
        log.claim = Claim::Asked(self.claims);
        if log.is_subscribed() {
            self.tell_claim(name, self.claims); // otherwise when the subscription is confirmed
        }
    }

    /// As [`Journal::unclaim`](crate::journal::Journal::unclaim).
    pub fn unclaim(&mut self, name: &LogName) {
        if let Some(log) = self.logs.get_mut(name) {
            log.claim = Claim::None;
        }
    }

    /// Says that this node has the newest reader, and stores it for a node that is away. What is stored last is what is
    /// said last.
    pub(super) fn tell_claim(&mut self, name: &LogName, number: u64) {
        let claim = format!("{} {number}", self.node);
        self.ask_other(&["MULTI"]);
        self.ask_other(&["SET", &claim_key(name), &claim, "PX", &lifetime(name)]);
        self.ask_other(&["PUBLISH", &self.channel(name), &format!("{READER} {claim}")]);
        self.ask_other(&["EXEC"]);
    }

    /// Asks who has the newest reader of a mailbox: this node had it before it was away.
    pub(super) fn check_claim(&mut self, name: &LogName) {
        self.session.ask(&[b"GET", claim_key(name).as_bytes()], Name::Claim(name.clone()));
    }

    /// Another node may have had a reader since. Nothing is stored if Redis has lost it.
    pub(super) fn on_stored_claim(&mut self, name: &LogName, reply: &Value) {
        let claim = reply.as_bytes().and_then(|claim| std::str::from_utf8(claim).ok()?.split_once(' '));
        if claim.is_some_and(|(node, _)| node != self.node) {
            self.supersede(name);
        }
    }

    /// A node has the newest reader of a mailbox. All nodes get these notices in the same order, so the newest wins: if
    /// the notice of this node is still to come, its reader is newer.
    pub(super) fn on_claim(&mut self, name: &LogName, node: &str, number: u64) {
        let Some(log) = self.logs.get_mut(name) else { return };
        if node != self.node {
            self.supersede(name);
        } else if log.claim == Claim::Asked(number) {
            log.claim = Claim::Held;
        }
    }

    /// Another node has a newer reader than this one, if the notice of this one is not still to come.
    fn supersede(&mut self, name: &LogName) {
        if let Some(log) = self.logs.get_mut(name)
            && log.claim == Claim::Held
        {
            log.claim = Claim::None;
            self.changes.push_back(Change::Superseded { log: name.clone() });
        }
    }

    /// Asks for the positions of a client.
    pub(super) fn find_client(&mut self, client: &Rc<str>) {
        self.session.ask(&[b"HGETALL", client_key(client).as_bytes()], Name::Client(client.clone()));
    }

    /// Reports the positions of a client.
    pub(super) fn on_client(&mut self, client: Rc<str>, reply: &Value) {
        for pair in reply.values().unwrap_or_default().chunks_exact(2) {
            let room = pair[0].as_bytes().and_then(|room| std::str::from_utf8(room).ok());
            if room == Some(DROPPED) {
                self.changes.push_back(Change::PositionsDropped { client: client.clone() });
            } else if let (Some(room), Some(cursor)) = (room, cursor(&pair[1])) {
                let log = LogName::Room(room.into());
                self.changes.push_back(Change::Position { client: client.clone(), log, cursor });
            }
        }
        self.changes.push_back(Change::Answered(Wanted::Client(client)));
    }

    /// Asks for the position of the reader of a mailbox, after the read with this number.
    pub(super) fn find_reader(&mut self, name: &LogName, read: u64) {
        self.session.ask(&[b"GET", reader_key(name).as_bytes()], Name::Reader(name.clone(), read));
    }

    /// Reports the position of the reader of a mailbox, and answers what the read before it was for. A newer read has a
    /// question of its own.
    pub(super) fn on_reader(&mut self, name: LogName, read: u64, reply: &Value) {
        if let Some(cursor) = cursor(reply) {
            self.changes.push_back(Change::Position { client: "".into(), log: name.clone(), cursor });
        }
        if self.logs.get(&name).is_some_and(|log| log.read == read) {
            self.answer(&name);
        }
    }
}

fn client_key(client: &str) -> String {
    format!("overwire:client:{client}")
}

/// Returns the key of the position of the reader of a mailbox.
pub fn reader_key(name: &LogName) -> String {
    format!("overwire:reader:{}", name.name())
}

/// Returns the key of the node that has the newest reader of a mailbox.
pub fn claim_key(name: &LogName) -> String {
    format!("overwire:claim:{}", name.name())
}

fn cursor(value: &Value) -> Option<Cursor> {
    std::str::from_utf8(value.as_bytes()?).ok()?.parse().ok()
}
