//! The handlers of rooms, called without a server.

use std::time::Duration;

use super::*;
use crate::http::Content;
use crate::server::FeatureId;
use crate::server::testing::Client;

fn message_of<'a>(room: &'a str, text: &'a str) -> Publication<'a> {
    Publication { room, sender: "ada", text, key: None }
}

fn rooms() -> Rooms {
    Rooms::new(Retention::default(), Stores::default())
}

/// Publishes a message, and applies the change that follows. Returns the id of the message.
fn publish(exchanges: &mut Exchanges, rooms: &mut Rooms, message: &Publication<'_>) -> Cursor {
    rooms.publish(exchanges, Sender::Server, message).unwrap();
    exchanges.commit(rooms)
}

#[test]
fn a_held_poll_is_answered_by_the_next_message_of_its_room() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let mut client = exchanges.request("GET", "/api/poll?client_id=tab&room=tea", "");
    let reply = rooms.poll(&mut exchanges, &client.call()).unwrap();
    assert!(exchanges.handle(&client, reply));
    assert_eq!(exchanges.owner(client.id), Some(FeatureId::Rooms));
    publish(&mut exchanges, &mut rooms, &message_of("coffee", "elsewhere"));
    assert_eq!(exchanges.owner(client.id), Some(FeatureId::Rooms));
    let published = publish(&mut exchanges, &mut rooms, &message_of("tea", "here"));
    assert_eq!(exchanges.owner(client.id), None);
    let answer = exchanges.read_until(&mut client, "}\n");
    assert!(answer.contains(r#""text":"here""#) && answer.contains(&published.to_string()), "{answer}");
    assert!(rooms.readers.is_empty() && !rooms.clients.get_mut("tab").unwrap().is_held());
}

#[test]
fn a_poll_with_messages_is_answered_at_once() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    publish(&mut exchanges, &mut rooms, &message_of("tea", "one"));
    let second = publish(&mut exchanges, &mut rooms, &message_of("tea", "two"));
    let client = exchanges.request("GET", "/api/messages?room=tea", "");
    let reply = rooms.messages(&mut exchanges, &client.call()).unwrap();
    assert!(matches!(reply, Reply::Counted(_, Transport::ShortPoll, 2)), "{reply:?}");
    let poll = Poll { room: "tea", client: None, cursor: Some(second), timeout: Duration::from_secs(25) };
    assert!(matches!(rooms.hold_poll(&mut exchanges, &client.call(), poll), Ok(Reply::Later)));
}

#[test]
fn the_timer_of_a_poll_answers_it_and_that_of_a_stream_sends_a_heartbeat() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let mut poll = exchanges.request("GET", "/api/poll?client_id=tab", "");
    rooms.poll(&mut exchanges, &poll.call()).unwrap();
    rooms.on_timer(&mut exchanges, poll.id);
    assert!(exchanges.read_until(&mut poll, "}\n").contains(r#""status":"timeout","timeout":true"#));
    let mut stream = exchanges.request("GET", "/api/stream", "");
    rooms.stream(&mut exchanges, &stream.call()).unwrap();
    exchanges.read_until(&mut stream, "\r\n\r\n");
    rooms.on_timer(&mut exchanges, stream.id);
    assert_eq!(exchanges.read_until(&mut stream, "\n\r\n"), "1\r\n\n\r\n");
    assert_eq!(exchanges.owner(stream.id), Some(FeatureId::Rooms));
}

#[test]
fn a_known_key_publishes_nothing() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let message = Publication { key: Some("retry"), ..message_of("tea", "once") };
    let first = publish(&mut exchanges, &mut rooms, &message);
    assert_eq!(publish(&mut exchanges, &mut rooms, &message), first);
    assert_eq!(rooms.published("tea"), 1);
}

#[test]
fn a_client_stores_the_positions_of_its_latest_rooms() {
    let mut exchanges = Exchanges::for_test();
    let mut clients = Clients::new(&Stores::default());
    let position = crate::feed::Cursor::start(&mut exchanges.random);
    let id = clients.see("tab", exchanges.now()).unwrap();
    let mut client = clients.get_mut(&id).unwrap();
    for number in 0..limits::ROOMS_PER_CLIENT {
        client.set_position(&number.to_string(), position);
    }
    assert!(client.position("0").is_some() && !client.has_dropped_positions());
    client.set_position("one more", position);
    assert!(client.position("0").is_none() && client.has_dropped_positions());
}

/// A client that was removed and returns must not miss messages without notice.
#[test]
fn the_client_unseen_for_longest_makes_room_for_another() {
    let start = Exchanges::for_test().now();
    let mut clients = Clients::new(&Stores::default());
    let see = |clients: &mut Clients, id: &str, seconds: u64| {
        let id = clients.see(id, start + Duration::from_secs(seconds)).unwrap();
        clients.get_mut(&id).unwrap().has_dropped_positions()
    };
    assert!(!see(&mut clients, "first", 0) && !see(&mut clients, "second", 0));
    for number in 2..Stores::default().clients {
        assert!(!see(&mut clients, &number.to_string(), 1));
    }
    assert!(!see(&mut clients, "first", 2));
    assert!(see(&mut clients, "one more", 3), "it may have been here before");
    assert!(!see(&mut clients, "first", 4), "it was seen after the others");
    assert!(clients.get_mut("second").is_none() && clients.get_mut("3").is_some());
    let end = 4 + limits::CLIENT_LIFETIME.as_secs();
    clients.sweep(start + Duration::from_secs(end));
    assert!(!see(&mut clients, "second", end), "its position would have expired by now");
    assert!(clients.bytes() < 10_000, "{}", clients.bytes());
}

