//! Properties over random clusters: what is kept never changes a result, and no node is ever given too much.

use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::algorithm::{Algorithm, Outcome};
use super::class::Compiled;
use super::cluster::Cluster;
use super::framework::Point;
use super::node_info::NodeInfo;
use super::profile::Profile;
use super::testing::{node_from, object, pod_from};
use crate::api::kind::Kind;
use crate::api::meta::{Deletion, Labels, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::engine::random::Seed;

/// Something that happens to the cluster.
#[derive(Clone, Debug)]
enum Step {
    SetNode {
        node: u8,
        shape: u8,
        label: u8,
        taint: u8,
        cordoned: bool,
        image: u8,
        zone: u8,
    },
    RemoveNode(u8),
    Schedule {
        spec: u8,
        like: u8,
    },
    Relabel {
        pod: u8,
        like: u8,
    },
    BeginDeletion(u8),
    SetService(u8),
    RemoveService,
    SetNamespace(u8),
    Forget(u8),
    Confirm(u8),
    Remove(u8),
    Withdraw(u8),
    /// A pod that is nominated is tried again; the API may know of it or not yet.
    Again {
        pod: u8,
        is_known: bool,
    },
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let node = (0..12u8, 0..3u8, 0..3u8, 0..4u8, prop::bool::weighted(0.1), 0..3u8, 0..9u8).prop_map(
        |(node, shape, label, taint, cordoned, image, zone)| Step::SetNode {
            node,
            shape,
            label,
            taint,
            cordoned,
            image,
            zone,
        },
    );
    let step = prop_oneof![
        4 => node,
        1 => (0..12u8).prop_map(Step::RemoveNode),
        20 => (0..SPECS as u8, 0..LIKES).prop_map(|(spec, like)| Step::Schedule { spec, like }),
        2 => (any::<u8>(), 0..LIKES).prop_map(|(pod, like)| Step::Relabel { pod, like }),
        1 => any::<u8>().prop_map(Step::BeginDeletion),
        1 => (0..4u8).prop_map(Step::SetService),
        1 => Just(Step::RemoveService),
        1 => (0..2u8).prop_map(Step::SetNamespace),
        2 => any::<u8>().prop_map(Step::Forget),
        3 => any::<u8>().prop_map(Step::Confirm),
        2 => any::<u8>().prop_map(Step::Remove),
        2 => any::<u8>().prop_map(Step::Withdraw),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(pod, is_known)| Step::Again { pod, is_known }),
    ];
    prop::collection::vec(step, 1..length)
}

const SPECS: usize = 22;

/// From this one on they are important, take most of a node, and look at where others are.
const IMPORTANT: usize = 19;

/// So many namespaces with labels pods may have.
const LIKES: u8 = 8;

