//! What servers tell each other: who is present, whom to end, who reads a mailbox. And what a server forgets.

use std::thread;
use std::time::Instant;

use overwire::resp::Value as Reply;
use serde_json::{Value, json};

use super::process::{Process, is_installed};
use super::relay::Relay;
use super::servers::{events, server, server_of, servers, text, wait_until_away, wait_until_ready};
use crate::common::{Answer, Client, PATIENCE, TestServer};

pub fn delete(server: &TestServer, client: &str) -> Answer {
    send_delete(server, client).answer()
}

fn send_delete(server: &TestServer, client: &str) -> Client {
    let mut connection = server.connect();
    connection.send(format!("DELETE /api/client/{client} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    connection
}

/// Reads a stream to its end.
fn expect_end(stream: &mut Client) {
    while stream.chunk().is_some() {}
}

/// Says something on the channel of all servers, as another server does.
fn say(process: &Process, notice: &str) {
    process.command(&["PUBLISH", "overwire:0:nodes", notice]);
}

/// Waits until this number of servers follow a log.
fn wait_for_followers(process: &Process, log: &str, count: i64) {
    let followers = || match process.command(&["PUBSUB", "NUMSUB", &format!("overwire:0:{log}")]) {
        Reply::Array(counts) => counts[1].clone(),
        other => panic!("{other:?}"),
    };
    let start = Instant::now();
    while followers() != Reply::Number(count) {
        assert!(start.elapsed() < PATIENCE, "{log} is followed by {:?}, not by {count}", followers());
        thread::yield_now();
    }
}

fn wait_for_nodes(server: &TestServer, count: usize) {
    server.wait_for(&format!("{count} servers"), |stats| stats["nodes"].as_array().unwrap().len() == count);
}

#[test]
fn a_client_is_ended_on_all_servers() {
    if !is_installed() {
        return;
    }
    let (process, [one, two, three]) = servers(&[]);
    one.publish("tea", "before");
    let mut stream = events(&one, "/api/events?room=tea&client_id=bob", "");
    let mut websocket = two.websocket("/api/ws?room=tea&client_id=bob");
    let mut poll = two.connect();
    poll.send_get("/api/poll?room=tea&client_id=bob&timeout=20");
    two.wait_for_open("long_poll", 1);
    one.wait_for_open("sse", 1);
    assert_eq!(delete(&three, "bob").status, 200);
    expect_end(&mut stream);
    assert_eq!(websocket.message().close(), (1000, "disconnected".into()));
    assert_eq!(poll.answer().json()["status"], "disconnected");
    for server in [&one, &two, &three] {
        assert_eq!(delete(server, "bob").status, 404);
    }
    let late = server(&process);
    let again = late.get("/api/poll?room=tea&client_id=bob&timeout=5");
    assert_eq!((again.texts(), &again.json()["recovered"]), (vec!["before".into()], &json!(false)));
}

#[test]
fn a_server_that_does_not_answer_may_have_the_client() {
    if !is_installed() {
        return;
    }
    let (process, [one]) = servers(&[]);
    say(&process, "numbers ghost 15000 {}");
    wait_for_nodes(&one, 2);
    let mut stream = events(&one, "/api/events?room=tea&client_id=bob", "");
    let mut asked = send_delete(&one, "bob");
    expect_end(&mut stream); // it is ended here at once
    one.advance_and_settle(3);
    let answer = asked.answer();
    assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("5")));
    assert!(answer.text().contains("1 of the other servers did not answer"), "{}", answer.text());
    let asked = send_delete(&one, "bob");
    say(&process, "bye ghost");
    assert_eq!({ asked }.answer().status, 404, "a server that has ended is not awaited");
}

#[test]
fn without_redis_a_client_is_ended_here_and_the_answer_says_so() {
    if !is_installed() {
        return;
    }
    let (mut process, [one, _two]) = servers(&[]);
    let mut stream = events(&one, "/api/events?room=tea&client_id=bob", "");
    process.kill();
    while one.get("/health/ready").status == 200 {
        thread::yield_now();
    }
    let answer = delete(&one, "bob");
    assert_eq!(answer.status, 503);
    expect_end(&mut stream);
    assert!(answer.text().contains("Redis") && answer.text().contains("may have the client"), "{}", answer.text());
}

