//! The claims of a pod: those that it names, and those that are made for its ephemeral volumes
//! (component-helpers, storage/ephemeral).

use k8s_openapi::api::core::v1::Volume;

use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec};
use crate::api::storage::PersistentVolumeClaim;

/// A claim that a volume of a pod uses.
pub struct PodClaim {
    /// The claim's name, in the pod's namespace.
    pub name: Name,
    /// True if it is made for the volume, and so must be the pod's own.
    pub is_ephemeral: bool,
}

/// The volumes of a pod.
pub fn volumes(spec: &PodSpec) -> &[Volume] {
    spec.full.volumes.as_deref().unwrap_or(&[])
}

/// The claims that a pod names, in the order of its volumes.
pub fn claim_names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    volumes(spec).iter().filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The claim that a volume uses, if it uses any.
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<PodClaim> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(PodClaim { name: Name::from(&source.claim_name), is_ephemeral: false });
    }
    let name = || format!("{}-{}", pod.meta.name, volume.name);
    volume.ephemeral.as_ref().map(|_| PodClaim { name: name().into(), is_ephemeral: true })
}

/// All claims that a pod uses, in the order of its volumes.
pub fn claims(pod: &Pod) -> impl Iterator<Item = PodClaim> {
    volumes(&pod.spec).iter().filter_map(|volume| claim_of(pod, volume))
}

/// Refuses a claim that stands where one for an ephemeral volume should, and is not the pod's (`VolumeIsForPod`).
pub fn check_is_for(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let is_owner = claim.meta.controller().is_some_and(|owner| owner.uid == pod.meta.uid);
    if is_owner && claim.meta.namespace == pod.meta.namespace {
        return Ok(());
    }
    let (claim, pod) = (&claim.meta, &pod.meta);
    Err(format!(
        "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
        claim.namespace, claim.name, pod.namespace, pod.name
    ))
}

/// What the API says of a claim that is not there.
pub fn not_found(name: &str) -> String {
    format!("persistentvolumeclaim \"{name}\" not found")
}

/// The name of a claim's class; empty if it asks for none (`GetPersistentVolumeClaimClass`).
pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let annotated = claim.meta.annotations.get(super::volume::CLASS_ANNOTATION).map(Name::as_str);
    let named = || claim.content.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotated.or_else(named).unwrap_or_default()
}

/// The name of the volume that a claim is bound to, or asks for; empty if there is none.
pub fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim.content.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}
