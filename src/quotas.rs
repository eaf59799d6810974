//! The bounds of each client: how much of what all share one of them may take.
//!
//! A client is an identity, or else an address. It has one [`Quota`], which counts what it holds, and two token buckets
//! for what it sends. A connection keeps its quota, so nothing is looked up for a message. What is held is a [`Place`]:
//! it counts until it is dropped.
//!
//! The table of quotas has no bound, and needs none. A quota stays while something is held, or while a bucket
//! is not full, which takes a second. So there are at most as many as there are connections, rooms and mailboxes, and
//! clients that have sent something within a second. [`Quotas`] removes the others before it grows.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::books;
use crate::limits::PerClient;

/// The time in which an empty bucket is full again. It holds the tokens of this time.
const SECOND: Duration = Duration::from_secs(1);

/// The errors that a client may get for messages beyond its rate come back ten times as slowly as its messages.
const ERROR_SHARE: u32 = 10;

/// The bytes of the counts of an `Rc`.
const COUNTS: usize = 2 * size_of::<usize>();

/// The least number of quotas at which the table is swept.
const FEW: usize = 1024;

/// One bound of a client.
///
/// ```
/// use overwire::quotas::Bound;
///
/// let names = Bound::ALL.map(Bound::name);
/// assert_eq!(names[0], "connections");
/// assert_eq!(names.last(), Some(&"bytes"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Open connections.
    Connections,
    /// Held polls.
    Polls,
    /// Open streams: of lines, and of events.
    Streams,
    /// Open WebSockets, but those of the signalling.
    WebSockets,
    /// Peers in the rooms of the signalling. A room exists while it has a peer, so they bound the rooms too.
    Signalling,
    /// Rooms that the client has created.
    Rooms,
    /// Mailboxes that the client has created.
    Mailboxes,
    /// Messages in a second.
    Rate,
    /// Received bytes in a second.
    Bytes,
}

impl Bound {
    /// All bounds, in the order of their declaration.
    pub const ALL: [Bound; 9] = [
        Bound::Connections,
        Bound::Polls,
        Bound::Streams,
        Bound::WebSockets,
        Bound::Signalling,
        Bound::Rooms,
        Bound::Mailboxes,
        Bound::Rate,
        Bound::Bytes,
    ];

    /// Returns its name: that of the field of [`PerClient`].
    pub fn name(self) -> &'static str {
        match self {
            Bound::Connections => "connections",
            Bound::Polls => "polls",
            Bound::Streams => "streams",
            Bound::WebSockets => "websockets",
            Bound::Signalling => "signalling",
            Bound::Rooms => "rooms",
            Bound::Mailboxes => "mailboxes",
            Bound::Rate => "rate",
            Bound::Bytes => "bytes",
        }
    }

    /// Returns its field.
    pub fn field(self, bounds: &mut PerClient) -> &mut u32 {
        match self {
            Bound::Connections => &mut bounds.connections,
            Bound::Polls => &mut bounds.polls,
            Bound::Streams => &mut bounds.streams,
            Bound::WebSockets => &mut bounds.websockets,
            Bound::Signalling => &mut bounds.signalling,
            Bound::Rooms => &mut bounds.rooms,
            Bound::Mailboxes => &mut bounds.mailboxes,
            Bound::Rate => &mut bounds.rate,
            Bound::Bytes => &mut bounds.bytes,
        }
    }
}

