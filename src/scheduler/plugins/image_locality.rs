//! ImageLocality: a node is better if it has the pod's images, the more so the larger and the more widespread they are.

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{MAX_SCORE, NodeScore, Plugin, Point, PreScore};
use crate::scheduler::node_info::{ImageOnNode, NodeInfo};

const MEBIBYTE: i64 = 1024 * 1024;

/// Fewer bytes than these do not count.
const LEAST: i64 = 23 * MEBIBYTE;

/// More bytes than these for each container do not count either.
const MOST_PER_CONTAINER: i64 = 1000 * MEBIBYTE;

/// The plugin.
pub struct ImageLocality;

struct Score {
    images: Vec<Name>,
    most: i64,
    node_count: usize,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    /// Image volumes count as images, but not as containers.
    fn pre_score(&self, pod: &Pod, cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let of_containers = pod.spec.containers.iter().map(|container| container.image.as_str());
        let volumes = pod.spec.full.volumes.iter().flatten();
        let of_volumes = volumes.filter_map(|volume| Some(volume.image.as_ref()?.reference.as_deref().unwrap_or("")));
        PreScore::Score(Box::new(Score {
            images: of_containers.chain(of_volumes).map(full_name).collect(),
            most: MOST_PER_CONTAINER * pod.spec.containers.len() as i64,
            node_count: cluster.node_count(),
        }))
    }
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        if node.images.is_empty() {
            return 0;
        }
        let images = self.images.iter().filter_map(|name| node.image(name));
        let sum = images.fold(0, |sum: i64, image| sum.wrapping_add(self.worth(image)));
        if self.most <= LEAST { 0 } else { MAX_SCORE * (sum.clamp(LEAST, self.most) - LEAST) / (self.most - LEAST) }
    }
}

impl Score {
    /// The size in proportion to the nodes that have the image, so that pods do not crowd where one image happens to be.
    fn worth(&self, image: &ImageOnNode) -> i64 {
        let spread = f64::from(image.nodes) / self.node_count as f64;
        (image.size_bytes as f64 * spread) as i64
    }
}

/// The name with a tag, as nodes report it.
fn full_name(image: &str) -> Name {
    if image.rfind(':') <= image.rfind('/') { format!("{image}:latest").into() } else { image.into() }
}
