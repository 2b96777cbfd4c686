//! What is known of the nodes of each DaemonSet: kept from one look to the next, so that a look costs what has changed.
//!
//! A node at which all is as it should be is only counted: it has one pod, of the present template and available, or is to
//! have none and has none. All others are open, and looked at each time. What has changed since the last look is in the cache's
//! journal; after a change of the DaemonSet itself, or a gap in the journal, everything is judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::meta::{Timestamp, Uid};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::{Pod, PodTemplate};
use crate::api::workload::DaemonSet;
use crate::client::view::View;
use crate::engine::hash::{Map, Set};

use super::super::history::REVISION_LABEL;
use super::nodes::{Eligibility, Standing};
use super::rolling;

/// The surveys of all DaemonSets. Lost with the process, and then made anew.
#[derive(Default)]
pub(super) struct Surveys {
    by_set: Map<Uid, Survey>,
}

/// What is known of the nodes of one DaemonSet.
struct Survey {
    terms: Terms,
    eligibility: Eligibility,
    /// Up to this time of the cache's clock; none if nothing is known yet.
    clock: Option<u64>,
    settled: Set<Name>,
    open: BTreeMap<Name, Standing>,
}

/// What nodes and pods were judged by.
struct Terms {
    template: Rc<PodTemplate>,
    generation: Option<Name>,
    min_ready_seconds: i32,
    hash: Name,
}

impl Terms {
    fn of(set: &DaemonSet, hash: &Name) -> Terms {
        Terms {
            template: set.template.clone(),
            generation: rolling::template_generation(set).cloned(),
            min_ready_seconds: set.min_ready_seconds,
            hash: hash.clone(),
        }
    }

    fn still_hold(&self, set: &DaemonSet, hash: &Name) -> bool {
        Rc::ptr_eq(&self.template, &set.template)
            && self.generation.as_ref() == rolling::template_generation(set)
            && self.min_ready_seconds == set.min_ready_seconds
            && self.hash == *hash
    }
}

/// What one look at a DaemonSet's nodes and pods has shown.
pub(super) struct Seen {
    /// The open nodes, by name.
    pub open: Vec<(Name, Standing)>,
    /// How many nodes have the one pod that they should have, new and available.
    pub settled: usize,
    /// The pods at open nodes and of no node that are the set's, or nobody's and selected by it; by name, those first.
    pub kin: Vec<Rc<Pod>>,
}

impl Surveys {
    /// Looks at the nodes and pods of a DaemonSet.
    pub fn look(&mut self, view: &View<'_>, set: &DaemonSet, hash: &Name, today: Timestamp) -> Seen {
        let survey = self.by_set.entry(set.meta.uid).or_insert_with(|| Survey::beginning(set, hash));
        survey.catch_up(view, set, hash, today);
        let orphans = view.orphans::<Pod>(&set.meta.namespace);
        let orphans: Vec<Rc<Pod>> = orphans.filter(|pod| set.selector.matches(&pod.meta.labels)).cloned().collect();
        // Where one is adopted there may be more than one.
        orphans.iter().filter_map(|pod| pod.place()).for_each(|node| survey.open(view, node));
        let at_open = survey.open.keys().flat_map(|node| view.daemon_pods_at(set.meta.uid, node));
        let mut kin: Vec<Rc<Pod>> = at_open.chain(view.daemon_pods_adrift(set.meta.uid)).cloned().collect();
        kin.sort_by(|left, right| left.meta.name.cmp(&right.meta.name));
        kin.extend(orphans);
        let open = survey.open.iter().map(|(name, standing)| (name.clone(), *standing)).collect();
        Seen { open, settled: survey.settled.len(), kin }
    }

    /// A DaemonSet is gone.
    pub fn forget(&mut self, set: Uid) {
        self.by_set.remove(&set);
    }
}

impl Survey {
    /// Nothing is known yet.
    fn beginning(set: &DaemonSet, hash: &Name) -> Survey {
        Survey {
            terms: Terms::of(set, hash),
            eligibility: Eligibility::of(set),
            clock: None,
            settled: Set::default(),
            open: BTreeMap::new(),
        }
    }

    fn catch_up(&mut self, view: &View<'_>, set: &DaemonSet, hash: &Name, today: Timestamp) {
        let holds = self.terms.still_hold(set, hash);
        let changed = self.clock.and_then(|clock| view.daemon_changes(set.meta.uid, clock)).filter(|_| holds);
        let stale: BTreeSet<Name> = match changed {
            // Pods become available by the passing of time alone.
            Some(changed) if set.min_ready_seconds > 0 => {
                let changed: BTreeSet<Name> = changed.cloned().collect();
                changed.into_iter().chain(self.open.keys().cloned()).collect()
            }
            Some(changed) => changed.cloned().collect(),
            None => {
                *self = Survey::beginning(set, hash);
                let nodes = view.list::<Node>().map(|node| &node.meta.name);
                nodes.chain(view.daemon_places(set.meta.uid)).cloned().collect()
            }
        };
        self.clock = Some(view.daemon_clock());
        for node in stale {
            self.judge(view, set, node, today);
        }
    }

    /// Judges a node anew.
    fn judge(&mut self, view: &View<'_>, set: &DaemonSet, node: Name, today: Timestamp) {
        let standing = self.standing(view, &node);
        let pods = view.daemon_pods_at(set.meta.uid, &node);
        let is_idle = !standing.should_run && pods.is_empty();
        let is_settled = standing.should_run && matches!(*pods, [pod] if is_settled(set, &self.terms.hash, pod, today));
        if is_settled || is_idle {
            self.open.remove(&node);
        } else {
            self.open.insert(node.clone(), standing);
        }
        if is_settled {
            self.settled.insert(node)
        } else {
            self.settled.remove(&node)
        };
    }

    /// Looks at a node again at which all seemed to be as it should.
    fn open(&mut self, view: &View<'_>, node: &Name) {
        if !self.open.contains_key(node) {
            self.settled.remove(node);
            self.open.insert(node.clone(), self.standing(view, node));
        }
    }

    fn standing(&self, view: &View<'_>, node: &Name) -> Standing {
        match view.get::<Node>("", node) {
            Some(node) => {
                let (should_run, should_continue) = self.eligibility.of_node(node);
                Standing { exists: true, should_run, should_continue }
            }
            None => Standing { exists: false, should_run: false, should_continue: false },
        }
    }
}

/// Whether there is nothing to be done about the only pod of a node that is to have one, and all counts count it.
fn is_settled(set: &DaemonSet, hash: &Name, pod: &Pod, today: Timestamp) -> bool {
    !pod.meta.is_deleting()
        && !pod.is_terminal()
        && !hash.is_empty()
        && pod.meta.labels.get(&REVISION_LABEL) == Some(hash)
        && set.selector.matches(&pod.meta.labels)
        && pod.is_available(set.min_ready_seconds, today)
}
