//! Random bytes from the system, for masking-keys and for ids that must not be guessable.

use std::fs::File;
use std::io::{self, BufReader, Read};

/// A source of random bytes.
///
/// ```
/// let mut random = overwire::random::Random::open()?;
/// let masking_key: [u8; 4] = random.bytes();
/// assert_ne!(random.uuid(), random.uuid());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Random {
    source: BufReader<File>,
}

impl Random {
    /// Opens the system's source.
    ///
    /// # Errors
    /// The error of the system if it has no `/dev/urandom`.
    pub fn open() -> io::Result<Self> {
        Ok(Random { source: BufReader::with_capacity(512, File::open("/dev/urandom")?) })
    }

    /// Returns `N` random bytes.
    ///
    /// # Panics
    /// If the source fails, which it does not once it is open. A server with ids that can be guessed would be worse.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).expect("/dev/urandom never ends");
        bytes
    }

    /// Returns a random number.
    pub fn number(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }

    /// Returns a random UUID of version 4 (RFC 9562, section 5.4): `1b4e28ba-2fa1-4d3b-8a5e-3f6c9d0e7b21`.
    pub fn uuid(&mut self) -> String {
        let bits = u128::from_ne_bytes(self.bytes());
        let bits = bits & !(0xf << 76) | 0x4 << 76; // version
        let bits = bits & !(0b11 << 62) | 0b10 << 62; // variant
        let digits = format!("{bits:032x}");
        [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_uuid_has_version_4_and_its_variant() {
        let mut random = Random::open().unwrap();
        let (one, other) = (random.uuid(), random.uuid());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
        assert!("89ab".contains(&one[19..20]));
    }
}
