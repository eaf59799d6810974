//! The same server, ended as most servers are: it closes its socket and all connections at once, and all of its followers
//! come back at once.

#[path = "log.rs"]
mod log;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{io, process};

use lessons::api::{text, uncached};
use lessons::{Extra, Lesson};
use overwire::bytes::digits;
use overwire::http::{self, Method, Request, Response};
use overwire::{Event, EventLoop, ExchangeId, sse};
use serde_json::json;

use self::log::Log;

const LESSON: Lesson = Lesson {
    name: "13-broken",
    port: 8013,
    about: "a server that ends everything at once",
    first: "curl -N {url}/events",
    look_for: "the same two seconds for everybody",
    costs: &[],
};

const DATA: Extra = Extra { usage: "--data FOLDER", about: "the folder of the log", default: "target/13" };

/// The time after which every follower comes back.
const RETRY: Duration = Duration::from_secs(2);

/// The time between two looks for what other processes have appended.
const LOOK: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    LESSON.serve_with(&[DATA], |_, values| Log::open(Path::new(&values[0])), serve)
}

pub fn serve(server: EventLoop, log: Log) -> io::Result<()> {
    let mut site = Site { end: log.tip()?, server, log, followers: HashSet::new() };
    site.server.set_timer(LOOK);
    loop {
        match site.server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get, "/events") => site.begin(conn, &request)?,
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => {
                        let id = site.log.append(&text)?.to_string();
                        site.server.respond(conn, uncached(&json!({ "status": "Message added", "id": id })));
                    }
                    Err(sentence) => site.server.respond(conn, Response::error(400, &sentence)),
                },
                (_, path) => site.server.respond(conn, Response::error(404, &format!("there is nothing at {path}"))),
            },
            Event::Timer(_) => {
                site.deliver()?;
                site.server.set_timer(LOOK);
            }
            Event::Closed(conn, _) => _ = site.followers.remove(&conn),
            // ANCHOR: end
            // BUG: from here until the next process listens, each connection is refused. All followers are ended in one
            // moment, and wait equally long.
            Event::Shutdown => {
                site.followers.iter().for_each(|conn| site.server.end(*conn));
                return site.server.drain();
            }
            // ANCHOR_END: end
            _ => {}
        }
    }
}

struct Site {
    server: EventLoop,
    log: Log,
    end: u64,
    followers: HashSet<ExchangeId>,
}

impl Site {
    fn begin(&mut self, conn: ExchangeId, request: &Request) -> io::Result<()> {
        self.deliver()?;
        let cursor = request.field("last-event-id").and_then(digits);
        let from = cursor.filter(|cursor| self.log.has(*cursor).unwrap_or(false)).unwrap_or(self.end);
        let position = json!({ "process": process::id(), "recovered": true }).to_string();
        self.server.begin(conn, sse::stream_head());
        self.server.send(conn, &http::chunk(&sse::opening(&from.to_string(), RETRY, "position", &position)));
        for (cursor, text) in self.log.after(from)?.into_iter().filter(|(cursor, _)| *cursor <= self.end) {
            self.server.send(conn, &http::chunk(&sse::event(Some(&cursor.to_string()), "message", &text)));
        }
        self.followers.insert(conn);
        Ok(())
    }

    fn deliver(&mut self) -> io::Result<()> {
        for (cursor, text) in self.log.after(self.end)? {
            let event = http::chunk(&sse::event(Some(&cursor.to_string()), "message", &text));
            self.followers.iter().for_each(|conn| self.server.send(*conn, &event));
            self.end = cursor;
        }
        Ok(())
    }
}
