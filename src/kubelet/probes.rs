//! Readiness, liveness and startup probes of a pod's containers.
//!
//! Follows the prober (`worker.run`, `doProbe`, `UpdatePodStatus`). A probe ticks from when its pod was first synced; ticks
//! that would find nothing to probe are left out, and so are those that would find, once more, what counts already and what
//! the runtime says will not change: a timer is set only for a tick that may matter. What a probe sees of its container is
//! the status that this kubelet last made.

use crate::api::event::EventType;
use crate::api::pod::{self, ContainerRole, ContainerState};
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, ContainerId, ProbeKind, ProbeOutcome, Ticket};

use super::agent::NodeContext;
use super::shared::Shared;
use super::tokens::Timer;
use super::worker::{Instance, Stage, Worker};

/// Written on the tickets of probes, plus the kind.
const PROBE_TICKET: u16 = 2;

const KINDS: [ProbeKind; 3] = [ProbeKind::Readiness, ProbeKind::Liveness, ProbeKind::Startup];

/// A probe of a container.
#[derive(Clone, Debug)]
pub struct Probe {
    kind: ProbeKind,
    /// A tick of its ticker.
    anchor: SimTime,
    /// The instance that the results are about.
    attempt: Option<u32>,
    /// What counts now; none before the first result.
    result: Option<bool>,
    /// The last answer, and how often in a row it came.
    last: bool,
    run: u32,
    /// Nothing is asked until there is a new instance.
    on_hold: bool,
    in_flight: bool,
    /// Asked for while one was in flight.
    triggered: bool,
    /// No tick before this time would learn anything, unless the container ends.
    quiet_until: SimTime,
    timer: Option<TimerId>,
    /// Ends this probe for good.
    stopped: bool,
}

/// The probe of a kind that a container's specification has.
fn spec_of(container: &pod::Container, kind: ProbeKind) -> Option<&pod::Probe> {
    match kind {
        ProbeKind::Readiness => container.readiness.as_ref(),
        ProbeKind::Liveness => container.liveness.as_ref(),
        ProbeKind::Startup => container.startup.as_ref(),
    }
}

impl Worker {
    /// Begins to watch the probes of all containers (`probeManager.AddPod`).
    pub fn watch_probes(&mut self, now: SimTime) {
        for index in self.indexes() {
            let spec = self.spec(index);
            if spec.role == ContainerRole::Init || self.record(index).probes.is_some() {
                continue;
            }
            let probes: Box<[Probe]> = KINDS
                .into_iter()
                .filter(|kind| spec_of(spec, *kind).is_some())
                .map(|kind| Probe {
                    kind,
                    anchor: now,
                    attempt: None,
                    result: None,
                    last: false,
                    run: 0,
                    on_hold: false,
                    in_flight: false,
                    triggered: false,
                    quiet_until: SimTime::ZERO,
                    timer: None,
                    stopped: false,
                })
                .collect();
            if !probes.is_empty() {
                self.record_mut(index).probes = Some(probes);
            }
        }
    }

    /// Takes over from the API what an earlier kubelet found about a container that still runs: a restart of the kubelet
    /// changes no readiness (`setReadyStateOnKubeletRestart`).
    pub fn believe(&mut self, index: u16, status: &pod::ContainerStatus) {
        let record = self.record_mut(index);
        let same_instance = record.container_id == status.container_id && record.instance.is_running();
        let attempt = record.instance.attempt();
        if let Some(last) = &status.last_state
            && record.last().is_none()
        {
            record.past_mut().last = Some((pod::Terminated::clone(last), SimTime::ZERO));
        }
        for probe in record.probes.iter_mut().flatten().filter(|_| same_instance) {
            let result = match probe.kind {
                ProbeKind::Readiness => Some(status.ready),
                ProbeKind::Liveness => None,
                ProbeKind::Startup => status.started.filter(|started| *started),
            };
            (probe.attempt, probe.result) = (attempt, result);
            probe.on_hold = probe.kind == ProbeKind::Startup && result == Some(true);
        }
    }

    fn probe(&self, index: u16, kind: ProbeKind) -> Option<&Probe> {
        self.record(index).probes.as_ref()?.iter().find(|probe| probe.kind == kind)
    }

    fn probe_mut(&mut self, index: u16, kind: ProbeKind) -> Option<&mut Probe> {
        self.record_mut(index).probes.as_mut()?.iter_mut().find(|probe| probe.kind == kind)
    }

    /// What counts of a probe for the newest instance; none if there is no result about it.
    fn result(&self, index: u16, kind: ProbeKind) -> Option<bool> {
        let attempt = self.record(index).instance.attempt()?;
        self.probe(index, kind).filter(|probe| probe.attempt == Some(attempt))?.result
    }

    /// True if the newest instance's probe has failed.
    pub fn probe_failed(&self, index: u16, kind: ProbeKind) -> bool {
        self.result(index, kind) == Some(false)
    }

    /// True if a running container counts as started: it has no startup probe, or that has passed.
    pub fn has_started(&self, index: u16) -> bool {
        spec_of(self.spec(index), ProbeKind::Startup).is_none() || self.result(index, ProbeKind::Startup) == Some(true)
    }

