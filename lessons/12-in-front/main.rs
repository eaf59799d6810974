//! Lesson 12, in front: a proxy that passes on each byte when it comes, the upgrade, and the client's address. Its
//! options make it buffer, lose the upgrade, or cut what is silent. Each connection has its threads, and one request.

#[path = "head.rs"]
mod head;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lessons::{Extra, Lesson};
use overwire::bytes::digits;

use self::head::Head;

const LESSON: Lesson = Lesson {
    name: "12-in-front",
    port: 8012,
    about: "a proxy, with the faults that proxies have",
    first: "curl {url}/who",
    look_for: "the fields that curl has not sent",
    costs: &[],
};

const TO: Extra = Extra { usage: "--to PORT", about: "the port of the server", default: "9012" };
const BUFFER: Extra = Extra { usage: "--buffer BYTES", about: "collect this much of an answer", default: "0" };
const UPGRADE: Extra = Extra { usage: "--upgrade pass|lose", about: "the fields of an upgrade", default: "pass" };
const CUT: Extra = Extra { usage: "--cut SECONDS", about: "the silence that ends a connection", default: "75" };

fn main() -> ExitCode {
    LESSON.run_with(&[TO, BUFFER, UPGRADE, CUT], |port, values| {
        let proxy = Proxy::new(&values)?;
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        LESSON.greet(listener.local_addr()?);
        for client in listener.incoming() {
            let client = client?;
            thread::spawn(move || proxy.serve(&client));
        }
        Ok(())
    })
}

/// The way in which a proxy passes on.
#[derive(Clone, Copy)]
struct Proxy {
    /// The port of the server.
    to: u16,
    /// The bytes of an answer that are collected before they are passed on.
    buffer: usize,
    loses_upgrade: bool,
    /// The silence of the server that ends a connection.
    cut: Duration,
}

impl Proxy {
    fn new(values: &[String]) -> io::Result<Self> {
        let number = |at: usize, range: RangeInclusive<u64>| {
            let found = digits(values[at].as_bytes()).filter(|number| range.contains(number));
            found.ok_or_else(|| io::Error::other(format!("{:?}: expected a number from {range:?}", values[at])))
        };
        Ok(Proxy {
            to: number(0, 1..=65535)? as u16,
            buffer: number(1, 0..=1 << 20)? as usize,
            loses_upgrade: match &*values[2] {
                "pass" => false,
                "lose" => true,
                _ => return Err(io::Error::other("--upgrade: expected pass or lose")),
            },
            cut: Duration::from_secs(number(3, 1..=86_400)?),
        })
    }

    fn serve(self, client: &TcpStream) {
        let _ = self.pass_on(client);
        let _ = client.shutdown(Shutdown::Both); // the other thread ends too
    }

    /// Passes on one request and its answer, or what follows an upgrade.
    fn pass_on(self, mut client: &TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client.try_clone()?);
        let mut request = Head::read(&mut requests)?;
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.to)) else {
            return client.write_all(BAD_GATEWAY);
        };
        server.set_read_timeout(Some(self.cut))?;
        self.prepare(&mut request, client.peer_addr()?.ip());
        server.write_all(&request.bytes())?;
        let other = server.try_clone()?;
        thread::spawn(move || copy_all(requests, other)); // the content, or the frames of a client
        let mut answers = BufReader::new(server);
        self.answer(&mut answers, client)?;
        self.copy(answers, client)
    }

    /// Makes the head of the client's request that of ours.
    fn prepare(self, request: &mut Head, client: IpAddr) {
        let upgrade = request.upgrade().filter(|_| !self.loses_upgrade);
        let host = request.value("host").unwrap_or_default().to_owned();
        // ANCHOR: prepare
        request.keep_end_to_end(); // first remove, then add
        request.remove("Forwarded");
        request.set("X-Forwarded-For", &client.to_string());
        request.set("X-Forwarded-Proto", "http");
        request.set("X-Forwarded-Host", &host);
        request.set("Connection", if upgrade.is_some() { "close, upgrade" } else { "close" });
        if let Some(protocol) = upgrade {
            request.set("Upgrade", &protocol);
        }
        // ANCHOR_END: prepare
    }

    /// Passes on the head of the answer, after those that announce it (100 and 103).
    fn answer(self, server: &mut BufReader<TcpStream>, mut client: &TcpStream) -> io::Result<()> {
        loop {
            let mut answer = Head::read(server)?;
            let (status, upgrade) = (answer.start.split(' ').nth(1).unwrap_or_default().to_owned(), answer.upgrade());
            answer.keep_end_to_end();
            match upgrade.filter(|_| status == "101") {
                Some(protocol) => {
                    answer.set("Connection", "upgrade");
                    answer.set("Upgrade", &protocol);
                }
                None => answer.set("Connection", "close"),
            }
            client.write_all(&answer.bytes())?;
            if status == "101" || !status.starts_with('1') {
                return Ok(());
            }
        }
    }

    /// Passes on what the server sends, until it ends or is silent for too long.
    fn copy(self, mut server: impl Read, client: &TcpStream) -> io::Result<()> {
        // ANCHOR: copy
        let mut client = BufWriter::with_capacity(self.buffer, client); // of 0 bytes: it writes at once
        let mut bytes = [0; 16 * 1024];
        loop {
            // After too long a silence, this is an error.
            match server.read(&mut bytes)? {
                0 => return client.flush(),
                count => client.write_all(&bytes[..count])?,
            }
        }
        // ANCHOR_END: copy
    }
}

const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Passes on what the client sends, and its end.
fn copy_all(mut client: impl Read, mut server: TcpStream) {
    let _ = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
}
