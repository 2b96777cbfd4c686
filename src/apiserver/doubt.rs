//! Writes of which the server does not know what became of them: etcd gave up waiting, the connection broke, or the server died.
//!
//! The client was told that its request failed, or nothing at all, and yet the write may have been made, or may still be. The server
//! itself, like the real one, does nothing about it: its watch shows what is there, whoever wrote it. Only those who look on from
//! outside want to know whose write it was, and they can: a version in etcd is the very object that the server sent, and a
//! deletion can only have succeeded on the version that was to go. How they find out is told in the cluster's `ledger`.

use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;

use super::server::ApiServer;
use super::task::{Step, Task};

/// A write that may have been made, or may still be.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// The object's place.
    pub key: ObjectKey,
    /// The revision of the version on which it can succeed alone; zero if there must be none.
    pub base: u64,
    /// The version that was to be stored; none for a deletion.
    pub new: Option<Object>,
    /// The program that asked for it.
    pub agent: Name,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
}

impl Doubt {
    /// The write that a task waits for, if it waits for one.
    pub(super) fn of(task: &Task, step: &Step) -> Option<Doubt> {
        let (base, new, object) = match step {
            Step::Create(new) => (0, Some(new.clone()), new),
            Step::Replace { old, new, .. } => (old.meta().revision(), Some(new.clone()), new),
            Step::Remove { old } => (old.meta().revision(), None, old),
            _ => return None,
        };
        let (agent, verb) = task.author_of(object.kind());
        Some(Doubt { key: object.key(), base, new, agent, verb })
    }

    /// True if it is this change of its object. Of deletions of one version only one can have been made, and nobody can tell which.
    pub fn is(&self, old: Option<&Object>, new: Option<&Object>) -> bool {
        match (&self.new, new) {
            (Some(own), Some(new)) => own.same(new),
            (None, None) => old.is_some_and(|old| old.meta().revision() == self.base),
            _ => false,
        }
    }
}

impl ApiServer {
    /// Nobody will tell what becomes of a step; reads leave no doubt.
    pub(super) fn leave_in_doubt(&mut self, task: &Task, step: &Step) {
        self.doubts.extend(Doubt::of(task, step));
    }

    /// The writes that have come into doubt since the last call.
    pub fn take_doubts(&mut self) -> Vec<Doubt> {
        std::mem::take(&mut self.doubts)
    }

    /// The writes for which the server waits, in the order in which it asked etcd for them. When it dies, they are all in doubt.
    pub fn writes_under_way(&self) -> Vec<Doubt> {
        let mut waiting: Vec<(&u64, &Task)> = self.tasks.iter().collect();
        waiting.sort_unstable_by_key(|(id, _)| **id);
        waiting.into_iter().filter_map(|(_, task)| Doubt::of(task, &task.step)).collect()
    }
}
