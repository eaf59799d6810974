//! Nodes and one Redis that works.

use std::time::Duration;

use overwire::journal::{Key, LogName, Refusal, Wanted};
use overwire::resp::Value;

use super::node::{Answer, Node, RETENTION, answer, wait};
use super::process::{Process, is_installed};
use super::{room, two_nodes};

fn mailbox(name: &str) -> LogName {
    LogName::Mailbox(name.into())
}

#[test]
fn two_nodes_have_the_same_log() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    assert_eq!(one.tip(&tea), two.tip(&tea), "one of them has created it");
    let tickets: Vec<_> = (0..100)
        .flat_map(|number| {
            [one.send(&tea, &format!("one {number}"), None), two.send(&tea, &format!("two {number}"), None)]
        })
        .collect();
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == 200));
    assert_eq!(one.texts(&tea), two.texts(&tea));
    assert_eq!((one.tip(&tea), one.tip(&tea).sequence()), (two.tip(&tea), 200));
    for (at, ticket) in tickets.into_iter().enumerate() {
        let (node, text) = if at % 2 == 0 { (&one, "one") } else { (&two, "two") };
        let Answer::Appended(cursor) = node.answers[&ticket] else { panic!("{:?}", node.answers[&ticket]) };
        let text = format!("{text} {}", at / 2);
        assert!(node.feeds[&tea].after(node.feeds[&tea].last(200)).any(|(id, other)| id == cursor && *other == text));
    }
    let mut three = Node::new(&process.url());
    three.open(&tea);
    wait([&mut three], |[three]| three.texts(&tea).len() == 200);
    assert_eq!(three.texts(&tea), one.texts(&tea));
    assert!([one, two, three].iter().all(|node| node.truncated.is_empty()));
}

#[test]
fn a_node_that_opens_a_log_in_use_misses_nothing() {
    if !is_installed() {
        return;
    }
    let (process, mut one, _, tea) = two_nodes(&[]);
    for round in 0..20 {
        for number in 0..20 {
            one.send(&tea, &format!("{round} {number}"), None);
        }
        let mut late = Node::new(&process.url());
        late.open(&tea);
        wait([&mut one, &mut late], |[one, late]| {
            one.texts(&tea).len() == 20 * (round + 1) && one.texts(&tea) == late.texts(&tea)
        });
    }
}

#[test]
fn a_key_is_known_on_all_nodes() {
    if !is_installed() {
        return;
    }
    let (_process, mut one, mut two, tea) = two_nodes(&[]);
    let key = |text| Some(Key::new(one.tip(&tea).epoch(), "1", "ada", text));
    let (first, other) = (key("hello"), key("good-bye"));
    let Answer::Appended(cursor) = answer(&mut one, &tea, "hello", first) else { panic!("it is new") };
    for node in [&mut one, &mut two] {
        assert_eq!(answer(node, &tea, "hello", first), Answer::Repeated(cursor, 5.0));
        assert_eq!(answer(node, &tea, "good-bye", other), Answer::Refused(Refusal::Conflict));
    }
    wait([&mut two], |[two]| two.texts(&tea) == ["hello"]);
}

#[test]
fn the_messages_of_a_moment_are_one_command_and_each_has_its_own_outcome() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    let count = || {
        let reply = process.command(&["INFO", "commandstats"]);
        let stats = String::from_utf8(reply.as_bytes().unwrap().into()).unwrap();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap().to_owned();
        line.split(',').next().unwrap().to_owned()
    };
    let epoch = one.tip(&tea).epoch();
    let key = |text| Some(Key::new(epoch, "1", "ada", text));
    assert!(process.command(&["CONFIG", "RESETSTAT"]).as_bytes().is_some());
    let tickets = [
        one.send(&tea, "a", None),
        one.send(&tea, "b", key("b")),
        one.send(&tea, "b", key("b")),
        one.send(&tea, "c", key("c")),
        one.send(&tea, "e", None),
    ];
    wait([&mut one, &mut two], |[one, two]| one.answers.len() == 5 && two.texts(&tea).len() == 3);
    assert_eq!((one.texts(&tea), two.texts(&tea)), (vec!["a", "b", "e"], vec!["a", "b", "e"]));
    let [a, b, again, conflict, e] = tickets.map(|ticket| one.answers[&ticket].clone());
    let Answer::Appended(place) = b else { panic!("{b:?}") };
    assert_eq!((again, conflict), (Answer::Repeated(place, 1.0), Answer::Refused(Refusal::Conflict)));
    assert!(matches!((a, e), (Answer::Appended(a), Answer::Appended(e)) if (a.sequence(), e.sequence()) == (1, 3)));
    assert_eq!(count(), "cmdstat_evalsha:calls=1");
}

