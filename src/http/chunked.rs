//! The chunked transfer coding, both ways (RFC 9112, section 7.1).

use std::io::Write;

use super::ChunkError;
use crate::bytes::Shared;

/// The end of a chunked message: the last-chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The longest chunk-size line, extensions included, and the longest trailer field line, in bytes.
const MAX_LINE: usize = 1024;

/// The longest trailer section in bytes.
const MAX_TRAILERS: usize = 8 * 1024;

/// The bytes of framing that a message may have beyond those that its content excuses. Without this bound, one-byte
/// chunks with long extensions keep a server busy with reading.
const FRAMING_ALLOWANCE: usize = 16 * 1024;

/// Encodes `data` as one chunk: its size in hex, CRLF, the data, CRLF.
///
/// An empty `data` gives no bytes: a chunk of size 0 would be the last-chunk and end the message.
///
/// ```
/// assert_eq!(&overwire::http::chunk(b"hello, world")[..], b"c\r\nhello, world\r\n");
/// ```
// ANCHOR: chunk
pub fn chunk(data: &[u8]) -> Shared {
    if data.is_empty() {
        return Shared::from(Vec::new());
    }
    let mut bytes = Vec::with_capacity(data.len() + 20); // 16 digits and two CRLF
    write!(bytes, "{:x}\r\n", data.len()).expect("a Vec takes everything");
    let start = bytes.len();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    Shared::framed(bytes, start..start + data.len())
}
// ANCHOR_END: chunk

/// Appends the framing before the data of a chunk that is not empty. The data is queued elsewhere, and [`CHUNK_END`]
/// after it.
pub(crate) fn begin_chunk(length: usize, out: &mut Vec<u8>) {
    write!(out, "{length:x}\r\n").expect("a Vec takes everything");
}

/// The end of each chunk but the last.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// An element of the chunked coding.
///
/// ```
/// use overwire::http::{ChunkedDecoder, Element};
///
/// let mut decoder = ChunkedDecoder::default();
/// decoder.decode(b"5\r\nhel", &mut Vec::new(), 100)?;
/// assert_eq!(decoder.expects(), Element::Data(2));
/// # Ok::<(), overwire::http::ChunkError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// ANCHOR: element
pub enum Element {
    /// A chunk-size line. The line of size 0 is the last-chunk: a trailer line follows it.
    Size,
    /// `n` more bytes of chunk-data.
    Data(u64),
    /// The CRLF after the chunk-data.
    DataEnd,
    /// A trailer field line, or the empty line that ends the message.
    Trailer,
    /// Nothing: the message is complete.
    Nothing,
}
// ANCHOR_END: element

/// Decodes chunked content as it arrives, cut anywhere.
///
/// ```
/// use overwire::http::ChunkedDecoder;
///
/// let (mut decoder, mut content) = (ChunkedDecoder::default(), Vec::new());
/// assert_eq!(decoder.decode(b"5\r\nhello\r\n0\r", &mut content, 100), Ok(10));
/// assert_eq!(decoder.decode(b"0\r\n\r\nGET", &mut content, 100), Ok(5));
/// assert!(decoder.is_done() && content == b"hello");
/// ```
#[derive(Debug)]
pub struct ChunkedDecoder {
    expect: Element,
    framing: usize,
    trailers: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder { expect: Element::Size, framing: 0, trailers: 0 }
    }
}

impl ChunkedDecoder {
    /// Whether the last-chunk and the trailer section are decoded.
    pub fn is_done(&self) -> bool {
        matches!(self.expect, Element::Nothing)
    }

    /// Decodes the front of `input`, appends the chunk-data to `content` and returns the number of bytes taken. The
    /// rest is an incomplete line, to be passed again with the bytes after it. Once the decoder [is
    /// done](Self::is_done), the rest follows the message. Trailer fields are checked and dropped.
    ///
    /// # Errors
    /// [`ChunkError::TooLong`] if `content` would become longer than `limit` bytes by a chunk-size, before the data is
    /// taken. The other errors if the framing is malformed.
    pub fn decode(&mut self, input: &[u8], content: &mut Vec<u8>, limit: usize) -> Result<usize, ChunkError> {
        let mut used = 0;
        while let Some(taken) = self.step(&input[used..], content, limit)? {
            used += taken;
        }
        Ok(used)
    }

