//! One pass over a pod that runs or is to run: its status first, then its volumes, sandbox and containers, one after the other.
//!
//! Follows the kubelet's `SyncPod` and the pod worker's loop around it. At most one pass per pod is under way; what asks
//! for another one meanwhile is remembered. A pass decides on what the last relist showed, and does not begin before
//! there was a relist after the one before.

use crate::api::event::EventType;
use crate::api::pod::{ConditionStatus, PodConditionType, PodPhase};
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, Event, PodIdentity, SandboxId};

use super::actions;
use super::agent::NodeContext;
use super::killing::Killing;
use super::shared::Shared;
use super::tokens::Timer;
use super::worker::{Doing, Instance, Job, Stage, Step, Syncing, Worker};

/// How long a pass waits for volumes (volumemanager, `podAttachAndMountTimeout`).
const MOUNT_TIMEOUT: SimDuration = SimDuration::from_secs(123);

impl Worker {
    /// Asks for a pass over the pod.
    pub fn want_sync(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.wants_sync = true;
        self.try_sync(shared, ctx);
    }

    /// Begins a pass if one is wanted, none is under way and the runtime was listed since the last one.
    pub fn try_sync(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if !self.wants_sync || !matches!(self.job, Job::Idle) || self.stage == Stage::Finished {
            return;
        }
        let listed = self.last_sync == SimTime::MAX || self.fresh || shared.relist_after(self.last_sync) <= ctx.now();
        if !listed {
            shared.relist(self.number, ctx);
            return;
        }
        self.wants_sync = false;
        match self.stage {
            Stage::Running => self.sync(shared, ctx),
            Stage::Terminating => self.terminate(shared, ctx),
            Stage::Terminated => self.clean_up(shared, ctx),
            Stage::Finished => {}
        }
    }

    fn sync(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.look_at_resize(shared);
        let status = self.make_status(shared, false, ctx.now());
        let terminal = matches!(status.phase, PodPhase::Succeeded | PodPhase::Failed);
        if !shared.settings.profile.prompt_restarts || !(terminal || self.has_crashed()) {
            self.set_status(status, shared, ctx);
        }
        if terminal {
            self.stage = Stage::Terminating;
            self.wants_sync = true;
            self.end_pass(shared, ctx);
            return;
        }
        self.follow_probes(shared, ctx);
        let begun = ctx.now();
        let wait = if self.mounted { SimDuration::ZERO } else { self.wait_for_volumes(shared, ctx) };
        if wait == SimDuration::ZERO {
            self.job = Job::Syncing(Box::default());
            self.mounted(shared, ctx);
        } else {
            let timer = ctx.set_timer(begun + wait, Timer::Job(self.number).token());
            self.job = Job::Mounting { begun, timer };
        }
    }

    /// How long a pass waits for volumes, if nothing happens before: not at all for those that are mounted. The token of a new
    /// pod's service account is asked for with a request of its own, which takes a token of the bucket.
    fn wait_for_volumes(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) -> SimDuration {
        let (now, poll) = (ctx.now(), shared.settings.timings.volumes);
        let first = poll > SimDuration::ZERO && self.api_volumes().is_none() && self.claims().is_none();
        self.begin_to_mount(shared, ctx);
        self.begin_to_claim(shared, ctx);
        let there = if first && self.pod.token_volume.is_some() { shared.take_token(now) } else { now };
        if !self.all_mounted(now) {
            return MOUNT_TIMEOUT;
        }
        if !first || !self.needs_volumes() {
            return SimDuration::ZERO;
        }
        Worker::next_poll(now, there, poll).since(now)
    }

    /// True if a container has ended that is to be started again.
    fn has_crashed(&self) -> bool {
        self.main_indexes().any(|index| self.record(index).instance.exit().is_some() && self.should_start(index))
    }

    /// True if everything that has to do with the API is mounted.
    fn all_mounted(&self, now: SimTime) -> bool {
        self.sources_mounted() && self.claims_mounted(now)
    }

    /// A volume more is mounted, or will be: if it was the last one, a pass that waits sees it when it next looks.
    pub fn volumes_mounted(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let at = self.claims_mounted_at();
        if self.all_mounted(at.max(ctx.now())) {
            self.look_again_at_volumes(at, shared, ctx);
        }
    }

    /// The volumes are there: compares and begins with the first step.
    pub fn mounted(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.mounted = true;
        self.forget_claims(ctx);
        self.watch_probes(shared, ctx);
        let steps = actions::plan(self);
        if self.sandbox.is_some() && steps.contains(&Step::CreateSandbox) {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            shared.record(self, None, EventType::Normal, "SandboxChanged", message);
        }
        let resized = self.apply_resize(ctx);
        // Whether it has been done is seen by the next pass (`doPodResizeAction` sets a watch condition for that).
        self.wants_sync |= resized;
        let acted = resized || !steps.is_empty();
        self.job = Job::Syncing(Box::new(Syncing { acted, steps, ..Syncing::default() }));
        self.advance(shared, ctx);
    }

