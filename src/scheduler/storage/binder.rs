//! What must happen to a pod's claims before it can run on a node: volumes bound to them, or made for them
//! (kube-scheduler, plugins/volumebinding/binder.go).

use std::rc::Rc;

use k8s_openapi::api::core::v1::{ObjectReference, TopologySelectorTerm};
use k8s_openapi::api::storage::v1 as storage_v1;

use super::matching::{Candidates, requested};
use super::pod_claims::{check_is_for, claims, class_of, volume_of};
use super::volume::Volume;
use super::{Storage, insert, remove};
use crate::api::meta::{Labels, Uid};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::Pod;
use crate::api::quantity::Quantity;
use crate::api::selector::Selector;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim, StorageClass};

/// On a claim: the controller has completed the binding.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a volume: not the user, but a controller or the scheduler has kept it for the claim.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim: the node for which a volume is to be made.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes for which nothing is made.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const NODE_CONFLICT: Name = Name::of("node(s) didn't match PersistentVolume's node affinity");
const BIND_CONFLICT: Name = Name::of("node(s) didn't find available persistent volumes to bind");
const NOT_ENOUGH_SPACE: Name = Name::of("node(s) did not have enough free storage");
const NO_VOLUME: Name = Name::of("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");

/// The claims of a pod, sorted by what is to be done about them (`PodVolumeClaims`).
pub struct Claims {
    bound: Vec<Rc<PersistentVolumeClaim>>,
    /// Claims that wait for a pod, and what there is for each; the smallest first.
    delayed: Vec<(Rc<PersistentVolumeClaim>, Candidates)>,
    /// True if there are claims that should have been bound without the scheduler and are not.
    pub has_unbound_immediate: bool,
}

/// What is to be bound and made for a pod on a node.
#[derive(Clone, Default)]
pub struct PodVolumes {
    /// Volumes and the claims that they are to be bound to.
    pub bindings: Vec<(Rc<Volume>, Rc<PersistentVolumeClaim>)>,
    /// Claims for which volumes are to be made.
    pub provisions: Vec<Rc<PersistentVolumeClaim>>,
}

/// What a node has for a pod's claims.
pub enum Found {
    /// All that is needed.
    Volumes(PodVolumes),
    /// Not all, and why not.
    Conflicts(Vec<Name>),
}

/// True if nothing is to be done about a claim any more (`isPVCFullyBound`).
fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_of(claim).is_empty() && claim.meta.annotations.get(BIND_COMPLETED).is_some()
}

impl Claims {
    /// Sorts the claims of a pod, all of which must be there.
    pub fn of(pod: &Pod, storage: &Storage) -> Result<Self, String> {
        let mut found = Claims { bound: Vec::new(), delayed: Vec::new(), has_unbound_immediate: false };
        for used in claims(pod) {
            let namespace = &pod.meta.namespace;
            let Some(claim) = storage.assumed_claim(namespace, &used.name) else {
                let missing = super::pod_claims::not_found(&used.name);
                return Err(format!("error getting PVC \"{namespace}/{}\": {missing}", used.name));
            };
            if used.is_ephemeral {
                check_is_for(pod, claim)?;
            }
            if is_fully_bound(claim) {
                found.bound.push(claim.clone());
            } else if waits_for_pods(claim, storage)? && volume_of(claim).is_empty() {
                found.delayed.push((claim.clone(), Candidates::new(storage, claim)?));
            } else {
                found.has_unbound_immediate = true;
            }
        }
        found.delayed.sort_by_key(|(claim, _)| size_of(claim));
        Ok(found)
    }

    /// What a node has for them (`FindPodVolumes`).
    pub fn find(&self, storage: &Storage, node: &Node) -> Result<Found, String> {
        let mut conflicts = self.bound_conflict(storage, node)?;
        let mut volumes = PodVolumes::default();
        if !self.delayed.is_empty()
            && let Some(conflict) = self.find_delayed(storage, node, &mut volumes)?
        {
            let place = conflicts.iter().position(|known| *known == NO_VOLUME).unwrap_or(conflicts.len());
            conflicts.insert(place, conflict);
        }
        Ok(if conflicts.is_empty() { Found::Volumes(volumes) } else { Found::Conflicts(conflicts) })
    }

