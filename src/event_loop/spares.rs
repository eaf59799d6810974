//! Emptied output buffers, lent out again.

use std::ops::RangeInclusive;

use crate::connection::Connection;
use crate::outbox::Outbox;

/// How many bytes of them are kept, and of what sizes. Small ones would not do for the next
/// answer; large ones would wait with it, beyond the limit of its outbox, if its peer is slow.
const SPARE_BYTES: usize = 4 * 1024 * 1024;
const SPARE_SIZES: RangeInclusive<usize> = 256..=64 * 1024;

/// Buffers that outboxes have emptied, for the next ones that have something to encode. A server at
/// work takes and gives back the same few again and again, warm from the last time; an idle
/// connection owns none.
#[derive(Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spares {
    /// For what a connection encodes next, if it will.
    pub fn lend(&mut self, connection: &mut Connection) {
        if connection.is_in_use() && connection.outbox().is_empty() {
            let buffer = self.buffers.pop();
            self.bytes -= buffer.as_ref().map_or(0, Vec::capacity);
            connection.outbox_mut().lend(buffer.unwrap_or_else(|| Vec::with_capacity(*SPARE_SIZES.start())));
        }
    }

    /// From an outbox that may have become empty.
    pub fn take_back(&mut self, outbox: &mut Outbox) {
        if let Some(buffer) = outbox.reclaim()
            && SPARE_SIZES.contains(&buffer.capacity())
            && self.bytes + buffer.capacity() <= SPARE_BYTES
        {
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }
}
