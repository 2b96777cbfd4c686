//! The scheduler's own picture of the cluster: nodes in the order in which they are tried, and the pods on them, those
//! included that are only assumed to be there (kube-scheduler, `backend/cache`).
//!
//! It never decides anything. Each place in the list of nodes has a version that moves with everything a plugin may read
//! from the node, so that what was computed for a node can be kept.

use std::cell::RefCell;
use std::rc::Rc;

use super::groups::{Groups, Log};
use super::images::Images;
use super::node_info::NodeInfo;
use super::node_tree::NodeTree;
use super::objects::Objects;
use super::preemption::budgets::Budgets;
use super::storage::Storage;
use super::topology::Topology;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::hash::Map;

/// No place in the list of nodes.
const NOWHERE: u32 = u32::MAX;

/// Nodes and the pods on them.
#[derive(Default)]
pub struct Cluster {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: Map<Name, u32>,
    tree: NodeTree,
    /// The slots of all known nodes in the order in which they are tried.
    list: Vec<u32>,
    /// A number for each place in `list`, another one after each change of what plugins may read from the node.
    versions: Vec<u64>,
    last_version: u64,
    /// Another number after each change of `list`.
    list_version: u64,
    list_is_stale: bool,
    pods: Map<Uid, Placed>,
    groups: Groups,
    /// The topologies that were asked for since the list or a label last changed.
    topologies: RefCell<Vec<Rc<Topology>>>,
    labels_version: u64,
    taints_version: u64,
    images: Images,
    objects: Objects,
    budgets: Budgets,
    /// The nodes to which pods are nominated.
    nominations: Map<Uid, Name>,
    storage: Rc<Storage>,
    /// The slots of nodes on which a pod was said to have begun to run at another time: nothing but preemption reads that.
    starts: Log<u32>,
    /// Slots that changed since the last [`Cluster::refresh`].
    dirty: Vec<u32>,
}

struct Slot {
    info: NodeInfo,
    /// The place in the list.
    place: u32,
    /// Pods that are to come here once others have gone.
    nominated: Vec<Rc<Pod>>,
    /// Another number after each change of a pod that is here or nominated, also of such as no filter and no score depends on.
    pods_version: u64,
    is_dirty: bool,
}

/// A pod that is on a node or assumed to be.
struct Placed {
    pod: Rc<Pod>,
    slot: u32,
    group: u32,
    assumed: bool,
}

