//! What every cluster has from its beginning.

use std::rc::Rc;

use k8s_openapi::api::scheduling::v1 as scheduling;

use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::plain::{Namespace, PriorityClass};

use super::protocol::new_meta;

/// The namespaces of every cluster (kube-apiserver: system namespaces controller, and `default`).
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The classes of every cluster: name and value (kubernetes, pkg/apis/scheduling/v1/helpers).
const PRIORITY_CLASSES: [(&str, i32, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// All of it, namespaces first.
pub fn objects() -> impl Iterator<Item = Object> {
    let namespaces = NAMESPACES.into_iter().map(|name| {
        let namespace = Namespace {
            meta: new_meta("", Name::of(name)),
            finalizers: Rc::new([]),
            terminating: false,
            conditions: Rc::new([]),
        };
        namespace.boxed()
    });
    let classes = PRIORITY_CLASSES.into_iter().map(|(name, value, description)| {
        let content = scheduling::PriorityClass {
            value: Some(value),
            description: Some(description.to_owned()),
            preemption_policy: Some("PreemptLowerPriority".to_owned()),
            ..scheduling::PriorityClass::default()
        };
        PriorityClass { meta: new_meta("", Name::of(name)), content: Rc::new(content) }.boxed()
    });
    namespaces.chain(classes)
}
