//! Stories of the scheduler as a process.

use std::rc::Rc;

use serde_json::json;

use super::cluster::Cluster;
use super::configuration::Configuration;
use super::framework::{Code, NodeFilter, Permit, Placement, Plugin, Point, PreFilter, Status};
use super::node_info::NodeInfo;
use super::profile::{Profile, Row};
use super::queue::Place;
use super::registry::Registry;
use super::testing::{Run, changed, node, node_from, pod, pod_from, replica};
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::Operation;
use crate::apiserver::status::{Reason, Status as Failure};
use crate::engine::time::SimDuration;

fn writes_about(run: &Run, what: &str) -> Vec<String> {
    run.writes().into_iter().filter(|line| line.contains(what)).collect()
}

#[test]
fn plain_pods_are_bound_and_spread_over_the_nodes() {
    let first = pod("web-0", "1");
    let mut objects = vec![node("a", "4"), node("b", "4"), first.clone()];
    objects.extend((1..4).map(|number| replica(&first, &format!("web-{number}"))));
    let mut run = Run::start(objects);
    run.until_millis(100);
    let mut nodes: Vec<String> = (0..4).map(|number| run.node_of(&format!("web-{number}"))).collect();
    nodes.sort();
    assert_eq!(nodes, ["a", "a", "b", "b"]);
    assert_eq!(run.scheduler.backlog(), 0);
}

#[test]
fn one_cycle_follows_the_other_while_bindings_are_under_way() {
    let first = pod("web-0", "100m");
    let objects = vec![node("a", "4"), first.clone(), replica(&first, "web-1"), replica(&first, "web-2")];
    let mut run = Run::start(objects);
    run.until_millis(100);
    // The lists arrive after 2 ms; a cycle takes 1 ms, a hop 1 ms.
    assert_eq!(writes_about(&run, "bind"), ["4 bind web-0 a", "5 bind web-1 a", "6 bind web-2 a"]);
    let scheduled = writes_about(&run, "event web-0");
    assert_eq!(scheduled, ["6 event web-0 Scheduled: Successfully assigned default/web-0 to a"]);
}

#[test]
fn replicas_that_wait_are_woken_by_what_one_of_them_is_woken_by_and_others_are_not() {
    let wants =
        |disk: &str| json!({ "nodeSelector": { "disk": disk }, "containers": [{ "name": "app", "image": "x" }] });
    let (first, other) = (pod_from("web-0", wants("fast")), pod_from("db", wants("large")));
    let last = replica(&first, "web-2");
    let mut run = Run::start(vec![node("a", "4"), first.clone(), replica(&first, "web-1"), other, last]);
    run.until_millis(50);
    assert_eq!(writes_about(&run, "bind"), [""; 0]);
    run.write(changed(&node("a", "4"), |node| node.meta.labels = node.meta.labels.with("disk", "fast")));
    run.until_millis(3_000);
    let nodes = ["web-0", "web-1", "web-2", "db"].map(|name| run.node_of(name));
    assert_eq!(nodes, ["a", "a", "a", ""]);
    assert_eq!(run.scheduler.queue().attempts_of(run.pod("db").meta.uid), 1);
}

#[test]
fn higher_priority_goes_first() {
    let low = pod("low", "1");
    let spec = json!({ "priority": 1000, "containers": [{ "name": "app", "image": "x" }] });
    let mut run = Run::start(vec![node("a", "4"), low, pod_from("very-high", spec)]);
    run.until_millis(100);
    assert_eq!(writes_about(&run, "bind"), ["4 bind very-high a", "5 bind low a"]);
}

