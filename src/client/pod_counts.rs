//! How many pods each ReplicaSet and ReplicationController has, by labels and state, kept up to date with the cache: so that a controller which
//! only counts need not look at ten thousand pods because one of them changed.
//!
//! It says nothing about which pods these are, nor whether their labels are those that the owner selects.

use crate::api::meta::{Labels, OwnerReference, Uid};
use crate::api::pod::Pod;
use crate::engine::hash::Map;

/// An owner whose pods wear more different labels than this is not counted: finding the labels would cost more than it saves.
const VARIETY: usize = 32;

/// Pods of one owner that wear the same labels.
#[derive(Clone, Debug)]
pub struct PodCounts {
    /// What they wear.
    pub labels: Labels,
    /// Those that have neither ended nor are being deleted.
    pub active: u32,
    /// The active ones that are ready.
    pub ready: u32,
    /// Those that are being deleted and have not ended.
    pub terminating: u32,
    /// All of them, those that have ended too.
    all: u32,
}

/// The counts of all owners.
#[derive(Default)]
pub(super) struct Counters {
    owners: Map<Uid, Owned>,
}

#[derive(Default)]
struct Owned {
    pods: u32,
    groups: Vec<PodCounts>,
    /// True once there were too many different labels, until no pod is left.
    various: bool,
}

/// As what a pod counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ended,
    Terminating,
    Waiting,
    Ready,
}

impl State {
    fn of(pod: &Pod) -> State {
        if pod.is_terminal() {
            State::Ended
        } else if pod.meta.is_deleting() {
            State::Terminating
        } else if pod.status.is_ready() {
            State::Ready
        } else {
            State::Waiting
        }
    }
}

/// The ReplicaSet or ReplicationController that controls a pod.
fn owner(pod: &Pod) -> Option<Uid> {
    let counts = |owner: &&OwnerReference| owner.kind == "ReplicaSet" || owner.kind == "ReplicationController";
    pod.meta.controller().filter(counts).map(|owner| owner.uid)
}

impl Counters {
    /// The counts of an owner, one entry for each different set of labels; none if its pods wear too many different ones.
    pub fn of(&self, owner: Uid) -> Option<&[PodCounts]> {
        match self.owners.get(&owner) {
            None => Some(&[]),
            Some(owned) if owned.various => None,
            Some(owned) => Some(&owned.groups),
        }
    }

    /// A pod came.
    pub fn add(&mut self, pod: &Pod) {
        let Some(owner) = owner(pod) else { return };
        let owned = self.owners.entry(owner).or_default();
        owned.pods += 1;
        owned.count(pod, 1);
    }

    /// A pod went.
    pub fn remove(&mut self, pod: &Pod) {
        let Some(owner) = owner(pod) else { return };
        let Some(owned) = self.owners.get_mut(&owner) else { return };
        owned.pods -= 1;
        if owned.pods == 0 {
            self.owners.remove(&owner);
        } else {
            owned.count(pod, -1);
        }
    }

    /// A pod has another version.
    pub fn replace(&mut self, old: &Pod, new: &Pod) {
        if State::of(old) != State::of(new) || owner(old) != owner(new) || old.meta.labels != new.meta.labels {
            self.add(new);
            self.remove(old);
        }
    }
}

