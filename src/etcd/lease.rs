//! Leases: keys that vanish together when nobody keeps them alive.
//!
//! Granting and revoking go through the log, so the table of leases is part of the state that all members share. Time does
//! not go through the log: only the leader runs a [`LeaseClock`], and a new leader begins with every lease at its full
//! time to live again (etcd: server/lease/lessor.go).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;

use super::error::Error;
use crate::engine::time::{SimDuration, SimTime};

/// Names a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub NonZeroU64);

impl LeaseId {
    /// The lease with this number; zero is none.
    pub fn new(number: u64) -> Option<LeaseId> {
        NonZeroU64::new(number).map(LeaseId)
    }
}

/// The longest time to live that can be asked for.
pub const MAX_TTL_S: u64 = 9_000_000_000;
/// How often the leader looks for expired leases.
pub const SCAN_PERIOD: SimDuration = SimDuration::from_millis(500);
/// At most so many leases are taken for revocation in one scan: half of the 1000 per second.
const PER_SCAN: usize = 500;
/// A lease whose revocation was proposed is looked at again after this time.
const RETRY: SimDuration = SimDuration::from_secs(3);
/// Leases promoted together are spread so that fewer than the revocation rate (1000 per second) expire in one second.
const REVOKE_RATE: usize = 1000;

/// What the log has said about one lease.
#[derive(Debug)]
struct Lease {
    ttl_s: u64,
    granted_at: u64,
    /// Slots of the attached keys in the key index, sorted. A deleted key is detached, so every slot is in use.
    keys: Vec<u32>,
}

/// A lease that some member may not have seen revoked yet.
#[derive(Debug)]
struct Revoked {
    id: LeaseId,
    ttl_s: u64,
    granted_at: u64,
    revoked_at: u64,
}

/// All leases that the log has granted and not revoked, with the keys attached to them.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
    revoked: VecDeque<Revoked>,
}

impl LeaseTable {
    /// Grants a lease at a log index. The member that received the request has already raised the time to live to the least one.
    pub fn grant(&mut self, id: LeaseId, ttl_s: u64, index: u64) -> Result<(), Error> {
        if ttl_s > MAX_TTL_S {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        self.leases.insert(id, Lease { ttl_s, granted_at: index, keys: Vec::new() });
        Ok(())
    }

    /// Takes a lease away at a log index and says which keys were attached.
    pub fn revoke(&mut self, id: LeaseId, index: u64) -> Result<Vec<u32>, Error> {
        let lease = self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        self.revoked.push_back(Revoked { id, ttl_s: lease.ttl_s, granted_at: lease.granted_at, revoked_at: index });
        Ok(lease.keys)
    }

    /// Whether a lease exists for who has applied the whole log.
    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The time to live of a lease for who has applied the log up to an index.
    pub fn ttl_at(&self, id: LeaseId, index: u64) -> Option<u64> {
        if let Some(lease) = self.leases.get(&id).filter(|lease| lease.granted_at <= index) {
            return Some(lease.ttl_s);
        }
        let seen = |old: &&Revoked| old.id == id && old.granted_at <= index && index < old.revoked_at;
        self.revoked.iter().find(seen).map(|old| old.ttl_s)
    }

    /// All leases, with their time to live, for who has applied the log up to an index; ordered by id.
    pub fn all_at(&self, index: u64) -> Vec<(LeaseId, u64)> {
        let present = self.leases.iter().filter(|(_, lease)| lease.granted_at <= index);
        let mut all: Vec<_> = present.map(|(&id, lease)| (id, lease.ttl_s)).collect();
        let unseen = self.revoked.iter().filter(|old| old.granted_at <= index && index < old.revoked_at);
        all.extend(unseen.map(|old| (old.id, old.ttl_s)));
        all.sort_unstable();
        all
    }

    /// The slots of the keys attached to a lease.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = u32> + '_ {
        self.leases.get(&id).into_iter().flat_map(|lease| lease.keys.iter().copied())
    }

    /// Attaches a key.
    pub fn attach(&mut self, id: LeaseId, slot: u32) {
        // Slots are mostly given out one after the other: the place is the last.
        if let Some(lease) = self.leases.get_mut(&id)
            && let Err(place) = lease.keys.binary_search(&slot)
        {
            lease.keys.insert(place, slot);
        }
    }

