//! kube-scheduler: finds a node for each pod that has none.
//!
//! - this file: [`Scheduler`], the process; its parts are `config`, `observe` (what the informers show), `binding` (what
//!   becomes of a decision) and `account` (what is told of a failure)
//! - `framework`, `event`: what a plugin is, and what wakes the pods that it rejected
//! - `algorithm`, `compiled`, `class`, `filters`, `kinds`, `strides`, `pick`, `rejections`, `codes`, `diagnosis`: filters and scores
//!   nodes, and says why none fits
//! - `evaluate`: the same in full and plainly, as the reference
//! - `cluster`, `node_info`, `node_tree`, `images`, `objects`, `storage`: the picture of the cluster that it decides on
//! - `groups`, `individual`, `terms`, `topology`, `bits`: which pods are alike, what they want of one another, and which nodes are
//!   one place
//! - `profile`, `plugins`, `registry`: which plugins there are
//! - `configuration`, `arguments`: the files in which users say so
//! - `queue`: which pod is next
//! - `preemption`: who has to go for a more important pod
//! - `record`: what is kept of each decision, if anybody wants to know
//!
//! A scheduling cycle takes time; one follows the other. What it decides is done at its end: the pod is assumed to be on its
//! node, and the binding is under way while the next cycle runs. A crash is to drop the [`Scheduler`] and to build it anew.

mod account;
pub mod algorithm;
pub mod arguments;
mod binding;
pub mod bits;
pub mod class;
pub mod cluster;
pub mod codes;
pub mod compiled;
mod config;
pub mod configuration;
pub mod diagnosis;
pub mod evaluate;
pub mod event;
pub mod filters;
pub mod framework;
pub mod groups;
pub mod images;
pub mod individual;
mod kinds;
pub mod node_info;
pub mod node_tree;
pub mod objects;
mod observe;
mod pick;
pub mod plugins;
pub mod preemption;
pub mod profile;
#[cfg(test)]
mod properties;
pub mod queue;
pub mod record;
pub mod registry;
mod rejections;
pub mod storage;
mod strides;
pub mod terms;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod topology;
#[cfg(test)]
mod work;

use std::collections::BTreeMap;

use self::algorithm::{Algorithm, Outcome};
use self::binding::Binding;
use self::cluster::Cluster;
pub use self::config::Config;
use self::configuration::ProfileConfiguration;
use self::preemption::executor::{Evictions, Telling};
use self::profile::{Handle, Profile, Profiles, WrongProfile};
use self::queue::back_off::BackOff;
use self::queue::{Queue, Queued};
use self::record::{Decided, Verdict};
use crate::api::kind::Kind;
use crate::api::meta::Epoch;
use crate::api::name::Name;
use crate::apiserver::protocol::{ApiMessage, FieldTest, Scope};
use crate::client::cache::Cache;
use crate::client::controller::Change;
use crate::client::delivery::{Caller, Delivery};
use crate::client::informer::Informers;
use crate::client::rate_limit::RateLimit;
use crate::client::series_recorder::SeriesRecorder;
use crate::client::tokens;
use crate::client::transport::{Client, Clientset, ClientsetConfig};
use crate::engine::process::{Context, Input, TimerId, Token};
use crate::engine::time::{SimDuration, SimTime};

/// The timer at which a scheduling cycle ends.
const CYCLE_ENDS: Token = 0;
/// The timer at which the queue wants to be looked at.
const WAKE: Token = 1;
/// The timers at which pods have waited too long for a permit, or look again whether they may be bound: this and the
/// binding's number.
const PERMIT: Token = 1 << 32;

/// The scheduler process.
pub struct Scheduler {
    client: Client<Ticket>,
    clientset: Clientset,
    informers: Informers,
    /// One for each profile.
    recorders: Vec<SeriesRecorder>,
    objects: Cache,
    /// True once every informer has shown its first list.
    has_synced: bool,
    epoch: Epoch,
    cycle: SimDuration,
    profiles: Profiles,
    algorithm: Algorithm,
    cluster: Cluster,
    queue: Queue,
    running: Option<Cycle>,
    /// The decisions since they were last taken, if anybody wants to know.
    decisions: Option<Vec<Decided>>,
    bindings: BTreeMap<u64, Binding>,
    next_binding: u64,
    evictions: Evictions,
    wake: Option<(SimTime, TimerId)>,
}

/// Which of the scheduler's requests an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ticket {
    /// The binding with this number.
    Bind(u64),
    /// The status of a pod that could not be scheduled; nothing depends on it.
    Condition,
    /// A step of the preemption with this number.
    Preemption(u64, Telling),
}

/// A scheduling cycle that is under way.
struct Cycle {
    queued: Box<Queued>,
    outcome: Outcome,
}

impl Scheduler {
    /// The process with the profiles of its configuration, at its beginning; it does nothing before [`Input::Start`].
    ///
    /// # Panics
    ///
    /// If the configuration was not checked: [`Scheduler::configured`] says what is wrong.
    pub fn new(config: Config) -> Self {
        match Scheduler::configured(config) {
            Ok(scheduler) => scheduler,
            Err(wrong) => panic!("{}", wrong.message),
        }
    }