#[test]
fn the_statistics_are_sums_over_all_servers() {
    if !is_installed() {
        return;
    }
    let (_process, [one, two]) = servers(&[]);
    one.publish("tea", "hello");
    two.publish("coffee", "hello");
    two.publish("coffee", "again");
    let _readers = [
        events(&one, "/api/events?room=tea&client_id=a.me", ""),
        events(&two, "/api/events?room=tea&client_id=b.me", ""),
        events(&two, "/api/events?room=tea&client_id=you", ""),
        events(&one, "/api/events?room=tea", ""),
        events(&two, "/api/events?room=tea", ""),
    ];
    for server in [&one, &two] {
        server.wait_for("all readers", |stats| stats["transports"]["sse"]["open"] == 5);
        let stats = server.get("/api/stats").json();
        assert_eq!(stats["present"], json!({ "tea": 4 }), "connections of one page are one client");
        assert_eq!((&stats["rooms"], &stats["active_clients"]), (&json!(["coffee", "tea"]), &json!(3)));
        assert_eq!(stats["total_messages"], 3);
        let nodes = stats["nodes"].as_array().unwrap();
        let open: Vec<_> = nodes.iter().map(|node| node["open"].as_u64().unwrap()).collect();
        assert_eq!(open, if server.address == one.address { [2, 3] } else { [3, 2] }, "it is the first itself");
        assert!(nodes.iter().all(|node| node["uptime"].as_f64().unwrap() > 0.0 && node["id"].is_string()), "{stats}");
    }
    let numbers = |stats: &Value| (stats["present"].clone(), stats["transports"]["sse"]["open"].clone());
    two.stop();
    one.wait_for("the end of the other server", |stats| numbers(stats) == (json!({ "tea": 2 }), json!(2)));
}

#[test]
fn a_server_that_has_died_leaves_the_list() {
    if !is_installed() {
        return;
    }
    let (process, [one]) = servers(&[]);
    one.remote().stop_clock();
    let numbers = json!({ "present": { "tea": 2 }, "connections": 7, "uptime": 3, "who": { "tea": [1, 2] } });
    say(&process, &format!("numbers ghost 15000 {numbers}"));
    wait_for_nodes(&one, 2);
    let stats = one.get("/api/stats").json();
    assert_eq!((&stats["present"]["tea"], &stats["nodes"][1]["connections"]), (&json!(2), &json!(7)));
    one.advance_and_settle(14);
    assert_eq!(one.get("/api/stats").json()["nodes"].as_array().unwrap().len(), 2);
    one.advance_and_settle(1);
    let stats = one.get("/api/stats").json();
    assert_eq!((&stats["present"], stats["nodes"].as_array().unwrap().len()), (&json!({}), 1));
}

#[test]
fn notices_that_are_not_understood_are_ignored() {
    if !is_installed() {
        return;
    }
    let (process, [one]) = servers(&[]);
    for notice in
        ["", "x", "numbers", "numbers a", "numbers a x {}", "end a x []", "end a 1 x", "ended a", "later a b c"]
    {
        say(&process, notice);
    }
    say(&process, "numbers ghost 15000 [nonsense");
    wait_for_nodes(&one, 2);
    assert_eq!(
        one.get("/api/stats").json()["nodes"][1],
        json!({
            "id": "ghost", "uptime": null, "active_clients": null, "connections": null, "open": 0, "memory": 0,
        })
    );
}

#[test]
fn an_idle_server_announces_itself_every_five_seconds() {
    if !is_installed() {
        return;
    }
    let (process, [one]) = servers(&[]);
    let announced = || {
        one.get("/api/history?room=none"); // Redis answers that after what was sent before
        let Reply::Blob(stats) = process.command(&["INFO", "commandstats"]) else { panic!("a text") };
        let stats = String::from_utf8(stats).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls=")).unwrap();
        line.split(',').next().unwrap().parse::<u32>().unwrap()
    };
    let (before, start) = (announced(), Instant::now());
    (0..30).for_each(|_| one.advance_and_settle(1));
    let count = announced() - before;
    // Its clock has gone on by the time of this test too.
    let most = (30 + start.elapsed().as_secs()) as u32 / 5 + 1;
    assert!((5..=most).contains(&count), "{count}, and at most {most}");
}

