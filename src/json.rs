//! JSON texts of a peer (RFC 8259): the value, or an error that says what is wrong.
//!
//! A tree of values takes up to a hundred times the memory of its text. So its size is bounded before it is made.

use std::fmt;
use std::mem;

use serde_json::Value;

/// The most levels of arrays and objects inside one another.
pub const MAX_DEPTH: usize = 32;

/// The most values in a text: each element of an array, each member of an object, and the whole.
pub const MAX_VALUES: usize = 1000;

/// The reason why a text is not a JSON value, or not one that is taken. It reads on after "the content is".
///
/// ```
/// let error = overwire::json::parse(br#"{"text": "\ud83d"}"#).unwrap_err();
/// assert_eq!(
///     format!("the content is {error}"),
///     "the content is JSON with \\ud83d at line 1 column 11, which is half of a character: expected a surrogate pair"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonError {
    /// A byte is not of UTF-8 (RFC 8259, section 8.1).
    NotUtf8(Place),
    /// An escape is one half of a surrogate pair, and the other half is not there (section 8.2). Programs that cut text
    /// between two UTF-16 code units write such an escape.
    LoneSurrogate(String, Place),
    /// An array or object is on a level beyond [`MAX_DEPTH`].
    TooDeep(Place),
    /// There are more values than [`MAX_VALUES`]. This is the place of the first one too many, or of the comma before it.
    TooMany(Place),
    /// The grammar is violated. The text says how and where.
    Syntax(String),
}

/// A byte of a text: its line, and its position there. Both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the line.
    pub line: usize,
    /// The number of the byte in its line.
    pub column: usize,
}

impl Place {
    /// The place of the byte after `front`.
    fn after(front: &[u8]) -> Self {
        let mut lines = front.split(|&byte| byte == b'\n');
        Place { line: lines.clone().count(), column: lines.next_back().map_or(0, <[u8]>::len) + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::NotUtf8(place) => write!(f, "not UTF-8 at {place}: expected JSON in UTF-8"),
            JsonError::LoneSurrogate(escape, place) => {
                write!(f, "JSON with {escape} at {place}, which is half of a character: expected a surrogate pair")
            }
            JsonError::TooDeep(place) => {
                let level = MAX_DEPTH + 1;
                write!(
                    f,
                    "too complex: found level {level} of arrays and objects at {place}, expected {MAX_DEPTH} at most"
                )
            }
            JsonError::TooMany(place) => {
                write!(f, "too complex: found value {} at {place}, expected {MAX_VALUES} at most", MAX_VALUES + 1)
            }
            JsonError::Syntax(error) => write!(f, "not JSON: {error}"),
        }
    }
}

impl std::error::Error for JsonError {}

/// Returns a value as JSON. The `Display` of a value writes the same in many small pieces, and takes twice the time.
///
/// ```
/// assert_eq!(overwire::json::write(&serde_json::json!({ "text": "hello" })), r#"{"text":"hello"}"#);
/// ```
pub fn write(value: &Value) -> String {
    serde_json::to_string(value).expect("all keys of a value are strings")
}

/// The bytes of most objects, which therefore stay where they are while they grow.
const SPACE: usize = 256;

/// An object that is written member by member. It takes a fifth of the time of a tree of values that is made, written and
/// dropped.
///
/// ```
/// use overwire::json::Object;
///
/// let json = Object::new().text("text", "say \"hi\"").number("timestamp", 1.5).end();
/// assert_eq!(json, r#"{"text":"say \"hi\"","timestamp":1.5}"#);
/// ```
#[derive(Debug)]
pub struct Object(Vec<u8>);

impl Object {
    /// Begins an object that has no members yet.
    #[expect(clippy::new_without_default, reason = "an object has to be ended")]
    pub fn new() -> Self {
        Object(Vec::with_capacity(SPACE))
    }

    /// Adds a member. Its name needs no escapes.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.0.reserve(name.len() + value.len() + r#"{"":""}"#.len());
        self.name(name);
        serde_json::to_writer(&mut self.0, value).expect("a Vec takes everything");
        self
    }

    /// Adds a member. Its name needs no escapes. A number that is not finite becomes `null`.
    pub fn number(mut self, name: &str, value: f64) -> Self {
        self.name(name);
        serde_json::to_writer(&mut self.0, &value).expect("a Vec takes everything");
        self
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        for part in ["\"", name, "\":"] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    /// Returns the object.
    pub fn end(mut self) -> String {
        self.0.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        String::from_utf8(self.0).expect("all parts are UTF-8")
    }
}

