//! Resizing pods in place: what is set aside for a pod, what its containers run with, and what is still to be had.
//!
//! Follows the kubelet's allocation manager (`handlePodResourcesResize`, `RetryPendingResizes`) and kuberuntime
//! (`computePodResizeAction`). A resize that does not fit now waits until a pod ends; a container whose resize policy says so is
//! started again for it.

use std::fmt::Write as _;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::EventType;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Container, Pod, PodCondition, PodConditionType, PodSpec, PodStatus, Why};
use crate::api::resize::Reported;
use crate::engine::time::SimTime;
use crate::runtime::interface::{Action, ContainerId, Limits};

use super::admission::Rejection;
use super::agent::NodeContext;
use super::shared::Shared;
use super::worker::Worker;

/// The condition of a resize that waits, and of one that is being done.
const PENDING: PodConditionType = PodConditionType::Other(Name::of("PodResizePending"));
const IN_PROGRESS: PodConditionType = PodConditionType::Other(Name::of("PodResizeInProgress"));

/// A pod that was resized since this kubelet has known it.
#[derive(Clone, Debug)]
pub struct Resize {
    /// What is set aside.
    allocated: Rc<PodSpec>,
    /// What the containers run with.
    actual: Rc<PodSpec>,
    /// Why what is asked for is not set aside, as reason and message.
    pending: Option<(Name, Name)>,
    /// The generation of what is being done.
    in_progress: Option<i64>,
}

/// True if two specifications ask for other CPU or memory.
fn differ(left: &PodSpec, right: &PodSpec) -> bool {
    let of = |spec: &PodSpec| -> Vec<[i64; 4]> {
        let four =
            |one: &Container| [one.requests.milli_cpu, one.requests.memory, one.limits.milli_cpu, one.limits.memory];
        spec.containers.iter().map(four).collect()
    };
    of(left) != of(right)
}

/// What a status says of a resize that waits: reason and message.
pub fn pending(status: &PodStatus) -> Option<(Name, Name)> {
    let why = &status.condition(&PENDING)?.why;
    Some((Name::new(why.reason()?), Name::new(why.message()?)))
}

impl Worker {
    /// Takes over from an earlier kubelet that what the pod asks for is not set aside, but what it had before; true if that is so.
    pub fn resume_resize(&mut self, set_aside: &Rc<PodSpec>) -> bool {
        let Some(why) = pending(&self.pod.status).filter(|_| differ(set_aside, &self.pod.spec)) else { return false };
        let (allocated, actual) = (set_aside.clone(), set_aside.clone());
        self.rare_mut().resize = Some(Resize { allocated, actual, pending: Some(why), in_progress: None });
        true
    }

    /// What is set aside for the pod.
    pub fn allocated(&self) -> &Rc<PodSpec> {
        self.resize().map_or(&self.pod.spec, |resize| &resize.allocated)
    }

    /// True if what is asked for is not set aside.
    pub fn wants_resize(&self) -> bool {
        self.resize().is_some_and(|resize| differ(&resize.allocated, &self.pod.spec))
    }

    /// A version of the pod came that may ask for other resources than the one before; true if it does.
    pub fn note_resize(&mut self, old: &Pod) -> bool {
        if self.resize().is_none() {
            if !differ(&old.spec, &self.pod.spec) {
                return false;
            }
            let (allocated, actual) = (old.spec.clone(), old.spec.clone());
            self.rare_mut().resize = Some(Resize { allocated, actual, pending: None, in_progress: None });
        }
        self.wants_resize()
    }

    /// Sets aside what is asked for, or notes why it cannot be.
    pub fn decide_resize(&mut self, decision: Result<(), Rejection>, shared: &mut Shared) {
        let (spec, generation) = (self.pod.spec.clone(), self.pod.meta.generation);
        let Some(resize) = self.resize_mut() else { return };
        match decision {
            Ok(()) => {
                resize.allocated = spec;
                shared.room_changed();
                (resize.pending, resize.in_progress) = (None, Some(generation));
                let message = format!("Pod resize started: {}", summary(&self.pod.spec, generation, None));
                shared.record(self, None, EventType::Normal, "ResizeStarted", message);
            }
            Err(rejection) => {
                let why = (Name::of("Deferred"), Name::from(rejection.message.clone()));
                if resize.pending.as_ref() == Some(&why) {
                    return;
                }
                resize.pending = Some(why);
                let told = summary(&self.pod.spec, generation, Some(&rejection.message));
                shared.record(self, None, EventType::Warning, "ResizeDeferred", format!("Pod resize Deferred: {told}"));
            }
        }
    }

    /// Before a status is made: a resize that has been done is over.
    pub fn look_at_resize(&mut self, shared: &mut Shared) {
        let Some(resize) = self.resize_mut() else { return };
        if !differ(&resize.allocated, &resize.actual)
            && let Some(generation) = resize.in_progress.take()
        {
            let allocated = resize.allocated.clone();
            let message = format!("Pod resize completed: {}", summary(&allocated, generation, None));
            shared.record(self, None, EventType::Normal, "ResizeCompleted", message);
        }
    }

