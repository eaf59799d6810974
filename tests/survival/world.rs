//! What all clients of a run share: the addresses, the clock, and the order to end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overwire::feed::Cursor;
use serde_json::Value;

use super::client::{Client, Trouble};
use super::dice::Dice;
use super::history::{Event, History, What};

/// The text of the last message of each log.
pub const END: &str = "end";

/// The longest pause before a client tries again, in milliseconds.
const PAUSE: u64 = 20;

pub struct World {
    /// The nodes, or the balancer before them.
    pub addresses: Vec<SocketAddr>,
    pub start: Instant,
    /// No sender begins another message.
    pub senders_end: AtomicBool,
    /// The number of senders that have not ended.
    pub senders: AtomicUsize,
    /// No reader tries again.
    pub readers_end: AtomicBool,
}

impl World {
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        let (senders_end, readers_end) = (AtomicBool::new(false), AtomicBool::new(false));
        World { addresses, start: Instant::now(), senders_end, senders: AtomicUsize::new(0), readers_end }
    }

    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Connects to one of the addresses. One connection in four breaks after some bytes.
    pub fn connect(&self, dice: &mut Dice) -> Result<Client, Trouble> {
        let address = self.addresses[dice.roll(self.addresses.len() as u64) as usize];
        let patience = Duration::from_millis(100 + dice.roll(1400));
        let left = if dice.roll(4) == 0 { dice.roll(8000) as usize } else { usize::MAX };
        Client::connect(address, patience, left)
    }

    pub fn is_over(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }
}

impl Dice {
    /// The dice of a client with this name.
    pub fn of(seed: u64, name: &str) -> Self {
        Dice(name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Sleeps for less than this number of milliseconds.
    pub fn pause(&mut self, milliseconds: u64) {
        thread::sleep(Duration::from_micros(self.roll(milliseconds * 1000)));
    }

    /// Sleeps before another attempt.
    pub fn back_off(&mut self) {
        self.pause(PAUSE);
    }
}

/// A reader's record and position.
pub struct Recorder<'a> {
    pub world: &'a World,
    pub history: History,
    /// The last id that it has, as a client would send it.
    pub position: Option<Cursor>,
    /// The last message of the log has arrived.
    pub has_ended: bool,
}

impl<'a> Recorder<'a> {
    pub fn new(world: &'a World, reader: String, start: Option<Cursor>) -> Self {
        let history = History { reader, start, events: Vec::new() };
        Recorder { world, history, position: start, has_ended: false }
    }

    /// Whether the reader has nothing more to do.
    pub fn is_over(&self) -> bool {
        self.has_ended || World::is_over(&self.world.readers_end)
    }

    fn record(&mut self, what: What) {
        self.history.events.push(Event { time: self.world.now(), what });
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.record(What::Note(note.into()));
    }

    /// Records that an attempt ended, and waits if the server is not there.
    pub fn trouble(&mut self, trouble: Trouble, dice: &mut Dice) {
        match trouble {
            Trouble::Wrong(what) => self.wrong(what),
            trouble => self.note(trouble.to_string()),
        }
        dice.back_off();
    }

    pub fn wrong(&mut self, what: impl Into<String>) {
        self.record(What::Wrong(what.into()));
    }

    pub fn told(&mut self, position: Option<Cursor>) {
        self.position = position.or(self.position);
        self.record(What::Told(position));
    }

    pub fn at(&mut self, position: Cursor) {
        self.position = Some(position);
        self.record(What::At(position));
    }

    /// Records a message, whose text is the member `name`.
    pub fn message(&mut self, message: &Value, name: &str) {
        match (cursor(&message["id"]), message[name].as_str()) {
            (Some(id), Some(text)) => {
                self.has_ended |= text == END;
                self.position = Some(id);
                self.record(What::Message { id, text: text.to_owned() });
            }
            _ => self.wrong(format!("not a message: {message}")),
        }
    }
}

/// Reads a position.
pub fn cursor(value: &Value) -> Option<Cursor> {
    value.as_str()?.parse().ok()
}
