//! A common short-polling client, with a common bug:
//!
//! ```js
//! let last = '';
//! setInterval(async () => {
//!   const response = await fetch(`/api/messages?last_message_id=${last}`);
//!   const answer = await response.json();
//!   last = answer.last_message_id;
//!   answer.messages.forEach(show);
//! }, 200);
//! ```
//!
//! `setInterval` does not wait for the `await`s inside it. Here the server delays its answers by 700 ms and 300 ms
//! alternately. The client also sends three messages, and counts how often it shows each of them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lessons::Lesson;
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "02-broken",
    port: 8002,
    about: "a client of 02-short-polling that does not wait for an answer before it asks again",
    first: "",
    look_for: "",
    costs: &[],
};

const INTERVAL: u64 = 200; // milliseconds
const ASKS: u32 = 11;

/// The messages. Each is sent immediately before the poll with this number.
const MESSAGES: [(u32, &str); 3] = [(1, "one"), (5, "two"), (8, "three")];

fn main() -> ExitCode {
    LESSON.run(|port| run(SocketAddr::from(([127, 0, 0, 1], port))))
}

/// The variables of the page.
#[derive(Default)]
struct Page {
    last: String,
    shown: Vec<String>,
    /// The ids and texts that were sent, for printing.
    sent: Vec<(String, &'static str)>,
}

/// A scheduled action of the page.
enum Step {
    Ask(u32),
    Answer(u32, TcpStream),
}

fn run(server: SocketAddr) -> io::Result<()> {
    let before = exchange(server, "GET", "/api/messages", "")?;
    let mut page = Page { last: string(&before["last_message_id"]), ..Page::default() };
    let mut steps = BTreeMap::from([(0, Step::Ask(1))]);
    let start = Instant::now();
    while let Some((due, step)) = steps.pop_first() {
        thread::sleep((start + Duration::from_millis(due)).saturating_duration_since(Instant::now()));
        // ANCHOR: bug
        match step {
            Step::Ask(ask) => {
                page.send_before(ask, server)?;
                println!("ask {ask}: what comes after {}?", page.name_of_last());
                let delay = if ask % 2 == 1 { 700 } else { 300 };
                let target = format!("/api/messages?last_message_id={}&delay={delay}", page.last);
                steps.insert(due + delay, Step::Answer(ask, begin(server, "GET", &target, "")?));
                // BUG: the next poll is due even if this one has no answer yet.
                if ask < ASKS {
                    steps.insert(due + INTERVAL, Step::Ask(ask + 1));
                }
            }
            Step::Answer(ask, stream) => {
                let answer = finish(stream)?;
                // BUG: an old answer that arrives late sets the cursor back.
                page.last = string(&answer["last_message_id"]);
                page.show(ask, &answer["messages"]);
            }
        }
        // ANCHOR_END: bug
    }
    let times = |text: &str| page.shown.iter().filter(|shown| *shown == text).count();
    let counts = MESSAGES.map(|(_, text)| format!("{text:?} {} times", times(text)));
    println!("{} messages sent, {} shown: {}", MESSAGES.len(), page.shown.len(), counts.join(", "));
    Ok(())
}

impl Page {
    fn send_before(&mut self, ask: u32, server: SocketAddr) -> io::Result<()> {
        if let Some((_, text)) = MESSAGES.iter().find(|(before, _)| *before == ask) {
            let added = exchange(server, "POST", "/add-message", &json!({ "message": text }).to_string())?;
            println!("sent {text:?}");
            self.sent.push((string(&added["id"]), text));
        }
        Ok(())
    }

    fn show(&mut self, ask: u32, messages: &Value) {
        let texts: Vec<_> = messages.as_array().into_iter().flatten().map(|message| string(&message["text"])).collect();
        println!("       answer {ask}: {texts:?}");
        self.shown.extend(texts);
    }

    fn name_of_last(&self) -> String {
        let known = self.sent.iter().find(|(id, _)| *id == self.last);
        known.map_or("the start".to_owned(), |(_, text)| format!("{text:?}"))
    }
}

fn exchange(server: SocketAddr, method: &str, target: &str, content: &str) -> io::Result<Value> {
    finish(begin(server, method, target, content)?)
}

/// Sends a request on a new connection.
fn begin(server: SocketAddr, method: &str, target: &str, content: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server)?;
    let length = content.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close");
    stream.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{content}").as_bytes())?;
    Ok(stream)
}

/// Reads the answer until the server closes the connection.
fn finish(mut stream: TcpStream) -> io::Result<Value> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    Ok(serde_json::from_str(content)?)
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
