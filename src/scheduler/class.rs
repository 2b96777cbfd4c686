//! Pods of one class, which no plugin can tell apart, and what the plugins said of each node for them.
//!
//! What follows from a node alone is kept until the node changes. What depends on pods elsewhere is kept by followers, which catch
//! up with the pods that came and went since. Nodes of which all of them think the same are of one kind. Whether anything is kept
//! never changes a result: a class that keeps nothing is the plain evaluation of all plugins, and is the reference for the others.

use std::rc::Rc;

use smallvec::SmallVec;

use super::bits::{Bits, places};
use super::cluster::Cluster;
use super::compiled::goes_first;
pub use super::compiled::{Compiled, Scorer};
use super::filters::Filters;
use super::framework::{Code, Follower, Normalization, Point, Status, Validity};
use super::groups::NO_GROUP;
use super::individual;
use super::kinds::{Key, NodeKinds};
use super::node_info::NodeInfo;
use super::profile::Profile;
use super::strides::counted;
use crate::api::meta::{OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec};
use crate::engine::hash::Map;

/// The verdict on a node that fits.
const FITS: u16 = 0;

/// Pods of one class.
pub struct PodClass {
    /// What its pods have in common.
    identity: Identity,
    /// What was compiled out of the first of them: by all plugins, or by those alone that look at nothing but the node.
    pub compiled: Compiled,
    /// The plugins that look at pods elsewhere; none if nothing is kept.
    pub(super) followers: Option<Vec<Followed>>,
    /// The pod that is being scheduled: where it is nominated it is not in its own way.
    own: Option<Uid>,
    list_version: u64,
    /// The cluster's version when the class last caught up with it.
    seen_version: u64,
    /// How far it has read the log of pods that came and went.
    position: u64,
    /// In which turn each plugin filters, by its place in the profile.
    orders: Vec<u8>,
    /// The nodes whose verdict is known.
    looked: Bits,
    /// A number for each node's verdict.
    verdicts: Vec<u16>,
    /// The verdicts by number, less one: which plugin said what.
    pub(super) said: Vec<(usize, Status)>,
    /// The nodes whose verdict holds whatever followers say of the node as it is: they were asked about pods that may come, too.
    /// Mostly there are none.
    is_final: Option<Bits>,
    /// When pods that may come were asked about last ([`Filters::turn`]).
    turn: Option<u32>,
    /// How many nodes there are for which a plugin failed.
    pub(super) failures: usize,
    pub(super) kinds: NodeKinds,
    raw: Box<[RawScores]>,
}

/// A follower, with the place of its plugin in the profile, when that is asked to filter, and the weight of its scores.
pub(super) struct Followed {
    pub(super) plugin: usize,
    pub(super) order: Option<usize>,
    pub(super) weight: i64,
    pub(super) follower: Box<dyn Follower>,
    version: u32,
}

/// The raw scores of a scorer that normalises.
struct RawScores {
    weight: i64,
    normalization: Normalization,
    scorer: usize,
    /// Empty until a node had another score than zero: until then all are equal.
    of_node: Vec<i64>,
}

/// All of a pod that plugins look at.
struct Identity {
    spec: Rc<PodSpec>,
    pod: Rc<Pod>,
}

/// Whether pods of a class fit a node.
pub(super) enum Fit {
    /// They do.
    Fits,
    /// They do not.
    Rejected,
    /// A plugin failed, with this message.
    Failed(Name),
}

/// Who rejects a node.
pub(super) enum Rejector<'a> {
    /// A plugin that looks at the node alone, with what it says.
    Node(&'a (usize, Status)),
    /// A follower, with the number of its reason.
    Follower(&'a Followed, u8),
}

impl Identity {
    fn is_of(&self, pod: &Pod, are_told_apart: bool) -> bool {
        Rc::ptr_eq(&self.spec, &pod.spec) && are_alike(&self.pod, pod, are_told_apart)
    }
}

/// True if no plugin can tell pods of one specification apart, or none that does not ask for labels that are each pod's own.
pub(super) fn are_alike(pod: &Pod, other: &Pod, are_told_apart: bool) -> bool {
    let (own, other) = (&pod.meta, &other.meta);
    let has_labels = || match are_told_apart {
        true => own.labels.same(&other.labels) || own.labels == other.labels,
        false => individual::are_alike(&own.labels, &other.labels),
    };
    own.namespace == other.namespace && has_labels() && same_owner(own.controller(), other.controller())
}

fn same_owner(left: Option<&OwnerReference>, right: Option<&OwnerReference>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => std::ptr::eq(left, right) || left == right,
        (None, None) => true,
        _ => false,
    }
}

