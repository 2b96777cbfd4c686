//! The pod status as it follows from what was seen: container states first, then phase and conditions.
//!
//! Follows kubelet_pods.go (`generateAPIPodStatus`, `convertToAPIContainerStatuses`) and the prober manager's
//! `UpdatePodStatus`. Never looks at what no relist has shown.

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::instance_id::InstanceId;
use crate::api::name::Name;
use crate::api::pod::{
    ContainerRole, ContainerState, ContainerStatus, PodCondition, PodConditionType, PodPhase, PodStatus, Terminated,
    Why,
};
use crate::api::shared::Shared as SharedList;
use crate::engine::time::SimTime;

use super::conditions::{self, Previous};
use super::qos;
use super::reset;
use super::shared::Shared;
use super::worker::{Instance, Worker};

/// The state of a container that was running and is nowhere to be found.
fn lost(message: &'static str) -> Rc<Terminated> {
    Rc::new(Terminated {
        exit_code: 137,
        reason: Name::of("ContainerStatusUnknown"),
        message: Some(Name::of(message)),
        started_at: None,
        finished_at: None,
        container_id: InstanceId::None,
    })
}

/// What the kubelet says of a pod that has been active for too long (kubelet, active_deadline.go).
const DEADLINE_EXCEEDED: &str = "Pod was active on the node longer than the specified deadline";

impl Worker {
    /// The status that follows from what was seen, and an event each time if it is that of a pod whose deadline has passed
    /// (`ShouldEvict`). `ended` says that no container will run any more.
    pub fn make_status(&self, shared: &mut Shared, ended: bool, now: SimTime) -> PodStatus {
        if self.deadline_passed(shared, now) {
            shared.record(self, None, EventType::Normal, "DeadlineExceeded", DEADLINE_EXCEEDED.to_owned());
        }
        self.generate_status(shared, ended, now)
    }

    /// The status that follows from what was seen. `ended` says that no container will run any more.
    pub fn generate_status(&self, shared: &Shared, ended: bool, now: SimTime) -> PodStatus {
        let old = self.status();
        let resets = self.resets(old);
        let init_containers = self.container_statuses(shared, &old.init_containers, true, resets, now);
        let containers = self.container_statuses(shared, &old.containers, false, resets, now);
        let mut status = PodStatus {
            observed_generation: self.pod.meta.generation.max(old.observed_generation),
            host_ip: Some(shared.settings.node.address),
            // Nothing but a sandbox that this kubelet has seen up gives an address (pleg, `getPodIPs`).
            pod_ip: self.sandbox.and_then(|sandbox| sandbox.address),
            start_time: old.started().unwrap_or_else(|| shared.date(now)),
            nominated_node: old.nominated_node.clone(),
            init_containers,
            containers,
            ..PodStatus::default()
        };
        if self.host_network() && status.pod_ip.is_none() {
            status.pod_ip = status.host_ip;
        }
        status.phase = self.phase(&status, old.phase, ended);
        if status.phase == old.phase {
            status.why = old.why.clone();
        }
        if self.deadline_passed(shared, now) {
            status.phase = PodPhase::Failed;
            status.why = Why::new(Some(Name::of("DeadlineExceeded")), Some(Name::of(DEADLINE_EXCEEDED)));
        }
        let status = self.with_conditions(status, shared, now);
        let mut status = self.with_resize(status, ended, shared, now);
        if let Some(disruption) = self.disruption() {
            status.conditions.insert(0, disruption.clone());
        }
        status
    }

    /// What this kubelet has said about why it ends the pod.
    fn disruption(&self) -> Option<&PodCondition> {
        let condition = self.status().condition(&PodConditionType::DisruptionTarget);
        condition.filter(|condition| condition.why.reason() == Some("TerminationByKubelet"))
    }

    /// The status with the conditions that follow from the rest of it.
    pub fn with_conditions(&self, mut status: PodStatus, shared: &Shared, now: SimTime) -> PodStatus {
        let previous = Previous { status: self.status(), generation: self.pod.meta.generation, now: shared.date(now) };
        conditions::generate(self, &mut status, &previous);
        status
    }

