//! Autoscalers (kubernetes, pkg/apis/autoscaling/validation).

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::error::{ErrorList, FieldError, Path};
use super::metadata::{Scope, changed_meta, new_meta};
use super::{Validate, format, resources, text};
use crate::api::quantity::Quantity;

/// The longest period of a policy, in seconds.
const LONGEST_PERIOD: i32 = 1800;
/// The longest stabilization window, in seconds.
const LONGEST_WINDOW: i32 = 3600;
const SOURCES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

impl Validate for HorizontalPodAutoscaler {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        spec(&self.spec, None, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        spec(&self.spec, Some(&old.spec), &mut errors);
        errors
    }
}

/// What may have an API version without a group, or any.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    WithGroup,
    AnyGroup,
    Anything,
}

fn spec(spec: &HorizontalPodAutoscalerSpec, old: Option<&HorizontalPodAutoscalerSpec>, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    // Scaling to zero is an alpha feature; who has it keeps it.
    let lowest = if old.is_some_and(|old| old.min_replicas == Some(0)) { 0 } else { 1 };
    if let Some(min) = spec.min_replicas.filter(|min| *min < lowest) {
        let message = format!("must be greater than or equal to {lowest}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, message));
    }
    let max = spec.max_replicas;
    if max == 0 {
        errors.push(FieldError::required(&path.child("maxReplicas"), "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, "must be greater than or equal to 1"));
    }
    if spec.min_replicas.is_some_and(|min| max < min) {
        let message = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&path.child("maxReplicas"), max, message));
    }
    let target = &spec.scale_target_ref;
    let same = |old: &HorizontalPodAutoscalerSpec| {
        let before = &old.scale_target_ref;
        before.api_version == target.api_version && before.kind == target.kind
    };
    let version = match old {
        Some(old) if same(old) => Version::Anything,
        _ if target.kind == "ReplicationController" => Version::AnyGroup,
        _ => Version::WithGroup,
    };
    reference(target, version, &path.child("scaleTargetRef"), errors);
    metrics(spec, &path.child("metrics"), errors);
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (name, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                scaling_rules(rules, &path.child(name), errors);
            }
        }
    }
}

fn path_segment(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let whole = [".", ".."].into_iter().filter(|whole| *whole == name).map(|whole| format!("may not be '{whole}'"));
    let parts =
        ["/", "%"].into_iter().filter(|part| name.contains(part)).map(|part| format!("may not contain '{part}'"));
    errors.invalid_each(path, name, whole.chain(parts).collect());
}

fn reference(reference: &CrossVersionObjectReference, version: Version, path: &Path<'_>, errors: &mut ErrorList) {
    for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
        match value.as_str() {
            "" => errors.push(FieldError::required(&path.child(field), "")),
            name => path_segment(name, &path.child(field), errors),
        }
    }
    let given = text(&reference.api_version);
    let complaint = match given.matches('/').count() {
        _ if version == Version::Anything => None,
        0 if version == Version::WithGroup => Some("apiVersion must specify API group".to_owned()),
        0 | 1 => None,
        _ => Some(format!("unexpected GroupVersion string: {given}")),
    };
    if let Some(complaint) = complaint {
        errors.push(FieldError::invalid(&path.child("apiVersion"), given, complaint));
    }
}

fn metrics(spec: &HorizontalPodAutoscalerSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let all = spec.metrics.as_deref().unwrap_or_default();
    for (position, metric) in all.iter().enumerate() {
        metric_spec(metric, &path.index(position), errors);
    }
    let outside = |metric: &MetricSpec| metric.type_ == "Object" || metric.type_ == "External";
    if spec.min_replicas == Some(0) && !all.iter().any(outside) {
        let message = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, message));
    }
}

