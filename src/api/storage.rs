//! Volumes, claims to them, and what CSI drivers say of nodes and of themselves: kept as the API knows them, metadata aside.

use std::rc::Rc;

use k8s_openapi::api::{core, storage};

use super::meta::Meta;

/// A PersistentVolume; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct PersistentVolume {
    pub meta: Meta,
    pub content: Rc<core::v1::PersistentVolume>,
}

/// A PersistentVolumeClaim; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct PersistentVolumeClaim {
    pub meta: Meta,
    pub content: Rc<core::v1::PersistentVolumeClaim>,
}

/// A StorageClass; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct StorageClass {
    pub meta: Meta,
    pub content: Rc<storage::v1::StorageClass>,
}

/// A CSINode: the drivers of a node and how many volumes each can attach there; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct CSINode {
    pub meta: Meta,
    pub content: Rc<storage::v1::CSINode>,
}

/// A CSIDriver; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct CSIDriver {
    pub meta: Meta,
    pub content: Rc<storage::v1::CSIDriver>,
}

/// A CSIStorageCapacity; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct CSIStorageCapacity {
    pub meta: Meta,
    pub content: Rc<storage::v1::CSIStorageCapacity>,
}

/// A VolumeAttachment; the content carries no metadata.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "metadata and content")]
pub struct VolumeAttachment {
    pub meta: Meta,
    pub content: Rc<storage::v1::VolumeAttachment>,
}
