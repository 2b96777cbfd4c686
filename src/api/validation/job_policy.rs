//! Which failures and which successes end a Job (kubernetes, pkg/apis/batch/validation).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};
use serde::Serialize;

use super::error::{BadValue, ErrorList, FieldError, Path, go_quote};
use super::{format, not_negative, text};

const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_CONDITIONS: usize = 20;
/// The longest list of indexes that a success policy may name.
const LONGEST_INDEXES: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

pub(super) fn failure_policy(policy: &PodFailurePolicy, spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let rules = path.child("rules");
    if policy.rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&rules, policy.rules.len(), MOST_RULES));
    }
    let pod = spec.template.spec.as_ref();
    let containers = pod.into_iter().flat_map(|pod| pod.containers.iter().chain(pod.init_containers.iter().flatten()));
    let names: BTreeSet<&str> = containers.map(|container| container.name.as_str()).collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        failure_rule(rule, spec, &names, &rules.index(index), errors);
    }
}

fn failure_rule(
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    containers: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let action = path.child("action");
    match rule.action.as_str() {
        "" => errors.push(FieldError::required(&action, valid_values(&ACTIONS))),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            let message = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(&action, "FailIndex", message));
        }
        word if !ACTIONS.contains(&word) => errors.push(FieldError::not_supported(&action, word, &ACTIONS)),
        _ => {}
    }
    if let Some(codes) = &rule.on_exit_codes {
        exit_codes(codes, containers, &path.child("onExitCodes"), errors);
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    pod_conditions(conditions, &path.child("onPodConditions"), errors);
    match (&rule.on_exit_codes, conditions) {
        (Some(_), [_, ..]) => {
            let message = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.push(FieldError::invalid_unseen(path, message));
        }
        (None, []) => {
            let message = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.push(FieldError::invalid_unseen(path, message));
        }
        _ => {}
    }
}

/// `valid values: ["a" "b"]`, as Go prints a list of quoted words.
fn valid_values(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| go_quote(word)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn pod_conditions(patterns: &[PodFailurePolicyOnPodConditionsPattern], path: &Path<'_>, errors: &mut ErrorList) {
    if patterns.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(path, patterns.len(), MOST_CONDITIONS));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let place = path.index(index);
        let status = place.child("status");
        errors.invalid_each(&place.child("type"), &pattern.type_, format::label_key(&pattern.type_));
        match text(&pattern.status) {
            "" => errors.push(FieldError::required(&status, valid_values(&STATUSES))),
            word if !STATUSES.contains(&word) => errors.push(FieldError::not_supported(&status, word, &STATUSES)),
            _ => {}
        }
    }
}

fn exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &BTreeSet<&str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let operator = path.child("operator");
    match codes.operator.as_str() {
        "" => errors.push(FieldError::required(&operator, valid_values(&OPERATORS))),
        word if !OPERATORS.contains(&word) => errors.push(FieldError::not_supported(&operator, word, &OPERATORS)),
        _ => {}
    }
    if let Some(name) = codes.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let message = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, message));
    }
    let values = path.child("values");
    if codes.values.is_empty() {
        errors.push(FieldError::invalid(&values, BadValue::json(&codes.values), "at least one value is required"));
    } else if codes.values.len() > MOST_EXIT_CODES {
        errors.push(FieldError::too_many(&values, codes.values.len(), MOST_EXIT_CODES));
    }
    let mut seen = BTreeSet::new();
    for (index, code) in codes.values.iter().enumerate() {
        let place = values.index(index);
        if codes.operator == "In" && *code == 0 {
            errors.push(FieldError::invalid(&place, 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(*code) {
            errors.push(FieldError::duplicate(&place, *code));
        }
    }
    if !codes.values.is_sorted() {
        errors.push(FieldError::invalid(&values, BadValue::json(&codes.values), "must be ordered"));
    }
}

pub(super) fn success_policy(policy: &SuccessPolicy, spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.completion_mode.as_deref() != Some("Indexed") {
        let shown = BadValue::json(&InternalPolicy::of(policy));
        return errors.push(FieldError::invalid(path, shown, "requires indexed completion mode"));
    }
    let rules = path.child("rules");
    if policy.rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&rules, detail));
    }
    if policy.rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&rules, policy.rules.len(), MOST_RULES));
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        success_rule(rule, spec.completions.unwrap_or_default(), &rules.index(index), errors);
    }
}

fn success_rule(rule: &SuccessPolicyRule, completions: i32, path: &Path<'_>, errors: &mut ErrorList) {
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if let Some(indexes) = &rule.succeeded_indexes {
        let place = path.child("succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            errors.push(FieldError::too_long(&place, LONGEST_INDEXES));
        }
        match count_indexes(indexes, completions) {
            Ok(count) => total = count,
            Err(message) => {
                let message = format!("error parsing succeededIndexes: {message}");
                errors.push(FieldError::invalid(&place, indexes, message));
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let place = path.child("succeededCount");
        not_negative(count.into(), &place, errors);
        let mut at_most = |limit: i32, what: &str| {
            if count > limit {
                let message = format!("must be less than or equal to {limit} (the number of {what})");
                errors.push(FieldError::invalid(&place, count, message));
            }
        };
        at_most(completions, "specified completions");
        if rule.succeeded_indexes.is_some() {
            at_most(total, "indexes in the specified succeededIndexes field");
        }
    }
}

/// How many indexes a text as `1,3-5,7` names, or what is wrong with it (`validateIndexesFormat`).
pub(super) fn count_indexes(text: &str, completions: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// One index, or the first and the last of several (`parseIndexInterval`).
pub(super) fn interval(text: &str, completions: i32) -> Result<(i32, i32), String> {
    let limits: Vec<&str> = text.split('-').collect();
    if limits.len() > 2 {
        let rule = "violates the requirement that an index interval can have at most two parts separated by '-'";
        return Err(format!("the fragment {} {rule}", go_quote(text)));
    }
    let number = |text: &str| {
        let quoted = go_quote(text);
        let number: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {quoted}"))?;
        if number >= i64::from(completions) { Err(format!("too large index: {quoted}")) } else { Ok(number as i32) }
    };
    let first = number(limits[0])?;
    let Some(end) = limits.get(1) else { return Ok((first, first)) };
    let end = number(end)?;
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

/// The original shows its internal struct, whose fields have capitals and are all there.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InternalPolicy<'a> {
    rules: Vec<InternalRule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InternalRule<'a> {
    succeeded_indexes: Option<&'a str>,
    succeeded_count: Option<i32>,
}

impl<'a> InternalPolicy<'a> {
    fn of(policy: &'a SuccessPolicy) -> Self {
        let rule = |rule: &'a SuccessPolicyRule| InternalRule {
            succeeded_indexes: rule.succeeded_indexes.as_deref(),
            succeeded_count: rule.succeeded_count,
        };
        InternalPolicy { rules: policy.rules.iter().map(rule).collect() }
    }
}
