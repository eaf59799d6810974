//! Failed attempts to show an access key, by address: they are slowed down.
//!
//! Nobody finds a key of 160 bits by trying. But a program that tries all the time costs work, and hides in a log what
//! matters. So after some failures an address must wait before its next key is looked at, even a right one: else the
//! answer would tell. The waits become longer up to a bound that others at the same address can bear. Sessions
//! and tickets are not delayed: a page goes on, and an ended session is nobody's guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The failures that have no wait.
const FREE: u32 = 10;

/// The wait after the first failure beyond those. Each one after that doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// The time after which the failures of an address are forgotten.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// The most addresses. One more takes the place of the one that failed longest ago.
const ADDRESSES: usize = 10_000;

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn wait(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(beyond) => FIRST_WAIT.saturating_mul(1 << (beyond - 1).min(16)).min(LONGEST_WAIT),
        }
    }
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub struct Attempts {
    failures: HashMap<IpAddr, Failures>,
    total: u64,
}

impl Attempts {
    /// Decides whether a key from this address is looked at.
    ///
    /// # Errors
    /// The time to wait.
    pub fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(failures) = self.failures.get(&network(address)) else { return Ok(()) };
        let left = (failures.last + failures.wait()).saturating_duration_since(now);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// Notes a wrong key from this address.
    pub fn fail(&mut self, address: IpAddr, now: Instant) {
        self.total += 1;
        let address = network(address);
        if self.failures.len() >= ADDRESSES && !self.failures.contains_key(&address) {
            self.make_room(now);
        }
        let failures = self.failures.entry(address).or_insert(Failures { count: 0, last: now });
        failures.count = if failures.last + FORGET <= now { 1 } else { failures.count.saturating_add(1) };
        failures.last = now;
    }

    fn make_room(&mut self, now: Instant) {
        self.sweep(now);
        if self.failures.len() >= ADDRESSES
            && let Some(oldest) = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(at, _)| *at)
        {
            self.failures.remove(&oldest);
        }
    }

    /// Returns the number of failures of all addresses.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Forgets the failures of long ago.
    pub fn sweep(&mut self, now: Instant) {
        self.failures.retain(|_, failures| now < failures.last + FORGET);
    }
}

/// Returns the address of one client: IPv6 gives each a network of 64 bits (RFC 6177), so those bits count.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_forgotten() {
        let (mut attempts, mut now, own) = (Attempts::default(), Instant::now(), address("192.0.2.1"));
        for _ in 0..FREE {
            assert_eq!(attempts.check(own, now), Ok(()));
            attempts.fail(own, now);
        }
        for wait in [1, 2, 4, 8, 16, 16] {
            assert_eq!(attempts.check(own, now), Ok(()));
            attempts.fail(own, now);
            assert_eq!(attempts.check(own, now), Err(Duration::from_secs(wait)));
            assert_eq!(attempts.check(address("192.0.2.2"), now), Ok(()));
            now += Duration::from_secs(wait);
        }
        now += FORGET;
        attempts.fail(own, now);
        assert_eq!((attempts.check(own, now), attempts.total()), (Ok(()), 17));
        attempts.sweep(now + FORGET);
        assert!(attempts.failures.is_empty());
    }

    #[test]
    fn an_ipv6_client_is_known_by_64_bits() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..=FREE {
            attempts.fail(address(&format!("2001:db8::{host:x}")), now);
        }
        assert!(attempts.check(address("2001:db8::ffff:1"), now).is_err());
        assert!(attempts.check(address("2001:db8:0:1::1"), now).is_ok());
        (0..=FREE).for_each(|_| attempts.fail(address("::ffff:192.0.2.1"), now));
        assert!(attempts.check(address("192.0.2.1"), now).is_err());
        assert!(attempts.check(address("::ffff:192.0.2.2"), now).is_ok());
    }

    #[test]
    fn addresses_are_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..=ADDRESSES as u32 {
            attempts.fail(IpAddr::V4(number.into()), now + Duration::from_millis(number.into()));
        }
        assert_eq!(attempts.failures.len(), ADDRESSES);
        assert!(!attempts.failures.contains_key(&IpAddr::V4(0.into())));
    }
}
