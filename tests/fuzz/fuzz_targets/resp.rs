//! Replies of a Redis server. Receiving bytes whole and in pieces must give the same replies and the same error. The
//! bytes themselves, cut into arguments, must come out of a command as they went in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::resp::{Decoder, RespError, Value, command};

const MOST: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(decode(bytes, size), whole, "in pieces of {size}");
    }
    round_trip(bytes);
});

/// The replies in `bytes`, which arrive in pieces of `size`, and the error. As text, in which a NaN equals itself.
fn decode(bytes: &[u8], size: usize) -> (String, Option<RespError>) {
    let (mut decoder, mut all) = (Decoder::new(MOST), Vec::new());
    for mut piece in bytes.chunks(size.max(1)) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(value)) => all.push(value),
                Ok(None) => break,
                Err(error) => return (format!("{all:?}"), Some(error)),
            }
        }
    }
    (format!("{all:?}"), None)
}

fn round_trip(bytes: &[u8]) {
    let arguments: Vec<&[u8]> = bytes.split(|&byte| byte == b' ').collect();
    let mut encoded = Vec::new();
    command(&mut encoded, &arguments);
    let most = encoded.len() + (arguments.len() + 1) * size_of::<Value>();
    let expected = arguments.iter().map(|argument| Value::Blob(argument.to_vec())).collect();
    assert_eq!(Decoder::new(most).decode(&mut &encoded[..]), Ok(Some(Value::Array(expected))));
}
