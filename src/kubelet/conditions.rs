//! A pod's phase and its five conditions, as they follow from the containers' states.
//!
//! Follows kubelet_pods.go (`getPhase`) and status/generate.go, messages included.

use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::{
    ConditionStatus, ContainerRole, ContainerState, ContainerStatus, PodCondition, PodConditionType, PodPhase,
    PodStatus, Why,
};

use super::qos;
use super::reset;
use super::worker::{Instance, Worker};

/// What a new status is compared with.
pub struct Previous<'a> {
    /// The status before.
    pub status: &'a PodStatus,
    /// The pod's generation.
    pub generation: i64,
    /// The date.
    pub now: Timestamp,
}

/// Counts of containers by state.
#[derive(Default)]
struct Counts {
    running: u32,
    waiting: u32,
    stopped: u32,
    succeeded: u32,
    not_restartable: u32,
    pending_init: u32,
    pending_sidecars: u32,
    failed_for_good: bool,
}

/// The phase. `ended` says that no container will run any more.
pub fn phase(worker: &Worker, status: &PodStatus, ended: bool) -> PodPhase {
    let counts = count(worker, status);
    let begun = worker.main_indexes().any(|index| worker.record(index).instance != Instance::None);
    if counts.failed_for_good {
        return PodPhase::Failed;
    }
    if counts.pending_init > 0 || (counts.pending_sidecars > 0 && !begun) || counts.waiting > 0 {
        return PodPhase::Pending;
    }
    if counts.running > 0 {
        return PodPhase::Running;
    }
    if counts.stopped == 0 {
        return PodPhase::Pending;
    }
    // A static pod never comes to a terminal phase because it must end: another one may follow under its name.
    let ended = ended && !qos::is_static(&worker.pod);
    if !ended && counts.stopped != counts.not_restartable {
        return PodPhase::Running;
    }
    if counts.stopped == counts.succeeded { PodPhase::Succeeded } else { PodPhase::Failed }
}

fn count(worker: &Worker, status: &PodStatus) -> Counts {
    let mut counts = Counts::default();
    for (index, status) in worker.init_indexes().zip(status.init_containers.iter()) {
        match worker.spec(index).role {
            ContainerRole::Sidecar => count_sidecar(status, &mut counts),
            _ => count_init(worker, index, status, &mut counts),
        }
    }
    for (index, status) in worker.main_statuses(status) {
        let ended = match (&status.state, &status.last_state) {
            (ContainerState::Running { .. }, _) => {
                counts.running += 1;
                continue;
            }
            (ContainerState::Terminated(terminated), _) => {
                counts.succeeded += u32::from(terminated.exit_code == 0);
                terminated
            }
            (ContainerState::Waiting { .. }, Some(last)) => last,
            (ContainerState::Waiting { .. }, None) => {
                counts.waiting += 1;
                continue;
            }
        };
        counts.stopped += 1;
        counts.not_restartable += u32::from(!worker.restarts(index, ended.exit_code) && !reset::was_reset(ended));
    }
    counts
}

fn count_init(worker: &Worker, index: u16, status: &ContainerStatus, counts: &mut Counts) {
    let ended = match (&status.state, &status.last_state) {
        (ContainerState::Terminated(terminated), _) => terminated,
        (ContainerState::Waiting { .. }, Some(last)) => last,
        _ => {
            counts.pending_init += 1;
            return;
        }
    };
    if ended.exit_code != 0 {
        counts.failed_for_good |= !worker.restarts(index, ended.exit_code) && !reset::was_reset(ended);
    }
}

fn count_sidecar(status: &ContainerStatus, counts: &mut Counts) {
    match (&status.state, &status.last_state) {
        (ContainerState::Running { .. }, _) => {
            counts.pending_sidecars += u32::from(status.started != Some(true));
            counts.running += 1;
        }
        (ContainerState::Waiting { .. }, None) => {
            counts.pending_sidecars += 1;
            counts.waiting += 1;
        }
        _ => {}
    }
}

