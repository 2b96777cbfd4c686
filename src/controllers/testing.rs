//! What the controllers' tests share: small objects, and an API server without delay that carries plans out.

use std::collections::BTreeSet;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::int_or_string::IntOrString;
use crate::api::kind::Kind;
use crate::api::meta::{Deletion, Epoch, Labels, Meta, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::network::{EndpointSlice, Service};
use crate::api::node::{Node, NodeCondition, NodeStatus};
use crate::api::object::{Object, Resource};
use crate::api::plain::Namespace;
use crate::api::pod::{
    ConditionStatus, ContainerState, ContainerStatus, Pod, PodCondition, PodConditionType, PodPhase, PodSpec,
    PodStatus, PodTemplate, QosClass, RestartPolicy,
};
use crate::api::resources::Resources;
use crate::api::selector::Selector;
use crate::api::workload::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSet, ReplicaSetStatus,
};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, Propagation, TypedPatch};
use crate::apiserver::status::Status;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Outcome, Plan, Request, Step};
use crate::client::view::{Cache, Now};
use crate::engine::time::{SimDuration, SimTime};

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
    }
}

/// A template whose pods wear the label `app`.
pub fn template(app: &str, image: &str) -> PodTemplate {
    PodTemplate { labels: Labels::NONE.with("app", app), annotations: Labels::NONE, spec: Rc::new(pod_spec(image)) }
}

/// A selector for one label.
pub fn selector(key: &str, value: &str) -> Selector {
    Selector::everything().with(key, value)
}

fn meta(name: &str, uid: u128) -> Meta {
    Meta { name: name.into(), namespace: "default".into(), uid: Uid(uid), generation: 1, ..Meta::default() }
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

/// Sets surge and unavailability.
pub fn set_budget(deployment: &mut Deployment, surge: i32, unavailable: i32) {
    let (max_surge, max_unavailable) = (IntOrString::Int(surge), IntOrString::Int(unavailable));
    deployment.spec.strategy = DeploymentStrategy::RollingUpdate { max_surge, max_unavailable };
}

/// A ReplicaSet of a Deployment.
pub fn replica_set(deployment: &Deployment, number: u32, replicas: i32) -> ReplicaSet {
    let mut meta = meta(&format!("{}-{number}", deployment.meta.name), 100 + u128::from(number));
    meta.owners = Some([super::owner::controller_reference(deployment)].into());
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
        reason: None,
        message: None,
        last_transition: Timestamp(since),
        observed_generation: 0,
    };
    let mut meta = meta(name, 1000);
    meta.labels = Labels::NONE.with("app", name);
    let status = PodStatus { phase: PodPhase::Running, conditions: vec![condition], ..PodStatus::default() };
    Pod { meta, spec: Rc::new(pod_spec("img:v1")), node: None, token_volume: None, status }
}

