//! The DaemonSet controller: one pod on each node that is to have one, by way of the scheduler.
//!
//! It never binds a pod: each says in its node affinity which node it is for. A change of a node concerns only those
//! DaemonSets that gain or lose a pod by it, and those that have pods where none should be.
//!
//! - `survey`: what is known of all nodes from the last look, so that the next one costs what has changed since
//! - `nodes`: which nodes are to have a pod, and which pods they have
//! - `manage`: pods that are missing, too many, or ended
//! - `rolling`: the replacement of old pods
//! - `revisions`: the templates that there were
//! - `pods`: what pods are made of
//! - `status`: counts
//!
//! Facts: kubernetes, pkg/controller/daemon.

mod manage;
mod nodes;
mod pods;
mod revisions;
mod rolling;
mod status;
mod survey;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::workload::{DaemonSet, DaemonSetStrategy};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::history::REVISION_LABEL;
use super::owner;
use super::script::{self, Halt, Script};
use manage::BackOff;
use nodes::{Eligibility, Nodes};
use survey::{Seen, Surveys};

/// The DaemonSet controller.
pub struct DaemonSetController {
    workers: usize,
    resync: Option<SimDuration>,
    burst: usize,
    /// When a failed pod was last replaced, by DaemonSet and node. Lost with the process, as the real one's is.
    back_off: Rc<RefCell<BackOff>>,
    surveys: Rc<RefCell<Surveys>>,
}

impl DaemonSetController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        DaemonSetController {
            workers: config.concurrent_daemon_set_syncs,
            resync: config.resync,
            burst: config.daemon_set_burst,
            back_off: Rc::default(),
            surveys: Rc::default(),
        }
    }

    fn look(&self, view: &View<'_>, key: &ObjectKey, now: Now, manage: bool) -> Plan {
        let Some(set) = view.get::<DaemonSet>(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        if set.selector.is_everything() {
            let about = owner::reference(&**set);
            return script::run(view, now, move |script| {
                let message = "This daemon set is selecting all pods. A non-empty selector is required.";
                script.record(&about, EventType::Warning, "SelectingAll", message.to_owned());
                Ok(Again::OnChange)
            });
        }
        // What becomes of the revisions and pods of one that goes is the garbage collector's business.
        if set.meta.is_deleting() {
            return Plan::nothing();
        }
        let (back_off, surveys) = (self.back_off.clone(), self.surveys.clone());
        let sync = Sync { set: set.clone(), burst: self.burst, back_off, surveys, manage };
        script::run(view, now, move |script| sync.run(script))
    }
}

impl Controller for DaemonSetController {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::DaemonSet, Kind::Pod, Kind::Node, Kind::ControllerRevision]
    }

    fn reads_its_writes(&self) -> &'static [Kind] {
        &[Kind::Pod, Kind::DaemonSet]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::DaemonSet(set) => {
                if matches!(change, Change::Deleted(_)) {
                    self.surveys.borrow_mut().forget(set.meta.uid);
                }
                enqueue(owner::key_of(&**set), SimDuration::ZERO);
            }
            Object::Pod(pod) => owned_changed(change, pod.as_ref(), view, enqueue),
            // The controller's own creations are no news to it.
            Object::ControllerRevision(revision)
                if !matches!(change, Change::Added(_)) || revision.meta.controller().is_none() =>
            {
                owned_changed(change, revision.as_ref(), view, enqueue);
            }
            Object::Node(_) => node_changed(change, view, enqueue),
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, true)
    }

    fn reconcile_expecting(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, false)
    }
}

/// Puts the DaemonSets into the queue that a pod's or a revision's change concerns: its owner, its former owner, and for an
/// orphan all that select it. A pod that became ready is looked at again when it may count as available, a second later than
/// that because dates are in whole seconds.
fn owned_changed<R: Resource>(
    change: Change<'_>,
    object: &R,
    view: &View<'_>,
    enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
) {
    let meta = object.meta();
    let controller = meta.controller();
    let resolve = |meta: &Meta| {
        meta.controller().and_then(|controller| owner::resolve::<DaemonSet>(view, &meta.namespace, controller))
    };
    let mut could_be_adopted = matches!(change, Change::Added(_)) && !meta.is_deleting();
    let mut became_ready = false;
    if let Change::Updated { old, new } = change {
        if old.meta().revision() == new.meta().revision() {
            return; // A resync.
        }
        let is_other = old.meta().controller() != controller;
        if is_other
            && !meta.is_deleting()
            && let Some(set) = resolve(old.meta())
        {
            enqueue(owner::key_of(&**set), SimDuration::ZERO);
        }
        could_be_adopted = !meta.is_deleting() && (is_other || old.meta().labels != meta.labels);
        let is_ready = |object: &Object| object.get::<Pod>().is_some_and(|pod| pod.status.is_ready());
        became_ready = !meta.is_deleting() && !is_ready(old) && is_ready(new);
    }
    if controller.is_none() {
        if could_be_adopted {
            let sets = view.list_in::<DaemonSet>(&meta.namespace);
            let selecting = sets.filter(|set| !set.selector.is_everything() && set.selector.matches(&meta.labels));
            selecting.for_each(|set| enqueue(owner::key_of(&**set), SimDuration::ZERO));
        }
        return;
    }
    if let Some(set) = resolve(meta) {
        enqueue(owner::key_of(&**set), SimDuration::ZERO);
        if became_ready && set.min_ready_seconds > 0 {
            enqueue(owner::key_of(&**set), SimDuration::from_secs(set.min_ready_seconds as u64 + 1));
        }
    }
}

