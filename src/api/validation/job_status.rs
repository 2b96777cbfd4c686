//! What the controller of a Job may say of it, and what it may not take back (kubernetes, pkg/apis/batch/validation:
//! `ValidateJobStatusUpdate`, with the options of pkg/registry/batch/job). Works on the compact form: it is asked at
//! every write of every Job's controller.

use std::collections::BTreeSet;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::job_policy::{count_indexes, interval};
use super::not_negative;
use crate::api::batch::{Job, JobStatus};
use crate::api::convert::to_time;
use crate::api::meta::Timestamp;
use crate::api::pod::ConditionStatus;

/// What is wrong with a Job's new status. A field that did not change is not complained about, so that a user's change of
/// the specification never makes a status invalid that was valid.
pub fn job_status(new: &Job, old: &Job) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::Root.child("status");
    counters(&new.status, &path, &mut errors);
    let changes = Changes::of(new, old);
    completeness(new, &changes, &path, &mut errors);
    finish(new, &changes, &path, &mut errors);
    indexes(new, &changes, &path, &mut errors);
    consistency(new, &changes, &path, &mut errors);
    history(new, old, &changes, &path, &mut errors);
    errors
}

/// What differs between two versions.
struct Changes {
    complete: bool,
    failed: bool,
    finished: bool,
    failure_target: bool,
    success_criteria: bool,
    completed_indexes: bool,
    failed_indexes: bool,
    active: bool,
    ready: bool,
    terminating: bool,
    start_time: bool,
    completion_time: bool,
    uncounted: bool,
}

impl Changes {
    fn of(new: &Job, old: &Job) -> Self {
        let (new, old) = (&new.status, &old.status);
        let flipped = |kind: &str| new.is_true(kind) != old.is_true(kind);
        Changes {
            complete: flipped("Complete"),
            failed: flipped("Failed"),
            finished: new.finished().is_some() != old.finished().is_some(),
            failure_target: flipped("FailureTarget"),
            success_criteria: flipped("SuccessCriteriaMet"),
            completed_indexes: new.completed_indexes != old.completed_indexes,
            failed_indexes: new.failed_indexes != old.failed_indexes,
            active: new.active != old.active,
            ready: new.ready != old.ready,
            terminating: new.terminating != old.terminating,
            start_time: new.start_time != old.start_time,
            completion_time: new.completion_time != old.completion_time,
            uncounted: new.uncounted != old.uncounted,
        }
    }
}

fn date(date: Option<Timestamp>) -> BadValue {
    BadValue::json(&date.map(to_time))
}

fn counters(status: &JobStatus, path: &Path<'_>, errors: &mut ErrorList) {
    let counts = [
        ("active", Some(status.active)),
        ("succeeded", Some(status.succeeded)),
        ("failed", Some(status.failed)),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ];
    for (field, count) in counts {
        not_negative(count.unwrap_or(0).into(), &path.child(field), errors);
    }
    let Some(uncounted) = &status.uncounted else { return };
    let place = path.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for (field, uids) in [("succeeded", &uncounted.succeeded), ("failed", &uncounted.failed)] {
        let list = place.child(field);
        for (index, uid) in uids.iter().enumerate().filter(|(_, uid)| !seen.insert(**uid)) {
            errors.push(FieldError::duplicate(&list.index(index), uid.to_string().as_str()));
        }
    }
}

