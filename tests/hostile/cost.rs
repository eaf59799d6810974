//! The dearest request of each endpoint: the time on the server's core for each kibibyte that a client sends.
//!
//! Each endpoint is tried with several shapes of request, by clients that read every answer and by clients that read
//! none. The table shows the shape with the most user time. An attacker has as many kibibytes as it likes, so what
//! counts is the price of one.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use overwire::websocket::{self, Opcode};

use super::client::{Client, KEY, draft, frame, get, post};
use super::crowd::Crowd;
use super::scene::{LONG, Settings, fill};
use super::target::{Cpu, Target};

/// The most user time for a kibibyte, in microseconds.
const BOUND: f64 = 2000.0;

/// The time on the core after which a figure is exact enough, in seconds.
const ENOUGH: f64 = 0.3;

/// The time after which a figure is taken as it is.
const TRIES: Duration = Duration::from_secs(4);

/// The state that the server has before the requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Full rooms: of messages of a kibibyte, of 1,000 short ones, and of 100 long ones.
    Full,
    /// 2,000 readers in 200 rooms with long names, 5,000 clients and 5,000 mailboxes.
    Crowded,
    /// 1,000 readers of one room, on each transport.
    Listened,
}

/// Returns the request with this number. The text is the cursor of [`prepare`].
type MakeRequest = Box<dyn Fn(usize, &str) -> Vec<u8>>;

/// One kind of request.
struct Shape {
    endpoint: &'static str,
    shape: &'static str,
    state: State,
    /// The bytes of a connection before its requests: an opening handshake, or nothing.
    opening: Vec<u8>,
    request: MakeRequest,
    /// The number of requests on one connection of a client that reads. A stream is never followed by another request.
    each: usize,
}

/// The price of a kibibyte, in microseconds.
#[derive(Clone, Copy, Default)]
struct Price {
    user: f64,
    system: f64,
}

/// Measures the shapes of the endpoints whose name contains one of `words`, or of all. Returns whether all keep the
/// bound.
pub fn measure(settings: &Settings, words: &[String]) -> io::Result<bool> {
    println!("Microseconds for each kibibyte that a client sends, user and system:\n");
    println!("| endpoint | dearest request | of a client that reads | of one that never reads |\n|-|-|-:|-:|");
    let shapes = shapes().into_iter().filter(|shape| {
        words.is_empty() || words.iter().any(|word| format!("{} {}", shape.endpoint, shape.shape).contains(word))
    });
    let (mut is_passed, mut best) = (true, None::<(Shape, Price, Price)>);
    for shape in shapes {
        let (reads, never) = (price(settings, &shape, true)?, price(settings, &shape, false)?);
        let dearer = |(_, other, more): &(Shape, Price, Price)| reads.user.max(never.user) > other.user.max(more.user);
        is_passed &= reads.user.max(never.user) <= BOUND;
        let is_next = best.as_ref().is_some_and(|(other, ..)| other.endpoint != shape.endpoint);
        // With words, all shapes are of interest.
        if is_next || !words.is_empty() {
            best.take().iter().for_each(print);
        }
        if best.as_ref().is_none_or(dearer) {
            best = Some((shape, reads, never));
        }
    }
    best.iter().for_each(print);
    Ok(is_passed)
}

fn print((Shape { endpoint, shape, .. }, reads, never): &(Shape, Price, Price)) {
    let cell = |price: &Price| {
        let mark = if price.user > BOUND { " (too dear)" } else { "" };
        format!("{:.0}, {:.0}{mark}", price.user, price.system)
    };
    println!("| {endpoint} | {shape} | {} | {} |", cell(reads), cell(never));
}

