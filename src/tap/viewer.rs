//! Viewers: WebSockets that see the bytes of exchanges and command faults.
//!
//! A page opens a viewer with an id that nobody can guess, and puts this id and a label into the requests that it wants
//! to see: `?tap=ID.LABEL`. Each viewer has bounds, and all of them together have a budget of bytes and of time. What
//! is beyond them is left out, and the viewer is notified.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Mode;
use super::audience::{Audience, MAX_WAITING, Trouble, Viewer};
use super::command::{Switch, is_label};
use super::faults::{Faults, Strike};
use super::shown::Shown;
use crate::event_loop::{EventLoop, ExchangeId, TimerId};
use crate::http::Request;
use crate::websocket::{Message, Role};
use crate::wire::Piece;

/// The most viewers, and the most open exchanges that one audience sees.
const MAX_VIEWERS: usize = 64;
const MAX_EXCHANGES: usize = 64;

/// The most labels of an audience that have faults.
const MAX_LABELS: usize = 32;

/// The length of an id, in characters.
const ID: RangeInclusive<usize> = 16..=64;

/// The most queued bytes of all viewers together.
const MAX_WAITING_OF_ALL: usize = 8 * 1024 * 1024;

/// The most bytes that all exchanges together keep because their label is not known yet.
const MAX_KEPT: usize = 8 * 1024 * 1024;

/// The longest time in each second that is spent on encoding events.
const ENCODING_TIME: Duration = Duration::from_millis(250);

/// The most bytes of one direction in one event. More come in several events, so that a viewer sees as much as it may.
const MAX_SHOWN: usize = 32 * 1024;

/// The least length of a piece without its bytes: `{"bytes":"","kind":"","name":"","section":""}`.
const LEAST_PIECE: usize = 44;

/// The time between two attempts to notify viewers of what was left out.
const NOTICE_INTERVAL: Duration = Duration::from_millis(200);

/// The audience of [`Mode::All`], and its label.
const ALL: (&str, &str) = ("", "all");

/// All viewers.
#[derive(Debug)]
pub struct Viewers {
    mode: Mode,
    target: String,
    shows_secrets: bool,
    audiences: HashMap<Rc<str>, Audience>,
    by_socket: HashMap<ExchangeId, Rc<str>>,
    /// The number of bytes that wait for their label.
    kept: usize,
    /// The time that is left for encoding, and when it was counted.
    encoding: (Duration, Instant),
    /// The timer of the next notices.
    notice: Option<TimerId>,
}

impl Viewers {
    /// Creates the state without viewers. `target` is the URL of the target, for their pages.
    pub fn new(mode: Mode, target: String, shows_secrets: bool, now: Instant) -> Self {
        Viewers {
            mode,
            target,
            shows_secrets,
            audiences: HashMap::new(),
            by_socket: HashMap::new(),
            kept: 0,
            encoding: (ENCODING_TIME, now),
            notice: None,
        }
    }

    /// Whether another viewer is too many. One that takes the place of another with the same id is not.
    pub fn is_full(&self, id: &str) -> bool {
        self.by_socket.len() >= MAX_VIEWERS && self.socket_of(id).is_none()
    }

    /// The WebSocket of the viewer with this id.
    pub fn socket_of(&self, id: &str) -> Option<ExchangeId> {
        let viewers = self.audiences.values().flat_map(|audience| &audience.viewers);
        viewers.filter(|viewer| *viewer.id == *id).map(|viewer| viewer.socket).next()
    }

    /// Adds a viewer. There is none with the same id. `open` exchanges have begun before it: it does not see them.
    pub fn open(&mut self, id: &str, socket: ExchangeId, open: usize, io: &mut EventLoop) {
        let key: Rc<str> = if self.mode == Mode::All { ALL.0 } else { id }.into();
        let audience = self.audiences.entry(key.clone()).or_default();
        audience.viewers.push(Viewer { socket, id: id.into(), since: audience.exchanges, left_out: (0, 0) });
        self.by_socket.insert(socket, key);
        let opened = match self.mode {
            Mode::All => json!({ "type": "open", "mode": "all", "target": self.target, "unseen": open }),
            Mode::Marked => json!({ "type": "open", "mode": "marked", "target": self.target }),
        };
        io.send_message(socket, Message::Text(opened.to_string()));
    }

    /// Removes a viewer. Returns the audience that is gone with it: its faults are lifted.
    pub fn close(&mut self, socket: ExchangeId) -> Option<Rc<str>> {
        let key = self.by_socket.remove(&socket)?;
        let audience = self.audiences.get_mut(&key)?;
        audience.viewers.retain(|viewer| viewer.socket != socket);
        if !audience.viewers.is_empty() {
            return None;
        }
        self.audiences.remove(&key);
        Some(key)
    }

    /// The WebSockets of all viewers.
    pub fn sockets(&self) -> Vec<ExchangeId> {
        self.by_socket.keys().copied().collect()
    }

    /// The audience of the viewer with this WebSocket.
    pub fn audience_of(&self, socket: ExchangeId) -> Option<Rc<str>> {
        self.by_socket.get(&socket).cloned()
    }

