//! The index: which records of the log are live. It is in memory, and is built from the records alone, by the same
//! function when the log is read, when it grows, and when records are carried forward.

use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use super::messages::Messages;
use super::record::{Log, LogKind, Record};
use super::segment::Records;
use crate::feed::Cursor;
use crate::journal::keys::LIFETIME;
use crate::journal::{Key, Retention};

/// The time for which the position of a client is kept, in milliseconds.
const POSITION_LIFETIME: u64 = 3_600_000;

/// The most clients with positions, and the most positions of one client.
const CLIENTS: usize = 100_000;
const POSITIONS_PER_CLIENT: usize = 16;

/// About the length of the record of a key.
const KEY_BYTES: u64 = 128;

/// The place of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the segment.
    pub segment: u32,
    /// The offset in the segment.
    pub offset: u32,
    /// The length of the record.
    pub length: u32,
}

/// A log.
#[derive(Debug)]
struct LogState {
    messages: Messages,
    /// The place of the record that starts the log. `None` until it comes.
    start: Option<Place>,
    /// The position of the one reader of a mailbox.
    reader: Option<Position>,
}

/// A known key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownKey {
    /// The key.
    pub key: Key,
    /// The position after its message.
    pub cursor: Cursor,
    /// The time of its message, in milliseconds since the epoch.
    pub time: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    cursor: Cursor,
    place: Place,
}

/// The positions of a client, each in a log.
#[derive(Debug, Default)]
struct ClientState {
    newest: u64,
    positions: Vec<(LogKind, Box<str>, Position)>,
}

/// Returns the most messages of a log, and the most bytes of them. The index drops no message that a feed retains: the
/// JSON of a message is longer in the feed, where it has its id.
fn limits(retention: &Retention, kind: LogKind) -> (usize, usize) {
    match kind {
        LogKind::Room => (retention.messages, retention.bytes),
        LogKind::Mailbox => Retention::MAILBOX,
    }
}

/// The live records.
#[derive(Debug)]
pub(super) struct Index {
    retention: Retention,
    /// By kind and name.
    logs: [HashMap<Box<str>, LogState>; 2],
    keys: HashMap<[u8; 16], KnownKey>,
    /// The keys by the time of their messages.
    key_times: VecDeque<(u64, [u8; 16])>,
    clients: HashMap<Box<str>, ClientState>,
    /// One entry for each client. A client that has newer positions goes to the end again.
    client_times: VecDeque<(u64, Box<str>)>,
    /// The bytes of all live records but those of keys.
    bytes: u64,
    /// The newest time in a record. What it has is judged by this time: a log that is read again has its own present.
    newest: u64,
    /// The time of the last look at the clock. No time in a record counts as later: the clock may have been ahead.
    clock: u64,
}

impl Index {
    /// Creates the index of an empty log.
    pub fn new(retention: Retention) -> Self {
        Index {
            retention,
            logs: Default::default(),
            keys: HashMap::new(),
            key_times: VecDeque::new(),
            clients: HashMap::new(),
            client_times: VecDeque::new(),
            bytes: 0,
            newest: 0,
            clock: clock(),
        }
    }

    /// Returns the number of bytes of all live records.
    pub fn bytes(&self) -> u64 {
        self.bytes + KEY_BYTES * self.keys.len() as u64
    }

    /// Adds a record.
    pub fn apply(&mut self, record: &Record<'_>, place: Place) {
        match record {
            Record::Segment { .. } | Record::Synced => {}
            Record::Start { log, cursor } => self.start(log, *cursor, place),
            Record::Message { log, cursor, time, key, body } => {
                self.message(log, *cursor, place, body.len() as u32);
                let time = self.past(*time);
                self.newest = self.newest.max(time);
                if let Some(key) = key {
                    self.key(KnownKey { key: *key, cursor: *cursor, time, place });
                }
            }
            Record::Key { key, cursor, time } => {
                self.key(KnownKey { key: *key, cursor: *cursor, time: self.past(*time), place });
            }
            Record::Remove { log } => self.remove(log),
            Record::Position { client, log, cursor, time } => {
                let time = self.past(*time);
                self.newest = self.newest.max(time);
                self.position(client, log, time, Position { cursor: *cursor, place });
            }
        }
    }

    fn past(&self, time: u64) -> u64 {
        time.min(self.clock)
    }

    /// Looks at the clock. If it was set back, nothing is newer than it.
    pub(super) fn look_at_clock(&mut self, clock: u64) {
        self.clock = clock;
        if clock < self.newest {
            self.newest = clock;
            let keys = self.keys.values_mut().map(|known| &mut known.time);
            let clients = self.clients.values_mut().map(|state| &mut state.newest);
            let times = self.key_times.iter_mut().map(|(time, _)| time);
            let times = times.chain(self.client_times.iter_mut().map(|(time, _)| time));
            keys.chain(clients).chain(times).for_each(|time| *time = (*time).min(clock));
        }
    }