    /// The element that is decoded next.
    pub fn expects(&self) -> Element {
        self.expect
    }

    /// Decodes one element of the coding, or all available chunk-data, and returns the number of bytes taken. Returns
    /// `None` if the element is incomplete. [`decode`](Self::decode) calls this in a loop.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn step(&mut self, input: &[u8], content: &mut Vec<u8>, limit: usize) -> Result<Option<usize>, ChunkError> {
        match self.expect {
            Element::Size => self.size_line(input, limit.saturating_sub(content.len())),
            Element::Data(left) => {
                let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                content.extend_from_slice(&input[..taken]);
                let left = left - taken as u64;
                self.expect = if left == 0 { Element::DataEnd } else { Element::Data(left) };
                Ok((taken > 0).then_some(taken))
            }
            Element::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.expect = Element::Size;
                    Ok(Some(2))
                }
                [] | [b'\r'] => Ok(None),
                _ => Err(ChunkError::DataNotEnded),
            },
            Element::Trailer => self.trailer_line(input),
            Element::Nothing => Ok(None),
        }
    }

    /// `chunk-size [ chunk-ext ] CRLF`. Digits are hex digits only: httparse refuses `+5`, `0x5` and `5_0`, the
    /// standard library does not.
    fn size_line(&mut self, input: &[u8], room: usize) -> Result<Option<usize>, ChunkError> {
        let line = &input[..input.len().min(MAX_LINE)];
        let (used, size) = match httparse::parse_chunk_size(line) {
            Ok(httparse::Status::Complete(parsed)) => parsed,
            Ok(httparse::Status::Partial) if line.len() == MAX_LINE => return Err(ChunkError::LineTooLong),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ChunkError::Size),
        };
        // httparse accepts a line without a digit as size 0, and does not check the extension: a lone LF in it may end
        // the line for a proxy before us.
        let (before_end, is_control) = (&input[..used - 2], |byte: &u8| byte.is_ascii_control() && *byte != b'\t');
        if !input[0].is_ascii_hexdigit() || before_end.iter().any(is_control) {
            return Err(ChunkError::Size);
        }
        if size > room as u64 {
            return Err(ChunkError::TooLong);
        }
        self.framing += used + 2;
        let excused = size.saturating_mul(2);
        let allowance = excused.saturating_add(FRAMING_ALLOWANCE as u64);
        if self.framing as u64 > allowance {
            return Err(ChunkError::TooMuchFraming);
        }
        // Data excuses framing: about two bytes of framing for each byte of content.
        self.framing = self.framing.saturating_sub(usize::try_from(excused).unwrap_or(usize::MAX));
        self.expect = if size == 0 { Element::Trailer } else { Element::Data(size) };
        Ok(Some(used))
    }

    /// Takes one line of the trailer section. An empty line ends the message.
    fn trailer_line(&mut self, input: &[u8]) -> Result<Option<usize>, ChunkError> {
        let line = &input[..input.len().min(MAX_LINE)];
        let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
            return if line.len() == MAX_LINE { Err(ChunkError::LineTooLong) } else { Ok(None) };
        };
        let field = line[..end].strip_suffix(b"\r").ok_or(ChunkError::Trailer)?;
        self.trailers += end + 1;
        if self.trailers > MAX_TRAILERS {
            return Err(ChunkError::Trailer);
        }
        if field.is_empty() {
            self.expect = Element::Nothing;
        } else {
            check_trailer(&line[..=end])?;
        }
        Ok(Some(end + 1))
    }
}

