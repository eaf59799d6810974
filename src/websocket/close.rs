//! The payload of a Close frame: a status code and a reason (RFC 6455, sections 5.5.1 and 7.4).

use std::fmt;

use super::ProtocolError;

/// The longest reason, in bytes: the payload of a control frame is at most 125 bytes, and the code takes 2.
const MAX_REASON: usize = 123;

/// A status code that may stand in a Close frame (RFC 6455, section 7.4).
///
/// 1000 to 1003 and 1007 to 1014 are the protocol's own codes, 3000 to 3999 belong to registered libraries, 4000 to
/// 4999 to applications. No value of this type has one of the codes that an endpoint only reports and never sends: 1005
/// (no code was received), 1006 (no Close frame was received) and 1015 (the TLS handshake failed).
///
/// ```
/// use overwire::websocket::CloseCode;
///
/// assert_eq!(CloseCode::new(1001), Some(CloseCode::GOING_AWAY));
/// assert_eq!(CloseCode::new(4000).map(CloseCode::get), Some(4000));
/// assert_eq!(CloseCode::new(1006), None);
/// assert_eq!(CloseCode::NORMAL.to_string(), "1000");
///
/// // The same check with an error that says what is wrong:
/// let error = CloseCode::try_from(1006).unwrap_err();
/// assert_eq!(error.to_string(), "status code 1006 must not be sent in a Close frame");
/// ```
#[doc(alias = "status code")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

/// Sections 7.4.1 and 7.4.2, and the codes that IANA's WebSocket Close Code Number Registry has added.
impl CloseCode {
    /// 1000: the connection has done what it was opened for.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the server shuts down, or the user has left the page.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer has violated the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// 1003: a kind of message that this endpoint does not take, such as binary where it expects text.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// 1007: a message that does not fit its kind, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// 1008: a message that violates a policy of this endpoint, when no other code fits.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// 1009: a message that is too long.
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    /// 1010: the server did not agree on an extension that the client needs. Only a client sends it.
    pub const MANDATORY_EXTENSION: CloseCode = CloseCode(1010);
    /// 1011: the endpoint cannot continue because of an internal error.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// 1012: the server restarts. The client may reconnect after a random delay.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// 1013: the server is overloaded, or has no room for this client now.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// 1014: a gateway got an invalid answer from the server that it asked.
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);

    /// Checks `code`. Returns `None` if it must not be sent in a Close frame.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for CloseCode {
    type Error = ProtocolError;

    /// # Errors
    /// [`ProtocolError::InvalidCloseCode`] if `code` must not be sent in a Close frame.
    fn try_from(code: u16) -> Result<Self, ProtocolError> {
        CloseCode::new(code).ok_or(ProtocolError::InvalidCloseCode(code))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        code.0
    }
}

/// The number.
impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The payload of a Close frame that was received (section 5.5.1).
///
/// ```
/// use overwire::websocket::{Close, CloseCode, Received, Receiver, Role};
///
/// let mut receiver = Receiver::new(Role::Server);
/// let (_, received) = receiver.receive(b"\x88\x05\x03\xe8bye", 1024).unwrap();
/// let close = Close { code: Some(CloseCode::NORMAL), reason: "bye".to_owned() };
/// assert_eq!(received, Some(Received::Close(close)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The status code, or `None` if the payload is empty. Browsers report `None` as 1005.
    pub code: Option<CloseCode>,
    /// The reason, at most 123 bytes of UTF-8.
    pub reason: String,
}

impl Close {
    /// Parses the payload of a Close frame: nothing, or a status code of 2 bytes and a reason in UTF-8.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        match payload {
            [] => Ok(Close { code: None, reason: String::new() }),
            [_] => Err(ProtocolError::CloseTooShort),
            [high, low, reason @ ..] => {
                let code = CloseCode::try_from(u16::from_be_bytes([*high, *low]))?;
                let reason = str::from_utf8(reason).map_err(|_| ProtocolError::NotUtf8)?;
                Ok(Close { code: Some(code), reason: reason.to_owned() })
            }
        }
    }
}

/// Returns the payload of a Close frame. A reason longer than 123 bytes is cut between two characters.
///
/// ```
/// use overwire::websocket::{CloseCode, close};
///
/// assert_eq!(close(CloseCode::GOING_AWAY, "bye"), b"\x03\xe9bye");
/// ```
pub fn close(code: CloseCode, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    [&code.0.to_be_bytes()[..], reason.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_payloads_are_parsed() {
        let parsed = |code, reason: &str| Ok(Close { code, reason: reason.into() });
        assert_eq!(Close::parse(b""), parsed(None, ""));
        assert_eq!(Close::parse(b"\x03\xe8bye"), parsed(Some(CloseCode::NORMAL), "bye"));
        assert_eq!(Close::parse(b"\x03"), Err(ProtocolError::CloseTooShort));
        assert_eq!(Close::parse(b"\x03\xe8\xff"), Err(ProtocolError::NotUtf8));
    }

    #[test]
    fn close_codes_are_checked() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(CloseCode::new(code), None);
            assert_eq!(Close::parse(&code.to_be_bytes()), Err(ProtocolError::InvalidCloseCode(code)));
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999] {
            let checked = CloseCode::new(code).unwrap();
            assert_eq!((checked.get(), checked.to_string()), (code, code.to_string()));
            assert_eq!(Close::parse(&close(checked, "")).unwrap().code, Some(checked));
        }
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let payload = close(CloseCode::NORMAL, &"\u{20ac}".repeat(100));
        assert_eq!(payload.len(), 2 + 123);
        assert!(str::from_utf8(&payload[2..]).is_ok());
        assert_eq!(close(CloseCode::NORMAL, &"\u{e9}".repeat(100)).len(), 2 + 122);
    }
}
