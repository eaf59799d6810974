//! One exchange of a link: a request and its answer. Also the answers that the tap gives in place of the target.

use std::io;
use std::time::Instant;

use super::faults::{Gate, Strike};
use super::link::Env;
use super::shown::Shown;
use crate::bytes::Parse;
use crate::http::{Request, parse_request_head};
use crate::websocket::Role;

/// The path of the tap itself: requests below it are not passed on.
pub const OWN_PATH: &str = "/-/tap";

/// A request and its answer.
pub struct Exchange {
    /// The bytes of the answer that the client has not received.
    pub gate: Gate,
    /// The view of its viewers, if it has any.
    pub shown: Option<Shown>,
    is_head: bool,
    /// The request is complete.
    pub is_asked: bool,
    /// The answer has arrived completely.
    pub is_answered: bool,
    /// The tap answers in place of the target, which does not see the request.
    pub is_refused: bool,
    /// The client's bytes are not a request. It lasts as long as the connection.
    pub is_malformed: bool,
    /// The answer of the tap, until it is due.
    pub reply: Option<Vec<u8>>,
}

impl Exchange {
    /// Creates an exchange without viewers. The answer to HEAD has no content.
    pub fn new(is_head: bool, now: Instant) -> Self {
        Exchange {
            is_head,
            gate: Gate::new(now),
            shown: None,
            is_asked: false,
            is_answered: false,
            is_refused: false,
            is_malformed: false,
            reply: None,
        }
    }

    /// Creates an exchange for bytes that are not a request.
    pub fn malformed(shown: Shown, now: Instant) -> Self {
        Exchange { shown: Some(shown), is_malformed: true, ..Exchange::new(false, now) }
    }

    /// Whether an audience sees it under this label.
    pub fn is_of(&self, audience: &str, label: &str) -> bool {
        self.shown.as_ref().is_some_and(|shown| *shown.audience == *audience && *shown.label == *label)
    }

    /// Whether it is a request that the target has not answered.
    pub fn is_open_request(&self) -> bool {
        !self.is_answered && !self.is_refused && !self.is_malformed
    }

    /// Whether the request is complete and the client has received all of the answer.
    pub fn is_over(&self) -> bool {
        self.is_asked && self.is_answered && self.gate.is_done()
    }

    /// Answers in place of the target.
    pub fn refuse(&mut self, answer: Answer) {
        self.is_refused = true;
        self.reply = Some(answer.encode(self.is_head));
    }

    /// Shows bytes of one side to the viewers.
    pub fn show(&mut self, from: Role, bytes: &[u8], env: &mut Env) {
        if let Some(shown) = &mut self.shown {
            env.viewers.show(shown, from, bytes, &mut env.io);
        }
    }

    /// Shows a strike to the viewers.
    pub fn show_strike(&mut self, strike: Strike, env: &mut Env) {
        if let Some(shown) = &mut self.shown {
            env.viewers.show_strike(shown, strike, &mut env.io);
        }
    }
}

/// Parses a head that has been parsed before. `None` if it is malformed.
pub fn request_of(head: &[u8]) -> Option<Request> {
    match parse_request_head(head, usize::MAX, usize::MAX) {
        Ok(Parse::Complete { value, used }) => Some(Request::new(value, head.to_vec(), used)),
        _ => None,
    }
}

/// Whether a request is to the tap itself.
pub fn is_own(request: &Request) -> bool {
    request.path().strip_prefix(OWN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An answer of the tap in place of the target: 502.
pub struct Answer {
    content_type: &'static str,
    content: String,
    /// The connection ends after it.
    closes: bool,
}

impl Answer {
    /// Returns the answer of a proxy that cannot reach its server.
    pub fn bad_gateway() -> Self {
        let page = "<!doctype html>\n<title>502 Bad Gateway</title>\n<h1>502 Bad Gateway</h1>\n";
        Answer { content_type: "text/html; charset=utf-8", content: page.into(), closes: false }
    }

    /// The answer when the target cannot be reached.
    pub fn unreachable(target: &str, why: io::ErrorKind) -> Self {
        let sentence = format!("The tap cannot reach {target}: {why}.\n");
        Answer { content_type: "text/plain; charset=utf-8", content: sentence, closes: true }
    }

    fn encode(self, head_only: bool) -> Vec<u8> {
        let Answer { content_type, content, closes } = self;
        let length = content.len();
        let close = if closes { "Connection: close\r\n" } else { "" };
        let content = if head_only { "" } else { &content };
        format!(
            "HTTP/1.1 502 Bad Gateway\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{close}\r\n{content}"
        )
        .into_bytes()
    }
}