    /// Adds records that lie at an offset of a segment.
    pub fn apply_all(&mut self, records: &[u8], segment: u32, offset: u64) {
        self.look_at_clock(clock());
        for (place, record) in Records::new(records, segment, offset).flatten() {
            self.apply(&record, place);
        }
    }

    /// Returns the state of the log that a cursor belongs to. What is there under the name with another epoch ends.
    fn log(&mut self, log: &Log<'_>, cursor: Cursor) -> &mut LogState {
        let logs = &mut self.logs[log.kind as usize];
        if !logs.contains_key(&*log.name) {
            let state = LogState { messages: Messages::new(cursor), start: None, reader: None };
            logs.insert(log.name.as_ref().into(), state);
        }
        let state = logs.get_mut(&*log.name).expect("it was added if it was missing");
        if state.messages.epoch() != cursor.epoch() {
            self.bytes -= state.messages.record_bytes();
            state.messages = Messages::new(cursor);
        }
        state
    }

    fn start(&mut self, log: &Log<'_>, cursor: Cursor, place: Place) {
        let state = self.log(log, cursor);
        let before = state.messages.record_bytes() + state.start.map_or(0, |start| start.length.into());
        state.messages.start(cursor);
        state.start = Some(place);
        let after = state.messages.record_bytes() + u64::from(place.length);
        self.bytes = self.bytes + after - before;
    }

    fn message(&mut self, log: &Log<'_>, cursor: Cursor, place: Place, bytes: u32) {
        let limits = limits(&self.retention, log.kind);
        let state = self.log(log, cursor);
        let before = state.messages.record_bytes();
        state.messages.insert(cursor, place, bytes, limits);
        let after = state.messages.record_bytes();
        self.bytes = self.bytes + after - before;
    }

    fn remove(&mut self, log: &Log<'_>) {
        if let Some(state) = self.logs[log.kind as usize].remove(&*log.name) {
            let others = state.start.map_or(0, |start| start.length) + state.reader.map_or(0, |it| it.place.length);
            self.bytes -= state.messages.record_bytes() + u64::from(others);
        }
    }

    fn key(&mut self, known: KnownKey) {
        let digest = known.key.digest;
        if self.keys.insert(digest, known).is_none() {
            self.key_times.push_back((known.time, digest));
        }
        while let Some((time, digest)) = self.key_times.front().filter(|(time, _)| !self.holds(*time)) {
            // A key that is used again after its time has a newer message.
            if self.keys.get(digest).is_some_and(|known| known.time > *time) {
                let digest = *digest;
                self.key_times.push_back((self.keys[&digest].time, digest));
            } else {
                self.keys.remove(digest);
            }
            self.key_times.pop_front();
        }
    }

    /// Whether a key with this time is still known.
    fn holds(&self, time: u64) -> bool {
        time + LIFETIME.as_millis() as u64 > self.newest
    }

    fn position(&mut self, client: &str, log: &Log<'_>, time: u64, position: Position) {
        let added = u64::from(position.place.length);
        if log.kind == LogKind::Mailbox && client.is_empty() {
            // The record that starts the log may have been carried forward, and come later.
            let unknown = || LogState { messages: Messages::new(position.cursor), start: None, reader: None };
            let state = self.logs[log.kind as usize].entry(log.name.as_ref().into()).or_insert_with(unknown);
            let replaced = state.reader.replace(position);
            self.bytes = self.bytes + added - replaced.map_or(0, |it| u64::from(it.place.length));
            return;
        }
        if !self.clients.contains_key(client) {
            self.clients.insert(client.into(), ClientState::default());
            self.client_times.push_back((time, client.into()));
        }
        let state = self.clients.get_mut(client).expect("it was added if it was missing");
        state.newest = state.newest.max(time);
        let same = state.positions.iter().position(|(kind, name, _)| *kind == log.kind && **name == *log.name);
        let old = same.or((state.positions.len() >= POSITIONS_PER_CLIENT).then_some(0));
        let removed = old.map_or(0, |at| state.positions.remove(at).2.place.length);
        state.positions.push((log.kind, log.name.as_ref().into(), position));
        self.bytes = self.bytes + added - u64::from(removed);
        self.expire_clients();
    }

