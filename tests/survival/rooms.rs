//! The readers and senders of a room.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use overwire::feed::Cursor;
use overwire::sse;
use serde_json::{Value, json};

use super::client::{Client, Format, Item, Stream, Trouble, get, post};
use super::dice::Dice;
use super::history::{History, Sent};
use super::world::{Recorder, World, cursor};

/// The longest pause before the next message of a sender, in milliseconds.
const PACE: u64 = 30;

/// The time after which a sender on a WebSocket repeats a message that has not come back.
const REPEAT: Duration = Duration::from_secs(1);

/// A way to read a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    ShortPoll,
    LongPoll,
    Lines,
    Events,
    WebSocket,
}

impl Transport {
    pub const ALL: [Transport; 5] =
        [Transport::ShortPoll, Transport::LongPoll, Transport::Lines, Transport::Events, Transport::WebSocket];
}

/// A reader of a room, which resumes after the last message that it has whole.
pub struct Reader<'a> {
    room: &'a str,
    dice: Dice,
    recorder: Recorder<'a>,
}

impl<'a> Reader<'a> {
    pub fn new(world: &'a World, seed: u64, room: &'a str, name: &str, start: Option<Cursor>) -> Self {
        Reader { room, dice: Dice::of(seed, name), recorder: Recorder::new(world, name.to_owned(), start) }
    }

    /// Reads until the last message of the room, on one of the transports at a time.
    pub fn run(mut self, transports: &[Transport]) -> History {
        while !self.recorder.is_over() {
            let transport = transports[self.dice.roll(transports.len() as u64) as usize];
            if let Err(trouble) = self.read(transport) {
                self.recorder.trouble(trouble, &mut self.dice);
            }
        }
        self.recorder.history
    }

