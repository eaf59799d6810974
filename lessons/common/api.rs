//! What the lessons' small APIs have in common: reading the parameters and the content of a request, with an
//! error that says what was expected, and answers that no cache may keep.

use std::ops::RangeInclusive;

use overwire::feed::Cursor;
use overwire::http::{Method, Request, Response};
use serde_json::{Value, json};

/// How long a message may be, in characters.
const LONGEST: usize = 1000;

/// The text of a new message: `{"message": "..."}`.
pub fn text(content: &[u8]) -> Result<String, String> {
    let content: Value =
        serde_json::from_slice(content).map_err(|error| format!("the content is not JSON: {error}"))?;
    match content.get("message") {
        Some(Value::String(text)) if (1..=LONGEST).contains(&text.chars().count()) => Ok(text.clone()),
        Some(Value::String(_)) => Err(format!("message: expected 1 to {LONGEST} characters")),
        Some(_) => Err("message: expected a string".into()),
        None => Err("message: it is missing; expected {\"message\": \"...\"}".into()),
    }
}

/// A cursor among the parameters. An empty one is none.
pub fn cursor(request: &Request, name: &str) -> Result<Option<Cursor>, String> {
    let wrong = |id: &str| format!("{name}: expected the id of a message, not {id:?}");
    match request.parameter(name).as_deref() {
        None | Some("") => Ok(None),
        Some(id) => id.parse().map(Some).map_err(|_| wrong(id)),
    }
}

/// A whole number among the parameters. Digits only: `parse` alone would take `+5`.
pub fn number(request: &Request, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
    let Some(text) = request.parameter(name) else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|number| digits && range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{name}: expected a whole number from {} to {}, not {text:?}", range.start(), range.end())),
    }
}

/// An answer that is true only now: no cache may keep it (RFC 9111, section 5.2.2.5).
pub fn uncached(value: &Value) -> Response {
    Response::json(200, value).with_field("Cache-Control", "no-store")
}

/// The answer to a POST that added a message.
pub fn added(id: Cursor) -> Response {
    uncached(&json!({ "status": "Message added", "id": id.to_string() }))
}

/// The answer to a method that a path does not have.
pub fn not_allowed(method: Method, allowed: &str) -> Response {
    Response::error(405, &format!("{method} is not allowed here: expected {allowed}")).with_field("Allow", allowed)
}

// ANCHOR: is_foreign
/// Whether the page of another site asks. A browser sends `Origin` with each WebSocket handshake, and
/// a page cannot forge it; without one, this is no browser. `null`, a page that hides its origin,
/// is foreign.
pub fn is_foreign(request: &Request) -> bool {
    request.values("origin").any(|origin| {
        let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        host.zip(request.host()).is_none_or(|(host, own)| !host.eq_ignore_ascii_case(own.as_bytes()))
    })
}
// ANCHOR_END: is_foreign
