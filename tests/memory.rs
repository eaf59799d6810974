//! The memory that all connections together may keep: which are reset when it is too much, and which are not.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::common::{Client, PATIENCE, TestServer, masked_frame};
use overwire::http::Response;
use overwire::websocket::{self, Opcode};
use overwire::{Closed, Event, EventLoop, ExchangeId, Limits, Opened, Rope, Shared, Speaks};

const MIB: usize = 1024 * 1024;

/// A program whose connections may keep 20 MiB. The buffers of the system take less than 5 MiB for a client that does
/// not read, so most of a longer answer waits in the program.
struct Program {
    server: TestServer,
    closed: Receiver<Closed>,
}

impl Program {
    fn start() -> Self {
        let (sender, closed) = channel();
        let limits =
            Limits { memory: 20 * MIB, outbox: 18 * MIB, content: 18 * MIB, message: 18 * MIB, ..Limits::default() };
        Program { server: TestServer::of_loop(limits, move |server| run(server, &sender)), closed }
    }

    /// Requests an answer, and returns when it is queued. Only its head is read.
    fn request(&self, target: &str) -> Client {
        let mut client = self.server.connect();
        client.send_get(target).head();
        client
    }

    /// Waits until this number of connections is open, without the one that asks.
    #[track_caller]
    fn wait_for_connections(&self, count: usize) {
        let (mut client, start) = (self.server.connect(), Instant::now());
        while client.get("/connections").text() != (count + 1).to_string() {
            assert!(start.elapsed() < PATIENCE, "{}", client.get("/connections").text());
            thread::yield_now();
        }
    }

    fn expect_reset(&self, why: &str) {
        assert_eq!(self.closed.recv_timeout(PATIENCE), Ok(Closed::OverBudget), "{why}");
    }
}

