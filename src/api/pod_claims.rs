//! The claims of a pod: those that it names, and those that are made for its ephemeral volumes
//! (component-helpers, storage/ephemeral).

use k8s_openapi::api::core::v1::Volume;

use super::name::Name;
use super::pod::Pod;
use super::storage::PersistentVolumeClaim;

/// A claim that a volume of a pod uses.
pub struct PodClaim {
    /// The claim's name, in the pod's namespace.
    pub name: Name,
    /// True if it is made for the volume, and so must be the pod's own.
    pub is_ephemeral: bool,
}

/// The claim that a volume uses, if it uses any. That for an ephemeral volume is named after the pod and the volume
/// (`VolumeClaimName`).
pub fn claim_of(pod: &Pod, volume: &Volume) -> Option<PodClaim> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some(PodClaim { name: Name::from(&source.claim_name), is_ephemeral: false });
    }
    let name = || format!("{}-{}", pod.meta.name, volume.name);
    volume.ephemeral.as_ref().map(|_| PodClaim { name: name().into(), is_ephemeral: true })
}

/// All claims that a pod uses, in the order of its volumes.
pub fn claims(pod: &Pod) -> impl Iterator<Item = PodClaim> {
    pod.spec.full.volumes.iter().flatten().filter_map(|volume| claim_of(pod, volume))
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
