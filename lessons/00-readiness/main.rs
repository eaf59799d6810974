//! Lesson 00: an echo server on raw TCP. One thread serves every connection, because no call on a socket ever
//! waits. It uses mio and the standard library alone. The library of the later lessons does the same, and hides it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::process::ExitCode;
use std::time::Duration;

use lessons::Lesson;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LESSON: Lesson = Lesson {
    name: "00-readiness",
    port: 8000,
    about: "an echo server on raw TCP, on sockets that do not block",
    first: "(printf 'hel'; sleep 2; printf 'lo\\n'; sleep 2) | nc -N {address}",
    look_for: "your own line, and here a line for each thing that was done",
    costs: &[],
};

/// The listening socket's token. Connections count from 1.
const LISTENER: Token = Token(0);

/// The most bytes that one turn reads.
const READ: usize = 64 * 1024;

/// The number of queued bytes from which nothing more is read.
const BOUND: usize = 256 * 1024;

/// The number of bytes of a connection up to which each step is logged.
const TOLD: u64 = 4096;

/// The server: its sockets, and what is known of them.
struct Echo {
    poll: Poll,
    listener: TcpListener,
    /// A client may wait to be accepted.
    acceptable: bool,
    clients: BTreeMap<Token, Client>,
    /// The clients that may have work to do at once.
    turns: BTreeSet<Token>,
    /// The number of the next connection.
    next: usize,
}

// ANCHOR: client
/// One connection and its state.
struct Client {
    token: Token,
    socket: TcpStream,
    /// mio has said that it is readable, and no read has returned `WouldBlock` since.
    readable: bool,
    /// The same for writing.
    writable: bool,
    /// The peer has shut down its side: no more bytes arrive.
    ended: bool,
    /// The bytes that were read and are not written yet.
    waiting: VecDeque<u8>,
    // ANCHOR_END: client
    read: u64,
    written: u64,
    /// Reading has stopped before. It is logged once.
    has_stopped: bool,
}

fn main() -> ExitCode {
    LESSON.run(|port| {
        let listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        LESSON.greet(listener.local_addr()?);
        Echo::new(listener)?.serve()
    })
}

impl Echo {
    fn new(mut listener: TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (clients, turns) = (BTreeMap::new(), BTreeSet::new());
        Ok(Echo { poll, listener, acceptable: true, clients, turns, next: 1 })
    }

    // ANCHOR: loop
    fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; READ];
        loop {
            if self.acceptable {
                self.acceptable = self.accept();
            }
            self.wait(&mut events)?;
            self.note(&events);
            for token in mem::take(&mut self.turns) {
                self.give_turn(token, &mut buffer);
            }
        }
    }
    // ANCHOR_END: loop

    // ANCHOR: wait
    /// Sleeps until a socket is ready, or not at all if a client has work that it can do at once.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if self.turns.is_empty() { None } else { Some(Duration::ZERO) };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()), // a signal woke the thread: no event
            result => result,
        }
    }
    // ANCHOR_END: wait

    // ANCHOR: note
    fn note(&mut self, events: &Events) {
        for event in events {
            if event.token() == LISTENER {
                self.acceptable = true;
            } else if let Some(client) = self.clients.get_mut(&event.token()) {
                client.readable |= event.is_readable();
                client.writable |= event.is_writable();
                self.turns.insert(client.token);
            }
        }
    }
    // ANCHOR_END: note

    // ANCHOR: give
    /// Gives a client its turn. Then it gets another one, waits for an event, or is closed.
    fn give_turn(&mut self, token: Token, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let result = client.turn(buffer);
        if result.is_ok() && (client.can_read() || client.can_write()) {
            self.turns.insert(token);
        } else if result.is_ok() && !client.is_done() {
            client.tell_stop();
        } else {
            let why = result.map_or_else(|error| error.to_string(), |()| "all is answered".to_owned());
            client.say(&format!("closed: {why}; read {}, wrote {}", client.read, client.written));
            self.clients.remove(&token);
        }
    }
    // ANCHOR_END: give

    /// Accepts until the queue is empty. Returns whether more may wait.
    fn accept(&mut self) -> bool {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => self.add(socket),
                // ANCHOR: accept
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // Most likely there is no free file descriptor. Clients wait in the kernel until the next turn of the
                // loop tries again, for example when a connection ends.
                Err(_) => return true,
                // ANCHOR_END: accept
            }
        }
    }

    fn add(&mut self, mut socket: TcpStream) {
        let token = Token(self.next);
        self.next += 1;
        if self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            self.clients.insert(token, Client::new(token, socket));
        }
    }
}

impl Client {
    fn new(token: Token, socket: TcpStream) -> Self {
        let (readable, writable, ended, has_stopped) = (false, false, false, false);
        let waiting = VecDeque::new();
        let client = Client { token, socket, readable, writable, ended, waiting, read: 0, written: 0, has_stopped };
        client.say("accepted");
        client
    }

    // ANCHOR: turn
    /// Does at most one read and one write, so that others have their turns too.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.can_read() {
            self.read(buffer)?;
        }
        if self.can_write() {
            self.write()?;
        }
        Ok(())
    }

    fn can_read(&self) -> bool {
        self.readable && !self.ended && self.waiting.len() < BOUND
    }

    fn can_write(&self) -> bool {
        self.writable && !self.waiting.is_empty()
    }

    /// Whether the peer has said all, and has got all.
    fn is_done(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
    // ANCHOR_END: turn

    // ANCHOR: read
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.socket.read(buffer) {
            Ok(0) => {
                self.ended = true;
                self.say("the peer has shut down its side");
            }
            Ok(count) => {
                self.waiting.extend(&buffer[..count]);
                self.tell_read(count as u64);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                self.tell("read: would block");
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
    // ANCHOR_END: read

    // ANCHOR: write
    fn write(&mut self) -> io::Result<()> {
        let (front, _) = self.waiting.as_slices();
        match self.socket.write(front) {
            Ok(count) => {
                self.tell(&format!("wrote {count} of {}", self.waiting.len()));
                self.waiting.drain(..count);
                self.written += count as u64;
                if self.waiting.is_empty() {
                    self.waiting = VecDeque::new(); // returns the memory: an idle connection holds none
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
    // ANCHOR_END: write

    /// Logs each step of the first bytes, and then only changes.
    fn tell_read(&mut self, count: u64) {
        let were_few = self.read <= TOLD;
        self.read += count;
        self.tell(&format!("read {count}"));
        if were_few && self.read > TOLD {
            self.say(&format!("read more than {TOLD}: from here on, only changes are logged"));
        }
    }

    /// Logs that the server stops reading, because the queued bytes have reached the bound.
    fn tell_stop(&mut self) {
        if self.readable && !self.ended && !mem::replace(&mut self.has_stopped, true) {
            self.say(&format!("reading stops: {BOUND} bytes or more wait to be written"));
        }
    }

    fn tell(&self, what: &str) {
        if self.read <= TOLD {
            self.say(what);
        }
    }

    /// A closed standard output is not an error.
    fn say(&self, what: &str) {
        let _ = writeln!(io::stdout(), "#{} {what}", self.token.0);
    }
}
