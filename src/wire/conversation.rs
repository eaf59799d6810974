//! The labels of one connection, both directions, from the first request line to the last frame.

use std::collections::VecDeque;
use std::mem;

use super::{Fault, Follows, Lines, Part, Piece};
use crate::bytes::Parse;
use crate::http::{
    ChunkedDecoder, Element, Framing, Method, Request, RequestError, RequestHead, ResponseError, parse_request_head,
    parse_response_head,
};
use crate::websocket::{FrameHeader, Role, parse_header};

/// The longest head, in bytes, and the maximum number of bytes between a request to switch protocols and its answer.
const MAX_HEAD: usize = 16 * 1024;

const REQUEST_TOO_LONG: Fault = Fault::Request(RequestError::HeadTooLong(MAX_HEAD));
const RESPONSE_TOO_LONG: Fault = Fault::Response(ResponseError::HeadTooLong(MAX_HEAD));

/// The maximum number of unanswered requests.
const MAX_UNANSWERED: usize = 1024;

/// The labels of one connection: it takes bytes as they arrive and returns [`Piece`]s. Its memory is bounded by a head
/// of 16 KiB and a line or an event of 1 MiB in each direction.
///
/// ```
/// use overwire::websocket::Role;
/// use overwire::wire::Conversation;
///
/// let mut conversation = Conversation::default();
/// conversation.read(Role::Client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// let pieces = conversation.read(Role::Server, b"HTTP/1.1 204 No Content\r\n\r\n");
/// assert_eq!((pieces[0].part.name(), pieces[1].meaning()), ("status line", "no content".to_owned()));
/// ```
#[derive(Debug, Default)]
pub struct Conversation {
    client: Direction,
    server: Direction,
    unanswered: VecDeque<Asked>,
    /// The lines in content get no labels.
    ignores_lines: bool,
}

/// The facts about a request that its answer depends on (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The answer to HEAD has no content.
    is_head: bool,
    /// The client asks to switch protocols: its next bytes depend on the answer.
    wants_upgrade: bool,
}

#[derive(Debug, Default)]
struct Direction {
    state: State,
    /// An incomplete head, line or frame header.
    pending: Vec<u8>,
    /// The number of bytes of the incomplete head that were parsed before.
    parsed: usize,
    /// The labels of the content, if its format is known.
    lines: Option<Lines>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// In content, with `n` bytes left.
    Content(u64),
    ContentUntilEnd,
    Chunks(ChunkedDecoder),
    /// A client that asked to switch protocols waits for the answer (RFC 6455, section 4.1).
    WaitsForAnswer,
    FrameHeader,
    /// In a frame, after `n` bytes of its payload.
    Payload(FrameHeader, u64),
    Unlabelled,
}

/// The length of the taken piece. `None` if the input has no whole piece.
type Taken = Result<Option<usize>, Fault>;

impl Conversation {
    /// Labels the pieces alone, and not the lines in content: its memory is bounded by a head in each direction.
    pub fn without_lines() -> Self {
        Conversation { ignores_lines: true, ..Conversation::default() }
    }

    /// The number of bytes that are kept because they wait for their label.
    pub fn kept(&self) -> usize {
        [&self.client, &self.server].iter().map(|direction| direction.kept()).sum()
    }

    /// Labels bytes of `from`. An incomplete piece is kept until the rest of it arrives.
    ///
    /// Bytes of a client after a request to switch protocols are kept until it is answered. The next call for the
    /// client labels them. It may have no bytes.
    pub fn read(&mut self, from: Role, bytes: &[u8]) -> Vec<Piece> {
        let mut input = mem::take(&mut self.direction(from).pending);
        input.extend_from_slice(bytes);
        let (mut pieces, mut used) = (Vec::new(), 0);
        loop {
            match self.step(from, &input[used..], &mut pieces) {
                Ok(Some(taken)) => used += taken,
                Ok(None) => break,
                Err(fault) => self.fail(from, fault, &mut pieces),
            }
        }
        input.drain(..used);
        self.direction(from).pending = input;
        pieces
    }

