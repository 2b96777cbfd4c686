//! NodeAffinity: `nodeSelector` and `affinity.nodeAffinity`, and the affinity that the scheduler's configuration adds.

use std::collections::BTreeSet;
use std::rc::Rc;

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, PreferredSchedulingTerm};

use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::node_selector::{NAME_FIELD, NodeSelector, Term};
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::api::selector::Selector;
use crate::scheduler::arguments::Arguments;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, NodeScore, Normalization, Plugin, Point, PreFilter, PreScore, Status};
use crate::scheduler::node_info::NodeInfo;

const NOT_MATCHED: Name = Name::of("node(s) didn't match Pod's node affinity/selector");
const NOT_ENFORCED: Name = Name::of("node(s) didn't match scheduler-enforced node affinity");
const CONFLICT: Name = Name::of("pod affinity terms conflict");

/// The plugin, with what `addedAffinity` of its arguments says.
#[derive(Default)]
pub struct NodeAffinity {
    added: Option<Rc<NodeSelector>>,
    added_preferences: Option<Rc<Preferences>>,
}

/// What a pod requires of its node.
pub(super) struct Required {
    labels: Option<Selector>,
    affinity: Option<NodeSelector>,
    name: Option<Name>,
}

struct Filter {
    added: Option<Rc<NodeSelector>>,
    required: Required,
}

struct Score {
    added: Option<Rc<Preferences>>,
    own: Preferences,
}

/// Terms with their weights.
struct Preferences(Vec<(Term, i64)>);

impl NodeAffinity {
    /// The plugin with these arguments: the affinity that they add holds for all pods.
    pub fn new(arguments: &Arguments) -> Self {
        let Arguments::NodeAffinity(arguments) = arguments else { return NodeAffinity::default() };
        let Some(affinity) = &arguments.added_affinity else { return NodeAffinity::default() };
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref();
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_deref();
        let preferred = preferred.filter(|terms| !terms.is_empty());
        NodeAffinity {
            added: required.map(|terms| Rc::new(NodeSelector::compile(terms))),
            added_preferences: preferred.map(|terms| Rc::new(Preferences::compile(terms))),
        }
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::NodeAdd, ClusterEvent::NodeLabel])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        let Some(Object::Node(new)) = new else { return Hint::Queue };
        let required = Required::of(pod);
        let enforced = self.added.as_ref().is_none_or(|added| added.matches(new));
        let was_matched = matches!(old, Some(Object::Node(old)) if required.matches(old));
        Hint::queue_if(enforced && required.matches(new) && !was_matched)
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        let affinity =
            affinity(&pod.spec).and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
        let says_nothing = affinity.is_none() && pod.only_node.is_none() && pod.spec.full.node_selector.is_none();
        if says_nothing && self.added.is_none() {
            return PreFilter::Skip;
        }
        let only = pod.only_node.as_deref().map(|node| BTreeSet::from([node.as_str()]));
        let nodes = only.or_else(|| affinity.and_then(named_nodes));
        if nodes.as_ref().is_some_and(BTreeSet::is_empty) {
            return PreFilter::Reject(Status::unresolvable(CONFLICT));
        }
        let filter = Filter { added: self.added.clone(), required: Required::of(pod) };
        let nodes = nodes.map(|names| names.into_iter().map(Name::from).collect());
        PreFilter::Filter { nodes, filter: Box::new(filter) }
    }

    fn pre_score(&self, pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let own = affinity(&pod.spec).and_then(|own| own.preferred_during_scheduling_ignored_during_execution.as_ref());
        if own.is_none() && self.added_preferences.is_none() {
            return PreScore::Skip;
        }
        let own = Preferences::compile(own.map(Vec::as_slice).unwrap_or(&[]));
        PreScore::Score(Box::new(Score { added: self.added_preferences.clone(), own }))
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        let Some(node) = &node.node else { return Status::unresolvable(NOT_MATCHED) };
        if self.added.as_ref().is_some_and(|added| !added.matches(node)) {
            return Status::unresolvable(NOT_ENFORCED);
        }
        if self.required.matches(node) { Status::SUCCESS } else { Status::unresolvable(NOT_MATCHED) }
    }
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(node) = &node.node else { return 0 };
        self.own.weigh(node) + self.added.as_ref().map_or(0, |added| added.weigh(node))
    }

    fn normalization(&self) -> Normalization {
        Normalization::Highest
    }
}

impl Required {
    pub(super) fn of(pod: &Pod) -> Self {
        let spec = &pod.spec;
        let labels = spec.full.node_selector.as_ref().filter(|labels| !labels.is_empty());
        let affinity = affinity(spec).and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
        Required {
            labels: labels.map(Selector::from_set),
            affinity: affinity.map(NodeSelector::compile),
            name: pod.only_node.as_deref().cloned(),
        }
    }

    /// True if every node will do.
    pub(super) fn is_nothing(&self) -> bool {
        self.labels.is_none() && self.affinity.is_none() && self.name.is_none()
    }

    pub(super) fn matches(&self, node: &Node) -> bool {
        self.name.as_ref().is_none_or(|name| *name == node.meta.name)
            && self.labels.as_ref().is_none_or(|labels| labels.matches(&node.meta.labels))
            && self.affinity.as_ref().is_none_or(|affinity| affinity.matches(node))
    }
}

impl Preferences {
    fn compile(terms: &[PreferredSchedulingTerm]) -> Self {
        let weighted = terms.iter().filter(|term| term.weight != 0);
        let compiled = weighted.filter_map(|term| Some((Term::compile(&term.preference)?, i64::from(term.weight))));
        Preferences(compiled.collect())
    }

    fn weigh(&self, node: &Node) -> i64 {
        self.0.iter().filter(|(term, _)| term.matches(node)).map(|(_, weight)| weight).sum()
    }
}

fn affinity(spec: &PodSpec) -> Option<&Affinity> {
    spec.full.affinity.as_ref()?.node_affinity.as_ref()
}

/// The nodes that the terms name, if every term does; empty if the terms contradict themselves.
fn named_nodes(selector: &k8s_openapi::api::core::v1::NodeSelector) -> Option<BTreeSet<&str>> {
    let mut all: Option<BTreeSet<&str>> = None;
    for term in &selector.node_selector_terms {
        let fields = term.match_fields.iter().flatten();
        let named = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
        let sets = named.map(|field| field.values.iter().flatten().map(String::as_str).collect::<BTreeSet<&str>>());
        let names = sets.reduce(|left, right| left.intersection(&right).copied().collect())?;
        all.get_or_insert_default().extend(names);
    }
    all
}
