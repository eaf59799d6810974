//! The Redis serialization protocol, RESP: commands to bytes, and bytes to replies. Both versions: a server answers in
//! version 2 until a client asks for version 3 with `HELLO 3`.
//!
//! Every value begins with one byte for its type, and every line ends with CRLF. The length of a blob and the number of
//! values in an aggregate come before the content, so a reader never searches for an end.
//!
//! | first byte | since | value | example |
//! |-|-|-|-|
//! | `+` | 2 | simple string: one line | `+OK\r\n` |
//! | `-` | 2 | error: a code and a sentence | `-NOAUTH Authentication required.\r\n` |
//! | `:` | 2 | number, of 64 bits | `:-42\r\n` |
//! | `$` | 2 | blob string: any bytes | `$5\r\nhello\r\n` |
//! | `*` | 2 | array | `*2\r\n:1\r\n:2\r\n` |
//! | `$-1`, `*-1` | 2 | null, as a blob string or as an array | `$-1\r\n` |
//! | `_` | 3 | null | `_\r\n` |
//! | `#` | 3 | boolean | `#t\r\n` |
//! | `,` | 3 | double | `,1.5\r\n` |
//! | `(` | 3 | big number | `(3492890328409238509324850943850943825024385\r\n` |
//! | `!` | 3 | blob error | `!8\r\nERR a\r\nb\r\n` |
//! | `=` | 3 | verbatim string: a format of 3 bytes, `:`, and text | `=9\r\ntxt:hello\r\n` |
//! | `%` | 3 | map: pairs of values | `%1\r\n+key\r\n:1\r\n` |
//! | `~` | 3 | set | `~1\r\n:1\r\n` |
//! | `>` | 3 | push: not a reply, but a message of a subscription | `>3\r\n+message\r\n+room\r\n+new\r\n` |
//! | `\|` | 3 | attributes of the value that follows: a map, which is skipped | `\|1\r\n+ttl\r\n:9\r\n:42\r\n` |
//!
//! The specification also has strings and aggregates without a length, `$?` and `*?`. Redis does not send them, and
//! they are an error here.

use std::fmt;
use std::mem;

use crate::bytes::{decimal, digits};

/// The longest line, in bytes. Only simple strings, errors and numbers are lines.
const LONGEST_LINE: usize = 64 * 1024;

/// The deepest nesting of aggregates.
const DEEPEST: usize = 16;

/// The memory of one value in an aggregate, in bytes. It counts as a part of the reply: an array of a million empty
/// arrays has few bytes and needs much memory.
const VALUE: usize = size_of::<Value>();

