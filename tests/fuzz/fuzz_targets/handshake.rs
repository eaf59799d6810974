//! Opening handshakes. Parsing an answer whole and parsing each prefix must agree. A client must accept the answer to
//! each handshake that the server accepts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::Parse;
use overwire::http::{Request, Response, parse_request_head};
use overwire::websocket::{HandshakeError, accept, encode_key, opening_request, parse_response};

/// The key of RFC 6455, section 1.3. The seeds have its hash.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fuzz_target!(|bytes: &[u8]| {
    answer(bytes);
    if let Some(request) = parse(bytes) {
        request_of_anyone(&request);
    }
    if let Some(nonce) = bytes.first_chunk::<16>() {
        request_of_ours(&encode_key(*nonce));
    }
});

/// A client parses the answer of a server.
fn answer(bytes: &[u8]) {
    let whole = parse_response(bytes, KEY, &[]);
    for end in 0..bytes.len() {
        match (parse_response(&bytes[..end], KEY, &[]), whole) {
            (Ok(Parse::Partial), Ok(Parse::Complete { used, .. })) => assert!(end < used),
            (Ok(Parse::Partial), _) => {}
            (front, whole) => assert_eq!(front, whole, "after {end} bytes"),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Request> {
    match parse_request_head(bytes, bytes.len(), bytes.len()) {
        Ok(Parse::Complete { value, used }) => Some(Request::new(value, bytes[..used].to_vec(), used)),
        _ => None,
    }
}

/// A server checks the request of a client.
fn request_of_anyone(request: &Request) {
    match accept(request, &[]) {
        Ok(accepted) => believed(accepted.response(), request),
        Err(error) => assert!((400..500).contains(&error.response().status()), "{error}"),
    }
    if let Ok(accepted) = accept(request, &["chat"])
        && request.elements("sec-websocket-protocol").any(|name| name == b"chat")
    {
        // The client of this library offers no subprotocol, so it must not accept one.
        assert_eq!(read_answer(accepted.response(), request), Err(HandshakeError::NotOffered));
    }
}

fn request_of_ours(key: &str) {
    let request = parse(&opening_request("localhost:8000", "/ws?room=a", key)).expect("it is a request");
    believed(accept(&request, &["chat"]).expect("it is a handshake").response(), &request);
}

fn believed(response: &Response, request: &Request) {
    assert!(matches!(read_answer(response, request), Ok(Parse::Complete { .. })));
}

fn read_answer(response: &Response, request: &Request) -> Result<Parse<()>, HandshakeError> {
    let key = request.field("sec-websocket-key").and_then(|key| str::from_utf8(key).ok()).expect("it was accepted");
    let mut bytes = Vec::new();
    response.encode_head(&mut bytes, "Sun, 06 Nov 1994 08:49:37 GMT", response.framing(), None);
    parse_response(&bytes, key, &[])
}
