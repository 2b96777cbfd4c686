//! The world that the engine drives: every process, and the one place where events are handled.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::api::meta::Epoch;
use crate::apiserver::ApiServer;
use crate::client::manager::ControllerManager;
use crate::engine::driver;
use crate::engine::process::{Cause, Input, ProcessId};
use crate::engine::queue::EventQueue;
use crate::engine::random::Seed;
use crate::engine::time::SimTime;
use crate::engine::trace::Trace;
use crate::etcd::raft::safety::SafetyChecker;
use crate::scheduler::Scheduler;

use super::event::{Event, Scheduled};
use super::fabric::{Fabric, Wiring};
use super::members::Members;
use super::message::Message;
use super::news::{News, Violation, Write};
use super::node::NodeMachine;
use super::operator::Operator;
use super::options::ClusterOptions;
use super::topology::{Role, Topology};
use super::truth::Truth;

/// Everything there is in a run, apart from the list of what is going to happen.
pub struct World {
    pub(super) seed: Seed,
    pub(super) options: ClusterOptions,
    pub(super) topology: Topology,
    pub(super) fabric: Fabric,
    pub(super) etcd: Members,
    pub(super) servers: Vec<Option<ApiServer>>,
    pub(super) manager: Option<ControllerManager>,
    pub(super) scheduler: Option<Scheduler>,
    pub(super) nodes: Vec<NodeMachine>,
    pub(super) operator: Operator,
    pub(super) truth: Truth,
    pub(super) news: VecDeque<News>,
    pub(super) trace: Trace,
    pub(super) is_over: bool,
}
