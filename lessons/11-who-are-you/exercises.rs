//! The exercises of lesson 11: `cargo test --test 11-exercises NAME`. Each fails until you have done it.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "main.rs"]
#[allow(dead_code)]
mod lesson;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::from::connect_from;
use common::{Answer, Client, TestServer, field};
use overwire::Limits;
use overwire::identity::Digest;
use overwire::websocket::{encode_key, opening_request};

/// The lesson's server with a keys file, in which `ada` and `bob` have a key: `key of ada`, and `key of bob`.
struct Site {
    server: TestServer,
    keys: PathBuf,
}

impl Site {
    fn start(name: &str) -> Self {
        let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("11-exercise-{name}"));
        fs::write(&keys, line("ada") + &line("bob")).unwrap();
        let path = keys.clone();
        let server =
            TestServer::of_loop(Limits::default(), move |server| lesson::serve(server, lesson::Access::open(&path)?));
        Site { server, keys }
    }

    /// Logs in, and returns the field line with the cookie.
    fn log_in(&self, name: &str) -> String {
        let answer = self.ask("POST", "/session", &bearer(name));
        let cookie = answer.field("Set-Cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
        format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
    }

    fn connect(&self) -> Client {
        let client = self.server.connect();
        client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> Answer {
        ask(&mut self.connect(), method, target, fields)
    }

    fn status(&self, fields: &str) -> u16 {
        self.ask("GET", "/session", fields).status
    }

    /// Opens a WebSocket with more fields, and reads the first frame.
    fn open(&self, fields: &str) -> Client {
        let request = String::from_utf8(opening_request("localhost", "/chat", &encode_key([7; 16]))).unwrap();
        let mut client = self.connect();
        let head = client.send(request.replacen("\r\n\r\n", &format!("\r\n{fields}\r\n"), 1)).head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client.frame();
        client
    }
}

/// A line of the keys file.
fn line(name: &str) -> String {
    format!("{}  {name}\n", Digest::of(&format!("key of {name}")))
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer key of {name}\r\n")
}

fn ask(client: &mut Client, method: &str, target: &str, fields: &str) -> Answer {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).answer()
}

/// Exercise 1: `DELETE /sessions` is answered with 200, and ends all sessions of the one who asks, by a key or by a
/// cookie. Their cookies are unknown from then on, and what they have opened is closed, a WebSocket with 4401. The key goes
/// on, and so do a WebSocket that was opened by it, and everybody else.
#[test]
fn all_sessions_of_a_name_end() {
    let site = Site::start("all");
    for by_key in [true, false] {
        let (cookies, other) = ([site.log_in("ada"), site.log_in("ada"), site.log_in("ada")], site.log_in("bob"));
        let mut sockets = cookies.each_ref().map(|cookie| site.open(cookie));
        let (mut of_bob, mut of_key) = (site.open(&other), site.open(&bearer("ada")));
        let asks = if by_key { bearer("ada") } else { cookies[0].clone() };
        assert_eq!(site.ask("DELETE", "/sessions", &asks).status, 200);
        sockets.iter_mut().for_each(|socket| assert_eq!(socket.frame().close().0, 4401));
        cookies.iter().for_each(|cookie| assert_eq!(site.status(cookie), 401));
        assert_eq!((site.status(&other), site.status(&bearer("ada"))), (200, 200));
        of_key.send_text("still here");
        for socket in [&mut of_bob, &mut of_key] {
            assert_eq!(socket.frame().json()["text"], "still here");
        }
    }
    assert_eq!(site.ask("DELETE", "/sessions", "").status, 401);
}

/// The seconds in `Retry-After`: at most 10.
fn seconds_left(answer: &Answer) -> u64 {
    let seconds = answer.field("Retry-After").and_then(|seconds| seconds.parse().ok());
    seconds.filter(|seconds| *seconds <= 10).unwrap_or_else(|| panic!("no Retry-After: {answer:?}"))
}

/// Exercise 2: after five wrong keys from one address, keys from this address get 429 for ten seconds, even a right one,
/// with the seconds that are left in `Retry-After`. Cookies go on, and other addresses too. After the ten seconds, keys are
/// looked at again, and the address has five attempts more.
#[test]
fn wrong_keys_are_slowed_down() {
    let site = Site::start("slow");
    let cookie = site.log_in("ada");
    for _ in 0..2 {
        for _ in 0..5 {
            assert_eq!(site.status(&bearer("nobody")), 401);
        }
        for name in ["nobody", "ada"] {
            let answer = site.ask("GET", "/session", &bearer(name));
            assert_eq!((answer.status, seconds_left(&answer) > 8), (429, true), "{answer:?}");
        }
        assert_eq!(site.ask("POST", "/session", &bearer("ada")).status, 429, "to log in is to show a key");
        assert_eq!(site.status(&cookie), 200, "a cookie goes on");
        let mut other = Client::of(connect_from(2, site.server.address).unwrap());
        assert_eq!(ask(&mut other, "GET", "/session", &bearer("ada")).status, 200, "another address");
        site.server.advance(6);
        assert!((3..=4).contains(&seconds_left(&site.ask("GET", "/session", &bearer("ada")))));
        site.server.advance(5);
        assert_eq!(site.status(&bearer("ada")), 200);
    }
}

/// Exercise 3: a key that is no longer in the file is not valid any more, two seconds later at most. All that was begun
/// with it ends: its sessions, and open streams and WebSockets, whether they were opened by a cookie or by the key. Everybody
/// else stays. A file that cannot be read, or has a wrong line, changes nothing. A new key in the file is valid.
#[test]
fn revoked_keys_end_what_they_have_opened() {
    let site = Site::start("revoked");
    let (cookie, other) = (site.log_in("ada"), site.log_in("bob"));
    let mut sockets = [site.open(&cookie), site.open(&bearer("ada"))];
    let mut stream = site.connect();
    let head = stream.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n")).head();
    assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"), "{head}");
    stream.any_event();
    let mut stays = site.open(&other);

    fs::write(&site.keys, "not a line of sha1sum\n").unwrap();
    site.server.advance(2);
    assert_eq!((site.status(&cookie), site.status(&bearer("bob"))), (200, 200), "a wrong line changes nothing");

    fs::write(&site.keys, line("bob") + &line("eve")).unwrap();
    site.server.advance(2);
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.frame().close().0, 4401));
    assert_eq!((stream.any_event().name, stream.chunk()), ("bye".into(), None));
    assert_eq!([cookie, bearer("ada"), other, bearer("eve")].map(|fields| site.status(&fields)), [401, 401, 200, 200]);
    stays.send_text("still here");
    assert_eq!(stays.frame().json()["text"], "still here");
}
