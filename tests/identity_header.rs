//! Users whom a proxy has logged in, and names in a field of each request. The client of the test is the proxy.

use std::fs;

use overwire::server::Config;
use serde_json::json;

use crate::common::{Answer, TestServer};
use crate::identity::{HANDSHAKE, KeysFile, assert_error, bearer, send};

const ALICE: &str = "Remote-User: alice\r\n";

fn behind(proxy: &str) -> impl FnOnce(&mut Config) + Send + 'static {
    let proxies = vec![proxy.to_owned()];
    |config| (config.trust_proxies, config.identity_header) = (proxies, Some("Remote-User".to_owned()))
}

fn ask(server: &TestServer, method: &str, target: &str, fields: &str, content: &str) -> Answer {
    send(&mut server.connect(), method, target, fields, content).answer()
}

fn who(server: &TestServer, fields: &str) -> Answer {
    ask(server, "GET", "/api/session", fields, "")
}

#[test]
fn a_trusted_proxy_names_the_user() {
    let server = TestServer::with(behind("127.0.0.1"));
    let rights = ["read", "send"];
    let user = json!({ "name": "alice", "via": "proxy", "rights": rights, "rooms": ["*"], "expires": null,
        "tap_port": null });
    for fields in [ALICE, "rEMOTE-uSER:alice\t\r\n", "Authorization: Bearer of-the-proxy\r\nRemote-User: alice\r\n"] {
        assert_eq!(who(&server, fields).json(), user, "{fields:?}");
    }
    assert_eq!(ask(&server, "POST", "/api/send", ALICE, r#"{"text":"hello"}"#).status, 200);
    assert_error(&ask(&server, "POST", "/api/send", ALICE, r#"{"text":"x","sender":"bob"}"#), 403, "sender: expected");
    let mut socket = server.connect();
    send(&mut socket, "GET", "/api/ws", &format!("{ALICE}{HANDSHAKE}"), "").head();
    socket.send_text(r#"{"text":"again"}"#);
    assert_eq!(socket.message().json()["sender"], "alice");
    let history = ask(&server, "GET", "/api/history", "Remote-User: Zoë\r\n", "").json();
    assert_eq!(
        (&history["messages"][0]["sender"], &history["messages"][1]["sender"]),
        (&json!("alice"), &json!("alice"))
    );
    assert_error(&ask(&server, "GET", "/api/stats", ALICE, ""), 403, "rights: expected admin");
    assert_error(&ask(&server, "DELETE", "/api/session", ALICE, ""), 400, "a proxy logs out its users");
    let ticket = ask(&server, "POST", "/api/ticket", ALICE, r#"{"endpoint":"/api/ws"}"#);
    assert_error(&ticket, 400, "the proxy names the user of each request");
    assert_error(&who(&server, ""), 401, "an identity is missing");
    assert_eq!((server.get("/").status, server.get("/health").status), (200, 200));
}

#[test]
fn a_connection_of_a_named_user_lives_as_long_as_it_is_open() {
    let server = TestServer::with(behind("127.0.0.1"));
    let mut stream = server.connect();
    send(&mut stream, "GET", "/api/events", ALICE, "").head();
    for _ in 0..3 {
        server.advance_and_settle(12 * 60 * 60); // there is no session that could end
    }
    ask(&server, "POST", "/api/send", ALICE, r#"{"text":"still here"}"#);
    while !stream.any_event().data.contains("still here") {}
}

#[test]
fn the_name_that_others_send_is_a_lie() {
    let elsewhere = TestServer::with(behind("192.0.2.1"));
    assert_error(&who(&elsewhere, ALICE), 401, "Remote-User counts only if a proxy sends it that --trust-proxy names");
    let twice = format!("{ALICE}{ALICE}");
    assert_eq!(who(&elsewhere, &twice).status, 401);
    // A proxy that announces a connection passes on what its client says.
    let announced = |trusted: &'static [&'static str]| {
        TestServer::with(move |config| {
            behind("127.0.0.1")(config);
            config.trust_proxies.extend(trusted.iter().map(|proxy| (*proxy).to_owned()));
            config.proxy_protocol = true;
        })
    };
    let line = "PROXY TCP4 203.0.113.1 198.51.100.2 4711 443\r\n";
    for (trusted, status) in [(&[][..], 401), (&["203.0.113.0/24"], 200)] {
        let mut client = announced(trusted).connect();
        client.send(line);
        assert_eq!(send(&mut client, "GET", "/api/session", ALICE, "").answer().status, status, "{trusted:?}");
    }
}

#[test]
fn a_key_of_one_who_lies_still_counts() {
    let keys = KeysFile::create();
    let key = keys.create_key("bob", "read", "*", None);
    let path = keys.0.clone();
    let server = TestServer::with(|config| {
        behind("192.0.2.1")(config);
        config.keys = Some(path);
    });
    assert_eq!(who(&server, &format!("{ALICE}{}", bearer(&key))).json()["name"], "bob");
}

#[test]
fn what_only_looks_like_the_field_is_not_the_field() {
    let server = TestServer::with(behind("127.0.0.1"));
    for fields in [
        "Remote_User: alice\r\n",
        "RemoteUser: alice\r\n",
        "X-Remote-User: alice\r\n",
        "Remote-User-Name: alice\r\n",
        "Remote-User:\r\n",
        "Remote-User:  \r\n",
        "Cookie: Remote-User=alice\r\n",
    ] {
        assert_eq!(who(&server, fields).status, 401, "{fields:?}");
    }
    let chunked = "POST /api/send HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Remote-User\r\n\r\n\
                   c\r\n{\"text\":\"x\"}\r\n0\r\nRemote-User: alice\r\n\r\n";
    assert_eq!(server.connect().send(chunked).answer().status, 401, "a trailer is not a field of the head");
}

#[test]
fn a_field_that_names_no_one_user_is_refused() {
    let server = TestServer::with(behind("127.0.0.1"));
    let long = format!("Remote-User: {}\r\n", "x".repeat(65));
    for (fields, sentence) in [
        ("Remote-User: mallory\r\nRemote-User: alice\r\n", "Remote-User: expected it once"),
        ("Remote-User: alice\r\nremote-user: alice\r\n", "Remote-User: expected it once"),
        ("Remote-User: alice\r\nRemote-User:\r\n", "Remote-User: expected it once"),
        ("Remote-User:\r\nRemote-User: alice\r\n", "Remote-User: expected it once"),
        ("Remote-User: mallory, alice\r\n", "Remote-User: expected it once, without a comma"),
        ("Remote-User: alice,\r\n", "Remote-User: expected it once"),
        ("Remote-User: a/b\r\n", "Remote-User: expected 1 to 64 characters"),
        (&long, "Remote-User: expected 1 to 64 characters"),
    ] {
        assert_error(&who(&server, fields), 400, sentence);
    }
    let latin = b"GET /api/session HTTP/1.1\r\nHost: localhost\r\nRemote-User: Zo\xeb\r\n\r\n";
    assert_error(&server.connect().send(latin).answer(), 400, "Remote-User: expected 1 to 64 characters");
}

#[test]
fn the_newest_key_of_the_name_says_what_a_user_may_do() {
    let keys = KeysFile::create();
    keys.create_key("alice", "read", "*", None);
    keys.create_key("alice", "read,send,admin", "general,team-*", None);
    let path = keys.0.clone();
    let server = TestServer::with(|config| {
        behind("127.0.0.1")(config);
        config.keys = Some(path);
    });
    let bob = "Remote-User: bob\r\n";
    let status = |fields: &str, target: &str| ask(&server, "GET", target, fields, "").status;
    assert_eq!((status(ALICE, "/api/stats"), status(ALICE, "/api/history?room=tea")), (200, 403));
    assert_eq!((status(bob, "/api/stats"), status(bob, "/api/history?room=tea")), (403, 200));
    assert_eq!(status("Remote-User: Alice\r\n", "/api/stats"), 403, "a name has its letters");
    let mut socket = server.connect();
    send(&mut socket, "GET", "/api/ws?room=team-red", &format!("{ALICE}{HANDSHAKE}"), "").head();
    keys.edit("team-*", "team-blue");
    assert_eq!(socket.message().close(), (4403, "the key does not permit this any more".to_owned()));
    fs::write(&keys.0, "").unwrap();
    while status(ALICE, "/api/stats") != 403 {}
    assert_eq!(status(ALICE, "/api/history?room=tea"), 200);
}

#[test]
fn foreign_pages_cannot_use_the_name() {
    let server = TestServer::with(behind("127.0.0.1"));
    let foreign = format!("{ALICE}Origin: https://evil.example\r\n");
    assert_error(&ask(&server, "POST", "/api/send", &foreign, r#"{"text":"x"}"#), 403, "Origin");
    assert_error(&ask(&server, "GET", "/api/ws", &format!("{foreign}{HANDSHAKE}"), ""), 403, "Origin");
    let loaded = format!("{ALICE}Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n");
    assert_error(&ask(&server, "GET", "/api/poll?client_id=a", &loaded, ""), 403, "Sec-Fetch-Site");
    let read = ask(&server, "GET", "/api/history", &foreign, "");
    assert_eq!(read.field("Access-Control-Allow-Origin"), None, "a browser does not show it to the page");
}
