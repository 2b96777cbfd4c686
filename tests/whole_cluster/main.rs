//! Stories of a whole cluster, each with a fixed seed: no invariant is broken, and what happens takes as long as in the real thing.
//!
//! Here: rollouts where nothing fails. In the other files: what fails.

mod control_plane;
mod etcd;
mod nodes;
mod renewals;
#[path = "../support/mod.rs"]
mod support;
mod writer;

use kubesim::api::kind::Kind;
use kubesim::api::workload::ReplicaSet;
use kubesim::cluster::options::{ClusterOptions, KubeletKind};
use kubesim::runtime::model::{ImageModel, ImageModels, PullModel};
use kubesim::runtime::size::Size;
use kubesim::runtime::span::Spread;
use support::{Bed, as_seconds, options, stand_in_images};

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
            .filter(|event| event.class.reason == "Pulled" && event.message.contains("Successfully pulled"))
            .map(|event| event.message.to_string())
            .collect();
        assert!((1..=3).contains(&pulls.len()), "each node pulls once: {pulls:?}");
        let least = 20.5 * pulls.len() as f64;
        assert!((least..least + 8.0).contains(&rolled), "{rolled} s for {pulls:?}");
        assert!(pulls.iter().all(|message| message.contains("Image size: 200000000 bytes")), "{pulls:?}");
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
