//! A pause of the whole process: what arrived in time counts, and all of it is read, however late that is.

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Client, PATIENCE, TestServer, masked_frame};
use overwire::http::Response;
use overwire::websocket::{self, CloseCode, Opcode};
use overwire::{Event, EventLoop, ExchangeId, Limits, Opened};

/// More than any deadline.
const LONG: u64 = 100;

/// The content of `/large`: more than the buffers of two sockets take.
const LARGE: usize = 48 * 1024 * 1024;

/// A server whose loop a test can hold inside a handler.
struct Pausable {
    server: TestServer,
    paused: Receiver<()>,
    resume: Sender<()>,
}

impl Pausable {
    fn start(limits: Limits) -> Self {
        let (reached, paused) = mpsc::channel();
        let (resume, resumed) = mpsc::channel();
        let server = TestServer::of_loop(limits, move |server| run(server, &reached, &resumed));
        Pausable { server, paused, resume }
    }

    /// Holds the loop in the handler of `target`, and lets it go after `meanwhile`, when all deadlines have passed.
    /// Returns the client that has asked for it.
    fn hold(&self, target: &str, meanwhile: impl FnOnce()) -> Client {
        let mut client = self.server.connect();
        client.send_get(target);
        self.paused.recv_timeout(PATIENCE).expect("the loop is in the handler");
        meanwhile();
        self.server.advance(LONG);
        self.resume.send(()).unwrap();
        client
    }
}

/// The server under test:
///
/// - `/ws` echoes. `/close` begins the closing handshake of the newest WebSocket.
/// - `/pause` holds the loop. `/connect` opens a connection to the server itself before that, and says what becomes of
///   it.
/// - `/burn` takes a millisecond.
/// - `/large` is answered with many bytes, and `/queued` with the number of them that wait.
/// - All else is answered with the length of its content.
fn run(mut server: EventLoop, reached: &Sender<()>, resumed: &Receiver<()>) -> std::io::Result<()> {
    let address = server.local_address();
    let (mut newest, mut large, mut asked): (Option<ExchangeId>, Option<ExchangeId>, _) = (None, None, None);
    let pause = || {
        reached.send(()).expect("the test waits");
        let _ = resumed.recv();
    };
    loop {
        match server.next_event()? {
            Event::Request(id, request) => match &*request.path() {
                "/ws" => {
                    server.upgrade(id, websocket::accept(&request, &[]).expect("a handshake"));
                    newest = Some(id);
                }
                "/close" => {
                    server.close(newest.expect("a WebSocket"), CloseCode::NORMAL, "enough");
                    server.respond(id, Response::new(204));
                }
                "/pause" => {
                    pause();
                    server.respond(id, Response::new(204));
                }
                "/connect" => {
                    server.connect(address)?;
                    asked = Some(id);
                    pause();
                }
                "/burn" => {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(1) {}
                    server.respond(id, Response::new(204));
                }
                "/large" => {
                    server.respond(id, Response::text(200, vec![b'x'; LARGE]));
                    large = Some(id);
                }
                "/queued" => {
                    let queued = large.map_or(0, |large| server.waiting(large));
                    server.respond(id, Response::text(200, queued.to_string()));
                }
                _ => server.respond(id, Response::text(200, request.content().len().to_string())),
            },
            Event::Message(id, message) => server.send_message(id, message),
            Event::Opened(_, Opened::Connected) => {
                server.respond(asked.expect("a request"), Response::text(200, "connected"));
            }
            Event::Closed(_, why) => {
                if let Some(id) = asked {
                    server.respond(id, Response::text(200, format!("{why:?}")));
                }
            }
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

/// The pieces of three requests: an unfinished head, an unfinished content, and nothing yet.
const PARTS: [(&str, &str, &str); 4] = [
    ("GET / HTTP/1.1\r\nHo", "st: localhost\r\n\r\n", "0"),
    ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12", "345", "5"),
    (
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12",
        "\r\n3\r\n345\r\n0\r\n\r\n",
        "5",
    ),
    ("", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "0"),
];

/// Clients that have sent the first parts, on fresh connections and on ones that have had an answer.
fn begun(server: &TestServer) -> Vec<Client> {
    let begin = |index: usize| {
        let mut client = server.connect();
        if index >= PARTS.len() {
            assert_eq!(client.get("/").status, 200);
        }
        client.send(PARTS[index % PARTS.len()].0);
        client
    };
    let clients = (0..2 * PARTS.len()).map(begin).collect();
    // When this is answered, the first parts have been read.
    assert_eq!(server.get("/").status, 200);
    clients
}

#[test]
fn requests_that_arrived_in_time_are_answered_after_a_pause() {
    let held = Pausable::start(Limits::default());
    let mut clients = begun(&held.server);
    held.hold("/pause", || {
        for (client, (_, rest, _)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
            client.send(rest);
        }
    });
    for (client, (_, _, length)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, *length));
        assert_eq!(client.get("/").status, 200, "the connection persists");
    }
}

#[test]
fn silent_peers_are_ended_after_a_pause() {
    let held = Pausable::start(Limits::default());
    let mut socket = held.server.websocket("/ws");
    held.server.advance(20);
    assert_eq!(socket.frame().opcode, Opcode::Ping);
    let mut clients = begun(&held.server);
    held.hold("/pause", || ());
    for (client, (begun, ..)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
        if !begun.is_empty() {
            assert_eq!(client.answer().status, 408);
        }
        client.expect_end();
    }
    socket.expect_end();
}

#[test]
fn websockets_whose_pong_or_text_arrived_in_time_live() {
    let held = Pausable::start(Limits::default());
    let mut sockets = [held.server.websocket("/ws"), held.server.websocket("/ws")];
    held.server.advance(20);
    for socket in &mut sockets {
        assert_eq!(socket.frame().opcode, Opcode::Ping);
    }
    let [ponging, talking] = &mut sockets;
    held.hold("/pause", || {
        ponging.send_frame(Opcode::Pong, "");
        talking.send_text("hello");
    });
    assert_eq!(talking.message().text(), "hello");
    for socket in &mut sockets {
        assert_eq!(socket.send_text("again").message().text(), "again");
    }
}

#[test]
fn closing_handshakes_that_arrived_in_time_are_orderly() {
    let held = Pausable::start(Limits::default());
    let mut socket = held.server.websocket("/ws");
    assert_eq!(held.server.get("/close").status, 204);
    let close = socket.message();
    held.hold("/pause", || _ = socket.send_frame(close.opcode, &close.payload));
    assert_eq!(socket.stream.read(&mut [0]).expect("no reset"), 0);
}

#[test]
fn connections_that_were_opened_in_time_are_open() {
    let held = Pausable::start(Limits::default());
    assert_eq!(held.hold("/connect", || ()).answer().text(), "connected");
}

#[test]
fn answers_that_the_peer_goes_on_reading_are_written() {
    let held = Pausable::start(Limits::default());
    let mut client = held.server.connect();
    client.send_get("/large");
    let head = client.head();
    let mut queued = LARGE;
    loop {
        let now = held.server.get("/queued").text().parse().unwrap();
        if now == queued {
            break; // neither socket takes more
        }
        queued = now;
    }
    let under_way = LARGE - queued;
    held.hold("/pause", || drop(client.read_exactly(under_way)));
    assert!(head.starts_with("HTTP/1.1 200 "));
    client.read_exactly(queued);
    assert_eq!(client.get("/").status, 200);
}

/// The loop learns of at most 1,024 sockets at a time.
#[test]
fn more_connections_than_one_poll_reports_are_answered_after_a_pause() {
    const MANY: usize = 1200;
    let held = Pausable::start(Limits { connections: 2 * MANY, ..Limits::default() });
    let mut clients: Vec<Client> = (0..MANY).map(|_| held.server.connect()).collect();
    assert_eq!(held.server.get("/").status, 200);
    held.hold("/pause", || clients.iter_mut().for_each(|client| _ = client.send_get("/")));
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
}

/// Its socket is never empty when the loop looks, because other requests take the loop longer than its writes take.
#[test]
fn an_endless_content_is_ended() {
    let held = Pausable::start(Limits { content: usize::MAX / 4, ..Limits::default() });
    let mut endless = held.server.connect();
    endless.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut writing = endless.stream.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while writing.write_all(chunk.as_bytes()).is_ok() {}
    });
    let mut burning = held.server.connect();
    burning.send("GET /burn HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000));
    held.hold("/pause", || ());
    assert_eq!(endless.answer().status, 408);
    drop(burning);
    held.server.advance(LONG);
    writer.join().unwrap();
    // Frames after the deadline of a Pong are no endless content: they show that the peer is there.
    let mut socket = held.server.websocket("/ws");
    socket.send(masked_frame(true, Opcode::Text, b"hello"));
    assert_eq!(socket.message().text(), "hello");
}

