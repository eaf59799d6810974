//! Made-up histories: those that keep the promise pass, and each of the others breaks one rule.

use std::time::Duration;

use overwire::feed::Cursor;

use super::check::{Rule, check};
use super::history::{Event, History, Log, Sent, What};

/// A position of an epoch. Messages of the same sequence and another check are another branch.
fn id(epoch: u64, check: u64, sequence: u64) -> Cursor {
    format!("{epoch:08x}-0000-8000-{:04x}-{:02x}{sequence:010x}", 0x8000 | check, 0).parse().unwrap()
}

/// Position `sequence` of the log that everybody reads.
fn at(sequence: u64) -> Cursor {
    id(1, 0, sequence)
}

fn message(id: Cursor, text: &str) -> What {
    What::Message { id, text: text.into() }
}

/// The messages of the log with these sequences: message 1 is "m1".
fn messages(sequences: impl IntoIterator<Item = u64>) -> Vec<What> {
    sequences.into_iter().map(|sequence| message(at(sequence), &format!("m{sequence}"))).collect()
}

fn reader(name: &str, start: Option<Cursor>, whats: Vec<What>) -> History {
    let event = |(n, what)| Event { time: Duration::from_millis(n as u64), what };
    History { reader: name.into(), start, events: whats.into_iter().enumerate().map(event).collect() }
}

/// A message that was sent and answered at these times.
fn sent(text: &str, begun: u64, answers: &[(u64, Cursor)]) -> Sent {
    let answers = answers.iter().map(|(time, id)| (Duration::from_millis(*time), *id)).collect();
    Sent { text: text.into(), begun: Duration::from_millis(begun), answers }
}

/// A log of four messages, of which a faithful reader has all, with another reader.
fn log(losses: usize, other: History) -> Log {
    let faithful = reader("faithful", Some(at(0)), messages(1..=4));
    let sent = (1..=4).map(|n| sent(&format!("m{n}"), n * 10, &[(n * 10 + 5, at(n))])).collect();
    Log { name: "tea".into(), sent, histories: vec![faithful, other], end: at(4), losses, servers: 1, retained: 1000 }
}

