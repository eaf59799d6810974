//! The server of lesson 12, which stands behind a proxy: an event stream that resumes, an echo over WebSocket, and
//! `/who`, which shows a request as it arrives. It believes a proxy on this machine, and no other.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lessons::api::{added, not_allowed, text};
use lessons::{Extra, Lesson};
use overwire::bytes::digits;
use overwire::feed::{Cursor, Feed};
use overwire::http::{self, Method, Request, Response};
use overwire::proxies::{Client, Proxies};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, Shared, sse, websocket};
use serde_json::json;

const PAGE: &str = include_str!("page.html");

const LESSON: Lesson = Lesson {
    name: "12-server",
    port: 9012,
    about: "a server that stands behind a proxy",
    first: "curl {url}/who",
    look_for: "the request, as it has arrived",
    costs: &[],
};

const HEARTBEAT: Extra =
    Extra { usage: "--heartbeat SECONDS", about: "the interval of comments in streams", default: "15" };

fn main() -> ExitCode {
    let open = |_: &EventLoop, values: &[String]| match digits(values[0].as_bytes()) {
        Some(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(io::Error::other("--heartbeat: expected a number from 1 to 3600")),
    };
    LESSON.serve_with(&[HEARTBEAT], open, serve)
}

pub fn serve(mut server: EventLoop, heartbeat: Duration) -> io::Result<()> {
    server.trust_proxies(Proxies::new(["127.0.0.1"]).map_err(io::Error::other)?);
    let mut random = Random::open()?;
    let feed = Feed::new(Cursor::start(&mut random), 100, 64 * 1024);
    server.set_timer(heartbeat);
    let mut site = Site { server, random, feed, streams: BTreeSet::new() };
    loop {
        match site.server.next_event()? {
            Event::Request(conn, request) => site.answer(conn, &request),
            Event::Message(conn, message) => site.server.send_message(conn, message),
            Event::Timer(_) => {
                site.send_to_all(&http::chunk(&sse::comment("still here")));
                site.server.set_timer(heartbeat);
            }
            Event::Closed(conn, _) => _ = site.streams.remove(&conn),
            Event::Shutdown => {
                site.streams.iter().for_each(|conn| site.server.end(*conn));
                return site.server.drain();
            }
            _ => {}
        }
    }
}

struct Site {
    server: EventLoop,
    random: Random,
    feed: Feed<Shared>,
    streams: BTreeSet<ExchangeId>,
}

impl Site {
    fn answer(&mut self, conn: ExchangeId, request: &Request) {
        let client = match self.server.client(conn, request) {
            Ok(client) => client,
            Err(error) => return self.server.respond(conn, Response::error(400, &error.to_string())),
        };
        let response = match (request.method(), &*request.path()) {
            _ if is_foreign(request, &client) => Response::error(403, "Origin is another site's"),
            (Method::Get, "/events") => return self.begin(conn, request),
            (Method::Get, "/ws") => match websocket::accept(request, &[]) {
                Ok(accepted) => return self.server.upgrade(conn, accepted),
                Err(error) => error.response(),
            },
            (Method::Get | Method::Head, "/who") => who(request, &client),
            (Method::Post, "/add-message") => match text(request.content()) {
                Ok(text) => added(self.publish(&text)),
                Err(sentence) => Response::error(400, &sentence),
            },
            (method, "/events" | "/ws" | "/who") => not_allowed(method, "GET"),
            (method, "/add-message") => not_allowed(method, "POST"),
            _ => lessons::page(request, PAGE),
        };
        self.server.respond(conn, response);
    }

    fn begin(&mut self, conn: ExchangeId, request: &Request) {
        let last = request.field("last-event-id").map(String::from_utf8_lossy);
        let cursor = last.map(|id| id.parse().unwrap_or(Cursor::UNKNOWN));
        let from = self.feed.replay(cursor.unwrap_or(self.feed.tip()));
        let position = json!({ "recovered": from.recovered }).to_string();
        self.server.begin(conn, sse::stream_head());
        self.server.send(conn, &http::chunk(&sse::event(Some(&from.after.to_string()), "position", &position)));
        for (_, event) in self.feed.after(from.after) {
            self.server.send(conn, event);
        }
        self.streams.insert(conn);
    }

    fn publish(&mut self, text: &str) -> Cursor {
        let id = self.feed.next_cursor(&mut self.random);
        let event = http::chunk(&sse::event(Some(&id.to_string()), "message", text));
        self.send_to_all(&event);
        let bytes = event.len();
        self.feed.append(id, event, bytes);
        id
    }

    fn send_to_all(&mut self, bytes: &Shared) {
        self.streams.iter().for_each(|conn| self.server.send(*conn, bytes));
    }
}

/// Whether a page of another site asks. The host and the scheme are those that the client has used.
fn is_foreign(request: &Request, client: &Client) -> bool {
    let host = client.host.as_deref().or(request.host()).unwrap_or_default();
    request.values("origin").any(|origin| !http::is_origin_of(origin, host, client.is_secure))
}

/// The client, and the request as it has arrived.
fn who(request: &Request, client: &Client) -> Response {
    let address = client.address.map_or("unknown".to_owned(), |address| address.to_string());
    let host = client.host.as_deref().or(request.host()).unwrap_or_default();
    let scheme = client.is_secure.map_or("unknown", |is_secure| if is_secure { "https" } else { "http" });
    let mut text =
        format!("client {address}, host {host}, scheme {scheme}\n\n{} {}\n", request.method(), request.target());
    for (name, value) in request.fields() {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value));
    }
    Response::text(200, text).with_field("Cache-Control", "no-store")
}
