//! What is wrong with a configuration whose fields all fit (kube-scheduler, `apis/config/validation/validation.go`).

use std::collections::BTreeSet;

use super::file::{Extender, KubeSchedulerConfiguration, KubeSchedulerProfile, LeaderElectionConfiguration, PluginSet};
use super::plugins::ExtensionPoint;
use super::{API_VERSION, ProfileConfiguration};
use crate::api::duration::Duration;
use crate::api::validation::error::{BadValue, ErrorList, FieldError, Path};
use crate::api::validation::{format, resources};

/// Plugins that there were once.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// Everything that is wrong with a configuration, `profiles` being its profiles with all defaults.
pub(super) fn validate(file: &KubeSchedulerConfiguration, profiles: &[ProfileConfiguration]) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = Path::Root;
    if file.client_connection.burst < 0 {
        let place = root.child("clientConnection");
        errors.push(FieldError::invalid(&place.child("burst"), file.client_connection.burst, "must be non-negative"));
    }
    leader_election(&file.leader_election, &root.child("leaderElection"), &mut errors);
    if let Some(parallelism) = file.parallelism.filter(|parallelism| *parallelism <= 0) {
        let message = "should be an integer value greater than zero";
        errors.push(FieldError::invalid(&root.child("parallelism"), parallelism, message));
    }
    let path = root.child("profiles");
    let mut seen = BTreeSet::new();
    for (index, (profile, complete)) in file.profiles.iter().zip(profiles).enumerate() {
        let place = path.index(index);
        validate_profile(profile, complete, &place, &mut errors);
        if !seen.insert(complete.scheduler_name.as_str()) {
            // The real one means to show the path of the other name, which has no field that is shown.
            let nothing = BadValue::json(&serde_json::json!({}));
            errors.push(FieldError::duplicate(&place.child("schedulerName"), nothing));
        }
    }
    queue_sort(profiles, &path, &mut errors);
    percentage(file.percentage_of_nodes_to_score, &root, &mut errors);
    let first = file.pod_initial_backoff_seconds.unwrap_or(1);
    let longest = file.pod_max_backoff_seconds.unwrap_or(10);
    if first <= 0 {
        errors.push(FieldError::invalid(&root.child("podInitialBackoffSeconds"), first, "must be greater than 0"));
    }
    if longest < first {
        let message = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.push(FieldError::invalid(&root.child("podMaxBackoffSeconds"), longest, message));
    }
    extenders(&file.extenders, &root.child("extenders"), &mut errors);
    errors
}

fn leader_election(election: &LeaderElectionConfiguration, path: &Path<'_>, errors: &mut ErrorList) {
    if !election.leader_elect.unwrap_or(true) {
        return;
    }
    let or = |given: Duration, default: i64| if given == Duration::ZERO { Duration::from_secs(default) } else { given };
    let (lease, renew) = (or(election.lease_duration, 15), or(election.renew_deadline, 10));
    let retry = or(election.retry_period, 2);
    for (name, value) in [("leaseDuration", lease), ("renewDeadline", renew), ("retryPeriod", retry)] {
        if value <= Duration::ZERO {
            let value = value.to_string();
            errors.push(FieldError::invalid(&path.child(name), &value, "must be greater than zero"));
        }
    }
    if lease <= renew {
        let (value, message) = (renew.to_string(), "must be greater than `RenewDeadline`");
        errors.push(FieldError::invalid(&path.child("leaseDuration"), &value, message));
    }
    if !matches!(election.resource_lock.as_str(), "" | "leases") {
        let message = "resourceLock value must be \"leases\"";
        errors.push(FieldError::invalid(&path.child("resourceLock"), &election.resource_lock, message));
    }
}

fn percentage(percentage: Option<i32>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        let place = path.child("percentageOfNodesToScore");
        errors.push(FieldError::invalid(&place, percentage, "not in valid range [0-100]"));
    }
}

