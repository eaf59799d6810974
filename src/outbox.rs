//! The outgoing queue of one connection: a list of segments that is written with as few system calls as there can be.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;

use crate::bytes::{Rope, Shared, Slice};

/// The number of bytes from which on nothing is appended to a segment. A segment is freed when all of it is written. If
/// there were only one for everything, a peer that always leaves a byte unread would make it grow forever.
const SEGMENT: usize = 16 * 1024;

/// The largest number of shared bytes that are copied when something is queued already. A reference to them would take
/// a separate place in the queue and in the system call.
const SMALL: usize = 128;

/// The largest number of segments of one `writev`, if they are few and if they are many: a replay has a segment for
/// each of its blocks. The list of them is on the stack and is filled each time, so a few do not pay for many. Linux
/// takes 1,024.
const FEW_PER_WRITE: usize = 16;
const MANY_PER_WRITE: usize = 256;

#[derive(Debug)]
enum Segment {
    /// Bytes for this peer alone. Bytes that are queued after them are appended to them.
    Own(Vec<u8>),
    /// Bytes that are queued for other peers too.
    Shared(Shared),
    /// A part of such bytes.
    Slice(Slice),
}

impl Segment {
    const NONE: Segment = Segment::Own(Vec::new());

    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Own(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
            Segment::Slice(bytes) => bytes,
        }
    }

    /// The memory that it alone keeps, in bytes.
    fn memory(&self) -> usize {
        match self {
            Segment::Own(bytes) => bytes.capacity(),
            Segment::Shared(_) | Segment::Slice(_) => 0,
        }
    }
}

/// The segments after the first. There is always one.
#[derive(Debug, Default)]
struct Rest {
    segments: VecDeque<Segment>,
    /// The sum of the memory that they alone keep.
    memory: usize,
}

impl Rest {
    /// Writes `first` and up to `MOST - 1` of these segments after it in one call.
    fn write_after<const MOST: usize>(&self, first: &[u8], sink: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(first); MOST];
        let others = self.segments.iter().take(MOST - 1);
        let count = 1 + others.len();
        for (slice, segment) in slices[1..].iter_mut().zip(others) {
            *slice = IoSlice::new(segment.bytes());
        }
        sink.write_vectored(&slices[..count])
    }
}

/// The outgoing queue of one connection.
///
/// Most of the time it holds nothing, or one segment: an answer, or a frame that everyone gets. So the first segment
/// has its place here, and a queue for the rest is made only when there is a second one.
#[derive(Debug)]
pub struct Outbox {
    first: Segment,
    rest: Option<Box<Rest>>,
    /// The number of bytes of the first segment that have been written.
    written: usize,
    /// The number of queued bytes.
    length: usize,
    /// The number of bytes that were ever queued.
    total: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { first: Segment::NONE, rest: None, written: 0, length: 0, total: 0 }
    }
}

impl Outbox {
    /// The number of queued bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The number of bytes that were ever queued.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What the queue counts for the limit of its peer, in bytes: its content, also what is shared, and the places of
    /// all segments but the first, which is always there. A limit on the content alone would allow any number of tiny
    /// segments.
    pub fn cost(&self) -> usize {
        self.length + self.rest.as_ref().map_or(0, |rest| rest.segments.len() * size_of::<Segment>())
    }

