//! The objects of one component's informers, found by place and listed by kind; with indexes beside them where control loops ask for more.
//!
//! Objects are shared by reference with the rest of the program. An entry costs a slot of 16 bytes, a place in a hash table
//! of five bytes and four to eight bytes in each index; nothing is allocated to look something up. Iteration is by namespace
//! and name.

use std::cmp::Ordering;
use std::hash::Hasher;
use std::rc::Rc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::indexes::Indexes;
use super::view::View;
use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::ObjectKey;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::engine::hash::FixedHasher;
use crate::engine::order::Order;

/// The objects of one component's informers. Always somewhat behind the truth.
pub struct Cache {
    slots: Vec<Option<Object>>,
    free: Vec<u32>,
    /// The slots by kind, namespace and name.
    places: HashTable<u32>,
    /// The slots of each kind; none of one of which there never was an object. Every kubelet has a cache, with few kinds in it.
    kinds: [Option<Box<Order>>; REGISTRY.len()],
    /// By owners, nodes and labels, as control loops ask; none where nobody does ([`Cache::plain`]).
    indexes: Option<Box<Indexes>>,
    synced: [bool; REGISTRY.len()],
}

impl Default for Cache {
    fn default() -> Self {
        Cache { indexes: Some(Box::default()), ..Cache::plain() }
    }
}

impl Cache {
    /// A cache without indexes, for those who ask for places and kinds alone: nothing else may be asked of its views.
    pub(crate) fn plain() -> Self {
        Cache {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashTable::new(),
            kinds: [const { None }; REGISTRY.len()],
            indexes: None,
            synced: [false; REGISTRY.len()],
        }
    }

    /// Takes a version of an object in; returns what it replaces.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let meta = object.meta();
        let hash = hash(object.kind(), &meta.namespace, &meta.name);
        if let Some(indexes) = &mut self.indexes {
            indexes.prepare(&object, &self.slots, self.kinds[Kind::Pod as usize].as_deref());
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
        self.objects(self.kinds[kind as usize].as_deref())
    }

    /// All objects of a kind from a namespace on, by namespace and name.
    pub(super) fn of_kind_from<'a>(
        &'a self,
        kind: Kind,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let in_order = |left: u32, right: u32| compare(&self.slots, left, right);
        let to_namespace = |there: u32| self.namespace_of(there).cmp(namespace);
        let slots = self.kinds[kind as usize].as_ref().map(|order| order.iter_from(in_order, &to_namespace));
        slots.into_iter().flatten().filter_map(|slot| self.slots[slot as usize].as_ref())
    }

    /// The indexes.
    ///
    /// # Panics
    ///
    /// If the cache is plain.
    pub(super) fn indexes(&self) -> &Indexes {
        self.indexes.as_ref().expect("a cache with indexes")
    }

    /// The objects of an index, by kind, namespace and name.
    pub(super) fn objects<'a>(&'a self, order: Option<&'a Order>) -> impl Iterator<Item = &'a Object> + use<'a> {
        let slots = order.map(|order| order.iter(|left, right| compare(&self.slots, left, right)));
        slots.into_iter().flatten().filter_map(|slot| self.slots[slot as usize].as_ref())
    }

    /// The objects of a kind in an index, by namespace and name; those of other kinds are not looked at.
    pub(super) fn objects_of_kind<'a>(
        &'a self,
        order: Option<&'a Order>,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let in_order = |left: u32, right: u32| compare(&self.slots, left, right);
        let to_kind = |there: u32| self.slots[there as usize].as_ref().map(Object::kind).cmp(&Some(kind));
        let slots = order.map(|order| order.iter_from(in_order, &to_kind));
        let objects = slots.into_iter().flatten().filter_map(|slot| self.slots[slot as usize].as_ref());
        objects.take_while(move |object| object.kind() == kind)
    }

    /// The pods in some slots, by name.
    pub(super) fn pods_in(&self, slots: &[u32]) -> SmallVec<[&Rc<Pod>; 1]> {
        let mut pods: SmallVec<[&Rc<Pod>; 1]> =
            slots.iter().filter_map(|slot| Pod::of(self.slots[*slot as usize].as_ref()?)).collect();
        if pods.len() > 1 {
            pods.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
        }
        pods
    }

    /// How many objects of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize].as_ref().map_or(0, |order| order.len())
    }

    /// True once the first list of a kind has arrived.
    pub(super) fn has_synced(&self, kind: Kind) -> bool {
        self.synced[kind as usize]
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
        let Some(indexes) = &mut self.indexes else { return self.slots[slot as usize].replace(object) };
        let differing = indexes.before(slot, &object, &self.slots);
        let old = self.slots[slot as usize].replace(object);
        indexes.put(slot, differing, &self.slots);
        old
    }

    fn add(&mut self, hash: u64, object: Object) {
        let kind = object.kind();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 objects")
        });
        self.slots[slot as usize] = Some(object);
        let slots = &self.slots;
        self.places.insert_unique(hash, slot, |there| slots[*there as usize].as_ref().map_or(0, hash_of));
        self.kinds[kind as usize].get_or_insert_default().insert(slot);
        if let Some(indexes) = &mut self.indexes {
            indexes.add(slot, &self.slots);
        }
    }

    fn remove_at(&mut self, kind: Kind, namespace: &str, name: &str) -> Option<Object> {
        let hash = hash(kind, namespace, name);
        let slot = self.find_hashed(hash, kind, namespace, name)?;
        if let Some(indexes) = &mut self.indexes {
            indexes.remove(slot, &self.slots);
        }
        let slots = &self.slots;
        if let Some(order) = &mut self.kinds[kind as usize] {
            order.remove(slot, |left, right| compare(slots, left, right));
        }
        if let Ok(entry) = self.places.find_entry(hash, |there| *there == slot) {
            entry.remove();
        }
        if self.places.len() < self.places.capacity() / 8 {
            self.places.shrink_to(self.places.len() * 2, |there| slots[*there as usize].as_ref().map_or(0, hash_of));
        }
        self.free.push(slot);
        self.slots[slot as usize].take()
    }
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

