//! For tests: a scheduler, an API server that keeps nodes and pods in memory, and objects for them.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::profile::Profile;
use super::{Config, Scheduler};
use crate::api::kind::Kind;
use crate::api::meta::{Deletion, Epoch, ObjectKey, Timestamp, Uid};
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Answer, ApiMessage, Operation, Patch, Request, TypedPatch, WatchEvent, WatchId};
use crate::apiserver::status::{Reason, Status};
use crate::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};

pub const SERVER: ProcessId = ProcessId(1);
const HOP: SimDuration = SimDuration::from_millis(1);

/// The scheduler, its server, and what is under way between them.
pub struct Run {
    pub scheduler: Scheduler,
    pub server: Server,
    desk: Desk,
}

#[derive(Default)]
struct Desk {
    now: SimTime,
    events: BTreeMap<(SimTime, u64), Coming>,
    sequence: u64,
}

enum Coming {
    ToServer(ApiMessage),
    ToScheduler(Input<ApiMessage>),
}

type Refusal = Box<dyn FnMut(&Operation) -> Option<Status>>;

#[derive(Default)]
pub struct Server {
    pub objects: BTreeMap<ObjectKey, Object>,
    watches: BTreeMap<WatchId, Kind>,
    revision: u64,
    pub requests: Vec<(SimTime, Request)>,
    pub refusals: Vec<Refusal>,
    outbox: Vec<ApiMessage>,
}

impl Context<ApiMessage> for Desk {
    fn now(&self) -> SimTime {
        self.now
    }

    fn send_after(&mut self, delay: SimDuration, _to: ProcessId, _lane: Lane, message: ApiMessage) {
        self.schedule(self.now + delay + HOP, Coming::ToServer(message));
    }

    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        TimerId(self.schedule(at, Coming::ToScheduler(Input::Timer { token })))
    }

    fn cancel_timer(&mut self, id: TimerId) {
        self.events.retain(|(_, sequence), _| *sequence != id.0);
    }

    fn write_and_sync(&mut self, _bytes: u64, _token: Token) {
        unreachable!("a scheduler has no disk");
    }

    fn cause(&self) -> Cause {
        Cause::NONE
    }

    fn set_cause(&mut self, _cause: Cause) {}
}

fn config() -> Config {
    Config::new("kube-scheduler", vec![SERVER], Epoch(1_795_204_800_000_000_000), Seed(7))
}

impl Desk {
    fn schedule(&mut self, at: SimTime, coming: Coming) -> u64 {
        assert!(at >= self.now, "something in the past");
        self.sequence += 1;
        self.events.insert((at, self.sequence), coming);
        self.sequence
    }
}

impl Run {
    /// A scheduler that has begun, with these objects there before.
    pub fn start(objects: Vec<Object>) -> Self {
        Run::with(objects, |_| {})
    }

    /// The same with another configuration.
    pub fn with(objects: Vec<Object>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Run::of(Scheduler::new(config), objects)
    }

    /// The same with another profile.
    pub fn with_profile(objects: Vec<Object>, profile: Profile) -> Self {
        Run::of(Scheduler::with_profile(config(), profile), objects)
    }

    fn of(scheduler: Scheduler, objects: Vec<Object>) -> Self {
        let mut run = Run { scheduler, server: Server::default(), desk: Desk::default() };
        for object in objects {
            run.server.write(object);
        }
        run.desk.schedule(SimTime::ZERO, Coming::ToScheduler(Input::Start));
        run
    }

    /// Handles all events until a time, that time included.
    pub fn until_millis(&mut self, ms: u64) {
        let time = SimTime::from_nanos(ms * 1_000_000);
        while let Some((&(at, _), _)) = self.desk.events.first_key_value()
            && at <= time
        {
            let Some((_, event)) = self.desk.events.pop_first() else { return };
            self.desk.now = at;
            match event {
                Coming::ToScheduler(input) => self.scheduler.handle(input, &mut self.desk),
                Coming::ToServer(message) => self.server.take(at, message),
            }
            self.deliver();
        }
        self.desk.now = self.desk.now.max(time);
    }

    /// Changes something at the server.
    pub fn write(&mut self, object: Object) {
        self.server.write(object);
        self.deliver();
    }

