//! PersistentVolumeClaimResize: a claim grows only if it is bound and its class says that volumes may
//! (kubernetes, plugin/pkg/admission/storage/persistentvolume/resize).

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::storage::{PersistentVolumeClaim, StorageClass};

use super::{Attributes, Facts, Plugin, Refusal, forbidden};

/// The plugin.
pub struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &Object,
        old: Option<&Object>,
    ) -> Result<(), Refusal> {
        let Object::PersistentVolumeClaim(claim) = object else { return Ok(()) };
        let Some(old) = old.and_then(Object::get::<PersistentVolumeClaim>) else { return Ok(()) };
        if attributes.subresource || claim.size() <= old.size() {
            return Ok(());
        }
        let refuse = |why: &str| Err(forbidden(attributes.key.kind, &claim.meta.name, None, why));
        if old.phase() != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        if !may_grow(claim, old, facts) {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            );
        }
        Ok(())
    }
}

fn may_grow(claim: &PersistentVolumeClaim, old: &PersistentVolumeClaim, facts: Facts<'_>) -> bool {
    let class = claim.class().filter(|class| !class.is_empty() && old.class().as_ref() == Some(class));
    let class = class.and_then(|class| facts.cached::<StorageClass>(&Name::EMPTY, &class));
    class.is_some_and(|class| class.content.allow_volume_expansion == Some(true))
}