    fn bound_conflict(&self, storage: &Storage, node: &Node) -> Result<Vec<Name>, String> {
        let drivers = storage.csi_node(&node.meta.name).map(Rc::as_ref);
        for claim in &self.bound {
            let Some(volume) = storage.assumed_volume(volume_of(claim)) else { return Ok(vec![NO_VOLUME]) };
            if !volume.matches_as_seen_by(drivers, &node.meta.labels)? {
                return Ok(vec![NODE_CONFLICT]);
            }
        }
        Ok(Vec::new())
    }

    /// Finds volumes for the claims that wait for a pod, or sees whether they can be made.
    fn find_delayed(&self, storage: &Storage, node: &Node, found: &mut PodVolumes) -> Result<Option<Name>, String> {
        let selected = |claim: &PersistentVolumeClaim| claim.meta.annotations.get(SELECTED_NODE).cloned();
        let mut to_make = Vec::new();
        for (claim, _) in &self.delayed {
            match selected(claim) {
                Some(selected) if selected != node.meta.name => return Ok(Some(BIND_CONFLICT)),
                Some(_) => to_make.push(claim.clone()),
                None => {}
            }
        }
        let mut taken = Vec::new();
        for (claim, candidates) in self.delayed.iter().filter(|(claim, _)| selected(claim).is_none()) {
            match candidates.find(&node.meta.labels, &taken) {
                Some(volume) => {
                    taken.push(volume.clone());
                    found.bindings.push((volume.clone(), claim.clone()));
                }
                None => to_make.push(claim.clone()),
            }
        }
        for claim in to_make {
            if let Some(conflict) = cannot_be_made(&claim, storage, node)? {
                return Ok(Some(conflict));
            }
            found.provisions.push(claim);
        }
        Ok(None)
    }
}

fn size_of(claim: &PersistentVolumeClaim) -> Quantity {
    claim.content.spec.as_ref().map(requested).unwrap_or_default()
}

/// True if a claim is bound only once there is a pod for it (`IsDelayBindingMode`).
fn waits_for_pods(claim: &PersistentVolumeClaim, storage: &Storage) -> Result<bool, String> {
    let name = class_of(claim);
    let Some(class) = storage.class(name).filter(|_| !name.is_empty()) else { return Ok(false) };
    match class.content.volume_binding_mode.as_deref() {
        Some(mode) => Ok(mode == "WaitForFirstConsumer"),
        None => Err(format!("VolumeBindingMode not set for StorageClass \"{name}\"")),
    }
}

/// Why no volume can be made for a claim where a node could use it (`checkVolumeProvisions`).
fn cannot_be_made(claim: &PersistentVolumeClaim, storage: &Storage, node: &Node) -> Result<Option<Name>, String> {
    let name = class_of(claim);
    if name.is_empty() {
        return Err(format!("no class for claim \"{}/{}\"", claim.meta.namespace, claim.meta.name));
    }
    let Some(class) = storage.class(name) else { return Err(format!("failed to find storage class \"{name}\"")) };
    let provisioner = class.content.provisioner.as_str();
    if provisioner.is_empty() || provisioner == NO_PROVISIONER {
        return Ok(Some(BIND_CONFLICT));
    }
    let allowed = class.content.allowed_topologies.as_deref().unwrap_or(&[]);
    if !allowed.is_empty() && !allowed.iter().any(|term| is_allowed(term, &node.meta.labels)) {
        return Ok(Some(BIND_CONFLICT));
    }
    let has_room = has_room(claim, class, storage, node);
    Ok((!has_room).then_some(NOT_ENOUGH_SPACE))
}

/// A term that says nothing allows nothing (`MatchTopologySelectorTerms`).
fn is_allowed(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    let expressions = term.match_label_expressions.as_deref().unwrap_or(&[]);
    let holds =
        |key: &str, values: &[String]| labels.get(key).is_some_and(|value| values.iter().any(|v| *value == **v));
    !expressions.is_empty() && expressions.iter().all(|expression| holds(&expression.key, &expression.values))
}

