//! The StatefulSet controller: pods with names of their own, made one after the other, each with its claims.
//!
//! Never replaces a pod before the old one is gone, and never deletes one that is stuck to make room for a better one:
//! whoever force-deletes a pod takes the risk.
//!
//! - `members`: the set's pods, and what was found out about each
//! - `identity`: ordinals, names, labels, a new pod
//! - `revisions`: which revision pods have and which they are to have
//! - `control`: what is created, deleted and updated, and in which order
//! - `claims`: the pods' volume claims and who owns them
//! - `kubectl`: what `kubectl rollout` does
//! - `status`: counts, and when the next pod may count as available

mod claims;
mod control;
mod identity;
pub mod kubectl;
mod members;
#[cfg(test)]
mod properties;
mod revisions;
mod status;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::revision::ControllerRevision;
use crate::api::stateful::StatefulSet;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::census::{Census, Found};
use super::config::Config;
use super::history;
use super::owner;
use super::script::{self, Halt, Script};
use claims::Claims;
use control::Control;
use members::Facts;

/// The StatefulSet controller.
pub struct StatefulSetController {
    workers: usize,
    resync: Option<SimDuration>,
    census: RefCell<Census<Facts>>,
}

/// What a sync begins with: taken from the cache once.
struct Snapshot {
    set: Rc<StatefulSet>,
    /// The set's own pods, and orphans that could be.
    pods: Found<Facts>,
    /// The set's own revisions, and orphans that could be.
    revisions: Vec<Rc<ControllerRevision>>,
    claims: Claims,
}

impl StatefulSetController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        let (workers, resync) = (config.concurrent_stateful_set_syncs, config.resync);
        StatefulSetController { workers, resync, census: RefCell::default() }
    }
}

impl Controller for StatefulSetController {
    fn name(&self) -> &'static str {
        "statefulset-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::StatefulSet, Kind::Pod, Kind::PersistentVolumeClaim, Kind::ControllerRevision]
    }

    fn reads_its_writes(&self) -> &'static [Kind] {
        &[Kind::Pod, Kind::PersistentVolumeClaim, Kind::StatefulSet]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::StatefulSet(set) => {
                if matches!(change, Change::Deleted(_)) {
                    self.census.borrow_mut().forget(set.meta.uid);
                }
                enqueue(owner::key_of(&**set), SimDuration::ZERO);
            }
            Object::Pod(pod) => pod_changed(change, pod, view, enqueue),
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(set) = view.get::<StatefulSet>(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let snapshot = self.snapshot(view, set);
        script::run(view, now, move |script| sync(script, &snapshot))
    }
}

impl StatefulSetController {
    fn snapshot(&self, view: &View<'_>, set: &Rc<StatefulSet>) -> Snapshot {
        let pods = members::look(&mut self.census.borrow_mut(), view, set);
        let revisions = history::list(view, &**set, &set.selector);
        let claims = Claims::look(view, set, pods.own.iter().map(|known| &known.pod).chain(&pods.orphans));
        Snapshot { set: set.clone(), pods, revisions, claims }
    }
}

/// True if a pod may belong to a set: by its labels and by its name.
fn is_member(set: &StatefulSet, pod: &Meta) -> bool {
    set.selector.matches(&pod.labels)
        && identity::parent_and_ordinal(&pod.name).is_some_and(|(parent, _)| parent == set.meta.name.as_str())
}

/// Puts the sets that a pod's change concerns into the queue: its owner, its former owner, and for an orphan all that select
/// it. If a pod became ready, its set is looked at again when the pod may count as available.
fn pod_changed(change: Change<'_>, pod: &Pod, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
    let namespace = &pod.meta.namespace;
    let controller = pod.meta.controller();
    let mut could_be_adopted = matches!(change, Change::Added(_)) && !pod.meta.is_deleting();
    let mut became_ready = false;
    if let Change::Updated { old, new } = change {
        if old.meta().revision() == new.meta().revision() {
            return; // A resync.
        }
        let before = old.meta().controller();
        if before != controller
            && let Some(set) = before.and_then(|before| owner::resolve::<StatefulSet>(view, namespace, before))
        {
            enqueue(owner::key_of(&**set), SimDuration::ZERO);
        }
        could_be_adopted = before != controller || old.meta().labels != new.meta().labels;
        let was_ready = old.get::<Pod>().is_some_and(|old| old.status.is_ready());
        became_ready = !was_ready && pod.status.is_ready();
    }
    let Some(controller) = controller else {
        if could_be_adopted {
            let sets = view.list_in::<StatefulSet>(namespace);
            let selecting = sets.filter(|set| !set.selector.is_everything() && set.selector.matches(&pod.meta.labels));
            selecting.for_each(|set| enqueue(owner::key_of(&**set), SimDuration::ZERO));
        }
        return;
    };
    if let Some(set) = owner::resolve::<StatefulSet>(view, namespace, controller) {
        let key = owner::key_of(&**set);
        if became_ready && set.spec.min_ready_seconds > 0 {
            enqueue(key.clone(), SimDuration::from_secs(set.spec.min_ready_seconds as u64));
        }
        enqueue(key, SimDuration::ZERO);
    }
}

/// Claims revisions and pods, finds out which revision is wanted, creates and deletes, writes the status and forgets old
/// revisions (kube-controller-manager, statefulset: `sync`, `UpdateStatefulSet`).
fn sync(script: &mut Script<'_>, snapshot: &Snapshot) -> Result<Again, Halt> {
    let set = &*snapshot.set;
    let mut revisions = snapshot.revisions.clone();
    history::adopt_orphans(script, set, &mut revisions)?;
    let pods = members::claim(script, set, &snapshot.pods)?;
    let now = script.now();
    history::sort(&mut revisions);
    let found = caught(revisions::find(script, set, &revisions))?;
    let mut in_use: Vec<&Name> = Vec::new();
    for revision in pods.iter().filter_map(|pod| pod.facts.revision.as_ref()) {
        if !in_use.contains(&revision) {
            in_use.push(revision);
        }
    }
    let result = match &found {
        Ok(found) => {
            in_use.extend([&found.current.meta.name, &found.update.meta.name]);
            let control = Control::new(set, found, &snapshot.claims, &pods, now);
            caught(control.run(script))?
        }
        Err(message) => Err(message.clone()),
    };
    let is_in_use = |revision: &ControllerRevision| in_use.contains(&&revision.meta.name);
    history::truncate(script, &revisions, is_in_use, set.spec.revision_history_limit)?;
    let status = result.map_err(Halt::Failed)?;
    Ok(status::again(set, &status, &pods, now))
}

/// Parts the failure of a step, after which a sync has something left to do, from other ends.
fn caught<T>(result: Result<T, Halt>) -> Result<Result<T, String>, Halt> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Halt::Failed(message)) => Ok(Err(message)),
        Err(other) => Err(other),
    }
}
