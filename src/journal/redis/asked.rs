//! The messages that this node has asked for, and that have no answer yet.
//!
//! The messages of a log are sent in groups. One group is on its way at a time, and all that is asked for meanwhile
//! forms the next one: so the more messages there are, the less each costs, as with the file and its syncs.
//!
//! Groups have numbers, which count up in the order in which Redis gets the groups. Redis keeps the number of the newest
//! executed one: so a group that is sent again, because its reply was lost, is appended once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use crate::books;
use crate::journal::{Key, LogName, Ticket};

/// The most bytes of messages without an answer.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The bytes that a message takes beside its text.
const RECORD: usize = 200;

/// The most messages of a group. Redis does nothing else while it appends them, about half a millisecond.
const MOST_IN_GROUP: usize = 100;

/// The most bytes of the messages of a group, unless it is a single message.
const MOST_BYTES_IN_GROUP: usize = 64 * 1024;

/// A message without an answer.
#[derive(Debug)]
pub struct Asked {
    /// The number of its sender.
    pub ticket: Ticket,
    /// Its log.
    pub log: LogName,
    /// The check of its cursor.
    pub check: u32,
    /// The message: JSON without its id.
    pub body: String,
    /// The time in it, in seconds since the epoch.
    pub timestamp: f64,
    /// Its idempotency key, and the epoch of the log that it belongs to.
    pub key: Option<(Key, u64)>,
    /// The time until which it may be sent. It is never before that of an earlier message.
    pub until: Instant,
    /// Whether it was sent. Then Redis may append it, even if no reply comes.
    pub was_sent: bool,
}

/// Messages of one log that are sent together.
#[derive(Debug)]
pub struct Group {
    /// Their log.
    pub log: LogName,
    /// Their tickets.
    pub tickets: Vec<Ticket>,
}

/// The messages of a log that are in no group yet.
#[derive(Debug, Default)]
struct Queue {
    tickets: VecDeque<Ticket>,
    /// Whether a group of the log is on its way.
    is_busy: bool,
}

/// All messages without an answer.
#[derive(Debug, Default)]
pub struct AskedMessages {
    by_ticket: BTreeMap<Ticket, Asked>,
    queues: HashMap<LogName, Queue>,
    /// The logs that have messages for a group, and no group on its way. Some may have none any more.
    ready: VecDeque<LogName>,
    /// The groups without a reply, by number.
    groups: BTreeMap<u64, Group>,
    /// The number of the newest group.
    newest: u64,
    /// The smallest number of a group that is still to be sent on this connection.
    unsent: u64,
    bytes: usize,
}

impl AskedMessages {
    /// Adds a message. Returns whether there is room for it.
    pub fn push(&mut self, asked: Asked) -> bool {
        let bytes = asked.body.len() + RECORD;
        if self.bytes + bytes > MOST_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.queue(&asked.log).tickets.push_back(asked.ticket);
        self.by_ticket.insert(asked.ticket, asked);
        true
    }

    /// Returns the queue of a log, which is about to get a message.
    fn queue(&mut self, log: &LogName) -> &mut Queue {
        if !self.queues.contains_key(log) {
            self.queues.insert(log.clone(), Queue::default());
        }
        let queue = self.queues.get_mut(log).expect("it was inserted");
        if queue.tickets.is_empty() && !queue.is_busy {
            self.ready.push_back(log.clone());
        }
        queue
    }

    /// Returns a message.
    pub fn get(&self, ticket: Ticket) -> Option<&Asked> {
        self.by_ticket.get(&ticket)
    }

    /// Removes a message, because it has its answer.
    pub fn take(&mut self, ticket: Ticket) -> Option<Asked> {
        let asked = self.by_ticket.remove(&ticket)?;
        self.bytes -= asked.body.len() + RECORD;
        Some(asked)
    }

    /// A message was not appended: it is sent once more, in a new group, before those that are in none yet.
    pub fn renew(&mut self, ticket: Ticket) {
        let Some(asked) = self.by_ticket.get(&ticket) else { return };
        let log = asked.log.clone();
        self.queue(&log).tickets.push_front(ticket);
    }

    /// All groups are sent again, with their numbers: the connection is lost, and no reply to them comes.
    pub fn unsend(&mut self) {
        self.unsent = 0;
    }

    /// Returns the number of the next group to send, and notes that it is sent.
    pub fn next_to_send(&mut self) -> Option<u64> {
        let number = self.next_unsent().or_else(|| self.form_group())?;
        self.unsent = number + 1;
        Some(number)
    }

