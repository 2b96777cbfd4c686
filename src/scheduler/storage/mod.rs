//! The scheduler's picture of storage: volumes, claims to them, and what CSI drivers say of nodes and of themselves
//! (kube-scheduler, the listers and the assume caches of plugins/volumebinding).
//!
//! - this file: [`Storage`], the objects as the informers show them, and beside them what is only assumed of them
//! - `volume`: a volume with its node affinity compiled
//! - `migration`: which in-tree volumes are served by CSI drivers, and how the drivers know them
//! - `pod_claims`: the claims of a pod
//! - `matching`: which volume would do for a claim
//! - `binder`: what is to be bound or made for a pod on a node
//!
//! It never decides anything. What is assumed of a volume or claim holds until it is taken back or the informers show a newer
//! version.

pub mod binder;
pub mod matching;
pub mod migration;
pub mod pod_claims;
#[cfg(test)]
mod tests;
pub mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use self::pod_claims::claim_names;
use self::volume::Volume;
use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::storage::{
    CSIDriver, CSINode, CSIStorageCapacity, PersistentVolume, PersistentVolumeClaim, StorageClass, VolumeAttachment,
};

/// Objects of one kind by namespace and name.
type Namespaced<T> = BTreeMap<Name, BTreeMap<Name, T>>;

/// Volumes, claims and what else storage consists of.
#[derive(Clone, Default)]
pub struct Storage {
    volumes: BTreeMap<Name, Rc<Volume>>,
    assumed_volumes: BTreeMap<Name, Rc<Volume>>,
    /// The names of the volumes of each class, as they are assumed to be.
    volumes_of_class: BTreeMap<Name, BTreeSet<Name>>,
    claims: Namespaced<Rc<PersistentVolumeClaim>>,
    assumed_claims: Namespaced<Rc<PersistentVolumeClaim>>,
    classes: BTreeMap<Name, Rc<StorageClass>>,
    csi_nodes: BTreeMap<Name, Rc<CSINode>>,
    drivers: BTreeMap<Name, Rc<CSIDriver>>,
    /// Capacities by class, then by namespace and name.
    capacities: BTreeMap<Name, BTreeMap<(Name, Name), Rc<CSIStorageCapacity>>>,
    /// Attachments by node, then by name.
    attachments: BTreeMap<Name, BTreeMap<Name, Rc<VolumeAttachment>>>,
    /// How often pods on nodes use each claim.
    users: Namespaced<u32>,
    /// What is assumed for pods that are being bound.
    reservations: BTreeMap<Uid, Rc<binder::PodVolumes>>,
    version: u64,
}

/// The kinds that storage consists of.
pub const KINDS: [Kind; 7] = [
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::StorageClass,
    Kind::CSINode,
    Kind::CSIDriver,
    Kind::CSIStorageCapacity,
    Kind::VolumeAttachment,
];

impl Storage {
    /// True for the kinds of objects that it takes in.
    pub fn holds(kind: Kind) -> bool {
        KINDS.contains(&kind)
    }

    /// Another number after each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes a version of an object in.
    pub fn set(&mut self, object: &Object) {
        match object {
            Object::PersistentVolume(volume) => self.set_volume(volume),
            Object::PersistentVolumeClaim(claim) => {
                remove(&mut self.assumed_claims, &claim.meta.namespace, &claim.meta.name);
                insert(&mut self.claims, &claim.meta.namespace, &claim.meta.name, claim.clone());
            }
            Object::StorageClass(class) => {
                self.classes.insert(class.meta.name.clone(), class.clone());
            }
            Object::CSINode(node) => {
                self.csi_nodes.insert(node.meta.name.clone(), node.clone());
            }
            Object::CSIDriver(driver) => {
                self.drivers.insert(driver.meta.name.clone(), driver.clone());
            }
            Object::CSIStorageCapacity(capacity) => {
                let class = Name::from(&capacity.content.storage_class_name);
                let key = (capacity.meta.namespace.clone(), capacity.meta.name.clone());
                self.capacities.entry(class).or_default().insert(key, capacity.clone());
            }
            Object::VolumeAttachment(attachment) => {
                let node = Name::from(&attachment.content.spec.node_name);
                insert(&mut self.attachments, &node, &attachment.meta.name, attachment.clone());
            }
            _ => return,
        }
        self.version += 1;
    }

