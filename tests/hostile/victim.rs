//! The victim: a client that behaves well while others attack. It asks for `/health` on connections that stay open and
//! on new ones, and it reads a room on a WebSocket while it publishes there.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, PATIENCE, draft};

/// The interval of the requests.
const INTERVAL: Duration = Duration::from_millis(5);

/// The number of requests after which the next one uses a new connection.
const REUSED: usize = 20;

/// The interval of the messages.
const MESSAGES: Duration = Duration::from_millis(50);

/// The measured values.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The times from a request to its answer, sorted. While one request waits, those that would have been sent
    /// meanwhile count with the time that they would have waited.
    pub delays: Vec<Duration>,
    /// Requests without an answer, or with another one than 200.
    pub failures: Vec<String>,
    /// The number of published messages, and of those that came out of the WebSocket.
    pub published: u64,
    pub received: u64,
}

impl Report {
    pub fn percentile(&self, part: f64) -> Duration {
        let at = (self.delays.len() as f64 * part) as usize;
        self.delays.get(at.min(self.delays.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// The threads of the victim.
pub struct Victim {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    requests: JoinHandle<Report>,
    publisher: JoinHandle<(u64, Vec<String>)>,
}

impl Victim {
    /// Opens the WebSocket, and begins.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let mut socket = Client::connect(address)?;
        socket.upgrade("/api/ws?room=general&client_id=victim")?;
        let counter = received.clone();
        // It ends with the connection, at the latest with the server.
        thread::spawn(move || {
            while let Ok(message) = socket.message() {
                counter.fetch_add(u64::from(message.contains("\"victim ")), Ordering::Relaxed);
            }
        });
        let stops = stop.clone();
        let requests = thread::spawn(move || measure(address, &stops));
        let stops = stop.clone();
        let publisher = thread::spawn(move || publish(address, &stops));
        Ok(Victim { stop, received, requests, publisher })
    }

    /// Ends, waits for the messages that are under way, and returns the values.
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = self.requests.join().unwrap_or_default();
        let (published, failures) = self.publisher.join().unwrap_or_default();
        report.failures.extend(failures);
        let start = Instant::now();
        while self.received.load(Ordering::Relaxed) < published && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        (report.published, report.received) = (published, self.received.load(Ordering::Relaxed));
        report.delays.sort_unstable();
        report
    }
}

fn measure(address: SocketAddr, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let mut kept = None;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if number % REUSED == 0 {
            kept = None;
        }
        let start = Instant::now();
        match ask(address, &mut kept) {
            Ok(()) => {}
            Err(error) => report.failures.push(error.to_string()),
        }
        let delay = start.elapsed();
        let mut missed = delay;
        loop {
            report.delays.push(missed);
            match missed.checked_sub(INTERVAL) {
                Some(rest) if rest > INTERVAL => missed = rest,
                _ => break,
            }
        }
        thread::sleep(INTERVAL.saturating_sub(delay));
    }
    report
}

/// Asks once, or twice if the server has closed a connection that was idle: a client must expect that, and repeats its
/// request on a new connection (RFC 9112, section 9.3.1).
fn ask(address: SocketAddr, kept: &mut Option<Client>) -> io::Result<()> {
    let is_reused = kept.is_some();
    let mut client = match kept.take() {
        Some(client) => client,
        None => Client::connect(address)?,
    };
    let mut answer = client.get("/health");
    if is_reused && answer.as_ref().is_err_and(|error| is_closed(error.kind())) {
        client = Client::connect(address)?;
        answer = client.get("/health");
    }
    match answer?.status {
        200 => {
            *kept = Some(client);
            Ok(())
        }
        status => Err(io::Error::other(format!("status {status}"))),
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Publishes in the room `general`. Returns the number of messages, and the failures.
fn publish(address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut published, mut failures) = (0, Vec::new());
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        let content = draft("general", &format!("victim {published}"));
        let answer = client
            .as_mut()
            .map_err(|error| error.to_string())
            .and_then(|client| client.post("/api/send", &content).map_err(|error| error.to_string()));
        match answer {
            Ok(answer) if answer.status == 200 => published += 1,
            Ok(answer) => failures.push(format!("a message got {}", answer.status)),
            Err(error) => {
                failures.push(error);
                client = Client::connect(address);
            }
        }
        thread::sleep(MESSAGES);
    }
    (published, failures)
}
