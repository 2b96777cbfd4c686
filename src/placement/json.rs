//! An [`Evaluation`] as JSON: the form in which the cases of the real scheduler are recorded. Keys whose value would be empty,
//! false or zero are left out; maps are keyed by the names of nodes.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::api::pod::Pod;
use crate::scheduler::evaluate::{Evaluation, NodeOutcome, PluginScores, Preemption, Said};
use crate::scheduler::framework::{Code, Status};

/// A code as kube-scheduler calls it.
pub fn code(code: Code) -> &'static str {
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

/// `Scheduled`, `Unschedulable` or `Gated`.
pub fn outcome(evaluation: &Evaluation) -> &'static str {
    match (&evaluation.gate, evaluation.feasible.is_empty()) {
        (Some(_), _) => "Gated",
        (None, true) => "Unschedulable",
        (None, false) => "Scheduled",
    }
}

/// Everything that an evaluation says.
pub fn evaluation(evaluation: &Evaluation) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| {
        if !is_nothing(&value) {
            all.insert(key.to_owned(), value);
        }
    };
    put("outcome", outcome(evaluation).into());
    if let Some(gate) = &evaluation.gate {
        put("preEnqueue", said(Some(gate.name), &gate.status));
        return all;
    }
    put("preFilter", pre_filter(evaluation));
    put("feasible", evaluation.feasible.iter().map(|place| evaluation.nodes[*place].node.as_str()).collect());
    put("filter", filter(evaluation));
    put("allRejections", rejections(evaluation));
    put("singleFeasibleNode", (evaluation.feasible.len() == 1).into());
    put("skippedScores", evaluation.skipped_scores.iter().copied().collect());
    put("scores", Value::Object(evaluation.scores.iter().map(|one| scores(evaluation, one)).collect()));
    put("total", by_feasible(evaluation, &evaluation.totals));
    put("best", evaluation.best.iter().map(|place| evaluation.nodes[*place].node.as_str()).collect());
    put("message", message(evaluation).into());
    put("preemption", evaluation.preemption.as_ref().map(preemption).unwrap_or_default());
    all
}

/// Why a pod goes nowhere; empty if it goes somewhere.
pub fn message(evaluation: &Evaluation) -> String {
    let unschedulable = evaluation.diagnosis.as_ref().map(|diagnosis| diagnosis.message());
    evaluation.failure.clone().or(unschedulable).unwrap_or_default()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A status with the plugin that it comes from.
fn said(plugin: Option<&str>, status: &Status) -> Value {
    let mut reasons: Vec<&str> = status.reasons.iter().map(|reason| reason.as_str()).collect();
    reasons.sort_unstable();
    let mut value = json!({"code": code(status.code), "reasons": reasons});
    if let Some(plugin) = plugin {
        value["plugin"] = plugin.into();
    }
    value
}

fn pre_filter(evaluation: &Evaluation) -> Value {
    let result = &evaluation.pre_filter;
    let mut value = match &result.rejected {
        Some(rejection) => said(rejection.plugin.map(|(_, name)| name), &rejection.status),
        None => json!({"code": "Success"}),
    };
    if let Some(nodes) = &result.nodes {
        value["nodesRestricted"] = true.into();
        if !nodes.is_empty() {
            value["nodes"] = nodes.iter().map(|node| node.as_str()).collect();
        }
    }
    if !result.skipped.is_empty() {
        value["skippedFilters"] = result.skipped.iter().copied().collect();
    }
    value
}

fn filter(evaluation: &Evaluation) -> Value {
    let nodes = evaluation.nodes.iter().filter_map(|node| {
        let value = match &node.outcome {
            NodeOutcome::Rejected(rejection) => said(Some(rejection.name), &rejection.status),
            NodeOutcome::Excluded(status) => {
                let mut value = said(None, status);
                value["excludedByPreFilter"] = true.into();
                value
            }
            NodeOutcome::Fits | NodeOutcome::NotAsked(_) => return None,
        };
        Some((node.node.to_string(), value))
    });
    Value::Object(nodes.collect())
}

fn rejections(evaluation: &Evaluation) -> Value {
    let codes = |rejections: &[Said]| -> Map<String, Value> {
        rejections.iter().map(|said| (said.name.to_owned(), code(said.status.code).into())).collect()
    };
    let nodes = evaluation.nodes.iter().filter(|node| !node.rejections.is_empty());
    Value::Object(nodes.map(|node| (node.node.to_string(), codes(&node.rejections).into())).collect())
}

fn preemption(preemption: &Preemption) -> Value {
    let code = ("code".to_owned(), code(preemption.code).into());
    let mut all = Map::from_iter([code, ("eligible".to_owned(), preemption.is_eligible.into())]);
    let mut put = |key: &str, value: Value| {
        if !is_nothing(&value) {
            all.insert(key.to_owned(), value);
        }
    };
    put("message", preemption.message.as_str().into());
    let candidates = preemption.candidates.iter().map(|(node, candidate)| {
        let name = |pod: &Rc<Pod>| format!("{}/{}", pod.meta.namespace, pod.meta.name);
        let victims: Vec<String> = candidate.victims.iter().map(name).collect();
        (node.to_string(), json!({"victims": victims, "numPDBViolations": candidate.violations}))
    });
    put("candidates", Value::Object(candidates.collect()));
    put("nominatedNodeAnyOf", preemption.best.iter().map(|node| node.as_str()).collect());
    let refused = preemption.refused.iter();
    let refused = refused.map(|(node, who, status)| (node.to_string(), said(*who, status)));
    put("notCandidates", Value::Object(refused.collect()));
    Value::Object(all)
}

fn scores(evaluation: &Evaluation, scores: &PluginScores) -> (String, Value) {
    let mut value = json!({"weight": scores.weight, "raw": by_feasible(evaluation, &scores.raw)});
    if let Some(normalized) = &scores.normalized {
        value["normalized"] = by_feasible(evaluation, normalized);
    }
    (scores.name.to_owned(), value)
}

fn by_feasible(evaluation: &Evaluation, numbers: &[i64]) -> Value {
    let names = evaluation.feasible.iter().map(|place| evaluation.nodes[*place].node.to_string());
    Value::Object(names.zip(numbers).map(|(name, number)| (name, (*number).into())).collect())
}
