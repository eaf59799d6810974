//! Polling, streaming and server-sent events: requests one after another, and what becomes of them
//! when the connection is lost.

use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use overwire::random::Random;
use overwire::wire::{Fault, LinePart};
use overwire::{http, sse};
use serde_json::Value;

use crate::End;
use crate::connection::Connection;
use crate::options::Options;
use crate::view::{Seen, View};

/// The longest wait before reconnecting.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How long an event stream's reader waits before reconnecting unless the stream said otherwise.
const RECONNECTION_TIME: Duration = Duration::from_secs(3);

/// The longest answer to a poll, in bytes.
const MAX_CONTENT: usize = 16 * 1024 * 1024;

/// Asks again and again, each time for what came behind the answer before.
pub fn poll(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let mut target = options.url.target.clone();
    let mut cursor = None;
    loop {
        let asked = Instant::now();
        let mut answer = Answer::default();
        let ending = session.exchange(&target, &[], view, &mut |seen, _| answer.note(seen))?;
        match (ending, answer.status) {
            (Ending::Complete, 200..=299) => {
                view.count();
                if view.is_done() {
                    return session.enough(view);
                }
                session.attempt = 0;
                let (news, next) = read_answer(&answer.content);
                if let Some(id) = next {
                    target = options.url.target_with("last_message_id", &id);
                    cursor = Some(id);
                }
                let rest = options.interval.saturating_sub(asked.elapsed());
                if !news && !rest.is_zero() {
                    view.remark(&format!("no news: waiting {} before asking again", seconds(rest)))?;
                    thread::sleep(rest);
                }
            }
            (ending, status) => session.recover(ending, status, "last_message_id", cursor.as_deref(), view)?,
        }
    }
}

/// Whether there are messages in an answer, and what the next question is to ask for: the answer's
/// `last_message_id`, or else the id of its last message.
fn read_answer(content: &[u8]) -> (bool, Option<String>) {
    let Ok(answer) = serde_json::from_slice::<Value>(content) else { return (false, None) };
    let last = answer["messages"].as_array().and_then(|messages| messages.last());
    let id = answer["last_message_id"].as_str().or_else(|| last?["id"].as_str());
    (last.is_some(), id.map(str::to_owned))
}

/// Reads an answer that does not end, one line of JSON a message.
pub fn stream(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let (mut target, mut cursor) = (options.url.target.clone(), None);
    loop {
        let (mut answer, mut news) = (Answer::default(), false);
        let ending = session.exchange(&target, &[], view, &mut |seen, _| {
            if let Seen::Line(LinePart::Json(line)) = seen
                && answer.status == 200
                && let Ok(message) = serde_json::from_slice::<Value>(line)
            {
                news = true;
                cursor = message["id"].as_str().map(str::to_owned).or(cursor.take());
            }
            answer.note_head(seen)
        })?;
        if ending == Ending::Enough {
            return session.enough(view);
        }
        if let Some(id) = &cursor {
            target = options.url.target_with("last_message_id", id);
        }
        if news {
            session.attempt = 0;
        }
        if ending == Ending::Complete && (200..300).contains(&answer.status) && !options.reconnect {
            return Ok(view.remark("the answer has ended")?);
        }
        session.recover(ending, answer.status, "last_message_id", cursor.as_deref(), view)?;
    }
}

