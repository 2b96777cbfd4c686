//! Stories of a whole cluster, each with a fixed seed: no invariant is broken, and what happens takes as long as in the real thing.

mod support;

use std::collections::BTreeMap;

use kubesim::api::kind::Kind;
use kubesim::api::meta::ObjectKey;
use kubesim::api::node::{Lease, Node, TaintEffect};
use kubesim::api::object::Object;
use kubesim::api::plain::ConfigMap;
use kubesim::api::pod::{ConditionStatus, Pod};
use kubesim::api::workload::ReplicaSet;
use kubesim::apiserver::protocol::{Answer, DeleteOptions, ListRevision, Operation, Scope};
use kubesim::cluster::news::OperatorRequest;
use kubesim::cluster::options::{ClusterOptions, KubeletKind, LeaseRenewals};
use kubesim::engine::distribution::Distribution;
use kubesim::engine::network::Directions;
use kubesim::engine::time::{SimDuration, SimTime};
use kubesim::runtime::model::{ExitModel, ImageModel, ImageModels, PullModel, StopModel};
use kubesim::runtime::size::Size;
use kubesim::runtime::span::Spread;
use support::{Bed, as_seconds, options, refusal, seconds, stand_in_images};

/// A Deployment whose pods need next to nothing.
fn web(replicas: u32, image: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, labels: {{app: web}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  {more}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - {{name: app, image: \"{image}\", resources: {{requests: {{cpu: 100m, memory: 64Mi}}}}}}
"
    )
}

/// Fails if a time is more than 3 percent off the real one.
fn assert_near(what: &str, ours: f64, real: f64) {
    let off = (ours / real - 1.0) * 100.0;
    eprintln!("{what}: {ours:.2} s, the real one took {real:.1} s ({off:+.1} %)");
    assert!(off.abs() <= 3.0, "{what}: {ours:.2} s, the real one took {real:.1} s");
}

/// A strategy under which nine of ten are always there and never more than eleven.
const ONE_BY_ONE: &str = "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}";

/// Tells a story twice with one seed and once with another one: the same happens, and then something else.
fn repeatable(story: fn(u64) -> Bed) {
    let digest = story(7).cluster.digest();
    assert_eq!(digest, story(7).cluster.digest(), "one seed, one story");
    assert_ne!(digest, story(8).cluster.digest(), "another seed, another story");
}

/// A cluster of ten nodes on which ten pods of the first image are available.
fn ten_of_ten(options: ClusterOptions, seed: u64) -> Bed {
    let mut bed = Bed::ready(options, seed);
    bed.apply(&web(10, "app:v1", ONE_BY_ONE));
    bed.until("ten are available", 60, |bed| bed.is_rolled_out("web"));
    bed
}

/// Fails if a rolling update one by one goes beyond its budget. What counts is what the ReplicaSets are told: one may make
/// its new pod before another one has deleted its old pod.
fn assert_in_budget(bed: &Bed) {
    let wanted: i32 = bed.all::<ReplicaSet>().iter().map(|set| set.replicas).sum();
    let ready = bed.ready_pods();
    assert!(wanted <= 11, "{wanted} pods are too many\n{}", bed.state());
    assert!(ready >= 9, "{ready} ready pods are too few\n{}", bed.state());
}

/// Goes on until the update to an image is complete; all the time it is in its budget.
fn until_rolled_out(bed: &mut Bed, within: u64) -> f64 {
    bed.until("the update is complete", within, |bed| {
        assert_in_budget(bed);
        bed.is_rolled_out("web")
    })
}

#[test]
fn a_thousand_pods_come_roll_and_go_as_fast_as_in_the_real_thing() {
    let mut options = options(100, KubeletKind::StandIn);
    options.images = stand_in_images();
    let mut bed = Bed::ready(options, 7);
    let start = bed.now();
    bed.apply(&web(1000, "fake/app:v1", ""));
    bed.until("all pods are ready", 200, |bed| bed.deployment("web").status.ready_replicas == 1000);
    let created = bed.since(start);
    bed.run(20);
    let start = bed.now();
    bed.set_image("web", "app", "fake/app:v2");
    bed.until("all pods are of the new image", 400, |bed| bed.is_rolled_out("web"));
    let rolled = bed.since(start);
    bed.run(20);
    let start = bed.now();
    bed.delete(support::deployment("default", "web")).expect("it is deleted");
    bed.until("all pods are gone", 200, |bed| bed.pods().is_empty());
    let deleted = bed.since(start);
    eprintln!("{created} {rolled} {deleted}, {} events, at {}", bed.cluster.events(), as_seconds(bed.now()));
    assert_near("create to all ready", created, 50.5);
    assert_near("rolling update", rolled, 102.0);
    assert_near("deleting all", deleted, 49.9);
}

#[test]
fn a_deployment_of_ten_becomes_ready_and_rolls_within_its_budget() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        bed.set_image("web", "app", "app:v2");
        let took = until_rolled_out(&mut bed, 60);
        assert!(took > 3.0, "ten pods, two at a time, do not change in {took} s");
        assert_eq!(bed.images(), [("app:v2".to_owned(), 10)].into());
        bed
    });
}

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

