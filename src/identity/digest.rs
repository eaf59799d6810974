//! Secrets of 160 random bits, and the digests by which they are known.
//!
//! The server stores the digest of a secret, never the secret: a reader of the keys file cannot use what is there.
//! SHA-1 is fast, and here that is right. A fast hash is wrong for a password: people choose passwords from a
//! few billion, and an attacker with the digests tries all of them in seconds. A slow hash with a salt makes that dear.
//! A random key of 160 bits is one of 10^48. No speed is enough to try them, so each request can afford the check. The
//! known weakness of SHA-1, two texts with one digest that an attacker makes, is of no use here: the attacker needs a
//! text for a digest that is given.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::hint::black_box;

use sha1::{Digest as _, Sha1};

use crate::random::Random;

/// The length of a secret, and of a digest, in bytes.
const LENGTH: usize = 20;

/// The number of hexadecimal digits of a digest that name it to a person.
const ID_DIGITS: usize = 8;

/// Creates a secret: 40 hexadecimal digits.
pub fn new_secret(random: &mut Random) -> String {
    hexadecimal(&random.bytes::<LENGTH>())
}

/// The SHA-1 of a secret (FIPS 180-4). Two digests are compared in constant time.
///
/// ```
/// use overwire::identity::Digest;
///
/// let digest = Digest::of("abc");
/// assert_eq!(digest.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
/// assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
/// assert_eq!(digest.id(), "a9993e36");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Digest([u8; LENGTH]);

impl Digest {
    /// Computes the digest of a secret.
    pub fn of(secret: &str) -> Self {
        Digest(Sha1::digest(secret.as_bytes()).into())
    }

    /// Parses 40 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 2 * LENGTH {
            return None;
        }
        let mut bytes = [0; LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Digest(bytes))
    }

    /// Returns its first 8 digits. They name a key to an operator.
    pub fn id(&self) -> String {
        hexadecimal(&self.0[..ID_DIGITS / 2])
    }
}

/// A comparison that stops at the first difference takes longer the more is right. So a patient guesser would find one
/// byte after the other.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (one, other)| black_box(sum | (one ^ other)));
        difference == 0
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_in_any_byte() {
        let digest = Digest::of("secret");
        assert_eq!(digest, Digest::of("secret"));
        for at in 0..LENGTH {
            let mut other = digest;
            other.0[at] ^= 1;
            assert_ne!(digest, other);
        }
    }

    #[test]
    fn only_40_hexadecimal_digits_are_a_digest() {
        let text = Digest::of("secret").to_string();
        assert_eq!(Digest::parse(&text.to_uppercase()), Digest::parse(&text));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replace(&text[..1], "g"), &format!("+{}", &text[1..])]
        {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Digest::parse(&"é".repeat(20)), None);
    }

    #[test]
    fn secrets_are_different() {
        let mut random = Random::open().unwrap();
        let (one, other) = (new_secret(&mut random), new_secret(&mut random));
        assert_eq!((one.len(), one == other), (40, false));
    }
}