/// The status of a running container.
pub fn container_status(name: &str, restart_count: u32) -> ContainerStatus {
    ContainerStatus {
        name: name.into(),
        image: Name::EMPTY,
        image_id: Name::EMPTY,
        container_id: Name::EMPTY,
        state: ContainerState::Running { started_at: Timestamp(0) },
        last_state: None,
        ready: true,
        started: Some(true),
        restart_count,
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

/// An API server, cache and clock in one: writes are visible at once, and every plan is carried out to its end.
#[derive(Default)]
pub struct Server {
    /// What the controllers see.
    pub cache: Cache,
    /// Seconds since 1970 and since the beginning.
    pub seconds: u64,
    /// What was written, one line each.
    pub writes: Vec<String>,
    /// Recorded events: reason and message.
    pub events: Vec<String>,
    /// Creations of this kind fail with this status.
    pub refuse: Option<(Kind, Status)>,
    /// Pods vanish at once when they are deleted.
    pub deletes_pods_at_once: bool,
    changes: Vec<(Option<Object>, Option<Object>)>,
    revision: u64,
    names: u64,
}

impl Server {
    /// An empty cluster, some seconds after 1970.
    pub fn at(seconds: u64) -> Self {
        Server { seconds, ..Server::default() }
    }

    /// The present.
    pub fn now(&self) -> Now {
        now_at(self.seconds)
    }

    /// Stores an object as if somebody had written it.
    pub fn put(&mut self, object: Object) {
        self.revision += 1;
        object.meta().resource_version.set(self.revision);
        let old = self.cache.insert(object.clone());
        self.changes.push((old, Some(object)));
    }

    /// Changes an object as if somebody had written it.
    pub fn edit<R: Resource>(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut R)) {
        let mut object = (**self.get::<R>(namespace, name).expect("it exists")).clone();
        change(&mut object);
        self.put(object.boxed());
    }

    /// Takes an object away.
    pub fn vanish(&mut self, key: &ObjectKey) {
        let old = self.cache.remove(key);
        self.changes.push((old, None));
    }

    /// An object by name.
    pub fn get<R: Resource>(&self, namespace: &str, name: &str) -> Option<&Rc<R>> {
        self.cache.view().get(namespace, name)
    }

    /// All objects of a kind.
    pub fn all<R: Resource>(&self) -> Vec<Rc<R>> {
        self.cache.view().list().cloned().collect()
    }

    /// Lets a controller look at a key, carries its plan out, and returns when it wants to look again.
    pub fn reconcile(&mut self, controller: &dyn Controller, key: &ObjectKey) -> Again {
        let plan = controller.reconcile(&self.cache.view(), key, self.now());
        self.carry_out(plan)
    }

    /// Lets controllers work until none has anything to do at this second; returns how many looks it took.
    /// Delayed looks are due when `seconds` has come; those that are not due yet are in `later`.
    pub fn settle(
        &mut self,
        controllers: &[Box<dyn Controller>],
        later: &mut BTreeSet<(u64, usize, ObjectKey)>,
    ) -> u32 {
        let mut looks = 0;
        let mut queue: BTreeSet<(usize, ObjectKey)> = BTreeSet::new();
        loop {
            for (old, new) in std::mem::take(&mut self.changes) {
                self.distribute(controllers, old, new, &mut queue, later);
            }
            let due: Vec<_> = later.iter().take_while(|(at, _, _)| *at <= self.seconds).cloned().collect();
            for entry in due {
                later.remove(&entry);
                queue.insert((entry.1, entry.2));
            }
            let Some((index, key)) = queue.pop_first() else { return looks };
            looks += 1;
            assert!(
                looks < 10_000,
                "the controllers do not come to rest: {:?}",
                self.writes.iter().rev().take(9).collect::<Vec<_>>()
            );
            match self.reconcile(&*controllers[index], &key) {
                Again::OnChange => {}
                Again::After(delay) => {
                    later.insert((self.seconds + delay.as_nanos().div_ceil(1_000_000_000), index, key));
                }
                Again::BackOff(_) => {
                    queue.insert((index, key));
                }
            }
        }
    }

    fn distribute(
        &self,
        controllers: &[Box<dyn Controller>],
        old: Option<Object>,
        new: Option<Object>,
        queue: &mut BTreeSet<(usize, ObjectKey)>,
        later: &mut BTreeSet<(u64, usize, ObjectKey)>,
    ) {
        let change = match (&old, &new) {
            (None, Some(new)) => Change::Added(new),
            (Some(old), Some(new)) => Change::Updated { old, new },
            (Some(old), None) => Change::Deleted(old),
            (None, None) => return,
        };
        for (index, controller) in controllers.iter().enumerate() {
            if !controller.watches().contains(&change.object().kind()) {
                continue;
            }
            controller.on_change(change, &self.cache.view(), &mut |key, delay| {
                if delay == SimDuration::ZERO {
                    queue.insert((index, key));
                } else {
                    later.insert((self.seconds + delay.as_nanos().div_ceil(1_000_000_000), index, key));
                }
            });
        }
    }

    /// Carries a plan out to its end.
    pub fn carry_out(&mut self, mut plan: Plan) -> Again {
        loop {
            let mut outcomes = Vec::new();
            let mut failed = None;
            for step in plan.steps {
                let failures = self.take_step(step, &mut outcomes);
                if let Some(message) = failures {
                    failed = Some(message);
                    break;
                }
            }
            let now = self.now();
            match (plan.then, failed) {
                (Some(then), _) => plan = then(&self.cache.view(), &outcomes, now),
                (None, Some(message)) => return Again::BackOff(message),
                (None, None) => return plan.again,
            }
        }
    }

    fn take_step(&mut self, step: Step, outcomes: &mut Vec<Outcome>) -> Option<String> {
        let (requests, until_failure) = match step {
            Step::Request(request) => (vec![request], false),
            Step::Parallel(requests) => (requests, false),
            Step::SlowStart(requests) => (requests, true),
            Step::Expect { .. } => return None,
            Step::Record(note) => {
                self.events.push(format!("{} {}", note.reason, note.message));
                return None;
            }
        };
        let mut failure = None;
        for request in requests {
            let outcome = self.answer(&request);
            if let Err(status) = &outcome
                && !request.tolerate.contains(&status.reason)
            {
                failure = Some(status.message.clone());
            }
            outcomes.push(outcome);
            if until_failure && failure.is_some() {
                break;
            }
        }
        failure
    }

    fn answer(&mut self, request: &Request) -> Outcome {
        let outcome = self.apply(&request.operation);
        match &outcome {
            Ok(answer) => {
                if let Some(note) = &request.on_success {
                    let name =
                        if let Answer::Object(object) = answer { object.meta().name.clone() } else { Name::EMPTY };
                    self.events.push(format!("{} {}", note.reason, note.message.replace("{name}", &name)));
                }
            }
            Err(status) if !request.tolerate.contains(&status.reason) => {
                if let Some(note) = &request.on_failure {
                    self.events.push(format!("{} {}", note.reason, note.message.replace("{error}", &status.message)));
                }
            }
            Err(_) => {}
        }
        outcome
    }

    fn find(&self, key: &ObjectKey) -> Result<Object, Box<Status>> {
        self.cache.view().object(key).cloned().ok_or_else(|| Box::new(Status::not_found(key.kind, &key.name)))
    }

    /// Answers one request.
    pub fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Get { key } => self.find(key).map(Answer::Object),
            Operation::List { scope, .. } => {
                let view = self.cache.view();
                let mut items: Vec<Object> = Vec::new();
                macro_rules! list {
                    ($($kind:ident)*) => { match scope.kind {
                        $(Kind::$kind => items.extend(view.list::<crate::controllers::testing::kinds::$kind>()
                            .cloned().map(Object::$kind)),)*
                    } };
                }
                list!(Namespace Node Lease Pod ReplicaSet Deployment Service EndpointSlice Endpoints Event ConfigMap Secret
                    ServiceAccount PriorityClass ControllerRevision);
                items.retain(|it| scope.namespace.as_ref().is_none_or(|namespace| it.meta().namespace == *namespace));
                Ok(Answer::List { items, revision: self.revision, continue_token: None, remaining: None })
            }
            Operation::Create { object, .. } => self.create(object),
            Operation::Update { object, part, .. } => self.update(object, *part),
            Operation::Patch { key, patch: Patch::Typed(patch), .. } => self.patch(key, patch),
            Operation::Delete { key, options } => self.delete(key, options),
            Operation::DeleteCollection { scope, options } => {
                let items = self.apply(&Operation::List {
                    scope: scope.clone(),
                    limit: 0,
                    continue_token: None,
                    at: crate::apiserver::protocol::ListRevision::Latest,
                })?;
                if let Answer::List { items, .. } = items {
                    for item in items {
                        self.delete(&item.key(), options)?;
                    }
                }
                Ok(Answer::Done)
            }
            other => panic!("the controllers' tests know no {other:?}"),
        }
    }

    fn create(&mut self, object: &Object) -> Outcome {
        let kind = object.kind();
        if let Some((refused, status)) = &self.refuse
            && *refused == kind
        {
            return Err(Box::new(status.clone()));
        }
        let mut object = object.clone();
        self.names += 1;
        let (number, created) = (self.names, self.now().timestamp());
        let meta = object.meta_mut();
        if let Some(prefix) = &meta.generate_name
            && meta.name.is_empty()
        {
            meta.name = format!("{prefix}{number:05}").into();
        }
        meta.uid = Uid(u128::from(number) << 64);
        meta.created = created;
        meta.generation = i64::from(kind.row().counts_generation);
        if self.find(&object.key()).is_ok() {
            return Err(Box::new(Status::already_exists(kind, &object.meta().name)));
        }
        self.writes.push(format!("create {}", object.key()));
        self.put(object.clone());
        Ok(Answer::Object(object))
    }

    fn update(&mut self, object: &Object, part: Part) -> Outcome {
        let key = object.key();
        let old = self.find(&key)?;
        if object.meta().revision() != 0 && object.meta().revision() != old.meta().revision() {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Box::new(Status::conflict(key.kind, &key.name, why)));
        }
        let new = match (object, &old) {
            (Object::Deployment(new), Object::Deployment(old)) => {
                let mut merged = (**new).clone();
                match part {
                    Part::Status => {
                        merged.spec = old.spec.clone();
                        merged.meta.labels = old.meta.labels.clone();
                    }
                    Part::Main => merged.status = old.status.clone(),
                }
                merged.boxed()
            }
            (Object::ReplicaSet(new), Object::ReplicaSet(old)) => {
                let mut merged = (**new).clone();
                match part {
                    Part::Status => {
                        merged = (**old).clone();
                        merged.status = new.status.clone();
                    }
                    Part::Main => {
                        merged.status = old.status.clone();
                        merged.meta.generation = old.meta.generation + i64::from(new.replicas != old.replicas);
                    }
                }
                merged.boxed()
            }
            (Object::EndpointSlice(new), Object::EndpointSlice(old)) => {
                let meta = Meta { uid: old.meta.uid, generation: old.meta.generation + 1, ..new.meta.clone() };
                EndpointSlice { meta, ..(**new).clone() }.boxed()
            }
            _ => object.clone(),
        };
        let what = if part == Part::Status { "status of " } else { "" };
        self.writes.push(format!("update {what}{key}"));
        let mut new = new;
        new.meta_mut();
        self.put(new.clone());
        Ok(Answer::Object(new))
    }

    fn patch(&mut self, key: &ObjectKey, patch: &TypedPatch) -> Outcome {
        let mut object = self.find(key)?;
        self.writes.push(format!("patch {key}"));
        match patch {
            TypedPatch::Metadata { owners, finalizers, labels, annotations, .. } => {
                let meta = object.meta_mut();
                if let Some(owners) = owners {
                    meta.owners = if owners.is_empty() { None } else { Some(owners.as_slice().into()) };
                }
                if let Some(finalizers) = finalizers {
                    meta.finalizers = if finalizers.is_empty() { None } else { Some(finalizers.as_slice().into()) };
                }
                for (target, changes) in [(&mut meta.labels, labels), (&mut meta.annotations, annotations)] {
                    for (name, value) in changes {
                        *target = match value {
                            Some(value) => target.with(name.clone(), value.clone()),
                            None => target.without(name),
                        };
                    }
                }
                let gone = meta.is_deleting() && meta.finalizers().is_empty() && key.kind != Kind::Pod;
                if gone {
                    self.vanish(key);
                    return Ok(Answer::Object(object));
                }
            }
            TypedPatch::NodeTaints { taints, .. } => {
                let Object::Node(node) = &mut object else { panic!("taints are for nodes") };
                Rc::make_mut(node).taints = taints.clone();
            }
            TypedPatch::NodeStatus { status } => {
                let Object::Node(node) = &mut object else { panic!("a node's status is for nodes") };
                let mut merged = node.status.conditions.clone();
                for condition in &status.conditions {
                    merged.retain(|old| old.kind != condition.kind);
                    merged.push(condition.clone());
                }
                Rc::make_mut(node).status = NodeStatus { conditions: merged, ..status.clone() };
            }
            TypedPatch::PodConditions { conditions, .. } => {
                let Object::Pod(pod) = &mut object else { panic!("pod conditions are for pods") };
                let all = &mut Rc::make_mut(pod).status.conditions;
                for condition in conditions {
                    all.retain(|old| old.kind != condition.kind);
                    all.push(condition.clone());
                }
            }
            TypedPatch::PodStatus { status, .. } => {
                let Object::Pod(pod) = &mut object else { panic!("a pod's status is for pods") };
                Rc::make_mut(pod).status = status.clone();
            }
        }
        object.meta_mut();
        self.put(object.clone());
        Ok(Answer::Object(object))
    }

    fn delete(&mut self, key: &ObjectKey, options: &DeleteOptions) -> Outcome {
        let mut object = self.find(key)?;
        let how = match options.propagation {
            Some(Propagation::Foreground) => " in the foreground",
            Some(Propagation::Orphan) => " orphaning",
            _ => "",
        };
        self.writes.push(format!("delete {key}{how}"));
        let waits = key.kind == Kind::Pod && !self.deletes_pods_at_once && options.grace_seconds != Some(0);
        if waits || !object.meta().finalizers().is_empty() {
            if !object.meta().is_deleting() {
                let timestamp = Timestamp(self.seconds as i64 + if waits { 30 } else { 0 });
                object.meta_mut().deletion =
                    Some(Deletion { timestamp, grace_seconds: Some(if waits { 30 } else { 0 }) });
                self.put(object.clone());
            }
            return Ok(Answer::Object(object));
        }
        self.vanish(key);
        Ok(Answer::Object(object))
    }
}

/// All kinds under one roof, for the macro above.
mod kinds {
    pub use crate::api::event::Event;
    pub use crate::api::network::{EndpointSlice, Endpoints, Service};
    pub use crate::api::node::{Lease, Node};
    pub use crate::api::plain::*;
    pub use crate::api::pod::Pod;
    pub use crate::api::workload::{Deployment, ReplicaSet};
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
    Service {
        meta: Meta { generation: 0, ..meta(name, 50) },
        spec: Rc::new(spec),
        selector: Some(Rc::new(selector("app", app))),
        status: Rc::default(),
    }
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
