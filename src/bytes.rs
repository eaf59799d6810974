//! What the codecs speak in: the answer of a parser ([`Parse`]) and bytes that many
//! connections can share ([`Shared`]). Knows nothing of any protocol.

use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// What a parser found at the front of its input. An error is a third outcome, the `Err` of
/// `Result<Parse<T>, _>`: "not all here yet" and "wrong" are never the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse<T> {
    /// A whole value, and how many bytes of the input it took.
    Complete {
        /// What was parsed.
        value: T,
        /// How many bytes of the input belong to it; the rest belongs to whatever comes next.
        used: usize,
    },
    /// Valid so far, but not all here. Never an error, and never the end of the input.
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

/// Bytes encoded once and queued on any number of connections: a clone copies a pointer.
#[derive(Clone)]
pub struct Shared(Rc<Encoded>);

/// A chunk of a chunked answer remembers which of its bytes are the chunk-data, because an
/// HTTP/1.0 client has to be sent these bytes without the chunk around them
/// (RFC 9112, section 6.1: no `Transfer-Encoding` to a 1.0 client).
struct Encoded {
    bytes: Vec<u8>,
    unframed: Range<usize>,
}

impl Shared {
    /// Shares `bytes`, of which the range `unframed` is the content without its transfer coding.
    pub(crate) fn framed(bytes: Vec<u8>, unframed: Range<usize>) -> Self {
        Shared(Rc::new(Encoded { bytes, unframed }))
    }

    /// The same content without its transfer coding, for an HTTP/1.0 client: a chunk's chunk-data.
    pub fn unframed(&self) -> &[u8] {
        &self.0.bytes[self.0.unframed.clone()]
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
