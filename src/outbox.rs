//! What waits to be written to one peer: a queue of pieces, written with as few system calls as
//! there can be, and bounded.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::bytes::Shared;

/// From how many bytes on a piece grows no more. A piece is freed when all of it is written: were
/// there one for all that is ever queued, a peer that always leaves a byte would make it endless.
const PIECE: usize = 16 * 1024;

/// How many pieces one `writev` takes at most.
const PIECES_PER_WRITE: usize = 64;

#[derive(Debug)]
enum Piece {
    /// Bytes for this peer alone. What is queued behind them is appended to them.
    Own(Vec<u8>),
    /// Bytes that wait for other peers too.
    Shared(Shared),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// The outgoing queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// How much of the first piece has been written.
    written: usize,
    /// How many bytes wait.
    length: usize,
    /// How many bytes were ever queued.
    total: u64,
}

impl Outbox {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes were ever queued.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What the queue costs in memory: its bytes, and the pieces that hold them. A limit on bytes
    /// alone would let a peer pay with a thousand tiny pieces.
    pub fn cost(&self) -> usize {
        self.length + self.pieces.len() * size_of::<Piece>()
    }

    /// Queues a reference to bytes that other peers are sent too.
    pub fn push(&mut self, bytes: &Shared) {
        if !bytes.is_empty() {
            self.count(bytes.len());
            self.pieces.push_back(Piece::Shared(bytes.clone()));
        }
    }

    /// Queues what `encode` appends.
    pub fn push_own(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.pieces.back(), Some(Piece::Own(bytes)) if bytes.len() < PIECE) {
            self.pieces.push_back(Piece::Own(Vec::new()));
        }
        let Some(Piece::Own(bytes)) = self.pieces.back_mut() else { return };
        let before = bytes.len();
        encode(bytes);
        let more = bytes.len() - before;
        self.count(more);
    }

    fn count(&mut self, more: usize) {
        self.length += more;
        self.total += more as u64;
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        *self = Outbox { total: self.total, ..Outbox::default() };
    }

    /// Writes what `sink` takes in one call, and returns how many bytes that were. A short write
    /// leaves the rest in the queue, from the very byte where the peer's share ended.
    ///
    /// # Errors
    /// What `sink` says, `WouldBlock` among it.
    pub fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            let skip = if count == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&piece.bytes()[skip..]);
            count += 1;
        }
        let written = sink.write_vectored(&slices[..count])?;
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, written: usize) {
        self.length -= written;
        self.written += written;
        while let Some(piece) = self.pieces.front()
            && self.written >= piece.bytes().len()
        {
            self.written -= piece.bytes().len();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new(); // an idle connection owns no queue
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
        let mut outbox = Outbox::default();
        outbox.push_own(|out| out.extend_from_slice(b"head "));
        outbox.push_own(|out| out.extend_from_slice(b"and "));
        outbox.push(&Shared::from(b"shared ".to_vec()));
        outbox.push(&Shared::from(Vec::new()));
        outbox.push_own(|out| out.extend_from_slice(b"own"));
        (outbox, b"head and shared own".to_vec())
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
    fn short_writes_lose_and_repeat_nothing() {
        for room in 1..20 {
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
    fn a_peer_that_always_leaves_a_byte_does_not_make_the_queue_grow() {
        let mut outbox = Outbox::default();
        let mut sink = Narrow { room: 1000, taken: Vec::new(), calls: 0 };
        outbox.push_own(|out| out.push(b'x'));
        for _ in 0..10_000 {
            outbox.push_own(|out| out.extend_from_slice(&[b'x'; 1000]));
            outbox.write_to(&mut sink).unwrap();
            sink.taken.clear();
            let held: usize = outbox.pieces.iter().map(|piece| piece.bytes().len()).sum();
            assert!(held <= PIECE + 2000, "{held}");
        }
        assert_eq!((outbox.len(), outbox.total()), (1, 10_000_001));
    }

    #[test]
    fn appending_behind_a_short_write_keeps_the_order() {
        let (mut outbox, expected) = outbox();
        let mut sink = Narrow { room: 17, taken: Vec::new(), calls: 0 };
        outbox.write_to(&mut sink).unwrap();
        outbox.push_own(|out| out.extend_from_slice(b"more"));
        outbox.write_to(&mut sink).unwrap();
        assert_eq!(sink.taken, [&expected[..], b"more"].concat());
    }
}
