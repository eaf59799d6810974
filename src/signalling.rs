//! Signalling for WebRTC: the peers of each room, and the messages that they send to each other through the server. It
//! is the signalling path of RFC 8825, section 3. The media and data of the peers take another path.
//!
//! Two browsers that want a direct connection exchange descriptions of themselves first: an offer, an answer, and ICE
//! candidates, which are addresses to try. They have no connection yet, so both send them to a server that each of them
//! can reach. The server does not read them. Once the browsers are connected, the server may end without ending their
//! connection.
//!
//! All messages are JSON objects, one in each WebSocket text message.
//!
//! | to | message | when |
//! |-|-|-|
//! | the new peer | `{"type": "welcome", "peer_id": "<uuid>", "peers": ["<uuid>", ...]}` | first of all: its own id, and the ids of the peers that were there before it |
//! | the other peers | `{"type": "joined", "peer_id": "<uuid>"}` | a peer has joined |
//! | the other peers | `{"type": "left", "peer_id": "<uuid>"}` | a peer has left |
//! | the server | `{"type": "offer", "to": "<uuid>", ...}`, or `"answer"`, or `"candidate"` | to be relayed |
//! | the peer with that id | the same with `"from": "<uuid>"`, and without `"to"` | relayed |
//! | the sender | `{"type": "error", "error": "<found and expected>"}` | the message was not relayed |
//!
//! A new peer sends an offer to each peer that was there before it, and those wait for the offer. So two peers never
//! send each other an offer at the same time, which is called glare.
//!
//! The server sets `from`, so the receiver can trust it. The rest of a relayed message comes from the sender, but it is
//! parsed and written again: its members are in alphabetical order, and a member that was there twice is there once.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::books;
use crate::json;
use crate::websocket::Message;

/// The length of the longest message that is relayed, in bytes. The description of a connection with a data channel is
/// shorter than 1 KiB, one with cameras and screens has about 10 KiB.
const MAX_MESSAGE: usize = 64 * 1024;

/// The values of `type` of a relayed message.
const RELAYED: [&str; 3] = ["offer", "answer", "candidate"];

/// A text, and the connections that receive it.
///
/// ```
/// use overwire::signalling::{Delivery, Signalling};
///
/// let mut signalling = Signalling::new(2, 100);
/// let deliveries = signalling.join("first connection", "ada".into(), "tea")?;
/// let Delivery { to, text } = &deliveries[0];
/// assert_eq!(to, &["first connection"]);
/// assert_eq!(text, r#"{"peer_id":"ada","peers":[],"type":"welcome"}"#);
/// # Ok::<(), overwire::signalling::JoinError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<C> {
    /// The receivers.
    pub to: Vec<C>,
    /// JSON.
    pub text: String,
}

/// The reason that a peer cannot join a room now.
///
/// ```
/// use overwire::signalling::{JoinError, Signalling};
///
/// let mut signalling = Signalling::new(1, 100);
/// signalling.join("first connection", "ada".into(), "tea")?;
/// let error = signalling.join("second connection", "bob".into(), "tea").unwrap_err();
/// assert_eq!(error, JoinError::RoomFull(1));
/// assert_eq!(error.to_string(), "the room is full: expected fewer than 1 peers in it");
/// # Ok::<(), JoinError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// The room has this number of peers, which is the most.
    RoomFull(usize),
    /// There is this number of rooms, which is the most.
    TooManyRooms(usize),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::RoomFull(most) => write!(f, "the room is full: expected fewer than {most} peers in it"),
            JoinError::TooManyRooms(most) => {
                write!(f, "there are already {most} rooms, which is the limit: try again later")
            }
        }
    }
}

impl std::error::Error for JoinError {}

struct Peer<C> {
    id: String,
    conn: C,
}

/// The peers of a room.
struct Room<C> {
    peers: Vec<Peer<C>>,
    /// The number of the change after which the room had one peer.
    alone_since: u64,
}

