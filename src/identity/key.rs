//! Access keys: who has one, and what it permits.

use std::fmt;
use std::ops::BitOr;

use serde_json::{Map, Value, json};

use super::digest::{Digest, new_secret};
use crate::random::Random;

/// The first characters of an access key. They show a person, and a program that looks for leaked secrets, what it is.
const PREFIX: &str = "ow_";

/// The longest name of an identity or of a room, in characters.
const LONGEST_NAME: usize = 64;

/// A set of rights.
///
/// ```
/// use overwire::identity::Rights;
///
/// let rights = Rights::parse("read,send")?;
/// assert_eq!(rights, Rights::READ | Rights::SEND);
/// assert!(rights.contains(Rights::READ) && !rights.contains(Rights::ADMIN));
/// assert_eq!(Rights::parse("write").unwrap_err(), r#"expected read, send or admin, not "write""#);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// No right: it is enough to be known.
    pub const NONE: Rights = Rights(0);
    /// The right to receive messages.
    pub const READ: Rights = Rights(1);
    /// The right to send messages.
    pub const SEND: Rights = Rights(2);
    /// The right to see statistics, and to disconnect clients.
    pub const ADMIN: Rights = Rights(4);

    /// The rights to receive and to send.
    pub const READ_AND_SEND: Rights = Rights(Rights::READ.0 | Rights::SEND.0);

    /// All rights with their names.
    const NAMES: [(Rights, &str); 3] = [(Rights::READ, "read"), (Rights::SEND, "send"), (Rights::ADMIN, "admin")];

    /// Parses names between commas.
    ///
    /// # Errors
    /// A sentence about the first name that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|name| Rights::of_name(name.trim())).try_fold(Rights::NONE, |all, one| Ok(all | one?))
    }

    fn of_name(name: &str) -> Result<Self, String> {
        let known = Rights::NAMES.iter().find(|(_, known)| *known == name);
        known.map(|(right, _)| *right).ok_or_else(|| format!("expected read, send or admin, not {name:?}"))
    }

    /// Whether all of `others` are in this set.
    pub fn contains(self, others: Rights) -> bool {
        self.0 & others.0 == others.0
    }

    /// Returns the rights of this set that are not in the other one.
    pub fn without(self, others: Rights) -> Rights {
        Rights(self.0 & !others.0)
    }

    /// Returns the names, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        Rights::NAMES.iter().filter(|(right, _)| self.contains(*right)).map(|(_, name)| *name).collect()
    }
}

impl BitOr for Rights {
    type Output = Rights;

    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

/// The names between commas.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

/// The name of a room, or the beginning of several names and a `*`.
///
/// ```
/// use overwire::identity::RoomPattern;
///
/// let team = RoomPattern::parse("team-*")?;
/// assert!(team.matches("team-red") && team.matches("team-") && !team.matches("team"));
/// assert!(!RoomPattern::parse("general")?.matches("general-2"));
/// assert!(RoomPattern::parse("*-red").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomPattern(String);

impl RoomPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A sentence if it is empty, longer than a name, or has a `*` that is not its last character.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_right = is_name(text) && !text.strip_suffix('*').unwrap_or(text).contains('*');
        let expected = "expected the name of a room, or its beginning and a `*`";
        if is_right { Ok(RoomPattern(text.to_owned())) } else { Err(format!("{expected}, not {text:?}")) }
    }

    /// Parses patterns between commas.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), for the first that is wrong.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|pattern| RoomPattern::parse(pattern.trim())).collect()
    }

    /// Whether this room has such a name.
    pub fn matches(&self, room: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => room.starts_with(beginning),
            None => self.0 == room,
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An access key, as it is stored: with its digest in place of the secret.
///
/// ```
/// use overwire::identity::{AccessKey, Digest, RoomPattern, Rights};
/// use overwire::random::Random;
///
/// let rooms = RoomPattern::parse_list("general,team-*")?;
/// let (key, text) = AccessKey::create(&mut Random::open().unwrap(), "alice", Rights::READ, rooms, Some(1_800_000_000));
/// assert!(text.starts_with("ow_") && Digest::of(&text) == key.digest);
/// assert!(key.may_enter("team-red") && !key.may_enter("secret"));
/// assert!(key.is_valid(1_799_999_999) && !key.is_valid(1_800_000_000));
/// assert_eq!(AccessKey::parse(&key.to_string())?, key);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The digest of the key.
    pub digest: Digest,
    /// The name of the identity. It may have more keys than one.
    pub name: String,
    /// The permitted kinds of requests.
    pub rights: Rights,
    /// The permitted rooms.
    pub rooms: Vec<RoomPattern>,
    /// The end of its validity, in seconds since 1970-01-01 00:00:00 UTC.
    pub expires: Option<u64>,
}

impl AccessKey {
    /// Creates a key. Returns it with its text, which is stored nowhere.
    pub fn create(
        random: &mut Random,
        name: &str,
        rights: Rights,
        rooms: Vec<RoomPattern>,
        expires: Option<u64>,
    ) -> (Self, String) {
        let text = format!("{PREFIX}{}", new_secret(random));
        (AccessKey { digest: Digest::of(&text), name: name.to_owned(), rights, rooms, expires }, text)
    }

