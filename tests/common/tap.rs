//! A tap in a separate thread, and a viewer of it.
#![allow(dead_code)] // each test file uses its own part of this

use std::net::SocketAddr;
use std::ops::Deref;

use overwire::Limits;
use overwire::server::Config;
use overwire::tap::{Mode, Tap, TapConfig};
use serde_json::{Value, json};

use crate::common::{Client, TestServer};

pub const ID: &str = "0123456789abcdef";

/// A tap, and a server after it. Its requests pass the tap.
pub struct TestTap {
    pub server: TestServer,
    tap: TestServer,
}

impl TestTap {
    /// The full server after a tap, both with their defaults.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// The full server, configured, after a tap.
    pub fn with(configure: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        let server = TestServer::with(configure);
        TestTap { tap: tap_of(server.address, Mode::Marked), server }
    }

    /// Lets both clocks run.
    pub fn in_real_time(self) -> Self {
        TestTap { server: self.server.in_real_time(), tap: self.tap.in_real_time() }
    }

    /// Sets both clocks forward.
    pub fn advance(&self, seconds: u64) {
        self.server.advance(seconds);
        self.tap.advance(seconds);
    }

    /// Asks both for an orderly end without waiting for it.
    pub fn shut_down(&self) {
        self.server.shut_down();
        self.tap.shut_down();
    }
}

impl Deref for TestTap {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.tap
    }
}

/// A tap of a target, on a port that the system chose.
pub fn tap_of(target: SocketAddr, mode: Mode) -> TestServer {
    TestServer::spawn(move |ready| {
        let tap = Tap::bind(config(target, mode))?;
        ready(tap.local_address(), tap.remote());
        tap.run()
    })
}

/// The configuration of such a tap.
pub fn config(target: SocketAddr, mode: Mode) -> TapConfig {
    TapConfig {
        host: "127.0.0.1".into(),
        port: 0,
        target,
        target_url: format!("http://{target}"),
        mode,
        allow_hosts: Vec::new(),
        shows_secrets: false,
        limits: Limits::default(),
        signals: false,
    }
}

/// A viewer that has got its `open`.
pub struct Viewer {
    pub client: Client,
    pub opened: Value,
}

impl Viewer {
    pub fn open(tap: &TestServer, id: &str) -> Self {
        Self::at(tap.address, id)
    }

    /// A viewer of the tap at this address.
    pub fn at(address: SocketAddr, id: &str) -> Self {
        let mut client = Client::connect(address);
        client.upgrade(&format!("/-/tap/view?tap={id}"));
        let opened = client.message().json();
        assert_eq!(opened["type"], "open", "{opened}");
        Viewer { client, opened }
    }

    pub fn next(&mut self) -> Value {
        self.client.message().json()
    }

    /// The next event that `is_it`.
    pub fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next();
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Sends a command, and waits until it is carried out: commands are carried out in order, and an error is answered.
    pub fn command(&mut self, command: Value) -> &mut Self {
        self.client.send_text(&command.to_string()).send_text("[]");
        let error = self.wait(|event| event["type"] == "error");
        assert_eq!(error, json!({ "type": "error", "error": "expected a JSON object, not []" }));
        self
    }

    /// The events up to the end of an exchange of this label.
    pub fn until_end(&mut self, label: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let is_end = event["type"] == "end" && event["label"] == label;
            events.push(event);
            if is_end {
                return events;
            }
        }
    }

    /// The events until those of one side have `count` bytes.
    pub fn until_bytes(&mut self, from: &str, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while bytes_of(&events, from).len() < count {
            events.push(self.next());
        }
        events
    }
}

/// The bytes of a piece or a line.
pub fn decode(value: &Value) -> Vec<u8> {
    from_base64(value["bytes"].as_str().unwrap())
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').chars().map(|digit| DIGITS.find(digit).expect("a digit of base64"));
    let (mut bits, mut count, mut bytes) = (0, 0, Vec::new());
    for digit in digits {
        (bits, count) = (bits << 6 | digit, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

/// The pieces of one side.
pub fn pieces_of<'a>(events: &'a [Value], from: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["from"] == from).flat_map(|event| event["pieces"].as_array().unwrap())
}

/// The bytes of one side. The lines in content have the same bytes as the content.
pub fn bytes_of(events: &[Value], from: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces_of(events, from) {
        let bytes = decode(piece);
        if let Some(lines) = piece["lines"].as_array() {
            assert_eq!(lines.iter().flat_map(decode).collect::<Vec<_>>(), bytes, "{piece}");
        }
        all.extend(bytes);
    }
    all
}

pub fn text_of(events: &[Value], from: &str) -> String {
    String::from_utf8(bytes_of(events, from)).unwrap()
}

pub fn names_of(events: &[Value], from: &str) -> Vec<String> {
    pieces_of(events, from).map(|piece| piece["name"].as_str().unwrap().to_owned()).collect()
}

/// The sums of `counted` of one side: payload, framing, header, keep-alive.
pub fn counted(events: &[Value], from: &str) -> [u64; 4] {
    let events = events.iter().filter(|event| event["from"] == from);
    events.fold([0; 4], |sums, event| {
        let counts =
            ["payload", "framing", "header", "keep-alive"].map(|kind| event["counted"][kind].as_u64().unwrap());
        std::array::from_fn(|at| sums[at] + counts[at])
    })
}
