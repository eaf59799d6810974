//! A thousand followers of a server, and a sender. When the server is replaced, it plots when they have come back, and
//! says what each of them has missed.

#[path = "plot.rs"]
mod plot;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lessons::{Extra, Lesson};
use overwire::bytes::digits;
use overwire::http::{ContentDecoder, parse_response_head};
use overwire::websocket::CloseCode;
use overwire::{Event, EventLoop, ExchangeId, Limits, Parse, TimerId, sse};

use self::plot::Plot;

const LESSON: Lesson = Lesson {
    name: "13-followers",
    port: 8013,
    about: "a thousand followers of the server on this port, and a plot of when they come back",
    first: "",
    look_for: "",
    costs: &[],
};

const COUNT: Extra = Extra { usage: "--count N", about: "the number of followers", default: "1000" };

/// The time after which a follower comes back if no server has said another.
const RETRY: Duration = Duration::from_secs(2);

/// The time between two messages.
const INTERVAL: Duration = Duration::from_millis(250);

const REQUEST: &str = "GET /events HTTP/1.1\r\nHost: localhost\r\n";

fn main() -> ExitCode {
    LESSON.run_with(&[COUNT], |port, values| match digits(values[0].as_bytes()) {
        Some(count @ 1..) => follow(([127, 0, 0, 1], port).into(), count as usize),
        _ => Err(io::Error::other("--count: expected a number")),
    })
}

/// An event stream and its reader.
#[derive(Default)]
struct Follower {
    conn: Option<ExchangeId>,
    /// Received bytes that are not decoded yet.
    input: Vec<u8>,
    content: Option<ContentDecoder>,
    events: sse::Reader,
    /// When it has connected. `None` when its stream has begun.
    since: Option<Instant>,
    /// The number of its last message.
    last: Option<u64>,
}

/// What the followers have gone through since all were there.
#[derive(Default)]
struct Report {
    start: Option<Instant>,
    returns: Vec<Instant>,
    refused: usize,
    missing: u64,
    twice: u64,
    slowest: Duration,
}

struct Crowd {
    events: EventLoop,
    address: SocketAddr,
    followers: Vec<Follower>,
    numbers: HashMap<ExchangeId, usize>,
    timers: HashMap<TimerId, usize>,
    report: Report,
}

fn follow(address: SocketAddr, count: usize) -> io::Result<()> {
    TcpStream::connect(address)?; // if nobody listens, it says so
    let mut events = EventLoop::new(Limits::default())?;
    events.watch_signals()?;
    let followers = (0..count).map(|_| Follower::default()).collect();
    let (numbers, timers) = (HashMap::new(), HashMap::new());
    let mut crowd = Crowd { events, address, followers, numbers, timers, report: Report::default() };
    (0..count).try_for_each(|number| crowd.connect(number))?;
    loop {
        match crowd.events.next_event()? {
            Event::Bytes(conn, bytes) => crowd.take(conn, &bytes)?,
            Event::EndOfInput(conn) | Event::Closed(conn, _) => crowd.lose(conn),
            Event::Timer(timer) => {
                if let Some(number) = crowd.timers.remove(&timer) {
                    crowd.connect(number)?;
                }
            }
            Event::Shutdown => return Ok(()),
            _ => {}
        }
    }
}

impl Crowd {
    fn connect(&mut self, number: usize) -> io::Result<()> {
        let (conn, follower) = (self.events.connect(self.address)?, &mut self.followers[number]);
        let id = follower.events.last_event_id();
        let cursor = if id.is_empty() { String::new() } else { format!("Last-Event-ID: {id}\r\n") };
        self.events.send_bytes(conn, format!("{REQUEST}{cursor}\r\n").into_bytes());
        (follower.conn, follower.since) = (Some(conn), Some(Instant::now()));
        self.numbers.insert(conn, number);
        Ok(())
    }

