//! Sessions: a browser that has shown its key once is known by a cookie. And tickets: permission to open one stream or
//! WebSocket, for a client that can send neither a field nor a cookie.
//!
//! Both are random secrets, and are stored by their digests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Time;
use super::digest::{Digest, new_secret};
use crate::random::Random;

/// The longest life of a session.
pub const SESSION_TIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest time in which nothing is asked with a session, and nothing is held.
pub const IDLE_TIME: Duration = Duration::from_secs(30 * 60);

/// The life of a ticket.
pub const TICKET_TIME: Duration = Duration::from_secs(30);

/// The most sessions of one key. One more takes the place of the one that was unused for longest.
const SESSIONS_PER_KEY: usize = 100;

/// The most tickets of one key that are not used.
const TICKETS_PER_KEY: usize = 100;

/// The proof of an identity. It can end at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An access key.
    Key(Digest),
    /// A session.
    Session(Digest),
}

#[derive(Debug)]
struct Session {
    key: Digest,
    until: Instant,
    /// The same in seconds since 1970.
    expires: u64,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        self.until <= now || self.used + IDLE_TIME <= now
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Digest, Session>);

impl Sessions {
    /// Begins a session of a key that is valid for this time. Returns its secret.
    pub fn begin(&mut self, random: &mut Random, key: Digest, time: Time, valid: Duration) -> String {
        let now = time.now;
        self.0.retain(|_, session| !session.is_over(now));
        let of_key = || self.0.iter().filter(|(_, session)| session.key == key);
        if of_key().count() >= SESSIONS_PER_KEY
            && let Some(oldest) = of_key().min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest)
        {
            self.0.remove(&oldest);
        }
        let secret = new_secret(random);
        let life = valid.min(SESSION_TIME);
        let session = Session { key, until: now + life, expires: time.date + life.as_secs(), used: now };
        self.0.insert(Digest::of(&secret), session);
        secret
    }

    /// Returns the key of a session that is not over.
    pub fn key(&self, session: Digest, now: Instant) -> Option<Digest> {
        self.0.get(&session).filter(|session| !session.is_over(now)).map(|session| session.key)
    }

    /// Notes that a session is in use.
    pub fn touch(&mut self, session: Digest, now: Instant) {
        if let Some(session) = self.0.get_mut(&session).filter(|session| !session.is_over(now)) {
            session.used = now;
        }
    }

    /// Returns the end of a session that stays in use, in seconds since 1970.
    pub fn expires(&self, session: Digest) -> Option<u64> {
        self.0.get(&session).map(|session| session.expires)
    }

    /// Ends a session.
    pub fn end(&mut self, session: Digest) {
        self.0.remove(&session);
    }

    /// Drops the sessions that are over.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, session| !session.is_over(now));
    }
}

#[derive(Debug)]
struct Ticket {
    credential: Credential,
    key: Digest,
    endpoint: String,
    until: Instant,
}

/// All tickets that are not used.
#[derive(Debug, Default)]
pub struct Tickets(HashMap<Digest, Ticket>);

impl Tickets {
    /// Issues a ticket for one request to this path. `None` if the key has too many that are not used.
    pub fn issue(
        &mut self,
        random: &mut Random,
        (credential, key): (Credential, Digest),
        endpoint: &str,
        now: Instant,
    ) -> Option<String> {
        self.sweep(now);
        if self.0.values().filter(|ticket| ticket.key == key).count() >= TICKETS_PER_KEY {
            return None;
        }
        let secret = new_secret(random);
        let ticket = Ticket { credential, key, endpoint: endpoint.to_owned(), until: now + TICKET_TIME };
        self.0.insert(Digest::of(&secret), ticket);
        Some(secret)
    }

    /// Uses a ticket up. Returns the credential that it was issued for. `None` if it is unknown, over, or for another
    /// path.
    pub fn redeem(&mut self, secret: &str, endpoint: &str, now: Instant) -> Option<Credential> {
        let ticket = self.0.remove(&Digest::of(secret))?;
        (ticket.endpoint == endpoint && now < ticket.until).then_some(ticket.credential)
    }

