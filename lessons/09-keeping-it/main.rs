//! Lesson 09, keeping it: votes, as messages in a file. A message is answered and delivered when it is on the
//! disk, and what was answered is there after any crash. This is the server, and `log.rs` is its log.

#[path = "log.rs"]
mod log_file;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use self::log_file::Log;
use lessons::api::{added, cursor, not_allowed, text, uncached};
use lessons::{Extra, Lesson};
use overwire::feed::{Cursor, Feed};
use overwire::http::{Method, Request, Response};
use overwire::journal::disk::{self, LogKind, Record};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "09-keeping-it",
    port: 8009,
    about: "a log on the disk: what was answered outlives the process",
    first: "curl {url}/add-message -d '{\"message\": \"tea\"}'",
    look_for: "the id, which comes when the message is on the disk",
    costs: &[],
};

const DATA: Extra = Extra { usage: "--data FOLDER", about: "the folder of the log", default: "target/09" };

const PAGE: &str = include_str!("page.html");

/// The bounds of the feed.
const RETAINED_MESSAGES: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    LESSON.serve_with(&[DATA], |server, values| Vote::open(Path::new(&values[0]), server), serve)
}

pub fn serve(mut server: EventLoop, mut vote: Vote) -> io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get | Method::Head, "/messages") => server.respond(conn, vote.messages(&request)),
                (Method::Get | Method::Head, "/state") => server.respond(conn, vote.state()),
                (Method::Get | Method::Head, "/waits") => server.respond(conn, vote.waits()),
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => vote.append(conn, text), // it is answered when it is committed
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                (method, "/messages" | "/state" | "/waits") => server.respond(conn, not_allowed(method, "GET, HEAD")),
                (method, "/add-message") => server.respond(conn, not_allowed(method, "POST")),
                _ => server.respond(conn, lessons::page(&request, PAGE)),
            },
            Event::Woken => vote.commit(&mut server),
            Event::Shutdown => {
                vote.log.finish();
                vote.commit(&mut server);
                return server.drain();
            }
            _ => {} // an append is not undone if its sender has gone
        }
    }
}

/// The log in which the messages are.
pub fn log() -> disk::Log<'static> {
    disk::Log { kind: LogKind::Room, name: "vote".into() }
}

/// A message that is not committed yet, and the sender that waits for it.
struct Pending {
    number: u64,
    conn: ExchangeId,
    id: Cursor,
    text: String,
}

/// The votes: each message is one for its text.
pub struct Vote {
    log: Log,
    /// The committed messages.
    feed: Feed<String>,
    /// The state: the number of votes for each text, of all messages that were ever committed.
    counts: BTreeMap<String, u64>,
    pending: VecDeque<Pending>,
    random: Random,
}

impl Vote {
    /// Opens the log in a folder. The state is computed again, from the first record to the last.
    pub fn open(folder: &Path, server: &EventLoop) -> io::Result<Self> {
        let mut random = Random::open()?;
        let start = Cursor::start(&mut random);
        let (mut feed, mut counts) = (Feed::new(start, RETAINED_MESSAGES, RETAINED_BYTES), BTreeMap::new());
        // ANCHOR: recover
        let file = log_file::open(folder, start, |record| match record {
            Record::Start { cursor, .. } => feed = Feed::new(cursor, RETAINED_MESSAGES, RETAINED_BYTES),
            Record::Message { cursor, body, .. } => apply(&mut feed, &mut counts, cursor, text_of(body)),
            _ => {}
        })?;
        // ANCHOR_END: recover
        fs::write(folder.join("pid"), format!("{}\n", std::process::id()))?;
        let log = Log::start(file, server.remote());
        Ok(Vote { log, feed, counts, pending: VecDeque::new(), random })
    }

    /// Appends a message to the log. Nobody sees it before it is committed.
    fn append(&mut self, conn: ExchangeId, text: String) {
        let last = self.pending.back().map_or(self.feed.tip(), |pending| pending.id);
        let id = last.next(&mut self.random);
        let body = json!({ "text": text }).to_string();
        let record = Record::Message { log: log(), cursor: id, time: milliseconds(), key: None, body: &body };
        let number = self.log.append(&record);
        self.pending.push_back(Pending { number, conn, id, text });
    }

    // ANCHOR: commit
    /// Delivers the messages that are on the disk now, and answers their senders.
    fn commit(&mut self, server: &mut EventLoop) {
        let committed = self.log.committed();
        while self.pending.front().is_some_and(|next| next.number <= committed) {
            let Some(next) = self.pending.pop_front() else { return };
            apply(&mut self.feed, &mut self.counts, next.id, next.text);
            server.respond(next.conn, added(next.id));
        }
    }
    // ANCHOR_END: commit

    /// The messages after a cursor, or all that are retained.
    fn messages(&self, request: &Request) -> Response {
        let after = match cursor(request, "last_message_id") {
            Ok(after) => after.unwrap_or(self.feed.last(RETAINED_MESSAGES)),
            Err(sentence) => return Response::error(400, &sentence),
        };
        let messages = self.feed.after(after).map(|(id, text)| json!({ "id": id.to_string(), "text": text }));
        uncached(&json!({
            "messages": messages.collect::<Vec<_>>(),
            "last_message_id": self.feed.tip().to_string(),
            "recovered": self.feed.replay(after).recovered,
        }))
    }

    /// The state, and the cursor of the last change in it. Both are of one moment.
    fn state(&self) -> Response {
        uncached(&json!({ "counts": self.counts, "last_message_id": self.feed.tip().to_string() }))
    }

    fn waits(&self) -> Response {
        uncached(&json!({ "waits": self.log.waits() }))
    }
}

/// Applies a committed message to the feed and to the state.
fn apply(feed: &mut Feed<String>, counts: &mut BTreeMap<String, u64>, id: Cursor, text: String) {
    *counts.entry(text.clone()).or_default() += 1;
    let bytes = text.len();
    feed.append(id, text, bytes);
}

fn text_of(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body["text"].as_str().unwrap_or_default().to_owned()
}

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
