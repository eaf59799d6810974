//! Whole sessions with the full server: several real connections, all endpoints, and a clock that is set forward. A
//! model knows what was published, and what each reader has received. The promises:
//!
//! - The server does not panic, answers nothing with 500, and sends nothing malformed.
//! - A reader with a cursor receives everything after it once and in order, or `recovered: false`. A stream goes on
//!   without a gap. A message with a key is published once.
//! - A whole request is answered, unless it is held or its connection has ended.
//! - When all connections are closed and the time of everything is over, the books are empty.
//! - A server that is shut down ends in time, also with open connections.
//!
//! The input is a script: one letter for each step, mostly with a number for the connection after it (see
//! [`World::step`]). After a `C` at its start, the limits are small. A number is a byte counted from `0`, so that seeds
//! are legible. Nothing sleeps: a step ends when the server has answered on another connection, and what must come is
//! waited for.

#![no_main]

#[path = "sessions/model.rs"]
mod model;
#[path = "sessions/peer.rs"]
mod peer;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use overwire::server::{Config, Server};
use overwire::websocket::{self, Opcode};
use overwire::{Limits, Remote};
use serde_json::{Value, json};

use model::{Mailbox, Model, ROOMS, Start};
use peer::{Heard, KEY, Opens, Peer, frame};

/// The most steps of a script, and the most connections.
const STEPS: usize = 100;
const PEERS: usize = 6;

/// The most bytes that an empty store keeps.
const KEPT: u64 = 8 * 1024;

/// The times by which the clock is set forward, in seconds.
const TIMES: [u64; 8] = [1, 5, 10, 15, 20, 31, 61, 301];

/// The purpose of a request.
#[derive(Debug, Clone)]
enum Tag {
    Nothing,
    /// It may be held.
    Held,
    /// Another text has its key.
    Conflict,
    /// It publishes this publication of the model.
    Publish(usize),
    /// It reads as this reader of the model.
    Read(usize),
    Connect,
    /// It reads this mailbox, or puts a text into it.
    Mailbox(usize),
}

fuzz_target!(|script: &[u8]| {
    let mut script = Script(script);
    let mut world = World::new(script.0.starts_with(b"C"));
    for _ in 0..STEPS {
        let Some(step) = script.next() else { break };
        world.step(step, &mut script);
        world.settle();
    }
    world.end(script.0.len() % 2 == 1);
});

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self, below: usize) -> usize {
        usize::from(self.next().unwrap_or_default().wrapping_sub(b'0')) % below
    }

    fn bytes(&mut self) -> &'a [u8] {
        let (front, rest) = self.0.split_at(self.number(64).min(self.0.len()));
        self.0 = rest;
        front
    }
}

struct World {
    address: SocketAddr,
    remote: Remote,
    server: Option<JoinHandle<()>>,
    control: Peer<Tag>,
    peers: Vec<Peer<Tag>>,
    /// The reader of each connection that is a stream of a room, and the mailbox of each that is one of a mailbox.
    readers: Vec<Option<usize>>,
    mailboxes: Vec<Option<usize>>,
    /// The messages that were sent on each connection as a WebSocket, as a whole.
    said: Vec<Vec<usize>>,
    model: Model,
    /// The number of bytes of the next request that go at once.
    first: Option<usize>,
    /// The number of messages that may still be sent in bursts, so that a script takes no longer than a second.
    burst: usize,
    /// Whether to print the steps and what comes back: with the variable SESSIONS_TRACE.
    is_traced: bool,
}

