//! The parameters of a request: JSON fields and query parameters, checked. A wrong one is a 400 that names the field,
//! the expected value and the received one. Unknown fields are ignored.

use std::borrow::Cow;
use std::iter;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::bytes::digits;
use crate::feed::Cursor;
use crate::http::{Request, Response};
use crate::json;
use crate::quotas::Exceeded;
use crate::websocket::Message;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status code.
    pub status: u16,
    /// The field, the expected value and the received one.
    pub sentence: String,
}

impl ApiError {
    /// Creates a 400 with this sentence.
    pub fn bad(sentence: impl Into<String>) -> Self {
        ApiError { status: 400, sentence: sentence.into() }
    }

    /// Creates a 401 with this sentence: an identity is needed.
    pub fn unauthorized(sentence: impl Into<String>) -> Self {
        ApiError { status: 401, sentence: sentence.into() }
    }

    /// Creates a 403 with this sentence: the identity may not do this.
    pub fn forbidden(sentence: impl Into<String>) -> Self {
        ApiError { status: 403, sentence: sentence.into() }
    }

    /// Creates a 404 with this sentence.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        ApiError { status: 404, sentence: sentence.into() }
    }

    /// Creates a 409 with this sentence.
    pub fn conflict(sentence: impl Into<String>) -> Self {
        ApiError { status: 409, sentence: sentence.into() }
    }

    /// Creates a 503: there are too many `of` something.
    pub fn full(of: &str) -> Self {
        ApiError { status: 503, sentence: format!("the server has too many {of} at the moment: try again later") }
    }

    /// Creates a 429: a bound of the client is exceeded.
    pub fn exceeded(exceeded: Exceeded) -> Self {
        ApiError { status: 429, sentence: exceeded.to_string() }
    }

    /// Creates a 503: the server shuts down.
    pub fn going_away() -> Self {
        ApiError { status: 503, sentence: "the server is going away".into() }
    }

    /// Returns the same error without the received value, which may be a secret.
    pub fn without_value(mut self) -> Self {
        self.sentence.truncate(self.sentence.find(", not ").unwrap_or(self.sentence.len()));
        self
    }

    fn field(name: &str, expected: &str, received: &str) -> Self {
        ApiError::bad(format!("{name}: expected {expected}, not {}", shorten(received)))
    }

    /// Returns the answer.
    pub fn response(&self) -> Response {
        let response = Response::error(self.status, &self.sentence);
        match self.status {
            // RFC 9110, section 11.6.1: how to identify oneself.
            401 => response.with_field("WWW-Authenticate", "Bearer realm=\"overwire\""),
            // RFC 6585, section 4. A second's messages come back in a second.
            429 => response.with_field("Retry-After", "1"),
            503 => response.with_field("Retry-After", "5"),
            // RFC 9110, section 15.5.16: the content codings that would be accepted.
            415 => response.with_field("Accept-Encoding", "identity"),
            _ => response,
        }
    }
}

/// Cuts a received value to a length that an error can show.
fn shorten(received: &str) -> String {
    const LONGEST: usize = 60;
    match received.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &received[..end]),
        None => received.to_owned(),
    }
}

/// The length of the name of a sender or a room, in characters.
pub const NAME: RangeInclusive<usize> = 1..=64;

/// The length of a `client_id` or a `connection_id`, in characters.
pub const ID: RangeInclusive<usize> = 1..=128;

/// The length of an idempotency key, in characters: a UUID fits.
pub const KEY: RangeInclusive<usize> = 1..=64;

/// The length of a text, in characters.
pub const TEXT: RangeInclusive<usize> = 1..=65_536;

/// The room of a request that names none.
pub const DEFAULT_ROOM: &str = "general";

const A_CURSOR: &str = "the id of a message (a UUID of version 8)";