/// The error for a client that wants more than a bound of it.
///
/// ```
/// use overwire::quotas::{Bound, Exceeded};
///
/// let exceeded = Exceeded { bound: Bound::Rate, most: 100 };
/// assert_eq!(exceeded.to_string(), "rate: a client may send 100 messages in a second: try again later");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// The bound.
    pub bound: Bound,
    /// Its number.
    pub most: u32,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { bound, most } = self;
        write!(f, "{}: a client may ", bound.name())?;
        match bound {
            Bound::Connections => write!(f, "have {most} connections"),
            Bound::Polls => write!(f, "hold {most} polls"),
            Bound::Streams => write!(f, "have {most} streams"),
            Bound::WebSockets => write!(f, "have {most} WebSockets"),
            Bound::Signalling => write!(f, "have {most} peers in rooms of the signalling"),
            Bound::Rooms => write!(f, "have {most} rooms that are read"),
            Bound::Mailboxes => write!(f, "have {most} mailboxes"),
            Bound::Rate => write!(f, "send {most} messages in a second"),
            Bound::Bytes => write!(f, "send {most} bytes in a second"),
        }?;
        f.write_str(": try again later")
    }
}

impl std::error::Error for Exceeded {}

/// The numbers of refusals, by the bound that was the reason.
#[derive(Debug, Default)]
pub struct Refusals([Cell<u64>; Bound::ALL.len()]);

impl Refusals {
    /// Returns the number of refusals for this reason. For [`Bound::Bytes`] it is the number of times that a connection
    /// was not read for a while.
    pub fn of(&self, bound: Bound) -> u64 {
        self.0[bound as usize].get()
    }

    fn count(&self, bound: Bound) {
        let count = &self.0[bound as usize];
        count.set(count.get() + 1);
    }
}

/// A token bucket: full, it has the tokens of a second. It stores nothing but the time at which it is full again, which
/// each token that is taken puts off (the "virtual scheduling algorithm" of ITU-T I.371).
#[derive(Debug, Default)]
struct Bucket(Cell<Option<Instant>>);

impl Bucket {
    /// Takes tokens, of which `rate` come in a second. It may get into debt.
    fn take(&self, tokens: u64, rate: u32, now: Instant) {
        let nanoseconds = tokens.saturating_mul(1_000_000_000) / u64::from(rate.max(1));
        let from = self.0.get().map_or(now, |full| full.max(now));
        self.0.set(from.checked_add(Duration::from_nanos(nanoseconds)));
    }

    /// Takes one token if there is one. Returns whether there was.
    fn try_take(&self, rate: u32, now: Instant) -> bool {
        let is_free = self.debt(now) + SECOND / rate.max(1) <= SECOND;
        if is_free {
            self.take(1, rate, now);
        }
        is_free
    }

    /// Returns the time after which it is full again.
    fn debt(&self, now: Instant) -> Duration {
        self.0.get().map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }
}

/// What all quotas of a table have in common.
#[derive(Debug, Default)]
struct Terms {
    bounds: PerClient,
    refusals: Refusals,
}

/// The quota of one client: what it holds, and how fast it has sent.
///
/// ```
/// use std::time::Instant;
/// use overwire::limits::PerClient;
/// use overwire::quotas::{Bound, Quotas};
///
/// let mut quotas = Quotas::new(PerClient { polls: 1, ..PerClient::default() });
/// let quota = quotas.of_address("192.0.2.1".parse().unwrap(), Instant::now()).expect("it is not exempt");
/// let poll = quota.take(Bound::Polls)?;
/// assert_eq!(quota.take(Bound::Polls).unwrap_err().most, 1);
/// drop(poll);
/// assert!(quota.take(Bound::Polls).is_ok());
/// # Ok::<(), overwire::quotas::Exceeded>(())
/// ```
#[derive(Debug)]
pub struct Quota {
    terms: Rc<Terms>,
    held: [Cell<u32>; Bound::ALL.len()],
    messages: Bucket,
    errors: Bucket,
    bytes: Bucket,
}

impl Quota {
    fn new(terms: Rc<Terms>) -> Self {
        let (messages, errors, bytes) = Default::default();
        Quota { terms, held: Default::default(), messages, errors, bytes }
    }

    /// Returns the number of things that it holds.
    pub fn held(&self, bound: Bound) -> u32 {
        self.held[bound as usize].get()
    }

    /// Whether one more may be held.
    pub fn has_place(&self, bound: Bound) -> bool {
        self.held(bound) < self.most(bound)
    }

