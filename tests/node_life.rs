//! Properties of the life of nodes under generated faults: runs settle, what settles is what is wanted, and no node that returns
//! runs a pod of which the API does not know.

mod support;

use kubesim::api::node::Node;
use kubesim::apiserver::protocol::{DeleteOptions, Operation};
use kubesim::cluster::options::KubeletKind;
use kubesim::engine::network::{Directions, PartitionId};
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::kubelet::clock;
use proptest::prelude::*;
use support::{Bed, options, seconds};

const NODES: usize = 4;

/// A fault of a node that heals.
#[derive(Clone, Copy, Debug)]
enum Fault {
    PowerLoss,
    Reboot,
    KubeletCrash,
    Hang,
    Partition,
    WrongClock(i64),
    /// Its first pod is deleted without asking the kubelet.
    ForcedDeletion,
    /// Its Node object is deleted; the kubelet begins anew when that heals.
    NodeDeleted,
}

/// A fault of a node, when it comes and how long it lasts, in seconds.
#[derive(Clone, Copy, Debug)]
struct Planned {
    fault: Fault,
    node: usize,
    at: u64,
    lasts: u64,
}

fn faults() -> impl Strategy<Value = Vec<Planned>> {
    let fault = prop_oneof![
        Just(Fault::PowerLoss),
        Just(Fault::Reboot),
        Just(Fault::KubeletCrash),
        Just(Fault::Hang),
        Just(Fault::Partition),
        (-300i64..300).prop_map(Fault::WrongClock),
        Just(Fault::ForcedDeletion),
        Just(Fault::NodeDeleted),
    ];
    let planned = (fault, 0..NODES, 0u64..300, 1u64..450);
    prop::collection::vec(planned.prop_map(|(fault, node, at, lasts)| Planned { fault, node, at, lasts }), 0..6)
}

