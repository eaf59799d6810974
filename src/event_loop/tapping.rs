//! Looking at the bytes of a connection, and playing tricks on them: what the loop does with a probe.

use std::mem;
use std::net::SocketAddr;

use super::peer::Peer;
use super::probe::{Faults, Probe, Tapped};
use super::{Due, EventLoop, ExchangeId};
use crate::http::{CONTINUE, Framing, Request};
use crate::slab::Key;

impl EventLoop {
    /// Taps an exchange, from this request on: a copy of each byte that goes over the wire waits in
    /// [`take_tapped`](Self::take_tapped) until the answer, the stream or the WebSocket is over.
    pub fn tap(&mut self, to: ExchangeId, request: &Request) {
        let probe = self.probed(to).and_then(|peer| peer.probe.as_mut());
        let is_lost = probe.map(|probe| probe.tap()).is_none();
        let (head, content, told_to_continue) =
            (request.head_bytes(), request.content(), request.head().expects_continue);
        let is_chunked = request.head().framing == Framing::Chunked;
        // What came at once is told at once.
        let first = if is_chunked || told_to_continue { head } else { request.wire_bytes() };
        self.tell_tapped(to, Tapped::Received(first.to_vec()));
        if told_to_continue {
            self.tell_tapped(to, Tapped::Sent(CONTINUE.to_vec()));
        }
        if is_chunked {
            self.tell_tapped(to, Tapped::NotKept(content.len()));
        } else if told_to_continue {
            self.tell_tapped(to, Tapped::Received(content.to_vec()));
        }
        if is_lost {
            self.tell_tapped(to, Tapped::End { closed: true });
        }
    }

    /// Has things go wrong with what this peer is sent from now on, and with what waits for it, until
    /// the exchange is over. What was wrong before is so no more.
    pub fn disturb(&mut self, to: ExchangeId, faults: Faults) {
        let now = self.world.now;
        let Some(Peer { connection, probe: Some(probe), .. }) = self.probed(to) else { return };
        probe.disturb(faults, now, connection);
        let timer = probe.timer.take();
        timer.and_then(|timer| self.timers.cancel(timer));
        self.settle_unless_its_turn(to.key);
    }

    /// The connection of an exchange, with a probe on it, which is made if there was none. There is one
    /// at a time, so what waits of exchanges before this one is written first: none of what goes wrong
    /// with this one is for them. Only what the socket does not take now shares its fate.
    fn probed(&mut self, to: ExchangeId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(to.key)?;
        if peer.has_probe_of(to.exchange) {
            return self.peers.get_mut(to.key);
        }
        if peer.exchange != to.exchange {
            return None;
        }
        if !peer.connection.outbox().is_empty() {
            let lost = peer.write(&self.world, &mut self.spares);
            self.after_probed_write(to.key);
            if lost.is_some() {
                self.after(to.key, lost);
                return None;
            }
        }
        let before = self.take_probe(to.key);
        let peer = self.peers.get_mut(to.key).filter(|peer| !peer.connection.is_closed())?;
        let mut probe = Probe::new(to.exchange, &peer.connection);
        // A connection that is half open is so to its end.
        if before.as_ref().is_some_and(|before| before.is_mute()) {
            probe.disturb(Faults { mute: true, ..Faults::default() }, self.world.now, &peer.connection);
        }
        let length = peer.connection.outbox().len();
        peer.probe = Some(Box::new(probe));
        if let Some(before) = before.filter(|before| before.is_tap()) {
            let earlier = ExchangeId { exchange: before.exchange, ..to };
            self.tell_tapped(earlier, Tapped::NotKept(length));
            self.tell_tapped(earlier, Tapped::End { closed: false });
        }
        self.peers.get_mut(to.key)
    }

    /// Takes the probe away from a connection, and with it the timer that is set for it.
    pub(super) fn take_probe(&mut self, key: Key) -> Option<Box<Probe>> {
        let probe = self.peers.get_mut(key)?.probe.take()?;
        if let Some(timer) = probe.timer {
            self.timers.cancel(timer);
        }
        Some(probe)
    }

