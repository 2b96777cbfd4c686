//! A kubelet with its runtime and an API server of a few lines, on one event list: what it wrote is kept line by line.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Common, Deletion, Epoch, Meta, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::{Object, Resource};
use crate::api::pod::{
    ConditionStatus, Container, ContainerRole, Pod, PodCondition, PodConditionType, PodSpec, PodStatus, Probe,
    PullPolicy, QosClass, RestartPolicy, Why,
};
use crate::api::resources::Resources;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Patch, Request, TypedPatch, WatchEvent, WatchId};
use crate::apiserver::status::{Reason, Status};
use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use crate::engine::queue::EventQueue;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::kubelet::{Kubelet, KubeletInput, KubeletSettings, NodeContext};
use crate::runtime::interface::{Action, Event};
use crate::runtime::model::{ImageModel, ImageModels};
use crate::runtime::simulated::{RuntimeContext, RuntimeInput, RuntimeSettings, SimulatedRuntime};

use super::lines::{self, Line};

pub const API: ProcessId = ProcessId(0);
pub const EPOCH: Epoch = Epoch(1_790_000_000_000_000_000);
const HOP: SimDuration = SimDuration::from_millis(1);

/// What is on the event list.
#[derive(Debug)]
pub enum Happens {
    Api(ApiMessage),
    Kubelet(KubeletInput, u32),
    Runtime(RuntimeInput),
}

pub struct World {
    pub queue: EventQueue<Happens>,
    pub kubelet: Option<Kubelet>,
    pub incarnation: u32,
    pub runtime: SimulatedRuntime,
    pub settings: Rc<KubeletSettings>,
    pub api: Api,
    /// Events that the kubelet and the runtime handled.
    pub handled: u64,
    /// Timers that fired, the kubelet's lease aside.
    pub timers: u64,
}

/// The API server: a map of pods, and whatever else was written.
#[derive(Default)]
pub struct Api {
    pub pods: BTreeMap<(Name, Name), Rc<Pod>>,
    pub others: BTreeMap<(Kind, Name, Name), Object>,
    pub revision: u64,
    pub watches: BTreeMap<Kind, WatchId>,
    /// The revision of the last event of a kind: there is no history, so a watch from before it must list anew.
    last_event: BTreeMap<Kind, u64>,
    pub lines: Vec<Line>,
    pub down: bool,
    /// Every request about leases is answered with an internal error, and noted: when, and what was asked.
    pub fails_leases: bool,
    pub failed: Vec<(u64, &'static str)>,
    /// The same for everything that is asked of this kind.
    pub fails_kind: Option<Kind>,
    /// Status writes of this pod are refused.
    pub refuses_pod: Option<&'static str>,
    /// The last status of pods that are gone.
    deleted: BTreeMap<Uid, PodStatus>,
    next_uid: u64,
}

struct Effects<'a> {
    queue: &'a mut EventQueue<Happens>,
    incarnation: u32,
    now: SimTime,
}

impl Context<ApiMessage> for Effects<'_> {
    fn now(&self) -> SimTime {
        self.now
    }
    fn send_after(&mut self, delay: SimDuration, _: ProcessId, _: Lane, message: ApiMessage) {
        self.queue.schedule(self.now + delay + HOP, Happens::Api(message));
    }
    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        assert!(at >= self.now, "a timer in the past");
        self.queue.schedule(at, Happens::Kubelet(KubeletInput::Process(Input::Timer { token }), self.incarnation))
    }
    fn cancel_timer(&mut self, id: TimerId) {
        self.queue.cancel(id);
    }
    fn write_and_sync(&mut self, _: u64, _: Token) {}
    fn cause(&self) -> Cause {
        Cause::NONE
    }
    fn set_cause(&mut self, _: Cause) {}
}

impl NodeContext for Effects<'_> {
    fn act(&mut self, action: Action) {
        self.queue.schedule(self.now, Happens::Runtime(RuntimeInput::Act(action)));
    }
}

impl RuntimeContext for Effects<'_> {
    fn now(&self) -> SimTime {
        self.now
    }
    fn set_timer(&mut self, at: SimTime, token: u64) -> TimerId {
        assert!(at >= self.now, "a timer in the past");
        self.queue.schedule(at, Happens::Runtime(RuntimeInput::Timer { token }))
    }
    fn cancel_timer(&mut self, id: TimerId) {
        self.queue.cancel(id);
    }
    fn emit(&mut self, event: Event) {
        self.queue.schedule(self.now, Happens::Kubelet(KubeletInput::Runtime(event), self.incarnation));
    }
}