impl PodClass {
    /// The class of a pod. What can be kept is kept.
    pub fn new(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Self {
        if let Some(followers) = followers(profile, pod, cluster) {
            let compiled = Compiled::of_nodes(profile, pod, cluster);
            // What a plugin makes of all scores together in a way of its own is not known before they are.
            let are_kept = compiled.scorers.iter().all(|scorer| scorer.normalization != Normalization::Own);
            if are_kept && compiled.failure.is_none() {
                return PodClass::of(profile, pod, compiled, Some(followers), cluster);
            }
        }
        PodClass::plain(profile, pod, cluster)
    }

    /// The class of a pod that keeps nothing: all plugins are asked in their plain form, once.
    pub fn plain(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Self {
        PodClass::of(profile, pod, Compiled::new(profile, pod, cluster), None, cluster)
    }

    fn of(
        profile: &Profile,
        pod: &Rc<Pod>,
        compiled: Compiled,
        followers: Option<Vec<Followed>>,
        cluster: &Cluster,
    ) -> Self {
        let count = cluster.node_count();
        let order = |plugin| profile.at(Point::Filter).position(|(other, ..)| other == plugin);
        let scorers = compiled.scorers.iter().enumerate();
        let raw = scorers.filter(|(_, scorer)| scorer.normalization != Normalization::None).map(|(place, scorer)| {
            let (weight, normalization) = (scorer.weight, scorer.normalization);
            RawScores { weight, normalization, scorer: place, of_node: Vec::new() }
        });
        PodClass {
            identity: Identity { spec: pod.spec.clone(), pod: pod.clone() },
            raw: raw.collect::<Box<[RawScores]>>(),
            compiled,
            kinds: NodeKinds::new(count),
            followers,
            own: None,
            list_version: cluster.list_version(),
            seen_version: cluster.last_version(),
            position: cluster.groups().position(),
            // A profile has no more plugins than fit in a byte.
            orders: (0..profile.len()).map(|plugin| order(plugin).map_or(u8::MAX, |order| order as u8)).collect(),
            looked: Bits::none(count),
            verdicts: vec![FITS; count],
            said: Vec::new(),
            is_final: None,
            turn: None,
            failures: 0,
        }
    }

    /// True if a pod is of this class. Pods that differ only in labels that are each pod's own are, as long as nobody asks for
    /// such labels.
    pub fn is_of(&self, pod: &Pod, profile: &Profile, cluster: &Cluster) -> bool {
        let are_told_apart =
            !profile.is_in_tree() || cluster.groups().tell_individuals() || cluster.objects().tell_individuals();
        self.identity.is_of(pod, are_told_apart)
    }

    /// True if what was found out holds for the next pod of the class too.
    pub fn is_kept(&self) -> bool {
        self.followers.is_some()
    }

    /// A pod of the class is to be scheduled. Of the node to which it is nominated nothing is known: what others were told of that
    /// node had the pod itself in its way.
    pub(super) fn begin(&mut self, pod: Uid, cluster: &Cluster) {
        self.own = Some(pod);
        self.forget_nominated(pod, cluster);
    }

    /// It has been; what it was told of the node to which it is nominated is not for others.
    pub(super) fn end(&mut self, cluster: &Cluster) {
        if let Some(pod) = self.own.take() {
            self.forget_nominated(pod, cluster);
        }
    }

    fn forget_nominated(&mut self, pod: Uid, cluster: &Cluster) {
        if let Some(place) = cluster.nomination_of(pod).and_then(|node| cluster.place_of(node)) {
            self.forget(place);
        }
    }

    /// The filters of its pods.
    pub(super) fn filters(&self) -> Filters<'_> {
        Filters::new(&self.compiled, self.followers.as_deref().unwrap_or_default(), &self.orders)
    }

    /// True if nodes are told apart in kinds.
    pub(super) fn has_kinds(&self) -> bool {
        self.followers.is_some()
    }

    /// Takes in what changed since the last pod; false if that cannot be done.
    pub fn catch_up(&mut self, profile: &Profile, cluster: &Cluster) -> bool {
        if self.list_version != cluster.list_version() || self.followers.is_none() {
            return false;
        }
        let is_known = match cluster.groups().since(self.position) {
            Some(changes) => {
                // A profile has no more plugins than there are bits.
                let mut current = 0_u64;
                for (number, followed) in self.followers.iter_mut().flatten().enumerate() {
                    current |= u64::from(followed.follower.is_current(cluster)) << number;
                }
                for change in changes {
                    counted::step();
                    let Some(place) = cluster.place_of_slot(change.slot) else { continue };
                    // What looks at the node alone sees it as it was, unless others were asked about pods that may come.
                    match change.stays && profile.is_in_tree() && cluster.nominated_at(place).is_empty() {
                        true => self.kinds.remove(place),
                        false => self.forget(place),
                    }
                    let PodClass { followers, kinds, .. } = self;
                    if change.group == NO_GROUP {
                        continue;
                    }
                    for (number, followed) in followers.iter_mut().flatten().enumerate() {
                        if current >> number & 1 == 0 {
                            continue;
                        }
                        let mut changed = |place| kinds.remove(place);
                        followed.follower.follow(change.group, place, change.count, cluster, &mut changed);
                    }
                }
                true
            }
            None => {
                let seen = self.seen_version;
                let changed = (0..cluster.node_count()).filter(|place| cluster.versions()[*place] > seen);
                changed.for_each(|place| self.forget(place));
                false
            }
        };
        self.position = cluster.groups().position();
        self.seen_version = cluster.last_version();
        let are_current = self.renew_followers(is_known, profile, cluster);
        // What followers say of pods that may come is not followed.
        let turn = self.filters().turn();
        if self.turn.replace(turn) != Some(turn) {
            cluster.nominated_places().for_each(|place| self.forget(place));
        }
        are_current
    }

    /// Makes followers anew that could not keep up.
    fn renew_followers(&mut self, is_known: bool, profile: &Profile, cluster: &Cluster) -> bool {
        let PodClass { followers, kinds, identity, turn, .. } = self;
        for followed in followers.iter_mut().flatten() {
            if !is_known || !followed.follower.is_current(cluster) {
                match profile.plugin(followed.plugin).follower(&identity.pod, cluster) {
                    Some(follower) => followed.follower = follower,
                    None => return false,
                }
                *turn = None;
                kinds.clear();
            }
            if followed.version != followed.follower.version() {
                kinds.clear();
            }
            followed.version = followed.follower.version();
        }
        true
    }

    /// Finds out about those nodes of a word that are in a range and of which nothing is known.
    pub(super) fn look_at_all(&mut self, word: usize, range: u64, cluster: &Cluster) {
        let unknown = range & self.kinds.missing(word);
        for place in places(word, unknown) {
            counted::step();
            let key = self.key(place, cluster);
            self.kinds.insert(place, &key);
        }
    }

    /// What sets the node's kind apart.
    pub(super) fn key(&mut self, place: usize, cluster: &Cluster) -> Key {
        if !self.looked.contains(place) {
            self.look_at(place, cluster);
        }
        let verdict = self.verdicts[place];
        let mut key = Key::new();
        key.push(if self.is_final(place) { -i64::from(verdict) } else { i64::from(verdict) });
        if verdict == FITS {
            key.extend(self.raw.iter().map(|raw| raw.of_node.get(place).copied().unwrap_or(0)));
        }
        for followed in self.followers.iter().flatten() {
            followed.follower.stance(place, followed.is_scored(verdict == FITS), &mut key);
        }
        key
    }

    /// The stances of a kind, each with the follower that takes it, in the order in which these filter.
    pub(super) fn stances<'a>(&'a self, key: &'a [i64]) -> impl Iterator<Item = (&'a Followed, &'a [i64])> {
        let fits = key[0] == i64::from(FITS);
        let mut rest = &key[if fits { 1 + self.raw.len() } else { 1 }..];
        self.followers.iter().flatten().map(move |followed| {
            let (stance, after) = rest.split_at(followed.follower.width(followed.is_scored(fits)));
            rest = after;
            (followed, stance)
        })
    }

