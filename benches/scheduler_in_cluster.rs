//! What the scheduler costs within a running cluster: 5000 nodes with stand-in kubelets, and API server, etcd and controllers in full.
//! Its time is that of all that it handles from the first pod on: what its informers are shown, which here includes every change of
//! a pod's status, its queue, its decisions, each of which is recorded, its bindings, conditions and events.
//!
//! Prints a table; there is nothing to repeat. `--small` takes a tenth of all of it; `--once plain` runs one line of it a single time, for
//! counting instructions.

mod support;
#[path = "support/workloads.rs"]
mod workloads;

use std::cell::Cell;
use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::object::Object;
use kubesim::api::pod::Pod;
use kubesim::apiserver::protocol::Operation;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::News;
use kubesim::cluster::options::{ClusterOptions, KubeletKind, Limits, NodeOptions};
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use serde_json::{Value, json};
use support::memory_status;
use workloads::workloads;

/// Everything is up before the first pod arrives.
const BOOTED: SimTime = SimTime::from_nanos(60_000_000_000);

/// Longer than it takes until the last pod is bound.
const PATIENCE: SimDuration = SimDuration::from_secs(600);

/// Pods arrive one after the other.
const BETWEEN: SimDuration = SimDuration::from_millis(2);

/// How long the scheduler has worked, and how often it was given something.
#[derive(Clone, Default)]
struct Stopwatch(Rc<Cell<(f64, u64)>>);

impl Stopwatch {
    #[expect(clippy::disallowed_types, reason = "a bench measures the wall clock")]
    fn watch(&self, cluster: &mut Cluster) {
        let (sum, mut began) = (self.0.clone(), None::<std::time::Instant>);
        cluster.mark_scheduler(move || match began.take() {
            None => began = Some(std::time::Instant::now()),
            Some(began) => {
                let (seconds, inputs) = sum.get();
                sum.set((seconds + began.elapsed().as_secs_f64(), inputs + 1));
            }
        });
    }
}

fn booted(nodes: usize) -> Cluster {
    let node = |place: usize| NodeOptions {
        name: format!("node-{place}"),
        labels: vec![("topology.kubernetes.io/zone".to_owned(), format!("z{}", place % 4))],
        images: vec!["web:1".to_owned()],
        kubelet: KubeletKind::StandIn,
        ..NodeOptions::default()
    };
    let options = ClusterOptions {
        nodes: (0..nodes).map(node).collect(),
        // The default of 50 bindings a second would be what everything waits for.
        scheduler_limits: Limits { per_second: 10_000, burst: 10_000 },
        // With that of 20 requests a second it would take minutes until no node is tainted as not ready any more.
        controller_limits: Limits { per_second: 10_000, burst: 10_000 },
        ..ClusterOptions::default()
    };
    // Decisions are kept where a run is traced.
    let mut cluster = Cluster::new(options, Seed(7), true);
    rest(&mut cluster, BOOTED, &mut Tally::default());
    assert_eq!(cluster.truth().count(Kind::Node), nodes, "every node is registered");
    cluster
}

/// What has come about.
#[derive(Default)]
struct Tally {
    bound: usize,
    decided: usize,
}

/// Lets time pass and counts.
fn rest(cluster: &mut Cluster, until: SimTime, tally: &mut Tally) {
    let is_bound = |pod: Option<&Object>| pod.and_then(|pod| pod.get::<Pod>()).is_some_and(|pod| pod.node.is_some());
    while cluster.step(until).is_some() {
        while let Some(news) = cluster.next_news() {
            match news {
                News::Write(write) if write.key.kind == Kind::Pod => {
                    tally.bound += usize::from(is_bound(write.new.as_ref()) && !is_bound(write.old.as_ref()));
                }
                News::Answer { result, .. } => assert!(result.is_ok(), "{result:?}"),
                News::Violation(violation) => panic!("{violation}"),
                News::Decided(_) => tally.decided += 1,
                News::Write(_) | News::Alarm { .. } | News::EtcdLeader { .. } | News::Twins(_) => {}
            }
        }
    }
}

