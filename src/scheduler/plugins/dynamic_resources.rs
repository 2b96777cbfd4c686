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
        &[
            Point::PreEnqueue,
            Point::PreFilter,
            Point::Filter,
            Point::PostFilter,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        missing_claim(pod).map_or(Status::SUCCESS, Status::unresolvable)
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("not found"))
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

/// What is said of the first claim of a pod that keeps it waiting (`foreachPodResourceClaim`). A claim that is to be made from a
/// template has no name before the controller has made it; one that turned out not to be needed never gets one.
fn missing_claim(pod: &Pod) -> Option<String> {
    let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
    let not_found = |claim: &str| format!("could not find ResourceClaim \"{namespace}/{claim}\"");
    pod.spec.full.resource_claims.iter().flatten().find_map(|claim| match claim {
        PodResourceClaim { resource_claim_name: Some(named), .. } => Some(not_found(named)),
        PodResourceClaim { resource_claim_template_name: Some(_), name: own, .. } => {
            let mut made = pod.status.resource_claims.iter();
            match made.find(|(known, _)| known.as_str() == own) {
                Some((_, None)) => None,
                Some((_, Some(made))) => Some(not_found(made)),
                None => Some(format!("pod \"{namespace}/{name}\": ResourceClaim not created yet")),
            }
        }
        PodResourceClaim { name: own, .. } => Some(format!(
            "pod \"{namespace}/{name}\", spec.resourceClaim \"{own}\": none of the supported fields are set"
        )),
    })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::object::Object;
    use crate::scheduler::testing::pod_from;

    fn said(claims: Value, made: &[(&'static str, Option<&'static str>)]) -> Option<String> {
        let spec = json!({ "containers": [{ "name": "app", "image": "x" }], "resourceClaims": claims });
        let Object::Pod(mut pod) = pod_from("p", spec) else { panic!("not a pod") };
        let made = made.iter().map(|(claim, name)| (Name::of(claim), name.map(Name::of)));
        Rc::make_mut(&mut pod).status.resource_claims = made.collect();
        missing_claim(&pod)
    }

    #[test]
    fn the_first_claim_that_is_not_there_says_why_the_pod_waits() {
        let template = json!([{ "name": "gpu", "resourceClaimTemplateName": "gpus" }]);
        let named = json!([{ "name": "gpu", "resourceClaimName": "mine" }]);
        let waits = "pod \"default/p\": ResourceClaim not created yet";
        assert_eq!(said(template.clone(), &[]).as_deref(), Some(waits));
        assert_eq!(said(template.clone(), &[("nic", Some("p-nic-1"))]).as_deref(), Some(waits));
        let missing = "could not find ResourceClaim \"default/p-gpu-1\"";
        assert_eq!(said(template.clone(), &[("gpu", Some("p-gpu-1"))]).as_deref(), Some(missing));
        assert_eq!(said(template, &[("gpu", None)]), None);
        assert_eq!(said(named, &[]).as_deref(), Some("could not find ResourceClaim \"default/mine\""));
        let nothing = "pod \"default/p\", spec.resourceClaim \"gpu\": none of the supported fields are set";
        assert_eq!(said(json!([{ "name": "gpu" }]), &[]).as_deref(), Some(nothing));
    }
}
