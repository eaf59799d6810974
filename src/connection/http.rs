//! Requests and their answers: heads and content are decoded, responses and streams are queued (RFC 9112).

use std::mem;

use super::{Closed, Connection, Context, Outcome, State, Step};
use crate::bytes::{Parse, Rope, Shared};
use crate::http::{
    CHUNK_END, CONTINUE, ChunkError, Content, ContentDecoder, Framing, LAST_CHUNK, Method, OriginIndex, Outline,
    Request, RequestError, RequestHead, Response, Version, begin_chunk, parse_request_head,
};
use crate::limits::Limits;
use crate::proxy_protocol;
use crate::websocket::CloseCode;

/// What the answer to a request depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerRules {
    version: Version,
    persistent: bool,
    /// The request was HEAD: fields are sent, content is not (RFC 9110, section 9.3.2).
    head_only: bool,
    /// The page of an allowed foreign origin, which may read the answer.
    page: Option<OriginIndex>,
}

impl AnswerRules {
    /// Rules for an answer before any request.
    const UNASKED: AnswerRules =
        AnswerRules { version: Version::Http11, persistent: false, head_only: false, page: None };

    fn of(request: &Request, context: &Context) -> Self {
        let head = request.head();
        AnswerRules {
            version: head.version,
            persistent: head.persistent,
            head_only: head.method == Method::Head,
            page: page_of(context, || request.field("origin")),
        }
    }

    /// The rules for the answer to a request that is refused, from the bytes of its head so far.
    pub(super) fn of_refused(head: &[u8], context: &Context) -> Self {
        let Outline { is_head: head_only, origin, .. } = Outline::of(head);
        AnswerRules { head_only, page: page_of(context, || origin), ..AnswerRules::UNASKED }
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

/// The allowed page that has sent a request with this Origin field.
fn page_of<'a>(context: &Context, field: impl FnOnce() -> Option<&'a [u8]>) -> Option<OriginIndex> {
    if context.origins.is_empty() { None } else { field().and_then(|origin| context.origins.find(origin)) }
}

/// A request whose head is complete and whose content is arriving.
#[derive(Debug)]
pub(super) struct Arriving {
    head: RequestHead,
    head_length: usize,
    /// The bytes of the head, and after them the decoded content.
    buffer: Vec<u8>,
    content: ContentDecoder,
}

impl Arriving {
    /// The memory that it keeps, in bytes.
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Decoding.
impl Connection {
    /// Takes the header of the PROXY protocol off. Without one, the connection is closed, and gets no answer.
    pub(super) fn decode_announcement(&mut self, input: &mut &[u8], context: &Context) -> Step {
        match proxy_protocol::parse(input) {
            Ok(Parse::Partial) => Step::Starved,
            Ok(Parse::Complete { value, used }) => {
                *input = &input[used..];
                self.state = State::Idle;
                self.deadline = Some(context.now + context.limits.idle_time);
                Step::Complete(Outcome::Announced(value))
            }
            Err(_) => {
                self.lose(Closed::Finished);
                Step::Decoded
            }
        }
    }

