//! One pod on its node: what is wanted of it, what was seen of its containers, and what is being done about it.
//!
//! What was seen is what the last relist showed, not what is; the kubelet decides on that alone, as the real one does on
//! its PLEG's cache. Changes in between wait in `unseen`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use crate::api::instance_id::InstanceId;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::pod::{Container, ContainerRole, ContainerStatus, Pod, PodStatus, RestartPolicy, Terminated};
use crate::engine::process::{Cause, TimerId};
use crate::engine::time::SimTime;
use crate::runtime::interface::{ContainerId, Event, Exit, PodNumber, SandboxId};

use super::back_off::BackOff;
use super::claims::Claims;
use super::eviction::Eviction;
use super::killing::Killing;
use super::mirror::Mirror;
use super::probes::Probe;
use super::qos;
use super::resize::Resize;
use super::sources::{ApiVolumes, Reading};

/// A pod's worker.
#[derive(Debug)]
pub struct Worker {
    /// The pod's number in the runtime.
    pub number: PodNumber,
    /// The newest version of the pod that the watch has brought.
    pub pod: Rc<Pod>,
    /// Since when this kubelet knows the pod.
    pub known_since: SimTime,
    /// What the last status write returned, while the watch has not brought a version as new.
    pub written: Option<Rc<Pod>>,
    /// A status that is not in the API, or not yet known to be.
    pub held: Option<Box<Held>>,
    /// What made the last status of a pod that has ended for good, while the API has that status and nothing is held.
    pub settled: Option<Cause>,
    /// How far the pod has come.
    pub stage: Stage,
    /// What is being done.
    pub job: Job,
    /// A pass over the pod is wanted.
    pub wants_sync: bool,
    /// The pod is gone from the API.
    pub gone: bool,
    /// The API said that it does not have the pod: nothing is written about it any more.
    pub missing: bool,
    /// Its volumes are mounted.
    pub mounted: bool,
    /// A status was handed to the writer since this kubelet began.
    pub reported: bool,
    /// Was relisted since the last pass ended.
    pub fresh: bool,
    /// When the last pass ended; [`SimTime::MAX`] before the first.
    pub last_sync: SimTime,
    /// When the next pass is due by itself; [`SimTime::MAX`] if none is.
    pub due: SimTime,
    /// When the containers had stopped, once they have for good.
    pub stopped: SimTime,
    /// The sandbox as last seen.
    pub sandbox: Option<Sandbox>,
    /// The containers as last seen, in the order of the specification.
    pub containers: Box<[Record]>,
    /// Changes that no relist has shown yet.
    pub unseen: Vec<Event>,
    /// What only few pods have.
    pub rare: Option<Box<Rare>>,
}

/// What only few pods have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Why the kubelet ends the pod, if it does so by itself.
    pub eviction: Option<Eviction>,
    /// Its volumes whose content comes from the API, if it has any.
    pub api_volumes: Option<ApiVolumes>,
    /// Its volumes behind claims, if it has any.
    pub claims: Option<Box<Claims>>,
    /// What is known of its mirror, if it is a static pod.
    pub mirror: Option<Mirror>,
    /// How it was resized, if it was.
    pub resize: Option<Resize>,
}

/// A status on its way to the API.
#[derive(Debug)]
pub struct Held {
    /// The status.
    pub status: PodStatus,
    /// True while there is something to write, or something may have to be deleted.
    pub dirty: bool,
    /// The pod has ended for good and may be deleted from the API.
    pub finished: bool,
    /// What made the status.
    pub cause: Cause,
}

/// How far a pod has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// It runs or is to run.
    Running,
    /// It must end; its containers may still run.
    Terminating,
    /// None of its containers runs or will run again.
    Terminated,
    /// Everything of it is cleaned up.
    Finished,
}

/// What is being done about a pod.
#[derive(Debug)]
pub enum Job {
    /// Nothing.
    Idle,
    /// Waits for the volumes.
    Mounting {
        /// Since when.
        begun: SimTime,
        /// Ends the wait: volumes were seen mounted, or have not been for too long.
        timer: TimerId,
    },
    /// Brings the containers to what is wanted.
    Syncing(Box<Syncing>),
    /// Stops everything.
    Stopping(Box<Killing>),
    /// Waits until the volumes are gone.
    Unmounting,
}

