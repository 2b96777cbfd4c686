//! Machines and kubelets that fail, and come back.

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::node::{Lease, Node, TaintEffect};
use kubesim::api::pod::{ConditionStatus, Pod};
use kubesim::apiserver::protocol::{DeleteOptions, Operation};
use kubesim::cluster::options::KubeletKind;
use kubesim::engine::time::SimTime;
use kubesim::runtime::model::{ExitModel, ImageModel, ImageModels, StopModel};
use kubesim::runtime::span::Spread;

use crate::support::{Bed, deployment, options, seconds};
use crate::{repeatable, web};

#[test]
fn a_node_that_crashes_is_noticed_evicted_and_taken_back() {
    repeatable(|seed| {
        let mut bed = Bed::ready(options(4, KubeletKind::Real), seed);
        bed.apply(&web(8, "app:v1", ""));
        bed.until("all are ready", 60, |bed| bed.ready_pods() == 8);
        bed.run(30);
        let victim = "node-1";
        let on_victim = |bed: &Bed| -> Vec<String> {
            let there = |pod: &&&std::rc::Rc<Pod>| pod.node.as_deref() == Some(victim);
            bed.pods().iter().filter(there).map(|pod| pod.meta.name.to_string()).collect()
        };
        let doomed = on_victim(&bed);
        assert_eq!(doomed.len(), 2, "pods are spread evenly");
        let renewed = last_renewal(&bed, victim);
        bed.cluster.crash_machine(victim).expect("it is there");

        bed.until("the node is Unknown", 60, |bed| ready_condition(bed, victim) == ConditionStatus::Unknown);
        let silence = bed.since(renewed);
        assert!((50.0..=55.2).contains(&silence), "Unknown after {silence} s");
        bed.until("it must not be scheduled to", 1, |bed| has_taint(bed, victim, TaintEffect::NoSchedule));
        bed.until("its pods must go", 6, |bed| has_taint(bed, victim, TaintEffect::NoExecute));
        let tainted = bed.now();
        let not_ready = |bed: &Bed| doomed.iter().all(|name| !pod(bed, name).status.is_ready());
        bed.until("its pods are not ready", 2, not_ready);
        bed.until("its pods are evicted", 310, |bed| doomed.iter().all(|name| pod(bed, name).meta.is_deleting()));
        let patience = bed.since(tainted);
        assert!((299.0..=301.0).contains(&patience), "evicted after {patience} s");
        bed.until("there are replacements", 10, |bed| bed.ready_pods() == 8);
        assert_eq!(on_victim(&bed), doomed, "nobody has seen them end");

        bed.cluster.restart_machine(victim).expect("it is there");
        bed.until("the node is back", 10, |bed| ready_condition(bed, victim) == ConditionStatus::True);
        bed.until("it may be used again", 10, |bed| {
            bed.get::<Node>("", victim).is_some_and(|node| node.taints.is_empty())
        });
        bed.until("the evicted pods are gone", 40, |bed| bed.pods().len() == 8);
        assert!(on_victim(&bed).is_empty());
        bed
    });
}

pub fn ready_condition(bed: &Bed, node: &str) -> ConditionStatus {
    let node = bed.get::<Node>("", node).expect("the node is there");
    node.status.conditions.iter().find(|condition| condition.kind == "Ready").expect("it says so").status
}

fn has_taint(bed: &Bed, node: &str, effect: TaintEffect) -> bool {
    let node = bed.get::<Node>("", node).expect("the node is there");
    node.taints.iter().any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == effect)
}

fn pod<'a>(bed: &'a Bed, name: &str) -> &'a Pod {
    bed.get::<Pod>("default", name).expect("the pod is there")
}

/// When a node's lease was last renewed.
fn last_renewal(bed: &Bed, node: &str) -> SimTime {
    assert!(bed.get::<Lease>("kube-node-lease", node).is_some(), "the node has a lease");
    let renewals = bed.writes.iter().filter(|write| write.key.kind == Kind::Lease && write.key.name == node);
    renewals.map(|write| write.at).next_back().expect("it was renewed")
}

