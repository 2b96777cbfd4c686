//! What steers scheduling: affinity, tolerations, taints and topology spread.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorTerm, PodAffinityTerm, Taint, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::{format, selector, text};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn tolerations(tolerations: &[Toleration], path: &Path<'_>, errors: &mut ErrorList) {
    for (position, toleration) in tolerations.iter().enumerate() {
        let place = path.index(position);
        let (key, operator) = (text(&toleration.key), text(&toleration.operator));
        let (value, effect) = (text(&toleration.value), text(&toleration.effect));
        let operator_path = place.child("operator");
        if !key.is_empty() {
            errors.invalid_each(&place.child("key"), key, format::label_key(key));
        } else if operator != "Exists" {
            let message = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&operator_path, operator, message));
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            let message = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&place.child("effect"), effect, message));
        }
        match operator {
            "Equal" | "" => {
                let complaints = format::label_value(value);
                if !complaints.is_empty() {
                    errors.push(FieldError::invalid(&operator_path, value, complaints.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let message = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&operator_path, value, message));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(&operator_path, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(&place.child("effect"), effect, &EFFECTS));
        }
    }
}

pub(super) fn taints(taints: &[Taint], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (position, taint) in taints.iter().enumerate() {
        let place = path.index(position);
        errors.invalid_each(&place.child("key"), &taint.key, format::label_key(&taint.key));
        let complaints = format::label_value(text(&taint.value));
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&place.child("value"), text(&taint.value), complaints.join(";")));
        }
        super::one_of(&taint.effect, &EFFECTS, &place.child("effect"), errors);
        if !seen.insert((&taint.effect, &taint.key)) {
            let duplicate = FieldError::duplicate(&place, BadValue::json(taint));
            errors.push(FieldError { detail: "taints must be unique by key and effect pair".to_owned(), ..duplicate });
        }
    }
}

pub(super) fn affinity(affinity: &Affinity, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(nodes) = &affinity.node_affinity {
        let place = path.child("nodeAffinity");
        if let Some(required) = &nodes.required_during_scheduling_ignored_during_execution {
            let terms = place.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                errors.push(FieldError::required(&terms, "must have at least one node selector term"));
            }
            for (position, term) in required.node_selector_terms.iter().enumerate() {
                node_selector_term(term, true, &terms.index(position), errors);
            }
        }
        let preferred = place.child("preferredDuringSchedulingIgnoredDuringExecution");
        let terms = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        for (position, term) in terms.enumerate() {
            let place = preferred.index(position);
            weight(term.weight, &place, errors);
            node_selector_term(&term.preference, false, &place.child("preference"), errors);
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_affinity(required, preferred, &path.child("podAffinity"), errors);
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        let required = pods.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pods.preferred_during_scheduling_ignored_during_execution.as_deref();
        pod_affinity(required, preferred, &path.child("podAntiAffinity"), errors);
    }
}

fn weight(weight: i32, path: &Path<'_>, errors: &mut ErrorList) {
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

pub(super) fn node_selector_term(term: &NodeSelectorTerm, check_values: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let expressions = path.child("matchExpressions");
    for (position, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let place = expressions.index(position);
        let values = requirement.values.as_deref().unwrap_or_default();
        let values_path = place.child("values");
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
                &values_path,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.push(FieldError::invalid(&place.child("operator"), other, "not a valid selector operator")),
        }
        errors.invalid_each(&place.child("key"), &requirement.key, format::label_key(&requirement.key));
        for (position, value) in values.iter().enumerate().filter(|_| check_values) {
            errors.invalid_each(&values_path.index(position), value, format::label_value(value));
        }
    }
    let fields = path.child("matchFields");
    for (position, requirement) in term.match_fields.iter().flatten().enumerate() {
        let place = fields.index(position);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.len() != 1 => errors.push(FieldError::required(
                &place.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            "In" | "NotIn" => {}
            other => errors.push(FieldError::invalid(&place.child("operator"), other, "not a valid selector operator")),
        }
        if requirement.key != "metadata.name" {
            let message = "not a valid field selector key";
            errors.push(FieldError::invalid(&place.child("key"), &requirement.key, message));
        }
    }
}

fn pod_affinity(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let place = path.child("requiredDuringSchedulingIgnoredDuringExecution");
    for (position, term) in required.unwrap_or_default().iter().enumerate() {
        pod_affinity_term(term, &place.index(position), errors);
    }
    let place = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (position, term) in preferred.unwrap_or_default().iter().enumerate() {
        let place = place.index(position);
        weight(term.weight, &place, errors);
        pod_affinity_term(&term.pod_affinity_term, &place.child("podAffinityTerm"), errors);
    }
}

fn pod_affinity_term(term: &PodAffinityTerm, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(labels) = &term.label_selector {
        selector::label_selector(labels, &path.child("labelSelector"), errors);
    }
    if let Some(labels) = &term.namespace_selector {
        selector::label_selector(labels, &path.child("namespaceSelector"), errors);
    }
    for namespace in term.namespaces.iter().flatten() {
        errors.invalid_each(&path.child("namespace"), namespace, format::dns_1123_label(namespace));
    }
    let keys = (term.match_label_keys.as_deref(), term.mismatch_label_keys.as_deref());
    label_keys(keys, term.label_selector.as_ref(), path, errors);
    let key = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(FieldError::required(&key, "can not be empty"));
    }
    errors.invalid_each(&key, &term.topology_key, format::label_key(&term.topology_key));
}