impl World {
    /// A node on which images behave as given by pattern, with settings that may be changed before the start.
    pub fn new(
        models: Vec<(&str, ImageModel)>,
        change: impl FnOnce(&mut KubeletSettings, &mut RuntimeSettings),
    ) -> Self {
        let node = crate::kubelet::settings::NodeSettings::new("kn1", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));
        let mut settings = KubeletSettings {
            seed: Seed(7),
            epoch: EPOCH,
            api_servers: vec![API],
            node,
            timings: Default::default(),
            profile: Default::default(),
            configuration: Default::default(),
            heartbeats: Default::default(),
            clock: Default::default(),
        };
        settings.timings.pod_source = SimDuration::ZERO;
        let mut runtime = RuntimeSettings::new(Seed(7), Name::of("kn1"));
        runtime.pod_range = Some(Name::of("10.244.0.0/24"));
        change(&mut settings, &mut runtime);
        let models = models.into_iter().map(|(pattern, model)| (pattern.to_owned(), model)).collect();
        let settings = Rc::new(settings);
        let mut world = World {
            queue: EventQueue::new(),
            kubelet: Some(Kubelet::new(settings.clone(), SimTime::ZERO, &[])),
            incarnation: 0,
            runtime: SimulatedRuntime::new(Rc::new(runtime), Rc::new(ImageModels::new(models))),
            settings,
            api: Api::default(),
            handled: 0,
            timers: 0,
        };
        world.queue.schedule(SimTime::ZERO, Happens::Kubelet(KubeletInput::Process(Input::Start), 0));
        world
    }

    /// Puts images into the node's store.
    pub fn with_images(mut self, images: &[&str]) -> Self {
        for image in images {
            self.queue.schedule(SimTime::ZERO, Happens::Runtime(RuntimeInput::AddImage(Name::new(image))));
        }
        self.run_to(5_000);
        self
    }

    /// Runs to a time in milliseconds.
    pub fn run_to(&mut self, ms: u64) {
        let limit = SimTime::from_nanos(ms * 1_000_000);
        while let Some((now, _, event)) = self.queue.pop_until(limit) {
            self.handle(now, event);
        }
        self.queue.advance_to(limit);
    }

    /// Runs for some milliseconds.
    pub fn run(&mut self, ms: u64) {
        let to = self.queue.now().as_millis() + ms;
        self.run_to(to);
    }

    fn handle(&mut self, now: SimTime, event: Happens) {
        let lease = crate::kubelet::tokens::Timer::Lease.token();
        let fired = match &event {
            Happens::Kubelet(KubeletInput::Process(Input::Timer { token }), _) => *token != lease,
            Happens::Runtime(RuntimeInput::Timer { .. }) => true,
            _ => false,
        };
        self.timers += u64::from(fired);
        let mut effects = Effects { queue: &mut self.queue, incarnation: self.incarnation, now };
        match event {
            Happens::Kubelet(input, incarnation) => {
                if let Some(kubelet) = self.kubelet.as_mut().filter(|_| incarnation == self.incarnation) {
                    self.handled += 1;
                    kubelet.handle(input, &mut effects);
                }
            }
            Happens::Runtime(input) => {
                self.handled += 1;
                self.runtime.handle(input, &mut effects);
            }
            Happens::Api(message) => {
                if !self.api.down {
                    for answer in self.api.handle(message, now) {
                        let input = KubeletInput::Process(Input::Message { from: API, message: answer });
                        self.queue.schedule(now + HOP, Happens::Kubelet(input, self.incarnation));
                    }
                }
            }
        }
    }

    /// Ends the kubelet's process.
    pub fn stop_kubelet(&mut self) {
        self.kubelet = None;
        self.incarnation += 1;
        self.api.watches.clear();
    }

    /// Begins a new kubelet.
    pub fn start_kubelet(&mut self) {
        let now = self.queue.now();
        self.kubelet = Some(Kubelet::new(self.settings.clone(), now, &[]));
        self.queue.schedule(now, Happens::Kubelet(KubeletInput::Process(Input::Start), self.incarnation));
    }

    /// Lets the kubelet handle an input now.
    pub fn tell(&mut self, input: KubeletInput) {
        self.queue.schedule(self.queue.now(), Happens::Kubelet(input, self.incarnation));
    }

    fn push(&mut self, event: WatchEvent) {
        let now = self.queue.now();
        if let Some(message) = self.api.event(event) {
            let input = KubeletInput::Process(Input::Message { from: API, message });
            self.queue.schedule(now + HOP, Happens::Kubelet(input, self.incarnation));
        }
    }

    /// Creates a pod that is bound to the node.
    pub fn create(&mut self, name: &str, spec: PodSpec) {
        let now = EPOCH.timestamp(self.queue.now());
        self.api.next_uid += 1;
        let mut status = PodStatus::default();
        status.conditions.push(PodCondition {
            kind: PodConditionType::PodScheduled,
            status: ConditionStatus::True,
            why: Why::NONE,
            last_transition: now,
            observed_generation: 0,
        });
        let meta = Meta {
            name: Name::new(name),
            uid: Uid::from_random(7, self.api.next_uid),
            created: now,
            common: Common { namespace: Name::of("default"), generation: 1, ..Common::default() }.into(),
            ..Meta::default()
        };
        let (node, token_volume) = (Some(Name::of("kn1")), Some(*b"abcde"));
        let pod = Pod { meta, spec: Rc::new(spec), node, only_node: None, token_volume, status };
        let object = self.api.store(pod);
        self.push(WatchEvent::Added(object));
    }

    /// Changes a pod as somebody else would.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let mut pod = Pod::clone(&self.pod(name));
        change(&mut pod);
        let object = self.api.store(pod);
        self.push(WatchEvent::Modified(object));
    }

    /// Changes the node as somebody else would.
    pub fn change_node(&mut self, change: impl FnOnce(&mut Node)) {
        let object = self.api.change_node(change).expect("the node is there");
        self.push(WatchEvent::Modified(object));
    }

    /// Asks for a pod's deletion.
    pub fn delete(&mut self, name: &str, grace: i64) {
        let now = self.queue.now();
        if grace == 0 {
            let key = (Name::of("default"), Name::new(name));
            let mut pod = Pod::clone(&self.api.pods.remove(&key).expect("the pod is there"));
            self.api.deleted.insert(pod.meta.uid, pod.status.clone());
            self.api.revision += 1;
            let revision = self.api.revision;
            pod.meta.resource_version = std::cell::Cell::new(revision);
            pod.meta.generation += 1;
            pod.meta.deletion = Some(Box::new(Deletion { timestamp: EPOCH.timestamp(now), grace_seconds: Some(0) }));
            self.push(WatchEvent::Deleted { object: pod.boxed(), revision });
            return;
        }
        self.change(name, |pod| {
            let timestamp = Timestamp(EPOCH.timestamp(now).0 + grace);
            if pod.meta.deletion.is_none() {
                pod.meta.generation += 1;
            }
            pod.meta.deletion = Some(Box::new(Deletion { timestamp, grace_seconds: Some(grace) }));
        });
    }

    /// The pod as the API has it.
    pub fn pod(&self, name: &str) -> Rc<Pod> {
        self.api.pods[&(Name::of("default"), Name::new(name))].clone()
    }

    /// True if the API has the pod.
    pub fn exists(&self, name: &str) -> bool {
        self.api.pods.contains_key(&(Name::of("default"), Name::new(name)))
    }

    /// What was written about a pod, of lines that begin with one of these words.
    pub fn lines(&self, pod: &str, words: &[&str]) -> Vec<String> {
        let of_pod = self.api.lines.iter().filter(|line| line.pod == pod);
        of_pod.map(|line| line.text.clone()).filter(|text| words.iter().any(|word| text.starts_with(word))).collect()
    }

    /// When lines that contain a text were written about a pod, in milliseconds.
    pub fn times(&self, pod: &str, text: &str) -> Vec<u64> {
        let lines = self.api.lines.iter().filter(|line| line.pod == pod && line.text.contains(text));
        lines.map(|line| line.at.as_millis()).collect()
    }
}

