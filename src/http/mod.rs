//! HTTP/1.0 and HTTP/1.1 as bytes and values (RFC 9110, RFC 9112): requests are parsed,
//! responses are encoded, chunks go both ways. No sockets, no clock.

mod chunked;
mod date;
mod request;
mod response;
mod target;

pub use chunked::{ChunkError, ChunkedDecoder, Element, LAST_CHUNK, chunk};
pub use date::format_date;
pub use request::{CONTINUE, Framing, Head, MAX_FIELDS, Method, Request, RequestError, Version, parse_head};
pub use response::{Content, Delimiter, Response, reason};
pub use target::{decode_component, query_pairs};

/// The elements of a comma-separated field value, without the white space around them
/// (RFC 9110, section 5.6.1). Empty elements are skipped, as a recipient must.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}
