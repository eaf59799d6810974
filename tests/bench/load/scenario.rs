//! The scenarios: what the load sends, what it waits for, and what is measured.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::bytes;
use crate::fleet::{Conn, Fleet, Kind};
use crate::subject::{Running, Subject, kernel_memory, own_cpu};

/// The number of connections that echo or request.
pub const CONNECTIONS: usize = 100;

/// The number of connections that are opened at a time.
const AT_ONCE: usize = 100;

/// The number of messages in a burst.
pub const BURST: usize = 16;

/// The pause before the first message in nchan with Redis. It greets a subscriber before Redis has confirmed the
/// subscription, and what is published in between does not arrive.
const NCHAN_PAUSE: Duration = Duration::from_millis(500);

/// The work of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// `depth` messages are sent at once on each of [`CONNECTIONS`], and again when all of them are echoed.
    Echo { depth: usize },
    /// The same, with GET requests.
    Get { depth: usize },
    /// `burst` messages are published together, and again when all subscribers have all of them.
    Broadcast { kind: Kind, subscribers: usize, burst: usize },
    /// A message is published while `held` polls are held, and again when all of them are answered and poll again.
    Polls { held: usize },
    /// Each connection sends `depth` messages to the full server at once, and the next ones after the answers.
    Publish { depth: usize },
    /// Each of many WebSockets, alone in its room, sends `depth` messages to the full server at once, and the next ones
    /// when all have come back.
    Converse { depth: usize },
    /// A connection is opened, sends one request, and is closed.
    Connect,
    /// A silent WebSocket. A unit is a second.
    Silence,
}

/// The measured values.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The number of delivered messages, or of opened connections.
    pub messages: u64,
    /// The time of the server on its core.
    pub cpu: Duration,
    /// The time of the load on its core.
    pub load_cpu: Duration,
    pub wall: Duration,
    /// The times from a publish to its last delivery.
    pub last_delivery: Vec<Duration>,
    /// The growth of the memory of the server, in bytes.
    pub grown: u64,
}

impl Sample {
    /// The microseconds on the core of the server for each message.
    pub fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.messages as f64
    }
}

impl Scenario {
    /// Whether a program supports the scenario.
    pub fn fits(self, subject: Subject) -> bool {
        !matches!((self, subject), (Scenario::Echo { .. }, Subject::Nchan | Subject::Application(_)))
    }

    /// The number of messages in one unit of work.
    pub fn unit(self) -> u64 {
        (match self {
            Scenario::Echo { depth }
            | Scenario::Get { depth }
            | Scenario::Publish { depth }
            | Scenario::Converse { depth } => CONNECTIONS * depth,
            Scenario::Broadcast { subscribers, burst, .. } => subscribers * burst,
            Scenario::Polls { held } => held,
            Scenario::Connect => CONNECTIONS,
            Scenario::Silence => 1,
        }) as u64
    }

    /// Runs `warm` units of work, and then measures `units`.
    pub fn run(self, subject: Subject, server: &Running, size: usize, warm: u64, units: u64) -> io::Result<Sample> {
        self.run_with((server, server), subject, size, warm, units)
    }

    /// As [`run`](Self::run), but a message is published on the second server. The first is measured.
    pub fn run_with(
        self,
        (server, publisher): (&Running, &Running),
        subject: Subject,
        size: usize,
        warm: u64,
        units: u64,
    ) -> io::Result<Sample> {
        // Counts must be the same in each run. Each single connection finds the server asleep.
        let at_once = if server.is_counted() { 1 } else { AT_ONCE };
        let fleet = Fleet::new(server.address, at_once)?;
        let (payload, publisher) = (bytes::payload(size), publisher.address);
        let mut load = Load { fleet, subject, payload, scenario: self, publisher };
        load.prepare()?;
        load.work(warm.max(1))?;
        let (start, cpu, load_cpu, memory) = (Instant::now(), server.cpu()?, own_cpu()?, server.resident()?);
        let last_delivery = load.work(units)?;
        let sample = Sample {
            messages: units * self.unit(),
            cpu: server.cpu()? - cpu,
            load_cpu: own_cpu()? - load_cpu,
            wall: start.elapsed(),
            last_delivery,
            grown: server.resident()?.saturating_sub(memory),
        };
        if server.is_counted() {
            // Nor may they depend on the number of hang-ups that the server notices together, or before its end.
            load.fleet.close_in_turn()?;
            load.fleet.open(1, Kind::Answers, &load.stream(Kind::Answers))?;
        }
        Ok(sample)
    }
}