/// A pass over a pod's containers: what is left to do.
#[derive(Debug, Default)]
pub struct Syncing {
    /// What is left to do, in order.
    pub steps: VecDeque<Step>,
    /// What is being done.
    pub doing: Doing,
    /// Something was done or tried.
    pub acted: bool,
    /// Something failed.
    pub failed: bool,
    /// The first end of a back-off.
    pub back_off_until: Option<SimTime>,
}

/// A step of a pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Stop all containers and the sandbox.
    KillPod,
    /// Stop one container.
    KillContainer {
        /// Which.
        index: u16,
        /// The event's message.
        message: String,
        /// Which probe asked for it, if one did.
        probe: Option<crate::runtime::interface::ProbeKind>,
    },
    /// Make a sandbox.
    CreateSandbox,
    /// Start a container.
    Start(u16),
    /// Kill a container because all of the pod's are restarted.
    KillAtOnce(u16),
    /// Take a container away, of which nothing runs any more.
    Remove(u16),
}

/// What a pass is doing.
#[derive(Debug, Default)]
pub enum Doing {
    /// Nothing: the next step may begin.
    #[default]
    Nothing,
    /// Stopping containers.
    Killing(Box<Killing>),
    /// Waiting for the sandbox.
    Sandbox(SandboxId),
    /// Waiting for the image of a container.
    Pulling {
        /// Which container.
        index: u16,
        /// Since when.
        since: SimTime,
    },
    /// Waiting for what a container's environment comes from.
    Reading(Reading),
    /// Waiting for a container to be made.
    Creating(ContainerId),
    /// Waiting for a container to run.
    Starting(ContainerId),
    /// Waiting for a postStart hook.
    Hook(ContainerId),
    /// Stopping a container whose postStart hook failed.
    KillingAfterHook(Box<Killing>),
}

/// A sandbox as last seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sandbox {
    /// Which.
    pub id: SandboxId,
    /// Up.
    pub ready: bool,
    /// Its address; kept when it is down, as the API keeps `podIP`.
    pub address: Option<IpAddr>,
}

/// A container as last seen.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Its newest instance.
    pub instance: Instance,
    /// How many instances there were.
    pub attempts: u32,
    /// What the API calls the instance.
    pub container_id: InstanceId,
    /// The image that the instance was made of.
    pub image: Name,
    /// What most containers never have.
    pub past: Option<Box<Past>>,
    /// Its probes, once they are watched.
    pub probes: Option<Box<[Probe]>>,
}

/// What only a container has that failed or ended before.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// How the instance before ended, and when.
    pub last: Option<(Terminated, SimTime)>,
    /// The runtime's message if the newest instance could not be started.
    pub start_error: Option<Name>,
    /// Why it could not be started the last time, as reason and message.
    pub trouble: Option<(Name, Name)>,
    /// The back-off of its crashes, and with which image it crashed: another one begins anew (kuberuntime, `GetBackoffKey`).
    pub crashes: Option<(Name, BackOff)>,
    /// The back-off of its image.
    pub pulls: Option<ImageBackOff>,
}

impl Record {
    /// What only a container has that failed or ended before, to change it.
    pub fn past_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }

    /// How the instance before ended, and when.
    pub fn last(&self) -> Option<&(Terminated, SimTime)> {
        self.past.as_ref()?.last.as_ref()
    }

    /// Why it could not be started the last time, as reason and message.
    pub fn trouble(&self) -> Option<&(Name, Name)> {
        self.past.as_ref()?.trouble.as_ref()
    }

    /// The back-off of its crashes with an image.
    pub fn crashes(&self, image: &str) -> Option<BackOff> {
        let (crashed, back_off) = self.past.as_ref()?.crashes.as_ref()?;
        (crashed.as_str() == image).then_some(*back_off)
    }

    /// The back-off of an image, if this container's pull failed last.
    fn pulls(&self, image: &str) -> Option<&ImageBackOff> {
        self.past.as_ref()?.pulls.as_ref().filter(|entry| entry.image.as_str() == image)
    }
}

/// The back-off of an image's pulls for one pod.
#[derive(Clone, Debug)]
pub struct ImageBackOff {
    /// The image.
    pub image: Name,
    /// How long to leave it alone.
    pub back_off: BackOff,
    /// Why the last pull failed.
    pub error: String,
}

