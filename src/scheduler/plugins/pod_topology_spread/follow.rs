//! The same as `filter` and `score` say, kept up with the pods that come and go: counts for each domain of each constraint.

use std::rc::Rc;

use super::super::node_affinity::Required;
use super::constraint::{Constraint, HOSTNAME, default_selector};
use super::filter::{NO_LABEL, TOO_SKEWED};
use super::score::{scaled, weight, worth};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::selector::Selector;
use crate::scheduler::bits::Bits;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Follower, Stance, Status};
use crate::scheduler::groups::Group;
use crate::scheduler::individual;
use crate::scheduler::objects::Objects;
use crate::scheduler::topology::{COARSE, NOWHERE, Topology};

/// A group was asked which constraints count it.
const KNOWN: u64 = 1 << 63;

/// Why a node does not fit: it has no label, or there are too many pods in its domain.
const WITHOUT_LABEL: u8 = 0;
const SKEWED: u8 = 1;
/// It fits.
const FITS: i64 = -1;

/// The node is not scored.
const IGNORED: i64 = 1;

/// The counts of a constraint that must hold.
struct Hard {
    constraint: Constraint,
    topology: Rc<Topology>,
    /// The nodes on which pods count.
    counted: Bits,
    counts: Vec<i32>,
    /// How many of the domains with a node that counts have each count.
    with_count: Vec<u32>,
    /// The smallest count of these domains, and how many of them there are.
    lowest: usize,
    places: usize,
    /// One if the pod itself counts.
    own: i64,
    /// A domain with more pods is full.
    limit: i64,
}

/// The counts of a constraint that should hold.
struct Soft {
    constraint: Constraint,
    topology: Rc<Topology>,
    counted: Bits,
    /// For each domain; for hosts, for each node.
    counts: Vec<i32>,
    /// For each domain, and at the end for nodes without the label, the last look at which there was a feasible node; empty for hosts.
    seen: Vec<u32>,
}

struct Following {
    namespace: Name,
    hard: Vec<Hard>,
    soft: Vec<Soft>,
    /// The nodes that are not scored, if there are any.
    ignored: Option<Bits>,
    /// For each group a bit for each constraint that counts it, and [`KNOWN`].
    meanings: Vec<u64>,
    look: u32,
    /// Moves when what would be on a node may be another, although no pod came to it or left it.
    turn: u32,
    versions: [u64; 3],
    honors_taints: bool,
    /// None for pods with constraints of their own.
    defaults: Option<Defaults>,
}

/// What the default constraints of a pod follow from.
struct Defaults {
    pod: Rc<Pod>,
    selector: Selector,
    /// The version of all Services and owners for which the selector is right.
    version: u64,
}

impl Defaults {
    fn of(pod: &Rc<Pod>, cluster: &Cluster) -> Self {
        let objects = cluster.objects();
        Defaults { pod: pod.clone(), selector: default_selector(pod, objects), version: objects.selectors_version() }
    }

    /// True if the constraints would be the same now.
    fn are_current(&mut self, objects: &Objects) -> bool {
        let version = objects.selectors_version();
        if self.version != version {
            if default_selector(&self.pod, objects) != self.selector {
                return false;
            }
            self.version = version;
        }
        true
    }
}

fn versions(honors_taints: bool, cluster: &Cluster) -> [u64; 3] {
    let taints = if honors_taints { cluster.taints_version() } else { 0 };
    [cluster.labels_version(), cluster.groups().version(), taints]
}

