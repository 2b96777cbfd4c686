//! How changes in the runtime come to be seen: the generic PLEG, computed when asked.
//!
//! The real one lists the runtime every second and compares. Here a relist takes place only for pods of which something
//! is to be seen or that wait for one, at the times at which the real one would: on the kubelet's own grid of seconds, and
//! at once after a pass over a pod that did something (`PLEGOnDemandRelist`).

use crate::api::instance_id::InstanceId;
use crate::api::name::Name;
use crate::api::pod::{ContainerRole, Terminated};
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{ContainerId, Event, Exit, ExitReason};

use super::agent::NodeContext;
use super::shared::Shared;
use super::worker::{Instance, Job, Record, Sandbox, Stage, Worker};

impl Worker {
    /// Keeps a change in the runtime until a relist shows it.
    pub fn happened(&mut self, event: Event, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.unseen.push(event);
        shared.relist(self.number, ctx);
    }

    /// A relist takes place. What it shows may ask for a pass over the pod, and a pass may have waited for it: that one goes on as
    /// soon as there is a newer list, so what the list shows asks for another one after it (pod_workers.go, `podWorkerLoop`).
    pub fn relisted(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.fresh = true;
        let waited = self.wants_sync && matches!(self.job, Job::Idle);
        let changed = self.look(shared);
        self.wants_sync |= changed;
        shared.no_relist(self.number, ctx);
        if matches!(self.job, Job::Idle) {
            self.try_sync(shared, ctx);
        }
        let ticks = shared.settings.timings.relist > SimDuration::ZERO;
        if waited && changed && ticks && self.stage == Stage::Running && self.is_unsettled() {
            self.want_sync(shared, ctx);
        }
    }

    /// True if another pass over the pod may do or say something though nothing has changed since the last one: a container is to be
    /// started, or is not ready and its probe will be triggered.
    fn is_unsettled(&self) -> bool {
        let done = |index: u16| {
            let ended = self.record(index).instance.exit();
            self.spec(index).role == ContainerRole::Init && ended.is_some_and(|exit| exit.code == 0)
        };
        self.indexes().any(|index| (self.should_start(index) && !done(index)) || self.has_unready_probe(index))
    }

    /// Takes in what happened; true if containers began or ended to run. A sandbox counts as a container, as in the PLEG.
    pub fn look(&mut self, shared: &Shared) -> bool {
        let mut changed = false;
        for event in std::mem::take(&mut self.unseen) {
            changed |= self.take_in(event, shared);
        }
        changed
    }

    fn take_in(&mut self, event: Event, shared: &Shared) -> bool {
        match event {
            Event::SandboxReady { sandbox, address } => {
                if self.sandbox.is_some_and(|seen| seen.id.attempt > sandbox.attempt) {
                    return false;
                }
                self.sandbox = Some(Sandbox { id: sandbox, ready: true, address });
                true
            }
            Event::SandboxStopped { sandbox } => {
                let stopped = self.sandbox.as_mut().filter(|seen| seen.id == sandbox && seen.ready);
                stopped.is_some_and(|seen| {
                    seen.ready = false;
                    true
                })
            }
            Event::Created { container } => {
                self.replace(container, Instance::Created { attempt: container.attempt }, shared);
                false
            }
            Event::Started { container, at } => {
                self.replace(container, Instance::Running { attempt: container.attempt, since: at }, shared);
                true
            }
            Event::StartFailed { container, at, message } => {
                let exit = Exit { code: 128, reason: ExitReason::StartError, at };
                self.replace(container, Instance::Exited { attempt: container.attempt, since: None, exit }, shared);
                if let Some(record) = self.containers.get_mut(usize::from(container.index)) {
                    record.past_mut().start_error = Some(Name::from(message));
                }
                true
            }
            Event::Exited { container, exit } => self.exited(container, exit),
            _ => false,
        }
    }

    fn exited(&mut self, container: ContainerId, exit: Exit) -> bool {
        let Some(record) = self.containers.get_mut(usize::from(container.index)) else { return false };
        match record.instance {
            Instance::Running { attempt, since } if attempt == container.attempt => {
                record.instance = Instance::Exited { attempt, since: Some(since), exit };
                true
            }
            Instance::Created { attempt } if attempt == container.attempt => {
                record.instance = Instance::Exited { attempt, since: None, exit };
                true
            }
            _ => false,
        }
    }

    /// Takes in a new state of a container; a new instance makes the one before the last one.
    fn replace(&mut self, id: ContainerId, instance: Instance, shared: &Shared) {
        let image = self.pod.spec.containers.get(usize::from(id.index)).map(|container| container.image.clone());
        let uid = self.pod.meta.uid;
        let Some(record) = self.containers.get_mut(usize::from(id.index)) else { return };
        if record.instance.attempt() != Some(id.attempt) {
            if let Some(ended) = record.terminated(shared) {
                let past = record.past_mut();
                (past.last, past.start_error) = (Some(ended), None);
            }
            record.attempts = record.attempts.max(id.attempt.saturating_add(1));
            record.image = image.unwrap_or_default();
            record.container_id = InstanceId::Made { pod: uid, index: id.index, attempt: id.attempt };
        }
        record.instance = instance;
    }
}

impl Record {
    /// How the instance ended, as the API says it, and when; none if it has not.
    pub fn terminated(&self, shared: &Shared) -> Option<(Terminated, SimTime)> {
        let Instance::Exited { since, exit, .. } = self.instance else { return None };
        let terminated = Terminated {
            exit_code: exit.code,
            reason: exit.reason.word(),
            message: self.past.as_ref().and_then(|past| past.start_error.clone()),
            started_at: since.map(|since| shared.date(since)),
            finished_at: Some(shared.date(exit.at)),
            container_id: self.container_id.clone(),
        };
        Some((terminated, exit.at))
    }
}