    /// The same for a configuration that may be wrong.
    ///
    /// # Errors
    ///
    /// Why a profile cannot be made.
    pub fn configured(config: Config) -> Result<Self, WrongProfile> {
        let handle = Handle::default();
        let profiles: &[ProfileConfiguration] = &config.configuration.profiles;
        let profiles = Profiles::new(profiles, &config.registry, &handle)?;
        Ok(Scheduler::with_profiles(config, profiles, handle))
    }

    /// The process with a profile of one's own.
    pub fn with_profile(config: Config, profile: Profile) -> Self {
        Scheduler::with_profiles(config, Profiles::single(profile), Handle::default())
    }

    /// The process with profiles whose plugins were made with this handle.
    pub fn with_profiles(config: Config, profiles: Profiles, handle: Handle) -> Self {
        let mut client = Client::new(config.api_servers.clone());
        let limit = (config.qps > 0).then(|| RateLimit::per_second(config.qps, config.burst.max(1)));
        let mut clientset = || {
            let (user, agent) = (config.user.clone(), Name::of("kube-scheduler"));
            client.add_clientset(ClientsetConfig { user, agent, limit: limit.clone(), timeout: None, lane: 0 })
        };
        // The client for events is made from the same configuration and has a bucket of its own.
        let (own, events) = (clientset(), clientset());
        let others = [
            Kind::Namespace,
            Kind::Service,
            Kind::ReplicationController,
            Kind::ReplicaSet,
            Kind::StatefulSet,
            Kind::PodDisruptionBudget,
        ];
        let others = others.into_iter().chain(storage::KINDS).map(Scope::all);
        let scopes = [Scope::all(Kind::Node), unfinished_pods()].into_iter().chain(others).collect();
        let tie_break = config.seed.stream(&config.name, "node-tie-break");
        let preemption = config.seed.stream(&config.name, "preemption");
        let recorder = |(number, profile): (u16, &Profile)| {
            let purpose = if number == 0 { "event-retry".to_owned() } else { format!("event-retry-{number}") };
            let stream = config.seed.stream(&config.name, &purpose);
            let controller = profile.scheduler_name.clone();
            SeriesRecorder::new(number, events, controller, &config.host, config.epoch, stream)
        };
        let back_offs =
            BackOff { first: config.configuration.initial_back_off, longest: config.configuration.longest_back_off };
        let percentage = config.configuration.percentage_of_nodes_to_score;
        Scheduler {
            informers: Informers::new(own, scopes, config.seed, &config.name),
            recorders: (0..).zip(profiles.iter()).map(recorder).collect(),
            client,
            clientset: own,
            objects: Cache::plain(),
            has_synced: false,
            epoch: config.epoch,
            cycle: config.cycle,
            profiles,
            algorithm: Algorithm::new(percentage, tie_break).with_preemption_stream(preemption),
            cluster: Cluster::default(),
            queue: Queue::new(config.epoch, back_offs),
            running: None,
            decisions: config.records_decisions.then(Vec::new),
            bindings: BTreeMap::new(),
            next_binding: 0,
            evictions: Evictions::new(handle.preempting),
            wake: None,
        }
    }

    /// Takes what happened to the process.
    pub fn handle(&mut self, input: Input<ApiMessage>, ctx: &mut dyn Context<ApiMessage>) {
        match self.client.handle(input, ctx) {
            Some(Input::Start) => self.start(ctx),
            Some(Input::Timer { token }) => self.timer(token, ctx),
            Some(Input::Message { .. } | Input::DiskDone { .. } | Input::ConnectionLost { .. }) | None => {}
        }
        while let Some(delivery) = self.client.next_delivery() {
            self.deliver(delivery, ctx);
        }
        self.begin_cycle(ctx);
    }

    /// How many pods wait for a node, are being scheduled or are being bound.
    pub fn backlog(&self) -> usize {
        self.queue.len() + self.bindings.len() + usize::from(self.running.is_some())
    }

