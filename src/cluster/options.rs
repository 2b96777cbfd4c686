//! What a cluster is made of: plain data, decided before the run begins.

use std::rc::Rc;

use crate::api::meta::Epoch;
use crate::api::node::Taint;
use crate::api::resources::Resources;
use crate::apiserver::metrics::Signal;
use crate::controllers;
use crate::engine::disk::DiskProfile;
use crate::engine::network::NetworkOptions;
use crate::engine::time::SimDuration;
use crate::kubelet::Configuration;
use crate::runtime::model::ImageModels;
use crate::scheduler;
use crate::scheduler::registry::Registry;

/// A cluster to be simulated.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The date at which virtual time is zero.
    pub epoch: Epoch,
    /// How many etcd members there are: 1, 3 or 5, each on a machine of its own.
    pub etcd_members: u32,
    /// The disks of the etcd members.
    pub etcd_disk: DiskProfile,
    /// How many API servers there are, each on a machine of its own. The controller manager and the scheduler run on the first.
    pub api_servers: u32,
    /// When an API server gives up a request that is not a watch.
    pub request_timeout: SimDuration,
    /// The nodes, in the order in which they are named and started.
    pub nodes: Vec<NodeOptions>,
    /// Whether renewals of node leases travel while nothing disturbs the cluster.
    pub lease_renewals: LeaseRenewals,
    /// How much of its history etcd keeps in memory.
    pub history: History,
    /// The network.
    pub network: NetworkOptions,
    /// What images do once they run.
    pub images: ImageModels,
    /// Measures that change over time: the load of pods, and what autoscalers look at besides.
    pub signals: Vec<Signal>,
    /// Whether metrics-server runs, on the machine of the first API server.
    pub metrics_server: bool,
    /// The controllers' settings.
    pub controllers: controllers::config::Config,
    /// Client-side limits of each controller: requests a second, and how many at once.
    pub controller_limits: Limits,
    /// Client-side limits of the scheduler.
    pub scheduler_limits: Limits,
    /// The scheduler's configuration.
    pub scheduler: Rc<scheduler::configuration::Configuration>,
    /// The plugins that the scheduler's profiles may name.
    pub scheduler_plugins: Registry,
}

/// What becomes of the renewals of node leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeaseRenewals {
    /// Each one travels and is written, always.
    Each,
    /// While nothing disturbs the cluster they are worked out when somebody asks (see
    /// [`Heartbeats`](crate::apiserver::heartbeats::Heartbeats)); a third of all that happens in a large cluster is saved.
    #[default]
    WhenAsked,
}

/// How much of its history etcd keeps in memory. What a run does is the same either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum History {
    /// What API servers may still ask for: what came after their watch caches, and the revisions of lists in pages that may go on. A
    /// list as of another revision of the past that somebody asks for
    /// ([`Exact`](crate::apiserver::protocol::ListRevision::Exact)) is refused as too old.
    #[default]
    WhileNeeded,
    /// Everything until it is compacted, as etcd does: the last five to ten minutes.
    UntilCompacted,
}

/// A client-side rate limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Requests a second in the long run.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// A node to be simulated.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeOptions {
    /// The node's name, its own.
    pub name: String,
    /// What the machine has.
    pub capacity: Resources,
    /// Labels that the kubelet gives the node, besides those it always gives.
    pub labels: Vec<(String, String)>,
    /// Taints that the kubelet registers the node with.
    pub taints: Vec<Taint>,
    /// Images that are on the node from the beginning.
    pub images: Vec<String>,
    /// How fast images are pulled.
    pub pull_bytes_per_second: u64,
    /// Which kubelet runs on it.
    pub kubelet: KubeletKind,
    /// What that kubelet's administrator says.
    pub configuration: Configuration,
}

/// Which kubelet runs on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KubeletKind {
    /// One that does what a real kubelet does.
    #[default]
    Real,
    /// One that only makes pods run and end, as the stand-in that control-plane recordings were made with.
    StandIn,
}

impl Default for ClusterOptions {
    /// Three etcd members, one API server, no nodes, the limits of Kubernetes' own components.
    fn default() -> Self {
        ClusterOptions {
            // 2026-01-01T00:00:00Z
            epoch: Epoch(1_767_225_600_000_000_000),
            etcd_members: 3,
            etcd_disk: DiskProfile::default(),
            api_servers: 1,
            request_timeout: SimDuration::from_secs(60),
            nodes: Vec::new(),
            lease_renewals: LeaseRenewals::default(),
            history: History::default(),
            network: NetworkOptions::default(),
            images: ImageModels::default(),
            signals: Vec::new(),
            metrics_server: true,
            controllers: controllers::config::Config::default(),
            controller_limits: Limits { per_second: 20, burst: 30 },
            scheduler_limits: Limits { per_second: 50, burst: 100 },
            scheduler: Rc::default(),
            scheduler_plugins: Registry::in_tree(),
        }
    }
}

impl Default for NodeOptions {
    /// 4 CPU, 16 GiB, 110 pods, 100 GiB of ephemeral storage, images at 100 MB/s.
    fn default() -> Self {
        NodeOptions {
            name: "node-0".to_owned(),
            capacity: Resources {
                milli_cpu: 4000,
                memory: 16 << 30,
                ephemeral_storage: 100 << 30,
                pods: 110,
                scalars: Vec::new(),
            },
            labels: Vec::new(),
            taints: Vec::new(),
            images: Vec::new(),
            pull_bytes_per_second: 100_000_000,
            kubelet: KubeletKind::Real,
            configuration: Configuration::default(),
        }
    }
}
