//! Leases on the leader: expiry, and keeping them alive for everyone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Act, Running, process_of, token};
use crate::engine::process::ProcessId;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::Error;
use crate::etcd::lease::{LeaseClock, LeaseId, SCAN_PERIOD};
use crate::etcd::message::{Logged, Message, PEER_LANE, Reply};
use crate::etcd::mvcc::{Command, View};
use crate::etcd::value::Value;

/// At most so many revocations wait for the log at once.
const REVOCATIONS_IN_FLIGHT: usize = 16;
/// A follower that got no answer from the leader asks again after this time.
const FORWARD_RETRY: SimDuration = SimDuration::from_millis(500);

/// A client's keep-alive on its way to the leader.
#[derive(Debug)]
struct Forwarded {
    client: ProcessId,
    id: u64,
    lease: LeaseId,
    deadline: SimTime,
}

/// What a member has to do with leases beside the table in the store.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Only while this member leads.
    clock: Option<LeaseClock>,
    /// When the next scan is set to happen.
    armed: Option<SimTime>,
    /// Expired leases whose revocation has not been proposed.
    expired: VecDeque<LeaseId>,
    in_flight: BTreeSet<LeaseId>,
    forwarded: BTreeMap<u64, Forwarded>,
    next_forward: u64,
    retry_armed: bool,
}

impl Leases {
    /// Nothing to do; forwarded requests are numbered from here.
    pub fn beginning_at(next_forward: u64) -> Leases {
        Leases { next_forward, ..Leases::default() }
    }

    /// The member leads now.
    pub fn promote<V: Value>(&mut self, view: &View<V>, now: SimTime, extension: SimDuration) {
        self.clock = Some(LeaseClock::promote(&view.leases(), now, extension));
        self.expired.clear();
        self.in_flight.clear();
    }

    /// The member does not lead any more.
    pub fn demote(&mut self) {
        self.clock = None;
        self.expired.clear();
        self.in_flight.clear();
    }

    /// Follows what was applied.
    pub fn follow<V: Value>(&mut self, command: &Command<V>, view: &View<V>, now: SimTime) {
        let Some(clock) = &mut self.clock else { return };
        match command {
            &Command::LeaseGrant { id, .. } => {
                // A grant that was refused because the lease exists must not give it new time.
                if let Some(ttl_s) = view.lease_ttl_s(id).filter(|_| clock.remaining_s(id, now).is_none()) {
                    clock.grant(id, ttl_s, now);
                }
            }
            Command::LeaseRevoke(id) => {
                clock.revoke(*id);
                self.in_flight.remove(id);
            }
            Command::Txn(_) | Command::Compact(_) => {}
        }
    }

    /// Gives a lease its full time again. A lease that has ended counts as gone, though its revocation is still under way.
    pub fn keep_alive<V>(&mut self, id: LeaseId, now: SimTime) -> Result<Reply<V>, Error> {
        let clock = self.clock.as_mut().ok_or(Error::NotLeader)?;
        let ttl_s = clock.keep_alive(id, now).ok_or(Error::LeaseNotFound)?;
        Ok(Reply::Lease { id, ttl_s })
    }
}

impl<V: Value> Running<V> {
    /// Looks again when the next lease ends, at the next half second of this member.
    pub(super) fn arm_lease_scan(&mut self, at: &mut Act<'_, V>) {
        let Some(next) = self.leases.clock.as_ref().and_then(LeaseClock::next) else { return };
        if self.leases.armed.is_some_and(|armed| armed <= next) {
            return;
        }
        let scan = next.max(at.now() + SimDuration::from_nanos(1)).next_tick(self.started, SCAN_PERIOD);
        if self.leases.armed.is_none_or(|armed| scan < armed) {
            self.leases.armed = Some(scan);
            at.ctx.set_timer(scan, token::LEASE_SCAN);
        }
    }

    pub(super) fn scan_leases(&mut self, at: &mut Act<'_, V>) {
        // A scan that was moved to an earlier time goes off at both.
        if self.leases.armed.is_none_or(|armed| armed > at.now()) {
            return;
        }
        self.leases.armed = None;
        if let Some(clock) = &mut self.leases.clock {
            let expired = clock.take_expired(at.now());
            for id in expired {
                if !self.leases.in_flight.contains(&id) && !self.leases.expired.contains(&id) {
                    self.leases.expired.push_back(id);
                }
            }
            // What was proposed three seconds ago and not applied is proposed again.
            self.propose_revocations(at);
        }
        self.arm_lease_scan(at);
    }

