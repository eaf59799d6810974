//! The records of the log: values to bytes and back. No files, no clock.
//!
//! A record is one line of text, so that `xxd`, `grep` and `tail` show it:
//!
//! ```text
//! 00000011 73fdb459 remove room "tea"
//! length-- checksum payload
//! ```
//!
//! The length is that of the payload in bytes, without the LF that ends the record. The checksum is the
//! [CRC-32C](super::checksum()) of the digits of the length and of the payload. Both are 8 lower-case hexadecimal digits. So each
//! byte of a record is either checked by the checksum or has a single right value.
//!
//! | payload | meaning |
//! |-|-|
//! | `overwire-log 1 NUMBER LENGTH` | the first record of a segment: version, number, and the length of the segment before it |
//! | `synced` | everything before this record is on the disk |
//! | `start LOG CURSOR` | the log exists, and its messages up to this position are dropped |
//! | `message LOG CURSOR TIME KEY JSON` | a message, without its id in the JSON |
//! | `key KEY CURSOR TIME` | a key whose message is dropped |
//! | `remove LOG` | the log is removed |
//! | `position CLIENT LOG CURSOR TIME` | a client has everything up to this position |
//!
//! A `LOG` is `room NAME` or `mailbox NAME`. A name is a JSON string. A `TIME` is in seconds since the epoch, to the
//! millisecond. A `KEY` is a digest of 128 bits and a fingerprint of 64, or `-` for none.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use super::checksum;
use crate::bytes::{Parse, digits};
use crate::feed::Cursor;
use crate::journal::{Key, LogName};

/// The length of the length and the checksum, with the spaces after them.
pub(super) const HEADER: usize = 18;

/// The longest payload, in bytes. The largest message is far shorter.
const LONGEST: u64 = 64 * 1024 * 1024;

/// The first word of the first record of a segment.
pub(super) const MAGIC: &str = "overwire-log";

/// The version of the format.
const VERSION: u64 = 1;

/// A log: the messages of a room, or the texts of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log<'a> {
    /// Whether it is a room's or a mailbox's.
    pub kind: LogKind,
    /// The name of the room, or the id of the mailbox.
    pub name: Cow<'a, str>,
}

impl<'a> From<&'a LogName> for Log<'a> {
    fn from(log: &'a LogName) -> Self {
        match log {
            LogName::Room(name) => Log { kind: LogKind::Room, name: Cow::Borrowed(name) },
            LogName::Mailbox(name) => Log { kind: LogKind::Mailbox, name: Cow::Borrowed(name) },
        }
    }
}

impl From<&Log<'_>> for LogName {
    fn from(log: &Log<'_>) -> Self {
        match log.kind {
            LogKind::Room => LogName::Room((*log.name).into()),
            LogKind::Mailbox => LogName::Mailbox((*log.name).into()),
        }
    }
}

/// The kind of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// A room.
    Room,
    /// A mailbox.
    Mailbox,
}

/// A record.
///
/// ```
/// use overwire::Parse;
/// use overwire::journal::disk::{Log, LogKind, Record};
///
/// let mut bytes = Vec::new();
/// Record::Remove { log: Log { kind: LogKind::Room, name: "tea".into() } }.encode(&mut bytes);
/// assert_eq!(bytes, b"00000011 73fdb459 remove room \"tea\"\n");
/// let Ok(Parse::Complete { value, used }) = Record::decode(&bytes) else { panic!("a whole record") };
/// assert!(matches!(value, Record::Remove { log } if log.name == "tea") && used == bytes.len());
/// assert_eq!(Record::decode(&bytes[..10]), Ok(Parse::Partial));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// The first record of a segment.
    Segment {
        /// The number of the segment.
        number: u32,
        /// The length of the segment before it, in bytes. What that file has after it was never committed.
        previous: u64,
    },
    /// Everything before it is on the disk.
    Synced,
    /// A log exists. Everything up to the position is dropped.
    Start {
        /// The log.
        log: Log<'a>,
        /// The position.
        cursor: Cursor,
    },
    /// A message of a log.
    Message {
        /// The log.
        log: Log<'a>,
        /// The position after the message.
        cursor: Cursor,
        /// Milliseconds since the epoch.
        time: u64,
        /// The key that it came with.
        key: Option<Key>,
        /// Its JSON, without the id.
        body: &'a str,
    },
    /// A key whose message is dropped.
    Key {
        /// The key.
        key: Key,
        /// The position after its message.
        cursor: Cursor,
        /// The time of its message, in milliseconds since the epoch.
        time: u64,
    },
    /// A log is removed.
    Remove {
        /// The log.
        log: Log<'a>,
    },
    /// The position of a client in a log.
    Position {
        /// The id of the client.
        client: Cow<'a, str>,
        /// The log.
        log: Log<'a>,
        /// The position.
        cursor: Cursor,
        /// Milliseconds since the epoch.
        time: u64,
    },
}

