//! The entries of a log as Redis sends them: in the replies of the two scripts, and as notices.

use crate::bytes::digits;
use crate::feed::Cursor;
use crate::journal::Ticket;
use crate::resp::Value;

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub cursor: Cursor,
    /// The node that has appended it, and the node's ticket for it: `NODE:TICKET`.
    pub by: String,
    /// The message. Empty for the first entry of a stream, which is only a position.
    pub body: String,
}

impl Entry {
    /// Parses a line of a notice: `EPOCH SEQUENCE-CHECK NODE:TICKET MESSAGE`.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let cursor = cursor(parts.next()?, parts.next()?)?;
        Some(Entry { cursor, by: parts.next()?.into(), body: parts.next()?.into() })
    }

    /// Parses the position in a line of a notice.
    pub fn position(line: &str) -> Option<Cursor> {
        let mut parts = line.splitn(3, ' ');
        cursor(parts.next()?, parts.next()?)
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

/// Returns the ticket in `NODE:TICKET`. `None` if it is one of another node.
pub fn ticket_of(by: &str, node: &str) -> Option<Ticket> {
    let (by, ticket) = by.split_once(':')?;
    digits(ticket.as_bytes()).filter(|_| by == node).map(Ticket)
}

/// What has become of a message: a part of the reply of `append.lua`.
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
    /// Parses what a reply has for one message: a text. `None` if it is not one.
    pub fn of_reply(outcome: &Value) -> Option<Self> {
        let mut words = text(outcome)?.split(' ');
        let (kind, mut next) = (words.next()?, || words.next());
        match kind {
            "appended" => Some(Appended::Yes(cursor(next()?, next()?)?)),
            "repeated" => Some(Appended::Repeated(cursor(next()?, next()?)?, next()?.parse().ok()?)),
            "conflict" => Some(Appended::Conflict),
            "known" => Some(Appended::Known),
            "missing" => Some(Appended::Missing),
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
        let line = r#"1152921504606846975 7-4194303 a1:3 {"text":"a b"}"#;
        let entry = Entry::of_line(line).unwrap();
        assert_eq!(Entry::position(line), Some(entry.cursor));
        assert_eq!(entry.cursor.to_string(), "ffffffff-ffff-8fff-bfff-ff0000000007");
        assert_eq!((id(entry.cursor).as_str(), entry.body.as_str()), ("7-4194303", r#"{"text":"a b"}"#));
        assert_eq!((ticket_of(&entry.by, "a1"), ticket_of(&entry.by, "a")), (Some(Ticket(3)), None));
        let fields = ["e", "1152921504606846975", "t", "9", "n", "a1:3", "m", r#"{"text":"a b"}"#];
        let value = Value::Array(vec![blob("7-4194303"), Value::Array(fields.map(blob).into())]);
        assert_eq!(Entry::of_reply(&Value::Array(vec![value])), Some(vec![entry]));
    }

    #[test]
    fn what_is_not_an_entry_is_refused() {
        for line in
            ["", "1 2-3", "1 2-3 a:1", "x 2-3 a:1 m", "1 2 a:1 m", "1 2-4194304 a:1 m", "1 1099511627776-3 a:1 m"]
        {
            assert_eq!(Entry::of_line(line), None, "{line}");
        }
        for reply in [Value::Null, Value::Array(vec![]), Value::Array(vec![blob("1-2")])] {
            assert_eq!(Entry::of_reply(&reply), None, "{reply:?}");
        }
    }

    #[test]
    fn the_replies_to_an_append_are_parsed() {
        let at = Cursor::of_parts(9, 5, 2).unwrap();
        for (outcome, appended) in [
            ("appended 9 2-5", Some(Appended::Yes(at))),
            ("repeated 9 2-5 1700000000.125", Some(Appended::Repeated(at, 1700000000.125))),
            ("conflict", Some(Appended::Conflict)),
            ("known", Some(Appended::Known)),
            ("missing", Some(Appended::Missing)),
            ("appended 9 2", None),
            ("appended 9", None),
            ("", None),
        ] {
            assert_eq!(Appended::of_reply(&blob(outcome)), appended, "{outcome}");
        }
        assert_eq!(Appended::of_reply(&Value::Null), None);
    }
}
