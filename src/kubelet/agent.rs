//! The kubelet as a process: its inputs, and which part of it each one concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{Answer, ApiMessage, FieldTest, Scope};
use crate::client::cache::Cache;
use crate::client::controller::Change;
use crate::client::delivery::{Caller, Delivery, Failure};
use crate::client::informer::Informers;
use crate::client::rate_limit::RateLimit;
use crate::client::recorder::Recorder;
use crate::client::tokens;
use crate::client::transport::{Client, ClientsetConfig};
use crate::engine::process::{Context, Input, Token};
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::{Action, Event, PodNumber, State};

use super::admission::{self, Here, Rejection, Shortage};
use super::eviction::Evictions;
use super::image_gc::ImageGc;
use super::mirror::is_mirror;
use super::node::NodeAgent;
use super::preemption::Preemption;
use super::resize;
use super::restore::Remains;
use super::room::Taken;
use super::settings::KubeletSettings;
use super::shared::{Purpose, Shared};
use super::shutdown::Shutdown;
use super::tokens::Timer;
use super::worker::{Held, Stage, Worker};
use super::writer::same;

/// What a kubelet may ask for: what every process may, and to act on its node's containers.
pub trait NodeContext: Context<ApiMessage> {
    /// Asks the node's container runtime for something. Events that follow come as [`KubeletInput::Runtime`].
    fn act(&mut self, action: Action);

    /// Lets the machine be switched off: nothing holds that up any more. A machine that nobody can switch off stays on.
    fn power_off(&mut self) {}
}

/// How often a kubelet looks for pods of which something is left that should not be (kubelet, `housekeepingPeriod`).
const HOUSEKEEPING: SimDuration = SimDuration::from_secs(2);

/// What happens to a kubelet.
#[derive(Debug)]
pub enum KubeletInput {
    /// What happens to every process.
    Process(Input<ApiMessage>),
    /// The node's runtime tells something.
    Runtime(Event),
    /// A fault or its end.
    Command(Command),
}

/// Faults of a kubelet that is otherwise well, and what happens to the files of its node.
#[derive(Clone, Debug)]
pub enum Command {
    /// Renews no lease and writes no node status from now on.
    StopHeartbeats,
    /// Does so again.
    ResumeHeartbeats,
    /// The machine is to be switched off, as soon as the kubelet allows.
    ShutDown,
    /// A file of a static pod appears.
    AddStaticPod(Rc<Pod>),
    /// The file of the static pod of this name is gone.
    RemoveStaticPod(Name),
}

/// The kubelet of one node. All its state is volatile: after a crash a new one begins, lists the runtime and the API, and
/// finds the containers that ran on.
pub struct Kubelet {
    pub(super) shared: Shared,
    pub(super) node: NodeAgent,
    recorder: Recorder,
    informers: Informers,
    cache: Cache,
    pub(super) workers: BTreeMap<PodNumber, Box<Worker>>,
    numbers: BTreeMap<Uid, PodNumber>,
    remains: Remains,
    next_number: u32,
    synced: bool,
    /// The runtime was listed: what there is is known.
    listed: bool,
    /// Static pods that wait for that.
    static_pods: Vec<Rc<Pod>>,
    /// There were static pods.
    pub(super) has_static: bool,
    /// Pods whose resize waits for room.
    deferred: BTreeSet<PodNumber>,
    begun: SimTime,
    pub(super) evictions: Evictions,
    pub(super) image_gc: ImageGc,
    pub(super) shutdown: Option<Shutdown>,
    /// Pods that end so that a critical one has room.
    pub(super) preemption: Option<Box<Preemption>>,
}

