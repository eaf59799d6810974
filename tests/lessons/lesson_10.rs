//! Lesson 10, many servers: nodes that share a log, readers that change the node, and the losses of the broken twin.
//! Needs `redis-server`.

#[allow(dead_code)]
#[path = "../../lessons/10-many-servers/main.rs"]
mod main;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use overwire::feed::Cursor;
use serde_json::{Value, json};

use crate::common::{Client, PATIENCE, Running, TestServer};
use crate::lesson::{
    FOREIGN, add, cursor_of, expect_content_errors, expect_error, expect_not_allowed, expect_page, program,
};
use crate::process::{Process, is_installed};

fn node(redis: &Process) -> TestServer {
    let port = redis.port;
    TestServer::of_loop(Default::default(), move |server| {
        let node = main::Node::open(&server, port)?;
        main::serve(server, node)
    })
}

fn run(name: &str, redis: &Process) -> Running {
    let mut command = Command::new(program(name));
    Running::start(command.args(["--port", "0", "--redis", &redis.port.to_string()]).stderr(Stdio::null()))
}

fn get(running: &Running, target: &str) -> Value {
    Client::connect(running.address).get(target).json()
}

fn send(address: SocketAddr, text: &str) -> Value {
    let answer = Client::connect(address).post("/add-message", &json!({ "message": text }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Adds messages in a thread: `count` of them, named after `sender`.
fn sender(address: SocketAddr, sender: usize, count: usize) -> JoinHandle<()> {
    thread::spawn(move || (0..count).for_each(|number| _ = send(address, &format!("{sender} {number}"))))
}

/// All messages of a node with their ids, as soon as it has this one.
fn all(node: &TestServer, last: &str) -> Value {
    let start = Instant::now();
    loop {
        let answer = node.get("/messages").json();
        if answer["last_message_id"] == last {
            return answer["messages"].clone();
        }
        assert!(start.elapsed() < PATIENCE, "{answer}");
        thread::yield_now();
    }
}

/// The answer to a poll that is behind.
fn after(node: &TestServer, cursor: &str) -> (Vec<String>, bool) {
    let answer = node.get(&format!("/messages?timeout=60&last_message_id={cursor}"));
    (answer.texts(), answer.json()["recovered"].as_bool().unwrap())
}

#[test]
fn messages_of_all_nodes_have_one_order_and_the_same_ids() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let nodes = [node(&redis), node(&redis)];
    let senders: Vec<_> = (0..8).map(|number| sender(nodes[number % 2].address, number, 10)).collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let last = add(&nodes[1], "last");
    let [one, two] = nodes.each_ref().map(|node| all(node, &last));
    assert_eq!((one.as_array().unwrap().len(), &one), (81, &two));
    nodes.into_iter().for_each(TestServer::stop);
}

#[test]
fn a_message_to_one_node_answers_the_polls_of_another() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let (one, two) = (node(&redis), node(&redis));
    let mut polls = [one.connect(), two.connect()];
    polls.iter_mut().for_each(|poll| _ = poll.send_get("/messages?timeout=60"));
    [&one, &two].iter().for_each(|node| assert_eq!(node.get("/nothing").status, 404));
    let id = add(&two, "hello");
    for (poll, node) in polls.iter_mut().zip([&one, &two]) {
        let answer = poll.answer();
        assert_eq!((answer.texts(), cursor_of(&answer)), (vec!["hello".into()], id.clone()));
        assert_eq!(answer.json()["node"], node.address.to_string());
    }
}

#[test]
fn a_cursor_of_one_node_is_good_on_every_other() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let (one, two) = (node(&redis).in_real_time(), node(&redis));
    let mut poll = one.connect();
    poll.send_get("/messages?timeout=1");
    let start = cursor_of(&poll.answer());
    let first = add(&one, "first");
    let second = add(&two, "second");
    all(&one, &second);
    all(&two, &second);
    for node in [&one, &two, &node(&redis)] {
        all(node, &second);
        assert_eq!(after(node, &start), (vec!["first".into(), "second".into()], true));
        assert_eq!(after(node, &first), (vec!["second".into()], true));
        assert!(!after(node, FOREIGN).1);
    }
}

