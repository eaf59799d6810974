//! The exercises of lesson 00. Each test fails until you have done what it asks for:
//! `cargo test --test 00-exercises NAME`.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Client, Running};

fn start() -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_00-readiness")).args(["--port", "0"]))
}

/// Connects a client whose reads wait at most 5 seconds.
fn connect(server: &Running) -> Client {
    let client = Client::connect(server.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Ten connections may be open. The eleventh gets a line and is closed.
#[test]
fn eleventh_client_is_refused() {
    let server = start();
    let mut clients: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.send("hello\n").read_until("\n"), "hello\n");
    }
    let mut eleventh = connect(&server);
    assert_eq!(eleventh.read_until("\n"), "too many connections\n");
    eleventh.expect_end();

    // One leaves, another may enter.
    clients[3].finish();
    clients[3].expect_end();
    assert_eq!(connect(&server).send("hello\n").read_until("\n"), "hello\n");
}

/// A connection that is silent for two seconds is closed. The server need not wake up more often than that: `poll`
/// takes a timeout.
#[test]
fn idle_connections_are_closed() {
    let server = start();
    let (mut silent, mut busy) = (connect(&server), connect(&server));
    let begin = Instant::now();
    for _ in 0..6 {
        assert_eq!(busy.send("tick\n").read_until("\n"), "tick\n");
        std::thread::sleep(Duration::from_millis(400));
    }
    silent.expect_end();
    assert!(begin.elapsed() < Duration::from_secs(4), "it is closed late");
    assert_eq!(busy.send("tock\n").read_until("\n"), "tock\n", "a busy connection stays open");
}

/// A line of one client reaches all others, and not its sender: the echo server becomes a chat.
#[test]
fn lines_reach_all_other_clients() {
    let server = start();
    let (mut bob, mut carol, mut alice) = (connect(&server), connect(&server), connect(&server));
    alice.send("I am Alice\n");
    assert_eq!(bob.read_until("\n"), "I am Alice\n");
    assert_eq!(carol.read_until("\n"), "I am Alice\n");
    bob.send("I am Bob\n");
    assert_eq!(alice.read_until("\n"), "I am Bob\n", "Alice does not receive her own line");
    assert_eq!(carol.read_until("\n"), "I am Bob\n");

    // One leaves. The others still receive lines.
    carol.finish();
    carol.expect_end();
    alice.send("Where is Carol?\n");
    assert_eq!(bob.read_until("\n"), "Where is Carol?\n");
}
