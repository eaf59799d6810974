//! The proxy of many examples: it asks the server, takes the answer, and passes it on.

#[allow(dead_code)] // it asks for no upgrade
#[path = "head.rs"]
mod head;

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use lessons::{Extra, Lesson};
use overwire::bytes::digits;

use self::head::Head;

const LESSON: Lesson = Lesson {
    name: "12-broken",
    port: 8012,
    about: "a proxy that works until somebody streams",
    first: "curl {url}/who",
    look_for: "the host, which is not the one that you have asked",
    costs: &[],
};

const TO: Extra = Extra { usage: "--to PORT", about: "the port of the server", default: "9012" };

/// The longest content of a request, in bytes.
const MAX_CONTENT: u64 = 1 << 20;

fn main() -> ExitCode {
    LESSON.run_with(&[TO], |port, values| {
        let to = values[0].parse().map_err(|_| io::Error::other("--to: expected a port"))?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        LESSON.greet(listener.local_addr()?);
        for client in listener.incoming() {
            let client = client?;
            thread::spawn(move || pass_on(&client, to));
        }
        Ok(())
    })
}

fn pass_on(mut client: &TcpStream, to: u16) -> io::Result<()> {
    let mut requests = BufReader::new(client);
    let mut request = Head::read(&mut requests)?;
    let content = content(&request, &mut requests)?;
    // ANCHOR: pass_on
    // BUG: an upgrade is for one connection. A client that wants it on the next one asks again.
    request.keep_end_to_end();
    request.set("Connection", "close");
    // BUG: this is the server's own name. Its page has another one, so what the page sends looks foreign.
    request.set("Host", &format!("127.0.0.1:{to}"));
    // BUG: X-Forwarded-For is here as the client has sent it. The server believes it, because a proxy sends it.
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    server.write_all(&[request.bytes(), content].concat())?;
    // BUG: a stream has no end. Its first byte would be passed on after its last.
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    // ANCHOR_END: pass_on
    client.write_all(&answer)
}

fn content(request: &Head, from: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = request.value("content-length").and_then(|length| digits(length.as_bytes())).unwrap_or(0);
    let mut content = vec![0; length.min(MAX_CONTENT) as usize];
    from.read_exact(&mut content)?;
    Ok(content)
}
