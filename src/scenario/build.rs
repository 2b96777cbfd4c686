//! From the cluster section of a scenario file to the options of a cluster.

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::{Taint, TaintEffect};
use crate::api::resources::Resources;
use crate::api::selector::Selector;
use crate::api::validation::format;
use crate::apiserver::metrics::{Measured, Signal};
use crate::cluster::options::{ClusterOptions, KubeletKind, LeaseRenewals, Limits, NodeOptions};
use crate::engine::time::{SimDuration, SimTime};
use crate::kubelet::Configuration;
use crate::runtime::model::ImageModels;
use crate::runtime::span::Span;

use super::file::amount::Amount;
use super::file::cluster::{
    ClusterFile, ControllersFile, EffectFile, KubeletFile, LeaseRenewalsFile, NetworkFile, PoolFile, TaintFile,
};
use super::file::{ImageFile, ScenarioFile, SignalFile};
use super::kubelet;

/// The most nodes that one pool may have.
const LARGEST_POOL: u32 = 100_000;

/// Something wrong, by the path of the field.
pub type Complaint = (String, String, Option<String>);

/// The options of the cluster that a file describes.
pub fn cluster_options(file: &ScenarioFile, complaints: &mut Vec<Complaint>) -> ClusterOptions {
    let cluster = &file.cluster;
    let default = ClusterOptions::default();
    let mut etcd_disk = default.etcd_disk.clone();
    let disk = &cluster.etcd.disk;
    replace(&mut etcd_disk.write, disk.write.as_ref().map(|spread| spread.0.clone()));
    replace(&mut etcd_disk.fsync, disk.fsync.as_ref().map(|spread| spread.0.clone()));
    replace(&mut etcd_disk.bytes_per_second, disk.bandwidth.map(|size| size.0));
    let etcd_members = cluster.etcd.members.unwrap_or(default.etcd_members);
    if ![1, 3, 5].contains(&etcd_members) {
        let message = format!("there cannot be {etcd_members} etcd members");
        complaints.push(("cluster.etcd.members".to_owned(), message, Some("expected 1, 3 or 5".to_owned())));
    }
    let api_servers = cluster.api_servers.unwrap_or(default.api_servers);
    if !(1..=16).contains(&api_servers) {
        let message = format!("there cannot be {api_servers} API servers");
        complaints.push(("cluster.apiServers".to_owned(), message, Some("expected 1 to 16".to_owned())));
    }
    let request_timeout = cluster.request_timeout.map_or(default.request_timeout, |span| span.0);
    if request_timeout == SimDuration::ZERO {
        let message = "a request cannot be given up before it begins".to_owned();
        complaints.push(("cluster.requestTimeout".to_owned(), message, Some("expected more than 0s".to_owned())));
    }
    ClusterOptions {
        epoch: file.epoch.map_or(default.epoch, |date| date.0),
        etcd_members,
        etcd_disk,
        api_servers,
        request_timeout,
        nodes: nodes(cluster, complaints),
        lease_renewals: match cluster.lease_renewals {
            LeaseRenewalsFile::Each => LeaseRenewals::Each,
            LeaseRenewalsFile::WhenAsked => LeaseRenewals::WhenAsked,
        },
        history: default.history,
        network: network(&cluster.network, default.network),
        images: images(&file.images),
        signals: signals(&file.signals, complaints),
        metrics_server: cluster.metrics_server.unwrap_or(default.metrics_server),
        controllers: controllers(&cluster.controllers, default.controllers),
        controller_limits: limits(
            (cluster.controllers.qps, cluster.controllers.burst),
            default.controller_limits,
            "cluster.controllers",
            complaints,
        ),
        scheduler_limits: limits(
            (cluster.scheduler.qps, cluster.scheduler.burst),
            default.scheduler_limits,
            "cluster.scheduler",
            complaints,
        ),
        scheduler: default.scheduler,
        scheduler_plugins: default.scheduler_plugins,
    }
}

/// A cluster of so many like nodes, for manifests without a scenario.
pub fn plain_cluster(nodes: u32) -> ClusterOptions {
    let nodes = (0..nodes).map(|place| NodeOptions { name: format!("node-{place}"), ..NodeOptions::default() });
    ClusterOptions { nodes: nodes.collect(), ..ClusterOptions::default() }
}

