//! A whole cluster under test: runs it, remembers what it tells, and types kubectl's commands into it.

#![allow(dead_code, reason = "every test crate uses its own part of it")]

use std::collections::BTreeMap;
use std::rc::Rc;

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::object::{Object, Resource};
use kubesim::api::pod::Pod;
use kubesim::api::workload::{Deployment, ReplicaSet};
use kubesim::apiserver::protocol::{Operation, Propagation};
use kubesim::apiserver::status::Status;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::{News, OperatorRequest, Write};
use kubesim::cluster::options::{ClusterOptions, KubeletKind, NodeOptions};
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::runtime::model::{ImageModel, ImageModels, StopModel};
use kubesim::runtime::span::Spread;
use kubesim::scenario::kubectl::{Answered, Done, Session};
use kubesim::scenario::manifests::{self, Manifest};
use kubesim::scenario::plan::{Command, Rollout};

/// A cluster, and what it has told.
pub struct Bed {
    pub cluster: Cluster,
    /// Every write, in the order in which the API servers learnt of it.
    pub writes: Vec<Rc<Write>>,
    /// The etcd member that leads, and the term, each time that changed.
    pub leaders: Vec<(SimTime, Option<u32>, u64)>,
    /// What has been read of them.
    answers: BTreeMap<OperatorRequest, Answered>,
}

/// A length of time in seconds.
pub fn seconds(length: u64) -> SimDuration {
    SimDuration::from_secs(length)
}

/// A time as seconds.
pub fn as_seconds(time: SimTime) -> f64 {
    time.as_nanos() as f64 / 1e9
}

/// Nodes named `node-0`, `node-1`, ...
pub fn nodes(count: usize, kubelet: KubeletKind) -> Vec<NodeOptions> {
    (0..count).map(|place| NodeOptions { name: format!("node-{place}"), kubelet, ..NodeOptions::default() }).collect()
}

/// A cluster with nodes, all else as it is by default.
pub fn options(count: usize, kubelet: KubeletKind) -> ClusterOptions {
    ClusterOptions { nodes: nodes(count, kubelet), ..ClusterOptions::default() }
}

/// What containers do on nodes of the stand-in kubelet: run a second after the pod was bound, end 100 ms after they were told to.
pub fn stand_in_images() -> ImageModels {
    let model = ImageModel {
        create: Spread::millis(0),
        start: Spread::millis(1_000),
        stop: StopModel { takes: Spread::millis(100), ..StopModel::default() },
        ..ImageModel::default()
    };
    ImageModels::default().with_default(model)
}

impl Bed {
    /// A cluster that has just begun.
    pub fn new(options: ClusterOptions, seed: u64) -> Self {
        Bed {
            cluster: Cluster::new(options, Seed(seed), false),
            writes: Vec::new(),
            leaders: Vec::new(),
            answers: BTreeMap::new(),
        }
    }

    /// A cluster whose nodes are all ready.
    pub fn ready(options: ClusterOptions, seed: u64) -> Self {
        let count = options.nodes.len();
        let mut bed = Bed::new(options, seed);
        bed.until("all nodes are ready and without taints", 30, |bed| {
            let nodes = bed.all::<kubesim::api::node::Node>();
            nodes.iter().filter(|node| node.is_ready() && node.taints.is_empty()).count() == count
        });
        bed
    }

    pub fn now(&self) -> SimTime {
        self.cluster.now()
    }

    /// How long ago a time was, in seconds.
    pub fn since(&self, time: SimTime) -> f64 {
        as_seconds(self.now()) - as_seconds(time)
    }

    /// Goes on to the next moment at which anything happens, but not beyond the limit. True if something was written.
    pub fn step(&mut self, limit: SimTime) -> bool {
        self.cluster.step(limit);
        let before = self.writes.len();
        while let Some(news) = self.cluster.next_news() {
            match news {
                News::Write(write) => self.writes.push(write),
                News::Answer { request, result } => {
                    self.answers.insert(request, result);
                }
                News::EtcdLeader { member, term } => self.leaders.push((self.cluster.now(), member, term)),
                News::Alarm { .. } | News::Decided(_) | News::Twins(_) => {}
                News::Violation(violation) => panic!("an invariant does not hold: {violation}"),
            }
        }
        self.writes.len() > before
    }

