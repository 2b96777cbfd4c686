//! Namespaces, and the kinds that are kept as the API knows them.

use std::rc::Rc;

use k8s_openapi::api::{autoscaling, core, node, scheduling, storage};

use super::meta::{from_meta, to_meta};
use super::{Convert, ConvertError, some_unless_empty};
use crate::api::autoscaling::HorizontalPodAutoscaler;
use crate::api::name::Name;
use crate::api::plain::{ConfigMap, Namespace, PriorityClass, RuntimeClass, Secret, ServiceAccount};
use crate::api::quota::LimitRange;
use crate::api::storage::{
    CSIDriver, CSINode, CSIStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass, VolumeAttachment,
};

impl Convert for Namespace {
    type Full = core::v1::Namespace;

    fn to_full(&self) -> core::v1::Namespace {
        let phase = if self.terminating { "Terminating" } else { "Active" };
        core::v1::Namespace {
            metadata: to_meta(&self.meta),
            spec: Some(core::v1::NamespaceSpec {
                finalizers: some_unless_empty(self.finalizers.iter().map(String::from).collect()),
            }),
            status: Some(core::v1::NamespaceStatus {
                phase: Some(phase.to_owned()),
                conditions: some_unless_empty(self.conditions.to_vec()),
            }),
        }
    }

    fn from_full(full: core::v1::Namespace) -> Result<Self, ConvertError> {
        let finalizers = full.spec.and_then(|spec| spec.finalizers).unwrap_or_default();
        let status = full.status.unwrap_or_default();
        Ok(Namespace {
            meta: from_meta(full.metadata)?,
            finalizers: finalizers.into_iter().map(Name::from).collect(),
            terminating: status.phase.as_deref() == Some("Terminating"),
            conditions: status.conditions.unwrap_or_default().into(),
        })
    }
}

macro_rules! kept_as_they_are {
    ($($kind:ident: $full:ty),* $(,)?) => {$(
        impl Convert for $kind {
            type Full = $full;

            fn to_full(&self) -> $full {
                let mut full = (*self.content).clone();
                full.metadata = to_meta(&self.meta);
                full
            }

            fn from_full(mut full: $full) -> Result<Self, ConvertError> {
                let meta = from_meta(std::mem::take(&mut full.metadata))?;
                Ok($kind { meta, content: Rc::new(full) })
            }
        }
    )*};
}

kept_as_they_are!(
    ConfigMap: core::v1::ConfigMap,
    Secret: core::v1::Secret,
    ServiceAccount: core::v1::ServiceAccount,
    PriorityClass: scheduling::v1::PriorityClass,
    PersistentVolume: core::v1::PersistentVolume,
    PersistentVolumeClaim: core::v1::PersistentVolumeClaim,
    StorageClass: storage::v1::StorageClass,
    CSINode: storage::v1::CSINode,
    CSIDriver: storage::v1::CSIDriver,
    CSIStorageCapacity: storage::v1::CSIStorageCapacity,
    VolumeAttachment: storage::v1::VolumeAttachment,
    LimitRange: core::v1::LimitRange,
    RuntimeClass: node::v1::RuntimeClass,
    HorizontalPodAutoscaler: autoscaling::v2::HorizontalPodAutoscaler,
);
