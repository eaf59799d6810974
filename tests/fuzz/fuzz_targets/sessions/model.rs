//! What was published, and what each reader has received.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

/// The rooms of a session.
pub const ROOMS: [&str; 2] = ["a", "b"];

/// The time for which a key is known, and the time for which a client is, in seconds.
const KEY_TIME: u64 = 300;
const CLIENT_TIME: u64 = 300;

/// The beginning of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the next message.
    Now,
    /// After the message with this id.
    After(String),
}

/// One stream, or one poll.
#[derive(Debug)]
pub struct Reader {
    pub room: usize,
    pub is_poll: bool,
    start: Start,
    /// The number of the log that it reads. Each `forget` begins new ones.
    era: usize,
    /// The client whose position the server remembers, of a poll without a cursor.
    client: Option<usize>,
    /// The positions between which a reader without a cursor begins, and the one of the first retained message when it
    /// asked.
    earliest: usize,
    latest: Option<usize>,
    retained: usize,
    is_open: bool,
    is_recovered: bool,
    is_over: bool,
    got: Vec<(String, String)>,
    /// The messages of `got` that were compared with the log.
    checked: usize,
}

/// A message that was sent.
#[derive(Debug)]
struct Publication {
    room: usize,
    era: usize,
    text: String,
    key: Option<usize>,
    id: Option<String>,
    answered_at: Option<u64>,
}

/// The messages of a room, as the server lists them.
#[derive(Debug, Default)]
struct Log {
    messages: Vec<(String, String)>,
    places: HashMap<String, usize>,
    /// The position of the first message that is retained.
    retained: usize,
    is_used: bool,
    /// The last publication with each key, and its time.
    keys: HashMap<usize, (usize, u64)>,
}

/// The position of a client, for which the server remembers it.
#[derive(Debug, Default)]
struct Position {
    /// After the message with this id. `None` if it is not known.
    after: Option<String>,
    seen: u64,
    /// Two polls were under way at the same time: it is not known which of them the server has answered last.
    is_shared: bool,
}

/// A mailbox, and the texts that came out of it since a cursor was not recovered.
#[derive(Debug)]
pub struct Mailbox {
    pub id: String,
    pub last: Option<String>,
    put: HashSet<String>,
    ids: HashSet<String>,
}

#[derive(Default)]
pub struct Model {
    pub readers: Vec<Reader>,
    pub mailboxes: Vec<Mailbox>,
    logs: [Log; ROOMS.len()],
    publications: Vec<Publication>,
    positions: [[Position; 2]; ROOMS.len()],
    era: usize,
    now: u64,
    texts: usize,
}

impl Model {
    // Publishing.

    /// Adds a message to send. With a known key it is the message that was sent with it. `None` if it depends on
    /// milliseconds whether the key is known.
    pub fn draft(&mut self, room: usize, key: Option<usize>, length: usize) -> Option<usize> {
        self.logs[room].is_used = true;
        if let Some((known, at)) = key.and_then(|key| self.logs[room].keys.get(&key).copied()) {
            // A message that has not reached the server yet is younger than it seems.
            let answered_at = self.publications[known].answered_at;
            match self.now - at {
                age if age < KEY_TIME - 5 => return Some(known),
                _ if answered_at.is_some_and(|at| self.now - at > KEY_TIME + 5) => {}
                _ => return None,
            }
        }
        self.texts += 1;
        let text = format!("{}.{}", self.texts, "x".repeat(length));
        self.publications.push(Publication { room, era: self.era, text, key, id: None, answered_at: None });
        let number = self.publications.len() - 1;
        if let Some(key) = key {
            self.logs[room].keys.insert(key, (number, self.now));
        }
        Some(number)
    }

    pub fn content(&self, number: usize, names_room: bool) -> String {
        let Publication { room, text, key, .. } = &self.publications[number];
        let mut content = json!({ "sender": "s", "text": text });
        if names_room {
            content["room"] = ROOMS[*room].into();
        }
        if let Some(key) = key {
            content["key"] = format!("k{key}").into();
        }
        content.to_string()
    }

    pub fn is_surely_known(&self, room: usize, key: usize) -> bool {
        self.logs[room]
            .keys
            .get(&key)
            .is_some_and(|(number, at)| self.publications[*number].id.is_some() && self.now - at < KEY_TIME - 5)
    }

    pub fn answered(&mut self, number: usize, id: Option<String>) {
        let now = self.now;
        let publication = &mut self.publications[number];
        publication.answered_at.get_or_insert(now);
        match (&publication.id, id) {
            (Some(before), Some(id)) if publication.era == self.era => {
                assert_eq!(*before, id, "a key has two messages: {publication:?}");
            }
            (_, Some(id)) => publication.id = Some(id),
            (_, None) => {}
        }
    }

    // Reading.

