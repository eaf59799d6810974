//! The promise of one log and one cursor: on any transport, and after a break at any place, a client receives every
//! message once and in order, or learns that some are missing.
//!
//! A publisher numbers its messages. Each client connects on a random transport, reads for a while, disconnects in the
//! middle of an answer, and resumes on another transport after the last message that it has received whole. `SEED=n`
//! repeats the random choices of a run, but not the schedule of its threads.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::dice::Dice;
use crate::common::{Answer, Client, TestServer};
use serde_json::{Value, json};

const MESSAGES: u64 = 3000;
const CLIENTS: u64 = 8;

/// A client: its position, and whether messages are missing before the next one.
struct Reader {
    address: SocketAddr,
    dice: Dice,
    name: String,
    cursor: String,
    seen: u64,
    not_recovered: bool,
    holes: u64,
}

impl Reader {
    fn new(address: SocketAddr, seed: u64, number: u64, cursor: &str) -> Self {
        let name = format!("client {number} of seed {seed}");
        let dice = Dice(seed.wrapping_mul(1000).wrapping_add(number));
        Reader { address, dice, name, cursor: cursor.into(), seen: 0, not_recovered: false, holes: 0 }
    }

    /// Reads until the last message. Returns the number of reported holes.
    fn run(mut self) -> u64 {
        while self.seen < MESSAGES {
            match self.dice.roll(6) {
                0 => self.poll(&format!("/api/messages?last_message_id={}", self.cursor)),
                1 | 2 => self.poll(&format!("/api/poll?client_id=x&timeout=5&last_message_id={}", self.cursor)),
                3 => self.stream(),
                4 => self.events(),
                _ => self.websocket(),
            }
        }
        self.holes
    }

    /// Takes a message that has arrived whole.
    fn take(&mut self, message: &Value) {
        if message["recovered"] == false {
            self.not_recovered = true;
            return;
        }
        let number: u64 = message["text"].as_str().unwrap().parse().unwrap();
        if std::mem::take(&mut self.not_recovered) {
            assert!(number > self.seen, "{}: {number} came after {}", self.name, self.seen);
            self.holes += 1;
        } else {
            assert_eq!(number, self.seen + 1, "{}: {number} came after {}", self.name, self.seen);
        }
        self.seen = number;
        self.cursor = message["id"].as_str().unwrap().to_owned();
    }

    /// Decides whether the client disconnects: sometimes before it has read anything, sometimes in the middle of an
    /// answer.
    fn disconnects(&mut self, client: &mut Client) -> bool {
        match self.dice.roll(8) {
            0 => true,
            1 => {
                client.read_exactly(1);
                true
            }
            _ => false,
        }
    }

    fn poll(&mut self, target: &str) {
        let mut client = Client::connect(self.address);
        client.send_get(target);
        if self.disconnects(&mut client) {
            return;
        }
        let answer = client.answer().json();
        self.not_recovered |= answer["recovered"] == false;
        let messages = answer["messages"].as_array().unwrap();
        messages.iter().for_each(|message| self.take(message));
    }

    /// Returns the number of messages to read before disconnecting.
    fn budget(&mut self) -> u64 {
        let most = if self.dice.roll(4) == 0 { 400 } else { 40 };
        (self.dice.roll(most) + 1).min(MESSAGES - self.seen)
    }

    fn stream(&mut self) {
        let mut client = Client::connect(self.address);
        client.send_get(&format!("/api/stream?last_message_id={}", self.cursor));
        if self.disconnects(&mut client) {
            return;
        }
        client.head();
        let until = self.seen + self.budget();
        while self.seen < until {
            let line = client.line();
            self.take(&serde_json::from_str(&line).unwrap());
        }
    }

    fn events(&mut self) {
        let mut client = Client::connect(self.address);
        client.send(format!("GET /api/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {}\r\n\r\n", self.cursor));
        if self.disconnects(&mut client) {
            return;
        }
        client.head();
        let until = self.seen + self.budget();
        while self.seen < until {
            let event = client.event();
            self.take(&serde_json::from_str(&event.data).unwrap());
            assert!(self.not_recovered || event.id == self.cursor, "the id of the event is the id of the message");
        }
    }

