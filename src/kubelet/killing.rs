//! Stopping containers: preStop hooks, the order of sidecars, SIGTERM and the grace that remains, then the sandbox.
//!
//! Follows kuberuntime (`killContainer`, `killPodWithSyncResult`, `terminationOrdering`). All containers of a pod are
//! stopped side by side inside one grace; sidecars wait for the main containers and for the sidecars after them.

use crate::api::event::EventType;
use crate::api::pod::{ContainerRole, Handler};
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, ContainerId, HookKind, ProbeKind, SandboxId, Ticket};

use super::agent::NodeContext;
use super::shared::Shared;
use super::tokens::Timer;
use super::worker::{Doing, Job, Worker};

/// Written on the tickets of hooks.
pub const HOOK_TICKET: u16 = 1;

/// Containers that are being stopped, and the sandbox that is stopped after them.
#[derive(Debug)]
pub struct Killing {
    victims: Vec<Victim>,
    sandbox: Option<SandboxId>,
    stopping_sandbox: bool,
    done: bool,
}

/// A container that is being stopped.
#[derive(Debug)]
struct Victim {
    id: ContainerId,
    role: ContainerRole,
    /// What is left of the grace, in seconds.
    grace: i64,
    state: State,
    /// When the present wait began.
    since: SimTime,
    /// Ends the present wait at the end of the grace.
    timer: Option<TimerId>,
    /// Its preStop hook has not ended, though its time is over: it fails when the container ends.
    hook_goes_on: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Runs its preStop hook.
    Hook,
    /// Waits for containers that must end before it.
    Turn,
    /// Was told to stop.
    Stopping,
    /// Has stopped.
    Stopped,
}

impl Victim {
    /// Takes the time that a wait took from the grace, in whole seconds as the kubelet counts.
    fn waited(&mut self, ctx: &mut dyn NodeContext) {
        self.grace -= ctx.now().since(self.since).as_secs() as i64;
        if let Some(timer) = self.timer.take() {
            ctx.cancel_timer(timer);
        }
    }

    fn wait(&mut self, state: State, ctx: &mut dyn NodeContext) {
        (self.state, self.since) = (state, ctx.now());
        let end = ctx.now() + seconds(self.grace);
        self.timer = Some(ctx.set_timer(end, Timer::Grace(self.id.pod, self.id.index).token()));
    }
}

fn seconds(seconds: i64) -> SimDuration {
    SimDuration::from_nanos(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000))
}

impl Killing {
    fn new(sandbox: Option<SandboxId>) -> Self {
        Killing { victims: Vec::new(), sandbox, stopping_sandbox: false, done: false }
    }

    /// True when everything has stopped.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// A container has stopped.
    pub fn stopped(&mut self, id: ContainerId, worker: &Worker, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if let Some(victim) = self.victims.iter_mut().find(|victim| victim.id == id) {
            let hook = victim.state == State::Hook || victim.hook_goes_on;
            let sleeps = matches!(worker.spec(id.index).pre_stop, Some(Handler::Sleep { .. }));
            if sleeps && victim.state == State::Hook {
                // Who sleeps does not see it, and finds the container stopped afterwards.
                return;
            }
            victim.state = State::Stopped;
            if let Some(timer) = victim.timer.take() {
                ctx.cancel_timer(timer);
            }
            if hook && !sleeps {
                let message = "PreStopHook failed".to_owned();
                shared.record(worker, Some(id.index), EventType::Warning, "FailedPreStopHook", message);
            }
        }
        self.go_on(worker, shared, ctx);
    }

    /// The sandbox is down.
    pub fn sandbox_stopped(&mut self, sandbox: SandboxId) {
        if self.stopping_sandbox && self.sandbox == Some(sandbox) {
            self.done = true;
        }
    }

