//! A container that ends with a code for which its rules say `RestartAllContainers`: the whole pod begins again in place.

use k8s_openapi::api::core::v1 as core;

use crate::api::pod::RestartPolicy::{Always, Never};
use crate::api::pod::{ConditionStatus, PodConditionType, PodPhase, PodSpec};
use crate::kubelet::reset::RESTARTING;
use crate::runtime::model::ImageModel;

use super::harness::{World, container, init, sidecar, spec};
use super::init::ends;

/// A pod with an init container, a sidecar, a worker that ends with 88 once, and a bystander.
fn pod(policy: crate::api::pod::RestartPolicy) -> PodSpec {
    let containers = vec![
        init("prepare", "one-second"),
        sidecar("side", "runs"),
        container("work", "asks"),
        container("other", "runs"),
    ];
    let full = |name: &str| core::Container { name: name.to_owned(), ..core::Container::default() };
    let codes = core::ContainerRestartRuleOnExitCodes { operator: "In".to_owned(), values: Some(vec![88]) };
    let rule = core::ContainerRestartRule { action: "RestartAllContainers".to_owned(), exit_codes: Some(codes) };
    let mut spec = spec(policy, 30, containers);
    spec.full.init_containers =
        Some(vec![full("prepare"), core::Container { restart_policy: Some("Always".to_owned()), ..full("side") }]);
    let work = core::Container {
        restart_policy: Some("Never".to_owned()),
        restart_policy_rules: Some(vec![rule]),
        ..full("work")
    };
    spec.full.containers = vec![work, full("other")];
    spec
}

fn world(codes: &[i32]) -> World {
    let models = vec![("one-second", ends(1, &[0])), ("asks", ends(5, codes)), ("runs", ImageModel::default())];
    World::new(models, |_, _| {}).with_images(&["one-second", "asks", "runs"])
}

#[test]
fn all_containers_are_removed_and_the_pod_begins_with_its_init_containers_again() {
    for policy in [Always, Never] {
        let mut world = world(&[88, 0]);
        world.create("p", pod(policy));
        world.run(12_500);
        let ended = world.times("p", "work[terminated:Error(88)")[0];
        let began_again: Vec<u64> = world.times("p", "prepare[running rc=1");
        assert_eq!(began_again.len(), 1, "{:#?}", world.lines("p", &["PATCH"]));
        // The kill of what still runs, no back-off, and then the ordinary start.
        assert!(began_again[0] - ended < 4_000, "{ended} {began_again:?}");
        let status = &world.pod("p").status;
        assert_eq!(status.phase, PodPhase::Running);
        let counts: Vec<u32> =
            status.init_containers.iter().chain(status.containers.iter()).map(|one| one.restart_count).collect();
        assert_eq!(counts, [1, 1, 1, 1]);
        for one in status.init_containers.iter().chain(status.containers.iter()) {
            let last = one.last_state.as_ref().expect("it ran before");
            assert_eq!((last.reason.as_str(), last.exit_code), ("RestartingAllContainers", 137), "{}", one.name);
        }
        let kills = world.lines("p", &["EVENT Normal Killing"]);
        assert_eq!(kills, ["EVENT Normal Killing: killing", "EVENT Normal Killing: killing"]);
        assert!(world.lines("p", &["EVENT Warning BackOff"]).is_empty());
        let condition = status.condition(&RESTARTING).expect("the condition stays");
        assert_eq!((condition.status, condition.why.reason()), (ConditionStatus::False, None));
        assert_eq!(status.condition(&PodConditionType::Initialized).map(|one| one.status), Some(ConditionStatus::True));
        assert_eq!(world.times("p", "Initialized=False").len(), 1, "a pod that was initialized stays so");
    }
}

#[test]
fn a_code_for_which_there_is_no_rule_ends_the_container_alone() {
    let mut world = world(&[3]);
    world.create("p", pod(Never));
    world.run(20_000);
    let status = &world.pod("p").status;
    assert_eq!(status.phase, PodPhase::Running);
    assert_eq!(status.condition(&RESTARTING).map(|one| one.status), Some(ConditionStatus::False));
    let counts: Vec<u32> = status.containers.iter().map(|one| one.restart_count).collect();
    assert_eq!(counts, [0, 0]);
    assert!(world.lines("p", &["EVENT Normal Killing"]).is_empty());
}

#[test]
fn a_kubelet_that_dies_in_the_middle_finds_the_condition_and_goes_on() {
    for after in (7_000..8_500).step_by(150) {
        let mut world = world(&[88, 0]);
        world.create("p", pod(Never));
        world.run(after);
        world.stop_kubelet();
        world.run(500);
        world.start_kubelet();
        world.run(20_000);
        let status = &world.pod("p").status;
        assert_eq!(status.condition(&RESTARTING).map(|one| one.status), Some(ConditionStatus::False), "{after}");
        assert_eq!(status.phase, PodPhase::Running, "{after}");
        assert!(status.containers.iter().all(|one| one.restart_count == 1), "{after}: {:#?}", status.containers);
    }
}