#[test]
fn a_log_is_bounded_by_messages_and_by_bytes() {
    if !is_installed() {
        return;
    }
    let (process, mut one, _two, tea) = two_nodes(&[]);
    for (count, text) in [(1500, "x".to_owned()), (100, "y".repeat(2000))] {
        let newest = (0..count).map(|_| one.send(&tea, &text, None)).last().unwrap();
        wait([&mut one], |[one]| one.answers.contains_key(&newest));
        let Value::Number(entries) = process.command(&["XLEN", "overwire:room:tea"]) else { panic!("a number") };
        assert!(entries <= 1101, "{entries}");
    }
    let Value::Number(entries) = process.command(&["XLEN", "overwire:room:tea"]) else { panic!("a number") };
    assert_eq!(entries, 1 + (RETENTION.bytes / 2000) as i64);
    let mut late = Node::new(&process.url());
    late.open(&tea);
    wait([&mut late], |[late]| late.texts(&tea).len() == 50);
    assert_eq!(late.tip(&tea), one.tip(&tea));
}

#[test]
fn a_notice_that_is_missing_is_read_from_the_stream() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut one, &tea, "first", None);
    let epoch = one.tip(&tea).epoch().to_string();
    let lost = ["XADD", "overwire:room:tea", "2-7", "e", &epoch, "t", "9", "n", "", "m", "second"];
    assert!(process.command(&lost).as_bytes().is_some());
    answer(&mut one, &tea, "third", None);
    wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea) == ["first", "second", "third"]));
    assert!(one.truncated.is_empty() && two.truncated.is_empty());
}

#[test]
fn a_deleted_entry_is_reported_as_lost() {
    if !is_installed() {
        return;
    }
    let (process, mut one, _two, tea) = two_nodes(&[]);
    let ids = ["first", "second", "third"].map(|text| match answer(&mut one, &tea, text, None) {
        Answer::Appended(cursor) => format!("{}-{}", cursor.sequence(), cursor.check()),
        other => panic!("{other:?}"),
    });
    process.command(&["XDEL", "overwire:room:tea", &ids[1]]);
    let mut late = Node::new(&process.url());
    late.open(&tea);
    wait([&mut late], |[late]| late.feeds.contains_key(&tea));
    assert_eq!(late.tip(&tea), one.tip(&tea));
    assert_eq!((late.truncated.len(), late.texts(&tea).len()), (1, 0));
    answer(&mut one, &tea, "fourth", None);
    wait([&mut late], |[late]| late.texts(&tea) == ["fourth"]);
}

#[test]
fn a_mailbox_is_found_on_another_node_and_removed_from_it() {
    if !is_installed() {
        return;
    }
    let (_process, mut one, mut two, _) = two_nodes(&[]);
    let (box_1, box_2) = (mailbox("1"), mailbox("2"));
    two.find(&box_1);
    wait([&mut two], |[two]| two.answered.contains(&Wanted::Log(box_1.clone())));
    assert_eq!((two.feeds.contains_key(&box_1), two.removed.len()), (false, 0), "there is none");
    for log in [&box_1, &box_2] {
        let start = one.create(log);
        let Answer::Appended(cursor) = answer(&mut one, log, "hello", None) else { panic!("it is there") };
        assert_eq!((cursor.epoch(), cursor.sequence()), (start.epoch(), 1));
        two.find(log);
    }
    wait([&mut two], |[two]| two.texts(&box_1) == ["hello"] && two.texts(&box_2) == ["hello"]);
    one.redis.delete(&box_1);
    wait([&mut one, &mut two], |[_, two]| two.removed == [box_1.clone()]);
    assert_eq!(answer(&mut two, &box_2, "again", None), Answer::Appended(two.tip(&box_2)));
    wait([&mut one], |[one]| one.texts(&box_2) == ["hello", "again"]);
}

