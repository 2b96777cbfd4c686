//! Adding, promoting and removing members, and moving the leadership (etcd: etcdserver/server.go).

use smallvec::SmallVec;

use super::{Act, Failure, Running, process_of, token};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::Error;
use crate::etcd::message::Reply;
use crate::etcd::raft::{ChangeKind, ConfigurationChange, MemberId};
use crate::etcd::value::Value;

/// A member counts as healthy that has been connected for so long.
const HEALTHY: SimDuration = SimDuration::from_secs(5);
/// A learner may be promoted when it has so many percent of the leader's log.
const READY_PERCENT: u64 = 90;
/// At most so many learners at a time.
const MOST_LEARNERS: usize = 1;

/// A change that a client waits for: of the membership, or of the leader.
#[derive(Debug)]
pub(super) enum PendingChange {
    /// Waits for the change to be applied.
    Membership { change: ConfigurationChange, number: u64 },
    /// Waits for a member to lead.
    Leader { client: ProcessId, id: u64, to: MemberId, deadline: SimTime },
}

/// Since when each peer has been heard of without a break. They are few, and this is asked at every message of a peer.
#[derive(Debug, Default)]
pub(super) struct Active(SmallVec<[(MemberId, SimTime); 4]>);

impl Active {
    /// A peer was heard of.
    #[inline]
    pub fn hear(&mut self, peer: MemberId, now: SimTime) {
        if self.since(peer).is_none() {
            self.0.push((peer, now));
        }
    }

    /// The connection to a peer broke.
    pub fn lose(&mut self, peer: MemberId) {
        self.0.retain(|(other, _)| *other != peer);
    }

    /// Since when a peer has been heard of; none if it is not.
    #[inline]
    pub fn since(&self, peer: MemberId) -> Option<SimTime> {
        self.0.iter().find(|(other, _)| *other == peer).map(|(_, since)| *since)
    }

    /// How many peers are heard of.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<V: Value> Running<V> {
    pub(super) fn add_member(
        &mut self,
        client: ProcessId,
        id: u64,
        member: MemberId,
        learner: bool,
        at: &mut Act<'_, V>,
    ) {
        let kind = if learner { ChangeKind::AddLearner } else { ChangeKind::AddVoter };
        let check = self.check_addition(member, learner, at.now());
        self.change(client, id, check, ConfigurationChange { member, kind }, at);
    }

    pub(super) fn promote_member(&mut self, client: ProcessId, id: u64, member: MemberId, at: &mut Act<'_, V>) {
        let check = self.check_promotion(member, at.now());
        self.change(client, id, check, ConfigurationChange { member, kind: ChangeKind::AddVoter }, at);
    }

    pub(super) fn remove_member(&mut self, client: ProcessId, id: u64, member: MemberId, at: &mut Act<'_, V>) {
        let check = self.check_removal(member, at.now());
        self.change(client, id, check, ConfigurationChange { member, kind: ChangeKind::Remove }, at);
    }

    fn change(
        &mut self,
        client: ProcessId,
        id: u64,
        check: Result<(), Error>,
        change: ConfigurationChange,
        at: &mut Act<'_, V>,
    ) {
        if let Err(error) = check {
            at.respond(client, id, Err(error));
            return;
        }
        let number = self.submit_change(client, id, change, at);
        self.changes.push(PendingChange::Membership { change, number });
    }

    /// A new voter must not raise the quorum above the members that run; going from one to two is let through.
    fn check_addition(&self, member: MemberId, learner: bool, now: SimTime) -> Result<(), Error> {
        let configuration = self.raft.configuration();
        if configuration.contains(member) {
            return Err(Error::MemberExists);
        }
        if learner {
            let full = configuration.learners().len() >= MOST_LEARNERS;
            return if full { Err(Error::TooManyLearners) } else { Ok(()) };
        }
        let voters = configuration.voters().len();
        if voters > 1 && self.started_voters() < voters.div_ceil(2) + 1 {
            return Err(Error::NotEnoughStarted);
        }
        self.check_health(now)
    }

    fn check_promotion(&self, member: MemberId, now: SimTime) -> Result<(), Error> {
        let configuration = self.raft.configuration();
        if !configuration.contains(member) {
            return Err(Error::MemberNotFound);
        }
        if !configuration.learners().contains(&member) {
            return Err(Error::MemberNotLearner);
        }
        if !self.leads() {
            // Only the leader knows how far a learner is. A real follower forwards the request.
            return Err(Error::NotLeader);
        }
        let matched = |id| self.raft.progress().iter().find(|peer| peer.id == id).map_or(0, |peer| peer.matched);
        if matched(member) * 100 < self.raft.log().last_index() * READY_PERCENT {
            return Err(Error::LearnerNotReady);
        }
        self.check_health(now)
    }

