//! Why pods of a class fit no node: what was said of each kind of nodes.

use super::class::{PodClass, Rejector};
use super::cluster::Cluster;
use super::compiled::naming_plugins;
use super::diagnosis::{Diagnosis, Verdict};
use super::framework::{Code, NodeCodes, PluginSet, Status};
use super::profile::Profile;

impl PodClass {
    /// Why the pod fits no node, and the code of the verdict on every node. Only `places` were looked at, if there are any: the others
    /// do not come into question.
    pub fn diagnose(
        &mut self,
        places: Option<&[usize]>,
        profile: &Profile,
        cluster: &Cluster,
    ) -> (Diagnosis, NodeCodes) {
        let nodes = cluster.node_count();
        let (mut verdicts, codes) = match (&self.compiled.rejected, places) {
            (Some((_, status)), _) => (Vec::new(), NodeCodes::all(status.code, nodes)),
            (None, None) if self.kinds.are_complete() => self.verdicts_on_kinds(nodes),
            (None, None) => self.verdicts_on(&(0..nodes).collect::<Vec<usize>>(), cluster),
            (None, Some(places)) => self.verdicts_on(places, cluster),
        };
        let rejected = self.compiled.rejected.as_ref();
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
            node_count: nodes,
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

    /// What was said of all nodes, kind by kind.
    fn verdicts_on_kinds(&self, nodes: usize) -> (Vec<Verdict>, NodeCodes) {
        let mut codes = NodeCodes::all(Code::Success, nodes);
        let mut verdicts = Vec::new();
        for kind in (0..self.kinds.len()).filter(|kind| self.kinds.nodes(*kind) > 0) {
            let Some(said) = self.said(self.kinds.key(kind)) else { continue };
            let code = said.1.code;
            note(&mut verdicts, said, self.kinds.nodes(kind));
            for word in 0..nodes.div_ceil(64) {
                codes.add(code, word, self.kinds.cell(word, kind).bits);
            }
        }
        (verdicts, codes)
    }

    /// What was said of some nodes, one by one.
    fn verdicts_on(&mut self, places: &[usize], cluster: &Cluster) -> (Vec<Verdict>, NodeCodes) {
        let nodes = cluster.node_count();
        // Of the others PreFilter is sure, where it named these.
        let mut codes = NodeCodes::all(Code::UnschedulableAndUnresolvable, nodes);
        let mut verdicts = Vec::new();
        for place in places {
            codes.unresolvable.set(*place, false);
            let key = self.key(*place, cluster);
            if let Some(said) = self.said(&key) {
                codes.add(said.1.code, place / 64, 1 << (place % 64));
                note(&mut verdicts, said, 1);
            }
        }
        (verdicts, codes)
    }

    /// What is said of nodes of a kind, and by whom.
    fn said(&self, key: &[i64]) -> Option<(usize, Status)> {
        Some(match self.rejector(key)? {
            Rejector::Node(said) => said.clone(),
            Rejector::Follower(followed, rejection) => (followed.plugin, followed.follower.status(rejection)),
        })
    }
}

fn note(verdicts: &mut Vec<Verdict>, (plugin, status): (usize, Status), nodes: usize) {
    match verdicts.iter_mut().find(|known| known.plugin == plugin && known.status == status) {
        Some(known) => known.nodes += nodes,
        None => verdicts.push(Verdict { plugin, status, nodes }),
    }
}
