//! A recording of a real control plane, played again: Jobs of all kinds and three CronJobs (`tests/scenarios/timeline-f.yml`).
//!
//! Compared is what the controllers write and when, up to the deletion of the namespace, and all numbers of a Job's status that last. What
//! decided in the recording the races between the ends of pods and the looks at their Jobs is given in the scenario.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use kubesim::cluster::Cluster;
use kubesim::cluster::news::{News, Write};
use kubesim::report::changes::flatten;
use kubesim::report::sketch::Sketcher;
use kubesim::report::writes;
use kubesim::scenario::Scenario;
use kubesim::scenario::runner::Observer;
use serde_json::{Value, json};

/// How long the cluster is up before the recording begins, in milliseconds.
const BEFORE: u64 = 60_000;
/// When the namespace was deleted.
const END: u64 = 159_200;
/// How far a moment may be from the recorded one: of some Jobs three pods run one after the other, each looked at a second later or not.
const TOLERANCE: u64 = 1_500;

/// Whatever chance does, the same is told.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

const FIELDS: [&str; 13] = [
    "status.succeeded",
    "status.failed",
    "status.completedIndexes",
    "status.failedIndexes",
    "status.conditions[SuccessCriteriaMet].reason",
    "status.conditions[Complete].reason",
    "status.conditions[FailureTarget].reason",
    "status.conditions[FailureTarget].message",
    "status.conditions[Failed].reason",
    "status.conditions[Suspended].reason",
    "spec.suspend",
    "status.lastScheduleTime",
    "metadata.deletionGracePeriodSeconds",
];

/// Those of them that rise.
const COUNTS: [&str; 4] = ["status.succeeded", "status.failed", "status.completedIndexes", "status.failedIndexes"];

#[derive(Default)]
struct Collector {
    writes: Vec<Rc<Write>>,
}

impl Observer for Collector {
    fn news(&mut self, _cluster: &Cluster, news: &News) {
        if let News::Write(write) = news {
            self.writes.push(Rc::clone(write));
        }
    }
}

/// How many pods a Job's status says are active, have succeeded, have failed, are ready; from when to when.
type Numbers = BTreeMap<String, Vec<(u64, u64, [i64; 4])>>;

const NUMBERS: [&str; 4] = ["status.active", "status.succeeded", "status.failed", "status.ready"];
/// Numbers that do not stay for so long, in milliseconds, are steps on the way.
const LASTING: u64 = 500;

/// All numbers that statuses of Jobs have shown.
fn numbers(lines: &[Value]) -> Numbers {
    let mut numbers = Numbers::new();
    for line in lines.iter().filter(|line| line["ns"] == "f" && line["kind"] == "Job") {
        let Some(at) = line["t"].as_u64().filter(|at| *at < END) else { continue };
        let shown = numbers.entry(line["name"].as_str().unwrap_or_default().to_owned()).or_default();
        if line["ev"] == "ADDED" {
            shown.push((at, END, [0; 4]));
            continue;
        }
        let (_, until, last) = shown.last_mut().expect("it was added");
        let mut new = *last;
        for (number, field) in new.iter_mut().zip(NUMBERS) {
            if let Some(pair) = line["changes"].get(field) {
                *number = pair[1].as_i64().unwrap_or(0);
            }
        }
        if line["ev"] == "DELETED" || new != *last {
            *until = at;
        }
        if line["ev"] != "DELETED" && new != *last {
            shown.push((at, END, new));
        }
    }
    numbers
}

/// The numbers that last in one of the two came in the other, in the same order and at the same times.
fn assert_numbers_alike(real: &Numbers, ours: &Numbers, seed: u64) -> usize {
    assert_eq!(real.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "seed {seed}");
    let mut compared = 0;
    for (job, real) in real {
        for (one, other) in [(real, &ours[job]), (&ours[job], real)] {
            let mut rest = other.iter();
            for (from, until, numbers) in one.iter().filter(|(from, until, _)| until - from > LASTING) {
                let found = rest.find(|(_, _, others)| others == numbers);
                let (found, _, _) = found.unwrap_or_else(|| {
                    panic!(
                        "{job} with seed {seed}: only one has {numbers:?}, from {from} to {until}: {real:?}, {:?}",
                        ours[job]
                    )
                });
                let late = from.abs_diff(*found) <= TOLERANCE;
                assert!(late, "{job} with seed {seed}: {numbers:?} at {found} ms and at {from} ms");
                compared += 1;
            }
        }
    }
    compared
}

/// The scenario run, in the format of the recording.
fn played(seed: u64) -> Vec<Value> {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/timeline-f.yml");
    let scenario = Scenario::load(&scenario).unwrap_or_else(|problems| panic!("{}", problems[0].render(false)));
    let mut collector = Collector::default();
    let mut run = scenario.start(seed, false);
    while run.advance(&mut collector) {}
    let sketcher = Sketcher::default();
    let line = |write: &Rc<Write>| {
        let mut line = writes::line(write, &sketcher)?;
        line["t"] = json!(write.at.as_millis().checked_sub(BEFORE)?);
        Some(line)
    };
    collector.writes.iter().filter_map(line).collect()
}

