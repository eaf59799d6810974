//! The opening handshake, as a server and as a client (RFC 6455, section 4).

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use sha1::{Digest, Sha1};

use crate::bytes::Parse;
use crate::http::{Method, Request, Response, ResponseError, ResponseHead, Version, parse_response_head};

/// The suffix of the key that is hashed: no other protocol has it (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Decodes base64 whose last character has bits that no byte uses. The example of a key in section 4.1 has such bits,
/// and RFC 4648 lets a decoder ignore them (section 3.5).
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// The only version of the protocol.
const VERSION: &[u8] = b"13";

/// The longest answer to an opening handshake that a client reads, in bytes, with all interim responses before it.
const MAX_RESPONSE: usize = 16 * 1024;

/// The number of interim responses that a client skips.
const MAX_INTERIM: usize = 100;

/// A violation in an opening handshake, of the client's request or of the server's answer.
///
/// ```
/// use overwire::websocket::HandshakeError;
///
/// assert_eq!(HandshakeError::Version.response().status(), 426);
/// assert_eq!(HandshakeError::WrongAccept.section(), "RFC 6455, section 4.1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The method is not GET.
    NotGet,
    /// The version is HTTP/1.0.
    NotHttp11,
    /// The request has no `Upgrade: websocket`.
    NoUpgrade,
    /// The request has no `Connection: Upgrade`.
    NoConnectionUpgrade,
    /// The request does not have exactly one Sec-WebSocket-Key of 16 bytes.
    Key,
    /// The version of the protocol is not 13.
    Version,
    /// The server answered with this status and not with 101.
    Refused(u16),
    /// The answer is not an HTTP response.
    MalformedResponse,
    /// The head of the answer, with all interim responses before it, is longer than a client reads.
    ResponseTooLong,
    /// The server sent more interim responses than a client skips.
    TooManyInterim,
    /// The answer is 101 without `Upgrade: websocket`.
    WrongUpgrade,
    /// The answer is 101 without `Connection: Upgrade`.
    WrongConnection,
    /// `Sec-WebSocket-Accept` is not the hash of the key that was sent.
    WrongAccept,
    /// The server chose an extension or a subprotocol that was not offered.
    NotOffered,
}

impl HandshakeError {
    /// The answer of a server. 426 names the supported version (section 4.4), 405 the allowed method.
    pub fn response(self) -> Response {
        let (status, _, sentence) = self.row();
        let response = Response::error(status, &sentence);
        match self {
            HandshakeError::Version => response
                .with_field("Sec-WebSocket-Version", "13")
                .with_field("Connection", "Upgrade")
                .with_field("Upgrade", "websocket"),
            HandshakeError::NotGet => response.with_field("Allow", "GET"),
            _ => response,
        }
    }

    /// The section that is violated.
    pub fn section(self) -> &'static str {
        self.row().1
    }

    /// The status code of a server's answer, the section and the sentence. No server answers the errors of a client.
    fn row(self) -> (u16, &'static str, Cow<'static, str>) {
        use HandshakeError::*;
        const SERVER: &str = "RFC 6455, section 4.2.1";
        const CLIENT: &str = "RFC 6455, section 4.1";
        let (status, section, sentence) = match self {
            NotGet => (405, SERVER, "a WebSocket handshake is a GET request"),
            NotHttp11 => (400, SERVER, "a WebSocket handshake needs HTTP/1.1"),
            NoUpgrade => (400, SERVER, "this is a WebSocket endpoint: expected `Upgrade: websocket`"),
            NoConnectionUpgrade => (400, SERVER, "expected `Connection: Upgrade` in a WebSocket handshake"),
            Key => (400, SERVER, "expected one Sec-WebSocket-Key of 16 bytes in base64"),
            Version => (426, SERVER, "expected `Sec-WebSocket-Version: 13`"),
            Refused(status) => return (400, CLIENT, format!("the server answered {status} and not 101").into()),
            MalformedResponse => (400, CLIENT, "the answer to the handshake is not an HTTP response"),
            ResponseTooLong => {
                let sentence = format!("the answer to the handshake is longer than {MAX_RESPONSE} bytes");
                return (400, "RFC 9110, section 5.4", sentence.into());
            }
            TooManyInterim => {
                let sentence = format!("the server sent more than {MAX_INTERIM} interim responses");
                return (400, "RFC 9110, section 15.2", sentence.into());
            }
            WrongUpgrade => (400, CLIENT, "the server answered 101 without `Upgrade: websocket`"),
            WrongConnection => (400, CLIENT, "the server answered 101 without `Connection: Upgrade`"),
            WrongAccept => (400, CLIENT, "Sec-WebSocket-Accept is not the hash of the key that was sent"),
            NotOffered => (400, CLIENT, "the server chose an extension or a subprotocol that was not offered"),
        };
        (status, section, sentence.into())
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().2)
    }
}

