//! One peer: its state, the input that cannot be decoded yet, its outgoing queue and its
//! deadline. It decides everything about a connection and does nothing to a socket: bytes
//! come in as arguments, `now` is an argument, and what is to be written waits in the outbox.
//!
//! ```text
//! from                  when                                         to
//! Idle                  the first byte of a request                  Head
//! Head                  the head is complete                         Content, or Held without any
//! Content               the content is complete                      Held
//! Held                  respond                                      Idle, or Draining if not persistent
//! Held                  begin                                        Streaming, or WebSocket with 101
//! Streaming             end                                          Idle, or Draining if not persistent
//! WebSocket             close                                        CloseSent
//! WebSocket, CloseSent  the peer's Close, or a violation             Draining
//! Idle, Head, Content   silent too long, too slow, too big, wrong    Draining
//! Streaming, WebSocket  more waits than may wait                     Draining
//! Draining              all is written: shut down writing            Lingering
//! Lingering             the peer has shut down too                   Closed
//! any                   the connection breaks, or a deadline passes  Closed
//! any                   reset                                        Reset
//! ```
//!
//! A raw connection carries bytes that nobody decodes. Its two directions end one by one:
//!
//! ```text
//! from                  when                                         to
//! Connecting            the peer has accepted                        Raw
//! Connecting            refused, or the deadline passes              Closed
//! Raw                   both directions have ended                   Closed
//! Raw                   close                                        Draining
//! Raw                   serve_http                                   Idle
//! Raw                   more is queued than the limit allows         Reset
//! ```

use std::io::ErrorKind;
use std::mem;
use std::time::Instant;

use crate::bytes::{Parse, Shared};
use crate::http::{
    CONTINUE, ChunkError, Content, ContentDecoder, Framing, LAST_CHUNK, Method, Request, RequestError, RequestHead,
    Response, Version, parse_request_head,
};
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::websocket::{
    self, Accepted, CloseCode, FrameHeader, Message, Opcode, ProtocolError, Received, Receiver, Role,
};

/// From how many bytes on the payload of a message is moved into the outbox, and not copied behind its
/// frame header.
const LARGE: usize = 16 * 1024;

/// What a connection needs to know of the world in order to take its next step.
#[derive(Debug, Clone)]
pub struct Context {
    /// The bounds.
    pub limits: Limits,
    /// The time.
    pub now: Instant,
    /// The value of the Date field.
    pub date: String,
    /// The server is going away: no connection persists.
    pub draining: bool,
}

/// What a connection tells its owner.
#[derive(Debug)]
pub enum Outcome {
    /// A whole request. Nothing more is decoded until it is answered.
    Request(Request),
    /// A whole message of an open WebSocket.
    Message(Message),
    /// A request that was wrong. It has been answered with this number of bytes.
    Refused(RequestError, u64),
    /// An outgoing connection is open.
    Opened,
    /// Bytes of a raw connection.
    Bytes(Vec<u8>),
    /// The peer of a raw connection has ended its side.
    EndOfInput,
    /// The outbox of a raw connection is empty again.
    Drained,
    /// What the application holds, an unanswered request, a stream, a WebSocket or a raw connection, is over.
    Closed(Closed),
}

/// Why an exchange has ended without the program ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer has closed the WebSocket: the status code and the reason of its Close frame. `None` is a Close frame
    /// without a code, which browsers report as 1005.
    Peer(Option<CloseCode>, String),
    /// The peer has violated the WebSocket protocol and was sent a Close frame that says so.
    Violation(ProtocolError),
    /// The peer has ended its side while it was owed something: the answer, the rest of a stream, or a Close frame.
    HungUp,
    /// More was queued for the peer than [`Limits::outbox`] allows.
    SlowConsumer,
    /// The peer did not answer the last Ping, or did not accept the connection in time.
    TimedOut,
    /// The connection broke: the peer or the network has reset it.
    Reset,
    /// An outgoing connection could not be opened. `ConnectionRefused` means that nobody listens there.
    Refused(ErrorKind),
    /// Nothing may follow: the head of a stream answered a HEAD request or had status 204 or 304, or both sides of a raw
    /// connection have ended.
    Finished,
}

/// What the answer to a request depends on.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    version: Version,
    persistent: bool,
    /// The request was HEAD: fields are sent, content is not (RFC 9110, section 9.3.2).
    head_only: bool,
}

