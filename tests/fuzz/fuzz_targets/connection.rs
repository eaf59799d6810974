//! One connection, with an application, a peer and a clock that act in any order. The promises:
//!
//! - It does not panic.
//! - The outbox stays within its limit plus one item.
//! - `Closed` is reported exactly when something that the application holds ends, unless the application ended it.
//! - There is a deadline while nothing is held, so that no connection stays open forever.
//!
//! The input is a script: one letter for each step, for some steps with an argument after it (see [`World::step`]).

#![no_main]

use std::io::{self, IoSlice, Write};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use overwire::connection::{Closed, Connection, Context, EndOfInput, Outcome, Socket};
use overwire::http::{LAST_CHUNK, Origins, Request, Response, chunk, parse_request_head};
use overwire::websocket::{self, CloseCode, Message, Opcode};
use overwire::{Limits, Parse, Rope, Shared, Slice, sse};

/// The longest item that the script can queue, with its head or frame header.
const ITEM: usize = 1200;
/// The bytes that a connection may queue by itself in addition: an error response, a Close frame, the bookkeeping of
/// pieces.
const OWN: usize = 512;

fuzz_target!(|script: &[u8]| {
    let mut world = World::new();
    let mut script = Script(script);
    while let Some(step) = script.next() {
        let before = world.is_closed();
        world.step(step, &mut script);
        world.check();
        let is_new = matches!(step, b'R' | b'K');
        assert!(!before || is_new || world.is_closed(), "a closed connection is open again");
    }
    world.hang_up();
});

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> usize {
        self.next().unwrap_or_default().into()
    }

    /// The next bytes. The first one is their number, counted from `A`, so that seeds are legible.
    fn bytes(&mut self) -> &'a [u8] {
        let count = self.number().wrapping_sub(b'A'.into()) & 0xff;
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }
}

struct World {
    connection: Connection,
    limits: Limits,
    now: Instant,
    draining: bool,
    /// Whether the application knows of a request, a stream or a WebSocket that it holds.
    holds: bool,
    shut: bool,
    /// Whether it is a raw connection that the application holds.
    raw: bool,
}

