//! The scheduling framework: what a plugin may decide, and at which points it is asked (kube-scheduler, `framework/interface.go`).
//!
//! A plugin compiles a pod into a [`NodeFilter`] and a [`NodeScore`]: what PreFilter and PreScore leave in the cycle state for
//! Filter and Score is here the value that they return. Nothing in this file knows a plugin.

use std::rc::Rc;

use smallvec::SmallVec;

use super::cluster::Cluster;
use super::codes::NodeCodes;
use super::event::{ClusterEvent, EventKinds, Hint};
use super::filters::Filters;
use super::node_info::NodeInfo;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::Operation;
use crate::engine::random::Stream;
use crate::engine::time::SimDuration;

/// The highest score that a plugin gives after normalization (`MaxNodeScore`); the lowest is zero.
pub const MAX_SCORE: i64 = 100;

/// What came of asking a plugin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Code {
    /// Yes.
    #[default]
    Success,
    /// The plugin failed; the pod is tried again with back-off.
    Error,
    /// No; preemption or a change of the cluster may help.
    Unschedulable,
    /// No; preemption does not help.
    UnschedulableAndUnresolvable,
    /// Permit: not yet.
    Wait,
    /// The plugin has nothing to say about this pod.
    Skip,
    /// No, and something is under way that will help.
    Pending,
}

/// What came of asking a plugin, and why.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// In one word.
    pub code: Code,
    /// Why, each reason in a sentence.
    pub reasons: Vec<Name>,
}

impl Status {
    /// Yes.
    pub const SUCCESS: Status = Status { code: Code::Success, reasons: Vec::new() };

    /// A no, which preemption may change.
    pub fn unschedulable(reason: impl Into<Name>) -> Self {
        Status { code: Code::Unschedulable, reasons: vec![reason.into()] }
    }

    /// A no, which preemption does not change.
    pub fn unresolvable(reason: impl Into<Name>) -> Self {
        Status { code: Code::UnschedulableAndUnresolvable, reasons: vec![reason.into()] }
    }

    /// A failure.
    pub fn error(reason: impl Into<Name>) -> Self {
        Status { code: Code::Error, reasons: vec![reason.into()] }
    }

    /// True for yes.
    pub fn is_success(&self) -> bool {
        self.code == Code::Success
    }

    /// True for each kind of no (`IsRejected`).
    pub fn is_rejected(&self) -> bool {
        matches!(self.code, Code::Unschedulable | Code::UnschedulableAndUnresolvable | Code::Pending)
    }

    /// All reasons in one text (`Status.Message`).
    pub fn message(&self) -> String {
        self.reasons.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The points at which plugins are asked, in the order of a pod's way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the framework's own words")]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Point {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in their order.
    pub const ALL: [Point; 12] = [
        Point::PreEnqueue,
        Point::QueueSort,
        Point::PreFilter,
        Point::Filter,
        Point::PostFilter,
        Point::PreScore,
        Point::Score,
        Point::Reserve,
        Point::Permit,
        Point::PreBind,
        Point::Bind,
        Point::PostBind,
    ];
}

/// A set of plugins, by their places in the profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PluginSet(u64);

impl PluginSet {
    /// No plugin.
    pub const NONE: PluginSet = PluginSet(0);

    /// How many plugins a profile may have.
    pub const CAPACITY: usize = 64;

    /// Adds a plugin.
    pub fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    /// True if a plugin is among them.
    pub fn contains(self, place: usize) -> bool {
        self.0 & 1 << place != 0
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The plugins of both.
    pub fn union(self, other: PluginSet) -> Self {
        PluginSet(self.0 | other.0)
    }

    /// The plugins in both.
    pub fn intersection(self, other: PluginSet) -> Self {
        PluginSet(self.0 & other.0)
    }

    /// The places, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::CAPACITY).filter(move |place| self.contains(*place))
    }
}

impl FromIterator<usize> for PluginSet {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut set = PluginSet::NONE;
        places.into_iter().for_each(|place| set.insert(place));
        set
    }
}

