//! Init containers and sidecars: recording k2q.

use std::rc::Rc;

use crate::api::pod::Container;
use crate::api::pod::Handler;
use crate::api::pod::RestartPolicy::{Always, Never, OnFailure};
use crate::runtime::model::{ExitModel, ImageModel, StopModel};
use crate::runtime::span::Spread;

use super::check::{check, check_first};
use super::harness::{World, container, init, probe, sidecar, spec};

const K2Q: &str = include_str!("../../../tests/golden/kubelet/k2q/kubelet-writes.txt");

/// Ends by itself after a time, with one code after another.
pub(super) fn ends(seconds: u64, codes: &[i32]) -> ImageModel {
    let exit = ExitModel {
        after: Spread::millis(seconds * 1000),
        codes: codes.to_vec(),
        out_of_memory: false,
        cpu_bound: false,
    };
    ImageModel { exit: Some(exit), ..ImageModel::default() }
}

fn stops(millis: u64) -> ImageModel {
    ImageModel { stop: StopModel { takes: Spread::millis(millis), ..StopModel::default() }, ..ImageModel::default() }
}

fn world() -> World {
    let models = vec![
        ("two-seconds", ends(2, &[0])),
        ("fails-once", ends(1, &[1, 0])),
        ("fails", ends(1, &[1])),
        ("six-seconds", ends(6, &[0])),
        ("crashes-after-5s", ends(5, &[1])),
        ("traps-1s", stops(1100)),
        ("traps-2s", stops(2100)),
        ("traps", stops(100)),
    ];
    let images: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    World::new(models, |_, _| {}).with_images(&images)
}

#[test]
fn init_containers_run_in_order_and_sidecars_stop_in_reverse() {
    let mut world = world();
    let test = Handler::Exec(Rc::from([String::from("test")]));
    let side1 = Container { startup: Some(probe(test, 2)), ..sidecar("side1", "traps-1s") };
    let containers = vec![
        init("i1", "two-seconds"),
        init("i2", "fails-once"),
        side1,
        sidecar("side2", "traps-1s"),
        container("main", "traps-2s"),
    ];
    world.create("inits", spec(OnFailure, 20, containers));
    world.run(15_000);
    world.delete("inits", 20);
    world.run(2_500);
    assert_eq!(world.runtime.running(), 2, "sidecars wait for the main container");
    world.run(1_000);
    assert_eq!(world.runtime.running(), 1, "and for the sidecar after them");
    world.run(5_000);
    assert!(!world.exists("inits"));
    assert!(check(&world, K2Q, "inits") <= 2);
}

#[test]
fn a_job_with_sidecars_succeeds_once_they_have_stopped() {
    let mut world = world();
    let containers = vec![sidecar("side1", "traps-1s"), sidecar("side2", "traps-1s"), container("main", "six-seconds")];
    world.create("jobside", spec(Never, 20, containers));
    world.run(20_000);
    assert!(check(&world, K2Q, "jobside") <= 4);
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let mut world = world();
    world.create("initfail", spec(Never, 30, vec![init("i1", "fails"), container("main", "six-seconds")]));
    world.run(10_000);
    assert_eq!(check(&world, K2Q, "initfail"), 0);
}

#[test]
fn a_sidecar_that_crashes_is_started_again_with_growing_pauses() {
    let mut world = world();
    let containers = vec![sidecar("side", "crashes-after-5s"), container("main", "traps")];
    world.create("sidecrash", spec(Always, 3, containers));
    world.run(40_000);
    assert!(check_first(&world, K2Q, "sidecrash", 9, 14) <= 2);
    let crashes = world.times("sidecrash", "init side[terminated");
    let restarts = world.times("sidecrash", "init side[running rc=");
    let pauses: Vec<u64> = crashes.iter().zip(&restarts[1..]).map(|(crash, restart)| restart - crash).collect();
    assert!(pauses[0] < 400, "the first restart is immediate: {pauses:?}");
    assert!((10_000..16_100).contains(&pauses[1]), "then after 10 s and jitter: {pauses:?}");
}
