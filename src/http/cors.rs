//! Origins: which pages are this server's own, and which foreign pages may read its answers (RFC 6454; WHATWG Fetch,
//! "CORS protocol").

use std::fmt;
use std::rc::Rc;

use super::target::split_port;
use crate::bytes::digits;

/// The foreign origins whose pages may read answers. A clone copies a pointer.
///
/// ```
/// use overwire::http::Origins;
///
/// let origins = Origins::new(["https://Friend.example:443"])?;
/// assert!(origins.contains(b"https://friend.example") && !origins.contains(b"http://friend.example"));
/// assert!(Origins::new(["https://friend.example/chat"]).is_err());
/// # Ok::<(), overwire::http::NotAnOrigin>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Origins(Rc<[String]>);

/// The error for a text that is not the origin of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnOrigin(pub String);

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an origin such as https://example.com, not {:?}", self.0)
    }
}

impl std::error::Error for NotAnOrigin {}

/// A position in a list of [`Origins`].
pub(crate) type OriginIndex = u16;

impl Origins {
    /// Creates a list.
    ///
    /// # Errors
    /// The first of `origins` that no browser would send: it needs the scheme `http` or `https`, a host in ASCII and
    /// perhaps a port, and nothing else.
    pub fn new<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, NotAnOrigin> {
        let serialized = |text: T| {
            let origin = Origin::parse(text.as_ref()).ok_or_else(|| NotAnOrigin(text.as_ref().to_owned()))?;
            Ok(origin.to_string())
        };
        origins.into_iter().take(usize::from(OriginIndex::MAX)).map(serialized).collect::<Result<_, _>>().map(Origins)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value of an Origin field is one of these.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.find(field).is_some()
    }

    /// Returns the position of the origin in an Origin field.
    pub(crate) fn find(&self, field: &[u8]) -> Option<OriginIndex> {
        if self.is_empty() {
            return None;
        }
        let origin = Origin::parse(str::from_utf8(field).ok()?)?.to_string();
        self.0.iter().position(|allowed| *allowed == origin).map(|at| at as OriginIndex)
    }

    /// Returns the fields of an answer to a page of this origin, or to another page. They name the origin and never say
    /// `*`. With a list that is not empty, all answers differ by Origin, and a cache has to know. A page of another
    /// origin sees only a few fields unless they are named (WHATWG Fetch, "CORS-safelisted response-header name"), and
    /// it needs to know when to try again.
    pub(crate) fn fields(&self, page: Option<OriginIndex>) -> impl Iterator<Item = (&str, &str)> {
        let vary = (!self.is_empty()).then_some(("Vary", "Origin"));
        let allowed = page.and_then(|at| self.0.get(usize::from(at)));
        let page_fields = allowed.map(|origin| {
            [("Access-Control-Allow-Origin", &**origin), ("Access-Control-Expose-Headers", "Retry-After")]
        });
        vary.into_iter().chain(page_fields.into_iter().flatten())
    }
}

/// The origin of a page that an HTTP server has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    is_secure: bool,
    /// In lower case.
    host: String,
    port: u16,
}

impl Origin {
    /// Parses a serialized origin (RFC 6454, section 6.2). `null` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        let is_known = is_secure || scheme.eq_ignore_ascii_case("http");
        let (host, port) = Origin::split_authority(authority)?;
        is_known.then(|| Origin {
            is_secure,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(default(is_secure)),
        })
    }

    fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
        let (host, port) = split_port(authority.as_bytes());
        let is_name = !host.is_empty() && host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
        let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        let is_address = matches!(host, [b'[', address @ .., b']'] if address.iter().all(is_hex));
        let port = match port {
            Some(port) => Some(u16::try_from(digits(port)?).ok()?),
            None => None,
        };
        (is_name || is_address).then(|| (&authority[..host.len()], port))
    }

    /// Whether `host`, a host with an optional port, is the host of this origin, and its scheme that of the request.
    /// If that is not known, because TLS may end at a proxy, the schemes are not compared. A host without a port has the
    /// default port of the origin's scheme.
    pub fn is_of_host(&self, host: &str, is_secure: Option<bool>) -> bool {
        let (name, port) = split_port(host.as_bytes());
        let port = match port {
            Some(b"") | None => Some(u64::from(default(self.is_secure))),
            Some(port) => digits(port),
        };
        let is_same_scheme = is_secure.is_none_or(|is_secure| is_secure == self.is_secure);
        is_same_scheme && name.eq_ignore_ascii_case(self.host.as_bytes()) && port == Some(self.port.into())
    }
}

impl fmt::Display for Origin {
    /// Writes it as a browser does: in lower case, and without a default port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default(self.is_secure) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

fn default(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_a_browser_does() {
        let written = |text: &str| Origin::parse(text).map(|origin| origin.to_string());
        for (text, serialized) in [
            ("https://x", "https://x"),
            ("https://x:443", "https://x"),
            ("https://x:80", "https://x:80"),
            ("http://x:80", "http://x"),
            ("http://x:080", "http://x"),
            ("HTTP://Chat.Example:8000", "http://chat.example:8000"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
        ] {
            assert_eq!(written(text).as_deref(), Some(serialized), "{text}");
        }
        for text in [
            "",
            "*",
            "null",
            "x",
            "https://",
            "https://*",
            "https://*.x",
            "https://x/",
            "https://x/a",
            "https://x:",
            "https://x:+1",
            "https://x:65536",
            "https://u@x",
            "https://x y",
            "https://b\u{fc}cher.example",
            "http://[::1",
            "http://::1",
            "ws://x",
            "file:///x",
        ] {
            assert_eq!(written(text), None, "{text}");
            assert!(text == "null" || Origins::new([text]).is_err(), "{text}");
        }
    }

    #[test]
    fn default_ports_are_not_compared() {
        let is_own = |origin: &str, host: &str| Origin::parse(origin).unwrap().is_of_host(host, None);
        for (origin, host) in [
            ("https://x", "x"),
            ("https://x", "x:443"),
            ("https://x", "X:"),
            ("https://x:443", "x"),
            ("http://x", "x:80"),
            ("http://x:80", "x"),
            ("http://x:8000", "x:8000"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://x", "x:80"),
            ("http://x", "x:443"),
            ("http://x", "x:8000"),
            ("http://x:8000", "x"),
            ("http://x", "y"),
            ("http://x", "sub.x"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }
}
