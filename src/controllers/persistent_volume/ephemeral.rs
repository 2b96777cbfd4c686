//! The ephemeral volume controller: makes the claims for the ephemeral volumes of pods, and makes them anew when somebody deletes them
//! (kube-controller-manager, pkg/controller/volume/ephemeral).
//!
//! Never deletes a claim: the pod is its owner, so the garbage collector does.

use std::cell::RefCell;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;

use crate::api::convert::Convert;
use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::pod_claims::{check_is_for, claim_of};
use crate::api::storage::PersistentVolumeClaim;
use crate::apiserver::protocol::Operation;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::super::config::Config;
use super::super::owner;
use super::super::script::{self, Halt, Script};
use super::index::Index;

/// The ephemeral volume controller. Its keys are pods.
pub struct EphemeralVolumeController {
    workers: usize,
    /// Which pods use a claim.
    index: RefCell<Index>,
}

impl EphemeralVolumeController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        EphemeralVolumeController { workers: config.concurrent_ephemeral_volume_syncs, index: RefCell::default() }
    }
}

impl Controller for EphemeralVolumeController {
    fn name(&self) -> &'static str {
        "ephemeral-volume-controller"
    }

    fn event_source(&self) -> &'static str {
        "ephemeral_volume"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Pod, Kind::PersistentVolumeClaim]
    }

    /// Of pods only new ones count: their volumes never change.
    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        self.index.borrow_mut().follow(change);
        match change {
            Change::Added(Object::Pod(pod)) if is_to_be_provided(pod) => {
                enqueue(owner::key_of(&**pod), SimDuration::ZERO);
            }
            Change::Deleted(Object::PersistentVolumeClaim(claim)) => {
                for name in self.index.borrow().users(&claim.meta) {
                    let pod = view.get::<Pod>(&claim.meta.namespace, name);
                    if let Some(pod) = pod.filter(|pod| is_to_be_provided(pod)) {
                        enqueue(owner::key_of(&**pod), SimDuration::ZERO);
                    }
                }
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(pod) = view.get::<Pod>(&key.namespace, &key.name).filter(|pod| is_to_be_provided(pod)) else {
            return Plan::nothing();
        };
        let pod = pod.clone();
        script::run(view, now, move |script| {
            for volume in pod.spec.full.volumes.iter().flatten() {
                let Some(source) = &volume.ephemeral else { continue };
                if let Err(why) = provide(script, &pod, volume, source)? {
                    let why = format!("ephemeral volume {}: {why}", volume.name);
                    script.record(&owner::reference(&*pod), EventType::Warning, "FailedBinding", why.clone());
                    return Err(Halt::Failed(format!("pod {}/{}, {why}", pod.meta.namespace, pod.meta.name)));
                }
            }
            Ok(Again::OnChange)
        })
    }
}

/// True if a pod has ephemeral volumes and is not going.
fn is_to_be_provided(pod: &Pod) -> bool {
    !pod.meta.is_deleting() && pod.spec.full.volumes.iter().flatten().any(|volume| volume.ephemeral.is_some())
}

/// Sees to it that there is a claim for a volume; an error says why there is none, or not the right one (`handleVolume`).
fn provide(
    script: &mut Script<'_>,
    pod: &Pod,
    volume: &core::Volume,
    source: &core::EphemeralVolumeSource,
) -> Result<Result<(), String>, Halt> {
    let Some(used) = claim_of(pod, volume) else { return Ok(Ok(())) };
    let namespace = &pod.meta.namespace;
    let found = script.look(|view| view.object_at(Kind::PersistentVolumeClaim, namespace, &used.name).cloned());
    if let Some(claim) = found.as_ref().and_then(PersistentVolumeClaim::of) {
        return Ok(check_is_for(pod, claim));
    }
    // A pod without a template is never stored.
    let template = source.volume_claim_template.clone().unwrap_or_default();
    let given = template.metadata.unwrap_or_default();
    let metadata = metav1::ObjectMeta {
        name: Some(String::from(&used.name)),
        namespace: Some(String::from(namespace)),
        annotations: given.annotations,
        labels: given.labels,
        ..metav1::ObjectMeta::default()
    };
    let full = core::PersistentVolumeClaim { metadata, spec: Some(template.spec), status: None };
    let mut claim = match PersistentVolumeClaim::from_full(full) {
        Ok(claim) => claim,
        Err(why) => return Ok(Err(format!("create PVC {}: {why}", used.name))),
    };
    claim.meta.owners = [owner::controller_reference(pod)].into();
    let created = script.ask(Operation::Create { object: claim.boxed(), dry_run: false })?;
    Ok(created.map(|_| ()).map_err(|status| format!("create PVC {}: {}", used.name, status.message)))
}
