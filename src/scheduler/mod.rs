//! kube-scheduler: finds a node for each pod that has none.
//!
//! - this file: [`Scheduler`], the process; `binding`, `observe`: its other half
//! - `framework`, `event`: what a plugin is, and what wakes the pods that it rejected
//! - `profile`, `plugins`: which plugins there are
//! - `algorithm`, `class`, `diagnosis`: filters and scores nodes, and says why none fits
//! - `cluster`, `node_info`, `node_tree`, `images`: the picture of the cluster that it decides on
//! - `queue`: which pod is next
//!
//! A scheduling cycle takes time; one follows the other. What it decides is done at its end: the pod is assumed to be on its node
//! and the binding is under way while the next cycle runs. A crash is to drop the [`Scheduler`] and to build it anew.

pub mod algorithm;
pub mod class;
pub mod cluster;
pub mod diagnosis;
pub mod event;
pub mod framework;
pub mod images;
pub mod node_info;
pub mod node_tree;
pub mod plugins;
pub mod profile;
pub mod queue;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use self::algorithm::{Algorithm, Outcome};
use self::cluster::{Cluster, Seen};
use self::diagnosis::Diagnosis;
use self::event::ClusterEvent;
use self::framework::{Placement, Point};
use self::profile::Profile;
use self::queue::{Queue, Queued};
use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::{Epoch, ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType};
use crate::apiserver::protocol::{ApiMessage, FieldTest, Operation, Part, Patch, Scope, TypedPatch, User};
use crate::client::cache::Cache;
use crate::client::controller::Change;
use crate::client::delivery::{Caller, Delivery, Failure};
use crate::client::informer::Informers;
use crate::client::rate_limit::RateLimit;
use crate::client::series_recorder::{SeriesNote, SeriesRecorder};
use crate::client::tokens;
use crate::client::transport::{Client, Clientset, ClientsetConfig};
use crate::engine::process::{Cause, Context, Input, ProcessId, TimerId, Token};
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};

/// The timer at which a scheduling cycle ends.
const CYCLE_ENDS: Token = 0;
/// The timer at which a back-off ends.
const WAKE: Token = 1;

/// What a scheduler is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process's name, as `kube-scheduler`; names its random streams.
    pub name: String,
    /// Who asks.
    pub user: Rc<User>,
    /// The API servers, the one to be preferred first.
    pub api_servers: Vec<ProcessId>,
    /// The machine it runs on, which its events name.
    pub host: String,
    /// What ties virtual time to dates.
    pub epoch: Epoch,
    /// The run's seed.
    pub seed: Seed,
    /// Requests a second (`clientConnection.qps`); zero for no limit.
    pub qps: u32,
    /// Requests at once (`clientConnection.burst`).
    pub burst: u32,
    /// `percentageOfNodesToScore`; zero for a share that falls with the number of nodes.
    pub percentage_of_nodes_to_score: u32,
    /// How long a scheduling cycle takes: a real scheduler places about 800 plain pods in a second of CPU time
    /// on 1000 nodes.
    pub cycle: SimDuration,
}

impl Config {
    /// The defaults of kube-scheduler for one that speaks to these API servers.
    pub fn new(name: impl Into<String>, api_servers: Vec<ProcessId>, epoch: Epoch, seed: Seed) -> Self {
        let groups = vec![Name::of("system:authenticated")];
        Config {
            name: name.into(),
            user: Rc::new(User { name: Name::of("system:kube-scheduler"), groups }),
            api_servers,
            host: "control-plane-0".to_owned(),
            epoch,
            seed,
            qps: 50,
            burst: 100,
            percentage_of_nodes_to_score: 0,
            cycle: SimDuration::from_millis(1),
        }
    }
}

/// The scheduler process.
pub struct Scheduler {
    client: Client<Ticket>,
    clientset: Clientset,
    informers: Informers,
    recorder: SeriesRecorder,
    objects: Cache,
    epoch: Epoch,
    cycle: SimDuration,
    profile: Profile,
    algorithm: Algorithm,
    cluster: Cluster,
    queue: Queue,
    running: Option<Cycle>,
    bindings: BTreeMap<u64, Binding>,
    next_binding: u64,
    wake: Option<(SimTime, TimerId)>,
}

/// Which of the scheduler's requests an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ticket {
    /// The binding with this number.
    Bind(u64),
    /// The status of a pod that could not be scheduled; nothing depends on it.
    Condition,
}

/// A scheduling cycle that is under way.
struct Cycle {
    queued: Queued,
    outcome: Outcome,
}

/// A pod that is assumed to be on a node while the binding is written.
struct Binding {
    queued: Queued,
    placement: Placement,
}

