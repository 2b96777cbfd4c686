//! What a pod's class of service means on its node: who is killed first, and who is not evicted.
//!
//! Follows kubelet/qos (`GetContainerOOMScoreAdjust`) and kubelet/types (`IsCriticalPod`).

use crate::api::pod::{ContainerRole, Pod, QosClass};

/// The smallest priority of system-critical pods (scheduling, `SystemCriticalPriority`).
const SYSTEM_CRITICAL: i32 = 2_000_000_000;
/// The adjustment of containers that are to be killed last.
const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;

/// True if the node cannot do without the pod: it is static, or of a system-critical priority.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || pod.spec.priority >= SYSTEM_CRITICAL
}

/// True if the pod comes from a file of the node.
pub fn is_static(pod: &Pod) -> bool {
    pod.meta.annotations.get("kubernetes.io/config.source").is_some_and(|source| source != "api")
}

/// How readily a container is killed when the node has no memory left, from -1000 to 1000.
pub fn oom_score_adjustment(pod: &Pod, index: u16, memory_capacity: i64) -> i32 {
    let spec = &pod.spec;
    let node_critical = spec.full.priority_class_name.as_deref() == Some("system-node-critical");
    let adjustment = match spec.qos {
        _ if node_critical => GUARANTEED,
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => burstable(pod, index, memory_capacity.max(1)),
    };
    i32::try_from(adjustment).unwrap_or(0)
}

/// The more of the node's memory a container requests, the less readily it is killed.
fn burstable(pod: &Pod, index: u16, capacity: i64) -> i64 {
    let containers = &pod.spec.containers;
    let Some(container) = containers.get(usize::from(index)) else { return BEST_EFFORT - 1 };
    let requested =
        |memory: i64| 1000 - i64::try_from(i128::from(memory) * 1000 / i128::from(capacity)).unwrap_or(1000);
    let mut adjustment = requested(container.requests.memory);
    if container.role == ContainerRole::Sidecar {
        // A sidecar is killed no sooner than the main containers.
        let main = containers.iter().filter(|other| other.role == ContainerRole::Main);
        let least = main.map(|other| other.requests.memory).min().unwrap_or(0);
        adjustment = adjustment.min(requested(least));
    }
    if adjustment == BEST_EFFORT { BEST_EFFORT - 1 } else { adjustment.max(1000 + GUARANTEED) }
}