impl Api {
    fn store(&mut self, pod: Pod) -> Object {
        self.revision += 1;
        pod.meta.resource_version.set(self.revision);
        let pod = Rc::new(pod);
        self.pods.insert((pod.meta.namespace.clone(), pod.meta.name.clone()), pod.clone());
        Object::Pod(pod)
    }

    fn change_node(&mut self, change: impl FnOnce(&mut Node)) -> Option<Object> {
        self.revision += 1;
        let object = self.others.values_mut().find(|object| object.kind() == Kind::Node)?;
        let mut node = Node::clone(Node::of(object)?);
        change(&mut node);
        node.meta.resource_version = std::cell::Cell::new(self.revision);
        *object = node.boxed();
        Some(object.clone())
    }

    fn event(&mut self, event: WatchEvent) -> Option<ApiMessage> {
        let kind = match &event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted { object, .. } => {
                object.kind()
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => return None,
        };
        self.last_event.insert(kind, self.revision);
        self.watches.get(&kind).map(|watch| ApiMessage::Watch { watch: *watch, events: vec![event] })
    }

    fn handle(&mut self, message: ApiMessage, now: SimTime) -> Vec<ApiMessage> {
        let ApiMessage::Request(request) = message else { return Vec::new() };
        let Request { id, operation, .. } = *request;
        let fails = self.fails_leases && operation.kind() == Kind::Lease || self.fails_kind == Some(operation.kind());
        let refused =
            matches!(&operation, Operation::Patch { key, .. } if self.refuses_pod.is_some_and(|pod| key.name == pod));
        if fails || refused {
            self.failed.push((now.as_millis(), operation.verb()));
            let result = Err(Box::new(Status::new(Reason::InternalError, "etcdserver: request timed out")));
            return vec![ApiMessage::Response { id, result }];
        }
        let (result, event) = self.answer(operation, now);
        let mut messages: Vec<ApiMessage> = event.and_then(|event| self.event(event)).into_iter().collect();
        messages.push(ApiMessage::Response { id, result: result.map_err(Box::new) });
        messages
    }

