//! The watch cache of one kind: the objects as far as etcd's watch has told, and the latest changes.
//!
//! Always somewhat behind etcd. Lists at any revision, the first attempt of an update, and all watches are served from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::engine::hash::FixedHasher;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::mvcc::{KeyValue, Reader};
use crate::etcd::watch::WatchEvent;

use super::selection::{Selection, Trigger};
use super::size;
use super::status::{Reason, Status};
use super::storage::Stored;

/// The ring of changes holds at least so many (cacher: `defaultLowerBoundCapacity`).
const LEAST_CHANGES: usize = 100;
/// The ring of changes holds at most so many (cacher: `defaultUpperBoundCapacity`).
const MOST_CHANGES: usize = 100 * 1024;
/// The ring grows while its changes are all younger than this (cacher: `eventFreshDuration`, by default 75 s).
const FRESH: SimDuration = SimDuration::from_secs(75);
/// For how long a list may go on from page to page at its first revision: what etcd keeps at the most, with a compaction every five
/// minutes of what is older than five minutes.
const PAGED: SimDuration = SimDuration::from_secs(600);

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision of the write.
    pub revision: u64,
    /// The object before; none if it was created.
    pub old: Option<Object>,
    /// The object after; none if it was deleted.
    pub new: Option<Object>,
    /// The bytes of what is sent about it.
    pub bytes: u64,
    at: SimTime,
}

impl Change {
    /// A change as etcd tells of it.
    pub fn of(event: &WatchEvent<Stored>, at: SimTime) -> Change {
        let object = |kv: &KeyValue<Stored>| kv.value.as_ref().and_then(Stored::object).cloned();
        let (old, new) = (event.previous.as_ref().and_then(object), object(&event.kv));
        let bytes = new.as_ref().or(old.as_ref()).map_or(0, size::of);
        Change { revision: event.kv.modified, old, new, bytes, at }
    }
}

/// The watch cache of one kind.
#[derive(Debug)]
pub struct WatchCache {
    /// The kind.
    pub kind: Kind,
    /// By namespace and name, which stand in the objects alone.
    objects: HashTable<Object>,
    /// Pods by node, quotas and limit ranges by namespace.
    shelves: BTreeMap<Name, BTreeSet<(Name, Name)>>,
    ring: VecDeque<Change>,
    capacity: usize,
    /// Changes after this revision are all in the ring.
    complete_after: u64,
    revision: u64,
    ready: bool,
    /// The word given to etcd's store on what of its history may still be asked for.
    reader: Option<Reader>,
    /// Lists in pages that may go on: at which revision, and until when.
    paged: VecDeque<(u64, SimTime)>,
}

impl WatchCache {
    /// An empty cache that has not been filled.
    pub fn new(kind: Kind, reader: Option<Reader>) -> WatchCache {
        WatchCache {
            kind,
            objects: HashTable::new(),
            shelves: BTreeMap::new(),
            ring: VecDeque::new(),
            capacity: LEAST_CHANGES,
            complete_after: 0,
            revision: 0,
            ready: false,
            reader,
            paged: VecDeque::new(),
        }
    }

    /// True once the first list is complete, until the watch of etcd is lost.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The cache shows at least all writes up to this revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Begins anew: the next list replaces everything.
    pub fn reset(&mut self) {
        *self = WatchCache::new(self.kind, self.reader.take());
        self.say_what_is_needed();
    }

    /// A list in pages begins, or goes on at a revision: its next page may be asked for.
    pub fn expect_pages(&mut self, at: Option<u64>, now: SimTime) {
        if self.reader.is_some() {
            self.forget_pages(now);
            self.paged.push_back((at.unwrap_or(self.revision), now + PAGED));
            self.say_what_is_needed();
        }
    }

    fn forget_pages(&mut self, now: SimTime) {
        while self.paged.front().is_some_and(|(_, until)| *until <= now) {
            self.paged.pop_front();
        }
    }

    /// What came before the cache's own revision is not asked for any more, but for lists that go on.
    fn say_what_is_needed(&self) {
        if let Some(reader) = &self.reader {
            let paged = self.paged.iter().map(|(revision, _)| *revision);
            reader.needs_from(paged.fold(self.revision, u64::min));
        }
    }

    /// Takes in an object of the first list.
    pub fn fill(&mut self, object: Object) {
        let place = object.key();
        self.index(&place, None, Some(&object));
        self.put(object);
    }

    /// The first list is complete and showed this revision.
    pub fn filled(&mut self, revision: u64) {
        self.ready = true;
        self.revision = revision;
        self.complete_after = revision;
        self.say_what_is_needed();
    }

