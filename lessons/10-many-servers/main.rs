//! Lesson 10, many servers: one of several nodes that share a log in Redis. A message that is sent to one node reaches
//! the readers of all, and a cursor of one node is good on every other.

#[path = "log.rs"]
mod log;
#[path = "redis.rs"]
mod redis;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use lessons::api::{cursor, not_allowed, number, text, uncached};
use lessons::{Extra, Lesson};
use overwire::feed::{Cursor, Feed};
use overwire::http::{Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, TimerId};
use serde_json::json;

use self::log::{News, Teller};
use self::redis::Redis;

const LESSON: Lesson = Lesson {
    name: "10-many-servers",
    port: 8011,
    about: "one of several nodes that share a log in Redis",
    first: "curl {url}/add-message -d '{\"message\": \"one\"}'",
    look_for: "the node that has answered",
    costs: &[],
};

const REDIS: Extra = Extra { usage: "--redis PORT", about: "the port of Redis", default: "6310" };

const PAGE: &str = include_str!("page.html");

/// The bounds of the feed.
const RETAINED_MESSAGES: usize = 100;
const RETAINED_BYTES: usize = 64 * 1024;

/// The default and the longest timeout of a poll, in seconds.
const TIMEOUT: u64 = 25;
const LONGEST_TIMEOUT: u64 = 60;

/// The time in which a node gets what another one has appended.
const CATCH_UP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let open = |server: &EventLoop, values: &[String]| match values[0].parse() {
        Ok(port) => Node::open(server, port),
        Err(_) => Err(io::Error::other("--redis: expected a port")),
    };
    LESSON.serve_with(&[REDIS], open, serve)
}

pub fn serve(mut server: EventLoop, mut node: Node) -> io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get | Method::Head, "/messages") => node.poll(&mut server, conn, &request),
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => _ = node.asks.send((conn, text)), // it is answered when it is in the log
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                (method, "/messages") => server.respond(conn, not_allowed(method, "GET, HEAD")),
                (method, "/add-message") => server.respond(conn, not_allowed(method, "POST")),
                _ => server.respond(conn, lessons::page(&request, PAGE)),
            },
            Event::Woken => node.take_news(&mut server)?,
            Event::Timer(timer) => node.answer_held(&mut server, |held, _| held.timer == timer),
            Event::Closed(conn, _) => node.forget(&mut server, conn),
            Event::Shutdown => {
                node.answer_held(&mut server, |_, _| true);
                return server.drain();
            }
            _ => {} // this server opens no WebSocket
        }
    }
}

/// A held poll.
struct Held {
    conn: ExchangeId,
    after: Cursor,
    timer: TimerId,
}

/// A node: a replica of the log, and the polls that wait for its next message.
pub struct Node {
    /// Its address, for the answers.
    name: String,
    feed: Feed<String>,
    held: Vec<Held>,
    asks: Sender<(ExchangeId, String)>,
    news: Receiver<News>,
}

impl Node {
    /// Connects to Redis, and starts the two threads.
    pub fn open(server: &EventLoop, port: u16) -> io::Result<Self> {
        let connect = || {
            let sentence = |error| io::Error::other(format!("no Redis on port {port}: {error}"));
            Redis::connect(port).map_err(sentence)
        };
        let (bell, mut reader, writer) = (connect()?, connect()?, connect()?);
        let start = log::start(&mut reader, &mut Random::open()?)?;
        let ((asks, asked), (sender, news)) = (mpsc::channel(), mpsc::channel());
        let teller = Teller { news: sender, remote: server.remote() };
        let other = teller.clone();
        thread::spawn(move || teller.tell_end(log::follow(bell, reader, start, &teller)));
        thread::spawn(move || other.tell_end(log::append(writer, start, asked, &other)));
        let name = server.local_address().to_string();
        Ok(Node { name, feed: Feed::new(start, RETAINED_MESSAGES, RETAINED_BYTES), held: Vec::new(), asks, news })
    }

    /// Answers a poll if there is news, or holds it.
    fn poll(&mut self, server: &mut EventLoop, conn: ExchangeId, request: &Request) {
        let (after, timeout) = match self.question(request) {
            Ok(question) => question,
            Err(sentence) => return server.respond(conn, Response::error(400, &sentence)),
        };
        // ANCHOR: poll
        if self.has_news(after) {
            return server.respond(conn, self.answer(after));
        }
        // Another node may have given out a cursor that this node does not have yet.
        let timeout = if self.is_ahead(after) { CATCH_UP } else { timeout };
        self.held.push(Held { conn, after, timer: server.set_timer(timeout) });
        // ANCHOR_END: poll
    }

    fn is_ahead(&self, after: Cursor) -> bool {
        let tip = self.feed.tip();
        after.epoch() == tip.epoch() && after.sequence() > tip.sequence()
    }

    fn has_news(&self, after: Cursor) -> bool {
        !self.is_ahead(after) && (self.feed.after(after).len() > 0 || !self.feed.replay(after).recovered)
    }

    /// Takes what the threads tell. A node without Redis ends: it cannot know what happens.
    fn take_news(&mut self, server: &mut EventLoop) -> io::Result<()> {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Message { id, text } => {
                    let bytes = text.len();
                    self.feed.append(id, text, bytes);
                }
                News::Appended { conn, id } => server.respond(
                    conn,
                    uncached(&json!({ "status": "Message added", "id": id.to_string(), "node": self.name })),
                ),
                News::Ended(error) => return Err(io::Error::other(format!("Redis: {error}"))),
            }
        }
        self.answer_held(server, |held, node| node.has_news(held.after));
        Ok(())
    }

    /// Answers the held polls that `is_due` chooses.
    fn answer_held(&mut self, server: &mut EventLoop, is_due: impl Fn(&Held, &Node) -> bool) {
        let held = std::mem::take(&mut self.held);
        let (due, rest): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| is_due(held, self));
        self.held = rest;
        for Held { conn, after, timer } in due {
            server.cancel_timer(timer);
            server.respond(conn, self.answer(after));
        }
    }

    fn forget(&mut self, server: &mut EventLoop, conn: ExchangeId) {
        if let Some(at) = self.held.iter().position(|held| held.conn == conn) {
            server.cancel_timer(self.held.swap_remove(at).timer);
        }
    }

    /// The parameters of a poll: its cursor and its timeout.
    fn question(&self, request: &Request) -> Result<(Cursor, Duration), String> {
        let timeout = number(request, "timeout", 1..=LONGEST_TIMEOUT)?.unwrap_or(TIMEOUT);
        let after = cursor(request, "last_message_id")?;
        Ok((after.unwrap_or(self.feed.last(RETAINED_MESSAGES)), Duration::from_secs(timeout)))
    }

    /// The answer to a poll: the messages after `after`.
    fn answer(&self, after: Cursor) -> Response {
        let messages = self.feed.after(after).map(|(id, text)| json!({ "id": id.to_string(), "text": text }));
        uncached(&json!({
            "messages": messages.collect::<Vec<_>>(),
            "last_message_id": self.feed.tip().to_string(),
            "recovered": self.feed.replay(after).recovered,
            "node": self.name,
        }))
    }
}
