//! Compiles a pod specification: what the hot paths need, worked out once for all pods that share it.

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::ConvertError;
use super::meta::from_quantities;
use crate::api::label_keys::Merged;
use crate::api::name::Name;
use crate::api::pod::{
    Container, ContainerRole, Handler, HostPort, PodSpec, Probe, PullPolicy, QosClass, RestartPolicy,
};
use crate::api::resize::{SCORING_MEMORY, SCORING_MILLI_CPU};
use crate::api::resources::Resources;

/// Compiles a pod specification. It should be defaulted.
pub fn compile(path: &str, mut full: core::PodSpec) -> Result<PodSpec, ConvertError> {
    full.node_name = full.node_name.filter(|node| !node.is_empty());
    drop_empty_resources(&mut full);
    let mut containers = Vec::new();
    for (index, container) in full.init_containers.iter().flatten().enumerate() {
        let restarts = container.restart_policy.as_deref() == Some("Always");
        let role = if restarts { ContainerRole::Sidecar } else { ContainerRole::Init };
        containers.push(compile_container(&format!("{path}.initContainers[{index}]"), container, role)?);
    }
    let init_count = containers.len();
    for (index, container) in full.containers.iter().enumerate() {
        containers.push(compile_container(&format!("{path}.containers[{index}]"), container, ContainerRole::Main)?);
    }
    let overhead = from_quantities(&format!("{path}.overhead"), full.overhead.as_ref())?;
    let pod_level = full.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let pod_level = from_quantities(&format!("{path}.resources.requests"), pod_level)?;
    let requests = override_by(total(&containers, |container| container.requests.clone()), &pod_level) + &overhead;
    let raw: Vec<&core::Container> = full.init_containers.iter().flatten().chain(&full.containers).collect();
    let mut position = 0..;
    let scoring_of: Vec<Resources> = containers
        .iter()
        .map(|container| {
            let raw = raw[position.next().unwrap_or(0)];
            scoring_request(container, raw)
        })
        .collect();
    let scoring_requests = total_of(&containers, &scoring_of) + &overhead;
    let host_ports = full.containers.iter().chain(full.init_containers.iter().flatten().filter(|c| is_sidecar(c)));
    let host_ports = host_ports.flat_map(host_ports_of).collect();
    Ok(PodSpec {
        requests,
        scoring_requests,
        host_ports,
        priority: full.priority.unwrap_or(0),
        restart_policy: match full.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        },
        grace_seconds: full.termination_grace_period_seconds.unwrap_or(30),
        qos: qos(&containers),
        merged: Merged::default(),
        containers,
        init_count,
        full,
    })
}

/// The API has no difference between no resources and empty ones: the field is a structure there, not a pointer.
fn drop_empty_resources(full: &mut core::PodSpec) {
    for container in full.containers.iter_mut().chain(full.init_containers.iter_mut().flatten()) {
        if container.resources.as_ref() == Some(&core::ResourceRequirements::default()) {
            container.resources = None;
        }
    }
}

fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn host_ports_of(container: &core::Container) -> impl Iterator<Item = HostPort> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.host_port?).ok().filter(|number| *number > 0)?;
        Some(HostPort {
            ip: Name::from(port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0")),
            protocol: Name::from(port.protocol.as_deref().unwrap_or("TCP")),
            port: number,
        })
    })
}

/// What a pod needs at once: main containers and sidecars together, or, if that is more, an init container beside the
/// sidecars started before it (component-helpers, resource: `PodRequests`).
fn total(containers: &[Container], of: impl Fn(&Container) -> Resources) -> Resources {
    let amounts: Vec<Resources> = containers.iter().map(of).collect();
    total_of(containers, &amounts)
}

fn total_of(containers: &[Container], amounts: &[Resources]) -> Resources {
    let (mut running, mut sidecars, mut starting) = (Resources::default(), Resources::default(), Resources::default());
    for (container, amount) in containers.iter().zip(amounts) {
        match container.role {
            ContainerRole::Main => running += amount,
            ContainerRole::Sidecar => {
                running += amount;
                sidecars += amount;
                starting = starting.max(&sidecars);
            }
            ContainerRole::Init => starting = starting.max(&(sidecars.clone() + amount)),
        }
    }
    running.max(&starting)
}

/// Pod-level requests take the place of the containers' sum, resource by resource.
fn override_by(mut sum: Resources, pod_level: &Resources) -> Resources {
    if pod_level.milli_cpu != 0 {
        sum.milli_cpu = pod_level.milli_cpu;
    }
    if pod_level.memory != 0 {
        sum.memory = pod_level.memory;
    }
    for (name, amount) in &pod_level.scalars {
        sum.set_scalar(name, *amount);
    }
    sum
}

/// An explicit zero counts as zero, only what is absent is assumed.
fn scoring_request(container: &Container, raw: &core::Container) -> Resources {
    let names = |resource: &str| {
        let resources = raw.resources.as_ref();
        let listed = |amounts: Option<&std::collections::BTreeMap<String, _>>| {
            amounts.is_some_and(|amounts| amounts.contains_key(resource))
        };
        listed(resources.and_then(|r| r.requests.as_ref())) || listed(resources.and_then(|r| r.limits.as_ref()))
    };
    let mut requests = container.requests.clone();
    if !names("cpu") {
        requests.milli_cpu = SCORING_MILLI_CPU;
    }
    if !names("memory") {
        requests.memory = SCORING_MEMORY;
    }
    requests
}

