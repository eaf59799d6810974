//! Responses: status, fields and content, encoded into bytes (RFC 9112, sections 4 to 6).

use std::borrow::Cow;

use serde_json::{Value, json};

use super::Framing;
use crate::bytes::{Rope, Shared, decimal};
use crate::json;

/// The maximum length of the status line and the lines that the event loop adds, in bytes.
const OWN_LINES: usize = 192;

/// The content of a response.
///
/// ```
/// use overwire::http::Content;
/// use overwire::{Rope, Shared};
///
/// let shared = Shared::from(b"hello, world".to_vec());
/// assert_eq!(Content::from(&shared).to_vec(), Content::from("hello, world").to_vec());
///
/// let rope = Rope::from_iter([shared.slice(0..5), shared.slice(7..12)]);
/// assert_eq!(Content::from(&rope).parts().collect::<Vec<_>>(), [b"hello", b"world"]);
/// ```
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes of this response alone.
    Own(Vec<u8>),
    /// Bytes in the program.
    Static(&'static [u8]),
    /// Bytes that other responses have too.
    Shared(Shared),
    /// Several parts of such bytes.
    Rope(Rope),
    /// Bytes that only the response to GET has, and their number if it is known: for a response to HEAD.
    Omitted(Option<u64>),
}

impl Content {
    /// The number of bytes that are here. [Omitted](Content::Omitted) ones are not.
    pub fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// Whether no bytes are here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, in the parts in which they lie in memory.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, slices): (&[u8], _) = match self {
            Content::Own(bytes) => (bytes, &[][..]),
            Content::Static(bytes) => (bytes, &[][..]),
            Content::Shared(bytes) => (bytes, &[][..]),
            Content::Rope(rope) => (&[], rope.slices()),
            Content::Omitted(_) => (&[], &[][..]),
        };
        let whole = Some(whole).filter(|bytes| !bytes.is_empty());
        whole.into_iter().chain(slices.iter().map(|slice| &slice[..]))
    }

    /// Returns a copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().collect::<Vec<_>>().concat()
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Own(bytes)
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::Own(text.into_bytes())
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        Content::Static(text.as_bytes())
    }
}

impl From<&Shared> for Content {
    fn from(bytes: &Shared) -> Self {
        Content::Shared(bytes.clone())
    }
}

impl From<&Rope> for Content {
    fn from(rope: &Rope) -> Self {
        Content::Rope(rope.clone())
    }
}

/// A response to one request. The event loop adds the fields that depend on the connection: `Date`, `Connection` and
/// the framing fields.
///
/// ```
/// use overwire::http::Response;
///
/// let response = Response::text(200, "hello\n").with_field("Cache-Control", "no-store");
/// assert_eq!((response.status(), response.content().to_vec()), (200, b"hello\n".to_vec()));
/// ```
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    /// Empty if there is no such field.
    content_type: Cow<'static, str>,
    fields: Vec<u8>,
    content: Content,
    closes: bool,
}

impl Response {
    /// A response without fields or content.
    pub fn new(status: u16) -> Self {
        let (content_type, content) = (Cow::Borrowed(""), Content::Static(&[]));
        Response { status, content_type, fields: Vec::new(), content, closes: false }
    }

    /// A response with plain text.
    pub fn text(status: u16, text: impl Into<Content>) -> Self {
        Response::new(status).with_content("text/plain; charset=utf-8", text)
    }

    /// A response with JSON, and a final newline for terminals.
    pub fn json(status: u16, value: &Value) -> Self {
        let mut content = json::write(value);
        content.push('\n');
        Response::new(status).with_content("application/json", content)
    }

    /// An error as JSON: `{"type": "error", "error": "<sentence>"}`. Never cached.
    pub fn error(status: u16, sentence: &str) -> Self {
        Response::json(status, &json!({ "type": "error", "error": sentence })).with_field("Cache-Control", "no-store")
    }

    /// Adds a field line. CR, LF and NUL in the value become spaces, so that no text of a peer can add a field
    /// (RFC 9110, section 5.5).
    #[doc(alias = "header")]
    #[doc(alias = "with_header")]
    pub fn with_field(mut self, name: &str, value: &str) -> Self {
        debug_assert!(name.bytes().all(|b| b.is_ascii_graphic() && b != b':'), "a field name is a token");
        self.fields.reserve(name.len() + value.len() + 4);
        self.fields.extend_from_slice(name.as_bytes());
        self.fields.extend_from_slice(b": ");
        let start = self.fields.len();
        self.fields.extend_from_slice(value.as_bytes());
        for byte in &mut self.fields[start..] {
            *byte = if ends_line(*byte) { b' ' } else { *byte };
        }
        self.fields.extend_from_slice(b"\r\n");
        self
    }