    /// Proposes revocations of expired leases, a few at a time.
    pub(super) fn propose_revocations(&mut self, at: &mut Act<'_, V>) {
        while self.leads()
            && self.leases.in_flight.len() < REVOCATIONS_IN_FLIGHT
            && let Some(id) = self.leases.expired.pop_front()
        {
            let number = self.waiting.number();
            let logged = Logged::new(self.raft.id(), number, Command::LeaseRevoke(id), at.ctx.cause());
            if self.raft.propose(logged).is_ok() {
                self.leases.in_flight.insert(id);
            }
        }
    }

    /// A client wants a lease to live on. Only the leader can do that; it is sure of its leadership if its clock ticks.
    pub(super) fn keep_alive(&mut self, client: ProcessId, id: u64, lease: LeaseId, at: &mut Act<'_, V>) {
        if !self.leads() {
            let deadline = at.now() + at.settings.request_timeout();
            self.leases.next_forward += 1;
            let number = self.leases.next_forward;
            self.leases.forwarded.insert(number, Forwarded { client, id, lease, deadline });
            self.forward_keep_alive(number, lease, at);
            self.arm_keep_alive_retry(at);
            return;
        }
        let heartbeat = at.settings.tick * at.settings.raft.heartbeat_ticks;
        if at.now().since(self.last_tick) > heartbeat * 3 {
            self.keep_alive_confirmed(client, id, lease, at);
            return;
        }
        let result = self.leases.keep_alive(lease, at.now());
        at.respond(client, id, result);
    }

    fn forward_keep_alive(&mut self, id: u64, lease: LeaseId, at: &mut Act<'_, V>) {
        if let Some(leader) = self.leader.filter(|&leader| leader != self.raft.id()) {
            at.ctx.send(process_of(leader), PEER_LANE, Message::KeepAlive { id, lease });
        }
    }

    fn arm_keep_alive_retry(&mut self, at: &mut Act<'_, V>) {
        if !self.leases.retry_armed && !self.leases.forwarded.is_empty() {
            self.leases.retry_armed = true;
            at.ctx.set_timer(at.now() + FORWARD_RETRY, token::KEEP_ALIVE);
        }
    }

    /// Asks the leader of this moment again for every keep-alive that has no answer.
    pub(super) fn retry_keep_alive(&mut self, at: &mut Act<'_, V>) {
        self.leases.retry_armed = false;
        for (number, forwarded) in std::mem::take(&mut self.leases.forwarded) {
            let Forwarded { client, id, lease, deadline } = forwarded;
            if deadline <= at.now() {
                at.respond(client, id, Err(Error::Timeout));
            } else if self.leads() {
                self.keep_alive(client, id, lease, at);
            } else {
                self.leases.forwarded.insert(number, forwarded);
                self.forward_keep_alive(number, lease, at);
            }
        }
        self.arm_keep_alive_retry(at);
    }

    /// A follower asks on behalf of its client.
    pub(super) fn keep_alive_for(&mut self, from: ProcessId, id: u64, lease: LeaseId, at: &mut Act<'_, V>) {
        let ttl_s = self.leases.keep_alive(lease, at.now()).map(|reply: Reply<V>| match reply {
            Reply::Lease { ttl_s, .. } => ttl_s,
            _ => 0,
        });
        at.ctx.send_after(at.settings.serve, from, PEER_LANE, Message::KeptAlive { id, ttl_s });
    }

    /// The leader has answered; if it leads no more, the question is asked again later.
    pub(super) fn kept_alive(&mut self, number: u64, ttl_s: Result<u64, Error>, at: &mut Act<'_, V>) {
        if ttl_s == Err(Error::NotLeader) {
            return;
        }
        if let Some(Forwarded { client, id, lease, .. }) = self.leases.forwarded.remove(&number) {
            at.respond(client, id, ttl_s.map(|ttl_s| Reply::Lease { id: lease, ttl_s }));
        }
    }
}
