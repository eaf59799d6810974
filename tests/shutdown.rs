//! SIGTERM while 1000 connections are open: each is ended in the way of its kind, and the process exits with 0.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Client, Running};

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

#[test]
fn every_kind_of_connection_is_ended_in_its_own_way() {
    let mut server =
        Running::start(Command::new(env!("CARGO_BIN_EXE_overwire")).args(["--port", "0", "--drain-time", "1"]));
    let address = server.address;
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

    let began = Instant::now();
    let killed = Command::new("kill").args(["-TERM", &server.process.id().to_string()]).status().unwrap();
    assert!(killed.success());
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
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "all peers answered, so no deadline was awaited");
}
