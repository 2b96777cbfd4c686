//! The world that the engine drives: every process, and the one place where events are handled.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::apiserver::metrics::Metrics;
use crate::apiserver::{ApiServer, CommittedWrite, Doubt};
use crate::client::harness::ControllerManager;
use crate::engine::driver;
use crate::engine::hash::Map;
use crate::engine::process::{Cause, Input, ProcessId, Token};
use crate::engine::queue::EventQueue;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::engine::trace::Trace;
use crate::kubelet::KubeletInput;
use crate::scheduler::Scheduler;

use super::event::{Event, Scheduled};
use super::fabric::{Fabric, Wiring};
use super::faults::Moment;
use super::incarnations::Incarnations;
use super::ledger::Ledger;
use super::members::{Members, Observation};
use super::message::Message;
use super::news::{News, Violation, Write};
use super::node::{NodeCommons, NodeMachine};
use super::operator::Operator;
use super::options::{ClusterOptions, LeaseRenewals};
use super::topology::{Role, Topology};
use super::truth::Truth;

/// After a disturbance every renewal of a lease travels for so long: longer than a node's grace, so that what the disturbance
/// did to nodes has come to light.
const CALM_AFTER: SimDuration = SimDuration::from_secs(60);

/// Everything there is in a run, apart from the list of what is going to happen.
pub struct World {
    pub(super) seed: Seed,
    pub(super) options: ClusterOptions,
    pub(super) commons: NodeCommons,
    /// What the metrics APIs answer from.
    pub(super) metrics: Rc<Metrics>,
    pub(super) topology: Topology,
    pub(super) fabric: Fabric,
    pub(super) etcd: Members,
    pub(super) servers: Vec<Option<ApiServer>>,
    pub(super) manager: Option<ControllerManager>,
    pub(super) scheduler: Option<Scheduler>,
    /// Is told before and after the scheduler handles anything, by those who measure it.
    pub(super) scheduler_mark: Option<Box<dyn FnMut()>>,
    pub(super) nodes: Vec<NodeMachine>,
    /// Where the machine of a name stands among the nodes.
    pub(super) places: Map<Name, u32>,
    pub(super) operator: Operator,
    pub(super) ledger: Ledger,
    pub(super) truth: Truth,
    pub(super) incarnations: Incarnations,
    pub(super) news: VecDeque<News>,
    pub(super) trace: Trace,
    pub(super) is_over: bool,
    /// How many requests were refused because the object had changed meanwhile.
    pub(super) conflicts: u64,
}

/// What reaches a process, before it is known to be of the right kind for it.
#[derive(Clone, Copy)]
pub(super) enum Incoming {
    /// It begins.
    Start,
    /// The message in a slot.
    Message(u32),
    /// A timer.
    Timer(Token),
    /// A write is durable.
    DiskDone(Token),
    /// Connections broke.
    ConnectionLost(ProcessId),
}

impl driver::World for World {
    type Event = Scheduled;

    fn handle(&mut self, at: SimTime, sequence: u64, scheduled: Scheduled, queue: &mut EventQueue<Scheduled>) {
        let cause = Cause(sequence);
        if self.trace.is_on() {
            self.record(at, sequence, &scheduled);
        }
        match scheduled.event {
            Event::Start { process } => self.start(process, queue, cause),
            Event::Arrive { slot, ticket } => {
                if let Some((to, message)) = self.fabric.arrive(slot, ticket, queue) {
                    self.conflicts += u64::from(message.is_conflict());
                    self.deliver(to, Incoming::Message(slot), queue, cause);
                }
            }
            Event::Timer { process, epoch, token } => {
                self.deliver_to(process, epoch, Incoming::Timer(token), queue, cause);
            }
            Event::DiskDone { process, epoch, token } => {
                self.deliver_to(process, epoch, Incoming::DiskDone(token), queue, cause);
            }
            Event::ConnectionLost(loss) => {
                if self.fabric.network.learns(&loss) {
                    self.deliver(loss.process, Incoming::ConnectionLost(loss.peer), queue, cause);
                }
            }
            Event::NetworkCheck => self.fabric.network.expire(at),
            Event::Runtime { node, epoch, token } => {
                let machine = &mut self.nodes[node as usize];
                let mut wiring = Wiring { fabric: &mut self.fabric, queue, process: machine.process(), cause };
                machine.runtime_timer(epoch, token, &mut wiring);
                self.look_at_lives(node, cause);
            }
            Event::Power { node, epoch, on } => self.power(node, epoch, on, &mut Moment { queue, cause }),
            Event::Load => {
                self.metrics.load_changed();
                self.spread_load(queue, cause);
            }
            Event::Alarm { token } => self.news.push_back(News::Alarm { token }),
        }
        self.fabric.settle(queue, cause);
    }

