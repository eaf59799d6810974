//! The errors of requests and responses, as tables: a row has the status code, the section and the sentence.

use std::borrow::Cow;
use std::fmt;

use super::MAX_FIELDS;

/// A sentence without its full stop.
type Sentence = Cow<'static, str>;

/// A violation in a request, a bound that a request exceeds, or another reason to refuse it before it is complete. It ends the connection: after most of them it is
/// unknown where the next request begins.
///
/// ```
/// use overwire::http::{RequestError, parse_request_head};
///
/// let error = parse_request_head(b"GET / HTTP/1.1\r\n\r\n", 8192, 8192).unwrap_err();
/// assert_eq!((error, error.status()), (RequestError::NoHost, 400));
/// assert_eq!(error.section(), "RFC 9112, section 3.2");
/// assert_eq!(error.to_string(), "there is no Host field: HTTP/1.1 requires one");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// The first line is not a request line.
    RequestLine,
    /// The target has none of the forms that an origin server accepts.
    Target,
    /// The target is longer than this many bytes.
    TargetTooLong(usize),
    /// The method is none of [`Method`](super::Method).
    UnknownMethod,
    /// The last word of the request line is not a version.
    MalformedVersion,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
    /// A field name is not a token, or a field line is folded.
    #[doc(alias = "header")]
    FieldName,
    /// A field value has control characters.
    #[doc(alias = "header")]
    FieldValue,
    /// A line end is not CR LF.
    LineEnd,
    /// The head is longer than this many bytes.
    HeadTooLong(usize),
    /// The head has more than [`MAX_FIELDS`] field lines.
    #[doc(alias = "header")]
    TooManyFields,
    /// An HTTP/1.1 request has no Host field.
    NoHost,
    /// The head has more than one Host field.
    ManyHosts,
    /// The Host field is not a host with an optional port.
    BadHost,
    /// The length of the content is malformed or ambiguous.
    Framing(FramingError),
    /// An HTTP/1.0 request has a Transfer-Encoding.
    EncodingInHttp10,
    /// The expectation is not `100-continue`.
    Expectation,
    /// The content is longer than this many bytes.
    ContentTooLong(usize),
    /// The chunked coding is malformed.
    Chunk(ChunkError),
    /// The head did not arrive in time.
    HeadTimeout,
    /// The content did not arrive in time.
    ContentTimeout,
    /// The client shut the connection down before the request was complete.
    EndedEarly,
    /// The server shuts down, and the request is not complete.
    GoingAway,
}

impl RequestError {
    /// The status code of the response.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// The section that the request violates, or that defines the status code.
    pub fn section(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str, Sentence) {
        use RequestError::*;
        let (status, section, sentence) = match self {
            RequestLine => {
                (400, "RFC 9112, section 3", "the request line is malformed: expected `METHOD target HTTP/1.1`")
            }
            Target => (
                400,
                "RFC 9112, section 3.2",
                "the request target is malformed: expected a path that begins with `/`, an http URI, or `*` with \
                 OPTIONS, percent-encoded UTF-8",
            ),
            UnknownMethod => (
                501,
                "RFC 9110, section 9.1",
                "the method is unknown: expected GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE or PATCH, in capitals",
            ),
            MalformedVersion => {
                (400, "RFC 9112, section 2.3", "the version is malformed: expected `HTTP/1.1` or `HTTP/1.0`")
            }
            UnsupportedVersion => {
                (505, "RFC 9110, section 15.6.6", "the version is not supported: expected HTTP/1.1 or HTTP/1.0")
            }
            FieldName => (
                400,
                "RFC 9112, section 5.1",
                "a field name is malformed: expected a token directly followed by a colon, and no folded lines",
            ),
            FieldValue => (
                400,
                "RFC 9110, section 5.5",
                "a field value is malformed: expected visible characters, spaces and tabs",
            ),
            LineEnd => (400, "RFC 9112, section 2.2", "a line end is malformed: expected CR LF"),
            NoHost => (400, "RFC 9112, section 3.2", "there is no Host field: HTTP/1.1 requires one"),
            ManyHosts => (400, "RFC 9112, section 3.2", "there is more than one Host field: expected exactly one"),
            BadHost => (
                400,
                "RFC 9112, section 3.2",
                "the Host field is malformed: expected a host, optionally a colon and a port",
            ),
            EncodingInHttp10 => (
                400,
                "RFC 9112, section 6.1",
                "there is a Transfer-Encoding in an HTTP/1.0 request: expected Content-Length",
            ),
            Expectation => (417, "RFC 9110, section 10.1.1", "the expectation is not known: expected `100-continue`"),
            HeadTimeout => (408, "RFC 9110, section 15.5.9", "the request head did not arrive in time"),
            ContentTimeout => (408, "RFC 9110, section 15.5.9", "the content did not arrive in time"),
            EndedEarly => (400, "RFC 9112, section 8", "the connection was shut before the request was complete"),
            GoingAway => (503, "RFC 9110, section 15.6.4", "the server is going away"),
            TargetTooLong(limit) => {
                let sentence = format!("the request target is longer than {limit} bytes");
                return (414, "RFC 9110, section 15.5.15", sentence.into());
            }
            HeadTooLong(limit) => {
                let sentence = format!("the request head is longer than {limit} bytes");
                return (431, "RFC 6585, section 5", sentence.into());
            }
            TooManyFields => {
                let sentence = format!("the request head has more than {MAX_FIELDS} field lines");
                return (431, "RFC 6585, section 5", sentence.into());
            }
            ContentTooLong(limit) => {
                let sentence = format!("the content is longer than {limit} bytes");
                return (413, "RFC 9110, section 15.5.14", sentence.into());
            }
            Framing(error) => error.row(),
            Chunk(error) => error.row(),
        };
        (status, section, sentence.into())
    }
}

