//! Shared parts of the lessons' small APIs: readers of parameters and content whose errors say what was expected,
//! and responses that no cache may store.

use std::ops::RangeInclusive;

use overwire::bytes::digits;
use overwire::feed::Cursor;
use overwire::http::{Method, Request, Response};
use serde_json::{Value, json};

/// The longest message, in characters.
const LONGEST: usize = 1000;

/// Reads the text of a new message: `{"message": "..."}`.
pub fn text(content: &[u8]) -> Result<String, String> {
    let content = overwire::json::parse(content).map_err(|error| format!("the content is {error}"))?;
    match content.get("message") {
        Some(Value::String(text)) if (1..=LONGEST).contains(&text.chars().count()) => Ok(text.clone()),
        Some(Value::String(_)) => Err(format!("message: expected 1 to {LONGEST} characters")),
        Some(_) => Err("message: expected a string".into()),
        None => Err("message: it is missing; expected {\"message\": \"...\"}".into()),
    }
}

/// Reads a parameter that is a cursor. An empty one counts as absent.
pub fn cursor(request: &Request, name: &str) -> Result<Option<Cursor>, String> {
    let wrong = |id: &str| format!("{name}: expected the id of a message, not {id:?}");
    match request.parameter(name).as_deref() {
        None | Some("") => Ok(None),
        Some(id) => id.parse().map(Some).map_err(|_| wrong(id)),
    }
}

/// Reads a parameter that is a whole number.
pub fn number(request: &Request, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
    let Some(text) = request.parameter(name) else { return Ok(None) };
    match digits(text.as_bytes()).filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{name}: expected a whole number from {} to {}, not {text:?}", range.start(), range.end())),
    }
}

/// A response that no cache may store (RFC 9111, section 5.2.2.5): it is true only now.
pub fn uncached(value: &Value) -> Response {
    Response::json(200, value).with_field("Cache-Control", "no-store")
}

/// The response to a POST that added a message.
pub fn added(id: Cursor) -> Response {
    uncached(&json!({ "status": "Message added", "id": id.to_string() }))
}

/// The response to a method that a path does not allow.
pub fn not_allowed(method: Method, allowed: &str) -> Response {
    Response::error(405, &format!("{method} is not allowed here: expected {allowed}")).with_field("Allow", allowed)
}

// ANCHOR: is_foreign
/// Whether the request comes from a page of another site. A browser sends `Origin` with each WebSocket handshake,
/// and a page cannot forge it. A request without `Origin` does not come from a browser. `null`, the origin of a
/// page that hides it, is foreign.
pub fn is_foreign(request: &Request) -> bool {
    request.values("origin").any(|origin| !request.is_own_origin(origin))
}
// ANCHOR_END: is_foreign