    fn most(&self, bound: Bound) -> u32 {
        let mut bounds = self.terms.bounds;
        *bound.field(&mut bounds)
    }

    /// Checks that one more may be held.
    ///
    /// # Errors
    /// The bound. It is counted as a refusal.
    pub fn check(&self, bound: Bound) -> Result<(), Exceeded> {
        if self.has_place(bound) { Ok(()) } else { Err(self.refuse(bound)) }
    }

    /// Takes a place, if there is one.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn take(self: &Rc<Self>, bound: Bound) -> Result<Place, Exceeded> {
        self.check(bound).map(|()| self.hold(bound))
    }

    /// Takes a place, even beyond the bound.
    pub fn hold(self: &Rc<Self>, bound: Bound) -> Place {
        let held = &self.held[bound as usize];
        held.set(held.get() + 1);
        Place { quota: self.clone(), bound }
    }

    /// Takes a message out of the rate.
    ///
    /// # Errors
    /// The bound: the message is refused.
    pub fn take_message(&self, now: Instant) -> Result<(), Exceeded> {
        match self.messages.try_take(self.terms.bounds.rate, now) {
            true => Ok(()),
            false => Err(self.refuse(Bound::Rate)),
        }
    }

    /// Whether the client may get an error for one more message beyond its rate. One that has got as many errors as it may
    /// send messages in a second goes on in spite of them.
    pub fn take_error(&self, now: Instant) -> bool {
        let rate = self.terms.bounds.rate;
        let most = SECOND * ERROR_SHARE;
        let is_free = self.errors.debt(now) + most / rate.max(1) <= most;
        if is_free {
            self.errors.take(u64::from(ERROR_SHARE), rate, now);
        }
        is_free
    }

    /// Takes received bytes out of those of a second.
    #[inline]
    pub fn take_bytes(&self, bytes: usize, now: Instant) {
        self.bytes.take(bytes as u64, self.terms.bounds.bytes, now);
    }

    /// Returns the time for which nothing more is to be read from the client. `None` if there is none.
    #[inline]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.bytes.debt(now).checked_sub(SECOND).filter(|pause| !pause.is_zero())
    }

    /// Counts a refusal, and returns its reason.
    pub fn refuse(&self, bound: Bound) -> Exceeded {
        self.terms.refusals.count(bound);
        Exceeded { bound, most: self.most(bound) }
    }

    fn is_idle(self: &Rc<Self>, now: Instant) -> bool {
        let is_full = |bucket: &Bucket| bucket.debt(now).is_zero();
        Rc::strong_count(self) == 1 && [&self.messages, &self.errors, &self.bytes].into_iter().all(is_full)
    }
}

/// One thing that a client holds. It counts until it is dropped.
#[derive(Debug)]
pub struct Place {
    quota: Rc<Quota>,
    bound: Bound,
}

impl Place {
    /// Returns the quota that it counts for.
    pub fn quota(&self) -> &Rc<Quota> {
        &self.quota
    }

    /// Whether more places are taken than the bound allows.
    pub fn is_beyond(&self) -> bool {
        self.quota.held(self.bound) > self.quota.most(self.bound)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = &self.quota.held[self.bound as usize];
        held.set(held.get() - 1);
    }
}

/// The quotas of all clients.
#[derive(Debug)]
pub struct Quotas {
    terms: Rc<Terms>,
    by_address: HashMap<IpAddr, Rc<Quota>>,
    by_identity: HashMap<Rc<str>, Rc<Quota>>,
    /// The number of quotas at which those that are idle are removed.
    sweep_at: usize,
}

impl Quotas {
    /// Creates an empty table.
    pub fn new(bounds: PerClient) -> Self {
        let terms = Rc::new(Terms { bounds, refusals: Refusals::default() });
        Quotas { terms, by_address: HashMap::new(), by_identity: HashMap::new(), sweep_at: FEW }
    }

