//! What a kubelet asks of a container runtime and what the runtime tells it: actions and events, nothing else.
//!
//! The simulated runtime and one behind a CRI socket speak the same words. The kubelet chooses the ids of sandboxes and
//! containers, so that no answer is needed to know what an event is about; a runtime with ids of its own maps them.

use std::net::IpAddr;
use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{Handler, PodSpec};
use crate::engine::time::{SimDuration, SimTime};

use super::user::ImageUser;

/// Names a pod of one node in its runtime: a number that the kubelet gives out once and never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodNumber(pub u32);

/// Names a sandbox: the pod's number and which attempt at a sandbox it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SandboxId {
    /// The pod.
    pub pod: PodNumber,
    /// Counts the pod's sandboxes from zero.
    pub attempt: u32,
}

/// Names one instance of a container: pod, place in the pod, and which instance it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContainerId {
    /// The pod.
    pub pod: PodNumber,
    /// The container's place among the pod's containers, init containers first.
    pub index: u16,
    /// Counts the instances from zero.
    pub attempt: u32,
}

/// What the kubelet wrote on a request that is not about the life of a container, to know its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    /// The pod on whose behalf the request was made.
    pub pod: PodNumber,
    /// The container's place in the pod.
    pub index: u16,
    /// Tells requests about the same container apart.
    pub number: u16,
}

/// What a kubelet asks of the runtime.
#[derive(Clone, Debug)]
pub enum Action {
    /// Fetches an image; answered by [`Event::Pulled`] or [`Event::PullFailed`].
    PullImage {
        /// Known again in the answer.
        ticket: Ticket,
        /// The image as the container names it.
        image: Name,
    },
    /// Makes a sandbox and connects it to the pod network; answered by [`Event::SandboxReady`] or [`Event::SandboxFailed`].
    CreateSandbox {
        /// The new sandbox.
        sandbox: SandboxId,
        /// What it is for; kept by the runtime for [`Event::State`].
        pod: Rc<PodIdentity>,
        /// Uses the node's own network and address.
        host_network: bool,
    },
    /// Makes a container; answered by [`Event::Created`] or [`Event::CreateFailed`].
    CreateContainer {
        /// The new container.
        container: ContainerId,
        /// What it is.
        config: Box<ContainerConfig>,
    },
    /// Starts a container; answered by [`Event::Started`] or [`Event::StartFailed`], later by [`Event::Exited`].
    StartContainer {
        /// Which.
        container: ContainerId,
    },
    /// Sends SIGTERM, and SIGKILL after the grace; answered by [`Event::Exited`], at once if the container does not run.
    StopContainer {
        /// Which.
        container: ContainerId,
        /// How long the container may take.
        grace: SimDuration,
    },
    /// Removes a container that does not run. Not answered.
    RemoveContainer {
        /// Which.
        container: ContainerId,
    },
    /// Takes the sandbox from the network and stops what still runs in it; answered by [`Event::SandboxStopped`].
    StopSandbox {
        /// Which.
        sandbox: SandboxId,
    },
    /// Removes a sandbox with all its containers. Not answered.
    RemoveSandbox {
        /// Which.
        sandbox: SandboxId,
    },
    /// Probes a running container; answered by [`Event::ProbeDone`].
    Probe {
        /// Known again in the answer.
        ticket: Ticket,
        /// Which.
        container: ContainerId,
        /// Which question is asked.
        kind: ProbeKind,
        /// How it is asked.
        handler: Handler,
        /// When the probe has failed.
        timeout: SimDuration,
    },
    /// Runs a lifecycle hook; answered by [`Event::HookDone`].
    RunHook {
        /// Known again in the answer.
        ticket: Ticket,
        /// Which container.
        container: ContainerId,
        /// Which hook.
        kind: HookKind,
        /// What is run.
        handler: Handler,
    },
    /// Asks for everything there is; answered by [`Event::State`].
    ListState,
    /// Takes an image out of the store. Not answered.
    RemoveImage {
        /// The image as the containers name it.
        image: Name,
    },
    /// Asks what is used of the node; answered by [`Event::Usage`] at once.
    ReadUsage {
        /// Of volumes what pods had written at these times, by pod: they are measured less often than the rest. Those of other pods
        /// are left out.
        volumes_at: Vec<(PodNumber, SimTime)>,
    },
    /// Lets a running container have other limits from now on. Not answered.
    UpdateLimits {
        /// Which.
        container: ContainerId,
        /// The new ones.
        limits: Limits,
    },
}