impl World {
    fn new() -> Self {
        let limits = Limits { head: 512, target: 64, content: 256, message: 256, outbox: 2048, ..Limits::default() };
        let now = Instant::now();
        let context =
            Context { limits: limits.clone(), now, date: DATE.into(), draining: false, origins: Origins::default() };
        World {
            connection: Connection::new(&context),
            limits,
            now,
            draining: false,
            holds: false,
            shut: false,
            raw: false,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step {
            // The peer.
            b'r' => self.receive(script.bytes()),
            b'G' => self.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            b'H' => self.receive(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"),
            b'O' => self.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            b'P' => self.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
            b'C' => self
                .receive(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"),
            b'c' => self.receive(&chunk(script.bytes())),
            b'L' => self.receive(LAST_CHUNK),
            b'U' => self.receive(&websocket::opening_request("h", "/", KEY)),
            b't' => self.frame(Opcode::Text, script),
            b'i' => self.frame(Opcode::Ping, script),
            b'o' => self.frame(Opcode::Pong, script),
            b'x' => self.frame(Opcode::Close, script),
            b'w' => self.write(script.number()),
            b'W' => self.write(usize::MAX),
            b'z' => self.hang_up(),
            b'Z' => self.lose(),
            // The application.
            b'a' => self.respond(&Response::text(200, vec![b'a'; script.number() * 4])),
            b'A' => self.respond(
                &Response::new(200).with_content("text/plain", &Shared::from(vec![b'A'; script.number() * 4])),
            ),
            b'n' => self.respond(&Response::new(204)),
            b's' => self.begin(&sse::stream_head()),
            b'N' => self.begin(&Response::new(304)),
            b'u' => self.upgrade(),
            b'd' => self.send(&chunk(&vec![b'd'; script.number() * 4])),
            b'g' => self.send_rope(script.number()),
            b'm' => self.send_message(Message::Binary(vec![b'm'; script.number() * 4])),
            b'e' => self.end(),
            b'q' => self.close(),
            // Raw connections.
            b'R' => self.replace(Connection::raw()),
            b'K' => {
                let connection = self.act(|_, context| Connection::connecting(context));
                self.replace(connection);
            }
            b'k' => {
                let outcome = self.connection.opened();
                self.note(outcome);
            }
            b'b' => self.send_bytes(vec![b'b'; script.number() * 4]),
            b'p' => self.connection.pause(),
            b'v' => self.connection.resume(),
            b'f' => self.cannot_write(),
            b'h' => self.serve_http(script.bytes().to_vec()),
            b'X' => self.reset(),
            // The world.
            b'T' => self.wait(),
            b'D' => self.drain(),
            _ => {}
        }
    }

    fn act<T>(&mut self, action: impl FnOnce(&mut Connection, &Context) -> T) -> T {
        let context = Context {
            limits: self.limits.clone(),
            now: self.now,
            date: DATE.into(),
            draining: self.draining,
            origins: Origins::default(),
        };
        action(&mut self.connection, &context)
    }

    /// Reads like the event loop: nothing while the connection wants no input.
    fn receive(&mut self, bytes: &[u8]) {
        if self.connection.demand(&self.limits).read > 0 && !self.shut {
            self.connection.count_received(bytes.len());
            self.decode(bytes);
        }
    }

    fn decode(&mut self, mut fresh: &[u8]) {
        while let Some(input) = self.act(|connection, context| connection.receive(&mut fresh, context)) {
            self.note(Some(input));
            self.check();
        }
        assert!(fresh.is_empty());
    }

    fn frame(&mut self, opcode: Opcode, script: &mut Script<'_>) {
        let mut frame = Vec::new();
        websocket::encode(&mut frame, opcode, script.bytes(), Some([1, 2, 3, 4]));
        self.receive(&frame);
    }

    fn note(&mut self, input: Option<Outcome>) {
        match input {
            None => return,
            Some(Outcome::Request(_)) => {
                assert!(!std::mem::replace(&mut self.holds, true), "a request while one is held")
            }
            Some(Outcome::Message(_)) => assert!(self.holds, "a message on a WebSocket that is not held"),
            Some(Outcome::Refused(..)) => assert!(!self.holds, "a held request was refused"),
            Some(Outcome::Closed(_)) => {
                assert!(std::mem::take(&mut self.holds), "Closed for something that is not held")
            }
            Some(outcome) => assert!(self.raw && self.holds, "{outcome:?} on a connection that is not raw"),
        }
    }

    fn replace(&mut self, connection: Connection) {
        self.connection = connection;
        (self.holds, self.shut, self.raw) = (true, false, true);
    }

    fn send_bytes(&mut self, bytes: Vec<u8>) {
        let outcome = self.act(|connection, context| connection.send_bytes(bytes, context));
        self.note(outcome);
    }

    fn cannot_write(&mut self) {
        let outcome = self.connection.cannot_write(Closed::Reset);
        self.note(outcome);
        self.decode(&[]);
    }

    fn serve_http(&mut self, bytes: Vec<u8>) {
        if self.act(|connection, context| connection.serve_http(bytes, context)) {
            (self.holds, self.raw) = (false, false);
            self.decode(&[]);
        }
    }

    fn reset(&mut self) {
        self.connection.reset();
        self.let_go();
    }

    fn write(&mut self, room: usize) {
        let count = if self.connection.queued() == 0 {
            0
        } else {
            self.connection.write_to(&mut Narrow(room)).expect("it does not fail")
        };
        let _shuts_down = self.act(|connection, context| connection.wrote(count, context));
        self.decode(&[]); // decodes what was kept until there was room
    }

    fn respond(&mut self, response: &Response) {
        // This does nothing on a stream.
        self.act(|connection, context| connection.respond(response, context));
        self.let_go();
    }

    fn begin(&mut self, head: &Response) {
        let input = self.act(|connection, context| connection.begin(head, context));
        self.note(input); // Closed, if nothing may follow the head
        self.decode(&[]);
    }

    fn upgrade(&mut self) {
        let head = websocket::opening_request("h", "/", KEY);
        let Ok(Parse::Complete { value, used }) = parse_request_head(&head, 1024, 1024) else {
            panic!("a valid request")
        };
        let accepted = websocket::accept(&Request::new(value, head, used), &[]).expect("a valid handshake");
        self.act(|connection, context| connection.upgrade(&accepted, context));
        self.decode(&[]);
    }

    fn send(&mut self, bytes: &Shared) {
        let input = self.act(|connection, context| connection.send(bytes, context));
        self.note(input);
    }

    /// Sends a rope of four slices.
    fn send_rope(&mut self, length: usize) {
        let shared = Shared::from(vec![b'g'; length]);
        let rope = Rope::from_iter((0..4).map(|_| Slice::from(&shared)));
        let input = self.act(|connection, context| connection.send_rope(&rope, context));
        self.note(input);
    }

    fn send_message(&mut self, message: Message) {
        let input = self.act(|connection, context| connection.send_message(message, context));
        self.note(input);
    }

    fn end(&mut self) {
        self.act(|connection, context| connection.end(context));
        self.let_go();
    }

    fn close(&mut self) {
        self.act(|connection, context| connection.close(CloseCode::GOING_AWAY, "going away", context));
        self.let_go();
    }

    /// The application knows what it has ended itself: it gets no outcome for that.
    fn let_go(&mut self) {
        if !self.connection.is_held() {
            self.holds = false;
        }
        self.decode(&[]);
    }

    fn hang_up(&mut self) {
        // The end of the input is read like other input.
        let is_unread = self.raw && self.connection.demand(&self.limits).read == 0;
        if !self.shut && !is_unread {
            self.shut = true;
            let input = self.act(|connection, context| connection.end_of_input(context));
            self.note(input);
        }
    }

    fn lose(&mut self) {
        let input = self.connection.lose(Closed::Reset);
        self.note(input);
    }

    /// Advances the clock to the deadline.
    fn wait(&mut self) {
        if let Some(deadline) = self.connection.demand(&self.limits).deadline {
            self.now = self.now.max(deadline);
            let input = self.act(|connection, context| connection.on_deadline(context));
            self.note(input);
        } else {
            self.now += Duration::from_secs(1);
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.act(|connection, context| connection.go_away(context));
        self.let_go();
    }

    fn is_closed(&self) -> bool {
        self.connection.demand(&self.limits).socket != Socket::Keep
    }

    fn check(&self) {
        let connection = &self.connection;
        assert_eq!(connection.is_held(), self.holds, "the application knows something else: {connection:?}");
        assert!(connection.cost() <= self.limits.outbox + ITEM + OWN, "{}", connection.cost());
        let demand = connection.demand(&self.limits);
        let is_answering = demand.end_of_input == EndOfInput::AtOnce;
        let is_raw = self.raw && self.holds;
        assert!(demand.deadline.is_some() || is_answering || is_raw || self.is_closed());
        if self.is_closed() {
            assert!(connection.queued() == 0 && !demand.write);
        }
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A socket that takes a fixed number of bytes in each call.
struct Narrow(usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len().min(self.0))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.0))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
