//! What a cache keeps so that control loops find objects by more than their place: by owner, by node, by label.
//!
//! Indexes hold slots of the cache; the objects in them are the cache's.

use std::cmp::Ordering;

use super::by_label::ByLabel;
use super::cache::compare;
use super::daemon_pods::DaemonPods;
use super::pod_counts::Counters;
use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::selector::Selector;
use crate::engine::hash::Map;
use crate::engine::order::Order;

/// What lies in the slots of a cache.
type Slots = [Option<Object>];

/// The indexes of a cache.
#[derive(Default)]
pub(super) struct Indexes {
    by_owner: Map<Uid, Order>,
    pods_by_node: Map<Name, Order>,
    orphans: Map<(Kind, Name), Order>,
    /// The pods of each Job that it still has to do with: not both ended and counted.
    unsettled: Map<Uid, Order>,
    /// How many pods each ReplicaSet has.
    pub pod_counts: Counters,
    by_label: ByLabel,
    /// Where the pods of DaemonSets are, once there is a DaemonSet.
    pub daemon_pods: Option<Box<DaemonPods>>,
}

/// Which indexes are meant: a pod that is bound keeps its owners, and finding its place among thousands of others of the
/// same owner is what costs.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// By owner, and the orphans.
    owners: bool,
    /// By node.
    node: bool,
    /// By label.
    labels: bool,
    /// By Job.
    job: bool,
}

impl Places {
    const ALL: Places = Places { owners: true, node: true, labels: true, job: true };

    /// Those in which the two versions of an object stand at different places.
    fn differing(old: &Object, new: &Object) -> Places {
        Places {
            owners: old.meta().owners != new.meta().owners,
            node: node(old) != node(new),
            labels: old.meta().labels != new.meta().labels,
            job: unsettled_job(old) != unsettled_job(new),
        }
    }
}

impl Indexes {
    /// All objects that name an owner.
    pub fn by_owner(&self, owner: Uid) -> Option<&Order> {
        self.by_owner.get(&owner)
    }

    /// All pods bound to a node.
    pub fn on_node(&self, node: &str) -> Option<&Order> {
        self.pods_by_node.get(node)
    }

    /// The names of all nodes to which pods are bound, in no order.
    pub fn nodes_with_pods(&self) -> impl Iterator<Item = &Name> {
        self.pods_by_node.keys()
    }

    /// All pods, ReplicaSets or ControllerRevisions of a namespace without controller.
    pub fn orphans(&self, kind: Kind, namespace: &Name) -> Option<&Order> {
        self.orphans.get(&(kind, namespace.clone()))
    }

    /// All pods of a Job but those that have ended and lost its finalizer.
    pub fn unsettled(&self, job: Uid) -> Option<&Order> {
        self.unsettled.get(&job)
    }

    /// All pods of a namespace among which those of a selector are; none if nothing is known.
    pub fn selectable(&self, namespace: &Name, selector: &Selector) -> Option<Option<&Order>> {
        self.by_label.candidates(namespace, selector)
    }

