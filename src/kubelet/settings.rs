//! What a kubelet is made of: its node, its timings, and how much of a real kubelet it is.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::meta::{Epoch, Labels};
use crate::api::name::Name;
use crate::api::node::Taint;
use crate::api::resources::Resources;
use crate::apiserver::heartbeats::Heartbeats;
use crate::apiserver::protocol::User;
use crate::engine::process::ProcessId;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};

use super::clock::NodeClock;

use super::configuration::Configuration;

/// Everything that is fixed for a kubelet.
#[derive(Clone, Debug)]
pub struct KubeletSettings {
    /// The run's seed.
    pub seed: Seed,
    /// The date at which virtual time is zero.
    pub epoch: Epoch,
    /// The API servers, the preferred one first.
    pub api_servers: Vec<ProcessId>,
    /// The node as it registers itself.
    pub node: NodeSettings,
    /// How long its steps take.
    pub timings: KubeletTimings,
    /// How much of a real kubelet it is.
    pub profile: KubeletProfile,
    /// What its administrator says.
    pub configuration: Configuration,
    /// Where renewals of the lease may be noted while nobody needs to see them travel.
    pub heartbeats: Rc<Heartbeats>,
    /// The machine's clock.
    pub clock: Rc<NodeClock>,
}

impl KubeletSettings {
    /// The date at which virtual time was zero, by the machine's clock.
    pub fn local_epoch(&self, now: SimTime) -> Epoch {
        self.clock.epoch(self.epoch, now)
    }
}

/// The node as a kubelet registers it.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The node's name.
    pub name: Name,
    /// The node's address.
    pub address: IpAddr,
    /// The range of its pods' addresses, such as `10.244.3.0/24`; written at registration, as no other component gives ranges out.
    pub pod_range: Option<Name>,
    /// What the machine has.
    pub capacity: Resources,
    /// What pods may use of it.
    pub allocatable: Resources,
    /// Labels, those besides that every kubelet sets: hostname, operating system, architecture.
    pub labels: Labels,
    /// `--register-with-taints`.
    pub taints: Rc<[Taint]>,
    /// `status.nodeInfo`, shared among nodes of a pool.
    pub info: Option<Rc<core::NodeSystemInfo>>,
}

impl NodeSettings {
    /// A node of 4 CPU, 16 GiB, 110 pods.
    pub fn new(name: impl Into<Name>, address: IpAddr) -> Self {
        let capacity = Resources {
            milli_cpu: 4000,
            memory: 16 << 30,
            ephemeral_storage: 100 << 30,
            pods: 110,
            scalars: Vec::new(),
        };
        NodeSettings {
            name: name.into(),
            address,
            pod_range: None,
            allocatable: capacity.clone(),
            capacity,
            labels: Labels::NONE,
            taints: Rc::default(),
            info: None,
        }
    }

    /// Who the kubelet is to the API.
    pub fn user(&self) -> User {
        User {
            name: Name::from(format!("system:node:{}", self.name)),
            groups: vec![Name::of("system:nodes"), Name::of("system:authenticated")],
        }
    }
}

/// How long a kubelet's steps take. The defaults are those of an idle machine (bind to first status 0.02 s, sandbox 0.5 s,
/// Running 0.6 s, measured with kubelet 1.36.2 on containerd 1.7) and the kubelet's own constants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubeletTimings {
    /// From a changed status to its PATCH: the GET that comes first, and the work around it. 10 ms.
    pub status_read: SimDuration,
    /// How long the volumes of a new pod take: the poll finds them mounted after 300 ms (volumemanager, `podAttachAndMountRetryInterval`).
    pub volumes: SimDuration,
    /// How long after the containers' end the volumes are gone. 150 ms; looked for every 300 ms.
    pub unmount: SimDuration,
    /// How often the runtime is listed (pleg, `genericPlegRelistPeriod`): 1 s. Zero: changes are seen at once.
    pub relist: SimDuration,
    /// How often pods whose time has come are synced again (kubelet, `syncLoop`): 1 s. Zero: exactly on time.
    pub sync_tick: SimDuration,
    /// How often statuses are compared with the API's and failed writes made again (status, `syncPeriod`): 10 s.
    pub status_recheck: SimDuration,
    /// How long a sync that failed waits, before jitter (kubelet, `backOffPeriod`): 10 s.
    pub retry: SimDuration,
    /// The longest wait of a sync, before jitter (`--sync-frequency`): 60 s.
    pub resync: SimDuration,
    /// The first back-off of a crashing container (10 s) and of a failing pull (10 s).
    pub first_back_off: SimDuration,
    /// The longest back-off: 300 s. One that was not used for twice as long is forgotten.
    pub longest_back_off: SimDuration,
    /// What a container gets at least between SIGTERM and SIGKILL (kuberuntime, `minimumGracePeriodInSeconds`): 2 s.
    pub minimum_grace_seconds: i64,
    /// How often the lease is renewed: 10 s, and up to 4 percent later (component-helpers, lease controller).
    pub lease: SimDuration,
    /// `leaseDurationSeconds`: 40.
    pub lease_seconds: i32,
    /// How often the node's status is looked at (`nodeStatusUpdateFrequency`): 10 s. Written only if it changed.
    pub node_status: SimDuration,
    /// How often the node's status is written though nothing changed (`nodeStatusReportFrequency`): 5 min.
    pub node_report: SimDuration,
    /// How often a kubelet that begins looks whether it has read its node: only then does it read its pods (kubelet/config,
    /// `WaitForAPIServerSyncPeriod`): 1 s. Zero: it reads both at once.
    pub pod_source: SimDuration,
    /// From the start to the registration (kubelet, `registerWithAPIServer`: first step): 100 ms.
    pub register: SimDuration,
    /// From the registration to the status that says Ready: 50 ms.
    pub ready: SimDuration,
}

