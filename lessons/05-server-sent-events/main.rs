//! Lesson 05, server-sent events: a stream in a format that the browser reads and resumes by itself. `/events` has a
//! tick every second and the posted messages. `/quiet` has only the posted messages.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lessons::api::{added, not_allowed, text};
use lessons::{Costs, Lesson, Receive, Send};
use overwire::feed::{Cursor, Feed};
use overwire::http::{self, Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, Shared, TimerId, sse};
use serde_json::json;

const PAGE: &str = include_str!("page.html");
const BROKEN: &str = include_str!("broken.js");

const LESSON: Lesson = Lesson {
    name: "05-server-sent-events",
    port: 8005,
    about: "events that a browser reads, and resumes, by itself",
    first: "curl -vN {url}/quiet",
    look_for: "an id, and the empty line that ends an event",
    costs: &[Costs { receive: Receive::Sse("/quiet"), send: Send::Json("/add-message") }],
};

/// The interval of ticks on `/events` while anyone listens there.
const TICK: Duration = Duration::from_secs(1);

/// The interval of comments on `/quiet`, which show that a silent stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The time that a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);

/// The bounds of the feed: events, and their bytes.
const RETAINED: (usize, usize) = (1000, 256 * 1024);

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

struct Streams {
    server: EventLoop,
    random: Random,
    feed: Feed<Said>,
    listeners: HashMap<ExchangeId, Listener>,
    ticker: Option<TimerId>,
    ticks: u64,
}

struct Listener {
    stream: Stream,
    /// The timer of the next comment, on `/quiet` alone.
    timer: Option<TimerId>,
}

/// An event as a chunk, encoded once for all readers.
struct Said {
    event: Shared,
    is_tick: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Stream {
    Events,
    Quiet,
}

pub fn serve(server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let feed = Feed::new(Cursor::start(&mut random), RETAINED.0, RETAINED.1);
    let mut streams = Streams { server, random, feed, listeners: HashMap::new(), ticker: None, ticks: 0 };
    loop {
        match streams.server.next_event()? {
            Event::Request(conn, request) => streams.answer(conn, &request),
            Event::Timer(timer) if streams.ticker == Some(timer) => streams.tick(),
            Event::Timer(timer) => streams.beat(timer),
            Event::Closed(conn, _) => streams.forget(conn),
            Event::Shutdown => {
                streams.listeners.keys().for_each(|conn| streams.server.end(*conn));
                return streams.server.drain();
            }
            _ => {}
        }
    }
}

impl Streams {
    fn answer(&mut self, conn: ExchangeId, request: &Request) {
        let response = match (request.method(), &*request.path()) {
            (Method::Get | Method::Head, path @ ("/events" | "/quiet")) => {
                let stream = if path == "/quiet" { Stream::Quiet } else { Stream::Events };
                return self.begin(conn, stream, last_event_id(request));
            }
            (Method::Post, "/add-message") => match text(request.content()) {
                Ok(text) => added(self.publish(&text, false)),
                Err(sentence) => Response::error(400, &sentence),
            },
            (method, "/events" | "/quiet") => not_allowed(method, "GET, HEAD"),
            (method, "/add-message") => not_allowed(method, "POST"),
            _ => lessons::page_with_module(request, PAGE, BROKEN),
        };
        self.server.respond(conn, response);
    }

    // ANCHOR: begin
    fn begin(&mut self, conn: ExchangeId, stream: Stream, cursor: Option<Cursor>) {
        self.server.begin(conn, sse::stream_head());
        let from = self.feed.replay(cursor.unwrap_or(self.feed.tip()));
        let position = json!({ "recovered": from.recovered }).to_string();
        let opening = [
            format!("retry: {}\n", RETRY.as_millis()).into_bytes(),
            sse::event(Some(&from.after.to_string()), "position", &position),
        ];
        self.server.send(conn, &http::chunk(&opening.concat()));
        for (_, said) in self.feed.after(from.after).filter(|(_, said)| said.is_for(stream)) {
            self.server.send(conn, &said.event);
        }
        let timer = (stream == Stream::Quiet).then(|| self.server.set_timer(HEARTBEAT));
        self.listeners.insert(conn, Listener { stream, timer });
        if stream == Stream::Events && self.ticker.is_none() {
            self.ticker = Some(self.server.set_timer(TICK));
        }
    }
    // ANCHOR_END: begin

    // ANCHOR: publish
    fn publish(&mut self, text: &str, is_tick: bool) -> Cursor {
        let id = self.feed.next_cursor(&mut self.random);
        let event = http::chunk(&sse::event(Some(&id.to_string()), "message", text));
        let said = Said { event, is_tick };
        for (conn, _) in self.listeners.iter().filter(|(_, listener)| said.is_for(listener.stream)) {
            self.server.send(*conn, &said.event);
        }
        let bytes = said.event.len();
        self.feed.append(id, said, bytes);
        id
    }
    // ANCHOR_END: publish

    // ANCHOR: tick
    fn tick(&mut self) {
        self.ticker = None;
        if self.listeners.values().any(|listener| listener.stream == Stream::Events) {
            self.ticks += 1;
            self.publish(&format!("Message {}", self.ticks), true);
            self.ticker = Some(self.server.set_timer(TICK));
        }
    }
    // ANCHOR_END: tick

    fn beat(&mut self, timer: TimerId) {
        if let Some((conn, listener)) = self.listeners.iter_mut().find(|(_, one)| one.timer == Some(timer)) {
            self.server.send(*conn, &http::chunk(&sse::comment("still here")));
            listener.timer = Some(self.server.set_timer(HEARTBEAT));
        }
    }

    fn forget(&mut self, conn: ExchangeId) {
        if let Some(timer) = self.listeners.remove(&conn).and_then(|listener| listener.timer) {
            self.server.cancel_timer(timer);
        }
    }
}

impl Said {
    fn is_for(&self, stream: Stream) -> bool {
        stream == Stream::Events || !self.is_tick
    }
}

// ANCHOR: last_event_id
/// Reads the cursor. A browser sends the field when it reconnects. The query is for clients that cannot set a field.
/// A URL stays the same over reconnections, so the query is the older of the two. Any answer but 200 ends an
/// `EventSource` for good, so an id of something else is not an error: it is a cursor that no log continues.
fn last_event_id(request: &Request) -> Option<Cursor> {
    let field = request.field("last-event-id").map(String::from_utf8_lossy);
    let id = [field, request.parameter("last_event_id")].into_iter().flatten().find(|id| !id.is_empty())?;
    Some(id.parse().unwrap_or(Cursor::UNKNOWN))
}
// ANCHOR_END: last_event_id