struct Load {
    fleet: Fleet,
    subject: Subject,
    payload: String,
    scenario: Scenario,
    /// The address of the server on which messages are published.
    publisher: SocketAddr,
}

impl Load {
    fn hello(&self) -> &'static str {
        if matches!(self.subject, Subject::Application(_)) { "/health" } else { "/hello" }
    }

    fn stream(&self, kind: Kind) -> Vec<u8> {
        let application = matches!(self.subject, Subject::Application(_));
        match kind {
            Kind::Frames if matches!(self.subject, Subject::SocketIo(_)) => {
                bytes::upgrade("/socket.io/?EIO=4&transport=websocket")
            }
            Kind::Frames => bytes::upgrade(if application { "/api/ws" } else { "/ws" }),
            // nchan streams only on request.
            Kind::Events => {
                bytes::get_with(if application { "/api/events" } else { "/sse" }, "Accept: text/event-stream\r\n")
            }
            Kind::Chunks => bytes::get_with(if application { "/api/stream" } else { "/chunk" }, "TE: chunked\r\n"),
            Kind::Answers => bytes::get(self.hello()),
        }
    }

    /// Returns a message as the full server takes it.
    fn content(&self) -> String {
        format!(r#"{{"sender": "bench", "text": "{}"}}"#, self.payload)
    }

    fn publication(&self) -> Vec<u8> {
        match self.subject {
            Subject::Application(_) => bytes::post("/api/send", &self.content()),
            _ => bytes::post("/pub", &self.payload),
        }
    }

    /// Opens the connections. The publisher is the last one, if there is one.
    fn prepare(&mut self) -> io::Result<()> {
        match self.scenario {
            Scenario::Silence => self.fleet.open(1, Kind::Frames, &self.stream(Kind::Frames)),
            Scenario::Echo { .. } => self.fleet.open(CONNECTIONS, Kind::Frames, &bytes::upgrade("/echo")),
            Scenario::Get { .. } | Scenario::Publish { .. } => {
                self.fleet.open(CONNECTIONS, Kind::Answers, &self.stream(Kind::Answers))
            }
            Scenario::Broadcast { kind, subscribers, .. } => {
                self.fleet.open(subscribers, kind, &self.stream(kind))?;
                if let Subject::SocketIo(_) = self.subject {
                    self.fleet.await_messages(subscribers)?; // its greeting
                    let connect = bytes::message("40");
                    self.fleet.conns.iter_mut().try_for_each(|conn| conn.send(&connect))?;
                    self.fleet.await_messages(subscribers)?; // "you are connected"
                }
                if let Subject::NchanWithRedis(_) = self.subject {
                    thread::sleep(NCHAN_PAUSE);
                }
                self.fleet.connect_to(self.publisher).map(drop)
            }
            Scenario::Converse { .. } => (0..CONNECTIONS).try_for_each(|number| {
                self.fleet.open(1, Kind::Frames, &bytes::upgrade(&format!("/api/ws?room=bench-{number}")))
            }),
            Scenario::Polls { held } => {
                for number in 0..held {
                    self.fleet.connect()?;
                    poll(&mut self.fleet.conns[number], self.subject)?;
                }
                self.fleet.connect().map(drop)
            }
            Scenario::Connect => Ok(()),
        }
    }

    /// Does `units` of work. Returns the time until the last delivery of each publish.
    fn work(&mut self, units: u64) -> io::Result<Vec<Duration>> {
        match self.scenario {
            Scenario::Echo { depth } => self.ping_pong(&bytes::message(&self.payload).repeat(depth), depth, units),
            Scenario::Get { depth } => self.ping_pong(&self.stream(Kind::Answers).repeat(depth), depth, units),
            Scenario::Publish { depth } => self.ping_pong(&self.publication().repeat(depth), depth, units),
            Scenario::Converse { depth } => {
                self.ping_pong(&bytes::message(&self.content()).repeat(depth), depth, units)
            }
            Scenario::Broadcast { burst, .. } => (0..units).map(|_| self.publish(burst)).collect(),
            Scenario::Polls { .. } => (0..units).map(|_| self.answer_polls()).collect(),
            Scenario::Connect => (0..units).map(|_| self.connect()).collect(),
            Scenario::Silence => {
                std::thread::sleep(Duration::from_secs(units));
                Ok(Vec::new())
            }
        }
    }

    /// On each connection, sends `bytes` and waits for `depth` answers, `units` times.
    fn ping_pong(&mut self, bytes: &[u8], depth: usize, units: u64) -> io::Result<Vec<Duration>> {
        let mut left = units as usize * depth * CONNECTIONS;
        for conn in &mut self.fleet.conns {
            conn.awaited = units as usize * depth;
            conn.send(bytes)?;
        }
        while left > 0 {
            self.fleet.turn(None, |conn, messages| {
                left -= messages;
                let before = conn.awaited;
                conn.awaited -= messages;
                // Once for each time that all answers have arrived.
                if before.div_ceil(depth) > conn.awaited.div_ceil(depth) && conn.awaited > 0 {
                    conn.send(bytes)?;
                }
                Ok(())
            })?;
        }
        Ok(Vec::new())
    }

    fn publish(&mut self, burst: usize) -> io::Result<Duration> {
        let publisher = self.fleet.conns.len() - 1;
        // Each subscriber gets all messages, and the publisher gets an answer for each.
        let mut left = self.fleet.conns.len() * burst;
        let bytes = self.publication().repeat(burst);
        let start = Instant::now();
        self.fleet.conns[publisher].send(&bytes)?;
        while left > 0 {
            self.fleet.turn(None, |_, messages| {
                left = left
                    .checked_sub(messages)
                    .ok_or_else(|| io::Error::other("the server has sent too many messages"))?;
                Ok(())
            })?;
        }
        Ok(start.elapsed())
    }

    fn answer_polls(&mut self) -> io::Result<Duration> {
        let publisher = self.fleet.conns.len() - 1;
        let mut left = self.fleet.conns.len();
        let (bytes, subject) = (self.publication(), self.subject);
        let start = Instant::now();
        self.fleet.conns[publisher].send(&bytes)?;
        while left > 0 {
            self.fleet.turn(None, |conn, messages| {
                left -= messages;
                if conn.number == publisher { Ok(()) } else { poll(conn, subject) }
            })?;
        }
        Ok(start.elapsed())
    }

    fn connect(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.fleet.open(CONNECTIONS, Kind::Answers, &self.stream(Kind::Answers))?;
        self.fleet.close();
        Ok(start.elapsed())
    }
}

