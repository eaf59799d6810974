//! What a connection has only while somebody looks at it or plays tricks on it: a tap, which copies its bytes, and
//! faults, which hold them back. Every other connection pays one branch for each read and each write.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::slab::Key;

/// What goes wrong on purpose with the bytes that one peer is sent. Together they act like one slow,
/// far, bad link: buffering first, then the delay, then the rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// How long after they were queued bytes are written.
    pub delay: Duration,
    /// How many bytes are collected before any is written, as a proxy does that buffers. What
    /// completes an answer is written at once.
    pub buffer: usize,
    /// How many bytes a second the peer takes; 0: as many as it wants.
    pub rate: u32,
    /// Nothing is written any more, and nothing is closed, until a deadline or a limit does it.
    pub mute: bool,
    /// The first half of what is written next is the last that is written: then the connection is
    /// closed.
    pub cut: bool,
}

/// What a tap has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tapped {
    /// Bytes of the peer, as they were read.
    Received(Vec<u8>),
    /// Bytes to the peer, as they were written.
    Sent(Vec<u8>),
    /// So many bytes, which were not kept: a request's content in chunks, which are taken off as they
    /// arrive, or an answer that was still to be written when the next request was tapped.
    NotKept(usize),
    /// Nothing follows. The answer is complete, or the connection is over.
    End {
        /// The connection is over.
        closed: bool,
    },
}

/// A tap and faults, on one exchange of one connection.
pub struct Probe {
    /// Which request of its connection.
    pub exchange: u32,
    /// How many bytes are still to be written that were queued before: answers to earlier requests.
    earlier: usize,
    /// How many bytes are still to be written of an answer that is complete.
    left: Option<usize>,
    /// What was written since it was last taken, if there is a tap.
    copy: Option<Vec<u8>>,
    gate: Option<Gate>,
    /// The timer that is set for [`open`](Self::open).
    pub timer: Option<Key>,
}

/// Holds back what has been queued.
struct Gate {
    faults: Faults,
    /// How much of all that was ever queued may be written when, in the order of both.
    releases: VecDeque<(u64, Instant)>,
    /// How much of it may be written now.
    released: u64,
    /// From when on the bytes of `rate` are counted.
    since: Instant,
    /// What was queued when nothing more could be written: only time, or more of it, changes that.
    shut_at: Option<Backed>,
    /// How much could be written when it was last looked at.
    allowed: usize,
}

/// What the gate depends on, except for the time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Backed {
    total: u64,
    /// The answer goes on. What may be in use besides is the next exchange of the connection.
    goes_on: bool,
}

/// A socket that takes no more than `allowed` bytes, which the probe is shown.
pub struct Sink<'a, W> {
    socket: &'a mut W,
    allowed: usize,
    probe: &'a mut Probe,
}

impl Probe {
    /// For an exchange of which nothing has been queued.
    pub fn new(exchange: u32, connection: &Connection) -> Self {
        Probe { exchange, earlier: connection.outbox().len(), left: None, copy: None, gate: None, timer: None }
    }

    /// Begins to copy what is sent.
    pub fn tap(&mut self) {
        self.copy = Some(Vec::new());
    }

    /// Whether there is a tap.
    pub fn is_tap(&self) -> bool {
        self.copy.is_some()
    }

    /// The answer is complete: what is queued from now on is not of this exchange.
    pub fn finish(&mut self, connection: &Connection) {
        self.left.get_or_insert(connection.outbox().len().saturating_sub(self.earlier));
    }

    /// Whether the exchange is over.
    pub fn is_over(&self) -> bool {
        self.earlier == 0 && self.left == Some(0)
    }

    /// Holds back what waits, and what will be queued.
    pub fn disturb(&mut self, faults: Faults, now: Instant, connection: &Connection) {
        let outbox = connection.outbox();
        self.gate = (faults != Faults::default()).then(|| Gate {
            faults,
            releases: VecDeque::new(),
            released: outbox.total() - outbox.len() as u64,
            since: now,
            shut_at: None,
            allowed: 0,
        });
    }

    /// Whether nothing is written any more.
    pub fn is_mute(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.faults.mute)
    }

    fn backed(&self, connection: &Connection) -> Backed {
        Backed { total: connection.outbox().total(), goes_on: self.left.is_none() && connection.is_in_use() }
    }

    /// Whether nothing of what waits can be written now.
    pub fn is_shut(&self, connection: &Connection) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.shut_at == Some(self.backed(connection)))
    }

    /// How many bytes may be written now.
    pub fn allowance(&mut self, connection: &Connection, now: Instant) -> usize {
        let backed = self.backed(connection);
        self.gate.as_mut().map_or(usize::MAX, |gate| gate.allowance(connection, backed, now))
    }

    /// Whether the connection is to be closed, because some of what was to be written has been.
    pub fn cuts(&self, written: usize) -> bool {
        written > 0 && self.gate.as_ref().is_some_and(|gate| gate.faults.cut)
    }

    /// Notes that so much was written.
    pub fn wrote(&mut self, count: usize) {
        let Some(gate) = &mut self.gate else { return };
        if count < gate.allowed {
            gate.shut_at = None; // it is the socket that takes no more
        }
        if gate.faults.rate > 0 {
            gate.since += Duration::from_secs_f64(count as f64 / f64::from(gate.faults.rate));
        }
    }

    /// When [`open`](Self::open) wants to be called: when more of what waits may be written.
    pub fn next_release(&self, connection: &Connection) -> Option<Instant> {
        self.gate.as_ref()?.next_release(connection)
    }

    /// It is time to look whether more may be written.
    pub fn open(&mut self) {
        self.timer = None;
        if let Some(gate) = &mut self.gate {
            gate.shut_at = None;
        }
    }

    /// What has been sent since the last call.
    pub fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.copy.as_mut().map(mem::take).filter(|sent| !sent.is_empty())
    }

    /// A socket that takes no more than `allowed` bytes, and shows them to the probe.
    pub fn sink<'a, W: Write>(&'a mut self, socket: &'a mut W, allowed: usize) -> Sink<'a, W> {
        Sink { socket, allowed, probe: self }
    }

    /// These bytes were written. Some may be of another exchange.
    fn see(&mut self, bytes: &[u8]) {
        let (_, mut ours) = bytes.split_at(self.earlier.min(bytes.len()));
        self.earlier -= bytes.len() - ours.len();
        if let Some(left) = &mut self.left {
            ours = &ours[..ours.len().min(*left)];
            *left -= ours.len();
        }
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(ours);
        }
    }
}

