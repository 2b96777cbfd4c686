//! A whole cluster with everything on: a Deployment is created, rolled to another image and deleted; 1000 pods on 100 nodes
//! and 10,000 pods on 1000 nodes, real kubelets, the components' default limits.
//!
//! Before criterion measures, each size runs once and prints what it did: events, virtual times beside those of a real
//! cluster where there are any, wall and processor time, memory. With `--figures` that is all; with `--small`, `--large`
//! or `--each`, one part of it; with `--memory`, memory alone. `--memory --keep` gives nothing back at the end, so that a heap
//! profiler sees what is in use then.

mod support;

use criterion::{Criterion, criterion_group};
use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::object::Object;
use kubesim::apiserver::protocol::{DeleteOptions, Operation, Part, Patch, Propagation};
use kubesim::cluster::Cluster;
use kubesim::cluster::news::News;
use kubesim::cluster::options::{ClusterOptions, LeaseRenewals, NodeOptions};
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use serde_json::json;
use support::{in_use, memory_status};

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Shape {
    nodes: usize,
    pods: usize,
    /// As ever, or each one sent.
    lease_renewals: LeaseRenewals,
}

/// Everything is up well before, so that the first pods meet a cluster at rest.
const BOOTED: SimTime = SimTime::from_nanos(20_000_000_000);

/// Longer than any phase takes.
const PATIENCE: SimDuration = SimDuration::from_secs(4000);

/// Twice the API server's compaction interval and some: what was written before is then forgotten.
const COMPACTED: SimDuration = SimDuration::from_secs(660);

/// Events live for an hour, and history for two compactions after that.
const FORGOTTEN: SimDuration = SimDuration::from_secs(3600 + 660);

fn booted(shape: Shape) -> Cluster {
    let node = |place: usize| NodeOptions {
        name: format!("node-{place}"),
        images: vec!["fake/app:v1".to_owned(), "fake/app:v2".to_owned()],
        ..NodeOptions::default()
    };
    let nodes = (0..shape.nodes).map(node).collect();
    let lease_renewals = shape.lease_renewals;
    let options = ClusterOptions { nodes, lease_renewals, ..ClusterOptions::default() };
    let mut cluster = Cluster::new(options, Seed(7), false);
    rest(&mut cluster, BOOTED);
    assert_eq!(cluster.truth().count(Kind::Node), shape.nodes, "every node is registered");
    cluster
}

/// Lets time pass.
fn rest(cluster: &mut Cluster, until: SimTime) {
    while cluster.step(until).is_some() {
        while let Some(news) = cluster.next_news() {
            assert!(!matches!(news, News::Violation(_)), "{news:?}");
        }
    }
}

/// Makes a request, and lets time pass until something holds; it is asked after each write of one kind. Returns how long that took.
fn phase(cluster: &mut Cluster, operation: Operation, kind: Kind, done: impl Fn(&Cluster) -> bool) -> SimDuration {
    let begin = cluster.now();
    cluster.request(operation);
    while let Some(at) = cluster.step(begin + PATIENCE) {
        let mut wrote = false;
        while let Some(news) = cluster.next_news() {
            match news {
                News::Write(write) => wrote |= write.key.kind == kind,
                News::Answer { result, .. } => assert!(result.is_ok(), "{result:?}"),
                News::Violation(violation) => panic!("{violation}"),
                News::Alarm { .. } | News::EtcdLeader { .. } | News::Decided(_) | News::Twins(_) => {}
            }
        }
        if wrote && done(cluster) {
            return at.since(begin);
        }
    }
    panic!("not done after {PATIENCE:?}");
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::Deployment, "default", "web")
}

fn create(cluster: &mut Cluster, pods: usize) -> SimDuration {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": pods, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [
                {"name": "app", "image": "fake/app:v1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}}},
    });
    let object = Object::from_json(Kind::Deployment, manifest).expect("a valid manifest");
    let operation = Operation::Create { object, dry_run: false };
    phase(cluster, operation, Kind::Deployment, |cluster| is_ready(cluster, pods))
}

fn roll(cluster: &mut Cluster, pods: usize) -> SimDuration {
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "fake/app:v2"}]}}}});
    let patch = Patch::Strategic(image.into());
    let operation = Operation::Patch { key: key(), patch, part: Part::Main, dry_run: false };
    phase(cluster, operation, Kind::Deployment, |cluster| is_ready(cluster, pods))
}

fn delete(cluster: &mut Cluster) -> SimDuration {
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    let operation = Operation::Delete { key: key(), options };
    phase(cluster, operation, Kind::Pod, |cluster| cluster.truth().count(Kind::Pod) == 0)
}

/// What `kubectl rollout status` waits for.
fn is_ready(cluster: &Cluster, pods: usize) -> bool {
    let Some(Object::Deployment(it)) = cluster.truth().get(Kind::Deployment, "default", "web") else { return false };
    let status = &it.status;
    let all = [status.replicas, status.updated_replicas, status.available_replicas];
    status.observed_generation >= it.meta.generation && all.iter().all(|count| *count as usize == pods)
}

