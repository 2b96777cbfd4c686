//! CronJobs (kubernetes, pkg/apis/batch/validation).

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec};

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::job::job_spec;
use super::metadata::{self, Scope};
use super::{Validate, format, not_negative, one_of, text};
use crate::api::cron::{Schedule, Zone};

/// The Jobs of a CronJob have eleven more letters in their names, and at most 63 in all.
const LONGEST_NAME: usize = 52;

impl Validate for CronJob {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        spec(&self.spec, None, &mut errors);
        let name = text(&self.metadata.name);
        if name.len() > LONGEST_NAME {
            let message = format!("must be no more than {LONGEST_NAME} characters");
            errors.push(FieldError::invalid(&Path::Root.child("metadata.name"), name, message));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        spec(&self.spec, Some(&old.spec), &mut errors);
        errors
    }
}

fn spec(spec: &CronJobSpec, old: Option<&CronJobSpec>, errors: &mut ErrorList) {
    let path = Path::Root.child("spec");
    if spec.schedule.is_empty() {
        errors.push(FieldError::required(&path.child("schedule"), ""));
    } else {
        let had_zone = old.is_some_and(|old| old.schedule.contains("TZ"));
        schedule(spec, had_zone, &path.child("schedule"), errors);
    }
    if let Some(deadline) = spec.starting_deadline_seconds {
        not_negative(deadline, &path.child("startingDeadlineSeconds"), errors);
    }
    if old.is_none_or(|old| old.time_zone != spec.time_zone)
        && let Some(zone) = &spec.time_zone
    {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(text(&spec.concurrency_policy), &policies, &path.child("concurrencyPolicy"), errors);
    let empty = JobSpec::default();
    let (template, job) = (path.child("jobTemplate.spec"), spec.job_template.spec.as_ref().unwrap_or(&empty));
    job_spec(job, &template, errors);
    if let Some(selector) = &job.selector {
        let message = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&template.child("selector"), BadValue::json(selector), message));
    }
    if job.manual_selector == Some(true) {
        errors.push(FieldError::not_supported(&template.child("manualSelector"), true, &["nil", "false"]));
    }
    let limits = [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ];
    for (field, limit) in limits {
        if let Some(limit) = limit {
            not_negative(limit.into(), &path.child(field), errors);
        }
    }
}

/// A time zone inside the schedule is refused unless the CronJob had one there before that was forbidden.
fn schedule(spec: &CronJobSpec, had_zone: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let schedule = spec.schedule.as_str();
    if let Err(message) = Schedule::parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, message));
    }
    let message = match had_zone {
        _ if !schedule.contains("TZ") => return,
        false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        true if spec.time_zone.is_some() => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        true => return,
    };
    errors.push(FieldError::invalid(path, schedule, message));
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if zone.is_empty() {
        return errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let well_formed = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(letter)
    };
    if !zone.split('/').all(well_formed) {
        return errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
    }
    if zone.eq_ignore_ascii_case("Local") {
        let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, message));
    }
    if let Err(message) = Zone::load(zone) {
        errors.push(FieldError::invalid(path, zone, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use serde_json::{Value, json};

    fn cron_job(spec: &Value) -> CronJob {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let mut merged = json!({"schedule": "@hourly", "jobTemplate": {"spec": {"template": pod}}});
        json_patch::merge(&mut merged, spec);
        let value = json!({"metadata": {"name": "c", "namespace": "x", "resourceVersion": "1"}, "spec": merged});
        let mut cron_job: CronJob = serde_json::from_value(value).expect("a CronJob");
        cron_job.set_defaults();
        cron_job
    }

    fn check(spec: Value, expected: &[&str]) {
        let found: Vec<String> = cron_job(&spec).validate().0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn cron_jobs_are_refused_with_the_real_texts() {
        check(json!({"timeZone": "Europe/Berlin"}), &[]);
        check(
            json!({"schedule": "* * * *", "concurrencyPolicy": "Maybe"}),
            &[
                "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        );
        check(
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            &[
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ],
        );
        check(
            json!({"timeZone": "Mars/Olympus", "startingDeadlineSeconds": -1}),
            &[
                "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus",
            ],
        );
        check(
            json!({"jobTemplate": {"spec": {"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}}}}),
            &[
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ],
        );
    }
}
