//! The long-polling server of many tutorials: one queue for all readers, which the next poll empties. It loses messages
//! in three ways. Each time, the sender still gets a 200.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::process::ExitCode;
use std::time::Duration;

use lessons::Lesson;
use overwire::http::{Method, Request, Response};
use overwire::{Event, EventLoop, ExchangeId, TimerId};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "03-broken",
    port: 8003,
    about: "long polling that loses messages: one queue, which the next poll empties",
    first: "curl -v '{url}/messages?timeout=600'",
    look_for: "only one of two such polls gets a message",
    costs: &[],
};

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut queue: Vec<String> = Vec::new();
    let mut waiting: VecDeque<(ExchangeId, TimerId)> = VecDeque::new();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get, "/messages") if queue.is_empty() => {
                    waiting.push_back((conn, server.set_timer(timeout(&request))));
                }
                // ANCHOR: bugs
                // BUG: this poll takes the messages out of the queue. No other poll gets them.
                (Method::Get, "/messages") => server.respond(conn, answer(mem::take(&mut queue), false)),
                (Method::Post, "/add-message") => {
                    queue.push(text(request.content()));
                    server.respond(conn, Response::json(200, &json!({ "status": "Message added" })));
                    // BUG: only the oldest held poll is answered.
                    if let Some((reader, timer)) = waiting.pop_front() {
                        server.cancel_timer(timer);
                        server.respond(reader, answer(mem::take(&mut queue), false));
                    }
                }
                // ANCHOR_END: bugs
                _ => server.respond(conn, Response::error(404, "no such path")),
            },
            Event::Timer(timer) => {
                if let Some(at) = waiting.iter().position(|(_, deadline)| *deadline == timer)
                    && let Some((conn, _)) = waiting.remove(at)
                {
                    server.respond(conn, answer(Vec::new(), true));
                }
            }
            // ANCHOR: closed
            // BUG: a closed poll stays in `waiting`. The next messages are sent to it, and are lost.
            Event::Closed(..) => {}
            // ANCHOR_END: closed
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

fn answer(messages: Vec<String>, timeout: bool) -> Response {
    Response::json(200, &json!({ "messages": messages, "timeout": timeout }))
}

fn timeout(request: &Request) -> Duration {
    let seconds = request.parameter("timeout").and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(25).min(600))
}

fn text(content: &[u8]) -> String {
    let content: Value = serde_json::from_slice(content).unwrap_or_default();
    content["message"].as_str().unwrap_or_default().to_owned()
}