    pub fn add_reader(&mut self, room: usize, start: Start) -> usize {
        let log = &mut self.logs[room];
        log.is_used = true;
        let earliest = log.messages.len();
        self.readers.push(Reader {
            room,
            is_poll: false,
            start,
            era: self.era,
            client: None,
            earliest,
            latest: None,
            retained: log.retained,
            is_open: false,
            is_recovered: true,
            is_over: false,
            got: Vec::new(),
            checked: 0,
        });
        self.readers.len() - 1
    }

    pub fn add_client_poll(&mut self, room: usize, client: usize) -> usize {
        let is_shared = self
            .readers
            .iter()
            .any(|reader| (reader.room, reader.client, reader.is_over) == (room, Some(client), false));
        let number = self.add_reader(room, Start::Now);
        let position = &mut self.positions[room][client];
        if self.now - position.seen >= CLIENT_TIME - 20 {
            *position = Position::default();
        }
        (position.seen, position.is_shared) = (self.now, is_shared);
        let after = position.after.take(); // until the answer is here
        let reader = &mut self.readers[number];
        (reader.is_poll, reader.client) = (true, Some(client));
        if let Some(after) = after {
            reader.start = Start::After(after);
        }
        number
    }

    /// The connection of a reader is gone before its answer.
    pub fn abandon(&mut self, reader: usize) {
        self.readers[reader].is_over = true;
    }

    /// The stream has begun. It begins at the latest with the next message after the next update of the log.
    pub fn opened(&mut self, reader: usize) {
        self.readers[reader].is_open = true;
    }

    /// An answer to a poll, or a message of a stream.
    pub fn received(&mut self, reader: usize, json: &Value) {
        let reader = &mut self.readers[reader];
        if json["recovered"] == false {
            assert!(reader.got.is_empty(), "a notice after messages: {json}");
            reader.is_recovered = false;
        }
        if let (Some(id), Some(text), Some(_)) = (json["id"].as_str(), json["text"].as_str(), json["sender"].as_str()) {
            reader.got.push((id.to_owned(), text.to_owned()));
        }
    }

    pub fn polled(&mut self, number: usize, json: &Value) {
        self.received(number, &json!({ "recovered": json["recovered"] }));
        for message in json["messages"].as_array().expect("messages") {
            self.received(number, message);
        }
        let reader = &mut self.readers[number];
        reader.is_over = true;
        // A poll without messages leaves the client where it was.
        let start = match &reader.start {
            Start::After(id) => Some(id.clone()),
            Start::Now => None,
        };
        let after = reader.got.last().map(|(id, _)| id.clone()).or(start);
        if let Some(client) = reader.client.filter(|_| reader.era == self.era) {
            let position = &mut self.positions[reader.room][client];
            position.seen = self.now;
            position.after = after.filter(|_| !position.is_shared);
        }
    }

    /// The id of a message: of an earlier reader's last one, of any, or of a log that was forgotten.
    pub fn some_cursor(&mut self, room: usize, number: usize) -> Option<String> {
        let of_room = self.readers.iter().rev().filter(|reader| reader.room == room);
        let lasts: Vec<&String> = of_room.filter_map(|reader| reader.got.last().map(|(id, _)| id)).collect();
        if number % 2 == 0 && !lasts.is_empty() {
            return Some(lasts[number / 2 % lasts.len()].clone());
        }
        let messages = &self.logs[room].messages;
        (!messages.is_empty()).then(|| messages[number / 2 % messages.len()].0.clone())
    }

    /// Whether a reader has not received a message that it has to receive.
    pub fn waits(&self, reader: usize) -> bool {
        let reader = &self.readers[reader];
        let log = &self.logs[reader.room];
        if reader.era != self.era || reader.is_over {
            return false;
        }
        let end = log.messages.len();
        match (reader.got.last(), &reader.start) {
            (Some((id, _)), _) => log.places.get(id).is_some_and(|at| at + 1 < end),
            (None, Start::After(id)) => log.places.get(id).is_none_or(|at| at + 1 < end) && end > log.retained,
            (None, Start::Now) => reader.latest.is_some_and(|latest| latest < end),
        }
    }

    // Comparing.

    pub fn is_used(&self, room: usize) -> bool {
        self.logs[room].is_used
    }

    /// Compares the list of a room with what was known of it.
    pub fn update(&mut self, room: usize, batch: &Value) {
        let log = &mut self.logs[room];
        let list = batch["messages"].as_array().expect("messages");
        let parsed: Vec<(String, String)> =
            list.iter().map(|message| (text_of(message, "id"), text_of(message, "text"))).collect();
        let Some((first, _)) = parsed.first() else {
            assert!(log.messages.is_empty(), "a room was forgotten");
            return self.set_latest(room);
        };
        let start = match log.places.get(first) {
            Some(start) => *start,
            None => {
                // More were published at once than are retained: nobody knows those between. Or these are the first.
                if !log.messages.is_empty() {
                    let readers = self.readers.iter_mut().filter(|reader| reader.room == room);
                    readers.for_each(|reader| reader.era = usize::MAX);
                }
                log.messages.len()
            }
        };
        assert!(start >= log.retained, "a dropped message is there again");
        log.retained = start;
        for (at, message) in parsed.into_iter().enumerate() {
            match log.messages.get(start + at) {
                Some(known) => assert_eq!(*known, message, "the log has changed"),
                None => {
                    let before = log.places.insert(message.0.clone(), log.messages.len());
                    assert_eq!(before, None, "two messages have one id");
                    log.messages.push(message);
                }
            }
        }
        self.set_latest(room);
    }