/// All rooms, and the peers in each. `C` is the id of a connection, which is in at most one room.
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
    rooms: HashMap<Rc<str>, Room<C>>,
    /// The room of each connection.
    room_of: HashMap<C, Rc<str>>,
    /// The number of peers that have joined or left.
    changes: u64,
    /// The bytes of the ids of all peers.
    ids: usize,
    peers_per_room: usize,
    max_rooms: usize,
}

impl<C: Copy + Eq + Hash> Signalling<C> {
    /// Creates an empty set of at most `max_rooms` rooms, with at most `peers_per_room` peers in each. A room exists as
    /// long as a peer is in it.
    pub fn new(peers_per_room: usize, max_rooms: usize) -> Self {
        Signalling { rooms: HashMap::new(), room_of: HashMap::new(), changes: 0, ids: 0, peers_per_room, max_rooms }
    }

    // ANCHOR: join
    /// Adds a connection to a room. It must not be in one yet. `peer_id` has to be random, because everyone who knows
    /// it can send to this peer. Returns `welcome` for the new peer and, if there are other peers, `joined` for them.
    ///
    /// # Errors
    /// When the room is full, or when it would be one room too many.
    pub fn join(&mut self, conn: C, peer_id: String, room: &str) -> Result<Vec<Delivery<C>>, JoinError> {
        let others: &[Peer<C>] = self.rooms.get(room).map_or(&[], |room| &room.peers);
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
        self.changes += 1;
        self.ids += peer_id.len();
        let name: Rc<str> = room.into();
        let room = self.rooms.entry(name.clone()).or_insert(Room { peers: Vec::new(), alone_since: self.changes });
        room.peers.push(Peer { id: peer_id, conn });
        self.room_of.insert(conn, name);
        Ok(deliveries)
    }
    // ANCHOR_END: join

    // ANCHOR: relay
    /// Relays a peer's message, of at most 64 KiB, to the peer that it names, or returns an error to the sender.
    pub fn relay(&self, conn: C, message: &Message) -> Delivery<C> {
        self.address(conn, message).unwrap_or_else(|sentence| {
            let text = json!({ "type": "error", "error": sentence }).to_string();
            Delivery { to: vec![conn], text }
        })
    }

    fn address(&self, conn: C, message: &Message) -> Result<Delivery<C>, String> {
        let room = self.room_of.get(&conn).and_then(|room| self.rooms.get(room));
        let peers = &room.ok_or("expected a peer that has joined a room")?.peers;
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
        // A sender cannot choose its own name.
        members.insert("from".into(), sender.id.as_str().into());
        Ok(Delivery { to: vec![addressee.conn], text: Value::Object(members).to_string() })
    }
    // ANCHOR_END: relay

    /// Removes a connection. Returns `left` for the peers that remain in the room, if there are any.
    pub fn leave(&mut self, conn: C) -> Option<Delivery<C>> {
        let name = self.room_of.remove(&conn)?;
        let Room { peers, alone_since } = self.rooms.get_mut(&name)?;
        let at = peers.iter().position(|peer| peer.conn == conn)?;
        let left = peers.remove(at);
        self.ids -= left.id.len();
        self.changes += 1;
        *alone_since = self.changes;
        if peers.is_empty() {
            self.rooms.remove(&name);
            return None;
        }
        let text = json!({ "type": "left", "peer_id": left.id }).to_string();
        Some(Delivery { to: peers.iter().map(|peer| peer.conn).collect(), text })
    }

    /// Returns the peer that has been alone in its room for longest. When there are too many rooms, it is the one to make
    /// room for another.
    ///
    /// ```
    /// use overwire::signalling::{JoinError, Signalling};
    ///
    /// let mut signalling = Signalling::new(2, 2);
    /// signalling.join(1, "ada".into(), "tea")?;
    /// signalling.join(2, "bob".into(), "coffee")?;
    /// assert_eq!(signalling.join(3, "cy".into(), "milk"), Err(JoinError::TooManyRooms(2)));
    /// assert_eq!(signalling.alone_for_longest(), Some(1));
    /// signalling.leave(1);
    /// signalling.join(3, "cy".into(), "milk")?;
    /// # Ok::<(), JoinError>(())
    /// ```
    pub fn alone_for_longest(&self) -> Option<C> {
        let alone = self.rooms.values().filter(|room| room.peers.len() == 1);
        alone.min_by_key(|room| room.alone_since).map(|room| room.peers[0].conn)
    }

