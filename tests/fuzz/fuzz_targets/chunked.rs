//! The chunked transfer coding. Decoding whole and decoding in pieces must agree. Encoded content must decode to
//! itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use overwire::http::{ChunkError, ChunkedDecoder, LAST_CHUNK, chunk};

const LIMIT: usize = 2048;

/// The content, the number of bytes left over, and whether the message ended.
type Outcome = Result<(Vec<u8>, usize, bool), ChunkError>;

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len(), LIMIT);
    if let Ok((content, ..)) = &whole {
        assert!(content.len() <= LIMIT);
    }
    for size in [1, 2, 3, 7] {
        assert_eq!(decode(bytes, size, LIMIT), whole, "in pieces of {size}");
    }
    round_trip(bytes);
});

/// Decodes `bytes`, which arrive in pieces of `size`.
fn decode(bytes: &[u8], size: usize, limit: usize) -> Outcome {
    let (mut decoder, mut content, mut pending) = (ChunkedDecoder::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        pending.extend_from_slice(piece);
        let used = decoder.decode(&pending, &mut content, limit)?;
        pending.drain(..used);
    }
    Ok((content, pending.len(), decoder.is_done()))
}

fn round_trip(content: &[u8]) {
    for size in [1, 5, 64, content.len().max(1)] {
        let mut encoded: Vec<u8> = content.chunks(size).flat_map(|data| chunk(data).to_vec()).collect();
        encoded.extend_from_slice(LAST_CHUNK);
        encoded.extend_from_slice(b"next");
        assert_eq!(decode(&encoded, encoded.len(), content.len()), Ok((content.to_vec(), 4, true)));
    }
    assert_eq!(chunk(content).unframed(), content);
}
