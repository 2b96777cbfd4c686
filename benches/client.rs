//! What it costs a controller manager to take in one change of a pod at 10,000 pods: message, informer, cache, three
//! controllers that hear of it, queues. Reconciling is not in the time.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use criterion::{Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1 as core;
use kubesim::api::kind::Kind;
use kubesim::api::meta::{Common, Epoch, Meta, ObjectKey, OwnerReference, Uid};
use kubesim::api::name::Name;
use kubesim::api::object::{Object, Resource};
use kubesim::api::pod::{Pod, PodSpec, PodStatus, QosClass, RestartPolicy};
use kubesim::api::resources::Resources;
use kubesim::api::shared::Shared;
use kubesim::apiserver::protocol::{Answer, ApiMessage, Operation, WatchEvent, WatchId};
use kubesim::client::controller::{Change, Controller};
use kubesim::client::harness::{Config, ControllerManager};
use kubesim::client::plan::Plan;
use kubesim::client::view::{Now, View};
use kubesim::engine::process::{Cause, Context, Input, Lane, ProcessId, TimerId, Token};
use kubesim::engine::random::Seed;
use kubesim::engine::time::{SimDuration, SimTime};

const SERVER: ProcessId = ProcessId(1);

/// Hears of every pod and puts its owner into the queue.
struct Owners(&'static str);

impl Controller for Owners {
    fn name(&self) -> &'static str {
        self.0
    }

    fn workers(&self) -> usize {
        5
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Pod]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let meta = change.object().meta();
        if let Some(owner) = meta.controller() {
            let key = ObjectKey { kind: Kind::ReplicaSet, namespace: meta.namespace.clone(), name: owner.name.clone() };
            enqueue(key, SimDuration::ZERO);
        }
    }

    fn reconcile(&self, _view: &View<'_>, _key: &ObjectKey, _now: Now) -> Plan {
        Plan::nothing()
    }
}

/// A context that keeps what is sent and lets no time pass.
#[derive(Default)]
struct Still {
    sent: Vec<ApiMessage>,
    timers: u64,
    cause: Cause,
}

impl Context<ApiMessage> for Still {
    fn now(&self) -> SimTime {
        SimTime::from_nanos(1)
    }

    fn send_after(&mut self, _delay: SimDuration, _to: ProcessId, _lane: Lane, message: ApiMessage) {
        self.sent.push(message);
    }

    fn set_timer(&mut self, _at: SimTime, _token: Token) -> TimerId {
        self.timers += 1;
        TimerId(self.timers)
    }

    fn cancel_timer(&mut self, _id: TimerId) {}

    fn write_and_sync(&mut self, _bytes: u64, _token: Token) {}

    fn cause(&self) -> Cause {
        self.cause
    }

    fn set_cause(&mut self, cause: Cause) {
        self.cause = cause;
    }
}

fn spec() -> Rc<PodSpec> {
    Rc::new(PodSpec {
        full: core::PodSpec::default(),
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
    })
}

/// A pod of one of a hundred ReplicaSets on one of a thousand nodes.
fn pod(number: u32, revision: u64, spec: &Rc<PodSpec>, owners: &[Shared<OwnerReference>], nodes: &[Name]) -> Object {
    let owner = &owners[number as usize % owners.len()];
    let status = PodStatus { pod_ip: Some(IpAddr::V4(Ipv4Addr::from(number))), ..PodStatus::default() };
    Pod {
        meta: Meta {
            name: format!("{}-{number:05}", owner[0].name).into(),
            uid: Uid(u128::from(number) + 1_000),
            resource_version: revision.into(),
            common: Common { namespace: Name::of("default"), owners: owner.clone(), ..Common::default() }.into(),
            ..Meta::default()
        },
        spec: spec.clone(),
        node: Some(nodes[number as usize % nodes.len()].clone()),
        only_node: None,
        token_volume: None,
        status,
    }
    .boxed()
}

/// Starts a manager and answers its list and its watch.
fn manager(ctx: &mut Still, pods: Vec<Object>) -> (ControllerManager, WatchId) {
    let config = Config::new("kube-controller-manager-0", vec![SERVER], Epoch(0), Seed(7));
    let names = ["replicaset-controller", "endpointslice-controller", "garbage-collector"];
    let controllers = names.map(|name| Box::new(Owners(name)) as Box<dyn Controller>);
    let mut manager = ControllerManager::new(config, controllers.into());
    manager.handle(Input::Start, ctx);
    let mut list = Some(Answer::List { items: pods, revision: 20_000, continue_token: None, remaining: None });
    while let Some(ApiMessage::Request(request)) = ctx.sent.pop() {
        let watching = match request.operation {
            Operation::Watch { watch, .. } => Some(watch),
            _ => None,
        };
        let answer = list.take().unwrap_or(Answer::WatchStarted);
        let message = ApiMessage::Response { id: request.id, result: Ok(answer) };
        manager.handle(Input::Message { from: SERVER, message }, ctx);
        if let Some(watch) = watching {
            return (manager, watch);
        }
    }
    unreachable!("the manager lists, then watches")
}

fn one_change(criterion: &mut Criterion) {
    let spec = spec();
    let owner = |number: u32| -> Shared<OwnerReference> {
        Shared::from([OwnerReference {
            api_version: Name::of("apps/v1"),
            kind: Name::of("ReplicaSet"),
            name: format!("hello-deploy-{number:010x}").into(),
            uid: Uid(u128::from(number)),
            controller: true,
            block_owner_deletion: true,
        }])
    };
    let owners: Vec<_> = (0..100).map(owner).collect();
    let nodes: Vec<Name> = (0..1_000).map(|number| format!("node-{number}").into()).collect();
    let at = |revision| -> Vec<Object> {
        (0..10_000).map(|number| pod(number, u64::from(number) + revision, &spec, &owners, &nodes)).collect()
    };
    let mut ctx = Still::default();
    let (mut manager, watch) = manager(&mut ctx, at(1));
    let newer = at(30_000);
    let mut next = 0;
    criterion.bench_function("one pod's change at 10,000 pods, three controllers", |bencher| {
        bencher.iter(|| {
            next = (next + 7_919) % newer.len();
            let events = vec![WatchEvent::Modified(newer[next].clone())];
            let message = ApiMessage::Watch { watch, events };
            manager.handle(Input::Message { from: SERVER, message }, &mut ctx);
            black_box(&ctx);
        });
    });
}

criterion_group!(benches, one_change);
criterion_main!(benches);
