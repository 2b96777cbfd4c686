//! The shipped scenarios, run: their expectations are met, and the same seed gives the same digest.

use std::path::{Path, PathBuf};

use kubesim::scenario::outcome::StepState;
use kubesim::scenario::{Outcome, Scenario};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yml")).collect();
    files.sort();
    files
}

fn load(path: &Path) -> Scenario {
    Scenario::load(path).unwrap_or_else(|problems| panic!("{}", problems[0].render(false)))
}

fn complaints(outcome: &Outcome) -> String {
    let steps = outcome.failed_steps().map(|step| format!("{} {}: {:?}\n", step.name, step.state, step.error));
    let broken =
        outcome.broken_expectations().map(|broken| format!("{}: {} at {:?}\n", broken.name, broken.why, broken.at));
    let told: String = steps.chain(broken).collect();
    format!("{}: {}\n{told}", outcome.scenario, outcome.ending)
}

#[test]
fn every_shipped_scenario_does_what_it_expects() {
    let shipped = files("scenarios");
    assert!(shipped.len() >= 5, "{shipped:?}");
    for path in shipped.iter().chain(&files("tests/scenarios")) {
        let outcome = load(path).run(7);
        assert!(outcome.is_success(), "{}", complaints(&outcome));
        if path.parent().is_some_and(|folder| folder.ends_with("scenarios") && !folder.ends_with("tests/scenarios")) {
            assert_eq!(committed_digest(path), outcome.digest.to_string(), "results/regenerate, if this was meant");
        }
    }
}

/// The digest in the committed summary of a shipped scenario.
fn committed_digest(scenario: &Path) -> String {
    let name = scenario.file_stem().unwrap().to_str().unwrap();
    let summary = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&summary).unwrap_or_else(|error| panic!("{}: {error}", summary.display()));
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    summary["digest"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another_one() {
    let scenario = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/etcd-leader-crash-during-rollout.yml"));
    let (first, second, other) = (scenario.run(7), scenario.run(7), scenario.run(8));
    assert_eq!(first, second);
    assert_ne!(first.digest, other.digest);
    assert!(other.is_success(), "{}", complaints(&other));
}

#[test]
fn what_is_known_of_an_object_never_goes_back_to_an_older_version() {
    let scenario = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/told-twice.yml"));
    let outcome = scenario.run(836_124);
    assert!(outcome.is_success(), "{}", complaints(&outcome));
}

#[test]
fn a_manifest_alone_is_applied_and_settles() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/a-deploy.yaml");
    let outcome = Scenario::of_manifests(&[file], 5).unwrap().run(1);
    assert!(outcome.is_success(), "{}", complaints(&outcome));
    assert_eq!(outcome.steps[0].output, ["deployment.apps/web created"]);
    assert_eq!(outcome.steps[0].state, StepState::Done);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nowhere");
    let problems = Scenario::of_manifests(&[folder], 5).unwrap_err();
    assert!(problems[0].message.contains("cannot be read"), "{}", problems[0]);
}
