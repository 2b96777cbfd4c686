//! Which of the volumes that are there would do for a claim (component-helpers, storage/volume: `FindMatchingVolume`).
//!
//! What does not depend on the node is looked at once for all nodes. Of volumes of one size the one whose name comes first is
//! taken; the real scheduler takes any of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::api::core::v1::{NodeSelector, PersistentVolumeClaimSpec, PersistentVolumeSpec};

use super::Storage;
use super::pod_claims::class_of;
use super::volume::Volume;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::quantity::Quantity;
use crate::api::selector::Selector;
use crate::api::storage::PersistentVolumeClaim;

/// The volumes that would do for a claim, wherever they can be used.
pub struct Candidates {
    /// Volumes that are kept for the claim: the first decides.
    kept: Vec<Rc<Volume>>,
    /// Volumes that are free, the smallest first.
    free: Vec<Rc<Volume>>,
    /// The places in `free` of volumes that only nodes with a certain label can use, by its key and value.
    by_label: BTreeMap<Name, BTreeMap<Name, Vec<usize>>>,
    /// The places of all others.
    others: Vec<usize>,
}

impl Candidates {
    /// Looks through the volumes of a claim's class; fails if the claim's selector is wrong.
    pub fn new(storage: &Storage, claim: &PersistentVolumeClaim) -> Result<Self, String> {
        let none = PersistentVolumeClaimSpec::default();
        let spec = claim.content.spec.as_ref().unwrap_or(&none);
        let selector = spec.selector.as_ref().map(|labels| Selector::compile(Some(labels))).transpose();
        let selector = selector.map_err(|error| {
            let key = format!("{}/{}", claim.meta.namespace, claim.meta.name);
            format!("error creating internal label selector for claim: {key}: {error}")
        })?;
        let (size, uid) = (requested(spec), claim.meta.uid.to_string());
        let class = class_of(claim);
        let mut candidates =
            Candidates { kept: Vec::new(), free: Vec::new(), by_label: BTreeMap::new(), others: Vec::new() };
        for volume in storage.volumes_of_class(class).filter(|volume| volume.size >= size && suits(volume, spec)) {
            if volume.is_kept_for(&claim.meta.namespace, &claim.meta.name, &uid) {
                candidates.kept.push(volume.clone());
            } else if volume.spec().claim_ref.is_none()
                && is_available(volume)
                && selector.as_ref().is_none_or(|selector| selector.matches(&volume.object.meta.labels))
                && has_modes(volume.spec(), spec)
            {
                candidates.free.push(volume.clone());
            }
        }
        candidates.free.sort_by_key(|volume| volume.size);
        candidates.index();
        Ok(candidates)
    }

    fn index(&mut self) {
        for (place, volume) in self.free.iter().enumerate() {
            let Some((key, values)) = volume.terms().and_then(needed_label) else {
                self.others.push(place);
                continue;
            };
            let of_key = self.by_label.entry(key.into()).or_default();
            for value in values {
                of_key.entry(value.into()).or_default().push(place);
            }
        }
    }

    /// The volume for a node with these labels, apart from some that are taken.
    pub fn find(&self, labels: &Labels, taken: &[Rc<Volume>]) -> Option<&Rc<Volume>> {
        let is_free =
            |volume: &&Rc<Volume>| !taken.iter().any(|other| other.object.meta.name == volume.object.meta.name);
        if let Some(kept) = self.kept.iter().find(is_free) {
            return kept.matches(labels).then_some(kept);
        }
        let usable = |place: &&usize| {
            let volume = &self.free[**place];
            is_free(&volume) && volume.matches(labels)
        };
        let lists = self.by_label.iter().filter_map(|(key, values)| values.get(labels.get(key)?));
        let first = lists.chain([&self.others]).filter_map(|places| places.iter().find(usable)).min();
        first.map(|place| &self.free[*place])
    }
}

/// The size that a claim asks for.
pub fn requested(spec: &PersistentVolumeClaimSpec) -> Quantity {
    let amounts = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    amounts.and_then(|amounts| Quantity::of(amounts.get("storage")?).ok()).unwrap_or_default()
}

/// A label of which a node needs one of these values to match, if the terms say so simply.
fn needed_label(terms: &NodeSelector) -> Option<(&str, &[String])> {
    let [term] = terms.node_selector_terms.as_slice() else { return None };
    let expression = term.match_expressions.iter().flatten().find(|expression| expression.operator == "In")?;
    Some((&expression.key, expression.values.as_deref()?))
}

fn suits(volume: &Volume, claim: &PersistentVolumeClaimSpec) -> bool {
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    let attributes = |class: &Option<String>| class.as_deref().unwrap_or_default().to_owned();
    let spec = volume.spec();
    mode(&spec.volume_mode) == mode(&claim.volume_mode)
        && attributes(&spec.volume_attributes_class_name) == attributes(&claim.volume_attributes_class_name)
        && !volume.object.meta.is_deleting()
}

fn is_available(volume: &Volume) -> bool {
    let phase = volume.object.content.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Available")
}

fn has_modes(volume: &PersistentVolumeSpec, claim: &PersistentVolumeClaimSpec) -> bool {
    let offered = volume.access_modes.as_deref().unwrap_or(&[]);
    claim.access_modes.iter().flatten().all(|mode| offered.contains(mode))
}
