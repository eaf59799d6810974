//! Lesson 13, replacing it: a server that gives its followers to the next process, spread over some seconds, without a
//! refused connection and without loss. `supervisor.rs` starts the processes, `log.rs` is the log that they share.

#[path = "log.rs"]
pub mod log;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io, process};

use lessons::api::{not_allowed, text, uncached};
use lessons::{Extra, Lesson};
use overwire::bytes::digits;
use overwire::http::{self, Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, Limits, Speaks, TimerId, activation, sse};
use serde_json::json;

use self::log::Log;

const LESSON: Lesson = Lesson {
    name: "13-replacing",
    port: 8013,
    about: "a server that gives its followers to the next process",
    first: "curl -N {url}/events",
    look_for: "the number of the process, and the time after which a follower comes back",
    costs: &[],
};

const DATA: Extra = Extra { usage: "--data FOLDER", about: "the folder of the log", default: "target/13" };
const DELAY: Extra = Extra { usage: "--delay SECONDS", about: "the time between SIGTERM and the end", default: "0" };
const SPREAD: Extra = Extra { usage: "--spread SECONDS", about: "the time that the end takes", default: "5" };

const PAGE: &str = include_str!("page.html");

/// The time after which a follower comes back that has lost its connection.
const RETRY: Duration = Duration::from_secs(2);

/// The time between two looks for what other processes have appended.
const LOOK: Duration = Duration::from_millis(50);

/// The longest time between two ends, so that a server with few followers ends soon.
const LONGEST_INTERVAL: Duration = Duration::from_millis(50);

/// The times of the end.
#[derive(Clone, Copy)]
pub struct Times {
    pub delay: Duration,
    pub spread: Duration,
}

fn main() -> ExitCode {
    LESSON.run_with(&[DATA, DELAY, SPREAD], |port, values| {
        let seconds = |text: &String| digits(text.as_bytes()).map(Duration::from_secs);
        let (Some(delay), Some(spread)) = (seconds(&values[1]), seconds(&values[2])) else {
            return Err(io::Error::other("--delay and --spread: expected seconds"));
        };
        let inherited = activation::take_socket().map_err(io::Error::other)?;
        let mut server = EventLoop::new(Limits::default())?;
        match inherited {
            Some(socket) => server.listen_on(socket, Speaks::Http)?,
            None => server.listen(("127.0.0.1", port), Speaks::Http)?,
        };
        server.watch_signals()?;
        let folder = Path::new(&values[0]);
        let log = Log::open(folder)?;
        fs::write(folder.join("pid"), format!("{}\n", process::id()))?;
        LESSON.greet(server.local_address());
        serve(server, log, Times { delay, spread })
    })
}

pub fn serve(server: EventLoop, log: Log, times: Times) -> io::Result<()> {
    let mut site = Site::new(server, log)?;
    let mut look = site.server.set_timer(LOOK);
    let (mut delay, mut turns) = (None, HashMap::new());
    loop {
        match site.server.next_event()? {
            Event::Request(conn, request) => site.answer(conn, &request)?,
            Event::Closed(conn, _) => _ = site.followers.remove(&conn),
            Event::Timer(timer) if timer == look => {
                site.deliver()?;
                look = site.server.set_timer(LOOK);
            }
            Event::Shutdown => {
                site.is_ready = false; // so GET /health/ready is answered with 503
                site.server.keep_connections();
                delay = Some(site.server.set_timer(times.delay));
            }
            Event::Timer(timer) if delay == Some(timer) => {
                site.server.stop_listening();
                turns = site.deal_turns(times.spread);
                site.server.set_timer(times.spread.min(LONGEST_INTERVAL * turns.len() as u32)); // the last one
            }
            Event::Timer(timer) => match turns.remove(&timer) {
                Some(conn) => site.end(conn),
                None if site.server.awaits_first_request() => _ = site.server.set_timer(LOOK),
                None => return site.finish(),
            },
            _ => {} // this server opens no WebSocket
        }
    }
}

struct Site {
    server: EventLoop,
    log: Log,
    /// The cursor up to which all followers have the log.
    end: u64,
    followers: HashSet<ExchangeId>,
    is_ready: bool,
    /// The number of followers that have come back with a cursor of this log, and with another.
    returned: (u64, u64),
    random: Random,
}

impl Site {
    fn new(server: EventLoop, log: Log) -> io::Result<Self> {
        let (end, random) = (log.tip()?, Random::open()?);
        Ok(Site { server, log, end, followers: HashSet::new(), is_ready: true, returned: (0, 0), random })
    }