/// Polls for the messages after the last answer.
fn poll(conn: &mut Conn, subject: Subject) -> io::Result<()> {
    let answer = str::from_utf8(&conn.answer).unwrap_or_default();
    let request = match subject {
        Subject::Application(_) => {
            let cursor = between(answer, r#""last_message_id":""#, '"').unwrap_or_default();
            bytes::get(&format!("/api/poll?client_id={}&last_message_id={cursor}&timeout=60", conn.number))
        }
        Subject::Nchan => {
            // The cursor is in two fields, which are sent back as conditions.
            let modified = between(answer, "Last-Modified: ", '\r');
            let tag = between(answer, "Etag: ", '\r');
            let fields = modified
                .zip(tag)
                .map(|(modified, tag)| format!("If-Modified-Since: {modified}\r\nIf-None-Match: {tag}\r\n"));
            bytes::get_with("/poll", &fields.unwrap_or_default())
        }
        _ => {
            let after = answer.split_once(r#""id":"#).map_or("0", |(_, rest)| rest.trim_start());
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            bytes::get(&format!("/poll?since={}", &after[..digits]))
        }
    };
    conn.send(&request)
}

fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(value, _)| value)
}

/// The cost of one idle connection.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// The memory of the server, in bytes.
    pub server: f64,
    /// The memory of the kernel for both ends, in bytes.
    pub kernel: f64,
    /// The memory of the server after a message to all connections, in bytes.
    pub after_broadcast: f64,
    /// The time to deliver that message.
    pub broadcast: Duration,
}

