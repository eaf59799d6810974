//! What an operator sees: the connections one by one, and how one is ended.

use std::net::{Ipv4Addr, TcpStream};

use overwire::websocket::Opcode;
use serde_json::{Value, json};

use crate::common::{Answer, Client, TestServer};

/// The rows of `GET /api/connections` with this query.
fn rows(server: &TestServer, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/connections{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["connections"].as_array().unwrap().clone()
}

fn row_of(server: &TestServer, client: &Client, query: &str) -> Value {
    let rows = rows(server, query);
    let place = format!("{query} of {:?}", client.stream.local_addr());
    assert_eq!(rows.len(), 1, "{place}: {rows:?}");
    rows[0].clone()
}

fn delete(server: &TestServer, row: &Value) -> Answer {
    let id = row["id"].as_str().unwrap();
    let request = format!("DELETE /api/connections/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.connect().send(request).answer()
}

#[test]
fn each_transport_has_its_row() {
    let server = TestServer::start();
    server.publish("tea", "first");
    let mut socket = server.websocket("/api/ws?room=tea&client_id=a.me");
    socket.send_text(r#"{"sender":"me","text":"second"}"#).message();
    let mut events = server.connect();
    events.send_get("/api/events?room=coffee&client_id=b.me").head();
    let mut poll = server.connect();
    poll.send_get("/api/poll?room=tea&client_id=c.me");
    let mut mailbox = server.websocket("/ws");
    let id = mailbox.message().json()["connection_id"].as_str().unwrap().to_owned();
    mailbox.send_text(r#"{"message":"x"}"#);
    assert_eq!(mailbox.message().json()["message"], "x");
    let peer = server.websocket("/api/signal?room=juice");
    server.wait_for_open("long_poll", 1);

    let row = row_of(&server, &socket, "?room=tea&transport=websocket");
    let members = ["transport", "state", "room", "mailbox", "client_id", "identity", "client"];
    let found = |row: &Value| json!(members.map(|name| row[name].clone()));
    assert_eq!(found(&row), json!(["websocket", "websocket", "tea", null, "a.me", null, "127.0.0.1"]));
    assert_eq!(json!([row["messages_in"], row["messages_out"], row["waiting"]]), json!([1, 1, 0]));
    assert!(row["bytes_in"].as_u64() > Some(100) && row["bytes_out"].as_u64() > Some(200), "{row}");
    let row = row_of(&server, &events, "?room=coffee");
    assert_eq!(found(&row), json!(["sse", "streaming", "coffee", null, "b.me", null, "127.0.0.1"]));
    let row = row_of(&server, &poll, "?transport=long_poll");
    assert_eq!(found(&row), json!(["long_poll", "held", "tea", null, "c.me", null, "127.0.0.1"]));
    let row = row_of(&server, &peer, "?room=juice");
    assert_eq!((&row["transport"], &row["messages_out"]), (&json!("websocket"), &json!(1)));
    let of_mailbox = rows(&server, "").into_iter().find(|row| row["mailbox"].is_string()).unwrap();
    assert_eq!(of_mailbox["mailbox"], format!("{}…", &id[..8]), "its whole id is the right to read it");
    assert_eq!(json!([of_mailbox["messages_in"], of_mailbox["messages_out"]]), json!([1, 1]));
    assert_eq!(rows(&server, "?client=127.0.0.1").len(), rows(&server, "?client=::ffff:127.0.0.1").len());
    assert_eq!(rows(&server, "?client=192.0.2.1").len() + rows(&server, "?identity=alice").len(), 0);
}

#[test]
fn a_row_has_the_times_of_its_connection() {
    let server = TestServer::start();
    let mut socket = server.websocket("/api/ws?room=tea");
    server.advance_and_settle(10);
    // The answer to a Ping shows that it has arrived.
    socket.send_frame(Opcode::Ping, "x");
    assert_eq!(socket.message().opcode, Opcode::Pong);
    server.advance_and_settle(5);
    let now = server.get("/api/stats").json()["timestamp"].as_f64().unwrap();
    let row = row_of(&server, &socket, "?room=tea");
    let ago = |member: &str| now - row[member].as_f64().unwrap();
    assert!((14.0..17.0).contains(&ago("opened")) && (4.0..7.0).contains(&ago("last_seen")), "{now} {row}");
}

#[test]
fn rows_come_in_pages() {
    let server = TestServer::start();
    let sockets: Vec<_> = (0..7).map(|_| server.websocket("/api/ws?room=tea")).collect();
    let (mut after, mut seen, mut pages) = (json!(""), Vec::new(), 0);
    while let Some(cursor) = after.as_str() {
        let answer = server.get(&format!("/api/connections?room=tea&limit=3&after={cursor}")).json();
        seen.extend(answer["connections"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        (after, pages) = (answer["after"].clone(), pages + 1);
    }
    assert_eq!((seen.len(), pages), (7, 3));
    seen.dedup();
    assert_eq!(seen.len(), sockets.len(), "each row comes once");
    for query in ["limit=0", "limit=1001", "after=x", "transport=smoke", "client=localhost"] {
        let answer = server.get(&format!("/api/connections?{query}"));
        let name = query.split('=').next().unwrap();
        assert!(answer.status == 400 && answer.text().contains(&format!("{name}: expected")), "{answer:?}");
    }
}

#[test]
fn an_ended_connection_gets_the_reason() {
    let server = TestServer::start();
    let mut socket = server.websocket("/api/ws?room=tea");
    assert_eq!(delete(&server, &row_of(&server, &socket, "?room=tea")).json()["status"], "ended");
    assert_eq!(socket.message().close(), (1008, "ended by an operator".into()));
    let mut events = server.connect();
    events.send_get("/api/events?room=tea").head();
    delete(&server, &row_of(&server, &events, "?room=tea"));
    let event = events.event();
    assert_eq!((event.name.as_str(), event.data.contains("ended by an operator")), ("ended", true), "{event:?}");
    assert_eq!(events.chunk(), None);
    let mut lines = server.connect();
    lines.send_get("/api/stream?room=tea").head();
    delete(&server, &row_of(&server, &lines, "?room=tea"));
    assert_eq!(serde_json::from_str::<Value>(&lines.line()).unwrap()["type"], "ended");
    let mut poll = server.connect();
    poll.send_get("/api/poll?room=tea&client_id=tab");
    server.wait_for_open("long_poll", 1);
    let row = row_of(&server, &poll, "?room=tea");
    delete(&server, &row);
    assert_eq!(poll.answer().json()["status"], "disconnected");
    let mut mailbox = server.websocket("/ws");
    mailbox.message();
    let rows = rows(&server, "?transport=websocket");
    delete(&server, rows.iter().find(|row| row["mailbox"].is_string()).unwrap());
    assert_eq!(mailbox.message().close().0, 1008);
}

#[test]
fn an_idle_connection_is_reset_and_its_id_is_never_that_of_another() {
    let server = TestServer::start();
    let mut idle = server.connect();
    assert_eq!(idle.get("/health").status, 200);
    let mut operator = server.connect();
    let list = operator.get("/api/connections").json();
    let row = list["connections"].as_array().unwrap().iter().find(|row| row["state"] == "idle").unwrap().clone();
    let own = list["connections"].as_array().unwrap().iter().find(|row| row["state"] == "held").unwrap();
    let mut end = |row: &Value| {
        let id = row["id"].as_str().unwrap();
        operator.send(format!("DELETE /api/connections/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")).answer().status
    };
    assert_eq!(end(own), 409, "the answer to this request would be lost");
    assert_eq!(end(&row), 200);
    idle.expect_end();
    let _next = server.websocket("/api/ws"); // in the same slot
    assert_eq!(end(&row), 404);
    assert_eq!(end(&json!({ "id": "nonsense" })), 404);
}

#[test]
fn without_keys_only_a_local_client_is_an_operator() {
    let server = TestServer::with(|config| {
        config.host = "0.0.0.0".into();
        config.trust_proxies = vec!["127.0.0.2".into()];
    });
    let ask = |client: &mut Client, fields: &str| {
        client.send(format!("GET /api/connections HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).answer().status
    };
    let mut local = Client::connect((Ipv4Addr::LOCALHOST, server.address.port()).into());
    assert_eq!(ask(&mut local, ""), 200);
    for field in [
        "Forwarded: for=127.0.0.1",
        "X-Forwarded-For: 127.0.0.1",
        "x-forwarded-proto: https",
        "X-Forwarded-Anything: else",
        "X-Real-IP: 127.0.0.1",
        "X-Client-IP: 127.0.0.1",
        "X-Cluster-Client-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "CF-Connecting-IP: 127.0.0.1",
        "CDN-Loop: a",
        "Via: 1.1 a",
    ] {
        assert_eq!(ask(&mut local, &format!("{field}\r\n")), 403, "{field}");
        // HEAD has the status of GET (RFC 9110, section 9.3.2).
        for target in ["/api/connections", "/metrics"] {
            let request = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n");
            assert!(local.send(request).head_alone().starts_with("HTTP/1.1 403 "), "{target}: {field}");
        }
    }
    for target in ["/api/connections", "/metrics"] {
        let request = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(local.send(request).head_alone().starts_with("HTTP/1.1 200 "), "{target}");
    }
    assert_eq!(ask(&mut local, "X-Forward: a\r\nX-Requested-With: b\r\n"), 200);
    let Some(address) = other_address() else { return eprintln!("left out: there is no network beside loopback") };
    let mut remote = Client::of(TcpStream::connect((address, server.address.port())).unwrap());
    let request = format!("GET /api/connections HTTP/1.1\r\nHost: {address}:{}\r\n\r\n", server.address.port());
    let answer = remote.send(request).answer();
    assert!(answer.status == 403 && answer.text().contains("--keys"), "{answer:?}");
}

#[test]
fn without_keys_an_operator_asks_for_the_loopback_address() {
    let server = TestServer::with(|config| config.allow_hosts = vec!["chat.example".into()]);
    let status = |head: &str| server.connect().send(format!("{head}\r\n\r\n")).answer().status;
    for (host, expected) in
        [("127.0.0.1:8000", 200), ("[::1]", 200), ("LocalHost:1", 200), ("127.9.9.9", 200), ("chat.example", 403)]
    {
        for target in ["/api/connections", "/metrics"] {
            assert_eq!(status(&format!("GET {target} HTTP/1.1\r\nHost: {host}")), expected, "{target} of {host}");
        }
        assert_eq!(status(&format!("GET /health HTTP/1.1\r\nHost: {host}")), 200, "{host}");
    }
    assert_eq!(status("GET /metrics HTTP/1.0"), 403, "nothing says that it is for the loopback address");
}

/// An address of this machine that is not of the loopback interface.
fn other_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn the_owner_of_a_mailbox_sees_its_state() {
    let server = TestServer::start();
    let mut socket = server.websocket("/ws");
    let id = socket.message().json()["connection_id"].as_str().unwrap().to_owned();
    let state = || {
        let state = server.get(&format!("/poll/{id}")).json();
        let now = server.get("/api/stats").json()["timestamp"].as_f64().unwrap();
        let ago = now - state["last_seen"].as_f64().unwrap();
        let counts = json!([state["status"], state["transport"], state["message_count"], state["queued"]]);
        (counts, ago.round())
    };
    socket.send_text(r#"{"message":"x"}"#).message();
    assert_eq!(state().0, json!(["connected", "websocket", 1, 0]));
    drop(socket);
    server.wait_for_open("websocket", 0);
    server.post("/sse/message", &json!({ "connection_id": id, "text": "y" }).to_string());
    server.advance_and_settle(40);
    assert_eq!(state(), (json!(["idle", null, 2, 1]), 40.0));
    server.advance_and_settle(25);
    assert_eq!(server.get(&format!("/poll/{id}")).status, 404, "to ask is not a sign of life");
    assert_eq!(server.get(&format!("/poll/{}", "x".repeat(200))).status, 404);
}
