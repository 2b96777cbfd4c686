//! PodTopologyLabels: when a pod is bound it gets the zone and region labels of its node
//! (kubernetes, plugin/pkg/admission/podtopologylabels; on by default since 1.35).

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::Node;

use super::Facts;

const COPIED: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// The labels that a pod gets when it is bound to this node; none if the cache does not know the node.
pub fn labels_of_node(node: &Name, facts: Facts<'_>) -> Labels {
    let Some(node) = facts.cached::<Node>(&Name::EMPTY, node) else { return Labels::NONE };
    let copied = COPIED.iter().filter_map(|key| Some((Name::of(key), node.meta.labels.get(key)?.clone())));
    copied.collect()
}
