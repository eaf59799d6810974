//! Lesson 04, HTTP streaming: one answer that never ends. A message is one line of JSON. It goes out as one chunk to
//! all readers, and it is retained for readers that return.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lessons::api::{added, cursor, not_allowed, number, text};
use lessons::{Costs, Lesson, Receive, Send};
use overwire::feed::{Cursor, Feed};
use overwire::http::{self, Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, Shared, TimerId};
use serde_json::{Value, json};

const PAGE: &str = include_str!("page.html");

const LESSON: Lesson = Lesson {
    name: "04-http-streaming",
    port: 8004,
    about: "one answer that never ends, one message a line",
    first: "curl -N --raw {url}/stream",
    look_for: "the size before each chunk, after you send to /add-message",
    costs: &[Costs { receive: Receive::Stream("/stream"), send: Send::Json("/add-message") }],
};

/// The interval of empty lines, which show that a silent stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The bounds of the feed: messages, and their bytes.
const RETAINED: (usize, usize) = (100, 64 * 1024);

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

struct Streams {
    server: EventLoop,
    random: Random,
    /// Each message as a chunk, encoded once for all readers.
    feed: Feed<Shared>,
    readers: HashMap<ExchangeId, Reader>,
}

struct Reader {
    rechunk: Rechunk,
    /// The timer of the next heartbeat.
    timer: TimerId,
}

/// The size of a stream's chunks in bytes. `None` for one chunk a line.
type Rechunk = Option<usize>;

pub fn serve(server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let feed = Feed::new(Cursor::start(&mut random), RETAINED.0, RETAINED.1);
    let mut streams = Streams { server, random, feed, readers: HashMap::new() };
    loop {
        match streams.server.next_event()? {
            Event::Request(conn, request) => streams.answer(conn, &request),
            Event::Timer(timer) => streams.beat(timer),
            Event::Closed(conn, _) => streams.forget(conn),
            Event::Shutdown => {
                streams.readers.keys().for_each(|conn| streams.server.end(*conn));
                return streams.server.drain();
            }
            _ => {}
        }
    }
}

impl Streams {
    fn answer(&mut self, conn: ExchangeId, request: &Request) {
        let response = match (request.method(), &*request.path()) {
            (Method::Get | Method::Head, "/stream") => match question(request) {
                Ok((cursor, rechunk)) => return self.begin(conn, cursor, rechunk),
                Err(sentence) => Response::error(400, &sentence),
            },
            (Method::Post, "/add-message") => match text(request.content()) {
                Ok(text) => self.publish(&text),
                Err(sentence) => Response::error(400, &sentence),
            },
            (method, "/stream") => not_allowed(method, "GET, HEAD"),
            (method, "/add-message") => not_allowed(method, "POST"),
            _ => lessons::page(request, PAGE),
        };
        self.server.respond(conn, response);
    }

    // ANCHOR: begin
    fn begin(&mut self, conn: ExchangeId, cursor: Option<Cursor>, rechunk: Rechunk) {
        let head = Response::new(200)
            .with_field("Content-Type", "application/x-ndjson")
            .with_field("Cache-Control", "no-store")
            .with_field("X-Accel-Buffering", "no");
        self.server.begin(conn, head);
        let from = self.feed.replay(cursor.unwrap_or(self.feed.tip()));
        let mut chunks = Vec::new();
        if !from.recovered {
            chunks.push(line(&json!({ "recovered": false, "last_message_id": from.after.to_string() })));
        }
        chunks.extend(self.feed.after(from.after).map(|(_, chunk)| chunk.clone()));
        send(&mut self.server, conn, rechunk, &chunks);
        self.readers.insert(conn, Reader { rechunk, timer: self.server.set_timer(HEARTBEAT) });
    }
    // ANCHOR_END: begin

    // ANCHOR: publish
    fn publish(&mut self, text: &str) -> Response {
        let id = self.feed.next_cursor(&mut self.random);
        let chunk = line(&json!({ "id": id.to_string(), "text": text }));
        self.feed.append(id, chunk.clone(), chunk.len());
        for (conn, reader) in &self.readers {
            send(&mut self.server, *conn, reader.rechunk, std::slice::from_ref(&chunk));
        }
        added(id)
    }
    // ANCHOR_END: publish

    fn beat(&mut self, timer: TimerId) {
        if let Some((conn, reader)) = self.readers.iter_mut().find(|(_, reader)| reader.timer == timer) {
            self.server.send(*conn, &http::chunk(b"\n"));
            reader.timer = self.server.set_timer(HEARTBEAT);
        }
    }

    fn forget(&mut self, conn: ExchangeId) {
        if let Some(reader) = self.readers.remove(&conn) {
            self.server.cancel_timer(reader.timer);
        }
    }
}

// ANCHOR: line
fn line(value: &Value) -> Shared {
    http::chunk(format!("{value}\n").as_bytes())
}
// ANCHOR_END: line

// ANCHOR: send
/// Sends chunks as they are, or as a proxy may pass them on: joined, and split elsewhere.
fn send(server: &mut EventLoop, to: ExchangeId, rechunk: Rechunk, chunks: &[Shared]) {
    let Some(size) = rechunk else { return chunks.iter().for_each(|chunk| server.send(to, chunk)) };
    let content = chunks.iter().map(|chunk| chunk.unframed()).collect::<Vec<_>>().concat();
    content.chunks(size).for_each(|piece| server.send(to, &http::chunk(piece)));
}
// ANCHOR_END: send

/// The parameters of a stream: its cursor, and the size of its chunks.
fn question(request: &Request) -> Result<(Option<Cursor>, Rechunk), String> {
    let rechunk = number(request, "rechunk", 1..=1000)?.map(|size| size as usize);
    Ok((cursor(request, "last_message_id")?, rechunk))
}
