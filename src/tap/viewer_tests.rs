//! Tests of the budgets that all viewers share. The viewers are WebSockets of a loop that the test turns, and read
//! nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::event_loop::Event;
use crate::limits::Limits;
use crate::websocket::{accept, encode_key, opening_request};

/// Viewers without an exchange.
struct Bench {
    io: EventLoop,
    viewers: Viewers,
    sockets: Vec<ExchangeId>,
    /// The other ends.
    clients: Vec<TcpStream>,
}

impl Bench {
    fn new(mode: Mode, count: usize) -> Self {
        let io = EventLoop::bind("127.0.0.1:0", Limits::default()).unwrap();
        let viewers = Viewers::new(mode, "http://target".into(), false, io.now());
        let mut bench = Bench { io, viewers, sockets: Vec::new(), clients: Vec::new() };
        for number in 0..count {
            let mut client = TcpStream::connect(bench.io.local_address()).unwrap();
            client.write_all(&opening_request("localhost", "/", &encode_key([7; 16]))).unwrap();
            let Event::Request(socket, request) = bench.io.next_event().unwrap() else { panic!("a request was sent") };
            bench.io.upgrade(socket, accept(&request, &[]).unwrap());
            bench.viewers.open(&id(number), socket, 0, &mut bench.io);
            bench.sockets.push(socket);
            bench.clients.push(client);
        }
        bench
    }

    /// Begins to show an exchange to a viewer.
    fn begin(&mut self, number: usize) -> Shown {
        let (key, address) = (self.viewers.audience_of(self.sockets[number]).unwrap(), ([127, 0, 0, 1], 1).into());
        let (mut shown, _) = self.viewers.begin_for(key, "a".into(), address, &mut self.io).unwrap();
        self.show(&mut shown, Role::Client, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        shown
    }

    fn show(&mut self, shown: &mut Shown, from: Role, bytes: &[u8]) {
        // There is time enough, however slow the machine is.
        self.viewers.encoding.0 = ENCODING_TIME;
        self.viewers.show(shown, from, bytes, &mut self.io);
    }

    fn waiting(&self) -> usize {
        self.sockets.iter().map(|socket| self.io.waiting(*socket)).sum()
    }

    /// The bytes that were left out for a viewer.
    fn left_out(&self, number: usize) -> usize {
        let viewers = self.viewers.audiences.values().flat_map(|audience| &audience.viewers);
        viewers.filter(|viewer| *viewer.id == *id(number)).map(|viewer| viewer.left_out.0).sum()
    }
}

fn id(number: usize) -> String {
    format!("viewer-number-{number:04}")
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n";

#[test]
fn all_viewers_together_have_a_budget_of_queued_bytes() {
    const COUNT: usize = 32;
    let mut bench = Bench::new(Mode::Marked, COUNT);
    let mut exchanges: Vec<_> = (0..COUNT).map(|number| bench.begin(number)).collect();
    let content = vec![b'\n'; 8 * 1024];
    for (number, shown) in exchanges.iter_mut().enumerate() {
        bench.show(shown, Role::Server, b"HTTP/1.1 200 OK\r\n\r\n");
        while bench.left_out(number) == 0 {
            bench.show(shown, Role::Server, &content);
            assert!(bench.waiting() <= MAX_WAITING_OF_ALL, "{} bytes wait", bench.waiting());
        }
        assert!(bench.io.waiting(bench.sockets[number]) <= MAX_WAITING);
    }
    // Without the budget, each had MAX_WAITING.
    assert!(bench.waiting() > MAX_WAITING_OF_ALL - 64 * 1024 && COUNT * MAX_WAITING > MAX_WAITING_OF_ALL);
}

#[test]
fn events_beyond_the_budget_of_time_are_left_out_and_counted() {
    let mut bench = Bench::new(Mode::Marked, 1);
    let mut shown = bench.begin(0);
    bench.io.remote().stop_clock();
    let now = bench.io.exact_time();
    bench.viewers.encoding = (Duration::ZERO, now);
    bench.viewers.show(&mut shown, Role::Server, HEAD, &mut bench.io);
    assert_eq!(bench.left_out(0), HEAD.len());
    // The time comes back: a quarter of what passes.
    let now = now + Duration::from_millis(400);
    assert!(bench.viewers.has_time(now) && bench.viewers.encoding.0 == Duration::from_millis(100));
    let now = now + Duration::from_secs(1000);
    assert!(bench.viewers.has_time(now) && bench.viewers.encoding.0 == ENCODING_TIME);
    bench.viewers.show(&mut shown, Role::Server, b"{}\n", &mut bench.io);
    assert_eq!(bench.left_out(0), 0, "the viewer was notified");
}

#[test]
fn all_exchanges_together_have_a_budget_of_bytes_without_labels() {
    let mut bench = Bench::new(Mode::Marked, 1);
    let mut exchanges: Vec<_> = (0..20).map(|_| bench.begin(0)).collect();
    let line = vec![b'x'; 1000 * 1024]; // an incomplete line
    for shown in &mut exchanges {
        bench.show(shown, Role::Server, HEAD);
        bench.show(shown, Role::Server, &line);
        assert!(bench.viewers.kept <= MAX_KEPT);
    }
    let given_up = exchanges.iter().filter(|shown| shown.kept() == 0).count();
    assert!((10..20).contains(&given_up), "{given_up}");
    for shown in exchanges {
        bench.viewers.end(shown, true, &mut bench.io);
    }
    assert_eq!(bench.viewers.kept, 0);
    let mut shown = bench.begin(0);
    bench.show(&mut shown, Role::Server, HEAD);
    bench.show(&mut shown, Role::Server, &line);
    assert_eq!(shown.kept(), line.len());
    bench.viewers.forget(&shown);
    assert_eq!(bench.viewers.kept, 0);
}

#[test]
fn an_event_for_several_viewers_is_left_out_for_those_without_room() {
    let mut bench = Bench::new(Mode::All, 2);
    let mut shown = bench.begin(0);
    bench.show(&mut shown, Role::Server, b"HTTP/1.1 200 OK\r\n\r\n");
    let content = vec![b'\n'; 8 * 1024];
    let mut all = vec![0; 64 * 1024];
    bench.clients[1].set_nonblocking(true).unwrap();
    while bench.left_out(0) == 0 {
        bench.show(&mut shown, Role::Server, &content);
        // The second viewer reads.
        let timer = bench.io.set_timer(Duration::ZERO);
        while !matches!(bench.io.next_event().unwrap(), Event::Timer(due) if due == timer) {}
        while matches!(bench.clients[1].read(&mut all), Ok(1..)) {}
    }
    assert_eq!(bench.left_out(1), 0);
}
