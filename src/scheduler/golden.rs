//! The plugins held against the real scheduler: cases recorded from kube-scheduler 1.36, in tests/golden/scheduler.
//!
//! Each case is a cluster and a pod. Compared is what our plugins say, one by one, and the whole sentence and choice where no
//! plugin that we do not have has a say.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Outcome};
use super::class::Compiled;
use super::cluster::Cluster;
use super::framework::{Code, Normalization, Point};
use super::node_info::NodeInfo;
use super::profile::Profile;
use super::storage;
use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::random::Seed;

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
        for kind in storage::KINDS {
            for object in input[kind.row().plural].as_array().into_iter().flatten() {
                cluster.set_object(&read(kind, object));
            }
        }
        for (number, pod) in input["pods"].as_array().into_iter().flatten().enumerate() {
            if let Object::Pod(mut pod) = read(Kind::Pod, pod)
                && let Some(node) = pod.node.clone()
                && !pod.is_terminal()
            {
                Rc::make_mut(&mut pod).meta.uid = Uid(number as u128 + 1);
                cluster.see_pod(&pod, &node);
            }
        }
        cluster.refresh();
        let Object::Pod(pod) = read(Kind::Pod, &input["pending"]) else { panic!("no pod") };
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
    // What nominated pods need is added before the real filters run; we do not do that yet.
    let has_nominated =
        case.value["input"]["pods"].as_array().into_iter().flatten().any(|pod| pod["spec"]["nodeName"].is_null());
    for node in case.cluster.nodes() {
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
        if !is_ours || has_nominated {
            continue;
        }
        let Some((place, status)) = compiled.filter(node) else {
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
    let has_nominated = case.value["feature"] == "nominated-pods";
    if foreign_filter || foreign_pre_filter || foreign_score || has_nominated {
        return;
    }
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
            let whole = format!("{known} {}", preemption["message"].as_str().unwrap_or_default());
            // Where there are victims to look at, ours says nothing of preemption.
            let only_so_far = format!("{known} no new claims to deallocate");
            let says_less = ours == only_so_far;
            if ours != whole && !says_less || known.is_empty() {
                complain(format!("says {ours:?} instead of {whole:?}"));
            }
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
