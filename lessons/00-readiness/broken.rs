//! The echo server of many examples. It reads correctly, and it echoes every line that a person types. It ignores the
//! result of a short write, and so loses bytes.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use lessons::Lesson;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LESSON: Lesson = Lesson {
    name: "00-broken",
    port: 8000,
    about: "an echo server that loses bytes when a client sends many and reads slowly",
    first: "printf 'hello\\n' | nc -N {address}",
    look_for: "your own line: it works. Now send more",
    costs: &[],
};

const LISTENER: Token = Token(0);

fn main() -> ExitCode {
    LESSON.run(|port| {
        let listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        LESSON.greet(listener.local_addr()?);
        serve(listener)
    })
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
                while let Ok((mut socket, _)) = listener.accept() {
                    poll.registry().register(&mut socket, Token(next), Interest::READABLE)?;
                    clients.insert(Token(next), socket);
                    next += 1;
                }
            } else if let Some(socket) = clients.get_mut(&event.token())
                && !echo(socket)
            {
                clients.remove(&event.token());
            }
        }
    }
}

// ANCHOR: bug
/// Echoes the available input. Returns whether the connection stays open.
fn echo(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                // BUG: `write` returns the number of bytes that it took, or `WouldBlock`. Both are ignored: bytes that
                // do not fit into the kernel's buffer are lost.
                let _ = socket.write(&buffer[..count]);
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
// ANCHOR_END: bug