fn manifest(replicas: u32) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - {{name: app, image: \"app:v1\", resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}}}
"
    )
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// The faults that are under way.
#[derive(Default)]
struct UnderWay {
    partitions: Vec<(usize, PartitionId)>,
}

impl UnderWay {
    fn begin(&mut self, planned: &Planned, bed: &mut Bed) {
        let (node, cluster) = (name(planned.node), &mut bed.cluster);
        let done = match planned.fault {
            Fault::PowerLoss => cluster.crash_machine(&node),
            Fault::Reboot => cluster.reboot(&node, seconds(planned.lasts.min(60))),
            Fault::KubeletCrash => cluster.crash_process(&format!("kubelet/{node}")),
            Fault::Hang => cluster.hang_kubelet(&node),
            Fault::Partition => {
                let others: Vec<String> = vec!["control-plane-0".to_owned()];
                let id = cluster.partition(&[node], &others, Directions::Both);
                id.map(|id| self.partitions.push((planned.node, id)))
            }
            Fault::WrongClock(ahead) => {
                let fault = clock::Fault { ahead_ns: ahead * 1_000_000_000, ..clock::Fault::default() };
                cluster.set_clock(&node, fault)
            }
            Fault::ForcedDeletion => {
                let victim = bed.pods().into_iter().find(|pod| pod.node.as_deref() == Some(&node)).cloned();
                if let Some(pod) = victim {
                    let key = kubesim::api::object::Object::Pod(pod).key();
                    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
                    bed.send(Operation::Delete { key, options });
                }
                Ok(())
            }
            Fault::NodeDeleted => {
                let key = kubesim::api::meta::ObjectKey::new(kubesim::api::kind::Kind::Node, "", node.as_str());
                bed.send(Operation::Delete { key, options: DeleteOptions::default() });
                Ok(())
            }
        };
        done.expect("the node is one of the cluster's");
    }

    fn end(&mut self, planned: &Planned, bed: &mut Bed) {
        let (node, cluster) = (name(planned.node), &mut bed.cluster);
        let kubelet = format!("kubelet/{node}");
        let done = match planned.fault {
            Fault::PowerLoss | Fault::Reboot => cluster.restart_machine(&node),
            Fault::KubeletCrash => cluster.restart_process(&kubelet),
            Fault::NodeDeleted => cluster.crash_process(&kubelet).and_then(|()| cluster.restart_process(&kubelet)),
            Fault::Hang => cluster.resume_kubelet(&node),
            Fault::Partition => {
                if let Some(place) = self.partitions.iter().position(|(of, _)| *of == planned.node) {
                    cluster.heal(self.partitions.remove(place).1);
                }
                Ok(())
            }
            Fault::WrongClock(_) => cluster.set_clock(&node, clock::Fault::default()),
            Fault::ForcedDeletion => Ok(()),
        };
        done.expect("the node is one of the cluster's");
    }

    /// Whatever is still broken is mended.
    fn end_all(&mut self, bed: &mut Bed) {
        for (_, id) in self.partitions.drain(..) {
            bed.cluster.heal(id);
        }
        for node in (0..NODES).map(name) {
            bed.cluster.restart_machine(&node).expect("a machine");
            bed.cluster.resume_kubelet(&node).expect("a node");
            bed.cluster.restart_process(&format!("kubelet/{node}")).expect("a process");
        }
    }
}

/// Lets faults happen and end.
fn suffer(bed: &mut Bed, plan: &[Planned]) {
    let start = bed.now();
    let moment = |second: u64| start + seconds(second);
    let mut moments: Vec<(SimTime, usize, bool)> = Vec::new();
    for (place, planned) in plan.iter().enumerate() {
        moments.push((moment(planned.at), place, true));
        moments.push((moment(planned.at + planned.lasts), place, false));
    }
    moments.sort();
    let mut under_way = UnderWay::default();
    for (at, place, begins) in moments {
        bed.run_to(at);
        if begins { under_way.begin(&plan[place], bed) } else { under_way.end(&plan[place], bed) }
    }
    under_way.end_all(bed);
}

fn is_settled(bed: &Bed, replicas: usize) -> bool {
    let nodes = bed.all::<Node>();
    nodes.len() == NODES
        && nodes.iter().all(|node| node.is_ready() && node.taints.is_empty())
        && bed.pods().len() == replicas
        && bed.ready_pods() == replicas
        && bed.is_rolled_out("web")
}

/// No node runs anything but the pods that the API has on it, and all of those.
fn assert_known(bed: &Bed) {
    for node in bed.cluster.nodes() {
        let here: Vec<_> = bed.pods().into_iter().filter(|pod| pod.node.as_ref() == Some(node.name())).collect();
        for pod in &here {
            assert!(node.runs(pod.meta.uid), "{} runs {}\n{}", node.name(), pod.meta.name, bed.state());
        }
        let running = node.runtime().running();
        assert_eq!(running, here.len(), "containers on {}\n{}", node.name(), bed.state());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn with_faults_that_heal_what_settles_is_what_is_wanted_and_no_node_runs_what_the_api_does_not_know(
        plan in faults(), seed in 0u64..1000, replicas in 1u32..12,
    ) {
        let mut bed = Bed::ready(options(NODES, KubeletKind::Real), seed);
        bed.apply(&manifest(replicas));
        suffer(&mut bed, &plan);
        // Renewals by a clock that was ahead and is right again are older than those before: the node is called lost 50 s later, until
        // its next status.
        bed.run(75);
        // A node that was lost at the end is only now found to be; its pods have five minutes more, and evicted ones half a minute.
        bed.until("everything is as it should be", 900, |bed| is_settled(bed, replicas as usize));
        // What is left of pods that nobody knows is ended by housekeeping, within its grace.
        bed.run(60);
        assert!(is_settled(&bed, replicas as usize), "{}", bed.state());
        assert_known(&bed);
    }
}

/// A node that is cut off for long and whose pods are gone meanwhile ends them when it is back.
#[test]
fn a_node_that_returns_ends_pods_that_were_taken_from_it() {
    let mut bed = Bed::ready(options(NODES, KubeletKind::Real), 7);
    bed.apply(&manifest(8));
    bed.until("eight are available", 60, |bed| bed.is_rolled_out("web"));
    let victim = bed.pods()[0].node.clone().expect("it runs somewhere");
    let victims: Vec<_> =
        bed.pods().iter().filter(|pod| pod.node.as_ref() == Some(&victim)).map(|p| p.meta.uid).collect();
    let others = ["control-plane-0".to_owned()];
    let cut = bed.cluster.partition(&[victim.to_string()], &others, Directions::Both).expect("a node");
    let key = kubesim::api::meta::ObjectKey::new(kubesim::api::kind::Kind::Node, "", victim.as_str());
    bed.send(Operation::Delete { key, options: DeleteOptions::default() });
    let gone = bed.until("the garbage collector takes them", 120, |bed| {
        bed.pods().iter().all(|pod| pod.node.as_ref() != Some(&victim)) && bed.ready_pods() == 8
    });
    assert!((40.0..=65.0).contains(&gone), "20 s and a quarantine of 40 s, not {gone} s");
    let machine = |bed: &Bed| bed.cluster.nodes().iter().position(|node| *node.name() == victim).expect("there");
    let place = machine(&bed);
    assert!(victims.iter().all(|uid| bed.cluster.nodes()[place].runs(*uid)), "out of reach they run on");
    bed.cluster.heal(cut);
    let start = bed.now();
    while victims.iter().any(|uid| bed.cluster.nodes()[place].runs(*uid)) {
        bed.step(start + seconds(90));
        assert!(bed.now() < start + seconds(90), "they end");
    }
    assert!(bed.now().since(start) < SimDuration::from_secs(90));
}
