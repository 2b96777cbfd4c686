//! Stories of preemption.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::Operation;
use crate::apiserver::status::{Reason, Status as Failure};
use crate::engine::time::SimDuration;
use crate::scheduler::framework::{Permit, Placement, Plugin, Point};
use crate::scheduler::profile::{Profile, Row};
use crate::scheduler::queue::Place;
use crate::scheduler::testing::{Run, node, object, pod_from, uid};

/// A pod of a priority that requests this much CPU.
fn pod(name: &str, priority: i32, cpu: &str) -> Object {
    let container = json!({ "name": "app", "image": "x", "resources": { "requests": { "cpu": cpu } } });
    pod_from(name, json!({ "priority": priority, "containers": [container] }))
}

/// The same on a node, since a second of the day.
fn running(name: &str, priority: i32, cpu: &str, node: &str, second: u32) -> Object {
    let Object::Pod(mut running) = pod(name, priority, cpu) else { panic!("no pod") };
    let own = Rc::make_mut(&mut running);
    own.node = Some(Name::from(node));
    own.meta.labels = own.meta.labels.with("app", name);
    let status = json!({ "startTime": format!("2026-11-21T00:00:{second:02}Z"), "phase": "Running" });
    let started = object(
        Kind::Pod,
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x", "namespace": "default" },
                "spec": { "containers": [] }, "status": status }),
    );
    if let Object::Pod(started) = started {
        own.status = started.status.clone();
    }
    Object::Pod(running)
}

/// The same as a replica of an app.
fn replica(app: &str, name: &str, priority: i32, cpu: &str, node: &str) -> Object {
    let Object::Pod(mut replica) = running(name, priority, cpu, node, 1) else { panic!("no pod") };
    let own = Rc::make_mut(&mut replica);
    own.meta.labels = own.meta.labels.with("app", app);
    Object::Pod(replica)
}

fn budget(app: &str, allowed: i32) -> Object {
    let meta: Value = json!({ "name": app, "namespace": "default", "uid": uid(&format!("budget-{app}")) });
    object(
        Kind::PodDisruptionBudget,
        json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta,
                "spec": { "selector": { "matchLabels": { "app": app } } },
                "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 } }),
    )
}