    /// Returns the number of the first group that is to be sent again. A message that was answered meanwhile is not.
    fn next_unsent(&mut self) -> Option<u64> {
        loop {
            let (&number, group) = self.groups.range_mut(self.unsent..).next()?;
            group.tickets.retain(|ticket| self.by_ticket.contains_key(ticket));
            if !group.tickets.is_empty() {
                return Some(number);
            }
            self.answer(number);
        }
    }

    fn form_group(&mut self) -> Option<u64> {
        loop {
            let log = self.ready.pop_front()?;
            if self.queues.get(&log).is_none_or(|queue| queue.is_busy) {
                continue; // it was removed, and perhaps has come back
            }
            let tickets = self.next_of(&log);
            if tickets.is_empty() {
                self.queues.remove(&log); // the time of all its messages is over
                continue;
            }
            self.newest += 1;
            self.groups.insert(self.newest, Group { log, tickets });
            return Some(self.newest);
        }
    }

    /// Takes the messages of the next group out of the queue of a log.
    fn next_of(&mut self, log: &LogName) -> Vec<Ticket> {
        let Some(queue) = self.queues.get_mut(log) else { return Vec::new() };
        let (mut tickets, mut bytes) = (Vec::new(), 0);
        while let Some(&ticket) = queue.tickets.front() {
            if let Some(asked) = self.by_ticket.get_mut(&ticket) {
                bytes += asked.body.len();
                if !tickets.is_empty() && (bytes > MOST_BYTES_IN_GROUP || tickets.len() == MOST_IN_GROUP) {
                    break;
                }
                asked.was_sent = true;
                tickets.push(ticket);
            }
            queue.tickets.pop_front();
        }
        queue.is_busy = !tickets.is_empty();
        tickets
    }

    /// Returns a group that has no reply yet.
    pub fn group(&self, number: u64) -> Option<&Group> {
        self.groups.get(&number)
    }

    /// Removes a group, because its reply is here. Its log may send the next one.
    pub fn answer(&mut self, number: u64) -> Option<Group> {
        let group = self.groups.remove(&number)?;
        if let Some(queue) = self.queues.get_mut(&group.log) {
            queue.is_busy = false;
            if queue.tickets.is_empty() {
                self.queues.remove(&group.log);
            } else {
                self.ready.push_back(group.log.clone());
            }
        }
        Some(group)
    }

    /// Returns the earliest time at which a message is [`overdue`](Self::overdue).
    pub fn deadline(&self) -> Option<Instant> {
        self.by_ticket.first_key_value().map(|(_, asked)| asked.until)
    }

    /// Removes a message whose time is over, and returns it.
    pub fn overdue(&mut self, now: Instant) -> Option<Asked> {
        let (&ticket, _) = self.by_ticket.first_key_value().filter(|(_, asked)| asked.until <= now)?;
        let asked = self.take(ticket)?;
        self.leave_queue(&asked.log);
        Some(asked)
    }

    /// Removes the tickets without a message at the front of a queue, and the queue if it has no others: without a
    /// connection, no group does it.
    fn leave_queue(&mut self, log: &LogName) {
        let Some(queue) = self.queues.get_mut(log) else { return };
        while queue.tickets.front().is_some_and(|ticket| !self.by_ticket.contains_key(ticket)) {
            queue.tickets.pop_front();
        }
        if queue.tickets.is_empty() && !queue.is_busy {
            self.queues.remove(log);
        }
        while self.ready.front().is_some_and(|log| !self.queues.contains_key(log)) {
            self.ready.pop_front();
        }
    }

