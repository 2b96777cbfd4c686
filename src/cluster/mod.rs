//! A whole cluster: machines and wiring, bootstrap, faults, and the world that the engine drives.
//!
//! - this file: [`Cluster`], the way in for scenarios and tests
//! - `options`: what a cluster is made of
//! - `bootstrap`: builds it
//! - `world`: every process, and the one place where events are handled
//! - `event`, `message`: everything that can happen, and everything that is said
//! - `fabric`: network and disks
//! - `members`, `node`, `operator`: the etcd members, the machines that run pods, who types commands
//! - `topology`: which machines there are, and which processes run on them
//! - `faults`: what can be done to a cluster from outside
//! - `ledger`: which committed writes have been told
//! - `incarnations`: whether pods of one name run at once
//! - `news`, `truth`: what the cluster tells, and what is committed

mod bootstrap;
pub mod event;
pub mod fabric;
pub mod faults;
mod incarnations;
mod ledger;
pub mod members;
pub mod message;
pub mod news;
pub mod node;
pub mod operator;
pub mod options;
pub mod topology;
pub mod truth;
pub mod world;

use std::rc::Rc;

use crate::api::meta::{Epoch, Timestamp};
use crate::api::pod::Pod;
use crate::apiserver::protocol::Operation;
use crate::engine::digest::Digest;
use crate::engine::distribution::Distribution;
use crate::engine::driver::{Halt, Simulation};
use crate::engine::network::{Directions, PartitionId};
use crate::engine::process::{Cause, Token};
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::engine::trace::Trace;
use crate::kubelet::clock;

use self::event::{Event, Scheduled};
use self::fabric::Wiring;
use self::faults::{FaultError, Moment};
use self::members::Members;
use self::news::{News, OperatorRequest};
use self::node::NodeMachine;
use self::options::{ClusterOptions, NodeOptions};
use self::topology::Topology;
use self::truth::Truth;
use self::world::World;

/// A cluster in virtual time.
///
/// Whoever drives it lets it run a step at a time, takes the [`News`], and may make requests and inject faults in between.
/// What is done between two steps is ascribed to the event handled last, or to the one that [`Cluster::ascribe`] names.
pub struct Cluster {
    simulation: Simulation<World>,
    cause: Cause,
}

impl Cluster {
    /// A cluster that is about to begin. With `trace`, every event is recorded with its cause.
    pub fn new(options: ClusterOptions, seed: Seed, trace: bool) -> Self {
        let (world, queue) = bootstrap::build(options, seed, trace);
        Cluster { simulation: Simulation::new(world, queue), cause: Cause::NONE }
    }

    /// Lets everything happen that happens at the next moment at which anything does, unless that is after `limit`.
    /// Returns that moment, or none if nothing happens up to `limit`; then the present is `limit`.
    pub fn step(&mut self, limit: SimTime) -> Option<SimTime> {
        let moment = self.simulation.step_until(limit);
        if moment.is_none() && limit != SimTime::MAX && !self.is_over() {
            self.simulation.run_until(limit);
        }
        moment
    }

    /// Lets everything happen up to `limit`, whatever the news are.
    pub fn run_until(&mut self, limit: SimTime) -> Halt {
        self.simulation.run_until(limit)
    }

    /// The next piece of news, if there is one.
    pub fn next_news(&mut self) -> Option<News> {
        self.simulation.world.news.pop_front()
    }

    /// True if an invariant was broken: nothing happens any more.
    pub fn is_over(&self) -> bool {
        self.simulation.world.is_over
    }

    /// The present.
    pub fn now(&self) -> SimTime {
        self.simulation.now()
    }

    /// What ties virtual time to dates.
    pub fn epoch(&self) -> Epoch {
        self.simulation.world.options.epoch
    }

    /// The present date.
    pub fn date(&self) -> Timestamp {
        self.epoch().timestamp(self.now())
    }

    /// Has `mark` called right before and right after the scheduler handles anything: to see what it costs within a cluster.
    /// Nothing that is simulated depends on it.
    pub fn mark_scheduler(&mut self, mark: impl FnMut() + 'static) {
        self.simulation.world.scheduler_mark = Some(Box::new(mark));
    }

    /// How many events have happened.
    pub fn events(&self) -> u64 {
        self.simulation.events()
    }

    /// How many messages were sent.
    pub fn messages_sent(&self) -> u64 {
        self.simulation.world.fabric.messages_sent()
    }

    /// How many requests were refused because the object had changed meanwhile.
    pub fn conflicts(&self) -> u64 {
        self.simulation.world.conflicts
    }

    /// The digest of all that has happened.
    pub fn digest(&self) -> Digest {
        self.simulation.digest()
    }

    /// What is committed.
    pub fn truth(&self) -> &Truth {
        &self.simulation.world.truth
    }

    /// The machines and processes.
    pub fn topology(&self) -> &Topology {
        &self.simulation.world.topology
    }

    /// The machines that run pods.
    pub fn nodes(&self) -> &[NodeMachine] {
        &self.simulation.world.nodes
    }

    /// The etcd members.
    pub fn etcd(&self) -> &Members {
        &self.simulation.world.etcd
    }

    /// The trace; empty if none was wanted.
    pub fn trace(&self) -> &Trace {
        &self.simulation.world.trace
    }

