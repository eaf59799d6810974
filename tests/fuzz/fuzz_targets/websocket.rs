//! WebSocket frames and messages, from a client and from a server. Receiving bytes whole and in pieces must give the
//! same messages and the same error. Encoded headers and messages must be parsed back, and masking twice must change
//! nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::Parse;
use overwire::websocket::{
    Close, CloseCode, Message, Opcode, ProtocolError, Received, Receiver, Role, close, encode, mask, parse_header,
};

const MAX_MESSAGE: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    for sender in [Role::Client, Role::Server] {
        header(bytes, sender);
        let whole = receive(bytes, bytes.len(), sender);
        for size in [1, 2, 3, 7] {
            assert_eq!(receive(bytes, size, sender), whole, "in pieces of {size}");
        }
    }
    round_trip(bytes);
    masking(bytes);
});

/// A prefix of a header must be `Partial` or have the same error. A whole header must be encoded as the same bytes.
fn header(bytes: &[u8], sender: Role) {
    let whole = parse_header(bytes, sender);
    for end in 0..bytes.len().min(overwire::websocket::MAX_HEADER) {
        match (parse_header(&bytes[..end], sender), whole) {
            (Ok(Parse::Partial), Ok(Parse::Complete { used, .. })) => assert!(end < used),
            (Ok(Parse::Partial), _) => {}
            (front, whole) => assert_eq!(front, whole, "after {end} bytes"),
        }
    }
    if let Ok(Parse::Complete { value, used }) = whole {
        let mut encoded = Vec::new();
        value.encode(&mut encoded);
        assert_eq!(encoded, &bytes[..used]);
    }
}

/// The messages in `bytes`, which arrive in pieces of `size`, and the number of bytes left over or the error.
fn receive(bytes: &[u8], size: usize, sender: Role) -> (Vec<Received>, Result<usize, ProtocolError>) {
    let (mut receiver, mut pending, mut all) = (Receiver::new(sender), Vec::new(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        pending.extend_from_slice(piece);
        loop {
            match receiver.receive(&pending, MAX_MESSAGE) {
                Err(error) => return (all, Err(error)),
                Ok((used, received)) => {
                    pending.drain(..used);
                    let Some(received) = received else { break };
                    all.push(received);
                }
            }
        }
    }
    (all, Ok(pending.len()))
}

/// A message, a Ping and a Close, masked from a client and unmasked from a server.
fn round_trip(bytes: &[u8]) {
    let payload = &bytes[..bytes.len().min(MAX_MESSAGE)];
    let small = &payload[..payload.len().min(125)];
    let reason = String::from_utf8_lossy(small);
    for (key, sender) in [(None, Role::Server), (Some([0x37, 0xfa, 0x21, 0x3d]), Role::Client)] {
        let mut stream = Vec::new();
        encode(&mut stream, Opcode::Binary, payload, key);
        encode(&mut stream, Opcode::Ping, small, key);
        let mut expected = vec![Received::Message(Message::Binary(payload.to_vec())), Received::Ping(small.to_vec())];
        if let Ok(text) = str::from_utf8(payload) {
            encode(&mut stream, Opcode::Text, payload, key);
            expected.push(Received::Message(Message::Text(text.to_owned())));
        }
        encode(&mut stream, Opcode::Close, &close(CloseCode::NORMAL, &reason), key);
        let (mut received, rest) = receive(&stream, stream.len(), sender);
        let Some(Received::Close(Close { code: Some(CloseCode::NORMAL), reason: cut })) = received.pop() else {
            panic!("no Close: {received:?}");
        };
        assert!(reason.starts_with(&cut) && cut.len() <= 123);
        assert_eq!((received, rest), (expected, Ok(0)));
    }
}

fn masking(bytes: &[u8]) {
    let Some((key, payload)) = bytes.split_first_chunk::<4>() else { return };
    for offset in 0..5 {
        let mut masked = payload.to_vec();
        mask(&mut masked, *key, offset);
        let by_byte = payload.iter().enumerate().map(|(i, byte)| byte ^ key[(i + offset) % 4]);
        assert!(masked.iter().copied().eq(by_byte));
        mask(&mut masked, *key, offset);
        assert_eq!(masked, payload);
    }
}