impl Kubelet {
    /// A kubelet that begins now. It does nothing before [`Input::Start`].
    pub fn new(settings: Rc<KubeletSettings>, now: SimTime, static_pods: &[Rc<Pod>]) -> Self {
        let name = settings.node.name.clone();
        let user = Rc::new(settings.node.user());
        let agent = Name::from(format!("kubelet/{name}"));
        let mut client = Client::new(settings.api_servers.clone());
        let limit = Some(RateLimit::node_or_scheduler());
        let config = ClientsetConfig { user, agent, limit, timeout: None, lane: 0 };
        let clientset = client.add_clientset(config.clone());
        let timeout = Some(settings.timings.lease);
        let heartbeat = client.add_clientset(ClientsetConfig { limit: None, timeout, lane: 1, ..config.clone() });
        // Events have a client and a bucket of their own (kubelet, `eventRecordQPS` 50, `eventBurst` 100).
        let events = client.add_clientset(ClientsetConfig { lane: 2, ..config });
        let of = |kind: Kind, field: &'static str| {
            let mine = FieldTest { field: Name::of(field), value: name.clone(), equal: true };
            Scope { fields: vec![mine], ..Scope::all(kind) }
        };
        let scopes = vec![of(Kind::Pod, "spec.nodeName"), of(Kind::Node, "metadata.name")];
        let informers = Informers::new(clientset, scopes, settings.seed, &format!("kubelet {name}"));
        let stream = settings.seed.stream(&name, "kubelet events");
        let recorder = Recorder::new(0, events, Name::of("kubelet"), name, settings.epoch, stream);
        let shared = Shared::new(settings, client, clientset, heartbeat, now);
        Kubelet {
            node: NodeAgent::new(&shared),
            shared,
            recorder,
            informers,
            cache: Cache::plain(),
            workers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            remains: Remains::default(),
            next_number: 0,
            synced: false,
            listed: false,
            has_static: false,
            deferred: BTreeSet::new(),
            static_pods: static_pods.to_vec(),
            begun: now,
            evictions: Evictions::new(now),
            image_gc: ImageGc::default(),
            shutdown: None,
            preemption: None,
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, input: KubeletInput, ctx: &mut dyn NodeContext) {
        self.shared.cause = ctx.cause();
        match input {
            KubeletInput::Process(Input::Start) => {
                ctx.act(Action::ListState);
                self.node.start(&mut self.shared, ctx);
            }
            KubeletInput::Process(input) => {
                if let Some(Input::Timer { token }) = self.shared.client.handle(input, ctx) {
                    self.token(token, ctx);
                }
                self.deliver_all(ctx);
            }
            KubeletInput::Runtime(event) => self.runtime_event(event, ctx),
            KubeletInput::Command(command) => self.command(command, ctx),
        }
        self.follow_shutdown(ctx);
        self.follow_preemption(ctx);
        self.begin_round(ctx);
        self.record_notes(ctx);
    }

    fn command(&mut self, command: Command, ctx: &mut dyn NodeContext) {
        match command {
            Command::StopHeartbeats => self.node.silent = true,
            Command::ResumeHeartbeats => self.node.silent = false,
            Command::ShutDown => self.shut_down(ctx),
            // Before the runtime was listed nothing can be begun.
            Command::AddStaticPod(pod) if self.listed => self.static_added(&pod, ctx),
            Command::AddStaticPod(pod) => self.static_pods.push(pod),
            Command::RemoveStaticPod(name) => {
                self.static_pods.retain(|pod| pod.meta.name != name);
                self.static_removed(&name, ctx);
            }
        }
    }

    /// The number of a pod.
    pub(super) fn number_of(&self, uid: Uid) -> Option<PodNumber> {
        self.numbers.get(&uid).copied()
    }

    /// The pods of which the kubelet knows, and how far each has come.
    pub fn pods(&self) -> impl Iterator<Item = (&Rc<Pod>, Stage)> {
        self.workers.values().map(|worker| (&worker.pod, worker.stage))
    }

    /// How many pods have a status that is not, or not known to be, in the API.
    pub fn unwritten(&self) -> usize {
        self.workers.values().filter(|worker| worker.held.is_some()).count()
    }

    fn deliver_all(&mut self, ctx: &mut dyn NodeContext) {
        while let Some(delivery) = self.shared.client.next_delivery() {
            match delivery.caller() {
                Caller::Informer(_) => self.deliver_changes(delivery, ctx),
                Caller::Process(purpose) => {
                    if let Delivery::Answered { result, .. } = delivery {
                        self.answered(purpose, result, ctx);
                    }
                }
                Caller::Recorder(_) => {
                    if let Delivery::Answered { result, .. } = delivery {
                        self.recorder.answered(result, &mut self.shared.client, ctx);
                    }
                }
            }
        }
    }

