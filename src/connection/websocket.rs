//! Open WebSockets: messages, pings, and the closing handshake (RFC 6455, sections 5.4 to 7).

use std::time::Instant;

use super::{Closed, Connection, Context, LARGE, Outcome, State, Step};
use crate::http::Framing;
use crate::websocket::{
    self, Accepted, CloseCode, FrameHeader, Message, Opcode, ProtocolError, Received, Receiver, Role,
};

/// What an open WebSocket keeps.
#[derive(Debug)]
pub(super) struct WebSocket {
    pub receiver: Receiver,
    /// Something has arrived since the last Ping.
    pub heard: bool,
    /// When the message or control frame that has begun to arrive must be complete.
    pub complete_by: Option<Instant>,
}

impl WebSocket {
    fn new() -> Self {
        WebSocket { receiver: Receiver::new(Role::Client), heard: true, complete_by: None }
    }
}

impl Connection {
    /// Accepts the opening handshake that the application holds: the connection becomes a WebSocket. Does nothing when
    /// no request is held.
    pub fn upgrade(&mut self, accepted: &Accepted, context: &Context) {
        let State::Held(rules) = self.state else { return };
        self.push_response(accepted.response(), Framing::Empty, None, rules, context);
        self.state = State::WebSocket(Box::new(WebSocket::new()));
        self.deadline = Some(context.now + context.limits.ping_interval);
    }

    pub(super) fn decode_frames(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let (is_open, socket) = match &mut self.state {
            State::WebSocket(socket) => (true, socket),
            State::CloseSent(socket) => (false, socket),
            _ => return Step::Starved,
        };
        let received = match socket.receiver.receive(input, context.limits.message) {
            Ok((used, received)) => {
                *input = &input[used..];
                received
            }
            Err(error) => return self.fail_websocket(error, context),
        };
        let is_incomplete = received.is_none() || socket.receiver.is_in_message();
        if is_incomplete != socket.complete_by.is_some() {
            self.time_message(is_incomplete, context);
        }
        match received {
            None => Step::Starved,
            Some(Received::Message(message)) if is_open => Step::Complete(Outcome::Message(message)),
            Some(Received::Ping(payload)) if is_open => {
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Pong, &payload, None));
                Step::Decoded
            }
            Some(Received::Close(close)) => {
                self.drain(context);
                if !is_open {
                    return Step::Decoded;
                }
                // RFC 6455, section 5.5.1: a Close is answered by one, with the status code
                // received.
                let payload = close.code.map_or_else(Vec::new, |code| websocket::close(code, ""));
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Close, &payload, None));
                Step::Complete(Outcome::Closed(Closed::Peer(close.code, close.reason)))
            }
            // After our Close nothing is answered. A Pong was counted when it arrived.
            Some(Received::Message(_) | Received::Ping(_) | Received::Pong(_)) => Step::Decoded,
        }
    }

    /// Sets or removes the deadline of a message, or of a control frame, that has begun to arrive: it has the time that a
    /// content has. Pings go on meanwhile.
    fn time_message(&mut self, is_incomplete: bool, context: &Context) {
        let State::WebSocket(socket) = &mut self.state else { return };
        let complete_by = is_incomplete.then(|| context.now + context.limits.content_time);
        let before = std::mem::replace(&mut socket.complete_by, complete_by);
        if self.deadline == before {
            self.deadline = Some(context.now + context.limits.ping_interval);
        }
        self.deadline = self.deadline.into_iter().chain(complete_by).min();
    }

    /// The deadline of an open WebSocket has passed: that of a message, or that of the last Ping.
    pub(super) fn on_websocket_deadline(&mut self, context: &Context) -> Option<Outcome> {
        let (limits, is_paused) = (&context.limits, self.is_paused(&context.limits));
        let State::WebSocket(socket) = &mut self.state else { return None };
        match socket.complete_by {
            Some(complete_by) if complete_by <= context.now && is_paused => {
                // Its last bytes may wait until the peer reads. It gets its time again, after the next Ping.
                let next_ping = context.now + limits.ping_interval;
                socket.complete_by = Some(next_ping + limits.content_time);
                self.deadline = Some(next_ping);
                None
            }
            Some(complete_by) if complete_by <= context.now => {
                let sentence =
                    format!("a message must be complete {} s after its first byte", limits.content_time.as_secs());
                self.push_close(CloseCode::POLICY_VIOLATION, &sentence);
                self.drain(context);
                Some(Outcome::Closed(Closed::TimedOut))
            }
            complete_by if socket.heard => {
                socket.heard = false;
                let next = context.now + limits.ping_interval;
                self.deadline = Some(complete_by.map_or(next, |complete_by| next.min(complete_by)));
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Ping, b"", None));
                None
            }
            _ => self.lose(Closed::TimedOut),
        }
    }

    /// RFC 6455, section 7.1.7: "fail the WebSocket connection".
    fn fail_websocket(&mut self, error: ProtocolError, context: &Context) -> Step {
        let is_open = matches!(self.state, State::WebSocket(_));
        self.drain(context);
        if !is_open {
            return Step::Decoded;
        }
        self.push_close(error.close_code(), &error.to_string());
        Step::Complete(Outcome::Closed(Closed::Violation(error)))
    }

    pub(super) fn push_close(&mut self, code: CloseCode, reason: &str) {
        let payload = websocket::close(code, reason);
        self.outbox.push_own(|out| websocket::encode(out, Opcode::Close, &payload, None));
    }

    /// Queues a message for this peer alone. Does nothing if the connection is not an open WebSocket. Returns
    /// [`Outcome::Closed`] if the message does not fit into the outbox.
    pub fn send_message(&mut self, message: Message, context: &Context) -> Option<Outcome> {
        let (opcode, length) = (message.opcode(), message.as_bytes().len());
        if matches!(self.state, State::WebSocket(_)) && !self.has_room(length, &context.limits) {
            return Some(self.cut_slow_consumer(context));
        }
        let State::WebSocket(socket) = &mut self.state else { return None };
        if length < LARGE {
            self.outbox.push_own(|out| websocket::encode(out, opcode, message.as_bytes(), None));
            socket.receiver.reuse(message.into_bytes());
        } else {
            self.outbox.push_own(|out| FrameHeader::new(opcode, length).encode(out));
            self.outbox.push_segment(message.into_bytes());
        }
        None
    }

    /// Begins the closing handshake of a WebSocket. Messages that still arrive are dropped. A raw connection is closed
    /// when its outbox is written; bytes that still arrive are dropped.
    pub fn close(&mut self, code: CloseCode, reason: &str, context: &Context) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::WebSocket(socket) => {
                self.push_close(code, reason);
                self.state = State::CloseSent(socket);
                self.deadline = Some(context.now + context.limits.closing_time);
            }
            State::Raw(_) => self.drain(context),
            State::Connecting(_) => drop(self.lose(Closed::Finished)),
            other => self.state = other,
        }
    }
}
