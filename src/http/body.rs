//! The rules for the length of a message's content (RFC 9112, section 6.3).

use super::error::{ChunkError, FramingError};
use super::{ChunkedDecoder, is_token};
use crate::bytes::digits;

/// The rule that determines the length of a message's content (RFC 9112, section 6.3).
///
/// ```
/// use overwire::Parse;
/// use overwire::http::{Framing, parse_request_head};
///
/// let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
/// let Ok(Parse::Complete { value: head, .. }) = parse_request_head(head, 8192, 8192) else { panic!() };
/// assert_eq!(head.framing, Framing::Length(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no content: a request without framing fields, a response to HEAD, or one with the status 1xx, 204 or
    /// 304.
    Empty,
    /// `Content-Length`: `n` bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`: the last-chunk.
    Chunked,
    /// The end of the connection: responses to an HTTP/1.0 client.
    UntilClose,
}

/// The framing fields of a head, gathered in one pass.
#[derive(Debug, Default)]
pub(super) struct FramingFields {
    codings: Codings,
    length: Option<u64>,
    bad_length: bool,
}

/// The transfer codings of a message, of all its field lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    None,
    Chunked,
    /// Others. A chunked coding may follow.
    Others,
    OthersThenChunked,
    /// A coding after the chunked one, or something that is not a coding.
    Wrong,
}

impl Codings {
    fn and(self, coding: &[u8]) -> Self {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        match self {
            _ if !is_token(name) => Codings::Wrong,
            Codings::None if is_chunked => Codings::Chunked,
            Codings::Others if is_chunked => Codings::OthersThenChunked,
            Codings::None | Codings::Others => Codings::Others,
            Codings::Chunked | Codings::OthersThenChunked | Codings::Wrong => Codings::Wrong,
        }
    }
}

impl FramingFields {
    /// All values of Content-Length fields must agree, and so must the elements of a list of them.
    pub fn add_length(&mut self, value: &[u8]) {
        for element in value.split(|&byte| byte == b',') {
            let length = digits(element.trim_ascii());
            self.bad_length |= length.is_none() || self.length.is_some_and(|other| Some(other) != length);
            self.length = length;
        }
    }

    pub fn add_encoding(&mut self, value: &[u8]) {
        let codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        self.codings = codings.fold(self.codings, Codings::and);
    }

    // ANCHOR: framing
    /// RFC 9112, section 6.3. A message that could be framed in two ways is refused: the next hop may have chosen the
    /// other one, and one of us would take content for a request.
    pub fn framing(&self) -> Result<Option<Framing>, FramingError> {
        match (self.codings, self.length) {
            _ if self.bad_length => Err(FramingError::ContentLength),
            (Codings::None, length) => Ok(length.map(Framing::Length)),
            (_, Some(_)) => Err(FramingError::LengthAndEncoding),
            (Codings::Chunked, None) => Ok(Some(Framing::Chunked)),
            (Codings::OthersThenChunked, None) => Err(FramingError::UnknownCoding),
            (Codings::Others | Codings::Wrong, None) => Err(FramingError::TransferEncoding),
        }
    }
    // ANCHOR_END: framing
}

/// Decodes the content of one message as it arrives, cut anywhere.
///
/// ```
/// use overwire::http::{ContentDecoder, Framing};
///
/// let (mut decoder, mut content) = (ContentDecoder::new(Framing::Length(2)), Vec::new());
/// assert_eq!(decoder.decode(b"hiHTTP/1.1", &mut content, 100), Ok(2));
/// assert!(decoder.is_done() && content == b"hi");
/// ```
#[derive(Debug)]
pub struct ContentDecoder(Remaining);

#[derive(Debug)]
enum Remaining {
    Bytes(u64),
    Chunks(ChunkedDecoder),
    All,
}

impl ContentDecoder {
    /// A decoder of content with this framing.
    pub fn new(framing: Framing) -> Self {
        ContentDecoder(match framing {
            Framing::Empty => Remaining::Bytes(0),
            Framing::Length(length) => Remaining::Bytes(length),
            Framing::Chunked => Remaining::Chunks(ChunkedDecoder::default()),
            Framing::UntilClose => Remaining::All,
        })
    }

    /// Whether all content is decoded. Never true for [`Framing::UntilClose`].
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Remaining::Bytes(left) => *left == 0,
            Remaining::Chunks(decoder) => decoder.is_done(),
            Remaining::All => false,
        }
    }

    /// Decodes the front of `input`, appends the data to `content` and returns the number of bytes taken. The rest is
    /// an incomplete line of the chunked coding, to be passed again with the bytes after it, or follows the message.
    ///
    /// # Errors
    /// [`ChunkError::TooLong`] if `content` would become longer than `limit` bytes, before the data is taken. The other
    /// errors are those of the chunked coding.
    pub fn decode(&mut self, input: &[u8], content: &mut Vec<u8>, limit: usize) -> Result<usize, ChunkError> {
        let room = limit.saturating_sub(content.len()) as u64;
        let taken = match &mut self.0 {
            Remaining::Chunks(decoder) => return decoder.decode(input, content, limit),
            Remaining::Bytes(left) if *left > room => return Err(ChunkError::TooLong),
            Remaining::Bytes(left) => {
                let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                taken
            }
            Remaining::All if input.len() as u64 > room => return Err(ChunkError::TooLong),
            Remaining::All => input.len(),
        };
        content.extend_from_slice(&input[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ends_by_its_framing() {
        let decode = |framing, limit| {
            let (mut decoder, mut content) = (ContentDecoder::new(framing), b"head".to_vec());
            let used = decoder.decode(b"3\r\nabc\r\n0\r\n\r\nrest", &mut content, limit)?;
            Ok((used, String::from_utf8_lossy(&content[4..]).into_owned(), decoder.is_done()))
        };
        assert_eq!(decode(Framing::Empty, 4), Ok((0, String::new(), true)));
        assert_eq!(decode(Framing::Length(4), 8), Ok((4, "3\r\na".to_owned(), true)));
        assert_eq!(decode(Framing::Length(90), 100), Ok((17, "3\r\nabc\r\n0\r\n\r\nrest".to_owned(), false)));
        assert_eq!(decode(Framing::Chunked, 7), Ok((13, "abc".to_owned(), true)));
        assert_eq!(decode(Framing::UntilClose, 21), Ok((17, "3\r\nabc\r\n0\r\n\r\nrest".to_owned(), false)));
        for (framing, limit) in
            [(Framing::Length(4), 7), (Framing::Length(u64::MAX), 7), (Framing::Chunked, 6), (Framing::UntilClose, 20)]
        {
            assert_eq!(decode(framing, limit), Err(ChunkError::TooLong), "{framing:?}");
        }
    }
}
