//! The pods of each DaemonSet by the node that they are on or for, and a journal of where something has changed, kept up to
//! date with the cache: so that a controller need not look at a thousand nodes because the pod of one of them changed.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::Pod;
use crate::engine::hash::Map;

/// A journal remembers so many changes. Who asks for older ones has to look at everything.
const REMEMBERED: usize = 1024;

/// The pods of all DaemonSets.
#[derive(Default)]
pub(super) struct DaemonPods {
    sets: Map<Uid, Places>,
    nodes: Journal,
    /// Counts all changes.
    clock: u64,
}

/// The pods of one DaemonSet.
struct Places {
    by_node: Map<Name, SmallVec<[u32; 1]>>,
    /// Those that are neither on a node nor for one.
    adrift: SmallVec<[u32; 1]>,
    journal: Journal,
    /// There is no such DaemonSet any more.
    gone: bool,
}

/// The names of nodes where something has changed, with the time of the clock.
#[derive(Default)]
struct Journal {
    changes: VecDeque<(u64, Name)>,
    /// It knows all changes after this.
    begins: u64,
}

impl Journal {
    fn note(&mut self, clock: u64, node: Name) {
        if self.changes.len() == REMEMBERED
            && let Some((forgotten, _)) = self.changes.pop_front()
        {
            self.begins = forgotten;
        }
        self.changes.push_back((clock, node));
    }

    fn after(&self, clock: u64) -> Option<impl Iterator<Item = &Name>> {
        let first = self.changes.partition_point(|(at, _)| *at <= clock);
        (clock >= self.begins).then(|| self.changes.range(first..).map(|(_, node)| node))
    }
}

/// The DaemonSet that controls a pod.
fn owner(pod: &Pod) -> Option<Uid> {
    pod.meta.controller().filter(|owner| owner.kind == "DaemonSet").map(|owner| owner.uid)
}

impl DaemonPods {
    /// The slots of a set's pods that are on a node or for it, in no order.
    pub fn at(&self, set: Uid, node: &str) -> &[u32] {
        self.sets.get(&set).and_then(|places| places.by_node.get(node)).map_or(&[], |slots| slots)
    }

    /// The slots of a set's pods that are neither on a node nor for one, in no order.
    pub fn adrift(&self, set: Uid) -> &[u32] {
        self.sets.get(&set).map_or(&[], |places| &places.adrift)
    }

    /// The nodes that a set's pods are on or for, in no order.
    pub fn places(&self, set: Uid) -> impl Iterator<Item = &Name> {
        self.sets.get(&set).into_iter().flat_map(|places| places.by_node.keys())
    }

    /// The present time of the clock.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Where nodes or a set's pods have changed since a time of the clock; none if that is too long ago.
    pub fn changes(&self, set: Uid, since: u64) -> Option<impl Iterator<Item = &Name>> {
        let of_pods = self.sets.get(&set).map(|places| places.journal.after(since));
        let of_pods = match of_pods {
            None => None,
            Some(known) => Some(known?),
        };
        Some(self.nodes.after(since)?.chain(of_pods.into_iter().flatten()))
    }

    /// A pod came.
    pub fn add(&mut self, pod: &Pod, slot: u32) {
        let Some(set) = owner(pod) else { return };
        self.clock += 1;
        let begins = self.clock - 1;
        let places = self.sets.entry(set).or_insert_with(|| Places {
            by_node: Map::default(),
            adrift: SmallVec::new(),
            journal: Journal { begins, ..Journal::default() },
            gone: false,
        });
        match pod.place() {
            Some(node) => {
                places.by_node.entry(node.clone()).or_default().push(slot);
                places.journal.note(self.clock, node.clone());
            }
            None => places.adrift.push(slot),
        }
    }

    /// A pod went.
    pub fn remove(&mut self, pod: &Pod, slot: u32) {
        let Some(set) = owner(pod) else { return };
        let Some(places) = self.sets.get_mut(&set) else { return };
        self.clock += 1;
        match pod.place() {
            Some(node) => {
                places.journal.note(self.clock, node.clone());
                if let Some(slots) = places.by_node.get_mut(node) {
                    slots.retain(|other| *other != slot);
                    if slots.is_empty() {
                        places.by_node.remove(node);
                    }
                }
            }
            None => places.adrift.retain(|other| *other != slot),
        }
        if places.gone {
            self.forget(set);
        }
    }

    /// A pod has another version.
    pub fn replace(&mut self, old: &Pod, new: &Pod, slot: u32) {
        if owner(old) != owner(new) || old.place() != new.place() {
            self.remove(old, slot);
            self.add(new, slot);
            return;
        }
        let places = owner(new).and_then(|set| self.sets.get_mut(&set));
        if let (Some(places), Some(node)) = (places, new.place()) {
            self.clock += 1;
            places.journal.note(self.clock, node.clone());
        }
    }

    /// A node came, went, or has another version.
    pub fn node_changed(&mut self, old: Option<&Node>, new: Option<&Node>) {
        if let (Some(old), Some(new)) = (old, new)
            && old.meta.labels == new.meta.labels
            && old.taints == new.taints
        {
            return;
        }
        if let Some(node) = new.or(old) {
            self.clock += 1;
            self.nodes.note(self.clock, node.meta.name.clone());
        }
    }

    /// A DaemonSet went: nothing is known of it any more as soon as it has no pods.
    pub fn forget(&mut self, set: Uid) {
        let Some(places) = self.sets.get_mut(&set) else { return };
        places.gone = true;
        if places.by_node.is_empty() && places.adrift.is_empty() {
            self.sets.remove(&set);
        }
    }
}