    /// Everything up to a revision has been seen, though nothing may have changed.
    pub fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
        self.say_what_is_needed();
    }

    /// Takes in a change that etcd tells of; none if it is no object or was known.
    pub fn apply(&mut self, event: &WatchEvent<Stored>, now: SimTime) -> Option<&Change> {
        let revision = event.kv.modified;
        let new = event.kv.value.as_ref().and_then(Stored::object).cloned();
        let previous = || event.previous.as_ref()?.value.as_ref()?.object();
        let place = new.as_ref().or_else(previous)?.key();
        let old = match &new {
            Some(object) => self.put(object.clone()),
            None => self.take(&place),
        };
        self.index(&place, old.as_ref(), new.as_ref());
        self.revision = self.revision.max(revision);
        self.forget_pages(now);
        self.say_what_is_needed();
        let bytes = new.as_ref().or(old.as_ref()).map_or(0, size::of);
        self.remember(Change { revision, old, new, bytes, at: now });
        self.ring.back()
    }

    /// Puts an object in the place of the one before, which is returned.
    fn put(&mut self, object: Object) -> Option<Object> {
        let is_same = |there: &Object| place_of(there) == place_of(&object);
        match self.objects.entry(hash_of(&object), is_same, hash_of) {
            Place::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), object)),
            Place::Vacant(place) => {
                place.insert(object);
                None
            }
        }
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Object> {
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let found = self.objects.find_entry(hash(namespace, name), |there| place_of(there) == (namespace, name));
        Some(found.ok()?.remove().0)
    }

    fn remember(&mut self, change: Change) {
        let now = change.at;
        if self.ring.len() == self.capacity {
            let fresh = |change: Option<&Change>| change.is_some_and(|change| now.since(change.at) < FRESH);
            if fresh(self.ring.front()) && self.capacity < MOST_CHANGES {
                self.capacity = (2 * self.capacity).min(MOST_CHANGES);
                self.ring.reserve_exact(self.capacity - self.ring.len());
            } else if !fresh(self.ring.get(self.ring.len() - self.capacity / 4)) {
                self.capacity = (self.capacity / 2).max(LEAST_CHANGES);
            }
        }
        let full = self.ring.len() >= self.capacity;
        while self.ring.len() >= self.capacity {
            self.ring.pop_front();
        }
        if self.ring.capacity() > 2 * self.capacity {
            self.ring.shrink_to(self.capacity);
        }
        self.ring.push_back(change);
        if full && let Some(oldest) = self.ring.front() {
            // What came between the forgotten change and this one did not concern the kind, but the real cache
            // does not know that (watchCache, `getAllEventsSinceLocked`).
            self.complete_after = oldest.revision - 1;
        }
    }

    /// Files a pod under its node, and under its namespace what speaks of all objects there; other kinds are not filed.
    fn index(&mut self, place: &ObjectKey, old: Option<&Object>, new: Option<&Object>) {
        fn shelf(object: Option<&Object>) -> Option<&Name> {
            match object? {
                Object::Pod(pod) => pod.node.as_ref(),
                Object::ResourceQuota(quota) => Some(&quota.meta.namespace),
                Object::LimitRange(range) => Some(&range.meta.namespace),
                _ => None,
            }
        }
        let (old, new) = (shelf(old), shelf(new));
        if old == new {
            return;
        }
        let place = (place.namespace.clone(), place.name.clone());
        if let Some(shelf) = old
            && let Some(places) = self.shelves.get_mut(shelf)
        {
            places.remove(&place);
            if places.is_empty() {
                self.shelves.remove(shelf);
            }
        }
        if let Some(shelf) = new {
            self.shelves.entry(shelf.clone()).or_default().insert(place);
        }
    }

    /// An object as the cache knows it.
    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.at(&key.namespace, &key.name)
    }

    fn at(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.find(hash(namespace, name), |there| place_of(there) == (namespace, name))
    }

    /// All objects, in no order.
    pub fn unordered(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter()
    }

    /// The pods of a node, or the quotas or limit ranges of a namespace, by namespace and name.
    pub fn filed<'a>(&'a self, shelf: &Name) -> impl Iterator<Item = &'a Object> + use<'a> {
        let places = if self.shelves.is_empty() { None } else { self.shelves.get(shelf) };
        places.into_iter().flatten().filter_map(|(namespace, name)| self.at(namespace, name))
    }

    /// The selected objects, by namespace and name.
    pub fn list(&self, selection: &Selection) -> Vec<Object> {
        let mut found: Vec<&Object> = match selection.trigger() {
            Trigger::Object(name) if selection.single_key().is_some() => {
                let namespace = selection.single_namespace().cloned().unwrap_or_default();
                let key = ObjectKey { kind: self.kind, namespace, name };
                self.get(&key).into_iter().collect()
            }
            Trigger::Node(node) if !node.is_empty() => self.filed(&node).collect(),
            _ => self.unordered().collect(),
        };
        found.retain(|object| selection.matches(object));
        found.sort_unstable_by(|left, right| place_of(left).cmp(&place_of(right)));
        found.into_iter().cloned().collect()
    }

    /// The changes after a revision, oldest first; 410 if some of them are no longer known.
    pub fn changes_after(&self, revision: u64) -> Result<impl Iterator<Item = &Change>, Box<Status>> {
        if revision < self.complete_after {
            let message = format!("too old resource version: {revision} ({})", self.complete_after);
            return Err(Box::new(Status::new(Reason::Expired, message)));
        }
        let first = self.ring.partition_point(|change| change.revision <= revision);
        Ok(self.ring.range(first..))
    }
}

fn hash(namespace: &str, name: &str) -> u64 {
    let mut hasher = FixedHasher::default();
    hasher.write(namespace.as_bytes());
    hasher.write(name.as_bytes());
    hasher.finish()
}

fn hash_of(object: &Object) -> u64 {
    let (namespace, name) = place_of(object);
    hash(namespace, name)
}

fn place_of(object: &Object) -> (&str, &str) {
    let meta = object.meta();
    (&meta.namespace, &meta.name)
}