    fn websocket(&mut self) {
        let mut client = Client::connect(self.address);
        client.upgrade(&format!("/api/ws?last_message_id={}", self.cursor));
        let until = self.seen + self.budget();
        while self.seen < until {
            let message = client.message().json();
            self.take(&message);
        }
    }
}

/// Publishes the numbers in bursts, pipelined.
fn publish(address: SocketAddr, seed: u64, half_way: &mpsc::Sender<()>) {
    let (mut client, mut dice, mut next) = (Client::connect(address), Dice(seed), 1);
    while next <= MESSAGES {
        let end = (next + dice.roll(20)).min(MESSAGES);
        for number in next..=end {
            client.send_post("/api/send", &format!(r#"{{"sender": "dice", "text": "{number}"}}"#));
        }
        for _ in next..=end {
            assert_eq!(client.answer().status, 200);
        }
        if next <= MESSAGES / 2 && end >= MESSAGES / 2 {
            half_way.send(()).unwrap();
        }
        next = end + 1;
    }
}

#[test]
fn every_message_arrives_once_and_in_order_or_a_hole_is_reported() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let seed = std::env::var("SEED").map_or(now, |seed| seed.parse().expect("SEED is a number"));
    let server = TestServer::start();
    let cursor = server.get("/api/messages").json()["last_message_id"].as_str().unwrap().to_owned();
    let readers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let reader = Reader::new(server.address, seed, number, &cursor);
            thread::spawn(move || reader.run())
        })
        .collect();
    let (sender, half_way) = mpsc::channel();
    let address = server.address;
    let publisher = thread::spawn(move || publish(address, seed, &sender));
    // More messages have been published than a room retains: this client has a hole.
    half_way.recv().unwrap();
    let late = Reader::new(server.address, seed, CLIENTS, &cursor);
    let late = thread::spawn(move || late.run());
    publisher.join().expect("every message is published");
    for reader in readers {
        reader.join().expect("every message once, in order");
    }
    assert!(late.join().unwrap() > 0, "seed {seed}: no hole was reported to the late client");
    server.stop();
}

fn send(client: &mut Client, room: &str, text: &str, key: &str) -> Answer {
    client.post("/api/send", &json!({ "sender": "me", "text": text, "room": room, "key": key }).to_string())
}

