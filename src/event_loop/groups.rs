//! Groups: what is sent to many exchanges in one turn is joined once, and queued once for each of them.
//!
//! A group keeps the bytes of this turn. At the flush, each member gets them in one piece. A member that is sent
//! something alone before that gets its share first, so each member receives everything in the order in which it was
//! sent.

use std::mem;

use super::peer::Peer;
use super::spares::Spares;
use super::{EventLoop, ExchangeId, GroupId};
use crate::bytes::Shared;
use crate::connection::{Context, Outcome};
use crate::slab::Key;

/// The largest number of bytes that a group keeps. Before there are more, they are handed over.
const LARGEST_PENDING: usize = 64 * 1024;

/// The largest number of places that a group keeps for the pieces of the next turn.
const KEPT_PLACES: usize = 64;

/// The place of a peer in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    group: u32,
    member: u32,
}

impl Membership {
    pub const NONE: Membership = Membership { group: u32::MAX, member: 0 };

    /// The slot of the group and the index of the member, if there is a group.
    fn get(self) -> Option<(usize, usize)> {
        (self != Membership::NONE).then_some((self.group as usize, self.member as usize))
    }
}

struct Member {
    key: Key,
    /// The number of pending pieces that it has got already.
    taken: u32,
}

/// The members of a group, and the bytes that wait for the next flush.
#[derive(Default)]
pub(super) struct Group {
    members: Vec<Member>,
    pending: Vec<Shared>,
    /// The sum of their lengths.
    pending_bytes: usize,
}

impl EventLoop {
    /// Creates a group without members.
    pub fn group(&mut self) -> GroupId {
        GroupId(self.groups.insert(Group::default()))
    }

    /// Removes a group. Its members stay open, and get what was sent to the group before.
    pub fn remove_group(&mut self, group: GroupId) {
        self.hand_over(group.0);
        let Some(group) = self.groups.remove(group.0) else { return };
        for member in group.members {
            if let Some(peer) = self.peers.get_mut(member.key) {
                peer.membership = Membership::NONE;
            }
        }
    }

    /// Adds an open stream or WebSocket to a group. It gets what is sent to the group from now on. An exchange is in
    /// one group at a time: it leaves the one that it was in. Does nothing if the exchange or the group is over.
    pub fn join(&mut self, group: GroupId, id: ExchangeId) {
        let is_member = |peer: &Peer| peer.membership.get().is_some_and(|(slot, _)| slot == group.0.slot());
        match self.peers.get(id.key).filter(|peer| peer.exchange == id.number && peer.connection.is_held()) {
            Some(peer) if !is_member(peer) && self.groups.get(group.0).is_some() => self.leave(id),
            _ => return,
        }
        if let (Some(group_of), Some(peer)) = (self.groups.get_mut(group.0), self.peers.get_mut(id.key))
            && peer.connection.is_held()
        {
            peer.membership = Membership { group: group.0.slot() as u32, member: group_of.members.len() as u32 };
            group_of.members.push(Member { key: id.key, taken: group_of.pending.len() as u32 });
        }
    }

    /// Removes an exchange from its group. It gets what was sent to the group before. An exchange that is over has left
    /// its group.
    pub fn leave(&mut self, id: ExchangeId) {
        if self.peers.get(id.key).is_some_and(|peer| peer.exchange == id.number) {
            self.catch_up(id.key);
            self.remove_member(id.key);
        }
    }

    /// Returns the group that an exchange is in.
    pub fn group_of(&self, id: ExchangeId) -> Option<GroupId> {
        let peer = self.peers.get(id.key).filter(|peer| peer.exchange == id.number)?;
        let (slot, _) = peer.membership.get()?;
        self.groups.at(slot).map(|(key, _)| GroupId(key))
    }

    /// Queues encoded bytes for all members of a group, as [`send`](Self::send) does for one. All that is sent to a
    /// group in one turn is joined once, and is one piece in the outbox of each member.
    pub fn send_to_group(&mut self, group: GroupId, bytes: &Shared) {
        let Some(members) = self.groups.get(group.0).map(|group| group.members.len()) else { return };
        if members == 0 || bytes.is_empty() {
            return;
        }
        let most = LARGEST_PENDING.min(self.context.limits.outbox / 2);
        if self.groups.get(group.0).is_some_and(|group| group.pending_bytes + bytes.len() > most) {
            self.hand_over(group.0);
        }
        let Some(group_of) = self.groups.get_mut(group.0) else { return };
        if group_of.pending.is_empty() {
            self.agenda.unflushed_groups.push(group.0);
        }
        group_of.pending.push(bytes.clone());
        group_of.pending_bytes += bytes.len();
    }