#[test]
fn a_pod_that_fits_nowhere_says_why_once_and_goes_when_there_is_room() {
    let cordoned =
        node_from("c", json!({ "unschedulable": true }), json!({ "allocatable": { "cpu": "9", "pods": "9" } }));
    let big = pod("big", "3");
    let mut run = Run::start(vec![node("a", "4"), cordoned, pod("first", "2")]);
    run.until_millis(50);
    run.write(big);
    run.until_millis(100);
    let reason = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. no new claims to deallocate, \
                  preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
                  1 Preemption is not helpful for scheduling.";
    let said = writes_about(&run, "big");
    assert_eq!(said, [format!("53 event big FailedScheduling: {reason}"), format!("53 patch big {reason}")]);
    assert_eq!(run.scheduler.queue().place_of(run.pod("big").meta.uid), Some(Place::Unschedulable));
    // A change that no plugin which rejected it cares about does not wake it.
    run.write(changed(&node("a", "4"), |node| node.meta.annotations = node.meta.annotations.with("note", "x")));
    run.until_millis(900);
    assert_eq!(writes_about(&run, "big").len(), 2);
    // Its back-off has not ended when the room is there; the queue is empty, so it does not wait for that.
    run.delete(Kind::Pod, "first");
    run.until_millis(2_000);
    assert_eq!(run.node_of("big"), "a");
}

#[test]
fn five_minutes_later_an_unschedulable_pod_is_tried_again() {
    let mut run = Run::start(vec![node("a", "1"), pod("big", "3")]);
    run.until_millis(299_000);
    assert_eq!(run.scheduler.queue().place_of(run.pod("big").meta.uid), Some(Place::Unschedulable));
    run.write(node("b", "1"));
    run.until_millis(329_999);
    assert_eq!(writes_about(&run, "patch").len(), 1, "another small node does not help");
    run.until_millis(331_000);
    assert_eq!(writes_about(&run, "patch").len(), 2, "tried at the next look after five minutes: {:?}", run.writes());
}

#[test]
fn what_happens_during_a_cycle_is_not_missed() {
    let mut run =
        Run::with(vec![node("a", "1"), pod("big", "3")], |config| config.cycle = SimDuration::from_millis(50));
    run.until_millis(10);
    run.write(node("b", "4"));
    run.until_millis(500);
    assert_eq!(run.node_of("big"), "b", "the node came while the pod was in flight");
}

#[test]
fn without_nodes_a_pod_is_an_error_that_is_tried_again_with_back_off() {
    let mut run = Run::start(vec![pod("web", "1")]);
    run.until_millis(10_500);
    let writes = run.writes();
    let times: Vec<&str> = writes.iter().filter_map(|line| line.split(' ').next()).collect();
    // Back-offs of 1, 2 and 4 s are over with the second after the one in which they end. The second event is new, because the pod
    // has another version since its condition was written; the third makes it a series; the fourth is only counted.
    assert_eq!(times, ["4", "4", "2002", "5002"], "{writes:?}");
    assert_eq!(writes[1], "4 patch web no nodes available to schedule pods");
    run.write(node("a", "4"));
    run.until_millis(30_000);
    assert_eq!(run.node_of("web"), "a");
}

#[test]
fn a_refused_binding_frees_the_room_and_the_pod_is_tried_again() {
    let mut run = Run::start(vec![node("a", "4"), pod("web", "3")]);
    let mut times = 0;
    run.server.refusals.push(Box::new(move |operation| {
        let is_bind = matches!(operation, Operation::Bind { .. });
        times += u32::from(is_bind);
        (is_bind && times == 1).then(|| Failure::new(Reason::InternalError, "etcdserver: request timed out"))
    }));
    run.until_millis(900);
    let text = "running Bind plugin \"DefaultBinder\": etcdserver: request timed out";
    assert_eq!(writes_about(&run, "patch"), [format!("6 patch web {text}")]);
    assert!(!run.scheduler.cluster().is_assumed(run.pod("web").meta.uid));
    run.until_millis(3_000);
    assert_eq!(writes_about(&run, "bind"), ["4 bind web a", "2002 bind web a"], "errors wait for their back-off");
    assert_eq!(run.node_of("web"), "a");
}

#[test]
fn a_gated_pod_waits_for_its_gates_and_costs_nothing() {
    let gates = json!({ "schedulingGates": [{ "name": "x" }], "containers": [{ "name": "app", "image": "x" }] });
    let gated = pod_from("gated", gates);
    let mut run = Run::start(vec![node("a", "4"), gated.clone()]);
    run.until_millis(600_000);
    assert_eq!(run.writes().len(), 0);
    assert_eq!(run.scheduler.queue().place_of(run.pod("gated").meta.uid), Some(Place::Gated));
    run.write(pod_from("gated", json!({ "containers": [{ "name": "app", "image": "x" }] })));
    run.until_millis(600_100);
    assert_eq!(run.node_of("gated"), "a");
}

