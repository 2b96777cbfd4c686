//! Containers that end by themselves: recording k3.

use crate::api::pod::RestartPolicy::{Always, Never, OnFailure};
use crate::api::pod::{Container, ContainerState, PodPhase, PullPolicy};
use crate::runtime::model::{ExitModel, ImageModel, StopModel};
use crate::runtime::span::Spread;

use super::check::{check, check_first};
use super::harness::{World, container, spec};

const K3: &str = include_str!("../../../tests/golden/kubelet/k3/kubelet-writes.txt");

fn ends(millis: u64, code: i32) -> ImageModel {
    let exit = ExitModel { after: Spread::millis(millis), codes: vec![code], out_of_memory: false, cpu_bound: false };
    ImageModel { exit: Some(exit), ..ImageModel::default() }
}

fn world() -> World {
    let message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/no/such/binary\": stat /no/such/binary: no such file or directory: unknown";
    let no_command = ImageModel { start_error: Some(message.to_owned()), ..ImageModel::default() };
    let models = vec![
        ("crash", ends(300, 1)),
        ("crash5", ends(5_000, 2)),
        ("ok-3s", ends(3_000, 0)),
        ("ok-2s", ends(2_000, 0)),
        ("fail-2s", ends(2_000, 7)),
        ("fail-6s", ends(6_000, 4)),
        ("ten-minutes", ends(610_000, 1)),
        ("five-minutes", ends(320_000, 1)),
        ("no-command", no_command),
    ];
    let images: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
    World::new(models, |_, _| {}).with_images(&images)
}

#[test]
fn a_container_that_ends_for_good_ends_its_pod_in_two_writes() {
    let mut world = world();
    world.create("ok-onfailure", spec(OnFailure, 30, vec![container("c", "ok-2s")]));
    world.create("ok-never", spec(Never, 30, vec![container("c", "ok-2s")]));
    world.create("mixed-never", spec(Never, 2, vec![container("a", "ok-2s"), container("b", "fail-6s")]));
    world.create("fail-never", spec(Never, 30, vec![container("c", "fail-2s")]));
    world.run(20_000);
    for pod in ["ok-onfailure", "ok-never", "mixed-never"] {
        assert_eq!(
            check_first(&world, K3, pod, if pod == "ok-never" { 5 } else { usize::MAX }, usize::MAX),
            0,
            "{pod}"
        );
        let (last, terminal) = (world.times(pod, "PodCompleted"), world.times(pod, "phase=\"Succeeded\""));
        if let (Some(ended), Some(terminal)) = (last.last(), terminal.last()) {
            assert!((1000..1500).contains(&(terminal - ended)), "{pod}: phase {} ms later", terminal - ended);
        }
    }
    // Under load three of the recorded writes were one.
    assert_eq!(check(&world, K3, "fail-never"), 1);
    assert_eq!(world.pod("fail-never").status.phase, PodPhase::Failed);
    assert!(world.exists("ok-never"), "a finished pod stays until somebody deletes it");
}

#[test]
fn a_crash_loop_backs_off_as_recorded() {
    let mut world = world();
    for (pod, image) in [("crash", "crash"), ("crash5", "crash5"), ("ok-always", "ok-3s"), ("nocmd", "no-command")] {
        world.create(pod, spec(Always, 2, vec![container("c", image)]));
    }
    world.run(185_000);
    for pod in ["crash", "crash5", "ok-always"] {
        check_first(&world, K3, pod, 12, 12);
        let ends = world.times(pod, "cont c[terminated");
        let starts = world.times(pod, "cont c[running");
        let pauses: Vec<u64> = ends.iter().zip(&starts[1..]).map(|(end, start)| start - end).collect();
        // Back-off from the end of the container, jitter of up to half of it, and the ticks of exit and sync.
        for (pause, back_off) in pauses.iter().zip([0u64, 10_000, 20_000, 40_000]) {
            let low = back_off.saturating_sub(1_000);
            assert!((low..=back_off * 3 / 2 + 1_500).contains(pause), "{pod}: {pauses:?}");
        }
        assert!(pauses.len() >= 4, "{pod}: {pauses:?}");
    }
    check_first(&world, K3, "nocmd", 4, 5);
}