/// True if the driver, as far as it tells, has room for a claim where a node could use it (`hasEnoughCapacity`).
fn has_room(claim: &PersistentVolumeClaim, class: &StorageClass, storage: &Storage, node: &Node) -> bool {
    let requests = claim.content.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let Some(size) = requests.and_then(|requests| Quantity::of(requests.get("storage")?).ok()) else { return true };
    let tells = storage
        .driver(&class.content.provisioner)
        .is_some_and(|driver| driver.content.spec.storage_capacity == Some(true));
    !tells
        || storage.capacities(&class.meta.name).any(|capacity| {
            volume_limit(&capacity.content).is_some_and(|limit| limit.value() >= size.value())
                && is_within_reach(&capacity.content, &node.meta.labels)
        })
}

/// The largest volume that can be made: as the driver says, else all that is left (`volumeLimit`).
pub fn volume_limit(capacity: &storage_v1::CSIStorageCapacity) -> Option<Quantity> {
    let limit = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
    limit.and_then(|limit| Quantity::of(limit).ok())
}

fn is_within_reach(capacity: &storage_v1::CSIStorageCapacity, labels: &Labels) -> bool {
    let topology = capacity.node_topology.as_ref();
    topology.is_some_and(|topology| Selector::compile(Some(topology)).is_ok_and(|selector| selector.matches(labels)))
}

impl Storage {
    /// Assumes that what was found for a pod is bound and being made; false if all was bound before
    /// (`AssumePodVolumes`).
    pub fn assume(&mut self, pod: &Pod, node: &Name, found: PodVolumes) -> bool {
        let bound = |used: super::pod_claims::PodClaim| {
            self.assumed_claim(&pod.meta.namespace, &used.name).is_some_and(|claim| is_fully_bound(claim))
        };
        if claims(pod).all(bound) {
            return false;
        }
        let mut assumed = PodVolumes::default();
        for (volume, claim) in found.bindings {
            let kept = Rc::new(Volume::new(keep_for(&volume, &claim)));
            self.assumed_volumes.insert(kept.object.meta.name.clone(), kept.clone());
            assumed.bindings.push((kept, claim));
        }
        for claim in found.provisions {
            let mut selected = PersistentVolumeClaim::clone(&claim);
            selected.meta.annotations = selected.meta.annotations.with(Name::of(SELECTED_NODE), node.clone());
            let selected = Rc::new(selected);
            insert(&mut self.assumed_claims, &claim.meta.namespace, &claim.meta.name, selected.clone());
            assumed.provisions.push(selected);
        }
        self.reservations.insert(pod.meta.uid, Rc::new(assumed));
        self.version += 1;
        true
    }

    /// What is assumed for a pod, if anything.
    pub fn reservation(&self, pod: Uid) -> Option<&Rc<PodVolumes>> {
        self.reservations.get(&pod)
    }

    /// Takes back what is assumed for a pod (`RevertAssumedPodVolumes`).
    pub fn revert(&mut self, pod: Uid) {
        let Some(assumed) = self.reservations.remove(&pod) else { return };
        for (volume, _) in &assumed.bindings {
            self.assumed_volumes.remove(&volume.object.meta.name);
        }
        for claim in &assumed.provisions {
            remove(&mut self.assumed_claims, &claim.meta.namespace, &claim.meta.name);
        }
        self.version += 1;
    }

    /// Forgets what was assumed for a pod, which is bound now; what was written holds.
    pub fn settle(&mut self, pod: Uid) {
        self.reservations.remove(&pod);
    }

