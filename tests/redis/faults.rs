//! Redis is away, restarts with less than it had, is frozen, is full, or a connection breaks.

use std::time::{Duration, Instant};

use super::node::{Answer, Node, RETENTION, answer, wait};
use super::process::{Process, is_installed};
use super::relay::Relay;
use super::{room, two_nodes};
use overwire::journal::{Key, LogName, Refusal, Retention};
use overwire::resp::Value;

fn why(answer: Answer) -> String {
    match answer {
        Answer::Refused(Refusal::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_starts_without_redis_and_connects_when_it_comes() {
    if !is_installed() {
        return;
    }
    let mut process = Process::new(&[]);
    let (mut node, tea) = (Node::new(&process.url()), room("tea"));
    node.open(&tea);
    let ticket = node.send(&tea, "early", None);
    wait([&mut node], |[node]| node.redis.trouble().is_some_and(|trouble| trouble.contains("refused")));
    node.event_loop.remote().advance_clock(Duration::from_secs(5));
    wait([&mut node], |[node]| node.answers.contains_key(&ticket));
    let sentence = why(node.answers[&ticket].clone());
    assert!(sentence.contains("refused") && sentence.ends_with("the message is not stored"), "{sentence}");
    process.start();
    wait([&mut node], |[node]| node.feeds.contains_key(&tea));
    assert_eq!(node.redis.trouble(), None);
    assert!(matches!(answer(&mut node, &tea, "late", None), Answer::Appended(_)));
    assert_eq!(node.texts(&tea), ["late"], "a refused message does not come later");
}

#[test]
fn a_wrong_password_is_named() {
    if !is_installed() {
        return;
    }
    let process = Process::started(&["--requirepass", "secret"]);
    for (login, word) in [("", "expects a password"), (":other@", "does not accept")] {
        let mut node = Node::new(&format!("redis://{login}127.0.0.1:{}", process.port));
        wait([&mut node], |[node]| node.redis.trouble().is_some_and(|trouble| trouble.contains(word)));
    }
    let mut node = Node::new(&format!("redis://:secret@127.0.0.1:{}/3", process.port));
    let tea = room("tea");
    node.open(&tea);
    assert!(matches!(answer(&mut node, &tea, "hello", None), Answer::Appended(_)));
}

#[test]
fn a_name_is_looked_up_and_an_unknown_one_is_named() {
    if !is_installed() {
        return;
    }
    let process = Process::started(&[]);
    let mut node = Node::new(&format!("redis://localhost:{}", process.port));
    wait([&mut node], |[node]| node.redis.trouble().is_none());
    let mut node = Node::new("redis://redis.invalid");
    wait([&mut node], |[node]| node.redis.trouble().is_some_and(|trouble| trouble.contains("redis.invalid")));
}

#[test]
fn all_messages_survive_a_restart_from_the_append_only_file() {
    if !is_installed() {
        return;
    }
    let (mut process, mut one, mut two, tea) = two_nodes(&["--appendonly", "yes", "--appendfsync", "always"]);
    answer(&mut one, &tea, "before", None);
    process.kill();
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.redis.trouble().is_some()));
    let ticket = one.send(&tea, "meanwhile", None);
    process.start();
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["before", "meanwhile"]));
    assert_eq!(one.answers[&ticket], Answer::Appended(two.tip(&tea)));
    assert!(one.truncated.is_empty() && two.truncated.is_empty());
}

