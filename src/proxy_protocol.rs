//! The PROXY protocol, versions 1 and 2: a header before the first byte of a connection, in which a proxy announces whose
//! connection it is. A codec: no sockets. The sections are those of the specification at
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.
//!
//! A server must know that the header comes, and never guess: a client could send one itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::{Parse, digits};

/// The longest header of version 1, in bytes, with its line end (section 2.1).
const MAX_LINE: usize = 107;

/// The longest header of version 2 that is taken, in bytes. The format would allow 64 KiB.
const MAX_BINARY: usize = 4096;

/// The first bytes of version 2 (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of the fixed part of version 2: the signature, the version and command, the family, the length.
const FIXED: usize = 16;

/// The type of the field that tells of TLS, `PP2_TYPE_SSL`, and the bit in it that says that the client speaks TLS,
/// `PP2_CLIENT_SSL` (section 2.2.6).
const SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 1;

/// The client whose connection a proxy announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its address.
    pub address: IpAddr,
    /// Whether it speaks TLS with the proxy. `None` if the header does not say it.
    pub is_secure: Option<bool>,
}

/// The error for bytes that are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The bytes begin with neither version.
    NoHeader,
    /// The line of version 1 is malformed.
    Line,
    /// The fixed part of version 2, its address or its fields are malformed.
    Binary,
    /// The header is longer than this many bytes.
    TooLong(usize),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::NoHeader => f.write_str("expected a header of the PROXY protocol"),
            HeaderError::Line => f.write_str("expected `PROXY TCP4 source destination port port`, CRLF"),
            HeaderError::Binary => f.write_str("expected version 2, command 0 or 1, and an address of its family"),
            HeaderError::TooLong(most) => write!(f, "the header is longer than {most} bytes"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Parses the header at the front of a connection. The value is `None` if the header names no client: the proxy speaks
/// for itself, as in a health check, or the client has no IP address.
///
/// # Errors
/// At the first byte that cannot belong to a header, and for a header that is too long. The connection is then to be
/// closed without an answer (section 2).
///
/// ```
/// use overwire::Parse;
/// use overwire::proxy_protocol::parse;
///
/// let bytes = b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\nGET / HTTP/1.1\r\n";
/// let Ok(Parse::Complete { value: Some(announced), used }) = parse(bytes) else { panic!("a whole header") };
/// assert_eq!((announced.address.to_string().as_str(), used), ("192.0.2.1", 44));
/// assert_eq!(parse(&bytes[..30]), Ok(Parse::Partial));
/// assert!(parse(b"GET / HTTP/1.1\r\n").is_err());
/// ```
pub fn parse(bytes: &[u8]) -> Result<Parse<Option<Announced>>, HeaderError> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    match bytes {
        _ if begins(b"PROXY ") => parse_line(bytes),
        _ if begins(SIGNATURE) => parse_binary(bytes),
        _ => Err(HeaderError::NoHeader),
    }
}

/// Parses version 1, a line (section 2.1).
fn parse_line(bytes: &[u8]) -> Result<Parse<Option<Announced>>, HeaderError> {
    let front = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(length) = front.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_LINE { Ok(Parse::Partial) } else { Err(HeaderError::TooLong(MAX_LINE)) };
    };
    let value = line(&bytes[..length])?;
    Ok(Parse::Complete { value, used: length + 2 })
}

/// The client in a whole line without its end.
fn line(line: &[u8]) -> Result<Option<Announced>, HeaderError> {
    let text = str::from_utf8(line).map_err(|_| HeaderError::Line)?;
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    // What follows UNKNOWN is to be ignored.
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let addresses = [words.next(), words.next()].map(|word| word.and_then(|word| address(family?, word)));
    let ports = [words.next(), words.next()].map(|word| word.and_then(port));
    match (addresses, ports, words.next()) {
        ([Some(address), Some(_)], [Some(_), Some(_)], None) => Ok(Some(Announced { address, is_secure: None })),
        _ => Err(HeaderError::Line),
    }
}

fn address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    }
}

/// A port in decimal, without zeros at the front.
fn port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || !text.starts_with('0');
    digits(text.as_bytes()).filter(|_| is_canonical).and_then(|number| u16::try_from(number).ok())
}

/// Parses version 2 (section 2.2).
fn parse_binary(bytes: &[u8]) -> Result<Parse<Option<Announced>>, HeaderError> {
    // Each byte is judged as soon as it is there.
    let is_proxied = match bytes.get(12) {
        None => return Ok(Parse::Partial),
        Some(0x20) => false, // LOCAL
        Some(0x21) => true,  // PROXY
        Some(_) => return Err(HeaderError::Binary),
    };
    let Some(&[family, high, low]) = bytes[13..].first_chunk() else { return Ok(Parse::Partial) };
    let used = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if used > MAX_BINARY {
        return Err(HeaderError::TooLong(MAX_BINARY));
    }
    let Some(rest) = bytes.get(FIXED..used) else { return Ok(Parse::Partial) };
    // The content of LOCAL is to be skipped, whatever it is.
    let value = if is_proxied { binary(family, rest)? } else { None };
    Ok(Parse::Complete { value, used })
}

/// The client in the address and the fields of a whole header.
fn binary(family: u8, rest: &[u8]) -> Result<Option<Announced>, HeaderError> {
    // The source comes first, then the destination, then the two ports.
    let (address, length) = match family {
        0x11 | 0x12 => (rest.first_chunk().map(|bytes: &[u8; 4]| IpAddr::from(*bytes)), 12),
        0x21 | 0x22 => (rest.first_chunk().map(|bytes: &[u8; 16]| IpAddr::from(*bytes)), 36),
        0x31 | 0x32 => (None, 216), // a local socket
        0x00 => return Ok(None),
        _ => return Err(HeaderError::Binary),
    };
    let fields = rest.get(length..).ok_or(HeaderError::Binary)?;
    let is_secure = is_secure(fields)?;
    Ok(address.map(|address| Announced { address, is_secure }))
}

