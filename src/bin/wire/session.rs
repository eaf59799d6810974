//! Consecutive requests to one server, over as many connections as that takes.

use std::mem;
use std::thread;
use std::time::Duration;

use overwire::http;
use overwire::random::Random;
use overwire::wire::{Fault, LinePart, Piece};

use crate::End;
use crate::connection::Connection;
use crate::options::{Command, Options};
use crate::printer::Way;
use crate::view::{Seen, View};

/// The maximum number of interim responses before an answer.
const MAX_INTERIM: usize = 100;

/// The longest wait before reconnecting.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// A failure with the violated section.
pub fn failed(sentence: &str, section: &str) -> End {
    End::Failed(format!("{sentence} ({section})"))
}

/// The end of an exchange of a request and its answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Complete,
    /// `--count` messages arrived.
    Enough,
    /// The connection ended first, for this reason.
    Lost(String),
}

impl Ending {
    pub fn why(&self, status: u16) -> String {
        match self {
            Ending::Lost(why) => why.clone(),
            _ if (200..300).contains(&status) => "the answer has ended".to_owned(),
            _ => format!("the server answered {status}"),
        }
    }
}

/// The current connection to the server, and the state of reconnecting.
pub struct Session<'a> {
    options: &'a Options,
    connection: Option<Connection>,
    /// Whether a request was answered on this connection before.
    is_reused: bool,
    /// The number of consecutive failures.
    pub attempt: u32,
    random: Random,
}

/// A callback for the parts of an answer as they arrive.
type Note<'a> = &'a mut dyn FnMut(&Seen) -> Result<(), End>;

impl<'a> Session<'a> {
    pub fn begin(options: &'a Options, view: &mut View) -> Result<Self, End> {
        let connection = Some(Connection::open(&options.url, view)?.map_err(End::Failed)?);
        let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
        Ok(Session { options, connection, is_reused: false, attempt: 0, random })
    }

    /// Sends a request and reads its answer. The connection is kept for the next request if it persists.
    pub fn exchange(
        &mut self,
        target: &str,
        fields: &[(&str, &str)],
        view: &mut View,
        note: Note<'_>,
    ) -> Result<Ending, End> {
        // A server may close an idle connection at any time (RFC 9112, section 9.3.1).
        let idle = self.connection.as_ref().filter(|_| self.is_reused);
        if let Some(why) = idle.and_then(Connection::is_useless) {
            view.remark(&why)?;
            (self.connection, self.is_reused) = (None, false);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(&self.options.url, view)? {
                Ok(connection) => connection,
                Err(why) => return Ok(Ending::Lost(why)),
            },
        };
        let request = request(self.options, target, fields);
        // After a failure to send there can still be an answer: reading reports the failure.
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
        let was_reused = mem::replace(&mut self.is_reused, !reading.closes);
        if was_reused && reading.status == 408 {
            // The server closed the idle connection while the request was in flight (RFC 9110, section 15.5.9).
            self.is_reused = false;
            view.remark("408 is an answer to a connection that was idle: asking again on another")?;
            return self.exchange(target, fields, view, note);
        }
        self.connection = Some(connection).filter(|_| !reading.closes);
        Ok(reading.ending.unwrap_or(Ending::Complete))
    }

    pub fn enough(&self, view: &mut View) -> Result<(), End> {
        let count = self.options.count.unwrap_or_default();
        let what = if self.options.command == Command::Poll { "answer" } else { "message" };
        Ok(view.remark(&format!("closing after {count} {what}{}", if count == 1 { "" } else { "s" }))?)
    }

    /// Waits before the next attempt, unless the answer is final. The bound of the wait grows with each failure, and
    /// the wait is a random part of it, so that the clients of a restarted server do not return at the same moment.
    pub fn recover(
        &mut self,
        ending: Ending,
        status: u16,
        name: &str,
        cursor: Option<&str>,
        view: &mut View,
    ) -> Result<(), End> {
        if !matches!(status, 0 | 200..=299 | 408 | 500..=599) {
            return Err(End::Failed(format!("the server answered {status}")));
        }
        let base = self.options.interval.max(Duration::from_millis(10));
        let bound = base.saturating_mul(1 << self.attempt.min(16)).min(MAX_WAIT.max(base));
        let share = (self.random.number() >> 11) as f64 / (1u64 << 53) as f64;
        self.attempt += 1;
        self.wait(&ending.why(status), bound.mul_f64(share), name, cursor, view)
    }

    pub fn wait(
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

/// An answer that is not complete.
#[derive(Debug, Default)]
struct Reading {
    ending: Option<Ending>,
    has_begun: bool,
    /// 0 while only interim responses have arrived.
    status: u16,
    interim: usize,
    closes: bool,
}

impl Reading {
    fn take(&mut self, pieces: Vec<Piece>, view: &mut View, note: Note<'_>) -> Result<(), End> {
        let mut broken = None;
        for piece in pieces {
            if self.ending.is_some() {
                // There is no request for this answer.
                self.closes = true;
                view.remark("the server sent more than it was asked for: the connection is given up")?;
                break;
            }
            for seen in view.show(Way::Received, piece)? {
                note(&seen)?;
                match seen {
                    Seen::Broken(Fault::EndedInMessage) => {}
                    Seen::Broken(fault) => broken = Some(fault),
                    Seen::Status(101) => {
                        let sentence = "the server answered 101, and was not asked to switch protocols";
                        return Err(failed(sentence, "RFC 9110, section 7.8"));
                    }
                    Seen::Line(LinePart::TooLong) => {
                        return Err(End::Failed("a line, or an event, is longer than 1 MiB".to_owned()));
                    }
                    Seen::Status(..200) if self.interim == MAX_INTERIM => {
                        let sentence = format!("the server sent more than {MAX_INTERIM} interim responses");
                        return Err(failed(&sentence, "RFC 9110, section 15.2"));
                    }
                    Seen::Status(..200) => (self.has_begun, self.interim) = (true, self.interim + 1),
                    Seen::Status(status) => (self.has_begun, self.status, self.closes) = (true, status, false),
                    Seen::Field(name, value) if name == "connection" => {
                        self.closes |= http::list(&value).any(|option| option.eq_ignore_ascii_case(b"close"));
                    }
                    Seen::MessageEnd if self.status != 0 => self.ending = Some(Ending::Complete),
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

/// A minimal GET request. Fields of `--header` replace its own.
pub fn request(options: &Options, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
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

/// A duration in a remark.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
