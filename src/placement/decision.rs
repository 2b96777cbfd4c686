//! What becomes of pods that are scheduled one after the other, each seeing those placed before it.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::evaluate::Evaluation;
use crate::scheduler::profile::Profile;

use super::advice::{Advice, Change, advise, quantity};
use super::count::Count;
use super::json as form;
use super::snapshot::Snapshot;

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The pod, as `namespace/name`.
    pub pod: String,
    /// What all plugins say.
    pub evaluation: Evaluation,
    /// The node that it goes to. The scheduler draws among the best; here it is the first of them by name.
    pub chosen: Option<Name>,
    /// What would let it fit, if it fits nowhere.
    pub advice: Vec<Advice>,
}

/// Decides about a pod, and puts it on its node.
pub fn decide(profile: &Profile, snapshot: &mut Snapshot, pod: &Rc<Pod>) -> Decision {
    let evaluation = Evaluation::new(profile, &snapshot.cluster, pod);
    let chosen = evaluation.best.first().map(|place| evaluation.nodes[*place].node.clone());
    let advice = match &chosen {
        Some(node) => {
            snapshot.bind(pod, node);
            Vec::new()
        }
        None if evaluation.gate.is_some() => Vec::new(),
        None => advise(profile, snapshot, pod),
    };
    Decision { pod: format!("{}/{}", pod.meta.namespace, pod.meta.name), evaluation, chosen, advice }
}

/// Decisions as JSON: of each pod all that its evaluation says, the node that was chosen, and what would help.
pub fn to_json(decisions: &[Decision]) -> Value {
    let pods = decisions.iter().map(|decision| {
        let mut value = form::evaluation(&decision.evaluation);
        value.insert("pod".to_owned(), decision.pod.as_str().into());
        if let Some(chosen) = &decision.chosen {
            value.insert("chosen".to_owned(), chosen.as_str().into());
        }
        if decision.evaluation.diagnosis.is_some() {
            value.insert("advice".to_owned(), decision.advice.iter().map(advice_json).collect());
        }
        Value::Object(value)
    });
    json!({"pods": pods.collect::<Vec<Value>>()})
}

fn advice_json(advice: &Advice) -> Value {
    let nodes: Vec<&str> = advice.nodes.iter().map(|node| node.as_str()).collect();
    let change = match &advice.change {
        Change::AddNode { like, pool } => json!({"addNode": {"like": like.as_str(), "pool": pool}}),
        Change::Tolerate { taint, tainted } => json!({"tolerate": {"taint": taint, "tainted": tainted}}),
        Change::Uncordon { cordoned } => json!({"uncordon": {"cordoned": cordoned}}),
        Change::RequestLess { resource, amounts: [wanted, enough] } => json!({"requestLess": {
            "resource": resource.as_str(),
            "from": quantity(resource, *wanted),
            "to": quantity(resource, *enough),
        }}),
        Change::Without { field } => json!({"without": {"field": field}}),
    };
    json!({"wouldFitIf": advice.change.to_string(), "change": change, "nodes": nodes})
}

/// A count as JSON.
pub fn count_json(count: &Count) -> Value {
    let nodes = count.by_node.iter().map(|(node, copies)| (node.to_string(), (*copies).into()));
    let mut value = json!({"pod": count.pod, "copies": count.copies, "nodes": Value::Object(nodes.collect())});
    if let Some(reason) = &count.reason {
        value["reason"] = reason.as_str().into();
    }
    value
}