    /// Returns the quota of a client without an identity. All addresses of an IPv6 network of 64 bits are one client, and an
    /// IPv4 address that is mapped to IPv6 is the IPv4 address. `None` for this machine itself, which is exempt unless
    /// [`PerClient::loopback`] says otherwise.
    pub fn of_address(&mut self, address: IpAddr, now: Instant) -> Option<Rc<Quota>> {
        let client = network(address);
        if client.is_loopback() && !self.terms.bounds.loopback {
            return None;
        }
        if let Some(quota) = self.by_address.get(&client) {
            return Some(quota.clone());
        }
        self.make_room(now);
        let quota = Rc::new(Quota::new(self.terms.clone()));
        self.by_address.insert(client, quota.clone());
        Some(quota)
    }

    /// Returns the quota of an identity, whatever its address is.
    pub fn of_identity(&mut self, name: &str, now: Instant) -> Rc<Quota> {
        if let Some(quota) = self.by_identity.get(name) {
            return quota.clone();
        }
        self.make_room(now);
        let quota = Rc::new(Quota::new(self.terms.clone()));
        self.by_identity.insert(name.into(), quota.clone());
        quota
    }

    /// Returns the numbers of refusals.
    pub fn refusals(&self) -> &Refusals {
        &self.terms.refusals
    }

    /// Returns the number of clients with a quota.
    pub fn len(&self) -> usize {
        self.by_address.len() + self.by_identity.len()
    }

    /// Whether no client has a quota.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the quotas of clients that hold nothing and have not sent anything lately.
    pub fn sweep(&mut self, now: Instant) {
        sweep(&mut self.by_address, now);
        sweep(&mut self.by_identity, now);
        self.sweep_at = (2 * self.len()).max(FEW);
    }

    /// Each sweep removes as many as have come since the last one, or it is not due again before twice as many are there.
    fn make_room(&mut self, now: Instant) {
        if self.len() >= self.sweep_at {
            self.sweep(now);
        }
    }

    /// Returns the most bytes that the quotas of this number of clients take.
    pub fn bytes_of(clients: usize) -> usize {
        books::map_of::<IpAddr, Rc<Quota>>(clients) + clients * (COUNTS + size_of::<Quota>())
    }

    /// Returns the number of bytes that the quotas take.
    pub fn bytes(&self) -> usize {
        let names = self.by_identity.keys().map(|name| books::text(name.len())).sum::<usize>();
        books::map(&self.by_address)
            + books::map(&self.by_identity)
            + names
            + self.len() * (COUNTS + size_of::<Quota>())
    }
}

fn sweep<K: Eq + Hash, S: BuildHasher>(quotas: &mut HashMap<K, Rc<Quota>, S>, now: Instant) {
    quotas.retain(|_, quota| !quota.is_idle(now));
    books::shrink_map(quotas);
}

