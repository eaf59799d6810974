//! Lesson 00, as many examples have it: it works for every line that one types. A short write is
//! taken for a complete one, and one read for everything.

#[path = "../common/command_line.rs"]
mod command_line;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use command_line::{Lesson, Wish};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

const LESSON: Lesson = Lesson {
    name: "00-broken",
    port: 8000,
    about: "the echo server that works as long as little is said",
    first: "printf 'hello\\n' | nc -N {address}",
    look_for: "your own line: it works. Now send more",
    costs: &[],
};

const LISTENER: Token = Token(0);

fn main() -> ExitCode {
    let port = match LESSON.wish() {
        Wish::Run(port) => port,
        Wish::Measure => return ExitCode::SUCCESS,
        Wish::Exit(code) => return code,
    };
    let listen = || {
        let listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        LESSON.greet(listener.local_addr()?);
        serve(listener)
    };
    match listen() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => LESSON.complain(port, &error),
    }
}

fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut clients = HashMap::new();
    let mut next = 1;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                // BUG: one event may stand for several connections. Those after the first wait until
                // somebody else connects.
                let Ok((mut socket, _)) = listener.accept() else { continue };
                poll.registry().register(&mut socket, Token(next), Interest::READABLE)?;
                clients.insert(Token(next), socket);
                next += 1;
            } else if let Some(socket) = clients.get_mut(&event.token()) {
                // ANCHOR: bug
                let mut buffer = [0; 1024];
                match socket.read(&mut buffer) {
                    // BUG: no second read. What is left in the kernel was announced already, and is
                    // not announced again.
                    Ok(count) if count > 0 => {
                        // BUG: no look at what it returns. What did not fit into the kernel's buffer
                        // is lost.
                        let _ = socket.write(&buffer[..count]);
                    }
                    _ => drop(clients.remove(&event.token())),
                }
                // ANCHOR_END: bug
            }
        }
    }
}
