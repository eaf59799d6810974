//! Idempotency keys: a message that is sent twice with the same key is appended once.
//!
//! A request whose answer is lost may have arrived or not. Its sender sends it again. A browser does so by itself, even
//! for a POST, when a persistent connection closes before the first byte of the answer (RFC 9112, section 9.3.1). The
//! key tells a retry from a new message, and a retry gets the answer to the first request.
//!
//! A key holds for [`LIFETIME`], exactly, however many others come in the meantime. If there is no memory left for
//! another key, its message is refused: a guarantee that ends early is not one.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::Refusal;
use crate::books;
use crate::feed::Cursor;

/// The time for which a key is known, from its message.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// The most keys by default, of rooms and of mailboxes together. They take at most 80 MiB.
pub const KEYS: usize = 400_000;

/// An idempotency key in its log, and the message that came with it.
///
/// Both are parts of SHA-1 digests: they must be the same in each process that has the log, so their hash has no
/// random key. A sender who searches for two texts with one fingerprint, or for two keys with one digest, can find
/// them. It gets the answer to its first message for the second one, and harms nobody else.
///
/// ```
/// use overwire::journal::Key;
///
/// let (tea, coffee) = (0x1f0c2a9e8b4de17, 0x2a9e8b4de171f0c); // the epochs of two logs
/// let first = Key::new(tea, "1", "ada", "hello");
/// assert_eq!(first, Key::new(tea, "1", "ada", "hello")); // a retry
/// assert_eq!(first.digest, Key::new(tea, "1", "ada", "good-bye").digest); // a conflict
/// assert_ne!(first.digest, Key::new(coffee, "1", "ada", "hello").digest); // another key
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The digest of the log and the key.
    pub digest: [u8; 16],
    /// The digest of the sender and the text.
    pub fingerprint: [u8; 8],
}

impl Key {
    /// Computes both digests. `epoch` names the log: in a room that was removed and created again, a key is new.
    /// `sender` is empty for a text in a mailbox.
    pub fn new(epoch: u64, key: &str, sender: &str, text: &str) -> Self {
        let epoch = epoch.to_be_bytes();
        Key { digest: digest(&[&epoch, key.as_bytes()]), fingerprint: digest(&[sender.as_bytes(), text.as_bytes()]) }
    }
}

/// Returns the first `N` bytes of the SHA-1 digest of these parts. The length before each of them tells `a`, `bc` from
/// `ab`, `c`.
fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    std::array::from_fn(|at| hash[at])
}

/// The first message with a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct First {
    fingerprint: [u8; 8],
    /// Its id.
    pub cursor: Cursor,
    /// Its time, in seconds since the epoch.
    pub timestamp: f64,
}

/// The keys of all logs, in the order of their messages.
#[derive(Debug)]
pub struct Keys {
    /// The most keys.
    most: usize,
    first: HashMap<[u8; 16], First>,
    /// All keys hold equally long, so the order of their ends is that of their beginnings.
    ends: VecDeque<(Instant, [u8; 16])>,
}

impl Default for Keys {
    fn default() -> Self {
        Keys::new(KEYS)
    }
}

/// Returns the most bytes that this number of keys takes.
pub fn bytes_of_keys(keys: usize) -> usize {
    books::map_of::<[u8; 16], First>(keys) + books::vec_of::<(Instant, [u8; 16])>(keys)
}

impl Keys {
    /// Creates an empty store of at most this many keys.
    pub fn new(most: usize) -> Self {
        Keys { most, first: HashMap::new(), ends: VecDeque::new() }
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        *self = Keys::new(self.most);
    }

    /// Returns the first message with a key. `None` if there is none.
    ///
    /// # Errors
    /// The key belongs to another message, or there is no memory for a new one.
    pub fn find(&mut self, key: &Key, now: Instant) -> Result<Option<First>, Refusal> {
        self.expire(now);
        match self.first.get(&key.digest) {
            Some(first) if first.fingerprint == key.fingerprint => Ok(Some(*first)),
            Some(_) => Err(Refusal::Conflict),
            None if self.first.len() >= self.most => Err(Refusal::TooManyKeys),
            None => Ok(None),
        }
    }

    /// Stores a key that is not known yet, and the message that came with it.
    pub fn store(&mut self, key: Key, cursor: Cursor, timestamp: f64, now: Instant) {
        self.restore(key, cursor, timestamp, now + LIFETIME);
    }