/// Guaranteed if every container has limits for CPU and memory that equal its requests, BestEffort if none has either,
/// else Burstable (component-helpers, qos: `ComputePodQOS`).
fn qos(containers: &[Container]) -> QosClass {
    let matters = |resources: &Resources| (resources.milli_cpu, resources.memory);
    let none = containers.iter().all(|c| matters(&c.requests) == (0, 0) && matters(&c.limits) == (0, 0));
    if none {
        return QosClass::BestEffort;
    }
    let guaranteed = containers.iter().all(|c| {
        let (cpu, memory) = matters(&c.limits);
        cpu > 0 && memory > 0 && matters(&c.requests) == (cpu, memory)
    });
    if guaranteed { QosClass::Guaranteed } else { QosClass::Burstable }
}

fn compile_container(path: &str, full: &core::Container, role: ContainerRole) -> Result<Container, ConvertError> {
    let resources = full.resources.as_ref();
    let limits = from_quantities(&format!("{path}.resources.limits"), resources.and_then(|r| r.limits.as_ref()))?;
    let mut requests =
        from_quantities(&format!("{path}.resources.requests"), resources.and_then(|r| r.requests.as_ref()))?;
    default_requests(&mut requests, &limits, resources);
    let image = full.image.as_deref().unwrap_or_default();
    let probe = |probe: &Option<core::Probe>| probe.as_ref().and_then(|probe| compile_probe(full, probe));
    let hook = |hook: Option<&core::LifecycleHandler>| hook.and_then(|hook| compile_hook(full, hook));
    let lifecycle = full.lifecycle.as_ref();
    Ok(Container {
        name: Name::from(&full.name),
        image: Name::from(image),
        role,
        pull_policy: match full.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        },
        requests,
        limits,
        readiness: probe(&full.readiness_probe),
        liveness: probe(&full.liveness_probe),
        startup: probe(&full.startup_probe),
        post_start: hook(lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref())),
        pre_stop: hook(lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref())),
    })
}

/// A limit without a request is a request too (core/v1, `SetDefaults_Pod`).
fn default_requests(requests: &mut Resources, limits: &Resources, raw: Option<&core::ResourceRequirements>) {
    let named = raw.and_then(|resources| resources.requests.as_ref());
    let absent = |resource: &str| !named.is_some_and(|amounts| amounts.contains_key(resource));
    if absent("cpu") {
        requests.milli_cpu = limits.milli_cpu;
    }
    if absent("memory") {
        requests.memory = limits.memory;
    }
    if absent("ephemeral-storage") {
        requests.ephemeral_storage = limits.ephemeral_storage;
    }
    for (name, amount) in &limits.scalars {
        if absent(name) {
            requests.set_scalar(name, *amount);
        }
    }
}

fn compile_probe(container: &core::Container, full: &core::Probe) -> Option<Probe> {
    let handler = handler(container, full.exec.as_ref(), full.http_get.as_ref(), full.tcp_socket.as_ref());
    let grpc = full.grpc.as_ref().and_then(|grpc| {
        let service = grpc.service.as_deref().map_or(Name::EMPTY, Name::from);
        u16::try_from(grpc.port).ok().map(|port| Handler::Grpc { port, service })
    });
    let count = |value: Option<i32>, default: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
    };
    Some(Probe {
        handler: handler.or(grpc)?,
        initial_delay_seconds: count(full.initial_delay_seconds, 0),
        period_seconds: count(full.period_seconds, 10),
        timeout_seconds: count(full.timeout_seconds, 1),
        failure_threshold: count(full.failure_threshold, 3),
        success_threshold: count(full.success_threshold, 1),
        grace_seconds: full.termination_grace_period_seconds,
    })
}

fn compile_hook(container: &core::Container, full: &core::LifecycleHandler) -> Option<Handler> {
    handler(container, full.exec.as_ref(), full.http_get.as_ref(), full.tcp_socket.as_ref())
        .or_else(|| full.sleep.as_ref().map(|sleep| Handler::Sleep { seconds: sleep.seconds }))
}

fn handler(
    container: &core::Container,
    exec: Option<&core::ExecAction>,
    http: Option<&core::HTTPGetAction>,
    tcp: Option<&core::TCPSocketAction>,
) -> Option<Handler> {
    let command = |exec: &core::ExecAction| Handler::Exec(Rc::from(exec.command.clone().unwrap_or_default()));
    let get = |http: &core::HTTPGetAction| Handler::HttpGet {
        port: port_number(container, &http.port),
        path: Name::from(http.path.as_deref().unwrap_or("/")),
    };
    let connect = |tcp: &core::TCPSocketAction| Handler::TcpSocket { port: port_number(container, &tcp.port) };
    exec.map(command).or_else(|| http.map(get)).or_else(|| tcp.map(connect))
}

/// A port by number, or by the name of one of the container's ports; zero if there is no such port.
fn port_number(container: &core::Container, port: &IntOrString) -> u16 {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}