fn metric_spec(metric: &MetricSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = metric.type_.as_str();
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
    }
    if !SOURCES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &SOURCES));
    }
    let present = [
        ("object", "Object", metric.object.is_some()),
        ("external", "External", metric.external.is_some()),
        ("pods", "Pods", metric.pods.is_some()),
        ("resource", "Resource", metric.resource.is_some()),
        ("containerResource", "ContainerResource", metric.container_resource.is_some()),
    ];
    let given: Vec<&str> = present.iter().filter(|(.., given)| *given).map(|(field, ..)| *field).collect();
    if let Some(first) = given.first() {
        source(metric, first, &path.child(first), errors);
    }
    let expected = present.iter().find(|(_, name, _)| *name == kind);
    match expected {
        Some((field, _, false)) => {
            let message = "must populate information for the given metric source";
            errors.push(FieldError::required(&path.child(field), message));
        }
        Some(_) => {}
        None => errors.push(FieldError::not_supported(&path.child("type"), kind, &SOURCES)),
    }
    if given.len() != 1 {
        for other in given.iter().filter(|field| expected.is_none_or(|(expected, ..)| *field != expected)) {
            errors.push(FieldError::forbidden(&path.child(other), "must populate the given metric source only"));
        }
    }
}

fn source(metric: &MetricSpec, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let place = path.child("target");
    match field {
        "object" => {
            let Some(object) = &metric.object else { return };
            reference(&object.described_object, Version::AnyGroup, &path.child("describedObject"), errors);
            identifier(&object.metric, &path.child("metric"), errors);
            target(&object.target, &place, errors);
            if object.target.value.is_none() && object.target.average_value.is_none() {
                let message = "must set either a target value or averageValue";
                errors.push(FieldError::required(&place.child("averageValue"), message));
            }
        }
        "external" => {
            let Some(external) = &metric.external else { return };
            identifier(&external.metric, &path.child("metric"), errors);
            target(&external.target, &place, errors);
            let (value, average) = (&external.target.value, &external.target.average_value);
            if value.is_none() && average.is_none() {
                let message = "must set either a target value for metric or a per-pod target";
                errors.push(FieldError::required(&place.child("averageValue"), message));
            }
            if value.is_some() && average.is_some() {
                let message = "may not set both a target value for metric and a per-pod target";
                errors.push(FieldError::forbidden(&place.child("value"), message));
            }
        }
        "pods" => {
            let Some(pods) = &metric.pods else { return };
            identifier(&pods.metric, &path.child("metric"), errors);
            target(&pods.target, &place, errors);
            if pods.target.average_value.is_none() {
                let message = "must specify a positive target averageValue";
                errors.push(FieldError::required(&place.child("averageValue"), message));
            }
        }
        "resource" => {
            let Some(resource) = &metric.resource else { return };
            resource_source(&resource.name, &resource.target, None, path, errors);
        }
        _ => {
            let Some(resource) = &metric.container_resource else { return };
            resource_source(&resource.name, &resource.target, Some(&resource.container), path, errors);
        }
    }
}

fn resource_source(
    name: &str,
    wanted: &MetricTarget,
    container: Option<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "must specify a resource name"));
    } else if container.is_some() {
        resources::container_resource_name(name, &path.child("name"), errors);
    }
    match container {
        Some("") => errors.push(FieldError::required(&path.child("container"), "must specify a container")),
        Some(name) => errors.invalid_each(&path.child("container"), name, format::dns_1123_label(name)),
        None => {}
    }
    let place = path.child("target");
    target(wanted, &place, errors);
    if wanted.average_utilization.is_none() && wanted.average_value.is_none() {
        let message = "must set either a target raw value or a target utilization";
        errors.push(FieldError::required(&place.child("averageUtilization"), message));
    }
    if wanted.average_utilization.is_some() && wanted.average_value.is_some() {
        let message = "may not set both a target raw value and a target utilization";
        errors.push(FieldError::forbidden(&place.child("averageValue"), message));
    }
}

fn identifier(metric: &MetricIdentifier, path: &Path<'_>, errors: &mut ErrorList) {
    match metric.name.as_str() {
        "" => errors.push(FieldError::required(&path.child("name"), "must specify a metric name")),
        name => path_segment(name, &path.child("name"), errors),
    }
}

fn target(target: &MetricTarget, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = target.type_.as_str();
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let message = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&path.child("type"), kind, message));
    }
    let is_positive = |text: &Text| Quantity::of(text).is_ok_and(|amount| amount > Quantity::ZERO);
    for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount.as_ref().filter(|amount| !is_positive(amount)) {
            errors.push(FieldError::invalid(&path.child(field), &amount.0, "must be positive"));
        }
    }
    if let Some(share) = target.average_utilization.filter(|share| *share < 1) {
        errors.push(FieldError::invalid(&path.child("averageUtilization"), share, "must be greater than 0"));
    }
}

