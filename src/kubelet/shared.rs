//! What all pods of a kubelet share: its settings, its way to the API, its clocks and its queues.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::apiserver::protocol::Operation;
use crate::client::delivery::Caller;
use crate::client::plan::EventNote;
use crate::client::transport::{Client, Clientset};
use crate::client::view::Now;
use crate::engine::process::{Cause, TimerId};
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{PodIdentity, PodNumber};

use super::agent::NodeContext;
use super::puller::Puller;
use super::room::Taken;
use super::settings::KubeletSettings;
use super::tokens::Timer;
use super::worker::Worker;
use super::writer::Writing;

/// What a request of the kubelet was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The node's registration.
    Register,
    /// The node, because it was there already.
    GetNode,
    /// The node's status.
    NodeStatus,
    /// The node, for another try at its status.
    ReadNode,
    /// The lease, to see whether there is one.
    GetLease,
    /// The node, to which a new lease is to belong.
    LeaseOwner,
    /// The lease's renewal or creation.
    RenewLease,
    /// A pod's status.
    PodStatus(PodNumber),
    /// A pod's deletion.
    DeletePod(PodNumber),
    /// The creation of a static pod's mirror.
    CreateMirror(PodNumber),
    /// The deletion of a mirror.
    DeleteMirror,
    /// Something that a volume's content comes from.
    Volume {
        /// The pod.
        pod: PodNumber,
        /// The volume's place among those of the pod that come from the API.
        volume: u16,
        /// The place among what it comes from.
        source: u16,
    },
    /// A claim, or the volume that it names.
    Claim {
        /// The pod.
        pod: PodNumber,
        /// The volume's place among those of the pod behind claims.
        volume: u16,
    },
    /// Something that a container's environment comes from.
    Environment {
        /// The pod.
        pod: PodNumber,
        /// The container.
        container: u16,
        /// The place among what it comes from.
        source: u16,
    },
}

/// What all pods of a kubelet share.
pub struct Shared {
    /// What the kubelet is made of.
    pub settings: Rc<KubeletSettings>,
    /// The way to the API.
    pub client: Client<Purpose>,
    /// The client for pods and nodes.
    pub clientset: Clientset,
    /// The client for leases and the node's status, which waits for no other request.
    heartbeat: Clientset,
    /// Events to be recorded after the present input was handled.
    pub notes: Vec<(Cause, EventNote)>,
    /// What is being handled: events are ascribed to it.
    pub cause: Cause,
    /// Pulls, and the images that are there.
    pub puller: Puller,
    /// Jitter of retries.
    pub jitter: Stream,
    /// When the kubelet began.
    pub began: SimTime,
    /// The fraction of a second at which the runtime is listed.
    relist_phase: SimTime,
    /// The fraction of a second at which pods whose time has come are synced.
    sync_phase: SimTime,
    /// Pods of which the next relist may show something, or that wait for it.
    to_relist: BTreeMap<PodNumber, Cause>,
    relist_timer: Option<TimerId>,
    /// Pods that are due by themselves, by time.
    due: BTreeMap<(SimTime, PodNumber), Cause>,
    sync_timer: Option<(SimTime, TimerId)>,
    /// Pods with a status that no round has taken up, in the order in which it came.
    pub to_write: VecDeque<PodNumber>,
    /// A round of writes is to begin as soon as none is under way.
    pub round_wanted: bool,
    /// Pods that a round which begins now takes up as well: their last write has failed.
    pub joining: VecDeque<PodNumber>,
    /// What the present round has still to write.
    pub round: VecDeque<Box<Writing>>,
    /// What is being written.
    pub writing: Option<Box<Writing>>,
    /// What is set aside for all pods whose containers could run; none if it is not known now.
    pub taken: Option<Taken>,
    /// Pods whose status is looked at again at the next recheck.
    pub to_recheck: BTreeSet<PodNumber>,
    recheck_timer: Option<TimerId>,
}