/// A violation in a response.
///
/// ```
/// use overwire::http::{ResponseError, parse_response_head};
///
/// let error = parse_response_head(b"HTTP/2 200\r\n\r\n", 8192).unwrap_err();
/// assert_eq!((error, error.section()), (ResponseError::StatusLine, "RFC 9112, section 4"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    /// The first line is not a status line.
    StatusLine,
    /// A field line is malformed.
    #[doc(alias = "header")]
    FieldLine,
    /// The head is longer than this many bytes.
    HeadTooLong(usize),
    /// The length of the content is malformed or ambiguous.
    Framing(FramingError),
}

impl ResponseError {
    /// The section that the response violates.
    pub fn section(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, Sentence) {
        let (section, sentence) = match self {
            ResponseError::StatusLine => (
                "RFC 9112, section 4",
                "the status line is malformed: expected `HTTP/1.1`, a status code of three digits, CRLF",
            ),
            ResponseError::FieldLine => {
                ("RFC 9112, section 5", "a field line is malformed: expected a name, a colon, a value, CRLF")
            }
            ResponseError::HeadTooLong(limit) => {
                return ("RFC 9110, section 5.4", format!("the head is longer than {limit} bytes").into());
            }
            ResponseError::Framing(error) => (error.section(), error.row().2),
        };
        (section, sentence.into())
    }
}

/// A malformed or ambiguous length of content.
///
/// ```
/// use overwire::http::FramingError;
///
/// assert_eq!(FramingError::ContentLength.section(), "RFC 9110, section 8.6");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// Content-Length is not one decimal number.
    ContentLength,
    /// Both Content-Length and Transfer-Encoding are there.
    LengthAndEncoding,
    /// The last transfer coding is not `chunked`, or `chunked` is applied twice: the end of the content is unknown.
    TransferEncoding,
    /// There are other transfer codings before `chunked`.
    UnknownCoding,
}

impl FramingError {
    /// The section that the message violates, or that defines the status code.
    pub fn section(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            FramingError::ContentLength => {
                (400, "RFC 9110, section 8.6", "Content-Length is malformed: expected one decimal number")
            }
            FramingError::LengthAndEncoding => (
                400,
                "RFC 9112, section 6.3",
                "both Content-Length and Transfer-Encoding are there: expected one of them",
            ),
            FramingError::TransferEncoding => {
                (400, "RFC 9112, section 6.3", "the Transfer-Encoding is malformed: expected exactly `chunked`")
            }
            FramingError::UnknownCoding => {
                (501, "RFC 9112, section 6.1", "a transfer coding is not known: expected exactly `chunked`")
            }
        }
    }
}

/// A violation in chunked content, or a bound that it exceeds.
///
/// ```
/// use overwire::http::{ChunkError, ChunkedDecoder};
///
/// let error = ChunkedDecoder::default().decode(b"x\r\n", &mut Vec::new(), 100).unwrap_err();
/// assert_eq!((error, error.section()), (ChunkError::Size, "RFC 9112, section 7.1"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The chunk-size is not 1 to 16 hex digits, or its extension has control characters.
    Size,
    /// A chunk-size line or a trailer field line is longer than 1,024 bytes.
    LineTooLong,
    /// The bytes after the chunk-data are not CRLF.
    DataNotEnded,
    /// The trailer section is malformed or longer than 8 KiB.
    Trailer,
    /// The framing is far longer than the content in it.
    TooMuchFraming,
    /// The content is longer than the limit.
    TooLong,
}

impl ChunkError {
    /// The section that the content violates, or that defines the status code.
    pub fn section(self) -> &'static str {
        self.row().1
    }

    pub(super) fn row(self) -> (u16, &'static str, &'static str) {
        const CHUNKED: &str = "RFC 9112, section 7.1";
        match self {
            ChunkError::Size => {
                (400, CHUNKED, "the chunk-size is not 1 to 16 hex digits, then at most an extension, then CRLF")
            }
            ChunkError::LineTooLong => (400, CHUNKED, "a line of the chunked coding is longer than 1024 bytes"),
            ChunkError::DataNotEnded => (400, CHUNKED, "the chunk-data is not followed by CRLF"),
            ChunkError::Trailer => (400, CHUNKED, "the trailer section is malformed or longer than 8192 bytes"),
            ChunkError::TooMuchFraming => (400, CHUNKED, "the chunks are too small for the framing around them"),
            ChunkError::TooLong => (413, "RFC 9110, section 15.5.14", "the content is longer than the limit"),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().2)
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().1)
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

impl std::error::Error for RequestError {}
impl std::error::Error for ResponseError {}
impl std::error::Error for FramingError {}
impl std::error::Error for ChunkError {}