/// Appends a command to `out`: an array of blob strings, which is the only thing that a client sends.
///
/// ```
/// let mut out = Vec::new();
/// overwire::resp::command(&mut out, &[b"PUBLISH", b"tea", b"news"]);
/// assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$3\r\ntea\r\n$4\r\nnews\r\n");
/// ```
pub fn command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    announce(out, b'*', arguments.len());
    for argument in arguments {
        announce(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the line before an array or a blob string: its type, and the number of its elements or bytes.
fn announce(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(decimal(number as u64, &mut [0; 20]));
    out.extend_from_slice(b"\r\n");
}

/// A reply, or a part of one.
///
/// ```
/// use overwire::resp::{Decoder, Value};
///
/// let reply = Decoder::new(1024).decode(&mut &b"*2\r\n$3\r\ntea\r\n:7\r\n"[..])?;
/// assert_eq!(reply, Some(Value::Array(vec![Value::Blob(b"tea".into()), Value::Number(7)])));
/// # Ok::<(), overwire::resp::RespError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A simple string. Bytes that are not UTF-8 are replaced by U+FFFD.
    Simple(String),
    /// A blob string.
    Blob(Vec<u8>),
    /// An error of the server: a line, or a blob. The first word is its code.
    Error(String),
    /// A number.
    Number(i64),
    /// Null, in any of its three forms.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A double.
    Double(f64),
    /// A big number: a sign, if it is negative, and decimal digits.
    BigNumber(String),
    /// A verbatim string: its format, such as `txt` or `mkd`, and its text.
    Verbatim([u8; 3], Vec<u8>),
    /// An array.
    Array(Vec<Value>),
    /// A map: keys and values in turn, in the order of the server.
    Map(Vec<Value>),
    /// A set, in the order of the server.
    Set(Vec<Value>),
    /// A message that is not a reply.
    Push(Vec<Value>),
}

impl Value {
    /// Returns the bytes of a string of any kind. `None` for every other value.
    ///
    /// ```
    /// use overwire::resp::Value;
    ///
    /// assert_eq!(Value::Simple("OK".into()).as_bytes(), Some(&b"OK"[..]));
    /// assert_eq!(Value::Number(1).as_bytes(), None);
    /// ```
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(text) => Some(text.as_bytes()),
            Value::Blob(bytes) | Value::Verbatim(_, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the values in an array, a set, a push or a map. `None` for every other value.
    ///
    /// ```
    /// use overwire::resp::Value;
    ///
    /// assert_eq!(Value::Array(vec![Value::Null]).values(), Some(&[Value::Null][..]));
    /// ```
    pub fn values(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) | Value::Map(values) | Value::Set(values) | Value::Push(values) => Some(values),
            _ => None,
        }
    }

    /// Returns the code of an error: its first word, such as `NOAUTH`. `None` for every other value.
    ///
    /// ```
    /// use overwire::resp::Value;
    ///
    /// assert_eq!(Value::Error("NOSCRIPT No matching script.".into()).error_code(), Some("NOSCRIPT"));
    /// ```
    pub fn error_code(&self) -> Option<&str> {
        match self {
            Value::Error(error) => error.split(' ').next(),
            _ => None,
        }
    }
}

/// A violation of the protocol. The connection cannot be used any more, because the next value cannot be found.
///
/// ```
/// use overwire::resp::{Decoder, RespError};
///
/// let error = Decoder::new(1024).decode(&mut &b"HTTP/1.1 400 Bad Request\r\n"[..]).unwrap_err();
/// assert_eq!(error, RespError::UnknownType(b'H'));
/// assert_eq!(error.to_string(), "a value begins with 'H', which is not a type of RESP: is this a Redis server?");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RespError {
    /// The first byte of a value is not a type.
    UnknownType(u8),
    /// A line ends with LF alone, or a blob without CRLF.
    NoLineEnd,
    /// A number, a length, a double, a boolean or a null is not one. The type of the value.
    Malformed(u8),
    /// A string or an aggregate without a length.
    Streamed,
    /// A reply needs more memory than this number of bytes.
    TooLong(usize),
    /// Aggregates are nested too deeply.
    TooDeep,
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let character = |byte: &u8| byte.escape_ascii().to_string();
        match self {
            RespError::UnknownType(byte) => write!(
                f,
                "a value begins with '{}', which is not a type of RESP: is this a Redis server?",
                character(byte)
            ),
            RespError::NoLineEnd => write!(f, "expected CRLF at the end of a line or a blob"),
            RespError::Malformed(kind) => write!(f, "a value of type '{}' is malformed", character(kind)),
            RespError::Streamed => write!(f, "expected a length, not a string or an aggregate that is streamed"),
            RespError::TooLong(most) => write!(f, "a reply is too long: expected at most {most} bytes"),
            RespError::TooDeep => write!(f, "a reply is nested too deeply: expected at most {DEEPEST} levels"),
        }
    }
}

impl std::error::Error for RespError {}

/// A blob whose bytes are arriving.
#[derive(Debug)]
struct Blob {
    kind: u8,
    length: usize,
    /// The bytes so far. The CRLF after the blob follows them.
    bytes: Vec<u8>,
}

/// An aggregate whose values are arriving.
#[derive(Debug)]
struct Aggregate {
    kind: u8,
    missing: usize,
    values: Vec<Value>,
}

/// The result of one line.
enum Line {
    Value(Value),
    Blob(Blob),
    Aggregate(Aggregate),
}

