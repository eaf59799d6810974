//! The exercises of lesson 00. Each test fails until you have done what it asks for:
//! `cargo test --test 00-exercises NAME`.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::io::Write;
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

/// Ten connections may be open. Each further one gets the line `too many connections` and is closed, also if it has
/// sent something that nobody has read. When one of the ten has left, another may enter.
#[test]
fn eleventh_client_is_refused() {
    let server = start();
    let mut clients: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.send("hello\n").read_until("\n"), "hello\n");
    }
    for _ in 0..20 {
        let mut eleventh = connect(&server);
        eleventh.send("hello\n");
        std::thread::sleep(Duration::from_millis(10)); // a reset would be here before the line is read
        assert_eq!(eleventh.read_until("\n"), "too many connections\n");
        eleventh.expect_end();
    }

    // One leaves, another may enter.
    clients[3].finish();
    clients[3].expect_end();
    assert_eq!(connect(&server).send("hello\n").read_until("\n"), "hello\n");
}

/// A connection is silent if nothing waits to be written to it, and nothing was read from it or written to it for two
/// seconds. It is closed then, and not before. The server need not wake up more often than that: `poll` takes a timeout.
#[test]
fn idle_connections_are_closed() {
    let server = start();
    let (mut busy, mut slow) = (connect(&server), connect(&server));
    let mut slow_input = slow.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || slow_input.write_all(&vec![b'x'; 20_000_000]));
    let mut silent = connect(&server);
    let begin = Instant::now();
    let watch = std::thread::spawn(move || {
        silent.expect_end();
        begin.elapsed()
    });
    for _ in 0..7 {
        assert_eq!(busy.send("tick\n").read_until("\n"), "tick\n");
        std::thread::sleep(Duration::from_millis(400));
    }
    let silence = watch.join().expect("a silent connection is closed").as_secs_f64();
    assert!((1.9..4.0).contains(&silence), "it is closed after {silence} s");
    assert_eq!(busy.send("tock\n").read_until("\n"), "tock\n", "a busy connection stays open");
    // It read nothing for almost three seconds, but bytes waited for it.
    slow.read_exactly(20_000_000);
    writer.join().unwrap().unwrap();
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
