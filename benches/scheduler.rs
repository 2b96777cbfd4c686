//! What it costs the scheduler to place pods of one specification, alone and as a process with its informers, queue, bindings and
//! events; and how that depends on the number of nodes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
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

const SERVER: ProcessId = ProcessId(1);

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

/// A kind of pods, and how many of them there are.
fn workloads() -> Vec<(&'static str, usize, serde_json::Value)> {
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spread = |key: &str| json!({ "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector });
    let term = |key: &str| json!({ "topologyKey": key, "labelSelector": selector });
    let required = |key: &str| json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term(key)] });
    let weighted = |key: &str| json!({ "weight": 50, "podAffinityTerm": term(key) });
    let preferred = |key: &str| json!({ "preferredDuringSchedulingIgnoredDuringExecution": [weighted(key)] });
    vec![
        ("plain", 10_000, json!({})),
        ("spread by zone and host", 10_000, json!({ "topologySpreadConstraints": [spread(zone), spread(host)] })),
        ("required anti-affinity", 1_000, json!({ "affinity": { "podAntiAffinity": required(host) } })),
        ("required affinity", 10_000, json!({ "affinity": { "podAffinity": required(zone) } })),
        (
            "preferred affinity",
            10_000,
            json!({ "affinity": { "podAffinity": preferred(zone), "podAntiAffinity": preferred(host) } }),
        ),
    ]
}

/// Decisions alone: filter, score, choose, assume.
fn decisions(criterion: &mut Criterion) {
    for (name, count, spec) in workloads() {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.throughput(Throughput::Elements(count as u64));
        let pods = pods_with(count, spec);
        for nodes_there in [1_000, 5_000, 20_000] {
            let nodes = nodes(nodes_there);
            group.bench_function(format!("{nodes_there} nodes"), |bencher| {
                bencher.iter_batched_ref(|| begin(&nodes), |state| place_all(state, &pods), BatchSize::PerIteration);
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

/// Pods for which others have to go, on nodes that are full: each finds its victims and is nominated.
fn preemptions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find victims for 1000 pods");
    group.sample_size(10);
    group.throughput(Throughput::Elements(1_000));
    let of = |name: &str, priority: i32, number: usize| {
        let requests = json!({ "requests": { "cpu": "8", "memory": "1Gi" } });
        let containers = json!([{ "name": "app", "image": "web:1", "resources": requests }]);
        let value = json!({
            "metadata": {
                "name": format!("{name}-{number}"), "namespace": "default",
                "uid": Uid::from_random(priority as u64, number as u64).to_string(),
            },
            "spec": { "priority": priority, "containers": containers },
        });
        let Object::Pod(pod) = Object::from_json(Kind::Pod, value).expect("a pod") else { panic!("not a pod") };
        pod
    };
    let replicas = |name: &str, priority: i32, count: usize| {
        let first = of(name, priority, 0);
        let pod = |number: usize| {
            let mut pod = Pod::clone(&first);
            (pod.meta.uid, pod.meta.name) =
                (Uid::from_random(priority as u64, number as u64), format!("{name}-{number}").into());
            Rc::new(pod)
        };
        (0..count).map(pod).collect::<Vec<_>>()
    };
    let preemptors = replicas("vip", 100, 1_000);
    for count in [1_000, 5_000, 20_000] {
        let nodes = nodes(count);
        let there = replicas("low", 10, count * 4);
        let begin = || {
            let mut cluster = Cluster::default();
            for node in &nodes {
                if let Object::Node(node) = node {
                    cluster.set_node(node.clone());
                }
            }
            for (number, pod) in there.iter().enumerate() {
                cluster.see_pod(pod, &format!("node-{}", number / 4).into());
            }
            cluster.refresh();
            let mut algorithm = Algorithm::new(0, Seed(7).stream("bench", "tie-break"));
            let profile = Profile::standard();
            // The first one looks at all nodes.
            algorithm.schedule(&profile, &preemptors[0], &cluster);
            (cluster, algorithm, profile)
        };
        group.bench_function(format!("{count} nodes"), |bencher| {
            bencher.iter_batched_ref(
                begin,
                |(cluster, algorithm, profile)| {
                    for pod in &preemptors {
                        cluster.refresh();
                        let Outcome::Unschedulable(diagnosis) = algorithm.schedule(profile, pod, cluster) else {
                            panic!("there is room")
                        };
                        let node = diagnosis.nominated_node.as_ref().expect("a nomination");
                        cluster.nominate(pod, node);
                    }
                    black_box(cluster.pod_count());
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
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
criterion_main!(benches);
