//! The claims of a pod as the scheduler's plugins look at them.

use k8s_openapi::api::core::v1::Volume;

use crate::api::name::Name;
use crate::api::pod::PodSpec;
use crate::api::storage::PersistentVolumeClaim;

pub use crate::api::pod_claims::{PodClaim, check_is_for, claim_of, claims};

/// The volumes of a pod.
pub fn volumes(spec: &PodSpec) -> &[Volume] {
    spec.full.volumes.as_deref().unwrap_or(&[])
}

/// The claims that a pod names, in the order of its volumes.
pub fn claim_names(spec: &PodSpec) -> impl Iterator<Item = &str> {
    volumes(spec).iter().filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
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
