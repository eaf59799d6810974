//! Signalling for WebRTC: who is in which room, and who is told what. It is the signalling path of
//! RFC 8825, section 3; what the peers say to each other takes another path.
//!
//! Two browsers that want a direct connection have to exchange descriptions of themselves first:
//! an offer, an answer, and ICE candidates, which are addresses to try. They cannot send them to
//! each other, because they have no connection yet, so both send them to a server that each of
//! them can reach. That server looks into none of it. What the peers then say to each other does
//! not pass through it, and it may end without ending that.
//!
//! All messages are JSON objects, one in each WebSocket text message.
//!
//! | to | message | when |
//! |-|-|-|
//! | the newcomer | `{"type": "welcome", "peer_id": "<uuid>", "peers": ["<uuid>", ...]}` | first of all: its own id, and the ids of those who were there before it |
//! | the others | `{"type": "joined", "peer_id": "<uuid>"}` | somebody came |
//! | the others | `{"type": "left", "peer_id": "<uuid>"}` | somebody went |
//! | the server | `{"type": "offer", "to": "<uuid>", ...}`, or `"answer"`, or `"candidate"` | to be relayed |
//! | the peer of that id | the same with `"from": "<uuid>"`, and without `"to"` | relayed |
//! | the sender | `{"type": "error", "error": "what was wrong, and what was expected"}` | it was not; nothing else changes |
//!
//! The newcomer offers to those who were there; they wait for its offer. So two peers never offer
//! to each other at the same time, which is called glare.
//!
//! `from` is set here, whatever the sender wrote, so a peer can believe it. The rest of a relayed
//! message is the sender's, but parsed and written anew: members come in alphabetical order, and
//! of two with one name only the last is left.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::websocket::Message;

/// The longest message that is relayed, in bytes. A description of a connection with a data channel
/// takes less than 1 KiB, one with cameras and screens some 10 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What is relayed: the values of `type`.
const RELAYED: [&str; 3] = ["offer", "answer", "candidate"];

/// A text, and the connections it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<C> {
    /// Who is to be sent it.
    pub to: Vec<C>,
    /// JSON.
    pub text: String,
}

/// Why nobody may join a room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// So many peers are in it, as many as may be.
    RoomFull(usize),
    /// There are so many rooms, as many as may be.
    TooManyRooms(usize),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::RoomFull(most) => write!(f, "the room is full: expected fewer than {most} peers in it"),
            JoinError::TooManyRooms(most) => write!(f, "there are {most} rooms and may be no more: try again later"),
        }
    }
}

impl std::error::Error for JoinError {}

struct Peer<C> {
    id: String,
    conn: C,
}

/// All rooms, and the peers in each. `C` names a connection; a connection is in one room at most.
///
/// ```
/// use overwire::signalling::Signalling;
/// use overwire::websocket::Message;
///
/// let mut signalling = Signalling::new(2, 100);
/// signalling.join("first connection", "ada".into(), "tea")?;
/// signalling.join("second connection", "bob".into(), "tea")?;
/// let offer = Message::Text(r#"{"type":"offer","to":"ada","from":"eve","sdp":"v=0"}"#.into());
/// let delivery = signalling.relay("second connection", &offer);
/// assert_eq!(delivery.to, ["first connection"]);
/// assert_eq!(delivery.text, r#"{"from":"bob","sdp":"v=0","type":"offer"}"#);
/// # Ok::<(), overwire::signalling::JoinError>(())
/// ```
pub struct Signalling<C> {
    rooms: HashMap<Rc<str>, Vec<Peer<C>>>,
    /// Which room a connection is in.
    whereabouts: HashMap<C, Rc<str>>,
    peers_per_room: usize,
    max_rooms: usize,
}

impl<C: Copy + Eq + Hash> Signalling<C> {
    /// No rooms yet, and at most so many. A room is there as long as a peer is in it.
    pub fn new(peers_per_room: usize, max_rooms: usize) -> Self {
        Signalling { rooms: HashMap::new(), whereabouts: HashMap::new(), peers_per_room, max_rooms }
    }

