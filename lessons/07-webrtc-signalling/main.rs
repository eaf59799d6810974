//! Lesson 07: WebRTC signalling. Two browser tabs find each other through `/signal`, a WebSocket, and then talk without
//! this server. `src/signalling.rs` has the rooms and decides who receives what. This file has the WebSockets.

use std::io;
use std::process::ExitCode;

use lessons::Lesson;
use lessons::api::is_foreign;
use overwire::http::{Request, Response};
use overwire::random::Random;
use overwire::signalling::{Delivery, Signalling};
use overwire::websocket::{self, Accepted, CloseCode};
use overwire::{Event, EventLoop, ExchangeId};

const PAGE: &str = include_str!("page.html");

const LESSON: Lesson = Lesson {
    name: "07-webrtc-signalling",
    port: 8007,
    about: "relays the messages that two browsers need for a direct connection, which does not pass this server",
    first: "cargo run -q --bin wire -- ws '{websocket}/signal?room=tea'",
    look_for: "the welcome with your peer_id; and `joined`, when you run it in another terminal too",
    costs: &[],
};

/// A connection has two ends.
const PEERS_PER_ROOM: usize = 2;
const MAX_ROOMS: usize = 1000;

fn main() -> ExitCode {
    lessons::run(&LESSON, serve)
}

// ANCHOR: serve
pub fn serve(mut server: EventLoop) -> io::Result<()> {
    let mut random = Random::open()?;
    let mut signalling = Signalling::new(PEERS_PER_ROOM, MAX_ROOMS);
    loop {
        match server.next_event()? {
            Event::Request(conn, request) if request.path() == "/signal" => match open(&request) {
                Ok((accepted, room)) => {
                    server.upgrade(conn, accepted);
                    match signalling.join(conn, random.uuid(), &room) {
                        Ok(deliveries) => deliver(&mut server, deliveries),
                        Err(error) => server.close(conn, CloseCode::TRY_AGAIN_LATER, &error.to_string()),
                    }
                }
                Err(refusal) => server.respond(conn, refusal),
            },
            Event::Request(conn, request) => server.respond(conn, lessons::page(&request, PAGE)),
            Event::Message(conn, message) => deliver(&mut server, [signalling.relay(conn, &message)]),
            Event::Closed(conn, _) => deliver(&mut server, signalling.leave(conn)),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

/// Sends each delivery to its receivers, encoded once.
fn deliver(server: &mut EventLoop, deliveries: impl IntoIterator<Item = Delivery<ExchangeId>>) {
    for Delivery { to, text } in deliveries {
        let frame = websocket::text(&text);
        for conn in to {
            server.send(conn, &frame);
        }
    }
}
// ANCHOR_END: serve

/// Returns the acceptance of an opening handshake and the room, or the refusal.
fn open(request: &Request) -> Result<(Accepted, String), Response> {
    if is_foreign(request) {
        let sentence = "Origin is another site's: expected this server's own page, or a client other than a browser";
        return Err(Response::error(403, sentence));
    }
    let room = room_of(request)?;
    let accepted = websocket::accept(request, &[]).map_err(|error| error.response())?;
    Ok((accepted, room))
}

fn room_of(request: &Request) -> Result<String, Response> {
    let room = request.parameter("room").unwrap_or("general".into()).into_owned();
    match room.chars().count() {
        1..=64 => Ok(room),
        length => Err(Response::error(400, &format!("room: expected a name of 1 to 64 characters, not {length}"))),
    }
}
