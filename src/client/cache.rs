//! The objects of one component's informers, indexed as control loops ask for them.
//!
//! Objects are shared by reference with the rest of the program. An entry costs a slot of 16 bytes, a place in a hash table
//! of five bytes and four to eight bytes in each index; nothing is allocated to look something up. Iteration is by namespace
//! and name.

use std::cmp::Ordering;
use std::hash::Hasher;
use std::rc::Rc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::by_label::ByLabel;
use super::daemon_pods::DaemonPods;
use super::pod_counts::{Counters, PodCounts};
use super::view::View;
use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::selector::Selector;
use crate::engine::hash::{FixedHasher, Map};
use crate::engine::order::Order;

/// The objects of one component's informers. Always somewhat behind the truth.
#[derive(Default)]
pub struct Cache {
    slots: Vec<Option<Object>>,
    free: Vec<u32>,
    /// The slots by kind, namespace and name.
    places: HashTable<u32>,
    kinds: [Order; REGISTRY.len()],
    by_owner: Map<Uid, Order>,
    pods_by_node: Map<Name, Order>,
    orphans: Map<(Kind, Name), Order>,
    /// The pods of each Job that it still has to do with: not both ended and counted.
    unsettled: Map<Uid, Order>,
    pod_counts: Counters,
    by_label: ByLabel,
    /// Once there is a DaemonSet.
    daemon_pods: Option<Box<DaemonPods>>,
    synced: [bool; REGISTRY.len()],
}