impl Cluster {
    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.list.len()
    }

    /// Changes with every node that comes or goes and with the order of the nodes.
    pub fn list_version(&self) -> u64 {
        self.list_version
    }

    /// The version of each node in the list.
    pub fn versions(&self) -> &[u64] {
        &self.versions
    }

    /// Moves with every change of a plugin's view of a node; each node's version is the one that it had after its last change.
    pub fn last_version(&self) -> u64 {
        self.last_version
    }

    /// Moves with every change of the list and of a node's labels.
    pub fn labels_version(&self) -> u64 {
        self.labels_version
    }

    /// Moves with every change of a node's taints.
    pub fn taints_version(&self) -> u64 {
        self.taints_version
    }

    /// The pods on nodes, in groups of such as are alike.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The slots of nodes on which a pod was said to have begun to run at another time.
    pub fn starts(&self) -> &Log<u32> {
        &self.starts
    }

    /// The place in the list of the node in a slot, if it is known.
    #[inline]
    pub fn place_of_slot(&self, slot: u32) -> Option<usize> {
        let place = self.slots[slot as usize].place;
        (place != NOWHERE).then_some(place as usize)
    }

    /// The domains of a label among the nodes.
    pub fn topology(&self, key: &Name) -> Rc<Topology> {
        let mut known = self.topologies.borrow_mut();
        if let Some(topology) = known.iter().find(|topology| topology.key == *key) {
            return topology.clone();
        }
        let values = self.nodes().map(|info| info.node.as_ref().and_then(|node| node.meta.labels.get(key)));
        let topology = Rc::new(Topology::new(key, values));
        known.push(topology.clone());
        topology
    }

    /// The node at a place in the list.
    pub fn at(&self, place: usize) -> &NodeInfo {
        &self.slots[self.list[place] as usize].info
    }

    /// All nodes in the order in which they are tried.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.list.iter().map(|slot| &self.slots[*slot as usize].info)
    }

    /// The place in the list of a node.
    pub fn place_of(&self, node: &str) -> Option<usize> {
        let place = self.slots[*self.by_name.get(node)? as usize].place;
        (place != NOWHERE).then_some(place as usize)
    }

    /// True if a pod is assumed to be on a node and not yet known to be.
    pub fn is_assumed(&self, pod: Uid) -> bool {
        self.pods.get(&pod).is_some_and(|placed| placed.assumed)
    }

    /// The node that a pod is on or assumed to be on.
    pub fn node_of(&self, pod: Uid) -> Option<Name> {
        let placed = self.pods.get(&pod)?;
        Some(self.slots[placed.slot as usize].info.name.clone())
    }

    /// A pod that is on a node or assumed to be.
    pub fn pod(&self, pod: Uid) -> Option<&Rc<Pod>> {
        Some(&self.pods.get(&pod)?.pod)
    }

    /// How many pods are on nodes or assumed to be.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Another number after each change of a pod that is on a node or nominated to it, its status included.
    pub fn pods_version(&self, place: usize) -> u64 {
        self.slots[self.list[place] as usize].pods_version
    }

    /// The pods that are nominated to a node, in the order of their nomination.
    pub fn nominated_at(&self, place: usize) -> &[Rc<Pod>] {
        &self.slots[self.list[place] as usize].nominated
    }

    /// The pods that are nominated to a node.
    pub fn nominated_to(&self, node: &str) -> &[Rc<Pod>] {
        self.by_name.get(node).map_or(&[], |slot| &self.slots[*slot as usize].nominated)
    }

    /// The node to which a pod is nominated.
    pub fn nomination_of(&self, pod: Uid) -> Option<&Name> {
        self.nominations.get(&pod)
    }

    /// True if any pod is nominated to a node.
    pub fn has_nominations(&self) -> bool {
        !self.nominations.is_empty()
    }

    /// The places of the nodes to which pods are nominated; one comes as often as there are such pods.
    pub fn nominated_places(&self) -> impl Iterator<Item = usize> {
        self.nominations.values().filter_map(|node| self.place_of(node))
    }

    /// Nominates a pod to a node, which pods of no higher priority then count as taken by it; in place of an older nomination.
    pub fn nominate(&mut self, pod: &Rc<Pod>, node: &Name) {
        self.withdraw(pod.meta.uid);
        let slot = self.slot(node);
        self.slots[slot as usize].nominated.push(pod.clone());
        self.nominations.insert(pod.meta.uid, node.clone());
        self.node_changed(slot);
        self.pods_changed(slot);
    }

    /// Takes a nomination back.
    pub fn withdraw(&mut self, pod: Uid) {
        let Some(node) = self.nominations.remove(&pod) else { return };
        let Some(&slot) = self.by_name.get(&node) else { return };
        self.slots[slot as usize].nominated.retain(|nominated| nominated.meta.uid != pod);
        self.node_changed(slot);
        self.pods_changed(slot);
        self.release_if_unused(slot);
    }

    /// The disruption budgets.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Objects of other kinds that plugins look at.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Volumes, claims to them and what else storage consists of.
    pub fn storage(&self) -> &Rc<Storage> {
        &self.storage
    }

    /// The same, to be changed. Nobody keeps it beyond a cycle, so it is not copied.
    pub fn storage_mut(&mut self) -> &mut Storage {
        Rc::make_mut(&mut self.storage)
    }

    /// Takes in a version of an object that is neither a node nor a pod.
    pub fn set_object(&mut self, object: &Object) {
        match object {
            Object::PodDisruptionBudget(budget) => self.budgets.set(budget),
            _ if Storage::holds(object.kind()) => self.storage_mut().set(object),
            _ => self.objects.set(object),
        }
    }

    /// Takes in that an object is gone that is neither a node nor a pod.
    pub fn remove_object(&mut self, object: &Object) {
        match object {
            Object::PodDisruptionBudget(budget) => self.budgets.remove(budget),
            _ if Storage::holds(object.kind()) => self.storage_mut().remove(object),
            _ => self.objects.remove(object),
        }
    }

    /// Brings the list and the image counts up to date. To be called before the cluster is read in a cycle.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.list_is_stale) {
            self.list_version += 1;
            self.labels_changed();
            for slot in &mut self.slots {
                slot.place = NOWHERE;
            }
            self.list = self.tree.list();
            for (place, slot) in self.list.iter().enumerate() {
                self.slots[*slot as usize].place = place as u32;
            }
            self.last_version += 1;
            self.versions.clear();
            self.versions.resize(self.list.len(), self.last_version);
        }
        for number in std::mem::take(&mut self.dirty) {
            let slot = &mut self.slots[number as usize];
            slot.is_dirty = false;
            if self.images.refresh(&mut slot.info) {
                self.node_changed(number);
            }
        }
    }

    /// Takes a version of a node in.
    pub fn set_node(&mut self, node: Rc<Node>) {
        let number = self.slot(&node.meta.name);
        let info = &mut self.slots[number as usize].info;
        let old = info.node.replace(node.clone());
        let moved = self.tree.set(number, &node);
        self.list_is_stale |= moved;
        if old.as_ref().is_none_or(|old| old.status.images != node.status.images) {
            self.images.set(info, &node);
        }
        if old
            .as_ref()
            .is_none_or(|old| !old.meta.labels.same(&node.meta.labels) && old.meta.labels != node.meta.labels)
        {
            self.labels_changed();
        }
        if old.as_ref().is_none_or(|old| old.taints != node.taints) {
            self.taints_version += 1;
        }
        if old.is_none_or(|old| differs_for_plugins(&old, &node)) {
            self.node_changed(number);
        }
        self.mark_dirty(number);
    }

    /// Takes a node out. Pods that are on it stay until they are gone too.
    pub fn remove_node(&mut self, node: &str) {
        let Some(&number) = self.by_name.get(node) else { return };
        let info = &mut self.slots[number as usize].info;
        if info.node.take().is_none() {
            return;
        }
        self.images.remove(info);
        self.tree.remove(number);
        self.list_is_stale = true;
        self.release_if_unused(number);
    }

    /// Assumes that a pod is on a node; false if it is known to be on one already.
    pub fn assume(&mut self, pod: &Rc<Pod>, node: &Name) -> bool {
        if self.pods.contains_key(&pod.meta.uid) {
            return false;
        }
        self.place(pod, node, true);
        true
    }

    /// Forgets a pod that was assumed to be on a node.
    pub fn forget(&mut self, pod: Uid) {
        if self.is_assumed(pod) {
            self.remove_pod(pod);
        }
    }

    /// Takes in that a pod is on a node. What the node shows of images is brought up to date with every version of its pods.
    pub fn see_pod(&mut self, pod: &Rc<Pod>, node: &Name) {
        // What was assumed of its volumes has been written.
        if pod.spec.full.volumes.is_some() && self.storage.reservation(pod.meta.uid).is_some() {
            self.storage_mut().settle(pod.meta.uid);
        }
        let slot = self.by_name.get(node).copied();
        match self.pods.get_mut(&pod.meta.uid) {
            Some(placed) if Some(placed.slot) == slot && demands_the_same(&placed.pod, pod) => {
                if !has_same_labels(&placed.pod, pod) {
                    return self.relabel(pod);
                }
                let has_started = placed.pod.status.start_time != pod.status.start_time;
                (placed.assumed, placed.pod) = (false, pod.clone());
                let slot = placed.slot;
                if has_started {
                    self.starts.note(slot);
                }
                self.slots[slot as usize].info.replace(pod);
                self.pods_changed(slot);
                self.mark_dirty(slot);
            }
            Some(_) => {
                self.remove_pod(pod.meta.uid);
                self.place(pod, node, false);
            }
            None => self.place(pod, node, false),
        }
    }

    /// Takes in another version of a pod on a node that differs in its labels, as the labels of its node are added when it is bound. The
    /// node is as it was but for the order of its pods.
    fn relabel(&mut self, pod: &Rc<Pod>) {
        let group = self.groups.of(pod);
        let Some(placed) = self.pods.get_mut(&pod.meta.uid) else { return };
        let has_started = placed.pod.status.start_time != pod.status.start_time;
        let (old, slot) = (std::mem::replace(&mut placed.group, group), placed.slot);
        (placed.assumed, placed.pod) = (false, pod.clone());
        if has_started {
            self.starts.note(slot);
        }
        self.slots[slot as usize].info.put_last(pod);
        if self.groups.swap(old, group, slot) {
            self.forget_empty_groups();
        }
        self.touch(slot);
        self.pods_changed(slot);
        self.mark_dirty(slot);
    }

    fn forget_empty_groups(&mut self) {
        let numbers = self.groups.forget_empty();
        self.pods.values_mut().for_each(|placed| placed.group = numbers[placed.group as usize]);
    }

    /// Takes a pod off its node; true if it was on one.
    pub fn remove_pod(&mut self, pod: Uid) -> bool {
        let Some(placed) = self.pods.remove(&pod) else { return false };
        self.slots[placed.slot as usize].info.remove(pod);
        if placed.pod.spec.full.volumes.is_some() {
            self.storage_mut().remove_user(&placed.pod);
        }
        if self.groups.remove(placed.group, placed.slot) {
            self.forget_empty_groups();
        }
        self.touch(placed.slot);
        self.pods_changed(placed.slot);
        self.mark_dirty(placed.slot);
        self.release_if_unused(placed.slot);
        true
    }

    fn place(&mut self, pod: &Rc<Pod>, node: &Name, assumed: bool) {
        let slot = self.slot(node);
        self.slots[slot as usize].info.add(pod);
        if pod.spec.full.volumes.is_some() {
            self.storage_mut().add_user(pod);
        }
        let group = if assumed { self.groups.of_assumed(pod) } else { self.groups.of(pod) };
        self.groups.add(group, slot);
        self.pods.insert(pod.meta.uid, Placed { pod: pod.clone(), slot, group, assumed });
        self.touch(slot);
        self.pods_changed(slot);
        self.mark_dirty(slot);
    }

    /// The slot of a node, made if there is none.
    fn slot(&mut self, node: &Name) -> u32 {
        if let Some(number) = self.by_name.get(node) {
            return *number;
        }
        let slot = Slot {
            info: NodeInfo::new(node.clone()),
            place: NOWHERE,
            nominated: Vec::new(),
            pods_version: self.last_version,
            is_dirty: false,
        };
        let number = match self.free.pop() {
            Some(number) => {
                // The slot may still be in line to be refreshed.
                let is_dirty = self.slots[number as usize].is_dirty;
                self.slots[number as usize] = Slot { is_dirty, ..slot };
                number
            }
            None => {
                // A slot is large: as many again would be too many in reserve.
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(self.slots.len() / 8 + 8);
                }
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.by_name.insert(node.clone(), number);
        number
    }

    fn release_if_unused(&mut self, number: u32) {
        let Slot { info, nominated, .. } = &self.slots[number as usize];
        if info.node.is_none() && info.pods.is_empty() && nominated.is_empty() {
            self.by_name.remove(&info.name);
            self.free.push(number);
        }
    }

    fn pods_changed(&mut self, number: u32) {
        self.last_version += 1;
        self.slots[number as usize].pods_version = self.last_version;
    }

    fn touch(&mut self, number: u32) {
        let place = self.slots[number as usize].place as usize;
        if let Some(version) = self.versions.get_mut(place) {
            self.last_version += 1;
            *version = self.last_version;
        }
    }

    /// A node changed in itself.
    fn node_changed(&mut self, number: u32) {
        self.touch(number);
        self.groups.node_changed(number);
    }

    fn labels_changed(&mut self) {
        self.labels_version += 1;
        self.topologies.borrow_mut().clear();
    }

    fn mark_dirty(&mut self, number: u32) {
        if !std::mem::replace(&mut self.slots[number as usize].is_dirty, true) {
            self.dirty.push(number);
        }
    }
}

/// True if two versions of a pod are the same to all plugins, but for their labels.
fn demands_the_same(old: &Pod, new: &Pod) -> bool {
    Rc::ptr_eq(&old.spec, &new.spec)
        && old.meta.is_deleting() == new.meta.is_deleting()
        && (old.status.reported.is_none() && new.status.reported.is_none() || old.resized() == new.resized())
}

fn has_same_labels(old: &Pod, new: &Pod) -> bool {
    old.meta.labels.same(&new.meta.labels) || old.meta.labels == new.meta.labels
}

/// True unless the versions of a node differ only in what no plugin reads: heartbeats, conditions, addresses.
fn differs_for_plugins(old: &Node, new: &Node) -> bool {
    old.unschedulable != new.unschedulable
        || old.taints != new.taints
        || old.status.allocatable != new.status.allocatable
        || old.status.images != new.status.images
        || old.status.declared_features != new.status.declared_features
        || old.meta.labels != new.meta.labels
        || old.meta.annotations != new.meta.annotations
}
