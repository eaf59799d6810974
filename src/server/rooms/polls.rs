//! Polls of a room, which may be held, and answers that never are: short polls and the history.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::map::OpenFor;
use super::room::Batch;
use super::{Reader, ReaderKind, Rooms};
use crate::feed::Cursor;
use crate::http::{Content, Method, Request, Response};
use crate::journal::{LogName, Wanted};
use crate::quotas::Bound;
use crate::server::FeatureId;
use crate::server::exchanges::{Call, EndReason, Exchanges, Reply};
use crate::server::message::Transport;
use crate::server::params::{self, ApiError, ID};
use crate::server::parked::Halt;

/// The default duration of a poll, in seconds.
pub const POLL_SECONDS: u64 = 25;

/// The longest duration of a poll whose cursor is not recovered. Its client must learn this soon, but must not poll in
/// a busy loop.
const NOT_RECOVERED_POLL: Duration = Duration::from_secs(1);

/// The members of a poll's answer between `messages` and `recovered`, when there are messages.
pub const SUCCESS: &str = r#""status":"success","timeout":false"#;

/// The parameters of a poll.
pub struct Poll<'a> {
    /// The name of the room.
    pub room: &'a str,
    /// The client, if it has named itself.
    pub client: Option<Rc<str>>,
    /// The last message that the client has.
    pub cursor: Option<Cursor>,
    /// The longest time that the poll is held without messages.
    pub timeout: Duration,
}

impl Poll<'_> {
    /// The head of the answer, for HEAD.
    pub fn head() -> Response {
        json_response(Content::Omitted(None))
    }
}

impl Rooms {
    /// GET /api/poll
    pub fn poll(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let (client, room, cursor, timeout) = poll_parameters(call.request)?;
        call.enter(&room)?;
        let client = call.client(client);
        if cursor.is_none() {
            exchanges.find(Wanted::Client(client.as_str().into()))?;
        }
        let client = Some(self.clients.see(&client, exchanges.now())?);
        self.hold_poll(exchanges, call, Poll { room: &room, client, cursor, timeout })
    }

    /// HEAD /api/poll
    pub fn poll_head(request: &Request) -> Result<Response, ApiError> {
        poll_parameters(request).map(|_| Poll::head())
    }

    /// Answers a poll if there are messages for it, and holds it otherwise. A client without a cursor continues after
    /// the last message that it was sent, so no message is lost between two of its polls.
    pub fn hold_poll(&mut self, exchanges: &mut Exchanges, call: &Call<'_>, poll: Poll<'_>) -> Result<Reply, Halt> {
        let room = self.rooms.open(poll.room, OpenFor::Reading, exchanges)?;
        let mut client = poll.client.as_ref().and_then(|id| self.clients.get_mut(id));
        let position = client.as_ref().and_then(|client| client.position(&room.name));
        let from = match poll.cursor.or(position) {
            None if client.as_ref().is_some_and(|client| client.has_dropped_positions()) => room.replay_everything(),
            cursor => room.replay(cursor, exchanges)?,
        };
        if !from.recovered {
            exchanges.metrics.returned(Transport::LongPoll, false);
        }
        let messages = room.feed.after(from.after).len() as u64;
        if let Some(client) = &mut client {
            if messages > 0 {
                client.note_position(&mut exchanges.journal, &room.log, room.feed.tip());
            } else if poll.cursor.is_some() || position.is_none() {
                client.note_position(&mut exchanges.journal, &room.log, poll.cursor.unwrap_or(from.after));
            }
        }
        if messages > 0 {
            let content = room.content(&room.batch(from, SUCCESS));
            self.rooms.bound_encoded();
            return Ok(Reply::Counted(json_response(content), Transport::LongPoll, messages));
        }
        exchanges.may_hold(Bound::Polls)?;
        room.polls.insert(call.id);
        room.present.add(poll.client.as_deref());
        if let Some(mut client) = client {
            client.hold(call.id);
        }
        let reader = Reader { room: room.name.clone(), client: poll.client, kind: ReaderKind::Poll(from) };
        self.readers.insert(call.id, reader);
        let timeout = if from.recovered { poll.timeout } else { poll.timeout.min(NOT_RECOVERED_POLL) };
        exchanges.hold(call, FeatureId::Rooms, Transport::LongPoll, Some(timeout));
        Ok(Reply::Later)
    }

    /// GET /api/messages
    pub fn messages(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let cursor = params::cursor(call.request, "last_message_id")?;
        let room = params::room(call.request)?;
        call.enter(&room)?;
        let room = self.rooms.open(&room, OpenFor::Reading, exchanges)?;
        let from = room.replay(Some(cursor.unwrap_or(room.feed.last(usize::MAX))), exchanges)?;
        let batch = room.batch(from, r#""stopPolling":false"#);
        if call.request.method() == Method::Head {
            return Ok(Reply::Now(json_response(room.length(&batch))));
        }
        let messages = room.feed.after(from.after).len() as u64;
        let content = room.content(&batch);
        self.rooms.bound_encoded();
        Ok(Reply::Counted(json_response(content), Transport::ShortPoll, messages))
    }

    /// GET /api/history
    pub fn history(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let name = params::room(call.request)?;
        call.enter(&name)?;
        let limit = params::number(call.request, "limit", 20, 1..=100)?;
        let before = format!(r#"{{"room":{},"messages":["#, json!(name));
        if self.rooms.get(&name).is_none() {
            exchanges.find(Wanted::Log(LogName::Room(name.as_str().into())))?;
        }
        let Some(room) = self.rooms.get_mut(&name) else {
            return Ok(Reply::Now(json_response(before + "]}\n")));
        };
        room.used = exchanges.now();
        let batch = Batch { before, position: room.feed.last(limit as usize), after: "]}\n".into() };
        if call.request.method() == Method::Head {
            return Ok(Reply::Now(json_response(room.length(&batch))));
        }
        let content = room.content(&batch);
        self.rooms.bound_encoded();
        Ok(Reply::Now(json_response(content)))
    }
}

/// Returns the members of a poll's answer between `messages` and `recovered`, when there are no messages.
pub fn status_of_empty_answer(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Disconnected | EndReason::Ended => r#""status":"disconnected","timeout":false"#,
        EndReason::TimedOut
        | EndReason::Superseded
        | EndReason::MadeRoom
        | EndReason::Removed
        | EndReason::SessionOver
        | EndReason::NotAllowed
        | EndReason::TooFast
        | EndReason::GoingAway => r#""status":"timeout","timeout":true"#,
    }
}

/// Reads the parameters of a poll: the client, the room, the cursor, and how long the poll is held.
fn poll_parameters(request: &Request) -> Result<(String, String, Option<Cursor>, Duration), ApiError> {
    let client = params::text(request, "client_id", &ID)?.ok_or_else(|| params::missing("client_id", &ID))?;
    let room = params::room(request)?;
    let cursor = params::cursor(request, "last_message_id")?;
    let seconds = params::number(request, "timeout", POLL_SECONDS, 5..=60)?;
    Ok((client, room, cursor, Duration::from_secs(seconds)))
}

/// Returns 200 with JSON that no cache stores.
pub fn json_response(json: impl Into<Content>) -> Response {
    Response::new(200).with_content("application/json", json).with_field("Cache-Control", "no-store")
}
