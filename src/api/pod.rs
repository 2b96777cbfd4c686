//! Pods: a specification shared by all replicas of a template, and a small status of their own.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::instance_id::InstanceId;
use super::label_keys::Merged;
use super::meta::{Labels, Meta, Timestamp};
use super::name::Name;
use super::resize::Reported;
use super::resources::Resources;
use super::shared::Shared;

/// A pod. Its specification is shared; what the scheduler and admission add to a single pod stands beside it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Metadata.
    pub meta: Meta,
    /// The desired state, shared among all pods of one template. Never carries `nodeName`, the token volume, nor the
    /// term that names the only node.
    pub spec: Rc<PodSpec>,
    /// `spec.nodeName`: where the pod is bound; none while it is pending.
    pub node: Option<Name>,
    /// The only node to which the pod may be bound, if it is the pod of a DaemonSet: the one term of its required node
    /// affinity, which selects by `metadata.name`. Everything else of the specification is shared by all nodes' pods.
    pub only_node: Option<Box<Name>>,
    /// The five random letters of the `kube-api-access-xxxxx` volume that the ServiceAccount admission adds, if it did.
    pub token_volume: Option<[u8; 5]>,
    /// The observed state.
    pub status: PodStatus,
}

/// A pod template: labels, annotations and specification, compiled once.
#[derive(Clone, Debug)]
pub struct PodTemplate {
    /// Labels that each pod gets.
    pub labels: Labels,
    /// Annotations that each pod gets.
    pub annotations: Labels,
    /// The specification that the pods share.
    pub spec: Rc<PodSpec>,
    /// What else its metadata says, if anything. Pods get nothing of it but the finalizers.
    pub other: Option<Rc<ObjectMeta>>,
}

impl PodTemplate {
    /// The node that the template names: its pods are there from the beginning, and no scheduler is asked.
    pub fn node(&self) -> Option<Name> {
        self.spec.full.node_name.as_deref().map(Name::from)
    }

    /// The finalizers of its pods.
    pub fn finalizers(&self) -> Vec<Name> {
        let finalizers = self.other.iter().flat_map(|meta| meta.finalizers.iter().flatten());
        finalizers.map(|finalizer| Name::from(finalizer.as_str())).collect()
    }
}

impl PodSpec {
    /// What pods have of a template's specification: all but the node, which stands beside it.
    pub fn for_pods(template: &Rc<PodSpec>) -> Rc<PodSpec> {
        if template.full.node_name.is_none() {
            return template.clone();
        }
        let mut spec = PodSpec::clone(template);
        spec.full.node_name = None;
        Rc::new(spec)
    }
}

/// What stands in a shared specification for a hostname that is the pod's own name; no pod can ask for it.
pub const OWN_NAME: &str = "*";