    /// A connection is over: its follower waits as long as the server has said.
    fn lose(&mut self, conn: ExchangeId) {
        let Some(number) = self.numbers.remove(&conn) else { return };
        let follower = &mut self.followers[number];
        match follower.since.take() {
            Some(_) => self.report.refused += 1, // it never had a stream
            None => _ = self.report.start.get_or_insert_with(Instant::now),
        }
        follower.events.reconnect();
        let retry = follower.events.retry().unwrap_or(RETRY);
        (follower.conn, follower.content) = (None, None);
        follower.input.clear();
        self.events.close(conn, CloseCode::NORMAL, "");
        self.timers.insert(self.events.set_timer(retry), number);
    }

    fn take(&mut self, conn: ExchangeId, bytes: &[u8]) -> io::Result<()> {
        let Some(number) = self.numbers.get(&conn).copied() else { return Ok(()) };
        let (events, is_over) = self.followers[number].read(bytes)?;
        for event in events {
            match &*event.name {
                "position" => self.arrive(number),
                _ => self.note(number, &event.data),
            }
        }
        if is_over {
            self.lose(conn);
        }
        Ok(())
    }

    /// A stream has begun. When it was the last that was missing, tells what happened.
    fn arrive(&mut self, number: usize) {
        let Some(since) = self.followers[number].since.take() else { return };
        self.report.slowest = self.report.slowest.max(since.elapsed());
        self.report.returns.push(since);
        if self.numbers.len() < self.followers.len() || self.followers.iter().any(|one| one.since.is_some()) {
            return;
        }
        match std::mem::take(&mut self.report) {
            Report { start: None, .. } => {
                println!("{} followers are here", self.followers.len());
                let address = self.address;
                thread::spawn(move || send(address));
            }
            report => report.print(),
        }
    }

    /// Notes a message of the sender. Others have no number.
    fn note(&mut self, number: usize, text: &str) {
        let Some(sent) = text.strip_prefix('#').and_then(|text| digits(text.as_bytes())) else { return };
        match self.followers[number].last {
            Some(last) if sent <= last => return self.report.twice += 1,
            Some(last) => self.report.missing += sent - last - 1,
            None => {}
        }
        self.followers[number].last = Some(sent);
    }
}

impl Follower {
    /// Reads bytes of the answer. Returns the events, and whether the stream is over.
    fn read(&mut self, bytes: &[u8]) -> io::Result<(Vec<sse::Event>, bool)> {
        self.input.extend_from_slice(bytes);
        if self.content.is_none()
            && let Parse::Complete { value: head, used } =
                parse_response_head(&self.input, 16 * 1024).map_err(io::Error::other)?
        {
            if head.status != 200 {
                return Ok((Vec::new(), true));
            }
            self.content = Some(ContentDecoder::new(head.framing(false).map_err(io::Error::other)?));
            self.input.drain(..used);
        }
        let Some(decoder) = &mut self.content else { return Ok((Vec::new(), false)) };
        let mut content = Vec::new();
        let used = decoder.decode(&self.input, &mut content, usize::MAX).map_err(io::Error::other)?;
        self.input.drain(..used);
        Ok((self.events.read(&content), decoder.is_done()))
    }
}

impl Report {
    fn print(&self) {
        let (Some(start), Some(end)) = (self.start, self.returns.iter().max()) else { return };
        let plot = Plot::new(start, &self.returns, Duration::from_secs(1));
        println!("reconnections in each 100 ms after the first end\n{}", plot.text().trim_end());
        println!(
            "all are back after {:.1} s; the most in 100 ms: {:.1} times its share",
            (*end - start).as_secs_f64(),
            plot.peak()
        );
        println!("missing: {}, twice: {}, refused: {}", self.missing, self.twice, self.refused);
        println!("slowest answer: {:.1} ms", self.slowest.as_secs_f64() * 1000.0);
    }
}

/// Sends #1, #2, #3 and so on. Each is confirmed before the next.
fn send(address: SocketAddr) {
    for number in 1.. {
        while !is_sent(address, number).unwrap_or(false) {
            thread::sleep(INTERVAL);
        }
        thread::sleep(INTERVAL);
    }
}

fn is_sent(address: SocketAddr, number: u64) -> io::Result<bool> {
    let content = format!(r##"{{"message":"#{number}"}}"##);
    let mut stream = TcpStream::connect(address)?;
    let length = content.len();
    let head =
        format!("POST /add-message HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{content}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}
