//! PrioritySort: who goes first in the active queue.

use crate::api::pod::Pod;
use crate::scheduler::framework::{Plugin, Point};

/// The plugin: the higher priority first; of equal ones the queue takes the one that was added to it earlier.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }

    fn rank(&self, pod: &Pod) -> i64 {
        i64::from(pod.spec.priority)
    }
}
