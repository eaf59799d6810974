//! The URL of the command line: `http://host:port/path?query`, or the same with `https`, `ws` or `wss`.

use std::fmt;

use overwire::bytes::digits;
use overwire::http::decode_component;

/// The address to connect to, and the target to request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `https` or `wss`.
    pub is_secure: bool,
    /// A name or an address, without the brackets of an IPv6 literal.
    pub host: String,
    pub port: u16,
    /// The value of the Host field: the authority as it was typed.
    pub authority: String,
    /// Path and query, percent-encoded.
    pub target: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or(format!("expected http://host:port/path, not {text:?}"))?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("expected http:// or ws://, not {text:?}")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = split_authority(authority).ok_or(format!("expected host:port, not {authority:?}"))?;
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        if path.chars().any(char::is_control) {
            return Err(format!("{text:?} contains a control character"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url {
            is_secure,
            host,
            port,
            authority: authority.to_owned(),
            target: format!("{slash}{}", encode(path, b" \"<>\\^`{|}")),
        })
    }

    /// Returns the URL with the query parameter `name` set to `value`, in place of all its old values.
    pub fn with_parameter(&self, name: &str, value: &str) -> Url {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let is_other = |pair: &&str| {
            let key = pair.split('=').next().unwrap_or_default();
            !pair.is_empty() && decode_component(key, true).is_none_or(|key| key != name)
        };
        let pair = format!("{name}={}", encode(value, b" \"<>\\^`{|}%&=+#?/"));
        let pairs: Vec<_> = query.split('&').filter(is_other).chain([pair.as_str()]).collect();
        Url { target: format!("{path}?{}", pairs.join("&")), ..self.clone() }
    }

    /// Whether both have the same origin: their requests go to the same server (RFC 6454, section 4).
    pub fn has_origin_of(&self, other: &Url) -> bool {
        let is_same_host = self.host.eq_ignore_ascii_case(&other.host);
        is_same_host && self.port == other.port && self.is_secure == other.is_secure
    }

    /// The scheme of requests: WebSockets begin as HTTP too.
    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// Resolves the value of a Location field: an absolute or a relative reference (RFC 3986, section 5.2).
    pub fn join(&self, location: &[u8]) -> Result<Url, String> {
        let encoded = |byte: &u8| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
        let location: String = location.trim_ascii().iter().map(encoded).collect();
        let reference = location.split('#').next().unwrap_or_default();
        match scheme_of(reference).as_deref() {
            Some("http" | "https") => return Url::parse(reference),
            Some(_) => return Err(format!("expected http://, not {reference:?}")),
            None if reference.starts_with("//") => return Url::parse(&format!("{}:{reference}", self.scheme())),
            None => {}
        }
        let (own_path, _) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let (path, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
        let target = match path {
            "" if query.is_empty() => self.target.clone(),
            "" => format!("{own_path}{query}"),
            _ if path.starts_with('/') => without_dots(path) + query,
            _ => {
                let (folder, _) = own_path.rsplit_once('/').unwrap_or_default();
                without_dots(&format!("{folder}/{path}")) + query
            }
        };
        Url::parse(&format!("{}://{}{target}", self.scheme(), self.authority))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme(), self.authority, self.target)
    }
}

/// The scheme at the front of a reference, in lower case (RFC 3986, section 3.1).
fn scheme_of(reference: &str) -> Option<String> {
    let (scheme, _) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then(|| scheme.to_ascii_lowercase())
}

/// Resolves the segments `.` and `..` of a path that begins with `/` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// Splits `host`, `host:port` or `[address]:port`. A name has no characters that a shell or a program of `--via` may read
/// as something else: an option begins with `-`, for example.
fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    let port = match port {
        "" => None,
        _ => Some(u16::try_from(digits(port.strip_prefix(':')?.as_bytes())?).ok()?),
    };
    (!host.is_empty() && !host.starts_with('-') && is_name && port != Some(0)).then(|| (host.to_owned(), port))
}

/// Percent-encodes the bytes in `others`, and all bytes except visible ASCII (RFC 3986, section 2.1).
fn encode(text: &str, others: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !others.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn urls_are_parsed() {
        for (text, is_secure, host, port, authority, target) in [
            ("http://localhost:8000/a?b=c#d", false, "localhost", 8000, "localhost:8000", "/a?b=c"),
            ("ws://127.0.0.1", false, "127.0.0.1", 80, "127.0.0.1", "/"),
            ("HTTP://[::1]:81?x", false, "::1", 81, "[::1]:81", "/?x"),
            ("http://a/b c\u{e9}", false, "a", 80, "a", "/b%20c%C3%A9"),
            ("wss://a", true, "a", 443, "a", "/"),
            ("https://a:80/", true, "a", 80, "a:80", "/"),
        ] {
            let expected =
                Url { is_secure, host: host.into(), port, authority: authority.into(), target: target.into() };
            assert_eq!(Url::parse(text), Ok(expected));
        }
        for text in [
            "localhost:8000",
            "ftp://a/",
            "https://-oProxyCommand=x/",
            "https://-a/",
            "https://~root/",
            "https://a;b/",
            "https://$(a)/",
            "http://",
            "http://a:b/",
            "http://a:0/",
            "http://a:+1/",
            "http://a:65536/",
            "http://u@a/",
            "http://[::1/",
            "http://[x]/",
            "http://a/\n",
            "http://:80/",
            "http://[::1]80/",
        ] {
            assert!(Url::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("http://a:81/b/c/d;p?q").unwrap();
        // Most are from RFC 3986, section 5.4.
        for (location, target) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y#s", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../../../g", "/g"),
            ("/./g/../h", "/h"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
            (" /a b\u{e9} ", "/a%20b%C3%A9"),
            ("/x:y", "/x:y"),
        ] {
            let url = base.join(location.as_bytes()).unwrap();
            assert_eq!((url.target.as_str(), url.has_origin_of(&base)), (target, true), "{location}");
        }
        for (location, authority, target) in
            [("//g", "g", "/"), ("//g:82/h?i", "g:82", "/h?i"), ("http://g/x#y", "g", "/x"), ("HTTP://g?x", "g", "/?x")]
        {
            let url = base.join(location.as_bytes()).unwrap();
            assert_eq!((url.authority.as_str(), url.target.as_str()), (authority, target), "{location}");
            assert!(!url.has_origin_of(&base));
        }
        assert_eq!(base.join(b"/\xff").unwrap().target, "/%FF");
        assert_eq!(base.join(b"HTTPS://a:81/").map(|url| (url.is_secure, url.has_origin_of(&base))), Ok((true, false)));
        assert!(Url::parse("https://a/").unwrap().join(b"//b/c").unwrap().is_secure);
        for location in ["ws://g/", "mailto:x@y", "http://", "http:g", "//u@g/", "javascript:alert(1)"] {
            assert!(base.join(location.as_bytes()).is_err(), "{location}");
        }
    }

    #[test]
    fn a_parameter_replaces_its_old_value() {
        let target = |text: &str| Url::parse(text).map(|url| url.with_parameter("id", "a b&c").target);
        assert_eq!(target("http://a/x").as_deref(), Ok("/x?id=a%20b%26c"));
        assert_eq!(target("http://a/?id=1&room=b&%69d=2&").as_deref(), Ok("/?room=b&id=a%20b%26c"));
    }
}
