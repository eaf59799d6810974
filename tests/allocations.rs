//! The heap blocks of a connection, counted by an allocator. It counts only in the thread of the loop, so the clients
//! may allocate.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use common::{Client, TestServer};
use overwire::http::Response;
use overwire::server::{Config, Server};
use overwire::websocket::{Message, Opcode};
use overwire::{Event, Limits, http, sse, websocket};

struct Counting;

/// The counts of a thread since its counting began.
#[derive(Clone, Copy, Default)]
struct Counts {
    allocations: i64,
    /// The blocks allocated less the blocks freed, and the bytes in them.
    blocks: i64,
    bytes: i64,
}

thread_local! {
    static COUNTS: Cell<Option<Counts>> = const { Cell::new(None) };
}

/// The bytes in the blocks of the one full server.
static SERVER_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

fn note(allocations: i64, blocks: i64, bytes: i64) {
    if IS_SERVER.get() {
        SERVER_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
    COUNTS.set(COUNTS.get().map(|counts| Counts {
        allocations: counts.allocations + allocations,
        blocks: counts.blocks + blocks,
        bytes: counts.bytes + bytes,
    }));
}

// SAFETY: all arguments are passed on to the allocator of the system unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, 1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(0, -1, -(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, 0, size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that `/shout` sends to each stream.
const SHOUT: usize = 100_000;

/// Ends the pause of `/pause`. Only one test uses it.
static RESUMED: AtomicBool = AtomicBool::new(false);

/// The server under test:
///
/// - `/ws` echoes, and `/tell` sends a message to the newest WebSocket.
/// - `/sse` streams. `/shout` sends a chunk to all streams, and `/respond` responds to the newest one, which is a
///   mistake.
/// - `/poll` is held. `/pause` keeps the loop busy.
/// - `/count` answers with the counts so far.
fn server() -> TestServer {
    TestServer::of_loop(Limits::default(), |mut server| {
        COUNTS.set(Some(Counts::default()));
        let (mut newest, mut streams) = (None, Vec::new());
        loop {
            match server.next_event()? {
                Event::Request(id, request) => match &*request.path() {
                    "/ws" => {
                        server.upgrade(id, websocket::accept(&request, &[]).expect("a handshake"));
                        newest = Some(id);
                    }
                    "/tell" => {
                        let length = request.parameter("length").expect("a length").parse().expect("a number");
                        server.send_message(newest.expect("a WebSocket"), Message::Text("x".repeat(length)));
                        server.respond(id, Response::new(204));
                    }
                    "/sse" => {
                        server.begin(id, sse::stream_head());
                        server.send(id, &http::chunk(&sse::comment("hello")));
                        streams.push(id);
                    }
                    "/respond" => {
                        server.respond(*streams.last().expect("a stream"), Response::text(200, "unsolicited"));
                        server.respond(id, Response::new(204));
                    }
                    "/pause" => {
                        while !RESUMED.load(Ordering::Acquire) {
                            std::thread::yield_now();
                        }
                        server.respond(id, Response::new(204));
                    }
                    "/shout" => {
                        let chunk = http::chunk(&vec![b'x'; SHOUT]);
                        streams.iter().for_each(|stream| server.send(*stream, &chunk));
                        server.respond(id, Response::new(204));
                    }
                    "/poll" => {}
                    _ => {
                        let Counts { allocations, blocks, bytes } = COUNTS.get().expect("this thread is counted");
                        server.respond(id, Response::text(200, format!("{allocations} {blocks} {bytes}")));
                    }
                },
                Event::Message(id, message) => server.send_message(id, message),
                Event::Shutdown => return server.drain(),
                _ => {}
            }
        }
    })
}

/// The counts, requested on an open connection. All input before the request has been read.
fn counts(client: &mut Client) -> Counts {
    let answer = client.get("/count");
    let numbers: Vec<i64> = answer.text().split(' ').map(|number| number.parse().unwrap()).collect();
    Counts { allocations: numbers[0], blocks: numbers[1], bytes: numbers[2] }
}

/// The blocks that one more idle connection owns. The lists of the loop do not count: when they grow, one block
/// replaces another.
fn blocks_of_an_idle_connection(open: impl Fn(&TestServer) -> Client) -> f64 {
    const MANY: usize = 200;
    let server = server();
    let mut observer = server.connect();
    // Not counted: what the first connection creates for all, such as spare buffers and the lists.
    let first = open(&server);
    counts(&mut observer);
    let before = counts(&mut observer).blocks;
    let all: Vec<Client> = (0..MANY).map(|_| open(&server)).collect();
    let after = counts(&mut observer).blocks;
    drop((first, all));
    (after - before) as f64 / MANY as f64
}

#[test]
fn an_idle_websocket_owns_one_block() {
    let blocks = blocks_of_an_idle_connection(|server| {
        let mut client = server.websocket("/ws");
        client.send_text("hello");
        assert_eq!(client.frame().text(), "hello");
        client
    });
    assert!((0.95..=1.05).contains(&blocks), "{blocks}");
}

/// The message is sent outside the turn of its connection, and no memory of it may stay there.
#[test]
fn an_idle_websocket_owns_one_block_after_a_message() {
    for length in [10, 3000, 100_000] {
        let blocks = blocks_of_an_idle_connection(|server| {
            let mut client = server.websocket("/ws");
            assert_eq!(server.get(&format!("/tell?length={length}")).status, 204);
            assert_eq!(client.frame().payload.len(), length);
            client
        });
        assert!((0.95..=1.05).contains(&blocks), "{blocks} after a message of {length} bytes");
    }
}

/// `respond` does nothing on a stream, and keeps no memory.
#[test]
fn an_operation_that_does_nothing_leaves_no_block() {
    let blocks = blocks_of_an_idle_connection(|server| {
        let mut client = server.connect();
        client.send_get("/sse").head();
        assert_eq!(client.chunk_text(), ": hello\n\n");
        assert_eq!(server.get("/respond").status, 204);
        client
    });
    assert!((-0.05..=0.05).contains(&blocks), "{blocks}");
}

#[test]
fn an_idle_stream_owns_no_block() {
    let blocks = blocks_of_an_idle_connection(|server| {
        let mut client = server.connect();
        client.send_get("/sse").head();
        assert_eq!(client.chunk_text(), ": hello\n\n");
        client
    });
    assert!((-0.05..=0.05).contains(&blocks), "{blocks}");
}

#[test]
fn a_held_poll_owns_no_block() {
    let blocks = blocks_of_an_idle_connection(|server| {
        let mut client = server.connect();
        // The answer shows that the connection has been accepted.
        client.get("/count");
        client.send_get("/poll");
        client
    });
    assert!((-0.05..=0.05).contains(&blocks), "{blocks}");
}

#[test]
fn an_echo_allocates_once() {
    const MANY: usize = 200;
    let server = server();
    let (mut observer, mut client) = (server.connect(), server.websocket("/ws"));
    let mut echo = |message: &str| {
        client.send_text(message);
        assert_eq!(client.frame().text(), message);
    };
    echo("warm");
    let asking = {
        let before = counts(&mut observer).allocations;
        counts(&mut observer).allocations - before
    };
    for message in ["small", &"x".repeat(1000)] {
        echo(message);
        let before = counts(&mut observer).allocations;
        (0..MANY).for_each(|_| echo(message));
        let allocations = counts(&mut observer).allocations - before - asking;
        assert!(allocations <= MANY as i64, "{allocations} allocations for {MANY} echoes of {} bytes", message.len());
    }
}

#[test]
fn sixteen_echoes_in_one_read_share_one_allocation() {
    let server = server();
    let (mut observer, mut client) = (server.connect(), server.websocket("/ws"));
    let together = common::masked_frame(true, Opcode::Text, b"together").repeat(16);
    let mut echo = || {
        client.send(&together);
        (0..16).for_each(|_| assert_eq!(client.frame().text(), "together"));
    };
    (0..10).for_each(|_| echo());
    let before = counts(&mut observer).allocations;
    let asking = counts(&mut observer).allocations - before;
    let before = counts(&mut observer).allocations;
    (0..100).for_each(|_| echo());
    let allocations = counts(&mut observer).allocations - before - asking;
    // A burst may arrive in two reads.
    assert!(allocations <= 200, "{allocations} allocations for 100 bursts");
}

#[test]
fn a_chunk_queued_for_many_is_in_memory_once() {
    const MESSAGES: usize = 60;
    let server = server();
    let mut observer = server.connect();
    // These clients do not read, so chunks stay in their outboxes, up to the limit.
    let mut silent: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    silent.iter_mut().for_each(|client| drop(client.send_get("/sse").head()));
    let before = counts(&mut observer).bytes;
    for _ in 0..MESSAGES {
        assert_eq!(observer.get("/shout").status, 204);
        let more = counts(&mut observer).bytes - before;
        assert!(more <= (MESSAGES * SHOUT + SHOUT) as i64, "{more} bytes for 20 receivers");
    }
}

#[test]
fn input_after_a_held_request_is_bounded_by_one_read() {
    let server = server();
    let (mut observer, mut pauser) = (server.connect(), server.connect());
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.get("/count")));
    let before = counts(&mut observer).bytes;
    // All input arrives while the loop is busy.
    pauser.send_get("/pause");
    let held = [b"GET /poll HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), vec![b'x'; 300_000]].concat();
    for client in &mut clients {
        client.send(&held);
    }
    RESUMED.store(true, Ordering::Release);
    assert_eq!(pauser.answer().status, 204);
    let more = counts(&mut observer).bytes - before;
    assert!(more <= 20 * 66 * 1024, "{more} bytes for 20 clients");
}

