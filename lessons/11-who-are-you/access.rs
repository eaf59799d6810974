//! Finds who sends a request. A key, the cookie of a session and a ticket are secrets. The server has only their digests.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use overwire::TimerId;
use overwire::http::{Method, Request};
use overwire::random::Random;
use sha1::{Digest as _, Sha1};

/// The life of a ticket.
pub const TICKET_TIME: Duration = Duration::from_secs(30);

/// The SHA-1 of a secret.
pub type Digest = [u8; 20];
pub fn digest_of(secret: &str) -> Digest {
    Sha1::digest(secret).into()
}

/// Returns a secret of 160 random bits.
fn new_secret(random: &mut Random) -> String {
    random.bytes::<20>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who sends a request, and the session by which they are known, if it is one.
#[derive(Clone)]
pub struct Who {
    pub name: String,
    pub session: Option<Digest>,
}

/// A browser that has shown its key.
struct Session {
    name: String,
    /// The timer of its end.
    timer: TimerId,
}

/// The permission for one request to one path.
struct Ticket {
    who: Who,
    path: String,
    until: Instant,
}

/// All secrets that are valid, by their digests.
pub struct Access {
    keys: HashMap<Digest, String>,
    sessions: HashMap<Digest, Session>,
    tickets: HashMap<Digest, Ticket>,
    random: Random,
}

impl Access {
    /// Reads the keys from a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let with_path = |error: String| io::Error::other(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| with_path(error.to_string()))?;
        let keys = parse_keys(&text).ok_or_else(|| with_path("expected lines of `sha1sum`".into()))?;
        Ok(Access { keys, sessions: HashMap::new(), tickets: HashMap::new(), random: Random::open()? })
    }

    /// Finds who sends a request. A key comes first: only a program sends one, on purpose.
    pub fn identify(&mut self, request: &Request, now: Instant) -> Option<Who> {
        if request.field("authorization").is_some() {
            return self.owner_of_key(request);
        }
        match request.parameter("ticket").filter(|_| request.method() == Method::Get) {
            Some(ticket) => self.redeem(&ticket, &request.path(), now),
            None => cookies(request).find_map(|secret| self.owner_of_session(digest_of(secret))),
        }
    }

    // ANCHOR: key
    /// Finds the owner of the key in `Authorization: Bearer KEY` (RFC 6750, section 2.1).
    pub fn owner_of_key(&self, request: &Request) -> Option<Who> {
        let (scheme, key) = str::from_utf8(request.field("authorization")?).ok()?.split_once(' ')?;
        let name = self.keys.get(&digest_of(key.trim())).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        Some(Who { name: name.clone(), session: None })
    }
    // ANCHOR_END: key

    fn owner_of_session(&self, session: Digest) -> Option<Who> {
        let name = self.sessions.get(&session)?.name.clone();
        Some(Who { name, session: Some(session) })
    }

    /// Begins a session, which this timer will end. Returns its secret.
    pub fn begin_session(&mut self, name: String, timer: TimerId) -> String {
        let secret = new_secret(&mut self.random);
        self.sessions.insert(digest_of(&secret), Session { name, timer });
        secret
    }

    /// Returns the session that this timer ends.
    pub fn session_of(&self, timer: TimerId) -> Option<Digest> {
        self.sessions.iter().find(|(_, session)| session.timer == timer).map(|(digest, _)| *digest)
    }

    /// Forgets a session. Returns its timer.
    pub fn end_session(&mut self, session: Digest) -> Option<TimerId> {
        self.sessions.remove(&session).map(|session| session.timer)
    }

    /// Issues a ticket for one request to this path.
    pub fn issue(&mut self, who: Who, path: &str, now: Instant) -> String {
        self.tickets.retain(|_, ticket| now < ticket.until);
        let secret = new_secret(&mut self.random);
        let ticket = Ticket { who, path: path.to_owned(), until: now + TICKET_TIME };
        self.tickets.insert(digest_of(&secret), ticket);
        secret
    }

    // ANCHOR: ticket
    /// Uses a ticket up, whatever comes of it.
    fn redeem(&mut self, secret: &str, path: &str, now: Instant) -> Option<Who> {
        let ticket = self.tickets.remove(&digest_of(secret))?;
        let has_ended = ticket.who.session.is_some_and(|session| !self.sessions.contains_key(&session));
        (ticket.path == path && now < ticket.until && !has_ended).then_some(ticket.who)
    }
    // ANCHOR_END: ticket
}

/// Returns the values of all cookies called `session`: a browser may have one for each path (RFC 6265, section 5.4).
fn cookies(request: &Request) -> impl Iterator<Item = &str> {
    let pairs = request.values("cookie").filter_map(|value| str::from_utf8(value).ok());
    pairs.flat_map(|list| list.split(';')).filter_map(|pair| pair.trim().strip_prefix("session="))
}

/// Parses lines of a digest, two spaces and a name.
fn parse_keys(text: &str) -> Option<HashMap<Digest, String>> {
    text.lines()
        .map(|line| line.split_once("  ").and_then(|(digest, name)| Some((parse(digest)?, name.into()))))
        .collect()
}

/// Parses the 40 hexadecimal digits of a digest.
fn parse(text: &str) -> Option<Digest> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        Some((digit(0)? << 4 | digit(1)?) as u8)
    });
    pairs.collect::<Option<Vec<_>>>()?.try_into().ok()
}
