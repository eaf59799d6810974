//! Groups: each member receives what was sent to its group and what was sent to it alone in one order, and byte for
//! byte. The operations are random and repeatable; a model says what each client is to receive.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::common::PATIENCE;
use overwire::http::{LAST_CHUNK, Response, chunk};
use overwire::websocket::{self, CloseCode, Message};
use overwire::{Closed, Event, EventLoop, ExchangeId, GroupId, Limits, Shared};

/// A loop and its clients, in one thread.
struct Program {
    event_loop: EventLoop,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    WebSocket,
    Chunks,
    /// A stream to an HTTP/1.0 client: data without chunks.
    Data,
}

/// An exchange, its client, and the model of both.
struct Member {
    id: ExchangeId,
    client: TcpStream,
    kind: Kind,
    expected: Vec<u8>,
    group: Option<usize>,
    is_open: bool,
}

impl Member {
    fn expect(&mut self, bytes: &Shared) {
        self.expected.extend_from_slice(if self.kind == Kind::Data { bytes.unframed() } else { bytes });
    }
}

impl Program {
    fn new(limits: Limits) -> Self {
        Program { event_loop: EventLoop::bind("127.0.0.1:0", limits).unwrap(), members: Vec::new() }
    }

    /// Opens a stream or a WebSocket, and reads its head.
    fn open(&mut self, kind: Kind) -> usize {
        let mut client = TcpStream::connect(self.event_loop.local_address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = match kind {
            Kind::WebSocket => websocket::opening_request("h", "/", "dGhlIHNhbXBsZSBub25jZQ=="),
            Kind::Chunks => b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            Kind::Data => b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        };
        client.write_all(&request).unwrap();
        let id = loop {
            if let Event::Request(id, request) = self.event_loop.next_event().unwrap() {
                match websocket::accept(&request, &[]) {
                    Ok(accepted) => self.event_loop.upgrade(id, accepted),
                    Err(_) => self.event_loop.begin(id, Response::new(200)),
                }
                break id;
            }
        };
        self.turn();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        self.members.push(Member { id, client, kind, expected: Vec::new(), group: None, is_open: true });
        self.members.len() - 1
    }

    /// Lets the loop flush. Returns the events.
    fn turn(&mut self) -> Vec<Event> {
        let timer = self.event_loop.set_timer(Duration::from_millis(1));
        let mut events = Vec::new();
        loop {
            match self.event_loop.next_event().unwrap() {
                Event::Timer(due) if due == timer => return events,
                event => events.push(event),
            }
        }
    }

    /// Ends everything, and compares what each client has received with the model.
    fn finish(mut self, what: &str) {
        for at in 0..self.members.len() {
            self.end(at);
        }
        let read = |member: &Member| {
            let (mut client, kind) = (member.client.try_clone().unwrap(), member.kind);
            std::thread::spawn(move || {
                let mut received = Vec::new();
                if kind == Kind::WebSocket {
                    client.write_all(b"\x88\x80\0\0\0\0").unwrap(); // the answer to the Close
                }
                client.read_to_end(&mut received).unwrap();
                client.shutdown(Shutdown::Both).ok();
                received
            })
        };
        let readers: Vec<_> = self.members.iter().map(read).collect();
        self.event_loop.drain().unwrap();
        for (at, (member, reader)) in self.members.iter().zip(readers).enumerate() {
            let received = reader.join().unwrap();
            let kind = member.kind;
            let same = received.iter().zip(&member.expected).take_while(|(one, other)| one == other).count();
            assert!(received == member.expected, "{what}: member {at}, {kind:?}: differs at {same}");
        }
    }

    fn send(&mut self, at: usize, bytes: &Shared) {
        let member = &mut self.members[at];
        self.event_loop.send(member.id, bytes);
        if member.is_open {
            member.expect(bytes);
        }
    }

    /// Closes a WebSocket with a code and a reason.
    fn close(&mut self, at: usize) {
        let member = &mut self.members[at];
        self.event_loop.close(member.id, CloseCode::GOING_AWAY, "bye");
        if std::mem::take(&mut member.is_open) {
            member.expected.extend_from_slice(b"\x88\x05\x03\xe9bye");
        }
        member.group = None;
    }

    fn end(&mut self, at: usize) {
        let member = &mut self.members[at];
        if std::mem::take(&mut member.is_open) {
            self.event_loop.end(member.id);
            match member.kind {
                Kind::WebSocket => member.expected.extend_from_slice(b"\x88\x02\x03\xe8"),
                Kind::Chunks => member.expected.extend_from_slice(LAST_CHUNK),
                Kind::Data => {}
            }
        }
        member.group = None;
    }
}

/// A repeatable sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

/// One random history of two groups and six members.
fn history(seed: u64) {
    let mut numbers = Numbers(seed);
    let outbox = [1024 * 1024, 300_000][numbers.below(2)];
    let mut program = Program::new(Limits { outbox, drain_time: PATIENCE, ..Limits::default() });
    let groups: [GroupId; 2] = [program.event_loop.group(), program.event_loop.group()];
    // A group has members of one kind: they get the same bytes.
    let kinds = [[Kind::WebSocket, Kind::WebSocket], [Kind::Chunks, Kind::Data]];
    for at in 0..6 {
        let group = numbers.below(2);
        let kind = kinds[group][at % 2];
        program.open(kind);
    }
    let encode = |group: usize, payload: &[u8]| if group == 0 { websocket::binary(payload) } else { chunk(payload) };
    let lengths = [1, 20, 126, 130, 1000, 3000, 20_000];
    for step in 0..60 {
        let (at, group) = (numbers.below(6), numbers.below(2));
        let own = usize::from(program.members[at].kind != Kind::WebSocket);
        let payload = vec![step as u8; lengths[numbers.below(lengths.len())]];
        match numbers.below(12) {
            0..5 => {
                let bytes = encode(group, &payload);
                program.event_loop.send_to_group(groups[group], &bytes);
                let members = program.members.iter_mut().filter(|member| member.group == Some(group));
                members.for_each(|member| member.expect(&bytes));
            }
            5 => program.send(at, &encode(own, &payload)),
            6 if program.members[at].kind == Kind::WebSocket => {
                program.event_loop.send_message(program.members[at].id, Message::Binary(payload.clone()));
                if program.members[at].is_open {
                    program.members[at].expect(&websocket::binary(&payload));
                }
            }
            7 | 8 => {
                program.event_loop.join(groups[own], program.members[at].id);
                program.members[at].group = program.members[at].is_open.then_some(own);
                let joined = program.members[at].group.map(|_| groups[own]);
                assert_eq!(program.event_loop.group_of(program.members[at].id), joined);
            }
            9 => {
                program.event_loop.leave(program.members[at].id);
                program.members[at].group = None;
            }
            10 if numbers.below(8) == 0 && program.members[at].kind == Kind::WebSocket => program.close(at),
            10 if numbers.below(4) == 0 => program.end(at),
            _ => assert!(program.turn().is_empty()),
        }
        let Member { id, ref expected, .. } = program.members[at];
        if program.members[at].is_open {
            assert!(program.event_loop.waiting(id) <= expected.len(), "seed {seed}, step {step}");
        }
    }
    program.finish(&format!("seed {seed}"));
}

#[test]
fn members_receive_everything_in_order() {
    for seed in 0..60 {
        history(seed);
    }
}

/// The program, a group of WebSockets, and a message.
fn group_of_two() -> (Program, GroupId, Shared) {
    let mut program = Program::new(Limits::default());
    let group = program.event_loop.group();
    for at in 0..2 {
        program.open(Kind::WebSocket);
        program.event_loop.join(group, program.members[at].id);
    }
    (program, group, websocket::text("to all"))
}

#[test]
fn pending_bytes_are_counted() {
    let (mut program, group, bytes) = group_of_two();
    let id = program.members[0].id;
    let before = program.event_loop.traffic(id).sent;
    for count in 1..=3 {
        program.event_loop.send_to_group(group, &bytes);
        assert_eq!(program.event_loop.waiting(id), count * bytes.len());
        assert_eq!(program.event_loop.traffic(id).sent - before, (count * bytes.len()) as u64);
    }
    program.turn();
    assert_eq!(program.event_loop.waiting(id), 0);
    assert_eq!(program.event_loop.traffic(id).sent - before, (3 * bytes.len()) as u64);
}

#[test]
fn a_removed_group_delivers_what_it_was_sent() {
    let (mut program, group, bytes) = group_of_two();
    program.event_loop.send_to_group(group, &bytes);
    program.event_loop.remove_group(group);
    program.event_loop.send_to_group(group, &bytes);
    program.event_loop.join(group, program.members[0].id);
    for at in 0..2 {
        assert_eq!(program.event_loop.group_of(program.members[at].id), None);
        program.members[at].expect(&bytes);
    }
    program.finish("removed");
}

#[test]
fn a_slow_member_is_closed_and_the_others_go_on() {
    let mut program = Program::new(Limits { outbox: 200_000, ..Limits::default() });
    let group = program.event_loop.group();
    let (slow, quick) = (program.open(Kind::WebSocket), program.open(Kind::WebSocket));
    for at in [slow, quick] {
        program.event_loop.join(group, program.members[at].id);
    }
    let bytes = websocket::binary(&[b'x'; 30_000]);
    let mut client = program.members[quick].client.try_clone().unwrap();
    let mut rounds = 0;
    loop {
        rounds += 1;
        for _ in 0..3 {
            program.event_loop.send_to_group(group, &bytes);
        }
        let events = program.turn();
        let mut received = vec![0; 3 * bytes.len()];
        client.read_exact(&mut received).unwrap();
        if let Some(event) = events.into_iter().next() {
            let Event::Closed(id, why) = event else { panic!("{event:?}") };
            break assert_eq!((id, why), (program.members[slow].id, Closed::SlowConsumer));
        }
        assert!(rounds < 1000, "an outbox without a bound");
    }
    assert_eq!(program.event_loop.group_of(program.members[slow].id), None);
    assert_eq!(program.event_loop.group_of(program.members[quick].id), Some(group));
}

#[test]
fn a_closed_or_reset_member_leaves_its_group() {
    let (mut program, group, bytes) = group_of_two();
    let ids = [program.members[0].id, program.members[1].id];
    program.event_loop.send_to_group(group, &bytes);
    program.event_loop.close(ids[0], CloseCode::GOING_AWAY, "");
    program.event_loop.reset(ids[1]);
    program.event_loop.send_to_group(group, &bytes);
    assert_eq!(ids.map(|id| program.event_loop.group_of(id)), [None, None]);
    assert!(program.turn().is_empty());
    let mut received = vec![0; bytes.len() + 4];
    program.members[0].client.read_exact(&mut received).unwrap();
    assert_eq!(received, [&bytes[..], b"\x88\x02\x03\xe9"].concat(), "its share, and then the Close");
    assert!(program.members[1].client.read(&mut [0]).is_err());
}

#[test]
fn pong_and_close_follow_what_the_group_was_sent_before() {
    let (mut program, group, bytes) = group_of_two();
    // All masked with zeros: a text, a Ping, another text, and a Close.
    let frames = b"\x81\x81\0\0\0\0a\x89\x81\0\0\0\0p\x81\x81\0\0\0\0b\x88\x82\0\0\0\0\x03\xe8";
    program.members[0].client.write_all(frames).unwrap();
    loop {
        match program.event_loop.next_event().unwrap() {
            Event::Message(..) => program.event_loop.send_to_group(group, &bytes),
            Event::Closed(..) => break,
            other => panic!("{other:?}"),
        }
    }
    program.turn();
    let expected = [&bytes[..], b"\x8a\x01p", &bytes, b"\x88\x02\x03\xe8"].concat();
    let mut received = vec![0; expected.len()];
    program.members[0].client.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
}

#[test]
fn a_member_that_hangs_up_gets_nothing_more() {
    let (mut program, group, bytes) = group_of_two();
    let gone = program.members.remove(0);
    drop(gone.client);
    loop {
        program.event_loop.send_to_group(group, &bytes);
        program.members[0].expect(&bytes);
        if let Some(event) = program.turn().pop() {
            assert!(matches!(event, Event::Closed(id, _) if id == gone.id), "{event:?}");
            break;
        }
    }
    program.finish("hung up");
}
