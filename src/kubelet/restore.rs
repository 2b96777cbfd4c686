//! Finds the pods again that an earlier kubelet left behind: containers run on while no kubelet does.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::instance_id::InstanceId;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{Handler, PodSpec};
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{
    Action, ContainerId, ContainerRecord, Event, HookKind, PodIdentity, PodNumber, SandboxId, SandboxRecord, State,
    Ticket,
};

use super::agent::NodeContext;
use super::killing::HOOK_TICKET;
use super::shared::Shared;
use super::tokens::Timer;
use super::worker::{Instance, Sandbox, Worker};

/// What the runtime had when the kubelet began, by pod; pods that the API has take theirs out.
#[derive(Debug, Default)]
pub struct Remains {
    pods: BTreeMap<Uid, Remain>,
    strays: Vec<Stray>,
}

/// What is left of a pod that nobody knows, while it ends.
#[derive(Debug)]
struct Stray {
    running: Vec<ContainerId>,
    sandboxes: Vec<SandboxId>,
    /// What its sandbox says of it.
    pod: Option<Rc<PodIdentity>>,
    hooks: Vec<Hook>,
}

/// A preStop hook of a stray that has not ended.
#[derive(Debug)]
struct Hook {
    container: ContainerId,
    /// The container's name in the pod.
    name: Name,
    /// It sleeps: it cannot fail, and does not see that its container ends.
    sleeps: bool,
    /// Ends the wait for it; none when that is over and the container is being stopped.
    timer: Option<TimerId>,
}

/// The grace of strays (kubelet, `HandlePodCleanups`).
const STRAY_GRACE: SimDuration = SimDuration::from_secs(1);

#[derive(Debug)]
struct Remain {
    sandboxes: Vec<SandboxRecord>,
    containers: Vec<ContainerRecord>,
}

impl Remains {
    /// Sorts what the runtime has by pod.
    pub fn of(state: &State) -> Self {
        let mut pods: BTreeMap<Uid, Remain> = BTreeMap::new();
        let mut owners: BTreeMap<PodNumber, Uid> = BTreeMap::new();
        for sandbox in &state.sandboxes {
            owners.insert(sandbox.sandbox.pod, sandbox.pod.uid);
            let empty = Remain { sandboxes: Vec::new(), containers: Vec::new() };
            pods.entry(sandbox.pod.uid).or_insert(empty).sandboxes.push(sandbox.clone());
        }
        for container in &state.containers {
            let owner = owners.get(&container.container.pod);
            if let Some(remain) = owner.and_then(|uid| pods.get_mut(uid)) {
                remain.containers.push(container.clone());
            }
        }
        Remains { pods, strays: Vec::new() }
    }

    /// The number of a pod that was here before.
    pub fn number(&self, uid: Uid) -> Option<PodNumber> {
        self.pods.get(&uid)?.sandboxes.last().map(|sandbox| sandbox.sandbox.pod)
    }

    /// What a pod asked for when its sandbox was made.
    pub fn spec(&self, uid: Uid) -> Option<Rc<PodSpec>> {
        Some(self.pods.get(&uid)?.sandboxes.last()?.pod.spec.clone())
    }

    /// Gives a pod's worker what was left of the pod.
    pub fn give_back(&mut self, worker: &mut Worker, began: SimTime) {
        let Some(remain) = self.pods.remove(&worker.pod.meta.uid) else { return };
        worker.sandbox = remain.sandboxes.iter().max_by_key(|record| record.sandbox.attempt).map(|record| Sandbox {
            id: record.sandbox,
            ready: record.ready,
            address: record.address,
        });
        let uid = worker.pod.meta.uid;
        let statuses: Vec<_> = {
            let status = &worker.pod.status;
            status.init_containers.iter().chain(status.containers.iter()).cloned().collect()
        };
        for found in remain.containers {
            let id = found.container;
            let Some(record) = worker.containers.get_mut(usize::from(id.index)) else { continue };
            if record.instance.attempt().is_some_and(|attempt| attempt > id.attempt) {
                continue;
            }
            let attempt = id.attempt;
            record.instance = match (found.started, found.exit) {
                (Some(since), None) => Instance::Running { attempt, since },
                (since, Some(exit)) => Instance::Exited { attempt, since, exit },
                (None, None) => Instance::Created { attempt },
            };
            record.attempts = record.attempts.max(attempt.saturating_add(1));
            record.image = found.image;
            record.container_id = InstanceId::Made { pod: uid, index: id.index, attempt };
        }
        for index in worker.indexes() {
            if let Some(status) = statuses.iter().find(|status| status.name == worker.spec(index).name) {
                worker.believe(index, status, began);
            }
        }
    }

