//! Whether a cluster has settled: nothing is in transition that will not stay as it is for good.
//!
//! Kept up to date write by write: a write concerns one object, and only objects that are in transition are remembered.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::batch::Job;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodPhase};
use crate::api::stateful::{StatefulSet, UpdateStrategy};
use crate::api::workload::{DaemonSet, DaemonSetStrategy, Deployment, ReplicaSet, Replicated};
use crate::cluster::news::Write;
use crate::cluster::truth::Truth;
use crate::controllers::job::indexes::Indexes;
use crate::engine::time::SimTime;

/// What is in transition, and since when nothing of importance was written.
#[derive(Debug, Default)]
pub struct Settling {
    /// Why each object that is in transition is.
    moving: BTreeMap<ObjectKey, String>,
    last_write: SimTime,
}

impl Settling {
    /// Takes note of a write.
    pub fn note_write(&mut self, write: &Write) {
        if !matters(write) {
            return;
        }
        self.last_write = write.at;
        match write.new.as_ref().and_then(reason) {
            Some(reason) => {
                self.moving.insert(write.key.clone(), reason);
            }
            None => {
                self.moving.remove(&write.key);
            }
        }
    }

    /// When something of importance was last written.
    pub fn last_write(&self) -> SimTime {
        self.last_write
    }

    /// Something that is still in transition, if anything is, and why.
    pub fn obstacle(&self, truth: &Truth) -> Option<String> {
        let (key, reason) = self.moving.iter().find(|(key, _)| !is_for_good(key, truth))?;
        let others = self.moving.keys().filter(|key| !is_for_good(key, truth)).count() - 1;
        let more = if others == 0 { String::new() } else { format!(" (and {others} more objects)") };
        Some(format!("{key} {reason}{more}"))
    }
}

/// Whether a write can matter to whether things have settled: leases, events and the status that nodes report do not.
fn matters(write: &Write) -> bool {
    match (write.key.kind, &write.old, &write.new) {
        (Kind::Lease | Kind::Event, ..) => false,
        (Kind::Node, Some(Object::Node(old)), Some(Object::Node(new))) => {
            old.is_ready() != new.is_ready() || old.taints != new.taints || old.unschedulable != new.unschedulable
        }
        _ => true,
    }
}

/// Why an object is in transition, if it is.
fn reason(object: &Object) -> Option<String> {
    match object {
        Object::Pod(pod) => pod_reason(pod),
        Object::ReplicaSet(set) => replicas_reason(&**set),
        Object::ReplicationController(controller) => replicas_reason(&**controller),
        Object::Deployment(deployment) => deployment_reason(deployment),
        Object::DaemonSet(set) => daemon_set_reason(set),
        Object::StatefulSet(set) => stateful_set_reason(set),
        Object::Job(job) => job_reason(job),
        _ if object.meta().is_deleting() => Some("is being deleted".to_owned()),
        _ => None,
    }
}

fn pod_reason(pod: &Pod) -> Option<String> {
    if pod.meta.is_deleting() {
        return Some("is being deleted".to_owned());
    }
    match (pod.status.phase, &pod.node) {
        (PodPhase::Succeeded | PodPhase::Failed, _) => None,
        (PodPhase::Running, _) if pod.status.is_ready() => None,
        (PodPhase::Running, _) => Some("runs but is not ready".to_owned()),
        (_, None) => Some("is not scheduled".to_owned()),
        (_, Some(node)) => Some(format!("has not started on {node}")),
    }
}

fn replicas_reason<R: Replicated>(set: &R) -> Option<String> {
    let (status, desired) = (set.status(), set.replicas());
    if set.meta().is_deleting() {
        Some("is being deleted".to_owned())
    } else if status.observed_generation < set.meta().generation {
        Some("was changed and not looked at yet".to_owned())
    } else if status.replicas != desired {
        Some(format!("has {} of {desired} pods", status.replicas))
    } else if status.available_replicas < desired {
        Some(format!("has {} of {desired} pods available", status.available_replicas))
    } else {
        None
    }
}

fn stateful_set_reason(set: &StatefulSet) -> Option<String> {
    let (status, desired) = (&set.status, set.spec.replicas);
    let updated = match &set.spec.strategy {
        UpdateStrategy::OnDelete => 0,
        UpdateStrategy::RollingUpdate(rolling) => desired - rolling.as_ref().map_or(0, |rolling| rolling.partition),
    };
    if set.meta.is_deleting() {
        Some("is being deleted".to_owned())
    } else if status.observed_generation < set.meta.generation {
        Some("was changed and not looked at yet".to_owned())
    } else if status.replicas != desired {
        Some(format!("has {} of {desired} pods", status.replicas))
    } else if status.updated_replicas < updated {
        Some(format!("has updated {} of {updated} pods", status.updated_replicas))
    } else if status.available_replicas < desired {
        Some(format!("has {} of {desired} pods available", status.available_replicas))
    } else {
        None
    }
}