fn ready_condition(bed: &Bed, node: &str) -> ConditionStatus {
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

/// ConfigMaps that are created at a steady pace, and what became of each.
struct Writer {
    requests: Vec<(String, Option<OperatorRequest>)>,
    acknowledged: Vec<String>,
    refused: usize,
    next: SimTime,
}

impl Writer {
    fn new(bed: &Bed) -> Self {
        Writer { requests: Vec::new(), acknowledged: Vec::new(), refused: 0, next: bed.now() }
    }

    /// Lets time go by and creates five ConfigMaps a second.
    fn go_on(&mut self, bed: &mut Bed, length: u64, watch: impl Fn(&Bed)) {
        let end = bed.now() + seconds(length);
        while self.next < end {
            while bed.now() < self.next {
                bed.step(self.next);
                watch(bed);
            }
            let name = format!("note-{}", self.requests.len());
            let object = support::config_map(&name);
            let request = bed.send(Operation::Create { object, dry_run: false });
            self.requests.push((name, Some(request)));
            self.next = bed.now() + SimDuration::from_millis(200);
        }
        bed.run_to(end);
        self.collect(bed);
    }

    fn collect(&mut self, bed: &mut Bed) {
        for (name, request) in &mut self.requests {
            match request.and_then(|request| bed.answered(request)) {
                Some(Ok(_)) => self.acknowledged.push(name.clone()),
                Some(Err(_)) => self.refused += 1,
                None => continue,
            }
            *request = None;
        }
    }

    /// Fails unless everything that was acknowledged is there, as a new client sees it.
    fn check(&mut self, bed: &mut Bed) {
        self.collect(bed);
        let scope = Scope { namespace: Some("default".into()), ..Scope::all(Kind::ConfigMap) };
        let list = Operation::List { scope, limit: 0, continue_token: None, at: ListRevision::Latest };
        let Ok(Answer::List { items, .. }) = bed.request(list) else { panic!("the ConfigMaps can be listed") };
        let names: Vec<&str> = items.iter().map(|object| object.meta().name.as_str()).collect();
        let lost: Vec<&String> = self.acknowledged.iter().filter(|name| !names.contains(&name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert_eq!(bed.all::<ConfigMap>().iter().filter(|map| map.meta.namespace == "default").count(), names.len());
    }
}

#[test]
fn a_slow_disk_of_one_etcd_member_costs_nothing_and_slow_ones_of_two_cost_every_write_until_they_are_restored() {
    repeatable(|seed| {
        let mut bed = Bed::ready(options(1, KubeletKind::Real), seed);
        let mut number = 0;
        // Members are asked by turns, and one whose disk is slow is slow to answer: of three writes the fastest tells how long the
        // quorum takes.
        let mut write_takes = |bed: &mut Bed| {
            let three = [(); 3].map(|()| {
                number += 1;
                let (start, object) = (bed.now(), support::config_map(&format!("note-{number}")));
                bed.request(Operation::Create { object, dry_run: false }).expect("it is created");
                bed.since(start)
            });
            three.into_iter().fold(f64::INFINITY, f64::min)
        };
        let slow = || Some(Distribution::Constant(SimDuration::from_millis(100)));
        let first = leader(&bed);
        let followers: Vec<String> =
            (0..3).map(|place| format!("etcd-{place}")).filter(|name| *name != first).collect();

        bed.cluster.set_fsync(&followers[0], slow()).expect("it is there");
        assert!(write_takes(&mut bed) < 0.05, "the leader and the other one are a quorum");
        bed.cluster.set_fsync(&followers[1], slow()).expect("it is there");
        assert!(write_takes(&mut bed) > 0.1, "a quorum needs one of the slow ones");

        bed.cluster.crash_machine(&followers[1]).expect("it is there");
        bed.run(3);
        bed.cluster.restart_machine(&followers[1]).expect("it is there");
        bed.run(10);
        assert!(write_takes(&mut bed) > 0.1, "a disk is no faster for a power loss");
        bed.cluster.crash_process(&followers[0]).expect("it is there");
        bed.run(1);
        assert!(write_takes(&mut bed) > 0.1, "the one that began anew is the quorum's other half");
        bed.cluster.restart_process(&followers[0]).expect("it is there");

        bed.cluster.set_fsync(&followers[1], None).expect("it is there");
        bed.run(10);
        assert!(write_takes(&mut bed) < 0.05, "one slow disk costs nothing again");
        let unknown = bed.cluster.set_fsync("etcd-3", slow()).expect_err("there are three");
        assert_eq!(unknown.to_string(), "there is no etcd member \"etcd-3\" (there are: etcd-0, etcd-1, etcd-2)");
        bed
    });
}

/// The machine of the etcd member that leads.
fn leader(bed: &Bed) -> String {
    let member = bed.leaders.iter().rev().find_map(|(_, member, _)| *member).expect("a leader was elected");
    format!("etcd-{member}")
}

#[test]
fn an_etcd_leader_that_crashes_during_a_rollout_loses_nothing() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        let mut writer = Writer::new(&bed);
        bed.set_image("web", "app", "app:v2");
        writer.go_on(&mut bed, 2, assert_in_budget);
        let (first, before) = (leader(&bed), writer.acknowledged.len());
        assert!(before >= 5, "{before} writes were acknowledged");
        let crashed = bed.now();
        bed.cluster.crash_machine(&first).expect("it is there");
        writer.go_on(&mut bed, 20, assert_in_budget);
        assert_ne!(leader(&bed), first);
        let elected = bed.leaders.iter().find(|(at, member, _)| *at > crashed && member.is_some());
        let vacancy = as_seconds(elected.expect("there is a new leader").0) - as_seconds(crashed);
        assert!((0.7..=2.5).contains(&vacancy), "a new leader after {vacancy} s");
        bed.cluster.restart_machine(&first).expect("it is there");
        writer.go_on(&mut bed, 5, assert_in_budget);
        until_rolled_out(&mut bed, 60);
        assert!(writer.acknowledged.len() > before + 50, "writing went on: {}", writer.acknowledged.len());
        bed.run(61);
        writer.check(&mut bed);
        bed
    });
}