    /// Stores a key of an earlier process, which is known until `end`. The keys come in the order of their ends.
    pub fn restore(&mut self, key: Key, cursor: Cursor, timestamp: f64, end: Instant) {
        self.first.insert(key.digest, First { fingerprint: key.fingerprint, cursor, timestamp });
        self.ends.push_back((end, key.digest));
    }

    /// Removes a key whose message is not appended after all.
    pub fn forget(&mut self, key: &Key) {
        self.first.remove(&key.digest);
        if let Some(at) = self.ends.iter().rposition(|(_, digest)| *digest == key.digest) {
            self.ends.remove(at);
        }
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

    fn cursor(sequence: u64) -> Cursor {
        format!("1f0c2a9e-8b4d-8e17-8000-{sequence:012x}").parse().unwrap()
    }

    /// The epoch of a log.
    const TEA: u64 = 0x1f0_c2a9_e8b4_de17;

    fn key(key: &str, sender: &str, text: &str) -> Key {
        Key::new(TEA, key, sender, text)
    }

    /// Finds the key of a message, and stores it if it is new. Returns the sequence of the first message with the key.
    fn send(keys: &mut Keys, name: &str, text: &str, sequence: u64, now: Instant) -> Result<u64, Refusal> {
        let key = key(name, "ada", text);
        match keys.find(&key, now)? {
            Some(first) => Ok(first.cursor.sequence()),
            None => {
                keys.store(key, cursor(sequence), 0.0, now);
                Ok(sequence)
            }
        }
    }

    #[test]
    fn a_key_holds_for_exactly_five_minutes() {
        let (mut keys, start) = (Keys::default(), Instant::now());
        assert_eq!(send(&mut keys, "a", "x", 1, start), Ok(1));
        for number in 0..1000 {
            send(&mut keys, &number.to_string(), "x", 2, start + Duration::from_secs(1)).unwrap();
        }
        assert_eq!(send(&mut keys, "a", "x", 3, start + LIFETIME - Duration::from_nanos(1)), Ok(1));
        assert_eq!(send(&mut keys, "a", "x", 4, start + LIFETIME), Ok(4));
        keys.expire(start + 2 * LIFETIME);
        keys.shrink();
        assert_eq!((keys.first.len(), keys.ends.len()), (0, 0));
        assert!(keys.bytes() < 2500, "{}", keys.bytes());
    }

    #[test]
    fn a_key_belongs_to_one_log_sender_and_text() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        send(&mut keys, "a", "x", 1, now).unwrap();
        for (sender, text) in [("ada", "y"), ("bob", "x"), ("adax", ""), ("", "adax")] {
            assert_eq!(keys.find(&key("a", sender, text), now), Err(Refusal::Conflict), "{sender:?} {text:?}");
        }
        for (epoch, name) in [(TEA, "aa"), (TEA, ""), (TEA + 1, "a"), (TEA >> 8, "a")] {
            assert_eq!(keys.find(&Key::new(epoch, name, "ada", "x"), now), Ok(None), "{epoch:x} {name:?}");
        }
    }

    /// Another process must know the key: a change of the computation is a change of the format of a log.
    #[test]
    fn the_digests_of_a_key_are_the_same_in_each_process() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let key = key("1", "ada", "hello");
        assert_eq!(hex(&key.digest), "5a83da15784cc4503f00b4c7bf5e4c63");
        assert_eq!(hex(&key.fingerprint), "fbc1be3602f95d50");
    }

    #[test]
    fn a_full_store_refuses_new_keys_and_knows_the_old_ones() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        send(&mut keys, "0", "x", 0, now).unwrap();
        for number in 1..KEYS as u128 {
            keys.store(Key { digest: number.to_be_bytes(), fingerprint: [0; 8] }, cursor(1), 0.0, now);
        }
        assert_eq!(send(&mut keys, "new", "x", 9, now), Err(Refusal::TooManyKeys));
        assert!(keys.bytes() <= 64 << 20, "{}", keys.bytes());
        assert_eq!(send(&mut keys, "0", "x", 9, now), Ok(0));
        assert_eq!(send(&mut keys, "new", "x", 9, now + LIFETIME), Ok(9));
    }
}
