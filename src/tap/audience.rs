//! Audiences: the viewers that see the same exchanges, their bounds, and the faults that they have commanded.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use serde_json::json;

use super::faults::{Faults, Strike};
use crate::event_loop::{EventLoop, ExchangeId};
use crate::websocket::Message;

/// The most queued bytes of one viewer.
pub const MAX_WAITING: usize = 512 * 1024;

/// The faults of a label.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    /// The faults that stay.
    pub faults: Faults,
    /// New requests are answered with 502.
    pub is_gateway_bad: bool,
    /// The strike on the next exchange: there was none when it was commanded.
    pub pending: Option<Strike>,
}

/// A WebSocket that sees exchanges.
#[derive(Debug)]
pub struct Viewer {
    pub socket: ExchangeId,
    pub id: Rc<str>,
    /// The number of the last exchange before it came. It sees those after it.
    pub since: u64,
    /// The bytes and events that were left out.
    pub left_out: (usize, u64),
}

/// The viewers that see the same exchanges: one with [`Mode::Marked`], all with [`Mode::All`].
#[derive(Debug, Default)]
pub struct Audience {
    pub viewers: Vec<Viewer>,
    pub labels: HashMap<Rc<str>, Trouble>,
    /// The number of exchanges so far.
    pub exchanges: u64,
    /// The number of exchanges that have not ended.
    pub open: usize,
}

impl Audience {
    /// The viewers that see the exchange with this number.
    pub fn viewers_of(&self, exchange: u64) -> impl Iterator<Item = &Viewer> {
        self.viewers.iter().filter(move |viewer| viewer.since < exchange)
    }

    /// The same, to be changed.
    pub fn viewers_of_mut(&mut self, exchange: u64) -> impl Iterator<Item = &mut Viewer> {
        self.viewers.iter_mut().filter(move |viewer| viewer.since < exchange)
    }
}

impl Viewer {
    /// Whether an event of this length fits. A viewer with an empty queue takes any length.
    pub fn has_room(&self, length: usize, room: usize, io: &EventLoop) -> bool {
        let waiting = io.waiting(self.socket);
        length <= room && (waiting == 0 || waiting + length <= MAX_WAITING)
    }

    /// Queues an event that shows `length` bytes, or leaves it out.
    pub fn take(&mut self, event: &str, length: usize, room: &mut usize, io: &mut EventLoop) {
        if !self.has_room(event.len(), *room, io) {
            return self.leave_out(length);
        }
        self.notify(io);
        io.send_message(self.socket, Message::Text(event.to_owned()));
        *room -= event.len();
    }

    /// Counts an event of `bytes` that it does not see.
    pub fn leave_out(&mut self, bytes: usize) {
        self.left_out = (self.left_out.0 + bytes, self.left_out.1 + 1);
    }

    /// Queues a notice of what was left out.
    pub fn notify(&mut self, io: &mut EventLoop) {
        let (bytes, events) = mem::take(&mut self.left_out);
        if events > 0 {
            let notice = json!({ "type": "left_out", "bytes": bytes, "events": events });
            io.send_message(self.socket, Message::Text(notice.to_string()));
        }
    }
}