/// A pod and the node that was chosen for it.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The pod as it was when the cycle began.
    pub pod: Rc<Pod>,
    /// The node's name.
    pub node: Name,
}

/// How long what a plugin compiled out of a pod's specification holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// The verdict and the raw score depend on the pod's specification and on the node alone: they are kept for all pods of
    /// that specification while the node is unchanged and no node comes or goes.
    Node,
    /// They depend on other pods too: [`Plugin::follower`] keeps up with the cluster for all pods of a class.
    Followed,
    /// They depend on more: the plugin is asked in every cycle.
    Cycle,
}

/// What PreFilter says.
pub enum PreFilter {
    /// The plugin does not filter.
    Nothing,
    /// The plugin's Filter need not be run for this pod.
    Skip,
    /// The pod fits no node at all.
    Reject(Status),
    /// The pod is to be filtered, on certain nodes only if some are named.
    Filter {
        /// The only nodes that come into question, sorted by name; none for all.
        nodes: Option<Vec<Name>>,
        /// Decides on one node.
        filter: Box<dyn NodeFilter>,
    },
}

impl PreFilter {
    /// All nodes come into question, and the filter decides.
    pub fn all(filter: impl NodeFilter + 'static) -> Self {
        PreFilter::Filter { nodes: None, filter: Box::new(filter) }
    }
}

/// Decides whether a pod fits a node.
pub trait NodeFilter {
    /// The verdict on a node.
    fn filter(&self, node: &NodeInfo) -> Status;

    /// The verdict on a node as it would be with some pods more and some fewer on it; `node` has them and lacks them already.
    /// Whoever looks at other pods than the node's has to take them into account (kube-scheduler, `PreFilterExtensions`).
    fn filter_if(&self, node: &NodeInfo, _added: &[Rc<Pod>], _removed: &[Rc<Pod>]) -> Status {
        self.filter(node)
    }
}

/// A filter that fails.
pub struct Fails(pub Name);

impl NodeFilter for Fails {
    fn filter(&self, _node: &NodeInfo) -> Status {
        Status::error(self.0.clone())
    }
}

/// A filter that rejects every node.
pub struct Rejects(pub Status);

impl NodeFilter for Rejects {
    fn filter(&self, _node: &NodeInfo) -> Status {
        self.0.clone()
    }
}

/// What PreScore says.
pub enum PreScore {
    /// The plugin's Score need not be run for this pod.
    Skip,
    /// Scores nodes.
    Score(Box<dyn NodeScore>),
    /// The plugin failed, and why; the pod is tried again with back-off.
    Fail(Name),
}

/// Scores no node.
pub struct NoScore;

impl NodeScore for NoScore {
    fn score(&self, _node: &NodeInfo) -> i64 {
        0
    }
}

/// Says how good a node is for a pod.
pub trait NodeScore {
    /// The raw score of a node.
    fn score(&self, node: &NodeInfo) -> i64;

    /// How the raw scores of all feasible nodes become scores from zero to [`MAX_SCORE`].
    fn normalization(&self) -> Normalization {
        Normalization::None
    }

    /// Brings the raw scores of all feasible nodes to the scale.
    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        self.normalization().apply_all(scores);
    }
}

/// How raw scores are brought to a scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Normalization {
    /// They are on it.
    None,
    /// In proportion to the highest (`DefaultNormalizeScore`); if that is zero, all are zero.
    Highest,
    /// The same turned round; if the highest is zero, all are [`MAX_SCORE`].
    HighestReversed,
    /// In a way of the plugin's own: [`NodeScore::normalize`] says.
    Own,
}

impl Normalization {
    /// The score that a raw score becomes when `highest` is the highest of all raw scores.
    #[inline]
    pub fn apply(self, raw: i64, highest: i64) -> i64 {
        match self {
            Normalization::None | Normalization::Own => raw,
            Normalization::Highest if highest == 0 => raw,
            Normalization::HighestReversed if highest == 0 => MAX_SCORE,
            Normalization::Highest => MAX_SCORE * raw / highest,
            Normalization::HighestReversed => MAX_SCORE - MAX_SCORE * raw / highest,
        }
    }

