//! The time in which a peer must take something of what waits for it. The system measures it, so these tests wait for
//! real seconds. They hold on Linux, which has the option.
#![cfg(target_os = "linux")]

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, TestServer, masked_frame};
use overwire::http::{self, Response};
use overwire::websocket::{self, Opcode};
use overwire::{Closed, Event, EventLoop, Limits, Opened, Shared};

/// More than the buffers of the system take for a peer that does not read.
const LARGE: usize = 8 * 1024 * 1024;

/// Starts a program whose peers have one second, and returns what it is told of the ends of connections.
fn start() -> (TestServer, Receiver<Closed>) {
    let (sender, closed) = channel();
    let limits = Limits { write_time: Duration::from_secs(1), outbox: 8 * LARGE, ..Limits::default() };
    (TestServer::of_loop(limits, move |server| run(server, &sender)), closed)
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
    let (server, closed) = start();
    let mut client = server.connect();
    client.send_get("/stream").head();
    for _ in 0..8 {
        client.read_exactly(LARGE / 16);
        let waited = closed.recv_timeout(Duration::from_millis(400));
        assert_eq!(waited, Err(RecvTimeoutError::Timeout), "more than three seconds in all");
    }
    client.read_exactly(LARGE / 2);
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

/// A peer that has vanished sends no reset and acknowledges nothing. Here its whole network goes down. So this test
/// runs again in a network of its own, if it may have one.
#[test]
fn a_stream_to_a_peer_that_has_vanished_ends() {
    const INSIDE: &str = "OVERWIRE_TEST_IN_ITS_OWN_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return lose_the_network();
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
    let name = "write_time::a_stream_to_a_peer_that_has_vanished_ends";
    let script = format!("ip link set lo up && exec '{}' --exact {name}", program.display());
    let output = in_own_network(&script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn lose_the_network() {
    let (server, closed) = start();
    let mut client = server.connect();
    client.send_get("/tick").head();
    assert_eq!(client.chunk_text(), "tick");
    assert!(Command::new("ip").args(["link", "set", "lo", "down"]).status().unwrap().success());
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(Closed::TimedOut));
}
