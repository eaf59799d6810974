//! Exchanges: which bytes of a connection belong to which request and its answer. No sockets, no clock.
//!
//! A [`Splitter`] takes the bytes of both directions as they arrive, and returns them as [`Span`]s. Joined, the spans
//! of a direction are exactly its bytes. Only the head of a request waits until it is complete, because the head
//! decides what becomes of the request.

use std::mem;

use crate::http::list;
use crate::websocket::Role;
use crate::wire::{Conversation, Part, Piece};

/// Bytes of one direction, or the end of what they belong to.
///
/// Requests and answers come in the same order: the first answer belongs to the first request. Interim responses
/// belong to the answer that follows. After a 101, all that follows in both directions belongs to that exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// The whole head of a new request.
    Head {
        /// The bytes of the head.
        bytes: Vec<u8>,
        /// The number of bytes at its front that came as [`Stray`](Span::Stray) before: the head was slow.
        passed: usize,
    },
    /// More bytes of the newest request, or of the answer to the oldest request that is not answered.
    More(Vec<u8>),
    /// The request or the answer is complete.
    End,
    /// Bytes that belong to no exchange.
    Stray(Vec<u8>),
}

impl Span {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Span::Head { bytes, .. } | Span::More(bytes) | Span::Stray(bytes) => bytes,
            Span::End => &[],
        }
    }
}

/// Splits the two directions of one connection into exchanges.
#[derive(Debug)]
pub struct Splitter {
    conversation: Conversation,
    client: Direction,
    server: Direction,
    /// The client is inside of a request.
    in_request: bool,
    /// The rest of a slow head is returned as it arrives.
    is_slow: bool,
    /// The status of the response that is arriving.
    status: u16,
    /// The number of requests whose answer is not complete.
    unanswered: usize,
    /// A 101 has ended the sequence of exchanges.
    is_switched: bool,
    /// A `Connection: close` has ended the sequence of exchanges.
    is_closing: bool,
}

#[derive(Debug, Default)]
struct Direction {
    /// The bytes that the conversation has not labelled yet.
    pending: Vec<u8>,
    /// The number of bytes at the front of `pending` that are returned already.
    returned: usize,
    /// The remaining bytes are not messages.
    is_broken: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter {
            conversation: Conversation::without_lines(),
            client: Direction::default(),
            server: Direction::default(),
            in_request: false,
            is_slow: false,
            status: 0,
            unanswered: 0,
            is_switched: false,
            is_closing: false,
        }
    }
}

impl Splitter {
    /// Splits bytes that `from` sent. After bytes of the server, `read(Role::Client, b"")` returns the bytes of the
    /// client whose meaning depended on the answer.
    pub fn read(&mut self, from: Role, bytes: &[u8]) -> Vec<Span> {
        let pieces = self.conversation.read(from, bytes);
        self.direction(from).pending.extend_from_slice(bytes);
        self.split(from, &pieces)
    }

    /// Notes that `from` sends nothing more, and returns all of its bytes that were held back.
    pub fn end(&mut self, from: Role) -> Vec<Span> {
        let pieces = self.conversation.end(from);
        let mut spans = self.split(from, &pieces);
        self.return_pending(from, &mut spans);
        spans
    }

    /// Returns the part of a head that is held back. The rest of this head is not held back.
    pub fn stop_waiting(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        self.is_slow = true;
        self.return_pending(Role::Client, &mut spans);
        spans
    }

    /// Whether part of a head is held back.
    pub fn is_waiting(&self) -> bool {
        self.client.pending.len() > self.client.returned
    }

    /// Whether the bytes of the client are not HTTP, or have stopped being HTTP.
    pub fn is_client_broken(&self) -> bool {
        self.client.is_broken
    }

    /// Whether one of the sides closes the connection after the newest exchange.
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    fn direction(&mut self, from: Role) -> &mut Direction {
        match from {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    fn split(&mut self, from: Role, pieces: &[Piece]) -> Vec<Span> {
        let (mut spans, mut start) = (Vec::new(), 0);
        let pending = mem::take(&mut self.direction(from).pending);
        let mut head_start = 0;
        for piece in pieces {
            self.is_closing |= piece.part == Part::FieldLine && says_close(&piece.bytes);
            let end = start + piece.bytes.len();
            let returned = self.direction(from).returned.clamp(start, end);
            match (&piece.part, from) {
                _ if self.is_switched || self.direction(from).is_broken => {
                    self.more(from, &pending[returned..end], &mut spans);
                }
                (Part::Broken(_), _) => self.direction(from).is_broken = true,
                (Part::MessageEnd, _) => self.end_message(from, &mut spans),
                // A head is labelled as a whole.
                (Part::EmptyLine | Part::RequestLine | Part::FieldLine, Role::Client) => {}
                (Part::HeadEnd(_), Role::Client) => {
                    let bytes = pending[head_start..end].to_vec();
                    let passed = self.client.returned.clamp(head_start, end) - head_start;
                    (self.in_request, self.is_slow) = (true, false);
                    self.unanswered += 1;
                    spans.push(Span::Head { bytes, passed });
                }
                (part, _) => {
                    if let Part::StatusLine(status) = part {
                        self.status = *status;
                    }
                    self.more(from, &pending[returned..end], &mut spans);
                }
            }
            start = end;
            if matches!(piece.part, Part::MessageEnd) {
                head_start = end;
            }
        }
        let direction = self.direction(from);
        direction.returned = direction.returned.saturating_sub(start);
        direction.pending = pending;
        direction.pending.drain(..start);
        let holds_head = from == Role::Client && !self.in_request && !self.is_switched && !self.is_slow;
        if !holds_head || self.conversation.is_waiting_for_answer() {
            self.return_pending(from, &mut spans);
        }
        spans
    }

    fn end_message(&mut self, from: Role, spans: &mut Vec<Span>) {
        match from {
            Role::Client => self.in_request = false,
            Role::Server if self.unanswered == 0 => return,
            Role::Server if self.status < 200 => return self.is_switched = self.status == 101,
            Role::Server => self.unanswered -= 1,
        }
        spans.push(Span::End);
    }

    /// Returns what is pending, because it waits only for its label.
    fn return_pending(&mut self, from: Role, spans: &mut Vec<Span>) {
        let direction = self.direction(from);
        let bytes = direction.pending[direction.returned..].to_vec();
        direction.returned = direction.pending.len();
        self.more(from, &bytes, spans);
    }

    fn more(&self, from: Role, bytes: &[u8], spans: &mut Vec<Span>) {
        let is_of_exchange = match from {
            Role::Server => self.unanswered > 0,
            Role::Client => self.in_request || self.is_switched || self.conversation.is_waiting_for_answer(),
        };
        match (spans.last_mut(), is_of_exchange) {
            _ if bytes.is_empty() => {}
            (Some(Span::More(last)), true) | (Some(Span::Stray(last)), false) => last.extend_from_slice(bytes),
            (_, true) => spans.push(Span::More(bytes.to_vec())),
            (_, false) => spans.push(Span::Stray(bytes.to_vec())),
        }
    }
}

/// Whether a field line says that the connection ends after this exchange (RFC 9112, section 9.6).
fn says_close(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    name.eq_ignore_ascii_case(b"connection") && list(&value[1..]).any(|option| option.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
#[path = "splitter_tests.rs"]
mod tests;