#[test]
fn a_mailbox_is_found_by_its_epoch_with_the_position_of_its_reader() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, _) = two_nodes(&[]);
    let log = mailbox("1");
    let epoch = Wanted::Epoch(one.create(&log).epoch());
    let Answer::Appended(first) = answer(&mut one, &log, "first", None) else { panic!("it is there") };
    one.redis.note_position("", &log, first);
    let Answer::Appended(second) = answer(&mut one, &log, "second", None) else { panic!("it is there") };
    assert!(two.redis.find(&epoch));
    wait([&mut two], |[two]| two.answered == [Wanted::Log(room("tea")), epoch.clone()]);
    assert_eq!(
        (two.texts(&log), two.positions.as_slice()),
        (vec!["first", "second"], &[("".into(), log.clone(), first)][..])
    );
    one.redis.note_position("", &log, second);
    wait([&mut one, &mut two], |[_, two]| two.positions.last() == Some(&("".into(), log.clone(), second)));
    assert!(one.positions.is_empty());
    let mut three = Node::new(&process.url());
    wait([&mut three], |[three]| three.redis.trouble().is_none());
    let unknown = Wanted::Epoch(7);
    assert!(three.redis.find(&unknown));
    wait([&mut three], |[three]| three.answered == [unknown.clone()]);
}

#[test]
fn the_positions_of_a_client_are_known_on_all_nodes() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    let (coffee, ada) = (room("coffee"), Wanted::Client("ada".into()));
    let Answer::Appended(cursor) = answer(&mut one, &tea, "x", None) else { panic!("it is there") };
    for (log, cursor) in [(&tea, one.tip(&tea)), (&coffee, cursor), (&tea, cursor)] {
        one.redis.note_position("ada", log, cursor);
    }
    one.turn();
    assert!(two.redis.find(&ada));
    wait([&mut two], |[two]| two.answered.contains(&ada));
    let position = |log: &LogName| ("ada".into(), log.clone(), cursor);
    assert_eq!(two.positions.len(), 2);
    let left = remaining(&process, "overwire:client:ada");
    assert!((3_000_000..=3_600_000).contains(&left), "{left}: as long as on a disk");
    assert!([&tea, &coffee].into_iter().all(|log| two.positions.contains(&position(log))));
}

#[test]
fn the_rooms_with_a_position_of_one_client_are_bounded() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    let cursor = one.tip(&tea);
    let rooms = |process: &Process| match process.command(&["HLEN", "overwire:client:ada"]) {
        Value::Number(rooms) => rooms,
        other => panic!("{other:?}"),
    };
    for number in 0..64 {
        one.redis.note_position("ada", &room(&number.to_string()), cursor);
    }
    wait([&mut one], |_| rooms(&process) == 64);
    one.redis.note_position("ada", &room("64"), cursor);
    wait([&mut one], |_| rooms(&process) == 1);
    let ada = Wanted::Client("ada".into());
    assert!(two.redis.find(&ada));
    wait([&mut two], |[two]| two.answered.contains(&ada));
    assert_eq!(two.dropped, ["ada".into()], "the client is told");
}

#[test]
fn a_log_too_many_of_a_client_expires_unless_another_node_follows_it() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    answer(&mut one, &tea, "hello", None);
    wait([&mut two], |[two]| two.texts(&tea) == ["hello"]);
    let left = || remaining(&process, "overwire:room:tea");
    assert!(left() > 80_000_000, "{}", left());
    one.redis.shed(&tea);
    wait([&mut one], |_| left() <= 120_000);
    sweep(&mut two);
    wait([&mut two], |_| left() > 80_000_000);
}

#[test]
fn a_message_to_a_mailbox_that_has_expired_is_refused() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, _) = two_nodes(&[]);
    let log = mailbox("1");
    one.create(&log);
    answer(&mut one, &log, "hello", None);
    two.find(&log);
    wait([&mut two], |[two]| two.texts(&log).len() == 1);
    process.command(&["DEL", "overwire:mailbox:1"]);
    let Answer::Refused(Refusal::Unavailable(why)) = answer(&mut two, &log, "again", None) else { panic!("gone") };
    assert!(why.contains("not stored"), "{why}");
    assert_eq!(two.removed, [log]);
}

#[test]
fn a_group_that_cannot_be_executed_leaves_nothing_half_done() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    let start = one.tip(&tea);
    let key = Key::new(start.epoch(), "1", "", "second");
    let digest: String = key.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    process.command(&["RPUSH", &format!("overwire:key:{digest}"), "of another program"]);
    let tickets = [one.send(&tea, "first", None), one.send(&tea, "second", Some(key))];
    wait([&mut one], |[one]| one.answers.len() == 2);
    for ticket in tickets {
        let Answer::Refused(Refusal::Unavailable(why)) = &one.answers[&ticket] else { panic!("{:?}", one.answers) };
        assert!(why.contains("belongs to another program"), "{why}");
    }
    let after = answer(&mut one, &tea, "after", None);
    wait([&mut two], |[two]| two.texts(&tea) == ["after"]);
    assert_eq!(after, Answer::Appended(two.tip(&tea)));
}