    fn expire_clients(&mut self) {
        let is_over = |index: &Index, time: u64| time + POSITION_LIFETIME <= index.newest;
        while let Some((time, client)) = self.client_times.pop_front() {
            if !is_over(self, time) && self.clients.len() <= CLIENTS {
                self.client_times.push_front((time, client));
                return;
            }
            let newest = self.clients.get(&client).map_or(0, |state| state.newest);
            if newest > time {
                self.client_times.push_back((newest, client));
            } else if let Some(state) = self.clients.remove(&client) {
                let positions = state.positions.iter();
                self.bytes -= positions.map(|(_, _, position)| u64::from(position.place.length)).sum::<u64>();
            }
        }
    }

    /// Returns the record that must be written again before a record is deleted. `None` if it is not live.
    pub fn carried<'a>(&self, record: &Record<'a>, place: Place) -> Option<Record<'a>> {
        match record {
            Record::Segment { .. } | Record::Synced | Record::Remove { .. } => None,
            Record::Start { log, .. } => {
                let state = self.logs[log.kind as usize].get(&*log.name)?;
                let is_live = state.start == Some(place);
                is_live.then(|| Record::Start { log: log.clone(), cursor: state.messages.dropped() })
            }
            Record::Message { log, cursor, time, key, .. } => {
                let state = self.logs[log.kind as usize].get(&*log.name);
                if state.is_some_and(|state| state.messages.is_at(*cursor, place)) {
                    return Some(record.clone());
                }
                let key = (*key)?;
                self.key_is_at(&key, place).then_some(Record::Key { key, cursor: *cursor, time: *time })
            }
            Record::Key { key, .. } => self.key_is_at(key, place).then(|| record.clone()),
            Record::Position { client, log, .. } => {
                self.place_of_position(client, log).is_some_and(|own| own == place).then(|| record.clone())
            }
        }
    }

    fn key_is_at(&self, key: &Key, place: Place) -> bool {
        self.keys.get(&key.digest).is_some_and(|known| known.place == place && self.holds(known.time))
    }

    fn place_of_position(&self, client: &str, log: &Log<'_>) -> Option<Place> {
        if log.kind == LogKind::Mailbox && client.is_empty() {
            return Some(self.logs[log.kind as usize].get(&*log.name)?.reader?.place);
        }
        let mut positions = self.clients.get(client)?.positions.iter();
        let found = positions.find(|(kind, name, _)| *kind == log.kind && **name == *log.name);
        found.map(|(_, _, position)| position.place)
    }

    /// Drops messages that have a hole after them. Forgets what is not a part of a whole log. All records have been
    /// added.
    pub fn close_holes(&mut self) {
        self.bytes = 0;
        for logs in &mut self.logs {
            logs.retain(|_, state| state.start.is_some() || state.messages.places().next().is_some());
        }
        for state in self.logs.iter_mut().flat_map(HashMap::values_mut) {
            state.messages.close_holes();
            let others = state.start.map_or(0, |start| start.length) + state.reader.map_or(0, |it| it.place.length);
            self.bytes += state.messages.record_bytes() + u64::from(others);
        }
        let positions = self.clients.values().flat_map(|state| &state.positions);
        self.bytes += positions.map(|(_, _, position)| u64::from(position.place.length)).sum::<u64>();
    }

    /// Returns the records that start all logs after their newest messages: the segments are lost.
    pub fn starts_at_tips(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (log, messages) in self.logs() {
            Record::Start { log, cursor: messages.tip() }.encode(&mut out);
        }
        out
    }

    /// Returns all logs.
    pub fn logs(&self) -> impl Iterator<Item = (Log<'_>, &Messages)> {
        [LogKind::Room, LogKind::Mailbox].into_iter().flat_map(|kind| {
            let logs = self.logs[kind as usize].iter();
            logs.map(move |(name, state)| (Log { kind, name: (&**name).into() }, &state.messages))
        })
    }

    /// Returns all known keys, in the order of their times.
    pub fn keys(&self) -> Vec<KnownKey> {
        let mut keys: Vec<_> = self.keys.values().filter(|known| self.holds(known.time)).copied().collect();
        keys.sort_unstable_by_key(|known| known.time);
        keys
    }

    /// Returns the positions of all clients, and of the readers of mailboxes, whose client is empty.
    pub fn positions(&self) -> impl Iterator<Item = (&str, Log<'_>, Cursor)> {
        let of_clients = self.clients.iter().flat_map(|(client, state)| {
            let positions = state.positions.iter();
            positions.map(|(kind, name, it)| (&**client, Log { kind: *kind, name: (&**name).into() }, it.cursor))
        });
        let mailboxes = self.logs[LogKind::Mailbox as usize].iter();
        let of_readers = mailboxes.filter_map(|(name, state)| {
            let log = Log { kind: LogKind::Mailbox, name: (&**name).into() };
            state.reader.map(|reader| ("", log, reader.cursor))
        });
        of_clients.chain(of_readers)
    }
}

/// Returns the time of the system in milliseconds since the epoch.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
