//! Lesson 11, who are you: keys, cookies and tickets, what is good for what, and how it ends; and the bugs of the broken
//! twin.

#[allow(dead_code)]
#[path = "../../lessons/11-who-are-you/main.rs"]
mod main;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use overwire::Limits;
use overwire::identity::Digest;
use overwire::websocket::{encode_key, opening_request};
use serde_json::json;

use crate::common::{Answer, Client, Running, TestServer, field};
use crate::lesson::{expect_not_allowed, expect_page, program};

const FOREIGN: &str = "Origin: https://evil.example\r\n";

/// A file in which `ada` and `bob` have a key: `key of ada`, and `key of bob`.
fn keys(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("11-{name}"));
    let line = |name| format!("{}  {name}\n", Digest::of(&format!("key of {name}")));
    fs::write(&path, line("ada") + &line("bob")).unwrap();
    path
}

fn start(name: &str) -> TestServer {
    let keys = keys(name);
    TestServer::of_loop(Limits::default(), move |server| main::serve(server, main::Access::open(&keys)?))
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer key of {name}\r\n")
}

fn ask(server: SocketAddr, method: &str, target: &str, fields: &str, content: &str) -> Answer {
    let length = content.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n");
    Client::connect(server).send(head + content).answer()
}

fn status(server: &TestServer, fields: &str) -> u16 {
    ask(server.address, "GET", "/session", fields, "").status
}

/// Logs in, and returns the field line with the cookie.
fn log_in(server: SocketAddr, target: &str, fields: &str) -> String {
    let answer = ask(server, "POST", target, fields, "");
    let cookie = answer.field("Set-Cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
}

fn cookie_of(server: &TestServer, name: &str) -> String {
    log_in(server.address, "/session", &bearer(name))
}

/// The target with a new ticket for this path.
fn ticket(server: &TestServer, fields: &str, path: &str) -> String {
    let answer = ask(server.address, "POST", "/ticket", fields, &json!({ "path": path }).to_string());
    let ticket = answer.json()["ticket"].as_str().unwrap_or_else(|| panic!("no ticket: {answer:?}")).to_owned();
    format!("{path}?ticket={ticket}")
}

/// Sends the handshake of a WebSocket with more fields, and returns the status.
fn handshake(client: &mut Client, target: &str, fields: &str) -> u16 {
    let request = String::from_utf8(opening_request("localhost", target, &encode_key([7; 16]))).unwrap();
    let head = client.send(request.replacen("\r\n\r\n", &format!("\r\n{fields}\r\n"), 1)).head();
    head[9..12].parse().unwrap()
}

fn try_open(server: &TestServer, target: &str, fields: &str) -> u16 {
    handshake(&mut server.connect(), target, fields)
}

/// Opens a WebSocket, and checks who it is for.
fn open(server: &TestServer, target: &str, fields: &str, name: &str) -> Client {
    let mut client = server.connect();
    assert_eq!(handshake(&mut client, target, fields), 101);
    assert_eq!(client.frame().json(), json!({ "you": name }));
    client
}

/// Opens an event stream, and checks who it is for.
fn listen(server: &TestServer, fields: &str, name: &str) -> Client {
    let mut client = server.connect();
    let head = client.send(format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).head();
    assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"), "{head}");
    assert_eq!(client.any_event().data, json!({ "you": name }).to_string());
    client
}

#[test]
fn a_stranger_gets_401_and_a_challenge() {
    let server = start("stranger");
    let digest = Digest::of("key of ada").to_string();
    for fields in [
        String::new(),
        bearer("nobody"),
        format!("Authorization: Bearer {digest}\r\n"),
        "Authorization: Basic key of ada\r\n".into(),
        "Authorization: Bearer\r\n".into(),
        "Cookie: session=\r\n".into(),
        format!("Cookie: session={digest}\r\n"),
        "Cookie: other=1; session=key of ada\r\n".into(),
    ] {
        for (method, target) in [
            ("GET", "/session"),
            ("POST", "/session"),
            ("DELETE", "/session"),
            ("POST", "/ticket"),
            ("POST", "/add-message"),
            ("GET", "/chat"),
            ("GET", "/events"),
            ("GET", "/chat?ticket="),
        ] {
            let answer = ask(server.address, method, target, &fields, "");
            assert_eq!((answer.status, answer.field("WWW-Authenticate")), (401, Some("Bearer")), "{target} {fields}");
        }
    }
    expect_page(&server, "11 Who are you");
}

#[test]
fn a_key_a_cookie_and_a_ticket_open_the_chat() {
    let server = start("open");
    let cookie = cookie_of(&server, "ada");
    let with_others = cookie.replace("session=", "a=b; session=wrong; session=");
    for fields in [bearer("ada"), bearer("ada").replace("Bearer", "bearer"), cookie, with_others] {
        open(&server, "/chat", &fields, "ada");
        listen(&server, &fields, "ada");
        open(&server, &ticket(&server, &fields, "/chat"), "", "ada");
        let own = format!("{fields}Origin: http://localhost\r\n");
        open(&server, "/chat", &own, "ada");
    }
}

#[test]
fn the_cookie_is_for_the_browser_alone() {
    let server = start("cookie");
    let answer = ask(server.address, "POST", "/session", &bearer("ada"), "");
    assert_eq!((answer.status, answer.json()), (200, json!({ "name": "ada" })));
    let cookie = answer.field("Set-Cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"), "{cookie}");
    // A session does not beget another one.
    let by_cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(ask(server.address, "POST", "/session", &by_cookie, "").status, 401);
}

