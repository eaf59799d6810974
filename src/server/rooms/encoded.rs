//! The retained messages of a room, encoded once for all readers.
//!
//! A reader that continues after a cursor gets a [`Rope`](crate::Rope) of what is encoded already, so a replay costs
//! neither the time to encode it nor memory for a copy. Consecutive messages form a block. A block is encoded when a
//! reader needs it for the first time, separately for each form.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::books;
use crate::bytes::{Shared, Slice};
use crate::feed::{Cursor, Feed};
use crate::server::message::Transport;
use crate::sse;
use crate::websocket::{self, Opcode};

/// The most messages of a block, and the most bytes of their JSON. A longer message is a block alone.
const BLOCK_MESSAGES: u64 = 64;
const BLOCK_BYTES: usize = 16 * 1024;

/// The most messages that are encoded for a reader alone, and the most bytes of their JSON: most answers of a poll.
const SMALL_MESSAGES: usize = 8;
const SMALL_BYTES: usize = 1024;

/// The messages of a room.
pub type Messages = Feed<Rc<str>>;

/// A form in which readers get messages one after the other, without chunks around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A comma and JSON, for the list of an answer. The first comma of a list is left out.
    Item,
    /// A line of JSON.
    Line,
    /// A server-sent event.
    Event,
    /// A frame of a WebSocket.
    Frame,
}

impl Form {
    const ALL: [Form; 4] = [Form::Item, Form::Line, Form::Event, Form::Frame];

    /// Returns the form of the messages on a transport.
    pub fn of(transport: Transport) -> Self {
        match transport {
            Transport::ShortPoll | Transport::LongPoll => Form::Item,
            Transport::Stream => Form::Line,
            Transport::Sse => Form::Event,
            Transport::WebSocket => Form::Frame,
        }
    }

    /// Returns the number of bytes before each message that separate it from the one before.
    fn separator(self) -> usize {
        usize::from(self == Form::Item)
    }

    /// Appends a message to `out`.
    pub fn append(self, out: &mut Vec<u8>, id: Cursor, json: &str) {
        match self {
            Form::Item => {
                out.push(b',');
                out.extend_from_slice(json.as_bytes());
            }
            Form::Line => {
                out.extend_from_slice(json.as_bytes());
                out.push(b'\n');
            }
            Form::Event => out.extend_from_slice(&sse::event(Some(&id.to_string()), "message", json)),
            Form::Frame => websocket::encode(out, Opcode::Text, json.as_bytes(), None),
        }
    }
}

/// Consecutive messages.
#[derive(Debug)]
struct Block {
    /// The sequence of the message before its first one, and of its last one. The oldest block may have lost its first
    /// messages.
    after: u64,
    last: u64,
    /// The number of bytes of their JSON.
    bytes: usize,
    /// The encoded messages, for each form that a reader has needed.
    forms: [Option<Encoded>; Form::ALL.len()],
}

/// The messages of a block in one form.
#[derive(Debug)]
struct Encoded {
    /// The sequence of the message before the first one.
    after: u64,
    bytes: Shared,
    /// The end of each message in `bytes`.
    ends: Vec<usize>,
}

impl Block {
    /// Drops what is encoded, and returns the number of bytes that it kept in memory.
    fn clear(&mut self) -> usize {
        self.forms.iter_mut().filter_map(Option::take).map(|encoded| encoded.cost()).sum()
    }
}

impl Encoded {
    /// Encodes the messages between two sequences, as far as they are retained.
    fn new(messages: &Messages, (after, last): (u64, u64), form: Form) -> Self {
        let before = messages.last((messages.tip().sequence() - after) as usize);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (id, json) in messages.after(before).take_while(|(id, _)| id.sequence() <= last) {
            form.append(&mut bytes, id, json);
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        Encoded { after: before.sequence(), bytes: bytes.into(), ends }
    }

    /// Returns the index of the first byte of the messages after this sequence.
    fn start(&self, sequence: u64) -> usize {
        let skipped = sequence.saturating_sub(self.after) as usize;
        if skipped == 0 { 0 } else { self.ends[skipped - 1] }
    }

    /// Returns the number of bytes that it keeps in memory.
    fn cost(&self) -> usize {
        self.bytes.len() + size_of_val(&self.ends[..])
    }
}

/// The blocks of a room, oldest first. All but the newest are full.
///
/// It follows a feed, which is an argument of the methods that read messages.
#[derive(Debug, Default)]
pub struct Blocks {
    blocks: VecDeque<Block>,
    /// The number of bytes that the encoded messages keep in memory.
    encoded: usize,
}

impl Blocks {
    /// Creates the blocks of a feed. Nothing is encoded yet.
    pub fn of(messages: &Messages) -> Self {
        let mut blocks = Blocks::default();
        messages.after(messages.last(usize::MAX)).for_each(|(id, json)| blocks.push(id.sequence(), json.len()));
        blocks
    }

