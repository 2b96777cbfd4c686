//! Evicts pods when the node runs short of memory, disk or processes, and pods that write more than they may.
//!
//! Follows the kubelet's eviction manager (`synchronize`): thresholds, their grace, what must be reclaimed, the conditions of the
//! node with their transition period, the ranking of pods. The real one looks every 10 s. Here it looks at the same times, but
//! only while something is short or after what containers use has changed: a node on which nothing changes costs nothing.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::EventType;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, PodCondition, PodConditionType, PodPhase, PodStatus, Why};
use crate::api::quantity::{Format, Quantity};
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, NodeUsage, PodNumber, PodUsage};

use super::agent::{Kubelet, NodeContext};
use super::configuration::Configuration;
use super::qos;
use super::shared::Shared;
use super::thresholds::{Observation, Pressure, Signal, Threshold, observe};
use super::tokens::Timer;
use super::volume_stats::VolumeStats;
use super::worker::{Stage, Worker};

/// How often is looked (kubelet, `evictionMonitoringPeriod`).
const PERIOD: SimDuration = SimDuration::from_secs(10);
/// How often is looked whether an evicted pod is gone (eviction, `podCleanupPollFreq`), and how long it is waited for.
const CLEANUP_POLL: SimDuration = SimDuration::from_secs(1);
const CLEANUP_TIMEOUT: SimDuration = SimDuration::from_secs(30);
/// The grace of pods that a hard threshold or a limit evicts, in seconds (eviction, `immediateEvictionGracePeriodSeconds`).
const IMMEDIATE: i64 = 1;
/// The reason of evictions.
const EVICTED: &str = "Evicted";

/// Why a pod is evicted.
#[derive(Clone, Debug)]
pub struct Eviction {
    /// In one word.
    pub reason: Name,
    /// In a sentence.
    pub message: Name,
    /// What `DisruptionTarget` says; none if that condition is not set.
    pub condition: Option<Name>,
    /// The grace in seconds; none for the pod's own.
    pub grace: Option<i64>,
}

/// The state of the eviction manager.
#[derive(Debug, Default)]
pub struct Evictions {
    timer: Option<(SimTime, TimerId)>,
    /// A time at which it looked: the others are whole periods away.
    anchor: SimTime,
    /// Since when each threshold has been met, by its place in the configuration.
    first_met: Vec<(usize, SimTime)>,
    /// Thresholds that were met for as long as their grace, and are not settled.
    met: Vec<usize>,
    /// When each pressure was last seen.
    seen: Vec<(Pressure, SimTime)>,
    /// The pressures of the node.
    pub under: Vec<Pressure>,
    /// When volumes are measured.
    volumes: VolumeStats,
    /// Evicted pods that are waited for, and until when.
    awaited: Option<(Vec<PodNumber>, SimTime)>,
}

impl Evictions {
    /// Has not looked yet.
    pub fn new(began: SimTime) -> Self {
        Evictions { anchor: began, ..Evictions::default() }
    }

    /// Sees to it that is looked at a time, unless it will be before.
    fn look_at(&mut self, at: SimTime, ctx: &mut dyn NodeContext) {
        if let Some((due, timer)) = self.timer {
            if due <= at {
                return;
            }
            ctx.cancel_timer(timer);
        }
        self.timer = Some((at, ctx.set_timer(at, Timer::Monitor.token())));
    }

    /// What containers use has changed: it is looked at the next time at which the real one looks.
    pub fn usage_changed(&mut self, ctx: &mut dyn NodeContext) {
        if self.awaited.is_none() {
            let at = (ctx.now() + SimDuration::from_nanos(1)).next_tick(self.anchor, PERIOD);
            self.look_at(at, ctx);
        }
    }

    /// Takes in which thresholds are met; returns the places of those that must be acted on.
    fn judge(
        &mut self,
        configuration: &Configuration,
        observed: &dyn Fn(Signal) -> Observation,
        now: SimTime,
    ) -> Vec<usize> {
        let thresholds = &configuration.thresholds;
        let is_met = |place: &usize| thresholds[*place].is_met(observed(thresholds[*place].signal), false);
        let mut met: Vec<usize> = (0..thresholds.len()).filter(is_met).collect();
        for place in &self.met {
            if !met.contains(place) && thresholds[*place].is_met(observed(thresholds[*place].signal), true) {
                met.push(*place);
            }
        }
        let before = std::mem::take(&mut self.first_met);
        let since = |place: usize| before.iter().find(|(other, _)| *other == place).map_or(now, |(_, since)| *since);
        self.first_met = met.iter().map(|place| (*place, since(*place))).collect();
        for place in &met {
            let pressure = thresholds[*place].signal.pressure();
            self.seen.retain(|(other, _)| *other != pressure);
            self.seen.push((pressure, now));
        }
        self.seen.sort_unstable();
        let recent = |(_, seen): &&(Pressure, SimTime)| now.since(*seen) < configuration.pressure_transition;
        self.under = self.seen.iter().filter(recent).map(|(pressure, _)| *pressure).collect();
        let over = |(place, since): &&(usize, SimTime)| now.since(*since) >= thresholds[*place].grace;
        self.met = self.first_met.iter().filter(over).map(|(place, _)| *place).collect();
        let mut must: Vec<usize> = self.met.clone();
        // Memory comes before all others (`byEvictionPriority`).
        must.sort_by_key(|place| (thresholds[*place].signal.pressure() != Pressure::Memory, *place));
        must
    }
}

