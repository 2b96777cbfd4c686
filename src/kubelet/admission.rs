//! Whether a pod that was bound to this node may run here (kubelet, `canAdmitPod`): room, node selector, host ports.

use crate::api::event::EventType;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodPhase, PodStatus};
use crate::api::resources::Resources;

use super::agent::NodeContext;
use super::settings::NodeSettings;
use super::shared::Shared;
use super::worker::{Stage, Worker};

/// Why a pod may not run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// In one word, such as `OutOfcpu`.
    pub reason: Name,
    /// In a sentence.
    pub message: String,
}

/// Decides about a pod beside those that are here, on a node with these labels.
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    node: &NodeSettings,
    labels: &Labels,
) -> Result<(), Rejection> {
    let mut used = Resources::default();
    let mut ports_taken = false;
    let mut count = 0;
    for other in others {
        used += &other.spec.requests;
        count += 1;
        ports_taken |=
            pod.spec.host_ports.iter().any(|port| other.spec.host_ports.iter().any(|taken| clash(port, taken)));
    }
    let wanted = &pod.spec.requests;
    let capacity = &node.allocatable;
    let rows = [
        ("pods", 1, count, capacity.pods),
        ("cpu", wanted.milli_cpu, used.milli_cpu, capacity.milli_cpu),
        ("memory", wanted.memory, used.memory, capacity.memory),
        ("ephemeral-storage", wanted.ephemeral_storage, used.ephemeral_storage, capacity.ephemeral_storage),
    ];
    for (resource, wanted, used, capacity) in rows {
        if wanted > 0 && wanted.saturating_add(used) > capacity {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(Rejection { reason: Name::from(format!("OutOf{resource}")), message });
        }
    }
    let predicate = |name: &'static str, why: &str| {
        Err(Rejection { reason: Name::of(name), message: format!("Predicate {name} failed: {why}") })
    };
    let selector = pod.spec.full.node_selector.iter().flatten();
    if selector.into_iter().any(|(key, value)| labels.get(key).is_none_or(|label| label.as_str() != value)) {
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if ports_taken {
        return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    Ok(())
}

/// True if two pods cannot both have their port.
fn clash(left: &crate::api::pod::HostPort, right: &crate::api::pod::HostPort) -> bool {
    let any = |ip: &Name| ip.is_empty() || ip == "0.0.0.0";
    left.port == right.port
        && left.protocol == right.protocol
        && (left.ip == right.ip || any(&left.ip) || any(&right.ip))
}

impl Worker {
    /// Ends a pod that may not run here: phase, reason, message and start time, nothing else.
    pub fn reject(&mut self, rejection: Rejection, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Rejection { reason, message } = rejection;
        let static_reason = match reason.as_str() {
            "OutOfcpu" => "OutOfcpu",
            "OutOfmemory" => "OutOfmemory",
            "OutOfpods" => "OutOfpods",
            "NodePorts" => "NodePorts",
            "NodeAffinity" => "NodeAffinity",
            _ => "OutOfephemeral-storage",
        };
        shared.record(self, None, EventType::Warning, static_reason, message.clone());
        self.stage = Stage::Finished;
        let status = PodStatus {
            phase: PodPhase::Failed,
            observed_generation: self.pod.meta.generation,
            reason: Some(reason),
            message: Some(Name::from(format!("Pod was rejected: {message}"))),
            start_time: Some(shared.date(ctx.now())),
            conditions: self.pod.status.conditions.clone(),
            ..PodStatus::default()
        };
        self.hold(status, true, shared, ctx);
    }
}