fn validate_profile(
    profile: &KubeSchedulerProfile,
    complete: &ProfileConfiguration,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if complete.scheduler_name.is_empty() {
        errors.push(FieldError::required(&path.child("schedulerName"), ""));
    }
    percentage(profile.percentage_of_nodes_to_score, path, errors);
    let was_invalid =
        format!("was invalid in version \"{API_VERSION}\" (KubeSchedulerConfiguration is version \"{API_VERSION}\")");
    if let Some(plugins) = &profile.plugins {
        let place = path.child("plugins");
        for ExtensionPoint { field, set, .. } in plugins.extension_points() {
            let enabled = place.child(field);
            let enabled = enabled.child("enabled");
            for (position, plugin) in set.enabled.iter().enumerate() {
                if REMOVED.contains(&plugin.name.as_str()) {
                    errors.push(FieldError::invalid(&enabled.index(position), &plugin.name, was_invalid.as_str()));
                }
            }
        }
    }
    let list = path.child("pluginConfig");
    let mut seen = BTreeSet::new();
    for (position, config) in profile.plugin_config.iter().enumerate() {
        let place = list.index(position);
        if !seen.insert(config.name.as_str()) {
            errors.push(FieldError::duplicate(&place, &config.name));
        }
        if REMOVED.contains(&config.name.as_str()) {
            errors.push(FieldError::invalid(&place, &config.name, was_invalid.as_str()));
        } else if config.name != "NodeResourcesFit"
            // The real one looks for the arguments of NodeResourcesFit under another name; the plugin checks them itself.
            && let Some((_, arguments)) = complete.arguments.get(position)
        {
            errors.append(arguments.validate(&place.child("args")));
        }
    }
}

/// All profiles share one queue, so its order must be the same for all.
fn queue_sort(profiles: &[ProfileConfiguration], path: &Path<'_>, errors: &mut ErrorList) {
    let Some((first, others)) = profiles.split_first() else { return };
    let sorts: &PluginSet = &first.plugins.queue_sort;
    if sorts.enabled.len() > 1 {
        let place = path.index(0);
        let place = place.child("plugins.queueSort.Enabled");
        let count = sorts.enabled.len() as i64;
        errors.push(FieldError::invalid(&place, count, "only one queue sort plugin can be enabled"));
    }
    for (index, profile) in others.iter().enumerate() {
        let other = &profile.plugins.queue_sort;
        if other != sorts {
            let place = path.index(index + 1);
            let message = "must be the same for all profiles";
            errors.push(FieldError::invalid(&place.child("plugins.queueSort"), shown(other), message));
        }
    }
}

/// A set of plugins as the real scheduler's internal type prints it.
fn shown(set: &PluginSet) -> BadValue {
    let list = |plugins: &[super::file::Plugin]| {
        let plugin = |plugin: &super::file::Plugin| serde_json::json!({ "Name": plugin.name, "Weight": plugin.weight.unwrap_or(0) });
        if plugins.is_empty() { serde_json::Value::Null } else { plugins.iter().map(plugin).collect() }
    };
    BadValue::json(&serde_json::json!({ "Enabled": list(&set.enabled), "Disabled": list(&set.disabled) }))
}

fn extenders(extenders: &[Extender], path: &Path<'_>, errors: &mut ErrorList) {
    let mut managed = BTreeSet::new();
    for (position, extender) in extenders.iter().enumerate() {
        let place = path.index(position);
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let message = "must have a positive weight applied to it";
            errors.push(FieldError::invalid(&place.child("weight"), extender.weight, message));
        }
        let list = place.child("managedResources");
        for (position, resource) in extender.managed_resources.iter().enumerate() {
            let item = list.index(position);
            let name = item.child("name");
            let wrong = format::label_key(&resource.name);
            if wrong.is_empty() && !resources::is_extended(&resource.name) {
                errors.push(FieldError::invalid(&name, &resource.name, "is an invalid extended resource name"));
            }
            errors.invalid_each(&name, &resource.name, wrong);
            if !managed.insert(&resource.name) {
                errors.push(FieldError::invalid(&name, &resource.name, "duplicate extender managed resource name"));
            }
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        let value = format!("found {binders} extenders implementing bind");
        errors.push(FieldError::invalid(path, &value, "only one extender can implement bind"));
    }
}