/// `/own/N` is answered with N MiB of its own, `/shared/N` with N MiB that all share, `/rope/N` with a rope of them,
/// `/stream/N` with a stream of N MiB. `/connections` tells their number, and `/raw` the port on which everyone gets 8
/// MiB. The length of other contents and of messages is told.
fn run(mut server: EventLoop, closed: &Sender<Closed>) -> io::Result<()> {
    let raw = server.listen("127.0.0.1:0", Speaks::Raw)?;
    let raw = server.address_of(raw).expect("it listens").to_string();
    let mut all: Option<Shared> = None;
    loop {
        match server.next_event()? {
            Event::Request(id, request) => {
                let path = request.path().into_owned();
                let (kind, size) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
                let size = size.parse::<usize>().unwrap_or(0) * MIB;
                let mut shared = || all.get_or_insert_with(|| vec![b's'; size].into()).clone();
                match kind {
                    "own" => server.respond(id, Response::text(200, vec![b'o'; size])),
                    "shared" => server.respond(id, Response::text(200, &shared())),
                    "rope" => {
                        let slices = (0..size / 1024).map(|n| shared().slice(n * 1024..(n + 1) * 1024));
                        server.respond(id, Response::text(200, &Rope::from_iter(slices)));
                    }
                    "stream" => stream(&mut server, id, size),
                    "connections" => server.respond(id, Response::text(200, server.connections().to_string())),
                    "raw" => server.respond(id, Response::text(200, raw.clone())),
                    _ => match websocket::accept(&request, &[]) {
                        Ok(accepted) => server.upgrade(id, accepted),
                        Err(_) => server.respond(id, Response::text(200, request.content().len().to_string())),
                    },
                }
            }
            Event::Message(id, message) => {
                server.send(id, &websocket::text(&message.as_bytes().len().to_string()));
            }
            Event::Opened(id, Opened::Accepted { .. }) => server.send_bytes(id, vec![b'r'; 8 * MIB]),
            Event::Closed(_, why) => drop(closed.send(why)),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

fn stream(server: &mut EventLoop, id: ExchangeId, size: usize) {
    server.begin(id, Response::new(200));
    server.send(id, &Shared::from(vec![b'd'; size]));
}

#[test]
fn the_connection_that_keeps_the_most_is_reset() {
    let program = Program::start();
    let mut idle = program.server.websocket("/");
    let mut lives: Vec<Client> = Vec::new();
    for _ in 0..4 {
        let mut most = program.request("/own/10");
        lives.push(program.request("/own/6"));
        program.wait_for_connections(lives.len() + 2);
        // 22 MiB. When the largest are gone, 12 MiB are kept.
        lives.push(program.request("/own/6"));
        assert!(most.read_to_end().len() < 10 * MIB, "its answer was cut");
        program.wait_for_connections(lives.len() + 1);
        for client in &mut lives {
            assert!(client.read_exactly(6 * MIB).iter().all(|byte| *byte == b'o'));
            assert_eq!(client.get("/connections").text(), "3", "it persists, as the other one and the idle one");
        }
        lives.clear();
        program.wait_for_connections(1);
    }
    idle.send_text("hello");
    assert_eq!(idle.message().text(), "5", "a connection that keeps nothing lives");
}

#[test]
fn a_stream_that_is_reset_is_reported() {
    let program = Program::start();
    let _stream = program.request("/stream/13");
    let mut other = program.request("/own/8");
    program.expect_reset("a stream");
    assert_eq!(other.read_exactly(8 * MIB).len(), 8 * MIB);
}

#[test]
fn incomplete_messages_count() {
    let program = Program::start();
    let (mut large, mut small) = (program.server.websocket("/"), program.server.websocket("/"));
    for (client, size) in [(&mut large, 13 * MIB), (&mut small, 3 * MIB)] {
        client.send(masked_frame(false, Opcode::Binary, &vec![0; size])).send_frame(Opcode::Ping, "");
        assert_eq!(client.frame().opcode, Opcode::Pong, "the fragment has arrived");
    }
    let mut other = program.request("/own/8");
    program.expect_reset("a WebSocket");
    assert_eq!(other.read_exactly(8 * MIB).len(), 8 * MIB);
    small.send(masked_frame(true, Opcode::Continuation, b"end"));
    assert_eq!(small.message().text(), (3 * MIB + 3).to_string(), "the smaller one goes on");
}

#[test]
fn incomplete_contents_count() {
    let program = Program::start();
    let mut posting = program.server.connect();
    posting.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 18 * MIB));
    posting.send(vec![b'c'; 13 * MIB]);
    // What the sockets hold of it arrives before long.
    let start = Instant::now();
    while program.server.get("/connections").text() != "1" {
        let mut other = program.request("/own/8");
        assert_eq!(other.read_exactly(8 * MIB).len(), 8 * MIB, "it is not the largest");
        assert!(start.elapsed() < PATIENCE);
    }
    posting.expect_end();
}

#[test]
fn the_queues_of_raw_connections_count() {
    let program = Program::start();
    let address: SocketAddr = program.server.get("/raw").text().parse().unwrap();
    let mut raw = Client::connect(address);
    assert_eq!(raw.read_exactly(1), b"r");
    let mut others = [program.request("/own/6"), program.request("/own/7")];
    program.expect_reset("a raw connection");
    assert!(raw.read_to_end().len() < 8 * MIB - 1);
    for (client, size) in others.iter_mut().zip([6, 7]) {
        assert_eq!(client.read_exactly(size * MIB).len(), size * MIB);
    }
}

#[test]
fn shared_bytes_count_once() {
    let program = Program::start();
    let clients = (0..30).map(|n| program.request(if n % 3 == 0 { "/rope/14" } else { "/shared/14" }));
    let clients: Vec<Client> = clients.collect();
    program.wait_for_connections(30);
    for mut client in clients.into_iter().take(4) {
        assert!(client.read_exactly(14 * MIB).iter().all(|byte| *byte == b's'));
        assert!(client.get("/connections").text().parse::<usize>().unwrap() > 26, "it persists");
    }
}