/// A label that each pod of a StatefulSet has for itself.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// The specifications that pods may have.
fn specs() -> Vec<Rc<PodSpec>> {
    let container = |cpu: &str, extra: Value| {
        let mut container = json!({ "name": "app", "image": "shop:1", "resources": { "requests": { "cpu": cpu } } });
        container.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        json!([container])
    };
    let port = json!({ "ports": [{ "containerPort": 80, "hostPort": 8080, "protocol": "TCP" }] });
    let tolerant = json!([{ "key": "dedicated", "operator": "Exists" }]);
    let preferred = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 10, "preference": { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["1"] }] } },
    ] } });
    let named = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n3"] }] },
        { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n7"] }] },
    ] } } });
    let all = [
        json!({ "containers": container("1", json!({})) }),
        json!({ "containers": container("300m", port) }),
        json!({ "containers": container("2", json!({})), "tolerations": tolerant }),
        json!({ "containers": container("0", json!({})), "nodeSelector": { "disk": "1" } }),
        json!({ "containers": container("500m", json!({})), "affinity": preferred }),
        json!({ "containers": container("500m", json!({})), "affinity": named }),
        json!({ "containers": container("100", json!({})), "priority": 5 }),
        json!({ "containers": container("1500m", json!({})), "priority": 5 }),
        json!({ "containers": container("2", json!({})), "priority": 7 }),
    ];
    let all: Vec<Value> = all.into_iter().chain(specs_with_others()).collect();
    assert_eq!(all.len(), SPECS);
    all.into_iter()
        .map(|spec| match pod_from("p", spec) {
            Object::Pod(pod) => pod.spec.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Specifications of pods that look at where others are.
fn specs_with_others() -> Vec<Value> {
    let (zone, host) = ("topology.kubernetes.io/zone", "kubernetes.io/hostname");
    let of = |app: &str| json!({ "matchLabels": { "app": app } });
    let term = |app: &str, key: &str| json!({ "labelSelector": of(app), "topologyKey": key });
    let first = |name: &str| json!({ "labelSelector": { "matchLabels": { POD_NAME: name } }, "topologyKey": host });
    let anywhere = json!({ "labelSelector": of("db"), "topologyKey": zone, "namespaceSelector": {} });
    let selected = json!({
        "labelSelector": of("web"), "topologyKey": zone, "namespaceSelector": { "matchLabels": { "team": "1" } },
    });
    let weighted = |weight: i32, term: Value| json!({ "weight": weight, "podAffinityTerm": term });
    let required = |terms: Value| json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
    let preferred = |terms: Value| json!({ "preferredDuringSchedulingIgnoredDuringExecution": terms });
    let spread = |key: &str, skew: i32, action: &str| json!({ "topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": action, "labelSelector": of("web") });
    let with = |mut constraint: Value, more: Value| {
        constraint.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        constraint
    };
    let (must, should) = ("DoNotSchedule", "ScheduleAnyway");
    let pod = |more: Value| {
        let requests = json!({ "requests": { "cpu": "100m" } });
        with(json!({ "containers": [{ "name": "app", "image": "shop:1", "resources": requests }] }), more)
    };
    let important = |more: Value| {
        let requests = json!({ "requests": { "cpu": "1500m" } });
        let containers = json!([{ "name": "app", "image": "shop:1", "resources": requests }]);
        with(pod(more), json!({ "priority": 9, "containers": containers }))
    };
    vec![
        pod(json!({ "topologySpreadConstraints": [spread(zone, 1, must), spread(host, 1, must)] })),
        pod(json!({ "affinity": { "podAntiAffinity": required(json!([term("web", host)])) } })),
        pod(json!({ "affinity": { "podAffinity": required(json!([term("web", zone)])),
                                  "podAntiAffinity": preferred(json!([weighted(7, term("web", host))])) } })),
        pod(
            json!({ "affinity": { "podAffinity": preferred(json!([weighted(30, selected), weighted(60, anywhere.clone())])),
                                  "podAntiAffinity": required(json!([anywhere])) } }),
        ),
        pod(json!({ "topologySpreadConstraints": [
            with(spread(zone, 1, must), json!({ "minDomains": 3, "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["version"] })),
            with(spread(host, 2, should), json!({ "nodeAffinityPolicy": "Ignore" })),
            spread(zone, 1, should),
        ], "nodeSelector": { "disk": "1" } })),
        pod(json!({ "topologySpreadConstraints": [spread("disk", 1, should)] })),
        pod(json!({ "topologySpreadConstraints": [spread(host, 1, should), spread(zone, 2, should)], "affinity": {
            "podAntiAffinity": preferred(json!([weighted(9, term("db", host)), weighted(3, term("web", "disk"))])),
            "podAffinity": required(json!([term("db", host)])) } })),
        pod(json!({ "affinity": { "podAffinity": required(json!([term("web", zone), term("web", "disk")])) } })),
        pod(json!({ "affinity": { "podAntiAffinity": required(json!([first("db-0")])) } })),
        pod(json!({ "topologySpreadConstraints": [
            with(spread(host, 1, must), json!({ "labelSelector": { "matchLabels": { POD_NAME: "db-1" } } })),
        ] })),
        important(json!({ "affinity": { "podAntiAffinity": required(json!([term("web", host)])) } })),
        important(json!({ "affinity": { "podAntiAffinity": required(json!([term("db", zone)])),
                                        "podAffinity": required(json!([term("web", zone)])) } })),
        important(json!({ "topologySpreadConstraints": [spread(host, 1, must), spread(zone, 2, must)] })),
    ]
}

/// A namespace and labels.
fn like(number: u8) -> (Name, Labels) {
    let namespace = if number == 5 { "other" } else { "default" };
    let labels = match number {
        0 => Labels::NONE,
        1 | 5 => Labels::NONE.with("app", "web"),
        2 => Labels::NONE.with("app", "web").with("version", "2"),
        3 => Labels::NONE.with("app", "db"),
        6 | 7 => Labels::NONE.with("app", "db").with(POD_NAME, if number == 6 { "db-0" } else { "db-1" }),
        _ => Labels::NONE.with("app", "web").with("version", "1"),
    };
    (namespace.into(), labels)
}

fn service(selector: u8) -> Object {
    let selectors =
        [json!({ "app": "web" }), json!({ "app": "db" }), json!({ "version": "1" }), json!({ POD_NAME: "db-0" })];
    let selector = selectors[usize::from(selector)].clone();
    let spec = json!({ "selector": selector, "ports": [{ "port": 80 }] });
    object(Kind::Service, json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": spec }))
}

fn a_node(node: u8, shape: u8, label: u8, taint: u8, cordoned: bool, image: u8, zone: u8) -> Rc<Node> {
    let taints = match taint {
        1 => json!([{ "key": "dedicated", "value": "x", "effect": "NoSchedule" }]),
        2 => json!([{ "key": "soft", "effect": "PreferNoSchedule" }]),
        _ => json!([]),
    };
    let images = (0..image).map(|number| json!({ "names": [format!("shop:{number}")], "sizeBytes": 400_000_000 }));
    let cpu = ["2", "4", "7500m"][usize::from(shape)];
    let status = json!({
        "allocatable": { "cpu": cpu, "memory": "4Gi", "pods": "6" },
        "images": images.collect::<Vec<_>>(),
    });
    let Object::Node(mut built) =
        node_from(&format!("n{node}"), json!({ "taints": taints, "unschedulable": cordoned }), status)
    else {
        panic!("not a node");
    };
    let own = Rc::make_mut(&mut built);
    own.meta.labels = own.meta.labels.with("disk", format!("{label}"));
    // Most nodes stay in their zone, some move, and some have none.
    let zone = if zone < 6 { node % 3 } else { zone - 6 };
    if zone < 2 || node != 11 {
        own.meta.labels = own.meta.labels.with("topology.kubernetes.io/zone", format!("z{zone}"));
    }
    built
}

/// The cluster, one algorithm that keeps what it can and one that keeps nothing.
struct Bench {
    profile: Profile,
    cluster: Cluster,
    keeping: Algorithm,
    fresh: Algorithm,
    pods: Vec<(Rc<Pod>, bool)>,
    /// Pods that are nominated to nodes.
    nominated: Vec<Rc<Pod>>,
    outcomes: Vec<Outcome>,
    specs: Vec<Rc<PodSpec>>,
    next: u128,
}

impl Bench {
    fn new() -> Self {
        Bench::with(Profile::standard())
    }

    fn with(profile: Profile) -> Self {
        let stream = || Seed(3).stream("scheduler", "tie-break");
        Bench {
            profile,
            cluster: Cluster::default(),
            keeping: Algorithm::new(0, stream()),
            fresh: Algorithm::plain(0, stream()),
            pods: Vec::new(),
            nominated: Vec::new(),
            outcomes: Vec::new(),
            specs: specs(),
            next: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::SetNode { node, shape, label, taint, cordoned, image, zone } => {
                self.cluster.set_node(a_node(node, shape, label, taint, cordoned, image, zone));
            }
            Step::RemoveNode(node) => self.cluster.remove_node(&format!("n{node}")),
            Step::Schedule { spec, like } => self.schedule(usize::from(spec), like),
            Step::Relabel { pod, like: number } => self.change(pod, |pod| pod.meta.labels = like(number).1),
            Step::BeginDeletion(pod) => self.change(pod, |pod| {
                pod.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(1), grace_seconds: None }));
            }),
            Step::SetService(selector) => self.cluster.set_object(&service(selector)),
            Step::RemoveService => self.cluster.remove_object(&service(0)),
            Step::SetNamespace(team) => {
                let labels = json!({ "name": "other", "labels": { "team": team.to_string() } });
                self.cluster.set_object(&object(Kind::Namespace, json!({ "metadata": labels })));
            }
            Step::Forget(pod) => {
                if let Some(place) = self.pick(pod, true) {
                    let (pod, _) = self.pods.swap_remove(place);
                    self.cluster.forget(pod.meta.uid);
                }
            }
            Step::Confirm(pod) => {
                if let Some(place) = self.pick(pod, true) {
                    let (pod, assumed) = &mut self.pods[place];
                    let node = pod.node.clone().expect("a node");
                    self.cluster.see_pod(pod, &node);
                    *assumed = false;
                }
            }
            Step::Withdraw(pod) => {
                if !self.nominated.is_empty() {
                    let gone = self.nominated.swap_remove(usize::from(pod) % self.nominated.len());
                    self.cluster.withdraw(gone.meta.uid);
                }
            }
            Step::Again { pod, is_known } => {
                if !self.nominated.is_empty() {
                    let mut again = self.nominated.swap_remove(usize::from(pod) % self.nominated.len());
                    let node = self.cluster.nomination_of(again.meta.uid).cloned();
                    Rc::make_mut(&mut again).status.nominated_node = node.filter(|_| is_known).map(Box::new);
                    self.schedule_pod(again);
                }
            }
            Step::Remove(pod) => {
                if let Some(place) = self.pick(pod, false) {
                    let (pod, _) = self.pods.swap_remove(place);
                    assert!(self.cluster.remove_pod(pod.meta.uid));
                }
            }
        }
    }

    /// The place of some pod that is, or is not, only assumed.
    fn pick(&self, number: u8, assumed: bool) -> Option<usize> {
        let places: Vec<usize> = (0..self.pods.len()).filter(|place| self.pods[*place].1 == assumed).collect();
        (!places.is_empty()).then(|| places[usize::from(number) % places.len()])
    }

    /// A pod that is known to be on a node changes.
    fn change(&mut self, number: u8, change: impl FnOnce(&mut Pod)) {
        let Some(place) = self.pick(number, false) else { return };
        let pod = &mut self.pods[place].0;
        change(Rc::make_mut(pod));
        let node = pod.node.clone().expect("a node");
        self.cluster.see_pod(pod, &node);
    }

    fn schedule(&mut self, spec: usize, number: u8) {
        self.next += 1;
        let Object::Pod(mut pod) = pod_from("p", json!({ "containers": [] })) else { panic!("not a pod") };
        let own = Rc::make_mut(&mut pod);
        (own.spec, own.meta.uid) = (self.specs[spec].clone(), Uid(self.next));
        (own.meta.namespace, own.meta.labels) = like(number);
        self.schedule_pod(pod);
    }

    fn schedule_pod(&mut self, pod: Rc<Pod>) {
        self.cluster.refresh();
        let outcome = self.keeping.schedule(&self.profile, &pod, &self.cluster);
        let fresh = self.fresh.schedule(&self.profile, &pod, &self.cluster);
        assert_eq!(outcome, fresh, "what is kept changes the result");
        self.outcomes.push(outcome.clone());
        if self.cluster.node_count() < 100 && !self.cluster.has_nominations() {
            self.check_against_rules(&pod, &outcome);
        }
        if let Outcome::Unschedulable(diagnosis) = &outcome
            && let Some(node) = diagnosis.nominated_node.as_ref().filter(|node| !node.is_empty())
        {
            self.cluster.nominate(&pod, node);
            self.nominated.push(pod.clone());
        }
        if let Outcome::Node(chosen) = outcome {
            let mut placed = Pod::clone(&pod);
            placed.node = Some(chosen.node.clone());
            let placed = Rc::new(placed);
            self.cluster.withdraw(pod.meta.uid);
            assert!(self.cluster.assume(&placed, &chosen.node));
            let place = self.cluster.place_of(&chosen.node).expect("a node");
            self.check_room(self.cluster.at(place), &pod);
            self.pods.push((placed, true));
        }
    }

    /// Whether a pod finds a node now. It is not placed.
    fn tries(&mut self, spec: u8, like: u8) -> bool {
        let before = self.pods.len();
        self.schedule(usize::from(spec), like);
        let is_placed = self.pods.len() > before;
        if is_placed && let Some((pod, _)) = self.pods.pop() {
            self.cluster.forget(pod.meta.uid);
        }
        is_placed
    }

    /// With fewer than a hundred nodes all are looked at: the choice must be one of the best, worked out the plain way.
    fn check_against_rules(&self, pod: &Rc<Pod>, outcome: &Outcome) {
        let mut compiled = Compiled::new(&self.profile, pod, &self.cluster);
        let named = |node: &NodeInfo| compiled.nodes.as_ref().is_none_or(|names| names.contains(&node.name));
        let feasible: Vec<&NodeInfo> =
            self.cluster.nodes().filter(|node| named(node) && compiled.filter(node).is_none()).collect();
        compiled.pre_score(&self.profile, pod, &self.cluster, &feasible);
        let Outcome::Node(chosen) = outcome else {
            assert!(feasible.is_empty(), "{} nodes would do", feasible.len());
            return;
        };
        let mut totals = vec![0; feasible.len()];
        for scorer in &compiled.scorers {
            let mut scores: Vec<i64> = feasible.iter().map(|node| scorer.score.score(node)).collect();
            scorer.score.normalize(&feasible, &mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += scorer.weight * score;
            }
        }
        let best = totals.iter().max();
        let total =
            |name: &Name| feasible.iter().zip(&totals).find(|(node, _)| node.name == *name).map(|(_, total)| total);
        assert_eq!(total(&chosen.node), best);
        assert_eq!(chosen.feasible, feasible.len());
        // A single node is not scored.
        let is_choice = feasible.len() > 1;
        assert_eq!(chosen.score.as_ref(), best.filter(|_| is_choice));
        let others = feasible.iter().zip(&totals).filter(|(node, _)| node.name != chosen.node);
        let second = others.map(|(_, total)| total).max();
        assert_eq!(chosen.runner_up.as_ref().map(|(_, score)| score), second);
        assert_eq!(chosen.runner_up.as_ref().and_then(|(node, _)| total(node)), second);
    }

    /// Nothing is given away twice. (A node that shrinks may be too full, and then still takes pods that request nothing.)
    fn check_room(&self, node: &NodeInfo, pod: &Pod) {
        let (has, used, wants) = (node.allocatable(), &node.requested, &pod.spec.requests);
        assert!(node.pods.len() as i64 <= has.pods);
        assert!(wants.milli_cpu == 0 || used.milli_cpu <= has.milli_cpu);
        assert!(wants.memory == 0 || used.memory <= has.memory);
        let mut ports = node.ports.clone();
        ports.sort();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "a port is given twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_never_changes_a_choice_and_no_node_is_given_too_much(steps in steps(120)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.step(step);
        }
    }

    #[test]
    fn the_same_steps_lead_to_the_same_decisions(steps in steps(60)) {
        let [mut one, mut other] = [Bench::new(), Bench::new()];
        for step in &steps {
            one.step(step);
            other.step(step);
        }
        prop_assert_eq!(one.outcomes, other.outcomes);
    }

    #[test]
    fn one_more_node_never_keeps_a_pod_from_being_placed_unless_pods_are_spread(
        steps in steps(60),
        node in 12..16u8,
        (shape, label, taint) in (0..3u8, 0..3u8, 0..4u8),
        (spec, like) in (0..SPECS as u8, 0..LIKES),
    ) {
        let rows = Profile::standard_rows().into_iter().filter(|row| row.plugin.name() != "PodTopologySpread");
        let mut bench = Bench::with(Profile::new("default-scheduler".into(), rows.collect()));
        for step in &steps {
            bench.step(step);
        }
        let was_placed = bench.tries(spec, like);
        bench.step(&Step::SetNode { node, shape, label, taint, cordoned: false, image: 1, zone: node % 9 });
        prop_assert!(!was_placed || bench.tries(spec, like));
    }

    #[test]
    fn sums_are_those_of_the_pods_that_are_there(steps in steps(80)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.step(step);
        }
        bench.cluster.refresh();
        for node in bench.cluster.nodes() {
            let mut sum = NodeInfo::new(node.name.clone());
            for (pod, _) in bench.pods.iter().filter(|(pod, _)| pod.node.as_ref() == Some(&node.name)) {
                sum.add(pod);
            }
            prop_assert_eq!((sum.pods.len(), &sum.priorities), (node.pods.len(), &node.priorities));
            prop_assert_eq!((sum.requested, sum.scoring_milli_cpu), (node.requested.clone(), node.scoring_milli_cpu));
        }
        prop_assert_eq!(bench.cluster.pod_count(), bench.pods.len());
    }
}

/// With more than a hundred nodes only some are looked at, and the search goes on where the last one ended.
#[test]
fn in_a_large_cluster_what_is_kept_never_changes_a_choice() {
    let mut bench = Bench::new();
    for node in 0..230 {
        bench.step(&Step::SetNode {
            node,
            shape: node % 3,
            label: node % 5,
            taint: node % 11,
            cordoned: false,
            image: node % 2,
            zone: 0,
        });
    }
    bench.step(&Step::SetService(0));
    for number in 0..300_u16 {
        let (spec, like) = ((number / 3 % SPECS as u16) as u8, (number % u16::from(LIKES)) as u8);
        bench.step(&Step::Schedule { spec, like });
        if number % 4 == 0 {
            bench.step(&Step::Confirm((number * 7) as u8));
            bench.step(&Step::Relabel { pod: (number * 13) as u8, like });
        }
        if number % 9 == 0 {
            bench.step(&Step::Remove((number * 5) as u8));
        }
    }
    assert!(bench.pods.len() > 150, "only {} pods found a node", bench.pods.len());
}

/// With so many nodes that they make several blocks of blocks of words.
#[test]
fn in_a_cluster_of_many_blocks_what_is_kept_never_changes_a_choice() {
    let mut bench = Bench::new();
    for number in 0..700_u16 {
        let (node, shape, taint) = ((number % 250) as u8, (number % 3) as u8, (number % 7) as u8);
        let mut node = Node::clone(&a_node(node, shape, (number % 5) as u8, taint, false, (number % 2) as u8, 0));
        node.meta.name = format!("m{number}").into();
        bench.cluster.set_node(Rc::new(node));
    }
    for number in 0..150_u16 {
        let (spec, like) = ((number / 4 % SPECS as u16) as u8, (number % u16::from(LIKES)) as u8);
        bench.step(&Step::Schedule { spec, like });
        if number % 3 == 0 {
            bench.step(&Step::Confirm((number * 7) as u8));
            bench.step(&Step::Remove((number * 5) as u8));
        }
    }
    assert!(bench.pods.len() > 60, "only {} pods found a node", bench.pods.len());
}

/// Nodes of several blocks, each of them full of a pod of the specification that is said.
fn full(spec_on: impl Fn(usize) -> usize) -> Bench {
    let mut bench = Bench::new();
    for number in 0..600_u16 {
        let (node, taint) = ((number % 250) as u8, (number % 7) as u8);
        let mut node = Node::clone(&a_node(node, 0, (number % 5) as u8, taint, false, 0, 0));
        node.meta.name = format!("m{number}").into();
        node.meta.labels = node.meta.labels.with("kubernetes.io/hostname", format!("m{number}"));
        bench.cluster.set_node(Rc::new(node));
    }
    let Object::Pod(first) = pod_from("low", json!({ "containers": [] })) else { panic!("not a pod") };
    for number in 0..600_u16 {
        let mut low = Pod::clone(&first);
        low.spec = bench.specs[spec_on(usize::from(number))].clone();
        (low.meta.uid, low.meta.labels) = (Uid(1 << 64 | u128::from(number)), like(1 + (number % 3) as u8).1);
        bench.cluster.see_pod(&Rc::new(low), &format!("m{number}").into());
    }
    bench
}

/// Pods for which others have to go, also such as keep apart or are spread; some victims go, and others stay.
#[test]
fn in_a_full_cluster_of_many_blocks_what_is_kept_never_changes_who_has_to_go() {
    // Most nodes are full of something unimportant, some of what is as important as any.
    let mut bench = full(|number| [2, 8, 2, 7, 2, IMPORTANT, 7, 8, 2][number % 9]);
    let mut sent_away = 0;
    for number in 0..66_u16 {
        let spec = if number % 6 == 5 { 8 } else { IMPORTANT + usize::from(number / 4 % 3) };
        bench.schedule(spec, 1 + (number / 4 % 3) as u8);
        if let Some(Outcome::Unschedulable(diagnosis)) = bench.outcomes.last()
            && number % 3 != 0
        {
            for victim in diagnosis.victims.clone() {
                sent_away += 1;
                assert!(bench.cluster.remove_pod(victim));
                bench.pods.retain(|(pod, _)| pod.meta.uid != victim);
            }
        }
        if number % 2 == 0 {
            bench.step(&Step::Again { pod: (number * 3) as u8, is_known: number % 4 == 0 });
        }
    }
    assert!(sent_away > 20, "only {sent_away} were sent away");
}

/// Of nodes on which budgets are broken no more become candidates than are wanted, be the others cheaper or not.
#[test]
fn where_all_victims_are_protected_what_is_kept_never_changes_who_has_to_go() {
    let mut bench = full(|number| match number {
        300 => 2,
        _ if number % 5 == 0 => 7,
        _ => 8,
    });
    let protected = json!({ "metadata": { "name": "all", "namespace": "default" },
        "spec": { "selector": { "matchExpressions": [{ "key": "app", "operator": "Exists" }] } },
        "status": { "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 } });
    bench.cluster.set_object(&object(Kind::PodDisruptionBudget, protected));
    for _ in 0..150 {
        bench.schedule(IMPORTANT, 4);
    }
    assert!(bench.cluster.has_nominations());
}

/// Where all nodes are told apart by where the pods are that a pod looks at, they are looked at one by one.
#[test]
fn with_more_kinds_of_nodes_than_are_kept_apart_what_is_kept_never_changes_a_choice() {
    let mut bench = Bench::new();
    for node in 0..200 {
        bench.step(&Step::SetNode { node, shape: 1, label: node, taint: 0, cordoned: false, image: 0, zone: 0 });
    }
    let spread_over_disks = 14;
    for number in 0..60_u16 {
        bench.step(&Step::Schedule { spec: spread_over_disks, like: 1 });
        bench.step(&Step::Schedule { spec: (number % SPECS as u16) as u8, like: (number % u16::from(LIKES)) as u8 });
    }
    let over_disks = &bench.specs[usize::from(spread_over_disks)];
    assert!(over_disks.full.topology_spread_constraints.iter().flatten().any(|one| one.topology_key == "disk"));
    assert!(bench.pods.len() > 80, "only {} pods found a node", bench.pods.len());
}

#[test]
fn every_plugin_of_the_profile_is_asked_somewhere() {
    let profile = Profile::standard();
    let points = [Point::PreEnqueue, Point::QueueSort, Point::Filter, Point::PostFilter, Point::Score, Point::Bind];
    let asked = |place: usize| points.iter().any(|point| profile.at(*point).any(|(other, ..)| other == place));
    assert!((0..profile.len()).all(asked));
}