    /// Labels the end of the bytes of `from`. It ends content that is framed by the end of the connection. Any other
    /// incomplete message is [`Broken`](Part::Broken).
    pub fn end(&mut self, from: Role) -> Vec<Piece> {
        let direction = self.direction(from);
        let mut pieces = Vec::new();
        let fault = match direction.state {
            State::ContentUntilEnd => {
                direction.state = State::Head;
                pieces.push(Piece::new(Part::MessageEnd, b""));
                return pieces;
            }
            State::Head | State::WaitsForAnswer | State::FrameHeader if direction.pending.is_empty() => None,
            State::FrameHeader | State::Payload(..) => Some(Fault::EndedInFrame),
            State::Unlabelled => None,
            _ => Some(Fault::EndedInMessage),
        };
        if let Some(fault) = fault {
            self.fail(from, fault, &mut pieces);
            pieces.extend(self.read(from, b""));
        }
        pieces
    }

    /// Whether the client's next bytes are labelled after the answer to its request to switch protocols.
    pub fn is_waiting_for_answer(&self) -> bool {
        matches!(self.client.state, State::WaitsForAnswer)
    }

    fn direction(&mut self, from: Role) -> &mut Direction {
        match from {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    fn fail(&mut self, from: Role, fault: Fault, pieces: &mut Vec<Piece>) {
        self.direction(from).state = State::Unlabelled;
        pieces.push(Piece::new(Part::Broken(fault), b""));
    }

    /// Labels the front of `input`.
    fn step(&mut self, from: Role, input: &[u8], pieces: &mut Vec<Piece>) -> Taken {
        match (&self.direction(from).state, from) {
            (State::Head, Role::Client) => self.request_head(input, pieces),
            (State::Head, Role::Server) => self.response_head(input, pieces),
            (State::WaitsForAnswer, _) if input.len() > MAX_HEAD => Err(Fault::TooEarly(MAX_HEAD)),
            (State::WaitsForAnswer, _) => Ok(None),
            _ => self.direction(from).step(from, input, pieces),
        }
        .inspect(|_| self.wait_for_answer(from))
    }

    /// Stops before the bytes after a request to switch protocols.
    fn wait_for_answer(&mut self, from: Role) {
        let wants_upgrade = self.unanswered.back().is_some_and(|asked| asked.wants_upgrade);
        if from == Role::Client && wants_upgrade && matches!(self.client.state, State::Head) {
            self.client.state = State::WaitsForAnswer;
        }
    }

    fn request_head(&mut self, input: &[u8], pieces: &mut Vec<Piece>) -> Taken {
        let Some(lines) = self.client.new_lines(input) else { return await_rest(input, REQUEST_TOO_LONG) };
        let (head, used) = match parse_request_head(lines, MAX_HEAD, MAX_HEAD) {
            Ok(Parse::Complete { value, used }) => (value, used),
            Ok(Parse::Partial) => return await_rest(input, REQUEST_TOO_LONG),
            Err(error) => return Err(Fault::Request(error)),
        };
        if self.unanswered.len() == MAX_UNANSWERED {
            return Err(Fault::TooManyRequests(MAX_UNANSWERED));
        }
        let framing = head.framing;
        let wants_upgrade = wants_upgrade(head.clone(), &input[..used]);
        self.unanswered.push_back(Asked { is_head: head.method == Method::Head, wants_upgrade });
        let follows = match framing {
            Framing::Empty => Follows::NextRequest,
            _ => Follows::Content(framing),
        };
        push_head(Part::RequestLine, &input[..used], follows, pieces);
        self.client.begin_content(framing, None, pieces);
        Ok(Some(used))
    }

    fn response_head(&mut self, input: &[u8], pieces: &mut Vec<Piece>) -> Taken {
        let Some(lines) = self.server.new_lines(input) else { return await_rest(input, RESPONSE_TOO_LONG) };
        let (head, used) = match parse_response_head(lines, MAX_HEAD) {
            Ok(Parse::Complete { value, used }) => (value, used),
            Ok(Parse::Partial) => return await_rest(input, RESPONSE_TOO_LONG),
            Err(error) => return Err(Fault::Response(error)),
        };
        let is_to_head = self.unanswered.front().is_some_and(|asked| asked.is_head);
        let framing = head.framing(is_to_head).map_err(Fault::Response)?;
        let follows = match head.status {
            101 if head.elements("upgrade").any(is_websocket) => Follows::Frames,
            101 => Follows::UnknownProtocol,
            100..=199 => Follows::FinalResponse,
            _ => Follows::Content(framing),
        };
        push_head(Part::StatusLine(head.status), &input[..used], follows, pieces);
        let lines = head.field("content-type").and_then(Lines::of_type);
        let lines = lines.filter(|_| !self.ignores_lines);
        self.server.begin_content(framing, lines, pieces);
        match follows {
            Follows::Frames => self.switch_protocols(|| State::FrameHeader),
            Follows::UnknownProtocol => self.switch_protocols(|| State::Unlabelled),
            Follows::FinalResponse => {}
            Follows::Content(_) | Follows::NextRequest => {
                self.unanswered.pop_front();
                if matches!(self.client.state, State::WaitsForAnswer) && self.unanswered.is_empty() {
                    self.client.state = State::Head;
                }
            }
        }
        Ok(Some(used))
    }

    /// Continues both directions with another protocol.
    fn switch_protocols(&mut self, next: fn() -> State) {
        for direction in [&mut self.client, &mut self.server] {
            if !matches!(direction.state, State::Unlabelled) {
                direction.state = next();
            }
        }
    }
}

impl Direction {
    fn kept(&self) -> usize {
        self.pending.len() + self.lines.as_ref().map_or(0, Lines::kept)
    }

    /// The complete lines of a head, if there are more of them than before. So an incomplete head is parsed again for
    /// each line, and not for each byte.
    fn new_lines<'a>(&mut self, input: &'a [u8]) -> Option<&'a [u8]> {
        let front = &input[..input.len().min(MAX_HEAD)];
        let length = front.iter().rposition(|&byte| byte == b'\n')? + 1;
        (mem::replace(&mut self.parsed, length) < length).then(|| &front[..length])
    }

