//! A signalling server of many examples: what one peer sends goes to all others in its room, as it is. It tells nobody
//! who is there, and no message says whom it is for.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;

use lessons::Lesson;
use overwire::http::Response;
use overwire::websocket::{self, Message};
use overwire::{Event, EventLoop};

const LESSON: Lesson = Lesson {
    name: "07-broken",
    port: 8007,
    about: "lesson 7 with a server that loses offers, and gives answers to the wrong peer",
    first: "cargo run -q --bin wire -- ws '{websocket}/signal?room=tea'",
    look_for: "no welcome: the server says nothing",
    costs: &[],
};

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut rooms = HashMap::new(); // of the peers
    loop {
        match server.next_event()? {
            Event::Request(conn, request) if request.path() == "/signal" => match websocket::accept(&request, &[]) {
                Ok(accepted) => {
                    server.upgrade(conn, accepted);
                    rooms.insert(conn, request.parameter("room").unwrap_or_default().into_owned());
                }
                Err(error) => server.respond(conn, error.response()),
            },
            Event::Request(conn, _) => server.respond(conn, Response::error(404, "expected /signal")),
            Event::Message(conn, Message::Text(text)) => {
                // ANCHOR: relay
                // BUG: a peer that comes a moment later does not get this, and the sender does not learn of it.
                // BUG: after a reload, a peer gets what was meant for it before.
                let frame = websocket::text(&text);
                let others = rooms.iter().filter(|(peer, room)| **peer != conn && rooms.get(&conn) == Some(*room));
                others.for_each(|(peer, _)| server.send(*peer, &frame));
                // ANCHOR_END: relay
            }
            Event::Closed(conn, _) => _ = rooms.remove(&conn),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}
