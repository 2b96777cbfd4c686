//! Pods.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::meta::{from_meta, from_time, to_meta, to_time, to_time_unless_zero};
use super::resize::{from_reported, to_reported};
use super::spec::compile;
use super::{Convert, ConvertError, name, name_or_empty, nonempty, nonzero, some_unless_empty, text};
use crate::api::batch::hostname_of_index;
use crate::api::meta::Meta;
use crate::api::name::Name;
use crate::api::node_selector::NAME_FIELD;
use crate::api::pod::{
    ConditionStatus, ContainerState, ContainerStatus, MadeClaim, OWN_NAME, Pod, PodCondition, PodConditionType,
    PodPhase, PodStatus, QosClass, Terminated, Why,
};

/// The prefix of the volume that gives a pod its token (ServiceAccount admission).
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";

impl Convert for Pod {
    type Full = core::Pod;

    fn to_full(&self) -> core::Pod {
        let mut spec = self.spec.full.clone();
        spec.node_name = text(&self.node);
        if let Some(node) = &self.only_node {
            add_only_node(&mut spec, node);
        }
        spec.hostname = self.hostname();
        if let Some(letters) = self.token_volume {
            add_token_volume(&mut spec, &String::from_utf8_lossy(&letters));
        }
        let mut status = to_status(&self.status);
        tell_mounts(&mut status.container_statuses, &self.status.containers, &spec.containers);
        let init_containers = spec.init_containers.as_deref().unwrap_or_default();
        tell_mounts(&mut status.init_container_statuses, &self.status.init_containers, init_containers);
        let implied = self.status.reported.is_none().then(|| self.implied()).flatten();
        if let Some(reported) = self.status.reported.as_deref().or(implied.as_ref()) {
            to_reported(reported, &mut status);
        }
        status.qos_class = Some(self.spec.qos.as_str().to_owned());
        core::Pod { metadata: to_meta(&self.meta), spec: Some(spec), status: Some(status) }
    }

    fn from_full(full: core::Pod) -> Result<Self, ConvertError> {
        let mut spec = full.spec.unwrap_or_default();
        let node = spec.node_name.take().filter(|node| !node.is_empty());
        let token_volume = take_token_volume(&mut spec);
        let only_node = take_only_node(&mut spec);
        let meta = from_meta(full.metadata)?;
        take_hostname(&mut spec, &meta)?;
        let mut pod = Pod {
            meta,
            spec: Rc::new(compile("spec", spec)?),
            node: name(node),
            only_node,
            token_volume,
            status: from_status(full.status.unwrap_or_default())?,
        };
        if pod.status.reported.is_some() && pod.status.reported.as_deref() == pod.implied().as_ref() {
            pod.status.reported = None;
        }
        Ok(pod)
    }
}

