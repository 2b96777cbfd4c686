//! Defaults of Jobs and CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};

use super::{Defaults, fill, pod_template_defaults};

impl Defaults for Job {
    fn set_defaults(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        spec.backoff_limit.get_or_insert(limit);
        let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        if labels.is_some() && self.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
            self.metadata.labels = labels;
        }
        spec.completion_mode.get_or_insert_with(|| "NonIndexed".to_owned());
        spec.suspend.get_or_insert(false);
        let policy = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
        spec.pod_replacement_policy.get_or_insert_with(|| policy.to_owned());
        spec.manual_selector.get_or_insert(false);
        pods(spec);
    }
}

/// The Jobs that a CronJob describes get their own defaults once they are made.
impl Defaults for CronJob {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        fill(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        if let Some(job) = &mut spec.job_template.spec {
            pods(job);
        }
    }
}

/// What a Job says about its pods.
fn pods(spec: &mut JobSpec) {
    let rules = spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
    for pattern in rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten()) {
        fill(&mut pattern.status, "True");
    }
    if let Some(template) = &mut spec.template.spec {
        pod_template_defaults(template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, expected: Value) {
        let mut job: Job = serde_json::from_value(json!({"spec": spec})).expect("a job");
        job.set_defaults();
        let mut found = serde_json::to_value(&job.spec).expect("JSON");
        found.as_object_mut().map(|spec| spec.remove("template"));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_job_runs_one_pod_once_unless_told_otherwise() {
        check(
            json!({"template": {}}),
            json!({
                "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
                "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false
            }),
        );
        check(
            json!({"template": {}, "parallelism": 3, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": []}}),
            json!({
                "parallelism": 3, "backoffLimit": 2_147_483_647, "backoffLimitPerIndex": 1, "suspend": false,
                "completionMode": "NonIndexed", "podFailurePolicy": {"rules": []}, "podReplacementPolicy": "Failed",
                "manualSelector": false
            }),
        );
    }

    #[test]
    fn a_job_without_labels_takes_those_of_its_pods() {
        let template = json!({"metadata": {"labels": {"a": "b"}}});
        let mut job: Job = serde_json::from_value(json!({"spec": {"template": template}})).expect("a job");
        job.set_defaults();
        assert_eq!(job.metadata.labels.and_then(|labels| labels.get("a").cloned()).as_deref(), Some("b"));
    }
}
