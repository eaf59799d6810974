//! Requests: methods, versions, and the head and the content in one buffer.

use std::borrow::Cow;
use std::fmt;

use super::cors::Origin;
use super::head::{RequestHead, Span};
use super::list;
use super::target::{decode_component, query_pairs, query_value, split_port, split_scheme};

/// A request method (RFC 9110, section 9; PATCH: RFC 5789). CONNECT is left out, because this is not a proxy.
///
/// ```
/// assert_eq!(overwire::http::Method::Get.to_string(), "GET");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asks for a representation of the target.
    Get,
    /// Asks for the head of the response to GET.
    Head,
    /// Asks the target to process the content.
    Post,
    /// Asks to replace the target's state by the content.
    Put,
    /// Asks to remove the target.
    Delete,
    /// Asks for the methods of the target.
    Options,
    /// Asks for the request as it arrived.
    Trace,
    /// Asks to change the target's state in part.
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

    pub(super) fn from_token(token: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == token)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version of HTTP that this library speaks.
///
/// ```
/// use overwire::http::Version;
///
/// assert!(Version::Http10 < Version::Http11);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Version {
    /// HTTP/1.0: one request a connection unless the client asks for more, and no chunks.
    Http10,
    /// HTTP/1.1: any number of requests a connection.
    Http11,
}

/// The interim response that asks a client for the content of its request (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A whole request: the head and all of its content, in one buffer.
///
/// ```
/// use overwire::Parse;
/// use overwire::http::{Request, parse_request_head};
///
/// let bytes = b"GET /a%20b?room=x HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_vec();
/// let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else { panic!() };
/// let request = Request::new(head, bytes, used);
/// assert_eq!((request.path().as_ref(), request.host_name()), ("/a b", Some("localhost")));
/// assert_eq!(request.parameter("room").as_deref(), Some("x"));
/// assert_eq!(request.field("Host"), Some(&b"localhost:80"[..]));
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    buffer: Vec<u8>,
    head_length: usize,
    head: RequestHead,
}

impl Request {
    /// Joins a head with the buffer that holds its `head_length` bytes, followed by the decoded content.
    pub fn new(head: RequestHead, buffer: Vec<u8>, head_length: usize) -> Self {
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
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The request target as it arrived.
    pub fn target(&self) -> &str {
        self.text(self.head.target)
    }

    fn text(&self, part_of_target: Span) -> &str {
        str::from_utf8(part_of_target.get(&self.buffer)).expect("httparse checked that the target is UTF-8")
    }

    /// The path of the target, percent-decoded once. `*` for the asterisk-form.
    pub fn path(&self) -> Cow<'_, str> {
        let path = self.head.path.map_or("/", |path| self.text(path));
        decode_component(path, false).unwrap_or(Cow::Borrowed(path))
    }

    /// The decoded pairs of the query, in order.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query_pairs(self.text(self.head.query))
    }

    /// The first value of the query parameter `name`.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.text(self.head.query), name)
    }

    /// The value of the first field line called `name`, in any case, without the white space around it.
    #[doc(alias = "header")]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all field lines called `name`.
    #[doc(alias = "header")]
    #[doc(alias = "headers")]
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_called = move |(key, _): &&(Span, Span)| key.get(&self.buffer).eq_ignore_ascii_case(name.as_bytes());
        self.head.fields.iter().filter(is_called).map(|(_, value)| value.get(&self.buffer))
    }

    /// All field lines in order, names as they arrived.
    #[doc(alias = "header")]
    #[doc(alias = "headers")]
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.fields.iter().map(|(name, value)| {
            let name = str::from_utf8(name.get(&self.buffer)).expect("a field name is a token");
            (name, value.get(&self.buffer))
        })
    }

    /// All list elements of all fields called `name`: `Connection: keep-alive, Upgrade` gives two.
    #[doc(alias = "header")]
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(list)
    }

    /// The host and the port of the request: the authority of an absolute-form target, else the Host field (RFC 9112,
    /// section 3.2.2). `None` in an HTTP/1.0 request without one.
    pub fn host(&self) -> Option<&str> {
        match split_scheme(self.target()) {
            Some(rest) => rest.split(['/', '?']).next(),
            None => self.field("host").and_then(|host| str::from_utf8(host).ok()),
        }
    }

    /// The name or address of [`host`](Self::host), without the port.
    pub fn host_name(&self) -> Option<&str> {
        self.host().map(host_name)
    }

    /// Whether a page of `origin`, the value of an Origin field, is a page of this request's [`host`](Self::host). A
    /// default port is not compared, and neither is the scheme, because TLS may end at a proxy.
    ///
    /// ```
    /// use overwire::Parse;
    /// use overwire::http::{Request, parse_request_head};
    ///
    /// let bytes = b"GET / HTTP/1.1\r\nHost: chat.example:443\r\n\r\n".to_vec();
    /// let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else { panic!() };
    /// let request = Request::new(head, bytes, used);
    /// assert!(request.is_own_origin(b"https://chat.example") && !request.is_own_origin(b"https://evil.example"));
    /// ```
    pub fn is_own_origin(&self, origin: &[u8]) -> bool {
        self.host().is_some_and(|host| is_origin_of(origin, host, None))
    }

    /// The length of the head and of the decoded content, in bytes.
    pub fn wire_length(&self) -> usize {
        self.buffer.len()
    }

    /// The content, without its transfer coding.
    pub fn content(&self) -> &[u8] {
        &self.buffer[self.head_length..]
    }
}