/// What must not be said of a complete Job, and what must.
fn completeness(new: &Job, changes: &Changes, path: &Path<'_>, errors: &mut ErrorList) {
    let status = &new.status;
    let complete = status.is_true("Complete");
    let conditions = path.child("conditions");
    if (changes.complete || changes.failed) && complete && status.is_true("Failed") {
        let message = "cannot set Complete=True and Failed=true conditions";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    if (changes.complete || changes.failure_target) && complete && status.is_true("FailureTarget") {
        let message = "cannot set Complete=True and FailureTarget=true conditions";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    let completion = path.child("completionTime");
    let looked_at = changes.complete || changes.completion_time;
    if looked_at && status.completion_time.is_some() && !complete {
        let message = "cannot set completionTime when there is no Complete=True condition";
        errors.push(FieldError::invalid(&completion, date(status.completion_time), message));
    }
    if looked_at && status.completion_time.is_none() && complete {
        errors.push(FieldError::required(&completion, "completionTime is required for Complete jobs"));
    }
    if (changes.start_time || changes.completion_time)
        && let (Some(start), Some(end)) = (status.start_time, status.completion_time)
        && end < start
    {
        let message = "must be equal to or after `startTime`";
        errors.push(FieldError::invalid(&completion, date(Some(end)), message));
    }
}

/// What must hold before a Job has ended.
fn finish(new: &Job, changes: &Changes, path: &Path<'_>, errors: &mut ErrorList) {
    let status = &new.status;
    let conditions = path.child("conditions");
    let is_failed = status.is_true("Failed");
    if (changes.failed || changes.failed_indexes) && is_failed && !status.is_true("FailureTarget") {
        let message = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    let is_complete = status.is_true("Complete");
    if (changes.complete || changes.success_criteria) && is_complete && !status.is_true("SuccessCriteriaMet") {
        let message = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    if status.finished().is_none() {
        return;
    }
    if (changes.finished || changes.active) && status.active > 0 {
        let message = "active>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("active"), status.active, message));
    }
    let never_ran = new.spec.is_suspended() && new.spec.completions() == Some(0);
    if (changes.finished || changes.start_time) && !never_ran && status.start_time.is_none() {
        errors.push(FieldError::required(&path.child("startTime"), "startTime is required for finished job"));
    }
    let uncounted = status.uncounted.as_ref().filter(|it| !it.succeeded.is_empty() || !it.failed.is_empty());
    if let Some(uncounted) = uncounted.filter(|_| changes.finished || changes.uncounted) {
        let texts = |uids: &[crate::api::meta::Uid]| uids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let shown = serde_json::json!({"Succeeded": texts(&uncounted.succeeded), "Failed": texts(&uncounted.failed)});
        let place = path.child("uncountedTerminatedPods");
        errors.push(FieldError::invalid(&place, BadValue::json(&shown), "must be empty for finished job"));
    }
}

fn indexes(new: &Job, changes: &Changes, path: &Path<'_>, errors: &mut ErrorList) {
    let (spec, status) = (&new.spec, &new.status);
    let (completed_path, failed_path) = (path.child("completedIndexes"), path.child("failedIndexes"));
    let completed = status.completed_indexes.as_str();
    let failed = status.failed_indexes.as_deref();
    let per_index = spec.full.backoff_limit_per_index.is_some();
    if let Some(completions) = spec.completions() {
        if changes.completed_indexes
            && let Err(message) = count_indexes(completed, completions)
        {
            let message = format!("error parsing completedIndexes: {message}");
            errors.push(FieldError::invalid(&completed_path, completed, message));
        }
        if let Some(failed) = failed.filter(|_| changes.failed_indexes && per_index)
            && let Err(message) = count_indexes(failed, completions)
        {
            let message = format!("error parsing failedIndexes: {message}");
            errors.push(FieldError::invalid(&failed_path, failed, message));
        }
    }
    if changes.completed_indexes && !completed.is_empty() && !spec.is_indexed() {
        let message = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid(&completed_path, completed, message));
    }
    let Some(failed) = failed else { return };
    if changes.failed_indexes && !per_index {
        let message = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid(&failed_path, failed, message));
    }
    if (changes.failed_indexes || changes.completed_indexes)
        && let Some(index) = spec.completions().and_then(|completions| overlap(completed, failed, completions))
    {
        let message = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(FieldError::invalid(&failed_path, failed, message));
    }
}

/// The first index that both texts name. What cannot be read is passed over; it is complained about elsewhere.
fn overlap(completed: &str, failed: &str, completions: i32) -> Option<i32> {
    let read = |text: &str| -> Vec<(i32, i32)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut left, mut right) = (0, 0);
    while let (Some(one), Some(other)) = (completed.get(left), failed.get(right)) {
        if one.0 <= other.1 && other.0 <= one.1 {
            return Some(one.0.max(other.0));
        }
        if one.0 <= other.0 { left += 1 } else { right += 1 }
    }
    None
}

fn consistency(new: &Job, changes: &Changes, path: &Path<'_>, errors: &mut ErrorList) {
    let status = &new.status;
    let conditions = path.child("conditions");
    if let Some(count) = status.terminating.filter(|count| *count > 0 && status.finished().is_some())
        && (changes.finished || changes.terminating)
    {
        let message = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("terminating"), count, message));
    }
    if let Some(ready) = status.ready.filter(|ready| *ready > status.active)
        && (changes.ready || changes.active)
    {
        errors.push(FieldError::invalid(&path.child("ready"), ready, "cannot set more ready pods than active"));
    }
    let met = status.is_true("SuccessCriteriaMet");
    if met && status.is_true("Failed") {
        let message = "cannot set SuccessCriteriaMet=True and Failed=true conditions";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    if met && status.is_true("FailureTarget") {
        let message = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    if new.spec.full.success_policy.is_some() && !met && status.is_true("Complete") {
        let message = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
}

/// What was said once and cannot be taken back.
fn history(new: &Job, old: &Job, changes: &Changes, path: &Path<'_>, errors: &mut ErrorList) {
    let conditions = path.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if old.status.is_true(kind) && !new.status.is_true(kind) {
            let message = format!("cannot disable the terminal {kind}=True condition");
            errors.push(FieldError::invalid_unseen(&conditions, message));
        }
    }
    if new.status.failed < old.status.failed {
        let message = "cannot decrease the failed counter";
        errors.push(FieldError::invalid(&path.child("failed"), new.status.failed, message));
    }
    // An Indexed Job can be scaled down, and then fewer of its indexes count.
    let spec = &new.spec.full;
    let scalable = new.spec.is_indexed() && spec.completions == spec.parallelism;
    if !scalable && new.status.succeeded < old.status.succeeded {
        let message = "cannot decrease the succeeded counter";
        errors.push(FieldError::invalid(&path.child("succeeded"), new.status.succeeded, message));
    }
    let (ended, had_ended) = (new.status.completion_time, old.status.completion_time);
    if ended.is_some() && had_ended.is_some() && ended != had_ended {
        errors.push(FieldError::invalid(&path.child("completionTime"), date(ended), "field is immutable"));
    }
    let says = |job: &Job, status| job.status.condition("Suspended").is_some_and(|it| it.status == status);
    let resumes = says(old, ConditionStatus::True) && says(new, ConditionStatus::False);
    if changes.start_time && !resumes && old.status.start_time.is_some() && !new.spec.is_suspended() {
        let message = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid(&path.child("startTime"), date(new.status.start_time), message));
    }
    let (met, was_met) = (new.status.is_true("SuccessCriteriaMet"), old.status.is_true("SuccessCriteriaMet"));
    if was_met && !met {
        let message = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
    if old.status.is_true("Complete") && !was_met && met {
        let message = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(FieldError::invalid_unseen(&conditions, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::Convert;
    use serde_json::{Value, json};

    fn job(status: Value) -> Job {
        let spec = json!({"completions": 3, "completionMode": "Indexed", "template": {"spec": {"containers": []}}});
        let job = json!({"metadata": {"name": "j", "namespace": "x"}, "spec": spec, "status": status});
        Job::from_full(serde_json::from_value(job).expect("a Job")).expect("a Job")
    }

    fn check(old: Value, new: Value, expected: &[&str]) {
        let found: Vec<String> = job_status(&job(new), &job(old)).0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    fn conditions(kinds: &[&str]) -> Value {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    }

    #[test]
    fn a_job_cannot_end_before_its_end_was_announced_nor_come_back() {
        let start = "2026-01-01T00:00:00Z";
        check(
            json!({"startTime": start}),
            json!({"startTime": start, "conditions": conditions(&["Failed"])}),
            &[
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            ],
        );
        check(
            json!({"startTime": start, "conditions": conditions(&["FailureTarget"])}),
            json!({"startTime": start, "conditions": conditions(&["FailureTarget", "Failed"]), "active": 1}),
            &["status.active: Invalid value: 1: active>0 is invalid for finished job"],
        );
        check(
            json!({"startTime": start, "failed": 2, "conditions": conditions(&["FailureTarget", "Failed"])}),
            json!({"startTime": start, "failed": 1}),
            &[
                "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
            ],
        );
    }

    #[test]
    fn indexes_must_be_those_that_there_are() {
        check(json!({}), json!({"completedIndexes": "0-2"}), &[]);
        check(
            json!({}),
            json!({"completedIndexes": "0,3"}),
            &[
                "status.completedIndexes: Invalid value: \"0,3\": error parsing completedIndexes: too large index: \"3\"",
            ],
        );
        check(
            json!({}),
            json!({"completedIndexes": "0-1", "failedIndexes": "1"}),
            &[
                "status.failedIndexes: Invalid value: \"1\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
                "status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1",
            ],
        );
    }
}