/// The reason why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The segment ends within the record.
    CutOff,
    /// The first 18 bytes are not two numbers of 8 digits with a space after each.
    Header,
    /// The length is beyond the largest one.
    TooLong(u64),
    /// There is no LF after the payload.
    NoLineEnd,
    /// The checksum is another one.
    Checksum {
        /// The checksum in the record.
        written: u32,
        /// The checksum of its bytes.
        found: u32,
    },
    /// The checksum is right, but the payload is not one of this version.
    Unknown,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::CutOff => write!(f, "expected the rest of the record, but the segment ends"),
            Damage::Header => write!(f, "expected a length and a checksum, 8 hexadecimal digits and a space each"),
            Damage::TooLong(length) => write!(f, "expected a length of at most {LONGEST} bytes, not {length}"),
            Damage::NoLineEnd => write!(f, "expected a line end after the payload"),
            Damage::Checksum { written, found } => {
                write!(f, "expected the checksum {written:08x}, but the bytes have {found:08x}")
            }
            Damage::Unknown => write!(f, "expected a record of version {VERSION} of the log"),
        }
    }
}

impl std::error::Error for Damage {}

impl<'a> Record<'a> {
    /// Decodes the record at the front of `bytes`.
    ///
    /// # Errors
    /// The [`Damage`]. It is found at its first byte, except that a wrong checksum is found at the end of the record.
    pub fn decode(bytes: &'a [u8]) -> Result<Parse<Self>, Damage> {
        let Some((length, written)) = decode_header(bytes)? else { return Ok(Parse::Partial) };
        let (payload, end) = match bytes[HEADER..].split_at_checked(length) {
            Some((payload, [end, ..])) => (payload, *end),
            _ => return Ok(Parse::Partial),
        };
        if end != b'\n' {
            return Err(Damage::NoLineEnd);
        }
        let found = checksum(&[&bytes[..8], payload]);
        if found != written {
            return Err(Damage::Checksum { written, found });
        }
        let text = str::from_utf8(payload).map_err(|_| Damage::Unknown)?;
        let value = decode_payload(text).ok_or(Damage::Unknown)?;
        Ok(Parse::Complete { value, used: HEADER + length + 1 })
    }

    /// Appends the bytes of the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[b' '; HEADER]);
        self.encode_payload(out);
        let (header, payload) = out[start..].split_at_mut(HEADER);
        write_hex(&mut header[..8], payload.len() as u32);
        let sum = checksum(&[&header[..8], payload]);
        write_hex(&mut header[9..17], sum);
        out.push(b'\n');
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Record::Segment { number, previous } => put(out, format_args!("{MAGIC} {VERSION} {number} {previous}")),
            Record::Synced => put(out, format_args!("synced")),
            Record::Start { log, cursor } => put(out, format_args!("start {log} {cursor}")),
            Record::Message { log, cursor, time, key, body } => {
                put(out, format_args!("message {log} {cursor} {} ", Time(*time)));
                match key {
                    Some(key) => put(out, format_args!("{} ", Digits(key))),
                    None => out.extend_from_slice(b"- "),
                }
                out.extend_from_slice(body.as_bytes());
            }
            Record::Key { key, cursor, time } => put(out, format_args!("key {} {cursor} {}", Digits(key), Time(*time))),
            Record::Remove { log } => put(out, format_args!("remove {log}")),
            Record::Position { client, log, cursor, time } => {
                put(out, format_args!("position {} {log} {cursor} {}", Quoted(client), Time(*time)));
            }
        }
    }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

/// A time in seconds.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// A text as a JSON string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
            return write!(f, "{}", serde_json::Value::from(self.0));
        }
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Display for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            LogKind::Room => "room",
            LogKind::Mailbox => "mailbox",
        };
        write!(f, "{kind} {}", Quoted(&self.name))
    }
}

/// A key as two hexadecimal numbers.
struct Digits<'a>(&'a Key);

