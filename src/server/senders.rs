//! The senders that wait until the journal has committed their messages.
//!
//! Nothing is promised to a sender before its message is committed. In memory that is in the same turn of the loop. A
//! disk or another server can take longer, and may never answer. So the wait has a bound.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::exchanges::Reply;
use super::params::ApiError;
use super::{mailboxes, rooms};
use crate::connection::Traffic;
use crate::event_loop::ExchangeId;
use crate::feed::Cursor;
use crate::http::Response;
use crate::journal::{Refusal, Ticket};

/// The longest wait of a sender.
pub const COMMIT_TIME: Duration = Duration::from_secs(5);

/// The id and the time of a committed message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The position after the message.
    pub id: Cursor,
    /// Seconds since the epoch.
    pub timestamp: f64,
}

/// The sender of a message, or of a request to all servers.
#[derive(Debug)]
pub enum Sender {
    /// A request, and the traffic of its connection before it.
    Request(ExchangeId, Traffic, Answer),
    /// A WebSocket. It is told of errors alone.
    WebSocket(ExchangeId),
    /// A request to end a client on all servers, the traffic of its connection before it, and the result on this one.
    Operator(ExchangeId, Traffic, Result<(), ApiError>),
    /// A request whose answer is ready, and the traffic of its connection before it. The other servers are told first.
    Prepared(ExchangeId, Traffic, Box<Response>),
    /// The server itself, which needs no answer.
    Server,
}

/// The form of the answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// The answer to a message in a room.
    Sent,
    /// 202, to a text in a mailbox.
    Queued,
    /// The text itself, as a message of this mailbox.
    Text(Rc<str>, String),
}

impl Answer {
    /// Returns the answer, now that the message is committed.
    pub fn reply(self, published: Published) -> Reply {
        match self {
            Answer::Sent => rooms::sent(published),
            Answer::Queued => mailboxes::queued(published),
            Answer::Text(mailbox, text) => mailboxes::text_reply(&mailbox, &text, published),
        }
    }
}

/// A sender whose message is not committed yet.
#[derive(Debug)]
pub struct Waiting {
    /// The sender.
    pub sender: Sender,
    /// The time of the message, in seconds since the epoch.
    pub timestamp: f64,
    /// The end of the wait.
    pub until: Instant,
}

/// All senders that wait. Tickets have no gaps, and the oldest sender has the earliest end, so a queue is enough.
#[derive(Debug, Default)]
pub struct Senders {
    /// `None` for a sender that has its answer before an older one.
    queue: VecDeque<Option<Waiting>>,
    /// The ticket of the oldest in the queue.
    oldest: u64,
}

impl Senders {
    /// Adds the sender with the next ticket.
    pub fn push(&mut self, Ticket(ticket): Ticket, waiting: Waiting) {
        if self.queue.is_empty() {
            self.oldest = ticket;
        }
        debug_assert_eq!(ticket, self.oldest + self.queue.len() as u64, "tickets have no gaps");
        self.queue.push_back(Some(waiting));
    }

    /// Returns the time when the sender with this ticket has asked.
    pub fn asked(&self, Ticket(ticket): Ticket) -> Option<Instant> {
        let waiting = self.queue.get(ticket.checked_sub(self.oldest)? as usize)?.as_ref()?;
        waiting.until.checked_sub(COMMIT_TIME)
    }

    /// Returns the number of senders, to within those that have their answer before an older one.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Removes the sender with this ticket. `None` if its wait has ended.
    pub fn take(&mut self, Ticket(ticket): Ticket) -> Option<Waiting> {
        let waiting = self.queue.get_mut(ticket.checked_sub(self.oldest)? as usize)?.take();
        self.remove_answered();
        waiting
    }

    /// Removes a sender whose wait is over.
    pub fn overdue(&mut self, now: Instant) -> Option<Waiting> {
        let overdue = self.queue.front_mut()?.take_if(|waiting| waiting.until <= now);
        self.remove_answered();
        overdue
    }

    /// Returns the end of the earliest wait. `None` if nobody waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.front()?.as_ref().map(|waiting| waiting.until)
    }

    /// Afterwards the oldest in the queue has no answer.
    fn remove_answered(&mut self) {
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.oldest += 1;
        }
    }

    /// Returns the number of bytes of the queue.
    pub fn bytes(&self) -> usize {
        crate::books::deque(&self.queue)
    }

    /// Gives back the memory of a flood that is over.
    pub fn shrink(&mut self) {
        crate::books::shrink_deque(&mut self.queue);
    }
}

/// Returns the error for a message that the journal has refused.
pub fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Conflict => ApiError::conflict(
            "key: expected a new one, because this one came with another sender or text in the last 5 minutes",
        ),
        Refusal::TooManyKeys => ApiError::full("idempotency keys"),
        Refusal::Unavailable(sentence) => ApiError { status: 503, sentence },
    }
}

/// Returns the error for a message that is not committed in time.
pub fn late(sender: &Sender) -> ApiError {
    let seconds = COMMIT_TIME.as_secs();
    if let Sender::Prepared(..) = sender {
        return ApiError { status: 503, sentence: format!("the other servers were not told within {seconds} s") };
    }
    let sentence = format!(
        "the message was not stored within {seconds} s, and may still come: send it again with the same key, \
         and it comes once"
    );
    ApiError { status: 503, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_answered_in_any_order_and_are_overdue_in_theirs() {
        let (mut senders, start) = (Senders::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let push = |senders: &mut Senders, ticket| {
            let waiting = Waiting { sender: Sender::Server, timestamp: ticket as f64, until: at(ticket) };
            senders.push(Ticket(ticket), waiting);
        };
        let number = |waiting: Option<Waiting>| waiting.map(|waiting| waiting.timestamp as u64);
        (1..=5).for_each(|ticket| push(&mut senders, ticket));
        assert_eq!(number(senders.take(Ticket(2))), Some(2));
        assert_eq!(number(senders.take(Ticket(2))), None);
        assert_eq!(senders.deadline(), Some(at(1)));
        assert_eq!(number(senders.take(Ticket(1))), Some(1));
        assert_eq!(senders.deadline(), Some(at(3)));
        assert_eq!(number(senders.overdue(at(2))), None);
        assert_eq!(
            [senders.overdue(at(4)), senders.overdue(at(4)), senders.overdue(at(4))].map(number),
            [Some(3), Some(4), None]
        );
        assert_eq!([3, 4, 6, 99].map(|ticket| number(senders.take(Ticket(ticket)))), [None; 4]);
        assert_eq!(number(senders.take(Ticket(5))), Some(5));
        assert_eq!(senders.deadline(), None);
        push(&mut senders, 6);
        assert_eq!((number(senders.take(Ticket(5))), number(senders.take(Ticket(6)))), (None, Some(6)));
    }
}
