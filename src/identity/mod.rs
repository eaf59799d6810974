//! Identities: access keys and what they permit, the keys file, sessions, tickets, and how guessing is slowed down. There
//! are no sockets and no clock here: times are arguments.
//!
//! There are no passwords. A password needs a slow hash, rules, a reset by mail and a defence against those that leaked
//! elsewhere. An access key is random, is for one purpose, and is revoked by itself. [`Digest`] says why its hash is
//! fast.

mod attempts;
mod digest;
mod file;
mod key;
mod session;

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::attempts::Attempts;
pub use self::digest::Digest;
pub use self::file::{add_key, parse_keys, read_keys, revoke_keys};
pub use self::key::{AccessKey, Rights, RoomPattern, check_name};
pub use self::session::{Credential, IDLE_TIME, TICKET_TIME};
use self::session::{Sessions, Tickets};
use crate::random::Random;

/// A time: by the clock of the event loop, which never goes back, and by that of the system.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// The time by which sessions and tickets end.
    pub now: Instant,
    /// The time by which keys end: seconds since 1970-01-01 00:00:00 UTC.
    pub date: u64,
}

/// The reason why a key is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// No key is like this, or it has expired. It does not say which.
    Wrong,
    /// There were too many wrong ones from this address. The next is looked at after this time.
    TooMany(Duration),
}

/// A session that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its secret.
    pub secret: String,
    /// The digest of its secret.
    pub session: Digest,
    /// The session that has ended to make room for it.
    pub ended: Option<Digest>,
}

/// All that the server knows about identities.
///
/// Servers that share a store keep the texts of sessions and tickets there, each by the digest of its secret. One that
/// does not know a secret looks there. So a session that is idle here is forgotten, and may be in use elsewhere.
///
/// ```
/// use std::time::Instant;
/// use overwire::identity::{AccessKey, Identities, RoomPattern, Rights, Time, Unknown};
/// use overwire::random::Random;
///
/// let mut random = Random::open()?;
/// let rooms = RoomPattern::parse_list("*").unwrap();
/// let (key, text) = AccessKey::create(&mut random, "alice", Rights::READ, rooms, None);
/// let mut identities = Identities::default();
/// identities.set_keys(vec![key]);
///
/// let (here, time) = ([127, 0, 0, 1].into(), Time { now: Instant::now(), date: 1_700_000_000 });
/// assert_eq!(identities.find_key("ow_0000", here, time), Err(Unknown::Wrong));
/// let credential = identities.find_key(&text, here, time).unwrap();
/// assert_eq!(identities.resolve(credential, time).unwrap().name, "alice");
///
/// let begun = identities.begin_session(&mut random, credential, time).unwrap();
/// let session = identities.find_session(&begun.secret, time).unwrap();
/// identities.set_keys(vec![]); // revoked
/// assert_eq!(identities.resolve(session, time), None);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Identities {
    keys: HashMap<Digest, Rc<AccessKey>>,
    /// The newest key of each name.
    by_name: HashMap<String, Rc<AccessKey>>,
    /// The users whom a proxy has named, by the digests of their names.
    named: HashMap<Digest, Rc<AccessKey>>,
    sessions: Sessions,
    tickets: Tickets,
    attempts: Attempts,
}

impl Identities {
    /// Replaces all keys. The sessions of those that are gone are over. Returns these sessions.
    pub fn set_keys(&mut self, keys: Vec<AccessKey>) -> Vec<Digest> {
        let keys: Vec<_> = keys.into_iter().map(Rc::new).collect();
        self.by_name = keys.iter().map(|key| (key.name.clone(), key.clone())).collect();
        for (digest, named) in &mut self.named {
            match self.by_name.get(&named.name) {
                Some(key) => *named = key.clone(),
                None if named.digest != *digest => *named = AccessKey::of_name(&named.name).into(),
                None => {}
            }
        }
        let new = keys.into_iter().map(|key| (key.digest, key)).collect();
        let mut old = std::mem::replace(&mut self.keys, new);
        old.retain(|digest, _| !self.keys.contains_key(digest));
        let over: Vec<_> = old.into_keys().flat_map(|key| self.sessions.of_key(key)).collect();
        over.into_iter().filter(|session| self.sessions.end(*session)).collect()
    }

