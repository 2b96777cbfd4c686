//! Jobs (kubernetes, pkg/apis/batch/validation).

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Affinity, PodSpec, PodTemplateSpec};

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::job_policy::{failure_policy, success_policy};
use super::metadata::{self, Scope, immutable, same};
use super::{Validate, format, not_negative, pod, selector, text};
use crate::api::batch::{self as compact, CONTROLLER_UID, JOB_NAME, LEGACY_CONTROLLER_UID, LEGACY_JOB_NAME};
use crate::api::convert::Convert;
use crate::api::meta::Uid;
use crate::api::selector::Selector;

/// An Indexed Job runs at most so many pods at a time, and so many of its indexes may fail.
const MOST_INDEXES: i32 = 100_000;
/// Above so many completions an Indexed Job with a limit per index is held to smaller numbers.
const MANY_COMPLETIONS: i32 = 100_000;
/// Those smaller numbers.
const LIMIT_FOR_MANY: i32 = 10_000;
/// The longest `managedBy`.
const LONGEST_MANAGER: usize = 63;

type Labels = BTreeMap<String, String>;

impl Validate for Job {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        job(self, true, &mut errors);
        errors
    }

    /// The server generates selector and labels from the uid that it gives the Job; any will do.
    fn validate_manifest(&self) -> ErrorList {
        let generates = self.spec.as_ref().is_some_and(|spec| spec.manual_selector != Some(true));
        match compact::Job::from_full(self.clone()) {
            Ok(mut job) if generates => {
                job.meta.uid = Uid(1);
                job.generate_selector();
                job.to_full().validate()
            }
            _ => self.validate(),
        }
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        let empty = JobSpec::default();
        let (new_spec, old_spec) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        let had = template_labels(&old_spec.template);
        let had_new_labels = had.is_some_and(|had| had.contains_key(JOB_NAME) && had.contains_key(CONTROLLER_UID));
        job(self, had_new_labels, &mut errors);
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        spec_update(new_spec, old_spec, allows_other_template(old), &mut errors);
        errors
    }
}

fn template_labels(template: &PodTemplateSpec) -> Option<&Labels> {
    template.metadata.as_ref()?.labels.as_ref()
}

/// True if the pods of a suspended Job may be described anew: none is there and none will come before it is resumed.
fn allows_other_template(old: &Job) -> bool {
    let suspended = old.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let Some(status) = &old.status else { return suspended };
    let conditions = status.conditions.iter().flatten();
    let says_so = conditions.into_iter().any(|it| it.type_ == "Suspended" && it.status == "True");
    suspended && (status.start_time.is_none() || says_so) && status.active.unwrap_or(0) == 0
}

fn job(job: &Job, new_labels: bool, errors: &mut ErrorList) {
    metadata::object_meta(&job.metadata, Scope::Namespaced, format::dns_1123_subdomain, errors);
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    generated_selector(job, spec, new_labels, errors);
    whole_spec(spec, errors);
    if let Some(completions) = spec.completions.filter(|count| *count > 0 && is_indexed(spec)) {
        let name = text(&job.metadata.name);
        let hostname = format!("{name}-{}", completions - 1);
        if !format::dns_1123_label(&hostname).is_empty() {
            let message = format!("will not able to create pod with invalid DNS label: {hostname}");
            errors.push(FieldError::invalid(&Path::Root.child("metadata.name"), name, message));
        }
    }
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// What the registry generated must be there and not be contradicted (`validateGeneratedSelector`).
fn generated_selector(job: &Job, spec: &JobSpec, new_labels: bool, errors: &mut ErrorList) {
    if spec.manual_selector == Some(true) {
        return;
    }
    let Some(labels) = &spec.selector else { return };
    let (uid, name) = (text(&job.metadata.uid), text(&job.metadata.name));
    if uid.is_empty() {
        errors.push(FieldError::required(&Path::Root.child("metadata.uid"), ""));
    }
    let mut expected = vec![(LEGACY_CONTROLLER_UID, uid), (LEGACY_JOB_NAME, name)];
    if new_labels {
        expected.extend([(CONTROLLER_UID, uid), (JOB_NAME, name)]);
    }
    let place = Path::Root.child("spec.template.metadata.labels");
    let empty = Labels::new();
    let there = template_labels(&spec.template).unwrap_or(&empty);
    for (key, value) in &expected {
        match there.get(*key) {
            None => errors.push(FieldError::required(&place.key(key), format!("must be '{value}'"))),
            Some(other) if other != value => {
                let message = format!("must be '{value}'");
                errors.push(FieldError::invalid(&place.key(key), BadValue::json(there), message));
            }
            Some(_) => {}
        }
    }
    if Selector::compile(Some(labels)).is_ok_and(|selector| !selector.matches(&expected[..])) {
        let message = "`selector` not auto-generated";
        errors.push(FieldError::invalid(&Path::Root.child("spec.selector"), BadValue::json(labels), message));
    }
}

/// `ValidateJobSpec`.
fn whole_spec(spec: &JobSpec, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    job_spec(spec, &path, errors);
    match &spec.selector {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(labels) => selector::label_selector(labels, &path.child("selector"), errors),
    }
    let empty = Labels::new();
    let labels = template_labels(&spec.template).unwrap_or(&empty);
    let compiled = spec.selector.as_ref().map_or(Ok(Selector::nothing()), |labels| Selector::compile(Some(labels)));
    if compiled.is_ok_and(|selector| !selector.matches(labels)) {
        let shown = if labels.is_empty() { BadValue::json(&None::<()>) } else { BadValue::json(labels) };
        let message = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&path.child("template.metadata.labels"), shown, message));
    }
}