    /// The trace, to prune it when the run has ended.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.simulation.world.trace
    }

    /// Ascribes what is done from now on to an event.
    pub fn ascribe(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// Makes a request as the operator. Its answer comes as [`News::Answer`].
    pub fn request(&mut self, operation: Operation) -> OperatorRequest {
        let Simulation { world, queue, .. } = &mut self.simulation;
        let process = world.operator_process();
        let mut wiring = Wiring { fabric: &mut world.fabric, queue, process, cause: self.cause };
        let request = world.operator.request(operation, &mut wiring);
        world.fabric.settle(queue, self.cause);
        request
    }

    /// Asks for [`News::Alarm`] at a time, not before now; returns the event that it will be.
    pub fn alarm(&mut self, at: SimTime, token: Token) -> Cause {
        let queue = &mut self.simulation.queue;
        let at = at.max(queue.now());
        let id = queue.schedule(at, Scheduled { cause: self.cause, event: Event::Alarm { token } });
        Cause(id.sequence())
    }

    fn at_this_moment<T>(&mut self, act: impl FnOnce(&mut World, &mut Moment<'_>) -> T) -> T {
        let Simulation { world, queue, .. } = &mut self.simulation;
        act(world, &mut Moment { queue, cause: self.cause })
    }

    /// Cuts the power of a machine (a node, `etcd-0`, `control-plane-0`, ...): its processes die and nobody is told.
    pub fn crash_machine(&mut self, name: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.crash_machine(name, moment))
    }

    /// Gives a machine power again; its processes begin anew.
    pub fn restart_machine(&mut self, name: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.restart_machine(name, moment))
    }

    /// Kills a process (`etcd-0`, `kube-apiserver-0`, `kube-scheduler`, `kubelet/node-3`, ...) on a machine that lives on.
    pub fn crash_process(&mut self, name: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.crash_process(name, moment))
    }

    /// Starts a process that was killed.
    pub fn restart_process(&mut self, name: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.restart_process(name, moment))
    }

    /// Lets the disk of an etcd member (`etcd-0`, ...) take another time to make a write durable; without one, that of the options.
    pub fn set_fsync(&mut self, member: &str, fsync: Option<Distribution>) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.set_fsync(member, fsync, moment))
    }

    /// Lets a node's kubelet neither renew its lease nor write the node's status.
    pub fn stop_heartbeats(&mut self, node: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.heartbeats(node, false, moment))
    }

    /// Lets a node's kubelet do so again.
    pub fn resume_heartbeats(&mut self, node: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.heartbeats(node, true, moment))
    }

    /// Stops a node's kubelet, whose process stays: it does nothing, renews no lease, and containers run on.
    pub fn hang_kubelet(&mut self, node: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.hang(node, true, moment))
    }

    /// Lets a kubelet that hangs go on, with all that has happened to it meanwhile.
    pub fn resume_kubelet(&mut self, node: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.hang(node, false, moment))
    }

    /// Makes the clock of a node's machine wrong from now on; the default makes it right.
    pub fn set_clock(&mut self, node: &str, fault: clock::Fault) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.set_clock(node, fault, moment))
    }

    /// Reboots a node's machine, which is without power for a while. Its containers die; its pods are started again in place, but for
    /// those that a kubelet with a `shutdownGracePeriod` has ended.
    pub fn reboot(&mut self, node: &str, down: SimDuration) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.shut_down(node, Some(down), moment))
    }

    /// Switches a node's machine off in good order: a kubelet with a `shutdownGracePeriod` ends its pods first.
    pub fn shut_down(&mut self, node: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.shut_down(node, None, moment))
    }

    /// Puts the file of a static pod on a node, in place of one of the same name.
    pub fn add_static_pod(&mut self, node: &str, pod: Rc<Pod>) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.add_static_pod(node, pod, moment))
    }

    /// Takes the file of a static pod from a node.
    pub fn remove_static_pod(&mut self, node: &str, name: &str) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.remove_static_pod(node, name, moment))
    }

    /// Puts an image into a node's store by other means than a pull, or takes it out.
    pub fn set_image(&mut self, node: &str, image: &str, present: bool) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.set_image(node, image, present, moment))
    }

    /// Gives a signal another amount, in thousandths; an error if there is none of this name.
    pub fn set_signal(&mut self, name: &str, amount: i64) -> Result<(), String> {
        let now = self.now();
        let set = |world: &mut World, moment: &mut Moment<'_>| {
            let found = world.metrics.set(name, amount, now);
            world.spread_load(moment.queue, moment.cause);
            found
        };
        self.at_this_moment(set).then_some(()).ok_or_else(|| format!("there is no signal \"{name}\""))
    }

    /// Adds a machine whose kubelet registers itself as a node.
    pub fn add_node(&mut self, options: &NodeOptions) -> Result<(), FaultError> {
        self.at_this_moment(|world, moment| world.add_node(options, moment))
    }

    /// Stops packets between two groups of machines, in both directions or only from the first group to the second.
    pub fn partition(
        &mut self,
        first: &[String],
        second: &[String],
        directions: Directions,
    ) -> Result<PartitionId, FaultError> {
        self.at_this_moment(|world, moment| world.partition(first, second, directions, moment))
    }

    /// Ends a partition.
    pub fn heal(&mut self, partition: PartitionId) {
        self.at_this_moment(|world, moment| world.heal(partition, moment));
    }
}