    /// Takes in what the watches of this node and its pods bring.
    fn deliver_changes(&mut self, delivery: Delivery<Purpose>, ctx: &mut dyn NodeContext) {
        let mut changes: Vec<(Rc<Pod>, bool)> = Vec::new();
        let Kubelet { informers, shared, cache, .. } = self;
        let mut node = None;
        informers.deliver(delivery, &mut shared.client, cache, ctx, &mut |change, _| match change.object() {
            Object::Pod(pod) => changes.push((pod.clone(), matches!(change, Change::Deleted(_)))),
            Object::Node(version) => node = Some(version.clone()),
            _ => {}
        });
        if let Some(node) = node {
            self.node.changed(&node, &self.shared, ctx);
            self.reconcile_mirrors(ctx);
        }
        if !self.synced {
            // Pods that were there before are taken in the order of their creation (kubelet, HandlePodAdditions).
            changes.sort_by_key(|(pod, _)| pod.meta.created);
        }
        for (pod, deleted) in changes {
            if deleted { self.pod_gone(&pod, ctx) } else { self.pod_changed(pod, ctx) }
        }
        if !self.synced && self.informers.have_synced(&self.cache) {
            self.synced = true;
            self.retry_resizes(ctx);
            if self.remains.has_strays() {
                let next = (ctx.now() + SimDuration::from_nanos(1)).next_tick(self.begun, HOUSEKEEPING);
                ctx.set_timer(next, Timer::Housekeeping.token());
            }
        }
    }

    fn pod_changed(&mut self, pod: Rc<Pod>, ctx: &mut dyn NodeContext) {
        if is_mirror(&pod) {
            return self.mirror_changed(pod, ctx);
        }
        match self.numbers.get(&pod.meta.uid) {
            Some(number) => {
                let number = *number;
                let worker = self.workers.get_mut(&number);
                if worker.is_some_and(|worker| worker.pod_changed(pod, &mut self.shared, ctx)) {
                    self.try_resize(number, ctx);
                }
            }
            None => self.pod_added(pod, ctx),
        }
    }

    pub(super) fn pod_added(&mut self, pod: Rc<Pod>, ctx: &mut dyn NodeContext) {
        if self.hold_up(&pod) {
            return;
        }
        if pod.is_terminal() {
            return self.pod_admitted(pod, ctx);
        }
        // A kubelet that begins admits every pod anew, those that run here among them (`HandlePodAdditions`): with what was set aside
        // for them, which may be less than they ask for now.
        let waits = resize::pending(&pod.status).is_some();
        let set_aside = self.remains.spec(pod.meta.uid).filter(|_| waits);
        let admitted = set_aside.map(|spec| Rc::new(Pod { spec, ..Pod::clone(&pod) }));
        let admitted = admitted.as_ref().unwrap_or(&pod);
        match self.admits(None, admitted).and_then(|shortages| self.victims_of(&pod, &shortages)) {
            Ok(victims) if victims.is_empty() => self.pod_admitted(pod, ctx),
            Ok(victims) => self.preempt(victims, Some(pod), ctx),
            Err(rejection) => {
                // What runs of it belongs to no pod any more, and ends as a stray.
                let mut worker = self.new_worker(PodNumber(self.next_number), pod, ctx);
                worker.reject(rejection, &mut self.shared, ctx);
                self.workers.insert(worker.number, worker);
            }
        }
    }

    fn new_worker(&mut self, number: PodNumber, pod: Rc<Pod>, ctx: &dyn NodeContext) -> Box<Worker> {
        self.next_number = self.next_number.max(number.0 + 1);
        self.numbers.insert(pod.meta.uid, number);
        Box::new(Worker::new(number, pod, ctx.now()))
    }

