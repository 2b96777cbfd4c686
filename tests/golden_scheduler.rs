//! The scheduler held against the real one: cases recorded from kube-scheduler 1.36, in tests/golden/scheduler.
//!
//! What is recorded of a case is compared entirely with what we say about it. KUBESIM_SCHEDULER_CASES names another folder of
//! cases to be compared instead.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use kubesim::engine::random::Seed;
use kubesim::placement::cases::Case;
use kubesim::scheduler::algorithm::{Algorithm, Outcome};
use kubesim::scheduler::profile::Profile;
use serde_json::Value;

/// The variable that names another folder.
const CASES: &str = "KUBESIM_SCHEDULER_CASES";

fn files() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scheduler");
    let folder = env::var_os(CASES).map_or(own, PathBuf::from);
    let entries = fs::read_dir(&folder).expect("the folder of cases").map(|entry| entry.expect("a file").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    files.sort();
    files
}

/// Where two values differ, each place with both values.
fn differences(place: &str, expected: &Value, said: &Value, found: &mut Vec<String>) {
    match (expected, said) {
        (Value::Object(expected), Value::Object(said)) => {
            let keys = expected.keys().chain(said.keys().filter(|key| !expected.contains_key(*key)));
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{place}.{key}"), &of(expected), &of(said), found);
            }
        }
        (Value::Array(expected), Value::Array(said))
            if expected.len() == said.len() && !place.ends_with(".reasons") =>
        {
            for (index, (expected, said)) in expected.iter().zip(said).enumerate() {
                differences(&format!("{place}[{index}]"), expected, said, found);
            }
        }
        (Value::Array(expected), Value::Array(said)) if place.ends_with(".reasons") => {
            let sorted = |list: &[Value]| {
                let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
                list.sort();
                list
            };
            if sorted(expected) != sorted(said) {
                found.push(format!("{place}: expected {expected:?}, said {said:?}"));
            }
        }
        _ if expected != said => found.push(format!("{place}: expected {expected}, said {said}")),
        _ => {}
    }
}

/// The algorithm that keeps what it found out chooses one of the best nodes, says the same sentence and nominates as recorded.
fn decide(case: &Case, expected: &Value, profile: &Profile, found: &mut Vec<String>) {
    let mut algorithm = Algorithm::new(0, Seed(1).stream("golden", "tie-break"));
    let holds = |list: &Value, node: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == node));
    match algorithm.schedule(profile, &case.pods[0], &case.snapshot.cluster) {
        Outcome::Node(chosen) => {
            if !holds(&expected["best"], &chosen.node) {
                found.push(format!("{} is chosen, not one of {}", chosen.node, expected["best"]));
            }
            let total = &expected["total"][chosen.node.as_str()];
            if chosen.score.is_some_and(|score| *total != score) {
                found.push(format!("{} has a score of {:?}, not of {total}", chosen.node, chosen.score));
            }
        }
        Outcome::Failed(why) => {
            if why != *expected["message"].as_str().unwrap_or_default() {
                found.push(format!("fails with {why:?}, not {}", expected["message"]));
            }
        }
        Outcome::Unschedulable(diagnosis) => {
            let preemption = &expected["preemption"];
            let parts = [&expected["message"], &preemption["message"]].map(|text| text.as_str().unwrap_or_default());
            let sentence = parts.join(" ");
            if diagnosis.message() != sentence.trim_end() {
                found.push(format!("says {:?}, not {sentence:?}", diagnosis.message()));
            }
            let nominated = diagnosis.nominated_node.as_deref().filter(|node| !node.is_empty());
            let agrees = match nominated {
                Some(node) => holds(&preemption["nominatedNodeAnyOf"], node),
                None => preemption["code"] != "Success",
            };
            if !agrees {
                found.push(format!("nominates {nominated:?}, not one of {}", preemption["nominatedNodeAnyOf"]));
            }
        }
    }
}

/// What is wrong with our answers to the cases in a file, and how many cases there are.
fn check(file: &Path) -> (usize, String) {
    let profile = Profile::standard();
    let (mut count, mut report) = (0, String::new());
    for line in fs::read_to_string(file).expect("a readable file").lines() {
        count += 1;
        let mut case: Value = serde_json::from_str(line).expect("a case");
        let (name, expected) = (case["name"].take(), case["expected"].take());
        let mut found = Vec::new();
        match Case::read(case) {
            Ok(mut case) => {
                if !case.is_sequence && expected["outcome"] != "Gated" {
                    decide(&case, &expected, &profile, &mut found);
                }
                differences("", &expected, &case.answer(&profile), &mut found);
            }
            Err(error) => found.push(error),
        }
        if !found.is_empty() {
            let some = found[..found.len().min(6)].join("\n  ");
            let _ = writeln!(report, "{name}: {} differences\n  {some}", found.len());
        }
    }
    (count, report)
}

#[test]
fn every_case_is_decided_as_the_real_scheduler_decided_it() {
    // Files are looked at side by side: there are many cases, and each is independent of the others.
    let results: Vec<(usize, String)> = thread::scope(|scope| {
        let running: Vec<_> = files().into_iter().map(|file| scope.spawn(move || check(&file))).collect();
        running.into_iter().map(|one| one.join().expect("a file is looked at to its end")).collect()
    });
    let count: usize = results.iter().map(|(count, _)| count).sum();
    let report: String = results.into_iter().map(|(_, report)| report).collect();
    assert!(count >= 474 || env::var_os(CASES).is_some(), "only {count} cases");
    assert!(report.is_empty(), "of {count} cases some differ:\n{report}");
}
