//! Sessions and tickets of servers that share one Redis.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use overwire::identity::revoke_keys;
use overwire::resp::Value;
use serde_json::json;

use super::process::{Process, is_installed};
use super::relay::Relay;
use super::servers::{wait_until_away, wait_until_ready};
use crate::common::{Answer, Client, PATIENCE, TestServer};
use crate::identity::{HANDSHAKE, KeysFile, assert_error, bearer, send};

/// Starts a server with these keys that shares this Redis.
fn server(url: String, keys: &KeysFile) -> TestServer {
    let path = keys.0.clone();
    let server = TestServer::with(move |config| {
        config.keys = Some(path);
        config.redis = Some(url.parse().unwrap());
    })
    .in_real_time();
    wait_until_ready(&server);
    server
}

/// Two servers with one keys file and one Redis, and a key of `alice`.
fn two_servers() -> (Process, KeysFile, [TestServer; 2], String) {
    let (process, keys) = (Process::started(&[]), KeysFile::create());
    let key = keys.create_key("alice", "read,send,admin", "*", None);
    let servers = [(); 2].map(|()| server(process.url(), &keys));
    (process, keys, servers, key)
}

fn ask(server: &TestServer, method: &str, target: &str, fields: &str, content: &str) -> Answer {
    send(&mut server.connect(), method, target, fields, content).answer()
}

fn log_in_with(server: &TestServer, key: &str) -> Answer {
    ask(server, "POST", "/api/session", "", &json!({ "key": key }).to_string())
}

/// Logs in, and returns the field with the cookie.
fn log_in(server: &TestServer, key: &str) -> String {
    let answer = log_in_with(server, key);
    assert_eq!(answer.status, 200, "{answer:?}");
    format!("Cookie: {}\r\n", answer.field("Set-Cookie").unwrap().split(';').next().unwrap())
}

fn log_out(server: &TestServer, cookie: &str) -> Answer {
    ask(server, "DELETE", "/api/session", cookie, "")
}

fn who(server: &TestServer, cookie: &str) -> u16 {
    ask(server, "GET", "/api/session", cookie, "").status
}

