//! Server-sent events: a writer and a reader of the `text/event-stream` format (WHATWG HTML, section 9.2). No sockets,
//! no clock.

use std::mem;
use std::time::Duration;

use crate::bytes::digits;
use crate::http::Response;

/// Creates the head of a response that is an event stream. Its fields forbid caches to store the stream and proxies to
/// buffer it.
///
/// ```
/// assert_eq!(overwire::sse::stream_head().status(), 200);
/// ```
#[doc(alias = "header")]
pub fn stream_head() -> Response {
    Response::new(200)
        .with_field("Content-Type", "text/event-stream")
        .with_field("Cache-Control", "no-store")
        .with_field("X-Accel-Buffering", "no")
}

/// Encodes one event. A line end in a field would end the field, so each line of `data` gets a field. The lines may end
/// with CRLF, LF or CR, and the reader joins them with LF. The characters CR, LF and NUL of `id` and `name` are left
/// out.
///
/// ```
/// let event = overwire::sse::event(Some("7"), "message", "two\r\nlines");
/// assert_eq!(event, b"id: 7\nevent: message\ndata: two\ndata: lines\n\n");
/// ```
// ANCHOR: event
pub fn event(id: Option<&str>, name: &str, data: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 96);
    if let Some(id) = id {
        field(&mut out, "id", id);
    }
    field(&mut out, "event", name);
    for line in lines(data) {
        field(&mut out, "data", line);
    }
    out.push(b'\n');
    out
}
// ANCHOR_END: event

/// Encodes the first event of a stream: the `id` after which the stream begins, and the time that a client waits before
/// it reconnects. A client that loses the connection before the next event resumes after this id. The event has `data`,
/// because not all clients remember the id of an event that they do not dispatch.
///
/// ```
/// let opening = overwire::sse::opening("41", std::time::Duration::from_secs(2), "connected", "{}");
/// assert_eq!(opening, b"id: 41\nretry: 2000\nevent: connected\ndata: {}\n\n");
/// ```
pub fn opening(id: &str, retry: Duration, name: &str, data: &str) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, "id", id);
    field(&mut out, "retry", &retry.as_millis().to_string());
    out.extend(event(None, name, data));
    out
}

/// Encodes the time that a client waits before it reconnects, without an event. Clients take it in at once, so it may be
/// the last thing on a stream.
///
/// ```
/// assert_eq!(overwire::sse::retry(std::time::Duration::from_millis(1500)), b"retry: 1500\n\n");
/// ```
pub fn retry(time: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, "retry", &time.as_millis().to_string());
    out.push(b'\n');
    out
}

/// Encodes a comment. Clients ignore it, but it shows that the connection is alive.
///
/// ```
/// assert_eq!(overwire::sse::comment("still here"), b": still here\n\n");
/// ```
pub fn comment(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines(text) {
        field(&mut out, "", line);
    }
    out.push(b'\n');
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    match name {
        "data" => out.extend_from_slice(value.as_bytes()), // one line, which may contain NUL
        _ => out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0))),
    }
    out.push(b'\n');
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The lines of `text`, which end with CRLF, LF or CR. (`str::lines` does not end a line at a lone CR.)
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.bytes().position(is_line_end) else {
            return rest.take();
        };
        let ending = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + ending..]);
        Some(&text[..end])
    })
}

/// Splits a line that is not empty into the name and the value of its field. The first colon separates them, and one
/// space after it belongs to neither. The name of a comment is empty (section 9.2.6).
///
/// ```
/// assert_eq!(overwire::sse::split_field("data:  two"), ("data", " two"));
/// assert_eq!(overwire::sse::split_field(": a comment"), ("", "a comment"));
/// ```
pub fn split_field(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name, value.strip_prefix(' ').unwrap_or(value))
}

/// An event as a client dispatches it.
///
/// ```
/// let events = overwire::sse::Reader::default().read(b"event: tick\ndata: 1\n\n");
/// assert_eq!((&*events[0].id, &*events[0].name, &*events[0].data), ("", "tick", "1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The last event ID when this event was dispatched. A client that reconnects sends it as `Last-Event-ID`.
    pub id: String,
    /// The event type, or `message` if the event has none.
    pub name: String,
    /// The lines of the data, joined by LF.
    pub data: String,
}

