//! The same as `filter` and `score` say, kept up with the pods that come and go: sums for each domain of each label.

use std::rc::Rc;

use smallvec::SmallVec;

use super::filter::{AFFINITY, ANTI_AFFINITY, EXISTING};
use super::score::{range, scaled, wishes_of_existing, wishes_of_incoming};
use super::{Incoming, InterPodAffinity};
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::scheduler::bits::Bits;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Follower, Status};
use crate::scheduler::groups::Group;
use crate::scheduler::terms::all_match;
use crate::scheduler::topology::{NOWHERE, Topology};

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
    /// The nodes that the rule admits; for wishes all.
    admitted: Bits,
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
    /// How many wishes there are.
    wishes: i64,
    raw: Vec<i64>,
    versions: [u64; 3],
}

fn versions(cluster: &Cluster) -> [u64; 3] {
    [cluster.labels_version(), cluster.groups().version(), cluster.objects().namespaces_version()]
}

/// What keeps up with all pods that mean something to pods like the one that comes.
pub(super) fn follower(plugin: InterPodAffinity, incoming: Incoming, cluster: &Cluster) -> Box<dyn Follower> {
    let terms = &incoming.terms;
    let is_first_of_kind = all_match(&terms.required_affinity, &incoming.namespace, &incoming.labels);
    let mut following = Following {
        plugin,
        tables: Vec::new(),
        meanings: Vec::new(),
        near: 0,
        is_first_of_kind,
        wishes: 0,
        raw: Vec::new(),
        versions: versions(cluster),
        incoming,
    };
    let own = &following.incoming.terms;
    let near = own.required_affinity.iter().map(|term| (Rule::Near, term.topology_key.clone()));
    let far = own.required_anti_affinity.iter().map(|term| (Rule::Far, term.topology_key.clone()));
    for (rule, key) in near.chain(far).collect::<Vec<_>>() {
        following.table(rule, &key, cluster);
    }
    for (number, group) in cluster.groups().all().iter().enumerate() {
        let meaning = following.meaning(group, cluster);
        for (slot, count) in group.on().filter(|_| !meaning.is_empty()) {
            if let Some(place) = cluster.place_of_slot(slot) {
                following.add(&meaning, place, i64::from(count));
            }
        }
        following.meanings.resize(number, None);
        following.meanings.push(Some(meaning));
    }
    Box::new(following)
}

impl Following {
    /// The table for a rule and a label, made if there is none.
    fn table(&mut self, rule: Rule, key: &Name, cluster: &Cluster) -> u16 {
        let known = self.tables.iter().position(|table| table.rule == rule && table.topology.key == *key);
        let number = known.unwrap_or_else(|| {
            let topology = cluster.topology(key);
            let sums = vec![0; topology.len()];
            let mut table = Table { rule, topology, sums, admitted: Bits::all(cluster.node_count()) };
            if rule == Rule::Near {
                table.admit_near(self.near == 0 && self.is_first_of_kind);
            }
            self.tables.push(table);
            self.tables.len() - 1
        });
        number as u16
    }

    fn meaning(&mut self, group: &Group, cluster: &Cluster) -> Meaning {
        let (namespace, labels) = (&group.namespace, &group.labels);
        let (incoming, own) = (&self.incoming, &self.incoming.terms);
        let mut wanted: Vec<(Rule, Name, i64)> = Vec::new();
        if all_match(&own.required_affinity, namespace, labels) {
            wanted.extend(own.required_affinity.iter().map(|term| (Rule::Near, term.topology_key.clone(), 1)));
        }
        let far = own.required_anti_affinity.iter();
        let far = far.filter(|term| term.matches(namespace, labels, &Labels::NONE));
        wanted.extend(far.map(|term| (Rule::Far, term.topology_key.clone(), 1)));
        let own_matter = !self.plugin.ignore_preferred_terms_of_existing_pods || incoming.prefers();
        let mut wish = |key: &Name, weight: i64| wanted.push((Rule::Wish, key.clone(), weight));
        if own_matter {
            wishes_of_incoming(incoming, namespace, labels, &mut wish);
        }
        if let Some(terms) = &group.terms {
            if own_matter {
                wishes_of_existing(incoming, terms, self.plugin.hard_pod_affinity_weight, &mut wish);
            }
            let against = terms.required_anti_affinity.iter();
            let against =
                against.filter(|term| term.matches(&incoming.namespace, &incoming.labels, &incoming.namespace_labels));
            wanted.extend(against.map(|term| (Rule::Unwanted, term.topology_key.clone(), 1)));
        }
        wanted.into_iter().map(|(rule, key, weight)| (self.table(rule, &key, cluster), weight)).collect()
    }

