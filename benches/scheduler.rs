//! What it costs the scheduler to place pods of one specification, alone and as a process with its informers, queue, bindings and
//! events; how that depends on the number of nodes; and how much memory it takes. With `--figures` a table of all that is printed
//! and nothing else, with `--memory` the memory alone.

mod support;
#[path = "support/workloads.rs"]
mod workloads;

use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use kubesim::api::kind::Kind;
use kubesim::api::meta::{Epoch, Uid};
use kubesim::api::object::Object;
use kubesim::api::pod::Pod;
use kubesim::apiserver::protocol::{Answer, ApiMessage, Operation, WatchEvent, WatchId};
use kubesim::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::scheduler::algorithm::{Algorithm, Outcome};
use kubesim::scheduler::cluster::Cluster;
use kubesim::scheduler::profile::Profile;
use kubesim::scheduler::{Config, Scheduler};
use serde_json::json;
use support::{in_use, memory_status};

const SERVER: ProcessId = ProcessId(1);

/// Clusters of these sizes are measured.
const SIZES: [usize; 3] = [1_000, 5_000, 20_000];

/// Nodes in four zones of one size: with zones of different sizes pods cannot be spread evenly over both zones and hosts for long.
fn nodes(count: usize) -> Vec<Object> {
    let node = |number: usize| {
        let value = json!({
            "metadata": {
                "name": format!("node-{number}"), "uid": Uid::from_random(1, number as u64).to_string(),
                "labels": {
                    "topology.kubernetes.io/zone": format!("z{}", number % 4),
                    "kubernetes.io/hostname": format!("node-{number}"),
                },
            },
            "status": { "allocatable": { "cpu": "32", "memory": "256Gi", "pods": "110" } },
        });
        Object::from_json(Kind::Node, value).expect("a node")
    };
    (0..count).map(node).collect()
}

fn pods(count: usize) -> Vec<Rc<Pod>> {
    pods_with(count, json!({}))
}

/// Pods of one specification, with more in it.
fn pods_with(count: usize, more: serde_json::Value) -> Vec<Rc<Pod>> {
    let requests = json!({ "requests": { "cpu": "100m", "memory": "128Mi" } });
    let mut spec = json!({ "containers": [{ "name": "app", "image": "web:1", "resources": requests }] });
    let own = spec.as_object_mut().expect("an object");
    own.extend(more.as_object().expect("an object").clone());
    let value = json!({
        "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web", "tier": "front" } },
        "spec": spec,
    });
    let Object::Pod(first) = Object::from_json(Kind::Pod, value).expect("a pod") else { panic!("not a pod") };
    let pod = |number: usize| {
        let mut pod = Pod::clone(&first);
        pod.meta.name = format!("web-{number}").into();
        pod.meta.uid = Uid::from_random(2, number as u64);
        pod.meta.resource_version = Cell::new(number as u64 + 1);
        Rc::new(pod)
    };
    (0..count).map(pod).collect()
}

/// A kind of pods, what each has in its specification, and how many of them there are.
fn counted_workloads() -> Vec<(&'static str, usize, serde_json::Value)> {
    let count = |name| if name == "required anti-affinity" { 1_000 } else { 10_000 };
    workloads::workloads().into_iter().map(|(name, spec)| (name, count(name), spec)).collect()
}

/// A scheduler that has looked at all nodes for such pods: what is found out about a node is kept while it is as it was.
fn begin_known(nodes: &[Object], pod: &Rc<Pod>) -> State {
    let (mut cluster, mut algorithm, profile) = begin(nodes);
    cluster.refresh();
    for _ in 0..LOOKS {
        black_box(algorithm.schedule(&profile, pod, &cluster));
    }
    (cluster, algorithm, profile)
}

/// After so many cycles every node of a cluster has been looked at: one goes through a twentieth of it at least, and where room is
/// to be made, through a tenth, from anywhere.
const LOOKS: usize = 200;