    /// Deletes something at the server.
    pub fn delete(&mut self, kind: Kind, name: &str) {
        let namespace = if kind == Kind::Pod { "default" } else { "" };
        if let Some(object) = self.server.objects.remove(&ObjectKey::new(kind, namespace, name)) {
            self.server.revision += 1;
            let revision = self.server.revision;
            self.server.tell(kind, WatchEvent::Deleted { object, revision });
        }
        self.deliver();
    }

    /// The pod with this name in the default namespace.
    pub fn pod(&self, name: &str) -> Rc<Pod> {
        let key = ObjectKey::new(Kind::Pod, "default", name);
        self.server.objects.get(&key).and_then(|object| object.get::<Pod>()).expect("the pod").clone()
    }

    /// The node of a pod in the default namespace; empty if it has none.
    pub fn node_of(&self, name: &str) -> String {
        self.pod(name).node.as_deref().unwrap_or_default().to_owned()
    }

    /// What was written, in order, as lines.
    pub fn writes(&self) -> Vec<String> {
        self.server.requests.iter().filter_map(|(at, request)| line(*at, &request.operation)).collect()
    }

    fn deliver(&mut self) {
        for message in std::mem::take(&mut self.server.outbox) {
            let input = Input::Message { from: SERVER, message };
            self.desk.schedule(self.desk.now + HOP, Coming::ToScheduler(input));
        }
    }
}

fn line(at: SimTime, operation: &Operation) -> Option<String> {
    let at = at.as_millis();
    Some(match operation {
        Operation::Delete { key, .. } => format!("{at} delete {}", key.name),
        Operation::Bind { key, node, .. } => format!("{at} bind {} {node}", key.name),
        Operation::Create { object: Object::Event(event), .. } => {
            format!("{at} event {} {}: {}", event.involved.name, event.class.reason, event.message)
        }
        Operation::Patch { key, patch: Patch::Typed(patch), .. } => match &**patch {
            TypedPatch::PodConditions { conditions, nominated_node, .. } => {
                let message = conditions.iter().filter_map(|condition| condition.why.message());
                let message = message.collect::<Vec<_>>().join("; ");
                let nominated = nominated_node.as_ref().map(|node| format!(" [nominated: {node}]"));
                format!("{at} patch {} {message}{}", key.name, nominated.unwrap_or_default())
            }
            _ => format!("{at} patch {}", key.name),
        },
        Operation::Patch { key, .. } => format!("{at} patch {}", key.name),
        Operation::Update { object, .. } => format!("{at} update {}", object.key()),
        _ => return None,
    })
}

impl Server {
    fn write(&mut self, mut object: Object) {
        self.revision += 1;
        let key = object.key();
        let known = self.objects.get(&key);
        let meta = object.meta_mut();
        meta.resource_version.set(self.revision);
        if meta.uid == Uid::default() {
            meta.uid = known.map_or(Uid(u128::from(self.revision)), |known| known.meta().uid);
        }
        let event = if known.is_some() { WatchEvent::Modified } else { WatchEvent::Added };
        self.objects.insert(key.clone(), object.clone());
        self.tell(key.kind, event(object));
    }

    fn tell(&mut self, kind: Kind, event: WatchEvent) {
        for (watch, _) in self.watches.iter().filter(|(_, watched)| **watched == kind) {
            self.outbox.push(ApiMessage::Watch { watch: *watch, events: vec![event.clone()] });
        }
    }

    fn take(&mut self, at: SimTime, message: ApiMessage) {
        let ApiMessage::Request(request) = message else { return };
        let refusal = self.refusals.iter_mut().find_map(|refuse| refuse(&request.operation));
        let result = match refusal {
            Some(status) => Err(Box::new(status)),
            None => self.answer(&request.operation),
        };
        self.outbox.push(ApiMessage::Response { id: request.id, result });
        self.requests.push((at, *request));
    }