/// The JSON object of a content or a message. Empty content is an empty object.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a WebSocket message.
    ///
    /// # Errors
    /// When it is binary, is not JSON, or is not an object.
    pub fn of_message(message: &Message) -> Result<Self, ApiError> {
        match message {
            Message::Text(text) => Fields::parse("message", text.as_bytes()),
            Message::Binary(_) => Err(ApiError::bad("expected a text message with a JSON object, not a binary one")),
        }
    }

    /// Parses the content of a request.
    ///
    /// # Errors
    /// When it is compressed, is not JSON, or is not an object.
    pub fn of_content(request: &Request) -> Result<Self, ApiError> {
        let content = request.content();
        let is_encoded = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
        match request.elements("content-encoding").find(|coding| is_encoded(coding)) {
            Some(coding) if !content.is_empty() => {
                let sentence = format!("Content-Encoding: expected JSON as it is, not in {}", shorten(&lossy(coding)));
                Err(ApiError { status: 415, sentence })
            }
            _ => Fields::parse("content", content),
        }
    }

    fn parse(what: &str, bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Fields(Map::new()));
        }
        match json::parse(bytes) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(other) => Err(ApiError::bad(format!("expected a JSON object, not {}", shorten(&other.to_string())))),
            Err(error) => Err(ApiError::bad(format!("the {what} is {error}"))),
        }
    }

    /// Returns a string with a length in `range`, in characters. `None` if it is absent or null.
    pub fn optional(&self, name: &str, range: &RangeInclusive<usize>) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if range.contains(&text.chars().count()) => Ok(Some(text)),
            Some(other) => Err(ApiError::field(name, &text_of(range), &other.to_string())),
        }
    }

    /// Returns a string with a length in `range`, in characters.
    pub fn required(&self, name: &str, range: &RangeInclusive<usize>) -> Result<&str, ApiError> {
        self.optional(name, range)?.ok_or_else(|| missing(name, range))
    }

    /// Returns the name of a sender or a room: [`NAME`] characters without NUL, which a query cannot contain. `None` if
    /// it is absent or null.
    pub fn name(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.optional(name, &NAME)? {
            Some(text) if text.contains('\0') => {
                Err(ApiError::field(name, "a string without NUL", &format!("{text:?}")))
            }
            text => Ok(text),
        }
    }

    /// Returns a cursor. `None` if it is absent, null or empty.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse_cursor(name, text),
            Some(other) => Err(ApiError::field(name, A_CURSOR, &other.to_string())),
        }
    }
}

/// Creates the error for a required field or parameter that is absent.
pub fn missing(name: &str, range: &RangeInclusive<usize>) -> ApiError {
    ApiError::bad(format!("{name}: expected {}, but it is missing", text_of(range)))
}

fn text_of(range: &RangeInclusive<usize>) -> String {
    format!("a string of {} to {} characters", range.start(), range.end())
}

/// Returns the query parameter `name`, a string with a length in `range`. `None` if it is absent.
pub fn text(request: &Request, name: &str, range: &RangeInclusive<usize>) -> Result<Option<String>, ApiError> {
    match request.parameter(name) {
        None => Ok(None),
        Some(text) if range.contains(&text.chars().count()) => Ok(Some(text.into_owned())),
        Some(text) => Err(ApiError::field(name, &text_of(range), &format!("{text:?}"))),
    }
}

/// Returns the query parameter `room`.
pub fn room(request: &Request) -> Result<String, ApiError> {
    Ok(text(request, "room", &NAME)?.unwrap_or_else(|| DEFAULT_ROOM.into()))
}

/// Returns the query parameter `name`, a whole number in `range`.
pub fn number(request: &Request, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, ApiError> {
    let Some(text) = request.parameter(name) else { return Ok(default) };
    match digits(text.as_bytes()).filter(|number| range.contains(number)) {
        Some(number) => Ok(number),
        None => {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            Err(ApiError::field(name, &expected, &format!("{text:?}")))
        }
    }
}

/// Returns the query parameter `name`, a cursor. `None` if it is absent or empty.
pub fn cursor(request: &Request, name: &str) -> Result<Option<Cursor>, ApiError> {
    request.parameter(name).map_or(Ok(None), |text| parse_cursor(name, &text))
}

/// Returns the cursor of an event stream: the field that a browser sends when it reconnects, or else the query
/// parameter of a client that cannot set fields. If both are there, the field is the newer one. `last_message_id` is
/// the name of this parameter on the other transports.
///
/// Any answer but 200 ends an `EventSource` for good, and the page cannot see why. So an id of something else, such as
/// the application that had this address before, is not an error: it is a cursor that no log continues.
pub fn last_event_id(request: &Request) -> Option<Cursor> {
    let field = request.field("last-event-id").map(lossy);
    let parameters = ["last_event_id", "last_message_id"].map(|name| request.parameter(name));
    let id = iter::once(field).chain(parameters).flatten().find(|id| !id.is_empty())?;
    Some(id.parse().unwrap_or(Cursor::UNKNOWN))
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn parse_cursor(name: &str, text: &str) -> Result<Option<Cursor>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| ApiError::field(name, A_CURSOR, &format!("{text:?}"));
    text.parse().map(Some).map_err(wrong)
}
