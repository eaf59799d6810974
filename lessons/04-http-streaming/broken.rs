//! A client of lesson 4 that takes a chunk for a message, as in Node's
//! `response.on('data', (chunk) => show(JSON.parse(chunk)))`. It ends after two chunks.
//!
//! `usage: 04-broken [--port PORT] [TARGET]`

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

/// After so many chunks it has shown enough.
const ENOUGH: usize = 2;

fn main() -> io::Result<()> {
    let (mut host, mut target) = ("127.0.0.1:8004".to_owned(), "/stream".to_owned());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => host = format!("127.0.0.1:{}", arguments.next().unwrap_or_default()),
            _ => target = argument,
        }
    }
    let mut stream = BufReader::new(TcpStream::connect(&host)?);
    write!(stream.get_mut(), "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut line = String::from("status line");
    while !line.trim_end().is_empty() {
        line.clear();
        stream.read_line(&mut line)?;
    }
    println!("waiting for chunks");
    for number in 1..=ENOUGH {
        let Some(chunk) = next_chunk(&mut stream)? else { break };
        println!("chunk {number}, {} bytes: {}", chunk.len(), show(&chunk));
    }
    Ok(())
}

/// The next chunk, without its size; none at the last-chunk, or at the end of the connection.
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
    // The bug: a chunk need be neither a whole message nor whole characters. Who cuts it, and where,
    // is up to everything between the server and here.
    let text = String::from_utf8_lossy(chunk);
    match serde_json::from_str::<Value>(&text) {
        Ok(message) => format!("a message, {}", message["text"]),
        Err(_) => format!("not JSON, {}", text.trim_end()),
    }
}
// ANCHOR_END: bug
