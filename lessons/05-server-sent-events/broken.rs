//! Server-sent events as they are often written: the text follows `data: ` as it is, and no event has an id.

use std::collections::HashSet;
use std::io;
use std::process::ExitCode;

use lessons::Lesson;
use overwire::http::{self, Response};
use overwire::{Event, EventLoop, sse};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "05-broken",
    port: 8005,
    about: "lesson 5 with events that say what their author did not mean",
    first: "curl -N {url}/events",
    look_for: "what becomes of a message that has two lines",
    costs: &[],
};

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut listeners = HashSet::new();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) if request.path() == "/events" => {
                server.begin(conn, sse::stream_head());
                listeners.insert(conn);
            }
            Event::Request(conn, request) if request.path() == "/add-message" => {
                let value: Value = serde_json::from_slice(request.content()).unwrap_or_default();
                // ANCHOR: bug
                // BUG: a line end in the text ends the field, so the author of the text writes the next line of the
                // stream. And without ids, no client can resume.
                let event = format!("data: {}\n\n", value["message"].as_str().unwrap_or_default());
                for listener in &listeners {
                    server.send(*listener, &http::chunk(event.as_bytes()));
                }
                // ANCHOR_END: bug
                server.respond(conn, Response::json(200, &json!({ "status": "Message added" })));
            }
            Event::Request(conn, request) => {
                let (html, module) = (include_str!("page.html"), include_str!("broken.js"));
                server.respond(conn, lessons::page_with_module(&request, html, module));
            }
            Event::Closed(conn, _) => _ = listeners.remove(&conn),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}
