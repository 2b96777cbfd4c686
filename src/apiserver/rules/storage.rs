//! Volumes, claims, CSI drivers and attachments (kubernetes, pkg/registry/core and pkg/registry/storage).

use std::rc::Rc;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, PersistentVolumeStatus, TypedLocalObjectReference,
    TypedObjectReference,
};

use crate::api::convert::to_time;
use crate::api::meta::Timestamp;
use crate::api::storage::{CSIDriver, PersistentVolume, PersistentVolumeClaim, VolumeAttachment};

use crate::apiserver::protocol::Part;

/// A new volume is pending since now.
pub fn create_volume(volume: &mut PersistentVolume, now: Timestamp) {
    Rc::make_mut(&mut volume.content).status = Some(PersistentVolumeStatus {
        phase: Some("Pending".to_owned()),
        last_phase_transition_time: Some(to_time(now)),
        ..PersistentVolumeStatus::default()
    });
}

/// The main part leaves the status alone and the status leaves the specification alone.
pub fn update_volume(new: &mut PersistentVolume, old: &PersistentVolume, part: Part) {
    let content = Rc::make_mut(&mut new.content);
    if part != Part::Status {
        content.status.clone_from(&old.content.status);
        return;
    }
    content.spec.clone_from(&old.content.spec);
    let (status, before) = (content.status.get_or_insert_default(), old.content.status.as_ref());
    if status.last_phase_transition_time.is_none() && before.is_some_and(|before| before.phase == status.phase) {
        status.last_phase_transition_time = before.and_then(|before| before.last_phase_transition_time.clone());
    }
}

/// A new claim is pending. What data it begins with may be said in an old way and in a new one, and is kept in both.
pub fn create_claim(claim: &mut PersistentVolumeClaim) {
    let content = Rc::make_mut(&mut claim.content);
    content.status = Some(PersistentVolumeClaimStatus {
        phase: Some("Pending".to_owned()),
        ..PersistentVolumeClaimStatus::default()
    });
    if let Some(spec) = &mut content.spec {
        normalize_data_sources(spec);
    }
}

/// The main part leaves the status alone and the status leaves the specification alone.
pub fn update_claim(new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim, part: Part) {
    let content = Rc::make_mut(&mut new.content);
    if part == Part::Status {
        content.spec.clone_from(&old.content.spec);
        return;
    }
    content.status.clone_from(&old.content.status);
    if let Some(spec) = &mut content.spec {
        normalize_data_sources(spec);
    }
}

/// `NormalizeDataSources`; what the old field cannot hold is dropped from it (`EnforceDataSourceBackwardsCompatibility`).
fn normalize_data_sources(spec: &mut PersistentVolumeClaimSpec) {
    let is_known = |source: &TypedLocalObjectReference| {
        let group = source.api_group.as_deref().unwrap_or_default();
        matches!(
            (group, source.kind.as_str()),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    if spec.data_source_ref.is_none() && spec.data_source.as_ref().is_some_and(|source| !is_known(source)) {
        spec.data_source = None;
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(old), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: old.api_group.clone(),
                kind: old.kind.clone(),
                name: old.name.clone(),
                namespace: None,
            });
        }
        (None, Some(new)) if new.namespace.as_ref().is_none_or(String::is_empty) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: new.api_group.clone(),
                kind: new.kind.clone(),
                name: new.name.clone(),
            });
        }
        _ => {}
    }
}

/// Changes of a driver's specification are counted, from zero.
pub fn update_driver(new: &mut CSIDriver, old: &CSIDriver) {
    if new.content.spec != old.content.spec {
        new.meta.generation = old.meta.generation + 1;
    }
}

/// The main part leaves the status alone and the status leaves the specification alone.
pub fn update_attachment(new: &mut VolumeAttachment, old: &VolumeAttachment, part: Part) {
    let content = Rc::make_mut(&mut new.content);
    if part == Part::Status {
        content.spec = old.content.spec.clone();
    } else {
        content.status.clone_from(&old.content.status);
    }
}