fn rules(log: &Log) -> Vec<Rule> {
    let mut rules: Vec<Rule> = check(log).into_iter().map(|failure| failure.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

/// The rules that a reader breaks.
fn broken(start: Option<Cursor>, whats: Vec<What>) -> Vec<Rule> {
    rules(&log(0, reader("other", start, whats)))
}

#[test]
fn a_reader_with_every_message_passes() {
    assert_eq!(broken(Some(at(0)), messages(1..=4)), []);
    assert_eq!(broken(Some(at(2)), messages(3..=4)), []);
    assert_eq!(broken(None, messages(2..=4)), []);
    let mut whats = messages(1..=4);
    whats.insert(2, What::At(at(2)));
    assert_eq!(broken(Some(at(0)), whats), []);
}

#[test]
fn a_hole_without_a_notice_fails() {
    assert_eq!(broken(Some(at(0)), messages([1, 3, 4])), [Rule::Gap, Rule::Missing]);
    assert_eq!(broken(Some(at(0)), messages([2, 3, 4])), [Rule::Gap, Rule::Missing]);
}

#[test]
fn a_missing_end_fails() {
    assert_eq!(broken(Some(at(0)), messages(1..=3)), [Rule::Missing, Rule::End]);
}

#[test]
fn a_message_that_comes_twice_or_too_early_fails() {
    assert_eq!(broken(Some(at(0)), messages([1, 2, 2, 3, 4])), [Rule::Gap]);
    assert!(broken(Some(at(0)), messages([1, 3, 2, 4])).contains(&Rule::Gap));
}

#[test]
fn a_position_that_moves_by_itself_fails() {
    let mut whats = messages(1..=4);
    whats.insert(2, What::At(at(3)));
    assert_eq!(broken(Some(at(0)), whats), [Rule::Position]);
}

#[test]
fn a_text_that_nobody_sent_or_an_id_with_two_texts_fails() {
    let mut whats = messages(1..=4);
    whats[1] = message(at(2), "other");
    assert_eq!(broken(Some(at(0)), whats), [Rule::Text]);
    let mut log = log(0, reader("other", Some(at(0)), messages(1..=4)));
    log.sent.remove(1);
    assert_eq!(rules(&log), [Rule::Unsent]);
}

#[test]
fn a_retry_that_shows_as_two_messages_fails() {
    let mut whats = messages(1..=4);
    whats[2] = message(at(3), "m2");
    let mut log = log(0, reader("other", Some(at(0)), whats));
    log.histories.remove(0);
    log.sent.remove(2);
    assert_eq!(rules(&log), [Rule::Twice]);
}

#[test]
fn an_answered_message_that_nobody_has_fails() {
    let mut log = log(0, reader("other", Some(at(0)), messages(1..=4)));
    log.sent.push(sent("lost", 50, &[(55, id(1, 9, 3))]));
    assert_eq!(rules(&log), [Rule::Lost]);
    log.losses = 1;
    assert_eq!(rules(&log), []);
}

#[test]
fn an_order_against_the_time_fails() {
    let mut log = log(0, reader("other", Some(at(0)), messages(1..=4)));
    log.sent[1].begun = Duration::from_millis(36); // m3 was answered at 35
    assert_eq!(rules(&log), [Rule::Time]);
    log.sent[1].begun = Duration::from_millis(35);
    assert_eq!(rules(&log), []);
}

#[test]
fn a_notice_is_true_if_messages_were_dropped() {
    let skipping = |to| {
        let mut whats = messages([1]);
        whats.push(What::Told(Some(at(to))));
        whats.extend(messages(to + 1..=4));
        reader("other", Some(at(0)), whats)
    };
    let mut log = log(0, skipping(2));
    assert_eq!(rules(&log), [Rule::Told], "a room with four messages has dropped none");
    log.retained = 2;
    assert_eq!(rules(&log), []);
    log.histories[1] = skipping(1);
    assert_eq!(rules(&log), [Rule::Told], "nothing was skipped");
}

#[test]
fn a_notice_about_a_position_that_the_log_has_fails() {
    for notice in [What::Told(None), What::Told(Some(at(0))), What::Told(Some(at(2)))] {
        let mut whats = messages([1, 2]);
        let next = if matches!(notice, What::Told(Some(to)) if to == at(2)) { 3 } else { 1 };
        whats.push(notice);
        whats.extend(messages(next..=4));
        assert_eq!(rules(&log(1, reader("other", Some(at(0)), whats))), [Rule::Told]);
    }
}

#[test]
fn a_notice_excuses_only_what_it_skips() {
    let mut whats = messages([1]);
    whats.push(What::Told(Some(at(2))));
    whats.extend(messages([4]));
    let mut log = log(0, reader("other", Some(at(0)), whats));
    log.retained = 2;
    assert_eq!(rules(&log), [Rule::Gap, Rule::Missing]);
}

/// A log that lost messages 3 and 4, and got others in their places.
fn forked(losses: usize, whats: Vec<What>) -> Log {
    let mut log = log(losses, reader("other", Some(at(0)), whats));
    log.sent.push(sent("lost3", 26, &[(27, id(1, 9, 3))]));
    log
}

#[test]
fn a_reader_of_a_lost_branch_is_told() {
    let mut whats = messages([1, 2]);
    whats.extend([message(id(1, 9, 3), "lost3"), What::Told(Some(at(2)))]);
    whats.extend(messages([3, 4]));
    assert_eq!(rules(&forked(1, whats)), []);
}

#[test]
fn a_reader_of_a_lost_branch_that_is_not_told_fails() {
    let mut whats = messages([1, 2]);
    whats.push(message(id(1, 9, 3), "lost3"));
    whats.extend(messages([4]));
    assert_eq!(rules(&forked(1, whats)), [Rule::Order, Rule::Missing]);
}

#[test]
fn a_branch_needs_a_loss() {
    let mut whats = messages([1, 2]);
    whats.extend([message(id(1, 9, 3), "lost3"), What::Told(Some(at(2)))]);
    whats.extend(messages([3, 4]));
    assert_eq!(rules(&forked(0, whats)), [Rule::Lost, Rule::Told, Rule::Branches]);
}

#[test]
fn a_new_log_is_told() {
    let old = || message(id(7, 0, 1), "old");
    let mut log = log(1, reader("other", None, Vec::new()));
    log.sent.push(sent("old", 1, &[(2, id(7, 0, 1))]));
    let mut whats = vec![old(), What::Told(Some(at(0)))];
    whats.extend(messages(1..=4));
    log.histories[1] = reader("other", Some(id(7, 0, 0)), whats);
    assert_eq!(rules(&log), []);
    let mut whats = vec![old()];
    whats.extend(messages(1..=4));
    log.histories[1] = reader("other", Some(id(7, 0, 0)), whats);
    assert_eq!(rules(&log), [Rule::Gap]);
}

#[test]
fn a_failure_shows_the_events_around_it() {
    let log = log(0, reader("other", Some(at(0)), messages([1, 3, 4])));
    let failure = check(&log).into_iter().find(|failure| failure.rule == Rule::Gap).unwrap();
    let text = failure.to_string();
    assert!(text.contains("other: 1 messages are missing") && text.contains(">    0.0010 s  3: m3"), "{text}");
}
