//! The memory that all connections together keep, and what happens when it is too much.
//!
//! Each connection has its own bounds, but thousands of them can reach theirs at the same time. So there is one budget:
//! the bytes that connections alone keep, which are charged here, and all bytes that they share, which count themselves
//! ([`Shared`]). When it is exceeded, the connections that keep the most are reset until an eighth of it is free.

use std::cmp::Reverse;
use std::mem;

use super::EventLoop;
use super::peer::Peer;
use crate::bytes::Shared;
use crate::connection::Closed;
use crate::limits::Limits;
use crate::output;
use crate::slab::Key;

/// The memory that a connection was last known to keep alone, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    input: u32,
    output: u32,
}

/// The sum of all charges, and the state of the budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    charged: usize,
    /// From here on connections are reset, if that is above the limit: where resetting all of them did not help, it
    /// would help as little in the next turn.
    next: usize,
    /// Standard error has had its line. The next one follows when it has happened again after half was free.
    has_reported: bool,
}

impl Budget {
    /// Notes the memory of a connection's output. Most of the time there is none, and there was none.
    #[inline]
    pub fn charge_output(&mut self, peer: &mut Peer) {
        if peer.connection.queued() > 0 || peer.charge.output > 0 {
            self.replace(&mut peer.charge.output, peer.connection.output_memory());
        }
    }

    /// Notes the memory of a connection's input, which changes in its turns.
    #[inline]
    pub fn charge_input(&mut self, peer: &mut Peer, memory: usize) {
        if memory > 0 || peer.charge.input > 0 {
            self.replace(&mut peer.charge.input, memory);
        }
    }

    /// Notes both.
    pub fn charge(&mut self, peer: &mut Peer) {
        self.charge_input(peer, peer.connection.input_memory());
        self.charge_output(peer);
    }

    /// Notes that a connection is gone.
    pub fn discharge(&mut self, charge: Charge) {
        self.charged -= charge.input as usize + charge.output as usize;
    }

    fn replace(&mut self, charge: &mut u32, memory: usize) {
        let memory = u32::try_from(memory).unwrap_or(u32::MAX);
        self.charged += memory as usize;
        self.charged -= mem::replace(charge, memory) as usize;
    }

    /// The memory that all connections keep, in bytes, as far as it is known.
    pub fn sum(&self) -> usize {
        self.charged + Shared::live_memory()
    }

    #[inline]
    pub fn is_exceeded(&mut self, limits: &Limits) -> bool {
        let sum = self.sum();
        if sum <= limits.memory / 2 {
            (self.next, self.has_reported) = (0, false);
        }
        sum > limits.memory.max(self.next)
    }
}

impl EventLoop {
    /// Resets the connections that keep the most memory until an eighth of the budget is free.
    pub(super) fn free_memory(&mut self) {
        let limit = self.context.limits.memory;
        let mut keepers = self.keepers();
        if self.agenda.budget.sum() <= limit {
            return; // some have been written since they were charged
        }
        keepers.sort_unstable_by_key(|(kept, _)| Reverse(*kept));
        let mut count = 0;
        for (_, key) in keepers {
            if self.agenda.budget.sum() <= limit - limit / 8 {
                break;
            }
            let Some(peer) = self.peers.get_mut(key) else { continue };
            let outcome = peer.connection.abort(Closed::OverBudget);
            self.agenda.budget.charge(peer);
            self.after(key, outcome);
            count += 1;
        }
        let budget = &mut self.agenda.budget;
        budget.next = budget.sum() + limit / 8;
        if !mem::replace(&mut budget.has_reported, true) {
            output::complain(format_args!(
                "connections keep more than {limit} bytes, as much memory as they may have: {count} of those that keep \
                 the most were reset"
            ));
        }
    }

    /// Charges all connections, and returns those that keep something: the number of bytes, with those that others keep
    /// too.
    fn keepers(&mut self) -> Vec<(usize, Key)> {
        let (mut keepers, mut charged) = (Vec::new(), 0);
        for key in self.peers.keys().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(key) else { continue };
            self.agenda.budget.charge(peer);
            let connection = &peer.connection;
            let kept = connection.input_memory() + connection.output_memory().max(connection.queued());
            keepers.extend((kept > 0).then_some((kept, key)));
            charged += peer.charge.input as usize + peer.charge.output as usize;
        }
        debug_assert_eq!(self.agenda.budget.charged, charged, "each connection is charged once");
        keepers
    }
}
