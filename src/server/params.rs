//! What a request asks for: JSON fields and query parameters, checked. What is wrong is a 400 that
//! names the field, says what was expected, and shows what came. Unknown fields are ignored.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::feed::Cursor;
use crate::http::{Request, Response};

/// An error answer: a status and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status code.
    pub status: u16,
    /// What was wrong, and what was expected.
    pub sentence: String,
}

impl ApiError {
    /// 400 with this sentence.
    pub fn bad(sentence: impl Into<String>) -> Self {
        ApiError { status: 400, sentence: sentence.into() }
    }

    /// 404 with this sentence.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        ApiError { status: 404, sentence: sentence.into() }
    }

    /// 503: the server is full of something.
    pub fn full(of: &str) -> Self {
        ApiError { status: 503, sentence: format!("the server has too many {of} at the moment: try again later") }
    }

    fn field(name: &str, expected: &str, came: &str) -> Self {
        ApiError::bad(format!("{name}: expected {expected}, not {}", shorten(came)))
    }

    /// The answer.
    pub fn response(&self) -> Response {
        let response = Response::error(self.status, &self.sentence);
        if self.status == 503 { response.with_field("Retry-After", "5") } else { response }
    }
}

/// What came, short enough to be shown.
fn shorten(came: &str) -> String {
    const LONGEST: usize = 60;
    match came.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &came[..end]),
        None => came.to_owned(),
    }
}

/// How long a name may be: of a sender, a room, a client. In characters.
pub const NAME: RangeInclusive<usize> = 1..=64;

/// How long a client's or a connection's id may be, in characters.
pub const ID: RangeInclusive<usize> = 1..=128;

/// How long the key of something that is sent may be, in characters: a UUID fits.
pub const KEY: RangeInclusive<usize> = 1..=64;

/// How long a text may be, in characters.
pub const TEXT: RangeInclusive<usize> = 1..=65_536;

const A_CURSOR: &str = "the id of a message (a UUID of version 8)";

/// The JSON object of a content or a message. No content at all is an empty object.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses `bytes`.
    ///
    /// # Errors
    /// When they are not JSON, or not an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Fields(Map::new()));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(other) => Err(ApiError::bad(format!("expected a JSON object, not {}", shorten(&other.to_string())))),
            Err(error) => Err(ApiError::bad(format!("the content is not JSON: {error}"))),
        }
    }

    /// A string of a length in `range`, in characters; `None` if it is absent or null.
    pub fn optional(&self, name: &str, range: &RangeInclusive<usize>) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if range.contains(&text.chars().count()) => Ok(Some(text)),
            Some(other) => Err(ApiError::field(name, &text_of(range), &other.to_string())),
        }
    }

    /// The same, required.
    pub fn required(&self, name: &str, range: &RangeInclusive<usize>) -> Result<&str, ApiError> {
        self.optional(name, range)?.ok_or_else(|| missing(name, range))
    }

    /// The name of a sender or a room: [`NAME`] characters, NUL not among them, because no query
    /// could name it.
    pub fn name(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.optional(name, &NAME)? {
            Some(text) if text.contains('\0') => {
                Err(ApiError::field(name, "a string without NUL", &format!("{text:?}")))
            }
            text => Ok(text),
        }
    }

    /// A cursor; `None` if it is absent or null.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => parse_cursor(name, text),
            Some(other) => Err(ApiError::field(name, A_CURSOR, &other.to_string())),
        }
    }
}

/// The error for a field or a parameter that is required.
pub fn missing(name: &str, range: &RangeInclusive<usize>) -> ApiError {
    ApiError::bad(format!("{name}: expected {}, but it is missing", text_of(range)))
}

fn text_of(range: &RangeInclusive<usize>) -> String {
    format!("a string of {} to {} characters", range.start(), range.end())
}

/// The query parameter `name`, a string of a length in `range`; `None` if it is absent.
pub fn text(request: &Request, name: &str, range: &RangeInclusive<usize>) -> Result<Option<String>, ApiError> {
    match request.parameter(name) {
        None => Ok(None),
        Some(text) if range.contains(&text.chars().count()) => Ok(Some(text.into_owned())),
        Some(text) => Err(ApiError::field(name, &text_of(range), &format!("{text:?}"))),
    }
}

/// The query parameter `name`, a whole number in `range`.
pub fn number(request: &Request, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, ApiError> {
    let Some(text) = request.parameter(name) else { return Ok(default) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        _ => {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            Err(ApiError::field(name, &expected, &format!("{text:?}")))
        }
    }
}

/// The query parameter `name`, a cursor; `None` if it is absent or empty.
pub fn cursor(request: &Request, name: &str) -> Result<Option<Cursor>, ApiError> {
    request.parameter(name).map_or(Ok(None), |text| parse_cursor(name, &text))
}

/// Where an event stream resumes: the field that a browser sends when it reconnects, or the
/// query parameter of a client that cannot set fields. The field is the newer of the two.
pub fn last_event_id(request: &Request) -> Result<Option<Cursor>, ApiError> {
    match request.field("last-event-id") {
        Some(id) => parse_cursor("Last-Event-ID", &String::from_utf8_lossy(id)),
        None => cursor(request, "last_event_id"),
    }
}

fn parse_cursor(name: &str, text: &str) -> Result<Option<Cursor>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| ApiError::field(name, A_CURSOR, &format!("{text:?}"));
    text.parse().map(Some).map_err(wrong)
}
