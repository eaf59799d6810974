//! Secrets in the bytes of a connection, which a viewer need not see: cookies, keys and tickets.
//!
//! Each byte of a secret becomes a `*`. So all lengths stay true.

use std::borrow::Cow;

use super::{Part, Piece};
use crate::http::{SECRET_PARAMETERS, decode_component};

/// The fields whose values are secrets, in lower case. So are all whose name begins with `proxy-`.
const FIELDS: [&[u8]; 3] = [b"cookie", b"set-cookie", b"authorization"];

/// More bytes of a name than the longest that is compared, also if each of its characters is percent-encoded.
const LONGEST_NAME: usize = 64;

/// Hides the secrets in the pieces of one direction: the values of Cookie, Set-Cookie, Authorization and of fields that
/// begin with `Proxy-`, and those of the query parameters `ticket` and `access_token`.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::{Conversation, Secrets};
///
/// let head = b"GET /ws?ticket=12ab HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer 34cd\r\n\r\n";
/// let mut pieces = Conversation::default().read(Role::Client, head);
/// let mut secrets = Secrets::default();
/// pieces.iter_mut().for_each(|piece| secrets.hide(piece));
/// assert_eq!(pieces[0].bytes, b"GET /ws?ticket=**** HTTP/1.1\r\n");
/// assert_eq!((&pieces[2].bytes[..], &*pieces[2].meaning()), (&b"Authorization: ***********\r\n"[..], "masked"));
/// ```
#[derive(Debug, Default)]
pub struct Secrets {
    /// Bytes without a label may be the lines of a malformed head.
    unlabelled: (Fields, Parameters),
    /// `None` if the content has no secrets.
    content: Option<Strings>,
}

impl Secrets {
    /// From now on, the content is JSON whose strings are secrets, or no longer.
    pub fn expect_in_content(&mut self, is_expected: bool) {
        self.content = is_expected.then(Strings::default);
    }

    /// Hides the secrets in the next piece. Its [meaning](Piece::meaning) says so, if it has no other.
    pub fn hide(&mut self, piece: &mut Piece) {
        let mut bytes = piece.bytes.clone();
        match (&piece.part, &mut self.content) {
            (Part::RequestLine, _) => Parameters::default().hide(&mut bytes),
            (Part::FieldLine | Part::TrailerField, _) => {
                Fields::default().hide(&mut bytes);
                Parameters::default().hide(&mut bytes); // another URL, as in Referer or Location
            }
            (Part::Unlabelled, _) => {
                self.unlabelled.0.hide(&mut bytes);
                self.unlabelled.1.hide(&mut bytes);
            }
            (Part::Content | Part::ChunkData, Some(strings)) => {
                strings.hide(&mut bytes);
                piece.lines.clear(); // they repeat the bytes
            }
            _ => return,
        }
        piece.is_masked = bytes != piece.bytes;
        piece.bytes = bytes;
    }

    /// Hides the secret query parameters in a URL.
    ///
    /// ```
    /// use overwire::wire::Secrets;
    ///
    /// assert_eq!(Secrets::hide_in_url("http://h/ws?room=a&ticket=12ab"), "http://h/ws?room=a&ticket=****");
    /// ```
    pub fn hide_in_url(url: &str) -> Cow<'_, str> {
        let mut bytes = url.as_bytes().to_vec();
        Parameters::default().hide(&mut bytes);
        if bytes == url.as_bytes() { url.into() } else { String::from_utf8_lossy(&bytes).into_owned().into() }
    }
}

/// A reader of field lines that arrive in pieces.
#[derive(Debug, Default)]
struct Fields {
    at: InField,
    /// The name of the field, in lower case.
    name: Vec<u8>,
}

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum InField {
    #[default]
    LineStart,
    /// At the start of a line that continues a secret value if it begins with white space (RFC 9112, section 5.2).
    LineStartAfterSecret,
    Name,
    /// Between the colon and a secret value.
    BeforeSecret,
    Secret,
    Value,
}

