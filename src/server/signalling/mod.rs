//! WebRTC signalling: a WebSocket for each peer of [`Signalling`]. Its rooms share only their names with those of
//! messages.

use serde_json::{Map, Value};

use super::connections::Place;
use super::exchanges::{Call, EndReason, Exchanges, Opening, Reply};
use super::message::Transport;
use super::params;
use super::parked::Halt;
use super::{Feature, FeatureId};
use crate::event_loop::ExchangeId;
use crate::quotas::Bound;
use crate::signalling::{Delivery, JoinError, Signalling};
use crate::websocket::{self, CloseCode, Message};

/// The most peers in a room. Each of them is notified of all others.
const PEERS_PER_ROOM: usize = 16;

/// The peers of all rooms.
pub struct Peers(Signalling<ExchangeId>);

impl Peers {
    /// Creates an empty set. One more than this number of rooms takes the place of the one whose only peer has waited for
    /// longest.
    pub fn new(rooms: usize) -> Self {
        Peers(Signalling::new(PEERS_PER_ROOM, rooms))
    }

    /// Returns the most bytes that this number of peers takes.
    pub fn bytes_of(peers: usize, rooms: usize) -> usize {
        Signalling::<ExchangeId>::bytes_of(peers, rooms)
    }

    /// GET /api/signal
    pub fn websocket(&mut self, exchanges: &mut Exchanges, call: &Call<'_>) -> Result<Reply, Halt> {
        let room = params::room(call.request)?;
        call.enter(&room)?;
        let opening = match Opening::websocket(call.request) {
            Ok(opening) => opening,
            Err(refusal) => return Ok(refusal),
        };
        exchanges.may_hold(Bound::Signalling)?;
        exchanges.begin(call, opening);
        let mut joined = self.0.join(call.id, exchanges.random.uuid(), &room);
        if let Err(JoinError::TooManyRooms(_)) = joined
            && let Some(alone) = self.0.alone_for_longest()
        {
            self.end(exchanges, alone, EndReason::MadeRoom);
            joined = self.0.join(call.id, exchanges.random.uuid(), &room);
        }
        match joined {
            Ok(deliveries) => {
                exchanges.hold(call, FeatureId::Signalling, Transport::WebSocket, None);
                deliveries.into_iter().for_each(|delivery| deliver(exchanges, delivery));
            }
            // A browser does not tell a page why a handshake failed. It does report the code and the reason of a Close.
            Err(error) => exchanges.event_loop.close(call.id, CloseCode::TRY_AGAIN_LATER, &error.to_string()),
        }
        Ok(Reply::Later)
    }

    fn leave(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        if let Some(delivery) = self.0.leave(id) {
            deliver(exchanges, delivery);
        }
    }
}

impl Feature for Peers {
    /// A peer sends a message to another one.
    fn on_message(&mut self, exchanges: &mut Exchanges, id: ExchangeId, message: &Message) -> Result<(), Halt> {
        deliver(exchanges, self.0.relay(id, message));
        Ok(())
    }

    fn on_closed(&mut self, exchanges: &mut Exchanges, id: ExchangeId) {
        self.leave(exchanges, id);
    }

    fn end(&mut self, exchanges: &mut Exchanges, id: ExchangeId, reason: EndReason) {
        match reason {
            // All peers leave together: none of them needs to know of the others.
            EndReason::GoingAway => drop(self.0.leave(id)),
            _ => self.leave(exchanges, id),
        }
        exchanges.end(id, reason);
    }

    fn place(&self, id: ExchangeId) -> Option<Place<'_>> {
        self.0.place_of(id).map(|(room, peer)| Place { room: Some(room), client_id: Some(peer), ..Place::default() })
    }

    fn sweep(&mut self, _: &mut Exchanges) {
        self.0.shrink();
    }

    fn forget(&mut self, _: &mut Exchanges) {
        self.0.clear();
    }

    fn add_memory(&self, memory: &mut Map<String, Value>) {
        memory.insert("signalling".into(), self.0.bytes().into());
    }
}

fn deliver(exchanges: &mut Exchanges, Delivery { to, text }: Delivery<ExchangeId>) {
    let frame = websocket::text(&text);
    for id in to {
        exchanges.send(id, &frame);
        exchanges.count_one(id);
    }
}