    /// Does one step after the other until one has to wait or none is left.
    pub fn advance(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        loop {
            let Job::Syncing(job) = &mut self.job else { return };
            if !matches!(job.doing, Doing::Nothing) {
                return;
            }
            match job.steps.pop_front() {
                None => {
                    self.finish_pass(shared, ctx);
                    return;
                }
                Some(Step::KillPod) => {
                    let killing = self.kill_pod(None, shared, ctx);
                    self.doing(killing.map_or(Doing::Nothing, |killing| Doing::Killing(Box::new(killing))));
                }
                Some(Step::KillContainer { index, message, probe }) => {
                    let killing = self.kill_container(index, &message, probe, shared, ctx);
                    self.doing(killing.map_or(Doing::Nothing, |killing| Doing::Killing(Box::new(killing))));
                }
                Some(Step::CreateSandbox) => self.create_sandbox(ctx),
                Some(Step::Start(index)) => self.start(index, shared, ctx),
                Some(Step::KillAtOnce(index)) => {
                    let killing = self.kill_for_reset(index, shared, ctx);
                    self.doing(killing.map_or(Doing::Nothing, |killing| Doing::Killing(Box::new(killing))));
                }
                // What was removed is started again by the next pass, which follows at once (`RestartAllContainers`).
                Some(Step::Remove(index)) => {
                    self.remove(index, ctx);
                    self.wants_sync = true;
                }
            }
        }
    }

    /// Notes what the pass is doing.
    pub fn doing(&mut self, doing: Doing) {
        if let Job::Syncing(job) = &mut self.job {
            job.doing = doing;
        }
    }

    fn create_sandbox(&mut self, ctx: &mut dyn NodeContext) {
        let attempt = self.sandbox.map_or(0, |sandbox| sandbox.id.attempt + 1);
        // Init containers run again in a new sandbox (kuberuntime, `purgeInitContainers`).
        for index in self.init_indexes() {
            self.record_mut(index).instance = Instance::None;
        }
        let sandbox = SandboxId { pod: self.number, attempt };
        let meta = &self.pod.meta;
        let (namespace, name) = (meta.namespace.clone(), meta.name.clone());
        let pod = PodIdentity { uid: meta.uid, namespace, name, spec: self.pod.spec.clone() };
        ctx.act(Action::CreateSandbox { sandbox, pod: pod.into(), host_network: self.host_network() });
        self.doing(Doing::Sandbox(sandbox));
    }

    /// A sandbox came up. The API is told at once (`OnPodSandboxReady`), from the status that it has.
    pub fn sandbox_ready(&mut self, id: SandboxId, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Job::Syncing(job) = &self.job else { return };
        if !matches!(job.doing, Doing::Sandbox(waiting) if waiting == id) {
            return;
        }
        if shared.settings.profile.sandbox_write && self.stage == Stage::Running {
            let mut status = self.status().clone();
            let ready = status.conditions.iter_mut().find(|c| c.kind == PodConditionType::PodReadyToStartContainers);
            if let Some(condition) = ready.filter(|condition| condition.status != ConditionStatus::True) {
                condition.status = ConditionStatus::True;
                condition.last_transition = shared.date(ctx.now());
                self.set_status(status, shared, ctx);
            }
        }
        self.doing(Doing::Nothing);
        self.advance(shared, ctx);
    }

    /// A sandbox could not be made: the pass is over, and tried again later.
    pub fn sandbox_failed(&mut self, id: SandboxId, message: &str, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Job::Syncing(job) = &mut self.job else { return };
        if !matches!(job.doing, Doing::Sandbox(waiting) if waiting == id) {
            return;
        }
        job.steps.clear();
        // Of a pod that ends meanwhile it is no failure (kuberuntime, `SyncPod`: `IsPodTerminationRequested`).
        if self.stage == Stage::Running {
            job.failed = true;
            let message = format!("Failed to create pod sandbox: {message}");
            shared.record(self, None, EventType::Warning, "FailedCreatePodSandBox", message);
        }
        self.doing(Doing::Nothing);
        self.advance(shared, ctx);
    }

