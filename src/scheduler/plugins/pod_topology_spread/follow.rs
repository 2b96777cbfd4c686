//! The same as `filter` and `score` say, kept up with the pods that come and go: counts for each domain of each constraint.

use std::rc::Rc;

use smallvec::SmallVec;

use super::super::node_affinity::Required;
use super::constraint::{Constraint, HOSTNAME, has_all_labels};
use super::filter::{NO_LABEL, TOO_SKEWED};
use super::score::{scaled, weight, worth};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::bits::Bits;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Follower, Status};
use crate::scheduler::groups::Group;
use crate::scheduler::topology::{NOWHERE, Topology};

/// A group was asked which constraints count it.
const KNOWN: u64 = 1 << 63;

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
    admitted: Bits,
}

/// The counts of a constraint that should hold.
struct Soft {
    constraint: Constraint,
    topology: Rc<Topology>,
    counted: Bits,
    /// For each domain; for hosts, for each node.
    counts: Vec<i32>,
    /// The last look at which there was a feasible node in each domain; the last entry stands for nodes without the label.
    seen: Vec<u32>,
    /// What the count of each domain is worth at this look.
    worths: Vec<f64>,
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
    raw: Vec<f64>,
    versions: [u64; 4],
    honors_taints: bool,
    uses_defaults: bool,
}

fn versions(honors_taints: bool, uses_defaults: bool, cluster: &Cluster) -> [u64; 4] {
    let taints = if honors_taints { cluster.taints_version() } else { 0 };
    let selectors = if uses_defaults { cluster.objects().selectors_version() } else { 0 };
    [cluster.labels_version(), cluster.groups().version(), taints, selectors]
}

/// What keeps up with all pods that count for pods like this one; none if nodes without a label and such where it is empty would
/// have to be told apart from others together, or there are too many constraints.
pub(super) fn follower(
    hard: Vec<Constraint>,
    soft: Vec<Constraint>,
    requires_all_labels: bool,
    pod: &Pod,
    cluster: &Cluster,
) -> Option<Box<dyn Follower>> {
    let is_mixed = |constraint: &Constraint| {
        let mut nodes = cluster.nodes().filter_map(|info| info.node.as_ref());
        nodes.any(|node| node.meta.labels.get(&constraint.key).is_some_and(|value| value.is_empty()))
    };
    if hard.len() > 30 || soft.len() > 30 || !requires_all_labels && soft.iter().any(is_mixed) {
        return None;
    }
    let honors_taints = hard.iter().chain(&soft).any(|constraint| constraint.honors_taints);
    let uses_defaults = super::own_constraints(pod).is_empty();
    let ignored = ignored(&soft, cluster).filter(|_| requires_all_labels);
    let mut following = Following {
        namespace: pod.meta.namespace.clone(),
        hard: hard.iter().map(|constraint| Hard::new(constraint, &hard, pod, cluster)).collect(),
        soft: soft.iter().map(|constraint| Soft::new(constraint, ignored.as_ref(), pod, cluster)).collect(),
        ignored,
        meanings: Vec::new(),
        look: 0,
        raw: Vec::new(),
        versions: versions(honors_taints, uses_defaults, cluster),
        honors_taints,
        uses_defaults,
    };
    for (number, group) in cluster.groups().all().iter().enumerate() {
        if following.meaning(number, group) != KNOWN {
            for (slot, count) in group.on() {
                if let Some(place) = cluster.place_of_slot(slot) {
                    following.count(number, place, count as i32);
                }
            }
        }
    }
    following.hard.iter_mut().for_each(Hard::admit);
    Some(Box::new(following))
}

/// The nodes without one of the labels, if there are any.
fn ignored(constraints: &[Constraint], cluster: &Cluster) -> Option<Bits> {
    let mut ignored = Bits::none(cluster.node_count());
    let mut any = false;
    for (place, info) in cluster.nodes().enumerate() {
        if !info.node.as_ref().is_some_and(|node| has_all_labels(&node.meta.labels, constraints)) {
            ignored.set(place, true);
            any = true;
        }
    }
    any.then_some(ignored)
}