fn replace<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn nodes(cluster: &ClusterFile, complaints: &mut Vec<Complaint>) -> Vec<NodeOptions> {
    let Some(pools) = &cluster.nodes else { return plain_cluster(3).nodes };
    let mut nodes: Vec<NodeOptions> = Vec::new();
    for (place, pool) in pools.iter().enumerate() {
        let path = format!("cluster.nodes[{place}]");
        let named: Vec<&str> = pools[..place].iter().map(pool_name).collect();
        if named.contains(&pool_name(pool)) {
            let message = format!("there are two pools called \"{}\"", pool_name(pool));
            complaints.push((format!("{path}.name"), message, None));
            continue;
        }
        nodes.extend(pool_nodes(pool, 0, &path, complaints));
    }
    nodes
}

fn pool_name(pool: &PoolFile) -> &str {
    pool.name.as_deref().unwrap_or("node")
}

/// The nodes of a pool; their names are numbered from `first` on.
pub fn pool_nodes(pool: &PoolFile, first: u32, path: &str, complaints: &mut Vec<Complaint>) -> Vec<NodeOptions> {
    let count = pool.count.unwrap_or(1);
    let name = pool_name(pool);
    let wrong = format::dns_1123_subdomain(&format!("{name}-0"));
    let taken = ["etcd", "control-plane"].contains(&name).then(|| "the name is that of other machines".to_owned());
    let before = complaints.len();
    for message in wrong.into_iter().chain(taken) {
        complaints.push((format!("{path}.name"), format!("{name:?} cannot begin the name of a node: {message}"), None));
    }
    if count > LARGEST_POOL {
        let message = format!("a pool of {count} nodes is too large");
        complaints.push((format!("{path}.count"), message, Some(format!("expected at most {LARGEST_POOL}"))));
    }
    for (key, value) in &pool.labels {
        let messages = format::label_key(key).into_iter().chain(format::label_value(value));
        complaints.extend(messages.map(|message| (format!("{path}.labels[{key}]"), message, None)));
    }
    for (place, taint) in pool.taints.iter().enumerate() {
        let messages = format::label_key(&taint.key).into_iter().chain(format::label_value(&taint.value));
        complaints.extend(messages.map(|message| (format!("{path}.taints[{place}]"), message, None)));
    }
    for (place, zone) in pool.zones.iter().enumerate() {
        let messages = format::label_value(zone).into_iter();
        complaints.extend(messages.map(|message| (format!("{path}.zones[{place}]"), message, None)));
    }
    if complaints.len() > before {
        return Vec::new();
    }
    let configuration = kubelet::configuration(&pool.kubelet_config, &format!("{path}.kubeletConfig"), complaints);
    (first..first.saturating_add(count)).map(|number| node(pool, number, &configuration)).collect()
}

fn node(pool: &PoolFile, number: u32, configuration: &Configuration) -> NodeOptions {
    let default = NodeOptions::default();
    let capacity = Resources {
        milli_cpu: pool.cpu.map_or(default.capacity.milli_cpu, |amount| amount.0.milli_value()),
        memory: pool.memory.map_or(default.capacity.memory, |amount| amount.0.value()),
        ephemeral_storage: pool.ephemeral_storage.map_or(default.capacity.ephemeral_storage, |amount| amount.0.value()),
        pods: pool.pods.map_or(default.capacity.pods, i64::from),
        ..default.capacity
    };
    let mut labels: Vec<(String, String)> =
        pool.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(zone) = pool.zones.get(number as usize % pool.zones.len().max(1)) {
        labels.push(("topology.kubernetes.io/zone".to_owned(), zone.clone()));
    }
    NodeOptions {
        name: format!("{}-{number}", pool_name(pool)),
        capacity,
        labels,
        taints: pool.taints.iter().map(taint).collect(),
        images: pool.images.clone(),
        pull_bytes_per_second: pool.pull_bandwidth.map_or(default.pull_bytes_per_second, |size| size.0),
        kubelet: match pool.kubelet {
            KubeletFile::Real => KubeletKind::Real,
            KubeletFile::StandIn => KubeletKind::StandIn,
        },
        configuration: configuration.clone(),
    }
}

fn taint(taint: &TaintFile) -> Taint {
    let (key, value) = (Name::from(&taint.key), Name::from(&taint.value));
    Taint { key, value, effect: effect(taint.effect), time_added: None }
}

/// The effect of a taint as the API knows it.
pub fn effect(effect: EffectFile) -> TaintEffect {
    match effect {
        EffectFile::NoSchedule => TaintEffect::NoSchedule,
        EffectFile::PreferNoSchedule => TaintEffect::PreferNoSchedule,
        EffectFile::NoExecute => TaintEffect::NoExecute,
    }
}

