//! Keeps claims that pods use, and volumes that are bound, from going: each carries a finalizer until nobody needs it
//! (kube-controller-manager, pvcprotection and pvprotection).

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::Pod;
use crate::api::pod_claims::{self, PodClaim};
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::apiserver::protocol::{Operation, Part};
use crate::client::controller::{Change, Controller};
use crate::client::plan::Plan;
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::super::owner;
use super::index::{Index, claims_of};

/// The finalizer of claims.
pub const CLAIM_FINALIZER: Name = Name::of("kubernetes.io/pvc-protection");
/// The finalizer of volumes.
pub const VOLUME_FINALIZER: Name = Name::of("kubernetes.io/pv-protection");

/// Protects claims.
#[derive(Default)]
pub struct ClaimProtection {
    index: RefCell<Index>,
}

/// Protects volumes.
pub struct VolumeProtection;

impl Controller for ClaimProtection {
    fn name(&self) -> &'static str {
        "pvc-protection-controller"
    }

    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::PersistentVolumeClaim, Kind::Pod]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        self.index.borrow_mut().follow(change);
        match change.object() {
            Object::PersistentVolumeClaim(claim) if is_to_be_changed(&claim.meta, &CLAIM_FINALIZER) => {
                enqueue(owner::key_of(&**claim), SimDuration::ZERO);
            }
            // A pod that is gone needs its claims no more, one that has ended perhaps.
            Object::Pod(pod) if matches!(change, Change::Deleted(_)) || pod.is_terminal() => {
                for (namespace, name) in claims_of(pod) {
                    enqueue(ObjectKey { kind: Kind::PersistentVolumeClaim, namespace, name }, SimDuration::ZERO);
                }
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let Some(claim) = view.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else { return Plan::nothing() };
        if !is_to_be_changed(&claim.meta, &CLAIM_FINALIZER) {
            return Plan::nothing();
        }
        let keeps = |pod: &Name| view.get::<Pod>(&claim.meta.namespace, pod).is_some_and(|pod| keeps(pod, claim));
        if claim.meta.is_deleting() && self.index.borrow().users(&claim.meta).any(keeps) {
            return Plan::nothing();
        }
        change(claim, &CLAIM_FINALIZER)
    }
}

impl Controller for VolumeProtection {
    fn name(&self) -> &'static str {
        "pv-protection-controller"
    }

    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::PersistentVolume]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Object::PersistentVolume(volume) = change.object()
            && is_to_be_changed(&volume.meta, &VOLUME_FINALIZER)
        {
            enqueue(owner::key_of(&**volume), SimDuration::ZERO);
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Now) -> Plan {
        let Some(volume) = view.get::<PersistentVolume>("", &key.name) else { return Plan::nothing() };
        let is_needed = volume.meta.is_deleting() && volume.phase() == "Bound";
        if is_needed || !is_to_be_changed(&volume.meta, &VOLUME_FINALIZER) {
            return Plan::nothing();
        }
        change(volume, &VOLUME_FINALIZER)
    }
}

/// True if a claim must not go because of a pod (`podUsesPVCForDeletion`). One that is not scheduled yet does not count: no
/// kubelet starts it while its claim is going; one that has ended does. A claim that was made for the pod goes as soon as only
/// finalizers of the pod are waited for, lest both wait for each other.
fn keeps(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let is_shut_down = pod.meta.deletion.as_ref().is_some_and(|deletion| deletion.grace_seconds == Some(0));
    let uses = |used: PodClaim| {
        used.name == claim.meta.name
            && (!used.is_ephemeral || !is_shut_down && pod_claims::check_is_for(pod, claim).is_ok())
    };
    pod.node.is_some() && pod_claims::claims(pod).any(uses)
}

/// An object that is going has the finalizer taken off, any other has it.
fn is_to_be_changed(meta: &Meta, finalizer: &Name) -> bool {
    meta.finalizers().contains(finalizer) == meta.is_deleting()
}

fn change<R: Resource>(object: &Rc<R>, finalizer: &Name) -> Plan {
    let mut changed = (**object).clone();
    let meta = changed.meta_mut();
    let others = meta.finalizers().iter().filter(|it| *it != finalizer).cloned();
    let own = (!meta.is_deleting()).then(|| finalizer.clone());
    let finalizers: Vec<Name> = others.chain(own).collect();
    meta.finalizers = finalizers.into();
    Plan::request(Operation::Update { object: changed.boxed(), part: Part::Main, dry_run: false })
}
