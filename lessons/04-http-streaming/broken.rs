//! A client of lesson 04 that takes a chunk for a message, as in Node's
//! `response.on('data', (chunk) => show(JSON.parse(chunk)))`. It ends after two chunks, heartbeats aside.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use lessons::Lesson;
use serde_json::Value;

const LESSON: Lesson = Lesson {
    name: "04-broken",
    port: 8004,
    about: "a client that takes a chunk for a message; a path among the arguments is what it asks for",
    first: "",
    look_for: "",
    costs: &[],
};

/// The number of chunks that it shows, heartbeats aside: a person may need longer than the first of them.
const ENOUGH: usize = 2;

fn main() -> ExitCode {
    let arguments = env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let (targets, options): (Vec<_>, Vec<_>) = arguments.partition(|argument| argument.starts_with('/'));
    let target = targets.first().map_or("/stream", |target| target);
    LESSON.carry_out(LESSON.wish_of(options.into_iter()), |port| listen(port, target))
}

fn listen(port: u16, target: &str) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
    write!(stream.get_mut(), "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    let mut line = String::from("status line");
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line)?;
    }
    println!("waiting for chunks");
    let (mut number, mut heartbeats) = (0, 0);
    while number < ENOUGH + heartbeats {
        let Some(chunk) = next_chunk(&mut stream)? else { break };
        number += 1;
        heartbeats += usize::from(chunk == b"\n");
        println!("chunk {number}, {} bytes: {}", chunk.len(), show(&chunk));
    }
    Ok(())
}

/// Reads the next chunk without its size. None at the last-chunk, or at the end of the connection.
fn next_chunk(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or(0);
    let mut chunk = vec![0; size];
    stream.read_exact(&mut chunk)?;
    stream.read_line(&mut line)?;
    Ok((size > 0).then_some(chunk))
}

// ANCHOR: bug
fn show(chunk: &[u8]) -> String {
    // BUG: a chunk may end inside a message, and even inside a character. Every program between the server and this
    // client may split it anywhere.
    let text = String::from_utf8_lossy(chunk);
    match serde_json::from_str::<Value>(&text) {
        Ok(message) => format!("a message, {}", message["text"]),
        Err(_) => format!("not JSON, {}", text.trim_end()),
    }
}
// ANCHOR_END: bug
