//! How many pods a disruption budget's owners want, and how many of them must be healthy.

use std::collections::BTreeMap;
use std::rc::Rc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::api::int_or_string::{IntOrString, Round, scaled_value};
use crate::api::kind::Kind;
use crate::api::meta::{OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::policy::PodDisruptionBudget;
use crate::api::stateful::StatefulSet;
use crate::api::workload::{Deployment, ReplicaSet, ReplicationController};
use crate::client::view::View;

use super::super::owner;

/// What a budget reckons with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Expected {
    /// How many pods there should be.
    pub count: i32,
    /// How many of them must stay healthy.
    pub desired: i32,
    /// Pods without controller were left out of the count.
    pub has_unmanaged: bool,
}

/// How many pods there should be and how many must be healthy (`getExpectedPodCount`). A number of pods that must be
/// available needs no owners; anything else is a part of what they want.
pub(super) fn expected(view: &View<'_>, budget: &PodDisruptionBudget, pods: &[&Rc<Pod>]) -> Result<Expected, String> {
    let Some(spec) = &budget.content.spec else { return Ok(Expected::default()) };
    let part = |value: &IntOrString, of: i32| {
        let part = scaled_value(value, i64::from(of), Round::Up).map_err(|error| error.to_string())?;
        Ok::<_, String>(i32::try_from(part).unwrap_or(i32::MAX))
    };
    Ok(match (&spec.max_unavailable, &spec.min_available) {
        (Some(max_unavailable), _) => {
            let (count, has_unmanaged) = owners_want(view, pods)?;
            let desired = (count - part(max_unavailable, count)?).max(0);
            Expected { count, desired, has_unmanaged }
        }
        (None, Some(IntOrString::Int(desired))) => {
            let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
            Expected { count, desired: *desired, has_unmanaged: false }
        }
        (None, Some(share)) => {
            let (count, has_unmanaged) = owners_want(view, pods)?;
            Expected { count, desired: part(share, count)?, has_unmanaged }
        }
        (None, None) => Expected::default(),
    })
}

/// The sum of what the controllers of the pods want, and whether there are pods without one (`getExpectedScale`).
fn owners_want(view: &View<'_>, pods: &[&Rc<Pod>]) -> Result<(i32, bool), String> {
    // By the owner of the pod what was found, which for a ReplicaSet is the scale of its Deployment.
    let mut known: BTreeMap<Uid, Uid> = BTreeMap::new();
    let mut scales: BTreeMap<Uid, i32> = BTreeMap::new();
    let mut has_unmanaged = false;
    for pod in pods {
        let Some(controller) = pod.meta.controller() else {
            has_unmanaged = true;
            continue;
        };
        if known.contains_key(&controller.uid) {
            continue;
        }
        let found = scale_of(view, controller, &pod.meta.namespace)?;
        let (uid, scale) = found.ok_or_else(|| format!("found no controllers for pod \"{}\"", pod.meta.name))?;
        known.insert(controller.uid, uid);
        scales.insert(uid, scale);
    }
    Ok((scales.values().sum(), has_unmanaged))
}

/// The controller that decides about a pod's number, and how many it wants (`finders`). A ReplicaSet that belongs to a
/// Deployment counts as that; if its Deployment is not known, it counts itself, as its scale subresource would say.
fn scale_of(view: &View<'_>, controller: &OwnerReference, namespace: &Name) -> Result<Option<(Uid, i32)>, String> {
    let group = controller.api_version.split_once('/').map_or("", |(group, _)| group);
    Ok(match (group, &*controller.kind) {
        ("", "ReplicationController") => {
            owner::resolve::<ReplicationController>(view, namespace, controller).map(|it| (it.meta.uid, it.replicas))
        }
        ("apps" | "extensions", "ReplicaSet") => owner::resolve::<ReplicaSet>(view, namespace, controller).map(|set| {
            let deployment =
                set.meta.controller().and_then(|owner| owner::resolve::<Deployment>(view, namespace, owner));
            deployment.map_or((set.meta.uid, set.replicas), |it| (it.meta.uid, it.spec.replicas))
        }),
        ("apps", "StatefulSet") => {
            owner::resolve::<StatefulSet>(view, namespace, controller).map(|set| (set.meta.uid, set.spec.replicas))
        }
        _ => return Err(no_scale(controller)),
    })
}

/// Why the pods of a kind cannot be counted on (`getScaleController`).
fn no_scale(controller: &OwnerReference) -> String {
    let (kind, version) = (&controller.kind, &controller.api_version);
    match Kind::of_manifest(version, kind) {
        Some(kind) => format!("{} does not implement the scale subresource", kind.row().qualified_plural()),
        None => format!("no matches for kind \"{kind}\" in version \"{version}\""),
    }
}

/// What is said of a budget that selects pods without controller, with the selector as Go prints it.
pub(super) fn unmanaged_message(budget: &PodDisruptionBudget) -> String {
    let selector = budget.content.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of \
         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
         set \".spec.minAvailable\" field of the PDB to an integer value.",
        selector.map_or_else(|| "nil".to_owned(), go_text)
    )
}

fn go_text(selector: &LabelSelector) -> String {
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let requirement = |it: &LabelSelectorRequirement| {
        let values = it.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", it.key, it.operator)
    };
    let expressions: String = selector.match_expressions.iter().flatten().map(requirement).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