/// Adds the term that names the only node, as the DaemonSet controller does
/// (kubernetes, pkg/controller/daemon/util: `ReplaceDaemonSetPodNodeNameNodeAffinity`).
fn add_only_node(spec: &mut core::PodSpec, node: &Name) {
    let requirement = core::NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![String::from(node)]),
    };
    let term = core::NodeSelectorTerm { match_fields: Some(vec![requirement]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(core::NodeSelector { node_selector_terms: vec![term] });
}

/// Takes the term that names the only node out again, if it is all that is required, so that specifications can be shared.
fn take_only_node(spec: &mut core::PodSpec) -> Option<Box<Name>> {
    let affinity = spec.affinity.as_mut()?.node_affinity.as_mut()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let [term] = required.node_selector_terms.as_slice() else { return None };
    let [requirement] = term.match_fields.as_deref().unwrap_or_default() else { return None };
    let [node] = requirement.values.as_deref().unwrap_or_default() else { return None };
    let is_plain = term.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if !is_plain || requirement.key != NAME_FIELD || requirement.operator != "In" || node.is_empty() {
        return None;
    }
    let node = Box::new(Name::from(node));
    affinity.required_during_scheduling_ignored_during_execution = None;
    let is_empty = affinity.preferred_during_scheduling_ignored_during_execution.is_none();
    if let Some(all) = spec.affinity.as_mut().filter(|_| is_empty) {
        all.node_affinity = None;
        if all.pod_affinity.is_none() && all.pod_anti_affinity.is_none() {
            spec.affinity = None;
        }
    }
    Some(node)
}

/// A hostname that follows from the pod's metadata is not kept in its specification, so that the pods of a StatefulSet or of
/// an Indexed Job can share one.
fn take_hostname(spec: &mut core::PodSpec, meta: &Meta) -> Result<(), ConvertError> {
    let Some(hostname) = &spec.hostname else { return Ok(()) };
    if hostname == OWN_NAME {
        return Err(ConvertError::new("spec.hostname", format!("Invalid value: {OWN_NAME:?}")));
    }
    if **hostname == *meta.name {
        spec.hostname = Some(OWN_NAME.to_owned());
    } else if spec.hostname == hostname_of_index(meta) {
        spec.hostname = None;
    }
    Ok(())
}

/// Adds the volume and its mounts as ServiceAccount admission does.
fn add_token_volume(spec: &mut core::PodSpec, letters: &str) {
    let volume_name = format!("{TOKEN_VOLUME_PREFIX}{letters}");
    let mount = core::VolumeMount {
        name: volume_name.clone(),
        mount_path: "/var/run/secrets/kubernetes.io/serviceaccount".to_owned(),
        read_only: Some(true),
        ..core::VolumeMount::default()
    };
    let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        container.volume_mounts.get_or_insert_default().push(mount.clone());
    }
    let token = core::ServiceAccountTokenProjection {
        expiration_seconds: Some(3607),
        path: "token".to_owned(),
        audience: None,
    };
    let file = |key: &str| core::KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None };
    let certificate = core::ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![file("ca.crt")]),
        optional: None,
    };
    let namespace = core::DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(core::ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.namespace".to_owned(),
        }),
        ..core::DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        core::VolumeProjection { service_account_token: Some(token), ..Default::default() },
        core::VolumeProjection { config_map: Some(certificate), ..Default::default() },
        core::VolumeProjection {
            downward_api: Some(core::DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..Default::default()
        },
    ];
    spec.volumes.get_or_insert_default().push(core::Volume {
        name: volume_name,
        projected: Some(core::ProjectedVolumeSource { default_mode: Some(0o644), sources: Some(sources) }),
        ..core::Volume::default()
    });
}

/// Takes the volume and its mounts out again, so that specifications can be shared; returns its five letters.
fn take_token_volume(spec: &mut core::PodSpec) -> Option<[u8; 5]> {
    let volumes = spec.volumes.as_mut()?;
    let letters = |volume: &core::Volume| {
        let letters = volume.name.strip_prefix(TOKEN_VOLUME_PREFIX)?;
        volume.projected.as_ref()?;
        <[u8; 5]>::try_from(letters.as_bytes()).ok()
    };
    let (index, letters) = volumes.iter().enumerate().find_map(|(index, volume)| Some((index, letters(volume)?)))?;
    let volume = volumes.remove(index);
    if volumes.is_empty() {
        spec.volumes = None;
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(mounts) = &mut container.volume_mounts {
            mounts.retain(|mount| mount.name != volume.name);
            if mounts.is_empty() {
                container.volume_mounts = None;
            }
        }
    }
    Some(letters)
}

impl QosClass {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

impl PodPhase {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PodPhase::Pending => "Pending",
            PodPhase::Running => "Running",
            PodPhase::Succeeded => "Succeeded",
            PodPhase::Failed => "Failed",
            PodPhase::Unknown => "Unknown",
        }
    }

    /// From what the API writes; what is not known is Pending.
    pub fn of(text: &str) -> Self {
        match text {
            "Running" => PodPhase::Running,
            "Succeeded" => PodPhase::Succeeded,
            "Failed" => PodPhase::Failed,
            "Unknown" => PodPhase::Unknown,
            _ => PodPhase::Pending,
        }
    }
}

impl PodConditionType {
    /// As the API writes it.
    pub fn as_str(&self) -> &str {
        match self {
            PodConditionType::PodReadyToStartContainers => "PodReadyToStartContainers",
            PodConditionType::Initialized => "Initialized",
            PodConditionType::Ready => "Ready",
            PodConditionType::ContainersReady => "ContainersReady",
            PodConditionType::PodScheduled => "PodScheduled",
            PodConditionType::DisruptionTarget => "DisruptionTarget",
            PodConditionType::Other(name) => name,
        }
    }

