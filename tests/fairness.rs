//! No peer can starve another, and errors of the system do not stop accepting.

mod common;

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Running, TestServer, masked_frame};
use overwire::websocket::Opcode;

/// Sends `burst` again and again until `stop`, and reads the answers, in two threads.
fn flood(client: Client, burst: Vec<u8>, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let mut writing = client.stream.try_clone().unwrap();
    let mut reading = client.stream.try_clone().unwrap();
    let stop = stop.clone();
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) && writing.write_all(&burst).is_ok() {}
        let _ = writing.shutdown(std::net::Shutdown::Both);
    });
    let reader = thread::spawn(move || {
        let _ = std::io::copy(&mut reading, &mut std::io::sink());
    });
    vec![writer, reader]
}

#[test]
fn flooding_peers_do_not_starve_others() {
    let server = TestServer::start();
    let stop = Arc::new(AtomicBool::new(false));
    let requests = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let mut threads = flood(server.connect(), requests, &stop);
    let frames = masked_frame(true, Opcode::Ping, b"").repeat(10_000);
    threads.extend(flood(server.websocket("/api/ws"), frames, &stop));
    let mut polite = server.connect();
    for _ in 0..100 {
        assert_eq!(polite.get("/health").status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn peers_that_do_not_read_do_not_starve_others() {
    let server = TestServer::start();
    let mut greedy = server.connect();
    greedy.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let requests = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    // The server stops reading while its answers are not read. Then these writes time out.
    let start = Instant::now();
    while greedy.stream.write(&requests).is_ok() {
        assert!(start.elapsed() < PATIENCE, "the server still reads requests of a peer that does not read its answers");
    }
    assert_eq!(server.get("/health").status, 200);
    // When the answers are read, the server continues.
    for _ in 0..1000 {
        assert_eq!(greedy.answer().status, 200);
    }
}

#[test]
fn bursts_of_many_turns_are_answered_in_order() {
    let server = TestServer::start();
    let mut client = server.connect();
    let requests: String =
        (0..1000).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: localhost\r\n\r\n")).collect();
    client.send(requests).finish();
    for number in 0..1000 {
        assert!(client.answer().text().contains(&format!("\"/{number}\\")), "the answer to request {number}");
    }
    client.expect_end();
    let mut socket = server.websocket("/api/ws");
    let said =
        |number| masked_frame(true, Opcode::Text, format!(r#"{{"sender": "a", "text": "{number}"}}"#).as_bytes());
    socket.send((0..1000).flat_map(said).collect::<Vec<u8>>());
    for number in 0..1000 {
        assert_eq!(socket.message().json()["text"], number.to_string());
    }
}

#[test]
fn accepting_pauses_without_file_descriptors_and_resumes() {
    // Fewer descriptors than the server reserves, so that `accept` fails with EMFILE.
    let limited = "ulimit -n 20 && exec \"$0\" --port 0";
    let mut server = Running::start(Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_overwire")]));
    let address = server.address;
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(address)).collect();
    assert_eq!(clients[0].get("/health").status, 200);
    clients.drain(..20);
    // The last clients waited in the queue of the kernel, and are accepted now.
    let last = clients.last_mut().unwrap();
    let answer = last.get("/health");
    assert!(matches!(answer.status, 200 | 503), "{answer:?}");
    drop(clients);
    let start = Instant::now();
    while Client::connect(address).get("/health").status != 200 {
        assert!(start.elapsed() < PATIENCE, "the server does not recover");
    }
    assert!(server.process.try_wait().unwrap().is_none(), "the server is alive");
}