/// How what lies in two slots stands to each other.
pub(super) fn compare(slots: &[Option<Object>], left: u32, right: u32) -> Ordering {
    let place = |slot: u32| slots[slot as usize].as_ref().map(place);
    if left == right { Ordering::Equal } else { place(left).cmp(&place(right)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::{Meta, OwnerReference, Uid};
    use crate::api::name::Name;
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
        let mut meta = Meta { name: format!("pod-{}", chance.below(40)).into(), ..Meta::default() };
        (meta.namespace, meta.owners) = (NAMES[chance.below(3) as usize].into(), owners.into());
        let node = NAMES.get(chance.below(4) as usize).map(|node| Name::of(node));
        Pod { meta, spec: spec.clone(), node, only_node: None, token_volume: None, status: PodStatus::default() }
            .boxed()
    }

    /// A ConfigMap that has an owner, besides pods.
    fn owned_config_map(chance: &mut Stream) -> Object {
        let Object::ConfigMap(mut map) = config_map(&format!("m{}", chance.below(9))) else { panic!("no ConfigMap") };
        Rc::make_mut(&mut map).meta.owners = [owner(chance.below(3), false)].into();
        Object::ConfigMap(map)
    }

    fn names<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<(Kind, &'a str, &'a str)> {
        objects.map(place).collect()
    }

    #[test]
    fn every_index_shows_what_a_search_through_all_objects_finds_in_the_same_order() {
        let (mut chance, spec) = (Seed(3).stream("cache", "test"), spec());
        let (mut cache, mut all) = (Cache::default(), BTreeMap::new());
        for round in 0..4_000 {
            let object = if chance.ratio(1, 8) { owned_config_map(&mut chance) } else { pod(&mut chance, &spec) };
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
                let on = |object: &Object| {
                    Pod::of(object).is_some_and(|pod| pod.node.as_ref().is_some_and(|node| node == name))
                };
                assert_eq!(view.pods_on(name).count(), find(&on).len());
                let indexes = cache.indexes();
                assert_eq!(names(cache.objects(indexes.on_node(name))), find(&on));
                let orphan = |object: &Object| inside(object) && object.meta().controller().is_none();
                assert_eq!(names(cache.objects(indexes.orphans(Kind::Pod, &name.into()))), find(&orphan));
            }
            for uid in 0..3 {
                let uid = Uid(uid);
                let owned = |object: &Object| object.meta().owners().iter().any(|owner| owner.uid == uid);
                assert_eq!(names(view.dependent_objects(uid)), find(&owned));
                let owned_pods = view.owned_by::<Pod>(uid).map(|pod| pod.meta.name.as_str());
                assert!(
                    owned_pods.eq(find(&|object| owned(object) && object.kind() == Kind::Pod).iter().map(|it| it.2))
                );
            }
            assert!(all.iter().all(|(key, object)| view.object(key).is_some_and(|found| found.same(object))));
        }
        for key in all.keys() {
            cache.remove(key);
        }
        assert!(cache.indexes().are_empty());
        assert!(cache.places.is_empty() && cache.free.len() == cache.slots.len());
    }
}
