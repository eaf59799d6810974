//! Access keys, and who may do what with them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use overwire::identity::{AccessKey, Digest, Rights, RoomPattern, add_key, revoke_keys};
use overwire::random::Random;
use serde_json::{Value, json};

use crate::common::{Answer, Client, PATIENCE, Running, TestServer};

/// A keys file in a folder that is removed at the end.
pub struct KeysFile(pub PathBuf);

impl KeysFile {
    pub fn create() -> Self {
        let folder = std::env::temp_dir().join(format!("overwire-{}", Random::open().unwrap().uuid()));
        fs::create_dir(&folder).unwrap();
        KeysFile(folder.join("keys"))
    }

    /// Runs `overwire key` with this file. Returns the exit code, the standard output and the standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
        let Output { status, stdout, stderr } =
            command.arg("key").args(arguments).arg("--keys").arg(&self.0).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Adds a key, and returns it.
    fn add(&self, arguments: &[&str]) -> String {
        let (code, key, complaint) = self.run(&[&["add"], arguments].concat());
        assert_eq!(code, Some(0), "{complaint}");
        key.trim_end().to_owned()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for KeysFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A server with keys, and nobody who has one yet.
struct Scene {
    file: KeysFile,
    server: TestServer,
}

impl Scene {
    /// Starts a server that knows these keys: names, rights and rooms. Returns the keys.
    fn with<const N: usize>(people: [(&str, &str, &str); N]) -> (Self, [String; N]) {
        let file = KeysFile::create();
        fs::write(&file.0, "").unwrap();
        let keys = people.map(|(name, rights, rooms)| file.create_key(name, rights, rooms, None));
        let path = file.0.clone();
        let server = TestServer::with(move |config| config.keys = Some(path));
        (Scene { file, server }, keys)
    }

    /// One person who may do everything, and the key.
    fn alone() -> (Self, String) {
        let (scene, [key]) = Scene::with([("alice", "read,send,admin", "*")]);
        (scene, key)
    }

    fn ask(&self, method: &str, target: &str, fields: &str, content: &str) -> Answer {
        send(&mut self.server.connect(), method, target, fields, content).answer()
    }

    /// Logs in, and returns the field with the cookie.
    fn log_in(&self, key: &str) -> String {
        let answer = self.ask("POST", "/api/session", "", &json!({ "key": key }).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.field("Set-Cookie").expect("a cookie");
        format!("Cookie: a=b; {}; c=d\r\n", cookie.split(';').next().unwrap())
    }

    fn ticket(&self, fields: &str, endpoint: &str) -> String {
        let answer = self.ask("POST", "/api/ticket", fields, &json!({ "endpoint": endpoint }).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// Sends a request with these fields, and waits until its poll, stream or WebSocket is held.
    fn hold(&self, admin: &str, method: &str, target: &str, fields: &str, content: &str) -> Client {
        let held = || {
            let stats = self.ask("GET", "/api/stats", &bearer(admin), "").json();
            stats["transports"].as_object().unwrap().values().map(|one| one["open"].as_u64().unwrap()).sum::<u64>()
        };
        let before = held();
        let mut client = self.server.connect();
        send(&mut client, method, target, fields, content);
        while held() <= before {
            std::thread::yield_now();
        }
        client
    }
}

impl KeysFile {
    pub fn create_key(&self, name: &str, rights: &str, rooms: &str, expires: Option<u64>) -> String {
        let (rights, rooms) = (Rights::parse(rights).unwrap(), RoomPattern::parse_list(rooms).unwrap());
        let (key, text) = AccessKey::create(&mut Random::open().unwrap(), name, rights, rooms, expires);
        add_key(&self.0, &key).unwrap();
        text
    }

    /// Replaces a text in the file, as a careful editor does.
    pub fn edit(&self, from: &str, to: &str) {
        let (text, new) = (self.text(), self.0.with_extension("edited"));
        assert!(text.contains(from), "{text}");
        fs::write(&new, text.replace(from, to)).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

pub fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

pub fn send<'a>(client: &'a mut Client, method: &str, target: &str, fields: &str, content: &str) -> &'a mut Client {
    let length = content.len();
    client.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{content}"
    ))
}

/// The fields of an opening handshake.
pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[track_caller]
pub fn assert_error(answer: &Answer, status: u16, sentence: &str) {
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(answer.status == status && error.contains(sentence), "{answer:?}");
}

#[test]
fn keys_are_added_listed_and_revoked() {
    let keys = KeysFile::create();
    let alice = keys.add(&["alice", "--rooms", "general,team-*", "--rights", "read", "--expires", "30d"]);
    let bob = keys.add(&["bob"]);
    let id = |key: &str| Digest::of(key).id();
    assert!(!keys.text().contains(&alice) && keys.text().contains(&Digest::of(&alice).to_string()));
    let (code, list, _) = keys.run(&["list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{list}");
    assert_eq!(lines[1][..4], [&id(&alice), "alice", "read", "general,team-*"]);
    assert_eq!((lines[1].last(), lines[2].last()), (Some(&"GMT"), Some(&"never")));
    assert_eq!(lines[2][..4], [&id(&bob), "bob", "read,send", "*"]);
    assert_eq!(keys.run(&["revoke", "alice"]), (Some(0), format!("revoked: {} of alice\n", id(&alice)), String::new()));
    assert_eq!(keys.run(&["revoke", &id(&bob)]).0, Some(0));
    let (code, _, complaint) = keys.run(&["revoke", "alice"]);
    assert_eq!(code, Some(1));
    assert!(complaint.ends_with("has the name or the id \"alice\"\n"), "{complaint}");
    assert_eq!(keys.text(), "");
}

#[test]
fn wrong_arguments_about_keys_are_named() {
    let keys = KeysFile::create();
    for (arguments, complaint) in [
        (&["add"][..], "key: expected `add NAME`, `list` or `revoke NAME`"),
        (&["remove", "alice"], "key: expected `add NAME`, `list` or `revoke NAME`"),
        (&["add", ""], "name: expected 1 to 64 characters that can be seen, without a slash, not \"\""),
        (&["add", "a/b"], "name: expected 1 to 64 characters that can be seen, without a slash, not \"a/b\""),
        (&["add", "alice", "--rights", "write"], "--rights: expected read, send or admin, not \"write\""),
        (
            &["add", "alice", "--rooms", "a,,b"],
            "--rooms: expected the name of a room, or its beginning and a `*`, not \"\"",
        ),
        (&["add", "alice", "--expires", "1w"], "--expires: expected a time such as 90s, 15m, 12h or 30d, not \"1w\""),
        (&["add", "alice", "--expires", "0d"], "--expires: expected a time such as 90s, 15m, 12h or 30d, not \"0d\""),
        (&["list", "--rights", "read"], "--rights: expected it with `key add` alone"),
        (&["list", "--wrong"], "unknown argument \"--wrong\""),
    ] {
        let expected = format!("overwire: {complaint}\nTry `overwire --help`.\n");
        assert_eq!(keys.run(arguments), (Some(2), String::new(), expected), "{arguments:?}");
    }
    assert!(!keys.0.exists());
    fs::write(&keys.0, "alice\n").unwrap();
    for arguments in [&["list"][..], &["add", "bob"], &["revoke", "alice"]] {
        let (code, output, complaint) = keys.run(arguments);
        assert!(
            (code, &*output) == (Some(1), "") && complaint.contains("line 1: expected a JSON object"),
            "{complaint}"
        );
    }
}

#[test]
fn the_help_of_the_keys_lists_all_options() {
    let (code, help, _) = KeysFile::create().run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in ["add", "list", "revoke", "--keys", "--rooms", "--rights", "--expires"] {
        assert!(help.contains(option), "{option} is missing: {help}");
    }
}

#[test]
fn every_endpoint_but_the_open_ones_needs_an_identity() {
    let (scene, key) = Scene::alone();
    let api = scene.server.get("/openapi.json").json();
    let open = ["/", "/docs", "/redoc", "/openapi.json", "/health", "/health/ready"];
    let mut count = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let path = path.replace("{id}", "tab-1");
            for fields in ["", HANDSHAKE, &bearer("ow_wrong"), "Cookie: overwire-session=wrong\r\n"] {
                let answer = scene.ask(&method, &format!("{path}?ticket=wrong"), fields, "");
                if open.contains(&path.as_str()) || (path == "/api/session" && method == "POST") {
                    assert_ne!(answer.status, 401, "{method} {path}");
                    continue;
                }
                count += 1;
                // After ten wrong keys from one address, the next is not looked at.
                let expected = if fields.contains("ow_wrong") && answer.status == 429 { 429 } else { 401 };
                assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
                assert!(answer.json()["error"].is_string());
                assert_eq!(answer.field("WWW-Authenticate").is_some(), expected == 401);
                assert_eq!(answer.field("Set-Cookie").is_some(), fields.contains("Cookie"), "the cookie is removed");
            }
            if method == "GET" && !open.contains(&path.as_str()) {
                let head = send(&mut scene.server.connect(), "HEAD", &path, "", "").head();
                assert!(head.starts_with("HTTP/1.1 401 ") || head.starts_with("HTTP/1.1 405 "), "{head}");
            }
            let options = scene.ask("OPTIONS", &path, "", "");
            assert_eq!(options.status, 204, "a browser asks without an identity");
        }
    }
    assert!(count > 70, "{count} requests");
    scene.server.advance(60);
    assert_eq!(scene.ask("GET", "/api/history", &bearer(&key), "").status, 200);
    assert_eq!(scene.ask("GET", "/api/history", &bearer(&key).replace("Bearer", "bEARER"), "").status, 200);
    assert_error(&scene.ask("GET", "/api/history", "", ""), 401, "an identity is missing: expected Authorization");
    assert_error(&scene.ask("GET", "/api/history", "Authorization: Basic YTpi\r\n", ""), 401, "an identity is missing");
}

#[test]
fn rights_are_checked() {
    let (scene, [reader, sender, admin]) =
        Scene::with([("reader", "read", "*"), ("sender", "send", "*"), ("admin", "admin", "*")]);
    let text = r#"{"text":"x","message":"x","connection_id":"none"}"#;
    for (method, target, rights) in [
        ("GET", "/api/history", "read"),
        ("GET", "/api/messages", "read"),
        ("HEAD", "/api/poll?client_id=a", "read"),
        ("HEAD", "/api/events", "read"),
        ("HEAD", "/api/stream", "read"),
        ("HEAD", "/poll", "read"),
        ("HEAD", "/sse", "read"),
        ("GET", "/api/ws", "read"),
        ("GET", "/ws", "read"),
        ("POST", "/api/send", "send"),
        ("POST", "/send", "send"),
        ("POST", "/sse/message", "send"),
        ("GET", "/api/stats", "admin"),
        ("POST", "/api/forget", "admin"),
        ("DELETE", "/api/client/other", "admin"),
        // A peer sends and receives.
        ("GET", "/api/signal", "none of them"),
    ] {
        for (key, name) in [(&reader, "read"), (&sender, "send"), (&admin, "admin")] {
            let content = if method == "POST" { text } else { "" };
            let mut client = scene.server.connect();
            let head = send(&mut client, method, target, &bearer(key), content).read_until("\r\n\r\n");
            if name == rights {
                let is_forbidden = head.starts_with("HTTP/1.1 403 ");
                assert!(!head.starts_with("HTTP/1.1 401 ") && (!is_forbidden || target == "/api/forget"), "{head}");
            } else {
                assert!(head.starts_with("HTTP/1.1 403 "), "{name} {method} {target}: {head}");
            }
        }
    }
    assert_error(
        &scene.ask("GET", "/api/stats", &bearer(&reader), ""),
        403,
        "rights: expected admin, but reader has read",
    );
    // A mailbox is read by the one right, and written to by the other.
    let mailbox = scene.ask("POST", "/poll", &bearer(&reader), "").json()["connection_id"].clone();
    let text = json!({ "connection_id": mailbox, "text": "x" }).to_string();
    assert_error(&scene.ask("POST", "/poll", &bearer(&reader), &text), 403, "rights: expected send");
    assert_eq!(scene.ask("POST", "/sse/message", &bearer(&sender), &text).status, 202);
}

#[test]
fn rooms_are_checked() {
    let (scene, [key]) = Scene::with([("alice", "read,send", "general,team-*")]);
    let handshake = bearer(&key) + HANDSHAKE;
    for (room, is_allowed) in [("general", true), ("team-red", true), ("secret", false), ("general2", false)] {
        let send_to = json!({ "text": "x", "room": room }).to_string();
        for (method, path, fields, content) in [
            ("GET", "/api/history", &bearer(&key), ""),
            ("POST", "/api/send", &bearer(&key), &*send_to),
            ("GET", "/api/messages", &bearer(&key), ""),
            ("GET", "/api/poll?client_id=a", &bearer(&key), ""),
            ("GET", "/api/stream", &bearer(&key), ""),
            ("GET", "/api/events", &bearer(&key), ""),
            ("GET", "/api/ws", &handshake, ""),
            ("GET", "/api/signal", &handshake, ""),
        ] {
            if path.contains("poll") && is_allowed {
                continue; // it would be held
            }
            let separator = if path.contains('?') { '&' } else { '?' };
            let target = format!("{path}{separator}room={room}");
            let head = send(&mut scene.server.connect(), method, &target, fields, content).head();
            assert_eq!(head.starts_with("HTTP/1.1 403 "), !is_allowed, "{target}: {head}");
        }
    }
    // The rooms of the demo are rooms.
    assert_error(&scene.ask("POST", "/send", &bearer(&key), r#"{"message":"x"}"#), 403, "not \"longpoll\"");
    assert_error(&scene.ask("GET", "/poll", &bearer(&key), ""), 403, "not \"longpoll\"");
    assert_error(&scene.ask("GET", "/events", &bearer(&key), ""), 403, "general, team-*, not \"ticker\"");
}

#[test]
fn the_sender_is_the_identity() {
    let (scene, [key, reader]) = Scene::with([("alice", "read,send", "*"), ("bob", "read", "*")]);
    for (content, status) in
        [(r#"{"text":"1"}"#, 200), (r#"{"text":"2","sender":"alice"}"#, 200), (r#"{"text":"3","sender":"bob"}"#, 403)]
    {
        assert_eq!(scene.ask("POST", "/api/send", &bearer(&key), content).status, status, "{content}");
    }
    let mut socket = scene.server.connect();
    send(&mut socket, "GET", "/api/ws", &(bearer(&key) + HANDSHAKE), "").head();
    socket.send_text(r#"{"text":"4","sender":"bob"}"#);
    let error = socket.message().json()["error"].as_str().unwrap().to_owned();
    assert_eq!(error, r#"sender: expected "alice", the name of the identity, not "bob""#);
    socket.send_text(r#"{"text":"5"}"#);
    assert_eq!(socket.message().json()["sender"], "alice");
    let mut silent = scene.server.connect();
    send(&mut silent, "GET", "/api/ws", &(bearer(&reader) + HANDSHAKE), "").head();
    silent.send_text(r#"{"text":"6"}"#);
    assert_eq!(silent.message().json()["error"], "rights: expected send, but bob has read alone");
    let history = scene.ask("GET", "/api/history", &bearer(&key), "").json();
    let of_alice = |text: &str| (json!("alice"), json!(text));
    let messages = history["messages"].as_array().unwrap().iter();
    let messages: Vec<_> = messages.map(|one| (one["sender"].clone(), one["text"].clone())).collect();
    assert_eq!(messages, ["1", "2", "5"].map(of_alice));
    scene.ask("POST", "/send", &bearer(&key), r#"{"message":"x"}"#);
    let demo = scene.ask("GET", "/api/history?room=longpoll", &bearer(&key), "").json();
    assert_eq!(demo["messages"][0]["sender"], "alice");
}

#[test]
fn a_session_is_a_cookie() {
    let (scene, key) = Scene::alone();
    let content = json!({ "key": key }).to_string();
    let answer = scene.ask("POST", "/api/session", "", &content);
    let cookie = answer.field("Set-Cookie").unwrap().to_owned();
    let (secret, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    let secure = scene.ask("POST", "/api/session", "Origin: https://localhost\r\n", &content);
    assert!(secure.field("Set-Cookie").unwrap().ends_with("; SameSite=Strict; Secure"), "{secure:?}");
    let fields = format!("Cookie: x=1; {secret}\r\n");
    let who = scene.ask("GET", "/api/session", &fields, "").json();
    assert_eq!(who, answer.json());
    assert_eq!((&who["name"], &who["via"]), (&json!("alice"), &json!("session")));
    assert_eq!((&who["rights"], &who["rooms"]), (&json!(["read", "send", "admin"]), &json!(["*"])));
    assert!(who["expires"].is_u64());
    let by_key = scene.ask("GET", "/api/session", &bearer(&key), "").json();
    assert_eq!((&by_key["expires"], &by_key["via"]), (&Value::Null, &json!("key")));
    let out = scene.ask("DELETE", "/api/session", &fields, "");
    assert_eq!((out.status, out.json()["status"].as_str()), (200, Some("logged out")));
    assert!(out.field("Set-Cookie").unwrap().starts_with("overwire-session=; Path=/; Max-Age=0; "));
    assert_error(&scene.ask("GET", "/api/session", &fields, ""), 401, "not valid any more");
    assert_error(&scene.ask("DELETE", "/api/session", &bearer(&key), ""), 400, "overwire key revoke");
    assert_error(&scene.ask("POST", "/api/session", "", r#"{"key":"ow_no"}"#), 401, "key: it is unknown");
    assert_error(&scene.ask("POST", "/api/session", "", "{}"), 400, "key: expected");
    let foreign = scene.ask("POST", "/api/session", "Origin: https://evil.example\r\n", &content);
    assert_error(&foreign, 403, "Origin");
}

#[test]
fn a_cookie_of_another_program_may_have_any_bytes() {
    let (scene, key) = Scene::alone();
    let cookie = scene.log_in(&key);
    let mut request = b"GET /api/session HTTP/1.1\r\nHost: localhost\r\nCookie: city=K\xf6ln; ".to_vec();
    request.extend(cookie.strip_prefix("Cookie: ").unwrap().bytes().chain(*b"\r\n"));
    let mut client = scene.server.connect();
    client.send(&request);
    assert_eq!(client.answer().status, 200);
}

/// Opens one of each kind of connection with these fields, and checks that `end` ends them all.
#[track_caller]
fn check_that_all_end(scene: &Scene, admin: &str, fields: &str, end: impl FnOnce()) {
    let handshake = format!("{fields}{HANDSHAKE}");
    let mut polls =
        [scene.hold(admin, "GET", "/api/poll?client_id=a", fields, ""), scene.hold(admin, "GET", "/poll", fields, "")];
    let mailbox = scene.ask("POST", "/poll", fields, "").json()["connection_id"].clone();
    let content = json!({ "connection_id": mailbox }).to_string();
    let mut mailbox = scene.hold(admin, "POST", "/poll", fields, &content);
    let mut streams = ["/api/events", "/events", "/sse"].map(|path| scene.hold(admin, "GET", path, fields, ""));
    let mut lines = scene.hold(admin, "GET", "/api/stream", fields, "");
    let mut sockets = ["/api/ws", "/ws", "/api/signal"].map(|path| scene.hold(admin, "GET", path, &handshake, ""));
    let mut other = scene.hold(admin, "GET", "/api/events?room=other", &bearer(admin), "");
    end();
    for poll in polls.iter_mut().chain([&mut mailbox]) {
        let answer = poll.answer();
        assert_error(&answer, 401, "not valid any more");
        assert!(answer.field("WWW-Authenticate").is_some());
    }
    for stream in &mut streams {
        stream.head();
        let (mut event, mut last_id) = (stream.any_event(), String::new());
        while event.name != "unauthorized" {
            last_id = if event.id.is_empty() { last_id } else { event.id };
            event = stream.any_event();
        }
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!((&data["type"], &data["status"]), (&json!("unauthorized"), &json!(401)));
        assert_eq!(stream.chunk(), None, "the stream ends");
        // The browser comes back, and is told to stay away.
        let again = format!("{fields}Accept: text/event-stream\r\nLast-Event-ID: {last_id}\r\n");
        assert_eq!(scene.ask("GET", "/api/events", &again, "").status, 204);
    }
    lines.head();
    while !lines.line().contains("unauthorized") {}
    assert_eq!(lines.chunk(), None, "the stream ends");
    for socket in &mut sockets {
        socket.head();
        let close = loop {
            let frame = socket.message();
            if frame.opcode == overwire::websocket::Opcode::Close {
                break frame.close();
            }
        };
        assert_eq!(close, (4401, "the session or the key is not valid any more".to_owned()));
    }
    scene.ask("POST", "/api/send", &bearer(admin), r#"{"text":"still here","room":"other"}"#);
    other.head();
    assert!(other.event().data.contains("still here"), "connections of others stay");
}

#[test]
fn logging_out_ends_everything_that_the_session_holds() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "*"), ("admin", "read,send,admin", "*")]);
    let cookie = scene.log_in(&alice);
    check_that_all_end(&scene, &admin, &cookie, || {
        assert_eq!(scene.ask("DELETE", "/api/session", &cookie, "").status, 200);
    });
}

#[test]
fn revoking_a_key_ends_everything_that_it_holds() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "*"), ("admin", "read,send,admin", "*")]);
    check_that_all_end(&scene, &admin, &bearer(&alice), || {
        assert_eq!(revoke_keys(&scene.file.0, "alice").unwrap().len(), 1);
    });
}

#[test]
fn revoking_a_key_ends_its_sessions() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "*"), ("admin", "read,send,admin", "*")]);
    let cookie = scene.log_in(&alice);
    check_that_all_end(&scene, &admin, &cookie, || {
        assert_eq!(revoke_keys(&scene.file.0, "alice").unwrap().len(), 1);
    });
}

#[test]
fn a_session_ends_what_it_holds_after_12_hours() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "*"), ("admin", "read,send,admin", "*")]);
    let cookie = scene.log_in(&alice);
    let mut stream = scene.hold(&admin, "GET", "/api/events", &cookie, "");
    stream.head();
    for _ in 0..25 {
        scene.server.advance_and_settle(29 * 60); // never idle, because the stream is held
    }
    loop {
        match stream.any_event() {
            event if event.name == "unauthorized" => break,
            event => assert!(["connected", "heartbeat"].contains(&event.name.as_str()), "{event:?}"),
        }
    }
    assert_eq!(scene.ask("GET", "/api/session", &cookie, "").status, 401);
}

