//! An independent WebSocket client, Rust's tungstenite, against the full server and an echo server.

use std::io::Write;
use std::net::TcpStream;

use crate::common::{PATIENCE, TestServer};
use overwire::websocket;
use overwire::{Event, Limits};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

type Client = WebSocket<TcpStream>;

const MEBIBYTE: usize = 1024 * 1024;

/// Opens a WebSocket. Returns the status code if it is refused.
fn open(server: &TestServer, request: impl IntoClientRequest) -> Result<Client, u16> {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    match tungstenite::client(request, stream) {
        Ok((client, _)) => Ok(client),
        Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

fn connect(server: &TestServer, target: &str) -> Client {
    open(server, format!("ws://{}{target}", server.address)).expect("the server accepts")
}

/// Echoes messages of up to a mebibyte.
fn echo_server() -> TestServer {
    TestServer::of_loop(Limits::default(), |mut server| {
        loop {
            match server.next_event()? {
                Event::Request(id, request) => match websocket::accept(&request, &[]) {
                    Ok(accepted) => server.upgrade(id, accepted),
                    Err(error) => server.respond(id, error.response()),
                },
                Event::Message(id, message) => server.send_message(id, message),
                Event::Shutdown => return server.drain(),
                _ => {}
            }
        }
    })
}

fn read_json(client: &mut Client) -> Value {
    serde_json::from_str(client.read().unwrap().to_text().unwrap()).unwrap()
}

fn close_frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code: code.into(), reason: reason.into() }
}

/// Checks that the closing handshake was complete: both sides sent a Close, and then the server closed the connection.
fn expect_clean_end(client: &mut Client) {
    match client.read() {
        Err(Error::ConnectionClosed) => {}
        other => panic!("not a clean end: {other:?}"),
    }
}

#[test]
fn two_clients_chat_in_a_room() {
    let server = TestServer::start();
    let (mut alice, mut bob) = (connect(&server, "/api/ws?room=x"), connect(&server, "/api/ws?room=x"));
    let mut stranger = connect(&server, "/api/ws?room=y");
    server.wait_for_open("websocket", 3);
    for (number, text) in ["hello", "h\u{e9}\u{20ac}\u{1f600}", "bye"].into_iter().enumerate() {
        let (speaker, name) = if number % 2 == 0 { (&mut alice, "alice") } else { (&mut bob, "bob") };
        speaker.send(Message::text(json!({ "sender": name, "text": text }).to_string())).unwrap();
        let [to_alice, to_bob] = [&mut alice, &mut bob].map(read_json);
        assert_eq!(to_alice, to_bob);
        assert_eq!((&to_bob["sender"], &to_bob["text"], &to_bob["room"]), (&json!(name), &json!(text), &json!("x")));
    }
    // The stranger gets the next message of its own room, and nothing before that.
    server.publish("y", "psst");
    assert_eq!(read_json(&mut stranger)["text"], "psst");
}

#[test]
fn clients_with_a_cursor_get_what_they_missed() {
    let server = TestServer::start();
    let mut client = connect(&server, "/api/ws");
    server.wait_for_open("websocket", 1);
    let seen = server.publish("general", "1");
    assert_eq!(read_json(&mut client)["id"], *seen);
    drop(client);
    for text in ["2", "3"] {
        server.publish("general", text);
    }
    let mut client = connect(&server, &format!("/api/ws?last_message_id={seen}"));
    assert_eq!(["2", "3"].map(|_| read_json(&mut client)["text"].clone()), ["2", "3"]);
}

#[test]
fn both_sides_answer_pings() {
    let server = TestServer::start();
    let mut client = connect(&server, "/api/ws");
    server.wait_for_open("websocket", 1);
    for payload in [&b""[..], b"are you there?", &[7; 125]] {
        client.send(Message::Ping(payload.to_vec().into())).unwrap();
        assert_eq!(client.read().unwrap(), Message::Pong(payload.to_vec().into()));
    }
    for _ in 0..3 {
        server.advance(20);
        assert_eq!(client.read().unwrap(), Message::Ping(Default::default()));
        // tungstenite sends its Pong with the next operation.
        client.flush().unwrap();
        client.send(Message::Ping("still here".into())).unwrap();
        assert_eq!(client.read().unwrap(), Message::Pong("still here".into()));
    }
}

#[test]
fn messages_of_any_length_are_echoed() {
    let server = echo_server();
    let mut client = connect(&server, "/");
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, MEBIBYTE] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        for message in [Message::text("x".repeat(length)), Message::binary(bytes)] {
            client.send(message.clone()).unwrap();
            assert!(client.read().unwrap() == message, "{length} bytes");
        }
    }
}

