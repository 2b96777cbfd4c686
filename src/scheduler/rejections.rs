//! Why pods of a class fit no node: what was said of each kind of nodes.

use std::borrow::Cow;
use std::rc::Rc;

use super::class::{PodClass, Rejector};
use super::cluster::Cluster;
use super::codes::{EachCode, KindCodes, NodeCodes};
use super::compiled::naming_plugins;
use super::diagnosis::{Diagnosis, Verdict};
use super::framework::{Code, Failed, PluginSet, Status};
use super::profile::Profile;
use super::strides::counted;
use crate::api::pod::Pod;

/// What was said, and of how many nodes.
type Verdicts = Vec<Verdict>;

impl PodClass {
    /// Why a pod of the class fits no node, and what PostFilter is told of that. Only `places` were looked at, if there are any: the
    /// others do not come into question.
    pub(super) fn diagnose<'a>(
        &'a mut self,
        pod: &'a Rc<Pod>,
        places: Option<&[usize]>,
        profile: &Profile,
        cluster: &'a Cluster,
    ) -> (Diagnosis, Failed<'a>) {
        let nodes = cluster.node_count();
        let rejected = self.compiled.rejected.as_ref().map(|(_, status)| status.code);
        let (verdicts, each) = match (rejected, places) {
            (Some(_), _) => (Vec::new(), None),
            (None, None) if self.kinds.are_complete() => {
                self.kinds.keep_journal();
                (self.verdicts_on_kinds(), None)
            }
            (None, None) => self.verdicts_on(&(0..nodes).collect::<Vec<usize>>(), cluster),
            (None, Some(places)) => self.verdicts_on(places, cluster),
        };
        let class: &PodClass = self;
        let codes = match (rejected, each) {
            (Some(code), _) => NodeCodes::All(code, nodes),
            (None, Some(each)) => NodeCodes::Each(each),
            (None, None) => NodeCodes::Kinds(class.codes_of_kinds()),
        };
        let failed = Failed { pod, cluster, filters: class.filters(), codes, was_asked: true };
        (class.diagnosis(verdicts, profile, nodes), failed)
    }

    fn diagnosis(&self, mut verdicts: Verdicts, profile: &Profile, nodes: usize) -> Diagnosis {
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
        Diagnosis {
            node_count: nodes,
            pre_filter: rejected.map(|(_, status)| status.clone()),
            verdicts,
            others,
            post_filter: String::new(),
            nominated_node: None,
            victims: Vec::new(),
            plugins,
            pending,
        }
    }

    /// What was said of all nodes, kind by kind.
    fn verdicts_on_kinds(&self) -> Verdicts {
        let mut verdicts = Vec::new();
        for kind in (0..self.kinds.len()).filter(|kind| self.kinds.nodes(*kind) > 0) {
            counted::step();
            if let Some(said) = self.said(self.kinds.key(kind)) {
                note(&mut verdicts, said, self.kinds.nodes(kind));
            }
        }
        verdicts
    }

    fn codes_of_kinds(&self) -> KindCodes<'_> {
        let code = |kind: usize| match self.rejector(self.kinds.key(kind)) {
            Some(rejector) if self.kinds.nodes(kind) > 0 => rejector.status().code,
            _ => Code::Success,
        };
        KindCodes::new(self, (0..self.kinds.len()).map(code).collect())
    }

    /// What was said of some nodes, one by one.
    fn verdicts_on(&mut self, places: &[usize], cluster: &Cluster) -> (Verdicts, Option<EachCode>) {
        // Of the others PreFilter is sure, where it named these.
        let mut codes = EachCode::all(Code::UnschedulableAndUnresolvable, cluster.node_count());
        let mut verdicts = Vec::new();
        for place in places {
            counted::step();
            let key = self.key(*place, cluster);
            let said = self.said(&key);
            codes.set(*place, said.as_ref().map_or(Code::Success, |(_, status)| status.code));
            if let Some(said) = said {
                note(&mut verdicts, said, 1);
            }
        }
        (verdicts, Some(codes))
    }

    /// What is said of nodes of a kind, and by whom.
    fn said(&self, key: &[i64]) -> Option<(usize, Status)> {
        let rejector = self.rejector(key)?;
        let plugin = match &rejector {
            Rejector::Node((plugin, _)) => *plugin,
            Rejector::Follower(followed, _) => followed.plugin,
        };
        Some((plugin, rejector.status().into_owned()))
    }
}

impl Rejector<'_> {
    /// What is said of the node.
    fn status(&self) -> Cow<'_, Status> {
        match self {
            Rejector::Node((_, status)) => Cow::Borrowed(status),
            Rejector::Follower(followed, rejection) => Cow::Owned(followed.follower.status(*rejection)),
        }
    }
}

fn note(verdicts: &mut Vec<Verdict>, (plugin, status): (usize, Status), nodes: usize) {
    match verdicts.iter_mut().find(|known| known.plugin == plugin && known.status == status) {
        Some(known) => known.nodes += nodes,
        None => verdicts.push(Verdict { plugin, status, nodes }),
    }
}
