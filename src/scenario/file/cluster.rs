//! The cluster section of a scenario file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::runtime::size::Size;
use crate::runtime::span::{Span, Spread};

use super::ManifestFile;
use super::amount::{Amount, Share};

/// The cluster to be simulated.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterFile {
    /// The nodes, in pools of like ones. One pool of three if not given.
    pub nodes: Option<Vec<PoolFile>>,
    /// The etcd members.
    pub etcd: EtcdFile,
    /// How many API servers there are, each on a machine of its own (`control-plane-0`, ...); the controller manager and
    /// the scheduler run on the first. 1 if not given.
    pub api_servers: Option<u32>,
    /// When an API server gives up a request that is not a watch, and answers with a timeout (`--request-timeout`). 60s if not
    /// given. Clients wait as long as it takes, unless their connection breaks.
    pub request_timeout: Option<Span>,
    /// Whether metrics-server runs, as the process `metrics-server` on `control-plane-0`: without it nobody can tell what pods use. It
    /// does if not given.
    pub metrics_server: Option<bool>,
    /// Whether the renewals of node leases travel while nothing disturbs the cluster.
    pub lease_renewals: LeaseRenewalsFile,
    /// The network between all machines.
    pub network: NetworkFile,
    /// The controller manager.
    pub controllers: ControllersFile,
    /// The scheduler.
    pub scheduler: LimitsFile,
    /// The scheduler's configuration: a `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1), in a file or here. The
    /// default profile if not given.
    pub scheduler_configuration: Option<ManifestFile>,
}

/// Nodes that are alike. They are called after the pool: `node-0`, `node-1`, ...
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolFile {
    /// What the nodes' names begin with. `node` if not given.
    #[serde(default)]
    pub name: Option<String>,
    /// How many there are. 1 if not given.
    #[serde(default)]
    pub count: Option<u32>,
    /// The CPUs of each. 4 if not given.
    #[serde(default)]
    pub cpu: Option<Amount>,
    /// The memory of each. 16Gi if not given.
    #[serde(default)]
    pub memory: Option<Amount>,
    /// How many pods each may run. 110 if not given.
    #[serde(default)]
    pub pods: Option<u32>,
    /// The local disk that pods of each may use. 100Gi if not given.
    #[serde(default)]
    pub ephemeral_storage: Option<Amount>,
    /// The zones in which the nodes stand, dealt out in turn (label `topology.kubernetes.io/zone`).
    #[serde(default)]
    pub zones: Vec<String>,
    /// Labels of each.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints of each.
    #[serde(default)]
    pub taints: Vec<TaintFile>,
    /// Images that are on each from the beginning and need not be pulled.
    #[serde(default)]
    pub images: Vec<String>,
    /// Which kubelet runs on each.
    #[serde(default)]
    pub kubelet: KubeletFile,
    /// How many bytes of images each pulls in a second. 100M if not given.
    #[serde(default)]
    pub pull_bandwidth: Option<Size>,
    /// The configuration of each one's kubelet, with the names of a `KubeletConfiguration`.
    #[serde(default)]
    pub kubelet_config: KubeletConfigFile,
}

/// What an administrator says to a kubelet. Defaults are those of Kubernetes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeletConfigFile {
    /// How much must be left lest pods are evicted at once: `memory.available`, `nodefs.available`, `imagefs.available`,
    /// `pid.available`, each a quantity or a percentage. `memory.available: 100Mi`, `nodefs.available: 10%` and
    /// `imagefs.available: 15%` if not given; if any is given, only those that are count.
    pub eviction_hard: Option<BTreeMap<String, String>>,
    /// How much must be left lest pods are evicted after a while.
    pub eviction_soft: BTreeMap<String, String>,
    /// How long that while is, for each of them.
    pub eviction_soft_grace_period: BTreeMap<String, Span>,
    /// How much more than a threshold must be left before eviction stops.
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// How long the node says that something runs short after it last did. 5m if not given.
    pub eviction_pressure_transition_period: Option<Span>,
    /// The longest grace of pods that a soft threshold evicts, in seconds. 0 if not given.
    pub eviction_max_pod_grace_period: Option<u32>,
    /// What is kept for the system: `cpu`, `memory`, `ephemeral-storage`.
    pub system_reserved: BTreeMap<String, Amount>,
    /// What is kept for Kubernetes itself.
    pub kube_reserved: BTreeMap<String, Amount>,
    /// Images are collected when more of the disk is used than this. 85 if not given.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: Option<u32>,
    /// Down to this. 80 if not given.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: Option<u32>,
    /// Images that have not been on the node for so long are not collected. 2m if not given.
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: Option<Span>,
    /// Whether images are pulled one after the other. True if not given.
    pub serialize_image_pulls: Option<bool>,
    /// How many are pulled at a time if not one after the other. Any number if not given.
    pub max_parallel_image_pulls: Option<u32>,
    /// How long a shutdown is held up until pods have ended. Not at all if not given.
    pub shutdown_grace_period: Option<Span>,
    /// Of that, for critical pods, which end last.
    pub shutdown_grace_period_critical_pods: Option<Span>,
    /// How many processes the node can have (`fs.pid_max` of the machine). 4194304 if not given.
    pub pid_max: Option<u32>,
    /// How many inodes the filesystem of the node has. One for each 16 KiB of its ephemeral storage if not given.
    pub inodes: Option<u32>,
}