/// Measures the cost of an idle connection: a stream of `kind`, or a held poll.
pub fn idle(subject: Subject, server: &Running, kind: Kind, count: usize) -> io::Result<Idle> {
    let scenario = match kind {
        Kind::Answers => Scenario::Polls { held: count },
        kind => Scenario::Broadcast { kind, subscribers: count, burst: 1 },
    };
    let (fleet, payload, publisher) = (Fleet::new(server.address, AT_ONCE)?, bytes::payload(16), server.address);
    let mut load = Load { fleet, subject, payload, scenario, publisher };
    // Not counted: what the first connection of each kind creates for all.
    let mut first = Fleet::new(server.address, AT_ONCE)?;
    first.open(100, Kind::Answers, &load.stream(Kind::Answers))?;
    first.close();
    let (server_before, kernel_before) = (server.resident()?, kernel_memory()?);
    load.prepare()?;
    if kind == Kind::Answers {
        // A held poll gets no answer. The answer to a later request shows that the polls have been read.
        first.open(100, Kind::Answers, &load.stream(Kind::Answers))?;
    }
    let (server_idle, kernel_idle) = (server.resident()?, kernel_memory()?);
    let each = |before: u64, after: u64| (after as f64 - before as f64) / count as f64;
    let broadcast = load.work(1)?.into_iter().sum();
    Ok(Idle {
        server: each(server_before, server_idle),
        kernel: each(kernel_before, kernel_idle),
        after_broadcast: each(server_before, server.resident()?),
        broadcast,
    })
}

/// Measures the delays of single echoes, sorted. They are sent at a fixed rate for `duration`, even while no answers
/// arrive, so that a pause of the server counts for all messages that it delays.
pub fn latencies(server: &Running, rate: u32, duration: Duration) -> io::Result<Vec<Duration>> {
    let mut fleet = Fleet::new(server.address, AT_ONCE)?;
    fleet.open(CONNECTIONS, Kind::Frames, &bytes::upgrade("/echo"))?;
    let message = bytes::message(&bytes::payload(16));
    let total = (f64::from(rate) * duration.as_secs_f64()) as u32;
    let mut due = vec![VecDeque::new(); CONNECTIONS];
    let mut delays = Vec::with_capacity(total as usize);
    let (start, mut sent) = (Instant::now(), 0);
    while delays.len() < total as usize {
        let next = start + Duration::from_secs(1) * sent / rate;
        if sent < total && next <= Instant::now() {
            let at = sent as usize % CONNECTIONS;
            fleet.conns[at].send(&message)?;
            due[at].push_back(next);
            sent += 1;
        }
        fleet.turn(Some(Duration::ZERO), |conn, messages| {
            for _ in 0..messages {
                delays.extend(due[conn.number].pop_front().map(|due: Instant| due.elapsed()));
            }
            Ok(())
        })?;
    }
    delays.sort_unstable();
    Ok(delays)
}
