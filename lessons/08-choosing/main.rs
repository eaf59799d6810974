//! Lesson 08: one feed, and five ways to read it. A message reaches all readers at once, on every transport. Any
//! transport can be unplugged, and a client that falls back to another one continues from its cursor.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use lessons::api::{self, not_allowed, uncached};
use lessons::{Costs, Lesson, Receive, Send};
use overwire::feed::{Cursor, Feed, Replay};
use overwire::http::{self, Method, Request, Response};
use overwire::random::Random;
use overwire::websocket::{self, CloseCode};
use overwire::{Event, EventLoop, ExchangeId, Shared, TimerId, Traffic, sse};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "08-choosing",
    port: 8008,
    about: "one message on five transports, measured; unplug one, and watch a client fall back",
    first: "curl {url}/publish -d '{\"message\": \"hello\"}'",
    look_for: "its id, and what {url}/short has after it",
    costs: &[
        Costs { receive: Receive::ShortPoll("/short", 2), send: Send::Json("/publish") },
        Costs { receive: Receive::LongPoll("/long"), send: Send::Json("/publish") },
        Costs { receive: Receive::Stream("/stream"), send: Send::Json("/publish") },
        Costs { receive: Receive::Sse("/events"), send: Send::Json("/publish") },
        Costs { receive: Receive::WebSocket("/ws"), send: Send::Json("/publish") },
    ],
};

const PAGE: &str = include_str!("page.html");

/// The time that a poll is held, and the interval of heartbeats.
const HOLD: Duration = Duration::from_secs(25);
const HEARTBEAT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Short,
    Long,
    Stream,
    Events,
    WebSocket,
}

impl Transport {
    const ALL: [Transport; 5] =
        [Transport::Short, Transport::Long, Transport::Stream, Transport::Events, Transport::WebSocket];

    /// Returns its name. Its path is the name after a slash.
    fn name(self) -> &'static str {
        ["short", "long", "stream", "events", "ws"][self as usize]
    }

    fn of(name: &str) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| transport.name() == name)
    }

    /// The head of its stream.
    fn head(self) -> Response {
        match self {
            Transport::Events => sse::stream_head(),
            _ => Response::new(200)
                .with_field("Content-Type", "application/x-ndjson")
                .with_field("Cache-Control", "no-store"),
        }
    }

    // ANCHOR: encode
    /// Encodes one JSON value for this transport. The calls nest as the bytes do.
    fn encode(self, id: Cursor, name: &str, json: &str) -> Shared {
        match self {
            Transport::Events => http::chunk(&sse::event(Some(&id.to_string()), name, json)),
            Transport::WebSocket => websocket::text(json),
            _ => http::chunk(format!("{json}\n").as_bytes()),
        }
    }
    // ANCHOR_END: encode
}

/// A held request, or an open stream.
struct Reader {
    transport: Transport,
    /// The cursor that it began after, and whether no message is missing there.
    from: Replay,
    /// The traffic of its connection before.
    since: Traffic,
    timer: Option<TimerId>,
}

/// The cost of a transport so far.
#[derive(Default)]
struct Totals {
    requests: u64,
    messages: u64,
    up: u64,
    down: u64,
}

struct Site {
    server: EventLoop,
    random: Random,
    feed: Feed<String>,
    readers: HashMap<ExchangeId, Reader>,
    unplugged: Vec<Transport>,
    totals: [Totals; 5],
}

pub fn serve(server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let feed = Feed::new(Cursor::start(&mut random), 1000, 1024 * 1024);
    let (readers, unplugged, totals) = (HashMap::new(), Vec::new(), Default::default());
    let mut site = Site { server, random, feed, readers, unplugged, totals };
    let mut beat = site.server.set_timer(HEARTBEAT);
    loop {
        match site.server.next_event()? {
            Event::Request(conn, request) => site.on_request(conn, &request),
            Event::Timer(timer) if timer == beat => {
                site.heartbeat();
                beat = site.server.set_timer(HEARTBEAT);
            }
            Event::Timer(timer) => {
                let over = site.readers.iter().find(|(_, reader)| reader.timer == Some(timer)).map(|(conn, _)| *conn);
                over.into_iter().for_each(|conn| site.answer(conn));
            }
            Event::Closed(conn, _) => drop(site.release(conn)),
            Event::Shutdown => {
                Transport::ALL.into_iter().for_each(|transport| site.unplug(transport));
                return site.server.drain();
            }
            _ => {} // messages of readers are dropped: they only listen
        }
    }
}