/// Which kubelet runs on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KubeletFile {
    /// One that does what a real kubelet does: pulls, probes, restarts, status, events.
    #[default]
    Real,
    /// One that only makes pods run and end: 1 s after the binding a pod is ready, 100 ms after a deletion it is gone.
    StandIn,
}

/// What becomes of the renewals of node leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LeaseRenewalsFile {
    /// Each one travels and is written. So it is in any case if an expectation or a step's condition looks at leases.
    Each,
    /// While all is well they are not sent, and whoever asks for a lease is told its date all the same. Within a minute of a
    /// fault or of its end, and while one lasts, each one travels.
    #[default]
    WhenAsked,
}

/// A taint: keeps pods away that do not tolerate it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaintFile {
    /// The key.
    pub key: String,
    /// The value.
    #[serde(default)]
    pub value: String,
    /// What it does.
    pub effect: EffectFile,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum EffectFile {
    /// They are not scheduled there.
    NoSchedule,
    /// They are scheduled elsewhere if possible.
    PreferNoSchedule,
    /// They are evicted too.
    NoExecute,
}

/// The etcd members, each on a machine of its own: `etcd-0`, `etcd-1`, ...
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EtcdFile {
    /// How many: 1, 3 or 5. 3 if not given.
    pub members: Option<u32>,
    /// Their disks.
    pub disk: DiskFile,
}

/// A disk. What is not given is that of a good network-attached SSD.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DiskFile {
    /// How long a write takes to reach the device. 20us if not given.
    pub write: Option<Spread>,
    /// How long it takes until what was written would survive a power loss. 1ms in the median, 4ms at the 99th percentile.
    pub fsync: Option<Spread>,
    /// Bytes written in a second. 200M if not given.
    pub bandwidth: Option<Size>,
}

/// The network. What is not given is that of a healthy data centre.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkFile {
    /// How long a packet travels between two machines. 100us in the median, 400us at the 99th percentile.
    pub latency: Option<Spread>,
    /// How long a packet travels between two processes of one machine. 15us in the median, 60us at the 99th percentile.
    pub local_latency: Option<Spread>,
    /// Bytes in a second between two machines. 1250M (10 Gbit/s) if not given.
    pub bandwidth: Option<Size>,
    /// The share of packets that get lost and are sent again. None if not given.
    pub loss: Option<Share>,
    /// A connection on which nothing is heard for so long is given up. 45s if not given.
    pub keepalive_timeout: Option<Span>,
}

/// Client-side limits.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Requests a second in the long run (`--kube-api-qps`): 20 for the controller manager, 50 for the scheduler.
    pub qps: Option<u32>,
    /// Requests at once (`--kube-api-burst`): 30 for the controller manager, 100 for the scheduler.
    pub burst: Option<u32>,
}

/// The controller manager: its limits and the options of its controllers, with the names and defaults of its flags.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControllersFile {
    /// Requests a second in the long run (`--kube-api-qps`). 20 if not given.
    pub qps: Option<u32>,
    /// Requests at once (`--kube-api-burst`). 30 if not given.
    pub burst: Option<u32>,
    /// How many Deployments are looked at concurrently (`--concurrent-deployment-syncs`). 5 if not given.
    pub concurrent_deployment_syncs: Option<u32>,
    /// How many ReplicaSets are looked at concurrently (`--concurrent-replicaset-syncs`). 5 if not given.
    pub concurrent_replica_set_syncs: Option<u32>,
    /// How often nodes are looked at (`--node-monitor-period`). 5s if not given.
    pub node_monitor_period: Option<Span>,
    /// How long a node may be silent before it counts as lost (`--node-monitor-grace-period`). 50s if not given.
    pub node_monitor_grace_period: Option<Span>,
    /// How long a new node may be silent (`--node-startup-grace-period`). 60s if not given.
    pub node_startup_grace_period: Option<Span>,
    /// How many nodes a second are given up in a zone that is mostly well, as "0.1" or 100m (`--node-eviction-rate`). 0.1 if not given.
    pub node_eviction_rate: Option<Amount>,
    /// The same in a large zone that is partly down (`--secondary-node-eviction-rate`). 0.01 if not given.
    pub secondary_node_eviction_rate: Option<Amount>,
    /// The share of a zone's nodes from which on it is partly down, as "0.55" (`--unhealthy-zone-threshold`). 0.55 if not given.
    pub unhealthy_zone_threshold: Option<Amount>,
    /// A zone with no more nodes than this gives up none while it is partly down (`--large-cluster-size-threshold`). 50 if not given.
    pub large_cluster_size_threshold: Option<u32>,
    /// How many pods that have ended are kept (`--terminated-pod-gc-threshold`). 12500 if not given.
    pub terminated_pod_gc_threshold: Option<u32>,
    /// How often pods without a node or beyond the limit of ended ones are collected. 20s if not given.
    pub pod_gc_period: Option<Span>,
}
