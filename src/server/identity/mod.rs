//! Who asks, and what they may do: with `--keys`, each request to the API needs an identity.
//!
//! This file finds the identity of a request, and ends what is held when it is lost. `grant` is what one request may do,
//! `sessions` has the handlers, `shared` is what servers tell each other, `watch` reads the keys file again when it has
//! changed.

mod grant;
mod sessions;
mod shared;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

pub use self::grant::Grant;
use self::watch::Watch;
use super::Server;
use super::exchanges::{EndReason, Exchanges};
use super::params::ApiError;
use super::parked::Halt;
use super::senders::Sender;
use crate::event_loop::{EventLoop, ExchangeId, TimerId};
use crate::http::{Method, Request, Response};
use crate::identity::{Credential, Digest, Identities, Rights, Time, Unknown, check_name};
use crate::journal::{SecretName, Wanted};
use crate::output;
use crate::proxies::Client;

/// The interval in which it is found that a session or a key has ended by itself.
const LOOK: Duration = Duration::from_secs(1);

/// The name of the cookie.
const COOKIE: &str = "overwire-session";

/// The most cookies of one request that are looked at. A browser has one, or one more for each domain above.
const MOST_COOKIES: usize = 4;

/// The reason why a request is not admitted.
#[derive(Debug)]
pub enum Denial {
    /// It is refused. This is the answer.
    Answer(Response),
    /// It is not known yet. The journal must look for a session or a ticket first.
    Wait(Wanted),
}

impl From<Response> for Denial {
    fn from(response: Response) -> Self {
        Denial::Answer(response)
    }
}

impl From<Halt> for Denial {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Error(error) => Denial::Answer(error.response()),
            Halt::Wait(wanted) => Denial::Wait(wanted),
        }
    }
}

/// The identities of a server with a keys file, or behind a proxy that names its users.
pub struct Guard {
    identities: Identities,
    /// `None` without a keys file.
    watch: Option<Watch>,
    /// The field in which trusted proxies name the user.
    header: Option<String>,
    timer: TimerId,
}

