//! The program under load: the smallest program over the library with each transport, to compare with similar programs.
//! `cargo run --release --example bench-server -- --port 7000`
//!
//! With `--unhurried` no turn ends because of its time. So the number of system calls does not depend on it.
//!
//! - GET /hello: `hello`
//! - WebSocket /echo: text as text, binary as binary
//! - WebSocket /ws: joins the one room and publishes its messages there
//! - GET /sse, GET /chunk: the room as a stream, with one event or chunk for each message
//! - GET /poll?since=N: waits for a message with a greater number, and answers `{"id": N, "message": "..."}`
//! - POST /pub: publishes its content, which must be text

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use overwire::http::{Method, Request, Response};
use overwire::websocket::Message;
use overwire::{Event, EventLoop, ExchangeId, GroupId, Limits, Shared, http, sse, websocket};

/// The number of messages that are kept for polls.
const RETAINED: usize = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into()).collect();
    let (words, limits) = match &arguments[..] {
        [words @ .., last] if last == "--unhurried" => {
            (words, Limits { turn_time: Duration::MAX, ..Limits::default() })
        }
        words => (words, Limits::default()),
    };
    let port = match words {
        [] => Some(7000),
        [name, port] if name == "--port" => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: bench-server [--port 7000] [--unhurried]");
        return ExitCode::from(2);
    };
    match run(port, limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-server: port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: u16, limits: Limits) -> io::Result<()> {
    let mut server = EventLoop::bind(("127.0.0.1", port), limits)?;
    server.watch_signals()?;
    println!("listening on http://{}", server.local_address());
    let mut room = Room::new(&mut server);
    loop {
        match server.next_event()? {
            Event::Request(id, request) => answer(&mut server, &mut room, id, &request),
            Event::Message(id, Message::Text(text)) if server.group_of(id).is_some() => room.publish(&mut server, text),
            Event::Message(id, message) => server.send_message(id, message),
            Event::Closed(id, _) => drop(room.polls.remove(&id)),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

fn answer(server: &mut EventLoop, room: &mut Room, id: ExchangeId, request: &Request) {
    match (request.method(), &*request.path()) {
        (Method::Get, "/hello") => server.respond(id, Response::text(200, "hello")),
        (Method::Get, path @ ("/echo" | "/ws")) => match websocket::accept(request, &[]) {
            Ok(accepted) => {
                server.upgrade(id, accepted);
                if path == "/ws" {
                    server.join(room.websockets, id);
                }
            }
            Err(error) => server.respond(id, error.response()),
        },
        (Method::Get, "/sse") => {
            server.begin(id, sse::stream_head());
            server.join(room.events, id);
        }
        (Method::Get, "/chunk") => {
            server.begin(id, Response::new(200).with_field("Content-Type", "text/plain; charset=utf-8"));
            server.join(room.chunks, id);
        }
        (Method::Get, "/poll") => match request.parameter("since").map(|since| since.parse()) {
            Some(Ok(since)) => room.poll(server, id, since),
            _ => server.respond(id, Response::error(400, "since: expected a whole number")),
        },
        (Method::Post, "/pub") => match str::from_utf8(request.content()) {
            Ok(text) => {
                room.publish(server, text.to_owned());
                server.respond(id, Response::new(204));
            }
            Err(_) => server.respond(id, Response::error(400, "expected text in UTF-8")),
        },
        _ => server.respond(id, Response::error(404, "expected /hello, /echo, /ws, /sse, /chunk, /poll or /pub")),
    }
}

/// The room: its last messages and its subscribers.
struct Room {
    /// The number of the newest message. The first one has number 1.
    newest: u64,
    retained: VecDeque<String>,
    websockets: GroupId,
    events: GroupId,
    chunks: GroupId,
    polls: BTreeSet<ExchangeId>,
}

impl Room {
    fn new(server: &mut EventLoop) -> Self {
        Room {
            newest: 0,
            retained: VecDeque::new(),
            websockets: server.group(),
            events: server.group(),
            chunks: server.group(),
            polls: BTreeSet::new(),
        }
    }

    /// Encodes a message once for each transport, and sends it to all subscribers.
    fn publish(&mut self, server: &mut EventLoop, text: String) {
        self.newest += 1;
        server.send_to_group(self.websockets, &websocket::text(&text));
        let event = sse::event(Some(&self.newest.to_string()), "message", &text);
        server.send_to_group(self.events, &http::chunk(&event));
        server.send_to_group(self.chunks, &http::chunk(text.as_bytes()));
        let answer = poll_answer(self.newest, &text);
        for id in std::mem::take(&mut self.polls) {
            server.respond(id, answer.clone());
        }
        self.retained.push_back(text);
        if self.retained.len() > RETAINED {
            self.retained.pop_front();
        }
    }

    /// Answers with the first message after `since`, or holds the poll.
    fn poll(&mut self, server: &mut EventLoop, id: ExchangeId, since: u64) {
        let oldest = self.newest + 1 - self.retained.len() as u64;
        let number = oldest.max(since.saturating_add(1));
        match self.retained.get((number - oldest) as usize) {
            Some(text) => server.respond(id, poll_answer(number, text)),
            None => drop(self.polls.insert(id)),
        }
    }
}

/// An answer whose clones share its content.
fn poll_answer(id: u64, message: &str) -> Response {
    let content = Shared::from(serde_json::json!({ "id": id, "message": message }).to_string().into_bytes());
    Response::new(200).with_content("application/json", &content).with_field("Cache-Control", "no-store")
}
