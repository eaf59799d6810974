//! Looking at the bytes of a connection, and playing tricks on them: what the loop does with a probe.

use std::mem;
use std::net::SocketAddr;

use super::peer::Peer;
use super::probe::{Faults, Probe, Tapped};
use super::{ConnId, Due, EventLoop};
use crate::http::{Framing, Request};
use crate::slab::Key;

impl EventLoop {
    /// Taps an exchange, from this request on: a copy of each byte that goes over the wire waits in
    /// [`take_tapped`](Self::take_tapped) until the answer, the stream or the WebSocket is over.
    pub fn tap(&mut self, to: ConnId, request: &Request) {
        let Some(Peer { probe: Some(probe), .. }) = self.probed(to) else { return };
        probe.tap();
        if request.head().framing == Framing::Chunked {
            self.tell_tapped(to, Tapped::Received(request.head_bytes().to_vec()));
            self.tell_tapped(to, Tapped::NotKept(request.content().len()));
        } else {
            self.tell_tapped(to, Tapped::Received(request.wire_bytes().to_vec()));
        }
    }

    /// Has things go wrong with what this peer is sent from now on, and with what waits for it, until
    /// the exchange is over. What was wrong before is so no more.
    pub fn disturb(&mut self, to: ConnId, faults: Faults) {
        let now = self.world.now;
        let Some(Peer { connection, probe: Some(probe), .. }) = self.probed(to) else { return };
        probe.disturb(faults, now, connection);
        self.settle_unless_its_turn(to.key);
    }

    /// The connection of an exchange, with a probe on it, which is made if there was none. There is one
    /// at a time, so what waits of an exchange before this one is written first.
    fn probed(&mut self, to: ConnId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(to.key).filter(|peer| peer.exchange == to.exchange)?;
        if peer.probe.as_ref().is_some_and(|probe| probe.exchange != to.exchange) {
            let lost = peer.write(&self.world, &mut self.spares);
            self.after_probed_write(to.key);
            if lost.is_some() {
                self.after(to.key, lost);
                return None;
            }
        }
        let peer = self.peers.get_mut(to.key)?;
        if let Some(probe) = peer.probe.take_if(|probe| probe.exchange != to.exchange)
            && probe.is_tap()
        {
            let (earlier, length) = (ConnId { exchange: probe.exchange, ..to }, peer.connection.outbox().len());
            self.tell_tapped(earlier, Tapped::NotKept(length));
            self.tell_tapped(earlier, Tapped::End { closed: false });
        }
        let peer = self.peers.get_mut(to.key)?;
        if peer.probe.is_none() {
            peer.probe = Some(Box::new(Probe::new(to.exchange, &peer.connection)));
        }
        Some(peer)
    }

    /// Takes away the tap and the faults of an exchange.
    pub fn remove_probe(&mut self, to: ConnId) {
        let Some(peer) = self.peers.get_mut(to.key).filter(|peer| peer.exchange == to.exchange) else { return };
        peer.probe = None;
        self.settle_unless_its_turn(to.key);
    }

    /// Closes a connection now, whatever is under way, without a word to its peer.
    pub fn sever(&mut self, to: ConnId) {
        self.act(to, 0, |connection, _, _| connection.lose());
    }

    /// What the taps have seen since the last call, in the order in which it went over the wire. When
    /// there is something and nothing else to tell, an [`Event::Timer`](super::Event::Timer) comes that
    /// nobody has set.
    pub fn take_tapped(&mut self) -> Vec<(ConnId, Tapped)> {
        mem::take(&mut self.tapped)
    }

    /// How much waits to be written to a peer, in bytes.
    pub fn waiting(&self, of: ConnId) -> usize {
        self.peers.get(of.key).map_or(0, |peer| peer.connection.outbox().cost())
    }

    /// The other end of a connection.
    pub fn peer_address(&self, of: ConnId) -> Option<SocketAddr> {
        self.peers.get(of.key).and_then(|peer| peer.stream.peer_addr().ok())
    }

    pub(super) fn tell_tapped(&mut self, conn: ConnId, tapped: Tapped) {
        if self.tapped.is_empty() {
            self.timers.set(self.world.now, Due::Program);
        }
        self.tapped.push((conn, tapped));
    }

    /// Frames that came right behind the request that has just been answered with 101.
    pub(super) fn tap_early_frames(&mut self, to: ConnId) {
        let Some(peer) = self.peers.get(to.key).filter(|peer| peer.connection.is_websocket()) else { return };
        if !peer.probe.as_ref().is_some_and(|probe| probe.is_tap() && probe.exchange == to.exchange) {
            return;
        }
        let mut early = peer.connection.undecoded().to_vec();
        if let Some(turn) = self.turn.as_ref().filter(|turn| turn.key == to.key) {
            early.extend_from_slice(&self.buffer[turn.start..turn.end]);
        }
        if !early.is_empty() {
            self.tell_tapped(to, Tapped::Received(early));
        }
    }

    /// Tells what a tap has seen of a write, sets a timer for what was held back, and takes the probe
    /// away when its exchange is over.
    pub(super) fn after_probed_write(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(probe) = &mut peer.probe else { return };
        let (is_tap, sent, is_over) = (probe.is_tap(), probe.take_sent(), probe.is_over());
        let release = probe.next_release(&peer.connection);
        let conn = ConnId { key, exchange: probe.exchange };
        if is_over {
            peer.probe = None;
        }
        if let Some(at) = release {
            self.timers.set(at, Due::Release(key));
        }
        if let Some(bytes) = sent {
            self.tell_tapped(conn, Tapped::Sent(bytes));
        }
        if is_over && is_tap {
            self.tell_tapped(conn, Tapped::End { closed: false });
        }
    }

    fn settle_unless_its_turn(&mut self, key: Key) {
        if !self.has_turn(key) {
            self.settle(key);
        }
    }
}
