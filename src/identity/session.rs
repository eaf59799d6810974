//! Sessions: a browser that has shown its key once is known by a cookie. And tickets: permission to open one stream or
//! WebSocket, for a client that can send neither a field nor a cookie.
//!
//! Both are random secrets, and are stored by their digests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Time;
use super::digest::{Digest, new_secret};
use crate::bytes::digits;
use crate::random::Random;

/// The longest life of a session.
pub const SESSION_TIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The longest time in which nothing is asked with a session, and nothing is held.
pub const IDLE_TIME: Duration = Duration::from_secs(30 * 60);

/// The life of a ticket.
pub const TICKET_TIME: Duration = Duration::from_secs(30);

/// The interval at which the store that servers share is told that a session is in use, and asked whether it goes on.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The most sessions of one key. One more takes the place of the one that was unused for longest.
const SESSIONS_PER_KEY: usize = 100;

/// The most tickets of one key that are not used, as far as this server knows.
const TICKETS_PER_KEY: usize = 300;

/// The proof of an identity. It can end at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An access key.
    Key(Digest),
    /// A session.
    Session(Digest),
    /// A name that a trusted proxy has sent with the request, as its digest.
    Name(Digest),
}

#[derive(Debug)]
struct Session {
    key: Digest,
    until: Instant,
    /// The same in seconds since 1970.
    expires: u64,
    used: Instant,
    /// The time at which it was begun, or looked for in the store that servers share.
    seen: Instant,
}

impl Session {
    /// Creates a session that ends at `expires`, in seconds since 1970.
    fn new(key: Digest, expires: u64, time: Time) -> Self {
        let left = Duration::from_secs(expires.saturating_sub(time.date)).min(SESSION_TIME);
        Session { key, until: time.now + left, expires, used: time.now, seen: time.now }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until <= now || self.used + IDLE_TIME <= now
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Digest, Session>);

impl Sessions {
    /// Begins a session of a key that is valid for this time. Returns its secret, and the session that made room for it.
    pub fn begin(&mut self, random: &mut Random, key: Digest, time: Time, valid: Duration) -> (String, Option<Digest>) {
        self.sweep(time.now);
        let of_key = || self.0.iter().filter(|(_, session)| session.key == key);
        let oldest = of_key().min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest);
        let oldest = oldest.filter(|_| of_key().count() >= SESSIONS_PER_KEY);
        if let Some(oldest) = oldest {
            self.end(oldest);
        }
        let secret = new_secret(random);
        let expires = time.date + valid.min(SESSION_TIME).as_secs();
        self.0.insert(Digest::of(&secret), Session::new(key, expires, time));
        (secret, oldest)
    }

    /// Returns what another server needs to know of a session: the digest of its key, and its end.
    pub fn text(&self, session: Digest) -> Option<String> {
        self.0.get(&session).map(|session| format!("{} {}", session.key, session.expires))
    }

    /// Takes over a session that another server has begun, from its [text](Self::text). Nothing happens if it is known,
    /// or if the text is wrong.
    pub fn learn(&mut self, session: Digest, text: &str, time: Time) {
        let known = text
            .split_once(' ')
            .and_then(|(key, expires)| Some(Session::new(Digest::parse(key)?, digits(expires.as_bytes())?, time)));
        if let Some(known) = known {
            self.0.entry(session).or_insert(known);
        }
    }

    /// Returns the sessions of a key.
    pub fn of_key(&self, key: Digest) -> Vec<Digest> {
        self.0.iter().filter(|(_, session)| session.key == key).map(|(digest, _)| *digest).collect()
    }

    /// Returns the sessions that are in use, and that nobody has looked for within the interval. They are looked for now.
    pub fn due(&mut self, now: Instant) -> Vec<Digest> {
        let is_due = |session: &Session| session.used > session.seen && session.seen + LOOK_INTERVAL <= now;
        let due = self.0.iter_mut().filter(|(_, session)| is_due(session));
        due.map(|(digest, session)| {
            session.seen = now;
            *digest
        })
        .collect()
    }

