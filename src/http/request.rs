//! Requests: the head is parsed by httparse and then held to the rules that httparse leaves to
//! its caller (RFC 9112, sections 2 to 6; RFC 9110, sections 7.2 and 9.1).

use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

use super::chunked::ChunkError;
use super::list;
use super::target::{decode_component, query_pairs, query_value, split_at_byte};
use crate::bytes::Parse;

/// How many field lines a request head may have.
pub const MAX_FIELDS: usize = 100;

/// A request method (RFC 9110, section 9; PATCH: RFC 5789). CONNECT is left out: this is no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
}

impl Method {
    const ALL: [Method; 8] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Options,
        Method::Trace,
        Method::Patch,
    ];

    /// The method's token. Methods are case-sensitive (RFC 9110, section 9.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
        }
    }

    fn from_token(token: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == token)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTTP versions that this library speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Version {
    /// HTTP/1.0: one request a connection unless it asks for more; no chunks.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of a request's content is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no content.
    Empty,
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// What is wrong with a request: the status to answer with, a sentence that says what was wrong and
/// what was expected, and the section that says so. All of them end the connection: after most of
/// them nobody knows where the next request begins, and a peer that gets the others wrong is better
/// met anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequestError {
    RequestLine,
    Target,
    TargetTooLong(usize),
    UnknownMethod,
    MalformedVersion,
    UnsupportedVersion,
    FieldName,
    FieldValue,
    LineEnd,
    HeadTooLong(usize),
    TooManyFields,
    NoHost,
    ManyHosts,
    BadHost,
    ContentLength,
    LengthAndEncoding,
    TransferEncoding,
    EncodingInHttp10,
    Expectation,
    ContentTooLong(usize),
    Chunk(ChunkError),
    HeadTimeout,
    ContentTimeout,
    EndedEarly,
}

impl RequestError {
    /// The status code of the answer.
    pub fn status(self) -> u16 {
        use RequestError::*;
        match self {
            RequestLine | Target | MalformedVersion | FieldName | FieldValue | LineEnd | NoHost | ManyHosts
            | BadHost | ContentLength | LengthAndEncoding | TransferEncoding | EncodingInHttp10 | EndedEarly => 400,
            Chunk(ChunkError::TooLong) | ContentTooLong(_) => 413,
            Chunk(_) => 400,
            HeadTimeout | ContentTimeout => 408,
            TargetTooLong(_) => 414,
            Expectation => 417,
            HeadTooLong(_) | TooManyFields => 431,
            UnknownMethod => 501,
            UnsupportedVersion => 505,
        }
    }

    /// The section that the request violates, or that defines the answer.
    pub fn section(self) -> &'static str {
        use RequestError::*;
        match self {
            RequestLine => "RFC 9112, section 3",
            Target => "RFC 9112, section 3.2",
            TargetTooLong(_) => "RFC 9110, section 15.5.15",
            UnknownMethod => "RFC 9110, section 9.1",
            MalformedVersion => "RFC 9112, section 2.3",
            UnsupportedVersion => "RFC 9110, section 15.6.6",
            FieldName => "RFC 9112, section 5.1",
            FieldValue => "RFC 9110, section 5.5",
            LineEnd => "RFC 9112, section 2.2",
            HeadTooLong(_) | TooManyFields => "RFC 6585, section 5",
            NoHost | ManyHosts | BadHost => "RFC 9112, section 3.2",
            ContentLength => "RFC 9110, section 8.6",
            LengthAndEncoding | TransferEncoding | EncodingInHttp10 => "RFC 9112, section 6.1",
            Expectation => "RFC 9110, section 10.1.1",
            ContentTooLong(_) | Chunk(ChunkError::TooLong) => "RFC 9110, section 15.5.14",
            Chunk(_) => "RFC 9112, section 7.1",
            HeadTimeout | ContentTimeout => "RFC 9110, section 15.5.9",
            EndedEarly => "RFC 9112, section 8",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use RequestError::*;
        let sentence = match self {
            RequestLine => "the request line is malformed: expected `METHOD target HTTP/1.1`",
            Target => {
                "the request target is malformed: expected a path that begins with `/`, an http URI, or `*` with OPTIONS, percent-encoded UTF-8"
            }
            TargetTooLong(limit) => return write!(f, "the request target is longer than {limit} bytes"),
            UnknownMethod => {
                "the method is unknown: expected GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE or PATCH, in capitals"
            }
            MalformedVersion => "the version is malformed: expected `HTTP/1.1` or `HTTP/1.0`",
            UnsupportedVersion => "the version is not supported: expected HTTP/1.1 or HTTP/1.0",
            FieldName => {
                "a field name is malformed: expected a token directly followed by a colon, and no folded lines"
            }
            FieldValue => "a field value is malformed: expected visible characters, spaces and tabs",
            LineEnd => "a line end is malformed: expected CR LF",
            HeadTooLong(limit) => return write!(f, "the request head is longer than {limit} bytes"),
            TooManyFields => return write!(f, "the request head has more than {MAX_FIELDS} field lines"),
            NoHost => "there is no Host field: HTTP/1.1 requires one",
            ManyHosts => "there is more than one Host field: expected exactly one",
            BadHost => "the Host field is malformed: expected a host, optionally a colon and a port",
            ContentLength => "Content-Length is malformed: expected one decimal number",
            LengthAndEncoding => "both Content-Length and Transfer-Encoding are there: expected one of them",
            TransferEncoding => "the Transfer-Encoding is not known: expected exactly `chunked`",
            EncodingInHttp10 => "there is a Transfer-Encoding in an HTTP/1.0 request: expected Content-Length",
            Expectation => "the expectation is not known: expected `100-continue`",
            ContentTooLong(limit) => return write!(f, "the content is longer than {limit} bytes"),
            Chunk(error) => return error.fmt(f),
            HeadTimeout => "the request head did not arrive in time",
            ContentTimeout => "the content did not arrive in time",
            EndedEarly => "the connection was shut before the request was complete",
        };
        f.write_str(sentence)
    }
}