#[test]
fn a_mailbox_that_is_created_without_redis_is_there_when_it_comes() {
    if !is_installed() {
        return;
    }
    let mut process = Process::new(&[]);
    let (mut one, mut two) = (Node::new(&process.url()), Node::new(&process.url()));
    let log = mailbox("1");
    let start = one.create(&log);
    let key = Key::new(start.epoch(), "1", "", "hello");
    let tickets = [one.send(&log, "hello", Some(key)), one.send(&log, "hello", Some(key))];
    process.start();
    wait([&mut one, &mut two], |[one, two]| one.answers.len() == 2 && two.redis.trouble().is_none());
    let Answer::Appended(cursor) = one.answers[&tickets[0]] else { panic!("{:?}", one.answers) };
    assert_eq!((cursor.epoch(), one.answers[&tickets[1]].clone()), (start.epoch(), Answer::Repeated(cursor, 5.0)));
    assert!(two.redis.find(&Wanted::Epoch(start.epoch())));
    wait([&mut two], |[two]| two.texts(&log) == ["hello"]);
}

#[test]
fn a_log_that_is_followed_does_not_expire() {
    if !is_installed() {
        return;
    }
    let (process, mut one, ..) = two_nodes(&[]);
    let log = mailbox("1");
    one.create(&log);
    answer(&mut one, &log, "hello", None);
    process.command(&["PEXPIRE", "overwire:mailbox:1", "10000"]);
    sweep(&mut one);
    wait([&mut one], |_| remaining(&process, "overwire:mailbox:1") > 100_000);
}

/// Extends the lives of the logs of a node, after 41 seconds.
fn sweep(node: &mut Node) {
    node.redis.sweep(node.event_loop.now());
    node.event_loop.remote().advance_clock(Duration::from_secs(41));
    node.turn();
    node.redis.sweep(node.event_loop.now());
}

/// Returns the milliseconds until a key expires. Negative if there is none.
fn remaining(process: &Process, key: &str) -> i64 {
    match process.command(&["PTTL", key]) {
        Value::Number(remaining) => remaining,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_room_lives_for_two_minutes_until_it_has_a_message() {
    if !is_installed() {
        return;
    }
    let (process, mut one, mut two, tea) = two_nodes(&[]);
    let left = || remaining(&process, "overwire:room:tea");
    assert!((100_000..=120_000).contains(&left()), "{}", left());
    process.command(&["PEXPIRE", "overwire:room:tea", "10000"]);
    sweep(&mut one);
    wait([&mut one], |_| left() > 100_000);
    let start = one.tip(&tea);
    process.command(&["DEL", "overwire:room:tea"]);
    sweep(&mut one);
    wait([&mut one], |_| left() > 100_000);
    assert!(matches!(answer(&mut two, &tea, "hello", None), Answer::Appended(_)));
    assert!(left() > 80_000_000, "{}", left());
    wait([&mut one], |[one]| one.texts(&tea) == ["hello"]);
    assert_eq!((one.tip(&tea).epoch(), one.truncated.len(), two.truncated.len()), (start.epoch(), 0, 0));
    process.command(&["PEXPIRE", "overwire:room:tea", "10000"]);
    sweep(&mut one);
    wait([&mut one], |_| left() > 80_000_000);
    let mut late = Node::new(&process.url());
    process.command(&["PEXPIRE", "overwire:room:tea", "10000"]);
    late.open(&tea);
    wait([&mut late], |[late]| late.texts(&tea) == ["hello"] && left() > 80_000_000);
}

#[test]
fn a_log_that_is_left_and_opened_again_misses_nothing() {
    if !is_installed() {
        return;
    }
    let (_process, mut one, mut two, tea) = two_nodes(&[]);
    for round in 1..=20 {
        for _ in 0..=round % 3 {
            two.redis.remove(&tea);
            two.feeds.remove(&tea);
            two.open(&tea);
        }
        one.send(&tea, "x", None);
        one.turn();
        two.turn();
        one.send(&tea, "y", None);
        wait([&mut one, &mut two], |nodes| nodes.iter().all(|node| node.texts(&tea).len() == 2 * round));
    }
    assert_eq!(one.tip(&tea), two.tip(&tea));
}
