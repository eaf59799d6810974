//! An address that uses every transport, and notes how long each answer and each message takes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use overwire::websocket::Opcode;

use super::client::{Client, draft, frame, get};
use super::greedy::client_from;
use super::victim::Report;

/// It is 127.0.0.3.
const HOST: u8 = 3;

/// The interval of its rounds. Each has a few messages.
const ROUND: Duration = Duration::from_millis(50);

/// A thread that goes on until it is finished.
pub struct Other {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// Its connections. Each lane but the last three receives the messages of a room.
struct Lanes {
    sender: Client,
    poll: Client,
    stream: Client,
    events: Client,
    socket: Client,
    /// A mailbox that is read on a WebSocket, and one that is read on an event stream.
    echo: Client,
    mailbox: (String, Client),
    /// Two peers with their ids.
    peers: [(Client, String); 2],
}

impl Other {
    /// Opens all connections, and begins.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let mut lanes = Lanes::open(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = thread::spawn(move || {
            let mut report = Report::default();
            for number in 0.. {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                let start = Instant::now();
                if let Err(error) = lanes.round(address, number, &mut report) {
                    report.failures.push(error.to_string());
                    match Lanes::open(address) {
                        Ok(again) => lanes = again,
                        Err(error) => report.failures.push(error.to_string()),
                    }
                }
                thread::sleep(ROUND.saturating_sub(start.elapsed()));
            }
            report.delays.sort_unstable();
            report
        });
        Ok(Other { stop, thread })
    }

    /// Ends after this round, and returns the times and the failures.
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Lanes {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let connect = || client_from(HOST, address);
        let reading = |target: &str| {
            let mut client = connect()?;
            client.send(&get(target))?;
            client.wait_for("\r\n\r\n")?;
            Ok::<_, io::Error>(client)
        };
        let upgraded = |target: &str| {
            let mut client = connect()?;
            client.upgrade(target)?;
            Ok::<_, io::Error>(client)
        };
        let mut mailbox = reading("/sse")?;
        let id = mailbox.string("connection_id")?;
        let mut echo = upgraded("/ws")?;
        echo.message()?;
        let (mut one, mut two) = (upgraded("/api/signal?room=other")?, upgraded("/api/signal?room=other")?);
        let ids = [one.string("peer_id")?, two.string("peer_id")?];
        one.wait_for("joined")?;
        let [first, second] = ids;
        let mut poll = connect()?;
        poll.send(&get("/api/poll?client_id=other&room=other&timeout=60"))?;
        Ok(Lanes {
            sender: connect()?,
            poll,
            stream: reading("/api/stream?room=other")?,
            events: reading("/api/events?room=other")?,
            socket: upgraded("/api/ws?room=other")?,
            echo,
            mailbox: (id, mailbox),
            peers: [(one, first), (two, second)],
        })
    }

    /// Uses each transport once.
    fn round(&mut self, address: SocketAddr, number: u64, report: &mut Report) -> io::Result<()> {
        let text = format!("other {number}.");
        let content = draft("other", &text);
        let start = Instant::now();
        let mut note = |start: Instant| report.delays.push(start.elapsed());
        if number.is_multiple_of(2) {
            expect(self.sender.post("/api/send", &content)?.status)?;
            note(start);
        } else {
            self.socket.send(&frame(Opcode::Text, content.as_bytes()))?;
        }
        let answer = self.poll.answer()?;
        expect(answer.status)?;
        note(start);
        for lane in [&mut self.stream, &mut self.events, &mut self.socket] {
            lane.wait_for(&text)?;
            note(start);
        }
        self.poll.send(&get("/api/poll?client_id=other&room=other&timeout=60"))?;
        for target in ["/api/history?room=other&limit=1", "/api/messages?room=none", "/api/stats"] {
            let start = Instant::now();
            expect(self.sender.get(target)?.status)?;
            note(start);
        }
        let start = Instant::now();
        expect(client_from(HOST, address)?.get("/health")?.status)?;
        note(start);
        let start = Instant::now();
        self.echo.send(&frame(Opcode::Text, format!(r#"{{"message":"{text}"}}"#).as_bytes()))?;
        self.echo.wait_for(&text)?;
        note(start);
        let (id, mailbox) = &mut self.mailbox;
        let start = Instant::now();
        expect(self.sender.post("/sse/message", &format!(r#"{{"connection_id":"{id}","text":"{text}"}}"#))?.status)?;
        mailbox.wait_for(&text)?;
        note(start);
        // In turn: one that only receives would have to answer Pings.
        let [one, two] = &mut self.peers;
        let ((sender, _), (receiver, id)) = if number.is_multiple_of(2) { (one, two) } else { (two, one) };
        let start = Instant::now();
        let offer = format!(r#"{{"type":"offer","to":"{id}","sdp":"{text}"}}"#);
        sender.send(&frame(Opcode::Text, offer.as_bytes()))?;
        receiver.wait_for(&text)?;
        note(start);
        Ok(())
    }
}

fn expect(status: u16) -> io::Result<()> {
    if (200..300).contains(&status) { Ok(()) } else { Err(io::Error::other(format!("status {status}"))) }
}