    /// Returns the number of bytes that the messages take.
    pub fn bytes(&self) -> usize {
        let queued = self.queues.values().map(|queue| books::deque(&queue.tickets)).sum::<usize>();
        let sent = self.groups.values().map(|group| books::vec(&group.tickets)).sum::<usize>();
        self.bytes + books::map(&self.queues) + books::deque(&self.ready) + queued + sent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn room(name: &str) -> LogName {
        LogName::Room(name.into())
    }

    fn push(messages: &mut AskedMessages, ticket: u64, log: &str, bytes: usize, until: Instant) -> bool {
        messages.push(Asked {
            ticket: Ticket(ticket),
            log: room(log),
            check: 0,
            body: "m".repeat(bytes),
            timestamp: 0.0,
            key: None,
            until,
            was_sent: false,
        })
    }

    /// Returns all groups that may be sent now: their numbers and tickets.
    fn send(messages: &mut AskedMessages) -> Vec<(u64, Vec<u64>)> {
        let mut sent = Vec::new();
        while let Some(number) = messages.next_to_send() {
            let tickets = messages.group(number).unwrap().tickets.iter();
            sent.push((number, tickets.map(|Ticket(ticket)| *ticket).collect()));
        }
        sent
    }

    #[test]
    fn what_is_asked_for_while_a_group_is_on_its_way_forms_the_next() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        for (ticket, log) in [(1, "a"), (2, "b"), (3, "a")] {
            push(&mut messages, ticket, log, 1, now);
        }
        assert_eq!(send(&mut messages), [(1, vec![1, 3]), (2, vec![2])]);
        for ticket in 4..=6 {
            push(&mut messages, ticket, "a", 1, now);
        }
        assert_eq!(send(&mut messages), []);
        assert!(messages.answer(1).is_some() && messages.answer(1).is_none());
        assert_eq!(send(&mut messages), [(3, vec![4, 5, 6])]);
    }

    #[test]
    fn a_group_is_bounded_in_messages_and_in_bytes() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        for ticket in 1..=101 {
            push(&mut messages, ticket, "a", 1, now);
        }
        push(&mut messages, 102, "b", MOST_BYTES_IN_GROUP, now);
        push(&mut messages, 103, "b", MOST_BYTES_IN_GROUP + 1, now);
        let lengths = |sent: Vec<(u64, Vec<u64>)>| sent.iter().map(|(_, tickets)| tickets.len()).collect::<Vec<_>>();
        assert_eq!(lengths(send(&mut messages)), [100, 1]);
        (1..=2).for_each(|number| assert!(messages.answer(number).is_some()));
        assert_eq!(send(&mut messages), [(3, vec![101]), (4, vec![103])]);
    }

    #[test]
    fn a_group_is_sent_again_with_its_number_and_without_what_was_answered() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        for (ticket, log) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            push(&mut messages, ticket, log, 1, now + Duration::from_millis(ticket));
        }
        send(&mut messages);
        push(&mut messages, 5, "b", 1, now + Duration::from_secs(1));
        assert_eq!(messages.overdue(now).map(|asked| asked.ticket), None);
        assert_eq!(messages.overdue(now + Duration::from_millis(1)).map(|asked| asked.ticket), Some(Ticket(1)));
        messages.take(Ticket(3));
        messages.unsend();
        assert_eq!(send(&mut messages), [(1, vec![2]), (3, vec![4]), (4, vec![5])]);
        messages.answer(1);
        messages.unsend();
        assert_eq!(send(&mut messages), [(3, vec![4]), (4, vec![5])]);
    }

    #[test]
    fn a_renewed_message_comes_before_those_that_were_asked_for_later() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        push(&mut messages, 1, "a", 1, now);
        send(&mut messages);
        push(&mut messages, 2, "a", 1, now);
        messages.answer(1);
        messages.renew(Ticket(1));
        assert_eq!(send(&mut messages), [(2, vec![1, 2])]);
        messages.answer(2);
        messages.renew(Ticket(1));
        messages.take(Ticket(1));
        assert_eq!((send(&mut messages), messages.queues.len()), (vec![], 0), "its time is over");
    }

    #[test]
    fn what_is_overdue_leaves_nothing_behind() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        for ticket in 1..=1000 {
            assert!(push(&mut messages, ticket, ["a", "b"][ticket as usize % 2], 1, now));
            assert_eq!(messages.overdue(now).map(|asked| asked.ticket), Some(Ticket(ticket)));
        }
        assert!(messages.queues.is_empty() && messages.ready.is_empty());
        push(&mut messages, 1001, "a", 1, now);
        push(&mut messages, 1002, "a", 1, now + Duration::from_secs(1));
        assert!(messages.overdue(now).is_some());
        assert_eq!(send(&mut messages), [(1, vec![1002])]);
    }

    #[test]
    fn the_bytes_are_bounded() {
        let (mut messages, now) = (AskedMessages::default(), Instant::now());
        assert!(push(&mut messages, 1, "a", MOST_BYTES - RECORD, now));
        assert!(!push(&mut messages, 2, "a", 0, now));
        messages.take(Ticket(1));
        assert!(push(&mut messages, 3, "a", 0, now));
    }
}
