//! Pods that no Job will count any more: their finalizer goes, so that they can (`syncOrphanPod`).

use std::rc::Rc;

use crate::api::batch::{JOB_TRACKING, Job};
use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::plan::{Again, Plan, Request, Step};
use crate::client::view::{Now, View};

use super::super::owner;
use super::super::script;

/// What a Job selects its pods by, before the Job's uid.
const SELECTOR: &str = "batch.kubernetes.io/controller-uid=";

/// The key that stands for all pods of a Job, once that has ended or gone: its selector, which is no pod's name
/// (`enqueueLabelSelector`).
pub(super) fn all_of(job: &Job) -> ObjectKey {
    ObjectKey::new(Kind::Pod, job.meta.namespace.clone(), Name::from(format!("{SELECTOR}{}", job.meta.uid)))
}

/// Takes the finalizer of a pod away, or of all pods of a Job, if they are still orphans or their Job has ended.
pub(super) fn plan(view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
    if let Some(job) = key.name.strip_prefix(SELECTOR).and_then(Uid::parse) {
        return plan_all(view, job, now);
    }
    match view.get::<Pod>(&key.namespace, &key.name) {
        Some(pod) if is_orphan(view, pod) => {
            let request = Request { tolerate: &[Reason::NotFound], ..Request::new(untrack(pod)) };
            Plan::nothing().step(Step::Request(request))
        }
        _ => Plan::nothing(),
    }
}

/// The pods of a Job are gone through one after the other, by one worker. What fails is not tried again
/// (`syncOrphanPodsBySelector`).
fn plan_all(view: &View<'_>, job: Uid, now: Now) -> Plan {
    let pods: Vec<Rc<Pod>> = view.unsettled_pods(job).cloned().collect();
    script::run(view, now, move |script| {
        for pod in &pods {
            if *script.see(|view| Rc::new(is_orphan(view, pod))) {
                let _ = script.ask(untrack(pod))?;
            }
        }
        Ok(Again::OnChange)
    })
}

/// True if a pod has the finalizer and no Job that will take it away (`handleSingleOrphanPod`).
fn is_orphan(view: &View<'_>, pod: &Pod) -> bool {
    let Some(owner) = pod.meta.controller() else { return pod.is_tracked() };
    let job = owner::resolve::<Job>(view, &pod.meta.namespace, owner);
    pod.is_tracked()
        && owner.kind == "Job"
        && owner.api_version == "batch/v1"
        && job.is_none_or(|job| job.spec.external_controller().is_none() && job.status.finished().is_some())
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
