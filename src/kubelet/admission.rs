//! Whether a pod that was bound to this node may run here (kubelet, `canAdmitPod`): pressure, room, node selector, host ports,
//! taints.

use crate::api::event::EventType;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::{Taint, TaintEffect};
use crate::api::pod::{Pod, PodPhase, PodSpec, PodStatus, QosClass, Why};
use crate::api::resources::Resources;

use super::affinity;
use super::agent::NodeContext;
use super::qos;
use super::room::Taken;
use super::settings::NodeSettings;
use super::shared::Shared;
use super::thresholds::Pressure;
use super::worker::{Stage, Worker};

/// Why a pod may not run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// In one word, such as `OutOfcpu`.
    pub reason: Name,
    /// In a sentence.
    pub message: String,
}

/// A resource of which a node has too little for a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// Which.
    pub resource: Name,
    /// What the pod requests.
    pub requested: i64,
    /// What others have.
    pub used: i64,
    /// What there is.
    pub capacity: i64,
}

impl Shortage {
    /// How much is missing (`GetInsufficientAmount`).
    pub fn missing(&self) -> i64 {
        self.requested.saturating_sub(self.capacity.saturating_sub(self.used))
    }

    fn rejection(&self) -> Rejection {
        let Shortage { resource, requested, used, capacity } = self;
        Rejection {
            reason: Name::from(format!("OutOf{resource}")),
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        }
    }
}

/// The node as an admission sees it.
pub struct Here<'a> {
    /// The node's name and what it has.
    pub settings: &'a NodeSettings,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its taints.
    pub taints: &'a [Taint],
    /// What it runs short of.
    pub under: &'a [Pressure],
}