impl Guard {
    /// Reads the keys file, if there is one, and watches it. `header` is the field in which trusted proxies name the
    /// user.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: Option<PathBuf>, header: Option<String>, event_loop: &mut EventLoop) -> io::Result<Self> {
        let watched = path.map(|path| Watch::start(path, event_loop.remote())).transpose()?;
        let mut identities = Identities::default();
        let watch = watched.map(|(watch, keys)| {
            identities.set_keys(keys);
            watch
        });
        Ok(Guard { identities, watch, header, timer: event_loop.set_timer(LOOK) })
    }

    /// Finds who sends a request, and checks that they have these rights.
    ///
    /// # Errors
    /// The answer: 401 without an identity, 403 without the rights, 429 after many wrong keys; 204 to an event stream
    /// that comes back, so that it stays away. Or `Wait`, if another server may know the session or the ticket.
    pub fn admit(
        &mut self,
        exchanges: &mut Exchanges,
        id: ExchangeId,
        request: &Request,
        needs: Rights,
    ) -> Result<Grant, Denial> {
        let time = time(exchanges);
        let credential = self.credential(exchanges, id, request, time)?;
        match self.identities.resolve(credential, time) {
            Some(key) => Ok(Grant::new(credential, key.clone(), needs).map_err(Halt::Error)?),
            None => Err(self.unknown(request).into()),
        }
    }

    /// The name from a proxy comes first: what else such a request has may be for the proxy, as a token in Authorization
    /// is. Then a key, because only a program sends one, on purpose. A ticket that is used up does not hide a cookie: a
    /// browser repeats the URL of an event stream with both.
    fn credential(
        &mut self,
        exchanges: &mut Exchanges,
        id: ExchangeId,
        request: &Request,
        time: Time,
    ) -> Result<Credential, Denial> {
        if let Some(name) = self.name_of_proxy(exchanges, id, request)? {
            return Ok(self.identities.find_named(name));
        }
        if let Some(key) = bearer(request) {
            let address = address(&client(exchanges, id, request));
            return self.identities.find_key(key, address, time).map_err(|unknown_key| match unknown_key {
                Unknown::Wrong => self.unknown(request).into(),
                Unknown::TooMany(wait) => too_many(wait).into(),
            });
        }
        let ticket = request.parameter("ticket").filter(|_| request.method() == Method::Get);
        if let Some(ticket) = ticket
            && let Some(credential) = self.redeem(exchanges, &ticket, &request.path(), time)?
        {
            return Ok(credential);
        }
        self.session(exchanges, request, time)?.ok_or_else(|| self.unknown(request).into())
    }

    /// Returns the name of the user whom a trusted proxy has logged in. From elsewhere, the field is a lie, and the request
    /// is one without it.
    ///
    /// # Errors
    /// 400 if the field has no name, or comes twice: a proxy has added its own to that of a client.
    fn name_of_proxy<'a>(
        &self,
        exchanges: &Exchanges,
        id: ExchangeId,
        request: &'a Request,
    ) -> Result<Option<&'a str>, Response> {
        let Some(header) = self.header.as_deref() else { return Ok(None) };
        let mut values = request.values(header);
        let (first, second) = (values.next(), values.next());
        match first.filter(|_| exchanges.event_loop.is_shared(id)) {
            None => Ok(None),
            // Also if one of them is empty: it may be the proxy's, which has nobody logged in. A comma may be between two
            // that another proxy has joined (RFC 9110, section 5.3).
            Some(first) if second.is_some() || first.contains(&b',') => {
                let sentence =
                    format!("{header}: expected it once, without a comma: a proxy has to replace what a client sends");
                Err(Response::error(400, &sentence))
            }
            Some(b"") => Ok(None),
            Some(value) => {
                let name = str::from_utf8(value).unwrap_or_default(); // no name is empty
                match check_name(name) {
                    Ok(()) => Ok(Some(name)),
                    Err(sentence) => Err(Response::error(400, &sentence.replacen("name", header, 1))),
                }
            }
        }
    }

    /// Uses up a ticket. The session that it was issued for is looked for before that.
    fn redeem(
        &mut self,
        exchanges: &mut Exchanges,
        ticket: &str,
        path: &str,
        time: Time,
    ) -> Result<Option<Credential>, Halt> {
        let digest = Digest::of(ticket);
        exchanges.find(Wanted::Secret(SecretName::Ticket(digest)))?;
        if let Some(session) = self.identities.session_of_ticket(digest)
            && !self.identities.knows_session(session, time.now)
        {
            exchanges.find(Wanted::Secret(SecretName::Session(session)))?;
        }
        Ok(self.identities.redeem_ticket(ticket, path, time))
    }

    /// Finds the session of a cookie: here, or else with the other servers.
    fn session(
        &mut self,
        exchanges: &mut Exchanges,
        request: &Request,
        time: Time,
    ) -> Result<Option<Credential>, Halt> {
        if let Some(session) = cookies(request).find_map(|secret| self.identities.find_session(secret, time)) {
            return Ok(Some(session));
        }
        for secret in cookies(request) {
            exchanges.find(Wanted::Secret(SecretName::Session(Digest::of(secret))))?;
        }
        Ok(None)
    }

    /// Returns the answer to a request without an identity. Which part was wrong it does not say.
    fn unknown(&self, request: &Request) -> Response {
        // An `EventSource` takes any other status for the end too, but a client that does not is told by this one to stop
        // (WHATWG HTML, section 9.2.3).
        let is_stream = request.elements("accept").any(|range| range.starts_with(b"text/event-stream"));
        if request.method() == Method::Get && is_stream && request.field("last-event-id").is_some() {
            return Response::new(204).with_field("Cache-Control", "no-store");
        }
        let given =
            bearer(request).is_some() || cookies(request).next().is_some() || request.parameter("ticket").is_some();
        let named = self.header.as_deref().filter(|header| request.field(header).is_some());
        let sentence = match (given, named) {
            (false, Some(header)) => &format!("{header} counts only if a proxy sends it that --trust-proxy names"),
            (false, None) => {
                "an identity is missing: expected Authorization: Bearer KEY, the cookie of POST /api/session, or the \
                 ticket of POST /api/ticket"
            }
            (true, _) => "the key, the session or the ticket is unknown, or is not valid any more",
        };
        let response = ApiError::unauthorized(sentence).response();
        match cookies(request).next() {
            Some(_) => response.with_field("Set-Cookie", &cookie("", 0, false)),
            None => response,
        }
    }

    /// Whether a grant still holds.
    pub fn still_holds(&self, exchanges: &Exchanges, grant: &Grant) -> bool {
        grant.renew(self.identities.resolve(grant.credential(), time(exchanges))).is_ok()
    }

    /// Takes over the keys that were read. Returns the sessions that are over. `None` if the keys are the same.
    fn read_keys(&mut self) -> Option<Vec<Digest>> {
        match self.watch.as_ref().and_then(Watch::newest)? {
            Ok(keys) => Some(self.identities.set_keys(keys)),
            Err(sentence) => {
                output::complain(format_args!("--keys: {sentence}: the keys from before stay valid"));
                None
            }
        }
    }

    /// Reads the keys file soon.
    pub fn read_again(&self) {
        self.watch.iter().for_each(Watch::read_again);
    }

    /// Returns the number of wrong keys so far.
    pub fn failures(&self) -> u64 {
        self.identities.failures()
    }

    /// Drops what has ended. The other servers hear of the sessions in use.
    pub fn sweep(&mut self, exchanges: &mut Exchanges) {
        self.identities.sweep(exchanges.now());
        self.look_for_sessions(exchanges);
    }

    /// Returns the held exchanges whose permission is lost. A session with a held exchange is not idle.
    fn lost(&mut self, exchanges: &mut Exchanges) -> Vec<(ExchangeId, EndReason)> {
        let (time, mut lost) = (time(exchanges), Vec::new());
        for (id, grant) in &mut exchanges.grants {
            match grant.renew(self.identities.resolve(grant.credential(), time)) {
                Ok(None) => {}
                Ok(Some(renewed)) => *grant = Rc::new(renewed),
                Err(reason) => lost.push((*id, reason)),
            }
            self.identities.touch(grant.credential(), time);
        }
        lost
    }
}

