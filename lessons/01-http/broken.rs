//! Lesson 01, as it is often shown: an HTTP server in a few lines of the standard library. One read is
//! taken for one request, and everything behind the empty line for its content.

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
        // BUG: one after the other. Whoever connects and says nothing keeps everybody else waiting.
        for stream in listener.incoming() {
            let _ = answer(stream?);
        }
        Ok(())
    })
}

// ANCHOR: bug
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    // BUG: a read gives what has arrived: half a request, or two of them, or the first 1024 bytes.
    let count = stream.read(&mut buffer)?;
    let request = String::from_utf8_lossy(&buffer[..count]);
    // BUG: where the content ends is said by Content-Length or by the last chunk, and not by the read.
    let (_, content) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
    let length = content.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}")
}
// ANCHOR_END: bug
