//! Writes of which the server does not know what became of them: etcd gave up waiting, or the connection broke.
//!
//! The client was told that its request failed, and yet the write may have been made. If so, the server's watch of etcd shows
//! it, and it is then counted among the server's writes like any other: what is reported of a run must not lack it.

use std::collections::BTreeMap;

use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;

use super::cache::Change;
use super::server::CommittedWrite;
use super::task::Step;

/// The writes in doubt, the last one of each object.
#[derive(Debug, Default)]
pub struct Doubts(BTreeMap<ObjectKey, Doubt>);

/// Whose write it was.
#[derive(Debug)]
struct Doubt {
    agent: Name,
    verb: &'static str,
    /// Writes of the same object that were acknowledged since.
    acknowledged: Vec<u64>,
}

impl Doubts {
    /// Notes that nobody knows what became of a step; reads leave no doubt.
    pub fn note(&mut self, step: &Step, agent: &Name, verb: &'static str) {
        let (Step::Create(object) | Step::Replace { new: object, .. } | Step::Remove { old: object }) = step else {
            return;
        };
        self.0.insert(object.key(), Doubt { agent: agent.clone(), verb, acknowledged: Vec::new() });
    }

    /// A write of this object was acknowledged: it is not the one in doubt.
    pub fn acknowledged(&mut self, key: &ObjectKey, revision: u64) {
        if !self.0.is_empty()
            && let Some(doubt) = self.0.get_mut(key)
        {
            doubt.acknowledged.push(revision);
        }
    }

    /// The write in doubt that a change shows to have been made.
    pub fn resolve(&mut self, change: &Change) -> Option<CommittedWrite> {
        if self.0.is_empty() {
            return None;
        }
        let key = change.new.as_ref().or(change.old.as_ref()).map(Object::key)?;
        if self.0.get(&key)?.acknowledged.contains(&change.revision) {
            return None;
        }
        let Doubt { agent, verb, .. } = self.0.remove(&key)?;
        let (old, new) = (change.old.clone(), change.new.clone());
        Some(CommittedWrite { revision: change.revision, key, old, new, agent, verb })
    }
}