impl Shared {
    /// What a kubelet that begins now shares.
    pub fn new(
        settings: Rc<KubeletSettings>,
        client: Client<Purpose>,
        clientset: Clientset,
        heartbeat: Clientset,
        now: SimTime,
    ) -> Self {
        let mut jitter = settings.seed.stream(&settings.node.name, "kubelet jitter");
        let mut phase = || SimTime::from_nanos(now.as_nanos() + jitter.below(1_000_000_000));
        let (relist_phase, sync_phase) = (phase(), phase());
        Shared {
            puller: Puller::new(settings.configuration.parallel_pulls),
            settings,
            client,
            clientset,
            heartbeat,
            notes: Vec::new(),
            cause: Cause::NONE,
            jitter,
            began: now,
            relist_phase,
            sync_phase,
            to_relist: BTreeMap::new(),
            relist_timer: None,
            due: BTreeMap::new(),
            sync_timer: None,
            to_write: VecDeque::new(),
            round_wanted: false,
            joining: VecDeque::new(),
            round: VecDeque::new(),
            writing: None,
            taken: None,
            to_recheck: BTreeSet::new(),
            recheck_timer: None,
        }
    }

    /// Makes a request in the kubelet's own name.
    pub fn request(&mut self, purpose: Purpose, operation: Operation, ctx: &mut dyn NodeContext) {
        self.client.request(self.clientset, Caller::Process(purpose), operation, ctx);
    }

    /// Makes a request for which nothing holds the kubelet back, and which has a time limit.
    pub fn heartbeat(&mut self, purpose: Purpose, operation: Operation, ctx: &mut dyn NodeContext) {
        self.client.request(self.heartbeat, Caller::Process(purpose), operation, ctx);
    }

    /// When a request of the kubelet that is not sent here would have been: it takes a token as those do that are.
    pub fn take_token(&mut self, now: SimTime) -> SimTime {
        self.client.take_token(self.clientset, now)
    }

    /// What a container gets at least between SIGTERM and SIGKILL.
    pub fn minimum_grace(&self) -> SimDuration {
        SimDuration::from_secs(self.settings.timings.minimum_grace_seconds.max(0).unsigned_abs())
    }

    /// The date in whole seconds.
    pub fn date(&self, at: SimTime) -> Timestamp {
        self.settings.local_epoch(at).timestamp(at)
    }

    /// The present for recorders.
    pub fn now(&self, ctx: &dyn NodeContext) -> Now {
        Now { at: ctx.now(), epoch: self.settings.local_epoch(ctx.now()) }
    }

    /// `base` and up to half of it again (apimachinery, `wait.Jitter` with factor 0.5).
    pub fn jittered(&mut self, base: SimDuration) -> SimDuration {
        base + SimDuration::from_nanos(self.jitter.between(0, base.as_nanos() / 2))
    }

    /// The first time after another at which the runtime is listed.
    pub fn relist_after(&self, time: SimTime) -> SimTime {
        match self.settings.timings.relist {
            SimDuration::ZERO => time,
            period => (time + SimDuration::from_nanos(1)).next_tick(self.relist_phase, period),
        }
    }

    /// Sees to it that the pod is looked at when the runtime is next listed.
    pub fn relist(&mut self, pod: PodNumber, ctx: &mut dyn NodeContext) {
        self.to_relist.entry(pod).or_insert(ctx.cause());
        if self.relist_timer.is_none() {
            let after = self.relist_after(ctx.now());
            self.relist_timer = Some(ctx.set_timer(after, Timer::Relist.token()));
        }
    }

    /// Nothing of the pod waits for a relist any more.
    pub fn no_relist(&mut self, pod: PodNumber, ctx: &mut dyn NodeContext) {
        if self.to_relist.remove(&pod).is_some()
            && self.to_relist.is_empty()
            && let Some(timer) = self.relist_timer.take()
        {
            ctx.cancel_timer(timer);
        }
    }

    /// The pods for the relist that takes place now, and what made each wait for it.
    pub fn take_relisted(&mut self) -> BTreeMap<PodNumber, Cause> {
        self.relist_timer = None;
        std::mem::take(&mut self.to_relist)
    }

    /// Lets a pod be synced at the first tick not before a time; replaces what was set before.
    pub fn sync_at(&mut self, worker: &mut Worker, at: Option<SimTime>, ctx: &mut dyn NodeContext) {
        self.due.remove(&(std::mem::replace(&mut worker.due, SimTime::MAX), worker.number));
        let Some(at) = at else { return };
        let tick = match self.settings.timings.sync_tick {
            SimDuration::ZERO => at.max(ctx.now()),
            period => at.max(ctx.now()).next_tick(self.sync_phase, period),
        };
        worker.due = tick;
        self.due.insert((tick, worker.number), ctx.cause());
        self.await_due(ctx);
    }

