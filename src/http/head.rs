//! The heads of requests and responses: httparse parses them, and this module checks what httparse leaves to its caller
//! (RFC 9112, sections 2 to 6; RFC 9110, section 7.2).

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::body::{Framing, FramingFields};
use super::error::{FramingError, RequestError, ResponseError};
use super::list;
use super::request::{Method, Version};
use super::target::{check_target, is_host};
use crate::bytes::Parse;

/// The maximum number of field lines in a request head.
#[doc(alias = "header")]
pub const MAX_FIELDS: usize = 100;

/// A range of bytes in the buffer that a request owns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range of `part`, a slice of `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    pub fn get(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// A parsed and checked request head: ranges in the bytes that it was parsed from, and the facts in its fields about
/// the content and the connection. [`Request::new`](super::Request::new) joins both.
///
/// ```
/// use overwire::Parse;
/// use overwire::http::{Framing, Method, Version, parse_request_head};
///
/// let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// let Ok(Parse::Complete { value: head, used }) = parse_request_head(bytes, 8192, 8192) else { panic!() };
/// assert_eq!((head.method, head.version, used), (Method::Get, Version::Http11, bytes.len()));
/// assert_eq!((head.framing, head.persistent), (Framing::Empty, false));
/// ```
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version of the request line.
    pub version: Version,
    /// The rule that determines the length of the content.
    pub framing: Framing,
    /// Whether the client may send another request on this connection (RFC 9112, section 9.3).
    pub persistent: bool,
    /// Whether the client waits for `100 Continue` before it sends the content.
    pub expects_continue: bool,
    pub(super) target: Span,
    /// `None` in an absolute-form without a path, which means `/`.
    pub(super) path: Option<Span>,
    pub(super) query: Span,
    pub(super) fields: Vec<(Span, Span)>,
}

/// Parses a request head at the front of `bytes`. Empty lines before it are skipped (RFC 9112, section 2.2).
///
/// `max_head` bounds the head and `max_target` the request target, both in bytes.
///
/// ```
/// use overwire::Parse;
/// use overwire::http::parse_request_head;
///
/// assert!(matches!(parse_request_head(b"GET / HT", 8192, 8192), Ok(Parse::Partial)));
/// ```
///
/// # Errors
/// Any [`RequestError`] about a head, as soon as the bytes show it.
// ANCHOR: parse_head
pub fn parse_request_head(
    bytes: &[u8],
    max_head: usize,
    max_target: usize,
) -> Result<Parse<RequestHead>, RequestError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(used)) if used <= max_head => {
            let value = check_head(&parsed, bytes, max_target)?;
            return Ok(Parse::Complete { value, used });
        }
        // Half a version looks like a malformed one.
        Err(httparse::Error::Version) if !has_line(bytes) => {}
        Err(error) => return Err(explain(error, bytes)),
        Ok(_) => {}
    }
    if target_of_line(bytes).len() > max_target {
        Err(RequestError::TargetTooLong(max_target))
    } else if bytes.len() > max_head {
        Err(RequestError::HeadTooLong(max_head))
    } else {
        Ok(Parse::Partial)
    }
}
// ANCHOR_END: parse_head

/// Whether the first line has ended. Empty lines before it do not count.
fn has_line(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().contains(&b'\n')
}

/// The request target so far: the bytes after the first space of the first line.
fn target_of_line(bytes: &[u8]) -> &[u8] {
    let line = first_line(bytes);
    let target = line.iter().position(|&byte| byte == b' ').map_or(&[][..], |space| &line[space + 1..]);
    target.split(|&byte| byte == b' ').next().unwrap_or_default()
}

/// The bytes after the empty lines before a head, which a recipient skips (RFC 9112, section 2.2).
fn without_blank_lines(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..]
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let bytes = without_blank_lines(bytes);
    bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end()
}

fn explain(error: httparse::Error, bytes: &[u8]) -> RequestError {
    match error {
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        httparse::Error::NewLine => RequestError::LineEnd,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        httparse::Error::Version => explain_version(bytes),
        httparse::Error::Token | httparse::Error::Status => RequestError::RequestLine,
    }
}

/// `HTTP/` DIGIT `.` DIGIT is a version, but not one of ours (RFC 9112, section 2.3). The bytes after a second space in
/// the target are none.
fn explain_version(bytes: &[u8]) -> RequestError {
    let mut words = first_line(bytes).split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            RequestError::UnsupportedVersion
        }
        (_, None) => RequestError::MalformedVersion,
        (_, Some(_)) => RequestError::RequestLine,
    }
}

/// What the answer to a request depends on that is refused: its head may be malformed, or incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    /// The request is HEAD: its answer has no content.
    pub is_head: bool,
    /// The value of the first Origin field.
    pub origin: Option<&'a [u8]>,
    /// The empty line that ends the head is here.
    pub is_complete: bool,
}

