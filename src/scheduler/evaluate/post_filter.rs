//! What PostFilter does for a pod that fits no node: of preemption everything that it chooses among.

use std::rc::Rc;

use super::Said;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::random::Seed;
use crate::scheduler::class::Compiled;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Code, Failed, Point, Status};
use crate::scheduler::plugins::default_preemption::DefaultPreemption;
use crate::scheduler::preemption::choice;
use crate::scheduler::preemption::dry_run::{Candidate, Preemptor, Verdict};
use crate::scheduler::profile::Profile;

/// What PostFilter does.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Whether the pod may preempt others.
    pub is_eligible: bool,
    /// Success if a node is nominated.
    pub code: Code,
    /// What is said if none is.
    pub message: String,
    /// The nodes on which the pod would fit once its victims are gone, by name.
    pub candidates: Vec<(Name, Candidate)>,
    /// The candidates that no criterion tells apart from the best one, by name: one of them is nominated.
    pub best: Vec<Name>,
    /// What is said of nodes that come into question and on which preemption does not help, by name; with the plugin that still
    /// rejects them, if one does.
    pub refused: Vec<(Name, Option<Said>, Status)>,
}

/// Asks all PostFilter plugins. One that helps ends the round, so does one that is sure that nothing will, and so does one that
/// fails; the reasons of the others are told together (kube-scheduler, `RunPostFilterPlugins`).
pub(super) fn run(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster, codes: &[Code]) -> Option<Preemption> {
    profile.at(Point::PostFilter).next()?;
    let compiled = Compiled::new(profile, pod, cluster);
    let failed = Failed { pod, compiled: &compiled, codes, cluster, is_kept: false };
    let mut preemption = Preemption {
        is_eligible: DefaultPreemption::ineligible(pod, cluster, codes).is_none(),
        code: Code::Unschedulable,
        message: String::new(),
        candidates: Vec::new(),
        best: Vec::new(),
        refused: Vec::new(),
    };
    let mut reasons: Vec<Name> = Vec::new();
    // What is drawn matters to nothing that is told.
    let mut chance = Seed(0).stream("evaluation", "post-filter");
    for (_, plugin, _) in profile.at(Point::PostFilter) {
        let status = match DefaultPreemption::ineligible(pod, cluster, codes) {
            None if plugin.name() == "DefaultPreemption" => preemption.look_at_all(profile, &failed),
            _ => plugin.post_filter(&failed, &mut chance).status,
        };
        if matches!(status.code, Code::Unschedulable | Code::Pending) {
            reasons.extend(status.reasons);
            continue;
        }
        preemption.code = status.code;
        reasons = status.reasons;
        break;
    }
    preemption.message = reasons.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    Some(preemption)
}

impl Preemption {
    /// Looks at all nodes on which preemption may help, where the scheduler is content with some.
    fn look_at_all(&mut self, profile: &Profile, failed: &Failed<'_>) -> Status {
        let preemptor = Preemptor { pod: failed.pod, compiled: failed.compiled, cluster: failed.cluster };
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for place in DefaultPreemption::potential(failed.codes) {
            match preemptor.look_at(place) {
                Verdict::Helps(candidate) => found.push(candidate),
                Verdict::DoesNot(status) => {
                    let name = failed.cluster.at(place).name.clone();
                    self.refused.push((name, who_refuses(profile, failed, place), status.clone()));
                    refused.push((place, status));
                }
            }
        }
        self.refused.sort_by(|left, right| left.0.cmp(&right.0));
        let name = |place: usize| failed.cluster.at(place).name.clone();
        self.best = choice::best(&found).into_iter().map(|at| name(found[at].place)).collect();
        self.best.sort_unstable();
        self.candidates = found.into_iter().map(|candidate| (name(candidate.place), candidate)).collect();
        self.candidates.sort_by(|left, right| left.0.cmp(&right.0));
        if !self.best.is_empty() {
            return Status::SUCCESS;
        }
        Status::unschedulable(DefaultPreemption::message(&refused, failed.cluster.node_count()))
    }
}

/// The filter that still rejects a node when all less important pods are gone; none if there are none.
fn who_refuses(profile: &Profile, failed: &Failed<'_>, place: usize) -> Option<Said> {
    let mut node = failed.cluster.at(place).clone();
    let is_less = |pod: &&Rc<Pod>| pod.spec.priority < failed.pod.spec.priority;
    let gone: Vec<Rc<Pod>> = node.pods.iter().filter(is_less).cloned().collect();
    if gone.is_empty() {
        return None;
    }
    gone.iter().for_each(|pod| drop(node.remove(pod.meta.uid)));
    let who = (failed.pod.spec.priority, Some(failed.pod.meta.uid));
    let nominated = failed.cluster.nominated_at(place);
    let (plugin, status) = failed.compiled.filter_with_nominated(who, &node, nominated, &gone)?;
    Some(Said { plugin, name: profile.plugin(plugin).name(), status })
}