    fn answer(&mut self, operation: Operation, now: SimTime) -> (Result<Answer, Status>, Option<WatchEvent>) {
        let not_found = |name: &str| (Err(Status::not_found(Kind::Pod, name)), None);
        match operation {
            Operation::List { scope, .. } => {
                let pods = self.pods.values().map(|pod| Object::Pod(pod.clone()));
                let all = pods.chain(self.others.values().cloned());
                let items = all.filter(|object| object.kind() == scope.kind).collect();
                let list = Answer::List { items, revision: self.revision, continue_token: None, remaining: None };
                (Ok(list), None)
            }
            Operation::Watch { watch, scope, after, .. } => {
                if after < self.last_event.get(&scope.kind).copied() {
                    return (Err(Status::new(Reason::Expired, "too old resource version")), None);
                }
                self.watches.insert(scope.kind, watch);
                (Ok(Answer::WatchStarted), None)
            }
            Operation::Get { key } => match self.others.get(&(key.kind, key.namespace, key.name.clone())) {
                Some(object) => (Ok(Answer::Object(object.clone())), None),
                None => (Err(Status::not_found(key.kind, &key.name)), None),
            },
            Operation::Create { object, .. } => {
                self.log_other("CREATE", &object, now);
                let key = (object.kind(), object.meta().namespace.clone(), object.meta().name.clone());
                if self.others.contains_key(&key) {
                    return (Err(Status::new(Reason::AlreadyExists, "exists")), None);
                }
                self.revision += 1;
                object.meta().resource_version.set(self.revision);
                self.others.insert(key, object.clone());
                let event = (object.kind() == Kind::Node).then(|| WatchEvent::Added(object.clone()));
                (Ok(Answer::Object(object)), event)
            }
            Operation::Update { object, .. } => {
                self.log_other("UPDATE", &object, now);
                let key = (object.kind(), object.meta().namespace.clone(), object.meta().name.clone());
                if !self.others.contains_key(&key) {
                    return not_found(&key.2);
                }
                self.others.insert(key, object.clone());
                (Ok(Answer::Object(object)), None)
            }
            Operation::Patch { key, patch, .. } => self.patch(key, patch, now),
            Operation::Delete { key, options } => {
                let place = (key.namespace.clone(), key.name.clone());
                let Some(pod) = self.pods.get(&place).cloned() else { return not_found(&key.name) };
                assert_eq!(options.uid, Some(pod.meta.uid), "deletes what it means");
                assert_eq!(options.grace_seconds, Some(0), "without grace");
                self.log(&key.name, "DELETE".to_owned(), now);
                self.pods.remove(&place);
                self.revision += 1;
                let gone = Pod::clone(&pod);
                gone.meta.resource_version.set(self.revision);
                let event = WatchEvent::Deleted { object: gone.boxed(), revision: self.revision };
                (Ok(Answer::Done), Some(event))
            }
            other => panic!("the kubelet asked for {other:?}"),
        }
    }