    /// Takes in that `count` pods with a meaning are on a node, or no longer are.
    fn add(&mut self, meaning: &[(u16, i64)], place: usize, count: i64) {
        let had_near = self.near != 0;
        for (number, weight) in meaning {
            let table = &mut self.tables[usize::from(*number)];
            let domain = table.topology.domain(place);
            if domain == NOWHERE {
                continue;
            }
            let sum = &mut table.sums[domain as usize];
            let before = *sum;
            *sum += weight * count;
            let (was, is) = (before > 0, *sum > 0);
            match table.rule {
                Rule::Wish => self.wishes += count,
                Rule::Near => self.near += weight * count,
                Rule::Far | Rule::Unwanted => {}
            }
            if was != is && table.rule != Rule::Wish {
                table.topology.set(&mut table.admitted, domain as usize, is == (table.rule == Rule::Near));
            }
        }
        let has_near = self.near != 0;
        if self.is_first_of_kind && had_near != has_near {
            let near = self.tables.iter_mut().filter(|table| table.rule == Rule::Near);
            near.for_each(|table| table.admit_near(!has_near));
        }
    }

    /// The raw scores of nodes, put into `self.raw`.
    fn score_raw(&mut self, feasible: &[u32]) {
        self.raw.clear();
        self.raw.resize(feasible.len(), 0);
        for table in self.tables.iter().filter(|table| table.rule == Rule::Wish) {
            let domains = table.topology.domains();
            for (raw, place) in self.raw.iter_mut().zip(feasible) {
                *raw += table.sums.get(domains[*place as usize] as usize).copied().unwrap_or(0);
            }
        }
    }
}

impl Table {
    /// Admits the nodes of all domains, for the first of its kind, or of those where there are pods.
    fn admit_near(&mut self, everywhere: bool) {
        for domain in 0..self.topology.len() {
            self.topology.set(&mut self.admitted, domain, everywhere || self.sums[domain] > 0);
        }
        let nowhere = self.topology.domains().iter().enumerate().filter(|(_, domain)| **domain == NOWHERE);
        nowhere.for_each(|(place, _)| self.admitted.set(place, false));
    }
}

impl Follower for Following {
    fn is_current(&self, cluster: &Cluster) -> bool {
        self.versions == versions(cluster)
    }

    fn follow(&mut self, group: u32, place: usize, count: i32, cluster: &Cluster) {
        let number = group as usize;
        if self.meanings.len() <= number {
            self.meanings.resize(number + 1, None);
        }
        let known = self.meanings[number].take();
        let meaning = known.unwrap_or_else(|| self.meaning(&cluster.groups().all()[number], cluster));
        if !meaning.is_empty() {
            self.add(&meaning, place, i64::from(count));
        }
        self.meanings[number] = Some(meaning);
    }

    fn masks(&self) -> SmallVec<[&Bits; 4]> {
        self.tables.iter().filter(|table| table.rule != Rule::Wish).map(|table| &table.admitted).collect()
    }

    fn rejection(&self, place: usize) -> Option<u8> {
        let rules = [Rule::Near, Rule::Far, Rule::Unwanted];
        let refuses =
            |rule: &Rule| self.tables.iter().any(|table| table.rule == *rule && !table.admitted.contains(place));
        rules.iter().position(refuses).map(|number| number as u8)
    }

    fn status(&self, rejection: u8) -> Status {
        match rejection {
            0 => Status::unresolvable(AFFINITY),
            1 => Status::unschedulable(ANTI_AFFINITY),
            _ => Status::unschedulable(EXISTING),
        }
    }

    fn score(&mut self, feasible: &[u32], weight: i64, totals: &mut [i64]) {
        if self.is_indifferent() {
            return;
        }
        self.score_raw(feasible);
        let (lowest, highest) = range(self.raw.iter().copied());
        if lowest == highest {
            return;
        }
        for (total, raw) in totals.iter_mut().zip(&self.raw) {
            *total += weight * scaled(*raw, lowest, highest);
        }
    }

    fn is_indifferent(&self) -> bool {
        self.wishes == 0
    }
}
