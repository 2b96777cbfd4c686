//! The etcd members of a cluster, and the watch over Raft's invariants.

use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::apiserver::storage::{self, Stored};
use crate::engine::process::{Context, Input, ProcessId};
use crate::engine::random::Seed;
use crate::engine::time::SimTime;
use crate::etcd::member::{Member, Settings, member_id};
use crate::etcd::mvcc::SharedStore;
use crate::etcd::raft::SafetyChecker;
use crate::etcd::raft::invariants::{Down, Violation};

use super::message::EtcdMessage;

/// All etcd members.
pub struct Members {
    members: Vec<Member<Stored>>,
    store: SharedStore<Stored>,
    processes: Vec<ProcessId>,
    safety: SafetyChecker,
    leader: Option<(u32, u64)>,
    /// The term in which each member leads, if it does, as it was when it was last looked at.
    standings: Vec<Option<u64>>,
    elections: u64,
}

/// What came to light when a member had handled an input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// The leadership changed: who leads now, and the term.
    pub leader: Option<(Option<u32>, u64)>,
    /// What is wrong, if an invariant does not hold.
    pub violation: Option<(String, String)>,
}

/// A change of an object, as it was committed.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The revision.
    pub revision: u64,
    /// The version before; none for a creation.
    pub old: Option<Object>,
    /// The version after; none for a deletion.
    pub new: Option<Object>,
}

impl Members {
    /// The members of a new etcd cluster, one for each process.
    pub fn new(processes: &[ProcessId], names: &[String], seed: Seed) -> Self {
        let store = SharedStore::new();
        let member = |(process, name): (&ProcessId, &String)| {
            Member::new(*process, name, processes, Settings::default(), seed, &store)
        };
        Members {
            members: processes.iter().zip(names).map(member).collect(),
            store: store.clone(),
            processes: processes.to_vec(),
            safety: SafetyChecker::new(),
            leader: None,
            standings: vec![None; processes.len()],
            elections: 0,
        }
    }

    /// The store that the members share.
    pub fn store(&self) -> &SharedStore<Stored> {
        &self.store
    }

    /// Hands an input to a member and looks at what it did; returns what came to light, if anything.
    pub fn handle(
        &mut self,
        place: u32,
        input: Input<EtcdMessage>,
        ctx: &mut dyn Context<EtcdMessage>,
    ) -> Option<Observation> {
        let member = &mut self.members[place as usize];
        member.handle(input, ctx);
        let seen = member.core().map_or(Ok(()), |core| self.safety.observe(core));
        let standing = leads(member);
        let is_well = member.failure().is_none() && seen.is_ok();
        if is_well && self.standings[place as usize] == standing {
            return None;
        }
        Some(self.observation(place, seen.err(), standing))
    }

    /// What is to be told of a member that has failed, has broken an invariant, or leads where it did not or the other way round.
    #[cold]
    fn observation(&mut self, place: u32, violation: Option<Violation>, standing: Option<u64>) -> Observation {
        let failure = self.members[place as usize].failure();
        let failed = failure.map(|failure| ("etcd member".to_owned(), failure.to_string()));
        let broken = || violation.map(|violation| ("Raft safety".to_owned(), violation.to_string()));
        let mut observation = Observation { leader: None, violation: failed.or_else(broken) };
        if self.standings[place as usize] != standing {
            self.standings[place as usize] = standing;
            observation.leader = self.leadership();
        }
        observation
    }

    /// The process of a member dies.
    pub fn crash(&mut self, place: u32, now: SimTime) -> Observation {
        let member = &mut self.members[place as usize];
        if !member.is_running() {
            return Observation::default();
        }
        let applied = member.view().applied_index();
        let before = member.core().map(|core| core.configuration().clone());
        member.crash(now);
        let mut observation = Observation::default();
        let configuration = before.unwrap_or_default();
        if let Some(disk) = member.disk() {
            let id = member_id(self.processes[place as usize]);
            let down = Down { id, disk, applied, configuration: &configuration };
            if let Err(violation) = self.safety.observe_crash(&down) {
                observation.violation = Some(("Raft safety".to_owned(), violation.to_string()));
            }
        }
        self.standings[place as usize] = None;
        observation.leader = self.leadership();
        observation
    }

    /// The objects whose leases have ended since the last call, with the revision at which they went.
    pub fn take_lapsed(&mut self) -> impl Iterator<Item = (ObjectKey, u64)> {
        let lapsed = self.store.take_lapsed().into_iter();
        lapsed.filter_map(|(value, revision)| Some((value.object()?.key(), revision)))
    }

    /// The newest revision that any member has applied.
    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// The revision of the newest version of an object; zero if there is none.
    pub(super) fn newest(&self, key: &ObjectKey) -> u64 {
        self.store.newest(&storage::key_of(key))
    }

    /// Visits the changes of objects after a revision, in order.
    pub fn each_commit_after(&self, revision: u64, mut visit: impl FnMut(Commit)) {
        self.store.each_change_after(revision, |revision, before, after| {
            let object = |value: Option<&Stored>| value.and_then(Stored::object).cloned();
            let (old, new) = (object(before), object(after));
            if old.is_some() || new.is_some() {
                visit(Commit { revision, old, new });
            }
        });
    }

    /// Notes who leads; some if that changed.
    fn leadership(&mut self) -> Option<(Option<u32>, u64)> {
        if let Some((place, term)) = self.leader
            && leads(&self.members[place as usize]) == Some(term)
        {
            let newer = self.members.iter().filter_map(leads).any(|other| other > term);
            if !newer {
                return None;
            }
        }
        let leaders = self.members.iter().zip(0u32..).filter_map(|(member, place)| Some((leads(member)?, place)));
        let now = leaders.max().map(|(term, place)| (place, term));
        if now == self.leader {
            return None;
        }
        self.elections += u64::from(now.is_some());
        let term = now.or(self.leader).map_or(0, |(_, term)| term);
        self.leader = now;
        Some((now.map(|(place, _)| place), term))
    }

    /// The member that leads, if one does.
    pub fn leader(&self) -> Option<u32> {
        self.leader.map(|(place, _)| place)
    }

    /// How often a leader was elected.
    pub fn elections(&self) -> u64 {
        self.elections
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member.
    pub fn member(&self, place: u32) -> &Member<Stored> {
        &self.members[place as usize]
    }
}

/// The term in which a member leads; none if it does not.
fn leads(member: &Member<Stored>) -> Option<u64> {
    member.core().filter(|_| member.is_leader()).map(|core| core.term())
}