    /// Parses a line of a keys file: a JSON object.
    ///
    /// # Errors
    /// A sentence that names the wrong member.
    pub fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("expected a JSON object: {error}"))?;
        let members = value.as_object().ok_or("expected a JSON object")?;
        if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(format!("{unknown:?} is not a member of a key: expected {}", MEMBERS.join(", ")));
        }
        let name = string(members, "name")?;
        let digest = string(members, "sha1")?;
        Ok(AccessKey {
            digest: Digest::parse(digest).ok_or("sha1: expected 40 hexadecimal digits")?,
            name: check_name(name).map(|()| name.to_owned())?,
            rights: list(members, "rights")?.into_iter().map(Rights::of_name).try_fold(Rights::NONE, |all, one| {
                one.map(|one| all | one).map_err(|error| format!("rights: {error}"))
            })?,
            rooms: list(members, "rooms")?
                .into_iter()
                .map(|pattern| RoomPattern::parse(pattern).map_err(|error| format!("rooms: {error}")))
                .collect::<Result<_, _>>()?,
            expires: match &members.get("expires") {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.as_u64().ok_or("expires: expected seconds since 1970, or null")?),
            },
        })
    }

    /// Creates the entry of a user whom a trusted proxy names, and who has no key: they may receive and send in all
    /// rooms. Its digest is that of the name, and no secret has it.
    pub fn of_name(name: &str) -> Self {
        AccessKey {
            digest: Digest::of(name),
            name: name.to_owned(),
            rights: Rights::READ_AND_SEND,
            rooms: vec![RoomPattern("*".to_owned())],
            expires: None,
        }
    }

    /// Whether it is valid at `date`, in seconds since 1970.
    pub fn is_valid(&self, date: u64) -> bool {
        self.expires.is_none_or(|expires| date < expires)
    }

    /// Whether it permits a room.
    pub fn may_enter(&self, room: &str) -> bool {
        self.rooms.iter().any(|pattern| pattern.matches(room))
    }

    /// Returns the patterns of its rooms.
    pub fn room_names(&self) -> Vec<&str> {
        self.rooms.iter().map(RoomPattern::as_str).collect()
    }
}

/// The line of a keys file.
impl fmt::Display for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sha1, rights, rooms) = (self.digest.to_string(), self.rights.names(), self.room_names());
        let line =
            json!({ "name": self.name, "rights": rights, "rooms": rooms, "expires": self.expires, "sha1": sha1 });
        write!(f, "{line}")
    }
}

const MEMBERS: [&str; 5] = ["name", "rights", "rooms", "expires", "sha1"];

/// Checks the name of an identity.
///
/// # Errors
/// A sentence if it is empty, longer than 64 characters, or has control characters or a slash, which separates it from
/// a `client_id`.
pub fn check_name(name: &str) -> Result<(), String> {
    if is_name(name) && !name.contains('/') { Ok(()) } else { Err(wrong_name(name)) }
}

fn wrong_name(name: &str) -> String {
    format!("name: expected 1 to {LONGEST_NAME} characters that can be seen, without a slash, not {name:?}")
}

/// Whether a text can be a name or a pattern.
fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.chars().count()) && !text.contains(char::is_control)
}

fn string<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    members.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name}: expected a string"))
}

fn list<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a str>, String> {
    let items = members.get(name).and_then(Value::as_array);
    items
        .and_then(|items| items.iter().map(Value::as_str).collect())
        .ok_or_else(|| format!("{name}: expected a list of strings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_fault_is_refused_with_a_sentence() {
        let whole = r#"{"name":"a","rights":["read"],"rooms":["*"],"sha1":"a9993e364706816aba3e25717850c26c9cd0d89d"}"#;
        let key = AccessKey::parse(whole).unwrap();
        assert_eq!((key.expires, key.may_enter("any"), key.is_valid(u64::MAX)), (None, true, true));
        for (from, to, sentence) in [
            (whole, "alice", "expected a JSON object: "),
            (whole, "[]", "expected a JSON object"),
            (r#""name":"a""#, r#""name":"""#, "name: expected 1 to 64 characters"),
            (r#""name":"a""#, r#""name":"a\u001bb""#, "name: expected 1 to 64 characters"),
            (r#""name":"a","#, "", "name: expected a string"),
            (r#"["read"]"#, r#"["write"]"#, r#"rights: expected read, send or admin, not "write""#),
            (r#"["read"]"#, r#""read""#, "rights: expected a list of strings"),
            (r#"["*"]"#, r#"["a*b"]"#, "rooms: expected the name of a room"),
            (r#"["*"]"#, r#"[""]"#, "rooms: expected the name of a room"),
            (r#"["*"]"#, r#"["*"],"expires":"soon""#, "expires: expected seconds since 1970"),
            (r#"["*"]"#, r#"["*"],"expire":1"#, r#""expire" is not a member of a key"#),
            (r#"d89d""#, r#"d89""#, "sha1: expected 40 hexadecimal digits"),
        ] {
            let error = AccessKey::parse(&whole.replace(from, to)).expect_err(to);
            assert!(error.starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn a_name_of_several_bytes_a_character_can_be_a_pattern() {
        for text in ["é", "é*", "日本*"] {
            assert_eq!(RoomPattern::parse(text).map(|pattern| pattern.0).as_deref(), Ok(text));
        }
    }
}