impl fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { digest, fingerprint } = self.0;
        write!(f, "{:032x}:{:016x}", u128::from_be_bytes(*digest), u64::from_be_bytes(*fingerprint))
    }
}

fn write_hex(digits: &mut [u8], number: u32) {
    for (at, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * at) & 0xf) as usize];
    }
}

/// Returns the number that lower-case hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Decodes the length of the payload and the checksum, or returns `None` if they are incomplete.
fn decode_header(bytes: &[u8]) -> Result<Option<(usize, u32)>, Damage> {
    let header = &bytes[..bytes.len().min(HEADER)];
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 17 => *byte == b' ',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    if !header.iter().enumerate().all(is_right) {
        return Err(Damage::Header);
    }
    let number = |at: usize| header.get(at..at + 8).and_then(hex).map(|number| number as u32);
    let Some(length) = number(0) else { return Ok(None) };
    if u64::from(length) > LONGEST {
        return Err(Damage::TooLong(length.into()));
    }
    Ok(number(9).filter(|_| header.len() == HEADER).map(|sum| (length as usize, sum)))
}

fn decode_payload(text: &str) -> Option<Record<'_>> {
    let mut fields = Fields(text);
    let record = match fields.word()? {
        MAGIC => {
            fields.number().filter(|version| *version == VERSION)?;
            Record::Segment { number: u32::try_from(fields.number()?).ok()?, previous: fields.number()? }
        }
        "synced" => Record::Synced,
        "start" => Record::Start { log: fields.log()?, cursor: fields.cursor()? },
        "message" => Record::Message {
            log: fields.log()?,
            cursor: fields.cursor()?,
            time: fields.time()?,
            key: fields.key_or_none()?,
            body: fields.rest(),
        },
        "key" => Record::Key { key: key(fields.word()?)?, cursor: fields.cursor()?, time: fields.time()? },
        "remove" => Record::Remove { log: fields.log()? },
        "position" => Record::Position {
            client: fields.name()?,
            log: fields.log()?,
            cursor: fields.cursor()?,
            time: fields.time()?,
        },
        _ => return None,
    };
    fields.0.is_empty().then_some(record)
}

/// The fields of a payload that are not read yet.
pub(super) struct Fields<'a>(pub &'a str);

impl<'a> Fields<'a> {
    /// Reads a field without spaces in it.
    pub fn word(&mut self) -> Option<&'a str> {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// Reads a JSON string.
    pub fn name(&mut self) -> Option<Cow<'a, str>> {
        let bytes = self.0.as_bytes();
        let (mut end, mut has_escapes) = (1, false);
        while *bytes.get(end)? != b'"' {
            let is_escape = bytes[end] == b'\\';
            has_escapes |= is_escape;
            end += if is_escape { 2 } else { 1 };
        }
        let (name, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = if rest.is_empty() { rest } else { rest.strip_prefix(' ')? };
        match has_escapes {
            true => serde_json::from_str(name).ok().map(Cow::Owned),
            false => name.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed),
        }
    }

    fn log(&mut self) -> Option<Log<'a>> {
        let kind = match self.word()? {
            "room" => LogKind::Room,
            "mailbox" => LogKind::Mailbox,
            _ => return None,
        };
        Some(Log { kind, name: self.name()? })
    }

    fn number(&mut self) -> Option<u64> {
        digits(self.word()?.as_bytes())
    }

    fn cursor(&mut self) -> Option<Cursor> {
        self.word()?.parse().ok()
    }

    fn time(&mut self) -> Option<u64> {
        let (seconds, thousandths) = self.word()?.split_once('.').filter(|(_, rest)| rest.len() == 3)?;
        digits(seconds.as_bytes())?.checked_mul(1000)?.checked_add(digits(thousandths.as_bytes())?)
    }

    fn key_or_none(&mut self) -> Option<Option<Key>> {
        match self.word()? {
            "-" => Some(None),
            word => key(word).map(Some),
        }
    }

    fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.0)
    }
}

fn key(word: &str) -> Option<Key> {
    let (digest, fingerprint) = word.split_once(':').filter(|(digest, rest)| (digest.len(), rest.len()) == (32, 16))?;
    Some(Key {
        digest: hex(digest.as_bytes())?.to_be_bytes(),
        fingerprint: (hex(fingerprint.as_bytes())? as u64).to_be_bytes(),
    })
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