fn price(settings: &Settings, shape: &Shape, reads: bool) -> io::Result<Price> {
    let server = Target::start(&settings.program, "-n $(ulimit -Hn)", &[])?;
    let (cursor, others) = prepare(&server, shape.state)?;
    let drains = others.iter().map(Crowd::drain).collect::<io::Result<Vec<_>>>()?;
    settle(&server)?;
    let (mut cpu, mut sent) = (Cpu::default(), 0);
    let start = Instant::now();
    let mut number = 0;
    while cpu.total() < ENOUGH && start.elapsed() < TRIES {
        let before = server.cpu()?;
        // The size of a wave is bounded, and a client that never reads sends little on each connection.
        let length = (shape.request)(0, &cursor).len();
        let each = if reads { shape.each.min(1 + 8192 / length) } else { shape.each.min(2) };
        let count = (8 * 1024 * 1024 / (each * length)).clamp(1, if reads { 100 } else { 500 });
        let mut crowd = Crowd::connect(server.address, count)?;
        let drain = if reads { Some(crowd.drain()?) } else { None };
        crowd.send(&shape.opening[..], LONG);
        let requests = |member: usize| -> Arc<[u8]> {
            (0..each).flat_map(|at| (shape.request)(number + member * each + at, &cursor)).collect()
        };
        crowd.send_each(requests, Duration::from_secs(5));
        number += count * each;
        settle(&server)?;
        sent += crowd.sent;
        drop(drain);
        cpu.add(before, server.cpu()?);
    }
    drop(drains);
    let per_kibibyte = 1e6 * 1024.0 / sent.max(1) as f64;
    let (user, system) = cpu.shares();
    Ok(Price { user: user * per_kibibyte, system: system * per_kibibyte })
}

/// Waits until the server has nothing to do.
fn settle(server: &Target) -> io::Result<()> {
    let start = Instant::now();
    let total = || server.cpu().map(Cpu::total);
    let mut last = total()?;
    while start.elapsed() < LONG {
        thread::sleep(Duration::from_millis(60));
        let now = total()?;
        if now - last < 0.0005 {
            break;
        }
        last = now;
    }
    Ok(())
}

/// Brings the server into a state. Returns the cursor of a first message, and the connections of others.
fn prepare(server: &Target, state: State) -> io::Result<(String, Vec<Crowd>)> {
    let mut client = Client::connect(server.address)?;
    let mut cursor = client.post("/api/send", &draft("short", "x"))?.string("message_id").unwrap_or_default();
    let mut crowds = Vec::new();
    let mut crowd = |count: usize, request: &dyn Fn(usize) -> Vec<u8>| -> io::Result<()> {
        let mut crowd = Crowd::connect(server.address, count)?;
        crowd.send_each(|number| request(number).into(), LONG);
        crowds.push(crowd);
        Ok(())
    };
    match state {
        State::Empty => {}
        State::Full => {
            cursor = fill(server)?;
            for _ in 0..999 {
                client.post("/api/send", &draft("short", "x"))?;
            }
            for _ in 0..100 {
                client.post("/api/send", &draft("long", &"x".repeat(10_000)))?;
            }
        }
        State::Crowded => {
            let room = |number: usize| format!("{}{:03}", "%F0%9F%A6%80".repeat(61), number % 200);
            crowd(2000, &|number| {
                get(&format!("/api/events?room={}&client_id={number}{}", room(number), "%F0%9F%A6%80".repeat(120)))
            })?;
            for number in 0..5000 {
                client.post("/poll", "")?;
                client
                    .get(&format!("/api/poll?client_id=p{number}&room=short&last_message_id={}", unknown(&cursor)))?;
            }
        }
        State::Listened => {
            crowd(250, &|_| get("/api/events?room=heard"))?;
            crowd(250, &|_| get("/api/stream?room=heard"))?;
            crowd(250, &|_| get("/api/poll?room=heard&client_id=a"))?;
            crowd(250, &|_| websocket::opening_request("localhost", "/api/ws?room=heard", KEY))?;
        }
    }
    Ok((cursor, crowds))
}

/// A cursor of another epoch: a poll with it is answered at once.
fn unknown(cursor: &str) -> String {
    let turned = if cursor.starts_with('0') { "1" } else { "0" };
    format!("{turned}{}", cursor.get(1..).unwrap_or_default())
}