/// A decoder of replies. It keeps what has arrived of an incomplete one, and looks at no byte twice.
///
/// ```
/// use overwire::resp::{Decoder, Value};
///
/// let mut decoder = Decoder::new(1024);
/// let mut first = &b"+PO"[..];
/// assert_eq!(decoder.decode(&mut first)?, None);
/// let mut second = &b"NG\r\n:1\r\n"[..];
/// assert_eq!(decoder.decode(&mut second)?, Some(Value::Simple("PONG".into())));
/// assert_eq!(second, b":1\r\n", "the next reply");
/// # Ok::<(), overwire::resp::RespError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// The most memory of one reply, in bytes.
    most: usize,
    /// The memory of the reply so far.
    memory: usize,
    line: Vec<u8>,
    blob: Option<Blob>,
    /// The open aggregates, the innermost last.
    open: Vec<Aggregate>,
}

impl Decoder {
    /// Creates a decoder for replies that need at most `most` bytes of memory.
    pub fn new(most: usize) -> Self {
        Decoder { most, memory: 0, line: Vec::new(), blob: None, open: Vec::new() }
    }

    /// Decodes the next reply off the front of `input`. Returns `None` when it is incomplete: all of `input` is kept.
    ///
    /// # Errors
    /// A [`RespError`] at the first byte that shows it. The decoder cannot be used afterwards.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Value>, RespError> {
        while !input.is_empty() {
            let value = match &mut self.blob {
                Some(_) => self.continue_blob(input)?,
                None => self.continue_line(input)?,
            };
            if let Some(value) = value
                && let Some(reply) = self.complete(value)
            {
                self.memory = 0;
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Takes the bytes of a blob and its CRLF. Returns its value when it is complete.
    fn continue_blob(&mut self, input: &mut &[u8]) -> Result<Option<Value>, RespError> {
        let Some(blob) = &mut self.blob else { return Ok(None) };
        let (now, rest) = input.split_at(input.len().min(blob.length + 2 - blob.bytes.len()));
        *input = rest;
        blob.bytes.extend_from_slice(now);
        let end = blob.bytes.get(blob.length..).unwrap_or_default();
        if !b"\r\n".starts_with(end) {
            return Err(RespError::NoLineEnd);
        }
        if end.len() < 2 {
            return Ok(None);
        }
        let Some(Blob { kind, length, mut bytes }) = self.blob.take() else { return Ok(None) };
        bytes.truncate(length);
        value_of_blob(kind, bytes).map(Some)
    }

    /// Takes the bytes of a line. Returns its value when it is complete and is all of a value.
    fn continue_line(&mut self, input: &mut &[u8]) -> Result<Option<Value>, RespError> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let (now, rest) = input.split_at(end.map_or(input.len(), |at| at + 1));
        *input = rest;
        let kind = *self.line.first().unwrap_or(&now[0]);
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return Err(RespError::UnknownType(kind));
        }
        self.line.extend_from_slice(now);
        if self.line.len() > LONGEST_LINE {
            return Err(RespError::TooLong(LONGEST_LINE));
        }
        if end.is_none() {
            return Ok(None);
        }
        let line = mem::take(&mut self.line);
        let text = line[1..].strip_suffix(b"\r\n").ok_or(RespError::NoLineEnd)?;
        self.charge(text.len())?;
        match parse_line(kind, text)? {
            Line::Value(value) => return Ok(Some(value)),
            Line::Blob(blob) => {
                self.charge(blob.length)?;
                self.blob = Some(blob);
            }
            Line::Aggregate(aggregate) => {
                // The values are to come: a reply that is too long is refused at its beginning.
                self.charge(aggregate.missing.saturating_mul(VALUE))?;
                if self.open.len() == DEEPEST {
                    return Err(RespError::TooDeep);
                }
                if aggregate.missing == 0 {
                    return Ok(value_of_aggregate(aggregate));
                }
                self.open.push(aggregate);
            }
        }
        Ok(None)
    }

    /// Adds to the memory of the reply.
    fn charge(&mut self, more: usize) -> Result<(), RespError> {
        self.memory = self.memory.saturating_add(more);
        if self.memory > self.most { Err(RespError::TooLong(self.most)) } else { Ok(()) }
    }

