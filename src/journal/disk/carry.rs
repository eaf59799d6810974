//! The live records of the oldest segment, read in slices.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::index::Index;
use super::record::Damage;
use super::recovery::Segment;
use super::segment::Records;

/// The position in the oldest segment.
#[derive(Debug)]
pub(super) struct Carry {
    file: File,
    segment: Segment,
    offset: u64,
    buffer: Vec<u8>,
}

impl Carry {
    /// Begins at the front of a segment.
    pub fn begin(path: &Path, segment: Segment) -> io::Result<Self> {
        Ok(Carry { file: File::open(path)?, segment, offset: 0, buffer: Vec::new() })
    }

    /// Looks at the next records, about `budget` bytes of them, and appends those that are live to `out`. Returns
    /// whether there are no others.
    ///
    /// # Errors
    /// The error of the system, or `InvalidData` for a damaged record.
    pub fn next(&mut self, budget: usize, index: &Index, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut budget = budget as u64;
        loop {
            let length = budget.min(self.segment.length - self.offset);
            self.buffer.resize(length as usize, 0);
            self.file.read_exact_at(&mut self.buffer, self.offset)?;
            let mut records = Records::new(&self.buffer, self.segment.number, self.offset);
            for next in records.by_ref() {
                match next {
                    Ok((place, record)) => {
                        if let Some(record) = index.carried(&record, place) {
                            record.encode(out);
                        }
                    }
                    Err(Damage::CutOff) if self.offset + length < self.segment.length => break,
                    Err(damage) => return Err(io::Error::new(io::ErrorKind::InvalidData, damage)),
                }
            }
            let used = records.used() as u64;
            self.offset += used;
            if used > 0 || length == 0 {
                return Ok(self.offset == self.segment.length);
            }
            budget *= 2; // the next record is longer
        }
    }
}
