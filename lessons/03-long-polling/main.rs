//! Lesson 03, long polling: the server holds a poll until there is a message, or until its deadline. This is the whole
//! server.

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
    name: "03-long-polling",
    port: 8003,
    about: "long polling: the server holds a poll until there is a message",
    first: "curl -v '{url}/messages?timeout=60'",
    look_for: "no answer until you run this in another terminal, within a minute: curl {url}/add-message -d '{\"message\": \"one\"}'",
    costs: &[Costs { receive: Receive::LongPoll("/messages"), send: Send::Json("/add-message") }],
};

const PAGE: &str = include_str!("page.html");

/// The bounds of the feed.
const RETAINED_MESSAGES: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

/// The default and the longest timeout of a poll, in seconds.
const TIMEOUT: u64 = 25;
const LONGEST_TIMEOUT: u64 = 60;

// ANCHOR: held
/// A held poll. Its client has seen every message: other polls are answered at once.
struct Held {
    conn: ExchangeId,
    timer: TimerId,
}
// ANCHOR_END: held

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let mut feed = Feed::new(Cursor::start(&mut random), RETAINED_MESSAGES, RETAINED_BYTES);
    let mut held: Vec<Held> = Vec::new();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                // ANCHOR: hold
                (Method::Get | Method::Head, "/messages") => match question(&request, &feed) {
                    Ok((after, _)) if can_answer(&feed, after) => server.respond(conn, answer(&feed, after, false)),
                    Ok((_, timeout)) => held.push(Held { conn, timer: server.set_timer(timeout) }),
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                // ANCHOR_END: hold
                // ANCHOR: wake
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => {
                        let (seen, bytes) = (feed.tip(), text.len());
                        let id = feed.next_cursor(&mut random);
                        feed.append(id, text, bytes);
                        server.respond(conn, added(id));
                        let news = answer(&feed, seen, false);
                        for Held { conn, timer } in held.drain(..) {
                            server.cancel_timer(timer);
                            server.respond(conn, news.clone());
                        }
                    }
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                // ANCHOR_END: wake
                (method, "/messages") => server.respond(conn, not_allowed(method, "GET, HEAD")),
                (method, "/add-message") => server.respond(conn, not_allowed(method, "POST")),
                _ => server.respond(conn, lessons::page(&request, PAGE)),
            },
            // ANCHOR: over
            Event::Timer(timer) => {
                if let Some(at) = held.iter().position(|poll| poll.timer == timer) {
                    server.respond(held.remove(at).conn, answer(&feed, feed.tip(), true));
                }
            }
            Event::Closed(conn, _) => {
                if let Some(at) = held.iter().position(|poll| poll.conn == conn) {
                    server.cancel_timer(held.remove(at).timer);
                }
            }
            // ANCHOR_END: over
            Event::Shutdown => {
                for poll in held {
                    server.respond(poll.conn, answer(&feed, feed.tip(), true));
                }
                return server.drain();
            }
            _ => {} // this server opens no WebSocket
        }
    }
}

/// The parameters of a poll: its cursor and its timeout.
fn question(request: &Request, feed: &Feed<String>) -> Result<(Cursor, Duration), String> {
    let timeout = number(request, "timeout", 1..=LONGEST_TIMEOUT)?.unwrap_or(TIMEOUT);
    let after = cursor(request, "last_message_id")?;
    Ok((after.unwrap_or(feed.last(RETAINED_MESSAGES)), Duration::from_secs(timeout)))
}

// ANCHOR: news
/// Whether a poll can be answered at once: it gets messages, or learns that some may be missing.
fn can_answer(feed: &Feed<String>, after: Cursor) -> bool {
    feed.after(after).len() > 0 || !feed.replay(after).recovered
}
// ANCHOR_END: news

/// The answer to a poll: the messages after `after`. `last_message_id` is the cursor of the next poll.
fn answer(feed: &Feed<String>, after: Cursor, timeout: bool) -> Response {
    let messages = feed.after(after).map(|(id, text)| json!({ "id": id.to_string(), "text": text }));
    uncached(&json!({
        "messages": messages.collect::<Vec<_>>(),
        "last_message_id": feed.tip().to_string(),
        "recovered": feed.replay(after).recovered,
        "timeout": timeout,
    }))
}
