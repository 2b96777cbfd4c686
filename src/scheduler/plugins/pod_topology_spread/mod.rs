//! PodTopologySpread: pods that are alike are to be spread over zones, hosts, or whatever a label says is one place.
//!
//! - `constraint`: a constraint, compiled; those that a pod has, and those that hold for pods without any
//! - `filter`: constraints that must hold
//! - `score`: constraints that should hold
//! - `follow`: the same, kept up with the cluster for many pods of one class
//! - `hint`: what may make a rejected pod schedulable

mod constraint;
mod filter;
mod follow;
mod hint;
mod score;

use std::rc::Rc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use self::constraint::{Action, Constraint};
use self::filter::Filter;
use self::score::Score;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::arguments::Arguments;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, Follower, Plugin, Point, PreFilter, PreScore, Status, Validity};
use crate::scheduler::node_info::NodeInfo;

/// The plugin, with its arguments.
pub struct PodTopologySpread {
    /// Constraints for pods that have none.
    defaults: Vec<TopologySpreadConstraint>,
    /// True if these are the scheduler's own, which also hold on nodes without all of the labels.
    is_system: bool,
}

impl Default for PodTopologySpread {
    /// With the scheduler's own default constraints (`defaultingType: System`).
    fn default() -> Self {
        PodTopologySpread { defaults: constraint::system_defaults(), is_system: true }
    }
}

impl PodTopologySpread {
    /// The plugin with these arguments.
    pub fn new(arguments: &Arguments) -> Self {
        match arguments {
            Arguments::PodTopologySpread(arguments) if arguments.defaulting_type == "List" => {
                PodTopologySpread { defaults: arguments.default_constraints.clone(), is_system: false }
            }
            _ => PodTopologySpread::default(),
        }
    }

    /// The constraints for a pod that must, or should, hold.
    fn constraints(&self, pod: &Pod, action: Action, cluster: &Cluster) -> Result<Vec<Constraint>, String> {
        let own = own_constraints(pod);
        let what = if action == Action::DoNotSchedule { "hard" } else { "soft" };
        if !own.is_empty() {
            let compiled = constraint::compile(own, &pod.meta.labels, action);
            return compiled.map_err(|error| format!("obtaining pod's {what} topology spread constraints: {error}"));
        }
        let defaults = constraint::compile(&self.defaults, &pod.meta.labels, action)
            .map_err(|error| format!("setting default {what} topology spread constraints: {error}"))?;
        Ok(constraint::for_its_like(defaults, pod, cluster.objects()))
    }

    /// True if nodes without one of the labels are left alone when nodes are scored.
    fn requires_all_labels(&self, pod: &Pod) -> bool {
        !own_constraints(pod).is_empty() || !self.is_system
    }
}

fn own_constraints(pod: &Pod) -> &[TopologySpreadConstraint] {
    pod.spec.full.topology_spread_constraints.as_deref().unwrap_or_default()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn validity(&self, pod: &Pod) -> Validity {
        if own_constraints(pod).is_empty() && self.defaults.is_empty() { Validity::Node } else { Validity::Followed }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::AssignedPodAdd,
            ClusterEvent::PodLabel,
            ClusterEvent::PodToleration,
            ClusterEvent::AssignedPodDelete,
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeDelete,
            ClusterEvent::NodeLabel,
            ClusterEvent::NodeTaint,
        ])
    }

    /// The constraints are those that would be looked at now, the defaults included.
    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        cluster: &Cluster,
    ) -> Hint {
        let constraints = || self.constraints(pod, Action::DoNotSchedule, cluster);
        hint::hint(pod, constraints, old, new)
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("reading \"PreFilterPodTopologySpread\" from cycleState: not found"))
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        match self.constraints(pod, Action::DoNotSchedule, cluster) {
            Ok(constraints) if constraints.is_empty() => PreFilter::Skip,
            Ok(constraints) => PreFilter::all(Filter::new(constraints, pod, cluster)),
            Err(error) => {
                let reason = format!("get constraints from pod: {error}");
                PreFilter::Reject(Status { code: Code::Error, reasons: vec![reason.into()] })
            }
        }
    }

    fn unprepared_score(&self) -> Option<Name> {
        Some(Name::of("error reading \"PreScorePodTopologySpread\" from cycleState: not found"))
    }

    fn pre_score(&self, pod: &Pod, cluster: &Cluster, feasible: &[&NodeInfo]) -> PreScore {
        match self.constraints(pod, Action::ScheduleAnyway, cluster) {
            Ok(constraints) if !constraints.is_empty() && cluster.node_count() > 0 => {
                let requires_all = self.requires_all_labels(pod);
                PreScore::Score(Box::new(Score::new(constraints, requires_all, pod, cluster, feasible)))
            }
            Ok(_) => PreScore::Skip,
            Err(error) => PreScore::Fail(format!("calculating preScoreState: {error}").into()),
        }
    }

    fn follower(&self, pod: &Rc<Pod>, cluster: &Cluster) -> Option<Box<dyn Follower>> {
        let hard = self.constraints(pod, Action::DoNotSchedule, cluster).ok()?;
        let soft = self.constraints(pod, Action::ScheduleAnyway, cluster).ok()?;
        follow::follower(hard, soft, self.requires_all_labels(pod), pod, cluster)
    }
}
