//! Trusted proxies, and the clients that they speak for: the fields `Forwarded` (RFC 7239) and `X-Forwarded-For`,
//! `-Proto` and `-Host`, which no standard defines.
//!
//! Anyone can send these fields. So they count only from addresses that were named as proxies, and are read from the
//! right: each proxy adds the address that it has seen. The first address that is not a proxy's is the client's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::bytes::digits;
use crate::http::{Request, is_token, list};
use crate::proxy_protocol::Announced;

/// The client of a request, as far as the connection and trusted proxies tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Its address. `None` if it is not known.
    pub address: Option<IpAddr>,
    /// Whether it uses https. `None` if it is not known.
    pub is_secure: Option<bool>,
    /// The host that it asked for, if that is another than the request's.
    pub host: Option<String>,
}

/// The networks of the trusted proxies. A clone copies a pointer.
///
/// ```
/// use overwire::proxies::Proxies;
///
/// let proxies = Proxies::new(["10.0.0.0/8", "::1"])?;
/// assert!(proxies.trusts("10.1.2.3".parse().unwrap()) && !proxies.trusts("192.0.2.1".parse().unwrap()));
/// assert!(Proxies::new(["10.0.0.0/33"]).is_err());
/// # Ok::<(), overwire::proxies::NotANetwork>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Proxies(Rc<[Network]>);

/// An address, or all addresses with the same first bits.
#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    /// The number of bits that count.
    bits: u32,
}

/// The number of bits before an IPv4 address that is mapped to IPv6, such as `::ffff:192.0.2.1`.
const MAPPED: u32 = 96;

/// The error for a text that is neither an address nor a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotANetwork(pub String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an address or a network such as 10.0.0.0/8, not {:?}", self.0)
    }
}

impl std::error::Error for NotANetwork {}

/// The error for fields of a trusted proxy that do not name one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedError {
    /// The field Forwarded is malformed. A client may have sent the front of it.
    Malformed,
    /// Forwarded and X-Forwarded name different clients. A client has sent one of them, and the proxy passed it on.
    Different,
}

impl fmt::Display for ForwardedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ForwardedError::Malformed => {
                "the field Forwarded is malformed: expected elements such as for=192.0.2.1;proto=https (RFC 7239, \
                 section 4)"
            }
            ForwardedError::Different => {
                "the fields Forwarded and X-Forwarded-For, -Proto or -Host do not agree: a proxy has to set, or to \
                 remove, all of them"
            }
        })
    }
}

impl std::error::Error for ForwardedError {}

