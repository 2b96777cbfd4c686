//! Kinds that are kept as the API knows them, with their selector compiled.

use std::rc::Rc;

use k8s_openapi::api::policy;

use super::meta::{from_meta, to_meta};
use super::{Convert, ConvertError};
use crate::api::policy::PodDisruptionBudget;
use crate::api::selector::Selector;

macro_rules! kept_with_selector {
    ($($kind:ident: $full:ty, $selector:expr);* $(;)?) => {$(
        impl Convert for $kind {
            type Full = $full;

            fn to_full(&self) -> $full {
                let mut full = (*self.content).clone();
                full.metadata = to_meta(&self.meta);
                full
            }

            fn from_full(mut full: $full) -> Result<Self, ConvertError> {
                let meta = from_meta(std::mem::take(&mut full.metadata))?;
                let compile: fn(&$full) -> Result<Selector, String> = $selector;
                let selector = compile(&full).map_err(|message| ConvertError::new("spec.selector", message))?;
                Ok($kind { meta, selector: Rc::new(selector), content: Rc::new(full) })
            }
        }
    )*};
}

kept_with_selector!(
    PodDisruptionBudget: policy::v1::PodDisruptionBudget,
        |full| Selector::compile(full.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
);