    /// The containers that must be started again for what is set aside for them.
    pub fn must_restart_for_resize(&self, index: u16) -> bool {
        let Some(resize) = self.resize() else { return false };
        let place = usize::from(index);
        let (Some(before), Some(after)) = (resize.actual.containers.get(place), resize.allocated.containers.get(place))
        else {
            return false;
        };
        let policies = self.own_container(index).and_then(|own| own.resize_policy.as_deref()).unwrap_or_default();
        let restarts = |resource: &str| {
            policies
                .iter()
                .any(|policy| policy.resource_name == resource && policy.restart_policy == "RestartContainer")
        };
        let cpu =
            before.limits.milli_cpu != after.limits.milli_cpu || before.requests.milli_cpu != after.requests.milli_cpu;
        let memory = before.limits.memory != after.limits.memory || before.requests.memory != after.requests.memory;
        (cpu && restarts("cpu")) || (memory && restarts("memory"))
    }

    /// Gives the running containers what is set aside for them; true if anything changed.
    pub fn apply_resize(&mut self, ctx: &mut dyn NodeContext) -> bool {
        let Some(resize) = self.resize().filter(|resize| differ(&resize.allocated, &resize.actual)) else {
            return false;
        };
        let allocated = resize.allocated.clone();
        for (index, container) in self.indexes().zip(&allocated.containers) {
            if let Some(id) = self.instance_id(index).filter(|_| self.record(index).instance.is_running()) {
                let limits = Limits { milli_cpu: container.limits.milli_cpu, memory: container.limits.memory };
                let container: ContainerId = id;
                ctx.act(Action::UpdateLimits { container, limits });
            }
        }
        if let Some(resize) = self.resize_mut() {
            resize.actual = allocated;
        }
        true
    }

    /// Puts into a status what is reported of a resize, and its conditions in front unless the pod has ended.
    pub fn with_resize(&self, mut status: PodStatus, ended: bool, shared: &Shared, now: SimTime) -> PodStatus {
        let Some(resize) = self.resize() else {
            status.reported.clone_from(&self.status().reported);
            return status;
        };
        status.reported = Some(Rc::new(Reported::of(&resize.allocated, &resize.actual)));
        if ended {
            return status;
        }
        let condition = |kind: PodConditionType, reason: Option<Name>, message: Option<Name>, generation: i64| {
            let old = self.status().condition(&kind).filter(|old| old.status == ConditionStatus::True);
            PodCondition {
                status: ConditionStatus::True,
                why: Why::new(reason, message),
                last_transition: old.map_or_else(|| shared.date(now), |old| old.last_transition),
                observed_generation: generation,
                kind,
            }
        };
        let mut conditions = Vec::new();
        if let Some((reason, message)) = &resize.pending {
            let generation = self.pod.meta.generation;
            conditions.push(condition(PENDING, Some(reason.clone()), Some(message.clone()), generation));
        }
        if let Some(generation) = resize.in_progress {
            conditions.push(condition(IN_PROGRESS, None, None, generation));
        }
        if !conditions.is_empty() {
            status.conditions.change(|others| {
                conditions.append(others);
                std::mem::swap(others, &mut conditions);
            });
        }
        status
    }
}

/// True if two statuses say the same of a resize.
pub fn same_resize(left: &PodStatus, right: &PodStatus) -> bool {
    left.reported == right.reported
        && [PENDING, IN_PROGRESS].iter().all(|kind| left.condition(kind) == right.condition(kind))
}

/// The resources of all containers, as the kubelet's events carry them (`makeResourceSummaryFromSpec`).
fn summary(spec: &PodSpec, generation: i64, error: Option<&str>) -> String {
    let list = |containers: &[core::Container]| {
        let one = |container: &core::Container| {
            let amounts = |list: Option<
                &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
            >| {
                let parts: Vec<String> =
                    list.into_iter().flatten().map(|(name, amount)| format!("\"{name}\":\"{}\"", amount.0)).collect();
                parts.join(",")
            };
            let resources = container.resources.clone().unwrap_or_default();
            let mut parts = Vec::new();
            for (key, list) in [("limits", resources.limits.as_ref()), ("requests", resources.requests.as_ref())] {
                if list.is_some_and(|list| !list.is_empty()) {
                    parts.push(format!("\"{key}\":{{{}}}", amounts(list)));
                }
            }
            format!("{{\"name\":\"{}\",\"resources\":{{{}}}}}", container.name, parts.join(","))
        };
        containers.iter().map(one).collect::<Vec<String>>().join(",")
    };
    let mut text = String::from("{");
    if let Some(init) = spec.full.init_containers.as_deref().filter(|init| !init.is_empty()) {
        let _ = write!(text, "\"initContainers\":[{}],", list(init));
    }
    let _ = write!(text, "\"containers\":[{}],\"generation\":{generation}", list(&spec.full.containers));
    if let Some(error) = error {
        let _ = write!(text, ",\"error\":{error:?}");
    }
    text + "}"
}