    /// A pod may run here, or must end.
    pub(super) fn pod_admitted(&mut self, pod: Rc<Pod>, ctx: &mut dyn NodeContext) {
        // A pod that an earlier kubelet left behind is given back what is left of it.
        let number = self.remains.number(pod.meta.uid).unwrap_or(PodNumber(self.next_number));
        let mut worker = self.new_worker(number, pod, ctx);
        if let Some(set_aside) = self.remains.spec(worker.pod.meta.uid)
            && worker.resume_resize(&set_aside)
        {
            self.deferred.insert(number);
        }
        self.remains.give_back(&mut worker, self.shared.began);
        if worker.pod.is_terminal() && !worker.is_up() {
            // An earlier kubelet has seen it end (`isPodStatusCacheTerminal`).
            worker.stage = Stage::Terminated;
        } else if worker.pod.meta.is_deleting() || worker.pod.is_terminal() {
            worker.stage = Stage::Terminating;
        }
        if worker.could_have_running_containers() {
            self.shared.take_room(&worker);
        }
        worker.want_sync(&mut self.shared, ctx);
        self.workers.insert(worker.number, worker);
    }

    /// Whether there is room for a pod beside all others; of what a critical pod lacks others have to be ended.
    fn admits(&mut self, number: Option<PodNumber>, pod: &Pod) -> Result<Vec<Shortage>, Rejection> {
        let (workers, taken) = (&self.workers, &mut self.shared.taken);
        let active = || workers.values().filter(|other| other.could_have_running_containers());
        let others = || active().filter(|other| Some(other.number) != number).map(|other| other.allocated().as_ref());
        let taken = match number {
            None => taken.get_or_insert_with(|| Taken::by(others())),
            Some(_) => &mut Taken::by(others()),
        };
        let settings = &self.shared.settings.node;
        let in_api = self.node.in_api();
        let own = in_api.is_none().then(|| settings.all_labels());
        let here = Here {
            settings,
            labels: own.as_ref().or(in_api.map(|node| &node.meta.labels)).unwrap_or(&settings.labels),
            taints: in_api.map_or(&[][..], |node| &node.taints),
            under: &self.evictions.under,
        };
        // The shutdown manager is asked last (kubelet.go, the order of admission handlers).
        let shortages = admission::admit(pod, others(), taken, &here)?;
        self.shutdown_rejection().map_or(Ok(shortages), Err)
    }

    /// Tries to set aside what a pod asks for now.
    fn try_resize(&mut self, number: PodNumber, ctx: &mut dyn NodeContext) {
        let Some(worker) = self.workers.get(&number).filter(|worker| worker.wants_resize()) else { return };
        let pod = worker.pod.clone();
        let decision = self.admits(Some(number), &pod).and_then(|shortages| self.victims_of(&pod, &shortages));
        let deferred = decision.is_err();
        let decision = decision.map(|victims| {
            if !victims.is_empty() {
                self.preempt(victims, None, ctx);
            }
        });
        if deferred {
            self.deferred.insert(number);
        } else {
            self.deferred.remove(&number);
        }
        self.with(number, ctx, |worker, shared, ctx| {
            worker.decide_resize(decision, shared);
            worker.want_sync(shared, ctx);
        });
    }

    /// Room may have become free: what waits for it is tried again (`RetryPendingResizes`).
    fn retry_resizes(&mut self, ctx: &mut dyn NodeContext) {
        for number in std::mem::take(&mut self.deferred) {
            self.try_resize(number, ctx);
        }
    }

    fn pod_gone(&mut self, pod: &Rc<Pod>, ctx: &mut dyn NodeContext) {
        if is_mirror(pod) {
            return self.mirror_gone(pod, ctx);
        }
        let Some(number) = self.numbers.get(&pod.meta.uid).copied() else {
            return self.no_longer_held_up(pod.meta.uid);
        };
        let Some(worker) = self.workers.get_mut(&number) else { return };
        worker.put_pod(with_containers_of(pod.clone(), &worker.pod), &mut self.shared);
        worker.gone = true;
        worker.begin_to_end(&mut self.shared, ctx);
        self.forget_if_done(number, ctx);
    }

    /// Forgets a pod that is gone from the API and of which nothing is left.
    fn forget_if_done(&mut self, number: PodNumber, ctx: &mut dyn NodeContext) {
        let done = self.workers.get(&number).is_some_and(|worker| worker.gone && worker.stage == Stage::Finished);
        if !done {
            return;
        }
        if let Some(worker) = self.workers.remove(&number) {
            self.numbers.remove(&worker.pod.meta.uid);
            self.shared.forget(&worker, ctx);
            self.deferred.remove(&number);
            self.retry_resizes(ctx);
        }
    }