    /// True if a started container counts as ready: it has no readiness probe, or that has passed.
    pub fn is_ready(&self, index: u16) -> bool {
        spec_of(self.spec(index), ProbeKind::Readiness).is_none()
            || self.result(index, ProbeKind::Readiness) == Some(true)
    }

    /// A status was made: probes follow what it says of their containers. Containers that run and are not ready have
    /// their readiness asked for at once.
    pub fn follow_probes(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        for index in self.indexes() {
            let kinds: Vec<ProbeKind> = self.record(index).probes.iter().flatten().map(|probe| probe.kind).collect();
            for kind in kinds {
                self.follow_probe(index, kind, shared, ctx);
            }
        }
    }

    fn follow_probe(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let ending = self.stage != Stage::Running;
        let asked = self.is_asked(index, kind);
        let attempt = self.record(index).instance.attempt();
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if ending && kind != ProbeKind::Readiness {
            probe.stopped = true;
        }
        if probe.attempt != attempt && attempt.is_some() {
            (probe.attempt, probe.result, probe.on_hold) = (attempt, None, false);
            probe.quiet_until = SimTime::ZERO;
        }
        if !asked || probe.stopped || probe.on_hold {
            if let Some(timer) = probe.timer.take() {
                ctx.cancel_timer(timer);
            }
            return;
        }
        if kind == ProbeKind::Readiness && probe.result != Some(true) {
            if probe.in_flight {
                probe.triggered = true;
            } else {
                probe.anchor = ctx.now();
                self.ask(index, kind, shared, ctx);
            }
        } else {
            self.next_tick(index, kind, shared, ctx);
        }
    }

    /// True if a probe of the kind is made while the container is as the last status says.
    fn is_asked(&self, index: u16, kind: ProbeKind) -> bool {
        self.record(index).instance.is_running() && (kind == ProbeKind::Startup) != self.has_started(index)
    }

    /// Sets the timer for the probe's next tick that finds something to probe.
    fn next_tick(&mut self, index: u16, kind: ProbeKind, shared: &Shared, ctx: &mut dyn NodeContext) {
        let Some(spec) = spec_of(self.spec(index), kind) else { return };
        let period = SimDuration::from_secs(u64::from(spec.period_seconds.max(1)));
        let earliest = self.delay_over(index, spec.initial_delay_seconds, shared);
        let asked = self.is_asked(index, kind);
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if probe.timer.is_some() || probe.in_flight || !asked || probe.stopped || probe.on_hold {
            return;
        }
        let after = ctx.now() + SimDuration::from_nanos(1);
        if probe.quiet_until == SimTime::MAX {
            return;
        }
        let at = after.max(earliest).max(probe.quiet_until).next_tick(probe.anchor, period);
        let token = Timer::Probe(self.number, index, kind).token();
        let timer = ctx.set_timer(at, token);
        if let Some(probe) = self.probe_mut(index, kind) {
            probe.timer = Some(timer);
        }
    }

    /// When the initial delay is over: whole seconds counted from the start time, which the status cuts to seconds.
    fn delay_over(&self, index: u16, seconds: u32, shared: &Shared) -> SimTime {
        let Instance::Running { since, .. } = self.record(index).instance else { return SimTime::ZERO };
        let started = shared.settings.local_epoch(since).sim_time(shared.date(since));
        started + SimDuration::from_secs(u64::from(seconds))
    }

    /// A probe's tick has come.
    pub fn probe_tick(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if usize::from(index) >= self.containers.len() {
            return;
        }
        if let Some(probe) = self.probe_mut(index, kind) {
            probe.timer = None;
            if !probe.in_flight {
                self.ask(index, kind, shared, ctx);
            }
        }
    }

    /// Makes the probe now, if there is something to probe.
    fn ask(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Some(spec) = spec_of(self.spec(index), kind) else { return };
        let (handler, timeout) = (spec.handler.clone(), SimDuration::from_secs(u64::from(spec.timeout_seconds.max(1))));
        let early = ctx.now() < self.delay_over(index, spec.initial_delay_seconds, shared);
        let asked = self.is_asked(index, kind);
        let Some(attempt) = self.record(index).instance.attempt() else { return };
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if !asked || probe.stopped || probe.on_hold {
            return;
        }
        if let Some(timer) = probe.timer.take() {
            ctx.cancel_timer(timer);
        }
        if early {
            self.next_tick(index, kind, shared, ctx);
            return;
        }
        probe.in_flight = true;
        let ticket = Ticket { pod: self.number, index, number: PROBE_TICKET + kind as u16 };
        let container = ContainerId { pod: self.number, index, attempt };
        ctx.act(Action::Probe { ticket, container, kind, handler, timeout });
    }

    /// A container has ended: its probes find something else from the next tick on.
    pub fn resume_probes(&mut self, index: u16, shared: &Shared, ctx: &mut dyn NodeContext) {
        for kind in KINDS {
            let Some(probe) = self.probe_mut(index, kind).filter(|probe| probe.quiet_until > ctx.now()) else {
                continue;
            };
            probe.quiet_until = SimTime::ZERO;
            if let Some(timer) = probe.timer.take() {
                ctx.cancel_timer(timer);
            }
            self.next_tick(index, kind, shared, ctx);
        }
    }

