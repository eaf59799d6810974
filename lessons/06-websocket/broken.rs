//! The WebSocket server of many tutorials, with sockets of `std::net` and two famous bugs. `/handshake` answers every
//! key with the same accept. `/frames` has a correct handshake, but treats each read as one frame.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use lessons::Lesson;
use overwire::websocket::accept_key;

const LESSON: Lesson = Lesson {
    name: "06-broken",
    port: 8006,
    about: "an echo with a wrong handshake at /handshake, and one that takes a read for a frame at /frames",
    first: "cargo run -q --bin wire -- ws {websocket}/handshake",
    look_for: "an accept that does not belong to the key",
    costs: &[],
};

/// The answer to a key on a page that explains the handshake, copied from that page.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn main() -> ExitCode {
    LESSON.run(listen)
}

fn listen(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    LESSON.greet(listener.local_addr()?);
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let (path, key) = read_request(&stream)?;
    let accept = match path.as_str() {
        // BUG: a constant. It is right for one key, and every client makes a new key.
        "/handshake" => ACCEPT.to_owned(),
        _ => accept_key(key.as_bytes()),
    };
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    echo(stream)
}

/// Reads the path of a request and its key.
fn read_request(stream: &TcpStream) -> io::Result<(String, String)> {
    let mut lines = BufReader::new(stream).lines();
    let request_line = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request_line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut key = String::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => key = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    Ok((path, key))
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        // ANCHOR: read
        // BUG: TCP is a stream of bytes. A read may return half a frame, or two and a half.
        let mut bytes = [0; 1024];
        if stream.read(&mut bytes)? == 0 {
            return Ok(());
        }
        // ANCHOR_END: read
        let opcode = bytes[0] & 0x0f;
        let length = (bytes[1] & 0x7f) as usize;
        let key = &bytes[2..6];
        let payload: Vec<u8> = (0..length).map(|i| bytes[6 + i] ^ key[i % 4]).collect();
        match opcode {
            1 => stream.write_all(&[&[0x81, length as u8], &payload[..]].concat())?,
            8 => return stream.write_all(&[0x88, 0]),
            _ => {}
        }
    }
}
