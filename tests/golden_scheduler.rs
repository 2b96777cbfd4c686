//! The scheduler held against the real one: cases recorded from kube-scheduler 1.36, in tests/golden/scheduler.
//!
//! What is recorded of a case is compared entirely with what we say about it. KUBESIM_SCHEDULER_CASES names another folder of
//! cases to be compared instead.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use kubesim::placement::cases;
use kubesim::scheduler::profile::Profile;
use serde_json::Value;

fn files() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scheduler");
    let folder = env::var_os("KUBESIM_SCHEDULER_CASES").map_or(own, PathBuf::from);
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

#[test]
fn every_case_is_decided_as_the_real_scheduler_decided_it() {
    let profile = Profile::standard();
    let (mut count, mut wrong, mut report) = (0, 0, String::new());
    for file in files() {
        let of_file = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (mut in_file, mut wrong_in_file) = (0, 0);
        for line in fs::read_to_string(&file).expect("a readable file").lines() {
            in_file += 1;
            let case: Value = serde_json::from_str(line).expect("a case");
            let name = case["name"].as_str().unwrap_or_default();
            let mut found = Vec::new();
            match cases::answer(line, &profile) {
                Ok(mut said) => {
                    said.as_object_mut().expect("an object").remove("name");
                    differences("", &case["expected"], &said, &mut found);
                }
                Err(error) => found.push(error),
            }
            if !found.is_empty() {
                wrong_in_file += 1;
                let _ = writeln!(
                    report,
                    "{name}: {} differences\n  {}",
                    found.len(),
                    found[..found.len().min(6)].join("\n  ")
                );
            }
        }
        if wrong_in_file > 0 {
            let _ = writeln!(report, "== {of_file}: {wrong_in_file} of {in_file} cases differ");
        }
        (count, wrong) = (count + in_file, wrong + wrong_in_file);
    }
    assert!(count > 40, "only {count} cases");
    assert!(wrong == 0, "{wrong} of {count} cases differ:\n{report}");
}
