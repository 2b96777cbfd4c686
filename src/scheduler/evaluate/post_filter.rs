//! What PostFilter does for a pod that fits no node: of preemption everything that it chooses among.

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::random::Seed;
use crate::scheduler::class::Compiled;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::codes::NodeCodes;
use crate::scheduler::filters::Filters;
use crate::scheduler::framework::{Code, Failed, Point, Status};
use crate::scheduler::plugins::default_preemption::DefaultPreemption;
use crate::scheduler::preemption::choice;
use crate::scheduler::preemption::dry_run::{Candidate, Preemptor, Refusal, Verdict};
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
    pub refused: Vec<(Name, Option<&'static str>, Status)>,
}

/// Asks all PostFilter plugins. One that helps ends the round, so does one that is sure that nothing will, and so does one that
/// fails; the reasons of the others are told together (kube-scheduler, `RunPostFilterPlugins`).
pub(super) fn run(profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster, codes: NodeCodes<'_>) -> Option<Preemption> {
    profile.at(Point::PostFilter).next()?;
    let compiled = Compiled::new(profile, pod, cluster);
    let mut failed = Failed { pod, filters: Filters::plain(&compiled), codes, cluster, was_asked: true };
    let mut preemption = Preemption {
        is_eligible: DefaultPreemption::ineligible(pod, cluster, &failed.codes).is_none(),
        code: Code::Unschedulable,
        message: String::new(),
        candidates: Vec::new(),
        best: Vec::new(),
        refused: Vec::new(),
    };
    let mut reasons: Vec<Name> = Vec::new();
    // What is drawn matters to nothing that is told.
    let mut chance = Seed(0).stream("evaluation", "post-filter");
    for (place, plugin, _) in profile.at(Point::PostFilter) {
        failed.was_asked = compiled.asked.contains(place) || !profile.is_asked(place, Point::PreFilter);
        let status = match DefaultPreemption::ineligible(pod, cluster, &failed.codes) {
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
        let preemptor = Preemptor::of(failed);
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for place in failed.codes.unschedulable_places() {
            match preemptor.look_at(place) {
                Verdict::Helps(candidate) => found.push(candidate),
                Verdict::DoesNot(refusal) => refused.push(refusal),
            }
        }
        let name = |place: usize| failed.cluster.at(place).name.clone();
        self.best = choice::best(&found).into_iter().map(|at| name(found[at].place)).collect();
        self.best.sort_unstable();
        self.candidates = found.into_iter().map(|candidate| (name(candidate.place), candidate)).collect();
        self.candidates.sort_by(|left, right| left.0.cmp(&right.0));
        let refusals = refused.iter().map(|refusal: &Refusal| {
            let plugin = refusal.plugin.map(|plugin| profile.plugin(plugin).name());
            (name(refusal.place), plugin, refusal.status.clone())
        });
        self.refused = refusals.collect();
        self.refused.sort_by(|left, right| left.0.cmp(&right.0));
        if !self.best.is_empty() {
            return Status::SUCCESS;
        }
        if let Some(failure) = DefaultPreemption::failure(&refused) {
            return failure;
        }
        Status::unschedulable(DefaultPreemption::message(
            &DefaultPreemption::counted(&refused),
            failed.cluster.node_count(),
        ))
    }
}