#[test]
fn an_old_snapshot_is_noticed_and_the_log_continues_after_it() {
    if !is_installed() {
        return;
    }
    let (mut process, mut one, mut two, tea) = two_nodes(&[]);
    for text in ["one", "two"] {
        answer(&mut one, &tea, text, None);
    }
    wait([&mut two], |[two]| two.texts(&tea).len() == 2);
    let saved = one.tip(&tea);
    process.command(&["SAVE"]);
    answer(&mut one, &tea, "lost", None);
    wait([&mut two], |[two]| two.texts(&tea).len() == 3);
    let lost = one.tip(&tea);
    process.kill();
    process.start();
    assert!(matches!(answer(&mut one, &tea, "three", None), Answer::Appended(_)));
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["one", "two", "three"]));
    let tip = one.tip(&tea);
    assert_eq!((tip.epoch(), tip.sequence()), (lost.epoch(), lost.sequence()), "the same place has another message");
    for node in [&one, &two] {
        assert_eq!(node.truncated, [saved]);
        assert!(!node.feeds[&tea].replay(lost).recovered && node.feeds[&tea].replay(saved).recovered);
    }
}

#[test]
fn an_empty_redis_is_noticed_and_a_new_log_begins() {
    if !is_installed() {
        return;
    }
    let (mut process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut one, &tea, "lost", None);
    let lost = one.tip(&tea);
    process.kill();
    process.start();
    assert!(matches!(answer(&mut two, &tea, "new", None), Answer::Appended(_)));
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["new"]));
    assert_ne!(one.tip(&tea).epoch(), lost.epoch());
    assert_eq!(one.tip(&tea), two.tip(&tea));
    assert!(!one.truncated.is_empty() && !two.truncated.is_empty());
}

#[test]
fn a_message_with_a_key_comes_once_when_its_log_begins_again() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut two, &tea, "lost", None);
    wait([&mut one], |[one]| one.texts(&tea) == ["lost"]);
    let old = Key::new(one.tip(&tea).epoch(), "1", "ada", "hello");
    process.command(&["FLUSHALL"]);
    answer(&mut two, &tea, "new", None);
    let sentence = why(answer(&mut one, &tea, "hello", Some(old)));
    assert!(sentence.ends_with("not stored"), "{sentence}"); // its retry has the key of the new log
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["new"]));
    let new = Key::new(one.tip(&tea).epoch(), "1", "ada", "hello");
    assert!(matches!(answer(&mut two, &tea, "hello", Some(new)), Answer::Appended(_)));
    assert!(matches!(answer(&mut one, &tea, "hello", Some(new)), Answer::Repeated(..)));
}

#[test]
fn a_log_that_vanishes_begins_again() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut one, &tea, "old", None);
    process.command(&["FLUSHALL"]);
    for text in ["new", "newer"] {
        assert!(matches!(answer(&mut one, &tea, text, None), Answer::Appended(_)));
    }
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["new", "newer"]));
    assert_eq!((one.truncated.len(), two.truncated.len()), (1, 1));
}

#[test]
fn a_redis_that_is_frozen_for_a_moment_loses_nothing() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    process.signal("STOP");
    let tickets: Vec<_> = (0..10).map(|number| one.send(&tea, &number.to_string(), None)).collect();
    let start = Instant::now();
    wait([&mut one, &mut two], |_| start.elapsed() > Duration::from_secs(1));
    assert!(one.answers.is_empty());
    process.signal("CONT");
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == 10));
    assert!(tickets.iter().all(|ticket| matches!(one.answers[ticket], Answer::Appended(_))));
    assert_eq!((one.redis.trouble(), one.truncated.len()), (None, 0));
}

#[test]
fn a_redis_that_is_frozen_for_long_is_reported_and_a_message_comes_at_most_once() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    process.signal("STOP");
    let key = Key::new(one.tip(&tea).epoch(), "1", "ada", "keyed");
    let [keyed, plain] = [("keyed", Some(key)), ("plain", None)].map(|(text, key)| one.send(&tea, text, key));
    let mut pass = |seconds: u64| {
        for node in [&mut one, &mut two] {
            node.turn();
            (0..seconds).for_each(|_| {
                node.event_loop.remote().advance_clock(Duration::from_secs(1));
                node.turn();
            });
        }
    };
    pass(5);
    pass(5);
    assert!(one.redis.trouble().is_some() && two.redis.trouble().is_some());
    let [keyed, plain] = [keyed, plain].map(|ticket| why(one.answers[&ticket].clone()));
    assert!(keyed.contains("same key") && plain.contains("may still come"), "{keyed}\n{plain}");
    process.signal("CONT");
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.redis.trouble().is_none()));
    assert!(matches!(answer(&mut one, &tea, "keyed", Some(key)), Answer::Appended(_) | Answer::Repeated(..)));
    answer(&mut one, &tea, "end", None);
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).ends_with(&["end"])));
    assert_eq!(one.texts(&tea), two.texts(&tea));
    for text in ["keyed", "plain"] {
        assert!(one.texts(&tea).iter().filter(|other| **other == text).count() <= 1, "{:?}", one.texts(&tea));
    }
}

