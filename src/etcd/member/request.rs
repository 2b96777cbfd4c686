//! Requests that go through the log: taking them in, and how long they wait.

use std::collections::VecDeque;

use super::{Act, Running, member_id, process_of, token};
use crate::engine::hash::Map;
use crate::engine::process::{Cause, ProcessId};
use crate::engine::time::SimTime;
use crate::etcd::error::Error;
use crate::etcd::lease::{LeaseId, MAX_TTL_S, least_ttl_s};
use crate::etcd::message::{Logged, Reply, Request, Status};
use crate::etcd::mvcc::Command;
use crate::etcd::raft::{ConfigurationChange, StepError};
use crate::etcd::value::Value;

/// The largest request.
const MAX_REQUEST_BYTES: u64 = 3 * 512 * 1024;
/// More committed entries than this waiting to be applied, and requests are refused.
const MAX_APPLY_GAP: u64 = 5000;

/// Who waits for an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub client: ProcessId,
    pub id: u64,
    started: SimTime,
}

/// A client's request: who asks, under which number, and how long the client waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub client: ProcessId,
    pub id: u64,
    pub deadline: Option<SimTime>,
    /// The event in which the request arrived.
    pub cause: Cause,
}

/// Clients that wait for entries to be applied, by the number of the proposal. Nearly all wait equally long, so that deadlines
/// come in the order of arrival, and one timer serves all.
#[derive(Debug)]
pub(super) struct Waiting {
    waiters: Map<u64, Waiter>,
    deadlines: VecDeque<(SimTime, u64)>,
    next: u64,
    /// What the timer is set to.
    armed: Option<SimTime>,
}

impl Waiting {
    pub fn beginning_at(first: u64) -> Waiting {
        Waiting { waiters: Map::default(), deadlines: VecDeque::new(), next: first, armed: None }
    }

    /// A number for a proposal that nobody waits for.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the one who waits for a proposal.
    pub fn take(&mut self, number: u64) -> Option<Waiter> {
        self.waiters.remove(&number)
    }
}

/// A proposal that waits for a leader.
#[derive(Debug)]
enum Item<V> {
    Command(Logged<V>),
    Change(ConfigurationChange),
}

/// Proposals that wait for a leader, in the order of their arrival.
#[derive(Debug)]
pub(super) struct Parked<V>(VecDeque<(u64, Item<V>)>);

impl<V> Default for Parked<V> {
    fn default() -> Self {
        Parked(VecDeque::new())
    }
}

impl<V: Value> Running<V> {
    /// A client asks for something.
    pub(super) fn request(&mut self, asker: Asker, request: Request<V>, at: &mut Act<'_, V>) {
        let Asker { client, id, .. } = asker;
        if let Err(error) = self.admit(&request) {
            at.respond(client, id, Err(error));
            return;
        }
        match request {
            Request::Range(range) => self.range(asker, range, at),
            Request::Txn(txn) if txn.is_read_only() => self.read_txn(asker, txn, at),
            Request::Txn(txn) => self.submit(asker, Command::Txn(txn), at),
            Request::Compact(revision) => self.submit(asker, Command::Compact(revision), at),
            Request::LeaseGrant { id: lease, ttl_s } => self.grant(asker, lease, ttl_s, at),
            Request::LeaseRevoke(lease) => self.submit(asker, Command::LeaseRevoke(lease), at),
            Request::LeaseKeepAlive(lease) => self.keep_alive(client, id, lease, at),
            Request::MemberAdd { member, learner } => self.add_member(client, id, member_id(member), learner, at),
            Request::MemberPromote(member) => self.promote_member(client, id, member_id(member), at),
            Request::MemberRemove(member) => self.remove_member(client, id, member_id(member), at),
            Request::MoveLeader(member) => self.move_leader(client, id, member_id(member), at),
            Request::Status => {
                let status = self.status(at);
                at.respond(client, id, Ok(Reply::Status(status)));
            }
        }
    }

    /// What is refused at the door.
    fn admit(&self, request: &Request<V>) -> Result<(), Error> {
        let serves_learner = match request {
            Request::Status => true,
            Request::Range(range) => range.serializable,
            _ => false,
        };
        if self.is_learner() && !serves_learner {
            return Err(Error::NotSupportedForLearner);
        }
        match request {
            Request::Range(range) if range.range.names_nothing() => Err(Error::EmptyKey),
            Request::Txn(txn) => {
                txn.check()?;
                if txn.size_bytes() > MAX_REQUEST_BYTES { Err(Error::RequestTooLarge) } else { Ok(()) }
            }
            &Request::LeaseGrant { ttl_s, .. } if ttl_s > MAX_TTL_S => Err(Error::LeaseTtlTooLarge),
            _ => Ok(()),
        }
    }

    pub(super) fn is_learner(&self) -> bool {
        self.raft.configuration().learners().contains(&self.raft.id())
    }

    fn status(&self, at: &Act<'_, V>) -> Status {
        Status {
            leader: self.leader.map(process_of),
            term: self.raft.term(),
            committed_index: self.raft.log().committed(),
            applied_index: at.view.applied_index(),
            size_bytes: at.view.snapshot_bytes(),
            is_learner: self.is_learner(),
        }
    }