    /// True if something is left of pods that the API does not have.
    pub fn has_strays(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Begins to end what is left of pods that the API does not have: their containers with a grace of a second, preStop hooks
    /// first, then their sandboxes (kubelet, `HandlePodCleanups`: orphaned pods not seen before; hooks are found in the
    /// containers' labels).
    pub fn end_strays(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let minimum = shared.minimum_grace();
        for remain in std::mem::take(&mut self.pods).into_values() {
            let runs = |record: &&ContainerRecord| record.started.is_some() && record.exit.is_none();
            let running: Vec<ContainerId> =
                remain.containers.iter().filter(runs).map(|record| record.container).collect();
            let sandboxes: Vec<SandboxId> = remain.sandboxes.iter().map(|record| record.sandbox).collect();
            let pod = remain.sandboxes.last().map(|record| record.pod.clone());
            let mut stray = Stray { running, sandboxes, pod, hooks: Vec::new() };
            for container in stray.running.clone() {
                let spec = stray.pod.as_ref().map(|pod| &pod.spec);
                let known = spec.and_then(|spec| spec.containers.get(usize::from(container.index)));
                let name = known.map(|known| known.name.clone()).unwrap_or_default();
                let handler = known.and_then(|known| known.pre_stop.clone());
                let message = format!("Stopping container {name}");
                stray.record(&name, EventType::Normal, "Killing", message, shared);
                match handler {
                    Some(handler) => {
                        let sleeps = matches!(handler, Handler::Sleep { .. });
                        let ticket = Ticket { pod: container.pod, index: container.index, number: HOOK_TICKET };
                        ctx.act(Action::RunHook { ticket, container, kind: HookKind::PreStop, handler });
                        let at = ctx.now() + STRAY_GRACE;
                        let timer = Timer::StrayGrace(container.pod, container.index);
                        let timer = Some(ctx.set_timer(at, timer.token()));
                        stray.hooks.push(Hook { container, name, sleeps, timer });
                    }
                    None => ctx.act(Action::StopContainer { container, grace: minimum }),
                }
            }
            if stray.running.is_empty() {
                stray.stop_sandboxes(ctx);
            }
            self.strays.push(stray);
        }
    }

    /// The time that a stray's preStop hook may take is over: the container is stopped, and the hook goes on as long as it runs.
    pub fn stray_grace_over(&mut self, pod: PodNumber, index: u16, minimum: SimDuration, ctx: &mut dyn NodeContext) {
        let mut hooks = self.strays.iter_mut().flat_map(|stray| &mut stray.hooks);
        let Some(hook) = hooks.find(|hook| hook.container.pod == pod && hook.container.index == index) else { return };
        hook.timer = None;
        ctx.act(Action::StopContainer { container: hook.container, grace: minimum });
    }

    /// Goes on with the end of a stray of which the runtime tells something.
    pub fn hear(&mut self, event: &Event, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        match event {
            Event::HookDone { ticket, outcome } => {
                let of_ticket = |hook: &Hook| (hook.container.pod, hook.container.index) == (ticket.pod, ticket.index);
                for stray in &mut self.strays {
                    let Some(place) = stray.hooks.iter().position(of_ticket) else { continue };
                    stray.hook_ended(place, outcome.is_err(), shared, ctx);
                }
            }
            Event::Exited { container, .. } => {
                let Some(stray) = self.strays.iter_mut().find(|stray| stray.running.contains(container)) else {
                    return;
                };
                let fails = |hook: &Hook| hook.container == *container && !hook.sleeps;
                if let Some(place) = stray.hooks.iter().position(fails) {
                    stray.hook_ended(place, true, shared, ctx);
                }
                stray.running.retain(|running| running != container);
                if stray.running.is_empty() {
                    stray.stop_sandboxes(ctx);
                }
            }
            Event::SandboxStopped { sandbox } => {
                let Some(stray) = self.strays.iter_mut().find(|stray| stray.sandboxes.contains(sandbox)) else {
                    return;
                };
                stray.sandboxes.retain(|stopped| stopped != sandbox);
                ctx.act(Action::RemoveSandbox { sandbox: *sandbox });
                self.strays.retain(|stray| !stray.sandboxes.is_empty());
            }
            _ => {}
        }
    }
}

impl Stray {
    /// A preStop hook has ended: the container is stopped unless that has begun.
    fn hook_ended(&mut self, place: usize, failed: bool, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let hook = self.hooks.remove(place);
        if failed {
            let message = "PreStopHook failed".to_owned();
            self.record(&hook.name, EventType::Warning, "FailedPreStopHook", message, shared);
        }
        if let Some(timer) = hook.timer {
            ctx.cancel_timer(timer);
            ctx.act(Action::StopContainer { container: hook.container, grace: shared.minimum_grace() });
        }
    }

    fn record(&self, name: &Name, kind: EventType, reason: &'static str, message: String, shared: &mut Shared) {
        if let Some(pod) = self.pod.as_ref().filter(|_| !name.is_empty()) {
            shared.record_stray(pod, name, kind, reason, message);
        }
    }

    fn stop_sandboxes(&self, ctx: &mut dyn NodeContext) {
        for sandbox in &self.sandboxes {
            ctx.act(Action::StopSandbox { sandbox: *sandbox });
        }
    }
}
