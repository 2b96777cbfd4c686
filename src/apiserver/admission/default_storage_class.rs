//! DefaultStorageClass: a claim that names no class gets the default one, if there is one
//! (kubernetes, plugin/pkg/admission/storage/storageclass/setdefault).

use std::rc::Rc;

use crate::api::object::Object;
use crate::api::storage::default_class;
use crate::engine::random::Stream;

use super::{Attributes, Facts, Plugin, Refusal, Verb};

/// The plugin.
pub struct DefaultStorageClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn admit(
        &self,
        attributes: Attributes<'_>,
        facts: Facts<'_>,
        object: &mut Object,
        _: &mut Stream,
    ) -> Result<(), Refusal> {
        let Object::PersistentVolumeClaim(claim) = object else { return Ok(()) };
        if attributes.verb != Verb::Create || attributes.subresource || claim.class().is_some() {
            return Ok(());
        }
        if let Some(class) = default_class(facts.all()) {
            let content = Rc::make_mut(&mut Rc::make_mut(claim).content);
            content.spec.get_or_insert_default().storage_class_name = Some(String::from(&class));
        }
        Ok(())
    }
}
