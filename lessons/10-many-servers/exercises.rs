//! The exercises of lesson 10. Each test fails until you have done it. They need `redis-server`.

#[path = "../../tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../../tests/redis/process.rs"]
mod process;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use self::process::Process;
use common::{Answer, Client, Running};
use serde_json::{Value, json};

fn start(redis: &Process) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_10-many-servers"));
    command.args(["--port", "0", "--redis", &redis.port.to_string()]);
    Running::start(command.stderr(Stdio::null()))
}

fn connect(node: &Running) -> Client {
    let client = Client::connect(node.address);
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

fn add(node: &Running, content: &Value) -> Answer {
    connect(node).post("/add-message", &content.to_string())
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// The texts of a node, as soon as it has the message with this id.
fn texts(node: &Running, last: &str) -> Vec<String> {
    let start = Instant::now();
    loop {
        let answer = connect(node).get("/messages?timeout=1");
        if answer.json()["last_message_id"] == last {
            return answer.texts();
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{last} is missing: {answer:?}");
    }
}

/// Exercise 1: `"key"`, 1 to 64 characters, or 400. A message with a known key is not appended again: its answer has the
/// id of the first, on every node. The key holds for 300 seconds. (There is no check that the text is the same.)
#[test]
fn retries_on_another_node_are_stored_once() {
    let redis = Process::started(&[]);
    let nodes = [start(&redis), start(&redis)];
    let content = json!({ "message": "one", "key": "from Ada, 1" });
    let first = id_of(&add(&nodes[0], &content));
    assert_eq!(id_of(&add(&nodes[1], &content)), first);
    assert_eq!(id_of(&add(&start(&redis), &content)), first, "a node that starts later knows it");
    // Many at once.
    let content = json!({ "message": "two", "key": "2" }).to_string();
    let mut senders: Vec<_> = (0..20).map(|number| connect(&nodes[number % 2])).collect();
    senders.iter_mut().for_each(|sender| _ = sender.send_post("/add-message", &content));
    let ids: Vec<_> = senders.iter_mut().map(|sender| id_of(&sender.answer())).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let last = id_of(&add(&nodes[0], &json!({ "message": "three" })));
    assert_eq!(texts(&nodes[1], &last), ["one", "two", "three"]);
    for wrong in [json!(""), json!(7), json!("x".repeat(65))] {
        assert_eq!(add(&nodes[0], &json!({ "message": "one", "key": wrong })).status, 400, "{wrong}");
    }
    let keys = redis.command(&["KEYS", "*"]);
    let left = keys.values().unwrap().iter().map(|key| {
        let name = String::from_utf8_lossy(key.as_bytes().unwrap()).into_owned();
        redis.command(&["TTL", &name])
    });
    let limited = left.filter(|left| matches!(left, overwire::resp::Value::Number(1..=300))).count();
    assert_eq!(limited, 2, "both keys end after 300 seconds");
}

/// Exercise 2: the bell carries the text. A node that hears the next number does not read the stream. It reads when it
/// starts, and when a number is missing: after a message that was appended without a bell, for example.
#[test]
fn bell_carries_the_message() {
    let redis = Process::started(&[]);
    let nodes = [start(&redis), start(&redis)];
    let first = id_of(&add(&nodes[0], &json!({ "message": "first" })));
    nodes.iter().for_each(|node| assert_eq!(texts(node, &first), ["first"]));
    redis.command(&["CONFIG", "RESETSTAT"]);
    let mut last = String::new();
    for number in 0..20 {
        last = id_of(&add(&nodes[number % 2], &json!({ "message": format!("{number} \u{e9}\r\n $1 |") })));
    }
    let expected: Vec<_> = (0..20).map(|number| format!("{number} \u{e9}\r\n $1 |")).collect();
    nodes.iter().for_each(|node| assert_eq!(texts(node, &last)[1..], expected));
    let info = redis.command(&["INFO", "commandstats"]);
    let info = String::from_utf8_lossy(info.as_bytes().unwrap()).into_owned();
    assert!(!info.contains("cmdstat_xrange:"), "no node reads:\n{info}");

    // A message without a bell, and one with a bell.
    redis.command(&["XADD", "lesson:stream", "22-7", "text", "silent"]);
    let last = id_of(&add(&nodes[0], &json!({ "message": "loud" })));
    nodes.iter().for_each(|node| assert_eq!(texts(node, &last)[21..], ["silent", "loud"]));
}

/// Exercise 3: a node outlives its Redis. While Redis is away, polls are answered from what the node has, and a message
/// gets 503 within two seconds. It is not appended later. When Redis is back, the node connects again within two seconds.
/// If the log has begun again, with another epoch, the node has a new feed: older cursors are unknown, and the polls that
/// were held since before are answered with `recovered: false`.
#[test]
fn node_outlives_redis() {
    let mut redis = Process::started(&[]);
    let nodes = [start(&redis), start(&redis)];
    let old = id_of(&add(&nodes[0], &json!({ "message": "old" })));
    nodes.iter().for_each(|node| assert_eq!(texts(node, &old), ["old"]));
    let mut held = connect(&nodes[1]);
    held.send_get(&format!("/messages?timeout=60&last_message_id={old}"));
    assert_eq!(connect(&nodes[1]).get("/nothing").status, 404);
    redis.kill();
    let start = Instant::now();
    let statuses = nodes.each_ref().map(|node| add(node, &json!({ "message": "away" })).status);
    assert_eq!((statuses, start.elapsed() < Duration::from_secs(4)), ([503, 503], true));
    assert_eq!(texts(&nodes[0], &old), ["old"]);
    redis.start();
    let told = held.answer();
    assert_eq!(told.json()["recovered"], false, "{told:?}");
    let start = Instant::now();
    let new = loop {
        let answer = add(&nodes[0], &json!({ "message": "new" }));
        if answer.status == 200 {
            break id_of(&answer);
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{answer:?}");
    };
    nodes.iter().for_each(|node| assert_eq!(texts(node, &new), ["new"]));
    let answer = connect(&nodes[1]).get(&format!("/messages?last_message_id={old}"));
    assert_eq!((answer.texts(), &answer.json()["recovered"]), (vec!["new".into()], &json!(false)));
}
