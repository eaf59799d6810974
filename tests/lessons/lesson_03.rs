//! Lesson 03, long polling: every answer of its server, and the three ways in which its broken twin loses messages.

#[allow(dead_code)]
#[path = "../../lessons/03-long-polling/broken.rs"]
mod broken;
#[allow(dead_code)]
#[path = "../../lessons/03-long-polling/main.rs"]
mod main;

use serde_json::{Value, json};

use crate::common::{Answer, Client, TestServer};
use crate::lesson::{
    FOREIGN, add, cursor_of, expect_aborted_polls_forgotten, expect_content_errors, expect_error, expect_not_allowed,
    expect_page, post, serve,
};

fn start() -> TestServer {
    serve(main::serve)
}

fn start_broken() -> TestServer {
    serve(broken::serve)
}

/// Sends a poll and waits until it is held.
fn hold(server: &TestServer, query: &str) -> Client {
    let mut poll = server.connect();
    ask(server, &mut poll, query);
    poll
}

fn ask(server: &TestServer, poll: &mut Client, query: &str) {
    poll.send_get(&format!("/messages?{query}"));
    // The loop reads connections in the order in which their input arrives.
    assert_eq!(server.get("/nothing").status, 404);
}

/// Checks that a poll was answered without messages at its deadline.
#[track_caller]
fn expect_timeout(answer: &Answer) {
    let json = answer.json();
    assert_eq!((answer.status, &json["messages"], &json["timeout"]), (200, &json!([]), &json!(true)), "{json}");
}

#[test]
fn messages_answer_every_held_poll() {
    let server = start();
    let mut polls = [hold(&server, ""), hold(&server, "timeout=60"), hold(&server, "")];
    let id = add(&server, "one");
    for poll in &mut polls {
        let answer = poll.answer();
        assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("no-store")));
        let expected = json!({
            "messages": [{ "id": id, "text": "one" }], "last_message_id": id, "recovered": true, "timeout": false,
        });
        assert_eq!(answer.json(), expected);
    }
    server.stop();
}

#[test]
fn messages_between_two_polls_are_in_the_second_answer() {
    let server = start();
    let (mut alice, mut bob) = (hold(&server, ""), hold(&server, ""));
    add(&server, "one");
    let after_one = cursor_of(&bob.answer());
    alice.answer();
    ask(&server, &mut alice, &format!("last_message_id={after_one}"));
    add(&server, "two");
    add(&server, "three");
    assert_eq!(alice.answer().texts(), ["two"], "one poll takes this");
    let between = bob.get(&format!("/messages?last_message_id={after_one}"));
    assert_eq!(between.texts(), ["two", "three"], "the other gets both in one answer, in order");
}

#[test]
fn aborted_polls_consume_nothing() {
    let server = start();
    let first = add(&server, "one");
    drop(hold(&server, &format!("last_message_id={first}")));
    add(&server, "two");
    let next = server.get(&format!("/messages?last_message_id={first}"));
    assert_eq!((next.texts(), &next.json()["recovered"]), (vec!["two".to_owned()], &true.into()));
    server.stop();
}

#[test]
fn lost_answers_are_given_again() {
    let server = start();
    let first = add(&server, "one");
    for _ in 0..2 {
        assert_eq!(server.get("/messages").texts(), ["one"]);
    }
    let mut poll = hold(&server, &format!("last_message_id={first}"));
    add(&server, "two");
    poll.answer();
    assert_eq!(
        server.get(&format!("/messages?last_message_id={first}")).texts(),
        ["two"],
        "as if no answer had been sent"
    );
}

#[test]
fn polls_are_held_for_their_timeout() {
    for (query, seconds) in [("timeout=1", 1), ("", 25), ("timeout=60", 60)] {
        let server = start();
        let mut poll = hold(&server, query);
        server.advance(seconds - 1);
        let mut other = hold(&server, "timeout=60");
        server.advance_and_settle(1);
        let answer = poll.answer();
        expect_timeout(&answer);
        assert_eq!((answer.field("Cache-Control"), &answer.json()["recovered"]), (Some("no-store"), &json!(true)));
        ask(&server, &mut poll, &format!("last_message_id={}", cursor_of(&answer)));
        add(&server, "one");
        assert_eq!((poll.answer().texts(), other.answer().texts()), (vec!["one".into()], vec!["one".into()]));
    }
}

#[test]
fn answered_polls_leave_no_timer() {
    let server = start();
    let mut poll = hold(&server, "timeout=5");
    let id = add(&server, "one");
    assert_eq!(poll.answer().texts(), ["one"]);
    ask(&server, &mut poll, &format!("timeout=60&last_message_id={id}"));
    server.advance(10);
    add(&server, "two");
    assert_eq!(poll.answer().texts(), ["two"], "not the timeout of the first poll");
}