    /// Puts a value into the aggregate that it belongs to. Returns the reply that is complete with it.
    fn complete(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut aggregate) = self.open.pop() {
            aggregate.values.push(value);
            aggregate.missing -= 1;
            if aggregate.missing > 0 {
                self.open.push(aggregate);
                return None;
            }
            value = value_of_aggregate(aggregate)?;
        }
        Some(value)
    }
}

/// The value of a complete aggregate. `None` for attributes, which are skipped.
fn value_of_aggregate(Aggregate { kind, values, .. }: Aggregate) -> Option<Value> {
    match kind {
        b'*' => Some(Value::Array(values)),
        b'%' => Some(Value::Map(values)),
        b'~' => Some(Value::Set(values)),
        b'>' => Some(Value::Push(values)),
        _ => None,
    }
}

fn value_of_blob(kind: u8, bytes: Vec<u8>) -> Result<Value, RespError> {
    match (kind, bytes.split_first_chunk::<4>()) {
        (b'$', _) => Ok(Value::Blob(bytes)),
        (b'!', _) => Ok(Value::Error(lossy(&bytes))),
        (b'=', Some(([a, b, c, b':'], text))) => Ok(Value::Verbatim([*a, *b, *c], text.to_vec())),
        _ => Err(RespError::Malformed(kind)),
    }
}

/// Parses a line without its first byte and its CRLF.
fn parse_line(kind: u8, text: &[u8]) -> Result<Line, RespError> {
    let malformed = RespError::Malformed(kind);
    let value = match kind {
        b'+' => Value::Simple(lossy(text)),
        b'-' => Value::Error(lossy(text)),
        b':' => Value::Number(number(text).ok_or(malformed)?),
        b'_' if text.is_empty() => Value::Null,
        b'#' if text == b"t" => Value::Boolean(true),
        b'#' if text == b"f" => Value::Boolean(false),
        b',' => Value::Double(double(text).ok_or(malformed)?),
        b'(' => Value::BigNumber(big_number(text).ok_or(malformed)?),
        b'$' | b'*' if text == b"-1" => Value::Null,
        b'$' | b'!' | b'=' => {
            let length = length(text, malformed)?;
            return Ok(Line::Blob(Blob { kind, length, bytes: Vec::new() }));
        }
        b'*' | b'%' | b'~' | b'>' | b'|' => {
            let pairs = matches!(kind, b'%' | b'|');
            let missing = length(text, malformed)?.checked_mul(if pairs { 2 } else { 1 }).ok_or(malformed)?;
            return Ok(Line::Aggregate(Aggregate { kind, missing, values: Vec::new() }));
        }
        _ => return Err(malformed),
    };
    Ok(Line::Value(value))
}

fn length(text: &[u8], malformed: RespError) -> Result<usize, RespError> {
    match (text, digits(text)) {
        (b"?", _) => Err(RespError::Streamed),
        // The largest size of anything in memory. Up to here, lengths can be added without an overflow.
        (_, Some(length)) if length <= isize::MAX as u64 / 2 => Ok(length as usize),
        _ => Err(malformed),
    }
}

fn number(text: &[u8]) -> Option<i64> {
    let (negative, number) = match text {
        [b'-', rest @ ..] => (true, digits(rest)?),
        [b'+', rest @ ..] => (false, digits(rest)?),
        _ => (false, digits(text)?),
    };
    let number = i128::from(number);
    i64::try_from(if negative { -number } else { number }).ok()
}

