//! Lesson 02, short polling: a client polls again and again, and the server answers at once with the new messages,
//! mostly none. This is the whole server.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lessons::api::{added, cursor, not_allowed, number, text, uncached};
use lessons::{Costs, Lesson, Receive, Send};
use overwire::feed::{Cursor, Feed};
use overwire::http::{Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, TimerId};
use serde_json::json;

const LESSON: Lesson = Lesson {
    name: "02-short-polling",
    port: 8002,
    about: "short polling: a client asks again and again, and is answered at once",
    first: "curl -v {url}/api/messages",
    look_for: "`\"messages\":[]`, which is what most answers say",
    costs: &[Costs { receive: Receive::ShortPoll("/api/messages", 2), send: Send::Json("/add-message") }],
};

const PAGE: &str = include_str!("page.html");
const BROKEN: &str = include_str!("broken.js");

/// The bounds of the feed.
const RETAINED_MESSAGES: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

/// The longest pretended delay of the database, in milliseconds.
const SLOWEST: u64 = 5000;

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let mut feed = Feed::new(Cursor::start(&mut random), RETAINED_MESSAGES, RETAINED_BYTES);
    let mut slow: HashMap<TimerId, (ExchangeId, Response)> = HashMap::new();
    loop {
        match server.next_event()? {
            // ANCHOR: poll
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get | Method::Head, "/api/messages") => match question(&request) {
                    Ok((after, Duration::ZERO)) => server.respond(conn, answer(&feed, after)),
                    Ok((after, delay)) => {
                        slow.insert(server.set_timer(delay), (conn, answer(&feed, after)));
                    }
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                // ANCHOR_END: poll
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => {
                        let (id, bytes) = (feed.next_cursor(&mut random), text.len());
                        feed.append(id, text, bytes);
                        server.respond(conn, added(id));
                    }
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                (method, "/api/messages") => server.respond(conn, not_allowed(method, "GET, HEAD")),
                (method, "/add-message") => server.respond(conn, not_allowed(method, "POST")),
                _ => server.respond(conn, lessons::page_with_module(&request, PAGE, BROKEN)),
            },
            // ANCHOR: timer
            Event::Timer(timer) => {
                if let Some((conn, answer)) = slow.remove(&timer) {
                    server.respond(conn, answer);
                }
            }
            // ANCHOR_END: timer
            Event::Closed(conn, _) => slow.retain(|timer, (waiting, _)| {
                if *waiting == conn {
                    server.cancel_timer(*timer);
                }
                *waiting != conn
            }),
            Event::Shutdown => {
                for (conn, answer) in slow.into_values() {
                    server.respond(conn, answer);
                }
                return server.drain();
            }
            _ => {} // this server opens no WebSocket
        }
    }
}

/// The parameters of a poll: its cursor, and the delay of the database.
fn question(request: &Request) -> Result<(Option<Cursor>, Duration), String> {
    let delay = number(request, "delay", 0..=SLOWEST)?.unwrap_or(0);
    Ok((cursor(request, "last_message_id")?, Duration::from_millis(delay)))
}

// ANCHOR: answer
/// The answer to a poll: the messages after `after`, or all that are retained. `last_message_id` is the cursor of the
/// next poll.
fn answer(feed: &Feed<String>, after: Option<Cursor>) -> Response {
    let after = after.unwrap_or(feed.last(RETAINED_MESSAGES));
    let messages = feed.after(after).map(|(id, text)| json!({ "id": id.to_string(), "text": text }));
    uncached(&json!({
        "messages": messages.collect::<Vec<_>>(),
        "last_message_id": feed.tip().to_string(),
        "recovered": feed.replay(after).recovered,
        "stopPolling": false,
    }))
}
// ANCHOR_END: answer