/// What one proxy says of the side that it has seen.
#[derive(Debug, Default)]
struct Hop {
    /// `None` if the proxy does not know it, or hides it.
    address: Option<IpAddr>,
    is_secure: Option<bool>,
    host: Option<String>,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(digits(bits.as_bytes())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = u32::try_from(bits.unwrap_or(most)).ok().filter(|bits| u64::from(*bits) <= most)?;
        Some(match (address.to_canonical(), bits.checked_sub(MAPPED)) {
            (mapped @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => Network { address: mapped, bits },
            _ => Network { address, bits },
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl Proxies {
    /// Creates a list.
    ///
    /// # Errors
    /// The first of `networks` that is neither an address nor `ADDRESS/BITS`.
    pub fn new<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, NotANetwork> {
        let parse = |text: T| Network::parse(text.as_ref()).ok_or_else(|| NotANetwork(text.as_ref().to_owned()));
        networks.into_iter().map(parse).collect::<Result<_, _>>().map(Proxies)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the address of a trusted proxy. An IPv4 address that is mapped to IPv6 is the IPv4 address.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// Returns the client of a connection: its peer, or the one that a trusted peer has announced.
    pub fn client_of_connection(&self, peer: IpAddr, announced: Option<Announced>) -> Client {
        match announced.filter(|_| self.trusts(peer)) {
            Some(Announced { address, is_secure }) => Client { address: Some(address), is_secure, host: None },
            None => Client { address: Some(peer.to_canonical()), ..Client::default() },
        }
    }

    /// Returns the client of a request on a connection of `client`.
    ///
    /// # Errors
    /// The fields of a trusted proxy are malformed, or do not agree.
    ///
    /// ```
    /// use overwire::Parse;
    /// use overwire::http::{Request, parse_request_head};
    /// use overwire::proxies::Proxies;
    ///
    /// let bytes = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.2\r\n\r\n".to_vec();
    /// let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else { panic!() };
    /// let request = Request::new(head, bytes, used);
    ///
    /// let proxies = Proxies::new(["10.0.0.0/8"])?;
    /// let client = |peer: &str| {
    ///     let connection = proxies.client_of_connection(peer.parse().unwrap(), None);
    ///     proxies.client(connection, &request).unwrap().address.unwrap().to_string()
    /// };
    /// assert_eq!(client("10.0.0.1"), "192.0.2.1", "two proxies say so");
    /// assert_eq!(client("192.0.2.9"), "192.0.2.9", "it is not a proxy, whatever it says");
    /// # Ok::<(), overwire::proxies::NotANetwork>(())
    /// ```
    pub fn client(&self, client: Client, request: &Request) -> Result<Client, ForwardedError> {
        if !client.address.is_some_and(|address| self.trusts(address)) {
            return Ok(client);
        }
        let standard = hops_of_forwarded(request)?.map(|hops| self.follow(&client, hops));
        let other = hops_of_x_forwarded(request).map(|hops| self.follow(&client, hops));
        match (standard, other) {
            (Some(one), Some(other)) if one.contradicts(&other) => Err(ForwardedError::Different),
            (Some(one), Some(other)) => Ok(Client {
                address: one.address,
                is_secure: one.is_secure.or(other.is_secure),
                host: one.host.or(other.host),
            }),
            (one, other) => Ok(one.or(other).unwrap_or(client)),
        }
    }

    /// Goes from one hop to the next, from the right, as long as they are trusted proxies.
    fn follow(&self, connection: &Client, hops: Vec<Hop>) -> Client {
        let mut client = connection.clone();
        for hop in hops.into_iter().rev() {
            if !client.address.is_some_and(|address| self.trusts(address)) {
                break;
            }
            // A proxy that hides its client, and says `unknown`, is all that is known of it.
            let address = hop.address.or(client.address);
            let is_hidden = hop.address.is_none();
            client = Client { address, is_secure: hop.is_secure.or(client.is_secure), host: hop.host.or(client.host) };
            if is_hidden {
                break;
            }
        }
        client
    }
}

impl Client {
    /// Whether the two differ in something that both know.
    fn contradicts(&self, other: &Client) -> bool {
        fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            one.is_some() && other.is_some() && one != other
        }
        differ(&self.address, &other.address)
            || differ(&self.is_secure, &other.is_secure)
            || differ(&self.host, &other.host)
    }
}

/// The elements of all Forwarded fields, or `None` without any.
fn hops_of_forwarded(request: &Request) -> Result<Option<Vec<Hop>>, ForwardedError> {
    let mut hops = Vec::new();
    for value in request.values("forwarded") {
        parse_forwarded(value, &mut hops).ok_or(ForwardedError::Malformed)?;
    }
    Ok(Some(hops).filter(|hops| !hops.is_empty()))
}

/// Parses the elements of a Forwarded field (RFC 7239, section 4). Each is a list of `name=value`, in which the value
/// is a token or a quoted text. A comma in quotes does not end an element.
fn parse_forwarded(mut rest: &[u8], hops: &mut Vec<Hop>) -> Option<()> {
    loop {
        let mut hop = Hop::default();
        let mut is_empty = true;
        loop {
            rest = rest.trim_ascii_start();
            let end = rest.iter().position(|byte| b"=;,".contains(byte)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            rest = after;
            if let [b'=', after @ ..] = rest {
                let (value, after) = parse_value(after)?;
                (rest, is_empty) = (after.trim_ascii_start(), false);
                if !is_token(name) {
                    return None;
                }
                hop.note(name, &value);
            } else if !name.is_empty() {
                return None;
            }
            match rest {
                [b';', after @ ..] => rest = after,
                [] | [b',', ..] => break,
                _ => return None,
            }
        }
        hops.extend((!is_empty).then_some(hop));
        match rest {
            [_, after @ ..] => rest = after,
            [] => return Some(()),
        }
    }
}

/// Splits a token or a quoted text off (RFC 9110, section 5.6.4).
fn parse_value(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let [b'"', quoted @ ..] = bytes else {
        let end = bytes.iter().position(|byte| b";, \t".contains(byte)).unwrap_or(bytes.len());
        let (token, rest) = bytes.split_at(end);
        return is_token(token).then(|| (token.to_vec(), rest));
    };
    let (mut value, mut rest) = (Vec::new(), quoted);
    loop {
        match rest {
            [b'"', after @ ..] => return Some((value, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

impl Hop {
    /// Notes a parameter of Forwarded. Those that are unknown are skipped.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name {
            _ if name.eq_ignore_ascii_case(b"for") => self.address = parse_node(value),
            _ if name.eq_ignore_ascii_case(b"proto") => self.is_secure = is_secure(value),
            _ if name.eq_ignore_ascii_case(b"host") => self.host = text(value),
            _ => {}
        }
    }
}

/// The hops that X-Forwarded-For lists, or `None` without any of the three fields. The other two have one value, or one
/// for each hop.
fn hops_of_x_forwarded(request: &Request) -> Option<Vec<Hop>> {
    let [addresses, schemes, hosts] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
        .map(|name| request.values(name).flat_map(list).collect::<Vec<_>>());
    if addresses.is_empty() && schemes.is_empty() && hosts.is_empty() {
        return None;
    }
    let count = addresses.len().max(1);
    // The number of hops to the right of a hop is the same in all lists. In a shorter list, the first value counts.
    let value_at = |values: &[&[u8]], hop: usize| {
        let at = values.len().saturating_sub(count - hop);
        values.get(at).and_then(|value| text(value))
    };
    let hop = |at: usize| Hop {
        address: addresses.get(at).and_then(|address| parse_node(address)),
        is_secure: value_at(&schemes, at).and_then(|scheme| is_secure(scheme.as_bytes())),
        host: value_at(&hosts, at),
    };
    Some((0..count).map(hop).collect())
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`, and an IPv6 address
/// without brackets. `unknown` and hidden names are none (RFC 7239, section 6).
fn parse_node(value: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(value).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

fn is_secure(scheme: &[u8]) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_slice() {
        b"https" | b"wss" => Some(true),
        b"http" | b"ws" => Some(false),
        _ => None,
    }
}

fn text(value: &[u8]) -> Option<String> {
    str::from_utf8(value).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Parse;
    use crate::http::parse_request_head;

    fn proxies() -> Proxies {
        Proxies::new(["10.0.0.0/8", "192.0.2.7", "2001:db8:1::/48"]).unwrap()
    }

    fn client_of(peer: &str, fields: &str) -> Result<Client, ForwardedError> {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
        let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else {
            panic!("{fields}")
        };
        let connection = proxies().client_of_connection(peer.parse().unwrap(), None);
        proxies().client(connection, &Request::new(head, bytes, used))
    }

    /// The address, the scheme and the host of the client.
    fn seen(fields: &str) -> (String, Option<bool>, Option<String>) {
        let client = client_of("10.0.0.1", fields).unwrap_or_else(|error| panic!("{fields}: {error}"));
        (client.address.unwrap().to_string(), client.is_secure, client.host)
    }

    fn address(fields: &str) -> String {
        seen(fields).0
    }

    #[test]
    fn networks_are_parsed() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.0"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.0.0.1", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.0"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ] {
            let proxies = Proxies::new([text]).unwrap();
            assert!(proxies.trusts(inside.parse().unwrap()), "{text} {inside}");
            assert!(!proxies.trusts(outside.parse().unwrap()), "{text} {outside}");
        }
        for text in ["", "a", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "10.0.0/8", "/8", "10.0.0.0/8/8"] {
            assert_eq!(Proxies::new([text]).unwrap_err(), NotANetwork(text.to_owned()));
        }
    }

    #[test]
    fn fields_of_others_are_lies() {
        let fields = "Forwarded: for=192.0.2.1;proto=https\r\nX-Forwarded-For: 192.0.2.2\r\n";
        let client = client_of("198.51.100.1", fields).unwrap();
        assert_eq!(client, Client { address: Some("198.51.100.1".parse().unwrap()), ..Client::default() });
    }

    #[test]
    fn the_first_address_from_the_right_that_is_not_a_proxy_is_the_client() {
        for (list, client) in [
            ("203.0.113.1", "203.0.113.1"),
            ("198.51.100.66, 203.0.113.1", "203.0.113.1"), // the client has sent the first
            ("203.0.113.1, 10.0.0.3", "203.0.113.1"),
            ("203.0.113.1, 192.0.2.7, 10.0.0.3", "203.0.113.1"),
            ("10.0.0.4, 10.0.0.3", "10.0.0.4"), // a proxy itself
            ("203.0.113.1, unknown", "10.0.0.1"),
            ("203.0.113.1, _hidden, 10.0.0.3", "10.0.0.3"),
            ("203.0.113.1:4711", "203.0.113.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:203.0.113.1", "203.0.113.1"),
            ("203.0.113.1, 2001:db8:1::5", "203.0.113.1"),
            ("", "10.0.0.1"),
            ("nonsense", "10.0.0.1"),
        ] {
            assert_eq!(address(&format!("X-Forwarded-For: {list}\r\n")), client, "{list:?}");
        }
        assert_eq!(address("X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 10.0.0.3\r\n"), "203.0.113.1");
    }

    #[test]
    fn elements_of_forwarded_are_parsed() {
        for (value, client) in [
            ("for=203.0.113.1", "203.0.113.1"),
            ("For=\"203.0.113.1:47\"", "203.0.113.1"),
            ("for=\"[2001:db8::1]:47\"", "2001:db8::1"),
            ("for=\"\\[2001:db8::1\\]\"", "2001:db8::1"),
            ("for=198.51.100.66, for=203.0.113.1;by=10.0.0.1", "203.0.113.1"),
            ("for=203.0.113.1, ;, for=10.0.0.3 ; proto=http", "203.0.113.1"),
            ("for=\"a, for=198.51.100.66\", for=203.0.113.1", "203.0.113.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=_gazonk", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("secret=\"a\\\"b;c\";for=203.0.113.1", "203.0.113.1"),
        ] {
            assert_eq!(address(&format!("Forwarded: {value}\r\n")), client, "{value}");
        }
        let two = "Forwarded: for=203.0.113.1\r\nForwarded: for=10.0.0.3\r\n";
        assert_eq!(address(two), "203.0.113.1");
        for value in [
            "for",
            "for=",
            "=a",
            "for=\"",
            "for=\"a\\",
            "for=\"203.0.113.1\"x",
            "for=[2001:db8::1]",
            "for=a b",
            "f r=a",
            "for = a",
            // The quote that a client has opened hides what the proxy adds.
            "for=\"198.51.100.66, for=203.0.113.1",
        ] {
            let malformed = client_of("10.0.0.1", &format!("Forwarded: {value}\r\n"));
            assert_eq!(malformed, Err(ForwardedError::Malformed), "{value}");
        }
    }

    #[test]
    fn scheme_and_host_are_those_of_the_hop_that_names_the_client() {
        let https = (String::from("203.0.113.1"), Some(true), Some(String::from("chat.example")));
        for fields in [
            "Forwarded: for=203.0.113.1;proto=https;host=chat.example",
            "Forwarded: for=203.0.113.1;proto=HTTPS;host=\"chat.example\", for=10.0.0.3;proto=http;by=10.0.0.1",
            "Forwarded: for=1.1.1.1;proto=http;host=evil, for=203.0.113.1;proto=https;host=chat.example",
            "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example",
            "X-Forwarded-For: 203.0.113.1, 10.0.0.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example",
            "X-Forwarded-For: 203.0.113.1, 10.0.0.3\r\nX-Forwarded-Proto: https, http\r\nX-Forwarded-Host: chat.example",
            "X-Forwarded-For: 1.1.1.1, 203.0.113.1\r\nX-Forwarded-Proto: http, https\r\nX-Forwarded-Host: chat.example",
            "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Host: chat.example\r\nForwarded: for=203.0.113.1;proto=https",
        ] {
            assert_eq!(seen(&format!("{fields}\r\n")), https, "{fields}");
        }
        assert_eq!(seen("X-Forwarded-Proto: https\r\n"), ("10.0.0.1".to_owned(), Some(true), None));
        assert_eq!(seen("X-Forwarded-Proto: ftp\r\n"), ("10.0.0.1".to_owned(), None, None));
    }

    #[test]
    fn fields_that_disagree_are_refused() {
        for fields in [
            "Forwarded: for=198.51.100.66\r\nX-Forwarded-For: 203.0.113.1\r\n",
            "Forwarded: for=203.0.113.1;proto=https\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: http\r\n",
            "Forwarded: for=203.0.113.1;host=a\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Host: b\r\n",
        ] {
            assert_eq!(client_of("10.0.0.1", fields), Err(ForwardedError::Different), "{fields}");
        }
    }

    #[test]
    fn an_announced_client_counts_from_a_proxy() {
        let announced = Some(Announced { address: "203.0.113.1".parse().unwrap(), is_secure: Some(true) });
        let client = |peer: &str| proxies().client_of_connection(peer.parse().unwrap(), announced);
        assert_eq!(client("10.0.0.1").address, announced.map(|announced| announced.address));
        assert_eq!(client("10.0.0.1").is_secure, Some(true));
        assert_eq!(client("198.51.100.1").address, Some("198.51.100.1".parse().unwrap()));
        assert_eq!(client("198.51.100.1").is_secure, None);
    }
}
