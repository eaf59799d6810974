//! Lesson 06: WebSocket. `/echo` sends each message back. `/chat` sends each text to all members, including its sender.
//! The handshake, the frames, pings and closes are in `src/websocket`. This file decides who may join, and
//! who gets which message.

use std::collections::HashSet;
use std::io;
use std::process::ExitCode;

use lessons::api::is_foreign;
use lessons::{Costs, Lesson, Receive, Send};
use overwire::http::{Request, Response};
use overwire::websocket::{self, Accepted, CloseCode, Message};
use overwire::{Event, EventLoop, ExchangeId};

const PAGE: &str = include_str!("page.html");

const LESSON: Lesson = Lesson {
    name: "06-websocket",
    port: 8006,
    about: "an echo at /echo and a chat at /chat, in WebSocket frames",
    first: "curl -vN --output - {url}/chat -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
            -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='",
    look_for: "101 Switching Protocols: from there on, the connection carries frames and no HTTP",
    costs: &[Costs { receive: Receive::WebSocket("/chat"), send: Send::Frame("/chat") }],
};

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut chat: HashSet<ExchangeId> = HashSet::new();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match &*request.path() {
                path @ ("/echo" | "/chat") => match open(&request) {
                    Ok(accepted) => {
                        server.upgrade(conn, accepted);
                        if path == "/chat" {
                            chat.insert(conn);
                        }
                    }
                    Err(refusal) => server.respond(conn, refusal),
                },
                _ => server.respond(conn, lessons::page(&request, PAGE)),
            },
            // ANCHOR: chat
            Event::Message(conn, message) if chat.contains(&conn) => match message {
                Message::Text(text) => {
                    let frame = websocket::text(&text);
                    for member in &chat {
                        server.send(*member, &frame);
                    }
                }
                Message::Binary(_) => {
                    chat.remove(&conn);
                    server.close(conn, CloseCode::UNSUPPORTED_DATA, "the chat takes text, not binary");
                }
            },
            // ANCHOR_END: chat
            Event::Message(conn, message) => server.send_message(conn, message),
            Event::Closed(conn, _) => {
                chat.remove(&conn);
            }
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

/// The answer to an opening handshake: 101, or the refusal.
fn open(request: &Request) -> Result<Accepted, Response> {
    if is_foreign(request) {
        let sentence = "Origin is another site's: expected this server's own page, or a client other than a browser";
        return Err(Response::error(403, sentence));
    }
    websocket::accept(request, &[]).map_err(|error| error.response())
}
