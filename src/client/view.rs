//! What a component knows of the cluster: a reader's view of its informers' cache, and the present time.

use std::rc::Rc;

use smallvec::SmallVec;

pub use super::cache::Cache;
use super::daemon_pods::DaemonPods;
pub use super::pod_counts::PodCounts;
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::selector::Selector;
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

/// A reader's view of a cache.
#[derive(Clone, Copy)]
pub struct View<'a> {
    cache: &'a Cache,
}

impl<'a> View<'a> {
    pub(super) fn of(cache: &'a Cache) -> Self {
        View { cache }
    }

    /// An object by kind, namespace (empty for kinds without one) and name.
    pub fn get<R: Resource>(&self, namespace: &str, name: &str) -> Option<&'a Rc<R>> {
        self.cache.find(R::KIND, namespace, name).and_then(R::of)
    }

    /// An object by key.
    pub fn object(&self, key: &ObjectKey) -> Option<&'a Object> {
        self.cache.find(key.kind, &key.namespace, &key.name)
    }

    /// An object by kind, namespace (empty for kinds without one) and name.
    pub fn object_at(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.cache.find(kind, namespace, name)
    }

    /// All objects of a kind, by namespace and name.
    pub fn list<R: Resource>(&self) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.objects(R::KIND).filter_map(R::of)
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.cache.of_kind(kind)
    }

    /// All objects of a kind in a namespace, by name.
    pub fn list_in<R: Resource>(&self, namespace: &str) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.objects_in(R::KIND, namespace).filter_map(R::of)
    }

    /// All objects of a kind in a namespace, by name.
    pub fn objects_in(&self, kind: Kind, namespace: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
        let mut objects = self.cache.of_kind_from(kind, namespace).peekable();
        let first = objects.peek().map(|object| &object.meta().namespace).filter(|first| first.as_str() == namespace);
        objects.take_while(move |object| Some(&object.meta().namespace) == first)
    }

    /// All objects of a kind that name an owner, by namespace and name.
    pub fn owned_by<R: Resource>(&self, owner: Uid) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.cache.objects_of_kind(self.cache.indexes().by_owner(owner), R::KIND).filter_map(R::of)
    }

    /// The keys of all objects that name an owner, of any kind.
    pub fn dependents(&self, owner: Uid) -> impl Iterator<Item = ObjectKey> + use<'a> {
        self.dependent_objects(owner).map(Object::key)
    }

    /// All objects that name an owner, of any kind, by kind, namespace and name.
    pub fn dependent_objects(&self, owner: Uid) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.cache.objects(self.cache.indexes().by_owner(owner))
    }

    /// All pods that are bound to a node, by namespace and name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &'a Rc<Pod>> + use<'a> {
        self.cache.objects(self.cache.indexes().on_node(node)).filter_map(Pod::of)
    }

    /// All pods of a namespace that a selector selects, by name. Those of a disruption budget are found by an index.
    pub fn selected_pods(&self, namespace: &Name, selector: &Selector) -> Vec<&'a Rc<Pod>> {
        let is_selected = |pod: &&'a Rc<Pod>| selector.matches(&pod.meta.labels);
        match self.cache.indexes().selectable(namespace, selector) {
            Some(pods) => self.cache.objects(pods).filter_map(Pod::of).filter(is_selected).collect(),
            None => self.list_in::<Pod>(namespace).filter(is_selected).collect(),
        }
    }

    /// The names of all nodes to which pods are bound, whether there are such nodes or not; in no order.
    pub fn nodes_with_pods(&self) -> impl Iterator<Item = &'a Name> + use<'a> {
        self.cache.indexes().nodes_with_pods()
    }

    /// All pods, ReplicaSets or ControllerRevisions of a namespace that no controller owns, by name; nothing for other kinds.
    pub fn orphans<R: Resource>(&self, namespace: &Name) -> impl Iterator<Item = &'a Rc<R>> + use<'a, R> {
        self.cache.objects(self.cache.indexes().orphans(R::KIND, namespace)).filter_map(R::of)
    }

    /// The pods that a Job controls but those that have ended and lost its finalizer, by namespace and name.
    pub fn unsettled_pods(&self, job: Uid) -> impl Iterator<Item = &'a Rc<Pod>> + use<'a> {
        self.cache.objects(self.cache.indexes().unsettled(job)).filter_map(Pod::of)
    }

    /// How many pods a ReplicaSet controls: one entry for each different set of labels that they wear. None if there are so
    /// many different ones that nobody counts; then the pods have to be looked at.
    pub fn pod_counts(&self, owner: Uid) -> Option<&'a [PodCounts]> {
        self.cache.indexes().pod_counts.of(owner)
    }

    /// The pods of a DaemonSet that are on a node, or for it and not bound yet, by name.
    pub fn daemon_pods_at(&self, set: Uid, node: &str) -> SmallVec<[&'a Rc<Pod>; 1]> {
        self.cache.pods_in(self.daemon_pods().map_or(&[], |pods| pods.at(set, node)))
    }

    /// The pods of a DaemonSet that are neither on a node nor for one, by name.
    pub fn daemon_pods_adrift(&self, set: Uid) -> SmallVec<[&'a Rc<Pod>; 1]> {
        self.cache.pods_in(self.daemon_pods().map_or(&[], |pods| pods.adrift(set)))
    }

    /// The nodes that a DaemonSet's pods are on or for, in no order.
    pub fn daemon_places(&self, set: Uid) -> impl Iterator<Item = &'a Name> + use<'a> {
        self.daemon_pods().into_iter().flat_map(move |pods| pods.places(set))
    }

    /// A clock that counts the changes of nodes and of DaemonSets' pods; zero before there is a DaemonSet.
    pub fn daemon_clock(&self) -> u64 {
        self.daemon_pods().map_or(0, DaemonPods::clock)
    }

    /// The names of nodes where, since a time of that clock, something has changed that may concern a DaemonSet: the node came,
    /// went, or has other labels or taints, or the set's pods there are others. In no order, perhaps with repetitions; none if
    /// that is too long ago to be known.
    pub fn daemon_changes(&self, set: Uid, since: u64) -> Option<impl Iterator<Item = &'a Name> + use<'a>> {
        self.daemon_pods()?.changes(set, since)
    }

    /// What is known of the places of DaemonSets' pods, once there is a DaemonSet.
    fn daemon_pods(&self) -> Option<&'a DaemonPods> {
        self.cache.indexes().daemon_pods.as_deref()
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.cache.count(kind)
    }

    /// True once the first list of a kind has arrived.
    pub fn has_synced(&self, kind: Kind) -> bool {
        self.cache.has_synced(kind)
    }
}
