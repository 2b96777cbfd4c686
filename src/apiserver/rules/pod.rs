//! Pods (kubernetes, pkg/registry/core/pod and pkg/apis/core/validation).

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::label_keys;
use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, PodPhase, PodSpec, PodStatus, Why};
use crate::api::validation::error::{ErrorList, FieldError, Path};

use crate::apiserver::equality;
use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// What is said when a specification changes that must not (core/validation: `ValidatePodUpdate`).
const IMMUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What a strategic patch that names a uid says if it is another object's.
pub const UID_MISMATCH: &str = "Precondition failed: UID in precondition";

/// A new pod is pending, whatever the client says, and what it says of label keys is merged into its selectors; one with scheduling gates says that it waits for them.
pub fn create(pod: &mut Pod, _now: Timestamp) {
    pod.meta.generation = 1;
    pod.spec = label_keys::merge(&pod.spec, &pod.meta.labels);
    pod.status = PodStatus { phase: PodPhase::Pending, ..PodStatus::default() };
    if pod.spec.full.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        pod.status.conditions.push(PodCondition {
            kind: PodConditionType::PodScheduled,
            status: ConditionStatus::False,
            why: Why::new(
                Some(Name::of("SchedulingGated")),
                Some(Name::of("Scheduling is blocked due to non-empty scheduling gates")),
            ),
            last_transition: Timestamp::default(),
            observed_generation: 0,
        });
    }
}

/// The main part leaves the status alone and the status leaves the specification alone.
pub fn update(new: &mut Pod, old: &Pod, part: Part) -> Result<(), Box<Status>> {
    match part {
        Part::Main | Part::Finalize => {
            new.status = old.status.clone();
            new.token_volume = old.token_volume;
            check_node(new, old)?;
            if new.only_node != old.only_node {
                return refuse(new, FieldError::forbidden(&Path::Root.child("spec"), IMMUTABLE));
            }
            if !equality::same_spec(&old.spec, &new.spec) {
                check_spec(new, old)?;
                new.meta.generation += 1;
            }
        }
        Part::Resize => {
            new.status = old.status.clone();
            new.token_volume = old.token_volume;
            new.node.clone_from(&old.node);
            new.meta.labels = old.meta.labels.clone();
            new.meta.annotations = old.meta.annotations.clone();
            if !equality::same_spec(&old.spec, &new.spec) {
                check_resize(new, old)?;
                new.meta.generation += 1;
                // What the status says follows from the specification no longer, until the kubelet has done as it says.
                if new.status.reported.is_none() {
                    new.status.reported = old.implied().map(Rc::new);
                }
            }
        }
        Part::Status => {
            new.spec = old.spec.clone();
            new.node.clone_from(&old.node);
            new.only_node.clone_from(&old.only_node);
            new.token_volume = old.token_volume;
            // Old kubelets corrupt owner references in a way that breaks garbage collection.
            new.meta.owners.clone_from(&old.meta.owners);
            keep_observed_generation(&mut new.status, &old.status);
        }
    }
    Ok(())
}

fn refuse(pod: &Pod, error: FieldError) -> Result<(), Box<Status>> {
    Err(Box::new(Status::invalid(Kind::Pod, &pod.meta.name, &ErrorList(vec![error]))))
}

fn check_node(new: &mut Pod, old: &Pod) -> Result<(), Box<Status>> {
    if new.node == old.node {
        return Ok(());
    }
    refuse(new, FieldError::forbidden(&Path::Root.child("spec"), IMMUTABLE))
}

/// A resize may change CPU and memory of containers, as long as the pod's class of service stays the same (core/validation,
/// `ValidatePodResize`).
fn check_resize(new: &Pod, old: &Pod) -> Result<(), Box<Status>> {
    let spec = Path::Root.child("spec");
    if new.spec.qos != old.spec.qos {
        let detail = "Pod QOS Class may not change as a result of resizing";
        return refuse(new, FieldError::invalid(&spec, new.spec.qos.as_str(), detail));
    }
    let without = |spec: &PodSpec| {
        let mut full = spec.full.clone();
        for container in full.containers.iter_mut().chain(full.init_containers.iter_mut().flatten()) {
            let resources = container.resources.iter_mut();
            for amounts in resources.flat_map(|resources| [&mut resources.requests, &mut resources.limits]) {
                amounts.iter_mut().for_each(|amounts| amounts.retain(|name, _| name != "cpu" && name != "memory"));
                if amounts.as_ref().is_some_and(|amounts| amounts.is_empty()) {
                    *amounts = None;
                }
            }
            if container.resources == Some(Default::default()) {
                container.resources = None;
            }
        }
        full
    };
    if without(&new.spec) == without(&old.spec) {
        return Ok(());
    }
    refuse(new, FieldError::forbidden(&spec, "only cpu and memory resources are mutable"))
}

