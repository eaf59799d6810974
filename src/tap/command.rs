//! The commands of a viewer: JSON objects that name a fault.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::faults::Strike;
use crate::json;

/// The length of the name of a fault, and of a label, in characters.
const NAME: RangeInclusive<usize> = 1..=32;

/// The most characters of a wrong value that its error repeats.
const LONGEST_SHOWN: usize = 60;

/// The largest value of each fault.
const MAX_DELAY: u64 = 60_000; // milliseconds
const MAX_BUFFER: u64 = 65_536; // bytes
const MAX_RATE: u64 = 1_000_000; // bytes a second
const MAX_DOWN: u64 = 60; // seconds

/// A command of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Sets a fault of this label.
    Switch(Rc<str>, Switch),
    /// Strikes the exchanges of this label once.
    Strike(Rc<str>, Strike),
    /// Takes the target away for this time.
    Down(Duration),
}

/// A fault with its new value. 0 switches it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Switch {
    Delay(Duration),
    Buffer(usize),
    Rate(u32),
    BadGateway(bool),
}

/// Parses a command.
///
/// # Errors
/// A sentence that names the field, the expected value and the value.
pub fn parse(text: &str) -> Result<Command, String> {
    let fields: Map<String, Value> = match json::parse(text.as_bytes()) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => return Err(format!("expected a JSON object, not {}", shorten(&other))),
        Err(error) => return Err(format!("the message is {error}")),
    };
    let fault = name(&fields, "fault")?;
    let value = |range| whole_number(&fields, range);
    if fault == "down" {
        return Ok(Command::Down(Duration::from_secs(value(1..=MAX_DOWN)?)));
    }
    let label = name(&fields, "label")?;
    if !is_label(label) {
        return Err(format!("label: expected letters, digits, - and _, not {label:?}"));
    }
    if let Some(strike) = Strike::ALL.into_iter().find(|strike| strike.name() == fault) {
        return Ok(Command::Strike(label.into(), strike));
    }
    let switch = match fault {
        "delay" => Switch::Delay(Duration::from_millis(value(0..=MAX_DELAY)?)),
        "buffer" => Switch::Buffer(value(0..=MAX_BUFFER)? as usize),
        "slow" => Switch::Rate(value(0..=MAX_RATE)? as u32),
        "502" => Switch::BadGateway(value(0..=1)? == 1),
        _ => {
            return Err(format!(
                "fault: expected delay, buffer, slow, 502, drop, cut, half-open or down, not {fault:?}"
            ));
        }
    };
    Ok(Command::Switch(label.into(), switch))
}

/// Whether `text` can be a label: 1 to 32 letters, digits, `-` and `_`.
pub fn is_label(text: &str) -> bool {
    NAME.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn name<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<&'a str, String> {
    let expected = format!("{field}: expected a string of {} to {} characters", NAME.start(), NAME.end());
    match fields.get(field) {
        None | Some(Value::Null) => Err(format!("{expected}, but it is missing")),
        Some(Value::String(text)) if NAME.contains(&text.chars().count()) => Ok(text),
        Some(other) => Err(format!("{expected}, not {}", shorten(other))),
    }
}

fn whole_number(fields: &Map<String, Value>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let expected = format!("value: expected a whole number from {} to {}", range.start(), range.end());
    match fields.get("value") {
        None => Err(format!("{expected}, but it is missing")),
        Some(value) => {
            let number = value.as_u64().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("{expected}, not {}", shorten(value)))
        }
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed() {
        let switch = |switch| Ok(Command::Switch("a".into(), switch));
        for (text, expected) in [
            (r#"{"label":"a","fault":"delay","value":60000}"#, switch(Switch::Delay(Duration::from_secs(60)))),
            (r#"{"label":"a","fault":"buffer","value":65536}"#, switch(Switch::Buffer(65_536))),
            (r#"{"label":"a","fault":"slow","value":0}"#, switch(Switch::Rate(0))),
            (r#"{"label":"a","fault":"502","value":1}"#, switch(Switch::BadGateway(true))),
            (r#"{"label":"a","fault":"half-open"}"#, Ok(Command::Strike("a".into(), Strike::HalfOpen))),
            (r#"{"fault":"down","value":60}"#, Ok(Command::Down(Duration::from_secs(60)))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        for (text, expected) in [
            ("[]", "expected a JSON object, not []"),
            (r#"{"fault":1}"#, "fault: expected a string of 1 to 32 characters, not 1"),
            (r#"{"fault":"down"}"#, "value: expected a whole number from 1 to 60, but it is missing"),
            (r#"{"fault":"down","value":61}"#, "value: expected a whole number from 1 to 60, not 61"),
            (r#"{"fault":"cut"}"#, "label: expected a string of 1 to 32 characters, but it is missing"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
        let long = format!(r#"{{"fault":"{}"}}"#, "x".repeat(100));
        let shown = format!(r#"fault: expected a string of 1 to 32 characters, not "{}..."#, "x".repeat(59));
        assert_eq!(parse(&long), Err(shown));
    }
}
