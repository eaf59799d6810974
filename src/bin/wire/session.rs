//! Consecutive requests to one server, over as many connections as that takes.

use std::mem;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use overwire::bytes::digits;
use overwire::http::{self, parse_date};
use overwire::random::Random;
use overwire::wire::{Fault, LinePart, Piece};

use crate::End;
use crate::connection::Connection;
use crate::options::{self, Command, Options};
use crate::printer::Way;
use crate::url::Url;
use crate::view::{Seen, View};

/// The maximum number of interim responses before an answer.
const MAX_INTERIM: usize = 100;

/// The maximum number of redirects between a request and its final answer.
const MAX_REDIRECTS: usize = 20;

const REDIRECT: &str = "WHATWG Fetch, section 4.4";

/// The longest wait before reconnecting.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// The longest wait that a server can set. Without it, one number makes a client sleep forever.
pub const MAX_SET_WAIT: Duration = Duration::from_secs(300);

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
    /// The server of `connection`.
    server: Url,
    connection: Option<Connection>,
    /// Whether a request was answered on this connection before.
    is_reused: bool,
    /// Whether any request was answered.
    has_been_answered: bool,
    /// Whether a redirect of the current request has led to another origin.
    has_left_origin: bool,
    /// The number of consecutive failures.
    pub attempt: u32,
    /// The Retry-After field of the last answer.
    retry_after: Option<Vec<u8>>,
    random: Random,
}

/// A callback for the parts of an answer as they arrive.
type Note<'a> = &'a mut dyn FnMut(&Seen) -> Result<(), End>;

/// The result of one request.
enum Reply {
    Ended(Ending),
    /// The answer is elsewhere: the value of its Location field.
    Redirect(Vec<u8>),
}

impl<'a> Session<'a> {
    pub fn begin(options: &'a Options, view: &mut View) -> Result<Self, End> {
        let (server, connection) =
            (options.url.clone(), Connection::open(options, &options.url, view)?.map_err(End::Failed)?);
        let random = Random::open().map_err(|error| End::Failed(error.to_string()))?;
        let connection = Some(connection);
        Ok(Session {
            options,
            server,
            connection,
            is_reused: false,
            has_been_answered: false,
            has_left_origin: false,
            attempt: 0,
            retry_after: None,
            random,
        })
    }

    /// Sends a request and reads its answer. It follows redirects as a browser does: GET stays GET. The connection is
    /// kept for the next request if it persists.
    pub fn exchange(
        &mut self,
        url: &Url,
        fields: &[(&str, &str)],
        view: &mut View,
        note: Note<'_>,
    ) -> Result<Ending, End> {
        let mut url = url.clone();
        self.has_left_origin = false;
        for _ in 0..=MAX_REDIRECTS {
            match self.ask(&url, fields, view, note)? {
                Reply::Ended(ending) => return Ok(ending),
                Reply::Redirect(location) => {
                    let next = self.redirect(&url, &location);
                    url = next.map_err(|why| failed(&format!("the redirect fails: {why}"), REDIRECT))?;
                    view.remark(&format!("redirected to {url}"))?;
                }
            }
        }
        Err(failed(&format!("the server redirected more than {MAX_REDIRECTS} times"), REDIRECT))
    }

    /// Resolves a redirect of `url`. The error says why it cannot be followed.
    fn redirect(&mut self, url: &Url, location: &[u8]) -> Result<Url, String> {
        let next = url.join(location)?;
        options::check_scheme(self.options, &next, &next.to_string())?;
        if self.options.via.as_ref().is_some_and(|via| !via.reaches(url, &next)) {
            return Err(format!("the command of --via does not reach \"{next}\""));
        }
        self.has_left_origin |= !next.has_origin_of(url);
        Ok(next)
    }