/// The name or address in a host with an optional port.
pub(crate) fn host_name(host: &str) -> &str {
    str::from_utf8(split_port(host.as_bytes()).0).expect("cut before a colon")
}

/// Whether a page of `origin`, the value of an Origin field, is a page of `host`, a host with an optional port. If it is
/// known whether the page uses https, its scheme is compared too. A default port is not compared.
///
/// ```
/// use overwire::http::is_origin_of;
///
/// assert!(is_origin_of(b"https://chat.example", "chat.example:443", Some(true)));
/// assert!(is_origin_of(b"http://chat.example", "chat.example", None));
/// assert!(!is_origin_of(b"http://chat.example", "chat.example", Some(true)));
/// ```
pub fn is_origin_of(origin: &[u8], host: &str, is_secure: Option<bool>) -> bool {
    let origin = str::from_utf8(origin).ok().and_then(Origin::parse);
    origin.is_some_and(|origin| origin.is_of_host(host, is_secure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Parse;
    use crate::http::{Framing, FramingError, RequestError, parse_request_head};

    fn parse(bytes: &[u8]) -> Result<Parse<RequestHead>, RequestError> {
        parse_request_head(bytes, 16 * 1024, 8 * 1024)
    }

    /// Parses a whole request head, alone and with bytes after it, and checks that every shorter prefix is `Partial` or
    /// the error of the whole.
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
    fn requests_are_parsed() {
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
    fn target_forms_of_an_origin_server_are_accepted() {
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
    fn malformed_lines_are_errors() {
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
    fn exactly_one_host_is_required() {
        assert_eq!(error("GET / HTTP/1.1\r\n\r\n"), RequestError::NoHost);
        assert_eq!(error("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), RequestError::ManyHosts);
        for host in ["a b", "a/b", "a@b", "h:80x", "[::1", "::1", "a:1:2"] {
            assert_eq!(error(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), RequestError::BadHost, "{host}");
        }
        assert!(request("GET / HTTP/1.0\r\n\r\n").unwrap().host().is_none());
    }

    #[test]
    fn the_content_of_a_request_is_framed_in_one_way_only() {
        use FramingError::*;
        let framing =
            |fields: &str| request(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).map(|r| r.head.framing);
        let refused = |error| Err(RequestError::Framing(error));
        assert_eq!(framing("Content-Length: 5"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 5, 5"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 0"), Ok(Framing::Empty));
        assert_eq!(framing("Transfer-Encoding: Chunked"), Ok(Framing::Chunked));
        for length in ["+5", "-5", "5, 6", "", "5,", "5 5", "0x5", "18446744073709551616", "5\r\nContent-Length: 6"] {
            assert_eq!(framing(&format!("Content-Length: {length}")), refused(ContentLength), "{length:?}");
        }
        for coding in
            ["gzip", "chunked, gzip", "chunked, chunked", "", "xchunked", "chunked\r\nTransfer-Encoding: chunked"]
        {
            assert_eq!(framing(&format!("Transfer-Encoding: {coding}")), refused(TransferEncoding), "{coding:?}");
        }
        for coding in ["gzip, chunked", "gzip;level=9,deflate,CHUNKED", "gzip\r\nTransfer-Encoding: chunked"] {
            assert_eq!(framing(&format!("Transfer-Encoding: {coding}")), refused(UnknownCoding), "{coding:?}");
        }
        assert_eq!(framing("Transfer-Encoding: chunked\r\nContent-Length: 5"), refused(LengthAndEncoding));
        assert_eq!(error("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), RequestError::EncodingInHttp10);
    }

    #[test]
    fn persistence_depends_on_version_and_connection_options() {
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
    fn only_100_continue_can_be_expected() {
        let expects = |what: &str| {
            request(&format!("PUT / HTTP/1.1\r\nHost: h\r\nExpect: {what}\r\n\r\n")).map(|r| r.head.expects_continue)
        };
        assert_eq!(expects("100-Continue"), Ok(true));
        assert_eq!(expects("200-ok"), Err(RequestError::Expectation));
    }

    #[test]
    fn limits_are_checked_before_the_end() {
        let target = format!("GET /{} ", "a".repeat(8192));
        assert_eq!(parse(target.as_bytes()).unwrap_err(), RequestError::TargetTooLong(8192));
        let field = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(16 * 1024));
        assert_eq!(parse(field.as_bytes()).unwrap_err(), RequestError::HeadTooLong(16 * 1024));
        let fields = format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "A: b\r\n".repeat(100));
        assert_eq!(parse(fields.as_bytes()).unwrap_err(), RequestError::TooManyFields);
    }
}