/// Puts the conditions into a status whose containers and phase are there, in the order in which the kubelet does: five of every
/// pod, and whether all its containers are being restarted where a rule of the pod may ask for that.
pub fn generate(worker: &Worker, status: &mut PodStatus, previous: &Previous<'_>) {
    let condition = |kind: PodConditionType, holds: bool, reason: Option<&'static str>, message: Option<String>| {
        let holds = if holds { ConditionStatus::True } else { ConditionStatus::False };
        let old = previous.status.condition(&kind).filter(|old| old.status == holds);
        PodCondition {
            kind,
            status: holds,
            why: Why::new(reason.map(Name::of), message.map(Name::from)),
            last_transition: old.map_or(previous.now, |old| old.last_transition),
            observed_generation: previous.generation,
        }
    };
    let up = worker.sandbox.is_some_and(|sandbox| sandbox.ready);
    let mut initialized = initialized_condition(worker, status);
    // A pod that was initialized stays so though its init containers run again.
    let was = previous.status.condition(&PodConditionType::Initialized);
    if !initialized.0 && was.is_some_and(|was| was.status == ConditionStatus::True) {
        initialized = (true, None, None);
    }
    let (initialized, why_not, incomplete) = initialized;
    let unready = unready(worker, status);
    let (ready, why_unready, unready) = unready.map_or((true, None, None), |(why, what)| (false, Some(why), what));
    let (gates, why_gates, gates_message) = match gates(worker) {
        Some(message) if ready => (false, Some("ReadinessGatesNotReady"), Some(message)),
        _ => (ready, why_unready, unready.clone()),
    };
    let mut conditions = vec![
        condition(PodConditionType::PodReadyToStartContainers, up, None, None),
        condition(PodConditionType::Initialized, initialized, why_not, incomplete),
        condition(PodConditionType::Ready, gates, why_gates, gates_message),
        condition(PodConditionType::ContainersReady, ready, why_unready, unready),
        condition(PodConditionType::PodScheduled, true, None, None),
    ];
    if worker.may_reset() {
        let (resets, why, message) = worker.reset_condition(status.phase, previous.status);
        let resetting = condition(reset::RESTARTING, resets, why, message);
        conditions.push(PodCondition { observed_generation: 0, ..resetting });
    }
    status.conditions = conditions.into();
}

/// `[a b]`, as Go prints a list.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn initialized_condition(worker: &Worker, status: &PodStatus) -> (bool, Option<&'static str>, Option<String>) {
    if status.phase == PodPhase::Succeeded {
        return (true, Some("PodCompleted"), None);
    }
    let begun = status.containers.iter().any(has_begun);
    let incomplete: Vec<&str> = worker
        .init_indexes()
        .zip(status.init_containers.iter())
        .filter(|(index, status)| match worker.spec(*index).role {
            ContainerRole::Sidecar => status.started != Some(true),
            _ => !status.ready,
        })
        .map(|(_, status)| status.name.as_str())
        .collect();
    if begun || incomplete.is_empty() {
        return (true, None, None);
    }
    let message = format!("containers with incomplete status: {}", list(&incomplete));
    (false, Some("ContainersNotInitialized"), Some(message))
}

/// True if a container was ever started.
fn has_begun(status: &ContainerStatus) -> bool {
    status.last_state.is_some() || !matches!(status.state, ContainerState::Waiting { .. })
}

/// Why the containers are not ready; none if they are.
fn unready(worker: &Worker, status: &PodStatus) -> Option<(&'static str, Option<String>)> {
    match status.phase {
        PodPhase::Succeeded => return Some(("PodCompleted", None)),
        PodPhase::Failed => return Some(("PodFailed", None)),
        _ => {}
    }
    let sidecars = worker.init_indexes().zip(status.init_containers.iter());
    let sidecars = sidecars.filter(|(index, _)| worker.spec(*index).role == ContainerRole::Sidecar);
    let all = sidecars.chain(worker.main_statuses(status)).map(|(_, status)| status);
    let unready: Vec<&str> = all.filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return None;
    }
    Some(("ContainersNotReady", Some(format!("containers with unready status: {}", list(&unready)))))
}

/// What is missing for the pod's readiness gates; none if nothing is.
fn gates(worker: &Worker) -> Option<String> {
    let gates = worker.pod.spec.full.readiness_gates.as_deref().unwrap_or_default();
    let missing: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let kind = PodConditionType::Other(Name::new(&gate.condition_type));
            match worker.pod.status.condition(&kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {:?} does not exist.",
                    gate.condition_type
                )),
                Some(condition) if condition.status != ConditionStatus::True => Some(format!(
                    "the status of pod readiness gate {:?} is not \"True\", but {:?}",
                    gate.condition_type, condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// True if all init containers have done their part (status manager, `hasPodInitialized`).
pub fn initialized(worker: &Worker, status: &PodStatus) -> bool {
    if worker.pod.spec.init_count == 0 || status.containers.iter().any(has_begun) {
        return true;
    }
    let last = worker.init_indexes().zip(status.init_containers.iter()).last();
    last.is_some_and(|(index, status)| match worker.spec(index).role {
        ContainerRole::Sidecar => status.started == Some(true),
        _ => {
            let ended = match &status.state {
                ContainerState::Terminated(terminated) => Some(terminated),
                _ => status.last_state.as_ref(),
            };
            ended.is_some_and(|ended| ended.exit_code == 0)
        }
    })
}
