//! The request log: one line a request, written when its answer is complete.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::http::{SECRET_PARAMETERS, decode_component, format_date, format_timestamp};
use crate::output::Output;

/// The form of the lines of the request log.
///
/// ```
/// # use overwire::{EventLoop, Limits};
/// use overwire::LogFormat;
///
/// let mut server = EventLoop::bind("127.0.0.1:0", Limits::default())?;
/// server.log_requests(std::io::stderr(), LogFormat::Json);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line to read: time, client, method, target, status, bytes of the answer, duration.
    Text,
    /// A JSON object with these members, and with the identity of the client and the reason of an end that the program
    /// did not ask for. `null` stands for what is not known. `time` is that of RFC 3339, `duration` is in seconds.
    Json,
}

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
    /// The name of the identity that has sent it.
    pub identity: Option<Box<str>>,
    /// Why it has ended, if the program has not ended it.
    pub end: Option<&'static str>,
}

impl Entry {
    /// Creates the entry of a new request of `client`, `-` if it is not known. Its connection has queued `sent_before` bytes so far.
    pub fn new(client: String, method: &str, target: &str, began: Instant, sent_before: u64) -> Self {
        let target = encode(&mask_secrets(target));
        Entry { client, method: method.into(), target, began, sent_before, status: 0, identity: None, end: None }
    }

    /// The line of a request that is over, for a person.
    fn text(&self, time: Duration, duration: Duration, bytes: u64) -> String {
        let status = if self.status == 0 { "-".to_owned() } else { self.status.to_string() };
        let (client, method, target) = (&self.client, &self.method, &self.target);
        let (date, milliseconds) = (format_date(time.as_secs()), duration.as_secs_f64() * 1000.0);
        format!("{date} {client} {method} {target} {status} {bytes} B {milliseconds:.1} ms\n")
    }

    /// The same for a program. The members are in the order of the text.
    fn json(&self, time: Duration, duration: Duration, bytes: u64) -> String {
        let known = |text: &str| if text == "-" { "null".to_owned() } else { quote(text) };
        let status = if self.status == 0 { "null".to_owned() } else { self.status.to_string() };
        let members = [
            ("time", quote(&format_timestamp(time))),
            ("client", known(&self.client)),
            ("identity", self.identity.as_deref().map_or("null".to_owned(), quote)),
            ("method", known(&self.method)),
            ("target", known(&self.target)),
            ("status", status),
            ("bytes", bytes.to_string()),
            ("duration", format!("{:.6}", duration.as_secs_f64())),
            ("end", self.end.map_or("null".to_owned(), quote)),
        ];
        format!("{{{}}}\n", members.map(|(name, value)| format!("\"{name}\":{value}")).join(","))
    }
}

/// Replaces the values of secret parameters by `***`: a log is read by more people than those who may use them.
fn mask_secrets(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    let secret = |pair: &str| {
        let name = decode_component(pair.split('=').next().unwrap_or_default(), true)?;
        SECRET_PARAMETERS.into_iter().find(|secret| *secret == name)
    };
    if !query.split('&').any(|pair| secret(pair).is_some()) {
        return Cow::Borrowed(target);
    }
    let mask = |pair| secret(pair).map_or(Cow::Borrowed(pair), |name| format!("{name}=***").into());
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

/// Returns a JSON string. The characters that [`encode`] would hide are escaped, but letters of all languages stay.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for character in Value::from(text).to_string().chars() {
        match character {
            '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => _ = write!(quoted, "\\u{:04x}", u32::from(character)),
            _ => quoted.push(character),
        }
    }
    quoted
}

/// The destination of the lines. When it is dropped, those that are queued get a second to be written.
pub struct AccessLog {
    output: Output,
    format: LogFormat,
}

impl AccessLog {
    /// Creates a log that writes to `output`.
    pub fn new(output: Output, format: LogFormat) -> Self {
        if format == LogFormat::Json {
            output.report_as_json();
        }
        AccessLog { output, format }
    }

    /// Writes the line of a request whose answer is complete. Its connection has queued `sent` bytes so far. A status
    /// of `-` or `null` means that the peer hung up before the answer.
    pub fn write(&mut self, entry: &Entry, now: Instant, sent: u64) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (duration, bytes) = (now.duration_since(entry.began), sent - entry.sent_before);
        self.output.write(&match self.format {
            LogFormat::Text => entry.text(time, duration, bytes),
            LogFormat::Json => entry.json(time, duration, bytes),
        });
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
    fn secret_parameters_are_masked() {
        for (target, masked) in [
            ("/a?ticket=secret", "/a?ticket=***"),
            ("/a?b=1&%74icket=secret&ticket=other&c", "/a?b=1&ticket=***&ticket=***&c"),
            ("/a?access_token=secret&b", "/a?access_token=***&b"),
            ("/a?tickets=1&b=ticket=2", "/a?tickets=1&b=ticket=2"),
            ("/ticket=1", "/ticket=1"),
        ] {
            assert_eq!(mask_secrets(target), masked);
        }
    }

    #[test]
    fn json_escapes_what_a_terminal_would_obey_and_leaves_letters() {
        for (text, quoted) in [
            ("\u{202e}\u{2066}\u{200f}\u{61c}", r#""\u202e\u2066\u200f\u061c""#),
            ("a\nb\u{2028}\u{2029}\u{85}\u{9b}\u{7f}\u{1b}", r#""a\nb\u2028\u2029\u0085\u009b\u007f\u001b""#),
            ("Zoë \"和\"\u{feff}", r#""Zoë \"和\"\ufeff""#),
        ] {
            assert_eq!(quote(text), quoted);
            assert_eq!(serde_json::from_str::<String>(quoted).unwrap(), text);
        }
    }

    #[test]
    fn a_line_of_json_has_null_for_what_is_not_known() {
        let entry = Entry::new("-".into(), "-", "-", Instant::now(), 0);
        let line = entry.json(Duration::from_millis(784_111_777_250), Duration::from_micros(1500), 7);
        let unknown = r#""client":null,"identity":null,"method":null,"target":null,"status":null"#;
        let expected = format!(
            "{{\"time\":\"1994-11-06T08:49:37.250Z\",{unknown},\"bytes\":7,\"duration\":0.001500,\"end\":null}}\n"
        );
        assert_eq!(line, expected);
    }
}
