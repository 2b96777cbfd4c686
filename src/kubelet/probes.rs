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
    /// The instance has been met by a tick or a trigger: from then on there is a result, if only the initial one.
    met: bool,
    /// The instance ran long before this kubelet began: what the API says of it counts until there is a result.
    carried: bool,
    /// The probe has begun; before that there is none, though an earlier kubelet had one.
    begun: bool,
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

/// How long before a kubelet began a container must have been started to be one that it only found (`kubeletRestartGracePeriod`).
const RESTART_GRACE: SimDuration = SimDuration::from_secs(10);

/// How often a probe is made.
fn period_of(spec: &pod::Probe) -> SimDuration {
    SimDuration::from_secs(u64::from(spec.period_seconds.max(1)))
}

/// The probe of a kind that a container's specification has.
fn spec_of(container: &pod::Container, kind: ProbeKind) -> Option<&pod::Probe> {
    match kind {
        ProbeKind::Readiness => container.readiness.as_ref(),
        ProbeKind::Liveness => container.liveness.as_ref(),
        ProbeKind::Startup => container.startup.as_ref(),
    }
}

impl Probe {
    fn new(kind: ProbeKind) -> Self {
        Probe {
            kind,
            anchor: SimTime::ZERO,
            attempt: None,
            result: None,
            met: false,
            carried: false,
            begun: false,
            last: false,
            run: 0,
            on_hold: false,
            in_flight: false,
            triggered: false,
            quiet_until: SimTime::ZERO,
            timer: None,
            stopped: false,
        }
    }
}

impl Worker {
    /// Begins to watch the probes of all containers (`probeManager.AddPod`). While the kubelet has not been up for a period of
    /// a probe, that one sleeps for a random part of its period first (`worker.run`).
    pub fn watch_probes(&mut self, shared: &Shared, ctx: &mut dyn NodeContext) {
        self.know_probes();
        let now = ctx.now();
        let up = now.since(shared.began);
        let uid = self.pod.meta.uid;
        for index in self.indexes() {
            for kind in KINDS {
                if self.probe(index, kind).is_none_or(|probe| probe.begun) {
                    continue;
                }
                let Some(spec) = spec_of(self.spec(index), kind) else { continue };
                let period = period_of(spec);
                let name = &self.spec(index).name;
                let sleep = || {
                    let mut stream = shared.settings.seed.stream(&format!("{uid}/{name}"), &format!("{kind:?} sleep"));
                    SimDuration::from_nanos(stream.below(period.as_nanos()))
                };
                let anchor = if period > up { now + sleep() } else { now };
                if let Some(probe) = self.probe_mut(index, kind) {
                    (probe.begun, probe.anchor) = (true, anchor);
                }
                // Of containers that ran before this kubelet began no status may follow that would ask.
                self.next_tick(index, kind, shared, ctx);
            }
        }
    }

    /// Notes which probes there are.
    fn know_probes(&mut self) {
        for index in self.indexes() {
            let spec = self.spec(index);
            if spec.role == ContainerRole::Init || self.record(index).probes.is_some() {
                continue;
            }
            let there = KINDS.into_iter().filter(|kind| spec_of(spec, *kind).is_some());
            let probes: Box<[Probe]> = there.map(Probe::new).collect();
            if !probes.is_empty() {
                self.record_mut(index).probes = Some(probes);
            }
        }
    }