#[test]
fn the_bytes_of_clients_are_bounded() {
    let (mut exchanges, mut clients) = (Exchanges::for_test(), Clients::new(&Stores::default()));
    let (now, position) = (exchanges.now(), Cursor::start(&mut exchanges.random));
    let mut count = 0;
    while clients.get_mut(&format!("{:0512}", 5000)).is_some() || count <= 5000 {
        let id = clients.see(&format!("{count:0512}"), now).unwrap();
        let mut client = clients.get_mut(&id).unwrap();
        (0..limits::ROOMS_PER_CLIENT).for_each(|room| client.set_position(&room.to_string(), position));
        assert!(clients.bytes() < Stores::default().client_bytes + 2000, "{}", clients.bytes());
        count += 1;
    }
    assert!(clients.bytes() > Stores::default().client_bytes - 2000, "{}", clients.bytes());
    assert!((30_000..Stores::default().clients).contains(&count), "{count} clients with ids of 512 bytes in 16 rooms");
}

#[test]
fn the_streams_of_a_room_have_one_group_for_each_transport() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let mut clients = ["/api/stream", "/api/stream", "/api/events"].map(|target| exchanges.request("GET", target, ""));
    for client in &clients[..2] {
        rooms.stream(&mut exchanges, &client.call()).unwrap();
    }
    rooms.events(&mut exchanges, &clients[2].call()).unwrap();
    let group_of = |exchanges: &Exchanges, client: &Client| exchanges.event_loop.group_of(client.id);
    let groups = clients.each_ref().map(|client| group_of(&exchanges, client));
    assert!(groups[0].is_some() && groups[0] == groups[1] && groups[2].is_some() && groups[1] != groups[2]);
    rooms.end(&mut exchanges, clients[0].id, EndReason::Disconnected);
    publish(&mut exchanges, &mut rooms, &message_of("general", "hello"));
    assert!(!exchanges.read_until(&mut clients[0], "0\r\n\r\n").contains("hello"));
    assert!(exchanges.read_until(&mut clients[1], "}\n").contains("hello"));
    assert!(exchanges.read_until(&mut clients[2], "\n\n").contains("retry"));
    assert!(exchanges.read_until(&mut clients[2], "\n\n").contains("hello"));
    for client in &clients[1..] {
        rooms.end(&mut exchanges, client.id, EndReason::Disconnected);
    }
    assert!(!rooms.has_streams("general"));
}

#[test]
fn what_is_encoded_is_bounded_over_all_rooms() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let text = "x".repeat(60_000);
    for number in 0..20 {
        let name = number.to_string();
        (0..17).for_each(|_| _ = publish(&mut exchanges, &mut rooms, &message_of(&name, &text)));
        let room = rooms.rooms.get_mut(&name).unwrap();
        room.used += Duration::from_secs(number);
        let everything = room.replay_everything().after;
        for transport in Transport::ALL {
            assert_eq!(room.rope(everything, transport).slices().len(), 17);
        }
        rooms.rooms.bound_encoded();
        assert!(rooms.encoded() <= Stores::default().encoded_bytes);
    }
    assert!(rooms.encoded() > Stores::default().encoded_bytes * 9 / 10);
    let kept = (0..20).filter(|number| rooms.rooms.get(&number.to_string()).unwrap().blocks.encoded() > 0);
    assert_eq!(kept.collect::<Vec<_>>(), (4..20).collect::<Vec<_>>(), "the rooms that were used last");
    // The answers of held polls are encoded too.
    for number in 0..40 {
        let polled = exchanges.request("GET", &format!("/api/poll?client_id=a&room=polled{number}"), "");
        rooms.poll(&mut exchanges, &polled.call()).unwrap();
        publish(&mut exchanges, &mut rooms, &message_of(&format!("polled{number}"), &text));
        assert!(rooms.encoded() <= Stores::default().encoded_bytes, "after {number} polls");
    }
}

