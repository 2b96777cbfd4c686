//! Disruption budgets.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope};
use super::workload::{not_above_hundred_percent, number_or_percent};
use super::{Validate, format, selector};

impl Validate for PodDisruptionBudget {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        spec(self.spec.as_ref().unwrap_or(&PodDisruptionBudgetSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        spec(self.spec.as_ref().unwrap_or(&PodDisruptionBudgetSpec::default()), &mut errors);
        errors
    }
}

fn spec(spec: &PodDisruptionBudgetSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let message = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&path, BadValue::json(&InternalSpec::of(spec)), message));
    }
    for (name, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
        if let Some(value) = value {
            let place = path.child(name);
            number_or_percent(value, &place, errors);
            not_above_hundred_percent(value, &place, errors);
        }
    }
    if let Some(labels) = &spec.selector {
        selector::label_selector(labels, &path.child("selector"), errors);
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref().filter(|policy| !policies.contains(policy)) {
        errors.push(FieldError::not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, &policies));
    }
}

/// The original shows its internal struct, whose fields have capitals and are all there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InternalSpec<'a> {
    min_available: Option<&'a IntOrString>,
    selector: Option<&'a LabelSelector>,
    max_unavailable: Option<&'a IntOrString>,
    unhealthy_pod_eviction_policy: Option<&'a str>,
}

impl<'a> InternalSpec<'a> {
    fn of(spec: &'a PodDisruptionBudgetSpec) -> Self {
        InternalSpec {
            min_available: spec.min_available.as_ref(),
            selector: spec.selector.as_ref(),
            max_unavailable: spec.max_unavailable.as_ref(),
            unhealthy_pod_eviction_policy: spec.unhealthy_pod_eviction_policy.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: &str) {
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a", "namespace": "x"},
            "spec": spec,
        });
        let budget: PodDisruptionBudget = serde_json::from_value(budget).expect("a budget");
        assert_eq!(budget.validate().to_string(), expected);
    }

    #[test]
    fn a_budget_says_how_many_stay_or_how_many_may_go() {
        check(json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}), "");
        check(json!({"minAvailable": -1}), "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0");
        check(
            json!({"maxUnavailable": "101%"}),
            "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        );
        check(
            json!({"minAvailable": 1, "maxUnavailable": 1}),
            "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
        );
        check(
            json!({"unhealthyPodEvictionPolicy": "Never"}),
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        );
    }
}