/// Sends a byte as urgent data (send(2), `MSG_OOB`), which are not in the stream that the server reads.
#[allow(unsafe_code)]
fn send_urgent(client: &Client) {
    const MSG_OOB: c_int = 1;
    unsafe extern "C" {
        fn send(socket: c_int, bytes: *const c_void, length: usize, flags: c_int) -> isize;
    }
    // SAFETY: the socket is open, and the byte outlives the call.
    let sent = unsafe { send(client.stream.as_raw_fd(), b"!".as_ptr().cast(), 1, MSG_OOB) };
    assert_eq!(sent, 1);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "elsewhere, mio does not report urgent bytes")]
fn bytes_after_an_urgent_byte_are_read() {
    let held = Pausable::start(Limits::default());
    let mut client = held.server.connect();
    held.hold("/pause", || {
        client.send("GET / HTTP/1.1\r\nHo");
        send_urgent(&client);
        client.send("st: localhost\r\n\r\n");
    });
    assert_eq!(client.answer().status, 200);
    send_urgent(&client);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn requests_that_arrived_before_the_shutdown_get_503() {
    let held = Pausable::start(Limits::default());
    let mut clients = begun(&held.server);
    held.hold("/pause", || {
        for (client, (_, rest, _)) in clients.iter_mut().zip(PARTS.iter().cycle()) {
            client.send(rest);
        }
        held.server.shut_down();
    });
    for client in &mut clients {
        let answer = client.answer();
        assert!(answer.status == 503 || answer.status == 200, "{answer:?}");
        client.expect_end();
    }
}
