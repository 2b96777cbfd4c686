//! The same as `filter` and `score` say, kept up with the pods that come and go: sums for each domain of each label.

use std::rc::Rc;

use super::filter::{AFFINITY, ANTI_AFFINITY, EXISTING};
use super::score::{range, scaled, wishes_of_existing, wishes_of_incoming};
use super::{Incoming, InterPodAffinity};
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Follower, Stance, Status};
use crate::scheduler::groups::Group;
use crate::scheduler::node_info::has_affinity;
use crate::scheduler::terms::{Terms, all_match};
use crate::scheduler::topology::{COARSE, NOWHERE, Topology};

/// What sums are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// There must be pods that the pod wants to be near.
    Near,
    /// There must be no pods that it wants to be far from.
    Far,
    /// There must be no pods that want to be far from it.
    Unwanted,
    /// The more the better.
    Wish,
}

/// Sums for each domain of a label.
struct Table {
    rule: Rule,
    topology: Rc<Topology>,
    sums: Vec<i64>,
}

/// What one pod of a group adds to the tables.
type Meaning = Box<[(u16, i64)]>;

struct Following {
    plugin: InterPodAffinity,
    incoming: Incoming,
    tables: Vec<Table>,
    /// What pods of each group mean, by the group's number; none while it was not asked.
    meanings: Vec<Option<Meaning>>,
    /// The sum over all tables of pods to be near. While it is zero, the first of its kind may go anywhere.
    near: i64,
    is_first_of_kind: bool,
    /// The sum over all tables of pods that do not want the pod near.
    unwanted: i64,
    /// How many wishes there are.
    wishes: i64,
    /// Moves with the number of tables, and when all nodes become too far from pods to be near, or none.
    version: u32,
    /// Moves when what would be on a node may be another, although no pod came to it or left it.
    turn: u32,
    versions: [u64; 3],
}

fn versions(cluster: &Cluster) -> [u64; 3] {
    [cluster.labels_version(), cluster.groups().version(), cluster.objects().namespaces_version()]
}

/// What keeps up with all pods that mean something to pods like the one that comes; none if single pods would have to be told
/// apart.
pub(super) fn follower(plugin: InterPodAffinity, incoming: Incoming, cluster: &Cluster) -> Option<Box<dyn Follower>> {
    let terms = &incoming.terms;
    if terms.tell_individuals() {
        return None;
    }
    let is_first_of_kind = all_match(&terms.required_affinity, &incoming.namespace, &incoming.labels);
    let mut following = Following {
        plugin,
        tables: Vec::new(),
        meanings: Vec::new(),
        near: 0,
        is_first_of_kind,
        unwanted: 0,
        wishes: 0,
        version: 0,
        turn: 0,
        versions: versions(cluster),
        incoming,
    };
    let own = &following.incoming.terms;
    let near = own.required_affinity.iter().map(|term| (Rule::Near, term.topology_key.clone()));
    let far = own.required_anti_affinity.iter().map(|term| (Rule::Far, term.topology_key.clone()));
    for (rule, key) in near.chain(far).collect::<Vec<_>>() {
        following.table(rule, &key, cluster);
    }
    let groups = cluster.groups();
    if following.wants_nothing() {
        groups.with_terms().for_each(|number| following.count(number, cluster));
    } else {
        (0..groups.all().len()).for_each(|number| following.count(number, cluster));
    }
    Some(Box::new(following))
}

impl Following {
    /// True if the pod that comes has no terms: pods without terms mean nothing to it.
    fn wants_nothing(&self) -> bool {
        self.incoming.terms.is_empty()
    }

    /// Takes in the pods of a group that are there.
    fn count(&mut self, number: usize, cluster: &Cluster) {
        let group = &cluster.groups().all()[number];
        let meaning = self.meaning(group, cluster);
        if !meaning.is_empty() {
            for (slot, count) in group.on() {
                if let Some(place) = cluster.place_of_slot(slot) {
                    self.add(&meaning, place, i64::from(count), &mut |_| {});
                }
            }
        }
        self.keep(number, meaning);
    }

