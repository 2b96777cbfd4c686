//! Why pods of a class fit no node: what was said of each node that was looked at.

use super::class::{Followed, PodClass};
use super::cluster::Cluster;
use super::compiled::naming_plugins;
use super::diagnosis::{Diagnosis, Verdict};
use super::framework::{Code, PluginSet, Point, Status};
use super::profile::Profile;

/// A follower's verdicts, by their numbers, with how many nodes got each.
struct Said<'a> {
    followed: &'a Followed,
    counts: Vec<Option<(Status, usize)>>,
}

impl PodClass {
    /// Why the pod does not fit `places`, all of which were looked at; and the code of the verdict on every node.
    pub fn diagnose(&self, places: &[usize], profile: &Profile, cluster: &Cluster) -> (Diagnosis, Vec<Code>) {
        let rejected = self.compiled.rejected.as_ref();
        let absent = rejected.map_or(Code::UnschedulableAndUnresolvable, |(_, status)| status.code);
        let mut codes = vec![absent; cluster.node_count()];
        let mut verdicts = self.verdicts_on(places, profile, &mut codes);
        // The order in which they were first said depends on what was looked at before.
        verdicts.sort_by(|left, right| (left.plugin, &left.status.reasons).cmp(&(right.plugin, &right.status.reasons)));
        let (mut plugins, mut pending) = (PluginSet::NONE, PluginSet::NONE);
        let on_all = rejected.iter().map(|(plugin, status)| (*plugin, status.code));
        for (plugin, code) in on_all.chain(verdicts.iter().map(|verdict| (verdict.plugin, verdict.status.code))) {
            if code == Code::Pending { &mut pending } else { &mut plugins }.insert(plugin);
        }
        self.compiled.naming.iter().for_each(|plugin| plugins.insert(*plugin));
        let others = self.compiled.nodes.as_ref().map(|_| {
            let names = naming_plugins(profile, &self.compiled.naming).join(" ");
            Status::unresolvable(format!("node(s) didn't satisfy plugin(s) [{names}]"))
        });
        let diagnosis = Diagnosis {
            node_count: cluster.node_count(),
            pre_filter: rejected.map(|(_, status)| status.clone()),
            verdicts,
            others,
            post_filter: String::new(),
            nominated_node: None,
            victims: Vec::new(),
            plugins,
            pending,
        };
        (diagnosis, codes)
    }

    /// The code of the verdict on each node, `places` having been looked at and the others not having come into question.
    #[cfg(test)]
    pub fn codes(&self, places: &[usize], profile: &Profile, cluster: &Cluster) -> Vec<Code> {
        self.diagnose(places, profile, cluster).1
    }

    /// The first plugin to reject a node counts.
    fn verdicts_on(&self, places: &[usize], profile: &Profile, codes: &mut [Code]) -> Vec<Verdict> {
        let mut counts = vec![0; self.said.len()];
        let order = |plugin: usize| profile.at(Point::Filter).position(|(other, ..)| other == plugin);
        let orders: Vec<Option<usize>> = self.said.iter().map(|(plugin, _)| order(*plugin)).collect();
        let speaking = self
            .followers
            .iter()
            .flatten()
            .filter(|followed| followed.order.is_some() && !followed.follower.masks().is_empty());
        let mut followers: Vec<Said<'_>> = speaking.map(|followed| Said { followed, counts: Vec::new() }).collect();
        for place in places {
            let own = usize::from(self.verdicts[*place]).checked_sub(1);
            let own_order = own.and_then(|said| *orders.get(said)?).unwrap_or(usize::MAX);
            let mut before = followers.iter_mut().take_while(|said| said.followed.order < Some(own_order));
            codes[*place] = match (before.find_map(|said| said.count(*place)), own) {
                (Some(code), _) => code,
                (None, Some(said)) if said < counts.len() => {
                    counts[said] += 1;
                    self.said[said].1.code
                }
                (None, _) => Code::Success,
            };
        }
        let own = self.said.iter().zip(counts).filter(|(_, nodes)| *nodes > 0);
        let own = own.map(|((plugin, status), nodes)| Verdict { plugin: *plugin, status: status.clone(), nodes });
        own.chain(followers.into_iter().flat_map(Said::verdicts)).collect()
    }
}

impl Said<'_> {
    /// Counts a node if the follower rejects it; the code of what it says.
    fn count(&mut self, place: usize) -> Option<Code> {
        let follower = &self.followed.follower;
        let rejection = follower.rejection(place)?;
        let number = usize::from(rejection);
        if self.counts.len() <= number {
            self.counts.resize(number + 1, None);
        }
        let (status, nodes) = self.counts[number].get_or_insert_with(|| (follower.status(rejection), 0));
        *nodes += 1;
        Some(status.code)
    }

    fn verdicts(self) -> Vec<Verdict> {
        let plugin = self.followed.plugin;
        let said = self.counts.into_iter().flatten();
        said.map(|(status, nodes)| Verdict { plugin, status, nodes }).collect()
    }
}