    /// Brings all raw scores to the scale.
    pub fn apply_all(self, scores: &mut [i64]) {
        let highest = scores.iter().copied().max().unwrap_or(0);
        scores.iter_mut().for_each(|score| *score = self.apply(*score, highest));
    }
}

/// What a [`Follower`] looks at of a node.
pub type Stance = SmallVec<[i64; 10]>;

/// What a plugin says about all pods of a class, kept up with the cluster pod by pod instead of being worked out anew in every
/// cycle. It must say what PreFilter, Filter, PreScore and Score would say. Nodes are named by their places in the list.
///
/// It says it of a node's stance: some numbers, as many for each node, that are all that the follower looks at. Nodes of one stance
/// get the same verdict and the same score, whatever these are at the moment.
pub trait Follower {
    /// True while it can be kept up: the nodes' labels, and all else that it was made from, are as they were.
    fn is_current(&mut self, cluster: &Cluster) -> bool;

    /// Takes in that `count` pods of a group came to a node, or left it if it is negative. Other nodes whose stance that changes
    /// are told to `changed`.
    fn follow(&mut self, group: u32, place: usize, count: i32, cluster: &Cluster, changed: &mut dyn FnMut(usize));

    /// Moves when the stances of all nodes have to be asked for again.
    fn version(&self) -> u32;

    /// How many numbers a stance has: with those that only scores depend on, or without.
    fn width(&self, is_scored: bool) -> usize;

    /// Appends a node's stance: with the numbers that only scores depend on, or without.
    fn stance(&self, place: usize, is_scored: bool, stance: &mut Stance);

    /// True if it rejects nodes for some stances.
    fn is_filter(&self) -> bool;

    /// Why nodes of a stance do not fit, as a number for [`Follower::status`]; none if they fit.
    fn rejection(&self, stance: &[i64]) -> Option<u8>;

    /// The same for a node, as it would be with some pods more and some fewer on it.
    fn rejection_with(&self, place: usize, added: &[Rc<Pod>], removed: &[Rc<Pod>], cluster: &Cluster) -> Option<u8>;

    /// Moves when that may be another for nodes on which no pod came or went.
    fn turn(&self) -> u32;

    /// True if what is said of a node may be another with a pod or without it.
    fn minds(&self, pod: &Pod) -> bool;

    /// What is said of nodes that are rejected for a reason.
    fn status(&self, rejection: u8) -> Status;

    /// Adds the normalised score of feasible nodes, times a weight, to the total of each stance. Each comes with how many nodes
    /// there are of it.
    fn score(&mut self, stances: &[(&[i64], usize)], weight: i64, totals: &mut [i64]);

    /// True if all feasible nodes would get no score, whichever they are.
    fn is_indifferent(&self) -> bool;
}

/// What PostFilter says about a pod that fits no node.
#[derive(Clone, Debug, Default)]
pub struct PostFilter {
    /// Success if a node was made available, else the reasons for which nothing helps.
    pub status: Status,
    /// The node that is to be nominated; the empty name takes a nomination back.
    pub nominated_node: Option<Name>,
    /// The pods that have to go from it, the most important first.
    pub victims: Vec<Uid>,
}

/// A cycle in which a pod fitted no node, as PostFilter sees it.
pub struct Failed<'a> {
    /// The pod.
    pub pod: &'a Rc<Pod>,
    /// The nodes.
    pub cluster: &'a Cluster,
    /// The pod's filters, which can say what would be.
    pub filters: Filters<'a>,
    /// What the filters said of each node.
    pub codes: NodeCodes<'a>,
    /// False if the plugin's PreFilter was not asked, because another one was sure before that the pod fits nowhere.
    pub was_asked: bool,
}

/// What Permit says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Permit {
    /// Go on.
    Allow,
    /// Not now and not soon.
    Reject(Status),
    /// Not before somebody allows it (`Scheduler::allow_waiting`); if nobody does within a time, no.
    Wait(SimDuration),
}