    /// Returns the name of the room of a connection, and its peer id.
    ///
    /// ```
    /// use overwire::signalling::Signalling;
    ///
    /// let mut signalling = Signalling::new(2, 100);
    /// signalling.join(1, "ada".into(), "tea")?;
    /// assert_eq!(signalling.place_of(1), Some(("tea", "ada")));
    /// assert_eq!(signalling.place_of(2), None);
    /// # Ok::<(), overwire::signalling::JoinError>(())
    /// ```
    pub fn place_of(&self, conn: C) -> Option<(&str, &str)> {
        let name = self.room_of.get(&conn)?;
        let peer = self.rooms.get(name)?.peers.iter().find(|peer| peer.conn == conn)?;
        Some((name, &peer.id))
    }

    /// Returns the most bytes that this number of rooms and peers takes. Ids are UUIDs.
    pub(crate) fn bytes_of(peers: usize, rooms: usize) -> usize {
        const UUID: usize = 36;
        const LONGEST_NAME: usize = 4 * 64; // in UTF-8
        let names = rooms * (2 * size_of::<usize>() + LONGEST_NAME);
        let places = books::map_of::<Rc<str>, Room<C>>(rooms) + books::map_of::<C, Rc<str>>(peers);
        names + places + peers * (UUID + 2 * size_of::<Peer<C>>())
    }

    /// Returns the number of bytes that the rooms and their peers take, to within a few per cent.
    pub(crate) fn bytes(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>(); // of an Rc
        let place = |capacity: usize, entry: usize| capacity * 8 / 7 * (entry + 1);
        let of_room =
            |(name, room): (&Rc<str>, &Room<C>)| COUNTS + name.len() + room.peers.capacity() * size_of::<Peer<C>>();
        place(self.rooms.capacity(), size_of::<(Rc<str>, Room<C>)>())
            + place(self.room_of.capacity(), size_of::<(C, Rc<str>)>())
            + self.ids
            + self.rooms.iter().map(of_room).sum::<usize>()
    }

    /// Gives back the memory of rooms that are gone.
    pub(crate) fn shrink(&mut self) {
        self.rooms.shrink_to(2 * self.rooms.len());
        self.room_of.shrink_to(2 * self.room_of.len());
    }

    /// Removes all connections, and notifies none of them.
    pub fn clear(&mut self) {
        (self.rooms, self.room_of, self.ids) = (HashMap::new(), HashMap::new(), 0);
    }

    /// Returns the ids of the peers in a room, in the order of their arrival.
    ///
    /// ```
    /// use overwire::signalling::Signalling;
    ///
    /// let mut signalling = Signalling::new(2, 100);
    /// signalling.join(1, "ada".into(), "tea")?;
    /// assert!(signalling.peers("tea").eq(["ada"]));
    /// assert_eq!(signalling.peers("coffee").count(), 0);
    /// # Ok::<(), overwire::signalling::JoinError>(())
    /// ```
    pub fn peers(&self, room: &str) -> impl Iterator<Item = &str> {
        self.rooms.get(room).into_iter().flat_map(|room| &room.peers).map(|peer| peer.id.as_str())
    }
}

/// Returns the members of a message, which is a JSON object.
fn parse(message: &Message) -> Result<Map<String, Value>, String> {
    let Message::Text(text) = message else {
        return Err("expected a text message with a JSON object, not a binary one".into());
    };
    if text.len() > MAX_MESSAGE {
        return Err(format!("the message has {} bytes: expected at most {MAX_MESSAGE}", text.len()));
    }
    match json::parse(text.as_bytes()) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => Err(format!("expected a JSON object, not {}", describe(&other))),
        Err(error) => Err(format!("expected a JSON object, but the message is {error}")),
    }
}

