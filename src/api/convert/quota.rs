//! Quotas.

use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::meta::{from_meta, to_meta};
use super::{Convert, ConvertError};
use crate::api::quota::{Amounts, ResourceQuota};

impl Convert for ResourceQuota {
    type Full = core::ResourceQuota;

    fn to_full(&self) -> core::ResourceQuota {
        let (hard, used) = (self.hard.to_list(), self.used.to_list());
        let said = hard.is_some() || used.is_some();
        core::ResourceQuota {
            metadata: to_meta(&self.meta),
            spec: Some((*self.spec).clone()),
            status: said.then_some(core::ResourceQuotaStatus { hard, used }),
        }
    }

    fn from_full(full: core::ResourceQuota) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let status = full.status.unwrap_or_default();
        Ok(ResourceQuota {
            meta: from_meta(full.metadata)?,
            wanted: amounts("spec.hard", spec.hard.as_ref())?,
            hard: amounts("status.hard", status.hard.as_ref())?,
            used: amounts("status.used", status.used.as_ref())?,
            spec: Rc::new(spec),
        })
    }
}

fn amounts(path: &str, list: Option<&BTreeMap<String, Text>>) -> Result<Rc<Amounts>, ConvertError> {
    let failed = |(name, error)| ConvertError::new(format!("{path}[{name}]"), error);
    Amounts::of(list).map(Rc::new).map_err(failed)
}
