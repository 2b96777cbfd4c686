//! Renewals of node leases that are worked out when somebody asks for them, held against such as all travel.

use std::collections::BTreeMap;

use kubesim::api::kind::Kind;
use kubesim::api::node::{Lease, Node};
use kubesim::api::object::Object;
use kubesim::api::pod::ConditionStatus;
use kubesim::apiserver::protocol::{Answer, Operation};
use kubesim::cluster::options::{ClusterOptions, KubeletKind, LeaseRenewals};
use kubesim::engine::network::Directions;
use kubesim::engine::time::SimTime;

use crate::nodes::ready_condition;
use crate::support::{Bed, options, seconds};
use crate::web;

/// What there is to see of a cluster whose node fails after a long calm.
struct Course {
    /// Seconds from each disturbance to what comes of it.
    times: Vec<(&'static str, f64)>,
    /// How often what was done to pods, ReplicaSets and nodes, and how often each Kubernetes event was written: before etcd was
    /// without a quorum for two minutes, and in all.
    counts: [BTreeMap<String, usize>; 2],
    /// Pods by node at the end, and what each node says of itself.
    end: Vec<(String, usize, ConditionStatus)>,
    lease_writes: usize,
    /// Writes of leases and events of the simulation before the first fault.
    calm: (usize, u64),
}

/// A rollout, a long calm, a machine that fails and comes back, another calm, a kubelet that falls silent and speaks again, a
/// node that is cut off from the API server, etcd without a quorum, an API server and a controller manager that begin anew.
fn course(lease_renewals: LeaseRenewals) -> Course {
    let at = |length| SimTime::ZERO + seconds(length);
    let mut bed = Bed::ready(ClusterOptions { lease_renewals, ..options(6, KubeletKind::Real) }, 3);
    let mut times = Vec::new();
    bed.apply(&web(12, "app:v1", ""));
    times.push(("ready", bed.until("all are ready", 60, |bed| bed.ready_pods() == 12)));
    bed.run_to(at(200));
    bed.set_image("web", "app", "app:v2");
    times.push(("rolled", bed.until("it is rolled out", 120, |bed| bed.is_rolled_out("web"))));
    bed.run_to(at(400));
    let age = lease_age(&mut bed, "node-2");
    assert!((0.0..=10.5).contains(&age), "the API shows a renewal {age} s old");
    let lease_writes = |bed: &Bed| bed.writes.iter().filter(|write| write.key.kind == Kind::Lease).count();
    let calm = (lease_writes(&bed), bed.cluster.events());

    bed.cluster.crash_machine("node-1").expect("it is there");
    let is = |status| move |bed: &Bed| ready_condition(bed, "node-1") == status;
    times.push(("unknown", bed.until("the node is Unknown", 60, is(ConditionStatus::Unknown))));
    times.push(("replaced", bed.until("its pods are replaced", 330, |bed| bed.ready_pods() == 12)));
    bed.cluster.restart_machine("node-1").expect("it is there");
    times.push(("back", bed.until("the node is back", 30, is(ConditionStatus::True))));
    bed.run_to(at(1000));

    let is = |status| move |bed: &Bed| ready_condition(bed, "node-4") == status;
    bed.cluster.stop_heartbeats("node-4").expect("it is there");
    times.push(("silent", bed.until("the node is Unknown", 60, is(ConditionStatus::Unknown))));
    bed.cluster.resume_heartbeats("node-4").expect("it is there");
    times.push(("speaks", bed.until("the node is heard again", 30, is(ConditionStatus::True))));
    bed.run_to(at(1200));

    let is = |status| move |bed: &Bed| ready_condition(bed, "node-3") == status;
    let (node, server) = (["node-3".to_owned()], ["control-plane-0".to_owned()]);
    let partition = bed.cluster.partition(&node, &server, Directions::Both).expect("they are there");
    times.push(("cut off", bed.until("the node is Unknown", 120, is(ConditionStatus::Unknown))));
    bed.run(30);
    bed.cluster.heal(partition);
    times.push(("heard again", bed.until("the node is back", 60, is(ConditionStatus::True))));
    bed.run_to(at(1500));

    let mut counted = BTreeMap::new();
    for (length, end, patience) in [(30, 1700, 60), (120, 2100, 200)] {
        counted = counts(&bed);
        for member in ["etcd-0", "etcd-1"] {
            bed.cluster.crash_machine(member).expect("it is there");
        }
        bed.run(length);
        for member in ["etcd-0", "etcd-1"] {
            bed.cluster.restart_machine(member).expect("it is there");
        }
        bed.run(60);
        bed.until("all nodes are well", patience, |bed| bed.all::<Node>().iter().all(|node| node.is_ready()));
        bed.run_to(at(end));
    }

    for process in ["kube-apiserver-0", "kube-controller-manager"] {
        bed.cluster.crash_process(process).expect("it is there");
        bed.run(35);
        bed.cluster.restart_process(process).expect("it is there");
        bed.run(100);
        let age = lease_age(&mut bed, "node-5");
        assert!((0.0..=10.5).contains(&age), "after {process}, the API shows a renewal {age} s old");
    }
    Course {
        times,
        counts: [counted, counts(&bed)],
        end: (0..6).map(|place| seen_of(&bed, &format!("node-{place}"))).collect(),
        lease_writes: lease_writes(&bed),
        calm,
    }
}

/// How old the last renewal of a node's lease is, as the API shows it.
fn lease_age(bed: &mut Bed, node: &str) -> f64 {
    let key = kubesim::api::meta::ObjectKey::new(Kind::Lease, "kube-node-lease", node);
    let Ok(Answer::Object(object)) = bed.request(Operation::Get { key }) else { panic!("the lease is there") };
    let renewed = object.get::<Lease>().and_then(|lease| lease.renew_time).expect("it was renewed");
    (bed.cluster.epoch().micro_time(bed.now()).0 - renewed.0) as f64 / 1e6
}

fn seen_of(bed: &Bed, node: &str) -> (String, usize, ConditionStatus) {
    let pods = bed.pods().iter().filter(|pod| pod.node.as_deref() == Some(node)).count();
    (node.to_owned(), pods, ready_condition(bed, node))
}

fn counts(bed: &Bed) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for write in &bed.writes {
        let what = match (write.key.kind, &write.new) {
            // In how many steps a Deployment is scaled depends on which pods become ready in the same moment.
            (Kind::Event, Some(Object::Event(event))) if event.class.reason == "ScalingReplicaSet" => continue,
            (Kind::Event, Some(Object::Event(event))) => {
                format!("Event {} {}", event.class.involved_kind, event.class.reason)
            }
            (Kind::Pod | Kind::ReplicaSet | Kind::Deployment, _) if write.verb != "patch" && write.verb != "update" => {
                format!("{:?} {}", write.key.kind, write.verb)
            }
            _ => continue,
        };
        *counts.entry(what).or_default() += 1;
    }
    counts
}