/// Looks for the field about TLS. Each field has a type, a length of two bytes, and a value (section 2.2.1).
fn is_secure(mut fields: &[u8]) -> Result<Option<bool>, HeaderError> {
    let mut found = None;
    while !fields.is_empty() {
        let (&[kind, high, low], rest) = fields.split_first_chunk().ok_or(HeaderError::Binary)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = rest.split_at_checked(length).ok_or(HeaderError::Binary)?;
        if kind == SSL {
            found = Some(value.first().ok_or(HeaderError::Binary)? & CLIENT_SSL != 0);
        }
        fields = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a header whole, with bytes after it, and byte by byte: a shorter one is `Partial` or the same error.
    #[track_caller]
    fn check(header: &[u8]) -> Result<Option<Announced>, HeaderError> {
        let whole = parse(header);
        for end in 0..header.len() {
            match parse(&header[..end]) {
                Ok(Parse::Partial) => {}
                Err(error) => assert_eq!(Err(error), whole, "after {end} bytes"),
                complete => panic!("complete after {end} bytes: {complete:?}"),
            }
        }
        let longer = [header, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&longer), whole, "with bytes after it");
        match whole? {
            Parse::Complete { value, used } => {
                assert_eq!(used, header.len());
                Ok(value)
            }
            Parse::Partial => panic!("incomplete"),
        }
    }

    fn client(address: &str, is_secure: Option<bool>) -> Result<Option<Announced>, HeaderError> {
        Ok(Some(Announced { address: address.parse().unwrap(), is_secure }))
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 80];

    #[test]
    fn lines_are_parsed() {
        assert_eq!(check(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n"), client("192.0.2.1", None));
        assert_eq!(check(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), client("2001:db8::1", None));
        // The longest of all.
        let v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {v6} {v6} 65535 65535\r\n");
        assert_eq!((longest.len(), check(longest.as_bytes())), (MAX_LINE, Ok(None)));
        assert_eq!(check(b"PROXY UNKNOWN\r\n"), Ok(None));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        ] {
            assert_eq!(check(line.as_bytes()), Err(HeaderError::Line), "{line:?}");
        }
        assert_eq!(check(b"PROXY TCP4 \xff\r\n"), Err(HeaderError::Line));
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(parse(endless.as_bytes()), Err(HeaderError::TooLong(MAX_LINE)));
        assert_eq!(parse(&endless.as_bytes()[..MAX_LINE - 1]), Ok(Parse::Partial));
    }

    #[test]
    fn other_bytes_are_refused_at_once() {
        for bytes in [&b"G"[..], b"PROXYTCP4", b"proxy", b"\r\n\r\nG", b"\r\n\r\n\0\r\nQUIT\r", b"\x16\x03\x01"] {
            assert_eq!(parse(bytes), Err(HeaderError::NoHeader), "{bytes:?}");
        }
        assert_eq!(parse(b""), Ok(Parse::Partial));
    }

    #[test]
    fn binary_headers_are_parsed() {
        assert_eq!(check(&binary(0x21, 0x11, &V4)), client("192.0.2.1", None));
        let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 1, 0, 2]].concat();
        assert_eq!(check(&binary(0x21, 0x21, &v6)), client("2001:db8::1", None));
        // LOCAL has any content. A local socket and an unspecified family have no IP address.
        assert_eq!(check(&binary(0x20, 0x99, b"anything")), Ok(None));
        assert_eq!(check(&binary(0x21, 0x31, &[0; 216])), Ok(None));
        assert_eq!(check(&binary(0x21, 0x00, b"anything")), Ok(None));
    }

    #[test]
    fn the_field_about_tls_is_found() {
        let with = |fields: &[u8]| check(&binary(0x21, 0x11, &[&V4[..], fields].concat()));
        assert_eq!(with(b"\x20\0\x05\x01\0\0\0\0"), client("192.0.2.1", Some(true)));
        assert_eq!(with(b"\x04\0\x02ab\x20\0\x05\x00\0\0\0\0\x01\0\0"), client("192.0.2.1", Some(false)));
        for fields in [&b"\x04"[..], b"\x04\0", b"\x04\0\x01", b"\x20\0\0", b"\x04\xff\xffab"] {
            assert_eq!(with(fields), Err(HeaderError::Binary), "{fields:?}");
        }
    }

    #[test]
    fn malformed_binary_headers_are_refused() {
        for (command, family, rest) in [
            (0x11, 0x11, &V4[..]), // version 1 in the binary format
            (0x31, 0x11, &V4),
            (0x22, 0x11, &V4),
            (0x21, 0x13, &V4),
            (0x21, 0x41, &V4),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x11, &[]),
            (0x21, 0x21, &V4),
            (0x21, 0x31, &V4),
        ] {
            assert_eq!(check(&binary(command, family, rest)), Err(HeaderError::Binary), "{command:x} {family:x}");
        }
        // The length is judged before the bytes come.
        let claimed = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff][..]].concat();
        assert_eq!(check(&claimed), Err(HeaderError::TooLong(MAX_BINARY)));
        let longest = vec![0; MAX_BINARY - FIXED];
        assert_eq!(check(&binary(0x20, 0, &longest)), Ok(None));
    }
}