    /// Notes that a message was published.
    pub fn published(&mut self, messages: &Messages, bytes: usize) {
        let (dropped, last) = (messages.last(usize::MAX).sequence(), messages.tip().sequence());
        if self.blocks.back().is_some_and(|newest| newest.last + 1 != last) {
            *self = Blocks::default(); // the feed has begun a new log
        }
        self.drop_before(dropped);
        self.push(last, bytes);
    }

    /// Drops the blocks whose messages the feed has dropped, up to and including this sequence.
    pub fn drop_before(&mut self, dropped: u64) {
        while let Some(oldest) = self.blocks.front_mut()
            && oldest.last <= dropped
        {
            self.encoded -= oldest.clear();
            self.blocks.pop_front();
        }
    }

    /// Adds a message to the newest block, or to a new one.
    fn push(&mut self, last: u64, bytes: usize) {
        match self.blocks.back_mut() {
            Some(open) if last - open.after <= BLOCK_MESSAGES && open.bytes + bytes <= BLOCK_BYTES => {
                (open.last, open.bytes) = (last, open.bytes + bytes);
                self.encoded -= open.clear();
            }
            _ => self.blocks.push_back(Block { after: last - 1, last, bytes, forms: Default::default() }),
        }
    }

    /// Returns the messages after a position of the feed, as parts of blocks. The first comma of items is left out.
    pub fn after(&mut self, messages: &Messages, position: Cursor, form: Form) -> Vec<Slice> {
        let sequence = position.sequence();
        let first = self.blocks.partition_point(|block| block.last <= sequence);
        let needed = self.blocks.range_mut(first..).enumerate().map(|(at, block)| {
            let encoded = block.forms[form as usize].get_or_insert_with(|| {
                let encoded = Encoded::new(messages, (block.after, block.last), form);
                self.encoded += encoded.cost();
                encoded
            });
            let left_out = if at == 0 { form.separator() } else { 0 };
            encoded.bytes.slice(encoded.start(sequence) + left_out..encoded.bytes.len())
        });
        needed.collect()
    }

    /// Returns the number of bytes that the encoded messages keep in memory.
    pub fn encoded(&self) -> usize {
        self.encoded
    }

    /// Returns the number of bytes that they and the places of blocks take.
    pub fn bytes(&self) -> usize {
        self.encoded + books::deque(&self.blocks)
    }