impl std::error::Error for HandshakeError {}

/// The answer to an [accepted](accept) opening handshake: 101 Switching Protocols. Frames follow it.
/// [`EventLoop::upgrade`](crate::EventLoop::upgrade) sends it.
///
/// ```
/// use overwire::Parse;
/// use overwire::http::{Request, parse_request_head};
/// use overwire::websocket::{accept, encode_key, opening_request};
///
/// let bytes = opening_request("localhost", "/chat", &encode_key([7; 16]));
/// let Ok(Parse::Complete { value: head, used }) = parse_request_head(&bytes, 8192, 8192) else { panic!() };
/// let accepted = accept(&Request::new(head, bytes, used), &[])?.with_field("Set-Cookie", "a=b");
/// assert_eq!(accepted.response().status(), 101);
/// # Ok::<(), overwire::websocket::HandshakeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Accepted(Response);

impl Accepted {
    /// Adds a field line to the answer.
    #[doc(alias = "header")]
    #[doc(alias = "with_header")]
    pub fn with_field(self, name: &str, value: &str) -> Self {
        Accepted(self.0.with_field(name, value))
    }

    /// The head of the answer.
    pub fn response(&self) -> &Response {
        &self.0
    }
}

/// Checks a client's opening handshake and returns the answer: 101 with the key's hash, and the first subprotocol of
/// `supported` that the client offers. Extensions are declined: the answer does not name them (section 4.2.2). The
/// caller checks the `Origin`.
///
/// # Errors
/// A [`HandshakeError`], which has its [response](HandshakeError::response).
pub fn accept(request: &Request, supported: &[&str]) -> Result<Accepted, HandshakeError> {
    let has = |field, token: &str| request.elements(field).any(|e| e.eq_ignore_ascii_case(token.as_bytes()));
    if request.method() != Method::Get {
        return Err(HandshakeError::NotGet);
    }
    if !has("upgrade", "websocket") {
        return Err(HandshakeError::NoUpgrade);
    }
    if !has("connection", "upgrade") {
        return Err(HandshakeError::NoConnectionUpgrade);
    }
    if request.version() != Version::Http11 {
        return Err(HandshakeError::NotHttp11);
    }
    if request.field("sec-websocket-version") != Some(VERSION) {
        return Err(HandshakeError::Version);
    }
    let key = check_key(request)?;
    let response = Response::new(101)
        .with_field("Upgrade", "websocket")
        .with_field("Connection", "Upgrade")
        .with_field("Sec-WebSocket-Accept", &accept_key(key));
    let offered = |name: &&&str| request.elements("sec-websocket-protocol").any(|o| o == name.as_bytes());
    Ok(Accepted(match supported.iter().find(offered) {
        Some(chosen) => response.with_field("Sec-WebSocket-Protocol", chosen),
        None => response,
    }))
}

fn check_key(request: &Request) -> Result<&[u8], HandshakeError> {
    let mut keys = request.values("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => Ok(key),
        _ => Err(HandshakeError::Key),
    }
}

/// Whether this is a value of `Sec-WebSocket-Key`: 16 bytes in base64 (section 4.1).
///
/// ```
/// use overwire::websocket::is_key;
///
/// assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ==") && !is_key(b"dGhlIHNhbXBsZSBub25jZQ"));
/// ```
pub fn is_key(text: &[u8]) -> bool {
    LENIENT.decode(text).is_ok_and(|nonce| nonce.len() == 16)
}

/// The value of `Sec-WebSocket-Accept` for a value of `Sec-WebSocket-Key`: the proof that the server speaks WebSocket
/// (section 4.2.2, item 5.4).
///
/// ```
/// let accept = overwire::websocket::accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
// ANCHOR: accept_key
pub fn accept_key(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    STANDARD.encode(hash)
}
// ANCHOR_END: accept_key