impl Kubelet {
    /// It is time to look. An evicted pod is waited for first.
    pub(super) fn monitor(&mut self, ctx: &mut dyn NodeContext) {
        self.evictions.timer = None;
        if let Some((pods, until)) = &self.evictions.awaited {
            let gone =
                |number: &PodNumber| self.workers.get(number).is_none_or(|worker| worker.stage == Stage::Finished);
            if !pods.iter().all(gone) && ctx.now() < *until {
                self.evictions.look_at(ctx.now() + CLEANUP_POLL, ctx);
                return;
            }
            self.evictions.awaited = None;
        }
        let volumes_at = self.measured_volumes(ctx.now());
        ctx.act(Action::ReadUsage { volumes_at });
    }

    /// When the volumes of each pod that has any of its own were last measured.
    fn measured_volumes(&mut self, now: SimTime) -> Vec<(PodNumber, SimTime)> {
        let writes = |worker: &&Worker| worker.could_have_running_containers() && writes_volumes(&worker.pod.spec.full);
        let pods: Vec<(PodNumber, Uid, SimTime)> = self
            .workers
            .values()
            .map(Box::as_ref)
            .filter(writes)
            .map(|worker| (worker.number, worker.pod.meta.uid, worker.known_since))
            .collect();
        let (seed, began) = (self.shared.settings.seed, self.shared.began);
        self.evictions.volumes.keep(&pods, seed, began);
        pods.iter().filter_map(|(pod, ..)| Some((*pod, self.evictions.volumes.last(*pod, now)?))).collect()
    }

    /// What is used has been read: looks at thresholds and limits.
    pub(super) fn usage_read(&mut self, usage: &NodeUsage, ctx: &mut dyn NodeContext) {
        let now = ctx.now();
        self.evictions.anchor = now;
        let settings = self.shared.settings.clone();
        let configuration = &settings.configuration;
        let observed = |usage: &NodeUsage, signal: Signal| {
            let capacity = &settings.node.capacity;
            observe(signal, usage, capacity, &configuration.reserved, configuration.counts(capacity))
        };
        let must = self.evictions.judge(configuration, &|signal| observed(usage, signal), now);
        self.node.pressures_changed(&self.evictions.under, &self.shared, ctx);
        self.look_again(usage, ctx);
        let evicted = self.evict_for_limits(usage, ctx);
        if !evicted.is_empty() {
            return self.wait_for(evicted, ctx);
        }
        let Some(first) = must.first() else { return };
        let threshold = configuration.thresholds[*first];
        let resource = threshold.signal.resource();
        let message = format!("Attempting to reclaim {resource}");
        self.shared.record_node(EventType::Warning, "EvictionThresholdMet", message);
        if threshold.signal.pressure() == Pressure::Disk {
            let mut left = usage.clone();
            let freed = self.delete_unused_images(ctx);
            left.disk = left.disk.saturating_sub(freed);
            let still = |one: &Threshold| one.is_met(observed(&left, one.signal), true);
            if !configuration.thresholds.iter().any(still) {
                return;
            }
        }
        let met = must.iter().map(|place| configuration.thresholds[*place]);
        let met = met.into_iter().find(|one| one.signal.resource() == resource);
        let about = met.map(|one| (one, observed(usage, one.signal)));
        self.evict_one(&threshold, about, usage, ctx);
    }

    /// When to look again: every period while something is short, else when what is used changes.
    fn look_again(&mut self, usage: &NodeUsage, ctx: &mut dyn NodeContext) {
        let now = ctx.now();
        let after = |time: SimTime| time.max(now + SimDuration::from_nanos(1)).next_tick(now, PERIOD);
        let evictions = &mut self.evictions;
        if !evictions.first_met.is_empty() || !evictions.under.is_empty() {
            return evictions.look_at(now + PERIOD, ctx);
        }
        let unmeasured = usage.pods.iter().filter_map(|pod| Some((pod.pod, pod.next_volume_change?)));
        let measured = unmeasured.filter_map(|(pod, change)| evictions.volumes.next(pod, change.max(now)));
        if let Some(change) = usage.next_change.into_iter().chain(measured).min() {
            evictions.look_at(after(change), ctx);
        }
    }