#[test]
fn fragments_are_echoed_as_one_message() {
    let server = echo_server();
    let mut client = connect(&server, "/");
    let text = "h\u{e9}\u{20ac}\u{1f600}";
    let send = |client: &mut Client, bytes: &[u8], data, fin| {
        client.send(Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(data), fin))).unwrap();
    };
    send(&mut client, b"", Data::Text, false);
    for byte in text.bytes() {
        send(&mut client, &[byte], Data::Continue, false);
    }
    client.send(Message::Ping("between".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("between".into()));
    send(&mut client, b"", Data::Continue, true);
    assert_eq!(client.read().unwrap(), Message::text(text));
    // 256 fragments of 4 KiB.
    for number in 0..256 {
        send(&mut client, &[7; 4096], if number == 0 { Data::Binary } else { Data::Continue }, number == 255);
    }
    assert!(client.read().unwrap() == Message::binary(vec![7; MEBIBYTE]));
}

#[test]
fn a_close_from_a_client_is_answered() {
    let server = echo_server();
    for (sent, echoed) in [
        (Some(close_frame(1000, "bye")), Some(close_frame(1000, ""))),
        (Some(close_frame(4000, "h\u{e9}")), Some(close_frame(4000, ""))),
        (None, None),
    ] {
        let mut client = connect(&server, "/");
        client.send(Message::text("last words")).unwrap();
        client.close(sent).unwrap();
        assert_eq!(client.read().unwrap(), Message::text("last words"));
        assert_eq!(client.read().unwrap(), Message::Close(echoed));
        expect_clean_end(&mut client);
    }
}

#[test]
fn the_server_closes_with_a_code_and_a_reason() {
    let server = TestServer::start();
    let (mut disconnected, mut last) = (connect(&server, "/api/ws?client_id=a"), connect(&server, "/ws"));
    server.wait_for_open("websocket", 2);
    server.connect().send("DELETE /api/client/a HTTP/1.1\r\nHost: localhost\r\n\r\n").answer();
    assert_eq!(disconnected.read().unwrap(), Message::Close(Some(close_frame(1000, "disconnected"))));
    expect_clean_end(&mut disconnected);
    assert_eq!(read_json(&mut last)["message"], "Message 1");
    server.shut_down();
    let Message::Close(Some(CloseFrame { code, .. })) = last.read().unwrap() else { panic!("no Close") };
    assert_eq!(code, CloseCode::Away);
    expect_clean_end(&mut last);
    drop((disconnected, last));
    server.wait_for_end(); // it waits for no closed connection
}

#[test]
fn long_messages_get_1009() {
    let server = echo_server();
    for in_fragments in [false, true] {
        let mut client = connect(&server, "/");
        if in_fragments {
            let half = Frame::message(vec![7; MEBIBYTE / 2], OpCode::Data(Data::Binary), false);
            let rest = Frame::message(vec![7; MEBIBYTE / 2 + 1], OpCode::Data(Data::Continue), true);
            client.send(Message::Frame(half)).unwrap();
            client.send(Message::Frame(rest)).unwrap();
        } else {
            client.send(Message::binary(vec![7; MEBIBYTE + 1])).unwrap();
        }
        let reason = "a message must be at most 1048576 bytes";
        assert_eq!(client.read().unwrap(), Message::Close(Some(close_frame(1009, reason))));
        expect_clean_end(&mut client);
    }
}

#[test]
fn violations_get_a_close_code_and_refused_handshakes_a_status_code() {
    let server = echo_server();
    let mut client = connect(&server, "/");
    client.get_mut().write_all(b"\x81\x05hello").unwrap(); // not masked
    let Message::Close(Some(CloseFrame { code, .. })) = client.read().unwrap() else { panic!("no Close") };
    assert_eq!(code, CloseCode::Protocol);
    expect_clean_end(&mut client);

    let server = TestServer::start();
    let refused = |name: Option<(&'static str, &'static str)>, target: &str| {
        let mut request = format!("ws://{}{target}", server.address).into_client_request().unwrap();
        if let Some((name, value)) = name {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        open(&server, request).err()
    };
    assert_eq!(refused(Some(("Origin", "http://evil.example")), "/api/ws"), Some(403));
    assert_eq!(refused(Some(("Host", "evil.example")), "/api/ws"), Some(421));
    assert_eq!(refused(None, "/nothing"), Some(404));
    assert_eq!(refused(None, "/api/ws?last_message_id=1"), Some(400));
}
