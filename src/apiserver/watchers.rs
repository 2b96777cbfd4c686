//! The watchers of one kind, filed so that a change meets only those that it may concern.
//!
//! A write of a pod costs work for the watchers of its node, of its namespace and of everything, never for the
//! thousand kubelets of other nodes.

use crate::api::name::Name;
use crate::api::object::Object;
use crate::engine::hash::Map;
use crate::engine::process::{Cause, ProcessId};

use super::cache::Change;
use super::protocol::{WatchEvent, WatchId};
use super::selection::{Selection, Trigger};
use super::size;

/// A watcher's place among those of its kind.
pub type Place = u32;

/// A client's watch.
#[derive(Debug)]
pub struct Watcher {
    /// The client.
    pub client: ProcessId,
    /// The client's number for the watch.
    pub id: WatchId,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// What it watches.
    selection: Selection,
    /// The client knows everything up to this revision.
    after: u64,
    pending: Vec<WatchEvent>,
    pending_bytes: u64,
    /// What caused the last of the pending events.
    cause: Cause,
}

/// All watchers of one kind.
#[derive(Debug, Default)]
pub struct Watchers {
    list: Vec<Option<Watcher>>,
    free: Vec<Place>,
    any: Vec<Place>,
    by_namespace: Map<Name, Vec<Place>>,
    by_object: Map<Name, Vec<Place>>,
    by_node: Map<Name, Vec<Place>>,
    pending: Vec<Place>,
}

impl Watcher {
    /// A watcher that knows everything up to a revision.
    pub fn new(client: ProcessId, id: WatchId, selection: Selection, after: u64, bookmarks: bool) -> Watcher {
        let (pending, pending_bytes, cause) = (Vec::new(), 0, Cause::NONE);
        Watcher { client, id, bookmarks, selection, after, pending, pending_bytes, cause }
    }

    /// Appends what a change means to this watcher: an object that begins to match is added, one that ceases is deleted.
    pub fn tell(&mut self, change: &Change) {
        if change.revision <= self.after {
            return;
        }
        let matches = |object: &Option<Object>| object.as_ref().is_some_and(|object| self.selection.matches(object));
        let (before, after) = (matches(&change.old), matches(&change.new));
        let event = match (before, after, &change.old, &change.new) {
            (false, true, _, Some(new)) => WatchEvent::Added(new.clone()),
            (true, true, _, Some(new)) => WatchEvent::Modified(new.clone()),
            (true, false, Some(old), _) => WatchEvent::Deleted { object: old.clone(), revision: change.revision },
            _ => return,
        };
        self.pending_bytes += change.bytes;
        self.pending.push(event);
    }

    /// Appends the present state of an object as an addition, if it matches.
    pub fn tell_present(&mut self, object: &Object) {
        if self.selection.matches(object) {
            self.pending_bytes += size::of(object);
            self.pending.push(WatchEvent::Added(object.clone()));
        }
    }

    /// Takes what is to be sent, with its size and cause; nothing if there is nothing.
    pub fn take(&mut self) -> Option<(Vec<WatchEvent>, u64, Cause)> {
        let bytes = std::mem::take(&mut self.pending_bytes);
        let events = std::mem::take(&mut self.pending);
        (!events.is_empty()).then_some((events, bytes, self.cause))
    }
}

impl Watchers {
    /// Files a watcher.
    pub fn insert(&mut self, watcher: Watcher) -> Place {
        let trigger = watcher.selection.trigger();
        let place = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            Place::try_from(self.list.len() - 1).expect("fewer than 2^32 watchers")
        });
        self.list[place as usize] = Some(watcher);
        match trigger {
            Trigger::Any => self.any.push(place),
            Trigger::Namespace(name) => self.by_namespace.entry(name).or_default().push(place),
            Trigger::Object(name) => self.by_object.entry(name).or_default().push(place),
            Trigger::Node(name) => self.by_node.entry(name).or_default().push(place),
        }
        place
    }

    /// Takes a watcher out.
    pub fn remove(&mut self, place: Place) -> Option<Watcher> {
        let watcher = self.list.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.pending.retain(|other| *other != place);
        let (filed, name) = match watcher.selection.trigger() {
            Trigger::Any => {
                self.any.retain(|other| *other != place);
                return Some(watcher);
            }
            Trigger::Namespace(name) => (&mut self.by_namespace, name),
            Trigger::Object(name) => (&mut self.by_object, name),
            Trigger::Node(name) => (&mut self.by_node, name),
        };
        if let Some(places) = filed.get_mut(&name) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                filed.remove(&name);
            }
        }
        Some(watcher)
    }

    /// Tells all whom a change may concern.
    pub fn dispatch(&mut self, change: &Change, cause: Cause) {
        let Some(object) = change.new.as_ref().or(change.old.as_ref()) else { return };
        let Watchers { list, any, by_namespace, by_object, by_node, pending, .. } = self;
        let mut tell = |places: &[Place]| {
            for &place in places {
                let Some(watcher) = &mut list[place as usize] else { continue };
                let quiet = watcher.pending.is_empty();
                watcher.tell(change);
                if !watcher.pending.is_empty() {
                    watcher.cause = cause;
                    if quiet {
                        pending.push(place);
                    }
                }
            }
        };
        tell(any);
        let meta = object.meta();
        if !by_namespace.is_empty()
            && let Some(places) = by_namespace.get(&meta.namespace)
        {
            tell(places);
        }
        if !by_object.is_empty()
            && let Some(places) = by_object.get(&meta.name)
        {
            tell(places);
        }
        if !by_node.is_empty() {
            let (old, new) = (change.old.as_ref().and_then(node), change.new.as_ref().and_then(node));
            if let Some(places) = old.and_then(|node| by_node.get(node)) {
                tell(places);
            }
            if let Some(places) = new.filter(|node| old != Some(node)).and_then(|node| by_node.get(node)) {
                tell(places);
            }
        }
    }

    /// The watchers that have been told something since the last call.
    pub fn take_pending(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.pending)
    }

    /// A watcher.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Watcher> {
        self.list.get_mut(place as usize)?.as_mut()
    }

    /// All watchers with their places.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Watcher)> {
        (0..).zip(&self.list).filter_map(|(place, watcher)| Some((place, watcher.as_ref()?)))
    }
}

/// The node that an object is filed under; the empty name for a pod that is bound to none.
fn node(object: &Object) -> Option<&Name> {
    const NOWHERE: &Name = &Name::EMPTY;
    match object {
        Object::Pod(pod) => Some(pod.node.as_ref().unwrap_or(NOWHERE)),
        _ => None,
    }
}