    /// Takes away the tap and the faults of an exchange.
    pub fn remove_probe(&mut self, to: ExchangeId) {
        if self.peers.get(to.key).is_some_and(|peer| peer.has_probe_of(to.exchange)) {
            self.take_probe(to.key);
            self.settle_unless_its_turn(to.key);
        }
    }

    /// Closes a connection now, whatever is under way, without a word to its peer. What waits of the
    /// answer of a tapped exchange belongs to it, even if the next request is here already.
    pub fn sever(&mut self, to: ExchangeId) {
        let Some(peer) = self.peers.get_mut(to.key) else { return };
        if peer.exchange == to.exchange || peer.has_probe_of(to.exchange) {
            let outcome = peer.connection.lose();
            self.after(to.key, outcome);
        }
    }

    /// What the taps have seen since the last call, in the order in which it went over the wire. When
    /// there is something and nothing else to tell, an [`Event::Timer`](super::Event::Timer) comes that
    /// nobody has set.
    pub fn take_tapped(&mut self) -> Vec<(ExchangeId, Tapped)> {
        mem::take(&mut self.tapped)
    }

    /// How much waits to be written to a peer, in bytes.
    pub fn waiting(&self, of: ExchangeId) -> usize {
        self.peers.get(of.key).map_or(0, |peer| peer.connection.outbox().cost())
    }

    /// The other end of a connection.
    pub fn peer_address(&self, of: ExchangeId) -> Option<SocketAddr> {
        self.peers.get(of.key).and_then(|peer| peer.stream.peer_addr().ok())
    }

    pub(super) fn tell_tapped(&mut self, conn: ExchangeId, tapped: Tapped) {
        if self.tapped.is_empty() {
            self.timers.set(self.world.now, Due::Program);
        }
        self.tapped.push((conn, tapped));
    }

    /// Frames that came right behind the request that has just been answered with 101.
    pub(super) fn tap_early_frames(&mut self, to: ExchangeId) {
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
        let conn = ExchangeId { key, exchange: probe.exchange };
        if is_over {
            self.take_probe(key);
        } else if probe.timer.is_none()
            && let Some(at) = probe.next_release(&peer.connection)
        {
            probe.timer = Some(self.timers.set(at, Due::Release(key)));
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::Event;
    use crate::http::Response;
    use crate::limits::Limits;

    /// Lets the loop flush and sleep.
    fn turn(event_loop: &mut EventLoop) {
        let timer = event_loop.set_timer(Duration::from_millis(1));
        while !matches!(event_loop.next_event().unwrap(), Event::Timer(due) if due == timer) {}
        event_loop.take_tapped();
    }

    #[test]
    fn there_is_one_timer_for_what_is_held_back_and_none_afterwards() {
        let mut event_loop = EventLoop::bind("127.0.0.1:0", Limits::default()).unwrap();
        let mut client = TcpStream::connect(event_loop.local_address()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let Event::Request(conn, request) = event_loop.next_event().unwrap() else { panic!("a request was sent") };
        event_loop.tap(conn, &request);
        event_loop.begin(conn, Response::new(200));
        turn(&mut event_loop);
        let before = event_loop.timers.len();
        let held = Faults { delay: Duration::from_secs(60), ..Faults::default() };
        for _ in 0..10 {
            for faults in [held, Faults::default(), Faults { rate: 1, ..held }, held] {
                event_loop.send(conn, &crate::http::chunk(b"chunk"));
                event_loop.disturb(conn, faults);
                turn(&mut event_loop);
                assert!(event_loop.timers.len() <= before + 1);
            }
            assert_eq!(event_loop.timers.len(), before + 1);
        }
        event_loop.remove_probe(conn);
        assert_eq!(event_loop.timers.len(), before);
        event_loop.tap(conn, &request);
        event_loop.send(conn, &crate::http::chunk(b"chunk"));
        event_loop.disturb(conn, held);
        turn(&mut event_loop);
        event_loop.sever(conn);
        turn(&mut event_loop);
        assert_eq!((event_loop.timers.len(), event_loop.connections()), (0, 0));
    }
}