/// What holds of every Job, that of a CronJob too (`validateJobSpec`).
pub(super) fn job_spec(spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let numbers = [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ];
    for (field, number) in numbers {
        if let Some(number) = number {
            not_negative(number, &path.child(field), errors);
        }
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = &spec.managed_by {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    match spec.completion_mode.as_deref() {
        Some("Indexed") => indexed(spec, path, errors),
        None | Some("NonIndexed") => not_indexed(spec, path, errors),
        Some(other) => {
            let modes = ["NonIndexed", "Indexed"];
            errors.push(FieldError::not_supported(&path.child("completionMode"), other, &modes));
        }
    }
    if let Some(policy) = &spec.pod_failure_policy {
        failure_policy(policy, spec, &path.child("podFailurePolicy"), errors);
    }
    if let Some(policy) = &spec.success_policy {
        success_policy(policy, spec, &path.child("successPolicy"), errors);
    }
    replacement_policy(spec, &path.child("podReplacementPolicy"), errors);
    pod::pod_template(&spec.template, &path.child("template"), errors);
    restart_policy(spec, &path.child("template.spec.restartPolicy"), errors);
}

/// A name with a domain before it (apimachinery, util/validation: `IsDomainPrefixedPath`).
fn managed_by(manager: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if manager.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Some((host, rest)) =
        manager.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    {
        errors.invalid_each(path, host, format::dns_1123_subdomain(host));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
        if !rest.bytes().all(allowed) {
            let message = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
            errors.push(FieldError::invalid(path, rest, message));
        }
    } else {
        let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, manager, message));
    }
    if manager.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(path, LONGEST_MANAGER));
    }
}

