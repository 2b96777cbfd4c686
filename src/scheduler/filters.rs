//! The filters of a pod, asked about a node as it would be with some pods more and some fewer: those that look at the node alone, and
//! the followers that stand in for those that look at pods elsewhere.

use std::rc::Rc;

use super::class::Followed;
use super::cluster::Cluster;
use super::compiled::{Compiled, goes_first};
use super::framework::Status;
use super::node_info::NodeInfo;
use crate::api::meta::Uid;
use crate::api::pod::Pod;

/// The filters of a pod.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    compiled: &'a Compiled,
    followers: &'a [Followed],
    /// In which turn each plugin filters, by its place in the profile.
    orders: &'a [u8],
}

impl<'a> Filters<'a> {
    /// All plugins in their plain form.
    pub fn plain(compiled: &'a Compiled) -> Self {
        Filters { compiled, followers: &[], orders: &[] }
    }

    /// Some in their plain form, and followers for the others.
    pub(super) fn new(compiled: &'a Compiled, followers: &'a [Followed], orders: &'a [u8]) -> Self {
        Filters { compiled, followers, orders }
    }

    /// Those alone that look at nothing but the node.
    pub(super) fn of_nodes(self) -> Self {
        Filters { followers: &[], ..self }
    }

    /// In which turn a plugin filters.
    pub(super) fn order(&self, plugin: usize) -> usize {
        self.orders.get(plugin).map_or(usize::MAX, |order| usize::from(*order))
    }

    /// True if a verdict depends on pods elsewhere.
    pub(super) fn depend_on_others(&self) -> bool {
        self.followers.iter().any(Followed::filters)
    }

    /// True if what followers say of a node may be another with a pod or without it.
    pub(super) fn mind(&self, pod: &Pod) -> bool {
        self.followers.iter().any(|followed| followed.filters() && followed.follower.minds(pod))
    }

    /// Moves when what is said of nodes may be another although none of their own pods came or went.
    pub(super) fn turn(&self) -> u32 {
        let filtering = self.followers.iter().filter(|followed| followed.filters());
        filtering.fold(0, |sum, followed| sum.wrapping_add(followed.follower.turn()))
    }

    /// The first filter that rejects a node as it would be with some pods more and some fewer, which `node` has and lacks already; and
    /// what it says. None if the node fits.
    pub(super) fn filter_if(
        &self,
        (place, node): (usize, &NodeInfo),
        added: &[Rc<Pod>],
        removed: &[Rc<Pod>],
        cluster: &Cluster,
    ) -> Option<(usize, Status)> {
        let said = self.compiled.filter_if(node, added, removed);
        let own_order = said.as_ref().map_or(usize::MAX, |(plugin, _)| self.order(*plugin));
        let mut before = self.followers.iter().filter(|followed| followed.order.is_some_and(|order| order < own_order));
        let refused = before.find_map(|Followed { plugin, follower, .. }| {
            Some((*plugin, follower.status(follower.rejection_with(place, added, removed, cluster)?)))
        });
        refused.or(said)
    }

    /// The same for a node from which some pods may be gone and to which others are nominated. A pod must fit both with and
    /// without those others that are no less important than its `priority`: they may come, and they may not
    /// (kube-scheduler, `RunFilterPluginsWithNominatedPods`).
    pub(super) fn filter_with_nominated(
        &self,
        who: (i32, Option<Uid>),
        (place, node): (usize, &NodeInfo),
        removed: &[Rc<Pod>],
        cluster: &Cluster,
    ) -> Option<(usize, Status)> {
        let added = goes_first(who, cluster.nominated_at(place));
        if !added.is_empty() {
            let mut with = node.clone();
            added.iter().for_each(|pod| with.add(pod));
            let refusal = self.filter_if((place, &with), &added, removed, cluster);
            if refusal.is_some() {
                return refusal;
            }
        }
        self.filter_if((place, node), &[], removed, cluster)
    }
}