impl Gate {
    fn allowance(&mut self, connection: &Connection, backed: Backed, now: Instant) -> usize {
        let outbox = connection.outbox();
        let (waiting, total) = (outbox.len(), outbox.total());
        let mut allowed = waiting;
        if self.faults.mute || (backed.goes_on && waiting < self.faults.buffer) {
            allowed = 0;
        }
        if self.faults.delay > Duration::ZERO {
            if self.releases.back().map_or(self.released, |(offset, _)| *offset) < total {
                self.releases.push_back((total, now + self.faults.delay));
            }
            while let Some((offset, _)) = self.releases.front().copied().filter(|(_, at)| *at <= now) {
                self.released = offset;
                self.releases.pop_front();
            }
            let written = total - waiting as u64;
            allowed = allowed.min(self.released.saturating_sub(written) as usize);
        }
        if self.faults.rate > 0 {
            // What was not taken within the last second is not taken later on.
            self.since = self.since.max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
            let elapsed = now.saturating_duration_since(self.since);
            let credit = (elapsed.as_secs_f64() * f64::from(self.faults.rate)) as usize;
            allowed = if credit < self.lump(waiting) { 0 } else { allowed.min(credit) };
        }
        if self.faults.cut {
            allowed = allowed.div_ceil(2);
        }
        self.shut_at = (allowed < waiting).then_some(backed);
        self.allowed = allowed;
        allowed
    }

    /// A slow peer takes a tenth of a second's worth at a time.
    fn lump(&self, waiting: usize) -> usize {
        waiting.min((self.faults.rate as usize).div_ceil(10))
    }

    /// When more of what waits may be written, if time alone brings that.
    fn next_release(&self, connection: &Connection) -> Option<Instant> {
        let (waiting, total) = (connection.outbox().len(), connection.outbox().total());
        if waiting == 0 || self.shut_at.is_none() || self.faults.mute {
            return None;
        }
        let is_released = self.released > total - waiting as u64;
        let delayed = self.releases.front().map(|(_, at)| *at).filter(|_| !is_released);
        let rated = (self.faults.rate > 0).then(|| {
            // A moment more, so that rounding does not leave it a byte short.
            let lump = self.lump(waiting) as f64 / f64::from(self.faults.rate);
            self.since + Duration::from_secs_f64(lump) + Duration::from_millis(1)
        });
        delayed.max(rated)
    }
}

impl<W: Write> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.write(&bytes[..bytes.len().min(self.allowed)])?;
        self.probe.see(&bytes[..written]);
        Ok(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().map(|slice| slice.len()).sum::<usize>() > self.allowed {
            return self.write(&slices[0]);
        }
        let written = self.socket.write_vectored(slices)?;
        let mut rest = written;
        for slice in slices {
            let of_this = rest.min(slice.len());
            self.probe.see(&slice[..of_this]);
            rest -= of_this;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Context;
    use crate::http::Response;
    use crate::limits::Limits;

    /// A socket that takes so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.write(&bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn refused() -> Connection {
        let now = Instant::now();
        let context = Context { limits: Limits::default(), now, date: String::new(), draining: false };
        Connection::refused(&Response::error(503, "no"), &context)
    }

    #[test]
    fn a_tap_copies_the_bytes_of_its_exchange_however_they_are_written() {
        let slices = [&b"earlier"[..], b"", b"answer", b"later"];
        for (takes, allowed) in (1..=20).flat_map(|takes| (1..=20).map(move |allowed| (takes, allowed))) {
            let mut probe = Probe::new(1, &refused());
            probe.tap();
            (probe.earlier, probe.left) = (7, Some(6));
            let mut socket = Narrow(takes, Vec::new());
            let mut copied = Vec::new();
            while socket.1.len() < 18 {
                let mut skip = socket.1.len();
                let rest = slices.iter().map(|slice| {
                    let skipped = skip.min(slice.len());
                    skip -= skipped;
                    IoSlice::new(&slice[skipped..])
                });
                let rest: Vec<_> = rest.filter(|slice| !slice.is_empty()).collect();
                let before = socket.1.len();
                let written = probe.sink(&mut socket, allowed).write_vectored(&rest).unwrap();
                assert!(written > 0 && written <= takes.min(allowed) && before + written == socket.1.len());
                copied.extend(probe.take_sent().unwrap_or_default());
            }
            assert_eq!((&copied[..], probe.is_over()), (&b"answer"[..], true), "{takes}, {allowed}");
        }
    }
}
