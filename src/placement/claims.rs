//! Claims of pods that are to be scheduled: what they name must be there, and must name them in turn.

use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};

/// What the PersistentVolume controller says of a claim whose volume belongs to another one.
const MISBOUND: &str = "Two claims are bound to the same volume, this one is bound incorrectly";

/// Says that a claim was bound.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// The fields of a pod that name claims with which something is wrong, and what, in the words of the real components.
pub fn wrong_claims(pod: &Pod, objects: &[Object]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (place, volume) in pod.spec.full.volumes.iter().flatten().enumerate() {
        let Some(source) = &volume.persistent_volume_claim else { continue };
        let field = format!("spec.volumes[{place}].persistentVolumeClaim.claimName");
        let message = match claim(objects, &pod.meta.namespace, &source.claim_name) {
            None => Some(format!("persistentvolumeclaim \"{}\" not found", source.claim_name)),
            Some(claim) => wrong_with(claim, objects),
        };
        wrong.extend(message.map(|message| (field, message)));
    }
    wrong
}

fn claim<'o>(objects: &'o [Object], namespace: &str, name: &str) -> Option<&'o PersistentVolumeClaim> {
    let is_meant = |object: &&Object| {
        let meta = object.meta();
        object.kind() == Kind::PersistentVolumeClaim && meta.namespace == *namespace && meta.name == *name
    };
    objects.iter().find(is_meant)?.get::<PersistentVolumeClaim>().map(|claim| &**claim)
}

fn volume<'o>(objects: &'o [Object], name: &str) -> Option<&'o PersistentVolume> {
    let is_meant = |object: &&Object| object.kind() == Kind::PersistentVolume && object.meta().name == *name;
    objects.iter().find(is_meant)?.get::<PersistentVolume>().map(|volume| &**volume)
}

/// The volume that a claim names must be there, and must not belong to another claim, be it an older one of the same name. What is
/// said of it depends on whether the claim was bound before (`syncBoundClaim`, `syncUnboundClaim`).
fn wrong_with(claim: &PersistentVolumeClaim, objects: &[Object]) -> Option<String> {
    let spec = claim.content.spec.as_ref()?;
    let name = spec.volume_name.as_deref().filter(|name| !name.is_empty())?;
    let Some(volume) = volume(objects, name) else {
        return Some(format!("persistentvolume \"{name}\" not found"));
    };
    let owner = volume.content.spec.as_ref()?.claim_ref.as_ref()?;
    let named = |text: &Option<String>| Name::from(text.as_deref().unwrap_or_default());
    let is_named = named(&owner.name) == claim.meta.name && named(&owner.namespace) == claim.meta.namespace;
    // Claims that were written by hand have no uid.
    let own = claim.meta.uid;
    let is_older = |uid: &str| own != Uid::default() && Uid::parse(uid) != Some(own);
    let is_own = is_named && !owner.uid.as_deref().is_some_and(|uid| !uid.is_empty() && is_older(uid));
    let was_bound = claim.meta.annotations.get(BIND_COMPLETED).is_some();
    (!is_own).then(|| match was_bound {
        true => MISBOUND.to_owned(),
        false => format!("volume \"{name}\" already bound to a different claim."),
    })
}