    /// Drops all that is encoded. It is encoded again when it is needed.
    pub fn clear(&mut self) {
        self.encoded -= self.blocks.iter_mut().map(Block::clear).sum::<usize>();
    }
}

/// Encodes the messages after a position for one reader, if they are few. The first comma of items is left out.
pub fn few(messages: &Messages, position: Cursor, form: Form) -> Option<Vec<u8>> {
    let few = || messages.after(position).take(SMALL_MESSAGES + 1);
    if few().count() > SMALL_MESSAGES || few().map(|(_, json)| json.len()).sum::<usize>() > SMALL_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    few().for_each(|(id, json)| form.append(&mut bytes, id, json));
    bytes.drain(..form.separator().min(bytes.len()));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::server::message::encode;

    /// A feed of at most 200 messages and 100,000 bytes, and its blocks.
    struct Log {
        messages: Messages,
        blocks: Blocks,
        random: Random,
    }

    impl Log {
        fn new() -> Self {
            let mut random = Random::open().unwrap();
            Log { messages: Feed::new(Cursor::start(&mut random), 200, 100_000), blocks: Blocks::default(), random }
        }

        fn publish(&mut self, length: usize) {
            let json: Rc<str> = format!("{}{}", self.messages.published(), "x".repeat(length)).into();
            let length = json.len();
            self.messages.append(self.messages.next_cursor(&mut self.random), json, length);
            self.blocks.published(&self.messages, length);
        }

        /// Checks the messages after each retained position against the messages one by one.
        fn check(&mut self, form: Form) {
            let (mut all, mut starts) = (Vec::new(), Vec::new());
            for (id, json) in self.messages.after(self.messages.last(usize::MAX)) {
                starts.push(all.len());
                form.append(&mut all, id, json);
            }
            starts.push(all.len());
            for (count, start) in starts.iter().rev().enumerate() {
                let position = self.messages.last(count);
                let expected = &all[all.len().min(start + form.separator())..];
                let slices = self.blocks.after(&self.messages, position, form);
                let replayed = slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat();
                assert!(replayed == expected, "the last {count} in {form:?}");
                if let Some(few) = few(&self.messages, position, form) {
                    assert!(few == expected, "the last {count} in {form:?}");
                }
            }
            let encoded = self.blocks.blocks.iter().flat_map(|block| block.forms.iter().flatten());
            assert_eq!(self.blocks.encoded(), encoded.map(Encoded::cost).sum::<usize>());
            for Block { after, last, bytes, .. } in &self.blocks.blocks {
                assert!(last - after <= BLOCK_MESSAGES && (*bytes <= BLOCK_BYTES || last - after == 1));
            }
        }
    }

    #[test]
    fn the_messages_after_each_position_are_those_of_the_feed() {
        for form in Form::ALL {
            for lengths in [&[1][..], &[300], &[0, 5000, 70], &[BLOCK_BYTES, 100, BLOCK_BYTES + 1], &[99_000, 1]] {
                let mut log = Log::new();
                log.check(form);
                for (at, length) in lengths.iter().cycle().take(330).enumerate() {
                    log.publish(*length);
                    if at % 83 == 0 {
                        log.check(form);
                    }
                }
                log.check(form);
            }
        }
    }

    /// The first reader of a form may come when the first messages of a block are dropped.
    #[test]
    fn each_form_is_encoded_when_it_is_needed() {
        let mut log = Log::new();
        for at in 0..700 {
            log.publish(10);
            if at % 33 == 0 {
                log.check(Form::ALL[at / 33 % 4]);
            }
        }
        Form::ALL.into_iter().for_each(|form| log.check(form));
    }

    #[test]
    fn readers_share_what_is_encoded() {
        let mut log = Log::new();
        (0..190).for_each(|_| log.publish(100));
        let everything = log.messages.last(usize::MAX);
        let addresses = |log: &mut Log, position| -> Vec<*const u8> {
            log.blocks.after(&log.messages, position, Form::Line).iter().map(|slice| slice.as_ptr()).collect()
        };
        let first = addresses(&mut log, everything);
        assert_eq!((first.len(), &addresses(&mut log, everything)), (3, &first));
        let later = log.messages.last(100);
        assert_eq!(addresses(&mut log, later)[1..], first[2..]);
        log.publish(100); // into the newest block
        assert_eq!(addresses(&mut log, everything)[..2], first[..2]);
    }

    #[test]
    fn nothing_is_kept_of_dropped_messages() {
        let mut log = Log::new();
        (0..190).for_each(|_| log.publish(100));
        log.check(Form::Event);
        assert!(log.blocks.encoded() > 190 * 100);
        (0..200).for_each(|_| log.publish(100));
        assert_eq!(log.blocks.encoded(), 0);
        log.check(Form::Event);
        log.blocks.clear();
        assert_eq!(log.blocks.encoded(), 0);
        log.check(Form::Event);
    }

    #[test]
    fn replayed_messages_have_the_bytes_of_delivered_ones() {
        let mut log = Log::new();
        log.publish(10);
        let (id, json) = log.messages.after(log.messages.last(1)).next().unwrap();
        for transport in [Transport::Stream, Transport::Sse, Transport::WebSocket] {
            let mut bytes = Vec::new();
            Form::of(transport).append(&mut bytes, id, json);
            assert_eq!(bytes, encode(transport, Some(id), "message", json).unframed());
        }
    }
}