impl Fields {
    fn hide(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.at = self.next(*byte);
            if self.at == InField::Secret && *byte != b'\r' {
                *byte = b'*';
            }
        }
    }

    /// Returns the position of `byte` if it is secret, else the position after it.
    fn next(&mut self, byte: u8) -> InField {
        let is_space = matches!(byte, b' ' | b'\t');
        match (self.at, byte) {
            (InField::Secret | InField::BeforeSecret, b'\n') => InField::LineStartAfterSecret,
            (_, b'\n') => InField::LineStart,
            (InField::LineStartAfterSecret, _) if is_space => InField::BeforeSecret,
            (InField::BeforeSecret, _) if is_space || byte == b'\r' => InField::BeforeSecret,
            (InField::BeforeSecret | InField::Secret, _) => InField::Secret,
            (InField::LineStart | InField::LineStartAfterSecret, _) => {
                self.name.clear();
                self.name_goes_on(byte)
            }
            (InField::Name, _) => self.name_goes_on(byte),
            (InField::Value, _) => InField::Value,
        }
    }

    fn name_goes_on(&mut self, byte: u8) -> InField {
        let name = self.name.trim_ascii();
        match byte {
            b':' if FIELDS.contains(&name) || name.starts_with(b"proxy-") => InField::BeforeSecret,
            b':' => InField::Value,
            _ => {
                if self.name.len() < LONGEST_NAME {
                    self.name.push(byte.to_ascii_lowercase());
                }
                InField::Name
            }
        }
    }
}

/// A reader of query parameters in bytes that arrive in pieces.
#[derive(Debug, Default)]
struct Parameters {
    at: InUrl,
    /// The name of the parameter, as it is in the URL.
    name: Vec<u8>,
}

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum InUrl {
    /// In no parameter, or in the value of one that is no secret.
    #[default]
    Elsewhere,
    Name,
    Secret,
}

impl Parameters {
    fn hide(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let was_secret = self.at == InUrl::Secret;
            self.at = self.next(*byte);
            if was_secret && self.at == InUrl::Secret {
                *byte = b'*';
            }
        }
    }

    fn next(&mut self, byte: u8) -> InUrl {
        match (self.at, byte) {
            (_, b'\r' | b'\n' | b' ' | b'"') => InUrl::Elsewhere,
            (InUrl::Secret, b'?') => InUrl::Secret, // a query may have more of them
            (_, b'?' | b'&' | b'#') => {
                self.name.clear();
                InUrl::Name
            }
            (InUrl::Name, b'=') if self.is_secret() => InUrl::Secret,
            (InUrl::Name, b'=') => InUrl::Elsewhere,
            (InUrl::Name, _) => {
                if self.name.len() < LONGEST_NAME {
                    self.name.push(byte);
                }
                InUrl::Name
            }
            (at, _) => at,
        }
    }

    fn is_secret(&self) -> bool {
        let name = str::from_utf8(&self.name).ok().and_then(|name| decode_component(name, true));
        name.is_some_and(|name| SECRET_PARAMETERS.contains(&&*name))
    }
}

/// A reader of JSON that arrives in pieces. The names of members stay, all other strings are secrets.
#[derive(Debug, Default)]
struct Strings {
    at: InJson,
    /// Whether the next string is the name of a member.
    expects_name: bool,
    /// The open brackets, the newest in the lowest bit: 1 for an array, 0 for an object.
    brackets: u64,
}

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum InJson {
    #[default]
    Outside,
    String,
    /// After a backslash in a string.
    Escape,
}

