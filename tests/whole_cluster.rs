//! Stories of a whole cluster, each with a fixed seed: no invariant is broken, and what happens takes as long as in the real thing.

mod support;

use kubesim::cluster::options::KubeletKind;
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
      - {{name: app, image: \"{image}\", resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}}}
"
    )
}

/// Fails if a time is more than 3 percent off the real one.
fn assert_near(what: &str, ours: f64, real: f64) {
    let off = (ours / real - 1.0) * 100.0;
    eprintln!("{what}: {ours:.2} s, the real one took {real:.1} s ({off:+.1} %)");
    assert!(off.abs() <= 3.0, "{what}: {ours:.2} s, the real one took {real:.1} s");
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