#[test]
fn renewals_that_are_worked_out_when_asked_for_lead_to_what_renewals_lead_to_that_all_travel() {
    let (each, asked) = (course(LeaseRenewals::Each), course(LeaseRenewals::WhenAsked));
    for ((what, left), (_, right)) in each.times.iter().zip(&asked.times) {
        // A kubelet looks at its containers once a second: a moment later may be a look later.
        assert!((left - right).abs() < 1.0, "{what} after {left} s with each, {right} s when asked");
    }
    assert_eq!(each.counts[0], asked.counts[0]);
    assert_eq!(each.counts[1].keys().collect::<Vec<_>>(), asked.counts[1].keys().collect::<Vec<_>>());
    // After half a minute without a leader of etcd the API server ends all watches. Each informer of the controller manager
    // finds its way back after a wait that is drawn, of up to a minute, and is the longer the longer the outage was. While the
    // nodes are shown again and their leases are not, every pass of the monitor calls each node lost that has said the contrary.
    // So how often is chance, with any kind of renewals; that it happens to all six nodes and their twelve pods is not.
    for (what, times) in &each.counts[1] {
        let (before, other) = (each.counts[0].get(what).unwrap_or(&0), asked.counts[1][what]);
        match what.as_str() {
            "Event Node NodeNotReady" => {
                assert!((*times).min(other) >= before + 6, "{what}: {before}, {times}, {other}")
            }
            "Event Pod NodeNotReady" => {
                assert!((*times).min(other) >= before + 12, "{what}: {before}, {times}, {other}")
            }
            // A node whose turn it was when the monitor saw that none is ready keeps its taint until it is.
            "Event Pod TaintManagerEviction" => assert!((*times).min(other) >= *before),
            // Kubelets contradict, condition by condition, what was said of their nodes, and which nodes that were differs.
            what if what == "Event Node NodeReady" || what.starts_with("Event Node NodeHas") => {
                assert!((*times).min(other) >= *before, "{what}: {before}, {times}, {other}");
            }
            what => assert_eq!(*times, other, "{what}"),
        }
    }
    assert_eq!(each.end, asked.end);
    assert!(asked.lease_writes * 2 < each.lease_writes, "{} of {} travelled", asked.lease_writes, each.lease_writes);
    // Before the first fault, for what an outage costs depends on what is under way when it begins.
    let (renewals, events) = (each.calm.0 - asked.calm.0, each.calm.1 - asked.calm.1);
    assert!(events >= 15 * renewals as u64, "{renewals} renewals that did not travel saved {events} events");
}