fn recorded() -> Vec<Value> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/timelines/f/timeline.jsonl"));
    let text = text.expect("the recording is there");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What must be the same: each field of Jobs and CronJobs with all its values and their milliseconds; of pods, how many of
/// each Job came and went.
type Story = BTreeMap<(String, &'static str), Vec<(u64, Value)>>;

fn story(mut lines: Vec<Value>) -> Story {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.retain(|line| line["ns"] == "f" && line["t"].as_u64().is_some_and(|t| t < END));
    lines.sort_by_key(|line| text(line, "rv").parse::<u64>().unwrap_or(0));
    let (mut story, mut owners) = (Story::new(), BTreeMap::<String, String>::new());
    for line in &lines {
        let (event, name, at) = (text(line, "ev"), text(line, "name"), line["t"].as_u64().expect("a time"));
        let new = |field: &str| match line.get("obj") {
            Some(whole) => flatten(whole).get(field).map(|value| (*value).clone()),
            None => line["changes"].get(field).map(|pair| pair[1].clone()),
        };
        let kind = text(line, "kind");
        if kind == "Pod" {
            if event == "ADDED" {
                let owner = line["obj"]["metadata"]["ownerReferences"][0]["name"].as_str().expect("an owner");
                owners.insert(name.clone(), owner.to_owned());
            }
            let counted = match event.as_str() {
                "ADDED" => "pods created",
                "DELETED" => "pods gone",
                _ => continue,
            };
            let counts = story.entry((owners[&name].clone(), counted)).or_default();
            counts.push((at, json!(counts.len() + 1)));
        } else if kind == "Job" || kind == "CronJob" {
            let lives = match event.as_str() {
                "ADDED" => Some("begins"),
                "DELETED" => Some("ends"),
                _ => None,
            };
            if let Some(lives) = lives {
                story.entry((name.clone(), lives)).or_default().push((at, Value::Null));
            }
            for field in FIELDS.iter().filter(|_| event != "DELETED") {
                let Some(value) = new(field) else { continue };
                // The names of pods are made by chance.
                let value = match value.as_str() {
                    Some(message) if message.contains("for pod") => json!(message.split("pod").next()),
                    _ => value,
                };
                let values = story.entry((name.clone(), *field)).or_default();
                if values.last().is_none_or(|(_, last)| *last != value) {
                    values.push((at, value));
                }
            }
        }
    }
    story
}

#[test]
fn the_recorded_jobs_do_here_what_they_did_there() {
    let recorded = recorded();
    let (real, real_numbers) = (story(recorded.clone()), numbers(&recorded));
    for seed in SEEDS {
        let ours = played(seed);
        let compared = assert_numbers_alike(&real_numbers, &numbers(&ours), seed);
        assert!(compared > 100, "only {compared} numbers were compared with seed {seed}");
        assert_alike(&real, &story(ours), seed);
    }
}

fn assert_alike(real: &Story, ours: &Story, seed: u64) {
    assert_eq!(real.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "seed {seed}");
    let mut compared = 0;
    for (key, real) in real {
        let ours = &ours[key];
        // Pods that end within milliseconds are counted by one sync or by two: what only one of the runs shows is a step on the
        // way to what both do.
        let counts = COUNTS.contains(&key.1);
        let shown = |of: &[(u64, Value)], by: &[(u64, Value)]| -> Vec<(u64, Value)> {
            let is_shown = |(_, value): &&(u64, Value)| !counts || by.iter().any(|(_, other)| other == value);
            of.iter().filter(is_shown).cloned().collect()
        };
        let (left, right) = (shown(real, ours), shown(ours, real));
        let values = |of: &[(u64, Value)]| of.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(values(&left), values(&right), "{key:?} with seed {seed}: {real:?}, {ours:?}");
        assert_eq!(
            real.last().map(|(_, value)| value),
            ours.last().map(|(_, value)| value),
            "{key:?} with seed {seed}"
        );
        for ((real, value), (ours, _)) in left.iter().zip(&right) {
            let late = real.abs_diff(*ours) <= TOLERANCE;
            assert!(late, "{key:?} {value} at {ours} ms with seed {seed}, in the recording at {real} ms");
            compared += 1;
        }
        for (at, value) in real.iter().chain(ours).filter(|step| !left.contains(step) && !right.contains(step)) {
            let is_near = right.iter().any(|(other, _)| at.abs_diff(*other) <= TOLERANCE);
            assert!(is_near, "{key:?} with seed {seed}: only one shows {value}, at {at} ms");
        }
    }
    assert!(compared > 150, "only {compared} moments were compared with seed {seed}");
}