    /// Between two requests: the first byte of the next one begins its head.
    pub(super) fn begin_head(&mut self, input: &mut &[u8], context: &Context) -> Step {
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

    pub(super) fn decode_head(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let limits = &context.limits;
        let (head, used) = match parse_request_head(input, limits.head, limits.target) {
            Ok(Parse::Partial) => return Step::Starved,
            Ok(Parse::Complete { value, used }) => (value, used),
            Err(error) if awaits_origin(error, input, context) => return Step::Starved,
            Err(error) => return self.refuse_head(error, input, context),
        };
        let has_content = match head.framing {
            Framing::Length(length) if length > limits.content as u64 => {
                return self.refuse_head(RequestError::ContentTooLong(limits.content), input, context);
            }
            framing => framing != Framing::Empty,
        };
        let buffer = input[..used].to_vec();
        *input = &input[used..];
        if !has_content {
            return Step::Complete(self.hold(Request::new(head, buffer, used), context));
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

    pub(super) fn decode_content(&mut self, input: &mut &[u8], context: &Context) -> Step {
        let State::Content(arriving) = &mut self.state else { return Step::Starved };
        let longest = arriving.head_length + context.limits.content;
        let done = match arriving.content.decode(input, &mut arriving.buffer, longest) {
            Ok(used) => {
                *input = &input[used..];
                arriving.content.is_done()
            }
            Err(error) => {
                let error = match error {
                    ChunkError::TooLong => RequestError::ContentTooLong(context.limits.content),
                    error => RequestError::Chunk(error),
                };
                return Step::Complete(self.refuse(error, context));
            }
        };
        match mem::replace(&mut self.state, State::Idle) {
            State::Content(arriving) if done => {
                let Arriving { head, head_length, buffer, .. } = *arriving;
                Step::Complete(self.hold(Request::new(head, buffer, head_length), context))
            }
            unfinished => {
                self.state = unfinished;
                Step::Starved
            }
        }
    }

    fn hold(&mut self, request: Request, context: &Context) -> Outcome {
        self.state = State::Held(AnswerRules::of(&request, context));
        self.deadline = None;
        Outcome::Request(request)
    }

    /// Refuses the request that is arriving.
    pub(super) fn refuse(&mut self, error: RequestError, context: &Context) -> Outcome {
        let head = match &self.state {
            State::Content(arriving) => &arriving.buffer,
            _ => self.backlog.rest(),
        };
        let rules = AnswerRules::of_refused(head, context);
        self.refuse_as(error, rules, context)
    }

    fn refuse_head(&mut self, error: RequestError, head: &[u8], context: &Context) -> Step {
        let rules = AnswerRules::of_refused(head, context);
        Step::Complete(self.refuse_as(error, rules, context))
    }

    fn refuse_as(&mut self, error: RequestError, rules: AnswerRules, context: &Context) -> Outcome {
        let before = self.outbox.total();
        self.answer_by_rules_and_close(&Response::error(error.status(), &error.to_string()), rules, context);
        Outcome::Refused(error, self.outbox.total() - before)
    }

    /// Whether it is too early to parse a head again that has grown from `length` bytes without another line end. A
    /// head is parsed from its beginning each time. So it is parsed only when a line has ended, of which there are at
    /// most a hundred, or when its length has doubled: a head that arrives byte by byte is not parsed 16,384 times.
    pub(super) fn may_wait_for_line_end(&self, length: usize, context: &Context) -> bool {
        let now = self.backlog.rest().len();
        let longest = if context.origins.is_empty() { context.limits.head } else { longest_outline(&context.limits) };
        matches!(self.state, State::Head) && now <= longest && now.ilog2() == length.ilog2()
    }
}

/// Whether a head that is too long is read on, because the page that may read the answer is not known yet.
fn awaits_origin(error: RequestError, input: &[u8], context: &Context) -> bool {
    use RequestError::{HeadTooLong, TargetTooLong, TooManyFields};
    let Outline { origin, is_complete, .. } = Outline::of(input);
    matches!(error, TargetTooLong(_) | HeadTooLong(_) | TooManyFields)
        && !context.origins.is_empty()
        && origin.is_none()
        && !is_complete
        && input.len() <= longest_outline(&context.limits)
}

/// The number of bytes of a head that is too long in which its Origin is looked for.
fn longest_outline(limits: &Limits) -> usize {
    limits.head.saturating_mul(4)
}

/// Answering.
impl Connection {
    /// Answers the request that is held, or one that nobody has sent, and closes the connection: there is no place for it.
    pub fn answer_and_close(&mut self, response: &Response, context: &Context) {
        let rules = if let State::Held(rules) = self.state { rules } else { AnswerRules::UNASKED };
        self.answer_by_rules_and_close(response, rules, context);
    }

    fn answer_by_rules_and_close(&mut self, response: &Response, rules: AnswerRules, context: &Context) {
        self.push_response(response, response.framing(), Some("close"), rules, context);
        self.drain(context);
    }

    pub(super) fn push_response(
        &mut self,
        response: &Response,
        framing: Framing,
        connection: Option<&str>,
        rules: AnswerRules,
        context: &Context,
    ) {
        let has_content = !rules.head_only && framing != Framing::Empty;
        self.outbox.push_own(|out| {
            let cors = context.origins.fields(rules.page);
            response.encode_head_with(out, &context.date, framing, connection, cors);
            match response.content() {
                Content::Own(content) if has_content => out.extend_from_slice(content),
                Content::Static(content) if has_content => out.extend_from_slice(content),
                _ => {}
            }
        });
        match response.content() {
            Content::Shared(content) if has_content => self.outbox.push(content),
            Content::Rope(content) if has_content => self.outbox.push_rope(content),
            _ => {}
        }
    }

    /// Answers the request that the application holds. Does nothing when there is none.
    pub fn respond(&mut self, response: &Response, context: &Context) {
        let State::Held(rules) = self.state else { return };
        let persists = rules.persistent && !response.closes() && !context.draining;
        let framing = match response.framing() {
            // Only the answer to HEAD may leave content out.
            _ if !rules.head_only && matches!(response.content(), Content::Omitted(_)) => Framing::Length(0),
            framing => framing,
        };
        self.push_response(response, framing, rules.connection(persists), rules, context);
        self.finish(persists, context);
    }

    /// The answer is complete. The next request follows, or the end.
    fn finish(&mut self, persists: bool, context: &Context) {
        if persists {
            self.state = State::Idle;
            self.deadline = Some(context.now + context.limits.idle_time);
        } else {
            self.drain(context);
        }
    }

    /// Answers the held request with a head, after which a stream of chunks follows. Does nothing when no request is
    /// held. Returns [`Outcome::Closed`] if nothing may follow: the request was HEAD, or the status is 204 or 304.
    pub fn begin(&mut self, head: &Response, context: &Context) -> Option<Outcome> {
        let State::Held(rules) = self.state else { return None };
        let (framing, persists) = match rules.version {
            _ if head.framing() == Framing::Empty => (Framing::Empty, rules.persistent),
            Version::Http11 => (Framing::Chunked, rules.persistent),
            Version::Http10 => (Framing::UntilClose, false),
        };
        let persists = persists && !context.draining;
        let head_only = AnswerRules { head_only: true, ..rules };
        self.push_response(head, framing, rules.connection(persists), head_only, context);
        if rules.head_only || framing == Framing::Empty {
            self.finish(persists, context);
            return Some(Outcome::Closed(Closed::Finished));
        }
        self.state = State::Streaming(AnswerRules { persistent: persists, ..rules });
        None
    }

    /// Queues encoded bytes on a stream or a WebSocket: a chunk, or a frame. Does nothing in any other state. Returns
    /// [`Outcome::Closed`] if they do not fit into the outbox: the peer is a slow consumer, and the stream ends here.
    pub fn send(&mut self, bytes: &Shared, context: &Context) -> Option<Outcome> {
        match self.state {
            State::WebSocket(_) | State::Streaming(_) if !self.has_room(bytes.len(), &context.limits) => {
                Some(self.cut_slow_consumer(context))
            }
            // RFC 9112, section 6.1: a 1.0 client is never sent a transfer coding.
            State::Streaming(AnswerRules { version: Version::Http10, .. }) => {
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

    /// Queues a rope on a stream or a WebSocket by reference: on an HTTP/1.1 stream as one chunk, on others as it is.
    /// Does nothing in any other state. Returns [`Outcome::Closed`] if it does not fit into the outbox.
    pub fn send_rope(&mut self, rope: &Rope, context: &Context) -> Option<Outcome> {
        match self.state {
            State::WebSocket(_) | State::Streaming(_) if !self.has_room(rope.len(), &context.limits) => {
                Some(self.cut_slow_consumer(context))
            }
            // A chunk of size 0 would be the last-chunk.
            _ if rope.is_empty() => None,
            State::Streaming(AnswerRules { version: Version::Http11, .. }) => {
                self.outbox.push_own(|out| begin_chunk(rope.len(), out));
                self.outbox.push_rope(rope);
                self.outbox.push_own(|out| out.extend_from_slice(CHUNK_END));
                None
            }
            State::WebSocket(_) | State::Streaming(_) => {
                self.outbox.push_rope(rope);
                None
            }
            _ => None,
        }
    }

    /// Queues `joined`, which is all `pieces` in one, as [`send`](Self::send) does.
    pub(crate) fn send_joined(&mut self, joined: &Shared, pieces: &[Shared], context: &Context) -> Option<Outcome> {
        match self.state {
            // Only a single chunk knows its data.
            State::Streaming(AnswerRules { version: Version::Http10, .. }) if !pieces.is_empty() => {
                pieces.iter().find_map(|piece| self.send(piece, context))
            }
            _ => self.send(joined, context),
        }
    }

    /// The number of bytes that [`send`](Self::send) queues for `bytes`.
    pub(crate) fn length_of(&self, bytes: &Shared) -> usize {
        match self.state {
            State::Streaming(AnswerRules { version: Version::Http10, .. }) => bytes.unframed().len(),
            _ => bytes.len(),
        }
    }

    pub(super) fn cut_slow_consumer(&mut self, context: &Context) -> Outcome {
        // A stream gets no last-chunk: without it the client sees that it is incomplete
        // (RFC 9112, section 8), and resumes.
        if matches!(self.state, State::WebSocket(_)) {
            self.push_close(CloseCode::TRY_AGAIN_LATER, "too slow: more is waiting than may wait");
        }
        self.drain(context);
        Outcome::Closed(Closed::SlowConsumer)
    }

    /// Ends a stream with its last-chunk, a WebSocket with a closing handshake and status code 1000, or the writing
    /// side of a raw connection when its outbox is written. Does nothing in any other state.
    pub fn end(&mut self, context: &Context) {
        match self.state {
            State::Streaming(rules) => {
                if rules.version == Version::Http11 {
                    self.outbox.push_own(|out| out.extend_from_slice(LAST_CHUNK));
                }
                self.finish(rules.persistent && !context.draining, context);
            }
            State::WebSocket(_) => self.close(CloseCode::NORMAL, "", context),
            _ => self.end_output(),
        }
    }
}
