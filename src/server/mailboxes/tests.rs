//! The handlers of mailboxes, called without a server.

use super::*;
use crate::server::testing::Client;

/// A poll of a mailbox.
fn poll(exchanges: &mut Exchanges, mailboxes: &mut Mailboxes, mailbox: &str) -> (Client, Reply) {
    let content = json!({ "connection_id": mailbox }).to_string();
    let client = exchanges.request("POST", "/poll", &content);
    let reply = mailboxes.poll(exchanges, &client.call()).unwrap();
    (client, reply)
}

fn mailbox(exchanges: &mut Exchanges, mailboxes: &mut Mailboxes) -> Rc<str> {
    mailboxes.mailboxes.create(exchanges).unwrap().id().clone()
}

/// Puts a text into a mailbox, and applies the change that follows.
fn put(exchanges: &mut Exchanges, mailboxes: &mut Mailboxes, id: &str, text: &str) -> Result<(), ApiError> {
    mailboxes.put(exchanges, Sender::Server, id, text, None)?;
    exchanges.commit(mailboxes);
    Ok(())
}

#[test]
fn a_text_answers_the_held_poll() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let id = mailbox(&mut exchanges, &mut mailboxes);
    let (mut client, reply) = poll(&mut exchanges, &mut mailboxes, &id);
    assert!(exchanges.handle(&client, reply));
    put(&mut exchanges, &mut mailboxes, &id, "hello").unwrap();
    let answer = exchanges.read_until(&mut client, "}\n");
    assert!(answer.contains(r#""message":"hello""#) && answer.contains("new_message"), "{answer}");
    assert!(mailboxes.readers.is_empty());
}

#[test]
fn a_newer_reader_ends_the_one_before() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let id = mailbox(&mut exchanges, &mut mailboxes);
    let (mut first, _) = poll(&mut exchanges, &mut mailboxes, &id);
    let (second, _) = poll(&mut exchanges, &mut mailboxes, &id);
    assert!(exchanges.read_until(&mut first, "}\n").contains(r#""superseded":true"#));
    assert_eq!((exchanges.owner(first.id), exchanges.owner(second.id)), (None, Some(FeatureId::Mailboxes)));
    assert_eq!(mailboxes.mailboxes.get(&id, exchanges.now()).unwrap().reader, Some(second.id));
}

#[test]
fn a_poll_that_its_client_has_closed_takes_no_text() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let id = mailbox(&mut exchanges, &mut mailboxes);
    let (client, _) = poll(&mut exchanges, &mut mailboxes, &id);
    exchanges.release(client.id);
    mailboxes.on_closed(&mut exchanges, client.id);
    put(&mut exchanges, &mut mailboxes, &id, "hello").unwrap();
    let (_, reply) = poll(&mut exchanges, &mut mailboxes, &id);
    assert!(matches!(reply, Reply::Counted(_, Transport::LongPoll, 1)), "{reply:?}");
}

#[test]
fn a_text_is_refused_only_if_all_bytes_are_in_mailboxes_with_readers() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let (now, text) = (exchanges.now(), "x".repeat(256 * 1024));
    let create = |exchanges: &mut Exchanges, mailboxes: &mut Mailboxes| {
        let mut mailbox = mailboxes.mailboxes.create(exchanges).unwrap();
        mailbox.begin_use();
        mailbox.id().clone()
    };
    let first = create(&mut exchanges, &mut mailboxes);
    put(&mut exchanges, &mut mailboxes, &first, &text).unwrap();
    let mut count = 1;
    let refused = loop {
        let id = create(&mut exchanges, &mut mailboxes);
        match put(&mut exchanges, &mut mailboxes, &id, &text) {
            Ok(()) => count += 1,
            Err(error) => break (id, error.status),
        }
    };
    assert_eq!((refused.1, count), (503, 255), "255 texts of 256 KiB and their mailboxes are nearly 64 MiB");
    mailboxes.mailboxes.get(&first, now).unwrap().end_use(now);
    put(&mut exchanges, &mut mailboxes, &refused.0, &text).unwrap();
    assert!(mailboxes.mailboxes.get(&first, now).is_err());
}

#[test]
fn a_restored_position_never_takes_a_reader_back() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let id = mailbox(&mut exchanges, &mut mailboxes);
    let start = mailboxes.mailboxes.get(&id, exchanges.now()).unwrap().position;
    for text in ["one", "two", "three"] {
        put(&mut exchanges, &mut mailboxes, &id, text).unwrap();
    }
    let next = |exchanges: &mut Exchanges, mailboxes: &mut Mailboxes| {
        let (mut client, reply) = poll(exchanges, mailboxes, &id);
        exchanges.handle(&client, reply);
        exchanges.read_until(&mut client, "}\n")
    };
    assert!(next(&mut exchanges, &mut mailboxes).contains("one"));
    mailboxes.restored(&mut exchanges, &id, "", start);
    assert!(next(&mut exchanges, &mut mailboxes).contains("two"));
    let feed = &mailboxes.mailboxes.get(&id, exchanges.now()).unwrap().feed;
    let (third, after_all) = (feed.last(1), feed.tip());
    mailboxes.restored(&mut exchanges, &id, "", third);
    assert!(next(&mut exchanges, &mut mailboxes).contains("three"));
    mailboxes.restored(&mut exchanges, &id, "", after_all);
    let (client, _) = poll(&mut exchanges, &mut mailboxes, &id);
    assert_eq!(exchanges.owner(client.id), Some(FeatureId::Mailboxes), "there is nothing more");
}

#[test]
fn a_position_from_elsewhere_takes_no_text_from_a_reader_that_waits() {
    let (mut exchanges, mut mailboxes) = (Exchanges::for_test(), Mailboxes::new(Stores::default()));
    let id = mailbox(&mut exchanges, &mut mailboxes);
    let start = mailboxes.mailboxes.get(&id, exchanges.now()).unwrap().position;
    let next = Cursor::of_parts(start.epoch(), 7, start.sequence() + 1).unwrap();
    let (mut client, reply) = poll(&mut exchanges, &mut mailboxes, &id);
    assert!(exchanges.handle(&client, reply));
    mailboxes.restored(&mut exchanges, &id, "", next);
    let body = json!({ "text": "once more", "timestamp": 1.0 }).to_string();
    mailboxes.appended(&mut exchanges, &id, next, body);
    assert!(exchanges.read_until(&mut client, "}\n").contains("once more"));
}
