//! What waits to be written to one peer: a queue of pieces, written with as few system calls as
//! there can be, and bounded.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;

use crate::bytes::Shared;

/// From how many bytes on a piece grows no more. A piece is freed when all of it is written: were
/// there one for all that is ever queued, a peer that always leaves a byte would make it endless.
const PIECE: usize = 16 * 1024;

/// Up to how many bytes are copied behind what waits already. A reference to them would be a piece
/// of its own, in the queue and in the system call.
const SMALL: usize = 128;

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
    const NONE: Piece = Piece::Own(Vec::new());

    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// The pieces behind the first.
#[derive(Debug, Default)]
struct Behind(VecDeque<Piece>);

/// The outgoing queue of one connection.
///
/// Most of the time there is nothing in it, or one piece: an answer, a frame that everyone gets. So
/// the first piece has its place here, and the queue behind it is made only when there is a second.
#[derive(Debug)]
pub struct Outbox {
    first: Piece,
    behind: Option<Box<Behind>>,
    /// How much of the first piece has been written.
    written: usize,
    /// How many bytes wait.
    length: usize,
    /// How many bytes were ever queued.
    total: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { first: Piece::NONE, behind: None, written: 0, length: 0, total: 0 }
    }
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

    /// What the queue costs in memory: its bytes, and the places of all pieces but the first, which is
    /// always there. A limit on bytes alone would let a peer pay with a thousand tiny pieces.
    pub fn cost(&self) -> usize {
        self.length + self.behind.as_ref().map_or(0, |behind| behind.0.len() * size_of::<Piece>())
    }

    /// Queues bytes that other peers are sent too: by reference, unless they are so few that a
    /// copy behind what waits already is cheaper.
    pub fn push(&mut self, bytes: &Shared) {
        if bytes.is_empty() {
            return;
        }
        if self.is_empty() {
            self.first = Piece::Shared(bytes.clone());
        } else if bytes.len() <= SMALL {
            return self.push_own(|out| out.extend_from_slice(bytes));
        } else {
            self.behind().push_back(Piece::Shared(bytes.clone()));
        }
        self.count(bytes.len());
    }

    /// Queues what `encode` appends.
    pub fn push_own(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let out = self.own_piece();
        let before = out.len();
        encode(out);
        let more = out.len() - before;
        self.count(more);
    }

    /// Queues bytes of this peer's own that are too many to be copied.
    pub fn push_piece(&mut self, bytes: Vec<u8>) {
        let length = bytes.len();
        if self.is_empty() {
            self.first = Piece::Own(bytes);
        } else {
            self.behind().push_back(Piece::Own(bytes));
        }
        self.count(length);
    }

    /// The piece that bytes of this peer's own are appended to: the last one, or a new one.
    fn own_piece(&mut self) -> &mut Vec<u8> {
        let last = self.behind.as_ref().and_then(|behind| behind.0.back()).unwrap_or(&self.first);
        if !matches!(last, Piece::Own(bytes) if bytes.len() < PIECE) {
            self.behind().push_back(Piece::NONE);
        }
        // Looked up again, because a borrow cannot be returned from one branch only.
        match self.behind.as_mut().and_then(|behind| behind.0.back_mut()).unwrap_or(&mut self.first) {
            Piece::Own(bytes) => bytes,
            Piece::Shared(_) => unreachable!("a piece that is not an own one has just got one behind it"),
        }
    }

    fn behind(&mut self) -> &mut VecDeque<Piece> {
        &mut self.behind.get_or_insert_default().0
    }

    fn count(&mut self, more: usize) {
        self.length += more;
        self.total += more as u64;
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        *self = Outbox { total: self.total, ..Outbox::default() };
    }

    /// Gives an empty outbox a buffer, so that what is encoded next needs no memory of its own.
    pub fn lend(&mut self, buffer: Vec<u8>) {
        if self.is_empty() {
            self.first = Piece::Own(buffer);
        }
    }

    /// Takes the buffer of an outbox that has become empty: an idle connection owns none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        match &mut self.first {
            Piece::Own(buffer) if self.length == 0 && buffer.capacity() > 0 => Some(mem::take(buffer)),
            _ => None,
        }
    }

    /// Writes what `sink` takes in one call, and returns how many bytes that were. A short write
    /// leaves the rest in the queue, from the very byte where the peer's share ended.
    ///
    /// # Errors
    /// What `sink` says, `WouldBlock` among it.
    pub fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let first = &self.first.bytes()[self.written..];
        let written = match &self.behind {
            None => sink.write(first)?,
            Some(behind) => {
                let mut slices = [IoSlice::new(first); PIECES_PER_WRITE];
                let behind = behind.0.iter().take(PIECES_PER_WRITE - 1);
                let count = 1 + behind.len();
                for (slice, piece) in slices[1..].iter_mut().zip(behind) {
                    *slice = IoSlice::new(piece.bytes());
                }
                sink.write_vectored(&slices[..count])?
            }
        };
        self.advance(written);
        Ok(written)
    }

    fn advance(&mut self, written: usize) {
        self.length -= written;
        self.written += written;
        while self.written >= self.first.bytes().len()
            && let Some(next) = self.behind.as_mut().and_then(|behind| behind.0.pop_front())
        {
            self.written -= self.first.bytes().len();
            self.first = next;
        }
        if self.behind.as_ref().is_some_and(|behind| behind.0.is_empty()) {
            self.behind = None;
        }
        if self.length == 0 {
            self.written = 0;
            match &mut self.first {
                Piece::Own(buffer) => buffer.clear(),
                shared => *shared = Piece::NONE,
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
    fn what_goes_to_many_is_referred_to_and_not_copied() {
        let (mut outbox, shared) = (Outbox::default(), Shared::from(b"few".to_vec()));
        outbox.push(&shared);
        assert!(matches!(&outbox.first, Piece::Shared(bytes) if bytes.as_ptr() == shared.as_ptr()));
        outbox.push(&shared);
        let pieces: Vec<&Piece> = outbox.behind.iter().flat_map(|behind| &behind.0).collect();
        assert!(matches!(pieces[..], [Piece::Own(copy)] if copy == b"few"), "{pieces:?}");
        outbox.push(&Shared::from(vec![0; SMALL + 1]));
        assert!(matches!(outbox.behind.unwrap().0.back(), Some(Piece::Shared(_))));
    }

    #[test]
    fn a_lent_buffer_comes_back_when_all_is_written() {
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
    fn a_peer_that_always_leaves_a_byte_does_not_make_the_queue_grow() {
        let mut outbox = Outbox::default();
        let mut sink = Narrow { room: 1000, taken: Vec::new(), calls: 0 };
        outbox.push_own(|out| out.push(b'x'));
        for _ in 0..10_000 {
            outbox.push_own(|out| out.extend_from_slice(&[b'x'; 1000]));
            outbox.write_to(&mut sink).unwrap();
            sink.taken.clear();
            let rest = outbox.behind.iter().flat_map(|behind| &behind.0);
            let held: usize = rest.chain([&outbox.first]).map(|piece| piece.bytes().len()).sum();
            assert!(held <= PIECE + 2000, "{held}");
        }
        assert_eq!((outbox.len(), outbox.total()), (1, 10_000_001));
    }

    #[test]
    fn appending_behind_a_short_write_keeps_the_order() {
        let (mut outbox, expected) = outbox();
        let mut sink = Narrow { room: 145, taken: Vec::new(), calls: 0 };
        outbox.write_to(&mut sink).unwrap();
        outbox.push_own(|out| out.extend_from_slice(b"more"));
        outbox.write_to(&mut sink).unwrap();
        assert_eq!(sink.taken, [&expected[..], b"more"].concat());
    }
}
