//! The entries of a log as Redis sends them: in the replies of the two scripts, and as notices.

use crate::bytes::digits;
use crate::feed::Cursor;
use crate::resp::Value;

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub cursor: Cursor,
    /// The node that has appended it, and the node's own number for it: `NODE:NUMBER`.
    pub by: String,
    /// The message. Empty for the first entry of a stream, which is only a position.
    pub body: String,
}

impl Entry {
    /// Parses a notice: `EPOCH SEQUENCE-CHECK NODE:NUMBER MESSAGE`.
    pub fn of_notice(notice: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(notice).ok()?.splitn(4, ' ');
        let cursor = cursor(parts.next()?, parts.next()?)?;
        Some(Entry { cursor, by: parts.next()?.into(), body: parts.next()?.into() })
    }

    /// Parses an entry in a reply: its id and its fields, of which the names are known.
    fn of_value(value: &Value) -> Option<Self> {
        let [id, fields] = value.values()? else { return None };
        let [_, epoch, _, _, _, by, _, body] = fields.values()? else { return None };
        Some(Entry { cursor: cursor(text(epoch)?, text(id)?)?, by: text(by)?.into(), body: text(body)?.into() })
    }

    /// Parses the reply of `open.lua`. `None` if it is not one.
    pub fn of_reply(reply: &Value) -> Option<Vec<Self>> {
        let entries = reply.values()?.iter().map(Entry::of_value).collect::<Option<Vec<_>>>()?;
        (!entries.is_empty()).then_some(entries)
    }
}

/// Returns the number in `NODE:NUMBER`. `None` if it is one of another node.
pub fn number_of(by: &str, node: &str) -> Option<u64> {
    let (by, number) = by.split_once(':')?;
    digits(number.as_bytes()).filter(|_| by == node)
}

/// The reply of `append.lua`.
#[derive(Debug, Clone, PartialEq)]
pub enum Appended {
    /// The message is in the log.
    Yes(Cursor),
    /// The message was appended before, with the same key.
    Repeated(Cursor, f64),
    /// Another message has the key.
    Conflict,
    /// A command with this number was executed. Its message is not in the log.
    Known,
    /// There is no such log.
    Missing,
}

impl Appended {
    /// Parses a reply. `None` if it is not one.
    pub fn of_reply(reply: &Value) -> Option<Self> {
        let words = reply.values()?.iter().map(text).collect::<Option<Vec<_>>>()?;
        match words[..] {
            ["appended", epoch, id] => cursor(epoch, id).map(Appended::Yes),
            ["repeated", epoch, id, time] => Some(Appended::Repeated(cursor(epoch, id)?, time.parse().ok()?)),
            ["conflict"] => Some(Appended::Conflict),
            ["known"] => Some(Appended::Known),
            ["missing"] => Some(Appended::Missing),
            _ => None,
        }
    }
}

/// Writes the id of an entry.
pub fn id(cursor: Cursor) -> String {
    format!("{}-{}", cursor.sequence(), cursor.check())
}

fn cursor(epoch: &str, id: &str) -> Option<Cursor> {
    let (sequence, check) = id.split_once('-')?;
    let [epoch, sequence, check] = [epoch, sequence, check].map(|number| digits(number.as_bytes()));
    Cursor::of_parts(epoch?, u32::try_from(check?).ok()?, sequence?)
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Value {
        Value::Blob(text.into())
    }

    #[test]
    fn an_entry_is_the_same_in_a_notice_and_in_a_reply() {
        let entry = Entry::of_notice(br#"1152921504606846975 7-4194303 a1:3 {"text":"a b"}"#).unwrap();
        assert_eq!(entry.cursor.to_string(), "ffffffff-ffff-8fff-bfff-ff0000000007");
        assert_eq!((id(entry.cursor).as_str(), entry.body.as_str()), ("7-4194303", r#"{"text":"a b"}"#));
        assert_eq!((number_of(&entry.by, "a1"), number_of(&entry.by, "a")), (Some(3), None));
        let fields = ["e", "1152921504606846975", "t", "9", "n", "a1:3", "m", r#"{"text":"a b"}"#];
        let value = Value::Array(vec![blob("7-4194303"), Value::Array(fields.map(blob).into())]);
        assert_eq!(Entry::of_reply(&Value::Array(vec![value])), Some(vec![entry]));
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        for notice in
            ["", "1 2-3", "1 2-3 a:1", "x 2-3 a:1 m", "1 2 a:1 m", "1 2-4194304 a:1 m", "1 1099511627776-3 a:1 m"]
        {
            assert_eq!(Entry::of_notice(notice.as_bytes()), None, "{notice}");
        }
        for reply in [Value::Null, Value::Array(vec![]), Value::Array(vec![blob("1-2")])] {
            assert_eq!(Entry::of_reply(&reply), None, "{reply:?}");
        }
    }

    #[test]
    fn the_replies_to_an_append_are_parsed() {
        let at = Cursor::of_parts(9, 5, 2).unwrap();
        for (words, appended) in [
            (&["appended", "9", "2-5"][..], Some(Appended::Yes(at))),
            (&["repeated", "9", "2-5", "1700000000.125"], Some(Appended::Repeated(at, 1700000000.125))),
            (&["conflict"], Some(Appended::Conflict)),
            (&["known"], Some(Appended::Known)),
            (&["missing"], Some(Appended::Missing)),
            (&["appended", "9", "2"], None),
            (&[], None),
        ] {
            let reply = Value::Array(words.iter().map(|word| blob(word)).collect());
            assert_eq!(Appended::of_reply(&reply), appended, "{words:?}");
        }
        assert_eq!(Appended::of_reply(&Value::Null), None);
    }
}
