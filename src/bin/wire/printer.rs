//! The columns of the output: time, direction, name, bytes, meaning. All text of a peer is escaped, because terminals
//! execute control characters.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use overwire::output::is_harmless;

/// The width of the column of names.
const NAME: usize = 13;

/// The number of payload bytes in a row, and the width of their hex digits.
pub const ROW: usize = 16;
const HEX: usize = 3 * ROW - 1;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// The direction of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Sent,
    Received,
}

impl Way {
    fn mark(self) -> (&'static str, &'static str) {
        match self {
            Way::Sent => (">", "\x1b[36m"),
            Way::Received => ("<", "\x1b[32m"),
        }
    }
}

pub struct Printer {
    start: Instant,
    colours: bool,
    /// Whether rows and remarks are left out.
    pub is_muted: bool,
    /// The direction and the name of the row above: a name is not repeated.
    above: Option<(Way, &'static str)>,
}

impl Printer {
    pub fn new(is_muted: bool) -> Self {
        Printer { start: Instant::now(), colours: wants_colours(), is_muted, above: None }
    }

    /// Prints a row. `bytes` and `meaning` have no control characters.
    pub fn row(&mut self, way: Way, name: &'static str, bytes: &str, meaning: &str) -> io::Result<()> {
        let shown = if self.above == Some((way, name)) { "" } else { name };
        self.above = Some((way, name));
        let (mark, colour) = way.mark();
        let bytes = if meaning.is_empty() { bytes.to_owned() } else { format!("{bytes:<HEX$}") };
        let name = self.paint(DIM, &format!("{shown:<NAME$}"));
        let line = format!("{} {name}  {bytes}  {}", self.paint(colour, mark), self.paint(colour, meaning));
        self.line(&line)
    }

    /// Prints a remark of the program.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        self.above = None;
        let line = self.paint("\x1b[33m", &format!("* {}", escape(text.as_bytes())));
        self.line(&line)
    }

    fn line(&self, line: &str) -> io::Result<()> {
        if self.is_muted {
            return Ok(());
        }
        let time = self.paint(DIM, &format!("{:7.3}", self.start.elapsed().as_secs_f64()));
        let mut out = io::stdout().lock();
        writeln!(out, "{time} {}", line.trim_end())?;
        out.flush()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }
}

/// Whether to print colours: not to files and pipes, and not with `NO_COLOR` (no-color.org).
fn wants_colours() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Escapes control characters, invisible characters, those that change the direction of text, and bytes that are not
/// UTF-8. A backslash is doubled only where it would look like the start of an escape. So the result is unambiguous,
/// and the `\"` of JSON stays as it is.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            at += character.len_utf8();
            match character {
                '\\' if looks_like_an_escape(&bytes[at..]) => text.push_str("\\\\"),
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                _ if character.is_ascii_control() => _ = write!(text, "\\x{:02x}", u32::from(character)),
                _ if is_harmless(character) => text.push(character),
                _ => _ = write!(text, "\\u{{{:x}}}", u32::from(character)),
            }
        }
        for byte in chunk.invalid() {
            at += 1;
            _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Whether a backslash before `rest` looks like the start of an escape.
fn looks_like_an_escape(rest: &[u8]) -> bool {
    let next = String::from_utf8_lossy(&rest[..rest.len().min(4)]).chars().next();
    match next {
        Some('r' | 'n' | 't' | 'x' | '\\') => true,
        Some('u') => rest.get(1) == Some(&b'{'),
        Some(character) => !is_harmless(character) || character == char::REPLACEMENT_CHARACTER,
        None => false,
    }
}

/// Bytes in hex, with spaces between them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Cuts `text` into rows of [`ROW`] bytes. A character stands in the row of its first byte. A dot replaces each byte
/// that cannot be printed.
pub fn rows_of_text(text: &[u8]) -> Vec<String> {
    let (mut rows, mut at) = (vec![String::new(); text.len().div_ceil(ROW)], 0);
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            rows[at / ROW].push(if is_harmless(character) { character } else { '.' });
            at += character.len_utf8();
        }
        for _ in chunk.invalid() {
            rows[at / ROW].push('.');
            at += 1;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[31m\r\n\t\x00\x7f\xff"), r"a\x1b[31m\r\n\t\x00\x7f\xff");
        for hidden in ["\u{ad}", "\u{3164}", "\u{180e}", "\u{2028}", "\u{2029}", "\u{2066}", "\u{feff}", "\u{e0041}"] {
            assert!(escape(hidden.as_bytes()).starts_with("\\u{"), "{hidden:?}");
            assert_eq!(rows_of_text(hidden.as_bytes())[0].replace('.', ""), "", "{hidden:?}");
        }
        assert_eq!(escape("\u{9b}31m\u{202e}x\u{e9}\u{20ac}".as_bytes()), "\\u{9b}31m\\u{202e}x\u{e9}\u{20ac}");
    }

    #[test]
    fn backslashes_are_doubled_where_they_look_like_escapes() {
        assert_eq!(escape(br#"{"a": "\"b\"", "c": "\u00e9 \/"}"#), r#"{"a": "\"b\"", "c": "\u00e9 \/"}"#);
        for (text, shown) in [
            (&b"\\n"[..], r"\\n"),
            (b"\\\n", r"\\\n"),
            (b"\\\\", r"\\\"),
            (b"\\x1b", r"\\x1b"),
            (b"\\u{9b}", r"\\u{9b}"),
            (b"\\\xff", r"\\\xff"),
            (b"\\\xc2\x9b", r"\\\u{9b}"),
            (b"\\\xe2\x82\xac\\", "\\\u{20ac}\\"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn a_character_stands_in_the_row_of_its_first_byte() {
        let text = format!("{}\u{20ac}b\u{1b}", "a".repeat(15));
        assert_eq!(rows_of_text(text.as_bytes()), ["aaaaaaaaaaaaaaa\u{20ac}", "b."]);
        assert_eq!(rows_of_text(b"\xe2\x82"), [".."]);
    }
}