/// The value of `Sec-WebSocket-Key` for 16 random bytes.
///
/// ```
/// assert_eq!(overwire::websocket::encode_key(*b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
/// ```
pub fn encode_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// A client's opening handshake for `target` on `host` (section 4.1), with a key from [`encode_key`]. It offers no
/// extension and no subprotocol.
///
/// ```
/// let request = overwire::websocket::opening_request("localhost", "/chat", "dGhlIHNhbXBsZSBub25jZQ==");
/// assert!(request.starts_with(b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"));
/// ```
pub fn opening_request(host: &str, target: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Parses the answer to [`opening_request`] with this `key`, and with these subprotocols `offered` in an added field.
/// Interim responses before the answer are skipped (RFC 9110, section 15.2). Frames follow the answer.
///
/// ```
/// use overwire::websocket::{HandshakeError, parse_response};
///
/// let refused = parse_response(b"HTTP/1.1 403 Forbidden\r\n\r\n", "dGhlIHNhbXBsZSBub25jZQ==", &[]);
/// assert_eq!(refused, Err(HandshakeError::Refused(403)));
/// ```
///
/// # Errors
/// A [`HandshakeError`] if the server refused, or if its answer violates the protocol.
pub fn parse_response(bytes: &[u8], key: &str, offered: &[&str]) -> Result<Parse<()>, HandshakeError> {
    let mut start = 0;
    for _ in 0..=MAX_INTERIM {
        let (head, used) = match parse_response_head(&bytes[start..], MAX_RESPONSE - start) {
            Ok(Parse::Complete { value, used }) => (value, start + used),
            Ok(Parse::Partial) => return Ok(Parse::Partial),
            Err(ResponseError::HeadTooLong(_)) => return Err(HandshakeError::ResponseTooLong),
            Err(_) => return Err(HandshakeError::MalformedResponse),
        };
        match head.status {
            101 => return check_answer(&head, key, offered).map(|()| Parse::Complete { value: (), used }),
            100..=199 => start = used,
            status => return Err(HandshakeError::Refused(status)),
        }
    }
    Err(HandshakeError::TooManyInterim)
}

/// Checks the fields of a 101 (section 4.1).
fn check_answer(head: &ResponseHead<'_>, key: &str, offered: &[&str]) -> Result<(), HandshakeError> {
    let has = |name, token: &[u8]| head.elements(name).any(|element| element.eq_ignore_ascii_case(token));
    if !has("upgrade", b"websocket") {
        return Err(HandshakeError::WrongUpgrade);
    }
    if !has("connection", b"upgrade") {
        return Err(HandshakeError::WrongConnection);
    }
    if !head.values("sec-websocket-accept").eq([accept_key(key.as_bytes()).as_bytes()]) {
        return Err(HandshakeError::WrongAccept);
    }
    let chosen: Vec<_> = head.values("sec-websocket-protocol").collect();
    let is_offered = match chosen[..] {
        [] => true,
        [chosen] => offered.iter().any(|name| name.as_bytes() == chosen),
        _ => false,
    };
    if !is_offered || head.field("sec-websocket-extensions").is_some() {
        return Err(HandshakeError::NotOffered);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_request_head;

    const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    fn answer(head: &str) -> Result<String, HandshakeError> {
        let Ok(Parse::Complete { value, used }) = parse_request_head(head.as_bytes(), 9999, 9999) else {
            panic!("{head}")
        };
        let request = Request::new(value, head.as_bytes().to_vec(), used);
        let accepted = accept(&request, &["superchat"])?;
        let response = accepted.response();
        let mut out = Vec::new();
        response.encode_head(&mut out, "", response.framing(), None);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(
            answer(GOOD).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: superchat\r\n\r\n"
        );
        assert_eq!(accept_key(b"x3JJHMbDL1EzLkh9GBhXDw=="), "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
    }

    #[test]
    fn unused_bits_of_a_key_are_ignored_and_hashed() {
        // The example of section 4.1, whose last character is not `A`, `Q`, `g` or `w`.
        let key = "AQIDBAUGBwgJCgsMDQ4PEC==";
        let answer = answer(&GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", key)).unwrap();
        assert!(answer.contains(&format!("Sec-WebSocket-Accept: {}\r\n", accept_key(key.as_bytes()))), "{answer}");
        assert_ne!(accept_key(key.as_bytes()), accept_key(b"AQIDBAUGBwgJCgsMDQ4PEA=="));
    }

    #[test]
    fn invalid_handshakes_are_refused() {
        use HandshakeError::*;
        let cases = [
            ("GET /", "POST /", NotGet),
            ("HTTP/1.1", "HTTP/1.0", NotHttp11),
            ("Upgrade: WebSocket\r\n", "", NoUpgrade),
            ("Upgrade: WebSocket", "Upgrade: websockets", NoUpgrade),
            ("keep-alive, UPGRADE", "keep-alive", NoConnectionUpgrade),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "not base64!", Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", Key),
            ("Sec-WebSocket-Key:", "X:", Key),
            ("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Key),
            ("Version: 13", "Version: 8", Version),
            ("Sec-WebSocket-Version: 13\r\n", "", Version),
        ];
        for (from, to, error) in cases {
            assert_eq!(answer(&GOOD.replace(from, to)), Err(error), "{from} -> {to}");
        }
    }

    #[test]
    fn clients_check_the_accept_field() {
        let key = encode_key(*b"the sample nonce");
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(key.as_bytes())
        );
        let whole = parse_response(format!("{good}\u{1}rest").as_bytes(), &key, &[]);
        assert_eq!(whole, Ok(Parse::Complete { value: (), used: good.len() }));
        for end in 0..good.len() {
            assert_eq!(parse_response(&good.as_bytes()[..end], &key, &[]), Ok(Parse::Partial));
        }
        let refused = |answer: String| parse_response(answer.as_bytes(), &key, &[]).unwrap_err();
        assert_eq!(refused(good.replace("101", "403")), HandshakeError::Refused(403));
        assert_eq!(refused(good.replace("Accept: s3", "Accept: t3")), HandshakeError::WrongAccept);
        assert_eq!(refused(good.replace("websocket", "h2c")), HandshakeError::WrongUpgrade);
        assert_eq!(refused(good.replace("Connection: Upgrade", "A: b")), HandshakeError::WrongConnection);
        assert_eq!(HandshakeError::WrongUpgrade.section(), "RFC 6455, section 4.1");
        assert_eq!(
            refused(good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n")),
            HandshakeError::NotOffered
        );
        assert_eq!(refused("SSH-2.0\r\n\r\n".into()), HandshakeError::MalformedResponse);
        assert!(String::from_utf8(opening_request("h", "/", &key)).unwrap().contains(&key));
    }

    fn good_answer(key: &str, more: &str) -> String {
        let accept = accept_key(key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
    }

    #[test]
    fn interim_responses_are_skipped() {
        let key = encode_key(*b"the sample nonce");
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
        let good = interim.to_owned() + &good_answer(&key, "");
        let whole = parse_response(format!("{good}\u{1}rest").as_bytes(), &key, &[]);
        assert_eq!(whole, Ok(Parse::Complete { value: (), used: good.len() }));
        for end in 0..good.len() {
            assert_eq!(parse_response(&good.as_bytes()[..end], &key, &[]), Ok(Parse::Partial), "after {end} bytes");
        }
        let refused = format!("{interim}HTTP/1.1 403 Forbidden\r\n\r\n");
        assert_eq!(parse_response(refused.as_bytes(), &key, &[]), Err(HandshakeError::Refused(403)));
        let processing = |count| "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
        assert!(parse_response((processing(100) + &good_answer(&key, "")).as_bytes(), &key, &[]).is_ok());
        assert_eq!(parse_response(processing(100).as_bytes(), &key, &[]), Ok(Parse::Partial));
        assert_eq!(parse_response(processing(101).as_bytes(), &key, &[]), Err(HandshakeError::TooManyInterim));
        let long = format!("HTTP/1.1 102 Processing\r\nA: {}\r\n\r\n", "x".repeat(10_000)).repeat(2);
        assert_eq!(parse_response(long.as_bytes(), &key, &[]), Err(HandshakeError::ResponseTooLong));
    }

    #[test]
    fn only_offered_subprotocols_may_be_chosen() {
        let key = encode_key(*b"the sample nonce");
        let judge = |fields: &str, offered: &[&str]| {
            parse_response(good_answer(&key, fields).as_bytes(), &key, offered).map(|_| ())
        };
        let chat = "Sec-WebSocket-Protocol: chat\r\n";
        assert_eq!(judge(chat, &["superchat", "chat"]), Ok(()));
        assert_eq!(judge("", &["chat"]), Ok(()));
        for (fields, offered) in [(chat, &[][..]), (chat, &["Chat"]), (&chat.repeat(2), &["chat"])] {
            assert_eq!(judge(fields, offered), Err(HandshakeError::NotOffered), "{fields:?} {offered:?}");
        }
    }
}
