//! Recordings of a real kubelet, played again on a whole cluster: the kubelet here makes the same sequence of writes about
//! every pod, from the first to the last.
//!
//! Each recording is a scenario in its folder: manifests and commands as they were, scripts as models. What is compared, and
//! what the recording's machine put in and is left out, is said in `support/kubelet_comparison.rs`.

mod support;

#[path = "support/kubelet_comparison.rs"]
mod kubelet_comparison;
#[path = "support/kubelet_writes.rs"]
mod kubelet_writes;

use std::collections::BTreeMap;
use std::path::Path;

use kubelet_comparison::{Difference, Entry, compare, recorded_pods};
use kubelet_writes::Line;
use kubesim::api::object::Object;
use kubesim::cluster::Cluster;
use kubesim::cluster::news::{News, Write};
use kubesim::engine::time::SimDuration;
use kubesim::scenario::{Observer, Scenario};

/// How long the cluster is up before the recording begins.
const BEFORE: SimDuration = SimDuration::from_secs(20);
/// How many seeds are tried: what waits for a random time fits the recorded draw with some of them only.
const SEEDS: u64 = 64;

/// A write of a kubelet as a line of the recording; none for what the recording does not list: leases, nodes, the change
/// with which the API server begins a deletion.
fn line(write: &Write) -> Option<Line> {
    if !write.agent.starts_with("kubelet/") {
        return None;
    }
    let line = |pod: &str, text: String| Some(Line { at: write.at, pod: pod.to_owned(), text, patched: None });
    match (&write.old, &write.new) {
        (None, Some(Object::Event(event))) if event.class.involved_kind == "Pod" => line(
            &event.involved.name,
            format!("EVENT {:?} {}: {}", event.class.kind, event.class.reason, event.message),
        ),
        (Some(_), Some(Object::Event(event))) if event.class.involved_kind == "Pod" => {
            let (count, message) = (event.occurrence().count, &event.message);
            line(&event.involved.name, format!("EVENT-PATCH count={count} {message}"))
        }
        (Some(Object::Pod(old)), Some(Object::Pod(new))) if write.verb == "patch" => Some(Line {
            patched: Some(Box::new((old.status.clone(), new.status.clone()))),
            ..line(&new.meta.name, kubelet_writes::patch(&old.status, &new.status))?
        }),
        (Some(Object::Pod(old)), None) => line(&old.meta.name, "DELETE".to_owned()),
        _ => None,
    }
}

/// Collects what kubelets write.
#[derive(Default)]
struct Lines(Vec<Line>);

impl Observer for Lines {
    fn news(&mut self, _: &Cluster, news: &News) {
        if let News::Write(write) = news {
            self.0.extend(line(write));
        }
    }
}

fn folder(recording: &str) -> String {
    format!("{}/tests/golden/kubelet/{recording}", env!("CARGO_MANIFEST_DIR"))
}

/// Plays the commands of a recording.
fn play(recording: &str, seed: u64) -> Vec<Line> {
    let path = format!("{}/scenario.yml", folder(recording));
    let scenario = Scenario::load(Path::new(&path)).unwrap_or_else(|problems| panic!("{}", problems[0].render(false)));
    let mut lines = Lines::default();
    let (outcome, _) = scenario.start(seed, false).finish(&mut lines);
    let failed: Vec<_> = outcome.failed_steps().map(|step| (&step.name, &step.error)).collect();
    assert!(failed.is_empty(), "{recording}: {failed:?}");
    lines.0
}

/// Every pod of a recording is written about in the same way, with some draw of what is random. `forced` names the pods that
/// were deleted by force, and when.
fn check(recording: &str, forced: &[(&str, f64)]) {
    let path = format!("{}/kubelet-writes.txt", folder(recording));
    let text = std::fs::read_to_string(path).expect("the recording is there");
    let entries = |pod: &str| match forced.iter().find(|(name, _)| *name == pod) {
        Some((_, gone)) => Entry::of_recording_until_gone(&text, pod, *gone),
        None => Entry::of_recording(&text, pod),
    };
    let mut missing: BTreeMap<String, Option<(u64, Difference)>> =
        recorded_pods(&text).into_iter().map(|pod| (pod, None)).collect();
    assert!(!missing.is_empty());
    for seed in 1..=SEEDS {
        let lines = play(recording, seed);
        missing.retain(|pod, closest| {
            let Err(difference) = compare(&entries(pod), &lines, pod, BEFORE) else { return false };
            if closest.as_ref().is_none_or(|(_, other)| difference.reached > other.reached) {
                *closest = Some((seed, difference));
            }
            true
        });
        if missing.is_empty() {
            return;
        }
    }
    let told = missing.iter().filter_map(|(pod, closest)| closest.as_ref().map(|(seed, why)| (pod, seed, why)));
    let told: Vec<String> = told.map(|(pod, seed, why)| format!("{pod}, closest with seed {seed}: {why}")).collect();
    panic!("{recording}: {} pods differ\n{}", told.len(), told.join("\n\n"));
}

#[test]
fn k1q_plain_pods_and_their_deletion() {
    check("k1q", &[("hello", 29.456)]);
}

#[test]
fn k2q_init_containers_and_sidecars() {
    check("k2q", &[]);
}

#[test]
fn k3_crash_loops() {
    check("k3", &[]);
}

#[test]
fn k4q_probes() {
    check("k4q", &[]);
}

#[test]
fn k5b_image_pulls() {
    check("k5b", &[]);
}
