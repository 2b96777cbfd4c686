//! The plugins held against the real scheduler: cases recorded from kube-scheduler 1.36, in tests/golden/scheduler.
//!
//! Each case is a cluster and a pod. Compared is what our plugins say, one by one, and the whole sentence and choice where no
//! plugin that we do not have has a say.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Outcome};
use super::class::{Compiled, PodClass};
use super::cluster::Cluster;
use super::framework::{Code, Normalization, Point};
use super::node_info::NodeInfo;
use super::plugins::default_preemption::DefaultPreemption;
use super::preemption::dry_run::{Preemptor, dry_run};
use super::profile::Profile;
use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::random::Seed;

/// The lists of a case that say what there is of storage.
const STORAGE: [(&str, Kind); 7] = [
    ("persistentvolumes", Kind::PersistentVolume),
    ("persistentvolumeclaims", Kind::PersistentVolumeClaim),
    ("storageclasses", Kind::StorageClass),
    ("csinodes", Kind::CSINode),
    ("csidrivers", Kind::CSIDriver),
    ("csistoragecapacities", Kind::CSIStorageCapacity),
    ("volumeattachments", Kind::VolumeAttachment),
];

/// A case, read.
struct Case {
    name: String,
    value: Value,
    cluster: Cluster,
    pod: Rc<Pod>,
}

#[test]
fn plugins_say_what_the_real_ones_said() {
    let profile = Profile::standard();
    let mut wrong = Vec::new();
    let (mut checked, mut scores, mut rejections) = (0, 0, 0);
    for case in cases() {
        checked += 1;
        scores += case.map("scores").len();
        rejections += case.map("allRejections").len();
        let mut complain = |what: String| wrong.push(format!("{}: {what}", case.name));
        if case.expected("outcome") == "Gated" {
            check_gate(&case, &profile, &mut complain);
            continue;
        }
        let mut compiled = Compiled::new(&profile, &case.pod, &case.cluster);
        let feasible = case.names("feasible");
        let nodes: Vec<&NodeInfo> =
            case.cluster.nodes().filter(|node| feasible.contains(&node.name.as_str())).collect();
        compiled.pre_score(&profile, &case.pod, &case.cluster, &nodes);
        check_pre_filter(&case, &profile, &compiled, &mut complain);
        check_filters(&case, &profile, &compiled, &mut complain);
        check_scores(&case, &profile, &compiled, &mut complain);
        check_outcome(&case, &profile, &mut complain);
    }
    assert!(checked > 30 && scores > 100 && rejections > 50, "only {checked} cases, {scores}, {rejections}");
    assert!(
        wrong.is_empty(),
        "{} of {checked} cases, {} differences:\n{}",
        distinct(&wrong),
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}

fn distinct(wrong: &[String]) -> usize {
    let mut names: Vec<&str> = wrong.iter().filter_map(|line| line.split(':').next()).collect();
    names.dedup();
    names.len()
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scheduler");
    let files = fs::read_dir(&folder).expect("the folder of cases");
    let mut files: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        for line in fs::read_to_string(&file).expect("a readable file").lines() {
            let value: Value = serde_json::from_str(line).expect("a case");
            // Sequences have no single pod.
            if value["feature"] != "sequence" {
                cases.push(Case::read(value));
            }
        }
    }
    cases
}

impl Case {
    fn read(value: Value) -> Self {
        let input = &value["input"];
        let mut cluster = Cluster::default();
        let mut nodes: Vec<&Value> = input["nodes"].as_array().into_iter().flatten().collect();
        nodes.sort_by_key(|node| node["metadata"]["name"].as_str().map(str::to_owned));
        for node in nodes {
            if let Object::Node(node) = read(Kind::Node, node) {
                cluster.set_node(node);
            }
        }
        for (list, kind) in STORAGE {
            for object in input[list].as_array().into_iter().flatten() {
                cluster.storage_mut().set(&read(kind, object));
            }
        }
        for (number, pod) in input["pods"].as_array().into_iter().flatten().enumerate() {
            let Object::Pod(mut pod) = read(Kind::Pod, pod) else { continue };
            Rc::make_mut(&mut pod).meta.uid = Uid(number as u128 + 1);
            match (&pod.node, &pod.status.nominated_node) {
                _ if pod.is_terminal() => {}
                (Some(node), _) => cluster.see_pod(&pod, &node.clone()),
                (None, Some(node)) => cluster.nominate(&pod, &node.clone()),
                (None, None) => {}
            }
        }
        for budget in input["poddisruptionbudgets"].as_array().into_iter().flatten() {
            cluster.set_object(&read(Kind::PodDisruptionBudget, budget));
        }
        cluster.refresh();
        let Object::Pod(mut pod) = read(Kind::Pod, &input["pending"]) else { panic!("no pod") };
        Rc::make_mut(&mut pod).meta.uid = Uid(u128::MAX);
        if let Some(node) = pod.status.nominated_node.clone() {
            cluster.nominate(&pod, &node);
            cluster.refresh();
        }
        Case { name: value["name"].as_str().unwrap_or_default().to_owned(), cluster, pod, value }
    }