fn lines(run: &Run, words: &[&str]) -> Vec<String> {
    run.writes().into_iter().filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn the_cheapest_victim_is_told_to_go_and_the_preemptor_takes_its_place() {
    let objects = vec![
        node("a", "4"),
        node("b", "4"),
        running("old", 10, "3", "a", 1),
        running("young", 10, "3", "b", 2),
        pod("vip", 100, "3"),
    ];
    let mut run = Run::start(objects);
    run.until_millis(500);
    let message = "0/2 nodes are available: 2 Insufficient cpu.";
    let expected = [
        "4 patch young default-scheduler: preempting to accommodate a higher priority pod".to_owned(),
        format!("4 event vip FailedScheduling: {message}"),
        format!("4 patch vip {message} [nominated: b]"),
        "6 delete young".to_owned(),
        format!("8 event young Preempted: Preempted by pod {} on node b", uid("vip")),
    ];
    assert_eq!(run.writes(), expected);
    run.delete(Kind::Pod, "young");
    run.until_millis(3_000);
    assert_eq!(run.node_of("vip"), "b");
}

#[test]
fn who_breaks_no_budget_goes_first() {
    let objects = vec![
        node("a", "4"),
        node("b", "4"),
        running("precious", 1, "3", "a", 5),
        running("plain", 50, "3", "b", 1),
        budget("precious", 0),
        pod("vip", 100, "3"),
    ];
    let mut run = Run::start(objects);
    run.until_millis(100);
    assert_eq!(lines(&run, &["delete"]), ["6 delete plain"]);
}

#[test]
fn the_victims_of_one_node_use_up_a_budget_together() {
    // What a budget allows, and who goes then: each of the two replicas alone would be within the smaller budget.
    for (allowed, expected) in [(1, &["6 delete other"][..]), (2, &["6 delete left", "10 delete right"][..])] {
        let objects = vec![
            node("a", "4"),
            node("b", "4"),
            replica("shop", "left", 2, "2", "a"),
            replica("shop", "right", 1, "2", "a"),
            running("other", 50, "4", "b", 1),
            budget("shop", allowed),
            pod("vip", 100, "4"),
        ];
        let mut run = Run::start(objects);
        run.until_millis(100);
        assert_eq!(lines(&run, &["delete"]), expected, "{allowed} may go");
    }
}

#[test]
fn what_a_budget_allows_is_given_to_the_most_important_and_the_others_may_stay_first() {
    let objects = vec![
        node("a", "4"),
        replica("shop", "one", 3, "1", "a"),
        replica("shop", "two", 2, "1", "a"),
        replica("shop", "three", 1, "1", "a"),
        budget("shop", 1),
        pod("vip", 100, "2"),
    ];
    let mut run = Run::start(objects);
    run.until_millis(100);
    assert_eq!(lines(&run, &["delete"]), ["6 delete one"]);
}

#[test]
fn as_few_as_possible_go_and_the_most_important_stay() {
    let objects = vec![
        node("a", "4"),
        running("one", 1, "1", "a", 1),
        running("two", 2, "1", "a", 2),
        running("three", 3, "1", "a", 3),
        running("four", 3, "1", "a", 4),
        pod("vip", 100, "2"),
    ];
    let mut run = Run::start(objects);
    run.until_millis(100);
    // The last victim, the least important one, is told once all others have been.
    assert_eq!(lines(&run, &["delete"]), ["6 delete two", "10 delete one"]);
}

#[test]
fn a_pod_of_lower_priority_keeps_off_the_room_that_is_kept() {
    let objects = vec![node("a", "4"), running("old", 10, "4", "a", 1), pod("vip", 100, "4")];
    let mut run = Run::start(objects);
    run.until_millis(100);
    run.write(pod("late", 50, "1"));
    run.until_millis(200);
    // It does not fit beside the nominated pod, and what it could preempt would not help it.
    assert!(!lines(&run, &["event late FailedScheduling"]).is_empty());
    run.delete(Kind::Pod, "old");
    run.until_millis(5_000);
    assert_eq!((run.node_of("vip").as_str(), run.node_of("late").as_str()), ("a", ""));
}

#[test]
fn while_victims_go_their_preemptor_preempts_nobody_else() {
    let objects = vec![
        node("a", "4"),
        node("b", "4"),
        running("left", 10, "4", "a", 2),
        running("right", 10, "4", "b", 1),
        pod("vip", 100, "4"),
    ];
    let mut run = Run::start(objects);
    run.until_millis(100);
    assert_eq!(lines(&run, &["delete"]), ["6 delete left"]);
    // Something happens that lets it be tried again while its victim is still going.
    run.write(running("other", 10, "1", "c", 1));
    run.delete(Kind::Pod, "other");
    run.until_millis(30_000);
    assert_eq!(lines(&run, &["delete"]).len(), 1, "{:?}", run.writes());
    let said = lines(&run, &["not eligible due to a terminating pod on the nominated node."]);
    assert!(!said.is_empty(), "{:?}", run.writes());
}

#[test]
fn who_must_not_preempt_says_so() {
    let spec = json!({ "priority": 100, "preemptionPolicy": "Never",
        "containers": [{ "name": "app", "image": "x", "resources": { "requests": { "cpu": "4" } } }] });
    let mut run = Run::start(vec![node("a", "4"), running("old", 10, "4", "a", 1), pod_from("shy", spec)]);
    run.until_millis(100);
    let said = lines(&run, &["patch shy"]);
    assert!(said[0].ends_with("preemption: not eligible due to preemptionPolicy=Never."), "{said:?}");
    assert_eq!(lines(&run, &["delete"]), [""; 0]);
}

#[test]
fn less_important_pods_that_were_to_come_look_elsewhere() {
    let objects = vec![node("a", "4"), running("old", 10, "4", "a", 1), pod("first", 50, "4")];
    let mut run = Run::start(objects);
    run.until_millis(50);
    assert_eq!(lines(&run, &["nominated: a"]).len(), 1);
    run.write(running("more", 20, "4", "a", 2));
    run.write(pod("vip", 100, "4"));
    run.until_millis(100);
    assert!(lines(&run, &["patch first  [nominated: ]"]).len() == 1, "{:?}", run.writes());
}

#[test]
fn a_victim_that_cannot_be_told_lets_the_preemptor_try_again() {
    let objects = vec![node("a", "4"), running("old", 10, "4", "a", 1), pod("vip", 100, "4")];
    let mut run = Run::start(objects);
    let mut times = 0;
    run.server.refusals.push(Box::new(move |operation| {
        let is_delete = matches!(operation, Operation::Delete { .. });
        times += u32::from(is_delete);
        (is_delete && times == 1).then(|| Failure::new(Reason::InternalError, "etcdserver: request timed out"))
    }));
    run.until_millis(2_000);
    assert_eq!(lines(&run, &["delete"]).len(), 2, "{:?}", run.writes());
    assert_eq!(lines(&run, &["Preempted by"]).len(), 1);
}

/// Waits for a permit that nobody gives to less important pods.
struct Patient;

impl Plugin for Patient {
    fn name(&self) -> &'static str {
        "Patient"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Permit]
    }

    fn permit(&self, placement: &Placement) -> Permit {
        match placement.pod.spec.priority {
            100 => Permit::Allow,
            _ => Permit::Wait(SimDuration::from_secs(60)),
        }
    }
}

#[test]
fn a_victim_that_waits_for_a_permit_is_put_back_and_not_deleted() {
    let mut rows = Profile::standard_rows();
    rows.push(Row { plugin: Box::new(Patient), weight: 0 });
    let profile = Profile::new(Name::of("default-scheduler"), rows);
    let mut run = Run::with_profile(vec![node("a", "4"), pod("waiting", 1, "4")], profile);
    run.until_millis(50);
    assert!(run.scheduler.cluster().is_assumed(run.pod("waiting").meta.uid));
    run.write(pod("vip", 100, "4"));
    run.until_millis(5_000);
    assert_eq!(lines(&run, &["delete"]), [""; 0]);
    let said = lines(&run, &["event waiting Preempted"]);
    assert!(said[0].ends_with("on node a (in kube-scheduler memory)."), "{said:?}");
    assert_eq!(run.node_of("vip"), "a");
    assert_ne!(run.scheduler.queue().place_of(run.pod("waiting").meta.uid), Some(Place::Active));
    let waiting: &Pod = &run.pod("waiting");
    assert!(waiting.node.is_none());
}
