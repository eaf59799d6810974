//! Clients and their bounds: the connections of each, and the bytes that are read from them.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::turns::Due;
use super::{EventLoop, ExchangeId};
use crate::http::Response;
use crate::quotas::{Bound, Exceeded, Place, Quota, Quotas};
use crate::slab::Key;

/// The largest number of connections of one client beyond its bound that get an answer. Those beyond that are closed.
const REFUSALS: u32 = 16;

impl EventLoop {
    /// Returns the quotas of all clients, whose bounds are [`Limits::per_client`](crate::Limits::per_client).
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Returns the quotas of all clients, to find one or to sweep them.
    pub fn quotas_mut(&mut self) -> &mut Quotas {
        &mut self.quotas
    }

    /// Returns the quota that a connection counts for. `None` if its client is exempt, or if it is shared by the clients
    /// of a trusted proxy.
    pub fn quota(&self, id: ExchangeId) -> Option<&Rc<Quota>> {
        let peer = self.peers.get(id.key).filter(|peer| peer.exchange == id.number)?;
        peer.place.as_ref().map(Place::quota)
    }

    /// Returns the quota of a client by its address. `None` if it is exempt: it is a trusted proxy, which has many clients,
    /// or this machine.
    pub fn quota_of(&mut self, client: IpAddr) -> Option<Rc<Quota>> {
        if self.proxies.trusts(client) { None } else { self.quotas.of_address(client, self.context.now) }
    }

    /// Whether a connection is shared by the clients of a trusted proxy.
    pub fn is_shared(&self, id: ExchangeId) -> bool {
        self.client_of_connection(id.key).address.is_some_and(|address| self.proxies.trusts(address))
    }

    /// Lets a connection count for another client from now on, such as the identity that a request has. `place` is one of
    /// [`Bound::Connections`].
    pub fn assign(&mut self, id: ExchangeId, place: Place) {
        if let Some(peer) = self.peers.get_mut(id.key).filter(|peer| peer.exchange == id.number) {
            peer.place = Some(place);
        }
    }

    /// Takes a place for a connection that comes in from this address. It may be beyond the bound. The error is that
    /// there are too many beyond it.
    pub(super) fn place_for(&mut self, address: IpAddr) -> Result<Option<Place>, Exceeded> {
        let Some(quota) = self.quota_of(address) else { return Ok(None) };
        match quota.check(Bound::Connections) {
            Err(exceeded) if quota.held(Bound::Connections) >= exceeded.most.saturating_add(REFUSALS) => Err(exceeded),
            _ => Ok(Some(quota.hold(Bound::Connections))),
        }
    }

    /// A proxy has announced the client of a connection, or it is its own client.
    pub(super) fn place_announced(&mut self, key: Key) {
        let Some(address) = self.client_of_connection(key).address else { return };
        let place = self.place_for(address);
        let Some(peer) = self.peers.get_mut(key) else { return };
        match place {
            Ok(place) => {
                peer.is_beyond = place.as_ref().is_some_and(Place::is_beyond);
                peer.place = place;
            }
            Err(_) => peer.connection.reset(),
        }
    }

    /// Refuses the first request of a connection for which there is no place, and closes it. So the answer can be read by
    /// a page of another origin, unlike one that is sent before the request.
    pub(super) fn refuse_request(&mut self, id: ExchangeId) {
        let most = self.context.limits.per_client.connections;
        let exceeded = Exceeded { bound: Bound::Connections, most };
        let response = Response::error(429, &exceeded.to_string()).with_field("Retry-After", "1");
        self.answer(id, 429, 0, |connection, context, _| {
            connection.answer_and_close(&response, context);
            None
        });
    }

    /// Puts the turn of a connection off: its client has sent more than it may for now. What it has sent waits in the
    /// socket, and a deadline waits for it.
    pub(super) fn pause_turn(&mut self, key: Key, pause: Duration) {
        if let Some(place) = self.peers.get(key).and_then(|peer| peer.place.as_ref()) {
            place.quota().refuse(Bound::Bytes);
        }
        self.agenda.timers.set(self.context.now + pause, Due::Turn(key));
    }
}