    /// Finds the key with this text, which came from this address.
    ///
    /// # Errors
    /// The key is wrong, or is not looked at.
    pub fn find_key(&mut self, text: &str, address: IpAddr, time: Time) -> Result<Credential, Unknown> {
        self.attempts.check(address, time.now).map_err(Unknown::TooMany)?;
        let digest = Digest::of(text);
        if !self.keys.get(&digest).is_some_and(|key| key.is_valid(time.date)) {
            self.attempts.fail(address, time.now);
            return Err(Unknown::Wrong);
        }
        Ok(Credential::Key(digest))
    }

    /// Returns the credential of a user whom a trusted proxy has logged in and named. The newest key of that name says
    /// what the user may do. Without one, it is to receive and to send in all rooms.
    pub fn find_named(&mut self, name: &str) -> Credential {
        let digest = Digest::of(name);
        let key = || self.by_name.get(name).cloned().unwrap_or_else(|| AccessKey::of_name(name).into());
        self.named.entry(digest).or_insert_with(key);
        Credential::Name(digest)
    }

    /// Finds the session with this secret, and notes that it is in use.
    pub fn find_session(&mut self, secret: &str, time: Time) -> Option<Credential> {
        let session = Digest::of(secret);
        self.resolve(Credential::Session(session), time)?;
        self.sessions.touch(session, time.now);
        Some(Credential::Session(session))
    }

    /// Uses up the ticket with this secret at this path.
    pub fn redeem_ticket(&mut self, secret: &str, endpoint: &str, time: Time) -> Option<Credential> {
        let credential = self.tickets.redeem(secret, endpoint, time.now)?;
        self.resolve(credential, time).is_some().then_some(credential)
    }

    /// Returns the key of a credential that is still valid.
    pub fn resolve(&self, credential: Credential, time: Time) -> Option<&Rc<AccessKey>> {
        let key = match credential {
            Credential::Key(digest) => self.keys.get(&digest),
            Credential::Session(session) => self.keys.get(&self.sessions.key(session, time.now)?),
            Credential::Name(digest) => self.named.get(&digest),
        };
        key.filter(|key| key.is_valid(time.date))
    }

    /// Notes that something is held with this credential, so its session is not idle.
    pub fn touch(&mut self, credential: Credential, time: Time) {
        if let Credential::Session(session) = credential {
            self.sessions.touch(session, time.now);
        }
    }

    /// Begins a session for the key of a credential. `None` if the credential is not valid any more.
    pub fn begin_session(&mut self, random: &mut Random, credential: Credential, time: Time) -> Option<Begun> {
        let key = self.resolve(credential, time)?;
        let valid = key.expires.map_or(Duration::MAX, |expires| Duration::from_secs(expires.saturating_sub(time.date)));
        let (secret, ended) = self.sessions.begin(random, key.digest, time, valid);
        Some(Begun { session: Digest::of(&secret), secret, ended })
    }

    /// Returns the text of a session for other servers. It has no secret.
    pub fn session_text(&self, session: Digest) -> Option<String> {
        self.sessions.text(session)
    }

    /// Takes over a session of another server. A text that is wrong is ignored.
    pub fn learn_session(&mut self, session: Digest, text: &str, time: Time) {
        self.sessions.learn(session, text, time);
    }

    /// Returns the sessions that are to be looked for in the shared store, from time to time: they are in use.
    pub fn sessions_to_look_for(&mut self, now: Instant) -> Vec<Digest> {
        self.sessions.due(now)
    }

    /// Any session may have ended elsewhere. Returns those that are to be looked for now. The others are forgotten.
    pub fn doubt_sessions(&mut self, now: Instant) -> Vec<Digest> {
        self.sessions.doubt(now)
    }

    /// Ends a session. Returns whether it was known.
    pub fn end_session(&mut self, session: Digest) -> bool {
        self.sessions.end(session)
    }

