//! Volumes of pods, of the types that manifests commonly use. Others are taken as they are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EphemeralVolumeSource, PersistentVolumeClaimTemplate, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::error::{ErrorList, FieldError, Path};
use super::{format, metadata, persistent, text};
use crate::api::quantity::Quantity;

/// Checks volumes and returns the names of those that are right, to which mounts may refer. The claims of ephemeral ones are named
/// after the pod, whose name templates do not know.
pub(super) fn volumes<'v>(
    volumes: &'v [Volume],
    pod: Option<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> BTreeSet<&'v str> {
    let mut names = BTreeSet::new();
    let pod = pod.filter(|pod| !pod.is_empty());
    let is_made = |claim: &str| {
        let volume = pod.and_then(|pod| claim.strip_prefix(pod)?.strip_prefix('-'));
        volume.is_some_and(|name| volumes.iter().any(|volume| volume.ephemeral.is_some() && volume.name == name))
    };
    for (position, volume) in volumes.iter().enumerate() {
        let place = path.index(position);
        let name_path = place.child("name");
        let before = errors.0.len();
        source(volume, &place, errors);
        if let Some(pod) = pod.filter(|_| volume.ephemeral.is_some() && !volume.name.is_empty()) {
            let claim = format!("{pod}-{}", volume.name);
            for complaint in format::dns_1123_subdomain(&claim) {
                errors.push(FieldError::invalid(&name_path, &volume.name, format!("PVC name {claim:?}: {complaint}")));
            }
        }
        if volume.name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        } else {
            errors.invalid_each(&name_path, &volume.name, format::dns_1123_label(&volume.name));
        }
        if names.contains(volume.name.as_str()) {
            errors.push(FieldError::duplicate(&name_path, &volume.name));
        }
        if errors.0.len() == before {
            names.insert(volume.name.as_str());
        }
        if let Some(claim) = volume.persistent_volume_claim.as_ref().filter(|claim| is_made(&claim.claim_name)) {
            let message = "must not reference a PVC that gets created for an ephemeral volume";
            let place = place.child("persistentVolumeClaim.claimName");
            errors.push(FieldError::invalid(&place, &claim.claim_name, message));
        }
    }
    names
}

/// An ephemeral volume has a template for its claim.
fn ephemeral(source: &EphemeralVolumeSource, path: &Path<'_>, errors: &mut ErrorList) {
    let path = path.child("volumeClaimTemplate");
    let Some(PersistentVolumeClaimTemplate { metadata: meta, spec }) = &source.volume_claim_template else {
        return errors.push(FieldError::required(&path, ""));
    };
    if let Some(meta) = meta {
        template_meta(meta, &path.child("metadata"), errors);
    }
    persistent::claim_spec(spec, &path.child("spec"), errors);
}

/// The template of a claim has labels and annotations, and nothing else that metadata can have.
fn template_meta(meta: &ObjectMeta, path: &Path<'_>, errors: &mut ErrorList) {
    metadata::annotations(&meta.annotations, &path.child("annotations"), errors);
    metadata::labels(&meta.labels, &path.child("labels"), errors);
    let others = [
        ("name", meta.name.is_some()),
        ("generateName", meta.generate_name.is_some()),
        ("namespace", meta.namespace.is_some()),
        ("selfLink", meta.self_link.is_some()),
        ("uid", meta.uid.is_some()),
        ("resourceVersion", meta.resource_version.is_some()),
        ("generation", meta.generation.is_some()),
        ("creationTimestamp", meta.creation_timestamp.is_some()),
        ("deletionTimestamp", meta.deletion_timestamp.is_some()),
        ("deletionGracePeriodSeconds", meta.deletion_grace_period_seconds.is_some()),
        ("ownerReferences", meta.owner_references.is_some()),
        ("finalizers", meta.finalizers.is_some()),
        ("managedFields", meta.managed_fields.is_some()),
    ];
    for (name, _) in others.iter().filter(|(_, is_set)| *is_set) {
        errors.push(FieldError::forbidden(&path.child(name), "cannot be set"));
    }
}

fn source(volume: &Volume, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref())
        && Quantity::of(limit).is_ok_and(Quantity::is_negative)
    {
        let place = path.child("emptyDir.sizeLimit");
        errors.push(FieldError::forbidden(&place, "SizeLimit field must be a valid resource quantity"));
    }
    // In the order in which the API server counts them: the second one is the one refused.
    let present = [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("projected", volume.projected.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ];
    for (name, _) in present.iter().filter(|(_, present)| *present).skip(1) {
        errors.push(FieldError::forbidden(&path.child(name), "may not specify more than 1 volume type"));
    }
    let mut named = |field: &str, name: &str| {
        if name.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    };
    if let Some(host_path) = &volume.host_path {
        named("hostPath.path", &host_path.path);
    }
    if let Some(secret) = &volume.secret {
        named("secret.secretName", text(&secret.secret_name));
    }
    if let Some(config_map) = &volume.config_map {
        named("configMap.name", &config_map.name);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        named("persistentVolumeClaim.claimName", &claim.claim_name);
    }
    if let Some(nfs) = &volume.nfs {
        named("nfs.server", &nfs.server);
        named("nfs.path", &nfs.path);
    }
    // Of an ephemeral volume that is of another type too only that is said.
    let is_alone = present.iter().filter(|(_, present)| *present).count() == 1;
    if let Some(source) = volume.ephemeral.as_ref().filter(|_| is_alone) {
        ephemeral(source, &path.child("ephemeral"), errors);
    }
    let modes = [
        ("secret.defaultMode", volume.secret.as_ref().and_then(|source| source.default_mode)),
        ("configMap.defaultMode", volume.config_map.as_ref().and_then(|source| source.default_mode)),
        ("downwardAPI.defaultMode", volume.downward_api.as_ref().and_then(|source| source.default_mode)),
        ("projected.defaultMode", volume.projected.as_ref().and_then(|source| source.default_mode)),
    ];
    for (name, mode) in modes {
        if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
            let message = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(FieldError::invalid(&path.child(name), mode, message));
        }
    }
}
