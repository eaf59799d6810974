//! The request log: one line a request, written when its answer is complete.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::http::{decode_component, format_date};
use crate::output::Output;

/// A request that is being answered.
#[derive(Debug)]
pub struct Entry {
    client: String,
    method: String,
    target: String,
    began: Instant,
    sent_before: u64,
    /// The status code of the answer. 0 before the answer begins.
    pub status: u16,
}

impl Entry {
    /// Creates the entry of a new request of `client`, `-` if it is not known. Its connection has queued `sent_before` bytes so far.
    pub fn new(client: String, method: &str, target: &str, began: Instant, sent_before: u64) -> Self {
        let target = encode(&mask_ticket(target));
        Entry { client, method: method.into(), target, began, sent_before, status: 0 }
    }
}

/// Replaces the value of the parameter `ticket` by `***`. It is a secret for some seconds, and a log is read by more
/// people than those who may use it.
fn mask_ticket(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    let is_ticket = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        decode_component(name, true).is_some_and(|name| name == "ticket")
    };
    if !query.split('&').any(is_ticket) {
        return Cow::Borrowed(target);
    }
    let mask = |pair| if is_ticket(pair) { "ticket=***" } else { pair };
    Cow::Owned(format!("{path}?{}", query.split('&').map(mask).collect::<Vec<_>>().join("&")))
}

/// Percent-encodes all bytes but visible ASCII, as a browser does (RFC 3986, section 2.1). A terminal obeys control
/// characters, and Unicode has line ends, and characters that change the direction of the text around them.
fn encode(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    for byte in target.bytes() {
        match byte {
            b'!'..=b'~' => encoded.push(byte.into()),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// The destination of the lines. When it is dropped, those that are queued get a second to be written.
pub struct AccessLog {
    output: Output,
}

impl AccessLog {
    /// Creates a log that writes to `output`.
    pub fn new(output: Output) -> Self {
        AccessLog { output }
    }

    /// Writes the line of a request whose answer is complete. Its connection has queued `sent` bytes so far. A status
    /// of `-` means that the peer hung up before the answer.
    pub fn write(&mut self, entry: &Entry, now: Instant, sent: u64) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let status = if entry.status == 0 { "-".to_owned() } else { entry.status.to_string() };
        let milliseconds = now.duration_since(entry.began).as_secs_f64() * 1000.0;
        let (client, method, target, bytes) = (&entry.client, &entry.method, &entry.target, sent - entry.sent_before);
        let date = format_date(seconds);
        self.output.write(&format!("{date} {client} {method} {target} {status} {bytes} B {milliseconds:.1} ms\n"));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.output.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_masked() {
        for (target, masked) in [
            ("/a?ticket=secret", "/a?ticket=***"),
            ("/a?b=1&%74icket=secret&ticket=other&c", "/a?b=1&ticket=***&ticket=***&c"),
            ("/a?tickets=1&b=ticket=2", "/a?tickets=1&b=ticket=2"),
            ("/ticket=1", "/ticket=1"),
        ] {
            assert_eq!(mask_ticket(target), masked);
        }
    }
}
