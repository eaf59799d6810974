//! The endpoint of WebRTC signalling. Its rooms have nothing but their names in common with those
//! of messages.

use super::message::Transport;
use super::params::ApiError;
use super::room_api::room_of;
use super::{Call, Purpose, Reply, Server};
use crate::event_loop::ExchangeId;
use crate::signalling::Delivery;
use crate::websocket::{self, CloseCode, Message};

/// How many peers a room takes, each of which is told of all the others, and how many rooms there
/// are at most.
pub(super) const PEERS_PER_ROOM: usize = 16;
pub(super) const MAX_ROOMS: usize = 1024;

impl Server {
    /// GET /api/signal
    pub(super) fn signal(&mut self, call: &Call<'_>) -> Result<Reply, ApiError> {
        let room = room_of(call)?;
        let head = match websocket::accept(call.request, &[]) {
            Ok(head) => head,
            Err(error) => return Ok(Reply::Now(error.response())),
        };
        self.event_loop.begin(call.conn, call.cors.apply(head));
        match self.signalling.join(call.conn, self.random.uuid(), &room) {
            Ok(deliveries) => {
                self.hold(call, Transport::WebSocket, Purpose::Signalling, None);
                deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
            }
            // A browser does not tell its page why a handshake failed, but it does tell it the code
            // and the reason of a Close.
            Err(error) => self.event_loop.close(call.conn, CloseCode::TRY_AGAIN_LATER, &error.to_string()),
        }
        Ok(Reply::Later)
    }

    /// A message from a peer, to another.
    pub(super) fn signalled(&mut self, conn: ExchangeId, message: &Message) {
        let delivery = self.signalling.relay(conn, message);
        self.deliver(delivery);
    }

    /// This peer is gone.
    pub(super) fn stop_signalling(&mut self, conn: ExchangeId) {
        if let Some(delivery) = self.signalling.leave(conn) {
            self.deliver(delivery);
        }
    }

    fn deliver(&mut self, Delivery { to, text }: Delivery<ExchangeId>) {
        let frame = websocket::text(&text);
        for conn in to {
            self.event_loop.send(conn, &frame);
            self.stats.of(Transport::WebSocket).messages += 1;
        }
    }
}