/// Parses a JSON text. A byte order mark before it is ignored (RFC 8259, section 8.1).
///
/// ```
/// assert_eq!(overwire::json::parse(b"[1, 2]")?[1], 2);
/// # Ok::<(), overwire::json::JsonError>(())
/// ```
///
/// # Errors
/// A [`JsonError`] for anything else, and for a value beyond [`MAX_DEPTH`] or [`MAX_VALUES`].
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let (front, _) = bytes.split_at(error.valid_up_to());
        JsonError::NotUtf8(Place::after(front))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_size(text.as_bytes())?;
    serde_json::from_str(text).map_err(|error| explain(text, &error))
}

/// Counts the levels and the values. As far as the text is JSON, the numbers are exact: no tree is larger.
fn check_size(text: &[u8]) -> Result<(), JsonError> {
    // Each level needs a bracket, each value but the first a bracket or a comma. The usual text has few, even with those
    // in its strings, and to count bytes takes much less time than to find the strings.
    let brackets = count(text, |byte| matches!(byte, b'[' | b'{'));
    let commas = count(text, |byte| byte == b',');
    if brackets <= MAX_DEPTH && brackets + commas < MAX_VALUES {
        return Ok(());
    }
    let (mut depth, mut values, mut is_opened) = (0usize, 1, false);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if !byte.is_ascii_whitespace() {
            let is_first = mem::take(&mut is_opened) && !matches!(byte, b']' | b'}');
            values += usize::from(is_first || byte == b',');
            match byte {
                b'[' | b'{' => (depth, is_opened) = (depth + 1, true),
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'"' => at = end_of_string(text, at),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(JsonError::TooDeep(Place::after(&text[..at])));
            }
            if values > MAX_VALUES {
                return Err(JsonError::TooMany(Place::after(&text[..at])));
            }
        }
        at += 1;
    }
    Ok(())
}

/// The number of bytes that satisfy `is_one`. Sums of single bytes are made by vector instructions, 16 at a time or more.
fn count(text: &[u8], is_one: impl Fn(u8) -> bool) -> usize {
    let in_chunk = |chunk: &[u8]| chunk.iter().fold(0, |sum: u8, &byte| sum + u8::from(is_one(byte)));
    text.chunks(u8::MAX.into()).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// The position of the quotation mark that ends the string which begins at `start`, or the length of the text.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = text.get(at..).and_then(quote_or_escape) {
        match text[at + next] {
            b'"' => return at + next,
            _ => at += next + 2, // the character after a backslash ends nothing
        }
    }
    text.len()
}

/// The position of the first quotation mark or backslash.
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| matches!(byte, b'"' | b'\\'))
}

fn explain(text: &str, error: &serde_json::Error) -> JsonError {
    // The parser stops at the first error: a lone surrogate that it has read is the error.
    let reached = Place { line: error.line(), column: error.column() };
    let lone = lone_surrogate(text.as_bytes()).filter(|_| error.is_syntax());
    match lone.map(|at| (&text[at..at + ESCAPE], Place::after(&text.as_bytes()[..at]))) {
        Some((escape, place)) if place <= reached => JsonError::LoneSurrogate(escape.to_owned(), place),
        _ => JsonError::Syntax(error.to_string()),
    }
}

