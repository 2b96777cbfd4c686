//! Restarting all containers of a pod in place because one of them ended with a code that asks for it.
//!
//! Follows the container restart rules' action `RestartAllContainers` (`ShouldAllContainersRestart`,
//! `GenerateAllContainersRestartingCondition`, `getContainersToReset`): the status says that all restart, one pass kills and removes
//! every container, the next one finds none, takes the condition back and starts the pod from its first init container on,
//! without a back-off.

use std::collections::VecDeque;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::instance_id::InstanceId;
use crate::api::name::Name;
use crate::api::pod::{
    ConditionStatus, ContainerState, ContainerStatus, PodConditionType, PodPhase, PodStatus, Terminated,
};
use crate::runtime::interface::{Action, ContainerId};

use super::agent::NodeContext;
use super::worker::{Instance, Step, Worker};

/// The condition that says that all containers are being restarted.
pub const RESTARTING: PodConditionType = PodConditionType::Other(Name::of("AllContainersRestarting"));
/// The reason of containers that were removed for it.
const REASON: &str = "RestartingAllContainers";
const MESSAGE: &str = "The container is removed because RestartAllContainers in place";
/// The action of a rule that asks for it.
const ACTION: &str = "RestartAllContainers";

/// True if a container ended because all containers of its pod were restarted: it starts again whatever its policy says.
pub fn was_reset(ended: &Terminated) -> bool {
    ended.reason == REASON
}

/// The status of a container that was removed because all are restarted; none if it was waiting before.
pub fn removed(mut status: ContainerStatus, old: &ContainerStatus) -> Option<ContainerStatus> {
    if matches!(old.state, ContainerState::Waiting { .. }) {
        return None;
    }
    status.state = ContainerState::Waiting { reason: Name::of(REASON), message: Some(Name::of(MESSAGE).into()) };
    status.last_state = Some(Rc::new(Terminated {
        exit_code: 137,
        reason: Name::of(REASON),
        message: Some(Name::of(MESSAGE)),
        started_at: None,
        finished_at: None,
        container_id: InstanceId::None,
    }));
    status.restart_count = old.restart_count + 1;
    Some(status)
}

/// True if a status says of a container that it was removed because all are restarted.
pub fn is_removed(status: &ContainerStatus) -> bool {
    matches!(&status.state, ContainerState::Waiting { reason, .. } if *reason == REASON)
}

fn is_restarting(status: &PodStatus) -> bool {
    status.condition(&RESTARTING).is_some_and(|condition| condition.status == ConditionStatus::True)
}

impl Worker {
    /// The first rule of a container that is for an exit code (podutil, `FindMatchingContainerRestartRule`).
    pub fn restart_rule(&self, index: u16, code: i32) -> Option<&core::ContainerRestartRule> {
        self.own_container(index)?.restart_policy_rules.iter().flatten().find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let among = codes.values.iter().flatten().any(|value| *value == code);
                among == (codes.operator == "In")
            })
        })
    }

    /// True if a container that ends with this code lets all containers of the pod be restarted.
    fn asks_for_reset(&self, index: u16, code: i32) -> bool {
        self.restart_rule(index, code).is_some_and(|rule| rule.action == ACTION)
    }

    /// True if a rule of the pod may let all its containers be restarted (podutil, `AllContainersCouldRestart`).
    pub fn may_reset(&self) -> bool {
        let full = &self.pod.spec.full;
        let containers = full.init_containers.iter().flatten().chain(&full.containers);
        containers
            .flat_map(|container| container.restart_policy_rules.iter().flatten())
            .any(|rule| rule.action == ACTION)
    }

    /// True if all containers are to be restarted: the status said so, or one of them ended with a code that asks for it
    /// (kubecontainer, `ShouldAllContainersRestart`).
    pub fn resets(&self, old: &PodStatus) -> bool {
        if !self.may_reset() {
            return false;
        }
        is_restarting(old)
            || self.indexes().any(|index| {
                let Some(exit) = self.record(index).instance.exit() else { return false };
                let name = &self.spec(index).name;
                let known = old.init_containers.iter().chain(old.containers.iter()).find(|status| status.name == *name);
                let in_api = known.is_some_and(|known| {
                    matches!(&known.state, ContainerState::Terminated(ended) if self.asks_for_reset(index, ended.exit_code))
                });
                self.asks_for_reset(index, exit.code) || in_api
            })
    }

    /// What `AllContainersRestarting` says of a pod that may be restarted so: whether it holds, and why.
    pub fn reset_condition(&self, phase: PodPhase, old: &PodStatus) -> (bool, Option<&'static str>, Option<String>) {
        match phase {
            PodPhase::Succeeded => return (false, Some("PodCompleted"), None),
            PodPhase::Failed => return (false, Some("PodFailed"), None),
            _ => {}
        }
        let cleaned_up = self.indexes().all(|index| self.record(index).instance == Instance::None);
        if !self.resets(old) || cleaned_up {
            return (false, None, None);
        }
        let message = "container exited with restart policy rule".to_owned();
        (true, Some("RestartAllContainersStarted"), Some(message))
    }

    /// The steps that take all containers away: main containers first, then init containers, those that asked for it last.
    /// None if the pod's status does not say that all are restarted.
    pub fn plan_reset(&self) -> Option<VecDeque<Step>> {
        if !self.may_reset() || !is_restarting(self.status()) {
            return None;
        }
        let source = |index: &u16| {
            let exit = self.record(*index).instance.exit();
            exit.is_some_and(|exit| self.asks_for_reset(*index, exit.code))
        };
        let there = |index: &u16| self.record(*index).instance != Instance::None;
        let mains = || self.main_indexes().filter(there);
        let inits = || self.init_indexes().filter(there);
        let targets = mains().chain(inits()).filter(|index| !source(index));
        let sources = mains().chain(inits()).filter(source);
        let kill = |index: u16| self.record(index).instance.is_running().then_some(Step::KillAtOnce(index));
        let steps = targets.chain(sources).flat_map(|index| kill(index).into_iter().chain([Step::Remove(index)]));
        Some(steps.collect())
    }

    /// All instances of a container are removed from the runtime; its logs stay, and with them the count of its restarts.
    pub fn remove(&mut self, index: u16, ctx: &mut dyn NodeContext) {
        let Some(newest) = self.record(index).instance.attempt() else { return };
        for attempt in newest.saturating_sub(1)..=newest {
            ctx.act(Action::RemoveContainer { container: ContainerId { pod: self.number, index, attempt } });
        }
        let record = self.record_mut(index);
        (record.instance, record.container_id) = (Instance::None, InstanceId::None);
        if let Some(past) = &mut record.past {
            (past.last, past.start_error) = (None, None);
        }
    }
}