/// An instance of a container as last seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Instance {
    /// There is none.
    #[default]
    None,
    /// Made and not started.
    Created {
        /// Which instance it is, from zero.
        attempt: u32,
    },
    /// Running.
    Running {
        /// Which instance it is, from zero.
        attempt: u32,
        /// Since when.
        since: SimTime,
    },
    /// Ended.
    Exited {
        /// Which instance it is, from zero.
        attempt: u32,
        /// When it was started; none if it could not be.
        since: Option<SimTime>,
        /// How it ended.
        exit: Exit,
    },
}

impl Instance {
    /// Which instance it is, from zero; none if there is none.
    pub fn attempt(self) -> Option<u32> {
        match self {
            Instance::None => None,
            Instance::Created { attempt } | Instance::Running { attempt, .. } | Instance::Exited { attempt, .. } => {
                Some(attempt)
            }
        }
    }

    /// True while it runs.
    pub fn is_running(self) -> bool {
        matches!(self, Instance::Running { .. })
    }

    /// How it ended, if it has.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Instance::Exited { exit, .. } => Some(exit),
            _ => None,
        }
    }
}

impl Worker {
    /// A pod that is new to this kubelet.
    pub fn new(number: PodNumber, pod: Rc<Pod>, now: SimTime) -> Self {
        let containers = pod.spec.containers.iter().map(|_| Record::default()).collect();
        let rare = qos::is_static(&pod).then(|| Box::new(Rare { mirror: Some(Mirror::default()), ..Rare::default() }));
        Worker {
            number,
            pod,
            known_since: now,
            written: None,
            held: None,
            settled: None,
            stage: Stage::Running,
            job: Job::Idle,
            wants_sync: false,
            gone: false,
            missing: false,
            mounted: false,
            reported: false,
            fresh: false,
            last_sync: SimTime::MAX,
            due: SimTime::MAX,
            stopped: SimTime::ZERO,
            sandbox: None,
            containers,
            unseen: Vec::new(),
            rare,
        }
    }

    /// The pod as the API has it, as far as is known here.
    pub fn in_api(&self) -> &Rc<Pod> {
        let mirror = self.mirror().and_then(|mirror| mirror.pod.as_ref());
        self.written.as_ref().or(mirror).unwrap_or(&self.pod)
    }

    /// The incarnation of the pod in the API; none of a static pod without a mirror.
    pub fn api_uid(&self) -> Option<Uid> {
        match self.mirror() {
            None => Some(self.pod.meta.uid),
            Some(mirror) => mirror.pod.as_ref().map(|pod| pod.meta.uid),
        }
    }

    /// What only few pods have, to change it.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Why the kubelet ends the pod, if it does so by itself.
    pub fn eviction(&self) -> Option<&Eviction> {
        self.rare.as_ref()?.eviction.as_ref()
    }

    /// Its volumes whose content comes from the API, if it has any.
    pub fn api_volumes(&self) -> Option<&ApiVolumes> {
        self.rare.as_ref()?.api_volumes.as_ref()
    }

    /// The same, to change them.
    pub fn api_volumes_mut(&mut self) -> Option<&mut ApiVolumes> {
        self.rare.as_mut()?.api_volumes.as_mut()
    }

    /// Its volumes behind claims, if it has any and they were looked for.
    pub fn claims(&self) -> Option<&Claims> {
        self.rare.as_ref()?.claims.as_deref()
    }

    /// The same, to change them.
    pub fn claims_mut(&mut self) -> Option<&mut Claims> {
        self.rare.as_mut()?.claims.as_deref_mut()
    }

    /// How it was resized, if it was.
    pub fn resize(&self) -> Option<&Resize> {
        self.rare.as_ref()?.resize.as_ref()
    }

    /// The same, to change it.
    pub fn resize_mut(&mut self) -> Option<&mut Resize> {
        self.rare.as_mut()?.resize.as_mut()
    }

    /// What is known of its mirror, if it is a static pod.
    pub fn mirror(&self) -> Option<&Mirror> {
        self.rare.as_ref()?.mirror.as_ref()
    }

    /// The same, to change it.
    pub fn mirror_mut(&mut self) -> Option<&mut Mirror> {
        self.rare.as_mut()?.mirror.as_mut()
    }

    /// The status that this kubelet last made: on its way, or in the API.
    pub fn status(&self) -> &PodStatus {
        self.held.as_deref().map_or(&self.in_api().status, |held| &held.status)
    }