    /// A probe was answered, and answers like it come until a time.
    pub fn probe_done(
        &mut self,
        ticket: Ticket,
        outcome: &ProbeOutcome,
        same_until: SimTime,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let index = ticket.index;
        let kind = KINDS.into_iter().find(|kind| PROBE_TICKET + *kind as u16 == ticket.number);
        let Some(kind) = kind.filter(|_| usize::from(index) < self.containers.len()) else { return };
        let Some(spec) = spec_of(self.spec(index), kind) else { return };
        let (failures, successes) = (spec.failure_threshold, spec.success_threshold);
        let Some(probe) = self.probe_mut(index, kind) else { return };
        probe.in_flight = false;
        let changed = if probe.stopped || probe.on_hold {
            false
        } else {
            match outcome {
                ProbeOutcome::Success => probe.answered(true, successes),
                ProbeOutcome::Failure(_) => probe.answered(false, failures),
                ProbeOutcome::Errored(_) => false,
            }
        };
        let settled = probe.last && probe.result == Some(true) && *outcome == ProbeOutcome::Success;
        probe.quiet_until = if settled { same_until } else { SimTime::ZERO };
        let triggered = std::mem::take(&mut probe.triggered);
        self.record_probe(index, kind, outcome, shared);
        if changed {
            self.probe_changed(index, kind, shared, ctx);
        }
        if triggered && !self.probe(index, kind).is_some_and(|probe| probe.in_flight || probe.result == Some(true)) {
            if let Some(probe) = self.probe_mut(index, kind) {
                probe.anchor = ctx.now();
            }
            self.ask(index, kind, shared, ctx);
        }
        self.next_tick(index, kind, shared, ctx);
    }

    fn record_probe(&self, index: u16, kind: ProbeKind, outcome: &ProbeOutcome, shared: &mut Shared) {
        let name = match kind {
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Startup => "Startup",
        };
        let message = match outcome {
            ProbeOutcome::Success => return,
            ProbeOutcome::Failure(output) => format!("{name} probe failed: {output}"),
            ProbeOutcome::Errored(error) => format!("{name} probe errored and resulted in unknown state: {error}"),
        };
        shared.record(self, Some(index), EventType::Warning, "Unhealthy", message);
    }

    /// What counts of a probe has changed: readiness and startup go into the API at once, then the pod is synced.
    fn probe_changed(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if kind != ProbeKind::Liveness || self.probe_failed(index, kind) {
            if kind != ProbeKind::Liveness && self.stage <= Stage::Terminating {
                let status = self.with_probe_result(index, kind, shared, ctx.now());
                self.set_status(status, shared, ctx);
            }
            self.want_sync(shared, ctx);
        }
    }

    /// The last status with what one probe now says of its container: readiness with the conditions that follow from it
    /// (`SetContainerReadiness`), a startup probe with nothing else (`SetContainerStartup`).
    fn with_probe_result(&self, index: u16, kind: ProbeKind, shared: &Shared, now: SimTime) -> pod::PodStatus {
        let mut status = self.status().clone();
        let (place, init) = (usize::from(index), self.pod.spec.init_count);
        let is_init = place < init;
        let list = if is_init { &mut status.init_containers } else { &mut status.containers };
        let mut changed: Vec<pod::ContainerStatus> = list.to_vec();
        if let Some(container) = changed.get_mut(if is_init { place } else { place - init }) {
            let started = matches!(container.state, ContainerState::Running { .. }) && self.has_started(index);
            match kind {
                ProbeKind::Readiness => container.ready = started && self.is_ready(index),
                ProbeKind::Startup | ProbeKind::Liveness => container.started = Some(started),
            }
        }
        *list = changed.into();
        if kind == ProbeKind::Readiness { self.with_conditions(status, shared, now) } else { status }
    }

    /// Nothing of the pod is probed any more.
    pub fn drop_probes(&mut self, ctx: &mut dyn NodeContext) {
        for record in &mut self.containers {
            for probe in record.probes.iter_mut().flatten() {
                probe.stopped = true;
                if let Some(timer) = probe.timer.take() {
                    ctx.cancel_timer(timer);
                }
            }
        }
    }
}

impl Probe {
    /// Counts an answer; true if what counts has changed.
    fn answered(&mut self, passed: bool, threshold: u32) -> bool {
        if self.last == passed && self.run > 0 {
            self.run += 1;
        } else {
            (self.last, self.run) = (passed, 1);
        }
        if self.run < threshold {
            return false;
        }
        // Before the first result readiness counts as failed, liveness as passed and startup as unknown.
        let before = match (self.kind, self.result) {
            (_, Some(result)) => Some(result),
            (ProbeKind::Readiness, None) => Some(false),
            (ProbeKind::Liveness, None) => Some(true),
            (ProbeKind::Startup, None) => None,
        };
        self.result = Some(passed);
        if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !passed) {
            (self.on_hold, self.run) = (true, 0);
        }
        before != Some(passed)
    }
}
