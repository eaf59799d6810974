//! Following logs: subscribing, reading, and the changes that come of it.

use std::time::{Duration, Instant};

use super::entries::{self, Entry, id};
use super::log::{Claim, Creation, Log, Phase, Step};
use super::positions::{claim_in, claim_key, position_in, reader_key};
use super::{MOST_UNASKED, Name, Redis, SHORT_LIFETIME, key, lifetime};
use crate::books;
use crate::feed::Cursor;
use crate::journal::{Change, LogName, Wanted};
use crate::resp::Value;

/// The pause before a log is read again that could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

impl Redis {
    /// Asks what was looked for while there was no connection.
    pub(super) fn find_unasked(&mut self) {
        for wanted in std::mem::take(&mut self.unasked) {
            self.find(&wanted);
        }
    }

    /// As [`Journal::open`](crate::journal::Journal::open).
    pub fn open(&mut self, name: &LogName) -> Option<Cursor> {
        let wanted = Wanted::Log(name.clone());
        match self.follow(name, Creation::Fresh).want(wanted) {
            Some(tip) => Some(tip),
            None => {
                self.subscribe(name);
                None
            }
        }
    }

    /// As [`Journal::create`](crate::journal::Journal::create).
    pub fn create(&mut self, name: &LogName) -> Cursor {
        let start = Cursor::start(&mut self.random);
        self.follow(name, Creation::At(start));
        self.create_in_redis(name); // a message may follow before the subscription is confirmed
        self.subscribe(name);
        start
    }