    /// Issues a ticket for one request to this path with the identity of a credential. `None` if there are too many.
    pub fn issue_ticket(
        &mut self,
        random: &mut Random,
        credential: Credential,
        endpoint: &str,
        time: Time,
    ) -> Option<String> {
        let key = self.resolve(credential, time)?.digest;
        self.tickets.issue(random, (credential, key), endpoint, time.now)
    }

    /// Returns the session that a ticket was issued for. `None` for that of a key, or an unknown one.
    pub fn session_of_ticket(&self, ticket: Digest) -> Option<Digest> {
        match self.tickets.credential(ticket)? {
            Credential::Session(session) => Some(session),
            Credential::Key(_) | Credential::Name(_) => None,
        }
    }

    /// Returns the text of a ticket for other servers. It has no secret.
    pub fn ticket_text(&self, ticket: Digest) -> Option<String> {
        self.tickets.text(ticket)
    }

    /// Takes over a ticket of another server. A text that is wrong is ignored.
    pub fn learn_ticket(&mut self, ticket: Digest, text: &str, now: Instant) {
        self.tickets.learn(ticket, text, now);
    }

    /// Another server has redeemed a ticket.
    pub fn forget_ticket(&mut self, ticket: Digest) {
        self.tickets.forget(ticket);
    }

    /// Whether a session is known here and not over, whatever its key.
    pub fn knows_session(&self, session: Digest, now: Instant) -> bool {
        self.sessions.key(session, now).is_some()
    }

    /// Returns when a credential ends by itself, in seconds since 1970. `None` for a key without an end.
    pub fn expires(&self, credential: Credential) -> Option<u64> {
        match credential {
            Credential::Key(digest) => self.keys.get(&digest)?.expires,
            Credential::Name(digest) => self.named.get(&digest)?.expires,
            Credential::Session(session) => self.sessions.expires(session),
        }
    }

    /// Returns the number of wrong keys so far.
    pub fn failures(&self) -> u64 {
        self.attempts.total()
    }