#[test]
fn a_room_is_followed_until_a_minute_after_its_last_use() {
    if !is_installed() {
        return;
    }
    let (process, [one]) = servers(&[]);
    let is_followed = |count| wait_for_followers(&process, "room:tea", count);
    let id = one.publish("tea", "first");
    let reader = events(&one, "/api/events?room=tea", "");
    one.advance_and_settle(200);
    is_followed(1); // it has a reader
    assert_eq!(one.get("/api/stats").json()["rooms"], json!(["tea"]));
    drop(reader);
    one.wait_for_open("sse", 0);
    one.advance_and_settle(50);
    is_followed(1);
    one.advance_and_settle(21);
    is_followed(0);
    assert_eq!(one.get("/api/stats").json()["rooms"], json!([]));
    assert_eq!(one.get("/api/history?room=tea").texts(), ["first"], "it is loaded again");
    is_followed(1);
    one.advance_and_settle(71);
    is_followed(0);
    one.publish("tea", "second");
    assert_eq!(one.get(&format!("/api/messages?room=tea&last_message_id={id}")).texts(), ["second"]);
    assert_eq!(one.get("/api/stats").json()["total_messages"], 2, "a room that is loaded again counts once");
}

#[test]
fn the_newest_reader_of_a_mailbox_wins_on_whichever_server() {
    if !is_installed() {
        return;
    }
    let (process, [one, two]) = servers(&[]);
    let id = one.post("/poll", "{}").json()["connection_id"].as_str().unwrap().to_owned();
    let content = json!({ "connection_id": id }).to_string();
    let waiting = |server: &TestServer, count: u64| {
        server.wait_for("a held poll", |stats| stats["transports"]["long_poll"]["open"] == count);
    };
    let mut before = one.connect();
    before.send_post("/poll", &content);
    waiting(&one, 1);
    wait_for_followers(&process, &format!("mailbox:{id}"), 1);
    (0..2).for_each(|_| drop(one.publish("tea", "x"))); // the server knows that it follows the mailbox, and has said so
    for number in 0..6 {
        let mut next = [&two, &one, &one][number % 3].connect();
        next.send_post("/poll", &content);
        let ended = json!({ "type": "timeout", "connection_id": id, "superseded": true });
        assert_eq!(before.answer().json(), ended, "round {number}");
        [&one, &two].iter().for_each(|server| drop(server.publish("tea", "x"))); // the others have been told by now
        before = next;
    }
    let put = json!({ "connection_id": id, "text": "hello" }).to_string();
    assert_eq!(two.post("/sse/message", &put).status, 202);
    let taken = before.answer().json();
    assert_eq!(taken["message"], "hello");
    let mut stream = events(&two, "/sse", taken["id"].as_str().unwrap());
    assert_eq!(text(&stream.event(), "connection_id"), id);
    two.publish("tea", "x");
    let mut poll = one.connect();
    poll.send_post("/poll", &content);
    assert_eq!(stream.chunk(), None, "the stream on the other server ends");
    assert_eq!(two.post("/sse/message", &put).status, 202);
    assert_eq!(poll.answer().json()["message"], "hello");
}

/// A server behind a relay, one that is not, and the id of a mailbox that the first has created.
fn a_mailbox_behind_a_relay() -> (Process, Relay, [TestServer; 2], String) {
    let process = Process::started(&[]);
    let relay = Relay::to(process.port);
    let servers = [server_of(relay.url()), server(&process)];
    servers.iter().for_each(wait_until_ready);
    let id = servers[0].post("/poll", "{}").json()["connection_id"].as_str().unwrap().to_owned();
    wait_for_followers(&process, &format!("mailbox:{id}"), 1);
    (process, relay, servers, id)
}

fn poll(server: &TestServer, id: &str) -> Client {
    let mut poll = server.connect();
    poll.send_post("/poll", &json!({ "connection_id": id }).to_string());
    wait_for_status(server, id, "connected");
    poll
}

