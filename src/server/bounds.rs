//! The bounds of each client, as handlers ask for them: whose quota a request counts for, and what it has left.

use std::rc::Rc;

use super::exchanges::Exchanges;
use super::identity::Grant;
use super::message::Transport;
use super::params::ApiError;
use super::{FeatureId, Server};
use crate::event_loop::ExchangeId;
use crate::http::{Request, Response};
use crate::proxies::Client;
use crate::quotas::{Bound, Place, Quota};

impl Server {
    /// Returns the quota of a client that may be another than that of the connection: an identity, or the client of a
    /// proxy.
    ///
    /// # Errors
    /// 429 when the client has too many connections, or has sent too many bytes.
    pub(super) fn quota(
        &mut self,
        id: ExchangeId,
        request: &Request,
        client: &Client,
        grant: Option<&Grant>,
    ) -> Result<Option<Rc<Quota>>, Response> {
        let event_loop = &mut self.exchanges.event_loop;
        let now = event_loop.now();
        let is_shared = self.has_proxies && event_loop.is_shared(id);
        if !is_shared && event_loop.quota(id).is_none() {
            return Ok(None); // this machine is exempt
        }
        let quota = match (grant, client.address) {
            (Some(grant), _) => Some(event_loop.quotas_mut().of_identity(&grant.key().name, now)),
            (None, Some(address)) => event_loop.quota_of(address),
            (None, None) => event_loop.quota(id).cloned(),
        };
        let Some(quota) = quota else { return Ok(None) };
        if is_shared {
            // The next request on this connection may be that of another client. So it is read on, and this one pays.
            if quota.pause(now).is_some() {
                return Err(ApiError::exceeded(quota.refuse(Bound::Bytes)).response());
            }
            quota.take_bytes(request.wire_length(), now);
        } else if event_loop.quota(id).is_none_or(|other| !Rc::ptr_eq(other, &quota)) {
            let place = quota.take(Bound::Connections).map_err(|exceeded| ApiError::exceeded(exceeded).response())?;
            event_loop.assign(id, place);
        }
        Ok(Some(quota))
    }
}

impl Exchanges {
    /// Checks that the client whose request is handled may publish one more message now.
    ///
    /// # Errors
    /// 429 when it has published too many in a second.
    pub fn may_publish(&self) -> Result<(), ApiError> {
        match &self.quota {
            // A request that is handled again was counted before.
            Some(quota) if self.answered.is_empty() => quota.take_message(self.now()).map_err(ApiError::exceeded),
            _ => Ok(()),
        }
    }

    /// Whether the client whose message is beyond its rate may get an error for it, and stay.
    pub fn may_send_error(&self) -> bool {
        self.quota.as_ref().is_none_or(|quota| quota.take_error(self.now()))
    }

    /// Checks that the client whose request is handled may hold one more of these. [`hold`](Self::hold) counts it.
    ///
    /// # Errors
    /// 429 when it holds too many.
    pub fn may_hold(&self, bound: Bound) -> Result<(), ApiError> {
        self.quota.as_ref().map_or(Ok(()), |quota| quota.check(bound).map_err(ApiError::exceeded))
    }

    /// Takes a place for something that is not held by an exchange. `None` for a client that is exempt.
    ///
    /// # Errors
    /// 429 when the client whose request is handled has too many.
    pub fn take_place(&self, bound: Bound) -> Result<Option<Place>, ApiError> {
        self.quota.as_ref().map(|quota| quota.take(bound).map_err(ApiError::exceeded)).transpose()
    }
}

/// Returns the bound for what a feature holds on a transport.
pub fn bound_of(owner: FeatureId, transport: Transport) -> Bound {
    match (owner, transport) {
        (FeatureId::Signalling, _) => Bound::Signalling,
        (_, Transport::WebSocket) => Bound::WebSockets,
        (_, Transport::Stream | Transport::Sse) => Bound::Streams,
        (_, Transport::LongPoll | Transport::ShortPoll) => Bound::Polls,
    }
}