#[test]
fn pods_of_other_schedulers_and_pods_that_are_being_deleted_are_left_alone() {
    let other = pod_from("other", json!({ "schedulerName": "mine", "containers": [{ "name": "app", "image": "x" }] }));
    let mut run = Run::start(vec![node("a", "4"), other, pod("web", "1")]);
    run.until_millis(100);
    assert_eq!(run.node_of("other"), "");
    let mut going = pod("going", "1");
    going.meta_mut().deletion = Some(Box::new(crate::api::meta::Deletion {
        timestamp: crate::api::meta::Timestamp(0),
        grace_seconds: Some(0),
    }));
    run.write(going);
    run.until_millis(200);
    assert_eq!(writes_about(&run, "going").len(), 1, "{:?}", run.writes());
    assert!(writes_about(&run, "going")[0].ends_with("FailedScheduling: skip schedule deleting pod: default/going"));
}

#[test]
fn a_scheduler_that_begins_anew_binds_what_is_left_and_counts_what_is_there() {
    let first = pod("web-0", "2");
    let mut bound = replica(&first, "web-1");
    if let Object::Pod(pod) = &mut bound {
        Rc::make_mut(pod).node = Some(Name::of("a"));
    }
    let mut run = Run::start(vec![node("a", "3"), node("b", "3"), first, bound]);
    run.until_millis(100);
    assert_eq!(run.node_of("web-0"), "b");
}

/// A plugin of one's own: waits for a permit, and writes something before it binds.
struct Careful {
    permit: Permit,
}

impl Plugin for Careful {
    fn name(&self) -> &'static str {
        "Careful"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Permit, Point::PreBind]
    }

    fn permit(&self, _placement: &Placement) -> Permit {
        self.permit.clone()
    }

    fn pre_bind(&self, placement: &Placement, _cluster: &Cluster) -> Vec<Operation> {
        vec![Operation::Get { key: Object::Pod(placement.pod.clone()).key() }]
    }
}

fn careful(permit: Permit) -> Profile {
    let mut rows = Profile::standard_rows();
    rows.push(Row { plugin: Box::new(Careful { permit }), weight: 0 });
    Profile::new(Name::of("default-scheduler"), rows)
}

#[test]
fn pre_bind_comes_before_bind() {
    let mut run = Run::with_profile(vec![node("a", "4"), pod("web", "1")], careful(Permit::Allow));
    run.until_millis(100);
    let verbs: Vec<(u64, &str)> =
        run.server.requests.iter().map(|(at, request)| (at.as_millis(), request.operation.verb())).collect();
    assert!(verbs.contains(&(4, "get")) && verbs.contains(&(6, "create")), "{verbs:?}");
    assert_eq!(run.node_of("web"), "a");
}

#[test]
fn who_waits_for_a_permit_holds_its_room_until_the_time_is_up() {
    let permit = Permit::Wait(SimDuration::from_secs(2));
    let mut run = Run::with_profile(vec![node("a", "4"), pod("web", "3")], careful(permit));
    run.until_millis(1_000);
    assert!(run.scheduler.cluster().is_assumed(run.pod("web").meta.uid));
    run.until_millis(2_500);
    let text = "0/1 nodes are available: 1 rejected due to timeout after waiting 2s at plugin Careful.";
    // While it waits, others may know where it is to go (NominatedNodeNameForExpectation).
    let announced = "4 patch web  [nominated: a]".to_owned();
    assert_eq!(writes_about(&run, "patch"), [announced, format!("2004 patch web {text} [nominated: ]")]);
    assert!(!run.scheduler.cluster().is_assumed(run.pod("web").meta.uid));
}

#[test]
fn a_plugin_can_turn_a_node_down_at_the_last_moment() {
    let no = Status { code: Code::Unschedulable, reasons: vec![Name::of("not today")] };
    let mut run = Run::with_profile(vec![node("a", "4"), pod("web", "3")], careful(Permit::Reject(no)));
    run.until_millis(500);
    assert_eq!(writes_about(&run, "patch"), ["4 patch web 0/1 nodes are available: 1 not today."]);
    assert_eq!(writes_about(&run, "bind"), [""; 0]);
}

