//! Raw connections: bytes are passed on, not decoded, and each direction ends by itself.

use super::{Closed, Connection, Context, LARGE, Outcome, State};
use crate::connection::backlog::Backlog;

/// Whether the input of a raw connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Open,
    /// The program reads no more until it resumes.
    Paused,
    /// The peer has ended its side.
    Ended,
}

/// Whether a raw connection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Open,
    /// The outbox is still to be written. Then writing is shut down.
    Ending,
    /// Writing is shut down.
    Ended,
    /// A write has failed. What has arrived is still to be read.
    Broken,
}

/// Whether the program gets [`Outcome::Drained`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// No: it has queued nothing since the last time.
    No,
    /// When the outbox is empty.
    Awaited,
    /// Now.
    Due,
}

/// The two directions of a raw connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub input: Input,
    pub output: Output,
    pub drained: Drained,
}

impl Raw {
    pub const NEW: Raw = Raw { input: Input::Open, output: Output::Open, drained: Drained::No };

    fn has_ended(self) -> bool {
        self.input == Input::Ended && self.output == Output::Ended
    }

    /// Whether there is something to report that is not input.
    pub fn has_news(self) -> bool {
        self.drained == Drained::Due || self.has_ended()
    }

    /// Notes that nothing is queued.
    fn note_empty(&mut self) {
        if self.drained == Drained::Awaited {
            self.drained = Drained::Due;
        }
    }
}

impl Connection {
    /// An accepted raw connection.
    pub fn raw() -> Self {
        Connection::in_state(State::Raw(Raw::NEW), None)
    }

    /// An outgoing connection, which is raw.
    pub fn connecting(context: &Context) -> Self {
        Connection::in_state(State::Connecting(Raw::NEW), Some(context.now + context.limits.connect_time))
    }

    /// The peer has accepted an outgoing connection.
    pub fn opened(&mut self) -> Option<Outcome> {
        let State::Connecting(raw) = self.state else { return None };
        self.state = State::Raw(raw);
        self.deadline = None;
        Some(Outcome::Opened)
    }

    fn raw_mut(&mut self) -> Option<&mut Raw> {
        match &mut self.state {
            State::Connecting(raw) | State::Raw(raw) => Some(raw),
            _ => None,
        }
    }

    /// Returns all bytes that have arrived, and then one by one what else is to be reported.
    pub(super) fn pass_on(&mut self, fresh: &mut &[u8]) -> Option<Outcome> {
        let State::Raw(raw) = &mut self.state else { return None };
        if !fresh.is_empty() {
            Some(Outcome::Bytes(std::mem::take(fresh).to_vec()))
        } else if raw.drained == Drained::Due {
            raw.drained = Drained::No;
            Some(Outcome::Drained)
        } else if raw.has_ended() {
            self.lose(Closed::Finished)
        } else {
            None
        }
    }

    /// Queues bytes on a raw connection. Does nothing in any other state, or after its [`end`](Self::end). Returns
    /// [`Outcome::Closed`] if they do not fit into the outbox. The connection is then reset: an orderly end would say
    /// that the peer has everything.
    pub fn send_bytes(&mut self, bytes: Vec<u8>, context: &Context) -> Option<Outcome> {
        let has_room = self.has_room(bytes.len(), &context.limits);
        let raw = self.raw_mut().filter(|raw| raw.output == Output::Open && !bytes.is_empty())?;
        if !has_room {
            self.reset();
            return Some(Outcome::Closed(Closed::SlowConsumer));
        }
        raw.drained = Drained::Awaited;
        if bytes.len() < LARGE {
            self.outbox.push_own(|out| out.extend_from_slice(&bytes));
        } else {
            self.outbox.push_segment(bytes);
        }
        None
    }

    /// Stops reading a raw connection.
    pub fn pause(&mut self) {
        if let Some(raw) = self.raw_mut().filter(|raw| raw.input == Input::Open) {
            raw.input = Input::Paused;
        }
    }

    /// Goes on reading a raw connection.
    pub fn resume(&mut self) {
        if let Some(raw) = self.raw_mut().filter(|raw| raw.input == Input::Paused) {
            raw.input = Input::Open;
        }
    }

    /// Hands a raw connection over to HTTP: `bytes` are the first of its input. Returns whether it is open and can be
    /// written; otherwise it stays as it is.
    pub fn serve_http(&mut self, bytes: Vec<u8>, context: &Context) -> bool {
        if !matches!(self.state, State::Raw(Raw { output: Output::Open, .. })) {
            return false;
        }
        self.state = State::Idle;
        self.deadline = Some(context.now + context.limits.idle_time);
        self.backlog = Backlog::of(bytes);
        true
    }

    /// Ends the program's side when the outbox is written.
    pub(super) fn end_output(&mut self) {
        if let Some(raw) = self.raw_mut().filter(|raw| raw.output == Output::Open) {
            (raw.output, raw.drained) = (Output::Ending, Drained::No);
        }
    }

    /// Notes that the outbox is written. Returns whether writing is to be shut down.
    pub(super) fn drained(&mut self) -> bool {
        let Some(raw) = self.raw_mut() else { return false };
        if raw.output == Output::Ending {
            raw.output = Output::Ended;
            return true;
        }
        raw.note_empty();
        false
    }

    /// The peer has ended its side.
    pub(super) fn end_input(&mut self) -> Option<Outcome> {
        match self.raw_mut()? {
            Raw { output: Output::Broken, .. } => self.lose(Closed::Reset),
            raw => {
                raw.input = Input::Ended;
                Some(Outcome::EndOfInput)
            }
        }
    }

    /// A write has failed, because of `why`. What the peer of a raw connection has sent before can still be read, and
    /// is.
    pub fn cannot_write(&mut self, why: Closed) -> Option<Outcome> {
        match &mut self.state {
            State::Raw(raw) if raw.input != Input::Ended => {
                raw.output = Output::Broken;
                raw.note_empty();
                self.outbox.clear();
                None
            }
            _ => self.lose(why),
        }
    }
}