/// The nodes on which pods count for a constraint.
fn counted(constraint: &Constraint, pod: &Pod, cluster: &Cluster, is_out: impl Fn(usize) -> bool) -> Bits {
    let required = Required::of(pod);
    let mut counted = Bits::none(cluster.node_count());
    for (place, info) in cluster.nodes().enumerate() {
        let includes = info.node.as_ref().is_some_and(|node| constraint.includes(node, &required, &pod.spec));
        counted.set(place, includes && !is_out(place));
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
        let without_label = ignored(all, cluster);
        let is_out = |place: usize| without_label.as_ref().is_some_and(|ignored| ignored.contains(place));
        let counted = counted(constraint, pod, cluster, is_out);
        let is_place = |domain: &usize| topology.places(*domain).iter().any(|place| counted.contains(*place as usize));
        let places = (0..topology.len()).filter(is_place).count();
        Hard {
            counts: vec![0; topology.len()],
            with_count: vec![places as u32],
            lowest: 0,
            places,
            own: i64::from(constraint.selector.matches(&pod.meta.labels)),
            limit: 0,
            admitted: Bits::none(cluster.node_count()),
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

    /// The largest count with which a domain still takes a pod. The smallest count of no domain is what the source begins with.
    fn find_limit(&self) -> i64 {
        let lowest = match self.places {
            places if places < self.constraint.min_domains => 0,
            0 => i64::from(i32::MAX),
            _ => self.lowest as i64,
        };
        self.constraint.max_skew + lowest - self.own
    }

    /// Admits all nodes whose domain takes a pod, and no others.
    fn admit(&mut self) {
        self.limit = self.find_limit();
        for domain in 0..self.topology.len() {
            self.topology.set(&mut self.admitted, domain, i64::from(self.counts[domain]) <= self.limit);
        }
    }

    /// Admits and refuses those nodes for which a changed count makes a difference.
    fn follow(&mut self, place: usize, count: i32) {
        let Some((changed, before)) = self.add(place, count) else { return };
        let (old_limit, limit) = (self.limit, self.find_limit());
        self.limit = limit;
        let range = if limit == old_limit { changed..changed + 1 } else { 0..self.topology.len() };
        for domain in range {
            let now = i64::from(self.counts[domain]);
            let then = if domain == changed { i64::from(before) } else { now };
            if (then <= old_limit) != (now <= limit) {
                self.topology.set(&mut self.admitted, domain, now <= limit);
            }
        }
    }
}

impl Soft {
    fn new(constraint: &Constraint, ignored: Option<&Bits>, pod: &Pod, cluster: &Cluster) -> Self {
        let topology = cluster.topology(&constraint.key);
        let is_host = constraint.key == HOSTNAME;
        let nodes = cluster.node_count();
        let is_out = |place: usize| ignored.is_some_and(|ignored| ignored.contains(place));
        Soft {
            counted: if is_host { Bits::all(nodes) } else { counted(constraint, pod, cluster, is_out) },
            counts: vec![0; if is_host { nodes } else { topology.len() }],
            seen: vec![0; if is_host { 0 } else { topology.len() + 1 }],
            worths: vec![0.0; if is_host { 0 } else { topology.len() + 1 }],
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

    /// Adds what the counts are worth to the raw scores of nodes; `scored` of them are not ignored.
    fn score(&mut self, feasible: &[u32], scored: usize, look: u32, ignored: Option<&Bits>, raw: &mut [f64]) {
        let is_ignored = |place: usize| ignored.is_some_and(|ignored| ignored.contains(place));
        let (domains, skew) = (self.topology.domains(), self.constraint.max_skew);
        if self.is_host() {
            let weight = weight(scored);
            for (raw, place) in raw.iter_mut().zip(feasible) {
                if domains[*place as usize] != NOWHERE {
                    *raw += worth(i64::from(self.counts[*place as usize]), skew, weight);
                }
            }
            return;
        }
        let nowhere = self.counts.len();
        let mut found = 0;
        for place in feasible.iter().filter(|place| !is_ignored(**place as usize)) {
            let seen = &mut self.seen[(domains[*place as usize] as usize).min(nowhere)];
            found += usize::from(*seen != look);
            *seen = look;
        }
        let weight = weight(found);
        for (domain, count) in self.counts.iter().enumerate().filter(|(domain, _)| self.seen[*domain] == look) {
            self.worths[domain] = worth(i64::from(*count), skew, weight);
        }
        for (raw, place) in raw.iter_mut().zip(feasible) {
            *raw += self.worths[(domains[*place as usize] as usize).min(nowhere)];
        }
    }
}

impl Follower for Following {
    fn is_current(&self, cluster: &Cluster) -> bool {
        self.versions == versions(self.honors_taints, self.uses_defaults, cluster)
    }

    fn follow(&mut self, group: u32, place: usize, count: i32, cluster: &Cluster) {
        let number = group as usize;
        let known = self.meanings.get(number).copied().filter(|meaning| *meaning != 0);
        let meaning = known.unwrap_or_else(|| self.meaning(number, &cluster.groups().all()[number]));
        if meaning == KNOWN {
            return;
        }
        for (_, hard) in self.hard.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << bit != 0) {
            hard.follow(place, count);
        }
        for (_, soft) in self.soft.iter_mut().enumerate().filter(|(bit, _)| meaning & 1 << (bit + 30) != 0) {
            soft.add(place, count);
        }
    }

    fn masks(&self) -> SmallVec<[&Bits; 4]> {
        self.hard.iter().map(|hard| &hard.admitted).collect()
    }

    fn rejection(&self, place: usize) -> Option<u8> {
        let refusing = self.hard.iter().find(|hard| !hard.admitted.contains(place))?;
        Some(u8::from(refusing.topology.domain(place) != NOWHERE))
    }

    fn status(&self, rejection: u8) -> Status {
        if rejection == 0 { Status::unresolvable(NO_LABEL) } else { Status::unschedulable(TOO_SKEWED) }
    }

    fn score(&mut self, feasible: &[u32], weight: i64, totals: &mut [i64]) {
        if self.is_indifferent() {
            return;
        }
        self.look = self.look.wrapping_add(1).max(1);
        let Following { ignored, soft, raw, look, .. } = self;
        let is_ignored = |place: &u32| ignored.as_ref().is_some_and(|ignored| ignored.contains(*place as usize));
        let scored = feasible.len() - feasible.iter().filter(|place| is_ignored(place)).count();
        raw.clear();
        raw.resize(feasible.len(), 0.0);
        soft.iter_mut().for_each(|soft| soft.score(feasible, scored, *look, ignored.as_ref(), raw));
        let scored = || feasible.iter().zip(raw.iter()).filter(|(place, _)| !is_ignored(place));
        let rounded = || scored().map(|(_, raw)| raw.round() as i64);
        let (lowest, highest) = (rounded().min().unwrap_or(i64::MAX), rounded().max().unwrap_or(0));
        for ((place, raw), total) in feasible.iter().zip(raw.iter()).zip(totals) {
            if !is_ignored(place) {
                *total += weight * scaled(raw.round() as i64, lowest, highest);
            }
        }
    }

    fn is_indifferent(&self) -> bool {
        self.soft.is_empty()
    }
}