    /// A preStop hook ended.
    pub fn hook_done(
        &mut self,
        index: u16,
        failed: bool,
        worker: &Worker,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let of_hook =
            |victim: &&mut Victim| victim.id.index == index && (victim.state == State::Hook || victim.hook_goes_on);
        let Some(victim) = self.victims.iter_mut().find(of_hook) else { return };
        if std::mem::take(&mut victim.hook_goes_on) {
            if failed {
                let message = "PreStopHook failed".to_owned();
                shared.record(worker, Some(index), EventType::Warning, "FailedPreStopHook", message);
            }
            return;
        }
        if failed {
            let message = "PreStopHook failed".to_owned();
            shared.record(worker, Some(index), EventType::Warning, "FailedPreStopHook", message);
        }
        victim.waited(ctx);
        victim.wait(State::Turn, ctx);
        self.go_on(worker, shared, ctx);
    }

    /// The grace of a container that still waits is over.
    pub fn grace_over(&mut self, index: u16, worker: &Worker, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let waiting = self.victims.iter_mut().find(|victim| victim.id.index == index);
        let Some(victim) = waiting.filter(|victim| matches!(victim.state, State::Hook | State::Turn)) else { return };
        victim.timer = None;
        victim.hook_goes_on = victim.state == State::Hook;
        victim.waited(ctx);
        stop(victim, shared, ctx);
        self.go_on(worker, shared, ctx);
    }

    /// Stops whose turn has come, and the sandbox when all have stopped.
    fn go_on(&mut self, worker: &Worker, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        for place in 0..self.victims.len() {
            if self.victims[place].state == State::Turn && self.may_stop(place) {
                let victim = &mut self.victims[place];
                victim.waited(ctx);
                stop(victim, shared, ctx);
            }
        }
        if self.stopping_sandbox || self.victims.iter().any(|victim| victim.state != State::Stopped) {
            return;
        }
        match self.sandbox {
            Some(sandbox) => {
                self.stopping_sandbox = true;
                ctx.act(Action::StopSandbox { sandbox });
            }
            None => self.done = true,
        }
        let _ = worker;
    }

    /// Sidecars wait for all main containers and for the sidecars that were started after them.
    fn may_stop(&self, place: usize) -> bool {
        let victim = &self.victims[place];
        victim.role != ContainerRole::Sidecar
            || self.victims.iter().all(|other| {
                other.state == State::Stopped
                    || other.id == victim.id
                    || other.role == ContainerRole::Init
                    || (other.role == ContainerRole::Sidecar && other.id.index < victim.id.index)
            })
    }
}

/// Tells a container to stop; it gets at least the minimum grace.
fn stop(victim: &mut Victim, shared: &Shared, ctx: &mut dyn NodeContext) {
    victim.state = State::Stopping;
    let grace = victim.grace.max(shared.settings.timings.minimum_grace_seconds);
    ctx.act(Action::StopContainer { container: victim.id, grace: seconds(grace) });
}

impl Worker {
    /// Begins to stop all containers that were seen running, then the sandbox. None if there is nothing to wait for.
    pub fn kill_pod(&mut self, grace: Option<i64>, shared: &mut Shared, ctx: &mut dyn NodeContext) -> Option<Killing> {
        let mut killing = Killing::new(self.sandbox.map(|sandbox| sandbox.id));
        for index in self.indexes() {
            if let Some(id) = self.instance_id(index).filter(|_| self.record(index).instance.is_running()) {
                let grace = grace.unwrap_or_else(|| self.grace(index, None));
                self.add_victim(&mut killing, id, None, grace, shared, ctx);
            }
        }
        killing.go_on(self, shared, ctx);
        (!killing.done).then_some(killing)
    }

    /// Begins to stop one container. None if it does not run.
    pub fn kill_container(
        &mut self,
        index: u16,
        message: &str,
        probe: Option<ProbeKind>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) -> Option<Killing> {
        let id = self.instance_id(index).filter(|_| self.record(index).instance.is_running())?;
        let mut killing = Killing::new(None);
        let grace = self.grace(index, probe);
        self.add_victim(&mut killing, id, Some(message), grace, shared, ctx);
        killing.go_on(self, shared, ctx);
        (!killing.done).then_some(killing)
    }