impl Default for KubeletTimings {
    fn default() -> Self {
        KubeletTimings {
            status_read: SimDuration::from_millis(10),
            volumes: SimDuration::from_millis(300),
            unmount: SimDuration::from_millis(150),
            relist: SimDuration::from_secs(1),
            sync_tick: SimDuration::from_secs(1),
            status_recheck: SimDuration::from_secs(10),
            retry: SimDuration::from_secs(10),
            resync: SimDuration::from_secs(60),
            first_back_off: SimDuration::from_secs(10),
            longest_back_off: SimDuration::from_secs(300),
            minimum_grace_seconds: 2,
            lease: SimDuration::from_secs(10),
            lease_seconds: 40,
            node_status: SimDuration::from_secs(10),
            node_report: SimDuration::from_secs(300),
            pod_source: SimDuration::from_secs(1),
            register: SimDuration::from_millis(100),
            ready: SimDuration::from_millis(50),
        }
    }
}

/// How much of a real kubelet it is: plain data, the same code for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubeletProfile {
    /// Records Kubernetes events.
    pub events: bool,
    /// Writes the status as soon as a sandbox is up, before any container runs.
    pub sandbox_write: bool,
    /// Writes the status when it begins to end a pod, not only when the containers have stopped.
    pub deletion_write: bool,
    /// Takes every image to be on the node, knows each by its name alone (`fake://`) and lists none.
    pub images_present: bool,
    /// A container whose image is named so never becomes ready, probe or not: the stand-in has no probes.
    pub never_ready: Option<&'static str>,
    /// Reads from a pod's annotations whether its containers are ready, and how long they take to be.
    pub annotations: bool,
    /// Tells of a container's end together with what follows from it: the end of its pod, its next start, or that it waits
    /// for that. A container that waits is started again at the very end of its back-off.
    pub prompt_restarts: bool,
    /// Tells in statuses which volumes are mounted and what resources there are.
    pub details: bool,
    /// Declares what a kubelet of its version can do.
    pub features: bool,
}

impl Default for KubeletProfile {
    fn default() -> Self {
        KubeletProfile {
            events: true,
            sandbox_write: true,
            deletion_write: true,
            images_present: false,
            never_ready: None,
            annotations: false,
            prompt_restarts: false,
            details: true,
            features: true,
        }
    }
}

impl KubeletProfile {
    /// The stand-in kubelet with which control planes are recorded: it writes only that a pod was seen, that it runs, and
    /// that it ended, and records no events; an image named `never-ready` runs and never becomes ready. Goes with
    /// [`KubeletTimings::stand_in`] and a runtime whose sandboxes take no time and whose containers take the whole start delay
    /// the first time, and none when they are started again.
    pub fn stand_in() -> Self {
        KubeletProfile {
            events: false,
            sandbox_write: false,
            deletion_write: false,
            images_present: true,
            never_ready: Some("never-ready"),
            annotations: true,
            prompt_restarts: true,
            details: false,
            features: false,
        }
    }

    /// True if an image's name says that its containers never become ready.
    pub fn is_never_ready(&self, image: &str) -> bool {
        self.never_ready.is_some_and(|word| image.contains(word))
    }
}

impl KubeletTimings {
    /// Without ticks and waits: everything is seen and written at once.
    pub fn stand_in() -> Self {
        KubeletTimings {
            status_read: SimDuration::ZERO,
            volumes: SimDuration::ZERO,
            unmount: SimDuration::ZERO,
            relist: SimDuration::ZERO,
            sync_tick: SimDuration::ZERO,
            // What it says of its node comes first.
            pod_source: SimDuration::from_millis(200),
            minimum_grace_seconds: 0,
            ..KubeletTimings::default()
        }
    }
}