    /// True if all that was asked for a pod has been bound and made; fails if it will not be (`checkBindings`).
    pub fn is_settled(&self, assumed: &PodVolumes, node: &Node) -> Result<bool, String> {
        for (volume, claim) in &assumed.bindings {
            let Some(shown) = self.volume(&volume.object.meta.name) else {
                let missing = format!("could not find v1.PersistentVolume \"{}\"", volume.object.meta.name);
                return Err(format!("failed to check binding: {missing}"));
            };
            let claim = self.shown_claim(claim).map_err(|missing| format!("failed to check binding: {missing}"))?;
            if shown.object.meta.revision() <= volume.object.meta.revision() {
                return Ok(false);
            }
            self.check_affinity(shown, node).map_err(|(step, error)| format!("{step}{error}"))?;
            let kept = shown.spec().claim_ref.as_ref().and_then(|claim| claim.uid.as_deref());
            if kept.unwrap_or_default().is_empty() {
                return Err(format!("ClaimRef got reset for pv \"{}\"", shown.object.meta.name));
            }
            if !is_fully_bound(claim) {
                return Ok(false);
            }
        }
        for claim in &assumed.provisions {
            if !self.is_made(claim, node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_made(&self, claim: &PersistentVolumeClaim, node: &Node) -> Result<bool, String> {
        let shown =
            self.shown_claim(claim).map_err(|missing| format!("failed to check provisioning pvc: {missing}"))?;
        if shown.meta.revision() <= claim.meta.revision() {
            return Ok(false);
        }
        if shown.meta.annotations.is_empty() {
            return Err(format!("selectedNode annotation reset for PVC \"{}\"", shown.meta.name));
        }
        if shown.meta.annotations.get(SELECTED_NODE) != Some(&node.meta.name) {
            return Err(format!("provisioning failed for PVC \"{}\"", shown.meta.name));
        }
        if !volume_of(shown).is_empty() {
            // The volume may be on its way.
            let Some(volume) = self.volume(volume_of(shown)) else { return Ok(false) };
            self.check_affinity(volume, node).map_err(|(_, error)| error)?;
        }
        Ok(is_fully_bound(shown))
    }

    fn shown_claim(&self, claim: &PersistentVolumeClaim) -> Result<&Rc<PersistentVolumeClaim>, String> {
        let (namespace, name) = (&claim.meta.namespace, &claim.meta.name);
        self.claim(namespace, name)
            .ok_or_else(|| format!("could not find v1.PersistentVolumeClaim \"{namespace}/{name}\""))
    }

    fn check_affinity(&self, volume: &Volume, node: &Node) -> Result<(), (&'static str, String)> {
        let drivers = self.csi_node(&node.meta.name).map(Rc::as_ref);
        let matches = volume.matches_as_seen_by(drivers, &node.meta.labels);
        if matches.map_err(|error| ("failed to translate pv to csi: ", error))? {
            return Ok(());
        }
        let (volume, node) = (&volume.object.meta.name, &node.meta.name);
        let why = "no matching NodeSelectorTerms";
        Err(("", format!("pv \"{volume}\" node affinity doesn't match node \"{node}\": {why}")))
    }
}

/// The volume as it is once it is kept for a claim (`GetBindVolumeToClaim`).
fn keep_for(volume: &Volume, claim: &PersistentVolumeClaim) -> Rc<PersistentVolume> {
    let mut kept = PersistentVolume::clone(&volume.object);
    let uid = claim.meta.uid.to_string();
    let was_kept = volume.is_kept_for(&claim.meta.namespace, &claim.meta.name, &uid);
    let spec = Rc::make_mut(&mut kept.content).spec.get_or_insert_default();
    let is_exact = spec.claim_ref.as_ref().is_some_and(|reference| reference.uid.as_ref() == Some(&uid));
    if !was_kept || !is_exact {
        spec.claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(String::from(&claim.meta.namespace)),
            name: Some(String::from(&claim.meta.name)),
            uid: Some(uid),
            resource_version: Some(claim.meta.revision().to_string()),
            field_path: None,
        });
    }
    if !was_kept && kept.meta.annotations.get(BOUND_BY_CONTROLLER).is_none() {
        kept.meta.annotations = kept.meta.annotations.with(Name::of(BOUND_BY_CONTROLLER), Name::of("yes"));
    }
    Rc::new(kept)
}
