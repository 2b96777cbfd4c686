//! The PersistentVolume controller: binds claims to volumes, asks provisioners for volumes, and frees volumes whose claims
//! are gone.
//!
//! Never decides where a volume of a class that waits for its first consumer is to be: the scheduler does, and says so in an
//! annotation of the claim.
//!
//! - `claim`: a claim that is to be bound, or was
//! - `volume`: a volume's phase, and what becomes of it when its claim is gone
//! - `binding`: the four writes of a binding
//! - `index`: which volumes are free, kept for whom, and which pods use a claim
//! - `provisioner`: makes volumes for claims at once, as an external provisioner would
//! - `ephemeral`: makes claims for the ephemeral volumes of pods
//! - `protection`: keeps claims and volumes that are in use from going

mod binding;
mod claim;
pub mod ephemeral;
mod index;
pub mod protection;
pub mod provisioner;
#[cfg(test)]
mod tests;
mod volume;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::client::controller::{Change, Controller};
use crate::client::plan::Plan;
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner;
use index::Index;

/// Set on a claim once it is bound (`AnnBindCompleted`).
const BIND_COMPLETED: Name = Name::of("pv.kubernetes.io/bind-completed");
/// Set on what the controller, not a user, chose (`AnnBoundByController`).
const BOUND_BY_CONTROLLER: Name = Name::of("pv.kubernetes.io/bound-by-controller");
/// The node that the scheduler chose for a claim (`AnnSelectedNode`).
const SELECTED_NODE: Name = Name::of("volume.kubernetes.io/selected-node");
/// Who made a volume (`AnnDynamicallyProvisioned`).
const PROVISIONED_BY: Name = Name::of("pv.kubernetes.io/provisioned-by");
/// Who is to make a volume for a claim (`AnnStorageProvisioner` and the older name for it).
const PROVISIONER: Name = Name::of("volume.kubernetes.io/storage-provisioner");
const BETA_PROVISIONER: Name = Name::of("volume.beta.kubernetes.io/storage-provisioner");

/// The PersistentVolume controller. Its keys are claims and volumes.
pub struct PersistentVolumeController {
    resync: SimDuration,
    /// What the cache shows, arranged for the questions asked here. Follows the cache change by change.
    index: RefCell<Index>,
}

impl PersistentVolumeController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        PersistentVolumeController { resync: config.volume_binder_sync_period, index: RefCell::default() }
    }
}

impl Controller for PersistentVolumeController {
    fn name(&self) -> &'static str {
        "persistentvolume-controller"
    }

    /// One for claims and volumes together; the real one has one for each, and a cache of its own that shows its writes at once.
    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::PersistentVolume, Kind::PersistentVolumeClaim, Kind::StorageClass, Kind::Pod]
    }

    fn reads_its_writes(&self) -> &'static [Kind] {
        &[Kind::PersistentVolume, Kind::PersistentVolumeClaim]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        self.index.borrow_mut().follow(change);
        match change.object() {
            Object::PersistentVolumeClaim(claim) => {
                enqueue(owner::key_of(&**claim), SimDuration::ZERO);
                // The volume of a claim that is gone is freed at once, not at the next resync.
                if matches!(change, Change::Deleted(_)) && !claim.volume().is_empty() {
                    enqueue(ObjectKey::new(Kind::PersistentVolume, "", claim.volume()), SimDuration::ZERO);
                }
            }
            Object::PersistentVolume(volume) => {
                enqueue(owner::key_of(&**volume), SimDuration::ZERO);
                if let Some(claim) = claim_of(view, volume)
                    && (claim.volume().is_empty() || matches!(change, Change::Deleted(_)))
                {
                    enqueue(owner::key_of(&**claim), SimDuration::ZERO);
                }
            }
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        Some(self.resync)
    }

    fn resynced(&self) -> &'static [Kind] {
        &[Kind::PersistentVolumeClaim, Kind::PersistentVolume]
    }

    fn resyncs_exactly(&self) -> bool {
        true
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        match view.object(key) {
            Some(Object::PersistentVolumeClaim(claim)) => claim::plan(view, &self.index.borrow(), claim, now),
            Some(Object::PersistentVolume(volume)) => volume::plan(view, volume, now),
            _ => Plan::nothing(),
        }
    }
}

/// The claim that a volume is bound to or kept for, by name.
fn claim_of<'a>(view: &View<'a>, volume: &PersistentVolume) -> Option<&'a Rc<PersistentVolumeClaim>> {
    let claim = volume.claim()?;
    view.get(claim.namespace.as_deref().unwrap_or_default(), claim.name.as_deref().unwrap_or_default())
}
