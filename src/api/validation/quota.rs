//! Quotas, limit ranges and runtime classes (kubernetes, pkg/apis/core/validation and pkg/apis/node/validation).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement, Toleration,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Serialize;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, changed_meta, new_meta};
use super::{Validate, format, resources, scheduling, text};
use crate::api::quantity::{Format, Quantity};
use crate::api::quota::Amounts;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
/// What quotas count (`standardQuotaResources`); `storage` alone is a resource, but not one of quotas.
const STANDARD: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

impl Validate for ResourceQuota {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        quota_spec(&self.spec.clone().unwrap_or_default(), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        let spec = self.spec.clone().unwrap_or_default();
        quota_spec(&spec, &mut errors);
        let scopes = |quota: &ResourceQuota| -> BTreeSet<String> {
            quota.spec.iter().flat_map(|spec| spec.scopes.iter().flatten()).cloned().collect()
        };
        if scopes(self) != scopes(old) {
            let path = Path::Root.child("spec");
            errors.push(FieldError::invalid(&path.child("scopes"), BadValue::json(&spec.scopes), "field is immutable"));
        }
        errors
    }
}

/// What is wrong with the status of a quota.
pub fn quota_status(hard: &Amounts, used: &Amounts) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = Path::Root.child("status");
    for (field, amounts) in [("hard", hard), ("used", used)] {
        quota_amounts(amounts.to_list().as_ref(), &status.child(field), &mut errors);
    }
    errors
}

fn quota_spec(spec: &ResourceQuotaSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    quota_amounts(spec.hard.as_ref(), &path.child("hard"), errors);
    scopes(spec, &path.child("scopes"), errors);
    if let Some(selector) = &spec.scope_selector {
        let requirements = selector.match_expressions.as_deref().unwrap_or_default();
        scope_selector(spec, requirements, &path.child("scopeSelector"), errors);
    }
}

fn quota_amounts(list: Option<&BTreeMap<String, Text>>, path: &Path<'_>, errors: &mut ErrorList) {
    for (name, amount) in list.into_iter().flatten() {
        let place = path.key(name);
        let before = errors.0.len();
        resource_name(name, &place, errors);
        if errors.0.len() == before && !name.contains('/') && !is_standard(name) {
            errors.push(FieldError::invalid(&place, name, "must be a standard resource for quota"));
        }
        resources::quantity(name, amount, &place, errors);
    }
}

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// A resource of any kind (`validateResourceName`).
fn resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let complaints = format::label_key(name);
    if !complaints.is_empty() {
        errors.invalid_each(path, name, complaints);
    } else if !name.contains('/') && !is_standard(name) && name != "storage" {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
}

/// True if a scope can narrow down what is counted of a resource (`IsResourceQuotaScopeValidForResource`).
fn applies(scope: &str, resource: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || compute.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => resource == "persistentvolumeclaims" || resource == "requests.storage",
        _ => true,
    }
}

fn misapplied<'a>(spec: &'a ResourceQuotaSpec, scope: &'a str) -> impl Iterator<Item = &'a String> {
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    names.filter(move |name| is_standard(name) && !applies(scope, name))
}

fn are_in_conflict(scopes: &BTreeSet<&str>) -> impl Iterator<Item = ()> {
    let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
    pairs
        .map(|(one, other)| scopes.contains(one) && scopes.contains(other))
        .into_iter()
        .filter(|both| *both)
        .map(|_| ())
}

fn scopes(spec: &ResourceQuotaSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(scopes) = spec.scopes.as_ref().filter(|scopes| !scopes.is_empty()) else { return };
    let mut complain = |message: &str| errors.push(FieldError::invalid(path, BadValue::json(scopes), message));
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            complain("unsupported scope");
        }
        misapplied(spec, scope).for_each(|_| complain("unsupported scope applied to resource"));
    }
    are_in_conflict(&scopes.iter().map(String::as_str).collect()).for_each(|()| complain("conflicting scopes"));
}

/// The original shows its internal struct, whose fields have capitals.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InternalSelector<'a> {
    match_expressions: Vec<InternalRequirement<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InternalRequirement<'a> {
    scope_name: &'a str,
    operator: &'a str,
    values: Option<&'a Vec<String>>,
}

