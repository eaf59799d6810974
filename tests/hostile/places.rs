//! Attacks on the places that the server has: connections, clients, mailboxes, rooms. A newcomer gets one where
//! something idle can go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use overwire::websocket;

use super::client::{Client, KEY, draft, get, post};
use super::crowd::Crowd;
use super::scene::{LONG, MEMORY, Row, Scene, Settings};

/// The number of newcomers that try.
const NEWCOMERS: usize = 20;

pub fn places(settings: &Settings) -> io::Result<Vec<Row>> {
    Ok(vec![
        clients(settings)?,
        mailboxes(settings)?,
        rooms(settings)?,
        signalling(settings)?,
        connections(settings, "silent connections", b"")?,
        connections(settings, "idle connections", &get("/health"))?,
    ])
}

/// Sends the requests over a few connections whose answers are read.
fn send_all(scene: &mut Scene, count: usize, request: impl Fn(usize) -> Vec<u8>) -> io::Result<()> {
    const CONNECTIONS: usize = 20;
    let mut crowd = Crowd::connect(scene.server.address, CONNECTIONS)?;
    let drain = crowd.drain()?;
    let share = |member: usize| -> Arc<[u8]> {
        (0..count / CONNECTIONS).flat_map(|number| request(member * (count / CONNECTIONS) + number)).collect()
    };
    crowd.send_each(share, LONG);
    drain.wait_for_silence(Duration::from_millis(200), LONG);
    scene.count(&crowd);
    Ok(())
}

/// Counts the newcomers that get in.
fn admit(scene: &mut Scene, get_in: impl Fn(SocketAddr, usize) -> io::Result<bool>) {
    let address = scene.server.address;
    let admitted = (0..NEWCOMERS).filter(|number| get_in(address, *number).unwrap_or(false)).count();
    scene.also(format!("{admitted} of {NEWCOMERS} newcomers"));
    scene.expect(admitted == NEWCOMERS, format!("{} newcomers were refused", NEWCOMERS - admitted));
}

/// More client ids than the server stores.
fn clients(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "clients")?;
    let mut client = Client::connect(scene.server.address)?;
    let first = client.post("/api/send", &draft("one", "first"))?.string("message_id").unwrap_or_default();
    client.post("/api/send", &draft("one", "second"))?;
    // It is answered at once, because there is a message after the cursor.
    let target = |id: String| format!("/api/poll?client_id={id}&room=one&last_message_id={first}");
    send_all(&mut scene, 110_000, |number| get(&target(format!("c{number}"))))?;
    admit(&mut scene, |address, number| {
        Ok(Client::connect(address)?.get(&target(format!("newcomer{number}")))?.status == 200)
    });
    Ok(scene.finish(MEMORY, None))
}

/// More mailboxes than the server stores. One that has a reader stays.
fn mailboxes(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "mailboxes")?;
    let mut client = Client::connect(scene.server.address)?;
    let mailbox = client.post("/poll", "")?.string("connection_id").unwrap_or_default();
    let mut poll = Client::connect(scene.server.address)?;
    poll.send(&post("/poll", &format!(r#"{{"connection_id":"{mailbox}"}}"#)))?;
    client.get("/health")?;
    send_all(&mut scene, 22_000, |_| post("/poll", ""))?;
    admit(&mut scene, |address, _| Ok(Client::connect(address)?.post("/poll", "")?.status == 200));
    let put = format!(r#"{{"connection_id":"{mailbox}","text":"still here"}}"#);
    let stays = client.post("/sse/message", &put)?.status == 202 && poll.answer()?.status == 200;
    scene.expect(stays, "a mailbox with a reader is gone");
    Ok(scene.finish(MEMORY, None))
}

/// More rooms than the server stores. `general`, which the victim reads, survives. A room without readers may go, but
/// its readers are not refused when they come back.
fn rooms(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "rooms")?;
    let mut client = Client::connect(scene.server.address)?;
    let kept = client.post("/api/send", &draft("general", "kept"))?.string("message_id").unwrap_or_default();
    client.post("/api/send", &draft("left", "alone"))?;
    send_all(&mut scene, 2000, |number| post("/api/send", &draft(&format!("room {number}"), "x")))?;
    admit(&mut scene, |address, _| Ok(Client::connect(address)?.get("/api/messages?room=left")?.status == 200));
    let general = Client::connect(scene.server.address)?.get(&format!("/api/messages?last_message_id={kept}"))?;
    let is_recovered = String::from_utf8_lossy(&general.content).contains("\"recovered\":true");
    scene.expect(general.status == 200 && is_recovered, "the room general was removed");
    Ok(scene.finish(MEMORY, None))
}

/// WebSockets that take every room of the signalling.
fn signalling(settings: &Settings) -> io::Result<Row> {
    let mut scene = Scene::start(settings, "signalling")?;
    let mut crowd = Crowd::connect(scene.server.address, 1024)?;
    let join = |number| websocket::opening_request("localhost", &format!("/api/signal?room=r{number}"), KEY).into();
    crowd.send_each(join, LONG);
    thread::sleep(Duration::from_millis(500));
    scene.count(&crowd);
    admit(&mut scene, |address, number| {
        let mut client = Client::connect(address)?;
        client.upgrade(&format!("/api/signal?room=newcomer{number}"))?;
        Ok(client.message()?.contains("welcome"))
    });
    Ok(scene.finish(MEMORY, None))
}

/// Connections to the limit, which send `bytes` and then nothing. The first ones are older than a second when the last
/// ones come: a new connection is left alone for that time.
fn connections(settings: &Settings, name: &str, bytes: &[u8]) -> io::Result<Row> {
    let mut scene = Scene::prepared(settings, name, "-n 1056", &[], |_| Ok(()))?;
    let mut crowds = Vec::new();
    for _ in 0..11 {
        let mut crowd = Crowd::connect(scene.server.address, 100)?;
        crowd.send(bytes, LONG);
        thread::sleep(Duration::from_millis(150));
        crowd.read();
        scene.count(&crowd);
        crowds.push(crowd);
    }
    admit(&mut scene, |address, _| Ok(Client::connect(address)?.get("/health")?.status == 200));
    thread::sleep(Duration::from_millis(500));
    Ok(scene.finish(MEMORY, None))
}
