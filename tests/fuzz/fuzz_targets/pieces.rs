//! The bytes of a peer, received by a connection whole and in pieces. The events for the application and the answers to
//! the peer must be the same.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use overwire::Limits;
use overwire::connection::{Connection, Context, Outcome};
use overwire::http::{Origins, Request, Response, chunk};
use overwire::websocket;

fuzz_target!(|bytes: &[u8]| {
    // A head that arrives in pieces is parsed line by line, so the last line must end.
    let bytes = [bytes, b"\r\n\r\n"].concat();
    let whole = deliver(&bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(deliver(&bytes, size), whole, "in pieces of {size}");
    }
});

/// The events for the application, and the answers to the peer.
#[derive(Debug, Default, PartialEq)]
struct Record {
    events: Vec<String>,
    answers: String,
}

fn deliver(bytes: &[u8], size: usize) -> Record {
    // No head reaches its limit: a head that is both too long and malformed may be refused for either reason.
    let limits = Limits { head: 1 << 20, target: 1 << 20, content: 512, message: 512, ..Limits::default() };
    let context = Context {
        limits: limits.clone(),
        now: Instant::now(),
        date: "Sun, 06 Nov 1994 08:49:37 GMT".into(),
        draining: false,
        origins: Origins::default(),
    };
    let (mut connection, mut outcome) = (Connection::new(&context), Record::default());
    for mut piece in bytes.chunks(size.max(1)) {
        while let Some(input) = connection.receive(&mut piece, &context) {
            outcome.events.push(application(&mut connection, input, &context));
        }
    }
    let event = connection.end_of_input(&context);
    outcome.events.extend(event.map(|input| format!("{input:?}")));
    let mut answers = Vec::new();
    while connection.queued() > 0 {
        connection.write_to(&mut answers).expect("a Vec takes everything");
    }
    outcome.answers = without_continue(&answers).escape_ascii().to_string();
    outcome
}

/// Answers at once, and describes the event.
fn application(connection: &mut Connection, input: Outcome, context: &Context) -> String {
    match input {
        Outcome::Request(request) => {
            let ended = answer(connection, &request, context);
            format!("{} {} {:?} {ended:?}", request.method(), request.target(), request.content())
        }
        Outcome::Message(message) => {
            let event = format!("{message:?}");
            assert!(connection.send_message(message, context).is_none());
            event
        }
        other => format!("{other:?}"),
    }
}

fn answer(connection: &mut Connection, request: &Request, context: &Context) -> Option<Outcome> {
    if let Ok(accepted) = websocket::accept(request, &[]) {
        connection.upgrade(&accepted, context);
        return None;
    }
    if request.path() != "/stream" {
        connection.respond(&Response::text(200, "answer"), context);
        return None;
    }
    let ended = connection.begin(&Response::new(200), context);
    connection.send(&chunk(b"stream"), context);
    connection.end(context);
    ended
}

/// Removes `100 Continue`, which is sent only if no content has arrived, and so depends on the pieces.
fn without_continue(bytes: &[u8]) -> Vec<u8> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(CONTINUE) {
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}
