//! The books of the server's memory, compared with its heap. Stores are filled by requests. What `memory` in `/api/stats`
//! grows by must be what an allocator has given, within a fifth, and at the end both must be back where they began.
//!
//! The allocator counts only in the threads of servers, so the clients may allocate.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicI64, Ordering};

use common::{Client, TestServer, masked_frame};
use overwire::Limits;
use overwire::journal::Retention;
use overwire::limits::PerClient;
use overwire::server::{Config, Server, Stores};
use overwire::websocket::Opcode;
use serde_json::{Value, json};

struct Counting;

/// The bytes of the blocks that a thread has, and the most that it has had.
#[derive(Default)]
struct Heap {
    bytes: AtomicI64,
    most: AtomicI64,
}

thread_local! {
    /// The heap of this thread, if it is counted.
    static HEAP: Cell<Option<&'static Heap>> = const { Cell::new(None) };
}

fn note(bytes: i64) {
    if let Some(heap) = HEAP.get() {
        let before = heap.bytes.fetch_add(bytes, Ordering::Relaxed);
        heap.most.fetch_max(before + bytes, Ordering::Relaxed);
    }
}

// SAFETY: all arguments are passed on to the allocator of the system unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server whose heap is counted, and one connection to it.
struct Counted {
    server: TestServer,
    client: Client,
    heap: &'static Heap,
}

/// The bytes of the heap, and those in the books, at one time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    heap: i64,
    books: i64,
}

impl Counted {
    /// Advances the clock, on which the connection may have been idle for too long. Timers that are due come before the
    /// last of these requests.
    fn advance(&mut self, seconds: u64) {
        self.server.advance(seconds);
        self.client = self.server.connect();
        (0..3).for_each(|_| drop(self.client.get("/health")));
    }

    fn start() -> Self {
        Counted::of(Config::default)
    }

    fn of(config: impl FnOnce() -> Config + Send + 'static) -> Self {
        let heap: &'static Heap = Box::leak(Box::default());
        let server = TestServer::spawn(move |ready| {
            HEAP.set(Some(heap));
            let server = Server::bind(Config { port: 0, chaos: true, ..config() })?;
            ready(server.local_address(), server.remote());
            server.run()
        });
        let mut counted = Counted { client: server.connect(), server, heap };
        // Not counted: what the first requests create for all others.
        counted.fill((0..200).map(|_| get("/api/messages?room=warm")));
        counted
    }

    /// Sends requests, a few at a time. Each must be answered with a success.
    fn fill(&mut self, requests: impl Iterator<Item = String>) {
        let mut requests = requests.peekable();
        while requests.peek().is_some() {
            let some: Vec<String> = requests.by_ref().take(50).collect();
            self.client.send(some.concat());
            for request in &some {
                let answer = self.client.answer();
                assert!(answer.status < 300, "{request:.1000} {answer:?}");
            }
        }
    }

    fn reading(&mut self) -> Reading {
        let memory = self.client.get("/api/stats").json()["memory"].take();
        // The second answer shows that the first one has been written.
        self.client.get("/health");
        let books = memory.as_object().unwrap().values().map(|bytes| bytes.as_i64().unwrap()).sum();
        Reading { heap: self.heap.bytes.load(Ordering::Relaxed), books }
    }

    /// Checks that the books have grown as the heap has, and that this is at least `least`.
    fn check_growth(&mut self, before: Reading, least: i64, what: &str) {
        let after = self.reading();
        let (heap, books) = (after.heap - before.heap, after.books - before.books);
        println!("{what}: {heap} bytes of heap, {books} in the books");
        assert!(heap >= least, "{what}: {heap} bytes");
        assert!((books - heap).abs() <= heap / 5, "{what}: {heap} bytes of heap, {books} in the books");
    }

