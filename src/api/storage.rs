//! Volumes, claims to them, and what CSI drivers say of nodes and of themselves: kept as the API knows them, metadata aside.

use std::rc::Rc;

use k8s_openapi::api::{core, storage};

use super::meta::{Meta, Uid};
use super::name::Name;
use super::quantity::Quantity;

/// The annotation that takes precedence over a volume's or claim's class (`BetaStorageClassAnnotation`).
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

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

impl PersistentVolumeClaim {
    /// The name of the class that is asked for; empty if none is, none if nothing is said
    /// (component-helpers, `GetPersistentVolumeClaimClass`, `PersistentVolumeClaimHasClass`).
    pub fn class(&self) -> Option<Name> {
        let annotated = self.meta.annotations.get(CLASS_ANNOTATION).cloned();
        annotated.or_else(|| self.spec()?.storage_class_name.as_deref().map(Name::from))
    }

    /// `spec.volumeName`; empty if it is not set.
    pub fn volume(&self) -> &str {
        self.spec().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
    }

    /// `status.phase`; empty if it is not set.
    pub fn phase(&self) -> &str {
        self.content.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    /// How much is asked for.
    pub fn size(&self) -> Quantity {
        let requests = self.spec().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        quantity(requests.and_then(|requests| requests.get("storage")))
    }

    /// The specification.
    pub fn spec(&self) -> Option<&core::v1::PersistentVolumeClaimSpec> {
        self.content.spec.as_ref()
    }
}

impl PersistentVolume {
    /// The name of its class; empty if it has none (`GetPersistentVolumeClass`).
    pub fn class(&self) -> Name {
        let annotated = self.meta.annotations.get(CLASS_ANNOTATION).cloned();
        let own = || self.spec().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default().into();
        annotated.unwrap_or_else(own)
    }

    /// `status.phase`; empty if it is not set.
    pub fn phase(&self) -> &str {
        self.content.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    /// `spec.capacity.storage`; zero if it says none.
    pub fn size(&self) -> Quantity {
        quantity(self.spec().and_then(|spec| spec.capacity.as_ref()?.get("storage")))
    }

    /// The claim that it is bound to or kept for.
    pub fn claim(&self) -> Option<&core::v1::ObjectReference> {
        self.spec()?.claim_ref.as_ref()
    }

    /// The incarnation of the claim that it is bound to; none while it is only kept for one.
    pub fn claim_uid(&self) -> Option<Uid> {
        self.claim()?.uid.as_deref().and_then(Uid::parse)
    }

    /// True if a claim is the one that it is bound to or kept for (`IsVolumeBoundToClaim`).
    pub fn is_kept_for(&self, claim: &Meta) -> bool {
        self.claim().is_some_and(|kept| {
            kept.name.as_deref() == Some(claim.name.as_str())
                && kept.namespace.as_deref().unwrap_or_default() == claim.namespace.as_str()
                && self.claim_uid().is_none_or(|uid| uid == claim.uid)
        })
    }

    /// The specification.
    pub fn spec(&self) -> Option<&core::v1::PersistentVolumeSpec> {
        self.content.spec.as_ref()
    }
}

impl StorageClass {
    /// True if volumes wait until the scheduler has chosen a node.
    pub fn waits_for_consumer(&self) -> bool {
        self.content.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
    }
}

/// The newest class that is marked as the default, the first by name of several of one age (volume/util, `GetDefaultClass`).
pub fn default_class<'a>(classes: impl Iterator<Item = &'a Rc<StorageClass>>) -> Option<Name> {
    const MARKS: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_marked = |class: &&Rc<StorageClass>| {
        MARKS.iter().any(|mark| class.meta.annotations.get(mark).is_some_and(|value| *value == *"true"))
    };
    let newest = classes.filter(is_marked).min_by(|left, right| {
        right.meta.created.cmp(&left.meta.created).then_with(|| left.meta.name.cmp(&right.meta.name))
    });
    newest.map(|class| class.meta.name.clone())
}

fn quantity(text: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Quantity {
    text.and_then(|text| Quantity::of(text).ok()).unwrap_or_default()
}
