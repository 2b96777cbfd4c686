//! Deployments, ReplicaSets and their statuses.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus,
    RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, immutable};
use super::{Validate, format, not_negative, pod, selector, text};
use crate::api::int_or_string::parse_percent;
use crate::api::selector::Selector;

impl Validate for Deployment {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        deployment_spec(self.spec.as_ref().unwrap_or(&DeploymentSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = DeploymentSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        deployment_spec(new, &mut errors);
        immutable(&new.selector, &old.selector, &Path::Root.child("spec.selector"), &mut errors);
        errors
    }
}

impl Validate for ReplicaSet {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        replica_set_spec(self.spec.as_ref().unwrap_or(&ReplicaSetSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = ReplicaSetSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        replica_set_spec(new, &mut errors);
        immutable(&new.selector, &old.selector, &Path::Root.child("spec.selector"), &mut errors);
        errors
    }
}

fn deployment_spec(spec: &DeploymentSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    not_negative(spec.replicas.unwrap_or_default().into(), &path.child("replicas"), errors);
    selector_and_template(&spec.selector, &spec.template, &path, errors);
    strategy(spec.strategy.as_ref().unwrap_or(&DeploymentStrategy::default()), &path.child("strategy"), errors);
    let ready_seconds = spec.min_ready_seconds.unwrap_or_default();
    not_negative(ready_seconds.into(), &path.child("minReadySeconds"), errors);
    if let Some(limit) = spec.revision_history_limit {
        not_negative(limit.into(), &path.child("revisionHistoryLimit"), errors);
    }
    if let Some(deadline) = spec.progress_deadline_seconds {
        let place = path.child("progressDeadlineSeconds");
        not_negative(deadline.into(), &place, errors);
        if deadline <= ready_seconds {
            errors.push(FieldError::invalid(&place, deadline, "must be greater than minReadySeconds"));
        }
    }
}

fn replica_set_spec(spec: &ReplicaSetSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    not_negative(spec.replicas.unwrap_or_default().into(), &path.child("replicas"), errors);
    not_negative(spec.min_ready_seconds.unwrap_or_default().into(), &path.child("minReadySeconds"), errors);
    let template = spec.template.clone().unwrap_or_default();
    selector_and_template(&spec.selector, &template, &path, errors);
}

pub(super) fn selector_and_template(
    labels: &LabelSelector,
    template: &PodTemplateSpec,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let place = path.child("selector");
    // The types here cannot tell an absent selector from an empty one; manifests leave it out rather than empty.
    let absent = selector::is_empty(labels);
    if absent {
        errors.push(FieldError::required(&place, ""));
    }
    selector::label_selector(labels, &place, errors);
    let template_path = path.child("template");
    let Ok(compiled) = Selector::compile(Some(labels)) else {
        return errors.push(FieldError::invalid(&place, BadValue::json(labels), "invalid label selector"));
    };
    let empty = BTreeMap::new();
    let template_labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref()).unwrap_or(&empty);
    // An absent selector matches nothing.
    if absent || !compiled.matches(template_labels) {
        let shown = match template_labels.is_empty() {
            true => BadValue::json(&None::<()>),
            false => BadValue::json(template_labels),
        };
        let message = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&template_path.child("metadata.labels"), shown, message));
    }
    pod::pod_template(template, &template_path, errors);
    let spec = template.spec.as_ref();
    let policy = spec.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    if policy != "Always" {
        errors.push(FieldError::not_supported(&template_path.child("spec.restartPolicy"), policy, &["Always"]));
    }
    if spec.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let message = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden(&template_path.child("spec.activeDeadlineSeconds"), message));
    }
}

fn strategy(strategy: &DeploymentStrategy, path: &Path<'_>, errors: &mut ErrorList) {
    let rolling_path = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            let message = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&rolling_path, message));
        }
        ("RollingUpdate", None) => {
            errors.push(FieldError::required(&rolling_path, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => {
            let zero = IntOrString::Int(0);
            let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
            let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
            let unavailable_path = rolling_path.child("maxUnavailable");
            number_or_percent(unavailable, &unavailable_path, errors);
            number_or_percent(surge, &rolling_path.child("maxSurge"), errors);
            if number(unavailable) == 0 && number(surge) == 0 {
                let message = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(&unavailable_path, BadValue::json(unavailable), message));
            }
            not_above_hundred_percent(unavailable, &unavailable_path, errors);
        }
        (_, rolling) => {
            // The original shows its internal struct, whose fields have capitals.
            let shown = InternalStrategy { kind: text(&strategy.type_), rolling_update: rolling.as_ref() };
            errors.push(FieldError::not_supported(path, BadValue::json(&shown), &["Recreate", "RollingUpdate"]));
        }
    }
}

#[derive(Serialize)]
struct InternalStrategy<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    #[serde(rename = "RollingUpdate")]
    rolling_update: Option<&'a RollingUpdateDeployment>,
}

pub(super) fn number_or_percent(value: &IntOrString, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        IntOrString::Int(number) => not_negative((*number).into(), path, errors),
        IntOrString::String(text) => errors.invalid_each(path, text, format::percent(text)),
    }
}

