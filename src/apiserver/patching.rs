//! Patches applied to objects. Those that components keep typed work on the compact objects; all others on JSON.

use std::rc::Rc;

use serde_json::Value;

use crate::api::batch::JobSpec;
use crate::api::kind::Kind;
use crate::api::meta::{Labels, Meta, Timestamp};
use crate::api::name::Name;
use crate::api::node::{Node, NodeCondition};
use crate::api::object::Object;
use crate::api::patch::{self, PatchError};
use crate::api::pod::{Pod, PodCondition, PodTemplate};

use super::protocol::{Patch, TypedPatch};
use super::rules::{UID_MISMATCH, merge_conditions, set_condition};
use super::status::{Reason, Status};

/// The object that a patch makes of another one.
pub fn apply(object: &Object, patch: &Patch, now: Timestamp) -> Result<Object, Box<Status>> {
    let kind = object.kind();
    let failed = |error: PatchError| Box::new(status_of(kind, &object.meta().name, &error));
    let patched = match patch {
        Patch::Typed(typed) => return apply_typed(object, typed, now),
        Patch::Json(patch) => {
            let mut value = object.to_json();
            patch::json::apply(&mut value, patch).map_err(failed)?;
            value
        }
        Patch::Merge(patch) => {
            let mut value = object.to_json();
            patch::merge::apply(&mut value, patch).map_err(failed)?;
            value
        }
        Patch::Strategic(patch) => {
            patch::strategic::apply(kind.row().name, object.to_json(), (**patch).clone()).map_err(failed)?
        }
    };
    check_names(object, &patched)?;
    let mut new = Object::from_json(kind, patched)
        .map_err(|error| Box::new(Status::about(Reason::BadRequest, kind, &object.meta().name, error.to_string())))?;
    share_specifications(&mut new, object);
    Ok(new)
}

fn status_of(kind: Kind, name: &str, error: &PatchError) -> Status {
    let reason = match error {
        PatchError::BadRequest(_) => Reason::BadRequest,
        PatchError::Unprocessable(_) => Reason::Invalid,
        PatchError::Internal(_) => Reason::InternalError,
    };
    Status::about(reason, kind, name, error.to_string())
}

/// A patch must not make another object of this one.
fn check_names(object: &Object, patched: &Value) -> Result<(), Box<Status>> {
    let meta = object.meta();
    let field = |name: &str| patched.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).unwrap_or_default();
    if field("name") != meta.name.as_str() || (!meta.namespace.is_empty() && field("namespace") != &*meta.namespace) {
        let message = "the name of the object does not match the name on the URL";
        return Err(Box::new(Status::new(Reason::BadRequest, message)));
    }
    Ok(())
}

/// What the patch left alone is shared again with the old version.
fn share_specifications(new: &mut Object, old: &Object) {
    let share = |new: &mut Rc<PodTemplate>, old: &Rc<PodTemplate>| {
        if new.spec.full == old.spec.full {
            let template = Rc::make_mut(new);
            template.spec = Rc::clone(&old.spec);
            if template.says_the_same(old) {
                *new = Rc::clone(old);
            }
        }
    };
    match (new, old) {
        (Object::Pod(new), Object::Pod(old)) if new.spec.full == old.spec.full => {
            Rc::make_mut(new).spec = Rc::clone(&old.spec);
        }
        (Object::Deployment(new), Object::Deployment(old)) => {
            share(&mut Rc::make_mut(new).spec.template, &old.spec.template);
        }
        (Object::Job(new), Object::Job(old)) if new.spec == old.spec => Rc::make_mut(new).spec = Rc::clone(&old.spec),
        (Object::CronJob(new), Object::CronJob(old)) if new.spec == old.spec => {
            Rc::make_mut(new).spec = Rc::clone(&old.spec);
        }
        (Object::Job(new), Object::Job(old)) => share_job(&mut Rc::make_mut(new).spec, &old.spec),
        (Object::ReplicaSet(new), Object::ReplicaSet(old)) => share(&mut Rc::make_mut(new).template, &old.template),
        (Object::DaemonSet(new), Object::DaemonSet(old)) => share(&mut Rc::make_mut(new).template, &old.template),
        (Object::ReplicationController(new), Object::ReplicationController(old)) => {
            share(&mut Rc::make_mut(new).template, &old.template);
        }
        (Object::StatefulSet(new), Object::StatefulSet(old)) => share(&mut Rc::make_mut(new).template, &old.template),
        _ => {}
    }
}

/// Shares the template again if it is the same, and what the Job's pods are made of with it.
fn share_job(new: &mut Rc<JobSpec>, old: &Rc<JobSpec>) {
    if new.template.spec.full == old.template.spec.full && new.is_indexed() == old.is_indexed() {
        let spec = Rc::make_mut(new);
        spec.pod_spec = Rc::clone(&old.pod_spec);
        Rc::make_mut(&mut spec.template).spec = Rc::clone(&old.template.spec);
    }
}

