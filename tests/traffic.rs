//! The traffic of many exchanges: the loop says which of them have had some.

use crate::common::{Client, TestServer};
use overwire::http::Response;
use overwire::websocket::{self, Opcode};
use overwire::{Event, Limits};
use serde_json::json;

/// A server that watches its WebSockets and echoes their messages. `/moved` answers with the number of those that have
/// moved bytes since the last such request, and with the bytes that they have moved.
fn server() -> TestServer {
    TestServer::of_loop(Limits::default(), |mut server| {
        loop {
            match server.next_event()? {
                Event::Request(id, request) if request.path() == "/moved" => {
                    let moved = server.moved();
                    let traffic: Vec<_> = moved.iter().map(|id| server.traffic(*id)).collect();
                    let sum = |bytes: fn(&overwire::Traffic) -> u64| traffic.iter().map(bytes).sum::<u64>();
                    let answer = json!([traffic.len(), sum(|one| one.received), sum(|one| one.sent)]);
                    server.respond(id, Response::json(200, &answer));
                }
                Event::Request(id, request) => {
                    server.upgrade(id, websocket::accept(&request, &[]).expect("a handshake"));
                    server.watch_traffic(id);
                }
                Event::Message(id, message) => server.send_message(id, message),
                Event::Shutdown => return server.drain(),
                _ => {}
            }
        }
    })
}

#[test]
fn exchanges_that_have_moved_bytes_are_returned_once() {
    let server = server();
    let mut asking = server.connect();
    let moved = |client: &mut Client| client.get("/moved").json();
    let mut sockets: Vec<Client> = (0..20).map(|_| server.websocket("/")).collect();
    assert_eq!(moved(&mut asking)[0], 20, "each has been accepted");
    assert_eq!(moved(&mut asking), json!([0, 0, 0]));
    let request = websocket::opening_request("localhost", "/", &websocket::encode_key(*b"0123456789abcdef")).len();
    let response = websocket_head(&server);
    moved(&mut asking);

    sockets[3].send_text("hello").frame();
    sockets[5].send_frame(Opcode::Ping, "x").frame(); // which the program does not see
    let expected = json!([2, 2 * request + 11 + 7, 2 * response + 7 + 3]);
    assert_eq!(moved(&mut asking), expected);
    sockets[3].send_frame(Opcode::Pong, "unasked");
    while moved(&mut asking) != json!([1, request + 11 + 13, response + 7]) {}
    assert_eq!(moved(&mut asking), json!([0, 0, 0]));
    drop(sockets);
    while moved(&mut asking)[0] != 0 {}
}

/// Returns the length of the answer to an opening handshake.
fn websocket_head(server: &TestServer) -> usize {
    server.connect().upgrade("/").len()
}