#[test]
fn a_session_is_idle_if_nothing_is_asked_and_nothing_is_held() {
    let (scene, key) = Scene::alone();
    let (asking, holding, idle) = (scene.log_in(&key), scene.log_in(&key), scene.log_in(&key));
    let _stream = scene.hold(&key, "GET", "/api/events", &holding, "");
    let status = |cookie: &str| scene.ask("GET", "/api/session", cookie, "").status;
    for _ in 0..2 {
        scene.server.advance_and_settle(20 * 60);
        assert_eq!(status(&asking), 200);
    }
    assert_eq!([&asking, &holding, &idle].map(|cookie| status(cookie)), [200, 200, 401]);
}

#[test]
fn an_expired_key_ends_what_it_holds() {
    let file = KeysFile::create();
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 600;
    let key = file.create_key("alice", "read", "*", Some(soon));
    let path = file.0.clone();
    let scene = Scene { server: TestServer::with(move |config| config.keys = Some(path)), file };
    let cookie = scene.ask("POST", "/api/session", "", &json!({ "key": key }).to_string());
    assert_eq!(cookie.json()["expires"], soon);
    let mut stream = scene.server.connect();
    send(&mut stream, "GET", "/api/events", &bearer(&key), "").head();
    stream.any_event();
    scene.server.advance_and_settle(601);
    while stream.any_event().name != "unauthorized" {}
    assert_eq!(scene.ask("GET", "/api/history", &bearer(&key), "").status, 401);
}

