//! Which pods do not run as they should when a run ends, and why.

use std::collections::BTreeMap;

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, ContainerState, ContainerStatus, Pod, PodConditionType};
use crate::cluster::truth::Truth;

/// Pods of one owner that wait for the same thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingGroup {
    /// The owner, as `ReplicaSet/web-5d8f`, or the pod itself if it has none, as `Pod/lone`.
    pub owner: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence; of the first pod.
    pub message: String,
    /// The pods, as `default/web-5d8f-x7k2p`.
    pub pods: Vec<String>,
}

/// All pods that are neither ready nor ended, grouped by owner and reason.
pub fn groups(truth: &Truth) -> Vec<PendingGroup> {
    let mut groups: BTreeMap<(String, Name), PendingGroup> = BTreeMap::new();
    for pod in truth.list(Kind::Pod).filter_map(Object::get::<Pod>) {
        let Some((reason, message)) = why(pod) else { continue };
        let owner = match pod.meta.controller() {
            Some(owner) => format!("{}/{}", owner.kind, owner.name),
            None => format!("Pod/{}", pod.meta.name),
        };
        let group = groups.entry((owner, reason)).or_insert_with_key(|(owner, reason)| PendingGroup {
            owner: owner.clone(),
            reason: reason.to_string(),
            message,
            pods: Vec::new(),
        });
        group.pods.push(format!("{}/{}", pod.meta.namespace, pod.meta.name));
    }
    groups.into_values().collect()
}

/// Why a pod does not run as it should; none if it does, or has ended.
fn why(pod: &Pod) -> Option<(Name, String)> {
    if pod.is_terminal() {
        return None;
    }
    if pod.meta.is_deleting() {
        let node = pod.node.as_deref().unwrap_or("no node");
        return Some((Name::of("Terminating"), format!("its deletion is not finished on {node}")));
    }
    if pod.status.is_ready() {
        return None;
    }
    let Some(node) = &pod.node else { return Some(unscheduled(pod)) };
    let containers = pod.status.init_containers.iter().chain(pod.status.containers.iter());
    if let Some(found) = containers.clone().find_map(waiting) {
        return Some(found);
    }
    let running = |one: &&ContainerStatus| matches!(one.state, ContainerState::Running { .. }) && !one.ready;
    match pod.status.containers.iter().find(running) {
        Some(one) => Some((Name::of("NotReady"), format!("container {} runs on {node} and is not ready", one.name))),
        None => Some((Name::of("NotStarted"), format!("the kubelet of {node} has not told of it"))),
    }
}

fn unscheduled(pod: &Pod) -> (Name, String) {
    let condition = pod.status.condition(&PodConditionType::PodScheduled);
    match condition.filter(|scheduled| scheduled.status == ConditionStatus::False) {
        Some(scheduled) => (
            scheduled.why.reason().unwrap_or("Unscheduled").into(),
            scheduled.why.message().unwrap_or_default().to_owned(),
        ),
        None => (Name::of("Unscheduled"), "the scheduler has not decided about it".to_owned()),
    }
}

fn waiting(container: &ContainerStatus) -> Option<(Name, String)> {
    match &container.state {
        ContainerState::Waiting { reason, message } => {
            let message = message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
            Some((reason.clone(), format!("container {}{message}", container.name)))
        }
        _ => None,
    }
}
