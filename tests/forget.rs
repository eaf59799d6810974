//! `POST /api/forget`: the server loses its state, as in a restart.

use crate::common::TestServer;
use serde_json::json;

#[test]
fn forgetting_needs_chaos() {
    let server = TestServer::start();
    let old = server.publish("general", "before");
    let answer = server.post("/api/forget", "");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json(), json!({ "type": "error", "error": "faults are off: start the server with --chaos" }));
    let answer = server.get("/api/messages");
    assert_eq!(answer.json()["last_message_id"], json!(old));
    assert_eq!(server.get("/api/stats").json()["chaos"], false);
}

#[test]
fn forgetting_drops_all_state_and_resets_held_connections() {
    let server = TestServer::with(|config| config.chaos = true);
    let old = server.publish("general", "before");
    let mailbox = server.post("/poll", "").json()["connection_id"].as_str().unwrap().to_owned();
    let (mut stream, mut socket) = (server.connect(), server.websocket("/api/ws"));
    let (mut poll, mut mailbox_poll) = (server.connect(), server.connect());
    let mut peer = server.websocket("/api/signal");
    peer.frame();
    stream.send_get("/api/stream?client_id=me").head();
    poll.send_get("/api/poll?client_id=me");
    mailbox_poll.send_post("/poll", &json!({ "connection_id": mailbox }).to_string());
    server.wait_for_open("long_poll", 2);
    assert_eq!(server.get("/api/stats").json()["chaos"], true);

    let answer = server.post("/api/forget", "");
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "forgotten" })));

    for client in [&mut stream, &mut socket, &mut poll, &mut mailbox_poll, &mut peer] {
        client.expect_end();
    }
    let stats = server.get("/api/stats").json();
    assert_eq!((&stats["rooms"], &stats["mailboxes"]["idle"]), (&json!([]), &json!(0)), "{stats}");
    assert_eq!((&stats["active_clients"], &stats["present"]), (&json!(0), &json!({})), "{stats}");
    for transport in ["long_poll", "stream", "websocket"] {
        assert_eq!(stats["transports"][transport]["open"], 0, "{stats}");
    }
    server.publish("general", "after");
    let answer = server.get(&format!("/api/messages?last_message_id={old}"));
    assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["after".to_owned()], &json!(false)));
    let gone = server.post("/poll", &json!({ "connection_id": mailbox }).to_string());
    assert_eq!(gone.status, 404);
    assert_eq!(server.websocket("/api/signal").frame().json()["peers"], json!([]));
}

#[test]
fn stats_report_the_tap_port() {
    let without = TestServer::start();
    assert_eq!(without.get("/api/stats").json()["tap_port"], json!(null));
    let with = TestServer::with(|config| config.tap_port = Some(8100));
    assert_eq!(with.get("/api/stats").json()["tap_port"], 8100);
}
