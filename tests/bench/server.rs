//! The program under load: the smallest program over the library with each transport, to compare with similar programs.
//! `cargo run --release --example bench-server -- --port 7000`
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

use overwire::http::{Method, Request, Response};
use overwire::websocket::Message;
use overwire::{Event, EventLoop, ExchangeId, Limits, Shared, http, sse, websocket};

/// The number of messages that are kept for polls.
const RETAINED: usize = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into()).collect();
    let port = match &arguments[..] {
        [] => Some(7000),
        [name, port] if name == "--port" => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: bench-server [--port 7000]");
        return ExitCode::from(2);
    };
    match run(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-server: port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: u16) -> io::Result<()> {
    let mut server = EventLoop::bind(("127.0.0.1", port), Limits::default())?;
    server.watch_signals()?;
    println!("listening on http://{}", server.local_address());
    let mut room = Room::default();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => answer(&mut server, &mut room, conn, &request),
            Event::Message(conn, Message::Text(text)) if room.websockets.contains(&conn) => {
                room.publish(&mut server, text)
            }
            Event::Message(conn, message) => server.send_message(conn, message),
            Event::Closed(conn, _) => room.leave(conn),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

fn answer(server: &mut EventLoop, room: &mut Room, conn: ExchangeId, request: &Request) {
    match (request.method(), &*request.path()) {
        (Method::Get, "/hello") => server.respond(conn, Response::text(200, "hello")),
        (Method::Get, path @ ("/echo" | "/ws")) => match websocket::accept(request, &[]) {
            Ok(accepted) => {
                server.upgrade(conn, accepted);
                if path == "/ws" {
                    room.websockets.insert(conn);
                }
            }
            Err(error) => server.respond(conn, error.response()),
        },
        (Method::Get, "/sse") => {
            server.begin(conn, sse::stream_head());
            room.events.insert(conn);
        }
        (Method::Get, "/chunk") => {
            server.begin(conn, Response::new(200).with_field("Content-Type", "text/plain; charset=utf-8"));
            room.chunks.insert(conn);
        }
        (Method::Get, "/poll") => match request.parameter("since").map(|since| since.parse()) {
            Some(Ok(since)) => room.poll(server, conn, since),
            _ => server.respond(conn, Response::error(400, "since: expected a whole number")),
        },
        (Method::Post, "/pub") => match str::from_utf8(request.content()) {
            Ok(text) => {
                room.publish(server, text.to_owned());
                server.respond(conn, Response::new(204));
            }
            Err(_) => server.respond(conn, Response::error(400, "expected text in UTF-8")),
        },
        _ => server.respond(conn, Response::error(404, "expected /hello, /echo, /ws, /sse, /chunk, /poll or /pub")),
    }
}

/// The room: its last messages and its subscribers.
#[derive(Default)]
struct Room {
    /// The number of the newest message. The first one has number 1.
    newest: u64,
    retained: VecDeque<String>,
    websockets: BTreeSet<ExchangeId>,
    events: BTreeSet<ExchangeId>,
    chunks: BTreeSet<ExchangeId>,
    polls: BTreeSet<ExchangeId>,
}

impl Room {
    /// Encodes a message once for each transport, and sends it to all subscribers.
    fn publish(&mut self, server: &mut EventLoop, text: String) {
        self.newest += 1;
        let send = |server: &mut EventLoop, to: &BTreeSet<ExchangeId>, bytes: &Shared| {
            for conn in to {
                server.send(*conn, bytes);
            }
        };
        send(server, &self.websockets, &websocket::text(&text));
        send(server, &self.events, &http::chunk(&sse::event(Some(&self.newest.to_string()), "message", &text)));
        send(server, &self.chunks, &http::chunk(text.as_bytes()));
        let answer = poll_answer(self.newest, &text);
        for conn in std::mem::take(&mut self.polls) {
            server.respond(conn, answer.clone());
        }
        self.retained.push_back(text);
        if self.retained.len() > RETAINED {
            self.retained.pop_front();
        }
    }

    /// Answers with the first message after `since`, or holds the poll.
    fn poll(&mut self, server: &mut EventLoop, conn: ExchangeId, since: u64) {
        let oldest = self.newest + 1 - self.retained.len() as u64;
        let number = oldest.max(since.saturating_add(1));
        match self.retained.get((number - oldest) as usize) {
            Some(text) => server.respond(conn, poll_answer(number, text)),
            None => drop(self.polls.insert(conn)),
        }
    }

    fn leave(&mut self, conn: ExchangeId) {
        for set in [&mut self.websockets, &mut self.events, &mut self.chunks, &mut self.polls] {
            set.remove(&conn);
        }
    }
}

/// An answer whose clones share its content.
fn poll_answer(id: u64, message: &str) -> Response {
    let content = Shared::from(serde_json::json!({ "id": id, "message": message }).to_string().into_bytes());
    Response::new(200).with_content("application/json", &content).with_field("Cache-Control", "no-store")
}