    fn digest(scheduled: &Scheduled) -> [u64; 2] {
        let (kind, [subject, detail]) = scheduled.event.words();
        [u64::from(kind) | subject << 16, detail]
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl World {
    /// Hands something to a process, unless the incarnation that asked for it is gone.
    fn deliver_to(
        &mut self,
        process: ProcessId,
        epoch: u32,
        incoming: Incoming,
        queue: &mut EventQueue<Scheduled>,
        cause: Cause,
    ) {
        if self.fabric.network.epoch(process) == epoch && self.fabric.network.is_alive(process) {
            self.deliver(process, incoming, queue, cause);
        }
    }

    /// Hands something to a process.
    fn deliver(&mut self, process: ProcessId, incoming: Incoming, queue: &mut EventQueue<Scheduled>, cause: Cause) {
        if !self.fabric.network.is_alive(process) {
            return incoming.fall_flat(&mut self.fabric);
        }
        match self.topology.role(process) {
            Role::Etcd(place) => {
                if let Some(input) = incoming.input(&mut self.fabric, Message::etcd) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    let observation = self.etcd.handle(place, input, wiring);
                    if self.ledger.is_behind(self.etcd.member(place).view().revision()) {
                        self.follow_etcd(queue.now(), cause);
                    }
                    if let Some(observation) = observation {
                        self.observe(observation, queue.now(), cause);
                    }
                }
            }
            Role::ApiServer(place) => {
                let input = incoming.input(&mut self.fabric, Message::server);
                if let (Some(input), Some(server)) = (input, &mut self.servers[place as usize]) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    server.handle(input, wiring);
                    self.collect_writes(place, queue.now(), cause);
                    self.spread_load(queue, cause);
                }
            }
            Role::ControllerManager => {
                let input = incoming.input(&mut self.fabric, Message::api);
                if let (Some(input), Some(manager)) = (input, &mut self.manager) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    manager.handle(input, wiring);
                }
            }
            Role::Scheduler => {
                let input = incoming.input(&mut self.fabric, Message::api);
                if let (Some(input), Some(scheduler)) = (input, &mut self.scheduler) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    self.scheduler_mark.iter_mut().for_each(|mark| mark());
                    scheduler.handle(input, wiring);
                    self.scheduler_mark.iter_mut().for_each(|mark| mark());
                    let decisions = scheduler.take_decisions();
                    if !decisions.is_empty() {
                        self.news.extend(decisions.into_iter().map(|one| News::Decided(Box::new(one))));
                    }
                }
            }
            Role::Kubelet(place) => {
                if let Some(input) = incoming.input(&mut self.fabric, Message::api) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    self.nodes[place as usize].kubelet_input(KubeletInput::Process(input), wiring);
                    self.look_at_lives(place, cause);
                }
            }
            Role::Operator => {
                if let Some(input) = incoming.input(&mut self.fabric, Message::api) {
                    let wiring = &mut Wiring { fabric: &mut self.fabric, queue, process, cause };
                    self.operator.handle(input, wiring, &mut self.news);
                }
            }
            // What it scrapes is worked out when somebody asks (`apiserver::metrics`).
            Role::MetricsServer => incoming.fall_flat(&mut self.fabric),
        }
    }

    /// Takes note of what etcd has committed.
    fn follow_etcd(&mut self, now: SimTime, cause: Cause) {
        let writes = self.ledger.catch_up(&self.etcd, &self.servers);
        for (key, revision) in self.etcd.take_lapsed() {
            self.commons.heartbeats.written(revision, false);
            self.truth.forget(&key, revision);
            self.ledger.lapsed(revision);
        }
        self.tell(writes, now, cause);
    }

    /// Sets a process up and lets it begin.
    fn start(&mut self, process: ProcessId, queue: &mut EventQueue<Scheduled>, cause: Cause) {
        if !self.fabric.network.is_alive(process) {
            return;
        }
        match self.topology.role(process) {
            Role::Etcd(_) | Role::Operator => {}
            Role::ApiServer(place) => self.servers[place as usize] = Some(self.new_server(place)),
            Role::ControllerManager => self.manager = Some(self.new_manager()),
            Role::Scheduler => self.scheduler = Some(self.new_scheduler()),
            Role::Kubelet(place) => self.nodes[place as usize].create_kubelet(queue.now()),
            Role::MetricsServer => self.metrics.server.begins(queue.now()),
        }
        self.deliver(process, Incoming::Start, queue, cause);
    }

    /// Takes the volatile state of a process that has died.
    pub(super) fn drop_state(&mut self, process: ProcessId, now: SimTime, cause: Cause) {
        match self.topology.role(process) {
            Role::Etcd(place) => {
                let observation = self.etcd.crash(place, now);
                self.observe(observation, now, cause);
            }
            Role::ApiServer(place) => {
                if let Some(server) = self.servers[place as usize].take() {
                    let doubtful = self.doubt(server.writes_under_way());
                    self.settle(&doubtful, now, cause);
                }
            }
            Role::ControllerManager => self.manager = None,
            Role::Scheduler => self.scheduler = None,
            Role::Kubelet(place) => self.nodes[place as usize].crash_kubelet(),
            Role::MetricsServer => self.metrics.server.dies(),
            Role::Operator => {}
        }
    }

    /// Lets the containers of pods bear the load that they share now. Nothing is done where load costs no memory.
    pub(super) fn spread_load(&mut self, queue: &mut EventQueue<Scheduled>, cause: Cause) {
        for (node, pod, thousandths) in self.metrics.take_loads(queue.now()) {
            let Some(place) = self.places.get(&node).copied() else { continue };
            let machine = &mut self.nodes[place as usize];
            let process = machine.process();
            let mut wiring = Wiring { fabric: &mut self.fabric, queue, process, cause };
            machine.set_load(pod, thousandths, &mut wiring);
            self.look_at_lives(place, cause);
        }
    }

    /// Tells of what was seen of the etcd members.
    fn observe(&mut self, observation: Observation, now: SimTime, cause: Cause) {
        if let Some((member, term)) = observation.leader {
            self.disturbed(now);
            self.news.push_back(News::EtcdLeader { member, term });
        }
        if let Some((invariant, message)) = observation.violation {
            self.news.push_back(News::Violation(Violation { invariant, message, cause }));
            self.is_over = true;
        }
    }

    /// Something has broken or works again: renewals of leases travel until the cluster has been whole for a while.
    pub(super) fn disturbed(&mut self, now: SimTime) {
        let may_be_calm = self.options.lease_renewals == LeaseRenewals::WhenAsked
            && self.etcd.leader().is_some()
            && self.fabric.is_whole();
        self.commons.heartbeats.set_calm_from(if may_be_calm { now + CALM_AFTER } else { SimTime::MAX });
    }

    /// Tells of the writes that an API server has learnt to be committed, and of what that or its doubts bring to light.
    fn collect_writes(&mut self, place: u32, at: SimTime, cause: Cause) {
        let Some(server) = &mut self.servers[place as usize] else { return };
        let (acknowledged, doubts) = (server.take_writes(), server.take_doubts());
        if acknowledged.is_empty() && doubts.is_empty() {
            return;
        }
        let doubtful = self.doubt(doubts);
        let writes = self.ledger.acknowledged(acknowledged, &self.servers);
        self.tell(writes, at, cause);
        self.settle(&doubtful, at, cause);
    }

    /// Nobody will be told what becomes of these writes; returns the objects.
    fn doubt(&mut self, doubts: Vec<Doubt>) -> Vec<ObjectKey> {
        let keys = doubts.iter().map(|doubt| doubt.key.clone()).collect();
        self.ledger.note(doubts);
        keys
    }

    /// Tells which of the writes in doubt of some objects are made.
    fn settle(&mut self, doubtful: &[ObjectKey], at: SimTime, cause: Cause) {
        for key in doubtful {
            let writes = self.ledger.settle(key, &self.etcd, &self.servers);
            self.tell(writes, at, cause);
        }
    }

    /// Tells of committed writes.
    fn tell(&mut self, writes: Vec<CommittedWrite>, at: SimTime, cause: Cause) {
        for CommittedWrite { revision, key, old, new, agent, verb } in writes {
            self.commons.heartbeats.written(revision, key.kind == Kind::Lease);
            let write = Write { at, revision, key, old, new, agent, verb, cause };
            self.truth.apply(&write);
            self.follow_identity(&write);
            self.metrics.note(write.old.as_ref(), write.new.as_ref(), at);
            self.news.push_back(News::Write(Rc::new(write)));
        }
    }

    /// Records an event in the trace.
    fn record(&mut self, at: SimTime, sequence: u64, scheduled: &Scheduled) {
        let (kind, operands, process) = match scheduled.event {
            Event::Arrive { slot, .. } => match self.fabric.message(slot) {
                Some((from, to, message)) => (message.trace_kind(), [u64::from(from.0), message.trace_detail()], to),
                None => return,
            },
            Event::Runtime { node, token, .. } => {
                let (kind, _) = scheduled.event.words();
                (kind, [u64::from(node), token], self.nodes[node as usize].process())
            }
            Event::Power { node, .. } => {
                let (kind, operands) = scheduled.event.words();
                (kind, operands, self.nodes[node as usize].process())
            }
            Event::Start { process } | Event::Timer { process, .. } | Event::DiskDone { process, .. } => {
                let (kind, [_, detail]) = scheduled.event.words();
                (kind, [0, detail], process)
            }
            Event::ConnectionLost(loss) => (scheduled.event.words().0, [u64::from(loss.peer.0), 0], loss.process),
            Event::NetworkCheck | Event::Load | Event::Alarm { .. } => {
                let (kind, operands) = scheduled.event.words();
                (kind, operands, self.operator_process())
            }
        };
        self.trace.scheduled(sequence, scheduled.cause);
        self.trace.happened(sequence, at, process, kind, operands);
    }

    /// The process of the operator.
    pub(super) fn operator_process(&self) -> ProcessId {
        self.topology.process(Role::Operator).expect("every cluster has an operator")
    }
}

impl Incoming {
    /// As an input of a process that understands messages of one kind; none for a message of another.
    #[inline]
    fn input<M>(self, fabric: &mut Fabric, of: impl FnOnce(Message) -> Option<M>) -> Option<Input<M>> {
        Some(match self {
            Incoming::Start => Input::Start,
            Incoming::Message(slot) => {
                let (from, message) = fabric.take(slot)?;
                Input::Message { from, message: of(message)? }
            }
            Incoming::Timer(token) => Input::Timer { token },
            Incoming::DiskDone(token) => Input::DiskDone { token },
            Incoming::ConnectionLost(peer) => Input::ConnectionLost { peer },
        })
    }

    /// Nobody is there to take it.
    #[cold]
    fn fall_flat(self, fabric: &mut Fabric) {
        if let Incoming::Message(slot) = self {
            fabric.take(slot);
        }
    }
}