#[test]
fn unknown_cursors_get_recovered_false_at_once() {
    let server = start();
    let told = server.get(&format!("/messages?last_message_id={FOREIGN}"));
    assert_eq!((told.texts().len(), &told.json()["recovered"]), (0, &false.into()), "even without messages");
    let mut poll = hold(&server, &format!("last_message_id={}", cursor_of(&told)));
    let first = add(&server, "first");
    assert_eq!(poll.answer().json()["recovered"], true);
    for number in 0..101 {
        add(&server, &number.to_string());
    }
    let told = server.get(&format!("/messages?last_message_id={first}"));
    assert_eq!((told.texts().len(), &*told.texts()[0], &told.json()["recovered"]), (100, "1", &false.into()));
}

#[test]
fn errors_name_the_wrong_input() {
    let server = start();
    expect_content_errors(&server);
    for (query, complaint) in [
        ("last_message_id=7", "last_message_id: expected the id of a message, not \"7\""),
        ("timeout=0", "timeout: expected a whole number from 1 to 60, not \"0\""),
        ("timeout=61", "timeout: "),
        ("timeout=2.5", "timeout: "),
        ("timeout=%2B5", "timeout: "),
        ("timeout=", "timeout: "),
    ] {
        expect_error(&server.get(&format!("/messages?{query}")), complaint);
    }
}

#[test]
fn wrong_methods_get_an_allow_field() {
    let server = start();
    for (answer, allowed) in [(server.post("/messages", ""), "GET, HEAD"), (server.get("/add-message"), "POST")] {
        expect_not_allowed(&answer, allowed);
    }
}

#[test]
fn page_is_served_while_polls_are_held() {
    let server = start();
    let mut poll = hold(&server, "");
    expect_page(&server, "03 Long polling");
    add(&server, "one");
    assert_eq!(poll.answer().texts(), ["one"]);
}

#[test]
fn requests_pipelined_after_a_held_poll_wait() {
    let server = start();
    let mut poll = server.connect();
    poll.send_get("/messages?timeout=5");
    ask(&server, poll.send_post("/add-message", r#"{"message": "one"}"#), "timeout=6");
    server.advance(5);
    expect_timeout(&poll.answer());
    assert_eq!(poll.answer().json()["status"], "Message added");
    assert_eq!(poll.answer().texts(), ["one"]);
}

#[test]
fn shutdown_answers_held_polls() {
    let server = start();
    let mut poll = hold(&server, "timeout=60");
    server.shut_down();
    let answer = poll.answer();
    expect_timeout(&answer);
    assert_eq!(answer.field("Connection"), Some("close"));
    poll.expect_end();
    drop(poll);
    server.stop();
}

// The bugs of the broken server. Each message below was confirmed with a 200.

fn expect_nothing(server: &TestServer, poll: &mut Client) {
    server.advance(5);
    expect_timeout(&poll.answer());
}

fn got(poll: &mut Client) -> Value {
    poll.answer().json()["messages"].take()
}

#[test]
fn broken_gives_a_message_to_one_of_two_readers() {
    let server = start_broken();
    let (mut alice, mut bob) = (hold(&server, "timeout=5"), hold(&server, "timeout=5"));
    post(&server, "one");
    assert_eq!(got(&mut alice), json!(["one"]));
    expect_nothing(&server, &mut bob);
}

#[test]
fn broken_gives_a_message_to_a_closed_client() {
    let server = start_broken();
    drop(hold(&server, "timeout=60"));
    server.get("/nothing");
    post(&server, "one");
    let mut alice = hold(&server, "timeout=5");
    expect_nothing(&server, &mut alice);
}

#[test]
fn broken_gives_a_message_between_two_polls_to_the_next_poller() {
    let server = start_broken();
    let mut bob = hold(&server, "timeout=5");
    post(&server, "one");
    assert_eq!(got(&mut bob), json!(["one"]));
    post(&server, "two");
    assert_eq!(server.get("/messages").json()["messages"], json!(["two"]), "of alice");
    ask(&server, &mut bob, "timeout=5");
    expect_nothing(&server, &mut bob);
}

#[test]
fn broken_holds_polls_for_at_most_ten_minutes() {
    let server = start_broken();
    let mut poll = hold(&server, "timeout=18446744073709551615");
    server.advance(600);
    expect_timeout(&poll.answer());
}

/// An aborted poll is forgotten at once, not at its deadline.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn aborted_polls_are_forgotten() {
    expect_aborted_polls_forgotten("03-long-polling", "/messages?timeout=60");
}
