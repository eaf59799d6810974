//! The connection alone, without a socket. Its clock is an argument.

use std::time::{Duration, Instant};

use overwire::connection::{Closed, Connection, Context, Demand, Outcome, Socket};
use overwire::http::{Origins, Request, RequestError, Response, chunk, parse_request_head};
use overwire::websocket::{self, Accepted, CloseCode, Message, Opcode};
use overwire::{Limits, Parse, Shared};

/// A connection, and its environment.
struct Bench {
    connection: Connection,
    limits: Limits,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let (mut limits, now) = (Limits::default(), Instant::now());
        change(&mut limits);
        let context =
            Context { limits: limits.clone(), now, date: "today".into(), draining: false, origins: Origins::default() };
        Bench { connection: Connection::new(&context), limits, now }
    }

    fn act<T>(&mut self, action: impl FnOnce(&mut Connection, &Context) -> T) -> T {
        let context = Context {
            limits: self.limits.clone(),
            now: self.now,
            date: "today".into(),
            draining: false,
            origins: Origins::default(),
        };
        action(&mut self.connection, &context)
    }

    fn demand(&self) -> Demand {
        self.connection.demand(&self.limits)
    }

    fn is_closed(&self) -> bool {
        self.demand().socket == Socket::Close
    }

    /// Receives `bytes` and returns the outcomes. Answers no request.
    fn receive(&mut self, mut bytes: &[u8]) -> Vec<Outcome> {
        self.connection.count_received(bytes.len());
        let mut outcomes = Vec::new();
        while let Some(outcome) = self.act(|connection, context| connection.receive(&mut bytes, context)) {
            outcomes.push(outcome);
        }
        assert!(bytes.is_empty(), "all bytes are taken");
        outcomes
    }

    /// Writes the whole outbox. Returns its bytes, and whether writing must be shut down.
    fn written(&mut self) -> (String, bool) {
        let mut bytes = Vec::new();
        while self.connection.queued() > 0 {
            self.connection.write_to(&mut bytes).unwrap();
        }
        let shut = self.act(|connection, context| connection.wrote(bytes.len(), context));
        (String::from_utf8_lossy(&bytes).into_owned(), shut)
    }

    /// Advances the time to the deadline, which must be `seconds` away.
    fn wait(&mut self, seconds: u64) -> Option<Outcome> {
        let deadline = self.demand().deadline.expect("there is a deadline");
        assert_eq!(deadline - self.now, Duration::from_secs(seconds));
        self.now = deadline;
        self.act(Connection::on_deadline)
    }

    fn respond(&mut self, text: &'static str) -> (String, bool) {
        self.act(|connection, context| connection.respond(&Response::text(200, text), context));
        self.written()
    }

    fn open_websocket(&mut self) {
        assert!(matches!(self.receive(GET)[..], [Outcome::Request(_)]));
        self.act(|connection, context| connection.upgrade(&accepted(), context));
        self.written();
    }
}

/// The acceptance of a valid handshake.
fn accepted() -> Accepted {
    let head = websocket::opening_request("h", "/", "dGhlIHNhbXBsZSBub25jZQ==");
    let Ok(Parse::Complete { value, used }) = parse_request_head(&head, 1024, 1024) else {
        panic!("the handshake is valid")
    };
    websocket::accept(&Request::new(value, head, used), &[]).expect("the handshake is valid")
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    websocket::encode(&mut out, opcode, payload, Some([1, 2, 3, 4]));
    out
}

#[test]
fn a_head_has_ten_seconds_from_its_first_byte() {
    let mut bench = Bench::new();
    bench.now += Duration::from_secs(50);
    assert!(bench.receive(b"\r\n\r\nGET / HT").is_empty());
    bench.now += Duration::from_secs(9);
    assert!(bench.receive(b"TP/1.1\r\n").is_empty());
    assert!(matches!(bench.wait(1), Some(Outcome::Refused(RequestError::HeadTimeout, _))));
    let (answer, shut) = bench.written();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("Connection: close\r\n") && shut);
}

