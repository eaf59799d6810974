//! The vocabulary of the codecs: the result of a parser ([`Parse`]), and bytes that many connections can share
//! ([`Shared`]). It knows no protocol.

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

struct Encoded {
    bytes: Vec<u8>,
    /// The chunk-data, if the bytes are a chunk. An HTTP/1.0 client gets it without the chunk around it, because it
    /// must not be sent a Transfer-Encoding (RFC 9112, section 6.1).
    unframed: Range<usize>,
}

impl Shared {
    /// Shares `bytes`. The range `unframed` is the content in them, without its transfer coding.
    pub(crate) fn framed(bytes: Vec<u8>, unframed: Range<usize>) -> Self {
        Shared(Rc::new(Encoded { bytes, unframed }))
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
