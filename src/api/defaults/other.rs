//! Defaults of the kinds that have few, and of those that have none.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Secret, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSINode, CSIStorageCapacity, VolumeAttachment};

use super::container::resource_list;
use super::{Defaults, fill, unset};

impl Defaults for Namespace {
    fn set_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata.labels.get_or_insert_default().insert("kubernetes.io/metadata.name".to_owned(), name);
        }
        fill(&mut self.status.get_or_insert_default().phase, "Active");
    }
}

impl Defaults for Node {
    fn set_defaults(&mut self) {
        let status = self.status.get_or_insert_default();
        if status.allocatable.is_none() {
            status.allocatable = status.capacity.clone();
        }
        resource_list(&mut status.capacity);
        resource_list(&mut status.allocatable);
    }
}

impl Defaults for Secret {
    fn set_defaults(&mut self) {
        // stringData is written over data and never kept (core/v1 conversion).
        for (key, text) in self.string_data.take().into_iter().flatten() {
            let bytes = k8s_openapi::ByteString(text.into_bytes());
            self.data.get_or_insert_default().insert(key, bytes);
        }
        fill(&mut self.type_, "Opaque");
    }
}

impl Defaults for PriorityClass {
    fn set_defaults(&mut self) {
        if unset(&self.preemption_policy) {
            self.preemption_policy = Some("PreemptLowerPriority".to_owned());
        }
    }
}

/// An empty map of data is not written, so there is nothing to see of the one default that a ConfigMap has.
impl Defaults for ConfigMap {
    fn set_defaults(&mut self) {}
}

macro_rules! no_defaults {
    ($($kind:ty),*) => {
        $(impl Defaults for $kind {
            fn set_defaults(&mut self) {}
        })*
    };
}

no_defaults!(
    Lease,
    Event,
    ServiceAccount,
    ControllerRevision,
    CSINode,
    CSIStorageCapacity,
    VolumeAttachment,
    PodDisruptionBudget
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check<T: Defaults + serde::de::DeserializeOwned + serde::Serialize>(object: Value, expected: Value) {
        let found = serde_json::from_value::<T>(object).ok().map(|mut object| {
            object.set_defaults();
            serde_json::to_value(object).unwrap_or_default()
        });
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn small_kinds() {
        check::<Namespace>(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "status": {"phase": "Active"}}),
        );
        check::<Secret>(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "stringData": {"a": "b"}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"a": "Yg=="}, "type": "Opaque"}),
        );
        check::<Node>(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {}, "status": {"capacity": {"cpu": "4000m"}}}),
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {}, "status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}}),
        );
        check::<PriorityClass>(
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {}, "value": 5}),
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {}, "value": 5, "preemptionPolicy": "PreemptLowerPriority"}),
        );
    }
}