#[test]
fn content_has_thirty_seconds() {
    let mut bench = Bench::new();
    assert!(bench.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab").is_empty());
    assert!(matches!(bench.wait(30), Some(Outcome::Refused(RequestError::ContentTimeout, _))));
}

#[test]
fn idle_connections_are_closed_after_75_seconds() {
    let mut bench = Bench::new();
    bench.receive(GET);
    assert_eq!(bench.demand().deadline, None, "the connection sets no deadline while a request is held");
    bench.respond("ok");
    assert!(bench.wait(75).is_none());
    assert_eq!(bench.written(), (String::new(), true));
    assert!(bench.wait(5).is_none());
    assert!(bench.is_closed());
}

#[test]
fn unread_answers_close_the_connection_after_75_seconds() {
    let mut bench = Bench::new();
    bench.receive(GET);
    bench.act(|connection, context| connection.respond(&Response::text(200, "ok"), context));
    assert!(bench.wait(75).is_none());
    assert!(bench.is_closed());
}

#[test]
fn pipelined_requests_wait_for_each_other() {
    let mut bench = Bench::new();
    let mut requests = GET.repeat(3);
    requests.extend_from_slice(b"GET /last");
    assert_eq!(bench.receive(&requests).len(), 1);
    assert!(bench.demand().read == 0, "a paused connection with a backlog reads nothing");
    for _ in 0..2 {
        assert!(bench.respond("ok").0.ends_with("ok"));
        assert_eq!(bench.receive(b"").len(), 1);
    }
    bench.respond("ok");
    assert!(bench.receive(b"").is_empty());
    assert!(matches!(bench.receive(b" HTTP/1.1\r\nHost: h\r\n\r\n")[..], [Outcome::Request(_)]));
}

#[test]
fn a_response_may_close_the_connection() {
    let mut bench = Bench::new();
    bench.receive(GET);
    let response = Response::text(200, "hello").with_close();
    bench.act(|connection, context| connection.respond(&response, context));
    let (answer, shuts_down) = bench.written();
    assert!(answer.contains("\r\nConnection: close\r\n") && shuts_down, "{answer}");
}

#[test]
fn bytes_after_an_upgrade_are_frames() {
    let mut bench = Bench::new();
    let bytes = [GET, &masked(Opcode::Text, b"GET / HTTP/1.1\r\n\r\n")].concat();
    assert_eq!(bench.receive(&bytes).len(), 1);
    bench.act(|connection, context| connection.upgrade(&accepted(), context));
    assert!(matches!(&bench.receive(b"")[..], [Outcome::Message(Message::Text(text))] if text.starts_with("GET")));
}

#[test]
fn silent_websockets_are_pinged_and_then_closed() {
    let mut bench = Bench::new();
    bench.open_websocket();
    assert!(bench.wait(20).is_none());
    assert_eq!(bench.written().0, "\u{fffd}\0", "a Ping: 89 00");
    assert!(bench.receive(&masked(Opcode::Pong, b"")).is_empty());
    assert!(bench.wait(20).is_none());
    assert!(matches!(bench.wait(20), Some(Outcome::Closed(Closed::TimedOut))));
    assert!(bench.is_closed());
}

/// A fragment that begins or goes on with a message, but does not end it.
fn fragment(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked(opcode, payload);
    frame[0] &= 0x7f;
    frame
}

/// Receives one of `pieces` each second, and answers no Ping. Returns the number of seconds until the connection ends,
/// and the bytes that it has sent.
fn seconds_of(pieces: &[Vec<u8>]) -> (usize, String) {
    let (mut bench, mut sent) = (Bench::new(), String::new());
    bench.open_websocket();
    for (second, piece) in pieces.iter().enumerate() {
        while bench.demand().deadline.is_some_and(|deadline| deadline <= bench.now) {
            let outcome = bench.act(Connection::on_deadline);
            sent += &bench.written().0;
            if let Some(outcome) = outcome {
                assert!(matches!(outcome, Outcome::Closed(Closed::TimedOut)), "{outcome:?}");
                return (second, sent);
            }
        }
        assert!(bench.receive(piece).is_empty(), "no message is complete");
        bench.now += Duration::from_secs(1);
    }
    panic!("the connection has not ended: {:?}", bench.connection);
}

#[test]
fn a_message_has_thirty_seconds_from_its_first_byte() {
    let bytes = |frame: &[u8]| frame.iter().map(|byte| vec![*byte]).collect::<Vec<_>>();
    let first = fragment(Opcode::Text, b"a");
    let mut fragments = vec![first.clone()];
    fragments.resize(50, fragment(Opcode::Continuation, b"a"));
    let mut pings = vec![first.clone()];
    pings.resize(50, masked(Opcode::Ping, b""));
    let mut ping_in_one_read = vec![[first, masked(Opcode::Ping, b"")].concat()];
    ping_in_one_read.resize(50, Vec::new());
    let mut header = vec![vec![0x81]];
    header.resize(50, Vec::new());
    for (pieces, answers) in [
        (bytes(&masked(Opcode::Text, &[b'a'; 60])), ""),
        (bytes(&masked(Opcode::Ping, &[b'a'; 60])), ""),
        (fragments, ""),
        (header, ""),
        (pings, "\u{fffd}\0"),
        (ping_in_one_read, ""),
    ] {
        let (seconds, sent) = seconds_of(&pieces);
        assert_eq!(seconds, 30, "{sent:?}");
        assert!(sent.starts_with("\u{fffd}\0"), "it was pinged after 20 seconds, or its Pings were answered: {sent:?}");
        assert!(sent.ends_with("\u{3}\u{fffd}a message must be complete 30 s after its first byte"), "1008: {sent:?}");
        assert!(sent.contains(answers));
    }
}

#[test]
fn each_message_has_its_own_thirty_seconds() {
    let mut bench = Bench::new();
    bench.open_websocket();
    let whole = masked(Opcode::Text, b"hello");
    let (front, back) = whole.split_at(4);
    for _ in 0..5 {
        assert!(bench.receive(front).is_empty());
        assert!(bench.wait(20).is_none(), "a Ping");
        assert!(bench.written().0.ends_with("\u{fffd}\0"));
        bench.now += Duration::from_secs(9);
        let outcomes = bench.receive(&[back, front].concat());
        assert!(matches!(&outcomes[..], [Outcome::Message(Message::Text(text))] if text == "hello"));
        assert!(bench.wait(20).is_none(), "a Ping, 20 seconds after the message");
        bench.written();
        assert_eq!(bench.receive(back).len(), 1);
        let ping = bench.demand().deadline.unwrap() - bench.now;
        assert_eq!(ping, Duration::from_secs(20));
    }
    assert!(bench.wait(20).is_none());
    assert!(matches!(bench.wait(20), Some(Outcome::Closed(Closed::TimedOut))), "it answers no Ping");
    assert!(!bench.written().0.contains("message"));
}

#[test]
fn a_message_has_more_time_while_its_peer_does_not_read() {
    let mut bench = Bench::with(|limits| limits.outbox = 1000);
    bench.open_websocket();
    let whole = masked(Opcode::Text, b"hello");
    assert!(bench.receive(&whole[..4]).is_empty());
    assert!(bench.act(|connection, context| connection.send(&Shared::from(vec![b'x'; 900]), context)).is_none());
    assert!(bench.wait(20).is_none(), "a Ping");
    assert!(bench.receive(&whole[4..]).is_empty(), "nothing is decoded");
    assert!(bench.wait(10).is_none(), "its last byte is here");
    bench.written();
    assert_eq!(bench.receive(b"").len(), 1);
    assert!(bench.wait(20).is_none(), "a Ping");

    // A message that it does not end is still timed.
    bench.receive(&fragment(Opcode::Text, b"a"));
    assert!(bench.wait(20).is_none(), "a Ping");
    bench.written();
    bench.now += Duration::from_secs(10);
    assert!(bench.act(|connection, context| connection.send(&Shared::from(vec![b'x'; 900]), context)).is_none());
    assert!(bench.act(Connection::on_deadline).is_none(), "it does not read");
    bench.written();
    for _ in 0..2 {
        bench.receive(&masked(Opcode::Pong, b""));
        assert!(bench.wait(20).is_none(), "a Ping");
        bench.written();
    }
    bench.receive(&masked(Opcode::Pong, b""));
    assert!(matches!(bench.wait(10), Some(Outcome::Closed(Closed::TimedOut))));
    assert!(bench.written().0.contains("30 s"));
}

#[test]
fn a_closing_handshake_has_five_seconds() {
    let mut bench = Bench::new();
    bench.open_websocket();
    bench.act(|connection, context| connection.close(CloseCode::GOING_AWAY, "", context));
    assert!(bench.receive(&masked(Opcode::Text, b"too late")).is_empty());
    assert!(!bench.written().1, "writing is shut down after the peer's Close, not before");
    assert!(bench.wait(5).is_none(), "the program closed the WebSocket itself, so there is no event");
    assert!(bench.is_closed());
}

#[test]
fn slow_consumers_are_cut_and_get_the_reason() {
    for websocket in [true, false] {
        let mut bench = Bench::with(|limits| limits.outbox = 1000);
        bench.receive(GET);
        bench.act(|connection, context| match websocket {
            true => connection.upgrade(&accepted(), context),
            false => assert!(connection.begin(&Response::new(200), context).is_none()),
        });
        bench.written();
        let piece = if websocket { websocket::text(&"x".repeat(300)) } else { chunk(&[b'x'; 300]) };
        let mut sends = 0;
        let cut = loop {
            sends += 1;
            if let Some(outcome) = bench.act(|connection, context| connection.send(&piece, context)) {
                break outcome;
            }
        };
        assert!(matches!(cut, Outcome::Closed(Closed::SlowConsumer)));
        assert_eq!(sends, 4, "the outbox has room for three");
        let (text, shut) = bench.written();
        assert_eq!(text.matches('x').count(), 900, "queued messages are still delivered");
        assert_eq!((shut, text.contains("too slow")), (true, websocket), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "a cut stream has no last chunk");
    }
}

#[test]
fn an_empty_outbox_takes_one_item_of_any_size() {
    let mut bench = Bench::with(|limits| limits.outbox = 1000);
    bench.open_websocket();
    let large = Shared::from(vec![b'x'; 5000]);
    assert!(bench.act(|connection, context| connection.send(&large, context)).is_none());
    assert!(bench.act(|connection, context| connection.send(&large, context)).is_some());
}

#[test]
fn reading_from_the_outbox_counts_as_activity() {
    let mut bench = Bench::with(|limits| limits.outbox = 1000);
    bench.open_websocket();
    assert!(bench.act(|connection, context| connection.send(&Shared::from(vec![b'x'; 900]), context)).is_none());
    assert!(bench.wait(20).is_none(), "the peer is pinged");
    let (written, _) = bench.written();
    assert!(written.ends_with("\u{fffd}\0"), "the Ping follows the message: {written:?}");
    assert!(bench.wait(20).is_none(), "the peer is pinged again, because it has read from the outbox");
    assert!(matches!(bench.wait(20), Some(Outcome::Closed(Closed::TimedOut))), "the second Ping gets no answer");
}

#[test]
fn unread_pongs_pause_decoding() {
    let mut bench = Bench::with(|limits| limits.outbox = 1000);
    bench.open_websocket();
    let pings = masked(Opcode::Ping, &[b'?'; 100]).repeat(100);
    assert!(bench.receive(&pings).is_empty());
    assert!(bench.connection.cost() < 700, "decoding pauses at half of the outbox");
    let mut pongs = 0;
    while bench.connection.queued() > 0 {
        pongs += bench.written().0.matches(&"?".repeat(100)).count();
        bench.receive(b"");
    }
    assert_eq!(pongs, 100, "decoding continues when the peer reads the pongs");
}

#[test]
fn empty_lines_after_pipelined_requests_are_dropped() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(&[GET, GET, b"\r\n"].concat()).len(), 1);
    for _ in 0..2 {
        bench.respond("hello");
        bench.receive(b"");
    }
    let connection = format!("{:?}", bench.connection);
    assert!(connection.contains("backlog: Backlog { bytes: [], consumed: 0,"), "{connection}");
}