/// A defaulted pod specification with what the hot paths need compiled out of it.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// The whole specification as the API knows it, defaulted; that of a pod without `nodeName` and token volume, which stand beside
    /// it, that of a template with the `nodeName` that it may have.
    pub full: core::PodSpec,
    /// All containers: init containers (sidecars among them) in order, then the main ones in order.
    pub containers: Vec<Container>,
    /// How many of `containers` are init containers.
    pub init_count: usize,
    /// What the scheduler reserves (init containers, sidecars, overhead and pod-level resources taken into account).
    pub requests: Resources,
    /// The same with 100m CPU and 200Mi memory for each container that names none (scheduler, scoring).
    pub scoring_requests: Resources,
    /// Host ports in use: of main containers and sidecars.
    pub host_ports: Vec<HostPort>,
    /// `spec.priority`, 0 if not set.
    pub priority: i32,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`, defaulted to 30.
    pub grace_seconds: i64,
    /// `status.qosClass` that follows from requests and limits.
    pub qos: QosClass,
    /// What it became for the last pod whose labels were merged into its selectors.
    pub merged: Merged,
}

/// What a container is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainerRole {
    /// An init container that runs to completion before the next one.
    Init,
    /// A restartable init container: started in order, then runs beside the main ones.
    Sidecar,
    /// A main container.
    Main,
}

/// A container, compiled.
#[derive(Clone, Debug)]
pub struct Container {
    /// The name.
    pub name: Name,
    /// The image as written.
    pub image: Name,
    /// Init, sidecar or main.
    pub role: ContainerRole,
    /// `imagePullPolicy`, defaulted.
    pub pull_policy: PullPolicy,
    /// Requests after defaulting from limits.
    pub requests: Resources,
    /// Limits.
    pub limits: Resources,
    /// Readiness probe.
    pub readiness: Option<Probe>,
    /// Liveness probe.
    pub liveness: Option<Probe>,
    /// Startup probe.
    pub startup: Option<Probe>,
    /// `lifecycle.postStart`.
    pub post_start: Option<Handler>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<Handler>,
}

/// A probe, defaulted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What is done.
    pub handler: Handler,
    /// Seconds after the container's start before the first probe.
    pub initial_delay_seconds: u32,
    /// Seconds between probes.
    pub period_seconds: u32,
    /// Seconds after which a probe has failed.
    pub timeout_seconds: u32,
    /// Consecutive failures that make a failure.
    pub failure_threshold: u32,
    /// Consecutive successes that make a success.
    pub success_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe.
    pub grace_seconds: Option<i64>,
}

/// What a probe or a hook does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Handler {
    /// Runs a command in the container.
    Exec(Rc<[String]>),
    /// Asks by HTTP.
    HttpGet {
        /// The port's number, names resolved.
        port: u16,
        /// The path.
        path: Name,
    },
    /// Opens a TCP connection.
    TcpSocket {
        /// The port's number, names resolved.
        port: u16,
    },
    /// Asks the gRPC health service.
    Grpc {
        /// The port.
        port: u16,
        /// The service that is asked about; empty for the whole server.
        service: Name,
    },
    /// Waits.
    Sleep {
        /// For how many seconds.
        seconds: i64,
    },
}

/// A port of the node that a pod occupies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPort {
    /// The address; `0.0.0.0` for all.
    pub ip: Name,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Name,
    /// The port.
    pub port: u16,
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// `status.qosClass`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum QosClass {
    Guaranteed,
    Burstable,
    #[default]
    BestEffort,
}

/// `status.phase`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum PodPhase {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum ConditionStatus {
    True,
    #[default]
    False,
    Unknown,
}

/// The observed state of a pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodStatus {
    /// The phase.
    pub phase: PodPhase,
    /// `status.observedGeneration`; zero if not set.
    pub observed_generation: i64,
    /// Conditions in the order in which they are stored; pods that came so far in the same seconds share them.
    pub conditions: Shared<PodCondition>,
    /// `status.reason` and `status.message`.
    pub why: Why,
    /// The node's address.
    pub host_ip: Option<IpAddr>,
    /// The pod's address.
    pub pod_ip: Option<IpAddr>,
    /// When the kubelet acknowledged the pod; zero before ([`PodStatus::started`]).
    pub start_time: Timestamp,
    /// Init containers, in the order of the spec; empty before the kubelet's first write.
    pub init_containers: Shared<ContainerStatus>,
    /// Main containers, in the order of the spec; empty before the kubelet's first write.
    pub containers: Shared<ContainerStatus>,
    /// `status.nominatedNodeName`.
    pub nominated_node: Option<Box<Name>>,
    /// What the kubelet reports of resources, if it does (`allocatedResources` and `resources`).
    pub reported: Option<Rc<Reported>>,
    /// `status.resourceClaimStatuses`: the claims that were made from templates, by their names in the specification; a claim
    /// that turned out not to be needed has no other name.
    pub resource_claims: Shared<MadeClaim>,
}

/// The name of a claim in the pod's specification, and that of the claim that was made from its template.
pub type MadeClaim = (Name, Option<Name>);

/// A pod condition's type.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum PodConditionType {
    PodReadyToStartContainers,
    Initialized,
    Ready,
    ContainersReady,
    PodScheduled,
    DisruptionTarget,
    /// Any other, readiness gates among them.
    Other(Name),
}

impl PodConditionType {
    /// True if nobody but the kubelet says it once the pod is bound (kubelet/types, `PodConditionByKubelet`): what its newest status
    /// does not say is gone.
    pub fn is_kubelets(&self) -> bool {
        match self {
            PodConditionType::DisruptionTarget => false,
            PodConditionType::Other(name) => name.starts_with("PodResize") || *name == "AllContainersRestarting",
            _ => true,
        }
    }
}

/// Why something is as it is, in a word and in a sentence. Mostly nothing is said, which takes no memory but a pointer's.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Why(Option<Rc<Words>>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Words {
    reason: Option<Name>,
    message: Option<Name>,
}

/// A pod condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodCondition {
    /// The type.
    pub kind: PodConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why.
    pub why: Why,
    /// When `status` last changed.
    pub last_transition: Timestamp,
    /// The pod's generation that this speaks of; zero if not set.
    pub observed_generation: i64,
}

/// The state of one container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: Name,
    /// The image as the runtime names it.
    pub image: Name,
    /// The image's digest; empty before it runs.
    pub image_id: Name,
    /// The runtime's id; empty before it is created.
    pub container_id: InstanceId,
    /// The present state.
    pub state: ContainerState,
    /// How the previous instance ended, if there was one.
    pub last_state: Option<Rc<Terminated>>,
    /// Passes its readiness probe.
    pub ready: bool,
    /// Passed its startup probe and postStart hook; none is written as absent.
    pub started: Option<bool>,
    /// How often it was started again.
    pub restart_count: u32,
    /// It is told which volumes are mounted and what resources the container and the pod have. Which those are follows from the
    /// specification, until the pod is resized.
    pub detailed: bool,
}

/// The state of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContainerState {
    /// Not yet running.
    Waiting {
        /// Why, in one word.
        reason: Name,
        /// Why, in a sentence; apart, because mostly there is none.
        message: Option<Box<Name>>,
    },
    /// Running.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Ended.
    Terminated(Rc<Terminated>),
}

/// How a container ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terminated {
    /// The exit code.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ...
    pub reason: Name,
    /// A message, if there is one.
    pub message: Option<Name>,
    /// When it started; none if unknown.
    pub started_at: Option<Timestamp>,
    /// When it ended; none if unknown.
    pub finished_at: Option<Timestamp>,
    /// The runtime's id of the instance.
    pub container_id: InstanceId,
}

impl PodTemplate {
    /// True if both make the same pods.
    pub fn says_the_same(&self, other: &PodTemplate) -> bool {
        std::ptr::eq(self, other)
            || self.labels == other.labels
                && self.annotations == other.annotations
                && self.other == other.other
                && (Rc::ptr_eq(&self.spec, &other.spec) || self.spec.full == other.spec.full)
    }
}

impl Why {
    /// Nothing is said.
    pub const NONE: Why = Why(None);

    /// A word and a sentence, as far as they are there.
    pub fn new(reason: Option<Name>, message: Option<Name>) -> Why {
        let is_told = reason.is_some() || message.is_some();
        Why(is_told.then(|| Rc::new(Words { reason, message })))
    }

    /// In one word.
    pub fn reason(&self) -> Option<&str> {
        self.0.as_ref()?.reason.as_deref()
    }

    /// In a sentence.
    pub fn message(&self) -> Option<&str> {
        self.0.as_ref()?.message.as_deref()
    }
}

impl PodStatus {
    /// The condition of a type.
    #[inline]
    pub fn condition(&self, kind: &PodConditionType) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.kind == *kind)
    }

    /// When the kubelet acknowledged the pod, if it has.
    pub fn started(&self) -> Option<Timestamp> {
        (self.start_time != Timestamp::default()).then_some(self.start_time)
    }

    /// True if the Ready condition is.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.condition(&PodConditionType::Ready).is_some_and(|ready| ready.status == ConditionStatus::True)
    }

    /// Since when the pod is ready; none if it is not.
    pub fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition(&PodConditionType::Ready).filter(|ready| ready.status == ConditionStatus::True);
        ready.map(|ready| ready.last_transition)
    }
}

impl Pod {
    /// True if the pod has ended for good: Succeeded or Failed.
    #[inline]
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// True if the pod counts for a workload: neither ended nor being deleted (kube-controller-manager, `IsPodActive`).
    #[inline]
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.meta.is_deleting()
    }

    /// The node that the pod is on, or the only one that it may come to, if that is known.
    pub fn place(&self) -> Option<&Name> {
        self.node.as_ref().or(self.only_node.as_deref())
    }

    /// True if the pod has been ready for `min_ready_seconds` at a time (kube-controller-manager, `IsPodAvailable`).
    pub fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.status.ready_since().is_some_and(|since| counts_as_available(since, min_ready_seconds, now))
    }
}

/// True if a pod that is ready since then has been so for `min_ready_seconds` at a time.
pub fn counts_as_available(since: Timestamp, min_ready_seconds: i32, now: Timestamp) -> bool {
    min_ready_seconds == 0 || since.0 + i64::from(min_ready_seconds) <= now.0
}
