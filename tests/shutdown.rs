//! A shutdown while 1000 connections are open: each is ended in the way of its kind, and then the server ends.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::common::{Client, Running, TestServer};

const CLIENTS_OF_A_KIND: usize = 200;

/// Connects clients, and calls `prepare` for each.
fn clients(address: SocketAddr, prepare: impl Fn(usize, &mut Client)) -> Vec<Client> {
    let connect = |number| {
        let mut client = Client::connect(address);
        prepare(number, &mut client);
        client
    };
    (0..CLIENTS_OF_A_KIND).map(connect).collect()
}

/// Opens connections of every kind, calls `shut_down`, and checks their ends.
fn expect_ends(address: SocketAddr, shut_down: impl FnOnce()) {
    let polls = clients(address, |number, client| {
        client.send_get(&format!("/api/poll?client_id={number}"));
    });
    let streams = clients(address, |_, client| {
        client.send_get("/api/stream").head();
    });
    let mut events = clients(address, |_, client| {
        client.send_get("/api/events").head();
        client.chunk();
    });
    let sockets = clients(address, |_, client| drop(client.upgrade("/api/ws")));
    let idle = clients(address, |_, client| drop(client.get("/health")));
    let mut watcher = Client::connect(address);
    let open = |stats: &serde_json::Value| stats["transports"]["long_poll"]["open"] == CLIENTS_OF_A_KIND;
    while !open(&watcher.get("/api/stats").json()) {}

    shut_down();
    for mut poll in polls {
        let answer = poll.answer();
        assert_eq!((answer.status, &answer.json()["timeout"]), (200, &true.into()));
    }
    for event_stream in &mut events {
        assert!(event_stream.chunk_text().starts_with("retry: "));
    }
    for mut stream in streams.into_iter().chain(events) {
        assert_eq!(stream.chunk(), None, "the last-chunk");
    }
    for mut socket in sockets {
        let close = socket.message();
        assert_eq!(close.close().0, 1001);
        socket.send_frame(close.opcode, &close.payload);
        socket.expect_end();
    }
    for mut idle in idle {
        idle.expect_end();
    }
}

#[test]
fn every_kind_of_connection_is_ended_in_its_own_way_after_sigterm() {
    let mut server =
        Running::start(Command::new(env!("CARGO_BIN_EXE_overwire")).args(["--port", "0", "--drain-time", "1"]));
    let process = server.process.id().to_string();
    expect_ends(server.address, || {
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    });
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}

#[test]
fn the_end_waits_for_no_deadline_if_all_peers_answer() {
    let server = TestServer::with(|config| config.drain.time = Duration::ZERO);
    expect_ends(server.address, || server.shut_down());
    server.wait_for_end();
}
