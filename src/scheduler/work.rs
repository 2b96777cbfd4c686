//! How much work a pod like the last one is, counted in steps and not in time: blocks of nodes that are looked at, nodes, changes that
//! are caught up with. It must not grow with the number of nodes but for the logarithm, whether the pod is placed, fits nowhere, or has
//! others sent away.

use std::rc::Rc;

use serde_json::{Value, json};

use super::algorithm::{Algorithm, Outcome};
use super::cluster::Cluster;
use super::profile::Profile;
use super::strides::counted;
use super::testing::{node_from, pod_from};
use crate::api::meta::Uid;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::random::Seed;

const SIZES: [usize; 3] = [1_000, 5_000, 20_000];

/// So many pods are there before, and then so many are placed.
const FIRST: u64 = 4;
const PODS: u64 = 50;

/// So much more may a pod take with twenty times the nodes.
const MORE: u64 = 100;

fn a_pod(spec: Value) -> Rc<Pod> {
    let Object::Pod(mut pod) = pod_from("web", spec) else { panic!("not a pod") };
    let own = Rc::make_mut(&mut pod);
    own.meta.labels = own.meta.labels.with("app", "web");
    pod
}

fn replica(of: &Rc<Pod>, number: u64) -> Rc<Pod> {
    let mut pod = Pod::clone(of);
    (pod.meta.name, pod.meta.uid) = (format!("pod-{number}").into(), Uid(u128::from(number)));
    Rc::new(pod)
}

/// Nodes in four zones.
fn cluster_of(count: usize) -> Cluster {
    let status = json!({ "allocatable": { "cpu": "32", "memory": "256Gi", "pods": "110" } });
    let Object::Node(node) = node_from("node", json!({}), status) else { panic!("not a node") };
    let mut cluster = Cluster::default();
    for number in 0..count {
        let mut node = Node::clone(&node);
        let name = format!("node-{number}");
        let labels = node.meta.labels.with("topology.kubernetes.io/zone", format!("z{}", number % 4));
        (node.meta.name, node.meta.labels) = (name.as_str().into(), labels.with("kubernetes.io/hostname", name));
        cluster.set_node(Rc::new(node));
    }
    cluster
}

/// A cluster with a large pod on each node of which one is named.
fn filled<'p>(count: usize, large: impl Fn(usize) -> Option<&'p Rc<Pod>>) -> Cluster {
    let mut cluster = cluster_of(count);
    for number in 0..count {
        if let Some(pod) = large(number) {
            cluster.see_pod(&replica(pod, 1 << 40 | number as u64), &format!("node-{number}").into());
        }
    }
    cluster
}

/// A pod of a priority that fills a node.
fn large(priority: i32) -> Rc<Pod> {
    let requests = json!({ "requests": { "cpu": "32" } });
    let containers = json!([{ "name": "c", "image": "large", "resources": requests }]);
    let Object::Pod(large) = pod_from("large", json!({ "priority": priority, "containers": containers })) else {
        panic!("not a pod")
    };
    large
}

/// How many steps a pod takes, once there are some like it, and all nodes were looked at for them.
fn steps_of_each(cluster: &mut Cluster, pod: &Rc<Pod>, become_of: impl Fn(&mut Cluster, &Rc<Pod>, Outcome)) -> u64 {
    let (mut algorithm, profile) = (Algorithm::new(0, Seed(7).stream("work", "tie-break")), Profile::standard());
    let mut decide = |number: u64, cluster: &mut Cluster| {
        cluster.refresh();
        let pod = replica(pod, number);
        let outcome = algorithm.schedule(&profile, &pod, cluster);
        (pod, outcome)
    };
    for number in 1..=FIRST {
        let (pod, outcome) = decide(number, cluster);
        become_of(cluster, &pod, outcome);
    }
    // One goes through a twentieth of the nodes at least, and where others have to go, through a tenth from anywhere.
    for _ in 0..60 {
        decide(FIRST + 1, cluster);
    }
    counted::take();
    for number in FIRST + 1..=FIRST + PODS {
        let (pod, outcome) = decide(number, cluster);
        become_of(cluster, &pod, outcome);
    }
    counted::take() / PODS
}

fn is_placed(cluster: &mut Cluster, pod: &Rc<Pod>, outcome: Outcome) {
    let Outcome::Node(chosen) = outcome else { panic!("no room: {outcome:?}") };
    assert!(cluster.assume(pod, &chosen.node));
}