    /// Reads once: one answer, or some items of a stream.
    fn read(&mut self, transport: Transport) -> Result<(), Trouble> {
        self.recorder.note(format!("{transport:?}"));
        let client = self.recorder.world.connect(&mut self.dice)?;
        match transport {
            Transport::ShortPoll => {
                self.poll(client, "/api/messages")?;
                self.dice.pause(50);
                Ok(())
            }
            Transport::LongPoll => self.poll(client, "/api/poll?client_id=reader&timeout=5"),
            Transport::Lines | Transport::Events | Transport::WebSocket => {
                let mut stream = self.open(client, transport)?;
                for _ in 0..=self.dice.roll(100) {
                    let item = stream.next()?;
                    self.take(&item);
                    if self.recorder.is_over() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// The target of a request, with the room and the position.
    fn target(&self, path: &str) -> String {
        let sign = if path.contains('?') { '&' } else { '?' };
        let position = self.recorder.position.map_or(String::new(), |id| format!("&last_message_id={id}"));
        format!("{path}{sign}room={}{position}", self.room)
    }

    fn poll(&mut self, mut client: Client, path: &str) -> Result<(), Trouble> {
        let answer = client.ask(&get(&self.target(path), ""))?;
        let content = &answer.content;
        let (Some(messages), Some(last)) = (content["messages"].as_array(), cursor(&content["last_message_id"])) else {
            return Err(Trouble::Wrong(format!("a poll got {}: {content}", answer.status)));
        };
        // Without a position, everything that is retained is what was asked for.
        if content["recovered"] == false {
            self.recorder.told(None);
        }
        messages.iter().for_each(|message| self.message(message));
        self.recorder.at(last);
        Ok(())
    }

    fn open(&mut self, client: Client, transport: Transport) -> Result<Stream, Trouble> {
        match transport {
            Transport::WebSocket => client.upgrade(&self.target("/api/ws")),
            Transport::Events => {
                let target = format!("/api/events?room={}", self.room);
                let field = self.recorder.position.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
                client.open(&get(&target, &field), Format::Events(sse::Reader::default()))
            }
            _ => client.open(&get(&self.target("/api/stream"), ""), Format::Lines),
        }
    }

    /// Takes an item of a stream.
    fn take(&mut self, item: &Item) {
        let data = &item.data;
        let (kind, position) = (data["type"].as_str().unwrap_or(&item.name), cursor(&data["last_message_id"]));
        match (kind, position) {
            ("connected", Some(position)) if data["recovered"] == true => self.recorder.at(position),
            ("connected" | "notice", Some(position)) if data["recovered"] == false => {
                self.recorder.told(Some(position));
            }
            ("heartbeat", _) => {}
            ("" | "message", _) => self.message(data),
            _ => self.recorder.wrong(format!("an item {item:?}")),
        }
        if !item.id.is_empty() && Some(&*item.id) != self.recorder.position.map(|id| id.to_string()).as_deref() {
            self.recorder.wrong(format!("the id of an event is not that of its message: {item:?}"));
        }
    }

    fn message(&mut self, message: &Value) {
        if message["room"] == self.room {
            self.recorder.message(message, "text");
        } else {
            self.recorder.wrong(format!("a message of another room: {message}"));
        }
    }
}

/// The messages of one sender. Each has another text and another key, and a sender retries until it is answered.
pub struct Drafts<'a> {
    pub world: &'a World,
    name: String,
    pub dice: Dice,
    pub sent: Vec<Sent>,
    is_over: bool,
}

impl<'a> Drafts<'a> {
    /// Counts a sender in.
    pub fn new(world: &'a World, seed: u64, name: &str) -> Self {
        world.senders.fetch_add(1, Ordering::SeqCst);
        Drafts { world, name: name.to_owned(), dice: Dice::of(seed, name), sent: Vec::new(), is_over: false }
    }

    /// Begins the next message. Returns its text and its key, or `None` if the sender has ended.
    pub fn next(&mut self) -> Option<(String, String)> {
        if !self.is_over && World::is_over(&self.world.senders_end) {
            self.is_over = true;
            self.world.senders.fetch_sub(1, Ordering::SeqCst);
        }
        if self.is_over {
            return None;
        }
        let key = format!("{}-{}", self.name, self.sent.len() + 1);
        let text = format!("{key} {}", "x".repeat(self.dice.roll(100) as usize));
        self.sent.push(Sent { text: text.clone(), begun: self.world.now(), answers: Vec::new() });
        Some((text, key))
    }

    /// Notes the id of the current message.
    pub fn answered(&mut self, id: Cursor) {
        let now = self.world.now();
        if let Some(sent) = self.sent.last_mut() {
            sent.answers.push((now, id));
        }
    }

    /// Whether the sender retries a message that was answered.
    pub fn retries(&mut self) -> bool {
        self.dice.roll(16) == 0
    }
}

/// Sends messages until the end of the senders. `send` sends a text with a key once. Returns the messages, and what was
/// wrong.
pub fn send_messages(
    world: &World,
    seed: u64,
    name: &str,
    send: impl Fn(&mut Dice, &str, &str) -> Result<Cursor, Trouble>,
) -> (Vec<Sent>, Vec<String>) {
    let (mut drafts, mut faults) = (Drafts::new(world, seed, name), Vec::new());
    while let Some((text, key)) = drafts.next() {
        loop {
            match send(&mut drafts.dice, &text, &key) {
                Ok(id) => {
                    drafts.answered(id);
                    if !drafts.retries() {
                        break;
                    }
                }
                Err(Trouble::Wrong(what)) => {
                    faults.push(format!("{name}: {key}: {what}"));
                    break;
                }
                Err(_) if World::is_over(&world.readers_end) => break, // the server does not come back
                Err(_) => drafts.dice.back_off(),
            }
        }
        drafts.dice.pause(PACE);
    }
    (drafts.sent, faults)
}

/// Sends a message to a room once, and returns its id.
pub fn send(
    world: &World,
    dice: &mut Dice,
    room: &str,
    (sender, text, key): (&str, &str, &str),
) -> Result<Cursor, Trouble> {
    let content = json!({ "sender": sender, "room": room, "text": text, "key": key });
    let answer = world.connect(dice)?.ask(&post("/api/send", &content))?;
    match cursor(&answer.content["message_id"]) {
        Some(id) if answer.status == 200 => Ok(id),
        _ => Err(Trouble::Wrong(format!("a message got {}: {}", answer.status, answer.content))),
    }
}

/// A reader on a WebSocket that sends there too. A message is answered when it comes back.
pub struct Talker<'a> {
    reader: Reader<'a>,
    drafts: Drafts<'a>,
    /// The message that has not come back: its text and its JSON.
    waits: Option<(String, String)>,
}

impl<'a> Talker<'a> {
    pub fn new(world: &'a World, seed: u64, room: &'a str, name: &str, start: Option<Cursor>) -> Self {
        let reader = Reader::new(world, seed, room, name, start);
        Talker { reader, drafts: Drafts::new(world, seed, name), waits: None }
    }

    pub fn run(mut self) -> (History, Vec<Sent>) {
        while !self.reader.recorder.is_over() {
            if let Err(trouble) = self.talk() {
                self.reader.recorder.trouble(trouble, &mut self.reader.dice);
            }
        }
        (self.reader.recorder.history, self.drafts.sent)
    }

    fn talk(&mut self) -> Result<(), Trouble> {
        let Talker { reader, drafts, waits } = self;
        reader.recorder.note("WebSocket");
        let client = reader.recorder.world.connect(&mut reader.dice)?;
        let mut stream = reader.open(client, Transport::WebSocket)?;
        let mut due = Instant::now();
        while !reader.recorder.is_over() {
            if waits.is_none() {
                drafts.dice.pause(PACE);
                *waits = drafts.next().map(|(text, key)| {
                    let content = json!({ "sender": reader.recorder.history.reader, "text": text, "key": key });
                    (text, content.to_string())
                });
                due = Instant::now();
            }
            if let Some((_, content)) = waits.as_ref().filter(|_| Instant::now() >= due) {
                reader.recorder.note(format!("sends {}", drafts.sent.len()));
                stream.send(content)?;
                due = Instant::now() + REPEAT;
            }
            let item = stream.next()?;
            if item.data["type"] == "error" {
                // It is refused for now, such as with a disk that is full. A conflict of keys is not.
                let sentence = item.data["error"].as_str().unwrap_or_default().to_owned();
                return Err(if sentence.starts_with("key:") {
                    Trouble::Wrong(sentence)
                } else {
                    Trouble::Broken(sentence)
                });
            }
            reader.take(&item);
            if waits.as_ref().is_some_and(|(text, _)| item.data["text"] == **text)
                && let Some(id) = cursor(&item.data["id"])
            {
                drafts.answered(id);
                *waits = None;
            }
        }
        Ok(())
    }
}