    fn expected(&self, key: &str) -> &Value {
        &self.value["expected"][key]
    }

    fn names(&self, key: &str) -> Vec<&str> {
        self.expected(key).as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn map(&self, key: &str) -> Map<String, Value> {
        self.expected(key).as_object().cloned().unwrap_or_default()
    }
}

fn read(kind: Kind, value: &Value) -> Object {
    Object::from_json(kind, value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn check_gate(case: &Case, profile: &Profile, complain: &mut impl FnMut(String)) {
    let gate = profile.gate(&case.pod, None).map(|place| profile.plugin(place));
    let said = gate.map(|plugin| (plugin.name(), plugin.pre_enqueue(&case.pod)));
    let Some((name, status)) = said else { return complain("no gate".to_owned()) };
    let expected = case.expected("preEnqueue");
    let same = expected["plugin"] == name
        && expected["code"] == code(status.code)
        && expected["reasons"][0] == *status.message();
    if !same {
        complain(format!("{name} {status:?} instead of {expected}"));
    }
}

fn check_pre_filter(case: &Case, profile: &Profile, compiled: &Compiled, complain: &mut impl FnMut(String)) {
    let expected = case.expected("preFilter");
    let ours =
        |name: &str| profile.at(Point::Filter).find(|(_, plugin, _)| plugin.name() == name).map(|(place, ..)| place);
    if let Some(rejected) = expected["plugin"].as_str().and_then(ours) {
        let Some((place, status)) = &compiled.rejected else { return complain("not rejected by PreFilter".to_owned()) };
        if *place != rejected || expected["code"] != code(status.code) || expected["reasons"][0] != *status.message() {
            complain(format!("PreFilter: {status:?} instead of {expected}"));
        }
    } else if compiled.rejected.is_some() {
        complain(format!("PreFilter: {:?} instead of {expected}", compiled.rejected));
    }
    if expected["code"] != "Success" {
        return;
    }
    for name in expected["skippedFilters"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if ours(name).is_some_and(|place| compiled.filters.iter().any(|(filter, _)| *filter == place)) {
            complain(format!("the filter of {name} is not skipped"));
        }
    }
    for place in &compiled.skipped_filters {
        let name = profile.plugin(*place).name();
        if !expected["skippedFilters"].as_array().is_some_and(|names| names.iter().any(|other| other == name)) {
            complain(format!("the filter of {name} is skipped"));
        }
    }
    let restricted: Option<Vec<&str>> =
        compiled.nodes.as_ref().map(|names| names.iter().map(|name| name.as_str()).collect());
    let named = expected["nodes"].as_array().map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    if restricted.is_some() != expected["nodesRestricted"].as_bool().unwrap_or(false)
        || named.as_ref().is_some_and(|named| restricted.as_ref() != Some(named))
    {
        complain(format!("restricted to {restricted:?} instead of {named:?}"));
    }
}

fn check_filters(case: &Case, profile: &Profile, compiled: &Compiled, complain: &mut impl FnMut(String)) {
    if case.expected("preFilter")["code"] != "Success" {
        return;
    }
    let (filter, all) = (case.map("filter"), case.map("allRejections"));
    let who = (case.pod.spec.priority, Some(case.pod.meta.uid));
    for (place, node) in case.cluster.nodes().enumerate() {
        let rejections = all.get(node.name.as_str()).and_then(Value::as_object);
        for (place, of_plugin) in &compiled.filters {
            let name = profile.plugin(*place).name();
            let status = of_plugin.filter(node);
            let expected = rejections.and_then(|rejections| rejections.get(name)).and_then(Value::as_str);
            if expected.unwrap_or("Success") != code(status.code) {
                complain(format!("{name} on {}: {:?} instead of {expected:?}", node.name, status.code));
            }
        }
        let Some(expected) = filter.get(node.name.as_str()) else { continue };
        let plugin = expected["plugin"].as_str().unwrap_or_default();
        let is_ours = profile.at(Point::Filter).any(|(_, ours, _)| ours.name() == plugin);
        if !is_ours {
            continue;
        }
        let nominated = case.cluster.nominated_at(place);
        let Some((place, status)) = compiled.filter_with_nominated(who, node, nominated, &[]) else {
            complain(format!("{} fits", node.name));
            continue;
        };
        let mut reasons: Vec<&str> = status.reasons.iter().map(|reason| reason.as_str()).collect();
        let mut expected_reasons: Vec<&str> =
            expected["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        reasons.sort_unstable();
        expected_reasons.sort_unstable();
        if profile.plugin(place).name() != plugin
            || reasons != expected_reasons
            || expected["code"] != code(status.code)
        {
            complain(format!("{}: {} {status:?} instead of {expected}", node.name, profile.plugin(place).name()));
        }
    }
}

fn check_scores(case: &Case, profile: &Profile, compiled: &Compiled, complain: &mut impl FnMut(String)) {
    let (scores, feasible) = (case.map("scores"), case.names("feasible"));
    let skipped = case.names("skippedScores");
    for place in &compiled.skipped_scorers {
        let name = profile.plugin(*place).name();
        if !feasible.is_empty() && !skipped.contains(&name) {
            complain(format!("the score of {name} is skipped"));
        }
    }
    for scorer in &compiled.scorers {
        let name = profile.plugin(scorer.plugin).name();
        let Some(expected) = scores.get(name) else {
            if !scores.is_empty() {
                complain(format!("the score of {name} is not skipped"));
            }
            continue;
        };
        let raw: Vec<(&str, i64)> = case
            .cluster
            .nodes()
            .filter(|node| feasible.contains(&node.name.as_str()))
            .map(|node| (node.name.as_str(), scorer.score.score(node)))
            .collect();
        let highest = raw.iter().map(|(_, score)| *score).max().unwrap_or(0);
        for (node, score) in raw {
            let normalized = scorer.normalization.apply(score, highest);
            let expected_normalized =
                if scorer.normalization == Normalization::None { &expected["raw"] } else { &expected["normalized"] };
            if expected["raw"][node] != score
                || expected_normalized[node] != normalized
                || expected["weight"] != scorer.weight
            {
                complain(format!(
                    "{name} scores {node} {score}, {normalized} instead of {}, {}",
                    expected["raw"][node], expected_normalized[node]
                ));
            }
        }
    }
}

/// Where nobody else has a say, our choice is among the best, and our sentence is the same.
fn check_outcome(case: &Case, profile: &Profile, complain: &mut impl FnMut(String)) {
    let is_ours = |name: &str| {
        profile.at(Point::Filter).chain(profile.at(Point::Score)).any(|(_, plugin, _)| plugin.name() == name)
    };
    let foreign_filter =
        case.map("filter").values().any(|verdict| verdict["plugin"].as_str().is_some_and(|name| !is_ours(name)));
    let foreign_pre_filter = case.expected("preFilter")["plugin"].as_str().is_some_and(|name| !is_ours(name));
    let differs = |scores: &Value| {
        let values: Vec<&Value> =
            scores["normalized"].as_object().into_iter().flatten().map(|(_, score)| score).collect();
        values.windows(2).any(|pair| pair[0] != pair[1])
    };
    let foreign_score = case.map("scores").iter().any(|(name, scores)| !is_ours(name) && differs(scores));
    let not_candidates = case.expected("preemption")["notCandidates"].as_object().into_iter().flatten();
    let foreign_victims = not_candidates.map(|(_, told)| &told["plugin"]).filter_map(Value::as_str).any(|name| !is_ours(name));
    if foreign_filter || foreign_pre_filter || foreign_score || foreign_victims {
        return;
    }
    check_preemption(case, profile, complain);
    let mut algorithm = Algorithm::new(0, Seed(1).stream("golden", "tie-break"));
    match algorithm.schedule(profile, &case.pod, &case.cluster) {
        Outcome::Node(chosen) if !case.names("best").contains(&chosen.node.as_str()) => {
            complain(format!("{} is not among {:?}", chosen.node, case.names("best")));
        }
        Outcome::Node(_) => {}
        Outcome::Unschedulable(diagnosis) => {
            let ours = diagnosis.message();
            let known = case.expected("message").as_str().unwrap_or_default();
            let preemption = &case.expected("preemption");
            let whole = match preemption["message"].as_str() {
                Some(message) if !message.is_empty() => format!("{known} {message}"),
                _ => known.to_owned(),
            };
            if ours != whole || known.is_empty() {
                complain(format!("says {ours:?} instead of {whole:?}"));
            }
            let any_of = preemption["nominatedNodeAnyOf"].as_array().cloned().unwrap_or_default();
            let chosen = diagnosis.nominated_node.as_deref().filter(|node| !node.is_empty());
            if chosen.is_some() == any_of.is_empty() || chosen.is_some_and(|node| !any_of.contains(&node.into())) {
                complain(format!("nominates {chosen:?} instead of one of {any_of:?}"));
            }
        }
    }
}

/// What becomes of each node if all less important pods go, and whom the pod needs to go.
fn check_preemption(case: &Case, profile: &Profile, complain: &mut impl FnMut(String)) {
    let expected = case.expected("preemption");
    if expected.is_null() {
        return;
    }
    let mut class = PodClass::new(profile, &case.pod, &case.cluster);
    let named = class.compiled.nodes.clone();
    let places: Vec<usize> = (0..case.cluster.node_count())
        .filter(|place| named.as_ref().is_none_or(|named| named.contains(&case.cluster.at(*place).name)))
        .filter(|_| class.compiled.rejected.is_none())
        .collect();
    places.iter().for_each(|place| {
        class.fits(*place, &case.cluster);
    });
    let codes = class.codes(places.into_iter());
    let eligible = DefaultPreemption::ineligible(&case.pod, &case.cluster, &codes).is_none();
    if eligible != expected["eligible"].as_bool().unwrap_or(false) {
        return complain(format!("eligible: {eligible}"));
    }
    if !eligible {
        return;
    }
    let preemptor = Preemptor { pod: &case.pod, compiled: &class.compiled, cluster: &case.cluster };
    let potential = DefaultPreemption::potential(&codes);
    let found = dry_run(&potential, 0, potential.len(), |place| preemptor.look_at(place));
    let name = |place: usize| case.cluster.at(place).name.to_string();
    let mut candidates = Map::new();
    for candidate in &found.candidates {
        let victims = candidate.victims.iter().map(|pod| format!("{}/{}", pod.meta.namespace, pod.meta.name));
        let victims: Vec<String> = victims.collect();
        candidates.insert(
            name(candidate.place),
            serde_json::json!({ "victims": victims, "numPDBViolations": candidate.violations }),
        );
    }
    let mut refused = Map::new();
    for refusal in &found.refused {
        let plugin = refusal.plugin.map(|place| profile.plugin(place).name());
        let mut reasons: Vec<&str> = refusal.status.reasons.iter().map(|reason| reason.as_str()).collect();
        reasons.sort_unstable();
        let mut told = serde_json::json!({ "code": code(refusal.status.code), "reasons": reasons });
        if let Some(plugin) = plugin {
            told["plugin"] = plugin.into();
        }
        refused.insert(name(refusal.place), told);
    }
    for (key, ours) in [("candidates", candidates), ("notCandidates", refused)] {
        let theirs = expected[key].as_object().cloned().unwrap_or_default();
        for (node, theirs) in &theirs {
            if ours.get(node) != Some(theirs) {
                complain(format!("{key}: {node} is {:?} instead of {theirs}", ours.get(node)));
            }
        }
        if ours.len() != theirs.len() {
            complain(format!("{key}: {} instead of {}", ours.len(), theirs.len()));
        }
    }
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Success => "Success",
        Code::Error => "Error",
        Code::Unschedulable => "Unschedulable",
        Code::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
        Code::Wait => "Wait",
        Code::Skip => "Skip",
        Code::Pending => "Pending",
    }
}