#[test]
fn incomplete_input_is_not_decoded_again() {
    for part in ["GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5"] {
        let mut bench = Bench::new();
        for byte in part.bytes() {
            assert!(bench.receive(&[byte]).is_empty());
            assert!(!bench.demand().decode, "the event loop would decode without end");
        }
    }
    let mut bench = Bench::new();
    bench.open_websocket();
    assert!(bench.receive(&[0x81]).is_empty());
    assert!(!bench.demand().decode);
}

#[test]
fn stale_operations_do_nothing() {
    let mut bench = Bench::new();
    bench.act(|connection, context| {
        connection.respond(&Response::text(200, "unsolicited"), context);
        connection.begin(&Response::new(200), context);
        connection.end(context);
        connection.close(CloseCode::NORMAL, "", context);
        assert!(connection.send(&chunk(b"x"), context).is_none());
        assert!(connection.send_message(Message::Text("x".into()), context).is_none());
    });
    assert_eq!(bench.written(), (String::new(), false));
}

#[test]
fn a_hang_up_is_reported_once() {
    let mut bench = Bench::new();
    bench.receive(GET);
    assert!(matches!(bench.act(Connection::end_of_input), Some(Outcome::Closed(Closed::HungUp))));
    assert!(bench.act(Connection::end_of_input).is_none());
    assert!(bench.connection.lose(Closed::Reset).is_none());
}

#[test]
fn incomplete_requests_are_refused_at_the_end_of_input() {
    let mut bench = Bench::new();
    bench.receive(b"GET / HTTP/1.1\r\nHo");
    assert!(matches!(bench.act(Connection::end_of_input), Some(Outcome::Refused(RequestError::EndedEarly, _))));
    assert!(bench.written().0.starts_with("HTTP/1.1 400 "));
}
