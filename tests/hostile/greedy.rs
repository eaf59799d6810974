//! One address that takes all it can get, on every endpoint, while another address uses every transport. The bounds of
//! each client are what keeps them apart: see `quotas.rs` in the source.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use overwire::websocket::{self, Opcode};

use super::client::{Client, KEY, draft, frame, get, post};
use super::from::connect_from;
use super::other::Other;
use super::scene::{FULL, MEMORY, Row, Scene, Settings};
use super::target::Target;

/// The attacker is 127.0.0.2.
const ATTACKER: u8 = 2;

/// The number of connections that the attacker holds on to, of those that were not closed.
const HELD: usize = 1000;

/// The time of the answers to the other address that 99 of 100 must keep.
const P99: Duration = Duration::from_millis(50);

/// What the threads of the attacker share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    /// The numbers of answers with 429, and of WebSockets that were closed with 1008.
    refused: AtomicU64,
    closed: AtomicU64,
}

/// A thread's part of the attack: it is called with a number that counts up, again and again.
type Part = fn(SocketAddr, &Shared, u64, &mut Vec<TcpStream>) -> io::Result<()>;

const PARTS: [Part; 4] = [hold_everything, ask_without_end, say_without_end, leave_unfinished];

pub fn greedy(settings: &Settings) -> io::Result<Vec<Row>> {
    // A bound that is given counts for addresses of this machine too. These are the defaults.
    let arguments = ["--rate", "100"];
    let mut scene = Scene::prepared(settings, "one greedy address", "-n $(ulimit -Hn)", &arguments, fill_room)?;
    let address = scene.server.address;
    let other = Other::start(address)?;
    let shared = Arc::new(Shared::default());
    let threads: Vec<JoinHandle<()>> = PARTS.into_iter().map(|part| start(part, address, shared.clone())).collect();
    thread::sleep(settings.duration());
    let report = other.finish();
    scene.end_victim();
    shared.stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    let [sent, refused, closed] =
        [&shared.sent, &shared.refused, &shared.closed].map(|count| count.load(Ordering::Relaxed));
    scene.add_sent(sent as usize);
    let milliseconds = |part| report.percentile(part).as_secs_f64() * 1000.0;
    scene.also(format!(
        "{refused} times 429, {closed} times 1008; the other address: {} answers and messages, p50 {:.1}, p99 {:.1}, worst {:.0} ms",
        report.delays.len(),
        milliseconds(0.5),
        milliseconds(0.99),
        milliseconds(1.0)
    ));
    let p99 = report.percentile(0.99);
    scene.expect(p99 < settings.bound(P99), format!("p99 of the other address {} ms", p99.as_millis()));
    scene.expect(
        report.failures.is_empty(),
        format!("{} failures of the other address: {:?}", report.failures.len(), report.failures.first()),
    );
    scene.expect(refused > 0, "nothing was refused");
    Ok(vec![scene.finish(MEMORY, None)])
}

/// Fills a room with messages of 15 kB, of which an address may send as many at once.
fn fill_room(server: &Target) -> io::Result<()> {
    let (mut client, text) = (Client::connect(server.address)?, "x".repeat(15_000));
    (0..60).try_for_each(|_| client.post("/api/send", &draft(FULL, &text)).map(drop))
}