fn double(text: &[u8]) -> Option<f64> {
    match text {
        b"inf" => Some(f64::INFINITY),
        b"-inf" => Some(f64::NEG_INFINITY),
        b"nan" | b"-nan" => Some(f64::NAN),
        _ if text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => {
            str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

fn big_number(text: &[u8]) -> Option<String> {
    let figures = text.strip_prefix(b"-").unwrap_or(text);
    let is_number = !figures.is_empty() && figures.iter().all(u8::is_ascii_digit);
    is_number.then(|| lossy(text))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Value {
        Value::Blob(text.into())
    }

    /// A value of every type, as a server sends it.
    fn vectors() -> Vec<(&'static [u8], Value)> {
        vec![
            (b"+OK\r\n", Value::Simple("OK".into())),
            (b"+\r\n", Value::Simple("".into())),
            (b"-ERR unknown command 'x'\r\n", Value::Error("ERR unknown command 'x'".into())),
            (b":0\r\n", Value::Number(0)),
            (b":+5\r\n", Value::Number(5)),
            (b":-9223372036854775808\r\n", Value::Number(i64::MIN)),
            (b":9223372036854775807\r\n", Value::Number(i64::MAX)),
            (b"$5\r\nhello\r\n", blob("hello")),
            (b"$0\r\n\r\n", blob("")),
            (b"$4\r\n\r\n\r\n\r\n", blob("\r\n\r\n")),
            (b"$-1\r\n", Value::Null),
            (b"*-1\r\n", Value::Null),
            (b"_\r\n", Value::Null),
            (b"*0\r\n", Value::Array(vec![])),
            (b"*3\r\n:1\r\n*1\r\n$1\r\na\r\n*-1\r\n", {
                Value::Array(vec![Value::Number(1), Value::Array(vec![blob("a")]), Value::Null])
            }),
            (b"#t\r\n", Value::Boolean(true)),
            (b"#f\r\n", Value::Boolean(false)),
            (b",1.5\r\n", Value::Double(1.5)),
            (b",-1e-3\r\n", Value::Double(-0.001)),
            (b",inf\r\n", Value::Double(f64::INFINITY)),
            (b",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            (b"(-340282366920938463463374607431768211456\r\n", {
                Value::BigNumber("-340282366920938463463374607431768211456".into())
            }),
            (b"!11\r\nSYNTAX a\r\nb\r\n", Value::Error("SYNTAX a\r\nb".into())),
            (b"=9\r\ntxt:hello\r\n", Value::Verbatim(*b"txt", b"hello".into())),
            (b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", {
                Value::Map(vec![
                    Value::Simple("a".into()),
                    Value::Number(1),
                    Value::Simple("b".into()),
                    Value::Map(vec![]),
                ])
            }),
            (b"~1\r\n#t\r\n", Value::Set(vec![Value::Boolean(true)])),
            (b">2\r\n+message\r\n$3\r\ntea\r\n", Value::Push(vec![Value::Simple("message".into()), blob("tea")])),
            (b"|1\r\n+ttl\r\n:9\r\n:42\r\n", Value::Number(42)),
            (b"*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:1\r\n|0\r\n:2\r\n", {
                Value::Array(vec![Value::Number(1), Value::Number(2)])
            }),
        ]
    }

    /// The replies in `bytes`, which arrive in pieces of `size`.
    fn decode(bytes: &[u8], size: usize) -> Result<Vec<Value>, RespError> {
        let (mut decoder, mut all) = (Decoder::new(10_000), Vec::new());
        for mut piece in bytes.chunks(size) {
            while let Some(value) = decoder.decode(&mut piece)? {
                all.push(value);
            }
            assert!(piece.is_empty(), "an incomplete reply is kept");
        }
        assert!(decoder.line.is_empty() && decoder.blob.is_none() && decoder.open.is_empty(), "all is complete");
        Ok(all)
    }

    #[test]
    fn every_type_is_decoded_whole_and_byte_by_byte() {
        for (bytes, expected) in vectors() {
            for size in [bytes.len(), 1] {
                assert_eq!(decode(bytes, size), Ok(vec![expected.clone()]), "{}", bytes.escape_ascii());
            }
            let mut input = &[bytes, b":1"].concat()[..];
            assert_eq!(Decoder::new(10_000).decode(&mut input), Ok(Some(expected)));
            assert_eq!(input, b":1", "bytes of the next reply are left over");
        }
        let (bytes, values): (Vec<_>, Vec<_>) = vectors().into_iter().unzip();
        for size in [1, 2, 3, 7, 100, 10_000] {
            assert_eq!(decode(&bytes.concat(), size), Ok(values.clone()), "pipelined, in pieces of {size}");
        }
    }

    #[test]
    fn a_command_is_an_array_of_blobs() {
        let mut out = Vec::new();
        command(&mut out, &[b"XADD", b"room", b"*", b"", b"\r\n"]);
        let expected = ["XADD", "room", "*", "", "\r\n"].map(blob).into();
        assert_eq!(decode(&out, 1), Ok(vec![Value::Array(expected)]));
    }

    #[test]
    fn violations_are_found_at_their_first_byte() {
        use RespError::{Malformed, NoLineEnd, Streamed, UnknownType};
        for (bytes, error) in [
            (&b"H"[..], UnknownType(b'H')),
            (b"\r", UnknownType(b'\r')),
            (b"*1\r\n\n", UnknownType(b'\n')),
            (b"+OK\n", NoLineEnd),
            (b"$1\r\nab", NoLineEnd),
            (b"$1\r\na\rb", NoLineEnd),
            (b":\r\n", Malformed(b':')),
            (b":--1\r\n", Malformed(b':')),
            (b":9223372036854775808\r\n", Malformed(b':')),
            (b"$+1\r\n", Malformed(b'$')),
            (b"$-2\r\n", Malformed(b'$')),
            (b"*1a\r\n", Malformed(b'*')),
            (b"%-1\r\n", Malformed(b'%')),
            (b"%4611686018427387904\r\n", Malformed(b'%')),
            (b"_x\r\n", Malformed(b'_')),
            (b"#true\r\n", Malformed(b'#')),
            (b",1,5\r\n", Malformed(b',')),
            (b",infinity\r\n", Malformed(b',')),
            (b",\r\n", Malformed(b',')),
            (b"(1.5\r\n", Malformed(b'(')),
            (b"(-\r\n", Malformed(b'(')),
            (b"=3\r\ntxt\r\n", Malformed(b'=')),
            (b"=4\r\ntxt-\r\n", Malformed(b'=')),
            (b"$?\r\n", Streamed),
            (b"*?\r\n", Streamed),
        ] {
            for size in [bytes.len(), 1] {
                let mut decoder = Decoder::new(10_000);
                let found = bytes.chunks(size).find_map(|mut piece| decoder.decode(&mut piece).err());
                assert_eq!(found, Some(error), "{}", bytes.escape_ascii());
            }
            let mut decoder = Decoder::new(10_000);
            assert_eq!(decoder.decode(&mut &bytes[..bytes.len() - 1]), Ok(None), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn memory_is_bounded_before_it_is_used() {
        for bytes in [
            &b"$1001\r\n"[..],
            b"*100\r\n",
            b"*1\r\n$1000\r\n",
            b"%10\r\n%10\r\n",
            b"$4611686018427387903\r\n",
            b"*4611686018427387903\r\n",
        ] {
            assert_eq!(Decoder::new(1000).decode(&mut &*bytes), Err(RespError::TooLong(1000)), "{bytes:?}");
        }
        let endless = [&b"+"[..], &[b'x'; LONGEST_LINE]].concat();
        assert_eq!(Decoder::new(usize::MAX).decode(&mut &endless[..]), Err(RespError::TooLong(LONGEST_LINE)));
        // Each reply begins at zero.
        let mut decoder = Decoder::new(1000);
        let bytes = [&b"$900\r\n"[..], &[b'x'; 900], b"\r\n"].concat();
        for _ in 0..3 {
            let reply = decoder.decode(&mut &bytes[..]);
            assert!(matches!(reply, Ok(Some(Value::Blob(blob))) if blob.len() == 900));
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| [b"*1\r\n".repeat(levels), b":1\r\n".to_vec()].concat();
        assert!(matches!(Decoder::new(10_000).decode(&mut &nested(DEEPEST)[..]), Ok(Some(_))));
        assert_eq!(Decoder::new(10_000).decode(&mut &nested(DEEPEST + 1)[..]), Err(RespError::TooDeep));
    }
}