    /// The decisions since this was last called; none unless [`Config::records_decisions`].
    pub fn take_decisions(&mut self) -> Vec<Decided> {
        self.decisions.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What it takes the cluster to be.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn start(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        self.queue.start(ctx.now());
        self.informers.start(&mut self.client, ctx);
    }

    fn timer(&mut self, token: Token, ctx: &mut dyn Context<ApiMessage>) {
        match token {
            CYCLE_ENDS => self.end_cycle(ctx),
            WAKE => self.wake = None,
            _ if let Some(number) = tokens::recorder_timer(token) => {
                if let Some(recorder) = self.recorders.get_mut(usize::from(number)) {
                    recorder.timer(&mut self.client, ctx);
                }
            }
            _ if token < tokens::CLIENT_TOKENS => self.binding_timer(token - PERMIT, ctx),
            _ => {
                self.informers.timer(token, &mut self.client, ctx);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery<Ticket>, ctx: &mut dyn Context<ApiMessage>) {
        match (delivery.caller(), delivery) {
            (Caller::Informer(_), delivery) => self.inform(delivery, ctx),
            (Caller::Recorder(number), Delivery::Answered { id, result, .. }) => {
                if let Some(recorder) = self.recorders.get_mut(usize::from(number)) {
                    recorder.answered(id, result, &mut self.client, ctx);
                }
            }
            (Caller::Process(Ticket::Bind(number)), Delivery::Answered { result, .. }) => {
                self.binding_answered(number, result.err(), ctx);
            }
            (Caller::Process(Ticket::Preemption(number, telling)), Delivery::Answered { result, .. }) => {
                self.told(number, telling, result.err(), ctx);
            }
            // What could not be written about a pod is written at the next attempt.
            (Caller::Process(Ticket::Condition), Delivery::Answered { .. }) => {}
            // Only informers watch.
            (_, Delivery::Events { .. } | Delivery::WatchEnded { .. }) => {}
        }
    }

    /// Lets an informer take news, and looks at what changed.
    fn inform(&mut self, delivery: Delivery<Ticket>, ctx: &mut dyn Context<ApiMessage>) {
        let (now, cause) = (ctx.now(), ctx.cause());
        let Scheduler { profiles, cluster, queue, evictions, .. } = self;
        let (preempting, mut unwanted) = (evictions.ongoing(), Vec::new());
        let mut observer =
            observe::Observer { profiles, cluster, queue, preempting, unwanted: &mut unwanted, now, cause };
        let mut listener = |change: Change<'_>, _: &Cache| observer.observe(change);
        self.informers.deliver(delivery, &mut self.client, &mut self.objects, ctx, &mut listener);
        for pod in unwanted {
            self.waiting_pod_deleted(pod, ctx);
        }
    }

    /// Begins a cycle if none runs and a pod waits.
    fn begin_cycle(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        if self.running.is_some() {
            return;
        }
        self.has_synced = self.has_synced || self.informers.have_synced(&self.objects);
        if !self.has_synced {
            return;
        }
        while let Some(queued) = self.queue.pop(ctx.now(), &self.profiles) {
            if self.is_skipped(&queued, ctx) {
                self.queue.done(queued.pod.meta.uid);
                continue;
            }
            self.cluster.refresh();
            let outcome = self.algorithm.schedule(self.profiles.at(queued.profile), &queued.pod, &self.cluster);
            self.running = Some(Cycle { queued, outcome });
            ctx.set_timer(ctx.now() + self.cycle, CYCLE_ENDS);
            return;
        }
        self.wake_later(ctx);
    }

    /// Pods that are being deleted are not scheduled, and such that are assumed to be on a node already are.
    fn is_skipped(&mut self, queued: &Queued, ctx: &mut dyn Context<ApiMessage>) -> bool {
        let pod = &queued.pod;
        if pod.meta.is_deleting() {
            let message = format!("skip schedule deleting pod: {}/{}", pod.meta.namespace, pod.meta.name);
            self.record_failure(queued.profile, pod, message, ctx);
            return true;
        }
        self.cluster.is_assumed(pod.meta.uid)
    }

    fn wake_later(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        let Some(at) = self.queue.next_time() else { return };
        if self.wake.is_some_and(|(wake, _)| wake <= at) {
            return;
        }
        if let Some((_, timer)) = self.wake {
            ctx.cancel_timer(timer);
        }
        let at = at.max(ctx.now());
        self.wake = Some((at, ctx.set_timer(at, WAKE)));
    }

    fn end_cycle(&mut self, ctx: &mut dyn Context<ApiMessage>) {
        let Some(Cycle { queued, outcome }) = self.running.take() else { return };
        let here = ctx.cause();
        if let Some(decisions) = &mut self.decisions {
            let verdict = Verdict::new(&outcome, self.profiles.at(queued.profile));
            decisions.push(Decided::new(&queued.pod, queued.attempts, ctx.now(), queued.cause, verdict));
        }
        ctx.set_cause(queued.cause);
        match outcome {
            Outcome::Node(chosen) => self.assume_and_bind(queued, chosen.node, ctx),
            Outcome::Failed(why) => self.failed(queued, why.to_string(), ctx),
            Outcome::Unschedulable(diagnosis) => {
                self.preempt(&queued, &diagnosis, ctx);
                self.rejected(queued, &diagnosis, ctx);
            }
        }
        ctx.set_cause(here);
    }
}

/// Pods that have ended hold nothing and are not looked at (kube-scheduler, `NewInformerFactory`).
fn unfinished_pods() -> Scope {
    let not = |phase: &'static str| FieldTest { field: Name::of("status.phase"), value: Name::of(phase), equal: false };
    Scope { fields: vec![not("Succeeded"), not("Failed")], ..Scope::all(Kind::Pod) }
}