fn scaling_rules(rules: &HPAScalingRules, path: &Path<'_>, errors: &mut ErrorList) {
    let window = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(seconds) if seconds < 0 => {
            errors.push(FieldError::invalid(&window, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > LONGEST_WINDOW => {
            errors.push(FieldError::invalid(
                &window,
                seconds,
                format!("must be less than or equal to {LONGEST_WINDOW}"),
            ));
        }
        _ => {}
    }
    let choices = ["Disabled", "Max", "Min"];
    if let Some(choice) = rules.select_policy.as_deref().filter(|choice| !choices.contains(choice)) {
        errors.push(FieldError::not_supported(&path.child("selectPolicy"), choice, &choices));
    }
    let place = path.child("policies");
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.push(FieldError::required(&place, "must specify at least one Policy"));
    }
    for (position, policy) in policies.iter().enumerate() {
        scaling_policy(policy, &place.index(position), errors);
    }
    if let Some(tolerance) = rules.tolerance.as_ref().filter(|it| Quantity::of(it).is_ok_and(Quantity::is_negative)) {
        let message = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("tolerance"), &tolerance.0, message));
    }
}

fn scaling_policy(policy: &HPAScalingPolicy, path: &Path<'_>, errors: &mut ErrorList) {
    let kinds = ["Percent", "Pods"];
    if !kinds.contains(&policy.type_.as_str()) {
        errors.push(FieldError::not_supported(&path.child("type"), &policy.type_, &kinds));
    }
    for (field, value) in [("value", policy.value), ("periodSeconds", policy.period_seconds)] {
        if value <= 0 {
            errors.push(FieldError::invalid(&path.child(field), value, "must be greater than zero"));
        }
    }
    if policy.period_seconds > LONGEST_PERIOD {
        let message = format!("must be less than or equal to {LONGEST_PERIOD}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), policy.period_seconds, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(change: impl FnOnce(&mut Value), expected: &str) {
        let mut value = json!({
            "metadata": {"name": "web", "namespace": "x"},
            "spec": {
                "minReplicas": 1, "maxReplicas": 5,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
                }],
                "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1800}]}}
            }
        });
        change(&mut value["spec"]);
        let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(value).expect("an autoscaler");
        assert_eq!(autoscaler.validate().to_string(), expected);
    }

    #[test]
    fn bounds_and_target() {
        check(|_| {}, "");
        check(
            |spec| spec["minReplicas"] = 0.into(),
            "[spec.minReplicas: Invalid value: 0: must be greater than or equal to 1, spec.metrics: Forbidden: must specify \
             at least one Object or External metric to support scaling to zero replicas]",
        );
        check(
            |spec| spec["maxReplicas"] = 0.into(),
            "[spec.maxReplicas: Required value: must be set and greater than 0, spec.maxReplicas: Invalid value: 0: must be \
             greater than or equal to `minReplicas`]",
        );
        check(
            |spec| spec["scaleTargetRef"]["apiVersion"] = "v1".into(),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
        );
    }

    #[test]
    fn each_measure_has_its_own_source_and_a_target() {
        check(
            |spec| spec["metrics"][0]["resource"]["target"] = json!({"type": "Utilization"}),
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a \
             target utilization",
        );
        check(
            |spec| spec["metrics"][0]["type"] = "Pods".into(),
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        );
        check(
            |spec| {
                let target = json!({"type": "Value", "value": "0"});
                spec["metrics"][0] =
                    json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": target}});
            },
            "spec.metrics[0].external.target.value: Invalid value: \"0\": must be positive",
        );
    }

    #[test]
    fn rules_have_policies_within_half_an_hour() {
        check(
            |spec| spec["behavior"]["scaleUp"]["policies"] = json!([]),
            "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
        );
        check(
            |spec| spec["behavior"]["scaleUp"]["policies"][0]["periodSeconds"] = 1801.into(),
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        );
        check(
            |spec| spec["behavior"]["scaleUp"]["tolerance"] = "-1".into(),
            "spec.behavior.scaleUp.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
        );
    }
}
