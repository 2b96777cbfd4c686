//! StorageObjectInUseProtection: new claims and volumes carry the finalizer that keeps them while they are in use
//! (kubernetes, plugin/pkg/admission/storage/storageobjectinuseprotection).

use crate::api::name::Name;
use crate::api::object::Object;
use crate::engine::random::Stream;

use super::{Attributes, Facts, Plugin, Refusal, Verb};

/// The plugin.
pub struct StorageObjectInUseProtection;

impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn admit(
        &self,
        attributes: Attributes<'_>,
        _facts: Facts<'_>,
        object: &mut Object,
        _: &mut Stream,
    ) -> Result<(), Refusal> {
        let finalizer = match object {
            Object::PersistentVolumeClaim(_) => Name::of("kubernetes.io/pvc-protection"),
            Object::PersistentVolume(_) => Name::of("kubernetes.io/pv-protection"),
            _ => return Ok(()),
        };
        if attributes.verb == Verb::Create && !attributes.subresource {
            let meta = object.meta_mut();
            if !meta.finalizers().contains(&finalizer) {
                meta.finalizers = meta.finalizers().iter().cloned().chain([finalizer]).collect();
            }
        }
        Ok(())
    }
}