impl Exchange {
    fn of(head: &RequestHead) -> Self {
        Exchange { version: head.version, persistent: head.persistent, head_only: head.method == Method::Head }
    }

    /// The value of the Connection field, if there must be one (RFC 9112, section 9.3).
    fn connection(self, persists: bool) -> Option<&'static str> {
        match (persists, self.version) {
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11) => None,
        }
    }
}

/// A request whose head is in and whose content is arriving.
#[derive(Debug)]
struct Arriving {
    head: RequestHead,
    head_length: usize,
    /// The head's bytes, and behind them the content, decoded.
    buffer: Vec<u8>,
    content: ContentDecoder,
}

#[derive(Debug)]
struct WebSocket {
    receiver: Receiver,
    /// Something came since the last ping.
    heard: bool,
}

/// Whether a raw connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// The program reads no more until it resumes.
    Paused,
    /// The peer has ended its side.
    Ended,
}

/// Whether a raw connection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
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
enum Drained {
    /// No: it has queued nothing since the last time.
    No,
    /// When the outbox is empty.
    Awaited,
    /// Now.
    Due,
}

/// The two directions of a raw connection.
#[derive(Debug, Clone, Copy)]
struct Raw {
    input: Input,
    output: Output,
    drained: Drained,
}

impl Raw {
    const NEW: Raw = Raw { input: Input::Open, output: Output::Open, drained: Drained::No };

    fn has_ended(self) -> bool {
        self.input == Input::Ended && self.output == Output::Ended
    }

    /// Whether there is something to tell the program.
    fn has_news(self) -> bool {
        self.drained == Drained::Due || self.has_ended()
    }
}

#[derive(Debug)]
enum State {
    /// Between two requests.
    Idle,
    /// In the middle of a request head.
    Head,
    /// In the middle of a request's content.
    Content(Box<Arriving>),
    /// The application holds a request; decoding pauses.
    Held(Exchange),
    /// The application is sending a stream; decoding pauses.
    Streaming(Exchange),
    /// Open.
    WebSocket(Box<WebSocket>),
    /// We have sent a Close frame and wait for the peer's.
    CloseSent(Box<WebSocket>),
    /// What is in the outbox is still to be written, and then writing is shut down.
    Draining,
    /// Writing is shut down. Input is read and dropped, because a socket closed with unread input
    /// sends a reset, and a reset destroys what the peer has not read yet (RFC 9112, section 9.6).
    Lingering,
    /// An outgoing connection that the peer has not accepted yet. What is queued waits.
    Connecting(Raw),
    /// A raw connection: bytes are passed on, not decoded.
    Raw(Raw),
    /// Over.
    Closed,
    /// Over, and the peer gets a TCP reset.
    Reset,
}

/// Bytes that arrived and could not be decoded yet. Owns memory only while there are any.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    consumed: usize,
    /// Decoding has found out that it needs more behind these bytes.
    starved: bool,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    fn append(&mut self, fresh: &[u8]) {
        self.starved = false;
        self.bytes.drain(..mem::take(&mut self.consumed));
        self.bytes.extend_from_slice(fresh);
    }

    /// All but the last `left` bytes have been decoded. A few bytes do not keep the memory of many.
    fn leave(&mut self, left: usize) {
        self.consumed = self.bytes.len() - left;
        if left <= self.bytes.capacity() / 4 {
            *self = Backlog { bytes: self.rest().to_vec(), ..Backlog::default() };
        }
    }
}

/// What decoding some bytes off the front of the input came to.
enum Step {
    /// There may be more to decode.
    Decoded,
    /// They completed this.
    Complete(Outcome),
    /// What is left needs more behind it.
    Starved,
}

