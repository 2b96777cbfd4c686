//! A volume with what is asked of it again and again worked out: its size, and on which nodes it can be used.

use std::rc::Rc;

use k8s_openapi::api::core::v1::{NodeSelector as Terms, PersistentVolumeSpec};

use super::migration::{self, InTree};
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node_selector::NodeSelector;
use crate::api::quantity::Quantity;
use crate::api::storage::{CSINode, PersistentVolume};

/// The annotation that takes precedence over a volume's or claim's class (`BetaStorageClassAnnotation`).
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The annotation by which a CSINode says for which in-tree volumes its drivers stand in.
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// A volume.
pub struct Volume {
    /// The volume as the API shows it.
    pub object: Rc<PersistentVolume>,
    /// `spec.capacity.storage`; zero if it says none.
    pub size: Quantity,
    affinity: Option<NodeSelector>,
    migrated: Option<Migrated>,
}

/// How a volume looks to the CSI driver that stands in for its in-tree kind.
struct Migrated {
    kind: InTree,
    /// The affinity with the driver's topology keys, or why there is none.
    affinity: Result<Option<NodeSelector>, String>,
}

impl Volume {
    /// Works out what is asked of a volume.
    pub fn new(object: Rc<PersistentVolume>) -> Self {
        let spec = spec_of(&object);
        let kind = InTree::of_persistent(spec).filter(|kind| kind.is_migrated());
        let migrated = kind.map(|kind| Migrated {
            kind,
            affinity: migration::affinity(kind, &object.meta.labels, spec)
                .map(|terms| terms.map(|terms| NodeSelector::compile(&terms))),
        });
        let size = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
        Volume {
            size: size.and_then(|size| Quantity::of(size).ok()).unwrap_or_default(),
            affinity: required(spec).map(NodeSelector::compile),
            migrated,
            object,
        }
    }

    /// The specification.
    pub fn spec(&self) -> &PersistentVolumeSpec {
        spec_of(&self.object)
    }

    /// The name of its class; empty if it has none (`GetPersistentVolumeClass`).
    pub fn class(&self) -> Name {
        let annotated = self.object.meta.annotations.get(CLASS_ANNOTATION);
        annotated.cloned().unwrap_or_else(|| self.spec().storage_class_name.as_deref().unwrap_or_default().into())
    }

    /// True if it can be used on a node with these labels (`CheckNodeAffinity`).
    pub fn matches(&self, labels: &Labels) -> bool {
        self.affinity.as_ref().is_none_or(|affinity| affinity.matches_labels(labels))
    }

    /// The same as the drivers of the node see it (`tryTranslatePVToCSI`).
    pub fn matches_as_seen_by(&self, drivers: Option<&CSINode>, labels: &Labels) -> Result<bool, String> {
        let Some(migrated) = self.migrated.as_ref().filter(|migrated| has_taken_over(migrated.kind, drivers)) else {
            return Ok(self.matches(labels));
        };
        match &migrated.affinity {
            Ok(affinity) => Ok(affinity.as_ref().is_none_or(|affinity| affinity.matches_labels(labels))),
            Err(error) => Err(format!("could not translate pv: {error}")),
        }
    }

    /// The terms of its node affinity, if it has one.
    pub fn terms(&self) -> Option<&Terms> {
        required(self.spec())
    }

    /// True if the claim with this namespace, name and uid is the one that it is bound to or kept for
    /// (`IsVolumeBoundToClaim`).
    pub fn is_kept_for(&self, namespace: &str, name: &str, uid: &str) -> bool {
        self.spec().claim_ref.as_ref().is_some_and(|claim| {
            let kept_for = claim.uid.as_deref().unwrap_or_default();
            claim.name.as_deref() == Some(name)
                && claim.namespace.as_deref().unwrap_or_default() == namespace
                && (kept_for.is_empty() || kept_for == uid)
        })
    }
}

fn spec_of(object: &PersistentVolume) -> &PersistentVolumeSpec {
    static NONE: std::sync::OnceLock<PersistentVolumeSpec> = std::sync::OnceLock::new();
    object.content.spec.as_ref().unwrap_or_else(|| NONE.get_or_init(PersistentVolumeSpec::default))
}

fn required(spec: &PersistentVolumeSpec) -> Option<&Terms> {
    spec.node_affinity.as_ref()?.required.as_ref()
}

/// `isPluginMigratedToCSIOnNode`.
fn has_taken_over(kind: InTree, drivers: Option<&CSINode>) -> bool {
    let named = drivers.and_then(|node| node.meta.annotations.get(MIGRATED_PLUGINS));
    named.is_some_and(|names| names.split(',').any(|name| name == kind.plugin_name()))
}
