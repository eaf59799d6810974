//! What the journal has committed reaches the replicas of the logs, and then the senders.

use super::Server;
use super::exchanges::{Exchanges, Reply};
use super::message::is_message;
use super::params::ApiError;
use super::parked;
use super::senders::{self, Published, Sender, Waiting};
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::journal::disk::{Data, Disk, OpenError, Recovery};
use crate::journal::{Change, LogName, Retention, Ticket, Wanted};
use crate::output::complain;

/// A part of the application that has replicas of logs.
pub trait Replica {
    /// A log exists. `start` is the position before its first message.
    fn opened(&mut self, exchanges: &mut Exchanges, log: LogName, start: Cursor);

    /// A message is committed. Its readers get it. Does nothing if it does not follow the newest message of the replica:
    /// then the log was removed before the message was committed.
    fn appended(&mut self, exchanges: &mut Exchanges, name: &str, cursor: Cursor, body: String);

    /// A message that was committed was sent to this server.
    fn count_own(&mut self);

    /// The messages after `tip` are lost. The readers are told.
    fn truncated(&mut self, exchanges: &mut Exchanges, name: &str, tip: Cursor);

    /// The log is removed. Its readers are ended.
    fn removed(&mut self, exchanges: &mut Exchanges, name: &str);

    /// A reader has had everything up to this position.
    fn restored(&mut self, exchanges: &mut Exchanges, name: &str, client: &str, position: Cursor);
}

impl Server {
    /// Reads the log of an earlier process, and continues it.
    ///
    /// # Errors
    /// The log cannot be opened.
    pub(super) fn restore(&mut self, data: &Data, retention: Retention) -> Result<(), OpenError> {
        let recovery = Recovery::read(&data.folder, retention)?;
        let now = (self.exchanges.now(), self.exchanges.event_loop.system_time());
        if let Some(cut) = recovery.cut() {
            complain(format_args!("{cut}"));
            self.rooms.note_lost_positions(now.0);
        }
        for change in recovery.changes() {
            let change = change?;
            self.exchanges.journal.restore(&change);
            self.apply(change);
        }
        self.rooms.count_restored();
        for (key, cursor, time) in recovery.keys() {
            self.exchanges.journal.restore_key(key, cursor, time, now);
        }
        let (logs, remote) = (recovery.logs(), self.remote());
        let disk = Disk::start(recovery, data.sync, remote, data.files.clone());
        let disk = disk.map_err(|error| OpenError::Io(data.folder.clone(), error))?;
        self.exchanges.journal.continue_on(disk, &logs);
        Ok(())
    }

    /// Applies the changes of the journal. It is called after each event: in memory, an asked message is committed at
    /// once.
    pub(super) fn commit(&mut self) {
        while let Some(change) = self.exchanges.journal.next_change() {
            self.apply(change);
        }
        self.exchanges.journal.flush(&mut self.exchanges.event_loop);
        let deadlines = [self.exchanges.senders.deadline(), self.parked.deadline()];
        if self.commit_timer.is_none()
            && let Some(deadline) = deadlines.into_iter().flatten().min()
        {
            let left = deadline.saturating_duration_since(self.exchanges.now());
            self.commit_timer = Some(self.exchanges.event_loop.set_timer(left));
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Appended { log, cursor, body, ticket } => {
                let (replica, exchanges) = self.replica(&log);
                match is_message(&body) {
                    true => replica.appended(exchanges, log.name(), cursor, body),
                    // Another program has written it to Redis. It counts as lost.
                    false => replica.truncated(exchanges, log.name(), cursor),
                }
                if let Some(ticket) = ticket {
                    replica.count_own();
                    self.count_commit(ticket);
                    self.answer(ticket, |timestamp| Ok(Published { id: cursor, timestamp }));
                }
            }
            Change::Repeated { ticket, cursor, timestamp } => {
                self.answer(ticket, |_| Ok(Published { id: cursor, timestamp }));
            }
            Change::Refused { ticket, refusal } => self.answer(ticket, |_| Err(senders::refused(refusal))),
            Change::Opened { log, start } => {
                let (replica, exchanges) = self.replica(&log);
                replica.opened(exchanges, log, start);
            }
            Change::Answered(wanted) => {
                for mut parked in self.parked.take(&wanted) {
                    parked.answered.push(wanted.clone());
                    self.handle_again(parked);
                }
            }
            Change::Truncated { log, tip } => {
                let (replica, exchanges) = self.replica(&log);
                replica.truncated(exchanges, log.name(), tip);
            }
            Change::Removed { log } => {
                let (replica, exchanges) = self.replica(&log);
                replica.removed(exchanges, log.name());
            }
            Change::Superseded { log } => self.mailboxes.supersede(&mut self.exchanges, log.name()),
            Change::NumbersWanted => self.announce(),
            Change::EndClients { asker, clients } => self.end_for(&asker, &clients),
            Change::Ended { ticket, is_known } => {
                let waiting = self.exchanges.senders.take(ticket);
                self.answer_end(waiting, is_known);
            }
            Change::Done { ticket } => {
                if let Some(Waiting { sender: Sender::Prepared(id, since, response), .. }) =
                    self.exchanges.senders.take(ticket)
                {
                    self.exchanges.reply(id, since, Reply::Now(*response));
                }
            }
            Change::Secret { name, text } => self.learn_secret(name, text.as_deref()),
            Change::SecretsUnsure => self.doubt_sessions(),
            Change::PositionsDropped { client } => self.rooms.note_dropped_positions(&self.exchanges, &client),
            Change::Position { client, log, cursor } => {
                let (replica, exchanges) = self.replica(&log);
                replica.restored(exchanges, log.name(), &client, cursor);
            }
        }
    }