/// What a runtime tells the kubelet.
#[derive(Clone, Debug)]
pub enum Event {
    /// An image is there.
    Pulled {
        /// The request.
        ticket: Ticket,
        /// What was fetched.
        image: ImageRecord,
    },
    /// An image could not be fetched.
    PullFailed {
        /// The request.
        ticket: Ticket,
        /// The runtime's own words.
        message: String,
    },
    /// The sandbox is up.
    SandboxReady {
        /// Which.
        sandbox: SandboxId,
        /// Its address; none on the node's own network.
        address: Option<IpAddr>,
    },
    /// The sandbox could not be made.
    SandboxFailed {
        /// Which.
        sandbox: SandboxId,
        /// The runtime's own words.
        message: String,
    },
    /// The container is there and does not run yet.
    Created {
        /// Which.
        container: ContainerId,
    },
    /// The container could not be made.
    CreateFailed {
        /// Which.
        container: ContainerId,
        /// The runtime's own words.
        message: String,
    },
    /// The container runs.
    Started {
        /// Which.
        container: ContainerId,
        /// Since when.
        at: SimTime,
    },
    /// The container could not be started and has ended.
    StartFailed {
        /// Which.
        container: ContainerId,
        /// When.
        at: SimTime,
        /// The runtime's own words.
        message: String,
    },
    /// The container ended.
    Exited {
        /// Which.
        container: ContainerId,
        /// How.
        exit: Exit,
    },
    /// The sandbox is down; none of its containers runs.
    SandboxStopped {
        /// Which.
        sandbox: SandboxId,
    },
    /// A probe was answered, or was not.
    ProbeDone {
        /// The request.
        ticket: Ticket,
        /// What came of it.
        outcome: ProbeOutcome,
        /// As long as the container runs, a probe of this kind finds the same before this time; in the past if nobody knows.
        same_until: SimTime,
    },
    /// A hook has ended.
    HookDone {
        /// The request.
        ticket: Ticket,
        /// Nothing, or why it failed.
        outcome: Result<(), String>,
    },
    /// An image appeared other than by a pull of this kubelet.
    ImageAdded {
        /// The image.
        image: ImageRecord,
    },
    /// An image went.
    ImageRemoved {
        /// Its name.
        name: Name,
    },
    /// Everything there is.
    State(Box<State>),
    /// What containers use may differ from what was last read: one began that uses something of its node.
    UsageChanged,
    /// What is used of the node.
    Usage(Box<NodeUsage>),
    /// The kernel has killed a process because the node had no memory left; a container that exceeds its own limit is no such case.
    SystemOom {
        /// The name of the process: of its container, as what runs in that has none here.
        process: Name,
        /// Its number.
        pid: u32,
    },
}

/// Who a sandbox is for.
#[derive(Clone, Debug)]
pub struct PodIdentity {
    /// The pod's incarnation.
    pub uid: Uid,
    /// The pod's namespace.
    pub namespace: Name,
    /// The pod's name.
    pub name: Name,
    /// What was asked for: of a pod that is gone from the API a new kubelet finds grace and hooks here, as the real one does in
    /// the labels of containers.
    pub spec: Rc<PodSpec>,
}

/// What a container is.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    /// The container's name in the pod.
    pub name: Name,
    /// The image.
    pub image: Name,
    /// What it may use.
    pub limits: Limits,
    /// Who is killed first when the node has no memory left: from -1000 (never) to 1000 (`oom_score_adj`).
    pub oom_score_adjustment: i32,
}

/// What a container may use; zero for any amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// CPU in thousandths of a core: more is held back.
    pub milli_cpu: i64,
    /// Memory in bytes: a container that exceeds it is killed.
    pub memory: i64,
}

