//! Raw connections: accepted and outgoing ones, their ends, their backpressure, and their hand-over to HTTP. The loop
//! and its peers share one thread here: what the one has written lies in the system's buffers until the other reads it.

use std::ffi::c_int;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::common::PATIENCE;
use overwire::http::Response;
use overwire::{Closed, Event, EventLoop, ExchangeId, Limits, ListenerId, Opened, Shared, Speaks, TimerId};

/// A loop with a raw listener. Every wait ends after [`PATIENCE`].
struct Program {
    event_loop: EventLoop,
    listener: ListenerId,
    address: SocketAddr,
    alarm: TimerId,
}

impl Program {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut event_loop = EventLoop::new(limits).unwrap();
        let listener = event_loop.listen("127.0.0.1:0", Speaks::Raw).unwrap();
        let address = event_loop.address_of(listener).unwrap();
        let alarm = event_loop.set_timer(PATIENCE);
        Program { event_loop, listener, address, alarm }
    }

    fn next(&mut self) -> Event {
        match self.event_loop.next_event().unwrap() {
            Event::Timer(timer) if timer == self.alarm => panic!("timed out waiting for an event"),
            event => event,
        }
    }

    /// Runs the loop until it has handled all input. Returns its events.
    fn turn(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..3 {
            // It is due after the loop has flushed and has looked at its sockets.
            let timer = self.event_loop.set_timer(Duration::from_millis(1));
            loop {
                match self.next() {
                    Event::Timer(due) if due == timer => break,
                    event => events.push(event),
                }
            }
        }
        events
    }

    /// Opens a connection from outside.
    fn accept(&mut self) -> (ExchangeId, TcpStream) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        match self.next() {
            Event::Opened(id, opened) => {
                let peer = client.local_addr().unwrap();
                assert_eq!(opened, Opened::Accepted { listener: self.listener, peer });
                (id, client)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Opens a connection to `target`, which is still to accept it.
    fn connect(&mut self, target: &TcpListener) -> ExchangeId {
        let id = self.event_loop.connect(target.local_addr().unwrap()).unwrap();
        assert!(matches!(self.next(), Event::Opened(opened, Opened::Connected) if opened == id));
        id
    }

    /// Receives `count` bytes on one connection. All other events except `Drained` fail the test.
    fn receive(&mut self, from: ExchangeId, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < count {
            match self.next() {
                Event::Bytes(id, bytes) if id == from => received.extend(bytes),
                Event::Drained(id) if id == from => {}
                other => panic!("{other:?}"),
            }
        }
        received
    }

    fn expect_end(&mut self, of: ExchangeId) {
        assert!(matches!(self.next(), Event::EndOfInput(id) if id == of));
    }

    fn expect_drained(&mut self, of: ExchangeId) {
        assert!(matches!(self.next(), Event::Drained(id) if id == of));
    }

    fn expect_closed(&mut self, of: ExchangeId, why: Closed) {
        match self.next() {
            Event::Closed(id, reason) => assert_eq!((id, reason), (of, why)),
            other => panic!("{other:?}"),
        }
    }
}

/// Bytes in which no sequence repeats.
fn pattern(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(next).collect()
}

fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read_exactly(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    let sent = pattern(300_000);
    client.set_nonblocking(true).unwrap();
    let (mut written, mut received) = (0, Vec::new());
    while received.len() < sent.len() {
        match client.write(&sent[written..]) {
            Ok(count) => written += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        match program.next() {
            Event::Bytes(from, bytes) if from == id => {
                assert!((1..=64 * 1024).contains(&bytes.len()));
                received.extend(bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(received == sent);
    for byte in b"one by one" {
        client.write_all(&[*byte]).unwrap();
        assert_eq!(program.receive(id, 1), [*byte]);
    }
    assert_eq!(program.event_loop.traffic(id).received, 300_010);
}

#[test]
fn the_peer_ends_first_and_is_still_answered() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(program.receive(id, 8), b"question");
    program.expect_end(id);
    assert!(program.turn().is_empty(), "the program's side is open");
    program.event_loop.send_bytes(id, b"answer".to_vec());
    program.expect_drained(id);
    assert_eq!(read_exactly(&client, 6), b"answer");
    program.event_loop.send_bytes(id, b", and the rest".to_vec());
    program.event_loop.end(id);
    program.event_loop.send_bytes(id, b"nothing follows an end".to_vec());
    program.expect_closed(id, Closed::Finished);
    assert_eq!(read_all(&client), b", and the rest");
    program.turn();
    assert_eq!(program.event_loop.connections(), 0);
}

#[test]
fn the_program_ends_first_and_still_receives() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    program.event_loop.send_bytes(id, b"question".to_vec());
    program.event_loop.end(id);
    assert!(program.turn().is_empty(), "no `Drained` follows an end");
    assert_eq!(read_all(&client), b"question");
    client.write_all(b"answer").unwrap();
    assert_eq!(program.receive(id, 6), b"answer");
    drop(client);
    program.expect_end(id);
    program.expect_closed(id, Closed::Finished);
}

#[test]
fn an_end_without_bytes_is_passed_on_at_once() {
    let mut program = Program::new();
    let (id, client) = program.accept();
    program.event_loop.end(id);
    program.turn();
    assert_eq!(read_all(&client), b"");
}

#[test]
fn a_paused_connection_is_not_read() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    program.event_loop.pause(id);
    let sent = pattern(16 * 1024 * 1024);
    client.set_nonblocking(true).unwrap();
    let mut written = 0;
    // It writes until the buffers of the system are full and stay so.
    loop {
        let before = written;
        while let Ok(count) = client.write(&sent[written..]) {
            written += count;
        }
        assert!(program.turn().is_empty(), "it is paused");
        if written == before {
            break;
        }
    }
    assert!(written < sent.len(), "backpressure reaches the peer");
    assert_eq!(program.event_loop.traffic(id).received, 0);
    program.event_loop.resume(id);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        if let Event::Bytes(_, bytes) = program.next() {
            received.extend(bytes);
        }
        // Now and then it is paused again, in the middle of its turn.
        if received.len() % 5 == 0 {
            program.event_loop.pause(id);
            assert!(program.turn().is_empty());
            program.event_loop.resume(id);
        }
        while let Ok(count @ 1..) = client.write(&sent[written..]) {
            written += count;
        }
    }
    assert!(received == sent);
}

#[test]
fn the_end_of_input_comes_after_a_pause() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    program.event_loop.pause(id);
    client.write_all(b"before the end").unwrap();
    drop(client);
    assert!(program.turn().is_empty());
    program.event_loop.resume(id);
    assert_eq!(program.receive(id, 14), b"before the end");
    program.expect_end(id);
}

#[test]
fn a_drained_outbox_is_reported() {
    const STEP: usize = 100_000;
    let mut program = Program::new();
    let (id, client) = program.accept();
    let sent = pattern(60 * STEP);
    let expected = sent.clone();
    let reader = std::thread::spawn(move || assert!(read_exactly(&client, expected.len()) == expected));
    for bytes in sent.chunks(STEP) {
        program.event_loop.send_bytes(id, bytes.to_vec());
        if program.event_loop.waiting(id) > 3 * STEP {
            program.expect_drained(id);
            assert_eq!(program.event_loop.waiting(id), 0);
        }
    }
    program.turn();
    reader.join().unwrap();
    assert_eq!(program.event_loop.traffic(id).sent, sent.len() as u64);
}

#[test]
fn a_full_outbox_resets_the_connection() {
    let mut program = Program::with(Limits { outbox: 100_000, ..Limits::default() });
    let (id, client) = program.accept();
    let why = loop {
        program.event_loop.send_bytes(id, vec![b'x'; 30_000]);
        assert!(program.event_loop.waiting(id) <= 100_000);
        match program.turn().pop() {
            None | Some(Event::Drained(_)) => {}
            Some(Event::Closed(closed, why)) if closed == id => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(why, Closed::SlowConsumer);
    let error = (&client).read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "an orderly end would say that this is all");
}

#[test]
fn an_empty_outbox_takes_more_than_the_limit() {
    let mut program = Program::with(Limits { outbox: 1000, ..Limits::default() });
    let (id, client) = program.accept();
    program.event_loop.send_bytes(id, vec![b'x'; 50_000]);
    program.expect_drained(id);
    assert_eq!(read_exactly(&client, 50_000), [b'x'; 50_000]);
}

#[test]
fn an_outgoing_connection_carries_bytes_both_ways() {
    let mut program = Program::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = program.event_loop.connect(target.local_addr().unwrap()).unwrap();
    program.event_loop.send_bytes(id, b"before it is open".to_vec());
    assert!(matches!(program.next(), Event::Opened(opened, Opened::Connected) if opened == id));
    program.expect_drained(id);
    let (mut peer, _) = target.accept().unwrap();
    assert_eq!(read_exactly(&peer, 17), b"before it is open");
    peer.write_all(b"answer").unwrap();
    assert_eq!(program.receive(id, 6), b"answer");
    program.event_loop.end(id);
    program.turn();
    assert_eq!(read_all(&peer), b"");
    drop(peer);
    program.expect_end(id);
    program.expect_closed(id, Closed::Finished);
}

#[test]
fn an_end_before_the_connection_is_open_waits_for_it() {
    let mut program = Program::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = program.event_loop.connect(target.local_addr().unwrap()).unwrap();
    program.event_loop.send_bytes(id, b"all".to_vec());
    program.event_loop.end(id);
    assert!(matches!(program.next(), Event::Opened(opened, _) if opened == id));
    program.turn();
    assert_eq!(read_all(&target.accept().unwrap().0), b"all");
}

#[test]
fn a_port_without_a_listener_refuses() {
    let mut program = Program::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let id = program.event_loop.connect(address).unwrap();
    program.expect_closed(id, Closed::Refused(ErrorKind::ConnectionRefused));
    program.turn();
    assert_eq!(program.event_loop.connections(), 0);
}

unsafe extern "C" {
    fn listen(socket: c_int, backlog: c_int) -> c_int;
}

/// A listener whose queue is full. The system drops the SYN of another connection.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: the descriptor is open. Calling listen(2) again only sets the length of the queue.
    assert_eq!(unsafe { listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let open = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let clients = std::iter::from_fn(open).take(8).collect();
    (listener, clients)
}

#[test]
fn a_peer_that_does_not_accept_in_time_is_given_up() {
    let (listener, _clients) = full_listener();
    let mut program = Program::with(Limits { connect_time: PATIENCE / 2, ..Limits::default() });
    let id = program.event_loop.connect(listener.local_addr().unwrap()).unwrap();
    let remote = program.event_loop.remote();
    remote.advance_clock(PATIENCE / 4);
    assert!(program.turn().is_empty());
    remote.advance_clock(PATIENCE / 4);
    program.expect_closed(id, Closed::TimedOut);
}

#[test]
fn an_outgoing_connection_can_be_dropped_before_it_is_open() {
    let mut program = Program::new();
    let (listener, _clients) = full_listener();
    for drop in [EventLoop::reset as fn(&mut EventLoop, ExchangeId), |event_loop, id| {
        event_loop.close(id, overwire::websocket::CloseCode::NORMAL, "")
    }] {
        let id = program.event_loop.connect(listener.local_addr().unwrap()).unwrap();
        drop(&mut program.event_loop, id);
        assert!(program.turn().is_empty());
        assert_eq!(program.event_loop.connections(), 0);
    }
}

#[test]
fn a_reset_reaches_the_peer() {
    let mut program = Program::new();
    let (id, client) = program.accept();
    program.event_loop.send_bytes(id, b"never written".to_vec());
    program.event_loop.reset(id);
    assert!(program.turn().is_empty(), "the program knows what it has done");
    let error = (&client).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_by_the_peer_is_reported_after_its_last_bytes() {
    let mut program = Program::new();
    for writes in [false, true] {
        let (id, mut client) = program.accept();
        program.event_loop.send_bytes(id, b"unread".to_vec());
        program.expect_drained(id);
        client.peek(&mut [0]).unwrap();
        client.write_all(b"last words").unwrap();
        drop(client); // with unread bytes: the system resets
        if writes {
            program.event_loop.send_bytes(id, b"too late".to_vec());
        }
        assert_eq!(program.receive(id, 10), b"last words");
        loop {
            match program.next() {
                Event::Drained(_) => {} // of what was written in vain
                Event::Closed(closed, why) => break assert_eq!((closed, why), (id, Closed::Reset)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_closed_connection_writes_what_is_queued() {
    let mut program = Program::new();
    let (id, mut client) = program.accept();
    program.event_loop.send_bytes(id, b"goodbye".to_vec());
    program.event_loop.close(id, overwire::websocket::CloseCode::NORMAL, "");
    assert!(program.turn().is_empty());
    client.write_all(b"dropped").unwrap();
    assert_eq!(read_all(&client), b"goodbye");
    drop(client);
    assert!(program.turn().is_empty());
    assert_eq!(program.event_loop.connections(), 0);
}

#[test]
fn an_accepted_connection_can_be_handed_over_to_http() {
    const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n";
    for split in [1, 10, REQUEST.len()] {
        let mut program = Program::new();
        let (raw, mut client) = program.accept();
        client.write_all(&REQUEST[..split]).unwrap();
        let first = program.receive(raw, split);
        program.event_loop.serve_http(raw, first);
        client.write_all(&REQUEST[split..]).unwrap();
        for _ in 0..2 {
            let Event::Request(id, request) = program.next() else { panic!("a request was sent") };
            assert_eq!((id != raw, request.target()), (true, "/page"));
            // The old id is stale.
            program.event_loop.send_bytes(raw, b"nowhere".to_vec());
            program.event_loop.end(raw);
            program.event_loop.reset(raw);
            program.event_loop.respond(id, Response::text(200, "hello"));
            program.turn();
            let mut answer = String::new();
            while !answer.ends_with("hello") {
                answer.push(read_exactly(&client, 1)[0].into());
            }
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
            client.write_all(REQUEST).unwrap();
        }
    }
}

#[test]
fn unread_bytes_follow_a_hand_over() {
    let mut program = Program::new();
    let (raw, mut client) = program.accept();
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let first = program.receive(raw, request.len());
    program.expect_end(raw);
    // HTTP sees the end of input even if the raw connection has reported it before.
    program.event_loop.serve_http(raw, first[..20].to_vec());
    program.turn();
    assert!(read_all(&client).starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn one_loop_has_several_listeners() {
    let mut program = Program::new();
    let http = program.event_loop.listen("127.0.0.1:0", Speaks::Http).unwrap();
    let second = program.event_loop.listen("127.0.0.1:0", Speaks::Raw).unwrap();
    let addresses = [http, second].map(|listener| program.event_loop.address_of(listener).unwrap());
    assert_eq!(program.event_loop.local_address(), program.address, "the first");

    let mut client = TcpStream::connect(addresses[0]).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert!(matches!(program.next(), Event::Request(..)));
    let other = TcpStream::connect(addresses[1]).unwrap();
    let opened = Opened::Accepted { listener: second, peer: other.local_addr().unwrap() };
    assert!(matches!(program.next(), Event::Opened(_, how) if how == opened));

    program.event_loop.close_listener(second);
    assert_eq!(program.event_loop.address_of(second), None);
    assert_eq!(TcpStream::connect(addresses[1]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let (id, mut client) = program.accept();
    client.write_all(b"the first is still open").unwrap();
    program.receive(id, 23);
    // The port is free again.
    let again = program.event_loop.listen(addresses[1], Speaks::Raw).unwrap();
    assert_ne!(again, second);
    let _third = TcpStream::connect(addresses[1]).unwrap();
    assert!(matches!(program.next(), Event::Opened(_, Opened::Accepted { listener, .. }) if listener == again));
}

#[test]
fn raw_connections_beyond_the_limit_are_closed() {
    let mut program = Program::with(Limits { connections: 1, ..Limits::default() });
    let (id, _client) = program.accept();
    let beyond = TcpStream::connect(program.address).unwrap();
    beyond.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(program.turn().is_empty());
    assert_eq!(read_all(&beyond), b"");
    program.event_loop.reset(id);
    program.turn();
    program.accept();
}

#[test]
fn raw_connections_drain() {
    let mut program = Program::with(Limits { drain_time: Duration::from_secs(60), ..Limits::default() });
    let (id, client) = program.accept();
    let (silent, silent_client) = program.accept();
    let (listener, _clients) = full_listener();
    let connecting = program.event_loop.connect(listener.local_addr().unwrap()).unwrap();
    let sent = pattern(3_000_000);
    let expected = sent.clone();
    let remote = program.event_loop.remote();
    let reader = std::thread::spawn(move || {
        assert!(read_all(&client) == expected);
        // The silent client has only its closing time.
        remote.advance_clock(Duration::from_secs(5));
    });
    let mut chunks = sent.chunks(500_000).peekable();
    while let Some(bytes) = chunks.next() {
        program.event_loop.send_bytes(id, bytes.to_vec());
        if chunks.peek().is_some() {
            program.expect_drained(id);
        }
    }
    program.event_loop.send_bytes(silent, b"kept".to_vec());
    program.event_loop.drain().unwrap();
    program.event_loop.reset(connecting);
    reader.join().unwrap();
    assert_eq!(program.event_loop.connections(), 0);
    assert_eq!(read_all(&silent_client), b"kept");
}

#[test]
fn stale_ids_have_no_effect() {
    let mut program = Program::new();
    let (stale, client) = program.accept();
    program.event_loop.reset(stale);
    program.turn();
    drop(client);
    let (id, mut client) = program.accept();
    assert_ne!(id, stale);
    program.event_loop.send_bytes(stale, b"nobody".to_vec());
    program.event_loop.send(stale, &Shared::from(b"nobody".to_vec()));
    program.event_loop.pause(stale);
    program.event_loop.end(stale);
    program.event_loop.serve_http(stale, b"GET / HTTP/1.1\r\n".to_vec());
    program.event_loop.reset(stale);
    assert_eq!((program.event_loop.waiting(stale), program.event_loop.waiting(id)), (0, 0));
    client.write_all(b"alive").unwrap();
    assert_eq!(program.receive(id, 5), b"alive");
    // Operations of HTTP do nothing on a raw connection.
    program.event_loop.respond(id, Response::text(200, "no"));
    program.event_loop.begin(id, Response::new(200));
    program.event_loop.send(id, &Shared::from(b"no".to_vec()));
    assert!(program.turn().is_empty());
    program.event_loop.send_bytes(id, b"yes".to_vec());
    program.expect_drained(id);
    assert_eq!(read_exactly(&client, 3), b"yes");
}

#[test]
fn accepted_and_outgoing_connections_do_not_mix() {
    let mut program = Program::new();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (near, mut client) = program.accept();
    let far = program.connect(&target);
    let (mut server, _) = target.accept().unwrap();
    client.write_all(b"up").unwrap();
    server.write_all(b"down").unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while (up.len(), down.len()) != (2, 4) {
        match program.next() {
            Event::Bytes(id, bytes) if id == near => up.extend(bytes),
            Event::Bytes(id, bytes) if id == far => down.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((&up[..], &down[..]), (&b"up"[..], &b"down"[..]));
}
