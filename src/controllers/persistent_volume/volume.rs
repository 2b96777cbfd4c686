//! A volume's phase, and what becomes of it when its claim is gone (kube-controller-manager, persistentvolume: `syncVolume`).

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::object::Object;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};

use super::super::owner;
use super::super::script::{self, Halt, Script};
use super::binding::{set_volume_phase, update};
use super::{BOUND_BY_CONTROLLER, PROVISIONED_BY, claim_of};

/// What to do about a volume.
pub(super) fn plan(view: &View<'_>, volume: &Rc<PersistentVolume>, now: Now) -> Plan {
    let (volume, claim) = (volume.clone(), claim_of(view, volume).cloned());
    script::run(view, now, move |script| sync(script, &volume, claim.as_ref()).map(|()| Again::OnChange))
}

fn sync(
    script: &mut Script<'_>,
    volume: &Rc<PersistentVolume>,
    cached: Option<&Rc<PersistentVolumeClaim>>,
) -> Result<(), Halt> {
    let Some(uid) = volume.claim_uid() else {
        // Free, or only kept for a claim.
        return set_volume_phase(script, volume, "Available", "").map(|_| ());
    };
    let is_done_with = matches!(volume.phase(), "Released" | "Failed");
    let claim = match cached {
        Some(claim) if claim.meta.uid == uid => Some(claim.clone()),
        // The cache may be behind: the claim may be new, or a newer one. The API server knows.
        None if is_done_with => None,
        _ => fresh_claim(script, volume)?.filter(|claim| claim.meta.uid == uid),
    };
    match claim {
        None => {
            let volume = if is_done_with { volume.clone() } else { set_volume_phase(script, volume, "Released", "")? };
            reclaim(script, &volume)
        }
        Some(claim) if claim.volume().is_empty() => {
            tell_of_mismatch(script, volume, &claim);
            Ok(()) // The claim's own sync binds it.
        }
        Some(claim) if claim.volume() == volume.meta.name.as_str() => {
            set_volume_phase(script, volume, "Bound", "").map(|_| ())
        }
        Some(_) => unbind(script, volume, is_done_with),
    }
}

fn fresh_claim(script: &mut Script<'_>, volume: &PersistentVolume) -> Result<Option<Rc<PersistentVolumeClaim>>, Halt> {
    let Some(claim) = volume.claim() else { return Ok(None) };
    let (namespace, name) = (claim.namespace.clone().unwrap_or_default(), claim.name.clone().unwrap_or_default());
    let key = crate::api::meta::ObjectKey::new(crate::api::kind::Kind::PersistentVolumeClaim, namespace, name);
    match script.ask(Operation::Get { key })? {
        Ok(Answer::Object(Object::PersistentVolumeClaim(claim))) => Ok(Some(claim)),
        Ok(_) => Ok(None),
        Err(status) if status.reason == Reason::NotFound => Ok(None),
        Err(status) => Err(Halt::Failed(status.message)),
    }
}

fn tell_of_mismatch(script: &mut Script<'_>, volume: &PersistentVolume, claim: &PersistentVolumeClaim) {
    let mode = |mode: Option<&str>| mode.unwrap_or("Filesystem").to_owned();
    let own = mode(volume.spec().and_then(|spec| spec.volume_mode.as_deref()));
    if own == mode(claim.spec().and_then(|spec| spec.volume_mode.as_deref())) {
        return;
    }
    let (volume_name, claim_name) = (&volume.meta.name, &claim.meta.name);
    let of_volume = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{claim_name}\" due to incompatible volumeMode."
    );
    script.record(&owner::reference(volume), EventType::Warning, "VolumeMismatch", of_volume);
    let of_claim = format!(
        "Cannot bind PersistentVolume \"{volume_name}\" to requested PersistentVolumeClaim due to incompatible volumeMode."
    );
    script.record(&owner::reference(claim), EventType::Warning, "VolumeMismatch", of_claim);
}