/// Puts those DaemonSets into the queue for which a node's labels or taints mean something new (`syncNodeUpdate`): not all
/// of them, so that a status may go on to say what was true before the node was tainted.
fn node_changed(change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
    let node = match change {
        Change::Added(Object::Node(node)) => node,
        Change::Updated { old: Object::Node(old), new: Object::Node(new) }
            if old.meta.labels != new.meta.labels || old.taints != new.taints =>
        {
            new
        }
        _ => return,
    };
    for set in view.list::<DaemonSet>() {
        let (should_run, should_continue) = Eligibility::of(set).of_node(node);
        let is_own = |pod: &&Rc<Pod>| {
            let is_set = |owner: &crate::api::meta::OwnerReference| {
                owner.kind == *Kind::DaemonSet.row().name && owner.name == set.meta.name
            };
            pod.meta.namespace == set.meta.namespace && pod.meta.controller().is_some_and(is_set)
        };
        let is_scheduled = view.pods_on(&node.meta.name).any(|pod| is_own(&pod));
        let gains = should_run && !is_scheduled;
        let loses = !should_continue && is_scheduled;
        if gains || loses || (is_scheduled && set.status.number_misscheduled > 0) {
            enqueue(owner::key_of(&**set), SimDuration::ZERO);
        }
    }
}

/// One look at a DaemonSet.
struct Sync {
    set: Rc<DaemonSet>,
    burst: usize,
    back_off: Rc<RefCell<BackOff>>,
    surveys: Rc<RefCell<Surveys>>,
    /// False while creations or deletions of the last sync are still expected.
    manage: bool,
}

impl Sync {
    fn run(&self, script: &mut Script<'_>) -> Result<Again, Halt> {
        let set = &*self.set;
        let revisions = revisions::construct(script, &self.set)?;
        let hash = revisions.current.meta.labels.get(&REVISION_LABEL).cloned().unwrap_or_default();
        let seen = self.see(script, &hash);
        let own = owner::claim_all(script, set, &set.selector, &seen.kin)?;
        let nodes = script.see(|_| Rc::new(Nodes::of(&seen, &own)));
        if !self.manage {
            return status::write(script, set, &nodes, &hash, false);
        }
        let mut again = Again::OnChange;
        let (failure, has_acted) = match self.act(script, &nodes, &revisions, &hash, &mut again) {
            Ok(has_acted) => (None, has_acted),
            Err(Halt::Failed(message)) => (Some(message), true),
            Err(other) => return Err(other),
        };
        // The writes have taken their time; the status is that of the cache as it is now.
        let nodes = if has_acted { self.look_again(script, &hash) } else { nodes };
        let later = status::write(script, set, &nodes, &hash, true)?;
        match failure {
            Some(message) => Err(Halt::Failed(message)),
            None => Ok(sooner(again, later)),
        }
    }

    /// Creates and deletes pods, replaces old ones, forgets old revisions (`updateDaemonSet`). True if it made a request.
    fn act(
        &self,
        script: &mut Script<'_>,
        nodes: &Rc<Nodes>,
        revisions: &revisions::Revisions,
        hash: &Name,
        again: &mut Again,
    ) -> Result<bool, Halt> {
        let set = &*self.set;
        let (back_off, now) = (&self.back_off, script.now());
        let due = script.see(|_| Rc::new(manage::decide(set, nodes, hash, &mut back_off.borrow_mut(), now)));
        let about = owner::reference(set);
        for (kind, reason, message) in &due.events {
            script.record(&about, *kind, reason, message.clone());
        }
        if let Some(delay) = due.again {
            *again = Again::After(delay);
        }
        let template = pods::Template::of(set, &revisions.current, hash);
        let mut has_acted = pods::sync(script, set, &template, &due.create, &due.delete, self.burst)?;
        // While those are awaited, nothing old is replaced: it would not be counted as missing.
        if !has_acted && matches!(set.strategy, DaemonSetStrategy::RollingUpdate { .. }) {
            let due = script.see(|_| Rc::new(rolling::decide(set, nodes, hash, now)));
            let due = (*due).as_ref().map_err(|why| Halt::Failed(why.clone()))?;
            has_acted = pods::sync(script, set, &template, &due.create, &due.delete, self.burst)?;
        }
        has_acted |= revisions::clean_up(script, set, revisions, nodes)?;
        Ok(has_acted)
    }

    fn see(&self, script: &mut Script<'_>, hash: &Name) -> Rc<Seen> {
        let today = script.now().timestamp();
        script.see(|view| Rc::new(self.surveys.borrow_mut().look(view, &self.set, hash, today)))
    }

    /// What is there once the writes are made; nobody is adopted any more.
    fn look_again(&self, script: &mut Script<'_>, hash: &Name) -> Rc<Nodes> {
        let (set, seen) = (&*self.set, self.see(script, hash));
        script.see(|_| {
            let is_own = |pod: &&Rc<Pod>| owner::claim(&set.meta, &set.selector, &pod.meta) == owner::Claim::Owned;
            let own: Vec<Rc<Pod>> = seen.kin.iter().filter(is_own).cloned().collect();
            Rc::new(Nodes::of(&seen, &own))
        })
    }
}

fn sooner(left: Again, right: Again) -> Again {
    match (left, right) {
        (Again::After(left), Again::After(right)) => Again::After(left.min(right)),
        (Again::OnChange, other) | (other, _) => other,
    }
}