    fn answer(&mut self, operation: &Operation) -> Result<Answer, Box<Status>> {
        let not_found = |key: &ObjectKey| Box::new(Status::not_found(key.kind, &key.name));
        match operation {
            Operation::List { scope, .. } => {
                let items = self.objects.iter().filter(|(key, _)| key.kind == scope.kind);
                let items = items.map(|(_, object)| object.clone()).collect();
                Ok(Answer::List { items, revision: self.revision, continue_token: None, remaining: None })
            }
            Operation::Watch { watch, scope, .. } => {
                self.watches.insert(*watch, scope.kind);
                Ok(Answer::WatchStarted)
            }
            Operation::Bind { key, uid, node } => {
                let Some(Object::Pod(pod)) = self.objects.get(key) else { return Err(not_found(key)) };
                if pod.meta.uid != *uid || pod.node.is_some() {
                    return Err(Box::new(Status::new(Reason::Conflict, "the pod is already assigned to a node")));
                }
                let mut pod = Pod::clone(pod);
                pod.node = Some(node.clone());
                self.write(Object::Pod(Rc::new(pod)));
                Ok(Answer::Done)
            }
            Operation::Patch { key, patch: Patch::Typed(patch), .. } => {
                let Some(Object::Pod(pod)) = self.objects.get(key) else { return Err(not_found(key)) };
                let mut pod = Pod::clone(pod);
                if let TypedPatch::PodConditions { conditions, nominated_node, .. } = &**patch {
                    if let Some(node) = nominated_node {
                        pod.status.nominated_node = (!node.is_empty()).then(|| Box::new(node.clone()));
                    }
                    pod.status.conditions.retain(|old| conditions.iter().all(|new| new.kind != old.kind));
                    pod.status.conditions.change(|all| all.extend(conditions.iter().cloned()));
                }
                self.write(Object::Pod(Rc::new(pod)));
                Ok(Answer::Done)
            }
            Operation::Update { object, .. } => {
                self.write(object.clone());
                Ok(Answer::Done)
            }
            Operation::Delete { key, .. } => {
                let Some(Object::Pod(pod)) = self.objects.get(key) else { return Err(not_found(key)) };
                let mut pod = Pod::clone(pod);
                pod.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(0), grace_seconds: Some(30) }));
                self.write(Object::Pod(Rc::new(pod)));
                Ok(Answer::Done)
            }
            _ => Ok(Answer::Done),
        }
    }
}

/// A node with this much CPU and 110 pods.
pub fn node(name: &str, cpu: &str) -> Object {
    node_from(name, json!({}), json!({ "allocatable": { "cpu": cpu, "memory": "32Gi", "pods": "110" } }))
}

/// A node with a specification and a status.
pub fn node_from(name: &str, spec: Value, status: Value) -> Object {
    object(
        Kind::Node,
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "uid": uid(name), "labels": { "kubernetes.io/hostname": name } },
            "spec": spec, "status": status,
        }),
    )
}

/// A pod that requests this much CPU.
pub fn pod(name: &str, cpu: &str) -> Object {
    pod_from(
        name,
        json!({
            "containers": [{ "name": "app", "image": "nginx:1", "resources": { "requests": { "cpu": cpu } } }],
        }),
    )
}

/// A pod with a specification.
pub fn pod_from(name: &str, spec: Value) -> Object {
    object(
        Kind::Pod,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": uid(name) },
            "spec": spec,
        }),
    )
}

/// An object from JSON.
pub fn object(kind: Kind, value: Value) -> Object {
    Object::from_json(kind, value).expect("an object")
}

/// Another pod of the same specification.
pub fn replica(of: &Object, name: &str) -> Object {
    let Object::Pod(pod) = of else { panic!("not a pod") };
    let mut pod = Pod::clone(pod);
    pod.meta.name = name.into();
    pod.meta.uid = Uid::parse(&uid(name)).expect("a uid");
    pod.meta.created = Timestamp(0);
    Object::Pod(Rc::new(pod))
}

/// A change of a node.
pub fn changed(node: &Object, change: impl FnOnce(&mut Node)) -> Object {
    let Object::Node(node) = node else { panic!("not a node") };
    let mut node = Node::clone(node);
    change(&mut node);
    Object::Node(Rc::new(node))
}

/// A uid that follows from a name.
pub fn uid(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Uid::from_random(hash, hash.rotate_left(31)).to_string()
}
