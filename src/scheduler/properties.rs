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
use super::testing::{node_from, pod_from};
use crate::api::meta::Uid;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::engine::random::Seed;

/// Something that happens to the cluster.
#[derive(Clone, Debug)]
enum Step {
    SetNode { node: u8, shape: u8, label: u8, taint: u8, cordoned: bool, image: u8 },
    RemoveNode(u8),
    Schedule { spec: u8 },
    Forget(u8),
    Confirm(u8),
    Remove(u8),
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let node = (0..12u8, 0..3u8, 0..3u8, 0..4u8, prop::bool::weighted(0.1), 0..3u8).prop_map(
        |(node, shape, label, taint, cordoned, image)| Step::SetNode { node, shape, label, taint, cordoned, image },
    );
    let step = prop_oneof![
        4 => node,
        1 => (0..12u8).prop_map(Step::RemoveNode),
        10 => (0..SPECS as u8).prop_map(|spec| Step::Schedule { spec }),
        2 => any::<u8>().prop_map(Step::Forget),
        3 => any::<u8>().prop_map(Step::Confirm),
        2 => any::<u8>().prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..length)
}

const SPECS: usize = 7;

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
    ];
    assert_eq!(all.len(), SPECS);
    all.into_iter()
        .map(|spec| match pod_from("p", spec) {
            Object::Pod(pod) => pod.spec.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn a_node(node: u8, shape: u8, label: u8, taint: u8, cordoned: bool, image: u8) -> Rc<Node> {
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
    own.meta.labels =
        own.meta.labels.with("disk", format!("{label}")).with("topology.kubernetes.io/zone", format!("z{}", node % 3));
    built
}

/// The cluster, one algorithm that keeps what it can and one that keeps nothing.
struct Bench {
    profile: Profile,
    cluster: Cluster,
    keeping: Algorithm,
    fresh: Algorithm,
    pods: Vec<(Rc<Pod>, bool)>,
    specs: Vec<Rc<PodSpec>>,
    next: u128,
}

impl Bench {
    fn new() -> Self {
        let algorithm = || Algorithm::new(0, Seed(3).stream("scheduler", "tie-break"));
        Bench {
            profile: Profile::standard(),
            cluster: Cluster::default(),
            keeping: algorithm(),
            fresh: algorithm(),
            pods: Vec::new(),
            specs: specs(),
            next: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::SetNode { node, shape, label, taint, cordoned, image } => {
                self.cluster.set_node(a_node(node, shape, label, taint, cordoned, image));
            }
            Step::RemoveNode(node) => self.cluster.remove_node(&format!("n{node}")),
            Step::Schedule { spec } => self.schedule(usize::from(spec)),
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

    fn schedule(&mut self, spec: usize) {
        self.next += 1;
        let Object::Pod(mut pod) = pod_from("p", json!({ "containers": [] })) else { panic!("not a pod") };
        let own = Rc::make_mut(&mut pod);
        (own.spec, own.meta.uid) = (self.specs[spec].clone(), Uid(self.next));
        self.cluster.refresh();
        let outcome = self.keeping.schedule(&self.profile, &pod, &self.cluster);
        self.fresh.forget_classes();
        let fresh = self.fresh.schedule(&self.profile, &pod, &self.cluster);
        assert_eq!(outcome, fresh, "what is kept changes the result");
        self.check_against_rules(&pod, &outcome);
        if let Outcome::Node(chosen) = outcome {
            let mut placed = Pod::clone(&pod);
            placed.node = Some(chosen.node.clone());
            let placed = Rc::new(placed);
            assert!(self.cluster.assume(&placed, &chosen.node));
            let place = self.cluster.place_of(&chosen.node).expect("a node");
            self.check_room(self.cluster.at(place), &pod);
            self.pods.push((placed, true));
        }
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
        let ours = feasible.iter().zip(&totals).find(|(node, _)| node.name == chosen.node);
        assert_eq!(ours.map(|(_, total)| total), best);
        assert_eq!(chosen.feasible, feasible.len());
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

#[test]
fn every_plugin_of_the_profile_is_asked_somewhere() {
    let profile = Profile::standard();
    let points = [Point::PreEnqueue, Point::QueueSort, Point::Filter, Point::PostFilter, Point::Score, Point::Bind];
    let asked = |place: usize| points.iter().any(|point| profile.at(*point).any(|(other, ..)| other == place));
    assert!((0..profile.len()).all(asked));
}
