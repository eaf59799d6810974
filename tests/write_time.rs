//! The time in which a peer must take something of what waits for it. The system measures it, so these tests wait for
//! real seconds. They hold on Linux, which has the option.
#![cfg(target_os = "linux")]

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, TestServer, in_enough_time, masked_frame};
use overwire::http::{self, Response};
use overwire::websocket::{self, Opcode};
use overwire::{Closed, Event, EventLoop, Limits, Opened, Shared};

/// More than the buffers of the system take for a peer that does not read.
const LARGE: usize = 8 * 1024 * 1024;

/// The time that peers have.
const SHORT: Duration = Duration::from_secs(1);

/// Starts a program whose peers have this time, and returns what it is told of the ends of connections.
fn start_with(write_time: Duration) -> (TestServer, Receiver<Closed>) {
    let (sender, closed) = channel();
    let limits = Limits { write_time, outbox: 8 * LARGE, ..Limits::default() };
    (TestServer::of_loop(limits, move |server| run(server, &sender)).in_real_time(), closed)
}

fn start() -> (TestServer, Receiver<Closed>) {
    start_with(SHORT)
}

/// `/answer` gets a large answer, `/stream` a stream, `/connections` their number, and `/connect/ADDRESS` has a large
/// piece sent to an address. `/tick` gets a stream with a line each 100 ms. The answer to a message is 64 KiB.
fn run(mut server: EventLoop, closed: &Sender<Closed>) -> io::Result<()> {
    let large = Shared::from(vec![b'x'; LARGE]);
    let mut ticking = None;
    loop {
        match server.next_event()? {
            Event::Request(id, request) => match (request.path().as_ref(), websocket::accept(&request, &[])) {
                (_, Ok(accepted)) => server.upgrade(id, accepted),
                ("/answer", _) => server.respond(id, Response::text(200, &large)),
                ("/stream", _) => {
                    server.begin(id, Response::new(200));
                    server.send(id, &large);
                }
                ("/tick", _) => {
                    server.begin(id, Response::new(200));
                    ticking = Some(id);
                    server.set_timer(Duration::ZERO);
                }
                ("/hold", _) => {}
                ("/connections", _) => server.respond(id, Response::text(200, server.connections().to_string())),
                (path, _) => {
                    let address: SocketAddr = path.trim_start_matches("/connect/").parse().expect("an address");
                    server.connect(address)?;
                    server.respond(id, Response::new(204));
                }
            },
            Event::Timer(_) => {
                ticking.iter().for_each(|id| server.send(*id, &http::chunk(b"tick")));
                server.set_timer(Duration::from_millis(100));
            }
            Event::Opened(id, Opened::Connected) => server.send_bytes(id, vec![b'x'; LARGE]),
            Event::Message(id, _) => server.send_message(id, websocket::Message::Binary(vec![b'x'; 64 * 1024])),
            Event::Closed(_, why) => drop(closed.send(why)),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

#[test]
fn a_stream_that_is_not_read_ends() {
    let (server, closed) = start();
    let mut client = server.connect();
    client.send_get("/stream").head();
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
}

#[test]
fn a_stream_that_is_read_slowly_goes_on() {
    in_enough_time(SHORT, |time| {
        let (server, closed) = start_with(time);
        let mut client = server.connect();
        client.send_get("/stream").head();
        for _ in 0..8 {
            client.read_exactly(LARGE / 16);
            let waited = closed.recv_timeout(2 * time / 5);
            assert_eq!(waited, Err(RecvTimeoutError::Timeout), "more than three times the time in all");
        }
        client.read_exactly(LARGE / 2);
    });
}

#[test]
fn an_answer_that_is_not_read_ends_its_connection() {
    let (server, _) = start();
    let mut client = server.connect();
    client.send_get("/answer").head();
    let (mut other, start) = (server.connect(), Instant::now());
    while other.get("/connections").text() != "1" {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[test]
fn a_websocket_that_sends_and_does_not_read_ends() {
    let (server, closed) = start();
    let mut client = server.websocket("/");
    let message = masked_frame(true, Opcode::Text, b"more");
    while client.stream.write_all(&message).is_ok() {}
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
}

#[test]
fn an_outgoing_connection_that_is_not_read_ends() {
    let (server, closed) = start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("/connect/{}", silent.local_addr().unwrap());
    assert_eq!(server.get(&target).status, 204);
    let _accepted = silent.accept().unwrap();
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
}

/// A peer that has vanished sends no reset and acknowledges nothing. Here its whole network goes down. So these tests
/// run again in a network of their own, if they may have one.
fn in_own_network(name: &str, test: fn()) {
    const INSIDE: &str = "OVERWIRE_TEST_IN_ITS_OWN_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let in_own_network = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script]).env(INSIDE, "1");
        command
    };
    let may_have_one = in_own_network("ip link set lo up").output().is_ok_and(|output| output.status.success());
    if !may_have_one {
        return eprintln!("left out: `unshare --net` and `ip` give no network of its own");
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("ip link set lo up && exec '{}' --exact write_time::{name}", program.display());
    let output = in_own_network(&script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn lose_the_network() {
    assert!(Command::new("ip").args(["link", "set", "lo", "down"]).status().unwrap().success());
}

#[test]
fn a_stream_to_a_peer_that_has_vanished_ends() {
    in_own_network("a_stream_to_a_peer_that_has_vanished_ends", || {
        let (server, closed) = start();
        let mut client = server.connect();
        client.send_get("/tick").head();
        assert_eq!(client.chunk_text(), "tick");
        lose_the_network();
        assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
    });
}

/// Nothing is sent to it, so nothing stays unacknowledged: the system's keep-alives find it.
#[test]
fn a_held_request_of_a_peer_that_has_vanished_ends() {
    in_own_network("a_held_request_of_a_peer_that_has_vanished_ends", || {
        let (server, closed) = start();
        let mut client = server.connect();
        client.send_get("/hold");
        while server.get("/connections").text() != "2" {} // it has its request
        lose_the_network();
        assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
    });
}

#[test]
fn a_ghost_is_named_before_it_is_ended() {
    in_own_network("a_ghost_is_named_before_it_is_ended", || {
        const AGE: Duration = Duration::from_secs(2);
        let (sender, found) = channel();
        let server = TestServer::of_loop(Limits::default(), move |mut server| {
            let mut ticking = None;
            loop {
                match server.next_event()? {
                    Event::Request(id, _) => {
                        server.begin(id, Response::new(200));
                        ticking = Some(id);
                        server.set_timer(Duration::ZERO);
                    }
                    Event::Timer(_) => {
                        ticking.iter().for_each(|id| server.send(*id, &http::chunk(b"tick")));
                        server.set_timer(Duration::from_millis(100));
                        let _ = sender.send((server.ghosts(AGE), ticking)); // the test may be over
                    }
                    Event::Shutdown => return server.drain(),
                    _ => {}
                }
            }
        })
        .in_real_time();
        let mut client = server.connect();
        client.send_get("/tick").head();
        (0..30).for_each(|_| assert_eq!(client.chunk_text(), "tick"));
        assert!(found.try_iter().all(|(ghosts, _)| ghosts.is_empty()), "it acknowledges, although it says nothing");
        let start = Instant::now();
        lose_the_network();
        let (ghosts, id) = found.iter().find(|(ghosts, _)| !ghosts.is_empty()).unwrap();
        assert!(start.elapsed() >= AGE - Duration::from_millis(200) && start.elapsed() < PATIENCE);
        assert!(ghosts.len() == 1 && Some(ghosts[0].exchange) == id && ghosts[0].age >= AGE, "{ghosts:?}");
        assert!(ghosts[0].bytes >= 4, "{ghosts:?}");
        std::process::exit(0); // the connection would end only after 45 s
    });
}
