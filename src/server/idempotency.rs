//! Idempotency keys: a message that is sent twice with the same key is published once.
//!
//! A request whose answer is lost may have arrived or not. Its sender sends it again. A browser does so by itself, even
//! for a POST, when a persistent connection closes before the first byte of the answer (RFC 9112, section 9.3.1). The
//! key tells a retry from a new message, and a retry gets the answer to the first request.
//!
//! A key holds for [`LIFETIME`], exactly, however many others come in the meantime. If there is no memory left for
//! another key, its message is refused: a guarantee that ends early is not one.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::books;
use super::params::ApiError;
use crate::feed::Cursor;

/// The time for which a key is known, from its message.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// The most keys, of rooms and of mailboxes together. They take at most 80 MiB.
pub const KEYS: usize = 400_000;

/// The id and the time of a published message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The position after the message.
    pub id: Cursor,
    /// Seconds since the epoch.
    pub timestamp: f64,
}

/// A key in its log, as a keyed hash of 128 bits. Nobody can search for two keys with the same one, and by chance there
/// are none.
type Digest = [u64; 2];

/// The first message with a key.
#[derive(Debug)]
struct First {
    /// A keyed hash of its sender and text.
    fingerprint: u64,
    published: Published,
}

/// A key that is not known yet. Its message is published, and then [stored](Keys::store) with it.
#[derive(Debug)]
#[must_use]
pub struct NewKey {
    digest: Digest,
    fingerprint: u64,
}

/// The result of a search for the key of a message.
#[derive(Debug)]
pub enum Found {
    /// The message was published before.
    Published(Published),
    /// The message is new. It may have a key.
    New(Option<NewKey>),
}

/// The keys of all logs, in the order of their messages.
#[derive(Debug, Default)]
pub struct Keys {
    first: HashMap<Digest, First>,
    /// All keys hold equally long, so the order of their ends is that of their beginnings.
    ends: VecDeque<(Instant, Digest)>,
    hashers: [RandomState; 2],
}

impl Keys {
    /// Searches for the key of a message in a log. `log` is the epoch of its feed.
    ///
    /// # Errors
    /// 409 when another message has the key, 503 when there is no memory for a new one.
    pub fn find(
        &mut self,
        log: u64,
        key: Option<&str>,
        sender: &str,
        text: &str,
        now: Instant,
    ) -> Result<Found, ApiError> {
        let Some(key) = key else { return Ok(Found::New(None)) };
        self.expire(now);
        let digest = self.hashers.each_ref().map(|hasher| hasher.hash_one((log, key)));
        let fingerprint = self.hashers[0].hash_one((sender, text));
        match self.first.get(&digest) {
            Some(first) if first.fingerprint == fingerprint => Ok(Found::Published(first.published)),
            Some(_) => Err(ApiError::conflict(
                "key: expected a new one, because this one came with another sender or text in the last 5 minutes",
            )),
            None if self.first.len() >= KEYS => Err(ApiError::full("idempotency keys")),
            None => Ok(Found::New(Some(NewKey { digest, fingerprint }))),
        }
    }

    /// Stores the key of a message that has been published.
    pub fn store(&mut self, key: Option<NewKey>, published: Published, now: Instant) {
        let Some(NewKey { digest, fingerprint }) = key else { return };
        self.first.insert(digest, First { fingerprint, published });
        self.ends.push_back((now + LIFETIME, digest));
    }

    /// Removes the keys whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, digest)) = self.ends.front().filter(|(end, _)| *end <= now) {
            self.first.remove(digest);
            self.ends.pop_front();
        }
    }

    /// Gives back the memory of a flood that is over.
    pub fn shrink(&mut self) {
        books::shrink_map(&mut self.first);
        books::shrink_deque(&mut self.ends);
    }

    /// Returns the number of bytes that the keys take.
    pub fn bytes(&self) -> usize {
        books::map(&self.first) + books::deque(&self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(sequence: u64) -> Published {
        let id = format!("1f0c2a9e-8b4d-8e17-8000-{sequence:012x}").parse().unwrap();
        Published { id, timestamp: 0.0 }
    }

    /// Finds the key of a message, and stores it if it is new. Returns the stored one.
    fn send(keys: &mut Keys, key: &str, text: &str, sequence: u64, now: Instant) -> Result<Published, u16> {
        match keys.find(7, Some(key), "ada", text, now).map_err(|error| error.status)? {
            Found::Published(before) => Ok(before),
            Found::New(key) => {
                keys.store(key, published(sequence), now);
                Ok(published(sequence))
            }
        }
    }

    #[test]
    fn a_key_holds_for_exactly_five_minutes() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        assert_eq!(send(&mut keys, "a", "x", 1, start), Ok(published(1)));
        for number in 0..1000 {
            send(&mut keys, &number.to_string(), "x", 2, start + Duration::from_secs(1)).unwrap();
        }
        assert_eq!(send(&mut keys, "a", "x", 3, start + LIFETIME - Duration::from_nanos(1)), Ok(published(1)));
        assert_eq!(send(&mut keys, "a", "x", 4, start + LIFETIME), Ok(published(4)));
        keys.expire(start + 2 * LIFETIME);
        keys.shrink();
        assert_eq!((keys.first.len(), keys.ends.len()), (0, 0));
        assert!(keys.bytes() < 2500, "{}", keys.bytes());
    }

    #[test]
    fn a_key_belongs_to_one_log_sender_and_text() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        send(&mut keys, "a", "x", 1, now).unwrap();
        assert_eq!(send(&mut keys, "a", "y", 2, now), Err(409));
        assert_eq!(keys.find(7, Some("a"), "bob", "x", now).unwrap_err().status, 409);
        assert_eq!(keys.find(7, Some("a"), "adax", "", now).unwrap_err().status, 409);
        assert!(matches!(keys.find(8, Some("a"), "bob", "x", now), Ok(Found::New(Some(_)))));
        assert!(matches!(keys.find(7, None, "bob", "x", now), Ok(Found::New(None))));
    }

    #[test]
    fn a_full_store_refuses_new_keys_and_knows_the_old_ones() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        send(&mut keys, "0", "x", 0, now).unwrap();
        for number in 1..KEYS {
            keys.store(Some(NewKey { digest: [number as u64, 0], fingerprint: 0 }), published(1), now);
        }
        assert_eq!(send(&mut keys, "new", "x", 9, now), Err(503));
        assert!(keys.bytes() <= 64 << 20, "{}", keys.bytes());
        assert_eq!(send(&mut keys, "0", "x", 9, now), Ok(published(0)));
        assert!(matches!(keys.find(7, None, "ada", "x", now), Ok(Found::New(None))));
        assert_eq!(send(&mut keys, "new", "x", 9, now + LIFETIME), Ok(published(9)));
    }
}