    fn keep(&mut self, number: usize, meaning: Meaning) {
        if self.meanings.len() <= number {
            self.meanings.resize(number + 1, None);
        }
        self.meanings[number] = Some(meaning);
    }

    /// The table for a rule and a label, made if there is none.
    fn table(&mut self, rule: Rule, key: &Name, cluster: &Cluster) -> u16 {
        let known = self.tables.iter().position(|table| table.rule == rule && table.topology.key == *key);
        let number = known.unwrap_or_else(|| {
            let topology = cluster.topology(key);
            let sums = vec![0; topology.len()];
            self.tables.push(Table { rule, topology, sums });
            self.version += 1;
            self.tables.len() - 1
        });
        number as u16
    }

    fn meaning(&mut self, group: &Group, cluster: &Cluster) -> Meaning {
        let (namespace, labels) = (&group.namespace, &group.labels);
        let incoming = &self.incoming;
        let mut wanted = self.required(namespace, labels, group.terms.as_ref());
        let own_matter = !self.plugin.ignore_preferred_terms_of_existing_pods || incoming.prefers();
        let mut wish = |key: &Name, weight: i64| wanted.push((Rule::Wish, key.clone(), weight));
        if own_matter {
            wishes_of_incoming(incoming, namespace, labels, &mut wish);
        }
        if let Some(terms) = group.terms.as_ref().filter(|_| own_matter) {
            wishes_of_existing(incoming, terms, self.plugin.hard_pod_affinity_weight, &mut wish);
        }
        wanted.into_iter().map(|(rule, key, weight)| (self.table(rule, &key, cluster), weight)).collect()
    }

    /// What a pod of a namespace with these labels and terms means to the rules that must be kept.
    fn required(&self, namespace: &Name, labels: &Labels, terms: Option<&Terms>) -> Vec<(Rule, Name, i64)> {
        let (incoming, own) = (&self.incoming, &self.incoming.terms);
        let mut wanted: Vec<(Rule, Name, i64)> = Vec::new();
        if all_match(&own.required_affinity, namespace, labels) {
            wanted.extend(own.required_affinity.iter().map(|term| (Rule::Near, term.topology_key.clone(), 1)));
        }
        let far = own.required_anti_affinity.iter();
        let far = far.filter(|term| term.matches(namespace, labels, &Labels::NONE));
        wanted.extend(far.map(|term| (Rule::Far, term.topology_key.clone(), 1)));
        let against = terms.iter().flat_map(|terms| &terms.required_anti_affinity);
        let against =
            against.filter(|term| term.matches(&incoming.namespace, &incoming.labels, &incoming.namespace_labels));
        wanted.extend(against.map(|term| (Rule::Unwanted, term.topology_key.clone(), 1)));
        wanted
    }

    /// Takes in that `count` pods with a meaning are on a node, or no longer are, and tells of the nodes for which that makes a
    /// difference.
    fn add(&mut self, meaning: &[(u16, i64)], place: usize, count: i64, changed: &mut dyn FnMut(usize)) {
        let (had_near, had_unwanted) = (self.near != 0, self.unwanted != 0);
        for (number, weight) in meaning {
            let table = &mut self.tables[usize::from(*number)];
            let domain = table.topology.domain(place);
            if domain == NOWHERE {
                continue;
            }
            let sum = &mut table.sums[domain as usize];
            let before = *sum;
            *sum += weight * count;
            let differs = match table.rule {
                Rule::Wish => *sum != before,
                Rule::Near | Rule::Far | Rule::Unwanted => (*sum > 0) != (before > 0),
            };
            if table.rule != Rule::Wish && table.topology.places(domain as usize).len() > 1 {
                self.turn += 1;
            }
            match table.rule {
                Rule::Wish => self.wishes += count,
                Rule::Near => self.near += weight * count,
                Rule::Unwanted => self.unwanted += weight * count,
                Rule::Far => {}
            }
            if differs && !table.is_coarse() {
                table.topology.places(domain as usize).iter().for_each(|place| changed(*place as usize));
            }
        }
        if (had_near, had_unwanted) != (self.near != 0, self.unwanted != 0) {
            self.turn += 1;
        }
        let is_fine = |table: &Table| table.rule == Rule::Near && !table.is_coarse();
        if self.is_first_of_kind && had_near != (self.near != 0) && self.tables.iter().any(is_fine) {
            self.version += 1;
        }
    }