    /// Checks that the memory is back where it began.
    fn check_return(&mut self, before: Reading, what: &str) {
        self.client = self.server.connect();
        self.client.get("/health"); // the sweep comes after its answer
        let after = self.reading();
        let (heap, books) = (after.heap - before.heap, after.books - before.books);
        println!("{what}: {heap} bytes of heap more than before, {books} in the books");
        assert!(heap < 100_000 && books < 20_000, "{what}: {heap} bytes of heap, {books} in the books");
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(target: &str, content: &Value) -> String {
    let content = content.to_string();
    let length = content.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{content}")
}

#[test]
fn rooms_are_in_the_books() {
    let mut counted = Counted::start();
    let before = counted.reading();
    let send = |room: usize, text: &str| {
        post("/api/send", &json!({ "sender": "a", "text": text, "room": format!("room {room}") }))
    };
    counted.fill((0..12_000).map(|number| send(number % 255, "a short text")));
    counted.check_growth(before, 2_000_000, "rooms of short texts");
    let middle = counted.reading();
    let long = "x".repeat(60_000);
    counted.fill((0..8 * 20).map(|number| send(number % 8, &long)));
    counted.check_growth(middle, 6_000_000, "rooms of long texts");
    counted.fill([post("/api/forget", &json!({}))].into_iter());
    counted.check_return(before, "rooms");
}

#[test]
fn keys_are_in_the_books() {
    let mut counted = Counted::start();
    let send = |number: usize| post("/send?", &json!({ "message": "x", "number": number }));
    counted.fill((0..1100).map(send));
    let before = counted.reading();
    let keyed = |key: usize| {
        post("/api/send", &json!({ "sender": "a", "text": "x", "room": "longpoll", "key": key.to_string() }))
    };
    counted.fill((0..30_000).map(keyed));
    counted.check_growth(before, 2_000_000, "keys");
    counted.advance(310);
    counted.check_return(before, "keys");
}

#[test]
fn clients_are_in_the_books() {
    const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";
    let mut counted = Counted::start();
    for room in 0..16 {
        counted.server.publish(&room.to_string(), "x");
    }
    let before = counted.reading();
    let poll = |id: &str, room: usize| get(&format!("/api/poll?client_id={id}&room={room}&last_message_id={FOREIGN}"));
    counted.fill((0..20_000).map(|number| poll(&number.to_string(), 0)));
    counted.check_growth(before, 3_000_000, "clients in one room");
    let middle = counted.reading();
    let long = |number: usize| format!("{}{number:04}", "%F0%9F%98%80".repeat(124));
    counted.fill((0..200 * 16).map(|number| poll(&long(number / 16), number % 16)));
    counted.check_growth(middle, 150_000, "clients with long ids in 16 rooms");
    counted.advance(310);
    counted.check_return(before, "clients");
}

#[test]
fn mailboxes_are_in_the_books() {
    let mut counted = Counted::start();
    let before = counted.reading();
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(counted.client.post("/poll", "{}").json()["connection_id"].as_str().unwrap().to_owned());
    }
    let put = |id: &str, text: &str| post("/sse/message", &json!({ "connection_id": id, "text": text }));
    counted.fill((0..9_000).map(|number| put(&ids[number / 30], "x")));
    counted.check_growth(before, 500_000, "mailboxes of short texts");
    let middle = counted.reading();
    let long = "x".repeat(60_000);
    counted.fill((0..300).map(|number| put(&ids[number], &long)));
    counted.check_growth(middle, 15_000_000, "mailboxes of long texts");
    let middle = counted.reading();
    counted.fill((0..19_700).map(|_| post("/poll", &json!({}))));
    counted.check_growth(middle, 4_000_000, "empty mailboxes");
    counted.advance(80);
    counted.check_return(before, "mailboxes");
}

/// The heap has the connections too. So the growth is compared with that of as many WebSockets in one room of messages.
#[test]
fn signalling_is_in_the_books() {
    const PEERS: usize = 1500;
    let mut counted = Counted::start();
    let open = |counted: &mut Counted, target: &dyn Fn(usize) -> String| {
        counted.advance(10); // sparse maps are shrunk
        let before = counted.reading();
        let sockets: Vec<Client> = (0..PEERS).map(|number| counted.server.websocket(&target(number))).collect();
        let after = counted.reading();
        drop(sockets);
        counted.server.wait_for("the end of the connections", |stats| stats["connections"] == 2);
        (after.heap - before.heap, after.books - before.books)
    };
    let alike = |_| "/api/ws?room=warm".to_owned();
    open(&mut counted, &alike);
    let (other_heap, other_books) = open(&mut counted, &alike);
    // Rooms of one peer, and rooms of ten.
    let before = counted.reading();
    let (heap, books) = open(&mut counted, &|number| {
        let room = if number < 900 { number } else { number / 10 + 1000 };
        format!("/api/signal?room=room+{room}")
    });
    let (heap, books) = (heap - other_heap, books - other_books);
    println!("signalling: {heap} bytes of heap, {books} in the books");
    assert!(heap > 200_000 && (books - heap).abs() <= heap / 5, "{heap} bytes of heap, {books} in the books");
    counted.advance(10);
    counted.check_return(before, "signalling");
}

/// Streams, held polls and their clients: what is queued for readers that do not read, and the records of all.
#[test]
fn readers_are_in_the_books() {
    const READERS: usize = 100;
    let mut counted = Counted::start();
    let open = |counted: &Counted, target: &dyn Fn(usize) -> String| -> Vec<Client> {
        (0..READERS)
            .map(|number| {
                let mut client = counted.server.connect();
                client.send_get(&target(number));
                client
            })
            .collect()
    };
    // Not counted: the connections themselves.
    drop(open(&counted, &|_| "/health".to_owned()));
    counted.server.wait_for("the end of the connections", |stats| stats["connections"] == 2);
    let before = counted.reading();
    let long = "x".repeat(60_000);
    for number in 0..30 {
        counted.server.publish("room", &format!("{number} {long}"));
    }
    let messages = counted.reading();
    counted.check_growth(before, 900_000, "messages");
    // Each gets a mebibyte, which fits into its outbox, and reads nothing of it.
    let streams = open(&counted, &|number| {
        format!(
            "/api/{}?room=room&last_message_id=00000000-0000-8000-8000-000000000007&client_id={number}",
            ["stream", "events", "poll", "messages"][number % 4]
        )
    });
    counted.server.wait_for_open("sse", READERS as u64 / 4);
    counted.check_growth(messages, 2_500_000, "replays for readers that do not read");
    drop(streams);
    counted.server.wait_for("the end of the connections", |stats| stats["connections"] == 2);
    counted.fill([post("/api/forget", &json!({}))].into_iter());
    counted.check_return(before, "readers");
}

/// A server with small bounds. Its clients come through a proxy, so each can be another one.
fn small() -> Config {
    let per_client = PerClient { rate: 1_000_000, ..PerClient::default() };
    let limits = Limits { connections: 320, memory: 4 << 20, outbox: 256 << 10, per_client, ..Limits::default() };
    let retention = Retention { messages: 200, bytes: 64 << 10, rooms: 16, ..Retention::default() };
    let stores = Stores {
        clients: 4000,
        client_bytes: 1 << 20,
        encoded_bytes: 1 << 20,
        mailboxes: 500,
        mailbox_bytes: 1 << 20,
        keys: 4000,
        signalling_rooms: 20,
    };
    Config { limits, retention, stores, trust_proxies: vec!["127.0.0.1".into()], ..Config::default() }
}

/// The request of a client that has not sent any before.
fn of_client(number: usize, request: &str) -> String {
    let (network, host) = (number / 250, number % 250 + 1);
    request.replacen("\r\n", &format!("\r\nX-Forwarded-For: 203.0.{network}.{host}\r\n"), 1)
}

/// All bounds are reached at the same time.
#[test]
fn all_bounds_together_take_what_the_worst_case_says() {
    const FOREIGN: &str = "00000000-0000-8000-8000-000000000007";
    let worst = small().worst_case();
    let mut counted = Counted::of(small);
    let before = counted.heap.bytes.load(Ordering::Relaxed);
    counted.heap.most.store(before, Ordering::Relaxed);
    // Rooms, keys and clients.
    let send = |number: usize| {
        let (room, key) = (number % 15, number.to_string());
        post("/api/send", &json!({ "sender": "a", "text": "x".repeat(220), "room": room.to_string(), "key": key }))
    };
    let fill = |counted: &mut Counted, numbers: std::ops::Range<usize>| {
        counted.fill(numbers.map(|number| of_client(number % 15, &send(number))));
    };
    fill(&mut counted, 0..15);
    let poll = |number: usize| {
        let room = number % 15;
        get(&format!("/api/poll?client_id={number:0100}&room={room}&last_message_id={FOREIGN}"))
    };
    counted.fill((0..3000).map(poll)); // while their answers are short
    fill(&mut counted, 15..4000);
    // Mailboxes with texts.
    let mut mailboxes = Vec::new();
    for number in 0..500 {
        let answer = counted.client.send(of_client(100 + number, &post("/poll", &json!({})))).answer();
        mailboxes.push(answer.json()["connection_id"].as_str().unwrap().to_owned());
    }
    let text = "x".repeat(700);
    let put = |number: usize| post("/sse/message", &json!({ "connection_id": mailboxes[number % 500], "text": text }));
    counted.fill((0..1000).map(put));
    // Connections, with everything that they can hold.
    let mut held = Vec::new();
    for number in 0..310 {
        let room = number % 15;
        let request = match number % 5 {
            0 => get(&format!("/api/stream?room={room}&client_id={number}&last_message_id={FOREIGN}")),
            1 => get(&format!("/api/events?room={room}&client_id={number}&last_message_id={FOREIGN}")),
            2 => get("/poll"),
            3 => opening(&format!("/api/signal?room={}", number % 20)),
            _ => opening(&format!("/api/ws?room={room}&client_id={number}&last_message_id={FOREIGN}")),
        };
        let mut client = counted.server.connect();
        client.send(of_client(1000 + number, &request));
        held.push(client);
    }
    counted.server.wait_for("the held exchanges", |stats| {
        let open = |transport: &str| stats["transports"][transport]["open"].as_u64().unwrap();
        open("stream") + open("sse") + open("websocket") + open("long_poll") == 310
    });
    // Messages that are not complete fill what connections may keep, until some are reset.
    let unfinished = masked_frame(false, Opcode::Text, &[b'x'; 90_000]);
    for (number, client) in held.iter_mut().enumerate() {
        if number % 5 == 4 {
            let _ = client.stream.write_all(&unfinished);
        }
    }
    counted.server.wait_for("the memory of the connections", |stats| {
        stats["memory"]["connections"].as_i64().unwrap() > 3 << 20 || stats["connections"].as_u64().unwrap() < 300
    });
    let most = counted.heap.most.load(Ordering::Relaxed) - before;
    let reading = counted.reading();
    println!("{worst}\nmost {most}, in the books {}", reading.books);
    let worst = worst.total() as i64;
    assert!(most <= worst * 6 / 5, "{most} bytes, more than {worst}");
    assert!(most >= worst * 4 / 5, "{most} bytes of {worst}");
}

fn opening(target: &str) -> String {
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n")
}