    fn answer(&mut self, conn: ExchangeId, request: &Request) -> io::Result<()> {
        let response = match (request.method(), &*request.path()) {
            (Method::Get | Method::Head, "/events") => return self.begin(conn, last_event_id(request)),
            (Method::Get | Method::Head, "/metrics") => self.metrics(),
            (Method::Get | Method::Head, "/health/ready") if self.is_ready => Response::text(200, "ready\n"),
            (Method::Get | Method::Head, "/health/ready") => Response::text(503, "going away\n"),
            (Method::Post, "/add-message") => match text(request.content()) {
                Ok(text) => uncached(&json!({ "status": "Message added", "id": self.log.append(&text)?.to_string() })),
                Err(sentence) => Response::error(400, &sentence),
            },
            (method, "/events" | "/metrics" | "/health/ready") => not_allowed(method, "GET, HEAD"),
            (method, "/add-message") => not_allowed(method, "POST"),
            _ => lessons::page(request, PAGE),
        };
        self.server.respond(conn, response);
        self.deliver()
    }

    /// Begins the stream of a follower: after its cursor, or at the end of the log.
    fn begin(&mut self, conn: ExchangeId, cursor: Option<u64>) -> io::Result<()> {
        self.deliver()?;
        let recovered = cursor.is_none_or(|cursor| self.log.has(cursor).unwrap_or(false));
        let from = cursor.filter(|_| recovered).unwrap_or(self.end);
        let position = json!({ "process": process::id(), "recovered": recovered }).to_string();
        self.server.begin(conn, sse::stream_head());
        self.server.send(conn, &http::chunk(&sse::opening(&from.to_string(), RETRY, "position", &position)));
        for (cursor, text) in self.log.after(from)?.into_iter().filter(|(cursor, _)| *cursor <= self.end) {
            self.server.send(conn, &http::chunk(&sse::event(Some(&cursor.to_string()), "message", &text)));
        }
        self.followers.insert(conn);
        self.returned.0 += u64::from(cursor.is_some() && recovered);
        self.returned.1 += u64::from(!recovered);
        Ok(())
    }

    /// Sends what has come into the log, from whichever process.
    fn deliver(&mut self) -> io::Result<()> {
        for (cursor, text) in self.log.after(self.end)? {
            let event = http::chunk(&sse::event(Some(&cursor.to_string()), "message", &text));
            self.followers.iter().for_each(|conn| self.server.send(*conn, &event));
            self.end = cursor;
        }
        Ok(())
    }

    /// Gives each follower its turn to end, one after the other.
    fn deal_turns(&mut self, spread: Duration) -> HashMap<TimerId, ExchangeId> {
        let interval = LONGEST_INTERVAL.min(spread / self.followers.len().max(1) as u32);
        let turns = self.followers.iter().zip(0..);
        turns.map(|(conn, number)| (self.server.set_timer(interval * number), *conn)).collect()
    }

    // ANCHOR: end
    /// Ends the stream of one follower, and says when it may come back.
    fn end(&mut self, conn: ExchangeId) {
        if self.followers.remove(&conn) {
            let retry = Duration::from_millis(1000 + self.random.number() % 1000);
            self.server.send(conn, &http::chunk(&sse::retry(retry)));
            self.server.end(conn);
        }
    }
    // ANCHOR_END: end

    /// Ends those that have come since the turns were dealt, and waits until the last bytes have reached their clients.
    fn finish(mut self) -> io::Result<()> {
        self.followers.clone().into_iter().for_each(|conn| self.end(conn));
        self.server.drain()
    }

    /// The state in the text format of Prometheus.
    fn metrics(&self) -> Response {
        let (ready, followers, (recovered, lost)) = (u8::from(self.is_ready), self.followers.len(), self.returned);
        Response::text(
            200,
            format!(
                "ready {ready}\nfollowers {followers}\n\
                 returned_total{{recovered=\"true\"}} {recovered}\nreturned_total{{recovered=\"false\"}} {lost}\n"
            ),
        )
    }
}

/// The cursor of a follower that comes back. Something else than a number is a cursor that no log has.
fn last_event_id(request: &Request) -> Option<u64> {
    let id = request.field("last-event-id").filter(|id| !id.is_empty())?;
    Some(digits(id).unwrap_or(u64::MAX))
}