#[test]
fn one_process_serves_several_scheduler_names_each_with_its_own_plugins() {
    let text = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 100}]}}
";
    let configuration = Configuration::read("scheduler.yml", text, &Registry::in_tree());
    let configuration = configuration.unwrap_or_else(|problems| panic!("{problems:?}"));
    let resources = json!({ "requests": { "cpu": "1" } });
    let of = |name: &str, scheduler: &str| {
        let containers = json!([{ "name": "app", "image": "x", "resources": resources }]);
        pod_from(name, json!({ "schedulerName": scheduler, "containers": containers }))
    };
    let mut there = pod("there", "1");
    if let Object::Pod(pod) = &mut there {
        Rc::make_mut(pod).node = Some(Name::of("a"));
    }
    let objects =
        vec![node("a", "8"), node("b", "8"), there, of("x", "default-scheduler"), of("y", "packing"), of("z", "other")];
    let mut run = Run::with(objects, |config| config.configuration = Rc::new(configuration));
    run.until_millis(500);
    assert_eq!((run.node_of("x").as_str(), run.node_of("y").as_str(), run.node_of("z").as_str()), ("b", "a", ""));
    let controllers: Vec<String> = run
        .server
        .requests
        .iter()
        .filter_map(|(_, request)| match &request.operation {
            Operation::Create { object: Object::Event(event), .. } => {
                Some(format!("{} {}", event.involved.name, event.class.reporter.component))
            }
            _ => None,
        })
        .collect();
    assert_eq!(controllers, ["x default-scheduler", "y packing"]);
}

#[test]
fn back_offs_are_as_long_as_the_configuration_says() {
    let text = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
podInitialBackoffSeconds: 3
podMaxBackoffSeconds: 5
";
    let configuration = Configuration::read("scheduler.yml", text, &Registry::in_tree());
    let configuration = Rc::new(configuration.unwrap_or_else(|problems| panic!("{problems:?}")));
    let mut run = Run::with(vec![pod("web", "1")], |config| config.configuration = configuration);
    run.until_millis(20_000);
    let attempts = run.scheduler.queue().place_of(run.pod("web").meta.uid);
    assert_eq!(attempts, Some(Place::ErrorBackOff));
    let times: Vec<u64> = run.server.requests.iter().map(|(at, _)| at.as_millis()).filter(|at| *at > 100).collect();
    // Three seconds after the first attempt, then five; the second after the one in which a back-off ends.
    assert_eq!(times.first(), Some(&4_002), "{times:?}");
}

#[test]
fn a_pod_that_is_deleted_while_it_waits_for_a_permit_gives_its_room_back_at_once() {
    let permit = Permit::Wait(SimDuration::from_secs(600));
    let mut run = Run::with_profile(vec![node("a", "4"), pod("web", "3")], careful(permit));
    run.until_millis(1_000);
    let mut going = run.pod("web");
    Rc::make_mut(&mut going).meta.deletion = Some(Box::new(crate::api::meta::Deletion {
        timestamp: crate::api::meta::Timestamp(0),
        grace_seconds: Some(0),
    }));
    run.write(Object::Pod(going));
    run.until_millis(1_100);
    assert!(!run.scheduler.cluster().is_assumed(run.pod("web").meta.uid));
    let said = writes_about(&run, "event web FailedScheduling: 0/1 nodes are available: 1 removed.");
    assert_eq!(said.len(), 1, "{:?}", run.writes());
}