#[test]
fn a_connection_that_is_cut_in_the_middle_of_a_reply_loses_and_doubles_nothing() {
    if !is_installed() {
        return;
    }
    let process = Process::started(&[]);
    let (relay, mut witness, tea) = (Relay::to(process.port), Node::new(&process.url()), room("tea"));
    witness.open(&tea);
    let mut expected = Vec::new();
    for bytes in (0..140).step_by(2) {
        let mut node = Node::new(&relay.url()); // it has not waited yet
        node.open(&tea);
        wait([&mut node, &mut witness], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == expected.len()));
        wait([&mut node], |[node]| node.feeds.contains_key(&tea));
        relay.cut_after(bytes);
        let [plain, keyed] = ["plain", "keyed"].map(|kind| format!("{kind} {bytes}"));
        let key = Key::new(node.tip(&tea).epoch(), &keyed, "ada", &keyed);
        let tickets = [node.send(&tea, &plain, None), node.send(&tea, &keyed, Some(key))];
        expected.extend([plain, keyed]);
        wait([&mut node, &mut witness], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == expected.len()));
        wait([&mut node], |[node]| relay.has_cut() && node.redis.trouble().is_none() && node.answers.len() == 2);
        let is_sent = |answer: &Answer| matches!(answer, Answer::Appended(_) | Answer::Repeated(..));
        assert!(tickets.iter().all(|ticket| is_sent(&node.answers[ticket])), "{:?}", node.answers);
        assert!(node.truncated.is_empty());
        assert_eq!(node.texts(&tea), expected);
    }
    assert_eq!(witness.texts(&tea), expected);
}

#[test]
fn a_full_redis_refuses_and_readers_go_on() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut one, &tea, "before", None);
    process.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let sentence = why(answer(&mut one, &tea, "full", None));
    assert!(sentence.contains("maxmemory") && sentence.ends_with("not stored"), "{sentence}");
    assert_eq!((one.texts(&tea), one.redis.trouble()), (vec!["before"], None));
    let mut late = Node::new(&process.url());
    late.open(&tea);
    late.open(&room("new")); // it cannot be created
    wait([&mut late], |[late]| late.texts(&tea) == ["before"]);
    process.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(matches!(answer(&mut one, &tea, "after", None), Answer::Appended(_)));
    wait([&mut two, &mut late], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["before", "after"]));
    wait([&mut late], |[late]| late.feeds.contains_key(&room("new")));
}

#[test]
fn scripts_that_were_removed_are_loaded_again() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    process.command(&["SCRIPT", "FLUSH"]);
    for number in 0..10 {
        one.send(&tea, &number.to_string(), None);
    }
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == 10));
    assert_eq!(one.texts(&tea), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    process.command(&["SCRIPT", "FLUSH"]);
    let coffee = room("coffee");
    two.open(&coffee);
    wait([&mut two], |[two]| two.feeds.contains_key(&coffee));
    one.open(&coffee);
    wait([&mut one], |[one]| one.feeds.contains_key(&coffee));
    process.command(&["SCRIPT", "FLUSH"]);
    let mailbox = LogName::Mailbox("1".into());
    one.create(&mailbox);
    let tickets = [&tea, &coffee, &mailbox].map(|log| [(); 3].map(|()| one.send(log, "x", None)));
    wait([&mut one], |[one]| tickets.iter().flatten().all(|ticket| one.answers.contains_key(ticket)));
    assert!(one.answers.values().all(|answer| matches!(answer, Answer::Appended(_))), "{:?}", one.answers);
}