    fn wait_for(&mut self, pods: Vec<PodNumber>, ctx: &mut dyn NodeContext) {
        self.evictions.awaited = Some((pods, ctx.now() + CLEANUP_TIMEOUT));
        self.evictions.look_at(ctx.now() + CLEANUP_POLL, ctx);
    }

    /// Evicts pods that wrote more than they may (`localStorageEviction`).
    fn evict_for_limits(&mut self, usage: &NodeUsage, ctx: &mut dyn NodeContext) -> Vec<PodNumber> {
        let mut evicted = Vec::new();
        for used in &usage.pods {
            let Some(worker) = self.workers.get_mut(&used.pod).filter(|worker| worker.stage == Stage::Running) else {
                continue;
            };
            let Some(message) = beyond_limit(worker, used).filter(|_| !qos::is_critical(&worker.pod)) else { continue };
            worker.evict(message, Some(IMMEDIATE), false, &mut self.shared, ctx);
            evicted.push(used.pod);
        }
        evicted
    }

    /// Evicts the pod that ranks first; at most one at a time.
    fn evict_one(
        &mut self,
        threshold: &Threshold,
        about: Option<(Threshold, Observation)>,
        usage: &NodeUsage,
        ctx: &mut dyn NodeContext,
    ) {
        let resource = threshold.signal.resource();
        let nothing =
            |pod: PodNumber| PodUsage { pod, containers: Vec::new(), volumes: Vec::new(), next_volume_change: None };
        let used = |pod: PodNumber| usage.pods.iter().find(|used| used.pod == pod);
        let active = self.workers.values().filter(|worker| worker.could_have_running_containers());
        let mut ranked: Vec<(bool, i32, Reverse<i64>, PodNumber)> = active
            .map(|worker| rank(worker, threshold.signal, used(worker.number).unwrap_or(&nothing(worker.number))))
            .collect();
        ranked.sort_unstable();
        let longest = self.shared.settings.configuration.longest_eviction_grace;
        for (.., number) in ranked {
            let Some(worker) = self.workers.get_mut(&number).filter(|worker| !qos::is_critical(&worker.pod)) else {
                continue;
            };
            let hard = threshold.grace == SimDuration::ZERO;
            let grace = if hard { IMMEDIATE } else { longest.min(worker.pod.spec.grace_seconds) };
            let message = eviction_message(resource, worker, used(number), about);
            worker.evict(message, Some(grace), true, &mut self.shared, ctx);
            return self.wait_for(vec![number], ctx);
        }
    }
}

/// True if a pod has volumes that are files on its node.
fn writes_volumes(spec: &core::PodSpec) -> bool {
    spec.volumes.iter().flatten().any(|volume| volume.empty_dir.is_some())
}

/// What decides which pod is evicted first: those that use more than they requested, then the lower priority, then who is
/// furthest above his request (`rankMemoryPressure`, `rankDiskPressureFunc`, `rankPIDPressure`).
fn rank(worker: &Worker, signal: Signal, used: &PodUsage) -> (bool, i32, Reverse<i64>, PodNumber) {
    let requests = &worker.pod.spec.requests;
    let priority = worker.pod.spec.priority;
    let bytes = |used: u64| i64::try_from(used).unwrap_or(i64::MAX);
    let (above, within) = match signal.pressure() {
        Pressure::Memory => {
            let used = bytes(used.memory());
            (used.saturating_sub(requests.memory), used <= requests.memory)
        }
        Pressure::Disk if signal.resource() == "inodes" => {
            // Nobody can request inodes; what is requested of the disk is taken off all the same.
            let used = bytes(used.inodes());
            (used.saturating_sub(requests.ephemeral_storage), used <= 0)
        }
        Pressure::Disk => {
            let used = bytes(used.disk());
            (used.saturating_sub(requests.ephemeral_storage), used <= requests.ephemeral_storage)
        }
        Pressure::Pid => (bytes(used.processes()), false),
    };
    (within, priority, Reverse(above), worker.number)
}

/// `100Mi`
fn binary(bytes: u64) -> String {
    Quantity::from_value(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySi).to_string()
}

/// A container of the specification as the API knows it.
fn full_container<'a>(worker: &'a Worker, name: &str) -> Option<&'a core::Container> {
    let full = &worker.pod.spec.full;
    full.containers.iter().chain(full.init_containers.iter().flatten()).find(|container| container.name == name)
}

