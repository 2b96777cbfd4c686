//! What a request makes of an object that is there: updates, patches, scale, binding, eviction, deletion.
//!
//! Pure functions of the request and the present object. A conflict between two writers is found out when the result is
//! stored; then the same function is asked again with the newer object.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Labels, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, PodCondition, PodConditionType, Why};

use super::complete;
use super::deletion::{self, Ending};
use super::equality;
use super::patching;
use super::protocol::{DeleteOptions, Operation, Part};
use super::rules::{allows, drop_unused, keep_allocated, prepare_update, set_condition};
use super::status::{Reason, Status};
use super::storage;

/// What is said to a writer who has read an older version.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What becomes of an object.
#[derive(Debug)]
pub enum Change {
    /// It is as it should be.
    Nothing,
    /// It is replaced.
    Replace {
        /// The new version.
        object: Object,
        /// What follows.
        then: Then,
    },
    /// It goes.
    Remove,
}

/// What follows once a new version is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// The answer.
    Answer,
    /// The object goes.
    Remove,
    /// The deletion that an eviction asks for.
    Delete,
    /// The eviction that a disruption budget has granted.
    Evict,
}

impl Change {
    /// What becomes of an object that is to end.
    fn of(ending: Ending) -> Change {
        match ending {
            Ending::Pending => Change::Nothing,
            Ending::Mark { object, then_remove: true } => Change::Replace { object, then: Then::Remove },
            Ending::Mark { object, then_remove: false } => Change::Replace { object, then: Then::Answer },
            Ending::Remove => Change::Remove,
        }
    }
}

/// Gives the new version of an object what it needs out of a range.
pub type Allocate<'a> = &'a mut dyn FnMut(&mut Object) -> Result<(), Box<Status>>;

/// The labels of a pod that is bound to a node, out of those that it has.
pub type LabelsWhenBound<'a> = &'a dyn Fn(&Labels, &Name) -> Labels;

/// What a request makes of an object.
pub fn decide(
    operation: &Operation,
    present: &Object,
    labels_when_bound: LabelsWhenBound<'_>,
    allocate: Allocate<'_>,
    now: Timestamp,
) -> Result<Change, Box<Status>> {
    match operation {
        Operation::Update { object, part, .. } => {
            check_version(present, object.meta().revision(), allows(present.kind()).unconditional_update)?;
            check_same_incarnation(present, object)?;
            replace(object.clone(), present, *part, true, allocate)
        }
        Operation::Patch { patch, part, .. } => {
            let object = patching::apply(present, patch, now)?;
            let carried = object.meta().revision();
            if carried != present.meta().revision() {
                check_version(present, carried, true)?;
            }
            replace(object, present, *part, !matches!(patch, super::protocol::Patch::Typed(_)), allocate)
        }
        Operation::SetScale { replicas, resource_version, .. } => {
            check_version(present, *resource_version, true)?;
            replace(scaled(present, *replicas)?, present, Part::Main, false, allocate)
        }
        Operation::Bind { uid, node, .. } => bind(present, *uid, node, labels_when_bound, now),
        Operation::Delete { options, .. } | Operation::DeleteCollection { options, .. } => {
            deletion::begin(present, options, now).map(Change::of)
        }
        Operation::Evict { options, .. } => evict(present, options, now),
        _ => Ok(Change::Nothing),
    }
}

/// Zero names no version, which not every kind allows.
fn check_version(present: &Object, version: u64, unconditional: bool) -> Result<(), Box<Status>> {
    let meta = present.meta();
    if version == meta.revision() || (version == 0 && unconditional) {
        return Ok(());
    }
    let kind = present.kind();
    if version == 0 {
        let message = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
        let name = &meta.name;
        let text = format!("{} \"{name}\" is invalid: {message}", kind.row().qualified_plural());
        return Err(Box::new(Status::about(Reason::Invalid, kind, name, text)));
    }
    Err(Box::new(Status::conflict(kind, &meta.name, MODIFIED)))
}

fn check_same_incarnation(present: &Object, object: &Object) -> Result<(), Box<Status>> {
    let (meant, there) = (object.meta().uid, present.meta().uid);
    if meant == there || meant == Default::default() {
        return Ok(());
    }
    Err(Box::new(Status::conflict(present.kind(), &present.meta().name, &wrong_incarnation(present, meant))))
}

/// What the storage says when another incarnation is there (apiserver, storage/errors: `InvalidObj`).
fn wrong_incarnation(present: &Object, meant: Uid) -> String {
    let (key, there) = (storage::key_of(&present.key()), present.meta().uid);
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {meant}, UID in object meta: {there}"
    )
}