    fn token(&mut self, token: Token, ctx: &mut dyn NodeContext) {
        let client = &mut self.shared.client;
        if self.informers.timer(token, client, ctx) {
            return;
        }
        if tokens::recorder_timer(token).is_some() {
            self.recorder.timer(client, ctx);
        } else if let Some(timer) = Timer::of(token) {
            self.timer(timer, ctx);
        }
    }

    fn timer(&mut self, timer: Timer, ctx: &mut dyn NodeContext) {
        match timer {
            Timer::Relist => {
                for (number, cause) in self.shared.take_relisted() {
                    ctx.set_cause(cause);
                    self.with(number, ctx, |worker, shared, ctx| worker.relisted(shared, ctx));
                }
            }
            Timer::SyncTick => {
                for (number, cause) in self.shared.take_due(ctx.now()) {
                    ctx.set_cause(cause);
                    self.with(number, ctx, |worker, shared, ctx| worker.fell_due(shared, ctx));
                }
                self.shared.await_due(ctx);
            }
            Timer::StatusRead => self.write_status(ctx),
            Timer::StatusRecheck => {
                self.reconcile_mirrors(ctx);
                for number in self.shared.take_rechecked() {
                    self.with(number, ctx, |worker, shared, _| {
                        if worker.must_write() {
                            worker.enqueue_write(shared);
                        }
                    });
                }
            }
            Timer::Housekeeping => {
                self.remains.end_strays(&mut self.shared, ctx);
            }
            Timer::StrayGrace(pod, index) => {
                self.remains.stray_grace_over(pod, index, self.shared.minimum_grace(), ctx);
            }
            Timer::Volume(number, volume) => {
                self.with(number, ctx, |worker, shared, ctx| worker.mount_again(volume, shared, ctx));
            }
            Timer::Claims(number) => self.with(number, ctx, |worker, shared, ctx| worker.read_claims(shared, ctx)),
            Timer::Monitor => self.monitor(ctx),
            Timer::ImageGc => self.collect_images(ctx),
            Timer::Shutdown => self.group_is_over(ctx),
            Timer::Preemption => self.victim_is_late(ctx),
            Timer::PodSource => self.read_pods(ctx),
            Timer::Register => self.node.register(&mut self.shared, ctx),
            Timer::NodeStatus => self.node.look(&mut self.shared, ctx),
            Timer::Lease => self.node.lease_due(&mut self.shared, ctx),
            Timer::Job(number) => self.with(number, ctx, |worker, shared, ctx| worker.job_timer(shared, ctx)),
            Timer::Grace(number, index) => self.with(number, ctx, |worker, shared, ctx| {
                worker.on_killing(shared, ctx, |killing, worker, shared, ctx| {
                    killing.grace_over(index, worker, shared, ctx);
                });
            }),
            Timer::Probe(number, index, kind) => {
                self.with(number, ctx, |worker, shared, ctx| worker.probe_tick(index, kind, shared, ctx));
            }
        }
    }

    /// Lets a pod's worker do something, if the pod is still here.
    pub(super) fn with(
        &mut self,
        number: PodNumber,
        ctx: &mut dyn NodeContext,
        act: impl FnOnce(&mut Worker, &mut Shared, &mut dyn NodeContext),
    ) {
        if let Some(worker) = self.workers.get_mut(&number) {
            self.shared.cause = ctx.cause();
            act(worker, &mut self.shared, ctx);
            self.forget_if_done(number, ctx);
        }
    }