/// A reader of an event stream, whose bytes may arrive in pieces (section 9.2.6, "Interpreting an event stream").
///
/// ```
/// use overwire::sse::{Event, Reader};
///
/// let mut reader = Reader::default();
/// assert_eq!(reader.read(b"id: 7\ndata: he"), []);
/// let event = Event { id: "7".into(), name: "message".into(), data: "hello".into() };
/// assert_eq!(reader.read(b"llo\n\n"), [event]);
/// assert_eq!(reader.last_event_id(), "7");
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    /// The last byte was a CR: an LF after it belongs to the same line end.
    after_cr: bool,
    /// The first line has been read. Only that line may begin with a byte order mark.
    begun: bool,
    data: String,
    name: String,
    /// The last `id` field. It takes effect when its event ends.
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Reader {
    /// Reads `input` and returns the events that it completes. Keeps the rest, and the memory of the longest line. A
    /// line has no limit here: the caller limits the bytes that it passes.
    pub fn read(&mut self, mut input: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(&first) = input.first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                input = &input[1..];
                continue;
            }
            let end = input.iter().position(|byte| is_line_end(*byte));
            self.line.extend_from_slice(&input[..end.unwrap_or(input.len())]);
            let Some(end) = end else { break };
            self.after_cr = input[end] == b'\r';
            events.extend(self.end_line());
            input = &input[end + 1..];
        }
        events
    }

    /// Returns the last event ID, which a client sends as `Last-Event-ID` when it reconnects.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Drops the incomplete event, for a new connection.
    pub fn reconnect(&mut self) {
        let last_event_id = mem::take(&mut self.last_event_id);
        *self = Reader { id: last_event_id.clone(), last_event_id, retry: self.retry, ..Reader::default() };
    }

    /// Returns the reconnection time that the stream last asked for.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_line(&mut self) -> Option<Event> {
        let mut bytes = mem::take(&mut self.line);
        let event = self.interpret(&String::from_utf8_lossy(&bytes));
        bytes.clear();
        self.line = bytes; // keeps the memory for the next line
        event
    }

    // ANCHOR: interpret
    fn interpret(&mut self, text: &str) -> Option<Event> {
        let line = if self.begun { text } else { text.strip_prefix('\u{feff}').unwrap_or(text) };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = split_field(line);
        match name {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => self.name = value.to_owned(),
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            "retry" => self.retry = digits(value.as_bytes()).map(Duration::from_millis).or(self.retry),
            _ => {} // a comment (its name is empty), or an unknown field
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let (mut data, name) = (mem::take(&mut self.data), mem::take(&mut self.name));
        self.last_event_id.clone_from(&self.id);
        data.pop()?; // removes the last LF. Without a `data` field there is no event
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event { id: self.id.clone(), name, data })
    }
    // ANCHOR_END: interpret
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `stream` whole and byte by byte. Both must agree.
    fn read(stream: &[u8]) -> Vec<Event> {
        let whole = Reader::default().read(stream);
        let mut reader = Reader::default();
        let bytewise: Vec<_> = stream.iter().flat_map(|byte| reader.read(&[*byte])).collect();
        assert_eq!(bytewise, whole);
        whole
    }

    fn expect(id: &str, name: &str, data: &str) -> Event {
        Event { id: id.into(), name: name.into(), data: data.into() }
    }

    #[test]
    fn each_line_end_in_data_is_read_as_lf() {
        for data in ["a\nb", "a\r\nb", "a\rb"] {
            assert_eq!(read(&event(None, "message", data)), [expect("", "message", "a\nb")], "{data:?}");
        }
        assert_eq!(read(&event(None, "message", "\n\r\r\n")), [expect("", "message", "\n\n\n")]);
        assert_eq!(read(&event(None, "message", "")), [expect("", "message", "")]);
        assert_eq!(read(&event(None, "message", ": x\0 y")), [expect("", "message", ": x\0 y")]);
    }

    #[test]
    fn ids_and_names_cannot_add_lines() {
        let bytes = event(Some("1\ndata: x\0"), "a\r\nb", "c");
        assert_eq!(bytes, b"id: 1data: x\nevent: ab\ndata: c\n\n");
    }

    #[test]
    fn examples_of_the_standard_hold() {
        assert_eq!(read(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [expect("", "message", "YHOO\n+2\n10")]);
        let stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n";
        assert_eq!(read(stream), [expect("1", "message", "first event"), expect("", "message", "second event")]);
        assert_eq!(read(b"data\n\ndata\ndata\n\ndata:"), [expect("", "message", ""), expect("", "message", "\n")]);
        assert_eq!(read(b"data:test\n\ndata: test\n\n"), vec![expect("", "message", "test"); 2]);
    }

    #[test]
    fn incomplete_events_are_dropped() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(b"id: 1\n\nid: 2\ndata: cut").len(), 0);
        assert_eq!(reader.last_event_id(), "1");
        reader.reconnect();
        assert_eq!(reader.read(b"data: b\n\n"), [expect("1", "message", "b")]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        assert_eq!(read("\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes()), [expect("", "message", "a")]);
    }

    #[test]
    fn retry_is_digits_only() {
        let mut reader = Reader::default();
        assert_eq!(reader.read(b"id: 7\nretry: 1500\n\n"), []);
        assert_eq!(reader.last_event_id(), "7");
        reader.read(b"retry: +5\nretry: 5s\nretry:\n\n");
        assert_eq!(reader.retry(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn an_opening_is_an_event_with_a_reconnection_time() {
        let opening = opening("7", Duration::from_millis(1500), "connected", "{}");
        assert_eq!(read(&opening), [expect("7", "connected", "{}")]);
        let mut reader = Reader::default();
        reader.read(&opening);
        assert_eq!((reader.last_event_id(), reader.retry()), ("7", Some(Duration::from_millis(1500))));
    }

    #[test]
    fn comments_are_not_events() {
        assert_eq!(comment("still\nhere"), b": still\n: here\n\n");
        assert_eq!(read(&comment("still\nhere")), []);
    }
}