    /// Who rejects nodes of a kind, if anybody does: the first one to filter.
    pub(super) fn rejector<'a>(&'a self, key: &'a [i64]) -> Option<Rejector<'a>> {
        let own = (key[0].unsigned_abs() as usize).checked_sub(1);
        if let Some(number) = own.filter(|_| key[0] < 0) {
            return Some(Rejector::Node(&self.said[number]));
        }
        let own_order = own.map_or(usize::MAX, |number| usize::from(self.orders[self.said[number].0]));
        let mut followers =
            self.stances(key).filter(|(followed, _)| followed.order.is_some_and(|order| order < own_order));
        let first = followers.find_map(|(followed, stance)| Some((followed, followed.follower.rejection(stance)?)));
        match first {
            Some((followed, rejection)) => Some(Rejector::Follower(followed, rejection)),
            None => own.map(|number| Rejector::Node(&self.said[number])),
        }
    }

    /// The first follower that rejects nodes of a kind, by when it filters, and what it says.
    pub(super) fn rejection_by_followers(&self, key: &[i64]) -> Option<(usize, Status)> {
        self.stances(key).find_map(|(followed, stance)| {
            let order = followed.order?;
            Some((order, followed.follower.status(followed.follower.rejection(stance)?)))
        })
    }

    /// True if pods of this class fit a node.
    pub(super) fn fits(&mut self, place: usize, cluster: &Cluster) -> Fit {
        let key = self.key(place, cluster);
        match self.rejector(&key) {
            None => Fit::Fits,
            Some(Rejector::Node((_, status))) if status.code == Code::Error => Fit::Failed(status.message().into()),
            Some(Rejector::Node(_) | Rejector::Follower(..)) => Fit::Rejected,
        }
    }