    /// The phase; once it is terminal it stays.
    fn phase(&self, status: &PodStatus, old: PodPhase, ended: bool) -> PodPhase {
        let terminal = |phase: PodPhase| matches!(phase, PodPhase::Succeeded | PodPhase::Failed);
        let phase = conditions::phase(self, status, ended);
        match self.in_api().status.phase {
            known if terminal(known) => known,
            _ if !terminal(phase) && terminal(old) => old,
            _ => phase,
        }
    }

    /// When `activeDeadlineSeconds` is over, if the pod has a deadline: counted from the start time in whole seconds.
    pub fn deadline(&self, shared: &Shared, now: SimTime) -> Option<SimTime> {
        let seconds = self.pod.spec.full.active_deadline_seconds?;
        let start = self.status().started()?;
        let end = crate::api::meta::Timestamp(start.0.saturating_add(seconds.max(0)));
        Some(shared.settings.local_epoch(now).sim_time(end))
    }

    fn deadline_passed(&self, shared: &Shared, now: SimTime) -> bool {
        self.deadline(shared, now).is_some_and(|end| now >= end)
    }

    fn container_statuses(
        &self,
        shared: &Shared,
        old: &SharedList<ContainerStatus>,
        init: bool,
        resets: bool,
        now: SimTime,
    ) -> SharedList<ContainerStatus> {
        let indexes: Vec<u16> = if init { self.init_indexes().collect() } else { self.main_indexes().collect() };
        let statuses = indexes.into_iter().map(|index| {
            let old = old.iter().find(|status| status.name == self.spec(index).name);
            let mut status = self.container_status(shared, index, old, resets);
            self.apply_trouble(index, &mut status);
            self.apply_probes(index, &mut status, shared, now);
            status
        });
        let mut statuses: Vec<ContainerStatus> = statuses.collect();
        if !init {
            // Init containers keep the order of the specification, others come by name (kubelet/types, `SortedContainerStatuses`).
            statuses.sort_by(|left, right| left.name.cmp(&right.name));
        }
        // What did not change stays shared with the version that the API has.
        if *statuses == **old { old.clone() } else { statuses.into() }
    }

    fn container_status(
        &self,
        shared: &Shared,
        index: u16,
        old: Option<&ContainerStatus>,
        resets: bool,
    ) -> ContainerStatus {
        let record = self.record(index);
        let last = record.last().map(|last| last.0.clone().into());
        let last = last.or_else(|| old.and_then(|old| old.last_state.clone()));
        let mut status = ContainerStatus {
            name: self.spec(index).name.clone(),
            image: self.spec(index).image.clone(),
            image_id: Name::EMPTY,
            container_id: record.container_id.clone(),
            state: ContainerState::Waiting { reason: Name::EMPTY, message: None },
            last_state: last,
            ready: false,
            started: Some(false),
            restart_count: record.instance.attempt().unwrap_or(0),
            detailed: shared.settings.profile.details,
        };
        match record.instance {
            Instance::None => return self.missing_status(index, status, old, resets),
            Instance::Created { .. } => {}
            Instance::Running { since, .. } => {
                status.state = ContainerState::Running { started_at: shared.date(since) };
            }
            Instance::Exited { .. } => {
                if let Some((terminated, _)) = record.terminated(shared) {
                    status.state = ContainerState::Terminated(terminated.into());
                }
            }
        }
        status.image = record.image.clone();
        status.image_id = if shared.settings.profile.images_present {
            Name::from(format!("fake://{}", record.image))
        } else {
            shared.puller.image(&record.image).map_or(Name::EMPTY, |image| image.id.clone())
        };
        status
    }

