//! DynamicResources, as far as pods without resource claims meet it: it has nothing to free for them, and says so.

use crate::api::name::Name;
use crate::engine::random::Stream;
use crate::scheduler::framework::{Failed, Plugin, Point, PostFilter, Status};

/// The plugin.
pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, _failed: &Failed<'_>, _chance: &mut Stream) -> PostFilter {
        let status = Status::unschedulable(Name::of("no new claims to deallocate"));
        PostFilter { status, ..PostFilter::default() }
    }
}