pub(super) fn not_above_hundred_percent(value: &IntOrString, path: &Path<'_>, errors: &mut ErrorList) {
    if matches!(value, IntOrString::String(_)) && number(value) > 100 {
        errors.push(FieldError::invalid(path, BadValue::json(value), "must not be greater than 100%"));
    }
}

/// The number, or the one before the percent sign; zero for what is neither.
fn number(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => (*number).into(),
        IntOrString::String(text) => parse_percent(text).or_else(|_| text.parse().map_err(|_| ())).unwrap_or_default(),
    }
}

/// Checks the status that a controller writes.
pub fn deployment_status(new: &DeploymentStatus, old: &DeploymentStatus) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::Root.child("status");
    not_negative(new.observed_generation.unwrap_or_default(), &path.child("observedGeneration"), &mut errors);
    let counts = [
        ("replicas", new.replicas),
        ("updatedReplicas", new.updated_replicas),
        ("readyReplicas", new.ready_replicas),
        ("availableReplicas", new.available_replicas),
        ("unavailableReplicas", new.unavailable_replicas),
        ("terminatingReplicas", new.terminating_replicas),
        ("collisionCount", new.collision_count),
    ];
    for (name, count) in counts {
        not_negative(count.unwrap_or_default().into(), &path.child(name), &mut errors);
    }
    let all = new.replicas.unwrap_or_default();
    not_more_than(&counts[1..4], all, "cannot be greater than status.replicas", &path, &mut errors);
    let ready = new.ready_replicas.unwrap_or_default();
    not_more_than(&counts[3..4], ready, "cannot be greater than readyReplicas", &path, &mut errors);
    let collisions = new.collision_count.unwrap_or_default();
    if collisions < old.collision_count.unwrap_or_default() {
        errors.push(FieldError::invalid(&path.child("collisionCount"), collisions, "cannot be decremented"));
    }
    errors
}

/// Checks the status that a controller writes.
pub fn replica_set_status(status: &ReplicaSetStatus) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::Root.child("status");
    let counts = [
        ("replicas", Some(status.replicas)),
        ("fullyLabeledReplicas", status.fully_labeled_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
        ("terminatingReplicas", status.terminating_replicas),
    ];
    for (name, count) in counts {
        not_negative(count.unwrap_or_default().into(), &path.child(name), &mut errors);
    }
    not_negative(status.observed_generation.unwrap_or_default(), &path.child("observedGeneration"), &mut errors);
    not_more_than(&counts[1..4], status.replicas, "cannot be greater than status.replicas", &path, &mut errors);
    let ready = status.ready_replicas.unwrap_or_default();
    not_more_than(&counts[3..4], ready, "cannot be greater than readyReplicas", &path, &mut errors);
    errors
}

fn not_more_than(counts: &[(&str, Option<i32>)], limit: i32, message: &str, path: &Path<'_>, errors: &mut ErrorList) {
    for (name, count) in counts.iter().map(|(name, count)| (name, count.unwrap_or_default())) {
        if count > limit {
            errors.push(FieldError::invalid(&path.child(name), count, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use serde_json::{Value, json};

    fn deployment(spec: Value) -> Deployment {
        let metadata = json!({"name": "web", "namespace": "x", "resourceVersion": "1"});
        let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
        let mut deployment: Deployment = serde_json::from_value(value).unwrap_or_default();
        deployment.set_defaults();
        deployment
    }

    fn with(changes: Value) -> Deployment {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "x"}]}}
        });
        json_patch::merge(&mut spec, &changes);
        deployment(spec)
    }

    fn check(changes: Value, expected: &[&str]) {
        let found: Vec<String> = with(changes).validate().0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn deployments_are_refused_with_the_real_texts() {
        check(json!({}), &[]);
        check(
            json!({"template": {"metadata": {"labels": {"app": "wep"}}}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"wep\"}: `selector` does not match template `labels`",
            ],
        );
        check(json!({"replicas": -1}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
        check(
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
        );
        check(
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}, "progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ],
        );
        check(
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        );
        check(
            json!({"strategy": {"type": "Blue"}}),
            &[
                "spec.strategy: Unsupported value: {\"Type\":\"Blue\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        );
        check(
            json!({"selector": null}),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        );
    }

    #[test]
    fn the_selector_never_changes() {
        let labels = json!({"app": "web", "a": "b"});
        let new = with(json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}));
        let errors = new.validate_update(&with(json!({})));
        assert_eq!(
            errors.is_invalid_message("Deployment.apps", "web"),
            "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"app\":\"web\"}}: field is immutable"
        );
    }

    #[test]
    fn a_status_must_add_up() {
        let status = DeploymentStatus { replicas: Some(1), ready_replicas: Some(2), ..DeploymentStatus::default() };
        assert_eq!(
            deployment_status(&status, &status).to_string(),
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
        );
        let status = ReplicaSetStatus { replicas: 2, available_replicas: Some(1), ..ReplicaSetStatus::default() };
        assert_eq!(
            replica_set_status(&status).to_string(),
            "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"
        );
    }
}