    /// Begins to show the exchange of `request`, if there is an audience for it. Returns the faults of its label too.
    pub fn begin(&mut self, request: &Request, address: SocketAddr, io: &mut EventLoop) -> Option<(Shown, Trouble)> {
        let (key, label) = self.find(request)?;
        self.begin_for(key, label, address, io)
    }

    /// Begins to show bytes that are not a request, if everything is shown.
    pub fn begin_malformed(&mut self, address: SocketAddr, io: &mut EventLoop) -> Option<Shown> {
        let (key, _) = self.audiences.get_key_value(ALL.0)?;
        self.begin_for(key.clone(), ALL.1.into(), address, io).map(|(shown, _)| shown)
    }

    fn begin_for(
        &mut self,
        key: Rc<str>,
        label: Rc<str>,
        address: SocketAddr,
        io: &mut EventLoop,
    ) -> Option<(Shown, Trouble)> {
        let audience = self.audiences.get_mut(&key)?;
        if audience.open >= MAX_EXCHANGES {
            audience.viewers.iter_mut().for_each(|viewer| viewer.leave_out(0));
            self.set_notice(io);
            return None;
        }
        audience.open += 1;
        audience.exchanges += 1;
        let shown = Shown::new(key, label.clone(), audience.exchanges, address, self.shows_secrets);
        let Some(trouble) = audience.labels.get_mut(&label) else { return Some((shown, Trouble::default())) };
        let now = *trouble;
        trouble.pending = None;
        Some((shown, now))
    }

    /// Returns the audience and the label of a request. A page sees only the requests of its own scripts. It does not
    /// see requests that a link or another site causes, nor navigations: scripts may not read all of their answers.
    fn find(&self, request: &Request) -> Option<(Rc<str>, Rc<str>)> {
        if self.mode == Mode::All {
            let (key, _) = self.audiences.get_key_value(ALL.0)?;
            return Some((key.clone(), ALL.1.into()));
        }
        let is_foreign = request.field("sec-fetch-site").is_some_and(|site| site != b"same-origin");
        if is_foreign || request.field("sec-fetch-mode") == Some(b"navigate") {
            return None;
        }
        let tap = request.parameter("tap")?;
        let (id, label) = tap.split_once('.').filter(|(_, label)| is_label(label))?;
        let (key, _) = self.audiences.get_key_value(id)?;
        Some((key.clone(), label.into()))
    }

    /// Changes a fault of a label. Returns all faults that stay.
    ///
    /// # Errors
    /// When there are too many labels.
    pub fn switch(&mut self, key: &Rc<str>, label: &Rc<str>, switch: Switch) -> Result<Faults, String> {
        let trouble = self.trouble(key, label)?;
        match switch {
            Switch::Delay(delay) => trouble.faults.delay = delay,
            Switch::Buffer(buffer) => trouble.faults.buffer = buffer,
            Switch::Rate(rate) => trouble.faults.rate = rate,
            Switch::BadGateway(is_bad) => trouble.is_gateway_bad = is_bad,
        }
        Ok(trouble.faults)
    }

    /// Keeps a strike for the next exchange of a label.
    ///
    /// # Errors
    /// When there are too many labels.
    pub fn strike_next(&mut self, key: &Rc<str>, label: &Rc<str>, strike: Strike) -> Result<(), String> {
        self.trouble(key, label).map(|trouble| trouble.pending = Some(strike))
    }

    fn trouble(&mut self, key: &Rc<str>, label: &Rc<str>) -> Result<&mut Trouble, String> {
        let audience = self.audiences.get_mut(key).ok_or("there is no such viewer")?;
        if audience.labels.len() >= MAX_LABELS && !audience.labels.contains_key(label) {
            return Err(format!("label: expected at most {MAX_LABELS} different ones"));
        }
        Ok(audience.labels.entry(label.clone()).or_default())
    }

    /// Shows bytes that `from` sent.
    pub fn show(&mut self, shown: &mut Shown, from: Role, bytes: &[u8], io: &mut EventLoop) {
        for bytes in bytes.chunks(MAX_SHOWN) {
            self.label(shown, from, bytes, io);
        }
        if from == Role::Server {
            // Bytes of the client may have waited for the answer.
            self.label(shown, Role::Client, b"", io);
        }
    }

    /// Shows a strike.
    pub fn show_strike(&mut self, shown: &Shown, strike: Strike, io: &mut EventLoop) {
        let mut event = shown.event("struck", time());
        event["fault"] = strike.name().into();
        self.send(shown, &event, 0, io);
    }

    /// Shows the end of an exchange. `closed` says that the connection has ended too.
    pub fn end(&mut self, mut shown: Shown, closed: bool, io: &mut EventLoop) {
        self.kept -= shown.kept();
        for from in [Role::Client, Role::Server] {
            let pieces = shown.end(from);
            if !pieces.is_empty() || shown.has_counted(from) {
                self.show_pieces(&mut shown, from, &pieces, io);
            }
        }
        let mut event = shown.event("end", time());
        event["closed"] = closed.into();
        self.send(&shown, &event, 0, io);
        if let Some(audience) = self.audiences.get_mut(&shown.audience) {
            audience.open -= 1;
        }
    }