impl<'a> Outline<'a> {
    /// Reads a head at the front of `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        let bytes = without_blank_lines(bytes);
        let mut outline = Outline { is_head: bytes.starts_with(b"HEAD "), origin: None, is_complete: false };
        for line in bytes.split_inclusive(|&byte| byte == b'\n').skip(1) {
            let line_end = line.trim_ascii_end();
            if line.ends_with(b"\n") && line_end.is_empty() {
                outline.is_complete = true;
                break;
            }
            let (name, value) = line_end.split_at(line_end.iter().position(|&byte| byte == b':').unwrap_or(0));
            if name.eq_ignore_ascii_case(b"origin") && outline.origin.is_none() && line.ends_with(b"\n") {
                outline.origin = Some(value[1..].trim_ascii());
            }
        }
        outline
    }
}

/// Checks what httparse does not check.
fn check_head(
    parsed: &httparse::Request<'_, '_>,
    bytes: &[u8],
    max_target: usize,
) -> Result<RequestHead, RequestError> {
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(RequestError::RequestLine);
    };
    if target.len() > max_target {
        return Err(RequestError::TargetTooLong(max_target));
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let method = Method::from_token(method).ok_or(RequestError::UnknownMethod)?;
    let (path, query) = check_target(method, target)?;
    let said = Said::by(parsed.headers);
    said.check_host(version)?;
    let fields = parsed.headers.iter();
    Ok(RequestHead {
        method,
        version,
        framing: said.framing(version)?,
        persistent: said.persistent(version),
        expects_continue: said.expects_continue(version)?,
        target: Span::of(target.as_bytes(), bytes),
        path: if path.is_empty() { None } else { Some(Span::of(path.as_bytes(), bytes)) },
        query: Span::of(query.as_bytes(), bytes),
        fields: fields.map(|f| (Span::of(f.name.as_bytes(), bytes), Span::of(f.value, bytes))).collect(),
    })
}

/// The facts in the fields of a request about the connection and the content, gathered in one pass.
#[derive(Default)]
struct Said<'a> {
    hosts: usize,
    host: &'a [u8],
    content: FramingFields,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
}