impl Cache {
    /// Takes a version of an object in; returns what it replaces.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let meta = object.meta();
        let hash = hash(object.kind(), &meta.namespace, &meta.name);
        if let Object::PodDisruptionBudget(budget) = &object {
            self.index_for(&budget.selector);
        }
        if matches!(object, Object::DaemonSet(_)) && self.daemon_pods.is_none() {
            self.daemon_pods = Some(Box::new(self.find_daemon_pods()));
        }
        match self.find_hashed(hash, object.kind(), &meta.namespace, &meta.name) {
            Some(slot) => self.replace(slot, object),
            None => {
                self.add(hash, object);
                None
            }
        }
    }

    /// Takes an object out; returns it.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Object> {
        self.remove_at(key.kind, &key.namespace, &key.name)
    }

    /// Takes out what stands at the place of an object; returns it.
    pub fn take_out(&mut self, object: &Object) -> Option<Object> {
        let meta = object.meta();
        self.remove_at(object.kind(), &meta.namespace, &meta.name)
    }

    /// Notes that the first list of a kind has arrived.
    pub fn mark_synced(&mut self, kind: Kind) {
        self.synced[kind as usize] = true;
    }

    /// A view for readers.
    pub fn view(&self) -> View<'_> {
        View::of(self)
    }

    /// The object at a place.
    pub(super) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let slot = self.find_hashed(hash(kind, namespace, name), kind, namespace, name)?;
        self.slots[slot as usize].as_ref()
    }

    /// All objects of a kind, by namespace and name.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects(Some(&self.kinds[kind as usize]))
    }

    /// All objects of a kind from a namespace on, by namespace and name.
    pub(super) fn of_kind_from<'a>(
        &'a self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let in_order = |left: u32, right: u32| compare(&self.slots, left, right);
        let to_namespace = |there: u32| self.namespace_of(there).cmp(namespace);
        let slots = self.kinds[kind as usize].iter_from(in_order, &to_namespace);
        slots.filter_map(|slot| self.slots[slot as usize].as_ref())
    }

    /// All objects that name an owner, by kind, namespace and name.
    pub(super) fn owned_by(&self, owner: Uid) -> impl Iterator<Item = &Object> {
        self.objects(self.by_owner.get(&owner))
    }

    /// All pods bound to a node, by namespace and name.
    pub(super) fn on_node<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.objects(self.pods_by_node.get(node))
    }

    /// The names of all nodes to which pods are bound, in no order.
    pub(super) fn nodes_with_pods(&self) -> impl Iterator<Item = &Name> {
        self.pods_by_node.keys()
    }

    /// All pods, ReplicaSets or ControllerRevisions of a namespace without controller, by name.
    pub(super) fn orphans<'a>(&'a self, kind: Kind, namespace: &Name) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.objects(self.orphans.get(&(kind, namespace.clone())))
    }

    /// All pods of a namespace among which those of a selector are, by name.
    pub(super) fn selectable<'a>(
        &'a self,
        namespace: &Name,
        selector: &Selector,
    ) -> Option<impl Iterator<Item = &'a Object> + use<'a>> {
        Some(self.objects(self.by_label.candidates(namespace, selector)?))
    }

    /// Sees to it that the pods of a selector are found.
    fn index_for(&mut self, selector: &Selector) {
        let Some(key) = self.by_label.wanted(selector) else { return };
        self.by_label.add_key(key.clone());
        let slots = &self.slots;
        for slot in self.kinds[Kind::Pod as usize].iter(|left, right| compare(slots, left, right)) {
            if let Some(object) = &slots[slot as usize] {
                self.by_label.add_under(&key, object.meta(), slot);
            }
        }
    }

    /// The pods of all DaemonSets that are here.
    fn find_daemon_pods(&self) -> DaemonPods {
        let mut found = DaemonPods::default();
        for (object, slot) in self.slots.iter().zip(0..) {
            if let Some(Object::Pod(pod)) = object {
                found.add(pod, slot);
            }
        }
        found
    }

    /// The pods of a DaemonSet that are on a node or for it, by name.
    pub(super) fn daemon_pods_at(&self, set: Uid, node: &str) -> SmallVec<[&Rc<Pod>; 1]> {
        self.pods_in(self.daemon_pods.as_ref().map_or(&[], |pods| pods.at(set, node)))
    }

    /// The pods of a DaemonSet that are neither on a node nor for one, by name.
    pub(super) fn daemon_pods_adrift(&self, set: Uid) -> SmallVec<[&Rc<Pod>; 1]> {
        self.pods_in(self.daemon_pods.as_ref().map_or(&[], |pods| pods.adrift(set)))
    }

    /// What is known of the places of DaemonSets' pods, once there is a DaemonSet.
    pub(super) fn daemon_pods(&self) -> Option<&DaemonPods> {
        self.daemon_pods.as_deref()
    }

    fn pods_in(&self, slots: &[u32]) -> SmallVec<[&Rc<Pod>; 1]> {
        let mut pods: SmallVec<[&Rc<Pod>; 1]> =
            slots.iter().filter_map(|slot| Pod::of(self.slots[*slot as usize].as_ref()?)).collect();
        if pods.len() > 1 {
            pods.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
        }
        pods
    }

    /// All pods of a Job but those that have ended and lost its finalizer, by namespace and name.
    pub(super) fn unsettled(&self, job: Uid) -> impl Iterator<Item = &Object> {
        self.objects(self.unsettled.get(&job))
    }

    /// How many pods a ReplicaSet has, by labels; none if they wear too many different ones.
    pub(super) fn pod_counts(&self, owner: Uid) -> Option<&[PodCounts]> {
        self.pod_counts.of(owner)
    }

    /// How many objects of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].len()
    }

    /// True once the first list of a kind has arrived.
    pub(super) fn has_synced(&self, kind: Kind) -> bool {
        self.synced[kind as usize]
    }

    fn objects<'a>(&'a self, order: Option<&'a Order>) -> impl Iterator<Item = &'a Object> + use<'a> {
        let slots = order.map(|order| order.iter(|left, right| compare(&self.slots, left, right)));
        slots.into_iter().flatten().filter_map(|slot| self.slots[slot as usize].as_ref())
    }

    fn namespace_of(&self, slot: u32) -> &str {
        self.slots[slot as usize].as_ref().map_or("", |object| &object.meta().namespace)
    }

    fn find_hashed(&self, hash: u64, kind: Kind, namespace: &str, name: &str) -> Option<u32> {
        let is_there = |slot: &u32| {
            self.slots[*slot as usize].as_ref().is_some_and(|object| place(object) == (kind, namespace, name))
        };
        self.places.find(hash, is_there).copied()
    }

    fn replace(&mut self, slot: u32, object: Object) -> Option<Object> {
        let entry = &mut self.slots[slot as usize];
        match (&*entry, &object) {
            (Some(Object::Pod(old)), Object::Pod(new)) => {
                self.pod_counts.replace(old, new);
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.replace(old, new, slot);
                }
            }
            (Some(Object::Node(old)), Object::Node(new)) => {
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.node_changed(Some(old), Some(new));
                }
            }
            (Some(Object::DaemonSet(old)), Object::DaemonSet(new)) if old.meta.uid != new.meta.uid => {
                if let Some(daemon_pods) = &mut self.daemon_pods {
                    daemon_pods.forget(old.meta.uid);
                }
            }
            _ => {}
        }
        let moved = Places::differing(entry.as_ref(), &object);
        self.unindex(slot, moved);
        let old = self.slots[slot as usize].replace(object);
        self.index(slot, moved);
        old
    }

    fn add(&mut self, hash: u64, object: Object) {
        let kind = object.kind();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 objects")
        });
        match (&object, &mut self.daemon_pods) {
            (Object::Pod(pod), daemon_pods) => {
                self.pod_counts.add(pod);
                if let Some(daemon_pods) = daemon_pods {
                    daemon_pods.add(pod, slot);
                }
            }
            (Object::Node(node), Some(daemon_pods)) => daemon_pods.node_changed(None, Some(node)),
            _ => {}
        }
        self.slots[slot as usize] = Some(object);
        let slots = &self.slots;
        self.places.insert_unique(hash, slot, |there| slots[*there as usize].as_ref().map_or(0, hash_of));
        self.kinds[kind as usize].insert(slot);
        self.index(slot, Places::ALL);
    }

    fn remove_at(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        let hash = hash(kind, namespace, name);
        let slot = self.find_hashed(hash, kind, namespace, name)?;
        self.unindex(slot, Places::ALL);
        let slots = &self.slots;
        self.kinds[kind as usize].remove(slot, |left, right| compare(slots, left, right));
        if let Ok(entry) = self.places.find_entry(hash, |there| *there == slot) {
            entry.remove();
        }
        if self.places.len() < self.places.capacity() / 8 {
            self.places.shrink_to(self.places.len() * 2, |there| slots[*there as usize].as_ref().map_or(0, hash_of));
        }
        self.free.push(slot);
        let gone = self.slots[slot as usize].take();
        match (&gone, &mut self.daemon_pods) {
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
        gone
    }

    fn index(&mut self, slot: u32, places: Places) {
        let slots = &self.slots;
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

    fn unindex(&mut self, slot: u32, places: Places) {
        let slots = &self.slots;
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
}

/// Which indexes are meant: a pod that is bound keeps its owners, and finding its place among thousands of others of the
/// same owner is what costs.
#[derive(Clone, Copy)]
struct Places {
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
    fn differing(old: Option<&Object>, new: &Object) -> Places {
        match old {
            None => Places::ALL,
            Some(old) => Places {
                owners: old.meta().owners != new.meta().owners,
                node: node(old) != node(new),
                labels: old.meta().labels != new.meta().labels,
                job: unsettled_job(old) != unsettled_job(new),
            },
        }
    }
}

/// Takes a slot out of an index; true if nothing is left there.
fn take_from(order: Option<&mut Order>, slot: u32, in_order: impl Fn(u32, u32) -> Ordering) -> bool {
    order.is_some_and(|order| {
        order.remove(slot, in_order);
        order.is_empty()
    })
}

fn hash(kind: Kind, namespace: &str, name: &str) -> u64 {
    let mut hasher = FixedHasher::default();
    hasher.write_u8(kind as u8);
    hasher.write(namespace.as_bytes());
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn hash_of(object: &Object) -> u64 {
    let (kind, namespace, name) = place(object);
    hash(kind, namespace, name)
}

fn place(object: &Object) -> (Kind, &str, &str) {
    let meta = object.meta();
    (object.kind(), &meta.namespace, &meta.name)
}

fn compare(slots: &[Option<Object>], left: u32, right: u32) -> Ordering {
    let place = |slot: u32| slots[slot as usize].as_ref().map(place);
    if left == right { Ordering::Equal } else { place(left).cmp(&place(right)) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::{Meta, OwnerReference};
    use crate::api::object::Resource;
    use crate::api::pod::{Pod, PodSpec, PodStatus, QosClass, RestartPolicy};
    use crate::api::resources::Resources;
    use crate::client::script::config_map;
    use crate::engine::random::{Seed, Stream};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    const NAMES: [&str; 3] = ["a", "b", "c"];

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

    fn owner(uid: u64, controller: bool) -> OwnerReference {
        OwnerReference {
            api_version: Name::of("apps/v1"),
            kind: Name::of("ReplicaSet"),
            name: Name::of("set"),
            uid: Uid(u128::from(uid)),
            controller,
            block_owner_deletion: false,
        }
    }

    /// A pod in one of three namespaces, on one of three nodes or none, with up to three owners, perhaps the same twice.
    fn pod(chance: &mut Stream, spec: &Rc<PodSpec>) -> Object {
        let owners: Vec<OwnerReference> =
            (0..chance.below(4)).map(|place| owner(chance.below(3), place == 0 && chance.ratio(2, 3))).collect();
        let meta = Meta {
            namespace: NAMES[chance.below(3) as usize].into(),
            name: format!("pod-{}", chance.below(40)).into(),
            owners: (!owners.is_empty()).then(|| owners.into()),
            ..Meta::default()
        };
        let node = NAMES.get(chance.below(4) as usize).map(|node| Name::of(node));
        Pod { meta, spec: spec.clone(), node, only_node: None, token_volume: None, status: PodStatus::default() }
            .boxed()
    }

    fn names<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<(Kind, &'a str, &'a str)> {
        objects.map(place).collect()
    }

    #[test]
    fn every_index_shows_what_a_search_through_all_objects_finds_in_the_same_order() {
        let (mut chance, spec) = (Seed(3).stream("cache", "test"), spec());
        let (mut cache, mut all) = (Cache::default(), BTreeMap::new());
        for round in 0..4_000 {
            let object =
                if chance.ratio(1, 8) { config_map(&format!("m{}", chance.below(9))) } else { pod(&mut chance, &spec) };
            let old = if chance.ratio(1, 3) {
                let known = all.remove(&object.key());
                (cache.remove(&object.key()), known)
            } else {
                (cache.insert(object.clone()), all.insert(object.key(), object))
            };
            assert!(match &old {
                (Some(left), Some(right)) => left.same(right),
                (left, right) => left.is_none() && right.is_none(),
            });
            if round % 50 != 0 {
                continue;
            }
            let find = |test: &dyn Fn(&Object) -> bool| names(all.values().filter(|object| test(object)));
            let view = cache.view();
            for kind in [Kind::Pod, Kind::ConfigMap, Kind::Node] {
                assert_eq!(names(view.objects(kind)), find(&|object| object.kind() == kind));
                assert_eq!(view.count(kind), find(&|object| object.kind() == kind).len());
            }
            for name in NAMES {
                let inside = |object: &Object| object.kind() == Kind::Pod && object.meta().namespace == name;
                assert_eq!(names(view.objects_in(Kind::Pod, name)), find(&inside));
                let on = |object: &Object| node(object).is_some_and(|node| node == name);
                assert_eq!(view.pods_on(name).count(), find(&on).len());
                assert_eq!(names(cache.on_node(name)), find(&on));
                let orphan = |object: &Object| inside(object) && object.meta().controller().is_none();
                assert_eq!(names(cache.orphans(Kind::Pod, &name.into())), find(&orphan));
            }
            for uid in 0..3 {
                let uid = Uid(uid);
                let owned = |object: &Object| object.meta().owners().iter().any(|owner| owner.uid == uid);
                assert_eq!(names(view.dependent_objects(uid)), find(&owned));
            }
            assert!(all.iter().all(|(key, object)| view.object(key).is_some_and(|found| found.same(object))));
        }
        for key in all.keys() {
            cache.remove(key);
        }
        assert!(cache.by_owner.is_empty() && cache.pods_by_node.is_empty() && cache.orphans.is_empty());
        assert!(cache.places.is_empty() && cache.free.len() == cache.slots.len());
    }
}