/// What keeps up with all pods that count for pods like this one; none if nodes without a label and such where it is empty would
/// have to be told apart from others together, or there are too many constraints.
pub(super) fn follower(
    hard: Vec<Constraint>,
    soft: Vec<Constraint>,
    requires_all_labels: bool,
    pod: &Rc<Pod>,
    cluster: &Cluster,
) -> Option<Box<dyn Follower>> {
    let is_mixed = |constraint: &Constraint| cluster.topology(&constraint.key).has_empty();
    if hard.len() > 30 || soft.len() > 30 || !requires_all_labels && soft.iter().any(is_mixed) {
        return None;
    }
    let mut all = hard.iter().chain(&soft);
    // Pods of a group are not told apart by such labels.
    if all.clone().any(|constraint| individual::is_told_by(&constraint.selector)) {
        return None;
    }
    let honors_taints = all.any(|constraint| constraint.honors_taints);
    let defaults = super::own_constraints(pod).is_empty().then(|| Defaults::of(pod, cluster));
    let ignored = ignored(&soft, cluster).filter(|_| requires_all_labels);
    let mut following = Following {
        namespace: pod.meta.namespace.clone(),
        hard: hard.iter().map(|constraint| Hard::new(constraint, &hard, pod, cluster)).collect(),
        soft: soft.iter().map(|constraint| Soft::new(constraint, ignored.as_ref(), pod, cluster)).collect(),
        ignored,
        meanings: Vec::new(),
        look: 0,
        turn: 0,
        versions: versions(honors_taints, cluster),
        honors_taints,
        defaults,
    };
    for constraint in hard.iter().chain(&soft) {
        for number in cluster.groups().candidates(&constraint.selector) {
            following.count_all(number, cluster);
        }
    }
    following.hard.iter_mut().for_each(|hard| hard.limit = hard.find_limit());
    Some(Box::new(following))
}

/// The nodes without one of the labels, if there are any.
fn ignored(constraints: &[Constraint], cluster: &Cluster) -> Option<Bits> {
    let mut ignored: Option<Bits> = None;
    for topology in constraints.iter().map(|constraint| cluster.topology(&constraint.key)) {
        if let Some(without) = topology.without() {
            ignored.get_or_insert_with(|| Bits::none(cluster.node_count())).add_all(without);
        }
    }
    ignored
}

/// The nodes on which pods count for a constraint, but for those that are ignored.
fn counted(constraint: &Constraint, ignored: Option<&Bits>, pod: &Pod, cluster: &Cluster) -> Bits {
    let required = Required::of(pod);
    let mut counted = Bits::all(cluster.node_count());
    if !constraint.includes_all(&required) {
        for (place, info) in cluster.nodes().enumerate() {
            let includes = |node| constraint.includes(node, &required, &pod.spec);
            counted.set(place, info.node.as_deref().is_some_and(includes));
        }
    }
    if let Some(ignored) = ignored {
        counted.remove_all(ignored);
    }
    counted
}

impl Following {
    /// Which constraints count pods of a group.
    fn meaning(&mut self, number: usize, group: &Group) -> u64 {
        if self.meanings.len() <= number {
            self.meanings.resize(number + 1, 0);
        }
        if self.meanings[number] == 0 {
            let mut meaning = KNOWN;
            if !group.is_deleting && group.namespace == self.namespace {
                let hard = self.hard.iter().map(|hard| &hard.constraint).zip(0..);
                let soft = self.soft.iter().map(|soft| &soft.constraint).zip(30..);
                let counting = hard.chain(soft).filter(|(constraint, _)| constraint.counts(&group.labels));
                counting.for_each(|(_, bit)| meaning |= 1 << bit);
            }
            self.meanings[number] = meaning;
        }
        self.meanings[number]
    }

    /// Takes in the pods of a group that are there, unless that was done.
    fn count_all(&mut self, number: usize, cluster: &Cluster) {
        let group = &cluster.groups().all()[number];
        if self.known(number).is_none() && self.meaning(number, group) != KNOWN {
            for (slot, count) in group.on() {
                if let Some(place) = cluster.place_of_slot(slot) {
                    self.count(number, place, count as i32);
                }
            }
        }
    }

    fn known(&self, number: usize) -> Option<u64> {
        self.meanings.get(number).copied().filter(|meaning| *meaning != 0)
    }

    /// Takes in that pods of a known group are on a node, without looking at what that means for other nodes.
    fn count(&mut self, number: usize, place: usize, count: i32) {
        let meaning = self.meanings[number];
        for (_, hard) in self.hard.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << bit != 0) {
            hard.add(place, count);
        }
        for (_, soft) in self.soft.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << (bit + 30) != 0) {
            soft.add(place, count);
        }
    }
}

