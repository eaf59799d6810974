//! The handlers of sessions and tickets.

use serde_json::{Value, json};

use super::{address, client, cookie, time, too_many};
use crate::http::{Method, Request, Response};
use crate::identity::{Begun, Credential, Digest, Rights, RoomPattern, TICKET_TIME, Unknown};
use crate::journal::SecretName;
use crate::server::exchanges::{Call, Reply};
use crate::server::params::{ApiError, Fields, ID};
use crate::server::parked::Halt;
use crate::server::routes::{self, Found};
use crate::server::senders::Sender;
use crate::server::{Server, uncached};

impl Server {
    /// POST /api/session: a browser shows its key, and gets a cookie.
    pub(in crate::server) fn log_in(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        // A key in the wrong place is still a secret: a tap shows the answer.
        let fields = Fields::of_content(call.request).map_err(ApiError::without_value)?;
        let key = fields.required("key", &ID).map_err(ApiError::without_value)?;
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
        let begun = guard.identities.begin_session(&mut exchanges.random, key, time);
        let Some(Begun { secret, session, ended }) = begun else {
            return Err(ApiError::unauthorized("key: it is not valid any more").into());
        };
        ended.into_iter().for_each(|ended| exchanges.drop_session(Sender::Server, ended));
        let text = guard.identities.session_text(session).unwrap_or_default();
        let credential = Credential::Session(session);
        let seconds = guard.identities.expires(credential).map_or(0, |expires| expires.saturating_sub(time.date));
        let cookie = cookie(&secret, seconds, client.is_secure == Some(true) || is_https(call.request));
        let answer = uncached(&self.description(credential)).with_field("Set-Cookie", &cookie);
        self.exchanges.keep_secret(call.prepared(answer), SecretName::Session(session), &text);
        Ok(Reply::Later)
    }

    /// GET /api/session: who asks, and what they may do.
    pub(in crate::server) fn who_am_i(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let description = match &call.grant {
            Some(grant) => self.description(grant.credential()),
            None => {
                let all = (Rights::READ | Rights::SEND | Rights::ADMIN).names();
                let tap_port = self.tap_port;
                json!({ "name": null, "via": null, "rights": all, "rooms": ["*"], "expires": null, "tap_port": tap_port })
            }
        };
        Ok(Reply::Now(uncached(&description)))
    }

    /// DELETE /api/session: ends the session, and everything that is held with it.
    pub(in crate::server) fn log_out(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let guard = self.guard.as_mut().ok_or_else(no_identities)?;
        let Some(Credential::Session(session)) = call.grant.as_ref().map(|grant| grant.credential()) else {
            let sentence =
                "expected a session: a key is revoked with `overwire key revoke`, and a proxy logs out its users";
            return Err(ApiError::bad(sentence).into());
        };
        guard.identities.end_session(session);
        self.end_unauthorized();
        let answer = uncached(&json!({ "status": "logged out" })).with_field("Set-Cookie", &cookie("", 0, false));
        self.exchanges.drop_session(call.prepared(answer), session);
        Ok(Reply::Later)
    }

    /// POST /api/ticket
    pub(in crate::server) fn ticket(&mut self, call: &Call<'_>) -> Result<Reply, Halt> {
        let fields = Fields::of_content(call.request)?;
        let endpoint = fields.required("endpoint", &ID)?;
        let time = time(&self.exchanges);
        let Server { guard, exchanges, .. } = self;
        let (guard, grant) = guard.as_mut().zip(call.grant.as_ref()).ok_or_else(no_identities)?;
        if let Credential::Name(_) = grant.credential() {
            return Err(ApiError::bad("expected a key or a session: the proxy names the user of each request").into());
        }
        if !matches!(routes::find(Method::Get, endpoint), Found::Handler(..)) {
            let sentence = format!("endpoint: expected the path of a GET, such as /api/events, not {endpoint:?}");
            return Err(ApiError::bad(sentence).into());
        }
        let ticket = guard.identities.issue_ticket(&mut exchanges.random, grant.credential(), endpoint, time);
        let Some(ticket) = ticket else { return Ok(Reply::Now(too_many_tickets())) };
        let digest = Digest::of(&ticket);
        let text = guard.identities.ticket_text(digest).unwrap_or_default();
        let answer = uncached(&json!({ "ticket": ticket, "expires": time.date + TICKET_TIME.as_secs() }));
        exchanges.keep_secret(call.prepared(answer), SecretName::Ticket(digest), &text);
        Ok(Reply::Later)
    }

    fn description(&self, credential: Credential) -> Value {
        let time = time(&self.exchanges);
        let Some(identities) = self.guard.as_ref().map(|guard| &guard.identities) else { return Value::Null };
        let Some(key) = identities.resolve(credential, time) else { return Value::Null };
        let rooms: Vec<_> = key.rooms.iter().map(RoomPattern::as_str).collect();
        json!({
            "name": key.name,
            "via": via(credential),
            "rights": key.rights.names(),
            "rooms": rooms,
            "expires": identities.expires(credential),
            "tap_port": self.tap_port,
        })
    }
}

/// Returns the name of the way in which an identity came. Only a session can be ended by a log-out.
fn via(credential: Credential) -> &'static str {
    match credential {
        Credential::Key(_) => "key",
        Credential::Session(_) => "session",
        Credential::Name(_) => "proxy",
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