    /// Begins to keep what an object that comes asks for; `pods` are those that are there.
    pub fn prepare(&mut self, object: &Object, slots: &Slots, pods: Option<&Order>) {
        match object {
            Object::PodDisruptionBudget(budget) => {
                let Some(key) = self.by_label.wanted(&budget.selector) else { return };
                self.by_label.add_key(key.clone());
                for slot in pods.into_iter().flat_map(|pods| pods.iter(|left, right| compare(slots, left, right))) {
                    if let Some(object) = &slots[slot as usize] {
                        self.by_label.add_under(&key, object.meta(), slot);
                    }
                }
            }
            Object::DaemonSet(_) if self.daemon_pods.is_none() => {
                let found = self.daemon_pods.insert(Box::default());
                for (object, slot) in slots.iter().zip(0..) {
                    if let Some(Object::Pod(pod)) = object {
                        found.add(pod, slot);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes in what has come to lie in a slot.
    pub fn add(&mut self, slot: u32, slots: &Slots) {
        match (&slots[slot as usize], &mut self.daemon_pods) {
            (Some(Object::Pod(pod)), daemon_pods) => {
                self.pod_counts.add(pod);
                if let Some(daemon_pods) = daemon_pods {
                    daemon_pods.add(pod, slot);
                }
            }
            (Some(Object::Node(node)), Some(daemon_pods)) => daemon_pods.node_changed(None, Some(node)),
            _ => {}
        }
        self.put(slot, Places::ALL, slots);
    }

    /// Another version is going to lie in a slot: takes what is there out of those indexes in which the new one stands elsewhere, and
    /// says which these are.
    pub fn before(&mut self, slot: u32, new: &Object, slots: &Slots) -> Places {
        let Some(old) = &slots[slot as usize] else { return Places::ALL };
        match (old, new) {
            (Object::Pod(old), Object::Pod(new)) => {
                self.pod_counts.replace(old, new);
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.replace(old, new, slot);
                }
            }
            (Object::Node(old), Object::Node(new)) => {
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.node_changed(Some(old), Some(new));
                }
            }
            (Object::DaemonSet(old), Object::DaemonSet(new)) if old.meta.uid != new.meta.uid => {
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.forget(old.meta.uid);
                }
            }
            _ => {}
        }
        let differing = Places::differing(old, new);
        self.take(slot, differing, slots);
        differing
    }

    /// Forgets what is going to be taken out of a slot.
    pub fn remove(&mut self, slot: u32, slots: &Slots) {
        self.take(slot, Places::ALL, slots);
        match (&slots[slot as usize], &mut self.daemon_pods) {
            (Some(Object::Pod(pod)), daemon_pods) => {
                self.pod_counts.remove(pod);
                if let Some(daemon_pods) = daemon_pods {
                    daemon_pods.remove(pod, slot);
                }
            }
            (Some(Object::Node(node)), Some(daemon_pods)) => daemon_pods.node_changed(Some(node), None),
            (Some(Object::DaemonSet(set)), Some(daemon_pods)) => daemon_pods.forget(set.meta.uid),
            _ => {}
        }
    }

    /// Puts what lies in a slot into those indexes that are meant.
    pub fn put(&mut self, slot: u32, places: Places, slots: &Slots) {
        let Some(object) = &slots[slot as usize] else { return };
        if places.owners {
            for owner in distinct_owners(object) {
                self.by_owner.entry(owner).or_default().insert(slot);
            }
        }
        if places.node
            && let Some(node) = node(object)
        {
            self.pods_by_node.entry(node.clone()).or_default().insert(slot);
        }
        if places.owners && is_orphan(object) {
            let place = (object.kind(), object.meta().namespace.clone());
            self.orphans.entry(place).or_default().insert(slot);
        }
        if places.labels && object.kind() == Kind::Pod {
            self.by_label.add(object.meta(), slot);
        }
        if places.job
            && let Some(job) = unsettled_job(object)
        {
            self.unsettled.entry(job).or_default().insert(slot);
        }
    }

    fn take(&mut self, slot: u32, places: Places, slots: &Slots) {
        let Some(object) = &slots[slot as usize] else { return };
        let in_order = |left: u32, right: u32| compare(slots, left, right);
        if places.owners {
            for owner in distinct_owners(object) {
                if take_from(self.by_owner.get_mut(&owner), slot, in_order) {
                    self.by_owner.remove(&owner);
                }
            }
        }
        if places.node
            && let Some(node) = node(object)
            && take_from(self.pods_by_node.get_mut(node), slot, in_order)
        {
            self.pods_by_node.remove(node);
        }
        if places.owners && is_orphan(object) {
            let place = (object.kind(), object.meta().namespace.clone());
            if take_from(self.orphans.get_mut(&place), slot, in_order) {
                self.orphans.remove(&place);
            }
        }
        if places.labels && object.kind() == Kind::Pod {
            self.by_label.remove(object.meta(), slot, in_order);
        }
        if places.job
            && let Some(job) = unsettled_job(object)
            && take_from(self.unsettled.get_mut(&job), slot, in_order)
        {
            self.unsettled.remove(&job);
        }
    }

    /// True if there is nothing in any of those by owner and node.
    #[cfg(test)]
    pub fn are_empty(&self) -> bool {
        self.by_owner.is_empty() && self.pods_by_node.is_empty() && self.orphans.is_empty() && self.unsettled.is_empty()
    }
}

/// Takes a slot out of an index; true if nothing is left there.
fn take_from(order: Option<&mut Order>, slot: u32, in_order: impl Fn(u32, u32) -> Ordering) -> bool {
    order.is_some_and(|order| {
        order.remove(slot, in_order);
        order.is_empty()
    })
}

/// The owners, each once.
fn distinct_owners(object: &Object) -> impl Iterator<Item = Uid> + '_ {
    let owners = object.meta().owners();
    let is_first = move |index: usize, uid: Uid| owners[..index].iter().all(|before| before.uid != uid);
    owners
        .iter()
        .map(|owner| owner.uid)
        .enumerate()
        .filter(move |(index, uid)| is_first(*index, *uid))
        .map(|pair| pair.1)
}

fn node(object: &Object) -> Option<&Name> {
    match object {
        Object::Pod(pod) => pod.node.as_ref(),
        _ => None,
    }
}

/// The Job that still has to do with a pod: it is its controller, and the pod has not both ended and lost the finalizer.
fn unsettled_job(object: &Object) -> Option<Uid> {
    let Object::Pod(pod) = object else { return None };
    let job = pod.meta.controller().filter(|owner| owner.kind == "Job")?;
    (!pod.is_terminal() || pod.is_tracked()).then_some(job.uid)
}

/// True if the object is of a kind that controllers adopt and has no controller.
fn is_orphan(object: &Object) -> bool {
    matches!(object.kind(), Kind::Pod | Kind::ReplicaSet | Kind::ControllerRevision)
        && object.meta().controller().is_none()
}
