//! Emptied output buffers, lent out again.

use std::ops::RangeInclusive;

use crate::connection::Connection;
use crate::outbox::Outbox;

/// The number of bytes that are kept in all, and the sizes of the buffers. Smaller ones would not do for the next
/// answer. Larger ones would wait with it, beyond the limit of its outbox, if its peer is slow.
const SPARE_BYTES: usize = 4 * 1024 * 1024;
const SPARE_SIZES: RangeInclusive<usize> = 256..=64 * 1024;

/// Buffers that outboxes have emptied, for the next ones that encode something. A busy server takes and gives back the
/// same few again and again, warm from the last time. An idle connection owns none.
#[derive(Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spares {
    /// Lends a buffer to a connection that is about to encode something.
    pub fn lend(&mut self, connection: &mut Connection) {
        if connection.is_held() && connection.queued() == 0 {
            let buffer = self.buffers.pop();
            self.bytes -= buffer.as_ref().map_or(0, Vec::capacity);
            connection.outbox_mut().lend(buffer.unwrap_or_else(|| Vec::with_capacity(*SPARE_SIZES.start())));
        }
    }

    /// Takes the buffer of an outbox that may have become empty.
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