#[test]
fn a_foreign_page_is_refused_whatever_the_browser_adds() {
    let server = start("foreign");
    let cookie = cookie_of(&server, "ada");
    for origin in [FOREIGN, "Origin: null\r\n", "Origin: http://localhost:9\r\n"] {
        let fields = format!("{cookie}{origin}");
        for (method, target) in [("GET", "/session"), ("DELETE", "/session"), ("POST", "/ticket"), ("GET", "/events")] {
            assert_eq!(ask(server.address, method, target, &fields, "").status, 403, "{method} {target} {origin}");
        }
        let message = json!({ "message": "forged" }).to_string();
        assert_eq!(ask(server.address, "POST", "/add-message", &fields, &message).status, 403);
        assert_eq!(try_open(&server, "/chat", &fields), 403);
        let with_ticket = ticket(&server, &cookie, "/chat");
        assert_eq!(try_open(&server, &with_ticket, origin), 403);
    }
    assert_eq!(status(&server, &cookie), 200, "nobody was logged out");
}

#[test]
fn a_ticket_is_for_one_use_of_one_path_within_30_seconds() {
    let server = start("ticket");
    let (key, cookie) = (bearer("ada"), cookie_of(&server, "ada"));
    let used = ticket(&server, &key, "/chat");
    open(&server, &used, "", "ada");
    let elsewhere = ticket(&server, &key, "/chat").replace("/chat", "/events");
    let for_a_post = ticket(&server, &key, "/chat").replace("/chat", "/session");
    for target in [&used, &elsewhere, &elsewhere.replace("/events", "/chat")] {
        assert_eq!(ask(server.address, "GET", target, "", "").status, 401, "{target}");
    }
    assert_eq!(ask(server.address, "DELETE", &for_a_post, "", "").status, 401);
    let (late, of_session) = (ticket(&server, &key, "/chat"), ticket(&server, &cookie, "/chat"));
    assert_eq!(ask(server.address, "DELETE", "/session", &cookie, "").status, 200);
    assert_eq!(try_open(&server, &of_session, ""), 401, "it has ended with its session");
    server.advance(30);
    assert_eq!(try_open(&server, &late, ""), 401);
    for content in ["", "{}", r#"{"path": "/session"}"#, r#"{"path": 7}"#] {
        assert_eq!(ask(server.address, "POST", "/ticket", &key, content).status, 400, "{content}");
    }
}

