//! The opening handshake, as a server and as a client (RFC 6455, section 4).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::bytes::Parse;
use crate::http::{Method, Request, Response, Version, list};

/// What is appended to the key before hashing, so that no server answers by accident (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version of the protocol.
const VERSION: &[u8] = b"13";

/// The longest answer to an opening handshake that a client reads, in bytes, with all interim
/// responses in front of it.
const MAX_RESPONSE: usize = 16 * 1024;

/// How many interim responses a client skips.
const MAX_INTERIM: usize = 100;

/// Why an opening handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HandshakeError {
    NotGet,
    NotHttp11,
    NoUpgrade,
    NoConnectionUpgrade,
    Key,
    Version,
    /// The server answered with this status and not with 101.
    Refused(u16),
    /// The answer is not an HTTP response, or too long for one.
    MalformedResponse,
    /// More interim responses than a client skips.
    TooManyInterim,
    /// The answer is 101 and does not say which protocol it switches to, or to another one.
    WrongUpgrade,
    /// The answer is 101 without `Connection: Upgrade`.
    WrongConnection,
    /// `Sec-WebSocket-Accept` does not belong to the key that was sent.
    WrongAccept,
    /// The server chose an extension or a subprotocol that was not offered.
    NotOffered,
}

impl HandshakeError {
    /// A server's answer: 426 names the version that is understood (section 4.4), 405 the method
    /// that is allowed, everything else is 400.
    pub fn response(self) -> Response {
        let sentence = self.to_string();
        match self {
            HandshakeError::Version => Response::error(426, &sentence)
                .with_field("Sec-WebSocket-Version", "13")
                .with_field("Connection", "Upgrade")
                .with_field("Upgrade", "websocket"),
            HandshakeError::NotGet => Response::error(405, &sentence).with_field("Allow", "GET"),
            _ => Response::error(400, &sentence),
        }
    }