    // ANCHOR: join
    /// Adds a connection, which is in no room yet, to a room. `peer_id` has to be random: whoever
    /// knows it can send to this peer. Returns the welcome for the newcomer and, if others are
    /// there, the news for them.
    ///
    /// # Errors
    /// When the room is full, or would be one too many.
    pub fn join(&mut self, conn: C, peer_id: String, room: &str) -> Result<Vec<Delivery<C>>, JoinError> {
        let others: &[Peer<C>] = self.rooms.get(room).map_or(&[], Vec::as_slice);
        if others.len() >= self.peers_per_room {
            return Err(JoinError::RoomFull(self.peers_per_room));
        }
        if others.is_empty() && self.rooms.len() >= self.max_rooms {
            return Err(JoinError::TooManyRooms(self.max_rooms));
        }
        let ids: Vec<&str> = others.iter().map(|peer| peer.id.as_str()).collect();
        let welcome = json!({ "type": "welcome", "peer_id": peer_id, "peers": ids });
        let joined = json!({ "type": "joined", "peer_id": peer_id });
        let mut deliveries = vec![Delivery { to: vec![conn], text: welcome.to_string() }];
        if !others.is_empty() {
            let to = others.iter().map(|peer| peer.conn).collect();
            deliveries.push(Delivery { to, text: joined.to_string() });
        }
        let room: Rc<str> = room.into();
        self.rooms.entry(room.clone()).or_default().push(Peer { id: peer_id, conn });
        self.whereabouts.insert(conn, room);
        Ok(deliveries)
    }
    // ANCHOR_END: join

    // ANCHOR: relay
    /// What becomes of a peer's message: it is for the peer that it names, or there is an error
    /// for the sender.
    pub fn relay(&self, conn: C, message: &Message) -> Delivery<C> {
        self.address(conn, message).unwrap_or_else(|sentence| {
            let text = json!({ "type": "error", "error": sentence }).to_string();
            Delivery { to: vec![conn], text }
        })
    }

    fn address(&self, conn: C, message: &Message) -> Result<Delivery<C>, String> {
        let peers = self.whereabouts.get(&conn).and_then(|room| self.rooms.get(room));
        let peers = peers.ok_or("expected a peer that has joined a room")?;
        let sender = peers.iter().find(|peer| peer.conn == conn).ok_or("expected a peer of this room")?;
        let mut members = parse(message)?;
        let kind = string(&members, "type", "\"offer\", \"answer\" or \"candidate\"")?;
        if !RELAYED.contains(&kind) {
            return Err(format!("type: expected \"offer\", \"answer\" or \"candidate\", not {}", shorten(kind)));
        }
        let to = string(&members, "to", "the peer_id of another peer in this room")?;
        let addressee = peers.iter().find(|peer| peer.id == to && peer.conn != conn).ok_or_else(|| {
            format!("to: expected the peer_id of another peer in this room, not {}: has it left?", shorten(to))
        })?;
        members.remove("to");
        // Not what the sender says it is, but what the server knows it to be.
        members.insert("from".into(), sender.id.as_str().into());
        Ok(Delivery { to: vec![addressee.conn], text: Value::Object(members).to_string() })
    }
    // ANCHOR_END: relay

    /// Forgets a connection. Returns the news for those who stay, if there are any.
    pub fn leave(&mut self, conn: C) -> Option<Delivery<C>> {
        let room = self.whereabouts.remove(&conn)?;
        let peers = self.rooms.get_mut(&room)?;
        let at = peers.iter().position(|peer| peer.conn == conn)?;
        let gone = peers.remove(at);
        if peers.is_empty() {
            self.rooms.remove(&room);
            return None;
        }
        let text = json!({ "type": "left", "peer_id": gone.id }).to_string();
        Some(Delivery { to: peers.iter().map(|peer| peer.conn).collect(), text })
    }

    /// Forgets everyone: at the end of a server, nobody need be told who else leaves.
    pub fn clear(&mut self) {
        self.rooms.clear();
        self.whereabouts.clear();
    }

    /// The ids of the peers in a room, in the order in which they came.
    pub fn peers(&self, room: &str) -> impl Iterator<Item = &str> {
        self.rooms.get(room).into_iter().flatten().map(|peer| peer.id.as_str())
    }
}

/// The members of the object that a message is.
fn parse(message: &Message) -> Result<Map<String, Value>, String> {
    let Message::Text(text) = message else {
        return Err("expected a text message with a JSON object, not a binary one".into());
    };
    if text.len() > MAX_MESSAGE {
        return Err(format!("the message has {} bytes: expected at most {MAX_MESSAGE}", text.len()));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => Err(format!("expected a JSON object, not {}", describe(&other))),
        Err(error) => Err(format!("expected a JSON object, but the message is not JSON: {error}")),
    }
}

