//! PodResize: a pod is not resized beyond what its node can give at all (kubernetes, plugin/pkg/admission/podresize).

use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::Pod;
use crate::apiserver::status::Status;

use super::Facts;

/// Lets a resized pod pass, or refuses it.
pub fn check(pod: &Pod, facts: Facts<'_>) -> Result<(), Box<Status>> {
    let Some(node) = &pod.node else { return Ok(()) };
    let Some(node) = facts.cached::<Node>(&Name::EMPTY, node) else {
        return Err(Box::new(Status::forbidden(
            Kind::Pod,
            &pod.meta.name,
            format!("node {:?} not found", node.as_str()),
        )));
    };
    let (wanted, allocatable) = (&pod.spec.requests, &node.status.allocatable);
    let rows = [("cpu", wanted.milli_cpu, allocatable.milli_cpu), ("memory", wanted.memory, allocatable.memory)];
    let lacking: Vec<String> = rows
        .into_iter()
        .filter(|(_, wanted, allocatable)| wanted > allocatable)
        .map(|(name, wanted, allocatable)| format!("{name}, requested: {wanted}, allocatable: {allocatable}"))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", lacking.join("; "));
    Err(Box::new(Status::forbidden(Kind::Pod, &pod.meta.name, why)))
}