    /// All steps are done: sees to the next pass, and lists the runtime at once if this one did something.
    fn finish_pass(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Job::Syncing(job) = std::mem::replace(&mut self.job, Job::Idle) else { return };
        let now = ctx.now();
        let prompt = shared.settings.profile.prompt_restarts;
        if prompt && job.failed && self.stage == Stage::Running {
            let status = self.make_status(shared, false, now);
            self.set_status(status, shared, ctx);
        }
        let again = job.failed.then(|| {
            // Whatever else has failed waits for the first end of a back-off too (`MinBackoffExpiration`).
            let wait = match job.back_off_until {
                Some(until) => until.since(now).min(shared.settings.timings.resync),
                None => shared.settings.timings.retry,
            };
            now + if prompt { wait } else { shared.jittered(wait) }
        });
        let deadline = if self.stage == Stage::Running { self.deadline(shared, now) } else { None };
        let ready = self.stand_in_due(shared, now);
        let next = [again, deadline.filter(|end| *end > now), ready].into_iter().flatten().min();
        shared.sync_at(self, next, ctx);
        self.last_sync = now;
        self.fresh = false;
        if job.acted && !job.failed {
            self.relisted(shared, ctx);
        } else {
            self.try_sync(shared, ctx);
        }
    }

    /// A pass ended that leads over to the next stage, or was broken off.
    pub fn end_pass(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.job = Job::Idle;
        self.last_sync = ctx.now();
        self.fresh = false;
        shared.sync_at(self, None, ctx);
        self.try_sync(shared, ctx);
    }

    /// The pod's wait is over: for its volumes, or for their end.
    pub fn job_timer(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        match self.job {
            Job::Mounting { .. } if self.all_mounted(ctx.now()) => {
                self.job = Job::Syncing(Box::default());
                self.mounted(shared, ctx);
            }
            // The pass has failed: because of a claim, or without an event if the volumes have taken too long.
            Job::Mounting { .. } => {
                self.tell_of_wrong_claims(shared, ctx.now());
                let failed = Syncing { failed: true, ..Syncing::default() };
                self.job = Job::Syncing(Box::new(failed));
                self.finish_pass(shared, ctx);
            }
            Job::Unmounting => self.finish(shared, ctx),
            _ => {}
        }
    }

    /// The pod must end. A pass that waits for volumes is broken off; one that acts on containers goes on to its end.
    pub fn begin_to_end(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.stage != Stage::Running {
            return;
        }
        self.stage = Stage::Terminating;
        self.wants_sync = true;
        if let Job::Mounting { timer, .. } = self.job {
            ctx.cancel_timer(timer);
            self.end_pass(shared, ctx);
        } else {
            self.try_sync(shared, ctx);
        }
    }

    /// Something happened to a container or sandbox of the pod.
    pub fn runtime_event(&mut self, event: Event, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        match event {
            Event::Pulled { ticket, image } => self.pulled(ticket, Ok(image), shared, ctx),
            Event::PullFailed { ticket, message } => self.pulled(ticket, Err(message), shared, ctx),
            Event::SandboxReady { sandbox, .. } => {
                self.happened(event, shared, ctx);
                self.sandbox_ready(sandbox, shared, ctx);
            }
            Event::SandboxFailed { sandbox, message } => self.sandbox_failed(sandbox, &message, shared, ctx),
            Event::Created { container } => {
                self.happened(event, shared, ctx);
                self.created(container, shared, ctx);
            }
            Event::CreateFailed { container, message } => self.create_failed(container, &message, shared, ctx),
            Event::Started { container, .. } => {
                self.happened(event, shared, ctx);
                self.started(container, shared, ctx);
            }
            Event::StartFailed { container, ref message, .. } => {
                let message = message.clone();
                self.happened(event, shared, ctx);
                self.start_failed(container, &message, shared, ctx);
            }
            Event::Exited { container, .. } => {
                self.happened(event, shared, ctx);
                self.resume_probes(container.index, shared, ctx);
                self.on_killing(shared, ctx, |killing: &mut Killing, worker, shared, ctx| {
                    killing.stopped(container, worker, shared, ctx);
                });
            }
            Event::SandboxStopped { sandbox } => {
                self.happened(event, shared, ctx);
                self.on_killing(shared, ctx, |killing, _, _, _| killing.sandbox_stopped(sandbox));
            }
            Event::ProbeDone { ticket, outcome, same_until } => {
                self.probe_done(ticket, &outcome, same_until, shared, ctx);
            }
            Event::HookDone { ticket, outcome } => self.hook_done(ticket, outcome, shared, ctx),
            Event::ImageAdded { .. }
            | Event::ImageRemoved { .. }
            | Event::SystemOom { .. }
            | Event::State(_)
            | Event::UsageChanged
            | Event::Usage(_) => {}
        }
    }

    /// When the pod is next due by itself has come.
    pub fn fell_due(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.due = SimTime::MAX;
        self.want_sync(shared, ctx);
    }
}
