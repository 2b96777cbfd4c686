//! DaemonSets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, immutable};
use super::workload::{not_above_hundred_percent, number_or_percent};
use super::{Validate, format, not_negative, pod, selector, text};
use crate::api::int_or_string::parse_percent;
use crate::api::selector::Selector;

impl Validate for DaemonSet {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        daemon_set_spec(self.spec.as_ref().unwrap_or(&DaemonSetSpec::default()), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        let empty = DaemonSetSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        daemon_set_spec(new, &mut errors);
        immutable(&new.selector, &old.selector, &Path::Root.child("spec.selector"), &mut errors);
        errors
    }
}

fn daemon_set_spec(spec: &DaemonSetSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    let (place, template_path) = (path.child("selector"), path.child("template"));
    selector::label_selector(&spec.selector, &place, errors);
    let empty = BTreeMap::new();
    let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref()).unwrap_or(&empty);
    let is_empty = selector::is_empty(&spec.selector);
    if !is_empty && Selector::compile(Some(&spec.selector)).is_ok_and(|selector| !selector.matches(labels)) {
        let shown = if labels.is_empty() { BadValue::json(&None::<()>) } else { BadValue::json(labels) };
        let message = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&template_path.child("metadata.labels"), shown, message));
    }
    if is_empty {
        let message = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(&place, BadValue::json(&spec.selector), message));
    }
    pod::pod_template(&spec.template, &template_path, errors);
    let pods = spec.template.spec.as_ref();
    let policy = pods.and_then(|spec| spec.restart_policy.as_deref()).unwrap_or_default();
    if policy != "Always" {
        errors.push(FieldError::not_supported(&template_path.child("spec.restartPolicy"), policy, &["Always"]));
    }
    if pods.is_some_and(|spec| spec.active_deadline_seconds.is_some()) {
        let message = "activeDeadlineSeconds in DaemonSet is not Supported";
        errors.push(FieldError::forbidden(&template_path.child("spec.activeDeadlineSeconds"), message));
    }
    not_negative(spec.min_ready_seconds.unwrap_or_default().into(), &path.child("minReadySeconds"), errors);
    let default = DaemonSetUpdateStrategy::default();
    strategy(spec.update_strategy.as_ref().unwrap_or(&default), &path.child("updateStrategy"), errors);
    if let Some(limit) = spec.revision_history_limit {
        not_negative(limit.into(), &path.child("revisionHistoryLimit"), errors);
    }
}

fn strategy(strategy: &DaemonSetUpdateStrategy, path: &Path<'_>, errors: &mut ErrorList) {
    let rolling_path = path.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(&rolling_path, "")),
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &rolling_path, errors),
        (other, _) => {
            let supported = ["RollingUpdate", "OnDelete"];
            errors.push(FieldError::not_supported(&path.child("type"), other, &supported));
        }
    }
}

/// Exactly one of the two numbers is to be more than zero.
fn rolling_update(rolling: &RollingUpdateDaemonSet, path: &Path<'_>, errors: &mut ErrorList) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    number_or_percent(unavailable, &unavailable_path, errors);
    number_or_percent(surge, &surge_path, errors);
    not_above_hundred_percent(unavailable, &unavailable_path, errors);
    not_above_hundred_percent(surge, &surge_path, errors);
    let is_some = |value: &IntOrString| match value {
        IntOrString::Int(number) => *number != 0,
        IntOrString::String(text) => parse_percent(text).is_ok_and(|percent| percent != 0),
    };
    match (is_some(unavailable), is_some(surge)) {
        (true, true) => {
            let message = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_path, BadValue::json(surge), message));
        }
        (false, false) => {
            errors.push(FieldError::required(&unavailable_path, "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(strategy: Value, expected: &str) {
        let template = json!({
            "metadata": {"labels": {"app": "a"}},
            "spec": {
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
                "containers": [{
                    "name": "a", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"
                }]
            }
        });
        let set = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a", "namespace": "x"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template, "updateStrategy": strategy}
        });
        let set: DaemonSet = serde_json::from_value(set).expect("a set");
        assert_eq!(set.validate().to_string(), expected);
    }

    #[test]
    fn pods_are_missing_or_doubled_during_an_update_but_not_both() {
        let rolling = |unavailable: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
        check(rolling("10%".into(), 0.into()), "");
        check(rolling(0.into(), 1.into()), "");
        check(
            rolling(1.into(), "10%".into()),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero",
        );
        check(
            rolling(0.into(), 0.into()),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        );
        check(json!({"type": "OnDelete"}), "");
        check(
            json!({"type": "Recreate"}),
            "spec.updateStrategy.type: Unsupported value: \"Recreate\": supported values: \"RollingUpdate\", \"OnDelete\"",
        );
    }
}
