//! The four writes of a binding: the volume says whose it is, the volume is Bound, the claim says which it has, the claim is
//! Bound. Whoever stops in between goes on where it stopped (kube-controller-manager, persistentvolume: `bind`).

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::convert::to_time;
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::apiserver::protocol::{Operation, Part};

use super::super::script::{Halt, Script};
use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER};

/// Binds a volume to a claim, as far as that has not happened yet.
pub(super) fn bind(
    script: &mut Script<'_>,
    volume: &Rc<PersistentVolume>,
    claim: &Rc<PersistentVolumeClaim>,
) -> Result<(), Halt> {
    let volume = claim_volume(script, volume, claim)?;
    let volume = set_volume_phase(script, &volume, "Bound", "")?;
    let claim = name_volume(script, claim, &volume)?;
    set_claim_phase(script, &claim, "Bound", Some(&volume))
}

fn claim_volume(
    script: &mut Script<'_>,
    volume: &Rc<PersistentVolume>,
    claim: &PersistentVolumeClaim,
) -> Result<Rc<PersistentVolume>, Halt> {
    let is_users_choice = volume.is_kept_for(&claim.meta);
    let is_named = is_users_choice && volume.claim_uid() == Some(claim.meta.uid);
    let is_marked = is_users_choice || volume.meta.annotations.get(&BOUND_BY_CONTROLLER).is_some();
    if is_named && is_marked {
        return Ok(volume.clone());
    }
    let mut changed = (**volume).clone();
    if !is_named && let Some(spec) = &mut Rc::make_mut(&mut changed.content).spec {
        spec.claim_ref = Some(reference(claim));
    }
    if !is_marked {
        changed.meta.annotations = changed.meta.annotations.with(BOUND_BY_CONTROLLER, "yes");
    }
    update(script, changed, Part::Main)
}

/// The reference by which a volume names its claim.
pub(super) fn reference(claim: &PersistentVolumeClaim) -> core::ObjectReference {
    core::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: Some(String::from(&claim.meta.namespace)),
        name: Some(String::from(&claim.meta.name)),
        uid: Some(claim.meta.uid.to_string()),
        resource_version: Some(claim.meta.revision().to_string()),
        field_path: None,
    }
}

/// Writes a volume's phase, unless it has it already.
pub(super) fn set_volume_phase(
    script: &mut Script<'_>,
    volume: &Rc<PersistentVolume>,
    phase: &str,
    message: &str,
) -> Result<Rc<PersistentVolume>, Halt> {
    if volume.phase() == phase {
        return Ok(volume.clone());
    }
    let mut changed = (**volume).clone();
    let status = Rc::make_mut(&mut changed.content).status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = (!message.is_empty()).then(|| message.to_owned());
    // The API server's doing in the original.
    status.last_phase_transition_time = Some(to_time(script.now().timestamp()));
    update(script, changed, Part::Status)
}

fn name_volume(
    script: &mut Script<'_>,
    claim: &Rc<PersistentVolumeClaim>,
    volume: &PersistentVolume,
) -> Result<Rc<PersistentVolumeClaim>, Halt> {
    let is_named = claim.volume() == volume.meta.name.as_str();
    let is_completed = claim.meta.annotations.get(&BIND_COMPLETED).is_some();
    if is_named && is_completed {
        return Ok(claim.clone());
    }
    let mut changed = (**claim).clone();
    let mut annotations = changed.meta.annotations.with(BIND_COMPLETED, "yes");
    if !is_named {
        if let Some(spec) = &mut Rc::make_mut(&mut changed.content).spec {
            spec.volume_name = Some(String::from(&volume.meta.name));
        }
        if annotations.get(&BOUND_BY_CONTROLLER).is_none() {
            annotations = annotations.with(BOUND_BY_CONTROLLER, "yes");
        }
    }
    changed.meta.annotations = annotations;
    update(script, changed, Part::Main)
}

/// Writes a claim's phase and what it has of its volume, unless it says so already (`updateClaimStatus`).
pub(super) fn set_claim_phase(
    script: &mut Script<'_>,
    claim: &Rc<PersistentVolumeClaim>,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Result<(), Halt> {
    let known = claim.content.status.clone().unwrap_or_default();
    let mut status = core::PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..known.clone() };
    let spec = volume.and_then(|volume| volume.spec());
    status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
    if volume.is_none() {
        status.capacity = None;
        status.current_volume_attributes_class_name = None;
    } else if claim.phase() != phase {
        // A claim that was bound before may say another size: that of its file system.
        status.capacity = spec.and_then(|spec| spec.capacity.clone());
        if claim.phase() == "Pending" {
            status.current_volume_attributes_class_name =
                spec.and_then(|spec| spec.volume_attributes_class_name.clone());
        }
    }
    if status == known {
        return Ok(());
    }
    let mut changed = (**claim).clone();
    Rc::make_mut(&mut changed.content).status = Some(status);
    update(script, changed, Part::Status).map(|_| ())
}

/// Writes an object; what the server made of it.
pub(super) fn update<R: Resource>(script: &mut Script<'_>, object: R, part: Part) -> Result<Rc<R>, Halt> {
    let object = Rc::new(object);
    let operation = Operation::Update { object: object.clone().into_object(), part, dry_run: false };
    let written = script.write(operation)?;
    Ok(written.as_ref().and_then(R::of).cloned().unwrap_or(object))
}

/// A claim as messages name it: `namespace/name`.
pub(super) fn place(namespace: &Name, name: &Name) -> String {
    format!("{namespace}/{name}")
}
