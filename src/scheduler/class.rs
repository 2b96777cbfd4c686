//! Pods of one class, which no plugin can tell apart, and what the plugins said of each node for them.
//!
//! What follows from a node alone is kept until the node changes. What depends on pods elsewhere is kept by followers, which catch
//! up with the pods that came and went since. Whether anything is kept never changes a result: a class that keeps nothing is the
//! plain evaluation of all plugins, and is the reference for the others.

use std::rc::Rc;

use super::bits::Bits;
use super::cluster::Cluster;
pub use super::compiled::{Compiled, Scorer};
use super::framework::{Follower, Normalization, Point, Status, Validity};
use super::groups::NO_GROUP;
use super::node_info::NodeInfo;
use super::pick::Summary;
use super::profile::Profile;
use crate::api::meta::{OwnerReference, Uid};
use crate::api::pod::{Pod, PodSpec};

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
    /// The one pod that it is for, if it is for one that is nominated to a node: it is not in its own way.
    own: Option<Uid>,
    list_version: u64,
    /// The cluster's version when the class last caught up with it.
    seen_version: u64,
    /// How far it has read the log of pods that came and went.
    position: u64,
    /// The nodes whose verdict is known.
    looked: Bits,
    /// Those of them that fit.
    pub(super) fits: Bits,
    /// A number for each node's verdict.
    pub(super) verdicts: Vec<u16>,
    /// The verdicts by number, less one: which plugin said what.
    pub(super) said: Vec<(usize, Status)>,
    /// The weighted scores that need no normalisation.
    pub(super) fixed: Vec<i32>,
    /// Of 64 nodes each.
    pub(super) summaries: Vec<Summary>,
    raw: Vec<RawScores>,
}

/// A follower, with the place of its plugin in the profile, when that is asked to filter, and the weight of its scores.
pub(super) struct Followed {
    pub(super) plugin: usize,
    pub(super) order: Option<usize>,
    pub(super) weight: i64,
    pub(super) follower: Box<dyn Follower>,
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

impl Identity {
    fn is_of(&self, pod: &Pod) -> bool {
        let (own, other) = (&self.pod.meta, &pod.meta);
        Rc::ptr_eq(&self.spec, &pod.spec)
            && own.namespace == other.namespace
            && (own.labels.same(&other.labels) || own.labels == other.labels)
            && same_owner(own.controller(), other.controller())
    }
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
        match followers(profile, pod, cluster) {
            Some(followers) => {
                let compiled = Compiled::of_nodes(profile, pod, cluster);
                PodClass::of(pod, compiled, Some(followers), cluster)
            }
            None => PodClass::plain(profile, pod, cluster),
        }
    }