    /// Takes over from the API what an earlier kubelet found about a container that still runs. A restart of the kubelet changes
    /// no readiness of one that has run for a while (`setReadyStateOnKubeletRestart`, `kubeletRestartGracePeriod`).
    pub fn believe(&mut self, index: u16, status: &pod::ContainerStatus, began: SimTime) {
        self.know_probes();
        let record = self.record_mut(index);
        let same_instance = record.container_id == status.container_id && record.instance.is_running();
        let attempt = record.instance.attempt();
        let old = matches!(record.instance, Instance::Running { since, .. } if since + RESTART_GRACE < began);
        if let Some(last) = &status.last_state
            && record.last().is_none()
        {
            record.past_mut().last = Some((pod::Terminated::clone(last), SimTime::ZERO));
        }
        for probe in record.probes.iter_mut().flatten().filter(|_| same_instance) {
            let started = status.started.filter(|started| *started && probe.kind == ProbeKind::Startup);
            (probe.attempt, probe.result, probe.carried) = (attempt, started, old);
            (probe.on_hold, probe.met) = (started.is_some(), started.is_some() || old);
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

    /// True if a container has a readiness probe that has not passed.
    pub fn has_unready_probe(&self, index: u16) -> bool {
        self.probe(index, ProbeKind::Readiness).is_some() && self.result(index, ProbeKind::Readiness) != Some(true)
    }

    /// True if the newest instance's probe has failed.
    pub fn probe_failed(&self, index: u16, kind: ProbeKind) -> bool {
        self.result(index, kind) == Some(false)
    }

    /// True if a running container counts as started: it has no startup probe, or that has passed. What the last status said of
    /// a running instance goes on for the next one until its startup probe first ticks (`isContainerStarted`).
    pub fn has_started(&self, index: u16) -> bool {
        let Some(probe) = self.probe(index, ProbeKind::Startup) else {
            return spec_of(self.spec(index), ProbeKind::Startup).is_none();
        };
        match self.result(index, ProbeKind::Startup) {
            Some(result) => result,
            None => !self.has_met(index, probe) && self.said_started(index),
        }
    }

    /// True if the last status says of a container that it runs and has started.
    fn said_started(&self, index: u16) -> bool {
        let (status, name) = (self.status(), &self.spec(index).name);
        let mut all = status.containers.iter().chain(status.init_containers.iter());
        all.find(|status| status.name == *name).is_some_and(|status| {
            status.started == Some(true) && matches!(status.state, ContainerState::Running { .. })
        })
    }

    /// True if a probe has met the newest instance of its container.
    fn has_met(&self, index: u16, probe: &Probe) -> bool {
        probe.met && probe.attempt == self.record(index).instance.attempt()
    }

    /// True if a started container counts as ready: it has no readiness probe, or that has passed. Where there is no result of
    /// this kubelet yet, a container that has run for a while is as ready as its pod is.
    pub fn is_ready(&self, index: u16) -> bool {
        let Some(probe) = self.probe(index, ProbeKind::Readiness) else {
            return spec_of(self.spec(index), ProbeKind::Readiness).is_none();
        };
        match self.result(index, ProbeKind::Readiness) {
            Some(result) => result,
            None if probe.carried && probe.attempt == self.record(index).instance.attempt() => {
                self.pod.status.is_ready()
            }
            None => !probe.begun && probe.attempt.is_some(),
        }
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
        let attempt = self.record(index).instance.attempt();
        let Some(probe) = self.probe_mut(index, kind).filter(|probe| probe.begun) else { return };
        if ending && kind != ProbeKind::Readiness {
            probe.stopped = true;
        }
        if probe.attempt != attempt && attempt.is_some() {
            (probe.attempt, probe.result, probe.on_hold) = (attempt, None, false);
            (probe.met, probe.carried) = (false, false);
            probe.quiet_until = SimTime::ZERO;
        }
        let asked = self.is_asked(index, kind) || self.finds_it_ended(index, kind);
        let running = self.record(index).instance.is_running();
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if !asked || probe.stopped || probe.on_hold {
            if let Some(timer) = probe.timer.take() {
                ctx.cancel_timer(timer);
            }
            return;
        }
        let triggered = kind == ProbeKind::Readiness && running && probe.result != Some(true);
        if triggered && (probe.in_flight || ctx.now() < probe.anchor) {
            probe.triggered = true;
        } else if triggered {
            probe.anchor = ctx.now();
            return self.ask(index, kind, shared, ctx);
        }
        self.next_tick(index, kind, shared, ctx);
    }

    /// True if a probe of the kind is made while the container is as the last status says.
    fn is_asked(&self, index: u16, kind: ProbeKind) -> bool {
        let probe = self.probe(index, kind);
        self.record(index).instance.is_running()
            && match kind {
                ProbeKind::Startup => {
                    !self.has_started(index) || probe.is_some_and(|probe| !self.has_met(index, probe))
                }
                _ => self.has_started(index),
            }
    }

    /// True if the next tick finds a container that has ended and is to be started again, and takes that for a failure that was
    /// not known before (`doProbe`: "Non-running container probed").
    fn finds_it_ended(&self, index: u16, kind: ProbeKind) -> bool {
        let Some(probe) = self.probe(index, kind) else { return false };
        self.stage == Stage::Running
            && self.record(index).instance.exit().is_some()
            && self.should_start(index)
            && probe.attempt == self.record(index).instance.attempt()
            && match kind {
                ProbeKind::Readiness => probe.result == Some(true) || !probe.met,
                ProbeKind::Liveness | ProbeKind::Startup => probe.result != Some(false),
            }
    }

    /// Sets the timer for the probe's next tick that finds something to probe.
    fn next_tick(&mut self, index: u16, kind: ProbeKind, shared: &Shared, ctx: &mut dyn NodeContext) {
        let Some(spec) = spec_of(self.spec(index), kind) else { return };
        let period = period_of(spec);
        let earliest = self.delay_over(index, spec.initial_delay_seconds, shared);
        let asked = self.is_asked(index, kind) || self.finds_it_ended(index, kind);
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
                self.try_sync(shared, ctx);
            }
        }
    }