impl std::error::Error for RequestError {}

/// A range of bytes in the buffer that a request owns.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        debug_assert!(start + part.len() <= whole.len());
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    fn get(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

/// The interim response that has a client send its content (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A parsed and checked request head: ranges into the bytes that it was parsed from, and what
/// the fields say about framing and about the connection.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The version of the request line.
    pub version: Version,
    /// How the end of the content is told.
    pub framing: Framing,
    /// Whether the client wants to send another request on this connection
    /// (RFC 9112, section 9.3).
    pub persistent: bool,
    /// Whether the client waits for `100 Continue` before it sends the content. Of a whole request:
    /// whether it was told so.
    pub expects_continue: bool,
    target: Span,
    /// `None` in an absolute-form that has no path: then it is `/`.
    path: Option<Span>,
    query: Span,
    fields: Vec<(Span, Span)>,
}

/// Parses a request head at the front of `bytes`; empty lines before it are skipped
/// (RFC 9112, section 2.2).
///
/// `max_head` bounds the head and `max_target` the request target, both in bytes.
///
/// # Errors
/// Any [`RequestError`] about a head, as soon as the bytes that are there show it.
// ANCHOR: parse_head
pub fn parse_head(bytes: &[u8], max_head: usize, max_target: usize) -> Result<Parse<Head>, RequestError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(used)) if used <= max_head => {
            let value = check_head(&parsed, bytes, max_target)?;
            return Ok(Parse::Complete { value, used });
        }
        // Half a version cannot be told from a malformed one.
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

/// Whether the first line has ended; empty lines before it do not count.
fn has_line(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().contains(&b'\n')
}

/// The request target as far as it is there: what follows the first space of the first line.
fn target_of_line(bytes: &[u8]) -> &[u8] {
    let line = first_line(bytes);
    let target = line.iter().position(|&byte| byte == b' ').map_or(&[][..], |space| &line[space + 1..]);
    target.split(|&byte| byte == b' ').next().unwrap_or_default()
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()..];
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

/// `HTTP/` DIGIT `.` DIGIT is a version, if one that we do not speak (RFC 9112, section 2.3). What
/// stands behind a second space in the target is none.
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

