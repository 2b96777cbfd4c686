//! A `KubeSchedulerConfiguration` as its file says it (kube-scheduler, `config/v1/types.go`), nothing defaulted.

use serde::Deserialize;
use serde_json::Value;

use crate::api::duration::Duration;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeSchedulerConfiguration {
    /// Says which version this is.
    pub api_version: String,
    /// Says what this is.
    pub kind: String,
    /// Has no effect here: a cycle runs on one thread.
    pub parallelism: Option<i32>,
    /// Has no effect here: there is one scheduler.
    pub leader_election: LeaderElectionConfiguration,
    /// How the API server is spoken to.
    pub client_connection: ClientConnectionConfiguration,
    /// Has no effect here.
    pub enable_profiling: Option<bool>,
    /// Has no effect here.
    pub enable_contention_profiling: Option<bool>,
    /// After how many percent of the nodes have been found feasible the search ends.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// The first back-off.
    pub pod_initial_backoff_seconds: Option<i64>,
    /// The longest back-off.
    pub pod_max_backoff_seconds: Option<i64>,
    /// The profiles.
    pub profiles: Vec<KubeSchedulerProfile>,
    /// Webhooks, which are not simulated.
    pub extenders: Vec<Extender>,
    /// Has no effect here: there is one scheduler.
    pub delay_cache_until_active: bool,
}

/// How the scheduler that acts is chosen among several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElectionConfiguration {
    /// Whether there is an election.
    pub leader_elect: Option<bool>,
    /// How long a lease lasts.
    pub lease_duration: Duration,
    /// How long the leader tries to renew it.
    pub renew_deadline: Duration,
    /// How long to wait between tries.
    pub retry_period: Duration,
    /// The kind of the lock.
    pub resource_lock: String,
    /// The lock's name.
    pub resource_name: String,
    /// The lock's namespace.
    pub resource_namespace: String,
}

/// How the API server is spoken to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnectionConfiguration {
    /// A file that has no effect here.
    pub kubeconfig: String,
    /// Has no effect here.
    pub accept_content_types: String,
    /// Has no effect here.
    pub content_type: String,
    /// Requests a second in the long run.
    pub qps: f64,
    /// Requests at once.
    pub burst: i32,
}

/// A profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeSchedulerProfile {
    /// The `schedulerName` of the pods that it is for.
    pub scheduler_name: Option<String>,
    /// The same as in the whole file, for this profile.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// What differs from the default plugins.
    pub plugins: Option<Plugins>,
    /// The arguments of plugins.
    pub plugin_config: Vec<PluginConfig>,
}

/// What differs from the default plugins, by extension point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the framework's own words")]
pub struct Plugins {
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
    pub multi_point: PluginSet,
    pub placement_generate: PluginSet,
    pub placement_score: PluginSet,
}

/// What is on and off at a point.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginSet {
    /// Plugins that are on.
    pub enabled: Vec<Plugin>,
    /// Default plugins that are off; `*` stands for all.
    pub disabled: Vec<Plugin>,
}

/// A plugin that is on or off.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// How much its scores weigh.
    pub weight: Option<i32>,
}

/// The arguments of a plugin.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginConfig {
    /// The plugin.
    pub name: String,
    /// What the plugin takes.
    pub args: Value,
}

/// A webhook that has a say in scheduling.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Extender {
    /// Where it is.
    pub url_prefix: String,
    /// The verb with which it is asked to filter.
    pub filter_verb: String,
    /// The verb with which it is asked about victims.
    pub preempt_verb: String,
    /// The verb with which it is asked for scores.
    pub prioritize_verb: String,
    /// How much its scores weigh.
    pub weight: i64,
    /// The verb with which it is asked to bind.
    pub bind_verb: String,
    /// Whether it speaks HTTPS.
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    /// How it speaks HTTPS.
    pub tls_config: Option<ExtenderTLSConfig>,
    /// How long it may take.
    pub http_timeout: Duration,
    /// Whether it knows the nodes itself.
    pub node_cache_capable: bool,
    /// The resources that it manages.
    pub managed_resources: Vec<ExtenderManagedResource>,
    /// Whether its failures are ignored.
    pub ignorable: bool,
}

/// A resource that a webhook manages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderManagedResource {
    /// The resource.
    pub name: String,
    /// Whether NodeResourcesFit leaves it alone.
    pub ignored_by_scheduler: bool,
}

/// How a webhook speaks HTTPS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct ExtenderTLSConfig {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: String,
    pub key_file: String,
    pub ca_file: String,
    pub cert_data: String,
    pub key_data: String,
    pub ca_data: String,
}
