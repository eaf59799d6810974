//! Attacks on the memory of the server.

use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use overwire::websocket::{self, FrameHeader, Opcode};

use super::client::{Client, KEY, draft, get, post};
use super::crowd::Crowd;
use super::scene::{FULL, LEFT, LONG, MEMORY, Row, Scene, Settings, fill};
use super::target::Target;

/// The memory that malloc keeps after hundreds of messages of all sizes that grew at the same time, in MiB. It is free,
/// but lies between blocks that are not.
const FRAGMENTS: f64 = 64.0;

/// The longest text, of the characters with the most bytes.
fn longest_text() -> String {
    "\u{1f980}".repeat(65_536)
}

/// The time after which memory must be back.
fn settling(settings: &Settings) -> Duration {
    settings.choose(LONG, Duration::from_secs(60))
}

/// Connections that ask for all that a full room has, and never read.
pub fn unread(settings: &Settings) -> io::Result<Vec<Row>> {
    let replay = |path: &str, cursor: &str| get(&format!("{path}?room={FULL}&last_message_id={cursor}"));
    let websocket = |cursor: &str| {
        let target = format!("/api/ws?room={FULL}&last_message_id={cursor}");
        websocket::opening_request("localhost", &target, KEY)
    };
    Ok(vec![
        unread_by(settings, "unread answers", |_| get(&format!("/api/messages?room={FULL}")).repeat(8))?,
        unread_by(settings, "unread streams", |cursor| replay("/api/stream", cursor))?,
        unread_by(settings, "unread events", |cursor| replay("/api/events", cursor))?,
        unread_by(settings, "unread WebSockets", websocket)?,
        in_little_memory(settings)?,
    ])
}

fn unread_by(settings: &Settings, name: &str, request: impl Fn(&str) -> Vec<u8>) -> io::Result<Row> {
    let mut cursor = String::new();
    let limit = "-n $(ulimit -Hn)";
    let mut scene = Scene::prepared(settings, name, limit, &[], |server| {
        cursor = fill(server)?;
        Ok(())
    })?;
    let mut crowd = Crowd::connect(scene.server.address, 3000)?;
    crowd.send(request(&cursor), LONG);
    scene.count(&crowd);
    thread::sleep(settings.duration().min(Duration::from_secs(60)));
    scene.end_victim();
    drop(crowd);
    let after = scene.settle(LEFT, settling(settings));
    Ok(scene.finish(MEMORY, Some(after)))
}

/// The same with half a gibibyte of addresses: a server that allocates without a bound ends by SIGABRT.
fn in_little_memory(settings: &Settings) -> io::Result<Row> {
    let limit = "-v 524288";
    let mut scene =
        Scene::prepared(settings, "unread answers in 512 MiB", limit, &[], |server| fill(server).map(drop))?;
    let mut crowd = Crowd::connect(scene.server.address, 130)?;
    crowd.send(get(&format!("/api/messages?room={FULL}")).repeat(8), LONG);
    scene.count(&crowd);
    thread::sleep(settings.duration().min(Duration::from_secs(60)));
    scene.end_victim();
    drop(crowd);
    Ok(scene.finish(MEMORY, None))
}

/// Idempotency keys with long texts, which a careless server stores with them.
pub fn keys(settings: &Settings) -> io::Result<Vec<Row>> {
    Ok(vec![keys_of_mailboxes(settings)?, keys_of_rooms(settings)?])
}