    /// Detaches a key.
    pub fn detach(&mut self, id: LeaseId, slot: u32) {
        if let Some(lease) = self.leases.get_mut(&id)
            && let Ok(place) = lease.keys.binary_search(&slot)
        {
            lease.keys.remove(place);
        }
    }

    /// Forgets revocations that every member has applied.
    pub fn forget_revoked(&mut self, applied_by_all: u64) {
        while self.revoked.front().is_some_and(|old| old.revoked_at <= applied_by_all) {
            self.revoked.pop_front();
        }
    }
}

/// When each lease expires. Only the leader has one; elsewhere leases live for ever.
#[derive(Debug, Default)]
pub struct LeaseClock {
    /// What each lease has: its time to live and the moment at which it ends.
    leases: BTreeMap<LeaseId, (SimDuration, SimTime)>,
    /// When to look at each lease again: when it ends, or [`RETRY`] after its revocation was proposed.
    agenda: BTreeSet<(SimTime, LeaseId)>,
    /// The agenda's time for each lease.
    noted: BTreeMap<LeaseId, SimTime>,
}

impl LeaseClock {
    /// The clock of a member that has just become leader: every lease lives for its full time and `extension` more
    /// (the election timeout). Where more than 750 would end within one second they are spread.
    pub fn promote(leases: &[(LeaseId, u64)], now: SimTime, extension: SimDuration) -> LeaseClock {
        let mut clock = LeaseClock::default();
        for &(id, ttl_s) in leases {
            let ttl = SimDuration::from_secs(ttl_s.min(MAX_TTL_S));
            clock.set(id, ttl, now + ttl + extension);
        }
        if leases.len() >= REVOKE_RATE {
            clock.spread(now, extension);
        }
        clock
    }

    /// Moves leases that would end in one crowded second apart.
    fn spread(&mut self, now: SimTime, extension: SimDuration) {
        const TARGET: u64 = 3 * REVOKE_RATE as u64 / 4;
        let by_end: Vec<(SimTime, LeaseId)> = self.agenda.iter().copied().collect();
        let Some(&(first, _)) = by_end.first() else { return };
        let mut base = first.since(now);
        let mut window_end = base + SimDuration::from_secs(1);
        let mut ending = 0_u64;
        for (end, id) in by_end {
            let remaining = end.since(now);
            if remaining > window_end {
                (base, ending) = (remaining, 1);
                window_end = base + SimDuration::from_secs(1);
                continue;
            }
            ending += 1;
            if ending <= TARGET {
                continue;
            }
            let fair_share = SimDuration::from_nanos(ending * 1_000_000_000 / TARGET);
            let delay = fair_share.saturating_sub(remaining.saturating_sub(base));
            window_end = base + delay;
            if let Some(&(ttl, _)) = self.leases.get(&id) {
                self.set(id, ttl, now + ttl + delay + extension);
            }
        }
    }

    /// Begins to watch over a lease that was granted.
    pub fn grant(&mut self, id: LeaseId, ttl_s: u64, now: SimTime) {
        let ttl = SimDuration::from_secs(ttl_s.min(MAX_TTL_S));
        self.set(id, ttl, now + ttl);
    }

    /// Forgets a lease that was revoked.
    pub fn revoke(&mut self, id: LeaseId) {
        self.leases.remove(&id);
        if let Some(at) = self.noted.remove(&id) {
            self.agenda.remove(&(at, id));
        }
    }

    /// Gives a lease its full time again and says how much that is. None if there is no such lease; a lease that has
    /// ended and waits for its revocation is not saved.
    pub fn keep_alive(&mut self, id: LeaseId, now: SimTime) -> Option<u64> {
        let &(ttl, end) = self.leases.get(&id)?;
        if end <= now {
            return None;
        }
        self.set(id, ttl, now + ttl);
        Some(ttl.as_secs())
    }

    /// How long a lease has left, and its full time to live, in seconds.
    pub fn remaining_s(&self, id: LeaseId, now: SimTime) -> Option<(u64, u64)> {
        self.leases.get(&id).map(|&(ttl, end)| (end.since(now).as_secs(), ttl.as_secs()))
    }