#[test]
fn a_log_out_ends_what_the_session_has_opened_and_nothing_else() {
    let server = start("log-out");
    let (cookie, second, bob) = (cookie_of(&server, "ada"), cookie_of(&server, "ada"), cookie_of(&server, "bob"));
    let by_ticket = ticket(&server, &cookie, "/chat");
    let mut ended = [open(&server, "/chat", &cookie, "ada"), open(&server, &by_ticket, "", "ada")];
    let mut stream = listen(&server, &cookie, "ada");
    let mut others = [
        open(&server, "/chat", &second, "ada"),
        open(&server, "/chat", &bearer("ada"), "ada"),
        open(&server, "/chat", &bob, "bob"),
    ];
    let answer = ask(server.address, "DELETE", "/session", &cookie, "");
    assert_eq!(answer.field("Set-Cookie"), Some("session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"));
    ended[0].send_text("too late");
    ended.iter_mut().for_each(|socket| assert_eq!(socket.frame().close(), (4401, "logged out".into())));
    assert_eq!((stream.any_event().name, stream.chunk()), ("bye".into(), None));
    assert_eq!(status(&server, &cookie), 401);
    others[2].send_text("hello");
    others.iter_mut().for_each(|socket| assert_eq!(socket.frame().json(), json!({ "from": "bob", "text": "hello" })));
    assert_eq!(ask(server.address, "DELETE", "/session", &bearer("ada"), "").status, 400);
}

#[test]
fn a_session_ends_after_an_hour_and_closes_its_streams() {
    let server = start("hour");
    let cookie = cookie_of(&server, "ada");
    let mut stream = listen(&server, &cookie, "ada");
    server.advance(3599);
    assert_eq!(status(&server, &cookie), 200);
    server.advance(1);
    let bye = stream.any_event();
    assert_eq!((bye.name, bye.data, stream.chunk()), ("bye".into(), "expired".into(), None));
    assert_eq!(status(&server, &cookie), 401);
}

#[test]
fn the_server_names_the_sender() {
    let server = start("sender");
    let mut ada = open(&server, "/chat", &bearer("ada"), "ada");
    let content = json!({ "message": "hello", "from": "ada" }).to_string();
    assert_eq!(ask(server.address, "POST", "/add-message", &bearer("bob"), &content).status, 200);
    assert_eq!(ada.frame().json(), json!({ "from": "bob", "text": "hello" }));
    ada.send_text(r#"{"from": "bob"}"#);
    assert_eq!(ada.frame().json(), json!({ "from": "ada", "text": r#"{"from": "bob"}"# }));
    assert_eq!(ask(server.address, "POST", "/add-message", &bearer("bob"), "{}").status, 400);
    expect_not_allowed(&server.get("/ticket"), "POST");
    expect_not_allowed(&server.post("/chat", ""), "GET");
    expect_not_allowed(&ask(server.address, "PUT", "/session", "", ""), "GET, HEAD, POST, DELETE");
}

#[test]
fn a_keys_file_with_a_wrong_line_is_refused() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("11-wrong");
    for text in ["7  ada\n", "\n", "not a digest\n"] {
        fs::write(&path, text).unwrap();
        let mut command = Command::new(program("11-who-are-you"));
        let output = command.args(["--port", "0", "--keys"]).arg(&path).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains("expected lines of `sha1sum`"), "{error}");
    }
}

// The bugs of the broken server.

fn broken(name: &str) -> (Running, PathBuf) {
    let (keys, log) = (keys(name), Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("11-{name}.log")));
    let mut command = Command::new(program("11-broken"));
    (Running::start(command.args(["--port", "0", "--keys"]).arg(keys).arg("--log").arg(&log)), log)
}

#[test]
fn broken_writes_the_key_into_its_log() {
    let (server, log) = broken("broken-key");
    assert_eq!(handshake(&mut Client::connect(server.address), "/chat?key=key%20of%20ada", ""), 101);
    assert_eq!(fs::read_to_string(log).unwrap(), "GET /chat?key=key%20of%20ada\n");
}

#[test]
fn broken_opens_a_socket_for_a_foreign_page_and_keeps_it_after_the_log_out() {
    let (server, _) = broken("broken-page");
    let cookie = log_in(server.address, "/session?key=key%20of%20ada", "");
    let mut socket = Client::connect(server.address);
    assert_eq!(handshake(&mut socket, "/chat", &format!("{cookie}{FOREIGN}")), 101);
    assert_eq!(socket.frame().text(), "you are ada");
    assert_eq!(ask(server.address, "DELETE", "/session", &cookie, "").status, 200);
    assert_eq!(ask(server.address, "GET", "/session", &cookie, "").status, 401);
    let content = json!({ "message": "secret" }).to_string();
    assert_eq!(ask(server.address, "POST", "/add-message?key=key%20of%20bob", "", &content).status, 200);
    assert_eq!(socket.frame().text(), "bob: secret");
}
