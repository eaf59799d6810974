//! The handlers of sessions and tickets.

use serde_json::{Value, json};

use super::{address, client, cookie, time, too_many};
use crate::http::{Method, Request, Response};
use crate::identity::{Credential, Rights, RoomPattern, TICKET_TIME, Unknown};
use crate::server::exchanges::{Call, Reply};
use crate::server::params::{ApiError, Fields, ID};
use crate::server::parked::Halt;
use crate::server::routes::{self, Found};
use crate::server::{Server, uncached};

impl Server {
    /// POST /api/session: a browser shows its key, and gets a cookie.
    pub(in crate::server) fn log_in(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let fields = Fields::of_content(call.request)?;
        let key = fields.required("key", &ID)?;
        let (time, client) = (time(&self.exchanges), client(&self.exchanges, call.id, call.request));
        let Server { guard, exchanges, .. } = self;
        let guard = guard.as_mut().ok_or_else(no_identities)?;
        let key = match guard.identities.find_key(key, address(&client), time) {
            Ok(key) => key,
            Err(Unknown::TooMany(wait)) => return Ok(Reply::Now(too_many(wait))),
            Err(Unknown::Wrong) => {
                return Err(ApiError::unauthorized("key: it is unknown, or is not valid any more").into());
            }
        };
        let secret = guard.identities.begin_session(&mut exchanges.random, key, time);
        let session = secret.as_ref().and_then(|secret| guard.identities.find_session(secret, time));
        let (Some(secret), Some(session)) = (secret, session) else {
            return Err(ApiError::unauthorized("key: it is not valid any more").into());
        };
        let seconds = guard.identities.expires(session).map_or(0, |expires| expires.saturating_sub(time.date));
        let cookie = cookie(&secret, seconds, client.is_secure == Some(true) || is_https(call.request));
        Ok(Reply::Now(uncached(&self.description(session)).with_field("Set-Cookie", &cookie)))
    }

    /// GET /api/session: who asks, and what they may do.
    pub(in crate::server) fn who_am_i(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let description = match &call.grant {
            Some(grant) => self.description(grant.credential()),
            None => {
                let all = (Rights::READ | Rights::SEND | Rights::ADMIN).names();
                json!({ "name": null, "rights": all, "rooms": ["*"], "expires": null })
            }
        };
        Ok(Reply::Now(uncached(&description)))
    }

    /// DELETE /api/session: ends the session, and everything that is held with it.
    pub(in crate::server) fn log_out(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let guard = self.guard.as_mut().ok_or_else(no_identities)?;
        match call.grant.as_ref().map(|grant| grant.credential()) {
            Some(session @ Credential::Session(_)) => guard.identities.end_session(session),
            _ => return Err(ApiError::bad("expected a session: a key is revoked with `overwire key revoke`").into()),
        }
        self.end_unauthorized();
        let answer = uncached(&json!({ "status": "logged out" }));
        Ok(Reply::Now(answer.with_field("Set-Cookie", &cookie("", 0, false))))
    }

    /// POST /api/ticket
    pub(in crate::server) fn ticket(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let fields = Fields::of_content(call.request)?;
        let endpoint = fields.required("endpoint", &ID)?;
        let time = time(&self.exchanges);
        let Server { guard, exchanges, .. } = self;
        let (guard, grant) = guard.as_mut().zip(call.grant.as_ref()).ok_or_else(no_identities)?;
        if !matches!(routes::find(Method::Get, endpoint), Found::Handler(..)) {
            let sentence = format!("endpoint: expected the path of a GET, such as /api/events, not {endpoint:?}");
            return Err(ApiError::bad(sentence).into());
        }
        let ticket = guard.identities.issue_ticket(&mut exchanges.random, grant.credential(), endpoint, time);
        match ticket {
            Some(ticket) => {
                let expires = time.date + TICKET_TIME.as_secs();
                Ok(Reply::Now(uncached(&json!({ "ticket": ticket, "expires": expires }))))
            }
            None => Ok(Reply::Now(too_many_tickets())),
        }
    }

    fn description(&self, credential: Credential) -> Value {
        let time = time(&self.exchanges);
        let Some(identities) = self.guard.as_ref().map(|guard| &guard.identities) else { return Value::Null };
        let Some(key) = identities.resolve(credential, time) else { return Value::Null };
        let rooms: Vec<_> = key.rooms.iter().map(RoomPattern::as_str).collect();
        let expires = identities.expires(credential);
        json!({ "name": key.name, "rights": key.rights.names(), "rooms": rooms, "expires": expires })
    }
}

fn no_identities() -> ApiError {
    ApiError::not_found("there are no identities: start the server with --keys")
}

fn too_many_tickets() -> Response {
    let sentence = "too many tickets of this key are not used: use them, or try again later";
    Response::error(429, sentence).with_field("Retry-After", &TICKET_TIME.as_secs().to_string())
}

/// Whether the page that sent a request came by https. Its browser says so in Origin, whatever the last proxy speaks.
fn is_https(request: &Request) -> bool {
    let origin = request.field("origin").unwrap_or_default();
    origin.starts_with(b"https://") && request.is_own_origin(origin)
}