/// Decisions alone: filter, score, choose, assume.
fn decisions(criterion: &mut Criterion) {
    for (name, count, spec) in counted_workloads() {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(count as u64));
        let pods = pods_with(count, spec);
        for nodes_there in SIZES {
            let nodes = nodes(nodes_there);
            group.bench_function(format!("{nodes_there} nodes"), |bencher| {
                bencher.iter_batched_ref(
                    || begin_known(&nodes, &pods[0]),
                    |state| place_all(state, &pods),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

type State = (Cluster, Algorithm, Profile);

fn begin(nodes: &[Object]) -> State {
    let mut cluster = Cluster::default();
    for node in nodes {
        if let Object::Node(node) = node {
            cluster.set_node(node.clone());
        }
    }
    (cluster, Algorithm::new(0, Seed(7).stream("bench", "tie-break")), Profile::standard())
}

fn place_all((cluster, algorithm, profile): &mut State, pods: &[Rc<Pod>]) {
    for pod in pods {
        cluster.refresh();
        let Outcome::Node(chosen) = algorithm.schedule(profile, pod, cluster) else { panic!("no room") };
        cluster.assume(pod, &chosen.node);
    }
    black_box(cluster.pod_count());
}

/// Replicas of a pod of a priority that takes a quarter of a node.
fn large_pods(name: &str, priority: i32, count: usize) -> Vec<Rc<Pod>> {
    let requests = json!({ "requests": { "cpu": "8", "memory": "1Gi" } });
    let containers = json!([{ "name": "app", "image": "web:1", "resources": requests }]);
    let value = json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "priority": priority, "containers": containers },
    });
    let Object::Pod(first) = Object::from_json(Kind::Pod, value).expect("a pod") else { panic!("not a pod") };
    let pod = |number: usize| {
        let mut pod = Pod::clone(&first);
        (pod.meta.uid, pod.meta.name) =
            (Uid::from_random(priority as u64, number as u64), format!("{name}-{number}").into());
        Rc::new(pod)
    };
    (0..count).map(pod).collect()
}

/// A cluster of full nodes, and a scheduler that has looked at all of them for such a pod.
fn begin_full(nodes: &[Object], there: &[Rc<Pod>], preemptor: &Rc<Pod>) -> State {
    let (mut cluster, mut algorithm, profile) = begin(nodes);
    for (number, pod) in there.iter().enumerate() {
        cluster.see_pod(pod, &format!("node-{}", number / 4).into());
    }
    cluster.refresh();
    for _ in 0..LOOKS {
        black_box(algorithm.schedule(&profile, preemptor, &cluster));
    }
    (cluster, algorithm, profile)
}

/// Pods for which others have to go: each finds its victims and is nominated.
fn nominate_all((cluster, algorithm, profile): &mut State, pods: &[Rc<Pod>]) {
    for pod in pods {
        cluster.refresh();
        let Outcome::Unschedulable(diagnosis) = algorithm.schedule(profile, pod, cluster) else {
            panic!("there is room")
        };
        let node = diagnosis.nominated_node.as_ref().expect("a nomination");
        cluster.nominate(pod, node);
    }
    black_box(cluster.pod_count());
}

fn preemptions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find victims for 1000 pods");
    group.sample_size(10);
    group.throughput(Throughput::Elements(1_000));
    let preemptors = large_pods("vip", 100, 1_000);
    for count in SIZES {
        let (nodes, there) = (nodes(count), large_pods("low", 10, count * 4));
        group.bench_function(format!("{count} nodes"), |bencher| {
            bencher.iter_batched_ref(
                || begin_full(&nodes, &there, &preemptors[0]),
                |state| nominate_all(state, &preemptors),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Prints pods per second for each kind of pods and size of cluster, the best of some runs.
fn print_figures() {
    let begun = |run: &mut dyn FnMut() -> f64| (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min);
    println!("{:<26} {:>12} {:>12} {:>12}", "pods per CPU second", "1000 nodes", "5000 nodes", "20,000 nodes");
    let print = |name: &str, rates: &[f64]| {
        let columns: String = rates.iter().map(|rate| format!(" {rate:>12.0}")).collect();
        println!("{name:<26}{columns}");
    };
    let clusters: Vec<Vec<Object>> = SIZES.iter().map(|count| nodes(*count)).collect();
    for (name, count, spec) in counted_workloads() {
        let pods = pods_with(count, spec);
        let rates = clusters.iter().map(|nodes| {
            let seconds = begun(&mut || {
                let mut states: Vec<State> = (0..ENOUGH / count).map(|_| begin_known(nodes, &pods[0])).collect();
                cpu_seconds(|| states.iter_mut().for_each(|state| place_all(state, &pods)))
            });
            ENOUGH as f64 / seconds
        });
        print(name, &rates.collect::<Vec<f64>>());
    }
    let preemptors = large_pods("vip", 100, 1_000);
    let rates = clusters.iter().map(|nodes| {
        let there = large_pods("low", 10, nodes.len() * 4);
        let seconds = begun(&mut || {
            let begun = || begin_full(nodes, &there, &preemptors[0]);
            let mut states: Vec<State> = (0..ENOUGH / preemptors.len()).map(|_| begun()).collect();
            cpu_seconds(|| states.iter_mut().for_each(|state| nominate_all(state, &preemptors)))
        });
        ENOUGH as f64 / seconds
    });
    print("preemption", &rates.collect::<Vec<f64>>());
}

/// How long something takes on a core: without the time that others had it, where the kernel tells.
#[expect(clippy::disallowed_types, reason = "a bench measures the wall clock")]
fn cpu_seconds(work: impl FnOnce()) -> f64 {
    let on_core = || {
        let told = std::fs::read_to_string("/proc/self/schedstat").ok()?;
        told.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (before, start) = (on_core(), std::time::Instant::now());
    work();
    match (before, on_core()) {
        (Some(before), Some(after)) => (after - before) as f64 / 1e9,
        _ => start.elapsed().as_secs_f64(),
    }
}

/// So many pods are placed for a figure: the kernel's clock of a core is coarse.
const ENOUGH: usize = 10_000;

/// So often a figure is measured.
const RUNS: usize = 3;

/// The most bytes that may be kept of a node and of a placed pod beyond these objects.
const MOST_OF_NODE: usize = 1024;
const MOST_OF_POD: usize = 200;

/// Prints what the scheduler keeps of nodes and pods beyond these objects.
///
/// # Panics
///
/// If that is more than it may be.
fn print_memory() {
    println!("memory beyond the objects: bytes per node; bytes per placed pod");
    for count in SIZES {
        println!("  {count} nodes");
        let nodes = nodes(count);
        print_memory_of(&nodes);
    }
    println!("  peak memory of all this {:.1} MB", memory_status("VmHWM:"));
}

fn print_memory_of(nodes: &[Object]) {
    for (name, count, spec) in counted_workloads() {
        // Of pods that keep away from one another one goes to each node.
        let count = if name == "required anti-affinity" { nodes.len() / 2 } else { count };
        let pods = pods_with(count, spec);
        let before = in_use();
        let mut state = begin(nodes);
        // The first one makes what is kept of each node for pods of its class.
        place_all(&mut state, &pods[..1]);
        let begun = in_use();
        place_all(&mut state, &pods[1..]);
        let (per_node, per_pod) = ((begun - before) / nodes.len(), in_use().saturating_sub(begun) / (pods.len() - 1));
        println!("    {name:<26} {per_node:>6} {per_pod:>6}");
        assert!(per_node <= MOST_OF_NODE && per_pod <= MOST_OF_POD, "{name}: {per_node} and {per_pod} bytes");
    }
    let classes: Vec<Rc<Pod>> = (0..64).flat_map(|_| pods(1)).collect();
    let before = in_use();
    let mut state = begin(nodes);
    let begun = in_use();
    place_all(&mut state, &classes);
    let (per_node, of_classes) = ((in_use() - before) / nodes.len(), (in_use() - begun) / nodes.len());
    println!("    64 specifications at once  {per_node:>6}, of which {of_classes} for them");
    assert!(per_node <= MOST_OF_NODE, "64 specifications at once: {per_node} bytes");
    let (there, preemptors) = (large_pods("low", 10, nodes.len() * 4), large_pods("vip", 100, 1));
    let before = in_use();
    let state = begin_full(nodes, &there, &preemptors[0]);
    println!("    preemption                 {:>6}, with 4 pods on each", (in_use() - before) / nodes.len());
    drop(state);
}

/// A context that keeps what is sent and the next timers.
#[derive(Default)]
struct Desk {
    now: SimTime,
    sent: VecDeque<ApiMessage>,
    timers: Vec<(SimTime, u64, Token)>,
    next: u64,
}

impl Context<ApiMessage> for Desk {
    fn now(&self) -> SimTime {
        self.now
    }

    fn send_after(&mut self, _delay: SimDuration, _to: ProcessId, _lane: Lane, message: ApiMessage) {
        self.sent.push_back(message);
    }

    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        self.next += 1;
        self.timers.push((at, self.next, token));
        TimerId(self.next)
    }

    fn cancel_timer(&mut self, id: TimerId) {
        self.timers.retain(|(_, timer, _)| *timer != id.0);
    }

    fn write_and_sync(&mut self, _bytes: u64, _token: Token) {}

    fn cause(&self) -> Cause {
        Cause::NONE
    }

    fn set_cause(&mut self, _cause: Cause) {}
}

/// The whole process against a server that answers at once.
struct World {
    scheduler: Scheduler,
    desk: Desk,
    nodes: Vec<Object>,
    pods: Vec<Rc<Pod>>,
    watch: WatchId,
    revision: u64,
    bound: usize,
}

impl World {
    fn new(nodes: Vec<Object>, pods: Vec<Rc<Pod>>) -> Self {
        let mut config = Config::new("kube-scheduler", vec![SERVER], Epoch(0), Seed(7));
        config.qps = 0;
        let scheduler = Scheduler::new(config);
        World { scheduler, desk: Desk::default(), nodes, pods, watch: 0, revision: 1 << 32, bound: 0 }
    }

    fn run(&mut self) {
        self.scheduler.handle(Input::Start, &mut self.desk);
        while self.bound < self.pods.len() {
            while let Some(message) = self.desk.sent.pop_front() {
                self.serve(message);
            }
            let next = self.desk.timers.iter().enumerate().min_by_key(|(_, (at, id, _))| (*at, *id));
            let Some((place, _)) = next else { continue };
            let (at, _, token) = self.desk.timers.swap_remove(place);
            self.desk.now = at;
            self.scheduler.handle(Input::Timer { token }, &mut self.desk);
        }
    }

    fn serve(&mut self, message: ApiMessage) {
        let ApiMessage::Request(request) = message else { return };
        let answer = match request.operation {
            Operation::List { scope, .. } => {
                let items = match scope.kind {
                    Kind::Node => self.nodes.clone(),
                    Kind::Pod => self.pods.iter().cloned().map(Object::Pod).collect(),
                    _ => Vec::new(),
                };
                Answer::List { items, revision: self.revision, continue_token: None, remaining: None }
            }
            Operation::Watch { watch, scope, .. } => {
                if scope.kind == Kind::Pod {
                    self.watch = watch;
                }
                Answer::WatchStarted
            }
            Operation::Bind { key, node, .. } => {
                let number: usize = key.name["web-".len()..].parse().expect("a number");
                let mut pod = Pod::clone(&self.pods[number]);
                pod.node = Some(node);
                self.revision += 1;
                pod.meta.resource_version = Cell::new(self.revision);
                self.bound += 1;
                let events = vec![WatchEvent::Modified(Object::Pod(Rc::new(pod)))];
                self.tell(ApiMessage::Watch { watch: self.watch, events });
                Answer::Done
            }
            _ => Answer::Done,
        };
        self.tell(ApiMessage::Response { id: request.id, result: Ok(answer) });
    }

    fn tell(&mut self, message: ApiMessage) {
        self.scheduler.handle(Input::Message { from: SERVER, message }, &mut self.desk);
    }
}

fn process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler process, 10000 pods");
    group.sample_size(10);
    group.throughput(Throughput::Elements(10_000));
    for count in [1_000, 5_000] {
        let (nodes, pods) = (nodes(count), pods(10_000));
        group.bench_function(format!("{count} nodes"), |bencher| {
            bencher.iter_batched_ref(
                || World::new(nodes.clone(), pods.clone()),
                |world| world.run(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, preemptions, process);

fn main() {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if !asked("--memory") && !asked("--figures") {
        benches();
        return Criterion::default().configure_from_args().final_summary();
    }
    if asked("--figures") {
        print_figures();
    }
    print_memory();
}
