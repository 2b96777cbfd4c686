//! Pods that no Job will count any more: their finalizer goes, so that they can (`syncOrphanPod`).

use crate::api::batch::{JOB_TRACKING, Job};
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::plan::{Plan, Request, Step};
use crate::client::view::View;

use super::super::owner;

/// Takes the finalizer of a pod away, if it is still an orphan or its Job has ended.
pub(super) fn plan(view: &View<'_>, key: &ObjectKey) -> Plan {
    let Some(pod) = view.get::<Pod>(&key.namespace, &key.name).filter(|pod| pod.is_tracked()) else {
        return Plan::nothing();
    };
    if let Some(owner) = pod.meta.controller() {
        if owner.kind != "Job" || owner.api_version != "batch/v1" {
            return Plan::nothing();
        }
        let job = owner::resolve::<Job>(view, &key.namespace, owner);
        if job.is_some_and(|job| job.spec.external_controller().is_some() || job.status.finished().is_none()) {
            return Plan::nothing();
        }
    }
    let mut request = Request::new(untrack(pod));
    request.tolerate.push(Reason::NotFound);
    Plan::nothing().step(Step::Request(request))
}

/// Takes the finalizer of a pod away.
pub(super) fn untrack(pod: &Pod) -> Operation {
    let others: Vec<Name> = pod.meta.finalizers().iter().filter(|it| **it != JOB_TRACKING).cloned().collect();
    let patch = TypedPatch::Metadata {
        uid: Some(pod.meta.uid),
        resource_version: 0,
        owners: None,
        finalizers: Some(others),
        labels: Vec::new(),
        annotations: Vec::new(),
    };
    Operation::Patch { key: owner::key_of(pod), patch: Patch::Typed(Box::new(patch)), part: Part::Main, dry_run: false }
}