impl World {
    fn new(is_small: bool) -> Self {
        let (sender, receiver) = mpsc::channel();
        let server = thread::spawn(move || {
            let mut limits = Limits { connections: 64, ..Limits::default() };
            if is_small {
                limits = Limits { outbox: 8 * 1024, message: 4 * 1024, content: 32 * 1024, ..limits };
            }
            let config = Config { port: 0, chaos: true, limits, ..Config::default() };
            let server = Server::bind(config).expect("a port is free");
            sender.send((server.local_address(), server.remote())).unwrap();
            server.run().expect("the loop does not fail");
        });
        let (address, remote) = receiver.recv().expect("the server starts");
        World {
            address,
            remote,
            server: Some(server),
            control: Peer::connect(address),
            peers: (0..PEERS).map(|_| Peer::connect(address)).collect(),
            readers: vec![None; PEERS],
            mailboxes: vec![None; PEERS],
            said: vec![Vec::new(); PEERS],
            model: Model::default(),
            first: None,
            burst: 2000,
            is_traced: std::env::var_os("SESSIONS_TRACE").is_some(),
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        if self.is_traced {
            eprintln!("{}", char::from(step));
        }
        let at = match step {
            b'F' | b'a' | b'h' => 0,
            _ => script.number(PEERS),
        };
        if self.peers[at].is_ended || self.peers[at].is_dying && step != b'X' {
            self.replace(at, false);
        }
        match step {
            // The connection.
            b'c' => self.replace(at, false),
            b'x' => self.replace(at, true),
            b'X' => self.peers[at].finish(),
            b'h' => self.first = Some(script.number(256)),
            b'f' => self.peers[at].release(),
            b'R' => self.peers[at].is_deaf = !self.peers[at].is_deaf,
            b'r' => self.peers[at].send_raw(script.bytes()),
            // Publishing.
            b'p' => self.publish(at, script.number(2), None, 10),
            b'L' => self.publish(at, script.number(2), None, 20_000),
            b'k' => self.publish(at, script.number(2), Some(script.number(4)), 10),
            b'K' => self.conflict(at, script.number(2), script.number(4)),
            b'Z' => {
                let (room, count) = (script.number(2), script.number(16));
                let messages = (count * 32).min(self.burst);
                self.burst -= messages;
                (0..messages).for_each(|_| self.publish(at, room, None, [10, 1200][count % 2]));
            }
            b't' => self.say(at, None),
            b'T' => self.say(at, Some(script.number(4))),
            // Reading a room.
            b's' | b'e' | b'w' => self.subscribe(at, step, script.number(2), Start::Now),
            b'S' | b'E' | b'W' => self.resume(at, step, script.number(2), script.number(64)),
            b'l' => self.poll(at, script.number(2), script.number(64)),
            b'P' => self.poll_as_client(at, script.number(2), script.number(2)),
            b'm' => self.get(at, &format!("/api/messages?room={}", ROOMS[script.number(2)])),
            b'd' => {
                let client = script.number(2);
                let request = request("DELETE", &format!("/api/client/m{client}"), "");
                self.request(at, &request, Tag::Nothing, Opens::Nothing);
            }
            // Mailboxes.
            b'b' => self.request(at, &request("POST", "/poll", ""), Tag::Connect, Opens::Nothing),
            b'B' => self.mailbox_poll(at, script.number(4)),
            b'u' => self.put(at, script.number(4), None),
            b'U' => self.put(at, script.number(4), Some(script.number(2))),
            b'v' => self.request(at, &request("GET", "/sse", ""), Tag::Connect, Opens::Events),
            b'V' => self.mailbox_resume(at, script.number(4)),
            b'y' => self.upgrade(at, "/ws", Tag::Connect),
            b'Y' => self.frame(at, &frame(true, Opcode::Text, br#"{"message":"own"}"#)),
            b'D' => {
                let id = self.model.mailboxes.get(script.number(4)).map_or("x".into(), |mailbox| mailbox.id.clone());
                self.request(at, &request("DELETE", &format!("/api/client/{id}"), ""), Tag::Nothing, Opens::Nothing);
            }
            // The rest.
            b'i' => self.upgrade(at, &format!("/api/signal?room={}", ROOMS[script.number(2)]), Tag::Nothing),
            b'I' => self.frame(at, &frame(true, Opcode::Text, br#"{"type":"offer","to":"x"}"#)),
            b'n' => self.request(at, &request("GET", "/poll", ""), Tag::Held, Opens::Nothing),
            b'N' => self.request(at, &request("POST", "/send", r#"{"message":"m"}"#), Tag::Nothing, Opens::Nothing),
            b'j' => self.request(at, &request("GET", "/events", ""), Tag::Nothing, Opens::Events),
            b'g' => self.get(at, PATHS[script.number(PATHS.len())]),
            b'H' => {
                let request = request("HEAD", PATHS[script.number(PATHS.len())], "");
                self.request(at, &request, Tag::Nothing, Opens::Nothing);
            }
            b'o' => self.request(at, &request("OPTIONS", "*", ""), Tag::Nothing, Opens::Nothing),
            b'q' => self.request(
                at,
                &request("POST", "/api/send", &MALFORMED[script.number(MALFORMED.len())]),
                Tag::Nothing,
                Opens::Nothing,
            ),
            b'z' => self.control_frame(at, script.number(8)),
            b'F' => self.forget(),
            b'a' => self.advance(TIMES[script.number(TIMES.len())]),
            _ => {}
        }
    }

    // Connections.

    fn replace(&mut self, at: usize, resets: bool) {
        if resets {
            self.peers[at].reset_on_close();
        }
        self.drop_peer(at);
        self.peers[at] = Peer::connect(self.address);
    }

    /// What a connection was sent and what it asked is over.
    fn drop_peer(&mut self, at: usize) {
        self.readers[at] = None;
        self.mailboxes[at] = None;
        self.said[at].clear();
        for pending in std::mem::take(&mut self.peers[at].pending) {
            if let Tag::Read(reader) = pending.tag {
                self.model.abandon(reader);
            }
        }
    }

    fn request(&mut self, at: usize, bytes: &[u8], tag: Tag, opens: Opens) {
        let first = self.first.take();
        let peer = &mut self.peers[at];
        if peer.speaks_http() {
            let is_head = bytes.starts_with(b"HEAD ");
            peer.request(bytes, first, tag, is_head, opens);
        }
    }

    fn get(&mut self, at: usize, target: &str) {
        self.request(at, &request("GET", target, ""), Tag::Nothing, Opens::Nothing);
    }

    fn upgrade(&mut self, at: usize, target: &str, tag: Tag) {
        let bytes = websocket::opening_request("localhost", target, KEY);
        self.request(at, &bytes, tag, Opens::WebSocket);
    }

    fn frame(&mut self, at: usize, bytes: &[u8]) {
        let first = self.first.take();
        if self.peers[at].is_websocket() {
            self.peers[at].send(bytes, first);
        }
    }

    fn control_frame(&mut self, at: usize, kind: usize) {
        if !self.peers[at].is_websocket() || self.peers[at].is_half_sent() {
            return;
        }
        let bytes = match kind {
            0 => frame(true, Opcode::Ping, b"ping"),
            1 => frame(true, Opcode::Pong, b""),
            2 => [frame(false, Opcode::Text, br#"{"type":"#), frame(true, Opcode::Continuation, br#""heartbeat"}"#)]
                .concat(),
            3 => frame(true, Opcode::Text, b"not JSON"),
            4 => frame(true, Opcode::Binary, b"\0"),
            5 => frame(true, Opcode::Close, &1000u16.to_be_bytes()),
            6 => frame(true, Opcode::Text, b"\xff"),
            _ => vec![0xff, 0x80],
        };
        self.frame(at, &bytes);
        self.peers[at].is_dying |= kind >= 5;
    }

    // Rooms.

    fn publish(&mut self, at: usize, room: usize, key: Option<usize>, length: usize) {
        // A message with a key is sent and read at once: when its key ends must be known.
        if !self.peers[at].speaks_http() || key.is_some() && !self.peers[at].is_free() {
            return;
        }
        self.first.take_if(|_| key.is_some());
        let Some(publication) = self.model.draft(room, key, length) else { return };
        let content = self.model.content(publication, true);
        self.request(at, &request("POST", "/api/send", &content), Tag::Publish(publication), Opens::Nothing);
    }

    /// Sends another text with a key that is known.
    fn conflict(&mut self, at: usize, room: usize, key: usize) {
        if !self.peers[at].is_free() || !self.model.is_surely_known(room, key) {
            return;
        }
        self.first = None;
        let content = json!({ "sender": "s", "room": ROOMS[room], "text": "conflict", "key": format!("k{key}") });
        self.request(at, &request("POST", "/api/send", &content.to_string()), Tag::Conflict, Opens::Nothing);
    }

    /// Publishes on a WebSocket.
    fn say(&mut self, at: usize, key: Option<usize>) {
        let Some(reader) = self.readers[at] else { return };
        if !self.peers[at].is_websocket() || key.is_some() && !self.peers[at].is_free() {
            return;
        }
        self.first.take_if(|_| key.is_some());
        let Some(publication) = self.model.draft(self.model.readers[reader].room, key, 10) else { return };
        let content = self.model.content(publication, false);
        if self.first.is_none() {
            self.said[at].push(publication);
        }
        self.frame(at, &frame(true, Opcode::Text, content.as_bytes()));
    }

    fn subscribe(&mut self, at: usize, step: u8, room: usize, start: Start) {
        let cursor = match &start {
            Start::After(id) => format!("&last_message_id={id}"),
            Start::Now => String::new(),
        };
        self.subscribe_as(at, step, room, &cursor, start);
    }

    fn subscribe_as(&mut self, at: usize, step: u8, room: usize, cursor: &str, start: Start) {
        if !self.peers[at].speaks_http() {
            return;
        }
        let reader = self.model.add_reader(room, start);
        let room = ROOMS[room];
        match step.to_ascii_lowercase() {
            b's' => {
                let request = request("GET", &format!("/api/stream?room={room}{cursor}"), "");
                self.request(at, &request, Tag::Read(reader), Opens::Lines);
            }
            b'e' => {
                let request = request("GET", &format!("/api/events?room={room}{cursor}"), "");
                self.request(at, &request, Tag::Read(reader), Opens::Events);
            }
            _ => self.upgrade(at, &format!("/api/ws?room={room}{cursor}"), Tag::Read(reader)),
        }
    }

    /// Reads after the last message of an earlier reader, or after any message.
    fn resume(&mut self, at: usize, step: u8, room: usize, number: usize) {
        if let Some(id) = self.model.some_cursor(room, number) {
            self.subscribe(at, step, room, Start::After(id));
        }
    }

    fn poll(&mut self, at: usize, room: usize, number: usize) {
        let Some(id) = self.model.some_cursor(room, number) else { return };
        if !self.peers[at].speaks_http() {
            return;
        }
        let target = format!("/api/poll?room={}&client_id=l{at}&timeout=5&last_message_id={id}", ROOMS[room]);
        let reader = self.model.add_reader(room, Start::After(id));
        self.model.readers[reader].is_poll = true;
        self.request(at, &request("GET", &target, ""), Tag::Read(reader), Opens::Nothing);
    }

    /// Polls without a cursor. The server remembers the position of the client.
    fn poll_as_client(&mut self, at: usize, room: usize, client: usize) {
        if !self.peers[at].speaks_http() {
            return;
        }
        let target = format!("/api/poll?room={}&client_id=m{client}&timeout=5", ROOMS[room]);
        let reader = self.model.add_client_poll(room, client);
        self.request(at, &request("GET", &target, ""), Tag::Read(reader), Opens::Nothing);
    }

    // Mailboxes.

    fn mailbox_poll(&mut self, at: usize, number: usize) {
        let Some(mailbox) = self.model.mailboxes.get(number) else { return };
        let content = json!({ "connection_id": mailbox.id }).to_string();
        self.request(at, &request("POST", "/poll", &content), Tag::Mailbox(number), Opens::Nothing);
    }

    fn mailbox_resume(&mut self, at: usize, number: usize) {
        let Some(Mailbox { last: Some(id), .. }) = self.model.mailboxes.get(number) else { return };
        let request = format!("GET /sse HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {id}\r\n\r\n");
        self.request(at, request.as_bytes(), Tag::Mailbox(number), Opens::Events);
    }

    fn put(&mut self, at: usize, number: usize, key: Option<usize>) {
        if !self.peers[at].speaks_http() {
            return;
        }
        let Some(content) = self.model.put(number, key) else { return };
        self.request(at, &request("POST", "/sse/message", &content), Tag::Nothing, Opens::Nothing);
    }

    // The server.

    fn forget(&mut self) {
        if !self.peers.is_empty() {
            self.settle();
        }
        let (status, _) = self.ask(&request("POST", "/api/forget", ""));
        assert_eq!(status, 200);
        self.model.forget();
    }

    fn advance(&mut self, seconds: u64) {
        self.settle();
        self.remote.advance_clock(Duration::from_secs(seconds));
        self.model.advance(seconds);
        self.control = Peer::connect(self.address); // the other one may have been idle for too long
    }

    /// Asks on the control connection.
    fn ask(&mut self, bytes: &[u8]) -> (u16, Vec<u8>) {
        self.ask_all(bytes, 1).remove(0)
    }

    /// Sends `count` requests together on the control connection, and reads their answers.
    fn ask_all(&mut self, bytes: &[u8], count: usize) -> Vec<(u16, Vec<u8>)> {
        for _ in 0..3 {
            let (mut heard, mut answers) = (Vec::new(), Vec::new());
            for number in 0..count {
                let bytes = if number == 0 { bytes } else { &[] };
                self.control.request(bytes, None, Tag::Nothing, false, Opens::Nothing);
            }
            while !self.control.is_ended {
                self.control.wait(&mut heard);
                answers.extend(heard.drain(..).filter_map(|heard| match heard {
                    Heard::Answer { status, content, .. } => Some((status, content)),
                    _ => None,
                }));
                if answers.len() == count {
                    return answers;
                }
            }
            self.control = Peer::connect(self.address); // it was idle for too long
        }
        panic!("no answer on a new connection");
    }

    fn ask_json(&mut self, target: &str) -> Value {
        let (status, content) = self.ask(&request("GET", target, ""));
        assert_eq!(status, 200, "{target}");
        serde_json::from_slice(&content).expect("JSON")
    }

    /// Reads what has come, until the server has nothing left to do, and compares it with the model.
    fn settle(&mut self) {
        self.pump();
        self.refresh();
        let mut is_news = self.pump();
        for at in 0..PEERS {
            while self.is_due(at) {
                let mut heard = Vec::new();
                self.peers[at].wait(&mut heard);
                self.hear(at, heard);
                is_news = true;
            }
        }
        if is_news {
            self.refresh();
        }
        self.model.check();
    }

    /// Whether something has come.
    fn pump(&mut self) -> bool {
        let mut is_news = false;
        for at in 0..self.peers.len() {
            let mut heard = Vec::new();
            self.peers[at].pump(&mut heard);
            is_news |= !heard.is_empty();
            self.hear(at, heard);
        }
        is_news
    }

    /// Whether something has to come on a connection.
    fn is_due(&self, at: usize) -> bool {
        let peer = &self.peers[at];
        if peer.is_deaf || peer.is_ended || peer.is_dying {
            return false;
        }
        if let Some(reader) = self.readers[at].filter(|_| peer.is_stream()) {
            return self.model.waits(reader);
        }
        match peer.pending.front() {
            Some(pending) if pending.ends_at > peer.sent => false,
            Some(pending) => match pending.tag {
                Tag::Read(reader) if self.model.readers[reader].is_poll => self.model.waits(reader),
                Tag::Held => false,
                Tag::Mailbox(_) if pending.opens == Opens::Nothing => false,
                _ => true,
            },
            None => false,
        }
    }

    fn hear(&mut self, at: usize, heard: Vec<Heard<Tag>>) {
        for heard in heard {
            if self.is_traced {
                eprintln!("    {at}: {heard}");
            }
            match heard {
                Heard::Answer { tag, status, content } => self.answered(tag, status, &content),
                Heard::Began { tag } => match tag {
                    Tag::Read(reader) => {
                        self.readers[at] = Some(reader);
                        self.model.opened(reader);
                    }
                    Tag::Mailbox(mailbox) => self.mailboxes[at] = Some(mailbox),
                    Tag::Connect => self.mailboxes[at] = Some(usize::MAX),
                    _ => {}
                },
                Heard::Message { text, event_id } => self.message(at, &text, event_id),
            }
        }
        if self.peers[at].is_ended {
            self.drop_peer(at);
        }
    }

    fn answered(&mut self, tag: Tag, status: u16, content: &[u8]) {
        let json: Option<Value> = serde_json::from_slice(content).ok();
        assert!(!content.starts_with(b"{") || json.is_some(), "not JSON: {:?}", String::from_utf8_lossy(content));
        let json = json.unwrap_or_default();
        match tag {
            Tag::Publish(publication) => {
                let id = json["message_id"].as_str().map(str::to_owned);
                assert!(matches!(status, 200 | 408 | 503), "a message got {status}: {json}");
                self.model.answered(publication, id);
            }
            Tag::Read(reader) if status == 200 => {
                self.model.opened(reader);
                self.model.polled(reader, &json);
            }
            Tag::Conflict => assert_eq!(status, 409),
            Tag::Connect if status == 200 => self.model.add_mailbox(json["connection_id"].as_str().expect("an id")),
            Tag::Mailbox(mailbox) if status == 200 => self.model.took(mailbox, &json, json["id"].as_str()),
            _ => {}
        }
    }

    fn message(&mut self, at: usize, text: &str, event_id: Option<String>) {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if let Some(reader) = self.readers[at] {
            self.model.received(reader, &json);
        } else if let Some(mailbox) = self.mailboxes[at] {
            if json["type"] == "connected" && mailbox == usize::MAX {
                self.model.add_mailbox(json["connection_id"].as_str().expect("an id"));
                self.mailboxes[at] = Some(self.model.mailboxes.len() - 1);
            }
            if let Some(mailbox) = self.mailboxes[at].filter(|mailbox| *mailbox != usize::MAX) {
                self.model.took(mailbox, &json, event_id.as_deref());
            }
        }
    }

    /// Brings the model's logs up to date. What the server has read before this, it has done.
    fn refresh(&mut self) {
        let rooms: Vec<usize> = (0..ROOMS.len()).filter(|room| self.model.is_used(*room)).collect();
        let mut requests = request("GET", "/health", "");
        for room in &rooms {
            requests.extend(request("GET", &format!("/api/messages?room={}", ROOMS[*room]), ""));
        }
        let answers = self.ask_all(&requests, 1 + rooms.len());
        for (room, (status, content)) in rooms.iter().zip(&answers[1..]) {
            assert_eq!(*status, 200);
            self.model.update(*room, &serde_json::from_slice(content).expect("JSON"));
        }
    }

    /// Ends the session: everything is read, and the books are checked or the server is shut down.
    fn end(&mut self, with_connections: bool) {
        for peer in &mut self.peers {
            peer.is_deaf = false;
            peer.release();
        }
        self.settle();
        self.settle();
        self.model.check_publications();
        for at in (0..PEERS).filter(|at| self.peers[*at].is_websocket()) {
            self.said[at].iter().for_each(|publication| self.model.check_published(*publication));
        }
        if !with_connections {
            for at in 0..PEERS {
                self.replace(at, at % 2 == 0);
            }
            self.settle();
            for _ in 0..4 {
                self.advance(301);
                self.ask(&request("GET", "/health", ""));
            }
            self.check_books();
        }
        self.remote.shut_down();
        if let Some(server) = self.server.take() {
            while !server.is_finished() {
                // The drain time is over at once.
                self.remote.advance_clock(Duration::from_secs(6));
                thread::yield_now();
            }
            server.join().expect("the server does not panic");
        }
        self.peers.iter().for_each(Peer::reset_on_close);
        self.control.reset_on_close();
    }

    /// Checks that nothing is left of what was open. What a room retains stays.
    fn check_books(&mut self) {
        self.peers.iter().for_each(Peer::reset_on_close);
        self.peers.clear();
        self.ask(&request("GET", "/health", ""));
        let mut stats = self.ask_json("/api/stats");
        for _ in 0..100 {
            if stats["connections"] == 1 {
                break;
            }
            stats = self.ask_json("/api/stats"); // a reset may be seen after a request that was sent later
        }
        for (name, counts) in stats["transports"].as_object().expect("an object") {
            assert_eq!(counts["open"], 0, "open {name}: {stats}");
        }
        assert_eq!(stats["connections"], 1, "{stats}");
        assert_eq!(stats["active_clients"], 0, "{stats}");
        assert_eq!(stats["present"], json!({}), "{stats}");
        for state in ["connected", "waiting", "idle", "expired"] {
            assert_eq!(stats["mailboxes"][state], 0, "{stats}");
        }
        self.check_memory(&["clients", "mailboxes", "keys", "signalling"]);
        self.forget();
        self.check_memory(&["clients", "mailboxes", "keys", "signalling", "rooms"]);
    }

    /// Checks that these stores have given their memory back.
    fn check_memory(&mut self, stores: &[&str]) {
        let stats = self.ask_json("/api/stats");
        for store in stores {
            let bytes = stats["memory"][store].as_u64().expect("a number of bytes");
            assert!(bytes <= KEPT, "{store} keep {bytes} bytes: {stats}");
        }
    }
}

/// Targets whose GET and HEAD are answered at once.
const PATHS: [&str; 12] = [
    "/health",
    "/api/stats",
    "/api/history?room=a&limit=3",
    "/api/messages?room=b&last_message_id=x",
    "/",
    "/x",
    "/docs",
    "/api/poll",
    "/api/history?limit=0",
    "/api/ws",
    "/api/messages?room=a",
    "/api/client/",
];

const MALFORMED: [&str; 8] = [
    "{",
    "[]",
    r#"{"sender":1,"text":"x"}"#,
    r#"{"sender":"a"}"#,
    r#"{"sender":"a","text":""}"#,
    "\u{feff}{}",
    r#"{"sender":"a","text":"\ud800"}"#,
    r#"{"sender":"\u0000","text":"x"}"#,
];

fn request(method: &str, target: &str, content: &str) -> Vec<u8> {
    let length = if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{content}").into_bytes()
}
