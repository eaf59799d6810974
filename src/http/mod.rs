//! HTTP/1.0 and HTTP/1.1 as bytes and values (RFC 9110, RFC 9112): heads are parsed, responses are encoded, content is
//! decoded and encoded. No sockets, no clock.

mod body;
mod chunked;
mod cors;
mod date;
mod error;
mod head;
mod request;
mod response;
mod target;

pub use body::{ContentDecoder, Framing};
pub(crate) use chunked::{CHUNK_END, begin_chunk};
pub use chunked::{ChunkedDecoder, Element, LAST_CHUNK, chunk};
pub(crate) use cors::OriginIndex;
pub use cors::{NotAnOrigin, Origins};
pub use date::{format_date, format_timestamp, parse_date};
pub use error::{ChunkError, FramingError, RequestError, ResponseError};
pub(crate) use head::Outline;
pub use head::{MAX_FIELDS, RequestHead, ResponseHead, parse_request_head, parse_response_head, unfold};
pub(crate) use request::host_name;
pub use request::{CONTINUE, Method, Request, Version, is_origin_of};
pub use response::{Content, Response, reason};
pub use target::{decode_component, query_pairs};

/// The elements of a comma-separated field value, without the white space around them (RFC 9110, section 5.6.1). Empty
/// elements are skipped, as a recipient must.
///
/// ```
/// let elements: Vec<_> = overwire::http::list(b"keep-alive, , Upgrade").collect();
/// assert_eq!(elements, [&b"keep-alive"[..], b"Upgrade"]);
/// ```
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The query parameters whose values are secrets: a ticket, and a token in a URL (RFC 6750, section 2.3).
pub(crate) const SECRET_PARAMETERS: [&str; 2] = ["ticket", "access_token"];

/// Whether this is a token: the name of a field, a method or a coding (RFC 9110, section 5.6.2).
///
/// ```
/// assert!(overwire::http::is_token(b"Last-Event-ID") && !overwire::http::is_token(b"a b"));
/// ```
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