    fn replica(&mut self, log: &LogName) -> (&mut dyn Replica, &mut Exchanges) {
        let replica: &mut dyn Replica = match log {
            LogName::Room(_) => &mut self.rooms,
            LogName::Mailbox(_) => &mut self.mailboxes,
        };
        (replica, &mut self.exchanges)
    }

    /// Notes that a message is committed, and queued for its readers.
    fn count_commit(&mut self, ticket: Ticket) {
        let Exchanges { senders, metrics, event_loop, .. } = &mut self.exchanges;
        if let Some(asked) = senders.asked(ticket) {
            metrics.committed(asked, event_loop);
        }
    }

    /// Answers the sender with this ticket, if it still waits. `result` gets the time of its message.
    fn answer(&mut self, ticket: Ticket, result: impl FnOnce(f64) -> Result<Published, ApiError>) {
        if let Some(waiting) = self.exchanges.senders.take(ticket) {
            self.exchanges.answer_sender(waiting.sender, result(waiting.timestamp));
        }
    }

    /// Answers the senders and the requests that have waited too long. The timer is set again by [`commit`](Server::commit).
    pub(super) fn on_commit_timer(&mut self) {
        self.commit_timer = None;
        while let Some(waiting) = self.exchanges.senders.overdue(self.exchanges.now()) {
            let late = senders::late(&waiting.sender);
            self.exchanges.answer_sender(waiting.sender, Err(late));
        }
        for parked in self.parked.overdue(self.exchanges.now()) {
            self.exchanges.event_loop.respond(parked.id, parked::not_found_in_time(&parked.wanted).response());
            self.give_up(&parked.wanted);
        }
    }

    /// Removes the request of an exchange that has ended, if it waits for the journal.
    pub(super) fn remove_parked(&mut self, id: ExchangeId) {
        if let Some(parked) = self.parked.remove(id) {
            self.give_up(&parked.wanted);
        }
    }

    /// A request does not wait for this any more. If no other one does, the journal need not answer.
    pub(super) fn give_up(&mut self, wanted: &Wanted) {
        if !self.parked.want(wanted) {
            self.exchanges.journal.give_up(wanted);
        }
    }
}

impl Exchanges {
    /// Answers a sender. Does nothing if its connection has ended.
    fn answer_sender(&mut self, sender: Sender, result: Result<Published, ApiError>) {
        match (sender, result) {
            (Sender::Request(id, since, answer), Ok(published)) => self.reply(id, since, answer.reply(published)),
            (Sender::Request(id, since, _), Err(error)) => self.reply(id, since, Reply::Now(error.response())),
            (Sender::Operator(id, since, _) | Sender::Prepared(id, since, _), Err(error)) => {
                self.reply(id, since, Reply::Now(error.response()));
            }
            (Sender::WebSocket(id), Err(error)) => self.send_error(id, &error),
            (Sender::WebSocket(_) | Sender::Operator(..) | Sender::Prepared(..), Ok(_)) | (Sender::Server, _) => {}
        }
    }
}
