//! `wire tap` before the programs of two lessons: it shows every byte, and the clients notice nothing.

use std::process::Command;

use overwire::websocket::Opcode;
use serde_json::{Value, json};

use crate::common::{Client, Running, masked_frame};
use crate::lesson::{program, start};
use crate::tapped::{ID, Viewer, bytes_of, names_of, text_of};

/// A tap of a lesson, and a viewer of it.
struct Tapped {
    _lesson: Running,
    tap: Running,
    viewer: Viewer,
}

impl Tapped {
    fn start(name: &str) -> Self {
        let lesson = start(name);
        let url = format!("http://{}/", lesson.address);
        let tap = Running::start(Command::new(program("wire")).args(["tap", &url, "--port", "0"]));
        let viewer = Viewer::at(tap.address, ID);
        Tapped { _lesson: lesson, tap, viewer }
    }

    fn connect(&self) -> Client {
        Client::connect(self.tap.address)
    }

    /// The events of the exchange with this number, up to its end.
    fn until_end(&mut self, number: u64) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.viewer.next();
            assert_eq!(event["label"], "all");
            if event["exchange"] == number {
                let is_end = event["type"] == "end";
                events.push(event);
                if is_end {
                    return events;
                }
            }
        }
    }
}

#[test]
fn a_tap_shows_a_long_poll() {
    let mut tapped = Tapped::start("03-long-polling");
    let mut poll = tapped.connect();
    poll.send_get("/messages");
    assert_eq!(tapped.viewer.next()["from"], "client");
    let answer = tapped.connect().post("/add-message", &json!({ "message": "hello" }).to_string());
    assert_eq!(answer.status, 200);
    let polled = poll.answer();
    assert_eq!(polled.json()["messages"][0]["text"], "hello");
    let events = tapped.until_end(1);
    assert_eq!(text_of(&events, "server"), polled.head.clone() + polled.text());
    assert_eq!(names_of(&events, "server").first().unwrap(), "status line");
}

#[test]
fn a_tap_shows_a_chat_over_websocket() {
    let mut tapped = Tapped::start("06-websocket");
    let mut socket = tapped.connect();
    let mut received = socket.upgrade("/chat").into_bytes();
    let sent = [masked_frame(true, Opcode::Text, b"hello"), masked_frame(true, Opcode::Close, &[3, 232])];
    socket.send(&sent[0]);
    assert_eq!(socket.frame().text(), "hello");
    received.extend(b"\x81\x05hello");
    socket.send(&sent[1]);
    received.extend(socket.read_to_end());
    let events = tapped.until_end(1);
    assert!(bytes_of(&events, "client").ends_with(&sent.concat()));
    assert_eq!(bytes_of(&events, "server"), received);
    let names = names_of(&events, "server");
    assert_eq!(names[names.len() - 4..], ["frame header", "payload", "frame header", "payload"]);
}
