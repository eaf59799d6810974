//! One segment: its bytes as records, and the place of damage.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::index::Place;
use super::record::{Damage, HEADER, MAGIC, Record};
use crate::bytes::Parse;

/// The record that says that everything before it is on the disk. No other record contains these bytes, because none has
/// a line end within it.
const SYNCED: &[u8] = b"00000006 c1d6b085 synced\n";

/// The most bytes of a first record.
const LONGEST_FIRST: u64 = 128;

/// The records in bytes of a segment. It ends after the first damage.
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    segment: u32,
    /// The offset of the bytes in the segment.
    base: u64,
    at: usize,
    is_over: bool,
}

impl<'a> Records<'a> {
    /// Reads records from `bytes`, which lie at the offset `base` of a segment.
    pub fn new(bytes: &'a [u8], segment: u32, base: u64) -> Self {
        Records { bytes, segment, base, at: 0, is_over: false }
    }

    /// Returns the number of bytes of the records that were read.
    pub fn used(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Place, Record<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.at == self.bytes.len() {
            return None;
        }
        let damage = match Record::decode(&self.bytes[self.at..]) {
            Ok(Parse::Complete { value, used }) => {
                let offset = (self.base + self.at as u64) as u32;
                self.at += used;
                return Some(Ok((Place { segment: self.segment, offset, length: used as u32 }, value)));
            }
            Ok(Parse::Partial) => Damage::CutOff,
            Err(damage) => damage,
        };
        self.is_over = true;
        Some(Err(damage))
    }
}

/// Whether everything until some place after this offset was on the disk once. Damage at the offset is no torn write
/// then.
pub(super) fn is_synced_after(bytes: &[u8], offset: usize) -> bool {
    bytes[offset..].windows(SYNCED.len()).any(|window| window == SYNCED)
}

/// Reads the first `length` bytes of a segment, or all of them.
pub(super) fn read(path: &Path, length: Option<u64>, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    File::open(path)?.take(length.unwrap_or(u64::MAX)).read_to_end(buffer)?;
    Ok(())
}

/// Reads the first record of a segment. Returns the length of the segment before it, or `None` for anything else than
/// the first record of the segment with this number.
pub(super) fn read_first(path: &Path, number: u32) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_FIRST).read_to_end(&mut bytes)?;
    Ok(match Record::decode(&bytes) {
        Ok(Parse::Complete { value: Record::Segment { number: found, previous }, .. }) if found == number => {
            Some(previous)
        }
        _ => None,
    })
}

/// Whether the beginning of a file is that of a segment of another version.
pub(super) fn is_of_another_version(bytes: &[u8]) -> bool {
    let version = bytes.get(HEADER..).and_then(|payload| payload.strip_prefix(MAGIC.as_bytes()));
    version.is_some_and(|rest| rest.starts_with(b" ") && !rest.starts_with(b" 1 "))
}