    /// Goes on to a time.
    pub fn run_to(&mut self, time: SimTime) {
        while self.now() < time {
            self.step(time);
        }
    }

    /// Goes on for some seconds.
    pub fn run(&mut self, length: u64) {
        self.run_to(self.now() + seconds(length));
    }

    /// Goes on for some milliseconds.
    pub fn run_millis(&mut self, length: u64) {
        self.run_to(self.now() + SimDuration::from_millis(length));
    }

    /// Goes on until something holds, which is looked for after each write; returns how many seconds that took.
    pub fn until(&mut self, what: &str, within: u64, holds: impl Fn(&Bed) -> bool) -> f64 {
        let start = self.now();
        let limit = start + seconds(within);
        while !holds(self) {
            while !self.step(limit) {
                assert!(self.now() < limit, "not within {within} s: {what}\n{}", self.state());
            }
        }
        self.since(start)
    }

    /// Makes a request and waits for its answer.
    pub fn request(&mut self, operation: Operation) -> Answered {
        let request = self.cluster.request(operation);
        self.answer(request)
    }

    /// Makes a request and does not wait.
    pub fn send(&mut self, operation: Operation) -> OperatorRequest {
        self.cluster.request(operation)
    }

    /// Waits for the answer of a request.
    pub fn answer(&mut self, request: OperatorRequest) -> Answered {
        let limit = self.now() + seconds(120);
        loop {
            if let Some(answer) = self.answers.remove(&request) {
                return answer;
            }
            assert!(self.now() < limit, "a request is answered in two minutes");
            self.step(limit);
        }
    }

    /// The answer to a request, if it has come.
    pub fn answered(&mut self, request: OperatorRequest) -> Option<Answered> {
        self.answers.remove(&request)
    }

    /// Types a command and waits until it has ended: what it printed, or what it failed with.
    pub fn kubectl(&mut self, command: Command) -> Result<Vec<String>, String> {
        let mut typed = Typed::new(command);
        let limit = self.now() + seconds(3_600);
        loop {
            if let Some(done) = typed.go_on(self) {
                return done.map(|()| typed.session.take_printed());
            }
            assert!(self.now() < limit, "a command ends in an hour");
            self.step(typed.session.alarm().unwrap_or(limit));
        }
    }

    /// Applies manifests to the namespace `default`.
    pub fn apply(&mut self, text: &str) {
        self.apply_in("default", text);
    }

    /// Applies manifests.
    pub fn apply_in(&mut self, namespace: &str, text: &str) {
        let manifests = read(namespace, text);
        self.kubectl(Command::Apply { manifests, is_patient: true }).expect("it is applied");
    }

    /// `kubectl set image deployment/NAME CONTAINER=IMAGE`
    pub fn set_image(&mut self, name: &str, container: &str, image: &str) {
        let images = vec![(container.to_owned(), image.to_owned())];
        self.kubectl(Command::SetImage { key: deployment("default", name), images }).expect("the image is set");
    }

    /// `kubectl delete`, not waiting for the end.
    pub fn delete(&mut self, key: ObjectKey) -> Result<Vec<String>, String> {
        self.kubectl(delete_command(key, None, false))
    }

    /// `kubectl rollout status`
    pub fn rollout_status(&mut self, namespace: &str, name: &str, timeout: u64) -> Result<Vec<String>, String> {
        let verb = Rollout::Status(Some(seconds(timeout)));
        self.kubectl(Command::Rollout { key: deployment(namespace, name), verb })
    }

    /// All objects of a kind.
    pub fn all<R: Resource>(&self) -> Vec<&Rc<R>> {
        self.cluster.truth().list(R::KIND).filter_map(Object::get::<R>).collect()
    }

    /// An object.
    pub fn get<R: Resource>(&self, namespace: &str, name: &str) -> Option<&Rc<R>> {
        self.cluster.truth().get(R::KIND, namespace, name).and_then(Object::get::<R>)
    }

    pub fn pods(&self) -> Vec<&Rc<Pod>> {
        self.all::<Pod>()
    }

    /// The pods that are ready and not on their way out.
    pub fn ready_pods(&self) -> usize {
        self.pods().iter().filter(|pod| pod.status.is_ready() && !pod.meta.is_deleting()).count()
    }