impl Site {
    fn on_request(&mut self, conn: ExchangeId, request: &Request) {
        let path = request.path();
        let answer = match (request.method(), path.strip_prefix('/').unwrap_or_default()) {
            (Method::Get | Method::Head, name) if let Some(transport) = Transport::of(name) => {
                match self.read(conn, request, transport) {
                    Ok(()) => return,
                    Err(response) => response,
                }
            }
            (Method::Post, "publish") => self.publish(request.content()),
            (Method::Post, "plug") => self.plug(request.content()),
            (Method::Get | Method::Head, "report") => uncached(&self.report()),
            (method, "publish" | "plug") => not_allowed(method, "POST"),
            (method, name) if name == "report" || Transport::of(name).is_some() => not_allowed(method, "GET, HEAD"),
            _ => lessons::page(request, PAGE),
        };
        self.server.respond(conn, answer);
    }

    /// Answers a reader: every transport is a way to get everything after a cursor.
    fn read(&mut self, conn: ExchangeId, request: &Request, transport: Transport) -> Result<(), Response> {
        if self.unplugged.contains(&transport) {
            let sentence = format!("{} is unplugged: use another transport", transport.name());
            return Err(Response::error(503, &sentence).with_field("Retry-After", "1"));
        }
        let accepted = match transport {
            Transport::WebSocket => Some(websocket::accept(request, &[]).map_err(|error| error.response())?),
            _ => None,
        };
        let after = cursor(request).map_err(|sentence| Response::error(400, &sentence))?;
        // ANCHOR: replay
        let replay = self.feed.replay(after.unwrap_or(self.feed.tip()));
        // ANCHOR_END: replay
        let mut since = self.server.traffic(conn);
        since.received -= request.wire_length() as u64;
        let reader = Reader { transport, from: replay, since, timer: None };
        self.readers.insert(conn, reader);
        self.totals[transport as usize].requests += 1;
        // ANCHOR: begin
        match transport {
            Transport::Short => self.answer(conn),
            Transport::Long if replay.after != self.feed.tip() || !replay.recovered => self.answer(conn),
            Transport::Long => {
                let timer = Some(self.server.set_timer(HOLD));
                self.readers.entry(conn).and_modify(|reader| reader.timer = timer);
            }
            _ => {
                match accepted {
                    Some(accepted) => self.server.upgrade(conn, accepted),
                    None => self.server.begin(conn, transport.head()),
                }
                // The position of the stream: a client may lose its connection before the first message.
                let begins = json!({ "last_message_id": replay.after.to_string(), "recovered": replay.recovered });
                self.server.send(conn, &transport.encode(replay.after, "position", &begins.to_string()));
                for (id, json) in self.feed.after(replay.after) {
                    self.server.send(conn, &transport.encode(id, "message", json));
                    self.totals[transport as usize].messages += 1;
                }
            }
        }
        // ANCHOR_END: begin
        Ok(())
    }

    /// Sends one message to all readers, encoded once for each transport.
    fn publish(&mut self, content: &[u8]) -> Response {
        let text = match api::text(content) {
            Ok(text) => text,
            Err(sentence) => return Response::error(400, &sentence),
        };
        // ANCHOR: publish
        let id = self.feed.next_cursor(&mut self.random);
        let json = json!({ "id": id.to_string(), "text": text }).to_string();
        self.feed.append(id, json.clone(), json.len());
        let encoded = Transport::ALL.map(|transport| transport.encode(id, "message", &json));
        let readers: Vec<_> = self.readers.iter().map(|(conn, reader)| (*conn, reader.transport)).collect();
        for (conn, transport) in readers {
            match transport {
                Transport::Short | Transport::Long => self.answer(conn),
                _ => {
                    self.server.send(conn, &encoded[transport as usize]);
                    self.totals[transport as usize].messages += 1;
                }
            }
        }
        // ANCHOR_END: publish
        Response::json(200, &json!({ "status": "published", "id": id.to_string() }))
    }

