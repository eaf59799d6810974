//! The request target taken apart: path, query, percent-decoding (RFC 9112, section 3.2;
//! RFC 3986, section 2.1; the query as the WHATWG URL standard's form encoding).

use std::borrow::Cow;

/// Decodes `%41` to `A`, once. `None` for a broken escape, bytes that are not UTF-8, or a NUL.
/// With `plus_is_space`, `+` is a space, as browsers write it in a query.
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

/// The names and values of a query such as `room=general&limit=5`, decoded. A pair whose
/// escapes are broken is left out: a request with one has been refused before.
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

/// What is in front of the first `byte`, which is ASCII, and what is behind it, both parts of `text`. (For texts as short as
/// these, `str::split_once` takes several times as long.)
pub(super) fn split_at_byte(text: &str, byte: u8) -> (&str, &str) {
    match text.bytes().position(|other| other == byte) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => text.split_at(text.len()),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
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
