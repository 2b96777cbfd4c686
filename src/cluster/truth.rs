//! What is committed in etcd: the state of the API as one who sees everything at once would see it.
//!
//! No component reads it. It is for the scenario's conditions, the report and the invariants.

use crate::api::kind::{Kind, REGISTRY};
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::client::cache::Cache;

use super::news::Write;

/// All objects, in the newest version that was committed.
pub struct Truth {
    objects: Cache,
    revisions: [u64; REGISTRY.len()],
}

impl Default for Truth {
    fn default() -> Self {
        Truth { objects: Cache::plain(), revisions: [0; REGISTRY.len()] }
    }
}

impl Truth {
    /// Takes a write in. Writes to one object come in the order of their revisions, each once: the ledger sees to it.
    pub fn apply(&mut self, write: &Write) {
        debug_assert!(
            self.objects.view().object(&write.key).is_none_or(|known| known.meta().revision() < write.revision),
            "{} is told of a write that is older than what is known",
            write.key
        );
        match &write.new {
            Some(object) => self.objects.insert(object.clone()),
            None => self.objects.remove(&write.key),
        };
        let newest = &mut self.revisions[write.key.kind as usize];
        *newest = write.revision.max(*newest);
    }

    /// An object went at a revision without anybody having asked for it: its lease has ended.
    pub fn forget(&mut self, key: &ObjectKey, revision: u64) {
        let known = self.objects.view().object(key);
        if known.is_some_and(|known| known.meta().revision() < revision) {
            self.objects.remove(key);
        }
    }

    /// All objects of a kind, by namespace and name.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.view().objects(kind)
    }

    /// An object.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.view().object_at(kind, namespace, name)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.objects.view().count(kind)
    }

    /// The revision of the last write to a kind: what was worked out from its objects holds as long as this stays.
    pub fn revision(&self, kind: Kind) -> u64 {
        self.revisions[kind as usize]
    }
}