#[test]
fn etcd_does_without_a_minority_and_refuses_writes_without_a_majority() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        // A follower goes first.
        let first = leader(&bed);
        let others: Vec<String> = (0..3).map(|place| format!("etcd-{place}")).filter(|name| *name != first).collect();
        let machines = bed.cluster.topology().machine_names().to_vec();
        let isolate = |bed: &mut Bed, name: &String| {
            let others: Vec<String> = machines.iter().filter(|machine| *machine != name).cloned().collect();
            bed.cluster.partition(std::slice::from_ref(name), &others, Directions::Both).expect("they are there")
        };
        // A follower alone is missed by those who have sent it something: each third write, until the connection that nobody
        // acknowledges anything on is given up.
        let mut writer = Writer::new(&bed);
        let one = isolate(&mut bed, &others[0]);
        writer.go_on(&mut bed, 11, |_| {});
        let (refused, acknowledged) = (writer.refused, writer.acknowledged.len());
        assert!((10..=20).contains(&refused), "{refused} writes were refused");
        assert_eq!(refused + acknowledged, writer.requests.len(), "nothing waits any more");
        writer.go_on(&mut bed, 30, |_| {});
        assert_eq!((writer.refused, writer.acknowledged.len()), (refused, acknowledged + 150));
        assert_eq!(leader(&bed), first, "and does not depose the leader");

        // Two are missed: nothing is written any more, but what runs runs on.
        let two = isolate(&mut bed, &others[1]);
        let start = bed.now();
        let create = |name: &str| Operation::Create { object: support::config_map(name), dry_run: false };
        let lost = ["lost-1", "lost-2", "lost-3", "lost-4"].map(|name| bed.send(create(name)));
        let answers = lost.map(|request| refusal(bed.answer(request)).message);
        let texts =
            ["etcdserver: request timed out", "rpc error: code = Unavailable desc = error reading from server: EOF"];
        assert!(answers.iter().all(|message| texts.contains(&message.as_str())), "{answers:?}");
        assert!(texts.iter().all(|text| answers.iter().any(|message| message == text)), "both are asked: {answers:?}");
        let took = bed.since(start);
        assert!((6.9..=11.0).contains(&took), "refused after {took} s");
        // Half a minute later the caches are given up.
        let at = ListRevision::Any;
        let list = Operation::List { scope: Scope::all(Kind::Pod), limit: 0, continue_token: None, at };
        let Ok(Answer::List { items, .. }) = bed.request(list) else { panic!("a cache can be read") };
        assert_eq!(items.len(), 10);
        bed.run(30);
        let revision = bed.writes.last().map(|write| write.revision);
        let later = refusal(bed.request(create("lost-too")));
        let texts = ["etcdserver: request timed out", "context deadline exceeded"];
        assert!(texts.iter().any(|text| later.message.contains(text)), "{}", later.message);
        bed.run(60);
        assert_eq!(bed.writes.last().map(|write| write.revision), revision, "nothing was written");
        let running: usize = bed.cluster.nodes().iter().map(|node| node.runtime().running()).sum();
        assert_eq!(running, 10, "all containers run");

        // Then all is well again.
        bed.cluster.heal(one);
        bed.cluster.heal(two);
        bed.run(15);
        bed.request(create("found")).expect("writes are taken again");
        bed.set_image("web", "app", "app:v2");
        bed.until("the update is complete", 120, |bed| bed.is_rolled_out("web"));
        bed.until("all nodes are ready", 60, |bed| {
            bed.all::<Node>().iter().all(|node| node.is_ready() && node.taints.is_empty())
        });
        writer.check(&mut bed);
        bed
    });
}