/// Returns a member that has to be a string.
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

/// Cuts a received value to a length that an error can show, and puts it in quotation marks.
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
    fn a_new_peer_gets_the_list_of_peers_and_they_get_its_id() {
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
        let third = signalling.join(3, "c".into(), "r").unwrap();
        assert!(third[0].text.contains(r#""peers":["a","b"]"#), "in the order in which they joined: {third:?}");
    }

    #[test]
    fn a_message_reaches_only_its_addressee_with_the_id_of_its_sender() {
        let signalling = three();
        for kind in RELAYED {
            let said = format!(r#"{{"type":"{kind}","to":"b","from":"c","x":[1,{{"y":null}}],"sdp":"v=0\r\n"}}"#);
            let delivery = signalling.relay(1, &text(&said));
            let relayed = format!(r#"{{"from":"a","sdp":"v=0\r\n","type":"{kind}","x":[1,{{"y":null}}]}}"#);
            assert_eq!(delivery, Delivery { to: vec![2], text: relayed });
        }
    }

    #[test]
    fn a_message_that_cannot_be_relayed_is_an_error_for_its_sender() {
        let signalling = three();
        let long = format!(r#"{{"type":"offer","to":"b","sdp":"{}"}}"#, "x".repeat(MAX_MESSAGE));
        for (message, expected) in [
            (Message::Binary(b"{}".to_vec()), "not a binary one"),
            (text(""), "is not JSON"),
            (text("{"), "is not JSON"),
            (text(&"[".repeat(1000)), "is too complex: found level 33"),
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
            assert!(error["error"].as_str().unwrap().contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn rooms_are_separate() {
        let mut signalling = Signalling::new(2, 2);
        signalling.join(1, "a".into(), "one").unwrap();
        assert_eq!(signalling.join(2, "b".into(), "other").unwrap().len(), 1);
        assert_eq!(signalling.relay(1, &text(r#"{"type":"offer","to":"b"}"#)).to, [1]);
        assert_eq!(signalling.leave(1), None);
    }

    #[test]
    fn a_leaving_peer_is_announced_once_to_the_others() {
        let mut signalling = three();
        let left = Delivery { to: vec![1, 3], text: r#"{"peer_id":"b","type":"left"}"#.into() };
        assert_eq!((signalling.leave(2), signalling.leave(2)), (Some(left), None));
        assert!(signalling.relay(1, &text(r#"{"type":"answer","to":"b"}"#)).text.contains("has it left?"));
        assert!(signalling.relay(2, &text(r#"{"type":"answer","to":"a"}"#)).text.contains("joined a room"));
        signalling.clear();
        assert_eq!(signalling.leave(1), None);
    }

    #[test]
    fn rooms_and_peers_are_bounded_and_an_empty_room_is_removed() {
        let mut signalling = three();
        assert_eq!(signalling.join(4, "d".into(), "r"), Err(JoinError::RoomFull(3)));
        signalling.join(4, "d".into(), "s").unwrap();
        assert_eq!(signalling.join(5, "e".into(), "t"), Err(JoinError::TooManyRooms(2)));
        signalling.leave(4);
        assert!(signalling.join(5, "e".into(), "t").is_ok());
        signalling.leave(1);
        assert!(signalling.join(1, "a".into(), "r").is_ok());
    }

    #[test]
    fn the_peer_alone_for_longest_is_found() {
        let mut signalling = Signalling::new(3, 4);
        assert_eq!(signalling.alone_for_longest(), None);
        for (conn, room) in [(1, "r"), (2, "r"), (3, "s"), (4, "t"), (5, "u"), (6, "u")] {
            signalling.join(conn, conn.to_string(), room).unwrap();
        }
        assert_eq!(signalling.alone_for_longest(), Some(3));
        signalling.leave(2);
        signalling.leave(3);
        assert_eq!(signalling.alone_for_longest(), Some(4), "1 has been alone since 2 left");
        signalling.join(7, "7".into(), "t").unwrap();
        assert_eq!(signalling.alone_for_longest(), Some(1));
    }
}