impl Hard {
    fn new(constraint: &Constraint, all: &[Constraint], pod: &Pod, cluster: &Cluster) -> Self {
        let topology = cluster.topology(&constraint.key);
        let counted = counted(constraint, ignored(all, cluster).as_ref(), pod, cluster);
        let is_place = |domain: &usize| topology.places(*domain).iter().any(|place| counted.contains(*place as usize));
        let places = (0..topology.len()).filter(is_place).count();
        Hard {
            counts: vec![0; topology.len()],
            with_count: vec![places as u32],
            lowest: 0,
            places,
            own: i64::from(constraint.selector.matches(&pod.meta.labels)),
            limit: 0,
            constraint: constraint.clone(),
            topology,
            counted,
        }
    }

    /// Takes in that pods came to a node or left it; the domain whose count that changed, and its count before.
    fn add(&mut self, place: usize, count: i32) -> Option<(usize, i32)> {
        if !self.counted.contains(place) {
            return None;
        }
        let domain = self.topology.domain(place) as usize;
        let before = self.counts[domain];
        self.counts[domain] += count;
        let (before_index, after_index) = (before as usize, self.counts[domain] as usize);
        if self.with_count.len() <= after_index {
            self.with_count.resize(after_index + 1, 0);
        }
        self.with_count[before_index] -= 1;
        self.with_count[after_index] += 1;
        self.lowest = self.lowest.min(after_index);
        while self.with_count[self.lowest] == 0 {
            self.lowest += 1;
        }
        Some((domain, before))
    }

    /// The smallest count of a domain, and the smallest of all others.
    fn two_lowest(&self) -> (i64, i64) {
        let lowest = self.lowest;
        let is_alone = self.with_count[lowest] == 1;
        let mut others = self.with_count.iter().enumerate().skip(lowest + usize::from(is_alone));
        let of_others = others.find(|(_, places)| **places > 0).map_or(i64::MAX, |(count, _)| count as i64);
        (lowest as i64, of_others)
    }

    /// The largest count with which a domain still takes a pod. The smallest count of no domain is what the source begins with.
    fn find_limit(&self) -> i64 {
        let lowest = match self.places {
            places if places < self.constraint.min_domains => 0,
            0 => i64::from(i32::MAX),
            _ => self.lowest as i64,
        };
        self.constraint.max_skew + lowest - self.own
    }

    /// Where few domains are told apart, a node's stance is its domain; else it is what comes of that.
    fn is_coarse(&self) -> bool {
        self.topology.len() <= COARSE
    }

    /// Takes in that pods came to a node or left it, and tells of the nodes for which that makes a difference. True if that may be any
    /// were there some pods more or fewer on them.
    fn follow(&mut self, place: usize, count: i32, changed: &mut dyn FnMut(usize)) -> bool {
        let lowest = self.two_lowest();
        let Some((domain, before)) = self.add(place, count) else { return false };
        let turns = self.two_lowest() != lowest || self.topology.places(domain).len() > 1;
        let (old_limit, limit) = (self.limit, self.find_limit());
        self.limit = limit;
        if self.is_coarse() {
            return turns;
        }
        let range = if limit == old_limit { domain..domain + 1 } else { 0..self.topology.len() };
        for other in range {
            let now = i64::from(self.counts[other]);
            let then = if other == domain { i64::from(before) } else { now };
            if (then <= old_limit) != (now <= limit) {
                self.topology.places(other).iter().for_each(|place| changed(*place as usize));
            }
        }
        turns
    }

    /// Why nodes of a domain do not fit.
    fn rejection_in(&self, domain: u32) -> Option<u8> {
        match self.counts.get(domain as usize) {
            None => Some(WITHOUT_LABEL),
            Some(count) => (i64::from(*count) > self.limit).then_some(SKEWED),
        }
    }

