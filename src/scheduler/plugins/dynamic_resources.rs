//! DynamicResources, as far as there are no ResourceClaims: pods without claims pass it by, and those that name one wait for it.
//!
//! ResourceClaims are no kind of object here, so no claim that a pod names can be there, and none is freed for a pod that fits
//! nowhere.

use k8s_openapi::api::core::v1::PodResourceClaim;

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::random::Stream;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{
    Code, Failed, NodeScore, Normalization, Plugin, Point, PostFilter, PreFilter, PreScore, Status,
};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct DynamicResources;

struct NoDevices;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue, Point::PreFilter, Point::Filter, Point::PostFilter, Point::PreScore, Point::Score]
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        missing_claim(pod).map_or(Status::SUCCESS, Status::unresolvable)
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        missing_claim(pod).map_or(PreFilter::Skip, |reason| PreFilter::Reject(Status::unresolvable(reason)))
    }

    /// Nodes are scored by the devices that they would give; without claims that is nothing.
    fn pre_score(&self, _pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        PreScore::Score(Box::new(NoDevices))
    }

    /// What PreFilter would have left is missed if it was not asked, because another plugin was sure before that the pod fits
    /// nowhere.
    fn post_filter(&self, failed: &Failed<'_>, _chance: &mut Stream) -> PostFilter {
        if !failed.was_asked {
            let status = Status { code: Code::Error, reasons: vec![Name::of("not found")] };
            return PostFilter { status, ..PostFilter::default() };
        }
        let status = Status::unschedulable(Name::of("no new claims to deallocate"));
        PostFilter { status, ..PostFilter::default() }
    }
}

impl NodeScore for NoDevices {
    fn score(&self, _node: &NodeInfo) -> i64 {
        0
    }

    fn normalization(&self) -> Normalization {
        Normalization::Highest
    }
}

/// What is said of the first claim of a pod (`foreachPodResourceClaim`). One that is to be made from a template has no name
/// before the controller has made it.
fn missing_claim(pod: &Pod) -> Option<String> {
    let first = pod.spec.full.resource_claims.as_ref()?.first()?;
    Some(match first {
        PodResourceClaim { resource_claim_name: Some(name), .. } => format!("resourceclaim \"{name}\" not found"),
        PodResourceClaim { resource_claim_template_name: Some(_), .. } => {
            let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
            format!("pod \"{namespace}/{name}\": ResourceClaim not created yet")
        }
        PodResourceClaim { name, .. } => {
            let (namespace, pod) = (&pod.meta.namespace, &pod.meta.name);
            format!("pod \"{namespace}/{pod}\", spec.resourceClaim \"{name}\": unknown source")
        }
    })
}