/// How what PreBind asked for comes along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The pod may be bound.
    Done,
    /// Not yet; to be asked again after a time.
    Wait(SimDuration),
    /// It will not be.
    Failed(Status),
}

/// A plugin. One that says nothing about a point is not asked there: [`Plugin::points`] names those where it is.
pub trait Plugin {
    /// The name by which configurations and messages know it.
    fn name(&self) -> &'static str;

    /// Where it is asked.
    fn points(&self) -> &'static [Point];

    /// How long its verdicts and raw scores for a pod hold.
    fn validity(&self, _pod: &Pod) -> Validity {
        Validity::Node
    }

    /// What keeps up with the cluster for all pods like this one, if its verdicts are [`Validity::Followed`]; none if it cannot,
    /// and is to be asked in every cycle.
    fn follower(&self, _pod: &Rc<Pod>, _cluster: &Cluster) -> Option<Box<dyn Follower>> {
        None
    }

    /// The cluster events that may make a pod schedulable that this plugin has rejected.
    fn events(&self) -> EventKinds {
        EventKinds::NONE
    }

    /// Whether one of [`Plugin::events`] is worth another try for a pod that this plugin has rejected.
    fn hint(
        &self,
        _pod: &Pod,
        _event: ClusterEvent,
        _old: Option<&Object>,
        _new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        Hint::Queue
    }

    /// Which pod goes first: the one with the higher rank, of equal ones the one that waits longer.
    fn rank(&self, _pod: &Pod) -> i64 {
        0
    }

    /// Whether a pod may enter the active queue.
    fn pre_enqueue(&self, _pod: &Pod) -> Status {
        Status::SUCCESS
    }

    /// Looks at a pod before nodes are filtered.
    fn pre_filter(&self, _pod: &Pod, _cluster: &Cluster) -> PreFilter {
        PreFilter::Nothing
    }

    /// What Filter fails with where PreFilter was not asked, because a configuration has it on at the one point and off at the
    /// other; none if it does without.
    fn unprepared(&self) -> Option<Name> {
        None
    }

    /// What Score fails with where PreScore was not asked, because a configuration has it on at the one point and off at the
    /// other; none if it does without.
    fn unprepared_score(&self) -> Option<Name> {
        None
    }

    /// Tries to make room for a pod that fits nowhere.
    fn post_filter(&self, _failed: &Failed<'_>, _chance: &mut Stream) -> PostFilter {
        PostFilter::default()
    }

    /// Looks at a pod before feasible nodes are scored. A plugin whose scores are kept ([`Validity::Node`]) is not told which
    /// nodes these are.
    fn pre_score(&self, _pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        PreScore::Skip
    }

    /// Reserves what the plugin keeps account of.
    fn reserve(&self, _placement: &Placement, _cluster: &mut Cluster) -> Status {
        Status::SUCCESS
    }

    /// Takes a reservation back. Must also be right where there was none.
    fn unreserve(&self, _placement: &Placement, _cluster: &mut Cluster) {}

    /// Whether a placed pod may be bound.
    fn permit(&self, _placement: &Placement) -> Permit {
        Permit::Allow
    }

    /// What is to be written before the pod is bound, one request after the other.
    fn pre_bind(&self, _placement: &Placement, _cluster: &Cluster) -> Vec<Operation> {
        Vec::new()
    }

    /// How what [`Plugin::pre_bind`] wrote comes along, `waited` after the last of it was written. The pod is not bound before
    /// it is done.
    fn pre_bind_progress(&self, _placement: &Placement, _cluster: &Cluster, _waited: SimDuration) -> Progress {
        Progress::Done
    }

    /// The request that binds the pod; none if this plugin does not bind it.
    fn bind(&self, _placement: &Placement) -> Option<Operation> {
        None
    }

    /// Hears that a pod was bound.
    fn post_bind(&self, _placement: &Placement, _cluster: &mut Cluster) {}
}
