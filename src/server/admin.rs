//! The handlers of the server itself: health, statistics, and the commands of an operator.

use serde_json::{Map, Value, json};

use super::ending::Phase;
use super::exchanges::{Call, Reply};
use super::params::ApiError;
use super::parked::Halt;
use super::senders::Sender;
use super::{Server, uncached};
use crate::http::{Content, Response};
use crate::identity::Rights;

impl Server {
    /// GET /health
    pub(super) fn health(&mut self) -> Result<Reply, Halt> {
        Ok(Reply::Now(uncached(&json!({ "status": "ok", "uptime": self.uptime() }))))
    }

    /// Returns the time since the start, in seconds.
    pub(super) fn uptime(&self) -> f64 {
        (self.exchanges.now() - self.started).as_secs_f64()
    }

    /// GET /health/ready: whether a balancer may send new clients here. 503 when messages cannot be stored, and from the
    /// moment of a shutdown, while all that is open is still served.
    pub(super) fn readiness(&mut self) -> Result<Reply, Halt> {
        match (&self.phase, self.exchanges.journal.trouble()) {
            (Phase::Serving, None) => Ok(Reply::Now(uncached(&json!({ "status": "ready" })))),
            (Phase::Serving, Some(trouble)) => Err(ApiError { status: 503, sentence: trouble.into() }.into()),
            _ => Err(ApiError::going_away().into()),
        }
    }

    /// GET /api/stats: the numbers of all servers that share the rooms.
    pub(super) fn statistics(&mut self) -> Result<Reply, Halt> {
        let mut json = match self.sums() {
            Some(sums) => sums,
            None => self.numbers(),
        };
        let (timestamp, ghosts) = (self.exchanges.timestamp(), self.ghosts());
        let own = json!({
            "timestamp": timestamp,
            "chaos": self.chaos,
            "tap_port": self.tap_port,
            "ghosts": ghosts,
        });
        json.pop(); // the closing brace
        json.push(',');
        json.push_str(&own.to_string()[1..]);
        json.push('\n');
        // Not copied into the outbox: with many rooms it is long.
        Ok(Reply::Now(statistics_response(Content::Shared(json.into_bytes().into()))))
    }

    /// Returns the numbers of this server, as JSON.
    pub(super) fn numbers(&mut self) -> String {
        let (mut numbers, mut memory) = (Map::new(), Map::new());
        let parked = self.parked.bytes();
        let (features, exchanges) = self.features();
        for feature in features {
            feature.add_statistics(exchanges, &mut numbers);
            feature.add_memory(&mut memory);
        }
        numbers.insert("connections".into(), exchanges.event_loop.connections().into());
        memory.insert("keys".into(), exchanges.journal.key_bytes().into());
        memory.insert("journal".into(), (exchanges.journal.bytes() + exchanges.senders.bytes() + parked).into());
        let shared_and_own = exchanges.memory();
        numbers.insert("transports".into(), exchanges.counts().to_json());
        if let Some(guard) = &self.guard {
            numbers.insert("wrong_keys".into(), guard.failures().into());
        }
        // What rooms have encoded, and what files are kept, is shared by connections. It has its own place in the books.
        let (files, shared_files) = self.files.memory();
        let own = shared_and_own.saturating_sub(self.rooms.encoded() + shared_files);
        memory.insert("connections".into(), own.into());
        memory.insert("files".into(), files.into());
        numbers.insert("memory".into(), memory.into());
        let mut json = Value::from(numbers).to_string();
        json.pop(); // the closing brace
        json.push(',');
        self.rooms.append_long_statistics(&mut json);
        json.push('}');
        json
    }

    /// HEAD /api/stats
    pub(super) fn statistics_head() -> Response {
        statistics_response(Content::Omitted(None))
    }

    /// DELETE /api/client/{id}: disconnects a client by its `client_id` from all servers, or a mailbox by its
    /// `connection_id`.
    pub(super) fn disconnect(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let path = call.request.path();
        let id = path.strip_prefix("/api/client/").unwrap_or_default();
        let mut clients = vec![call.client(id.to_owned())];
        let mut unknown = ApiError::not_found(format!("client {id:?} is unknown"));
        if clients[0] != id {
            // Clients of others have the names of their identities before their ids.
            match call.check(Rights::ADMIN) {
                Ok(()) => clients.push(id.to_owned()),
                Err(not_allowed) => unknown = not_allowed,
            }
        }
        let known = clients.iter().filter(|client| self.rooms.disconnect(&mut self.exchanges, client)).count();
        let result = if known > 0 { Ok(()) } else { Err(unknown) };
        if self.mailboxes.disconnect(&mut self.exchanges, id, result.is_err())? {
            return Ok(disconnected(Ok(()))); // it was deleted from the journal: so it is gone on all servers
        }
        self.exchanges.end_elsewhere(Sender::Operator(call.id, call.since, result), &clients);
        Ok(Reply::Later)
    }

    /// POST /api/forget: resets the held connections and drops the state of all features, as a restart does.
    pub(super) fn forget(&mut self) -> Result<Reply, Halt> {
        if !self.chaos {
            let sentence = "faults are off: start the server with --chaos".into();
            return Err(ApiError { status: 403, sentence }.into());
        }
        self.exchanges.reset_all();
        self.exchanges.journal.forget();
        let (features, exchanges) = self.features();
        for feature in features {
            feature.forget(exchanges);
        }
        Ok(Reply::Now(uncached(&json!({ "status": "forgotten" }))))
    }
}

/// Returns the answer to a request to end a client.
pub fn disconnected(result: Result<(), ApiError>) -> Reply {
    Reply::Now(match result {
        Ok(()) => uncached(&json!({ "status": "disconnected" })),
        Err(error) => error.response(),
    })
}

fn statistics_response(json: Content) -> Response {
    Response::new(200).with_content("application/json", json).with_field("Cache-Control", "no-store")
}