    /// True while the first of its kind may go anywhere.
    fn is_near_everywhere(&self) -> bool {
        self.near == 0 && self.is_first_of_kind
    }

    /// True if a rule admits nodes of a domain.
    fn admits(&self, table: &Table, domain: u32) -> bool {
        let sum = table.sums.get(domain as usize);
        match table.rule {
            Rule::Near => sum.is_some_and(|sum| *sum > 0 || self.is_near_everywhere()),
            Rule::Far | Rule::Unwanted => sum.is_none_or(|sum| *sum <= 0),
            Rule::Wish => true,
        }
    }

    /// The tables that a stance is about.
    fn told(&self, is_scored: bool) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |table| is_scored || table.rule != Rule::Wish)
    }
}

impl Table {
    /// Where few domains are told apart, a node's stance is its domain; else it is what comes of that.
    fn is_coarse(&self) -> bool {
        self.topology.len() <= COARSE
    }

    fn sum(&self, domain: u32) -> i64 {
        self.sums.get(domain as usize).copied().unwrap_or(0)
    }
}

impl Follower for Following {
    fn is_current(&mut self, cluster: &Cluster) -> bool {
        self.versions == versions(cluster)
    }

    fn follow(&mut self, group: u32, place: usize, count: i32, cluster: &Cluster, changed: &mut dyn FnMut(usize)) {
        let number = group as usize;
        let of = &cluster.groups().all()[number];
        if of.terms.is_none() && self.wants_nothing() {
            return;
        }
        let known = self.meanings.get_mut(number).and_then(Option::take);
        let meaning = known.unwrap_or_else(|| self.meaning(of, cluster));
        if !meaning.is_empty() {
            self.add(&meaning, place, i64::from(count), changed);
        }
        self.keep(number, meaning);
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn width(&self, is_scored: bool) -> usize {
        self.told(is_scored).count()
    }

    fn stance(&self, place: usize, is_scored: bool, stance: &mut Stance) {
        stance.extend(self.told(is_scored).map(|table| {
            let domain = table.topology.domain(place);
            match table.rule {
                _ if table.is_coarse() => i64::from(domain),
                Rule::Wish => table.sum(domain),
                Rule::Near | Rule::Far | Rule::Unwanted => i64::from(self.admits(table, domain)),
            }
        }));
    }

    fn is_filter(&self) -> bool {
        self.told(false).next().is_some()
    }

    /// Rules are looked at in their order (kube-scheduler, `Filter`).
    fn rejection(&self, stance: &[i64]) -> Option<u8> {
        // With more numbers than there are rules that reject, those for wishes are among them.
        let told = self.told(stance.len() > self.width(false)).zip(stance);
        let refusing = told.filter(|(table, stance)| match table.rule {
            Rule::Wish => false,
            _ if table.is_coarse() => !self.admits(table, **stance as u32),
            Rule::Near | Rule::Far | Rule::Unwanted => **stance == 0,
        });
        refusing.map(|(table, _)| table.rule as u8).min()
    }

    fn minds(&self, pod: &Pod) -> bool {
        let terms = has_affinity(&pod.spec).then(|| Terms::compile(&pod.spec, &pod.meta.namespace));
        !self.required(&pod.meta.namespace, &pod.meta.labels, terms.as_ref()).is_empty()
    }

    fn turn(&self) -> u32 {
        self.turn
    }

    fn rejection_with(&self, place: usize, added: &[Rc<Pod>], removed: &[Rc<Pod>], cluster: &Cluster) -> Option<u8> {
        let own = &self.incoming.terms;
        // Without anything to look at PreFilter says Skip, and nobody is asked about more pods.
        if self.unwanted == 0 && own.required_affinity.is_empty() && own.required_anti_affinity.is_empty() {
            return None;
        }
        let node = cluster.at(place).node.as_ref();
        let has_label = |key: &Name| node.is_some_and(|node| node.meta.labels.get(key).is_some());
        let changed = added.iter().map(|pod| (pod, 1)).chain(removed.iter().map(|pod| (pod, -1)));
        let more = changed.flat_map(|(pod, count)| {
            let terms = has_affinity(&pod.spec).then(|| Terms::compile(&pod.spec, &pod.meta.namespace));
            let meaning = self.required(&pod.meta.namespace, &pod.meta.labels, terms.as_ref());
            meaning.into_iter().map(move |(rule, key, weight)| (rule, key, weight * count))
        });
        let more: Vec<(Rule, Name, i64)> = more.filter(|(_, key, _)| has_label(key)).collect();
        let sum = |rule: Rule, key: &Name| {
            let known = self.tables.iter().find(|table| table.rule == rule && table.topology.key == *key);
            let there = known.map_or(0, |table| table.sum(table.topology.domain(place)));
            there + more.iter().filter(|(of, on, _)| *of == rule && on == key).map(|(.., count)| count).sum::<i64>()
        };
        let of_near = more.iter().filter(|(rule, ..)| *rule == Rule::Near).map(|(.., count)| count);
        let is_first = self.is_first_of_kind && self.near + of_near.sum::<i64>() == 0;
        let near = |key: &Name| has_label(key) && (is_first || sum(Rule::Near, key) > 0);
        if !own.required_affinity.iter().all(|term| near(&term.topology_key)) {
            return Some(Rule::Near as u8);
        }
        if own.required_anti_affinity.iter().any(|term| sum(Rule::Far, &term.topology_key) > 0) {
            return Some(Rule::Far as u8);
        }
        let tables = self.tables.iter().filter(|table| table.rule == Rule::Unwanted).map(|table| &table.topology.key);
        let new = more.iter().filter(|(rule, ..)| *rule == Rule::Unwanted).map(|(_, key, _)| key);
        tables.chain(new).any(|key| sum(Rule::Unwanted, key) > 0).then_some(Rule::Unwanted as u8)
    }

    fn status(&self, rejection: u8) -> Status {
        match rejection {
            0 => Status::unresolvable(AFFINITY),
            1 => Status::unschedulable(ANTI_AFFINITY),
            _ => Status::unschedulable(EXISTING),
        }
    }

    fn score(&mut self, stances: &[(&[i64], usize)], weight: i64, totals: &mut [i64]) {
        if self.is_indifferent() {
            return;
        }
        let raw = |stance: &[i64]| {
            let wishes = self.tables.iter().zip(stance).filter(|(table, _)| table.rule == Rule::Wish);
            let worth =
                |(table, stance): (&Table, &i64)| if table.is_coarse() { table.sum(*stance as u32) } else { *stance };
            wishes.map(worth).sum::<i64>()
        };
        let raws: Vec<i64> = stances.iter().map(|(stance, _)| raw(stance)).collect();
        let (lowest, highest) = range(raws.iter().copied());
        for (total, raw) in totals.iter_mut().zip(raws) {
            *total += weight * scaled(raw, lowest, highest);
        }
    }

    fn is_indifferent(&self) -> bool {
        self.wishes == 0
    }
}