/// Creates replicas of a pod and waits until all are bound. Returns how many decisions there were.
fn place(cluster: &mut Cluster, name: &str, count: usize, cpu: &str, more: &Value) -> usize {
    let requests = json!({ "requests": { "cpu": cpu, "memory": "128Mi" } });
    let mut spec = json!({ "containers": [{ "name": "app", "image": "web:1", "resources": requests }] });
    let own = spec.as_object_mut().expect("an object");
    own.extend(more.as_object().expect("an object").clone());
    let value =
        json!({ "metadata": { "name": name, "namespace": "default", "labels": { "app": name } }, "spec": spec });
    let first = Object::from_json(Kind::Pod, value).expect("a valid manifest");
    let mut tally = Tally::default();
    // One specification for all, as the pods of a template have; the names differ.
    for number in 0..count {
        let mut pod = first.clone();
        pod.meta_mut().name = format!("{name}-{number}").as_str().into();
        cluster.request(Operation::Create { object: pod, dry_run: false });
        let until = cluster.now() + BETWEEN;
        rest(cluster, until, &mut tally);
    }
    let patience = cluster.now() + PATIENCE;
    while tally.bound < count && cluster.now() < patience {
        let until = cluster.now() + SimDuration::from_secs(1);
        rest(cluster, until, &mut tally);
    }
    assert_eq!(tally.bound, count, "all {name} are bound");
    tally.decided
}

/// So often a figure is measured; the best is told.
const RUNS: usize = 3;

/// What a run came to: how long the scheduler worked and what it was given for so many pods, and how many decisions there were.
struct Figures {
    seconds: f64,
    inputs: u64,
    decided: usize,
}

/// A cluster in which so many pods of a kind are placed.
fn placed(nodes: usize, pods: usize, spec: &Value) -> Figures {
    let (mut cluster, watch) = (booted(nodes), Stopwatch::default());
    watch.watch(&mut cluster);
    let decided = place(&mut cluster, "web", pods, "100m", spec);
    let (seconds, inputs) = watch.0.take();
    Figures { seconds, inputs, decided }
}

/// A cluster without room, in which more important pods are placed.
fn preempted(nodes: usize, pods: usize) -> Figures {
    let (mut cluster, watch) = (booted(nodes), Stopwatch::default());
    let class = json!({ "metadata": { "name": "vip" }, "value": 1000 });
    let class = Object::from_json(Kind::PriorityClass, class).expect("a valid manifest");
    cluster.request(Operation::Create { object: class, dry_run: false });
    place(&mut cluster, "low", nodes, "3", &json!({}));
    watch.watch(&mut cluster);
    let decided = place(&mut cluster, "vip", pods, "3", &json!({ "priorityClassName": "vip" }));
    let (seconds, inputs) = watch.0.take();
    Figures { seconds, inputs, decided }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let small = arguments.iter().any(|argument| argument == "--small");
    let (nodes, pods) = if small { (500, 400) } else { (5_000, 4_000) };
    let only = arguments.iter().position(|argument| argument == "--once").and_then(|at| arguments.get(at + 1));
    let runs = if only.is_some() { 1 } else { RUNS };
    let is_asked = |name: &str| only.is_none_or(|only| only == name);
    println!("{nodes} nodes: pods per second of the scheduler; what it was given for each pod, decisions for each");
    let print = |name: &str, count: usize, run: &dyn Fn() -> Figures| {
        let runs = (0..runs).map(|_| run());
        let best = runs.min_by(|one, other| one.seconds.total_cmp(&other.seconds)).expect("a run");
        let of_each = |total: f64| total / count as f64;
        let (rate, inputs) = (count as f64 / best.seconds, of_each(best.inputs as f64));
        println!("  {name:<26} {rate:>9.0} {inputs:>7.1} {:>5.2}", of_each(best.decided as f64));
    };
    for (name, spec) in workloads().into_iter().filter(|(name, _)| is_asked(name)) {
        print(name, pods, &|| placed(nodes, pods, &spec));
    }
    if is_asked("preemption") {
        print("preemption", nodes / 10, &|| preempted(nodes, nodes / 10));
    }
    println!("  peak memory {:.1} MB", memory_status("VmHWM:"));
}
