//! DefaultPreemption, as far as there is nothing to preempt: it says why not, in the words of the real one.
//!
//! Where a node has pods of a lower priority that might make room, this plugin says nothing, and nobody is preempted:
//! choosing victims is not simulated yet.

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::diagnosis::{Diagnosis, Verdict};
use crate::scheduler::framework::{Code, NodeCodes, Plugin, Point, PostFilter, Status};

const NOT_HELPFUL: Name = Name::of("Preemption is not helpful for scheduling");
const NO_VICTIMS: Name = Name::of("No preemption victims found for incoming pod");

/// The plugin.
pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, pod: &Pod, cluster: &Cluster, nodes: &NodeCodes) -> PostFilter {
        if pod.spec.full.preemption_policy.as_deref() == Some("Never") {
            let status = Status::unschedulable(Name::of("preemption: not eligible due to preemptionPolicy=Never."));
            return PostFilter { status, nominated_node: None };
        }
        let potential = || nodes.iter().enumerate().filter(|(_, code)| **code == Code::Unschedulable);
        let lower = |place: usize| cluster.at(place).lowest_priority().is_some_and(|lowest| lowest < pod.spec.priority);
        if potential().any(|(place, _)| lower(place)) {
            return PostFilter {
                status: Status { code: Code::Unschedulable, reasons: Vec::new() },
                nominated_node: None,
            };
        }
        let without_victims = potential().count();
        let verdict = |reason: Name, nodes: usize| Verdict { plugin: 0, status: Status::unresolvable(reason), nodes };
        let diagnosis = Diagnosis {
            node_count: nodes.len(),
            verdicts: vec![verdict(NO_VICTIMS, without_victims), verdict(NOT_HELPFUL, nodes.len() - without_victims)],
            ..Diagnosis::default()
        };
        let status = Status::unschedulable(format!("preemption: {}", diagnosis.message()));
        PostFilter { status, nominated_node: Some(Name::EMPTY) }
    }
}