    /// Why a node does not fit, were there some pods more that count, or fewer.
    fn rejection_with(&self, place: usize, more: i64) -> Option<u8> {
        let domain = self.topology.domain(place);
        let there = match self.counts.get(domain as usize) {
            Some(count) if more != 0 && self.counted.contains(place) => *count,
            _ => return self.rejection_in(domain),
        };
        let count = i64::from(there) + more;
        // If it is the only one with the fewest pods, another one will be that, or the same one still.
        let (lowest, second) = self.two_lowest();
        let of_others = if i64::from(there) == lowest { second } else { lowest };
        let limit = match self.places < self.constraint.min_domains {
            true => self.limit,
            false => self.constraint.max_skew + of_others.min(count) - self.own,
        };
        (count > limit).then_some(SKEWED)
    }

    fn stance(&self, place: usize) -> i64 {
        let domain = self.topology.domain(place);
        if self.is_coarse() { i64::from(domain) } else { self.rejection_in(domain).map_or(FITS, i64::from) }
    }

    fn rejection(&self, stance: i64) -> Option<u8> {
        if self.is_coarse() { self.rejection_in(stance as u32) } else { (stance != FITS).then_some(stance as u8) }
    }
}

impl Soft {
    fn new(constraint: &Constraint, ignored: Option<&Bits>, pod: &Pod, cluster: &Cluster) -> Self {
        let topology = cluster.topology(&constraint.key);
        let is_host = constraint.key == HOSTNAME;
        let nodes = cluster.node_count();
        Soft {
            counted: if is_host { Bits::all(nodes) } else { counted(constraint, ignored, pod, cluster) },
            counts: vec![0; if is_host { nodes } else { topology.len() }],
            seen: vec![0; if is_host { 0 } else { topology.len() + 1 }],
            constraint: constraint.clone(),
            topology,
        }
    }

    fn is_host(&self) -> bool {
        self.seen.is_empty()
    }

    fn add(&mut self, place: usize, count: i32) {
        let domain = if self.is_host() { place } else { self.topology.domain(place) as usize };
        if self.counted.contains(place)
            && let Some(sum) = self.counts.get_mut(domain)
        {
            *sum += count;
        }
    }

    /// The count of a host, or the domain of a node.
    fn stance(&self, place: usize) -> i64 {
        let domain = self.topology.domain(place);
        if self.is_host() && domain != NOWHERE { i64::from(self.counts[place]) } else { i64::from(domain) }
    }

    /// How much the constraint weighs where so many nodes are scored, of these stances.
    fn weigh(&mut self, scored: usize, stances: impl Iterator<Item = i64>, look: u32) -> f64 {
        if self.is_host() {
            return weight(scored);
        }
        let nowhere = self.counts.len();
        let mut found = 0;
        for domain in stances {
            let seen = &mut self.seen[(domain as usize).min(nowhere)];
            found += usize::from(*seen != look);
            *seen = look;
        }
        weight(found)
    }

    /// What a stance is worth; nothing where the label is missing.
    fn worth(&self, stance: i64, weight: f64) -> Option<f64> {
        let count = match stance {
            stance if stance == i64::from(NOWHERE) => return None,
            count if self.is_host() => count,
            domain => i64::from(self.counts[domain as usize]),
        };
        Some(worth(count, self.constraint.max_skew, weight))
    }
}

impl Follower for Following {
    fn is_current(&mut self, cluster: &Cluster) -> bool {
        self.versions == versions(self.honors_taints, cluster)
            && self.defaults.as_mut().is_none_or(|defaults| defaults.are_current(cluster.objects()))
    }

