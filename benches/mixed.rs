//! A large cluster as people run it: 1000 nodes in ten zones and 100,000 pods, 60 % of Deployments, 15 % of StatefulSets, 15 % of
//! Jobs that arrive over an hour, 10 % of DaemonSets; an hour of virtual time with heartbeats, probes and the outage of a zone.
//!
//! Prints what one run took; there is nothing to repeat. `--small` runs a tenth of all of it.

mod support;

use kubesim::api::kind::Kind;
use kubesim::api::object::Object;
use kubesim::apiserver::protocol::Operation;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::News;
use kubesim::cluster::options::{ClusterOptions, Limits, NodeOptions};
use kubesim::engine::distribution::Distribution;
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::runtime::model::{ExitModel, ImageModel, ImageModels};
use kubesim::runtime::span::Spread;
use serde_json::{Value, json};
use support::memory_status;

/// Everything is up before the first object is created.
const BOOTED: SimTime = SimTime::from_nanos(20_000_000_000);

/// The hour of which the speed is told.
const HOUR: SimDuration = SimDuration::from_secs(3600);

/// The zone fails in the middle of the hour, for ten minutes.
const OUTAGE: SimDuration = SimDuration::from_secs(1800);
const OUTAGE_LENGTH: SimDuration = SimDuration::from_secs(600);

const ZONES: usize = 10;

/// Pods of one Deployment, StatefulSet or Job.
const REPLICAS: usize = 100;

fn cluster(nodes: usize) -> Cluster {
    let exit = ExitModel {
        after: Spread(Distribution::Exponential { mean: SimDuration::from_secs(120) }),
        codes: vec![0],
        out_of_memory: false,
        cpu_bound: false,
    };
    let job = ImageModel { exit: Some(exit), ..ImageModel::default() };
    let node = |place: usize| NodeOptions {
        name: format!("node-{place}"),
        labels: vec![("topology.kubernetes.io/zone".to_owned(), format!("zone-{}", place % ZONES))],
        images: vec!["app:v1".to_owned(), "job:v1".to_owned()],
        ..NodeOptions::default()
    };
    // With Kubernetes' own limits the controllers would take hours to make so many pods.
    let limits = Limits { per_second: 500, burst: 1000 };
    let options = ClusterOptions {
        nodes: (0..nodes).map(node).collect(),
        images: ImageModels::new(vec![("job".to_owned(), job)]),
        scheduler_limits: limits,
        controller_limits: limits,
        ..ClusterOptions::default()
    };
    Cluster::new(options, Seed(7), false)
}

/// A pod template with requests and, for what serves, probes.
fn template(name: &str, image: &str, serves: bool) -> Value {
    let mut container =
        json!({"name": "app", "image": image, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}});
    if serves {
        container["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 80}, "periodSeconds": 10});
        container["livenessProbe"] = json!({"httpGet": {"path": "/", "port": 80}, "periodSeconds": 10});
    }
    json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}})
}

fn create(cluster: &mut Cluster, kind: Kind, name: &str, spec: Value) {
    let manifest = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let object = Object::from_json(kind, manifest).expect("a valid manifest");
    cluster.request(Operation::Create { object, dry_run: false });
}

fn create_job(cluster: &mut Cluster, number: usize) {
    let name = format!("job-{number}");
    let mut template = template(&name, "job:v1", false);
    template["spec"]["restartPolicy"] = json!("Never");
    let spec = json!({"completions": REPLICAS, "parallelism": 20, "template": template});
    create(cluster, Kind::Job, &name, spec);
}