#[test]
fn one_of_two_api_servers_may_crash_during_a_rollout() {
    repeatable(|seed| {
        let two = ClusterOptions { api_servers: 2, ..options(10, KubeletKind::Real) };
        let mut bed = ten_of_ten(two, seed);
        let mut writer = Writer::new(&bed);
        bed.set_image("web", "app", "app:v2");
        writer.go_on(&mut bed, 2, assert_in_budget);
        bed.cluster.crash_process("kube-apiserver-0").expect("it is there");
        writer.go_on(&mut bed, 10, assert_in_budget);
        bed.cluster.restart_process("kube-apiserver-0").expect("it is there");
        until_rolled_out(&mut bed, 60);
        assert_eq!(bed.images(), [("app:v2".to_owned(), 10)].into());
        bed.cluster.crash_process("kube-apiserver-1").expect("it is there");
        writer.go_on(&mut bed, 5, |_| {});
        bed.cluster.restart_process("kube-apiserver-1").expect("it is there");
        bed.set_image("web", "app", "app:v3");
        until_rolled_out(&mut bed, 60);
        assert!(writer.acknowledged.len() > 60, "writing went on: {}", writer.acknowledged.len());
        bed.run(61);
        writer.check(&mut bed);
        bed
    });
}

#[test]
fn the_controller_manager_and_the_scheduler_may_crash_during_a_rollout() {
    repeatable(|seed| {
        let mut bed = ten_of_ten(options(10, KubeletKind::Real), seed);
        bed.set_image("web", "app", "app:v2");
        bed.run(3);
        assert!(!bed.is_rolled_out("web"), "it is on the way");
        for process in ["kube-controller-manager", "kube-scheduler"] {
            bed.cluster.crash_process(process).expect("it is there");
        }
        bed.run(2);
        let frozen = bed.images();
        bed.run(10);
        assert_eq!(bed.images(), frozen, "nothing goes on without them");
        assert!(frozen.len() == 2, "both images are there: {frozen:?}");
        for process in ["kube-controller-manager", "kube-scheduler"] {
            bed.cluster.restart_process(process).expect("it is there");
        }
        until_rolled_out(&mut bed, 60);
        assert_eq!(bed.images(), [("app:v2".to_owned(), 10)].into());
        bed
    });
}

