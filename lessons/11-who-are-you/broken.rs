//! A chat of many examples. It takes the key in the URL, asks no page where it comes from, and looks at who somebody is
//! only when the socket opens.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

use lessons::api::{text, uncached};
use lessons::{Extra, Lesson};
use overwire::http::{Method, Request, Response};
use overwire::random::Random;
use overwire::{Event, EventLoop, ExchangeId, websocket};
use serde_json::json;
use sha1::{Digest as _, Sha1};

const LESSON: Lesson = Lesson {
    name: "11-broken",
    port: 8011,
    about: "a chat whose members can be robbed, and that does not notice when they leave",
    first: "curl -i {url}/session",
    look_for: "401: so far, all is well",
    costs: &[],
};

const KEYS: Extra =
    Extra { usage: "--keys FILE", about: "the digests of the keys, by `sha1sum`", default: "target/11/keys" };
const LOG: Extra = Extra { usage: "--log FILE", about: "the log of all requests", default: "target/11/access.log" };

fn main() -> ExitCode {
    LESSON.serve_with(&[KEYS, LOG], |_, values| Chat::open(&values[0], &values[1]), serve)
}

pub fn serve(mut server: EventLoop, mut chat: Chat) -> io::Result<()> {
    loop {
        match server.next_event()? {
            Event::Request(conn, request) => {
                writeln!(chat.log, "{} {}", request.method(), request.target())?;
                match chat.answer(&mut server, conn, &request) {
                    Ok(Some(response)) | Err(response) => server.respond(conn, response),
                    Ok(None) => {}
                }
            }
            Event::Closed(conn, _) => _ = chat.members.remove(&conn),
            Event::Shutdown => return server.drain(),
            _ => {}
        }
    }
}

pub struct Chat {
    keys: HashMap<String, String>,
    sessions: HashMap<String, String>,
    members: HashSet<ExchangeId>,
    random: Random,
    log: File,
}

impl Chat {
    pub fn open(keys: &str, log: &str) -> io::Result<Self> {
        let text = fs::read_to_string(keys).map_err(|error| io::Error::other(format!("{keys}: {error}")))?;
        let pairs = text.lines().filter_map(|line| line.split_once("  "));
        let keys = pairs.map(|(digest, name)| (digest.to_owned(), name.to_owned())).collect();
        let (sessions, members, random) = (HashMap::new(), HashSet::new(), Random::open()?);
        Ok(Chat { keys, sessions, members, random, log: File::create(log)? })
    }

    fn answer(
        &mut self,
        server: &mut EventLoop,
        conn: ExchangeId,
        request: &Request,
    ) -> Result<Option<Response>, Response> {
        let name = self.who(request).ok_or_else(|| Response::error(401, "who are you?"))?;
        let response = match (request.method(), &*request.path()) {
            (Method::Get, "/session") => uncached(&json!({ "name": name })),
            (Method::Post, "/session") => {
                let secret = self.random.uuid();
                let response = uncached(&json!({ "name": name }));
                self.sessions.insert(secret.clone(), name);
                response.with_field("Set-Cookie", &format!("session={secret}"))
            }
            (Method::Delete, "/session") => self.log_out(request),
            (Method::Get, "/chat") => return self.join(server, conn, request, &name).map(|()| None),
            (Method::Post, "/add-message") => {
                let text = text(request.content()).map_err(|sentence| Response::error(400, &sentence))?;
                let message = websocket::text(&format!("{name}: {text}"));
                self.members.iter().for_each(|conn| server.send(*conn, &message));
                uncached(&json!({ "status": "Message added" }))
            }
            (_, path) => Response::error(404, &format!("there is nothing at {path}")),
        };
        Ok(Some(response))
    }

    fn who(&self, request: &Request) -> Option<String> {
        // ANCHOR: who
        // BUG: a URL is in logs, in the history, and in `Referer`.
        if let Some(key) = request.parameter("key") {
            let digest: String = Sha1::digest(&*key).iter().map(|byte| format!("{byte:02x}")).collect();
            return self.keys.get(&digest).cloned();
        }
        // BUG: a browser sends the cookie, whatever page has asked it to.
        self.sessions.get(cookie(request)?).cloned()
        // ANCHOR_END: who
    }

    fn join(
        &mut self,
        server: &mut EventLoop,
        conn: ExchangeId,
        request: &Request,
        name: &str,
    ) -> Result<(), Response> {
        // ANCHOR: join
        server.upgrade(conn, websocket::accept(request, &[]).map_err(|error| error.response())?);
        server.send(conn, &websocket::text(&format!("you are {name}")));
        // BUG: whose socket this is, nobody remembers.
        self.members.insert(conn);
        // ANCHOR_END: join
        Ok(())
    }

    fn log_out(&mut self, request: &Request) -> Response {
        // BUG: the session is over, and its sockets go on.
        cookie(request).map(|secret| self.sessions.remove(secret));
        uncached(&json!({ "status": "logged out" })).with_field("Set-Cookie", "session=; Max-Age=0")
    }
}

fn cookie(request: &Request) -> Option<&str> {
    str::from_utf8(request.field("cookie")?).ok()?.strip_prefix("session=")
}