impl<'a> Said<'a> {
    fn by(fields: &[httparse::Header<'a>]) -> Self {
        let mut said = Said::default();
        for httparse::Header { name, value } in fields {
            if name.eq_ignore_ascii_case("host") {
                (said.hosts, said.host) = (said.hosts + 1, value);
            } else if name.eq_ignore_ascii_case("connection") {
                for option in list(value) {
                    said.close |= option.eq_ignore_ascii_case(b"close");
                    said.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("content-length") {
                said.content.add_length(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                said.content.add_encoding(value);
            } else if name.eq_ignore_ascii_case("expect") {
                for expectation in list(value) {
                    let is_known = expectation.eq_ignore_ascii_case(b"100-continue");
                    said.expects_continue |= is_known;
                    said.expects_other |= !is_known;
                }
            }
        }
        said
    }

    fn check_host(&self, version: Version) -> Result<(), RequestError> {
        match self.hosts {
            0 if version == Version::Http11 => Err(RequestError::NoHost),
            0 => Ok(()),
            1 if self.host.is_empty() || is_host(self.host) => Ok(()),
            1 => Err(RequestError::BadHost),
            _ => Err(RequestError::ManyHosts),
        }
    }

    /// A request without framing fields has no content.
    fn framing(&self, version: Version) -> Result<Framing, RequestError> {
        match self.content.framing() {
            Ok(Some(Framing::Chunked)) | Err(FramingError::TransferEncoding | FramingError::UnknownCoding)
                if version == Version::Http10 =>
            {
                Err(RequestError::EncodingInHttp10)
            }
            Ok(None | Some(Framing::Length(0))) => Ok(Framing::Empty),
            Ok(Some(framing)) => Ok(framing),
            Err(error) => Err(RequestError::Framing(error)),
        }
    }

    /// RFC 9112, section 9.3.
    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// RFC 9110, section 10.1.1. In an HTTP/1.0 request the expectation is ignored.
    fn expects_continue(&self, version: Version) -> Result<bool, RequestError> {
        match version {
            Version::Http10 => Ok(false),
            Version::Http11 if self.expects_other => Err(RequestError::Expectation),
            Version::Http11 => Ok(self.expects_continue),
        }
    }
}

/// A parsed response head, which borrows from the bytes that it was parsed from.
///
/// ```
/// use overwire::Parse;
/// use overwire::http::{Framing, parse_response_head};
///
/// let bytes = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
/// let Ok(Parse::Complete { value: head, used }) = parse_response_head(bytes, 8192) else { panic!() };
/// assert_eq!((head.status, head.framing(false)), (200, Ok(Framing::Length(2))));
/// assert_eq!((head.field("connection"), &bytes[used..]), (Some(&b"close"[..]), &b"hi"[..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The status code: three digits.
    pub status: u16,
    /// The version of the status line.
    pub version: Version,
    fields: Vec<(&'a str, Cow<'a, [u8]>)>,
}

/// Parses a response head of at most `max_head` bytes at the front of `bytes`. Empty lines before it are skipped. A
/// folded field line is one line, as for every user agent (RFC 9112, section 5.2).
///
/// # Errors
/// Any [`ResponseError`] but those of the framing, which [`ResponseHead::framing`] gives.
pub fn parse_response_head(bytes: &[u8], max_head: usize) -> Result<Parse<ResponseHead<'_>>, ResponseError> {
    let parsed = match parse_response_with(bytes, &mut [const { MaybeUninit::uninit() }; MAX_FIELDS]) {
        Err(httparse::Error::TooManyHeaders) => {
            let lines = bytes.iter().take(max_head).filter(|&&byte| byte == b'\n').count();
            parse_response_with(bytes, &mut vec![MaybeUninit::uninit(); lines])
        }
        parsed => parsed,
    };
    match parsed {
        Ok(httparse::Status::Complete((value, used))) if used <= max_head => Ok(Parse::Complete { value, used }),
        Ok(httparse::Status::Partial) if bytes.len() <= max_head => Ok(Parse::Partial),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(ResponseError::HeadTooLong(max_head)),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => Err(ResponseError::FieldLine),
        Err(_) => Err(ResponseError::StatusLine),
    }
}

/// Parses a response head with space for this number of field lines.
fn parse_response_with<'a>(
    bytes: &'a [u8],
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<httparse::Status<(ResponseHead<'a>, usize)>, httparse::Error> {
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    let httparse::Status::Complete(used) = config.parse_response_with_uninit_headers(&mut parsed, bytes, fields)?
    else {
        return Ok(httparse::Status::Partial);
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else { return Err(httparse::Error::Status) };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let fields = parsed.headers.iter().map(|field| (field.name, unfold(field.value))).collect();
    Ok(httparse::Status::Complete((ResponseHead { status, version, fields }, used)))
}

/// Replaces the line ends in a field value, and the white space around them, by a space (RFC 9112, section 5.2).
///
/// ```
/// assert_eq!(overwire::http::unfold(b"text/html;\r\n\t charset=utf-8")[..], *b"text/html; charset=utf-8");
/// ```
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return Cow::Borrowed(value);
    }
    let lines = value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    Cow::Owned(lines.collect::<Vec<_>>().join(&b' '))
}

impl ResponseHead<'_> {
    /// The value of the first field line called `name`, in any case, without the white space around it.
    #[doc(alias = "header")]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all field lines called `name`.
    #[doc(alias = "header")]
    #[doc(alias = "headers")]
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// All list elements of all fields called `name`: `Connection: keep-alive, Upgrade` gives two.
    #[doc(alias = "header")]
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(list)
    }

    /// The rule that determines the length of the content. The response to a HEAD request has no content.
    ///
    /// # Errors
    /// [`ResponseError::Framing`] if the framing fields are malformed or ambiguous.
    pub fn framing(&self, is_to_head: bool) -> Result<Framing, ResponseError> {
        if is_to_head || matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::Empty);
        }
        let mut fields = FramingFields::default();
        self.values("content-length").for_each(|value| fields.add_length(value));
        self.values("transfer-encoding").for_each(|value| fields.add_encoding(value));
        match fields.framing() {
            Ok(framing) => Ok(framing.unwrap_or(Framing::UntilClose)),
            Err(error) => Err(ResponseError::Framing(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a whole response head and checks that every shorter prefix is `Partial` or the error of the whole.
    fn parse(head: &str) -> Result<ResponseHead<'_>, ResponseError> {
        let whole = parse_response_head(head.as_bytes(), 200);
        for end in 0..head.len() {
            match parse_response_head(&head.as_bytes()[..end], 200) {
                Ok(Parse::Partial) => {}
                Err(error) => assert_eq!(Err(error), whole, "after {end} bytes"),
                complete => panic!("complete after {end} bytes: {complete:?}"),
            }
        }
        match whole? {
            Parse::Complete { value, used } if used == head.len() => Ok(value),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_outline_is_read_from_any_part_of_a_head() {
        let head = b"\r\nHEAD /#a HTTP/1.1\r\nHost : x\r\norigin:\thttp://a \r\nOrigin: http://b\r\n\r\nOrigin: c\r\n";
        let whole = Outline { is_head: true, origin: Some(b"http://a"), is_complete: true };
        assert_eq!(Outline::of(head), whole);
        for end in 0..head.len() {
            let part = Outline::of(&head[..end]);
            assert!(part.origin.is_none() || part.origin == whole.origin, "{end}: {part:?}");
            assert_eq!((part.is_head, part.is_complete), (end >= 7, end >= head.len() - 11), "{end}");
        }
        // The error is at the space, before anything says HEAD.
        assert!(!Outline::of(b" HEAD / HTTP/1.1\r\n").is_head);
        assert_eq!(Outline::of(b"POST / HTTP/1.1\n\n"), Outline { is_head: false, origin: None, is_complete: true });
    }

    #[test]
    fn response_heads_are_parsed() {
        let head = parse("\r\nHTTP/1.0 404 Not Found\r\nVia: 1.1 a, 1.1 b\r\nVIA:1.0 c\r\n\r\n").unwrap();
        assert_eq!((head.status, head.version), (404, Version::Http10));
        assert_eq!(head.elements("via").collect::<Vec<_>>(), [&b"1.1 a"[..], b"1.1 b", b"1.0 c"]);
        assert_eq!((head.field("Via"), head.field("A")), (Some(&b"1.1 a, 1.1 b"[..]), None));
    }

    #[test]
    fn malformed_response_heads_are_errors() {
        use ResponseError::*;
        for (head, error) in [
            ("HTTP/2 200 OK\r\n\r\n", StatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
            ("SSH-2.0\r\n\r\n", StatusLine),
            ("HTTP/1.1 200 OK\r\nA b\r\n\r\n", FieldLine),
            (&format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(200)), HeadTooLong(200)),
        ] {
            assert_eq!(parse_response_head(head.as_bytes(), 200), Err(error), "{head:?}");
        }
    }

    #[test]
    fn the_fields_of_a_response_are_bounded_in_bytes_alone() {
        let head = |count| format!("HTTP/1.1 200 OK\r\n{}Content-Length: 7\r\n\r\n", "A:b\r\n".repeat(count));
        for count in [MAX_FIELDS - 1, MAX_FIELDS, 1500] {
            let head = head(count);
            match parse_response_head(head.as_bytes(), 8192).unwrap() {
                Parse::Complete { value, used } => {
                    assert_eq!((value.framing(false), used), (Ok(Framing::Length(7)), head.len()))
                }
                Parse::Partial => panic!("{count}"),
            }
            assert_eq!(parse_response_head(&head.as_bytes()[..head.len() - 1], 8192), Ok(Parse::Partial), "{count}");
        }
        assert_eq!(parse_response_head(head(2000).as_bytes(), 8192), Err(ResponseError::HeadTooLong(8192)));
    }

    #[test]
    fn folded_field_lines_of_a_response_are_one_line() {
        let head = "HTTP/1.1 200 OK\r\nVia: 1.1 a,\r\n\t 1.1 b\r\nContent-Length:\r\n  5 \r\n \r\nA:b\r\n\r\n";
        let head = parse(head).unwrap();
        assert_eq!(head.field("via"), Some(&b"1.1 a, 1.1 b"[..]));
        assert_eq!((head.framing(false), head.field("A")), (Ok(Framing::Length(5)), Some(&b"b"[..])));
        // RFC 9112, section 2.2: white space before the first field line is not one.
        assert_eq!(parse("HTTP/1.1 200 OK\r\n A: b\r\n\r\n"), Err(ResponseError::FieldLine));
    }

    #[test]
    fn the_content_of_a_response_is_framed_in_one_way_only() {
        use FramingError::*;
        let framing = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            parse(&head).and_then(|head| head.framing(false))
        };
        assert_eq!(framing(""), Ok(Framing::UntilClose));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 1, 1\r\n"), Ok(Framing::Length(1)));
        assert_eq!(framing("Transfer-Encoding: CHUNKED\r\n"), Ok(Framing::Chunked));
        for (fields, error) in [
            ("Content-Length: +1\r\n", ContentLength),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", ContentLength),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", LengthAndEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", UnknownCoding),
            ("Transfer-Encoding: gzip\r\n", TransferEncoding),
        ] {
            assert_eq!(framing(fields), Err(ResponseError::Framing(error)), "{fields:?}");
        }
    }

    #[test]
    fn responses_to_head_and_some_statuses_have_no_content() {
        let framing = |status: u16, is_to_head| {
            let head = format!("HTTP/1.1 {status} A\r\nContent-Length: 5\r\n\r\n");
            parse(&head).and_then(|head| head.framing(is_to_head)).unwrap()
        };
        assert_eq!([101, 204, 304].map(|status| framing(status, false)), [Framing::Empty; 3]);
        assert_eq!((framing(200, true), framing(200, false)), (Framing::Empty, Framing::Length(5)));
    }
}