/// Each answer and each replay is a mebibyte, and no reader reads its own.
#[test]
fn what_is_not_read_is_in_memory_once() {
    const PATHS: [&str; 4] = ["/api/messages?", "/api/stream?", "/api/events?", "/api/ws?"];
    const READERS: usize = 50;
    let server = TestServer::spawn(|ready| {
        IS_SERVER.set(true);
        let server = Server::bind(Config { port: 0, ..Config::default() })?;
        ready(server.local_address(), server.remote());
        server.run()
    });
    let first = server.publish("tea", "first");
    let mut sender = server.connect();
    for _ in 0..1000 {
        let content = format!(r#"{{"room": "tea", "sender": "test", "text": "{}"}}"#, "x".repeat(900));
        assert_eq!(sender.post("/api/send", &content).status, 200);
    }
    let open = |path: &str| {
        let target = format!("{path}room=tea&last_message_id={first}");
        let mut client = server.connect();
        if path == "/api/ws?" {
            client.upgrade(&target);
        } else {
            let requests = if path == "/api/messages?" { 8 } else { 1 };
            (0..requests).for_each(|_| _ = client.send_get(&target));
        }
        client
    };
    let wait = |readers: usize| {
        server.wait_for("unread replays", |stats| {
            ["short_poll", "stream", "sse", "websocket"]
                .iter()
                .all(|transport| stats["transports"][transport]["messages"].as_u64() >= Some(readers as u64 * 1000))
        });
    };
    let mut all: Vec<Client> = PATHS.iter().map(|path| open(path)).collect();
    wait(1);
    let before = SERVER_BYTES.load(Ordering::Relaxed);
    all.extend((0..READERS).flat_map(|_| PATHS).map(open));
    wait(READERS + 1);
    let each = (SERVER_BYTES.load(Ordering::Relaxed) - before) / (READERS * PATHS.len()) as i64;
    assert!(each < 16 * 1024, "{each} bytes for each reader");
}
