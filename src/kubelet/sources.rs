//! ConfigMaps and Secrets that a pod needs before its containers can be made: as volumes, and as environment.
//!
//! Follows the volume manager (reconciler, nested pending operations: 0.5 s after a failure, doubled up to 2 m 2 s) and
//! kubelet_pods.go (`makeEnvironmentVariables`). The real kubelet watches what its pods refer to; here it reads when it needs it.
//! Pods that refer to nothing cost nothing. The certificate and the token that every pod has are always there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::PodSpec;
use crate::apiserver::protocol::{Answer, Operation};
use crate::apiserver::status::Reason;
use crate::client::delivery::Failure;
use crate::engine::process::TimerId;
use crate::engine::time::{SimDuration, SimTime};

use super::agent::NodeContext;
use super::shared::{Purpose, Shared};
use super::tokens::Timer;
use super::worker::{Doing, Job, Worker};

/// How often the reconciler looks (volumemanager, `reconcilerLoopSleepPeriod`).
pub(super) const RECONCILE: SimDuration = SimDuration::from_millis(100);
/// How long after the pods are looked through for volumes these are mounted: both loops have the same period.
pub(super) const RECONCILE_AFTER: SimDuration = SimDuration::from_millis(50);
/// The first wait after a failure, and the longest (goroutinemap/exponentialbackoff).
const FIRST_WAIT: SimDuration = SimDuration::from_millis(500);
const LONGEST_WAIT: SimDuration = SimDuration::from_secs(122);

/// An object that is needed, and what of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// ConfigMap or Secret.
    kind: Kind,
    /// Its name.
    name: Name,
    /// The keys that it must have.
    keys: Vec<String>,
}

/// A volume whose content comes from the API.
#[derive(Clone, Debug)]
pub struct ApiVolume {
    name: Name,
    sources: Vec<Source>,
    mounted: bool,
    /// Answers that are awaited, and what was found wrong, by the source's place.
    awaited: usize,
    wrong: BTreeMap<u16, String>,
    /// The wait after the last failure.
    wait: SimDuration,
    timer: Option<TimerId>,
}

/// The volumes of a pod whose content comes from the API.
#[derive(Clone, Debug, Default)]
pub struct ApiVolumes {
    volumes: Vec<ApiVolume>,
    begun: bool,
}

/// The environment of a container that is being read.
#[derive(Debug)]
pub struct Reading {
    /// Which container.
    pub index: u16,
    awaited: usize,
    wrong: BTreeMap<usize, String>,
}

impl ApiVolumes {
    /// The names of volumes that are not mounted.
    pub fn unmounted(&self) -> impl Iterator<Item = &Name> {
        self.volumes.iter().filter(|volume| !volume.mounted).map(|volume| &volume.name)
    }
}

impl Source {
    fn config_map(name: &str, optional: Option<bool>, keys: Vec<String>) -> Option<Source> {
        (optional != Some(true)).then(|| Source { kind: Kind::ConfigMap, name: Name::from(name), keys })
    }

    fn secret(name: &str, optional: Option<bool>, keys: Vec<String>) -> Option<Source> {
        (optional != Some(true)).then(|| Source { kind: Kind::Secret, name: Name::from(name), keys })
    }

    /// What an answer lacks; none if it has everything. The words are those of the kubelet's managers.
    fn lacks(&self, result: &Result<Answer, Failure>, missing_key: impl Fn(&str, &str) -> String) -> Option<String> {
        let (noun, title) = if self.kind == Kind::Secret { ("secret", "Secret") } else { ("configmap", "ConfigMap") };
        let keys: Vec<&String> = match result {
            Ok(Answer::Object(Object::ConfigMap(object))) => {
                let content = &object.content;
                content
                    .data
                    .iter()
                    .flatten()
                    .map(|(key, _)| key)
                    .chain(content.binary_data.iter().flatten().map(|(key, _)| key))
                    .collect()
            }
            Ok(Answer::Object(Object::Secret(object))) => {
                object.content.data.iter().flatten().map(|(key, _)| key).collect()
            }
            Err(failure) if failure.reason() != Some(Reason::NotFound) => {
                return Some(format!("failed to sync {noun} cache: timed out waiting for the condition"));
            }
            _ => return Some(format!("{noun} {:?} not found", self.name.as_str())),
        };
        let missing = self.keys.iter().find(|key| !keys.contains(key))?;
        Some(missing_key(title, missing))
    }
}