impl Strings {
    fn hide(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let before = self.at;
            self.at = match (before, *byte) {
                (InJson::Outside, b'"') => InJson::String,
                (InJson::Outside, mark) => {
                    self.note(mark);
                    InJson::Outside
                }
                (InJson::String, b'"') => InJson::Outside,
                (InJson::String, b'\\') => InJson::Escape,
                (InJson::String | InJson::Escape, _) => InJson::String,
            };
            let is_inside = before != InJson::Outside && self.at != InJson::Outside;
            if is_inside && !self.expects_name {
                *byte = b'*';
            }
        }
    }

    /// Takes a byte between two strings.
    fn note(&mut self, mark: u8) {
        match mark {
            b'{' | b'[' => self.brackets = self.brackets << 1 | u64::from(mark == b'['),
            b'}' | b']' => self.brackets >>= 1,
            _ => {}
        }
        match mark {
            b'{' => self.expects_name = true,
            b'[' | b':' => self.expects_name = false,
            b',' => self.expects_name = self.brackets & 1 == 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, expected: &str) {
        for size in [usize::MAX, 1, 2, 7] {
            let (mut fields, mut masked) = (Fields::default(), Vec::new());
            for piece in lines.as_bytes().chunks(size.min(lines.len())) {
                let mut piece = piece.to_vec();
                fields.hide(&mut piece);
                masked.extend(piece);
            }
            assert_eq!(String::from_utf8(masked).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn secret_values_are_masked_byte_for_byte() {
        for name in ["Cookie", "Set-Cookie", "Authorization", "Proxy-Authorization", "Proxy-Anything", "cOOKIE"] {
            check(&format!("{name}: a=b; c\r\n"), &format!("{name}: ******\r\n"));
        }
        check("Cookie:\u{e9}\r\nHost: h\r\n", "Cookie:**\r\nHost: h\r\n");
    }

    #[test]
    fn other_values_are_not_masked() {
        let lines = "Host: cookie: x\r\nX-Cookie: a\r\nCookies: a\r\nProxy: a\r\n: a\r\nCookie\r\nnone\r\n\r\n";
        check(lines, lines);
    }

    #[test]
    fn white_space_does_not_unmask_a_value() {
        check("Cookie:\t  a b\t\r\n", "Cookie:\t  ****\r\n");
        check("Cookie : ab\r\n", "Cookie : **\r\n");
        check("Cookie: a\rb\r\n", "Cookie: *\r*\r\n");
        check("Cookie: a\n b\n\tc\r\n  \r\nHost: h\n", "Cookie: *\n *\n\t*\r\n  \r\nHost: h\n");
        check(" Cookie: a\r\n", " Cookie: *\r\n");
    }

    #[test]
    fn too_long_names_are_not_secret() {
        let line = format!("Cookie{}: a\n", "x".repeat(100));
        check(&line, &line);
    }

    /// Hides in pieces of each size, and checks the result.
    #[track_caller]
    fn check_pieces(text: &str, expected: &str, mut hide: impl FnMut(bool, &mut [u8])) {
        for size in 1..=text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes.chunks_mut(size).enumerate().for_each(|(at, piece)| hide(at == 0, piece));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn secret_parameters_are_masked() {
        for (text, expected) in [
            ("GET /a?ticket=12 HTTP/1.1\r\n", "GET /a?ticket=** HTTP/1.1\r\n"),
            ("GET /a?b=1&%74icket=1?2&c=3 HTTP", "GET /a?b=1&%74icket=***&c=3 HTTP"),
            ("GET /?ticket=1&ticket=2&ticket=", "GET /?ticket=*&ticket=*&ticket="),
            ("Referer: http://h/#access_token=a&b=c\r\nticket=1", "Referer: http://h/#access_token=*&b=c\r\nticket=1"),
            (
                "GET /ticket=1?tickets=2&b=ticket=3&ticke=4&TICKET=5",
                "GET /ticket=1?tickets=2&b=ticket=3&ticke=4&TICKET=5",
            ),
            ("GET /a?ticket HTTP/1.1\r\nA: =1", "GET /a?ticket HTTP/1.1\r\nA: =1"),
        ] {
            let mut parameters = Parameters::default();
            check_pieces(text, expected, |is_first, piece| {
                if is_first {
                    parameters = Parameters::default();
                }
                parameters.hide(piece);
            });
        }
    }

    #[test]
    fn strings_in_json_are_masked_and_names_are_not() {
        for (text, expected) in [
            (r#"{"key": "ow_12", "n": 1}"#, r#"{"key": "*****", "n": 1}"#),
            (r#"{"key":"a\"b:{\\","key":"c"}"#, r#"{"key":"********","key":"*"}"#),
            (
                r#"{"a":{"key":"b"},"c":["d","e",{"f":"g"},"h"],"i":"j"}"#,
                r#"{"a":{"key":"*"},"c":["*","*",{"f":"*"},"*"],"i":"*"}"#,
            ),
            (r#""alone""#, r#""*****""#),
            (r#"{"key":"never ends"#, r#"{"key":"**********"#),
        ] {
            let mut strings = Strings::default();
            check_pieces(text, expected, |is_first, piece| {
                if is_first {
                    strings = Strings::default();
                }
                strings.hide(piece);
            });
        }
    }
}
