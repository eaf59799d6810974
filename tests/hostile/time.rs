//! Attacks on the time of the server, and pauses of the server itself.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use overwire::websocket::Opcode;

use super::client::{Client, frame, get, post};
use super::crowd::Crowd;
use super::scene::{FULL, LONG, MEMORY, Row, Scene, Settings, fill};
use super::target::Target;

/// Connections that send a mebibyte in all of the dearest requests, and read every answer.
pub fn dear(settings: &Settings) -> io::Result<Vec<Row>> {
    let head = format!("HEAD /api/messages?room={FULL} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let history = get(&format!("/api/history?room={FULL}&limit=100"));
    let full = |server: &Target| fill(server).map(drop);
    let mut rows = vec![
        dear_by(settings, "dear GET", &get(&format!("/api/messages?room={FULL}")), MEBIBYTE, full)?,
        dear_by(settings, "dear HEAD", &head, MEBIBYTE, full)?,
        dear_by(settings, "dear history", &history, MEBIBYTE, full)?,
    ];
    let mut readers = None;
    let with_readers = |server: &Target| {
        let mut crowd = Crowd::connect(server.address, 2000)?;
        let events = |number| get(&format!("/api/events?room=r{}&client_id=c{number}", number % 200)).into();
        crowd.send_each(events, LONG);
        thread::sleep(Duration::from_millis(300));
        readers = Some(crowd);
        Ok(())
    };
    rows.push(dear_by(settings, "dear statistics", &get("/api/stats"), MEBIBYTE, with_readers)?);
    drop(readers);
    let tree = post("/api/send", &format!(r#"{{"x":[{}[]]}}"#, "[],".repeat(300_000)));
    rows.push(dear_by(settings, "dear JSON", &tree, 40 * MEBIBYTE, |_| Ok(()))?);
    Ok(rows)
}

const MEBIBYTE: usize = 1024 * 1024;

/// Sends `total` bytes of a request over 300 connections.
fn dear_by(
    settings: &Settings,
    name: &str,
    request: &[u8],
    total: usize,
    prepare: impl FnOnce(&Target) -> io::Result<()>,
) -> io::Result<Row> {
    const CONNECTIONS: usize = 300;
    let mut scene = Scene::prepared(settings, name, "-n $(ulimit -Hn)", &[], prepare)?;
    let connections = CONNECTIONS.min(total / request.len());
    let mut crowd = Crowd::connect(scene.server.address, connections)?;
    let drain = crowd.drain()?;
    let count = total / connections / request.len();
    crowd.send(request.repeat(count.max(1)), settings.duration());
    drain.wait_for_silence(Duration::from_millis(300), settings.duration());
    scene.count(&crowd);
    scene.terminate()?;
    drop(drain);
    Ok(scene.finish(MEMORY, None))
}

/// A log that nobody reads.
pub fn log(settings: &Settings) -> io::Result<Vec<Row>> {
    let mut scene = Scene::prepared(settings, "log", "-n $(ulimit -Hn)", &["--log"], |_| Ok(()))?;
    let mut crowd = Crowd::connect(scene.server.address, 10)?;
    let drain = crowd.drain()?;
    crowd.send(get("/health").repeat(2000), settings.duration());
    drain.wait_for_silence(settings.duration(), LONG);
    scene.count(&crowd);
    scene.terminate()?;
    drop(drain);
    Ok(vec![scene.finish(MEMORY, None)])
}

/// A process that is stopped for longer than its deadlines. What arrived meanwhile counts.
pub fn stopped(settings: &Settings) -> io::Result<Vec<Row>> {
    const EACH: usize = 50;
    // 12 s are longer than the time for a head, 65 s than the interval of Pings and its reserve.
    let time = settings.choose(Duration::from_secs(12), Duration::from_secs(65));
    let mut scene = Scene::start(settings, "stopped")?;
    let address = scene.server.address;
    let request = get("/health");
    let (begun, rest) = request.split_at(request.len() / 2);
    let mut heads: Vec<Client> = (0..EACH).map(|_| Client::connect(address)).collect::<io::Result<_>>()?;
    let mut idle: Vec<Client> = (0..EACH).map(|_| Client::connect(address)).collect::<io::Result<_>>()?;
    let mut sockets: Vec<Client> = (0..EACH).map(|_| Client::connect(address)).collect::<io::Result<_>>()?;
    for ((head, idle), socket) in heads.iter_mut().zip(&mut idle).zip(&mut sockets) {
        head.send(begun)?;
        idle.get("/health")?;
        socket.upgrade("/api/ws?room=stopped")?;
    }
    thread::sleep(Duration::from_millis(500));
    scene.excuse_victim();
    scene.server.signal("STOP")?;
    for ((head, idle), socket) in heads.iter_mut().zip(&mut idle).zip(&mut sockets) {
        head.send(rest)?;
        idle.send(&request)?;
        // A client that answers Pings in time has its Pong in the socket.
        socket.send(&frame(Opcode::Pong, b""))?;
        socket.send(&frame(Opcode::Text, br#"{"type":"heartbeat"}"#))?;
    }
    thread::sleep(time);
    scene.server.signal("CONT")?;
    let is_answered = |client: &mut Client| client.answer().is_ok_and(|answer| answer.status == 200);
    let lives = |client: &mut Client| client.message().is_ok_and(|text| text.contains("heartbeat"));
    let answered = heads.iter_mut().map(is_answered).filter(|is_so| *is_so).count();
    let reused = idle.iter_mut().map(is_answered).filter(|is_so| *is_so).count();
    let living = sockets.iter_mut().map(lives).filter(|is_so| *is_so).count();
    scene.also(format!("{answered} heads, {reused} idle, {living} WebSockets of {EACH}"));
    scene.expect(answered == EACH, "whole requests were not answered");
    scene.expect(reused == EACH, "idle connections with a request were closed");
    scene.expect(living == EACH, "living WebSockets were closed");
    Ok(vec![scene.finish(MEMORY, None)])
}

/// An urgent byte between two requests. It is not part of the stream, but a read stops at it.
pub fn urgent(settings: &Settings) -> io::Result<Vec<Row>> {
    let mut scene = Scene::start(settings, "urgent byte")?;
    let mut client = Client::connect(scene.server.address)?;
    let mut socket = Client::connect(scene.server.address)?;
    socket.upgrade("/api/ws?room=urgent")?;
    client.get("/health")?;
    let heartbeat = frame(Opcode::Text, br#"{"type":"heartbeat"}"#);
    scene.excuse_victim();
    // All of it lies in the socket when the server reads.
    scene.server.signal("STOP")?;
    for (stream, bytes) in [(&client.stream, get("/health")), (&socket.stream, heartbeat)] {
        send_urgent(stream, &bytes)?;
        io::Write::write_all(&mut &*stream, &bytes)?;
    }
    scene.server.signal("CONT")?;
    let answers = (0..2).filter(|_| client.answer().is_ok()).count();
    let messages = (0..2).filter(|_| socket.message().is_ok()).count();
    scene.also(format!("{answers} of 2 answers, {messages} of 2 messages"));
    scene.expect(answers == 2 && messages == 2, "what follows the byte waits");
    Ok(vec![scene.finish(MEMORY, None)])
}

/// Sends bytes and an urgent byte after them.
fn send_urgent(stream: &std::net::TcpStream, bytes: &[u8]) -> io::Result<()> {
    const MSG_OOB: c_int = 1;
    unsafe extern "C" {
        /// send(2). The standard library has no way to pass flags.
        fn send(socket: c_int, bytes: *const c_void, count: usize, flags: c_int) -> isize;
    }
    io::Write::write_all(&mut &*stream, bytes)?;
    // SAFETY: the byte outlives the call, and the socket is open.
    match unsafe { send(stream.as_raw_fd(), c"!".as_ptr().cast(), 1, MSG_OOB) } {
        1 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