    /// From what the API writes.
    pub fn of(text: &str) -> Self {
        match text {
            "PodReadyToStartContainers" => PodConditionType::PodReadyToStartContainers,
            "Initialized" => PodConditionType::Initialized,
            "Ready" => PodConditionType::Ready,
            "ContainersReady" => PodConditionType::ContainersReady,
            "PodScheduled" => PodConditionType::PodScheduled,
            "DisruptionTarget" => PodConditionType::DisruptionTarget,
            other => PodConditionType::Other(Name::from(other)),
        }
    }
}

fn to_status(status: &PodStatus) -> core::PodStatus {
    let condition = |condition: &PodCondition| core::PodCondition {
        type_: condition.kind.as_str().to_owned(),
        status: condition.status.as_str().to_owned(),
        reason: condition.why.reason().map(str::to_owned),
        message: condition.why.message().map(str::to_owned),
        last_transition_time: to_time_unless_zero(condition.last_transition),
        observed_generation: nonzero(condition.observed_generation),
        last_probe_time: None,
    };
    core::PodStatus {
        phase: Some(status.phase.as_str().to_owned()),
        observed_generation: nonzero(status.observed_generation),
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
        reason: status.why.reason().map(str::to_owned),
        message: status.why.message().map(str::to_owned),
        host_ip: status.host_ip.map(|ip| ip.to_string()),
        host_ips: status.host_ip.map(|ip| vec![core::HostIP { ip: ip.to_string() }]),
        pod_ip: status.pod_ip.map(|ip| ip.to_string()),
        pod_ips: status.pod_ip.map(|ip| vec![core::PodIP { ip: ip.to_string() }]),
        start_time: to_time_unless_zero(status.start_time),
        init_container_statuses: some_unless_empty(status.init_containers.iter().map(to_container).collect()),
        container_statuses: some_unless_empty(status.containers.iter().map(to_container).collect()),
        nominated_node_name: status.nominated_node.as_deref().map(String::from),
        resource_claim_statuses: some_unless_empty(status.resource_claims.iter().map(to_claim).collect()),
        ..core::PodStatus::default()
    }
}

fn from_claim(claim: core::PodResourceClaimStatus) -> MadeClaim {
    (Name::from(claim.name), name(claim.resource_claim_name))
}

fn to_claim((claim, made): &MadeClaim) -> core::PodResourceClaimStatus {
    core::PodResourceClaimStatus { name: claim.to_string(), resource_claim_name: text(made) }
}

fn from_status(full: core::PodStatus) -> Result<PodStatus, ConvertError> {
    let reported = from_reported(&full)?;
    let condition = |full: core::PodCondition| PodCondition {
        kind: PodConditionType::of(&full.type_),
        status: ConditionStatus::of(&full.status),
        why: Why::new(name(full.reason), name(full.message)),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
        observed_generation: full.observed_generation.unwrap_or(0),
    };
    let address = |path: &str, text: Option<String>| match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<IpAddr>()
            .map(Some)
            .map_err(|_| ConvertError::new(path, format!("Invalid value: \"{text}\": must be a valid IP address"))),
    };
    let detailed = full.resources.is_some();
    let containers = |list: Option<Vec<core::ContainerStatus>>| {
        list.unwrap_or_default().into_iter().map(|full| from_container(full, detailed))
    };
    Ok(PodStatus {
        phase: full.phase.as_deref().map(PodPhase::of).unwrap_or_default(),
        observed_generation: full.observed_generation.unwrap_or(0),
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
        why: Why::new(name(full.reason), name(full.message)),
        host_ip: address("status.hostIP", full.host_ip)?,
        pod_ip: address("status.podIP", full.pod_ip)?,
        start_time: full.start_time.map(from_time).unwrap_or_default(),
        init_containers: containers(full.init_container_statuses).collect(),
        containers: containers(full.container_statuses).collect(),
        nominated_node: name(full.nominated_node_name).map(Box::new),
        reported,
        resource_claims: full.resource_claim_statuses.unwrap_or_default().into_iter().map(from_claim).collect(),
    })
}

