//! What a pod's failure means for its Job, and which successes are enough (kube-controller-manager, job:
//! pod_failure_policy, success_policy).

use k8s_openapi::api::batch::v1 as batch;

use crate::api::batch::JobSpec;
use crate::api::pod::{ContainerState, ContainerStatus, Pod, Terminated};

use super::indexes::Indexes;

/// What the failure of a pod leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It counts towards the limits.
    Count,
    /// It does not count.
    Ignore,
    /// The pod's index has failed.
    FailIndex,
    /// The Job has failed, and this is why.
    FailJob(String),
}

/// What the failure of a pod leads to: the first rule that it matches says so.
pub fn judge(pod: &Pod, spec: &JobSpec) -> Verdict {
    let Some(policy) = &spec.full.pod_failure_policy else { return Verdict::Count };
    for (index, rule) in policy.rules.iter().enumerate() {
        let Some(what) = matching(pod, rule) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignore,
            "FailIndex" => return Verdict::FailIndex,
            "Count" => return Verdict::Count,
            "FailJob" => return Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => {}
        }
    }
    Verdict::Count
}

/// What of a pod matches a rule, in words.
fn matching(pod: &Pod, rule: &batch::PodFailurePolicyRule) -> Option<String> {
    let place = format_args!("{}/{}", pod.meta.namespace, pod.meta.name);
    if let Some(codes) = &rule.on_exit_codes {
        let statuses = pod.status.containers.iter().chain(pod.status.init_containers.iter());
        let (name, end) = statuses.filter_map(|status| ended(status, codes)).next()?;
        return Some(format!("Container {name} for pod {place} failed with exit code {}", end.exit_code));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let condition = pod.status.conditions.iter().find(|condition| {
        let fits = |pattern: &batch::PodFailurePolicyOnPodConditionsPattern| {
            pattern.type_ == condition.kind.as_str() && pattern.status.as_deref() == Some(condition.status.as_str())
        };
        patterns.iter().any(fits)
    })?;
    Some(format!("Pod {place} has condition {}", condition.kind.as_str()))
}

/// How a container ended, if it failed in a way that the rule speaks of.
fn ended<'a>(
    status: &'a ContainerStatus,
    codes: &batch::PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, &'a Terminated)> {
    let ContainerState::Terminated(end) = &status.state else { return None };
    if codes.container_name.as_deref().is_some_and(|name| name != status.name.as_str()) || end.exit_code == 0 {
        return None;
    }
    let listed = codes.values.contains(&end.exit_code);
    let matches = match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    matches.then_some((status.name.as_str(), end))
}

/// The message of the first rule of the success policy that is met.
pub fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let policy = spec.full.success_policy.as_ref().filter(|_| !succeeded.is_empty())?;
    let completions = u32::try_from(spec.completions()?).ok()?;
    let met = |rule: &batch::SuccessPolicyRule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(text), count) => {
            let wanted = Indexes::parse(text, completions);
            let common = wanted.common(succeeded);
            !wanted.is_empty() && (common == wanted.total() || count.is_some_and(|count| common >= count))
        }
        (None, Some(count)) => succeeded.total() >= count,
        (None, None) => false,
    };
    policy.rules.iter().position(met).map(|index| format!("Matched rules at index {index}"))
}