/// How many bytes a connection has moved since it was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that arrived.
    pub received: u64,
    /// Bytes that were queued for writing.
    pub sent: u64,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    state: State,
    backlog: Backlog,
    outbox: Outbox,
    deadline: Option<Instant>,
    received: u64,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(context: &Context) -> Self {
        Connection {
            state: State::Idle,
            backlog: Backlog::default(),
            outbox: Outbox::default(),
            deadline: Some(context.now + context.limits.idle_time),
            received: 0,
        }
    }

    /// A connection that is refused before it said anything: it gets `response`, and is closed.
    pub fn refused(response: &Response, context: &Context) -> Self {
        let mut connection = Connection::new(context);
        connection.answer_and_close(response, context);
        connection
    }

    /// An accepted raw connection.
    pub fn raw() -> Self {
        Connection {
            state: State::Raw(Raw::NEW),
            backlog: Backlog::default(),
            outbox: Outbox::default(),
            deadline: None,
            received: 0,
        }
    }

    /// An outgoing connection, which is raw.
    pub fn connecting(context: &Context) -> Self {
        let deadline = Some(context.now + context.limits.connect_time);
        Connection { state: State::Connecting(Raw::NEW), deadline, ..Connection::raw() }
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What waits to be written.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What is to be written. Call [`wrote`](Self::wrote) after each write.
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Bytes so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { received: self.received, sent: self.outbox.total() }
    }

    /// Whether the socket can be closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Reset)
    }

    /// Whether the socket is to be closed with a TCP reset.
    pub fn is_reset(&self) -> bool {
        matches!(self.state, State::Reset)
    }

    /// Whether it is an outgoing connection that the peer has not accepted yet.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    /// Whether the application holds something on it: an unanswered request, a stream, a WebSocket, a raw connection.
    pub fn is_in_use(&self) -> bool {
        use State::*;
        matches!(self.state, Held(_) | Streaming(_) | WebSocket(_) | Connecting(_) | Raw(_))
    }

    /// Whether a request or a stream of the application's keeps decoding from going on.
    pub fn is_answering(&self) -> bool {
        matches!(self.state, State::Held(_) | State::Streaming(_))
    }

    // ANCHOR: paused
    /// Whether decoding pauses: until the application has answered, or until the peer has read
    /// some of what waits for it. The two directions of a raw connection do not wait for each other.
    pub fn is_paused(&self, limits: &Limits) -> bool {
        match self.state {
            State::Held(_) | State::Streaming(_) => true,
            State::Draining | State::Lingering | State::Closed | State::Reset => false,
            State::Connecting(_) | State::Raw(_) => false,
            _ => self.outbox.cost() > limits.outbox / 2,
        }
    }
    // ANCHOR_END: paused

    /// Whether bytes should be read from the socket. While decoding pauses they stay in the
    /// kernel, whose window then closes: backpressure, not memory. The first of them are read
    /// all the same, because a hang-up can be seen only behind them.
    pub fn wants_input(&self, limits: &Limits) -> bool {
        match self.state {
            State::Closed | State::Reset | State::Connecting(_) => false,
            // After the end of the input, a read may still find out that the connection is broken.
            State::Raw(raw) => raw.input != Input::Paused,
            _ => self.backlog.is_empty() || !self.is_paused(limits),
        }
    }

    /// Whether much may be read at once: messages are decoded as they come, and the peer reads what
    /// it is sent, so that little of it will have to be kept.
    pub fn may_read_much(&self) -> bool {
        matches!(self.state, State::WebSocket(_)) && self.outbox.is_empty()
    }

    /// Whether there are bytes here that could be decoded now.
    pub fn can_decode(&self, limits: &Limits) -> bool {
        match self.state {
            State::Raw(raw) => raw.has_news(),
            _ => !self.backlog.is_empty() && !self.backlog.starved && !self.is_paused(limits),
        }
    }

    /// Whether there is something to write, or writing is to be shut down.
    pub fn wants_output(&self) -> bool {
        !self.outbox.is_empty()
            || matches!(self.state, State::Draining | State::Raw(Raw { output: Output::Ending, .. }))
    }

    /// Whether nothing waits here to be decoded or to be written, and it is not on its way to its end.
    pub fn is_settled(&self) -> bool {
        let has_news = matches!(self.state, State::Raw(raw) if raw.has_news());
        self.backlog.is_empty() && self.outbox.is_empty() && !self.is_over() && !has_news
    }

    /// Its turn is over, and nobody knows when the next one comes: frees what it kept for more.
    pub fn end_turn(&mut self) {
        if let State::WebSocket(socket) | State::CloseSent(socket) = &mut self.state {
            socket.receiver.release_spare();
        }
    }

    /// Whether nothing is decoded or queued any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Draining | State::Lingering | State::Closed | State::Reset)
    }

    /// Notes that `count` bytes were read from the socket, before they are decoded.
    pub fn count_received(&mut self, count: usize) {
        self.received += count as u64;
        if let State::WebSocket(socket) | State::CloseSent(socket) = &mut self.state {
            socket.heard = true;
        }
    }

    /// Decodes from the backlog and then from the front of `fresh`, until there is something to
    /// tell. On `None`, all of `fresh` has been decoded, dropped, or kept for later.
    pub fn receive(&mut self, fresh: &mut &[u8], context: &Context) -> Option<Outcome> {
        if matches!(self.state, State::Raw(_)) {
            return self.pass_on(fresh);
        }
        loop {
            if fresh.is_empty() && self.backlog.is_empty() {
                return None;
            }
            if self.is_over() {
                self.backlog = Backlog::default();
                *fresh = &[];
                return None;
            }
            if self.is_paused(&context.limits) {
                self.keep(fresh);
                return None;
            }
            let step = if self.backlog.is_empty() {
                self.decode(fresh, context)
            } else if self.starves(fresh, &context.limits) {
                return None;
            } else {
                let mut backlog = mem::take(&mut self.backlog);
                let mut rest = backlog.rest();
                let step = self.decode(&mut rest, context);
                let left = rest.len();
                backlog.leave(left);
                self.backlog = backlog;
                step
            };
            match step {
                Step::Decoded => {}
                Step::Complete(outcome) => return Some(outcome),
                Step::Starved => {
                    self.keep(fresh);
                    self.backlog.starved = true;
                    return None;
                }
            }
        }
    }

    /// Passes on the bytes of a raw connection, and then its news.
    fn pass_on(&mut self, fresh: &mut &[u8]) -> Option<Outcome> {
        let State::Raw(raw) = &mut self.state else { return None };
        if !fresh.is_empty() {
            Some(Outcome::Bytes(mem::take(fresh).to_vec()))
        } else if raw.drained == Drained::Due {
            raw.drained = Drained::No;
            Some(Outcome::Drained)
        } else if raw.has_ended() {
            self.lose(Closed::Finished)
        } else {
            None
        }
    }

    /// Puts `fresh` behind the backlog, and says whether it is too early to decode the two.
    fn starves(&mut self, fresh: &mut &[u8], limits: &Limits) -> bool {
        let length = self.backlog.rest().len();
        let may_wait = !fresh.is_empty() && !fresh.contains(&b'\n');
        self.keep(fresh);
        self.backlog.starved = may_wait && self.may_wait_for_line_end(length, limits);
        self.backlog.starved
    }

    /// A head is parsed from its beginning each time, so it is parsed only when another line of
    /// it has ended, or when it has doubled since it was `length` bytes long. There are at most a
    /// hundred lines: a head that comes byte by byte is not parsed sixteen thousand times.
    fn may_wait_for_line_end(&self, length: usize, limits: &Limits) -> bool {
        let now = self.backlog.rest().len();
        matches!(self.state, State::Head) && now <= limits.head && now.ilog2() == length.ilog2()
    }

    /// Keeps bytes that could be decoded now for another turn.
    pub fn postpone(&mut self, fresh: &mut &[u8]) {
        self.keep(fresh);
    }

    fn keep(&mut self, fresh: &mut &[u8]) {
        if !fresh.is_empty() {
            self.backlog.append(mem::take(fresh));
        }
    }

    /// Takes one step, and the bytes that it decodes off the front of `input`.
    fn decode(&mut self, input: &mut &[u8], context: &Context) -> Step {
        match &mut self.state {
            State::WebSocket(_) | State::CloseSent(_) => self.decode_frames(input, context),
            State::Idle => {
                // RFC 9112, section 2.2: empty lines before a request are ignored.
                let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                *input = &input[blank..];
                if input.is_empty() {
                    return Step::Starved;
                }
                self.state = State::Head;
                self.deadline = Some(context.now + context.limits.head_time);
                Step::Decoded
            }
            State::Head => self.decode_head(input, context),
            State::Content(_) => self.decode_content(input, context),
            _ => Step::Starved,
        }
    }

    fn decode_head(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let limits = &context.limits;
        let (head, used) = match parse_request_head(input, limits.head, limits.target) {
            Ok(Parse::Partial) => return Step::Starved,
            Ok(Parse::Complete { value, used }) => (value, used),
            Err(error) => return Step::Complete(self.refuse(error, context)),
        };
        let has_content = match head.framing {
            Framing::Length(length) if length > limits.content as u64 => {
                return Step::Complete(self.refuse(RequestError::ContentTooLong(limits.content), context));
            }
            framing => framing != Framing::Empty,
        };
        let buffer = input[..used].to_vec();
        *input = &input[used..];
        if !has_content {
            return Step::Complete(self.hold(Request::new(head, buffer, used)));
        }
        // RFC 9110, section 10.1.1: no need to say it to a client that did not wait for it.
        if head.expects_continue && input.is_empty() {
            self.outbox.push_own(|out| out.extend_from_slice(CONTINUE));
        }
        let content = ContentDecoder::new(head.framing);
        self.state = State::Content(Box::new(Arriving { head, head_length: used, buffer, content }));
        self.deadline = Some(context.now + limits.content_time);
        Step::Decoded
    }

    fn decode_content(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let State::Content(arriving) = &mut self.state else { return Step::Starved };
        let longest = arriving.head_length + context.limits.content;
        let done = match arriving.content.decode(input, &mut arriving.buffer, longest) {
            Ok(used) => {
                *input = &input[used..];
                arriving.content.is_done()
            }
            Err(ChunkError::TooLong) => {
                let error = RequestError::ContentTooLong(context.limits.content);
                return Step::Complete(self.refuse(error, context));
            }
            Err(error) => return Step::Complete(self.refuse(RequestError::Chunk(error), context)),
        };
        match mem::replace(&mut self.state, State::Idle) {
            State::Content(arriving) if done => {
                let Arriving { head, head_length, buffer, .. } = *arriving;
                Step::Complete(self.hold(Request::new(head, buffer, head_length)))
            }
            unfinished => {
                self.state = unfinished;
                Step::Starved
            }
        }
    }

    fn hold(&mut self, request: Request) -> Outcome {
        self.state = State::Held(Exchange::of(request.head()));
        self.deadline = None;
        Outcome::Request(request)
    }

    fn decode_frames(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let (open, socket) = match &mut self.state {
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
        match received {
            None => Step::Starved,
            Some(Received::Message(message)) if open => Step::Complete(Outcome::Message(message)),
            Some(Received::Ping(payload)) if open => {
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Pong, &payload, None));
                Step::Decoded
            }
            Some(Received::Close(close)) => {
                self.drain(context);
                if !open {
                    return Step::Decoded;
                }
                // RFC 6455, section 5.5.1: a Close is answered by one, with the status code
                // received.
                let payload = close.code.map_or_else(Vec::new, |code| websocket::close(code, ""));
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Close, &payload, None));
                Step::Complete(Outcome::Closed(Closed::Peer(close.code, close.reason)))
            }
            // After our Close nothing is answered any more; a Pong was counted when it came.
            Some(Received::Message(_) | Received::Ping(_) | Received::Pong(_)) => Step::Decoded,
        }
    }

    /// RFC 6455, section 7.1.7: "fail the WebSocket connection".
    fn fail_websocket(&mut self, error: ProtocolError, context: &Context) -> Step {
        let open = matches!(self.state, State::WebSocket(_));
        self.drain(context);
        if !open {
            return Step::Decoded;
        }
        self.push_close(error.close_code(), &error.to_string());
        Step::Complete(Outcome::Closed(Closed::Violation(error)))
    }

    fn push_close(&mut self, code: CloseCode, reason: &str) {
        let payload = websocket::close(code, reason);
        self.outbox.push_own(|out| websocket::encode(out, Opcode::Close, &payload, None));
    }

    fn refuse(&mut self, error: RequestError, context: &Context) -> Outcome {
        let before = self.outbox.total();
        self.answer_and_close(&Response::error(error.status(), &error.to_string()), context);
        Outcome::Refused(error, self.outbox.total() - before)
    }

    fn answer_and_close(&mut self, response: &Response, context: &Context) {
        self.push_response(response, response.framing(), Some("close"), false, context);
        self.drain(context);
    }

    fn drain(&mut self, context: &Context) {
        self.state = State::Draining;
        self.deadline = Some(context.now + context.limits.closing_time);
    }

    fn push_response(
        &mut self,
        response: &Response,
        framing: Framing,
        connection: Option<&str>,
        head_only: bool,
        context: &Context,
    ) {
        let has_content = !head_only && framing != Framing::Empty;
        self.outbox.push_own(|out| {
            response.encode_head(out, &context.date, framing, connection);
            if has_content && !matches!(response.content(), Content::Shared(_)) {
                out.extend_from_slice(response.content());
            }
        });
        if let (Content::Shared(content), true) = (response.content(), has_content) {
            self.outbox.push(content);
        }
    }

    /// Answers the request that the application holds. Does nothing when there is none.
    pub fn respond(&mut self, response: &Response, context: &Context) {
        let State::Held(exchange) = self.state else { return };
        let persists = exchange.persistent && !response.closes() && !context.draining;
        let connection = exchange.connection(persists);
        self.push_response(response, response.framing(), connection, exchange.head_only, context);
        self.finish(persists, context);
    }

    /// The answer is complete: on to the next request, or to the end.
    fn finish(&mut self, persists: bool, context: &Context) {
        if persists {
            self.state = State::Idle;
            self.deadline = Some(context.now + context.limits.idle_time);
        } else {
            self.drain(context);
        }
    }

    /// Accepts the opening handshake that the application holds: the connection becomes a WebSocket. Does nothing when
    /// no request is held.
    pub fn upgrade(&mut self, accepted: &Accepted, context: &Context) {
        let State::Held(_) = self.state else { return };
        self.push_response(accepted.response(), Framing::Empty, None, true, context);
        let receiver = Receiver::new(Role::Client);
        self.state = State::WebSocket(Box::new(WebSocket { receiver, heard: true }));
        self.deadline = Some(context.now + context.limits.ping_interval);
    }

    /// Answers the held request with a head, after which a stream of chunks follows. Does nothing when no request is
    /// held. Returns [`Outcome::Closed`] when nothing may follow: the request was HEAD, or the status is 204 or 304.
    pub fn begin(&mut self, head: &Response, context: &Context) -> Option<Outcome> {
        let State::Held(exchange) = self.state else { return None };
        let (framing, persists) = match exchange.version {
            _ if head.framing() == Framing::Empty => (Framing::Empty, exchange.persistent),
            Version::Http11 => (Framing::Chunked, exchange.persistent),
            Version::Http10 => (Framing::UntilClose, false),
        };
        let persists = persists && !context.draining;
        self.push_response(head, framing, exchange.connection(persists), true, context);
        if exchange.head_only || framing == Framing::Empty {
            self.finish(persists, context);
            return Some(Outcome::Closed(Closed::Finished));
        }
        self.state = State::Streaming(Exchange { persistent: persists, ..exchange });
        None
    }

    /// Queues encoded bytes on a stream or a WebSocket: a chunk, or a frame. Does nothing in any
    /// other state. Returns [`Outcome::Closed`] when the peer has let its outbox fill up: it is a
    /// slow consumer, and the stream ends here.
    pub fn send(&mut self, bytes: &Shared, context: &Context) -> Option<Outcome> {
        match self.state {
            State::WebSocket(_) | State::Streaming(_) if self.is_full(bytes.len(), &context.limits) => {
                Some(self.cut_slow_consumer(context))
            }
            // RFC 9112, section 6.1: a 1.0 client is never sent a transfer coding.
            State::Streaming(Exchange { version: Version::Http10, .. }) => {
                self.outbox.push_own(|out| out.extend_from_slice(bytes.unframed()));
                None
            }
            State::WebSocket(_) | State::Streaming(_) => {
                self.outbox.push(bytes);
                None
            }
            _ => None,
        }
    }

    /// Queues a message for this peer alone; otherwise as [`send`](Self::send).
    pub fn send_message(&mut self, message: Message, context: &Context) -> Option<Outcome> {
        let (opcode, length) = (message.opcode(), message.as_bytes().len());
        if matches!(self.state, State::WebSocket(_)) && self.is_full(length, &context.limits) {
            return Some(self.cut_slow_consumer(context));
        }
        match &mut self.state {
            State::WebSocket(socket) => {
                if length < LARGE {
                    self.outbox.push_own(|out| websocket::encode(out, opcode, message.as_bytes(), None));
                    socket.receiver.reuse(message.into_bytes());
                } else {
                    self.outbox.push_own(|out| FrameHeader::new(opcode, length).encode(out));
                    self.outbox.push_piece(message.into_bytes());
                }
                None
            }
            _ => None,
        }
    }

    /// Whether `more` bytes do not fit into the outbox: time to write some of it.
    pub fn is_full(&self, more: usize, limits: &Limits) -> bool {
        !self.outbox.is_empty() && self.outbox.cost() + more > limits.outbox
    }

    fn cut_slow_consumer(&mut self, context: &Context) -> Outcome {
        // A stream gets no last-chunk: without it the client sees that it is incomplete
        // (RFC 9112, section 8), and resumes.
        if matches!(self.state, State::WebSocket(_)) {
            self.push_close(CloseCode::TRY_AGAIN_LATER, "too slow: more is waiting than may wait");
        }
        self.drain(context);
        Outcome::Closed(Closed::SlowConsumer)
    }

    fn push_last_chunk(&mut self, exchange: Exchange) {
        if exchange.version == Version::Http11 {
            self.outbox.push_own(|out| out.extend_from_slice(LAST_CHUNK));
        }
    }

    /// An outgoing connection has been accepted.
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

    /// Queues bytes on a raw connection. Does nothing in any other state, or after its [`end`](Self::end). Returns
    /// [`Outcome::Closed`] when they do not fit into the outbox. The connection is then reset: an orderly end would tell
    /// the peer that it has everything.
    pub fn send_bytes(&mut self, bytes: Vec<u8>, context: &Context) -> Option<Outcome> {
        let is_full = self.is_full(bytes.len(), &context.limits);
        let raw = self.raw_mut().filter(|raw| raw.output == Output::Open && !bytes.is_empty())?;
        if is_full {
            self.lose(Closed::SlowConsumer);
            self.state = State::Reset;
            return Some(Outcome::Closed(Closed::SlowConsumer));
        }
        raw.drained = Drained::Awaited;
        if bytes.len() < LARGE {
            self.outbox.push_own(|out| out.extend_from_slice(&bytes));
        } else {
            self.outbox.push_piece(bytes);
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

    /// Hands a raw connection over to HTTP: `bytes` are the first of its input. Returns whether it is one that can be
    /// written.
    pub fn serve_http(&mut self, bytes: Vec<u8>, context: &Context) -> bool {
        if !matches!(self.state, State::Raw(Raw { output: Output::Open, .. })) {
            return false;
        }
        self.state = State::Idle;
        self.deadline = Some(context.now + context.limits.idle_time);
        self.backlog = Backlog { bytes, ..Backlog::default() };
        true
    }

    /// Closes the connection with a TCP reset. The application has let go of it.
    pub fn reset(&mut self) {
        let _ = self.lose(Closed::Reset);
        self.state = State::Reset;
    }

    /// Ends a stream with the last-chunk, a WebSocket with a closing handshake and status code 1000, or the writing
    /// side of a raw connection when its outbox is written. Does nothing in any other state.
    pub fn end(&mut self, context: &Context) {
        match self.state {
            State::Streaming(exchange) => {
                self.push_last_chunk(exchange);
                self.finish(exchange.persistent && !context.draining, context);
            }
            State::WebSocket(_) => self.close(CloseCode::NORMAL, "", context),
            State::Connecting(ref mut raw) | State::Raw(ref mut raw) if raw.output == Output::Open => {
                (raw.output, raw.drained) = (Output::Ending, Drained::No);
            }
            _ => {}
        }
    }

    /// Begins the closing handshake of a WebSocket. Messages that still arrive are dropped. A raw connection is closed
    /// when its outbox is written; bytes that still arrive are dropped.
    pub fn close(&mut self, code: CloseCode, reason: &str, context: &Context) {
        match mem::replace(&mut self.state, State::Idle) {
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

    /// The server is going away. What the application still holds gets an end that its client
    /// understands: 503, the last-chunk, or status code 1001. A connection on which nothing is
    /// happening needs no lingering.
    pub fn go_away(&mut self, context: &Context) {
        match self.state {
            State::Idle if self.outbox.is_empty() => drop(self.lose(Closed::Finished)),
            State::Idle | State::Head | State::Content(_) => self.drain(context),
            State::Held(_) => self.respond(&Response::error(503, "the server is going away"), context),
            State::Streaming(_) => self.end(context),
            State::WebSocket(_) | State::Raw(_) | State::Connecting(_) => {
                self.close(CloseCode::GOING_AWAY, "the server is going away", context);
            }
            _ => {}
        }
    }

    /// Notes that `count` bytes of the outbox were written. Returns whether writing is to be shut
    /// down now: the peer shall see the end, and may still be read.
    #[must_use]
    pub fn wrote(&mut self, count: usize, context: &Context) -> bool {
        let limits = &context.limits;
        match &mut self.state {
            State::Idle if count > 0 => self.deadline = Some(context.now + limits.idle_time),
            // While nothing is read because of what waits, reading is the only sign of life.
            State::WebSocket(socket) if count > 0 && self.outbox.cost() + count > limits.outbox / 4 => {
                socket.heard = true
            }
            State::Draining if self.outbox.is_empty() => {
                self.state = State::Lingering;
                self.deadline = Some(context.now + limits.closing_time);
                return true;
            }
            State::Raw(raw) if self.outbox.is_empty() => {
                if raw.output == Output::Ending {
                    raw.output = Output::Ended;
                    return true;
                }
                if raw.drained == Drained::Awaited {
                    raw.drained = Drained::Due;
                }
            }
            State::Draining | State::CloseSent(_) if count > 0 => {
                self.deadline = Some(context.now + limits.closing_time)
            }
            _ => {}
        }
        false
    }

    /// The peer has shut down its side and everything before that has been decoded. A peer that
    /// does so while it waits for an answer or a stream has hung up: there is no other sign of it.
    pub fn end_of_input(&mut self, context: &Context) -> Option<Outcome> {
        match self.state {
            State::Head | State::Content(_) => Some(self.refuse(RequestError::EndedEarly, context)),
            State::Idle if !self.outbox.is_empty() => {
                self.drain(context);
                None
            }
            State::Draining => None,
            // Answers to earlier requests may be waiting, and the peer may still read.
            State::Held(_) | State::Streaming(_) if !self.outbox.is_empty() => {
                self.drain(context);
                Some(Outcome::Closed(Closed::HungUp))
            }
            State::Raw(Raw { output: Output::Broken, .. }) => self.lose(Closed::Reset),
            State::Raw(ref mut raw) => {
                raw.input = Input::Ended;
                Some(Outcome::EndOfInput)
            }
            State::Connecting(_) => None,
            _ => self.lose(Closed::HungUp),
        }
    }

    /// A write has failed. What the peer of a raw connection has sent before can still be read, and is.
    pub fn cannot_write(&mut self) -> Option<Outcome> {
        match &mut self.state {
            State::Raw(raw) if raw.input != Input::Ended => {
                raw.output = Output::Broken;
                if raw.drained == Drained::Awaited {
                    raw.drained = Drained::Due;
                }
                self.outbox.clear();
                None
            }
            _ => self.lose(Closed::Reset),
        }
    }

    /// The connection is over, because of `why`. Returns [`Outcome::Closed`] if the application holds something on it.
    pub fn lose(&mut self, why: Closed) -> Option<Outcome> {
        let held = self.is_in_use();
        self.state = State::Closed;
        self.deadline = None;
        self.outbox.clear();
        self.backlog = Backlog::default();
        held.then_some(Outcome::Closed(why))
    }

    /// The deadline has passed.
    pub fn on_deadline(&mut self, context: &Context) -> Option<Outcome> {
        match &mut self.state {
            State::Idle if self.outbox.is_empty() => {
                self.drain(context);
                None
            }
            State::Head => Some(self.refuse(RequestError::HeadTimeout, context)),
            State::Content(_) => Some(self.refuse(RequestError::ContentTimeout, context)),
            State::WebSocket(socket) if socket.heard => {
                socket.heard = false;
                self.outbox.push_own(|out| websocket::encode(out, Opcode::Ping, b"", None));
                self.deadline = Some(context.now + context.limits.ping_interval);
                None
            }
            State::Held(_) | State::Streaming(_) => {
                self.deadline = None;
                None
            }
            _ => self.lose(Closed::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its part of what an idle connection costs: `cargo test sizes -- --nocapture`.
    #[test]
    fn sizes() {
        let sizes = [
            ("state: boxed where it needs more than a few bytes", size_of::<State>()),
            ("backlog: a Vec without memory, most of the time", size_of::<Backlog>()),
            ("outbox: a place for one piece, and counts", size_of::<Outbox>()),
            ("deadline", size_of::<Option<Instant>>()),
            ("received: for the statistics", size_of::<u64>()),
        ];
        for (field, size) in sizes {
            println!("{size:4} B  {field}");
        }
        println!("{:4} B  Connection", size_of::<Connection>());
        println!("{:4} B  WebSocket, in a box of its own", size_of::<WebSocket>());
        assert_eq!(sizes.iter().map(|(_, size)| size).sum::<usize>(), size_of::<Connection>());
        assert!(size_of::<Connection>() <= 136 && size_of::<WebSocket>() <= 104);
    }
}