fn to_container(status: &ContainerStatus) -> core::ContainerStatus {
    let state = match &status.state {
        ContainerState::Waiting { reason, message } => core::ContainerState {
            waiting: Some(core::ContainerStateWaiting {
                reason: nonempty(reason),
                message: message.as_deref().map(String::from),
            }),
            ..core::ContainerState::default()
        },
        ContainerState::Running { started_at } => core::ContainerState {
            running: Some(core::ContainerStateRunning { started_at: Some(to_time(*started_at)) }),
            ..core::ContainerState::default()
        },
        ContainerState::Terminated(end) => ended(end),
    };
    core::ContainerStatus {
        name: String::from(&status.name),
        image: String::from(&status.image),
        image_id: String::from(&status.image_id),
        container_id: Some(status.container_id.to_string()).filter(|id| !id.is_empty()),
        state: Some(state),
        last_state: Some(status.last_state.as_deref().map(ended).unwrap_or_default()),
        ready: status.ready,
        started: status.started,
        restart_count: i32::try_from(status.restart_count).unwrap_or(i32::MAX),
        ..core::ContainerStatus::default()
    }
}

/// Tells in the statuses of containers what is mounted, as kubelets do that do (kubelet_pods.go, `convertToAPIContainerStatuses`): no
/// runtime here makes mounts read-only all the way down.
fn tell_mounts(
    full: &mut Option<Vec<core::ContainerStatus>>,
    statuses: &[ContainerStatus],
    containers: &[core::Container],
) {
    let told = full.iter_mut().flatten().zip(statuses).filter(|(_, status)| status.detailed);
    for (full, _) in told {
        let container = containers.iter().find(|container| container.name == full.name);
        let mounts = container.iter().flat_map(|container| container.volume_mounts.iter().flatten());
        let mounts = mounts.map(|mount| {
            let read_only = mount.read_only.filter(|read_only| *read_only);
            core::VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only,
                recursive_read_only: read_only.map(|_| "Disabled".to_owned()),
                ..core::VolumeMountStatus::default()
            }
        });
        full.volume_mounts = some_unless_empty(mounts.collect());
    }
}

fn ended(end: &Terminated) -> core::ContainerState {
    core::ContainerState {
        terminated: Some(core::ContainerStateTerminated {
            exit_code: end.exit_code,
            reason: nonempty(&end.reason),
            message: text(&end.message),
            started_at: end.started_at.map(to_time),
            finished_at: end.finished_at.map(to_time),
            container_id: Some(end.container_id.to_string()).filter(|id| !id.is_empty()),
            ..core::ContainerStateTerminated::default()
        }),
        ..core::ContainerState::default()
    }
}

/// Reads the status of a container; `detailed` if that of its pod tells of resources.
fn from_container(full: core::ContainerStatus, detailed: bool) -> ContainerStatus {
    let state = full.state.unwrap_or_default();
    let state = if let Some(running) = state.running {
        ContainerState::Running { started_at: running.started_at.map(from_time).unwrap_or_default() }
    } else if let Some(end) = state.terminated {
        ContainerState::Terminated(from_ended(end).into())
    } else {
        let waiting = state.waiting.unwrap_or_default();
        ContainerState::Waiting { reason: name_or_empty(waiting.reason), message: name(waiting.message).map(Box::new) }
    };
    ContainerStatus {
        name: Name::from(full.name),
        image: Name::from(full.image),
        image_id: Name::from(full.image_id),
        container_id: full.container_id.into(),
        state,
        last_state: full.last_state.and_then(|last| last.terminated).map(|end| from_ended(end).into()),
        ready: full.ready,
        started: full.started,
        restart_count: u32::try_from(full.restart_count).unwrap_or(0),
        detailed: detailed || full.volume_mounts.is_some_and(|mounts| !mounts.is_empty()),
    }
}

fn from_ended(full: core::ContainerStateTerminated) -> Terminated {
    Terminated {
        exit_code: full.exit_code,
        reason: name_or_empty(full.reason),
        message: name(full.message),
        started_at: full.started_at.map(from_time),
        finished_at: full.finished_at.map(from_time),
        container_id: full.container_id.into(),
    }
}