#[test]
fn a_kubelet_that_begins_anew_finds_its_pods_running() {
    repeatable(|seed| {
        let mut bed = Bed::ready(options(2, KubeletKind::Real), seed);
        bed.apply(&web(6, "app:v1", ""));
        bed.until("all are ready", 60, |bed| bed.ready_pods() == 6);
        bed.run(20);
        let running = bed.cluster.nodes()[0].runtime().running();
        bed.cluster.crash_process("kubelet/node-0").expect("it is there");
        bed.run(5);
        assert_eq!(bed.cluster.nodes()[0].runtime().running(), running, "containers run on");
        bed.cluster.restart_process("kubelet/node-0").expect("it is there");
        let calm = bed.until("it renews its lease", 30, |bed| {
            assert_eq!(bed.ready_pods(), 6, "all stay ready");
            last_renewal(bed, "node-0") > SimTime::ZERO + (bed.now().since(SimTime::ZERO).saturating_sub(seconds(1)))
        });
        assert!(calm <= 11.0, "{calm} s");
        bed.run(30);
        let restarts: u32 = bed.pods().iter().map(|pod| pod.status.containers[0].restart_count).sum();
        assert_eq!(restarts, 0, "nothing was restarted");
        bed.apply(&web(8, "app:v1", ""));
        bed.until("new pods come", 10, |bed| bed.ready_pods() == 8);
        assert_eq!(bed.cluster.nodes()[0].runtime().running(), 4);
        bed
    });
}

#[test]
fn what_went_while_its_kubelet_was_down_ends_with_the_least_grace() {
    repeatable(|seed| {
        let stop = StopModel { ignores_term: true, ..StopModel::default() };
        let deaf = ImageModel { stop, ..ImageModel::default() };
        let mut options = options(1, KubeletKind::Real);
        options.images = ImageModels::default().with_default(deaf);
        let mut bed = Bed::ready(options, seed);
        bed.apply(&web(2, "app:v1", ""));
        bed.until("both are ready", 60, |bed| bed.ready_pods() == 2);
        let running = |bed: &Bed| bed.cluster.nodes()[0].runtime().running();
        bed.cluster.crash_process("kubelet/node-0").expect("it is there");
        bed.delete(deployment("default", "web")).expect("it is deleted");
        bed.until("the pods must go", 10, |bed| bed.pods().iter().all(|pod| pod.meta.is_deleting()));
        let pods: Vec<_> = bed.pods().iter().map(|pod| pod.meta.name.clone()).collect();
        for name in pods {
            let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            let key = ObjectKey::new(Kind::Pod, "default", name);
            bed.request(Operation::Delete { key, options }).expect("it is deleted");
        }
        bed.run(5);
        assert_eq!((bed.pods().len(), running(&bed)), (0, 2), "nobody has told the containers");
        bed.cluster.restart_process("kubelet/node-0").expect("it is there");
        let restarted = bed.now();
        while running(&bed) > 0 {
            bed.run_millis(10);
            assert!(bed.since(restarted) < 10.0, "they are never ended");
        }
        // They are found when the kubelet looks after its pods, every other second, and have two seconds from then on.
        let took = bed.since(restarted);
        assert!((3.9..=4.3).contains(&took), "ended after {took} s");
        bed
    });
}

#[test]
fn what_ended_while_its_kubelet_was_down_is_started_again_and_counted() {
    repeatable(|seed| {
        let exit = ExitModel { after: Spread::millis(40_000), codes: vec![1], out_of_memory: false, cpu_bound: false };
        let short = ImageModel { exit: Some(exit), ..ImageModel::default() };
        let mut options = options(1, KubeletKind::Real);
        options.images = ImageModels::default().with_default(short);
        let mut bed = Bed::ready(options, seed);
        bed.apply(&web(1, "app:v1", ""));
        bed.until("it is ready", 60, |bed| bed.ready_pods() == 1);
        bed.run(5);
        bed.cluster.crash_process("kubelet/node-0").expect("it is there");
        bed.run(40);
        assert_eq!((bed.cluster.nodes()[0].runtime().running(), bed.ready_pods()), (0, 1), "nobody has seen it end");
        bed.cluster.restart_process("kubelet/node-0").expect("it is there");
        bed.until("it is counted", 15, |bed| bed.pods()[0].status.containers[0].restart_count == 1);
        bed.until("it is ready again", 15, |bed| bed.ready_pods() == 1);
        assert_eq!(bed.cluster.nodes()[0].runtime().running(), 1);
        bed
    });
}