/// Waits until a mailbox has a reader on this server, or has none.
fn wait_for_status(server: &TestServer, id: &str, status: &str) {
    let start = Instant::now();
    loop {
        let answer = server.get(&format!("/poll/{id}"));
        if answer.json()["status"] == status {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not {status}: {answer:?}");
        thread::yield_now();
    }
}

fn put(server: &TestServer, id: &str) {
    let text = json!({ "connection_id": id, "text": "hello" }).to_string();
    assert_eq!(server.post("/sse/message", &text).status, 202);
}

#[test]
fn a_server_that_was_away_ends_the_reader_that_another_server_has_superseded() {
    if !is_installed() {
        return;
    }
    let (process, relay, [one, two], id) = a_mailbox_behind_a_relay();
    let mut before = poll(&one, &id);
    (0..2).for_each(|_| drop(one.publish("tea", "x"))); // its claim has come back
    relay.lead_to(Process::new(&[]).port);
    wait_until_away(&one);
    let mut next = poll(&two, &id);
    put(&two, &id);
    assert_eq!(next.answer().json()["message"], "hello");
    relay.lead_to(process.port);
    let ended = json!({ "type": "timeout", "connection_id": id, "superseded": true });
    assert_eq!(before.answer().json(), ended, "the text comes once");
}

#[test]
fn a_server_that_was_away_keeps_its_reader_and_does_not_speak_for_one_that_has_left() {
    if !is_installed() {
        return;
    }
    let (process, relay, [one, two], id) = a_mailbox_behind_a_relay();
    let come_back = || {
        relay.lead_to(process.port);
        wait_until_ready(&one);
        wait_for_followers(&process, "room:tea", 2);
        [&one, &two].iter().for_each(|server| drop(server.publish("tea", "x")));
        [&one, &two].iter().for_each(|server| drop(server.publish("tea", "x"))); // all that one has to say is said
    };
    [&one, &two].iter().for_each(|server| drop(server.publish("tea", "x")));
    let mut stays = poll(&one, &id);
    one.publish("tea", "x");
    relay.lead_to(Process::new(&[]).port);
    wait_until_away(&one);
    come_back();
    put(&two, &id);
    assert_eq!(stays.answer().json()["message"], "hello");
    one.publish("tea", "x"); // after this, Redis has the position of the reader too
    (0..2).for_each(|_| drop(two.publish("tea", "x"))); // and this server
    relay.lead_to(Process::new(&[]).port);
    wait_until_away(&one);
    drop(poll(&one, &id));
    wait_for_status(&one, &id, "idle");
    let mut live = poll(&two, &id);
    (0..2).for_each(|_| drop(two.publish("tea", "x"))); // its claim has come back
    come_back();
    put(&two, &id);
    assert_eq!(live.answer().json()["message"], "hello");
}

#[test]
fn a_server_that_was_away_knows_what_the_reader_has_had_elsewhere() {
    if !is_installed() {
        return;
    }
    let (process, relay, [one, two], id) = a_mailbox_behind_a_relay();
    relay.lead_to(Process::new(&[]).port);
    wait_until_away(&one);
    put(&two, &id);
    let content = json!({ "connection_id": id }).to_string();
    assert_eq!(two.post("/poll", &content).json()["message"], "hello");
    two.publish("tea", "x"); // after this, Redis has the position of the reader too
    relay.lead_to(process.port);
    wait_until_ready(&one);
    wait_for_followers(&process, &format!("mailbox:{id}"), 2);
    (0..2).for_each(|_| drop(one.publish("tea", "x"))); // what was asked before is answered
    let next = json!({ "connection_id": id, "text": "next" }).to_string();
    assert_eq!(one.post("/sse/message", &next).status, 202);
    assert_eq!(one.post("/poll", &content).json()["message"], "next");
}

#[test]
fn of_two_readers_that_come_together_one_stays() {
    if !is_installed() {
        return;
    }
    let (_process, [one, two]) = servers(&[]);
    for _ in 0..20 {
        let id = one.post("/poll", "{}").json()["connection_id"].as_str().unwrap().to_owned();
        let content = json!({ "connection_id": id }).to_string();
        two.post("/sse/message", &json!({ "connection_id": id, "text": "known" }).to_string());
        let known = one.post("/poll", &content).json();
        assert_eq!(known["message"], "known");
        let content = json!({ "connection_id": id, "last_message_id": known["id"] }).to_string();
        let mut readers = [&one, &two].map(|server| {
            let mut client = server.connect();
            client.send_post("/poll", &content);
            client
        });
        one.post("/sse/message", &json!({ "connection_id": id, "text": "hello" }).to_string());
        let answers = readers.each_mut().map(|reader| reader.answer().json());
        let superseded = answers.iter().filter(|answer| answer["superseded"] == true).count();
        let got = answers.iter().filter(|answer| answer["message"] == "hello").count();
        assert!(superseded <= 1 && superseded + got == 2, "{answers:?}");
    }
}