#[test]
fn an_image_that_is_slow_to_pull_slows_the_rollout() {
    repeatable(|seed| {
        let mut options = options(3, KubeletKind::Real);
        for node in &mut options.nodes {
            node.images = vec!["app:v1".to_owned()];
            node.pull_bytes_per_second = 10_000_000;
        }
        let large = ImageModel {
            size: Size(200_000_000),
            pull: PullModel { latency: Spread::millis(500), ..PullModel::default() },
            ..ImageModel::default()
        };
        options.images = ImageModels::new(vec![("app:v2".to_owned(), large)]);
        let mut bed = Bed::ready(options, seed);
        let start = bed.now();
        bed.apply(&web(3, "app:v1", "strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}"));
        bed.until("all are ready", 60, |bed| bed.ready_pods() == 3);
        assert!(bed.since(start) < 3.0, "an image that is there need not be pulled: {} s", bed.since(start));
        bed.set_image("web", "app", "app:v2");
        let rolled = bed.until("the update is complete", 120, |bed| {
            assert!(bed.ready_pods() >= 3, "old pods stay until new ones are ready");
            bed.is_rolled_out("web")
        });
        let pulls: Vec<String> = bed
            .all::<kubesim::api::event::Event>()
            .iter()
            .filter(|event| event.reason == "Pulled" && event.message.contains("Successfully pulled"))
            .map(|event| event.message.to_string())
            .collect();
        assert!((1..=3).contains(&pulls.len()), "each node pulls once: {pulls:?}");
        let least = 20.5 * pulls.len() as f64;
        assert!((least..least + 8.0).contains(&rolled), "{rolled} s for {pulls:?}");
        assert!(pulls.iter().all(|message| message.contains("Image size: 200000000 bytes")), "{pulls:?}");
        bed
    });
}

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
            (Kind::Event, Some(Object::Event(event))) if event.reason == "ScalingReplicaSet" => continue,
            (Kind::Event, Some(Object::Event(event))) => format!("Event {} {}", event.involved.kind, event.reason),
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
        bed.delete(support::deployment("default", "web")).expect("it is deleted");
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

#[test]
fn kubernetes_events_are_gone_after_an_hour() {
    let mut bed = Bed::ready(options(1, KubeletKind::Real), 3);
    bed.apply(&web(1, "app:v1", ""));
    bed.until("it is ready", 60, |bed| bed.ready_pods() == 1);
    let events = |bed: &Bed| bed.cluster.truth().count(Kind::Event);
    assert!(events(&bed) > 4, "only {} events were made", events(&bed));
    bed.run(3600 + 200);
    assert_eq!(events(&bed), 0);
}