impl<'a> InternalSelector<'a> {
    fn of(requirements: &'a [ScopedResourceSelectorRequirement]) -> Self {
        let one = |requirement: &'a ScopedResourceSelectorRequirement| InternalRequirement {
            scope_name: &requirement.scope_name,
            operator: &requirement.operator,
            values: requirement.values.as_ref(),
        };
        InternalSelector { match_expressions: requirements.iter().map(one).collect() }
    }
}

fn scope_selector(
    spec: &ResourceQuotaSpec,
    requirements: &[ScopedResourceSelectorRequirement],
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let path = path.child("matchExpressions");
    for requirement in requirements {
        let ScopedResourceSelectorRequirement { scope_name: scope, operator, values } = requirement;
        let values = values.as_deref().unwrap_or_default();
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in misapplied(spec, scope) {
            let shown = BadValue::json(&InternalSelector::of(requirements));
            errors.push(FieldError::invalid(&path, shown, "unsupported scope applied to resource"));
        }
        if SCOPES.contains(&scope.as_str())
            && !matches!(scope.as_str(), "PriorityClass" | "VolumeAttributesClass")
            && operator != "Exists"
        {
            let message = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                           ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                           ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&path.child("operator"), operator, message));
        }
        match operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let message = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&path.child("values"), message));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let message = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(FieldError::invalid(&path.child("values"), BadValue::json(&values), message));
            }
            "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator")),
        }
    }
    let named = requirements.iter().map(|requirement| requirement.scope_name.as_str()).collect();
    for () in are_in_conflict(&named) {
        errors.push(FieldError::invalid(&path, BadValue::json(&spec.scopes), "conflicting scopes"));
    }
}

impl Validate for LimitRange {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        let spec = Path::Root.child("spec");
        let path = spec.child("limits");
        let mut types = BTreeSet::new();
        for (position, item) in self.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let place = path.index(position);
            limit_type(&item.type_, &place.child("type"), &mut errors);
            if !types.insert(item.type_.as_str()) {
                errors.push(FieldError::duplicate(&place.child("type"), &item.type_));
            }
            limit_names(item, &place, &mut errors);
            limit_amounts(item, &place, &mut errors);
        }
        errors
    }

    /// The registry checks the new object alone.
    fn validate_update(&self, _old: &Self) -> ErrorList {
        self.validate()
    }
}

fn limit_type(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let complaints = format::label_key(name);
    if !complaints.is_empty() {
        errors.invalid_each(path, name, complaints);
    } else if !name.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&name) {
        errors.push(FieldError::invalid(path, name, "must be a standard limit type or fully qualified"));
    }
}

fn limit_names(item: &LimitRangeItem, path: &Path<'_>, errors: &mut ErrorList) {
    let check = |list: Option<&BTreeMap<String, Text>>, field: &str, errors: &mut ErrorList| {
        let place = path.child(field);
        for name in list.into_iter().flat_map(BTreeMap::keys) {
            match item.type_.as_str() {
                "Pod" | "Container" => resources::container_resource_name(name, &place.key(name), errors),
                _ => resource_name(name, &place.key(name), errors),
            }
        }
    };
    check(item.max.as_ref(), "max", errors);
    check(item.min.as_ref(), "min", errors);
    if item.type_ == "Pod" {
        for (list, field) in [(&item.default, "default"), (&item.default_request, "defaultRequest")] {
            if list.as_ref().is_some_and(|list| !list.is_empty()) {
                errors.push(FieldError::forbidden(&path.child(field), "may not be specified when `type` is 'Pod'"));
            }
        }
    } else {
        check(item.default.as_ref(), "default", errors);
        check(item.default_request.as_ref(), "defaultRequest", errors);
    }
    if item.type_ == "PersistentVolumeClaim" {
        let has =
            |list: &Option<BTreeMap<String, Text>>| list.as_ref().is_some_and(|list| list.contains_key("storage"));
        if !has(&item.min) && !has(&item.max) {
            let message = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(&path.child("limits"), message));
        }
    }
    check(item.max_limit_request_ratio.as_ref(), "maxLimitRequestRatio", errors);
}