    fn check_removal(&self, member: MemberId, now: SimTime) -> Result<(), Error> {
        let configuration = self.raft.configuration();
        if !configuration.contains(member) {
            return Err(Error::MemberNotFound);
        }
        if configuration.learners().contains(&member) {
            return Ok(());
        }
        let own = member == self.raft.id();
        let connected = own || self.active.since(member).is_some();
        let left = self.started_voters() - usize::from(connected);
        let quorum = (configuration.voters().len() - 1) / 2 + 1;
        if left < quorum {
            return Err(Error::NotEnoughStarted);
        }
        // Removing one that is down never makes it worse.
        if connected { self.check_health(now) } else { Ok(()) }
    }

    /// Voters that this member is connected to, itself included.
    fn started_voters(&self) -> usize {
        let own = self.raft.id();
        let voters = self.raft.configuration().voters().iter();
        voters.filter(|&&voter| voter == own || self.active.since(voter).is_some()).count()
    }

    fn check_health(&self, now: SimTime) -> Result<(), Error> {
        let alone = self.raft.configuration().voters().len() == 1;
        if alone || self.connected_to_quorum_since(now - HEALTHY) { Ok(()) } else { Err(Error::Unhealthy) }
    }

    /// A change of membership is committed. A member that is removed ends.
    pub(super) fn apply_change(&mut self, change: ConfigurationChange, at: &mut Act<'_, V>) -> Result<(), Failure> {
        // The last voter cannot leave: the core refuses, and the client waits in vain as for a lost entry.
        if self.raft.apply_configuration_change(change).is_err() {
            return Ok(());
        }
        match change.kind {
            ChangeKind::Remove => {
                self.removed.insert(change.member);
            }
            ChangeKind::AddVoter | ChangeKind::AddLearner => {
                self.removed.remove(&change.member);
            }
        }
        let awaited = |pending: &PendingChange| matches!(pending, PendingChange::Membership { change: own, .. } if *own == change);
        if let Some(place) = self.changes.iter().position(awaited)
            && let PendingChange::Membership { number, .. } = self.changes.remove(place)
            && let Some(waiter) = self.waiting.take(number)
        {
            let configuration = self.raft.configuration();
            let processes = |ids: &[MemberId]| ids.iter().copied().map(process_of).collect();
            let voters = processes(configuration.voters());
            let learners = processes(configuration.learners());
            at.respond(waiter.client, waiter.id, Ok(Reply::Members { voters, learners }));
        }
        if change.kind == ChangeKind::Remove && change.member == self.raft.id() {
            return Err(Failure::Removed);
        }
        Ok(())
    }

    /// Hands the leadership over, and answers when the other member leads.
    pub(super) fn move_leader(&mut self, client: ProcessId, id: u64, to: MemberId, at: &mut Act<'_, V>) {
        if !self.leads() {
            at.respond(client, id, Err(Error::NotLeader));
            return;
        }
        if !self.raft.configuration().voters().contains(&to) {
            at.respond(client, id, Err(Error::BadLeaderTransferee));
            return;
        }
        self.raft.transfer_leader(to);
        let deadline = at.now() + at.settings.request_timeout();
        self.changes.push(PendingChange::Leader { client, id, to, deadline });
        at.ctx.set_timer(at.now() + at.settings.tick, token::TRANSFER);
    }

    /// Looks every heartbeat whether the leadership has moved.
    pub(super) fn check_transfer(&mut self, at: &mut Act<'_, V>) {
        let (now, leader) = (at.now(), self.leader);
        let mut waits = false;
        let mut answers = Vec::new();
        self.changes.retain(|pending| match *pending {
            PendingChange::Membership { .. } => true,
            PendingChange::Leader { client, id, to, .. } if leader == Some(to) => {
                answers.push((client, id, Ok(Reply::Moved)));
                false
            }
            PendingChange::Leader { client, id, deadline, .. } if deadline <= now => {
                answers.push((client, id, Err(Error::TimeoutLeaderTransfer)));
                false
            }
            PendingChange::Leader { .. } => {
                waits = true;
                true
            }
        });
        for (client, id, result) in answers {
            at.respond(client, id, result);
        }
        if waits {
            at.ctx.set_timer(now + at.settings.tick, token::TRANSFER);
        }
    }
}
