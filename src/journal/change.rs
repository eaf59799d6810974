//! The news of the journal, and the answers to what was asked of it.

use std::rc::Rc;

#[cfg(doc)]
use super::Journal;
use super::LogName;
use crate::feed::Cursor;
use crate::identity::Digest;

/// The number of an [asked](Journal::append) message. The numbers of a journal count up from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A change of a log, or the answer to a sender.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A log exists. The messages after `start` follow as [`Appended`](Change::Appended).
    Opened {
        /// The log.
        log: LogName,
        /// The position before its first message.
        start: Cursor,
    },
    /// All that is known of what was looked for has been returned.
    Answered(Wanted),
    /// A message is committed.
    Appended {
        /// The log.
        log: LogName,
        /// The position after the message: its id.
        cursor: Cursor,
        /// The message as JSON without its id.
        body: String,
        /// The number of the message. `None` if another process, or an earlier one, has appended it.
        ticket: Option<Ticket>,
    },
    /// The key of a message is known: the message was appended before.
    Repeated {
        /// The number of the retry.
        ticket: Ticket,
        /// The id of the first message with the key.
        cursor: Cursor,
        /// The time of the first message with the key, in seconds since the epoch.
        timestamp: f64,
    },
    /// A message is not appended.
    Refused {
        /// The number of the message.
        ticket: Ticket,
        /// The reason.
        refusal: Refusal,
    },
    /// The log has lost the messages after `tip`.
    Truncated {
        /// The log.
        log: LogName,
        /// The position after the newest message that is left.
        tip: Cursor,
    },
    /// The log is removed.
    Removed {
        /// The log.
        log: LogName,
    },
    /// Another process has a newer reader of a mailbox.
    Superseded {
        /// The log of the mailbox.
        log: LogName,
    },
    /// This process is to [announce](Journal::announce) its numbers.
    NumbersWanted,
    /// Another process wants clients to be ended. [`Journal::clients_ended`] answers it.
    EndClients {
        /// The request.
        asker: Asker,
        /// The ids of the clients.
        clients: Vec<String>,
    },
    /// All other processes have ended the clients of a request.
    Ended {
        /// The number of the request.
        ticket: Ticket,
        /// Whether one of them knew one of the clients.
        is_known: bool,
    },
    /// What was asked with this number is done.
    Done {
        /// The number.
        ticket: Ticket,
    },
    /// The text of a secret that was looked for. Or the secret is over: another process has dropped it.
    Secret {
        /// The secret.
        name: SecretName,
        /// The text. `None` if there is no such secret any more.
        text: Option<String>,
    },
    /// This process was away: any secret may be over. Those in use are to be looked for again.
    SecretsUnsure,
    /// The positions of a client were dropped, because it was ended.
    PositionsDropped {
        /// The `client_id`.
        client: Rc<str>,
    },
    /// The stored position of a reader, at the start.
    Position {
        /// The `client_id`. Empty for the one reader of a mailbox.
        client: Rc<str>,
        /// The log.
        log: LogName,
        /// The position after the last message that the reader has.
        cursor: Cursor,
    },
}

/// A request of another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker(pub(super) String, pub(super) u64);

/// The processes that share the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeList<'a> {
    /// The name of this one.
    pub own: &'a str,
    /// The names of the others, each with the numbers that it has [announced](Journal::announce) last.
    pub others: Vec<(&'a str, &'a str)>,
}

/// Something that another process may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A log.
    Log(LogName),
    /// The log with this epoch.
    Epoch(u64),
    /// The positions of the client with this `client_id`.
    Client(Rc<str>),
    /// A position in a log, which comes from a reader, and the messages after it.
    Position(LogName, Cursor),
    /// The text of a secret.
    Secret(SecretName),
}

/// The name of a secret that all processes share: its digest. The secret itself is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretName {
    /// A session. To look for it is to use it: its idle time begins again.
    Session(Digest),
    /// A ticket. The first who looks for it gets it, and nobody else.
    Ticket(Digest),
}

/// The reason why a message is not appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The key belongs to another sender or text.
    Conflict,
    /// There is no memory for another key.
    TooManyKeys,
    /// The journal cannot append at present. The sentence says why.
    Unavailable(String),
}
