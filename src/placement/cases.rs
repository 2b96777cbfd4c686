//! Recorded cases: a cluster and a pod, or pods one after the other, answered in the form in which the real scheduler's
//! answers are recorded.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::evaluate::Evaluation;
use crate::scheduler::profile::Profile;

use super::json;
use super::snapshot::Snapshot;

/// A recorded case.
pub struct Case {
    /// The cluster.
    pub snapshot: Snapshot,
    /// The pods that are to be scheduled, in their order.
    pub pods: Vec<Rc<Pod>>,
    /// Whether they are steps of a sequence, each bound before the next.
    pub is_sequence: bool,
}

impl Case {
    /// Reads a case.
    pub fn read(mut case: Value) -> Result<Case, String> {
        let mut input = case.get_mut("input").map(Value::take).unwrap_or_default();
        let Some(input) = input.as_object_mut() else { return Err("the case has no input".to_owned()) };
        let (pods, is_sequence) = match (input.remove("pending"), input.remove("pendings")) {
            (Some(pod), None) => (vec![read_pod(pod, "pending")?], false),
            (None, Some(Value::Array(pods))) => {
                let pods = pods.into_iter().map(|pod| read_pod(pod, "pendings"));
                (pods.collect::<Result<_, String>>()?, true)
            }
            _ => return Err("the case has neither one pod as pending nor a list of them as pendings".to_owned()),
        };
        let mut snapshot = Snapshot::new(objects(std::mem::take(input))?);
        for pod in &pods {
            // A pod's own nomination is no obstacle for it, yet it is known.
            if let Some(node) = pod.status.nominated_node.as_deref().cloned() {
                snapshot.cluster.nominate(pod, &node);
            }
        }
        snapshot.cluster.refresh();
        Ok(Case { snapshot, pods, is_sequence })
    }

    /// The answer, as the case's `expected` was recorded.
    pub fn answer(&mut self, profile: &Profile) -> Value {
        let answer = match self.pods.as_slice() {
            [pod] if !self.is_sequence => json::evaluation(&Evaluation::new(profile, &self.snapshot.cluster, pod)),
            pods => {
                let steps: Vec<Value> = pods.iter().map(|pod| step(&mut self.snapshot, pod, profile)).collect();
                Map::from_iter([("steps".to_owned(), steps.into())])
            }
        };
        Value::Object(answer)
    }
}

/// The answer to the case on a line.
pub fn answer(line: &str, profile: &Profile) -> Result<Value, String> {
    let case = serde_json::from_str(line).map_err(|error| error.to_string())?;
    Ok(Case::read(case)?.answer(profile))
}

/// Reads the objects of a case: lists under the plurals of their kinds.
fn objects(input: Map<String, Value>) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for (plural, list) in input {
        let Some(kind) = Kind::all().find(|kind| kind.row().plural == plural) else {
            return Err(format!("there is no resource \"{plural}\""));
        };
        let Value::Array(list) = list else { return Err(format!("{plural} is no list")) };
        for (place, value) in list.into_iter().enumerate() {
            objects.push(Object::from_json(kind, value).map_err(|error| format!("{plural}[{place}].{error}"))?);
        }
    }
    Ok(objects)
}

fn read_pod(value: Value, field: &str) -> Result<Rc<Pod>, String> {
    match Object::from_json(Kind::Pod, value) {
        Ok(Object::Pod(pod)) => Ok(pod),
        Ok(_) => Err(format!("{field} is no pod")),
        Err(error) => Err(format!("{field}.{error}")),
    }
}

/// One pod of a sequence: it goes to the first of the best nodes by name.
fn step(snapshot: &mut Snapshot, pod: &Rc<Pod>, profile: &Profile) -> Value {
    let evaluation = Evaluation::new(profile, &snapshot.cluster, pod);
    let mut step = json!({
        "pod": format!("{}/{}", pod.meta.namespace, pod.meta.name),
        "outcome": json::outcome(&evaluation),
        "feasible": evaluation.feasible.len(),
    });
    let best: Vec<&Name> = evaluation.best.iter().map(|place| &evaluation.nodes[*place].node).collect();
    let message = json::message(&evaluation);
    if !message.is_empty() {
        step["message"] = message.into();
    }
    if let Some(chosen) = best.first() {
        step["best"] = best.iter().map(|node| node.as_str()).collect();
        step["total"] = evaluation.totals.iter().copied().max().into();
        step["chosen"] = chosen.as_str().into();
        snapshot.bind(pod, chosen);
    }
    step
}