    /// Forgets the sessions that are not in use, and returns the others: each may have ended meanwhile. One that is
    /// forgotten is looked for when it is used.
    pub fn doubt(&mut self, now: Instant) -> Vec<Digest> {
        self.0.retain(|_, session| now < session.used + LOOK_INTERVAL);
        self.0.values_mut().for_each(|session| session.seen = now);
        self.0.keys().copied().collect()
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

    /// Ends a session. Returns whether it was known.
    pub fn end(&mut self, session: Digest) -> bool {
        self.0.remove(&session).is_some()
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

    /// Returns the credential of a ticket, and does not use it up.
    pub fn credential(&self, ticket: Digest) -> Option<Credential> {
        self.0.get(&ticket).map(|ticket| ticket.credential)
    }

    /// Returns what another server needs to know of a ticket.
    pub fn text(&self, ticket: Digest) -> Option<String> {
        let Ticket { credential, key, endpoint, .. } = self.0.get(&ticket)?;
        Some(match credential {
            Credential::Key(key) => format!("key {key} {key} {endpoint}"),
            Credential::Session(session) => format!("session {session} {key} {endpoint}"),
            Credential::Name(_) => return None, // each of its requests has the name
        })
    }

    /// Takes over a ticket that another server has issued, from its [text](Self::text). Nothing happens if the text is
    /// wrong.
    pub fn learn(&mut self, digest: Digest, text: &str, now: Instant) {
        let [kind, credential, key, endpoint] = text.splitn(4, ' ').collect::<Vec<_>>()[..] else { return };
        let credential = match (kind, Digest::parse(credential)) {
            ("key", Some(key)) => Credential::Key(key),
            ("session", Some(session)) => Credential::Session(session),
            _ => return,
        };
        let Some(key) = Digest::parse(key) else { return };
        self.0.insert(digest, Ticket { credential, key, endpoint: endpoint.to_owned(), until: now + TICKET_TIME });
    }

    /// Drops a ticket that another server has redeemed.
    pub fn forget(&mut self, ticket: Digest) {
        self.0.remove(&ticket);
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
        let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::MAX).0);
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
            let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::from_secs(until)).0);
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
        let session = Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::MAX).0);
        sessions.end(session);
        assert_eq!(sessions.key(session, clock.at(0)), None);
    }

    #[test]
    fn the_sessions_of_a_key_are_bounded() {
        let (mut random, clock, key) = setup();
        let mut sessions = Sessions::default();
        let mut begin = |key, second| {
            let (secret, oldest) = sessions.begin(&mut random, key, clock.time(second), Duration::MAX);
            (Digest::of(&secret), oldest)
        };
        let (other, _) = begin(Digest::of("other"), 0);
        let (first, _) = begin(key, 1);
        let later: Vec<_> = (0..SESSIONS_PER_KEY as u64).map(|second| begin(key, 2 + second)).collect();
        assert_eq!(later.last().unwrap().1, Some(first));
        assert_eq!(later.iter().filter(|(_, oldest)| oldest.is_some()).count(), 1);
        let later = later.into_iter().map(|(session, _)| session);
        let is_known = |session| sessions.key(session, clock.at(200)).is_some();
        assert!(is_known(other) && !is_known(first) && { later }.all(is_known));
    }

    #[test]
    fn a_session_is_known_to_a_server_that_has_its_text() {
        let (mut random, clock, key) = setup();
        let (mut sessions, mut others) = (Sessions::default(), Sessions::default());
        let (secret, _) = sessions.begin(&mut random, key, clock.time(0), Duration::from_secs(100));
        let (session, text) = (Digest::of(&secret), sessions.text(Digest::of(&secret)).unwrap());
        assert!(!text.contains(&secret));
        others.learn(session, &text, clock.time(60));
        assert_eq!((others.key(session, clock.at(99)), others.expires(session)), (Some(key), Some(1100)));
        assert_eq!(others.key(session, clock.at(100)), None);
        for wrong in ["", "x", &format!("{key}"), &format!("{key} soon"), "x 1100"] {
            others.learn(Digest::of(wrong), wrong, clock.time(0));
            assert_eq!(others.key(Digest::of(wrong), clock.at(0)), None, "{wrong}");
        }
        others.learn(key, &format!("{key} {}", u64::MAX), clock.time(0));
        assert_eq!(others.key(key, clock.at(SESSION_TIME.as_secs())), None, "no session is longer than the longest");
    }

    #[test]
    fn sessions_in_use_are_looked_for_from_time_to_time() {
        let (mut random, clock, key) = setup();
        let mut sessions = Sessions::default();
        let mut begin = || Digest::of(&sessions.begin(&mut random, key, clock.time(0), Duration::MAX).0);
        let (used, unused) = (begin(), begin());
        assert_eq!(sessions.due(clock.at(100)), [], "nothing has used them");
        sessions.touch(used, clock.at(29));
        assert_eq!(sessions.due(clock.at(29)), []);
        assert_eq!(sessions.due(clock.at(30)), [used]);
        assert_eq!(sessions.due(clock.at(60)), []);
        sessions.touch(used, clock.at(61));
        assert_eq!(sessions.doubt(clock.at(62)), [used]);
        assert_eq!((sessions.key(unused, clock.at(62)), sessions.due(clock.at(91))), (None, vec![]));
        sessions.touch(used, clock.at(91));
        assert_eq!(sessions.due(clock.at(92)), [used]);
    }

    #[test]
    fn a_ticket_is_known_to_a_server_that_has_its_text() {
        let (mut random, clock, key) = setup();
        let (mut tickets, mut others) = (Tickets::default(), Tickets::default());
        for credential in [Credential::Key(key), Credential::Session(Digest::of("session"))] {
            let ticket = tickets.issue(&mut random, (credential, key), "/poll/a b", clock.at(0)).unwrap();
            let (digest, text) = (Digest::of(&ticket), tickets.text(Digest::of(&ticket)).unwrap());
            assert!(!text.contains(&ticket));
            others.learn(digest, &text, clock.at(0));
            assert_eq!(others.credential(digest), Some(credential));
            assert_eq!(others.redeem(&ticket, "/poll/a b", clock.at(1)), Some(credential));
            others.learn(digest, &text, clock.at(0));
            others.forget(digest);
            assert_eq!(others.redeem(&ticket, "/poll/a b", clock.at(1)), None);
        }
        for wrong in ["", "key", "key x x /ws", &format!("key {key}"), &format!("door {key} {key} /ws")] {
            others.learn(key, wrong, clock.at(0));
            assert_eq!(others.credential(key), None, "{wrong}");
        }
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