    fn answered(&mut self, purpose: Purpose, result: Result<Answer, Failure>, ctx: &mut dyn NodeContext) {
        let shared = &mut self.shared;
        match purpose {
            Purpose::Register => self.node.registered(result, shared, ctx),
            Purpose::GetNode => self.node.found(&result, shared, ctx),
            Purpose::NodeStatus => {
                self.node.status_written(result, shared, ctx);
                self.recorder.tidy(ctx.now());
            }
            Purpose::ReadNode => self.node.read_again(result, shared, ctx),
            Purpose::GetLease => self.node.lease_found(result, shared, ctx),
            Purpose::LeaseOwner => self.node.lease_owner_found(result, shared, ctx),
            Purpose::RenewLease => self.node.lease_renewed(result, shared, ctx),
            Purpose::PodStatus(number) => self.status_written(number, result, ctx),
            Purpose::CreateMirror(number) => {
                if result.is_err() {
                    self.mirror_failed(number, ctx);
                }
            }
            Purpose::DeleteMirror => {}
            Purpose::Volume { pod, volume, source } => {
                self.with(pod, ctx, |worker, shared, ctx| worker.source_read(volume, source, &result, shared, ctx));
            }
            Purpose::Claim { pod, volume } => {
                self.with(pod, ctx, |worker, shared, ctx| worker.claim_read(volume, &result, shared, ctx));
            }
            Purpose::Environment { pod, container, source } => {
                self.with(pod, ctx, |worker, shared, ctx| {
                    worker.environment_read(container, source, &result, shared, ctx);
                });
            }
            Purpose::DeletePod(number) => self.pod_deleted(number, result, ctx),
        }
    }

    fn runtime_event(&mut self, event: Event, ctx: &mut dyn NodeContext) {
        let number = match &event {
            Event::State(state) => return self.begin(state, ctx),
            Event::ImageAdded { image } => {
                self.shared.puller.add(image.clone(), ctx.now());
                return self.node.images_changed(&self.shared, ctx);
            }
            Event::UsageChanged => return self.evictions.usage_changed(ctx),
            Event::Usage(usage) => {
                if !self.collected(usage, ctx) {
                    self.disk_filled(usage.disk, ctx);
                    self.usage_read(usage, ctx);
                }
                return;
            }
            Event::SystemOom { process, pid } => {
                // kubelet, oom_watcher_linux.go.
                let message = format!("System OOM encountered, victim process: {process}, pid: {pid}");
                return self.shared.record_node(EventType::Warning, "SystemOOM", message);
            }
            Event::ImageRemoved { name } => {
                self.shared.puller.remove(name);
                return self.node.images_changed(&self.shared, ctx);
            }
            Event::Pulled { ticket, .. }
            | Event::PullFailed { ticket, .. }
            | Event::ProbeDone { ticket, .. }
            | Event::HookDone { ticket, .. } => ticket.pod,
            Event::SandboxReady { sandbox, .. }
            | Event::SandboxFailed { sandbox, .. }
            | Event::SandboxStopped { sandbox } => sandbox.pod,
            Event::Created { container }
            | Event::CreateFailed { container, .. }
            | Event::Started { container, .. }
            | Event::StartFailed { container, .. }
            | Event::Exited { container, .. } => container.pod,
        };
        self.remains.hear(&event, &mut self.shared, ctx);
        let pulled = matches!(event, Event::Pulled { .. });
        self.with(number, ctx, |worker, shared, ctx| worker.runtime_event(event, shared, ctx));
        self.node.images_changed(&self.shared, ctx);
        if pulled {
            self.images_pulled(ctx);
        }
    }

    /// An image more is there: the disk may be too full now.
    fn images_pulled(&mut self, ctx: &mut dyn NodeContext) {
        let bytes = self.shared.puller.bytes();
        self.disk_filled(bytes, ctx);
        let settings = &self.shared.settings;
        let capacity = u64::try_from(settings.node.capacity.ephemeral_storage).unwrap_or(0);
        // Thresholds of the disk lie above half of it; what containers write is looked at when it changes.
        if bytes.saturating_mul(2) > capacity && !settings.profile.images_present {
            self.evictions.usage_changed(ctx);
        }
    }

    /// The runtime was listed for the first time: what there is is known, the pods of the node can be read.
    fn begin(&mut self, state: &State, ctx: &mut dyn NodeContext) {
        let now = ctx.now();
        state.images.iter().for_each(|image| self.shared.puller.add(image.clone(), now));
        self.next_number = self.next_number.max(state.next_pod);
        self.remains = Remains::of(state);
        self.listed = true;
        for pod in std::mem::take(&mut self.static_pods) {
            self.static_added(&pod, ctx);
        }
        if self.shared.settings.timings.pod_source == SimDuration::ZERO {
            return self.informers.start(&mut self.shared.client, ctx);
        }
        self.informers.start_one(Kind::Node, &mut self.shared.client, ctx);
        self.read_pods_later(ctx);
    }