/// What is wrong with a volume: of several things that a projected one lacks a list, each once (apimachinery, `aggregate.Error`).
fn as_one(wrong: BTreeMap<u16, String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for one in wrong.into_values() {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    if let [one] = &distinct[..] { one.clone() } else { format!("[{}]", distinct.join(", ")) }
}

/// The keys that a volume names.
fn item_keys(items: Option<&Vec<core::KeyToPath>>) -> Vec<String> {
    items.into_iter().flatten().map(|item| item.key.clone()).collect()
}

/// True if a container of the pod uses the volume; others are not mounted (volumemanager, `processPodVolumes`).
pub(super) fn is_used(spec: &PodSpec, volume: &core::Volume) -> bool {
    is_mounted(spec, volume) || is_device(spec, volume)
}

/// True if a container of the pod has the volume as a directory.
pub(super) fn is_mounted(spec: &PodSpec, volume: &core::Volume) -> bool {
    containers(spec).any(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name))
}

/// True if a container of the pod has the volume as a device.
pub(super) fn is_device(spec: &PodSpec, volume: &core::Volume) -> bool {
    let is_it = |device: &core::VolumeDevice| device.name == volume.name;
    containers(spec).any(|container| container.volume_devices.iter().flatten().any(is_it))
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &core::Container> {
    spec.full.init_containers.iter().flatten().chain(&spec.full.containers)
}

/// The volumes of a specification whose content comes from ConfigMaps and Secrets.
fn volumes_of(spec: &PodSpec) -> Vec<ApiVolume> {
    let mut volumes = Vec::new();
    for volume in spec.full.volumes.iter().flatten().filter(|volume| is_used(spec, volume)) {
        let mut sources = Vec::new();
        if let Some(source) = &volume.config_map {
            sources.extend(Source::config_map(&source.name, source.optional, item_keys(source.items.as_ref())));
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            sources.extend(Source::secret(name, source.optional, item_keys(source.items.as_ref())));
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                sources.extend(Source::config_map(&source.name, source.optional, item_keys(source.items.as_ref())));
            }
            if let Some(source) = &source.secret {
                sources.extend(Source::secret(&source.name, source.optional, item_keys(source.items.as_ref())));
            }
        }
        if !sources.is_empty() {
            volumes.push(ApiVolume {
                name: Name::from(&volume.name),
                sources,
                mounted: false,
                awaited: 0,
                wrong: BTreeMap::new(),
                wait: SimDuration::ZERO,
                timer: None,
            });
        }
    }
    volumes
}

/// What the environment of a container comes from.
fn environment_of(container: &core::Container) -> Vec<Source> {
    let mut sources = Vec::new();
    for from in container.env_from.iter().flatten() {
        if let Some(source) = &from.config_map_ref {
            sources.extend(Source::config_map(&source.name, source.optional, Vec::new()));
        }
        if let Some(source) = &from.secret_ref {
            sources.extend(Source::secret(&source.name, source.optional, Vec::new()));
        }
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(source) = &from.config_map_key_ref {
            sources.extend(Source::config_map(&source.name, source.optional, vec![source.key.clone()]));
        }
        if let Some(source) = &from.secret_key_ref {
            sources.extend(Source::secret(&source.name, source.optional, vec![source.key.clone()]));
        }
    }
    sources
}

impl Worker {
    /// Begins to mount what comes from the API, once: when the volume manager next looks. Pods for which nothing does need nothing of it.
    pub fn begin_to_mount(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.api_volumes().is_some_and(|volumes| volumes.begun) {
            return;
        }
        let volumes = volumes_of(&self.pod.spec);
        if volumes.is_empty() {
            return;
        }
        let count = volumes.len();
        self.rare_mut().api_volumes = Some(ApiVolumes { volumes, begun: true });
        if shared.settings.timings.volumes == SimDuration::ZERO {
            return (0..count).for_each(|place| self.mount(place, shared, ctx));
        }
        let after = ctx.now() + SimDuration::from_nanos(1);
        let at = after.next_tick(shared.began, RECONCILE) + RECONCILE_AFTER;
        let number = self.number;
        for (place, volume) in self.api_volumes_mut().into_iter().flat_map(|all| all.volumes.iter_mut().enumerate()) {
            volume.timer = Some(ctx.set_timer(at, Timer::Volume(number, place as u16).token()));
        }
    }

    /// True if a volume has to be mounted before a container of the pod can be made.
    pub fn needs_volumes(&self) -> bool {
        let spec = &self.pod.spec;
        self.pod.token_volume.is_some() || spec.full.volumes.iter().flatten().any(|volume| is_used(spec, volume))
    }

    /// True if everything whose content comes from the API is mounted.
    pub fn sources_mounted(&self) -> bool {
        self.api_volumes().is_none_or(|all| all.volumes.iter().all(|volume| volume.mounted))
    }

    /// Reads what a volume needs.
    fn mount(&mut self, place: usize, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let (number, namespace) = (self.number, self.pod.meta.namespace.clone());
        let Some(volume) = self.api_volumes_mut().and_then(|all| all.volumes.get_mut(place)) else { return };
        (volume.awaited, volume.timer) = (volume.sources.len(), None);
        volume.wrong.clear();
        for (source, needed) in volume.sources.iter().enumerate() {
            let key = ObjectKey { kind: needed.kind, namespace: namespace.clone(), name: needed.name.clone() };
            let purpose = Purpose::Volume { pod: number, volume: place as u16, source: source as u16 };
            shared.request(purpose, Operation::Get { key }, ctx);
        }
    }