/// What a container requests of a resource, as it is written.
fn request_of(worker: &Worker, name: &str, resource: &str) -> Quantity {
    let resources = full_container(worker, name).and_then(|container| container.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    requests.and_then(|requests| Quantity::of(requests.get(resource)?).ok()).unwrap_or(Quantity::ZERO)
}

/// Why a pod is evicted for want of a resource (`evictionMessage`).
fn eviction_message(
    resource: &str,
    worker: &Worker,
    used: Option<&PodUsage>,
    about: Option<(Threshold, Observation)>,
) -> String {
    let mut message = format!("The node was low on resource: {resource}. ");
    if let Some((threshold, observed)) = about {
        let format = if resource == "inodes" { Format::DecimalSi } else { Format::BinarySi };
        let available = Quantity::from_value(observed.available.max(0), format);
        message += &format!("Threshold quantity: {}, available: {available}. ", threshold.level.of(observed.capacity));
    }
    for container in used.iter().flat_map(|used| &used.containers) {
        let amount = match resource {
            "memory" => container.memory,
            "ephemeral-storage" => container.disk,
            _ => continue,
        };
        let name = &worker.spec(container.index).name;
        let request = request_of(worker, name, resource);
        if i64::try_from(amount).unwrap_or(i64::MAX) > request.value() {
            let used = binary(amount);
            message += &format!(
                "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. "
            );
        }
    }
    message
}

/// Which limit of local storage a pod exceeds, in words; none if it keeps to all.
fn beyond_limit(worker: &Worker, used: &PodUsage) -> Option<String> {
    let spec = &worker.pod.spec;
    let beyond = |used: u64, limit: &Quantity| i64::try_from(used).unwrap_or(i64::MAX) > limit.value();
    for volume in spec.full.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref());
        let Some(limit) = limit.and_then(|limit| Quantity::of(limit).ok()).filter(|limit| limit.value() > 0) else {
            continue;
        };
        let bytes = used.volumes.iter().find(|(name, _)| *name == *volume.name);
        if bytes.is_some_and(|(_, bytes)| beyond(*bytes, &limit)) {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit \"{limit}\". ", volume.name));
        }
    }
    let limit = |index: u16| {
        let container = full_container(worker, &worker.spec(index).name)?;
        Quantity::of(container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?).ok()
    };
    let limits: Vec<Quantity> = worker.main_indexes().filter_map(limit).collect();
    if !limits.is_empty() {
        let total = limits.into_iter().reduce(Quantity::plus).unwrap_or(Quantity::ZERO);
        if beyond(used.disk(), &total) {
            return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {total}. "));
        }
    }
    used.containers.iter().find_map(|container| {
        let limit = limit(container.index).filter(|limit| beyond(container.disk, limit))?;
        let name = &worker.spec(container.index).name;
        Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
    })
}

impl Worker {
    /// Evicts the pod: says so in an event, ends it with a grace, and lets its status say why. As with the real kubelet the last
    /// word is the containers': a pod all of whose containers end with code 0 on SIGTERM has succeeded, and no reason is kept
    /// (kubelet_pods.go, `generateAPIPodStatus` with `getPhase`).
    pub fn evict(
        &mut self,
        message: String,
        grace: Option<i64>,
        disrupts: bool,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        shared.record(self, None, EventType::Warning, EVICTED, message.clone());
        let message = Name::from(message);
        let condition = disrupts.then(|| message.clone());
        self.end_because(Eviction { reason: Name::of(EVICTED), message, condition, grace }, shared, ctx);
    }

    /// Ends the pod for a reason that its status tells.
    pub fn end_because(&mut self, eviction: Eviction, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.stage == Stage::Running {
            self.rare_mut().eviction = Some(eviction);
            self.begin_to_end(shared, ctx);
        }
    }

    /// The status of a pod whose eviction begins; the conditions of its containers are as they were.
    pub fn with_eviction(&self, mut status: PodStatus, shared: &Shared, now: SimTime) -> PodStatus {
        let Some(eviction) = self.eviction() else { return status };
        status.phase = PodPhase::Failed;
        status.why = Why::new(Some(eviction.reason.clone()), Some(eviction.message.clone()));
        if let Some(message) = &eviction.condition {
            let condition = PodCondition {
                kind: PodConditionType::DisruptionTarget,
                status: ConditionStatus::True,
                why: Why::new(Some(Name::of("TerminationByKubelet")), Some(message.clone())),
                last_transition: shared.date(now),
                observed_generation: self.pod.meta.generation,
            };
            status.conditions.insert(0, condition);
        }
        status
    }
}
