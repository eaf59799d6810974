//! The vocabulary of the codecs: the result of a parser ([`Parse`]), and bytes that many connections can share
//! ([`Shared`], and parts of several of them in a [`Rope`]). It knows no protocol.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// The result of a parser that looks at the front of its input. An error is a third result, the `Err` of
/// `Result<Parse<T>, _>`: "incomplete" and "wrong" are never the same value.
///
/// ```
/// use overwire::Parse;
/// use overwire::websocket::{Role, parse_header};
///
/// let frames = b"\x81\x05Hello\x81";
/// let Ok(Parse::Complete { value, used }) = parse_header(frames, Role::Server) else { panic!("a whole header") };
/// assert_eq!((value.length, used), (5, 2));
/// assert_eq!(parse_header(&frames[7..], Role::Server), Ok(Parse::Partial));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse<T> {
    /// A whole value.
    Complete {
        /// The value.
        value: T,
        /// The number of its bytes in the input. The bytes after them belong to the next value.
        used: usize,
    },
    /// Valid so far, but incomplete: parse again when more bytes have arrived.
    Partial,
}

/// The number that decimal digits stand for. `None` for anything else: an empty text, a sign, white space, or a number
/// above 2^64 - 1. (`str::parse` accepts `+5`.)
///
/// ```
/// assert_eq!(overwire::bytes::digits(b"0042"), Some(42));
/// assert_eq!(overwire::bytes::digits(b"+5"), None);
/// ```
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Writes `number` in decimal at the end of `space`, and returns the digits. It takes a tenth of the instructions of
/// `write!`, which matters where each message has several numbers.
///
/// ```
/// let mut space = [0; 20];
/// assert_eq!(overwire::bytes::decimal(1024, &mut space), b"1024");
/// ```
pub fn decimal(mut number: u64, space: &mut [u8; 20]) -> &[u8] {
    let mut start = space.len();
    loop {
        start -= 1;
        space[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &space[start..];
        }
    }
}

/// Bytes that are encoded once and queued on any number of connections. A clone copies a pointer.
///
/// ```
/// use overwire::Shared;
///
/// let shared = Shared::from(b"data: news\n\n".to_vec());
/// let clone = shared.clone();
/// assert_eq!(clone[..], *b"data: news\n\n");
/// assert_eq!(clone.as_ptr(), shared.as_ptr());
/// ```
#[derive(Clone)]
pub struct Shared(Rc<Encoded>);

thread_local! {
    /// The memory of all [`Encoded`] bytes of this thread.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

struct Encoded {
    bytes: Vec<u8>,
    /// The chunk-data, if the bytes are a chunk. An HTTP/1.0 client gets it without the chunk around it, because it
    /// must not be sent a Transfer-Encoding (RFC 9112, section 6.1).
    unframed: Range<usize>,
}

impl Drop for Encoded {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - self.bytes.capacity());
    }
}

impl Shared {
    /// Shares `bytes`. The range `unframed` is the content in them, without its transfer coding.
    pub(crate) fn framed(bytes: Vec<u8>, unframed: Range<usize>) -> Self {
        LIVE.set(LIVE.get() + bytes.capacity());
        Shared(Rc::new(Encoded { bytes, unframed }))
    }

    /// The memory of all shared bytes of this thread, in bytes. Each counts once, in however many queues it is.
    pub(crate) fn live_memory() -> usize {
        LIVE.get()
    }

    /// Returns the content without its transfer coding, for an HTTP/1.0 client: the chunk-data of a chunk, and all
    /// bytes of anything else.
    ///
    /// ```
    /// let chunk = overwire::http::chunk(b"hello");
    /// assert_eq!((&chunk[..], chunk.unframed()), (&b"5\r\nhello\r\n"[..], &b"hello"[..]));
    /// ```
    pub fn unframed(&self) -> &[u8] {
        &self.0.bytes[self.0.unframed.clone()]
    }

    /// Returns a part of the bytes, which is shared as they are.
    ///
    /// ```
    /// use overwire::Shared;
    ///
    /// let line = Shared::from(b"one two".to_vec());
    /// assert_eq!(line.slice(4..7)[..], *b"two");
    /// ```
    ///
    /// # Panics
    /// The range is not in the bytes, or lies beyond 4 GiB.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.len(), "a range in the bytes");
        let position = |index: usize| u32::try_from(index).expect("a position below 4 GiB");
        Slice { start: position(range.start), end: position(range.end), shared: self.clone() }
    }
}

impl From<Vec<u8>> for Shared {
    fn from(bytes: Vec<u8>) -> Self {
        let all = 0..bytes.len();
        Shared::framed(bytes, all)
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?})", String::from_utf8_lossy(self))
    }
}

/// A part of shared bytes. A clone copies a pointer and two positions.
///
/// ```
/// use overwire::{Shared, Slice};
///
/// let shared = Shared::from(b"[1,2,3]".to_vec());
/// assert_eq!(shared.slice(1..4)[..], *b"1,2");
/// assert_eq!(Slice::from(&shared)[..], shared[..]);
/// ```
#[derive(Clone)]
pub struct Slice {
    shared: Shared,
    start: u32,
    end: u32,
}

impl From<&Shared> for Slice {
    /// Takes all bytes.
    ///
    /// # Panics
    /// There are more than 4 GiB.
    fn from(shared: &Shared) -> Self {
        shared.slice(0..shared.len())
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shared[self.start as usize..self.end as usize]
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?})", String::from_utf8_lossy(self))
    }
}

/// Bytes in slices that lie apart in memory and are sent as one. Any number of connections can have it in their queues,
/// and nothing of it is copied. A clone copies a pointer.
///
/// ```
/// use overwire::{Rope, Shared};
///
/// let numbers = Shared::from(b"1,2,3".to_vec());
/// let brackets = Shared::from(b"[]".to_vec());
/// let list = Rope::from_iter([brackets.slice(0..1), numbers.slice(2..5), brackets.slice(1..2)]);
/// assert_eq!((list.len(), list.to_vec()), (5, b"[2,3]".to_vec()));
/// ```
#[derive(Clone, Debug)]
pub struct Rope(Rc<Joined>);

#[derive(Debug)]
struct Joined {
    slices: Vec<Slice>,
    /// The sum of their lengths.
    length: usize,
}

impl Rope {
    /// The number of bytes in all slices together.
    pub fn len(&self) -> usize {
        self.0.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices, in the order in which they are sent. None is empty.
    pub fn slices(&self) -> &[Slice] {
        &self.0.slices
    }

    /// Returns a copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.slices().iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

impl FromIterator<Slice> for Rope {
    fn from_iter<I: IntoIterator<Item = Slice>>(slices: I) -> Self {
        let slices: Vec<Slice> = slices.into_iter().filter(|slice| !slice.is_empty()).collect();
        let length = slices.iter().map(|slice| slice.len()).sum();
        Rope(Rc::new(Joined { slices, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_count_once_and_until_the_last_of_them_is_gone() {
        let before = Shared::live_memory();
        let shared = Shared::from(Vec::with_capacity(1000));
        let rope = Rope::from_iter([Slice::from(&Shared::from(vec![1; 500]))]);
        let clones = (shared.clone(), rope.clone());
        assert_eq!(Shared::live_memory() - before, 1500);
        drop((shared, rope));
        assert_eq!(Shared::live_memory() - before, 1500);
        drop(clones);
        assert_eq!(Shared::live_memory(), before);
    }
}