    /// The wait after a failure is over.
    pub fn mount_again(&mut self, place: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.could_have_running_containers() {
            self.mount(usize::from(place), shared, ctx);
        }
    }

    /// What a volume needs was read, or is not there.
    pub fn source_read(
        &mut self,
        place: u16,
        source: u16,
        result: &Result<Answer, Failure>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let timer = Timer::Volume(self.number, place);
        let Some(volume) = self.api_volumes_mut().and_then(|all| all.volumes.get_mut(usize::from(place))) else {
            return;
        };
        let Some(needed) = volume.sources.get(usize::from(source)) else { return };
        let noun = if needed.kind == Kind::Secret {
            "references non-existent secret"
        } else {
            "configmap references non-existent config"
        };
        if let Some(wrong) = needed.lacks(result, |_, key| format!("{noun} key: {key}")) {
            volume.wrong.insert(source, wrong);
        }
        volume.awaited = volume.awaited.saturating_sub(1);
        if volume.awaited > 0 {
            return;
        }
        if volume.wrong.is_empty() {
            volume.mounted = true;
            self.volumes_mounted(shared, ctx);
            return;
        }
        let wrong = as_one(std::mem::take(&mut volume.wrong));
        let doubled = volume.wait * 2;
        volume.wait = if doubled == SimDuration::ZERO { FIRST_WAIT } else { doubled.min(LONGEST_WAIT) };
        let at = (ctx.now() + volume.wait + SimDuration::from_nanos(1)).next_tick(shared.began, RECONCILE);
        volume.timer = Some(ctx.set_timer(at, timer.token()));
        let message = format!("MountVolume.SetUp failed for volume {:?} : {wrong}", volume.name.as_str());
        shared.record(self, None, EventType::Warning, "FailedMount", message);
    }

    /// Nothing of the pod is mounted any more.
    pub fn forget_volumes(&mut self, ctx: &mut dyn NodeContext) {
        for volume in self.api_volumes_mut().into_iter().flat_map(|all| &mut all.volumes) {
            if let Some(timer) = volume.timer.take() {
                ctx.cancel_timer(timer);
            }
        }
    }

    /// Reads what the environment of a container needs; false if it needs nothing.
    pub fn read_environment(&mut self, index: u16, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        let sources = self.own_container(index).map(environment_of).unwrap_or_default();
        if sources.is_empty() {
            return false;
        }
        self.doing(Doing::Reading(Reading { index, awaited: sources.len(), wrong: BTreeMap::new() }));
        for (place, needed) in sources.into_iter().enumerate() {
            let key = ObjectKey { kind: needed.kind, namespace: self.pod.meta.namespace.clone(), name: needed.name };
            let purpose = Purpose::Environment { pod: self.number, container: index, source: place as u16 };
            shared.request(purpose, Operation::Get { key }, ctx);
        }
        true
    }

    /// What the environment of a container needs was read, or is not there.
    pub fn environment_read(
        &mut self,
        container: u16,
        source: u16,
        result: &Result<Answer, Failure>,
        shared: &mut Shared,
        ctx: &mut dyn NodeContext,
    ) {
        let sources = self.own_container(container).map(environment_of).unwrap_or_default();
        let namespace = self.pod.meta.namespace.clone();
        let Job::Syncing(job) = &mut self.job else { return };
        let Doing::Reading(reading) = &mut job.doing else { return };
        let Some(needed) = sources.get(usize::from(source)).filter(|_| reading.index == container) else { return };
        let missing_key =
            |title: &str, key: &str| format!("couldn't find key {key} in {title} {namespace}/{}", needed.name);
        if let Some(wrong) = needed.lacks(result, missing_key) {
            reading.wrong.insert(usize::from(source), wrong);
        }
        reading.awaited = reading.awaited.saturating_sub(1);
        if reading.awaited > 0 {
            return;
        }
        match reading.wrong.pop_first() {
            Some((_, wrong)) => self.failed(container, "CreateContainerConfigError", wrong, shared),
            None => self.create_now(container, shared, ctx),
        }
        self.advance(shared, ctx);
    }

    /// A container of the specification as the API knows it.
    pub fn own_container(&self, index: u16) -> Option<&core::Container> {
        let (place, full) = (usize::from(index), &self.pod.spec.full);
        match place.checked_sub(self.pod.spec.init_count) {
            Some(main) => full.containers.get(main),
            None => full.init_containers.as_ref()?.get(place),
        }
    }

    /// When the volumes of a pass that waits for them were seen mounted: at the next poll after this moment.
    pub fn next_poll(begun: SimTime, now: SimTime, period: SimDuration) -> SimTime {
        (now + SimDuration::from_nanos(1)).next_tick(begun, period)
    }
}
