//! Lesson 01 as it is often shown: an HTTP server in a few lines of the standard library. It takes one read for one
//! request, and everything after the empty line for its content.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

use lessons::Lesson;

const LESSON: Lesson = Lesson {
    name: "01-broken",
    port: 8001,
    about: "an HTTP server that takes one read for one request",
    first: "curl -v {url}/ -d hello",
    look_for: "the answer: it works. Now send the request in two pieces, or two requests in one",
    costs: &[],
};

fn main() -> ExitCode {
    LESSON.run(|port| {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        LESSON.greet(listener.local_addr()?);
        // BUG: one connection after the other. A silent client keeps all others waiting.
        for stream in listener.incoming() {
            let _ = answer(stream?);
        }
        Ok(())
    })
}

// ANCHOR: bug
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    // BUG: a read returns what has arrived: half a request, or two requests, or the first 1024 bytes.
    let count = stream.read(&mut buffer)?;
    let request = String::from_utf8_lossy(&buffer[..count]);
    // BUG: Content-Length or the last chunk marks the end of the content, not the end of a read.
    let (_, content) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
    let length = content.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}")
}
// ANCHOR_END: bug
