//! The handlers of the server itself: health, statistics, and the commands of an operator.

use serde_json::{Map, Value, json};

use super::ending::Phase;
use super::exchanges::{Call, Reply};
use super::params::ApiError;
use super::parked::Halt;
use super::{Server, uncached};
use crate::http::{Content, Request, Response};
use crate::identity::Rights;

impl Server {
    /// GET /health
    pub(super) fn health(&mut self) -> Result<Reply, Halt> {
        let uptime = (self.exchanges.now() - self.started).as_secs_f64();
        Ok(Reply::Now(uncached(&json!({ "status": "ok", "uptime": uptime }))))
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

    /// GET /api/stats
    pub(super) fn statistics(&mut self) -> Result<Reply, Halt> {
        let (mut statistics, mut memory) = (Map::new(), Map::new());
        let parked = self.parked.bytes();
        let (features, exchanges) = self.features();
        for feature in features {
            feature.add_statistics(exchanges, &mut statistics);
            feature.add_memory(&mut memory);
        }
        statistics.insert("connections".into(), exchanges.event_loop.connections().into());
        memory.insert("keys".into(), exchanges.journal.key_bytes().into());
        memory.insert("journal".into(), (exchanges.journal.bytes() + exchanges.senders.bytes() + parked).into());
        let shared_and_own = exchanges.memory();
        statistics.insert("transports".into(), exchanges.counts().to_json());
        statistics.insert("timestamp".into(), exchanges.timestamp().into());
        if let Some(guard) = &self.guard {
            statistics.insert("wrong_keys".into(), guard.failures().into());
        }
        statistics.insert("chaos".into(), self.chaos.into());
        statistics.insert("tap_port".into(), self.tap_port.into());
        // What rooms have encoded, and what files are kept, is shared by connections. It has its own place in the books.
        let (files, shared_files) = self.files.memory();
        let own = shared_and_own.saturating_sub(self.rooms.encoded() + shared_files);
        memory.insert("connections".into(), own.into());
        memory.insert("files".into(), files.into());
        statistics.insert("memory".into(), memory.into());
        let mut json = Value::from(statistics).to_string();
        json.pop(); // the closing brace
        json.push(',');
        self.rooms.append_long_statistics(&mut json);
        json.push_str("}\n");
        // Not copied into the outbox: with many rooms it is long.
        Ok(Reply::Now(statistics_response(Content::Shared(json.into_bytes().into()))))
    }

    /// HEAD /api/stats
    pub(super) fn statistics_head(_: &Request) -> Result<Response, ApiError> {
        Ok(statistics_response(Content::Omitted(None)))
    }

    /// DELETE /api/client/{id}: disconnects a client by its `client_id`, or a mailbox by its `connection_id`.
    pub(super) fn disconnect(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let path = call.request.path();
        let id = path.strip_prefix("/api/client/").unwrap_or_default();
        let own = call.client(id.to_owned());
        let mut client = self.rooms.disconnect(&mut self.exchanges, &own);
        let mailbox = self.mailboxes.disconnect(&mut self.exchanges, id);
        if !client && !mailbox {
            // Clients of others have the names of their identities before their ids.
            call.check(Rights::ADMIN)?;
            client = self.rooms.disconnect(&mut self.exchanges, id);
        }
        if !client && !mailbox {
            return Err(ApiError::not_found(format!("client {id:?} is unknown")).into());
        }
        Ok(Reply::Now(uncached(&json!({ "status": "disconnected" }))))
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

fn statistics_response(json: Content) -> Response {
    Response::new(200).with_content("application/json", json).with_field("Cache-Control", "no-store")
}
