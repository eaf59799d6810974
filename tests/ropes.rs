//! Ropes through real sockets: as the content of an answer, on a stream, and on a WebSocket.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::common::TestServer;
use overwire::http::{Content, Response};
use overwire::{Event, Limits, Rope, Shared, websocket};

/// Three slices of one `Shared`, and 100 of another: large, small, and more than one system call takes at once.
fn rope() -> Rope {
    let large = Shared::from((0..200_000u32).map(|n| b'a' + (n % 23) as u8).collect::<Vec<u8>>());
    let small = Shared::from(b"0123456789".to_vec());
    let slices = [large.slice(0..70_000), large.slice(3..4), large.slice(70_000..200_000)];
    Rope::from_iter(slices.into_iter().chain((0..600).map(|n| small.slice(n % 10..10))))
}

/// A rope of two WebSocket frames.
fn frames() -> Rope {
    let (one, two) = (websocket::text("one"), websocket::text("two and three"));
    Rope::from_iter([one.slice(0..2), one.slice(2..5), (&two).into()])
}

/// Answers every request with a rope. After each, tells what is queued, and what has been sent in all.
fn serve() -> (TestServer, Receiver<(usize, u64)>) {
    let (sender, receiver) = channel();
    (TestServer::of_loop(Limits::default(), move |server| run(server, &sender)), receiver)
}

fn run(mut server: overwire::EventLoop, books: &Sender<(usize, u64)>) -> std::io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(id, request) if request.path() == "/stream" => {
                server.begin(id, Response::new(200));
                let before = (server.waiting(id), server.traffic(id).sent);
                server.send_rope(id, &Rope::from_iter([]));
                server.send_rope(id, &rope());
                let after = (server.waiting(id), server.traffic(id).sent);
                let _ = books.send((after.0 - before.0, after.1 - before.1));
                server.send(id, &overwire::http::chunk(b"last"));
                server.end(id);
            }
            Event::Request(id, request) => match websocket::accept(&request, &[]) {
                Ok(accepted) => {
                    server.upgrade(id, accepted);
                    server.send_rope(id, &frames());
                }
                Err(_) => server.respond(id, Response::text(200, &rope())),
            },
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

#[test]
fn content_can_be_a_rope() {
    let (server, _) = serve();
    let content = rope().to_vec();
    let mut client = server.connect();
    // Pipelined: the rope is queued between the heads of two answers.
    client.send_get("/").send_get("/").send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").send_get("/");
    for _ in 0..2 {
        let answer = client.answer();
        assert_eq!(answer.field("Content-Length"), Some(&*content.len().to_string()));
        assert!(answer.content == content);
    }
    let head = client.head();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", content.len())), "{head}");
    assert!(client.answer().content == content, "the answer to HEAD has no content");
    let old = server.connect().send("GET / HTTP/1.0\r\nHost: h\r\n\r\n").answer();
    assert!(old.content == content);
}

#[test]
fn a_rope_on_a_stream_is_one_chunk() {
    let (server, books) = serve();
    let content = rope().to_vec();
    let mut client = server.connect();
    client.send_get("/stream").head();
    assert!(client.chunk().as_ref() == Some(&content));
    assert_eq!(client.chunk_text(), "last");
    assert_eq!(client.chunk(), None);
    assert_eq!(client.get("/").status, 200, "the connection persists");
    let framing = format!("{:x}\r\n\r\n", content.len()).len();
    assert_eq!(books.recv().unwrap(), (content.len() + framing, (content.len() + framing) as u64));

    let old = server.connect().send("GET /stream HTTP/1.0\r\nHost: h\r\n\r\n").answer();
    assert!(old.content == [&content[..], b"last"].concat(), "no chunks for HTTP/1.0");
    assert_eq!(books.recv().unwrap(), (content.len(), content.len() as u64));
}

#[test]
fn a_rope_on_a_websocket_is_frames() {
    let (server, _) = serve();
    let mut client = server.websocket("/");
    assert_eq!((client.message().text(), client.message().text()), ("one", "two and three"));
}

#[test]
fn content_is_the_same_in_one_part_and_in_many() {
    let whole = Content::from(rope().to_vec());
    let parts = Content::from(&rope());
    assert_eq!((whole.len(), parts.len()), (rope().len(), rope().len()));
    assert!(whole.to_vec() == parts.to_vec());
    assert_eq!((whole.parts().count(), parts.parts().count()), (1, 603));
    assert_eq!((Content::Omitted(Some(9)).len(), Content::from("").parts().count()), (0, 0));
}