    fn follow(&mut self, group: u32, place: usize, count: i32, cluster: &Cluster, changed: &mut dyn FnMut(usize)) {
        let number = group as usize;
        let meaning = self.known(number).unwrap_or_else(|| self.meaning(number, &cluster.groups().all()[number]));
        if meaning == KNOWN {
            return;
        }
        for (_, hard) in self.hard.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << bit != 0) {
            self.turn += u32::from(hard.follow(place, count, changed));
        }
        for (_, soft) in self.soft.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << (bit + 30) != 0) {
            soft.add(place, count);
        }
    }

    fn version(&self) -> u32 {
        0
    }

    fn width(&self, is_scored: bool) -> usize {
        self.hard.len() + if is_scored && !self.soft.is_empty() { 1 + self.soft.len() } else { 0 }
    }

    fn stance(&self, place: usize, is_scored: bool, stance: &mut Stance) {
        stance.extend(self.hard.iter().map(|hard| hard.stance(place)));
        if is_scored && !self.soft.is_empty() {
            let is_ignored = self.ignored.as_ref().is_some_and(|ignored| ignored.contains(place));
            stance.push(if is_ignored { IGNORED } else { 0 });
            // What is not scored need not be told apart.
            stance.extend(self.soft.iter().map(|soft| if is_ignored { 0 } else { soft.stance(place) }));
        }
    }

    fn is_filter(&self) -> bool {
        !self.hard.is_empty()
    }

    fn rejection(&self, stance: &[i64]) -> Option<u8> {
        self.hard.iter().zip(stance).find_map(|(hard, stance)| hard.rejection(*stance))
    }

    /// Here pods that are being deleted do count, and so do all for an empty selector, as in the source.
    fn rejection_with(&self, place: usize, added: &[Rc<Pod>], removed: &[Rc<Pod>], _cluster: &Cluster) -> Option<u8> {
        self.hard.iter().find_map(|hard| {
            let selector = &hard.constraint.selector;
            let meant = |pod: &&Rc<Pod>| pod.meta.namespace == self.namespace && selector.matches(&pod.meta.labels);
            let meant = |pods: &[Rc<Pod>]| pods.iter().filter(meant).count() as i64;
            hard.rejection_with(place, meant(added) - meant(removed))
        })
    }

    fn minds(&self, pod: &Pod) -> bool {
        let mut selectors = self.hard.iter().map(|hard| &hard.constraint.selector);
        pod.meta.namespace == self.namespace && selectors.any(|selector| selector.matches(&pod.meta.labels))
    }

    fn turn(&self) -> u32 {
        self.turn
    }

    fn status(&self, rejection: u8) -> Status {
        if rejection == WITHOUT_LABEL { Status::unresolvable(NO_LABEL) } else { Status::unschedulable(TOO_SKEWED) }
    }

    fn score(&mut self, stances: &[(&[i64], usize)], weight: i64, totals: &mut [i64]) {
        if self.is_indifferent() {
            return;
        }
        self.look = self.look.wrapping_add(1).max(1);
        let Following { soft, hard, look, .. } = self;
        let (ignored, first) = (hard.len(), hard.len() + 1);
        let scored = || stances.iter().filter(|(stance, _)| stance[ignored] != IGNORED);
        let nodes = scored().map(|(_, nodes)| nodes).sum();
        let of = |number: usize| scored().map(move |(stance, _)| stance[first + number]);
        let weights = soft.iter_mut().enumerate().map(|(number, soft)| soft.weigh(nodes, of(number), *look));
        let weights: Vec<f64> = weights.collect();
        let raw = |stance: &[i64]| {
            let worths = soft.iter().zip(&stance[first..]).zip(&weights);
            let worths = worths.filter_map(|((soft, stance), weight)| soft.worth(*stance, *weight));
            worths.fold(0.0, |sum, worth| sum + worth).round() as i64
        };
        let raws: Vec<i64> = scored().map(|(stance, _)| raw(stance)).collect();
        let (lowest, highest) =
            (raws.iter().copied().min().unwrap_or(i64::MAX), raws.iter().copied().max().unwrap_or(0));
        let totals = totals.iter_mut().zip(stances).filter(|(_, (stance, _))| stance[ignored] != IGNORED);
        for ((total, _), raw) in totals.zip(raws) {
            *total += weight * scaled(raw, lowest, highest);
        }
    }

    fn is_indifferent(&self) -> bool {
        self.soft.is_empty()
    }
}