/// A specification may change in images, in more tolerations, in a deadline that comes nearer, and lose scheduling gates.
fn check_spec(new: &Pod, old: &Pod) -> Result<(), Box<Status>> {
    let spec = Path::Root.child("spec");
    let deadline = |spec: &PodSpec| spec.full.active_deadline_seconds;
    match (deadline(&old.spec), deadline(&new.spec)) {
        (Some(before), Some(after)) if after > before => {
            let detail = "must be less than or equal to previous value";
            return refuse(new, FieldError::invalid(&spec.child("activeDeadlineSeconds"), after, detail));
        }
        (Some(_), None) => {
            let detail = "must not update from a positive integer to nil value";
            return refuse(new, FieldError::invalid(&spec.child("activeDeadlineSeconds"), "nil", detail));
        }
        _ => {}
    }
    let (before, after) = (&old.spec.full, &new.spec.full);
    let kept = before
        .tolerations
        .iter()
        .flatten()
        .all(|toleration| after.tolerations.iter().flatten().any(|other| other == toleration));
    let gates = after
        .scheduling_gates
        .iter()
        .flatten()
        .all(|gate| before.scheduling_gates.iter().flatten().any(|other| other == gate));
    if kept && gates && before.containers.len() == after.containers.len() {
        let mut same = after.clone();
        same.tolerations.clone_from(&before.tolerations);
        same.scheduling_gates.clone_from(&before.scheduling_gates);
        same.active_deadline_seconds = before.active_deadline_seconds;
        if before.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
            && after.termination_grace_period_seconds == Some(1)
        {
            same.termination_grace_period_seconds = before.termination_grace_period_seconds;
        }
        for (container, old) in same.containers.iter_mut().zip(&before.containers) {
            container.image.clone_from(&old.image);
        }
        let init = same.init_containers.iter_mut().flatten();
        for (container, old) in init.zip(before.init_containers.iter().flatten()) {
            container.image.clone_from(&old.image);
        }
        if same == *before {
            return Ok(());
        }
    }
    refuse(new, FieldError::forbidden(&spec, IMMUTABLE))
}

/// A client that does not write `observedGeneration` does not remove it (pod strategy: `preserveOldObservedGeneration`).
fn keep_observed_generation(new: &mut PodStatus, old: &PodStatus) {
    if new.observed_generation == 0 {
        new.observed_generation = old.observed_generation;
    }
    for condition in new.conditions.iter_mut().filter(|condition| condition.observed_generation == 0) {
        if let Some(before) = old.condition(&condition.kind) {
            condition.observed_generation = before.observed_generation;
        }
    }
}

/// Sets a condition (`podutil.UpdatePodCondition`): the time changes only if the status does. True if anything changed.
pub fn set_condition(status: &mut PodStatus, mut condition: PodCondition, now: Timestamp) -> bool {
    condition.last_transition = now;
    let Some(present) = status.conditions.iter_mut().find(|present| present.kind == condition.kind) else {
        status.conditions.push(condition);
        return true;
    };
    if present.status == condition.status {
        condition.last_transition = present.last_transition;
    }
    let changed = *present != condition;
    *present = condition;
    changed
}

/// Conditions of a patch merged into those that are there, by type. Those of the patch stand in its order; those that
/// only the server has keep their place before what they stood before
/// (apimachinery, strategicpatch: `mergeSortedSlice`).
pub fn merge_conditions<C: Clone>(stored: &[C], patch: &[C], same: impl Fn(&C, &C) -> bool) -> Vec<C> {
    let place = |condition: &C| stored.iter().position(|other| same(other, condition));
    let mut only_stored =
        stored.iter().filter(|condition| !patch.iter().any(|other| same(other, condition))).peekable();
    if only_stored.peek().is_none() {
        return patch.to_vec();
    }
    let mut merged = Vec::with_capacity(patch.len() + only_stored.clone().count());
    for condition in patch {
        let here = place(condition);
        while let Some(next) = only_stored.next_if(|next| here.is_some_and(|here| place(next) < Some(here))) {
            merged.push(next.clone());
        }
        merged.push(condition.clone());
    }
    merged.extend(only_stored.cloned());
    merged
}