    /// As [`Journal::find`](crate::journal::Journal::find).
    pub fn find(&mut self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Log(name) => self.find_log(name, wanted.clone()),
            Wanted::Epoch(_) | Wanted::Client(_) if self.trouble().is_some() => {
                if self.unasked.len() < MOST_UNASKED {
                    self.unasked.push(wanted.clone());
                }
                true
            }
            Wanted::Epoch(epoch) => {
                self.session.ask(&[b"GET", epoch_key(*epoch).as_bytes()], Name::Epoch(*epoch));
                true
            }
            Wanted::Client(client) => {
                self.find_client(client);
                true
            }
            Wanted::Position(name, _) => self.find_position(name, wanted.clone()),
            Wanted::Secret(name) => {
                self.find_secret(*name);
                true
            }
        }
    }

    /// Follows a log, if there is one. Returns whether the answer follows.
    fn find_log(&mut self, name: &LogName, wanted: Wanted) -> bool {
        let is_loaded = self.follow(name, Creation::Never).want(wanted).is_some();
        self.subscribe(name);
        !is_loaded
    }

    /// Reads a log once more: another node may be ahead of this one. Returns whether the answer follows.
    fn find_position(&mut self, name: &LogName, wanted: Wanted) -> bool {
        let Some(log) = self.logs.get_mut(name) else { return false };
        log.wanted.push(wanted);
        if matches!(log.phase, Phase::Current | Phase::Reading) {
            self.read(name); // a read that is under way may have begun too early
        }
        true
    }

    /// Takes the id of the mailbox with an epoch.
    pub(super) fn on_epoch(&mut self, epoch: u64, reply: &Value) {
        let wanted = Wanted::Epoch(epoch);
        let mailbox = reply.as_bytes().and_then(|id| std::str::from_utf8(id).ok());
        let waits = mailbox.is_some_and(|id| self.find_log(&LogName::Mailbox(id.into()), wanted.clone()));
        if !waits {
            self.changes.push_back(Change::Answered(wanted));
        }
    }

    fn follow(&mut self, name: &LogName, creation: Creation) -> &mut Log {
        if !self.logs.contains_key(name) {
            self.channels.insert(self.channel(name), name.clone());
        }
        let most = self.retention.of(name);
        let log = self.logs.entry(name.clone()).or_insert_with(|| Log::new(creation, most));
        if creation == Creation::Fresh {
            log.creation = creation;
        }
        log
    }

    /// As [`Journal::give_up`](crate::journal::Journal::give_up).
    pub fn give_up(&mut self, wanted: &Wanted) {
        self.unasked.retain(|other| other != wanted);
        let (Wanted::Log(name) | Wanted::Position(name, _)) = wanted else { return };
        let Some(log) = self.logs.get_mut(name) else { return };
        log.wanted.retain(|other| other != wanted);
        if log.tip().is_none() && log.wanted.is_empty() {
            self.remove(name);
        }
    }

    /// As [`Journal::remove`](crate::journal::Journal::remove). Other nodes may go on.
    pub fn remove(&mut self, name: &LogName) {
        let Some(log) = self.logs.remove(name) else { return };
        let channel = self.channel(name);
        self.channels.remove(&channel);
        self.session.subscribe(&[b"UNSUBSCRIBE", channel.as_bytes()]);
        self.changes.extend(log.wanted.into_iter().map(Change::Answered));
    }

    /// As [`Journal::shed`](crate::journal::Journal::shed). A node that follows the log extends its life again.
    pub fn shed(&mut self, name: &LogName) {
        self.remove(name);
        self.ask_other(&["PEXPIRE", &key(name), &SHORT_LIFETIME.as_millis().to_string()]);
    }

    /// As [`Journal::delete`](crate::journal::Journal::delete).
    pub fn delete(&mut self, name: &LogName) {
        self.remove(name);
        self.ask_other(&["DEL", &key(name)]);
        self.ask_other(&["PUBLISH", &self.channel(name), ""]);
    }

    /// As [`Journal::forget`](crate::journal::Journal::forget): this node follows no log any more.
    pub fn forget(&mut self) {
        for name in self.logs.keys().cloned().collect::<Vec<_>>() {
            self.remove(&name);
        }
    }

    /// As [`Journal::sweep`](crate::journal::Journal::sweep): the logs that this node follows do not expire.
    pub fn sweep(&mut self, now: Instant) {
        self.nodes.sweep(now);
        books::shrink_map(&mut self.logs);
        books::shrink_map(&mut self.channels);
        let due = self.logs.iter_mut().filter_map(|(name, log)| log.is_to_be_kept(now).then_some((name, log)));
        let due = due.map(|(name, log)| (name.clone(), log.tip().map_or(0, Cursor::epoch)));
        for (name, epoch) in due.collect::<Vec<_>>() {
            let keys = match name {
                LogName::Room(_) if self.logs.get(&name).is_some_and(Log::is_unused) => {
                    self.read(&name); // the script knows whether there is a message by now
                    continue;
                }
                LogName::Room(_) => vec![key(&name)],
                LogName::Mailbox(_) => vec![key(&name), epoch_key(epoch), reader_key(&name), claim_key(&name)],
            };
            keys.iter().for_each(|key| self.ask_other(&["PEXPIRE", key, &lifetime(&name)]));
        }
    }

    /// Creates the logs that were created while there was no connection, before messages are appended to them.
    pub(super) fn create_all(&mut self) {
        let is_new = |log: &Log| matches!(log.creation, Creation::At(_));
        let new = self.logs.iter().filter(|(_, log)| is_new(log)).map(|(name, _)| name.clone());
        for name in new.collect::<Vec<_>>() {
            self.create_in_redis(&name);
        }
    }

    fn create_in_redis(&mut self, name: &LogName) {
        let epoch = self.logs.get(name).and_then(|log| log.tip()).map_or(0, Cursor::epoch);
        self.ask_to_open(name, Name::Other);
        self.ask_other(&["SET", &epoch_key(epoch), name.name(), "PX", &lifetime(name)]);
    }

    /// Subscribes to the notices of all logs, on a new connection.
    pub(super) fn subscribe_all(&mut self) {
        for name in self.logs.keys().cloned().collect::<Vec<_>>() {
            self.subscribe(&name);
        }
    }

    fn subscribe(&mut self, name: &LogName) {
        let channel = self.channel(name);
        if self.session.trouble().is_none()
            && let Some(log) = self.logs.get_mut(name).filter(|log| log.phase == Phase::Apart)
        {
            log.phase = Phase::Subscribing;
            self.session.subscribe(&[b"SUBSCRIBE", channel.as_bytes()]);
        }
    }

    /// A subscription has begun or ended, or there is a notice.
    pub(super) fn on_push(&mut self, values: &[Value], now: Instant) {
        let [kind, channel, content] = values else { return };
        let channel = channel.as_bytes().and_then(|channel| std::str::from_utf8(channel).ok()).unwrap_or_default();
        let Some(name) = self.channels.get(channel).cloned() else {
            return if channel == self.nodes_channel() {
                self.on_nodes_push(kind, content, now)
            };
        };
        let Some(log) = self.logs.get_mut(&name) else { return };
        match kind.as_bytes() {
            // It ended before it began again: that is confirmed next.
            Some(b"unsubscribe") => log.phase = Phase::Subscribing,
            Some(b"subscribe") => {
                match log.claim {
                    Claim::None => {}
                    Claim::Asked(number) => self.tell_claim(&name, number),
                    Claim::Held => self.check_claim(&name), // before it reads: the newer reader may have had the texts
                }
                self.read(&name);
            }
            Some(b"message") => self.on_notice(&name, content.as_bytes().unwrap_or_default()),
            _ => {}
        }
    }

    fn on_notice(&mut self, name: &LogName, notice: &[u8]) {
        if notice.is_empty() {
            return self.on_gone(name);
        }
        if let Some(cursor) = position_in(notice, &self.node) {
            let (client, log) = ("".into(), name.clone());
            return self.changes.extend(cursor.map(|cursor| Change::Position { client, log, cursor }));
        }
        if let Some((node, number)) = claim_in(notice) {
            return self.on_claim(name, node, number);
        }
        let (mut steps, mut is_behind) = (Vec::new(), false);
        let Some(log) = self.logs.get_mut(name) else { return };
        for line in std::str::from_utf8(notice).unwrap_or_default().split('\n') {
            if Entry::position(line).is_some_and(|position| log.has(position)) {
                continue; // most are of this node, and the reply came first
            }
            is_behind |= Entry::of_line(line).is_some_and(|entry| log.notice(entry, &mut steps));
        }
        self.apply(name, steps);
        if is_behind {
            self.read(name);
        }
    }

    /// Redis does not have a log.
    pub(super) fn on_gone(&mut self, name: &LogName) {
        if self.logs.get(name).is_some_and(|log| log.tip().is_some()) {
            self.changes.push_back(Change::Removed { log: name.clone() });
        }
        self.remove(name);
    }

    /// Reads a log from its newest known position on.
    pub(super) fn read(&mut self, name: &LogName) {
        if let Some(log) = self.logs.get_mut(name) {
            let read = log.begin_read();
            self.ask_to_open(name, Name::Read(name.clone(), read));
        }
    }

    /// Asks for what is in a stream after the newest known position. Creates the stream, if that is wanted.
    fn ask_to_open(&mut self, name: &LogName, asked: Name) {
        let Some(log) = self.logs.get(name) else { return };
        let new = match log.creation {
            Creation::Never => None,
            // A room that had no message, and has expired, is the same as before.
            Creation::Fresh if log.is_unused() => log.tip(),
            Creation::Fresh => Some(Cursor::start(&mut self.random)),
            Creation::At(start) => Some(start),
        };
        let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let tip = log.tip();
        let arguments = [
            lifetime(name),
            SHORT_LIFETIME.as_millis().to_string(),
            number(tip.map(Cursor::epoch)),
            tip.map_or(String::new(), id),
            number(new.map(Cursor::epoch)),
            number(new.map(|new| new.check().into())),
        ];
        self.scripts[1].ask(&mut self.session, &[&key(name)], &arguments.each_ref().map(String::as_str), asked);
    }

    /// Takes what a read has found.
    pub(super) fn on_read(&mut self, name: &LogName, read: u64, reply: &Value, now: Instant) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.read == read) else { return };
        match (reply, Entry::of_reply(reply)) {
            (_, Some(entries)) => {
                let mut steps = Vec::new();
                let is_behind = log.load(entries, &mut steps);
                self.apply(name, steps);
                match name {
                    LogName::Mailbox(_) => self.find_reader(name, read), // it may have moved while this node was away
                    LogName::Room(_) => self.answer(name),
                }
                if is_behind {
                    self.read(name);
                }
            }
            (Value::Null, _) if log.creation != Creation::Never => self.read(name), // it was opened meanwhile
            (Value::Null, _) => self.on_gone(name),
            _ => {
                log.phase = Phase::Failed(now + READ_PAUSE);
                self.look_at(now + READ_PAUSE);
            }
        }
    }

    /// All that Redis has of a log is reported.
    pub(super) fn answer(&mut self, name: &LogName) {
        if let Some(log) = self.logs.get_mut(name) {
            self.changes.extend(log.wanted.drain(..).map(Change::Answered));
        }
    }

    /// Reads the logs whose time has come.
    pub(super) fn read_due(&mut self, now: Instant) {
        let due = self.logs.iter_mut().filter_map(|(name, log)| log.is_due(now).then(|| name.clone()));
        for name in due.collect::<Vec<_>>() {
            self.read(&name);
        }
        self.logs_until = self.logs.values().filter_map(Log::deadline).min();
    }

    /// Notes a deadline of a log.
    pub(super) fn look_at(&mut self, until: Instant) {
        self.logs_until = Some(self.logs_until.map_or(until, |earliest| earliest.min(until)));
    }

    /// Reports the changes of a replica.
    fn apply(&mut self, name: &LogName, steps: Vec<Step>) {
        for step in steps {
            let log = name.clone();
            self.changes.push_back(match step {
                Step::Opened(start) => Change::Opened { log, start },
                Step::Truncated(tip) => Change::Truncated { log, tip },
                Step::Appended(Entry { cursor, by, body }) => {
                    let ticket = entries::ticket_of(&by, &self.node);
                    let asked = ticket.and_then(|ticket| self.asked.take(ticket));
                    Change::Appended { log, cursor, body, ticket: asked.map(|asked| asked.ticket) }
                }
            });
        }
    }
}

/// Returns the key of the id of the mailbox with an epoch.
fn epoch_key(epoch: u64) -> String {
    format!("overwire:epoch:{epoch}")
}
