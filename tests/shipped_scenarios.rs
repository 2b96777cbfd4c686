//! The scenarios that come with kubesim do what they promise, event for event as when their results were committed.

use std::fs;
use std::path::Path;

use kubesim::scenario::Scenario;
use serde_json::Value;

/// Runs a shipped scenario and holds it against its committed summary.
fn check(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scenario = Scenario::load(&root.join("scenarios").join(format!("{name}.yml"))).unwrap();
    let committed = fs::read_to_string(root.join("results").join(format!("{name}.json"))).unwrap();
    let committed: Value = serde_json::from_str(&committed).unwrap();
    let outcome = scenario.run(7);
    let broken: Vec<&str> = outcome.broken_expectations().map(|broken| broken.name.as_str()).collect();
    assert!(outcome.is_success(), "{name}: broken expectations: {broken:?}");
    assert_eq!(committed["digest"], outcome.digest.to_string(), "{name}: run results/regenerate if this was meant");
}

#[test]
fn rolling_update() {
    check("rolling-update");
}

#[test]
fn node_failure() {
    check("node-failure");
}

#[test]
fn etcd_leader_crash_during_rollout() {
    check("etcd-leader-crash-during-rollout");
}

#[test]
fn partition_minority_and_majority() {
    check("partition-minority-and-majority");
}

#[test]
fn image_pull_slow() {
    check("image-pull-slow");
}

#[test]
fn every_scenario_has_a_committed_summary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(root.join("results").join(format!("{name}.json")).exists(), "{name} has no committed summary");
        }
    }
}
