//! The bytes of a peer, delivered to a connection whole and in pieces: what the application is told, and what the peer
//! is answered, must be the same.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use overwire::Limits;
use overwire::connection::{Connection, Context, Outcome};
use overwire::http::{Request, Response, chunk};
use overwire::websocket;

fuzz_target!(|bytes: &[u8]| {
    // A head that comes in pieces is judged line by line, so the last line has to end.
    let bytes = [bytes, b"\r\n\r\n"].concat();
    let whole = deliver(&bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(deliver(&bytes, size), whole, "in pieces of {size}");
    }
});

/// What was told, and what was answered.
#[derive(Debug, Default, PartialEq)]
struct Record {
    told: Vec<String>,
    answered: String,
}

fn deliver(bytes: &[u8], size: usize) -> Record {
    // No head reaches its limit: a head that is too long and wrong as well may be refused for either.
    let limits = Limits { head: 1 << 20, target: 1 << 20, content: 512, message: 512, ..Limits::default() };
    let context = Context {
        limits: limits.clone(),
        now: Instant::now(),
        date: "Sun, 06 Nov 1994 08:49:37 GMT".into(),
        draining: false,
    };
    let (mut connection, mut outcome) = (Connection::new(&context), Record::default());
    for mut piece in bytes.chunks(size.max(1)) {
        while let Some(input) = connection.receive(&mut piece, &context) {
            outcome.told.push(application(&mut connection, input, &context));
        }
    }
    let told = connection.end_of_input(&context);
    outcome.told.extend(told.map(|input| format!("{input:?}")));
    let mut answered = Vec::new();
    while !connection.outbox().is_empty() {
        connection.outbox_mut().write_to(&mut answered).expect("a Vec takes everything");
    }
    outcome.answered = without_continue(&answered).escape_ascii().to_string();
    outcome
}

/// Answers at once, and says what it was told.
fn application(connection: &mut Connection, input: Outcome, context: &Context) -> String {
    match input {
        Outcome::Request(request) => {
            let told = answer(connection, &request, context);
            format!("{} {} {:?} {told:?}", request.method(), request.target(), request.content())
        }
        Outcome::Message(message) => {
            let told = format!("{message:?}");
            assert!(connection.send_message(message, context).is_none());
            told
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
    let told = connection.begin(&Response::new(200), context);
    connection.send(&chunk(b"stream"), context);
    connection.end(context);
    told
}

/// `100 Continue` is sent only to a client whose content was not there yet, so it may differ.
fn without_continue(bytes: &[u8]) -> Vec<u8> {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut rest = bytes;
    let mut out = Vec::new();
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(CONTINUE) {
            rest = behind;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}