    /// The class of a pod that keeps nothing: all plugins are asked in their plain form, once.
    pub fn plain(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Self {
        PodClass::of(pod, Compiled::new(profile, pod, cluster), None, cluster)
    }

    fn of(pod: &Rc<Pod>, compiled: Compiled, followers: Option<Vec<Followed>>, cluster: &Cluster) -> Self {
        let count = cluster.node_count();
        let scorers = compiled.scorers.iter().enumerate();
        let raw = scorers.filter(|(_, scorer)| scorer.normalization != Normalization::None).map(|(place, scorer)| {
            let (weight, normalization) = (scorer.weight, scorer.normalization);
            RawScores { weight, normalization, scorer: place, of_node: Vec::new() }
        });
        PodClass {
            identity: Identity { spec: pod.spec.clone(), pod: pod.clone() },
            raw: raw.collect(),
            compiled,
            followers,
            own: cluster.nomination_of(pod.meta.uid).map(|_| pod.meta.uid),
            list_version: cluster.list_version(),
            seen_version: cluster.last_version(),
            position: cluster.groups().position(),
            looked: Bits::none(count),
            fits: Bits::none(count),
            verdicts: vec![FITS; count],
            said: Vec::new(),
            fixed: vec![0; count],
            summaries: vec![Summary::UNKNOWN; count.div_ceil(64)],
        }
    }

    /// True if a pod is of this class.
    pub fn is_of(&self, pod: &Pod) -> bool {
        self.identity.is_of(pod)
    }

    /// True if what was found out holds for the next pod of the class too.
    pub fn is_kept(&self) -> bool {
        self.followers.is_some() && self.is_for_all()
    }

    /// True if it holds for all pods of the class.
    pub fn is_for_all(&self) -> bool {
        self.own.is_none()
    }

    /// True if verdicts are kept that depend on pods elsewhere. They do not take nominated pods into account.
    pub fn depends_on_others(&self) -> bool {
        self.followers
            .iter()
            .flatten()
            .any(|followed| followed.order.is_some() && !followed.follower.masks().is_empty())
    }

    /// True if a pod fits the node to which it is nominated.
    pub fn fits_nominated(&self, pod: &Pod, place: usize, cluster: &Cluster) -> bool {
        let who = (self.identity.spec.priority, Some(pod.meta.uid));
        self.compiled.filter_with_nominated(who, cluster.at(place), cluster.nominated_at(place), &[]).is_none()
    }

    /// Takes in what changed since the last pod; false if that cannot be done.
    pub fn catch_up(&mut self, profile: &Profile, cluster: &Cluster) -> bool {
        if self.list_version != cluster.list_version() || self.followers.is_none() {
            return false;
        }
        let is_known = match cluster.groups().since(self.position) {
            Some(changes) => {
                for change in changes {
                    let Some(place) = cluster.place_of_slot(change.slot) else { continue };
                    forget(&mut self.looked, &mut self.summaries, place);
                    if change.group == NO_GROUP {
                        continue;
                    }
                    for followed in self.followers.iter_mut().flatten() {
                        if followed.follower.is_current(cluster) {
                            followed.follower.follow(change.group, place, change.count, cluster);
                        }
                    }
                }
                true
            }
            None => {
                let versions = cluster.versions().iter().enumerate();
                let changed = versions.filter(|(_, version)| **version > self.seen_version);
                changed.for_each(|(place, _)| forget(&mut self.looked, &mut self.summaries, place));
                false
            }
        };
        self.position = cluster.groups().position();
        self.seen_version = cluster.last_version();
        self.renew_followers(is_known, profile, cluster)
    }

    /// Makes followers anew that could not keep up.
    fn renew_followers(&mut self, is_known: bool, profile: &Profile, cluster: &Cluster) -> bool {
        for followed in self.followers.iter_mut().flatten() {
            if is_known && followed.follower.is_current(cluster) {
                continue;
            }
            match profile.plugin(followed.plugin).follower(&self.identity.pod, cluster) {
                Some(follower) => followed.follower = follower,
                None => return false,
            }
        }
        true
    }

    /// True if pods of this class fit a node.
    pub fn fits(&mut self, place: usize, cluster: &Cluster) -> bool {
        if !self.looked.contains(place) {
            self.look_at(place, cluster);
        }
        self.fits.contains(place) && self.followers.iter().flatten().all(|followed| followed.admits(place))
    }

    /// Collects nodes that fit, from `begin` up to but not including `end`, until there are so many; says where it stopped.
    pub fn search(
        &mut self,
        begin: usize,
        end: usize,
        wanted: usize,
        feasible: &mut Vec<u32>,
        cluster: &Cluster,
    ) -> usize {
        let mut place = begin;
        while place < end {
            let word = place / 64;
            let last = end.min((word + 1) * 64);
            let range = u64::MAX << (place % 64) & u64::MAX >> (63 - (last - 1) % 64);
            self.look_at_all(word, range, cluster);
            let mut bits = self.fits.words()[word] & range;
            for followed in self.followers.iter().flatten().filter(|followed| followed.order.is_some()) {
                bits = followed.follower.masks().iter().fold(bits, |bits, mask| bits & mask.words()[word]);
            }
            while bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                feasible.push(found as u32);
                if feasible.len() == wanted {
                    return found + 1;
                }
                bits &= bits - 1;
            }
            place = last;
        }
        end
    }

    /// True if all scores that are not the followers' need no normalisation, or are the same for all nodes.
    pub(super) fn has_only_fixed_scores(&self) -> bool {
        self.raw.iter().all(|raw| raw.of_node.is_empty())
    }

    pub(super) fn look_at_all(&mut self, word: usize, range: u64, cluster: &Cluster) {
        let mut unknown = range & !self.looked.words()[word];
        while unknown != 0 {
            self.look_at(word * 64 + unknown.trailing_zeros() as usize, cluster);
            unknown &= unknown - 1;
        }
    }