/// Opens a stream or a WebSocket, which is held by then.
fn hold(server: &TestServer, target: &str, fields: &str) -> Client {
    let mut client = server.connect();
    let head = send(&mut client, "GET", target, fields, "").head();
    assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

fn websocket(server: &TestServer, cookie: &str) -> Client {
    hold(server, "/api/ws", &format!("{cookie}{HANDSHAKE}"))
}

#[track_caller]
fn expect_session_over(websocket: &mut Client) {
    assert_eq!(websocket.message().close(), (4401, "the session or the key is not valid any more".to_owned()));
}

fn keys_in_redis(process: &Process, pattern: &str) -> Vec<String> {
    let text = |value: &Value| String::from_utf8(value.as_bytes().unwrap().to_vec()).unwrap();
    process.command(&["KEYS", pattern]).values().unwrap().iter().map(text).collect()
}

#[test]
fn a_session_of_one_server_is_known_to_the_other() {
    if !is_installed() {
        return;
    }
    let (process, _keys, [one, two], key) = two_servers();
    let cookie = log_in(&one, &key);
    let sessions = [&one, &two].map(|server| ask(server, "GET", "/api/session", &cookie, "").json());
    assert_eq!(sessions[0], sessions[1]);
    assert_eq!((&sessions[1]["name"], sessions[1]["expires"].is_u64()), (&json!("alice"), true));
    assert_eq!(ask(&two, "POST", "/api/send", &cookie, r#"{"text":"hello"}"#).status, 200);
    assert_eq!(who(&two, "Cookie: overwire-session=wrong; overwire-session=other\r\n"), 401);
    let both = cookie.replace("Cookie: ", "Cookie: overwire-session=old; ");
    assert_eq!(who(&two, &both), 200, "a second cookie of the name does not hide it");
    let stored = keys_in_redis(&process, "overwire:session:*");
    let Value::Blob(text) = process.command(&["GET", &stored[0]]) else { panic!("a text") };
    let (text, secret) = (String::from_utf8(text).unwrap(), cookie.trim_end().rsplit('=').next().unwrap());
    assert_eq!(stored.len(), 1);
    assert!(
        ![&stored[0], &text].iter().any(|text| text.contains(secret) || text.contains(&key)),
        "no secret is stored"
    );
}

#[test]
fn a_session_that_ends_on_one_server_ends_what_the_other_holds() {
    if !is_installed() {
        return;
    }
    let (process, _keys, [one, two], key) = two_servers();
    let cookie = log_in(&one, &key);
    let mut socket = websocket(&two, &cookie);
    let mut stream = hold(&two, "/api/events", &cookie);
    let mut poll = two.connect();
    send(&mut poll, "GET", "/api/poll?client_id=a", &cookie, "");
    while ask(&two, "GET", "/api/connections", &bearer(&key), "").json()["connections"].as_array().unwrap().len() < 3 {
        thread::yield_now();
    }
    let other = log_in(&two, &key);
    let mut of_other = hold(&two, "/api/stream", &other);
    assert_eq!(log_out(&one, &cookie).status, 200);
    expect_session_over(&mut socket);
    while stream.any_event().name != "unauthorized" {}
    assert_error(&poll.answer(), 401, "not valid any more");
    assert_eq!([&one, &two].map(|server| who(server, &cookie)), [401, 401]);
    assert_eq!(keys_in_redis(&process, "overwire:session:*").len(), 1);
    assert_eq!(ask(&one, "POST", "/api/send", &other, r#"{"text":"still here"}"#).status, 200);
    assert!(of_other.line().contains("still here"), "other sessions of the key go on");
}

#[test]
fn a_key_that_is_revoked_on_one_server_ends_its_sessions_on_the_other() {
    if !is_installed() {
        return;
    }
    let (process, keys, [one, _], key) = two_servers();
    let copy = KeysFile::create();
    fs::copy(&keys.0, &copy.0).unwrap();
    let two = server(process.url(), &copy);
    let cookie = log_in(&one, &key);
    let mut socket = websocket(&two, &cookie);
    revoke_keys(&keys.0, "alice").unwrap();
    expect_session_over(&mut socket);
    assert_eq!(who(&two, &cookie), 401);
    assert_eq!(who(&two, &bearer(&key)), 200, "its own file has the key");
}

#[test]
fn a_ticket_of_one_server_opens_a_websocket_on_the_other_once() {
    if !is_installed() {
        return;
    }
    let (_process, _keys, [one, two], key) = two_servers();
    let cookie = log_in(&one, &key);
    let issue = |fields: &str| {
        let answer = ask(&one, "POST", "/api/ticket", fields, r#"{"endpoint":"/api/ws"}"#);
        format!("ticket={}", answer.json()["ticket"].as_str().unwrap())
    };
    let mut opened = [bearer(&key), cookie.clone()].map(|fields| {
        let target = format!("/api/ws?{}", issue(&fields));
        let opened = hold(&two, &target, HANDSHAKE);
        for server in [&two, &one] {
            assert_eq!(ask(server, "GET", &target, HANDSHAKE, "").status, 401, "it was used up");
        }
        opened
    });
    let elsewhere = issue(&cookie);
    assert_eq!(ask(&two, "GET", &format!("/api/history?{elsewhere}"), "", "").status, 401, "it is for another path");
    assert_eq!(ask(&one, "GET", &format!("/api/ws?{elsewhere}"), HANDSHAKE, "").status, 401);
    let late = issue(&cookie);
    assert_eq!(log_out(&one, &cookie).status, 200);
    let [of_key, of_session] = &mut opened;
    expect_session_over(of_session);
    of_key.send_text(r#"{"text":"hello"}"#);
    assert_eq!(of_key.message().json()["sender"], "alice");
    assert_eq!(ask(&two, "GET", &format!("/api/ws?{late}"), HANDSHAKE, "").status, 401, "its session is over");
}

#[test]
fn a_ticket_that_two_clients_show_together_serves_one() {
    if !is_installed() {
        return;
    }
    let (process, _keys, [one, two], key) = two_servers();
    let answer = ask(&one, "POST", "/api/ticket", &bearer(&key), r#"{"endpoint":"/api/history"}"#);
    let target = format!("/api/history?ticket={}", answer.json()["ticket"].as_str().unwrap());
    process.signal("STOP"); // so that all of them wait for Redis
    let mut clients = [&one, &two, &two].map(|server| server.connect());
    for client in &mut clients {
        client.send_get(&target);
    }
    for server in [&one, &two] {
        assert_eq!(server.get("/health").status, 200); // all of them wait by then
    }
    process.signal("CONT");
    let mut statuses = clients.map(|mut client| client.answer().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401]);
}

#[test]
fn a_session_in_use_on_one_server_is_not_idle_on_the_other() {
    if !is_installed() {
        return;
    }
    let (process, _keys, [one, two], key) = two_servers();
    let cookie = log_in(&one, &key);
    let _stream = hold(&one, "/api/events", &cookie);
    assert_eq!(who(&two, &cookie), 200);
    let session = keys_in_redis(&process, "overwire:session:*").remove(0);
    process.command(&["PEXPIRE", &session, "100000"]);
    for _ in 0..2 {
        [&one, &two].into_iter().for_each(|server| server.advance_and_settle(20 * 60));
    }
    let start = Instant::now();
    while !matches!(process.command(&["PTTL", &session]), Value::Number(left) if left > 100_000) {
        assert!(start.elapsed() < PATIENCE, "its life is not extended");
    }
    assert_eq!(who(&two, &cookie), 200, "it was not used here for 40 minutes");
}

#[test]
fn an_end_that_nobody_has_told_is_found() {
    if !is_installed() {
        return;
    }
    let (process, _keys, [one, two], key) = two_servers();
    let cookie = log_in(&one, &key);
    let mut socket = websocket(&two, &cookie);
    process.command(&["DEL", &keys_in_redis(&process, "overwire:session:*")[0]]);
    two.advance_and_settle(2); // then it is in use
    two.advance_and_settle(40);
    expect_session_over(&mut socket);
}

#[test]
fn while_redis_is_away_known_sessions_go_on_and_others_wait() {
    if !is_installed() {
        return;
    }
    let (process, keys, [one, _], key) = two_servers();
    let relay = Relay::to(process.port);
    let two = server(relay.url(), &keys);
    let (known, unknown, ended) = (log_in(&one, &key), log_in(&one, &key), log_in(&two, &key));
    let mut socket = websocket(&two, &known);
    relay.lead_to(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()); // it does not listen
    wait_until_away(&two);
    assert_eq!(who(&two, &known), 200);
    let mut waiting = two.connect();
    send(&mut waiting, "GET", "/api/session", &unknown, "");
    two.advance_and_settle(6);
    let answer = waiting.answer();
    assert_error(&answer, 503, "cannot be looked for at present");
    assert_eq!(answer.field("Retry-After"), Some("5"));
    let ticket = ask(&two, "POST", "/api/ticket", &known, r#"{"endpoint":"/api/ws"}"#);
    for answer in [log_in_with(&two, &key), log_out(&two, &ended), ticket] {
        assert_error(&answer, 503, "the other servers cannot be told");
        assert_eq!(answer.field("Set-Cookie"), None);
    }
    assert_eq!(log_out(&one, &known).status, 200);
    let mut waiting = two.connect();
    send(&mut waiting, "GET", "/api/session", &unknown, "");
    two.get("/health"); // it waits by then
    relay.lead_to(process.port);
    expect_session_over(&mut socket);
    assert_eq!(waiting.answer().status, 200, "Redis was back in time");
    wait_until_ready(&two);
    assert_eq!((who(&two, &ended), log_out(&two, &ended).status), (200, 200), "a log-out can be repeated");
    assert_eq!((who(&one, &ended), who(&two, &ended)), (401, 401));
}
