//! How many workers the controllers have and how often they look by themselves: kube-controller-manager's options and defaults.

use std::rc::Rc;

use crate::apiserver::heartbeats::Heartbeats;
use crate::engine::time::SimDuration;

/// The controllers' options. [`Config::default`] gives the values of kube-controller-manager 1.36
/// (pkg/controller/apis/config, `v1alpha1` defaults).
#[derive(Clone, Debug)]
pub struct Config {
    /// `--concurrent-deployment-syncs`.
    pub concurrent_deployment_syncs: usize,
    /// `--concurrent-replicaset-syncs`.
    pub concurrent_replica_set_syncs: usize,
    /// `--concurrent-daemonset-syncs`.
    pub concurrent_daemon_set_syncs: usize,
    /// `--concurrent-rc-syncs`.
    pub concurrent_replication_controller_syncs: usize,
    /// `--concurrent-statefulset-syncs`.
    pub concurrent_stateful_set_syncs: usize,
    /// `--concurrent-job-syncs`.
    pub concurrent_job_syncs: usize,
    /// `--concurrent-cron-job-syncs`.
    pub concurrent_cron_job_syncs: usize,
    /// `--concurrent-ttl-after-finished-syncs`.
    pub concurrent_ttl_after_finished_syncs: usize,
    /// `--concurrent-service-endpoint-syncs`.
    pub concurrent_endpoint_slice_syncs: usize,
    /// `--concurrent-endpoint-syncs`.
    pub concurrent_endpoints_syncs: usize,
    /// `--mirroring-concurrent-service-endpoint-syncs`.
    pub mirroring_concurrent_syncs: usize,
    /// `--concurrent-ephemeralvolume-syncs`.
    pub concurrent_ephemeral_volume_syncs: usize,
    /// `--concurrent-gc-syncs`.
    pub concurrent_garbage_collector_syncs: usize,
    /// `--concurrent-namespace-syncs`.
    pub concurrent_namespace_syncs: usize,
    /// `--concurrent-serviceaccount-token-syncs` governs tokens only; the ServiceAccount controller itself is started with one worker.
    pub concurrent_service_account_syncs: usize,
    /// `--concurrent-resource-quota-syncs`.
    pub concurrent_resource_quota_syncs: usize,
    /// `--resource-quota-sync-period`.
    pub resource_quota_sync_period: SimDuration,
    /// `--concurrent-horizontal-pod-autoscaler-syncs`.
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// How HorizontalPodAutoscalers are treated.
    pub horizontal: super::horizontal::Settings,
    /// `--min-resync-period`: 12 h, stretched at random up to 24 h. None switches resyncs off.
    pub resync: Option<SimDuration>,
    /// Pods that a ReplicaSet creates or deletes in one sync (replicaset, `BurstReplicas`).
    pub replica_set_burst: usize,
    /// Pods that a DaemonSet creates or deletes in one sync (daemon, `BurstReplicas`).
    pub daemon_set_burst: usize,
    /// `--max-endpoints-per-slice`.
    pub max_endpoints_per_slice: usize,
    /// `--endpointslice-updates-batch-period`.
    pub endpoint_slice_batch_period: SimDuration,
    /// `--endpoint-updates-batch-period`.
    pub endpoints_batch_period: SimDuration,
    /// `--mirroring-max-endpoints-per-subset`.
    pub mirroring_max_endpoints_per_subset: usize,
    /// `--mirroring-endpointslice-updates-batch-period`.
    pub mirroring_batch_period: SimDuration,
    /// `--pvclaimbinder-sync-period`.
    pub volume_binder_sync_period: SimDuration,
    /// `--node-monitor-period`.
    pub node_monitor_period: SimDuration,
    /// `--node-monitor-grace-period`.
    pub node_monitor_grace_period: SimDuration,
    /// `--node-startup-grace-period`.
    pub node_startup_grace_period: SimDuration,
    /// `--node-eviction-rate`: nodes per thousand seconds that are tainted NoExecute in a healthy zone (0.1 per second).
    pub node_eviction_rate: u64,
    /// `--secondary-node-eviction-rate`: the same in a large zone that is partly down (0.01 per second).
    pub secondary_node_eviction_rate: u64,
    /// `--large-cluster-size-threshold`: smaller zones that are partly down are not tainted further.
    pub large_cluster_size: usize,
    /// `--unhealthy-zone-threshold` in hundredths.
    pub unhealthy_zone_percent: usize,
    /// `--terminated-pod-gc-threshold`.
    pub terminated_pod_threshold: usize,
    /// How often pod GC looks (podgc, `gcCheckPeriod`).
    pub pod_gc_period: SimDuration,
    /// How long pod GC waits before it believes that a node is gone (podgc, `quarantineTime`).
    pub pod_gc_quarantine: SimDuration,
    /// `--cluster-cidr`; `--node-cidr-mask-size-ipv4` is 24. Empty switches allocation off.
    pub cluster_cidr: String,
    /// Renewals of node leases that did not travel.
    pub heartbeats: Rc<Heartbeats>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            concurrent_deployment_syncs: 5,
            concurrent_replica_set_syncs: 5,
            concurrent_daemon_set_syncs: 2,
            concurrent_replication_controller_syncs: 5,
            concurrent_stateful_set_syncs: 5,
            concurrent_job_syncs: 5,
            concurrent_cron_job_syncs: 5,
            concurrent_ttl_after_finished_syncs: 5,
            concurrent_endpoint_slice_syncs: 5,
            concurrent_endpoints_syncs: 5,
            mirroring_concurrent_syncs: 5,
            concurrent_ephemeral_volume_syncs: 5,
            concurrent_garbage_collector_syncs: 20,
            concurrent_namespace_syncs: 10,
            concurrent_service_account_syncs: 1,
            concurrent_resource_quota_syncs: 5,
            resource_quota_sync_period: SimDuration::from_secs(300),
            concurrent_horizontal_pod_autoscaler_syncs: 5,
            horizontal: super::horizontal::Settings::default(),
            resync: Some(SimDuration::from_secs(12 * 3600)),
            replica_set_burst: 500,
            daemon_set_burst: 250,
            max_endpoints_per_slice: 100,
            endpoint_slice_batch_period: SimDuration::ZERO,
            endpoints_batch_period: SimDuration::ZERO,
            mirroring_max_endpoints_per_subset: 1000,
            mirroring_batch_period: SimDuration::ZERO,
            volume_binder_sync_period: SimDuration::from_secs(15),
            node_monitor_period: SimDuration::from_secs(5),
            node_monitor_grace_period: SimDuration::from_secs(50),
            node_startup_grace_period: SimDuration::from_secs(60),
            node_eviction_rate: 100,
            secondary_node_eviction_rate: 10,
            large_cluster_size: 50,
            unhealthy_zone_percent: 55,
            terminated_pod_threshold: 12_500,
            pod_gc_period: SimDuration::from_secs(20),
            pod_gc_quarantine: SimDuration::from_secs(40),
            cluster_cidr: "10.244.0.0/16".to_owned(),
            heartbeats: Rc::default(),
        }
    }
}
