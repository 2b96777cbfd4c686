//! Which volumes are free, which are kept for which claims, and which pods use a claim: kept up to date change by change, so
//! that no sync looks through all volumes or pods.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::meta::Meta;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::pod_claims;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::client::controller::Change;

/// Namespace and name.
type Place = (Name, Name);

/// Volumes and pods by what is asked of them.
#[derive(Default)]
pub struct Index {
    /// Volumes that no claim has, by class.
    free: BTreeMap<Name, BTreeMap<Name, Rc<PersistentVolume>>>,
    /// Volumes that are bound to or kept for a claim.
    kept: BTreeMap<Place, BTreeMap<Name, Rc<PersistentVolume>>>,
    /// Pods that use a claim.
    users: BTreeMap<Place, BTreeSet<Name>>,
}

impl Index {
    /// Follows a change of the cache.
    pub fn follow(&mut self, change: Change<'_>) {
        match change {
            Change::Added(new) => self.add(new),
            // The same specification has the same claims.
            Change::Updated { old: Object::Pod(old), new: Object::Pod(new) } if Rc::ptr_eq(&old.spec, &new.spec) => {}
            Change::Updated { old, new } => {
                self.remove(old);
                self.add(new);
            }
            Change::Deleted(old) => self.remove(old),
        }
    }

    /// The volumes that are kept for a claim, by name.
    pub fn kept_for<'a>(&'a self, claim: &'a Meta) -> impl Iterator<Item = &'a Rc<PersistentVolume>> {
        let place = (claim.namespace.clone(), claim.name.clone());
        self.kept.get(&place).into_iter().flat_map(BTreeMap::values).filter(|volume| volume.is_kept_for(claim))
    }

    /// The volumes of a class that no claim has, by name.
    pub fn free_of_class(&self, class: &Name) -> impl Iterator<Item = &Rc<PersistentVolume>> {
        self.free.get(class).into_iter().flat_map(BTreeMap::values)
    }

    /// The names of the pods that use a claim.
    pub fn users(&self, claim: &Meta) -> impl Iterator<Item = &Name> {
        let place = (claim.namespace.clone(), claim.name.clone());
        self.users.get(&place).into_iter().flatten()
    }

    fn add(&mut self, object: &Object) {
        match object {
            Object::PersistentVolume(volume) => {
                self.shelf(volume).insert(volume.meta.name.clone(), volume.clone());
            }
            Object::Pod(pod) => {
                for place in claims_of(pod) {
                    self.users.entry(place).or_default().insert(pod.meta.name.clone());
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, object: &Object) {
        match object {
            Object::PersistentVolume(volume) => {
                self.shelf(volume).remove(&volume.meta.name);
                match place_of(volume) {
                    Some(place) if self.kept.get(&place).is_some_and(BTreeMap::is_empty) => {
                        self.kept.remove(&place);
                    }
                    _ => {}
                }
            }
            Object::Pod(pod) => {
                for place in claims_of(pod) {
                    if let Some(users) = self.users.get_mut(&place) {
                        users.remove(&pod.meta.name);
                        if users.is_empty() {
                            self.users.remove(&place);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn shelf(&mut self, volume: &PersistentVolume) -> &mut BTreeMap<Name, Rc<PersistentVolume>> {
        match place_of(volume) {
            Some(place) => self.kept.entry(place).or_default(),
            None => self.free.entry(volume.class()).or_default(),
        }
    }
}

/// The claim that a volume is bound to or kept for.
fn place_of(volume: &PersistentVolume) -> Option<Place> {
    let claim = volume.claim()?;
    Some((claim.namespace.as_deref().unwrap_or_default().into(), claim.name.as_deref().unwrap_or_default().into()))
}

/// The claims that a pod's volumes name, and those that are made for its ephemeral ones (volume/common, `PodPVCIndexFunc`).
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = Place> + '_ {
    pod_claims::claims(pod).map(|claim| (pod.meta.namespace.clone(), claim.name))
}

/// The volume that suits a claim best: one that is kept for it, else, unless the scheduler is to choose, the smallest free one
/// that is large enough, and of those the first by name
/// (component-helpers, `FindMatchingVolume`; the real controller takes any of several alike, those with fewer access modes first).
pub fn best_match(index: &Index, claim: &PersistentVolumeClaim, is_delayed: bool) -> Option<Rc<PersistentVolume>> {
    let spec = claim.spec()?;
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    let modes = |modes: &Option<Vec<String>>| modes.iter().flatten().cloned().collect::<BTreeSet<String>>();
    let suits = |volume: &PersistentVolume| {
        volume.spec().is_some_and(|own| {
            volume.size() >= claim.size()
                && mode(&own.volume_mode) == mode(&spec.volume_mode)
                && own.volume_attributes_class_name.as_deref().unwrap_or_default()
                    == spec.volume_attributes_class_name.as_deref().unwrap_or_default()
                && modes(&own.access_modes).is_superset(&modes(&spec.access_modes))
                && !volume.meta.is_deleting()
        })
    };
    if let Some(kept) = index.kept_for(&claim.meta).find(|volume| suits(volume)) {
        return Some(kept.clone());
    }
    if is_delayed {
        return None;
    }
    let selector = spec.selector.as_ref().map(|labels| crate::api::selector::Selector::compile(Some(labels)));
    let Ok(selector) = selector.transpose() else { return None };
    let is_selected =
        |volume: &PersistentVolume| selector.as_ref().is_none_or(|selector| selector.matches(&volume.meta.labels));
    let class = claim.class().unwrap_or_default();
    let free = index.free_of_class(&class);
    let suitable = free.filter(|volume| volume.phase() == "Available" && suits(volume) && is_selected(volume));
    let breadth = |volume: &PersistentVolume| volume.spec().map_or(0, |spec| modes(&spec.access_modes).len());
    suitable.min_by_key(|volume| (breadth(volume), volume.size())).cloned()
}