    pub fn deployment(&self, name: &str) -> &Rc<Deployment> {
        self.get("default", name).expect("the Deployment is there")
    }

    /// True if all pods are of the newest template and available, and the status says so.
    pub fn is_rolled_out(&self, name: &str) -> bool {
        let deployment = self.deployment(name);
        let (status, wanted) = (&deployment.status, deployment.spec.replicas);
        status.observed_generation == deployment.meta.generation
            && status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
    }

    /// The image of a pod's first container.
    pub fn images(&self) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for pod in self.pods().iter().filter(|pod| !pod.meta.is_deleting()) {
            *images.entry(pod.spec.containers[0].image.to_string()).or_default() += 1;
        }
        images
    }

    /// Where things stand, for a test that fails.
    pub fn state(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("at {:.3} s\n", as_seconds(self.now()));
        for deployment in self.all::<Deployment>() {
            let _ =
                writeln!(text, "{}: wants {}, {:?}", deployment.meta.name, deployment.spec.replicas, deployment.status);
        }
        for set in self.all::<ReplicaSet>() {
            let _ = writeln!(text, "{}: wants {}, {:?}", set.meta.name, set.replicas, set.status);
        }
        for node in self.all::<kubesim::api::node::Node>().iter().take(12) {
            let _ = writeln!(text, "{}: ready {}, taints {:?}", node.meta.name, node.is_ready(), node.taints);
        }
        for pod in self.pods().iter().take(24) {
            let (ready, deleting) = (pod.status.is_ready(), pod.meta.is_deleting());
            let node = pod.node.as_deref().unwrap_or("no node");
            let _ = writeln!(
                text,
                "{} on {node}: {:?}, ready {ready}, deleting {deleting}",
                pod.meta.name, pod.status.phase
            );
        }
        text
    }
}

/// A command under way.
pub struct Typed {
    session: Session,
    requests: BTreeMap<OperatorRequest, u64>,
    /// How many writes it has been shown.
    shown: Option<usize>,
}

impl Typed {
    pub fn new(command: Command) -> Self {
        Typed { session: Session::new(command), requests: BTreeMap::new(), shown: None }
    }

    /// Lets it go on as far as it gets. Some once it has ended.
    pub fn go_on(&mut self, bed: &mut Bed) -> Option<Done> {
        let shown = self.shown.unwrap_or(bed.writes.len());
        for write in &bed.writes[shown..] {
            self.session.note_write(write);
        }
        self.shown = Some(bed.writes.len());
        let answered: Vec<OperatorRequest> =
            self.requests.keys().copied().filter(|request| bed.answers.contains_key(request)).collect();
        for request in answered {
            let (ticket, answer) = (self.requests.remove(&request), bed.answers.remove(&request));
            if let (Some(ticket), Some(answer)) = (ticket, answer) {
                self.session.answer(ticket, answer);
            }
        }
        let done = self.session.go_on(bed.now(), bed.cluster.date());
        while let Some((ticket, operation)) = self.session.next_request() {
            self.requests.insert(bed.cluster.request(operation), ticket);
        }
        done
    }

    /// When it wants to go on by itself.
    pub fn alarm(&self) -> Option<SimTime> {
        self.session.alarm()
    }
}

/// Objects as kubectl reads them.
pub fn read(namespace: &str, text: &str) -> Rc<[Manifest]> {
    let read = manifests::read("test.yaml", text, namespace);
    read.unwrap_or_else(|problems| panic!("{}", problems[0].render(false))).objects.into()
}

/// `kubectl delete`
pub fn delete_command(key: ObjectKey, grace_seconds: Option<i64>, wait: bool) -> Command {
    Command::Delete { keys: vec![key], wait, grace_seconds, propagation: Propagation::Background }
}

/// The key of a Deployment.
pub fn deployment(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Deployment, namespace, name)
}

/// The key of a pod.
pub fn pod(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Pod, namespace, name)
}

/// A ConfigMap to write something with.
pub fn config_map(name: &str) -> Object {
    let value = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"}, "data": {"key": name}});
    Object::from_json(Kind::ConfigMap, value).expect("a ConfigMap")
}

/// What a refusal says.
pub fn refusal(answer: Answered) -> Box<Status> {
    answer.expect_err("it is refused")
}