    /// Takes the leases that have ended, at most as many as one scan revokes; each is looked at again later.
    pub fn take_expired(&mut self, now: SimTime) -> Vec<LeaseId> {
        let mut expired = Vec::new();
        while expired.len() < PER_SCAN
            && let Some(&(at, id)) = self.agenda.first()
            && at <= now
        {
            self.note(id, now + RETRY);
            expired.push(id);
        }
        expired
    }

    /// When the next lease wants to be looked at.
    pub fn next(&self) -> Option<SimTime> {
        self.agenda.first().map(|&(at, _)| at)
    }

    fn set(&mut self, id: LeaseId, ttl: SimDuration, end: SimTime) {
        self.leases.insert(id, (ttl, end));
        self.note(id, end);
    }

    fn note(&mut self, id: LeaseId, at: SimTime) {
        if let Some(before) = self.noted.insert(id, at) {
            self.agenda.remove(&(before, id));
        }
        self.agenda.insert((at, id));
    }
}

/// The least time to live in seconds that a member grants: one and a half election timeouts, rounded up.
pub fn least_ttl_s(election_timeout: SimDuration) -> u64 {
    (election_timeout.as_nanos() * 3 / 2).div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> LeaseId {
        LeaseId::new(number).expect("not zero")
    }

    fn at(ms: u64) -> SimTime {
        SimTime::ZERO + SimDuration::from_millis(ms)
    }

    #[test]
    fn a_lease_ends_unless_it_is_kept_alive() {
        let mut clock = LeaseClock::default();
        clock.grant(id(1), 2, at(0));
        clock.grant(id(2), 2, at(0));
        assert_eq!(clock.keep_alive(id(2), at(1500)), Some(2));
        assert_eq!(clock.take_expired(at(1999)), []);
        assert_eq!(clock.take_expired(at(2000)), [id(1)]);
        assert_eq!(clock.keep_alive(id(1), at(2100)), None, "too late: its revocation is under way");
        assert_eq!(clock.take_expired(at(3499)), []);
        assert_eq!(clock.take_expired(at(3500)), [id(2)]);
        assert_eq!(clock.take_expired(at(5000)), [id(1)], "still not revoked after three seconds: proposed again");
        clock.revoke(id(1));
        clock.revoke(id(2));
        assert_eq!(clock.next(), None);
    }

    #[test]
    fn one_scan_takes_five_hundred_leases() {
        let mut clock = LeaseClock::default();
        (1..=700).for_each(|number| clock.grant(id(number), 5, at(0)));
        assert_eq!([clock.take_expired(at(5000)).len(), clock.take_expired(at(5500)).len()], [500, 200]);
    }

    #[test]
    fn a_new_leader_extends_every_lease_and_spreads_a_crowd() {
        let few = LeaseClock::promote(&[(id(1), 10)], at(1000), SimDuration::from_secs(1));
        assert_eq!(few.next(), Some(at(12_000)));
        let crowd: Vec<_> = (1..=3000).map(|number| (id(number), 10)).collect();
        let mut spread = LeaseClock::promote(&crowd, at(0), SimDuration::from_secs(1));
        let mut first_second = 0;
        while spread.next().is_some_and(|end| end < at(12_000)) {
            first_second += spread.take_expired(at(11_999)).len();
        }
        assert!((750..=760).contains(&first_second), "{first_second} end in the first second");
    }

    #[test]
    fn a_member_that_lags_still_sees_a_revoked_lease() {
        let mut table = LeaseTable::default();
        table.grant(id(7), 10, 5).expect("granted");
        assert_eq!(table.grant(id(7), 10, 6), Err(Error::LeaseExists));
        table.revoke(id(7), 9).expect("revoked");
        assert_eq!([4, 5, 8, 9].map(|index| table.ttl_at(id(7), index)), [None, Some(10), Some(10), None]);
        assert_eq!(table.revoke(id(7), 10), Err(Error::LeaseNotFound));
        table.forget_revoked(9);
        assert_eq!(table.all_at(8), []);
    }

    #[test]
    fn the_least_time_to_live_is_one_and_a_half_election_timeouts() {
        assert_eq!(least_ttl_s(SimDuration::from_secs(1)), 2);
        assert_eq!(least_ttl_s(SimDuration::from_secs(2)), 3);
    }
}