/// Decides about a pod beside those that are here, and what they have taken. A critical pod is not refused for want of room: what is
/// missing is told, so that others can be ended for it.
pub fn admit<'a>(
    pod: &Pod,
    mut others: impl Iterator<Item = &'a PodSpec>,
    taken: &Taken,
    here: &Here<'_>,
) -> Result<Vec<Shortage>, Rejection> {
    admit_under_pressure(pod, here)?;
    admit_for_system(pod, here)?;
    let reject = |name: &'static str, why: &str| {
        Err(Rejection { reason: Name::of(name), message: format!("Predicate {name} failed: {why}") })
    };
    let shortages = shortages(&pod.spec.requests, taken, &here.settings.allocatable);
    if let Some(shortage) = shortages.first().filter(|_| !qos::is_critical(pod)) {
        return Err(shortage.rejection());
    }
    let elsewhere = pod.only_node.as_deref().is_some_and(|node| *node != here.settings.name);
    if elsewhere || !affinity::matches(&pod.spec, &here.settings.name, here.labels) {
        return reject("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    let ports = &pod.spec.host_ports;
    let clashes = |other: &PodSpec| ports.iter().any(|port| other.host_ports.iter().any(|taken| clash(port, taken)));
    if !ports.is_empty() && others.any(clashes) {
        return reject("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let tolerations = pod.spec.full.tolerations.as_deref().unwrap_or_default();
    let evicting = |taint: &&Taint| taint.effect == TaintEffect::NoExecute;
    let untolerated = here.taints.iter().filter(evicting).any(|taint| !taint.is_tolerated_by(tolerations));
    if untolerated && !qos::is_static(pod) {
        return reject("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(shortages)
}

/// A node that runs short takes no more pods but critical ones, and those that requested memory if it is only memory that runs
/// short (eviction manager, `Admit`).
fn admit_under_pressure(pod: &Pod, here: &Here<'_>) -> Result<(), Rejection> {
    if here.under.is_empty() || qos::is_critical(pod) {
        return Ok(());
    }
    if here.under == [Pressure::Memory] {
        let taint = Taint {
            key: Name::of("node.kubernetes.io/memory-pressure"),
            value: Name::EMPTY,
            effect: TaintEffect::NoSchedule,
            time_added: None,
        };
        let tolerations = pod.spec.full.tolerations.as_deref().unwrap_or_default();
        if pod.spec.qos != QosClass::BestEffort || taint.is_tolerated_by(tolerations) {
            return Ok(());
        }
    }
    let conditions: Vec<String> = here.under.iter().map(|pressure| pressure.condition().to_string()).collect();
    let message = format!("The node had condition: [{}]. ", conditions.join(" "));
    Err(Rejection { reason: Name::of("Evicted"), message })
}

/// A pod that is for another operating system is not taken (lifecycle/predicate.go: these come before all that ending other pods
/// could help).
fn admit_for_system(pod: &Pod, here: &Here<'_>) -> Result<(), Rejection> {
    const SYSTEM: &str = "kubernetes.io/os";
    let reject =
        |reason: &'static str, message: &str| Err(Rejection { reason: Name::of(reason), message: message.to_owned() });
    let own = here.labels.get(SYSTEM).map_or("linux", |label| label.as_str());
    if pod.meta.labels.get(SYSTEM).is_some_and(|wanted| wanted.as_str() != own) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return reject("PodOSSelectorNodeLabelDoesNotMatch", message);
    }
    if pod.spec.full.os.as_ref().is_some_and(|system| system.name != "linux") {
        return reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    Ok(())
}

/// The resources that there is too little of (noderesources, `Fits`). Extended resources that the node does not have are not
/// asked for (`removeMissingExtendedResources`).
fn shortages(wanted: &Resources, taken: &Taken, capacity: &Resources) -> Vec<Shortage> {
    let used = &taken.requests;
    let rows = [
        ("pods", 1, taken.pods, capacity.pods),
        ("cpu", wanted.milli_cpu, used.milli_cpu, capacity.milli_cpu),
        ("memory", wanted.memory, used.memory, capacity.memory),
        ("ephemeral-storage", wanted.ephemeral_storage, used.ephemeral_storage, capacity.ephemeral_storage),
    ];
    let rows = rows.into_iter().map(|(name, wanted, used, capacity)| (Name::of(name), wanted, used, capacity));
    let scalars = wanted.scalars.iter().filter(|(name, _)| capacity.scalars.iter().any(|(known, _)| known == name));
    let scalars = scalars.map(|(name, wanted)| (name.clone(), *wanted, used.scalar(name), capacity.scalar(name)));
    rows.chain(scalars)
        .filter(|(_, wanted, used, capacity)| *wanted > 0 && wanted.saturating_add(*used) > *capacity)
        .map(|(resource, requested, used, capacity)| Shortage { resource, requested, used, capacity })
        .collect()
}

/// True if two pods cannot both have their port.
fn clash(left: &crate::api::pod::HostPort, right: &crate::api::pod::HostPort) -> bool {
    let any = |ip: &Name| ip.is_empty() || ip == "0.0.0.0";
    left.port == right.port
        && left.protocol == right.protocol
        && (left.ip == right.ip || any(&left.ip) || any(&right.ip))
}

impl Worker {
    /// Ends a pod that may not run here: phase, reason, message and start time, nothing else. Whatever else the kubelet had said of
    /// it goes (`rejectPod`).
    pub fn reject(&mut self, rejection: Rejection, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Rejection { reason, message } = rejection;
        shared.record_reason(self, None, EventType::Warning, reason.clone(), message.clone());
        self.stage = Stage::Finished;
        let mut conditions = self.pod.status.conditions.clone();
        conditions.retain(|condition| !condition.kind.is_kubelets());
        let status = PodStatus {
            phase: PodPhase::Failed,
            observed_generation: self.pod.meta.generation,
            why: Why::new(Some(reason), Some(format!("Pod was rejected: {message}").into())),
            start_time: self.pod.status.started().unwrap_or_else(|| shared.date(ctx.now())),
            conditions,
            ..PodStatus::default()
        };
        self.hold(status, true, shared, ctx);
    }
}
