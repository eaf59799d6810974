//! A node of many examples. It reads the log when it starts, and subscribes when its first reader comes. It draws its
//! own epoch.

#[path = "redis.rs"]
mod redis;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use lessons::api::{cursor, text, uncached};
use lessons::{Extra, Lesson};
use overwire::event_loop::Remote;
use overwire::feed::{Cursor, Feed};
use overwire::http::{Method, Request, Response};
use overwire::random::Random;
use overwire::resp::Value;
use overwire::{Event, EventLoop};
use serde_json::json;

use self::redis::Redis;

const LESSON: Lesson = Lesson {
    name: "10-broken",
    port: 8011,
    about: "a node that misses messages, and knows no cursor of another node",
    first: "curl {url}/messages",
    look_for: "nothing yet; with this, the node has its first reader",
    costs: &[],
};

const REDIS: Extra = Extra { usage: "--redis PORT", about: "the port of Redis", default: "6310" };

const STREAM: &[u8] = b"broken:stream";
const CHANNEL: &[u8] = b"broken:channel";

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
                (Method::Get, "/messages") => {
                    node.subscribe(server.remote())?;
                    server.respond(conn, node.answer(&request));
                }
                (Method::Post, "/add-message") => match text(request.content()) {
                    Ok(text) => server.respond(conn, node.publish(text.as_bytes())?),
                    Err(sentence) => server.respond(conn, Response::error(400, &sentence)),
                },
                (_, path) => server.respond(conn, Response::error(404, &format!("there is nothing at {path}"))),
            },
            Event::Woken => node.take_news(),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

pub struct Node {
    name: String,
    redis: Redis,
    /// The connection for the subscription, until there is one.
    bell: Option<Redis>,
    feed: Feed<String>,
    random: Random,
    news: (Sender<String>, Receiver<String>),
}

impl Node {
    // ANCHOR: open
    pub fn open(server: &EventLoop, port: u16) -> io::Result<Self> {
        let (mut redis, bell, mut random) = (Redis::connect(port)?, Redis::connect(port)?, Random::open()?);
        // BUG: each process draws an epoch. A cursor of one node is unknown on every other.
        let start = Cursor::start(&mut random);
        let entries = redis.ask(&[b"XRANGE", STREAM, b"-", b"+"])?;
        // ANCHOR_END: open
        let name = server.local_address().to_string();
        let mut node = Node {
            name,
            redis,
            bell: Some(bell),
            feed: Feed::new(start, 100, 64 * 1024),
            random,
            news: mpsc::channel(),
        };
        for entry in entries.values().unwrap_or_default() {
            let fields = entry.values().and_then(|entry| entry.get(1)?.values()).unwrap_or_default();
            node.append(text_of(fields.get(1)));
        }
        Ok(node)
    }

    // ANCHOR: subscribe
    /// Subscribes when the first reader comes.
    fn subscribe(&mut self, remote: Remote) -> io::Result<()> {
        let Some(mut bell) = self.bell.take() else { return Ok(()) };
        // BUG: what was published since the log was read is gone. Nobody looks into the log again.
        bell.ask(&[b"SUBSCRIBE", CHANNEL])?;
        // ANCHOR_END: subscribe
        let news = self.news.0.clone();
        thread::spawn(move || {
            while let Ok(message) = bell.next_value() {
                let text = text_of(message.values().and_then(|message| message.get(2)));
                if news.send(text).is_err() {
                    return;
                }
                remote.notify();
            }
        });
        Ok(())
    }

    fn publish(&mut self, text: &[u8]) -> io::Result<Response> {
        self.redis.ask(&[b"XADD", STREAM, b"*", b"text", text])?;
        self.redis.ask(&[b"PUBLISH", CHANNEL, text])?;
        Ok(uncached(&json!({ "status": "Message added", "node": self.name })))
    }

    fn take_news(&mut self) {
        while let Ok(text) = self.news.1.try_recv() {
            self.append(text);
        }
    }

    fn append(&mut self, text: String) {
        let (id, bytes) = (self.feed.next_cursor(&mut self.random), text.len());
        self.feed.append(id, text, bytes);
    }

    fn answer(&self, request: &Request) -> Response {
        let after = cursor(request, "last_message_id").ok().flatten().unwrap_or(self.feed.last(100));
        uncached(&json!({
            "messages": self.feed.after(after).map(|(_, text)| text).collect::<Vec<_>>(),
            "last_message_id": self.feed.tip().to_string(),
            "recovered": self.feed.replay(after).recovered,
            "node": self.name,
        }))
    }
}

fn text_of(value: Option<&Value>) -> String {
    String::from_utf8_lossy(value.and_then(Value::as_bytes).unwrap_or_default()).into_owned()
}