#[test]
fn restarts_of_all_pods_fall_on_the_same_fraction_of_a_second() {
    let mut world = world();
    for pod in ["a", "b", "c"] {
        world.create(pod, spec(Always, 2, vec![container("c", "crash5")]));
        world.run(137);
    }
    world.run(100_000);
    let mut fractions: Vec<u64> = ["a", "b", "c"]
        .iter()
        .flat_map(|pod| world.times(pod, "waiting:CrashLoopBackOff"))
        .map(|at| at % 1000)
        .collect();
    fractions.sort_unstable();
    assert!(fractions.len() >= 6, "{fractions:?}");
    assert!(fractions[fractions.len() - 1] - fractions[0] < 60, "{fractions:?}");
}

#[test]
fn a_long_run_resets_the_back_off_only_after_ten_minutes() {
    for (image, seconds, pause) in [("ten-minutes", 610, 0), ("five-minutes", 320, 20)] {
        let mut world = world();
        world.create("p", spec(Always, 2, vec![container("c", image)]));
        world.run(3 * (seconds + 30) * 1000);
        let ends = world.times("p", "cont c[terminated");
        let starts = world.times("p", "cont c[running");
        let pauses: Vec<u64> = ends.iter().zip(&starts[1..]).map(|(end, start)| (start - end) / 1000).collect();
        // The second crash comes with an entry of 10 s that is 610 s or 320 s old.
        let second = pauses[1];
        let expected = if pause == 0 { 0..=0 } else { 9..=16 };
        assert!(expected.contains(&second), "{image}: {pauses:?}");
    }
}

#[test]
fn a_pod_past_its_deadline_is_stopped_and_has_failed() {
    let deaf = ImageModel { stop: StopModel { ignores_term: true, ..StopModel::default() }, ..ImageModel::default() };
    let mut world = World::new(vec![("deaf", deaf)], |_, _| {}).with_images(&["deaf"]);
    let mut spec = spec(Never, 3, vec![container("c", "deaf")]);
    spec.full.active_deadline_seconds = Some(5);
    world.create("p", spec);
    world.run(20_000);
    let status = &world.pod("p").status;
    assert_eq!((status.phase, status.why.reason()), (PodPhase::Failed, Some("DeadlineExceeded")));
    assert!(matches!(&status.containers[0].state, ContainerState::Terminated(ended) if ended.exit_code == 137));
    assert_eq!(world.lines("p", &["EVENT Normal DeadlineExceeded"]).len(), 1);
}

#[test]
fn another_image_has_no_back_off_of_the_one_that_crashed() {
    let mut world = world();
    world.create("p", spec(Always, 2, vec![container("c", "crash")]));
    world.run(30_000);
    let before = world.times("p", "cont c[running").len();
    // The next start with this image comes more than 20 s after the last end.
    world.change("p", |pod| {
        let spec = std::rc::Rc::make_mut(&mut pod.spec);
        spec.containers[0].image = "crash5".into();
        pod.meta.generation += 1;
    });
    world.run(2_000);
    let starts = world.times("p", "cont c[running");
    assert_eq!(starts.len(), before + 1, "{:#?}", world.lines("p", &["PATCH"]));
}

#[test]
fn what_failed_otherwise_waits_for_the_back_off_of_the_container_beside_it() {
    let mut world = world();
    let never = Container { pull_policy: PullPolicy::Never, ..container("b", "not-there") };
    world.create("p", spec(Always, 2, vec![container("a", "crash"), never]));
    world.run(100_000);
    let tries = world.times("p", "is not present with pull policy of Never");
    // In the back-offs of 20 s and 40 s both are left alone for as long: the other would else be tried again after 10 to 15 s.
    let longest = tries.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest.is_some_and(|longest| longest > 19_000), "{tries:?}");
}
