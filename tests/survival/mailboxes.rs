//! The one reader of a mailbox, and its senders.

use overwire::feed::Cursor;
use overwire::sse;
use serde_json::{Value, json};

use super::client::{Format, Item, Trouble, get, post};
use super::dice::Dice;
use super::history::History;
use super::world::{Recorder, World, cursor};

/// Creates a mailbox, and returns its id.
pub fn create(world: &World, dice: &mut Dice) -> Result<String, Trouble> {
    let answer = world.connect(dice)?.ask(&post("/poll", &json!({})))?;
    match answer.content["connection_id"].as_str() {
        Some(id) if answer.status == 200 => Ok(id.to_owned()),
        _ => Err(Trouble::Wrong(format!("a new mailbox got {}: {}", answer.status, answer.content))),
    }
}

/// Puts a text into a mailbox once, in one of two ways, and returns its id.
pub fn send(world: &World, dice: &mut Dice, mailbox: &str, (text, key): (&str, &str)) -> Result<Cursor, Trouble> {
    let (path, status) = if dice.roll(2) == 0 { ("/poll", 200) } else { ("/sse/message", 202) };
    let content = json!({ "connection_id": mailbox, "text": text, "key": key });
    let answer = world.connect(dice)?.ask(&post(path, &content))?;
    match cursor(&answer.content["id"]) {
        Some(id) if answer.status == status => Ok(id),
        _ => Err(Trouble::Wrong(format!("a text by {path} got {}: {}", answer.status, answer.content))),
    }
}

/// The reader of a mailbox. It changes between polls and event streams, and resumes after the last text that it has.
pub struct Reader<'a> {
    mailbox: &'a str,
    dice: Dice,
    recorder: Recorder<'a>,
}

impl<'a> Reader<'a> {
    pub fn new(world: &'a World, seed: u64, mailbox: &'a str, name: &str) -> Self {
        Reader { mailbox, dice: Dice::of(seed, name), recorder: Recorder::new(world, name.to_owned(), None) }
    }

    /// Reads until the last text.
    pub fn run(mut self) -> History {
        while !self.recorder.is_over() {
            // Before the first text there is no position that names the mailbox.
            let read = match self.recorder.position {
                Some(position) if self.dice.roll(2) == 0 => self.stream(position),
                _ => self.poll(),
            };
            if let Err(trouble) = read {
                self.recorder.trouble(trouble, &mut self.dice);
            }
        }
        self.recorder.history
    }

    fn poll(&mut self) -> Result<(), Trouble> {
        self.recorder.note("poll");
        let position = self.recorder.position.map(|id| id.to_string());
        let content = json!({ "connection_id": self.mailbox, "last_message_id": position });
        let answer = self.recorder.world.connect(&mut self.dice)?.ask(&post("/poll", &content))?;
        match answer.content["type"].as_str() {
            Some("queued_message" | "new_message") => self.text(&answer.content),
            Some("timeout") => {}
            _ => return Err(Trouble::Wrong(format!("a poll got {}: {}", answer.status, answer.content))),
        }
        Ok(())
    }

    fn stream(&mut self, position: Cursor) -> Result<(), Trouble> {
        self.recorder.note("events");
        let client = self.recorder.world.connect(&mut self.dice)?;
        let request = get("/sse", &format!("Last-Event-ID: {position}\r\n"));
        let mut stream = client.open(&request, Format::Events(sse::Reader::default()))?;
        for _ in 0..=self.dice.roll(50) {
            let item = stream.next()?;
            self.take(&item);
            if self.recorder.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, item: &Item) {
        match item.data["type"].as_str() {
            Some("connected") if item.data["connection_id"] != self.mailbox => {
                self.recorder.wrong(format!("the mailbox is lost: {item:?}"));
            }
            Some("connected") if item.data["recovered"] == false => self.recorder.told(item.id.parse().ok()),
            Some("connected" | "heartbeat") => {}
            Some("message") => self.text(&item.data),
            _ => self.recorder.wrong(format!("an item {item:?}")),
        }
    }

    fn text(&mut self, text: &Value) {
        if text["recovered"] == false {
            self.recorder.told(None);
        }
        self.recorder.message(text, "message");
    }
}