    fn read_pods_later(&self, ctx: &mut dyn NodeContext) {
        let after = ctx.now() + SimDuration::from_nanos(1);
        ctx.set_timer(after.next_tick(self.begun, self.shared.settings.timings.pod_source), Timer::PodSource.token());
    }

    /// Begins to read the node's pods if the node has been read (kubelet/config, `NewSourceApiserver`).
    fn read_pods(&mut self, ctx: &mut dyn NodeContext) {
        if self.cache.view().has_synced(Kind::Node) {
            self.informers.start_one(Kind::Pod, &mut self.shared.client, ctx);
        } else {
            self.read_pods_later(ctx);
        }
    }

    /// Hands the events that the handling of the input noted to the recorder.
    fn record_notes(&mut self, ctx: &mut dyn NodeContext) {
        let settings = &self.shared.settings;
        if !self.shared.notes.is_empty() {
            self.recorder.set_epoch(settings.local_epoch(ctx.now()));
        }
        for (cause, note) in std::mem::take(&mut self.shared.notes) {
            ctx.set_cause(cause);
            self.recorder.record(note, &mut self.shared.client, ctx);
        }
    }
}

impl Worker {
    /// Takes in a version of the pod; returns the one before.
    fn put_pod(&mut self, pod: Rc<Pod>, shared: &mut Shared) -> Rc<Pod> {
        if !Rc::ptr_eq(&pod.spec, &self.pod.spec) {
            shared.room_changed();
        }
        std::mem::replace(&mut self.pod, pod)
    }

    /// The watch brought a version of the pod; true if it asks for other resources.
    fn pod_changed(&mut self, pod: Rc<Pod>, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        let stale = pod.meta.revision() < self.in_api().meta.revision();
        let known = self.in_api().clone();
        if self.settled.is_some() && !same(&known.status, &pod.status) {
            self.hold_again();
        }
        let pod = with_containers_of(pod, &self.pod);
        let old = self.put_pod(pod, shared);
        if !stale {
            self.written = None;
        }
        if self.pod.meta.is_deleting() && !old.meta.is_deleting() {
            if self.stage == Stage::Finished {
                shared.recheck(self.number, ctx);
            }
            self.begin_to_end(shared, ctx);
            return false;
        }
        let resized = !Rc::ptr_eq(&old.spec, &self.pod.spec) && self.note_resize(&old);
        let gates = self.pod.spec.full.readiness_gates.is_some() && self.pod.status.conditions != old.status.conditions;
        let changed = self.pod.meta.generation != old.meta.generation
            || self.pod.meta.labels != old.meta.labels
            || self.pod.meta.annotations != old.meta.annotations;
        if (changed || gates) && !resized {
            self.want_sync(shared, ctx);
        }
        if !stale {
            self.disagree(&known, shared, ctx);
        }
        resized
    }

    /// Somebody else may have changed what the kubelet says of the pod: then it says it again at the next recheck.
    fn disagree(&mut self, known: &Pod, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if !self.reported || same(&known.status, &self.pod.status) {
            return;
        }
        if self.held.as_ref().is_some_and(|held| same(&self.to_send(held.status.clone()), &self.pod.status)) {
            return;
        }
        if self.held.is_none() {
            self.held =
                Some(Box::new(Held { status: known.status.clone(), dirty: true, finished: false, cause: ctx.cause() }));
        }
        shared.recheck(self.number, ctx);
    }
}

/// The pod as it came, unless its containers are other ones, which the API never lets happen: then with the ones it had.
fn with_containers_of(pod: Rc<Pod>, known: &Rc<Pod>) -> Rc<Pod> {
    let same = Rc::ptr_eq(&pod.spec, &known.spec)
        || (pod.spec.containers.len() == known.spec.containers.len() && pod.spec.init_count == known.spec.init_count);
    if same { pod } else { Rc::new(Pod { spec: known.spec.clone(), ..Pod::clone(&pod) }) }
}