/// Reads an event stream as a browser's `EventSource` does (WHATWG HTML, section 9.2.3).
pub fn sse(options: &Options, view: &mut View) -> Result<(), End> {
    let mut session = Session::begin(options, view)?;
    let mut reader = sse::Reader::default();
    let mut last_event_id = options.last_event_id.clone();
    loop {
        let mut answer = Answer::default();
        let mut fields = vec![("Accept", "text/event-stream")];
        if !last_event_id.is_empty() {
            fields.push(("Last-Event-ID", &last_event_id));
        }
        let ending = session.exchange(&options.url.target, &fields, view, &mut |seen, _| {
            match seen {
                Seen::Head if answer.status == 200 && !answer.is_event_stream() => {
                    let found = String::from_utf8_lossy(&answer.content_type);
                    return Err(failed(
                        &format!("expected Content-Type text/event-stream, not {found:?}"),
                        EVENT_SOURCE,
                    ));
                }
                Seen::Content(content) if answer.status == 200 => drop(reader.read(content)),
                _ => {}
            }
            answer.note_head(seen)
        })?;
        match (&ending, answer.status) {
            (Ending::Enough, _) => return session.enough(view),
            (Ending::Complete, 204) => return Ok(view.remark("204 ends it: a browser does not reconnect either")?),
            (Ending::Complete, 200) if !options.reconnect => return Ok(view.remark("the answer has ended")?),
            (_, 0 | 200) => {}
            (_, status) => {
                return Err(failed(&format!("the server answered {status}, and not 200 or 204"), EVENT_SOURCE));
            }
        }
        if !reader.last_event_id().is_empty() {
            last_event_id = reader.last_event_id().to_owned();
        }
        reader.reconnect();
        session.attempt = if answer.status == 200 { 0 } else { session.attempt + 1 };
        let time = reader.retry().unwrap_or(RECONNECTION_TIME);
        // The first wait is what the stream asked for; each connection that fails doubles it.
        let wait = time.max(MAX_WAIT).min(time.saturating_mul(1 << session.attempt.min(16)));
        let why = ending.why(answer.status);
        session.wait(&why, wait, "Last-Event-ID", Some(last_event_id.as_str()).filter(|id| !id.is_empty()), view)?;
    }
}

const EVENT_SOURCE: &str = "WHATWG HTML, section 9.2.3";

fn failed(sentence: &str, section: &str) -> End {
    End::Failed(format!("{sentence} ({section})"))
}

/// How an exchange of a request and its answer ended.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Complete,
    /// All messages that were asked for are here.
    Enough,
    /// The connection ended first, and why.
    Lost(String),
}

impl Ending {
    fn why(&self, status: u16) -> String {
        match self {
            Ending::Lost(why) => why.clone(),
            _ if (200..300).contains(&status) => "the answer has ended".to_owned(),
            _ => format!("the server answered {status}"),
        }
    }
}

/// What is remembered of an answer.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    content_type: Vec<u8>,
    content: Vec<u8>,
}

impl Answer {
    fn note_head(&mut self, seen: &Seen) -> Result<(), End> {
        match seen {
            Seen::Status(status) => *self = Answer { status: *status, ..Answer::default() },
            Seen::Field(name, value) if name == "content-type" => self.content_type.clone_from(value),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, seen: &Seen) -> Result<(), End> {
        if let Seen::Content(content) = seen {
            if self.content.len() + content.len() > MAX_CONTENT {
                return Err(End::Failed(format!("the answer is longer than {MAX_CONTENT} bytes")));
            }
            self.content.extend_from_slice(content);
        }
        self.note_head(seen)
    }

    fn is_event_stream(&self) -> bool {
        let essence = self.content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    }
}

/// One connection after another to the same server.
struct Session<'a> {
    options: &'a Options,
    connection: Option<Connection>,
    /// Whether the connection has answered a request before.
    is_reused: bool,
    /// How many attempts in a row have failed.
    attempt: u32,
    random: Random,
}

type Note<'a> = &'a mut dyn FnMut(&Seen, &mut View) -> Result<(), End>;

impl<'a> Session<'a> {
    fn begin(options: &'a Options, view: &mut View) -> Result<Self, End> {
        let connection = Some(Connection::open(&options.url, view)?.map_err(End::Failed)?);
        let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
        Ok(Session { options, connection, is_reused: false, attempt: 0, random })
    }

    /// Sends a request and reads its answer. The connection is kept for the next one if it can be.
    fn exchange(
        &mut self,
        target: &str,
        fields: &[(&str, &str)],
        view: &mut View,
        note: Note<'_>,
    ) -> Result<Ending, End> {
        // A server may close an idle connection at any time (RFC 9112, section 9.3.1).
        if self.connection.take_if(|connection| connection.is_closed()).is_some() {
            view.remark("the server closed the connection while it was idle")?;
            self.is_reused = false;
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(&self.options.url, view)? {
                Ok(connection) => connection,
                Err(why) => return Ok(Ending::Lost(why)),
            },
        };
        let request = request(self.options, target, fields);
        // A failure to send shows when the answer is read: there may be one nevertheless.
        let _ = connection.send(&request, view)?;
        let mut reading = Reading::default();
        while reading.ending.is_none() {
            let (pieces, lost) = match connection.read() {
                Ok(pieces) => (pieces, None),
                Err(why) => (connection.end(), Some(why)),
            };
            reading.take(pieces, view, note)?;
            let Some(why) = lost else { continue };
            view.flush()?;
            let was_reused = mem::take(&mut self.is_reused);
            if reading.ending.is_none() && was_reused && !reading.has_begun {
                view.remark(&format!("{why} while it was idle"))?;
                return self.exchange(target, fields, view, note);
            }
            return Ok(reading.ending.unwrap_or(Ending::Lost(why)));
        }
        if reading.closes {
            self.is_reused = false;
            return Ok(reading.ending.unwrap_or(Ending::Complete));
        }
        (self.connection, self.is_reused) = (Some(connection), true);
        Ok(reading.ending.unwrap_or(Ending::Complete))
    }

