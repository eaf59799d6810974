//! Request targets and hosts: path, query, percent-decoding (RFC 9112, section 3.2; RFC 3986, section 2.1; the query in
//! the form encoding of the WHATWG URL standard).

use std::borrow::Cow;

use super::error::RequestError;
use super::request::Method;

/// Decodes `%41` to `A`, once. Returns `None` for a broken escape, bytes that are not UTF-8, or a NUL. With
/// `plus_is_space`, `+` is a space, as in the queries of browsers.
///
/// ```
/// use overwire::http::decode_component;
/// assert_eq!(decode_component("a%20b+c", false).as_deref(), Some("a b+c"));
/// assert_eq!(decode_component("a%20b+c", true).as_deref(), Some("a b c"));
/// assert_eq!(decode_component("%2", false), None);
/// ```
pub fn decode_component(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+' | 0)) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    if decoded.contains(&0) {
        return None;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The decoded names and values of a query such as `room=general&limit=5`. A pair with a broken escape is left out;
/// [`parse_request_head`](super::parse_request_head) refuses a request with one.
///
/// ```
/// let pairs: Vec<_> = overwire::http::query_pairs("room=a+b&flag").collect();
/// assert_eq!(pairs, [("room".into(), "a b".into()), ("flag".into(), "".into())]);
/// ```
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    encoded_pairs(query)
        .filter_map(|(name, value)| Some((decode_component(name, true)?, decode_component(value, true)?)))
}

/// The first value of `name` in a query. Only this value is decoded.
pub(super) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let is_called = |encoded: &str| decode_component(encoded, true).is_some_and(|decoded| decoded == name);
    encoded_pairs(query).find(|(encoded, _)| is_called(encoded)).and_then(|(_, value)| decode_component(value, true))
}

fn encoded_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = query;
    let pairs = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (pair, others) = split_at_byte(rest, b'&');
        rest = others;
        Some(pair)
    });
    pairs.filter(|pair| !pair.is_empty()).map(|pair| split_at_byte(pair, b'='))
}

/// The text before the first `byte`, which is ASCII, and the text after it. (For texts as short as these,
/// `str::split_once` takes several times as long.)
fn split_at_byte(text: &str, byte: u8) -> (&str, &str) {
    match text.bytes().position(|other| other == byte) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => text.split_at(text.len()),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Checks an origin-form, an absolute-form, or an asterisk-form with OPTIONS (RFC 9112, section 3.2). Returns path and
/// query, both encoded.
pub(super) fn check_target(method: Method, target: &str) -> Result<(&str, &str), RequestError> {
    if target == "*" {
        return if method == Method::Options { Ok(target.split_at(1)) } else { Err(RequestError::Target) };
    }
    let (path, query) = split_target(target).ok_or(RequestError::Target)?;
    let well_formed = !target.as_bytes().contains(&b'#')
        && decode_component(path, false).is_some()
        && decode_component(query, true).is_some();
    if well_formed { Ok((path, query)) } else { Err(RequestError::Target) }
}

/// Path and query of a target. [`Request::host`](super::Request::host) reads the authority of an absolute-form.
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

/// The part of an absolute-form after its scheme.
pub(super) fn split_scheme(target: &str) -> Option<&str> {
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

/// Whether this is `uri-host [ ":" port ]` (RFC 9110, section 7.2). Names are not checked beyond their bytes.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name, port) = split_port(host);
    let name_is_good = match name {
        [b'[', address @ .., b']'] => address.iter().all(|&b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        _ => name.iter().all(|&byte| IS_HOST[byte as usize]),
    };
    !name.is_empty() && name_is_good && port.is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}

/// Splits `[::1]:80` and `localhost:80` before the port.
pub(super) fn split_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    let colon = match host.iter().rposition(|&byte| matches!(byte, b':' | b']')) {
        Some(at) if host[at] == b':' => at,
        _ => return (host, None),
    };
    (&host[..colon], Some(&host[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_decoded_once() {
        assert_eq!(decode_component("%2541", false).unwrap(), "%41");
        assert_eq!(decode_component("%C3%A9", false).unwrap(), "é");
    }

    #[test]
    fn broken_components_are_refused() {
        for text in ["%", "%4", "%4g", "%+1", "%00", "%ff", "%C3"] {
            assert_eq!(decode_component(text, false), None, "{text}");
        }
    }

    #[test]
    fn a_query_gives_its_pairs_in_order() {
        let pairs: Vec<_> = query_pairs("room=a+b&&flag&x=%3D=").collect();
        assert_eq!(pairs, [("room".into(), "a b".into()), ("flag".into(), "".into()), ("x".into(), "==".into())]);
        let value = |name| query_value("r%6fom=a+b&&flag&x=1&x=2&bad=%f", name);
        assert_eq!([value("room"), value("flag"), value("x")], ["a b", "", "1"].map(|text| Some(text.into())));
        assert_eq!([value("bad"), value("r%6fom"), value("")], [None, None, None]);
    }
}