    fn patch(
        &mut self,
        key: crate::api::meta::ObjectKey,
        patch: Patch,
        now: SimTime,
    ) -> (Result<Answer, Status>, Option<WatchEvent>) {
        match patch {
            Patch::Typed(patch) => match *patch {
                TypedPatch::PodStatus { uid, status } => {
                    let place = (key.namespace.clone(), key.name.clone());
                    let Some(old) = self.pods.get(&place).filter(|pod| pod.meta.uid == uid).cloned() else {
                        let text = self.deleted.get(&uid).map(|old| lines::patch(old, &status));
                        self.log(&key.name, text.unwrap_or_else(|| "PATCH 404".to_owned()), now);
                        return (Err(Status::not_found(Kind::Pod, &key.name)), None);
                    };
                    self.log(&key.name, lines::patch(&old.status, &status), now);
                    if let Some(line) = self.lines.last_mut() {
                        line.patched = Some(Box::new((old.status.clone(), status.clone())));
                    }
                    let mut pod = Pod::clone(&old);
                    pod.status = merged(&old.status, status);
                    let object = self.store(pod);
                    (Ok(Answer::Object(object.clone())), Some(WatchEvent::Modified(object)))
                }
                TypedPatch::NodeStatus { status } => {
                    let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
                    let ready = ready.map(|condition| format!("{:?}", condition.status)).unwrap_or_default();
                    self.log(&key.name, format!("PATCH nodes/status Ready={ready}"), now);
                    let object = self.change_node(|node| node.status = status);
                    (Ok(Answer::Done), object.map(WatchEvent::Modified))
                }
                other => panic!("the kubelet sent {other:?}"),
            },
            Patch::Strategic(value) => {
                let Some(Object::Event(event)) = self.others.get(&(key.kind, key.namespace, key.name)) else {
                    return (Err(Status::new(Reason::NotFound, "no event")), None);
                };
                let (name, message) = (event.involved.name.clone(), event.message.clone());
                self.log(&name, format!("EVENT-PATCH count={} {message}", value["count"]), now);
                (Ok(Answer::Done), None)
            }
            other => panic!("the kubelet sent {other:?}"),
        }
    }

    fn log_other(&mut self, verb: &str, object: &Object, now: SimTime) {
        match object {
            Object::Event(event) => {
                let text = format!("EVENT {:?} {}: {}", event.class.kind, event.class.reason, event.message);
                let name = event.involved.name.clone();
                self.log(&name, text, now);
            }
            other => {
                let text = format!("{verb} {}", other.kind().row().plural);
                let name = other.meta().name.clone();
                self.log(&name, text, now);
            }
        }
    }

    fn log(&mut self, pod: &str, text: String, at: SimTime) {
        self.lines.push(Line { at, pod: pod.to_owned(), text, patched: None });
    }
}

/// The status after a patch: conditions of others stay.
fn merged(old: &PodStatus, mut new: PodStatus) -> PodStatus {
    for condition in old.conditions.iter() {
        if !condition.kind.is_kubelets() && new.condition(&condition.kind).is_none() {
            new.conditions.push(condition.clone());
        }
    }
    new
}

/// A container with an image, named `c` unless said otherwise.
pub fn container(name: &str, image: &str) -> Container {
    Container {
        name: Name::new(name),
        image: Name::new(image),
        role: ContainerRole::Main,
        pull_policy: PullPolicy::IfNotPresent,
        requests: Resources::default(),
        limits: Resources::default(),
        readiness: None,
        liveness: None,
        startup: None,
        post_start: None,
        pre_stop: None,
    }
}

/// An init container.
pub fn init(name: &str, image: &str) -> Container {
    Container { role: ContainerRole::Init, ..container(name, image) }
}

/// A sidecar.
pub fn sidecar(name: &str, image: &str) -> Container {
    Container { role: ContainerRole::Sidecar, ..container(name, image) }
}

/// A probe with the API's defaults but for the period.
pub fn probe(handler: crate::api::pod::Handler, period_seconds: u32) -> Probe {
    Probe {
        handler,
        initial_delay_seconds: 0,
        period_seconds,
        timeout_seconds: 1,
        failure_threshold: 3,
        success_threshold: 1,
        grace_seconds: None,
    }
}

/// A pod specification.
pub fn spec(restart_policy: RestartPolicy, grace_seconds: i64, containers: Vec<Container>) -> PodSpec {
    let init_count = containers.iter().filter(|container| container.role != ContainerRole::Main).count();
    PodSpec {
        full: Default::default(),
        containers,
        init_count,
        requests: Resources::default(),
        scoring_requests: Resources::default(),
        host_ports: Vec::new(),
        priority: 0,
        restart_policy,
        grace_seconds,
        qos: QosClass::BestEffort,
        merged: Default::default(),
    }
}