/// A member that has to be a string.
fn string<'a>(members: &'a Map<String, Value>, name: &str, expected: &str) -> Result<&'a str, String> {
    match members.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name}: expected {expected}, not {}", describe(other))),
        None => Err(format!("{name}: expected {expected}, but it is missing")),
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// What came, in quotation marks, and short enough to be shown.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Message {
        Message::Text(text.into())
    }

    /// Connections 1, 2 and 3 are peers a, b and c in the room r.
    fn three() -> Signalling<u8> {
        let mut signalling = Signalling::new(3, 2);
        for (conn, id) in [(1, "a"), (2, "b"), (3, "c")] {
            signalling.join(conn, id.into(), "r").unwrap();
        }
        signalling
    }

    #[test]
    fn a_newcomer_is_told_who_is_there_and_they_are_told_who_came() {
        let mut signalling = Signalling::new(3, 2);
        let first = signalling.join(1, "a".into(), "r").unwrap();
        assert_eq!(first, [Delivery { to: vec![1], text: r#"{"peer_id":"a","peers":[],"type":"welcome"}"#.into() }]);
        let second = signalling.join(2, "b".into(), "r").unwrap();
        assert_eq!(
            second,
            [
                Delivery { to: vec![2], text: r#"{"peer_id":"b","peers":["a"],"type":"welcome"}"#.into() },
                Delivery { to: vec![1], text: r#"{"peer_id":"b","type":"joined"}"#.into() },
            ]
        );
        assert_eq!(signalling.peers("r").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn only_the_addressee_is_given_a_message_and_it_learns_who_sent_it() {
        let signalling = three();
        for kind in RELAYED {
            let said = format!(r#"{{"type":"{kind}","to":"b","from":"c","x":[1,{{"y":null}}],"sdp":"v=0\r\n"}}"#);
            let delivery = signalling.relay(1, &text(&said));
            let relayed = format!(r#"{{"from":"a","sdp":"v=0\r\n","type":"{kind}","x":[1,{{"y":null}}]}}"#);
            assert_eq!(delivery, Delivery { to: vec![2], text: relayed });
        }
    }

    #[test]
    fn what_cannot_be_relayed_comes_back_as_an_error() {
        let signalling = three();
        let long = format!(r#"{{"type":"offer","to":"b","sdp":"{}"}}"#, "x".repeat(MAX_MESSAGE));
        for (message, complaint) in [
            (Message::Binary(b"{}".to_vec()), "not a binary one"),
            (text(""), "is not JSON"),
            (text("{"), "is not JSON"),
            (text(&"[".repeat(1000)), "is not JSON"),
            (text("[]"), "expected a JSON object, not an array"),
            (text("{}"), "type: expected"),
            (text(r#"{"type":1,"to":"b"}"#), "not a number"),
            (text(r#"{"type":"welcome","to":"b"}"#), "not \"welcome\""),
            (text(r#"{"type":"offer"}"#), "to: expected"),
            (text(r#"{"type":"offer","to":["b"]}"#), "not an array"),
            (text(r#"{"type":"offer","to":"d"}"#), "not \"d\": has it left?"),
            (text(r#"{"type":"offer","to":"a"}"#), "another peer"),
            (text(&format!(r#"{{"type":"offer","to":"{}"}}"#, "\u{e9}".repeat(100))), "\"...: has it left?"),
            (text(&long), "expected at most 65536"),
        ] {
            let Delivery { to, text } = signalling.relay(1, &message);
            let error: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((to, &error["type"]), (vec![1], &json!("error")));
            assert!(error["error"].as_str().unwrap().contains(complaint), "{complaint}: {text}");
        }
    }

    #[test]
    fn rooms_do_not_hear_of_each_other() {
        let mut signalling = Signalling::new(2, 2);
        signalling.join(1, "a".into(), "one").unwrap();
        assert_eq!(signalling.join(2, "b".into(), "other").unwrap().len(), 1);
        assert_eq!(signalling.relay(1, &text(r#"{"type":"offer","to":"b"}"#)).to, [1]);
        assert_eq!(signalling.leave(1), None);
    }

    #[test]
    fn who_leaves_is_announced_to_those_who_stay_once() {
        let mut signalling = three();
        let left = Delivery { to: vec![1, 3], text: r#"{"peer_id":"b","type":"left"}"#.into() };
        assert_eq!((signalling.leave(2), signalling.leave(2)), (Some(left), None));
        assert!(signalling.relay(1, &text(r#"{"type":"answer","to":"b"}"#)).text.contains("has it left?"));
        assert!(signalling.relay(2, &text(r#"{"type":"answer","to":"a"}"#)).text.contains("joined a room"));
        signalling.clear();
        assert_eq!(signalling.leave(1), None);
    }

    #[test]
    fn rooms_are_bounded_and_an_empty_one_is_none() {
        let mut signalling = three();
        assert_eq!(signalling.join(4, "d".into(), "r"), Err(JoinError::RoomFull(3)));
        signalling.join(4, "d".into(), "s").unwrap();
        assert_eq!(signalling.join(5, "e".into(), "t"), Err(JoinError::TooManyRooms(2)));
        signalling.leave(4);
        assert!(signalling.join(5, "e".into(), "t").is_ok());
        signalling.leave(1);
        assert!(signalling.join(1, "a".into(), "r").is_ok());
    }
}