    /// Where the pod is found.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Pod::KIND, namespace: self.pod.meta.namespace.clone(), name: self.pod.meta.name.clone() }
    }

    /// A container of the specification; there is one for every record.
    pub fn spec(&self, index: u16) -> &Container {
        &self.pod.spec.containers[usize::from(index)]
    }

    /// The record of a container.
    pub fn record(&self, index: u16) -> &Record {
        &self.containers[usize::from(index)]
    }

    /// The record of a container, to change it.
    pub fn record_mut(&mut self, index: u16) -> &mut Record {
        &mut self.containers[usize::from(index)]
    }

    /// The back-off of an image, which all containers of the pod share that are made of it (image manager, `pullImage`).
    pub fn pulls(&self, image: &str) -> Option<&ImageBackOff> {
        self.containers.iter().find_map(|record| record.pulls(image))
    }

    /// The id of a container's newest instance.
    pub fn instance_id(&self, index: u16) -> Option<ContainerId> {
        let attempt = self.record(index).instance.attempt()?;
        Some(ContainerId { pod: self.number, index, attempt })
    }

    /// The places of all containers.
    pub fn indexes(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.containers.len()).map(|index| index as u16)
    }

    /// The places of the main containers.
    pub fn main_indexes(&self) -> impl Iterator<Item = u16> + use<> {
        (self.pod.spec.init_count..self.containers.len()).map(|index| index as u16)
    }

    /// The main containers in the order of the specification, each with what a status says of it; statuses come by name.
    pub fn main_statuses<'a>(&self, status: &'a PodStatus) -> impl Iterator<Item = (u16, &'a ContainerStatus)> {
        self.main_indexes().filter_map(|index| {
            let name = &self.spec(index).name;
            let place = usize::from(index) - self.pod.spec.init_count;
            let at_its_place = status.containers.get(place).filter(|status| status.name == *name);
            let found = at_its_place.or_else(|| status.containers.iter().find(|status| status.name == *name));
            found.map(|status| (index, status))
        })
    }

    /// The places of the init containers and sidecars.
    pub fn init_indexes(&self) -> impl DoubleEndedIterator<Item = u16> + use<> {
        (0..self.pod.spec.init_count.min(self.containers.len())).map(|index| index as u16)
    }

    /// True if the pod uses the node's own network.
    pub fn host_network(&self) -> bool {
        self.pod.spec.full.host_network == Some(true)
    }

    /// True if a container that ended with this code is started again (podutil, `ContainerShouldRestart`): by the first of its
    /// own rules that is for the code, else by its own policy, else by the pod's.
    pub fn restarts(&self, index: u16, code: i32) -> bool {
        let own_policy = self.own_container(index).is_some_and(|own| own.restart_policy.is_some());
        own_policy && self.restart_rule(index, code).is_some()
            || match self.restart_policy(index) {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => code != 0,
                RestartPolicy::Never => false,
            }
    }

    /// The restart policy of a container: its own, else the pod's.
    pub fn restart_policy(&self, index: u16) -> RestartPolicy {
        let own = self.own_container(index).and_then(|own| own.restart_policy.as_deref());
        match own {
            _ if self.spec(index).role == ContainerRole::Sidecar => RestartPolicy::Always,
            Some("Always") => RestartPolicy::Always,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => self.pod.spec.restart_policy,
        }
    }

    /// True if a container that does not run is to be started (kubecontainer, `ShouldContainerBeRestarted`).
    pub fn should_start(&self, index: u16) -> bool {
        if self.pod.meta.is_deleting() {
            return false;
        }
        match self.record(index).instance {
            Instance::None | Instance::Created { .. } => true,
            Instance::Running { .. } => false,
            Instance::Exited { exit, .. } => self.restarts(index, exit.code),
        }
    }

    /// True if the pass under way waits for the image of a container or makes a container of it.
    pub fn awaits_image(&self, place: u16) -> bool {
        let Job::Syncing(job) = &self.job else { return false };
        match &job.doing {
            Doing::Pulling { index, .. } | Doing::Reading(Reading { index, .. }) => *index == place,
            Doing::Creating(id) | Doing::Starting(id) | Doing::Hook(id) => id.index == place,
            _ => job.steps.contains(&Step::Start(place)),
        }
    }

    /// True if a container runs or the sandbox is up, as last seen.
    pub fn is_up(&self) -> bool {
        self.sandbox.is_some_and(|sandbox| sandbox.ready)
            || self.containers.iter().any(|record| record.instance.is_running())
    }

    /// True while containers of the pod may run (kubelet, `PodCouldHaveRunningContainers`).
    pub fn could_have_running_containers(&self) -> bool {
        self.stage < Stage::Terminated
    }
}