    /// The pieces that wait for a peer in its group.
    pub(super) fn pending_of(&self, peer: &Peer) -> &[Shared] {
        let Some((slot, member)) = peer.membership.get() else { return &[] };
        let group = self.groups.at(slot).filter(|(_, group)| !group.pending.is_empty());
        group.map_or(&[], |(_, group)| &group.pending[group.members[member].taken as usize..])
    }

    /// Queues the pieces that wait for one member, which is about to get something alone.
    pub(super) fn catch_up(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some((slot, member)) = peer.membership.get() else { return };
        let Some((_, group)) = self.groups.at_mut(slot) else { return };
        let taken = mem::replace(&mut group.members[member].taken, group.pending.len() as u32);
        let pieces = &group.pending[taken as usize..];
        if !pieces.is_empty() {
            let outcome = peer.queue_pieces(pieces, &self.context, &mut self.spares);
            self.after(key, outcome);
        }
    }

    pub(super) fn flush_groups(&mut self) {
        let mut unflushed = mem::take(&mut self.agenda.unflushed_groups);
        for key in unflushed.drain(..) {
            self.hand_over(key);
        }
        self.agenda.unflushed_groups = unflushed;
    }

    /// Queues all that waits for the members of a group, and writes it.
    fn hand_over(&mut self, key: Key) {
        let Some(group) = self.groups.get_mut(key).filter(|group| !group.pending.is_empty()) else { return };
        let mut pieces = mem::take(&mut group.pending);
        group.pending_bytes = 0;
        let joined = match &pieces[..] {
            [only] => only.clone(),
            all => Shared::from(all.iter().map(|piece| &piece[..]).collect::<Vec<_>>().concat()),
        };
        let mut lost = Vec::new();
        for Member { key, taken } in &mut group.members {
            let Some(peer) = self.peers.get_mut(*key) else { continue };
            let taken = mem::take(taken) as usize;
            let mut outcome = if taken == 0 {
                peer.queue_joined(&joined, &pieces, &self.context, &mut self.spares)
            } else {
                peer.queue_pieces(&pieces[taken..], &self.context, &mut self.spares)
            };
            if outcome.is_none() && peer.writable {
                outcome = peer.write(&self.context, &mut self.spares);
            }
            self.agenda.settle(*key, peer, &self.context.limits);
            lost.extend(outcome.map(|outcome| (*key, outcome)));
        }
        pieces.clear();
        pieces.shrink_to(KEPT_PLACES);
        group.pending = pieces;
        for (key, outcome) in lost {
            let event = self.report(key, outcome);
            self.pending.extend(event);
        }
    }

    /// Takes a peer out of its group, if it is in one.
    pub(super) fn remove_member(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some((slot, member)) = mem::replace(&mut peer.membership, Membership::NONE).get() else { return };
        let Some((_, group)) = self.groups.at_mut(slot) else { return };
        group.members.swap_remove(member);
        if let Some(moved) = group.members.get(member).and_then(|moved| self.peers.get_mut(moved.key)) {
            moved.membership.member = member as u32;
        }
    }
}

impl Peer {
    /// Queues pieces one by one. Returns the outcome if that ends the exchange.
    fn queue_pieces(&mut self, pieces: &[Shared], context: &Context, spares: &mut Spares) -> Option<Outcome> {
        pieces.iter().find_map(|piece| self.queue_joined(piece, &[], context, spares))
    }

    /// Queues `joined`, which is all `pieces` in one.
    fn queue_joined(
        &mut self,
        joined: &Shared,
        pieces: &[Shared],
        context: &Context,
        spares: &mut Spares,
    ) -> Option<Outcome> {
        if let Some(lost) = self.make_room(joined.len(), context, spares) {
            return Some(lost);
        }
        // Some of the pieces may fit where all of them do not.
        if pieces.len() > 1 && !self.connection.has_room(joined.len(), &context.limits) {
            return self.queue_pieces(pieces, context, spares);
        }
        self.connection.send_joined(joined, pieces, context)
    }
}
