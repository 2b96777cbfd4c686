//! A node that runs short of inodes.

use crate::api::pod::PodPhase;
use crate::api::pod::RestartPolicy::Always;
use crate::runtime::model::{ImageModel, StopModel, Usage};
use crate::runtime::span::{Span, Spread};

use super::harness::{World, container, spec};

use crate::engine::time::SimDuration;

fn writes(inodes: u64) -> ImageModel {
    ImageModel {
        inodes: vec![Usage { from: Span(SimDuration::from_secs(5)), amount: inodes }],
        stop: StopModel { takes: Spread::millis(100), code: 143, ..StopModel::default() },
        ..ImageModel::default()
    }
}

#[test]
fn who_has_most_files_is_evicted_when_a_node_runs_short_of_inodes() {
    let models = vec![("few", writes(3_000)), ("many", writes(93_000))];
    let mut world = World::new(models, |settings, _| settings.configuration.inodes = Some(100_000));
    world = world.with_images(&["few", "many"]);
    world.create("few", spec(Always, 30, vec![container("c", "few")]));
    world.create("many", spec(Always, 30, vec![container("c", "many")]));
    world.run(60_000);
    let status = &world.pod("many").status;
    assert_eq!((status.phase, status.why.reason()), (PodPhase::Failed, Some("Evicted")));
    let message = "The node was low on resource: inodes. Threshold quantity: 5000, available: 4k. ";
    assert_eq!(status.why.message(), Some(message));
    assert_eq!(world.pod("few").status.phase, PodPhase::Running);
    let event = "EVENT Warning EvictionThresholdMet: Attempting to reclaim inodes";
    assert_eq!(world.lines("kn1", &[event]).len(), 1);
    assert_eq!(world.lines("kn1", &["EVENT Normal NodeHasDiskPressure"]).len(), 1);
}

#[test]
fn enough_inodes_are_left_on_an_ordinary_disk() {
    let mut world = World::new(vec![("many", writes(93_000))], |_, _| {}).with_images(&["many"]);
    world.create("many", spec(Always, 30, vec![container("c", "many")]));
    world.run(60_000);
    assert_eq!(world.pod("many").status.phase, PodPhase::Running);
    assert_eq!(world.settings.configuration.counts(&world.settings.node.capacity).inodes, 6_553_600);
}
