//! The log of many examples: a line for each message, written through a buffer, and its number as its id. It works until
//! the process ends unasked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use lessons::api::{number, text};
use lessons::{Extra, Lesson};
use overwire::http::{Method, Request, Response};
use overwire::{Event, EventLoop};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "09-broken",
    port: 8009,
    about: "a log that loses what it has answered, and readers that do not notice",
    first: "curl {url}/add-message -d '{\"message\": \"A\"}'",
    look_for: "the id 1: a message's id is its number",
    costs: &[],
};

const DATA: Extra = Extra { usage: "--data FOLDER", about: "the folder of the log", default: "target/09-broken" };

fn main() -> ExitCode {
    LESSON.serve_with(&[DATA], |_, values| Ok(values[0].clone()), |server, folder| serve(server, Path::new(&folder)))
}

pub fn serve(mut server: EventLoop, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("pid"), format!("{}\n", std::process::id()))?;
    let path = folder.join("messages.log");
    let mut log = BufWriter::new(OpenOptions::new().append(true).create(true).open(&path)?);
    // BUG: a line that is only half there is skipped without a word. The next message is appended to that half.
    let lines = fs::read_to_string(&path)?;
    let mut messages: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get, "/messages") => server.respond(conn, answer(&messages, &request)),
                (Method::Post, "/add-message") => {
                    let added = text(request.content()).and_then(|text| append(&mut log, &mut messages, &text));
                    server.respond(conn, added.unwrap_or_else(|sentence| Response::error(400, &sentence)));
                }
                (_, path) => server.respond(conn, Response::error(404, &format!("there is nothing at {path}"))),
            },
            Event::Shutdown => {
                log.flush()?;
                return server.drain();
            }
            _ => {}
        }
    }
}

fn append(log: &mut BufWriter<File>, messages: &mut Vec<Value>, text: &str) -> Result<Response, String> {
    // ANCHOR: append
    // BUG: the line is in a buffer of this process when its sender is answered.
    writeln!(log, "{}", json!(text)).map_err(|error| error.to_string())?;
    messages.push(json!(text));
    Ok(Response::json(200, &json!({ "status": "Message added", "id": messages.len() })))
    // ANCHOR_END: append
}

/// The messages after a number.
fn answer(messages: &[Value], request: &Request) -> Response {
    let after = number(request, "last_message_id", 0..=1_000_000).ok().flatten().unwrap_or(0) as usize;
    // ANCHOR: answer
    // BUG: a number is a count of messages. It does not say which they were.
    let recovered = after <= messages.len();
    let news = messages.get(after..).unwrap_or(messages);
    Response::json(200, &json!({ "messages": news, "last_message_id": messages.len(), "recovered": recovered }))
    // ANCHOR_END: answer
}
