//! The node in the API: its registration, its lease, its status.
//!
//! As a real kubelet was seen to do: POST node, not ready; status; Ready 50 ms later; a lease every 10 s and a little; the
//! status again only if it changed, or after five minutes. Which taints a node that is not ready gets is the business of
//! admission and of the node controller.
//!
//! - this file: registration and status
//! - `lease`: the lease

mod lease;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::meta::{Common, Labels, Meta};
use crate::api::name::Name;
use crate::api::node::{Lease, Node, NodeCondition, NodeImage, NodeStatus};
use crate::api::object::{Object, Resource};
use crate::api::pod::ConditionStatus;
use crate::apiserver::protocol::{Answer, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::delivery::Failure;
use crate::engine::process::TimerId;
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

use self::lease::{Renewal, lease_key};
use super::agent::NodeContext;
use super::settings::NodeSettings;
use super::shared::{Purpose, Shared};
use super::thresholds::Pressure;
use super::tokens::Timer;

/// How often a status of the node is tried before it is left for the next time (kubelet, `nodeStatusUpdateRetry`).
const STATUS_TRIES: u32 = 5;
/// How many images a node's status names at most (`nodeStatusMaxImages`).
const MAX_IMAGES: usize = 50;
/// The port at which a kubelet answers (`--port`).
const PORT: i32 = 10_250;

impl NodeSettings {
    /// The labels with which the node is registered.
    pub fn all_labels(&self) -> Labels {
        let own = [
            ("beta.kubernetes.io/arch", "amd64"),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
        ];
        let own = own.map(|(key, value)| (Name::of(key), Name::of(value)));
        let hostname = (Name::of("kubernetes.io/hostname"), self.name.clone());
        own.into_iter().chain([hostname]).chain(self.labels.pairs().iter().cloned()).collect()
    }
}

/// The part of a kubelet that speaks for its node.
pub struct NodeAgent {
    /// The kubelet sends no heartbeats: leases and statuses are left out.
    pub silent: bool,
    registered: bool,
    attempts: u32,
    ready_since: Option<crate::api::meta::Timestamp>,
    began: crate::api::meta::Timestamp,
    lease: Option<Rc<Lease>>,
    lease_timer: Option<TimerId>,
    renewal: Renewal,
    /// When the renewal that was sent last was sent.
    lease_sent: SimTime,
    /// The last renewal that was sent was answered, and in good time.
    lease_is_prompt: bool,
    lease_stream: Stream,
    /// What was last written: the count of changes of the image list, and when.
    reported: Option<(u64, SimTime)>,
    /// The images as they were written last, and at which count of changes: most statuses say the same of them.
    images: RefCell<(u64, Rc<[NodeImage]>)>,
    /// When the status is written though nothing changed.
    report_due: SimTime,
    /// The node as the API has it, as far as the watch has told.
    in_api: Option<Rc<Node>>,
    status_timer: Option<(SimTime, TimerId)>,
    /// Which try at writing the status is under way, from one; zero while none is.
    status_try: u32,
    /// The node was there already and the machine has been booted since.
    rebooted: bool,
    /// Since when the machine is about to be switched off, if it is.
    shutting_down: Option<crate::api::meta::Timestamp>,
    features: Rc<[Name]>,
    /// What runs short, and since when it has or has not.
    pressures: [(bool, crate::api::meta::Timestamp); 3],
    /// What runs short as the kubelet knows now; told at the next look.
    under: [bool; 3],
    /// The node was cordoned when it was last looked at.
    was_cordoned: bool,
}

/// What a kubelet 1.36 declares that it can do (component-helpers, nodedeclaredfeatures: those that are on by default).
const FEATURES: [&str; 4] = [
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
];

impl NodeAgent {
    /// A node that is not registered.
    pub fn new(shared: &Shared) -> Self {
        NodeAgent {
            silent: false,
            registered: false,
            attempts: 0,
            ready_since: None,
            began: shared.date(shared.began),
            lease: None,
            lease_timer: None,
            renewal: Renewal::default(),
            lease_sent: SimTime::ZERO,
            lease_is_prompt: false,
            lease_stream: shared.settings.seed.stream(&shared.settings.node.name, "lease"),
            reported: None,
            images: RefCell::default(),
            report_due: SimTime::ZERO,
            in_api: None,
            status_timer: None,
            status_try: 0,
            rebooted: false,
            shutting_down: None,
            features: FEATURES.map(Name::of).into(),
            pressures: [(false, shared.date(shared.began)); 3],
            under: [false; 3],
            was_cordoned: false,
        }
    }

    /// What runs short has been looked at: a change is told at the next look at the node's status.
    pub fn pressures_changed(&mut self, under: &[Pressure], shared: &Shared, ctx: &mut dyn NodeContext) {
        self.under = Pressure::ALL.map(|pressure| under.contains(&pressure));
        if self.differs_in_pressure() {
            let after = ctx.now() + SimDuration::from_nanos(1);
            self.look_at(after.next_tick(shared.began, shared.settings.timings.node_status), ctx);
        }
    }

    fn differs_in_pressure(&self) -> bool {
        self.pressures.map(|(holds, _)| holds) != self.under
    }

    /// What the API says of a condition; none if that is not known here.
    fn said(&self, condition: &str) -> Option<ConditionStatus> {
        self.in_api.as_ref()?.condition(condition).map(|condition| condition.status)
    }

    /// Takes the pressures over into the status, with an event for each that changed, and for each that somebody else has changed
    /// in the API: the node controller, when it heard nothing of the node.
    fn tell_pressures(&mut self, shared: &mut Shared, now: SimTime) {
        const WORDS: [(&str, &str); 3] = [
            ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
            ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ];
        for (place, (bad, good)) in WORDS.into_iter().enumerate() {
            let holds = if self.under[place] { ConditionStatus::True } else { ConditionStatus::False };
            let contradicted = self.said(&Pressure::ALL[place].condition()).is_some_and(|said| said != holds);
            if self.pressures[place].0 != self.under[place] || contradicted {
                self.pressures[place] = (self.under[place], shared.date(now));
                let reason = if self.under[place] { bad } else { good };
                let message = format!("Node {} status is now: {reason}", shared.settings.node.name);
                shared.record_node(EventType::Normal, reason, message);
            }
        }
    }

    /// The conditions that say what runs short.
    fn pressure_conditions(&self, date: crate::api::meta::Timestamp) -> [NodeCondition; 3] {
        const WORDS: [[(&str, &str); 2]; 3] = [
            [
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ],
            [
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ],
            [
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ],
        ];
        [0, 1, 2].map(|place| {
            let (holds, since) = self.pressures[place];
            let (reason, message) = WORDS[place][usize::from(!holds)];
            NodeCondition {
                kind: Pressure::ALL[place].condition(),
                status: if holds { ConditionStatus::True } else { ConditionStatus::False },
                reason: Name::of(reason),
                message: Name::of(message),
                last_heartbeat: date,
                last_transition: since,
            }
        })
    }

    /// Begins to register, and looks for a lease of an earlier kubelet.
    pub fn start(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        shared.record_node(EventType::Normal, "Starting", "Starting kubelet.".to_owned());
        // Images are first collected before anybody knows how large their disk is (`StartGarbageCollection`).
        if shared.settings.configuration.image_collection.high_percent < 100 {
            let message = "invalid capacity 0 on image filesystem".to_owned();
            shared.record_node(EventType::Warning, "InvalidDiskCapacity", message);
        }
        // Each time that the node is made up before the API was asked for it says so: to register it, and for two parts of the
        // kubelet that ask for it before (`initialNode`, `getNodeAnyWay`).
        for _ in 0..3 {
            for reason in ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"] {
                let message = format!("Node {} status is now: {reason}", shared.settings.node.name);
                shared.record_node(EventType::Normal, reason, message);
            }
        }
        let message = "Updated Node Allocatable limit across pods".to_owned();
        shared.record_node(EventType::Normal, "NodeAllocatableEnforced", message);
        let at = ctx.now() + shared.settings.timings.register;
        ctx.set_timer(at, Timer::Register.token());
        let operation = Operation::Get { key: lease_key(shared) };
        shared.heartbeat(Purpose::GetLease, operation, ctx);
    }

    /// Tries to register.
    pub fn register(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let settings = &shared.settings.node;
        let annotation = (Name::of("volumes.kubernetes.io/controller-managed-attach-detach"), Name::of("true"));
        let node = Node {
            meta: Meta {
                name: settings.name.clone(),
                common: Common {
                    labels: settings.all_labels(),
                    annotations: [annotation].into_iter().collect(),
                    ..Common::default()
                }
                .into(),
                ..Meta::default()
            },
            pod_cidr: settings.pod_range.clone(),
            provider_id: None,
            unschedulable: false,
            taints: settings.taints.clone(),
            status: self.status(shared, ctx.now()),
        };
        let operation = Operation::Create { object: node.boxed(), dry_run: false };
        shared.request(Purpose::Register, operation, ctx);
    }

    /// The node's status now.
    fn status(&self, shared: &Shared, now: SimTime) -> NodeStatus {
        let date = shared.date(now);
        let condition =
            |kind: &'static str, status, reason: &'static str, message: &'static str, since| NodeCondition {
                kind: Name::of(kind),
                status,
                reason: Name::of(reason),
                message: Name::of(message),
                last_heartbeat: date,
                last_transition: since,
            };
        let no = ConditionStatus::False;
        let ready = match (self.shutting_down, self.ready_since) {
            (Some(since), _) => condition("Ready", no, "KubeletNotReady", "node is shutting down", since),
            (None, Some(since)) => {
                condition("Ready", ConditionStatus::True, "KubeletReady", "kubelet is posting ready status", since)
            }
            (None, None) => condition("Ready", no, "KubeletNotReady", "CSINode is not yet initialized", self.began),
        };
        let settings = &shared.settings.node;
        NodeStatus {
            capacity: settings.capacity.clone(),
            allocatable: settings.allocatable.clone(),
            conditions: self.pressure_conditions(date).into_iter().chain([ready]).collect(),
            address: Some(settings.address),
            images: self.images(shared),
            declared_features: if shared.settings.profile.features { self.features.clone() } else { Rc::default() },
            kubelet_port: Some(PORT),
            info: settings.info.clone(),
        }
    }

    /// The largest images, as the status names them.
    fn images(&self, shared: &Shared) -> Rc<[NodeImage]> {
        let mut known = self.images.borrow_mut();
        if known.0 != shared.puller.changes {
            *known = (shared.puller.changes, images(shared));
        }
        Rc::clone(&known.1)
    }

    /// The registration was answered. Returns true once the node is registered.
    pub fn registered(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let existing = match result {
            Ok(Answer::Object(_)) => false,
            Err(failure) if failure.reason() == Some(Reason::AlreadyExists) => true,
            _ => {
                // kubelet, registerWithAPIServer: 100 ms, doubled up to 7 s.
                self.attempts = (self.attempts + 1).min(7);
                let step = shared.settings.timings.register * (1 << self.attempts);
                let at = ctx.now() + step.min(SimDuration::from_secs(7));
                ctx.set_timer(at, Timer::Register.token());
                return;
            }
        };
        self.registered = true;
        if existing {
            let key = shared.node_key();
            shared.request(Purpose::GetNode, Operation::Get { key }, ctx);
        } else {
            self.look_at(ctx.now() + shared.settings.timings.ready, ctx);
        }
    }

    /// The node that was there already was read: its Ready condition may go on.
    pub fn found(&mut self, result: &Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if let Ok(Answer::Object(object)) = result
            && let Some(node) = Node::of(object)
        {
            let ready = node.condition("Ready").filter(|ready| ready.status == ConditionStatus::True);
            self.ready_since = ready.map(|ready| ready.last_transition);
            for (place, pressure) in Pressure::ALL.into_iter().enumerate() {
                let condition = node.condition(&pressure.condition());
                if let Some(known) = condition.filter(|known| known.status == ConditionStatus::False) {
                    self.pressures[place].1 = known.last_transition;
                }
            }
            self.in_api.get_or_insert_with(|| node.clone());
            self.rebooted = node.status.info.as_ref().is_some_and(|info| info.boot_id != boot_id(shared));
        }
        self.look_at(ctx.now() + shared.settings.timings.ready, ctx);
    }

    fn look_at(&mut self, at: SimTime, ctx: &mut dyn NodeContext) {
        if let Some((old, timer)) = self.status_timer {
            if old <= at {
                return;
            }
            ctx.cancel_timer(timer);
        }
        self.status_timer = Some((at, ctx.set_timer(at, Timer::NodeStatus.token())));
    }

    /// Lets a change of the images be seen at the next look, every 10 s.
    pub fn images_changed(&mut self, shared: &Shared, ctx: &mut dyn NodeContext) {
        if self.reported.is_some_and(|(changes, _)| changes != shared.puller.changes) {
            let after = ctx.now() + SimDuration::from_nanos(1);
            self.look_at(after.next_tick(shared.began, shared.settings.timings.node_status), ctx);
        }
    }

    /// The watch brought a version of the node. If somebody else says that it is not ready (the node controller, when it
    /// saw no lease), or has cordoned it or no longer does, that is seen at the next look.
    pub fn changed(&mut self, node: &Rc<Node>, shared: &Shared, ctx: &mut dyn NodeContext) {
        // The answer to the kubelet's own write may have told of a later version.
        if self.in_api.as_ref().is_some_and(|known| node.meta.revision() < known.meta.revision()) {
            return;
        }
        self.in_api = Some(node.clone());
        if self.is_contradicted() || node.unschedulable != self.was_cordoned {
            let after = ctx.now() + SimDuration::from_nanos(1);
            self.look_at(after.next_tick(shared.began, shared.settings.timings.node_status), ctx);
        }
    }

    /// The node as the API has it.
    pub fn in_api(&self) -> Option<&Rc<Node>> {
        self.in_api.as_ref()
    }

    /// The machine is about to be switched off: the node says at once that it is not ready.
    pub fn shut_down(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.shutting_down = Some(shared.date(ctx.now()));
        let message = format!("Node {} status is now: NodeNotReady", shared.settings.node.name);
        shared.record_node(EventType::Normal, "NodeNotReady", message);
        self.reported = None;
        self.look_at(ctx.now(), ctx);
    }

    /// True if the API does not say what was last written.
    fn is_contradicted(&self) -> bool {
        let ready = self.shutting_down.is_none();
        self.reported.is_some() && self.in_api.as_ref().is_some_and(|node| node.is_ready() != ready)
    }

    /// Looks at the node's status and writes it if there is a reason to.
    pub fn look(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.status_timer = None;
        if !self.registered {
            return;
        }
        if self.silent || self.status_try > 0 {
            self.look_at(ctx.now() + shared.settings.timings.node_status, ctx);
            return;
        }
        self.tell_cordon(shared);
        let unchanged = self.reported.is_some_and(|(changes, _)| changes == shared.puller.changes);
        if unchanged && !self.is_contradicted() && !self.differs_in_pressure() && ctx.now() < self.report_due {
            self.look_at(self.report_due, ctx);
            return;
        }
        if std::mem::take(&mut self.rebooted) {
            // kubelet, nodestatus.MachineInfo.
            let message = format!("Node {} has been rebooted, boot id: {}", shared.settings.node.name, boot_id(shared));
            shared.record_node(EventType::Warning, "Rebooted", message);
        }
        self.tell_pressures(shared, ctx.now());
        let contradicted = self.said("Ready").is_some_and(|said| said != ConditionStatus::True);
        if (self.ready_since.is_none() || contradicted) && self.shutting_down.is_none() {
            self.ready_since = Some(shared.date(ctx.now()));
            let message = format!("Node {} status is now: NodeReady", shared.settings.node.name);
            shared.record_node(EventType::Normal, "NodeReady", message);
        }
        self.status_try = 1;
        self.write_status(shared, ctx);
    }

    /// Tells that the node is no longer to get pods, or is again (`recordNodeSchedulableEvent`).
    fn tell_cordon(&mut self, shared: &mut Shared) {
        let is_cordoned = self.in_api.as_ref().is_some_and(|node| node.unschedulable);
        if std::mem::replace(&mut self.was_cordoned, is_cordoned) != is_cordoned {
            let reason = if is_cordoned { "NodeNotSchedulable" } else { "NodeSchedulable" };
            let message = format!("Node {} status is now: {reason}", shared.settings.node.name);
            shared.record_node(EventType::Normal, reason, message);
        }
    }

    /// Sends the status through the client for heartbeats, which has a time limit.
    fn write_status(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let patch = TypedPatch::NodeStatus { status: self.status(shared, ctx.now()) };
        let operation = Operation::Patch {
            key: shared.node_key(),
            patch: Patch::Typed(Box::new(patch)),
            part: Part::Status,
            dry_run: false,
        };
        self.reported = Some((shared.puller.changes, ctx.now()));
        shared.heartbeat(Purpose::NodeStatus, operation, ctx);
    }

    /// A try has failed: the node is read and the status is written once more, at once, unless that was tried too often
    /// (`updateNodeStatus`). Then nothing was reported, and what there is to say is said at the next look.
    fn status_failed(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.reported = None;
        if self.silent || self.status_try >= STATUS_TRIES {
            self.status_try = 0;
            return self.look_at(ctx.now() + shared.settings.timings.node_status, ctx);
        }
        self.status_try += 1;
        shared.heartbeat(Purpose::ReadNode, Operation::Get { key: shared.node_key() }, ctx);
    }

    /// The node was read for another try at its status, or not.
    pub fn read_again(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let Ok(Answer::Object(Object::Node(node))) = result else { return self.status_failed(shared, ctx) };
        self.learn(node);
        self.write_status(shared, ctx);
    }

    /// Takes in a version of the node unless a later one is known.
    fn learn(&mut self, node: Rc<Node>) {
        if self.in_api.as_ref().is_none_or(|known| known.meta.revision() < node.meta.revision()) {
            self.in_api = Some(node);
        }
    }

    /// The status was written, or not.
    pub fn status_written(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        match result {
            Ok(Answer::Object(Object::Node(node))) => self.learn(node),
            Ok(_) => {}
            Err(_) => return self.status_failed(shared, ctx),
        }
        self.status_try = 0;
        let timings = &shared.settings.timings;
        // kubelet, calculateDelay: reports that no change asks for are spread by up to half the period either way.
        let period = timings.node_report.as_nanos();
        let delay = SimDuration::from_nanos(self.lease_stream.between(period / 2, period / 2 * 3));
        self.report_due = (ctx.now() + delay).next_tick(shared.began, timings.node_status);
        self.look_at(self.report_due, ctx);
        self.images_changed(shared, ctx);
        if self.differs_in_pressure() {
            let after = ctx.now() + SimDuration::from_nanos(1);
            self.look_at(after.next_tick(shared.began, shared.settings.timings.node_status), ctx);
        }
    }
}

/// Which boot of the machine this is.
fn boot_id(shared: &Shared) -> &str {
    shared.settings.node.info.as_ref().map_or("", |info| &info.boot_id)
}

/// The largest images, as the status names them.
fn images(shared: &Shared) -> Rc<[NodeImage]> {
    if shared.settings.profile.images_present {
        return Rc::default();
    }
    let mut images: Vec<NodeImage> = shared
        .puller
        .images()
        .map(|image| {
            let digest = Name::from(format!("{}@{}", untagged(&image.name), image.id));
            let names: Rc<[Name]> = Rc::from([digest, image.name.clone()]);
            NodeImage { names, size_bytes: i64::try_from(image.size).unwrap_or(i64::MAX) }
        })
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    images.truncate(MAX_IMAGES);
    images.into()
}

/// An image's name without its tag.
fn untagged(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}