#[test]
fn a_nomination_that_is_gone_wakes_only_pods_that_had_to_yield_to_it() {
    let spec = |priority: i32| {
        let resources = json!({ "requests": { "cpu": "3" } });
        json!({ "priority": priority, "preemptionPolicy": "Never",
                "containers": [{ "name": "app", "image": "x", "resources": resources }] })
    };
    let mut nominated = pod_from("nominated", spec(50));
    if let Object::Pod(pod) = &mut nominated {
        Rc::make_mut(pod).status.nominated_node = Some(Box::new(Name::of("b")));
    }
    let mut run = Run::start(vec![node("a", "1"), nominated, pod_from("low", spec(10)), pod_from("high", spec(90))]);
    run.until_millis(100);
    run.delete(Kind::Pod, "nominated");
    run.until_millis(2_500);
    let tries = |name: &str| {
        let place = run.scheduler.queue().place_of(run.pod(name).meta.uid);
        (run.scheduler.queue().attempts_of(run.pod(name).meta.uid), place)
    };
    assert_eq!(tries("low"), (2, Some(Place::Unschedulable)));
    assert_eq!(tries("high"), (1, Some(Place::Unschedulable)));
}

#[test]
fn a_pod_for_one_node_goes_there_whatever_others_are_better_and_says_why_if_it_cannot() {
    let pinned = |name: &str, node: &str, cpu: &str| {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
        let affinity =
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        let container = json!({"name": "app", "image": "app", "resources": {"requests": {"cpu": cpu}}});
        pod_from(name, json!({"containers": [container], "affinity": affinity}))
    };
    let nodes = (0..3).map(|place| node(&format!("node-{place}"), "1"));
    let mut objects: Vec<Object> = nodes.collect();
    objects.extend([
        pinned("a", "node-1", "400m"),
        pinned("b", "node-1", "400m"),
        pinned("c", "node-1", "400m"),
        pinned("d", "node-2", "400m"),
    ]);
    let mut run = Run::start(objects);
    run.until_millis(3000);
    assert_eq!(["a", "b", "d"].map(|name| run.node_of(name)), ["node-1", "node-1", "node-2"]);
    let pod = run.pod("c");
    let told = pod.status.conditions.iter().find_map(|condition| condition.why.message()).unwrap_or_default();
    let expected = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    assert!(told.starts_with(expected), "{told}");
}

/// Fails on a node.
struct Broken;

struct Breaks;

impl Plugin for Broken {
    fn name(&self) -> &'static str {
        "Broken"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn pre_filter(&self, _pod: &Pod, _cluster: &Cluster) -> PreFilter {
        PreFilter::all(Breaks)
    }
}

impl NodeFilter for Breaks {
    fn filter(&self, node: &NodeInfo) -> Status {
        if node.name == "b" { Status::error(Name::of("lost")) } else { Status::SUCCESS }
    }
}

#[test]
fn a_filter_that_fails_on_one_node_ends_the_cycle_with_its_error() {
    let mut rows = Profile::standard_rows();
    rows.push(Row { plugin: Box::new(Broken), weight: 0 });
    let profile = Profile::new(Name::of("default-scheduler"), rows);
    let mut run = Run::with_profile(vec![node("a", "4"), node("b", "4"), pod("web", "1")], profile);
    run.until_millis(100);
    let why = "running \"Broken\" filter plugin: lost";
    assert_eq!(
        writes_about(&run, "web"),
        [format!("4 event web FailedScheduling: {why}"), format!("4 patch web {why}")]
    );
    assert_eq!(run.scheduler.queue().place_of(run.pod("web").meta.uid), Some(Place::ErrorBackOff));
    // Where an earlier plugin rejects the node, nobody is asked further.
    run.write(changed(&node("b", "4"), |node| node.unschedulable = true));
    run.until_millis(3_000);
    assert_eq!(run.node_of("web"), "a");
}

#[test]
fn a_filter_whose_pre_filter_is_off_fails() {
    let text = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- plugins:
    preFilter: {disabled: [{name: NodePorts}, {name: NodeAffinity}]}
";
    let configuration = Configuration::read("scheduler.yml", text, &Registry::in_tree());
    let configuration = Rc::new(configuration.unwrap_or_else(|problems| panic!("{problems:?}")));
    let objects = vec![node("a", "4"), pod("web", "1")];
    let mut run = Run::with(objects, |config| config.configuration = configuration);
    run.until_millis(100);
    let why = "running \"NodePorts\" filter plugin: reading \"PreFilterNodePorts\" from cycleState: not found";
    assert_eq!(writes_about(&run, "event web"), [format!("4 event web FailedScheduling: {why}")]);
}
