//! Lesson 11, who are you: a chat that lets in whom it knows, for as long as it knows them. A program shows its key with
//! each request. A browser shows it once, and gets a cookie. A ticket opens one stream or WebSocket. `access.rs` finds who
//! sends a request. This is the server, which also ends what a session has opened.

#[path = "access.rs"]
mod access;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub use self::access::Access;
use self::access::{Digest, TICKET_TIME, Who};
use lessons::api::{is_foreign, not_allowed, text, uncached};
use lessons::{Extra, Lesson};
use overwire::http::{self, Method, Request, Response};
use overwire::websocket::{self, CloseCode, Message};
use overwire::{Event, EventLoop, ExchangeId, sse};
use serde_json::{Value, json};

const LESSON: Lesson = Lesson {
    name: "11-who-are-you",
    port: 8011,
    about: "a chat that knows its members, and for how long",
    first: "curl -i {url}/session",
    look_for: "401: the server does not know you yet",
    costs: &[],
};

const KEYS: Extra =
    Extra { usage: "--keys FILE", about: "the digests of the keys, by `sha1sum`", default: "target/11/keys" };

const PAGE: &str = include_str!("page.html");

/// The life of a session.
const SESSION_TIME: Duration = Duration::from_secs(60 * 60);

/// Closes the WebSocket of a session that is over. The codes from 4000 to 4999 are the application's (RFC 6455, section
/// 7.4.2). This one is like 401.
const SESSION_OVER: CloseCode = CloseCode::new(4401).expect("a code of the application");

fn main() -> ExitCode {
    LESSON.serve_with(&[KEYS], |_, values| Access::open(Path::new(&values[0])), serve)
}

pub fn serve(server: EventLoop, access: Access) -> io::Result<()> {
    let mut chat = Chat { server, access, members: HashMap::new() };
    loop {
        match chat.server.next_event()? {
            Event::Request(conn, request) => match (request.method(), &*request.path()) {
                (Method::Get, "/chat" | "/events") => match chat.join(conn, &request) {
                    Ok(()) => {}
                    Err(refusal) => chat.server.respond(conn, refusal),
                },
                _ => {
                    let response = chat.answer(&request).unwrap_or_else(|refusal| refusal);
                    chat.server.respond(conn, response);
                }
            },
            Event::Message(conn, Message::Text(text)) => chat.hear(conn, &text),
            Event::Timer(timer) => {
                if let Some(session) = chat.access.session_of(timer) {
                    chat.end_session(session, "expired");
                }
            }
            Event::Closed(conn, _) => _ = chat.members.remove(&conn),
            Event::Shutdown => {
                let is_stream = |member: &Member| matches!(member.transport, Transport::Events);
                let streams = chat.members.iter().filter(|(_, member)| is_stream(member));
                streams.for_each(|(conn, _)| chat.server.end(*conn));
                return chat.server.drain(); // it closes WebSockets itself
            }
            _ => {}
        }
    }
}

/// An open stream or WebSocket, and who has opened it.
struct Member {
    who: Who,
    transport: Transport,
}

enum Transport {
    WebSocket,
    Events,
}

struct Chat {
    server: EventLoop,
    access: Access,
    members: HashMap<ExchangeId, Member>,
}

impl Chat {
    fn answer(&mut self, request: &Request) -> Result<Response, Response> {
        match (request.method(), &*request.path()) {
            (Method::Post, "/session") => self.log_in(request),
            (Method::Get | Method::Head, "/session") => Ok(uncached(&json!({ "name": self.who(request)?.name }))),
            (Method::Delete, "/session") => self.log_out(request),
            (Method::Post, "/ticket") => self.ticket(request),
            (Method::Post, "/add-message") => {
                let who = self.who(request)?;
                let text = text(request.content()).map_err(|sentence| Response::error(400, &sentence))?;
                self.say(&who.name, &text);
                Ok(uncached(&json!({ "status": "Message added" })))
            }
            (method, "/session") => Ok(not_allowed(method, "GET, HEAD, POST, DELETE")),
            (method, "/ticket" | "/add-message") => Ok(not_allowed(method, "POST")),
            (method, "/chat" | "/events") => Ok(not_allowed(method, "GET")),
            _ => Ok(lessons::page(request, PAGE)),
        }
    }

    // ANCHOR: check
    /// Finds who sends a request. 403: a page of another site has sent it. 401: nobody knows who.
    fn who(&mut self, request: &Request) -> Result<Who, Response> {
        refuse_foreign(request)?;
        self.access.identify(request, self.server.now()).ok_or_else(unknown)
    }
    // ANCHOR_END: check

