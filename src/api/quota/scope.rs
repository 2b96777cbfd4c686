//! Which objects a quota speaks of: its scopes (kubernetes, pkg/quota/v1/evaluator/core).

use k8s_openapi::api::core::v1 as core;

use super::ResourceQuota;
use crate::api::object::Object;
use crate::api::pod::{Pod, QosClass};

/// True if an object is in all scopes of a quota. A quota without scopes speaks of everything, one with scopes only of pods and
/// claims.
pub fn matches_scopes(quota: &ResourceQuota, object: &Object) -> bool {
    let named = quota.spec.scopes.iter().flatten().all(|scope| is_in(scope, "Exists", &[], object));
    let selector = quota.spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    let selected = selector.into_iter().flatten().all(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        is_in(&requirement.scope_name, &requirement.operator, values, object)
    });
    named && selected
}

fn is_in(scope: &str, operator: &str, values: &[String], object: &Object) -> bool {
    match object {
        Object::Pod(pod) => pod_is_in(scope, operator, values, pod),
        Object::PersistentVolumeClaim(claim) => {
            scope == "VolumeAttributesClass" && claim_is_in(operator, values, &claim.content)
        }
        _ => false,
    }
}

/// `podMatchesScopeFunc`.
fn pod_is_in(scope: &str, operator: &str, values: &[String], pod: &Pod) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => pod.spec.qos == QosClass::BestEffort,
        "NotBestEffort" => pod.spec.qos != QosClass::BestEffort,
        "PriorityClass" => has_value(pod.spec.full.priority_class_name.as_deref(), operator, values),
        "CrossNamespacePodAffinity" => looks_into_other_namespaces(&pod.spec.full),
        _ => false,
    }
}

/// `pvcMatchesScopeFunc`: any of the classes that the claim has, wants or is on the way to.
fn claim_is_in(operator: &str, values: &[String], claim: &core::PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let names = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()),
        status.and_then(|status| status.current_volume_attributes_class_name.as_deref()),
        status
            .and_then(|status| status.modify_volume_status.as_ref())
            .and_then(|modify| modify.target_volume_attributes_class_name.as_deref()),
    ];
    let mut names = names.into_iter().flatten().filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return has_value(None, operator, values);
    }
    names.any(|name| has_value(Some(name), operator, values))
}

/// A selector over one label, which is absent if there is no value.
fn has_value(value: Option<&str>, operator: &str, values: &[String]) -> bool {
    let value = value.filter(|value| !value.is_empty());
    let listed = || value.is_some_and(|value| values.iter().any(|listed| listed == value));
    match operator {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => listed(),
        "NotIn" => !listed(),
        _ => false,
    }
}

/// True if a pod is to end after a time (`IsTerminating`).
pub fn is_terminating(pod: &Pod) -> bool {
    pod.spec.full.active_deadline_seconds.is_some_and(|seconds| seconds >= 0)
}

fn looks_into_other_namespaces(full: &core::PodSpec) -> bool {
    let Some(affinity) = &full.affinity else { return false };
    let crosses = |term: &core::PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    };
    let required = [
        affinity.pod_affinity.as_ref().and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
        affinity
            .pod_anti_affinity
            .as_ref()
            .and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        affinity.pod_affinity.as_ref().and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
        affinity
            .pod_anti_affinity
            .as_ref()
            .and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    required.into_iter().flatten().flatten().any(crosses)
        || preferred.into_iter().flatten().flatten().any(|weighted| crosses(&weighted.pod_affinity_term))
}
