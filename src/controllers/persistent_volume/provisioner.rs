//! Makes volumes for claims at once, as an external provisioner would, whatever the StorageClass names: for claims that the
//! PersistentVolume controller has marked, and if the class waits for a consumer, once the scheduler has chosen a node
//! (sig-storage-lib-external-provisioner). Deletes them when they are released and their class says so.
//!
//! The volumes can be used on every node.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::super::owner;
use super::super::script::{self, Halt, Script};
use super::binding::{place, reference};
use super::{PROVISIONED_BY, PROVISIONER, SELECTED_NODE};

/// The provisioner of all classes. Its keys are claims and volumes.
pub struct Provisioner;

impl Controller for Provisioner {
    fn name(&self) -> &'static str {
        "external-provisioner"
    }

    fn workers(&self) -> usize {
        4
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::PersistentVolume, Kind::PersistentVolumeClaim, Kind::StorageClass]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            _ if matches!(change, Change::Deleted(_)) => {}
            Object::PersistentVolumeClaim(claim) if is_wanted(claim) => {
                enqueue(owner::key_of(&**claim), SimDuration::ZERO)
            }
            Object::PersistentVolume(volume) if is_released(volume) => {
                enqueue(owner::key_of(&**volume), SimDuration::ZERO)
            }
            _ => {}
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        match view.object(key) {
            Some(Object::PersistentVolumeClaim(claim)) if is_wanted(claim) => {
                let class = view.get::<StorageClass>("", &claim.class().unwrap_or_default()).cloned();
                let name = volume_name(claim);
                let (claim, is_there) = (claim.clone(), view.get::<PersistentVolume>("", &name).is_some());
                match class {
                    Some(class) if !is_there => script::run(view, now, move |script| provision(script, &claim, &class)),
                    _ => Plan::nothing(),
                }
            }
            Some(Object::PersistentVolume(volume)) if is_released(volume) => {
                let operation = Operation::Delete { key: key.clone(), options: DeleteOptions::default() };
                script::run(view, now, move |script| match script.ask(operation.clone())? {
                    Err(status) if status.reason != Reason::NotFound => Err(Halt::Failed(status.message)),
                    _ => Ok(Again::OnChange),
                })
            }
            _ => Plan::nothing(),
        }
    }
}

/// True if somebody waits for a volume to be made for the claim (`shouldProvision`).
fn is_wanted(claim: &PersistentVolumeClaim) -> bool {
    claim.volume().is_empty() && !claim.meta.is_deleting() && claim.meta.annotations.get(&PROVISIONER).is_some()
}

/// True if the volume was made here and is to go (`shouldDelete`).
fn is_released(volume: &PersistentVolume) -> bool {
    let policy = volume.spec().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    volume.meta.annotations.get(&PROVISIONED_BY).is_some()
        && policy == Some("Delete")
        && volume.phase() == "Released"
        && !volume.meta.is_deleting()
}

fn volume_name(claim: &PersistentVolumeClaim) -> Name {
    Name::from(format!("pvc-{}", claim.meta.uid))
}

fn provision(script: &mut Script<'_>, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<Again, Halt> {
    if class.waits_for_consumer() && claim.meta.annotations.get(&SELECTED_NODE).is_none() {
        return Ok(Again::OnChange);
    }
    let (about, name) = (owner::reference(claim), volume_name(claim));
    let of = place(&claim.meta.namespace, &claim.meta.name);
    let message = format!("External provisioner is provisioning volume for claim \"{of}\"");
    script.record(&about, EventType::Normal, "Provisioning", message);
    let object = new_volume(claim, class, name.clone()).boxed();
    match script.ask(Operation::Create { object, dry_run: false })? {
        Err(status) if status.reason != Reason::AlreadyExists => {
            let message = format!("Failed to create PV: {}", status.message);
            script.record(&about, EventType::Warning, "ProvisioningFailed", message);
            Err(Halt::Failed(status.message))
        }
        _ => {
            let message = format!("Successfully provisioned volume {name}");
            script.record(&about, EventType::Normal, "ProvisioningSucceeded", message);
            Ok(Again::OnChange)
        }
    }
}

/// A volume as large as the claim asks for, kept for it. What is no name of a CSI driver, as `rancher.io/local-path`, is a
/// provisioner of directories.
fn new_volume(claim: &PersistentVolumeClaim, class: &StorageClass, name: Name) -> PersistentVolume {
    let asked = claim.spec().cloned().unwrap_or_default();
    let driver = claim.meta.annotations.get(&PROVISIONER).cloned().unwrap_or_default();
    let class = &class.content;
    let is_driver = !driver.contains('/');
    let directory = || core::HostPathVolumeSource {
        path: format!("/var/lib/{driver}/{name}"),
        type_: Some("DirectoryOrCreate".to_owned()),
    };
    let spec = core::PersistentVolumeSpec {
        access_modes: asked.access_modes,
        capacity: asked.resources.and_then(|resources| resources.requests),
        claim_ref: Some(reference(claim)),
        csi: is_driver.then(|| core::CSIPersistentVolumeSource {
            driver: String::from(&driver),
            volume_handle: String::from(&name),
            ..Default::default()
        }),
        host_path: (!is_driver).then(directory),
        mount_options: class.mount_options.clone(),
        persistent_volume_reclaim_policy: Some(class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
        storage_class_name: claim.class().as_ref().map(String::from),
        volume_mode: asked.volume_mode,
        ..Default::default()
    };
    let mut meta = Meta { name, ..Meta::default() };
    meta.annotations = Labels::NONE.with(PROVISIONED_BY, driver);
    PersistentVolume {
        meta,
        content: Rc::new(core::PersistentVolume { spec: Some(spec), ..core::PersistentVolume::default() }),
    }
}