    fn enough(&self, view: &mut View) -> Result<(), End> {
        let count = self.options.count.unwrap_or_default();
        let what = if self.options.transport == crate::options::Transport::Poll { "answer" } else { "message" };
        Ok(view.remark(&format!("closing after {count} {what}{}", if count == 1 { "" } else { "s" }))?)
    }

    /// Waits before the next attempt, if there is to be one: each time for longer, and for a random
    /// part of it, so that clients which lost one server do not come back in step.
    fn recover(
        &mut self,
        ending: Ending,
        status: u16,
        name: &str,
        cursor: Option<&str>,
        view: &mut View,
    ) -> Result<(), End> {
        if !matches!(status, 0 | 200..=299 | 500..=599) {
            return Err(End::Failed(format!("the server answered {status}")));
        }
        let base = self.options.interval.max(Duration::from_millis(10));
        let bound = base.saturating_mul(1 << self.attempt.min(16)).min(MAX_WAIT.max(base));
        let share = (self.random.number() >> 11) as f64 / (1u64 << 53) as f64;
        self.attempt += 1;
        self.wait(&ending.why(status), bound.mul_f64(share), name, cursor, view)
    }

    fn wait(
        &mut self,
        why: &str,
        wait: Duration,
        name: &str,
        cursor: Option<&str>,
        view: &mut View,
    ) -> Result<(), End> {
        if !self.options.reconnect {
            return Err(End::Failed(why.to_owned()));
        }
        let (wait_for, verb) = (seconds(wait), if self.connection.is_some() { "asking again" } else { "reconnecting" });
        let with = cursor.map(|id| format!(" with {name} {id}")).unwrap_or_default();
        view.remark(&format!("{why}: waiting {wait_for} before {verb}{with}"))?;
        thread::sleep(wait);
        Ok(())
    }
}

/// The answer while it is read.
#[derive(Debug, Default)]
struct Reading {
    ending: Option<Ending>,
    has_begun: bool,
    is_interim: bool,
    closes: bool,
}

impl Reading {
    fn take(&mut self, pieces: Vec<overwire::wire::Piece>, view: &mut View, note: Note<'_>) -> Result<(), End> {
        let mut broken = None;
        for piece in pieces {
            for seen in view.show(crate::printer::Way::Received, piece)? {
                note(&seen, view)?;
                match seen {
                    Seen::Broken(Fault::EndedInMessage) => {}
                    Seen::Broken(fault) => broken = Some(fault),
                    Seen::Status(status) => {
                        (self.has_begun, self.is_interim, self.closes) = (true, status < 200, false);
                    }
                    Seen::Field(name, value) if name == "connection" => {
                        self.closes |= http::list(&value).any(|option| option.eq_ignore_ascii_case(b"close"));
                    }
                    Seen::MessageEnd if !self.is_interim => self.ending = Some(Ending::Complete),
                    _ => {}
                }
            }
            if view.is_done() {
                self.ending = Some(Ending::Enough);
                return Ok(());
            }
        }
        match broken {
            Some(fault) => Err(failed(&fault.to_string(), fault.section())),
            None => Ok(()),
        }
    }
}

/// A request as short as it can be: fields of the command line take the place of its own.
fn request(options: &Options, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let own = [("Host", options.url.authority.as_str())];
    let others = || options.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let is_kept = |(name, _): &(&str, &str)| !others().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut request = format!("GET {target} HTTP/1.1\r\n");
    for (name, value) in own.into_iter().chain(fields.iter().copied()).filter(is_kept).chain(others()) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
