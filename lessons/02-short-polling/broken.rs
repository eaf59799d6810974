//! The client that many pages have, with the bug that many pages have:
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
//! `setInterval` does not wait for the `await`s inside of it. Here the server takes 300 ms or 700 ms
//! for an answer, in turns. The client also sends three messages, and counts how often it shows each.

#[path = "../common/mod.rs"]
mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use common::{Lesson, Wish};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "02-broken",
    port: 8002,
    about: "a client of 02-short-polling that does not wait for an answer before it asks again",
    first: "",
    look_for: "",
    costs: &[],
};

const INTERVAL: Duration = Duration::from_millis(200);
const ASKS: u32 = 11;

/// What is sent, and before which ask.
const MESSAGES: [(u32, &str); 3] = [(1, "one"), (5, "two"), (8, "three")];

fn main() -> ExitCode {
    let port = match LESSON.wish() {
        Wish::Run(port) => port,
        Wish::Measure(_) => return ExitCode::SUCCESS,
        Wish::Exit(code) => return code,
    };
    match run(SocketAddr::from(([127, 0, 0, 1], port))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            eprintln!("02-broken: nothing listens on port {port}: start 02-short-polling first");
            ExitCode::FAILURE
        }
        Err(error) => LESSON.complain(port, &error),
    }
}

/// What a page would keep in variables.
#[derive(Default)]
struct Page {
    last: String,
    shown: Vec<String>,
    /// The ids and texts that were sent, for the printed lines.
    sent: Vec<(String, String)>,
}

fn run(server: SocketAddr) -> io::Result<()> {
    let before = exchange(server, "GET", "/api/messages", "")?;
    let page = Arc::new(Mutex::new(Page { last: string(&before["last_message_id"]), ..Page::default() }));
    let (mut asks, start) = (Vec::new(), Instant::now());
    for ask in 1..=ASKS {
        thread::sleep((start + INTERVAL * (ask - 1)).saturating_duration_since(Instant::now()));
        if let Some((_, text)) = MESSAGES.iter().find(|(before, _)| *before == ask) {
            send(server, &page, text)?;
        }
        // BUG: the one before may still be under way, and `last` is what it was when that began.
        let page = page.clone();
        asks.push(thread::spawn(move || poll(server, &page, ask)));
    }
    for ask in asks {
        ask.join().expect("a thread of ours does not panic")?;
    }
    let page = lock(&page);
    let times = |text: &str| page.shown.iter().filter(|shown| *shown == text).count();
    let counts = MESSAGES.map(|(_, text)| format!("{text:?} {} times", times(text)));
    println!("{} messages sent, {} shown: {}", MESSAGES.len(), page.shown.len(), counts.join(", "));
    Ok(())
}

// ANCHOR: bug
/// What `setInterval` calls.
fn poll(server: SocketAddr, page: &Mutex<Page>, ask: u32) -> io::Result<()> {
    let last = lock(page).last.clone();
    println!("ask {ask}: what comes after {}?", lock(page).name_of(&last));
    let delay = if ask % 2 == 1 { 700 } else { 300 };
    let answer = exchange(server, "GET", &format!("/api/messages?last_message_id={last}&delay={delay}"), "")?;

    let mut page = lock(page);
    // BUG: an answer that was overtaken puts `last` back.
    page.last = string(&answer["last_message_id"]);
    let texts: Vec<_> = answer["messages"].as_array().into_iter().flatten().map(|m| string(&m["text"])).collect();
    println!("       answer {ask}: {texts:?}");
    page.shown.extend(texts);
    Ok(())
}
// ANCHOR_END: bug

fn send(server: SocketAddr, page: &Mutex<Page>, text: &str) -> io::Result<()> {
    let added = exchange(server, "POST", "/add-message", &json!({ "message": text }).to_string())?;
    println!("sent {text:?}");
    lock(page).sent.push((string(&added["id"]), text.to_owned()));
    Ok(())
}

/// One request on a connection of its own.
fn exchange(server: SocketAddr, method: &str, target: &str, content: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(server)?;
    let length = content.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{content}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    Ok(serde_json::from_str(content)?)
}

impl Page {
    fn name_of(&self, id: &str) -> String {
        let known = self.sent.iter().find(|(sent, _)| sent == id);
        known.map_or("the start".to_owned(), |(_, text)| format!("{text:?}"))
    }
}

fn lock(page: &Mutex<Page>) -> MutexGuard<'_, Page> {
    page.lock().expect("a thread of ours does not panic")
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