/// Created, rolled and deleted: the virtual time of each.
fn life(cluster: &mut Cluster, pods: usize) -> [SimDuration; 3] {
    [create(cluster, pods), roll(cluster, pods), delete(cluster)]
}

/// Seconds that the process has spent on a processor: on a machine that others use too, they vary less than the wall clock's.
fn processor_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    statistics.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// Lets a cluster live once and prints what that took.
#[expect(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn print_figures(shape: Shape, real: Option<[f64; 3]>) {
    let (begin, processor_begin) = (std::time::Instant::now(), processor_seconds());
    let mut cluster = booted(shape);
    let (boot_events, boot_wall) = (cluster.events(), begin.elapsed());
    let times = life(&mut cluster, shape.pods);
    let (wall, events) = (begin.elapsed().as_secs_f64(), cluster.events());
    let processor = processor_seconds() - processor_begin;
    let renewals = if shape.lease_renewals == LeaseRenewals::Each { ", each renewal of a lease sent" } else { "" };
    println!("{} pods on {} nodes, created, rolled and deleted{renewals}", shape.pods, shape.nodes);
    println!("  booted: {boot_events} events in {boot_wall:.3?} wall");
    for (place, name) in ["all ready", "all rolled", "all gone"].iter().enumerate() {
        let time = times[place].as_nanos() as f64 / 1e9;
        match real {
            Some(real) => {
                let off = (time / real[place] - 1.0) * 100.0;
                println!("  {name} after {time:.2} s (a real cluster: {} s, {off:+.1} %)", real[place]);
            }
            None => println!("  {name} after {time:.2} s"),
        }
    }
    let (messages, rate) = (cluster.messages_sent(), events as f64 / wall / 1e6);
    println!("  {wall:.3} s wall, {events} events ({messages} messages), {rate:.2} million events/s");
    println!("  {processor:.3} s on the processor, {:.2} million events/s", events as f64 / processor / 1e6);
    println!("  peak memory {:.1} MB, digest {}", memory_status("VmHWM:"), cluster.digest());
}

/// Prints how much memory a running pod takes: what a cluster takes less what the same one takes at the same time without
/// pods. Once when the history of the pods' making is compacted, and once when their Kubernetes events are gone.
fn print_memory_per_pod(shape: Shape, keep: bool) {
    let before = in_use();
    let mut cluster = booted(shape);
    create(&mut cluster, shape.pods);
    let compacted = cluster.now() + COMPACTED;
    rest(&mut cluster, compacted);
    let (with_events, events) = (in_use() - before, cluster.truth().count(Kind::Event));
    let forgotten = compacted + FORGOTTEN;
    rest(&mut cluster, forgotten);
    let (with_pods, events_left) = (in_use() - before, cluster.truth().count(Kind::Event));
    if keep {
        std::mem::forget(cluster);
    } else {
        drop(cluster);
    }

    let before = in_use();
    let mut cluster = booted(shape);
    rest(&mut cluster, compacted);
    let without_at_first = in_use() - before;
    rest(&mut cluster, forgotten);
    let without = in_use() - before;
    let each = |with: usize, without: usize| with.saturating_sub(without) / shape.pods;
    println!("memory for each of {} running pods on {} nodes", shape.pods, shape.nodes);
    println!("  {} bytes with {events} Kubernetes events", each(with_events, without_at_first));
    println!("  {} bytes an hour later, with {events_left} events", each(with_pods, without));
    println!("  without pods the cluster takes {without_at_first} bytes, an hour later {without}");
}

fn cluster(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster");
    group.sample_size(10);
    for shape in [SMALL, LARGE] {
        group.bench_function(format!("{} pods on {} nodes", shape.pods, shape.nodes), |bencher| {
            bencher.iter(|| life(&mut booted(shape), shape.pods));
        });
    }
    group.finish();
}

const SMALL: Shape = Shape { nodes: 100, pods: 1000, lease_renewals: LeaseRenewals::WhenAsked };
const LARGE: Shape = Shape { nodes: 1000, pods: 10_000, lease_renewals: LeaseRenewals::WhenAsked };
/// The large one with the renewals of which nothing comes.
const EACH: Shape = Shape { lease_renewals: LeaseRenewals::Each, ..LARGE };

criterion_group!(benches, cluster);

fn main() {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if asked("--memory") {
        return print_memory_per_pod(LARGE, asked("--keep"));
    }
    // The real figures: Kubernetes with stand-in kubelets, containers starting in 1 s, one 2-core machine.
    let real = Some([50.5, 102.0, 49.9]);
    if asked("--small") {
        return print_figures(SMALL, real);
    }
    if asked("--large") {
        return print_figures(LARGE, None);
    }
    if asked("--each") {
        return print_figures(EACH, None);
    }
    print_figures(SMALL, real);
    print_figures(LARGE, None);
    print_figures(EACH, None);
    print_memory_per_pod(LARGE, false);
    if asked("--figures") {
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