#[test]
fn a_retry_with_the_same_key_is_published_once() {
    let server = TestServer::start();
    let mut client = server.connect();
    let send = |client: &mut Client, room: &str, text: &str, key: &str| send(client, room, text, key).json();
    let first = send(&mut client, "general", "hello", "1");
    assert_eq!(send(&mut server.connect(), "general", "hello", "1"), first);
    // Another key is another message, and so is the same key in another room.
    assert_ne!(send(&mut client, "general", "hello", "2")["message_id"], first["message_id"]);
    assert_ne!(send(&mut client, "tea", "hello", "1")["message_id"], first["message_id"]);
    // On a WebSocket, the retry does not come back: the next message does.
    let mut socket = server.websocket("/api/ws");
    socket
        .send_text(r#"{"sender":"me","text":"hello","key":"2"}"#)
        .send_text(r#"{"sender":"me","text":"new","key":"3"}"#);
    assert_eq!(socket.message().json()["text"], "new");
    assert_eq!(server.get("/api/messages").texts(), ["hello", "hello", "new"]);
    for key in [json!(1), json!(""), json!("x".repeat(65))] {
        let answer = client.post("/api/send", &json!({ "sender": "me", "text": "a", "key": key }).to_string());
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("key: expected a string of 1 to 64 characters"), "{}", answer.text());
    }
}

#[test]
fn a_retry_to_a_mailbox_is_stored_once() {
    let server = TestServer::start();
    let mut client = server.connect();
    let id = client.post("/poll", "").json()["connection_id"].clone();
    let content = json!({ "connection_id": id, "text": "hello", "key": "1" }).to_string();
    let first = client.post("/poll", &content).json();
    assert_eq!(client.post("/poll", &content).json(), first);
    assert_eq!(client.post("/sse/message", &content).json()["id"], first["id"]);
    client.post("/poll", &json!({ "connection_id": id, "text": "last" }).to_string());
    let mut poll = || client.post("/poll", &json!({ "connection_id": id }).to_string()).json()["message"].clone();
    assert_eq!([poll(), poll()], [json!("hello"), json!("last")]);
    let mut socket = server.websocket("/ws");
    socket.message();
    for text in [r#"{"message":"a","key":"1"}"#, r#"{"message":"a","key":"1"}"#, r#"{"message":"b"}"#] {
        socket.send_text(text);
    }
    assert_eq!([socket.message().json()["message"].clone(), socket.message().json()["message"].clone()], ["a", "b"]);
}

#[test]
fn a_key_holds_for_five_minutes_however_many_come_after_it() {
    let server = TestServer::start();
    let mut client = server.connect();
    let first = send(&mut client, "general", "hello", "the first").json();
    for number in 0..1000 {
        assert_eq!(send(&mut client, "general", "other", &number.to_string()).status, 200);
    }
    assert_eq!(send(&mut client, "general", "hello", "the first").json(), first);
    server.advance(299);
    assert_eq!(send(&mut server.connect(), "general", "hello", "the first").json(), first);
    server.advance(1);
    let again = send(&mut server.connect(), "general", "hello", "the first").json();
    assert_ne!(again["message_id"], first["message_id"]);
    assert_eq!(server.get("/api/stats").json()["total_messages"], 1002);
}

#[test]
fn a_key_of_a_mailbox_holds_for_five_minutes_however_many_come_after_it() {
    let server = TestServer::start();
    let mut client = server.connect();
    let id = client.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let put = |client: &mut Client, text: &str, key: &str| {
        client.post("/poll", &json!({ "connection_id": id, "text": text, "key": key }).to_string()).json()
    };
    let first = put(&mut client, "hello", "the first");
    for number in 0..1000 {
        put(&mut client, "other", &number.to_string());
    }
    for seconds in [0, 50, 50, 50, 50, 50, 49] {
        server.advance(seconds);
        assert_eq!(put(&mut server.connect(), "hello", "the first"), first);
    }
    server.advance(1);
    assert_ne!(put(&mut server.connect(), "hello", "the first")["id"], first["id"]);
}

#[test]
fn a_key_with_another_text_or_sender_is_a_conflict() {
    const SENTENCE: &str =
        "key: expected a new one, because this one came with another sender or text in the last 5 minutes";
    let server = TestServer::start();
    let mut client = server.connect();
    send(&mut client, "general", "hello", "1");
    let other_sender = json!({ "sender": "other", "text": "hello", "key": "1" }).to_string();
    for answer in [send(&mut client, "general", "good-bye", "1"), client.post("/api/send", &other_sender)] {
        assert_eq!((answer.status, &answer.json()["error"]), (409, &json!(SENTENCE)));
    }
    let mut socket = server.websocket("/api/ws");
    let error = socket.send_text(r#"{"sender":"me","text":"good-bye","key":"1"}"#).message().json();
    assert_eq!(error, json!({ "type": "error", "error": SENTENCE }));
    assert_eq!(server.get("/api/messages").texts(), ["hello"]);

    let id = client.post("/poll", "").json()["connection_id"].clone();
    let content = |text: &str| json!({ "connection_id": id, "text": text, "key": "1" }).to_string();
    assert_eq!(client.post("/poll", &content("hello")).status, 200);
    for path in ["/poll", "/sse/message"] {
        let answer = client.post(path, &content("good-bye"));
        assert_eq!((answer.status, &answer.json()["error"]), (409, &json!(SENTENCE)));
    }
    let mut socket = server.websocket("/ws");
    socket.message();
    socket.send_text(r#"{"message":"a","key":"1"}"#).message();
    let error = socket.send_text(r#"{"message":"b","key":"1"}"#).message().json();
    assert_eq!(error, json!({ "type": "error", "error": SENTENCE }));
}