    /// Sets the content and its type. With an empty type there is no Content-Type field.
    ///
    /// ```
    /// use overwire::http::Response;
    ///
    /// let charset = "utf-8";
    /// Response::new(200).with_content("text/html", "<!doctype html>");
    /// Response::new(200).with_content(format!("text/html; charset={charset}"), "<!doctype html>");
    /// ```
    pub fn with_content(self, content_type: impl Into<Cow<'static, str>>, content: impl Into<Content>) -> Self {
        let content_type = match content_type.into() {
            Cow::Owned(text) if text.bytes().any(ends_line) => Cow::Owned(text.replace(['\r', '\n', '\0'], " ")),
            content_type => content_type,
        };
        Response { content_type, content: content.into(), ..self }
    }

    /// Closes the connection after this response, and says so (RFC 9112, section 9.6).
    pub fn with_close(self) -> Self {
        Response { closes: true, ..self }
    }

    /// Whether the connection is closed after this response.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The content.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The content, without the rest.
    pub fn into_content(self) -> Content {
        self.content
    }

    /// The framing of a response whose content is known: its length, or none for the status 1xx, 204 or 304, and for
    /// [`Content::Omitted`] of unknown length.
    pub fn framing(&self) -> Framing {
        match (self.status, &self.content) {
            (100..=199 | 204 | 304, _) | (_, Content::Omitted(None)) => Framing::Empty,
            (_, Content::Omitted(Some(length))) => Framing::Length(*length),
            _ => Framing::Length(self.content.len() as u64),
        }
    }

    /// Appends the status line and all field lines to `out`, up to and including the empty line. `date` is the value of
    /// the Date field, `connection` that of the Connection field.
    pub fn encode_head(&self, out: &mut Vec<u8>, date: &str, framing: Framing, connection: Option<&str>) {
        self.encode_head_with(out, date, framing, connection, []);
    }

    /// The same with more fields of the event loop. Their values have no line ends.
    pub(crate) fn encode_head_with<'a>(
        &self,
        out: &mut Vec<u8>,
        date: &str,
        framing: Framing,
        connection: Option<&str>,
        more: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let mut space = [0; 20];
        out.reserve(OWN_LINES + self.fields.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(decimal(self.status.into(), &mut space));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        };
        if self.status >= 200 {
            line("Date: ", date.as_bytes());
        }
        if let Some(connection) = connection {
            line("Connection: ", connection.as_bytes());
        }
        match framing {
            Framing::Length(length) => line("Content-Length: ", decimal(length, &mut space)),
            Framing::Chunked => line("Transfer-Encoding: ", b"chunked"),
            Framing::UntilClose | Framing::Empty => {}
        }
        if !self.content_type.is_empty() {
            line("Content-Type: ", self.content_type.as_bytes());
        }
        for (name, value) in more {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a byte would end a field line, or end it for a lenient recipient.
fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// The reason phrase of a status code that this project sends (RFC 9110, section 15). Empty for others.
///
/// ```
/// assert_eq!(overwire::http::reason(404), "Not Found");
/// ```
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(response: &Response, framing: Framing, connection: Option<&str>) -> String {
        let mut out = Vec::new();
        response.encode_head(&mut out, "Sun, 06 Nov 1994 08:49:37 GMT", framing, connection);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_have_their_lines_in_order() {
        let response = Response::text(200, "hello");
        assert_eq!(
            head(&response, response.framing(), Some("close")),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\
             Content-Length: 5\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        );
    }

    #[test]
    fn statuses_without_content_have_no_framing() {
        for status in [100, 204, 304] {
            let response = Response::new(status);
            let head = head(&response, response.framing(), None);
            assert!(!head.contains("Content-Length") && !head.contains("Transfer-Encoding"), "{head}");
        }
    }

    #[test]
    fn a_field_value_cannot_end_its_line() {
        let typed = Response::new(200).with_content("a\r\nSet-Cookie: b".to_owned(), "");
        assert!(head(&typed, Framing::Empty, None).ends_with("Content-Type: a  Set-Cookie: b\r\n\r\n"));
        let response = Response::new(200).with_field("X", "a\r\nSet-Cookie: b");
        assert!(head(&response, Framing::Chunked, None).contains("X: a  Set-Cookie: b\r\n\r\n"));
    }
}