    /// Drops the tickets that are over.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, ticket| now < ticket.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        fn time(&self, seconds: u64) -> Time {
            Time { now: self.at(seconds), date: 1000 + seconds }
        }
    }

    fn setup() -> (Random, Clock, Digest) {
        (Random::open().unwrap(), Clock(Instant::now()), Digest::of("key"))
    }

    #[test]
    fn a_session_ends_when_it_is_idle() {
        let (mut random, clock, key) = setup();
        let mut sessions = Sessions::default();
        let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::MAX));
        assert_eq!(sessions.key(session, clock.at(1799)), Some(key));
        sessions.touch(session, clock.at(1799));
        assert_eq!(sessions.key(session, clock.at(3598)), Some(key));
        assert_eq!(sessions.key(session, clock.at(3599)), None);
        sessions.touch(session, clock.at(3599));
        assert_eq!(sessions.key(session, clock.at(3599)), None, "it does not come back");
        sessions.sweep(clock.at(3599));
        assert!(sessions.0.is_empty());
    }

    #[test]
    fn a_session_ends_after_12_hours_or_with_its_key() {
        let (mut random, clock, key) = setup();
        for (until, end) in [(1_000_000, 43_200), (100, 100)] {
            let mut sessions = Sessions::default();
            let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::from_secs(until)));
            (0..end).step_by(1000).for_each(|second| sessions.touch(session, clock.at(second)));
            assert_eq!(sessions.expires(session), Some(1000 + end));
            assert_eq!(sessions.key(session, clock.at(end - 1)), Some(key));
            assert_eq!(sessions.key(session, clock.at(end)), None);
        }
    }

    #[test]
    fn an_ended_session_is_unknown() {
        let (mut random, clock, key) = setup();
        let mut sessions = Sessions::default();
        let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::MAX));
        sessions.end(session);
        assert_eq!(sessions.key(session, clock.at(0)), None);
    }

    #[test]
    fn the_sessions_of_a_key_are_bounded() {
        let (mut random, clock, key) = setup();
        let mut sessions = Sessions::default();
        let mut begin = |key, second| Digest::of(&sessions.begin(&mut random, key, clock.time(second), Duration::MAX));
        let other = begin(Digest::of("other"), 0);
        let first = begin(key, 1);
        let later: Vec<_> = (0..SESSIONS_PER_KEY as u64).map(|second| begin(key, 2 + second)).collect();
        let is_known = |session| sessions.key(session, clock.at(200)).is_some();
        assert!(is_known(other) && !is_known(first) && later.into_iter().all(is_known));
    }

    #[test]
    fn a_ticket_is_for_one_use_of_one_path_within_30_seconds() {
        let (mut random, clock, key) = setup();
        let mut tickets = Tickets::default();
        let credential = Credential::Session(Digest::of("session"));
        let mut issue =
            |tickets: &mut Tickets| tickets.issue(&mut random, (credential, key), "/ws", clock.at(0)).unwrap();
        let ticket = issue(&mut tickets);
        assert_eq!(tickets.redeem(&ticket, "/ws", clock.at(29)), Some(credential));
        assert_eq!(tickets.redeem(&ticket, "/ws", clock.at(29)), None);
        let ticket = issue(&mut tickets);
        assert_eq!(tickets.redeem(&ticket, "/sse", clock.at(0)), None);
        assert_eq!(tickets.redeem(&ticket, "/ws", clock.at(0)), None, "it was used up");
        let ticket = issue(&mut tickets);
        assert_eq!(tickets.redeem(&ticket, "/ws", clock.at(30)), None);
        assert_eq!(tickets.redeem("", "/ws", clock.at(0)), None);
    }

    #[test]
    fn the_unused_tickets_of_a_key_are_bounded() {
        let (mut random, clock, key) = setup();
        let mut tickets = Tickets::default();
        let mut issue = |key, second| tickets.issue(&mut random, (Credential::Key(key), key), "/ws", clock.at(second));
        assert!((0..TICKETS_PER_KEY).all(|_| issue(key, 0).is_some()));
        assert!(issue(key, 29).is_none() && issue(Digest::of("other"), 29).is_some());
        assert!(issue(key, 30).is_some());
    }
}