impl Server {
    /// Whether this is the timer of the guard. Then everything that is held is looked at.
    pub(super) fn is_timer_of_guard(&mut self, timer: TimerId) -> bool {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.timer == timer) else { return false };
        guard.timer = self.exchanges.event_loop.set_timer(LOOK);
        self.end_unauthorized();
        true
    }

    /// Another thread has something: it may be the keys. A disk has something for each group of messages, so all that is
    /// held is looked at only if there are keys.
    pub(super) fn take_over_keys(&mut self) {
        let Some(over) = self.guard.as_mut().and_then(Guard::read_keys) else { return };
        over.into_iter().for_each(|session| self.exchanges.drop_session(Sender::Server, session));
        self.end_unauthorized();
    }

    /// Ends what is held without a permission.
    fn end_unauthorized(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        for (id, reason) in guard.lost(&mut self.exchanges) {
            if let Some((feature, exchanges)) = self.owner(id) {
                feature.end(exchanges, id, reason);
            }
        }
    }
}

fn time(exchanges: &Exchanges) -> Time {
    let date = exchanges.event_loop.system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { now: exchanges.now(), date: date.as_secs() }
}

/// The address whose wrong keys are counted, and whether the client came by https.
fn client(exchanges: &Exchanges, id: ExchangeId, request: &Request) -> Client {
    exchanges.event_loop.client(id, request).unwrap_or_default()
}

fn address(client: &Client) -> IpAddr {
    client.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// Returns the key in `Authorization: Bearer KEY` (RFC 6750, section 2.1).
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, key) = str::from_utf8(request.field("authorization")?).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Returns the secrets of the first cookies with our name. A browser can have one for each path and domain (RFC 6265,
/// section 5.4).
fn cookies(request: &Request) -> impl Iterator<Item = &str> {
    // The cookies of other programs on this host may have any bytes.
    let pairs = request.values("cookie").flat_map(|list| list.split(|byte| *byte == b';'));
    let values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    values.filter_map(|value| str::from_utf8(value).ok()).take(MOST_COOKIES)
}

fn too_many(wait: Duration) -> Response {
    let sentence = "too many wrong keys came from this address: try again later";
    Response::error(429, sentence).with_field("Retry-After", &wait.as_secs().max(1).to_string())
}

/// Returns the value of Set-Cookie (RFC 6265bis, section 4.1). A script cannot read it, and no foreign page can make a
/// browser send it.
fn cookie(secret: &str, seconds: u64, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