/// What is used of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeUsage {
    /// Memory in bytes, by containers.
    pub memory: u64,
    /// Disk in bytes: images, containers, volumes.
    pub disk: u64,
    /// How much of that are images.
    pub images: u64,
    /// Inodes of containers.
    pub inodes: u64,
    /// Processes of containers.
    pub processes: u64,
    /// Pods that use something, by number.
    pub pods: Vec<PodUsage>,
    /// When any of this changes next without a container beginning or ending; none if never, or if nobody can say.
    pub next_change: Option<SimTime>,
}

/// What a pod uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodUsage {
    /// Which.
    pub pod: PodNumber,
    /// Its containers, by place.
    pub containers: Vec<ContainerUsage>,
    /// Its emptyDir volumes, by name: bytes when they were last measured.
    pub volumes: Vec<(Name, u64)>,
    /// The first change of a volume that is later than that.
    pub next_volume_change: Option<SimTime>,
}

/// What a container uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerUsage {
    /// Its place in the pod.
    pub index: u16,
    /// Memory in bytes.
    pub memory: u64,
    /// Writable layer and logs in bytes.
    pub disk: u64,
    /// Inodes of its writable layer and logs.
    pub inodes: u64,
    /// Processes.
    pub processes: u64,
}

impl PodUsage {
    /// Inodes of all containers.
    pub fn inodes(&self) -> u64 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.inodes))
    }

    /// Memory of all containers.
    pub fn memory(&self) -> u64 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.memory))
    }

    /// Disk of all containers and volumes.
    pub fn disk(&self) -> u64 {
        let volumes = self.volumes.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        self.containers.iter().fold(volumes, |sum, container| sum.saturating_add(container.disk))
    }

    /// Processes of all containers.
    pub fn processes(&self) -> u64 {
        self.containers.iter().fold(0, |sum, container| sum.saturating_add(container.processes))
    }
}

/// How a container ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// The exit code; 128 plus the signal's number where a signal ended it.
    pub code: i32,
    /// Why.
    pub reason: ExitReason,
    /// When.
    pub at: SimTime,
}

/// Why a container ended, in the runtime's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "containerd's own words")]
pub enum ExitReason {
    Completed,
    Error,
    OomKilled,
    StartError,
    Unknown,
}

impl ExitReason {
    /// The word as `status.containerStatuses[].state.terminated.reason` carries it.
    pub const fn word(self) -> Name {
        Name::of(match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::StartError => "StartError",
            ExitReason::Unknown => "Unknown",
        })
    }
}

/// The question that a probe asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum ProbeKind {
    Readiness,
    Liveness,
    Startup,
}

/// What came of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeOutcome {
    /// The container answered well.
    Success,
    /// It did not; with the output.
    Failure(String),
    /// The probe itself could not be made; the container's state stays unknown.
    Errored(String),
}

/// The two lifecycle hooks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum HookKind {
    PostStart,
    PreStop,
}

/// An image in the node's store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageRecord {
    /// The name by which it was asked for.
    pub name: Name,
    /// The digest by which the runtime knows it.
    pub id: Name,
    /// The size in bytes.
    pub size: u64,
    /// The user as whom its program runs.
    pub user: ImageUser,
}

/// Everything that a runtime has.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// All sandboxes, by id.
    pub sandboxes: Vec<SandboxRecord>,
    /// All containers, by id.
    pub containers: Vec<ContainerRecord>,
    /// All images, by name.
    pub images: Vec<ImageRecord>,
    /// No pod number below this one is free: sandboxes with lower numbers exist or existed.
    pub next_pod: u32,
}

/// A sandbox as the runtime lists it.
#[derive(Clone, Debug)]
pub struct SandboxRecord {
    /// Which.
    pub sandbox: SandboxId,
    /// Who it is for.
    pub pod: Rc<PodIdentity>,
    /// True while it is up.
    pub ready: bool,
    /// Its address, while it has one of its own.
    pub address: Option<IpAddr>,
}

/// A container as the runtime lists it.
#[derive(Clone, Debug)]
pub struct ContainerRecord {
    /// Which.
    pub container: ContainerId,
    /// What was run.
    pub image: Name,
    /// When it was started; none if it was not.
    pub started: Option<SimTime>,
    /// How it ended; none while it has not.
    pub exit: Option<Exit>,
}