    /// Begins to stop an instance that was just started.
    pub fn kill_instance(
        &mut self,
        id: ContainerId,
        message: &str,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) -> Killing {
        let mut killing = Killing::new(None);
        let grace = self.grace(id.index, None);
        self.add_victim(&mut killing, id, Some(message), grace, shared, ctx);
        killing.go_on(self, shared, ctx);
        killing
    }

    /// Begins to stop one container at once, because all of the pod's are restarted. None if it does not run.
    pub fn kill_for_reset(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) -> Option<Killing> {
        let id = self.instance_id(index).filter(|_| self.record(index).instance.is_running())?;
        let mut killing = Killing::new(None);
        self.add_victim(&mut killing, id, Some("killing"), 0, shared, ctx);
        killing.go_on(self, shared, ctx);
        (!killing.done).then_some(killing)
    }

    /// The grace of a container: the deletion's, else the probe's that wants it stopped, else the pod's.
    fn grace(&self, index: u16, probe: Option<ProbeKind>) -> i64 {
        let spec = self.spec(index);
        let probe = match probe {
            Some(ProbeKind::Liveness) => spec.liveness.as_ref(),
            Some(ProbeKind::Startup) => spec.startup.as_ref(),
            _ => None,
        };
        let deletion = self.pod.meta.deletion.as_deref().and_then(|deletion| deletion.grace_seconds);
        deletion.or(probe.and_then(|probe| probe.grace_seconds)).unwrap_or(self.pod.spec.grace_seconds)
    }

    fn add_victim(
        &self,
        killing: &mut Killing,
        id: ContainerId,
        message: Option<&str>,
        grace: i64,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let spec = self.spec(id.index);
        let message = message.map_or_else(|| format!("Stopping container {}", spec.name), str::to_owned);
        shared.record(self, Some(id.index), EventType::Normal, "Killing", message);
        let (role, pre_stop) = (spec.role, spec.pre_stop.clone());
        let mut victim =
            Victim { id, role, grace, state: State::Turn, since: ctx.now(), timer: None, hook_goes_on: false };
        match pre_stop.filter(|_| grace > 0) {
            Some(handler) => {
                victim.wait(State::Hook, ctx);
                let ticket = Ticket { pod: self.number, index: id.index, number: HOOK_TICKET };
                ctx.act(Action::RunHook { ticket, container: id, kind: HookKind::PreStop, handler });
            }
            None if role == ContainerRole::Sidecar && grace > 0 && killing.sandbox.is_some() => {
                victim.wait(State::Turn, ctx);
            }
            None => {}
        }
        killing.victims.push(victim);
    }

    /// Lets something act on the containers that are being stopped, and goes on when all have stopped.
    pub fn on_killing(
        &mut self,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
        act: impl FnOnce(&mut Killing, &mut Worker, &mut Shared, &mut dyn NodeContext),
    ) {
        match std::mem::replace(&mut self.job, Job::Idle) {
            Job::Stopping(mut killing) => {
                act(&mut killing, self, shared, ctx);
                let done = killing.is_done();
                self.job = Job::Stopping(killing);
                if done {
                    self.all_stopped(shared, ctx);
                }
            }
            Job::Syncing(mut job) => {
                let mut doing = std::mem::take(&mut job.doing);
                let done = match &mut doing {
                    Doing::Killing(killing) | Doing::KillingAfterHook(killing) => {
                        act(killing, self, shared, ctx);
                        killing.is_done()
                    }
                    _ => false,
                };
                job.doing = if done { Doing::Nothing } else { doing };
                self.job = Job::Syncing(job);
                if done {
                    self.advance(shared, ctx);
                }
            }
            other => self.job = other,
        }
    }
}
