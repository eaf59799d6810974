//! The fixture of the handlers' unit tests: real requests on a real event loop, without a server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::commit::Replica;
use super::exchanges::{Call, Exchanges, Reply};
use crate::connection::Traffic;
use crate::event_loop::{Event, EventLoop, ExchangeId};
use crate::feed::Cursor;
use crate::http::Request;
use crate::journal::{Change, Journal};
use crate::limits::Limits;

/// A client with one request, which the loop has received.
pub struct Client {
    stream: TcpStream,
    /// The exchange of the request.
    pub id: ExchangeId,
    request: Request,
}

impl Client {
    /// Returns the argument of a handler.
    pub fn call(&self) -> Call<'_> {
        Call { id: self.id, request: &self.request, since: Traffic::default(), grant: None }
    }
}

impl Exchanges {
    /// Creates a loop that listens on a port of the system's choice.
    pub fn for_test() -> Self {
        Exchanges::new(EventLoop::bind("127.0.0.1:0", Limits::default()).unwrap(), Journal::default()).unwrap()
    }

    /// Sends a request, and waits until the loop reports it.
    pub fn request(&mut self, method: &str, target: &str, content: &str) -> Client {
        let mut stream = TcpStream::connect(self.event_loop.local_address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = content.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + content).as_bytes()).unwrap();
        match self.event_loop.next_event().unwrap() {
            Event::Request(id, request) => Client { stream, id, request },
            other => panic!("a request was expected, not {other:?}"),
        }
    }

    /// Applies the changes of the journal to the one feature that has logs. Returns the id of the last message.
    pub fn commit(&mut self, replica: &mut dyn Replica) -> Cursor {
        let mut last = None;
        while let Some(change) = self.journal.next_change() {
            match change {
                Change::Appended { log, cursor, body, .. } => {
                    replica.appended(self, log.name(), cursor, body);
                    last = Some(cursor);
                }
                Change::Repeated { cursor, .. } => last = Some(cursor),
                other => panic!("in memory, a message is committed at once: {other:?}"),
            }
        }
        last.expect("a message was asked for")
    }

    /// Calls a handler as the server does, and returns whether the exchange is held.
    pub fn handle(&mut self, client: &Client, reply: Reply) -> bool {
        let is_held = matches!(reply, Reply::Later);
        self.reply(client.id, Traffic::default(), reply);
        is_held
    }

    /// Flushes the loop, and returns what the client receives up to and including `end`.
    pub fn read_until(&mut self, client: &mut Client, end: &str) -> String {
        // The loop flushes before it sleeps, and it reports no timer before it has slept.
        let timer = self.event_loop.set_timer(Duration::from_millis(1));
        match self.event_loop.next_event().unwrap() {
            Event::Timer(due) if due == timer => {}
            other => panic!("the timer was expected, not {other:?}"),
        }
        let mut received = Vec::new();
        while !received.ends_with(end.as_bytes()) {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).expect("the end is not here yet");
            received.push(byte[0]);
        }
        String::from_utf8(received).unwrap()
    }
}