/// Compares the amounts that are given for one resource.
fn limit_amounts(item: &LimitRangeItem, path: &Path<'_>, errors: &mut ErrorList) {
    let read = |list: &Option<BTreeMap<String, Text>>| Amounts::of_valid(list.as_ref());
    let (min, max, ratios) = (read(&item.min), read(&item.max), read(&item.max_limit_request_ratio));
    let (defaults, requests) = match item.type_.as_str() {
        "Pod" => Default::default(),
        _ => (read(&item.default), read(&item.default_request)),
    };
    let names: BTreeSet<_> = [&min, &max, &defaults, &requests, &ratios].into_iter().flat_map(Amounts::names).collect();
    for name in names {
        let (min, max, ratio) = (min.get(name), max.get(name), ratios.get(name));
        let (default, request) = (defaults.get(name), requests.get(name));
        let mut ordered = |field: &str,
                           shown: Option<Quantity>,
                           lesser: (&str, Option<Quantity>),
                           greater: (&str, Option<Quantity>)| {
            let ((less, Some(lesser)), (great, Some(greater)), Some(shown)) = (lesser, greater, shown) else { return };
            if lesser > greater {
                let message = format!("{less} value {lesser} is greater than {great} value {greater}");
                errors.push(FieldError::invalid(&path.child(field).key(name), &shown.to_string(), message));
            }
        };
        ordered("min", min, ("min", min), ("max", max));
        ordered("defaultRequest", request, ("min", min), ("default request", request));
        ordered("defaultRequest", request, ("default request", request), ("max", max));
        ordered("defaultRequest", request, ("default request", request), ("default limit", default));
        ordered("default", min, ("min", min), ("default", default));
        ordered("default", max, ("default", default), ("max", max));
        if let Some(ratio) = ratio {
            limit_ratio(ratio, min, max, &path.child("maxLimitRequestRatio").key(name), errors);
        }
        let is_native = !name.contains('/') || name.contains("kubernetes.io/");
        let may_overcommit = is_native && !name.starts_with("hugepages-");
        if let (false, Some(default), Some(request)) = (may_overcommit, default, request)
            && default != request
        {
            let message = format!("default value {default} must equal to defaultRequest value {request} in {name}");
            errors.push(FieldError::invalid(&path.child("defaultRequest").key(name), &request.to_string(), message));
        }
    }
}