#[test]
fn a_lost_room_or_right_closes_with_4403() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "general,team-*"), ("admin", "read,admin", "*")]);
    let handshake = bearer(&alice) + HANDSHAKE;
    let mut team = scene.hold(&admin, "GET", "/api/ws?room=team-red", &handshake, "");
    let mut general = scene.hold(&admin, "GET", "/api/ws?room=general", &handshake, "");
    let mut poll = scene.hold(&admin, "GET", "/api/poll?client_id=a&room=team-red", &bearer(&alice), "");
    let mut lines = scene.hold(&admin, "GET", "/api/stream?room=team-red", &bearer(&alice), "");
    scene.file.edit("team-*", "team-blue");
    team.head();
    assert_eq!(team.message().close(), (4403, "the key does not permit this any more".to_owned()));
    assert_error(&poll.answer(), 403, "does not permit this");
    lines.head();
    let last = iter::repeat_with(|| lines.line()).find(|line| line.contains("unauthorized"));
    assert_eq!(serde_json::from_str::<Value>(&last.unwrap()).unwrap()["status"], 403);
    general.head();
    general.send_text(r#"{"text":"still here"}"#);
    assert_eq!(general.message().json()["text"], "still here");
    scene.file.edit(r#"["read","send"]"#, r#"["read"]"#);
    // It needs only to read. The next message finds the right gone.
    let error = loop {
        general.send_text(r#"{"text":"again"}"#);
        if let Some(error) = general.message().json()["error"].as_str() {
            break error.to_owned();
        }
    };
    assert_eq!(error, "rights: expected send, but alice has read alone");
    scene.file.edit(r#"["read"]"#, r#"["send"]"#);
    assert_eq!(general.message().close().0, 4403);
}

#[test]
fn a_ticket_opens_one_stream_or_websocket() {
    let (scene, [alice, admin]) = Scene::with([("alice", "read,send", "*"), ("admin", "read,send,admin", "*")]);
    let cookie = scene.log_in(&alice);
    for fields in [bearer(&alice), cookie.clone()] {
        let ticket = scene.ticket(&fields, "/api/events");
        let mut stream = scene.server.connect();
        let target = format!("/api/events?room=x&ticket={ticket}");
        assert!(stream.send_get(&target).head().starts_with("HTTP/1.1 200 "));
        assert_eq!(scene.server.get(&target).status, 401, "it was used up");
        let ticket = scene.ticket(&fields, "/api/events");
        assert_eq!(scene.server.get(&format!("/api/stream?ticket={ticket}")).status, 401, "it is for another path");
        let ticket = scene.ticket(&fields, "/api/history");
        scene.server.advance(31);
        assert_eq!(scene.server.get(&format!("/api/history?ticket={ticket}")).status, 401, "it is too old");
    }
    let target = format!("/api/ws?ticket={}", scene.ticket(&cookie, "/api/ws"));
    let mut socket = scene.hold(&admin, "GET", &target, HANDSHAKE, "");
    socket.head();
    socket.send_text(r#"{"text":"x"}"#);
    assert_eq!(socket.message().json()["sender"], "alice");
    scene.ask("DELETE", "/api/session", &cookie, "");
    assert_eq!(socket.message().close().0, 4401, "it ends with the session that the ticket came from");
    let wrong = scene.ask("POST", "/api/ticket", &bearer(&alice), r#"{"endpoint":"/api/send"}"#);
    assert_error(&wrong, 400, "endpoint: expected the path of a GET");
    let issue = || scene.ask("POST", "/api/ticket", &bearer(&alice), r#"{"endpoint":"/api/ws"}"#);
    (0..300).for_each(|_| assert_eq!(issue().status, 200));
    let last = issue();
    assert_eq!((last.status, last.field("Retry-After")), (429, Some("30")));
}

#[test]
fn wrong_keys_are_slowed_down_and_counted() {
    let (scene, key) = Scene::alone();
    let cookie = scene.log_in(&key);
    let content = json!({ "key": key }).to_string();
    for _ in 0..5 {
        assert_eq!(scene.ask("POST", "/api/session", "", r#"{"key":"guess"}"#).status, 401);
        assert_eq!(scene.ask("GET", "/api/history", &bearer("guess"), "").status, 401);
    }
    assert_eq!(scene.ask("GET", "/api/history", &bearer("guess"), "").status, 401);
    for answer in [scene.ask("GET", "/api/history", &bearer(&key), ""), scene.ask("POST", "/api/session", "", &content)]
    {
        assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")), "{answer:?}");
    }
    assert_eq!(scene.ask("GET", "/api/history", &cookie, "").status, 200, "sessions are not delayed");
    assert_eq!(scene.ask("GET", "/api/stats", &cookie, "").json()["wrong_keys"], 11);
    scene.server.advance(1);
    assert_eq!(scene.ask("GET", "/api/history", &bearer(&key), "").status, 200);
}

#[test]
fn two_identities_do_not_share_a_client_id() {
    let (scene, [alice, bob, admin]) =
        Scene::with([("alice", "read,send", "*"), ("bob", "read", "*"), ("admin", "admin", "*")]);
    let poll = |key: &str| scene.hold(&admin, "GET", "/api/poll?client_id=tab", &bearer(key), "");
    let (mut of_alice, mut of_bob) = (poll(&alice), poll(&bob));
    scene.ask("POST", "/api/send", &bearer(&alice), r#"{"text":"1"}"#);
    assert_eq!((of_alice.answer().texts(), of_bob.answer().texts()), (vec!["1".to_owned()], vec!["1".to_owned()]));
    scene.ask("POST", "/api/send", &bearer(&alice), r#"{"text":"2"}"#);
    for key in [&alice, &bob] {
        assert_eq!(scene.ask("GET", "/api/poll?client_id=tab", &bearer(key), "").texts(), ["2"]);
    }
    let mut of_bob = poll(&bob);
    let delete = |key: &str, id: &str| scene.ask("DELETE", &format!("/api/client/{id}"), &bearer(key), "").status;
    assert_eq!((delete(&alice, "bob/tab"), delete(&alice, "tab"), delete(&alice, "tab")), (403, 200, 403));
    assert_eq!(delete(&admin, "bob/tab"), 200);
    assert_eq!(of_bob.answer().json()["status"], "disconnected");
}

#[test]
fn a_new_key_counts_soon() {
    let (scene, _) = Scene::alone();
    let key = scene.file.create_key("bob", "read", "*", None);
    let start = std::time::Instant::now();
    while scene.ask("GET", "/api/history", &bearer(&key), "").status != 200 {
        assert!(start.elapsed() < PATIENCE);
        scene.server.advance(60); // else the wrong keys would be slowed down
    }
}

#[test]
fn without_keys_everyone_may_do_everything() {
    let server = TestServer::start();
    let who = server.get("/api/session").json();
    let all = ["read", "send", "admin"];
    let everyone =
        json!({ "name": null, "via": null, "rights": all, "rooms": ["*"], "expires": null, "tap_port": null });
    assert_eq!(who, everyone);
    for (method, path) in [("POST", "/api/session"), ("DELETE", "/api/session"), ("POST", "/api/ticket")] {
        let answer = send(&mut server.connect(), method, path, "", r#"{"key":"x","endpoint":"/ws"}"#).answer();
        assert_error(&answer, 404, "--keys");
    }
    let answer = send(&mut server.connect(), "GET", "/api/history", &bearer("x"), "").answer();
    assert_eq!(answer.status, 200);
}

/// Starts the program with a keys file. Its output is not a terminal.
fn program(file: &KeysFile, arguments: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
    command.args(["--port", "0", "--no-tap", "--keys"]).arg(&file.0).args(arguments);
    Running::start(command.stdin(Stdio::null()).stderr(Stdio::piped()))
}

fn signal(program: &Running, name: &str) {
    let mut kill = Command::new("sh");
    assert!(kill.args(["-c", &format!("kill -s {name} {}", program.process.id())]).status().unwrap().success());
}

#[test]
fn a_wrong_line_keeps_the_keys_from_before() {
    let file = KeysFile::create();
    let key = file.create_key("alice", "read", "*", None);
    let mut program = program(&file, &[]);
    file.edit("read", "write");
    let mut line = String::new();
    BufReader::new(program.process.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let complaint =
        "overwire: --keys: line 1: rights: expected read, send or admin, not \"write\": the keys from before";
    assert!(line.starts_with(complaint), "{line}");
    let answer = send(&mut Client::connect(program.address), "GET", "/api/history", &bearer(&key), "").answer();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_hangup_reads_the_keys_again_if_there_is_no_terminal() {
    let file = KeysFile::create();
    fs::write(&file.0, "").unwrap();
    let mut program = program(&file, &[]);
    for _ in 0..3 {
        signal(&program, "HUP");
    }
    // A file that is unreadable is complained about each time that it is read.
    fs::write(&file.0, "oops").unwrap();
    let mut stderr = BufReader::new(program.process.stderr.take().unwrap()).lines();
    let mut complaint = || stderr.next().unwrap().unwrap();
    assert!(complaint().contains("--keys: line 1"));
    signal(&program, "HUP");
    assert!(complaint().contains("--keys: line 1"));
    assert_eq!(Client::connect(program.address).get("/health").status, 200);
    signal(&program, "TERM");
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
}

#[test]
fn the_log_has_no_secrets() {
    let file = KeysFile::create();
    let key = file.create_key("alice", "read", "*", None);
    let mut program = program(&file, &["--log"]);
    let mut client = Client::connect(program.address);
    let session = send(&mut client, "POST", "/api/session", "", &json!({ "key": key }).to_string()).answer();
    let cookie = session.field("Set-Cookie").unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    let content = r#"{"endpoint":"/api/history"}"#;
    let ticket = send(&mut client, "POST", "/api/ticket", &bearer(&key), content).answer().json()["ticket"].clone();
    let ticket = ticket.as_str().unwrap();
    client.get(&format!("/api/history?ticket={ticket}&limit=1"));
    send(&mut client, "GET", "/health", &format!("Cookie: overwire-session={cookie}\r\n"), "").answer();
    signal(&program, "TERM");
    let mut log = String::new();
    std::io::Read::read_to_string(program.process.stdout.as_mut().unwrap(), &mut log).unwrap();
    assert!(log.contains("/api/history?ticket=***&limit=1 200"), "{log}");
    assert!(![key.as_str(), cookie.as_str(), ticket].iter().any(|secret| log.contains(secret)), "{log}");
}

#[test]
fn a_server_without_its_keys_file_does_not_start() {
    let file = KeysFile::create();
    let mut command = Command::new(env!("CARGO_BIN_EXE_overwire"));
    let output = command.args(["--port", "0", "--keys"]).arg(&file.0).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && complaint.starts_with("overwire: --keys: cannot read "), "{complaint}");
}

#[test]
fn the_bounds_of_a_client_are_those_of_its_identity() {
    let file = KeysFile::create();
    fs::write(&file.0, "").unwrap();
    let keys = ["alice", "bob"].map(|name| file.create_key(name, "read,send", "*", None));
    let path = file.0.clone();
    let server = TestServer::with(move |config| {
        config.keys = Some(path);
        let bounds = &mut config.limits.per_client;
        (bounds.connections, bounds.streams, bounds.rate, bounds.loopback) = (2, 1, 1, true);
    });
    let [alice, bob] = keys.each_ref().map(|key| bearer(key));
    let ask = |fields: &str, target: &str, content: &str| {
        let method = if content.is_empty() { "GET" } else { "POST" };
        let mut client = server.connect();
        send(&mut client, method, target, fields, content);
        client
    };
    let message = r#"{"text":"x"}"#;
    let mut sends = [ask(&alice, "/api/send", message), ask(&alice, "/api/send", message)];
    let mut answers = sends.each_mut().map(|client| client.answer());
    answers.sort_by_key(|answer| answer.status);
    assert_eq!(answers[0].status, 200);
    let answer = &answers[1];
    drop(sends);
    assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")), "{answer:?}");
    assert_eq!(ask(&bob, "/api/send", message).answer().status, 200);
    let mut stream = ask(&alice, "/api/stream", "");
    while !stream.read_until("\r\n\r\n").starts_with("HTTP/1.1 200 ") {
        // Her first connections have not ended yet.
        stream = ask(&alice, "/api/stream", "");
    }
    assert_eq!(ask(&alice, "/api/stream", "").answer().status, 429);
    let mut second = ask(&alice, "/api/history", "");
    while second.answer().status == 429 {
        // Her last connection has not ended yet.
        second = ask(&alice, "/api/history", "");
    }
    let answer = ask(&alice, "/api/history", "").answer();
    assert!(answer.status == 429 && answer.text().contains("2 connections"), "{answer:?}");
    assert_eq!(ask(&bob, "/api/history", "").answer().status, 200);
}