fn keys_of_mailboxes(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "keys of mailboxes")?;
    let text = longest_text();
    let mut client = Client::connect(scene.server.address)?;
    let mut refused = 0;
    for _ in 0..settings.choose(300, 1500) {
        let Some(id) = client.post("/poll", "")?.string("connection_id") else {
            refused += 1;
            continue;
        };
        let put = |text: &str, key: &str| format!(r#"{{"connection_id":"{id}","text":"{text}"{key}}}"#);
        for key in 0..8 {
            let content = put(&text, &format!(r#","key":"{key}""#));
            scene.add_sent(content.len());
            refused += usize::from(client.post("/sse/message", &content)?.status != 202);
        }
        // Now the mailbox retains one byte. Only the keys know of the texts before it.
        refused += usize::from(client.post("/sse/message", &put("x", ""))?.status != 202);
    }
    scene.also(format!("{refused} refused"));
    Ok(scene.finish(MEMORY, None))
}

/// Rooms with as many keys as the server takes. Messages without a key go on: those of the victim have none.
fn keys_of_rooms(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "keys of rooms")?;
    let mut crowd = Crowd::connect(scene.server.address, 8)?;
    let drain = crowd.drain()?;
    let long = "\u{1f980}".repeat(56);
    let keyed = |member: usize| {
        let mut requests = Vec::new();
        for number in 0..settings.choose(20_000, 200_000) {
            let (room, key) = (number % 200, format!("{member}.{number}.{long}"));
            let key: String = key.chars().take(64).collect();
            let content = format!(r#"{{"sender":"a","room":"r{room}","text":"x","key":"{key}"}}"#);
            requests.extend(post("/api/send", &content));
        }
        Arc::from(requests)
    };
    crowd.send_each(keyed, LONG);
    drain.wait_for_silence(Duration::from_millis(500), LONG);
    scene.count(&crowd);
    Ok(scene.finish(MEMORY, None))
}

/// Messages and contents that lack their last byte, and streams whose client has stopped to read.
pub fn unfinished(settings: &Settings) -> io::Result<Vec<Row>> {
    const LENGTH: usize = 1024 * 1024;
    let mut message = Vec::new();
    let header = FrameHeader { fin: true, opcode: Opcode::Text, masking_key: Some([0; 4]), length: LENGTH as u64 };
    header.encode(&mut message);
    message.extend(vec![b'x'; LENGTH - 1]);
    let opening = websocket::opening_request("localhost", "/api/ws?room=other", KEY);
    let head = format!("POST /api/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
    let content = [head.into_bytes(), vec![b' '; LENGTH - 1]].concat();
    Ok(vec![
        unfinished_by(settings, "unfinished messages", &opening, message)?,
        unfinished_by(settings, "unfinished contents", b"", content)?,
        stalled_streams(settings)?,
    ])
}

fn unfinished_by(settings: &Settings, name: &str, opening: &[u8], rest: Vec<u8>) -> io::Result<Row> {
    let mut scene = Scene::start(settings, name)?;
    scene.be_patient(settings);
    let mut crowd = Crowd::connect(scene.server.address, settings.choose(600, 1000))?;
    crowd.send(opening, LONG);
    thread::sleep(Duration::from_millis(200));
    crowd.send(rest, LONG);
    scene.count(&crowd);
    thread::sleep(Duration::from_secs(1));
    scene.end_victim();
    if settings.is_long() {
        let ended = crowd.wait_for_end(Duration::from_secs(120));
        scene.also(ended.map_or("".into(), |time| format!("ended after {} s", time.as_secs())));
        scene.expect(ended.is_some(), "they never end");
    }
    drop(crowd);
    let after = scene.settle(FRAGMENTS, settling(settings));
    Ok(scene.finish(MEMORY, Some(after)))
}

/// Streams that were read once and are not read any more. Each has less queued than its limit.
fn stalled_streams(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "stalled streams")?;
    let address = scene.server.address;
    let mut crowd = Crowd::connect(address, 500)?;
    crowd.send(get("/api/events?room=stalled"), LONG);
    thread::sleep(Duration::from_millis(200));
    let text = "x".repeat(8000);
    let mut publisher = Client::connect(address)?;
    // A socket takes a few hundred kilobytes, and an outbox of the server a mebibyte.
    for _ in 0..100 {
        publisher.post("/api/send", &draft("stalled", &text))?;
    }
    scene.count(&crowd);
    scene.end_victim();
    if settings.is_long() {
        let start = std::time::Instant::now();
        while open_events(address)? > 0 && start.elapsed() < Duration::from_secs(180) {
            thread::sleep(Duration::from_secs(1));
        }
        let left = open_events(address)?;
        scene.also(format!("{left} of 500 left after {} s", start.elapsed().as_secs()));
        scene.expect(left == 0, "they never end");
    }
    drop(crowd);
    let after = scene.settle(LEFT, settling(settings));
    Ok(scene.finish(MEMORY, Some(after)))
}

/// Returns the number of open event streams.
fn open_events(address: std::net::SocketAddr) -> io::Result<u64> {
    let stats = Client::connect(address)?.get("/api/stats")?;
    let stats: serde_json::Value = serde_json::from_slice(&stats.content)?;
    Ok(stats["transports"]["sse"]["open"].as_u64().unwrap_or_default())
}

/// Slow readers of a large file in `--static`.
pub fn large_files(settings: &Settings) -> io::Result<Vec<Row>> {
    let folder = std::env::temp_dir().join(format!("overwire-hostile-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let file = fs::File::create(folder.join("large.bin"))?;
    file.set_len(400 * 1024 * 1024)?; // sparse: it takes no place on the disk
    let row = slow_readers(settings, &folder.to_string_lossy());
    fs::remove_dir_all(&folder)?;
    Ok(vec![row?])
}

fn slow_readers(settings: &Settings, folder: &str) -> io::Result<Row> {
    let nothing = |_: &Target| Ok(());
    let arguments = ["--static", folder];
    let mut scene = Scene::prepared(settings, "large file", "-n $(ulimit -Hn)", &arguments, nothing)?;
    let mut crowd = Crowd::connect(scene.server.address, 6)?;
    crowd.send(get("/large.bin"), LONG);
    let mut heads = Crowd::connect(scene.server.address, 6)?;
    heads.send(b"HEAD /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2), LONG);
    for _ in 0..20 {
        crowd.read();
        thread::sleep(settings.duration() / 20);
    }
    let answer = Client::connect(scene.server.address)?.get("/nothing")?;
    scene.also(format!("a missing file gets {}", answer.status));
    scene.count(&crowd);
    scene.end_victim();
    drop((crowd, heads));
    let after = scene.settle(LEFT, settling(settings));
    Ok(scene.finish(MEMORY, Some(after)))
}