    /// Labels the front of `input` in all states that do not depend on the other direction.
    fn step(&mut self, from: Role, input: &[u8], pieces: &mut Vec<Piece>) -> Taken {
        match &mut self.state {
            State::Head | State::WaitsForAnswer => Ok(None),
            _ if input.is_empty() => Ok(None),
            State::Content(left) => {
                let taken = at_most(input, *left);
                *left -= taken as u64;
                let is_over = *left == 0;
                self.push_content(Part::Content, &input[..taken], pieces);
                if is_over {
                    self.end_message(pieces);
                }
                Ok(Some(taken))
            }
            State::ContentUntilEnd => {
                self.push_content(Part::Content, input, pieces);
                Ok(Some(input.len()))
            }
            State::Chunks(_) => self.chunked(input, pieces).map_err(Fault::Chunk),
            State::FrameHeader => self.frame_header(from, input, pieces),
            State::Payload(header, arrived) => {
                let taken = at_most(input, header.length - *arrived);
                let (opcode, masking_key, offset) = (header.opcode, header.masking_key, *arrived);
                pieces.push(Piece::new(Part::Payload { opcode, masking_key, offset }, &input[..taken]));
                *arrived += taken as u64;
                if *arrived == header.length {
                    self.state = State::FrameHeader;
                }
                Ok(Some(taken))
            }
            State::Unlabelled => {
                pieces.push(Piece::new(Part::Unlabelled, input));
                Ok(Some(input.len()))
            }
        }
    }