    /// Forgets an exchange whose audience is gone.
    pub fn forget(&mut self, shown: &Shown) {
        self.kept -= shown.kept();
    }

    /// Notifies every viewer that the target is gone or back.
    pub fn announce(&mut self, fault: &str, io: &mut EventLoop) {
        let event = json!({ "type": "struck", "fault": fault, "time": time() }).to_string();
        let mut room = self.room(io);
        for viewer in self.audiences.values_mut().flat_map(|audience| &mut audience.viewers) {
            viewer.take(&event, 0, &mut room, io);
        }
        self.set_notice(io);
    }

    /// Notifies viewers of what was left out, if this is the timer for it.
    pub fn on_timer(&mut self, timer: TimerId, io: &mut EventLoop) {
        if self.notice != Some(timer) {
            return;
        }
        self.notice = None;
        for viewer in self.audiences.values_mut().flat_map(|audience| &mut audience.viewers) {
            if viewer.left_out.1 > 0 && io.waiting(viewer.socket) <= MAX_WAITING / 2 {
                viewer.notify(io);
            }
        }
        self.set_notice(io);
    }

    fn label(&mut self, shown: &mut Shown, from: Role, bytes: &[u8], io: &mut EventLoop) {
        self.kept -= shown.kept();
        let pieces = shown.read(from, bytes);
        if self.kept + shown.kept() > MAX_KEPT {
            shown.give_up();
        }
        self.kept += shown.kept();
        match pieces {
            Some(pieces) if pieces.is_empty() => {}
            Some(pieces) => self.show_pieces(shown, from, &pieces, io),
            None if bytes.is_empty() => {}
            None => self.leave_out(shown, bytes.len(), io),
        }
    }

    fn show_pieces(&mut self, shown: &mut Shown, from: Role, pieces: &[Piece], io: &mut EventLoop) {
        let length = pieces.iter().map(|piece| piece.bytes.len()).sum();
        let least = length / 3 * 4 + pieces.len() * LEAST_PIECE;
        let room = self.room(io);
        let viewers = self.audiences.get(&shown.audience).map(|audience| audience.viewers_of(shown.number));
        let has_room = viewers.is_some_and(|mut viewers| viewers.any(|viewer| viewer.has_room(least, room, io)));
        let start = io.exact_time();
        if !has_room || !self.has_time(start) {
            return self.leave_out(shown, length, io);
        }
        let event = shown.bytes_event(from, pieces, time());
        self.send(shown, &event, length, io);
        self.encoding.0 = self.encoding.0.saturating_sub(io.exact_time().saturating_duration_since(start));
    }

    /// Sends an event to the viewers that have room for it. It shows `length` bytes.
    fn send(&mut self, shown: &Shown, event: &Value, length: usize, io: &mut EventLoop) {
        let (text, mut room) = (event.to_string(), self.room(io));
        let Some(audience) = self.audiences.get_mut(&shown.audience) else { return };
        for viewer in audience.viewers_of_mut(shown.number) {
            viewer.take(&text, length, &mut room, io);
        }
        self.set_notice(io);
    }

    fn leave_out(&mut self, shown: &Shown, bytes: usize, io: &mut EventLoop) {
        let Some(audience) = self.audiences.get_mut(&shown.audience) else { return };
        audience.viewers_of_mut(shown.number).for_each(|viewer| viewer.leave_out(bytes));
        self.set_notice(io);
    }

    /// The number of bytes that may be queued for all viewers together.
    fn room(&self, io: &EventLoop) -> usize {
        let waiting = self.by_socket.keys().map(|socket| io.waiting(*socket)).sum();
        MAX_WAITING_OF_ALL.saturating_sub(waiting)
    }

    /// Whether there is time to encode an event.
    fn has_time(&mut self, now: Instant) -> bool {
        let (left, counted) = self.encoding;
        let more = now.saturating_duration_since(counted).mul_f64(ENCODING_TIME.as_secs_f64());
        self.encoding = ((left + more).min(ENCODING_TIME), now);
        !self.encoding.0.is_zero()
    }

    fn set_notice(&mut self, io: &mut EventLoop) {
        let mut viewers = self.audiences.values().flat_map(|audience| &audience.viewers);
        if self.notice.is_none() && viewers.any(|viewer| viewer.left_out.1 > 0) {
            self.notice = Some(io.set_timer(NOTICE_INTERVAL));
        }
    }
}

/// Checks that `id` may be the id of a viewer: it is too long to be guessed.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_id(id: &str) -> Result<(), String> {
    let is_id = ID.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let (least, most) = (ID.start(), ID.end());
    is_id.then_some(()).ok_or(format!("tap: expected {least} to {most} letters, digits, - and _ that nobody can guess"))
}

/// The seconds since the epoch, to the microsecond.
fn time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_micros() as f64 / 1_000_000.0
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
mod tests;