    /// Drops what has ended, and the named users with nothing held.
    pub fn sweep(&mut self, now: Instant) {
        self.named.retain(|_, key| Rc::strong_count(key) > 1);
        self.sessions.sweep(now);
        self.tickets.sweep(now);
        self.attempts.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    struct Scene {
        random: Random,
        identities: Identities,
        start: Instant,
    }

    impl Scene {
        /// A server that knows one key, which expires at the second 1000.
        fn create() -> (Self, AccessKey, String) {
            let mut random = Random::open().unwrap();
            let rooms = RoomPattern::parse_list("*").unwrap();
            let (key, text) = AccessKey::create(&mut random, "alice", Rights::READ, rooms, Some(1000));
            let mut identities = Identities::default();
            identities.set_keys(vec![key.clone()]);
            (Scene { random, identities, start: Instant::now() }, key, text)
        }

        fn at(&self, date: u64) -> Time {
            Time { now: self.start + Duration::from_secs(date), date }
        }
    }

    #[test]
    fn an_expired_key_is_wrong_and_ends_what_it_began() {
        let (mut scene, _, text) = Scene::create();
        let (before, after) = (scene.at(999), scene.at(1000));
        let key = scene.identities.find_key(&text, HERE, before).unwrap();
        let cookie = scene.identities.begin_session(&mut scene.random, key, before).unwrap().secret;
        let session = scene.identities.find_session(&cookie, before).unwrap();
        assert_eq!(scene.identities.expires(session), Some(1000));
        for credential in [key, session] {
            assert!(scene.identities.resolve(credential, before).is_some());
            assert!(scene.identities.resolve(credential, after).is_none());
        }
        assert_eq!(scene.identities.find_key(&text, HERE, after), Err(Unknown::Wrong));
        assert_eq!(scene.identities.find_session(&cookie, after), None);
    }

    #[test]
    fn new_rights_of_a_key_count_at_once() {
        let (mut scene, mut key, text) = Scene::create();
        let time = scene.at(0);
        let credential = scene.identities.find_key(&text, HERE, time).unwrap();
        key.rights = Rights::ADMIN;
        scene.identities.set_keys(vec![key]);
        assert_eq!(scene.identities.resolve(credential, time).unwrap().rights, Rights::ADMIN);
    }

    #[test]
    fn a_ticket_ends_with_the_session_that_it_was_issued_for() {
        let (mut scene, _, text) = Scene::create();
        let time = scene.at(0);
        let key = scene.identities.find_key(&text, HERE, time).unwrap();
        let begun = scene.identities.begin_session(&mut scene.random, key, time).unwrap();
        let session = scene.identities.find_session(&begun.secret, time).unwrap();
        let mut issue = |identities: &mut Identities| {
            identities.issue_ticket(&mut scene.random, session, "/ws", time).expect("there are few")
        };
        let (first, second) = (issue(&mut scene.identities), issue(&mut scene.identities));
        assert_eq!(scene.identities.redeem_ticket(&first, "/ws", time), Some(session));
        scene.identities.end_session(begun.session);
        assert_eq!(scene.identities.redeem_ticket(&second, "/ws", time), None);
        assert!(scene.identities.resolve(key, time).is_some(), "the key goes on");
    }

    #[test]
    fn the_sessions_of_a_key_that_is_gone_are_over() {
        let (mut scene, key, text) = Scene::create();
        let time = scene.at(0);
        let credential = scene.identities.find_key(&text, HERE, time).unwrap();
        let begun = scene.identities.begin_session(&mut scene.random, credential, time).unwrap();
        let other = Digest::of("a session of a key that was never here");
        scene.identities.learn_session(other, &format!("{} 100", Digest::of("other key")), time);
        assert_eq!(scene.identities.set_keys(vec![key]), []);
        assert_eq!(scene.identities.set_keys(vec![]), [begun.session]);
        assert!(!scene.identities.knows_session(begun.session, time.now));
        assert!(scene.identities.knows_session(other, time.now), "its key may be new");
    }

    #[test]
    fn the_newest_key_of_a_name_says_what_a_named_user_may_do() {
        let (mut scene, key, _) = Scene::create();
        let (before, after) = (scene.at(999), scene.at(1000));
        let [alice, bob] = ["alice", "bob"].map(|name| scene.identities.find_named(name));
        let may = |identities: &Identities, user, time| identities.resolve(user, time).map(|key| key.rights);
        assert_eq!(may(&scene.identities, alice, before), Some(Rights::READ));
        assert_eq!(may(&scene.identities, alice, after), None, "an expired key does not give more than a valid one");
        assert_eq!(may(&scene.identities, bob, after), Some(Rights::READ_AND_SEND));
        let newest = AccessKey { digest: Digest::of("newest"), rights: Rights::ADMIN, ..key.clone() };
        scene.identities.set_keys(vec![key, newest]);
        assert_eq!(may(&scene.identities, alice, before), Some(Rights::ADMIN));
        scene.identities.set_keys(vec![]);
        assert_eq!(may(&scene.identities, alice, after), Some(Rights::READ_AND_SEND));
        let held = scene.identities.resolve(bob, after).cloned();
        scene.identities.sweep(after.now);
        assert_eq!((may(&scene.identities, alice, after), held.is_some()), (None, true), "it holds nothing");
        assert!(may(&scene.identities, bob, after).is_some());
    }

    #[test]
    fn wrong_keys_are_slowed_down_and_counted() {
        let (mut scene, _, text) = Scene::create();
        let time = scene.at(0);
        for _ in 0..11 {
            assert_eq!(scene.identities.find_key("guess", HERE, time), Err(Unknown::Wrong));
        }
        let second = Duration::from_secs(1);
        assert_eq!(scene.identities.find_key(&text, HERE, time), Err(Unknown::TooMany(second)));
        assert!(scene.identities.find_key(&text, [192, 0, 2, 1].into(), time).is_ok());
        assert!(scene.identities.find_key(&text, HERE, scene.at(1)).is_ok());
        assert_eq!(scene.identities.failures(), 11);
    }
}