fn start(part: Part, address: SocketAddr, shared: Arc<Shared>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut held = Vec::new();
        for number in 0.. {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            // It goes on after a refusal.
            let _ = part(address, &shared, number, &mut held);
            thread::sleep(Duration::from_millis(1));
        }
    })
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = connect_from(ATTACKER, address)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Writes what the socket takes.
fn write(mut stream: &TcpStream, mut bytes: &[u8], shared: &Shared) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => {
                shared.sent.fetch_add(count as u64, Ordering::Relaxed);
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what has come, and counts refusals. `false` at the end of the connection.
fn read(mut stream: &TcpStream, shared: &Shared) -> bool {
    let mut buffer = [0; 64 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            let count_of = |pattern: &[u8]| {
                buffer[..count].windows(pattern.len()).filter(|bytes| *bytes == pattern).count() as u64
            };
            shared.refused.fetch_add(count_of(b"HTTP/1.1 429 "), Ordering::Relaxed);
            shared.closed.fetch_add(count_of(&[0x03, 0xf0, b't', b'o', b'o']), Ordering::Relaxed); // 1008
            true
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Opens polls, streams, WebSockets, peers of the signalling and mailboxes, and silent connections, and keeps them.
fn hold_everything(address: SocketAddr, shared: &Shared, number: u64, held: &mut Vec<TcpStream>) -> io::Result<()> {
    let websocket = |target: &str| websocket::opening_request("localhost", target, KEY);
    let request = match number % 9 {
        0 => get(&format!("/api/poll?client_id=greedy{number}&room=greedy{}&timeout=60", number % 500)),
        1 => get(&format!("/api/stream?room=greedy{}", number % 500)),
        2 => get(&format!("/api/events?room={FULL}&last_event_id=00000000-0000-8000-8000-000000000007")),
        3 => get("/sse"),
        4 => websocket(&format!("/api/ws?room={FULL}&last_message_id=00000000-0000-8000-8000-000000000007")),
        5 => websocket("/ws"),
        6 => websocket(&format!("/api/signal?room=greedy{number}")),
        7 => Vec::new(),
        _ => b"GET / HTTP/1.1\r\nHost: localhost\r\nA:".to_vec(),
    };
    let stream = connect(address)?;
    write(&stream, &request, shared)?;
    held.push(stream);
    if held.len() >= HELD {
        held.retain(|stream| read(stream, shared)); // those that are closed make room
        held.truncate(HELD / 2);
    }
    Ok(())
}

/// Sends dear requests one after the other, and reads what comes.
fn ask_without_end(address: SocketAddr, shared: &Shared, number: u64, held: &mut Vec<TcpStream>) -> io::Result<()> {
    let text = "\u{1f980}".repeat(15_000);
    let request = match number % 7 {
        0 => get(&format!("/api/messages?room={FULL}")),
        1 => get(&format!("/api/history?room={FULL}&limit=100")),
        2 => get("/api/stats"),
        3 => post("/api/send", &draft(&format!("greedy{number}"), &text)),
        4 => post("/poll", ""),
        5 => post("/api/send", &format!("[{}1]", "1,".repeat(900))),
        _ => get(&format!("/api/messages?room=greedy{number}")),
    };
    let stream = connect(address)?;
    write(&stream, &request.repeat(1 + 256 * 1024 / request.len()), shared)?;
    held.push(stream);
    held.retain(|stream| read(stream, shared));
    if held.len() > 50 {
        held.remove(0);
    }
    Ok(())
}

/// Sends messages on WebSockets, in spite of the errors.
fn say_without_end(address: SocketAddr, shared: &Shared, number: u64, held: &mut Vec<TcpStream>) -> io::Result<()> {
    if held.len() < 10 {
        let stream = connect(address)?;
        let target = ["/api/ws?room=greedy", "/ws", "/api/signal?room=greedy"][number as usize % 3];
        write(&stream, &websocket::opening_request("localhost", target, KEY), shared)?;
        held.push(stream);
    }
    let texts =
        [br#"{"sender":"greedy","text":"x"}"#.as_slice(), br#"{"message":"x"}"#, b"", br#"{"type":"heartbeat"}"#];
    let frames = frame(Opcode::Text, texts[number as usize % texts.len()]).repeat(500);
    held.retain(|stream| read(stream, shared) && write(stream, &frames, shared).is_ok());
    Ok(())
}

/// Sends contents and messages of a mebibyte that lack their end, and opens and closes connections.
fn leave_unfinished(address: SocketAddr, shared: &Shared, number: u64, held: &mut Vec<TcpStream>) -> io::Result<()> {
    const LENGTH: usize = 1024 * 1024;
    let stream = connect(address)?;
    if number.is_multiple_of(20) {
        let head = format!("POST /api/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
        write(&stream, head.as_bytes(), shared)?;
        held.push(stream);
    }
    let piece = vec![b' '; 16 * 1024];
    held.retain(|stream| read(stream, shared) && write(stream, &piece, shared).is_ok());
    if held.len() > 50 {
        held.remove(0);
    }
    Ok(())
}

/// Connects a client from 127.0.0.`host`.
pub fn client_from(host: u8, address: SocketAddr) -> io::Result<Client> {
    Client::of(connect_from(host, address)?)
}