#[test]
fn a_subscriber_that_redis_cuts_fills_the_gap() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    for round in 1..=5 {
        process.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let ticket = one.send(&tea, "x", None);
        wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == round));
        assert!(matches!(one.answers[&ticket], Answer::Appended(_)));
    }
    assert!(one.truncated.is_empty() && two.truncated.is_empty());
}

#[test]
fn a_redis_that_becomes_a_replica_is_left_until_it_is_a_primary() {
    if !is_installed() {
        return;
    }
    let (process, mut one, _two, tea) = two_nodes(&[]);
    process.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let ticket = one.send(&tea, "x", None);
    wait([&mut one], |[one]| one.redis.trouble().is_some_and(|trouble| trouble.contains("replica")));
    process.command(&["REPLICAOF", "NO", "ONE"]);
    wait([&mut one], |[one]| one.answers.contains_key(&ticket));
    assert_eq!((one.answers[&ticket].clone(), one.texts(&tea)), (Answer::Appended(one.tip(&tea)), vec!["x"]));
}

/// A node that gets nothing of what Redis sends to it, until Redis ends its subscription. Meanwhile another node sends:
/// more than the sockets between them hold. Both nodes retain this number of bytes.
fn a_slow_node(bytes: usize) -> (Node, Node) {
    let process = Process::started(&[]);
    process.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1000000 0 0"]);
    let (relay, tea) = (Relay::to(process.port), room("tea"));
    let retention = Retention { messages: 10_000, bytes, ..RETENTION };
    let (mut slow, mut fast) = (Node::with(&relay.url(), retention), Node::with(&process.url(), retention));
    slow.open(&tea);
    fast.open(&tea);
    answer(&mut fast, &tea, "first", None);
    wait([&mut slow, &mut fast], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["first"]));
    relay.hold_back(true);
    let subscribers = || match process.command(&["PUBSUB", "NUMSUB", "overwire:0:room:tea"]) {
        Value::Array(counts) => counts[1].clone(),
        other => panic!("{other:?}"),
    };
    // Valkey 9 does not copy a long text, and does not count it as output. Redis does not know the command.
    process.command(&["CONFIG", "SET", "min-string-size-avoid-copy-reply", "2147483647"]);
    let text = "x".repeat(10_000);
    for number in 0..5000 {
        let ticket = fast.send(&tea, &format!("{number} {text}"), None);
        if number % 200 == 199 {
            wait([&mut fast], |[fast]| fast.answers.contains_key(&ticket));
            if subscribers() == Value::Number(1) {
                break;
            }
        }
    }
    assert_eq!(subscribers(), Value::Number(1), "Redis has cut the slow node");
    relay.hold_back(false);
    wait([&mut slow, &mut fast], |[slow, fast]| slow.tip(&tea) == fast.tip(&tea));
    assert_eq!(slow.texts(&tea), fast.texts(&tea));
    (slow, fast)
}

#[test]
fn a_node_that_is_too_slow_for_redis_fills_the_gap() {
    if !is_installed() {
        return;
    }
    let (slow, fast) = a_slow_node(100_000_000);
    assert_eq!((slow.texts(&room("tea"))[0], slow.truncated.len(), fast.truncated.len()), ("first", 0, 0));
}

#[test]
fn a_node_that_is_too_slow_for_the_retention_reports_the_gap() {
    if !is_installed() {
        return;
    }
    let (slow, fast) = a_slow_node(1_000_000);
    let tip = slow.truncated.last().expect("a gap");
    assert!(fast.feeds[&room("tea")].replay(*tip).recovered, "it goes on where the stream begins");
}