    fn frame_header(&mut self, from: Role, input: &[u8], pieces: &mut Vec<Piece>) -> Taken {
        let Parse::Complete { value: header, used } = parse_header(input, from).map_err(Fault::Frame)? else {
            return Ok(None);
        };
        pieces.push(Piece::new(Part::FrameHeader(header), &input[..used]));
        if header.length > 0 {
            self.state = State::Payload(header, 0);
        }
        Ok(Some(used))
    }

    fn chunked(&mut self, input: &[u8], pieces: &mut Vec<Piece>) -> Result<Option<usize>, crate::http::ChunkError> {
        let State::Chunks(decoder) = &mut self.state else { return Ok(None) };
        let (element, mut data) = (decoder.expects(), Vec::new());
        let Some(taken) = decoder.step(input, &mut data, usize::MAX)? else { return Ok(None) };
        let part = match (element, decoder.expects()) {
            (Element::Size, Element::Data(size)) => Part::ChunkSize(size),
            (Element::Size, _) => Part::LastChunk,
            (Element::Data(_), _) => Part::ChunkData,
            (Element::DataEnd, _) => Part::ChunkEnd,
            (_, Element::Trailer) => Part::TrailerField,
            _ => Part::TrailerEnd,
        };
        let is_done = decoder.is_done();
        self.push_content(part, &input[..taken], pieces);
        if is_done {
            self.end_message(pieces);
        }
        Ok(Some(taken))
    }

    fn push_content(&mut self, part: Part, bytes: &[u8], pieces: &mut Vec<Piece>) {
        let is_content = matches!(part, Part::Content | Part::ChunkData);
        let lines = self.lines.as_mut().filter(|_| is_content).map(|lines| lines.read(bytes));
        pieces.push(Piece { lines: lines.unwrap_or_default(), ..Piece::new(part, bytes) });
    }

    fn begin_content(&mut self, framing: Framing, lines: Option<Lines>, pieces: &mut Vec<Piece>) {
        (self.lines, self.parsed) = (lines, 0);
        self.state = match framing {
            Framing::Empty | Framing::Length(0) => return self.end_message(pieces),
            Framing::Length(length) => State::Content(length),
            Framing::Chunked => State::Chunks(ChunkedDecoder::default()),
            Framing::UntilClose => State::ContentUntilEnd,
        };
    }

    fn end_message(&mut self, pieces: &mut Vec<Piece>) {
        self.state = State::Head;
        self.lines = None;
        pieces.push(Piece::new(Part::MessageEnd, b""));
    }
}

/// Waits for the rest of a head, unless it is too long already.
fn await_rest(input: &[u8], fault: Fault) -> Taken {
    if input.len() > MAX_HEAD { Err(fault) } else { Ok(None) }
}

fn at_most(input: &[u8], limit: u64) -> usize {
    input.len().min(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Labels the lines of a parsed head. Each ends with LF, and the last is empty. A folded field line is one line.
fn push_head(start_line: Part, head: &[u8], follows: Follows, pieces: &mut Vec<Piece>) {
    let mut start_line = Some(start_line);
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        if let (true, Some(Piece { part: Part::FieldLine, bytes, .. })) = (is_folded(line), pieces.last_mut()) {
            bytes.extend_from_slice(line);
            continue;
        }
        let is_empty = line.trim_ascii().is_empty();
        let part = match start_line.take() {
            Some(part) if is_empty => {
                start_line = Some(part);
                Part::EmptyLine
            }
            Some(part) => part,
            None if is_empty => Part::HeadEnd(follows),
            None => Part::FieldLine,
        };
        pieces.push(Piece::new(part, line));
    }
}

/// Whether a line continues the field line before it (RFC 9112, section 5.2).
fn is_folded(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

/// Whether a request asks to switch protocols. The Upgrade field needs `Connection: Upgrade` (RFC 9110, section 7.8).
fn wants_upgrade(head: RequestHead, bytes: &[u8]) -> bool {
    let request = Request::new(head, bytes.to_vec(), bytes.len());
    request.field("upgrade").is_some() && request.elements("connection").any(|e| e.eq_ignore_ascii_case(b"upgrade"))
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}
