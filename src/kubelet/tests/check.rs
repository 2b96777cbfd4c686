//! Holds what the kubelet wrote about a pod against a recording of a real one.

use super::harness::World;
use super::lines;

/// Compares all writes and events about a pod with a recording; see [`lines::check`].
pub fn check(world: &World, recording: &str, pod: &str) -> usize {
    lines::check(&world.api.lines, recording, pod)
}

/// The same for the first writes and the first events of a recording only.
pub fn check_first(world: &World, recording: &str, pod: &str, writes: usize, events: usize) -> usize {
    lines::check_first(&world.api.lines, recording, pod, writes, events)
}