    fn look_at(&mut self, place: usize, cluster: &Cluster) {
        self.looked.set(place, true);
        let node = cluster.at(place);
        let said = match cluster.nominated_at(place) {
            [] => self.compiled.filter(node),
            nominated => {
                let (said, is_final) = self.with_nominated(place, nominated, cluster);
                self.set_final(place, is_final);
                said
            }
        };
        if let Some(said) = said {
            self.failures += usize::from(said.1.code == Code::Error);
            self.verdicts[place] = self.verdict(said, place);
            return;
        }
        self.verdicts[place] = FITS;
        let scorers = &self.compiled.scorers;
        let plain = scorers.iter().filter(|scorer| scorer.normalization == Normalization::None);
        let own: i64 = plain.map(|scorer| scorer.weight * scorer.score.score(node)).sum();
        self.kinds.set_own(place, own as i32);
        for raw in &mut self.raw {
            let score = scorers[raw.scorer].score.score(node);
            if score != 0 && raw.of_node.is_empty() {
                raw.of_node = vec![0; self.verdicts.len()];
            }
            if let Some(known) = raw.of_node.get_mut(place) {
                *known = score;
            }
        }
    }

    /// The verdict on a node to which others are nominated; and whether it holds whatever followers say of the node as it is.
    fn with_nominated(
        &self,
        place: usize,
        nominated: &[Rc<Pod>],
        cluster: &Cluster,
    ) -> (Option<(usize, Status)>, bool) {
        let (node, who) = (cluster.at(place), (self.identity.spec.priority, self.own));
        let (added, filters) = (goes_first(who, nominated), self.filters());
        if !added.is_empty() {
            let mut with = node.clone();
            added.iter().for_each(|pod| with.add(pod));
            let said = filters.filter_if((place, &with), &added, &[], cluster);
            if said.is_some() {
                return (said, filters.depend_on_others());
            }
        }
        (self.compiled.filter(node), false)
    }

    fn is_final(&self, place: usize) -> bool {
        self.is_final.as_ref().is_some_and(|places| places.contains(place))
    }

    fn set_final(&mut self, place: usize, is_final: bool) {
        match &mut self.is_final {
            Some(places) => places.set(place, is_final),
            None if is_final => {
                let mut places = Bits::none(self.verdicts.len());
                places.set(place, true);
                self.is_final = Some(places);
            }
            None => {}
        }
    }

    fn forget(&mut self, place: usize) {
        self.kinds.remove(place);
        self.set_final(place, false);
        if self.looked.contains(place) {
            self.looked.set(place, false);
            let verdict = usize::from(self.verdicts[place]);
            let failed = verdict > 0 && self.said[verdict - 1].1.code == Code::Error;
            self.failures -= usize::from(failed);
        }
    }

    /// The number of a verdict. Different ones are few; should they ever be too many, the table begins anew.
    fn verdict(&mut self, said: (usize, Status), place: usize) -> u16 {
        if let Some(place) = self.said.iter().position(|known| *known == said) {
            return place as u16 + 1;
        }
        if self.said.len() + 1 >= usize::from(u16::MAX) {
            self.said.clear();
            self.kinds.clear();
            self.looked.clear();
            self.looked.set(place, true);
            self.failures = usize::from(said.1.code == Code::Error);
        }
        self.said.push(said);
        self.said.len() as u16
    }