/// `matchLabelKeys` and `mismatchLabelKeys`. A pod's own values have been merged into the selector by now: a key that was in it
/// before is there twice (core/validation: `ValidateMatchLabelKeysAndMismatchLabelKeys`).
fn label_keys(
    keys: (Option<&[String]>, Option<&[String]>),
    selector: Option<&LabelSelector>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let (matching, mismatching) = (keys.0.unwrap_or_default(), keys.1.unwrap_or_default());
    for (name, keys) in [("matchLabelKeys", matching), ("mismatchLabelKeys", mismatching)] {
        let place = path.child(name);
        if selector.is_none() && !keys.is_empty() {
            errors.push(FieldError::forbidden(&place, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (position, key) in keys.iter().enumerate() {
            errors.invalid_each(&place.index(position), key, format::label_key(key));
        }
    }
    if let Some(selector) = selector {
        let mut seen: BTreeSet<&str> = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let named = matching.iter().rposition(|key| *key == expression.key);
            if let Some(position) = named.filter(|_| seen.contains(expression.key.as_str())) {
                let message = "exists in both matchLabelKeys and labelSelector";
                errors.push(FieldError::invalid(&path.index(position), &expression.key, message));
            }
            seen.insert(&expression.key);
        }
    }
    for (position, key) in matching.iter().enumerate().filter(|(_, key)| mismatching.contains(key)) {
        let place = path.child("matchLabelKeys");
        let message = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(FieldError::invalid(&place.index(position), key, message));
    }
}

pub(super) fn topology_spread(constraints: &[TopologySpreadConstraint], path: &Path<'_>, errors: &mut ErrorList) {
    for (position, constraint) in constraints.iter().enumerate() {
        let place = path.index(position);
        if constraint.max_skew <= 0 {
            errors.push(FieldError::invalid(&place.child("maxSkew"), constraint.max_skew, "must be greater than zero"));
        }
        let (key, action) = (&constraint.topology_key, &constraint.when_unsatisfiable);
        let key_path = place.child("topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(&key_path, "can not be empty"));
        } else {
            errors.invalid_each(&key_path, key, format::label_key(key));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action.as_str()) {
            errors.push(FieldError::not_supported(&place.child("whenUnsatisfiable"), action, &actions));
        }
        let repeats =
            |other: &&TopologySpreadConstraint| other.topology_key == *key && other.when_unsatisfiable == *action;
        if constraints[position + 1..].iter().find(repeats).is_some() {
            let pair = format!("{{{key}, {action}}}");
            errors.push(FieldError::duplicate(&place.child("{topologyKey, whenUnsatisfiable}"), pair.as_str()));
        }
        if let Some(domains) = constraint.min_domains {
            let place = place.child("minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&place, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let message = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&place, domains, message));
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (name, policy) in policies {
            if let Some(policy) = policy.as_deref().filter(|policy| !matches!(*policy, "Ignore" | "Honor")) {
                errors.push(FieldError::not_supported(&place.child(name), policy, &["Honor", "Ignore"]));
            }
        }
        let keys = (constraint.match_label_keys.as_deref(), None);
        label_keys(keys, constraint.label_selector.as_ref(), &place, errors);
        if let Some(labels) = &constraint.label_selector {
            selector::label_selector(labels, &place.child("labelSelector"), errors);
        }
    }
}