    /// The section that says so.
    pub fn section(self) -> &'static str {
        use HandshakeError::*;
        match self {
            NotGet | NotHttp11 | NoUpgrade | NoConnectionUpgrade | Key | Version => "RFC 6455, section 4.2.1",
            TooManyInterim => "RFC 9110, section 15.2",
            Refused(_) | MalformedResponse | WrongUpgrade | WrongConnection | WrongAccept | NotOffered => {
                "RFC 6455, section 4.1"
            }
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use HandshakeError::*;
        f.write_str(match self {
            NotGet => "a WebSocket handshake is a GET request",
            NotHttp11 => "a WebSocket handshake needs HTTP/1.1",
            NoUpgrade => "this is a WebSocket endpoint: expected `Upgrade: websocket`",
            NoConnectionUpgrade => "expected `Connection: Upgrade` in a WebSocket handshake",
            Key => "expected one Sec-WebSocket-Key of 16 bytes in base64",
            Version => "expected `Sec-WebSocket-Version: 13`",
            Refused(status) => return write!(f, "the server answered {status} and not 101"),
            MalformedResponse => "the answer to the handshake is not an HTTP response",
            TooManyInterim => return write!(f, "the server sent more than {MAX_INTERIM} interim responses"),
            WrongUpgrade => "the server answered 101 without `Upgrade: websocket`",
            WrongConnection => "the server answered 101 without `Connection: Upgrade`",
            WrongAccept => "Sec-WebSocket-Accept is not the hash of the key that was sent",
            NotOffered => "the server chose an extension or a subprotocol that was not offered",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Checks a client's opening handshake and makes the answer to it: 101 with the key's hash, and
/// the first subprotocol of `supported` that the client offered. Extensions are declined by
/// leaving them out (section 4.2.2). Whether the `Origin` is welcome is the caller's to decide.
///
/// # Errors
/// A [`HandshakeError`] that knows its own [response](HandshakeError::response).
pub fn accept(request: &Request, supported: &[&str]) -> Result<Response, HandshakeError> {
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
    Ok(match supported.iter().find(offered) {
        Some(chosen) => response.with_field("Sec-WebSocket-Protocol", chosen),
        None => response,
    })
}

fn check_key(request: &Request) -> Result<&[u8], HandshakeError> {
    let mut keys = request.values("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => Ok(key),
        _ => Err(HandshakeError::Key),
    }
}

/// The value of `Sec-WebSocket-Accept` for the value of `Sec-WebSocket-Key`: proof that the
/// server read the key and knows WebSocket (section 4.2.2, item 5.4).
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
pub fn encode_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// A client's opening handshake for `target` on `host` (section 4.1), with a key from
/// [`encode_key`]. No extension and no subprotocol is offered.
pub fn opening_request(host: &str, target: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Parses the answer to [`opening_request`] with this `key`, and with these subprotocols `offered`
/// in a field that was added to it. Interim responses in front of the answer are skipped (RFC 9110,
/// section 15.2). What follows the answer are frames.
///
/// # Errors
/// A [`HandshakeError`] when the server refused, or answered what a client must not believe.
pub fn parse_response(bytes: &[u8], key: &str, offered: &[&str]) -> Result<Parse<()>, HandshakeError> {
    let mut start = 0;
    for _ in 0..=MAX_INTERIM {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut answer = httparse::Response::new(&mut fields);
        let used = match answer.parse(&bytes[start..]) {
            Ok(httparse::Status::Complete(used)) if start + used <= MAX_RESPONSE => start + used,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_RESPONSE => return Ok(Parse::Partial),
            _ => return Err(HandshakeError::MalformedResponse),
        };
        match answer.code {
            Some(101) => {
                return check_answer(answer.headers, key, offered).map(|()| Parse::Complete { value: (), used });
            }
            Some(100..=199) => start = used,
            status => return Err(HandshakeError::Refused(status.unwrap_or_default())),
        }
    }
    Err(HandshakeError::TooManyInterim)
}

/// The fields of a 101 that a client believes (section 4.1).
fn check_answer(fields: &[httparse::Header<'_>], key: &str, offered: &[&str]) -> Result<(), HandshakeError> {
    let values = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let has = |name, token: &[u8]| values(name).flat_map(list).any(|element| element.eq_ignore_ascii_case(token));
    if !has("upgrade", b"websocket") {
        return Err(HandshakeError::WrongUpgrade);
    }
    if !has("connection", b"upgrade") {
        return Err(HandshakeError::WrongConnection);
    }
    if !values("sec-websocket-accept").eq([accept_key(key.as_bytes()).as_bytes()]) {
        return Err(HandshakeError::WrongAccept);
    }
    let chosen: Vec<_> = values("sec-websocket-protocol").collect();
    let is_offered = match chosen[..] {
        [] => true,
        [chosen] => offered.iter().any(|name| name.as_bytes() == chosen),
        _ => false,
    };
    if !is_offered || values("sec-websocket-extensions").next().is_some() {
        return Err(HandshakeError::NotOffered);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_head;

    const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    fn answer(head: &str) -> Result<String, HandshakeError> {
        let Ok(Parse::Complete { value, used }) = parse_head(head.as_bytes(), 9999, 9999) else { panic!("{head}") };
        let request = Request::new(value, head.as_bytes().to_vec(), used);
        let response = accept(&request, &["superchat"])?;
        let mut out = Vec::new();
        response.encode_head(&mut out, "", response.delimiter(), None);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            answer(GOOD).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: superchat\r\n\r\n"
        );
        assert_eq!(accept_key(b"x3JJHMbDL1EzLkh9GBhXDw=="), "HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
    }

    #[test]
    fn handshakes_that_are_refused() {
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
    fn a_client_believes_only_its_own_accept() {
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
        assert_eq!(parse_response(long.as_bytes(), &key, &[]), Err(HandshakeError::MalformedResponse));
    }

    #[test]
    fn a_subprotocol_that_was_offered_may_be_chosen() {
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