#[test]
fn a_client_that_is_ahead_of_its_node_is_held_until_the_node_has_caught_up() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let node = node(&redis);
    let first: Cursor = add(&node, "first").parse().unwrap();
    all(&node, &first.to_string());
    // Another node has appended this message, and the bell has not rung.
    redis.command(&["XADD", "lesson:stream", "2-7", "text", "second"]);
    let [second, lost] = [7, 8].map(|check| Cursor::of_parts(first.epoch(), check, 2).unwrap());
    let mut polls = [second, lost].map(|cursor| {
        let mut poll = node.connect();
        poll.send_get(&format!("/messages?last_message_id={cursor}"));
        poll
    });
    assert_eq!(node.get("/nothing").status, 404);
    redis.command(&["PUBLISH", "lesson:bell", "2-7"]);
    all(&node, &second.to_string());
    node.advance(1);
    let answers = polls.each_mut().map(|poll| poll.answer());
    assert_eq!((answers[0].texts(), &answers[0].json()["recovered"]), (vec![], &json!(true)));
    assert_eq!((answers[1].texts().len(), &answers[1].json()["recovered"]), (2, &json!(false)));
}

/// The bell may ring at any moment while a node starts.
#[test]
fn a_node_that_starts_while_messages_are_sent_misses_none() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let one = node(&redis);
    let sender = sender(one.address, 0, 60);
    let others: Vec<_> = (0..8).map(|_| node(&redis)).collect();
    sender.join().unwrap();
    let last = add(&one, "last");
    let expected = all(&one, &last);
    assert_eq!(expected.as_array().unwrap().len(), 61);
    others.iter().for_each(|node| assert_eq!(all(node, &last), expected));
}

#[test]
fn errors_name_the_wrong_input() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let node = node(&redis);
    expect_content_errors(&node);
    expect_error(&node.get("/messages?last_message_id=7"), "last_message_id: expected the id of a message");
    expect_error(&node.get("/messages?timeout=61"), "timeout: ");
    expect_not_allowed(&node.post("/messages", ""), "GET, HEAD");
    expect_not_allowed(&node.get("/add-message"), "POST");
    expect_page(&node, "10 Many servers");
}

#[test]
fn a_log_that_redis_has_lost_is_told() {
    if !is_installed() {
        return;
    }
    let mut redis = Process::started(&[]);
    let mut running = run("10-many-servers", &redis);
    let id = send(running.address, "lost")["id"].as_str().unwrap().to_owned();
    redis.kill();
    assert_eq!(running.process.wait().unwrap().code(), Some(1), "the node ends with its Redis");
    redis.start();
    let running = run("10-many-servers", &redis);
    let answer = get(&running, &format!("/messages?last_message_id={id}"));
    assert_eq!((&answer["messages"], &answer["recovered"]), (&json!([]), &json!(false)));
}

#[test]
fn balancer_takes_turns_and_leaves_out_a_node_that_has_ended() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let (one, two) = (run("10-many-servers", &redis), run("10-many-servers", &redis));
    let to = format!("{},{}", one.address.port(), two.address.port());
    let balancer = Running::start(Command::new(program("10-balancer")).args(["--port", "0", "--to", &to]));
    let by = |_| send(balancer.address, "hello")["node"].as_str().unwrap().to_owned();
    let names = [&one, &two, &one, &two].map(|node| node.address.to_string());
    assert_eq!([0, 1, 2, 3].map(by), names);
    drop(one);
    assert_eq!([0, 1, 2].map(by), [&two; 3].map(|node| node.address.to_string()));
    drop(two);
    assert_eq!(Client::connect(balancer.address).answer().status, 503);
}

// The bugs of the broken node.

#[test]
fn broken_misses_what_is_published_before_its_first_reader() {
    if !is_installed() {
        return;
    }
    let redis = Process::started(&[]);
    let (one, two) = (run("10-broken", &redis), run("10-broken", &redis));
    get(&one, "/messages");
    send(one.address, "one");
    assert_eq!(get(&two, "/messages")["messages"], json!([]));
    send(two.address, "two");
    let has = |node: &Running, texts: Value| {
        let start = Instant::now();
        while get(node, "/messages")["messages"] != texts {
            assert!(start.elapsed() < PATIENCE, "{}", get(node, "/messages"));
        }
        assert_eq!(get(node, "/messages")["recovered"], true);
    };
    has(&one, json!(["one", "two"]));
    has(&two, json!(["two"]));
    // Each node has its own epoch.
    let cursor = get(&one, "/messages")["last_message_id"].as_str().unwrap().to_owned();
    assert_eq!(get(&two, &format!("/messages?last_message_id={cursor}"))["recovered"], false);
}