fn limit_ratio(ratio: Quantity, min: Option<Quantity>, max: Option<Quantity>, path: &Path<'_>, errors: &mut ErrorList) {
    if ratio < Quantity::from_value(1, Format::DecimalSi) {
        errors.push(FieldError::invalid(path, &ratio.to_string(), format!("ratio {ratio} is less than 1")));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    // Thousandths where they can be told (`MaxMilliValue`).
    let fine = [ratio, min, max].iter().all(|amount| amount.value() < i64::MAX / 1000);
    let (ratio_value, min, max) = match fine {
        true => (ratio.milli_value() as f64 / 1000.0, min.milli_value(), max.milli_value()),
        false => (ratio.value() as f64, min.value(), max.value()),
    };
    let limit = max as f64 / min as f64;
    if ratio_value > limit {
        let message = format!("ratio {ratio} is greater than max/min = {limit:.6}");
        errors.push(FieldError::invalid(path, &ratio.to_string(), message));
    }
}

impl Validate for RuntimeClass {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        let handler = Path::Root.child("handler");
        match self.handler.as_str() {
            "" => errors.push(FieldError::required(&handler, "")),
            name => errors.invalid_each(&handler, name, format::dns_1123_label(name)),
        }
        if let Some(overhead) = &self.overhead {
            let limits = ResourceRequirements { limits: overhead.pod_fixed.clone(), ..ResourceRequirements::default() };
            resources::requirements(&limits, &BTreeSet::new(), &Path::Root.child("overhead"), &mut errors);
        }
        if let Some(wanted) = &self.scheduling {
            let path = Path::Root.child("scheduling");
            metadata::labels(&wanted.node_selector, &path.child("nodeSelector"), &mut errors);
            let tolerations = wanted.tolerations.as_deref().unwrap_or_default();
            let place = path.child("tolerations");
            scheduling::tolerations(tolerations, &place, &mut errors);
            let same = |one: &Toleration, other: &Toleration| {
                [&one.key, &one.operator, &one.value, &one.effect].map(text)
                    == [&other.key, &other.operator, &other.value, &other.effect].map(text)
            };
            for (position, toleration) in tolerations.iter().enumerate() {
                if tolerations[..position].iter().any(|before| same(before, toleration)) {
                    errors.push(FieldError::duplicate(&place.index(position), BadValue::json(toleration)));
                }
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = self.validate();
        errors.append(changed_meta(&self.metadata, &old.metadata));
        metadata::immutable(&self.handler, &old.handler, &Path::Root.child("handler"), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quota(spec: Value, expected: &str) {
        let quota = json!({"metadata": {"name": "q", "namespace": "x"}, "spec": spec});
        let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
        assert_eq!(quota.validate().to_string(), expected);
    }

    fn limit(limits: Value, expected: &str) {
        let range = json!({"metadata": {"name": "l", "namespace": "x"}, "spec": {"limits": limits}});
        let range: LimitRange = serde_json::from_value(range).expect("a limit range");
        assert_eq!(range.validate().to_string(), expected);
    }

    #[test]
    fn quotas_name_what_can_be_counted() {
        quota(
            json!({"hard": {
                "cpu": "100", "requests.memory": "1Gi", "pods": "10", "count/deployments.apps": "3",
                "services.nodeports": "2", "requests.example.com/gpu": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"
            }}),
            "",
        );
        quota(json!({"hard": {"pods": "1500m"}}), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer");
        quota(
            json!({"hard": {"storage": "1"}}),
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        );
        quota(
            json!({"hard": {"cpu": "-1"}}),
            "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        );
        quota(
            json!({"hard": {"horses": "1"}}),
            "spec.hard[horses]: Invalid value: \"horses\": must be a standard resource type or fully qualified",
        );
    }

    #[test]
    fn scopes_fit_what_is_counted_and_each_other() {
        quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]}), "");
        quota(
            json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        );
        quota(
            json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        );
        quota(json!({"scopes": ["Blue"]}), "spec.scopes: Invalid value: [\"Blue\"]: unsupported scope");
        let selector = |requirement: Value| json!({"scopeSelector": {"matchExpressions": [requirement]}});
        quota(selector(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]})), "");
        quota(
            selector(json!({"scopeName": "PriorityClass", "operator": "In"})),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
             'In' or 'NotIn' for scope selector",
        );
        quota(
            selector(json!({"scopeName": "PriorityClass", "operator": "Like"})),
            "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Like\": not a valid selector operator",
        );
    }

    #[test]
    fn limits_are_in_order() {
        limit(
            json!([{
                "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"}, "default": {"cpu": "1"},
                "defaultRequest": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "10"}
            }]),
            "",
        );
        limit(
            json!([{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        );
        limit(
            json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}]),
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default \
             limit value 1",
        );
        limit(
            json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "3"}}]),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        );
        limit(
            json!([{"type": "Pod", "default": {"cpu": "1"}}]),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        );
        limit(
            json!([{"type": "PersistentVolumeClaim"}]),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was \
             provided",
        );
        limit(json!([{"type": "Pod"}, {"type": "Pod"}]), "spec.limits[1].type: Duplicate value: \"Pod\"");
    }

    #[test]
    fn runtime_classes_name_a_handler_that_stays() {
        let class = |value: Value| -> RuntimeClass { serde_json::from_value(value).expect("a runtime class") };
        let good = class(json!({"metadata": {"name": "kata", "resourceVersion": "1"}, "handler": "kata"}));
        assert_eq!(good.validate().to_string(), "");
        let none = class(json!({"metadata": {"name": "kata"}, "handler": ""}));
        assert_eq!(none.validate().to_string(), "handler: Required value");
        let mut other = good.clone();
        other.handler = "runc".to_owned();
        assert_eq!(other.validate_update(&good).to_string(), "handler: Invalid value: \"runc\": field is immutable");
    }
}
