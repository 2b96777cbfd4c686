//! What a pass over a pod has to do: compares what is wanted with what was seen, and changes nothing.
//!
//! Follows kuberuntime (`computePodActions`, `computeInitContainerActions`).

use std::collections::VecDeque;

use crate::api::pod::{ContainerRole, RestartPolicy};
use crate::runtime::interface::ProbeKind;

use super::worker::{Instance, Step, Worker};

/// What the init containers and sidecars need.
struct InitPlan {
    /// All of them have done their part: the main containers may run.
    done: bool,
    /// One failed for good: the pod must be stopped.
    failed: bool,
    kills: Vec<Step>,
    /// To be started, in order.
    starts: Vec<u16>,
}

/// The steps that bring a pod to what is wanted.
pub fn plan(worker: &Worker) -> VecDeque<Step> {
    let reset = worker.plan_reset();
    if worker.sandbox.is_none_or(|sandbox| !sandbox.ready) {
        return if reset.is_some() { plan_sandbox_alone(worker) } else { plan_sandbox(worker) };
    }
    if let Some(steps) = reset {
        return steps;
    }
    let init = plan_init(worker);
    if init.failed {
        return VecDeque::from([Step::KillPod]);
    }
    let mut steps: VecDeque<Step> = init.kills.into();
    let mut starts = init.starts;
    if init.done {
        let mut kept = 0;
        for index in worker.main_indexes() {
            if !worker.record(index).instance.is_running() {
                if worker.should_start(index) {
                    starts.push(index);
                }
                continue;
            }
            match reason_to_kill(worker, index, "Container") {
                None => kept += 1,
                Some((message, probe, always)) => {
                    let restart = always || worker.restart_policy(index) != RestartPolicy::Never;
                    let message = if restart { format!("{message}, will be restarted") } else { message };
                    if restart {
                        starts.push(index);
                    }
                    steps.push_back(Step::KillContainer { index, message, probe });
                }
            }
        }
        let main_starts = starts.iter().any(|index| usize::from(*index) >= worker.pod.spec.init_count);
        if kept == 0 && !main_starts {
            return VecDeque::from([Step::KillPod]);
        }
    }
    steps.extend(starts.into_iter().map(Step::Start));
    steps
}

/// Without a sandbox: a new one and everything from the beginning, unless the pod has already done what it was for.
fn plan_sandbox(worker: &Worker) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    if worker.sandbox.is_some() {
        steps.push_back(Step::KillPod);
    }
    let policy = worker.pod.spec.restart_policy;
    let existed = worker.indexes().any(|index| worker.record(index).instance != Instance::None);
    if policy == RestartPolicy::Never && worker.sandbox.is_some() && existed {
        return steps;
    }
    let done = |index: u16| {
        worker.restart_policy(index) == RestartPolicy::OnFailure
            && worker.record(index).instance.exit().is_some_and(|exit| exit.code == 0)
    };
    let starts: Vec<u16> = worker.main_indexes().filter(|index| !done(*index)).collect();
    if starts.is_empty() && worker.main_indexes().any(|index| worker.record(index).instance != Instance::None) {
        return steps;
    }
    steps.push_back(Step::CreateSandbox);
    match worker.init_indexes().next() {
        Some(first) => steps.push_back(Step::Start(first)),
        None => steps.extend(starts.into_iter().map(Step::Start)),
    }
    steps
}

/// A new sandbox and no container yet: those that were there are removed by the next pass.
fn plan_sandbox_alone(worker: &Worker) -> VecDeque<Step> {
    let kill = worker.sandbox.map(|_| Step::KillPod);
    kill.into_iter().chain([Step::CreateSandbox]).collect()
}

/// Looks at init containers and sidecars from the last to the first: the last one that was ever there says how far the pod is.
fn plan_init(worker: &Worker) -> InitPlan {
    let mut plan =
        InitPlan { done: worker.pod.spec.init_count == 0, failed: false, kills: Vec::new(), starts: Vec::new() };
    if plan.done {
        return plan;
    }
    let main_there =
        |index| matches!(worker.record(index).instance, Instance::Created { .. } | Instance::Running { .. });
    let mut past = worker.main_indexes().any(main_there);
    plan.done = past;
    for index in worker.init_indexes().rev() {
        let sidecar = worker.spec(index).role == ContainerRole::Sidecar;
        if worker.record(index).instance == Instance::None {
            if past && sidecar {
                plan.starts.push(index);
            }
            continue;
        }
        if past && !sidecar {
            continue;
        }
        plan_one_init(worker, index, sidecar, past, &mut plan);
        if plan.failed {
            return plan;
        }
        past = true;
    }
    if !past {
        plan.starts.push(0);
    }
    plan.starts.reverse();
    plan
}

fn plan_one_init(worker: &Worker, index: u16, sidecar: bool, past: bool, plan: &mut InitPlan) {
    let is_last = usize::from(index) + 1 == worker.pod.spec.init_count;
    let next = |plan: &mut InitPlan| {
        if is_last {
            plan.done = true;
        } else if !past {
            plan.starts.push(index + 1);
        }
    };
    match worker.record(index).instance {
        Instance::None => {}
        Instance::Created { .. } => plan.starts.push(index),
        Instance::Running { .. } if sidecar => {
            let kill = reason_to_kill(worker, index, "Init container");
            if worker.has_started(index) {
                next(plan);
            }
            if let Some((message, probe, _)) = kill {
                plan.kills.push(Step::KillContainer { index, message, probe });
                plan.starts.push(index);
            }
        }
        Instance::Running { .. } => {}
        Instance::Exited { .. } if sidecar => plan.starts.push(index),
        Instance::Exited { exit, .. } if exit.code == 0 => next(plan),
        Instance::Exited { exit, .. } if worker.restarts(index, exit.code) => plan.starts.push(index),
        Instance::Exited { .. } => plan.failed = true,
    }
}

/// Why a running container must be stopped: the event's message, the probe that asks for it, and whether it is started
/// again in any case.
fn reason_to_kill(worker: &Worker, index: u16, what: &str) -> Option<(String, Option<ProbeKind>, bool)> {
    let name = &worker.spec(index).name;
    if worker.record(index).image != worker.spec(index).image {
        return Some((format!("{what} {name} definition changed"), None, true));
    }
    if worker.must_restart_for_resize(index) {
        return Some((format!("{what} {name} resize requires restart"), None, true));
    }
    if worker.probe_failed(index, ProbeKind::Liveness) {
        return Some((format!("{what} {name} failed liveness probe"), Some(ProbeKind::Liveness), false));
    }
    if worker.probe_failed(index, ProbeKind::Startup) {
        return Some((format!("{what} {name} failed startup probe"), Some(ProbeKind::Startup), false));
    }
    None
}
