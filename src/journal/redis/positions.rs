//! The positions of readers that do not send them: clients with a `client_id`, and the one reader of a mailbox.

use std::rc::Rc;

use super::{LIFETIME, Name, Redis, lifetime};
use crate::feed::Cursor;
use crate::journal::{Change, LogName, Wanted};
use crate::resp::Value;

/// The first word of a notice with the position of the reader of a mailbox: `position NODE CURSOR`.
const POSITION: &str = "position";

/// Returns the position in a notice of another node. The outer `None` is for a notice that is not about a position, the
/// inner one for the node's own.
pub fn position_in(notice: &[u8], node: &str) -> Option<Option<Cursor>> {
    let words = std::str::from_utf8(notice).ok()?.strip_prefix(POSITION)?.strip_prefix(' ')?;
    let (by, cursor) = words.split_once(' ')?;
    Some(cursor.parse().ok().filter(|_| by != node))
}

impl Redis {
    /// As [`Journal::note_position`](crate::journal::Journal::note_position).
    pub fn note_position(&mut self, client: &str, name: &LogName, cursor: Cursor) {
        let cursor = cursor.to_string();
        match name {
            LogName::Room(room) => {
                let (key, lifetime) = (client_key(client), LIFETIME.as_millis().to_string());
                self.ask_other(&["HSET", &key, room, &cursor]);
                self.ask_other(&["PEXPIRE", &key, &lifetime]);
            }
            LogName::Mailbox(_) => {
                let notice = format!("{POSITION} {} {cursor}", self.node);
                self.ask_other(&["SET", &reader_key(name), &cursor, "PX", &lifetime(name)]);
                self.ask_other(&["PUBLISH", &self.channel(name), &notice]);
            }
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
            if let (Some(room), Some(cursor)) = (room, cursor(&pair[1])) {
                let log = LogName::Room(room.into());
                self.changes.push_back(Change::Position { client: client.clone(), log, cursor });
            }
        }
        self.changes.push_back(Change::Answered(Wanted::Client(client)));
    }

    /// Asks for the position of the reader of a mailbox.
    pub(super) fn find_reader(&mut self, name: &LogName) {
        self.session.ask(&[b"GET", reader_key(name).as_bytes()], Name::Reader(name.clone()));
    }

    /// Reports the position of the reader of a mailbox.
    pub(super) fn on_reader(&mut self, name: LogName, reply: &Value) {
        if let Some(cursor) = cursor(reply) {
            self.changes.push_back(Change::Position { client: "".into(), log: name.clone(), cursor });
        }
        self.answer(&name);
    }
}

fn client_key(client: &str) -> String {
    format!("overwire:client:{client}")
}

/// Returns the key of the position of the reader of a mailbox.
pub fn reader_key(name: &LogName) -> String {
    format!("overwire:reader:{}", name.name())
}

fn cursor(value: &Value) -> Option<Cursor> {
    std::str::from_utf8(value.as_bytes()?).ok()?.parse().ok()
}
