//! The two-channel demo: two rooms of [`Rooms`]. Long polls read one of them. Event streams read the other, in which
//! a ticker publishes.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::exchanges::{Call, Exchanges, Reply};
use super::params::{self, ApiError, Fields, TEXT};
use super::parked::Halt;
use super::rooms::{POLL_SECONDS, Poll, Publication, Rooms, Subscription};
use super::senders::{Answer, Sender};
use crate::event_loop::TimerId;
use crate::http::{Request, Response};
use crate::sse;

/// The room of the long polls.
const LONG_POLL_ROOM: &str = "longpoll";

/// The room of the event streams.
const TICKER_ROOM: &str = "ticker";

/// The interval of the ticker.
const TICK: Duration = Duration::from_secs(3);

/// The state of the demo: its ticker.
#[derive(Default)]
pub struct Demo {
    /// The timer of the next tick, while a stream is open.
    ticker: Option<TimerId>,
}

impl Demo {
    /// GET /poll
    pub fn poll(&self, exchanges: &mut Exchanges, rooms: &mut Rooms, call: &Call<'_>) -> Result<Reply, Halt> {
        let cursor = params::cursor(call.request, "last_message_id")?;
        call.enter(LONG_POLL_ROOM)?;
        let timeout = Duration::from_secs(POLL_SECONDS);
        rooms.hold_poll(exchanges, call, Poll { room: LONG_POLL_ROOM, client: None, cursor, timeout })
    }

    /// HEAD /poll
    pub fn poll_head(request: &Request) -> Result<Response, ApiError> {
        params::cursor(request, "last_message_id").map(|_| Poll::head())
    }

    /// POST /send
    pub fn send(&self, exchanges: &mut Exchanges, rooms: &mut Rooms, call: &Call<'_>) -> Result<Reply, Halt> {
        exchanges.may_publish()?;
        let fields = Fields::of_content(call.request)?;
        let text = fields.required("message", &TEXT)?;
        call.enter(LONG_POLL_ROOM)?;
        let sender = call.grant.as_ref().map_or("anonymous", |grant| &grant.key().name);
        let message = Publication { room: LONG_POLL_ROOM, sender, text, key: None };
        rooms.publish(exchanges, call.sender(Answer::Sent), &message)?;
        Ok(Reply::Later)
    }

    /// GET /events
    pub fn events(&self, exchanges: &mut Exchanges, rooms: &mut Rooms, call: &Call<'_>) -> Result<Reply, Halt> {
        rooms.begin_events(exchanges, call, &Subscription::to_events_of(TICKER_ROOM, call.request)?)
    }

    /// HEAD /events
    pub fn events_head(request: &Request) -> Result<Response, ApiError> {
        Subscription::to_events_of(TICKER_ROOM, request).map(|_| sse::stream_head())
    }

    /// Starts the ticker if a stream of its room is open, also one that `/api/events` or `/api/ws` has opened.
    pub fn after_request(&mut self, exchanges: &mut Exchanges, rooms: &Rooms) {
        if self.ticker.is_none() && rooms.has_streams(TICKER_ROOM) {
            self.ticker = Some(exchanges.event_loop.set_timer(TICK));
        }
    }

    /// Publishes a tick if this is the ticker's timer. The ticker stops when no stream is open.
    pub fn on_timer(&mut self, exchanges: &mut Exchanges, rooms: &mut Rooms, timer: TimerId) {
        if self.ticker.take_if(|ticker| *ticker == timer).is_none() || !rooms.has_streams(TICKER_ROOM) {
            return;
        }
        let text = format!("Message {}", rooms.published(TICKER_ROOM) + 1);
        // Publishing fails only when a new room does not fit, and this room exists.
        let message = Publication { room: TICKER_ROOM, sender: "ticker", text: &text, key: None };
        let _ = rooms.publish(exchanges, Sender::Server, &message);
        self.ticker = Some(exchanges.event_loop.set_timer(TICK));
    }
}