/// A trailer field line has the syntax of any field line, so the same parser checks it.
fn check_trailer(line: &[u8]) -> Result<(), ChunkError> {
    let mut fields = [httparse::EMPTY_HEADER; 1];
    let whole = [line, b"\r\n"].concat();
    match httparse::parse_headers(&whole, &mut fields) {
        Ok(httparse::Status::Complete((_, [_]))) => Ok(()),
        _ => Err(ChunkError::Trailer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` whole and in small pieces, with the same result. Returns the content, the rest of the input, and
    /// whether the message is complete.
    fn decode(input: &[u8]) -> Result<(Vec<u8>, Vec<u8>, bool), ChunkError> {
        let whole = decode_in_pieces(input, input.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(decode_in_pieces(input, size), whole, "in pieces of {size}");
        }
        whole
    }

    fn decode_in_pieces(input: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>, bool), ChunkError> {
        let (mut decoder, mut content, mut pending) = (ChunkedDecoder::default(), Vec::new(), Vec::new());
        for piece in input.chunks(size) {
            pending.extend_from_slice(piece);
            let used = decoder.decode(&pending, &mut content, 100)?;
            pending.drain(..used);
        }
        Ok((content, pending, decoder.is_done()))
    }

    #[test]
    fn chunks_are_joined_and_the_rest_is_not_taken() {
        let (content, rest, done) = decode(b"5\r\nhello\r\n7;ext=\"x\"\r\n, world\r\n0\r\n\r\nGET").unwrap();
        assert_eq!((&content[..], &rest[..], done), (&b"hello, world"[..], &b"GET"[..], true));
    }

    #[test]
    fn trailers_are_checked_and_dropped() {
        let (content, rest, done) = decode(b"0\r\nChecksum: abc\r\nB: c\r\n\r\n").unwrap();
        assert_eq!((content.len(), rest.len(), done), (0, 0, true));
        assert_eq!(decode(b"0\r\nBad Name: x\r\n\r\n"), Err(ChunkError::Trailer));
        assert_eq!(decode(b"0\r\n folded\r\n\r\n"), Err(ChunkError::Trailer));
    }

    #[test]
    fn a_chunk_size_is_hex_digits_only() {
        for size in ["+5", "-5", "0x5", "5_0", " 5", "g", "", "fffffffffffffffff", "5;a\n", "5;\0", "5\n"] {
            let input = format!("{size}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(decode(input.as_bytes()), Err(ChunkError::Size), "{size:?}");
        }
    }

    #[test]
    fn data_longer_than_its_chunk_size_is_an_error() {
        assert_eq!(decode(b"3\r\nhello\r\n"), Err(ChunkError::DataNotEnded));
        assert_eq!(decode(b"5\r\nhello\n0\r\n\r\n"), Err(ChunkError::DataNotEnded));
    }

    #[test]
    fn the_limit_is_checked_against_the_chunk_size() {
        assert_eq!(decode(b"65\r\n"), Err(ChunkError::TooLong));
        assert_eq!(decode(b"ffffffffffffffff\r\n"), Err(ChunkError::TooLong));
        let two = format!("40\r\n{0}\r\n40\r\n{0}\r\n", "x".repeat(64));
        assert_eq!(decode(two.as_bytes()), Err(ChunkError::TooLong));
    }

    #[test]
    fn chunks_of_any_size_are_accepted_without_a_limit() {
        let (mut decoder, mut content) = (ChunkedDecoder::default(), Vec::new());
        assert_eq!(decoder.step(b"ffffffffffffffff\r\nx", &mut content, usize::MAX), Ok(Some(18)));
        assert_eq!(decoder.expects(), Element::Data(u64::MAX));
    }

    #[test]
    fn endless_framing_is_an_error() {
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(900));
        assert_eq!(decode(extension.repeat(30).as_bytes()), Err(ChunkError::TooMuchFraming));
        assert_eq!(decode("1".repeat(15).as_bytes()).unwrap().1.len(), 15);
        assert_eq!(decode(format!("1;{}", "e".repeat(2000)).as_bytes()), Err(ChunkError::LineTooLong));
        assert_eq!(decode(format!("0\r\n{}", "A: b\r\n".repeat(2000)).as_bytes()), Err(ChunkError::Trailer));
    }

    #[test]
    fn encoded_chunks_are_decoded_to_their_data() {
        let mut bytes = chunk(b"hello").to_vec();
        bytes.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&bytes).unwrap().0, b"hello");
        assert_eq!(chunk(b"hello").unframed(), b"hello");
        assert!(chunk(b"").is_empty());
    }
}