/// Returns the address that stands for a client (RFC 6177: IPv6 gives each site a network of 64 bits or more).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(bounds: PerClient) -> (Quotas, Instant) {
        (Quotas::new(bounds), Instant::now())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let (mut quotas, now) = quotas(PerClient::default());
        let mut of = |text: &str| quotas.of_address(address(text), now);
        assert!(of("127.0.0.1").is_none() && of("127.1.2.3").is_none() && of("::1").is_none());
        assert!(of("::ffff:127.0.0.1").is_none());
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|text| of(text).unwrap());
        assert!(Rc::ptr_eq(&v4, &of("::ffff:192.0.2.1").unwrap()));
        assert!(!Rc::ptr_eq(&v4, &of("192.0.2.2").unwrap()));
        assert!(Rc::ptr_eq(&v6, &of("2001:db8::ffff:2").unwrap()));
        assert!(!Rc::ptr_eq(&v6, &of("2001:db8:0:1::1").unwrap()));
        let alice = quotas.of_identity("alice", now);
        assert!(Rc::ptr_eq(&alice, &quotas.of_identity("alice", now)));
    }

    #[test]
    fn loopback_counts_if_it_is_asked_for() {
        let (mut quotas, now) = quotas(PerClient { loopback: true, ..PerClient::default() });
        let [two, three] = ["127.0.0.2", "127.0.0.3"].map(|text| quotas.of_address(address(text), now).unwrap());
        assert!(!Rc::ptr_eq(&two, &three));
        assert!(quotas.of_address(address("::1"), now).is_some());
    }

    #[test]
    fn a_bucket_has_the_messages_of_a_second() {
        let (mut quotas, mut now) = quotas(PerClient { rate: 4, ..PerClient::default() });
        let quota = quotas.of_identity("alice", now);
        for _ in 0..3 {
            (0..4).for_each(|_| assert_eq!(quota.take_message(now), Ok(())));
            assert_eq!(quota.take_message(now), Err(Exceeded { bound: Bound::Rate, most: 4 }));
            now += Duration::from_millis(249);
            assert!(quota.take_message(now).is_err());
            now += Duration::from_millis(1);
            assert!(quota.take_message(now).is_ok() && quota.take_message(now).is_err());
            now += Duration::from_secs(60);
        }
        assert_eq!(quotas.refusals().of(Bound::Rate), 9);
    }

    #[test]
    fn errors_come_back_slowly() {
        let (mut quotas, mut now) = quotas(PerClient { rate: 10, ..PerClient::default() });
        let quota = quotas.of_identity("alice", now);
        let count = |now| (0..100).take_while(|_| quota.take_error(now)).count();
        assert_eq!(count(now), 10);
        now += Duration::from_secs(1);
        assert_eq!(count(now), 1);
    }

    #[test]
    fn bytes_beyond_those_of_a_second_are_a_pause() {
        let (mut quotas, now) = quotas(PerClient { bytes: 1000, ..PerClient::default() });
        let quota = quotas.of_identity("alice", now);
        quota.take_bytes(1000, now);
        assert_eq!(quota.pause(now), None);
        quota.take_bytes(500, now);
        assert_eq!(quota.pause(now), Some(Duration::from_millis(500)));
        assert_eq!(quota.pause(now + Duration::from_millis(500)), None);
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let (mut quotas, now) = quotas(PerClient { streams: 2, ..PerClient::default() });
        let quota = quotas.of_identity("alice", now);
        let mut streams = vec![quota.take(Bound::Streams).unwrap(), quota.take(Bound::Streams).unwrap()];
        let exceeded = quota.take(Bound::Streams).unwrap_err();
        assert_eq!(exceeded.to_string(), "streams: a client may have 2 streams: try again later");
        streams.push(quota.hold(Bound::Streams));
        assert_eq!((quota.held(Bound::Streams), quota.held(Bound::Polls)), (3, 0));
        streams.clear();
        assert!(quota.has_place(Bound::Streams) && quotas.refusals().of(Bound::Streams) == 1);
    }

    /// Each of 100,000 networks sends once.
    #[test]
    fn a_flood_of_addresses_does_not_grow_the_table() {
        let (mut quotas, start) = quotas(PerClient::default());
        let mut held = Vec::new();
        for number in 0..100_000_u32 {
            let now = start + Duration::from_millis(number.into()); // a thousand in a second
            let client = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 64);
            let quota = quotas.of_address(client.into(), now).unwrap();
            assert!(quota.take_message(now).is_ok());
            quota.take_bytes(4 << 20, now);
            if number % 1000 == 0 {
                held.push(quota.take(Bound::Mailboxes).unwrap());
            }
            assert!(quotas.len() <= 2 * (1000 + held.len()) + FEW, "{} after {number}", quotas.len());
        }
        assert!(quotas.bytes() < 1_000_000, "{}", quotas.bytes());
        let end = start + Duration::from_secs(200);
        quotas.sweep(end);
        assert_eq!(quotas.len(), held.len());
        held.clear();
        quotas.sweep(end);
        assert!(quotas.is_empty() && quotas.bytes() < 3000, "{}", quotas.bytes());
    }
}