    fn grant(&mut self, asker: Asker, lease: Option<LeaseId>, ttl_s: u64, at: &mut Act<'_, V>) {
        // A lease without a name gets one that no other member gives.
        let own = (self.raft.id().0 + 1) << 48;
        let lease = lease.or_else(|| LeaseId::new(own ^ self.waiting.number()));
        let Some(lease) = lease else { return };
        let ttl_s = ttl_s.max(least_ttl_s(at.settings.election_timeout()));
        self.submit(asker, Command::LeaseGrant { id: lease, ttl_s }, at);
    }

    /// Proposes a command, or parks it while there is no leader.
    fn submit(&mut self, asker: Asker, command: Command<V>, at: &mut Act<'_, V>) {
        if self.raft.log().committed() > at.view.applied_index() + MAX_APPLY_GAP {
            at.respond(asker.client, asker.id, Err(Error::TooManyRequests));
            return;
        }
        let number = self.wait(asker, at);
        let logged = Logged::new(self.raft.id(), number, command, at.ctx.cause());
        self.propose_or_park(number, Item::Command(logged), at);
    }

    /// Proposes a change of membership, or parks it while there is no leader.
    pub(super) fn submit_change(
        &mut self,
        client: ProcessId,
        id: u64,
        change: ConfigurationChange,
        at: &mut Act<'_, V>,
    ) -> u64 {
        let asker = Asker { client, id, deadline: None, cause: at.ctx.cause() };
        let number = self.wait(asker, at);
        self.propose_or_park(number, Item::Change(change), at);
        number
    }

    /// Notes that a client waits, and until when.
    fn wait(&mut self, asker: Asker, at: &mut Act<'_, V>) -> u64 {
        let Asker { client, id, deadline, .. } = asker;
        let number = self.waiting.number();
        let started = at.now();
        self.waiting.waiters.insert(number, Waiter { client, id, started });
        let longest = started + at.settings.request_timeout();
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        let place = self.waiting.deadlines.partition_point(|(other, _)| *other <= deadline);
        self.waiting.deadlines.insert(place, (deadline, number));
        self.arm_deadline(at);
        number
    }

    fn propose_or_park(&mut self, number: u64, item: Item<V>, at: &mut Act<'_, V>) {
        if self.raft.leader().is_some() {
            self.propose(number, item, at);
        } else {
            self.parked.0.push_back((number, item));
        }
    }

    fn propose(&mut self, number: u64, item: Item<V>, at: &mut Act<'_, V>) {
        self.entered = match &item {
            Item::Command(logged) => logged.0.cause,
            Item::Change(_) => at.ctx.cause(),
        };
        let result = match item {
            Item::Command(logged) => self.raft.propose(logged),
            Item::Change(change) => self.raft.propose_configuration_change(change),
        };
        if let Err(StepError::ProposalDropped) = result
            && let Some(waiter) = self.waiting.take(number)
        {
            at.respond(waiter.client, waiter.id, Err(Error::ProposalDropped));
        }
    }

    /// Proposes what has waited for a leader.
    pub(super) fn release_parked(&mut self, at: &mut Act<'_, V>) {
        while !self.parked.0.is_empty()
            && self.raft.leader().is_some()
            && let Some((number, item)) = self.parked.0.pop_front()
        {
            self.propose(number, item, at);
        }
    }

    fn arm_deadline(&mut self, at: &mut Act<'_, V>) {
        if let Some(&(deadline, _)) = self.waiting.deadlines.front()
            && self.waiting.armed.is_none_or(|armed| armed > deadline)
        {
            self.waiting.armed = Some(deadline);
            at.ctx.set_timer(deadline, token::DEADLINE);
        }
    }

    /// Those whose time is over are told so. Their entries may still be applied later.
    pub(super) fn expire(&mut self, at: &mut Act<'_, V>) {
        let now = at.now();
        // A timer that was moved to an earlier time goes off at both.
        if self.waiting.armed.is_some_and(|armed| armed <= now) {
            self.waiting.armed = None;
        }
        while let Some(&(deadline, number)) = self.waiting.deadlines.front() {
            let waits = self.waiting.waiters.contains_key(&number);
            if waits && deadline > now {
                break;
            }
            self.waiting.deadlines.pop_front();
            if let Some(waiter) = self.waiting.take(number) {
                let parked = self.parked.0.iter().position(|&(other, _)| other == number);
                let error = match parked {
                    Some(place) => {
                        self.parked.0.remove(place);
                        Error::DeadlineExceeded
                    }
                    None => self.why_late(waiter.started, at),
                };
                at.respond(waiter.client, waiter.id, Err(error));
            }
        }
        self.arm_deadline(at);
    }

    /// The most likely reason of a timeout (etcd: server.go, parseProposeCtxErr).
    fn why_late(&self, started: SimTime, at: &Act<'_, V>) -> Error {
        let lost_before = self.leader_since - at.settings.election_timeout() * 2;
        if started > lost_before && started < self.leader_since {
            return Error::TimeoutLeaderFail;
        }
        let connected = match self.leader {
            None => true,
            Some(leader) if leader == self.raft.id() => self.connected_to_quorum_since(started),
            Some(leader) => self.active.since(leader).is_some_and(|since| since < started),
        };
        if connected { Error::Timeout } else { Error::TimeoutConnectionLost }
    }

    /// Whether a quorum, this member included, has been connected since before a moment.
    pub(super) fn connected_to_quorum_since(&self, moment: SimTime) -> bool {
        let own = self.raft.id();
        let voters = self.raft.configuration().voters();
        let connected = voters
            .iter()
            .filter(|&&voter| voter == own || self.active.since(voter).is_some_and(|since| since < moment));
        connected.count() > voters.len() / 2
    }
}