    /// Puts the score of each of these kinds into `totals`, but for what is each node's own. Each comes with how many of its nodes
    /// there are among those that are scored.
    pub(super) fn score_kinds(&mut self, kinds: &[(Key, usize)], totals: &mut Vec<i64>) {
        totals.clear();
        totals.resize(kinds.len(), 0);
        for (number, raw) in self.raw.iter().enumerate() {
            let highest = kinds.iter().map(|(key, _)| key[1 + number]).max().unwrap_or(0);
            for (total, (key, _)) in totals.iter_mut().zip(kinds) {
                *total += raw.weight * raw.normalization.apply(key[1 + number], highest);
            }
        }
        let mut at = 1 + self.raw.len();
        for followed in self.followers.iter_mut().flatten() {
            let width = followed.follower.width(followed.is_scored(true));
            if followed.weight != 0 && !followed.follower.is_indifferent() {
                let stances = kinds.iter().map(|(key, nodes)| (&key[at..at + width], *nodes));
                let stances: SmallVec<[(&[i64], usize); 16]> = stances.collect();
                followed.follower.score(&stances, followed.weight, totals);
            }
            at += width;
        }
    }

    /// Puts the total score of each of these nodes, all of which fit, into `totals`; or says why a plugin failed.
    pub fn score(
        &mut self,
        profile: &Profile,
        pod: &Pod,
        feasible: &[u32],
        totals: &mut Vec<i64>,
        cluster: &Cluster,
    ) -> Result<(), Name> {
        if self.followers.is_none() {
            return self.score_plainly(profile, pod, feasible, totals, cluster);
        }
        let mut kinds: Vec<(Key, usize)> = Vec::new();
        let mut numbers: Map<Key, usize> = Map::default();
        let mut of_node = Vec::with_capacity(feasible.len());
        for place in feasible {
            let key = self.key(*place as usize, cluster);
            let number = *numbers.entry(key).or_insert_with_key(|key| {
                kinds.push((key.clone(), 0));
                kinds.len() - 1
            });
            kinds[number].1 += 1;
            of_node.push(number);
        }
        let mut of_kinds = Vec::new();
        self.score_kinds(&kinds, &mut of_kinds);
        totals.clear();
        let places = feasible.iter().zip(of_node);
        totals.extend(places.map(|(place, kind)| i64::from(self.kinds.own(*place as usize)) + of_kinds[kind]));
        Ok(())
    }

    fn score_plainly(
        &mut self,
        profile: &Profile,
        pod: &Pod,
        feasible: &[u32],
        totals: &mut Vec<i64>,
        cluster: &Cluster,
    ) -> Result<(), Name> {
        let nodes: Vec<&NodeInfo> = feasible.iter().map(|place| cluster.at(*place as usize)).collect();
        self.compiled.pre_score(profile, pod, cluster, &nodes);
        if let Some(failure) = self.compiled.failure.take() {
            return Err(failure);
        }
        totals.clear();
        totals.resize(nodes.len(), 0);
        for scorer in &self.compiled.scorers {
            let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score.score(node)).collect();
            scorer.score.normalize(&nodes, &mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += scorer.weight * score;
            }
        }
        Ok(())
    }
}

impl Followed {
    /// True if it rejects nodes.
    pub(super) fn filters(&self) -> bool {
        self.order.is_some() && self.follower.is_filter()
    }

    /// True if the follower's scores count for nodes that fit as far as can be seen without it.
    fn is_scored(&self, fits: bool) -> bool {
        fits && self.weight != 0
    }
}

/// The followers of all plugins that look at pods elsewhere, in the order in which these filter; none if one of them, or a plugin
/// that is asked in every cycle, cannot follow.
fn followers(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Option<Vec<Followed>> {
    let mut followers: Vec<Followed> = Vec::new();
    for (plugin, asked, _) in profile.at(Point::Filter).chain(profile.at(Point::Score)) {
        match asked.validity(pod) {
            Validity::Node => {}
            Validity::Followed if followers.iter().any(|known| known.plugin == plugin) => {}
            Validity::Followed => {
                let order = profile.at(Point::Filter).position(|(other, ..)| other == plugin);
                // What Filter comes to without PreFilter is not for a follower to say.
                if order.is_some() && !profile.is_asked(plugin, Point::PreFilter) && asked.unprepared().is_some() {
                    return None;
                }
                let mut scoring = profile.at(Point::Score).filter(|(other, ..)| *other == plugin);
                let weight = scoring.next().map_or(0, |(_, _, weight)| weight);
                if weight != 0 && !profile.is_asked(plugin, Point::PreScore) && asked.unprepared_score().is_some() {
                    return None;
                }
                let follower = asked.follower(pod, cluster)?;
                followers.push(Followed { plugin, order, weight, version: follower.version(), follower });
            }
            Validity::Cycle => return None,
        }
    }
    followers.shrink_to_fit();
    Some(followers)
}
