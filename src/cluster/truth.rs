//! What is committed in etcd: the state of the API as one who sees everything at once would see it.
//!
//! No component reads it. It is for the scenario's conditions, the report and the invariants.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;

use super::news::Write;

/// All objects, in the newest version that was committed.
#[derive(Default)]
pub struct Truth {
    kinds: BTreeMap<Kind, BTreeMap<(Name, Name), Object>>,
    revisions: BTreeMap<Kind, u64>,
}

impl Truth {
    /// Takes a write in. Writes to one object come in the order of their revisions; an older one than is known is ignored.
    pub fn apply(&mut self, write: &Write) {
        let objects = self.kinds.entry(write.key.kind).or_default();
        let place = (write.key.namespace.clone(), write.key.name.clone());
        match (objects.entry(place), &write.new) {
            (Entry::Occupied(known), _) if known.get().meta().revision() > write.revision => return,
            (Entry::Occupied(mut known), Some(object)) => drop(known.insert(object.clone())),
            (Entry::Occupied(known), None) => drop(known.remove()),
            (Entry::Vacant(place), Some(object)) => {
                place.insert(object.clone());
            }
            (Entry::Vacant(_), None) => {}
        }
        let newest = self.revisions.entry(write.key.kind).or_default();
        *newest = write.revision.max(*newest);
    }

    /// All objects of a kind, by namespace and name.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.kinds.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// An object.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.kinds.get(&kind)?.get(&(Name::new(namespace), Name::new(name)))
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, BTreeMap::len)
    }

    /// The revision of the last write to a kind: what was worked out from its objects holds as long as this stays.
    pub fn revision(&self, kind: Kind) -> u64 {
        self.revisions.get(&kind).copied().unwrap_or(0)
    }
}
