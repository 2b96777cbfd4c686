//! Volumes, claims to them, storage classes, and what CSI drivers say of nodes and of themselves.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};

use super::error::ErrorList;
use super::metadata::{self, Scope};
use super::{Validate, format};

macro_rules! metadata_only {
    ($($kind:ty: $scope:expr),*) => {$(
        impl Validate for $kind {
            fn validate(&self) -> ErrorList {
                let mut errors = ErrorList::new();
                metadata::object_meta(&self.metadata, $scope, format::dns_1123_subdomain, &mut errors);
                errors
            }

            fn validate_update(&self, old: &Self) -> ErrorList {
                let mut errors = ErrorList::new();
                metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
                errors
            }
        }
    )*};
}

metadata_only!(
    PersistentVolume: Scope::Cluster,
    PersistentVolumeClaim: Scope::Namespaced,
    StorageClass: Scope::Cluster,
    CSINode: Scope::Cluster,
    CSIDriver: Scope::Cluster,
    CSIStorageCapacity: Scope::Namespaced,
    VolumeAttachment: Scope::Cluster
);
