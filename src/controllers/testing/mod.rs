//! What the controllers' tests share.
//!
//! - here: small objects
//! - `server`: an API server without delay that carries plans out

mod server;

use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::instance_id::InstanceId;
use crate::api::int_or_string::IntOrString;
use crate::api::meta::{Common, Epoch, Labels, Meta, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::network::Service;
use crate::api::node::{Node, NodeCondition, NodeStatus};
use crate::api::plain::Namespace;
use crate::api::pod::{
    ConditionStatus, ContainerState, ContainerStatus, Pod, PodCondition, PodConditionType, PodPhase, PodSpec,
    PodStatus, PodTemplate, QosClass, RestartPolicy, Why,
};
use crate::api::resources::Resources;
use crate::api::selector::Selector;
use crate::api::stateful::{StatefulSet, StatefulSetSpec, UpdateStrategy};
use crate::api::workload::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSet, ReplicaSetStatus,
};
use crate::client::view::Now;
use crate::engine::time::{SimDuration, SimTime};

pub use server::Server;

/// The present, some seconds after 1970 and after the beginning.
pub fn now_at(seconds: u64) -> Now {
    Now { at: SimTime::ZERO + SimDuration::from_secs(seconds), epoch: Epoch(0) }
}

/// A pod specification with one container.
pub fn pod_spec(image: &str) -> PodSpec {
    let container = core::Container { name: "app".into(), image: Some(image.into()), ..Default::default() };
    PodSpec {
        full: core::PodSpec { containers: vec![container], ..Default::default() },
        containers: Vec::new(),
        init_count: 0,
        requests: Resources::default(),
        scoring_requests: Resources::default(),
        host_ports: Vec::new(),
        priority: 0,
        restart_policy: RestartPolicy::Always,
        grace_seconds: 30,
        qos: QosClass::BestEffort,
        merged: Default::default(),
    }
}

/// A template whose pods wear the label `app`.
pub fn template(app: &str, image: &str) -> PodTemplate {
    let (labels, spec) = (Labels::NONE.with("app", app), Rc::new(pod_spec(image)));
    PodTemplate { labels, annotations: Labels::NONE, spec, other: None }
}

/// A selector for one label.
pub fn selector(key: &str, value: &str) -> Selector {
    Selector::everything().with(key, value)
}

fn meta(name: &str, uid: u128) -> Meta {
    Meta {
        name: name.into(),
        uid: Uid(uid),
        common: Common { namespace: "default".into(), generation: 1, ..Common::default() }.into(),
        ..Meta::default()
    }
}

/// A Deployment in the namespace `default`, with surge 1, unavailability 1 and a progress deadline of 60 seconds.
pub fn deployment(name: &str, replicas: i32) -> Deployment {
    Deployment {
        meta: meta(name, 1),
        spec: DeploymentSpec {
            replicas,
            selector: Rc::new(selector("app", name)),
            template: Rc::new(template(name, "img:v1")),
            strategy: DeploymentStrategy::RollingUpdate {
                max_surge: IntOrString::Int(1),
                max_unavailable: IntOrString::Int(1),
            },
            min_ready_seconds: 0,
            revision_history_limit: 10,
            paused: false,
            progress_deadline_seconds: Some(60),
        },
        status: DeploymentStatus::default(),
    }
}

/// A StatefulSet in the namespace `default` that is updated one pod after the other.
pub fn stateful_set(name: &str, replicas: i32) -> StatefulSet {
    let spec = StatefulSetSpec {
        replicas,
        strategy: UpdateStrategy::RollingUpdate(Some(Default::default())),
        revision_history_limit: 10,
        service_name: name.into(),
        ..StatefulSetSpec::default()
    };
    StatefulSet {
        meta: meta(name, 1),
        selector: Rc::new(selector("app", name)),
        template: Rc::new(template(name, "img:v1")),
        spec: Rc::new(spec),
        status: Default::default(),
    }
}

/// Sets surge and unavailability.
pub fn set_budget(deployment: &mut Deployment, surge: i32, unavailable: i32) {
    let (max_surge, max_unavailable) = (IntOrString::Int(surge), IntOrString::Int(unavailable));
    deployment.spec.strategy = DeploymentStrategy::RollingUpdate { max_surge, max_unavailable };
}