impl Scheduler {
    /// The process at its beginning; it does nothing before [`Input::Start`].
    pub fn new(config: Config) -> Self {
        let mut client = Client::new(config.api_servers.clone());
        let limit = (config.qps > 0).then(|| RateLimit::per_second(config.qps, config.burst.max(1)));
        let mut clientset = |agent: &'static str, limit: Option<RateLimit>| {
            let (user, agent) = (config.user.clone(), Name::of(agent));
            client.add_clientset(ClientsetConfig { user, agent, limit, timeout: None, lane: 0 })
        };
        let own = clientset("kube-scheduler", limit.clone());
        // The events' client is made from the same configuration and has a bucket of its own.
        let events = clientset("kube-scheduler", limit);
        let scopes = vec![Scope::all(Kind::Node), unfinished_pods()];
        let stream = config.seed.stream(&config.name, "event-retry");
        let controller = Name::of("default-scheduler");
        Scheduler {
            informers: Informers::new(own, scopes, config.seed, &config.name),
            recorder: SeriesRecorder::new(0, events, controller, &config.host, config.epoch, stream),
            client,
            clientset: own,
            objects: Cache::default(),
            epoch: config.epoch,
            cycle: config.cycle,
            profile: Profile::standard(),
            algorithm: Algorithm::new(
                config.percentage_of_nodes_to_score,
                config.seed.stream(&config.name, "node-tie-break"),
            ),
            cluster: Cluster::default(),
            queue: Queue::default(),
            running: None,
            bindings: BTreeMap::new(),
            next_binding: 0,
            wake: None,
        }
    }

    /// Takes what happened to the process.
    pub fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
        match self.client.handle(input, ctx) {
            Some(Input::Start) => self.informers.start(&mut self.client, ctx),
            Some(Input::Timer { token }) => self.timer(token, ctx),
            Some(Input::Message { .. } | Input::DiskDone { .. } | Input::ConnectionLost { .. }) | None => {}
        }
        while let Some(delivery) = self.client.next_delivery() {
            self.deliver(delivery, ctx);
        }
        self.begin_cycle(ctx);
    }

    /// How many pods wait for a node or are being bound.
    pub fn backlog(&self) -> usize {
        self.queue.len() + self.bindings.len() + usize::from(self.running.is_some())
    }

    fn timer(&mut self, token: Token, ctx: &mut dyn Context<ApiMessage>) {
        match token {
            CYCLE_ENDS => self.end_cycle(ctx),
            WAKE => self.wake = None,
            _ if tokens::recorder_timer(token).is_some() => self.recorder.timer(&mut self.client, ctx),
            _ => {
                self.informers.timer(token, &mut self.client, ctx);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery<Ticket>, ctx: &mut dyn Context<ApiMessage>) {
        match (delivery.caller(), delivery) {
            (Caller::Informer(_), delivery) => {
                let (now, cause) = (ctx.now(), ctx.cause());
                let mut changes = Vec::new();
                let mut listener = |change: Change<'_>, _: &Cache| changes.push(own_change(change));
                self.informers.deliver(delivery, &mut self.client, &mut self.objects, ctx, &mut listener);
                for (old, new) in changes {
                    self.observe(old, new, now, cause);
                }
            }
            (Caller::Recorder(_), Delivery::Answered { id, result, .. }) => {
                self.recorder.answered(id, result, &mut self.client, ctx);
            }
            (Caller::Process(Ticket::Bind(number)), Delivery::Answered { result, .. }) => {
                self.bound(number, result.err(), ctx);
            }
            // What could not be written about a pod is written at the next attempt.
            (Caller::Process(Ticket::Condition), Delivery::Answered { .. }) => {}
            // Only informers watch.
            (_, Delivery::Events { .. } | Delivery::WatchEnded { .. }) => {}
        }
    }

    fn observe(&mut self, old: Option<Object>, new: Option<Object>, now: SimTime, cause: Cause) {
        match (&old, &new) {
            (Some(Object::Pod(gone)), None) => self.pod_gone(gone, &old, now),
            (_, Some(Object::Pod(pod))) if pod.is_terminal() => self.pod_gone(pod, &new, now),
            (_, Some(Object::Pod(pod))) => self.pod_seen(pod, &old, &new, now, cause),
            (_, Some(Object::Node(node))) => {
                self.cluster.set_node(node.clone());
                let events = match &old {
                    Some(Object::Node(old)) => event::node_changes(old, node),
                    _ => vec![ClusterEvent::NodeAdd],
                };
                for event in events {
                    self.wake_pods(event, &old, &new, now);
                }
            }
            (Some(Object::Node(gone)), None) => self.cluster.remove_node(&gone.meta.name),
            _ => {}
        }
    }

    fn pod_seen(&mut self, pod: &Rc<Pod>, old: &Option<Object>, new: &Option<Object>, now: SimTime, cause: Cause) {
        let uid = pod.meta.uid;
        if let Some(node) = &pod.node {
            self.queue.remove(uid);
            let seen = self.cluster.see_pod(pod, node);
            if seen == Seen::New {
                self.wake_pods(ClusterEvent::AssignedPodAdd, old, new, now);
            }
            return;
        }
        let is_ours = pod.spec.full.scheduler_name.as_deref().unwrap_or(self.profile.scheduler_name);
        let is_running = self.running.as_ref().is_some_and(|cycle| cycle.queued.pod.meta.uid == uid);
        if is_ours != self.profile.scheduler_name
            || is_running
            || self.cluster.is_assumed(uid)
            || self.queue.update(pod)
        {
            return;
        }
        let gated = self.profile.at(Point::PreEnqueue).any(|(_, plugin, _)| !plugin.pre_enqueue(pod).is_success());
        if !gated {
            let queued = Queued { pod: pod.clone(), since: now, attempts: 0, rejected_by: Vec::new(), cause };
            let rank = rank(&self.profile, pod);
            self.queue.add(queued, rank);
        }
    }

    fn pod_gone(&mut self, pod: &Rc<Pod>, old: &Option<Object>, now: SimTime) {
        self.queue.remove(pod.meta.uid);
        if self.cluster.remove_pod(pod.meta.uid) {
            self.wake_pods(ClusterEvent::AssignedPodDelete, old, &None, now);
        }
    }

    fn wake_pods(&mut self, event: ClusterEvent, old: &Option<Object>, new: &Option<Object>, now: SimTime) {
        let profile = &self.profile;
        self.queue.move_all(event, old.as_ref(), new.as_ref(), now, |pod| rank(profile, pod));
    }

    /// Begins a cycle if none runs and a pod waits.
    fn begin_cycle(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        if self.running.is_some() || !self.informers.have_synced(&self.objects) {
            return;
        }
        let profile = &self.profile;
        while let Some(queued) = self.queue.pop(ctx.now(), |pod| rank(profile, pod)) {
            if queued.pod.meta.is_deleting() || self.cluster.is_assumed(queued.pod.meta.uid) {
                continue;
            }
            self.cluster.refresh();
            let outcome = self.algorithm.schedule(&self.profile, &queued.pod, &self.cluster);
            self.running = Some(Cycle { queued, outcome });
            ctx.set_timer(ctx.now() + self.cycle, CYCLE_ENDS);
            return;
        }
        if let Some(at) = self.queue.next_time()
            && self.wake.is_none_or(|(wake, _)| at < wake)
        {
            if let Some((_, timer)) = self.wake {
                ctx.cancel_timer(timer);
            }
            self.wake = Some((at, ctx.set_timer(at, WAKE)));
        }
    }

    fn end_cycle(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        let Some(Cycle { queued, outcome }) = self.running.take() else { return };
        let here = ctx.cause();
        ctx.set_cause(queued.cause);
        match outcome {
            Outcome::Node(chosen) => self.bind(queued, chosen.node, ctx),
            Outcome::Unschedulable(diagnosis) => self.unschedulable(queued, &diagnosis, ctx),
        }
        ctx.set_cause(here);
    }

    fn bind(&mut self, queued: Queued, node: Name, ctx: &mut dyn Context<ApiMessage>) {
        if self.objects_pod(&queued).is_none() || !self.cluster.assume(&queued.pod, &node) {
            return;
        }
        let placement = Placement { pod: queued.pod.clone(), node };
        let operation = self.profile.at(Point::Bind).find_map(|(_, plugin, _)| plugin.bind(&placement));
        let Some(operation) = operation else { return };
        self.next_binding += 1;
        let caller = Caller::Process(Ticket::Bind(self.next_binding));
        self.client.request(self.clientset, caller, operation, ctx);
        self.bindings.insert(self.next_binding, Binding { queued, placement });
    }

    fn bound(&mut self, number: u64, failure: Option<Failure>, ctx: &mut dyn Context<ApiMessage>) {
        let Some(Binding { queued, placement }) = self.bindings.remove(&number) else { return };
        let here = ctx.cause();
        match failure {
            None => {
                ctx.set_cause(queued.cause);
                let meta = &queued.pod.meta;
                let message = format!("Successfully assigned {}/{} to {}", meta.namespace, meta.name, placement.node);
                self.record(&queued.pod, EventType::Normal, "Scheduled", "Binding", message, ctx);
            }
            Some(failure) => {
                self.cluster.forget(queued.pod.meta.uid);
                let now = ctx.now();
                self.wake_pods(ClusterEvent::AssignedPodDelete, &None, &None, now);
                let text = failure.into_status().message;
                self.failed(queued, "SchedulerError", text, true, ctx);
            }
        }
        ctx.set_cause(here);
    }

    fn unschedulable(&mut self, mut queued: Queued, diagnosis: &Diagnosis, ctx: &mut dyn Context<ApiMessage>) {
        queued.rejected_by = diagnosis.plugins.clone();
        self.failed(queued, "Unschedulable", diagnosis.message(), false, ctx);
    }

    /// Puts a pod back and says why it was not scheduled.
    fn failed(
        &mut self,
        mut queued: Queued,
        reason: &'static str,
        message: String,
        is_error: bool,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(pod) = self.objects_pod(&queued) else { return };
        if pod.node.is_some() || pod.meta.uid != queued.pod.meta.uid {
            return;
        }
        queued.pod = pod.clone();
        if is_error {
            self.queue.add_back_off(queued, ctx.now());
        } else {
            self.queue.add_unschedulable(queued, ctx.now());
        }
        self.record(&pod, EventType::Warning, "FailedScheduling", "Scheduling", message.clone(), ctx);
        self.write_condition(&pod, reason, message, ctx);
    }

    fn write_condition(&mut self, pod: &Pod, reason: &'static str, message: String, ctx: &mut dyn Context<ApiMessage>) {
        let old = pod.status.condition(&PodConditionType::PodScheduled);
        let message = Name::from(message);
        let same_status = old.is_some_and(|old| old.status == ConditionStatus::False);
        let unchanged = old.is_some_and(|old| {
            same_status
                && old.reason.as_ref().is_some_and(|old| old.as_str() == reason)
                && old.message.as_ref() == Some(&message)
                && old.observed_generation == pod.meta.generation
        });
        if unchanged {
            return;
        }
        let now = self.epoch.timestamp(ctx.now());
        let condition = PodCondition {
            kind: PodConditionType::PodScheduled,
            status: ConditionStatus::False,
            reason: Some(Name::of(reason)),
            message: Some(message),
            last_transition: old.filter(|_| same_status).map_or(now, |old| old.last_transition),
            observed_generation: pod.meta.generation,
        };
        let patch = TypedPatch::PodConditions { uid: pod.meta.uid, conditions: vec![condition], nominated_node: None };
        let operation = Operation::Patch {
            key: ObjectKey::new(Kind::Pod, pod.meta.namespace.clone(), pod.meta.name.clone()),
            patch: Patch::Typed(Box::new(patch)),
            part: Part::Status,
            dry_run: false,
        };
        self.client.request(self.clientset, Caller::Process(Ticket::Condition), operation, ctx);
    }

    fn record(
        &mut self,
        pod: &Pod,
        kind: EventType,
        reason: &'static str,
        action: &'static str,
        message: String,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let note = SeriesNote {
            regarding: reference(pod),
            related: None,
            kind,
            reason: Name::of(reason),
            action: Name::of(action),
            message,
        };
        self.recorder.record(note, &mut self.client, ctx);
    }

    /// The pod of a cycle as the informer shows it now; none if it is gone.
    fn objects_pod(&self, queued: &Queued) -> Option<Rc<Pod>> {
        let meta = &queued.pod.meta;
        self.objects.view().get::<Pod>(&meta.namespace, &meta.name).cloned()
    }

    /// True if a pod is assumed to be on a node and its binding is not yet seen.
    pub fn is_assumed(&self, pod: Uid) -> bool {
        self.cluster.is_assumed(pod)
    }
}

/// Pods that have ended hold nothing and are not looked at (kube-scheduler, `NewInformerFactory`).
fn unfinished_pods() -> Scope {
    let not = |phase: &'static str| FieldTest { field: Name::of("status.phase"), value: Name::of(phase), equal: false };
    Scope { fields: vec![not("Succeeded"), not("Failed")], ..Scope::all(Kind::Pod) }
}

fn rank(profile: &Profile, pod: &Pod) -> i64 {
    profile.at(Point::QueueSort).map(|(_, plugin, _)| plugin.rank(pod)).next().unwrap_or(0)
}

fn own_change(change: Change<'_>) -> (Option<Object>, Option<Object>) {
    match change {
        Change::Added(new) => (None, Some(new.clone())),
        Change::Updated { old, new } => (Some(old.clone()), Some(new.clone())),
        Change::Deleted(old) => (Some(old.clone()), None),
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Name::of("v1"),
        kind: Name::of("Pod"),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
        resource_version: pod.meta.revision(),
        field_path: Name::EMPTY,
    }
}
