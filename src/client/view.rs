//! What a component knows of the cluster: its informers' caches, and the present time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Epoch, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::engine::time::SimTime;

/// The present: virtual time, and the date that objects carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Virtual time.
    pub at: SimTime,
    /// What ties it to dates.
    pub epoch: Epoch,
}

impl Now {
    /// The date in whole seconds.
    pub fn timestamp(self) -> Timestamp {
        self.epoch.timestamp(self.at)
    }
}

/// The objects of one component's informers, indexed as control loops ask for them. Always somewhat behind the truth.
#[derive(Default)]
pub struct Cache {
    kinds: BTreeMap<Kind, BTreeMap<(Name, Name), Object>>,
    by_owner: BTreeMap<Uid, BTreeSet<ObjectKey>>,
    orphans: BTreeMap<(Kind, Name), BTreeSet<Name>>,
    pods_by_node: BTreeMap<Name, BTreeSet<(Name, Name)>>,
    synced: BTreeSet<Kind>,
}

/// A reader's view of a cache.
#[derive(Clone, Copy)]
pub struct View<'a> {
    cache: &'a Cache,
}

impl Cache {
    /// Takes a version of an object in; returns what it replaces.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let meta = object.meta();
        let place = (meta.namespace.clone(), meta.name.clone());
        let objects = self.kinds.entry(object.kind()).or_default();
        let old = objects.insert(place, object.clone());
        match &old {
            Some(old) if same_index(old, &object) => {}
            _ => {
                if let Some(old) = &old {
                    self.unindex(old);
                }
                self.index(&object);
            }
        }
        old
    }

    /// Takes an object out; returns it.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Object> {
        let objects = self.kinds.get_mut(&key.kind)?;
        let old = objects.remove(&(key.namespace.clone(), key.name.clone()))?;
        self.unindex(&old);
        Some(old)
    }

    /// Notes that the first list of a kind has arrived.
    pub fn mark_synced(&mut self, kind: Kind) {
        self.synced.insert(kind);
    }

    /// A view for readers.
    pub fn view(&self) -> View<'_> {
        View { cache: self }
    }

    fn index(&mut self, object: &Object) {
        for owner in object.meta().owners() {
            self.by_owner.entry(owner.uid).or_default().insert(object.key());
        }
        if is_orphan(object) {
            let meta = object.meta();
            let place = (object.kind(), meta.namespace.clone());
            self.orphans.entry(place).or_default().insert(meta.name.clone());
        }
        if let Object::Pod(pod) = object
            && let Some(node) = &pod.node
        {
            let place = (pod.meta.namespace.clone(), pod.meta.name.clone());
            self.pods_by_node.entry(node.clone()).or_default().insert(place);
        }
    }

    fn unindex(&mut self, object: &Object) {
        for owner in object.meta().owners() {
            if let Some(keys) = self.by_owner.get_mut(&owner.uid) {
                keys.remove(&object.key());
                if keys.is_empty() {
                    self.by_owner.remove(&owner.uid);
                }
            }
        }
        if is_orphan(object) {
            let meta = object.meta();
            let place = (object.kind(), meta.namespace.clone());
            if let Some(names) = self.orphans.get_mut(&place) {
                names.remove(&meta.name);
                if names.is_empty() {
                    self.orphans.remove(&place);
                }
            }
        }
        if let Object::Pod(pod) = object
            && let Some(node) = &pod.node
            && let Some(places) = self.pods_by_node.get_mut(node)
        {
            places.remove(&(pod.meta.namespace.clone(), pod.meta.name.clone()));
            if places.is_empty() {
                self.pods_by_node.remove(node);
            }
        }
    }
}

/// True if the object is of a kind that controllers adopt and has no controller.
fn is_orphan(object: &Object) -> bool {
    matches!(object.kind(), Kind::Pod | Kind::ReplicaSet) && object.meta().controller().is_none()
}

/// True if both versions stand in the same places of the indexes.
fn same_index(old: &Object, new: &Object) -> bool {
    let node = |object: &Object| object.get::<Pod>().and_then(|pod| pod.node.clone());
    old.meta().owners() == new.meta().owners() && node(old) == node(new)
}

impl<'a> View<'a> {
    /// An object by kind, namespace (empty for kinds without one) and name.
    pub fn get<R: Resource>(&self, namespace: &Name, name: &Name) -> Option<&'a Rc<R>> {
        self.object(&ObjectKey { kind: R::KIND, namespace: namespace.clone(), name: name.clone() }).and_then(R::of)
    }

    /// An object by key.
    pub fn object(&self, key: &ObjectKey) -> Option<&'a Object> {
        self.cache.kinds.get(&key.kind)?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// All objects of a kind, by namespace and name.
    pub fn list<R: Resource>(&self) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.cache.kinds.get(&R::KIND).into_iter().flat_map(|objects| objects.values()).filter_map(R::of)
    }

    /// All objects of a kind in a namespace, by name.
    pub fn list_in<R: Resource>(&self, namespace: &Name) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        let from = (namespace.clone(), Name::EMPTY);
        let namespace = namespace.clone();
        let objects = self.cache.kinds.get(&R::KIND).into_iter().flat_map(move |objects| objects.range(from.clone()..));
        objects.take_while(move |((place, _), _)| *place == namespace).filter_map(|(_, object)| R::of(object))
    }

    /// All objects of a kind that name an owner, by namespace and name.
    pub fn owned_by<R: Resource>(&self, owner: Uid) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        let view = *self;
        self.dependents(owner).filter(|key| key.kind == R::KIND).filter_map(move |key| R::of(view.object(key)?))
    }

    /// The keys of all objects that name an owner, of any kind.
    pub fn dependents(&self, owner: Uid) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.cache.by_owner.get(&owner).into_iter().flatten()
    }

    /// All pods or ReplicaSets of a namespace that no controller owns, by name; nothing for other kinds.
    pub fn orphans<R: Resource>(&self, namespace: &Name) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        let objects = self.cache.kinds.get(&R::KIND);
        let names = self.cache.orphans.get(&(R::KIND, namespace.clone()));
        let namespace = namespace.clone();
        let places = names.into_iter().flatten().map(move |name| (namespace.clone(), name.clone()));
        places.filter_map(move |place| R::of(objects?.get(&place)?))
    }

    /// All pods that are bound to a node, by namespace and name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &'a Rc<Pod>> + use<'a> {
        let pods = self.cache.kinds.get(&Kind::Pod);
        let places = self.cache.pods_by_node.get(node).into_iter().flatten();
        places.filter_map(move |place| Pod::of(pods?.get(place)?))
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.cache.kinds.get(&kind).map_or(0, BTreeMap::len)
    }

    /// True once the first list of a kind has arrived.
    pub fn has_synced(&self, kind: Kind) -> bool {
        self.cache.synced.contains(&kind)
    }
}