fn apply_typed(object: &Object, patch: &TypedPatch, now: Timestamp) -> Result<Object, Box<Status>> {
    let mut new = object.clone();
    match patch {
        TypedPatch::PodStatus { uid, status } => {
            let pod = pod_of(&mut new)?;
            check_uid(Kind::Pod, &pod.meta, *uid)?;
            let same = |left: &PodCondition, right: &PodCondition| left.kind == right.kind;
            // What the kubelet no longer says goes: of a resize that is done, and everything of a pod that it rejects.
            let is_gone = |one: &PodCondition| one.kind.is_kubelets() && status.condition(&one.kind).is_none();
            if pod.status.conditions.iter().any(is_gone) {
                pod.status.conditions.retain(|one| !is_gone(one));
            }
            let conditions = merge_conditions(&pod.status.conditions, &status.conditions, same);
            let (nominated_node, claims) =
                (pod.status.nominated_node.take(), std::mem::take(&mut pod.status.resource_claims));
            pod.status = status.clone();
            pod.status.conditions = conditions.into();
            (pod.status.nominated_node, pod.status.resource_claims) = (nominated_node, claims);
        }
        TypedPatch::PodConditions { uid, conditions, nominated_node } => {
            let pod = pod_of(&mut new)?;
            check_uid(Kind::Pod, &pod.meta, *uid)?;
            for condition in conditions {
                set_condition(&mut pod.status, condition.clone(), now);
            }
            if let Some(node) = nominated_node {
                pod.status.nominated_node = (!node.is_empty()).then(|| Box::new(node.clone()));
            }
        }
        TypedPatch::NodeStatus { status } => {
            let node = node_of(&mut new)?;
            let same = |left: &NodeCondition, right: &NodeCondition| left.kind == right.kind;
            let conditions = merge_conditions(&node.status.conditions, &status.conditions, same);
            node.status = status.clone();
            node.status.conditions = conditions;
        }
        TypedPatch::NodeTaints { resource_version, taints } => {
            let node = node_of(&mut new)?;
            check_version(Kind::Node, &node.meta, *resource_version)?;
            node.taints = taints.clone();
        }
        TypedPatch::Metadata { uid, resource_version, owners, finalizers, labels, annotations } => {
            let kind = object.kind();
            let meta = new.meta_mut();
            if let Some(uid) = uid {
                check_uid(kind, meta, *uid)?;
            }
            check_version(kind, meta, *resource_version)?;
            if let Some(owners) = owners {
                meta.owners = owners.clone().into();
            }
            if let Some(finalizers) = finalizers {
                meta.finalizers = finalizers.clone().into();
            }
            meta.labels = merge_pairs(&meta.labels, labels);
            meta.annotations = merge_pairs(&meta.annotations, annotations);
        }
    }
    Ok(new)
}

fn merge_pairs(pairs: &Labels, changes: &[(Name, Option<Name>)]) -> Labels {
    changes.iter().fold(pairs.clone(), |pairs, (key, value)| match value {
        Some(value) => pairs.with(key.clone(), value.clone()),
        None => pairs.without(key),
    })
}

fn pod_of(object: &mut Object) -> Result<&mut Pod, Box<Status>> {
    match object {
        Object::Pod(pod) => Ok(Rc::make_mut(pod)),
        other => Err(misplaced(other)),
    }
}

fn node_of(object: &mut Object) -> Result<&mut Node, Box<Status>> {
    match object {
        Object::Node(node) => Ok(Rc::make_mut(node)),
        other => Err(misplaced(other)),
    }
}

fn misplaced(object: &Object) -> Box<Status> {
    let message = format!("the patch is not for {}", object.kind().row().plural);
    Box::new(Status::new(Reason::BadRequest, message))
}

/// A patch that names a uid changes it if it is another one, and a uid must not change
/// (apiserver, handlers/patch: a conflict, as for any precondition).
fn check_uid(kind: Kind, meta: &Meta, uid: crate::api::meta::Uid) -> Result<(), Box<Status>> {
    if meta.uid == uid {
        return Ok(());
    }
    let why = format!("{UID_MISMATCH}: {uid}, UID in object meta: {}", meta.uid);
    Err(Box::new(Status::conflict(kind, &meta.name, &why)))
}

/// Zero names no version.
fn check_version(kind: Kind, meta: &Meta, version: u64) -> Result<(), Box<Status>> {
    if version == 0 || version == meta.revision() {
        return Ok(());
    }
    Err(Box::new(Status::conflict(kind, &meta.name, super::change::MODIFIED)))
}