    /// A probe meets an instance for the first time, or meets it ended: that alone may be a result, of which the pod's worker is
    /// told as of any other (`resultsManager.Set`). True if there is nothing to probe.
    fn meet(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        let ended = self.finds_it_ended(index, kind);
        let said_started = self.said_started(index);
        let Some(probe) = self.probe_mut(index, kind) else { return true };
        let first = !std::mem::replace(&mut probe.met, true);
        if ended {
            probe.result = Some(false);
            self.wants_sync = true;
            return true;
        }
        match kind {
            ProbeKind::Readiness => self.wants_sync |= first,
            ProbeKind::Startup if first && said_started => {
                let status = self.with_probe_result(index, kind, shared, ctx.now());
                self.set_status(status, shared, ctx);
                self.wants_sync = true;
                self.next_tick(index, kind, shared, ctx);
                return true;
            }
            ProbeKind::Startup | ProbeKind::Liveness => {}
        }
        false
    }

    /// Makes the probe now, if there is something to probe.
    fn ask(&mut self, index: u16, kind: ProbeKind, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Some(spec) = spec_of(self.spec(index), kind) else { return };
        let (handler, timeout) = (spec.handler.clone(), SimDuration::from_secs(u64::from(spec.timeout_seconds.max(1))));
        let early = ctx.now() < self.delay_over(index, spec.initial_delay_seconds, shared);
        let asked = self.is_asked(index, kind) || self.finds_it_ended(index, kind);
        let Some(attempt) = self.record(index).instance.attempt() else { return };
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if !asked || probe.stopped || probe.on_hold {
            return;
        }
        if let Some(timer) = probe.timer.take() {
            ctx.cancel_timer(timer);
        }
        if self.meet(index, kind, shared, ctx) {
            return;
        }
        let Some(probe) = self.probe_mut(index, kind) else { return };
        if early {
            probe.triggered = false;
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
        self.try_sync(shared, ctx);
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
        let is_init = usize::from(index) < self.pod.spec.init_count;
        let list = if is_init { &mut status.init_containers } else { &mut status.containers };
        let name = &self.spec(index).name;
        if let Some(container) = list.iter_mut().find(|status| status.name == *name) {
            let started = matches!(container.state, ContainerState::Running { .. }) && self.has_started(index);
            match kind {
                ProbeKind::Readiness => container.ready = started && self.is_ready(index),
                ProbeKind::Startup | ProbeKind::Liveness => container.started = Some(started),
            }
        }
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
        // Before the first result readiness counts as failed, liveness as passed and startup as unknown; of an instance that an
        // earlier kubelet started nothing is known.
        let before = match (self.kind, self.result) {
            (_, Some(result)) => Some(result),
            (ProbeKind::Readiness, None) if self.carried => None,
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