    fn set_latest(&mut self, room: usize) {
        let latest = self.logs[room].messages.len();
        for reader in self.readers.iter_mut().filter(|reader| reader.room == room && reader.is_open) {
            reader.latest.get_or_insert(latest);
        }
    }

    /// Compares what the readers have received with the logs.
    pub fn check(&mut self) {
        let Model { readers, logs, .. } = self;
        for reader in readers.iter_mut().filter(|reader| reader.era == self.era && reader.checked < reader.got.len()) {
            let log = &logs[reader.room];
            let place = |id: &String| *log.places.get(id).unwrap_or_else(|| panic!("not in the log: {id}"));
            let first = place(&reader.got[0].0);
            if reader.checked == 0 {
                match &reader.start {
                    Start::After(id) if reader.is_recovered => {
                        assert_eq!(
                            Some(first),
                            log.places.get(id).map(|at| at + 1),
                            "a gap after the cursor: {reader:?}"
                        );
                    }
                    Start::Now if reader.is_recovered && reader.client.is_none() => {
                        assert!(first >= reader.earliest, "a message from before the stream: {reader:?}");
                        assert!(first <= reader.latest.unwrap_or(first), "the first message is missing: {reader:?}");
                    }
                    Start::Now if reader.is_recovered => {}
                    _ => assert!((reader.retained..=log.retained).contains(&first), "not everything: {reader:?}"),
                }
            }
            for (at, message) in reader.got.iter().enumerate().skip(reader.checked) {
                assert_eq!(log.messages.get(first + at), Some(message), "message {at} of {reader:?}");
            }
            reader.checked = reader.got.len();
        }
    }

    /// Checks that each message is in the log as often as it has to be.
    pub fn check_publications(&self) {
        for log in &self.logs {
            let mut texts = HashSet::new();
            for (_, text) in &log.messages {
                assert!(texts.insert(text), "published twice: {text}");
            }
        }
        for publication in self.publications.iter().filter(|publication| publication.era == self.era) {
            let log = &self.logs[publication.room];
            if let Some(id) = &publication.id
                && log.retained == 0
            {
                let message = log.places.get(id).and_then(|at| log.messages.get(*at));
                assert_eq!(message.map(|(_, text)| text), Some(&publication.text), "an answered message is missing");
            }
        }
    }

    /// Checks that a message that nobody has answered is in the log.
    pub fn check_published(&self, number: usize) {
        let Publication { room, era, text, .. } = &self.publications[number];
        let log = &self.logs[*room];
        let is_there = log.messages.iter().any(|(_, published)| published == text);
        assert!(*era != self.era || log.retained > 0 || is_there, "a message of a WebSocket is missing: {text}");
    }

    // Mailboxes.

    pub fn add_mailbox(&mut self, id: &str) {
        let (put, ids) = (HashSet::new(), HashSet::new());
        self.mailboxes.push(Mailbox { id: id.to_owned(), last: None, put, ids });
    }

    /// Returns the content that puts a text into a mailbox.
    pub fn put(&mut self, number: usize, key: Option<usize>) -> Option<String> {
        self.texts += 1;
        let texts = self.texts;
        let mailbox = self.mailboxes.get_mut(number)?;
        let text = key.map_or(format!("text {texts}"), |key| format!("keyed {key}"));
        mailbox.put.insert(text.clone());
        let mut content = json!({ "connection_id": mailbox.id, "text": text });
        if let Some(key) = key {
            content["key"] = format!("k{key}").into();
        }
        Some(content.to_string())
    }

    /// A text came out of a mailbox.
    pub fn took(&mut self, number: usize, json: &Value, id: Option<&str>) {
        let mailbox = &mut self.mailboxes[number];
        if let Some(id) = id {
            mailbox.last = Some(id.to_owned());
        }
        let kind = json["type"].as_str().unwrap_or_default();
        if matches!(kind, "message" | "queued_message" | "new_message") {
            let text = json["message"].as_str().unwrap_or_default();
            assert!(mailbox.put.contains(text), "a text of another mailbox: {json}");
            mailbox.ids.insert(text_of(json, "id"));
        }
    }

    // The server.

    pub fn advance(&mut self, seconds: u64) {
        self.now += seconds;
    }

    pub fn forget(&mut self) {
        self.era += 1;
        self.logs = Default::default();
        self.positions = Default::default();
    }
}

pub fn text_of(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("no {name}: {json}")).to_owned()
}