fn spec(more: Value) -> Value {
    let requests = json!({ "requests": { "cpu": "100m", "memory": "128Mi" } });
    let mut spec = json!({ "containers": [{ "name": "app", "image": "web:1", "resources": requests }] });
    spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    spec
}

/// What pods want of one another.
fn workloads() -> Vec<(&'static str, Value)> {
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let selector = json!({ "matchLabels": { "app": "web" } });
    let spread = |key: &str| json!({ "topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector });
    let term = |key: &str| json!({ "topologyKey": key, "labelSelector": selector });
    let required = |key: &str| json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term(key)] });
    let weighted = |key: &str| json!({ "weight": 50, "podAffinityTerm": term(key) });
    let preferred = |key: &str| json!({ "preferredDuringSchedulingIgnoredDuringExecution": [weighted(key)] });
    vec![
        ("plain", json!({})),
        ("spread", json!({ "topologySpreadConstraints": [spread(zone), spread(host)] })),
        ("anti-affinity", json!({ "affinity": { "podAntiAffinity": required(host) } })),
        ("affinity", json!({ "affinity": { "podAffinity": required(zone) } })),
        ("preferred", json!({ "affinity": { "podAffinity": preferred(zone), "podAntiAffinity": preferred(host) } })),
    ]
}

/// Checks of all workloads that a pod takes no more in a large cluster than in a small one, but for so much.
fn check(
    pod_of: impl Fn(Value) -> Rc<Pod>,
    cluster: impl Fn(usize) -> Cluster,
    become_of: impl Fn(&mut Cluster, &Rc<Pod>, Outcome) + Copy,
    more: u64,
) {
    for (name, wants) in workloads() {
        let pod = pod_of(wants);
        let steps = SIZES.map(|count| steps_of_each(&mut cluster(count), &pod, become_of));
        assert!(steps[2] <= steps[0] + more, "{name}: {steps:?}");
    }
}

/// A cluster of which all but an eleventh is full, so that most nodes have to be passed.
fn nearly_full(count: usize) -> Cluster {
    let large = large(0);
    filled(count, |number| (!number.is_multiple_of(11)).then_some(&large))
}

#[test]
fn what_a_pod_takes_does_not_grow_with_the_nodes_that_are_passed_over() {
    check(|wants| a_pod(spec(wants)), nearly_full, is_placed, MORE);
}

/// A large pod of a priority, to make room for which another one has to go.
fn vip(more: Value) -> Rc<Pod> {
    let mut spec = spec(more);
    let own = spec.as_object_mut().expect("an object");
    own.insert("priority".to_owned(), json!(100));
    own["containers"][0]["resources"]["requests"]["cpu"] = json!("20");
    a_pod(spec)
}

fn fits_nowhere(_cluster: &mut Cluster, _pod: &Rc<Pod>, outcome: Outcome) {
    let Outcome::Unschedulable(diagnosis) = outcome else { panic!("there is room: {outcome:?}") };
    assert!(diagnosis.victims.is_empty() && !diagnosis.message().is_empty());
}

/// Of most pods the victims go at once, and they come; some wait for theirs.
fn preempts(cluster: &mut Cluster, pod: &Rc<Pod>, outcome: Outcome) {
    let Outcome::Unschedulable(diagnosis) = outcome else { panic!("there is room: {outcome:?}") };
    assert_eq!(diagnosis.victims.len(), 1, "{}", diagnosis.message());
    let node = diagnosis.nominated_node.expect("a nomination");
    cluster.nominate(pod, &node);
    if !pod.meta.uid.0.is_multiple_of(5) {
        assert!(cluster.remove_pod(diagnosis.victims[0]));
        cluster.withdraw(pod.meta.uid);
        assert!(cluster.assume(pod, &node));
    }
}

/// A cluster in which every node is full, one in seven of pods that are as important as any.
fn full(count: usize) -> Cluster {
    let (low, high) = (large(1), large(1_000));
    filled(count, |number| Some(if number.is_multiple_of(7) { &high } else { &low }))
}

#[test]
fn what_a_pod_takes_that_fits_nowhere_does_not_grow_with_the_nodes() {
    check(|wants| a_pod(spec(wants)), full, fits_nowhere, MORE);
}

#[test]
fn what_a_pod_takes_that_has_others_sent_away_does_not_grow_with_the_nodes() {
    // Where zones matter, each that comes lets the nodes be looked at anew for which some wait.
    check(vip, full, preempts, 2 * MORE);
}