fn replace(
    mut object: Object,
    present: &Object,
    part: Part,
    foreign: bool,
    allocate: Allocate<'_>,
) -> Result<Change, Box<Status>> {
    if part == Part::Main {
        keep_allocated(&mut object, present);
        allocate(&mut object)?;
        drop_unused(&mut object, present);
    }
    if foreign && part == Part::Main {
        complete::update(&mut object, present)?;
    }
    prepare_update(&mut object, present, part)?;
    let ends = deletion::ends_with_update(&object, present);
    if !ends && equality::same(present, &object) {
        return Ok(Change::Nothing);
    }
    Ok(if ends { Change::Remove } else { Change::Replace { object, then: Then::Answer } })
}

fn scaled(present: &Object, replicas: i32) -> Result<Object, Box<Status>> {
    let mut object = present.clone();
    match &mut object {
        Object::Deployment(deployment) => Rc::make_mut(deployment).spec.replicas = replicas,
        Object::ReplicaSet(set) => Rc::make_mut(set).replicas = replicas,
        Object::ReplicationController(controller) => Rc::make_mut(controller).replicas = replicas,
        Object::StatefulSet(set) => Rc::make_mut(&mut Rc::make_mut(set).spec).replicas = replicas,
        _ => {
            let message = "the server could not find the requested resource";
            return Err(Box::new(Status::about(Reason::NotFound, present.kind(), &present.meta().name, message)));
        }
    }
    if replicas < 0 {
        let message = format!(
            "Scale.autoscaling \"{}\" is invalid: spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0",
            present.meta().name
        );
        return Err(Box::new(Status::about(Reason::Invalid, present.kind(), &present.meta().name, message)));
    }
    Ok(object)
}

/// Binds a pod (kubernetes, pkg/registry/core/pod/storage: `setPodNodeAndMetadata`).
fn bind(
    present: &Object,
    uid: Uid,
    node: &Name,
    labels_when_bound: LabelsWhenBound<'_>,
    now: Timestamp,
) -> Result<Change, Box<Status>> {
    let Object::Pod(pod) = present else { return Ok(Change::Nothing) };
    let name = &pod.meta.name;
    // The registry names the subresource here.
    let conflict = |why: String| {
        let message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {why}");
        Err(Box::new(Status::about(Reason::Conflict, Kind::Pod, name, message)))
    };
    if uid != Default::default() && uid != pod.meta.uid {
        return Err(Box::new(Status::conflict(Kind::Pod, name, &wrong_incarnation(present, uid))));
    }
    if pod.meta.is_deleting() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(other) = &pod.node {
        return conflict(format!("pod {name} is already assigned to node \"{other}\""));
    }
    if pod.spec.full.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut bound = (**pod).clone();
    bound.node = Some(node.clone());
    bound.meta.labels = labels_when_bound(&bound.meta.labels, node);
    bound.status.nominated_node = None;
    let scheduled = PodCondition {
        kind: PodConditionType::PodScheduled,
        status: ConditionStatus::True,
        why: Why::NONE,
        last_transition: now,
        observed_generation: 0,
    };
    set_condition(&mut bound.status, scheduled, now);
    bound.meta.resource_version.set(0);
    Ok(Change::Replace { object: Object::Pod(Rc::new(bound)), then: Then::Answer })
}

/// Evicts a pod that no budget keeps: says why in its status, then deletes it, in two writes
/// (kubernetes, pkg/registry/core/pod/storage/eviction.go: `addConditionAndDeletePod`).
fn evict(present: &Object, options: &DeleteOptions, now: Timestamp) -> Result<Change, Box<Status>> {
    deletion::check_preconditions(present, options)?;
    let mut marked = present.clone();
    if let Object::Pod(pod) = &mut marked {
        let before = pod.status.condition(&PodConditionType::DisruptionTarget);
        let target = PodCondition {
            kind: PodConditionType::DisruptionTarget,
            status: ConditionStatus::True,
            why: Why::new(Some(Name::of("EvictionByEvictionAPI")), Some(Name::of("Eviction API: evicting"))),
            last_transition: now,
            observed_generation: before.map_or(0, |condition| condition.observed_generation),
        };
        let told = set_condition(&mut Rc::make_mut(pod).status, target, now);
        if told && !options.dry_run {
            return Ok(Change::Replace { object: marked, then: Then::Delete });
        }
    }
    deletion::begin(present, options, now).map(Change::of)
}