    fn look_at(&mut self, place: usize, cluster: &Cluster) {
        self.looked.set(place, true);
        self.summaries[place / 64] = Summary::UNKNOWN;
        let node = cluster.at(place);
        let priority = self.identity.spec.priority;
        let said = match cluster.nominated_at(place) {
            [] => self.compiled.filter(node),
            nominated => self.compiled.filter_with_nominated((priority, self.own), node, nominated, &[]),
        };
        if let Some(said) = said {
            self.fits.set(place, false);
            self.verdicts[place] = self.verdict(said);
            return;
        }
        self.fits.set(place, true);
        self.verdicts[place] = FITS;
        let scorers = &self.compiled.scorers;
        let plain = scorers.iter().filter(|scorer| scorer.normalization == Normalization::None);
        let fixed: i64 = plain.map(|scorer| scorer.weight * scorer.score.score(node)).sum();
        self.fixed[place] = fixed as i32;
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

    /// The number of a verdict. Different ones are few; should they ever be too many, the table begins anew.
    fn verdict(&mut self, said: (usize, Status)) -> u16 {
        if let Some(place) = self.said.iter().position(|known| *known == said) {
            return place as u16 + 1;
        }
        if self.said.len() + 1 >= usize::from(u16::MAX) {
            self.said.clear();
            self.looked = Bits::none(self.verdicts.len());
            self.summaries.fill(Summary::UNKNOWN);
        }
        self.said.push(said);
        self.said.len() as u16
    }

    /// Puts the total score of each of these nodes, all of which fit, into `totals`; what all nodes get alike may be left out.
    pub fn score(&mut self, profile: &Profile, pod: &Pod, feasible: &[u32], totals: &mut Vec<i64>, cluster: &Cluster) {
        totals.clear();
        let Some(followers) = &mut self.followers else {
            return self.score_plainly(profile, pod, feasible, totals, cluster);
        };
        totals.extend(feasible.iter().map(|place| i64::from(self.fixed[*place as usize])));
        for raw in self.raw.iter().filter(|raw| !raw.of_node.is_empty()) {
            let scores = feasible.iter().map(|place| raw.of_node[*place as usize]);
            let highest = scores.clone().max().unwrap_or(0);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += raw.weight * raw.normalization.apply(score, highest);
            }
        }
        for followed in followers.iter_mut().filter(|followed| followed.weight != 0) {
            followed.follower.score(feasible, followed.weight, totals);
        }
    }

    fn score_plainly(
        &mut self,
        profile: &Profile,
        pod: &Pod,
        feasible: &[u32],
        totals: &mut Vec<i64>,
        cluster: &Cluster,
    ) {
        let nodes: Vec<&NodeInfo> = feasible.iter().map(|place| cluster.at(*place as usize)).collect();
        self.compiled.scorers.clear();
        self.compiled.pre_score(profile, pod, cluster, &nodes);
        totals.resize(nodes.len(), 0);
        for scorer in &self.compiled.scorers {
            let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score.score(node)).collect();
            scorer.score.normalize(&nodes, &mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += scorer.weight * score;
            }
        }
    }
}

fn forget(looked: &mut Bits, summaries: &mut [Summary], place: usize) {
    looked.set(place, false);
    summaries[place / 64] = Summary::UNKNOWN;
}

impl Followed {
    fn admits(&self, place: usize) -> bool {
        self.order.is_none() || self.follower.masks().iter().all(|mask| mask.contains(place))
    }
}

/// The followers of all plugins that look at pods elsewhere, in the order in which these filter; none if one of them, or a plugin
/// that is asked in every cycle, cannot follow.
fn followers(profile: &Profile, pod: &Pod, cluster: &Cluster) -> Option<Vec<Followed>> {
    let mut followers: Vec<Followed> = Vec::new();
    for (plugin, asked, _) in profile.at(Point::Filter).chain(profile.at(Point::Score)) {
        match asked.validity(pod) {
            Validity::Node => {}
            Validity::Followed if followers.iter().any(|known| known.plugin == plugin) => {}
            Validity::Followed => {
                let order = profile.at(Point::Filter).position(|(other, ..)| other == plugin);
                let mut scoring = profile.at(Point::Score).filter(|(other, ..)| *other == plugin);
                let weight = scoring.next().map_or(0, |(_, _, weight)| weight);
                followers.push(Followed { plugin, order, weight, follower: asked.follower(pod, cluster)? });
            }
            Validity::Cycle => return None,
        }
    }
    Some(followers)
}