/// The claim is bound to another volume: one that was made for it goes, any other is free again (`unbindVolume`).
fn unbind(script: &mut Script<'_>, volume: &Rc<PersistentVolume>, is_done_with: bool) -> Result<(), Halt> {
    if volume.meta.annotations.get(&PROVISIONED_BY).is_some() && policy(volume) == "Delete" {
        let volume = if is_done_with { volume.clone() } else { set_volume_phase(script, volume, "Released", "")? };
        return reclaim(script, &volume);
    }
    let mut changed = (**volume).clone();
    let by_controller = volume.meta.annotations.get(&BOUND_BY_CONTROLLER).is_some();
    if let Some(spec) = &mut Rc::make_mut(&mut changed.content).spec {
        if by_controller {
            spec.claim_ref = None;
        } else if let Some(claim) = &mut spec.claim_ref {
            claim.uid = None;
        }
    }
    changed.meta.annotations = changed.meta.annotations.without(&BOUND_BY_CONTROLLER);
    let volume = update(script, changed, Part::Main)?;
    set_volume_phase(script, &volume, "Available", "").map(|_| ())
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

/// What becomes of a volume whose claim is gone. Those that a CSI driver or another provisioner made are left to it
/// (`reclaimVolume`).
fn reclaim(script: &mut Script<'_>, volume: &Rc<PersistentVolume>) -> Result<(), Halt> {
    let is_external = volume.meta.annotations.get(&PROVISIONED_BY).is_some();
    let (reason, message) = match policy(volume) {
        "Retain" => return Ok(()),
        _ if is_external || volume.meta.is_deleting() => return Ok(()),
        "Delete" => match deleter(volume) {
            Ok(Deleter::Own) => return delete(script, volume),
            Ok(Deleter::Another) => return Ok(()),
            Err(why) => ("VolumeFailedDelete", why),
        },
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => ("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned()),
    };
    if volume.phase() == "Failed" {
        return Ok(());
    }
    set_volume_phase(script, volume, "Failed", &message)?;
    script.record(&owner::reference(&**volume), EventType::Warning, reason, message);
    Ok(())
}

/// Who deletes the data of a volume.
enum Deleter {
    /// This controller.
    Own,
    /// A CSI driver.
    Another,
}

/// Who deletes the data of a volume that nobody made for a claim, or why nobody can (`findDeletablePlugin`). The controller has
/// plugins for host paths, NFS, iSCSI, Fibre Channel and CSI; of these only that for host paths deletes, and only below `/tmp/`
/// (kubernetes, pkg/volume/hostpath: `hostPathDeleter`).
fn deleter(volume: &PersistentVolume) -> Result<Deleter, String> {
    let Some(spec) = volume.spec() else { return Ok(Deleter::Another) };
    if spec.csi.is_some() {
        return Ok(Deleter::Another);
    }
    if let Some(host) = &spec.host_path {
        let is_below_tmp = host.path.split_once("/tmp/").is_some_and(|(_, rest)| !rest.is_empty());
        let refusal = || format!("host_path deleter only supports /tmp/.+ but received provided {}", host.path);
        return if is_below_tmp { Ok(Deleter::Own) } else { Err(refusal()) };
    }
    let cannot_delete = spec.nfs.is_some() || spec.iscsi.is_some() || spec.fc.is_some();
    let why = if cannot_delete { "no deletable volume plugin matched" } else { "no volume plugin matched" };
    Err(format!("error getting deleter volume plugin for volume \"{}\": {why}", volume.meta.name))
}

/// Deletes a volume whose data is gone. The original tries again at the next sync if that fails.
fn delete(script: &mut Script<'_>, volume: &PersistentVolume) -> Result<(), Halt> {
    let operation = Operation::Delete { key: owner::key_of(volume), options: DeleteOptions::default() };
    script.ask(operation).map(|_| ())
}
