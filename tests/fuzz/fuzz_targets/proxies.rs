//! What a proxy says of its clients. A header of the PROXY protocol whole, and each shorter one: `Partial`, or the same
//! error. The fields of a request: the client is the peer unless a trusted proxy names another, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::Parse;
use overwire::http::{Request, parse_request_head};
use overwire::proxies::Proxies;
use overwire::proxy_protocol::parse;

fuzz_target!(|bytes: &[u8]| {
    header(&bytes[..bytes.len().min(5000)]);
    fields(bytes);
});

fn header(bytes: &[u8]) {
    let whole = parse(bytes);
    let used = if let Ok(Parse::Complete { used, .. }) = whole { used } else { bytes.len() };
    assert_eq!(parse(&bytes[..used]), whole, "without the bytes after it");
    for end in 0..used {
        match parse(&bytes[..end]) {
            Ok(Parse::Partial) => {}
            Err(error) => assert_eq!(Err(error), whole, "after {end} bytes"),
            complete => panic!("complete after {end} bytes: {complete:?}"),
        }
    }
}

fn fields(bytes: &[u8]) {
    let head = [b"GET / HTTP/1.1\r\nHost: h\r\n", bytes, b"\r\n\r\n"].concat();
    let Ok(Parse::Complete { value, used }) = parse_request_head(&head, 8192, 8192) else { return };
    let request = Request::new(value, head[..used].to_vec(), used);
    let proxies = Proxies::new(["10.0.0.0/8"]).unwrap();
    for (peer, is_trusted) in [("10.0.0.1", true), ("192.0.2.1", false)] {
        let connection = proxies.client_of_connection(peer.parse().unwrap(), None);
        match proxies.client(connection.clone(), &request) {
            Ok(client) => assert!(is_trusted || client == connection),
            Err(error) => assert!(is_trusted, "{error}"),
        }
    }
}
