//! Bytes that have arrived and cannot be decoded yet.

use std::mem;

/// Received bytes that wait for more bytes, or for an answer. It owns memory only while there are any.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    consumed: usize,
    /// Decoding has found out that it needs more bytes after these.
    pub starved: bool,
}

impl Backlog {
    /// A backlog of bytes that nobody has tried to decode.
    pub fn of(bytes: Vec<u8>) -> Self {
        Backlog { bytes, ..Backlog::default() }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The memory that it keeps, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes that have not been decoded.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    /// Adds all of `fresh`, and leaves nothing of it.
    pub fn append(&mut self, fresh: &mut &[u8]) {
        if !fresh.is_empty() {
            self.starved = false;
            self.bytes.drain(..mem::take(&mut self.consumed));
            self.bytes.extend_from_slice(mem::take(fresh));
        }
    }

    /// Drops all but the last `left` bytes, which have not been decoded. A few bytes do not keep the memory of many.
    pub fn leave(&mut self, left: usize) {
        self.consumed = self.bytes.len() - left;
        if left <= self.bytes.capacity() / 4 {
            *self = Backlog::of(self.rest().to_vec());
        }
    }
}