    /// Sends a request and reads its answer, or the head of a redirect.
    fn ask(&mut self, url: &Url, fields: &[(&str, &str)], view: &mut View, note: Note<'_>) -> Result<Reply, End> {
        if !self.server.has_origin_of(url) {
            (self.connection, self.is_reused, self.server) = (None, false, url.clone());
        }
        // A server may close an idle connection at any time (RFC 9112, section 9.3.1).
        let idle = self.connection.as_mut().filter(|_| self.is_reused);
        if let Some(why) = idle.and_then(Connection::is_useless) {
            view.remark(&why)?;
            (self.connection, self.is_reused) = (None, false);
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(self.options, url, view)? {
                Ok(connection) => connection,
                Err(why) => return Ok(Reply::Ended(Ending::Lost(why))),
            },
        };
        let request = request(self.options, url, fields, self.has_left_origin);
        // After a failure to send there can still be an answer: reading reports the failure.
        let _ = connection.send(&request, view)?;
        self.retry_after = None;
        let mut reading = Reading::default();
        while reading.ending.is_none() && !reading.is_redirect() {
            let (pieces, lost) = match connection.read() {
                Ok(pieces) => (pieces, None),
                Err(why) => (connection.end(), Some(why)),
            };
            reading.take(pieces, view, note)?;
            self.has_been_answered |= reading.has_begun;
            let Some(why) = lost else { continue };
            view.flush()?;
            if connection.has_program() && !self.has_been_answered {
                return Err(End::Failed(why)); // as with a server that cannot be reached
            }
            let was_reused = mem::take(&mut self.is_reused);
            if reading.ending.is_none() && was_reused && !reading.has_begun {
                view.remark(&format!("{why} while it was idle"))?;
                return self.ask(url, fields, view, note);
            }
            self.retry_after = reading.retry_after;
            return Ok(Reply::Ended(reading.ending.unwrap_or(Ending::Lost(why))));
        }
        // The content of a redirect is not waited for.
        let persists = !reading.closes && reading.ending.is_some();
        let was_reused = mem::replace(&mut self.is_reused, persists);
        if was_reused && reading.status == 408 {
            // The server closed the idle connection while the request was in flight (RFC 9110, section 15.5.9).
            self.is_reused = false;
            view.remark("408 is an answer to a connection that was idle: asking again on another")?;
            return self.ask(url, fields, view, note);
        }
        self.connection = Some(connection).filter(|_| persists);
        if reading.is_redirect() {
            view.flush()?;
            return Ok(Reply::Redirect(reading.location.unwrap_or_default()));
        }
        self.retry_after = reading.retry_after;
        Ok(Reply::Ended(reading.ending.unwrap_or(Ending::Complete)))
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
        if !matches!(status, 0 | 200..=299 | 408 | 429 | 500..=599) {
            return Err(End::Failed(format!("the server answered {status}")));
        }
        let base = self.options.interval.max(Duration::from_millis(10));
        let bound = base.saturating_mul(1 << self.attempt.min(16)).min(MAX_WAIT.max(base));
        let share = (self.random.number() >> 11) as f64 / (1u64 << 53) as f64;
        self.attempt += 1;
        let set = self.retry_after.take().and_then(|value| retry_after(&value)).unwrap_or_default();
        if set > MAX_SET_WAIT {
            let (asked, most) = (seconds(set), seconds(MAX_SET_WAIT));
            view.remark(&format!("the server asked to wait {asked}: {most} is the most"))?;
        }
        let wait = bound.mul_f64(share).max(set.min(MAX_SET_WAIT));
        self.wait(&ending.why(status), wait, name, cursor, view)
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
    is_head_complete: bool,
    location: Option<Vec<u8>>,
    retry_after: Option<Vec<u8>>,
}

impl Reading {
    /// Whether the answer is elsewhere (RFC 9110, section 15.4). Without a Location, it is here.
    fn is_redirect(&self) -> bool {
        self.is_head_complete && self.location.is_some() && matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }

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
                    Seen::Status(status) => {
                        *self = Reading { has_begun: true, status, interim: self.interim, ..Reading::default() };
                    }
                    Seen::Head => self.is_head_complete = self.status != 0,
                    Seen::Field(name, value) if name == "location" => self.location = Some(value),
                    Seen::Field(name, value) if name == "retry-after" => self.retry_after = Some(value),
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

/// The wait that a Retry-After field sets: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &[u8]) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let date = || parse_date(value, now.as_secs()).map(|date| Duration::from_secs(date).saturating_sub(now));
    digits(value).map(Duration::from_secs).or_else(date)
}

/// The fields of `--header` that are for one origin. A redirect to another drops them for good, also if it leads back
/// (WHATWG Fetch, section 4.4).
const OF_ONE_ORIGIN: [&str; 4] = ["host", "authorization", "cookie", "proxy-authorization"];

/// A minimal GET request. Fields of `--header` replace its own.
pub fn request(options: &Options, url: &Url, fields: &[(&str, &str)], has_left_origin: bool) -> Vec<u8> {
    let own = [("Host", url.authority.as_str())];
    let is_sent =
        |name: &str| !has_left_origin || !OF_ONE_ORIGIN.iter().any(|private| private.eq_ignore_ascii_case(name));
    let others = || {
        let all = options.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| is_sent(name))
    };
    let is_kept = |(name, _): &(&str, &str)| !others().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut request = format!("GET {} HTTP/1.1\r\n", url.target);
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
