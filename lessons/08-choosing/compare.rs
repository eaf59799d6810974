//! Five clients, one on each transport of lesson 08's server, and one message to all of them at once. Prints its delay
//! and its cost on each connection, counted at the socket.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lessons::measure::{Counts, MESSAGE, Receiver};
use lessons::{Lesson, Receive};

const LESSON: Lesson = Lesson {
    name: "08-compare",
    port: 8008,
    about: "publishes one message on lesson 08's server, and says when and how it arrived on each transport",
    first: "",
    look_for: "",
    costs: &[],
};

/// The interval of the short poll.
const INTERVAL: Duration = Duration::from_secs(2);

const TRANSPORTS: [(&str, Receive); 5] = [
    ("short polling", Receive::ShortPoll("/short", INTERVAL.as_secs())),
    ("long polling", Receive::LongPoll("/long")),
    ("HTTP streaming", Receive::Stream("/stream")),
    ("SSE", Receive::Sse("/events")),
    ("WebSocket", Receive::WebSocket("/ws")),
];

fn main() -> ExitCode {
    LESSON.run(|port| compare(([127, 0, 0, 1], port).into()))
}

fn compare(address: SocketAddr) -> io::Result<()> {
    let (ready, everyone) = mpsc::channel::<Infallible>();
    let clients = TRANSPORTS.map(|(_, receive)| {
        let ready = ready.clone();
        thread::spawn(move || receive_one(address, receive, ready))
    });
    drop(ready);
    // Nothing is ever sent: the wait ends when each client has dropped its end, ready or failed.
    let _ = everyone.recv();
    let mut sender = Receiver::connect(address, Receive::Echo)?;
    let published = Instant::now();
    sender.post("/publish", &serde_json::json!({ "message": MESSAGE }).to_string())?;
    sender.answer()?;
    println!("{:<14} {:>12} {:>10} {:>6} {:>6}", "", "delay", "requests", "up", "down");
    for ((name, _), client) in TRANSPORTS.iter().zip(clients) {
        let (arrived, cost) = match client.join().map_err(|_| io::Error::other("a client panicked"))? {
            Ok(received) => received,
            Err(error) => {
                println!("{name:<14} {error}");
                continue;
            }
        };
        let delay = format!("{:.2} ms", arrived.duration_since(published).as_secs_f64() * 1000.0);
        println!("{name:<14} {delay:>12} {:>10} {:>6} {:>6}", cost.requests, cost.up, cost.down);
    }
    Ok(())
}

/// Receives one message. Returns the time of its arrival, and its cost since all clients were ready.
fn receive_one(
    address: SocketAddr,
    receive: Receive,
    ready: mpsc::Sender<Infallible>,
) -> io::Result<(Instant, Counts)> {
    let mut client = Receiver::connect(address, receive)?;
    client.begin()?;
    if !matches!(receive, Receive::ShortPoll(..) | Receive::LongPoll(_)) {
        client.read_until(b"recovered")?; // the position of the stream
        client.read_until(b"}")?;
    }
    let before = client.counts;
    drop(ready);
    if let Receive::ShortPoll(..) = receive {
        thread::sleep(INTERVAL);
        client.get()?;
    }
    client.message(MESSAGE)?;
    let arrived = Instant::now();
    client.ask_again()?;
    Ok((arrived, client.counts.since(before)))
}