/// Everything that httparse does not check.
fn check_head(parsed: &httparse::Request<'_, '_>, bytes: &[u8], max_target: usize) -> Result<Head, RequestError> {
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
    Ok(Head {
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

/// What the fields say about the connection and the content, gathered in one pass.
#[derive(Default)]
struct Said<'a> {
    hosts: usize,
    host: &'a [u8],
    encodings: usize,
    encoding: &'a [u8],
    length: Option<u64>,
    bad_length: bool,
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
                said.note_length(value);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                (said.encodings, said.encoding) = (said.encodings + 1, value);
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

    /// All Content-Length fields and list elements must agree.
    fn note_length(&mut self, value: &[u8]) {
        for element in value.split(|&byte| byte == b',') {
            let length = decimal(element.trim_ascii());
            self.bad_length |= length.is_none() || self.length.is_some_and(|other| Some(other) != length);
            self.length = length;
        }
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

    // ANCHOR: framing
    /// RFC 9112, section 6.3. A request that could be framed in two ways is refused: the next hop
    /// may have chosen the other one, and one of us would take content for a request.
    fn framing(&self, version: Version) -> Result<Framing, RequestError> {
        match (self.encodings, self.length) {
            _ if self.bad_length => Err(RequestError::ContentLength),
            (0, None | Some(0)) => Ok(Framing::Empty),
            (0, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(RequestError::LengthAndEncoding),
            _ if version == Version::Http10 => Err(RequestError::EncodingInHttp10),
            (1, None) if self.encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            _ => Err(RequestError::TransferEncoding),
        }
    }
    // ANCHOR_END: framing

    /// RFC 9112, section 9.3.
    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// RFC 9110, section 10.1.1. An HTTP/1.0 client cannot mean it, so it is ignored there.
    fn expects_continue(&self, version: Version) -> Result<bool, RequestError> {
        match version {
            Version::Http10 => Ok(false),
            Version::Http11 if self.expects_other => Err(RequestError::Expectation),
            Version::Http11 => Ok(self.expects_continue),
        }
    }
}

/// origin-form, absolute-form, or asterisk-form with OPTIONS (RFC 9112, section 3.2). Returns path and
/// query, both still encoded.
fn check_target(method: Method, target: &str) -> Result<(&str, &str), RequestError> {
    if target == "*" {
        return if method == Method::Options { Ok(target.split_at(1)) } else { Err(RequestError::Target) };
    }
    let (path, query) = split_target(target).ok_or(RequestError::Target)?;
    let well_formed = !target.as_bytes().contains(&b'#')
        && decode_component(path, false).is_some()
        && decode_component(query, true).is_some();
    if well_formed { Ok((path, query)) } else { Err(RequestError::Target) }
}

/// Path and query of a target. The authority of an absolute-form is dropped here and read in
/// [`Request::host`].
fn split_target(target: &str) -> Option<(&str, &str)> {
    let path_and_query = if target.starts_with('/') {
        target
    } else {
        let rest = split_scheme(target)?;
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        if authority == 0 || !is_host(&rest.as_bytes()[..authority]) {
            return None;
        }
        &rest[authority..]
    };
    Some(split_at_byte(path_and_query, b'?'))
}

fn split_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// The bytes of a reg-name: unreserved, sub-delims and percent-encoded (RFC 3986, section 3.2.2).
const IS_HOST: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut others = b"-._~%!$&'()*+,;=".as_slice();
    while let [byte, rest @ ..] = others {
        table[*byte as usize] = true;
        others = rest;
    }
    table
};

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2), as far as a server needs to tell.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = split_port(host);
    let name_is_good = match name {
        [b'[', address @ .., b']'] => address.iter().all(|&b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        _ => name.iter().all(|&byte| IS_HOST[byte as usize]),
    };
    !name.is_empty() && name_is_good && port.is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}

/// Splits `[::1]:80` and `localhost:80` in front of the port.
fn split_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let colon = match host.iter().rposition(|&byte| matches!(byte, b':' | b']')) {
        Some(at) if host[at] == b':' => at,
        _ => return (host, None),
    };
    (&host[..colon], Some(&host[colon + 1..]))
}

/// `1*DIGIT`: no sign, no white space, no overflow. (`str::parse` would take `+5`.)
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// A whole request: the head and all of its content, in one buffer.
#[derive(Debug, Clone)]
pub struct Request {
    buffer: Vec<u8>,
    head_length: usize,
    head: Head,
}

impl Request {
    /// Puts together a head and the buffer that holds its `head_length` bytes, followed by the
    /// decoded content.
    pub fn new(head: Head, buffer: Vec<u8>, head_length: usize) -> Self {
        Request { buffer, head_length, head }
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The parsed head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The request target as it was sent.
    pub fn target(&self) -> &str {
        self.text(self.head.target)
    }

    fn text(&self, part_of_target: Span) -> &str {
        str::from_utf8(part_of_target.get(&self.buffer)).expect("httparse checked that the target is UTF-8")
    }

    /// The path of the target, percent-decoded once; `*` for the asterisk-form.
    pub fn path(&self) -> Cow<'_, str> {
        let path = self.head.path.map_or("/", |path| self.text(path));
        decode_component(path, false).unwrap_or(Cow::Borrowed(path))
    }

    /// The pairs of the query, decoded, in order.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query_pairs(self.text(self.head.query))
    }

    /// The first value of the query parameter `name`.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.text(self.head.query), name)
    }

    /// The value of the first field line called `name`, in any case, without the white space around
    /// it.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all field lines called `name`.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_called = move |(key, _): &&(Span, Span)| key.get(&self.buffer).eq_ignore_ascii_case(name.as_bytes());
        self.head.fields.iter().filter(is_called).map(|(_, value)| value.get(&self.buffer))
    }

    /// All field lines in order, names as they were sent.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.fields.iter().map(|(name, value)| {
            let name = str::from_utf8(name.get(&self.buffer)).expect("a field name is a token");
            (name, value.get(&self.buffer))
        })
    }

    /// All list elements of all fields called `name`: `Connection: keep-alive, Upgrade` gives two.
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(list)
    }

    /// Host and port that the request is for: the authority of an absolute-form target, else the
    /// Host field (RFC 9112, section 3.2.2). `None` in an HTTP/1.0 request without one.
    pub fn host(&self) -> Option<&str> {
        match split_scheme(self.target()) {
            Some(rest) => rest.split(['/', '?']).next(),
            None => self.field("host").and_then(|host| str::from_utf8(host).ok()),
        }
    }

    /// The name or address of [`host`](Self::host), without the port.
    pub fn host_name(&self) -> Option<&str> {
        self.host().map(|host| str::from_utf8(split_port(host.as_bytes()).0).expect("cut in front of a colon"))
    }

    /// How many bytes the request is: its head, and its content without a transfer coding.
    pub fn wire_length(&self) -> usize {
        self.buffer.len()
    }

    /// The head as it came and, behind it, the content, with its transfer coding taken off.
    pub fn wire_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The head as it came.
    pub fn head_bytes(&self) -> &[u8] {
        &self.buffer[..self.head_length]
    }

    /// The content, with its transfer coding taken off.
    pub fn content(&self) -> &[u8] {
        &self.buffer[self.head_length..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Parse<Head>, RequestError> {
        parse_head(bytes, 16 * 1024, 8 * 1024)
    }

    /// Parses a complete request head, whole and with bytes left over, and checks that every
    /// shorter prefix is `Partial` or the error that the whole gives.
    fn request(head: &str) -> Result<Request, RequestError> {
        let whole = parse(head.as_bytes());
        for end in 0..head.len() {
            match parse(&head.as_bytes()[..end]) {
                Ok(Parse::Partial) => {}
                Err(error) => assert_eq!(Some(error), whole.clone().err(), "after {end} bytes"),
                complete => panic!("complete after {end} bytes: {complete:?}"),
            }
        }
        let longer = format!("{head}GET /next HTTP/1.1\r\n");
        match (whole?, parse(longer.as_bytes())?) {
            (Parse::Complete { value, used }, Parse::Complete { used: used_of_longer, .. }) => {
                assert_eq!((used, used_of_longer), (head.len(), head.len()));
                Ok(Request::new(value, head.as_bytes().to_vec(), used))
            }
            partial => panic!("partial: {partial:?}"),
        }
    }

    fn error(head: &str) -> RequestError {
        request(head).expect_err(head)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request =
            request("GET /a%20b?room=x+y&n=1 HTTP/1.1\r\nHost: localhost:80\r\nA: 1, 2\r\na:3\r\n\r\n").unwrap();
        assert_eq!((request.method(), request.version()), (Method::Get, Version::Http11));
        assert_eq!((request.path().as_ref(), request.host_name()), ("/a b", Some("localhost")));
        assert_eq!(request.parameter("room").as_deref(), Some("x y"));
        assert_eq!(request.elements("a").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert_eq!(request.field("HOST"), Some(&b"localhost:80"[..]));
        assert!(request.head().persistent && request.content().is_empty());
    }

    #[test]
    fn all_target_forms_that_an_origin_server_knows() {
        let absolute = request("GET http://[::1]:8000/x?y=z HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
        assert_eq!((absolute.path().as_ref(), absolute.host_name()), ("/x", Some("[::1]")));
        let bare = request("GET HTTP://h?q HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!((bare.path().as_ref(), bare.host()), ("/", Some("h")));
        assert_eq!(request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().path(), "*");
        for target in ["*", "x", "/%zz", "/%00", "/a#b", "http:///x", "ftp://h/", "/?%ff"] {
            assert_eq!(error(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")), RequestError::Target, "{target}");
        }
    }

    #[test]
    fn lines_that_are_wrong() {
        use RequestError::*;
        let cases = [
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", FieldName),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n", FieldName),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", FieldValue),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", FieldValue),
            ("GET / HTTP/1.1\r\n: h\r\n\r\n", FieldName),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
            ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", RequestLine),
            ("get / HTTP/1.1\r\nHost: h\r\n\r\n", UnknownMethod),
            ("BREW / HTTP/1.1\r\nHost: h\r\n\r\n", UnknownMethod),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", UnsupportedVersion),
            ("PRI * HTTP/2.0\r\n\r\n", UnsupportedVersion),
            ("GET / HTTX/1.1\r\nHost: h\r\n\r\n", MalformedVersion),
        ];
        for (head, expected) in cases {
            assert_eq!(parse(head.as_bytes()).expect_err(head), expected, "{head:?}");
        }
    }

    #[test]
    fn exactly_one_host() {
        assert_eq!(error("GET / HTTP/1.1\r\n\r\n"), RequestError::NoHost);
        assert_eq!(error("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), RequestError::ManyHosts);
        for host in ["a b", "a/b", "a@b", "h:80x", "[::1", "::1", "a:1:2"] {
            assert_eq!(error(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), RequestError::BadHost, "{host}");
        }
        assert!(request("GET / HTTP/1.0\r\n\r\n").unwrap().host().is_none());
    }

    #[test]
    fn content_is_framed_in_one_way_only() {
        use RequestError::*;
        let framing =
            |fields: &str| request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).map(|r| r.head.framing);
        assert_eq!(framing("Content-Length: 5"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 5, 5"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 0"), Ok(Framing::Empty));
        assert_eq!(framing("Transfer-Encoding: Chunked"), Ok(Framing::Chunked));
        for length in ["+5", "-5", "5, 6", "", "5,", "5 5", "0x5", "18446744073709551616", "5\r\nContent-Length: 6"] {
            assert_eq!(framing(&format!("Content-Length: {length}")), Err(ContentLength), "{length:?}");
        }
        for coding in
            ["gzip", "gzip, chunked", "chunked, chunked", "", "xchunked", "chunked\r\nTransfer-Encoding: chunked"]
        {
            assert_eq!(framing(&format!("Transfer-Encoding: {coding}")), Err(TransferEncoding), "{coding:?}");
        }
        assert_eq!(framing("Transfer-Encoding: chunked\r\nContent-Length: 5"), Err(LengthAndEncoding));
        assert_eq!(error("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), EncodingInHttp10);
    }

    #[test]
    fn who_wants_another_request() {
        let persistent = |version: &str, options: &str| {
            request(&format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: {options}\r\n\r\n"))
                .unwrap()
                .head
                .persistent
        };
        assert!(persistent("1.1", "keep-alive") && persistent("1.1", "upgrade"));
        assert!(!persistent("1.1", "Close") && !persistent("1.1", "upgrade, close"));
        assert!(persistent("1.0", "Keep-Alive") && !persistent("1.0", "upgrade") && !persistent("1.0", "close"));
    }

    #[test]
    fn expectations() {
        let expects = |what: &str| {
            request(&format!("PUT / HTTP/1.1\r\nHost: h\r\nExpect: {what}\r\n\r\n")).map(|r| r.head.expects_continue)
        };
        assert_eq!(expects("100-Continue"), Ok(true));
        assert_eq!(expects("200-ok"), Err(RequestError::Expectation));
    }

    #[test]
    fn limits_are_seen_before_the_end() {
        let target = format!("GET /{} ", "a".repeat(8192));
        assert_eq!(parse(target.as_bytes()).unwrap_err(), RequestError::TargetTooLong(8192));
        let field = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(16 * 1024));
        assert_eq!(parse(field.as_bytes()).unwrap_err(), RequestError::HeadTooLong(16 * 1024));
        let fields = format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "A: b\r\n".repeat(100));
        assert_eq!(parse(fields.as_bytes()).unwrap_err(), RequestError::TooManyFields);
    }
}