/// The length of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// The position of the first escape that is one half of a surrogate pair without the other half.
fn lone_surrogate(text: &[u8]) -> Option<usize> {
    let (mut at, mut in_string) = (0, false);
    while let Some(next) = text.get(at..).and_then(quote_or_escape) {
        at += next;
        match (text[at], code_unit(&text[at..])) {
            (b'"', _) => in_string = !in_string,
            (b'\\', Some(0xd800..=0xdbff)) if in_string => match code_unit(&text[at + ESCAPE..]) {
                Some(0xdc00..=0xdfff) => at += 2 * ESCAPE - 1,
                _ => return Some(at),
            },
            (b'\\', Some(0xdc00..=0xdfff)) if in_string => return Some(at),
            (b'\\', _) => at += 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The UTF-16 code unit of the escape at the front of `text`.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &byte| Some(unit << 4 | char::from(byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn the_position_of_a_lone_surrogate_is_reported() {
        for (text, place) in [
            (r#""\ud83d""#, "line 1 column 2"),
            (r#""\uDE00""#, "line 1 column 2"),
            (r#""\ud83dx""#, "line 1 column 2"),
            (r#""\ud83d\n""#, "line 1 column 2"),
            (r#""\ud83d\ud83d\ude00""#, "line 1 column 2"),
            (r#""\ud83d\ude00\ud83d""#, "line 1 column 14"),
            (r#""\ud83d\ude00\ude00""#, "line 1 column 14"),
            ("[\n \"\\\\\\\"\\ud83d\"\n]", "line 2 column 7"),
            (r#"{"\ud83d": 1}"#, "line 1 column 3"),
        ] {
            let error = error(text);
            assert!(error.starts_with("JSON with \\u") && error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_a_lone_surrogate() {
        for text in
            [r#"[x, "\ud83d"]"#, r#"\ud83d"#, r#""\ud83"#, r#""\ud83d"#, r#"["\\ud83d" x]"#, r#"{"a": 1} "\ud83d""#]
        {
            let error = error(text);
            assert!(error.starts_with("not JSON: "), "{text}: {error}");
        }
        assert_eq!(parse(br#""\ud83d\ude00 \u00e9 \\ud83d""#), Ok("\u{1f600} \u{e9} \\ud83d".into()));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a": "#, "}]"), (" [\n", "\t]")] {
            let step = open.matches(['[', '{']).count() - open.matches(']').count();
            assert!(parse(nested(open, close, MAX_DEPTH / step).as_bytes()).is_ok(), "{open}");
            let error = error(&nested(open, close, MAX_DEPTH / step + 1));
            assert!(error.starts_with("too complex: found level 33 "), "{open}: {error}");
        }
        let at = |text: &str| parse(text.as_bytes());
        assert_eq!(at(&"[".repeat(33)), Err(JsonError::TooDeep(Place { line: 1, column: 33 })));
        assert_eq!(at(&"\n[".repeat(33)), Err(JsonError::TooDeep(Place { line: 34, column: 1 })));
        assert!(error(&"[".repeat(32)).starts_with("not JSON: "));
        assert!(at(&format!("[{}]", vec!["[[]]"; 333].join(","))).is_ok(), "closed ones are not levels");
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let list = |item: &str, count| format!("[{}]", vec![item; count].join(", "));
        // The whole is one value, and a member of an object is one.
        for (item, values) in [
            ("1", 1),
            ("[]", 1),
            ("{ }", 1),
            ("[ [\n], {}]", 3),
            (r#"{"a": 1}"#, 2),
            (r#"{"a": [1, true, null]}"#, 5),
            (r#"",,[[{{" "#, 1),
            (r#""\",[\\" "#, 1),
            (r#"{"\\\",": "\\"}"#, 2),
        ] {
            let most = (MAX_VALUES - 1) / values;
            assert!(parse(list(item, most).as_bytes()).is_ok(), "{item}");
            let error = error(&list(item, most + 1));
            assert!(error.starts_with("too complex: found value 1001 "), "{item}: {error}");
        }
        let members: Vec<_> = (0..MAX_VALUES).map(|number| format!(r#""{number}":0"#)).collect();
        assert!(parse(format!("{{{}}}", members[1..].join(",")).as_bytes()).is_ok());
        let place = Place { line: 1, column: 2 * MAX_VALUES - 1 };
        assert_eq!(parse(list("1", MAX_VALUES).replace(' ', "").as_bytes()), Err(JsonError::TooMany(place)));
    }

    #[test]
    fn brackets_and_commas_in_strings_are_not_counted() {
        for string in [r#""[{[{,""#, r#""\"[""#, r#""\\""#, r#""\\\"[""#, r#""\u005b""#] {
            let text = format!("[{string}, {:?}]", "[,".repeat(100_000));
            assert_eq!(parse(text.as_bytes()).expect(string)[0], parse(string.as_bytes()).unwrap());
        }
        for text in [r#"""#, r#""\"#, r#"["a\"#, r#"["a\""#, r#"\"#, r#""\u"#, r#""\ud83d"#] {
            assert!(error(text).starts_with("not JSON: "), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_ignored_and_other_encodings_are_named() {
        assert_eq!(parse("\u{feff}[]".as_bytes()), Ok(Value::Array(vec![])));
        assert!(error("[\u{feff}]").starts_with("not JSON: "));
        let latin_1 = parse(b"[\n\"\xe9\"]").unwrap_err();
        assert_eq!(latin_1.to_string(), "not UTF-8 at line 2 column 2: expected JSON in UTF-8");
        let utf_16 = parse(b"\xff\xfe{\0}\0").unwrap_err();
        assert_eq!(utf_16, JsonError::NotUtf8(Place { line: 1, column: 1 }));
    }
}
