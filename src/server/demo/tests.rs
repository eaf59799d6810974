//! The handlers of the demo, called without a server.

use super::*;
use crate::journal::Retention;
use crate::server::exchanges::EndReason;
use crate::server::{Feature, Stores};

#[test]
fn the_ticker_runs_while_a_stream_of_its_room_is_open() {
    let (mut exchanges, mut rooms, mut demo) =
        (Exchanges::for_test(), Rooms::new(Retention::default(), Stores::default()), Demo::default());
    demo.after_request(&mut exchanges, &rooms);
    assert_eq!(demo.ticker, None);
    let mut client = exchanges.request("GET", "/api/stream?room=ticker", "");
    rooms.stream(&mut exchanges, &client.call()).unwrap();
    demo.after_request(&mut exchanges, &rooms);
    let first = demo.ticker.unwrap();
    demo.on_timer(&mut exchanges, &mut rooms, first);
    exchanges.commit(&mut rooms);
    assert!(exchanges.read_until(&mut client, "}\n").contains(r#""text":"Message 1""#));
    let second = demo.ticker.unwrap();
    assert_ne!(first, second);
    demo.on_timer(&mut exchanges, &mut rooms, first);
    assert_eq!(rooms.published(TICKER_ROOM), 1);
    rooms.end(&mut exchanges, client.id, EndReason::GoingAway);
    demo.on_timer(&mut exchanges, &mut rooms, second);
    assert_eq!((demo.ticker, rooms.published(TICKER_ROOM)), (None, 1));
}