fn indexed(spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let (parallelism, most_failed) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    let at_most = |limit: i32| format!("must be less than or equal to {limit}");
    if spec.completions.is_none() {
        errors.push(FieldError::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    if let Some(count) = spec.parallelism.filter(|count| *count > MOST_INDEXES) {
        let message = format!("{} when completion mode is Indexed", at_most(MOST_INDEXES));
        errors.push(FieldError::invalid(&parallelism, count, message));
    }
    if let (Some(failed), Some(completions)) = (spec.max_failed_indexes, spec.completions)
        && failed > completions
    {
        errors.push(FieldError::invalid(&most_failed, failed, "must be less than or equal to completions"));
    }
    if let Some(failed) = spec.max_failed_indexes.filter(|failed| *failed > MOST_INDEXES) {
        errors.push(FieldError::invalid(&most_failed, failed, at_most(MOST_INDEXES)));
    }
    let many = spec.completions.is_some_and(|completions| completions > MANY_COMPLETIONS);
    if !many || spec.backoff_limit_per_index.is_none() {
        return;
    }
    if spec.max_failed_indexes.is_none() {
        let message = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(FieldError::required(&most_failed, message));
    }
    let limited = [(&parallelism, spec.parallelism), (&most_failed, spec.max_failed_indexes)];
    for (place, count) in limited {
        if let Some(count) = count.filter(|count| *count > LIMIT_FOR_MANY) {
            let rest = "and used with backoff limit per index";
            let message = format!("{} when completions are above {MANY_COMPLETIONS} {rest}", at_most(LIMIT_FOR_MANY));
            errors.push(FieldError::invalid(place, count, message));
        }
    }
}

fn not_indexed(spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let only_indexed =
        [("backoffLimitPerIndex", spec.backoff_limit_per_index), ("maxFailedIndexes", spec.max_failed_indexes)];
    for (field, number) in only_indexed {
        if let Some(number) = number {
            errors.push(FieldError::invalid(&path.child(field), number, "requires indexed completion mode"));
        }
    }
}

fn replacement_policy(spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(policy) = spec.pod_replacement_policy.as_deref() else { return };
    let supported: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !supported.contains(&policy) {
        errors.push(FieldError::not_supported(path, policy, supported));
    }
}

fn restart_policy(spec: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let policy = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()).unwrap_or_default();
    match policy {
        "Always" | "" => {
            errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if spec.pod_failure_policy.is_some() => {
            let message = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, policy, message));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

/// `ValidateJobSpecUpdate`. What the original shows of a changed template is its internal struct; here it is the manifest's.
fn spec_update(new: &JobSpec, old: &JobSpec, other_template: bool, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    whole_spec(new, errors);
    completions_update(new, old, &path.child("completions"), errors);
    immutable(&new.selector, &old.selector, &path.child("selector"), errors);
    template_update(new, old, other_template, &path, errors);
    immutable(&new.completion_mode, &old.completion_mode, &path.child("completionMode"), errors);
    immutable(&new.pod_failure_policy, &old.pod_failure_policy, &path.child("podFailurePolicy"), errors);
    immutable(&new.backoff_limit_per_index, &old.backoff_limit_per_index, &path.child("backoffLimitPerIndex"), errors);
    immutable(&new.managed_by, &old.managed_by, &path.child("managedBy"), errors);
    immutable(&new.success_policy, &old.success_policy, &path.child("successPolicy"), errors);
}

/// The number of completions never changes but for an Indexed Job whose parallelism changes with it.
fn completions_update(new: &JobSpec, old: &JobSpec, path: &Path<'_>, errors: &mut ErrorList) {
    if !is_indexed(new) {
        return immutable(&new.completions, &old.completions, path, errors);
    }
    if let Some(completions) = new.completions
        && new.completions != old.completions
        && new.completions != new.parallelism
    {
        // The path of the original begins with its own root.
        let message = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, completions, message));
    }
}

/// Only a suspended Job's pods may be described anew: where they may run, what they wear, what they need
/// (`validatePodTemplateUpdate`).
fn template_update(new: &JobSpec, old: &JobSpec, allowed: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let mut kept = old.template.clone();
    if !allowed {
        return immutable(&new.template, &kept, &path.child("template"), errors);
    }
    keep_directives(&mut kept, &new.template);
    let (Some(new), Some(mut kept)) = (new.template.spec.as_ref(), kept.spec) else { return };
    keep_resources(&mut kept, new);
    if !same(new, &kept) {
        errors.push(FieldError::invalid(&path.child("template.spec"), BadValue::json(new), "field is immutable"));
    }
}

/// Takes over what says where pods may run, and what they wear.
fn keep_directives(kept: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    kept.metadata.clone_from(&new.metadata);
    let (Some(kept), Some(new)) = (&mut kept.spec, &new.spec) else { return };
    let node_affinity = new.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let affinity = kept.affinity.take().unwrap_or_default();
    let affinity = Affinity { node_affinity, ..affinity };
    kept.affinity = (affinity != Affinity::default() || new.affinity.is_some()).then_some(affinity);
    kept.node_selector.clone_from(&new.node_selector);
    kept.tolerations.clone_from(&new.tolerations);
    kept.scheduling_gates.clone_from(&new.scheduling_gates);
}

/// Takes over what the containers need, as far as they are the same containers.
fn keep_resources(kept: &mut PodSpec, new: &PodSpec) {
    let lists = [
        (&mut kept.containers, new.containers.as_slice()),
        (kept.init_containers.get_or_insert_default(), new.init_containers.as_deref().unwrap_or_default()),
    ];
    for (kept, new) in lists {
        if kept.len() == new.len() {
            for (kept, new) in kept.iter_mut().zip(new).filter(|(kept, new)| kept.name == new.name) {
                kept.resources.clone_from(&new.resources);
            }
        }
    }
    if kept.init_containers.as_ref().is_some_and(Vec::is_empty) {
        kept.init_containers = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use serde_json::{Value, json};

    fn job(changes: &Value) -> Job {
        let mut value = json!({
            "metadata": {"name": "j", "namespace": "x", "resourceVersion": "1", "uid": Uid(7).to_string()},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
        });
        json_patch::merge(&mut value, changes);
        let mut full: Job = serde_json::from_value(value).expect("a Job");
        full.set_defaults();
        let mut compact = compact::Job::from_full(full).expect("a Job");
        if compact.spec.full.manual_selector != Some(true) {
            compact.generate_selector();
        }
        compact.to_full()
    }

    fn check(changes: Value, expected: &[&str]) {
        let found: Vec<String> = job(&changes).validate().0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    fn check_update(old: Value, new: Value, expected: &[&str]) {
        let errors = job(&new).validate_update(&job(&old));
        let found: Vec<String> = errors.0.iter().map(|error| error.path.clone() + ": " + &error.detail).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn jobs_are_refused_with_the_real_texts() {
        check(json!({}), &[]);
        check(
            json!({"spec": {"parallelism": -1, "backoffLimitPerIndex": 1, "template": {"spec": {"restartPolicy": "Always"}}}}),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        );
        check(
            json!({"spec": {"completionMode": "Indexed", "parallelism": 2}}),
            &["spec.completions: Required value: when completion mode is Indexed"],
        );
        check(
            json!({"spec": {"manualSelector": true}}),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            ],
        );
        check(
            json!({"spec": {"managedBy": "me"}}),
            &["spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        );
    }

    #[test]
    fn generated_labels_must_not_be_contradicted() {
        let uid = Uid(7).to_string();
        let labels = json!({"batch.kubernetes.io/job-name": "other"});
        let shown = format!(
            "{{\"batch.kubernetes.io/controller-uid\":\"{uid}\",\"batch.kubernetes.io/job-name\":\"other\",\"controller-uid\":\"{uid}\",\"job-name\":\"j\"}}"
        );
        check(
            json!({"spec": {"template": {"metadata": {"labels": labels}}}}),
            &[&format!(
                "spec.template.metadata.labels[batch.kubernetes.io/job-name]: Invalid value: {shown}: must be 'j'"
            )],
        );
    }

    #[test]
    fn failure_policies_are_refused_with_the_real_texts() {
        let rules = json!([
            {"action": "FailIndex", "onExitCodes": {"containerName": "d", "operator": "In", "values": [3, 0]}},
            {"action": "Skip"},
        ]);
        check(
            json!({"spec": {"podFailurePolicy": {"rules": rules}}}),
            &[
                "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"d\": must be one of the container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0]: must be ordered",
                "spec.podFailurePolicy.rules[1].action: Unsupported value: \"Skip\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
                "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ],
        );
        let rules = json!([{"succeededIndexes": "0,2-9", "succeededCount": 5}]);
        check(
            json!({"spec": {"completionMode": "Indexed", "completions": 4, "successPolicy": {"rules": rules}}}),
            &[
                "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0,2-9\": error parsing succeededIndexes: too large index: \"9\"",
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 5: must be less than or equal to 4 (the number of specified completions)",
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 5: must be less than or equal to 0 (the number of indexes in the specified succeededIndexes field)",
            ],
        );
    }

    #[test]
    fn what_a_job_does_never_changes_but_a_suspended_one_may_run_elsewhere() {
        let other = json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}});
        check_update(json!({}), other.clone(), &["spec.template: field is immutable"]);
        check_update(json!({}), json!({"spec": {"parallelism": 5}}), &["spec.completions: field is immutable"]);
        check_update(json!({}), json!({"spec": {"suspend": true, "activeDeadlineSeconds": 7}}), &[]);
        check_update(json!({"spec": {"suspend": true}}), other, &[]);
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}});
        check_update(json!({"spec": {"suspend": true}}), image, &["spec.template.spec: field is immutable"]);
        let indexed = |count: i32, parallelism: i32| json!({"spec": {"completionMode": "Indexed", "completions": count, "parallelism": parallelism}});
        check_update(indexed(3, 3), indexed(5, 5), &[]);
        check_update(
            indexed(3, 3),
            indexed(5, 3),
            &["spec.completions: can only be modified in tandem with spec.parallelism"],
        );
    }
}