    /// Sets the timer for the first pod that is due.
    pub fn await_due(&mut self, ctx: &mut dyn NodeContext) {
        let first = self.due.first_key_value().map(|((at, _), _)| *at);
        if self.sync_timer.map(|(at, _)| at) == first {
            return;
        }
        if let Some((_, timer)) = self.sync_timer.take() {
            ctx.cancel_timer(timer);
        }
        self.sync_timer = first.map(|at| (at, ctx.set_timer(at, Timer::SyncTick.token())));
    }

    /// The pods that are due now, and what made each wait.
    pub fn take_due(&mut self, now: SimTime) -> Vec<(PodNumber, Cause)> {
        self.sync_timer = None;
        let later = self.due.split_off(&(now + SimDuration::from_nanos(1), PodNumber(0)));
        std::mem::replace(&mut self.due, later).into_iter().map(|((_, pod), cause)| (pod, cause)).collect()
    }

    /// Lets a pod's status be compared with the API's when the next recheck comes.
    pub fn recheck(&mut self, pod: PodNumber, ctx: &mut dyn NodeContext) {
        self.to_recheck.insert(pod);
        if self.recheck_timer.is_none() {
            let after = ctx.now() + SimDuration::from_nanos(1);
            let at = after.next_tick(self.began, self.settings.timings.status_recheck);
            self.recheck_timer = Some(ctx.set_timer(at, Timer::StatusRecheck.token()));
        }
    }

    /// The pods for the recheck that takes place now.
    pub fn take_rechecked(&mut self) -> BTreeSet<PodNumber> {
        self.recheck_timer = None;
        std::mem::take(&mut self.to_recheck)
    }

    /// Notes a Kubernetes event about a pod or one of its containers.
    pub fn record(
        &mut self,
        worker: &Worker,
        container: Option<u16>,
        kind: EventType,
        reason: &'static str,
        message: String,
    ) {
        self.record_reason(worker, container, kind, Name::of(reason), message);
    }

    /// The same for a reason that is made up of words.
    pub fn record_reason(
        &mut self,
        worker: &Worker,
        container: Option<u16>,
        kind: EventType,
        reason: Name,
        message: String,
    ) {
        if !self.settings.profile.events {
            return;
        }
        let meta = &worker.pod.meta;
        let field_path = container.map_or(Name::EMPTY, |index| {
            let list = if usize::from(index) < worker.pod.spec.init_count { "initContainers" } else { "containers" };
            Name::from(format!("spec.{list}{{{}}}", worker.spec(index).name))
        });
        let regarding = ObjectReference {
            api_version: Name::of("v1"),
            kind: Name::of("Pod"),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid,
            resource_version: meta.revision(),
            field_path,
        };
        self.notes.push((self.cause, EventNote { regarding, kind, reason, message }));
    }

    /// Notes a Kubernetes event about a container whose pod nobody knows any more. What is known of it is what is written on the
    /// container, so its place in the pod is not (kubecontainer, `GenerateContainerRef`).
    pub fn record_stray(
        &mut self,
        pod: &PodIdentity,
        container: &Name,
        kind: EventType,
        reason: &'static str,
        message: String,
    ) {
        if !self.settings.profile.events {
            return;
        }
        let regarding = ObjectReference {
            api_version: Name::of("v1"),
            kind: Name::of("Pod"),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid,
            field_path: Name::from(format!("implicitly required container {container}")),
            ..ObjectReference::default()
        };
        self.notes.push((self.cause, EventNote { regarding, kind, reason: Name::of(reason), message }));
    }

    /// Notes a Kubernetes event about the node. The kubelet refers to its node by name in place of the uid.
    pub fn record_node(&mut self, kind: EventType, reason: &'static str, message: String) {
        if !self.settings.profile.events {
            return;
        }
        let regarding = ObjectReference {
            kind: Name::of("Node"),
            name: self.settings.node.name.clone(),
            uid: Uid::default(),
            ..ObjectReference::default()
        };
        self.notes.push((self.cause, EventNote { regarding, kind, reason: Name::of(reason), message }));
    }

    /// Nothing of a pod that is forgotten waits for anything.
    pub fn forget(&mut self, worker: &Worker, ctx: &mut dyn NodeContext) {
        self.to_recheck.remove(&worker.number);
        self.no_relist(worker.number, ctx);
        if self.due.remove(&(worker.due, worker.number)).is_some() {
            self.await_due(ctx);
        }
    }

    /// Where the node is found.
    pub fn node_key(&self) -> ObjectKey {
        ObjectKey { kind: crate::api::kind::Kind::Node, namespace: Name::EMPTY, name: self.settings.node.name.clone() }
    }
}