/// A ReplicaSet of a Deployment.
pub fn replica_set(deployment: &Deployment, number: u32, replicas: i32) -> ReplicaSet {
    let mut meta = meta(&format!("{}-{number}", deployment.meta.name), 100 + u128::from(number));
    meta.owners = [crate::controllers::owner::controller_reference(deployment)].into();
    ReplicaSet {
        meta,
        replicas,
        min_ready_seconds: 0,
        selector: deployment.spec.selector.clone(),
        template: deployment.spec.template.clone(),
        status: ReplicaSetStatus::default(),
    }
}

/// A running pod with the label `app` of its name that has been ready since a date.
pub fn ready_pod(name: &str, since: i64) -> Pod {
    let condition = PodCondition {
        kind: PodConditionType::Ready,
        status: ConditionStatus::True,
        why: Why::NONE,
        last_transition: Timestamp(since),
        observed_generation: 0,
    };
    let mut meta = meta(name, 1000);
    meta.labels = Labels::NONE.with("app", name);
    let status = PodStatus { phase: PodPhase::Running, conditions: [condition].into(), ..PodStatus::default() };
    Pod { meta, spec: Rc::new(pod_spec("img:v1")), node: None, only_node: None, token_volume: None, status }
}

/// The status of a running container.
pub fn container_status(name: &str, restart_count: u32) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        image: Name::EMPTY,
        image_id: Name::EMPTY,
        container_id: InstanceId::None,
        state: ContainerState::Running { started_at: Timestamp(0) },
        last_state: None,
        ready: true,
        started: Some(true),
        restart_count,
        detailed: false,
    }
}

/// A node that says it is ready.
pub fn node(name: &str) -> Node {
    let ready = NodeCondition {
        kind: "Ready".into(),
        status: ConditionStatus::True,
        reason: "KubeletReady".into(),
        message: "kubelet is posting ready status".into(),
        last_heartbeat: Timestamp(0),
        last_transition: Timestamp(0),
    };
    Node {
        meta: Meta { name: name.into(), uid: Uid(7), ..Meta::default() },
        pod_cidr: None,
        provider_id: None,
        unschedulable: false,
        taints: [].into(),
        status: NodeStatus { conditions: vec![ready], ..NodeStatus::default() },
    }
}

/// An active namespace.
pub fn namespace(name: &str) -> Namespace {
    Namespace {
        meta: Meta { name: name.into(), uid: Uid(8), ..Meta::default() },
        finalizers: [Name::of("kubernetes")].into(),
        terminating: false,
        conditions: [].into(),
    }
}

/// A Service with one port `http` at 80 for the pods with the label `app`.
pub fn service(name: &str, app: &str, target: i32) -> Service {
    let port = core::ServicePort {
        name: Some("http".into()),
        port: 80,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(target)),
        ..Default::default()
    };
    let spec = core::ServiceSpec {
        ports: Some(vec![port]),
        cluster_ip: Some("10.96.0.1".into()),
        ip_families: Some(vec!["IPv4".into()]),
        ..Default::default()
    };
    let mut meta = meta(name, 50);
    meta.generation = 0;
    Service { meta, spec: Rc::new(spec), selector: Some(Rc::new(selector("app", app))), status: Rc::default() }
}

/// The same Service with another target port.
pub fn service_like(service: &Service, target: i32) -> Service {
    let mut changed = service.clone();
    for port in Rc::make_mut(&mut changed.spec).ports.iter_mut().flatten() {
        port.target_port = Some(IntOrString::Int(target));
    }
    changed
}

/// A ready pod with an address on `node-1`, named after its label and number.
pub fn endpoint_pod(app: &str, number: u8) -> Pod {
    let mut pod = ready_pod(app, 50);
    pod.meta.name = format!("{app}-{number}").into();
    pod.meta.uid = Uid(5000 + u128::from(number));
    pod.node = Some("node-1".into());
    pod.status.pod_ip = Some(std::net::IpAddr::from([10, 244, 1, number]));
    pod
}