/// All shapes. Those of one endpoint are neighbours.
fn shapes() -> Vec<Shape> {
    use State::{Crowded, Empty, Full, Listened};
    let mut shapes = Vec::new();
    // Requests that are answered at once.
    let mut plain = |endpoint, shape, state, request: MakeRequest| {
        shapes.push(Shape { endpoint, shape, state, opening: Vec::new(), request, each: 1000 });
    };
    let target = |method: &'static str, text: &str| -> MakeRequest {
        let text = text.to_owned();
        Box::new(move |_, cursor| {
            let target = text.replace("CURSOR", cursor);
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
        })
    };
    let content = |path: &'static str, content: String| -> MakeRequest {
        let request = post(path, &content);
        Box::new(move |_, _| request.clone())
    };
    let tree = format!(r#"{{"x":[{}[]]}}"#, "[],".repeat(300_000));
    let members = format!("{{{}}}", (0..80_000).map(|n| format!(r#""{n}":0"#)).collect::<Vec<_>>().join(","));
    let parameters = |path: &str| format!("{path}?{}room=short", "a&".repeat(3900));
    plain("GET /health", "short", Empty, target("GET", "/health"));
    plain(
        "GET /health",
        "100 fields",
        Empty,
        Box::new(|_, _| format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a:\r\n".repeat(99)).into_bytes()),
    );
    plain("GET /health", "the longest target", Empty, target("GET", &parameters("/health")));
    plain("GET /api/stats", "many readers", Crowded, target("GET", "/api/stats"));
    plain("GET /api/stats", "HEAD", Crowded, target("HEAD", "/api/stats"));
    plain("GET /api/messages", "a full room", Full, target("GET", "/api/messages?room=full"));
    plain("GET /api/messages", "1,000 short messages", Full, target("GET", "/api/messages?room=short"));
    plain(
        "GET /api/messages",
        "the cursor of another log",
        Full,
        target("GET", "/api/messages?room=full&last_message_id=CURSOR"),
    );
    plain("GET /api/messages", "HEAD", Full, target("HEAD", "/api/messages?room=short"));
    plain("GET /api/messages", "3,900 parameters", Full, target("GET", &parameters("/api/messages")));
    plain("GET /api/history", "100 long messages", Full, target("GET", "/api/history?room=long&limit=100"));
    plain("GET /api/history", "HEAD", Full, target("HEAD", "/api/history?room=long&limit=100"));
    plain("GET /api/poll", "everything", Full, target("GET", "/api/poll?room=full&client_id=a&last_message_id=CURSOR"));
    plain(
        "GET /api/poll",
        "a new client",
        Full,
        Box::new(|number, cursor| {
            get(&format!("/api/poll?room=short&client_id={number}&last_message_id={}", unknown(cursor)))
        }),
    );
    plain("POST /api/send", "one reader", Empty, content("/api/send", draft("other", "x")));
    plain("POST /api/send", "1,000 readers", Listened, content("/api/send", draft("heard", "x")));
    plain(
        "POST /api/send",
        "the longest text to 1,000 readers",
        Listened,
        content("/api/send", draft("heard", &"\u{1f980}".repeat(65_536))),
    );
    plain(
        "POST /api/send",
        "a new key",
        Empty,
        Box::new(|number, _| post("/api/send", &format!(r#"{{"sender":"a","text":"x","key":"{number}"}}"#))),
    );
    plain(
        "POST /api/send",
        "a new room",
        Empty,
        Box::new(|number, _| post("/api/send", &draft(&number.to_string(), "x"))),
    );
    plain("POST /api/send", "JSON of 300,000 values", Empty, content("/api/send", tree.clone()));
    plain("POST /api/send", "JSON of 80,000 members", Empty, content("/api/send", members));
    plain(
        "POST /api/send",
        "chunks of a byte",
        Empty,
        Box::new(|_, _| {
            let head = "POST /api/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{}0\r\n\r\n", "1\r\n \r\n".repeat(5000)).into_bytes()
        }),
    );
    plain("POST /poll", "a new mailbox", Empty, content("/poll", String::new()));
    plain("POST /poll", "JSON of 300,000 values", Empty, content("/poll", tree.clone()));
    plain(
        "POST /sse/message",
        "an unknown mailbox",
        Empty,
        content("/sse/message", r#"{"connection_id":"a","text":"x"}"#.into()),
    );
    plain("POST /sse/message", "JSON of 300,000 values", Empty, content("/sse/message", tree.clone()));
    plain("POST /send", "short", Empty, content("/send", r#"{"message":"x"}"#.into()));
    plain("DELETE /api/client/", "unknown", Crowded, target("DELETE", "/api/client/x"));
    plain("POST /api/forget", "refused", Empty, target("POST", "/api/forget"));
    plain("OPTIONS", "of everything", Empty, target("OPTIONS", "*"));
    plain("files", "the page", Empty, target("GET", "/"));
    plain("files", "the description", Empty, target("GET", "/openapi.json"));
    plain("files", "a missing file with a long name", Empty, target("GET", &format!("/{}", "a/".repeat(3900))));
    plain("files", "a missing file", Empty, target("GET", "/x"));
    plain("malformed requests", "a wrong version", Empty, target("GET", "/ HTTP/9.9"));
    // Requests that a connection sends once, because a stream or a WebSocket follows.
    let mut once = |endpoint, shape, state, text: &str, opens: bool| {
        let text = text.to_owned();
        let request = Box::new(move |number: usize, cursor: &str| {
            let target = text.replace("CURSOR", cursor).replace("NUMBER", &number.to_string());
            if opens { websocket::opening_request("localhost", &target, KEY) } else { get(&target) }
        });
        shapes.push(Shape { endpoint, shape, state, opening: Vec::new(), request, each: 1 });
    };
    once("GET /api/stream", "everything", Full, "/api/stream?room=full&last_message_id=CURSOR", false);
    once("GET /api/stream", "1,000 short messages", Full, "/api/stream?room=short&last_message_id=CURSOR", false);
    once("GET /api/stream", "a new client", Full, "/api/stream?client_id=NUMBER", false);
    once("GET /api/events", "everything", Full, "/api/events?room=full&last_message_id=CURSOR", false);
    once("GET /api/events", "1,000 short messages", Full, "/api/events?room=short&last_message_id=CURSOR", false);
    once("GET /api/ws", "everything", Full, "/api/ws?room=full&last_message_id=CURSOR", true);
    once("GET /api/ws", "1,000 short messages", Full, "/api/ws?room=short&last_message_id=CURSOR", true);
    once("GET /sse", "a new mailbox", Empty, "/sse", false);
    once("GET /ws", "a new mailbox", Empty, "/ws", true);
    once("GET /api/signal", "a new room", Empty, "/api/signal?room=NUMBER", true);
    once("GET /api/signal", "a full room", Empty, "/api/signal", true);
    once("GET /events", "a reader", Empty, "/events", false);
    once("GET /poll", "a reader", Empty, "/poll", false);
    // Messages on a WebSocket.
    let mut messages = |endpoint, shape, state, path: &str, text: String| {
        let opening = websocket::opening_request("localhost", path, KEY);
        let message = frame(Opcode::Text, text.as_bytes());
        let request = Box::new(move |_: usize, _: &str| message.clone());
        shapes.push(Shape { endpoint, shape, state, opening, request, each: 1000 });
    };
    let short = r#"{"sender":"a","text":"x"}"#;
    messages("messages on /api/ws", "1,000 readers", Listened, "/api/ws?room=heard", short.into());
    messages("messages on /api/ws", "not JSON", Empty, "/api/ws", "x".into());
    messages("messages on /api/ws", "heartbeats", Empty, "/api/ws", r#"{"type":"heartbeat"}"#.into());
    messages("messages on /api/ws", "JSON of 300,000 values", Empty, "/api/ws", tree.clone());
    messages("messages on /ws", "short", Empty, "/ws", r#"{"message":"x"}"#.into());
    messages("messages on /ws", "JSON of 300,000 values", Empty, "/ws", tree);
    messages("messages on /api/signal", "to nobody", Empty, "/api/signal", r#"{"type":"offer","to":"x"}"#.into());
    let tree = format!(r#"{{"x":[{}[]]}}"#, "[],".repeat(21_000));
    messages("messages on /api/signal", "JSON of 21,000 values", Empty, "/api/signal", tree);
    let mut pings = |endpoint, shape, bytes: Vec<u8>| {
        let opening = websocket::opening_request("localhost", "/api/ws", KEY);
        shapes.push(Shape {
            endpoint,
            shape,
            state: Empty,
            opening,
            request: Box::new(move |_, _| bytes.clone()),
            each: 1000,
        });
    };
    pings("frames", "empty Pings", frame(Opcode::Ping, b""));
    pings("frames", "Pings of 125 bytes", frame(Opcode::Ping, &[b'x'; 125]));
    shapes
}
