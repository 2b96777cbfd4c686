//! Writes of which the server does not know what became of them: etcd gave up waiting, or the connection broke.
//!
//! The client was told that its request failed, and yet the write may have been made. If so, the server's watch of etcd shows
//! it, or the list with which a watch cache begins anew, and it is then counted among the server's writes like any other: what is
//! reported of a run must not lack it. Kinds that are not watched are told by the revision which the store stamps on a version
//! that it takes in; a deletion of such an object leaves no stamp, and only a later write would show it.

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;

use super::cache::Change;
use super::direct::has_cache;
use super::server::CommittedWrite;
use super::task::Step;

/// The writes in doubt, the last one of each object.
#[derive(Debug, Default)]
pub struct Doubts {
    watched: BTreeMap<ObjectKey, Doubt>,
    /// Versions of objects of kinds that are not watched, as they would be stored, with what was there before.
    unwatched: Vec<(Object, Option<Object>, Doubt)>,
}

/// Whose write it was.
#[derive(Debug)]
struct Doubt {
    agent: Name,
    verb: &'static str,
    /// What was there before.
    old: Option<Object>,
    /// Writes of the same object that were acknowledged since.
    acknowledged: Vec<u64>,
}

impl Doubts {
    /// Notes that nobody knows what became of a step; reads leave no doubt.
    pub fn note(&mut self, step: &Step, agent: &Name, verb: &'static str) {
        let (Step::Create(object) | Step::Replace { new: object, .. } | Step::Remove { old: object }) = step else {
            return;
        };
        let before = match step {
            Step::Replace { old, .. } | Step::Remove { old } => Some(old.clone()),
            _ => None,
        };
        let doubt = Doubt { agent: agent.clone(), verb, old: before, acknowledged: Vec::new() };
        match step {
            _ if has_cache(object.kind()) => drop(self.watched.insert(object.key(), doubt)),
            Step::Create(new) => self.unwatched.push((new.clone(), None, doubt)),
            Step::Replace { old, new, .. } => self.unwatched.push((new.clone(), Some(old.clone()), doubt)),
            _ => {}
        }
    }

    /// A write of this object was acknowledged: it is not the one in doubt.
    pub fn acknowledged(&mut self, key: &ObjectKey, revision: u64) {
        if !self.watched.is_empty()
            && let Some(doubt) = self.watched.get_mut(key)
        {
            doubt.acknowledged.push(revision);
        }
    }

    /// Adds the writes in doubt that bear the store's stamp by now.
    pub fn resolve_stamped(&mut self, writes: &mut Vec<CommittedWrite>) {
        for (new, old, doubt) in self.unwatched.extract_if(.., |(new, ..)| new.meta().revision() > 0) {
            let (revision, key, Doubt { agent, verb, .. }) = (new.meta().revision(), new.key(), doubt);
            writes.push(CommittedWrite { revision, key, old, new: Some(new), agent, verb });
        }
    }

    /// Adds the writes in doubt that a list of all objects of a kind, as of a revision, shows to have been made.
    pub fn resolve_listed<'o>(
        &mut self,
        kind: Kind,
        list: impl Iterator<Item = &'o Object>,
        revision: u64,
        writes: &mut Vec<CommittedWrite>,
    ) {
        if !self.watched.keys().any(|key| key.kind == kind) {
            return;
        }
        let there: BTreeMap<ObjectKey, &Object> = list.map(|object| (object.key(), object)).collect();
        let of_kind = |key: &ObjectKey, _: &mut Doubt| key.kind == kind;
        for (key, Doubt { agent, verb, old, acknowledged }) in self.watched.extract_if(.., of_kind) {
            let new = there.get(&key).map(|object| Object::clone(object));
            let before = old.as_ref().map_or(0, |old| old.meta().revision());
            let (is_made, revision) = match &new {
                Some(new) => (new.meta().revision() > before, new.meta().revision()),
                None => (old.is_some(), revision),
            };
            if is_made && !acknowledged.contains(&revision) {
                writes.push(CommittedWrite { revision, key, old, new, agent, verb });
            }
        }
    }

    /// The write in doubt that a change shows to have been made.
    pub fn resolve(&mut self, change: &Change) -> Option<CommittedWrite> {
        if self.watched.is_empty() {
            return None;
        }
        let key = change.new.as_ref().or(change.old.as_ref()).map(Object::key)?;
        if self.watched.get(&key)?.acknowledged.contains(&change.revision) {
            return None;
        }
        let Doubt { agent, verb, .. } = self.watched.remove(&key)?;
        let (old, new) = (change.old.clone(), change.new.clone());
        Some(CommittedWrite { revision: change.revision, key, old, new, agent, verb })
    }
}