fn network(
    file: &NetworkFile,
    mut options: crate::engine::network::NetworkOptions,
) -> crate::engine::network::NetworkOptions {
    replace(&mut options.remote.latency, file.latency.as_ref().map(|spread| spread.0.clone()));
    replace(&mut options.local.latency, file.local_latency.as_ref().map(|spread| spread.0.clone()));
    replace(&mut options.remote.bytes_per_second, file.bandwidth.map(|size| size.0));
    replace(&mut options.remote.loss, file.loss.map(|share| share.ratio()));
    replace(&mut options.keepalive_timeout, file.keepalive_timeout.map(|span| span.0));
    options
}

fn signals(files: &[SignalFile], complaints: &mut Vec<Complaint>) -> Vec<Signal> {
    let mut signals: Vec<Signal> = Vec::new();
    for (place, file) in files.iter().enumerate() {
        let path = format!("signals[{place}]");
        let mut complain = |field: &str, message: String, expected: &str| {
            complaints.push((format!("{path}{field}"), message, Some(expected.to_owned())));
        };
        if signals.iter().any(|signal| signal.name == file.name.as_str()) {
            complain(".name", format!("there are two signals called \"{}\"", file.name), "expected names of their own");
        }
        let mut steps: Vec<_> =
            file.amounts.iter().map(|step| (SimTime::ZERO + step.at.0, step.amount.0.milli_value())).collect();
        if !steps.is_sorted_by_key(|(at, _)| *at) {
            complain(
                ".amounts",
                "the amounts are not in the order of their times".to_owned(),
                "expected the earliest first",
            );
            steps.sort_by_key(|(at, _)| *at);
        }
        let of = match (&file.pods, &file.object, &file.labels) {
            (Some(labels), None, None) => Measured::Pods(Selector::from_set(labels)),
            (None, Some(object), None) => {
                Measured::Object { kind: Name::from(&object.kind), name: Name::from(&object.name) }
            }
            (None, None, labels) => {
                let pairs = labels.iter().flatten().map(|(key, value)| (Name::from(key), Name::from(value)));
                Measured::External(pairs.collect())
            }
            _ => {
                complain(
                    "",
                    "the signal measures several things".to_owned(),
                    "expected one of pods, object and labels",
                );
                Measured::External(Labels::NONE)
            }
        };
        let namespace = Name::from(file.namespace.as_deref().unwrap_or("default"));
        signals.push(Signal { name: Name::from(&file.name), namespace, of, steps });
    }
    signals
}

fn images(files: &[ImageFile]) -> ImageModels {
    let mut models = ImageModels::default();
    for image in files {
        models.add(image.pattern.clone(), image.container.clone(), image.model.clone());
    }
    models
}

fn controllers(
    file: &ControllersFile,
    mut config: crate::controllers::config::Config,
) -> crate::controllers::config::Config {
    let length = |span: Option<Span>| span.map(|span| span.0).filter(|length| *length > SimDuration::ZERO);
    let workers = |count: Option<u32>| count.map(|count| count.max(1) as usize);
    replace(&mut config.concurrent_deployment_syncs, workers(file.concurrent_deployment_syncs));
    replace(&mut config.concurrent_replica_set_syncs, workers(file.concurrent_replica_set_syncs));
    replace(&mut config.node_monitor_period, length(file.node_monitor_period));
    replace(&mut config.node_monitor_grace_period, length(file.node_monitor_grace_period));
    replace(&mut config.node_startup_grace_period, length(file.node_startup_grace_period));
    let thousandths = |amount: Option<Amount>| amount.map(|amount| amount.0.milli_value().max(0).unsigned_abs());
    replace(&mut config.node_eviction_rate, thousandths(file.node_eviction_rate));
    replace(&mut config.secondary_node_eviction_rate, thousandths(file.secondary_node_eviction_rate));
    let percent = thousandths(file.unhealthy_zone_threshold).map(|share| usize::try_from(share / 10).unwrap_or(100));
    replace(&mut config.unhealthy_zone_percent, percent);
    replace(&mut config.large_cluster_size, file.large_cluster_size_threshold.map(|size| size as usize));
    replace(&mut config.terminated_pod_threshold, file.terminated_pod_gc_threshold.map(|count| count as usize));
    replace(&mut config.pod_gc_period, length(file.pod_gc_period));
    config
}

fn limits(given: (Option<u32>, Option<u32>), default: Limits, path: &str, complaints: &mut Vec<Complaint>) -> Limits {
    for (name, value) in [("qps", given.0), ("burst", given.1)] {
        if value == Some(0) {
            let message = format!("a client without {name} could not do anything");
            complaints.push((format!("{path}.{name}"), message, Some("expected at least 1".to_owned())));
        }
    }
    Limits { per_second: given.0.unwrap_or(default.per_second), burst: given.1.unwrap_or(default.burst) }
}