#[test]
fn the_loss_of_the_newest_messages_is_told_to_every_reader() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let kept = publish(&mut exchanges, &mut rooms, &message_of("tea", "kept"));
    let lost = publish(&mut exchanges, &mut rooms, &message_of("tea", "lost"));
    let target = format!("?client_id=tab&room=tea&last_message_id={lost}");
    let mut poll = exchanges.request("GET", &format!("/api/poll{target}"), "");
    rooms.poll(&mut exchanges, &poll.call()).unwrap();
    let mut stream = exchanges.request("GET", &format!("/api/stream{target}"), "");
    rooms.stream(&mut exchanges, &stream.call()).unwrap();
    rooms.truncated(&mut exchanges, "tea", kept);
    let answer = exchanges.read_until(&mut poll, "}\n");
    let told =
        format!(r#"{{"messages":[],"status":"success","timeout":false,"recovered":false,"last_message_id":"{kept}"}}"#);
    assert!(answer.ends_with(&format!("{told}\n")), "{answer}");
    exchanges.read_until(&mut stream, "\r\n\r\n1\r\n\n\r\n");
    let notice = exchanges.read_until(&mut stream, "\n\r\n");
    assert!(notice.contains(r#""recovered":false"#) && notice.contains(&kept.to_string()), "{notice}");
    // What follows has the sequence of what was lost.
    let next = kept.next(&mut exchanges.random);
    rooms.appended(&mut exchanges, "tea", next, r#"{"text":"next","timestamp":1}"#.into());
    assert!(exchanges.read_until(&mut stream, "}\n").contains("next"));
    let room = rooms.rooms.get_mut("tea").unwrap();
    assert!(!room.feed.replay(lost).recovered && room.feed.replay(kept).recovered);
    let everything = room.replay_everything();
    let Content::Shared(content) = room.content(&room.batch(everything, SUCCESS)) else { panic!("it is short") };
    let content = String::from_utf8(content.to_vec()).unwrap();
    assert!(content.contains("kept") && content.contains("next") && !content.contains("lost"), "{content}");
}

#[test]
fn the_readers_of_a_removed_room_are_ended() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let mut poll = exchanges.request("GET", "/api/poll?client_id=tab&room=tea", "");
    rooms.poll(&mut exchanges, &poll.call()).unwrap();
    let elsewhere = exchanges.request("GET", "/api/poll?client_id=tab&room=coffee", "");
    rooms.poll(&mut exchanges, &elsewhere.call()).unwrap();
    let tip = rooms.rooms.get("tea").unwrap().feed.tip();
    rooms.removed(&mut exchanges, "tea");
    assert!(exchanges.read_until(&mut poll, "}\n").contains(r#""messages":[]"#));
    assert!(rooms.rooms.get("tea").is_none() && rooms.readers.len() == 1);
    // A message that was asked for before is not delivered in a room that has the name now.
    let start = Cursor::start(&mut exchanges.random);
    rooms.opened(&mut exchanges, LogName::Room("tea".into()), start);
    let late = tip.next(&mut exchanges.random);
    rooms.appended(&mut exchanges, "tea", late, r#"{"text":"late","timestamp":1}"#.into());
    assert_eq!(rooms.published("tea"), 0);
}

#[test]
fn a_restored_client_continues_at_its_position() {
    let (mut exchanges, mut rooms) = (Exchanges::for_test(), rooms());
    let start = Cursor::start(&mut exchanges.random);
    rooms.opened(&mut exchanges, LogName::Room("tea".into()), start);
    let mut cursors = vec![start];
    for text in ["one", "two"] {
        let next = cursors.last().unwrap().next(&mut exchanges.random);
        rooms.appended(&mut exchanges, "tea", next, format!(r#"{{"text":"{text}","timestamp":1}}"#));
        cursors.push(next);
    }
    rooms.restored(&mut exchanges, "tea", "tab", cursors[1]);
    let mut poll = exchanges.request("GET", "/api/poll?client_id=tab&room=tea", "");
    let reply = rooms.poll(&mut exchanges, &poll.call()).unwrap();
    exchanges.handle(&poll, reply);
    let answer = exchanges.read_until(&mut poll, "}\n");
    assert!(!answer.contains("one") && answer.contains("two") && answer.contains(r#""recovered":true"#), "{answer}");
}

#[test]
fn messages_older_than_the_retained_time_are_dropped() {
    let time = Some(Duration::from_secs(60));
    let mut exchanges = Exchanges::for_test();
    let mut rooms = Rooms::new(Retention { time, ..Retention::default() }, Stores::default());
    let old = publish(&mut exchanges, &mut rooms, &message_of("tea", "old"));
    exchanges.event_loop.remote().advance_clock(Duration::from_secs(59));
    publish(&mut exchanges, &mut rooms, &message_of("tea", "new"));
    let read = |rooms: &Rooms| {
        let feed = &rooms.rooms.get("tea").unwrap().feed;
        feed.after(feed.last(usize::MAX)).len()
    };
    rooms.sweep(&mut exchanges);
    assert_eq!(read(&rooms), 2);
    exchanges.event_loop.remote().advance_clock(Duration::from_secs(2));
    rooms.sweep(&mut exchanges);
    assert_eq!(read(&rooms), 1);
    let room = rooms.rooms.get_mut("tea").unwrap();
    assert!(room.feed.replay(old).recovered, "a reader that had it has missed nothing");
    assert_eq!(room.rope(old, Transport::Stream).slices().len(), 1);
    exchanges.event_loop.remote().advance_clock(Duration::from_secs(60));
    rooms.sweep(&mut exchanges);
    assert_eq!(read(&rooms), 0);
    assert!(publish(&mut exchanges, &mut rooms, &message_of("tea", "next")).sequence() == 3 && read(&rooms) == 1);
}
