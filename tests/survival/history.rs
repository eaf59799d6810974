//! The record of a run as plain data: what the senders of a log were answered, and what its readers received.

use std::time::Duration;

use overwire::feed::Cursor;

/// One log, a room or a mailbox, from its first message to the one that ended the run.
pub struct Log {
    pub name: String,
    /// The messages that were sent to it. Each has another text.
    pub sent: Vec<Sent>,
    pub histories: Vec<History>,
    /// The id of the last message. Every reader reads up to it.
    pub end: Cursor,
    /// The number of times that the log could lose messages: 0 for a journal that promises to keep them.
    pub losses: usize,
    /// The number of servers. After a loss, one may know of it before another.
    pub servers: usize,
    /// The number of messages that the server retains at least. Older ones may be missing.
    pub retained: u64,
}

/// A message of a sender.
pub struct Sent {
    pub text: String,
    /// The time of the first attempt.
    pub begun: Duration,
    /// The ids that the sender was answered, in the order of the answers. Several if it retried after the first.
    pub answers: Vec<(Duration, Cursor)>,
}

/// The events of one reader, in the order in which it received them.
pub struct History {
    pub reader: String,
    /// The position that it began with. `None` if it asked for everything that is retained.
    pub start: Option<Cursor>,
    pub events: Vec<Event>,
}

pub struct Event {
    /// Since the start of the run.
    pub time: Duration,
    pub what: What,
}

pub enum What {
    Message {
        id: Cursor,
        text: String,
    },
    /// `recovered: false`: messages are missing before the next one. With the position that follows, if it was given.
    Told(Option<Cursor>),
    /// The server stated the position of the reader.
    At(Cursor),
    /// An answer that no client may get.
    Wrong(String),
    /// What the reader did, for the one who reads a failure.
    Note(String),
}

impl Event {
    /// Formats the event as a line of a failure.
    pub fn line(&self) -> String {
        let what = match &self.what {
            What::Message { id, text } => format!("{}: {}, {id}", id.sequence(), label(text)),
            What::Told(None) => "recovered: false".into(),
            What::Told(Some(position)) => format!("recovered: false, after {}, {position}", position.sequence()),
            What::At(position) => format!("at {}, {position}", position.sequence()),
            What::Wrong(what) => format!("WRONG: {what}"),
            What::Note(note) => format!("- {note}"),
        };
        format!("{:9.4} s  {what}", self.time.as_secs_f64())
    }
}

/// The part of a text that is shown: its first word, which is the name of the message.
pub fn label(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}