    /// Takes an object out.
    pub fn remove(&mut self, object: &Object) {
        match object {
            Object::PersistentVolume(volume) => {
                let name = &volume.meta.name;
                self.forget_class(name);
                self.volumes.remove(name);
                self.assumed_volumes.remove(name);
            }
            Object::PersistentVolumeClaim(claim) => {
                remove(&mut self.assumed_claims, &claim.meta.namespace, &claim.meta.name);
                remove(&mut self.claims, &claim.meta.namespace, &claim.meta.name);
            }
            Object::StorageClass(class) => drop(self.classes.remove(&class.meta.name)),
            Object::CSINode(node) => drop(self.csi_nodes.remove(&node.meta.name)),
            Object::CSIDriver(driver) => drop(self.drivers.remove(&driver.meta.name)),
            Object::CSIStorageCapacity(capacity) => {
                let key = (capacity.meta.namespace.clone(), capacity.meta.name.clone());
                if let Some(of_class) = self.capacities.get_mut(capacity.content.storage_class_name.as_str()) {
                    of_class.remove(&key);
                }
            }
            Object::VolumeAttachment(attachment) => {
                remove(&mut self.attachments, &attachment.content.spec.node_name, &attachment.meta.name);
            }
            _ => return,
        }
        self.version += 1;
    }

    /// A volume as the informer shows it.
    pub fn volume(&self, name: &str) -> Option<&Rc<Volume>> {
        self.volumes.get(name)
    }

    /// A volume as it is assumed to be.
    pub fn assumed_volume(&self, name: &str) -> Option<&Rc<Volume>> {
        self.assumed_volumes.get(name).or_else(|| self.volumes.get(name))
    }

    /// The volumes of a class as they are assumed to be, by name.
    pub fn volumes_of_class(&self, class: &str) -> impl Iterator<Item = &Rc<Volume>> {
        self.volumes_of_class.get(class).into_iter().flatten().filter_map(|name| self.assumed_volume(name))
    }

    /// A claim as the informer shows it.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Rc<PersistentVolumeClaim>> {
        self.claims.get(namespace)?.get(name)
    }

    /// A claim as it is assumed to be.
    pub fn assumed_claim(&self, namespace: &str, name: &str) -> Option<&Rc<PersistentVolumeClaim>> {
        let assumed = self.assumed_claims.get(namespace).and_then(|claims| claims.get(name));
        assumed.or_else(|| self.claim(namespace, name))
    }

    /// A storage class.
    pub fn class(&self, name: &str) -> Option<&Rc<StorageClass>> {
        self.classes.get(name)
    }

    /// What CSI drivers say of a node.
    pub fn csi_node(&self, node: &str) -> Option<&Rc<CSINode>> {
        self.csi_nodes.get(node)
    }

    /// A CSI driver.
    pub fn driver(&self, name: &str) -> Option<&Rc<CSIDriver>> {
        self.drivers.get(name)
    }

    /// What is left for volumes of a class.
    pub fn capacities(&self, class: &str) -> impl Iterator<Item = &Rc<CSIStorageCapacity>> {
        self.capacities.get(class).into_iter().flat_map(BTreeMap::values)
    }

    /// The attachments to a node.
    pub fn attachments(&self, node: &str) -> impl Iterator<Item = &Rc<VolumeAttachment>> {
        self.attachments.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// True if a pod on a node uses a claim.
    pub fn is_used(&self, namespace: &str, claim: &str) -> bool {
        self.users.get(namespace).is_some_and(|claims| claims.contains_key(claim))
    }

    /// Counts the claims of a pod that came to a node. Those made for the pod alone do not count.
    pub fn add_user(&mut self, pod: &Pod) {
        for claim in claim_names(&pod.spec) {
            *self.users.entry(pod.meta.namespace.clone()).or_default().entry(claim.into()).or_default() += 1;
            self.version += 1;
        }
    }

    /// Takes back [`Storage::add_user`].
    pub fn remove_user(&mut self, pod: &Pod) {
        for claim in claim_names(&pod.spec) {
            let Some(users) = self.users.get_mut(&pod.meta.namespace) else { continue };
            if let Some(count) = users.get_mut(claim) {
                *count -= 1;
                if *count == 0 {
                    users.remove(claim);
                }
            }
            self.version += 1;
        }
    }

    fn set_volume(&mut self, volume: &Rc<PersistentVolume>) {
        let name = volume.meta.name.clone();
        self.forget_class(&name);
        self.assumed_volumes.remove(&name);
        let volume = Rc::new(Volume::new(volume.clone()));
        self.volumes_of_class.entry(volume.class()).or_default().insert(name.clone());
        self.volumes.insert(name, volume);
    }

    fn forget_class(&mut self, name: &Name) {
        if let Some(known) = self.assumed_volume(name).map(|volume| volume.class())
            && let Some(of_class) = self.volumes_of_class.get_mut(&known)
        {
            of_class.remove(name);
        }
    }
}

fn insert<T>(map: &mut Namespaced<T>, namespace: &Name, name: &Name, value: T) {
    map.entry(namespace.clone()).or_default().insert(name.clone(), value);
}

fn remove<T>(map: &mut Namespaced<T>, namespace: &str, name: &str) {
    if let Some(of_namespace) = map.get_mut(namespace) {
        of_namespace.remove(name);
        if of_namespace.is_empty() {
            map.remove(namespace);
        }
    }
}
