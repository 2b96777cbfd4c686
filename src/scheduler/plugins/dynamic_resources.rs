//! DynamicResources, as far as pods without resource claims meet it: it has nothing to free for them, and says so.

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{NodeCodes, Plugin, Point, PostFilter, Status};

/// The plugin.
pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, _pod: &Pod, _cluster: &Cluster, _nodes: &NodeCodes) -> PostFilter {
        PostFilter { status: Status::unschedulable(Name::of("no new claims to deallocate")), nominated_node: None }
    }
}
