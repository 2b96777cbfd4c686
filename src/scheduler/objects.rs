//! Objects that are neither nodes nor pods, as far as plugins look at them: namespaces, and what selects pods.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::individual;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::network::Service;
use crate::api::object::Object;
use crate::api::selector::Selector;

/// A kind of owner whose selector says which pods belong together (kube-scheduler, `helper.DefaultSelector`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum OwnerKind {
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

/// Namespaces, Services, and the selectors of owners.
#[derive(Default)]
pub struct Objects {
    namespaces: BTreeMap<Name, Labels>,
    services: BTreeMap<Name, BTreeMap<Name, Rc<Service>>>,
    owners: BTreeMap<(OwnerKind, Name, Name), Rc<Selector>>,
    namespaces_version: u64,
    selectors_version: u64,
    /// True once there was a selector that tells the pods of one workload apart.
    tell_individuals: bool,
}

impl Objects {
    /// The labels of a namespace; none if it is not known.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    /// All namespaces with their labels, in the order of their names.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Name, &Labels)> {
        self.namespaces.iter()
    }

    /// The Services of a namespace, in the order of their names.
    pub fn services(&self, namespace: &str) -> impl Iterator<Item = &Rc<Service>> {
        self.services.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// The selector of an owner.
    pub fn owner(&self, kind: OwnerKind, namespace: &Name, name: &Name) -> Option<&Rc<Selector>> {
        self.owners.get(&(kind, namespace.clone(), name.clone()))
    }

    /// Moves with every change of a namespace's labels and every namespace that comes or goes.
    pub fn namespaces_version(&self) -> u64 {
        self.namespaces_version
    }

    /// Moves with every change of a Service or of an owner's selector.
    pub fn selectors_version(&self) -> u64 {
        self.selectors_version
    }

    /// True once there was a Service or an owner whose selector tells the pods of one workload apart.
    pub fn tell_individuals(&self) -> bool {
        self.tell_individuals
    }

    /// Takes in a version of an object; those of other kinds are not kept.
    pub fn set(&mut self, object: &Object) {
        match object {
            Object::Namespace(namespace) => {
                let labels = namespace.meta.labels.clone();
                if self.namespaces.get(&namespace.meta.name) != Some(&labels) {
                    self.namespaces.insert(namespace.meta.name.clone(), labels);
                    self.namespaces_version += 1;
                }
            }
            Object::Service(service) => {
                let in_namespace = self.services.entry(service.meta.namespace.clone()).or_default();
                let old = in_namespace.insert(service.meta.name.clone(), service.clone());
                if old.is_none_or(|old| old.selector != service.selector) {
                    self.tell_individuals |= service.selector.as_ref().is_some_and(|one| individual::is_told_by(one));
                    self.selectors_version += 1;
                }
            }
            Object::ReplicaSet(set) => self.set_owner(OwnerKind::ReplicaSet, object, set.selector.clone()),
            Object::StatefulSet(set) => self.set_owner(OwnerKind::StatefulSet, object, set.selector.clone()),
            Object::ReplicationController(controller) => {
                self.set_owner(OwnerKind::ReplicationController, object, controller.selector.clone());
            }
            _ => {}
        }
    }

    /// Takes in that an object is gone.
    pub fn remove(&mut self, object: &Object) {
        let meta = object.meta();
        match object {
            Object::Namespace(_) => {
                self.namespaces.remove(&meta.name);
                self.namespaces_version += 1;
            }
            Object::Service(_) => {
                if let Some(in_namespace) = self.services.get_mut(&meta.namespace) {
                    in_namespace.remove(&meta.name);
                }
                self.selectors_version += 1;
            }
            Object::ReplicaSet(_) => self.remove_owner(OwnerKind::ReplicaSet, object),
            Object::StatefulSet(_) => self.remove_owner(OwnerKind::StatefulSet, object),
            Object::ReplicationController(_) => self.remove_owner(OwnerKind::ReplicationController, object),
            _ => {}
        }
    }

    fn set_owner(&mut self, kind: OwnerKind, object: &Object, selector: Rc<Selector>) {
        let meta = object.meta();
        self.tell_individuals |= individual::is_told_by(&selector);
        let old = self.owners.insert((kind, meta.namespace.clone(), meta.name.clone()), selector.clone());
        if old.is_none_or(|old| old != selector) {
            self.selectors_version += 1;
        }
    }

    fn remove_owner(&mut self, kind: OwnerKind, object: &Object) {
        let meta = object.meta();
        self.owners.remove(&(kind, meta.namespace.clone(), meta.name.clone()));
        self.selectors_version += 1;
    }
}