impl Owned {
    /// Adds a pod to the counts of those that wear the same labels, or takes it from them.
    fn count(&mut self, pod: &Pod, change: i32) {
        if self.various {
            return;
        }
        let labels = &pod.meta.labels;
        let found = self.groups.iter().position(|group| group.labels.same(labels) || group.labels == *labels);
        let place = found.unwrap_or_else(|| {
            self.groups.push(PodCounts { labels: labels.clone(), active: 0, ready: 0, terminating: 0, all: 0 });
            self.groups.len() - 1
        });
        if self.groups.len() > VARIETY {
            self.various = true;
            self.groups = Vec::new();
            return;
        }
        let group = &mut self.groups[place];
        let add = |count: &mut u32| *count = count.wrapping_add_signed(change);
        add(&mut group.all);
        match State::of(pod) {
            State::Ended => {}
            State::Terminating => add(&mut group.terminating),
            State::Waiting => add(&mut group.active),
            State::Ready => {
                add(&mut group.active);
                add(&mut group.ready);
            }
        }
        if group.all == 0 {
            self.groups.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::name::Name;
    use crate::api::pod::{PodPhase, PodSpec, PodStatus, QosClass, RestartPolicy};
    use crate::api::resources::Resources;
    use crate::apiserver::protocol::new_meta;
    use crate::engine::random::{Seed, Stream};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    fn spec() -> Rc<PodSpec> {
        Rc::new(PodSpec {
            full: Default::default(),
            containers: Vec::new(),
            init_count: 0,
            requests: Resources::default(),
            scoring_requests: Resources::default(),
            host_ports: Vec::new(),
            priority: 0,
            restart_policy: RestartPolicy::Always,
            grace_seconds: 30,
            qos: QosClass::BestEffort,
            merged: Default::default(),
        })
    }

    fn pod(chance: &mut Stream, spec: &Rc<PodSpec>, variety: u64) -> Pod {
        let uid = Uid(u128::from(chance.below(3)));
        let kind = if chance.ratio(1, 8) { "Job" } else { "ReplicaSet" };
        let owner = OwnerReference {
            api_version: Name::of("apps/v1"),
            kind: Name::of(kind),
            name: Name::of("set"),
            uid,
            controller: chance.ratio(7, 8),
            block_owner_deletion: false,
        };
        let mut meta = new_meta("default", "pod");
        meta.labels = Labels::NONE.with("app", format!("app-{}", chance.below(variety)));
        meta.owners = [owner].into();
        let phase = if chance.ratio(1, 4) { PodPhase::Failed } else { PodPhase::Running };
        let status = PodStatus { phase, ..PodStatus::default() };
        Pod { meta, spec: spec.clone(), node: None, only_node: None, token_volume: None, status }
    }

    /// What a look at all pods finds: labels and active pods.
    fn recount(pods: &BTreeMap<u64, Pod>, uid: Uid) -> Vec<(String, u32)> {
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for pod in pods.values().filter(|pod| owner(pod) == Some(uid)) {
            let label = pod.meta.labels.get("app").map_or_else(String::new, Name::to_string);
            *found.entry(label).or_default() += u32::from(pod.is_active());
        }
        found.into_iter().collect()
    }

    fn counted(counters: &Counters, uid: Uid) -> Option<Vec<(String, u32)>> {
        let name = |group: &PodCounts| group.labels.get("app").map_or_else(String::new, Name::to_string);
        let groups = counters.of(uid)?.iter().map(|group| (name(group), group.active));
        let sorted: BTreeMap<String, u32> = groups.collect();
        Some(sorted.into_iter().collect())
    }

    #[test]
    fn counts_are_those_of_a_look_at_all_pods() {
        let (mut chance, spec) = (Seed(11).stream("pod counts", "test"), spec());
        let (mut counters, mut pods) = (Counters::default(), BTreeMap::new());
        for _ in 0..3_000 {
            let place = chance.below(60);
            let new = (!chance.ratio(1, 3)).then(|| pod(&mut chance, &spec, 4));
            match (pods.remove(&place), &new) {
                (Some(old), Some(new)) => counters.replace(&old, new),
                (Some(old), None) => counters.remove(&old),
                (None, Some(new)) => counters.add(new),
                (None, None) => {}
            }
            pods.extend(new.map(|new| (place, new)));
            for uid in [Uid(0), Uid(1), Uid(2)] {
                assert_eq!(counted(&counters, uid), Some(recount(&pods, uid)));
            }
        }
    }

    #[test]
    fn an_owner_whose_pods_are_all_labelled_differently_is_not_counted_until_they_are_gone() {
        let (mut chance, spec) = (Seed(12).stream("pod counts", "test"), spec());
        let mut counters = Counters::default();
        let pods: Vec<_> = (0..2_000).map(|_| pod(&mut chance, &spec, 1_000_000)).collect();
        pods.iter().for_each(|pod| counters.add(pod));
        assert!(counters.of(Uid(1)).is_none());
        pods.iter().for_each(|pod| counters.remove(pod));
        assert_eq!(counters.of(Uid(1)).map(<[PodCounts]>::len), Some(0));
    }
}