/// The Deployments, StatefulSets and DaemonSets.
fn create_services(cluster: &mut Cluster, nodes: usize, pods: usize) {
    for number in 0..pods * 60 / 100 / REPLICAS {
        let name = format!("web-{number}");
        let (selector, template) = (json!({"matchLabels": {"app": name}}), template(&name, "app:v1", true));
        let spec = json!({"replicas": REPLICAS, "selector": selector, "template": template});
        create(cluster, Kind::Deployment, &name, spec);
    }
    for number in 0..pods * 15 / 100 / REPLICAS {
        let name = format!("db-{number}");
        let (selector, template) = (json!({"matchLabels": {"app": name}}), template(&name, "app:v1", true));
        let spec = json!({"replicas": REPLICAS, "serviceName": name, "podManagementPolicy": "Parallel",
            "selector": selector, "template": template});
        create(cluster, Kind::StatefulSet, &name, spec);
    }
    for number in 0..pods * 10 / 100 / nodes {
        let name = format!("agent-{number}");
        let (selector, template) = (json!({"matchLabels": {"app": name}}), template(&name, "app:v1", true));
        create(cluster, Kind::DaemonSet, &name, json!({"selector": selector, "template": template}));
    }
}

/// How many pods were made.
#[derive(Default)]
struct Tally {
    created: usize,
}

/// Lets time pass and counts.
fn rest(cluster: &mut Cluster, until: SimTime, tally: &mut Tally) {
    while cluster.step(until).is_some() {
        while let Some(news) = cluster.next_news() {
            match news {
                News::Write(write) => {
                    tally.created += usize::from(write.key.kind == Kind::Pod && write.old.is_none());
                }
                News::Answer { result, .. } => assert!(result.is_ok(), "{result:?}"),
                News::Violation(violation) => panic!("{violation}"),
                News::Alarm { .. } | News::EtcdLeader { .. } | News::Decided(_) | News::Twins(_) => {}
            }
        }
    }
}

/// Pods that are ready now.
fn ready(cluster: &Cluster) -> usize {
    let pods = cluster.truth().list(Kind::Pod);
    pods.filter(|object| matches!(object, Object::Pod(pod) if pod.status.is_ready())).count()
}

#[expect(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn main() {
    let small = std::env::args().any(|argument| argument == "--small");
    let (nodes, pods) = if small { (100, 10_000) } else { (1000, 100_000) };
    let begin = std::time::Instant::now();
    let mut tally = Tally::default();
    let mut cluster = cluster(nodes);
    rest(&mut cluster, BOOTED, &mut tally);
    create_services(&mut cluster, nodes, pods);
    let jobs = pods * 15 / 100 / REPLICAS;
    let between = SimDuration::from_nanos(HOUR.as_nanos() / jobs as u64);
    let (outage, end) = (BOOTED + OUTAGE, BOOTED + HOUR);
    let mut is_out = false;
    for number in 0..jobs {
        create_job(&mut cluster, number);
        let next = (cluster.now() + between).min(end);
        for (at, breaks) in [(outage, true), (outage + OUTAGE_LENGTH, false)] {
            if is_out != breaks && cluster.now() <= at && at < next {
                rest(&mut cluster, at, &mut tally);
                println!("  {} pods ready at {:.0} s", ready(&cluster), at.as_nanos() as f64 / 1e9);
                let zone = (0..nodes).filter(|place| place % ZONES == 0).map(|place| format!("node-{place}"));
                for name in zone {
                    let result = if breaks { cluster.crash_machine(&name) } else { cluster.restart_machine(&name) };
                    result.expect("it is a node");
                }
                is_out = breaks;
            }
        }
        rest(&mut cluster, next, &mut tally);
    }
    rest(&mut cluster, end, &mut tally);
    let (wall, events) = (begin.elapsed().as_secs_f64(), cluster.events());
    println!("{pods} pods of mixed workloads on {nodes} nodes, one hour, a zone out for ten minutes");
    println!("  {} pods created, {} ready at the end", tally.created, ready(&cluster));
    println!("  {wall:.3} s wall, {events} events, {:.2} million events/s", events as f64 / wall / 1e6);
    println!("  peak memory {:.1} MB, digest {}", memory_status("VmHWM:"), cluster.digest());
}