    /// The status of a container that the runtime does not know.
    fn missing_status(
        &self,
        index: u16,
        mut status: ContainerStatus,
        old: Option<&ContainerStatus>,
        resets: bool,
    ) -> ContainerStatus {
        if let Some(old) = old {
            let ended = matches!(old.state, ContainerState::Terminated(_));
            if resets && let Some(removed) = reset::removed(if ended { old.clone() } else { status.clone() }, old) {
                return removed;
            }
            if matches!(old.state, ContainerState::Terminated(_)) {
                return old.clone();
            }
            status.restart_count = old.restart_count;
        }
        let reason = if self.pod.spec.init_count > 0 { "PodInitializing" } else { "ContainerCreating" };
        status.state = ContainerState::Waiting { reason: Name::of(reason), message: None };
        let was_running = old.is_some_and(|old| matches!(old.state, ContainerState::Running { .. }));
        if was_running && status.last_state.is_none() {
            status.last_state = Some(lost(
                "The container could not be located when the pod was deleted.  The container used to be Running",
            ));
            let restarts = u32::from(!self.pod.meta.is_deleting());
            status.restart_count = status.restart_count.saturating_add(restarts);
        }
        let past = self.main_indexes().any(|main| self.record(main).instance != Instance::None);
        if past && self.spec(index).role == ContainerRole::Init {
            status.state = ContainerState::Terminated(Rc::new(Terminated {
                exit_code: 0,
                reason: Name::of("Completed"),
                message: Some(Name::of(
                    "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
                )),
                ..(*lost("")).clone()
            }));
        }
        status
    }

    /// A container that is to be started and could not be the last time is waiting, with the reason.
    fn apply_trouble(&self, index: u16, status: &mut ContainerStatus) {
        let record = self.record(index);
        let done =
            self.spec(index).role == ContainerRole::Init && record.instance.exit().is_some_and(|exit| exit.code == 0);
        let Some(trouble) = record.trouble().filter(|_| !done && self.should_start(index)) else { return };
        let (reason, message) = (trouble.0.clone(), trouble.1.clone());
        let message = Some(message).filter(|text| !text.is_empty()).map(Box::new);
        let waiting = ContainerState::Waiting { reason, message };
        if let ContainerState::Terminated(terminated) = std::mem::replace(&mut status.state, waiting) {
            status.last_state = Some(terminated);
        }
    }

    /// `started` and `ready` as the probes say.
    fn apply_probes(&self, index: u16, status: &mut ContainerStatus, shared: &Shared, now: SimTime) {
        let running = matches!(status.state, ContainerState::Running { .. });
        let started = running && self.has_started(index);
        status.started = Some(started);
        status.ready = match self.spec(index).role {
            ContainerRole::Init => {
                matches!(&status.state, ContainerState::Terminated(terminated) if terminated.exit_code == 0)
            }
            ContainerRole::Sidecar | ContainerRole::Main => {
                started
                    && self.is_ready(index)
                    && !shared.settings.profile.is_never_ready(&self.spec(index).image)
                    && self.stand_in_ready(index, shared, now)
            }
        };
    }

    /// Makes of a status one of a pod whose containers are gone for good (status manager, `TerminatePod`): what still
    /// waits or runs is said to be lost, and a pod that did not end well has failed.
    pub fn terminate_status(&self, status: &mut PodStatus) {
        const MESSAGE: &str = "The container could not be located when the pod was terminated";
        let end = |statuses: &[ContainerStatus], count: usize| -> SharedList<ContainerStatus> {
            let ended = statuses.iter().enumerate().map(|(place, status)| {
                let mut status = status.clone();
                if place < count && !matches!(status.state, ContainerState::Terminated(_)) {
                    status.state = ContainerState::Terminated(lost(MESSAGE));
                }
                status
            });
            ended.collect()
        };
        if conditions::initialized(self, status) {
            status.containers = end(&status.containers, status.containers.len());
        }
        let begun = |status: &ContainerStatus| {
            status.last_state.is_some() || !matches!(status.state, ContainerState::Waiting { .. })
        };
        let reached = status.init_containers.iter().rposition(begun).map_or(1, |last| last + 1);
        status.init_containers = end(&status.init_containers, reached);
        if !matches!(status.phase, PodPhase::Succeeded | PodPhase::Failed) && !qos::is_static(&self.pod) {
            status.phase = PodPhase::Failed;
        }
    }
}