    /// The memory that this queue alone keeps, in bytes: the buffers of its own bytes, and the places of segments.
    pub fn memory(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.memory + rest.segments.capacity() * size_of::<Segment>());
        self.first.memory() + rest
    }

    /// Queues bytes that other peers are sent too: by reference, or as a copy where that is cheaper.
    pub fn push(&mut self, bytes: &Shared) {
        if bytes.is_empty() {
            return;
        }
        if !self.is_empty() && bytes.len() <= SMALL {
            return self.push_own(|out| out.extend_from_slice(bytes));
        }
        self.append(Segment::Shared(bytes.clone()), bytes.len());
    }

    /// Queues a rope: each of its slices by reference, however small.
    pub fn push_rope(&mut self, rope: &Rope) {
        for slice in rope.slices() {
            self.append(Segment::Slice(slice.clone()), slice.len());
        }
    }

    /// Queues the bytes that `encode` appends.
    pub fn push_own(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let out = self.own_segment();
        let (length, memory) = (out.len(), out.capacity());
        encode(out);
        let (more, grown) = (out.len() - length, out.capacity() - memory);
        if let Some(rest) = &mut self.rest {
            rest.memory += grown; // the last segment is one of these
        }
        self.count(more);
    }

    /// Queues bytes for this peer alone without copying them.
    pub fn push_segment(&mut self, bytes: Vec<u8>) {
        let length = bytes.len();
        self.append(Segment::Own(bytes), length);
    }

    /// Queues a segment of this length.
    #[inline]
    fn append(&mut self, segment: Segment, length: usize) {
        if self.is_empty() {
            self.first = segment;
        } else {
            self.push_rest(segment);
        }
        self.count(length);
    }

    /// The segment to which bytes for this peer alone are appended: the last one, or a new one.
    fn own_segment(&mut self) -> &mut Vec<u8> {
        let last = self.rest.as_ref().and_then(|rest| rest.segments.back()).unwrap_or(&self.first);
        if !matches!(last, Segment::Own(bytes) if bytes.len() < SEGMENT) {
            self.push_rest(Segment::NONE);
        }
        // Looked up again, because a borrow cannot be returned from one branch only.
        match self.rest.as_mut().and_then(|rest| rest.segments.back_mut()).unwrap_or(&mut self.first) {
            Segment::Own(bytes) => bytes,
            Segment::Shared(_) | Segment::Slice(_) => unreachable!("a shared segment has just got an own one after it"),
        }
    }

    fn push_rest(&mut self, segment: Segment) {
        let rest = self.rest.get_or_insert_default();
        rest.memory += segment.memory();
        rest.segments.push_back(segment);
    }

    fn count(&mut self, more: usize) {
        self.length += more;
        self.total += more as u64;
    }

    /// Drops everything that is queued.
    pub fn clear(&mut self) {
        *self = Outbox { total: self.total, ..Outbox::default() };
    }

    /// Gives an empty outbox a buffer, so that the next bytes that are encoded need no new memory.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.is_empty() {
            self.first = Segment::Own(buffer);
        }
    }

    /// Takes the buffer of an outbox that is empty: an idle connection owns none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        match &mut self.first {
            Segment::Own(buffer) if self.length == 0 && buffer.capacity() > 0 => Some(mem::take(buffer)),
            _ => None,
        }
    }

    /// Writes what `sink` takes in one call, and returns the number of bytes. A short write leaves the other bytes in
    /// the queue.
    ///
    /// # Errors
    /// Those of `sink`, `WouldBlock` among them.
    pub fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let first = &self.first.bytes()[self.written..];
        let written = match &self.rest {
            None => sink.write(first)?,
            Some(rest) if rest.segments.len() < FEW_PER_WRITE => rest.write_after::<FEW_PER_WRITE>(first, sink)?,
            Some(rest) => rest.write_after::<MANY_PER_WRITE>(first, sink)?,
        };
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, written: usize) {
        self.length -= written;
        self.written += written;
        while self.written >= self.first.bytes().len()
            && let Some(rest) = &mut self.rest
            && let Some(next) = rest.segments.pop_front()
        {
            rest.memory -= next.memory();
            self.written -= self.first.bytes().len();
            self.first = next;
        }
        if self.rest.as_ref().is_some_and(|rest| rest.segments.is_empty()) {
            self.rest = None;
        }
        if self.length == 0 {
            self.written = 0;
            match &mut self.first {
                Segment::Own(buffer) => buffer.clear(),
                shared => *shared = Segment::NONE,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket whose buffer has room for `room` bytes a call.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = all.len().min(self.room);
            self.taken.extend_from_slice(&all[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outbox() -> (Outbox, Vec<u8>) {
        let (mut outbox, large) = (Outbox::default(), [b'x'; SMALL + 1]);
        outbox.push_own(|out| out.extend_from_slice(b"head "));
        outbox.push_own(|out| out.extend_from_slice(b"and "));
        outbox.push(&Shared::from(large.to_vec()));
        outbox.push(&Shared::from(Vec::new()));
        outbox.push(&Shared::from(b" shared ".to_vec()));
        outbox.push_own(|out| out.extend_from_slice(b"own"));
        (outbox, [b"head and ", &large[..], b" shared own"].concat())
    }

    #[test]
    fn a_burst_is_one_write() {
        let (mut outbox, expected) = outbox();
        let mut sink = Narrow { room: usize::MAX, taken: Vec::new(), calls: 0 };
        assert_eq!(outbox.len(), expected.len());
        assert_eq!(outbox.write_to(&mut sink).unwrap(), expected.len());
        assert_eq!((sink.taken, sink.calls, outbox.is_empty()), (expected, 1, true));
    }

    #[test]
    fn large_shared_bytes_are_not_copied() {
        let (mut outbox, shared) = (Outbox::default(), Shared::from(b"few".to_vec()));
        outbox.push(&shared);
        assert!(matches!(&outbox.first, Segment::Shared(bytes) if bytes.as_ptr() == shared.as_ptr()));
        outbox.push(&shared);
        let segments: Vec<&Segment> = outbox.rest.iter().flat_map(|rest| &rest.segments).collect();
        assert!(matches!(segments[..], [Segment::Own(copy)] if copy == b"few"), "{segments:?}");
        outbox.push(&Shared::from(vec![0; SMALL + 1]));
        assert!(matches!(outbox.rest.unwrap().segments.back(), Some(Segment::Shared(_))));
    }

    /// Seven slices of one `Shared` between own bytes, and the bytes that they are.
    fn outbox_with_rope() -> (Outbox, Vec<u8>) {
        let (mut outbox, digits) = (Outbox::default(), Shared::from(b"0123456789".to_vec()));
        let rope = Rope::from_iter((0..7).map(|start| digits.slice(start..start + start % 4)));
        outbox.push_own(|out| out.extend_from_slice(b"head "));
        outbox.push_rope(&rope);
        outbox.push_own(|out| out.extend_from_slice(b" tail"));
        outbox.push_rope(&rope);
        let content = rope.to_vec();
        (outbox, [b"head ", &content[..], b" tail", &content[..]].concat())
    }

    #[test]
    fn ropes_are_queued_by_reference() {
        let (mut outbox, shared) = (Outbox::default(), Shared::from(b"few bytes".to_vec()));
        let rope = Rope::from_iter([shared.slice(0..3), shared.slice(4..4), shared.slice(4..9)]);
        outbox.push_rope(&Rope::from_iter([]));
        assert_eq!((outbox.len(), outbox.total()), (0, 0));
        outbox.push_rope(&rope);
        outbox.push_rope(&rope);
        let segments = outbox.rest.iter().flat_map(|rest| &rest.segments).chain([&outbox.first]);
        assert!(segments.into_iter().all(|segment| shared.as_ptr_range().contains(&segment.bytes().as_ptr())));
        assert_eq!((outbox.len(), outbox.total()), (16, 16));
        assert_eq!(outbox.cost(), 16 + 3 * size_of::<Segment>());
        assert_eq!(size_of::<Segment>(), 24);
    }

    #[test]
    fn ropes_and_own_bytes_keep_their_order() {
        for room in 1..60 {
            let (mut outbox, expected) = outbox_with_rope();
            assert_eq!(outbox.len(), expected.len());
            let mut sink = Narrow { room, taken: Vec::new(), calls: 0 };
            while !outbox.is_empty() {
                outbox.write_to(&mut sink).unwrap();
            }
            assert_eq!((sink.taken, sink.calls), (expected.clone(), expected.len().div_ceil(room)), "room {room}");
            assert_eq!((outbox.cost(), outbox.written, outbox.total()), (0, 0, expected.len() as u64));
        }
    }

    /// The memory of a queue, summed over its segments.
    fn memory_of(outbox: &Outbox) -> usize {
        let rest = outbox.rest.iter().flat_map(|rest| &rest.segments);
        let places = outbox.rest.as_ref().map_or(0, |rest| rest.segments.capacity() * size_of::<Segment>());
        rest.chain([&outbox.first]).map(Segment::memory).sum::<usize>() + places
    }

    #[test]
    fn memory_is_that_of_own_bytes_and_of_places() {
        for room in [999, 5000, usize::MAX] {
            let (mut outbox, _) = outbox_with_rope();
            outbox.push_segment(Vec::from([b'x'; 1000]));
            for _ in 0..40 {
                outbox.push_own(|out| out.extend_from_slice(&[b'y'; 1000]));
                assert_eq!(outbox.memory(), memory_of(&outbox));
            }
            assert!(outbox.memory() >= 41_000);
            let mut sink = Narrow { room, taken: Vec::new(), calls: 0 };
            while !outbox.is_empty() {
                outbox.write_to(&mut sink).unwrap();
                assert_eq!(outbox.memory(), memory_of(&outbox));
            }
            outbox.reclaim();
            assert_eq!(outbox.memory(), 0);
        }
        let (mut outbox, large) = (Outbox::default(), Shared::from(vec![b'z'; 100_000]));
        outbox.push(&large);
        outbox.push_rope(&Rope::from_iter([large.slice(0..50_000), large.slice(0..50_000)]));
        assert!(outbox.memory() <= 8 * size_of::<Segment>(), "shared bytes are not its own");
    }

    #[test]
    fn rope_of_many_slices_takes_few_writes() {
        for (slices, calls) in [(1, 1), (15, 1), (16, 1), (17, 1), (255, 1), (256, 1), (257, 2), (1000, 4)] {
            let (mut outbox, byte) = (Outbox::default(), Shared::from(b"x".to_vec()));
            outbox.push_rope(&Rope::from_iter((0..slices).map(|_| Slice::from(&byte))));
            let mut sink = Narrow { room: usize::MAX, taken: Vec::new(), calls: 0 };
            while !outbox.is_empty() {
                outbox.write_to(&mut sink).unwrap();
            }
            assert_eq!((sink.taken.len(), sink.calls), (slices, calls));
        }
    }

    #[test]
    fn a_lent_buffer_is_returned_when_all_is_written() {
        let mut outbox = Outbox::default();
        outbox.lend(Vec::with_capacity(100));
        outbox.push_own(|out| out.extend_from_slice(b"own"));
        assert_eq!(outbox.reclaim(), None);
        outbox.write_to(&mut Vec::new()).unwrap();
        assert!(outbox.reclaim().is_some_and(|buffer| buffer.is_empty() && buffer.capacity() == 100));
        assert_eq!(outbox.reclaim(), None);
    }

    #[test]
    fn short_writes_lose_and_repeat_nothing() {
        for room in 1..200 {
            let (mut outbox, expected) = outbox();
            let mut sink = Narrow { room, taken: Vec::new(), calls: 0 };
            while !outbox.is_empty() {
                outbox.write_to(&mut sink).unwrap();
            }
            assert_eq!((sink.taken, sink.calls), (expected.clone(), expected.len().div_ceil(room)), "room {room}");
            assert_eq!((outbox.cost(), outbox.written), (0, 0));
        }
    }

    #[test]
    fn the_queue_stays_small_when_one_byte_is_always_left() {
        let mut outbox = Outbox::default();
        let mut sink = Narrow { room: 1000, taken: Vec::new(), calls: 0 };
        outbox.push_own(|out| out.push(b'x'));
        for _ in 0..10_000 {
            outbox.push_own(|out| out.extend_from_slice(&[b'x'; 1000]));
            outbox.write_to(&mut sink).unwrap();
            sink.taken.clear();
            let rest = outbox.rest.iter().flat_map(|rest| &rest.segments);
            let held: usize = rest.chain([&outbox.first]).map(|segment| segment.bytes().len()).sum();
            assert!(held <= SEGMENT + 2000, "{held}");
        }
        assert_eq!((outbox.len(), outbox.total()), (1, 10_000_001));
    }

    #[test]
    fn appending_after_a_short_write_keeps_the_order() {
        let (mut outbox, expected) = outbox();
        let mut sink = Narrow { room: 145, taken: Vec::new(), calls: 0 };
        outbox.write_to(&mut sink).unwrap();
        outbox.push_own(|out| out.extend_from_slice(b"more"));
        outbox.write_to(&mut sink).unwrap();
        assert_eq!(sink.taken, [&expected[..], b"more"].concat());
    }
}
