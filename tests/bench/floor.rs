//! The floor: a bare mio loop that makes the system calls of a scenario, with the right number of bytes, and does
//! nothing else. The first bytes of a connection select the scenario. After that it counts bytes and sends canned
//! answers. No server with the same system calls can be faster, so each row of the benchmark is compared with it.
//!
//! `bench-floor --port 7000 --size 16`: the size of the messages is in bytes.

#[path = "load/bytes.rs"]
mod bytes;

use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use bytes::Answers;

const LISTENER: Token = Token(usize::MAX);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into()).collect();
    let (mut port, mut size) = (Some(7000), Some(16));
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--port" => port = value.parse::<u16>().ok(),
            [name, value] if name == "--size" => size = value.parse().ok(),
            _ => port = None,
        }
    }
    let (Some(port), Some(size)) = (port, size) else {
        eprintln!("usage: bench-floor [--port 7000] [--size 16]");
        return ExitCode::from(2);
    };
    match run(port, size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-floor: port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The behaviour of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// No bytes have arrived yet.
    New,
    /// Answers each block of this size with these canned bytes.
    Answers(usize, usize),
    /// Gets all published messages as these canned bytes.
    Stream(usize),
    /// Gets an answer when a message is published.
    Poll,
    /// Publishes a message with each block of this size.
    Publisher(usize),
}

struct Peer {
    stream: TcpStream,
    role: Role,
    /// Received bytes that are not a whole request yet.
    read: usize,
    /// The canned bytes that are being written, and the number of bytes left.
    canned: usize,
    owed: usize,
    /// A poll is held.
    held: bool,
    /// The number of messages that it has got.
    given: u64,
}

/// An answer, repeated so that one write can take many of them.
struct Canned {
    bytes: Vec<u8>,
    length: usize,
}

impl Canned {
    fn new(answer: &[u8]) -> Self {
        Canned { bytes: answer.repeat((1 << 20) / answer.len() + 2), length: answer.len() }
    }
}

/// The numbers of the canned bytes.
const HELLO: usize = 0;
const UPGRADED: usize = 1;
const PUBLISHED: usize = 2;
const POLL: usize = 3;
const EVENTS_HEAD: usize = 4;
const CHUNKS_HEAD: usize = 5;
const FRAME: usize = 6;
const EVENT: usize = 7;
const CHUNK: usize = 8;

struct Floor {
    canned: Vec<Canned>,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    published: u64,
    hello: usize,
    message: usize,
    publish: usize,
}

fn run(port: u16, size: usize) -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on http://{}", listener.local_addr()?);
    let answers = Answers::of(size);
    let canned: [&[u8]; 9] = [
        &answers.hello,
        &answers.upgraded,
        &answers.published,
        &answers.poll,
        &answers.events_head,
        &answers.chunks_head,
        &answers.frame,
        &answers.event,
        &answers.chunk,
    ];
    let payload = bytes::payload(size);
    let mut floor = Floor {
        canned: canned.into_iter().map(Canned::new).collect(),
        peers: Vec::new(),
        free: Vec::new(),
        published: 0,
        hello: bytes::get("/hello").len(),
        message: bytes::message(&payload).len(),
        publish: bytes::post("/pub", &payload).len(),
    };
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, &poll)?,
                Token(at) => {
                    if event.is_writable() {
                        floor.write(at);
                    }
                    if event.is_readable() {
                        floor.read(at, &mut buffer);
                    }
                }
            }
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or(self.peers.len());
            if at == self.peers.len() {
                self.peers.push(None);
            }
            poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            let role = Role::New;
            self.peers[at] = Some(Peer { stream, role, read: 0, canned: HELLO, owed: 0, held: false, given: 0 });
        }
        Ok(())
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        loop {
            let Some(peer) = &mut self.peers[at] else { return };
            let count = match peer.stream.read(buffer) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.peers[at] = None;
                    self.free.push(at);
                    return;
                }
            };
            self.take(at, &buffer[..count]);
            if count < buffer.len() {
                return;
            }
        }
    }

    fn take(&mut self, at: usize, input: &[u8]) {
        let published = self.published;
        let Some(peer) = &mut self.peers[at] else { return };
        if peer.role == Role::New {
            let (role, head) = match input {
                [b'G', b'E', b'T', b' ', b'/', b'h', ..] => (Role::Answers(self.hello, HELLO), None),
                [b'G', b'E', b'T', b' ', b'/', b'e', ..] => (Role::Answers(self.message, FRAME), Some(UPGRADED)),
                [b'G', b'E', b'T', b' ', b'/', b'w', ..] => (Role::Stream(FRAME), Some(UPGRADED)),
                [b'G', b'E', b'T', b' ', b'/', b's', ..] => (Role::Stream(EVENT), Some(EVENTS_HEAD)),
                [b'G', b'E', b'T', b' ', b'/', b'c', ..] => (Role::Stream(CHUNK), Some(CHUNKS_HEAD)),
                [b'G', b'E', b'T', b' ', b'/', b'p', ..] => (Role::Poll, None),
                _ => (Role::Publisher(self.publish), None),
            };
            (peer.role, peer.given) = (role, published);
            if let Some(head) = head {
                return self.owe(at, head, 1);
            }
        }
        match peer.role {
            Role::New | Role::Stream(_) => {}
            Role::Answers(size, canned) => {
                let answers = peer.count(size, input.len());
                self.owe(at, canned, answers);
            }
            Role::Poll if peer.given < published => {
                peer.given = published;
                self.owe(at, POLL, 1);
            }
            Role::Poll => peer.held = true,
            Role::Publisher(size) => {
                let messages = peer.count(size, input.len());
                self.publish(messages);
                self.owe(at, PUBLISHED, messages);
            }
        }
    }

    fn publish(&mut self, messages: usize) {
        self.published += messages as u64;
        for at in 0..self.peers.len() {
            match &mut self.peers[at] {
                Some(Peer { role: Role::Stream(canned), .. }) => {
                    let canned = *canned;
                    self.owe(at, canned, messages);
                }
                Some(peer) if peer.role == Role::Poll && peer.held && messages > 0 => {
                    (peer.held, peer.given) = (false, self.published);
                    self.owe(at, POLL, 1);
                }
                _ => {}
            }
        }
    }

    /// Queues canned bytes, repeated.
    fn owe(&mut self, at: usize, canned: usize, times: usize) {
        if times > 0
            && let Some(peer) = &mut self.peers[at]
        {
            peer.canned = canned;
            peer.owed += self.canned[canned].length * times;
            self.write(at);
        }
    }

    fn write(&mut self, at: usize) {
        let Some(peer) = &mut self.peers[at] else { return };
        let Canned { bytes, length } = &self.canned[peer.canned];
        while peer.owed > 0 {
            // The queued bytes end with a whole answer, so their number shows at which byte of an answer they begin.
            let start = (length - peer.owed % length) % length;
            let end = bytes.len().min(start + peer.owed);
            match peer.stream.write(&bytes[start..end]) {
                Ok(written) => peer.owed -= written,
                Err(_) => return, // no room: an event will follow
            }
        }
    }
}

impl Peer {
    /// The number of whole requests of `size` bytes after `more` bytes have arrived.
    fn count(&mut self, size: usize, more: usize) -> usize {
        self.read += more;
        let whole = self.read / size;
        self.read %= size;
        whole
    }
}