fn deployment_reason(deployment: &Deployment) -> Option<String> {
    let (status, desired) = (&deployment.status, deployment.spec.replicas);
    if deployment.meta.is_deleting() {
        Some("is being deleted".to_owned())
    } else if status.observed_generation < deployment.meta.generation {
        Some("was changed and not looked at yet".to_owned())
    } else if has_failed(deployment) || deployment.spec.paused {
        None
    } else if status.updated_replicas < desired {
        Some(format!("has updated {} of {desired} replicas", status.updated_replicas))
    } else if status.replicas > status.updated_replicas {
        Some(format!("has {} replicas of an old revision", status.replicas - status.updated_replicas))
    } else if status.available_replicas < desired {
        Some(format!("has {} of {desired} replicas available", status.available_replicas))
    } else {
        None
    }
}

/// One that waits for somebody to delete old pods is at rest.
fn daemon_set_reason(set: &DaemonSet) -> Option<String> {
    let (status, desired) = (&set.status, set.status.desired_number_scheduled);
    let rolls = matches!(set.strategy, DaemonSetStrategy::RollingUpdate { .. });
    if set.meta.is_deleting() {
        Some("is being deleted".to_owned())
    } else if status.observed_generation < set.meta.generation {
        Some("was changed and not looked at yet".to_owned())
    } else if rolls && status.updated_number_scheduled < desired {
        Some(format!("has updated {} of {desired} pods", status.updated_number_scheduled))
    } else if status.number_available < desired {
        Some(format!("has {} of {desired} pods available", status.number_available))
    } else {
        None
    }
}

/// A Job that waits before it tries again is in transition, though nothing runs; one whose pods all run may let them do so for ever.
fn job_reason(job: &Job) -> Option<String> {
    let (spec, status) = (&job.spec, &job.status);
    if job.meta.is_deleting() {
        return Some("is being deleted".to_owned());
    }
    let has_ended = status.is_true("Complete") || status.is_true("Failed");
    if has_ended || spec.is_suspended() || spec.external_controller().is_some() {
        return None;
    }
    let wanted = match spec.completions() {
        Some(completions) => {
            let indexes = u32::try_from(completions).unwrap_or(0);
            let given_up = status.failed_indexes.as_deref().map_or(0, |text| Indexes::parse(text, indexes).total());
            completions.saturating_sub(status.succeeded).saturating_sub(given_up).min(spec.parallelism())
        }
        None if status.succeeded > 0 => 0,
        None => spec.parallelism(),
    };
    (status.active < wanted).then(|| format!("has {} of {wanted} pods", status.active))
}

/// Whether the rollout has exceeded its deadline; nothing but a new change gets it going.
fn has_failed(deployment: &Deployment) -> bool {
    let progressing = deployment.status.conditions.iter().find(|condition| condition.kind == "Progressing");
    progressing.is_some_and(|condition| condition.reason == "ProgressDeadlineExceeded")
}

/// Whether an object in transition will stay so: it belongs to a rollout that has failed, or its node is lost.
fn is_for_good(key: &ObjectKey, truth: &Truth) -> bool {
    match truth.get(key.kind, &key.namespace, &key.name) {
        Some(Object::ReplicaSet(set)) => belongs_to_failed(set, truth),
        Some(Object::StatefulSet(set)) => waits_for_lost(set, truth),
        Some(Object::Pod(pod)) => {
            let owner = pod.meta.controller().and_then(|owner| set_named(&pod.meta.namespace, &owner.name, truth));
            owner.is_some_and(|set| belongs_to_failed(set, truth))
                || pod.node.as_ref().is_some_and(|node| is_lost(node, truth))
        }
        Some(_) => false,
        None => true,
    }
}

/// Whether a pod of the set is on a lost node: it is not replaced, and those after it are not touched.
fn waits_for_lost(set: &StatefulSet, truth: &Truth) -> bool {
    let first = set.first_ordinal();
    (first..first.saturating_add(set.spec.replicas)).any(|ordinal| {
        let pod = truth.get(Kind::Pod, &set.meta.namespace, &format!("{}-{ordinal}", set.meta.name));
        pod.and_then(Object::get::<Pod>).and_then(|pod| pod.node.as_ref()).is_some_and(|node| is_lost(node, truth))
    })
}

fn set_named<'t>(namespace: &Name, name: &Name, truth: &'t Truth) -> Option<&'t Rc<ReplicaSet>> {
    truth.get(Kind::ReplicaSet, namespace, name)?.get::<ReplicaSet>()
}

fn belongs_to_failed(set: &ReplicaSet, truth: &Truth) -> bool {
    let owner = set.meta.controller().and_then(|owner| truth.get(Kind::Deployment, &set.meta.namespace, &owner.name));
    owner.and_then(Object::get::<Deployment>).is_some_and(|deployment| has_failed(deployment))
}

/// Whether nobody on a node could do anything.
fn is_lost(node: &Name, truth: &Truth) -> bool {
    match truth.get(Kind::Node, "", node) {
        Some(Object::Node(node)) => !node.is_ready(),
        _ => false,
    }
}
