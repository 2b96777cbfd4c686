//! The Deployment controller: keeps one ReplicaSet for each pod template and moves replicas from the old ones to the new one.
//!
//! Never creates or deletes a pod; it only sizes ReplicaSets.
//!
//! - `sync`: what one look at a Deployment does, in order
//! - `rolling`, `recreate`: the two strategies
//! - `scale`: sizing ReplicaSets, in proportion where several are active
//! - `status`: counts, conditions, progress and its deadline
//! - `revision`: annotations that number the revisions, and removal of old ones
//! - `budget`: how many pods may be on top and how many may be missing
//! - `template`: equality and hash of pod templates
//! - `rollback`: the rollback that old clients ask for by annotation
//! - `kubectl`: what `kubectl rollout` does on the client's side

pub mod budget;
pub mod kubectl;
mod recreate;
pub mod revision;
mod rollback;
mod rolling;
mod scale;
mod status;
mod sync;
pub mod template;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey, OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::workload::{Deployment, DeploymentStrategy, ReplicaSet};
use crate::apiserver::protocol::{Operation, Part};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::{owner, script};

/// The Deployment controller.
pub struct DeploymentController {
    workers: usize,
    resync: Option<SimDuration>,
}

/// What a sync begins with: taken from the cache once, so that the sync sees one state from beginning to end.
struct Snapshot {
    deployment: Rc<Deployment>,
    /// ReplicaSets that the Deployment owns and those that nobody does, oldest first.
    candidates: Vec<Rc<ReplicaSet>>,
    /// ReplicaSets with pods that have not ended; looked up for the strategy Recreate only.
    running: Vec<Uid>,
}

impl DeploymentController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        DeploymentController { workers: config.concurrent_deployment_syncs, resync: config.resync }
    }
}

impl Controller for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Deployment, Kind::ReplicaSet, Kind::Pod]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let mut enqueue = |deployment: &Meta| {
            let key = ObjectKey::new(Kind::Deployment, deployment.namespace.clone(), deployment.name.clone());
            enqueue(key, SimDuration::ZERO);
        };
        match change.object() {
            Object::Deployment(deployment) => enqueue(&deployment.meta),
            Object::ReplicaSet(_) => replica_set_changed(change, view, &mut enqueue),
            Object::Pod(pod) => {
                if let Change::Deleted(_) = change
                    && let Some(deployment) = recreated_without_pods(view, pod)
                {
                    enqueue(&deployment.meta);
                }
            }
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn max_retries(&self) -> Option<u32> {
        Some(15)
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(deployment) = view.get::<Deployment>(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        if deployment.spec.selector.is_everything() {
            return refuse_to_select_all(view, deployment.clone(), now);
        }
        let uid = deployment.meta.uid;
        let mut candidates: Vec<_> =
            view.owned_by::<ReplicaSet>(uid).chain(view.orphans(&key.namespace)).cloned().collect();
        candidates.sort_by(|left, right| oldest_first(left, right));
        let running = match deployment.spec.strategy {
            DeploymentStrategy::Recreate => sets_with_running_pods(view, &candidates),
            DeploymentStrategy::RollingUpdate { .. } => Vec::new(),
        };
        let snapshot = Snapshot { deployment: deployment.clone(), candidates, running };
        script::run(view, now, move |script| sync::sync(script, &snapshot))
    }
}

/// A Deployment that selects everything is left alone (kube-controller-manager, `syncDeployment`).
fn refuse_to_select_all(view: &View<'_>, deployment: Rc<Deployment>, now: Now) -> Plan {
    const WHY: &str = "This deployment is selecting all pods. A non-empty selector is required.";
    script::run(view, now, move |script| {
        script.record(&owner::reference(&*deployment), EventType::Warning, "SelectingAll", WHY.to_owned());
        if deployment.status.observed_generation < deployment.meta.generation {
            let mut observed = (*deployment).clone();
            observed.status.observed_generation = observed.meta.generation;
            let object = Object::Deployment(Rc::new(observed));
            // The real controller does not look at the result.
            let _ = script.ask(Operation::Update { object, part: Part::Status, dry_run: false })?;
        }
        Ok(Again::OnChange)
    })
}

/// By creation, then by name (kube-controller-manager, `ReplicaSetsByCreationTimestamp`).
fn oldest_first(left: &ReplicaSet, right: &ReplicaSet) -> std::cmp::Ordering {
    (left.meta.created, &left.meta.name).cmp(&(right.meta.created, &right.meta.name))
}

/// The ReplicaSets of which some pod has not ended.
fn sets_with_running_pods(view: &View<'_>, sets: &[Rc<ReplicaSet>]) -> Vec<Uid> {
    let runs = |set: &&Rc<ReplicaSet>| {
        let uid = set.meta.uid;
        view.owned_by::<Pod>(uid).any(|pod| is_controlled_by(&pod.meta, uid) && !pod.is_terminal())
    };
    sets.iter().filter(runs).map(|set| set.meta.uid).collect()
}

fn is_controlled_by(meta: &Meta, uid: Uid) -> bool {
    meta.controller().is_some_and(|controller| controller.uid == uid)
}

/// Puts the Deployments that a ReplicaSet's change concerns into the queue.
fn replica_set_changed(change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(&Meta)) {
    let owner_of = |namespace: &Name, controller: Option<&OwnerReference>| {
        controller.and_then(|controller| owner::resolve::<Deployment>(view, namespace, controller))
    };
    let meta = change.object().meta();
    let controller = meta.controller();
    let mut changed = matches!(change, Change::Added(_)) && !meta.is_deleting();
    if let Change::Updated { old, new } = change {
        if old.meta().revision() == new.meta().revision() {
            return; // A resync.
        }
        let before = old.meta().controller();
        if before != controller
            && let Some(deployment) = owner_of(&meta.namespace, before)
        {
            enqueue(&deployment.meta);
        }
        changed = before != controller || old.meta().labels != new.meta().labels;
    }
    if controller.is_some() {
        if let Some(deployment) = owner_of(&meta.namespace, controller) {
            enqueue(&deployment.meta);
        }
    } else if changed && !meta.labels.is_empty() {
        let selects = |deployment: &&Rc<Deployment>| {
            let selector = &deployment.spec.selector;
            !selector.is_everything() && selector.matches(&meta.labels)
        };
        view.list_in::<Deployment>(&meta.namespace).filter(selects).for_each(|deployment| enqueue(&deployment.meta));
    }
}

/// The Deployment of a pod that is gone, if it is recreating and this was its last pod.
fn recreated_without_pods<'a>(view: &View<'a>, pod: &Pod) -> Option<&'a Rc<Deployment>> {
    let namespace = &pod.meta.namespace;
    let set = owner::resolve::<ReplicaSet>(view, namespace, pod.meta.controller()?)?;
    let deployment = owner::resolve::<Deployment>(view, namespace, set.meta.controller()?)?;
    if deployment.spec.strategy != DeploymentStrategy::Recreate {
        return None;
    }
    let has_pods = |set: &Rc<ReplicaSet>| {
        let uid = set.meta.uid;
        view.owned_by::<Pod>(uid).any(|pod| is_controlled_by(&pod.meta, uid))
    };
    let uid = deployment.meta.uid;
    let mut sets = view.owned_by::<ReplicaSet>(uid).filter(|set| is_controlled_by(&set.meta, uid));
    if sets.any(has_pods) { None } else { Some(deployment) }
}