    /// Begins a session for the owner of a key.
    fn log_in(&mut self, request: &Request) -> Result<Response, Response> {
        refuse_foreign(request)?;
        let name = self.access.owner_of_key(request).ok_or_else(unknown)?.name;
        let secret = self.access.begin_session(name.clone(), self.server.set_timer(SESSION_TIME));
        Ok(uncached(&json!({ "name": name })).with_field("Set-Cookie", &cookie(&secret, SESSION_TIME)))
    }

    fn log_out(&mut self, request: &Request) -> Result<Response, Response> {
        let Some(session) = self.who(request)?.session else {
            return Err(Response::error(400, "expected the cookie of a session: a key is not logged in"));
        };
        self.end_session(session, "logged out");
        Ok(uncached(&json!({ "status": "logged out" })).with_field("Set-Cookie", &cookie("", Duration::ZERO)))
    }

    fn ticket(&mut self, request: &Request) -> Result<Response, Response> {
        let who = self.who(request)?;
        let content = overwire::json::parse(request.content()).unwrap_or_default();
        let Some(path @ ("/chat" | "/events")) = content.get("path").and_then(Value::as_str) else {
            return Err(Response::error(400, "path: expected /chat or /events"));
        };
        let ticket = self.access.issue(who, path, self.server.now());
        Ok(uncached(&json!({ "ticket": ticket, "seconds": TICKET_TIME.as_secs() })))
    }

    /// Opens a stream or a WebSocket, and remembers for whom.
    fn join(&mut self, conn: ExchangeId, request: &Request) -> Result<(), Response> {
        let who = self.who(request)?;
        let transport = self.open(conn, request)?;
        let welcome = json!({ "you": who.name });
        let member = Member { who, transport };
        send(&mut self.server, conn, &member, &welcome);
        self.members.insert(conn, member);
        Ok(())
    }

    fn open(&mut self, conn: ExchangeId, request: &Request) -> Result<Transport, Response> {
        if request.path() == "/events" {
            self.server.begin(conn, sse::stream_head());
            return Ok(Transport::Events);
        }
        self.server.upgrade(conn, websocket::accept(request, &[]).map_err(|error| error.response())?);
        Ok(Transport::WebSocket)
    }

    /// A text from a WebSocket. One that has left, or was ended, is no longer a member.
    fn hear(&mut self, conn: ExchangeId, text: &str) {
        if let Some(name) = self.members.get(&conn).map(|member| member.who.name.clone()) {
            self.say(&name, text);
        }
    }

    /// Sends a text to all members. The name is that of the identity, not one that the sender gives.
    fn say(&mut self, name: &str, text: &str) {
        let message = json!({ "from": name, "text": text });
        for (conn, member) in &self.members {
            send(&mut self.server, *conn, member, &message);
        }
    }

    /// Ends a session, and everything that it has opened.
    fn end_session(&mut self, session: Digest, reason: &str) {
        if let Some(timer) = self.access.end_session(session) {
            self.server.cancel_timer(timer);
        }
        // ANCHOR: end
        for (conn, member) in self.members.extract_if(|_, member| member.who.session == Some(session)) {
            match member.transport {
                Transport::WebSocket => self.server.close(conn, SESSION_OVER, reason),
                Transport::Events => {
                    self.server.send(conn, &http::chunk(&sse::event(None, "bye", reason)));
                    self.server.end(conn);
                }
            }
        }
        // ANCHOR_END: end
    }
}

fn send(server: &mut EventLoop, conn: ExchangeId, member: &Member, message: &Value) {
    let message = message.to_string();
    match member.transport {
        Transport::WebSocket => server.send(conn, &websocket::text(&message)),
        Transport::Events => server.send(conn, &http::chunk(&sse::event(None, "message", &message))),
    }
}

fn refuse_foreign(request: &Request) -> Result<(), Response> {
    let sentence = "Origin is another site's: expected this server's own page, or a client other than a browser";
    if is_foreign(request) { Err(Response::error(403, sentence)) } else { Ok(()) }
}

/// The answer to a request of somebody unknown (RFC 9110, section 15.5.2). It does not say which part was wrong.
fn unknown() -> Response {
    Response::error(401, "expected a key, the cookie of a session, or a ticket, and a valid one")
        .with_field("WWW-Authenticate", "Bearer")
}

/// The value of Set-Cookie (RFC 6265bis, section 4.1). Behind TLS, it also needs `Secure`.
fn cookie(secret: &str, life: Duration) -> String {
    format!("session={secret}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", life.as_secs())
}