    /// Answers a poll with everything after its cursor, perhaps nothing.
    fn answer(&mut self, conn: ExchangeId) {
        let Some(Reader { transport, from, since, timer }) = self.readers.remove(&conn) else { return };
        timer.into_iter().for_each(|timer| self.server.cancel_timer(timer));
        let messages: Vec<&str> = self.feed.after(from.after).map(|(_, json)| &**json).collect();
        self.totals[transport as usize].messages += messages.len() as u64;
        let (tip, recovered) = (self.feed.tip(), from.recovered);
        let content = messages.join(",");
        let content = format!("{{\"messages\":[{content}],\"last_message_id\":\"{tip}\",\"recovered\":{recovered}}}\n");
        let response = Response::new(200).with_content("application/json", content);
        self.server.respond(conn, response.with_field("Cache-Control", "no-store"));
        self.count(transport, since, self.server.traffic(conn));
    }

    /// Forgets a closed reader, and counts its bytes.
    fn release(&mut self, conn: ExchangeId) -> Option<Reader> {
        let reader = self.readers.remove(&conn)?;
        reader.timer.into_iter().for_each(|timer| self.server.cancel_timer(timer));
        self.count(reader.transport, reader.since, self.server.traffic(conn));
        Some(reader)
    }

    fn count(&mut self, transport: Transport, since: Traffic, now: Traffic) {
        let totals = &mut self.totals[transport as usize];
        totals.up += now.received.saturating_sub(since.received); // a closed connection has none
        totals.down += now.sent.saturating_sub(since.sent);
    }

    fn plug(&mut self, content: &[u8]) -> Response {
        let content: Value = serde_json::from_slice(content).unwrap_or_default();
        let transport = content["transport"].as_str().and_then(Transport::of);
        let (Some(transport), Some(plugged_in)) = (transport, content["in"].as_bool()) else {
            let sentence = "expected {\"transport\": \"short\", \"long\", \"stream\", \"events\" or \"ws\", \"in\": true or false}";
            return Response::error(400, sentence);
        };
        self.unplugged.retain(|unplugged| *unplugged != transport);
        if !plugged_in {
            self.unplugged.push(transport);
            self.unplug(transport);
        }
        Response::json(200, &json!({ "transport": transport.name(), "in": plugged_in }))
    }

    // ANCHOR: unplug
    /// Ends everything that is open on a transport. Its readers get the remaining messages on another.
    fn unplug(&mut self, transport: Transport) {
        let readers = self.readers.iter().filter(|(_, reader)| reader.transport == transport);
        let readers: Vec<_> = readers.map(|(conn, _)| *conn).collect();
        for conn in readers {
            match transport {
                Transport::Short | Transport::Long => self.answer(conn),
                Transport::WebSocket => self.server.close(conn, CloseCode::GOING_AWAY, "unplugged"),
                Transport::Stream | Transport::Events => self.server.end(conn),
            }
            self.release(conn);
        }
    }
    // ANCHOR_END: unplug

    fn heartbeat(&mut self) {
        for (conn, reader) in &self.readers {
            match reader.transport {
                Transport::Stream => self.server.send(*conn, &http::chunk(b"\n")),
                Transport::Events => self.server.send(*conn, &http::chunk(&sse::comment("heartbeat"))),
                _ => {} // a poll has its answer, a WebSocket has pings
            }
        }
    }

    fn report(&mut self) -> Value {
        // Open readers count up to now.
        let open: Vec<_> = self.readers.keys().copied().collect();
        for conn in open {
            let now = self.server.traffic(conn);
            let Some(reader) = self.readers.get_mut(&conn) else { continue };
            let (transport, since) = (reader.transport, std::mem::replace(&mut reader.since, now));
            self.count(transport, since, now);
        }
        let rows = Transport::ALL.map(|transport| {
            let Totals { requests, messages, up, down } = self.totals[transport as usize];
            let plugged_in = !self.unplugged.contains(&transport);
            let row = json!({ "requests": requests, "messages": messages, "up": up, "down": down, "in": plugged_in });
            (transport.name().to_owned(), row)
        });
        Value::Object(rows.into_iter().collect())
    }
}

/// Reads a reader's cursor: `last_message_id`, or the field that an EventSource sends by itself.
fn cursor(request: &Request) -> Result<Option<Cursor>, String> {
    match request.field("last-event-id").and_then(|value| str::from_utf8(value).ok()) {
        None | Some("") => api::cursor(request, "last_message_id"),
        // An error would end an EventSource for good.
        Some(id) => Ok(Some(id.parse().unwrap_or(Cursor::UNKNOWN))),
    }
}
